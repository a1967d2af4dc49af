"""Fixed beacons in a running daemon: what the control socket says of them, what goes onto the disk, what a restart remembers.

Time passes when the test says so.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from gateway.contract.control import (
    BeaconHealthRequest,
    BeaconsHealth,
    RelearnBeaconRequest,
    ShopInForce,
    ShopRequest,
    Status,
    StatusRequest,
    UseShopRequest,
    result_of,
)
from gateway.contract.downlinks import Catalogue
from gateway.contract.fields import Strict
from gateway.contract.messages import BeaconHealthData, ReceiverHealthData
from gateway.contract.promotions import Promotion
from gateway.contract.settings import Broker, Settings, Trust
from gateway.contract.shop import ShopFile, read_shop
from gateway.core import ad_structures
from gateway.core.ad_structures import AdStructure
from gateway.core.frames import altbeacon, eddystone, ibeacon
from gateway.core.model import AltBeacon, ClockQuality, EddystoneTlm, EddystoneUid, IBeacon, Instant, ReceiverChange
from gateway.daemon import Daemon, EarCondition
from gateway.errors import WrongCommand
from gateway.io.control import ask
from gateway.io.signing import Signer
from gateway.io.store import OutboxRow, Store

Result = TypeVar("Result", bound=Strict)
UUID = bytes(range(16))
BEACONS = {"milk": 1, "cheese": 2, "red": 3}
SHOP = b"""{"zones": {"dairy": {}, "wine": {}}, "anchors": {
    "door": {"kind": "receiver", "zone": "dairy"},
    "milk": {"kind": "beacon", "zone": "dairy", "uuid": "00010203-0405-0607-0809-0a0b0c0d0e0f", "major": 1, "minor": 1},
    "cheese": {"kind": "beacon", "zone": "dairy", "uuid": "00010203-0405-0607-0809-0a0b0c0d0e0f", "major": 1, "minor": 2},
    "red": {"kind": "beacon", "zone": "wine", "uuid": "00010203-0405-0607-0809-0a0b0c0d0e0f", "major": 1, "minor": 3}}}"""
START = Instant(5_000_000, 1_790_000_000_000)
STEP_MS = 5_000


class SteppedClock:
    """Stands still until the test lets time pass."""

    def __init__(self, now: Instant = START, quality: ClockQuality = ClockQuality.SYNCHRONISED) -> None:
        self._now = now
        self._quality = quality
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def now(self) -> Instant:
        return self._now

    def quality(self) -> ClockQuality:
        return self._quality

    async def sleep_ms(self, duration_ms: int) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._now.mono_ms + max(1, duration_ms), woken))
        await woken

    def pass_ms(self, duration_ms: int) -> None:
        self._now = self._now.plus(duration_ms)
        due = [woken for until_ms, woken in self._sleepers if until_ms <= self._now.mono_ms]
        self._sleepers = [(until_ms, woken) for until_ms, woken in self._sleepers if until_ms > self._now.mono_ms]
        for woken in due:
            if not woken.done():
                woken.set_result(None)


class Door:
    """The receiver, as its supervision sees it."""

    def __init__(self) -> None:
        self.trouble: str | None = None

    async def run(self) -> None:
        await asyncio.Event().wait()

    def conditions(self) -> list[EarCondition]:
        return [EarCondition("door", "hci0", "deaf" if self.trouble else "hearing", "passive", self.trouble)]


class Gateway:
    """A daemon, its clock, and the beacons around it."""

    def __init__(self, folder: Path, clock: SteppedClock | None = None) -> None:
        self.signer = Signer.from_file(folder / "signing.key")
        self.settings = Settings.model_validate(
            {
                "store": "demo",
                "store_number": 1,
                "gateway": "pi-1",
                "state_dir": folder,
                "broker": Broker(host="127.0.0.1", port=1),
                "trust": Trust(public_keys=(self.signer.public_key.hex(),)),
            }
        )
        self.clock = clock or SteppedClock()
        self.door = Door()
        self.silent: set[str] = set()
        self.daemon = Daemon(self.settings, read_shop(SHOP, "shop").compiled(), self.clock)

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator["Gateway"]:
        stop = asyncio.Event()
        running = asyncio.create_task(self.daemon.run([self.door], stop))
        async with asyncio.timeout(20):
            while not self.settings.control_path.exists():  # noqa: ASYNC110 -- a file announces nothing
                await asyncio.sleep(0.005)
            # The first tick waits until it is known that nobody else decides.
            await self.time_passes(10)
        try:
            yield self
        finally:
            stop.set()
            async with asyncio.timeout(20):
                await running

    async def time_passes(self, seconds: int) -> None:
        """The beacons send once a second; the canaries judge every five."""
        for _ in range(seconds * 1000 // STEP_MS):
            for name, minor in BEACONS.items():
                if name not in self.silent:
                    data = ad_structures.encode([ibeacon.encode(IBeacon(UUID, 1, minor, -59))])
                    for _ in range(5):
                        self.daemon.heard("door", f"address of {name}", -60, data)
            self.clock.pass_ms(STEP_MS)
            async with asyncio.timeout(20):
                while self.daemon.pipeline.canaries.next_deadline_ms() <= self.clock.now().mono_ms:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                await self.daemon.at_rest.wait()

    def tells(self, name: str, battery_mv: int, sent: int) -> None:
        frame = eddystone.encode(EddystoneTlm(battery_mv, 6.5, sent, sent * 1000))
        self.daemon.heard("door", f"address of {name}", -60, ad_structures.encode([frame]))

    async def ask(self, request: Strict, model: type[Result]) -> Result:
        line = await asyncio.to_thread(ask, self.settings.control_path, request.model_dump_json().encode() + b"\n")
        assert line is not None
        return result_of(line, model)

    async def health(self) -> BeaconsHealth:
        return await self.ask(BeaconHealthRequest(), BeaconsHealth)


async def events(folder: Path) -> list[OutboxRow]:
    """What waits for central."""
    store = Store(folder / "gateway.db", quota_mib=16, boot_id="")
    await store.start()
    rows = await store.outbox_rows(1, 1000, 1000)
    await store.close()
    return rows


async def keep_catalogue(gateway: Gateway, *promotions: Promotion) -> None:
    document = Catalogue(store="demo", version=7, not_after=gateway.clock.now().wall_ms + 86_400_000, promotions=promotions)
    store = Store(gateway.settings.database_path, quota_mib=16, boot_id="")
    await store.start()
    sealed = gateway.signer.seal(document, source="central", time_ms=gateway.clock.now().wall_ms)
    await store.keep_snapshot("catalogue", 7, sealed.to_json())
    await store.close()


def promotion(promotion_id: str, *zones: str) -> Promotion:
    return Promotion.model_validate({"promotion_id": promotion_id, "long_title": {"en": promotion_id}, "zones": zones})


# ---- what is told -------------------------------------------------------------------------------------------------------------


async def test_a_silent_beacon_is_an_event_and_the_next_thing_to_do(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    await keep_catalogue(gateway, promotion("yoghurt", "dairy"), promotion("riesling", "wine"))
    async with gateway() as running:
        await running.time_passes(240)
        running.tells("milk", 2950, 300)
        await running.time_passes(5)
        running.silent = {"red"}
        await running.time_passes(110)
        health, status = await running.health(), await running.ask(StatusRequest(), Status)
    beacons = {beacon.name: beacon for beacon in health.beacons}
    assert {name: beacon.state for name, beacon in beacons.items()} == {"cheese": "learning", "milk": "learning", "red": "silent"}
    assert (beacons["red"].zone, beacons["red"].promotions, beacons["red"].paused) == ("wine", ("riesling",), True)
    assert (beacons["milk"].promotions, beacons["milk"].paused) == (("yoghurt",), False)
    assert beacons["red"].heard_s_ago is not None
    assert 90 <= beacons["red"].heard_s_ago <= 120
    (link,) = beacons["milk"].links
    assert (link.receiver, link.level_dbm) == ("door", -60.0)
    assert link.rate_hz == pytest.approx(1.0, abs=0.2)
    assert (beacons["milk"].battery.state, beacons["milk"].battery.volts) == ("ok", 2.95)
    assert [(zone.name, zone.promotions) for zone in health.blind_zones] == [("wine", ("riesling",))]
    assert [(receiver.name, receiver.hearing) for receiver in health.receivers] == [("door", "hearing")]
    assert (status.beacon_faults, status.blind_zones) == ({"red": "silent"}, ("wine",))

    (row,) = [row for row in await events(tmp_path) if row.type == "beacon.health.v1"]
    told = BeaconHealthData.model_validate_json(row.data)
    assert (told.beacon, told.zone, told.state, told.before) == ("red", "wine", "silent", "learning")
    assert 85_000 <= row.wall_ms - told.first_sign_time <= 105_000


@pytest.mark.parametrize(
    ("key", "frame", "also"),
    [
        (
            {"namespace": "00010203040506070809", "instance": "0A0B0C0D0E0F"},
            eddystone.encode(EddystoneUid(bytes(range(10)), bytes(range(10, 16)), -66)),
            # It sends iBeacon, too; the register knows it by one key, and its counter counts every frame.
            ibeacon.encode(IBeacon(UUID, 9, 9, -59)),
        ),
        (
            {"beacon_id": bytes(range(20)).hex()},
            altbeacon.encode(AltBeacon(0x0118, bytes(range(20)), -59, None)),
            eddystone.encode(EddystoneUid(bytes(10), bytes(6), -66)),
        ),
    ],
    ids=["Eddystone-UID", "AltBeacon"],
)
async def test_a_beacon_may_be_known_by_another_key_than_an_ibeacons(
    tmp_path: Path, key: dict[str, str], frame: AdStructure, also: AdStructure
) -> None:
    async with Gateway(tmp_path)() as running:
        shop = await running.ask(ShopRequest(), ShopInForce)
        anchors = {**shop.shop.anchors, "other": {"kind": "beacon", "zone": "wine", **key}}
        changed = ShopFile.model_validate({"zones": shop.shop.zones, "anchors": anchors})
        await running.ask(UseShopRequest(shop=changed, replaces=shop.digest), ShopInForce)
        before = running.daemon.pipeline.counters.strangers
        for step in range(1, 31):
            for _ in range(5):
                running.daemon.heard("door", "address of other", -70, ad_structures.encode([frame]))
                running.daemon.heard("door", "address of other", -70, ad_structures.encode([also]))
            running.tells("other", 2950, 11 * step)
            await running.time_passes(5)
        (beacon,) = [beacon for beacon in (await running.health()).beacons if beacon.name == "other"]
        assert running.daemon.pipeline.counters.strangers == before
        running.daemon.heard("door", "address of a stranger", -70, ad_structures.encode([also]))
        assert running.daemon.pipeline.counters.strangers == before + 1
    (link,) = beacon.links
    assert (beacon.zone, link.receiver, link.level_dbm) == ("wine", "door", -70.0)
    assert (beacon.battery.volts, link.loss) == (2.95, 0.0)


async def test_the_steps_for_a_deaf_receiver_are_numbered_events(tmp_path: Path) -> None:
    async with Gateway(tmp_path)() as running:
        await running.time_passes(30)
        running.door.trouble = "hci0: heard nothing for 30 s."
        at = running.clock.now()
        running.daemon.receiver_changed(ReceiverChange("door", "deaf", "hci0: heard nothing for 30 s.", at))
        running.daemon.receiver_changed(
            ReceiverChange("door", "deaf", "hci0: heard nothing for 30 s.", at, step="restart-scan", helped=False)
        )
        await running.time_passes(20)
        assert (await running.ask(StatusRequest(), Status)).blind_zones == ("dairy", "wine")
        running.door.trouble = None
        running.daemon.receiver_changed(
            ReceiverChange("door", "hearing", "hci0 was switched off and on.", at, step="power-cycle", helped=True)
        )
        await running.time_passes(20)
        assert (await running.ask(StatusRequest(), Status)).blind_zones == ()
    rows = [row for row in await events(tmp_path) if row.type == "receiver.health.v1"]
    data = [ReceiverHealthData.model_validate_json(row.data) for row in rows]
    told = [(one.before, one.state, one.step, one.helped, one.told_by) for one in data]
    assert told == [
        ("hearing", "deaf", None, None, "supervision"),
        ("deaf", "deaf", "restart-scan", False, "supervision"),
        ("deaf", "hearing", "power-cycle", True, "supervision"),
    ]


# ---- restarts -----------------------------------------------------------------------------------------------------------------


async def learnt(folder: Path, quality: ClockQuality = ClockQuality.SYNCHRONISED) -> SteppedClock:
    """A first life in which the beacons' usual levels were learnt; returns its clock."""
    clock = SteppedClock(quality=quality)
    async with Gateway(folder, clock)() as running:
        await running.time_passes(1980)
        assert {beacon.state for beacon in (await running.health()).beacons} == {"ok"}
        running.silent = {"red"}
        await running.time_passes(120)
    return clock


