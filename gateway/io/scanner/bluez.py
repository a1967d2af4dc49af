"""What bluetoothd says of its adapters, told at once: who is there, powered and discovering, and whether bluetoothd lives at all.

    absent ── it comes on to the bus ──▶ there ── a ping unanswered ──▶ hanging ── answered ──▶ there
       ▲                                   │                               │
       └────── it leaves, or the bus does ─┴───────────────────────────────┘

One connection to the system bus for all scanners of the process, beside those of their scans, so that a scan that hangs cannot
hide what happens. Only what concerns adapters is subscribed to: the signals of a crowd of phones never reach this connection.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NoReturn

from dbus_fast import BusType, Message, MessageFlag, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.errors import DBusError

from gateway.errors import TryAgain

logger = logging.getLogger(__name__)

_BLUEZ, _BUS, _BUS_PATH = "org.bluez", "org.freedesktop.DBus", "/org/freedesktop/DBus"
_ADAPTER, _MONITORS = "org.bluez.Adapter1", "org.bluez.AdvertisementMonitorManager1"
_OBJECTS, _PROPERTIES = "org.freedesktop.DBus.ObjectManager", "org.freedesktop.DBus.Properties"
_ROOT = "/org/bluez/"
_NUMBERS = 32
"""Adapters hci0 to hci31 are watched: a rule for each, because a rule for all of them would bring every phone's object, too."""
_RULES = (
    f"type='signal',sender='{_BUS}',member='NameOwnerChanged',arg0='{_BLUEZ}'",
    f"type='signal',sender='{_BLUEZ}',interface='{_PROPERTIES}',member='PropertiesChanged',arg0='{_ADAPTER}'",
    *(f"type='signal',sender='{_BLUEZ}',interface='{_OBJECTS}',arg0path='{_ROOT}hci{n}'" for n in range(_NUMBERS)),
)
_CONNECTING_S = 5.0

POWER_ON = "Power it on: sudo rfkill unblock bluetooth; bluetoothctl power on."
_CHECK_POWER = "See whether rfkill blocks it (rfkill list): sudo rfkill unblock bluetooth; or journalctl -u bluetooth."
START = "Start it: sudo systemctl start bluetooth."
_HANGS = "bluetoothd does not answer."
_CHECK_BUS = "See systemctl status dbus."
_DENIED = ("the system bus refuses this user.", "Check the service's user.")
_UNMASK = "Let it: sudo systemctl unmask bluetooth; sudo systemctl enable --now bluetooth; then journalctl -u bluetooth."
_WORDS: dict[str, tuple[str, str]] = {
    "org.bluez.Error.NotReady": ("powered off.", POWER_ON),
    "org.bluez.Error.Blocked": (
        "blocked by rfkill.",
        "Unblock it: sudo rfkill unblock bluetooth; or find the switch on the machine.",
    ),
    "org.freedesktop.DBus.Error.ServiceUnknown": ("bluetoothd does not run.", START),
    "org.freedesktop.DBus.Error.NameHasNoOwner": ("bluetoothd does not run.", START),
    "org.freedesktop.DBus.Error.TimedOut": ("bluetoothd does not run, and systemd does not start it.", _UNMASK),
    "org.freedesktop.systemd1.UnitMasked": ("bluetoothd does not run: its service is masked.", _UNMASK),
    "org.freedesktop.systemd1.NoSuchUnit": ("bluetoothd does not run: its service is disabled.", _UNMASK),
    "org.freedesktop.DBus.Error.NoReply": ("bluetoothd died before it answered.", START),
    "org.freedesktop.DBus.Error.AccessDenied": _DENIED,
    "org.freedesktop.DBus.Error.UnknownObject": ("the adapter is gone.", "Plug it in again."),
    "org.freedesktop.DBus.Error.UnknownMethod": ("the adapter is gone.", "Plug it in again."),
}
"""D-Bus error → what is wrong and what to do."""


def in_words(dbus_error: str) -> tuple[str, str] | None:
    """What a D-Bus error of bluetoothd or of the bus means to a technician, and what to do; ``None`` for an unusual one.

    >>> in_words("org.freedesktop.systemd1.UnitMasked")[0]
    'bluetoothd does not run: its service is masked.'
    """
    if dbus_error.startswith("org.freedesktop.DBus.Error.Spawn."):
        return "bluetoothd does not run, and cannot be started.", _UNMASK
    return _WORDS.get(dbus_error)


