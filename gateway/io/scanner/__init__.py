"""Keeps one Bluetooth adapter listening through BlueZ, and hands on what it hears.

    stopped ── run() ──▶ starting ── heard ──▶ hearing
                            │                  ▲    │
              start fails,  │            heard │    │ silence, or what bluetoothd says of adapter, power and scan
              or silence    └──────▶ deaf ─────┴────┘

What is heard comes from the kernel, through the radio helper, where there is one: every advertisement, raw. Then bleak only
starts and stops the scan; what it calls back, which is nothing in a quiet scan, is counted but not handed on. While the helper is
away bleak's callback serves.

A running scan never raises, it only goes silent. So whatever bluetoothd tells of the adapter wakes the scanner at once, and the
clock decides where nobody tells: then it climbs the ladder of `gateway.core.recovery`, one step at a time.

bluetoothd keeps one merged picture per address and hands out the whole of it each time: what was heard last, but also what was
heard before. Company and service data are replaced, the list of service UUIDs only grows, its newest element last. Therefore each
element of a callback becomes a call of its own, the older UUIDs among them, and the pipeline keeps the newest token.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, NoReturn, Protocol, TypeVar

from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData

from gateway.core.ad_structures import COMPLETE_UUIDS_128, MANUFACTURER_DATA, MAX_DATA, SERVICE_DATA_16
from gateway.core.model import RecoveryStep
from gateway.core.recovery import Ladder, RecoveryMemory
from gateway.errors import RadioGivenUp, TryAgain
from gateway.io.scanner.bluez import POWER_ON, Adapter, BlueZ
from gateway.io.scanner.scan import Manner, Mode, NoPassive, Refused, Scan, Stuck, passive_patterns

logger = logging.getLogger(__name__)
_T = TypeVar("_T")

Heard = Callable[[str, int, bytes], None]
"""Receives (address, RSSI in dBm, AD structures): the whole advertisement from the kernel, one structure of it from bleak."""

ELEMENTS_PER_CALLBACK = 16
"""At most so many elements of each kind are passed on: an address that keeps inventing new ones costs no more."""

_BLUETOOTH_BASE = "-0000-1000-8000-00805f9b34fb"
_LONGEST_VALUE = MAX_DATA - 2
"""What a 16-bit key leaves of an AD structure."""
_COMPLETE_LIST_OF_ONE = bytes((17, COMPLETE_UUIDS_128))
_WEAKEST_DBM, _STRONGEST_DBM = -127, 20
"""What a controller may report (Core 5.4, vol 4, part E, 7.7.65.2). bleak says −127 for "none", the controller 127."""
_LATE_MS = 2_000
"""So long after a scan has ended reports of it may still be on their way."""
_MUTE_AFTER = 10
"""bleak calls back so often while the helper says nothing: it is mute."""
_SAME_LINE_MS = 60_000


class ScannerState(Enum):
    """How the scan is doing; the values are what `gateway status --json` prints."""

    STOPPED = "stopped"
    """``run`` is not running."""
    STARTING = "starting"
    """Nothing heard yet, and not for long."""
    HEARING = "hearing"
    DEAF = "deaf"
    """The scan does not start, or started and hears nothing: ``trouble`` says which."""


Cause = Literal["bluetoothd", "hangs", "adapter", "power", "stuck", "start", "silence"]
"""Why a receiver is deaf: no bluetoothd (or no bus), it hangs, no such adapter, it is off, it refuses active scans, no scan
starts for another reason, or a scan runs and nothing is heard."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what, in seconds."""

    silence_s: float = 90.0
    """Without any advertisement for this long the scan counts as dead."""
    sparse_silence_s: float = 300.0
    """The same for a passive scan without the helper: bluetoothd tells of a constant beacon about once in 90 s."""
    check_s: float = 10.0
    """How often to look when nothing happens."""
    fresh_s: float = 10.0
    """What was heard within this time shows that it hears, whatever bluetoothd says."""
    start_s: float = 15.0
    stop_s: float = 5.0
    retry_first_s: float = 1.0
    retry_most_s: float = 5.0
    """Doubled from the first to this after each start that fails."""
    failing_s: float = 10.0
    """Starts that fail for longer need more than another start."""
    stuck_s: float = 12.0
    """Active scans answered "in progress" for this long: the adapter is stuck, and ``auto`` scans passively if it can. The scan
    of a bluetoothd that was killed goes on for up to 10.24 s."""
    reconsider_s: float = 300.0
    """So long after a mode was refused ``auto`` tries it again."""
    ended_s: float = 3.0
    """An active scan that bluetoothd does not count as discovering for so long, and that hears nothing, has ended."""
    off_s: float = 5.0
    """An adapter that is off for longer is switched on, and tried so often."""
    settle_s: float = 1.0
    """Between off and on, and for the helper to answer before the first scan."""
    helper_s: float = 10.0
    """The helper is there for so long: the scan is left to it."""
    helper_gone_s: float = 1.0
    """It is gone for so long: bluetoothd has to tell what is heard."""
    mute_s: float = 10.0
    """It says nothing for so long while bluetoothd hears: it is not to be relied upon."""


