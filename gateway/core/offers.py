"""Presence + catalogue + caps → offers, each promotion of the zone either matched or withheld with one reason.

The candidates of an event are found by zone among the promotions active now, already in order of priority, so the cost of an
advertisement does not depend on how many there are, and that of an event only on those of its zone.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo

from gateway.core.model import (
    PUSH_KINDS,
    STILL_SPENT,
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
    Verdict,
    Withheld,
    WithheldReason,
    Zone,
)
from gateway.core.timetable import is_in_force, is_quiet, next_change

_FORGET_SHOPPER_MS = 26 * 3600 * 1000
"""Pseudonyms live for a day; what is older can never be asked for again."""


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
        self._changes: list[tuple[int, int]] = []
        self._wall_ms = wall_ms
        self._restart(wall_ms)

    def _restart(self, wall_ms: int) -> None:
        self._in_force = [is_in_force(promotion, wall_ms, self._time_zone) for promotion in self.promotions]
        self._changes = []
        for index, promotion in enumerate(self.promotions):
            if promotion.is_time_limited:
                self._schedule(index, wall_ms)
        heapq.heapify(self._changes)
        self._wall_ms = wall_ms

    def _schedule(self, index: int, wall_ms: int) -> None:
        change = next_change(self.promotions[index], wall_ms, self._time_zone)
        if change is not None:
            heapq.heappush(self._changes, (change, index))

    def advance(self, wall_ms: int) -> None:
        """Bring the windows up to ``wall_ms``; a clock that went back starts them anew."""
        if wall_ms < self._wall_ms:
            self._restart(wall_ms)
            return
        self._wall_ms = wall_ms
        while self._changes and self._changes[0][0] <= wall_ms:
            _, index = heapq.heappop(self._changes)
            self._in_force[index] = is_in_force(self.promotions[index], wall_ms, self._time_zone)
            self._schedule(index, wall_ms)

    def in_zone(self, zone: str) -> list[tuple[Promotion, bool]]:
        """The zone's promotions by priority, each with whether it is in force."""
        return [(self.promotions[index], self._in_force[index]) for index in self.by_zone.get(zone, ())]

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


class Offers:
    """Decides, remembers what was decided, and takes back what central refuses."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._spent: dict[str, _Spent] = {}
        self._proposals: dict[str, OfferMatched] = {}
        """Offers that central has not answered."""

    # ---- matching -------------------------------------------------------------------------------------------------------------

    def match(
        self,
        event: Entered | Dwelled,
        zone: Zone,
        catalogue: Catalogue,
        *,
        quality: ClockQuality,
        conflict: bool,
        by_receiver: bool,
    ) -> Outcome:
        """What the shopper gets for this event: at most one push and any number of silent cards; the rest with its reason."""
        trigger = "enter" if isinstance(event, Entered) else "dwell"
        offers: list[OfferMatched] = []
        withheld: list[Withheld] = []
        pushed = False
        for promotion, in_force in catalogue.in_zone(zone.name):
            if promotion.trigger != trigger or (isinstance(event, Dwelled) and promotion.dwell_ms != event.dwell_ms):
                continue
            push = promotion.kind != "info"
            spends = promotion.kind in PUSH_KINDS
            reason = self._reason(
                promotion,
                event,
                in_force=in_force,
                quality=quality,
                conflict=conflict,
                hint_only=not by_receiver and (promotion.sensitive or zone.sensitive),
                quiet=push and catalogue.is_quiet(event.at.wall_ms),
            )
            if reason is None and spends:
                if pushed:
                    reason = WithheldReason.LOWER_PRIORITY
                elif event.visit in self._of(event.shopper, event.at).pushed_visits:
                    reason = WithheldReason.CAP_VISIT
            if reason is not None:
                withheld.append(Withheld(promotion.promotion_id, reason))
                continue
            offers.append(self._propose(promotion, event, catalogue.version, push=push, spends=spends))
            pushed = pushed or spends
        return Outcome(event, tuple(offers), tuple(withheld), catalogue.version)

    def _reason(
        self,
        promotion: Promotion,
        event: Entered | Dwelled,
        *,
        in_force: bool,
        quality: ClockQuality,
        conflict: bool,
        hint_only: bool,
        quiet: bool,
    ) -> WithheldReason | None:
        if not event.consent & Consent.OFFERS:
            return WithheldReason.NO_CONSENT
        if not in_force:
            return WithheldReason.OUTSIDE_WINDOW
        if quality is not ClockQuality.SYNCHRONISED and promotion.is_time_limited:
            return WithheldReason.CLOCK_HOLDOVER
        if conflict:
            return WithheldReason.CONFLICT
        if hint_only:
            return WithheldReason.HINT_ONLY
        spent = self._of(event.shopper, event.at)
        if spent.offers.get(promotion.promotion_id, 0) >= promotion.daily_cap:
            return WithheldReason.CAP_DAY
        until_ms, _ = spent.cooling.get(_group(promotion), (event.at.mono_ms, ""))
        if event.at.mono_ms < until_ms:
            return WithheldReason.COOL_DOWN
        return WithheldReason.QUIET_HOURS if quiet else None

    def _propose(self, promotion: Promotion, event: Entered | Dwelled, version: int, *, push: bool, spends: bool) -> OfferMatched:
        matched = OfferMatched(
            offer=self._new_id(),
            shopper=event.shopper,
            visit=event.visit,
            zone=event.zone,
            promotion_id=promotion.promotion_id,
            kind=promotion.kind,
            at=event.at,
            deadline=event.at.plus(promotion.deadline_ms),
            push=push,
            cool_down_group=_group(promotion),
            cool_down_ms=promotion.cool_down_ms,
            catalogue_version=version,
        )
        spent = self._of(event.shopper, event.at)
        spent.offers[promotion.promotion_id] = spent.offers.get(promotion.promotion_id, 0) + 1
        if promotion.cool_down_ms:
            spent.cooling[_group(promotion)] = (event.at.mono_ms + promotion.cool_down_ms, matched.offer)
        if spends:
            spent.pushed_visits[event.visit] = matched.offer
        self._proposals[matched.offer] = matched
        return matched

    def _of(self, shopper: str, at: Instant) -> _Spent:
        spent = self._spent.get(shopper)
        if spent is None:
            spent = self._spent[shopper] = _Spent(at.mono_ms)
        spent.touched_ms = at.mono_ms
        return spent

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
        late = [o for o, proposal in self._proposals.items() if proposal.deadline.mono_ms < now.mono_ms]
        for offer in late:
            del self._proposals[offer]
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
