"""A shop with everything real but the air: Mosquitto, `gateway run`, `gateway central`, `gateway central inbox`, each a process.

::

    phones ── advertisements ──▶ fake BlueZ ──▶ gateway ──▶ Mosquitto ──▶ central ──▶ Mosquitto ──▶ inbox
                                                   │            │            │                       │
                                               gateway.db    observer    central.db               anna.db

Whatever a test claims it reads from outside: the database files, the wire, the logs, the inbox's standard output. Any process can
be killed, frozen and started again; nothing is waited for by the clock where something can be looked at.
"""

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.core.token import (
    FLAG_ANALYTICS,
    FLAG_OFFERS,
    HINT_NONE,
    TokenPayload,
    day_of,
    derive_day_key,
    derive_pseudonym,
    derive_subkeys,
    seal_token,
    slot_of,
    window_of,
)
from gateway.io.embedded_broker import find_mosquitto
from tests.fakes.bluez import FakeBlueZ
from tests.fakes.small_disk import small_disk

STORE = "demo"
STORE_NUMBER = 4711
GATEWAY = "pi-1"
INBOXES = ("anna", "ben")
SECOND = "pi-2"
RECEIVERS = {"pi-bakery": "hci0", "pi-dairy": "hci1"}
SECOND_RECEIVERS = {"pi2-bakery": "hci2", "pi2-dairy": "hci3"}
NEAR_DBM, FAR_DBM = -52, -84
ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(sys.executable).with_name("gateway")

SHOP: dict[str, dict[str, Any]] = {
    "zones": {
        "bakery": {"title": "Bakery", "neighbours": ["dairy"]},
        "dairy": {"title": "Dairy", "neighbours": ["bakery"]},
        "wine": {"title": "Wine", "tags": ["alcohol"]},
    },
    "anchors": {
        "pi-bakery": {"kind": "receiver", "zone": "bakery"},
        "pi-dairy": {"kind": "receiver", "zone": "dairy"},
    },
}
PROMOTIONS = {
    "promotions": [
        {"promotion_id": "bread-20", "long_title": {"en": "20 % off bread"}, "zones": ["bakery"], "deadline_s": 120},
        {"promotion_id": "yoghurt-3", "long_title": {"en": "3 yoghurts for 2"}, "zones": ["dairy"], "deadline_s": 600},
        {"promotion_id": "cheese", "kind": "info", "long_title": {"en": "New cheese"}, "zones": ["dairy"], "deadline_s": 600},
    ]
}

Row = tuple[Any, ...]


