"""Conditions over a shopper's context: what each leaf says at its boundary, what absence means, and that trees obey logic."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.conditions import (
    AllOf,
    AnyOf,
    Condition,
    ConditionField,
    Leaf,
    LeafFinding,
    NotOf,
    Operator,
    ShopperContext,
    Situation,
    can_hold,
    compiled,
    findings,
    leaves,
    needs_context,
    samples,
)
from gateway.core.money import Money

ANNA = ShopperContext(
    segments=frozenset({"family", "regular"}),
    visits_30_days=5,
    days_since_last_visit=3,
    basket_today=Money(Decimal("50.00"), "EUR"),
    watch_list=frozenset({"4006381333931"}),
    order_state="ready",
    language="de",
)
NEW = ShopperContext()
NOON = Situation(dwell_s=30, local_minute=720)


def euros(text: str) -> Money:
    return Money(Decimal(text), "EUR")


CASES: list[tuple[Leaf, bool, bool]] = [
    (Leaf("segments", "contains", "family"), True, False),
    (Leaf("segments", "contains", "fam"), False, False),
    (Leaf("segments", "contains_any", frozenset({"staff", "regular"})), True, False),
    (Leaf("visits_30_days", "at_least", 5), True, False),
    (Leaf("visits_30_days", "more_than", 5), False, False),
    (Leaf("visits_30_days", "at_most", 5), True, True),
    (Leaf("visits_30_days", "less_than", 5), False, True),
    (Leaf("visits_30_days", "equals", 0), False, True),
    (Leaf("visits_30_days", "not_equals", 0), True, False),
    (Leaf("days_since_last_visit", "at_least", 3), True, False),
    (Leaf("days_since_last_visit", "less_than", 1000), True, False),
    (Leaf("days_since_last_visit", "not_equals", 7), True, False),
    (Leaf("basket_today", "more_than", euros("50.00")), False, False),
    (Leaf("basket_today", "more_than", euros("49.99")), True, False),
    (Leaf("basket_today", "at_least", euros("50")), True, False),
    (Leaf("basket_today", "at_least", Money(Decimal(1), "CHF")), False, False),
    (Leaf("basket_today", "less_than", Money(Decimal(1000), "CHF")), False, False),
    (Leaf("watch_list", "contains", "4006381333931"), True, False),
    (Leaf("order_state", "equals", "ready"), True, False),
    (Leaf("order_state", "is_one_of", frozenset({"placed", "ready"})), True, False),
    (Leaf("order_state", "not_equals", "placed"), True, False),
    (Leaf("language", "equals", "de"), True, False),
    (Leaf("dwell_s", "at_least", 30), True, True),
    (Leaf("dwell_s", "more_than", 30), False, False),
    (Leaf("local_time", "at_least", 720), True, True),
    (Leaf("local_time", "less_than", 720), False, False),
]


@pytest.mark.parametrize(("leaf", "anna", "new"), CASES)
def test_a_leaf(leaf: Leaf, anna: bool, new: bool) -> None:
    assert compiled(leaf)(ANNA, NOON) is anna
    assert compiled(leaf)(NEW, NOON) is new
    assert findings(leaf, ANNA, NOON)[0].holds is anna


def test_each_leaf_is_told_with_what_was_found() -> None:
    tree = AllOf(
        (Leaf("visits_30_days", "at_least", 6), AnyOf((Leaf("language", "equals", "de"), NotOf(Leaf("dwell_s", "at_least", 60)))))
    )
    assert findings(tree, ANNA, NOON) == (
        LeafFinding("all.0", Leaf("visits_30_days", "at_least", 6), 5, False),
        LeafFinding("all.1.any.0", Leaf("language", "equals", "de"), "de", True),
        LeafFinding("all.1.any.1.not", Leaf("dwell_s", "at_least", 60), 30, False),
    )
    without = findings(tree, None, NOON)
    assert [each.found for each in without] == [None, None, 30]


def test_what_the_gateway_knows_by_itself_waits_for_nobody() -> None:
    assert not needs_context(AllOf((Leaf("dwell_s", "at_least", 60), Leaf("local_time", "less_than", 720))))
    assert needs_context(AnyOf((Leaf("dwell_s", "at_least", 60), NotOf(Leaf("segments", "contains", "staff")))))


IMPOSSIBLE: dict[str, Condition] = {
    "more and less": AllOf((Leaf("visits_30_days", "at_least", 5), Leaf("visits_30_days", "less_than", 5))),
    "in and not in": AllOf((Leaf("segments", "contains", "family"), NotOf(Leaf("segments", "contains", "family")))),
    "two languages": AllOf((Leaf("language", "equals", "de"), Leaf("language", "equals", "en"))),
    "two currencies": AllOf(
        (Leaf("basket_today", "at_least", euros("1")), Leaf("basket_today", "at_least", Money(Decimal(1), "CHF")))
    ),
    "a day without that time": Leaf("local_time", "more_than", 1439),
    "new and regular": AllOf((NotOf(Leaf("days_since_last_visit", "at_least", 0)), Leaf("days_since_last_visit", "at_most", 9))),
}
POSSIBLE: dict[str, Condition] = {
    "between": AllOf((Leaf("visits_30_days", "at_least", 5), Leaf("visits_30_days", "less_than", 6))),
    "two segments": AllOf((Leaf("segments", "contains", "a"), Leaf("segments", "contains", "b"))),
    "one without the other": AllOf((Leaf("segments", "contains", "a"), NotOf(Leaf("segments", "contains", "b")))),
    "never here": NotOf(Leaf("days_since_last_visit", "at_least", 0)),
    "fifty": AllOf((Leaf("basket_today", "more_than", euros("50.00")), Leaf("basket_today", "less_than", euros("50.02")))),
    "no order": NotOf(Leaf("order_state", "is_one_of", frozenset({"placed", "ready", "collected", "returned"}))),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_nobody_can_be_meant(name: str) -> None:
    assert not can_hold(IMPOSSIBLE[name])


@pytest.mark.parametrize("name", POSSIBLE)
def test_somebody_can_be_meant(name: str) -> None:
    assert can_hold(POSSIBLE[name])


ORDERINGS: tuple[Operator, ...] = ("equals", "not_equals", "at_least", "at_most", "more_than", "less_than")
COUNTS: tuple[ConditionField, ...] = ("visits_30_days", "days_since_last_visit", "dwell_s")
COUNT_LEAVES = st.builds(Leaf, st.sampled_from(COUNTS), st.sampled_from(ORDERINGS), st.integers(0, 6))
SEGMENT_LEAVES = st.builds(
    Leaf,
    st.just("segments"),
    st.just("contains_any"),
    st.frozensets(st.sampled_from(["a", "b", "c"]), min_size=1),
)
TREES: st.SearchStrategy[Condition] = st.recursive(
    COUNT_LEAVES | SEGMENT_LEAVES,
    lambda inner: (
        st.builds(AllOf, st.lists(inner, min_size=1, max_size=3).map(tuple))
        | st.builds(AnyOf, st.lists(inner, min_size=1, max_size=3).map(tuple))
        | st.builds(NotOf, inner)
    ),
    max_leaves=6,
)
SHOPPERS = st.builds(
    ShopperContext,
    segments=st.frozensets(st.sampled_from(["a", "b", "c"])),
    visits_30_days=st.integers(0, 7),
    days_since_last_visit=st.none() | st.integers(0, 7),
)
SITUATIONS = st.builds(Situation, st.integers(0, 7), st.integers(0, 1439))


def truth(condition: Condition, held: dict[str, bool], path: str = "") -> bool:
    """The logic once more, by paths."""
    before = f"{path}." if path else ""
    match condition:
        case Leaf():
            return held[path]
        case AllOf(parts):
            return min(truth(part, held, f"{before}all.{index}") for index, part in enumerate(parts))
        case AnyOf(parts):
            return max(truth(part, held, f"{before}any.{index}") for index, part in enumerate(parts))
        case NotOf(part):
            return not truth(part, held, f"{before}not")


@given(TREES, SHOPPERS, SITUATIONS)
def test_a_tree_says_what_its_leaves_say(condition: Condition, context: ShopperContext, situation: Situation) -> None:
    found = findings(condition, context, situation)
    assert [(each.path, each.leaf) for each in found] == list(leaves(condition))
    assert compiled(condition)(context, situation) is truth(condition, {each.path: each.holds for each in found})


@given(TREES, SHOPPERS, SITUATIONS)
def test_de_morgan(condition: Condition, context: ShopperContext, situation: Situation) -> None:
    other = Leaf("visits_30_days", "at_least", 3)
    neither = compiled(NotOf(AnyOf((condition, other))))(context, situation)
    assert neither is compiled(AllOf((NotOf(condition), NotOf(other))))(context, situation)


@given(TREES, SHOPPERS, SITUATIONS)
def test_whoever_is_meant_is_not_thought_impossible(condition: Condition, context: ShopperContext, situation: Situation) -> None:
    if compiled(condition)(context, situation):
        assert can_hold(condition)


@given(TREES)
def test_samples_are_bounded_and_the_same_each_time(condition: Condition) -> None:
    few = list(samples(condition, most=50))
    assert 1 <= len(few) <= 51
    assert few == list(samples(condition, most=50))
