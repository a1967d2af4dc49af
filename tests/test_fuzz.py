"""The short form of `scripts/fuzz`: no bytes from outside raise anything but an error of ours."""

from dataclasses import replace
from itertools import islice

import pytest

from tests import fuzz


@pytest.mark.parametrize("target", fuzz.TARGETS.values(), ids=fuzz.TARGETS)
def test_no_input_raises(target: fuzz.Target) -> None:
    fuzz.run(target, seed=1, count=3_000)


def test_the_same_seed_gives_the_same_inputs() -> None:
    target = fuzz.TARGETS["advertisement"]
    first, again, other = (list(fuzz.inputs(target, seed, 200)) for seed in (7, 7, 8))
    assert first == again != other
    assert len(first) == 200


def test_most_inputs_differ_and_seeds_come_first() -> None:
    target = fuzz.TARGETS["advertisement"]
    seeds = fuzz.seeds_of(target)
    assert list(islice(fuzz.inputs(target, 1, 1000), len(seeds))) == seeds
    assert len(set(fuzz.inputs(target, 1, 1000))) > 800


def test_what_raises_is_reported_with_its_octets() -> None:
    def careless(data: bytes) -> int:
        return data[5]

    target = replace(fuzz.TARGETS["ibeacon"], make=lambda: careless)
    with pytest.raises(fuzz.Broken, match="its octets"):
        fuzz.run(target, seed=1, count=1000)
