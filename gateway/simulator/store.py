"""The whole shop: people come and go, everything advertises, receivers hear, and the truth is known.

::

    walk ─▶ where, facing where ─▶ level at each receiver ─┐
    device ─▶ address, bytes, when ────────────────────────┴▶ packet ─▶ scanner ─▶ Heard | lost
"""

import random
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Literal

from gateway.core.model import Consent
from gateway.simulator.beacons import FixedBeacon
from gateway.simulator.bodies import Carriage, Carrying, draw_carrying
from gateway.simulator.devices import Device
from gateway.simulator.floor_plan import FloorPlan, PlacedAnchor, Point
from gateway.simulator.phone import GAIN_DB, Chain, Handset, ShopperPhone, draw_handset
from gateway.simulator.radio import GEOMETRY_MS, Air, Heard, Propagation, RadioPaths
from gateway.simulator.scanning import Scan, Scanner, without_collisions
from gateway.simulator.strangers import KINDS, Stranger
from gateway.simulator.walkers import Walk, WalkKind, Whereabouts, plan_walk

FIRST_NAMES = (
    "Anna", "Bülent", "Chiara", "Dora", "Emre", "Fatou", "Georg", "Hanna", "Ivan", "Jale", "Kofi", "Lena", "Mehmet",
    "Nora", "Oleg", "Paula", "Quentin", "Rosa", "Sven", "Tülay", "Uwe", "Vera", "Wanda", "Xaver", "Yara", "Zoe",
)  # fmt: skip
_FIRST_ARRIVAL_MS = 2_000
_VISIT_SHARE = 0.6
"""A visit should take at most this part of the run, so that some are over before its end even in a short one."""
_STRANGER_AWAY_MS = (1_000, 60_000)
_ABOVE_FLOOR_M = (0.5, 2.0)


@dataclass(frozen=True, slots=True)
class SimulatedShopper:
    """A person who visits the shop once, as the central service would know them."""

    name: str
    """For people who read the demo; the gateway never learns it."""
    ku: bytes = field(repr=False)
    """The app's 32-byte key; without consent it is used for nothing."""
    consent: Consent
    inbox: str
    """Names the app's inbox, unguessable, fit for an MQTT topic level."""
    arrives_ms: int
    leaves_ms: int
    """Simulated milliseconds since the start; ``leaves_ms`` is the first millisecond outside."""

    @property
    def enrolled(self) -> bool:
        """Whether the shopper belongs in the roster; nothing of anybody else's app is on the air."""
        return bool(self.consent)


@dataclass(frozen=True, slots=True)
class TrueStay:
    """The shopper is truly in the zone from ``entered_ms`` (inclusive) to ``left_ms`` (exclusive)."""

    shopper: str
    zone: str
    entered_ms: int
    left_ms: int


