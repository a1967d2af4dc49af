"""Presence + catalogue + caps → offers, each promotion of the zone either matched or withheld with one reason.

The candidates of an event are found by zone among the promotions active now, already in order of priority, so the cost of an
advertisement does not depend on how many there are, and that of an event only on those of its zone.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import overload

from gateway.core.model import (
    PUSH_KINDS,
    STILL_SPENT,
    Circumstances,
    ClockQuality,
    Consent,
    Dwelled,
    Entered,
    Instant,
    OfferMatched,
    Outcome,
    PastOffer,
    Promotion,
    QuietHours,
    Shop,
    TimeWindow,
    Verdict,
    Withheld,
    WithheldReason,
    Zone,
)
from gateway.core.timetable import is_in_force, is_quiet, next_change

_FORGET_SHOPPER_MS = 26 * 3600 * 1000
"""Pseudonyms live for a day; what is older can never be asked for again."""
_SWEEP_MS = 60_000
_NEVER_MS = 1 << 62
_WITH_OFFERS = frozenset(consent for consent in map(Consent, range(4)) if consent & Consent.OFFERS)
"""Asking a set costs a tenth of the arithmetic of flags."""
_SYNCHRONISED = ClockQuality.SYNCHRONISED
_CAP_DAY, _CAP_VISIT, _COOL_DOWN = WithheldReason.CAP_DAY, WithheldReason.CAP_VISIT, WithheldReason.COOL_DOWN
"""What most events meet, by names of their own: asking an enumeration for a member costs more than comparing with it."""


class _Rule:
    """One promotion of a zone that is in force, and what matching needs of it."""

    __slots__ = ("closed_before", "daily_cap", "group", "promotion", "promotion_id", "push", "spends")

    def __init__(self, promotion: Promotion, closed_before: int) -> None:
        self.promotion = promotion
        self.promotion_id = promotion.promotion_id
        self.closed_before = closed_before
        """How many of the zone's promotions out of force have a higher priority."""
        self.daily_cap = promotion.daily_cap
        self.group = _group(promotion)
        self.push = promotion.kind != "info"
        self.spends = promotion.kind in PUSH_KINDS


class _Rules:
    """One zone's promotions of one trigger at this moment: those in force each, the others all at once."""

    __slots__ = ("closed", "in_force", "promotions")

    def __init__(self, promotions: Iterable[tuple[Promotion, bool]]) -> None:
        self.promotions: list[Promotion] = []
        self.in_force: list[_Rule] = []
        closed: list[Withheld] = []
        for promotion, in_force in promotions:
            self.promotions.append(promotion)
            if in_force:
                self.in_force.append(_Rule(promotion, len(closed)))
            else:
                closed.append(Withheld(promotion.promotion_id, WithheldReason.OUTSIDE_WINDOW))
        self.closed = tuple(closed)


class _WithClosed(Sequence[Withheld]):
    """Rules of a zone that did not apply, among its promotions out of force, by priority; put together when somebody looks.

    A large catalogue has a hundred out of force for each one in force, and an event must not pay for them.
    """

    __slots__ = ("_closed", "_refused")

    def __init__(self, closed: tuple[Withheld, ...], refused: list[tuple[_Rule, WithheldReason]]) -> None:
        self._closed = closed
        self._refused = refused

    def _all(self) -> list[Withheld]:
        merged: list[Withheld] = []
        taken = 0
        for rule, reason in self._refused:
            merged += self._closed[taken : rule.closed_before]
            taken = rule.closed_before
            merged.append(Withheld(rule.promotion_id, reason))
        return merged + list(self._closed[taken:])

    @overload
    def __getitem__(self, index: int) -> Withheld: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Withheld]: ...
    def __getitem__(self, index: int | slice) -> Withheld | Sequence[Withheld]:
        return self._all()[index]

    def __iter__(self) -> Iterator[Withheld]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._closed) + len(self._refused)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._all() == list(other)

    def __hash__(self) -> int:
        return hash(tuple(self._all()))


