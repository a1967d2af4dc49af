"""The audience of a promotion as marketing writes it: a condition tree in JSON, refused with the path to what is wrong.

::

    {"all": [
      {"field": "visits_30_days", "operator": "at_least", "value": 5},
      {"any": [
        {"field": "segments", "operator": "contains", "value": "family"},
        {"field": "basket_today", "operator": "more_than", "value": "50.00 EUR"}]},
      {"not": {"field": "local_time", "operator": "less_than", "value": "17:00"}}]}
"""

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Discriminator, Field, StringConstraints, Tag, model_validator

from gateway.contract.fields import Gtin, Language, MoneyText, Name, PromotionId, Strict, minutes_of, to_money
from gateway.core import conditions
from gateway.core.conditions import OrderState

MOST_LEAVES = 64
MOST_LEVELS = 8
"""Of nesting: enough for what a person can still read."""

Ordering = Literal["equals", "not_equals", "at_least", "at_most", "more_than", "less_than"]
"""How the shopper's value compares with this one."""
_Count = Annotated[int, Field(ge=0, le=1_000_000, strict=True)]
_WITH_A_LIST = {"contains_any", "is_one_of"}
_ClockTime = Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


class _Listed(Strict):
    """A leaf whose operator says whether its value is one thing or a list."""

    operator: str
    value: Any

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if (self.operator in _WITH_A_LIST) != isinstance(self.value, tuple):
            raise ValueError(f"operator {self.operator} needs {'a list' if self.operator in _WITH_A_LIST else 'one value'}")
        return self


class SegmentsLeaf(_Listed):
    """Which of the retailer's segments the shopper is in."""

    field: Literal["segments"]
    operator: Literal["contains", "contains_any"]
    """Whether this one is among them, or at least one of these."""
    value: Name | Annotated[tuple[Name, ...], Field(min_length=1, max_length=100)]
    """One segment for ``contains``, a list for ``contains_any``."""


class WatchListLeaf(_Listed):
    """Which products the shopper has saved."""

    field: Literal["watch_list"]
    operator: Literal["contains", "contains_any"]
    """Whether this one is among them, or at least one of these."""
    value: Gtin | Annotated[tuple[Gtin, ...], Field(min_length=1, max_length=100)]
    """One GTIN for ``contains``, a list for ``contains_any``."""


class SavedOffersLeaf(_Listed):
    """Which promotions the shopper has saved, before this visit, and not used yet."""

    field: Literal["saved_offers"]
    operator: Literal["contains", "contains_any"]
    """Whether this one is among them, or at least one of these."""
    value: PromotionId | Annotated[tuple[PromotionId, ...], Field(min_length=1, max_length=100)]
    """One ``promotion_id`` for ``contains``, a list for ``contains_any``."""


class CountLeaf(Strict):
    """How often, how long ago, or for how many seconds the shopper has been here."""

    field: Literal["visits_30_days", "days_since_last_visit", "dwell_s"]
    """``days_since_last_visit`` is not known of somebody who was never here, and then no comparison with it holds."""
    operator: Ordering
    value: _Count
    """Visits, days or seconds."""


class BasketLeaf(Strict):
    """What the shopper has spent in this store today."""

    field: Literal["basket_today"]
    operator: Ordering
    value: MoneyText
    """Amounts of another currency are neither more nor less."""


class LocalTimeLeaf(Strict):
    """What the clock in the store shows."""

    field: Literal["local_time"]
    operator: Literal["at_least", "at_most", "more_than", "less_than"]
    """How the time compares with this one."""
    value: _ClockTime
    """Hours and minutes in the store's time zone."""


class OrderStateLeaf(_Listed):
    """How the shopper's newest order for this store is doing."""

    field: Literal["order_state"]
    operator: Literal["equals", "not_equals", "is_one_of"]
    """Whether it is in this state, in another, or in one of these."""
    value: OrderState | Annotated[tuple[OrderState, ...], Field(min_length=1)]
    """One state, or a list for ``is_one_of``."""


