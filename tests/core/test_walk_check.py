"""Walks against each other: the confusion table, and advice that a person can follow."""

from dataclasses import replace

import pytest

from gateway.core.walk_check import Replay, ZoneWalked, advice, all_worse, confusion, is_worse, model_of, replayed
from gateway.core.walks import Walk
from gateway.core.zone_filter import ZoneFilter
from gateway.core.zone_model import KnownAnchor, ShopPlan
from tests.core.test_walks import WALKED, walk
from tests.core.walked_shop import ANCHORS, EAST, OUTLINES, PLAN, WEST

NOWHERE = ShopPlan()


def found(zone: str, announced: dict[str, int], *, loudest_dbm: float = -60.0, heard_per_s: float = 8.0) -> ZoneWalked:
    """A row of the table."""
    return ZoneWalked(zone, sum(announced.values()), announced.get(zone, 0), announced, "sw", loudest_dbm, heard_per_s)


def test_two_rooms_with_anchors_in_their_corners_are_told_apart() -> None:
    for plan in (PLAN, NOWHERE):
        table = confusion(list(WALKED.values()), plan)
        assert {zone: one.accuracy > 0.75 for zone, one in table.items()} == {WEST: True, EAST: True}
        assert all(20 <= one.seconds <= 30 for one in table.values())
        assert table[WEST].loudest in {"sw", "nw"}


def test_two_zones_that_are_one_place_are_not() -> None:
    """Nothing leaks from a block into the model that judges it: then the twins would be told apart."""
    walks = [walk(WEST, seed=1), replace(walk(WEST, seed=2), zone="twin")]
    table = confusion(walks, NOWHERE)
    right = sum(one.right for one in table.values()) / sum(one.seconds for one in table.values())
    assert 0.2 < right < 0.8


def test_a_replay_is_right_where_it_has_learnt_and_worse_elsewhere() -> None:
    walks = list(WALKED.values())
    good = replayed(walks, ZoneFilter(model_of(walks, NOWHERE)))
    bad = replayed(walks, ZoneFilter(model_of([Walk(EAST, WALKED[WEST].sightings), Walk(WEST, WALKED[EAST].sightings)], NOWHERE)))
    for zone in (WEST, EAST):
        assert good[zone].accuracy > 0.95
        assert bad[zone].accuracy < 0.2
        assert is_worse(bad[zone], good[zone].accuracy, good[zone].changes)
        assert not is_worse(good[zone], good[zone].accuracy, good[zone].changes)


@pytest.mark.parametrize(
    ("now", "accepted", "changes", "worse"),
    [
        (Replay(30, 30, 0), 1.0, 0, False),
        (Replay(30, 28, 0), 1.0, 0, False),
        (Replay(30, 26, 0), 1.0, 0, True),
        (Replay(30, 30, 1), 1.0, 0, False),
        (Replay(30, 30, 2), 1.0, 0, True),
        (Replay(0, 0, 0), 0.9, 0, True),
    ],
)
def test_a_second_here_or_there_is_not_worse(now: Replay, accepted: float, changes: int, worse: bool) -> None:
    assert is_worse(now, accepted, changes) == worse


def test_all_together_may_fall_less_than_each() -> None:
    assert not all_worse(0.95, 0.97)
    assert all_worse(0.90, 0.97)


# ---- advice -------------------------------------------------------------------------------------------------------------------

MIXED = {WEST: found(WEST, {WEST: 20, EAST: 10}), EAST: found(EAST, {EAST: 25, WEST: 5})}


def told(walked: dict[str, ZoneWalked], plan: ShopPlan, **more: tuple[str, ...]) -> list[str]:
    return advice(
        walked,
        list(WALKED.values()),
        plan,
        receivers=more.get("receivers", tuple(ANCHORS)),
        not_walked=more.get("not_walked", ()),
    )


def test_nothing_is_said_where_nothing_is_to_be_done() -> None:
    assert told({zone: found(zone, {zone: 30}) for zone in (WEST, EAST)}, PLAN) == []


def test_with_positions_a_receiver_is_moved_by_so_much() -> None:
    """One receiver on the border tells nothing; a metre to a side it does."""
    plan = ShopPlan({"k3": KnownAnchor((6.0, 4.0), WEST)}, OUTLINES)
    assert told(MIXED, plan) == [f"between {WEST} and {EAST}: move k3 one metre right on the plan (to 7, 4), or merge the zones"]


def test_where_no_small_move_helps_the_anchors_are_named() -> None:
    said = told(MIXED, NOWHERE)
    assert len(said) == 1
    assert said[0].startswith(f"between {WEST} and {EAST}: ")
    assert said[0].endswith("or merge the zones")
    assert any(name in said[0] for name in ANCHORS)


def test_one_receiver_for_two_zones_is_moved_deeper_into_its_own() -> None:
    walks = [Walk(zone, tuple(s for s in WALKED[zone].sightings if s.anchor == "sw")) for zone in (WEST, EAST)]
    plan = ShopPlan({"sw": KnownAnchor(None, EAST)})
    said = advice(MIXED, walks, plan, receivers=("sw",), not_walked=())
    assert len(said) == 1
    assert f"move it deeper into {EAST}, put a receiver into {WEST}, or merge the zones" in said[0]


def test_what_is_missing_comes_first() -> None:
    walked = {WEST: found(WEST, {WEST: 30}, loudest_dbm=-91.0), EAST: found(EAST, {EAST: 30}, heard_per_s=0.8)}
    said = told(walked, PLAN, receivers=(*ANCHORS, "cellar"), not_walked=("wine",))
    assert said == [
        "walk wine too: gateway zone walk wine",
        "cellar heard none of the walks: gateway receiver test cellar",
        f"{WEST} is hardly covered: its loudest receiver, sw, hears -91 dBm there; put one nearer",
        f"{EAST} is hardly covered: 0.8 packets a second are heard there; put a receiver nearer",
    ]


def test_a_zone_that_is_taken_for_none_is_walked_again() -> None:
    said = told({WEST: found(WEST, {WEST: 20, "": 10}), EAST: found(EAST, {EAST: 30})}, PLAN)
    assert said == [f"{WEST} is told right in 67% of its walk, taken for none in particular: walk it again, for longer"]
