"""A floor plan as GeoJSON (RFC 7946): a FeatureCollection whose coordinates are metres on the floor, x east and y north.

========== ============ ================================================================================================
kind       geometry     properties (those in brackets may be left out)
========== ============ ================================================================================================
zone       Polygon      name, [title], [tags], [pays: people who bought something come here last]
passage    Point or     zones: the two that it joins; a line is an opening that people pass anywhere
           LineString
wall       LineString   loss_db, [height_m = 3.0]
shelf      LineString   loss_db, [height_m = 1.6]: its middle line
receiver   Point        name, [zone = the one around it], [height_m = 3.0]
beacon     Point        name, major, minor, [zone = the one around it], [height_m = 1.6]
door       Point        [use = both | in | out]: just inside
========== ============ ================================================================================================

Editors of maps expect degrees; those of drawings (QGIS without a coordinate system, JOSM with an image) write metres.
"""

from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, StringConstraints, ValidationError

from gateway.contract import strict_json
from gateway.contract.fields import Name, Strict, explain
from gateway.errors import ConfigurationError, Untrusted
from gateway.simulator.floor_plan import CEILING_M, SHELF_M, Area, FloorPlan, Passage, PlacedAnchor, Point, Wall

BUILT_IN = ("demo-shop", "supermarket")
"""Plans that come along, by name."""
_SMALLEST_M = 2.0
"""A shop across. Degrees would be a thousandth of this."""

Metres = Annotated[float, Field(ge=-10_000, le=10_000, allow_inf_nan=False)]
Place = tuple[Metres, Metres]
Height = Annotated[float, Field(ge=0, le=30, allow_inf_nan=False)]
Loss = Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)]


class _PointGeometry(Strict):
    type: Literal["Point"]
    coordinates: Place


class _LineGeometry(Strict):
    type: Literal["LineString"]
    coordinates: Annotated[tuple[Place, ...], Field(min_length=2)]


class _PolygonGeometry(Strict):
    type: Literal["Polygon"]
    coordinates: Annotated[tuple[Annotated[tuple[Place, ...], Field(min_length=4)]], Field(description="One ring, no holes.")]


class _Zone(Strict):
    kind: Literal["zone"]
    name: Name
    title: Annotated[str, StringConstraints(max_length=60)] = ""
    tags: tuple[Name, ...] = ()
    pays: bool = False


class _Passage(Strict):
    kind: Literal["passage"]
    zones: tuple[Name, Name]


class _Wall(Strict):
    kind: Literal["wall"]
    loss_db: Loss
    height_m: Height = CEILING_M


class _Shelf(Strict):
    kind: Literal["shelf"]
    loss_db: Loss
    height_m: Height = SHELF_M


class _Receiver(Strict):
    kind: Literal["receiver"]
    name: Name
    zone: Name | None = None
    height_m: Height = CEILING_M


class _Beacon(Strict):
    kind: Literal["beacon"]
    name: Name
    major: Annotated[int, Field(ge=0, le=0xFFFF)]
    minor: Annotated[int, Field(ge=1, le=0xFFFE)]
    zone: Name | None = None
    height_m: Height = SHELF_M


class _Door(Strict):
    kind: Literal["door"]
    use: Literal["both", "in", "out"] = "both"


_Properties = Annotated[_Zone | _Passage | _Wall | _Shelf | _Receiver | _Beacon | _Door, Field(discriminator="kind")]
_Geometry = Annotated[_PointGeometry | _LineGeometry | _PolygonGeometry, Field(discriminator="type")]
_GEOMETRIES: dict[str, tuple[str, ...]] = {
    "zone": ("Polygon",),
    "passage": ("Point", "LineString"),
    "wall": ("LineString",),
    "shelf": ("LineString",),
    "receiver": ("Point",),
    "beacon": ("Point",),
    "door": ("Point",),
}


class _Feature(Strict):
    type: Literal["Feature"]
    properties: _Properties
    geometry: _Geometry
    id: str | int | None = None


class _Collection(Strict):
    type: Literal["FeatureCollection"]
    name: Annotated[str, StringConstraints(max_length=200)] = ""
    features: Annotated[tuple[_Feature, ...], Field(min_length=1)]


class _Anchor(NamedTuple):
    properties: _Receiver | _Beacon
    at: Point


