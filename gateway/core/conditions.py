"""The audience of a promotion: a closed tree of conditions over what is known of a shopper.

::

    AllOf ─┬─ Leaf  visits_30_days  at_least  5
           ├─ AnyOf ─┬─ Leaf  segments  contains  family
           │         └─ Leaf  language  equals    de
           └─ NotOf ── Leaf  order_state  equals  ready

A closed language on purpose: no names to look up, no loops, no text to execute, and its cost is bounded by its leaves. Fields and
operators are checked where a promotion is read (``contract/audience.py``); here they are right.

What is not known is not true: a leaf about an absent value does not hold, whatever its operator, and only ``NotOf`` makes that
true. Whether the context has come at all is asked before (``needs_context``), so "not known yet" never looks like "no".
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from operator import ge, gt, le, lt
from typing import Any, Literal

from gateway.core.money import Money

ConditionField = Literal[
    "segments",
    "visits_30_days",
    "days_since_last_visit",
    "basket_today",
    "watch_list",
    "order_state",
    "language",
    "saved_offers",
    "dwell_s",
    "local_time",
]
Operator = Literal[
    "equals", "not_equals", "at_least", "at_most", "more_than", "less_than", "contains", "contains_any", "is_one_of"
]
OrderState = Literal["placed", "ready", "collected", "returned"]
Value = int | str | Money | frozenset[str]
"""What a leaf compares with, and what it finds. Local times are minutes after midnight."""

KNOWN_HERE: frozenset[ConditionField] = frozenset({"dwell_s", "local_time"})
"""What the gateway knows by itself; all else is central's and comes as context."""


@dataclass(frozen=True, slots=True)
class ShopperContext:
    """What central knows of a shopper and the gateway may use today."""

    segments: frozenset[str] = frozenset()
    visits_30_days: int = 0
    """Visits to this chain's stores in the last 30 days, without the present one."""
    days_since_last_visit: int | None = None
    """Absent: has never been here."""
    basket_today: Money | None = None
    """Sum of today's receipts."""
    watch_list: frozenset[str] = frozenset()
    """GTINs."""
    order_state: OrderState | None = None
    """Of the newest order for this store."""
    language: str | None = None
    saved_offers: frozenset[str] = frozenset()
    """Promotions that were saved before this visit and are still to be had."""
    muted_categories: frozenset[str] = frozenset()
    """Nothing of these for now."""
    stopped: bool = False
    """A complaint: nothing at all."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What the gateway knows at the moment of an event."""

    dwell_s: int
    """In the event's zone."""
    local_minute: int
    """Minutes after midnight in the store's time zone."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One comparison."""

    field: ConditionField
    operator: Operator
    value: Value


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every part holds."""

    parts: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one part holds."""

    parts: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class NotOf:
    """The part does not hold."""

    part: "Condition"


Condition = Leaf | AllOf | AnyOf | NotOf
Audience = Callable[[ShopperContext, Situation], bool]
"""A compiled condition; never raises."""


@dataclass(frozen=True, slots=True)
class LeafFinding:
    """One leaf with what was found, for whoever has to explain a decision."""

    path: str
    """As in ``all.0.not``; empty for a condition of one leaf."""
    leaf: Leaf
    found: Value | None
    """``None``: not known."""
    holds: bool


def compiled(condition: Condition) -> Audience:
    """The condition as one call.

    >>> regulars = compiled(AllOf((Leaf("visits_30_days", "at_least", 5), NotOf(Leaf("segments", "contains", "staff")))))
    >>> regulars(ShopperContext(visits_30_days=5), Situation(0, 600))
    True
    """
    match condition:
        case Leaf():
            return _compiled_leaf(condition)
        case AllOf(parts):
            tests = tuple(map(compiled, parts))

            def every(context: ShopperContext, situation: Situation) -> bool:
                for test in tests:  # noqa: SIM110 -- all() makes a generator, which costs as much as three leaves
                    if not test(context, situation):
                        return False
                return True

            return every
        case AnyOf(parts):
            tests = tuple(map(compiled, parts))

            def some(context: ShopperContext, situation: Situation) -> bool:
                for test in tests:  # noqa: SIM110
                    if test(context, situation):
                        return True
                return False

            return some
        case NotOf(part):
            test = compiled(part)
            return lambda context, situation: not test(context, situation)


