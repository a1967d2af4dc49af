"""The gateway's SQLite file: ledger and outbox in one commit, the visits and offers that survive a restart, signed downlinks."""

import asyncio
import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from gateway.contract.outcomes import UplinkRow, beacon_row, offer_rows, receiver_row, uplink_rows
from gateway.core.model import (
    BeaconChange,
    CanaryMemory,
    ClockQuality,
    HealthTold,
    Instant,
    Memory,
    ReceiverChange,
    Step,
    Verdict,
)
from gateway.io.store import gaps, health, ledger, outbox
from gateway.io.store.database import PAGE_BYTES, DatabaseThread, open_database
from gateway.io.store.gaps import Gap
from gateway.io.store.outbox import OutboxRow, event_id
from gateway.io.store.room import AFTERWARDS, BALLAST_BYTES, SENTENCES, Ballast, NoRoom
from gateway.io.store.schema import GATEWAY
from gateway.io.store.shortage import Shortage, Work, sentence
from gateway.io.store.sqlite import Database

__all__ = ["AFTERWARDS", "BALLAST_BYTES", "SENTENCES", "Gap", "NoRoom", "OutboxRow", "Store", "event_id", "sentence"]

T = TypeVar("T")

_DAY_MS = 24 * 3600 * 1000
_KEEP_ROWS_DAYS = 30
_SPARE_BYTES = 512 * 1024
"""Of the quota, or a twentieth of it if that is less: with less unused a gap is not over."""
_CACHE_KIB = 512
"""Pages in memory: most of what is written is appended, and what is read is in the system's own cache, too."""
_SLICE = 50
"""Outcomes between two chances for the event loop; each takes some 20 µs, and half as much for each of its offers."""