async def test_baselines_and_what_was_told_outlast_a_restart(tmp_path: Path) -> None:
    clock = await learnt(tmp_path)
    clock.pass_ms(60_000)
    async with Gateway(tmp_path, clock)() as running:
        first = await running.health()
        await running.time_passes(60)
        second = await running.health()
    assert {link.baseline_dbm for beacon in first.beacons for link in beacon.links} == {-60.0}
    assert {beacon.name: beacon.state for beacon in second.beacons} == {"milk": "ok", "cheese": "ok", "red": "ok"}
    told = [row.data for row in await events(tmp_path) if row.type == "beacon.health.v1"]
    assert len(told) == 2
    assert '"state":"silent"' in told[0]
    assert '"before":"silent"' in told[1]


async def test_a_clock_that_is_wrong_loses_no_baseline(tmp_path: Path) -> None:
    clock = await learnt(tmp_path, ClockQuality.UNSYNCHRONISED)
    async with Gateway(tmp_path, clock)() as running:
        health = await running.health()
    assert {link.baseline_dbm for beacon in health.beacons for link in beacon.links} == {-60.0}


# ---- relearning ---------------------------------------------------------------------------------------------------------------


async def test_the_technician_may_take_a_beacon_as_right(tmp_path: Path) -> None:
    async with Gateway(tmp_path)() as running:
        await running.time_passes(240)
        running.silent = {"milk"}
        await running.time_passes(120)
        after = await running.ask(RelearnBeaconRequest(name="milk"), BeaconsHealth)
        (milk,) = (beacon for beacon in after.beacons if beacon.name == "milk")
        assert (milk.state, milk.links) == ("learning", ())
        with pytest.raises(WrongCommand, match="there is no beacon mlk; did you mean milk"):
            await running.ask(RelearnBeaconRequest(name="mlk"), BeaconsHealth)
        with pytest.raises(WrongCommand, match="there is no beacon door"):
            await running.ask(RelearnBeaconRequest(name="door"), BeaconsHealth)
        await running.time_passes(10)
    told = [row.data for row in await events(tmp_path) if row.type == "beacon.health.v1"]
    assert [('"state":"silent"' in data, '"state":"learning"' in data) for data in told] == [(True, False), (False, True)]
