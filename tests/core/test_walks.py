"""A technician's walk: what is refused and why, where marks put it, and what several of them are learnt from."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.walks import (
    BLOCKS,
    SHORTEST_MS,
    Walk,
    evenly_marked,
    heard_now,
    judged,
    material,
    only_block,
    path_fault,
    placed,
    recent_per_s,
    sounds_like,
    without_block,
)
from gateway.core.zone_model import Point, RecordedSighting
from tests.core.walked_shop import ANCHORS, EAST, PLAN, WEST, recorded

WEST_RECEIVERS, EAST_RECEIVERS = ("nw", "sw"), ("ne", "se")


def to_and_fro(zone: str, phase: float = 0.0) -> Callable[[float], Point]:
    """Through one room, from end to end in 15 s."""

    def where(second: float) -> Point:
        along = abs(((second / 15.0 + phase) % 2.0) - 1.0)
        return (1.0 if zone == WEST else 7.0) + 4.0 * along, 1.5 + 5.0 * abs(((second / 9.0 + phase) % 2.0) - 1.0)

    return where


def walk(zone: str, seconds: float = 30.0, *, truly: str | None = None, seed: int = 1, **how: object) -> Walk:
    """A walk that says it is in ``zone``, and is in ``truly``."""
    heard = recorded(to_and_fro(truly or zone, seed / 7), seconds, seed=seed, **how)  # type: ignore[arg-type]
    return Walk(zone, tuple(replace(s, t_ms=s.t_ms - 1_000_000, zone=zone, at_m=None) for s in heard))


WALKED = {WEST: walk(WEST, seed=11), EAST: walk(EAST, seed=12)}


@pytest.mark.parametrize("others", [{}, {EAST: WALKED[EAST]}, WALKED], ids=["the first", "beside another", "again"])
def test_a_good_walk_is_accepted(others: dict[str, Walk]) -> None:
    for seed in range(20, 30):
        assert judged(walk(WEST, seed=seed), others, WEST_RECEIVERS) is None


def test_another_phone_is_no_other_zone() -> None:
    assert judged(walk(WEST, seed=3, gain_db=-6.0), WALKED, WEST_RECEIVERS) is None


@pytest.mark.parametrize(
    ("bad", "receivers", "deaf", "reason", "words"),
    [
        pytest.param(Walk(WEST, ()), WEST_RECEIVERS, (), "not-heard", "was not heard at all", id="nothing"),
        pytest.param(Walk(WEST, ()), WEST_RECEIVERS, WEST_RECEIVERS, "not-heard", "heard nothing else either", id="all deaf"),
        pytest.param(walk(WEST, 12), WEST_RECEIVERS, (), "too-short", "for 12 s only", id="too short"),
        pytest.param(
            Walk(WEST, walk(WEST, 60).sightings[::40]), WEST_RECEIVERS, (), "too-few", "0.3 times a second", id="too few"
        ),
        pytest.param(walk(WEST, 60, gap_s=(20.0, 34.0)), WEST_RECEIVERS, (), "asleep", "silent for 14 s", id="the phone slept"),
        pytest.param(
            walk(WEST, silent=frozenset({"nw"})), WEST_RECEIVERS, (), "silent-receiver", "receiver nw never", id="silent"
        ),
        pytest.param(
            walk(WEST, silent=frozenset({"nw", "sw"})),
            WEST_RECEIVERS,
            ("sw",),
            "silent-receiver",
            "receiver sw heard nothing at all",
            id="deaf",
        ),
    ],
)
def test_a_bad_walk_is_refused(bad: Walk, receivers: tuple[str, ...], deaf: tuple[str, ...], reason: str, words: str) -> None:
    refused = judged(bad, {}, receivers, frozenset(deaf))
    assert refused is not None
    assert refused.reason == reason
    assert words in refused.what
    assert refused.do.endswith((".", "--replace."))


def test_impossible_levels_do_not_make_a_walk() -> None:
    wrong = Walk(WEST, tuple(replace(s, rssi_dbm=20.0) for s in walk(WEST).sightings))
    refused = judged(wrong, {}, WEST_RECEIVERS)
    assert refused is not None
    assert refused.reason == "not-heard"


def test_a_walk_in_another_walked_zone_is_found_out() -> None:
    """Beside an earlier walk of its own; the message asks what a person would ask."""
    for seed in range(20, 30):
        refused = judged(walk(WEST, truly=EAST, seed=seed), WALKED, WEST_RECEIVERS)
        assert refused is not None
        assert (refused.reason, refused.what) == ("wrong-zone", f"this sounds like {EAST}: are you standing in {WEST}?")


def test_a_first_walk_in_another_walked_zone_is_found_out() -> None:
    others = {EAST: WALKED[EAST]}
    found = [sounds_like(walk(WEST, truly=EAST, seed=seed), others) for seed in range(20, 40)]
    assert found.count(EAST) >= 8
    assert not any(sounds_like(walk(WEST, seed=seed), others) for seed in range(20, 40))


def test_nothing_sounds_like_anything_before_others_were_walked() -> None:
    assert sounds_like(walk(WEST), {}) is None
    assert sounds_like(walk(WEST), {WEST: WALKED[WEST]}) is None


# ---- while it goes on ---------------------------------------------------------------------------------------------------------


def test_the_newest_five_seconds_are_shown() -> None:
    heard = [RecordedSighting(t_ms, "w", "a", -60.0 - t_ms // 1000) for t_ms in range(0, 10_000, 500)]
    heard += [RecordedSighting(1000, "w", "b", -50.0)]
    found = heard_now(heard, 10_000)
    assert [(one.anchor, one.level_dbm, one.heard) for one in found] == [("a", -67.0, 20), ("b", None, 1)]
    assert recent_per_s(heard, 10_000) == 2.0
    assert recent_per_s([], 0) == 0.0


# ---- marks --------------------------------------------------------------------------------------------------------------------


def test_a_path_walked_evenly_passes_its_marks_by_length() -> None:
    assert evenly_marked(((0, 0), (6, 0), (6, 2)), 40_000) == ((0, (0, 0)), (30_000, (6, 0)), (40_000, (6, 2)))


def test_places_lie_between_the_marks() -> None:
    marks = ((1000, (0.0, 0.0)), (3000, (4.0, 0.0)), (4000, (4.0, 1.0)))
    heard = [RecordedSighting(t_ms, "w", "a", -60.0) for t_ms in (0, 1000, 2000, 3500, 9000)]
    assert [one.at_m for one in placed(heard, marks)] == [(0, 0), (0, 0), (2, 0), (4, 0.5), (4, 1)]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=6),
    st.lists(st.integers(-1000, 60_000), max_size=20),
)
def test_a_place_is_never_off_the_path(path: list[tuple[int, int]], times: list[int]) -> None:
    marks = tuple((5000 * number, (float(x), float(y))) for number, (x, y) in enumerate(path))
    for one in placed([RecordedSighting(t_ms, "w", "a", -60.0) for t_ms in times], marks):
        assert one.at_m is not None
        x, y = one.at_m
        assert any(
            min(a[0], b[0]) <= x <= max(a[0], b[0]) and min(a[1], b[1]) <= y <= max(a[1], b[1])
            for (_, a), (_, b) in pairwise(marks)
        )


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (((1, 1), (5, 1)), None),
        (((1, 1), (6.5, 1)), None),
        (((1, 1),), "at least two marks"),
        (((1, 1), (1, 1)), "marks 1 and 2 are the same place"),
        (((1, 1), (9, 1)), f"mark 2 (9,1) lies in {EAST}"),
        (((1, 1), (1, 20)), "mark 2 (1,20) lies 12.0 m outside"),
        (((1, 1), (2, 1)) * 60, "at most 100 marks"),
    ],
)
def test_a_path_that_nobody_can_walk_in_the_zone_is_told_before(path: tuple[Point, ...], words: str | None) -> None:
    fault = path_fault(path, WEST, PLAN)
    assert (fault is None) == (words is None)
    assert words is None or words in str(fault)


# ---- learning -----------------------------------------------------------------------------------------------------------------


def test_places_are_used_only_where_every_walk_has_them() -> None:
    marked = Walk(WEST, placed(WALKED[WEST].sightings, ((0, (1.0, 1.0)), (30_000, (5.0, 7.0)))))
    assert all(one.at_m is None for one in material([marked, WALKED[EAST]]))
    assert all(one.at_m is not None for one in material([marked]))
    assert {(one.shopper, one.zone) for one in material(WALKED.values())} == {(WEST, WEST), (EAST, EAST)}


@pytest.mark.parametrize("number", range(BLOCKS))
@pytest.mark.parametrize("seconds", [SHORTEST_MS / 1000, 30.0, 47.3])
def test_what_is_tested_was_not_learnt_from(seconds: float, number: int) -> None:
    """Each sighting is in one block, and none within a second of it is learnt from."""
    whole = walk(WEST, seconds)
    blocks = [only_block(whole, each) for each in range(BLOCKS)]
    assert sum(len(block.sightings) for block in blocks) == len(whole.sightings)
    tested = only_block(whole, number).sightings
    offset_ms = whole.sightings[0].t_ms + (whole.duration_ms + 1) * number // BLOCKS
    times = [one.t_ms + offset_ms for one in tested]
    for one in without_block(whole, number).sightings:
        assert not min(times) - 900 <= one.t_ms <= max(times) + 900


def test_every_anchor_of_the_scene_hears() -> None:
    assert WALKED[WEST].anchors == ANCHORS.keys()
