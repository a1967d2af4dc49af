"""Other systems' receivers through the real daemon and a real Mosquitto: what they report counts once, now, and only if new."""

import asyncio
import contextlib
import itertools
import logging
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.contract.control import (
    AddTechnicianRequest,
    ReceiverStatus,
    ReceiverTested,
    Status,
    StatusRequest,
    Technicians,
    TestReceiverRequest,
    result_of,
)
from gateway.contract.settings import Settings
from gateway.contract.shop import read_shop
from gateway.core.ad_structures import encode
from gateway.core.frames import shopper
from gateway.core.model import Entered, Instant, ShopperToken, Step
from gateway.core.receivers import MAX_PAYLOAD
from gateway.core.token import TokenPayload, day_of, derive_day_key, derive_subkeys, seal_token, slot_of, window_of
from gateway.daemon import Daemon
from gateway.daemon.receivers import ForeignEar
from gateway.errors import ConfigurationError, WrongCommand
from gateway.io.clock import SystemClock
from gateway.io.control import ask
from tests.fakes import foreign_receivers as says
from tests.fakes.mosquitto import Mosquitto

STORE = 4711
KEY = "5a" * 32
PROGRAM = Path(sys.executable).with_name("gateway")
SERVICE, COMPANY = 0xFFF0, 0x1234
SHOP = b"""{"zones": {"dairy": {"neighbours": ["wine"]}, "wine": {"neighbours": ["dairy"]}},
            "anchors": {"cold": {"kind": "receiver", "zone": "dairy"}, "cellar": {"kind": "receiver", "zone": "wine"},
                        "pi": {"kind": "receiver", "zone": "wine"},
                        "shelf": {"kind": "beacon", "zone": "wine", "uuid": "e2c56db5-dffb-48d2-b060-d0f5a71096e0",
                                  "major": 1, "minor": 7}}}"""
FORMS: dict[str, Literal["U", "S", "M"]] = {"espresense": "U", "openmqttgateway": "S", "raddec": "M"}
NAMES = {"espresense": "cold_room", "openmqttgateway": "OMG_Cold", "raddec": "001bc50940810000"}
kinds = pytest.mark.parametrize("kind", FORMS)


class HastyClock(SystemClock):
    """The machine's clocks, which a test may put forward so as not to wait."""

    def __init__(self) -> None:
        super().__init__(assume_synchronised=True)
        self._ahead_ms = 0

    def now(self) -> Instant:
        real = super().now()
        return Instant(real.mono_ms + self._ahead_ms, real.wall_ms + self._ahead_ms)

    def skip(self, duration_ms: int) -> None:
        self._ahead_ms += duration_ms


