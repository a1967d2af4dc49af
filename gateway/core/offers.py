"""Presence + catalogue + context + caps → offers, each promotion of the zone either matched or withheld with one reason.

The candidates of an event are found by zone among the promotions active now, already in order of priority, so the cost of an
advertisement does not depend on how many there are, and that of an event only on those of its zone.

What may only not be pushed (the visit's push is spent, quiet hours) is withheld as a push and goes to the silent shelf: an offer
without a push. Rules that ask for the shopper's context wait for it, the others do not: they are matched at once, and may have
taken the push when the context comes.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Final

from gateway.core import conditions
from gateway.core.conditions import ShopperContext, Situation
from gateway.core.model import (
    LASTING,
    PUSH_KINDS,
    STILL_SPENT,
    WITH_OFFERS,
    Circumstances,
    ClockQuality,
    Dwelled,
    Entered,
    Exited,
    Instant,
    OfferMatched,
    Outcome,
    PastOffer,
    Promotion,
    QuietHours,
    Shop,
    StoreCount,
    TimeWindow,
    Verdict,
    Withheld,
    WithheldReason,
    WithheldRules,
    Zone,
)
from gateway.core.timetable import is_in_force, is_quiet, local_time, next_change

_FORGET_SHOPPER_MS: Final = 26 * 3600 * 1000
"""Pseudonyms live for a day; what is older can never be asked for again."""
_SWEEP_MS: Final = 60_000
_NEVER_MS: Final = 1 << 62
_DAY_MS: Final = 86_400_000
MOST_ON_SHELF: Final = 10
"""Cards that a visit leaves on the silent shelf, by priority; nobody reads more."""
_FIRST_ENTRY: Final = -1
_LATER_ENTRY: Final = -2
_EXIT: Final = -3
"""Keys of a zone's rules, beside the thresholds of dwells."""
_SYNCHRONISED: Final = ClockQuality.SYNCHRONISED
_CAP_DAY: Final = WithheldReason.CAP_DAY
_CAP_VISIT: Final = WithheldReason.CAP_VISIT
_COOL_DOWN: Final = WithheldReason.COOL_DOWN
_NO_CONTEXT: Final = WithheldReason.NO_CONTEXT
_LOWER_PRIORITY: Final = WithheldReason.LOWER_PRIORITY
"""What most events meet, by names of their own: asking an enumeration for a member costs more than comparing with it."""
_NOTHING_KNOWN: Final = ShopperContext()

Matchable = Entered | Dwelled | Exited
"""Events that promotions wait for."""


class _Rule:
    """One promotion of a zone that is in force, and what matching needs of it."""

    __slots__ = (
        "closed_before",
        "daily_cap",
        "group",
        "is_for",
        "is_personal",
        "more_caps",
        "needs_context",
        "promotion",
        "promotion_id",
        "push",
        "spends",
    )

    def __init__(self, promotion: Promotion, closed_before: int) -> None:
        self.promotion = promotion
        self.promotion_id = promotion.promotion_id
        self.closed_before = closed_before
        """How many of the zone's promotions out of force have a higher priority."""
        self.daily_cap = promotion.daily_cap
        self.group = _group(promotion)
        self.push = promotion.kind != "info"
        self.spends = promotion.kind in PUSH_KINDS
        audience, is_counted = promotion.audience, promotion.visit_number is not None
        self.is_for = None if audience is None else conditions.compiled(audience)
        self.needs_context = is_counted or (audience is not None and conditions.needs_context(audience))
        self.is_personal = is_counted or audience is not None or promotion.category is not None
        self.more_caps = promotion.visit_cap is not None or promotion.store_cap_day is not None


class _Rules:
    """One zone's promotions of one event at this moment: those in force each, the others all at once."""

    __slots__ = ("closed", "in_force", "needs_context", "promotions")

    def __init__(self, promotions: Iterable[tuple[Promotion, bool]], sold_out: frozenset[str]) -> None:
        self.promotions: list[Promotion] = []
        self.in_force: list[_Rule] = []
        closed: list[Withheld] = []
        for promotion, in_force in promotions:
            self.promotions.append(promotion)
            if not in_force:
                closed.append(Withheld(promotion.promotion_id, WithheldReason.OUTSIDE_WINDOW))
            elif promotion.promotion_id in sold_out:
                closed.append(Withheld(promotion.promotion_id, WithheldReason.SOLD_OUT))
            else:
                self.in_force.append(_Rule(promotion, len(closed)))
        self.closed = tuple(closed)
        self.needs_context = any(rule.needs_context for rule in self.in_force)


