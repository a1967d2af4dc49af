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

    visit: str
    consent: Consent
    started_at: Instant
    zones: int = 0
    zone: str | None = None
    entered_at: Instant | None = None
    dwelled_ms: int = 0
    inside_at: Instant | None = None
    """When a belief last supported being in the zone."""
    heard_at: Instant | None = None
    left_at: Instant | None = None
    evidence: Evidence | None = None
    back_at: Instant | None = None
    """When a restart took the stay back; the exit delay begins anew here, and nothing has been heard since."""


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
        self._candidates: dict[str, _Candidate] = {}
        self._dwells: dict[str, tuple[int, ...]] = {}
        self.use(shop, {})

    def use(self, shop: Shop, dwells: Mapping[str, Iterable[int]]) -> None:
        """Swap the shop; ``dwells`` adds thresholds in milliseconds per zone (promotions with a dwell trigger)."""
        self._shop = shop
        self._dwells = {name: tuple(sorted({*zone.dwell_ms, *dwells.get(name, ())})) for name, zone in shop.zones.items()}

    @property
    def present(self) -> int:
        """Shoppers in some zone now."""
        return sum(visit.zone is not None for visit in self._visits.values())

    def is_present(self, shopper: str) -> bool:
        """Whether a visit of this shopper is open."""
        return shopper in self._visits

    def limit(self, shopper: str, consent: Consent) -> None:
        """Less consent from now on, though nothing was heard."""
        if shopper in self._visits:
            self._visits[shopper].consent &= consent

    def forget(self, shopper: str) -> None:
        """Drop the shopper without any event: consent was withdrawn."""
        self._visits.pop(shopper, None)
        self._candidates.pop(shopper, None)

    # ---- beliefs --------------------------------------------------------------------------------------------------------------

    def update(self, belief: Belief, consent: Consent) -> list[PresenceEvent]:
        """Take one belief of a shopper; returns what it makes certain."""
        visit = self._visits.get(belief.shopper)
        if visit is not None:
            visit.consent = consent
            visit.heard_at = belief.heard_at
        if not belief.zones:
            return []
        best = max(belief.zones, key=lambda zone: (belief.zones[zone], zone))
        current = visit.zone if visit is not None else None
        if visit is not None and current is not None and belief.zones.get(current, 0.0) >= belief.outside:
            # A report may arrive behind what the receivers heard later.
            visit.inside_at, visit.back_at = max(visit.inside_at or belief.heard_at, belief.heard_at), None
        if not self._speaks_for(best, current, belief):
            self._candidates.pop(belief.shopper, None)
            return []
        candidate = self._candidates.get(belief.shopper)
        if candidate is None or candidate.zone != best or belief.at.mono_ms - candidate.renewed_ms > _CANDIDATE_LASTS_MS:
            candidate = self._candidates[belief.shopper] = _Candidate(best, belief.at.mono_ms, belief.at.mono_ms)
        candidate.renewed_ms = belief.at.mono_ms
        if belief.at.mono_ms - candidate.since_ms < self._hold_ms:
            return []
        del self._candidates[belief.shopper]
        return self._enter(belief, best, visit, consent)

    def _speaks_for(self, best: str, current: str | None, belief: Belief) -> bool:
        if belief.zones[best] <= belief.outside or best == current or best not in self._shop.zones:
            return False
        return current is None or _log_ratio(belief.zones[best], belief.zones.get(current, 0.0)) > self._margin

    def _enter(self, belief: Belief, zone: str, visit: _Visit | None, consent: Consent) -> list[PresenceEvent]:
        events: list[PresenceEvent] = []
        shopper, at = belief.shopper, belief.at
        if visit is None:
            visit = self._visits[shopper] = _Visit(self._new_id(), consent, at)
            events.append(VisitStarted(shopper, visit.visit, at, consent))
        elif visit.zone is not None:
            events.append(self._exit(shopper, visit, at, visit.inside_at or at, "moved"))
        visit.zone, visit.entered_at, visit.inside_at, visit.back_at = zone, at, belief.heard_at, None
        visit.heard_at, visit.left_at, visit.dwelled_ms = belief.heard_at, None, 0
        visit.zones += 1
        visit.evidence = _evidence(belief, zone)
        events.append(Entered(shopper, visit.visit, zone, at, consent, visit.evidence))
        return events

    # ---- time -----------------------------------------------------------------------------------------------------------------

    def tick(self, now: Instant) -> list[PresenceEvent]:
        """What the passing of time alone makes certain: dwells, exits, ends of visits."""
        events: list[PresenceEvent] = []
        for shopper, visit in list(self._visits.items()):
            if visit.zone is not None:
                events += self._dwell(shopper, visit, now)
                if now.mono_ms >= self._deadline_of(visit):
                    inside_at = visit.inside_at or now
                    silent = visit.heard_at is None or visit.heard_at.mono_ms <= inside_at.mono_ms
                    events.append(self._exit(shopper, visit, now, inside_at, "silence" if silent else "weak"))
            # After a long halt of the machine the exit and the end of the visit become certain together.
            if visit.zone is None and visit.left_at is not None and now.mono_ms >= self._deadline_of(visit):
                events.append(
                    VisitEnded(shopper, visit.visit, now, visit.consent, visit.started_at, visit.left_at, max(1, visit.zones))
                )
                self.forget(shopper)
        oldest_ms = now.mono_ms - _CANDIDATE_LASTS_MS
        for shopper in [name for name, candidate in self._candidates.items() if candidate.renewed_ms < oldest_ms]:
            del self._candidates[shopper]
        return events

    def next_deadline_ms(self) -> int | None:
        """The earliest monotonic moment at which silence alone could make something certain (dwells need a belief first)."""
        return min((self._deadline_of(visit) for visit in self._visits.values()), default=None)

    def _deadline_of(self, visit: _Visit) -> int:
        if visit.zone is None:
            return (visit.left_at or visit.started_at).mono_ms + self._visit_gap_ms
        return (visit.back_at or visit.inside_at or visit.started_at).mono_ms + self._exit_delay_ms(visit.zone)

    def _exit_delay_ms(self, zone: str) -> int:
        known = self._shop.zones.get(zone)
        return 0 if known is None else known.exit_delay_ms

    def _dwell(self, shopper: str, visit: _Visit, now: Instant) -> list[PresenceEvent]:
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
                events.append(
                    Dwelled(shopper, visit.visit, visit.zone, now, visit.consent, entered_at, threshold, visit.evidence)
                )
        return events

    def _exit(
        self, shopper: str, visit: _Visit, at: Instant, left_at: Instant, reason: Literal["moved", "silence", "weak", "restart"]
    ) -> Exited:
        assert visit.zone is not None
        entered_at = visit.entered_at or visit.started_at
        left_at = max(left_at, entered_at)
        event = Exited(shopper, visit.visit, visit.zone, at, visit.consent, entered_at, left_at, reason)
        visit.zone, visit.entered_at, visit.inside_at, visit.left_at, visit.evidence = None, None, None, left_at, None
        visit.back_at = None
        return event

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
            visit = _Visit(saved.visit, saved.consent, now.plus(min(0, saved.started_wall_ms - now.wall_ms)), saved.zones)
            if saved.zone is not None:
                visit.zone = saved.zone
                visit.entered_at = now.plus(min(0, (saved.entered_wall_ms or saved.started_wall_ms) - now.wall_ms))
                visit.dwelled_ms = saved.dwelled_ms
                visit.inside_at, visit.back_at = max(last, visit.entered_at), now
            else:
                visit.left_at = now.plus(min(0, saved.last_event_wall_ms - now.wall_ms))
            self._visits[saved.shopper] = visit
            if saved.zone is not None and (away_ms >= self._visit_gap_ms or saved.zone not in self._shop.zones):
                events.append(self._exit(saved.shopper, visit, now, last, "restart"))
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
        anchors=belief.anchors,
    )
