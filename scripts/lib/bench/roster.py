"""How long the largest roster takes until it is in force, and how long the event loop stands still meanwhile."""

import asyncio
import json
import tempfile
import time
from datetime import UTC
from pathlib import Path

from bench import scene
from bench.figures import Effort, Figure, median
from bench.scene import Scene
from bench.world import SIGNER_PUBLIC_KEY, TOPICS, signed
from gateway.core.pipeline import Pipeline, Tuning
from gateway.daemon.downlink import Downlinks
from gateway.io.clock import SystemClock
from gateway.io.memory import shorten_pauses
from gateway.io.signing import Verifier
from gateway.io.store import Store

_SIZE = Scene(roster=50_000, promotions=1000)


def measure(effort: Effort) -> list[Figure]:
    """From signed messages to a roster in force, nothing else going on."""
    shorten_pauses()  # as `gateway run` does
    with tempfile.TemporaryDirectory(prefix="beacon-gateway-bench-") as folder:
        took, stalls = [], []
        for number in range(max(1, effort.rounds // 3)):
            seconds, stall_ms = asyncio.run(_take(Path(folder) / f"{number}.db"))
            took.append(seconds)
            stalls.append(stall_ms)
    return [
        Figure(
            "roster_50000_s",
            "s",
            median(took),
            means="wall time from manifest and five chunks to the roster in force with the identifiers of three windows: "
            "signature, JSON, hashes, keys; the messages are on disk, too",
        ),
        Figure(
            "roster_50000_stall_ms",
            "ms",
            median(stalls),
            means="the longest wait of the event loop meanwhile, and while a catalogue of 1,000 promotions is taken over",
        ),
    ]


async def _take(path: Path) -> tuple[float, float]:
    """(seconds, longest stall in milliseconds)."""
    clock = SystemClock(assume_synchronised=True)
    pipeline = Pipeline(scene.shop(), Tuning(time_zone=UTC, day_start_s=scene.day_start_s()), lambda: "0", clock.now())
    store = Store(path, quota_mib=512, boot_id="boot")
    await store.start()
    verifier = Verifier((SIGNER_PUBLIC_KEY,), TOPICS.store)
    downlinks = Downlinks(TOPICS, verifier, pipeline, store, clock, keeps_phones=True)
    messages = [(topic, payload.encode()) for topic, payload in json.loads(json.dumps(signed(_SIZE, 1)))]
    worst_ms = 0.0

    async def beat() -> None:
        nonlocal worst_ms
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            worst_ms = max(worst_ms, (time.perf_counter() - before) * 1000 - 1)

    beating = asyncio.create_task(beat())
    await asyncio.sleep(0.1)
    worst_ms = 0.0
    await downlinks.take(*messages[0])
    began = time.perf_counter()
    for topic, payload in messages[1:]:
        await downlinks.take(topic, payload)
    took = time.perf_counter() - began
    assert pipeline.identity.roster_size == _SIZE.roster
    await asyncio.sleep(0.05)
    beating.cancel()
    await asyncio.gather(beating, return_exceptions=True)
    await store.close()
    return took, worst_ms
