"""How a person goes through the shop: in by the door, to some zones, a while at a shelf in each, to the checkout and out.

A walk is planned as a whole before it begins, so that the truth is known for every millisecond of it. ``WALKS`` names the kinds
of walks: how people shop, and what makes positioning hard.
"""

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from gateway.simulator.floor_plan import Area, FloorPlan, Point

TURN_MS = (4_000, 15_000)
"""Somebody at a shelf turns after this long."""
TURN_RAD = 0.8
"""… by so much (standard deviation) away from it."""
SHELF_DISTANCE_M = 0.9
"""People stop at least this far inside a zone."""
SAMPLE_MS = 100
STILL_MS = 600_000
BORDER_M = (0.4, 0.9)
"""How near somebody passes by a border without crossing it."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How somebody shops."""

    speed_m_s: tuple[float, float]
    pause_ms: tuple[int, int]
    """At one shelf."""
    zones: tuple[int, int]
    """So many departments before the checkout."""
    shelves: tuple[int, int] = (1, 1)
    """So many shelves in each."""


NORMAL = Manner((0.6, 1.3), (5_000, 60_000), (3, 6), (1, 2))
ERRAND = Manner((0.8, 1.3), (20_000, 90_000), (1, 4))
BROWSING = Manner((0.4, 0.8), (10_000, 90_000), (2, 4), (2, 4))


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

    def __init__(self, plan: FloorPlan, rng: random.Random, arrive_ms: int, speed_m_s: tuple[float, float]) -> None:
        self._plan = plan
        self._rng = rng
        self._speed_m_s = rng.uniform(*speed_m_s)
        self._now_ms = arrive_ms
        self._here = plan.way_in
        self._zone = plan.zone_at(plan.way_in)
        self._legs: list[Leg] = []

    def go_to(self, there: Point, zone: str | None = None) -> None:
        """Through the passages to a place in a zone; without its name that around the place."""
        if zone is None:
            zone = self._plan.zone_at(there)
        assert self._zone is not None
        assert zone is not None
        for passage in self._plan.route(self._zone, zone):
            # Nobody brushes against the frame.
            self._walk_to(passage.start if passage.start == passage.end else passage.at(self._rng.uniform(0.1, 0.9)))
        self._walk_to(there)
        self._zone = zone

    def stand(self, duration_ms: int) -> None:
        """At one place, facing a shelf more often than not."""
        facing = self._rng.uniform(-math.pi, math.pi)
        while duration_ms > 0:
            turn_ms = min(duration_ms, self._rng.randint(*TURN_MS))
            self._add(turn_ms, self._here, facing + self._rng.gauss(0, TURN_RAD))
            duration_ms -= turn_ms

    def leave(self) -> Walk:
        """Out by the door; the whole walk. Who has not moved stands a second."""
        self.go_to(self._plan.way_out)
        if not self._legs:
            self.stand(1_000)
        return Walk(self._legs)

    def _walk_to(self, point: Point) -> None:
        metres = self._here.distance_to(point)
        if metres > 0:
            heading = math.atan2(point.y - self._here.y, point.x - self._here.x)
            self._add(max(1, round(1000 * metres / self._speed_m_s)), point, heading)

    def _add(self, duration_ms: int, point: Point, heading: float) -> None:
        self._legs.append(Leg(self._now_ms, self._now_ms + duration_ms, self._here, point, heading))
        self._now_ms += duration_ms
        self._here = point


def plan_walk(plan: FloorPlan, rng: random.Random, arrive_ms: int, manner: Manner = ERRAND, *, stops: int | None = None) -> Walk:
    """A whole visit that begins at ``arrive_ms``; ``stops`` zones (default: as the manner has it) come before the checkout."""
    departments = _departments(plan)
    if stops is None:
        stops = rng.randint(*manner.zones)
    zones = rng.sample(departments, min(stops, len(departments)))
    if plan.pay_in is not None:
        zones.append(plan.pay_in)
    itinerary = _Itinerary(plan, rng, arrive_ms, manner.speed_m_s)
    for zone in zones:
        for _ in range(rng.randint(*manner.shelves)):
            itinerary.go_to(_shelf(plan.area(zone), rng), zone)
            itinerary.stand(rng.randint(*manner.pause_ms))
    if not zones:
        itinerary.stand(rng.randint(*manner.pause_ms))
    return itinerary.leave()


def _shopping(manner: Manner) -> "WalkKind":
    return lambda plan, rng, arrive_ms: plan_walk(plan, rng, arrive_ms, manner)