@dataclass(slots=True)
class ScannerCounts:
    """What was not passed on, and how often the scan was started, since the object was made."""

    starts: int = 0
    no_rssi: int = 0
    empty: int = 0
    control: int = 0
    """Callbacks of bleak while the helper reported."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """A step of the ladder that was taken."""

    step: RecoveryStep
    at_ms: int
    helped: bool | None = None
    """``None``: not known yet."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Something that is told of a receiver: it ceased to hear, hears again, or a step was taken."""

    state: Literal["hearing", "deaf"]
    cause: str
    """A sentence."""
    step: RecoveryStep | None = None
    helped: bool | None = None


class Kernel(Protocol):
    """What the scanner needs of the radio helper; `gateway.io.radio_link` is it."""

    connected: bool

    @property
    def adapters(self) -> Mapping[str, object]:
        """By address; of those that the helper reads."""

    def listen(self, adapter_address: str, heard: Heard) -> None:
        """Hand on what this adapter hears."""

    def stop_listening(self, adapter_address: str) -> None:
        """Hand on nothing more."""

    async def reset(self, adapter_address: str) -> str:
        """Reset it and say how; ``TryAgain`` when that is not possible."""


class Scanner:
    """The scan of one adapter, kept alive.

    The public attributes may be read at any time, from the loop's thread.
    """

    def __init__(  # noqa: PLR0913 -- each has its name at the call
        self,
        bluez: BlueZ,
        find: Callable[[], Adapter],
        heard: Heard,
        now_ms: Callable[[], int],
        *,
        mode: Literal["active", "passive", "auto"] = "auto",
        service_uuid16: int | None = None,
        company_id: int | None = None,
        patience: Patience = Patience(),
        kernel: Kernel | None = None,
        ladder: Ladder | None = None,
        silence_s: Callable[[], float | None] = lambda: None,
        last_resorts: Callable[[], Collection[RecoveryStep]] = tuple,
        turned: Callable[[Turn], None] = lambda _: None,
        remember: Callable[[RecoveryMemory], None] = lambda _: None,
    ) -> None:
        """``bluez`` has to run beside it; ``find`` says which adapter, or raises ``TryAgain``; ``now_ms`` is the monotonic clock.

        ``auto`` scans passively where the helper reports, for then nothing is missed and nobody is asked for scan responses.
        Without the helper it scans actively: of a passive scan bluetoothd tells a constant beacon only when its RSSI jumps
        by 8 dB (measured: one callback in 90 s at ten advertisements a second). A passive scan must know ``service_uuid16``
        (form S) and ``company_id`` (form M) to hear shoppers' phones that send no flags.

        ``silence_s``: how long this receiver can be silent while it hears well, if that is known to be less than usual.
        ``last_resorts``: which of restart-process and reboot are allowed now. ``turned`` is told what happens, ``remember`` keeps
        what the ladder has learnt.
        """
        self.adapter: Adapter | None = None
        """The one in use, or the last one."""
        self.state = ScannerState.STOPPED
        self.since_ms = now_ms()
        """Since when it is so."""
        self.cause: Cause | None = None
        self.trouble: TryAgain | None = None
        self.last_heard_ms: int | None = None
        self.scanning_mode: Mode | None = None
        """Of the scan that runs."""
        self.counts = ScannerCounts()
        self._bluez = bluez
        self._find = find
        self._heard = heard
        self._now_ms = now_ms
        self._mode = mode
        self._patience = patience
        self._kernel = kernel
        self._ladder = ladder or Ladder(RecoveryMemory(), now_ms())
        ended_by = self._ladder.memory.ended_by
        self.recovery = None if ended_by is None else Recovery(ended_by, now_ms())
        """The last one."""
        self._silence_s = silence_s
        self._last_resorts = last_resorts
        self._turned = turned
        self._remember = remember
        self._patterns = passive_patterns(service_uuid16, company_id)
        self._woken = asyncio.Event()
        self._mistake: asyncio.Future[NoReturn] | None = None
        self._scan: Scan | None = None
        self._is_starting = False
        self._began_ms = self._scan_began_ms = self._ended_ms = self._kernel_heard_ms = now_ms()
        self._started_ms = -_SAME_LINE_MS
        """When a start was tried last."""
        self._next_start_ms = self._next_power_ms = 0
        self._failed_starts = 0
        self._failing_since_ms: int | None = None
        self._stuck_since_ms: int | None = None
        self._no_active_until_ms = self._no_passive_until_ms = self._distrust_until_ms = 0
        self._off_since_ms: int | None = None
        self._missing_since_ms: int | None = None
        self._undiscovered_since_ms: int | None = None
        self._unwanted_since_ms: int | None = None
        self._control = 0
        self._is_mute = self._helper_has_answered = False
        self._kept = self._ladder.memory
        self._lines: dict[str, int] = {}
        self._line = ""

    async def run(self) -> NoReturn:
        """Listen until cancelled.

        Raises ``RadioGivenUp`` where that is one of the last resorts, and whatever ``heard`` raised. Everything else that can
        happen to a radio is reported in ``state`` and ``trouble`` and tried again.
        """
        self._mistake = asyncio.get_running_loop().create_future()
        self._began_ms = self._now_ms()
        self._turn(ScannerState.STARTING)
        try:
            with self._bluez.watched(self.wake):
                while True:
                    self._woken.clear()
                    wait_s = await self._look()
                    self._journal()
                    await self._pause(wait_s)
                    if self._mistake.done():
                        self._mistake.result()
        finally:
            if self.adapter is not None and self._kernel is not None:
                self._kernel.stop_listening(self.adapter.address)
            await self._end_scan(gently=True)
            self._turn(ScannerState.STOPPED)
            self._mistake.cancel()

    def wake(self) -> None:
        """Look now: something has changed."""
        self._woken.set()

    def helper_changed(self) -> None:
        """The radio helper came or went, or its adapters did."""
        self._helper_has_answered = True
        self._woken.set()

    @property
    def source(self) -> Literal["kernel", "bleak"]:
        """Where reports come from now."""
        return "kernel" if self._kernel_serves else "bleak"

    # ---- one look at everything -----------------------------------------------------------------------------------------------

    async def _look(self) -> float:
        """See what is the case, do at most one thing about it, and say in how many seconds to look again at the latest."""
        self._judge(self._now_ms())
        trouble = self._bluez.trouble
        if trouble is not None:
            return await self._without_bluetoothd(trouble)
        try:
            adapter = self._find()
        except TryAgain as missing:
            await self._end_scan()
            self._missing_since_ms = self._missing_since_ms or self._now_ms()
            self._turn_deaf("adapter", missing)
            return self._patience.check_s
        await self._use(adapter)
        if not adapter.powered:
            await self._end_scan()
            return await self._switch_on(adapter)
        if self._off_since_ms is not None:
            self._off_since_ms = None
            self._hope()
        if self._scan is not None and self._has_ended(adapter):
            logger.debug("%s: the scan has ended", adapter.name)
            await self._end_scan()
        if self._scan is not None and self._is_unwanted(self._scan, adapter):
            await self._end_scan(gently=True)
        if self._scan is None:
            now_ms = self._now_ms()
            if now_ms < self._next_start_ms:
                return (self._next_start_ms - now_ms) / 1000
            if self._awaits_helper(now_ms):
                return self._patience.settle_s
            if not await self._start(adapter):
                return await self._mend_start(adapter)
        return await self._mend_silence(adapter)

    async def _pause(self, wait_s: float) -> None:
        assert self._mistake is not None
        woken: asyncio.Future[bool] = asyncio.ensure_future(self._woken.wait())
        waiting: set[asyncio.Future[Any]] = {woken, self._mistake}
        try:
            await asyncio.wait(waiting, timeout=max(wait_s, 0.001), return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()

    async def _without_bluetoothd(self, trouble: TryAgain) -> float:
        self._missing_since_ms = None
        if not self._bluez.is_known:
            return self._patience.check_s
        if not self._bluez.hangs:
            await self._end_scan()
            self._turn_deaf("bluetoothd", trouble)
        elif self._heard_within(self._patience.fresh_s):
            # The kernel scans on without it.
            self.trouble = trouble
        else:
            self._turn_deaf("hangs", trouble)
        return min(self._patience.check_s, 5)

    async def _use(self, adapter: Adapter) -> None:
        if self._missing_since_ms is not None:
            # A bluetoothd that starts knows no adapter for a moment; one that was away for longer was out of its socket.
            if self._now_ms() - self._missing_since_ms >= self._patience.settle_s * 1000:
                self._begin_anew()
            self._missing_since_ms = None
        before, self.adapter = self.adapter, adapter
        if before is None or before.serial != adapter.serial:
            # Its scans did not survive its absence, whatever number it has now.
            await self._end_scan()
            self._hope()
            if self._kernel is not None:
                if before is not None and before.address != adapter.address:
                    self._kernel.stop_listening(before.address)
                self._kernel.listen(adapter.address, self._heard_by_kernel)

    def _hope(self) -> None:
        """The world has changed: the next start need not wait, for it may succeed."""
        self._failed_starts = 0
        self._next_start_ms = self._started_ms + round(self._patience.retry_first_s * 1000)
        self._failing_since_ms = self._stuck_since_ms = None

    def _begin_anew(self) -> None:
        """So has the adapter: what it refused it may allow now."""
        self._no_active_until_ms = self._no_passive_until_ms = 0
        self._hope()

    async def _switch_on(self, adapter: Adapter) -> float:
        """A shop's receiver is meant to be on: after a moment it is switched on again, however it came to be off."""
        now_ms, patience = self._now_ms(), self._patience
        if self._off_since_ms is None:
            self._off_since_ms, self._next_power_ms = now_ms, now_ms + round(patience.off_s * 1000)
        if self.cause != "power":
            self._turn_deaf("power", TryAgain("powered off.", where=adapter.name, do=POWER_ON))
        if now_ms < self._next_power_ms:
            return (self._next_power_ms - now_ms) / 1000
        self._next_power_ms = now_ms + round(patience.off_s * 1000)
        try:
            await self._bluez.set_powered(adapter.name, on=True)
        except TryAgain as refused:
            if self.cause == "power":
                self.trouble = refused
        return patience.off_s

    def _has_ended(self, adapter: Adapter) -> bool:
        """Whether bluetoothd has ended the active scan under us, as it does when the adapter loses power for a moment."""
        now_ms = self._now_ms()
        if self.scanning_mode != "active" or adapter.discovering:
            self._undiscovered_since_ms = None
        elif self._undiscovered_since_ms is None:
            # It may just be slow to say so.
            self._undiscovered_since_ms = now_ms
        since_ms, limit_s = self._undiscovered_since_ms, self._patience.ended_s
        # While it hears, it scans, whatever bluetoothd counts it as.
        return since_ms is not None and now_ms - since_ms >= limit_s * 1000 and not self._heard_within(limit_s)

    # ---- the scan -------------------------------------------------------------------------------------------------------------

    async def _start(self, adapter: Adapter) -> bool:
        manner = self._wanted(adapter)
        scan = Scan(adapter.name, manner, self._patterns, self._advertised)
        self.counts.starts += 1
        self._started_ms = self._now_ms()
        self._is_starting = True
        try:
            await scan.start(self._patience.start_s)
        except TryAgain as trouble:
            await scan.close()
            self._start_failed(trouble, manner, adapter)
            return False
        except BaseException:
            await scan.close()
            raise
        finally:
            self._is_starting = False
        self._scan, self.scanning_mode = scan, manner.mode
        self._scan_began_ms = self._now_ms()
        self._next_start_ms = self._scan_began_ms + round(self._patience.retry_first_s * 1000)
        self._failed_starts = 0
        self._failing_since_ms = self._undiscovered_since_ms = self._unwanted_since_ms = None
        if manner.mode == "active":
            self._stuck_since_ms = None
        return True

    def _start_failed(self, trouble: TryAgain, manner: Manner, adapter: Adapter) -> None:
        now_ms, patience = self._now_ms(), self._patience
        # No jitter: bluetoothd serves nobody but this machine.
        wait_s = min(patience.retry_first_s * float(2 ** min(self._failed_starts, 16)), patience.retry_most_s)
        self._failed_starts += 1
        self._next_start_ms = now_ms + round(wait_s * 1000)
        if self._failing_since_ms is None:
            self._failing_since_ms = now_ms
        until_ms = now_ms + round(patience.reconsider_s * 1000)
        cause: Cause = "start"
        if isinstance(trouble, NoPassive):
            self._no_passive_until_ms = until_ms
        if not isinstance(trouble, Stuck) or manner.mode != "active":
            self._stuck_since_ms = None
        elif self._stuck_since_ms is None:
            self._stuck_since_ms = now_ms
        elif now_ms - self._stuck_since_ms >= patience.stuck_s * 1000:
            self._no_active_until_ms = until_ms
            cause, do = "stuck", "Unplug it and plug it in again."
            trouble = TryAgain("stuck: it refuses every active scan.", where=adapter.name, do=do)
        if self._wanted(adapter) != manner:
            self._next_start_ms = now_ms
        if self.state is ScannerState.HEARING and self._heard_within(patience.fresh_s):
            # Somebody else scans, and the kernel tells us, too.
            self.trouble = trouble
        else:
            self._turn_deaf(cause, trouble)

    async def _end_scan(self, *, gently: bool = False) -> None:
        """``gently``: tell bluetoothd, which must be there to hear it."""
        scan, self._scan, self.scanning_mode = self._scan, None, None
        if scan is None:
            return
        self._ended_ms = self._now_ms()
        try:
            if gently:
                await scan.stop(self._patience.stop_s)
        finally:
            await scan.close()

    def _wanted(self, adapter: Adapter) -> Manner:
        """How to scan, as things stand."""
        now_ms = self._now_ms()
        serves = self._kernel_serves and now_ms >= self._distrust_until_ms
        if self._mode == "auto":
            can_passive = adapter.can_passive and now_ms >= self._no_passive_until_ms
            if not can_passive or not (serves or now_ms < self._no_active_until_ms):
                return Manner("active")
        elif self._mode == "active":
            return Manner("active")
        return Manner("passive", is_quiet=serves and not adapter.filters_itself)

    def _is_unwanted(self, scan: Scan, adapter: Adapter) -> bool:
        """Whether another manner would be better, and that for long enough: the helper came or went."""
        now_ms, patience = self._now_ms(), self._patience
        if self._wanted(adapter) == scan.manner:
            self._unwanted_since_ms = None
        elif self._unwanted_since_ms is None:
            self._unwanted_since_ms = now_ms
        limit_s = patience.helper_gone_s if scan.manner.is_quiet else patience.helper_s
        return self._unwanted_since_ms is not None and now_ms - self._unwanted_since_ms >= limit_s * 1000

    def _awaits_helper(self, now_ms: int) -> bool:
        """Whether the first scan waits for the helper's answer, which decides how to scan."""
        if self._kernel is None or self._kernel.connected or self._helper_has_answered:
            return False
        return now_ms - self._began_ms < self._patience.settle_s * 1000

    # ---- being deaf -----------------------------------------------------------------------------------------------------------

    async def _mend_start(self, adapter: Adapter) -> float:
        now_ms = self._now_ms()
        if self._next_start_ms <= now_ms:
            # Another manner of scanning comes first: it may be all that is needed.
            return 0.0
        since_ms = now_ms if self._failing_since_ms is None else self._failing_since_ms
        is_deaf = self.state is ScannerState.DEAF and not isinstance(self.trouble, Refused)
        if is_deaf and now_ms - since_ms >= self._patience.failing_s * 1000:
            self._journal()
            await self._climb(adapter, {"power-cycle"})
        return max(0.0, (self._next_start_ms - self._now_ms()) / 1000)

    async def _mend_silence(self, adapter: Adapter) -> float:
        patience, now_ms = self._patience, self._now_ms()
        if self.state is ScannerState.DEAF and self.cause != "silence":
            if self.cause == "hangs":
                # bluetoothd goes on with this scan by itself. A stop now may meet the kernel's own and leave bluetoothd's idea of
                # the scan stuck (bluez issue 807, mended in 5.88; seen with 5.66).
                self._scan_began_ms = now_ms
            # What made it deaf is over; a new scan gets the whole silence.
            self._turn(ScannerState.STARTING)
        self._mute_helper(now_ms)
        if self.state is not ScannerState.DEAF:
            silent_s = (now_ms - max(self._scan_began_ms, self.last_heard_ms or 0)) / 1000
            allowed_s = self._allowed_silence_s()
            if silent_s < allowed_s:
                self.trouble = self._degraded(adapter)
                urgent = self._undiscovered_since_ms is not None or self._unwanted_since_ms is not None
                return min(patience.check_s, allowed_s - silent_s, patience.ended_s if urgent else patience.check_s)
            do = "Trying again; if it lasts, check the adapter, its power and its antenna, or whether anything is on the air."
            # Perhaps it is the helper that hears nothing.
            self._distrust_until_ms = now_ms + round(patience.reconsider_s * 1000)
            self._turn_deaf("silence", TryAgain(f"heard nothing for {silent_s:.0f} s.", where=adapter.name, do=do))
        self._journal()
        await self._climb(adapter, {"restart-scan", "new-scanner", "power-cycle"})
        return min(patience.check_s, 1)

    def _allowed_silence_s(self) -> float:
        if self.scanning_mode == "passive" and not self._kernel_serves:
            return self._patience.sparse_silence_s
        return min(self._silence_s() or self._patience.silence_s, self._patience.silence_s)

    def _degraded(self, adapter: Adapter) -> TryAgain | None:
        """What is wrong although it hears."""
        if self._is_mute:
            do = "Restart it: sudo systemctl restart gateway-radio."
            return TryAgain("the radio helper reports nothing of it, bluetoothd does.", where=adapter.name, do=do)
        if self.scanning_mode == "passive" and self._mode == "auto" and not self._kernel_serves:
            do = "Unplug it and plug it in again."
            return TryAgain("stuck: refuses active scans and is heard passively, which is seldom.", where=adapter.name, do=do)
        return None

    async def _climb(self, adapter: Adapter, available: set[RecoveryStep]) -> None:
        now_ms = self._now_ms()
        self._judge(now_ms)
        if self._kernel is not None and self._kernel.connected and adapter.address in self._kernel.adapters:
            available = available | {"reset-controller"}
        step = self._ladder.next(now_ms, available.union(self._last_resorts()))
        if step is None:
            return
        self._ladder.begin(step, now_ms)
        self._keep_memory()
        self.recovery = Recovery(step, now_ms)
        self._say(logging.INFO, f"{adapter.name}: trying {step} ({self.cause}).")
        try:
            await self._take(step, adapter)
        except TryAgain as failure:
            self._say(logging.WARNING, f"{step} failed. {failure}")
        finally:
            self._ladder.end(self._now_ms())

    async def _take(self, step: RecoveryStep, adapter: Adapter) -> None:
        match step:
            case "restart-scan" if self._scan is not None and self._wanted(adapter) == self._scan.manner:
                await self._scan.stop(self._patience.stop_s)
                try:
                    self.counts.starts += 1
                    await self._scan.start(self._patience.start_s)
                except TryAgain:
                    await self._end_scan()
                    raise
            case "restart-scan" | "new-scanner":
                await self._end_scan(gently=True)
                await self._start(adapter)
            case "power-cycle":
                await self._end_scan(gently=True)
                try:
                    await self._bluez.set_powered(adapter.name, on=False)
                    await asyncio.sleep(self._patience.settle_s)
                finally:
                    await self._bluez.set_powered(adapter.name, on=True)
                self._begin_anew()
            case "reset-controller":
                assert self._kernel is not None
                await self._end_scan(gently=True)
                how = await self._kernel.reset(adapter.address)
                self._say(logging.INFO, f"{adapter.name}: the helper did a {how}.")
                self._begin_anew()
            case "restart-process" | "reboot":
                self._turned(Turn("deaf", str(self.trouble), step))
                # What was told has to reach the disk.
                await asyncio.sleep(2 * self._patience.settle_s)
                if step == "reboot":
                    await self._bluez.reboot()
                else:
                    deaf_s = (self._now_ms() - self.since_ms) / 1000
                    what = f"deaf for {deaf_s:.0f} s, last because: {self.trouble.what if self.trouble else 'unknown'}"
                    raise RadioGivenUp(
                        what, where=adapter.name, do="Unplug the adapter and plug it in again, or use another one."
                    )

    def _judge(self, now_ms: int) -> None:
        """Tell of a step that it did not help, once that is certain."""
        failed = self._ladder.judge(now_ms)
        if failed is not None and self.recovery is not None:
            self.recovery = Recovery(failed, self.recovery.at_ms, helped=False)
            self._turned(Turn("deaf", str(self.trouble), failed, helped=False))
            self._keep_memory()

    def _keep_memory(self) -> None:
        if self._ladder.memory != self._kept:
            self._kept = self._ladder.memory
            self._remember(self._kept)

    # ---- states ---------------------------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return "Bluetooth" if self.adapter is None else self.adapter.name

    def _turn(self, state: ScannerState) -> None:
        self.state, self.since_ms = state, self._now_ms()
        self.cause = self.trouble = None

    def _turn_deaf(self, cause: Cause, trouble: TryAgain) -> None:
        if self.state is ScannerState.DEAF and cause in {"adapter", "power"} and self._ladder.is_open:
            # So it has to be for a moment: a step does it.
            return
        before = self.cause
        if self.state is not ScannerState.DEAF:
            self._turn(ScannerState.DEAF)
        self.cause, self.trouble = cause, trouble
        if cause != before:
            self._turned(Turn("deaf", str(trouble)))

    def _sign_of_life(self, *, may_be_late: bool) -> None:
        if may_be_late and self._now_ms() - self._ended_ms < _LATE_MS:
            return
        step = self._ladder.heard()
        self._turn(ScannerState.HEARING)
        if step is not None:
            self.recovery = Recovery(step, self.recovery.at_ms if self.recovery else self._began_ms, helped=True)
        why = "it hears again." if step is None else f"it hears again after {step}."
        self._turned(Turn("hearing", why, step, None if step is None else True))
        self._keep_memory()
        if not self._is_starting:
            self._journal()

    def _journal(self) -> None:
        """The state, at once, but the same not twice a minute; what was left out is said when the minute is over."""
        now_ms = self._now_ms()
        match self.state:
            case ScannerState.DEAF:
                key, level, line = f"deaf {self.cause}", logging.WARNING, f"Deaf. {self.trouble}"
            case ScannerState.HEARING:
                how = f"{self.scanning_mode or 'another'} scan, by {'the helper' if self.source == 'kernel' else 'bluetoothd'}"
                key, level, line = "hearing", logging.INFO, f"{self._name}: hearing{' again' if self._line else ''} ({how})."
            case _:
                return
        told_ms = self._lines.get(key)
        if key != self._line and (told_ms is None or now_ms - told_ms >= _SAME_LINE_MS):
            self._line, self._lines[key] = key, now_ms
            logger.log(level, "%s", line)

    def _say(self, level: int, line: str) -> None:
        """A line in the journal, the same at most once a minute."""
        now_ms = self._now_ms()
        told_ms = self._lines.get(line)
        if told_ms is None or now_ms - told_ms >= _SAME_LINE_MS:
            if len(self._lines) > 64:
                self._lines.clear()
            self._lines[line] = now_ms
            logger.log(level, "%s", line)

    # ---- what is heard --------------------------------------------------------------------------------------------------------

    @property
    def _kernel_serves(self) -> bool:
        kernel = self._kernel
        if kernel is None or self._is_mute or not kernel.connected or self.adapter is None:
            return False
        return self.adapter.address in kernel.adapters

    def _heard_within(self, limit_s: float) -> bool:
        return self.last_heard_ms is not None and self._now_ms() - self.last_heard_ms < limit_s * 1000

    def _mute_helper(self, now_ms: int) -> None:
        """Not to rely on a helper that says nothing while bluetoothd hears."""
        if (
            self._control >= _MUTE_AFTER
            and now_ms - max(self._kernel_heard_ms, self._scan_began_ms) >= self._patience.mute_s * 1000
        ):
            self._is_mute = True

    def _heard_by_kernel(self, address: str, rssi: int, data: bytes) -> None:
        self.last_heard_ms = self._kernel_heard_ms = self._now_ms()
        self._control = 0
        self._is_mute = False
        if self.state is not ScannerState.HEARING:
            self._sign_of_life(may_be_late=self._scan is None)
        self._heard(address, rssi, data)

    def _advertised(self, device: BLEDevice, advertisement: AdvertisementData) -> None:
        """One callback of bleak. It also comes when BlueZ withdraws an RSSI, because the scan ended or the adapter went."""
        rssi = advertisement.rssi
        if not _WEAKEST_DBM < rssi <= _STRONGEST_DBM:
            self.counts.no_rssi += 1
            return
        companies, services, uuids = advertisement.manufacturer_data, advertisement.service_data, advertisement.service_uuids
        # An adapter that fails can keep on reporting devices without any data: they are no sign of life.
        if not (companies or services or uuids or advertisement.local_name):
            self.counts.empty += 1
            return
        if self._kernel_serves:
            self.counts.control += 1
            self._control += 1
            return
        self.last_heard_ms = self._now_ms()
        if self.state is not ScannerState.HEARING:
            # A scan that starts may report before its start is answered: the connection of the one before is closed by then. Of a
            # constant beacon a passive scan may not say more for a minute.
            self._sign_of_life(may_be_late=self._scan is None and not self._is_starting)
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
