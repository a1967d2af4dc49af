"""The day's funnel: from visits to redeemed offers, per promotion and zone, and what was withheld for which reason.

About places nothing is said of fewer than ``FEWEST_SHOPPERS`` people, so that nobody can be picked out; about what a promotion
has brought nothing before ``FEWEST_COMPARED`` got it and as many were held out.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import date
from math import sqrt
from typing import Any, Protocol

from gateway.contract.fields import Name, PromotionId, StoreId, Strict

FEWEST_SHOPPERS = 10
FEWEST_COMPARED = 30
"""Shoppers in each group before an interval is told: below it, it is so wide that people read into it what they wish."""
_Z = 1.959964
"""Of 95 %: the standard normal distribution's quantile of 0.975."""


class Event(Protocol):
    """An entry into a zone or a dwell there (io/store/day.py)."""

    @property
    def visit(self) -> str: ...  # noqa: D102
    @property
    def shopper(self) -> str | None: ...  # noqa: D102
    @property
    def zone(self) -> str: ...  # noqa: D102
    @property
    def entered(self) -> bool: ...  # noqa: D102
    @property
    def withheld(self) -> Counter[str]: ...  # noqa: D102


class Proposal(Protocol):
    """A proposal and how it ended at the gateway (io/store/day.py)."""

    @property
    def offer(self) -> str: ...  # noqa: D102
    @property
    def promotion_id(self) -> str: ...  # noqa: D102
    @property
    def state(self) -> str: ...  # noqa: D102
    @property
    def reason(self) -> str: ...  # noqa: D102
    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def push(self) -> bool: ...  # noqa: D102


class Outcomes(Protocol):
    """Who bought, by group (central/effect.py)."""

    @property
    def treated(self) -> int: ...  # noqa: D102
    @property
    def treated_bought(self) -> int: ...  # noqa: D102
    @property
    def held_out(self) -> int: ...  # noqa: D102
    @property
    def held_out_bought(self) -> int: ...  # noqa: D102


class Steps(Strict):
    """How far offers came."""

    matched: int
    shelf: int = 0
    """Of these, how many could not be pushed and went to the silent shelf."""
    granted: int
    refused: int
    late: int
    shown: int | None = None
    """In an app, with what follows; absent where central's database could not be looked into."""
    opened: int | None = None
    saved: int | None = None
    dismissed: int | None = None
    redeemed: int | None = None


class PromotionDay(Steps):
    """One promotion's offers."""

    promotion_id: PromotionId


class EffectDay(Strict):
    """Whoever got one promotion beside whoever was held out of it; shares from 0 to 1."""

    promotion_id: PromotionId
    treated: int
    """Shoppers who got it."""
    held_out: int
    """Shoppers who matched, and were held out."""
    treated_bought: float | None = None
    """Share of them that bought afterwards on the same day; absent, like all that follows, where a group has fewer than 30."""
    held_out_bought: float | None = None
    """Likewise."""
    difference: float | None = None
    """The former less the latter."""
    low: float | None = None
    """Lower end of the 95 % interval of the difference (Newcombe's hybrid score interval)."""
    high: float | None = None
    """Its upper end."""


class ZoneDay(Strict):
    """One zone."""

    zone: Name
    entries: int | None
    """Absent, like ``withheld``, where fewer than ten shoppers were there."""
    withheld: dict[str, int] | None
    """Promotions not offered, by reason."""


class DayReport(Strict):
    """What ``gateway report day`` tells."""

    store: StoreId
    day: date
    """In the store's time zone."""
    time_zone: str
    visits: int
    """With at least one entry into a zone."""
    offers: Steps
    withheld: dict[str, int]
    """Promotions not offered, by reason, the most frequent first."""
    refused: dict[str, int]
    """Central's refusals, by reason."""
    promotions: tuple[PromotionDay, ...]
    """Those that matched at least once, the most frequent first."""
    zones: tuple[ZoneDay, ...]
    """By name."""
    effects: tuple[EffectDay, ...] | None = None
    """Promotions with a holdout, by name; absent where central's database could not be looked into."""


@dataclass(slots=True)
class _Zone:
    entries: int = 0
    shoppers: set[str] = field(default_factory=set)
    withheld: Counter[str] = field(default_factory=Counter)


