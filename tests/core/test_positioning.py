"""Positioning: levels become probabilities, noise is damped, what was told never outweighs what was heard.

The same for every kind of shop: nothing known but the anchors' zones, positions, a learned model, and mixtures.
"""

import math
import random
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.calibration import learn
from gateway.core.model import Anchor, Belief, Instant, Shop, Sighting, Zone
from gateway.core.positioning import USUAL_ENTER_DBM, Positioning, ground_of, plan_of
from gateway.core.zone_model import ZoneModel
from tests.core import walked_shop
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


def see(positioning: Positioning, sighting: Sighting) -> None:
    positioning.observe(sighting.shopper, sighting.anchor, sighting.rssi_dbm, sighting.at, sighting.source)


def belief_of(positioning: Positioning, *sightings: Sighting, after_ms: int | None = None) -> Belief:
    """The belief about the one shopper of these sightings, at the time of the last unless said otherwise.

    Of an anchor that the shop does not have nothing comes.
    """
    for sighting in sightings:
        see(positioning, sighting)
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
            [heard("r-dairy", -90), heard("r-dairy-2", -60), heard("r-wine", -66)],
            "dairy",
            id="a zone's far anchor takes little from it",
        ),
        pytest.param([told("b-wine", -62)], "wine", id="a hint, where no receiver is"),
        pytest.param([heard("r-nowhere", -40), told("b-wine", -62)], "wine", id="a hint beside a receiver without a zone"),
        pytest.param([heard("r-dairy", -50), told("b-wine", -62)], "dairy", id="a hint against a loud receiver"),
    ],
)
def test_the_likeliest_zone(sightings: list[Sighting], best: str | None) -> None:
    belief = belief_of(Positioning(SHOP), *sightings)
    likeliest = max({**belief.zones, "": belief.outside}.items(), key=lambda item: item[1])[0]
    assert (likeliest or None) == best


def test_at_the_enter_level_zone_and_outside_are_equally_likely() -> None:
    assert belief_of(Positioning(SHOP), heard("r-dairy", USUAL_ENTER_DBM)).zones["dairy"] == pytest.approx(0.5)
    set_here = Shop(SHOP.zones | {"dairy": Zone("dairy", enter_dbm=-70)}, SHOP.anchors)
    belief = belief_of(Positioning(set_here), heard("r-dairy", -70))
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
    see(positioning, heard("r-dairy", rssi_dbm))
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


def test_most_of_a_step_of_nine_decibels_is_followed_within_five_seconds() -> None:
    positioning = Positioning(SHOP)
    steps = [heard("r-dairy", -70, ms) for ms in range(0, 5000, 250)] + [
        heard("r-dairy", -61, ms) for ms in range(5000, 10_000, 250)
    ]
    assert belief_of(positioning, *steps).anchors[0].level_dbm == pytest.approx(-61, abs=1.5)


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
        see(positioning, heard("r-dairy", -60, after_ms, shopper))
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
    see(positioning, heard("r-dairy", -60, 100))
    positioning.forget("anna")
    positioning.forget("nobody")
    assert list(positioning.beliefs(START.plus(200))) == []
    assert entries_held_by(positioning) == empty


def test_a_new_shop_forgets_anchors_that_are_gone() -> None:
    positioning = Positioning(SHOP)
    belief_of(positioning, heard("r-dairy", -60), heard("r-wine", -62))
    kept = {name: anchor for name, anchor in SHOP.anchors.items() if name != "r-dairy"}
    see(positioning, heard("r-dairy", -60, 100))
    smaller = Shop(SHOP.zones, kept)
    positioning.use(smaller, ground_of(smaller))
    belief = belief_of(positioning, heard("r-wine", -62, 200))
    assert set(belief.zones) == {"wine"}


def test_a_day_of_passers_by_leaves_nothing_behind() -> None:
    positioning = Positioning(SHOP)
    empty = entries_held_by(positioning)
    for number in range(3000):
        see(positioning, heard("r-dairy", -60, 1000 * number, f"shopper {number}"))
        list(positioning.beliefs(START.plus(1000 * number)))
        assert entries_held_by(positioning) <= empty + 40 if number % 500 == 0 else True
    list(positioning.beliefs(START.plus(4_000_000)))
    assert entries_held_by(positioning) == empty


