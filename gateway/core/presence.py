"""Belief over time → visits, entries, dwells and exits, each with its reason.

::

                 announced (below), and believed for the zone's minimum dwell
        ┌─────────┐ ──────────── Entered ─────────▶ ┌──────┐ ── another zone likewise: Exited(moved), Entered ──┐
        │ nowhere │                                 │ zone │ ◀───────────────────────────────────────────────────┘
        └─────────┘ ◀── Exited(silence | weak) ──── └──────┘ ── threshold passed: Dwelled ──┐
             │                                         ▲────────────────────────────────────┘
             ▼ visit gap passed
        VisitEnded                VisitStarted comes with the first entry

    in state   what comes                                             becomes
    nowhere    a zone is announced and has been for enter_after       zone: VisitStarted (once a visit), Entered
    nowhere    it ceases to be the likeliest before that              nowhere; remembered as NotEntered
    nowhere    nothing for the visit gap                              VisitEnded
    zone       it is at least as likely as outside                    zone; the stay is supported: exit timers begin anew
    zone       supported for one of the dwell thresholds              zone: Dwelled
    zone       another zone is announced and has been for enter_after the other: Exited(moved), Entered
    zone       that ceases before                                     zone; remembered as NotEntered
    zone       heard, but not supported for exit_delay                nowhere: Exited(weak)
    zone       not heard at all for stale (usually the same)          nowhere: Exited(silence)
    any        the shopper is forgotten                               nothing is known, nothing is told

There is one hysteresis, the ``Announcer``'s: a zone is announced when it is likelier than the present one by a margin, which
taking back one's own changes makes dearer. Durations run on the monotonic clock; exits need no advertisement. A phone that falls
silent for less than the exit delay stays.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import log
from typing import Final, Literal

from gateway.core.announcer import Announcer
from gateway.core.model import (
    Belief,
    Consent,
    Dwelled,
    Entered,
    Evidence,
    Exited,
    Instant,
    NotEntered,
    OpenVisit,
    PresenceEvent,
    Shop,
    VisitEnded,
    VisitStarted,
)

_TINY: Final = 1e-9
_CANDIDATE_LASTS_MS: Final = 75_000
"""Where phones tell and nobody hears, beliefs come once a minute; what was not repeated by then was not meant."""
_SURE: Final = 0.5
"""A zone that is likelier than all others together needs no comparison."""
_NEAR_BORDER: Final = log(4.0)
"""A neighbour that is at least a quarter as likely: the shopper is within about a metre of the border."""
_NOT_ENTERED: Final = 256
_NOT_ENTERED_LASTS_MS: Final = 900_000
_SWEEP_MS: Final = 2_000


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
    belief: Belief | None = None
    """The newest; gone between two stays."""


@dataclass(slots=True)
class _Candidate:
    """A zone that is likeliest at the moment, or announced already, and since when without interruption."""

    zone: str
    since: Instant
    renewed: Instant
    announced_ms: int | None = None
    """Since when it has been announced."""
    best: Belief | None = None
    """When it was likeliest."""


class _Following:
    """What is announced of one shopper, and what may be next."""

    __slots__ = ("announcer", "candidate", "renewed_ms")

    def __init__(self, announcer: Announcer, now_ms: int) -> None:
        self.announcer = announcer
        self.candidate: _Candidate | None = None
        self.renewed_ms = now_ms


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
        self._following: dict[str, _Following] = {}
        """Whoever is in a zone or may come into one."""
        self._swept_ms = 0
        self.not_entered: deque[NotEntered] = deque(maxlen=_NOT_ENTERED)
        """What came to nothing within the last quarter of an hour, oldest first."""
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
        self._drop_visit(shopper)
        self._following.pop(shopper, None)
        if any(each.shopper == shopper for each in self.not_entered):
            kept = [each for each in self.not_entered if each.shopper != shopper]
            self.not_entered = deque(kept, maxlen=_NOT_ENTERED)

    def _drop_visit(self, shopper: str) -> None:
        visit = self._visits.pop(shopper, None)
        if visit is not None:
            del self._by_number[visit.number]
            self._dwelling.pop(visit.number, None)

    # ---- beliefs --------------------------------------------------------------------------------------------------------------

    def update(self, belief: Belief, consent: Consent) -> list[PresenceEvent]:
        """Take one belief of a shopper; returns what it makes certain."""
        shopper, zones = belief.shopper, belief.zones
        visit = self._visits.get(shopper)
        following = self._following.get(shopper)
        current = None
        if visit is not None:
            visit.consent = consent
            if visit.heard_at is None or belief.heard_at > visit.heard_at:
                visit.heard_at = belief.heard_at
            current = visit.zone
            if current is not None:
                visit.belief = belief
        if not zones:
            return []
        if visit is not None and current is not None:
            p = zones.get(current, 0.0)
            if p >= belief.outside:
                self._support(visit, belief.heard_at)
            else:
                # Heard elsewhere the stay may end sooner than by silence.
                self._enqueue(visit)
            if p > _SURE and following is not None and following.candidate is None and following.announcer.zone == current:
                belief.is_settled = True
                following.announcer.support(belief.at[0], p)
                return []
        if following is None:
            following = self._following[shopper] = _Following(Announcer(self._margin, current), belief.at[0])
        return self._consider(belief, visit, current, following, consent)

    def _consider(
        self, belief: Belief, visit: _Visit | None, current: str | None, following: _Following, consent: Consent
    ) -> list[PresenceEvent]:
        """Announce, and follow the zone that is next for as long as it takes."""
        at, zones = belief.at, belief.zones
        beliefs: dict[str | None, float] = {None: belief.outside}
        beliefs.update(zones)
        announced = following.announcer.update(at[0], beliefs)
        following.renewed_ms = at[0]
        zone = announced
        if zone is None or zone == current or zone not in self._shop.zones:
            zone = max(zones, key=lambda name: (zones[name], name))
            if zone == current or zones[zone] <= belief.outside or zone not in self._shop.zones:
                self._give_up(belief.shopper, current, following, at)
                return []
        candidate = following.candidate
        if candidate is None or candidate.zone != zone or at[0] - candidate.renewed[0] > _CANDIDATE_LASTS_MS:
            self._give_up(belief.shopper, current, following, at)
            candidate = following.candidate = _Candidate(zone, at, at)
        candidate.renewed = at
        if zone in zones and (candidate.best is None or zones[zone] >= candidate.best.zones[zone]):
            candidate.best = belief
        if zone != announced:
            candidate.announced_ms = None
            return []
        if candidate.announced_ms is None:
            candidate.announced_ms = at[0]
        if at[0] - candidate.announced_ms < self._enter_after_ms(zone, current):
            return []
        following.candidate = None
        return self._enter(belief, zone, visit, consent)

    def _give_up(self, shopper: str, current: str | None, following: _Following, at: Instant) -> None:
        """Remember the zone that was next and is so no more."""
        candidate, following.candidate = following.candidate, None
        if candidate is None or candidate.best is None:
            return
        best = candidate.best
        believed_ms = 0 if candidate.announced_ms is None else candidate.renewed[0] - candidate.announced_ms
        self.not_entered.append(
            NotEntered(
                shopper=shopper,
                zone=candidate.zone,
                instead=current,
                since=candidate.since,
                at=candidate.renewed,
                believed_ms=believed_ms,
                needed_ms=self._enter_after_ms(candidate.zone, current),
                margin=_log_ratio(best.zones[candidate.zone], best.outside if current is None else best.zones.get(current, 0.0)),
                needed_margin=following.announcer.needed(at[0], candidate.zone),
                evidence=self._evidence(best, candidate.zone),
            )
        )

    def _enter_after_ms(self, zone: str, current: str | None) -> int:
        """The zone's minimum dwell; where it has none of its own, only who comes from nowhere may have been a passer-by."""
        known = self._shop.zones.get(zone)
        if known is not None and known.enter_after_ms is not None:
            return known.enter_after_ms
        return self._hold_ms if current is None else 0

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
        visit.evidence = self._evidence(belief, zone)
        visit.belief = belief
        visit.threshold_ms = self._next_threshold_ms(visit)
        self._enqueue(visit)
        events.append(Entered(shopper, visit.visit, zone, at, consent, visit.evidence, is_first=visit.zones == 1))
        return events

    # ---- time -----------------------------------------------------------------------------------------------------------------

    def tick(self, now: Instant) -> list[PresenceEvent]:
        """What the passing of time alone makes certain: dwells, exits, ends of visits."""
        events: list[PresenceEvent] = []
        due, self._dwelling = self._dwelling, {}
        due.update((visit.number, visit) for visit in self._overdue(now.mono_ms))
        for number in sorted(due):
            events += self._pass_time(due[number], now)
        if now.mono_ms - self._swept_ms >= _SWEEP_MS:
            self._swept_ms = now.mono_ms
            self._sweep(now)
        return events

    def _sweep(self, now: Instant) -> None:
        """Drop what was not meant, and what nobody will ask for any more."""
        oldest_ms = now.mono_ms - _CANDIDATE_LASTS_MS
        for shopper, following in list(self._following.items()):
            if following.renewed_ms < oldest_ms:
                current = self.zone_of(shopper)
                self._give_up(shopper, current, following, now)
                if current is None:
                    del self._following[shopper]
        while self.not_entered and self.not_entered[0].at.mono_ms < now.mono_ms - _NOT_ENTERED_LASTS_MS:
            self.not_entered.popleft()

    def _pass_time(self, visit: _Visit, now: Instant) -> list[PresenceEvent]:
        events: list[PresenceEvent] = []
        if visit.zone is not None:
            events += self._dwell(visit, now)
            if now.mono_ms >= self._deadline_of(visit):
                events.append(self._exit(visit, now, visit.inside_at or now, "weak" if self._is_elsewhere(visit) else "silence"))
                # Whoever is heard again comes in anew.
                self._following.pop(visit.shopper, None)
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
        inside_ms = (visit.back_at or visit.inside_at or visit.started_at).mono_ms
        zone = self._shop.zones.get(visit.zone)
        if zone is None:
            return inside_ms
        if zone.stale_ms is None:
            return inside_ms + zone.exit_delay_ms
        silent_ms = max(inside_ms, 0 if visit.heard_at is None else visit.heard_at.mono_ms) + zone.stale_ms
        return min(silent_ms, inside_ms + zone.exit_delay_ms) if self._is_elsewhere(visit) else silent_ms

    @staticmethod
    def _is_elsewhere(visit: _Visit) -> bool:
        """Whether the shopper has been heard since the stay was supported last."""
        if visit.heard_at is None:
            return False
        return visit.inside_at is None or visit.heard_at.mono_ms > visit.inside_at.mono_ms

    def _next_threshold_ms(self, visit: _Visit) -> int | None:
        thresholds = () if visit.zone is None else self._dwells.get(visit.zone, ())
        return next((threshold for threshold in thresholds if threshold > visit.dwelled_ms), None)

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
        evidence = None if visit.belief is None or visit.back_at is not None else self._evidence(visit.belief, visit.zone)
        event = Exited(visit.shopper, visit.visit, visit.zone, at, visit.consent, entered_at, left_at, reason, evidence)
        visit.zone, visit.entered_at, visit.inside_at, visit.left_at, visit.evidence = None, None, None, left_at, None
        visit.back_at = visit.belief = None
        self._enqueue(visit)
        return event

    def _begin(self, shopper: str, visit: str, consent: Consent, at: Instant) -> _Visit:
        self._drop_visit(shopper)
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

    def _evidence(self, belief: Belief, zone: str) -> Evidence:
        p = belief.zones.get(zone, 0.0)
        others = {name: share for name, share in belief.zones.items() if name != zone}
        runner_up = max(others, key=lambda name: (others[name], name), default=None)
        rival = belief.outside if runner_up is None else max(others[runner_up], belief.outside)
        return Evidence(
            belief=round(p, 3),
            runner_up=runner_up,
            margin=round(_log_ratio(p, rival), 2),
            anchors=tuple(belief.anchors),
            near_border=runner_up is not None
            and abs(_log_ratio(p, others[runner_up])) < _NEAR_BORDER
            and self._may_touch(zone, runner_up),
        )

    def _may_touch(self, zone: str, other: str) -> bool:
        """Whether nobody has said that the two are no neighbours."""
        known = self._shop.zones.get(zone)
        return known is None or known.neighbours is None or other in known.neighbours


def _log_ratio(p: float, q: float) -> float:
    return log(max(p, _TINY) / max(q, _TINY))
