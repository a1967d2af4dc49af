"""One token at two places: nobody who walks is suspected, whoever repeats a token is."""

from collections.abc import Iterator

import pytest

from gateway.core.conflicts import LOUD_DBM, Conflicts
from gateway.simulator.plan_file import built_in_plan
from gateway.simulator.radio import Heard
from gateway.simulator.store import StoreInABox

_RUN_MS = 60_000
_START_MS = 1_790_000_437_000


def opened(seed: int) -> StoreInABox:
    """The demonstration's shop, without strangers."""
    return StoreInABox(
        built_in_plan("demo-shop"),
        seed=seed,
        shoppers=6,
        strangers=0,
        start_wall_ms=_START_MS,
        store_number=4711,
        day_start_s=0,
        beacon_uuid=bytes(16),
        arrivals_within_ms=_RUN_MS,
    )


def heard_of_shoppers(shop: StoreInABox) -> Iterator[tuple[str, Heard]]:
    """Shopper and packet, in the order of time."""
    for now_ms in range(200, _RUN_MS + 1, 200):
        for heard in shop.advance(now_ms):
            shopper = shop.shopper_of(heard)
            if shopper is not None:
                yield shopper.name, heard


@pytest.mark.parametrize("seed", [1, 2])
def test_nobody_who_walks_through_the_shop_is_suspected(seed: int) -> None:
    shop = opened(seed)
    conflicts = Conflicts(shop.shop)
    loud = [(name, heard) for name, heard in heard_of_shoppers(shop) if heard.rssi_dbm > LOUD_DBM]
    assert loud
    assert not any(conflicts.loud(name, heard.receiver, heard.at_ms) for name, heard in loud)


def test_whoever_repeats_a_token_far_away_is_caught() -> None:
    """The attacker stands beside a receiver at the other end and sends what was sent 30 ms ago."""
    shop = opened(1)
    zones, conflicts = shop.shop.zones, Conflicts(shop.shop)
    receivers = [anchor for anchor in shop.shop.anchors.values() if anchor.kind == "receiver"]
    caught: set[str] = set()
    seen: set[str] = set()
    for name, heard in heard_of_shoppers(shop):
        here = shop.shop.anchors[heard.receiver].zone
        far = next((a for a in receivers if a.zone != here and a.zone not in (zones[here or ""].neighbours or ())), None)
        if heard.rssi_dbm > LOUD_DBM and far is not None:
            seen.add(name)
            begins = conflicts.loud(name, heard.receiver, heard.at_ms), conflicts.loud(name, far.name, heard.at_ms + 30)
            caught.update({name} if any(begins) else ())
    assert seen
    assert caught == seen
