"""Keeps one Bluetooth adapter listening through BlueZ and turns what it hears back into advertisement bytes.

    stopped ── run() ──▶ starting ── heard ──▶ hearing
                            │                  ▲    │
              start fails,  │            heard │    │ silence
              or silence    └──────▶ deaf ─────┴────┘      deaf for give_up_after_s ──▶ RadioGivenUp

A running bleak scan never raises, it only goes silent: so the clock decides. Being deaf, the scanner stops and starts the scan,
with a fresh bleak object each time, until something is heard again. The only file that imports bleak.

BlueZ keeps one merged picture per address and hands out the whole of it each time: what was heard last, but also what was heard
before. Company and service data are replaced, the list of service UUIDs only grows, its newest element last. Therefore each
element becomes a call of its own, the older UUIDs among them, and the pipeline keeps the newest token.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal, NoReturn, TypeVar

from bleak import BleakScanner
from bleak.args.bluez import BlueZScannerArgs, OrPattern
from bleak.assigned_numbers import AdvertisementDataType as AdType
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak.exc import BleakBluetoothNotAvailableError, BleakBluetoothNotAvailableReason, BleakDBusError, BleakError

from gateway.core.ad_structures import COMPLETE_UUIDS_128, MANUFACTURER_DATA, MAX_DATA, SERVICE_DATA_16
from gateway.errors import GatewayError, RadioGivenUp, TryAgain

logger = logging.getLogger(__name__)
_T = TypeVar("_T")

Heard = Callable[[str, int, bytes], None]
"""Receives (address, RSSI in dBm, one AD structure: length, type, data)."""

ELEMENTS_PER_CALLBACK = 16
"""At most so many elements of each kind are passed on: an address that keeps inventing new ones costs no more."""

_BLUETOOTH_BASE = "-0000-1000-8000-00805f9b34fb"
_LONGEST_VALUE = MAX_DATA - 2
"""What a 16-bit key leaves of an AD structure."""
_COMPLETE_LIST_OF_ONE = bytes((17, COMPLETE_UUIDS_128))
_WEAKEST_DBM, _STRONGEST_DBM = -127, 20
"""What a controller may report (Core 5.4, vol 4, part E, 7.7.65.2). bleak says −127 for "none", the controller 127."""

_WORLD = (BleakError, OSError, EOFError)
"""What bleak lets through when BlueZ, the bus or the adapter fails; a time-out is an OSError."""


class ScannerState(Enum):
    """How the scan is doing; the values are what `gateway status --json` prints."""

    STOPPED = "stopped"
    """``run`` is not running."""
    STARTING = "starting"
    """Nothing heard yet, and not for long."""
    HEARING = "hearing"
    DEAF = "deaf"
    """The scan does not start, or started and hears nothing: ``trouble`` says which."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what, in seconds."""

    silence_s: float = 90.0
    """Without any advertisement for this long the scan counts as dead."""
    check_s: float = 10.0
    """How often to look; also the silence allowed after BlueZ has withdrawn an RSSI, as it does when a scan ends under us."""
    start_s: float = 15.0
    """A start that takes longer is reported."""
    stop_s: float = 5.0
    """A stop that takes longer is abandoned."""
    retry_first_s: float = 1.0
    retry_most_s: float = 10.0
    """Doubled from the first to this after each start that fails: an adapter that returns is heard within this time."""
    stuck_s: float = 60.0
    """Active scans answered "in progress" for this long: ``auto`` tries a passive one."""
    give_up_after_s: float | None = None
    """Deaf for this long ends ``run``; ``None`` = never, for a shop may be empty for days."""


@dataclass(slots=True)
class ScannerCounts:
    """What was not passed on, and how often the scan was started, since the object was made."""

    starts: int = 0
    no_rssi: int = 0
    empty: int = 0