@dataclass(frozen=True, slots=True)
class Adapter:
    """One adapter as bluetoothd knows it."""

    name: str
    """Such as hci0; the next time it may be another."""
    address: str
    powered: bool
    discovering: bool = False
    """Whether anybody scans actively with it."""
    can_passive: bool = False
    """Whether bluetoothd offers passive scans (AdvertisementMonitorManager1, since BlueZ 5.56 with --experimental)."""
    filters_itself: bool = False
    """Whether the controller applies a passive scan's patterns, so that what matches none reaches nobody."""
    serial: int = 0
    """Another one each time it appears: scans do not survive its absence."""


@dataclass(frozen=True, slots=True)
class Vigilance:
    """How long to wait for what, in seconds."""

    ping_every_s: float = 15.0
    ping_s: float = 15.0
    """A bluetoothd that does not answer for so long hangs."""
    call_s: float = 15.0
    retry_s: float = 1.0
    start_after_s: float = 3.0
    """Absent for so long, it is not just being restarted: D-Bus is asked to start it, which nobody else does after a crash."""
    start_every_s: float = 10.0
    """And again."""


class BlueZ:
    """bluetoothd's adapters. ``adapters`` (by name) and ``trouble`` may be read at any time, from the loop's thread."""

    def __init__(self, vigilance: Vigilance = Vigilance()) -> None:
        self.adapters: dict[str, Adapter] = {}
        self.trouble: TryAgain | None = TryAgain("bluetoothd has not been asked yet.")
        """Why nothing can be scanned with any adapter at the moment."""
        self.is_known = False
        """Whether the first answer, or the reason why there is none, has come."""
        self.hangs = False
        """Whether bluetoothd is there and does not answer: a scan that runs may run on."""
        self._vigilance = vigilance
        self._bus: MessageBus | None = None
        self._watchers: list[Callable[[], None]] = []
        self._serial = 0
        self._owned, self._changed_hands = asyncio.Event(), asyncio.Event()

    @contextlib.contextmanager
    def watched(self, changed: Callable[[], None]) -> Iterator[None]:
        """Call ``changed`` at every change."""
        self._watchers.append(changed)
        try:
            yield
        finally:
            self._watchers.remove(changed)

    async def run(self) -> NoReturn:
        """Watch until cancelled, over any number of buses and bluetoothds."""
        while True:
            try:
                await self._serve()
            except TryAgain as trouble:
                self._turn(trouble)
            except (OSError, EOFError) as error:
                self._turn(no_bus(error))
            await asyncio.sleep(self._vigilance.retry_s)

    async def set_powered(self, adapter: str, *, on: bool) -> None:
        """Switch an adapter ("hci0") on or off; ``TryAgain`` says why that is impossible."""
        await self._call(
            Message(
                destination=_BLUEZ,
                path=_ROOT + adapter,
                interface=_PROPERTIES,
                member="Set",
                signature="ssv",
                body=[_ADAPTER, "Powered", Variant("b", on)],
            ),
            adapter,
            # All that bluetoothd 5.66 says of an adapter that rfkill blocks (measured).
            refusals={"org.bluez.Error.Failed": (f"cannot be switched {'on' if on else 'off'}.", _CHECK_POWER)},
        )

    async def reboot(self) -> None:
        """Ask systemd-logind to reboot the machine; ``TryAgain`` where this user may not."""
        login = "org.freedesktop.login1"
        path, interface = "/org/freedesktop/login1", f"{login}.Manager"
        message = Message(destination=login, path=path, interface=interface, member="Reboot", signature="b", body=[False])
        try:
            await self._call(message, "reboot")
        except TryAgain as error:
            do = "Reboot by hand, and see the technician's page for the rule that allows it to the service."
            raise TryAgain("this user may not reboot the machine.", where="reboot", do=do) from error

    def find(self, name: str | None) -> Adapter:
        """The adapter with this name or address, for ``None`` the first that is powered; ``TryAgain`` when it is not there."""
        known = sorted(self.adapters.values(), key=lambda adapter: (not adapter.powered, adapter.name))
        for adapter in known:
            if name is None or adapter.name == name or adapter.address == name.upper():
                return adapter
        names = ", ".join(adapter.name for adapter in known) or "none"
        raise TryAgain(f"not found (there is: {names}).", where=name or "Bluetooth", do="See bluetoothctl list, or plug it in.")

    async def read_adapters(self) -> None:
        """Ask once for all adapters; ``TryAgain`` when there is no bus or no bluetoothd. For those who do not ``run``."""
        async with self._connected():
            await self._refresh()

    # ---- the connection -------------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[MessageBus, asyncio.Future[None]]]:
        """A connection, and what is done once it is lost."""
        try:
            bus = MessageBus(bus_type=BusType.SYSTEM)
            async with asyncio.timeout(_CONNECTING_S):
                await bus.connect()
        except (OSError, EOFError, DBusError) as error:
            raise no_bus(error) from error
        self._bus = bus
        lost: asyncio.Future[None] = asyncio.ensure_future(bus.wait_for_disconnect())  # type: ignore[no-untyped-call]
        try:
            yield bus, lost
        finally:
            self._bus = None
            bus.disconnect()
            # Not cancelled: that would leave dbus-fast's own future cancelled.
            await asyncio.wait({lost}, timeout=1)
            if lost.done():
                lost.exception()

    async def _serve(self) -> NoReturn:
        async with self._connected() as (bus, lost):
            bus.add_message_handler(self._heard)
            self._owned.clear()
            for rule in _RULES:
                await self._call(_to_bus("AddMatch", "s", [rule]), "the system bus")
            if await self._has_owner():
                self._owned.set()
            keeping = asyncio.ensure_future(self._keep_watch())
            try:
                waiting: set[asyncio.Future[Any]] = {lost, keeping}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if keeping.done():
                    keeping.result()
                raise TryAgain("the system bus is gone.", do=_CHECK_BUS)
            finally:
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)

    async def _keep_watch(self) -> NoReturn:
        while True:
            self._changed_hands.clear()
            if not self._owned.is_set():
                self._turn(TryAgain("bluetoothd does not run.", do=START))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._owned.wait(), self._vigilance.start_after_s)
                while not self._owned.is_set():
                    await self._have_it_started()
                continue
            try:
                await self._refresh()
                while not self._changed_hands.is_set():
                    await self._ping()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._changed_hands.wait(), self._vigilance.ping_every_s)
            except TryAgain as trouble:
                # Whoever left the bus has been reported already.
                if self._owned.is_set() and not self._changed_hands.is_set():
                    self._turn(trouble, hangs=trouble.what == _HANGS)
                await asyncio.sleep(self._vigilance.retry_s)

    async def _have_it_started(self) -> None:
        """bluetoothd is absent: have D-Bus start it, and wait a while for it."""
        message = _to_bus("StartServiceByName", "su", [_BLUEZ, 0])
        starting = asyncio.ensure_future(self._call(message, "", limit_s=60))
        owned = asyncio.ensure_future(self._owned.wait())
        try:
            await asyncio.wait({starting, owned}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done() and isinstance(error := starting.exception(), TryAgain):
                self._turn(error)
            await asyncio.wait({owned}, timeout=self._vigilance.start_every_s)
        finally:
            starting.cancel()
            owned.cancel()
            await asyncio.gather(starting, owned, return_exceptions=True)

    async def _ping(self) -> None:
        """``Peer.Ping`` costs bluetoothd next to nothing and is answered by its main loop; one at a time, as long as it takes."""
        message = Message(
            destination=_BLUEZ,
            path="/org/bluez",
            interface="org.freedesktop.DBus.Peer",
            member="Ping",
            flags=MessageFlag.NO_AUTOSTART,
        )
        pinging = asyncio.ensure_future(self._call(message, "", limit_s=None))
        try:
            await asyncio.wait({pinging}, timeout=self._vigilance.ping_s)
            while not pinging.done():
                self._turn(hanging(), hangs=True)
                await asyncio.wait({pinging}, timeout=self._vigilance.ping_s)
            pinging.result()
            if self.hangs:
                self._turn(None)
        finally:
            pinging.cancel()
            await asyncio.gather(pinging, return_exceptions=True)

    async def _has_owner(self) -> bool:
        reply = await self._call(_to_bus("NameHasOwner", "s", [_BLUEZ]), "the system bus")
        return bool(reply.body[0])

    async def _refresh(self) -> None:
        message = Message(
            destination=_BLUEZ, path="/", interface=_OBJECTS, member="GetManagedObjects", flags=MessageFlag.NO_AUTOSTART
        )
        reply = await self._call(message, "")
        before, self.adapters = self.adapters, {}
        for path, interfaces in reply.body[0].items():
            self._added(path, interfaces)
        for name, adapter in self.adapters.items():
            # Without a signal in between it is the same one as before.
            if name in before and before[name].address == adapter.address:
                self.adapters[name] = replace(adapter, serial=before[name].serial)
        self._turn(None)

    async def _call(
        self,
        message: Message,
        where: str,
        *,
        limit_s: float | None = -1,
        refusals: Mapping[str, tuple[str, str]] = MappingProxyType({}),
    ) -> Message:
        """The answer; every way to fail becomes a ``TryAgain``. ``limit_s``: ``None`` = however long it takes.

        ``refusals``: what an error means in answer to this message, where that is more than what it always means.
        """
        if self._bus is None:
            raise TryAgain("the system bus is gone.", do=_CHECK_BUS)
        try:
            async with asyncio.timeout(self._vigilance.call_s if limit_s == -1 else limit_s):
                reply = await self._bus.call(message)
        except TimeoutError as error:
            raise hanging(where) from error
        except (OSError, EOFError, DBusError) as error:
            raise no_bus(error) from error
        if reply.message_type is MessageType.ERROR:
            name = str(reply.error_name)
            what, do = refusals.get(name) or in_words(name) or (f"bluetoothd refuses: {name}.", "See journalctl -u bluetooth.")
            raise TryAgain(what, where=where, do=do)
        return reply

    # ---- what it says ---------------------------------------------------------------------------------------------------------

    def _heard(self, message: Message) -> None:
        if message.message_type is not MessageType.SIGNAL:
            return
        match message.member, message.body:
            case "NameOwnerChanged", [str(name), str(), str(owner)] if name == _BLUEZ:
                self.adapters = {}
                self._changed_hands.set()
                if owner:
                    self._owned.set()
                else:
                    self._owned.clear()
                    self._turn(TryAgain("bluetoothd does not run.", do=START))
                    return
            case "InterfacesAdded", [str(path), dict(interfaces)]:
                self._added(path, interfaces)
            case "InterfacesRemoved", [str(path), list(interfaces)] if _ADAPTER in interfaces:
                self.adapters.pop(path.removeprefix(_ROOT), None)
            case "PropertiesChanged", [str(interface), dict(changed), *_] if interface == _ADAPTER:
                self._changed((message.path or "").removeprefix(_ROOT), changed)
            case _:
                return
        self._tell()

    def _added(self, path: str, interfaces: dict[str, dict[str, Variant]]) -> None:
        name = path.removeprefix(_ROOT)
        monitors = interfaces.get(_MONITORS)
        can_passive = monitors is not None and "or_patterns" in _value(monitors, "SupportedMonitorTypes", [])
        filters = monitors is not None and "controller-patterns" in _value(monitors, "SupportedFeatures", [])
        properties = interfaces.get(_ADAPTER)
        if properties is not None:
            self._serial += 1
            address, powered = str(_value(properties, "Address", "")).upper(), bool(_value(properties, "Powered", default=False))
            discovering = bool(_value(properties, "Discovering", default=False))
            self.adapters[name] = Adapter(name, address, powered, discovering, can_passive, filters, self._serial)
        elif can_passive and name in self.adapters:
            self.adapters[name] = replace(self.adapters[name], can_passive=True, filters_itself=filters)

    def _changed(self, name: str, changed: dict[str, Variant]) -> None:
        adapter = self.adapters.get(name)
        if adapter is not None:
            powered = bool(_value(changed, "Powered", adapter.powered))
            discovering = bool(_value(changed, "Discovering", adapter.discovering)) and powered
            self.adapters[name] = replace(adapter, powered=powered, discovering=discovering)

    def _turn(self, trouble: TryAgain | None, *, hangs: bool = False) -> None:
        if trouble is not None and not hangs:
            self.adapters = {}
        changed = str(trouble) != str(self.trouble) or hangs != self.hangs
        self.trouble, self.hangs, self.is_known = trouble, hangs, True
        if changed:
            self._tell()

    def _tell(self) -> None:
        for changed in tuple(self._watchers):
            changed()


def hanging(where: str = "") -> TryAgain:
    """bluetoothd is there and does not answer."""
    return TryAgain(_HANGS, where=where, do="Restart it: sudo systemctl restart bluetooth.")


def no_bus(error: BaseException) -> TryAgain:
    """Why the system bus cannot be used."""
    return TryAgain(f"the system bus cannot be reached ({type(error).__name__}): is D-Bus running?", do=_CHECK_BUS)


def _to_bus(member: str, signature: str, body: list[Any]) -> Message:
    return Message(destination=_BUS, path=_BUS_PATH, interface=_BUS, member=member, signature=signature, body=body)


def _value(properties: dict[str, Variant], key: str, default: Any) -> Any:
    return properties[key].value if key in properties else default