class StoreInABox:
    """A shop in which ``shoppers`` people shop once each and ``strangers`` other devices are on the air all the time.

    Everything follows from ``seed``, the shop's own reflections from ``shop_seed`` where it is given; shoppers do not depend on
    how many strangers there are, but for collisions on the air. Shoppers arrive at even distances over ``arrivals_within_ms``
    and, where a visit is not longer than that, leave within it. The second shopper wants statistics but no offers; the fourth
    never consented, so their phone sends what its system sends and no token.

    With ``walk`` everybody walks like that, arriving at even distances however long it takes; with ``consent`` they all consent
    to that, and with ``carriage`` carry their phones so.

    ``start_wall_ms`` is the wall time of simulated millisecond 0; ``store_number`` and ``day_start_s`` are those of the token's
    keys; ``beacon_uuid`` is the 16 bytes of the store's fixed beacons. With ``service_uuid16`` Android phones send form S, else
    with ``company_id`` form M, otherwise everybody sends form U.
    """

    def __init__(  # noqa: PLR0913 -- a shop has this many properties, and each has its name at the call
        self,
        plan: FloorPlan,
        *,
        seed: int,
        shoppers: int,
        strangers: int,
        start_wall_ms: int,
        store_number: int,
        day_start_s: int,
        beacon_uuid: bytes,
        arrivals_within_ms: int,
        service_uuid16: int | None = None,
        company_id: int | None = None,
        propagation: Propagation | None = None,
        scan: Scan | None = None,
        shop_seed: int | None = None,
        walk: WalkKind | None = None,
        consent: Consent | None = None,
        carriage: Carriage | None = None,
    ) -> None:
        if shoppers < 0 or strangers < 0 or arrivals_within_ms <= 0:
            raise ValueError("a shop has 0 or more shoppers and strangers, and some time for them to come")
        self.plan = plan
        self.shop = plan.shop(beacon_uuid)
        self._seed = seed
        self._now_ms = 0
        self._start_wall_ms = start_wall_ms
        self._chain = Chain(store_number, day_start_s, service_uuid16, company_id)
        shop_chance = self._chance("air") if shop_seed is None else random.Random(f"{shop_seed} air")
        self._air = Air(plan, propagation or Propagation(), shop_chance)
        self._scan = scan or Scan()
        self._scanners = {r.name: Scanner(self._scan, self._chance(f"scanner {r.name}")) for r in plan.receivers}
        self._walk, self._consent, self._carriage = walk, consent, carriage
        self._walks: dict[str, Walk] = {}
        self._stays: dict[str, tuple[TrueStay, ...]] = {}
        self._senders: list[_Sender] = []
        self.shoppers: tuple[SimulatedShopper, ...] = tuple(
            self._let_in(index, shoppers, arrivals_within_ms) for index in range(shoppers)
        )
        for beacon in plan.beacons:
            self._mount(beacon, beacon_uuid)
        for index in range(strangers):
            self._add_stranger(index)

    @property
    def now_ms(self) -> int:
        """How far the simulation has come."""
        return self._now_ms

    @property
    def truth(self) -> tuple[TrueStay, ...]:
        """Every stay of every shopper's whole visit, past and future, by the time it begins."""
        stays = [stay for of_shopper in self._stays.values() for stay in of_shopper]
        return tuple(sorted(stays, key=attrgetter("entered_ms", "shopper")))

    def true_zone(self, name: str, at_ms: int) -> str | None:
        """The zone in which the shopper is at that time, ``None`` when in none. Raises ``KeyError`` for an unknown name."""
        stays = self._stays[name]
        index = bisect_right(stays, at_ms, key=attrgetter("entered_ms")) - 1
        return stays[index].zone if index >= 0 and at_ms < stays[index].left_ms else None

    def true_place(self, name: str, at_ms: int) -> Point | None:
        """Where the shopper is at that time, metres; ``None`` outside the shop. Raises ``KeyError`` for an unknown name."""
        whereabouts = self._walks[name].at(at_ms)
        return None if whereabouts is None else whereabouts.place

    def advance(self, until_ms: int) -> list[Heard]:
        """Let time pass up to ``until_ms`` (exclusive); what was heard meanwhile, in the order of time.

        How the time is cut into calls changes nothing. Raises ``ValueError`` when time would run backwards.
        """
        if until_ms < self._now_ms:
            raise ValueError(f"it is {self._now_ms} ms already, and time does not run back to {until_ms}")
        self._now_ms = until_ms
        heard: list[Heard] = []
        for sender in self._senders:
            sender.send(until_ms, heard)
        heard.sort(key=attrgetter("at_ms"))
        scanners = self._scanners
        audible = [advertisement for advertisement in heard if scanners[advertisement.receiver].hears(advertisement.at_ms)]
        return list(without_collisions(audible, self._scan.capture_db))

    def shopper_of(self, heard: Heard) -> SimulatedShopper | None:
        """Truth: whose phone it was; ``None`` for everything else on the air."""
        return self.shoppers[heard.sender] if heard.sender < len(self.shoppers) else None

    def _chance(self, whose: str) -> random.Random:
        """Luck of one's own, so that one more stranger does not change anybody else's day."""
        return random.Random(f"{self._seed} {whose}")

    def _let_in(self, index: int, count: int, within_ms: int) -> SimulatedShopper:
        name = _name(index)
        rng = self._chance(f"shopper {name}")
        ku, inbox = rng.randbytes(32), rng.randbytes(8).hex()
        if self._walk is None:
            walk = _arrange(_fitting_walk(self.plan, rng, within_ms), index, count, within_ms, rng)
        else:
            walk = self._walk(self.plan, rng, round(within_ms * (index + rng.random()) / count))
        self._walks[name] = walk
        self._stays[name] = tuple(TrueStay(name, stay.zone, stay.entered_ms, stay.left_ms) for stay in walk.stays(self.plan))
        consent = _consent(index) if self._consent is None else self._consent
        shopper = SimulatedShopper(name, ku, consent, inbox, walk.arrives_ms, walk.leaves_ms)
        system: Literal["ios", "android"] = "ios" if index % 2 == 0 else "android"
        handset = draw_handset(self._chain, system, rng)
        carrying = draw_carrying(rng, self._carriage)
        paths = RadioPaths(self._air, self.plan.receivers, rng, gain_db=handset.gain_db, carrying=carrying, sender=index)
        device = self._phone(shopper, handset, carrying, rng)
        self._senders.append(_Sender(device, paths, iter([walk]), rng))
        return shopper

    def _phone(self, shopper: SimulatedShopper, handset: Handset, carrying: Carrying, rng: random.Random) -> Device:
        if not shopper.enrolled:
            return Stranger(KINDS[0], rng)
        return ShopperPhone(
            self._chain,
            handset,
            ku=shopper.ku,
            consent=shopper.consent,
            start_wall_ms=self._start_wall_ms,
            beacon_paths=RadioPaths(self._air, self.plan.beacons, rng, gain_db=handset.gain_db, carrying=carrying),
            rng=rng,
        )

    def _mount(self, beacon: PlacedAnchor, uuid: bytes) -> None:
        rng = self._chance(f"beacon {beacon.name}")
        sender = len(self._senders)
        paths = RadioPaths(self._air, self.plan.receivers, rng, height_m=beacon.height_m, sender=sender)
        device = FixedBeacon(beacon, uuid, round(self._air.propagation.level_at_1m_dbm), rng)
        self._senders.append(_Sender(device, paths, None, rng, place=beacon.at))

    def _add_stranger(self, index: int) -> None:
        rng = self._chance(f"stranger {index}")
        kind = KINDS[index % len(KINDS)]
        device = Stranger(kind, rng)
        gain_db, sender = rng.gauss(0, GAIN_DB), len(self._senders)
        if kind.carried:
            paths = RadioPaths(self._air, self.plan.receivers, rng, gain_db=gain_db, carrying=draw_carrying(rng), sender=sender)
            self._senders.append(_Sender(device, paths, _one_after_the_other(self.plan, rng), rng))
        else:
            place, height_m = _anywhere(self.plan, rng), round(rng.uniform(*_ABOVE_FLOOR_M), 1)
            paths = RadioPaths(self._air, self.plan.receivers, rng, gain_db=gain_db, height_m=height_m, sender=sender)
            self._senders.append(_Sender(device, paths, None, rng, place=place))


