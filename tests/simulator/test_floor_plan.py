"""The plan: shapes, ways, and the shop that the gateway is told about."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.simulator.floor_plan import Area, FloorPlan, Passage, PlacedAnchor, Point
from gateway.simulator.plan_file import demo_floor_plan

PLAN = demo_floor_plan()


@given(x=st.floats(0.001, 23.999), y=st.floats(0.001, 15.999))
def test_every_place_of_the_demo_shop_lies_in_one_zone_but_for_the_store_room(x: float, y: float) -> None:
    in_store_room = x >= 16 and y < 8
    assert sum(area.contains(Point(x, y)) for area in PLAN.areas) == (0 if in_store_room else 1)


@given(x=st.floats(-50, 50), y=st.floats(-50, 50))
def test_nothing_beyond_the_outer_walls_is_in_a_zone(x: float, y: float) -> None:
    if not (0 <= x <= 24 and 0 <= y <= 16):
        assert PLAN.zone_at(Point(x, y)) is None


def test_anchors_stand_in_the_zone_they_name() -> None:
    assert {anchor.name: PLAN.zone_at(anchor.at) for anchor in PLAN.anchors} == {a.name: a.zone for a in PLAN.anchors}


def test_a_passage_lies_on_the_border_of_both_its_zones() -> None:
    for passage in PLAN.passages:
        assert all(PLAN.area(zone).border_distance(passage.middle) == 0 for zone in passage.zones)


def test_a_route_leads_through_the_passages_between() -> None:
    assert PLAN.route("entrance", "entrance") == ()
    assert tuple(passage.middle for passage in PLAN.route("entrance", "wine")) == (
        Point(5.0, 8.0),
        Point(8.0, 12.0),
        Point(16.0, 12.0),
    )


def test_neighbours_share_a_border_and_not_just_a_corner() -> None:
    assert {area.name: PLAN.neighbours(area.name) for area in PLAN.areas} == {
        "entrance": {"bakery", "checkout"},
        "bakery": {"entrance", "dairy"},
        "dairy": {"bakery", "wine", "checkout"},
        "wine": {"dairy"},
        "checkout": {"entrance", "dairy"},
    }


def test_a_border_may_be_slanted_and_shared_in_part() -> None:
    slope = Area("slope", (Point(0, 0), Point(4, 4), Point(0, 4)))
    beside = Area("beside", (Point(2, 2), Point(6, 6), Point(6, 2)))
    beyond = Area("beyond", (Point(5, 5), Point(7, 7), Point(7, 5)))
    assert slope.borders_on(beside)
    assert beside.borders_on(slope)
    assert not slope.borders_on(beyond)


def test_the_shop_has_a_receiver_in_each_zone_and_beacons_with_short_ids() -> None:
    shop = PLAN.shop(bytes(range(16)))
    assert {anchor.zone for anchor in shop.anchors.values() if anchor.kind == "receiver"} == set(shop.zones)
    beacon = shop.anchors["beacon-106"]
    assert (beacon.zone, beacon.uuid, beacon.minor) == ("wine", bytes(range(16)), 106)
    assert shop.zones["bakery"].neighbours == frozenset({"entrance", "dairy"})


def _square(name: str, left: float) -> Area:
    return Area(name, (Point(left, 0), Point(left + 4, 0), Point(left + 4, 4), Point(left, 4)))


_STAR = Area("star", (Point(10, 0), Point(13, 9), Point(5, 3), Point(15, 3), Point(7, 9)))

TWO_ROOMS = FloorPlan(
    areas=(_square("a", 0), _square("b", 4)),
    passages=(Passage(frozenset({"a", "b"}), Point(4, 1), Point(4, 3)),),
    anchors=(),
    way_in=Point(1, 1),
    way_out=Point(1, 1),
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"areas": (_square("a", 0), _square("a", 4))}, "one name"),
        ({"passages": ()}, "no way leads from a to b"),
        ({"passages": (Passage(frozenset({"a", "c"}), Point(4, 2), Point(4, 2)),)}, "joins two zones"),
        ({"passages": (Passage(frozenset({"a", "b"}), Point(4, 2), Point(5, 2)),)}, "not on the border of"),
        ({"areas": (_square("a", 0), _square("b", 3.9))}, "zones a and b overlap"),
        ({"areas": (_square("a", 0), Area("b", (Point(4, 0), Point(8, 0), Point(5, 1), Point(4, 4))))}, "b is not convex"),
        ({"areas": (_square("a", 0), _STAR)}, "star is not convex"),
        ({"areas": (_square("a", 0), Area("b", (Point(4, 0), Point(6, 0), Point(8, 0))))}, "b is not convex"),
        ({"way_in": Point(-1, 1)}, "leads into no zone"),
        ({"pay_in": "till"}, "till"),
        ({"anchors": (PlacedAnchor("r", "receiver", "c", Point(0, 0), 3.0),)}, "no zone"),
        ({"anchors": (PlacedAnchor("k", "beacon", "a", Point(0, 0), 3.0),)}, "no major and minor"),
        ({"anchors": (PlacedAnchor("r", "receiver", "a", Point(0, 0), 3.0),) * 2}, "one name"),
        (
            {"anchors": tuple(PlacedAnchor(n, "beacon", "a", Point(0, 0), 3.0, 1, 7) for n in "kl")},
            "two beacons have one minor, 7",
        ),
    ],
)
def test_a_plan_that_cannot_be_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TWO_ROOMS, **change)  # type: ignore[arg-type]