def _standing(plan: FloorPlan, rng: random.Random, arrive_ms: int) -> Walk:
    """To one zone, ten minutes at one shelf, and out."""
    zone = rng.choice(_departments(plan))
    itinerary = _Itinerary(plan, rng, arrive_ms, NORMAL.speed_m_s)
    itinerary.go_to(_shelf(plan.area(zone), rng), zone)
    itinerary.stand(STILL_MS)
    return itinerary.leave()


def _along_a_border(plan: FloorPlan, rng: random.Random, arrive_ms: int) -> Walk:
    """Ten times along the border that a zone shares with another, within a metre of it and never across."""
    borders = _borders(plan)
    if not borders:
        raise ValueError("no two zones have a border of more than two metres")
    here, start, end = rng.choice(borders)
    area = plan.area(here)
    itinerary = _Itinerary(plan, rng, arrive_ms, NORMAL.speed_m_s)
    for _ in range(5):
        for share in (0.1, 0.9):
            itinerary.go_to(_beside(area, start, end, share, rng.uniform(*BORDER_M)), here)
    return itinerary.leave()


def _in_and_out(plan: FloorPlan, rng: random.Random, arrive_ms: int) -> Walk:
    """Five times into the zone next door for some seconds, and back."""
    if not plan.passages:
        raise ValueError("there are no two zones with a passage between them")
    passage = rng.choice([passage for passage in plan.passages if plan.pay_in not in passage.zones] or list(plan.passages))
    mine, other = rng.sample(sorted(passage.zones), 2)
    itinerary = _Itinerary(plan, rng, arrive_ms, NORMAL.speed_m_s)
    for _ in range(5):
        for zone, pause_ms in ((mine, (5_000, 20_000)), (other, (1_000, 6_000))):
            itinerary.go_to(_shelf(plan.area(zone), rng), zone)
            itinerary.stand(rng.randint(*pause_ms))
    itinerary.go_to(_shelf(plan.area(mine), rng), mine)
    return itinerary.leave()


def _survey(plan: FloorPlan, rng: random.Random, arrive_ms: int) -> Walk:
    """A technician: half a minute in each zone, all over it, turning at each end."""
    itinerary = _Itinerary(plan, rng, arrive_ms, (0.8, 0.8))
    for area in plan.areas:
        for index in range(6):
            itinerary.go_to(_shelf(area, rng, from_border_m=0.4), area.name)
            itinerary.stand(rng.randint(1_000, 3_000) if index else 6_000)
    return itinerary.leave()


WalkKind = Callable[[FloorPlan, random.Random, int], Walk]
"""(plan, luck, arrival in milliseconds) → one visit; ``ValueError`` for a plan in which nobody can walk like that."""
WALKS: dict[str, WalkKind] = {
    "normal": _shopping(NORMAL),
    "errand": _shopping(ERRAND),
    "browsing": _shopping(BROWSING),
    "standing": _standing,
    "border": _along_a_border,
    "in-and-out": _in_and_out,
    "survey": _survey,
}
"""The kinds of walks by name."""


def _departments(plan: FloorPlan) -> list[str]:
    doors = {plan.zone_at(plan.way_in), plan.pay_in}
    return [area.name for area in plan.areas if area.name not in doors] or [area.name for area in plan.areas]


def _borders(plan: FloorPlan) -> list[tuple[str, Point, Point]]:
    """Zones and the edges, longer than two metres, behind which another zone lies."""
    return [
        (area.name, a, b)
        for area in plan.areas
        for other in sorted(plan.neighbours(area.name))
        for a, b in area.common_edges(plan.area(other))
        if a.distance_to(b) > 2
    ]


def _beside(area: Area, start: Point, end: Point, share: float, inside_m: float) -> Point:
    """A place within the area, so far from the line start–end, and ``share`` of the way along it."""
    length = start.distance_to(end)
    nx, ny = (start.y - end.y) / length, (end.x - start.x) / length
    x, y = start.x + share * (end.x - start.x), start.y + share * (end.y - start.y)
    left, right = Point(x + inside_m * nx, y + inside_m * ny), Point(x - inside_m * nx, y - inside_m * ny)
    return left if area.contains(left) else right


def _shelf(area: Area, rng: random.Random, *, from_border_m: float = SHELF_DISTANCE_M) -> Point:
    """A place in the zone to stop at; its middle when it is too narrow for the distance."""
    xs, ys = [corner.x for corner in area.polygon], [corner.y for corner in area.polygon]
    for _ in range(50):
        place = Point(rng.uniform(min(xs), max(xs)), rng.uniform(min(ys), max(ys)))
        if area.contains(place) and area.border_distance(place) >= from_border_m:
            return place
    return Point(sum(xs) / len(xs), sum(ys) / len(ys))
