"""One day of the ledger, read for a report: what happened, and which offers came of it. Nothing is changed."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from gateway.core.model import Circumstances, Consent
from gateway.io.store.explanations import ledger_rows
from gateway.io.store.sqlite import Database


@dataclass(frozen=True, slots=True)
class DayEvent:
    """An entry into a zone, a dwell there, or an exit."""

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
    push: bool
    """False: a card, or on the silent shelf."""


@dataclass(frozen=True, slots=True)
class DayStay:
    """A shopper's stay in a zone, as far as promotions ask for it."""

    visit: str
    shopper: str
    zone: str
    entered_ms: int
    """Wall milliseconds."""
    stayed_ms: int | None
    """Absent: its end is not known."""
    is_first: bool
    """With it the visit began."""
    consent: Consent
    circumstances: Circumstances


def stays(db: Database, from_ms: int, until_ms: int) -> list[DayStay]:
    """Those that began in that time, in order; without test shoppers and whoever has been erased since."""
    found: list[DayStay] = []
    here: dict[tuple[str, str], int] = {}
    """By visit and zone, which of ``found`` goes on."""
    for row in ledger_rows(db, ("zone.entered", "zone.exited"), from_ms, until_ms + _LONGEST_STAY_MS):
        consent, circumstances = row.consent, row.circumstances
        if row.shopper is None or row.zone is None:
            continue
        if row.type == "zone.exited":
            index = here.pop((row.visit, row.zone), None)
            if index is not None:
                found[index] = replace(found[index], stayed_ms=int(row.evidence["stayed_ms"]))
            continue
        if row.wall_ms >= until_ms or consent is None or circumstances is None or circumstances.is_test:
            continue
        here[row.visit, row.zone] = len(found)
        is_first = bool(row.evidence.get("first", False))
        found.append(DayStay(row.visit, row.shopper, row.zone, row.wall_ms, None, is_first, consent, circumstances))
    return found


_LONGEST_STAY_MS = 12 * 3_600_000


def events(db: Database, from_ms: int, until_ms: int) -> Iterator[DayEvent]:
    """Those of shoppers; a technician's test shopper is none."""
    rows = db.execute(
        "SELECT visit, shopper, zone, type, withheld, evidence FROM ledger"
        " WHERE wall_ms >= ? AND wall_ms < ? AND type IN ('zone.entered', 'zone.dwelled', 'zone.exited') ORDER BY id",
        [from_ms, until_ms],
    )
    for visit, shopper, zone, kind, withheld, evidence in rows:
        if not _is_test(evidence):
            yield DayEvent(visit, shopper, zone, kind == "zone.entered", Counter(json.loads(withheld)))


def offers(db: Database, from_ms: int, until_ms: int) -> Iterator[DayOffer]:
    """Those proposed to shoppers, in order."""
    rows = db.execute(
        "SELECT offer, promotion_id, kind, offer.zone, state, reason, push, evidence"
        " FROM offer JOIN ledger ON ledger.id = offer.ledger"
        " WHERE offer.wall_ms >= ? AND offer.wall_ms < ? ORDER BY offer.wall_ms, offer",
        [from_ms, until_ms],
    )
    for offer, promotion_id, kind, zone, state, reason, push, evidence in rows:
        if not _is_test(evidence):
            yield DayOffer(offer, promotion_id, kind, zone, state, reason, bool(push))


def _is_test(evidence: str) -> bool:
    circumstances = json.loads(evidence).get("circumstances")
    return circumstances is not None and bool(circumstances["is_test"])
