"""Learning a shop from a technician's walks: 20 zones and 12 receivers, and how long the event loop waits meanwhile."""

import asyncio
import os
import random
import resource
import tempfile
import time
from math import hypot, log10
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from bench.figures import Effort, Figure
from gateway.contract.walk_tasks import KeptWalk, Learnt, LearnTask, plan_file, recording_of
from gateway.contract.walks import WalkAccepted
from gateway.core.walk_check import model_of
from gateway.core.walks import Walk, placed
from gateway.core.zone_model import KnownAnchor, RecordedSighting, ShopPlan
from gateway.io.learning import learn_apart

_ZONES, _ANCHORS = 20, 12
_SIDE_M, _ACROSS = 6.0, 5
_EVERY_MS = 500
_LIMIT_S, _LIMIT_STALL_MS = 10.0, 20.0
_TICK_S = 0.002


def measure(effort: Effort) -> list[Figure]:
    """Seconds for the model, marked walks and unmarked ones; the loop's longest wait while a new walk is learnt from."""
    shop = _shop()
    figures = []
    for name, seconds in (("10min_in_all", 30), ("10min_each", round(600 * effort.size))):
        for kind, is_marked in (("zones", False), ("marked", True)):
            walks = [_walk(zone, seconds, shop, is_marked=is_marked) for zone in sorted(shop.zones)]
            began = time.process_time()
            model_of(walks, shop)
            took_s = time.process_time() - began
            count = sum(len(walk.sightings) for walk in walks)
            means = f"CPU time; {count} sightings of {_ZONES} zones at {_ANCHORS} receivers"
            figures.append(Figure(f"walks_learn_{kind}_{name}", "s", took_s, _LIMIT_S, means=means))
    with tempfile.TemporaryDirectory() as folder:
        stall_ms, took_s = asyncio.run(_beside_the_loop(shop, Path(folder)))
    figures.append(
        Figure(
            "walks_judged_and_learnt",
            "s",
            took_s,
            _LIMIT_S,
            means="CPU time of the process that judges, learns and replays 20 walks",
        )
    )
    means = "how much later than asked the event loop woke, at most, while that process ran; a loop that does nothing else"
    figures.append(Figure("walks_loop_stall", "ms", stall_ms, _LIMIT_STALL_MS, scales=False, means=means))
    return figures


def _shop() -> ShopPlan:
    anchors = {f"k{n}": KnownAnchor((4.0 + 8.0 * (n % 4), 4.0 + 8.0 * (n // 4))) for n in range(_ANCHORS)}
    zones = {}
    for number in range(_ZONES):
        x, y = _SIDE_M * (number % _ACROSS), _SIDE_M * (number // _ACROSS)
        zones[f"zone-{number:02}"] = ((x, y), (x + _SIDE_M, y), (x + _SIDE_M, y + _SIDE_M), (x, y + _SIDE_M))
    return ShopPlan(anchors, zones)


def _walk(zone: str, seconds: int, shop: ShopPlan, *, is_marked: bool) -> Walk:
    """To and fro between the zone's corners, two sightings a second at each receiver."""
    chance = random.Random(zone)
    corners = [(0.9 * x + 0.1 * cx, 0.9 * y + 0.1 * cy) for x, y in shop.zones[zone] for cx, cy in [shop.zones[zone][0]]]
    marks = tuple((n * 6000, chance.choice(corners)) for n in range(seconds // 6 + 2))
    emissions = placed((RecordedSighting(t_ms, zone, "", -60.0, zone) for t_ms in range(0, seconds * 1000, _EVERY_MS)), marks)
    heard = []
    for emission in emissions:
        assert emission.at_m is not None
        for name, anchor in shop.anchors.items():
            assert anchor.at_m is not None
            apart_m = max(0.5, hypot(emission.at_m[0] - anchor.at_m[0], emission.at_m[1] - anchor.at_m[1]))
            level_dbm = round(-61.0 - 18.0 * log10(apart_m) + chance.gauss(0.0, 5.0))
            heard.append(RecordedSighting(emission.t_ms, zone, name, level_dbm, zone, emission.at_m if is_marked else None))
    return Walk(zone, tuple(heard))


async def _beside_the_loop(shop: ShopPlan, folder: Path) -> tuple[float, float]:
    """(longest lateness of a tick in ms, seconds of the other process)."""
    *others, new = [_walk(zone, 30, shop, is_marked=False) for zone in sorted(shop.zones)]
    kept = []
    for walk in others:
        file = folder / f"{walk.zone}.jsonl"
        file.write_text(recording_of(walk.zone, walk.sightings), "utf-8")
        about = WalkAccepted(zone=walk.zone, walked_time=0, device="test-shopper", accuracy=1.0, changes=0)
        kept.append(KeptWalk(file=str(file), about=about))
    recording = recording_of(new.zone, new.sightings)
    task = LearnTask(plan=plan_file(shop), zone=new.zone, recording=recording, walks=tuple(kept), receivers=())
    latest_ms, is_over = 0.0, False

    async def tick() -> None:
        nonlocal latest_ms
        while not is_over:
            before = time.perf_counter()
            await asyncio.sleep(_TICK_S)
            latest_ms = max(latest_ms, (time.perf_counter() - before - _TICK_S) * 1000)

    ticking = asyncio.create_task(tick())
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    learnt = await learn_apart(task, Learnt)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    is_over = True
    await ticking
    if learnt.refused is not None:
        raise AssertionError(learnt.refused)
    return latest_ms, took_s
