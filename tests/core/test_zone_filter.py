"""Positioning over a floor: where somebody is, and what must never move a belief too far."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.calibration import learn, unsurveyed
from gateway.core.level_filter import LevelFilter
from gateway.core.zone_filter import FORGET_MS, SLICE, ZoneFilter
from gateway.core.zone_model import CellGrid, RecordedSighting, ShopPlan, ZoneModel
from gateway.core.zone_scores import Filter, announcements, score
from tests.core.walked_shop import EAST, PLAN, WEST, crossing, level_dbm, recorded, standing, survey

LABELLED = [RecordedSighting(s.t_ms, s.shopper, s.anchor, s.rssi_dbm, s.zone) for s in survey()]
MODELS = {
    "a walk with positions": learn(survey(), PLAN),
    "zones without positions": learn(LABELLED, ShopPlan()),
    "positions alone": unsurveyed(PLAN),
}
ZONE_OF = {name: anchor.zone for name, anchor in PLAN.anchors.items() if anchor.zone is not None}
SHOPS = [*MODELS, "anchors in zones"]


def filter_of(shop: str) -> Filter:
    return ZoneFilter(MODELS[shop]) if shop in MODELS else LevelFilter(ZONE_OF)


def beliefs_of(filtering: Filter, now_ms: int) -> dict[str, dict[str | None, float]]:
    columns: list[str | None] = [*filtering.zones, None]
    return {name: dict(zip(columns, belief, strict=True)) for name, belief in filtering.beliefs(now_ms)}


def heard(place: tuple[float, float], t_ms: int, shopper: str = "anna") -> list[RecordedSighting]:
    return [RecordedSighting(t_ms, shopper, name, level_dbm(name, place)) for name in PLAN.anchors]


# ---- every kind of shop -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shop", SHOPS)
@pytest.mark.parametrize(("x", "zone"), [(2.0, WEST), (10.0, EAST)])
def test_standing_in_a_zone_is_announced_at_once_and_for_good(shop: str, x: float, zone: str) -> None:
    (ticks,) = announcements(recorded(standing(x, 4.0), 120), filter_of(shop)).values()
    assert [tick.announced for tick in ticks[3:]] == [zone] * (len(ticks) - 3)


@pytest.mark.parametrize("shop", SHOPS)
@pytest.mark.parametrize(
    "worse",
    [
        pytest.param({}, id="as usual"),
        pytest.param({"gain_db": 6.0}, id="a phone 6 dB louder"),
        pytest.param({"gain_db": -6.0}, id="a phone 6 dB fainter"),
        pytest.param({"silent": frozenset({"nw"})}, id="an anchor that fell silent"),
        pytest.param({"gap_s": (8.0, 13.0)}, id="nothing heard for 5 s"),
    ],
)
def test_walking_over_is_one_change(shop: str, worse: dict[str, float]) -> None:
    (ticks,) = announcements(recorded(crossing, 40, **worse), filter_of(shop)).values()  # type: ignore[arg-type]
    found = score(ticks, PLAN)
    assert (found.changes, found.true_changes, found.wrong_stays) == (1, 1, 0)


@pytest.mark.parametrize(
    ("speed_m_s", "late_s"),
    [pytest.param(0.4, 2.6, id="slow"), pytest.param(1.2, 2.1, id="quick")],
)
def test_who_is_quick_is_followed_as_soon_as_who_is_slow(speed_m_s: float, late_s: float) -> None:
    def to_and_fro(second: float) -> tuple[float, float]:
        return 11.0 - abs(10.0 - speed_m_s * second % 20.0), 4.0

    delays: list[float] = []
    for seed in range(4):
        walk = recorded(to_and_fro, 120, seed=seed)
        (ticks,) = announcements(walk, filter_of("a walk with positions")).values()
        delays += [math.inf if delay_s is None else delay_s for delay_s in score(ticks, PLAN).delays_s]
    assert sum(delays) / len(delays) <= late_s


@pytest.mark.parametrize("shop", SHOPS)
@pytest.mark.parametrize("rssi_dbm", [0.0, 42.0, -110.0, -127.0, math.nan, math.inf, -math.inf])
def test_impossible_levels_are_refused(shop: str, rssi_dbm: float) -> None:
    filtering = filter_of(shop)
    filtering.observe(RecordedSighting(0, "anna", "sw", rssi_dbm))
    filtering.observe(RecordedSighting(0, "anna", "an anchor of another shop", -60.0))
    assert beliefs_of(filtering, 0) == {}


@pytest.mark.parametrize("shop", SHOPS)
@settings(max_examples=30, deadline=None)
@given(
    levels=st.lists(st.tuples(st.sampled_from(sorted(PLAN.anchors)), st.floats(-109.0, -1.0), st.integers(0, 30_000)), min_size=1)
)
def test_a_belief_is_a_probability_whatever_is_heard(shop: str, levels: list[tuple[str, float, int]]) -> None:
    filtering = filter_of(shop)
    now_ms = 0
    for anchor, rssi_dbm, later_ms in levels:
        now_ms += later_ms
        filtering.observe(RecordedSighting(now_ms, "anna", anchor, rssi_dbm))
        (belief,) = beliefs_of(filtering, now_ms).values()
        assert sum(belief.values()) == pytest.approx(1.0, abs=1e-3)
        assert all(0.0 <= share <= 1.0 + 1e-6 for share in belief.values())


# ---- shops with a floor -------------------------------------------------------------------------------------------------------


def test_what_hardly_anybody_hears_is_outside() -> None:
    filtering = ZoneFilter(MODELS["a walk with positions"])
    belief: dict[str | None, float] = {}
    for t_ms in range(0, 5000, 400):
        for name in PLAN.anchors:
            filtering.observe(RecordedSighting(t_ms, "anna", name, -104.0))
        belief = beliefs_of(filtering, t_ms)["anna"]
    assert belief[None] > 0.5


@given(hint_dbm=st.floats(-105.0, -30.0), seconds=st.integers(2, 20))
@settings(max_examples=30, deadline=None)
def test_a_hint_takes_away_at_most_half_of_what_receivers_say(hint_dbm: float, seconds: int) -> None:
    filtering, plain = ZoneFilter(MODELS["a walk with positions"]), ZoneFilter(MODELS["a walk with positions"])
    with_hint: dict[str | None, float] = {}
    without: dict[str | None, float] = {}
    for t_ms in range(0, seconds * 1000, 400):
        for sighting in heard((2.0, 4.0), t_ms):
            filtering.observe(sighting)
            plain.observe(sighting)
        if t_ms + 400 >= seconds * 1000:
            filtering.observe(RecordedSighting(t_ms, "anna", "ne", hint_dbm, source="hint"))
        with_hint, without = beliefs_of(filtering, t_ms)["anna"], beliefs_of(plain, t_ms)["anna"]
    assert with_hint[WEST] >= 0.5 * without[WEST] - 1e-3


def test_a_report_decides_where_no_receiver_hears() -> None:
    filtering = ZoneFilter(MODELS["a walk with positions"])
    belief: dict[str | None, float] = {}
    for t_ms in (0, 1000, 2000):
        filtering.observe(RecordedSighting(t_ms, "anna", "ne", -62.0, source="report"))
        belief = beliefs_of(filtering, t_ms)["anna"]
    assert belief[EAST] > 0.8


def test_shoppers_do_not_disturb_each_other_in_any_number() -> None:
    model = _without_learning(MODELS["positions alone"])
    alone, crowded = ZoneFilter(model), ZoneFilter(model)
    expected: dict[str | None, float] = {}
    found: dict[str, dict[str | None, float]] = {}
    names = [f"s{number}" for number in range(SLICE + 3)]
    for t_ms in (0, 400, 800):
        for sighting in heard((2.0, 4.0), t_ms):
            alone.observe(sighting)
        for number, name in enumerate(names):
            for sighting in heard((2.0 if number % 2 == 0 else 10.0, 4.0), t_ms, name):
                crowded.observe(sighting)
        expected, found = beliefs_of(alone, t_ms)["anna"], beliefs_of(crowded, t_ms)
    assert list(found) == names
    for number, name in enumerate(names):
        assert found[name][WEST if number % 2 == 0 else EAST] == pytest.approx(expected[WEST], abs=1e-3)


def test_who_is_silent_is_forgotten_and_begins_anew() -> None:
    filtering = ZoneFilter(MODELS["a walk with positions"])
    for sighting in heard((2.0, 4.0), 0):
        filtering.observe(sighting)
    first = beliefs_of(filtering, 0)["anna"]
    later_ms = FORGET_MS + 60_000
    filtering.observe(RecordedSighting(later_ms, "bert", "sw", -60.0))
    beliefs_of(filtering, later_ms)
    for sighting in heard((2.0, 4.0), later_ms):
        filtering.observe(sighting)
    assert beliefs_of(filtering, later_ms)["anna"] == pytest.approx(first, abs=1e-5)


def test_levels_that_follow_from_positions_are_corrected_by_what_is_heard() -> None:
    """An anchor 12 dB weaker than usual draws everybody away from it, until that has been learnt."""

    def share_right(model: ZoneModel) -> float:
        filtering = ZoneFilter(model)
        found = []
        for seed in range(4):
            weak = [_weaker(s, 12.0) for s in recorded(_to_and_fro, 200, shopper=f"s{seed}", seed=seed)]
            (ticks,) = announcements(weak, filtering).values()
            found.append(score(ticks, PLAN).accuracy or 0.0)
        return found[-1]

    assert share_right(MODELS["positions alone"]) > share_right(_without_learning(MODELS["positions alone"])) + 0.02


def _weaker(sighting: RecordedSighting, by_db: float) -> RecordedSighting:
    if sighting.anchor in {"sw", "nw"}:
        sighting.rssi_dbm -= by_db
    return sighting


def _to_and_fro(second: float) -> tuple[float, float]:
    return 6.0 + 4.0 * math.sin(second / 15.0), 4.0 + 2.5 * math.sin(second / 7.0)


def test_plain_values_are_worth_as_much_as_an_object() -> None:
    objects, plain = ZoneFilter(MODELS["a walk with positions"]), ZoneFilter(MODELS["a walk with positions"])
    for number, s in enumerate(recorded(crossing, 30)):
        told = replace(s, source=("receiver", "hint", "report")[number % 3])
        objects.observe(told)
        plain.observe_level(told.shopper, told.anchor, told.rssi_dbm, told.source, told.t_ms)
        assert beliefs_of(objects, s.t_ms) == beliefs_of(plain, s.t_ms)


def test_a_level_far_below_the_map_moves_less_than_one_as_far_above() -> None:
    """Power fades deeply and seldom flares up; of a map that nobody measured both say the same."""

    def east(shop: str, louder_db: dict[str, float]) -> float:
        filtering = ZoneFilter(MODELS[shop])
        for sighting in heard((6.0, 4.0), 1000):
            filtering.observe(replace(sighting, rssi_dbm=sighting.rssi_dbm + louder_db.get(sighting.anchor, 0.0)))
        return beliefs_of(filtering, 1000)["anna"][EAST]

    # Either way the same differences between the anchors: they look east.
    faded, flared = {"sw": -8.0, "nw": -8.0}, {"se": 8.0, "ne": 8.0}
    assert 0.55 < east("a walk with positions", faded) < east("a walk with positions", flared) - 0.02
    assert east("positions alone", faded) == pytest.approx(east("positions alone", flared), abs=0.02)


def test_a_border_goes_through_cells() -> None:
    """Nothing is known of a shopper who has not been heard: each zone is as likely as it is large, wherever it ends."""
    for x in (5.0, 5.1, 5.2, 5.3, 5.4):
        outlines = {"west": ((0, 0), (x, 0), (x, 8), (0, 8)), "east": ((x, 0), (12, 0), (12, 8), (x, 8))}
        model = replace(unsurveyed(ShopPlan(PLAN.anchors, outlines)), learns=False)
        even = replace(model, levels_dbm=tuple((-70.0,) * len(row) for row in model.levels_dbm))
        filtering = ZoneFilter(even)
        filtering.observe(RecordedSighting(0, "anna", "sw", -70.0))
        belief = beliefs_of(filtering, 0)["anna"]
        assert model.grid is not None
        assert belief["west"] / (belief["west"] + belief["east"]) == pytest.approx(x / 12, abs=0.15 * model.grid.cell_m / 12)


@pytest.mark.parametrize("late", [0, SLICE, SLICE + 2])
def test_who_is_forgotten_while_beliefs_are_read_is_not_among_them_and_begins_anew(late: int) -> None:
    filtering = ZoneFilter(MODELS["a walk with positions"])
    names = [f"s{number}" for number in range(2 * SLICE)]
    for name in names:
        filtering.observe(RecordedSighting(0, name, "sw", -60.0))
    first = dict(filtering.beliefs(0))
    for name in names:
        filtering.observe(RecordedSighting(1000, name, "sw", -60.0))
    found: dict[str, object] = {}
    for name, belief in filtering.beliefs(1000):
        if not found:
            filtering.forget(names[late])
        found[name] = belief
    # The slice that is being read is computed already.
    assert set(found) == set(names) - ({names[late]} if late >= SLICE else set())
    filtering.observe(RecordedSighting(2000, names[late], "sw", -60.0))
    assert dict(filtering.beliefs(2000))[names[late]] == pytest.approx(first[names[late]], abs=1e-5)


@pytest.mark.parametrize("shop", MODELS)
def test_an_older_recording_of_the_same_shopper_is_followed_as_well(shop: str) -> None:
    filtering = ZoneFilter(_without_learning(MODELS[shop]))
    walk = list(recorded(crossing, 40))
    for earlier_ms in (0, 3_600_000, 7_200_000):
        again = [replace(sighting, t_ms=sighting.t_ms - earlier_ms) for sighting in walk]
        (ticks,) = announcements(again, filtering).values()
        assert score(ticks, PLAN).wrong_stays == 0
        assert ticks[-1].announced == EAST


@pytest.mark.parametrize("cell_m", [0.25, 0.6, 1.1])
def test_who_is_not_heard_spreads_alike_whatever_the_size_of_the_cells(cell_m: float) -> None:
    """The share that has crossed a border 2 m away after some seconds hardly depends on the cells."""

    def crossed(size_m: float) -> float:
        columns = round(12.1 / size_m)
        grid = CellGrid(-size_m / 2, 0.0, size_m, columns, max(1, round(8 / size_m)))
        zones = tuple(int(x > 6.0) for x, _ in grid.centres())
        sharp = tuple(-50.0 if abs(x - 4.0) <= 0.6 else -100.0 for x, _ in grid.centres())
        flat = (-70.0,) * len(sharp)
        outlines = {"west": ((-1, -1), (6, -1), (6, 9), (-1, 9)), "east": ((6, -1), (14, -1), (14, 9), (6, 9))}
        sigmas = ((4.0,) * len(sharp),) * 2
        filtering = ZoneFilter(
            ZoneModel(("near", "far"), ("east", "west"), tuple(1 - z for z in zones), (sharp, flat), sigmas, grid, (), outlines)
        )
        filtering.observe(RecordedSighting(0, "anna", "near", -50.0))
        east = west = 0.0
        list(filtering.beliefs(0))
        for t_ms in range(1000, 6000, 1000):
            filtering.observe(RecordedSighting(t_ms, "anna", "far", -70.0))
            ((_, (east, west, _)),) = filtering.beliefs(t_ms)
        return east / (east + west)

    assert crossed(cell_m) == pytest.approx(crossed(0.4), abs=0.06)


def _without_learning(model: ZoneModel) -> ZoneModel:
    return replace(model, learns=False)
