"""Who would get what: one shopper's stay in a zone, or all stays of a day that the ledger knows, decided about as a gateway does.

Nothing is written and nobody is told. What only central decides (week, lifetime, quantity, holdout) is left out.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from itertools import count

from gateway.contract.offer_view import Preview, PreviewedOffer, Reach, ReachedPromotion
from gateway.contract.promotions import Promotion
from gateway.core import conditions, model
from gateway.core.conditions import ShopperContext
from gateway.core.model import (
    Circumstances,
    ClockQuality,
    Consent,
    Dwelled,
    Entered,
    Evidence,
    Exited,
    Instant,
    OfferMatched,
    Outcome,
)
from gateway.core.offers import Catalogue, Matchable, Offers, situation_of
from gateway.core.spelling import no_such
from gateway.daemon.plain_words import WithheldWords, leaf_in_words, visit_in_words
from gateway.errors import WrongCommand
from gateway.io.store.day import DayStay

_UNMATCHED = Evidence(0.0, None, 0.0, ())
"""Matching does not look at it."""
_SHOPPER, _VISIT = "preview", "preview"


@dataclass(frozen=True, slots=True)
class Situation:
    """One shopper in one zone."""

    zone: str
    at_ms: int
    """Wall milliseconds of the entry."""
    context: ShopperContext | None
    """``None``: central has told nothing."""
    consent: Consent = Consent.OFFERS | Consent.ANALYTICS


def preview(
    promotions: Sequence[Promotion], shop: model.Shop, time_zone: tzinfo, situation: Situation, quiet: model.QuietHours | None
) -> Preview:
    """What the shopper would get with the first entry of a visit, then for each dwell, then on leaving."""
    if situation.zone not in shop.zones:
        raise WrongCommand(no_such("zone", situation.zone, shop.zones))
    compiled = [promotion.compiled() for promotion in promotions]
    catalogue = Catalogue(1, compiled, quiet, shop, time_zone, situation.at_ms)
    numbers = count(1)
    offers = Offers(lambda: f"preview-{next(numbers)}")
    circumstances = Circumstances(ClockQuality.SYNCHRONISED)
    zone, found = shop.zones[situation.zone], list[PreviewedOffer]()
    given: dict[str, OfferMatched] = {}
    for name, event in _stay(situation, sorted(catalogue.dwells().get(situation.zone, ()))):
        catalogue.advance(event.at.wall_ms)
        outcome = offers.match(event, zone, catalogue, circumstances, situation.context)
        given |= {offer.offer: offer for offer in outcome.offers}
        words = WithheldWords(event, zone, quiet, time_zone)
        found += _told(name, event, outcome, offers, catalogue, given, words, situation.context)
    return Preview(zone=situation.zone, time=situation.at_ms, offers=tuple(found))


def _stay(situation: Situation, dwells_ms: list[int]) -> Iterator[tuple[str, Matchable]]:
    at = Instant(situation.at_ms, situation.at_ms)
    who = (_SHOPPER, _VISIT, situation.zone)
    yield "enters", Entered(*who, at, situation.consent, _UNMATCHED, is_first=True)
    for dwell_ms in dwells_ms:
        yield f"stays {dwell_ms // 1000} s", Dwelled(*who, at.plus(dwell_ms), situation.consent, at, dwell_ms, _UNMATCHED)
    left = at.plus(max(dwells_ms, default=0) + 1000)
    yield "leaves", Exited(*who, left, situation.consent, at, left, "moved")


def _told(  # noqa: PLR0917, PLR0913 -- an event, what came of it, and what explains it
    name: str,
    event: Matchable,
    outcome: Outcome,
    offers: Offers,
    catalogue: Catalogue,
    given: Mapping[str, OfferMatched],
    words: WithheldWords,
    context: ShopperContext | None,
) -> Iterator[PreviewedOffer]:
    promotions = {promotion.promotion_id: promotion for promotion in catalogue.promotions}
    reasons = {withheld.promotion_id: withheld.reason for withheld in outcome.withheld}
    offered = {offer.promotion_id: offer for offer in outcome.offers}
    winner = next((promotions[offer.promotion_id] for offer in outcome.offers if offer.push), None)
    for promotion_id in (promotion.promotion_id for promotion in catalogue.promotions):
        offer, reason = offered.get(promotion_id), reasons.get(promotion_id)
        if offer is None and reason is None:
            continue
        promotion = promotions[promotion_id]
        gets = "nothing" if offer is None else "push" if offer.push else "card" if promotion.kind == "info" else "shelf"
        detail = None if reason is None else words.of(promotion, reason, offers.held(promotion, event), given, winner)
        leaves = []
        if promotion.audience is not None:
            facts = conditions.findings(promotion.audience, context, situation_of(event, catalogue))
            leaves = [leaf_in_words(each).detail for each in facts]
        if promotion.visit_number is not None:
            leaves.append(visit_in_words(promotion.visit_number, context).detail)
        yield PreviewedOffer.model_validate(
            {
                "when": name,
                "promotion_id": promotion_id,
                "gets": gets,
                "reason": None if reason is None else reason.value,
                "detail": detail,
                "audience": tuple(leaves),
            }
        )


# ---- a whole day --------------------------------------------------------------------------------------------------------------


def reach(
    promotions: Sequence[Promotion],
    shop: model.Shop,
    time_zone: tzinfo,
    stays: Sequence[DayStay],
    *,
    quiet: model.QuietHours | None = None,
    context: ShopperContext | None = None,
) -> Reach:
    """Whom the promotions would have reached on a day, were they and the shop then as they are now.

    What central knew of the shoppers is not written down: with a ``context`` everybody is such a shopper, without one rules that
    ask for it are taken to hold, and their figures are the most that is possible.
    """
    rules = [promotion.compiled() for promotion in promotions]
    at_most = {rule.promotion_id for rule in rules if context is None and _asks_central(rule)}
    taken = [_for_everybody(rule) if rule.promotion_id in at_most else rule for rule in rules]
    begin_ms = min((stay.entered_ms for stay in stays), default=0)
    catalogue = Catalogue(1, taken, quiet, shop, time_zone, begin_ms)
    numbers = count(1)
    offers = Offers(lambda: str(next(numbers)))
    matched: dict[str, list[tuple[DayStay, bool]]] = defaultdict(list)
    withheld: dict[str, Counter[str]] = defaultdict(Counter)
    for stay, event in sorted(_events(stays, catalogue), key=lambda each: each[1].at.wall_ms):
        if event.zone not in shop.zones:
            continue
        catalogue.advance(event.at.wall_ms)
        outcome = offers.match(event, shop.zones[event.zone], catalogue, stay.circumstances, context)
        for offer in outcome.offers:
            matched[offer.promotion_id].append((stay, offer.push))
        shelved = {offer.promotion_id for offer in outcome.offers}
        for each in outcome.withheld:
            if each.promotion_id not in shelved:
                withheld[each.promotion_id][each.reason.value] += 1
    return Reach(
        shoppers=len({stay.shopper for stay in stays}),
        visits=len({stay.visit for stay in stays}),
        promotions=tuple(
            ReachedPromotion(
                promotion_id=rule.promotion_id,
                at_most=rule.promotion_id in at_most,
                offers=len(matched[rule.promotion_id]),
                pushes=sum(push for _, push in matched[rule.promotion_id]),
                visits=len({stay.visit for stay, _ in matched[rule.promotion_id]}),
                shoppers=len({stay.shopper for stay, _ in matched[rule.promotion_id]}),
                withheld=dict(withheld[rule.promotion_id].most_common()),
            )
            for rule in rules
        ),
    )


def _events(stays: Iterable[DayStay], catalogue: Catalogue) -> Iterator[tuple[DayStay, Matchable]]:
    dwells = catalogue.dwells()
    for stay in stays:
        # Cool-downs run on the monotonic clock; the differences between wall times are what is left of it.
        at = Instant(stay.entered_ms, stay.entered_ms)
        who = (stay.shopper, stay.visit, stay.zone)
        yield stay, Entered(*who, at, stay.consent, _UNMATCHED, stay.is_first)
        if stay.stayed_ms is None:
            continue
        for dwell_ms in dwells.get(stay.zone, ()):
            if dwell_ms <= stay.stayed_ms:
                yield stay, Dwelled(*who, at.plus(dwell_ms), stay.consent, at, dwell_ms, _UNMATCHED)
        left = at.plus(stay.stayed_ms)
        yield stay, Exited(*who, left, stay.consent, at, left, "moved")


def _asks_central(rule: model.Promotion) -> bool:
    return rule.visit_number is not None or (rule.audience is not None and conditions.needs_context(rule.audience))


def _for_everybody(rule: model.Promotion) -> model.Promotion:
    trigger = "visit_start" if rule.trigger == "nth_visit" else rule.trigger
    return replace(rule, audience=None, visit_number=None, trigger=trigger)
