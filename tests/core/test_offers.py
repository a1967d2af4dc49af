"""Offers: each promotion of the zone is matched or withheld with one reason, and no order of events gives more than the caps."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC
from itertools import count, pairwise
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.core.model import (
    PUSH_KINDS,
    Circumstances,
    ClockQuality,
    Consent,
    Dwelled,
    Entered,
    Evidence,
    Instant,
    OfferMatched,
    Outcome,
    PastOffer,
    Promotion,
    PromotionKind,
    QuietHours,
    Shop,
    StoreCount,
    TimeWindow,
    Trigger,
    Verdict,
    WithheldReason,
    Zone,
)
from gateway.core.offers import Catalogue, Offers
from gateway.core.timetable import is_in_force
from tests.core.phones import BOTH, entries_held_by

BERLIN = ZoneInfo("Europe/Berlin")
START = Instant(5_000_000, 1_790_000_400_000)
"""A Monday, 14:20 UTC."""
MINUTE_MS = 60_000
SHOP = Shop(
    zones={
        "dairy": Zone("dairy", tags=frozenset({"food", "cool"})),
        "wine": Zone("wine", tags=frozenset({"food"})),
        "pharmacy": Zone("pharmacy", sensitive=True),
    },
    anchors={},
)
EVIDENCE = Evidence(0.9, None, 2.0, ())


def promotion(promotion_id: str, kind: PromotionKind = "offer", **changes: Any) -> Promotion:
    return replace(Promotion(promotion_id, kind, frozenset({"dairy"}), frozenset()), **changes)


def catalogue(
    *promotions: Promotion, quiet: QuietHours | None = None, wall_ms: int = START.wall_ms, version: int = 1
) -> Catalogue:
    return Catalogue(version, promotions, quiet, SHOP, UTC, wall_ms)


def ids() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"offer {next(numbers)}"


def entered(
    zone: str = "dairy", at: Instant = START, visit: str = "v1", shopper: str = "anna", consent: Consent = BOTH
) -> Entered:
    return Entered(shopper, visit, zone, at, consent, EVIDENCE)


def dwelled(dwell_ms: int, at: Instant = START, zone: str = "dairy", visit: str = "v1") -> Dwelled:
    return Dwelled("anna", visit, zone, at, BOTH, at.plus(-dwell_ms), dwell_ms, EVIDENCE)


def match(
    offers: Offers,
    event: Entered | Dwelled,
    promotions: Catalogue,
    *,
    quality: ClockQuality = ClockQuality.SYNCHRONISED,
    conflict: bool = False,
    by_receiver: bool = True,
    listen_only: bool = False,
    is_test: bool = False,
) -> Outcome:
    zone = SHOP.zones[event.zone]
    return offers.match(event, zone, promotions, Circumstances(quality, conflict, by_receiver, listen_only, is_test))


UNPUSHED = {WithheldReason.LOWER_PRIORITY, WithheldReason.CAP_VISIT, WithheldReason.QUIET_HOURS}
"""What leaves a promotion to the silent shelf."""


def result(outcome: Outcome) -> dict[str, str]:
    """What became of each promotion: "push", "card", or the reason."""
    found = {offer.promotion_id: "push" if offer.push else "card" for offer in outcome.offers}
    assert len(found) == len(outcome.offers)
    reasons = {withheld.promotion_id: withheld.reason for withheld in outcome.withheld}
    assert len(reasons) == len(outcome.withheld), "one reason for each"
    for both in found.keys() & reasons.keys():
        assert found[both] == "card"
        assert reasons[both] in UNPUSHED
    return found | {name: reason.value for name, reason in reasons.items()}


def shelf(outcome: Outcome) -> list[str]:
    """What went to the silent shelf."""
    return [offer.promotion_id for offer in outcome.offers if offer.kind != "info" and not offer.push]


def only(outcome: Outcome) -> OfferMatched:
    """The one offer beside those on the shelf."""
    (offer,) = [offer for offer in outcome.offers if offer.promotion_id not in shelf(outcome)]
    return offer


# ---- one event ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("promotions", "expected"),
    [
        pytest.param([], {}, id="nothing here"),
        pytest.param([promotion("a")], {"a": "push"}, id="one"),
        pytest.param(
            [promotion("a", priority=1), promotion("b", priority=2)], {"a": "lower_priority", "b": "push"}, id="priority"
        ),
        pytest.param([promotion("b"), promotion("a")], {"a": "push", "b": "lower_priority"}, id="ties go by id"),
        pytest.param(
            [promotion("a", "info"), promotion("b"), promotion("c", "info")],
            {"a": "card", "b": "push", "c": "card"},
            id="cards cost no push",
        ),
        pytest.param(
            [promotion("a", "pickup"), promotion("b", "service"), promotion("c", "coupon")],
            {"a": "push", "b": "push", "c": "push"},
            id="pickup and service push beside the visit's one push",
        ),
        pytest.param(
            [
                promotion("coupon", "coupon", priority=1),
                promotion("offer"),
                promotion("reminder", "reminder"),
                promotion("survey", "survey"),
            ],
            {"coupon": "push", "offer": "lower_priority", "reminder": "lower_priority", "survey": "lower_priority"},
            id="four kinds share the one push",
        ),
        pytest.param([promotion("a", zones=frozenset({"wine"}))], {}, id="another zone"),
        pytest.param(
            [promotion("a", zones=frozenset(), tags=frozenset({"cool", "hot"}))], {"a": "push"}, id="by one of its tags"
        ),
        pytest.param(
            [promotion("a", zones=frozenset({"gone", "dairy"}))], {"a": "push"}, id="a zone that does not exist is no harm"
        ),
        pytest.param([promotion("a", trigger="dwell", dwell_ms=60_000)], {}, id="waits for dwelling"),
        pytest.param(
            [promotion("a", windows=(TimeWindow(frozenset({0}), 0, 60),))], {"a": "outside_window"}, id="outside its window"
        ),
        pytest.param(
            [promotion("a", cool_down_ms=1, cool_down_group="g"), promotion("b", "info", cool_down_ms=1, cool_down_group="g")],
            {"a": "push", "b": "cool_down"},
            id="the group cools down at once",
        ),
    ],
)
def test_what_an_entry_brings(promotions: list[Promotion], expected: dict[str, str]) -> None:
    assert result(match(Offers(ids()), entered(), catalogue(*promotions))) == expected


WINDOW_NOW = (TimeWindow(frozenset(range(7)), 0, 1440),)
WINDOW_NEVER = (TimeWindow(frozenset(), 0, 1440),)
HOLDOVER = ClockQuality.HOLDOVER
ALWAYS_QUIET = QuietHours(0, 0)


@pytest.mark.parametrize(
    ("rule", "event", "options", "quiet", "expected"),
    [
        pytest.param(promotion("a"), entered(consent=Consent.ANALYTICS), {}, None, "no_consent", id="no consent to offers"),
        pytest.param(promotion("a", "info"), entered(consent=Consent.ANALYTICS), {}, None, "no_consent", id="nor to cards"),
        pytest.param(promotion("a"), entered(consent=Consent.OFFERS), {}, None, "push", id="offers without analytics"),
        pytest.param(
            promotion("a", windows=WINDOW_NEVER),
            entered(consent=Consent.ANALYTICS),
            {"conflict": True},
            None,
            "no_consent",
            id="consent comes before everything",
        ),
        pytest.param(promotion("a", windows=WINDOW_NOW), entered(), {"quality": HOLDOVER}, None, "clock_holdover", id="holdover"),
        pytest.param(
            promotion("a", effective_from_ms=0), entered(), {"quality": HOLDOVER}, None, "clock_holdover", id="holdover, dates"
        ),
        pytest.param(promotion("a"), entered(), {"quality": HOLDOVER}, None, "push", id="holdover, not limited in time"),
        pytest.param(promotion("a"), entered(), {"conflict": True}, None, "conflict", id="conflict"),
        pytest.param(promotion("a", "info"), entered(), {"conflict": True}, None, "conflict", id="conflict, card"),
        pytest.param(promotion("a"), entered(), {"by_receiver": False}, None, "push", id="by hints alone"),
        pytest.param(
            promotion("a", sensitive=True), entered(), {"by_receiver": False}, None, "hint_only", id="sensitive by hints"
        ),
        pytest.param(promotion("a", sensitive=True), entered(), {}, None, "push", id="sensitive by receiver"),
        pytest.param(
            promotion("a", zones=frozenset({"pharmacy"})),
            entered("pharmacy"),
            {"by_receiver": False},
            None,
            "hint_only",
            id="sensitive zone by hints",
        ),
        pytest.param(promotion("a"), entered(), {}, ALWAYS_QUIET, "quiet_hours", id="quiet hours"),
        pytest.param(promotion("a", "pickup"), entered(), {}, ALWAYS_QUIET, "quiet_hours", id="quiet hours, pickup too"),
        pytest.param(promotion("a", "info"), entered(), {}, ALWAYS_QUIET, "card", id="quiet hours, the shelf may show it"),
    ],
)
def test_why_one_promotion_is_withheld(
    rule: Promotion, event: Entered, options: dict[str, Any], quiet: QuietHours | None, expected: str
) -> None:
    assert result(match(Offers(ids()), event, catalogue(rule, quiet=quiet), **options)) == {"a": expected}


def test_an_offer_says_all_that_central_needs() -> None:
    rule = promotion("a", deadline_ms=12_000, cool_down_ms=7, cool_down_group="g")
    offer = only(match(Offers(ids()), entered(), catalogue(rule, version=42)))
    assert offer == OfferMatched("offer 1", "anna", "v1", "dairy", "a", "offer", START, START.plus(12_000), True, "g", 7, 42)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (entered(), {"enter": "push"}),
        (dwelled(60_000), {"one minute": "push"}),
        (dwelled(120_000), {"two minutes": "push"}),
        (dwelled(90_000), {}),
    ],
)
def test_each_trigger_asks_for_its_own_promotions(event: Entered | Dwelled, expected: dict[str, str]) -> None:
    promotions = catalogue(
        promotion("enter"),
        promotion("one minute", trigger="dwell", dwell_ms=60_000),
        promotion("two minutes", trigger="dwell", dwell_ms=120_000, zones=frozenset({"dairy", "wine"})),
    )
    assert promotions.dwells() == {"dairy": {60_000, 120_000}, "wine": {120_000}}
    assert result(match(Offers(ids()), event, promotions)) == expected


# ---- budgets over time --------------------------------------------------------------------------------------------------------


def test_one_push_a_visit_across_zones_and_triggers() -> None:
    offers = Offers(ids())
    promotions = catalogue(
        promotion("a"),
        promotion("b", zones=frozenset({"wine"})),
        promotion("c", "info", zones=frozenset({"wine"})),
        promotion("d", "pickup", zones=frozenset({"wine"})),
        promotion("e", "coupon", trigger="dwell", dwell_ms=1000),
    )
    assert result(match(offers, entered(), promotions)) == {"a": "push"}
    assert result(match(offers, dwelled(1000, START.plus(1000)), promotions)) == {"e": "cap_visit"}
    assert result(match(offers, entered("wine", START.plus(9000)), promotions)) == {"b": "cap_visit", "c": "card", "d": "push"}
    assert result(match(offers, entered("wine", visit="v9", shopper="zoe"), promotions))["b"] == "push", "zoe has her own"
    later = result(match(offers, entered("wine", START.plus(3_600_000), visit="v2"), promotions))
    assert later == {"b": "cap_day", "c": "cap_day", "d": "cap_day"}, "it has been on the shelf"
    assert result(match(offers, dwelled(1000, START.plus(3_600_000), visit="v2"), promotions)) == {"e": "cap_day"}
    assert result(match(offers, entered(at=START.plus(1), visit="v2", shopper="zoe"), promotions)) == {"a": "push"}, "a new visit"


def test_the_daily_cap() -> None:
    offers, promotions = Offers(ids()), catalogue(promotion("a", daily_cap=2), promotion("card", "info", daily_cap=1))
    results = [result(match(offers, entered(at=START.plus(n), visit=f"v{n}"), promotions)) for n in range(4)]
    assert [each["a"] for each in results] == ["push", "push", "cap_day", "cap_day"]
    assert [each["card"] for each in results] == ["card", "cap_day", "cap_day", "cap_day"]


@pytest.mark.parametrize(
    ("after_ms", "expected"), [(0, "cool_down"), (599_999, "cool_down"), (600_000, "push"), (700_000, "push")]
)
@pytest.mark.parametrize("group", ["", "sweets"])
def test_the_cool_down(after_ms: int, expected: str, group: str) -> None:
    offers = Offers(ids())
    rule = promotion("a", daily_cap=9, cool_down_ms=600_000, cool_down_group=group)
    other = replace(rule, promotion_id="b", zones=frozenset({"wine"}))
    promotions = catalogue(rule, other)
    match(offers, entered(), promotions)
    later = START.plus(after_ms)
    assert result(match(offers, entered("wine", later, "v2"), promotions))["b"] == (expected if group else "push")
    if not group:
        assert result(match(offers, entered("dairy", later, "v3"), promotions))["a"] == expected


# ---- central's answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "reason", "given_back"),
    [
        ("granted", "", False),
        ("refused", "sold_out", True),
        ("refused", "", True),
        ("refused", "already_granted", False),
        ("refused", "push_spent", False),
    ],
)
def test_what_an_answer_gives_back(state: Literal["granted", "refused"], reason: str, given_back: bool) -> None:
    offers = Offers(ids())
    promotions = catalogue(promotion("a", cool_down_ms=600_000, cool_down_group="g"))
    other = catalogue(promotion("b", cool_down_ms=600_000, cool_down_group="g"))
    without = catalogue(promotion("c"))
    offer = only(match(offers, entered(), promotions))
    assert offers.decide(Verdict(offer.offer, state, reason))
    later = entered(at=START.plus(1000))
    assert result(match(offers, later, promotions))["a"] == ("push" if given_back else "cap_day")
    if not given_back:
        assert result(match(offers, later, other))["b"] == "cool_down"
        assert result(match(offers, later, without))["c"] == "cap_visit"


def test_an_answer_counts_once() -> None:
    offers, promotions = Offers(ids()), catalogue(promotion("a", daily_cap=2))
    first = only(match(offers, entered(), promotions))
    second = only(match(offers, entered(visit="v2"), promotions))
    assert [offers.decide(Verdict(first.offer, "refused")) for _ in range(3)] == [True, False, False]
    assert not offers.decide(Verdict("never heard of", "refused"))
    assert [result(match(offers, entered(visit=f"v{n}"), promotions))["a"] for n in (3, 4)] == ["push", "cap_day"]
    assert offers.decide(Verdict(second.offer, "granted"))


@pytest.mark.parametrize(("after_ms", "late"), [(29_999, False), (30_000, False), (30_001, True)])
def test_no_answer_before_the_deadline_is_late(after_ms: int, late: bool) -> None:
    offers, promotions = Offers(ids()), catalogue(promotion("a"))
    offer = only(match(offers, entered(), promotions))
    assert offers.next_deadline_ms() == START.mono_ms + 30_001
    assert offers.tick(START.plus(after_ms)) == ([Verdict(offer.offer, "late", "late")] if late else [])
    assert offers.tick(START.plus(after_ms)) == [], "told once"
    assert offers.decide(Verdict(offer.offer, "refused")) != late, "an answer after the deadline counts for nothing"
    assert offers.next_deadline_ms() is None


def test_late_keeps_push_cap_and_cool_down() -> None:
    """Central may have granted it, and only the answer was lost."""
    offers = Offers(ids())
    offer = only(match(offers, entered(), catalogue(promotion("a", cool_down_ms=600_000, cool_down_group="g"))))
    assert offers.tick(START.plus(31_000)) == [Verdict(offer.offer, "late", "late")]
    offers.decide(Verdict(offer.offer, "refused"))
    promotions = catalogue(promotion("a"), promotion("b", cool_down_ms=1, cool_down_group="g"), promotion("c"))
    assert result(match(offers, entered(at=START.plus(32_000)), promotions)) == {
        "a": "cap_day",
        "b": "cool_down",
        "c": "cap_visit",
    }


def test_a_refusal_does_not_end_a_later_cool_down_of_the_group() -> None:
    offers = Offers(ids())
    rule = promotion("a", daily_cap=9, cool_down_ms=1000, cool_down_group="g", deadline_ms=60_000)
    first = only(match(offers, entered(), catalogue(rule)))
    match(offers, entered(at=START.plus(1000), visit="v2"), catalogue(rule))
    offers.decide(Verdict(first.offer, "refused"))
    assert result(match(offers, entered(at=START.plus(1999), visit="v3"), catalogue(rule))) == {"a": "cool_down"}


def test_a_refusal_does_not_give_back_what_another_visit_spent() -> None:
    offers, promotions = Offers(ids()), catalogue(promotion("a", daily_cap=9))
    first = only(match(offers, entered(), promotions))
    match(offers, entered(visit="v2"), promotions)
    offers.decide(Verdict(first.offer, "refused"))
    assert result(match(offers, entered(visit="v2"), promotions)) == {"a": "cap_visit"}
    assert result(match(offers, entered(visit="v1"), promotions)) == {"a": "push"}


def test_forgetting_a_shopper_forgets_what_was_proposed() -> None:
    offers, promotions = Offers(ids()), catalogue(promotion("a", cool_down_ms=1000))
    empty = entries_held_by(offers)
    offer = only(match(offers, entered(), promotions))
    offers.forget("anna")
    offers.forget("nobody")
    assert entries_held_by(offers) == empty
    assert not offers.decide(Verdict(offer.offer, "refused"))
    assert offers.tick(START.plus(60_000)) == []


def test_a_pseudonym_is_forgotten_when_its_day_is_over() -> None:
    offers, promotions = Offers(ids()), catalogue(promotion("a"), promotion("b", "info", cool_down_ms=1))
    empty = entries_held_by(offers)
    for number in range(100):
        match(offers, entered(shopper=f"shopper {number}", at=START.plus(number)), promotions)
    offers.tick(START.plus(25 * 3_600_000))
    assert result(match(offers, entered(at=START.plus(99), shopper="shopper 99"), promotions))["a"] == "cap_day"
    offers.tick(START.plus(26 * 3_600_000 + 100))
    assert entries_held_by(offers) == empty


# ---- restart ------------------------------------------------------------------------------------------------------------------

PAST = PastOffer("offer 0", "anna", "v1", "a", "offer", "g", 600_000, START.wall_ms - 60_000, START.wall_ms - 30_000, "granted")


@pytest.mark.parametrize(
    ("past", "expected"),
    [
        pytest.param(PAST, {"a": "cap_day", "b": "cool_down", "c": "cap_visit"}, id="granted"),
        pytest.param(replace(PAST, state="late"), {"a": "cap_day", "b": "cool_down", "c": "cap_visit"}, id="late"),
        pytest.param(replace(PAST, state="proposed"), {"a": "cap_day", "b": "cool_down", "c": "cap_visit"}, id="not answered"),
        pytest.param(replace(PAST, state="refused"), {"a": "push", "b": "lower_priority", "c": "lower_priority"}, id="refused"),
        pytest.param(replace(PAST, kind="info"), {"a": "cap_day", "b": "cool_down", "c": "push"}, id="a card spent no push"),
        pytest.param(replace(PAST, visit="v0"), {"a": "cap_day", "b": "cool_down", "c": "push"}, id="an earlier visit"),
        pytest.param(replace(PAST, cool_down_ms=0), {"a": "cap_day", "b": "cap_visit", "c": "cap_visit"}, id="no cool-down"),
        pytest.param(
            replace(PAST, cool_down_ms=60_000), {"a": "cap_day", "b": "cap_visit", "c": "cap_visit"}, id="cool-down over"
        ),
        pytest.param(
            replace(PAST, shopper="zoe"), {"a": "push", "b": "lower_priority", "c": "lower_priority"}, id="another shopper's"
        ),
        pytest.param(
            replace(PAST, wall_ms=START.wall_ms + 86_400_000, cool_down_ms=1),
            {"a": "cap_day", "b": "cool_down", "c": "cap_visit"},
            id="the wall clock is behind",
        ),
    ],
)
def test_a_restart_forgets_no_cap(past: PastOffer, expected: dict[str, str]) -> None:
    offers = Offers(ids())
    offers.remember([past], START)
    promotions = catalogue(promotion("a"), promotion("b", cool_down_group="g"), promotion("c"))
    assert result(match(offers, entered(), promotions)) == expected


def test_the_longest_cool_down_is_remembered_in_any_order() -> None:
    older = replace(PAST, offer="offer -1", wall_ms=START.wall_ms - 599_000, visit="v0")
    for remembered in ([older, PAST], [PAST, older]):
        offers = Offers(ids())
        offers.remember(remembered, START)
        later = entered(at=START.plus(2000), visit="v2")
        assert result(match(offers, later, catalogue(promotion("b", cool_down_group="g")))) == {"b": "cool_down"}


@pytest.mark.parametrize("refused", ["offer 0", "offer -1"])
@pytest.mark.parametrize("states", [("proposed", "proposed"), ("proposed", "granted"), ("granted", "proposed")])
def test_a_refusal_ends_no_cool_down_but_its_own(refused: str, states: tuple[Literal["proposed", "granted"], ...]) -> None:
    """Of two offers of a group: on a calendar that jumped and came back both may be cooling down after a restart."""
    answered = dict(zip(("offer 0", "offer -1"), states, strict=True))
    both = [replace(PAST, offer=offer, state=state, visit=offer) for offer, state in answered.items()]
    offers = Offers(ids())
    offers.remember(both, START)
    offers.decide(Verdict(refused, "refused", "sold_out"))
    cools = [offer for offer, state in answered.items() if offer != refused or state == "granted"]
    later = entered(at=START.plus(2000), visit="v2")
    reason = "cool_down" if cools else "push"
    assert result(match(offers, later, catalogue(promotion("b", cool_down_group="g")))) == {"b": reason}
    for offer in cools:
        offers.decide(Verdict(offer, "refused", "sold_out"))
    held = offers.held(promotion("b", cool_down_group="g"), later)
    assert (held.cooling is None) == ("granted" not in states)


def test_after_a_restart_answers_and_deadlines_still_count() -> None:
    waiting = replace(PAST, state="proposed", deadline_wall_ms=START.wall_ms + 5000)
    offers = Offers(ids())
    offers.remember([waiting, replace(waiting, offer="offer -1", visit="v0", deadline_wall_ms=START.wall_ms - 1)], START)
    assert offers.tick(START) == [Verdict("offer -1", "late", "late")]
    assert offers.next_deadline_ms() == START.mono_ms + 5001
    assert offers.decide(Verdict(waiting.offer, "refused", "sold_out"))
    assert result(match(offers, entered(), catalogue(promotion("c")))) == {"c": "push"}


# ---- catalogue ----------------------------------------------------------------------------------------------------------------


def in_force(promotions: Catalogue) -> set[str]:
    return {rule.promotion_id for zone in SHOP.zones for rule, now in promotions.in_zone(zone) if now}


def test_advance_follows_the_windows_and_a_clock_that_goes_back() -> None:
    morning, evening = TimeWindow(frozenset(range(7)), 540, 720), TimeWindow(frozenset(range(7)), 1080, 1200)
    day_ms = START.wall_ms // 86_400_000 * 86_400_000
    hour_ms = 3_600_000
    promotions = catalogue(
        promotion("always"),
        promotion("morning", windows=(morning,)),
        promotion("evening", windows=(evening,)),
        promotion("from noon", effective_from_ms=day_ms + 12 * hour_ms),
        promotion("until noon", effective_until_ms=day_ms + 12 * hour_ms),
        wall_ms=day_ms,
    )
    for hour, expected in [
        (0, {"until noon"}),
        (8.999, {"until noon"}),
        (9, {"until noon", "morning"}),
        (12, {"from noon"}),
        (19, {"from noon", "evening"}),
        (24 + 10, {"from noon", "morning"}),
        (20 * 24, {"from noon"}),
        (10, {"until noon", "morning"}),
        (9, {"until noon", "morning"}),
        (8, {"until noon"}),
        (18, {"from noon", "evening"}),
    ]:
        promotions.advance(day_ms + round(hour * hour_ms))
        assert in_force(promotions) == {"always"} | expected, hour


windows = st.builds(TimeWindow, st.frozensets(st.integers(0, 6), min_size=1), st.integers(0, 1439), st.integers(0, 1440))
day_moments = st.integers(START.wall_ms - 86_400_000, START.wall_ms + 86_400_000)


@given(
    rules=st.lists(st.tuples(st.lists(windows, max_size=2), st.none() | day_moments, st.none() | day_moments), max_size=5),
    steps=st.lists(st.one_of(st.integers(0, 3_600_000), st.integers(-5 * 86_400_000, 9 * 86_400_000)), max_size=10),
)
@settings(max_examples=60)
def test_advancing_by_any_steps_agrees_with_asking_the_timetable(
    rules: list[tuple[list[TimeWindow], int | None, int | None]], steps: list[int]
) -> None:
    promotions = [
        promotion(str(number), windows=tuple(allowed), effective_from_ms=since, effective_until_ms=until)
        for number, (allowed, since, until) in enumerate(rules)
    ]
    wall_ms = START.wall_ms
    compiled = Catalogue(1, promotions, None, SHOP, BERLIN, wall_ms)
    for step in steps:
        wall_ms += step
        compiled.advance(wall_ms)
        assert in_force(compiled) == {rule.promotion_id for rule in promotions if is_in_force(rule, wall_ms, BERLIN)}


kinds = st.sampled_from(["offer", "info", "coupon", "pickup", "reminder", "service", "survey"])
promotions_of_any_kind = st.lists(
    st.builds(
        promotion,
        st.text("abcdef", min_size=1, max_size=3),
        kinds,
        zones=st.frozensets(st.sampled_from([*SHOP.zones, "gone"])),
        tags=st.frozensets(st.sampled_from(["food", "cool", "none"])),
        trigger=st.sampled_from(["enter", "dwell"]),
        dwell_ms=st.sampled_from([1000, 2000]),
        priority=st.integers(-2, 2),
        windows=st.sampled_from([(), WINDOW_NOW, WINDOW_NEVER]),
        sensitive=st.booleans(),
        cool_down_ms=st.sampled_from([0, 1000]),
        cool_down_group=st.sampled_from(["", "g"]),
    ),
    max_size=8,
    unique_by=lambda rule: rule.promotion_id,
)
events = st.one_of(
    st.builds(
        entered,
        st.sampled_from(list(SHOP.zones)),
        consent=st.sampled_from([Consent.NONE, Consent.OFFERS, Consent.ANALYTICS, BOTH]),
    ),
    st.builds(dwelled, st.sampled_from([1000, 2000, 3000]), zone=st.sampled_from(list(SHOP.zones))),
)


@given(
    promotions=promotions_of_any_kind,
    seed=st.randoms(use_true_random=False),
    story=st.lists(events, max_size=5),
    told=st.fixed_dictionaries(
        {name: st.booleans() for name in ("conflict", "by_receiver", "listen_only", "is_test")}
        | {"quality": st.sampled_from(list(ClockQuality))}
    ),
    quiet=st.sampled_from([None, ALWAYS_QUIET]),
)
def test_each_promotion_of_the_zone_gets_one_answer_and_always_the_same(
    promotions: list[Promotion], seed: Any, story: list[Entered | Dwelled], told: dict[str, Any], quiet: QuietHours | None
) -> None:
    shuffled = list(promotions)
    seed.shuffle(shuffled)
    first, second = Offers(ids()), Offers(ids())
    for event in story:
        outcome = match(first, event, catalogue(*promotions, quiet=quiet), **told)
        assert outcome == match(second, event, catalogue(*shuffled, quiet=quiet), **told)
        asked = {
            rule.promotion_id
            for rule in promotions
            if (event.zone in rule.zones or rule.tags & SHOP.zones[event.zone].tags)
            and (
                rule.trigger == "enter"
                if isinstance(event, Entered)
                else rule.trigger == "dwell" and rule.dwell_ms == event.dwell_ms
            )
        }
        assert result(outcome).keys() == asked
        assert sum(offer.push and offer.kind in PUSH_KINDS for offer in outcome.offers) <= 1
        assert all(offer.push == (offer.kind != "info") for offer in outcome.offers if offer.promotion_id not in shelf(outcome))
        assert quiet is None or not any(offer.push for offer in outcome.offers)
        assert not outcome.offers or (event.consent & Consent.OFFERS and not told["listen_only"])


tags = st.frozensets(st.sampled_from(["food", "cool", "hot"]))


@given(
    zones=st.dictionaries(st.sampled_from("abcdefgh"), tags),
    named=st.frozensets(st.sampled_from("abcxyz")),
    tagged=tags,
    trigger=st.sampled_from(["enter", "visit_start", "nth_visit"]),
)
def test_a_promotion_applies_to_the_zones_that_it_names_or_tags_in_the_shops_order(
    zones: dict[str, frozenset[str]], named: frozenset[str], tagged: frozenset[str], trigger: Trigger
) -> None:
    shop = Shop({name: Zone(name, tags=tags) for name, tags in zones.items()}, {})
    rule = promotion("a", zones=named, tags=tagged, trigger=trigger)
    [(_, found, _)] = Catalogue(1, [rule], None, shop, UTC, START.wall_ms).everything()
    everywhere = trigger != "enter" and not named and not tagged
    assert found == tuple(name for name, tags in zones.items() if everywhere or name in named or tags & tagged)


def test_for_a_test_shopper_neither_cap_nor_cool_down_nor_the_visits_push_is_ever_spent() -> None:
    offers = Offers(ids())
    rules = catalogue(promotion("cheese", cool_down_ms=60_000), promotion("wine", "info"), promotion("bread", priority=-1))
    expected = {"cheese": "push", "wine": "card", "bread": "lower_priority"}
    for again in range(3):
        at = START.plus(again * 1000)
        assert result(match(offers, entered(at=at), rules, is_test=True)) == expected
    assert result(match(offers, entered(at=START.plus(4000)), rules)) == expected, "and nobody else's count has moved"


@pytest.mark.parametrize("consent", [Consent.NONE, BOTH])
def test_who_only_listens_offers_nothing_and_says_why(consent: Consent) -> None:
    outcome = match(Offers(ids()), entered(consent=consent), catalogue(promotion("a"), promotion("b", "info")), listen_only=True)
    reason = "listen_only" if consent else "no_consent"
    assert result(outcome) == {"a": reason, "b": reason}


# ---- any order of visits, answers, lateness and restarts ----------------------------------------------------------------------


@dataclass
class Given:
    """One line of the reference model's list: an offer, and what became of it."""

    offer: OfferMatched
    state: Literal["proposed", "granted", "refused", "late"] = "proposed"
    keeps: bool = True
    """Whether it still counts against push, cap and cool-down."""
    reason: str = ""


