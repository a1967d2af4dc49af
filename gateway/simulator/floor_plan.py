"""Where things are: zones as polygons, walls, passages and radios, in local metres.

x grows to the east and y to the north, z is the height above the floor; a polygon lists its corners in order and closes itself.
Zones are convex and joined by passages, so that a straight line between two points of one zone, or through a passage, is a way
that a person can walk. Angles are radians, mathematical sense: 0 points along x.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal, NamedTuple

from gateway.core.model import Anchor, Shop, Zone

CEILING_M = 3.0
SHELF_M = 1.6
_TOUCH_M = 0.05
"""Drawn plans are not exact: borders this near are one."""


class Point(NamedTuple):
    """A place on the floor, metres."""

    x: float
    y: float

    def distance_to(self, other: "Point") -> float:
        """Straight distance over the floor, metres."""
        return math.hypot(other.x - self.x, other.y - self.y)


@dataclass(frozen=True, slots=True)
class Area:
    """A zone with its shape."""

    name: str
    polygon: tuple[Point, ...]
    title: str = ""
    tags: frozenset[str] = frozenset()
    _box: tuple[float, float, float, float] = field(init=False, repr=False, compare=False)
    """Lowest x and y, highest x and y: most places are outside of it, and most questions are about such places."""

    def __post_init__(self) -> None:
        xs, ys = [corner.x for corner in self.polygon], [corner.y for corner in self.polygon]
        object.__setattr__(self, "_box", (min(xs), min(ys), max(xs), max(ys)))

    def contains(self, place: Point) -> bool:
        """Whether the place lies inside (even-odd rule; a point on a border that two areas share belongs to one of them)."""
        x, y = place
        left, low, right, high = self._box
        if x < left or x > right or y < low or y > high:
            return False
        inside = False
        x0, y0 = self.polygon[-1]
        for x1, y1 in self.polygon:
            if (y0 > y) != (y1 > y) and x < x0 + (x1 - x0) * (y - y0) / (y1 - y0):
                inside = not inside
            x0, y0 = x1, y1
        return inside

    def border_distance(self, place: Point) -> float:
        """Metres from the place to the nearest edge."""
        return min(_distance_to_edge(place, a, b) for a, b in self.edges())

    def borders_on(self, other: "Area") -> bool:
        """Whether the two share more than a corner."""
        return any(True for _ in self.common_edges(other))

    def common_edges(self, other: "Area") -> Iterator[tuple[Point, Point]]:
        """The pieces of this one's edges along which the other lies."""
        for a, b in self.edges():
            for c, d in other.edges():
                first, last = _overlap(a, b, c, d)
                if last - first > _TOUCH_M:
                    length = a.distance_to(b)
                    yield _between(a, b, first / length), _between(a, b, last / length)

    @property
    def is_convex(self) -> bool:
        """Whether a straight line between any two of its points stays inside; a straight angle is allowed."""
        corners = (*self.polygon, *self.polygon[:2])
        turns = [_cross(a, b, c) for a, b, c in zip(corners, corners[1:], corners[2:], strict=False)]
        if abs(sum(_cross(self.polygon[0], b, c) for b, c in self.edges())) < 2 * _TOUCH_M:
            return False
        # A star turns one way only, too, but more than once round.
        angles = [math.atan2(b.y - a.y, b.x - a.x) for a, b in self.edges()]
        round_ = sum(abs(math.remainder(b - a, math.tau)) for a, b in zip([angles[-1], *angles[:-1]], angles, strict=True))
        return (min(turns) >= 0 or max(turns) <= 0) and round_ < 1.5 * math.tau

    def overlaps(self, other: "Area") -> bool:
        """Whether two convex areas share more than a border (separating axes; a common strip of ``_TOUCH_M`` is a border)."""
        for a, b in (*self.edges(), *other.edges()):
            length = a.distance_to(b)
            nx, ny = (b.y - a.y) / length, (a.x - b.x) / length
            mine = [nx * corner.x + ny * corner.y for corner in self.polygon]
            its = [nx * corner.x + ny * corner.y for corner in other.polygon]
            if min(max(mine), max(its)) - max(min(mine), min(its)) <= _TOUCH_M:
                return False
        return True

    def edges(self) -> Iterator[tuple[Point, Point]]:
        """Each side of the polygon as its two corners."""
        return zip((self.polygon[-1], *self.polygon[:-1]), self.polygon, strict=True)


