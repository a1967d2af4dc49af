"""A recording against what would have been announced: how often right, how restless, how late.

Everything is judged once a second, from each shopper's first sighting on, long silences left out: the zone announced then, and
the true zone and position of the newest sighting that knows them.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import inf
from typing import Protocol

from gateway.core.announcer import Announcer
from gateway.core.zone_model import Point, RecordedSighting, ShopPlan

TICK_MS = 1000
STEP_MS = 200
"""Beliefs are computed this often, as the running gateway does."""
EMISSION_MS = 50
"""The receivers' packets of one emission come within this time; a second is judged when those of its beginning are complete."""
_NEAR_M = 1.0
_BEFORE_MS = 3000
"""A stay is not wrong when its zone was the true one this shortly before it was announced."""
_LEAST_STAY_MS = 2000
_TRUTH_LASTS_MS = 5000
"""Packets miss for some seconds; the walker is still there."""
_SILENCE_MS = 120_000
"""Of whoever is not heard for longer the gateway has told that they left. The times of a recording may lie years apart: what lies
between them is no time in the shop."""


class Filter(Protocol):
    """What turns sightings into beliefs."""

    @property
    def zones(self) -> tuple[str, ...]:
        """The columns of a belief, of which the last stands for none of them."""

    def observe(self, sighting: RecordedSighting) -> None:
        """Take one sighting."""

    def beliefs(self, now_ms: int) -> Iterable[tuple[str, Sequence[float]]]:
        """Probabilities of each shopper observed since."""


@dataclass(frozen=True, slots=True)
class Tick:
    """One second of one shopper."""

    t_ms: int
    announced: str | None
    true: str | None
    is_known: bool
    """Whether the true zone is known, which may be none."""
    at_m: Point | None


@dataclass(frozen=True, slots=True)
class Score:
    """Counts of one recording; ``pooled`` adds them up."""

    ticks: int = 0
    """With a known true zone."""
    right: int = 0
    near_ticks: int = 0
    """Of them, with a known position."""
    near: int = 0
    """Announced a zone within 1 m of it."""
    seconds: int = 0
    true_changes: int = 0
    changes: int = 0
    stays: int = 0
    wrong_stays: int = 0
    delays_s: tuple[float | None, ...] = ()
    """For each true stay of at least 2 s; ``None``: never announced."""

    @property
    def accuracy(self) -> float | None:
        """Share of the ticks at which the announced zone is the true one."""
        return self.right / self.ticks if self.ticks else None

    @property
    def accuracy_1m(self) -> float | None:
        """The same, when a zone within 1 m of the true position counts."""
        return self.near / self.near_ticks if self.near_ticks else None

    @property
    def changes_per_true_change(self) -> float | None:
        """Absent without a true change."""
        return self.changes / self.true_changes if self.true_changes else None

    @property
    def changes_per_10min(self) -> float | None:
        """Announced changes, all of them."""
        return 600 * self.changes / self.seconds if self.seconds else None

    def delay_s(self, percent: int) -> float | None:
        """The smallest delay that this share of the stays does not exceed; ``None`` when that many were never announced."""
        ordered = sorted(inf if delay is None else delay for delay in self.delays_s)
        if not ordered:
            return None
        found = ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
        return None if found == inf else found

    @property
    def never_entered(self) -> int:
        """True stays that were never announced."""
        return sum(delay is None for delay in self.delays_s)


def pooled(scores: Iterable[Score]) -> Score:
    """All of them as one."""
    found = list(scores)
    return Score(
        ticks=sum(score.ticks for score in found),
        right=sum(score.right for score in found),
        near_ticks=sum(score.near_ticks for score in found),
        near=sum(score.near for score in found),
        seconds=sum(score.seconds for score in found),
        true_changes=sum(score.true_changes for score in found),
        changes=sum(score.changes for score in found),
        stays=sum(score.stays for score in found),
        wrong_stays=sum(score.wrong_stays for score in found),
        delays_s=tuple(delay for score in found for delay in score.delays_s),
    )


