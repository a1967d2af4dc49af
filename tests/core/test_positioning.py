"""Positioning: levels become probabilities, noise is damped, what was told never outweighs what was heard."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import Anchor, Belief, Instant, Shop, Sighting, Zone
from gateway.core.positioning import Positioning
from tests.core.phones import entries_held_by

START = Instant(1_000_000, 1_790_000_000_000)
SHOP = Shop(
    zones={name: Zone(name) for name in ("entrance", "dairy", "wine")},
    anchors={
        anchor.name: anchor
        for anchor in (
            Anchor("r-entrance", "receiver", "entrance"),
            Anchor("r-dairy", "receiver", "dairy"),
            Anchor("r-dairy-2", "receiver", "dairy"),
            Anchor("r-wine", "receiver", "wine"),
            Anchor("r-nowhere", "receiver", None),
            Anchor("b-dairy", "beacon", "dairy"),
            Anchor("b-wine", "beacon", "wine"),
        )
    },
)


def heard(anchor: str, rssi_dbm: float, after_ms: int = 0, shopper: str = "anna") -> Sighting:
    return Sighting(shopper, anchor, rssi_dbm, START.plus(after_ms), "receiver")


def told(anchor: str, rssi_dbm: float, after_ms: int = 0, shopper: str = "anna") -> Sighting:
    return Sighting(shopper, anchor, rssi_dbm, START.plus(after_ms), "hint")


def belief_of(positioning: Positioning, *sightings: Sighting, after_ms: int | None = None) -> Belief:
    """The belief about the one shopper of these sightings, at the time of the last unless said otherwise."""
    for sighting in sightings:
        positioning.observe(sighting)
    (belief,) = positioning.beliefs(sightings[-1].at if after_ms is None else START.plus(after_ms))
    return belief


# ---- one moment ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sightings", "best"),
    [
        pytest.param([heard("r-dairy", -60)], "dairy", id="one receiver, loud"),
        pytest.param([heard("r-dairy", -95)], None, id="one receiver, too faint"),
        pytest.param([heard("r-nowhere", -40)], None, id="a receiver without a zone says nothing about zones"),
        pytest.param([heard("r-dairy", -60), heard("r-wine", -66)], "dairy", id="the louder of two"),
        pytest.param(
            [heard("r-dairy", -90), heard("r-dairy-2", -60), heard("r-wine", -66)], "dairy", id="strongest anchor counts"
        ),
        pytest.param([told("b-wine", -62)], "wine", id="a hint, where no receiver is"),
        pytest.param([heard("r-nowhere", -40), told("b-wine", -62)], "wine", id="a hint beside a receiver without a zone"),
        pytest.param([heard("r-dairy", -50), told("b-wine", -62)], "dairy", id="a hint against a loud receiver"),
        pytest.param([heard("gone", -50)], None, id="an anchor that the shop does not have"),
    ],
)
def test_the_likeliest_zone(sightings: list[Sighting], best: str | None) -> None:
    belief = belief_of(Positioning(SHOP), *sightings)
    likeliest = max({**belief.zones, "": belief.outside}.items(), key=lambda item: item[1])[0]
    assert (likeliest or None) == best


def test_at_the_enter_level_zone_and_outside_are_equally_likely() -> None:
    belief = belief_of(Positioning(SHOP), heard("r-dairy", SHOP.zones["dairy"].enter_dbm))
    assert belief.zones["dairy"] == pytest.approx(0.5)
    assert belief.outside == pytest.approx(0.5)


def test_four_decibels_make_a_zone_e_times_likelier() -> None:
    belief = belief_of(Positioning(SHOP), heard("r-dairy", -60), heard("r-wine", -64))
    assert belief.zones["dairy"] / belief.zones["wine"] == pytest.approx(math.e)


@pytest.mark.parametrize(
    ("rssi_dbm", "taken"),
    [(-109.9, True), (-110, False), (-127, False), (-0.1, True), (0, False), (20, False), (math.nan, False), (math.inf, False)],
)
def test_impossible_levels_are_refused(rssi_dbm: float, taken: bool) -> None:
    positioning = Positioning(SHOP)
    positioning.observe(heard("r-dairy", rssi_dbm))
    assert positioning.has_pending == taken
    assert len(list(positioning.beliefs(START))) == taken


def test_evidence_names_the_four_strongest_anchors() -> None:
    levels = {"r-entrance": -80, "r-dairy": -60, "r-dairy-2": -70, "r-wine": -65, "r-nowhere": -50}
    belief = belief_of(Positioning(SHOP), *(heard(anchor, rssi_dbm) for anchor, rssi_dbm in levels.items()))
    assert [(level.anchor, level.level_dbm) for level in belief.anchors] == [
        ("r-nowhere", -50),
        ("r-dairy", -60),
        ("r-wine", -65),
        ("r-dairy-2", -70),
    ]
    assert {level.source for level in belief.anchors} == {"receiver"}


# ---- over time ----------------------------------------------------------------------------------------------------------------


def test_one_outlier_hardly_moves_the_level() -> None:
    positioning = Positioning(SHOP)
    belief = belief_of(positioning, *(heard("r-dairy", -70, ms) for ms in range(0, 5000, 250)), heard("r-dairy", -40, 5000))
    assert -70 < belief.anchors[0].level_dbm < -65


def test_a_step_of_nine_decibels_is_followed_within_five_seconds() -> None:
    positioning = Positioning(SHOP)
    steps = [heard("r-dairy", -70, ms) for ms in range(0, 5000, 250)] + [
        heard("r-dairy", -61, ms) for ms in range(5000, 10_000, 250)
    ]
    assert belief_of(positioning, *steps).anchors[0].level_dbm == pytest.approx(-61, abs=0.5)


@pytest.mark.parametrize(
    ("sighting", "after_ms", "remembered"),
    [
        pytest.param(heard("r-dairy", -60), 10_000, True, id="heard, just in time"),
        pytest.param(heard("r-dairy", -60), 10_001, False, id="heard, too long ago"),
        pytest.param(told("b-dairy", -60), 75_000, True, id="told, just in time"),
        pytest.param(told("b-dairy", -60), 75_001, False, id="told, too long ago"),
    ],
)
def test_what_was_heard_lasts_ten_seconds_what_was_told_until_the_next_minute(
    sighting: Sighting, after_ms: int, remembered: bool
) -> None:
    positioning = Positioning(SHOP)
    belief_of(positioning, sighting)
    belief = belief_of(positioning, heard("r-nowhere", -80, after_ms))
    assert ("dairy" in belief.zones) == remembered


@given(hint_dbm=st.floats(-109, -30), heard_dbm=st.floats(-109, -30), age_ms=st.integers(0, 75_000))
def test_a_hint_beside_a_receiver_weighs_at_most_one_half_and_less_with_age(
    hint_dbm: float, heard_dbm: float, age_ms: int
) -> None:
    positioning = Positioning(SHOP)
    alone = belief_of(Positioning(SHOP), heard("r-dairy", heard_dbm, age_ms)).zones["dairy"]
    belief = belief_of(positioning, told("b-wine", hint_dbm), heard("r-dairy", heard_dbm, age_ms))
    weight = 0.5 * math.exp(-age_ms / 5000)
    assert belief.zones["wine"] <= weight + 1e-9
    assert belief.zones["dairy"] >= (1 - weight) * alone - 1e-9


def test_beliefs_are_about_those_heard_since_the_last_call_in_the_order_of_hearing() -> None:
    positioning = Positioning(SHOP)
    for shopper, after_ms in [("zoe", 0), ("anna", 10), ("zoe", 300)]:
        positioning.observe(heard("r-dairy", -60, after_ms, shopper))
    beliefs = list(positioning.beliefs(START.plus(400)))
    assert [(belief.shopper, belief.heard_at) for belief in beliefs] == [("zoe", START.plus(300)), ("anna", START.plus(10))]
    assert {belief.at for belief in beliefs} == {START.plus(400)}
    assert list(positioning.beliefs(START.plus(600))) == []
    assert not positioning.has_pending


def test_a_sighting_that_arrives_late_does_not_turn_time_back() -> None:
    positioning = Positioning(SHOP)
    belief = belief_of(positioning, heard("r-dairy", -60, 5000), heard("r-dairy", -60, 2000), after_ms=5000)
    assert belief.heard_at == START.plus(5000)
    assert "dairy" in belief_of(positioning, heard("r-nowhere", -60, 15_000)).zones


# ---- forgetting ---------------------------------------------------------------------------------------------------------------


def test_a_forgotten_shopper_leaves_nothing_pending_or_known_behind() -> None:
    positioning = Positioning(SHOP)
    empty = entries_held_by(positioning)
    belief_of(positioning, heard("r-dairy", -60))
    positioning.observe(heard("r-dairy", -60, 100))
    positioning.forget("anna")
    positioning.forget("nobody")
    assert list(positioning.beliefs(START.plus(200))) == []
    assert entries_held_by(positioning) == empty


def test_a_new_shop_forgets_anchors_that_are_gone() -> None:
    positioning = Positioning(SHOP)
    belief_of(positioning, heard("r-dairy", -60), heard("r-wine", -62))
    kept = {name: anchor for name, anchor in SHOP.anchors.items() if name != "r-dairy"}
    positioning.observe(heard("r-dairy", -60, 100))
    positioning.use(Shop(SHOP.zones, kept))
    belief = belief_of(positioning, heard("r-wine", -62, 200))
    assert set(belief.zones) == {"wine"}


def test_a_day_of_passers_by_leaves_nothing_behind() -> None:
    positioning = Positioning(SHOP)
    empty = entries_held_by(positioning)
    for number in range(3000):
        positioning.observe(heard("r-dairy", -60, 1000 * number, f"shopper {number}"))
        list(positioning.beliefs(START.plus(1000 * number)))
        assert entries_held_by(positioning) <= empty + 40 if number % 500 == 0 else True
    list(positioning.beliefs(START.plus(4_000_000)))
    assert entries_held_by(positioning) == empty


def test_a_flood_from_one_phone_takes_no_more_memory_than_one_sighting() -> None:
    positioning = Positioning(SHOP)
    positioning.observe(heard("r-dairy", -60))
    one = entries_held_by(positioning)
    for number in range(10_000):
        positioning.observe(heard("r-dairy", -60, number // 10))
    assert entries_held_by(positioning) == one
    positioning.observe(heard("r-dairy", -60, 1, "zoe"))
    assert [belief.shopper for belief in positioning.beliefs(START)] == ["anna", "zoe"]


# ---- for any sightings --------------------------------------------------------------------------------------------------------

sightings = st.builds(
    Sighting,
    shopper=st.sampled_from(["anna", "zoe"]),
    anchor=st.sampled_from([*SHOP.anchors, "gone"]),
    rssi_dbm=st.floats(-140, 30),
    at=st.integers(0, 30_000).map(START.plus),
    source=st.sampled_from(["receiver", "hint", "report"]),
)


@given(st.lists(sightings, max_size=40))
def test_a_belief_is_a_probability(seen: list[Sighting]) -> None:
    positioning = Positioning(SHOP)
    for number, sighting in enumerate(seen):
        positioning.observe(sighting)
        if number % 5 == 4:
            for belief in positioning.beliefs(START.plus(1000 * number)):
                assert all(0 <= p <= 1 for p in (*belief.zones.values(), belief.outside))
                assert sum(belief.zones.values()) + belief.outside == pytest.approx(1)
                assert belief.zones.keys() <= SHOP.zones.keys()
                assert list(belief.zones) == sorted(belief.zones)


@given(st.lists(sightings, max_size=40))
def test_shoppers_do_not_influence_one_another(seen: list[Sighting]) -> None:
    together, alone = Positioning(SHOP), Positioning(SHOP)
    for sighting in seen:
        together.observe(sighting)
        if sighting.shopper == "anna":
            alone.observe(sighting)
    now = START.plus(30_000)
    assert [belief for belief in together.beliefs(now) if belief.shopper == "anna"] == list(alone.beliefs(now))