def day_start_s(wall_s: float) -> int:
    """A beginning of the store's day that is twelve hours away, so that no test meets the change of pseudonyms."""
    return (int(wall_s) // 900 * 900 + 43_200) % 86_400


# ---- time ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast time passes for everybody in the shop; every process computes it from the machine's monotonic clock."""

    speed: int = 1
    from_mono_ms: int = 0
    from_wall_ms: int = 0

    @classmethod
    def of(cls, speed: int) -> "Pace":
        """Time that passes ``speed`` times as fast from now on."""
        return cls(speed, time.monotonic_ns() // 1_000_000, time.time_ns() // 1_000_000)

    def mono_ms(self) -> int:
        """Monotonic milliseconds in the shop."""
        return self.from_mono_ms + (time.monotonic_ns() // 1_000_000 - self.from_mono_ms) * self.speed

    def wall_ms(self) -> int:
        """Wall milliseconds in the shop."""
        return time.time_ns() // 1_000_000 if self.speed == 1 else self.from_wall_ms + self.mono_ms() - self.from_mono_ms


# ---- people -------------------------------------------------------------------------------------------------------------------


class Phone:
    """A phone with the app: an address, and a token that is made new each minute (form U)."""

    def __init__(self, ku: bytes, pace: Pace, day_start: int, name: str = "") -> None:
        self.name = name
        self.address = "C" + ":".join(f"{octet:02X}" for octet in random.randbytes(6))[1:]
        self.zone: str | None = None
        self.heard = 0
        """Advertisements that a scan made BlueZ report."""
        self.tokens: set[bytes] = set()
        """All that were on the air."""
        self._ku = ku
        self._pace = pace
        self._day_start = day_start

    def token(self) -> bytes:
        """The 16 bytes on the air now."""
        unix_s = self._pace.wall_ms() / 1000
        window = window_of(unix_s)
        subkeys = derive_subkeys(derive_day_key(self._ku, STORE_NUMBER, day_of(window, self._day_start)))
        token = seal_token(subkeys, window, TokenPayload(FLAG_OFFERS | FLAG_ANALYTICS, slot_of(unix_s), 0, HINT_NONE))
        self.tokens.add(token)
        return token

    @property
    def pseudonym(self) -> str:
        """What the shopper is called today."""
        day = day_of(window_of(self._pace.wall_ms() / 1000), self._day_start)
        return derive_pseudonym(self._ku, STORE_NUMBER, day).hex()


def uuid_text(token: bytes) -> str:
    """A token as BlueZ prints the service UUID that it is."""
    text = token.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


# ---- programs -----------------------------------------------------------------------------------------------------------------


class Program:
    """One process that can die and be started again; what it says is kept in two files."""

    def __init__(self, name: str, command: Sequence[str | Path], folder: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.command = [str(part) for part in command]
        self.said = folder / f"{name}.out"
        self.log = folder / f"{name}.log"
        self.should_run = False
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        assert not self.is_alive, f"{self.name} runs already"
        with self.said.open("ab") as said, self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=said,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        self.should_run = True

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def kill(self) -> None:
        """Kill −9."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """End it as systemd does; returns its exit code."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> int:
        self.should_run = False
        if self._process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        return await asyncio.wait_for(self._process.wait(), 10)

    async def freeze(self) -> None:
        """SIGSTOP; back only when every thread has stopped."""
        os.kill(self.pid, signal.SIGSTOP)
        while not all(_state(task) == "T" for task in Path(f"/proc/{self.pid}/task").iterdir()):  # noqa: ASYNC110 (the kernel sends no event)
            await asyncio.sleep(0.002)

    def thaw(self) -> None:
        """SIGCONT."""
        if self.is_alive:
            os.kill(self.pid, signal.SIGCONT)

    def reload(self) -> None:
        """SIGHUP."""
        os.kill(self.pid, signal.SIGHUP)


def _state(task: Path) -> str:
    try:
        return (task / "stat").read_text("ascii", errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return "T"


# ---- the wire -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Message:
    """What went over the wire."""

    topic: str
    payload: bytes
    retained: bool

    @property
    def event(self) -> dict[str, Any]:
        """The CloudEvent."""
        event: dict[str, Any] = json.loads(self.payload)
        return event


class Observer:
    """A client that listens to everything and outlives the broker."""

    def __init__(self, port: int) -> None:
        self.messages: list[Message] = []
        self._port = port

    async def run(self) -> None:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 3600
        while True:
            with contextlib.suppress(aiomqtt.MqttError):
                async with aiomqtt.Client(
                    "127.0.0.1",
                    self._port,
                    identifier="observer",
                    protocol=aiomqtt.ProtocolVersion.V5,
                    clean_start=False,
                    properties=properties,
                    timeout=2,
                ) as client:
                    await client.subscribe("#", qos=1)
                    async for message in client.messages:
                        assert isinstance(message.payload, bytes)
                        self.messages.append(Message(message.topic.value, message.payload, message.retain))
            await asyncio.sleep(0.05)

    async def publish(self, topic: str, payload: bytes) -> None:
        """Say something ourselves."""
        async with aiomqtt.Client("127.0.0.1", self._port) as client:
            await client.publish(topic, payload, qos=1)

    def on(self, topic: str, type_: str | None = None) -> list[Message]:
        """Messages of one topic, published while we listened; ``+`` and a last ``#`` as in MQTT."""
        found = [m for m in self.messages if not m.retained and aiomqtt.Topic(m.topic).matches(topic) and m.payload]
        return found if type_ is None else [m for m in found if m.event["type"] == type_]


# ---- the world ----------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Options:
    """How a world differs from the usual one."""

    protocol: str = "5"
    speed: int = 1
    private: bool = True
    """Whether the privacy settings are complete."""
    acl: str | None = None
    """Access list of the broker."""
    visit_gap_s: int = 1800
    inboxes: Sequence[str] = ("anna",)
    second: bool = False
    """Whether a second gateway, ``world.second``, receives for the first."""
    disk_mib: int | None = None
    """The gateway's state lies on a file system of this size, ``world.disk``."""


@dataclass(slots=True)
class Template:
    """What the command line has prepared once: central's key and database, the apps' keys."""

    folder: Path
    public_key: str
    keys: dict[str, bytes] = field(default_factory=dict)


class World:
    """One shop from the beginning of a test to its end."""

    def __init__(self, folder: Path, template: Template, options: Options) -> None:
        self.folder = folder
        self.options = options
        self.pace = Pace() if options.speed == 1 else Pace.of(options.speed)
        self.day_start = day_start_s(self.pace.wall_ms() / 1000)
        self.port = free_port()
        self.wire = Observer(self.port)
        self.phones = {name: Phone(key, self.pace, self.day_start, name) for name, key in template.keys.items()}
        self.strangers: list[Phone] = []
        self.advertise_every_s = 0.2
        self.shielded: set[str] = set()
        """Receivers that hear nobody."""
        self.receivers = {**RECEIVERS, **(SECOND_RECEIVERS if options.second else {})}
        self._template = template
        self._background: list[asyncio.Task[None]] = []
        self._exits = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._prepare()
        self.bluez = await self._exits.enter_async_context(FakeBlueZ(*self.receivers.values()))
        self._name_programs()
        for program in self.programs:
            await program.start()
            if program is self.broker:
                await self.until(self.is_broker_there, "the broker listens")
        self._background = [asyncio.create_task(self.wire.run()), asyncio.create_task(self._air())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await asyncio.gather(*(program.kill() for program in self.programs))
        # BlueZ notices that its client has gone; only then may its bus go.
        for adapter in self.receivers.values():
            with contextlib.suppress(TimeoutError):
                await self.bluez.wait_scanning(adapter, None, timeout_s=2)
        await self._exits.aclose()

    # ---- set-up

    def _prepare(self) -> None:
        options = self.options
        shutil.copytree(self._template.folder, self.folder, dirs_exist_ok=True)
        (self.folder / "broker").mkdir()
        for state_dir in ("gateway", SECOND):
            (self.folder / state_dir).mkdir()
            if options.disk_mib is not None and state_dir == "gateway":
                self.disk = self._exits.enter_context(small_disk(self.folder / state_dir, options.disk_mib))
            (self.folder / state_dir / "shop.json").write_text(json.dumps(self._shop()))
        self.write_broker_config(options.acl)
        self.write_gateway_config(private=options.private)
        text = central_toml(self.folder, self._broker_toml(), self.day_start, options.visit_gap_s)
        (self.folder / "central.toml").write_text(text)

    def _broker_toml(self) -> str:
        return f'[broker]\nhost = "127.0.0.1"\nport = {self.port}\nprotocol = "{self.options.protocol}"\n'

    def _shop(self) -> dict[str, Any]:
        more = {name: {"kind": "receiver", "zone": name.partition("-")[2]} for name in SECOND_RECEIVERS}
        return {**SHOP, "anchors": {**SHOP["anchors"], **more}} if self.options.second else SHOP

    def write_gateway_config(self, *, private: bool) -> None:
        """Settings of both gateways; ``private``: whether those about privacy are made."""
        self._write_gateway_config(GATEWAY, "gateway", RECEIVERS, private=private)
        self._write_gateway_config(SECOND, SECOND, SECOND_RECEIVERS, private=private, role="receive")

    def _write_gateway_config(
        self, gateway: str, name: str, adapters: dict[str, str], *, private: bool, role: str = "decide"
    ) -> None:
        privacy = '[privacy]\ncontroller = "A shop"\ncontact = "privacy@shop.example"\ndpia_ack = true\n'
        receivers = "".join(f'[[receivers]]\nname = "{anchor}"\nadapter = "{adapter}"\n' for anchor, adapter in adapters.items())
        (self.folder / f"{name}.toml").write_text(
            f'store = "{STORE}"\nstore_number = {STORE_NUMBER}\nday_start_s = {self.day_start}\ngateway = "{gateway}"\n'
            f'role = "{role}"\nstate_dir = "{self.folder / name}"\n{self._broker_toml()}[trust]\n'
            f'public_keys = ["{self._template.public_key}"]\n[clock]\nassume_synchronised = true\n'
            f"[presence]\nvisit_gap_s = {self.options.visit_gap_s}\n{receivers}{privacy if private else ''}"
        )

    def write_broker_config(self, acl: str | None) -> None:
        """Mosquitto that keeps what it acknowledged; without an access list everybody may do everything."""
        folder = self.folder / "broker"
        text = (
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n"
            f"persistence true\npersistence_location {folder}/\nautosave_on_changes true\nautosave_interval 1\n"
            "max_queued_messages 100000\n"
        )
        if os.geteuid() == 0:
            text += "user root\n"
        if acl is not None:
            (folder / "acl").write_text(acl)
            (folder / "acl").chmod(0o600)
            text += f"acl_file {folder / 'acl'}\n"
        (folder / "mosquitto.conf").write_text(text)

    def _name_programs(self) -> None:
        logs = self.folder / "logs"
        logs.mkdir()
        environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": self.bluez.address, "PYTHONUNBUFFERED": "1"}

        def program(name: str, *arguments: str | Path) -> Program:
            command: list[str | Path] = [PROGRAM, *arguments]
            if self.options.speed != 1:
                pace = f"{self.pace.speed},{self.pace.from_mono_ms},{self.pace.from_wall_ms}"
                command = [sys.executable, "-m", "tests.e2e.hurried", pace, *arguments]
                environment["PYTHONPATH"] = str(ROOT)
            return Program(name, command, logs, environment)

        mosquitto = find_mosquitto()
        assert mosquitto is not None, "Mosquitto is not installed (Debian: apt install mosquitto)"
        self.broker = Program("broker", [mosquitto, "-c", self.folder / "broker" / "mosquitto.conf"], logs, environment)
        self.central = program("central", "central", "--config", self.folder / "central.toml")
        self.gateway = program("gateway", "run", "--config", self.folder / "gateway.toml")
        self.second = program(SECOND, "run", "--config", self.folder / f"{SECOND}.toml")
        self.inboxes = {
            name: program(
                name,
                *("central", "inbox", name, "--json", "--config", self.folder / "central.toml"),
                *("--file", self.folder / f"{name}.db"),
            )
            for name in self.options.inboxes
        }
        gateways = [self.gateway, self.second] if self.options.second else [self.gateway]
        self.programs = [self.broker, self.central, *gateways, *self.inboxes.values()]

    async def opt_out(self, name: str) -> None:
        """The app's owner withdraws consent."""
        await run_command("central", "opt-out", name, "--config", self.folder / "central.toml")

    # ---- the air

    async def _air(self) -> None:
        """Everybody's phone advertises to both adapters, loud where it is."""
        while True:
            began = time.monotonic()
            for phone in [*self.phones.values(), *self.strangers]:
                if phone.zone is None:
                    continue
                uuids = [uuid_text(phone.token())]
                for name, adapter in self.receivers.items():
                    if name in self.shielded:
                        continue
                    zone = name.partition("-")[2]
                    rssi = NEAR_DBM if zone == phone.zone else FAR_DBM
                    if await self.bluez.advertise(phone.address, rssi, adapter=adapter, service_uuids=uuids):
                        phone.heard += 1
            await asyncio.sleep(max(0.0, self.advertise_every_s - (time.monotonic() - began)))

    def walk(self, name: str, zone: str | None) -> None:
        """The shopper walks into a zone, or out of the shop."""
        self.phones[name].zone = zone

    def admit_strangers(self, count: int) -> None:
        """Phones with the app of somebody who is not enrolled here stand in the bakery."""
        for _ in range(count):
            stranger = Phone(random.randbytes(32), self.pace, self.day_start)
            stranger.zone = "bakery"
            self.strangers.append(stranger)

    async def still_heard(self, name: str, times: int = 12, by: Iterable[str] = RECEIVERS.values()) -> None:
        """Let the gateway hear the shopper for a while longer, so that what is wrong has a chance to happen."""
        for adapter in by:
            await self.bluez.wait_scanning(adapter)
        wanted = self.phones[name].heard + times
        await self.until(lambda: self.phones[name].heard >= wanted, f"{name} is heard {times} times more")

    # ---- what can be seen

    async def until(self, is_so: Callable[[], bool], what: str, within_s: float = 60) -> None:
        """Wait until something can be seen; fails, with ``what``, when it does not come or a process dies by itself."""
        deadline = time.monotonic() + within_s
        while not is_so():
            dead = [program.name for program in self.programs if program.should_run and not program.is_alive]
            assert not dead, f"{dead} ended while waiting for: {what}"
            assert time.monotonic() < deadline, f"did not happen within {within_s:g} s: {what}"
            await asyncio.sleep(0.02)

    async def until_ready(self) -> None:
        """The gateway scans, knows roster and promotions; central and the inboxes are subscribed."""
        await self.until(self._is_ready, "everybody is ready")

    def is_broker_there(self) -> bool:
        """Whether Mosquitto listens; before that a signal would end it."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _is_ready(self) -> bool:
        names = {name for (name,) in self.gateway_rows("SELECT name FROM snapshot")}
        knows = "catalogue" in names and (not self.options.private or sum(name.startswith("roster/") for name in names) >= 4)
        listens = all(_count(program.log, "connected") for program in self.inboxes.values())
        receives = not self.options.second or bool(self.wire.on(f"stores/{STORE}/up/{SECOND}/sighting"))
        return knows and listens and receives and all(self.bluez.scanning(adapter) for adapter in self.receivers.values())

    @property
    def gateway_db(self) -> Path:
        return self.folder / "gateway" / "gateway.db"

    def gateway_rows(self, sql: str, *parameters: Any) -> list[Row]:
        return rows(self.gateway_db, sql, *parameters)

    def central_rows(self, sql: str, *parameters: Any) -> list[Row]:
        return rows(self.folder / "central" / "central.db", sql, *parameters)

    def inbox_rows(self, name: str, sql: str, *parameters: Any) -> list[Row]:
        return rows(self.folder / f"{name}.db", sql, *parameters)

    def outbox_types(self) -> list[str]:
        """Types of the events that wait in the gateway's outbox."""
        return [kind for (kind,) in self.gateway_rows("SELECT type FROM outbox ORDER BY seq")]

    def shown(self, name: str) -> list[str]:
        """Promotions that the app has shown, as its standard output tells."""
        program = self.inboxes[name]
        lines = program.said.read_text().splitlines() if program.said.exists() else []
        return [offer["data"]["promotion_id"] for offer in map(json.loads, lines) if offer["new"]]

    def granted(self) -> list[Row]:
        """(inbox, promotion) of central's grants."""
        return self.central_rows("SELECT inbox, promotion_id FROM offer WHERE reason IS NULL ORDER BY inbox, promotion_id")

    def receipts(self) -> list[Row]:
        """(inbox, promotion, state) of the receipts that central has."""
        return self.central_rows(
            "SELECT receipt.inbox, promotion_id, state FROM receipt JOIN offer USING (offer) ORDER BY 1, 2, 3"
        )

    def is_quiet(self) -> bool:
        """Nothing is on its way any more: nothing waits for central, and every grant has been confirmed by its app."""
        return not self.outbox_types() and len(self.receipts()) == len(self.granted())

    async def settle(self, grants: int = 1) -> None:
        """Wait until everything that is on its way has arrived."""
        await self.until(lambda: len(self.granted()) >= grants and self.is_quiet(), f"{grants} grants arrive, nothing waits")

    # ---- claims

    def assert_exactly_once(self, expected: dict[str, list[str]]) -> None:
        """Each app has shown just these promotions, once each; nothing is lost or doubled anywhere between."""
        for name in self.inboxes:
            wanted = sorted(expected.get(name, []))
            kept = self.inbox_rows(name, "SELECT json_extract(payload, '$.data.promotion_id') FROM offer WHERE late = 0")
            assert sorted(promotion for (promotion,) in kept) == wanted, f"in the inbox of {name}"
            assert sorted(self.shown(name)) == wanted, f"shown by {name}"
        grants = sorted((name, promotion) for name, promotions in expected.items() for promotion in promotions)
        assert self.granted() == grants
        assert self.receipts() == [(*grant, "shown") for grant in grants]
        assert self.outbox_types() == []
        self.assert_streams_whole()
        self.assert_numbers_name_one_event()

    def assert_streams_whole(self) -> None:
        """At central every stream is 1 … n without a gap, and n is the newest number that the gateway has given."""
        numbers: dict[str, list[int]] = defaultdict(list)
        for epoch, seq in self.central_rows("SELECT epoch, seq FROM event WHERE gateway = ? ORDER BY epoch, seq", GATEWAY):
            numbers[epoch].append(seq)
        for epoch, given in numbers.items():
            assert given == list(range(1, len(given) + 1)), f"numbers of epoch {epoch}"
        (epoch,) = self.gateway_rows("SELECT value FROM meta WHERE key = 'epoch'")[0]
        newest = self.gateway_rows("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'")
        assert len(numbers.get(epoch, [])) == (newest[0][0] if newest else 0)

    def assert_numbers_name_one_event(self) -> None:
        """However often an event went over the wire, its number always meant the same."""
        meanings: dict[tuple[str, int], set[str]] = defaultdict(set)
        for message in self.wire.on(f"stores/{STORE}/up/{GATEWAY}/event"):
            event = message.event
            meanings[event["epoch"], event["seq"]].add(json.dumps([event["type"], event["time"], event["data"]]))
        ambiguous = {key: meant for key, meant in meanings.items() if len(meant) > 1}
        assert not ambiguous

    def presence_events(self, name: str) -> Counter[str]:
        """How many events of each type central has about the shopper."""
        found = self.central_rows("SELECT type FROM event WHERE json_extract(data, '$.shopper') = ?", self.phones[name].pseudonym)
        return Counter(kind for (kind,) in found)

    def logs(self) -> dict[str, str]:
        """The end of what each process said."""
        return {
            path.name: "\n".join(path.read_text(errors="replace").splitlines()[-40:])
            for path in sorted((self.folder / "logs").glob("*"))
        }


def central_toml(folder: Path, broker: str, day_start: int, visit_gap_s: int) -> str:
    """Settings of the central service."""
    return (
        f'state_dir = "{folder / "central"}"\nvisit_gap_s = {visit_gap_s}\noffer_resend_s = 2\n{broker}[stores.{STORE}]\n'
        f"store_number = {STORE_NUMBER}\nday_start_s = {day_start}\n"
    )


async def run_command(*arguments: str | Path) -> str:
    """Run `gateway …` to its end; returns what it printed, fails when it fails."""
    process = await asyncio.create_subprocess_exec(
        PROGRAM, *map(str, arguments), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said, complained = await process.communicate()
    assert process.returncode == 0, complained.decode()
    return said.decode()


async def make_template(folder: Path) -> Template:
    """Prepare central as its owner would: key, promotions, enrolled apps."""
    central = folder / "central.toml"
    central.write_text(central_toml(folder, "", 0, 1800))
    (folder / "promotions.json").write_text(json.dumps(PROMOTIONS))
    key = (await run_command("central", "key", "--config", central)).strip()
    await run_command("central", "promotions", folder / "promotions.json", "--store", STORE, "--config", central)
    template = Template(folder, key)
    for name in INBOXES:
        file = folder / f"{name}.key"
        await run_command("central", "enrol", name, "--store", STORE, "--key-file", file, "--config", central)
        template.keys[name] = bytes.fromhex(file.read_text())
    return template


def rows(path: Path, sql: str, *parameters: Any) -> list[Row]:
    """What a query finds in a database that another process writes; nothing while there is no file or table."""
    if not path.exists():
        return []
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as connection:
            return connection.execute(sql, parameters).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error) or "unable to open" in str(error):
            return []
        raise


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _count(file: Path, word: str) -> int:
    return file.read_text(errors="replace").count(word) if file.exists() else 0
