"""A flood of random addresses: whether the gateway grows, and whether a genuine shopper still gets a decision in time.

The radio helper, and the daemon with database, broker and central, each a process of its own. A fake of the kernel's management
socket says what is heard: shoppers who come, one after the other, and after a while 5,000 strangers a second, each from a new
address; every fifth of them sends what looks like a shopper's token and is none.
"""

import asyncio
import random
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from bench import scene
from bench.figures import Effort, Figure, percentile
from bench.radio import ROOT, Pace, answer_with, worker
from bench.scene import Scene
from bench.world import world
from gateway.contract.settings import Settings
from gateway.core import ad_structures
from gateway.core.ad_structures import COMPLETE_UUIDS_128, FLAGS, MANUFACTURER_DATA, AdStructure
from gateway.core.frames import shopper
from gateway.core.model import Entered, ShopperToken, Step
from gateway.core.token import FLAG_OFFERS, HINT_NONE, TokenPayload, derive_subkeys, seal_token, slot_of, window_of
from gateway.daemon import Daemon, EarCondition
from gateway.io.clock import SystemClock
from gateway.io.radio_link import RadioLink

STRANGERS_PER_S = 5000
_FULL_S, _QUICK_S = 600, 60
_ADAPTERS = ("F0:F1:F2:F3:F4:F5", "A0:A1:A2:A3:A4:A5")
_COME_PER_S, _STAY_S, _SENDS_PER_S = 2, 8, 4
_CALM_S = 25
"""With shoppers alone: until then everything that a gateway loads later is loaded."""
_LAST_S = 5
"""For the last decisions to be made."""
_SAMPLE_S = 1.0


def measure(effort: Effort) -> list[Figure]:
    """Ten minutes of it, or one."""
    # The tests' fakes are part of the checkout, not of the package.
    sys.path.insert(0, str(ROOT))
    return asyncio.run(_Flood(_FULL_S if effort.seconds >= 30 else _QUICK_S).run())


class _Flood:
    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._came_ms: dict[str, int] = {}
        self._sent = 0

    async def run(self) -> list[Figure]:
        from tests.fakes.kernel import FakeKernel

        count = (self._seconds + _CALM_S) * _COME_PER_S
        with tempfile.TemporaryDirectory(prefix="bench-flood-") as folder:
            path = f"{folder}/radio.sock"
            async with world(Scene(shoppers=count, roster=count, promotions=200)) as around, FakeKernel(*_ADAPTERS) as kernel:
                descriptor = kernel.helpers_end.fileno()
                settings = around.settings.model_dump_json()
                async with (
                    worker("bench.radio", "helper", str(descriptor), path, pass_fds=(descriptor,)) as helper,
                    worker("bench.flood", settings, path) as daemon,
                ):
                    shoppers = asyncio.create_task(self._shoppers(kernel, count))
                    await asyncio.sleep(_CALM_S)
                    pids = {"the daemon": daemon.pid, "the helper": helper.pid}
                    before = {name: _resident_mb(pid) for name, pid in pids.items()}
                    calm = await daemon.answer()
                    sampling = asyncio.create_task(self._most(pids))
                    began = time.perf_counter()
                    await self._strangers(kernel)
                    took_s = time.perf_counter() - began
                    await shoppers
                    await asyncio.sleep(_LAST_S)
                    sampling.cancel()
                    await asyncio.gather(sampling, return_exceptions=True)
                    report = await daemon.answer()
        return self._figures(calm, report, before, took_s)

    def _figures(self, calm: Any, report: Any, before: dict[str, float], took_s: float) -> list[Figure]:
        decided = {name: at for name, at in report["decided"] if name in self._came_ms}
        begun_ms = calm["now"]
        flooded = {name: came for name, came in self._came_ms.items() if came >= begun_ms}
        delays = [decided[name] - came if name in decided else float("inf") for name, came in flooded.items()]
        calm_delays = [decided[name] - came for name, came in self._came_ms.items() if came < begun_ms and name in decided]
        grown = {name: self._peak[name] - before[name] for name in before}
        heard = report["heard"] - calm["heard"]
        about = (
            f"{self._sent / took_s:,.0f} strangers/s for {took_s:.0f} s, {heard:,} reports heard in it, lost {report['lost']}, "
            f"dropped {report['dropped']}, too old {report['stale']} packets"
        )
        return [
            Figure(
                "flood_decision_s_p99",
                "s",
                percentile(delays, 99) / 1000,
                2,
                scales=False,
                means="wall time from a shopper's first advertisement, at the kernel's socket, to the entry and its offer "
                f"on disk; {len(delays)} shoppers, {sum(delay == float('inf') for delay in delays)} never decided, median "
                f"{percentile(delays, 50) / 1000:.2f} s ({percentile(calm_delays, 50) / 1000:.2f} s before the flood); {about}",
            ),
            *(
                Figure(
                    f"flood_{name.removeprefix('the ')}_grows_mb",
                    "MB",
                    grown[name],
                    10,
                    scales=False,
                    means=f"the most resident memory during the flood less that before it ({before[name]:.0f} MB)",
                )
                for name in grown
            ),
        ]

    async def _most(self, pids: dict[str, int]) -> None:
        self._peak = {name: _resident_mb(pid) for name, pid in pids.items()}
        while True:
            await asyncio.sleep(_SAMPLE_S)
            self._peak = {name: max(self._peak[name], _resident_mb(pid)) for name, pid in pids.items()}

    async def _shoppers(self, kernel: Any, count: int) -> None:
        """One after the other comes in, stays and goes; the moment of the first advertisement of each is noted."""
        async with asyncio.TaskGroup() as visits:
            for entry in scene.roster_entries(count):
                visits.create_task(self._visit(kernel, entry))
                await asyncio.sleep(1 / _COME_PER_S)

    async def _visit(self, kernel: Any, entry: Any) -> None:
        rng = random.Random(entry.rid)
        address, keys = _random_address(rng), derive_subkeys(entry.day_key)
        self._came_ms[entry.rid.hex()] = _mono_ms()
        for _ in range(_STAY_S * _SENDS_PER_S):
            wall_s = time.time()
            payload = TokenPayload(FLAG_OFFERS, slot_of(wall_s), 0, HINT_NONE)
            token = ShopperToken("U", seal_token(keys, window_of(wall_s), payload), None)
            data = ad_structures.encode([AdStructure(FLAGS, b"\x1a"), shopper.encode(token)])
            await kernel.advertise(address, rng.randint(-65, -50), data, index=0)
            await kernel.advertise(address, rng.randint(-85, -75), data, index=1)
            await asyncio.sleep(1 / _SENDS_PER_S)

    async def _strangers(self, kernel: Any) -> None:
        rng = random.Random(1)
        pace = Pace(STRANGERS_PER_S, self._seconds)
        async for number in pace:
            body = (
                AdStructure(COMPLETE_UUIDS_128, rng.randbytes(16))
                if number % 5 == 0
                else AdStructure(MANUFACTURER_DATA, rng.randbytes(rng.randrange(4, 25)))
            )
            data = ad_structures.encode([AdStructure(FLAGS, b"\x1a"), body])
            await kernel.advertise(_random_address(rng), rng.randint(-95, -40), data, index=number % len(_ADAPTERS))
        self._sent = pace.sent


