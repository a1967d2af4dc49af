"""How long central keeps what: bounded, and of a person no longer than something needs it."""

from sqlite_utils import Database

from gateway.central import check_ins
from gateway.central.records import NAMELESS

_DAY_MS = 86_400_000
PSEUDONYM_DAYS = 7
"""Then an event or offer stays countable, and is nobody's."""
EVENT_DAYS = 30
OFFER_DAYS = 90
"""Offers and their receipts: mutes look back 60 days, weekly caps and attribution seven."""
VISIT_DAYS = 31
"""Of a shopper's visits only the newest is kept longer, because somebody may have been away for as long."""
RECEIPT_DAYS = 31
LONG_DAYS = 400
"""The newest visit, wishes, and what was bought, which ends a wish."""
ORDER_DAYS, OPEN_ORDER_DAYS = 30, 180
EVERY_MS = 60_000
_AT_ONCE = 500
"""Rows of a table in one transaction, so that no decision waits for long."""

_OLD: tuple[tuple[str, str, int], ...] = (
    (
        "event",
        """received_ms < ? AND EXISTS (SELECT 1 FROM stream WHERE stream.store = event.store
            AND stream.gateway = event.gateway AND stream.epoch = event.epoch AND contiguous >= seq)""",
        EVENT_DAYS,
    ),
    ("offer", "decided_ms < ?", OFFER_DAYS),
    ("receipt", "time_ms < ? AND offer NOT IN (SELECT offer FROM offer)", OFFER_DAYS),
    ("visit", "last_ms < ?", 2),
    (
        "visited",
        """last_ms < ? AND EXISTS (SELECT 1 FROM visited AS later WHERE later.inbox = visited.inbox
            AND later.last_ms > visited.last_ms)""",
        VISIT_DAYS,
    ),
    ("visited", "last_ms < ?", LONG_DAYS),
    ("till_receipt", "purchase_ms < ?", RECEIPT_DAYS),
    ("bought", "last_ms < ?", LONG_DAYS),
    ("wish", "changed_ms < ?", LONG_DAYS),
    ("web_order", "changed_ms < ? AND state IN ('collected', 'returned')", ORDER_DAYS),
    ("web_order", "changed_ms < ?", OPEN_ORDER_DAYS),
    ("piece", "until_ms < ?", 1),
    ("piece", "taken_ms < ? AND promotion_id NOT IN (SELECT promotion_id FROM promotion)", OFFER_DAYS),
)


def forget_old(db: Database, now_ms: int) -> bool:
    """A piece of what is due to be forgotten; True when there may be more."""
    more = False
    check_ins.forget_old(db, now_ms)
    for table, condition, days in _OLD:
        before_ms = now_ms - days * _DAY_MS
        rows = f"SELECT rowid FROM {table} WHERE {condition} LIMIT {_AT_ONCE}"  # noqa: S608
        count = db.execute(f"DELETE FROM {table} WHERE rowid IN ({rows})", [before_ms]).rowcount  # noqa: S608
        more |= count == _AT_ONCE
    before_ms = now_ms - PSEUDONYM_DAYS * _DAY_MS
    named = f"SELECT rowid FROM event WHERE shopper IS NOT NULL AND received_ms < ? LIMIT {_AT_ONCE}"  # noqa: S608
    more |= db.execute(f"UPDATE event SET {NAMELESS} WHERE rowid IN ({named})", [before_ms]).rowcount == _AT_ONCE  # noqa: S608
    named = f"SELECT rowid FROM offer WHERE rid <> '' AND decided_ms < ? LIMIT {_AT_ONCE}"  # noqa: S608
    more |= db.execute(f"UPDATE offer SET rid = '' WHERE rowid IN ({named})", [before_ms]).rowcount == _AT_ONCE  # noqa: S608
    return more
