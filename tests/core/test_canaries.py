"""Canaries: a simulated shop says what must be noticed and by when, hours of noise say what must not be."""

import csv
import gzip
import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache
from operator import itemgetter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import canaries as rules
from gateway.core.canaries import Canaries, forecast
from gateway.core.model import (
    Anchor,
    BeaconHealth,
    CanaryMemory,
    EddystoneTlm,
    HealthChange,
    Instant,
    ReceiverHealth,
    Shop,
    Zone,
)

START = Instant(5_000_000, 1_790_000_000_000)
SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS = 1_000, 60_000, 3_600_000, 86_400_000
STEP_MS = 5_000
SENSITIVITY_DBM = -97
CONFIRMED_MS = rules.CONFIRM_MS + 2 * rules.SLICE_MS + 2 * STEP_MS
"""When a changed pattern must have been told: what confirms it, a slice that was under way, and one that ends."""
_RNG = random.Random(7)
NOISE_DB = [round(_RNG.gauss(0, 4)) for _ in range(65_536)]
ZONES = ("entrance", "dairy", "wine", "office")


def shop_of(beacons: int, receivers: int) -> Shop:
    """Beacons in turn through three zones, receivers too; nothing in the office."""
    anchors = {f"r{n}": Anchor(f"r{n}", "receiver", ZONES[n % 3]) for n in range(receivers)}
    anchors |= {f"b{n}": Anchor(f"b{n}", "beacon", ZONES[n % 3], uuid=bytes(16), major=1, minor=n + 1) for n in range(beacons)}
    return Shop({name: Zone(name) for name in ZONES}, anchors)


@dataclass
class Emitter:
    """A transmitter with some beacon's key: how loud it is at each receiver, and how often it sends."""

    beacon: str
    levels_dbm: dict[str, float]
    hz: float
    address: str | None = None
    shadowed_until_ms: dict[str, int] = field(default_factory=dict)
    shadow_db: dict[str, int] = field(default_factory=dict)
    due: float = 0.0


Packet = tuple[int, int, str, str, str | None]
"""Monotonic milliseconds, dBm, receiver, beacon, address."""


