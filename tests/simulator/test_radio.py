"""Levels: distance, bodies, walls, luck."""

import math
import random
import statistics
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.simulator.bodies import Carrying
from gateway.simulator.floor_plan import FloorPlan, PlacedAnchor, Point, Wall
from gateway.simulator.plan_file import demo_floor_plan
from gateway.simulator.radio import Air, Heard, Propagation, RadioPaths, wall_loss_db

PLAN = demo_floor_plan()
BAKERY = next(anchor for anchor in PLAN.receivers if anchor.zone == "bakery")
QUIET = Propagation(place_db=0.0, spot_db=0.0, sway_db=0.0, noise_db=0.0, lost_share=0.0)
EMPTY = FloorPlan(PLAN.areas, PLAN.passages, (BAKERY,), PLAN.way_in, PLAN.way_out)
"""One receiver, no walls."""


class Sender:
    """A device before the bakery's receiver, and what is heard of it."""

    def __init__(
        self,
        propagation: Propagation,
        *,
        plan: FloorPlan = EMPTY,
        anchors: Sequence[PlacedAnchor] = (BAKERY,),
        carrying: Carrying | None = None,
        seed: int = 1,
    ) -> None:
        rng = random.Random(seed)
        self.paths = RadioPaths(Air(plan, propagation, rng), anchors, rng, carrying=carrying)
        self._at_ms = 0

    def level_dbm(self, place: Point, heading: float = 0.0) -> float:
        self.paths.move(place, heading)
        return self.paths.levels_dbm[0]

    def packets(self, count: int, every_ms: int = 100) -> list[Heard]:
        heard: list[Heard] = []
        for _ in range(count):
            self._at_ms += every_ms
            self.paths.packet("00:00:00:00:00:00", b"\x02\x01\x06", self._at_ms, heard)
        return heard


def beside(metres: float) -> Point:
    """A place on the floor, so far from the receiver through the air."""
    return Point(BAKERY.at.x + math.sqrt(metres**2 - (BAKERY.height_m - 1.1) ** 2), BAKERY.at.y)


@given(near=st.floats(2, 100), further=st.floats(0.01, 100))
def test_the_level_falls_with_distance(near: float, further: float) -> None:
    sender = Sender(QUIET)
    assert sender.level_dbm(beside(near + further)) < sender.level_dbm(beside(near))


def test_ten_metres_cost_ten_times_the_exponent() -> None:
    assert Sender(QUIET).level_dbm(beside(10)) == pytest.approx(QUIET.level_at_1m_dbm - 18.5)


@pytest.mark.parametrize(
    ("there", "there_m", "loss_db"),
    [
        (Point(4, 1), 1.0, 6.0),
        (Point(1, 1), 1.0, 0.0),
        (Point(4, 9), 1.0, 0.0),
        (Point(2.1, 1), 3.0, 0.0),
        (Point(0, 5), 1.0, 0.0),
    ],
    ids=["through", "before it", "round its end", "over its top", "alongside"],
)
def test_a_wall_takes_its_part_only_from_paths_through_it(there: Point, there_m: float, loss_db: float) -> None:
    shelf = Wall(Point(2, 0), Point(2, 3), 6.0, height_m=1.6)
    assert wall_loss_db([shelf], Point(0, 1), 1.0, there, there_m) == loss_db


def test_with_all_luck_taken_out_a_packet_is_its_geometry() -> None:
    sender = Sender(QUIET)
    level = sender.level_dbm(BAKERY.at)
    assert level == pytest.approx(QUIET.level_at_1m_dbm - 18.5 * math.log10(BAKERY.height_m - 1.1))
    assert [heard.rssi_dbm for heard in sender.packets(3)] == [round(level)] * 3


def test_a_shelf_and_the_carriers_body_lower_the_level() -> None:
    place = Point(9.0, 10.0)
    assert Sender(QUIET, plan=PLAN).level_dbm(place) == pytest.approx(Sender(QUIET).level_dbm(place) - 3)
    carrying = Carrying("back pocket", 1.1, is_mirrored=False, reflected_db=20)
    facing, turned = (Sender(QUIET, carrying=carrying).level_dbm(beside(8), heading) for heading in (math.pi, 0.0))
    assert 6 <= turned - facing <= 20


def spread(heard: list[Heard]) -> float:
    return statistics.pstdev(packet.rssi_dbm for packet in heard)


def test_a_phone_that_lies_still_varies_by_three_to_five_db_and_some_packets_are_lost() -> None:
    sender = Sender(Propagation())
    spreads = []
    for x in range(1, 8):
        sender.paths.move(Point(x, 10.0), 0.0)
        heard = sender.packets(1000)
        assert 0.85 <= len(heard) / 1000 <= 0.95
        spreads.append(spread(heard))
    assert 3.0 <= statistics.fmean(spreads) <= 5.0


def test_fading_lasts_for_seconds_at_one_spot_and_a_step_ends_it() -> None:
    one_channel = Propagation(place_db=0.0, spot_db=0.0, noise_db=0.0, lost_share=0.0)
    still = Sender(one_channel)
    still.paths.move(beside(5), 0.0)
    moments = [statistics.fmean(heard.rssi_dbm for heard in still.packets(20, every_ms=10)) for _ in range(600)]
    walking = Sender(one_channel)
    steps = []
    for index in range(600):
        walking.paths.move(Point(beside(5).x + index % 2, beside(5).y), 0.0)
        steps.append(walking.packets(1)[0].rssi_dbm - walking.paths.levels_dbm[0])

    def likeness(values: list[float], lag: int) -> float:
        return statistics.correlation(values[:-lag], values[lag:])

    assert likeness(moments, 1) > 0.7
    assert abs(likeness(moments, 100)) < 0.3
    assert abs(likeness(steps, 1)) < 0.2
    assert statistics.pstdev(steps) == pytest.approx(one_channel.sway_db, rel=0.15)


def test_half_is_lost_at_the_sensitivity_and_nothing_is_heard_far_below() -> None:
    sender = Sender(QUIET)
    sender.paths.move(beside(10 ** ((QUIET.level_at_1m_dbm - QUIET.sensitivity_dbm) / 18.5)), 0.0)
    assert 0.4 <= len(sender.packets(1000)) / 1000 <= 0.6
    far = Sender(Propagation())
    far.paths.move(Point(5000.0, 0.0), 0.0)
    assert not far.packets(100)


def test_a_spot_keeps_its_effect_and_spots_nearby_are_alike() -> None:
    effect = Air(PLAN, Propagation(), random.Random(3)).place_effect(BAKERY.name)
    spots = [(x, y) for x in range(24) for y in range(16)]
    values = [effect.at(x, y) for x, y in spots]
    nearby = [effect.at(x, y) - effect.at(x + 0.6, y) for x, y in spots]
    assert values == [effect.at(x, y) for x, y in spots]
    assert 1.5 <= statistics.pstdev(values) <= 4.0
    assert statistics.pstdev(nearby) <= statistics.pstdev(values) / 2


def test_an_app_finds_the_nearest_beacon_loudest() -> None:
    paths = Sender(QUIET, plan=PLAN, anchors=PLAN.beacons).paths
    assert paths.loudest() is None
    for beacon in PLAN.beacons:
        paths.move(beacon.at, 0.0)
        loudest = paths.loudest()
        assert loudest is not None
        assert loudest[0] is beacon