class Store:
    """A daemon whose ears are another system's receivers, and a test shopper with KEY."""

    def __init__(self, folder: Path, broker: Mosquitto, *sources: dict[str, Any], **changes: Any) -> None:
        self.broker = broker
        self.settings = Settings.model_validate(
            {
                "store": "demo",
                "store_number": STORE,
                "gateway": "pi-1",
                "state_dir": folder,
                "broker": broker.settings(),
                "privacy": {"controller": "c", "contact": "c", "dpia_ack": True},
                "clock": {"assume_synchronised": True},
                "chain": {"service_uuid16": SERVICE, "company_id": COMPANY},
                "foreign_receivers": sources,
                **changes,
            }
        )
        self.clock = HastyClock()
        self.steps: list[Step] = []
        shop = read_shop(SHOP, "shop").compiled()
        self.daemon = Daemon(self.settings, shop, self.clock, observe=self.steps.append)
        self.ears = [
            ForeignEar(source, self.settings, self.daemon.heard, self.daemon.pipeline, self.clock)
            for source in self.settings.foreign_receivers
        ]

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator["Store"]:
        stop = asyncio.Event()
        running = asyncio.create_task(self.daemon.run(self.ears, stop))
        try:
            async with asyncio.timeout(20):
                while not (self.settings.control_path.exists() and all(ear._session.online.is_set() for ear in self.ears)):
                    assert not running.done()
                    await asyncio.sleep(0.01)
                # Nobody is recognised before it is known who decides.
                await self.daemon.at_rest.wait()
            await self.ask(AddTechnicianRequest(name="tina", key=KEY, duration_s=3600), Technicians)
            yield self
        finally:
            stop.set()
            await running

    async def ask(self, request: Any, model: Any) -> Any:
        line = await asyncio.to_thread(ask, self.settings.control_path, request.model_dump_json().encode() + b"\n")
        assert line is not None
        return result_of(line, model)

    async def receivers(self) -> dict[str, ReceiverStatus]:
        status: Status = await self.ask(StatusRequest(), Status)
        return {receiver.name: receiver for receiver in status.receivers}

    async def until(self, name: str, state: str) -> ReceiverStatus:
        """The receiver once it is in that state."""
        async with asyncio.timeout(10):
            while True:
                receiver = (await self.receivers())[name]
                if receiver.state == state:
                    return receiver
                await asyncio.sleep(0.02)

    @property
    def rejects(self) -> dict[str, int]:
        return self.daemon.pipeline.counters.rejects

    @property
    def entered(self) -> list[str]:
        events = [outcome.event for step in self.steps for outcome in step.outcomes]
        return [event.zone for event in events if isinstance(event, Entered)]

    def advertisement(self, form: Literal["U", "S", "M"]) -> bytes:
        """What the test shopper's phone sends now."""
        unix_s = self.clock.now().wall_ms / 1000
        window = window_of(unix_s)
        subkeys = derive_subkeys(derive_day_key(bytes.fromhex(KEY), STORE, day_of(window, 0)))
        sealed = seal_token(subkeys, window, TokenPayload(3, slot_of(unix_s), 9, 0))
        token = ShopperToken(form, sealed, None if form == "U" else -59)
        return encode([shopper.encode(token, service_uuid16=SERVICE, company_id=COMPANY)])

    def message(self, kind: str, name: str, rssi_dbm: int, **more: Any) -> says.Message:
        data = self.advertisement(FORMS[kind])
        if kind == "espresense":
            return says.espresense(name, data, rssi_dbm)
        if kind == "raddec":
            return says.raddec({name: rssi_dbm}, data, **more)
        return says.openmqttgateway(name, data, rssi_dbm, **more)[0]

    async def stay(self, kind: str, name: str, reports: int = 8) -> None:
        """The phone is loud at one receiver, which reports it three times a second."""
        async with self.broker.client() as client:
            for number in range(reports):
                await client.publish(*self.message(kind, name, -53 - number % 4))
                await asyncio.sleep(0.33)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as running:
        yield running


def source(kind: str, **changes: Any) -> dict[str, Any]:
    return {"name": "ceiling", "kind": kind, "receivers": {NAMES[kind]: "cold"}, **changes}


# ---- what counts --------------------------------------------------------------------------------------------------------------


@kinds
async def test_a_token_that_another_system_heard_enters_the_receivers_zone(tmp_path: Path, broker: Mosquitto, kind: str) -> None:
    async with Store(tmp_path, broker, source(kind))() as store:
        assert (await store.receivers())["cold"].state == "starting"
        await store.stay(kind, NAMES[kind])
        cold = await store.until("cold", "hearing")
    assert store.entered == ["dairy"]
    assert (cold.in_shop, cold.trouble, cold.adapter) == (True, None, None)
    assert cold.heard_per_s > 0
    assert store.rejects == {}


async def test_a_registered_beacon_is_heard(tmp_path: Path, broker: Mosquitto) -> None:
    beacon = bytes.fromhex("02011a1aff4c000215e2c56db5dffb48d2b060d0f5a71096e000010007c5")
    async with Store(tmp_path, broker, source("espresense"))() as store, broker.client() as client:
        await client.publish(*says.espresense("cold_room", beacon, -70.5))
        await store.until("cold", "hearing")
        heard = {
            beacon.name: [link.receiver for link in beacon.links] for beacon in store.daemon.pipeline.canaries.health().beacons
        }
        assert heard == {"shelf": ["cold"]}


async def test_two_systems_at_once_one_of_them_on_a_broker_of_its_own(tmp_path: Path, broker: Mosquitto) -> None:
    (tmp_path / "second").mkdir()
    with Mosquitto(tmp_path / "second") as other:
        sources = (
            source("espresense"),
            {"name": "walls", "kind": "raddec", "prefix": "site/pa", "broker": {"host": "127.0.0.1", "port": other.port}},
        )
        async with Store(tmp_path, broker, *sources, receivers=[{"name": "pi"}])() as store, other.client() as client:
            topic, payload = says.raddec({"0a": -60}, b"")
            await client.publish("site/pa" + topic.removeprefix("paretoanywhere"), payload.replace(b'"0a"', b'"0B"'))
            await store.stay("espresense", "cold_room")
            assert set(await store.receivers()) == {"cold", "cellar"}, "the shop's other receiver, but not our own adapter's"
    assert store.entered == ["dairy"]
    assert store.rejects == {"raddec.unknown-receiver": 1}


# ---- what does not ------------------------------------------------------------------------------------------------------------


