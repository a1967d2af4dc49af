"""How strongly a receiver hears a sender: distance, walls, the body in between, and luck.

The level of one packet is, in dBm:

```
level at 1 m − 10 · n · log10(distance) − walls and shelves − body + place + fading of its channel + noise + gain of the device
```

- Level at 1 m −60 dBm and n 1.7 … 2.0 fit receivers around an open room (Danis et al. 2021, 12 receivers, 20.66 × 17.64 m).
- Body: ``bodies.py``.
- Place: what shelves and reflections add at one spot stays the same as long as nobody moves them; in the room above a fitted path
  loss is off by 2.7 dB, alike within about 3 m.
- Fading: an advertisement goes out on three channels and a receiver listens to one at a time. Each channel has an offset of its
  own at each spot, which a step changes (2.5 dB), and follows the small movements of people (3.1 dB, half forgotten after 1.5 s);
  2.0 dB remain from packet to packet. From the recordings that ``bodies.py`` names, in the conference room: within a second one
  channel (Ubertooth) varies by 2.0 dB and three together (nRF52) by 4.4, while over half a minute one wanders by 3.1 and the mean
  of three by 1.9. Together 4.5 dB, within the 3 … 5 dB that receivers which do not tell channels apart see.

What a level costs most is walls and place; both depend on the spot alone and are kept by cells of ``CELL_M``.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from gateway.simulator.bodies import Carrying
from gateway.simulator.floor_plan import FloorPlan, PlacedAnchor, Point, Wall

POCKET_M = 1.1
"""Height of a phone of which nothing else is known."""
GEOMETRY_MS = 200
"""A walker moves 0.3 m in this time, which changes a mean level by less than one packet differs from the next."""
SPOT_M = 0.06
"""Half a wavelength: from here on reflections add up anew."""
CELL_M = 0.5
_CHANNELS = 3
_NEAREST_M_2 = 0.3**2
_QUANTILES = 8192


@dataclass(frozen=True, slots=True)
class Propagation:
    """How the air of one shop behaves; the source of each figure is named at the top of this file."""

    level_at_1m_dbm: float = -60.0
    exponent: float = 1.85
    place_db: float = 2.7
    place_m: float = 3.0
    """How far apart two places must be to have little to do with each other."""
    spot_db: float = 2.5
    """Standard deviation among a spot's three channels."""
    sway_db: float = 3.1
    """Standard deviation of one channel's slow fading."""
    sway_ms: int = 2_200
    noise_db: float = 2.0
    """Standard deviation from packet to packet on one channel."""
    sensitivity_dbm: float = -95.0
    """Half of the packets at this level are lost."""
    sensitivity_width_db: float = 1.5
    lost_share: float = 0.1
    """Packets lost at any level: the scanner changes its channel, and other radios share the band. Assumed."""

    @property
    def fading_db(self) -> float:
        """Standard deviation of a packet's level at one place."""
        return math.hypot(self.spot_db, self.sway_db, self.noise_db)


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
    sender: int
    """Truth: which device it was; no receiver knows that."""


class PlaceEffect:
    """What shelves and reflections add to one anchor's level at each place: a smooth random surface, dB, mean 0.

    A sum of cosines in random directions tends to a Gaussian field with a Gaussian correlation (spectral representation).
    """

    __slots__ = ("_scale_db", "_waves")

    WAVES = 16

    def __init__(self, propagation: Propagation, rng: random.Random) -> None:
        self._waves = [
            (rng.gauss(0, 1 / propagation.place_m), rng.gauss(0, 1 / propagation.place_m), rng.uniform(0, math.tau))
            for _ in range(self.WAVES)
        ]
        self._scale_db = propagation.place_db * math.sqrt(2 / self.WAVES)

    def at(self, x: float, y: float) -> float:
        """The effect at this place, dB."""
        return self._scale_db * sum(math.cos(kx * x + ky * y + phase) for kx, ky, phase in self._waves)


