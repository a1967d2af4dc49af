"""An advertisement from its bytes to presence and offers, without any I/O, beside habluetooth's tracking of the same air.

habluetooth is the Bluetooth layer of Home Assistant, compiled with Cython: it parses an advertisement, keeps the newest of each
device and decides which receiver owns it. It recognises nobody, locates nobody and offers nothing.
"""

import asyncio
import gc
import itertools
from typing import Any

from bench import scene
from bench.figures import Effort, Figure, cpu_us, median
from bench.scene import Air, Heard, Scene
from gateway.core.model import ClockQuality, Instant
from gateway.core.pipeline import TICK_MS, Pipeline

_START = Instant(1_000_000, 1_790_000_000_000)
_WARM_S, _TIMED_S = 3, 10
_LARGE_EVERY = 2
"""Rounds: making the large shop takes as long as measuring it, and its figure has no limit."""
_LARGE = Scene(promotions=100_000, roster=50_000, zones=1000)
"""Its roster begins with the usual shop's shoppers, so what is heard is the same."""


def measure(effort: Effort) -> list[Figure]:
    """Ours at two sizes of shop and habluetooth, in turns."""
    usual, large = Scene(), _LARGE
    timed_s = max(1, round(_TIMED_S * effort.size))
    ours, ours_large, theirs, only_receive = [], [], [], []
    events = 0
    heard = list(Air(usual, _START).heard((_WARM_S + timed_s) * usual.per_s))
    count = timed_s * usual.per_s
    # The garbage collector would go through the traces again and again, which no gateway has in its memory.
    gc.freeze()
    for number in range(effort.rounds):
        took, receiving, events = _ours(scene.pipeline(usual, _START), heard, count)
        ours.append(took)
        only_receive.append(receiving)
        if effort.only_limited:
            continue
        theirs.append(asyncio.run(_habluetooth(heard, count)))
        if number % _LARGE_EVERY == 0:
            took, _, _ = _ours(scene.pipeline(large, _START), heard, count)
            ours_large.append(took)
    us = median(ours)
    if effort.only_limited:
        return [_per_s(us, events, timed_s)]
    peer_us = median(theirs)
    return [
        _per_s(us, events, timed_s, beside="habluetooth " + f"{1_000_000 / peer_us:,.0f}"),
        Figure("pipeline_us_per_advertisement", "µs", us, beside=f"habluetooth {peer_us:.2f}", means="the same, as a time"),
        Figure(
            "receive_us_per_advertisement", "µs", median(only_receive), means="the part that each advertisement costs at once"
        ),
        Figure(
            "pipeline_us_per_advertisement_large_shop",
            "µs",
            median(ours_large),
            means="the same air in a shop of 1,000 zones with 100,000 promotions and a roster of 50,000: it must stay flat",
        ),
        Figure(
            "habluetooth_us_per_advertisement",
            "µs",
            peer_us,
            means="CPU time; the same advertisements through its remote scanners to its manager (_async_on_raw_advertisement)",
        ),
    ]


def _per_s(us: float, events: int, timed_s: int, beside: str = "") -> Figure:
    return Figure(
        "pipeline_advertisements_per_s",
        "1/s",
        1_000_000 / us,
        300_000,
        "higher",
        means=f"CPU time; receive and every tick (each {TICK_MS} ms of the trace's 20,000/s): 60 % repeats of 200 beacons, "
        f"20 % Apple, 20 % tokens of 2,000 walking shoppers; 20 zones, 12 receivers, 1,000 promotions; {events} events in "
        f"{timed_s} s of trace",
        beside=beside,
    )


def _fresh(heard: list[Heard]) -> list[Heard]:
    """Bytes that nobody has hashed before, as they come from a radio."""
    return [one._replace(data=bytes(bytearray(one.data))) for one in heard]


def _ours(pipeline: Pipeline, heard: list[Heard], count: int) -> tuple[float, float, int]:
    """(µs an advertisement, the part of it in ``receive``, events)."""
    batches = [list(batch) for _, batch in itertools.groupby(_fresh(heard), lambda one: one.at.mono_ms // TICK_MS)]
    warm = (len(heard) - count) * len(batches) // len(heard)
    gc.collect()
    for batch in batches[:warm]:
        _receive(pipeline, batch)
        pipeline.tick(batch[-1].at, ClockQuality.SYNCHRONISED)
    receive_us = tick_us = 0.0
    events = 0
    for batch in batches[warm:]:
        receive_us += cpu_us(lambda batch=batch: _receive(pipeline, batch), 1)
        steps: list[Any] = []
        tick_us += cpu_us(
            lambda batch=batch, steps=steps: steps.append(pipeline.tick(batch[-1].at, ClockQuality.SYNCHRONISED)), 1
        )
        events += len(steps[0].outcomes)
    timed = sum(map(len, batches[warm:]))
    return (receive_us + tick_us) / timed, receive_us / timed, events


def _receive(pipeline: Pipeline, batch: list[Heard]) -> None:
    receive = pipeline.receive
    for at, receiver, address, rssi_dbm, data in batch:
        receive(receiver, address, rssi_dbm, data, at)


async def _habluetooth(heard: list[Heard], count: int) -> float:
    """µs an advertisement: one remote scanner for each receiver, one manager."""
    from bleak_retry_connector import BleakSlotManager
    from bluetooth_adapters import BluetoothAdapters
    from habluetooth import BaseHaRemoteScanner, BluetoothManager, HaBluetoothConnector, set_manager

    class NoAdapters(BluetoothAdapters):
        async def refresh(self) -> None:
            pass

        @property
        def adapters(self) -> dict[str, Any]:
            return {}

        @property
        def default_adapter(self) -> str:
            return "hci0"

    class Manager(BluetoothManager):
        def _discover_service_info(self, service_info: Any) -> None:
            """What an integration would do with it is not measured."""

    manager = Manager(NoAdapters(), BleakSlotManager())
    set_manager(manager)
    connector = HaBluetoothConnector(object, "none", lambda: False)
    scanners, undo = {}, []
    for name in sorted({one.receiver for one in heard}):
        scanner = BaseHaRemoteScanner(name, name, connector, False)
        undo += [scanner.async_setup(), manager.async_register_scanner(scanner)]
        scanners[name] = scanner
    # As habluetooth's own benchmarks do.
    calls = [(scanners[one.receiver]._async_on_raw_advertisement, one) for one in _fresh(heard)]  # noqa: SLF001
    details: dict[str, Any] = {}

    def feed(part: list[tuple[Any, Heard]]) -> None:
        for take, (at, _, address, rssi_dbm, data) in part:
            take(address, rssi_dbm, data, details, at.mono_ms / 1000)

    gc.collect()
    feed(calls[:-count])
    took = cpu_us(lambda: feed(calls[-count:]), count)
    for one in reversed(undo):
        one()
    return took
