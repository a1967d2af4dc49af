"""Everything else on the air of a shop: phones without our app, televisions, tags, other people's beacons.

None of it may ever become an object in the gateway. Bytes follow what such devices send (Bluetooth Assigned Numbers; for Apple's
types Celosia and Cunche, "Discontinued Privacy: Personal Data Leaks in Apple Bluetooth-Low-Energy Continuity Protocols", PoPETs
2020); what they hold is random.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from gateway.core import ad_structures
from gateway.core.ad_structures import COMPLETE_UUIDS_128, FLAGS, MANUFACTURER_DATA, SERVICE_DATA_16, AdStructure
from gateway.core.frames import ibeacon
from gateway.core.model import IBeacon
from gateway.simulator.devices import ADVERTISING_DELAY_MS, private_address, static_address
from gateway.simulator.walkers import Whereabouts

_APPLE = b"\x4c\x00"
_MICROSOFT = b"\x06\x00"
_SAMSUNG = b"\x75\x00"
_COMPLETE_NAME = 0x09
_TX_POWER = 0x0A
_IPHONE_FLAGS = AdStructure(FLAGS, b"\x1a")
_OTHER_FLAGS = AdStructure(FLAGS, b"\x06")
_ROTATION_MS = (600_000, 900_000)


@dataclass(frozen=True, slots=True)
class StrangerKind:
    """A sort of device."""

    name: str
    carried: bool
    """By somebody who walks through the shop; else it stands somewhere."""
    interval_ms: tuple[int, int]
    address: Literal["private", "static"]
    """A private address changes every 10 … 15 min, and the contents with it."""
    contents: Callable[[random.Random], list[AdStructure]]


def _nearby_info(rng: random.Random) -> list[AdStructure]:
    status = bytes((rng.randrange(256), rng.randrange(256)))
    return [
        _IPHONE_FLAGS,
        AdStructure(_TX_POWER, b"\x0c"),
        AdStructure(MANUFACTURER_DATA, _APPLE + b"\x10\x06" + status + rng.randbytes(4)),
    ]


def _find_my(rng: random.Random) -> list[AdStructure]:
    return [AdStructure(MANUFACTURER_DATA, _APPLE + b"\x12\x19\x10" + rng.randbytes(22) + bytes((rng.randrange(4), 0)))]


def _airplay_target(rng: random.Random) -> list[AdStructure]:
    return [_IPHONE_FLAGS, AdStructure(MANUFACTURER_DATA, _APPLE + b"\x09\x08\x13\x03" + rng.randbytes(4) + b"\x1b\x58")]


def _iphone_background(rng: random.Random) -> list[AdStructure]:
    overflow_area = (1 << rng.randrange(128)).to_bytes(16, "big")
    return [_IPHONE_FLAGS, AdStructure(MANUFACTURER_DATA, _APPLE + b"\x01" + overflow_area)]


def _android_nearby(rng: random.Random) -> list[AdStructure]:
    return [AdStructure(FLAGS, b"\x02"), AdStructure(SERVICE_DATA_16, b"\xf3\xfe\x4a\x17\x23" + rng.randbytes(18))]


def _swift_pair(rng: random.Random) -> list[AdStructure]:
    return [AdStructure(MANUFACTURER_DATA, _MICROSOFT + b"\x01\x09\x20\x02" + rng.randbytes(23))]


def _foreign_app(rng: random.Random) -> list[AdStructure]:
    return [_IPHONE_FLAGS, AdStructure(COMPLETE_UUIDS_128, rng.randbytes(16))]


def _headphones(rng: random.Random) -> list[AdStructure]:
    name = f"Buds {rng.randrange(16**4):04X}".encode()
    return [_OTHER_FLAGS, AdStructure(_COMPLETE_NAME, name), AdStructure(SERVICE_DATA_16, b"\x2c\xfe" + rng.randbytes(3))]


def _television(rng: random.Random) -> list[AdStructure]:
    return [
        AdStructure(FLAGS, b"\x18"),
        AdStructure(MANUFACTURER_DATA, _SAMSUNG + b"\x42\x04\x01\x01\x66" + rng.randbytes(12) + bytes(7)),
    ]


def _foreign_beacon(rng: random.Random) -> list[AdStructure]:
    beacon = IBeacon(rng.randbytes(16), rng.randrange(1, 100), rng.randrange(1, 1000), -59)
    return [_OTHER_FLAGS, ibeacon.encode(beacon)]


KINDS: tuple[StrangerKind, ...] = (
    StrangerKind("iphone", True, (180, 400), "private", _nearby_info),
    StrangerKind("android", True, (250, 1000), "private", _android_nearby),
    StrangerKind("television", False, (100, 200), "static", _television),
    StrangerKind("foreign app", True, (150, 300), "private", _foreign_app),
    StrangerKind("find my tag", True, (1900, 2100), "private", _find_my),
    StrangerKind("foreign beacon", False, (350, 1000), "static", _foreign_beacon),
    StrangerKind("iphone in the background", True, (180, 400), "private", _iphone_background),
    StrangerKind("headphones", True, (200, 300), "static", _headphones),
    StrangerKind("airplay target", False, (180, 400), "private", _airplay_target),
    StrangerKind("laptop", False, (100, 400), "private", _swift_pair),
)
"""In the order in which a shop is given them."""


class Stranger:
    """One device that is none of ours."""

    def __init__(self, kind: StrangerKind, rng: random.Random) -> None:
        self._kind = kind
        self._rng = rng
        self.begin(0)

    def begin(self, at_ms: int) -> None:
        """Another device of the kind from now on: it shares nothing with the last one."""
        self._base_interval_ms = self._rng.randint(*self._kind.interval_ms)
        self._renew(at_ms)

    def interval_ms(self) -> int:
        """The kind's rhythm."""
        return self._base_interval_ms + self._rng.randint(0, ADVERTISING_DELAY_MS)

    def advertisement(self, at_ms: int, _whereabouts: Whereabouts, /) -> tuple[str, bytes]:
        """The same bytes from the same address until the address rotates, if it ever does."""
        if self._kind.address == "private" and at_ms >= self._renewal_ms:
            self._renew(at_ms)
        return self._address, self._data

    def _renew(self, at_ms: int) -> None:
        self._renewal_ms = at_ms + self._rng.randint(*_ROTATION_MS)
        self._address = private_address(self._rng) if self._kind.address == "private" else static_address(self._rng)
        self._data = ad_structures.encode(self._kind.contents(self._rng))
