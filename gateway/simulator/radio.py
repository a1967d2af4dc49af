"""How strongly a receiver hears a sender: distance, walls, the body in between, and luck.

The level of one packet is, in dBm:

```
level at 1 m − 10 · n · log10(distance) − walls − body + place + drift + fading + gain of the device
```

- Level at 1 m −60 dBm and n 1.7 … 2.0 fit receivers around an open room (Danis et al. 2021, 12 receivers, 20.66 × 17.64 m).
- Body: 6 … 24 dB between facing a receiver and turning one's back on it, nearly a cosine of the angle where nothing reflects, and
  3 … 5 dB from packet to packet: BLE-RSSI-Various-Static-Configurations, MIT Lincoln Laboratory 2020 (a person turned in steps
  of 45°).
- Place: what shelves and reflections add at one spot stays the same as long as nobody moves them; in the room above a fitted path
  loss is off by 2.7 dB, alike within about 3 m.
- Drift: other people walk about; slow and without memory beyond some seconds.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.simulator.floor_plan import FloorPlan, PlacedAnchor, Point, Wall

POCKET_M = 1.1
"""Height at which a phone is carried."""
GEOMETRY_MS = 200
"""A walker moves 0.3 m in this time, which changes a mean level by less than one packet differs from the next."""


@dataclass(frozen=True, slots=True)
class Propagation:
    """How the air of one shop behaves; the source of each figure is named at the top of this file."""

    level_at_1m_dbm: float = -60.0
    exponent: float = 1.85
    place_db: float = 2.7
    place_m: float = 3.0
    """How far apart two places must be to have little to do with each other."""
    drift_db: float = 1.5
    drift_ms: int = 5_000
    fading_db: float = 3.5
    """Standard deviation from packet to packet."""
    sensitivity_dbm: float = -95.0
    """Half of the packets at this level are lost."""
    sensitivity_width_db: float = 1.5
    lost_share: float = 0.1
    """Packets lost at any level: collisions, and the scanner's change of channel."""


@dataclass(slots=True)
class Heard:
    """One advertisement as one receiver heard it."""

    receiver: str
    address: str
    """Six hexadecimal octets with colons, upper case."""
    rssi_dbm: int
    data: bytes
    """AD structures as on the air."""
    at_ms: int
    """Simulated milliseconds since the run's start."""


class PlaceEffect:
    """What shelves and reflections add to one anchor's level at each place: a smooth random surface, dB, mean 0.

    A sum of cosines in random directions tends to a Gaussian field with a Gaussian correlation (spectral representation); it is
    looked up in a grid because a level is needed for every anchor whenever somebody has moved.
    """

    __slots__ = ("_columns", "_left", "_low", "_rows", "_surface")

    CELL_M = 0.5
    WAVES = 16

    def __init__(self, plan: FloorPlan, propagation: Propagation, rng: random.Random) -> None:
        corners = [corner for area in plan.areas for corner in area.polygon]
        self._left = min(corner.x for corner in corners)
        self._low = min(corner.y for corner in corners)
        self._columns = math.ceil((max(corner.x for corner in corners) - self._left) / self.CELL_M)
        self._rows = math.ceil((max(corner.y for corner in corners) - self._low) / self.CELL_M)
        waves = [
            (rng.gauss(0, 1 / propagation.place_m), rng.gauss(0, 1 / propagation.place_m), rng.uniform(0, math.tau))
            for _ in range(self.WAVES)
        ]
        scale = propagation.place_db * math.sqrt(2 / self.WAVES)
        self._surface = [
            scale * sum(math.cos(kx * column * self.CELL_M + ky * row * self.CELL_M + phase) for kx, ky, phase in waves)
            for row in range(self._rows)
            for column in range(self._columns)
        ]

    def at(self, x: float, y: float) -> float:
        """The effect at this place, dB; outside the shop that of the nearest edge."""
        column = min(self._columns - 1, max(0, int((x - self._left) / self.CELL_M)))
        row = min(self._rows - 1, max(0, int((y - self._low) / self.CELL_M)))
        return self._surface[row * self._columns + column]


class Air:
    """One shop's air: the same for everybody in it. Costs some ten milliseconds to make."""

    def __init__(self, plan: FloorPlan, propagation: Propagation, rng: random.Random) -> None:
        self.propagation = propagation
        self.walls = plan.walls
        self._place_effects = {anchor.name: PlaceEffect(plan, propagation, rng) for anchor in plan.anchors}

    def place_effect(self, anchor: str) -> PlaceEffect:
        """The surface of one anchor."""
        return self._place_effects[anchor]


def path_loss_dbm(propagation: Propagation, distance_m: float) -> float:
    """Mean level at a distance in free sight, dBm; nearer than 0.3 m counts as 0.3 m."""
    return propagation.level_at_1m_dbm - 10 * propagation.exponent * math.log10(max(0.3, distance_m))


