"""A shop of two rooms, 12 m × 8 m, with an anchor in each corner, and how loud a phone is in it: positioning's scene."""

import math
import random
from collections.abc import Callable, Iterator

from gateway.core.zone_model import KnownAnchor, Point, RecordedSighting, ShopPlan

WEST, EAST = "bakery", "dairy"
ANCHORS = {"sw": (0.5, 0.5), "nw": (0.5, 7.5), "se": (11.5, 0.5), "ne": (11.5, 7.5)}
OUTLINES = {
    WEST: ((0.0, 0.0), (6.0, 0.0), (6.0, 8.0), (0.0, 8.0)),
    EAST: ((6.0, 0.0), (12.0, 0.0), (12.0, 8.0), (6.0, 8.0)),
}
PLAN = ShopPlan({name: KnownAnchor(at, WEST if at[0] < 6 else EAST) for name, at in ANCHORS.items()}, OUTLINES)
EVERY_MS = 400


def zone_at(place: Point) -> str:
    """The true zone."""
    return WEST if place[0] < 6 else EAST


def level_dbm(anchor: str, place: Point) -> float:
    """What the anchor hears, without noise."""
    x, y = ANCHORS[anchor]
    return -61.0 - 20.0 * math.log10(max(0.5, math.hypot(place[0] - x, place[1] - y)))


def recorded(
    where: Callable[[float], Point],
    seconds: float,
    *,
    noise_db: float = 4.0,
    gain_db: float = 0.0,
    silent: frozenset[str] = frozenset(),
    gap_s: tuple[float, float] = (0.0, 0.0),
    shopper: str = "anna",
    seed: int = 1,
) -> Iterator[RecordedSighting]:
    """A phone on its way: ``where`` tells the place at a second."""
    chance = random.Random(seed)
    for t_ms in range(0, round(seconds * 1000), EVERY_MS):
        place = where(t_ms / 1000)
        for number, name in enumerate(ANCHORS):
            rssi_dbm = level_dbm(name, place) + gain_db + chance.gauss(0.0, noise_db)
            if name not in silent and not gap_s[0] <= t_ms / 1000 < gap_s[1]:
                yield RecordedSighting(1_000_000 + t_ms + number, shopper, name, min(-1.0, rssi_dbm), zone_at(place), place)


def standing(x: float, y: float) -> Callable[[float], Point]:
    """Always there."""
    return lambda _: (x, y)


def crossing(second: float) -> Point:
    """From the west to the east at a stroll, over the border at second 20."""
    return min(10.0, max(2.0, 6.0 + 0.8 * (second - 20.0))), 4.0


def survey(seconds: float = 6.0) -> list[RecordedSighting]:
    """Standing for some seconds on each knot of a net 2 m wide."""
    knots = [(x, y) for x in (1.0, 3.0, 5.0, 7.0, 9.0, 11.0) for y in (1.0, 3.0, 5.0, 7.0)]
    return [
        sighting
        for number, (x, y) in enumerate(knots)
        for sighting in recorded(standing(x, y), seconds, shopper=f"point{number}", seed=number)
    ]
