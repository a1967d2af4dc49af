"""What the receivers heard of the shoppers, with the truth beside it, in the neutral recording format.

JSON lines, one sighting each:
``{"t": seconds, "shopper": "…", "anchor": "…", "rssi": -71, "zone": "…" or null, "source": "receiver", "x": m, "y": m}``; the
anchors file beside it is ``{"anchors": {"name": {"x": m, "y": m, "zone": "…"}}, "zones": {"name": [[x, y], …]}}``.

Only receivers speak here. What apps tell of fixed beacons is in their tokens, as bytes, and reaches the pipeline with those.
"""

import json
from collections.abc import Iterator
from typing import Any

from gateway.simulator.floor_plan import FloorPlan
from gateway.simulator.store import StoreInABox

_STEP_MS = 1_000


def sighting_lines(shop: StoreInABox) -> Iterator[str]:
    """Every sighting of every shopper with the app until the last has left: JSON without a line's end, in the order of time."""
    last_ms = max((shopper.leaves_ms for shopper in shop.shoppers), default=0)
    while shop.now_ms < last_ms:
        for heard in shop.advance(min(last_ms, shop.now_ms + _STEP_MS)):
            shopper = shop.shopper_of(heard)
            if shopper is None or not shopper.enrolled:
                continue
            place = shop.true_place(shopper.name, heard.at_ms)
            assert place is not None
            sighting: dict[str, Any] = {
                "t": heard.at_ms / 1000,
                "shopper": shopper.name,
                "anchor": heard.receiver,
                "rssi": heard.rssi_dbm,
                "zone": shop.true_zone(shopper.name, heard.at_ms),
                "source": "receiver",
                "x": round(place.x, 2),
                "y": round(place.y, 2),
            }
            yield json.dumps(sighting, ensure_ascii=False)


def anchors_document(plan: FloorPlan) -> dict[str, Any]:
    """The anchors file of a plan: where its radios stand, and its zones."""
    return {
        "anchors": {anchor.name: {"x": anchor.at.x, "y": anchor.at.y, "zone": anchor.zone} for anchor in plan.anchors},
        "zones": {area.name: [[corner.x, corner.y] for corner in area.polygon] for area in plan.areas},
    }