class Catalogue:
    """The promotions of one version, by zone, with those active now kept up to date by ``advance``."""

    def __init__(
        self,
        version: int,
        promotions: Iterable[Promotion],
        quiet_hours: QuietHours | None,
        shop: Shop,
        zone: tzinfo,
        wall_ms: int,
    ) -> None:
        self.version = version
        self.promotions = tuple(sorted(promotions, key=lambda p: (-p.priority, p.promotion_id)))
        self.quiet_hours = quiet_hours
        self._time_zone = zone
        self._zones_of: list[tuple[str, ...]] = [_zones_of(promotion, shop.zones) for promotion in self.promotions]
        self.by_zone: dict[str, tuple[int, ...]] = _grouped(self._zones_of)
        self._in_force: list[bool] = []
        self._on_entry: dict[str, _Rules] = {}
        """By zone, made when somebody enters and thrown away when one of its windows opens or closes."""
        self._on_dwell: dict[str, dict[int, _Rules]] = {}
        """By zone and threshold."""
        self._schedules: dict[_Schedule, list[int]] = {}
        """Time-limited promotions by when they are in force: a retailer has many promotions and few opening hours."""
        for index, promotion in enumerate(self.promotions):
            if promotion.is_time_limited:
                self._schedules.setdefault(_schedule(promotion), []).append(index)
        self._changes: list[tuple[int, int, list[int]]] = []
        """Heap of (wall milliseconds, the first of the promotions that change then, all of them)."""
        self._wall_ms = wall_ms
        self._restart(wall_ms)

    def _restart(self, wall_ms: int) -> None:
        self._wall_ms = wall_ms
        self._in_force = [True] * len(self.promotions)
        self._changes = []
        for indices in self._schedules.values():
            self._change(indices)

    def _change(self, indices: list[int]) -> None:
        """Promotions of one schedule: whether they are in force now, and when that may change next."""
        promotion = self.promotions[indices[0]]
        in_force = is_in_force(promotion, self._wall_ms, self._time_zone)
        zones: set[str] = set()
        for index in indices:
            self._in_force[index] = in_force
            zones.update(self._zones_of[index])
        for zone in zones:
            self._on_entry.pop(zone, None)
            self._on_dwell.pop(zone, None)
        change = next_change(promotion, self._wall_ms, self._time_zone)
        if change is not None:
            heapq.heappush(self._changes, (change, indices[0], indices))

    def advance(self, wall_ms: int) -> None:
        """Bring the windows up to ``wall_ms``; a clock that went back starts them anew."""
        if wall_ms < self._wall_ms:
            self._restart(wall_ms)
            return
        self._wall_ms = wall_ms
        while self._changes and self._changes[0][0] <= wall_ms:
            self._change(heapq.heappop(self._changes)[2])

    def rules(self, zone: str, event: Entered | Dwelled) -> _Rules:
        """The zone's promotions with the event's trigger."""
        if isinstance(event, Entered):
            rules = self._on_entry.get(zone)
            if rules is None:
                rules = self._on_entry[zone] = _Rules(each for each in self.in_zone(zone) if each[0].trigger == "enter")
            return rules
        of_zone = self._on_dwell.setdefault(zone, {})
        rules = of_zone.get(event.dwell_ms)
        if rules is None:
            rules = of_zone[event.dwell_ms] = _Rules(
                each for each in self.in_zone(zone) if each[0].trigger == "dwell" and each[0].dwell_ms == event.dwell_ms
            )
        return rules

    def in_zone(self, zone: str) -> list[tuple[Promotion, bool]]:
        """The zone's promotions by priority, each with whether it is in force."""
        return [(self.promotions[index], self._in_force[index]) for index in self.by_zone.get(zone, ())]

    def everything(self) -> list[tuple[Promotion, tuple[str, ...], bool]]:
        """Each promotion by priority, the zones it applies to, and whether it is in force."""
        return list(zip(self.promotions, self._zones_of, self._in_force, strict=True))

    def is_quiet(self, wall_ms: int) -> bool:
        """Whether nothing may be pushed at this moment."""
        return is_quiet(self.quiet_hours, wall_ms, self._time_zone)

    def dwells(self) -> dict[str, set[int]]:
        """Thresholds in milliseconds, by zone, that dwell promotions need."""
        wanted: dict[str, set[int]] = {}
        for promotion, zones in zip(self.promotions, self._zones_of, strict=True):
            if promotion.trigger == "dwell":
                for zone in zones:
                    wanted.setdefault(zone, set()).add(promotion.dwell_ms)
        return wanted