class LanguageLeaf(Strict):
    """The app's language."""

    field: Literal["language"]
    operator: Literal["equals", "not_equals"]
    """Whether it is this one, or another."""
    value: Language
    """German or English."""


_LEAVES: dict[str, str] = {
    "segments": "segments",
    "watch_list": "watch_list",
    "saved_offers": "saved_offers",
    "visits_30_days": "count",
    "days_since_last_visit": "count",
    "dwell_s": "count",
    "basket_today": "basket_today",
    "local_time": "local_time",
    "order_state": "order_state",
    "language": "language",
}


def _kind(value: Any) -> str | None:
    """Which of the shapes a value means to be, so that one answer comes back instead of nine."""
    if not isinstance(value, dict):
        branches = ((All, "all"), (Any_, "any"), (Not, "not"))
        named = next((key for branch, key in branches if isinstance(value, branch)), None)
        return named or _LEAVES.get(getattr(value, "field", ""))
    for key in ("all", "any", "not"):
        if key in value:
            return key
    field = value.get("field")
    return _LEAVES.get(field) if isinstance(field, str) else None


class All(Strict):
    """Every part holds."""

    all: Annotated[tuple["Audience", ...], Field(min_length=1, max_length=MOST_LEAVES)]
    """Conditions."""


class Any_(Strict):  # noqa: N801 -- the JSON key is "any"; typing's Any is taken
    """At least one part holds."""

    any: Annotated[tuple["Audience", ...], Field(min_length=1, max_length=MOST_LEAVES)]
    """Conditions."""


class Not(Strict):
    """The part does not hold."""

    model_config = ConfigDict(serialize_by_alias=True)

    not_: Annotated["Audience", Field(alias="not")]
    """A condition."""


Audience = Annotated[
    Annotated[All, Tag("all")]
    | Annotated[Any_, Tag("any")]
    | Annotated[Not, Tag("not")]
    | Annotated[SegmentsLeaf, Tag("segments")]
    | Annotated[WatchListLeaf, Tag("watch_list")]
    | Annotated[SavedOffersLeaf, Tag("saved_offers")]
    | Annotated[CountLeaf, Tag("count")]
    | Annotated[BasketLeaf, Tag("basket_today")]
    | Annotated[LocalTimeLeaf, Tag("local_time")]
    | Annotated[OrderStateLeaf, Tag("order_state")]
    | Annotated[LanguageLeaf, Tag("language")],
    Discriminator(
        _kind,
        custom_error_type="condition",
        custom_error_message="all, any, not, or a leaf with one of these fields was expected: " + ", ".join(_LEAVES),
    ),
]
"""A condition."""


def compiled(audience: Audience) -> conditions.Condition:
    """The condition as the core tests it; ``ValueError`` with the path when it is larger than anybody can read."""
    condition = _compiled(audience, 1, "")
    count = sum(1 for _ in conditions.leaves(condition))
    if count > MOST_LEAVES:
        raise ValueError(f"{count} leaves are more than {MOST_LEAVES}")
    return condition


def _compiled(audience: Audience, level: int, path: str) -> conditions.Condition:
    if level > MOST_LEVELS:
        raise ValueError(f"{path.strip('.')}: nested deeper than {MOST_LEVELS} levels")
    match audience:
        case All():
            return conditions.AllOf(tuple(_compiled(p, level + 1, f"{path}.all.{n}") for n, p in enumerate(audience.all)))
        case Any_():
            return conditions.AnyOf(tuple(_compiled(p, level + 1, f"{path}.any.{n}") for n, p in enumerate(audience.any)))
        case Not():
            return conditions.NotOf(_compiled(audience.not_, level + 1, f"{path}.not"))
        case BasketLeaf():
            value: conditions.Value = to_money(audience.value)
        case LocalTimeLeaf():
            value = minutes_of(audience.value)
        case _:
            value = frozenset(audience.value) if isinstance(audience.value, tuple) else audience.value
    return conditions.Leaf(audience.field, audience.operator, value)
