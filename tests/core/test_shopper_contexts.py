"""What central knows of a shopper: who is meant, what waits for it and for how long, and that nothing of it stays anywhere."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.conditions import AllOf, Leaf, NotOf, ShopperContext
from gateway.core.model import (
    Circumstances,
    ClockQuality,
    Consent,
    Dwelled,
    Entered,
    Evidence,
    Exited,
    Instant,
    Memory,
    OpenVisit,
    Outcome,
    PastOffer,
    Promotion,
    QuietHours,
    Shop,
    Step,
    StoreCount,
    TimeWindow,
    Verdict,
    VisitEnded,
    VisitStarted,
    Zone,
)
from gateway.core.money import Money
from gateway.core.offers import MOST_ON_SHELF, Catalogue, Offers
from gateway.core.pipeline import CONTEXT_WAIT_MS, TICK_MS
from gateway.core.relay import Relay
from gateway.core.token import FLAG_ANALYTICS
from tests.core.phones import BOTH, holders_of, roster_of
from tests.core.test_offers import ids, result, shelf
from tests.core.test_pipeline import ANNA, ANNAS, DAY, ZOE, Store, promotion

START = Instant(5_000_000, 1_790_000_400_000)
"""A Monday, 14:20 UTC."""
SHOP = Shop({"dairy": Zone("dairy"), "wine": Zone("wine"), "exit": Zone("exit")}, {})
CIRCUMSTANCES = Circumstances(ClockQuality.SYNCHRONISED)
EVIDENCE = Evidence(0.9, None, 2.0, ())
FAMILY = Leaf("segments", "contains", "family")
REGULAR = Leaf("visits_30_days", "at_least", 5)


def catalogue(
    *promotions: Promotion, version: int = 1, sold_out: Iterable[str] = (), quiet: QuietHours | None = None
) -> Catalogue:
    return Catalogue(version, promotions, quiet, SHOP, UTC, START.wall_ms, sold_out=sold_out)


def entered(
    zone: str = "dairy", at: Instant = START, visit: str = "v1", shopper: str = "anna", *, is_first: bool = False
) -> Entered:
    return Entered(shopper, visit, zone, at, BOTH, EVIDENCE, is_first)


def match(
    offers: Offers, event: Entered | Dwelled | Exited, rules: Catalogue, context: ShopperContext | None, **more: Any
) -> Outcome:
    return offers.match(event, SHOP.zones[event.zone], rules, CIRCUMSTANCES, context, **more)


# ---- who is meant -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "context", "expected"),
    [
        pytest.param(
            promotion("a", audience=FAMILY), ShopperContext(segments=frozenset({"family"})), "push", id="in the segment"
        ),
        pytest.param(promotion("a", audience=FAMILY), ShopperContext(), "audience", id="not in it"),
        pytest.param(promotion("a", audience=FAMILY), None, "no_context", id="nobody knows"),
        pytest.param(promotion("a", audience=NotOf(FAMILY)), None, "no_context", id="not known is not no"),
        pytest.param(promotion("a", audience=NotOf(FAMILY)), ShopperContext(), "push", id="known not to be"),
        pytest.param(promotion("a", audience=Leaf("local_time", "at_least", 860)), None, "push", id="the clock needs no context"),
        pytest.param(promotion("a", audience=Leaf("local_time", "less_than", 860)), None, "audience", id="too late by the clock"),
        pytest.param(
            promotion("a", audience=AllOf((REGULAR, FAMILY))), ShopperContext(visits_30_days=5), "audience", id="but one"
        ),
        pytest.param(
            promotion("a", audience=Leaf("saved_offers", "contains", "wine-3")),
            ShopperContext(saved_offers=frozenset({"wine-3"})),
            "push",
            id="saved",
        ),
        pytest.param(
            promotion("a", audience=Leaf("basket_today", "more_than", Money(Decimal("50.00"), "EUR"))),
            ShopperContext(basket_today=Money(Decimal("50.00"), "EUR")),
            "audience",
            id="50.00 is not more than 50.00",
        ),
        pytest.param(promotion("a", category="sweets"), None, "push", id="a category needs no context"),
        pytest.param(
            promotion("a", category="sweets"),
            ShopperContext(muted_categories=frozenset({"sweets"})),
            "muted_category",
            id="muted",
        ),
        pytest.param(
            promotion("a", category="wine"), ShopperContext(muted_categories=frozenset({"sweets"})), "push", id="another is muted"
        ),
        pytest.param(promotion("a"), ShopperContext(stopped=True), "stopped", id="a complaint stops what is for everybody"),
        pytest.param(
            replace(promotion("a"), kind="info"), ShopperContext(stopped=True), "stopped", id="a complaint stops cards, too"
        ),
        pytest.param(
            promotion("a", trigger="nth_visit", visit_number=5), ShopperContext(visits_30_days=4), "push", id="the fifth visit"
        ),
        pytest.param(
            promotion("a", trigger="nth_visit", visit_number=5), ShopperContext(visits_30_days=5), "not_nth_visit", id="the sixth"
        ),
        pytest.param(promotion("a", trigger="nth_visit", visit_number=5), None, "no_context", id="the how-manieth?"),
        pytest.param(
            promotion("a", audience=FAMILY, windows=(TimeWindow(frozenset(), 0, 1440),)), None, "outside_window", id="shut"
        ),
    ],
)
def test_who_is_meant(rule: Promotion, context: ShopperContext | None, expected: str) -> None:
    assert result(match(Offers(ids()), entered(is_first=True), catalogue(rule), context)) == {"a": expected}


def test_a_dwell_and_an_exit_know_how_long_the_shopper_stayed() -> None:
    long = Leaf("dwell_s", "at_least", 90)
    rules = catalogue(
        promotion("at once", audience=long),
        promotion("dwell", trigger="dwell", dwell_ms=90_000, audience=long),
        promotion("leaving", trigger="exit", audience=long),
    )
    left = Exited("anna", "v2", "dairy", START, BOTH, START.plus(-89_999), START, "moved", EVIDENCE)
    assert result(match(Offers(ids()), entered(), rules, None)) == {"at once": "audience"}
    dwelled = Dwelled("anna", "v1", "dairy", START, BOTH, START.plus(-90_000), 90_000, EVIDENCE)
    assert result(match(Offers(ids()), dwelled, rules, None)) == {"dwell": "push"}
    assert result(match(Offers(ids()), left, rules, None)) == {"leaving": "audience"}
    later = replace(left, entered_at=START.plus(-90_000))
    assert result(match(Offers(ids()), later, rules, None)) == {"leaving": "push"}
    assert result(match(Offers(ids()), replace(later, reason="restart"), rules, None)) == {"leaving": "late"}


def test_a_visit_triggers_once_and_in_any_zone() -> None:
    rules = catalogue(
        promotion("hello", trigger="visit_start", zones=frozenset(), priority=1),
        promotion("wine only", "wine", trigger="visit_start"),
        promotion("here"),
    )
    offers = Offers(ids())
    assert result(match(offers, entered(is_first=True), rules, None)) == {"hello": "push", "here": "lower_priority"}
    assert result(match(offers, entered(at=START.plus(9)), rules, None)) == {"here": "cap_day"}
    assert result(match(Offers(ids()), entered("wine", is_first=True), rules, None)).keys() == {"hello", "wine only"}
    assert result(match(Offers(ids()), entered("exit", is_first=True), rules, None)) == {"hello": "push"}
    assert result(match(Offers(ids()), entered("exit"), rules, None)) == {}


# ---- caps of visit and store, the silent shelf ---------------------------------------------------------------------------------


def test_a_promotions_own_cap_for_a_visit_leaves_nothing_on_the_shelf() -> None:
    offers, rules = Offers(ids()), catalogue(replace(promotion("a", visit_cap=1, daily_cap=3), kind="info"))
    assert result(match(offers, entered(), rules, None)) == {"a": "card"}
    second = match(offers, entered(at=START.plus(1000)), rules, None)
    assert (result(second), second.offers) == ({"a": "cap_visit"}, ())
    assert result(match(offers, entered(at=START.plus(2000), visit="v2"), rules, None)) == {"a": "card"}


def test_a_store_has_so_many_a_day_until_central_refuses_one_or_the_day_is_over() -> None:
    offers, rules = Offers(ids(), day_start_ms=3_600_000), catalogue(promotion("a", store_cap_day=2))
    given = [match(offers, entered(shopper=f"s{n}", visit=f"v{n}"), rules, None) for n in range(3)]
    assert [result(each)["a"] for each in given] == ["push", "push", "cap_store"]
    offers.decide(Verdict(given[0].offers[0].offer, "refused", "quantity"))
    assert result(match(offers, entered(shopper="s3", visit="v3"), rules, None)) == {"a": "push"}
    assert result(match(offers, entered(shopper="s4", visit="v4"), rules, None)) == {"a": "cap_store"}
    tomorrow = START.plus(86_400_000 - (START.wall_ms - 3_600_000) % 86_400_000)
    assert result(match(offers, entered(shopper="s5", visit="v5", at=tomorrow.plus(-1)), rules, None)) == {"a": "cap_store"}
    assert result(match(offers, entered(shopper="s5", visit="v5", at=tomorrow), rules, None)) == {"a": "push"}


def test_a_restart_remembers_what_the_store_has_had() -> None:
    offers, rules = Offers(ids()), catalogue(promotion("a", store_cap_day=2))
    offers.remember([], START, [StoreCount("a", START.wall_ms // 86_400_000, 2)])
    assert result(match(offers, entered(), rules, None)) == {"a": "cap_store"}


def test_a_visit_leaves_no_more_on_the_shelf_than_anybody_reads() -> None:
    offers = Offers(ids())
    rules = catalogue(*(promotion(f"p{n:02}", priority=-n) for n in range(MOST_ON_SHELF + 3)))
    outcome = match(offers, entered(), rules, None)
    assert shelf(outcome) == [f"p{n:02}" for n in range(1, MOST_ON_SHELF + 1)]
    assert list(result(outcome).values()).count("lower_priority") == MOST_ON_SHELF + 2
    assert shelf(match(offers, entered(at=START.plus(1)), rules, None)) == []
    second = match(offers, entered(at=START.plus(2), visit="v2"), rules, None)
    assert [offer.promotion_id for offer in second.offers if offer.push] == [f"p{MOST_ON_SHELF + 1:02}"]
    assert shelf(second) == [f"p{MOST_ON_SHELF + 2:02}"]


@pytest.mark.parametrize("reason", ["holdout", "cap_week", "cap_lifetime", "muted_category", "stopped"])
def test_what_central_refuses_for_good_is_not_proposed_again_and_costs_no_push(reason: str) -> None:
    offers, rules = Offers(ids()), catalogue(promotion("a", priority=1, daily_cap=9), promotion("b", "wine"))
    first = match(offers, entered(), rules, None)
    offers.decide(Verdict(first.offers[0].offer, "refused", reason))
    assert result(match(offers, entered(at=START.plus(1000)), rules, None)) == {"a": "refused_by_central"}
    assert result(match(offers, entered("wine", START.plus(2000)), rules, None)) == {"b": "push"}
    assert result(match(offers, entered(shopper="zoe", visit="v9"), rules, None)) == {"a": "push"}


# ---- waiting ------------------------------------------------------------------------------------------------------------------

KNOWN = ShopperContext(segments=frozenset({"family"}), visits_30_days=4)
LATER = START.plus(400)
WAITS = {"wait_until_ms": START.mono_ms + 1000}


def rest_of(
    offers: Offers,
    event: Entered,
    rules: Catalogue,
    context: ShopperContext = KNOWN,
    *,
    now: Instant = LATER,
    then: Catalogue | None = None,
) -> Outcome:
    """What becomes of an event whose context comes at ``now``, with catalogue ``then``."""
    match(offers, event, rules, None, **WAITS)
    (waiting,) = offers.take_waiting(now.mono_ms, lambda _: True)
    assert offers.take_waiting(now.mono_ms, lambda _: True) == [], "once"
    return offers.match_rest(waiting, SHOP.zones[event.zone], then or rules, context, now)


def test_what_needs_none_is_matched_at_once_and_the_rest_when_it_comes() -> None:
    rules = catalogue(promotion("for all"), promotion("for families", audience=FAMILY, priority=9), promotion("men", "wine"))
    offers = Offers(ids())
    first = match(offers, entered(), rules, None, **WAITS)
    assert result(first) == {"for all": "push", "for families": "no_context"}
    (waiting,) = offers.take_waiting(LATER.mono_ms, lambda shopper: shopper == "anna")
    rest = offers.match_rest(waiting, SHOP.zones["dairy"], rules, KNOWN, LATER)
    assert (result(rest), shelf(rest)) == ({"for families": "cap_visit"}, ["for families"]), "the push is spent: on the shelf"
    assert (rest.event, rest.is_rest) == (first.event, True)
    (offer,) = rest.offers
    assert (offer.at, offer.deadline) == (START, START.plus(30_000)), "counted from the event"


@pytest.mark.parametrize(
    ("then", "context", "now", "expected"),
    [
        pytest.param(None, KNOWN, LATER, "push", id="as it was"),
        pytest.param(None, ShopperContext(), LATER, "audience", id="not meant"),
        pytest.param(None, ShopperContext(stopped=True), LATER, "stopped", id="has complained"),
        pytest.param(catalogue(version=2), KNOWN, LATER, "outside_window", id="gone from the catalogue meanwhile"),
        pytest.param(
            catalogue(promotion("a", audience=FAMILY), version=2, sold_out=["a"]),
            KNOWN,
            LATER,
            "sold_out",
            id="sold out meanwhile",
        ),
        pytest.param(
            catalogue(promotion("a", audience=FAMILY), quiet=QuietHours(860, 861)),
            KNOWN,
            LATER,
            "quiet_hours",
            id="the quiet hours have begun",
        ),
        pytest.param(catalogue(promotion("a", audience=FAMILY, deadline_ms=399)), KNOWN, LATER, "late", id="after its deadline"),
        pytest.param(catalogue(promotion("a", audience=FAMILY, deadline_ms=400)), KNOWN, LATER, "push", id="at its deadline"),
    ],
)
def test_the_rest_of_an_event(then: Catalogue | None, context: ShopperContext, now: Instant, expected: str) -> None:
    rules = catalogue(promotion("a", audience=FAMILY))
    assert result(rest_of(Offers(ids()), entered(), rules, context, now=now, then=then)) == {"a": expected}


def test_withheld_keeps_its_order_and_everything_else_as_it_was() -> None:
    rules = catalogue(
        promotion("p1", priority=5, windows=(TimeWindow(frozenset(), 0, 1440),)),
        promotion("p2", priority=4, audience=FAMILY),
        promotion("p3", priority=3),
        promotion("p4", priority=2, audience=NotOf(FAMILY)),
        promotion("p5", priority=1),
    )
    rest = rest_of(Offers(ids()), entered(), rules)
    assert [(each.promotion_id, each.reason.value) for each in rest.withheld] == [
        ("p1", "outside_window"),
        ("p2", "cap_visit"),
        ("p4", "audience"),
        ("p5", "lower_priority"),
    ]


def waits(offers: Offers) -> bool:
    return offers.is_waiting


def test_nobody_waits_without_a_rule_that_asks_or_after_the_time() -> None:
    offers = Offers(ids())
    match(offers, entered(), catalogue(promotion("a")), None, **WAITS)
    match(offers, entered(at=START.plus(1000)), catalogue(promotion("a", audience=FAMILY)), None, **WAITS)
    assert not waits(offers)
    match(offers, entered(at=START.plus(999)), catalogue(promotion("a", audience=FAMILY)), None, **WAITS)
    assert waits(offers)
    assert offers.take_waiting(START.mono_ms + 999, lambda _: False) == []
    assert waits(offers)
    assert offers.take_waiting(START.mono_ms + 1000, lambda _: False) == []
    assert not waits(offers)


# ---- the pipeline -------------------------------------------------------------------------------------------------------------

SECRET = "a-segment-that-nobody-else-has"
SECRETS = ShopperContext(segments=frozenset({SECRET, "family"}), visits_30_days=4)
RULES = (
    promotion("for all"),
    promotion("for families", priority=9, audience=FAMILY),
    promotion("fifth", trigger="nth_visit", visit_number=5, zones=frozenset()),
)


class Visited(Store):
    """A store that collects what was decided later, too."""

    def __init__(self, *promotions: Promotion, **known: Any) -> None:
        self.rests: list[Outcome] = []
        super().__init__(**known)
        if promotions:
            self.use(*promotions)

    def tick(self) -> Step:
        step = super().tick()
        self.rests += step.rests
        return step

    def tell(self, version: int, context: ShopperContext = SECRETS, shopper: str = ANNAS) -> bool:
        return self.pipeline.use_context(shopper, version, context, self.now)

    def comes_in(self, zone: str = "dairy") -> Outcome:
        """Until the entry into the zone, which ends a tick."""
        for _ in range(300):
            self.linger(TICK_MS / 1000, zone)
            for outcome in self.outcomes:
                if isinstance(outcome.event, Entered) and outcome.event.zone == zone:
                    return outcome
        raise AssertionError("nobody came")

    def linger(self, seconds: float, zone: str) -> None:
        levels: dict[str, Any] = {zone: -50}
        self.stay(seconds, **levels)

    @property
    def knows(self) -> int:
        return holders_of(self.pipeline, SECRET)


def test_a_context_in_time_decides_with_the_next_tick() -> None:
    store = Visited(*RULES)
    first = store.comes_in()
    assert result(first) == {"for all": "push", "for families": "no_context", "fifth": "no_context"}
    assert first.context_version is None
    assert store.tell(7)
    next_ms = store.pipeline.next_deadline_ms()
    assert next_ms is not None
    assert next_ms <= store.now.mono_ms + TICK_MS
    store.stay(TICK_MS / 1000)
    (rest,) = store.rests
    assert result(rest) == {"for families": "cap_visit", "fifth": "cap_visit"}
    assert (shelf(rest), rest.context_version) == (["for families", "fifth"], 7)
    store.stay(3, dairy=-50)
    assert len(store.rests) == 1


def test_who_is_known_before_the_entry_waits_for_nothing() -> None:
    store = Visited(*RULES)
    assert store.tell(7)
    first = store.comes_in()
    assert result(first) == {"for families": "push", "for all": "lower_priority", "fifth": "lower_priority"}
    assert (first.context_version, store.rests) == (7, [])


@pytest.mark.parametrize(("after_ms", "counts"), [(CONTEXT_WAIT_MS - TICK_MS, True), (CONTEXT_WAIT_MS + TICK_MS, False)])
def test_what_waits_is_given_up_after_a_second(after_ms: int, counts: bool) -> None:
    store = Visited(*RULES)
    store.comes_in()
    store.stay(after_ms / 1000, dairy=-50)
    store.tell(7)
    store.stay(1, dairy=-50)
    assert bool(store.rests) == counts
    assert store.pipeline.next_deadline_ms() is not None


def test_a_context_that_comes_after_a_second_counts_for_the_next_event() -> None:
    store = Visited(*RULES, promotion("wine", "wine", audience=FAMILY))
    store.comes_in()
    store.stay(2, dairy=-50)
    store.tell(7)
    second = store.comes_in("wine")
    assert (result(second), second.context_version) == ({"wine": "cap_visit"}, 7)
    assert store.rests == []


def test_after_the_second_a_new_event_does_not_wait() -> None:
    store = Visited(*RULES, promotion("wine", "wine", audience=FAMILY))
    store.comes_in()
    assert result(store.comes_in("wine")) == {"wine": "no_context"}
    store.tell(7)
    store.stay(1, wine=-50)
    assert store.rests == []


def opts_out(store: Visited) -> None:
    store.pipeline.apply_roster_delta(DAY, 2, [], [ANNAS])


def consents_to_statistics_only(store: Visited) -> None:
    store.pipeline.apply_roster_delta(DAY, 2, [ANNA.entry(DAY, Consent.ANALYTICS)], [])


def says_so_herself(store: Visited) -> None:
    store.stay(1, dairy=-50, says={"flags": FLAG_ANALYTICS})


def is_in_no_roster_any_more(store: Visited) -> None:
    windows = store.pipeline.identity.windows_around(store.now.wall_ms, DAY)
    store.pipeline.use_roster(roster_of([ZOE], DAY, windows, version=2))


def has_gone_for_half_an_hour(store: Visited) -> None:
    store.stay(1)
    store.now = store.now.plus(3_600_000)
    store.tick()
    store.tick()
    assert isinstance(store.events[-1], VisitEnded)


def is_decided_about_elsewhere(store: Visited) -> None:
    store.pipeline.receive_for_another(Relay())


@pytest.mark.parametrize(
    "goes",
    [
        opts_out,
        consents_to_statistics_only,
        says_so_herself,
        is_in_no_roster_any_more,
        has_gone_for_half_an_hour,
        is_decided_about_elsewhere,
    ],
)
@pytest.mark.parametrize("waits", [False, True])
def test_nothing_of_it_stays_when_she(goes: Any, waits: bool) -> None:
    """Neither what was known nor what waits for it; and what comes too late is not let in."""
    store = Visited(*RULES)
    store.comes_in()
    if not waits:
        store.tell(7)
        assert store.knows
        store.stay(1, dairy=-50)
    store.outcomes, store.rests = [], []
    goes(store)
    store.outcomes, store.rests = [o for o in store.outcomes if o.offers], []
    assert store.knows == 0
    if goes is not has_gone_for_half_an_hour:
        assert not store.tell(8)
    store.stay(1)
    assert (store.knows, store.rests) == (0, [])


def test_nobody_outside_the_roster_is_ever_known() -> None:
    store = Visited(*RULES, phones=(ZOE,))
    assert not store.tell(1)
    assert store.knows == 0


def test_who_never_comes_is_forgotten_within_half_an_hour_and_who_stays_is_not() -> None:
    store = Visited(*RULES)
    store.tell(1, shopper=ZOE.name(DAY), context=ShopperContext(segments=frozenset({SECRET})))
    assert store.knows
    for _ in range(35):
        store.stay(1, dairy=-50)
        store.now = store.now.plus(59_000)
        store.tick()
    assert store.knows == 0


def test_a_restart_within_the_second_loses_what_waits_and_never_offers_twice() -> None:
    """The row says no_context already; the new process asks anew for whoever is still here."""
    store = Visited(*RULES)
    first = store.comes_in()
    (given,) = first.offers
    past = PastOffer(
        given.offer, ANNAS, given.visit, "for all", "offer", "", 0, given.at.wall_ms, given.deadline.wall_ms, "proposed"
    )
    visit = OpenVisit(ANNAS, given.visit, BOTH, given.at.wall_ms, 1, "dairy", given.at.wall_ms, 0, given.at.wall_ms)
    again = Visited(*RULES, promotion("wine", "wine", audience=FAMILY))
    again.now = store.now
    again.pipeline.remember(Memory(store.now.wall_ms, (visit,), (past,)), again.now)
    again.tick()
    again.tell(7)
    again.stay(1, dairy=-50)
    assert (again.rests, [outcome.offers for outcome in again.outcomes if outcome.offers]) == ([], [])
    assert result(again.comes_in("wine")) == {"wine": "cap_visit"}, "the push is spent, and what is known is known anew"


# ---- any order ----------------------------------------------------------------------------------------------------------------

_contexts = st.builds(
    ShopperContext,
    segments=st.sampled_from([frozenset[str](), frozenset({"family"})]),
    visits_30_days=st.sampled_from([3, 4, 5]),
    muted_categories=st.sampled_from([frozenset[str](), frozenset({"sweets"})]),
    stopped=st.sampled_from([False, False, False, True]),
)
_STORY = (
    promotion("all", "dairy", "wine", daily_cap=3),
    promotion("family", "dairy", "wine", priority=3, audience=FAMILY, daily_cap=3),
    promotion("others", "dairy", "wine", priority=2, audience=NotOf(FAMILY), daily_cap=3),
    promotion("sweets", "wine", priority=4, category="sweets"),
    promotion("fifth", trigger="nth_visit", visit_number=5, zones=frozenset(), priority=5),
    promotion("bye", "dairy", trigger="exit", audience=FAMILY),
)
_moves = st.lists(
    st.one_of(st.tuples(st.sampled_from(["dairy", "wine"]), st.integers(1, 12)), st.tuples(st.just("told"), st.integers(1, 4))),
    min_size=4,
    max_size=14,
)


def lived(moves: list[tuple[str, int]], known: dict[int, ShopperContext], *, only_news: bool) -> list[tuple[Any, ...]]:
    """Everything that was decided; ``only_news``: messages that a newer one has overtaken, or that came before, never come."""
    store, newest = Visited(*_STORY), 0
    found: list[tuple[Any, ...]] = []
    for where, much in moves:
        if where == "told":
            assert store.tell(much, known[much]) == (much > newest)
            if not only_news:
                for old in range(1, much + 1):
                    store.tell(old, known[old])
            newest = max(newest, much)
        else:
            store.linger(much * TICK_MS / 1000, where)
    for outcome in (*store.outcomes, *store.rests):
        withheld = tuple((each.promotion_id, each.reason) for each in outcome.withheld)
        found.append((outcome.event, outcome.offers, withheld, outcome.context_version, outcome.is_rest))
    return found


@settings(max_examples=40, deadline=None)
@given(moves=_moves, contexts=st.lists(_contexts, min_size=4, max_size=4))
def test_same_events_same_order_same_result_and_old_news_are_harmless(
    moves: list[tuple[str, int]], contexts: list[ShopperContext]
) -> None:
    known = dict(enumerate(contexts, 1))
    once = lived(moves, known, only_news=True)
    assert once == lived(moves, known, only_news=True)
    assert once == lived(moves, known, only_news=False)
    offers = [offer for _, told, *_ in once for offer in told]
    pushes = [offer.visit for offer in offers if offer.push]
    assert len(pushes) == len(set(pushes)), "one push a visit"
    for rule in _STORY:
        assert sum(offer.promotion_id == rule.promotion_id for offer in offers) <= rule.daily_cap
    for event, told, withheld, _, _ in once:
        if not isinstance(event, VisitStarted):
            assert len({offer.promotion_id for offer in told}) == len(told)
            assert len({name for name, _ in withheld}) == len(withheld)
