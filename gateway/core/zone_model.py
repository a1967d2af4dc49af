"""What positioning knows of a shop: where anchors and zones are, and how loud each anchor is in each cell of the floor.

Metres are local to the shop; a polygon lists its corners in order and closes itself. A model is made by ``calibration`` from a
recorded walk or from positions alone, and is read by ``zone_filter``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import hypot
from typing import Literal

Point = tuple[float, float]
"""x, y in metres."""
Polygon = tuple[Point, ...]
NOWHERE = -1
"""Zone number of a cell that belongs to no zone."""
FAINTEST_DBM, LOUDEST_DBM = -110.0, 0.0
"""A radio hears what is above the one and below the other; anything else is a defect."""
Source = Literal["receiver", "hint", "report"]
"""Who says so: a receiver that heard the phone, the phone in its token, or the app over the Internet."""


@dataclass(slots=True)
class RecordedSighting:
    """One line of a recording: who was heard at which anchor, and, where known, where that was."""

    t_ms: int
    shopper: str
    anchor: str
    rssi_dbm: float
    zone: str | None = None
    """The true zone."""
    at_m: Point | None = None
    """The true position."""
    source: Source = "receiver"

    @property
    def is_possible(self) -> bool:
        """Whether a radio can have heard this: below 0 dBm and above −110."""
        return FAINTEST_DBM < self.rssi_dbm < LOUDEST_DBM


@dataclass(frozen=True, slots=True)
class KnownAnchor:
    """What is known of one anchor, each part or none."""

    at_m: Point | None = None
    zone: str | None = None


@dataclass(frozen=True, slots=True)
class ShopPlan:
    """Anchors and zones of a shop, as far as somebody wrote them down."""

    anchors: Mapping[str, KnownAnchor] = field(default_factory=dict)
    zones: Mapping[str, Polygon] = field(default_factory=dict)

    def zone_at(self, place: Point) -> str | None:
        """The zone whose polygon holds the place."""
        return next((name for name, polygon in self.zones.items() if contains(polygon, place)), None)

    def zones_near(self, place: Point, within_m: float) -> frozenset[str]:
        """The zones whose polygon is no farther from the place than this."""
        return frozenset(name for name, polygon in self.zones.items() if distance_m(polygon, place) <= within_m)


@dataclass(frozen=True, slots=True)
class CellGrid:
    """A floor in square cells, row by row from the south-west corner."""

    x0_m: float
    y0_m: float
    cell_m: float
    columns: int
    rows: int

    def centres(self) -> list[Point]:
        """The middle of each cell, in the order of the cells."""
        return [
            (self.x0_m + (column + 0.5) * self.cell_m, self.y0_m + (row + 0.5) * self.cell_m)
            for row in range(self.rows)
            for column in range(self.columns)
        ]


@dataclass(frozen=True, slots=True)
class ZoneModel:
    """How loud each anchor is in each cell. Cells of a grid are places; without one each is a fingerprint of its zone."""

    anchors: tuple[str, ...]
    zones: tuple[str, ...]
    cell_zones: tuple[int, ...]
    """Number of the zone of each cell, or ``NOWHERE``."""
    levels_dbm: tuple[tuple[float, ...], ...]
    """By anchor, then by cell."""
    sigmas_db: tuple[tuple[float, ...], ...]
    """By anchor, then by cell: how far one packet may lie from the level."""
    grid: CellGrid | None = None
    anchors_at_m: tuple[Point | None, ...] = ()
    """By anchor. Where no walk was recorded the levels follow from these, and are corrected by what is heard."""
    polygons: Mapping[str, Polygon] = field(default_factory=dict)
    learns: bool = False
    """Whether levels follow from positions alone, so that what is heard may correct them."""


def contains(polygon: Polygon, place: Point) -> bool:
    """Whether the place lies inside (even-odd rule; a point on a border that two polygons share belongs to one of them).

    >>> contains(((0, 0), (2, 0), (2, 2), (0, 2)), (1, 1)), contains(((0, 0), (2, 0), (2, 2), (0, 2)), (3, 1))
    (True, False)
    """
    x, y = place
    inside = False
    x0, y0 = polygon[-1]
    for x1, y1 in polygon:
        if (y0 > y) != (y1 > y) and x < x0 + (x1 - x0) * (y - y0) / (y1 - y0):
            inside = not inside
        x0, y0 = x1, y1
    return inside


def distance_m(polygon: Polygon, place: Point) -> float:
    """Metres from the place to the polygon; 0 inside.

    >>> distance_m(((0, 0), (2, 0), (2, 2), (0, 2)), (3, 1))
    1.0
    """
    if contains(polygon, place):
        return 0.0
    edges = zip((polygon[-1], *polygon[:-1]), polygon, strict=True)
    return min(_to_edge_m(place, a, b) for a, b in edges)


def _to_edge_m(place: Point, a: Point, b: Point) -> float:
    (x, y), (ax, ay), (bx, by) = place, a, b
    dx, dy = bx - ax, by - ay
    length = dx * dx + dy * dy
    along = 0.0 if length == 0 else min(1.0, max(0.0, ((x - ax) * dx + (y - ay) * dy) / length))
    return hypot(x - ax - along * dx, y - ay - along * dy)
