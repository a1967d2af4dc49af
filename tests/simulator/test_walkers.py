"""Walks: continuous, at a person's speed, and with a truth that agrees with the floor."""

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.simulator.floor_plan import Point, demo_floor_plan
from gateway.simulator.walkers import PAUSE_MS, SPEED_M_S, Leg, Walk, plan_walk

PLAN = demo_floor_plan()
seeds = st.integers(0, 2**32)


@given(seeds)
def test_a_walk_goes_from_door_to_door_without_a_jump_and_at_a_persons_speed(seed: int) -> None:
    walk = plan_walk(PLAN, random.Random(seed), 5_000)
    assert (walk.arrives_ms, walk.legs[0].start, walk.legs[-1].end) == (5_000, PLAN.way_in, PLAN.way_out)
    assert all(a.end == b.start for a, b in pairwise(walk.legs))
    for leg in walk.legs:
        if leg.start != leg.end:
            speed = 1000 * leg.start.distance_to(leg.end) / (leg.end_ms - leg.start_ms)
            assert SPEED_M_S[0] * 0.99 <= speed <= SPEED_M_S[1] * 1.01


@given(seeds)
def test_the_stays_say_what_the_floor_says(seed: int) -> None:
    rng = random.Random(seed)
    walk = plan_walk(PLAN, rng, 0)
    stays = walk.stays(PLAN)
    assert (stays[0].entered_ms, stays[-1].left_ms) == (walk.arrives_ms, walk.leaves_ms)
    assert all(a.left_ms == b.entered_ms and a.zone != b.zone for a, b in pairwise(stays))
    for stay in stays:
        for at_ms in (stay.entered_ms, stay.left_ms - 1, rng.randrange(stay.entered_ms, stay.left_ms)):
            whereabouts = walk.at(at_ms)
            assert whereabouts is not None
            assert PLAN.zone_at(whereabouts.place) == stay.zone


@given(seeds, st.integers(1, 3))
def test_so_many_zones_are_visited_for_a_while_and_then_the_checkout(seed: int, stops: int) -> None:
    stays = plan_walk(PLAN, random.Random(seed), 0, stops=stops).stays(PLAN)
    paused = [stay.zone for stay in stays if stay.left_ms - stay.entered_ms >= PAUSE_MS[0]]
    assert {"bakery", "dairy", "wine"} >= set(paused[:-1])
    assert len(paused) >= stops + 1
    assert stays[-1].zone == paused[-1] == "checkout"


def test_a_walker_faces_the_way_and_turns_at_the_shelf() -> None:
    walk = plan_walk(PLAN, random.Random(1), 0)
    for leg in walk.legs:
        if leg.start != leg.end:
            assert leg.heading == math.atan2(leg.end.y - leg.start.y, leg.end.x - leg.start.x)
    assert len({leg.heading for leg in walk.legs if leg.start == leg.end}) > 2


def test_the_same_walk_later_is_the_same_walk() -> None:
    walk = plan_walk(PLAN, random.Random(1), 0)
    assert walk.later(700).at(12_700) == walk.at(12_000)
    assert walk.later(700).at(699) is None


def test_outside_the_visit_nobody_is_anywhere() -> None:
    walk = Walk([Leg(10, 20, Point(0, 0), Point(1, 0), 0.0)])
    assert [walk.at(at_ms) is None for at_ms in (9, 10, 19, 20)] == [True, False, False, True]


@pytest.mark.parametrize("legs", [[], [Leg(0, 10, Point(0, 0), Point(1, 0), 0.0), Leg(11, 20, Point(1, 0), Point(1, 0), 0.0)]])
def test_a_walk_with_a_gap_is_refused(legs: list[Leg]) -> None:
    with pytest.raises(ValueError, match="chain"):
        Walk(legs)