class _Drawing:
    """What has been drawn so far."""

    def __init__(self) -> None:
        self.areas: list[Area] = []
        self.passages: list[Passage] = []
        self.walls: list[Wall] = []
        self.anchors: list[_Anchor] = []
        self.doors: dict[str, Point] = {}
        self.pays: list[str] = []

    def add(self, feature: _Feature) -> None:
        """One feature; ``ValueError`` where geometry and kind do not go together."""
        match feature.properties, feature.geometry:
            case _Zone() as zone, _PolygonGeometry(coordinates=(ring,)):
                if ring[0] != ring[-1]:
                    raise ValueError(f"the ring of zone {zone.name} is not closed: its last place has to repeat the first")
                polygon = tuple(Point(*place) for place in ring[:-1])
                if any(a == b for a, b in pairwise(polygon)):
                    raise ValueError(f"zone {zone.name} has the same corner twice in a row")
                self.areas.append(Area(zone.name, polygon, zone.title, frozenset(zone.tags)))
                self.pays += [zone.name] if zone.pays else []
            case _Passage(zones=zones), (_PointGeometry() | _LineGeometry()) as geometry:
                ends = _places(geometry)
                if len(ends) > 2:
                    raise ValueError(f"the passage between {' and '.join(sorted(zones))} is not a straight line")
                self.passages.append(Passage(frozenset(zones), ends[0], ends[-1]))
            case (_Wall() | _Shelf()) as wall, _LineGeometry() as geometry:
                self.walls += [Wall(a, b, wall.loss_db, wall.height_m) for a, b in pairwise(_places(geometry))]
            case (_Receiver() | _Beacon()) as anchor, _PointGeometry(coordinates=place):
                self.anchors.append(_Anchor(anchor, Point(*place)))
            case _Door(use=use), _PointGeometry(coordinates=place):
                for way in ("in", "out") if use == "both" else (use,):
                    if way in self.doors:
                        raise ValueError(f"two doors lead {way}")
                    self.doors[way] = Point(*place)
            case properties, geometry:
                wanted = " or ".join(_GEOMETRIES[properties.kind])
                raise ValueError(f"a {properties.kind} is drawn as {wanted}, not as {geometry.type}")

    def plan(self) -> FloorPlan:
        """The whole; ``ValueError`` says what cannot be."""
        corners = [corner for area in self.areas for corner in area.polygon]
        if not corners:
            raise ValueError("no zone is drawn")
        width, depth = (max(values) - min(values) for values in zip(*corners, strict=True))
        if max(width, depth) < _SMALLEST_M:
            raise ValueError(f"the zones are {width:.2g} × {depth:.2g} m in all; coordinates are metres, not degrees")
        if len(self.doors) < 2:
            raise ValueError(f"no door leads {'in' if 'in' not in self.doors else 'out'}")
        if len(self.pays) > 1:
            raise ValueError(f"people pay in one zone, not in {' and '.join(self.pays)}")
        return FloorPlan(
            areas=tuple(self.areas),
            passages=tuple(self.passages),
            anchors=tuple(self._placed(*anchor) for anchor in self.anchors),
            way_in=self.doors["in"],
            way_out=self.doors["out"],
            pay_in=self.pays[0] if self.pays else None,
            walls=tuple(self.walls),
        )

    def _placed(self, properties: _Receiver | _Beacon, at: Point) -> PlacedAnchor:
        zone = properties.zone or next((area.name for area in self.areas if area.contains(at)), None)
        if zone is None:
            raise ValueError(f"{properties.kind} {properties.name} stands in no zone; say which one it serves")
        major, minor = (properties.major, properties.minor) if isinstance(properties, _Beacon) else (None, None)
        return PlacedAnchor(properties.name, properties.kind, zone, at, properties.height_m, major, minor)


def _places(geometry: _PointGeometry | _LineGeometry) -> tuple[Point, ...]:
    places = (geometry.coordinates,) if isinstance(geometry, _PointGeometry) else geometry.coordinates
    return tuple(Point(*place) for place in places)


def parse_plan(text: bytes | str, where: str) -> FloorPlan:
    """The plan in ``text``; ``ConfigurationError`` names ``where`` it came from, the feature and what is wrong with it."""
    try:
        document: Any = strict_json.parse(text, where)
        drawing = _Drawing()
        for index, feature in enumerate(_Collection.model_validate(document).features):
            try:
                drawing.add(feature)
            except ValueError as error:
                raise ValueError(f"features.{index}: {error}") from error
        return drawing.plan()
    except ValidationError as error:
        raise _mend(where, explain(error)) from error
    except Untrusted as error:
        raise _mend(where, error.what) from error
    except ValueError as error:
        raise _mend(where, f"{error}.") from error


def read_plan(name: str) -> FloorPlan:
    """A plan by the path of its file, or one of ``BUILT_IN`` by name; ``ConfigurationError`` when it cannot be read or be."""
    if name in BUILT_IN:
        return built_in_plan(name)
    try:
        with Path(name).open("rb") as file:
            octets = file.read(strict_json.MAX_BYTES + 1)
    except OSError as error:
        known = " and ".join(BUILT_IN)
        raise ConfigurationError(
            f"cannot be read ({error.strerror}).", where=name, do=f"Name a GeoJSON file; {known} come along."
        ) from error
    return parse_plan(octets, name)


def built_in_plan(name: str) -> FloorPlan:
    """One of ``BUILT_IN``."""
    file = resources.files("gateway.simulator") / "plans" / f"{name}.geojson"
    return parse_plan(file.read_bytes(), f"{name}.geojson")


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
    return built_in_plan("demo-shop")


def _mend(where: str, what: str) -> ConfigurationError:
    return ConfigurationError(what, where=where, do="Correct the floor plan.")
