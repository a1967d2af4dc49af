"""Levels: distance, bodies, walls, luck."""

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.simulator.floor_plan import Point, Wall, demo_floor_plan
from gateway.simulator.radio import Air, Heard, Propagation, RadioPaths, body_loss_db, path_loss_dbm, wall_loss_db

PLAN = demo_floor_plan()
QUIET = Propagation(place_db=0.0, drift_db=0.0, fading_db=0.0, lost_share=0.0)
BAKERY = next(anchor for anchor in PLAN.receivers if anchor.zone == "bakery")


@given(near=st.floats(0.3, 100), further=st.floats(0.01, 100))
def test_the_level_falls_with_distance(near: float, further: float) -> None:
    assert path_loss_dbm(QUIET, near + further) < path_loss_dbm(QUIET, near)


def test_the_level_at_a_metre_is_the_one_stated_and_ten_metres_cost_ten_times_the_exponent() -> None:
    assert path_loss_dbm(QUIET, 1.0) == QUIET.level_at_1m_dbm
    assert path_loss_dbm(QUIET, 10.0) == pytest.approx(QUIET.level_at_1m_dbm - 18.5)


@given(heading=st.floats(-7, 7), bearing=st.floats(-7, 7), depth=st.floats(0, 24), across=st.floats(0, 1))
def test_a_body_takes_between_nothing_and_its_depth(heading: float, bearing: float, depth: float, across: float) -> None:
    assert 0 <= body_loss_db(depth, heading, bearing, across) <= depth


def test_a_body_takes_most_when_its_back_is_turned_and_nothing_from_above() -> None:
    assert body_loss_db(15, 0.0, 0.0, 1.0) == 0
    assert body_loss_db(15, 0.0, math.pi, 1.0) == pytest.approx(15)
    assert body_loss_db(15, 0.0, math.pi, 0.0) == 0


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


def _hear(
    propagation: Propagation, place: Point, *, heading: float | None = None, packets: int = 1, seed: int = 1
) -> list[Heard]:
    rng = random.Random(seed)
    paths = RadioPaths(Air(PLAN, propagation, rng), [BAKERY], rng, body_db=15.0)
    paths.move(0, place, heading)
    heard: list[Heard] = []
    for index in range(packets):
        paths.packet("00:00:00:00:00:00", b"\x02\x01\x06", index, heard)
    return heard


def test_with_all_luck_taken_out_a_packet_is_its_geometry() -> None:
    [at_receiver] = _hear(QUIET, BAKERY.at)
    assert at_receiver.rssi_dbm == round(path_loss_dbm(QUIET, BAKERY.height_m - 1.1))
    facing, turned = (_hear(QUIET, Point(1.0, BAKERY.at.y), heading=heading)[0].rssi_dbm for heading in (0.0, math.pi))
    assert 10 <= facing - turned <= 15


def test_packets_differ_by_three_to_five_db_and_some_are_lost() -> None:
    heard = _hear(Propagation(), Point(2.0, 10.0), packets=2000)
    assert 3.0 <= statistics.stdev(packet.rssi_dbm for packet in heard) <= 5.0
    assert 0.85 <= len(heard) / 2000 <= 0.95


def test_half_is_lost_at_the_sensitivity_and_nothing_is_heard_far_below() -> None:
    distance = 10 ** ((-60 + 95) / 18.5)
    far = Propagation(place_db=0.0, drift_db=0.0, fading_db=0.0, lost_share=0.0, level_at_1m_dbm=-60.0)
    at_edge = Point(BAKERY.at.x, BAKERY.at.y + math.sqrt(distance**2 - 1.9**2))
    assert 0.4 <= len(_hear(far, at_edge, packets=1000)) / 1000 <= 0.6
    assert not _hear(Propagation(), Point(5000.0, 0.0), packets=100)


def test_a_spot_keeps_its_effect_and_spots_nearby_are_alike() -> None:
    effect = Air(PLAN, Propagation(), random.Random(3)).place_effect(BAKERY.name)
    spots = [(x, y) for x in range(24) for y in range(16)]
    values = [effect.at(x, y) for x, y in spots]
    nearby = [effect.at(x, y) - effect.at(x + 0.6, y) for x, y in spots]
    assert values == [effect.at(x, y) for x, y in spots]
    assert 1.5 <= statistics.pstdev(values) <= 4.0
    assert statistics.pstdev(nearby) <= statistics.pstdev(values) / 2


def test_an_app_finds_the_nearest_beacon_loudest() -> None:
    rng = random.Random(1)
    paths = RadioPaths(Air(PLAN, QUIET, rng), PLAN.beacons, rng)
    assert paths.loudest() is None
    for beacon in PLAN.beacons:
        paths.move(0, beacon.at, None)
        loudest = paths.loudest()
        assert loudest is not None
        assert loudest[0] is beacon
