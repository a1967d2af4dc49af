"""What everything that advertises has in common."""

import random
from typing import Protocol

from gateway.simulator.walkers import Whereabouts

ADVERTISING_DELAY_MS = 10
"""A controller adds 0 … 10 ms to each interval, at random (Bluetooth Core Specification, Vol 6, Part B, 4.4.2.2.1)."""


class Device(Protocol):
    """Something with an address, an advertisement and a rhythm."""

    def begin(self, at_ms: int, /) -> None:
        """It comes within earshot now: what it sent at another time, if ever, is forgotten."""

    def interval_ms(self) -> int:
        """Time to the next advertisement."""

    def advertisement(self, at_ms: int, whereabouts: Whereabouts, /) -> tuple[str, bytes]:
        """(address, AD structures) of the advertisement that goes out now. Time never runs backwards between calls."""


def private_address(rng: random.Random) -> str:
    """A resolvable private address: changes often, top bits 01 (Core Specification, Vol 6, Part B, 1.3.2.2)."""
    return _address(rng, 0b01)


def static_address(rng: random.Random) -> str:
    """A static random address: kept while the device has power, top bits 11."""
    return _address(rng, 0b11)


def _address(rng: random.Random, top_bits: int) -> str:
    octets = bytearray(rng.randbytes(6))
    octets[0] = octets[0] & 0x3F | top_bits << 6
    return octets.hex(":").upper()
