"""The shop in which the commands of the documentation are typed: everything real but the air and where things lie.

::

    "gateway status" ──▶ bin/gateway ──▶ quick_gateway.py ──▶ control socket ──▶ gateway run ──▶ Mosquitto ◀── gateway central
                                                                                   ▲
                                                          fake BlueZ (hci0, hci1) ◀┘◀── phones, a beacon, a stranger

What differs from a machine in a shop, all of it: the folders of `MOVED` lie in a temporary one; the broker is here and has a
port of its own; `sudo` does nothing but go on (and passes over `chown` where nobody is root); `systemctl` and `journalctl`
know the gateway alone; the public key of RFC 8032's first test stands for central's; the clock is assumed to be right; the
store's day begins half a day from now, so that no page meets its end. Pages are written, and compared, as if none of that
were so.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import secrets
import shutil
import signal
import sys
import tomllib
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Self

from gateway.contract.control import Status, StatusRequest, result_of
from gateway.io.control import ask
from gateway.io.embedded_broker import find_mosquitto
from tests.docs import quick_gateway
from tests.docs.pages import Block, Command, normalised
from tests.e2e.world import FAR_DBM, NEAR_DBM, ROOT, Pace, Phone, Program, day_start_s, free_port, rows, uuid_text
from tests.fakes.bluez import FakeBlueZ

MOVED = (
    *("/etc/beacon-gateway", "/etc/mosquitto", "/etc/systemd/system"),
    *("/var/lib/beacon-gateway", "/var/lib/beacon-central", "/var/lib/mosquitto", "/run/credentials"),
)
GATEWAY_TOML, CENTRAL_TOML = "/etc/beacon-gateway/gateway.toml", "/etc/beacon-gateway/central.toml"
PROGRAMS = ("bash", "mosquitto", "mosquitto_passwd", "mosquitto_pub", "mosquitto_sub", "openssl")
USUAL_PORT, TLS_PORT = 1883, 8883
REMOTE = "broker.example.org"
SAMPLE_KEY = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
SYSTEMD = """#!{python} -IS
import os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
server.sendall(" ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]]).encode() + b"\\n")
code, _, said = server.makefile().read().partition("\\n")
sys.stdout.write(said)
sys.exit(int(code))
"""
ADAPTER_OF = {"entrance": "hci0", "dairy": "hci1"}
"""Which adapter is loud where, as docs/examples/gateway.toml and shop.json have it."""
GATEWAY_SETTINGS = """\
store = "demo"
store_number = 4711
gateway = "pi-1"

[privacy]
controller = "Example Retail GmbH"
contact = "privacy@example.org"
dpia_ack = true

[trust]
public_keys = ["d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"]

[[receivers]]
name = "door"
adapter = "hci0"

[[receivers]]
name = "back"
adapter = "hci1"
"""
CENTRAL_SETTINGS = "[stores.demo]\nstore_number = 4711\n"
PROMOTIONS = {
    "promotions": [
        {
            "promotion_id": "yoghurt-3-for-2",
            "long_title": {"de": "3 Joghurts zum Preis von 2", "en": "3 yoghurts for the price of 2"},
            "zones": ["dairy"],
            "priority": 10,
            "cool_down_s": 3600,
        },
        {
            "promotion_id": "opening-hours",
            "kind": "info",
            "long_title": {"de": "Heute bis 22 Uhr geöffnet", "en": "Open until ten tonight"},
            "zones": ["entrance"],
        },
    ]
}
"""As docs/examples/promotions.json, but in force at any hour at which the pages are tested."""
_APPLE, _IBEACON = 0x004C, "0215"
_COMMAND_S = 60.0
_DIRECTION_S = 60.0
_QUIET_S = 2.5
_SOON_S = 1.0


class Stage:
    """One page's shop, from its first command to its last."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "shop"
        self.home = folder / "home"
        """Where the reader types."""
        self.port = free_port()
        self.pace = Pace()
        self.day_start = day_start_s(self.pace.wall_ms() / 1000)
        self.phones: dict[str, Phone] = {}
        self.programs: dict[str, Program] = {}
        self.key = SAMPLE_KEY
        self._is_remote = False
        """Whether the page speaks of a broker elsewhere."""
        self._written: dict[str, str] = {}
        """Files as the page has them."""
        self._logs = folder / "logs"
        self._bin = folder / "bin"
        self._tasks: set[asyncio.Task[None]] = set()
        self._exits = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        missing = [program for program in PROGRAMS if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]
        assert not missing, f"the pages type these programs, and they are not installed: {', '.join(missing)}"
        for made in (self.home, self._logs, self._bin, *(Path(f"{self.root}{moved}") for moved in MOVED)):
            made.mkdir(parents=True)
        shutil.copytree(ROOT / "docs" / "examples", self.home / "docs" / "examples")
        (self.home / "promotions.json").write_text(json.dumps(PROMOTIONS, indent=2, ensure_ascii=False))
        self.bluez = await self._exits.enter_async_context(FakeBlueZ(*ADAPTER_OF.values()))
        self.environment = {
            **os.environ,
            "PATH": f"{self._bin}:{os.environ['PATH']}:/usr/sbin:/sbin",
            "DBUS_SYSTEM_BUS_ADDRESS": self.bluez.address,
            "COLUMNS": "130",
            "LC_ALL": "C.UTF-8",
            "HOME": str(self.home),
        }
        address = self._bin / "quick"
        quick_gateway.install(self._bin, address)
        (self._bin / "sudo").write_text('#!/bin/sh\n[ "$1" != chown ] || [ "$(id -u)" = 0 ] || exit 0\nexec "$@"\n')
        (self._bin / "sudo").chmod(0o755)
        (self._bin / "python3").symlink_to(sys.executable)
        settings = {usual: f"{self.root}{usual}" for usual in (GATEWAY_TOML, CENTRAL_TOML)}
        quick = self._program("quick", sys.executable, "-m", "tests.docs.quick_gateway", address, json.dumps(settings))
        await quick.start()
        await self._until(address.exists, "commands can be typed")
        await self._exits.enter_async_context(await asyncio.start_unix_server(self._systemd, self._bin / "systemd"))
        for name in ("systemctl", "journalctl"):
            (self._bin / name).write_text(SYSTEMD.format(python=sys.executable, address=str(self._bin / "systemd")))
            (self._bin / name).chmod(0o755)
        self._in_background(self._air())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(program.kill() for program in self.programs.values()))
        await self._exits.aclose()

    # ---- files and words ------------------------------------------------------------------------------------------------------

    def inward(self, text: str) -> str:
        """From the page into this shop."""
        for moved in MOVED:
            text = re.sub(rf"(?<![\w/]){re.escape(moved)}(?![\w-])", f"{self.root}{moved}", text)
        self._is_remote |= REMOTE in text
        return re.sub(rf"(?<=[ :])({USUAL_PORT}|{TLS_PORT})\b", str(self.port), text.replace(REMOTE, "localhost"))

    def outward(self, text: str) -> str:
        """From this shop onto the page."""
        text = text.replace(str(self.root), "").replace(str(self.home), "/home/you")
        if self._is_remote:
            text = text.replace(f"localhost:{self.port}", f"{REMOTE}:{TLS_PORT}")
        return re.sub(rf"\b{self.port}\b", str(TLS_PORT if self._is_remote else USUAL_PORT), text)

    def write(self, block: Block) -> None:
        """The file of a block, made to fit this shop."""
        name, text = block.info["file"], "\n".join(block.lines) + "\n"
        self._written[name] = text = _with(self._written[name], text) if "add" in block.info else text
        path = Path(self.inward(name))
        path = path if path.is_absolute() else self.home / path
        path.parent.mkdir(parents=True, exist_ok=True)
        text = self.inward(text).replace(SAMPLE_KEY, self.key)
        path.write_text(self._settings(text, name) if name in {GATEWAY_TOML, CENTRAL_TOML} else text)

    async def _live_central(self) -> None:
        """Broker and central are somebody else's; anna's app is enrolled and has its inbox open."""
        Path(self.inward(CENTRAL_TOML)).write_text(self._settings(CENTRAL_SETTINGS, CENTRAL_TOML))
        await self._learn_the_key()
        await self._ask("gateway central promotions promotions.json --store demo")
        await self._ask("gateway central enrol anna --store demo --key-file anna.key")
        await self.direct("start broker; start central; start app anna")

    def _set_up(self) -> None:
        """The gateway's files, which the page does not tell how to write."""
        shutil.copy(self.home / "docs" / "examples" / "shop.json", self.gateway_db.with_name("shop.json"))
        text = self._settings(GATEWAY_SETTINGS.replace(SAMPLE_KEY, self.key), GATEWAY_TOML)
        Path(self.inward(GATEWAY_TOML)).write_text(text)

    async def _learn_the_key(self) -> None:
        self.key = await self._ask("gateway central key")

    async def _ask(self, typed: str) -> str:
        printed, code = await self.type(Command(0, typed))
        assert not code, f"{typed}: {printed}"
        return "\n".join(printed)

    def _settings(self, text: str, name: str) -> str:
        document = tomllib.loads(text)
        at_top = f'state_dir = "{self.root}/var/lib/beacon-{"gateway" if name == GATEWAY_TOML else "central"}"\n'
        at_top = "" if "state_dir" in document else at_top
        if name == GATEWAY_TOML:
            at_top += f"day_start_s = {self.day_start}\n"
            text += "" if "clock" in document else "[clock]\nassume_synchronised = true\n"
        else:
            text = re.sub(r"^(store_number = .*)$", rf"\1\nday_start_s = {self.day_start}", text, flags=re.MULTILINE)
        if "port" not in document.get("broker", {}):
            text = text.replace("[broker]\n", f"[broker]\nport = {self.port}\n") if "broker" in document else text
            text += "" if "broker" in document else f"[broker]\nport = {self.port}\n"
        return at_top + text

    # ---- commands -------------------------------------------------------------------------------------------------------------

    async def type(self, command: Command, info: Collection[str] = ()) -> tuple[list[str], int]:
        """Type it; returns what it printed, in the page's words, and the exit code."""
        process = await asyncio.create_subprocess_exec(
            "bash",
            "-c",
            self.inward(command.typed),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=self.home,
            env=self.environment,
            start_new_session=True,
        )
        assert process.stdout is not None
        printed: list[str] = []
        wanted = {normalised(line, info) for line in command.printed}

        async def read() -> None:
            assert process.stdout is not None
            async for line in process.stdout:
                printed.append(self.outward(line.decode().rstrip("\n")))  # noqa: PERF401 -- it is looked at while it grows

        reading = asyncio.create_task(read())
        try:
            async with asyncio.timeout(_COMMAND_S):
                if command.interrupted:
                    await self._until_said(printed, wanted, info)
                    os.killpg(process.pid, signal.SIGINT)
                await reading
                return printed, await process.wait()
        finally:
            reading.cancel()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    async def _until_said(self, printed: list[str], wanted: set[str], info: Collection[str]) -> None:
        """Until everything that the page tells has been said; where it tells nothing yet, until nothing more is said."""
        quiet_s, said = 0.0, 0
        while quiet_s < _QUIET_S * (1 if not wanted else 10):
            if wanted and wanted <= {normalised(line, info) for line in printed}:
                return
            quiet_s = quiet_s + 0.1 if len(printed) == said and printed else 0.0
            said = len(printed)
            await asyncio.sleep(0.1)

    # ---- directions -----------------------------------------------------------------------------------------------------------

    async def direct(self, text: str) -> None:  # noqa: C901, PLR0912 -- a list of what can be said
        """One stage direction; ``ValueError`` for one that nobody understands."""
        for part in text.split("; "):
            match part.split():
                case ["a", "gateway", "is", "set", "up"]:
                    self._set_up()
                case ["a", "live", "central"]:
                    await self._live_central()
                case ["central's", "key", "is", "known"]:
                    await self._learn_the_key()
                case ["the", "gateway", "refuses", "something"]:
                    await self._until(lambda: self._says("gateway", "refused"), "the gateway refuses something")
                case ["the", "gateway", "is", "ready"]:
                    await self._until(self._hears, "the gateway hears and knows what central says")
                case ["start", "broker"]:
                    await self._start_broker()
                case ["start", "central"]:
                    await self._start("central", "central")
                    await self._until(lambda: self._says("central", "connected"), "central is connected")
                case ["start", "gateway"]:
                    await self._start("gateway", "run")
                    await self._until(self._hears, "the gateway hears and knows what central says")
                case ["stop", name]:
                    await self.programs.pop(name).stop()
                case ["start", "app", name]:
                    await self._start_app(name)
                case ["soon", name, "enters", zone]:
                    self._in_background(self._soon(lambda name=name, zone=zone: self._enter(name, zone)))  # type: ignore[misc]
                case [name, "enters", zone]:
                    await self._enter(name, zone)
                case [name, "leaves"]:
                    self.phones[name].zone = None
                case ["everything", "arrives"]:
                    await self._until(self._nothing_waits, "nothing is under way any more")
                case _:
                    raise ValueError(f"nobody understands this stage direction: {part}")

    async def _start(self, name: str, *words: str) -> None:
        usual = CENTRAL_TOML if words[0] == "central" else GATEWAY_TOML
        self._load_credentials()
        program = self._program(name, self._bin / "gateway", *words, "--config", f"{self.root}{usual}")
        await program.start()

    async def _systemd(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What systemctl and journalctl say of the one service there is."""
        words = (await reader.readline()).decode().split()
        code, said = 0, ""
        match words:
            case ["systemctl", "daemon-reload"]:
                pass
            case ["systemctl", "start" | "stop" | "restart" as what, "gateway"]:
                if what != "start" and "gateway" in self.programs:
                    await self.programs.pop("gateway").stop()
                if what != "stop":
                    await self._start("gateway", "run")
                    control = self.gateway_db.with_name("control.sock")
                    await self._until(control.exists, "the gateway answers")
            case ["journalctl", "-u", "gateway", *_]:
                said = self._log("gateway")
            case _:
                code, said = 1, f"not on this stage: {words}\n"
        writer.write(f"{code}\n{said}".encode())
        writer.close()
        await writer.wait_closed()

    def _load_credentials(self) -> None:
        """What LoadCredential= of a unit or drop-in does."""
        units = Path(self.inward("/etc/systemd/system"))
        for file in (*units.glob("*.service"), *units.glob("*.service.d/*.conf")):
            unit = file.name if file.suffix == ".service" else file.parent.name.removesuffix(".d")
            for name, source in re.findall(r"^LoadCredential=(.+):(.+)$", file.read_text(), re.MULTILINE):
                target = Path(self.inward("/run/credentials")) / unit
                target.mkdir(exist_ok=True)
                shutil.copy(source, target / name)

    def _program(self, name: str, *command: str | Path) -> Program:
        environment = {**self.environment, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
        self.programs[name] = Program(name, command, self._logs, environment)
        return self.programs[name]

    async def _start_broker(self) -> None:
        mosquitto = find_mosquitto()
        assert mosquitto is not None, "Mosquitto is not installed (Debian: apt install mosquitto)"
        config, pages = self._logs / "mosquitto.conf", Path(self.inward("/etc/mosquitto/conf.d"))
        pages.mkdir(exist_ok=True)
        usual = f"listener {self.port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\npersistence false\n"
        # As Debian's: it keeps what is retained, and reads what the page has told.
        debians = f"persistence true\npersistence_location {self.inward('/var/lib/mosquitto/')}\ninclude_dir {pages}\n"
        config.write_text(("user root\n" if os.geteuid() == 0 else "") + (debians if any(pages.iterdir()) else usual))
        await self._program("broker", mosquitto, "-c", config).start()
        await self._until(self._broker_listens, "the broker listens")

    def _broker_listens(self) -> bool:
        return any(f"port {self.port}" in line for line in self._log("broker").splitlines())

    async def _start_app(self, name: str) -> None:
        file = self.home / f"{name}.db"
        program = self._program(
            f"app-{name}",
            *(self._bin / "gateway", "central", "inbox", name, "--file", file, "--config", f"{self.root}{CENTRAL_TOML}"),
        )
        await program.start()
        await self._until(lambda: self._says(f"app-{name}", "connected"), f"the app of {name} is connected")

    async def _soon(self, what: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(_SOON_S)
        await what()

    async def _enter(self, name: str, zone: str) -> None:
        if name not in self.phones:
            key = bytes.fromhex((self.home / f"{name}.key").read_text())
            self.phones[name] = Phone(key, self.pace, self.day_start, name)
        before = self._entries(zone)
        self.phones[name].zone = zone
        await self._until(lambda: self._entries(zone) > before, f"{name} is located in {zone}")

    def _entries(self, zone: str) -> int:
        return len(rows(self.gateway_db, "SELECT id FROM ledger WHERE type = 'zone.entered' AND zone = ?", zone))

    @property
    def gateway_db(self) -> Path:
        """Of the gateway on this stage."""
        return Path(f"{self.root}/var/lib/beacon-gateway/gateway.db")

    def _hears(self) -> bool:
        known = {name for (name,) in rows(self.gateway_db, "SELECT name FROM snapshot")}
        rosters = sum(name.startswith("roster/") for name in known)
        return "catalogue" in known and rosters >= 2 and all(map(self.bluez.scanning, ADAPTER_OF.values())) and self._is_ready()

    def _is_ready(self) -> bool:
        """As the gateway itself sees it."""
        answer = ask(self.gateway_db.with_name("control.sock"), StatusRequest().model_dump_json().encode() + b"\n", timeout_s=5)
        if answer is None:
            return False
        status = result_of(answer, Status)
        hears = all(receiver.state == "hearing" and receiver.heard_per_s for receiver in status.receivers)
        return hears and status.central == "online" and status.outbox.last_ack_s is not None

    def _nothing_waits(self) -> bool:
        central = Path(f"{self.root}/var/lib/beacon-central/central.db")
        apps = [name.removeprefix("app-") for name in self.programs if name.startswith("app-")]
        waits = [inbox for (inbox,) in rows(central, "SELECT inbox FROM app_outbox") if inbox in apps]
        undecided = rows(self.gateway_db, "SELECT offer FROM offer WHERE state = 'matched'")
        return not waits and not undecided and not rows(self.gateway_db, "SELECT seq FROM outbox")

    def _says(self, name: str, words: str) -> bool:
        return words in self._log(name)

    def _log(self, name: str) -> str:
        file = self._logs / f"{name}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    async def _until(self, is_so: Callable[[], bool], what: str) -> None:
        async with asyncio.timeout(_DIRECTION_S):
            while not is_so():
                dead = [name for name, program in self.programs.items() if program.should_run and not program.is_alive]
                assert not dead, f"{dead} ended while waiting for: {what}\n" + "\n".join(map(self._log, dead))
                await asyncio.sleep(0.02)

    def logs(self) -> str:
        """The end of what everybody said."""
        return "\n".join(f"{name}:\n" + "\n".join(self._log(name).splitlines()[-20:]) for name in self.programs)

    # ---- the air --------------------------------------------------------------------------------------------------------------

    def _in_background(self, what: Awaitable[None]) -> None:
        self._tasks.add(asyncio.ensure_future(what))

    async def _air(self) -> None:
        """Phones, five times a second; the beacon of the example shop and a stranger's device, twice."""
        shop = json.loads((ROOT / "docs" / "examples" / "shop.json").read_bytes())
        shelf = shop["anchors"]["shelf-7"]
        ours = bytes.fromhex(_IBEACON + shelf["uuid"].replace("-", "") + f"{shelf['major']:04x}{shelf['minor']:04x}c5")
        strange, stranger, beacon = secrets.token_bytes(6), _address(), _address()
        for number in range(1_000_000):
            for phone in list(self.phones.values()):
                for zone, adapter in ADAPTER_OF.items():
                    if phone.zone is not None:
                        rssi = NEAR_DBM if zone == phone.zone else FAR_DBM
                        await self.bluez.advertise(phone.address, rssi, adapter=adapter, service_uuids=[uuid_text(phone.token())])
            if number % 2 == 0:
                jitter = random.randint(-1, 1)
                await self.bluez.advertise(beacon, -61 + jitter, adapter="hci1", manufacturer_data={_APPLE: ours})
                strange = bytes([number % 256]) + strange[1:]
                await self.bluez.advertise(stranger, -70 + jitter, adapter="hci0", manufacturer_data={0x0075: strange})
            await asyncio.sleep(0.2)


def _with(settings: str, more: str) -> str:
    """Settings in which the first keys of ``more`` take the place of their namesakes, and its sections are new."""
    keys, _, sections = more.partition("\n[")
    for line in filter(None, keys.lstrip("[").splitlines() if not more.startswith("[") else []):
        key = line.partition("=")[0].strip()
        settings, changed = re.subn(rf"^{key} *=.*$", line, settings, count=1, flags=re.MULTILINE)
        settings = settings if changed else f"{line}\n{settings}"
    return settings + ("\n" + more if more.startswith("[") else f"\n[{sections}" if sections else "")


def _address() -> str:
    return "C" + ":".join(f"{octet:02X}" for octet in random.randbytes(6))[1:]
