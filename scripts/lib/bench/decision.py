"""From the tick that makes an entry certain to its row on disk and its message at central, with everything running.

The real daemon in its loop, a real database and a real Mosquitto; the advertisements come at their pace, in real time.
"""

import asyncio
import contextlib
import itertools
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from pathlib import Path
from typing import NamedTuple

from bench import scene
from bench.figures import Effort, Figure, percentile
from bench.scene import Air, Scene
from bench.world import World, world
from gateway.core.model import Entered, Instant, Step
from gateway.daemon import Daemon
from gateway.io.clock import SystemClock
from gateway.io.memory import shorten_pauses

_ARRIVE_S, _WARM_S = 15, 20
"""If all entered in the first second, as in no shop, the broker would have their events to carry for long."""
QUIET = Scene(shoppers=100, per_s=1000, stay_s=10, arrive_s=_ARRIVE_S)
BUSY = Scene(shoppers=2000, per_s=20_000, stay_s=45, arrive_s=_ARRIVE_S)
SWAPPED = replace(BUSY, roster=50_000)
_SWAP_S = 8
_QUIET_TIMES = 3
"""As long as the busy one: of few entries the two slowest are already the 99th percentile, and one hiccup of the disk is both."""
_DELIVERED_WITHIN_S = 60
_SLOT_MS = 2
_CATCH_UP_SLOTS = 4
"""So many at once when the trace is late; 64 packets at most come from the radio helper at one wake-up."""
_HEARTBEAT_S = 0.001

Slot = tuple[tuple[str, str, int, bytes], ...]


class Run(NamedTuple):
    """What one run gave."""

    committed_ms: list[float]
    published_ms: list[float]
    events_per_s: float
    stall_ms: float
    swap_stall_ms: float
    swap_s: float
    cpu_percent: float
    late_ms: float
    """How far the advertisements fell behind at most."""
    fsync_ms: float
    """What the disk alone takes for 4 kB, 99th percentile, meanwhile."""
    worst_fsync_ms: float


