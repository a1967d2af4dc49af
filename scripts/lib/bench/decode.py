"""`scripts/bench decode`: what it costs to make a typed frame of an advertisement, beside three other libraries.

The trace is 60 % repeats of 200 beacons, 20 % of what Apple's devices send, 20 % rotating tokens of phones in the roster; no two
of the latter are equal. The second trace has the same shares, and its beacons are all different too. Every contestant gets
bytes objects that nobody has hashed before. The contestants take turns, because a shared machine changes its pace by the minute.
"""

import argparse
import gc
import json
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from bench import scene
from bench.figures import Effort, Figure, median
from gateway.core import ad_structures
from gateway.core.ad_structures import FLAGS, AdStructure
from gateway.core.frames import Decoder, shopper
from gateway.core.model import ShopperToken

BEACONS = 200
SHOPPERS = 1000
WINDOWS = 3
"""The roster's table holds each shopper's identifier for the last window, this one and the next."""
TARGET_US = {"mixed": 0.35, "unique": 1.0}

Decode = Callable[[bytes], object]


class Trace(NamedTuple):
    """Advertisements, and the roster that their tokens belong to."""

    name: str
    payloads: list[bytes]
    eids: frozenset[bytes]


class Contestant(NamedTuple):
    """Something that reads advertisements; ``share`` of the trace is enough to measure it."""

    name: str
    make: Callable[[Trace], Decode]
    share: float = 1.0


def trace(name: str, seed: int, count: int) -> Trace:
    """The advertisements; the same seed gives the same."""
    rng = random.Random(seed)
    eids = [rng.randbytes(8) for _ in range(SHOPPERS * WINDOWS)]
    beacons = [scene.beacon(rng) for _ in range(BEACONS)]
    payloads = []
    for _ in range(count):
        kind = rng.random()
        if kind < 0.6:
            payloads.append(rng.choice(beacons) if name == "mixed" else scene.beacon(rng))
        elif kind < 0.8:
            payloads.append(scene.apple(rng))
        else:
            token = ShopperToken("U", rng.choice(eids) + rng.randbytes(8), None)
            payloads.append(ad_structures.encode([AdStructure(FLAGS, b"\x1a"), shopper.encode(token)]))
    return Trace(name, payloads, frozenset(eids))


def contestants() -> list[Contestant]:
    """Ours, the others, and a function that does nothing, whose time is part of everyone's."""
    from beacontools import parse_packet
    from bluetooth_data_tools import parse_advertisement_data_bytes
    from bumble.core import AdvertisingData

    return [
        Contestant("beacon-gateway", lambda given: Decoder(knows=given.eids.__contains__).decode),
        Contestant("bluetooth-data-tools", lambda _: parse_advertisement_data_bytes),
        Contestant("bumble", lambda _: AdvertisingData.from_bytes),
        Contestant("beacontools", lambda _: parse_packet, share=0.05),
        Contestant("(a call that does nothing)", lambda _: lambda _data: None),
    ]


def compare(traces: list[Trace], entrants: list[Contestant], rounds: int) -> dict[tuple[str, str], list[float]]:
    """µs an advertisement by contestant and trace, one figure a round."""
    figures: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for given in traces:
            for entrant in entrants:
                some = given.payloads[: max(1, round(len(given.payloads) * entrant.share))]
                fresh = [bytes(bytearray(payload)) for payload in some]
                decode = entrant.make(given)
                gc.collect()
                began = time.process_time_ns()
                for payload in fresh:
                    decode(payload)
                took = time.process_time_ns() - began
                figures.setdefault((entrant.name, given.name), []).append(took / 1000 / len(fresh))
    return figures


def measure(effort: Effort) -> list[Figure]:
    """Ours and bluetooth-data-tools, on the trace with repeats."""
    us, them = "beacon-gateway", "bluetooth-data-tools"
    entrants = [entrant for entrant in contestants() if entrant.name == us or (entrant.name == them and not effort.only_limited)]
    found = compare([trace("mixed", 1, max(2000, round(20_000 * effort.size)))], entrants, effort.rounds)
    peer = [median(found[them, "mixed"])] if (them, "mixed") in found else []
    means = "CPU time; 60 % repeats of 200 beacons, 20 % Apple, 20 % tokens of which no two are equal; more: scripts/bench decode"
    return [
        Figure(
            "decode_us_per_advertisement",
            "µs",
            median(found[us, "mixed"]),
            TARGET_US["mixed"],
            beside="".join(f"{them} {theirs:.2f}" for theirs in peer),
            means=means,
        ),
        *(Figure("decode_us_bluetooth_data_tools", "µs", theirs, means="the same advertisements") for theirs in peer),
    ]


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="scripts/bench decode")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--advertisements", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    traces = [trace(name, options.seed, options.advertisements) for name in TARGET_US]
    entrants = contestants()
    figures = compare(traces, entrants, options.rounds)

    print(
        f"{options.advertisements} advertisements a round, {options.rounds} rounds in turns, Python {platform.python_version()}"
    )
    print("CPU time of one core, µs an advertisement: median (best, worst)\n")
    print(f"{'':<36}{'60 % repeats':<26}{'every payload unique'}")
    results = []
    for entrant in entrants:
        release = "" if entrant.name.startswith("(") else version(entrant.name)
        cells = []
        for given in traces:
            took = figures[entrant.name, given.name]
            result = {"median_us": statistics.median(took), "best_us": min(took), "worst_us": max(took)}
            results.append({"name": entrant.name, "version": release, "trace": given.name, **result})
            cells.append(f"{result['median_us']:7.2f} ({result['best_us']:.2f}, {result['worst_us']:.2f})")
        print(f"{entrant.name + ' ' + release:<34}" + "".join(f"{cell:<26}" for cell in cells))
    print(f"{'bar':<34}" + "".join(f"{'≤ ' + format(TARGET_US[given.name], '.2f'):>7}{'':<19}" for given in traces))

    if options.json:
        report = {
            "benchmark": "decode",
            "seed": options.seed,
            "advertisements": options.advertisements,
            "rounds": options.rounds,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "target_us": TARGET_US,
            "results": results,
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
