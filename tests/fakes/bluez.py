"""A fake org.bluez on a private bus: what bleak's scanner needs of bluetoothd 5.66, and the faults a shop meets.

    test ── JSON lines ──▶ this file as a process of its own ── D-Bus ──▶ dbus-daemon of its own ◀── D-Bus ── bleak

A process of its own, because what is tested may be one too, and because a real bluetoothd can hang or die by itself. One
command a line on standard input, ``{"advertise": {"address": …, "rssi": -60}}``; one answer a line, in order; and in between
lines ``{"scanning": …}`` whenever an adapter's scan changes. End of input ends it, and with it the bus.

Like bluetoothd it hears nothing unless somebody scans, forgets the scans of a client that vanished, reports a device with
InterfacesAdded once and with PropertiesChanged from then on, lets an address's UUIDs only grow, withdraws RSSIs when a scan
ends, and on behalf of a passive scan reports an RSSI only if it jumps by 8 dB (src/adapter.c, src/device.c, src/adv_monitor.c).
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Self, TypeVar

from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

ADAPTER, DEVICE, MONITORS = "org.bluez.Adapter1", "org.bluez.Device1", "org.bluez.AdvertisementMonitorManager1"
MONITOR, PROPERTIES, OBJECTS = (
    "org.bluez.AdvertisementMonitor1",
    "org.freedesktop.DBus.Properties",
    "org.freedesktop.DBus.ObjectManager",
)
V = Variant
RSSI_THRESHOLD_DB = 8
BASE_UUID = "0000{}-0000-1000-8000-00805f9b34fb"
PATTERNS_THAT_KILL = 7
"""More in one monitor overflow bluetoothd 5.66's command to the kernel: it aborts (measured)."""
MESSAGES_IN_SOCKET = 32
"""dbus-fast drops the connection when the socket is full, so the daemon is asked after so many whether it has read them."""

BUS_CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={path}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>
  </policy>
