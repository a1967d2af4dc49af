"""The shop that is measured, and what its receivers hear: the same seed gives the same advertisements.

60 % are repeats of 200 beacons, 20 % what Apple's devices send, 20 % the rotating tokens of the shoppers, who walk from zone to
zone. Each is heard about twice a second at 20,000 advertisements/s and 2,000 shoppers, by the receivers near its zone.
"""

import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC
from typing import NamedTuple

from gateway.core import ad_structures
from gateway.core.ad_structures import FLAGS, MANUFACTURER_DATA, AdStructure
from gateway.core.frames import ibeacon, shopper
from gateway.core.identity import DayRoster
from gateway.core.model import (
    Anchor,
    ClockQuality,
    Consent,
    IBeacon,
    Instant,
    Promotion,
    RosterEntry,
    Shop,
    ShopperToken,
    TimeWindow,
    Zone,
)
from gateway.core.pipeline import Pipeline, Tuning
from gateway.core.token import (
    FLAG_ANALYTICS,
    FLAG_OFFERS,
    HINT_NONE,
    Subkeys,
    TokenPayload,
    derive_subkeys,
    seal_token,
    slot_of,
    window_of,
)

BEACONS = 200
RECEIVERS = 12
ZONES = 20
BEACON_SHARE, APPLE_SHARE = 0.6, 0.2
_APPLE_DEVICES = 300
_NOISE = 1000
"""Different payloads of Apple's devices, of which each is heard a few times."""
_NEAR_DBM, _NEXT_DBM, _FAR_DBM = -55, -72, -80
_SCATTER_DB = 4


class Heard(NamedTuple):
    """One advertisement."""

    at: Instant
    receiver: str
    address: str
    rssi_dbm: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Scene:
    """How big the shop is and how lively."""

    shoppers: int = 2000
    roster: int = 2000
    promotions: int = 1000
    zones: int = ZONES
    per_s: int = 20_000
    """Advertisements."""
    stay_s: float = 50.0
    """How long a shopper stays in one zone on average."""
    arrive_s: float = 0.0
    """Within how long all have come in; 0: they are there."""
    seed: int = 1


def shop(zones: int = ZONES, exit_delay_ms: int = 120_000) -> Shop:
    """Zones in a row, twelve receivers in the first twelve of them."""
    names = [f"zone-{index}" for index in range(zones)]
    return Shop(
        zones={
            name: Zone(
                name,
                neighbours=frozenset(names[near] for near in (index - 1, index + 1) if 0 <= near < zones),
                exit_delay_ms=exit_delay_ms,
            )
            for index, name in enumerate(names)
        },
        anchors={f"receiver-{index}": Anchor(f"receiver-{index}", "receiver", names[index]) for index in range(RECEIVERS)},
    )


def promotions(count: int, zones: int, *, in_force: float = 0.2) -> list[Promotion]:
    """``count`` offers, spread over the zones; a share is in force and the rest has weekly windows that are closed now."""
    rng = random.Random(count)
    closed = TimeWindow(frozenset({6}), 0, 1)
    found = []
    for index in range(count):
        is_open = rng.random() < in_force
        found.append(
            Promotion(
                promotion_id=f"promotion-{index}",
                kind=rng.choice(("offer", "offer", "offer", "info")),
                zones=frozenset({f"zone-{index % zones}"}),
                tags=frozenset(),
                priority=rng.randrange(100),
                windows=() if is_open else (closed,),
            )
        )
    return found


def roster_entries(count: int, seed: int = 1) -> list[RosterEntry]:
    """Shoppers who have said yes to everything."""
    rng = random.Random(seed)
    return [RosterEntry(rng.randbytes(8), rng.randbytes(16), Consent.OFFERS | Consent.ANALYTICS) for _ in range(count)]