def body_loss_db(depth_db: float, heading: float, bearing: float, across_share: float) -> float:
    """What the carrier's body takes, 0 … ``depth_db``.

    ``heading`` is where the phone's side of the body points, ``bearing`` where the anchor is (radians); ``across_share`` is the
    horizontal part of the path (1 = level, 0 = from straight above, where no body is in between).
    """
    return depth_db * across_share * (1 - math.cos(heading - bearing)) / 2


def wall_loss_db(walls: Sequence[Wall], here: Point, here_m: float, there: Point, there_m: float) -> float:
    """What the walls between two places at two heights take together, dB."""
    loss = 0.0
    dx, dy = there.x - here.x, there.y - here.y
    for wall in walls:
        ex, ey = wall.end.x - wall.start.x, wall.end.y - wall.start.y
        cross = dx * ey - dy * ex
        if cross == 0:
            continue
        ox, oy = wall.start.x - here.x, wall.start.y - here.y
        along_path = (ox * ey - oy * ex) / cross
        along_wall = (ox * dy - oy * dx) / cross
        if 0 < along_path < 1 and 0 <= along_wall <= 1 and here_m + along_path * (there_m - here_m) < wall.height_m:
            loss += wall.loss_db
    return loss


class RadioPaths:
    """The paths between one device and all anchors of one kind; the same in both directions.

    ``move`` is told where the device is and costs most, so call it every ``GEOMETRY_MS`` only; ``packet`` then adds the luck of
    one packet.
    """

    __slots__ = ("_air", "_anchors", "_body_db", "_drifts", "_ends", "_gain_db", "_moved_ms", "_rng", "levels_dbm", "names")

    def __init__(
        self, air: Air, anchors: Sequence[PlacedAnchor], rng: random.Random, *, gain_db: float = 0.0, body_db: float = 0.0
    ) -> None:
        self._air = air
        self._anchors = tuple(anchors)
        self._ends = [(anchor.at, anchor.height_m, air.place_effect(anchor.name)) for anchor in anchors]
        self._rng = rng
        self._gain_db = gain_db
        self._body_db = body_db
        self._moved_ms: int | None = None
        self._drifts = [0.0] * len(anchors)
        self.names = tuple(anchor.name for anchor in anchors)
        self.levels_dbm = [-math.inf] * len(anchors)

    def move(self, at_ms: int, here: Point, heading: float | None, height_m: float = POCKET_M) -> None:
        """The device is here now, carried by somebody whose front points to ``heading`` (``None`` = nobody carries it)."""
        propagation = self._air.propagation
        memory = 0.0 if self._moved_ms is None else math.exp((self._moved_ms - at_ms) / propagation.drift_ms)
        fresh_db = propagation.drift_db * math.sqrt(1 - memory * memory)
        self._moved_ms = at_ms
        gauss = self._rng.gauss
        for index, (there, there_m, place_effect) in enumerate(self._ends):
            dx, dy, dz = there.x - here.x, there.y - here.y, there_m - height_m
            across = math.hypot(dx, dy)
            distance = math.hypot(across, dz)
            drift = memory * self._drifts[index] + gauss(0.0, fresh_db)
            self._drifts[index] = drift
            level = path_loss_dbm(propagation, distance) + place_effect.at(here.x, here.y) + drift + self._gain_db
            level -= wall_loss_db(self._air.walls, here, height_m, there, there_m)
            if heading is not None and distance > 0:
                level -= body_loss_db(self._body_db, heading, math.atan2(dy, dx), across / distance)
            self.levels_dbm[index] = level

    def packet(self, address: str, data: bytes, at_ms: int, heard: list[Heard]) -> None:
        """One advertisement goes out: append what each anchor that was lucky enough hears of it."""
        propagation = self._air.propagation
        gauss, chance = self._rng.gauss, self._rng.random
        floor = propagation.sensitivity_dbm
        hopeless = floor - 4 * propagation.fading_db
        surely = floor + 8 * propagation.sensitivity_width_db
        for name, level in zip(self.names, self.levels_dbm, strict=True):
            if level < hopeless:
                continue
            rssi = level + gauss(0.0, propagation.fading_db)
            share = 1 - propagation.lost_share
            if rssi < surely:
                share /= 1 + math.exp(min(60.0, (floor - rssi) / propagation.sensitivity_width_db))
            if chance() < share:
                heard.append(Heard(name, address, round(rssi), data, at_ms))

    def loudest(self) -> tuple[PlacedAnchor, float] | None:
        """The strongest anchor and its level, dBm, as after some seconds of averaging; ``None`` when all are too weak to hear."""
        if not self.levels_dbm:
            return None
        index = max(range(len(self.levels_dbm)), key=self.levels_dbm.__getitem__)
        level = self.levels_dbm[index]
        return None if level < self._air.propagation.sensitivity_dbm else (self._anchors[index], level)