def announcements(sightings: Iterable[RecordedSighting], filtering: Filter) -> dict[str, list[Tick]]:
    """By shopper the announced zone each second: causal, at a second nothing later than it is known."""
    ordered = sorted(sightings, key=lambda sighting: sighting.t_ms)
    begin_ms: dict[str, int] = {}
    for sighting in ordered:
        begin_ms.setdefault(sighting.shopper, sighting.t_ms)
    changes: dict[str, list[tuple[int, str | None]]] = {name: [] for name in begin_ms}
    announcers = {name: Announcer() for name in begin_ms}
    columns: list[str | None] = [*filtering.zones, None]
    # Each shopper's steps begin with its first sighting, as its ticks do.
    due = sorted((_step_ms(begin_ms[sighting.shopper], sighting.t_ms), number) for number, sighting in enumerate(ordered))
    for now_ms, step in groupby(due, key=lambda item: item[0]):
        for _, number in step:
            filtering.observe(ordered[number])
        for name, belief in filtering.beliefs(now_ms):
            zone = announcers[name].update(now_ms, dict(zip(columns, belief, strict=True)))
            if not changes[name] or changes[name][-1][1] != zone:
                changes[name].append((now_ms, zone))
    of_shopper: dict[str, list[RecordedSighting]] = {name: [] for name in begin_ms}
    for sighting in ordered:
        of_shopper[sighting.shopper].append(sighting)
    return {name: _ticks(own, changes[name]) for name, own in of_shopper.items()}


def _step_ms(begin_ms: int, t_ms: int) -> int:
    """The step that knows a sighting: the next one, unless it has just begun."""
    return begin_ms + max(0, -(-(t_ms - begin_ms - EMISSION_MS) // STEP_MS)) * STEP_MS


def _ticks(own: Sequence[RecordedSighting], changes: Sequence[tuple[int, str | None]]) -> list[Tick]:
    ticks: list[Tick] = []
    newest = change = 0
    t_ms = own[0].t_ms
    while t_ms <= own[-1].t_ms:
        while newest + 1 < len(own) and own[newest + 1].t_ms <= t_ms:
            newest += 1
        while change < len(changes) and changes[change][0] <= t_ms:
            change += 1
        last = own[newest]
        is_known = t_ms - last.t_ms <= _TRUTH_LASTS_MS and (last.zone is not None or last.at_m is not None)
        if t_ms - last.t_ms <= _SILENCE_MS:
            ticks.append(Tick(t_ms, changes[change - 1][1] if change else None, last.zone, is_known, last.at_m))
            t_ms += TICK_MS
        else:
            t_ms += -(-(own[newest + 1].t_ms - t_ms) // TICK_MS) * TICK_MS
    return ticks


def score(ticks: Sequence[Tick], plan: ShopPlan) -> Score:
    """One shopper's seconds; the plan's polygons tell which zones are within 1 m."""
    known = [tick for tick in ticks if tick.is_known]
    placed = [tick for tick in known if tick.at_m is not None] if plan.zones else []
    true_stays = _stays(known, lambda tick: tick.true)
    announced = [stay for stay in _stays(ticks, lambda tick: tick.announced) if stay[0].announced is not None]
    delays = []
    for stay in true_stays:
        if stay[0].true is None or stay[-1].t_ms - stay[0].t_ms + TICK_MS < _LEAST_STAY_MS:
            continue
        heard = next((tick.t_ms for tick in stay if tick.announced == tick.true), None)
        delays.append(None if heard is None else (heard - stay[0].t_ms) / 1000)
    return Score(
        ticks=len(known),
        right=sum(tick.announced == tick.true for tick in known),
        near_ticks=len(placed),
        near=sum(_is_near(tick, plan) for tick in placed),
        seconds=len(ticks),
        true_changes=max(0, len(true_stays) - 1),
        changes=_changes(ticks),
        stays=len(announced),
        wrong_stays=sum(_is_wrong(stay, known) for stay in announced),
        delays_s=tuple(delays),
    )


def _changes(ticks: Sequence[Tick]) -> int:
    """Announced changes after the first announcement."""
    zones = [stay[0].announced for stay in _stays(ticks, lambda tick: tick.announced)]
    return max(0, len(zones) - 1 - (bool(zones) and zones[0] is None))


def _stays(ticks: Sequence[Tick], zone_of: Callable[[Tick], str | None]) -> list[list[Tick]]:
    return [list(stay) for _, stay in groupby(ticks, key=zone_of)]


def _is_wrong(stay: Sequence[Tick], known: Sequence[Tick]) -> bool:
    since_ms, until_ms = stay[0].t_ms - _BEFORE_MS, stay[-1].t_ms
    meanwhile = [tick for tick in known if since_ms <= tick.t_ms <= until_ms]
    return bool(meanwhile) and all(tick.true != stay[0].announced for tick in meanwhile)


def _is_near(tick: Tick, plan: ShopPlan) -> bool:
    if tick.announced == tick.true:
        return True
    assert tick.at_m is not None
    return tick.announced is not None and tick.announced in plan.zones_near(tick.at_m, _NEAR_M)