def day_start_s() -> int:
    """A beginning of the store's day that is hours away, so that no measurement meets the change of pseudonyms."""
    return (time.time_ns() // 1_000_000_000 // 3600 * 3600 - 6 * 3600) % 86_400


def pipeline(scene: Scene, now: Instant) -> Pipeline:
    """A pipeline with everything in force."""
    ids = iter(range(1, 1 << 62))
    made = Pipeline(shop(scene.zones), Tuning(time_zone=UTC), lambda: f"{next(ids):016x}", now)
    identity = made.identity
    day = identity.day_at(now.wall_ms)
    made.use_roster(DayRoster(day, 1, roster_entries(scene.roster, scene.seed), identity.windows_around(now.wall_ms, day)))
    made.use_catalogue(made.compile_catalogue(1, promotions(scene.promotions, scene.zones), None, now.wall_ms))
    made.tick(now, ClockQuality.SYNCHRONISED)
    return made


class Air:
    """Makes the trace: who is where, and what is heard of them."""

    def __init__(self, scene: Scene, start: Instant) -> None:
        self._rng = random.Random(scene.seed)
        self._scene = scene
        self._start = start
        rng = self._rng
        self._beacons = [(_address(rng), beacon(rng)) for _ in range(BEACONS)]
        self._apple = [_address(rng) for _ in range(_APPLE_DEVICES)]
        self._noise = [apple(rng) for _ in range(_NOISE)]
        keys = [derive_subkeys(entry.day_key) for entry in roster_entries(scene.roster, scene.seed)[: scene.shoppers]]
        self._walkers = [_Walker(rng, key, scene.stay_s) for key in keys]
        self._receivers = [f"receiver-{index}" for index in range(RECEIVERS)]

    def heard(self, count: int) -> Iterable[Heard]:
        """The next ``count`` advertisements at the scene's pace."""
        rng = self._rng
        for index in range(count):
            at = self._start.plus(index * 1000 // self._scene.per_s)
            kind = rng.random()
            if kind < BEACON_SHARE:
                address, data = rng.choice(self._beacons)
                yield Heard(at, rng.choice(self._receivers), address, rng.randint(-95, -50), data)
            elif kind < BEACON_SHARE + APPLE_SHARE:
                yield Heard(
                    at, rng.choice(self._receivers), rng.choice(self._apple), rng.randint(-95, -50), rng.choice(self._noise)
                )
            else:
                yield self._walkers[rng.randrange(self._present(at))].heard(rng, at, self._receivers)

    def _present(self, at: Instant) -> int:
        came_s = (at.mono_ms - self._start.mono_ms) / 1000
        share = 1.0 if came_s >= self._scene.arrive_s else came_s / self._scene.arrive_s
        return max(1, round(share * len(self._walkers)))


class _Walker:
    """One shopper's phone."""

    def __init__(self, rng: random.Random, keys: Subkeys, stay_s: float) -> None:
        self._keys = keys
        self._stay_s = stay_s
        self._address = _address(rng)
        self._place = rng.randrange(RECEIVERS)
        self._leaves_ms: int | None = None
        self._phase_ms = rng.randrange(60_000)
        self._minute = -1
        self._data = b""

    def heard(self, rng: random.Random, at: Instant, receivers: list[str]) -> Heard:
        if self._leaves_ms is None:
            # As if all had been walking for long: the first leave at once, the last after a whole stay.
            self._leaves_ms = at.mono_ms + round(rng.random() * self._stay_s * 1000)
        elif at.mono_ms >= self._leaves_ms:
            self._place = max(
                0, min(RECEIVERS - 1, self._place + (rng.choice((-1, 1)) if 0 < self._place < RECEIVERS - 1 else 0))
            )
            if self._place == 0:
                self._place = 1
            elif self._place == RECEIVERS - 1:
                self._place = RECEIVERS - 2
            self._leaves_ms = at.mono_ms + round(rng.uniform(0.5, 1.5) * self._stay_s * 1000)
        distance = rng.choices((0, 1, 2), (5, 3, 2))[0]
        place = self._place + rng.choice((-1, 1)) * distance
        if not 0 <= place < len(receivers):
            place, distance = self._place, 0
        dbm = (_NEAR_DBM, _NEXT_DBM, _FAR_DBM)[distance] + round(rng.gauss(0, _SCATTER_DB))
        return Heard(at, receivers[place], self._address, min(-30, dbm), self._token(at))

    def _token(self, at: Instant) -> bytes:
        """Made new once a minute, each phone at another second."""
        wall_ms = at.wall_ms
        minute = (wall_ms + self._phase_ms) // 60_000
        if minute != self._minute:
            self._minute = minute
            payload = TokenPayload(FLAG_OFFERS | FLAG_ANALYTICS, slot_of(wall_ms / 1000), 0, HINT_NONE)
            token = seal_token(self._keys, window_of(wall_ms / 1000), payload)
            self._data = ad_structures.encode([AdStructure(FLAGS, b"\x1a"), shopper.encode(ShopperToken("U", token, None))])
        return self._data


def _address(rng: random.Random) -> str:
    return ":".join(f"{octet:02X}" for octet in rng.randbytes(6))


def beacon(rng: random.Random) -> bytes:
    """An iBeacon's advertisement."""
    frame = IBeacon(rng.randbytes(16), rng.randrange(65536), rng.randrange(65536), -59)
    return ad_structures.encode([AdStructure(FLAGS, b"\x06"), ibeacon.encode(frame)])


def apple(rng: random.Random) -> bytes:
    """Nearby info with and without transmit power, Handoff, AirPods, Find My: types and lengths as those devices send them."""
    flags, power = AdStructure(FLAGS, b"\x1a"), AdStructure(0x0A, b"\x0c")
    kinds = [
        [flags, power, AdStructure(MANUFACTURER_DATA, b"\x4c\x00\x10\x06" + rng.randbytes(6))],
        [flags, AdStructure(MANUFACTURER_DATA, b"\x4c\x00\x10\x05" + rng.randbytes(5))],
        [flags, AdStructure(MANUFACTURER_DATA, b"\x4c\x00\x0c\x0e" + rng.randbytes(14) + b"\x10\x05" + rng.randbytes(5))],
        [AdStructure(MANUFACTURER_DATA, b"\x4c\x00\x07\x19" + rng.randbytes(25))],
        [AdStructure(MANUFACTURER_DATA, b"\x4c\x00\x12\x19" + rng.randbytes(25))],
    ]
    return ad_structures.encode(rng.choice(kinds))
