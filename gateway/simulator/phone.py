"""The shopper's app: it makes the token new each minute and advertises it; outside the shop it is silent."""

import random
from dataclasses import dataclass
from typing import Literal

from gateway.core import ad_structures
from gateway.core.ad_structures import FLAGS, AdStructure
from gateway.core.frames import shopper
from gateway.core.model import Consent, ShopperToken
from gateway.core.token import (
    FLAG_FOREGROUND,
    FLAG_HINT,
    HINT_NONE,
    TokenPayload,
    bucket_of_rssi,
    day_of,
    derive_day_key,
    derive_subkeys,
    seal_token,
    slot_of,
    window_of,
)
from gateway.simulator.devices import ADVERTISING_DELAY_MS, private_address
from gateway.simulator.radio import RadioPaths
from gateway.simulator.walkers import Whereabouts

GAIN_DB = 3.0
"""Standard deviation among models of phones: assumed, at the low end of what positioning is told to expect (3 … 6 dB)."""
_TX_POWER = 0x0A
_IOS_HEAD = (AdStructure(FLAGS, b"\x1a"), AdStructure(_TX_POWER, b"\x0c"))
_ANDROID_HEAD = (AdStructure(FLAGS, b"\x02"),)


@dataclass(frozen=True, slots=True)
class Chain:
    """What the retailer's apps share in one store."""

    store_number: int
    """uint32 of the token's keys."""
    day_start_s: int
    """Signed seconds after 00:00 UTC at which the store's day begins."""
    service_uuid16: int | None = None
    """The chain's own 16-bit UUID (form S), if it has one."""
    company_id: int | None = None
    """The chain's own company identifier (form M), if it has one."""


@dataclass(frozen=True, slots=True)
class Handset:
    """One shopper's phone, whatever the app does."""

    system: Literal["ios", "android"]
    form: Literal["U", "S", "M"]
    interval_ms: int
    gain_db: float
    """How much louder than the usual phone."""
    clock_error_ms: int
    """By how much its clock is ahead."""
    calibrated_dbm: int
    """What forms S and M say about its power at 1 m; phones are calibrated by model, so nearly right."""


def draw_handset(chain: Chain, system: Literal["ios", "android"], rng: random.Random) -> Handset:
    """A phone as people have them."""
    form: Literal["U", "S", "M"] = "U"
    if system == "android" and chain.service_uuid16 is not None:
        form = "S"
    elif system == "android" and chain.company_id is not None:
        form = "M"
    gain_db = rng.gauss(0.0, GAIN_DB)
    return Handset(
        system=system,
        form=form,
        interval_ms=rng.randint(150, 290) if system == "ios" else 250,
        gain_db=gain_db,
        clock_error_ms=rng.randint(-2000, 2000),
        calibrated_dbm=-60 + round(gain_db),
    )


class ShopperPhone:
    """One shopper's phone with the app, its owner's key and consent.

    What the app hears along ``beacon_paths``, the radio paths to the store's fixed beacons, becomes the token's hint.
    ``start_wall_ms`` is the wall time of simulated millisecond 0.
    """

    def __init__(
        self,
        chain: Chain,
        handset: Handset,
        *,
        ku: bytes,
        consent: Consent,
        start_wall_ms: int,
        beacon_paths: RadioPaths,
        rng: random.Random,
    ) -> None:
        self._chain = chain
        self._handset = handset
        self._ku = ku
        self._flags = int(consent)
        if handset.system == "ios" or rng.random() < 0.5:
            self._flags |= FLAG_FOREGROUND
        self._start_wall_ms = start_wall_ms + handset.clock_error_ms
        self._beacon_paths = beacon_paths
        self._rng = rng
        self.begin(0)

    def begin(self, at_ms: int) -> None:
        """The shopper comes in: new token, new address."""
        self._window = -1
        self._slot = -1
        self._renew_address(at_ms)

    def interval_ms(self) -> int:
        """The phone's own interval and the controller's random delay."""
        return self._handset.interval_ms + self._rng.randint(0, ADVERTISING_DELAY_MS)

    def advertisement(self, at_ms: int, whereabouts: Whereabouts, /) -> tuple[str, bytes]:
        """(address, AD structures): a new token with each minute of the window, a new address with each window at the latest."""
        unix_s = (self._start_wall_ms + at_ms) // 1000
        window, slot = window_of(unix_s), slot_of(unix_s)
        if at_ms >= self._address_until_ms or self._window not in {window, -1}:
            self._renew_address(at_ms)
        if (window, slot) != (self._window, self._slot):
            if window != self._window:
                day_key = derive_day_key(self._ku, self._chain.store_number, day_of(window, self._chain.day_start_s))
                self._subkeys = derive_subkeys(day_key)
            self._window, self._slot = window, slot
            self._data = self._contents(at_ms, whereabouts)
        return self._address, self._data

    def _contents(self, at_ms: int, whereabouts: Whereabouts) -> bytes:
        flags, hint, bucket = self._flags, HINT_NONE, 0
        self._beacon_paths.move(whereabouts.place, whereabouts.heading)
        loudest = self._beacon_paths.loudest()
        if loudest is not None:
            beacon, level_dbm = loudest
            assert beacon.minor is not None
            flags, hint, bucket = flags | FLAG_HINT, beacon.minor, bucket_of_rssi(level_dbm)
        token = seal_token(self._subkeys, self._window, TokenPayload(flags, self._slot, bucket, hint))
        handset, chain = self._handset, self._chain
        shown = ShopperToken(handset.form, token, None if handset.form == "U" else handset.calibrated_dbm)
        structure = shopper.encode(shown, service_uuid16=chain.service_uuid16, company_id=chain.company_id)
        head: tuple[AdStructure, ...] = ()
        if handset.form == "U":
            head = _IOS_HEAD if handset.system == "ios" else _ANDROID_HEAD
        return ad_structures.encode([*head, structure])

    def _renew_address(self, at_ms: int) -> None:
        self._address = private_address(self._rng)
        self._address_until_ms = at_ms + self._rng.randint(540_000, 660_000)