RULES = (
    promotion("cheese", priority=5, daily_cap=2, cool_down_ms=10 * MINUTE_MS, deadline_ms=5 * MINUTE_MS),
    promotion("yoghurt", "coupon", priority=3, cool_down_ms=MINUTE_MS, cool_down_group="sweet", daily_cap=3, deadline_ms=600_000),
    promotion("milk", "info", daily_cap=3, store_cap_day=4),
    promotion("cream", "info", cool_down_ms=2 * MINUTE_MS, cool_down_group="sweet", daily_cap=9, deadline_ms=600_000),
    promotion("order", "pickup", zones=frozenset({"dairy", "wine"}), daily_cap=2, visit_cap=1),
    promotion("riesling", zones=frozenset({"wine"}), daily_cap=2, cool_down_ms=1000, cool_down_group="wine"),
    promotion("food", "reminder", zones=frozenset(), tags=frozenset({"food"}), priority=-1, daily_cap=3),
)
QUIET = QuietHours(15 * 60, 15 * 60 + 20)
REFUSALS = ["sold_out", "not_for_this_shopper", "already_granted", "push_spent", "holdout"]


class AnyOrder(RuleBasedStateMachine):
    """Offers against a list of everything that was ever given, from which each answer is worked out anew."""

    @initialize()
    def open(self) -> None:
        self.new_id = ids()
        self.offers = Offers(self.new_id)
        self.catalogue = catalogue(*RULES, quiet=QUIET)
        self.now = START
        self.given: list[Given] = []
        self.milk = 0
        """Offers of it that count for the store's cap, also to those who withdrew."""
        self.held_out: set[tuple[str, str]] = set()
        """Shoppers and promotions that central refuses for good."""
        self.visits = {"anna": 0, "zoe": 0}

    def of(self, shopper: str) -> list[Given]:
        return [each for each in self.given if each.offer.shopper == shopper and each.keeps]

    def expected(self, shopper: str, zone: str) -> tuple[dict[str, str], list[str]]:
        """What becomes of each promotion, and what goes to the silent shelf."""
        found: dict[str, str] = {}
        shelved: list[str] = []
        visit = f"{shopper} {self.visits[shopper]}"
        mine = [each.offer for each in self.of(shopper)]
        cooling = {o.cool_down_group for o in mine if self.now.mono_ms < o.at.mono_ms + o.cool_down_ms}
        pushed_before = any(offer.visit == visit and offer.push and offer.kind in PUSH_KINDS for offer in mine)
        pushed_now = False
        for each in sorted(RULES, key=lambda each: (-each.priority, each.promotion_id)):
            group = each.cool_down_group or f"promotion:{each.promotion_id}"
            minute = self.now.wall_ms // MINUTE_MS % 1440
            if zone not in each.zones and not each.tags & SHOP.zones[zone].tags:
                continue
            if sum(offer.promotion_id == each.promotion_id for offer in mine) >= each.daily_cap:
                found[each.promotion_id] = "cap_day"
            elif (shopper, each.promotion_id) in self.held_out:
                found[each.promotion_id] = "refused_by_central"
            elif group in cooling:
                found[each.promotion_id] = "cool_down"
            elif each.visit_cap and sum((o.visit, o.promotion_id) == (visit, each.promotion_id) for o in mine) >= each.visit_cap:
                found[each.promotion_id] = "cap_visit"
            elif each.store_cap_day is not None and self.milk >= each.store_cap_day:
                found[each.promotion_id] = "cap_store"
            elif each.kind != "info" and QUIET.start_minute <= minute < QUIET.end_minute:
                found[each.promotion_id] = "quiet_hours"
            elif each.kind in PUSH_KINDS and pushed_now:
                found[each.promotion_id] = "lower_priority"
            elif each.kind in PUSH_KINDS and pushed_before:
                found[each.promotion_id] = "cap_visit"
            else:
                found[each.promotion_id] = "card" if each.kind == "info" else "push"
                pushed_now = pushed_now or each.kind in PUSH_KINDS
                cooling |= {group} if each.cool_down_ms else set()
            if found[each.promotion_id] in {"quiet_hours", "lower_priority"} or (
                found[each.promotion_id] == "cap_visit" and each.visit_cap is None
            ):
                shelved.append(each.promotion_id)
                cooling |= {group} if each.cool_down_ms else set()
        return found, shelved

    @rule(shopper=st.sampled_from(["anna", "zoe"]), zone=st.sampled_from(["dairy", "wine"]))
    def enter(self, shopper: str, zone: str) -> None:
        expected = self.expected(shopper, zone)
        visit = f"{shopper} {self.visits[shopper]}"
        outcome = match(self.offers, entered(zone, self.now, visit, shopper), self.catalogue)
        assert (result(outcome), shelf(outcome)) == expected
        self.given += [Given(offer) for offer in outcome.offers]
        self.milk += sum(offer.promotion_id == "milk" for offer in outcome.offers)

    @rule(shopper=st.sampled_from(["anna", "zoe"]))
    def come_again(self, shopper: str) -> None:
        self.visits[shopper] += 1

    @rule(ms=st.sampled_from([1, 999, 1000, 29_999, 30_000, 30_001, MINUTE_MS, 4 * MINUTE_MS, 11 * MINUTE_MS]))
    def wait(self, ms: int) -> None:
        self.now = self.now.plus(ms)
        late = [each for each in self.given if each.state == "proposed" and each.offer.deadline.mono_ms < self.now.mono_ms]
        told = self.offers.tick(self.now)
        assert sorted(verdict.offer for verdict in told) == sorted(each.offer.offer for each in late)
        for each in late:
            each.state = "late"

    @rule(number=st.integers(0, 50), answer=st.sampled_from(["granted", *REFUSALS]))
    def answer(self, number: int, answer: str) -> None:
        """Any offer, the newest first: also one that was answered or is late already."""
        if not self.given:
            return
        each = self.given[-1 - number % len(self.given)]
        state: Literal["granted", "refused"] = "granted" if answer == "granted" else "refused"
        assert self.offers.decide(Verdict(each.offer.offer, state, answer)) == (each.state == "proposed")
        if each.state == "proposed":
            each.state = state
            each.keeps = state == "granted" or answer in {"already_granted", "push_spent"}
            self.milk -= each.offer.promotion_id == "milk" and not each.keeps
            if answer == "holdout":
                self.held_out.add((each.offer.shopper, each.offer.promotion_id))
                each.reason = answer

    @rule()
    def restart(self) -> None:
        """A new process with another monotonic clock; a refusal that gives nothing back comes back as spent."""
        moved_ms = 1_234_567
        self.now = Instant(self.now.mono_ms + moved_ms, self.now.wall_ms)
        for each in self.given:
            at, deadline = each.offer.at, each.offer.deadline
            each.offer = replace(
                each.offer,
                at=Instant(at.mono_ms + moved_ms, at.wall_ms),
                deadline=Instant(deadline.mono_ms + moved_ms, deadline.wall_ms),
            )
        self.offers = Offers(self.new_id)
        self.offers.remember(self.past(), self.now, [StoreCount("milk", START.wall_ms // 86_400_000, self.milk)])

    def past(self) -> Iterable[PastOffer]:
        for each in self.given:
            o = each.offer
            yield PastOffer(
                o.offer,
                o.shopper,
                o.visit,
                o.promotion_id,
                o.kind,
                o.cool_down_group,
                o.cool_down_ms,
                o.at.wall_ms,
                o.deadline.wall_ms,
                "late" if each.state == "refused" and each.keeps else each.state,
                o.push,
                each.reason,
            )

    @rule(shopper=st.sampled_from(["anna", "zoe"]))
    def withdraw(self, shopper: str) -> None:
        self.offers.forget(shopper)
        self.given = [each for each in self.given if each.offer.shopper != shopper]
        self.held_out = {each for each in self.held_out if each[0] != shopper}

    @invariant()
    def no_visit_has_two_pushes_and_no_day_too_many(self) -> None:
        pushes = [each.offer.visit for each in self.given if each.keeps and each.offer.push and each.offer.kind in PUSH_KINDS]
        assert len(pushes) == len(set(pushes))
        for each in RULES:
            for shopper in self.visits:
                had = [given for given in self.of(shopper) if given.offer.promotion_id == each.promotion_id]
                assert len(had) <= each.daily_cap
                times = sorted(given.offer.at.mono_ms for given in had)
                assert all(later - earlier >= each.cool_down_ms for earlier, later in pairwise(times))

    @invariant()
    def the_next_deadline_is_the_earliest(self) -> None:
        waiting = [each.offer.deadline.mono_ms + 1 for each in self.given if each.state == "proposed"]
        assert self.offers.next_deadline_ms() == min(waiting, default=None)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=80, stateful_step_count=40)


def test_reasons_are_the_codes_that_the_ledger_counts() -> None:
    assert {reason.value for reason in WithheldReason} >= {"late", "refused_by_central", "cap_visit", "lower_priority"}
