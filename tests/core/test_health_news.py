"""Beacons and receivers in the pipeline: what is told of them, once, and the promotions that pause meanwhile."""

from collections.abc import Collection
from datetime import UTC
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import ad_structures, battery_fields
from gateway.core.frames import eddystone, ibeacon
from gateway.core.health_news import MAX_WAITING
from gateway.core.identity import DayRoster
from gateway.core.model import (
    Anchor,
    CanaryMemory,
    ClockQuality,
    Consent,
    EddystoneTlm,
    EddystoneUid,
    HealthTold,
    IBeacon,
    Instant,
    Outcome,
    Promotion,
    ReceiverChange,
    ReceiverSigns,
    Shop,
    Sighting,
    Step,
    Zone,
)
from gateway.core.pipeline import Pipeline, Tuning
from tests.core.phones import UNIX_S, WINDOW, Phone, form_u, roster_of

START = Instant(7_000_000, UNIX_S * 1000)
STEP_MS = 1_000
UUID = bytes(range(16))
ZONES = {name: Zone(name, dwell_ms=()) for name in ("dairy", "wine")}
BEACONS = {name: minor for minor, name in enumerate(("milk", "cheese", "red", "white"), start=1)}
ANCHORS = {
    "r-dairy": Anchor("r-dairy", "receiver", "dairy"),
    "r-wine": Anchor("r-wine", "receiver", "wine"),
    **{
        name: Anchor(name, "beacon", "dairy" if minor < 3 else "wine", uuid=UUID, major=1, minor=minor)
        for name, minor in BEACONS.items()
    },
}
SHOP = Shop(ZONES, ANCHORS)
ANNA = Phone(1)
PROMOTIONS = (
    Promotion("yoghurt", "offer", frozenset({"dairy"}), frozenset()),
    Promotion("riesling", "info", frozenset({"wine"}), frozenset()),
)


def advertised(name: str) -> bytes:
    return ad_structures.encode([ibeacon.encode(IBeacon(UUID, 1, BEACONS[name], -59))])


def tlm(battery_mv: int, sent: int, uptime_ms: int = 60_000) -> bytes:
    return ad_structures.encode([eddystone.encode(EddystoneTlm(battery_mv, 21.5, sent, uptime_ms))])