</busconfig>
"""

Json = dict[str, Any]
T = TypeVar("T")


# ---- the test's side ----------------------------------------------------------------------------------------------------------


class FakeBlueZ:
    """Runs the fake while the context lasts: ``async with FakeBlueZ("hci0", "hci1") as bluez``.

    ``bluez.address`` belongs in ``DBUS_SYSTEM_BUS_ADDRESS`` of whatever is tested. Skips the test without a dbus-daemon.
    """

    def __init__(self, *adapters: str) -> None:
        self.adapters = adapters or ("hci0",)
        self.address = ""
        self._scans: dict[str, str | None] = {}
        self._changed = asyncio.Condition()
        self._answers: deque[asyncio.Future[Any]] = deque()
        self._folder: str = ""
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        skip_without_dbus_daemon()
        # Not pytest's tmp_path: the path of a unix socket may have 107 bytes.
        self._folder = tempfile.mkdtemp(prefix="fake-bluez-")
        self.address = f"unix:path={self._folder}/bus"
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", __file__, self._folder, *self.adapters),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
            self._reader = asyncio.create_task(self._read(self._process))
            ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self._answers.append(ready)
            await asyncio.wait_for(ready, 10)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        await self._end()

    async def _end(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(ProcessLookupError):
                self.thaw()
            self._process.stdin.close()
            try:
                await asyncio.wait_for(self._process.wait(), 2)
            except TimeoutError:
                # It hangs. The group takes its dbus-daemon along.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                await self._process.wait()
        if self._reader is not None:
            await self._reader
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            match json.loads(line):
                case {"scanning": scans}:
                    async with self._changed:
                        self._scans = scans
                        self._changed.notify_all()
                case {"answer": answer}:
                    # Whoever was cancelled does not wait any more.
                    if not (waiting := self._answers.popleft()).done():
                        waiting.set_result(answer)
                case {"error": error}:
                    if not (waiting := self._answers.popleft()).done():
                        waiting.set_exception(ValueError(error))
        for answer in self._answers:
            if not answer.done():
                answer.set_exception(ConnectionError("the fake bluetoothd has ended"))

    async def tell(self, command: str, **arguments: Any) -> Any:
        """Send one command and wait for its answer; raises ``ValueError`` with what the fake complains about."""
        assert self._process is not None
        assert self._process.stdin is not None
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        self._process.stdin.write(json.dumps({command: arguments}).encode() + b"\n")
        await self._process.stdin.drain()
        return await answer

    async def advertise(
        self,
        address: str,
        rssi: int | None = -60,
        *,
        adapter: str = "hci0",
        service_uuids: Sequence[str] = (),
        manufacturer_data: Mapping[int, bytes] | None = None,
        service_data: Mapping[str, bytes] | None = None,
        name: str | None = None,
        flags: int | None = 0x06,
    ) -> bool:
        """One advertisement on the air; whether a scan made BlueZ report it. ``rssi`` in dBm, ``None`` = withdrawn.

        UUIDs are written in full or, 16-bit ones, as four hexadecimal digits. ``flags=None`` sends none.
        """
        return bool(
            await self.tell(
                "advertise",
                adapter=adapter,
                address=address,
                rssi=rssi,
                service_uuids=list(service_uuids),
                manufacturer_data={str(company): data.hex() for company, data in (manufacturer_data or {}).items()},
                service_data={uuid: data.hex() for uuid, data in (service_data or {}).items()},
                name=name,
                flags=flags,
            )
        )

    async def power(self, adapter: str, *, on: bool) -> None:
        """Switch an adapter off, which ends its active scans and withdraws RSSIs, or on again."""
        await self.tell("power", adapter=adapter, on=on)

    async def add_adapter(self, adapter: str, address: str | None = None) -> None:
        """Plug one in, powered on; ``address`` = one that was there before, perhaps under another number."""
        await self.tell("add_adapter", adapter=adapter, address=address)

    async def block(self, adapter: str, *, on: bool) -> None:
        """Switch it off by rfkill: nobody can switch it on; ``on=False`` lifts that, and leaves it off."""
        await self.tell("block", adapter=adapter, on=on)

    async def hide_passive(self) -> None:
        """Be a bluetoothd without passive scans, from the next start on."""
        await self.tell("hide_passive")

    async def offload(self) -> None:
        """Have controllers that apply the patterns of passive scans themselves, from the next start on."""
        await self.tell("offload")

    async def remove_adapter(self, adapter: str) -> None:
        """Unplug it: its devices and scans are gone."""
        await self.tell("remove_adapter", adapter=adapter)

    async def deafen(self, adapter: str, cure: str = "start") -> None:
        """Let the running scan hear nothing more and say nothing of it.

        ``cure``: "start" = the next start, "client" = a start by another bus connection, "power" = off and on, "plug" = taking it
        out and plugging it in, "never".
        """
        await self.tell("deafen", adapter=adapter, cure=cure)

    async def stall(self, adapter: str, *, on: bool) -> None:
        """Leave active starts without an answer, as with a controller that hangs; ``on=False`` answers them after all."""
        await self.tell("stall", adapter=adapter, on=on)

    async def stick(self, adapter: str, *, on: bool) -> None:
        """Let every active start fail with InProgress, as an adapter does that was reset under bluetoothd; passive ones work."""
        await self.tell("stick", adapter=adapter, on=on)

    async def deny_discovering(self, adapter: str) -> None:
        """Say that nobody scans actively with it, although somebody does."""
        await self.tell("deny_discovering", adapter=adapter)

    async def stop_bluetoothd(self) -> None:
        """Kill bluetoothd: its name leaves the bus without a word; nothing of scans or devices survives."""
        await self.tell("bluetoothd", on=False)

    async def start_bluetoothd(self) -> None:
        """Start it again."""
        await self.tell("bluetoothd", on=True)

    async def restart_bus(self) -> None:
        """Kill the dbus-daemon and start it and bluetoothd again, at the same address."""
        await self.tell("restart_bus")

    def freeze(self) -> None:
        """Let bluetoothd hang: it answers nobody, this class included, until ``thaw``."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Wake it up: it answers what has waited."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def scanning(self, adapter: str = "hci0") -> str | None:
        """``"active"`` or ``"passive"``, ``None`` = nobody scans with it, or there is no such adapter."""
        return self._scans.get(adapter)

    async def wait_scanning(self, adapter: str = "hci0", *modes: str | None, timeout_s: float = 30) -> None:
        """Wait until it scans in one of ``modes``, any if none is given; raises ``TimeoutError``."""
        wanted = modes or ("active", "passive")
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: self.scanning(adapter) in wanted)


