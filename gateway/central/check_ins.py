"""Check-ins: an app says that it has met a store's region, so its owner may come in at any moment.

Gateways tell of visits only with consent to analytics. Of whoever has consented to offers alone central would hear with the first
proposal, which is too late for a first one that asks what is known of her; a check-in is the app's own word, and comes before she
is at a shelf. It is no visit: it is kept for as long as a gateway keeps a context that nobody has needed, and never counted.
"""

from dataclasses import dataclass

from sqlite_utils import Database

from gateway.central import records
from gateway.core.contexts import KEEP_MS
from gateway.core.model import Consent


@dataclass(frozen=True, slots=True)
class Expected:
    """Somebody who may come into the store."""

    rid: str
    """Of the store's day."""
    is_told: bool
    """Whether the gateways have been told of her since she checked in."""


def check_in(db: Database, inbox: str, store: str, now_ms: int) -> bool:
    """Take an app's check-in: in the store's roster from now on, and expected there; False when the app is not enrolled.

    ``ConfigurationError`` when the store's roster is full.
    """
    if not records.is_enrolled(db, inbox):
        return False
    records.join(db, inbox, store)
    if records.consent_of(db, inbox) & Consent.OFFERS:
        db.execute("INSERT OR REPLACE INTO check_in VALUES (?, ?, ?, 0)", [store, inbox, now_ms])
    return True


def expected(db: Database, store: str, day: int, now_ms: int) -> list[Expected]:
    """Whoever has checked in lately, under the pseudonym of ``day``."""
    # From the few who have checked in to their pseudonyms, not the other way round.
    rows = db.execute(
        "SELECT rid, is_told FROM check_in CROSS JOIN pseudonym USING (inbox, store) WHERE check_in.store = ? AND day = ?"
        " AND at_ms > ? ORDER BY rid",
        [store, day, now_ms - KEEP_MS],
    )
    return [Expected(str(rid), bool(is_told)) for rid, is_told in rows.fetchall()]


def note_told(db: Database, store: str) -> None:
    """The gateways are told of all whom they have to expect now."""
    db.execute("UPDATE check_in SET is_told = 1 WHERE store = ? AND is_told = 0", [store])


def forget_old(db: Database, now_ms: int) -> None:
    """Whoever has not come by now was only passing by."""
    db.execute("DELETE FROM check_in WHERE at_ms <= ?", [now_ms - KEEP_MS])
