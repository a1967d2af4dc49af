"""Events on disk that central has not confirmed.

::

    committed ──▶ published ──▶ PUBACK ──▶ waiting for central ──▶ ack of this epoch ≥ number: deleted
        │             ▲                          │
        │             └─ overdue, new connection or new central
        └─ erased: a tombstone keeps the number ──▶ sent like any other row
"""

import logging
from collections.abc import Iterable
from typing import NamedTuple

from pydantic import ValidationError
from sqlite_utils import Database

from gateway.contract.messages import EVENT_TYPES, Tombstone, TombstoneData, UplinkEvent
from gateway.contract.outcomes import UplinkRow
from gateway.core.model import ClockQuality

log = logging.getLogger(__name__)


class OutboxRow(NamedTuple):
    """One numbered event as it waits."""

    seq: int
    type: str
    data: str
    wall_ms: int
    mono_ms: int
    boot_id: str
    quality: str

    def to_event(self, *, epoch: str, source: str, history: bool) -> UplinkEvent:
        """The message that carries this row; a tombstone where the disk has damaged it, because its number must arrive."""
        attributes = {"id": f"{epoch}-{self.seq}", "source": source, "epoch": epoch, "seq": self.seq}
        try:
            model = EVENT_TYPES[self.type]
            return model.model_validate(
                {
                    **attributes,
                    "time": self.wall_ms,
                    "bootid": self.boot_id,
                    "monotonicms": str(self.mono_ms),
                    "timequality": self.quality,
                    "history": True if history else None,
                    "data": model.model_fields["data"].annotation.model_validate_json(self.data),  # type: ignore[union-attr]
                }
            )
        except (KeyError, ValidationError):
            log.error("row %d of the outbox is damaged: a tombstone is sent for it", self.seq)  # noqa: TRY400 -- no traceback
            return Tombstone.model_validate(
                {
                    **attributes,
                    "time": 0,
                    "bootid": "unknown",
                    "monotonicms": "0",
                    "timequality": "unsynchronised",
                    "data": TombstoneData(reason="dropped"),
                }
            )


def append(db: Database, rows: Iterable[UplinkRow], *, boot_id: str, quality: ClockQuality) -> None:
    """Number and keep the events; part of the caller's transaction."""
    db.conn.executemany(
        "INSERT INTO outbox (type, data, wall_ms, mono_ms, boot_id, quality, shopper) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (row.type, row.data.model_dump_json(), row.at.wall_ms, row.at.mono_ms, boot_id, quality.value, row.shopper)
            for row in rows
        ],
    )


def read(db: Database, first: int, last: int, limit: int) -> list[OutboxRow]:
    """At most ``limit`` rows numbered ``first`` … ``last``, in order."""
    found = db.execute(
        "SELECT seq, type, data, wall_ms, mono_ms, boot_id, quality FROM outbox WHERE seq BETWEEN ? AND ? ORDER BY seq LIMIT ?",
        [first, last, limit],
    )
    return [OutboxRow(*row) for row in found.fetchall()]


def bounds(db: Database) -> tuple[int, int]:
    """(oldest number still kept or next to be given, newest number ever given)."""
    given = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").fetchone()
    newest = 0 if given is None else int(given[0])
    oldest = db.execute("SELECT min(seq) FROM outbox").fetchone()[0]
    return (newest + 1 if oldest is None else int(oldest)), newest


def forget_up_to(db: Database, seq: int) -> int:
    """Delete what central has stored; returns how many rows."""
    return int(db.execute("DELETE FROM outbox WHERE seq <= ?", [seq]).rowcount)


def erase(db: Database, shopper: str) -> int:
    """Turn a shopper's waiting events into tombstones; returns how many."""
    tombstone = TombstoneData(reason="erased").model_dump_json()
    return int(
        db.execute(
            "UPDATE outbox SET type = 'tombstone.v1', data = ?, shopper = NULL WHERE shopper = ?", [tombstone, shopper]
        ).rowcount
    )


def expire(db: Database, before_ms: int) -> None:
    """Retention holds for what waits, too: an older event becomes a tombstone, and with it goes the pseudonym."""
    tombstone = TombstoneData(reason="dropped").model_dump_json()
    db.execute(
        "UPDATE outbox SET type = 'tombstone.v1', data = ?, shopper = NULL WHERE shopper IS NOT NULL AND wall_ms < ?",
        [tombstone, before_ms],
    )


def backlog(db: Database) -> tuple[int, int | None]:
    """(rows waiting, wall milliseconds of the oldest)."""
    count, oldest = db.execute("SELECT count(*), min(wall_ms) FROM outbox").fetchone()
    return int(count), None if oldest is None else int(oldest)