class Air:
    """A shop full of people: packets scatter by 4 dB, one in ten collides, bodies take 6–20 dB for 5–30 s, one link in eight."""

    def __init__(self, beacons: int = 8, receivers: int = 3, hz: float = 1.0, seed: int = 1, shop: Shop | None = None) -> None:
        self.shop = shop or shop_of(beacons, receivers)
        self.rng = random.Random(seed)
        self.now = START
        self.canaries = Canaries(self.shop, START.mono_ms)
        self.receivers = [name for name, anchor in self.shop.anchors.items() if anchor.kind == "receiver"]
        names = [name for name, anchor in self.shop.anchors.items() if anchor.kind == "beacon"]
        self.emitters = [
            Emitter(name, {receiver: self.rng.uniform(-78, -55) for receiver in self.receivers}, hz) for name in names
        ]
        self.deaf: set[str] = set()
        self.offset_db: dict[str, float] = defaultdict(float)
        self.drift_db_per_h: dict[str, float] = {}
        self.bodies = True
        self.collisions = 0.1
        self.strangers: dict[str, int] | None = None
        self.changes: list[HealthChange] = []

    def emitter(self, beacon: str) -> Emitter:
        return next(emitter for emitter in self.emitters if emitter.beacon == beacon)

    def run(self, duration_ms: int) -> list[HealthChange]:
        """Let time pass; returns what was judged differently."""
        found: list[HealthChange] = []
        for _ in range(duration_ms // STEP_MS):
            self.send()
            self.now = self.now.plus(STEP_MS)
            if self.strangers is not None:
                self.strangers = {name: self.now.mono_ms - 100 for name in self.receivers if name not in self.deaf}
            found += self.canaries.tick(self.now, self.strangers)
        self.changes += found
        return found

    def send(self) -> None:
        start_ms, heard = self.now.mono_ms, self.canaries.heard
        packets: list[Packet] = []
        for emitter in self.emitters:
            drift_db = self.drift_db_per_h.get(emitter.beacon)
            emitter.due += emitter.hz * STEP_MS / 1000
            count, emitter.due = int(emitter.due), emitter.due % 1
            for receiver in emitter.levels_dbm:
                if drift_db is not None:
                    emitter.levels_dbm[receiver] += drift_db * STEP_MS / HOUR_MS
                if receiver not in self.deaf:
                    self._receive(emitter, receiver, count, start_ms, packets)
        packets.sort(key=itemgetter(0))
        for at_ms, rssi_dbm, receiver, beacon, address in packets:
            heard(beacon, receiver, rssi_dbm, at_ms, address)

    def _receive(self, emitter: Emitter, receiver: str, count: int, start_ms: int, packets: list[Packet]) -> None:
        level = emitter.levels_dbm[receiver] + self.offset_db[receiver]
        if self.bodies:
            if emitter.shadowed_until_ms.get(receiver, 0) > start_ms:
                level -= emitter.shadow_db[receiver]
            elif self.rng.random() < 0.04:
                emitter.shadowed_until_ms[receiver] = start_ms + self.rng.randrange(5_000, 30_001, 5_000)
                emitter.shadow_db[receiver] = self.rng.randint(6, 20)
        base, place = round(level), self.rng.randrange(60_000)
        lost = int(self.collisions * 1000)
        # Losses need no chance of their own: the place in the table is random.
        for number in range(count):
            rssi_dbm = base + NOISE_DB[(place + number) & 0xFFFF]
            if rssi_dbm >= SENSITIVITY_DBM and (place * 31 + number * 7919) % 1000 >= lost:
                at_ms = start_ms + (2 * number + 1) * STEP_MS // (2 * count)
                packets.append((at_ms, rssi_dbm, receiver, emitter.beacon, emitter.address))

    def beacon(self, name: str) -> BeaconHealth:
        return next(beacon for beacon in self.canaries.health().beacons if beacon.name == name)

    def receiver(self, name: str) -> ReceiverHealth:
        return next(receiver for receiver in self.canaries.health().receivers if receiver.name == name)


@cache
def _learnt(beacons: int, receivers: int, hz: float, seed: int) -> Air:
    air = Air(beacons, receivers, hz, seed)
    # A place for each kind of link: near, usual, at the edge.
    air.emitter("b1").levels_dbm.update(dict.fromkeys(air.receivers, -88.0))
    if beacons > 2:
        air.emitter("b2").levels_dbm.update(dict.fromkeys(air.receivers, -94.0))
    air.run(40 * MINUTE_MS + seed * 15_000)
    return air


def learnt(beacons: int = 8, receivers: int = 3, hz: float = 1.0, seed: int = 0) -> Air:
    """A shop whose beacons have been learnt."""
    return deepcopy(_learnt(beacons, receivers, hz, seed))


def told(changes: Iterable[HealthChange]) -> list[tuple[str, str]]:
    return [(change.name, change.state) for change in changes]


# ---- learning -----------------------------------------------------------------------------------------------------------------


def test_half_an_hour_is_enough_to_learn_and_nothing_is_wrong_then() -> None:
    air = learnt()
    assert {(change.subject, change.state) for change in air.changes} == {("receiver", "hearing"), ("beacon", "ok")}
    assert {beacon.state for beacon in air.canaries.health().beacons} == {"ok"}
    link = air.beacon("b0").links[0]
    true_dbm = air.emitter("b0").levels_dbm[link.receiver]
    assert link.baseline_dbm is not None
    assert -1 < link.baseline_dbm - true_dbm < 4, "the upper ranks lie a little above the mean"
    assert link.usual_rate_hz == pytest.approx(0.9, abs=0.1)


def test_a_beacon_that_is_carried_about_is_not_learnt_where_it_happens_to_be() -> None:
    air = Air(4, 2)
    for minute in range(40):
        air.emitter("b0").levels_dbm.update(dict.fromkeys(air.receivers, -50.0 - 30 * (minute % 2)))
        air.run(MINUTE_MS)
    assert air.beacon("b0").state == "learning"
    assert air.beacon("b3").state == "ok"


def test_strangers_and_wild_levels_leave_no_trace() -> None:
    canaries = Canaries(shop_of(1, 1), START.mono_ms)
    canaries.heard("nobody", "r0", -60, START.mono_ms, "stranger")
    assert canaries.addresses.get("stranger") is None
    for rssi_dbm in (-400, -128, 20, 42, 127, 5_000):
        canaries.heard("b0", "r0", rssi_dbm, START.mono_ms)
    canaries.tick(START.plus(MINUTE_MS))
    [link] = canaries.health().beacons[0].links
    assert link.level_dbm is None


# ---- faults: what is told, and by when ----------------------------------------------------------------------------------------


@dataclass
class Fault:
    """Something happens in the shop: what must be told, by when, and nothing else."""

    act: Callable[[Air], None]
    told: tuple[str, str]
    within_ms: int
    beacons: int = 8
    receivers: int = 3
    hz: float = 1.0
    seed: int = 0


def silence(*beacons: str) -> Callable[[Air], None]:
    def act(air: Air) -> None:
        for beacon in beacons:
            air.emitter(beacon).hz = 0.0

    return act


def change(beacon: str, *by_db: float) -> Callable[[Air], None]:
    """The beacon's levels change, receiver by receiver."""

    def act(air: Air) -> None:
        levels = air.emitter(beacon).levels_dbm
        for receiver, db in zip(air.receivers, by_db, strict=True):
            levels[receiver] += db

    return act


def clone(beacon: str, hz: float, *levels_dbm: float, addresses: tuple[str, str] | None = None) -> Callable[[Air], None]:
    """A second transmitter with the beacon's key; without levels it stands beside the first."""

    def act(air: Air) -> None:
        first = air.emitter(beacon)
        levels = dict(zip(air.receivers, levels_dbm, strict=True)) if levels_dbm else dict(first.levels_dbm)
        second = Emitter(beacon, levels, hz)
        if addresses is not None:
            first.address, second.address = addresses
        air.emitters.append(second)

    return act


def deafen(*receivers: str) -> Callable[[Air], None]:
    return lambda air: air.deaf.update(receivers)


def shift(receiver: str, db: float) -> Callable[[Air], None]:
    return lambda air: air.offset_db.update({receiver: db})


def let_strangers_pass(then: Callable[[Air], None]) -> Callable[[Air], None]:
    def act(air: Air) -> None:
        air.strangers = {}
        then(air)

    return act


ALL = tuple(f"b{n}" for n in range(8))

FAULTS = {
    "a battery is empty": Fault(silence("b0"), ("b0", "silent"), 95_000),
    "a battery is empty where the beacon is hardly heard": Fault(silence("b1"), ("b1", "silent"), 310_000),
    "a battery is empty, one receiver": Fault(silence("b0"), ("b0", "silent"), 95_000, receivers=1),
    "a battery is empty, ten packets a second": Fault(silence("b0"), ("b0", "silent"), 95_000, hz=10.0, beacons=4),
    "the only beacon is empty, and strangers are heard": Fault(
        let_strangers_pass(silence("b0")), ("b0", "silent"), 95_000, beacons=2
    ),
    "a radio goes deaf": Fault(deafen("r0"), ("r0", "deaf"), 70_000),
    "the only radio goes deaf": Fault(deafen("r0"), ("r0", "deaf"), 70_000, receivers=1),
    "a radio goes deaf, told by strangers too": Fault(let_strangers_pass(deafen("r1")), ("r1", "deaf"), 70_000),
    "the antenna falls off": Fault(let_strangers_pass(silence(*ALL)), ("r0", "impaired"), 70_000, receivers=1),
    "a receiver is put into a cupboard": Fault(shift("r1", -10), ("r1", "impaired"), CONFIRMED_MS),
    "a receiver is put into a cupboard, with beacons at its edge": Fault(
        shift("r1", -10), ("r1", "impaired"), CONFIRMED_MS, seed=6
    ),
    "the antenna falls off, with beacons at its edge": Fault(
        let_strangers_pass(silence(*ALL)), ("r0", "impaired"), 70_000, receivers=1, seed=8
    ),
    "goods in front, 6 dB": Fault(change("b0", -6, -6, -6), ("b0", "covered"), CONFIRMED_MS + 8 * MINUTE_MS),
    "goods in front, 10 dB": Fault(change("b0", -10, -10, -10), ("b0", "covered"), CONFIRMED_MS),
    "goods in front, 20 dB": Fault(change("b0", -20, -20, -20), ("b0", "covered"), CONFIRMED_MS),
    "goods in front, of unequal height": Fault(change("b0", -7, -20, -12), ("b0", "covered"), CONFIRMED_MS),
    "goods in front, one receiver": Fault(change("b0", -10), ("b0", "covered"), CONFIRMED_MS, receivers=1),
    "goods in front, ten packets a second": Fault(
        change("b0", -6, -6, -6), ("b0", "covered"), CONFIRMED_MS + 2 * MINUTE_MS, hz=10.0, beacons=5
    ),
    "goods in front, a packet in five seconds": Fault(
        change("b0", -12, -12, -12), ("b0", "covered"), CONFIRMED_MS + 3 * MINUTE_MS, hz=0.2
    ),
    "carried to another aisle": Fault(change("b0", -12, 10, 0), ("b0", "moved"), CONFIRMED_MS),
    "carried out of reach of one receiver": Fault(change("b0", -60, 10, 0), ("b0", "moved"), CONFIRMED_MS),
    "carried towards one receiver": Fault(change("b0", 12, 0, 0), ("b0", "moved"), CONFIRMED_MS),
    "carried nearer, one receiver": Fault(change("b0", 12), ("b0", "moved"), CONFIRMED_MS + MINUTE_MS, receivers=1),
    "a beacon at the edge is hardly heard any more": Fault(
        change("b2", -5, -5, -5), ("b2", "weak"), CONFIRMED_MS + 10 * MINUTE_MS, hz=5.0, beacons=6
    ),
    "a copy beside it": Fault(clone("b0", 1.0), ("b0", "cloned"), CONFIRMED_MS),
    "a copy elsewhere": Fault(clone("b0", 1.0, -90, -52, -80), ("b0", "cloned"), CONFIRMED_MS),
    "a copy that sends half as often": Fault(clone("b0", 0.5, -40, -40, -40), ("b0", "cloned"), CONFIRMED_MS),
    "a copy with an address of its own": Fault(clone("b0", 0.5, -60, -70, -66, addresses=("a", "b")), ("b0", "cloned"), 80_000),
}


def detect(fault: Fault) -> tuple[Air, int | None, list[tuple[str, str]]]:
    """The shop after the fault, how long it took until it was told, and everything that was told until a while after."""
    air = learnt(fault.beacons, fault.receivers, fault.hz, fault.seed)
    fault.act(air)
    begun_ms = air.now.mono_ms
    found = air.run(fault.within_ms + 20 * MINUTE_MS)
    times = [change.at.mono_ms - begun_ms for change in found if (change.name, change.state) == fault.told]
    return air, min(times, default=None), told(found)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_told_in_time_and_nothing_else_is(fault: Fault) -> None:
    _, took_ms, everything = detect(fault)
    assert took_ms is not None, everything
    assert everything == [fault.told]
    assert took_ms <= fault.within_ms


@pytest.mark.slow
def test_a_beacon_that_sinks_slowly_is_weak_and_not_covered() -> None:
    air = learnt(2, 2, 0.2)
    air.drift_db_per_h = {"b0": -0.3}
    changes = air.run(37 * HOUR_MS)
    assert told(changes) == [("b0", "weak")]
    hours = (changes[0].at.mono_ms - START.mono_ms) / HOUR_MS - 40 / 60
    assert rules.SANK_DB - 1 <= 0.3 * hours <= rules.SANK_DB + 3, "at a packet in 5 s the baseline follows behind"


# ---- what is no fault ---------------------------------------------------------------------------------------------------------


def crowd(air: Air) -> None:
    for receiver in air.receivers:
        air.offset_db[receiver] = -4.0
    air.collisions = 0.35


def pallet(air: Air) -> None:
    air.emitter("b0").levels_dbm["r1"] -= 15


def more_power(air: Air) -> None:
    change("b0", 6, 6, 6)(air)


def stall(air: Air) -> None:
    air.now = air.now.plus(10 * MINUTE_MS)


NO_FAULTS: dict[str, Callable[[Air], None]] = {
    "an empty shop": lambda air: setattr(air, "bodies", False),
    "a full shop": crowd,
    "a pallet between one receiver and a beacon": pallet,
    "a new battery": more_power,
    "the process stood still for ten minutes": stall,
    "a shop that nobody enters": lambda air: setattr(air, "strangers", {}),
}


@pytest.mark.parametrize("act", NO_FAULTS.values(), ids=NO_FAULTS)
def test_what_is_no_fault_is_not_told(act: Callable[[Air], None]) -> None:
    air = learnt()
    act(air)
    assert told(air.run(30 * MINUTE_MS)) == []


def test_what_stays_for_six_hours_and_is_no_fault_becomes_usual() -> None:
    air = learnt(4, 3, 0.5)
    pallet(air)
    assert told(air.run(7 * HOUR_MS)) == []
    link = air.beacon("b0").links[1]
    assert link.baseline_dbm == pytest.approx(link.level_dbm, abs=3)


def test_a_radio_that_changes_its_address_is_no_clone() -> None:
    air = learnt()
    for number in range(40):
        air.emitter("b0").address = f"address {number}"
        assert told(air.run(MINUTE_MS)) == []


def test_reports_that_come_late_around_a_change_of_address_are_no_clone() -> None:
    air = learnt(4, 1)
    canaries, at_ms = air.canaries, air.now.mono_ms
    for number in range(200):
        canaries.heard("b0", "r0", -60, at_ms + number * 50, f"address {number % 2}")
    assert told(air.run(MINUTE_MS)) == []


@pytest.mark.parametrize(
    ("beacons", "receivers", "hz", "hours"),
    [(10, 4, 1.0, 2), pytest.param(40, 4, 1.0, 10, marks=[pytest.mark.slow, pytest.mark.timeout(300)])],
)
def test_hours_of_people_in_the_way_raise_no_alarm(beacons: int, receivers: int, hz: float, hours: int) -> None:
    air = Air(beacons, receivers, hz, seed=11)
    air.run(40 * MINUTE_MS)
    assert {beacon.state for beacon in air.canaries.health().beacons} == {"ok"}
    assert told(air.run(hours * HOUR_MS)) == []


# ---- getting well -------------------------------------------------------------------------------------------------------------


def test_a_covered_beacon_is_well_again_when_uncovered_and_its_baseline_stood_still() -> None:
    air = learnt(beacons=5)
    usual_dbm = [link.baseline_dbm for link in air.beacon("b0").links]
    change("b0", -12, -12, -12)(air)
    assert told(air.run(5 * HOUR_MS)) == [("b0", "covered")]
    assert [link.baseline_dbm for link in air.beacon("b0").links] == pytest.approx(usual_dbm, abs=0.15)
    change("b0", 12, 12, 12)(air)
    changes = air.run(10 * MINUTE_MS)
    assert told(changes) == [("b0", "ok")]


def test_a_silent_beacon_is_well_half_a_minute_after_it_is_heard_again_but_not_by_a_single_packet() -> None:
    air = learnt()
    silence("b0")(air)
    air.run(3 * MINUTE_MS)
    assert air.beacon("b0").state == "silent"
    air.canaries.heard("b0", "r0", -60, air.now.mono_ms)
    assert told(air.run(3 * MINUTE_MS)) == []
    air.emitter("b0").hz = 1.0
    begun_ms = air.now.mono_ms
    [well] = air.run(2 * MINUTE_MS)
    assert (well.name, well.state, well.before) == ("b0", "ok", "silent")
    assert well.at.mono_ms - begun_ms <= 45_000


def test_a_silent_beacon_that_comes_back_elsewhere_has_moved() -> None:
    air = learnt()
    silence("b0")(air)
    air.run(3 * MINUTE_MS)
    air.emitter("b0").hz = 1.0
    change("b0", 15, -15, 0)(air)
    assert told(air.run(20 * MINUTE_MS)) == [("b0", "ok"), ("b0", "moved")]


def test_a_deaf_radio_hears_again_with_the_first_packet_and_no_beacon_was_blamed() -> None:
    air = learnt()
    air.deaf = set(air.receivers)
    assert told(air.run(20 * MINUTE_MS)) == [(name, "deaf") for name in air.receivers]
    air.deaf.clear()
    begun_ms = air.now.mono_ms
    changes = air.run(10 * MINUTE_MS)
    assert told(changes) == [(name, "hearing") for name in air.receivers]
    assert {change.at.mono_ms - begun_ms for change in changes} == {STEP_MS}


def test_the_technician_may_say_that_a_moved_beacon_is_right_where_it_is() -> None:
    air = learnt()
    change("b0", -12, 10, 0)(air)
    air.run(CONFIRMED_MS)
    assert air.beacon("b0").state == "moved"
    air.canaries.relearn("b0")
    assert told(air.run(40 * MINUTE_MS)) == [("b0", "ok")]
    with pytest.raises(KeyError):
        air.canaries.relearn("nobody")


# ---- zones --------------------------------------------------------------------------------------------------------------------


def test_a_zone_is_blind_while_all_its_receivers_are_deaf_and_its_beacons_cannot_be_heard() -> None:
    air = learnt()
    assert air.canaries.blind_zones == frozenset()
    air.deaf = {"r0"}
    air.run(2 * MINUTE_MS)
    assert air.canaries.blind_zones == frozenset(), "other receivers still hear the beacons of the entrance"
    air.deaf = set(air.receivers)
    air.run(2 * MINUTE_MS)
    assert air.canaries.blind_zones == {"entrance", "dairy", "wine"}, "the office has no anchor that could fail"
    air.deaf.clear()
    air.run(STEP_MS)
    assert air.canaries.blind_zones == frozenset()


def test_a_zone_is_blind_when_its_only_anchors_are_silent_beacons() -> None:
    air = learnt(8, 1)
    silence("b1", "b4")(air)
    air.run(2 * MINUTE_MS)
    assert air.canaries.blind_zones == frozenset(), "one is left that sends"
    silence("b7")(air)
    air.run(6 * MINUTE_MS)
    assert air.canaries.blind_zones == {"dairy"}


def test_receivers_known_to_be_down_are_deaf_at_once_until_they_are_heard_of() -> None:
    air = learnt(8, 2)
    air.deaf = {"r0", "r1"}
    air.now = air.now.plus(STEP_MS)
    assert told(air.canaries.tick(air.now, None, {"r0", "r1"})) == [("r0", "deaf"), ("r1", "deaf")]
    assert air.canaries.blind_zones == {"entrance", "dairy", "wine"}
    assert told(air.run(30 * SECOND_MS)) == [], "no longer said to be down, but nothing was heard either"
    air.deaf.clear()
    assert told(air.run(STEP_MS)) == [("r0", "hearing"), ("r1", "hearing")]


def test_a_receiver_without_canaries_is_unknown() -> None:
    canaries = Canaries(shop_of(2, 1), START.mono_ms)
    canaries.heard("b0", "r0", -60, START.mono_ms)
    now = START
    for _ in range(100):
        now = now.plus(STEP_MS)
        assert canaries.tick(now) == []
    assert [receiver.hearing for receiver in canaries.health().receivers] == ["unknown"]


# ---- the shop changes, the process restarts -----------------------------------------------------------------------------------


def test_what_the_shop_file_changes_is_learnt_anew_and_what_it_drops_is_forgotten() -> None:
    air = learnt(4, 2)
    air.canaries.heard("b1", "r0", -88, air.now.mono_ms, "address of b1")
    anchors = dict(air.shop.anchors)
    anchors["b0"] = replace(anchors["b0"], zone="wine")
    del anchors["b1"]
    anchors["r1"] = replace(anchors["r1"], zone="wine")
    air.canaries.use(Shop(air.shop.zones, anchors))
    states = {beacon.name: beacon.state for beacon in air.canaries.health().beacons}
    assert states == {"b0": "learning", "b2": "ok", "b3": "ok"}
    assert air.canaries.addresses.get("address of b1") is None
    assert [link.receiver for link in air.beacon("b3").links] == ["r0"]
    assert [receiver.name for receiver in air.canaries.health().receivers] == ["r0"]


def test_a_beacon_that_moved_while_the_gateway_was_off_is_found_after_the_restart() -> None:
    air = learnt(8, 3)
    memory = air.canaries.memory(air.now)
    air.now = Instant(1_000, air.now.wall_ms + 10 * HOUR_MS)
    for emitter in air.emitters:
        emitter.shadowed_until_ms.clear()
    air.canaries = Canaries(air.shop, air.now.mono_ms)
    air.canaries.remember(memory, air.now)
    change("b0", -12, 10, 0)(air)
    silence("b3")(air)
    found = told(air.run(CONFIRMED_MS + 2 * MINUTE_MS))
    assert [one for one in found if one[1] not in ("ok", "hearing")] == [("b3", "silent"), ("b0", "moved")]
    assert air.canaries.memory(air.now).baselines[0].beacon == "b0"


def test_a_radio_that_is_deaf_from_the_start_is_found_by_what_was_remembered() -> None:
    air = learnt(8, 3)
    memory = air.canaries.memory(air.now)
    air.canaries = Canaries(air.shop, air.now.mono_ms)
    air.canaries.remember(memory, air.now)
    air.deaf = {"r0"}
    found = air.run(2 * MINUTE_MS)
    assert [(one.name, one.state) for one in found if one.subject == "receiver" and one.state == "deaf"] == [("r0", "deaf")]


# ---- telemetry ----------------------------------------------------------------------------------------------------------------


def tlm(advertisements: int, uptime_ms: int, battery_mv: int | None = 3000, temperature_c: float | None = 21.5) -> EddystoneTlm:
    return EddystoneTlm(battery_mv, temperature_c, advertisements % 2**32, uptime_ms)


def test_telemetry_is_known_by_the_address_of_a_registered_beacon_only() -> None:
    canaries = Canaries(shop_of(2, 1), START.mono_ms)
    canaries.heard("b0", "r0", -60, START.mono_ms, "first")
    canaries.heard("b1", "r0", -60, START.mono_ms, "second")
    assert (canaries.addresses.get("first"), canaries.addresses.get("second"), canaries.addresses.get("third")) == (
        "b0",
        "b1",
        None,
    )
    for number in range(10):
        canaries.heard("b0", "r0", -60, START.mono_ms, f"new {number}")
    assert canaries.addresses.get("first") is None
    assert sum(canaries.addresses.get(f"new {number}") == "b0" for number in range(10)) == rules.ADDRESSES


@pytest.mark.parametrize("first", [0, 2**32 - 150], ids=["from zero", "over the end of the counter"])
@pytest.mark.parametrize("heard_of_ten", [10, 7, 3])
def test_the_true_loss_comes_from_the_beacons_own_counter(first: int, heard_of_ten: int) -> None:
    canaries = Canaries(shop_of(1, 1), START.mono_ms)
    at_ms, sent = START.mono_ms, first
    for _ in range(60):
        for number in range(9):
            at_ms += 100
            sent += 1
            if number < heard_of_ten - 1:
                canaries.heard("b0", "r0", -60, at_ms)
        at_ms += 100
        sent += 1
        canaries.telemetry("b0", tlm(sent, at_ms), "r0", at_ms)
    [link] = canaries.health().beacons[0].links
    assert link.loss == pytest.approx(1 - heard_of_ten / 10, abs=0.01)


def test_a_beacon_that_counts_fewer_than_are_heard_has_no_loss() -> None:
    canaries = Canaries(shop_of(1, 1), START.mono_ms)
    at_ms = START.mono_ms
    for number in range(100):
        for _ in range(10):
            at_ms += 100
            canaries.heard("b0", "r0", -60, at_ms)
        canaries.telemetry("b0", tlm(5 * number, at_ms), "r0", at_ms)
    assert canaries.health().beacons[0].links[0].loss is None


def test_other_frames_of_the_beacon_count_for_the_loss() -> None:
    canaries = Canaries(shop_of(1, 1), START.mono_ms)
    at_ms = START.mono_ms
    canaries.heard("b0", "r0", -60, at_ms, "address")
    for number in range(100):
        at_ms += 1000
        canaries.heard("b0", "r0", -60, at_ms)
        canaries.also_heard("b0", "r0", at_ms)
        canaries.telemetry("b0", tlm(3 * number, at_ms), "r0", at_ms)
    assert canaries.health().beacons[0].links[0].loss == 0


def test_reboots_are_counted_by_the_uptime_and_late_reports_are_none() -> None:
    canaries = Canaries(shop_of(1, 2), START.mono_ms)
    at_ms, uptime_ms = START.mono_ms, 500_000
    for number in range(100):
        at_ms += 10_000
        uptime_ms = 4_000 if number in (30, 60) else uptime_ms + 10_000
        canaries.telemetry("b0", tlm(number, uptime_ms), "r0", at_ms)
        if number % 7 == 0 and uptime_ms > 60_000:
            canaries.telemetry("b0", tlm(number - 5, uptime_ms - 50_000), "r1", at_ms)
    [beacon] = canaries.health().beacons
    assert beacon.reboots == 2
    assert beacon.uptime_ms == uptime_ms
    assert beacon.state == "learning"


def test_counters_that_go_back_and_forth_are_two_transmitters() -> None:
    air = learnt(4, 2)
    begun_ms = air.now.mono_ms
    found: list[HealthChange] = []
    for number in range(30):
        uptime_ms = (9_000_000 if number % 2 else 2_000_000) + number * 10_000
        air.canaries.telemetry("b0", tlm(number, uptime_ms), "r0", air.now.mono_ms)
        found += [change for change in air.run(10 * SECOND_MS) if change.subject == "beacon"]
    assert told(found) == [("b0", "cloned")]
    assert found[0].at.mono_ms - begun_ms <= 80_000
    assert told(air.run(17 * MINUTE_MS)) == [("b0", "ok")]


def test_a_swapped_beacon_is_no_clone() -> None:
    air = learnt(4, 2)
    for number in range(120):
        uptime_ms = (9_000_000 if number < 60 else 2_000_000) + number * 10_000
        air.emitter("b0").address = "old" if number < 60 else "new"
        air.canaries.telemetry("b0", tlm(number, uptime_ms), "r0", air.now.mono_ms)
        assert [change for change in air.run(10 * SECOND_MS) if change.subject != "battery"] == []


# ---- batteries ----------------------------------------------------------------------------------------------------------------


def days(*millivolts: float) -> list[tuple[int, float]]:
    return [(day * DAY_MS, mv) for day, mv in enumerate(millivolts)]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        (days(*(2900 - 10 * day for day in range(31))), (20, 40)),
        (days(*(2900 - 10 * day + (-40 if day % 6 == 3 else 0) for day in range(31))), (20, 40)),
        (days(*(2450 - 10 * day for day in range(20))), (0, 6)),
    ],
    ids=["a straight decline", "a straight decline with cold nights", "lower than low already"],
)
def test_a_plain_decline_has_a_forecast(points: list[tuple[int, float]], expected: tuple[int, int]) -> None:
    found = forecast(points)
    assert found is not None
    assert found == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(
    "points",
    [
        [],
        days(2900),
        days(*(2900 - 20 * day for day in range(6))),
        days(*(3000 for _ in range(60))),
        days(*(3000 + day for day in range(60))),
        days(*(2990 - 0.4 * day for day in range(60))),
        days(*(2900 - 3 * day + 60 * (day % 2) for day in range(30))),
        days(*(2990 - 4 * day for day in range(20))),
        days(*(5000 - 10 * day for day in range(30))),
        days(*(1500 - 10 * day for day in range(30))),
    ],
    ids=[
        "none",
        "one",
        "too few",
        "constant",
        "rising",
        "within noise",
        "scattered",
        "too far away",
        "five volts",
        "no coin cell",
    ],
)
def test_what_is_not_plain_has_no_forecast(points: list[tuple[int, float]]) -> None:
    assert forecast(points) is None


