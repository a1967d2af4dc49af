"""How much faster than real time the simulated shop runs."""

import time

from bench.figures import Effort, Figure, median
from gateway.core.model import Consent
from gateway.simulator.plan_file import built_in_plan
from gateway.simulator.store import StoreInABox
from gateway.simulator.walkers import WALKS

_WALKERS = 50
_STRANGERS = 40
_SECONDS = 100
_STEP_MS = 200


def measure(effort: Effort) -> list[Figure]:
    """The supermarket: everybody is in it all the time."""
    alone, crowded = [], []
    for seed in range(max(1, effort.rounds // 2)):
        alone.append(_times_real_time(seed, strangers=0))
        crowded.append(_times_real_time(seed, strangers=_STRANGERS))
    shop = f"simulated seconds per second of CPU time, supermarket with 20 zones and 12 receivers, {_WALKERS} people with the app"
    return [
        Figure("simulator_times_real_time", "×", median(alone), 20, "higher", means=shop),
        Figure(
            "simulator_with_strangers_times_real_time",
            "×",
            median(crowded),
            None,
            "higher",
            means=f"the same with {_STRANGERS} other devices",
        ),
    ]


def _times_real_time(seed: int, *, strangers: int) -> float:
    shop = StoreInABox(
        built_in_plan("supermarket"),
        seed=seed,
        shoppers=_WALKERS,
        strangers=strangers,
        start_wall_ms=1_790_000_437_000,
        store_number=1,
        day_start_s=0,
        beacon_uuid=bytes(16),
        arrivals_within_ms=1000,
        walk=WALKS["normal"],
        consent=Consent.OFFERS,
    )
    shop.advance(1000)
    began = time.process_time()
    for until_ms in range(1000 + _STEP_MS, 1000 + _SECONDS * 1000 + 1, _STEP_MS):
        shop.advance(until_ms)
    took_s = time.process_time() - began
    assert min(shopper.leaves_ms for shopper in shop.shoppers) > 1000 + _SECONDS * 1000
    return _SECONDS / took_s