def normal_quantiles() -> tuple[float, ...]:
    """The standard normal distribution as equally likely values: one drawn at random costs a fifth of ``random.gauss``."""
    normal = NormalDist()
    return tuple(normal.inv_cdf((index + 0.5) / _QUANTILES) for index in range(_QUANTILES))


class Surroundings:
    """What stands between one anchor and each place of the shop at one height, and what the place adds: dB, mostly below 0."""

    __slots__ = ("_anchor", "_by_cell", "_height_m", "_place_effect", "_walls")

    def __init__(self, walls: Sequence[Wall], anchor: PlacedAnchor, place_effect: PlaceEffect, height_m: float) -> None:
        self._walls = walls
        self._anchor = anchor
        self._place_effect = place_effect
        self._height_m = height_m
        self._by_cell: dict[tuple[int, int], float] = {}

    def at(self, x: float, y: float) -> float:
        """Of the cell around the place; the first question about a cell costs some ten microseconds."""
        cell = (int(x // CELL_M), int(y // CELL_M))
        effect = self._by_cell.get(cell)
        if effect is None:
            middle = Point((cell[0] + 0.5) * CELL_M, (cell[1] + 0.5) * CELL_M)
            loss = wall_loss_db(self._walls, middle, self._height_m, self._anchor.at, self._anchor.height_m)
            effect = self._by_cell[cell] = self._place_effect.at(*middle) - loss
        return effect


class Air:
    """One shop's air: the same for everybody in it."""

    def __init__(self, plan: FloorPlan, propagation: Propagation, rng: random.Random) -> None:
        self.propagation = propagation
        self.normal = normal_quantiles()
        self._walls = plan.walls
        self._place_effects = {anchor.name: PlaceEffect(propagation, rng) for anchor in plan.anchors}
        self._surroundings: dict[tuple[str, float], Surroundings] = {}

    def place_effect(self, anchor: str) -> PlaceEffect:
        """The surface of one anchor."""
        return self._place_effects[anchor]

    def surroundings(self, anchor: PlacedAnchor, height_m: float) -> Surroundings:
        """Of one anchor, as all devices at one height meet them."""
        key = (anchor.name, height_m)
        if key not in self._surroundings:
            self._surroundings[key] = Surroundings(self._walls, anchor, self._place_effects[anchor.name], height_m)
        return self._surroundings[key]


def wall_loss_db(walls: Sequence[Wall], here: Point, here_m: float, there: Point, there_m: float) -> float:
    """What the walls between two places at two heights take together, dB."""
    loss = 0.0
    hx, hy = here
    dx, dy = there.x - hx, there.y - hy
    for wall in walls:
        (sx, sy), (tx, ty) = wall.start, wall.end
        ex, ey = tx - sx, ty - sy
        cross = dx * ey - dy * ex
        if cross == 0:
            continue
        ox, oy = sx - hx, sy - hy
        along_path = (ox * ey - oy * ex) / cross
        along_wall = (ox * dy - oy * dx) / cross
        if 0 < along_path < 1 and 0 <= along_wall <= 1 and here_m + along_path * (there_m - here_m) < wall.height_m:
            loss += wall.loss_db
    return loss


class _Channel:
    """One path on one channel: what fading adds, and when that was."""

    __slots__ = ("at_ms", "offset_db", "spot", "sway_db")

    def __init__(self) -> None:
        self.spot = -1
        self.offset_db = self.sway_db = 0.0
        self.at_ms = 0


class RadioPaths:
    """The paths between one device and all anchors of one kind; the same in both directions.

    ``move`` is told where the device is and costs most, so call it when it has moved or turned, every ``GEOMETRY_MS`` at most;
    ``packet`` then adds the luck of one packet.
    """

    __slots__ = (
        "_air", "_anchors", "_carrying", "_channels", "_ends", "_gain_db", "_height_m", "_place", "_rng", "_spot", "levels_dbm",
        "names", "sender",
    )  # fmt: skip

    def __init__(
        self,
        air: Air,
        anchors: Sequence[PlacedAnchor],
        rng: random.Random,
        *,
        gain_db: float = 0.0,
        carrying: Carrying | None = None,
        height_m: float = POCKET_M,
        sender: int = 0,
    ) -> None:
        """``carrying``: how somebody carries the device, which then is at their height; ``None``: it is at ``height_m``."""
        self._air = air
        self._anchors = tuple(anchors)
        self._height_m = height_m if carrying is None else carrying.height_m
        self._ends = [
            (anchor.at, (anchor.height_m - self._height_m) ** 2, air.surroundings(anchor, self._height_m)) for anchor in anchors
        ]
        self._rng = rng
        self._gain_db = gain_db
        self._carrying = carrying
        self._channels = [[_Channel() for _ in range(_CHANNELS)] for _ in anchors]
        self._spot = -1
        self._place: Point | None = None
        self.sender = sender
        self.names = tuple(anchor.name for anchor in anchors)
        self.levels_dbm = [-math.inf] * len(anchors)

    def move(self, here: Point, heading: float) -> None:
        """The device is here now, and the front of whoever carries it points to ``heading`` (radians).

        Anchors nearer than 0.3 m count as 0.3 m away.
        """
        if self._place is None or self._place.distance_to(here) >= SPOT_M:
            self._place = here
            self._spot += 1
        propagation, carrying = self._air.propagation, self._carrying
        at_1m, slope = propagation.level_at_1m_dbm + self._gain_db, 5 * propagation.exponent
        log10, x, y = math.log10, here.x, here.y
        for index, (there, dz_2, surroundings) in enumerate(self._ends):
            dx, dy = there.x - x, there.y - y
            across_2 = dx * dx + dy * dy
            distance_2 = max(_NEAREST_M_2, across_2 + dz_2)
            level = at_1m - slope * log10(distance_2) + surroundings.at(x, y)
            if carrying is not None:
                level -= carrying.loss_db(math.atan2(dy, dx) - heading, math.sqrt(across_2 / distance_2))
            self.levels_dbm[index] = level

    def packet(self, address: str, data: bytes, at_ms: int, heard: list[Heard]) -> None:
        """One advertisement goes out: append what each anchor that was lucky enough hears of it."""
        propagation, chance, normal, spot = self._air.propagation, self._rng.random, self._air.normal, self._spot
        floor, noise_db = propagation.sensitivity_dbm, propagation.noise_db
        hopeless = floor - 4 * propagation.fading_db
        surely = floor + 8 * propagation.sensitivity_width_db
        share = 1 - propagation.lost_share
        for index, level in enumerate(self.levels_dbm):
            if level < hopeless or chance() >= share:
                continue
            channel = self._channels[index][int(chance() * _CHANNELS)]
            if channel.spot != spot:
                # A new spot has new reflections, …
                channel.spot = spot
                channel.offset_db = propagation.spot_db * normal[int(chance() * _QUANTILES)]
                channel.sway_db = propagation.sway_db * normal[int(chance() * _QUANTILES)]
            else:
                # … and at the old one they follow those who move.
                memory = math.exp((channel.at_ms - at_ms) / propagation.sway_ms)
                fresh_db = propagation.sway_db * math.sqrt(1 - memory * memory)
                channel.sway_db = memory * channel.sway_db + fresh_db * normal[int(chance() * _QUANTILES)]
            channel.at_ms = at_ms
            rssi = level + channel.offset_db + channel.sway_db + noise_db * normal[int(chance() * _QUANTILES)]
            if rssi < surely and chance() * (1 + math.exp(min(60.0, (floor - rssi) / propagation.sensitivity_width_db))) >= 1:
                continue
            heard.append(Heard(self.names[index], address, round(rssi), data, at_ms, self.sender))

    def loudest(self) -> tuple[PlacedAnchor, float] | None:
        """The strongest anchor and its level, dBm, as after some seconds of averaging; ``None`` when all are too weak to hear."""
        if not self.levels_dbm:
            return None
        index = max(range(len(self.levels_dbm)), key=self.levels_dbm.__getitem__)
        level = self.levels_dbm[index]
        return None if level < self._air.propagation.sensitivity_dbm else (self._anchors[index], level)