def test_a_flood_from_one_phone_takes_no_more_memory_than_one_sighting() -> None:
    positioning = Positioning(SHOP)
    see(positioning, heard("r-dairy", -60))
    one = entries_held_by(positioning)
    for number in range(10_000):
        see(positioning, heard("r-dairy", -60, number // 10))
    assert entries_held_by(positioning) == one
    see(positioning, heard("r-dairy", -60, 1, "zoe"))
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
        see(positioning, sighting)
        if number % 5 == 4:
            for belief in positioning.beliefs(START.plus(1000 * number)):
                assert all(0 <= p <= 1 for p in (*belief.zones.values(), belief.outside))
                assert sum(belief.zones.values()) + belief.outside == pytest.approx(1)
                assert belief.zones.keys() <= SHOP.zones.keys()


@given(st.lists(sightings, max_size=40))
def test_shoppers_do_not_influence_one_another(seen: list[Sighting]) -> None:
    together, alone = Positioning(SHOP), Positioning(SHOP)
    for sighting in seen:
        see(together, sighting)
        if sighting.shopper == "anna":
            see(alone, sighting)
    now = START.plus(30_000)
    assert [belief for belief in together.beliefs(now) if belief.shopper == "anna"] == list(alone.beliefs(now))


# ---- a floor ------------------------------------------------------------------------------------------------------------------

NEIGHBOURS = {walked_shop.WEST: frozenset({walked_shop.EAST}), walked_shop.EAST: frozenset({walked_shop.WEST})}
DRAWN = Shop(
    zones={name: Zone(name, neighbours=NEIGHBOURS[name], polygon=outline) for name, outline in walked_shop.OUTLINES.items()},
    anchors={name: Anchor(name, "receiver", walked_shop.zone_at(at), at_m=at) for name, at in walked_shop.ANCHORS.items()},
)
UNDRAWN = Shop({name: Zone(name) for name in DRAWN.zones}, DRAWN.anchors)
BARE = Shop(UNDRAWN.zones, {name: replace(anchor, at_m=None) for name, anchor in DRAWN.anchors.items()})


def learned(shop: Shop = DRAWN) -> ZoneModel:
    """From a walk through both rooms, with positions."""
    return learn(walked_shop.survey(), plan_of(shop))


LEARNED = learned()


def stand(positioning: Positioning, place: tuple[float, float], seconds: int = 20, shopper: str = "anna") -> Belief:
    """Somebody stands at a place for a while; the last belief."""
    rng = random.Random(5)
    belief = None
    for ms in range(0, seconds * 1000, 200):
        for anchor in walked_shop.ANCHORS:
            level = walked_shop.level_dbm(anchor, place) + rng.gauss(0, 3)
            positioning.observe(shopper, anchor, level, START.plus(ms), "receiver")
        (belief,) = positioning.beliefs(START.plus(ms))
    assert belief is not None
    return belief


@pytest.mark.parametrize(
    ("shop", "model", "kind"),
    [
        pytest.param(DRAWN, LEARNED, "model", id="walked"),
        pytest.param(DRAWN, None, "positions", id="drawn, not walked"),
        pytest.param(UNDRAWN, None, "positions", id="positions without outlines"),
        pytest.param(BARE, None, "anchors", id="nothing but which anchor is where"),
    ],
)
@pytest.mark.parametrize("place", [(2.0, 2.0), (3.0, 6.0), (9.5, 2.5), (10.0, 6.5)])
def test_the_same_face_for_every_kind_of_shop(shop: Shop, model: ZoneModel | None, kind: str, place: tuple[float, float]) -> None:
    positioning = Positioning(shop, model)
    assert (positioning.ground.kind, positioning.ground.trouble) == (kind, None)
    belief = stand(positioning, place)
    assert belief.zones[walked_shop.zone_at(place)] > 0.6
    assert sum(belief.zones.values()) + belief.outside == pytest.approx(1)
    assert len(belief.anchors) == 4


def without(things: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: thing for key, thing in things.items() if key != name}


def with_anchor(anchor: Anchor) -> Shop:
    return Shop(DRAWN.zones, DRAWN.anchors | {anchor.name: anchor})


@pytest.mark.parametrize(
    ("shop", "kind", "words"),
    [
        pytest.param(Shop(DRAWN.zones, without(DRAWN.anchors, "sw")), "positions", "has sw", id="anchor gone"),
        pytest.param(
            Shop(without(BARE.zones, walked_shop.EAST), {name: replace(a, zone=None) for name, a in BARE.anchors.items()}),
            "anchors",
            "has the zone dairy",
            id="zone gone",
        ),
        pytest.param(with_anchor(replace(DRAWN.anchors["sw"], at_m=(5.0, 0.5))), "positions", "sw has been moved", id="moved"),
        pytest.param(Shop(DRAWN.zones | {"office": Zone("office")}, DRAWN.anchors), "model", "not know office", id="zone new"),
        pytest.param(with_anchor(Anchor("new", "receiver", walked_shop.EAST)), "model", "the receiver new", id="receiver new"),
    ],
)
def test_a_learned_model_that_does_not_fit_is_told_of_and_the_rest_goes_on(shop: Shop, kind: str, words: str) -> None:
    positioning = Positioning(shop, LEARNED)
    assert positioning.ground.kind == kind
    assert words in (positioning.ground.trouble or "")
    assert stand(positioning, (2.0, 2.0)).at == START.plus(19_800)


def test_a_zone_that_is_not_on_the_floor_is_compared_with_it() -> None:
    """A mixture: two rooms are drawn, of the cellar only its receiver is known."""
    shop = Shop(DRAWN.zones | {"cellar": Zone("cellar")}, DRAWN.anchors | {"deep": Anchor("deep", "receiver", "cellar")})
    above, below = Positioning(shop), Positioning(shop)
    above.observe("anna", "deep", -92, START, "receiver")
    assert max(stand(above, (2.0, 2.0)).zones.items(), key=lambda item: item[1])[0] == walked_shop.WEST
    for ms in range(0, 5000, 200):
        below.observe("anna", "deep", -55, START.plus(ms), "receiver")
        below.observe("anna", "sw", -93, START.plus(ms), "receiver")
        beliefs = list(below.beliefs(START.plus(ms)))
        assert len(beliefs) == 1
        assert beliefs[0].zones["cellar"] > (0.9 if ms >= 2000 else 0.5)


@pytest.mark.parametrize("at_m", [None, (9.0, 4.0)], ids=["its place is unknown", "its place is known"])
def test_a_hint_on_a_floor_weighs_at_most_one_half(at_m: tuple[float, float] | None) -> None:
    shop = Shop(DRAWN.zones, DRAWN.anchors | {"b": Anchor("b", "beacon", walked_shop.EAST, at_m=at_m)})
    positioning = Positioning(shop)
    stand(positioning, (2.0, 4.0))
    positioning.observe("anna", "b", -45, START.plus(20_000), "hint")
    positioning.observe("anna", "sw", walked_shop.level_dbm("sw", (2.0, 4.0)), START.plus(20_000), "receiver")
    (belief,) = positioning.beliefs(START.plus(20_000))
    assert belief.zones.get(walked_shop.EAST, 0.0) <= 0.55
    assert belief.zones[walked_shop.WEST] >= 0.4


def test_a_level_that_was_set_for_a_zone_counts_on_a_floor() -> None:
    """Who hears less than was set speaks for outside, as in a shop without positions."""
    strict = {name: replace(zone, enter_dbm=-40.0) for name, zone in DRAWN.zones.items()}
    assert stand(Positioning(Shop(strict, DRAWN.anchors)), (3.0, 4.0)).outside > 0.9
    assert stand(Positioning(DRAWN), (3.0, 4.0)).outside < 0.2


def test_a_change_of_the_shop_that_leaves_the_floor_alone_forgets_nobody() -> None:
    positioning = Positioning(DRAWN)
    stand(positioning, (2.0, 2.0))
    tagged = Shop(DRAWN.zones | {walked_shop.WEST: replace(DRAWN.zones[walked_shop.WEST], title="Bread")}, DRAWN.anchors)
    positioning.use(tagged, ground_of(tagged))
    positioning.observe("anna", "se", -75, START.plus(20_000), "receiver")
    (belief,) = positioning.beliefs(START.plus(20_200))
    assert belief.zones[walked_shop.WEST] > 0.6


def test_a_crowd_on_a_floor_is_located_within_a_second() -> None:
    """Not all in one tick, which would keep everything else waiting; but each within five."""
    positioning = Positioning(DRAWN)
    located: dict[str, int] = {}
    for tick in range(10):
        for number in range(900):
            positioning.observe(f"shopper {number}", "sw", -60, START.plus(200 * tick), "receiver")
        beliefs = list(positioning.beliefs(START.plus(200 * tick)))
        assert len(beliefs) <= 300
        for belief in beliefs:
            assert tick - located.get(belief.shopper, 0) <= 5
            located[belief.shopper] = tick
    assert len(located) == 900


def test_a_floor_forgets_like_the_rest() -> None:
    positioning = Positioning(DRAWN)
    positioning.observe("anna", "sw", -60, START, "receiver")
    list(positioning.beliefs(START))
    positioning.observe("anna", "sw", -60, START.plus(100), "receiver")
    positioning.forget("anna")
    assert list(positioning.beliefs(START.plus(200))) == []
    assert not positioning.follows("anna")


def test_numpy_is_loaded_for_a_floor_only() -> None:
    """What a small shop does not need costs it no memory."""
    program = """
import sys
from gateway.core.model import Anchor, Instant, Shop, Zone
from gateway.core.positioning import Positioning
shop = Shop({"a": Zone("a")}, {"r": Anchor("r", "receiver", "a")})
positioning = Positioning(shop)
positioning.observe("anna", "r", -60, Instant(0, 0), "receiver")
print(len(list(positioning.beliefs(Instant(0, 0)))), "numpy" in sys.modules)
places = {f"r{n}": Anchor(f"r{n}", "receiver", "a", at_m=(n, n * n)) for n in range(3)}
Positioning(Shop(shop.zones, places))
print("numpy" in sys.modules)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout.split() == ["1", "False", "True"]


# ---- calm ---------------------------------------------------------------------------------------------------------------------

TICK_MS = 200


def ticks(positioning: Positioning, script: list[tuple[str, float]], *, settles: bool) -> list[Belief | None]:
    """A tick each 200 ms with at most one sighting before it; the belief that came of each."""
    found: list[Belief | None] = []
    for number, (anchor, rssi_dbm) in enumerate(script, 1):
        if anchor:
            see(positioning, heard(anchor, rssi_dbm, number * TICK_MS - 1))
        came = None
        for belief in positioning.beliefs(START.plus(number * TICK_MS)):
            assert came is None, "one a tick"
            came = replace(belief)
            belief.is_settled = settles and max(belief.zones.values(), default=0.0) > 0.5
        found.append(came)
    return found


def likeliest(belief: Belief) -> str | None:
    return max([(belief.outside, ""), *((p, zone) for zone, p in belief.zones.items())])[1] or None


standing = st.lists(
    st.tuples(st.sampled_from(["r-dairy", "r-dairy", "r-dairy", "r-dairy-2", "r-wine", "r-entrance", ""]), st.integers(-80, -50)),
    max_size=80,
).map(lambda script: [(anchor, rssi_dbm - (0 if anchor.startswith("r-dairy") else 15)) for anchor, rssi_dbm in script])
anything = st.lists(st.tuples(st.sampled_from([*SHOP.anchors, "", ""]), st.integers(-100, -40)), max_size=120)


@given(
    st.one_of(standing, anything, st.tuples(standing, anything, standing).map(lambda parts: [*parts[0], *parts[1], *parts[2]]))
)
def test_a_calm_belief_says_what_computing_it_would_say(script: list[tuple[str, float]]) -> None:
    calm, eager = (ticks(Positioning(SHOP), script, settles=settles) for settles in (True, False))
    last: Belief | None = None
    for now_calm, now_eager in zip(calm, eager, strict=True):
        last = now_calm or last
        if now_eager is not None:
            assert last is not None
            assert likeliest(last) == likeliest(now_eager)
            assert now_eager.at.mono_ms - last.at.mono_ms < 1_000


def test_who_stands_still_is_computed_seldom_and_told_once_a_second() -> None:
    script = [("r-dairy", -60.0 - number % 3) for number in range(25)]
    came = ticks(Positioning(SHOP), script, settles=True)
    assert [number for number, belief in enumerate(came) if belief is not None] == [0, 5, 10, 15, 20]
    repeated = came[20]
    assert repeated is not None
    assert (repeated.at, repeated.heard_at) == (START.plus(21 * TICK_MS), START.plus(21 * TICK_MS - 1))


@pytest.mark.parametrize(
    "sighting",
    [
        pytest.param(heard("r-wine", -45, 1_399), id="loud elsewhere"),
        pytest.param(heard("r-dairy", -100, 1_399), id="fainter in the zone"),
        pytest.param(told("b-wine", -60, 1_399), id="the phone says something"),
    ],
)
def test_what_may_change_the_belief_ends_the_calm_at_once(sighting: Sighting) -> None:
    positioning = Positioning(SHOP)
    ticks(positioning, [("r-dairy", -60), ("r-wine", -70), *[("r-dairy", -60)] * 4], settles=True)
    see(positioning, sighting)
    assert positioning.has_pending
    (belief,) = positioning.beliefs(START.plus(1_400))
    assert belief.heard_at == sighting.at


def test_whoever_was_silent_for_some_seconds_is_computed_anew() -> None:
    positioning = Positioning(SHOP)
    ticks(positioning, [("r-dairy", -60)] * 3, settles=True)
    see(positioning, heard("r-dairy", -60, 4_000))
    assert positioning.has_pending
