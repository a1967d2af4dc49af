"""Belief over time → visits, entries, dwells and exits, each with its reason.

::

                    likelier than outside for `hold`            ln(P(new)/P(zone)) > margin for `hold`
        ┌─────────┐ ──────────── Entered ─────────▶ ┌──────┐ ──────── Exited(moved), Entered ────────┐
        │ nowhere │                                 │ zone │ ◀────────────────────────────────────────┘
        └─────────┘ ◀── Exited(silence | weak) ──── └──────┘ ── threshold passed: Dwelled ──┐
             │          after the zone's exit delay       ▲─────────────────────────────────┘
             ▼ visit gap passed
        VisitEnded                VisitStarted comes with the first entry

Durations run on the monotonic clock; exits need no advertisement. A phone that falls silent for less than the exit delay stays.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import log
from typing import Literal

from gateway.core.model import (
    Belief,
    Consent,
    Dwelled,
    Entered,
    Evidence,
    Exited,
    Instant,
    OpenVisit,
    PresenceEvent,
    Shop,
    VisitEnded,
    VisitStarted,
)

_TINY = 1e-9
_CANDIDATE_LASTS_MS = 75_000
"""Where phones tell and nobody hears, beliefs come once a minute; what was not repeated by then was not meant."""


@dataclass(slots=True)
class _Visit:
    """What is known of one shopper between the first entry and the end of the visit."""

    shopper: str
    visit: str
    consent: Consent
    started_at: Instant
    number: int
    """Visits come in the order in which they began."""
    zones: int = 0
    zone: str | None = None
    entered_at: Instant | None = None
    dwelled_ms: int = 0
    threshold_ms: int | None = None
    """The next stay to be announced as dwelled."""
    inside_at: Instant | None = None
    """When a belief last supported being in the zone."""
    heard_at: Instant | None = None
    left_at: Instant | None = None
    evidence: Evidence | None = None
    back_at: Instant | None = None
    """When a restart took the stay back; the exit delay begins anew here, and nothing has been heard since."""
    queued_ms: int | None = None
    """Under which deadline the visit waits in the queue."""


@dataclass(slots=True)
class _Candidate:
    """A zone that is likelier at the moment, and since when without interruption."""

    zone: str
    since_ms: int
    renewed_ms: int


class Presence:
    """The presence of every shopper of one store."""

    def __init__(self, shop: Shop, *, margin: float, hold_ms: int, visit_gap_ms: int, new_id: Callable[[], str]) -> None:
        self._shop = shop
        self._margin = margin
        self._hold_ms = hold_ms
        self._visit_gap_ms = visit_gap_ms
        self._new_id = new_id
        self._visits: dict[str, _Visit] = {}
        self._by_number: dict[int, _Visit] = {}
        self._begun = 0
        self._queue: list[tuple[int, int]] = []
        """Heap of (deadline, number of a visit). Being heard moves a deadline on; the queue learns of it when the old one comes.
        """
        self._dwelling: dict[int, _Visit] = {}
        """Visits, by number, whose stay has passed a threshold since the last tick."""
        self._candidates: dict[str, _Candidate] = {}
        self._dwells: dict[str, tuple[int, ...]] = {}
        self.use(shop, {})

    def use(self, shop: Shop, dwells: Mapping[str, Iterable[int]]) -> None:
        """Swap the shop; ``dwells`` adds thresholds in milliseconds per zone (promotions with a dwell trigger)."""
        self._shop = shop
        self._dwells = {name: tuple(sorted({*zone.dwell_ms, *dwells.get(name, ())})) for name, zone in shop.zones.items()}
        self._dwelling = dict(self._by_number)
        self._queue.clear()
        for visit in self._visits.values():
            visit.threshold_ms = self._next_threshold_ms(visit)
            visit.queued_ms = None
            self._enqueue(visit)

    @property
    def present(self) -> int:
        """Shoppers in some zone now."""
        return sum(visit.zone is not None for visit in self._visits.values())

    @property
    def shoppers(self) -> tuple[str, ...]:
        """Whose visits are open."""
        return tuple(self._visits)

    def is_present(self, shopper: str) -> bool:
        """Whether a visit of this shopper is open."""
        return shopper in self._visits

    def zone_of(self, shopper: str) -> str | None:
        """The zone this shopper is in."""
        visit = self._visits.get(shopper)
        return None if visit is None else visit.zone

    def limit(self, shopper: str, consent: Consent) -> None:
        """Less consent from now on, though nothing was heard."""
        if shopper in self._visits:
            self._visits[shopper].consent &= consent

    def forget(self, shopper: str) -> None:
        """Drop the shopper without any event: consent was withdrawn."""
        visit = self._visits.pop(shopper, None)
        if visit is not None:
            del self._by_number[visit.number]
            self._dwelling.pop(visit.number, None)
        self._candidates.pop(shopper, None)

    # ---- beliefs --------------------------------------------------------------------------------------------------------------

    def update(self, belief: Belief, consent: Consent) -> list[PresenceEvent]:
        """Take one belief of a shopper; returns what it makes certain."""
        shopper, zones = belief.shopper, belief.zones
        visit = self._visits.get(shopper)
        current = None
        if visit is not None:
            visit.consent = consent
            visit.heard_at = belief.heard_at
            current = visit.zone
        if not zones:
            return []
        best, likeliest = "", 0.0
        for zone, p in zones.items():
            if p > likeliest or (p == likeliest and zone > best):
                best, likeliest = zone, p
        if visit is not None and current is not None and zones.get(current, 0.0) >= belief.outside:
            self._support(visit, belief.heard_at)
        if best == current or not self._speaks_for(best, current, belief):
            if shopper in self._candidates:
                del self._candidates[shopper]
            return []
        candidate = self._candidates.get(shopper)
        if candidate is None or candidate.zone != best or belief.at.mono_ms - candidate.renewed_ms > _CANDIDATE_LASTS_MS:
            candidate = self._candidates[shopper] = _Candidate(best, belief.at.mono_ms, belief.at.mono_ms)
        candidate.renewed_ms = belief.at.mono_ms
        if belief.at.mono_ms - candidate.since_ms < self._hold_ms:
            return []
        del self._candidates[shopper]
        return self._enter(belief, best, visit, consent)

    def _support(self, visit: _Visit, heard_at: Instant) -> None:
        """A belief says that the shopper is still in the zone."""
        # A report may arrive behind what the receivers heard later.
        if visit.inside_at is None or heard_at > visit.inside_at:
            visit.inside_at = heard_at
        if visit.back_at is not None:
            visit.back_at = None
            self._enqueue(visit)
        threshold_ms = visit.threshold_ms
        if threshold_ms is not None and visit.inside_at.mono_ms - (visit.entered_at or heard_at).mono_ms >= threshold_ms:
            self._dwelling[visit.number] = visit

    def _speaks_for(self, best: str, current: str | None, belief: Belief) -> bool:
        if belief.zones[best] <= belief.outside or best not in self._shop.zones:
            return False
        return current is None or _log_ratio(belief.zones[best], belief.zones.get(current, 0.0)) > self._margin

    def _enter(self, belief: Belief, zone: str, visit: _Visit | None, consent: Consent) -> list[PresenceEvent]:
        events: list[PresenceEvent] = []
        shopper, at = belief.shopper, belief.at
        if visit is None:
            visit = self._begin(shopper, self._new_id(), consent, at)
            events.append(VisitStarted(shopper, visit.visit, at, consent))
        elif visit.zone is not None:
            events.append(self._exit(visit, at, visit.inside_at or at, "moved"))
        visit.zone, visit.entered_at, visit.inside_at, visit.back_at = zone, at, belief.heard_at, None
        visit.heard_at, visit.left_at, visit.dwelled_ms = belief.heard_at, None, 0
        visit.zones += 1
        visit.evidence = _evidence(belief, zone)
        visit.threshold_ms = self._next_threshold_ms(visit)
        self._enqueue(visit)
        events.append(Entered(shopper, visit.visit, zone, at, consent, visit.evidence))
        return events

    # ---- time -----------------------------------------------------------------------------------------------------------------

    def tick(self, now: Instant) -> list[PresenceEvent]:
        """What the passing of time alone makes certain: dwells, exits, ends of visits."""
        events: list[PresenceEvent] = []
        due, self._dwelling = self._dwelling, {}
        due.update((visit.number, visit) for visit in self._overdue(now.mono_ms))
        for number in sorted(due):
            events += self._pass_time(due[number], now)
        oldest_ms = now.mono_ms - _CANDIDATE_LASTS_MS
        for shopper in [name for name, candidate in self._candidates.items() if candidate.renewed_ms < oldest_ms]:
            del self._candidates[shopper]
        return events

    def _pass_time(self, visit: _Visit, now: Instant) -> list[PresenceEvent]:
        events: list[PresenceEvent] = []
        if visit.zone is not None:
            events += self._dwell(visit, now)
            if now.mono_ms >= self._deadline_of(visit):
                inside_at = visit.inside_at or now
                silent = visit.heard_at is None or visit.heard_at.mono_ms <= inside_at.mono_ms
                events.append(self._exit(visit, now, inside_at, "silence" if silent else "weak"))
        # After a long halt of the machine the exit and the end of the visit become certain together.
        if visit.zone is None and visit.left_at is not None and now.mono_ms >= self._deadline_of(visit):
            zones = max(1, visit.zones)
            events.append(VisitEnded(visit.shopper, visit.visit, now, visit.consent, visit.started_at, visit.left_at, zones))
            self.forget(visit.shopper)
        return events

    def _enqueue(self, visit: _Visit) -> None:
        """Let ``tick`` look at the visit no later than at its deadline."""
        deadline_ms = self._deadline_of(visit)
        if visit.queued_ms is None or deadline_ms < visit.queued_ms:
            visit.queued_ms = deadline_ms
            heapq.heappush(self._queue, (deadline_ms, visit.number))

    def _overdue(self, now_ms: int) -> list[_Visit]:
        """Takes the visits out of the queue whose deadline has come."""
        found = []
        while (deadline_ms := self.next_deadline_ms()) is not None and deadline_ms <= now_ms:
            visit = self._by_number[heapq.heappop(self._queue)[1]]
            visit.queued_ms = None
            found.append(visit)
        return found

    def next_deadline_ms(self) -> int | None:
        """The earliest monotonic moment at which silence alone could make something certain (dwells need a belief first)."""
        while self._queue:
            queued_ms, number = self._queue[0]
            visit = self._by_number.get(number)
            if visit is None or visit.queued_ms != queued_ms:
                heapq.heappop(self._queue)
                continue
            deadline_ms = self._deadline_of(visit)
            if deadline_ms <= queued_ms:
                return deadline_ms
            visit.queued_ms = deadline_ms
            heapq.heapreplace(self._queue, (deadline_ms, number))
        return None

    def _deadline_of(self, visit: _Visit) -> int:
        if visit.zone is None:
            return (visit.left_at or visit.started_at).mono_ms + self._visit_gap_ms
        return (visit.back_at or visit.inside_at or visit.started_at).mono_ms + self._exit_delay_ms(visit.zone)

    def _next_threshold_ms(self, visit: _Visit) -> int | None:
        thresholds = () if visit.zone is None else self._dwells.get(visit.zone, ())
        return next((threshold for threshold in thresholds if threshold > visit.dwelled_ms), None)

    def _exit_delay_ms(self, zone: str) -> int:
        known = self._shop.zones.get(zone)
        return 0 if known is None else known.exit_delay_ms

    def _dwell(self, visit: _Visit, now: Instant) -> list[PresenceEvent]:
        """Thresholds passed by time for which the shopper was surely there, not by silence after leaving."""
        assert visit.zone is not None
        entered_at = visit.entered_at or visit.started_at
        events: list[PresenceEvent] = []
        if visit.back_at is not None:
            return events
        stayed_ms = (visit.inside_at or now).mono_ms - entered_at.mono_ms
        for threshold in self._dwells.get(visit.zone, ()):
            if visit.dwelled_ms < threshold <= stayed_ms:
                visit.dwelled_ms = threshold
                visit.threshold_ms = self._next_threshold_ms(visit)
                events.append(
                    Dwelled(visit.shopper, visit.visit, visit.zone, now, visit.consent, entered_at, threshold, visit.evidence)
                )
        return events

    def _exit(
        self, visit: _Visit, at: Instant, left_at: Instant, reason: Literal["moved", "silence", "weak", "restart"]
    ) -> Exited:
        assert visit.zone is not None
        entered_at = visit.entered_at or visit.started_at
        left_at = max(left_at, entered_at)
        event = Exited(visit.shopper, visit.visit, visit.zone, at, visit.consent, entered_at, left_at, reason)
        visit.zone, visit.entered_at, visit.inside_at, visit.left_at, visit.evidence = None, None, None, left_at, None
        visit.back_at = None
        self._enqueue(visit)
        return event

    def _begin(self, shopper: str, visit: str, consent: Consent, at: Instant) -> _Visit:
        self.forget(shopper)
        self._begun += 1
        begun = self._visits[shopper] = self._by_number[self._begun] = _Visit(shopper, visit, consent, at, self._begun)
        return begun

    # ---- restart --------------------------------------------------------------------------------------------------------------

    def remember(self, open_visits: Iterable[OpenVisit], alive_wall_ms: int | None, now: Instant) -> list[PresenceEvent]:
        """Take visits back after a restart; returns what ended while nobody was listening.

        After a short absence the visit goes on and the exit timer starts anew; after more than the visit gap it ended when the
        last process was last known to be alive.
        """
        events: list[PresenceEvent] = []
        for saved in open_visits:
            last_wall_ms = max(saved.last_event_wall_ms, alive_wall_ms or 0)
            away_ms = max(0, now.wall_ms - last_wall_ms)
            last = now.plus(-away_ms)
            started_at = now.plus(min(0, saved.started_wall_ms - now.wall_ms))
            visit = self._begin(saved.shopper, saved.visit, saved.consent, started_at)
            visit.zones = saved.zones
            if saved.zone is not None:
                visit.zone = saved.zone
                visit.entered_at = now.plus(min(0, (saved.entered_wall_ms or saved.started_wall_ms) - now.wall_ms))
                visit.dwelled_ms = saved.dwelled_ms
                visit.threshold_ms = self._next_threshold_ms(visit)
                visit.inside_at, visit.back_at = max(last, visit.entered_at), now
            else:
                visit.left_at = now.plus(min(0, saved.last_event_wall_ms - now.wall_ms))
            self._enqueue(visit)
            if saved.zone is not None and (away_ms >= self._visit_gap_ms or saved.zone not in self._shop.zones):
                events.append(self._exit(visit, now, last, "restart"))
        return events + self.tick(now)


def _log_ratio(p: float, q: float) -> float:
    return log(max(p, _TINY) / max(q, _TINY))


def _evidence(belief: Belief, zone: str) -> Evidence:
    others = {name: p for name, p in belief.zones.items() if name != zone}
    runner_up = max(others, key=lambda name: (others[name], name), default=None)
    rival = belief.outside if runner_up is None else max(others[runner_up], belief.outside)
    return Evidence(
        belief=round(belief.zones[zone], 3),
        runner_up=runner_up,
        margin=round(_log_ratio(belief.zones[zone], rival), 2),
        anchors=tuple(belief.anchors),
    )
