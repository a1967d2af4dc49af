"""One scan of one adapter through bleak, on a bus connection of its own. The only file that imports bleak.

bleak shares one connection among all its scanners. Ours do not: closing a scan's connection ends it whatever state bluetoothd is
in, for bluetoothd forgets the scans of a client that vanished, also one whose start it has not answered yet; and an adapter whose
start hangs holds up no other.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from bleak.args.bluez import BlueZScannerArgs, OrPattern, OrPatternLike
from bleak.assigned_numbers import AdvertisementDataType as AdType
from bleak.backends.bluezdbus.manager import BlueZManager
from bleak.backends.bluezdbus.scanner import BleakScannerBlueZDBus
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak.exc import BleakBluetoothNotAvailableError, BleakBluetoothNotAvailableReason, BleakDBusError, BleakError

from gateway.errors import TryAgain
from gateway.io.scanner.bluez import in_words, no_bus

logger = logging.getLogger(__name__)

Mode = Literal["active", "passive"]
Advertised = Callable[[BLEDevice, AdvertisementData], None]

_WORLD = (BleakError, OSError, EOFError)
"""What bleak lets through when BlueZ, the bus or the adapter fails; a time-out is an OSError."""


class Manner(NamedTuple):
    """How to scan."""

    mode: Mode
    is_quiet: bool = False
    """bluetoothd tells nothing of what it hears: the kernel does, through the radio helper."""


class Stuck(TryAgain):
    """BlueZ says that a scan is running already, and none of ours is."""


class NoPassive(TryAgain):
    """This bluetoothd or kernel knows no passive scan."""


class Refused(TryAgain):
    """Whoever does not let us scan will not be persuaded by trying harder."""


class Scan:
    """One scan; ``start`` and ``stop`` as often as wanted, ``close`` once at the end."""

    def __init__(self, adapter: str, manner: "Manner", patterns: list[OrPattern], advertised: Advertised) -> None:
        """``adapter`` as bluetoothd names it now ("hci0"); ``patterns`` of a passive scan that is not quiet."""
        self.adapter = adapter
        self.manner = manner
        # DuplicateData makes bluetoothd forget an address's older company and service data when new ones come.
        arguments: BlueZScannerArgs = {
            "adapter": adapter,
            "filters": {"DuplicateData": True},
            "or_patterns": [MATCHES_NOTHING] if manner.is_quiet else [*patterns],
        }
        mode = manner.mode
        self._bleak = _OwnConnection(advertised, None, mode, bluez=arguments)

    async def start(self, limit_s: float) -> None:
        """Scan; ``TryAgain`` (or one of its kinds above) says why not. After a failure only ``close`` is of use."""
        try:
            async with asyncio.timeout(limit_s):
                await self._bleak.start()
        except TimeoutError as error:
            what = f"the scan did not start within {limit_s:g} s: adapter or bluetoothd hang."
            raise TryAgain(what, where=self.adapter, do="Unplug the adapter and plug it in again.") from error
        except _WORLD as error:
            raise _ours(error, self.adapter) from error

    async def stop(self, limit_s: float) -> None:
        """Stop; a scan that ended under us cannot be stopped, which is no trouble."""
        try:
            async with asyncio.timeout(limit_s):
                await self._bleak.stop()
        except _WORLD as error:
            logger.debug("%s: the scan could not be stopped: %r", self.adapter, error)

    async def close(self) -> None:
        """Give the connection back: whatever was still scanning ends."""
        await self._bleak.close()


class _OwnConnection(BleakScannerBlueZDBus):
    """bleak's scanner with a manager, and so a bus connection, of its own."""

    def __init__(self, advertised: Advertised, uuids: None, mode: Mode, *, bluez: BlueZScannerArgs) -> None:
        super().__init__(advertised, uuids, mode, bluez=bluez)
        self._manager = _Manager()

    async def start(self) -> None:
        await self._manager.async_init()
        path = f"/org/bluez/{self._adapter}"
        self.seen_devices = {}
        on_data, on_removed = self._handle_advertising_data, self._handle_device_removed
        if self._scanning_mode == "passive":
            first, *others = _monitors(self._or_patterns or [])
            stops = [await self._manager.passive_scan(path, first, on_data, on_removed)]
            # All of them together say once what is heard.
            stops += [await self._manager.passive_scan(path, more, _nothing, _nothing) for more in others]

            async def stop() -> None:
                for each in stops:
                    await each()

            self._stop = stop
        else:
            self._stop = await self._manager.active_scan(path, self._filters, on_data, on_removed)

    async def close(self) -> None:
        self._stop = None
        await self._manager.close()