class _WithClosed:
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

    def __getitem__(self, index: int, /) -> Withheld:
        return self._all()[index]

    def __iter__(self) -> Iterator[Withheld]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._closed) + len(self._refused)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Iterable) and self._all() == list(other)

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
        *,
        sold_out: Iterable[str] = (),
    ) -> None:
        self.version = version
        self.sold_out = frozenset(sold_out)
        self.promotions = tuple(sorted(promotions, key=lambda p: (-p.priority, p.promotion_id)))
        self.quiet_hours = quiet_hours
        self._time_zone = zone
        self._zones_of: list[tuple[str, ...]] = _zones_of(self.promotions, shop.zones)
        self.by_zone: dict[str, tuple[int, ...]] = _grouped(self._zones_of)
        self._in_force: list[bool] = []
        self._rules: dict[str, dict[int, _Rules]] = {}
        """By zone and event, made when somebody enters and thrown away when one of the zone's windows opens or closes."""
        self._minute: tuple[int, int] = (-1, 0)
        """A minute since 1970, and what the clock in the store shows then."""
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
            self._rules.pop(zone, None)
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

    def rules(self, zone: str, event: Matchable) -> _Rules:
        """The zone's promotions that wait for such an event."""
        of_zone = self._rules.get(zone)
        if of_zone is None:
            of_zone = self._rules[zone] = {}
        if type(event) is Entered:
            key = _FIRST_ENTRY if event.is_first else _LATER_ENTRY
        else:
            key = event.dwell_ms if type(event) is Dwelled else _EXIT
        rules = of_zone.get(key)
        if rules is None:
            rules = of_zone[key] = _Rules((each for each in self.in_zone(zone) if _waits_for(each[0], key)), self.sold_out)
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

    def local_minute(self, wall_ms: int) -> int:
        """Minutes after midnight that a clock in the store shows."""
        minute = wall_ms // 60_000
        if self._minute[0] != minute:
            local = local_time(wall_ms, self._time_zone)
            self._minute = minute, 60 * local.hour + local.minute
        return self._minute[1]

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
    in_visit: dict[tuple[str, str], int] = field(default_factory=dict)
    """Likewise, by visit and promotion."""
    cooling: dict[str, tuple[int, str]] = field(default_factory=dict)
    """By group, the monotonic end of the cool-down and the offer that began it; of several the last to end."""
    also_cooling: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    """By group, the others: after a restart on a calendar that jumped, two offers of a group may cool down at once."""
    pushed_visits: dict[str, str] = field(default_factory=dict)
    """Offer that holds the push of a visit."""
    shelved: dict[str, int] = field(default_factory=dict)
    """Cards on the silent shelf, by visit."""
    refused: set[str] = field(default_factory=set)
    """Promotions that central refuses for good."""


@dataclass(frozen=True, slots=True)
class Held:
    """What stands between one shopper and one promotion."""

    offered: int
    """Times today."""
    cooling: tuple[int, str] | None
    """The monotonic end of its group's cool-down, and the offer that began it."""
    pushed: str | None
    """The offer that holds the visit's push."""
    in_visit: int
    """Times during the event's visit."""
    in_store: int
    """Times today, to all shoppers, where that is limited."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event some of whose rules wait for the shopper's context."""

    event: Matchable
    circumstances: Circumstances
    withheld: tuple[Withheld, ...]
    """As it would be if no context came."""
    until_ms: int
    """Monotonic."""


