"""The gateway's SQLite file: ledger and outbox in one commit, the visits and offers that survive a restart, signed downlinks."""

import asyncio
import re
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.contract.outcomes import beacon_row, offer_rows, receiver_row, uplink_rows
from gateway.core.model import CanaryMemory, ClockQuality, HealthTold, Memory, Step, Verdict
from gateway.io.store import health, ledger, outbox
from gateway.io.store.database import DatabaseThread, open_database
from gateway.io.store.outbox import OutboxRow, event_id
from gateway.io.store.schema import GATEWAY
from gateway.io.store.sqlite import Database

__all__ = ["OutboxRow", "Store", "event_id"]

_DAY_MS = 24 * 3600 * 1000
_KEEP_ROWS_DAYS = 30
_CACHE_KIB = 512
"""Pages in memory: most of what is written is appended, and what is read is in the system's own cache, too."""
_SLICE = 10
"""Outcomes between two chances for the event loop; each takes some 20 µs, and as much for each of its offers."""


class Store:
    """The daemon's view of its database; every method is one transaction."""

    def __init__(self, path: Path, *, quota_mib: int, boot_id: str) -> None:
        self._thread = DatabaseThread(path, lambda: open_database(path, GATEWAY, quota_mib=quota_mib, cache_kib=_CACHE_KIB))
        self._boot_id = boot_id
        self._in_order = asyncio.Lock()
        self.epoch = ""
        """16 hexadecimal digits, born with the file."""

    async def start(self) -> None:
        """Open; afterwards ``epoch`` is known."""
        await self._thread.start()
        self.epoch = await self._thread.run(_epoch)

    async def close(self) -> None:
        """Close the file."""
        await self._thread.close()

    # ---- decisions ------------------------------------------------------------------------------------------------------------

    async def commit(self, step: Step, *, quality: ClockQuality, wall_ms: int) -> None:
        """Ledger and outbox rows of one step together; on disk when this returns.

        Steps are kept in the order of the calls, of which several may wait: the next is decided while one is on its way to the
        disk. The rows are made here, in slices, and not in the database thread, which would get Python's lock late and keep it
        long.
        """
        async with self._in_order:
            kept = self._thread.submit(await self._kept(step, quality, wall_ms))
        await kept
        if step.forgotten:
            await self.scrub()

    async def _kept(self, step: Step, quality: ClockQuality, wall_ms: int) -> Callable[[Database], None]:
        """What writes the rows of one step."""
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
        health_events = [*(beacon_row(told) for told in step.beacons), *(receiver_row(change) for change in step.receivers)]
        waiting += outbox.to_rows(health_events, boot_id=self._boot_id, quality=quality)

        def work(db: Database) -> None:
            if rests:
                ledger.complete(db, step.rests, rests)
            if step.outcomes:
                ledger.record(db, step.outcomes, recorded)
            if health_events:
                health.tell(db, step.beacons, step.receivers)
            outbox.append(db, waiting)
            ledger.decide(db, [(verdict, wall_ms) for verdict in step.verdicts])
            if step.forgotten:
                outbox.erase(db, step.forgotten)
                ledger.erase(db, step.forgotten)

        return work

    async def scrub(self) -> None:
        """Let nothing of what has been erased stay in the write-ahead log, which keeps old pages until it is cut."""
        await self._thread.cut_log()

    async def decide(self, verdicts: Sequence[tuple[Verdict, int]]) -> None:
        """Central's answers to proposals, each with when it came (wall milliseconds)."""
        await self._thread.run(lambda db: ledger.decide(db, verdicts))

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

        await self._thread.run(work)

    # ---- beacons and receivers ------------------------------------------------------------------------------------------------

    async def keep_canaries(self, memory: CanaryMemory, *, batteries: bool) -> None:
        """Remember what is usual of beacons, in place of what was remembered before; of ``batteries`` only by a right clock."""
        await self._thread.run(lambda db: health.keep(db, memory, batteries=batteries))

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
        """Forget rows up to ``seq``; returns how many there were."""
        return await self._thread.run(lambda db: outbox.forget_up_to(db, seq))

    async def backlog(self) -> tuple[int, int | None]:
        """(rows waiting, wall milliseconds of the oldest)."""
        return await self._thread.look(outbox.backlog)

    # ---- signed downlinks -----------------------------------------------------------------------------------------------------

    async def keep_snapshot(self, name: str, version: int, payload: bytes) -> None:
        """Remember a verified downlink as it came."""
        await self._thread.run(
            lambda db: db.execute("INSERT OR REPLACE INTO snapshot VALUES (?, ?, ?)", [name, version, payload])
        )

    async def drop_snapshots(self, names: list[str]) -> None:
        """Forget downlinks that are out of force."""
        await self._thread.run(lambda db: db.conn.executemany("DELETE FROM snapshot WHERE name = ?", [[name] for name in names]))

    async def drop_snapshots_up_to(self, prefix: str, version: int) -> None:
        """Forget those whose name begins with ``prefix`` and whose version is not newer."""
        await self._thread.run(
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


def _epoch(db: Database) -> str:
    row = db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
    if row is None or not re.fullmatch("[0-9a-f]{16}", row[0]):
        raise sqlite3.DatabaseError("malformed: the epoch is damaged")
    return str(row[0])