class _Manager(BlueZManager):
    """bleak's manager, which by itself stays connected to the end of the process."""

    _is_closing = False

    async def close(self) -> None:
        self._is_closing = True
        if self._bus is not None and self._bus_watcher_task is not None:
            self._bus.disconnect()
            await asyncio.wait({self._bus_watcher_task}, timeout=1)

    def _handle_bus_disconnect(self, exc: Exception | None) -> None:
        # A connection that we close is not lost.
        if not self._is_closing:
            super()._handle_bus_disconnect(exc)


MAX_PATTERNS = 7
"""In one monitor: bluetoothd up to 5.66 at least counts the octets of its command to the kernel in eight bits (src/adv_monitor.c,
34 for each pattern), overflows with the eighth, and dies (measured with 5.66)."""

MATCHES_NOTHING = OrPattern(0, AdType.MANUFACTURER_SPECIFIC_DATA, bytes.fromhex("ffff5fd1c0de77aa3311"))
"""The company identifier for tests and eight octets of chance. The kernel still reports all it hears on its management socket;
bluetoothd, which does the matching, then makes no device of it: a quarter of its CPU time, and nothing on D-Bus (measured)."""


def _monitors(patterns: list[OrPatternLike]) -> Iterator[list[OrPatternLike]]:
    for at in range(0, len(patterns), MAX_PATTERNS):
        yield patterns[at : at + MAX_PATTERNS]


def _nothing(*_: object) -> None:
    return


def passive_patterns(service_uuid16: int | None, company_id: int | None) -> list[OrPattern]:
    """What a passive scan lets through: flags, iBeacon, AltBeacon, Eddystone, forms S and M.

    Form U has no fixed bytes: it is heard by its flags, which connectable advertisements carry; 02 to 1A are those of phones and
    beacons. AltBeacon's code stands behind whatever company identifier.
    """
    patterns = [OrPattern(0, AdType.FLAGS, bytes((flags,))) for flags in (0x02, 0x04, 0x05, 0x06, 0x18, 0x1A)]
    patterns.append(OrPattern(0, AdType.MANUFACTURER_SPECIFIC_DATA, bytes.fromhex("4c000215")))
    patterns.append(OrPattern(2, AdType.MANUFACTURER_SPECIFIC_DATA, bytes.fromhex("beac")))
    patterns.append(OrPattern(0, AdType.SERVICE_DATA_UUID16, bytes.fromhex("aafe")))
    if service_uuid16 is not None:
        patterns.append(OrPattern(0, AdType.SERVICE_DATA_UUID16, service_uuid16.to_bytes(2, "little")))
    if company_id is not None:
        patterns.append(OrPattern(0, AdType.MANUFACTURER_SPECIFIC_DATA, company_id.to_bytes(2, "little")))
    return patterns


def _ours(error: BleakError | OSError | EOFError, adapter: str) -> TryAgain:
    """What a library's exception means for the reader of a log; no text from the air ever gets in."""
    match error:
        case BleakBluetoothNotAvailableError() if error.reason is BleakBluetoothNotAvailableReason.DENIED_BY_SYSTEM:
            return Refused("the system bus refuses this user.", where=adapter, do="Check the service's user.")
        case BleakDBusError() if error.dbus_error == "org.bluez.Error.InProgress":
            do = "It ends by itself as a rule; until then this is tried again."
            return Stuck("a scan of before, or of somebody else, still goes on.", where=adapter, do=do)
        case BleakDBusError():
            name = error.dbus_error
            what, do = in_words(name) or (f"BlueZ refuses to scan: {name}.", "See journalctl -u bluetooth.")
            kind = Refused if name.endswith(".AccessDenied") else TryAgain
            return kind(what, where=adapter, do=do)
        case OSError() | EOFError():
            trouble = no_bus(error)
            return TryAgain(trouble.what, where=adapter, do=trouble.do)
        case _ if "passive" in str(error):
            do = 'Use an active one (scan = "active"), or start bluetoothd with --experimental.'
            return NoPassive("this bluetoothd offers no passive scan.", where=adapter, do=do)
        case _ if "not found" in str(error):
            return TryAgain("not found.", where=adapter, do="See which adapters there are with bluetoothctl list.")
        case _:
            return TryAgain(f"{error}.", where=adapter)
