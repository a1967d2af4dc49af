"""Bodies: as deep as was measured, and the tables are those that the recordings give."""

import math
import os
import random
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.simulator.bodies import REFLECTED_DB, SHADOW_DB, Carriage, Carrying, draw_carrying
from gateway.simulator.radio import Propagation

SCRIPT = Path(__file__).parents[2] / "scripts" / "lib" / "body_model.py"
RECORDINGS = Path(os.environ.get("GATEWAY_REAL_DATA", "/nonexistent")) / "mitll_body_rssi" / "rssi.csv.gz"

people = st.builds(
    Carrying,
    carriage=st.sampled_from(sorted(SHADOW_DB)),
    height_m=st.just(1.0),
    is_mirrored=st.booleans(),
    reflected_db=st.sampled_from(REFLECTED_DB),
)


@given(people, st.floats(-20, 20), st.floats(0, 1))
def test_a_body_takes_something_and_at_most_the_depth_that_was_measured(who: Carrying, angle: float, across: float) -> None:
    assert -1e-9 <= who.loss_db(angle, across) <= max(SHADOW_DB[who.carriage]) + 1e-9


@given(people, st.floats(-20, 20))
def test_from_straight_above_no_body_is_in_between(who: Carrying, angle: float) -> None:
    assert who.loss_db(angle, 0.0) == pytest.approx(0)


@given(people, st.floats(-3, 3))
def test_the_other_side_of_the_body_is_the_mirror_image(who: Carrying, angle: float) -> None:
    other = Carrying(who.carriage, who.height_m, not who.is_mirrored, who.reflected_db)
    assert other.loss_db(-angle, 1.0) == pytest.approx(who.loss_db(angle, 1.0))


def test_reflections_go_round_the_body() -> None:
    chamber, room, screened = (Carrying("back pocket", 1.0, False, reflected_db).depth_db for reflected_db in (60, 11.5, 6))
    assert chamber == pytest.approx(max(SHADOW_DB["back pocket"]), abs=0.1)
    assert 8 <= room <= 16
    assert 5 <= screened <= 9


def test_people_as_they_come_shade_as_in_rooms_and_carry_phones_in_every_way() -> None:
    rng = random.Random(1)
    crowd = [draw_carrying(rng) for _ in range(1000)]
    assert {who.carriage for who in crowd} == set(SHADOW_DB)
    assert {who.is_mirrored for who in crowd} == {True, False}
    depths = [who.depth_db for who in crowd]
    assert 3 <= min(depths) < 6
    assert 14 < max(depths) <= 24
    assert statistics.quantiles(depths, n=10)[-1] - statistics.quantiles(depths, n=10)[0] > 5


@pytest.mark.parametrize(
    ("carriage", "loudest"), [("back pocket", math.pi), ("pocket", 0.0), ("purse", 0.0), ("ear", 0.0), ("hand", 0.0)]
)
def test_a_phone_is_loudest_on_the_side_where_it_is(carriage: Carriage, loudest: float) -> None:
    who = Carrying(carriage, 1.0, False, 20)
    half = [step * math.pi / 16 - math.pi / 2 for step in range(17)]
    near = statistics.fmean(who.loss_db(loudest + angle, 1.0) for angle in half)
    far = statistics.fmean(who.loss_db(loudest + math.pi + angle, 1.0) for angle in half)
    assert near + 1 < far


@pytest.mark.slow
@pytest.mark.skipif(
    not RECORDINGS.is_file(), reason="GATEWAY_REAL_DATA names no folder with mitll_body_rssi/ (phones on a person who turns)"
)
def test_the_tables_are_what_the_recordings_give() -> None:
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for carriage, shadow in SHADOW_DB.items():
        if carriage != "hand":
            told = re.search(rf"^  {carriage} +((?:\d+\.\d *)+)$", done.stdout, re.MULTILINE)
            assert told is not None
            assert tuple(map(float, told[1].split())) == shadow
    air = Propagation()
    assert f"one channel has {air.noise_db:.1f} dB from packet to packet and wanders by {air.sway_db:.1f} dB" in done.stdout
    assert f"channels of one spot differ by {air.spot_db:.1f} dB" in done.stdout
    one_by_one = re.findall(r"reflections \S+ dB below \((.+)\)", done.stdout)
    assert sorted(float(each) for room in one_by_one for each in re.findall(r"\d+\.\d", room)) == list(REFLECTED_DB)


def test_without_the_recordings_it_says_where_they_are_wanted() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT],
        capture_output=True,
        text=True,
        env={**os.environ, "GATEWAY_REAL_DATA": "/nonexistent"},
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout) == (69, "")
    assert "GATEWAY_REAL_DATA" in done.stderr
