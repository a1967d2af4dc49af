"""The only file that reads clocks: monotonic for durations, wall for messages, and whether the wall clock can be believed."""

import asyncio
import ctypes
import os
import time
from pathlib import Path
from typing import Protocol

from gateway.core.model import ClockQuality, Instant

_TIME_ERROR = 5
_TIMEX_BYTES = 512
"""More than ``struct timex`` needs on any platform we support (208 bytes on 64 bit)."""
_TIMESYNCD_MARK = Path("/run/systemd/timesync/synchronized")
_DRIFT_PPM = 100
"""A crystal of a Pi in a warm shop stays well below this."""
_RECHECK_MS = 5_000
_MAX_BOOT_ID = 64
"""As long as a message of the contract may carry."""


class Clock(Protocol):
    """Time as the daemon and the central service see it; a simulated one can stand in."""

    def now(self) -> Instant:
        """This moment on both clocks."""

    def quality(self) -> ClockQuality:
        """Whether the wall clock can be believed."""

    async def sleep_ms(self, duration_ms: int) -> None:
        """Wait for ``duration_ms`` on the monotonic clock."""


class SystemClock:
    """The machine's own clocks."""

    def __init__(self, *, assume_synchronised: bool = False, skew_s: int = 120) -> None:
        self._assume_synchronised = assume_synchronised
        self._holdover_ms = skew_s * 1000 * 1_000_000 // _DRIFT_PPM
        self._synchronised_ms: int | None = None
        self._checked_ms = -_RECHECK_MS
        self._quality = ClockQuality.UNSYNCHRONISED
        self._now = Instant(-1, 0)

    def now(self) -> Instant:
        """This moment on both clocks."""
        # A burst of advertisements comes within one millisecond, and making an instant costs more than reading the clock.
        mono_ms = time.monotonic_ns() // 1_000_000
        now = self._now
        if now.mono_ms != mono_ms:
            now = self._now = Instant(mono_ms, time.time_ns() // 1_000_000)
        return now

    def quality(self) -> ClockQuality:
        """Asked of the kernel at most every five seconds."""
        now_ms = time.monotonic_ns() // 1_000_000
        if now_ms - self._checked_ms < _RECHECK_MS:
            return self._quality
        self._checked_ms = now_ms
        if self._assume_synchronised or is_synchronised():
            self._synchronised_ms = now_ms
            self._quality = ClockQuality.SYNCHRONISED
        elif self._synchronised_ms is not None and now_ms - self._synchronised_ms < self._holdover_ms:
            self._quality = ClockQuality.HOLDOVER
        else:
            self._quality = ClockQuality.UNSYNCHRONISED
        return self._quality

    async def sleep_ms(self, duration_ms: int) -> None:
        """Wait without blocking the event loop."""
        await asyncio.sleep(max(0, duration_ms) / 1000)


def pause_thread_ms(duration_ms: int) -> None:
    """Let the other threads go on; not for the event loop's own thread."""
    time.sleep(duration_ms / 1000)


def is_synchronised() -> bool:
    """Whether a time service keeps the kernel's clock: ``adjtimex(2)`` read-only, else systemd-timesyncd's mark."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
    state = libc.adjtimex(buffer)
    if state == -1:
        return _TIMESYNCD_MARK.exists()
    return bool(state != _TIME_ERROR)


def boot_id() -> str:
    """The kernel's identifier of this boot; monotonic times of different boots do not compare.

    The unit passes it in, because its sandbox hides the rest of /proc.
    """
    given = os.environ.get("GATEWAY_BOOT_ID", "")
    if given.isascii() and given.isalnum() and len(given) <= _MAX_BOOT_ID:
        return given
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return "unknown"
