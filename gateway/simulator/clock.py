"""Simulated time: it stands still until somebody moves it, and whoever sleeps in it wakes in the right order."""

import asyncio
import heapq
from itertools import count

from gateway.core.model import ClockQuality, Instant


class SimulatedClock:
    """A clock for the daemon and the central service that runs as fast as its owner wants."""

    def __init__(self, start: Instant) -> None:
        self._now = start
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = count()

    def now(self) -> Instant:
        """The simulated moment."""
        return self._now

    def quality(self) -> ClockQuality:
        """A simulated clock is never wrong."""
        return ClockQuality.SYNCHRONISED

    async def sleep_ms(self, duration_ms: int) -> None:
        """Wait until the clock has been moved by ``duration_ms``."""
        waking: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now.mono_ms + max(0, duration_ms), next(self._order), waking))
        await waking

    def advance(self, to_mono_ms: int) -> None:
        """Move time forward (never back) and wake everybody whose time has come."""
        if to_mono_ms > self._now.mono_ms:
            self._now = self._now.plus(to_mono_ms - self._now.mono_ms)
        while self._sleepers and self._sleepers[0][0] <= self._now.mono_ms:
            _, _, waking = heapq.heappop(self._sleepers)
            if not waking.done():
                waking.set_result(None)