async def test_what_was_retained_does_nothing(tmp_path: Path, broker: Mosquitto) -> None:
    store = Store(tmp_path, broker, source("espresense"))
    async with broker.client() as client:
        for number in range(20):
            topic, payload = store.message("espresense", "cold_room", -53)
            await client.publish(f"espresense/devices/{number}/{topic.rsplit('/', 1)[1]}", payload, qos=1, retain=True)
    async with store():
        await asyncio.sleep(1)
        assert (await store.receivers())["cold"].state == "starting"
    assert store.rejects == {"espresense.retained": 20}
    assert store.entered == []


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_what_waited_for_us_at_the_broker_does_nothing(tmp_path: Path, broker: Mosquitto, protocol: str) -> None:
    """An earlier version left a session behind, in which a bridge's reports of QoS 1 were kept."""
    lasting: dict[str, Any] = {"clean_session": False}
    if protocol == "5":
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 3600
        lasting = {"clean_start": False, "properties": properties}
    async with broker.client(protocol, identifier="gw-demo-pi-1-ceiling", **lasting) as client:
        await client.subscribe("espresense/#", qos=1)
    store = Store(tmp_path, broker, source("espresense", broker=broker.settings(protocol)))
    async with broker.client() as client:
        for number in range(200):
            await client.publish(*store.message("espresense", "cold_room", -53 - number % 10), qos=1)
    async with store():
        await store.stay("espresense", "cold_room", 1)
        assert (await store.until("cold", "hearing")).heard == 1
        assert store.entered == []
        await store.stay("espresense", "cold_room")
    assert store.entered == ["dairy"]


@pytest.mark.parametrize(("kind", "stamp", "unit_ms"), [("raddec", "timestamp", 1), ("openmqttgateway", "unixtime", 1000)])
async def test_what_is_late_does_nothing_whatever_their_clock_says(
    tmp_path: Path, broker: Mosquitto, kind: str, stamp: str, unit_ms: int
) -> None:
    years_ago = 978_307_200_000 // unit_ms
    async with Store(tmp_path, broker, source(kind))() as store, broker.client() as client:
        stranger = says.raddec({NAMES[kind]: -80}, b"", timestamp=years_ago)
        if kind == "openmqttgateway":
            [stranger] = says.openmqttgateway(NAMES[kind], b"", -80, unixtime=years_ago)
        await client.publish(*stranger)
        await store.until("cold", "hearing")
        store.clock.skip(60_000)
        for number in range(12):
            await client.publish(*store.message(kind, NAMES[kind], -53 - number % 4, **{stamp: years_ago + number}))
            await asyncio.sleep(0.2)
        assert store.rejects == {f"{kind}.late": 12}
        assert store.entered == []
        for number in range(8):
            now = years_ago + (60_000 + number * 330) // unit_ms
            await client.publish(*store.message(kind, NAMES[kind], -53 - number % 4, **{stamp: now}))
            await asyncio.sleep(0.33)
    assert store.entered == ["dairy"]


async def test_what_comes_twice_counts_once(tmp_path: Path, broker: Mosquitto) -> None:
    async with Store(tmp_path, broker, source("raddec"))() as store, broker.client() as client:
        for number in range(4):
            for _ in range(5):
                await client.publish(*store.message("raddec", NAMES["raddec"], -53 - number))
        await store.until("cold", "hearing")
        await asyncio.sleep(0.5)
        counters = store.daemon.pipeline.counters
        assert (counters.sightings, counters.rejects) == (4, {"raddec.duplicate": 16})


async def test_what_is_broken_or_of_strangers_is_counted(tmp_path: Path, broker: Mosquitto) -> None:
    own = {"name": "ceiling", "kind": "espresense"}
    async with Store(tmp_path, broker, own, receivers=[{"name": "pi"}])() as store, broker.client() as client:
        for room in ("pi", "shelf", "kitchen"):
            await client.publish(*store.message("espresense", room, -53))
        for payload in (b"", b"\xff", b"[]", b'{"id":"x","rssi":NaN}', b"[" * 9000):
            await client.publish("espresense/devices/x/cold", payload)
        await client.publish("espresense/devices/x/cold", b'{"id":"x"}')
        await client.publish("espresense/devices/x/cold", b'{"id":"x","rssi":-60' + b" " * MAX_PAYLOAD + b"}")
        await client.publish(*says.espresense("cold", b"", -60))
        await store.until("cold", "hearing")
        assert (await store.receivers())["cellar"].state == "starting"
    assert store.rejects == {
        "espresense.unknown-receiver": 3,
        "espresense.integrity": 5,
        "espresense.sanity": 1,
        "espresense.length": 1,
    }
    assert store.entered == []