@dataclass(slots=True)
class _Spent:
    """What one shopper has had today."""

    touched_ms: int
    offers: dict[str, int] = field(default_factory=dict)
    """Offers per promotion."""
    cooling: dict[str, tuple[int, str]] = field(default_factory=dict)
    """By group, the monotonic end of the cool-down and the offer that began it."""
    pushed_visits: dict[str, str] = field(default_factory=dict)
    """Offer that holds the push of a visit."""


@dataclass(frozen=True, slots=True)
class Held:
    """What stands between one shopper and one promotion."""

    offered: int
    """Times today."""
    cooling: tuple[int, str] | None
    """The monotonic end of its group's cool-down, and the offer that began it."""
    pushed: str | None
    """The offer that holds the visit's push."""


class Offers:
    """Decides, remembers what was decided, and takes back what central refuses."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._spent: dict[str, _Spent] = {}
        self._proposals: dict[str, OfferMatched] = {}
        """Offers that central has not answered."""
        self._late_ms = _NEVER_MS
        """No proposal is late before this."""
        self._swept_ms: int | None = None

    # ---- matching -------------------------------------------------------------------------------------------------------------

    def match(
        self,
        event: Entered | Dwelled,
        zone: Zone,
        catalogue: Catalogue,
        circumstances: Circumstances,
    ) -> Outcome:
        """What the shopper gets for this event: at most one push and any number of silent cards; the rest with its reason."""
        rules = catalogue.rules(zone.name, event)
        for_all = self._reason_for_all(event, circumstances)
        if for_all is not None:
            return Outcome(
                event, (), tuple(Withheld(p.promotion_id, for_all) for p in rules.promotions), catalogue.version, circumstances
            )
        if not rules.in_force:
            return Outcome(event, (), rules.closed, catalogue.version, circumstances)
        offers: list[OfferMatched] = []
        refused: list[tuple[_Rule, WithheldReason]] = []
        pushed = False
        quiet = catalogue.quiet_hours is not None and catalogue.is_quiet(event.at.wall_ms)
        spent = None if circumstances.is_test else self._of(event.shopper, event.at)
        pushed_before = spent is not None and event.visit in spent.pushed_visits
        doubtful = circumstances.quality is not _SYNCHRONISED or circumstances.conflict or not circumstances.by_receiver
        now_ms = event.at.mono_ms
        for rule in rules.in_force:
            reason = _doubt(rule.promotion, circumstances, zone) if doubtful else None
            if reason is None and spent is not None:
                reason = _cap(rule, spent, now_ms)
            if reason is None:
                if quiet and rule.push:
                    reason = WithheldReason.QUIET_HOURS
                elif rule.spends and pushed:
                    reason = WithheldReason.LOWER_PRIORITY
                elif rule.spends and pushed_before:
                    reason = _CAP_VISIT
            if reason is not None:
                refused.append((rule, reason))
                continue
            matched = _matched(self._new_id(), rule, event, catalogue.version)
            self._proposals[matched.offer] = matched
            self._late_ms = min(self._late_ms, matched.deadline.mono_ms)
            if not circumstances.is_test:
                self._spend(matched, spends=rule.spends)
            offers.append(matched)
            pushed = pushed or rule.spends
        withheld = _WithClosed(rules.closed, refused) if refused else rules.closed
        return Outcome(event, tuple(offers), withheld, catalogue.version, circumstances)

    def _reason_for_all(self, event: Entered | Dwelled, circumstances: Circumstances) -> WithheldReason | None:
        if event.consent not in _WITH_OFFERS:
            return WithheldReason.NO_CONSENT
        if circumstances.listen_only:
            return WithheldReason.LISTEN_ONLY
        return WithheldReason.BEACON_UNHEALTHY if circumstances.zone_is_blind else None

    def _spend(self, matched: OfferMatched, *, spends: bool) -> None:
        spent = self._of(matched.shopper, matched.at)
        spent.offers[matched.promotion_id] = spent.offers.get(matched.promotion_id, 0) + 1
        if matched.cool_down_ms:
            spent.cooling[matched.cool_down_group] = (matched.at.mono_ms + matched.cool_down_ms, matched.offer)
        if spends:
            spent.pushed_visits[matched.visit] = matched.offer

    def _of(self, shopper: str, at: Instant) -> _Spent:
        spent = self._spent.get(shopper)
        if spent is None:
            spent = self._spent[shopper] = _Spent(at.mono_ms)
        spent.touched_ms = at.mono_ms
        return spent

    def held(self, promotion: Promotion, event: Entered | Dwelled) -> Held:
        """The figures behind a cap or a cool-down, for whoever has to explain it; right after ``match`` those of the event."""
        spent = self._of(event.shopper, event.at)
        return Held(
            spent.offers.get(promotion.promotion_id, 0),
            spent.cooling.get(_group(promotion)),
            spent.pushed_visits.get(event.visit),
        )

    # ---- central's answers and time -------------------------------------------------------------------------------------------

    def decide(self, verdict: Verdict) -> bool:
        """Take central's answer; a refusal gives back the visit's push, the cap and the cool-down. False: not waiting for it."""
        proposal = self._proposals.pop(verdict.offer, None)
        if proposal is None:
            return False
        if verdict.state == "refused" and verdict.reason not in STILL_SPENT:
            self._give_back(proposal)
        return True

    def _give_back(self, matched: OfferMatched) -> None:
        spent = self._spent.get(matched.shopper)
        if spent is None:
            return
        spent.offers[matched.promotion_id] = max(0, spent.offers.get(matched.promotion_id, 0) - 1)
        # The group may be cooling down for a later offer by now.
        if spent.cooling.get(matched.cool_down_group, (0, ""))[1] == matched.offer:
            del spent.cooling[matched.cool_down_group]
        if spent.pushed_visits.get(matched.visit) == matched.offer:
            del spent.pushed_visits[matched.visit]

    def tick(self, now: Instant) -> list[Verdict]:
        """Proposals whose deadline has passed without an answer: late, and never shown.

        The push stays spent, because central may have granted it and only its answer was lost.
        """
        late = []
        if now.mono_ms > self._late_ms:
            late = [o for o, proposal in self._proposals.items() if proposal.deadline.mono_ms < now.mono_ms]
            for offer in late:
                del self._proposals[offer]
            self._late_ms = min((proposal.deadline.mono_ms for proposal in self._proposals.values()), default=_NEVER_MS)
        if self._swept_ms is None or now.mono_ms - self._swept_ms >= _SWEEP_MS:
            self._swept_ms = now.mono_ms
            oldest = now.mono_ms - _FORGET_SHOPPER_MS
            for shopper in [name for name, spent in self._spent.items() if spent.touched_ms < oldest]:
                del self._spent[shopper]
        return [Verdict(offer, "late", "late") for offer in late]

    def next_deadline_ms(self) -> int | None:
        """When the next proposal becomes late."""
        return min((proposal.deadline.mono_ms + 1 for proposal in self._proposals.values()), default=None)

    def forget(self, shopper: str) -> None:
        """Drop everything about one shopper."""
        self._spent.pop(shopper, None)
        for offer in [o for o, proposal in self._proposals.items() if proposal.shopper == shopper]:
            del self._proposals[offer]

    def remember(self, offers: Iterable[PastOffer], now: Instant) -> None:
        """Take back today's offers after a restart, so that no cap, cool-down or push is forgotten."""
        for past in offers:
            at = now.plus(min(0, past.wall_ms - now.wall_ms))
            spent = self._of(past.shopper, now)
            if past.state != "refused":
                spent.offers[past.promotion_id] = spent.offers.get(past.promotion_id, 0) + 1
                if past.cool_down_ms:
                    cooling = (at.mono_ms + past.cool_down_ms, past.offer)
                    spent.cooling[past.cool_down_group] = max(cooling, spent.cooling.get(past.cool_down_group, cooling))
                if past.kind in PUSH_KINDS:
                    spent.pushed_visits[past.visit] = past.offer
            if past.state == "proposed":
                self._late_ms = 0
                self._proposals[past.offer] = OfferMatched(
                    offer=past.offer,
                    shopper=past.shopper,
                    visit=past.visit,
                    zone="",
                    promotion_id=past.promotion_id,
                    kind=past.kind,
                    at=at,
                    deadline=now.plus(past.deadline_wall_ms - now.wall_ms),
                    push=past.kind != "info",
                    cool_down_group=past.cool_down_group,
                    cool_down_ms=past.cool_down_ms,
                    catalogue_version=0,
                )