class Store:
    """The daemon's view of its database; every method is one transaction.

    Where there is no room, events are counted and lost, and everything else that is to be written waits (``shortage``): until
    ``catch_up`` finds room the methods return as if it were done. Any other failure of the disk is a ``DiskError``.
    """

    def __init__(self, path: Path, *, quota_mib: int, boot_id: str, ballast_bytes: int = 0) -> None:
        """``ballast_bytes``: room to hold ready for what is most urgent (``BALLAST_BYTES``)."""
        self._ballast = Ballast(path, ballast_bytes)
        self._thread = DatabaseThread(
            path, lambda: open_database(path, GATEWAY, quota_mib=quota_mib, cache_kib=_CACHE_KIB), self._ballast
        )
        self._path = path
        self._quota_mib = quota_mib
        self.shortage = Shortage()
        """What waits and what is missing, while the disk takes nothing."""
        self.last_gap: Gap | None = None
        """The newest that is over."""
        self._boot_id = boot_id
        self._in_order = asyncio.Lock()
        self.epoch = ""
        """16 hexadecimal digits, born with the file."""

    async def start(self) -> None:
        """Open; afterwards ``epoch`` is known."""
        await self._thread.start()
        self.epoch = await self._thread.run(_epoch)
        self.last_gap = await self._thread.look(gaps.newest)
        # What is missing from the last process is told by this one.
        self.shortage.gap = self.shortage.noted = await self._thread.look(gaps.unfinished)

    async def close(self) -> None:
        """Close the file."""
        await self._thread.close()

    # ---- decisions ------------------------------------------------------------------------------------------------------------

    async def commit(self, step: Step, *, quality: ClockQuality, wall_ms: int) -> bool:
        """Ledger and outbox rows of one step together; on disk when this returns True. False: its events are lost and counted."""
        return await (await self.submit(step, quality=quality, wall_ms=wall_ms))()

    async def submit(self, step: Step, *, quality: ClockQuality, wall_ms: int) -> Callable[[], Awaitable[bool]]:
        """The same for whoever does something else meanwhile; what this returns gives the answer.

        Steps are kept in the order of the calls, of which several may wait: the next is decided while one is on its way to the
        disk. The rows are made here and not in the database thread, which would get Python's lock late and keep it long; at once
        for a step of usual size, because somebody waits for it, and for a large one in slices.
        """
        async with self._in_order:
            work, events = await self._kept(step, quality, wall_ms)
            written = self._thread.submit_urgently(work)
        written.add_done_callback(_heed)
        return partial(self._on_disk, written, step, events, wall_ms)

    async def _on_disk(self, written: Awaitable[None], step: Step, events: int, wall_ms: int) -> bool:
        try:
            await written
        except NoRoom as error:
            self._refused(step, events, wall_ms, error)
            return False
        if step.forgotten:
            await self.scrub()
        return True

    def _refused(self, step: Step, events: int, wall_ms: int, error: NoRoom) -> None:
        shortage = self.shortage
        shortage.refused(error)
        shortage.lost(events + shortage.owe_health(step.beacons, step.receivers), wall_ms, error)
        if step.verdicts:
            verdicts = [(verdict, wall_ms) for verdict in step.verdicts]
            shortage.owe(lambda db: ledger.decide(db, verdicts), error)
        if step.forgotten:
            forgotten = step.forgotten
            shortage.owe(lambda db: _erase(db, forgotten), error)

    def _check_room(self, db: Database, more_bytes: int = 0) -> None:
        """``NoRoom`` where what is left, after ``more_bytes``, has to be left for what is most urgent."""
        # Asked first, because a file that is there costs no call to the system.
        if not self._ballast.is_in_place and not self._ballast.leaves_room(_unused_bytes(db) - more_bytes):
            raise NoRoom("full", where=self._path)

    def _check_room_for_good(self, db: Database, told: int) -> None:
        """The same for the end of a gap: what comes next has to fit, too, or there would be one gap after the other."""
        more_bytes = gaps.bytes_to_tell(told)
        self._check_room(db, more_bytes)
        (most,), (pages,) = (db.execute(f"PRAGMA {name}").fetchone() for name in ("max_page_count", "page_count"))
        spare_bytes = min(_SPARE_BYTES, most * PAGE_BYTES // 20)
        if _unused_bytes(db) + (most - pages) * PAGE_BYTES < more_bytes + spare_bytes:
            raise NoRoom("quota", where=self._path)

    async def catch_up(self, now: Instant, quality: ClockQuality) -> bool:
        """Where something was refused, try it again; to be called about once a second. Returns whether events were added.

        First the most urgent, which may use the room that is held ready; then the rest, and the gap is told to central.
        """
        shortage = self.shortage
        if shortage.is_over:
            await self._thread.load_ballast()
            return False
        try:
            await self._pay()
            gap, changes, downlinks = shortage.gap, shortage.health, tuple(shortage.downlinks)
            told = 0 if gap is None else gaps.to_tell(gap, self._quota_mib)
            rows = outbox.to_rows(_health_rows(*changes), boot_id=self._boot_id, quality=quality)

            def work(db: Database) -> int | None:
                self._check_room_for_good(db, told)
                for change in downlinks:
                    change(db)
                if rows:
                    health.tell(db, *changes)
                outbox.append(db, rows)
                # Also where nothing waits it has to be seen whether the disk takes something.
                db.execute("UPDATE meta SET value = value WHERE key = 'epoch'")
                return None if gap is None else gaps.close(db, gap, told, boot_id=self._boot_id, quality=quality, now=now)

            number = await self._thread.run(work)
        except NoRoom as error:
            shortage.refused(error)
            await self._note_gap()
            return False
        shortage.wrote(0, len(downlinks), *changes)
        if gap is not None:
            self.last_gap = gap._replace(number=number, is_over=True)
        shortage.closed(gap)
        return True

    async def _pay(self) -> None:
        urgent = tuple(self.shortage.urgent)
        if not urgent:
            return

        def work(db: Database) -> None:
            for owed in urgent:
                owed(db)

        await self._thread.run(work)
        # Some of them may have erased somebody. If it fails all are done again, which changes nothing.
        await self._thread.cut_log()
        self.shortage.wrote(len(urgent), 0, (), ())

    async def _note_gap(self) -> None:
        gap = self.shortage.gap
        if gap is None or gap == self.shortage.noted:
            return
        try:
            number = await self._thread.run(lambda db: gaps.note(db, gap))
        except NoRoom:
            # It is tried again as often as the rest; what is missing is told by the log and the status meanwhile.
            return
        self.shortage.noted = gap._replace(number=number)
        if self.shortage.gap is not None:
            self.shortage.gap = self.shortage.gap._replace(number=number)

    async def _urgently(self, work: Callable[[Database], T]) -> T | None:
        """Now, or as soon as there is room: then ``None``."""
        shortage = self.shortage
        if shortage.urgent:
            # What waits comes first.
            shortage.owe(work, shortage.trouble or NoRoom("full", where=self._path))
            return None
        try:
            return await self._thread.run(work)
        except NoRoom as error:
            shortage.refused(error)
            shortage.owe(work, error)
            return None

    async def _change_snapshots(self, work: Work, size_bytes: int = 0) -> None:
        """The same for what is remembered of downlinks, of which only what takes ``size_bytes`` needs room."""
        if self.shortage.downlinks:
            self.shortage.owe_downlink(work, size_bytes, self.shortage.trouble or NoRoom("full", where=self._path))
            return

        def checked(db: Database) -> None:
            if size_bytes:
                self._check_room(db)
            work(db)

        try:
            await self._thread.run(checked)
        except NoRoom as error:
            self.shortage.refused(error)
            self.shortage.owe_downlink(work, size_bytes, error)

    async def _kept(self, step: Step, quality: ClockQuality, wall_ms: int) -> tuple[Callable[[Database], None], int]:
        """What writes the rows of one step, and how many events it has, beacons' and receivers' left out."""
        recorded: list[ledger.LedgerRow] = []
        rests = [ledger.to_row(rest) for rest in step.rests]
        more_offers = [row for rest in step.rests for row in offer_rows(rest)]
        waiting = outbox.to_rows(more_offers, boot_id=self._boot_id, quality=quality)
        for first in range(0, len(step.outcomes), _SLICE):
            if first:
                await asyncio.sleep(0)
            some = step.outcomes[first : first + _SLICE]
            recorded += [ledger.to_row(outcome) for outcome in some]
            events = [row for outcome in some for row in uplink_rows(outcome)]
            waiting += outbox.to_rows(events, boot_id=self._boot_id, quality=quality)
        events_of_shoppers = len(waiting)
        health_events = _health_rows(step.beacons, step.receivers)
        waiting += outbox.to_rows(health_events, boot_id=self._boot_id, quality=quality)

        def work(db: Database) -> None:
            if waiting:
                self._check_room(db)
            if rests:
                ledger.complete(db, step.rests, rests)
            if step.outcomes:
                ledger.record(db, step.outcomes, recorded)
            if health_events:
                health.tell(db, step.beacons, step.receivers)
            outbox.append(db, waiting)
            ledger.decide(db, [(verdict, wall_ms) for verdict in step.verdicts])
            if step.forgotten:
                _erase(db, step.forgotten)

        return work, events_of_shoppers

    def rest(self) -> None:
        """Nobody waits for anything now: do what would make somebody wait later."""
        self._thread.shorten_log()

    async def scrub(self) -> None:
        """Let nothing of what has been erased stay in the write-ahead log, which keeps old pages until it is cut."""
        try:
            await self._thread.cut_log()
        except NoRoom as error:
            self.shortage.refused(error)
            # The log is cut after whatever is urgent.
            self.shortage.owe(_nothing, error)

    async def decide(self, verdicts: Sequence[tuple[Verdict, int]]) -> None:
        """Central's answers to proposals, each with when it came (wall milliseconds)."""
        await self._urgently(lambda db: ledger.decide(db, verdicts))

    async def recall(self, wall_ms: int, day_start_ms: int = 0) -> Memory:
        """Visits and offers as they were when the last process ended; ``day_start_ms``: of the store, after midnight UTC."""

        def work(db: Database) -> Memory:
            alive = db.execute("SELECT value FROM meta WHERE key = 'alive_wall_ms'").fetchone()
            alive_ms = int(alive[0]) if alive is not None and alive[0].isdecimal() else None
            return ledger.recall(db, alive_ms, wall_ms, day_start_ms)

        return await self._thread.run(work)

    async def note_alive(self, wall_ms: int, keep_ledger_days: int) -> None:
        """Once a minute: the last good time, and retention."""

        def work(db: Database) -> None:
            db.execute("INSERT OR REPLACE INTO meta VALUES ('alive_wall_ms', ?)", [str(wall_ms)])
            pseudonyms_before_ms = wall_ms - keep_ledger_days * _DAY_MS
            outbox.expire(db, pseudonyms_before_ms)
            ledger.expire(db, pseudonyms_before_ms=pseudonyms_before_ms, rows_before_ms=wall_ms - _KEEP_ROWS_DAYS * _DAY_MS)

        await self._if_there_is_room(work)

    async def _if_there_is_room(self, work: Work) -> None:
        """What the same call a minute or an hour later makes up for."""
        try:
            await self._thread.run(work)
        except NoRoom as error:
            self.shortage.refused(error)

    # ---- beacons and receivers ------------------------------------------------------------------------------------------------

    async def keep_canaries(self, memory: CanaryMemory, *, batteries: bool) -> None:
        """Remember what is usual of beacons, in place of what was remembered before; of ``batteries`` only by a right clock."""
        await self._if_there_is_room(lambda db: health.keep(db, memory, batteries=batteries))

    async def recall_health(self) -> tuple[CanaryMemory, tuple[HealthTold, ...]]:
        """What is usual of beacons, and what was told of beacons and receivers."""
        return await self._thread.run(health.recall)

    # ---- outbox ---------------------------------------------------------------------------------------------------------------

    async def outbox_rows(self, first: int, last: int, limit: int) -> list[OutboxRow]:
        """At most ``limit`` waiting rows numbered ``first`` … ``last``."""
        return await self._thread.look(lambda db: outbox.read(db, first, last, limit))

    async def outbox_bounds(self) -> tuple[int, int]:
        """(oldest number kept or next to be given, newest number given)."""
        return await self._thread.look(outbox.bounds)

    async def acknowledged(self, seq: int) -> int:
        """Forget rows up to ``seq``; returns how many there were, as far as that was possible at once."""
        return await self._urgently(lambda db: outbox.forget_up_to(db, seq)) or 0

    async def backlog(self) -> tuple[int, int | None]:
        """(rows waiting, wall milliseconds of the oldest)."""
        return await self._thread.look(outbox.backlog)

    # ---- signed downlinks -----------------------------------------------------------------------------------------------------

    async def keep_snapshot(self, name: str, version: int, payload: bytes) -> None:
        """Remember a verified downlink as it came."""
        await self._change_snapshots(
            lambda db: db.execute("INSERT OR REPLACE INTO snapshot VALUES (?, ?, ?)", [name, version, payload]), len(payload)
        )

    async def drop_snapshots(self, names: list[str]) -> None:
        """Forget downlinks that are out of force."""
        gone = [[name] for name in names]
        await self._change_snapshots(lambda db: db.conn.executemany("DELETE FROM snapshot WHERE name = ?", gone))

    async def drop_snapshots_up_to(self, prefix: str, version: int) -> None:
        """Forget those whose name begins with ``prefix`` and whose version is not newer."""
        await self._change_snapshots(
            lambda db: db.execute(
                "DELETE FROM snapshot WHERE substr(name, 1, length(?)) = ? AND version <= ?", [prefix, prefix, version]
            )
        )

    async def snapshot_names(self) -> list[str]:
        """The names of all remembered downlinks."""
        return await self._thread.run(lambda db: [name for (name,) in db.execute("SELECT name FROM snapshot").fetchall()])

    async def snapshots(self, only: str | None = None) -> list[tuple[str, bytes]]:
        """All remembered downlinks, by name, or the one of this name."""
        return await self._thread.run(
            lambda db: list(
                db.execute("SELECT name, payload FROM snapshot WHERE ?1 IS NULL OR name = ?1 ORDER BY name", [only]).fetchall()
            )
        )


def _health_rows(beacons: Iterable[BeaconChange], receivers: Iterable[ReceiverChange]) -> list[UplinkRow]:
    return [*(beacon_row(told) for told in beacons), *(receiver_row(change) for change in receivers)]


def _erase(db: Database, shoppers: Sequence[str]) -> None:
    outbox.erase(db, shoppers)
    ledger.erase(db, shoppers)


def _unused_bytes(db: Database) -> int:
    return int(db.execute("PRAGMA freelist_count").fetchone()[0]) * PAGE_BYTES


def _nothing(_: Database) -> None:
    pass


def _heed(written: asyncio.Future[None]) -> None:
    """Whoever waited may have been cancelled: then nobody else asks how it ended, which asyncio would complain of."""
    if not written.cancelled():
        written.exception()


def _epoch(db: Database) -> str:
    row = db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
    if row is None or not re.fullmatch("[0-9a-f]{16}", row[0]):
        raise sqlite3.DatabaseError("malformed: the epoch is damaged")
    return str(row[0])