# ---- who is deaf --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "topic"), [("espresense", "espresense/rooms/cold_room/status"), ("openmqttgateway", "home/OMG_Cold/LWT")]
)
async def test_a_will_makes_deaf_and_a_birth_hearing(tmp_path: Path, broker: Mosquitto, kind: str, topic: str) -> None:
    async with Store(tmp_path, broker, source(kind))() as store:
        with contextlib.suppress(aiomqtt.MqttError):
            async with broker.client(will=aiomqtt.Will(topic, b"offline", 0, True)) as receiver:
                await receiver.publish(topic, b"online", retain=True)
                await receiver.publish(*store.message(kind, NAMES[kind], -60))
                await store.until("cold", "hearing")
                receiver._client.socket().shutdown(2)  # type: ignore[union-attr]
                deaf = await store.until("cold", "deaf")
        assert deaf.trouble == ("its broker says that it is offline (ceiling): check its power and its network.")
        async with broker.client() as receiver:
            await receiver.publish(topic, b"online", retain=True)
            await store.until("cold", "hearing")


async def test_a_will_from_before_we_came_is_known_and_a_report_refutes_it(tmp_path: Path, broker: Mosquitto) -> None:
    async with broker.client() as client:
        await client.publish("espresense/rooms/cold_room/status", b"offline", qos=1, retain=True)
        await client.publish("espresense/rooms/kitchen/status", b"offline", qos=1, retain=True)
        async with Store(tmp_path, broker, source("espresense"))() as store:
            await store.until("cold", "deaf")
            await client.publish(*store.message("espresense", "cold_room", -60))
            await store.until("cold", "hearing")
            assert set(await store.receivers()) == {"cold"}


