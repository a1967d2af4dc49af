"""Floor plans as GeoJSON: two come along, and what is wrong with a third is said in one sentence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import ConfigurationError
from gateway.simulator.floor_plan import Point, Wall
from gateway.simulator.plan_file import BUILT_IN, built_in_plan, parse_plan, read_plan

Json = dict[str, Any]


def feature(kind: str, geometry: str, coordinates: Any, **properties: Any) -> Json:
    return {
        "type": "Feature",
        "properties": {"kind": kind, **properties},
        "geometry": {"type": geometry, "coordinates": coordinates},
    }


def room(name: str, left: float, **properties: Any) -> Json:
    ring = [[left, 0], [left + 4, 0], [left + 4, 4], [left, 4], [left, 0]]
    return feature("zone", "Polygon", [ring], name=name, **properties)


def two_rooms() -> Json:
    return {
        "type": "FeatureCollection",
        "features": [
            room("a", 0),
            room("b", 4, pays=True, tags=["food"]),
            feature("passage", "LineString", [[4, 1], [4, 2]], zones=["a", "b"]),
            feature("wall", "LineString", [[0, 0], [4, 0], [4, 0.5]], loss_db=8),
            feature("shelf", "LineString", [[1, 2], [3, 2]], loss_db=3),
            feature("receiver", "Point", [2, 2], name="r1", height_m=2.5),
            feature("beacon", "Point", [6, 2], name="k1", major=1, minor=7),
            feature("receiver", "Point", [9, 2], name="outdoors", zone="b"),
            feature("door", "Point", [1, 1]),
        ],
    }


def test_a_plan_is_what_is_drawn() -> None:
    plan = parse_plan(json.dumps(two_rooms()), "shop.geojson")
    assert [area.name for area in plan.areas] == ["a", "b"]
    assert plan.pay_in == "b"
    assert plan.area("b").tags == {"food"}
    assert plan.way_in == plan.way_out == Point(1, 1)
    assert [passage.middle for passage in plan.route("a", "b")] == [Point(4, 1.5)]
    assert plan.walls == (
        Wall(Point(0, 0), Point(4, 0), 8.0),
        Wall(Point(4, 0), Point(4, 0.5), 8.0),
        Wall(Point(1, 2), Point(3, 2), 3.0, 1.6),
    )
    assert [(anchor.name, anchor.kind, anchor.zone, anchor.height_m) for anchor in plan.anchors] == [
        ("r1", "receiver", "a", 2.5),
        ("k1", "beacon", "b", 1.6),
        ("outdoors", "receiver", "b", 3.0),
    ]


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_plan_that_comes_along_can_be_walked(name: str) -> None:
    plan = read_plan(name)
    assert plan == built_in_plan(name)
    for anchor in plan.anchors:
        assert plan.zone_at(anchor.at) == anchor.zone
    for area in plan.areas:
        assert plan.neighbours(area.name)


def test_the_supermarket_has_twenty_zones_and_twelve_receivers() -> None:
    plan = built_in_plan("supermarket")
    assert (len(plan.areas), len(plan.receivers), len(plan.beacons)) == (20, 12, 0)
    assert plan.pay_in == "checkout"


def changed(change: Callable[[Json], object]) -> str:
    document = two_rooms()
    change(document)
    return json.dumps(document)


WRONG: dict[str, tuple[Callable[[Json], object], str]] = {
    "no zone": (lambda d: d.update(features=[feature("door", "Point", [1, 1])]), "no zone is drawn"),
    "nothing at all": (lambda d: d.update(features=[]), "features: "),
    "another document": (lambda d: d.update(type="Topology"), "type: "),
    "a property too many": (lambda d: d["features"][0]["properties"].update(colour="red"), "features.0.properties.zone.colour: "),
    "a kind that is none": (lambda d: d["features"][0]["properties"].update(kind="room"), "features.0.properties: "),
    "a property too few": (lambda d: d["features"][3]["properties"].pop("loss_db"), "features.3.properties.wall.loss_db: "),
    "a zone with a hole": (lambda d: d["features"][0]["geometry"]["coordinates"].append([]), "features.0.geometry.Polygon"),
    "a ring that is open": (lambda d: d["features"][0]["geometry"]["coordinates"][0].pop(), "features.0: the ring of zone a"),
    "a corner twice": (
        lambda d: d["features"][0]["geometry"]["coordinates"][0].insert(1, [0, 0]),
        "features.0: zone a has the same corner twice",
    ),
    "a zone that is a line": (
        lambda d: d["features"].append(feature("zone", "LineString", [[0, 0], [1, 1]], name="c")),
        "features.9: a zone is drawn as Polygon, not as LineString",
    ),
    "a door that is a line": (
        lambda d: d["features"].append(feature("door", "LineString", [[0, 0], [1, 1]])),
        "features.9: a door is drawn as Point, not as LineString",
    ),
    "a bent passage": (
        lambda d: d["features"][2]["geometry"]["coordinates"].append([4, 3]),
        "the passage between a and b is not a straight line",
    ),
    "two doors that lead in": (
        lambda d: d["features"].append(feature("door", "Point", [2, 1], use="in")),
        "features.9: two doors lead in",
    ),
    "no way out": (lambda d: d["features"][8]["properties"].update(use="in"), "no door leads out"),
    "two places to pay": (lambda d: d["features"][0]["properties"].update(pays=True), "people pay in one zone, not in a and b"),
    "an anchor outside": (lambda d: d["features"][7]["properties"].pop("zone"), "receiver outdoors stands in no zone"),
    "zones that overlap": (lambda d: d["features"].append(room("c", 6)), "zones b and c overlap"),
    "a zone out of reach": (lambda d: d["features"].append(room("c", 20)), "no way leads from a to c"),
    "a place that is no number": (lambda d: d["features"][8]["geometry"].update(coordinates=["1", 1e9]), "features.8.geometry"),
    "heights": (lambda d: d["features"][8]["geometry"].update(coordinates=[1, 1, 0]), "features.8.geometry"),
}


@pytest.mark.parametrize(("change", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_with_the_place(change: Callable[[Json], object], words: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        parse_plan(changed(change), "shop.geojson")
    message = str(refusal.value)
    assert message.startswith("shop.geojson: ")
    assert words in message
    assert message.endswith("Correct the floor plan.")
    assert "\n" not in message


def test_degrees_are_recognised() -> None:
    document = two_rooms()
    for one in document["features"]:
        one["geometry"]["coordinates"] = scaled(one["geometry"]["coordinates"])
    with pytest.raises(ConfigurationError, match=r"8e-05 × 4e-05 m in all; coordinates are metres, not degrees"):
        parse_plan(json.dumps(document), "shop.geojson")


def scaled(coordinates: Any) -> Any:
    return [scaled(one) for one in coordinates] if isinstance(coordinates, list) else coordinates * 1e-5


@settings(max_examples=50, deadline=None)
@given(st.text() | st.binary())
def test_any_text_is_a_plan_or_refused_in_one_sentence(text: str | bytes) -> None:
    with pytest.raises(ConfigurationError, match="Correct the floor plan"):
        parse_plan(text, "shop.geojson")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="demo-shop and supermarket come along"):
        read_plan(str(tmp_path / "shop.geojson"))
    (tmp_path / "shop.geojson").write_text(json.dumps(two_rooms()))
    assert read_plan(str(tmp_path / "shop.geojson")).pay_in == "b"
