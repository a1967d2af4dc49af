"""How the figures of gateway/simulator/bodies.py and radio.py were got, for anybody to check: see ``scripts/body-model --help``.

Reads the recordings of a person with four phones before two receivers (MIT Lincoln Laboratory 2020, CC BY 4.0) and prints

- the shadow of the body by rotation and by where the phone is, in each room, as dB below the best rotation: the mean over
  receivers of each one's level against its own mean over all rotations, so that receivers and phones need not be calibrated;
- how far reflections lie below the free path, as the one figure that turns the chamber's shadow into each room's span;
- how a level varies while nobody turns: within a second, and from second to second over half a minute, for the receiver that
  listens to one advertising channel (Ubertooth) and the one that listens to three (nRF52). Of the three rooms the conference room
  is most like a shop, so the simulator has its figures.
"""

import argparse
import csv
import gzip
import math
import os
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from gateway.simulator.bodies import Carriage

PHONES: dict[str, Carriage] = {"TestPhone1": "pocket", "TestPhone2": "purse", "TestPhone3": "back pocket", "TestPhone4": "ear"}
CHAMBER = "1-May Anechoic Chamber"
LIKE_A_SHOP = "5-May Conference Room"
ROTATIONS = range(0, 360, 45)
FEWEST_PACKETS = 20
FEWEST_FOR_NOISE = 200


class Stand(NamedTuple):
    """Half a minute without a turn: one phone at one receiver."""

    room: str
    receiver: str
    phone: str
    angle: int
    repetition: str


class Noise(NamedTuple):
    """Medians over all stands, dB."""

    within_second: float
    between_seconds: float


class Figures(NamedTuple):
    """What the simulator uses."""

    shadow_db: dict[Carriage, tuple[float, ...]]
    """In the chamber, by rotation."""
    spans_db: dict[str, dict[Carriage, float]]
    """By room: between the best and the worst rotation."""
    reflected_db: dict[str, float]
    """By room; the chamber has none."""
    noise: dict[tuple[str, str], Noise]
    """By room and receiver."""

    @property
    def noise_db(self) -> float:
        """From packet to packet on one channel."""
        return self.noise[LIKE_A_SHOP, "Ubertooth"].within_second

    @property
    def wander_db(self) -> float:
        """How far one channel wanders in half a minute."""
        return self.noise[LIKE_A_SHOP, "Ubertooth"].between_seconds

    @property
    def spot_db(self) -> float:
        """What distinguishes the channels of one spot: what three vary more than one within a second, less their wandering."""
        three = self.noise[LIKE_A_SHOP, "nRF52"].within_second
        return math.sqrt(max(0.0, three**2 - self.noise_db**2 - self.wander_db**2))


def read(path: Path) -> dict[Stand, list[tuple[float, float]]]:
    """(seconds, dBm) by stand; rows of no known phone (damaged names) are left out."""
    stands: dict[Stand, list[tuple[float, float]]] = defaultdict(list)
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if row["tx"] in PHONES:
                stand = Stand(row["env"], row["receiver"], row["tx"], int(row["angle"]), row["rep"])
                stands[stand].append((float(row["t"]), float(row["rssi"])))
    return stands


def shadow(stands: Mapping[Stand, Sequence[tuple[float, float]]], room: str, phone: str) -> dict[int, float]:
    """dB below the best rotation, by rotation, where it was recorded."""
    levels: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for stand, packets in stands.items():
        if (stand.room, stand.phone) == (room, phone) and len(packets) >= FEWEST_PACKETS:
            levels[stand.receiver][stand.angle].append(statistics.fmean(rssi for _, rssi in packets))
    relative: dict[int, list[float]] = defaultdict(list)
    for by_angle in levels.values():
        means = {angle: statistics.fmean(of_angle) for angle, of_angle in by_angle.items()}
        for angle, mean in means.items():
            relative[angle].append(mean - statistics.fmean(means.values()))
    level = {angle: statistics.fmean(of_angle) for angle, of_angle in sorted(relative.items())}
    best = max(level.values())
    return {angle: best - of_angle for angle, of_angle in level.items()}


def span_with_reflections(shadow_db: Iterable[float], reflected_db: float) -> float:
    """Between the best and the worst rotation, where reflections so far below the free path come round the body."""
    round_it = 10 ** (-reflected_db / 10)
    levels = [10 * math.log10(10 ** (-loss / 10) + round_it) for loss in shadow_db]
    return max(levels) - min(levels)


