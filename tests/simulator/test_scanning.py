"""Receivers in time: deaf for a moment every 10.4 s, now and then for seconds, and colliding advertisements are lost."""

import random
from itertools import pairwise

import pytest

from gateway.simulator.radio import Heard
from gateway.simulator.scanning import Scan, Scanner, without_collisions

HOUR_MS = 3_600_000


def silences(scan: Scan, seed: int = 1) -> list[int]:
    """Lengths of the times in which nothing is heard, milliseconds."""
    scanner = Scanner(scan, random.Random(seed))
    hearing = [at_ms for at_ms in range(0, HOUR_MS, 10) if scanner.hears(at_ms)]
    return [later - earlier for earlier, later in pairwise(hearing) if later - earlier > 10]


def test_a_scan_begins_anew_every_ten_seconds_and_is_deaf_meanwhile() -> None:
    regular = silences(Scan(stall_share=0.0))
    assert len(regular) == pytest.approx(HOUR_MS / 10_400, abs=1)
    assert all(abs(length_ms - 160) <= 10 for length_ms in regular)


def test_now_and_then_it_stalls_for_up_to_five_seconds() -> None:
    stalls = [length_ms for length_ms in silences(Scan()) if length_ms > 200]
    assert 3 <= len(stalls) <= 25
    assert all(1_000 <= length_ms <= 5_010 for length_ms in stalls)


def heard(sender: int, receiver: str, rssi_dbm: int, at_ms: int) -> Heard:
    return Heard(receiver, "00:00:00:00:00:00", rssi_dbm, b"", at_ms, sender)


@pytest.mark.parametrize(
    ("on_the_air", "survive"),
    [
        pytest.param([(1, "a", -60, 5), (1, "b", -60, 5)], [0, 1], id="one sender, two receivers"),
        pytest.param([(1, "a", -60, 5), (2, "a", -60, 6)], [0, 1], id="one after the other"),
        pytest.param([(1, "a", -60, 5), (2, "a", -63, 5)], [], id="about as loud"),
        pytest.param([(1, "a", -60, 5), (2, "a", -66, 5)], [0], id="the louder survives"),
        pytest.param([(1, "a", -70, 5), (2, "a", -60, 5), (3, "a", -75, 5)], [1], id="the loudest of three"),
        pytest.param([(1, "a", -60, 5), (2, "b", -60, 5)], [0, 1], id="not at the same receiver"),
        pytest.param([], [], id="silence"),
    ],
)
def test_what_begins_together_collides(on_the_air: list[tuple[int, str, int, int]], survive: list[int]) -> None:
    advertisements = [heard(*values) for values in on_the_air]
    left = list(without_collisions(advertisements, 6.0))
    assert [advertisements.index(one) for one in left] == survive


def test_of_two_hundred_busy_devices_one_receiver_hears_five_or_six_hundred_advertisements_a_second() -> None:
    """As a Monte Carlo simulation of a crowd has it: 200 devices at 100 ms, 2,000 advertisements/s on the air."""
    rng = random.Random(1)
    levels = [round(rng.gauss(-75, 8)) for _ in range(200)]
    on_the_air = []
    for sender, level in enumerate(levels):
        at_ms = rng.randrange(100)
        while at_ms < 10_000:
            on_the_air.append(heard(sender, "a", level, at_ms))
            at_ms += 100 + rng.randrange(11)
    on_the_air.sort(key=lambda one: one.at_ms)
    assert 450 <= len(list(without_collisions(on_the_air, 6.0))) / 10 <= 900
