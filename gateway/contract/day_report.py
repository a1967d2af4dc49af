"""The day's funnel: from visits to redeemed offers, per promotion and zone, and what was withheld for which reason.

About places nothing is said of fewer than ``FEWEST_SHOPPERS`` people, so that nobody can be picked out.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Protocol

from gateway.contract.fields import Name, PromotionId, StoreId, Strict

FEWEST_SHOPPERS = 10


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


class Steps(Strict):
    """How far offers came."""

    matched: int
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


@dataclass(slots=True)
class _Zone:
    entries: int = 0
    shoppers: set[str] = field(default_factory=set)
    withheld: Counter[str] = field(default_factory=Counter)


def day_report(
    store: str,
    day: date,
    time_zone: str,
    events: Iterable[Event],
    proposals: Iterable[Proposal],
    receipts: Mapping[str, Set[str]] | None,
) -> DayReport:
    """The funnel; ``receipts``: the states an offer's app has told, ``None`` where they cannot be known."""
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
    )


def _zone_day(name: str, zone: _Zone) -> ZoneDay:
    many = len(zone.shoppers) >= FEWEST_SHOPPERS
    return ZoneDay(zone=name, entries=zone.entries if many else None, withheld=_ranked(zone.withheld) if many else None)


def _steps(proposals: list[Proposal], receipts: Mapping[str, Set[str]] | None) -> dict[str, Any]:
    states = Counter(proposal.state for proposal in proposals)
    steps: dict[str, Any] = {
        "matched": len(proposals),
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