def measure(effort: Effort) -> list[Figure]:
    """At both paces, each in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool, _idle(context) as idle_ms:
        quiet_s = _QUIET_TIMES * effort.seconds
        quiet = pool.submit(_run, QUIET, quiet_s, None).result()
        busy = pool.submit(_run, BUSY, effort.seconds, SWAPPED).result()
    figures = [_decision(quiet, QUIET, quiet_s), _decision(busy, BUSY, effort.seconds)]
    for run, size in ((quiet, QUIET), (busy, BUSY)):
        figures.append(
            Figure(
                f"central_ms_p99_{size.per_s}",
                "ms",
                percentile(run.published_ms, 99),
                means="the same up to the event's arrival at another process over Mosquitto; median "
                f"{percentile(run.published_ms, 50):.1f}",
            )
        )
    stall = max(quiet.stall_ms, busy.stall_ms, busy.swap_stall_ms)
    return [
        *figures,
        Figure(
            "longest_stall_ms",
            "ms",
            stall,
            20,
            means="wall time for which the event loop let a task wait that sleeps 1 ms at a time (with what the machine's other "
            f"processes took): {quiet.stall_ms:.1f} at 1,000/s, {busy.stall_ms:.1f} at 20,000/s, {busy.swap_stall_ms:.1f} there "
            "while a roster of 50,000 and a catalogue of 1,000 promotions are taken over; the same of a process that does "
            "nothing else, meanwhile, is the machine's own part",
            beside=f"an idle process {max(idle_ms):.1f}",
        ),
        Figure(
            "swap_50000_s",
            "s",
            busy.swap_s,
            means="wall time from central's publishing of that roster and catalogue to both in force, at 20,000 advertisements/s",
        ),
        Figure(
            "daemon_cpu_percent_20000",
            "%",
            busy.cpu_percent,
            means="of one core, the daemon with all its threads (and the replaying of the trace) at 20,000 advertisements/s; "
            f"{busy.events_per_s:.0f} events/s",
        ),
    ]


def _decision(run: Run, size: Scene, seconds: int) -> Figure:
    return Figure(
        f"decision_ms_p99_{size.per_s}",
        "ms",
        percentile(run.committed_ms, 99),
        10,
        means="wall time from the beginning of the tick's part that makes an entry certain to its row (and offer) on disk, fsync "
        f"included; {len(run.committed_ms)} entries in {seconds} s at {size.per_s:,} advertisements/s, {run.events_per_s:.0f} "
        f"events/s; median {percentile(run.committed_ms, 50):.1f}, worst {max(run.committed_ms):.1f}; the trace was at most "
        f"{run.late_ms:.0f} ms late; of five bare writes a second the worst took {run.worst_fsync_ms:.1f} ms",
        beside=f"a bare fdatasync {run.fsync_ms:.1f}",
    )


@contextlib.contextmanager
def _idle(context: SpawnContext) -> Iterator[list[float]]:
    """Has a process sleep 1 ms at a time as long as this lasts; afterwards the list holds its longest oversleeping in ms."""
    here, there = context.Pipe()
    process = context.Process(target=_sleep, args=(there,))
    process.start()
    oversleeping_ms: list[float] = []
    try:
        yield oversleeping_ms
    finally:
        here.send(None)
        oversleeping_ms.append(here.recv())
        process.join()


def _sleep(until_told: Connection) -> None:
    worst_s = 0.0
    while not until_told.poll():
        before = time.perf_counter()
        time.sleep(_HEARTBEAT_S)
        worst_s = max(worst_s, time.perf_counter() - before - _HEARTBEAT_S)
    until_told.send(1000 * worst_s)


def _run(size: Scene, seconds: int, swapped: Scene | None) -> Run:
    return asyncio.run(_Measurement(size, seconds, swapped).run())


class _Measurement:
    """One daemon at one pace."""

    def __init__(self, size: Scene, seconds: int, swapped: Scene | None) -> None:
        self._size = size
        self._seconds = seconds
        self._swapped = swapped
        self._committed: list[tuple[int, float]] = []
        """(the tick's monotonic milliseconds, how long until its entries were on disk)"""
        self._gaps: list[tuple[int, float]] = []
        """(monotonic milliseconds, stall in milliseconds)"""
        self._late_ms = 0.0
        self._events = 0

    async def run(self) -> Run:
        versions = [self._size] if self._swapped is None else [self._size, self._swapped]
        async with world(*versions) as around:
            slots = self._slots()
            shorten_pauses()  # as `gateway run` does
            daemon = Daemon(
                around.settings,
                scene.shop(self._size.zones),
                SystemClock(assume_synchronised=True),
                kept=self._kept,
            )
            stop = asyncio.Event()
            running = asyncio.create_task(daemon.run([], stop))
            beating = asyncio.create_task(self._beat())
            await self._until_in_force(daemon, 1)
            try:
                return await self._measure(daemon, around, slots)
            finally:
                beating.cancel()
                await asyncio.gather(beating, return_exceptions=True)
                stop.set()
                await running

    async def _measure(self, daemon: Daemon, around: World, slots: Sequence[Slot]) -> Run:
        parts = itertools.accumulate([_WARM_S, self._seconds, _SWAP_S])
        warm, steady, whole = (1000 // _SLOT_MS * s for s in parts)
        await self._feed(daemon, slots[:warm])
        begun_ms, events, cpu = _mono_ms(), self._events, time.process_time()
        self._late_ms = 0.0
        probing = asyncio.create_task(asyncio.to_thread(_fsyncs_ms, around.settings.state_dir / "probe", self._seconds))
        await self._feed(daemon, slots[warm:steady])
        fsyncs = await probing
        ended_ms, cpu, events, late_ms = _mono_ms(), time.process_time() - cpu, self._events - events, self._late_ms
        swap_s = 0.0
        if self._swapped is not None:
            feeding = asyncio.create_task(self._feed(daemon, slots[steady:whole]))
            began = time.perf_counter()
            await around.send(2)
            await self._until_in_force(daemon, 2)
            swap_s = time.perf_counter() - began
            await feeding
        await self._until_delivered(daemon)
        received = await around.received()
        seconds = (ended_ms - begun_ms) / 1000
        return Run(
            [took for at, took in self._committed if begun_ms <= at < ended_ms],
            [
                arrived / 1_000_000 - at
                for kind, at, arrived in received
                if kind == "zone.entered.v1" and begun_ms <= at < ended_ms
            ],
            events / seconds,
            max(gap for at, gap in self._gaps if begun_ms <= at < ended_ms),
            max((gap for at, gap in self._gaps if at >= ended_ms), default=0.0),
            swap_s,
            100 * cpu / seconds,
            late_ms,
            percentile(fsyncs, 99),
            max(fsyncs),
        )

    async def _until_delivered(self, daemon: Daemon) -> None:
        deadline = time.perf_counter() + _DELIVERED_WITHIN_S
        while (await daemon.status()).outbox.rows and time.perf_counter() < deadline:  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.2)

    def _slots(self) -> list[Slot]:
        """The trace in plain tuples, which the garbage collector leaves alone once it has seen them."""
        seconds = _WARM_S + self._seconds + (_SWAP_S if self._swapped is not None else 0)
        start = Instant(0, time.time_ns() // 1_000_000)
        heard = Air(self._size, start).heard(seconds * self._size.per_s)
        slots: list[Slot] = []
        for number, group in itertools.groupby(heard, lambda one: one.at.mono_ms // _SLOT_MS):
            slots += [()] * (number - len(slots))
            slots.append(tuple((one.receiver, one.address, one.rssi_dbm, one.data) for one in group))
        return slots

    async def _feed(self, daemon: Daemon, slots: Sequence[Slot]) -> None:
        began = time.perf_counter()
        for number, slot in enumerate(slots):
            ahead_s = began + number * _SLOT_MS / 1000 - time.perf_counter()
            if ahead_s > 0:
                await asyncio.sleep(ahead_s)
            else:
                self._late_ms = max(self._late_ms, -1000 * ahead_s)
                if number % _CATCH_UP_SLOTS == 0:
                    await asyncio.sleep(0)
            for receiver, address, rssi_dbm, data in slot:
                daemon.heard(receiver, address, rssi_dbm, data)

    async def _until_in_force(self, daemon: Daemon, version: int) -> None:
        pipeline = daemon.pipeline
        while True:
            roster = pipeline.identity.roster(pipeline.identity.day_at(time.time_ns() // 1_000_000))
            if (
                pipeline.catalogue is not None
                and pipeline.catalogue.version == version
                and roster is not None
                and roster.version == version
            ):
                return
            await asyncio.sleep(0.02)

    def _kept(self, step: Step) -> None:
        self._events += len(step.outcomes)
        now = time.monotonic_ns() / 1_000_000
        entries = [outcome.event.at.mono_ms for outcome in step.outcomes if isinstance(outcome.event, Entered)]
        self._committed += [(at, now - at) for at in entries]

    async def _beat(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                before = time.perf_counter()
                await asyncio.sleep(_HEARTBEAT_S)
                self._gaps.append((_mono_ms(), (time.perf_counter() - before - _HEARTBEAT_S) * 1000))


def _fsyncs_ms(file: Path, seconds: int) -> list[float]:
    """Five writes a second, as many as there are ticks."""
    took = []
    with file.open("wb", buffering=0) as probe:
        for _ in range(5 * seconds):
            probe.write(bytes(4096))
            began = time.perf_counter()
            os.fdatasync(probe.fileno())
            took.append((time.perf_counter() - began) * 1000)
            time.sleep(max(0.0, 0.2 - took[-1] / 1000))
    return took


def _mono_ms() -> int:
    return time.monotonic_ns() // 1_000_000
