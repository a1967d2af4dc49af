"""How a person goes through the shop: in by the door, to some zones, a while at a shelf in each, to the checkout and out.

A walk is planned as a whole before it begins, so that the truth is known for every millisecond of it.
"""

import math
import random
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from gateway.simulator.floor_plan import Area, FloorPlan, Point

SPEED_M_S = (0.8, 1.3)
PAUSE_MS = (20_000, 90_000)
TURN_MS = (4_000, 15_000)
"""Somebody at a shelf turns after this long."""
TURN_RAD = 0.8
"""… by so much (standard deviation) away from it."""
SHELF_DISTANCE_M = 0.9
"""People stop at least this far inside a zone."""
SAMPLE_MS = 100


class Whereabouts(NamedTuple):
    """Where somebody is and which way they face (radians)."""

    place: Point
    heading: float


@dataclass(frozen=True, slots=True)
class Leg:
    """A straight part of a walk, or a moment of standing still, from ``start_ms`` (inclusive) to ``end_ms``."""

    start_ms: int
    end_ms: int
    start: Point
    end: Point
    heading: float


@dataclass(frozen=True, slots=True)
class ZoneStay:
    """A person is truly in the zone from ``entered_ms`` (inclusive) to ``left_ms`` (exclusive)."""

    zone: str
    entered_ms: int
    left_ms: int


class Walk:
    """One visit of one person, from the door to the door."""

    __slots__ = ("_starts", "legs")

    def __init__(self, legs: Sequence[Leg]) -> None:
        """Legs follow each other in time without a gap; ``ValueError`` if they do not, or if there is none."""
        if not legs or any(a.end_ms != b.start_ms for a, b in pairwise(legs)):
            raise ValueError("a walk is a chain of legs")
        self.legs = tuple(legs)
        self._starts = [leg.start_ms for leg in self.legs]

    @property
    def arrives_ms(self) -> int:
        """The first millisecond inside."""
        return self.legs[0].start_ms

    @property
    def leaves_ms(self) -> int:
        """The first millisecond outside again."""
        return self.legs[-1].end_ms

    def later(self, by_ms: int) -> "Walk":
        """The same walk, begun so much later."""
        return Walk([replace(leg, start_ms=leg.start_ms + by_ms, end_ms=leg.end_ms + by_ms) for leg in self.legs])

    def at(self, at_ms: int) -> Whereabouts | None:
        """Where the person is, ``None`` before arriving and after leaving."""
        if not self.arrives_ms <= at_ms < self.leaves_ms:
            return None
        leg = self.legs[bisect_right(self._starts, at_ms) - 1]
        if leg.start == leg.end:
            return Whereabouts(leg.start, leg.heading)
        share = (at_ms - leg.start_ms) / (leg.end_ms - leg.start_ms)
        place = Point(leg.start.x + share * (leg.end.x - leg.start.x), leg.start.y + share * (leg.end.y - leg.start.y))
        return Whereabouts(place, leg.heading)

    def stays(self, plan: FloorPlan) -> tuple[ZoneStay, ...]:
        """The true stays in order, to the millisecond; a stay shorter than ``SAMPLE_MS`` may be missed."""
        stays: list[ZoneStay] = []
        zone, entered_ms = self._zone_at(plan, self.arrives_ms), self.arrives_ms
        before_ms = self.arrives_ms
        for now_ms in self._sample_times():
            now_zone = self._zone_at(plan, now_ms) if now_ms < self.leaves_ms else None
            if now_zone != zone:
                changed_ms = self._change(plan, zone, before_ms, now_ms)
                if zone is not None:
                    stays.append(ZoneStay(zone, entered_ms, changed_ms))
                zone, entered_ms = now_zone, changed_ms
            before_ms = now_ms
        return tuple(stays)

    def _sample_times(self) -> Iterable[int]:
        for leg in self.legs:
            if leg.start != leg.end:
                yield from range(leg.start_ms, leg.end_ms, SAMPLE_MS)
        yield self.leaves_ms

    def _zone_at(self, plan: FloorPlan, at_ms: int) -> str | None:
        whereabouts = self.at(at_ms)
        return None if whereabouts is None else plan.zone_at(whereabouts.place)

    def _change(self, plan: FloorPlan, zone: str | None, before_ms: int, after_ms: int) -> int:
        """The first millisecond in (before, after] at which the zone is no longer ``zone``, found by halving."""
        while after_ms - before_ms > 1:
            middle_ms = (before_ms + after_ms) // 2
            if self._zone_at(plan, middle_ms) == zone:
                before_ms = middle_ms
            else:
                after_ms = middle_ms
        return after_ms


