"""Audiences as marketing writes them: what is accepted, what is refused with which path, and what they mean."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from gateway.contract.audience import MOST_LEAVES, MOST_LEVELS, Audience, compiled
from gateway.contract.fields import explain
from gateway.core.conditions import AllOf, AnyOf, Leaf, NotOf
from gateway.core.money import Money

AUDIENCE: TypeAdapter[Audience] = TypeAdapter(Audience)


def leaf(field: str, operator: str, value: Any) -> dict[str, Any]:
    return {"field": field, "operator": operator, "value": value}


FAMILY = leaf("segments", "contains", "family")

REFUSED = {
    "a field nobody knows": (leaf("income", "at_least", 5), "all, any, not, or a leaf"),
    "no field": ({"operator": "equals", "value": 1}, "all, any, not, or a leaf"),
    "an operator that the field does not have": (leaf("segments", "at_least", "family"), "segments.operator"),
    "a number as text": (leaf("visits_30_days", "at_least", "5"), "count.value"),
    "a number with a fraction": (leaf("visits_30_days", "at_least", 2.5), "count.value"),
    "a truth as number": (leaf("visits_30_days", "at_least", True), "count.value"),
    "less than nothing": (leaf("dwell_s", "at_least", -1), "count.value"),
    "money without a currency": (leaf("basket_today", "more_than", "50"), "basket_today.value"),
    "money as a float": (leaf("basket_today", "more_than", 50.0), "basket_today.value"),
    "a time that no clock shows": (leaf("local_time", "at_least", "25:00"), "local_time.value"),
    "a product with a wrong check digit": (leaf("watch_list", "contains", "4006381333932"), "check digit"),
    "a list where one value belongs": (leaf("segments", "contains", ["family"]), "operator contains needs one value"),
    "one value where a list belongs": (leaf("segments", "contains_any", "family"), "operator contains_any needs a list"),
    "an empty list": (leaf("segments", "contains_any", []), "segments.value"),
    "an order state that is none": (leaf("order_state", "equals", "lost"), "order_state.value"),
    "all of nothing": ({"all": []}, "all.all"),
    "two meanings at once": ({"all": [FAMILY], "any": [FAMILY]}, "any"),
    "a mistake deep inside": ({"all": [FAMILY, {"any": [{"not": leaf("language", "equals", "fr")}]}]}, "all.1.any.any.0.not.not"),
    "text": ("visits_30_days >= 5", "all, any, not"),
    "nothing": (None, "all, any, not"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_its_path(name: str) -> None:
    raw, says = REFUSED[name]
    with pytest.raises(ValidationError) as refused:
        AUDIENCE.validate_python(raw)
    assert says in explain(refused.value)


def test_what_it_means() -> None:
    raw = {
        "all": [
            leaf("visits_30_days", "at_least", 5),
            {"any": [FAMILY, leaf("basket_today", "more_than", "50.00 EUR")]},
            {"not": leaf("local_time", "less_than", "17:00")},
            leaf("order_state", "is_one_of", ["placed", "ready"]),
        ]
    }
    audience = AUDIENCE.validate_python(raw)
    fifty = Money(compiled_amount("50.00"), "EUR")
    assert compiled(audience) == AllOf(
        (
            Leaf("visits_30_days", "at_least", 5),
            AnyOf((Leaf("segments", "contains", "family"), Leaf("basket_today", "more_than", fifty))),
            NotOf(Leaf("local_time", "less_than", 17 * 60)),
            Leaf("order_state", "is_one_of", frozenset({"placed", "ready"})),
        )
    )
    assert AUDIENCE.validate_json(AUDIENCE.dump_json(audience)) == audience
    assert AUDIENCE.dump_python(audience, mode="json") == raw


def compiled_amount(text: str) -> Any:
    condition = compiled(AUDIENCE.validate_python(leaf("basket_today", "equals", f"{text} EUR")))
    assert isinstance(condition, Leaf)
    assert isinstance(condition.value, Money)
    return condition.value.amount


def test_nobody_reads_a_tree_that_deep() -> None:
    raw: dict[str, Any] = FAMILY
    for _ in range(MOST_LEVELS - 1):
        raw = {"not": raw}
    compiled(AUDIENCE.validate_python(raw))
    with pytest.raises(ValueError, match=rf"not\.not: nested deeper than {MOST_LEVELS} levels"):
        compiled(AUDIENCE.validate_python({"not": raw}))


def test_nobody_reads_a_tree_that_wide() -> None:
    most = {"any": [FAMILY] * MOST_LEAVES}
    compiled(AUDIENCE.validate_python(most))
    with pytest.raises(ValueError, match=f"{MOST_LEAVES + 1} leaves are more than {MOST_LEAVES}"):
        compiled(AUDIENCE.validate_python({"all": [most, FAMILY]}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["all", "any", "not", "field", "operator", "value"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON)
def test_any_json_is_an_audience_or_is_refused(raw: Any) -> None:
    try:
        audience = AUDIENCE.validate_python(raw)
    except ValidationError:
        return
    compiled(audience)
