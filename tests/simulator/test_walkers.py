"""Walks: continuous, at a person's speed, and with a truth that agrees with the floor."""

import math
import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.simulator.floor_plan import FloorPlan, Point
from gateway.simulator.plan_file import BUILT_IN, built_in_plan, demo_floor_plan
from gateway.simulator.radio import wall_loss_db
from gateway.simulator.walkers import BORDER_M, ERRAND, NORMAL, STILL_MS, WALKS, Leg, Walk, ZoneStay, plan_walk

PLAN = demo_floor_plan()
PLANS = [built_in_plan(name) for name in BUILT_IN]
seeds = st.integers(0, 2**32)


@pytest.mark.parametrize("plan", PLANS, ids=BUILT_IN)
@pytest.mark.parametrize("kind", WALKS)
@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_a_walk_goes_from_door_to_door_without_a_jump_and_at_a_persons_speed(plan: FloorPlan, kind: str, seed: int) -> None:
    walk = WALKS[kind](plan, random.Random(seed), 5_000)
    assert (walk.arrives_ms, walk.legs[0].start, walk.legs[-1].end) == (5_000, plan.way_in, plan.way_out)
    assert all(a.end == b.start for a, b in pairwise(walk.legs))
    for leg in walk.legs:
        if leg.start != leg.end:
            speed = 1000 * leg.start.distance_to(leg.end) / (leg.end_ms - leg.start_ms)
            # Legs end on whole milliseconds, and some are centimetres long.
            assert 0.4 * 0.9 <= speed <= 1.3 * 1.1


@pytest.mark.parametrize("kind", WALKS)
@settings(max_examples=3, deadline=None)
@given(seed=seeds)
def test_nobody_walks_through_a_wall_or_a_shelf(kind: str, seed: int) -> None:
    for plan in PLANS:
        for leg in WALKS[kind](plan, random.Random(seed), 0).legs:
            assert wall_loss_db(plan.walls, leg.start, 0.1, leg.end, 0.1) == 0


def _long_stays(walk: Walk, plan: FloorPlan, at_least_ms: int) -> list[ZoneStay]:
    return [stay for stay in walk.stays(plan) if stay.left_ms - stay.entered_ms >= at_least_ms]


@pytest.mark.parametrize("plan", PLANS, ids=BUILT_IN)
@pytest.mark.parametrize("seed", range(5))
def test_each_kind_of_walk_is_what_its_name_says(plan: FloorPlan, seed: int) -> None:
    walks = {kind: walk(plan, random.Random(seed), 0) for kind, walk in WALKS.items()}
    pauses = [leg for leg in walks["normal"].legs if leg.start == leg.end]
    assert sum(leg.end_ms - leg.start_ms for leg in pauses) >= 4 * NORMAL.pause_ms[0]
    assert len(_long_stays(walks["standing"], plan, STILL_MS)) == 1
    assert {stay.zone for stay in walks["survey"].stays(plan)} == {area.name for area in plan.areas}
    assert len(_long_stays(walks["survey"], plan, 20_000)) >= len(plan.areas)
    visited = Counter(stay.zone for stay in walks["in-and-out"].stays(plan))
    assert sum(times >= 5 for times in visited.values()) >= 2


@pytest.mark.parametrize("plan", PLANS, ids=BUILT_IN)
@pytest.mark.parametrize("seed", range(5))
def test_who_passes_by_a_border_stays_on_one_side_of_it(plan: FloorPlan, seed: int) -> None:
    walk = WALKS["border"](plan, random.Random(seed), 0)
    longest = max(walk.stays(plan), key=lambda stay: stay.left_ms - stay.entered_ms)
    inside = [leg for leg in walk.legs if longest.entered_ms <= leg.start_ms and leg.end_ms < longest.left_ms]
    distances = [plan.area(longest.zone).border_distance(leg.end) for leg in inside[1:-1]]
    assert len(inside) >= 9
    assert max(distances[:8]) <= BORDER_M[1] + 0.01


@settings(deadline=None)
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


@settings(deadline=None)
@given(seeds, st.integers(1, 3))
def test_so_many_zones_are_visited_for_a_while_and_then_the_checkout(seed: int, stops: int) -> None:
    stays = plan_walk(PLAN, random.Random(seed), 0, stops=stops).stays(PLAN)
    paused = [stay.zone for stay in stays if stay.left_ms - stay.entered_ms >= ERRAND.pause_ms[0]]
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


def test_a_walk_that_the_plan_does_not_allow_is_refused() -> None:
    lone = FloorPlan((PLAN.areas[0],), (), (), PLAN.way_in, PLAN.way_in)
    for kind in ("border", "in-and-out"):
        with pytest.raises(ValueError, match="two zones"):
            WALKS[kind](lone, random.Random(1), 0)
    assert WALKS["normal"](lone, random.Random(1), 0).stays(lone)