def _random_address(rng: random.Random) -> str:
    return rng.randbytes(6).hex(":").upper()


def _resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) * 1024 / 1_000_000


def _mono_ms() -> int:
    return time.monotonic_ns() // 1_000_000


# ---- the daemon's process -----------------------------------------------------------------------------------------------------


class _LinkEar:
    """Two adapters, heard through the helper."""

    def __init__(self, link: RadioLink, daemon: Daemon) -> None:
        self._link = link
        for number, address in enumerate(_ADAPTERS):
            link.listen(address, partial(daemon.heard, f"receiver-{number}"))

    async def run(self) -> None:
        await self._link.run()

    def conditions(self) -> list[EarCondition]:
        return []


async def _decide(settings_json: str, path: Path) -> None:
    from gateway.cli import run as _everything_that_gateway_run_imports  # noqa: F401

    clock = SystemClock(assume_synchronised=True)
    link = RadioLink(path, lambda: clock.now().mono_ms)
    decided: dict[str, int] = {}
    undecided: list[str] = []
    stepped = asyncio.Event()

    def observe(step: Step) -> None:
        undecided.extend(outcome.event.shopper for outcome in step.outcomes if isinstance(outcome.event, Entered))
        stepped.set()

    daemon = Daemon(Settings.model_validate_json(settings_json), scene.shop(), clock, observe=observe)

    async def watch_commits() -> None:
        while True:
            await stepped.wait()
            stepped.clear()
            await daemon.at_rest.wait()
            for name in undecided:
                decided.setdefault(name, _mono_ms())
            undecided.clear()

    def report() -> dict[str, object]:
        counts = link.counts
        return {
            "now": _mono_ms(),
            "decided": list(decided.items()),
            "heard": counts.heard,
            "lost": counts.lost,
            "dropped": counts.dropped,
            "stale": counts.stale,
        }

    stop = asyncio.Event()
    running = asyncio.create_task(daemon.run([_LinkEar(link, daemon)], stop))
    watching = asyncio.create_task(watch_commits())
    while not daemon.pipeline.identity.roster_size or daemon.pipeline.catalogue is None or len(link.adapters) < len(_ADAPTERS):  # noqa: ASYNC110 -- nobody tells
        await asyncio.sleep(0.05)
    await answer_with(report)
    watching.cancel()
    stop.set()
    await running


if __name__ == "__main__":
    asyncio.run(_decide(sys.argv[1], Path(sys.argv[2])))