@dataclass(frozen=True, slots=True)
class Wall:
    """A straight obstacle; a radio path that crosses it below its top loses ``loss_db``."""

    start: Point
    end: Point
    loss_db: float
    height_m: float = CEILING_M


@dataclass(frozen=True, slots=True)
class Passage:
    """Where a person steps from one zone into the other: an opening in their common border."""

    zones: frozenset[str]
    start: Point
    end: Point
    """The same as ``start`` where everybody takes the same way."""

    @property
    def middle(self) -> Point:
        """Half way between its ends."""
        return self.at(0.5)

    def at(self, share: float) -> Point:
        """The place so far (0 … 1) from its start to its end."""
        return _between(self.start, self.end, share)


@dataclass(frozen=True, slots=True)
class PlacedAnchor:
    """A receiver or a fixed iBeacon at its place."""

    name: str
    kind: Literal["receiver", "beacon"]
    zone: str
    at: Point
    height_m: float
    major: int | None = None
    minor: int | None = None
    """iBeacon numbers of a beacon; ``minor`` is the short id that a shopper's token names as its hint."""


@dataclass(frozen=True, slots=True)
class FloorPlan:
    """One shop.

    Raises ``ValueError`` with the reason for a plan that cannot be: a name is used twice or points nowhere, zones overlap or are
    not convex, or one of them cannot be reached.
    """

    areas: tuple[Area, ...]
    passages: tuple[Passage, ...]
    anchors: tuple[PlacedAnchor, ...]
    way_in: Point
    """Just inside the door by which everybody enters."""
    way_out: Point
    """Just inside the door by which everybody leaves; may be the same."""
    pay_in: str | None = None
    """The zone that people who bought something visit last."""
    walls: tuple[Wall, ...] = ()

    def __post_init__(self) -> None:
        names = [area.name for area in self.areas]
        _refuse_twice("zones", "name", names)
        _refuse_twice("anchors", "name", [anchor.name for anchor in self.anchors])
        for area in self.areas:
            if not area.is_convex:
                raise ValueError(f"zone {area.name} is not convex; draw it as two zones, or straighten it")
        for area, other in combinations(self.areas, 2):
            if area.overlaps(other):
                raise ValueError(f"zones {area.name} and {other.name} overlap")
        self._check_anchors(set(names))
        for passage in self.passages:
            if len(passage.zones) != 2 or not passage.zones <= set(names):
                raise ValueError(f"a passage joins two zones, not {' and '.join(sorted(passage.zones))}")
            for zone in sorted(passage.zones):
                if max(self.area(zone).border_distance(end) for end in (passage.start, passage.end)) > _TOUCH_M:
                    raise ValueError(f"the passage between {' and '.join(sorted(passage.zones))} is not on the border of {zone}")
        if self.pay_in is not None and self.pay_in not in names:
            raise ValueError(f"people pay in {self.pay_in!r}, which is no zone")
        entrance = self.zone_at(self.way_in)
        if entrance is None or self.zone_at(self.way_out) is None:
            raise ValueError("a door leads into no zone")
        for name in names:
            self.route(entrance, name)

    def _check_anchors(self, zones: set[str]) -> None:
        for anchor in self.anchors:
            if anchor.zone not in zones:
                raise ValueError(f"anchor {anchor.name} stands in {anchor.zone!r}, which is no zone")
            if anchor.kind == "beacon" and (anchor.major is None or anchor.minor is None):
                raise ValueError(f"beacon {anchor.name} has no major and minor")
        _refuse_twice("beacons", "minor", [str(anchor.minor) for anchor in self.beacons])

    def zone_at(self, place: Point) -> str | None:
        """The zone at this place, ``None`` outside all of them."""
        return next((area.name for area in self.areas if area.contains(place)), None)

    def area(self, zone: str) -> Area:
        """The shape of the zone. Raises ``KeyError`` for a name that is not on the plan."""
        for area in self.areas:
            if area.name == zone:
                return area
        raise KeyError(zone)

    def neighbours(self, zone: str) -> frozenset[str]:
        """The zones that share a piece of border with this one, passable or not: radio does not ask for doors."""
        here = self.area(zone)
        return frozenset(area.name for area in self.areas if area is not here and here.borders_on(area))

    def route(self, from_zone: str, to_zone: str) -> tuple[Passage, ...]:
        """The passages to walk through, as few as possible. Raises ``ValueError`` when there is no way."""
        ways: dict[str, tuple[Passage, ...]] = {from_zone: ()}
        waiting = deque([from_zone])
        while waiting and to_zone not in ways:
            here = waiting.popleft()
            for passage in self.passages:
                for there in passage.zones if here in passage.zones else ():
                    if there not in ways:
                        ways[there] = (*ways[here], passage)
                        waiting.append(there)
        if to_zone not in ways:
            raise ValueError(f"no way leads from {from_zone} to {to_zone}")
        return ways[to_zone]

    @property
    def receivers(self) -> tuple[PlacedAnchor, ...]:
        """The radios that hear."""
        return tuple(anchor for anchor in self.anchors if anchor.kind == "receiver")

    @property
    def beacons(self) -> tuple[PlacedAnchor, ...]:
        """The radios that are heard."""
        return tuple(anchor for anchor in self.anchors if anchor.kind == "beacon")

    def shop(self, beacon_uuid: bytes) -> Shop:
        """What a technician would have entered for this shop; ``beacon_uuid`` is the 16 bytes that all its beacons send."""
        zones = {
            area.name: Zone(
                name=area.name,
                title=area.title,
                tags=area.tags,
                neighbours=self.neighbours(area.name),
                polygon=tuple((corner.x, corner.y) for corner in area.polygon),
            )
            for area in self.areas
        }
        anchors = {
            anchor.name: Anchor(
                name=anchor.name,
                kind=anchor.kind,
                zone=anchor.zone,
                covers=frozenset({anchor.zone}) if anchor.kind == "receiver" else frozenset(),
                uuid=beacon_uuid if anchor.kind == "beacon" else None,
                major=anchor.major,
                minor=anchor.minor,
                at_m=(anchor.at.x, anchor.at.y),
            )
            for anchor in self.anchors
        }
        return Shop(zones=zones, anchors=anchors)