class _Sender:
    """A device at a place or with somebody who walks, and its paths to the receivers."""

    __slots__ = ("_device", "_geometry", "_next_ms", "_paths", "_rng", "_walk", "_walks", "_whereabouts")

    def __init__(
        self,
        device: Device,
        paths: RadioPaths,
        walks: Iterator[Walk] | None,
        rng: random.Random,
        *,
        place: Point | None = None,
    ) -> None:
        """``walks`` follow each other in time and may be endless; a device with ``None`` stays at ``place``."""
        self._device = device
        self._paths = paths
        self._rng = rng
        self._walks = walks
        self._walk: Walk | None = None
        self._geometry = -1
        self._whereabouts: Whereabouts | None = None
        if place is not None:
            self._whereabouts = Whereabouts(place, 0.0)
            paths.move(*self._whereabouts)
        self._next_ms: int | None = rng.randint(0, device.interval_ms())
        if walks is not None:
            self._take_next_walk()

    def send(self, until_ms: int, heard: list[Heard]) -> None:
        """Everything before ``until_ms``."""
        device, packet = self._device, self._paths.packet
        while self._next_ms is not None and self._next_ms < until_ms:
            at_ms = self._next_ms
            whereabouts = self._locate(at_ms)
            if whereabouts is None:
                self._take_next_walk()
                continue
            address, data = device.advertisement(at_ms, whereabouts)
            packet(address, data, at_ms, heard)
            self._next_ms = at_ms + device.interval_ms()

    def _take_next_walk(self) -> None:
        assert self._walks is not None
        self._walk = next(self._walks, None)
        if self._walk is None:
            self._next_ms = None
            return
        # The run may begin in the middle of a stranger's visit.
        begins_ms = max(0, self._walk.arrives_ms)
        self._device.begin(begins_ms)
        self._next_ms = begins_ms + self._rng.randint(0, self._device.interval_ms())

    def _locate(self, at_ms: int) -> Whereabouts | None:
        """Where the device is, as fresh as levels need it; ``None`` when its carrier has gone."""
        if self._walk is None:
            return self._whereabouts
        if at_ms >= self._walk.leaves_ms:
            self._whereabouts = None
        elif self._whereabouts is None or at_ms // GEOMETRY_MS != self._geometry:
            self._geometry = at_ms // GEOMETRY_MS
            now_at = self._walk.at(at_ms)
            assert now_at is not None
            if now_at != self._whereabouts:
                self._whereabouts = now_at
                self._paths.move(*now_at)
        return self._whereabouts