@contextlib.contextmanager
def blocking_fake_bluez(*adapters: str) -> Iterator[tuple[FakeBlueZ, Callable[[Coroutine[Any, Any, T]], T]]]:
    """The same for tests without a loop: ``with blocking_fake_bluez() as (bluez, do): do(bluez.advertise(…))``."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="fake-bluez")
    thread.start()

    def do(what: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, loop).result()

    async def make() -> FakeBlueZ:
        return FakeBlueZ(*adapters)

    try:
        bluez = asyncio.run_coroutine_threadsafe(make(), loop).result()
        asyncio.run_coroutine_threadsafe(bluez.__aenter__(), loop).result()
        try:
            yield bluez, do
        finally:
            asyncio.run_coroutine_threadsafe(bluez.__aexit__(None, None, None), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def skip_without_dbus_daemon() -> None:
    """Skip the running test, with the reason, where the program is missing."""
    if shutil.which("dbus-daemon") is None:
        import pytest

        pytest.skip("dbus-daemon is not installed (Debian: apt install dbus-daemon); the fake BlueZ needs a private bus")


# ---- the process --------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Device:
    """What BlueZ remembers of one address."""

    uuids: list[str] = field(default_factory=list)
    companies: dict[int, bytes] = field(default_factory=dict)
    services: dict[str, bytes] = field(default_factory=dict)
    rssi: int | None = None
    name: str | None = None
    flags: int | None = None


@dataclass(slots=True)
class Adapter:
    """One controller and who scans with it."""

    address: str
    powered: bool = True
    deaf: str | None = None
    """What cures it."""
    deafened: set[str] = field(default_factory=set)
    """The clients that were scanning then."""
    blocked: bool = False
    stuck: bool = False
    stalled: bool = False
    unanswered: list[Message] = field(default_factory=list)
    filters: dict[str, dict[str, V]] = field(default_factory=dict)
    discoveries: set[str] = field(default_factory=set)
    monitors: dict[tuple[str, str], list[tuple[int, int, bytes]]] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)

    @property
    def scan(self) -> str | None:
        if not self.powered:
            return None
        return "active" if self.discoveries else "passive" if self.monitors else None


class Refusal(Exception):
    """A D-Bus error in answer to a call."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


NO_ANSWER_YET = True
"""Tells dbus-fast that the call has been taken care of."""
NOT_READY = ("org.bluez.Error.NotReady", "Resource Not Ready")


