"""Calibration: from a recorded walk to levels over the floor, and what cannot be learnt."""

import math
import random
from dataclasses import replace

import pytest

from gateway.core.calibration import MOST_CELLS, NotLearnt, learn, unsurveyed
from gateway.core.zone_model import KnownAnchor, RecordedSighting, ShopPlan, ZoneModel
from tests.core.walked_shop import ANCHORS, EAST, OUTLINES, PLAN, WEST, level_dbm, survey


def error_db(model: ZoneModel) -> float:
    """How far the model's levels are from the true ones, root mean square over floor and anchors."""
    assert model.grid is not None
    squares = [
        (level - level_dbm(anchor, place)) ** 2
        for anchor, levels in zip(model.anchors, model.levels_dbm, strict=True)
        for place, level in zip(model.grid.centres(), levels, strict=True)
    ]
    return math.sqrt(sum(squares) / len(squares))


def test_a_survey_gives_the_levels_of_the_whole_floor() -> None:
    model = learn(survey(), PLAN)
    assert model.grid is not None
    assert len(model.cell_zones) == model.grid.columns * model.grid.rows <= MOST_CELLS
    assert error_db(model) < 1.6
    assert not model.learns


def test_a_survey_without_the_anchors_positions_does_too() -> None:
    assert error_db(learn(survey(), ShopPlan(zones=OUTLINES))) < 2.6


def test_a_shadow_is_in_the_map() -> None:
    """Behind a shelf, east of x = 7, one anchor is 12 dB fainter than its distance says."""
    shadowed = survey()
    for sighting in shadowed:
        assert sighting.at_m is not None
        if sighting.anchor == "sw" and sighting.at_m[0] > 7:
            sighting.rssi_dbm -= 12
    model, plain = learn(shadowed, PLAN), learn(survey(), PLAN)
    assert model.grid is not None
    row = model.anchors.index("sw")
    for number, (x, y) in enumerate(model.grid.centres()):
        if 8.5 < x < 11 and 1 < y < 7:
            assert plain.levels_dbm[row][number] - model.levels_dbm[row][number] > 6


def test_a_fade_of_one_channel_at_one_spot_is_not_in_the_map() -> None:
    """The mean of its decibels lies 8 dB lower there; a metre away nobody hears a difference."""
    spot = (5.0, 5.0)

    def recorded(faded_db: float) -> list[RecordedSighting]:
        channels_db = (2.0, 0.0, -2.0)
        return [
            replace(
                s,
                t_ms=s.t_ms + 300 * number,
                rssi_dbm=s.rssi_dbm + off_db - (faded_db if number == 1 and s.at_m == spot else 0.0),
            )
            for s in survey(9)
            for number, off_db in enumerate(channels_db)
        ]

    plain, faded = learn(recorded(0.0), PLAN), learn(recorded(25.0), PLAN)
    fallen_db = [
        a - b for one, other in zip(plain.levels_dbm, faded.levels_dbm, strict=True) for a, b in zip(one, other, strict=True)
    ]
    assert 0.0 < max(fallen_db) < 3.0


@pytest.mark.parametrize("packets", [pytest.param(1, id="one packet a place"), pytest.param(12, id="many")])
def test_the_map_holds_the_mean_of_packets_as_they_come(packets: int) -> None:
    """Fades are deeper than peaks are high: the mean power lies 2 dB above what a packet has on average."""
    chance = random.Random(1)
    faded = [replace(s, rssi_dbm=s.rssi_dbm + 4.3 * math.log(chance.expovariate(1.0)) + 2.5) for s in survey(packets)]
    model, plain = learn([s for s in faded if s.is_possible], PLAN), learn(survey(packets), PLAN)
    beside_db = [
        level - own
        for one, other in zip(model.levels_dbm, plain.levels_dbm, strict=True)
        for level, own in zip(one, other, strict=True)
    ]
    assert abs(sum(beside_db) / len(beside_db)) < 0.7


def test_more_packets_leave_less_doubt_and_an_unsurveyed_corner_more() -> None:
    model = learn([s for s in survey() if s.at_m is not None and s.at_m[0] < 6], PLAN)
    assert model.grid is not None
    west = [sigma for place, sigma in zip(model.grid.centres(), model.sigmas_db[0], strict=True) if place[0] < 5]
    east = [sigma for place, sigma in zip(model.grid.centres(), model.sigmas_db[0], strict=True) if place[0] > 10]
    assert max(west) < min(east)


def test_cells_get_their_zone_from_polygons_or_from_the_nearest_place() -> None:
    for plan in (PLAN, ShopPlan({name: KnownAnchor(at) for name, at in ANCHORS.items()})):
        model = learn(survey(), plan)
        assert model.grid is not None
        zones = [model.zones[zone] for zone in model.cell_zones]
        inside = [(x, zone) for (x, _), zone in zip(model.grid.centres(), zones, strict=True) if abs(x - 6) > 1]
        assert all(zone == (WEST if x < 6 else EAST) for x, zone in inside)


def test_zones_without_positions_become_fingerprints() -> None:
    labelled = [RecordedSighting(s.t_ms, s.shopper, s.anchor, s.rssi_dbm, s.zone) for s in survey()]
    model = learn(labelled, ShopPlan())
    assert model.grid is None
    assert {model.zones[zone] for zone in model.cell_zones} == {WEST, EAST}
    west = [number for number, zone in enumerate(model.cell_zones) if model.zones[zone] == WEST]
    row = model.levels_dbm[model.anchors.index("sw")]
    assert min(row[number] for number in west) > min(row)


def test_an_anchor_without_a_position_stands_in_the_middle_of_its_zone() -> None:
    anchors = {**PLAN.anchors, "lost": KnownAnchor(zone=WEST)}
    model = unsurveyed(ShopPlan(anchors, OUTLINES))
    assert model.anchors_at_m[model.anchors.index("lost")] == (3.0, 4.0)


def test_impossible_levels_are_not_learnt_from() -> None:
    wrong = [RecordedSighting(s.t_ms, s.shopper, s.anchor, 42.0, s.zone, s.at_m) for s in survey()]
    assert learn([*survey(), *wrong], PLAN) == learn(survey(), PLAN)


@pytest.mark.parametrize(
    ("recorded", "plan", "missing"),
    [
        pytest.param([], ShopPlan(), "no anchor", id="nothing"),
        pytest.param([RecordedSighting(0, "anna", "sw", -60)], ShopPlan(), "fewer than three", id="neither zones nor places"),
        pytest.param([], ShopPlan({n: KnownAnchor(at) for n, at in ANCHORS.items()}), "no zone", id="anchors, but no zone"),
        pytest.param(
            [RecordedSighting(s.t_ms, s.shopper, s.anchor, s.rssi_dbm, None, s.at_m) for s in survey(1)],
            ShopPlan(),
            "no zone",
            id="places, but no zone",
        ),
    ],
)
def test_what_cannot_be_learnt_says_what_is_missing(recorded: list[RecordedSighting], plan: ShopPlan, missing: str) -> None:
    with pytest.raises(NotLearnt, match=missing):
        learn(recorded, plan)