class Scanner:
    """The scan of one adapter, kept alive.

    ``state``, ``trouble``, ``last_heard_ms``, ``scanning_mode`` and ``counts`` may be read at any time, from the loop's thread.
    """

    def __init__(
        self,
        adapter: str | None,
        heard: Heard,
        now_ms: Callable[[], int],
        *,
        mode: Literal["active", "passive", "auto"] = "auto",
        service_uuid16: int | None = None,
        company_id: int | None = None,
        patience: Patience = Patience(),
    ) -> None:
        """``adapter`` as BlueZ names it ("hci0"), ``None`` = the first that is powered; ``now_ms`` is the monotonic clock.

        ``auto`` scans actively, because a passive scan tells of a constant beacon only when its RSSI jumps by 8 dB, and goes over
        to passive when the adapter refuses active scans. A passive scan must know ``service_uuid16`` (form S) and ``company_id``
        (form M) to hear shoppers' phones that send no flags.
        """
        self.adapter = adapter
        self.state = ScannerState.STOPPED
        self.trouble: GatewayError | None = None
        self.last_heard_ms: int | None = None
        self.scanning_mode: Literal["active", "passive"] = "passive" if mode == "passive" else "active"
        self.counts = ScannerCounts()
        self._heard = heard
        self._now_ms = now_ms
        self._mode = mode
        self._patience = patience
        self._patterns = passive_patterns(service_uuid16, company_id)
        self._mistake: asyncio.Future[NoReturn] | None = None
        self._rssi_withdrawn_ms: int | None = None
        self._stuck_since_ms: int | None = None
        self._deaf_since_ms = 0
        self._failed_starts = 0

    async def run(self) -> NoReturn:
        """Listen until cancelled.

        Raises ``RadioGivenUp`` if told to give up, and whatever ``heard`` raised. Everything else that can happen to a radio is
        reported in ``state`` and ``trouble`` and tried again.
        """
        self._mistake = asyncio.get_running_loop().create_future()
        self._failed_starts = 0
        self.state = ScannerState.STARTING
        try:
            while True:
                try:
                    await self._listen_until_silent()
                except TryAgain as trouble:
                    self._turn_deaf(trouble)
                self._check()
                await asyncio.sleep(self._retry_s())
        finally:
            self.state = ScannerState.STOPPED
            self._mistake.cancel()

    async def _listen_until_silent(self) -> NoReturn:
        """One scan from start to stop; raises ``TryAgain`` with the reason why it ended."""
        self.scanning_mode = self._next_mode()
        scan = BleakScanner(self._advertised, scanning_mode=self.scanning_mode, bluez=self._bluez_arguments())
        try:
            try:
                await self._start(scan)
            except _InProgress:
                if self._stuck_since_ms is None:
                    self._stuck_since_ms = self._now_ms()
                raise
            except TryAgain:
                self._stuck_since_ms = None
                raise
            if self.scanning_mode == "active":
                self._stuck_since_ms = None
            self._failed_starts = 0
            await self._wait_for_silence()
        finally:
            await self._stop(scan)

    def _next_mode(self) -> Literal["active", "passive"]:
        if self._mode != "auto":
            return self._mode
        # After a passive scan an active one is tried again: whatever ended it may have cured the adapter.
        was_refused = self.scanning_mode == "active" and self._stuck_since_ms is not None
        if was_refused and self._now_ms() - (self._stuck_since_ms or 0) >= self._patience.stuck_s * 1000:
            return "passive"
        return "active"

    def _bluez_arguments(self) -> BlueZScannerArgs:
        # DuplicateData makes bluetoothd forget an address's older company and service data when new ones come.
        arguments: BlueZScannerArgs = {"filters": {"DuplicateData": True}, "or_patterns": [*self._patterns]}
        if self.adapter is not None:
            arguments["adapter"] = self.adapter
        return arguments

    async def _start(self, scan: BleakScanner) -> None:
        self.counts.starts += 1
        self._failed_starts += 1
        starting = asyncio.ensure_future(scan.start())
        try:
            await asyncio.wait({starting}, timeout=self._patience.start_s)
            # Only waiting helps against a bluetoothd that hangs. A start cancelled halfway would be carried out when it wakes up,
            # and every later one refused as "in progress".
            while not starting.done():
                self._turn_deaf(
                    TryAgain("bluetoothd does not answer.", where=self._name, do="Restart it: systemctl restart bluetooth.")
                )
                await asyncio.wait({starting}, timeout=self._patience.check_s)
                self._check()
            await starting
        except _WORLD as error:
            raise _ours(error, self._name) from error
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)

    async def _stop(self, scan: BleakScanner) -> None:
        try:
            async with asyncio.timeout(self._patience.stop_s):
                await scan.stop()
        except _WORLD as error:
            # A scan that ended under us cannot be stopped: "no discovery started", "unknown object", a closed bus.
            logger.debug("%s: the scan could not be stopped: %r", self._name, error)

    async def _wait_for_silence(self) -> NoReturn:
        assert self._mistake is not None
        started_ms = self._now_ms()
        while True:
            await asyncio.wait({self._mistake}, timeout=self._patience.check_s)
            self._check()
            newest_ms = started_ms if self.last_heard_ms is None else max(started_ms, self.last_heard_ms)
            withdrawn = self._rssi_withdrawn_ms is not None and self._rssi_withdrawn_ms >= newest_ms
            allowed_s = min(self._patience.check_s, self._patience.silence_s) if withdrawn else self._patience.silence_s
            if (silent_ms := self._now_ms() - newest_ms) >= allowed_s * 1000:
                what = f"heard nothing for {silent_ms / 1000:.0f} s" + (
                    " after the scan seems to have ended." if withdrawn else "."
                )
                raise TryAgain(
                    what, where=self._name, do="Trying again; if it lasts, check the adapter, its power and its antenna."
                )

    def _check(self) -> None:
        """Raise what must end ``run``."""
        assert self._mistake is not None
        if self._mistake.done():
            self._mistake.result()
        limit_s = self._patience.give_up_after_s
        if limit_s is not None and self.state is ScannerState.DEAF and self._now_ms() - self._deaf_since_ms >= limit_s * 1000:
            raise RadioGivenUp(
                f"deaf for {limit_s:.0f} s, last because: {self.trouble.what if self.trouble else 'unknown'}",
                where=self._name,
                do="Unplug the adapter and plug it in again, or use another one.",
            )

    def _retry_s(self) -> float:
        # No jitter: bluetoothd serves nobody but this machine.
        doublings = min(max(self._failed_starts - 1, 0), 16)
        return min(self._patience.retry_first_s * float(2**doublings), self._patience.retry_most_s)

    @property
    def _name(self) -> str:
        return self.adapter or "Bluetooth"

    def _turn_deaf(self, trouble: GatewayError) -> None:
        self.trouble = trouble
        if self.state is ScannerState.DEAF:
            return
        self.state = ScannerState.DEAF
        self._deaf_since_ms = self._now_ms()
        logger.warning("Deaf. %s", trouble)

    def _turn_hearing(self) -> None:
        again = self.state is ScannerState.DEAF
        self.state = ScannerState.HEARING
        self.trouble = None
        logger.info("%s: hearing%s (%s scan).", self._name, " again" if again else "", self.scanning_mode)

    def _advertised(self, device: BLEDevice, advertisement: AdvertisementData) -> None:
        """One callback of bleak. It also comes when BlueZ withdraws an RSSI, because the scan ended or the adapter went."""
        rssi = advertisement.rssi
        if not _WEAKEST_DBM < rssi <= _STRONGEST_DBM:
            self.counts.no_rssi += 1
            self._rssi_withdrawn_ms = self._now_ms()
            return
        companies, services, uuids = advertisement.manufacturer_data, advertisement.service_data, advertisement.service_uuids
        # An adapter that fails can keep on reporting devices without any data: they are no sign of life.
        if not (companies or services or uuids or advertisement.local_name):
            self.counts.empty += 1
            return
        self.last_heard_ms = self._now_ms()
        if self.state is not ScannerState.HEARING:
            self._turn_hearing()
        try:
            for data in ad_structures(companies, services, uuids):
                self._heard(device.address, rssi, data)
        except Exception as mistake:  # noqa: BLE001 (dbus-fast would log it and go on; run() raises it and so ends the process)
            if self._mistake is not None and not self._mistake.done():
                self._mistake.set_exception(mistake)