def _doubt(promotion: Promotion, circumstances: Circumstances, zone: Zone) -> WithheldReason | None:
    """Why the promotion is not offered on such evidence."""
    if circumstances.quality is not _SYNCHRONISED and promotion.is_time_limited:
        return WithheldReason.CLOCK_HOLDOVER
    if circumstances.conflict:
        return WithheldReason.CONFLICT
    if not circumstances.by_receiver and (zone.sensitive or promotion.sensitive):
        return WithheldReason.HINT_ONLY
    return None


def _cap(rule: _Rule, spent: _Spent, mono_ms: int) -> WithheldReason | None:
    """Why the shopper has had enough of the promotion, leaving pushes aside."""
    if spent.offers.get(rule.promotion_id, 0) >= rule.daily_cap:
        return _CAP_DAY
    cooling = spent.cooling.get(rule.group)
    return _COOL_DOWN if cooling is not None and mono_ms < cooling[0] else None


def _matched(offer: str, rule: _Rule, event: Entered | Dwelled, version: int) -> OfferMatched:
    promotion = rule.promotion
    return OfferMatched(
        offer=offer,
        shopper=event.shopper,
        visit=event.visit,
        zone=event.zone,
        promotion_id=promotion.promotion_id,
        kind=promotion.kind,
        at=event.at,
        deadline=event.at.plus(promotion.deadline_ms),
        push=rule.push,
        cool_down_group=rule.group,
        cool_down_ms=promotion.cool_down_ms,
        catalogue_version=version,
    )


_Schedule = tuple[int | None, int | None, tuple[TimeWindow, ...]]


def _schedule(promotion: Promotion) -> _Schedule:
    return promotion.effective_from_ms, promotion.effective_until_ms, promotion.windows


def _group(promotion: Promotion) -> str:
    return promotion.cool_down_group or f"promotion:{promotion.promotion_id}"


def _zones_of(promotion: Promotion, zones: Mapping[str, Zone]) -> tuple[str, ...]:
    """The zones a promotion names, directly or by tag; sensitive ones stay in, their evidence is checked when it matters."""
    return tuple(name for name, zone in zones.items() if name in promotion.zones or promotion.tags & zone.tags)


def _grouped(zones_of: list[tuple[str, ...]]) -> dict[str, tuple[int, ...]]:
    by_zone: dict[str, list[int]] = {}
    for index, zones in enumerate(zones_of):
        for zone in zones:
            by_zone.setdefault(zone, []).append(index)
    return {zone: tuple(indices) for zone, indices in by_zone.items()}
