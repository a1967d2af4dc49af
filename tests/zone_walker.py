"""A technician in the simulated shop: walks to and fro in one zone, as `gateway zone walk` asks for."""

import random
from collections.abc import Callable

from gateway.core.model import Consent
from gateway.core.walks import Walk as RecordedWalk
from gateway.core.zone_model import RecordedSighting
from gateway.simulator.floor_plan import FloorPlan, Point
from gateway.simulator.store import StoreInABox
from gateway.simulator.walkers import Leg, Walk

START_MS = 1_789_398_000_000
_SPEED_M_S = 0.7


def to_and_fro(zone: str, seconds: float) -> Callable[[FloorPlan, random.Random, int], Walk]:
    """Straight ways between random places of the zone."""

    def walk(plan: FloorPlan, chance: random.Random, begins_ms: int) -> Walk:
        area = next(area for area in plan.areas if area.name == zone)
        xs, ys = [corner.x for corner in area.polygon], [corner.y for corner in area.polygon]

        def anywhere() -> Point:
            while True:
                place = Point(chance.uniform(min(xs), max(xs)), chance.uniform(min(ys), max(ys)))
                if area.contains(place) and area.border_distance(place) > 0.4:
                    return place

        legs: list[Leg] = []
        now_ms, here, end_ms = begins_ms, anywhere(), begins_ms + round(seconds * 1000)
        while now_ms < end_ms:
            there = anywhere()
            arrived_ms = now_ms + max(1, round(here.distance_to(there) / _SPEED_M_S * 1000))
            legs.append(Leg(now_ms, arrived_ms, here, there, chance.uniform(-3.1, 3.1)))
            now_ms, here = arrived_ms, there
        return Walk(legs)

    return walk


def store(plan: FloorPlan, zone: str, seconds: float, seed: int, *, start_wall_ms: int = START_MS) -> StoreInABox:
    """A shop with nobody in it but the technician; the shop itself is always the same."""
    return StoreInABox(
        plan,
        seed=seed,
        shop_seed=1,
        shoppers=1,
        strangers=0,
        start_wall_ms=start_wall_ms,
        store_number=4711,
        day_start_s=0,
        beacon_uuid=bytes(range(16)),
        arrivals_within_ms=1,
        walk=to_and_fro(zone, seconds),
        consent=Consent.OFFERS,
    )


def recorded(plan: FloorPlan, zone: str, *, seconds: float = 30, seed: int = 1, truly: str | None = None) -> RecordedWalk:
    """What the receivers hear of a walk through ``truly``, or the zone itself, with true places left out."""
    shop = store(plan, truly or zone, seconds, seed)
    heard = shop.advance(round(seconds * 1000))
    return RecordedWalk(
        zone,
        tuple(
            RecordedSighting(one.at_ms, zone, one.receiver, one.rssi_dbm, zone)
            for one in heard
            if shop.shopper_of(one) is not None
        ),
    )