@given(st.lists(st.tuples(st.integers(0, 400 * DAY_MS), st.integers(1, 65_535)), max_size=64))
@settings(max_examples=200)
def test_no_points_make_a_wild_forecast(points: list[tuple[int, int]]) -> None:
    found = forecast([(at_ms, float(mv)) for at_ms, mv in sorted(points)])
    if found is not None:
        earliest, latest = found
        assert 0 <= earliest <= latest
        assert earliest <= 800


def feed_battery(
    canaries: Canaries, now: Instant, millivolts: Callable[[float], float], for_days: int
) -> tuple[Instant, list[HealthChange]]:
    """A telemetry frame per hour."""
    changes: list[HealthChange] = []
    for hour in range(24 * for_days):
        now = now.plus(HOUR_MS)
        canaries.heard("b0", "r0", -60, now.mono_ms)
        canaries.telemetry("b0", tlm(hour * 36_000, hour * HOUR_MS, round(millivolts(hour / 24))), "r0", now.mono_ms)
        changes += [change for change in canaries.tick(now) if change.subject == "battery"]
    return now, changes


def test_a_battery_is_low_a_month_before_its_end_also_across_a_restart_and_well_when_it_is_new() -> None:
    shop = shop_of(1, 1)
    canaries = Canaries(shop, START.mono_ms)
    now, changes = feed_battery(canaries, START, lambda day: 2950 - 8 * day, 20)
    assert [change.state for change in changes] == ["ok"]
    memory = canaries.memory(now)
    now = Instant(77, now.wall_ms + HOUR_MS)
    canaries = Canaries(shop, now.mono_ms)
    canaries.remember(memory, now)
    now, changes = feed_battery(canaries, now, lambda day: 2790 - 8 * day, 25)
    assert [change.state for change in changes] == ["ok", "low"]
    low_at_mv = 2790 - 8 * (changes[1].at.mono_ms - 77) / DAY_MS
    assert 2400 + 8 * 25 <= low_at_mv <= 2400 + 8 * 32, "about thirty days before 2.4 V"
    health = canaries.health().beacons[0].battery
    assert health.days_left is not None
    assert health.temperature_c == 21.5
    now, changes = feed_battery(canaries, now, lambda _: 3050, 3)
    assert [(change.state, change.before) for change in changes] == [("ok", "low")]


