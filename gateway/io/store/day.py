"""One day of the ledger, read for a report: what happened, and which offers came of it. Nothing is changed."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from sqlite_utils import Database


@dataclass(frozen=True, slots=True)
class DayEvent:
    """An entry into a zone, or a dwell there."""

    visit: str
    shopper: str | None
    """Gone when the shopper has been erased."""
    zone: str
    entered: bool
    withheld: Counter[str]
    """How many promotions for each reason."""


@dataclass(frozen=True, slots=True)
class DayOffer:
    """A proposal and how it ended at the gateway."""

    offer: str
    promotion_id: str
    kind: str
    zone: str
    state: str
    """proposed, granted, refused or late."""
    reason: str


def events(db: Database, from_ms: int, until_ms: int) -> Iterator[DayEvent]:
    """Those of shoppers; a technician's test shopper is none."""
    rows = db.execute(
        "SELECT visit, shopper, zone, type, withheld, evidence FROM ledger"
        " WHERE wall_ms >= ? AND wall_ms < ? AND type IN ('zone.entered', 'zone.dwelled') ORDER BY id",
        [from_ms, until_ms],
    )
    for visit, shopper, zone, kind, withheld, evidence in rows:
        if not _is_test(evidence):
            yield DayEvent(visit, shopper, zone, kind == "zone.entered", Counter(json.loads(withheld)))


def offers(db: Database, from_ms: int, until_ms: int) -> Iterator[DayOffer]:
    """Those proposed to shoppers, in order."""
    rows = db.execute(
        "SELECT offer, promotion_id, kind, offer.zone, state, reason, evidence FROM offer JOIN ledger ON ledger.id = offer.ledger"
        " WHERE offer.wall_ms >= ? AND offer.wall_ms < ? ORDER BY offer.wall_ms, offer",
        [from_ms, until_ms],
    )
    for offer, promotion_id, kind, zone, state, reason, evidence in rows:
        if not _is_test(evidence):
            yield DayOffer(offer, promotion_id, kind, zone, state, reason)


def _is_test(evidence: str) -> bool:
    circumstances = json.loads(evidence).get("circumstances")
    return circumstances is not None and bool(circumstances["is_test"])