def leaves(condition: Condition, path: str = "") -> Iterator[tuple[str, Leaf]]:
    """Every leaf with its path, from left to right."""
    before = f"{path}." if path else ""
    match condition:
        case Leaf():
            yield path, condition
        case AllOf(parts):
            for index, part in enumerate(parts):
                yield from leaves(part, f"{before}all.{index}")
        case AnyOf(parts):
            for index, part in enumerate(parts):
                yield from leaves(part, f"{before}any.{index}")
        case NotOf(part):
            yield from leaves(part, f"{before}not")


def needs_context(condition: Condition) -> bool:
    """Whether it asks for anything that only central knows."""
    return any(leaf.field not in KNOWN_HERE for _, leaf in leaves(condition))


def findings(condition: Condition, context: ShopperContext | None, situation: Situation) -> tuple[LeafFinding, ...]:
    """Each leaf with its value; without a context nothing of central's is known."""
    known = context or ShopperContext()
    found = []
    for path, leaf in leaves(condition):
        is_known = context is not None or leaf.field in KNOWN_HERE
        value = _READERS[leaf.field](known, situation) if is_known else None
        found.append(LeafFinding(path, leaf, value, is_known and _compiled_leaf(leaf)(known, situation)))
    return tuple(found)


# ---- leaves -------------------------------------------------------------------------------------------------------------------

_READERS: dict[ConditionField, Callable[[ShopperContext, Situation], Value | None]] = {
    "segments": lambda context, _: context.segments,
    "visits_30_days": lambda context, _: context.visits_30_days,
    "days_since_last_visit": lambda context, _: context.days_since_last_visit,
    "basket_today": lambda context, _: context.basket_today,
    "watch_list": lambda context, _: context.watch_list,
    "order_state": lambda context, _: context.order_state,
    "language": lambda context, _: context.language,
    "saved_offers": lambda context, _: context.saved_offers,
    "dwell_s": lambda _, situation: situation.dwell_s,
    "local_time": lambda _, situation: situation.local_minute,
}


_ORDERINGS: dict[str, Callable[[Any, Any], bool]] = {"at_least": ge, "at_most": le, "more_than": gt, "less_than": lt}


def _compiled_leaf(leaf: Leaf) -> Audience:
    read, holds = _READERS[leaf.field], _comparison(leaf.operator, leaf.value)

    def test(context: ShopperContext, situation: Situation) -> bool:
        found = read(context, situation)
        return found is not None and holds(found)

    return test


def _comparison(operator: Operator, value: Value) -> Callable[[Value], bool]:
    match operator:
        case "equals":
            return lambda found: found == value
        case "not_equals":
            return lambda found: found != value
        case "contains":
            return lambda found: isinstance(found, frozenset) and value in found
        case "contains_any":
            wanted = value if isinstance(value, frozenset) else frozenset()
            return lambda found: isinstance(found, frozenset) and not wanted.isdisjoint(found)
        case "is_one_of":
            allowed = value if isinstance(value, frozenset) else frozenset()
            return lambda found: found in allowed
        case "at_least" | "at_most" | "more_than" | "less_than":
            return _ordered(operator, value)


def _ordered(operator: Literal["at_least", "at_most", "more_than", "less_than"], value: Value) -> Callable[[Value], bool]:
    compare = _ORDERINGS[operator]
    if isinstance(value, Money):
        amount, currency = value.amount, value.currency
        return lambda found: isinstance(found, Money) and found.currency == currency and compare(found.amount, amount)
    return lambda found: isinstance(found, int) and compare(found, value)


