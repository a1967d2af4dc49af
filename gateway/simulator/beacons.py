"""The store's own fixed beacons, as they advertise."""

import random

from gateway.core import ad_structures
from gateway.core.ad_structures import FLAGS, AdStructure
from gateway.core.frames import ibeacon
from gateway.core.model import IBeacon
from gateway.simulator.devices import ADVERTISING_DELAY_MS, static_address
from gateway.simulator.floor_plan import PlacedAnchor
from gateway.simulator.walkers import Whereabouts

INTERVAL_MS = 500
"""A usual compromise between battery and speed."""


class FixedBeacon:
    """An iBeacon that says the same for ever; ``uuid`` is 16 bytes, ``measured_power_dbm`` its level at 1 m."""

    def __init__(self, anchor: PlacedAnchor, uuid: bytes, measured_power_dbm: int, rng: random.Random) -> None:
        if anchor.major is None or anchor.minor is None:
            raise ValueError(f"{anchor.name} has no major and minor, so it is no beacon")
        beacon = IBeacon(uuid, anchor.major, anchor.minor, measured_power_dbm)
        self._rng = rng
        self._address = static_address(rng)
        self._data = ad_structures.encode([AdStructure(FLAGS, b"\x06"), ibeacon.encode(beacon)])

    def begin(self, _at_ms: int, /) -> None:
        """It was always there."""

    def interval_ms(self) -> int:
        """Its interval and the controller's random delay."""
        return INTERVAL_MS + self._rng.randint(0, ADVERTISING_DELAY_MS)

    def advertisement(self, _at_ms: int, _whereabouts: Whereabouts, /) -> tuple[str, bytes]:
        """The same address and bytes each time."""
        return self._address, self._data