class Offers:
    """Decides, remembers what was decided, and takes back what central refuses."""

    def __init__(self, new_id: Callable[[], str], day_start_ms: int = 0) -> None:
        """``day_start_ms``: when the store's day begins, after midnight UTC."""
        self._new_id = new_id
        self._day_start_ms = day_start_ms
        self._spent: dict[str, _Spent] = {}
        self._in_store: dict[tuple[str, int], int] = {}
        """Offers to all shoppers, by promotion and day, where that is limited."""
        self._proposals: dict[str, OfferMatched] = {}
        """Offers that central has not answered."""
        self._waiting: dict[str, list[Waiting]] = {}
        """By shopper, in the order of the events."""
        self._late_ms = _NEVER_MS
        """No proposal is late before this."""
        self._swept_ms: int | None = None

    # ---- matching -------------------------------------------------------------------------------------------------------------

    def match(
        self,
        event: Matchable,
        zone: Zone,
        catalogue: Catalogue,
        circumstances: Circumstances,
        context: ShopperContext | None = None,
        wait_until_ms: int = 0,
    ) -> Outcome:
        """What the shopper gets for this event: at most one push and any number of silent cards; the rest with its reason.

        Without a ``context`` the rules that need one are withheld with ``no_context``; until ``wait_until_ms`` (monotonic)
        ``take_waiting`` has them ready for the context that may still come.
        """
        rules = catalogue.rules(zone.name, event)
        for_all = _reason_for_all(event, circumstances, context)
        if for_all is not None:
            return Outcome(
                event, (), tuple(Withheld(p.promotion_id, for_all) for p in rules.promotions), catalogue.version, circumstances
            )
        if not rules.in_force:
            return Outcome(event, (), rules.closed, catalogue.version, circumstances)
        offers, refused = self._decide(event, zone, catalogue, circumstances, rules.in_force, context=context, now=event.at)
        withheld: WithheldRules = _WithClosed(rules.closed, refused) if refused else rules.closed
        if context is None and rules.needs_context and event.at[0] < wait_until_ms:
            waiting = Waiting(event, circumstances, tuple(withheld), wait_until_ms)
            self._waiting.setdefault(event.shopper, []).append(waiting)
        return Outcome(event, tuple(offers), withheld, catalogue.version, circumstances)

    def _decide(  # noqa: C901, PLR0912 -- the order of the reasons is best read in one place
        self,
        event: Matchable,
        zone: Zone,
        catalogue: Catalogue,
        circumstances: Circumstances,
        candidates: list[_Rule],
        *,
        context: ShopperContext | None,
        now: Instant,
    ) -> tuple[list[OfferMatched], list[tuple[_Rule, WithheldReason]]]:
        offers: list[OfferMatched] = []
        refused: list[tuple[_Rule, WithheldReason]] = []
        pushed = False
        quiet = catalogue.quiet_hours is not None and catalogue.is_quiet(now.wall_ms)
        spent = None if circumstances.is_test else self._of(event.shopper, event.at)
        on_shelf: int | None = None
        doubtful = circumstances.quality is not _SYNCHRONISED or circumstances.conflict or not circumstances.by_receiver
        situation: Situation | None = None
        now_ms = event.at[0]
        for rule in candidates:
            reason = _doubt(rule.promotion, circumstances, zone) if doubtful else None
            if reason is None and rule.is_personal:
                if situation is None:
                    situation = situation_of(event, catalogue)
                reason = _not_meant(rule, context, situation)
            if reason is None and spent is not None:
                reason = _cap(rule, spent, now_ms)
                if reason is None and rule.more_caps:
                    reason = self._more_caps(rule, spent, event)
            if reason is None and now[0] - now_ms > rule.promotion.deadline_ms:
                reason = WithheldReason.LATE
            if reason is not None:
                refused.append((rule, reason))
                continue
            unpushed = None
            if quiet and rule.push:
                unpushed = WithheldReason.QUIET_HOURS
            elif rule.spends and pushed:
                unpushed = _LOWER_PRIORITY
            elif rule.spends and spent is not None and event.visit in spent.pushed_visits:
                unpushed = _CAP_VISIT
            if unpushed is not None:
                refused.append((rule, unpushed))
                if on_shelf is None:
                    on_shelf = 0 if spent is None else spent.shelved.get(event.visit, 0)
                if on_shelf >= MOST_ON_SHELF:
                    continue
                on_shelf += 1
            spends = rule.spends and unpushed is None
            matched = _matched(self._new_id(), rule, event, catalogue.version, push=rule.push and unpushed is None)
            self._proposals[matched.offer] = matched
            self._late_ms = min(self._late_ms, matched.deadline.mono_ms)
            if spent is not None:
                self._spend(matched, spent, spends=spends, is_limited=rule.more_caps)
            offers.append(matched)
            pushed = pushed or spends
        if spent is not None and on_shelf:
            spent.shelved[event.visit] = on_shelf
        return offers, refused

    def _more_caps(self, rule: _Rule, spent: _Spent, event: Matchable) -> WithheldReason | None:
        promotion = rule.promotion
        if promotion.visit_cap is not None and spent.in_visit.get((event.visit, rule.promotion_id), 0) >= promotion.visit_cap:
            return _CAP_VISIT
        if promotion.store_cap_day is None:
            return None
        had = self._in_store.get((rule.promotion_id, self._day_of(event.at.wall_ms)), 0)
        return WithheldReason.CAP_STORE if had >= promotion.store_cap_day else None

    def _day_of(self, wall_ms: int) -> int:
        return (wall_ms - self._day_start_ms) // _DAY_MS

    def _spend(self, matched: OfferMatched, spent: _Spent, *, spends: bool, is_limited: bool) -> None:
        promotion_id, visit = matched.promotion_id, matched.visit
        spent.offers[promotion_id] = spent.offers.get(promotion_id, 0) + 1
        spent.in_visit[visit, promotion_id] = spent.in_visit.get((visit, promotion_id), 0) + 1
        if matched.cool_down_ms:
            spent.cooling[matched.cool_down_group] = (matched.at.mono_ms + matched.cool_down_ms, matched.offer)
        if spends:
            spent.pushed_visits[visit] = matched.offer
        if is_limited:
            key = promotion_id, self._day_of(matched.at.wall_ms)
            self._in_store[key] = self._in_store.get(key, 0) + 1

    def _of(self, shopper: str, at: Instant) -> _Spent:
        spent = self._spent.get(shopper)
        if spent is None:
            spent = self._spent[shopper] = _Spent(at[0])
        spent.touched_ms = at[0]
        return spent

    def held(self, promotion: Promotion, event: Matchable) -> Held:
        """The figures behind a cap or a cool-down, for whoever has to explain it; right after ``match`` those of the event."""
        spent = self._of(event.shopper, event.at)
        return Held(
            spent.offers.get(promotion.promotion_id, 0),
            spent.cooling.get(_group(promotion)),
            spent.pushed_visits.get(event.visit),
            spent.in_visit.get((event.visit, promotion.promotion_id), 0),
            self._in_store.get((promotion.promotion_id, self._day_of(event.at.wall_ms)), 0),
        )

    # ---- what waits for a context ---------------------------------------------------------------------------------------------

    def take_waiting(self, now_ms: int, is_known: Callable[[str], bool]) -> list[Waiting]:
        """Events whose shopper's context is known by now, each once, in the order of the shoppers' first and of each one's own.

        Those whose time is over are dropped: as ``match`` said, no context came.
        """
        if not self._waiting:
            return []
        ready: list[Waiting] = []
        for shopper in list(self._waiting):
            if is_known(shopper):
                # In time is what was known before the time was over; a tick may come a moment later.
                ready += self._waiting.pop(shopper)
            else:
                left = [one for one in self._waiting[shopper] if now_ms < one.until_ms]
                if left:
                    self._waiting[shopper] = left
                else:
                    del self._waiting[shopper]
        return ready

    def match_rest(self, waiting: Waiting, zone: Zone, catalogue: Catalogue, context: ShopperContext, now: Instant) -> Outcome:
        """The rest of an event, now that the context has come: what else is offered, and the whole of what is withheld.

        By the catalogue that is in force now: a promotion that has gone meanwhile is not offered.
        """
        event, circumstances = waiting.event, waiting.circumstances
        parked = [withheld.promotion_id for withheld in waiting.withheld if withheld.reason is _NO_CONTEXT]
        if context.stopped:
            return _rest(waiting, (), dict.fromkeys(parked, WithheldReason.STOPPED), catalogue.version)
        rules = catalogue.rules(zone.name, event)
        wanted = set(parked)
        candidates = [rule for rule in rules.in_force if rule.promotion_id in wanted]
        reasons: dict[str, WithheldReason | None] = dict.fromkeys(parked, WithheldReason.OUTSIDE_WINDOW)
        reasons.update((each.promotion_id, each.reason) for each in rules.closed if each.promotion_id in wanted)
        offers, refused = self._decide(event, zone, catalogue, circumstances, candidates, context=context, now=now)
        reasons.update((offer.promotion_id, None) for offer in offers)
        reasons.update((rule.promotion_id, reason) for rule, reason in refused)
        return _rest(waiting, tuple(offers), reasons, catalogue.version)

    # ---- central's answers and time -------------------------------------------------------------------------------------------

    def decide(self, verdict: Verdict) -> bool:
        """Take central's answer; a refusal gives back the visit's push, the cap and the cool-down. False: not waiting for it."""
        proposal = self._proposals.pop(verdict.offer, None)
        if proposal is None:
            return False
        if verdict.state == "refused" and verdict.reason not in STILL_SPENT:
            self._give_back(proposal, is_lasting=verdict.reason in LASTING)
        return True

    def _give_back(self, matched: OfferMatched, *, is_lasting: bool) -> None:
        in_store = matched.promotion_id, self._day_of(matched.at.wall_ms)
        if in_store in self._in_store:
            self._in_store[in_store] = max(0, self._in_store[in_store] - 1)
        spent = self._spent.get(matched.shopper)
        if spent is None:
            return
        if is_lasting:
            spent.refused.add(matched.promotion_id)
        spent.offers[matched.promotion_id] = max(0, spent.offers.get(matched.promotion_id, 0) - 1)
        in_visit = matched.visit, matched.promotion_id
        spent.in_visit[in_visit] = max(0, spent.in_visit.get(in_visit, 0) - 1)
        # The group may be cooling down for a later offer by now.
        others = spent.also_cooling.get(matched.cool_down_group, [])
        if spent.cooling.get(matched.cool_down_group, (0, ""))[1] != matched.offer:
            others[:] = [cooling for cooling in others if cooling[1] != matched.offer]
        elif others:
            spent.cooling[matched.cool_down_group] = max(others)
            others.remove(max(others))
        else:
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
            today = self._day_of(now.wall_ms)
            for key in [key for key in self._in_store if abs(key[1] - today) > 1]:
                del self._in_store[key]
        return [Verdict(offer, "late", "late") for offer in late]

    def next_deadline_ms(self) -> int | None:
        """When the next proposal becomes late."""
        return min((proposal.deadline.mono_ms + 1 for proposal in self._proposals.values()), default=None)

    @property
    def is_waiting(self) -> bool:
        """Whether a rule waits for somebody's context."""
        return bool(self._waiting)

    def stop_waiting(self) -> None:
        """Nobody's context comes any more."""
        self._waiting.clear()

    def stop_waiting_of(self, shopper: str) -> None:
        """This shopper's does not."""
        self._waiting.pop(shopper, None)

    def forget(self, shopper: str) -> None:
        """Drop everything about one shopper."""
        self._spent.pop(shopper, None)
        self._waiting.pop(shopper, None)
        for offer in [o for o, proposal in self._proposals.items() if proposal.shopper == shopper]:
            del self._proposals[offer]

    def remember(self, offers: Iterable[PastOffer], now: Instant, in_store: Iterable[StoreCount] = ()) -> None:
        """Take back today's offers after a restart, so that no cap, cool-down or push is forgotten."""
        self._in_store.update(((count.promotion_id, count.day), count.offers) for count in in_store)
        for past in offers:
            at = now.plus(min(0, past.wall_ms - now.wall_ms))
            spent = self._of(past.shopper, now)
            if past.state == "refused":
                if past.reason in LASTING:
                    spent.refused.add(past.promotion_id)
            else:
                spent.offers[past.promotion_id] = spent.offers.get(past.promotion_id, 0) + 1
                in_visit = past.visit, past.promotion_id
                spent.in_visit[in_visit] = spent.in_visit.get(in_visit, 0) + 1
                if past.cool_down_ms:
                    group, cooling = past.cool_down_group, (at.mono_ms + past.cool_down_ms, past.offer)
                    held = spent.cooling.get(group)
                    if held is None:
                        spent.cooling[group] = cooling
                    else:
                        spent.cooling[group] = max(cooling, held)
                        spent.also_cooling.setdefault(group, []).append(min(cooling, held))
                if past.kind in PUSH_KINDS and past.push:
                    spent.pushed_visits[past.visit] = past.offer
                elif past.kind != "info" and not past.push:
                    spent.shelved[past.visit] = spent.shelved.get(past.visit, 0) + 1
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
                    push=past.push and past.kind != "info",
                    cool_down_group=past.cool_down_group,
                    cool_down_ms=past.cool_down_ms,
                    catalogue_version=0,
                )