class _Itinerary:
    """A walk in the making: where the person has got to, and when."""

    def __init__(self, plan: FloorPlan, rng: random.Random, arrive_ms: int) -> None:
        self._plan = plan
        self._rng = rng
        self._speed_m_s = rng.uniform(*SPEED_M_S)
        self._now_ms = arrive_ms
        self._here = plan.way_in
        self._zone = plan.zone_at(plan.way_in)
        self.legs: list[Leg] = []

    def go_to(self, there: Point) -> None:
        """Through the passages to a place in any zone."""
        zone = self._plan.zone_at(there)
        assert self._zone is not None
        assert zone is not None
        for point in (*self._plan.route(self._zone, zone), there):
            metres = self._here.distance_to(point)
            if metres > 0:
                heading = math.atan2(point.y - self._here.y, point.x - self._here.x)
                self._add(max(1, round(1000 * metres / self._speed_m_s)), point, heading)
        self._zone = zone

    def stand(self, duration_ms: int) -> None:
        """At one place, facing a shelf more often than not."""
        facing = self._rng.uniform(-math.pi, math.pi)
        while duration_ms > 0:
            turn_ms = min(duration_ms, self._rng.randint(*TURN_MS))
            self._add(turn_ms, self._here, facing + self._rng.gauss(0, TURN_RAD))
            duration_ms -= turn_ms

    def _add(self, duration_ms: int, point: Point, heading: float) -> None:
        self.legs.append(Leg(self._now_ms, self._now_ms + duration_ms, self._here, point, heading))
        self._now_ms += duration_ms
        self._here = point


def plan_walk(plan: FloorPlan, rng: random.Random, arrive_ms: int, *, stops: int | None = None) -> Walk:
    """A whole visit that begins at ``arrive_ms``; ``stops`` zones are visited before the checkout (default 1 … 4, at random)."""
    doors = {plan.zone_at(plan.way_in), plan.pay_in}
    departments = [area.name for area in plan.areas if area.name not in doors]
    if stops is None:
        stops = rng.randint(1, 4)
    zones = rng.sample(departments, min(stops, len(departments)))
    if plan.pay_in is not None:
        zones.append(plan.pay_in)
    itinerary = _Itinerary(plan, rng, arrive_ms)
    for zone in zones:
        itinerary.go_to(_shelf(plan.area(zone), rng))
        itinerary.stand(rng.randint(*PAUSE_MS))
    itinerary.go_to(plan.way_out)
    if not itinerary.legs:
        itinerary.stand(rng.randint(*PAUSE_MS))
    return Walk(itinerary.legs)


def _shelf(area: Area, rng: random.Random) -> Point:
    """A place in the zone to stop at; its middle when it is too narrow for the distance."""
    xs, ys = [corner.x for corner in area.polygon], [corner.y for corner in area.polygon]
    for _ in range(50):
        place = Point(rng.uniform(min(xs), max(xs)), rng.uniform(min(ys), max(ys)))
        if area.contains(place) and area.border_distance(place) >= SHELF_DISTANCE_M:
            return place
    return Point(sum(xs) / len(xs), sum(ys) / len(ys))