class Bluetoothd:
    """org.bluez on the bus at ``address``."""

    def __init__(self, folder: Path, adapters: Sequence[str]) -> None:
        self.folder = folder
        self.adapters: dict[str, Adapter] = {}
        self._plugged = 0
        for adapter in adapters:
            self._plug(adapter)
        self.bus: MessageBus | None = None
        self.daemon: asyncio.subprocess.Process | None = None
        self.is_passive, self.offloads = True, False
        self._unread = 0
        self._said: Json = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def _plug(self, adapter: str, address: str | None = None) -> None:
        if adapter in self.adapters:
            raise ValueError(f"{adapter} is there already")
        self._plugged += 1
        self.adapters[adapter] = Adapter(address=address or f"00:1A:7D:DA:71:{9 + self._plugged:02X}")

    # -- bus

    async def open_bus(self) -> None:
        configuration = self.folder / "bus.conf"
        configuration.write_text(BUS_CONFIGURATION.format(path=self.folder / "bus"))
        self.daemon = await asyncio.create_subprocess_exec(
            *("dbus-daemon", f"--config-file={configuration}", "--nofork", "--nopidfile", "--print-address=1"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self.daemon.stdout is not None
        assert self.daemon.stderr is not None
        if not await self.daemon.stdout.readline():
            raise ConnectionError(f"dbus-daemon does not start: {(await self.daemon.stderr.read()).decode()}")

    async def close_bus(self) -> None:
        if self.daemon is not None:
            self.daemon.kill()
            await self.daemon.wait()
            (self.folder / "bus").unlink(missing_ok=True)

    async def enter(self) -> None:
        """Come on to the bus as a new bluetoothd and announce the adapters."""
        self.bus = await MessageBus(f"unix:path={self.folder / 'bus'}").connect()
        self.bus.add_message_handler(self._handle)
        await self._call(
            Message(
                destination="org.freedesktop.DBus",
                path="/org/freedesktop/DBus",
                interface="org.freedesktop.DBus",
                member="AddMatch",
                signature="s",
                body=["type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg2=''"],
            )
        )
        await self.bus.request_name("org.bluez")
        for name in self.adapters:
            await self._added(adapter_path(name), self._adapter_interfaces(name))

    async def leave(self) -> None:
        """Die: everything but the adapters themselves is forgotten."""
        for adapter in self.adapters.values():
            adapter.filters, adapter.discoveries, adapter.monitors, adapter.devices = {}, set(), {}, {}
            adapter.deaf = None
            adapter.unanswered.clear()
        if self.bus is not None:
            self.bus.disconnect()
            with contextlib.suppress(OSError, EOFError):
                await self.bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
            self.bus = None
        self._say_scanning()

    async def _call(self, message: Message) -> Message:
        assert self.bus is not None
        reply = await self.bus.call(message)
        assert reply is not None
        return reply

    async def _signal(self, path: str, interface: str, member: str, signature: str, body: list[Any]) -> None:
        if self.bus is None:
            return
        await self.bus.send(Message.new_signal(path, interface, member, signature, body))
        self._unread += 1
        if self._unread >= MESSAGES_IN_SOCKET:
            self._unread = 0
            await self._call(
                Message(
                    destination="org.freedesktop.DBus",
                    path="/org/freedesktop/DBus",
                    interface="org.freedesktop.DBus.Peer",
                    member="Ping",
                )
            )

    async def _added(self, path: str, interfaces: Json) -> None:
        await self._signal("/", OBJECTS, "InterfacesAdded", "oa{sa{sv}}", [path, interfaces])

    async def _removed(self, path: str, interfaces: list[str]) -> None:
        await self._signal("/", OBJECTS, "InterfacesRemoved", "oas", [path, interfaces])

    async def _properties_changed(self, path: str, interface: str, changed: Json, invalidated: list[str]) -> None:
        await self._signal(path, PROPERTIES, "PropertiesChanged", "sa{sv}as", [interface, changed, invalidated])

    # -- objects

    def _adapter_interfaces(self, name: str) -> Json:
        adapter = self.adapters[name]
        properties = {
            "Address": V("s", adapter.address),
            "AddressType": V("s", "public"),
            "Name": V("s", "fake"),
            "Alias": V("s", "fake"),
            "Powered": V("b", adapter.powered),
            "Discovering": V("b", bool(adapter.discoveries)),
            "Roles": V("as", ["central", "peripheral"]),
        }
        features = ["controller-patterns"] if self.offloads else []
        monitors = {"SupportedMonitorTypes": V("as", ["or_patterns"]), "SupportedFeatures": V("as", features)}
        return {ADAPTER: properties, PROPERTIES: {}} | ({MONITORS: monitors} if self.is_passive else {})

    def _device_properties(self, adapter: str, address: str) -> Json:
        device = self.adapters[adapter].devices[address]
        properties = {
            "Address": V("s", address),
            "AddressType": V("s", "random"),
            "Alias": V("s", device.name or address.replace(":", "-")),
            "Paired": V("b", False),
            "Bonded": V("b", False),
            "Trusted": V("b", False),
            "Blocked": V("b", False),
            "LegacyPairing": V("b", False),
            "Connected": V("b", False),
            "ServicesResolved": V("b", False),
            "Adapter": V("o", adapter_path(adapter)),
        }
        return properties | advertised_properties(device)

    def _managed_objects(self) -> Json:
        objects: Json = {}
        for name, adapter in self.adapters.items():
            objects[adapter_path(name)] = self._adapter_interfaces(name)
            for address in adapter.devices:
                objects[device_path(name, address)] = {DEVICE: self._device_properties(name, address), PROPERTIES: {}}
        return objects

    # -- calls

    def _handle(self, message: Message) -> Message | bool | None:
        if message.message_type is MessageType.SIGNAL and message.member == "NameOwnerChanged":
            self._later(self._drop(message.body[0]))
            return None
        if message.message_type is not MessageType.METHOD_CALL or message.interface == "org.freedesktop.DBus.Peer":
            return None
        try:
            return self._answer(message)
        except Refusal as refusal:
            return Message.new_error(message, refusal.name, str(refusal))

    def _answer(self, message: Message) -> Message | bool:
        member = message.member
        if message.path == "/" and member == "GetManagedObjects":
            return Message.new_method_return(message, "a{oa{sa{sv}}}", [self._managed_objects()])
        name = (message.path or "").removeprefix("/org/bluez/")
        adapter = self.adapters.get(name)
        if adapter is None:
            raise Refusal(
                "org.freedesktop.DBus.Error.UnknownObject", f'Method "{member}" with signature "" on interface doesn\'t exist'
            )
        if message.interface == PROPERTIES:
            return self._property(message, name)
        assert message.sender is not None
        match member:
            case "SetDiscoveryFilter":
                self._must_be_powered(adapter)
                adapter.filters[message.sender] = message.body[0]
            case "StartDiscovery":
                self._start_discovery(adapter, message.sender)
                self._later(self._discovering_changed(name))
                if adapter.stalled:
                    adapter.unanswered.append(message)
                    return NO_ANSWER_YET
            case "StopDiscovery":
                self._stop_discovery(adapter, message.sender)
                self._later(self._discovery_ended(name))
            case "RegisterMonitor" if self.is_passive:
                self._later(self._activate_monitor(name, message.sender, message.body[0]))
            case "UnregisterMonitor":
                if adapter.monitors.pop((message.sender, message.body[0]), None) is None:
                    raise Refusal("org.bluez.Error.DoesNotExist", "Does Not Exist")
                self._say_scanning()
            case _:
                raise Refusal("org.freedesktop.DBus.Error.UnknownMethod", f"no {member} here")
        return Message.new_method_return(message)

    def _property(self, message: Message, name: str) -> Message:
        interface, *rest = message.body
        properties = self._adapter_interfaces(name).get(interface, {})
        match message.member, rest:
            case "GetAll", []:
                return Message.new_method_return(message, "a{sv}", [properties])
            case "Get", [key] if key in properties:
                return Message.new_method_return(message, "v", [properties[key]])
            case "Set", ["Powered", value]:
                if self.adapters[name].blocked and value.value:
                    raise Refusal("org.bluez.Error.Failed", "Failed")
                self._later(self.power(name, on=value.value))
                return Message.new_method_return(message)
        raise Refusal("org.freedesktop.DBus.Error.InvalidArgs", "no such property")

    @staticmethod
    def _must_be_powered(adapter: Adapter) -> None:
        if not adapter.powered:
            raise Refusal(*NOT_READY)

    def _start_discovery(self, adapter: Adapter, client: str) -> None:
        self._must_be_powered(adapter)
        if adapter.stuck or client in adapter.discoveries:
            raise Refusal("org.bluez.Error.InProgress", "Operation already in progress")
        adapter.discoveries.add(client)
        cure(adapter, client)

    def _stop_discovery(self, adapter: Adapter, client: str) -> None:
        self._must_be_powered(adapter)
        if client not in adapter.discoveries:
            raise Refusal("org.bluez.Error.Failed", "No discovery started")
        adapter.discoveries.discard(client)

    async def _activate_monitor(self, name: str, client: str, path: str) -> None:
        """Read the patterns, which the client exports only after its registration was answered, and activate the monitor."""
        for _ in range(100):
            reply = await self._call(
                Message(destination=client, path=path, interface=PROPERTIES, member="GetAll", signature="s", body=[MONITOR])
            )
            if reply.message_type is MessageType.METHOD_RETURN:
                break
            await asyncio.sleep(0.01)
        else:
            return
        patterns = [(start, kind, bytes(content)) for start, kind, content in reply.body[0]["Patterns"].value]
        if len(patterns) > PATTERNS_THAT_KILL:
            await self.leave()
        elif (adapter := self.adapters.get(name)) is not None:
            adapter.monitors[client, path] = patterns
            cure(adapter, client)
            self._say_scanning()
            await self._call(Message(destination=client, path=path, interface=MONITOR, member="Activate"))

    async def _drop(self, client: str) -> None:
        """A client has left the bus: bluetoothd ends what it ran for it."""
        for name, adapter in self.adapters.items():
            adapter.filters.pop(client, None)
            adapter.monitors = {key: patterns for key, patterns in adapter.monitors.items() if key[0] != client}
            if client in adapter.discoveries:
                adapter.discoveries.discard(client)
                await self._discovery_ended(name)
        self._say_scanning()

    async def _discovering_changed(self, name: str) -> None:
        self._say_scanning()
        discovering = V("b", bool(self.adapters[name].discoveries))
        await self._properties_changed(adapter_path(name), ADAPTER, {"Discovering": discovering}, [])

    async def _discovery_ended(self, name: str) -> None:
        adapter = self.adapters[name]
        if not adapter.discoveries:
            for address, device in adapter.devices.items():
                if device.rssi is not None:
                    device.rssi = None
                    await self._properties_changed(device_path(name, address), DEVICE, {}, ["RSSI"])
            await self._discovering_changed(name)

    def _later(self, what: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- commands

    async def advertise(self, adapter: str, address: str, **said: Any) -> bool:
        radio = self._adapter(adapter)
        if radio.scan is None or radio.deaf or self.bus is None:
            return False
        companies = {int(company): bytes.fromhex(data) for company, data in (said.get("manufacturer_data") or {}).items()}
        services = {full_uuid(uuid): bytes.fromhex(data) for uuid, data in (said.get("service_data") or {}).items()}
        uuids = [full_uuid(uuid) for uuid in said.get("service_uuids") or []]
        rssi, flags = said.get("rssi"), said.get("flags")
        active = bool(radio.discoveries)
        on_air = on_air_structures(flags, uuids, companies, services)
        if not active and not any(matches(patterns, on_air) for patterns in radio.monitors.values()):
            return False

        is_new = address not in radio.devices
        device = radio.devices.setdefault(address, Device())
        before = advertised_properties(device)
        forgets = any(radio.filters.get(client, {}).get("DuplicateData", V("b", True)).value for client in radio.discoveries)
        device.companies = companies if forgets and companies else device.companies | companies
        device.services = services if forgets and services else device.services | services
        device.uuids += [uuid for uuid in [*uuids, *services] if uuid not in device.uuids]
        device.name = said.get("name") or device.name
        device.flags = flags if flags is not None else device.flags
        jump = None if rssi is None or device.rssi is None else abs(rssi - device.rssi)
        if active or rssi is None or jump is None or jump >= RSSI_THRESHOLD_DB:
            device.rssi = rssi
        after = advertised_properties(device)

        if is_new:
            await self._added(device_path(adapter, address), {DEVICE: self._device_properties(adapter, address), PROPERTIES: {}})
            return True
        always = {"RSSI", "ManufacturerData", "ServiceData"} if active else set()
        changed = {key: value for key, value in after.items() if key in always or before.get(key) != value}
        gone = [key for key in before if key not in after]
        if changed or gone:
            await self._properties_changed(device_path(adapter, address), DEVICE, changed, gone)
        return bool(changed)

    async def power(self, adapter: str, *, on: bool) -> None:
        radio = self._adapter(adapter)
        radio.powered = on
        if radio.deaf == "power":
            radio.deaf = None
        if not on:
            # Monitors outlive it, discoveries do not.
            radio.discoveries, radio.filters = set(), {}
            await self._discovery_ended(adapter)
        await self._properties_changed(adapter_path(adapter), ADAPTER, {"Powered": V("b", on)}, [])
        self._say_scanning()

    async def block(self, adapter: str, *, on: bool) -> None:
        self._adapter(adapter).blocked = on
        if on:
            await self.power(adapter, on=False)

    async def hide_passive(self) -> None:
        self.is_passive = False

    async def offload(self) -> None:
        self.offloads = True

    async def add_adapter(self, adapter: str, address: str | None) -> None:
        self._plug(adapter, address)
        await self._added(adapter_path(adapter), self._adapter_interfaces(adapter))

    async def remove_adapter(self, adapter: str) -> None:
        radio = self._adapter(adapter)
        radio.discoveries = set()
        await self._discovery_ended(adapter)
        for address in radio.devices:
            await self._removed(device_path(adapter, address), [DEVICE, PROPERTIES])
        await self._removed(adapter_path(adapter), [ADAPTER, MONITORS, PROPERTIES])
        del self.adapters[adapter]
        self._say_scanning()

    async def deafen(self, adapter: str, cure: str) -> None:
        radio = self._adapter(adapter)
        radio.deaf, radio.deafened = cure, radio.discoveries | {client for client, _ in radio.monitors}

    async def stall(self, adapter: str, *, on: bool) -> None:
        radio = self._adapter(adapter)
        radio.stalled = on
        while not on and radio.unanswered and self.bus is not None:
            await self.bus.send(Message.new_method_return(radio.unanswered.pop(0)))

    async def stick(self, adapter: str, *, on: bool) -> None:
        self._adapter(adapter).stuck = on

    async def deny_discovering(self, adapter: str) -> None:
        await self._properties_changed(adapter_path(adapter), ADAPTER, {"Discovering": V("b", False)}, [])

    async def bluetoothd(self, *, on: bool) -> None:
        if on == (self.bus is not None):
            raise ValueError("bluetoothd is so already")
        await (self.enter() if on else self.leave())

    async def restart_bus(self) -> None:
        await self.close_bus()
        await self.leave()
        await self.open_bus()
        await self.enter()

    async def obey(self, line: bytes) -> Any:
        [(command, arguments)] = json.loads(line).items()
        commands: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
            command.__name__: command
            for command in (
                self.advertise,
                self.power,
                self.block,
                self.hide_passive,
                self.offload,
                self.add_adapter,
                self.remove_adapter,
                self.deafen,
                self.stall,
                self.stick,
                self.deny_discovering,
                self.bluetoothd,
                self.restart_bus,
            )
        }
        return await commands[command](**arguments)

    def _adapter(self, name: str) -> Adapter:
        if name not in self.adapters:
            raise ValueError(f"there is no {name}")
        return self.adapters[name]

    def _say_scanning(self) -> None:
        scans = {name: adapter.scan for name, adapter in self.adapters.items()}
        if scans != self._said:
            self._said = scans
            say({"scanning": scans})


def cure(adapter: Adapter, client: str) -> None:
    """A scan starts."""
    if adapter.deaf == "start" or (adapter.deaf == "client" and client not in adapter.deafened):
        adapter.deaf = None


def adapter_path(adapter: str) -> str:
    return f"/org/bluez/{adapter}"


def device_path(adapter: str, address: str) -> str:
    return f"/org/bluez/{adapter}/dev_{address.replace(':', '_')}"


def full_uuid(uuid: str) -> str:
    return BASE_UUID.format(uuid.lower()) if len(uuid) == 4 else uuid.lower()


def advertised_properties(device: Device) -> Json:
    """Device1's properties that come from the air; absent ones are left out, as bluetoothd leaves them out."""
    properties = {
        "UUIDs": V("as", list(device.uuids)),
        "RSSI": device.rssi is not None and V("n", device.rssi),
        "Name": device.name is not None and V("s", device.name),
        "AdvertisingFlags": device.flags is not None and V("ay", bytes([device.flags or 0])),
        "ManufacturerData": device.companies and V("a{qv}", {key: V("ay", data) for key, data in device.companies.items()}),
        "ServiceData": device.services and V("a{sv}", {key: V("ay", data) for key, data in device.services.items()}),
    }
    return {key: value for key, value in properties.items() if isinstance(value, V)}


def on_air_structures(
    flags: int | None, uuids: Sequence[str], companies: Mapping[int, bytes], services: Mapping[str, bytes]
) -> list[tuple[int, bytes]]:
    """(AD type, data) as the kernel would match patterns against them."""
    structures = [(0x01, bytes([flags]))] if flags is not None else []
    structures += [(0x07, bytes.fromhex(uuid.replace("-", ""))[::-1]) for uuid in uuids]
    structures += [(0xFF, company.to_bytes(2, "little") + data) for company, data in companies.items()]
    structures += [(0x16, bytes.fromhex(uuid[4:8])[::-1] + data) for uuid, data in services.items()]
    return structures


def matches(patterns: Sequence[tuple[int, int, bytes]], structures: Sequence[tuple[int, bytes]]) -> bool:
    return any(
        kind == ad_type and data[start:].startswith(content) for start, kind, content in patterns for ad_type, data in structures
    )


def say(what: Json) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def lines_of_input() -> AsyncIterator[bytes]:
    reader = asyncio.StreamReader(limit=2**20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line


async def main(folder: str, *adapters: str) -> None:
    bluetoothd = Bluetoothd(Path(folder), adapters)
    try:
        await bluetoothd.open_bus()
        await bluetoothd.enter()
        say({"answer": "ready"})
        async for line in lines_of_input():
            try:
                answer = await bluetoothd.obey(line)
            except (ValueError, KeyError, TypeError) as error:
                say({"error": f"{type(error).__name__}: {error}"})
            else:
                say({"answer": answer})
    finally:
        await bluetoothd.leave()
        await bluetoothd.close_bus()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