def test_battery_points_of_the_future_are_not_remembered() -> None:
    canaries = Canaries(shop_of(1, 1), START.mono_ms)
    now, _ = feed_battery(canaries, START, lambda day: 2950 - 8 * day, 20)
    memory = canaries.memory(now)
    assert len(memory.batteries) == 19
    early = Canaries(shop_of(1, 1), 0)
    early.remember(memory, Instant(0, 0))
    assert early.memory(Instant(0, 0)).batteries == ()
    assert early.memory(Instant(0, 0)).baselines == memory.baselines


def test_a_percentage_is_low_and_well_again_with_a_gap_between() -> None:
    canaries, now = Canaries(shop_of(1, 1), START.mono_ms), START
    states = []
    for percent in (80, 16, 15, 20, 24, 25, 15):
        now = now.plus(STEP_MS)
        canaries.battery("b0", now.mono_ms, percent=percent)
        states += [change.state for change in canaries.tick(now)]
    assert states == ["ok", "low", "ok", "low"]


# ---- properties ---------------------------------------------------------------------------------------------------------------

names = st.sampled_from(["b0", "b1", "b2", "stranger"])
receivers = st.sampled_from(["r0", "r1", "not registered"])
reports = st.lists(st.tuples(names, receivers, st.integers(-130, 30), st.integers(0, STEP_MS - 1)), max_size=60)