class Room:
    """Both receivers hear all beacons once a second, but those that are silent; a receiver may be deaf."""

    def __init__(self, now: Instant = START, shop: Shop = SHOP) -> None:
        ids = count(1)
        self.now = now
        self.pipeline = Pipeline(shop, Tuning(UTC), lambda: f"id {next(ids)}", now)
        self.silent: set[str] = set()
        self.deaf: set[str] = set()
        self.down: dict[str, str] = {}
        self.steps: list[Step] = []

    def run(self, seconds: int, *phones: Phone, anything: Collection[str] | None = None) -> list[str]:
        """What was told meanwhile. ``anything``: the receivers that hear strangers; ``None`` = nobody knows."""
        before = len(self.steps)
        for _ in range(seconds * 1000 // STEP_MS):
            for receiver in ("r-dairy", "r-wine"):
                if receiver not in self.deaf:
                    for name in BEACONS.keys() - self.silent:
                        self.pipeline.receive(receiver, f"address of {name}", -60, advertised(name), self.now)
            for phone in phones:
                data = form_u(phone.token(self.now.wall_ms // 1000))
                self.pipeline.receive("r-dairy", "", -50, data, self.now)
            self.now = self.now.plus(STEP_MS)
            signs = ReceiverSigns(dict.fromkeys(anything or (), self.now.mono_ms - 100), self.down)
            self.steps.append(self.pipeline.tick(self.now, ClockQuality.SYNCHRONISED, signs))
            while self.pipeline.identity.prepare(self.now.wall_ms):
                pass
        return told(self.steps[before:])

    @property
    def outcomes(self) -> list[Outcome]:
        return [outcome for step in self.steps for outcome in step.outcomes]

    def expect_anna(self) -> None:
        day = ANNA.day(WINDOW)
        windows = self.pipeline.identity.windows_around(self.now.wall_ms, day)
        roster: DayRoster = roster_of([ANNA], day, windows, Consent.OFFERS | Consent.ANALYTICS)
        self.pipeline.use_roster(roster)
        self.pipeline.use_catalogue(self.pipeline.compile_catalogue(1, PROMOTIONS, None, self.now.wall_ms))


def told(steps: list[Step]) -> list[str]:
    """Each change on one line."""
    lines = []
    for step in steps:
        lines += [f"{c.change.subject} {c.change.name}: {c.change.before} → {c.change.state}" for c in step.beacons]
        for change in step.receivers:
            tried = "" if change.step is None else f" ({change.step}, {change.helped})"
            lines.append(f"{change.receiver}: {change.before} → {change.state}{tried} by {change.told_by}")
    return lines


@pytest.fixture
def room() -> Room:
    """Its beacons' rates are known."""
    found = Room()
    assert found.run(240) == []
    return found


# ---- beacons ------------------------------------------------------------------------------------------------------------------


def test_a_beacon_that_falls_silent_is_told_once_and_so_is_its_return(room: Room) -> None:
    room.silent = {"milk"}
    last_ms = room.now.mono_ms - STEP_MS
    assert room.run(600) == ["beacon milk: learning → silent"]
    (change,) = (told for step in room.steps for told in step.beacons)
    assert change.change.first_sign_ms == last_ms
    assert change.change.at.mono_ms - last_ms <= 100_000
    assert (change.health.zone, change.health.state) == ("dairy", "silent")
    room.silent = set()
    assert room.run(120) == ["beacon milk: silent → learning"]


def test_a_fault_that_outlasts_a_restart_is_no_news_and_one_that_ended_meanwhile_is() -> None:
    before = Room()
    before.run(1900)
    assert {beacon.state for beacon in before.pipeline.canaries.health().beacons} == {"ok"}
    before.silent = {"milk", "red"}
    assert before.run(200) == ["beacon milk: ok → silent", "beacon red: ok → silent"]
    after = Room(before.now.plus(20_000))
    after.pipeline.remember_told([HealthTold("beacon", "milk", "silent"), HealthTold("beacon", "red", "silent")])
    after.pipeline.canaries.remember(before.pipeline.canaries.memory(before.now), after.now)
    after.silent = {"milk"}
    assert after.run(300) == ["beacon red: silent → ok"]


def test_what_is_remembered_of_beacons_that_are_gone_does_not_matter() -> None:
    room = Room()
    room.pipeline.remember_told([HealthTold("beacon", "gone", "silent"), HealthTold("receiver", "r-dairy", "deaf")])
    assert room.run(30) == ["r-dairy: deaf → hearing by canaries"] or room.run(240) == ["r-dairy: deaf → hearing by canaries"]


def test_relearning_takes_a_fault_back_at_once(room: Room) -> None:
    room.silent = {"milk"}
    room.run(200)
    room.silent = set()
    room.pipeline.relearn("milk", room.now)
    assert room.pipeline.next_deadline_ms() == room.now.mono_ms + 200
    assert room.run(1) == ["beacon milk: silent → learning"]
    with pytest.raises(KeyError):
        room.pipeline.relearn("butter", room.now)


def test_telemetry_is_of_the_beacon_that_was_heard_from_its_address(room: Room) -> None:
    counters = room.pipeline.counters
    beacons, strangers = counters.beacons, counters.strangers
    room.pipeline.receive("r-dairy", "address of milk", -60, tlm(2390, 7), room.now)
    room.pipeline.receive("r-dairy", "address of a stranger", -60, tlm(2300, 7), room.now)
    room.pipeline.receive("r-dairy", "", -60, tlm(2300, 7), room.now)
    uid = ad_structures.encode([eddystone.encode(EddystoneUid(bytes(10), bytes(6), -59))])
    room.pipeline.receive("r-dairy", "address of milk", -60, uid, room.now)
    assert (counters.beacons - beacons, counters.strangers - strangers) == (2, 2)
    assert room.run(5) == ["battery milk: unknown → low"]
    health = room.pipeline.canaries.health_of("milk")
    assert (health.battery.millivolts, health.battery.temperature_c) == (2390, 21.5)
    assert all(other.battery.millivolts is None for other in room.pipeline.canaries.health().beacons if other.name != "milk")


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        pytest.param("020106 04160f1809", (None, 9, None), id="Battery Service"),
        pytest.param("04160f1865", None, id="Battery Service, more than full"),
        pytest.param("05160f180909", None, id="Battery Service, an octet too many"),
        pytest.param("0e16d2fc40 0061 0109 028a02 0c560b", (2902, 9, 6.5), id="BTHome"),
        pytest.param("0e16d2fc44 0061 0109 02f6ff 0c560b", (2902, 9, -0.1), id="BTHome, on a trigger, below zero"),
        pytest.param("0e16d2fc40 0109 030f27 0c560b 0f01 01", (2902, 9, None), id="BTHome, other things before and behind"),
        pytest.param("0e16d2fc41 0061 0109 028a02 0c560b", None, id="BTHome, encrypted"),
        pytest.param("0e16d2fc20 0061 0109 028a02 0c560b", None, id="BTHome of another version"),
        pytest.param("0716d2fc40 0c560b", (2902, None, None), id="BTHome, voltage only"),
        pytest.param("0616d2fc40 0c56", None, id="BTHome, cut short"),
        pytest.param("0716d2fc40 028a02", None, id="BTHome without a battery"),
        pytest.param("0616d2fc40 0165", None, id="BTHome, more than full"),
        pytest.param("0316d2fc", None, id="BTHome with nothing"),
        pytest.param("0e16d2fc40 0061", None, id="cut on the air"),
        pytest.param("020106", None, id="no service data"),
    ],
)
def test_other_battery_fields_are_read_of_registered_beacons_only(
    room: Room, payload: str, expected: tuple[int | None, int | None, float | None] | None
) -> None:
    counters = room.pipeline.counters
    beacons, strangers = counters.beacons, counters.strangers
    data = bytes.fromhex(payload)
    room.pipeline.receive("r-dairy", "address of milk", -60, data, room.now)
    room.pipeline.receive("r-dairy", "address of a stranger", -60, data, room.now)
    is_read = expected is not None
    assert (counters.beacons - beacons, counters.strangers - strangers) == (is_read, 2 - is_read)
    battery = room.pipeline.canaries.health_of("milk").battery
    assert (battery.millivolts, battery.percent, battery.temperature_c) == (expected or (None, None, None))


@given(st.binary(max_size=40), st.sampled_from([b"", b"\x16\x0f\x18", b"\x16\xd2\xfc\x40"]))
def test_no_bytes_are_more_than_a_battery_can_be(data: bytes, claim: bytes) -> None:
    for payload in (data, bytes((len(claim + data),)) + claim + data):
        found = battery_fields.read(payload)
        if found is not None:
            assert found != (None, None, None)
            assert found.percent is None or 0 <= found.percent <= 100
            assert found.millivolts is None or 0 < found.millivolts <= 0xFFFF


def test_a_battery_that_is_good_is_no_news(room: Room) -> None:
    room.pipeline.receive("r-dairy", "address of milk", -60, tlm(3000, 7), room.now)
    assert room.run(5) == []
    assert room.pipeline.canaries.health_of("milk").battery.state == "ok"


# ---- receivers ----------------------------------------------------------------------------------------------------------------


def deaf(room: Room, receiver: str = "r-dairy") -> ReceiverChange:
    return ReceiverChange(receiver, "deaf", "heard nothing for 30 s.", room.now)


def test_a_deaf_receiver_is_told_within_two_minutes_though_the_shop_is_empty(room: Room) -> None:
    room.deaf = {"r-dairy"}
    assert room.run(119, anything=["r-wine"]) == ["r-dairy: hearing → deaf by canaries"]
    room.deaf = set()
    assert room.run(30, anything=["r-wine"]) == ["r-dairy: deaf → hearing by canaries"]


def test_a_receiver_that_is_deaf_by_both_signs_is_told_once(room: Room) -> None:
    room.deaf = {"r-dairy"}
    assert room.run(30) == []
    room.pipeline.receiver_changed(deaf(room))
    room.down = {"r-dairy": "heard nothing for 30 s."}
    assert room.run(100) == ["r-dairy: hearing → deaf by supervision"]
    for helped in (False, None):
        room.pipeline.receiver_changed(
            ReceiverChange("r-dairy", "deaf", "heard nothing for 30 s.", room.now, "restart-scan", helped)
        )
    assert room.run(1) == [
        "r-dairy: deaf → deaf (restart-scan, False) by supervision",
        "r-dairy: deaf → deaf (restart-scan, None) by supervision",
    ]
    room.deaf, room.down = set(), {}
    room.pipeline.receiver_changed(ReceiverChange("r-dairy", "hearing", "heard again.", room.now, "restart-scan", True))
    assert room.run(60) == ["r-dairy: deaf → hearing (restart-scan, True) by supervision"]


def test_what_was_heard_until_just_before_does_not_make_a_deaf_receiver_hear(room: Room) -> None:
    """It was switched off: its supervision knows at once, and the signs follow a little later."""
    assert room.run(10, anything=["r-dairy"]) == []
    room.deaf = {"r-dairy"}
    room.pipeline.receiver_changed(deaf(room))
    assert room.run(2, anything=["r-dairy"]) == ["r-dairy: hearing → deaf by supervision"]
    room.down = {"r-dairy": "is powered off."}
    assert room.run(120) == []
    room.down = {}
    assert room.run(20, anything=["r-dairy"]) == ["r-dairy: deaf → hearing by canaries"]
    # Others are heard again, and its beacons are not.
    assert room.run(60, anything=["r-dairy"]) == ["r-dairy: hearing → impaired by canaries"]
    room.deaf = set()
    assert room.run(20, anything=["r-dairy"]) == ["r-dairy: impaired → hearing by canaries"]


def test_who_comes_second_is_not_told_whoever_it_is(room: Room) -> None:
    room.deaf = {"r-dairy"}
    assert room.run(100) == ["r-dairy: hearing → deaf by canaries"]
    room.pipeline.receiver_changed(deaf(room))
    room.down = {"r-dairy": "heard nothing for 90 s."}
    assert room.run(60) == []


def test_a_receiver_without_beacons_is_told_by_its_own_trouble() -> None:
    room = Room(shop=Shop(ZONES, {name: ANCHORS[name] for name in ("r-dairy", "r-wine")}))
    room.down = {"r-dairy": "its broker says that it is offline."}
    assert room.run(10) == ["r-dairy: hearing → deaf by canaries"]
    (change,) = (change for step in room.steps for change in step.receivers)
    assert change.cause == "its broker says that it is offline."
    room.down = {}
    assert room.run(10) == ["r-dairy: deaf → hearing by canaries"]


def test_who_was_deaf_before_a_restart_and_hears_strangers_now_hears_again() -> None:
    room = Room(shop=Shop(ZONES, {}))
    room.pipeline.remember_told([HealthTold("receiver", "pi", "deaf")])
    assert room.run(10) == []
    assert room.run(10, anything=["pi"]) == ["pi: deaf → hearing by canaries"]
    assert room.run(10, anything=["pi"]) == []


def test_more_changes_than_a_tick_can_take_are_counted(room: Room) -> None:
    for _ in range(MAX_WAITING + 3):
        room.pipeline.receiver_changed(ReceiverChange("r-dairy", "deaf", "stuck", room.now, "restart-scan", False))
    assert len(room.run(1)) == MAX_WAITING
    assert room.pipeline.counters.rejects == {"receiver-health.overflow": 3}


def test_a_change_of_a_receiver_wants_a_tick_soon() -> None:
    room = Room(shop=Shop(ZONES, {}))
    assert room.pipeline.next_deadline_ms() is None
    room.pipeline.receiver_changed(deaf(room))
    assert room.pipeline.next_deadline_ms() is not None
    assert room.run(1) == ["r-dairy: hearing → deaf by supervision"]
    assert room.pipeline.next_deadline_ms() is None


# ---- zones --------------------------------------------------------------------------------------------------------------------


def test_promotions_of_a_zone_that_has_gone_deaf_pause_and_return(room: Room) -> None:
    room.expect_anna()
    room.deaf = {"r-dairy", "r-wine"}
    assert room.run(119) == ["r-dairy: hearing → deaf by canaries", "r-wine: hearing → deaf by canaries"]
    assert room.pipeline.canaries.blind_zones == {"dairy", "wine"}
    # Her phone hears the beacon and says so over the Internet.
    for _ in range(5):
        sighting = Sighting(ANNA.name(ANNA.day(WINDOW)), "milk", -55, room.now, "report")
        room.pipeline.report(sighting, Consent.OFFERS | Consent.ANALYTICS)
        room.run(1)
    decided = [(outcome.offers, [(one.promotion_id, one.reason.value) for one in outcome.withheld]) for outcome in room.outcomes]
    assert ((), [("yoghurt", "beacon_unhealthy")]) in decided
    room.run(130)
    room.deaf = set()
    # The first to be heard again is offered something, though no beacon has been heard for long enough.
    room.run(3, ANNA)
    assert [offer.promotion_id for outcome in room.outcomes for offer in outcome.offers] == ["yoghurt"]
    room.run(30)
    assert room.pipeline.canaries.blind_zones == frozenset()


def test_an_empty_memory_and_nothing_told_are_nothing(room: Room) -> None:
    other = Room()
    other.pipeline.canaries.remember(CanaryMemory(), other.now)
    other.pipeline.remember_told([])
    assert other.run(240) == []