def day_report(  # noqa: PLR0917 -- three of whose day it is, and what three sources know of it
    store: str,
    day: date,
    time_zone: str,
    events: Iterable[Event],
    proposals: Iterable[Proposal],
    receipts: Mapping[str, Set[str]] | None,
    outcomes: Mapping[str, Outcomes] | None = None,
) -> DayReport:
    """The funnel; ``receipts``: the states an offer's app has told, ``outcomes``: who bought; ``None`` where it is not known."""
    visits: set[str] = set()
    withheld: Counter[str] = Counter()
    zones: dict[str, _Zone] = defaultdict(_Zone)
    for event in events:
        visits.add(event.visit)
        withheld += event.withheld
        zone = zones[event.zone]
        zone.entries += event.entered
        zone.withheld += event.withheld
        # Whoever was erased was somebody else than everybody else; a visit is at most one shopper.
        zone.shoppers.add(event.shopper or event.visit)
    by_promotion: dict[str, list[Proposal]] = defaultdict(list)
    for proposal in proposals:
        by_promotion[proposal.promotion_id].append(proposal)
    everything = [proposal for some in by_promotion.values() for proposal in some]
    promotions = [
        PromotionDay.model_validate({"promotion_id": promotion_id} | _steps(some, receipts))
        for promotion_id, some in by_promotion.items()
    ]
    return DayReport(
        store=store,
        day=day,
        time_zone=time_zone,
        visits=len(visits),
        offers=Steps.model_validate(_steps(everything, receipts)),
        withheld=_ranked(withheld),
        refused=_ranked(Counter(proposal.reason for proposal in everything if proposal.state == "refused")),
        promotions=tuple(sorted(promotions, key=lambda promotion: (-promotion.matched, promotion.promotion_id))),
        zones=tuple(_zone_day(name, zone) for name, zone in sorted(zones.items())),
        effects=None if outcomes is None else tuple(_effect(name, outcomes[name]) for name in sorted(outcomes)),
    )


def _effect(promotion_id: str, people: Outcomes) -> EffectDay:
    counts = {"promotion_id": promotion_id, "treated": people.treated, "held_out": people.held_out}
    if min(people.treated, people.held_out) < FEWEST_COMPARED:
        return EffectDay.model_validate(counts)
    treated, held_out = people.treated_bought / people.treated, people.held_out_bought / people.held_out
    low, high = difference_interval(people.treated_bought, people.treated, people.held_out_bought, people.held_out)
    shares = {"treated_bought": treated, "held_out_bought": held_out, "difference": treated - held_out, "low": low, "high": high}
    return EffectDay.model_validate(counts | {name: round(share, 4) for name, share in shares.items()})


def difference_interval(some: int, of: int, others: int, of_others: int) -> tuple[float, float]:
    """The 95 % interval of ``some / of − others / of_others``; good for small counts, too, and never beyond ±1.

    Source: R. G. Newcombe, Interval estimation for the difference between independent proportions, Statistics in Medicine 17
    (1998), method 10: square-and-add of two Wilson score intervals without continuity correction.

    >>> [round(bound, 4) for bound in difference_interval(56, 70, 48, 80)]
    [0.0524, 0.3339]
    """
    (low, high), (other_low, other_high) = _wilson(some, of), _wilson(others, of_others)
    share, other = some / of, others / of_others
    below = sqrt((share - low) ** 2 + (other_high - other) ** 2)
    above = sqrt((high - share) ** 2 + (other - other_low) ** 2)
    return max(-1.0, share - other - below), min(1.0, share - other + above)


def _wilson(some: int, of: int) -> tuple[float, float]:
    middle = 2 * some + _Z**2
    half = _Z * sqrt(_Z**2 + 4 * some * (1 - some / of))
    return (middle - half) / (2 * (of + _Z**2)), (middle + half) / (2 * (of + _Z**2))


def _zone_day(name: str, zone: _Zone) -> ZoneDay:
    many = len(zone.shoppers) >= FEWEST_SHOPPERS
    return ZoneDay(zone=name, entries=zone.entries if many else None, withheld=_ranked(zone.withheld) if many else None)


def _steps(proposals: list[Proposal], receipts: Mapping[str, Set[str]] | None) -> dict[str, Any]:
    states = Counter(proposal.state for proposal in proposals)
    steps: dict[str, Any] = {
        "matched": len(proposals),
        "shelf": sum(not proposal.push and proposal.kind != "info" for proposal in proposals),
        "granted": states["granted"],
        "refused": states["refused"],
        "late": states["late"],
    }
    if receipts is not None:
        told = [receipts.get(proposal.offer, frozenset()) for proposal in proposals]
        # An app whose first receipt was lost has still shown what it says was opened.
        steps["shown"] = sum(bool(states) for states in told)
        steps["opened"] = sum(bool(states & {"opened", "saved", "redeemed"}) for states in told)
        for state in ("saved", "dismissed", "redeemed"):
            steps[state] = sum(state in states for states in told)
    return steps


def _ranked(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