@given(st.lists(reports, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_the_order_of_reports_within_a_tick_changes_no_level_no_rate_and_no_silence(
    ticks: list[list[tuple[str, str, int, int]]], rng: random.Random
) -> None:
    shop, now = shop_of(3, 2), START
    one, other = Canaries(shop, START.mono_ms), Canaries(shop, START.mono_ms)
    for batch in ticks:
        shuffled = rng.sample(batch, len(batch))
        for canaries, order in ((one, batch), (other, shuffled)):
            for beacon, receiver, rssi_dbm, after_ms in order:
                canaries.heard(beacon, receiver, rssi_dbm, now.mono_ms + after_ms)
        now = now.plus(6 * STEP_MS if rng.random() < 0.2 else STEP_MS)
        assert [replace(found, first_sign_ms=0) for found in one.tick(now)] == [
            replace(found, first_sign_ms=0) for found in other.tick(now)
        ]
    # The first report of a link starts its slice, so that its rate may differ by the part of one tick.
    assert [_without_rates(beacon) for beacon in one.health().beacons] == [
        _without_rates(beacon) for beacon in other.health().beacons
    ]


def _without_rates(beacon: BeaconHealth) -> BeaconHealth:
    return replace(beacon, links=tuple(replace(link, rate_hz=None, usual_rate_hz=None) for link in beacon.links))


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
@settings(max_examples=100)
def test_any_counters_keep_the_loss_a_share(a: int, b: int, c: int, d: int) -> None:
    canaries = Canaries(shop_of(1, 1), START.mono_ms)
    at_ms = START.mono_ms
    for advertisements, uptime in ((a, b), (c, d), (b, a), (d, c), (a, d), (c, b)):
        at_ms += 1000
        canaries.heard("b0", "r0", -60, at_ms)
        canaries.telemetry("b0", tlm(advertisements, 100 * uptime), "r0", at_ms)
    loss = canaries.health().beacons[0].links[0].loss
    assert loss is None or 0 <= loss <= 1


def test_the_wall_clock_may_jump_without_effect() -> None:
    steady, jumping = learnt(4, 2), learnt(4, 2)
    for minute in range(30):
        jumping.now = Instant(jumping.now.mono_ms, (minute % 3) * 10**12)
        steady.run(MINUTE_MS)
        jumping.run(MINUTE_MS)
    assert steady.canaries.health() == jumping.canaries.health()
    assert told(steady.changes) == told(jumping.changes)


def _size(thing: object, seen: set[int]) -> int:
    """Things reachable from one of ours: containers' members, and octets."""
    if id(thing) in seen:
        return 0
    seen.add(id(thing))
    if isinstance(thing, dict):
        return sum(_size(key, seen) + _size(value, seen) for key, value in thing.items()) + 1
    if isinstance(thing, bytearray):
        return len(thing)
    if not isinstance(thing, str) and isinstance(thing, Iterable):
        return sum(_size(member, seen) for member in thing) + 1
    slots = getattr(type(thing), "__slots__", ())
    inside = [getattr(thing, slot) for slot in slots] + list(getattr(thing, "__dict__", {}).values())
    return sum(_size(member, seen) for member in inside) + 1


def test_a_flood_and_many_receivers_and_addresses_stay_bounded() -> None:
    canaries = Canaries(shop_of(3, 1), START.mono_ms)
    now = START
    for receiver in range(200):
        canaries.heard("b0", f"receiver {receiver}", -60, now.mono_ms)
    assert len(canaries.health().receivers) == rules.MAX_RECEIVERS
    sizes = []
    for _ in range(4):
        for number in range(20_000):
            canaries.heard("b1", "receiver 1", -60 - number % 30, now.mono_ms + number, f"address {number}")
            if number % 1000 == 0:
                canaries.telemetry("b1", tlm(number * 7919, number * 100_003), "receiver 1", now.mono_ms + number)
        now = now.plus(20_000)
        canaries.tick(now)
        sizes.append(_size(canaries, set()))
    assert max(sizes) < 2 * rules.SLICE_ROOM + 10_000
    assert sum(canaries.addresses.get(f"address {number}") is not None for number in range(20_000)) == rules.ADDRESSES


def test_nothing_grows_with_the_hours() -> None:
    air = learnt(6, 2, 0.5)
    air.run(HOUR_MS)
    before = _size(air.canaries, set())
    air.run(3 * HOUR_MS)
    assert _size(air.canaries, set()) <= 1.05 * before + 200


def test_an_empty_memory_changes_nothing() -> None:
    canaries = Canaries(shop_of(2, 1), START.mono_ms)
    before = canaries.health()
    canaries.remember(CanaryMemory(), START)
    assert canaries.health() == before
    assert canaries.memory(START) == CanaryMemory()
    assert canaries.next_deadline_ms() == START.mono_ms + rules.JUDGE_EVERY_MS


# ---- recordings of others -----------------------------------------------------------------------------------------------------

SURVEY = Path(os.environ.get("GATEWAY_REAL_DATA", "/nonexistent")) / "danis_tetam" / "survey_set1_first300s.csv.gz"
recorded = pytest.mark.skipif(
    not SURVEY.is_file(), reason="GATEWAY_REAL_DATA names no folder with danis_tetam/ (12 receivers hear a beacon at 81 places)"
)
PLACE_MS = 300_000
Place = tuple[float, float]


@cache
def survey() -> dict[Place, list[tuple[int, str, int]]]:
    """By place of the beacon: (milliseconds from 0 to 300,000, receiver, dBm)."""
    rows = defaultdict(list)
    with gzip.open(SURVEY, "rt", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows[float(row["x"]), float(row["y"])].append((float(row["t_epoch"]), row["receiver"], int(row["rssi"])))
    begun_s = {place: min(heard)[0] for place, heard in rows.items()}
    return {
        place: [(round(1000 * (at_s - begun_s[place])), receiver, rssi_dbm) for at_s, receiver, rssi_dbm in sorted(heard)]
        for place, heard in rows.items()
    }


class Recorded:
    """Recorded places as beacons ``b0`` …: halves of their five minutes, over and over."""

    def __init__(self, places: list[Place]) -> None:
        self.shop = shop_of(len(places), 0)
        self.places = places
        self.canaries = Canaries(self.shop, 0)
        self.now = Instant(0, 0)

    def play(self, from_ms: int, until_ms: int, times: int) -> list[HealthChange]:
        """Part of each place's recording again and again."""
        found: list[HealthChange] = []
        survey_of = survey()
        rows = sorted(
            (at_ms - from_ms, number, receiver, rssi_dbm)
            for number, place in enumerate(self.places)
            for at_ms, receiver, rssi_dbm in survey_of[place]
            if from_ms <= at_ms < until_ms
        )
        for _ in range(times):
            start = self.now
            for at_ms, number, receiver, rssi_dbm in rows:
                while start.mono_ms + at_ms - self.now.mono_ms >= STEP_MS:
                    self.now = self.now.plus(STEP_MS)
                    found += self.canaries.tick(self.now)
                self.canaries.heard(f"b{number}", receiver, rssi_dbm, start.mono_ms + at_ms)
            self.now = start.plus(until_ms - from_ms)
            found += self.canaries.tick(self.now)
        return found


@recorded
@pytest.mark.slow
def test_recorded_beacons_that_stand_still_raise_no_alarm() -> None:
    """Learnt from the first half of each place's recording, judged by the second half: real channels, people and defects."""
    shop = Recorded(sorted(survey())[::4])
    shop.play(0, 150_000, 13)
    assert {beacon.state for beacon in shop.canaries.health().beacons} == {"ok"}
    assert [change for change in shop.play(150_000, PLACE_MS, 12) if change.state not in ("ok", "hearing")] == []


@recorded
@pytest.mark.slow
def test_recorded_beacons_that_are_carried_across_the_room_have_moved() -> None:
    """Some places sound alike to a dozen receivers, so not every move can be told; but nothing else is, of nobody else."""
    places = sorted(survey())[::4]
    shop = Recorded(places.copy())
    shop.play(0, 150_000, 13)
    carried = [0, 5, 10, 15]
    for number in carried:
        shop.places[number] = places[(number + len(places) // 2) % len(places)]
    found = {(change.name, change.state) for change in shop.play(150_000, PLACE_MS, 7)}
    assert found <= {(f"b{number}", "moved") for number in carried}
    assert len(found) >= 3
