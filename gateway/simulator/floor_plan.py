"""Where things are: zones as polygons, walls, passages and radios, in local metres.

x grows to the east and y to the north, z is the height above the floor; a polygon lists its corners in order and closes itself.
Zones are convex and joined by passages, so that a straight line between two points of one zone, or through a passage, is a way
that a person can walk. Angles are radians, mathematical sense: 0 points along x.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
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

    def contains(self, place: Point) -> bool:
        """Whether the place lies inside (even-odd rule; a point on a border that two areas share belongs to one of them)."""
        x, y = place
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
        return any(_overlap(a, b, c, d) > _TOUCH_M for a, b in self.edges() for c, d in other.edges())

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
    """Where a person steps from one zone into the other; a point on their common border."""

    zones: frozenset[str]
    at: Point


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
    """One shop. Raises ``ValueError`` when a name is used twice or points nowhere, or a zone cannot be reached."""

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
        if len(set(names)) != len(names):
            raise ValueError("two zones have one name")
        if len({anchor.name for anchor in self.anchors}) != len(self.anchors):
            raise ValueError("two anchors have one name")
        for anchor in self.anchors:
            if anchor.zone not in names:
                raise ValueError(f"anchor {anchor.name} stands in {anchor.zone!r}, which is no zone")
            if anchor.kind == "beacon" and (anchor.major is None or anchor.minor is None):
                raise ValueError(f"beacon {anchor.name} has no major and minor")
        for passage in self.passages:
            if len(passage.zones) != 2 or not passage.zones <= set(names):
                raise ValueError(f"a passage joins two zones, not {sorted(passage.zones)}")
        if self.pay_in is not None and self.pay_in not in names:
            raise ValueError(f"people pay in {self.pay_in!r}, which is no zone")
        entrance = self.zone_at(self.way_in)
        if entrance is None or self.zone_at(self.way_out) is None:
            raise ValueError("a door leads into no zone")
        for name in names:
            self.route(entrance, name)

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

    def route(self, from_zone: str, to_zone: str) -> tuple[Point, ...]:
        """The passages to walk through, fewest first. Raises ``ValueError`` when there is no way."""
        ways: dict[str, tuple[Point, ...]] = {from_zone: ()}
        waiting = deque([from_zone])
        while waiting and to_zone not in ways:
            here = waiting.popleft()
            for passage in self.passages:
                for there in passage.zones if here in passage.zones else ():
                    if there not in ways:
                        ways[there] = (*ways[here], passage.at)
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
            area.name: Zone(name=area.name, title=area.title, tags=area.tags, neighbours=self.neighbours(area.name))
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


def _overlap(a: Point, b: Point, c: Point, d: Point) -> float:
    """Metres that the segments a–b and c–d have in common; 0 unless they lie on one line."""
    length = a.distance_to(b)
    if length == 0:
        return 0.0
    dx, dy = (b.x - a.x) / length, (b.y - a.y) / length
    if any(abs((p.x - a.x) * dy - (p.y - a.y) * dx) > _TOUCH_M for p in (c, d)):
        return 0.0
    first, last = sorted((p.x - a.x) * dx + (p.y - a.y) * dy for p in (c, d))
    return min(length, last) - max(0.0, first)


def _rectangle(x0: float, y0: float, x1: float, y1: float) -> tuple[Point, ...]:
    return (Point(x0, y0), Point(x1, y0), Point(x1, y1), Point(x0, y1))


def demo_floor_plan() -> FloorPlan:
    """A small supermarket of 24 × 16 m: five zones with a receiver on each ceiling, and eight shelf beacons.

    ::

        16 +---------+---------+---------+
           |  bakery    dairy     wine   |
         8 +----- ---+---- ----+---------+
           | entrance| checkout|  store  |
         0 +--in-----+----out--+---------+
           0         8         16        24
    """
    areas = (
        Area("entrance", _rectangle(0, 0, 8, 8), "Entrance", frozenset({"entrance"})),
        Area("bakery", _rectangle(0, 8, 8, 16), "Bakery", frozenset({"food", "fresh"})),
        Area("dairy", _rectangle(8, 8, 16, 16), "Dairy", frozenset({"food", "chilled"})),
        Area("wine", _rectangle(16, 8, 24, 16), "Wine", frozenset({"drinks", "alcohol"})),
        Area("checkout", _rectangle(8, 0, 16, 8), "Checkout", frozenset({"checkout"})),
    )
    passages = (
        Passage(frozenset({"entrance", "bakery"}), Point(5.0, 8.0)),
        Passage(frozenset({"bakery", "dairy"}), Point(8.0, 12.0)),
        Passage(frozenset({"dairy", "wine"}), Point(16.0, 12.0)),
        Passage(frozenset({"dairy", "checkout"}), Point(12.5, 8.0)),
    )
    walls = (
        Wall(Point(0, 8), Point(4, 8), 5.0),
        Wall(Point(6, 8), Point(11.5, 8), 5.0),
        Wall(Point(13.5, 8), Point(16, 8), 5.0),
        Wall(Point(16, 8), Point(24, 8), 8.0),
        Wall(Point(16, 0), Point(16, 8), 8.0),
        Wall(Point(8, 0), Point(8, 8), 3.0, SHELF_M),
        Wall(Point(8, 8), Point(8, 11), 3.0, SHELF_M),
        Wall(Point(8, 13), Point(8, 16), 3.0, SHELF_M),
        Wall(Point(16, 8), Point(16, 11), 3.0, SHELF_M),
        Wall(Point(16, 13), Point(16, 16), 3.0, SHELF_M),
    )
    receivers = tuple(
        PlacedAnchor(f"receiver-{zone}", "receiver", zone, Point(x, y), CEILING_M)
        for zone, x, y in (
            ("entrance", 4.0, 4.0),
            ("bakery", 4.0, 12.0),
            ("dairy", 12.0, 12.0),
            ("wine", 20.0, 12.0),
            ("checkout", 12.0, 4.0),
        )
    )
    beacons = tuple(
        PlacedAnchor(f"beacon-{minor}", "beacon", zone, Point(x, y), SHELF_M, major=1, minor=minor)
        for minor, zone, x, y in (
            (101, "entrance", 2.0, 2.0),
            (102, "bakery", 1.5, 14.0),
            (103, "bakery", 6.0, 14.5),
            (104, "dairy", 10.5, 14.5),
            (105, "dairy", 14.0, 9.5),
            (106, "wine", 22.5, 14.0),
            (107, "wine", 18.5, 9.5),
            (108, "checkout", 12.0, 2.0),
        )
    )
    return FloorPlan(
        areas=areas,
        passages=passages,
        anchors=receivers + beacons,
        way_in=Point(2.5, 0.3),
        way_out=Point(13.0, 0.3),
        pay_in="checkout",
        walls=walls,
    )