def reflections(chamber: Iterable[Sequence[float]], mean_span_db: float) -> float:
    """The level below the free path, to 0.1 dB, at which the chamber's shadows span as much as in a room on average."""
    shadows = list(chamber)
    candidates = [tenths / 10 for tenths in range(601)]

    def miss(reflected_db: float) -> float:
        return abs(statistics.fmean(span_with_reflections(one, reflected_db) for one in shadows) - mean_span_db)

    return min(candidates, key=miss)


def noise(stands: Mapping[Stand, Sequence[tuple[float, float]]], room: str, receiver: str) -> Noise:
    """How a level varies while nobody turns."""
    within, between = [], []
    for stand, packets in stands.items():
        if (stand.room, stand.receiver) != (room, receiver) or len(packets) < FEWEST_FOR_NOISE:
            continue
        seconds: dict[int, list[float]] = defaultdict(list)
        for at_s, rssi in packets:
            seconds[int(at_s)].append(rssi)
        full = [of_second for of_second in seconds.values() if len(of_second) >= 3]
        if len(full) <= 10:
            continue
        inside = statistics.fmean(statistics.variance(of_second) for of_second in full)
        # The mean of few packets varies even if nothing wanders.
        of_means = inside * statistics.fmean(1 / len(of_second) for of_second in full)
        wandering = statistics.variance([statistics.fmean(of_second) for of_second in full]) - of_means
        within.append(math.sqrt(inside))
        between.append(math.sqrt(max(0.0, wandering)))
    return Noise(statistics.median(within), statistics.median(between))


def figures(path: Path) -> Figures:
    """All of it."""
    stands = read(path)
    rooms = sorted({stand.room for stand in stands})
    by_room = {room: {carriage: shadow(stands, room, phone) for phone, carriage in PHONES.items()} for room in rooms}
    chamber: dict[Carriage, tuple[float, ...]] = {
        carriage: tuple(by_angle[angle] for angle in ROTATIONS) for carriage, by_angle in by_room[CHAMBER].items()
    }
    spans = {room: {carriage: max(one.values()) for carriage, one in shadows.items()} for room, shadows in by_room.items()}
    reflected = {room: reflections(chamber.values(), statistics.fmean(spans[room].values())) for room in rooms if room != CHAMBER}
    variations = {(room, receiver): noise(stands, room, receiver) for room in rooms for receiver in ("Ubertooth", "nRF52")}
    return Figures(chamber, spans, reflected, variations)


def main() -> int:
    """Print them."""
    parser = argparse.ArgumentParser(
        prog="scripts/body-model",
        description="Prints the simulator's body model and fading as recordings of a person with four phones give them.",
        epilog="GATEWAY_REAL_DATA names the folder that holds mitll_body_rssi/rssi.csv.gz, made from "
        "github.com/mitll/BLE-RSSI-Various-Static-Configurations (CC BY 4.0).",
    )
    parser.parse_args()
    path = Path(os.environ.get("GATEWAY_REAL_DATA", ".")) / "mitll_body_rssi" / "rssi.csv.gz"
    if not path.is_file():
        print(f"{path} is not there. Set GATEWAY_REAL_DATA to the folder with the recordings of others.", file=sys.stderr)
        return 69
    found = figures(path)
    print("Shadow in the anechoic chamber, dB below the best rotation, at 0°, 45°, … 315° (0° = facing the receiver)")
    for carriage, losses in found.shadow_db.items():
        print(f"  {carriage:<12}" + "".join(f"{loss:6.1f}" for loss in losses))
    print("\nSpan between the best and the worst rotation, dB, and reflections below the free path that explain it")
    for room, spans in found.spans_db.items():
        told = ", ".join(f"{carriage} {span:.1f}" for carriage, span in spans.items())
        reflected = ""
        if room in found.reflected_db:
            each = ", ".join(f"{reflections([found.shadow_db[carriage]], span):.1f}" for carriage, span in spans.items())
            reflected = f"; reflections {found.reflected_db[room]:.1f} dB below ({each})"
        print(f"  {room}: {told}{reflected}")
    print("\nVariation of a level while nobody turns, dB (medians of the standard deviations)")
    for (room, receiver), variation in found.noise.items():
        print(
            f"  {room}, {receiver}: within a second {variation.within_second:.1f},"
            f" from second to second {variation.between_seconds:.1f}"
        )
    print(
        f"\nSo, in the conference room, one channel has {found.noise_db:.1f} dB from packet to packet and wanders by"
        f" {found.wander_db:.1f} dB;"
        f" the channels of one spot differ by {found.spot_db:.1f} dB."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