async def test_silence_makes_deaf_and_the_log_says_so_once(
    tmp_path: Path, broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.daemon.receivers")
    named = source("raddec", receivers={"0a": "cold", "0b": "cellar", "0c": "attic"}, silence_s=30)
    async with Store(tmp_path, broker, named)() as store, broker.client() as client:
        await client.publish(*says.raddec({"0a": -60}, b""))
        await store.until("cold", "hearing")
        store.clock.skip(20_000)
        await client.publish(*says.raddec({"0b": -60}, b""))
        await store.until("cellar", "hearing")
        store.clock.skip(15_000)
        cold, cellar, attic = [(await store.receivers())[name] for name in ("cold", "cellar", "attic")]
        assert (cold.state, cellar.state, attic.state) == ("deaf", "hearing", "deaf")
        assert (cold.trouble or "").startswith("no report for 35 s (ceiling)")
        assert (cellar.in_shop, attic.in_shop) == (True, False)
        await asyncio.sleep(2.2)
        await client.publish(*says.raddec({"0a": -60}, b""))
        await store.until("cold", "hearing")
        await asyncio.sleep(1.2)
    told = [record.getMessage().split(":")[0] for record in caplog.records if record.name == "gateway.daemon.receivers"]
    assert sorted(told) == [
        "receiver attic is deaf",
        "receiver cold hears again",
        "receiver cold is deaf",
        "these receivers of ceiling stand nowhere in the shop, so what they hear of shoppers is dropped",
    ]


async def test_a_broker_that_is_lost_makes_deaf_until_it_is_back(tmp_path: Path, broker: Mosquitto) -> None:
    async with Store(tmp_path, broker, source("espresense"))() as store:
        await store.stay("espresense", "cold_room", 1)
        await store.until("cold", "hearing")
        broker.kill()
        deaf = await store.until("cold", "deaf")
        assert deaf.trouble == f"the broker 127.0.0.1:{broker.port} of ceiling is not reached."
        broker.start()
        await store.until("cold", "hearing")


# ---- trying one ---------------------------------------------------------------------------------------------------------------

BEACON = bytes.fromhex("02011a1aff4c000215e2c56db5dffb48d2b060d0f5a71096e000010007c5")


async def test_a_trial_tells_how_often_and_which_beacons_it_hears(tmp_path: Path, broker: Mosquitto) -> None:
    sources = [source("espresense", receivers={"cold_room": "cold", "cellar_room": "cellar"})]
    async with Store(tmp_path, broker, *sources)() as store, broker.client() as client:
        trial = asyncio.create_task(store.ask(TestReceiverRequest(name="cellar", duration_s=2), ReceiverTested))
        loud = itertools.cycle(range(-80, -60))
        while not trial.done():
            for room, rssi_dbm in (("cellar_room", -70), ("cold_room", -50), ("cellar_room", -74)):
                await client.publish(*says.espresense(room, BEACON, rssi_dbm))
            await client.publish(*store.message("espresense", "cellar_room", next(loud)))
            await asyncio.sleep(0.1)
        heard: ReceiverTested = await trial
    assert (heard.hears, heard.said, heard.do, heard.beacons_near) == (True, "cellar hears.", "", ("shelf",))
    (beacon,) = heard.beacons
    assert (beacon.beacon, beacon.count > 1, -74 <= beacon.median_dbm <= -70) == ("shelf", True, True)
    assert heard.heard > beacon.count
    assert heard.receiver.state == "hearing"


async def test_a_trial_of_one_that_hears_nothing_or_the_wrong_says_what_to_do(tmp_path: Path, broker: Mosquitto) -> None:
    sources = [source("espresense", receivers={"cold_room": "cold", "cellar_room": "cellar", "x": "attic"}, silence_s=10)]
    async with Store(tmp_path, broker, *sources)() as store, broker.client() as client:
        store.clock.skip(11_000)
        silent: ReceiverTested = await store.ask(TestReceiverRequest(name="cold", duration_s=1), ReceiverTested)
        assert (silent.hears, silent.heard, silent.said) == (False, 0, "cold heard nothing.")
        assert "no report for" in silent.do
        trials = [
            asyncio.create_task(store.ask(TestReceiverRequest(name=name, duration_s=1), ReceiverTested))
            for name in ("cellar", "attic")
        ]
        loud = itertools.cycle(range(-80, -60))
        while not all(trial.done() for trial in trials):
            for room in ("cellar_room", "x"):
                await client.publish(*store.message("espresense", room, next(loud)))
            await asyncio.sleep(0.1)
        cellar, attic = [await trial for trial in trials]
        assert cellar.said == "cellar hears others, but none of the beacons around it: shelf."
        assert attic.said == "attic hears, but stands nowhere, so what it hears of shoppers is dropped."
        assert attic.do == "gateway receiver add attic --zone ZONE"
        for name, kind, told in (
            ("pi", ConfigurationError, "nobody reports what pi hears"),
            ("cellr", WrongCommand, "did you mean cellar"),
        ):
            with pytest.raises(kind, match=told):
                await store.ask(TestReceiverRequest(name=name, duration_s=1), ReceiverTested)


# ---- settings -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sources", "told"),
    [
        ([source("raddec"), source("espresense", name="walls")], "two receivers are the same anchor: cold"),
        ([source("raddec", receivers={"0a": "pi"})], "two receivers are the same anchor: pi"),
        ([source("raddec"), source("raddec", receivers={"0a": "cellar"})], "two foreign_receivers have the same name"),
        (
            [source("raddec", receivers={}), source("raddec", name="b", receivers={})],
            "only one of the foreign_receivers may leave",
        ),
        ([source("raddec", prefix="a/#")], "prefix"),
        ([source("raddec", receivers={"a/b": "cold"})], "receivers"),
        ([source("raddec", silence_s=5)], "silence_s"),
        ([{**source("raddec"), "kind": "ruuvi"}], "kind"),
    ],
)
def test_settings_that_cannot_be_are_refused(sources: list[dict[str, Any]], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Settings.model_validate({"store": "demo", "store_number": 1, "gateway": "pi-1", "foreign_receivers": sources})


@pytest.mark.slow
async def test_gateway_run_listens_to_them(tmp_path: Path, broker: Mosquitto) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(
        f"""
        store = "demo"
        store_number = 1
        gateway = "pi-1"
        state_dir = "{tmp_path}"
        receivers = []
        [broker]
        host = "127.0.0.1"
        port = {broker.port}
        [clock]
        assume_synchronised = true
        [[foreign_receivers]]
        name = "ceiling"
        kind = "espresense"
        """
    )
    (tmp_path / "shop.json").write_bytes(SHOP)
    process = await asyncio.create_subprocess_exec(PROGRAM, "run", "--config", str(config))
    try:
        async with asyncio.timeout(30), broker.client() as client:
            while not (tmp_path / "control.sock").exists():
                assert process.returncode is None
                await asyncio.sleep(0.05)
            states: dict[str, str] = {}
            while states.get("cold") != "hearing":
                await client.publish(*says.espresense("cold", b"", -60))
                await asyncio.sleep(0.2)
                line = await asyncio.to_thread(ask, tmp_path / "control.sock", StatusRequest().model_dump_json().encode() + b"\n")
                assert line is not None
                states = {receiver.name: receiver.state for receiver in result_of(line, Status).receivers}
            assert states == {"cold": "hearing", "cellar": "starting", "pi": "starting"}
    finally:
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
