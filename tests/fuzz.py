"""Mutated inputs for everything that reads bytes from outside; `scripts/fuzz` runs it long, `test_fuzz.py` short.

Each target has a file of seeds in ``fuzz_seeds``, one a line in hexadecimal: whole, well-formed inputs, and inputs that once
broke something. A run is a number: the same one gives the same inputs again, whatever targets run beside it. To add a target,
write its seeds and its line in `TARGETS`.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.cli.decode import explain
from gateway.contract import strict_json
from gateway.core import ad_structures, captures
from gateway.core.frames import Decoder, altbeacon, eddystone, ibeacon, shopper
from gateway.core.receivers import FORMATS, levels_below
from gateway.errors import GatewayError

SEEDS = Path(__file__).parent / "fuzz_seeds"
_INTERESTING = (0x00, 0x01, 0x02, 0x03, 0x07, 0x10, 0x16, 0x1A, 0x20, 0x7F, 0x80, 0xAA, 0xBE, 0xFE, 0xFF)


@dataclass(frozen=True, slots=True)
class Target:
    """Something that reads bytes and raises nothing but a `GatewayError` for any of them."""

    name: str
    make: Callable[[], Callable[[bytes], object]]
    seeds: str
    """The file of seeds."""
    head: int = 0
    """Octets that are left alone nine times out of ten: without its magic a file is only refused."""
    largest: int = 300
    """Octets of an input at most."""


def _all_formats() -> Callable[[bytes], object]:
    return Decoder(0xFFF0, 0x1234).decode


def _known_phones() -> Callable[[bytes], object]:
    return Decoder(0xFFF0, 0x1234, knows=lambda eid: eid[0] % 2 == 0).decode


def _explained() -> Callable[[bytes], object]:
    decoder = Decoder(0xFFF0, 0x1234)
    return lambda data: explain(data, decoder)


def _reports(kind: str) -> Callable[[], Callable[[bytes], object]]:
    """A topic, a line end, and the payload."""
    one = FORMATS[kind]

    def read(message: bytes) -> object:
        topic, _, payload = message.partition(b"\n")
        levels = levels_below(one.prefix, topic.decode("utf-8", "replace"))
        return one.read_life(levels, payload) or one.read(levels, strict_json.parse(payload, "a report"))

    return lambda: read


TARGETS = {
    target.name: target
    for target in (
        Target("ad_structures", lambda: lambda data: list(ad_structures.iterate(data)), "advertisements"),
        Target("advertisement", _all_formats, "advertisements"),
        Target("advertisement_of_known_phones", _known_phones, "advertisements"),
        Target("ibeacon", lambda: ibeacon.decode, "manufacturer_data", largest=40),
        Target("altbeacon", lambda: altbeacon.decode, "manufacturer_data", largest=40),
        Target("eddystone", lambda: eddystone.decode, "service_data", largest=40),
        Target("shopper_u", lambda: shopper.decode_u, "service_data", largest=40),
        Target("shopper_s", lambda: shopper.decode_s, "service_data", largest=40),
        Target("shopper_m", lambda: shopper.decode_m, "manufacturer_data", largest=40),
        Target("explanation", _explained, "advertisements", largest=80),
        Target("btsnoop", lambda: captures.count, "btsnoop", head=16),
        Target("pcap", lambda: captures.count, "pcap", head=24),
        Target("pcapng", lambda: captures.count, "pcapng", head=48),
        Target("json_lines", lambda: captures.count, "json_lines", head=24, largest=600),
        Target("espresense", _reports("espresense"), "espresense", head=19, largest=600),
        Target("openmqttgateway", _reports("openmqttgateway"), "openmqttgateway", head=17, largest=600),
        Target("raddec", _reports("raddec"), "raddec", head=44, largest=800),
    )
}


class Broken(Exception):
    """An input for which a target raised what is not ours."""

    def __init__(self, target: str, data: bytes, number: int) -> None:
        super().__init__(f"{target}: input {number} raises; its octets, for tests/fuzz_seeds:\n{data.hex()}")


def seeds_of(target: Target) -> list[bytes]:
    """The well-formed inputs that are mutated."""
    lines = (SEEDS / f"{target.seeds}.txt").read_text("ascii").splitlines()
    return [bytes.fromhex(line) for line in lines if line and not line.startswith("#")]


def inputs(target: Target, seed: int, count: int) -> Iterator[bytes]:
    """The seeds themselves, then mutations of them and now and then pure noise."""
    rng = random.Random(f"{target.name} {seed}")
    pick, chance, size_up_to = rng.choice, rng.random, target.largest
    seeds = seeds_of(target)
    yield from seeds[:count]
    for _ in range(count - len(seeds)):
        draw = chance()
        if draw < 0.05:
            yield rng.randbytes(int(chance() * size_up_to))
            continue
        octets = bytearray(pick(seeds))
        low = 0 if draw > 0.9 else min(target.head, len(octets))
        for _ in range(1 + int(chance() * 4)):
            _mutate(octets, low, chance, seeds)
        yield bytes(octets[:size_up_to])


def _mutate(octets: bytearray, low: int, chance: Callable[[], float], seeds: list[bytes]) -> None:
    """One change behind the first ``low`` octets."""
    room = len(octets) - low
    at = low + int(chance() * room)
    kind = int(chance() * 8)
    if kind == 0 or room == 0:
        octets[at:at] = bytes((int(chance() * 256),))
    elif kind == 1:
        octets[at] ^= 1 << int(chance() * 8)
    elif kind == 2:
        octets[at] = _INTERESTING[int(chance() * len(_INTERESTING))]
    elif kind == 3:
        octets[at] = (octets[at] + (1 if chance() < 0.5 else 255)) % 256
    elif kind == 4:
        del octets[at:]
    elif kind == 5:
        del octets[at : at + 1 + int(chance() * 4)]
    elif kind == 6:
        octets[at:at] = octets[at : at + 1 + int(chance() * 16)]
    else:
        other = seeds[int(chance() * len(seeds))]
        octets[at:] = other[int(chance() * len(other)) :]


def run(target: Target, seed: int, count: int) -> float:
    """Give ``count`` inputs to the target; seconds that it took, `Broken` for the first that raises what is not ours."""
    read = target.make()
    began = time.perf_counter()
    for number, data in enumerate(inputs(target, seed, count)):
        try:
            read(data)
        except GatewayError:
            pass
        except Exception as error:
            raise Broken(target.name, data, number) from error
    return time.perf_counter() - began


def main() -> int:
    """The long form."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description="Mutated inputs for everything that reads foreign bytes.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"all, or some of: {', '.join(TARGETS)}")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="for each target (default 1000000)")
    parser.add_argument("--seed", type=int, default=None, help="repeats a run; without it a new one is drawn")
    options = parser.parse_args()
    unknown = set(options.targets) - TARGETS.keys()
    if unknown:
        parser.error(f"unknown target: {', '.join(sorted(unknown))}; known are {', '.join(TARGETS)}")
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    print(f"seed {seed}, {options.inputs} inputs for each target", flush=True)
    for name in options.targets or TARGETS:
        try:
            took = run(TARGETS[name], seed, options.inputs)
        except Broken as broken:
            print(f"{broken}\nAgain: scripts/fuzz --seed {seed} --inputs {options.inputs} {name}", flush=True)
            raise
        print(f"{name:<30} {took:7.1f} s  {options.inputs / took:9.0f} inputs/s  nothing raised", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
