"""Events on disk that central has not confirmed.

::

    committed ──▶ published ──▶ PUBACK ──▶ waiting for central ──▶ ack of this epoch ≥ number: deleted
        │             ▲                          │
        │             └─ overdue, new connection or new central
        └─ erased: a tombstone keeps the number ──▶ sent like any other row
"""

import json
import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gateway.contract.fields import to_rfc3339
from gateway.contract.messages import EVENT_TYPES, Tombstone, TombstoneData
from gateway.contract.outcomes import UplinkRow
from gateway.core.model import ClockQuality
from gateway.io.store.database import insert
from gateway.io.store.sqlite import Database

log = logging.getLogger(__name__)

_HISTORY = '"history":true,'


class OutboxRow(NamedTuple):
    """One numbered event as it waits."""

    seq: int
    type: str
    data: str
    wall_ms: int
    mono_ms: int
    boot_id: str
    quality: str

    def to_json(self, *, epoch: str, source: str, history: bool) -> bytes:
        """The message that carries this row; a tombstone where the disk has damaged it, because its number must arrive.

        The data go out as they are kept, and the whole is read once as central will read it: building it anew from its parts
        would cost twice as much and say the same.
        """
        try:
            message = (
                f'{{"specversion":"1.0","id":"{event_id(epoch, self.seq)}","source":{json.dumps(source)},'
                f'"time":"{to_rfc3339(self.wall_ms)}","datacontenttype":"application/json","epoch":"{epoch}","seq":{self.seq},'
                f'"bootid":"{self.boot_id}","monotonicms":"{self.mono_ms}","timequality":"{self.quality}",'
                f'{_HISTORY if history else ""}"type":"{self.type}","data":{self.data}}}'
            ).encode()
            EVENT_TYPES[self.type].model_validate_json(message)
        except (KeyError, TypeError, ValueError, OverflowError):
            log.error("row %d of the outbox is damaged: a tombstone is sent for it", self.seq)  # noqa: TRY400 -- no traceback
            return self._tombstone(epoch, source).to_json()
        return message

    def _tombstone(self, epoch: str, source: str) -> Tombstone:
        return Tombstone.model_validate(
            {
                "id": event_id(epoch, self.seq),
                "source": source,
                "time": 0,
                "epoch": epoch,
                "seq": self.seq,
                "bootid": "unknown",
                "monotonicms": "0",
                "timequality": "unsynchronised",
                "data": TombstoneData(reason="dropped"),
            }
        )


def event_id(epoch: str, seq: int) -> str:
    """Names the event of this number for good."""
    return f"{epoch}-{seq}"


WaitingRow = tuple[str, str, int, int, str, str, str | None]
"""The columns of a row after its number, in their order."""


def to_rows(events: Iterable[UplinkRow], *, boot_id: str, quality: ClockQuality) -> list[WaitingRow]:
    """What the outbox keeps of events that have no number yet."""
    return [
        (
            one.type,
            one.data.model_dump_json(exclude_none=True),
            one.at.wall_ms,
            one.at.mono_ms,
            boot_id,
            quality.value,
            one.shopper,
        )
        for one in events
    ]


def append(db: Database, rows: Sequence[WaitingRow]) -> None:
    """Number and keep events; part of the caller's transaction."""
    insert(db, "INSERT INTO outbox (type, data, wall_ms, mono_ms, boot_id, quality, shopper)", rows)


def read(db: Database, first: int, last: int, limit: int) -> list[OutboxRow]:
    """At most ``limit`` rows numbered ``first`` … ``last``, in order."""
    # As one row, because each row of an answer is a step of its own (see ``insert``).
    found = db.execute(
        "SELECT json_group_array(json_array(seq, type, data, wall_ms, mono_ms, boot_id, quality)) FROM"
        " (SELECT * FROM outbox WHERE seq BETWEEN ? AND ? ORDER BY seq LIMIT ?)",
        [first, last, limit],
    ).fetchone()[0]
    return [OutboxRow(*row) for row in json.loads(found)]


def bounds(db: Database) -> tuple[int, int]:
    """(oldest number still kept or next to be given, newest number ever given)."""
    given = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").fetchone()
    newest = 0 if given is None else int(given[0])
    oldest = db.execute("SELECT min(seq) FROM outbox").fetchone()[0]
    return (newest + 1 if oldest is None else int(oldest)), newest


def forget_up_to(db: Database, seq: int) -> int:
    """Delete what central has stored; returns how many rows."""
    return int(db.execute("DELETE FROM outbox WHERE seq <= ?", [seq]).rowcount)


def erase(db: Database, shoppers: Sequence[str]) -> None:
    """Turn what waits of these shoppers into tombstones."""
    tombstone = TombstoneData(reason="erased").model_dump_json()
    db.execute(
        "UPDATE outbox SET type = 'tombstone.v1', data = ?, shopper = NULL WHERE shopper IN (SELECT value FROM json_each(?))",
        [tombstone, json.dumps(shoppers)],
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
