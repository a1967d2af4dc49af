"""`gateway simulate`: people walk through a simulated shop, and what its receivers hear is recorded with the truth beside it."""

import contextlib
import json
import signal
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from gateway.cli.outputs import refuse_overwriting
from gateway.cli.progress import Progress
from gateway.core.model import Consent
from gateway.core.sanitiser import printable
from gateway.errors import ConfigurationError
from gateway.io.whole_file import write_whole
from gateway.simulator.bodies import Carriage
from gateway.simulator.plan_file import BUILT_IN, read_plan
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
    read = [] if options.plan in BUILT_IN else [Path(options.plan)]
    refuse_overwriting({"--out": options.out, "--anchors": options.anchors}, read)
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
    ends_s = max(shopper.leaves_ms for shopper in shop.shoppers) / 1000
    progress = Progress(lambda done: f"{shop.now_ms / 1000:.0f} of {ends_s:.0f} s, {done:.0f} sightings")
    with _ended_by_signals(), progress:
        sightings = _write(options.out, _told(sighting_lines(shop), progress))
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
    counted = f"shoppers: {options.shoppers}, stays in a zone: {len(shop.truth)}, sightings: {sightings}"
    print(f"{printable(options.out)}: {seconds:.0f} s, {counted}.")


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """While this lasts SIGTERM and SIGHUP end the program as Ctrl-C does, so that no unfinished file is left behind."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        for number, handler in before.items():
            # nohup asks for SIGHUP to be ignored.
            if handler is not signal.SIG_IGN:
                signal.signal(number, _end)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def _told(lines: Iterable[str], progress: Progress) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        progress.at(number)
        yield line


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
