"""What a running gateway takes of the machine's memory."""

import asyncio
import sys
import time
from pathlib import Path
from typing import NamedTuple

from bench.figures import Effort, Figure
from bench.scene import Air, Scene

_SIZE = Scene(shoppers=1000, roster=1000, promotions=1000, per_s=5000, stay_s=20)
_SLOT_S = 0.01


def measure(effort: Effort) -> list[Figure]:
    """A daemon in a process of its own."""
    taken = asyncio.run(_measure(max(4, effort.seconds // 2)))
    return [
        Figure(
            "daemon_mb",
            "MB",
            taken.resident_mb,
            75,
            scales=False,
            means="resident memory (VmRSS) of a process with everything that `gateway run` imports and no radio, after it has "
            "taken over 1,000 promotions and a roster of 1,000 and heard them walk "
            f"({taken.present} present), and nobody has asked it anything; their maker is in it; {taken.of_files_mb:.0f} MB are "
            "pages of program files (RssFile), which the system can drop and read again",
            beside=f"proportional (Pss) {taken.proportional_mb:.1f}, at most (VmHWM) {taken.most_mb:.1f}, after the first "
            f"`gateway status` {taken.asked_mb:.1f}",
        )
    ]


class _Taken(NamedTuple):
    """Megabytes (10^6 octets)."""

    resident_mb: float
    of_files_mb: float
    proportional_mb: float
    most_mb: float
    asked_mb: float
    present: int


async def _measure(seconds: int) -> _Taken:
    # Only here: the process that is measured needs nothing of it.
    from bench.world import world

    async with world(_SIZE) as around:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bench.memory",
            around.settings.model_dump_json(),
            str(seconds),
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[1],
        )
        out, _ = await process.communicate()
    figures = list(map(int, out.split()))
    resident, of_files, proportional, most, asked = (kb * 1024 / 1_000_000 for kb in figures[:5])
    return _Taken(resident, of_files, proportional, most, asked, figures[5])


async def _walk(settings_json: str, seconds: int) -> None:
    from bench import scene
    from gateway.cli import run as _everything_that_gateway_run_imports  # noqa: F401
    from gateway.contract.settings import Settings
    from gateway.core.model import Instant
    from gateway.daemon import Daemon
    from gateway.io.clock import SystemClock
    from gateway.io.control import ask
    from gateway.io.memory import shorten_pauses

    shorten_pauses()
    settings = Settings.model_validate_json(settings_json)
    daemon = Daemon(settings, scene.shop(), SystemClock(assume_synchronised=True))
    stop = asyncio.Event()
    running = asyncio.create_task(daemon.run([], stop))
    while not daemon.pipeline.identity.roster_size or daemon.pipeline.catalogue is None:  # noqa: ASYNC110 -- nobody tells
        await asyncio.sleep(0.05)
    air = iter(Air(_SIZE, Instant(0, time.time_ns() // 1_000_000)).heard(seconds * _SIZE.per_s))
    began = time.perf_counter()
    for slot in range(round(seconds / _SLOT_S)):
        for _ in range(round(_SIZE.per_s * _SLOT_S)):
            one = next(air)
            daemon.heard(one.receiver, one.address, one.rssi_dbm, one.data)
        await asyncio.sleep(max(0.0, began + (slot + 1) * _SLOT_S - time.perf_counter()))
    taken = [_kb("status", "VmRSS"), _kb("status", "RssFile"), _kb("smaps_rollup", "Pss"), _kb("status", "VmHWM")]
    present = daemon.pipeline.shoppers_present
    # The line of StatusRequest, whose module the daemon has not loaded yet.
    assert await asyncio.to_thread(ask, settings.control_path, b'{"do": "status"}\n') is not None
    print(*taken, _kb("status", "VmRSS"), present)
    stop.set()
    await running


def _kb(file: str, kind: str) -> int:
    lines = Path("/proc/self", file).read_text("ascii").splitlines()
    return int(next(line for line in lines if line.startswith(f"{kind}:")).split()[1])


if __name__ == "__main__":
    asyncio.run(_walk(sys.argv[1], int(sys.argv[2])))
