"""A past decision made again by the code that made it: catalogue, circumstances and the offers before it → the same outcome.

What was recorded is a count for each reason; what comes out here is each promotion with its reason in words. Where both differ,
something that nobody recorded has changed in between (the shop file, a clock that was set), and it is said.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import tzinfo
from itertools import chain, count
from typing import Any

from gateway.contract.explanations import MAX_WITHHELD, Matching, WithheldPromotion
from gateway.core.model import (
    PUSH_KINDS,
    Dwelled,
    Entered,
    Evidence,
    Instant,
    OfferMatched,
    Outcome,
    PastOffer,
    Shop,
)
from gateway.core.offers import Catalogue, Offers
from gateway.daemon.plain_words import WithheldWords
from gateway.io.store.explanations import Facts

_UNMATCHED = Evidence(0.0, None, 0.0, ())
"""Matching does not look at it: what it needs of the evidence is among the circumstances."""


class DecideAgain:
    """Decisions of one catalogue and shop; times must not go back, or the windows are compiled anew."""

    def __init__(self, shop: Shop, catalogue: Catalogue | None, time_zone: tzinfo) -> None:
        self._shop = shop
        self._catalogue = catalogue
        self._time_zone = time_zone
        self._by_zone: dict[str, Catalogue] = {}
        """Of each zone its own promotions only: those in force elsewhere take time and change nothing."""

    def matching(self, facts: Facts) -> Matching:
        """What the promotions of the zone made of an entry or a dwell."""
        row = facts.row
        known: dict[str, Any] = {"catalogue_version": row.catalogue_version, "counts": row.withheld}
        if row.catalogue_version is None:
            return Matching(**known, recomputed=False, detail="no catalogue was in force, so nothing could be offered")
        obstacle = self._obstacle(facts)
        if obstacle is not None:
            return Matching(**known, recomputed=False, detail=f"{obstacle}: only the counts are known")
        outcome, withheld = self._again(facts)
        return Matching(
            **known,
            recomputed=True,
            withheld=withheld[:MAX_WITHHELD],
            detail=_sum(outcome, row.catalogue_version),
            disagreement=_disagreement(facts, outcome),
        )

    def _obstacle(self, facts: Facts) -> str | None:
        row = facts.row
        if self._catalogue is None:
            return f"decided with catalogue {row.catalogue_version}, and none is in force now"
        if self._catalogue.version != row.catalogue_version:
            return f"decided with catalogue {row.catalogue_version}, and {self._catalogue.version} is in force now"
        if row.shopper is None:
            return "the shopper has been erased, and with it what had been offered before"
        if row.circumstances is None or row.consent is None:
            return "recorded by a version that did not keep the circumstances"
        if row.zone not in self._shop.zones:
            return f"{row.zone} is no zone of the shop any more"
        return None

    def _again(self, facts: Facts) -> tuple[Outcome, tuple[WithheldPromotion, ...]]:
        event, circumstances = _event(facts), facts.row.circumstances
        assert circumstances is not None
        zone, catalogue = self._shop.zones[event.zone], self._of_zone(event.zone, event.at.wall_ms)
        # The offers of the event have the ids that they had.
        ids = chain((offer.offer for offer in facts.offers), (f"again-{number}" for number in count(1)))
        offers = Offers(lambda: next(ids))
        offers.remember(facts.before, event.at)
        outcome = offers.match(event, zone, catalogue, circumstances)
        words = WithheldWords(event, zone, catalogue.quiet_hours, self._time_zone)
        return outcome, tuple(_explained(facts, outcome, event, offers, catalogue, words))

    def _of_zone(self, zone: str, wall_ms: int) -> Catalogue:
        assert self._catalogue is not None
        known = self._by_zone.get(zone)
        if known is None:
            whole = self._catalogue
            promotions = [promotion for promotion, _ in whole.in_zone(zone)]
            known = Catalogue(whole.version, promotions, whole.quiet_hours, self._shop, self._time_zone, wall_ms)
            self._by_zone[zone] = known
        known.advance(wall_ms)
        return known


def _event(facts: Facts) -> Entered | Dwelled:
    row, consent = facts.row, facts.row.consent
    assert row.shopper is not None
    assert row.zone is not None
    assert consent is not None
    # Cool-downs ran on the monotonic clock; the differences between wall times are what is left of it.
    at = Instant(row.wall_ms, row.wall_ms)
    if row.type == "zone.entered":
        return Entered(row.shopper, row.visit, row.zone, at, consent, _UNMATCHED)
    dwell_ms: int = row.evidence["dwell_ms"]
    return Dwelled(row.shopper, row.visit, row.zone, at, consent, at.plus(-dwell_ms), dwell_ms, _UNMATCHED)


def _explained(
    facts: Facts, outcome: Outcome, event: Entered | Dwelled, offers: Offers, catalogue: Catalogue, words: WithheldWords
) -> Iterator[WithheldPromotion]:
    promotions = {promotion.promotion_id: promotion for promotion in catalogue.promotions}
    given: Mapping[str, PastOffer | OfferMatched] = {
        **{past.offer: past for past in facts.before},
        **{offer.offer: offer for offer in outcome.offers},
    }
    winner = next((promotions[offer.promotion_id] for offer in outcome.offers if offer.kind in PUSH_KINDS), None)
    for withheld in outcome.withheld:
        promotion = promotions[withheld.promotion_id]
        detail = words.of(promotion, withheld.reason, offers.held(promotion, event), given, winner)
        yield WithheldPromotion(promotion_id=withheld.promotion_id, reason=withheld.reason, detail=detail)


def _sum(outcome: Outcome, version: int) -> str:
    candidates = len(outcome.offers) + len(outcome.withheld)
    if not candidates:
        return f"this zone has no promotion for this event (catalogue {version})"
    return f"{len(outcome.offers)} of {candidates} promotions offered (catalogue {version})"


def _disagreement(facts: Facts, outcome: Outcome) -> str | None:
    """In which figures the decision made again differs from the ledger."""
    again, ledger = Counter(withheld.reason.value for withheld in outcome.withheld), Counter(facts.row.withheld)
    found = [
        f"recomputed {again[reason]} {reason}, the ledger says {ledger[reason]}"
        for reason in sorted(again.keys() | ledger.keys())
        if again[reason] != ledger[reason]
    ]
    offered, kept = [offer.promotion_id for offer in outcome.offers], [offer.promotion_id for offer in facts.offers]
    if offered != kept:
        found.append(f"recomputed {', '.join(offered) or 'nothing'} as offered, the ledger says {', '.join(kept) or 'nothing'}")
    if not found:
        return None
    return f"{'; '.join(found)}. The shop, the settings or a clock may have been changed since; the ledger is right."
