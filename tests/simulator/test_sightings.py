"""Recordings for whoever measures zones: in the neutral format, and true."""

import json

import pytest

from gateway.contract.recording import read_anchors, read_recording
from gateway.core.model import Consent
from gateway.simulator.floor_plan import Point
from gateway.simulator.plan_file import BUILT_IN, built_in_plan
from gateway.simulator.sightings import anchors_document, sighting_lines
from gateway.simulator.store import StoreInABox
from gateway.simulator.walkers import WALKS


def shop(*, seed: int = 1, shop_seed: int = 1, consent: Consent | None = Consent.OFFERS, shoppers: int = 2) -> StoreInABox:
    return StoreInABox(
        built_in_plan("demo-shop"),
        seed=seed,
        shop_seed=shop_seed,
        shoppers=shoppers,
        strangers=3,
        start_wall_ms=1_790_000_437_000,
        store_number=1,
        day_start_s=0,
        beacon_uuid=bytes(16),
        arrivals_within_ms=10_000,
        walk=WALKS["in-and-out"],
        consent=consent,
    )


def test_each_sighting_is_true_and_in_the_order_of_time() -> None:
    walked = shop()
    sightings = list(read_recording((line.encode() for line in sighting_lines(walked)), "walk.jsonl"))
    assert len(sightings) > 1000
    assert [sighting.t_ms for sighting in sightings] == sorted(sighting.t_ms for sighting in sightings)
    assert {sighting.shopper for sighting in sightings} == {shopper.name for shopper in walked.shoppers}
    assert {sighting.anchor for sighting in sightings} == {receiver.name for receiver in walked.plan.receivers}
    for sighting in sightings:
        assert sighting.source == "receiver"
        assert sighting.zone == walked.true_zone(sighting.shopper, sighting.t_ms)
        place = walked.true_place(sighting.shopper, sighting.t_ms)
        assert place is not None
        assert sighting.at_m is not None
        assert place.distance_to(Point(*sighting.at_m)) < 0.01


def test_who_did_not_consent_is_in_no_recording() -> None:
    mixed = shop(consent=None, shoppers=4)
    recorded = {json.loads(line)["shopper"] for line in sighting_lines(mixed)}
    assert recorded == {shopper.name for shopper in mixed.shoppers if shopper.enrolled} != set()
    assert len(recorded) == 3


def test_a_seed_gives_one_recording() -> None:
    first = list(sighting_lines(shop()))
    assert list(sighting_lines(shop())) == first
    assert list(sighting_lines(shop(seed=2))) != first


def test_another_shop_is_walked_in_the_same_way_and_sounds_different() -> None:
    here, there = shop(), shop(shop_seed=2)
    assert here.truth == there.truth
    assert list(sighting_lines(here)) != list(sighting_lines(there))


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_anchors_file_says_what_the_plan_says(name: str) -> None:
    plan = built_in_plan(name)
    known = read_anchors(json.dumps(anchors_document(plan)).encode(), "anchors.json")
    assert {anchor: (there.at_m, there.zone) for anchor, there in known.anchors.items()} == {
        anchor.name: (tuple(anchor.at), anchor.zone) for anchor in plan.anchors
    }
    for anchor in plan.anchors:
        assert known.zone_at((anchor.at.x, anchor.at.y)) == anchor.zone
