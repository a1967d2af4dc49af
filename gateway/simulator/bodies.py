"""What a person's body takes from the level of the phone they carry, by how they stand and where the phone is.

Derived from BLE-RSSI-Various-Static-Configurations (MIT Lincoln Laboratory 2020, CC BY 4.0): a person with four phones, 6 ft from
a receiver, turned in steps of 45°. ``scripts/body-model`` prints these figures from the recordings.

- In the anechoic chamber nothing reflects, so what a rotation costs is the body's shadow: ``SHADOW_DB``.
- In rooms the same turns cost less, because reflections come round the body: 8 … 16 dB in the conference room, 5 … 9 dB in the
  screened room, where 20 … 22 dB are lost in the chamber. A sum of reflections ``REFLECTED_DB`` below the free path explains it.
"""

import math
import random
from dataclasses import dataclass
from typing import Literal

Carriage = Literal["hand", "pocket", "purse", "back pocket", "ear"]

_STEP = math.pi / 4

SHADOW_DB: dict[Carriage, tuple[float, ...]] = {
    "pocket": (5.7, 0.2, 11.1, 9.1, 5.2, 20.6, 16.7, 0.0),
    "purse": (5.5, 0.0, 11.0, 20.7, 20.3, 16.7, 14.2, 3.4),
    "back pocket": (18.9, 18.8, 21.7, 8.5, 2.8, 0.0, 2.4, 4.4),
    "ear": (9.8, 0.0, 2.4, 7.7, 19.8, 18.8, 13.9, 3.2),
}
"""dB lost against the best rotation, at 0°, 45°, … 315° between the person's front and the receiver (0° = facing it)."""

REFLECTED_DB = (3.4, 4.6, 7.4, 8.0, 8.1, 9.1, 12.2, 18.1)
"""How far below the free path reflections are: what explains the span of each of the four phones in the screened room and in the
conference room, one by one. That the places of a shop are like those is assumed.
"""

_CARRIED: dict[Carriage, tuple[float, float]] = {
    "hand": (0.3, 1.2),
    "pocket": (0.3, 0.9),
    "purse": (0.2, 0.9),
    "back pocket": (0.15, 0.9),
    "ear": (0.05, 1.6),
}
"""How often, and at which height (m). Nobody measured either: assumed."""


def _held_in_front() -> tuple[float, ...]:
    """A phone in the hand was not recorded: the mean of the three that are carried in front, alike on both sides."""
    front = [SHADOW_DB[carriage] for carriage in ("pocket", "purse", "ear")]
    means = [sum(shadow[step] + shadow[-step] for shadow in front) / (2 * len(front)) for step in range(8)]
    return tuple(mean - min(means) for mean in means)


SHADOW_DB["hand"] = _held_in_front()


@dataclass(frozen=True, slots=True)
class Carrying:
    """How one person carries their phone."""

    carriage: Carriage
    height_m: float
    is_mirrored: bool
    """On the other side of the body than the person who was measured."""
    reflected_db: float

    @property
    def depth_db(self) -> float:
        """Between the best and the worst rotation, on level ground."""
        losses = [self.loss_db(step * _STEP, 1.0) for step in range(8)]
        return max(losses) - min(losses)

    def loss_db(self, angle: float, across_share: float) -> float:
        """What the body takes of a path, dB ≥ 0.

        ``angle`` is from the person's front to the anchor (radians, counter-clockwise); ``across_share`` is the horizontal part
        of the path (1 = level, 0 = from straight above, where no body is in between).
        """
        shadow = SHADOW_DB[self.carriage]
        turned = (-angle if self.is_mirrored else angle) / _STEP
        step = math.floor(turned)
        share = turned - step
        through = across_share * ((1 - share) * shadow[step % 8] + share * shadow[(step + 1) % 8])
        round_it = 10 ** (-self.reflected_db / 10)
        return 10 * math.log10((1 + round_it) / (10 ** (-through / 10) + round_it))


def draw_carrying(rng: random.Random, carriage: Carriage | None = None) -> Carrying:
    """Somebody, as they come, or one who carries it in this way."""
    carriages = list(_CARRIED)
    drawn = rng.choices(carriages, [_CARRIED[name][0] for name in carriages])[0]
    carriage = carriage or drawn
    return Carrying(carriage, _CARRIED[carriage][1], rng.random() < 0.5, REFLECTED_DB[int(rng.random() * len(REFLECTED_DB))])