def ad_structures(companies: Mapping[int, bytes], services: Mapping[str, bytes], uuids: Collection[str]) -> list[bytes]:
    r"""The bytes that were on the air, as far as BlueZ kept them, one AD structure each; never raises for what BlueZ can say.

    ``len FF | company ×2 | data``, ``len 16 | UUID ×2 | data`` and ``11 07 | UUID ×16``, keys and UUIDs little-endian. The
    newest 16 of each kind, in BlueZ's order. Source: Core Supplement, part A, 1.1, 1.4 and 1.11.

    >>> [data.hex(" ") for data in ad_structures({76: b"\x02\x15"}, {"0000feaa-0000-1000-8000-00805f9b34fb": b"\x00"}, ())]
    ['05 ff 4c 00 02 15', '04 16 aa fe 00']
    """
    # Put together by hand: this runs for every advertisement, and ad_structures.encode() takes three times as long.
    structures = []
    if companies:
        for company, value in _newest(companies.items()):
            if len(value) <= _LONGEST_VALUE:
                structures.append(bytes((len(value) + 3, MANUFACTURER_DATA, company & 0xFF, company >> 8)) + value)
    if services:
        for uuid, value in _newest(services.items()):
            if len(value) <= _LONGEST_VALUE and uuid.startswith("0000") and uuid.endswith(_BLUETOOTH_BASE):
                structures.append(bytes((len(value) + 3, SERVICE_DATA_16)) + bytes.fromhex(uuid[4:8])[::-1] + value)
    if uuids:
        # Shortened UUIDs stand in the same list, those of service data too; no token can look like one.
        whole = _newest([uuid for uuid in uuids if not uuid.endswith(_BLUETOOTH_BASE)])
        structures += [_COMPLETE_LIST_OF_ONE + bytes.fromhex(uuid.replace("-", ""))[::-1] for uuid in whole]
    return structures


