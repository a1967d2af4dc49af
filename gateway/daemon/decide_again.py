"""A past decision made again by the code that made it: catalogue, circumstances and the offers before it → the same outcome.

What was recorded is a count for each reason; what comes out here is each promotion with its reason in words. Where both differ,
something that nobody recorded has changed in between (the shop file, a clock that was set), and it is said.

A shopper's context is never recorded, only its version. While the daemon still holds that version the decision is made again with
it; else the promotions that asked for it are taken out, but for those that were offered, and the rest is decided without them.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import tzinfo
from itertools import chain, count
from typing import Any

from gateway.contract.explanations import MAX_WITHHELD, LeafExplained, Matching, WithheldPromotion
from gateway.core import conditions
from gateway.core.conditions import ShopperContext
from gateway.core.model import (
    PUSH_KINDS,
    Circumstances,
    Dwelled,
    Entered,
    Evidence,
    Exited,
    Instant,
    OfferMatched,
    PastOffer,
    Promotion,
    Shop,
    Withheld,
    WithheldReason,
    Zone,
)
from gateway.core.offers import Catalogue, Matchable, Offers, situation_of
from gateway.daemon.plain_words import WithheldWords, leaf_in_words, visit_in_words
from gateway.io.store.explanations import Facts

_UNMATCHED = Evidence(0.0, None, 0.0, ())
"""Matching does not look at it: what it needs of the evidence is among the circumstances."""
_NEVER_MS = 1 << 62

Audiences = dict[str, tuple[LeafExplained, ...]]
"""By promotion."""


@dataclass(frozen=True, slots=True)
class _Again:
    """A decision made again."""

    offers: tuple[OfferMatched, ...]
    withheld: tuple[Withheld, ...]
    """By priority."""
    not_kept: tuple[str, ...] = ()
    """Promotions that cannot be decided about again."""


class DecideAgain:
    """Decisions of one catalogue and shop; times must not go back, or the windows are compiled anew."""

    def __init__(
        self,
        shop: Shop,
        catalogue: Catalogue | None,
        time_zone: tzinfo,
        day_start_ms: int,
        context_of: Callable[[str], tuple[int, ShopperContext] | None],
    ) -> None:
        """``context_of``: version and content of what is known of a shopper now."""
        self._shop = shop
        self._catalogue = catalogue
        self._time_zone = time_zone
        self._day_start_ms = day_start_ms
        self._context_of = context_of
        self._by_zone: dict[str, Catalogue] = {}
        """Of each zone its own promotions only: those in force elsewhere take time and change nothing."""

    def matching(self, facts: Facts) -> tuple[Matching, Audiences]:
        """What the promotions of the zone made of an event, and the audiences of those that were offered."""
        row = facts.row
        known: dict[str, Any] = {"catalogue_version": row.catalogue_version, "counts": row.withheld}
        if row.catalogue_version is None:
            return Matching(**known, recomputed=False, detail="no catalogue was in force, so nothing could be offered"), {}
        obstacle = self._obstacle(facts)
        if obstacle is not None:
            return Matching(**known, recomputed=False, detail=f"{obstacle}: only the counts are known"), {}
        event, context = _event(facts), self._context_at(facts)
        zone, catalogue = self._shop.zones[event.zone], self._of_zone(event.zone, event.at.wall_ms)
        offers = self._offers_before(facts, event)
        if facts.row.context_version is None or context is not None:
            again = _whole(facts, offers, event, zone, catalogue, context)
        else:
            again = self._without_context(facts, offers, event, zone, catalogue)
        words = WithheldWords(event, zone, catalogue.quiet_hours, self._time_zone)
        audiences = _audiences(catalogue, event, context, is_kept=facts.row.context_version is None or context is not None)
        withheld = tuple(_explained(facts, again, event, offers, catalogue, words=words, audiences=audiences))
        matching = Matching(
            **known,
            recomputed=True,
            withheld=withheld[:MAX_WITHHELD],
            context_not_kept=again.not_kept[:MAX_WITHHELD],
            detail=_sum(again, row.catalogue_version),
            disagreement=_disagreement(facts, again),
        )
        return matching, audiences

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

    def _context_at(self, facts: Facts) -> ShopperContext | None:
        """What was known of the shopper, where that can still be told."""
        row = facts.row
        if row.context_version is None or row.shopper is None:
            return None
        if WithheldReason.STOPPED in row.withheld:
            # Nothing else was asked for.
            return ShopperContext(stopped=True)
        held = self._context_of(row.shopper)
        return held[1] if held is not None and held[0] == row.context_version else None

    def _offers_before(self, facts: Facts, event: Matchable) -> Offers:
        # The offers of the event have the ids that they had.
        ids = chain((offer.offer for offer in facts.offers), (f"again-{number}" for number in count(1)))
        offers = Offers(lambda: next(ids), self._day_start_ms)
        offers.remember(facts.before, event.at, facts.in_store)
        return offers

    def _without_context(self, facts: Facts, offers: Offers, event: Matchable, zone: Zone, catalogue: Catalogue) -> _Again:
        """What asked for the context is left out, but for what was offered: that is known to have been meant."""
        asked = {promotion.promotion_id: promotion for promotion in catalogue.promotions if _asks(promotion, facts)}
        offered = {offer.promotion_id for offer in facts.offers}
        meant = [_for_everybody(promotion) for name, promotion in asked.items() if name in offered]
        at_once = [promotion for promotion in catalogue.promotions if promotion.promotion_id not in asked]
        passes = [at_once, meant] if facts.row.has_waited else [[*at_once, *meant]]
        gone = self._of_these(catalogue, [each for name, each in asked.items() if name not in offered], event)
        found: list[OfferMatched] = []
        withheld = list(gone.rules(event.zone, event).closed)
        for promotions in passes:
            outcome = offers.match(event, zone, self._of_these(catalogue, promotions, event), _circumstances(facts))
            found += outcome.offers
            withheld += outcome.withheld
        places = {promotion.promotion_id: place for place, promotion in enumerate(catalogue.promotions)}
        not_kept = tuple(rule.promotion_id for rule in gone.rules(event.zone, event).in_force)
        return _Again(tuple(found), tuple(sorted(withheld, key=lambda each: places[each.promotion_id])), not_kept)

    def _of_these(self, whole: Catalogue, promotions: Iterable[Promotion], event: Matchable) -> Catalogue:
        return Catalogue(
            whole.version,
            promotions,
            whole.quiet_hours,
            self._shop,
            self._time_zone,
            event.at.wall_ms,
            sold_out=whole.sold_out,
        )

    def _of_zone(self, zone: str, wall_ms: int) -> Catalogue:
        assert self._catalogue is not None
        known = self._by_zone.get(zone)
        if known is None:
            whole = self._catalogue
            promotions = [promotion for promotion, _ in whole.in_zone(zone)]
            known = Catalogue(
                whole.version, promotions, whole.quiet_hours, self._shop, self._time_zone, wall_ms, sold_out=whole.sold_out
            )
            self._by_zone[zone] = known
        known.advance(wall_ms)
        return known


def _whole(
    facts: Facts, offers: Offers, event: Matchable, zone: Zone, catalogue: Catalogue, context: ShopperContext | None
) -> _Again:
    """With everything that was known then."""
    circumstances = _circumstances(facts)
    if context is None or not facts.row.has_waited:
        outcome = offers.match(event, zone, catalogue, circumstances, context)
        return _Again(outcome.offers, tuple(outcome.withheld))
    first = offers.match(event, zone, catalogue, circumstances, None, _NEVER_MS)
    now = event.at
    if WithheldReason.LATE in facts.row.withheld:
        # When the context came is not recorded; it was after the shortest deadline of what waited for it.
        now = now.plus(1 + min((each.deadline_ms for each in catalogue.promotions if _asks(each, facts)), default=0))
    for waiting in offers.take_waiting(event.at.mono_ms, lambda _: True):
        rest = offers.match_rest(waiting, zone, catalogue, context, now)
        return _Again((*first.offers, *rest.offers), tuple(rest.withheld))
    return _Again(first.offers, tuple(first.withheld))


def _circumstances(facts: Facts) -> Circumstances:
    assert facts.row.circumstances is not None
    return facts.row.circumstances


def _asks(promotion: Promotion, facts: Facts) -> bool:
    """Whether what central knew of the shopper can have made a difference."""
    audience = promotion.audience
    by_audience = audience is not None and conditions.needs_context(audience)
    may_be_muted = promotion.category is not None and WithheldReason.MUTED_CATEGORY in facts.row.withheld
    return by_audience or promotion.visit_number is not None or may_be_muted


def _for_everybody(promotion: Promotion) -> Promotion:
    trigger = "visit_start" if promotion.trigger == "nth_visit" else promotion.trigger
    return replace(promotion, audience=None, visit_number=None, category=None, trigger=trigger)


def _event(facts: Facts) -> Matchable:
    row, consent = facts.row, facts.row.consent
    assert row.shopper is not None
    assert row.zone is not None
    assert consent is not None
    # Cool-downs ran on the monotonic clock; the differences between wall times are what is left of it.
    at = Instant(row.wall_ms, row.wall_ms)
    if row.type == "zone.entered":
        is_first = bool(row.evidence.get("first", False))
        return Entered(row.shopper, row.visit, row.zone, at, consent, _UNMATCHED, is_first)
    if row.type == "zone.exited":
        stayed_ms, reason = row.evidence["stayed_ms"], row.evidence["reason"]
        return Exited(row.shopper, row.visit, row.zone, at, consent, at.plus(-stayed_ms), at, reason)
    dwell_ms: int = row.evidence["dwell_ms"]
    return Dwelled(row.shopper, row.visit, row.zone, at, consent, at.plus(-dwell_ms), dwell_ms, _UNMATCHED)


def _explained(
    facts: Facts,
    again: _Again,
    event: Matchable,
    offers: Offers,
    catalogue: Catalogue,
    *,
    words: WithheldWords,
    audiences: Audiences,
) -> Iterator[WithheldPromotion]:
    promotions = {promotion.promotion_id: promotion for promotion in catalogue.promotions}
    given: Mapping[str, PastOffer | OfferMatched] = {
        **{past.offer: past for past in facts.before},
        **{offer.offer: offer for offer in again.offers},
    }
    offered = {offer.promotion_id for offer in again.offers}
    winner = next((promotions[offer.promotion_id] for offer in again.offers if offer.push and offer.kind in PUSH_KINDS), None)
    for withheld in again.withheld:
        promotion = promotions[withheld.promotion_id]
        detail = words.of(promotion, withheld.reason, offers.held(promotion, event), given, winner)
        yield WithheldPromotion(
            promotion_id=withheld.promotion_id,
            reason=withheld.reason,
            detail=detail,
            on_shelf=withheld.promotion_id in offered,
            audience=audiences.get(withheld.promotion_id, ()),
        )


def _audiences(catalogue: Catalogue, event: Matchable, context: ShopperContext | None, *, is_kept: bool) -> Audiences:
    """Each leaf with what it found; without the context that was known then, only of audiences that do not ask for it."""
    situation = situation_of(event, catalogue)
    found: Audiences = {}
    for promotion in catalogue.promotions:
        audience = promotion.audience
        if not is_kept and (audience is None or conditions.needs_context(audience)):
            continue
        leaves = [] if audience is None else [leaf_in_words(each) for each in conditions.findings(audience, context, situation)]
        if is_kept and promotion.visit_number is not None:
            leaves.append(visit_in_words(promotion.visit_number, context))
        if leaves:
            found[promotion.promotion_id] = tuple(leaves)
    return found


def _sum(again: _Again, version: int) -> str:
    candidates = (
        {offer.promotion_id for offer in again.offers} | {each.promotion_id for each in again.withheld} | {*again.not_kept}
    )
    if not candidates:
        return f"this zone has no promotion for this event (catalogue {version})"
    shelved = len(again.offers) + len(again.withheld) + len(again.not_kept) - len(candidates)
    shelf = f", {shelved} of them on the silent shelf" if shelved else ""
    return f"{len(again.offers)} of {len(candidates)} promotions offered{shelf} (catalogue {version})"


def _disagreement(facts: Facts, again: _Again) -> str | None:
    """In which figures the decision made again differs from the ledger."""
    recomputed, ledger = Counter(withheld.reason.value for withheld in again.withheld), Counter(facts.row.withheld)
    # What cannot be decided about again was withheld for some reason.
    unexplained = ledger - recomputed
    spare = len(again.not_kept) if unexplained.total() == len(again.not_kept) else 0
    found = [
        f"recomputed {recomputed[reason]} {reason}, the ledger says {ledger[reason]}"
        for reason in sorted(recomputed.keys() | ledger.keys())
        if recomputed[reason] > ledger[reason] or (recomputed[reason] < ledger[reason] and not spare)
    ]
    offered, kept = [offer.promotion_id for offer in again.offers], [offer.promotion_id for offer in facts.offers]
    if offered != kept:
        found.append(f"recomputed {', '.join(offered) or 'nothing'} as offered, the ledger says {', '.join(kept) or 'nothing'}")
    if not found:
        return None
    return f"{'; '.join(found)}. The shop, the settings or a clock may have been changed since; the ledger is right."