def _reason_for_all(event: Matchable, circumstances: Circumstances, context: ShopperContext | None) -> WithheldReason | None:
    if event.consent not in WITH_OFFERS:
        return WithheldReason.NO_CONSENT
    if circumstances.listen_only:
        return WithheldReason.LISTEN_ONLY
    if circumstances.zone_is_blind:
        return WithheldReason.BEACON_UNHEALTHY
    if context is not None and context.stopped:
        return WithheldReason.STOPPED
    # Nobody knows when: the shopper was gone when the gateway came back.
    return WithheldReason.LATE if type(event) is Exited and event.reason == "restart" else None


def situation_of(event: Matchable, catalogue: Catalogue) -> Situation:
    """What an audience may ask about the moment of an event."""
    stayed_ms = 0
    if type(event) is Dwelled:
        stayed_ms = event.dwell_ms
    elif type(event) is Exited:
        stayed_ms = event.left_at.mono_ms - event.entered_at.mono_ms
    return Situation(max(0, stayed_ms) // 1000, catalogue.local_minute(event.at.wall_ms))


def _not_meant(rule: _Rule, context: ShopperContext | None, situation: Situation) -> WithheldReason | None:
    """Why the promotion is not for this shopper."""
    promotion = rule.promotion
    if context is None:
        if rule.needs_context:
            return _NO_CONTEXT
        context = _NOTHING_KNOWN
    elif promotion.category is not None and promotion.category in context.muted_categories:
        return WithheldReason.MUTED_CATEGORY
    if promotion.visit_number is not None and context.visits_30_days + 1 != promotion.visit_number:
        return WithheldReason.NOT_NTH_VISIT
    if rule.is_for is None or rule.is_for(context, situation):
        return None
    return WithheldReason.AUDIENCE


def _rest(
    waiting: Waiting, offers: tuple[OfferMatched, ...], reasons: Mapping[str, WithheldReason | None], version: int
) -> Outcome:
    """``reasons``: of what waited; ``None``: it is offered."""
    withheld = []
    for each in waiting.withheld:
        reason = reasons.get(each.promotion_id, each.reason) if each.reason is _NO_CONTEXT else each.reason
        if reason is not None:
            withheld.append(Withheld(each.promotion_id, reason))
    return Outcome(waiting.event, offers, tuple(withheld), version, waiting.circumstances, is_rest=True)


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
    if spent.refused and rule.promotion_id in spent.refused:
        return WithheldReason.REFUSED_BY_CENTRAL
    cooling = spent.cooling.get(rule.group)
    return _COOL_DOWN if cooling is not None and mono_ms < cooling[0] else None


def _matched(offer: str, rule: _Rule, event: Matchable, version: int, *, push: bool) -> OfferMatched:
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
        push=push,
        cool_down_group=rule.group,
        cool_down_ms=promotion.cool_down_ms,
        catalogue_version=version,
    )