def _newest(items: Collection[_T]) -> Collection[_T]:
    return items if len(items) <= ELEMENTS_PER_CALLBACK else list(items)[-ELEMENTS_PER_CALLBACK:]


def passive_patterns(service_uuid16: int | None, company_id: int | None) -> list[OrPattern]:
    """What a passive scan lets through (BlueZ takes at most 16 patterns): advertisements with flags, iBeacons, forms S and M.

    Form U has no fixed bytes: it is heard by its flags, which connectable advertisements carry.
    """
    patterns = [OrPattern(0, AdType.FLAGS, bytes((flags,))) for flags in (0x02, 0x04, 0x05, 0x06, 0x18, 0x1A)]
    patterns.append(OrPattern(0, AdType.MANUFACTURER_SPECIFIC_DATA, bytes.fromhex("4c000215")))
    if service_uuid16 is not None:
        patterns.append(OrPattern(0, AdType.SERVICE_DATA_UUID16, service_uuid16.to_bytes(2, "little")))
    if company_id is not None:
        patterns.append(OrPattern(0, AdType.MANUFACTURER_SPECIFIC_DATA, company_id.to_bytes(2, "little")))
    return patterns


class _InProgress(TryAgain):
    """BlueZ says that a scan of ours is already running, and none is: the adapter is stuck."""


_POWER = "Power it on: rfkill unblock bluetooth; bluetoothctl power on."
_SERVICE = "Start it: systemctl start bluetooth."
_REASONS: dict[BleakBluetoothNotAvailableReason, tuple[str, str]] = {
    BleakBluetoothNotAvailableReason.NO_BLUETOOTH: ("there is no adapter.", "Plug one in."),
    BleakBluetoothNotAvailableReason.POWERED_OFF: ("every adapter is powered off.", _POWER),
    BleakBluetoothNotAvailableReason.NO_BLE_CENTRAL_ROLE: ("no adapter knows Bluetooth Low Energy.", "Use another adapter."),
    BleakBluetoothNotAvailableReason.DENIED_BY_SYSTEM: ("the system bus refuses this user.", "Check the service's user."),
}
_DBUS_ERRORS: dict[str, tuple[str, str]] = {
    "org.bluez.Error.NotReady": ("powered off.", _POWER),
    "org.freedesktop.DBus.Error.ServiceUnknown": ("bluetoothd does not run.", _SERVICE),
    "org.freedesktop.DBus.Error.NameHasNoOwner": ("bluetoothd does not run.", _SERVICE),
    "org.freedesktop.DBus.Error.NoReply": ("bluetoothd died before it answered.", _SERVICE),
    "org.freedesktop.DBus.Error.AccessDenied": ("the system bus refuses this user.", "Check the service's user."),
    "org.freedesktop.DBus.Error.UnknownObject": ("the adapter is gone.", "Plug it in again."),
    "org.freedesktop.DBus.Error.UnknownMethod": ("the adapter is gone.", "Plug it in again."),
}


def _ours(error: BleakError | OSError | EOFError, name: str) -> TryAgain:
    """What a library's exception means for the reader of a log; no text from the air ever gets in."""
    match error:
        case BleakBluetoothNotAvailableError() if error.reason in _REASONS:
            what, do = _REASONS[error.reason]
        case BleakDBusError() if error.dbus_error == "org.bluez.Error.InProgress":
            return _InProgress("stuck: it refuses every active scan.", where=name, do="Unplug it and plug it in again.")
        case BleakDBusError():
            what, do = _DBUS_ERRORS.get(
                error.dbus_error, (f"BlueZ refuses to scan: {error.dbus_error}.", "See journalctl -u bluetooth.")
            )
        case OSError() | EOFError():
            what, do = f"the system bus cannot be reached ({type(error).__name__}).", "Check dbus.service."
        case _:
            what, do = f"{error}.", "See which adapters there are with bluetoothctl list." if "not found" in str(error) else ""
    return TryAgain(what, where=name, do=do)