# ---- whether anybody can be meant ---------------------------------------------------------------------------------------------

MOST_SAMPLES = 4096


def samples(condition: Condition, most: int = MOST_SAMPLES) -> Iterator[tuple[ShopperContext, Situation]]:
    """Shoppers at and beside every boundary that the leaves name, at most so many; deterministic.

    Complete for trees whose fields have few boundaries: each field takes every value at which one of its leaves changes, in all
    combinations. Beyond ``most`` combinations they are taken evenly spread.
    """
    choices: dict[ConditionField, list[Value | None]] = {}
    for _, leaf in leaves(condition):
        options = choices.setdefault(leaf.field, [])
        options += [option for option in _beside(leaf) if option not in options]
    for field, options in choices.items():
        if field in {"segments", "watch_list", "saved_offers"}:
            everything = frozenset().union(*(option for option in options if isinstance(option, frozenset)))
            options += [option for option in (frozenset[str](), everything) if option not in options]
    total = 1
    for options in choices.values():
        total *= len(options)
    step = max(1, -(-total // most))
    # A step that shares no factor with the number of options of a field passes through all of them.
    while step > 1 and any(step % len(options) == 0 for options in choices.values() if len(options) > 1):
        step += 1
    for number in range(0, total, step):
        rest, chosen = number, dict[ConditionField, Value | None]()
        for field, options in choices.items():
            rest, index = divmod(rest, len(options))
            chosen[field] = options[index]
        yield _sampled(chosen)


def can_hold(condition: Condition) -> bool:
    """Whether any of the sample shoppers is meant."""
    test = compiled(condition)
    return any(test(context, situation) for context, situation in samples(condition))


def _beside(leaf: Leaf) -> list[Value | None]:
    value = leaf.value
    match value:
        case Money(amount, currency):
            cent = Decimal("0.01")
            return [None, *(Money(amount + offset, currency) for offset in (-cent, Decimal(0), cent) if amount + offset >= 0)]
        case int():
            top = 1439 if leaf.field == "local_time" else None
            near = [value + offset for offset in (-1, 0, 1) if value + offset >= 0 and (top is None or value + offset <= top)]
            return [*near, None] if leaf.field == "days_since_last_visit" else [*near]
        case frozenset():
            if leaf.operator == "is_one_of":
                return [*sorted(value), None]
            return [frozenset({each}) for each in sorted(value)]
        case str():
            if leaf.operator == "contains":
                return [frozenset({value})]
            return [value, None, *(_OTHERS[leaf.field])]


_OTHERS: dict[ConditionField, tuple[str, ...]] = {
    "order_state": ("placed", "ready", "collected", "returned"),
    "language": ("de", "en"),
}


def _sampled(chosen: dict[ConditionField, Value | None]) -> tuple[ShopperContext, Situation]:
    def number(field: ConditionField) -> int:
        value = chosen.get(field)
        return value if isinstance(value, int) else 0

    def names(field: ConditionField) -> frozenset[str]:
        value = chosen.get(field)
        return value if isinstance(value, frozenset) else frozenset()

    basket, days, state, language = (
        chosen.get("basket_today"),
        chosen.get("days_since_last_visit"),
        chosen.get("order_state"),
        chosen.get("language"),
    )
    return (
        ShopperContext(
            segments=names("segments"),
            visits_30_days=number("visits_30_days"),
            days_since_last_visit=days if isinstance(days, int) else None,
            basket_today=basket if isinstance(basket, Money) else None,
            watch_list=names("watch_list"),
            order_state=state if state in _ORDER_STATES else None,
            language=language if isinstance(language, str) else None,
            saved_offers=names("saved_offers"),
        ),
        Situation(number("dwell_s"), number("local_time")),
    )


_ORDER_STATES: tuple[OrderState, ...] = ("placed", "ready", "collected", "returned")