_Schedule = tuple[int | None, int | None, tuple[TimeWindow, ...]]


def _schedule(promotion: Promotion) -> _Schedule:
    return promotion.effective_from_ms, promotion.effective_until_ms, promotion.windows


def _group(promotion: Promotion) -> str:
    return promotion.cool_down_group or f"promotion:{promotion.promotion_id}"


def _waits_for(promotion: Promotion, key: int) -> bool:
    if key == _EXIT:
        return promotion.trigger == "exit"
    if key == _FIRST_ENTRY:
        return promotion.trigger in {"enter", "visit_start", "nth_visit"}
    if key == _LATER_ENTRY:
        return promotion.trigger == "enter"
    return promotion.trigger == "dwell" and promotion.dwell_ms == key


def _zones_of(promotions: Iterable[Promotion], zones: Mapping[str, Zone]) -> list[tuple[str, ...]]:
    """The zones that each promotion names, directly or by tag, in the shop's order.

    Sensitive ones stay in, their evidence is checked when it matters.
    """
    everywhere = tuple(zones)
    places = {name: place for place, name in enumerate(everywhere)}
    tagged: dict[str, list[str]] = {}
    for name, zone in zones.items():
        for tag in zone.tags:
            tagged.setdefault(tag, []).append(name)
    found: list[tuple[str, ...]] = []
    for promotion in promotions:
        if not promotion.zones and not promotion.tags and promotion.trigger in {"visit_start", "nth_visit"}:
            found.append(everywhere)
            continue
        named = [name for name in promotion.zones if name in places]
        for tag in promotion.tags:
            named += tagged.get(tag, ())
        found.append(tuple(sorted(set(named), key=places.__getitem__)))
    return found


def _grouped(zones_of: list[tuple[str, ...]]) -> dict[str, tuple[int, ...]]:
    by_zone: dict[str, list[int]] = {}
    for index, zones in enumerate(zones_of):
        for zone in zones:
            by_zone.setdefault(zone, []).append(index)
    return {zone: tuple(indices) for zone, indices in by_zone.items()}