def _name(index: int) -> str:
    generation, letter = divmod(index, len(FIRST_NAMES))
    return FIRST_NAMES[letter] if generation == 0 else f"{FIRST_NAMES[letter]} {generation + 1}"


def _consent(index: int) -> Consent:
    if index == 1:
        return Consent.ANALYTICS
    return Consent.NONE if index == 3 else Consent.OFFERS | Consent.ANALYTICS


def _fitting_walk(plan: FloorPlan, rng: random.Random, within_ms: int) -> Walk:
    """A visit that begins at 0 and is short enough for the run, or the shortest that was found."""
    walk = plan_walk(plan, rng, 0)
    for stops in (3, 2, 1, 1, 1):
        if walk.leaves_ms <= _VISIT_SHARE * within_ms:
            break
        walk = min(walk, plan_walk(plan, rng, 0, stops=stops), key=attrgetter("leaves_ms"))
    return walk


def _arrange(walk: Walk, index: int, count: int, within_ms: int, rng: random.Random) -> Walk:
    """The visit at its turn: the first at once, the last so that it is just over at the end."""
    latest_ms = max(0, within_ms - walk.leaves_ms)
    if index == 0:
        return walk.later(min(_FIRST_ARRIVAL_MS, latest_ms))
    turn = (index + rng.uniform(-0.3, 0.3)) / (count - 1)
    return walk.later(round(latest_ms * min(1.0, turn)))


def _one_after_the_other(plan: FloorPlan, rng: random.Random) -> Iterator[Walk]:
    """People without end who carry a device of one kind; the first is met in the middle of a visit."""
    walk = plan_walk(plan, rng, 0)
    walk = walk.later(-rng.randrange(walk.leaves_ms))
    while True:
        yield walk
        walk = plan_walk(plan, rng, walk.leaves_ms + rng.randint(*_STRANGER_AWAY_MS))


def _anywhere(plan: FloorPlan, rng: random.Random) -> Point:
    """A place in some zone."""
    area = rng.choice(plan.areas)
    xs, ys = [corner.x for corner in area.polygon], [corner.y for corner in area.polygon]
    return Point(rng.uniform(min(xs), max(xs)), rng.uniform(min(ys), max(ys)))
