"""`gateway simulate`: people walk through a simulated shop, and what its receivers hear is recorded with the truth beside it."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.core.model import Consent
from gateway.errors import ConfigurationError
from gateway.io.whole_file import write_whole
from gateway.simulator.bodies import Carriage
from gateway.simulator.plan_file import read_plan
from gateway.simulator.sightings import anchors_document, sighting_lines
from gateway.simulator.store import StoreInABox
from gateway.simulator.walkers import WALKS

_START_MS = 1_789_398_000_000
"""The recording has seconds since its beginning; phones need a wall clock for their tokens, and any will do."""
_BEACON_UUID = bytes(range(16))


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    plan: str
    walk: str
    shoppers: int
    strangers: int
    seed: int
    shop_seed: int
    arrivals_s: int
    carriage: Carriage | None
    out: Path
    anchors: Path | None
    as_json: bool


def run_simulation(options: Options) -> None:
    """Walk, write the recording and the anchors file, and say how much it is."""
    plan = read_plan(options.plan)
    try:
        shop = StoreInABox(
            plan,
            seed=options.seed,
            shop_seed=options.shop_seed,
            shoppers=options.shoppers,
            strangers=options.strangers,
            start_wall_ms=_START_MS,
            store_number=1,
            day_start_s=0,
            beacon_uuid=_BEACON_UUID,
            arrivals_within_ms=options.arrivals_s * 1000,
            walk=WALKS[options.walk],
            consent=Consent.OFFERS | Consent.ANALYTICS,
            carriage=options.carriage,
        )
    except ValueError as error:
        raise ConfigurationError(
            f"nobody can walk like {options.walk} here: {error}.", where=options.plan, do="Choose another --walk or plan."
        ) from error
    sightings = _write(options.out, sighting_lines(shop))
    if options.anchors is not None:
        _write(options.anchors, [json.dumps(anchors_document(plan), indent=2)])
    seconds = shop.now_ms / 1000
    if options.as_json:
        summary = {
            "recording": str(options.out),
            "anchors": None if options.anchors is None else str(options.anchors),
            "sightings": sightings,
            "shoppers": options.shoppers,
            "stays": len(shop.truth),
            "duration_s": seconds,
        }
        print(json.dumps(summary))
        return
    stays = len(shop.truth)
    print(f"{options.out}: {seconds:.0f} s, shoppers: {options.shoppers}, stays in a zone: {stays}, sightings: {sightings}.")


def _write(path: Path, lines: Iterable[str]) -> int:
    """So many lines; the file is there when it is whole. ``DiskError`` when it cannot be written."""
    written = 0

    def counted() -> Iterator[str]:
        nonlocal written
        for line in lines:
            yield f"{line}\n"
            written += 1

    write_whole(path, counted(), do="Choose another place.")
    return written
