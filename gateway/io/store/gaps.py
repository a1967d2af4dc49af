"""What could not be kept because there was no room: from when to when, how many events, and why.

A gap is in the database as soon as that can be written at all, and again whenever it has grown. When there is room again it is
closed: each event that is gone gets a number and goes to central as a tombstone, because that is what stands for an event that
was given up. The first tombstone has the time at which the gap began, the others the time at which it ended.
"""

from typing import NamedTuple, cast

from gateway.contract.messages import TombstoneData
from gateway.core.model import ClockQuality, Instant
from gateway.io.store import outbox
from gateway.io.store.room import CAUSES, Cause
from gateway.io.store.sqlite import Database

_MOST_TOMBSTONES = 10_000
"""For one gap: they take 1 MB then, of a disk that was full a moment ago, and central as long as a morning's events."""
_TOMBSTONE_BYTES = 160
"""What one takes in the database, roughly."""
_KEPT = 1000
"""Closed gaps; a disk that is full again and again would make ever more of them."""


class Gap(NamedTuple):
    """Wall milliseconds of the first and the last event that is gone."""

    from_wall_ms: int
    until_wall_ms: int
    events: int
    cause: Cause
    number: int | None = None
    """In the database, once it is there."""
    is_over: bool = False

    def with_more(self, events: int, wall_ms: int) -> "Gap":
        """So many more at this time; a clock that was set back does not turn it around."""
        first, last = min(self.from_wall_ms, wall_ms), max(self.until_wall_ms, wall_ms)
        return self._replace(from_wall_ms=first, until_wall_ms=last, events=self.events + events)


def note(db: Database, gap: Gap, *, is_over: bool = False) -> int:
    """Write it, or write it anew; returns its number."""
    columns = [gap.from_wall_ms, gap.until_wall_ms, gap.events, gap.cause, int(is_over)]
    if gap.number is None:
        row = db.execute("INSERT INTO gap (from_wall_ms, until_wall_ms, events, cause, is_over) VALUES (?, ?, ?, ?, ?)", columns)
        assert row.lastrowid is not None
        return row.lastrowid
    db.execute(
        "UPDATE gap SET from_wall_ms = ?, until_wall_ms = ?, events = ?, cause = ?, is_over = ? WHERE id = ?",
        [*columns, gap.number],
    )
    return gap.number


def close(db: Database, gap: Gap, told: int, *, boot_id: str, quality: ClockQuality, now: Instant) -> int:
    """It is over: tell central of so many (``to_tell``); returns its number. Part of the caller's transaction."""
    number = note(db, gap, is_over=True)
    data = TombstoneData(reason="dropped").model_dump_json()
    times = [gap.from_wall_ms] + [gap.until_wall_ms] * (told - 1)
    outbox.append(db, [("tombstone.v1", data, wall_ms, now.mono_ms, boot_id, quality.value, None) for wall_ms in times])
    db.execute("DELETE FROM gap WHERE is_over AND id <= ? - ?", [number, _KEPT])
    return number


def to_tell(gap: Gap, quota_mib: int) -> int:
    """How many of its events central is told of: all but of the largest, or where an eighth of the quota is less."""
    return min(gap.events, _MOST_TOMBSTONES, quota_mib * 1024 * 1024 // 8 // _TOMBSTONE_BYTES)


def bytes_to_tell(told: int) -> int:
    """What that takes."""
    return told * _TOMBSTONE_BYTES


def unfinished(db: Database) -> Gap | None:
    """The one that the last process could not close."""
    return _newest(db, "NOT is_over")


def newest(db: Database) -> Gap | None:
    """The last one; ``None`` where there never was one, also in a database of a version that knew none."""
    known = db.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'gap'").fetchone()
    return None if known is None else _newest(db, "true")


def _newest(db: Database, which: str) -> Gap | None:
    row = db.execute(
        f"SELECT from_wall_ms, until_wall_ms, events, cause, id, is_over FROM gap WHERE {which} ORDER BY id DESC LIMIT 1"  # noqa: S608
    ).fetchone()
    if row is None:
        return None
    cause = cast(Cause, row[3]) if row[3] in CAUSES else "failed"
    return Gap(row[0], row[1], row[2], cause, row[4], bool(row[5]))