def _distance_to_edge(place: Point, a: Point, b: Point) -> float:
    """Metres from the place to the line segment a–b."""
    dx, dy = b.x - a.x, b.y - a.y
    length_2 = dx * dx + dy * dy
    share = ((place.x - a.x) * dx + (place.y - a.y) * dy) / length_2 if length_2 else 0.0
    share = min(1.0, max(0.0, share))
    return math.hypot(place.x - a.x - share * dx, place.y - a.y - share * dy)


def _between(a: Point, b: Point, share: float) -> Point:
    """The place so far (0 … 1) from a to b."""
    return Point(a.x + share * (b.x - a.x), a.y + share * (b.y - a.y))


def _overlap(a: Point, b: Point, c: Point, d: Point) -> tuple[float, float]:
    """From where to where, in metres from a, the segments a–b and c–d are one; (0, 0) unless they lie on one line."""
    length = a.distance_to(b)
    if length == 0:
        return 0.0, 0.0
    dx, dy = (b.x - a.x) / length, (b.y - a.y) / length
    if any(abs((p.x - a.x) * dy - (p.y - a.y) * dx) > _TOUCH_M for p in (c, d)):
        return 0.0, 0.0
    first, last = sorted((p.x - a.x) * dx + (p.y - a.y) * dy for p in (c, d))
    return max(0.0, first), min(length, last)


def _cross(a: Point, b: Point, c: Point) -> float:
    """Positive where the way from a over b to c turns left."""
    return (b.x - a.x) * (c.y - b.y) - (b.y - a.y) * (c.x - b.x)


def _refuse_twice(things: str, key: str, values: list[str]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"two {things} have one {key}, {value}")
