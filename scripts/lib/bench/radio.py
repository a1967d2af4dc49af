"""What hearing an advertisement costs, all processes counted: through the radio helper, and through bleak's callback.

Both get one advertisement after the other, evenly spaced, of 50 constant iBeacons, and do nothing with them. The kernel and
bluetoothd are the fakes of the tests, processes of their own, so neither of the two is in these figures. What they and bluetoothd
cost beside each other on a real kernel is measured in the radio lab (tests/radio).
"""

import asyncio
import contextlib
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

from bench.figures import Effort, Figure

ROOT = Path(__file__).resolve().parents[3]
RATES = (100, 500, 2000)
_DEVICES = 50
_ADAPTER = "F0:F1:F2:F3:F4:F5"
_IBEACON = bytes.fromhex("0215 f7826da64fa24e988024bc5b71e0893e 0001 0102 c5")
_DATA = bytes.fromhex("0201061aff4c00") + _IBEACON
_SETTLE_S = 1.5
_PACE_S = 0.001
"""Advertisements closer together than this are sent two or more at a time."""


class Cost(NamedTuple):
    """Of one advertisement: what it took in each process, µs of CPU time, and how many of those sent were heard."""

    us: dict[str, float]
    share: float
    per_s: float


def measure(effort: Effort) -> list[Figure]:
    """At each pace, the two in turns."""
    # The tests' fakes are part of the checkout, not of the package.
    sys.path.insert(0, str(ROOT))
    figures = []
    for per_s in RATES:
        ours = asyncio.run(_through_the_helper(per_s, effort.seconds))
        theirs = asyncio.run(_through_bleak(per_s, effort.seconds))
        figures.append(
            Figure(
                f"radio_us_per_advertisement_{per_s}",
                "µs",
                sum(ours.us.values()),
                means=f"CPU time of {_listed(ours)}; {ours.share:.1%} of {ours.per_s:.0f}/s heard",
                beside=f"bleak {sum(theirs.us.values()):.1f}",
            )
        )
        figures.append(
            Figure(
                f"bleak_us_per_advertisement_{per_s}",
                "µs",
                sum(theirs.us.values()),
                means=f"CPU time of {_listed(theirs)}, none of bluetoothd's; {theirs.share:.1%} of {theirs.per_s:.0f}/s heard",
            )
        )
    return figures


def _listed(cost: Cost) -> str:
    return " and ".join(f"{name} {us:.1f}" for name, us in cost.us.items())


class Worker:
    """A part of a measurement as a process of its own: says "ready", answers each line, and ends with its input."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    async def line(self) -> str:
        """The next that it says."""
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().strip()

    async def answer(self) -> Any:
        """To one line, which needs no words."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        return json.loads(await self.line())


@contextlib.asynccontextmanager
async def worker(module: str, *words: str, pass_fds: tuple[int, ...] = (), **environment: str) -> AsyncIterator[Worker]:
    """Ready when this returns; gone afterwards."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
        pass_fds=pass_fds,
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[1],
    )
    made = Worker(process)
    try:
        if (said := await made.line()) != "ready":
            raise RuntimeError(f"{' '.join(words)}: {said}")
        yield made
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _SETTLE_S)
        except TimeoutError:
            process.kill()
            await process.wait()


def cpu_us(pid: int) -> float:
    """CPU time of a process with all its threads, µs (proc(5), schedstat)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text("ascii").split()[0]) for task in tasks) / 1000


class Pace:
    """Evenly spaced moments: the number of each."""

    def __init__(self, per_s: int, seconds: float) -> None:
        self._at_once = max(1, round(per_s * _PACE_S))
        self._every_s = self._at_once / per_s
        self._seconds = seconds
        self.sent = 0

    async def __aiter__(self) -> AsyncIterator[int]:
        began = time.perf_counter()
        while (now_s := time.perf_counter() - began) < self._seconds:
            for _ in range(self._at_once):
                yield self.sent
                self.sent += 1
            await asyncio.sleep(max(0.0, self.sent / self._at_once * self._every_s - now_s))


async def _through_the_helper(per_s: int, seconds: int) -> Cost:
    from tests.fakes.kernel import FakeKernel

    with tempfile.TemporaryDirectory(prefix="bench-radio-") as folder:
        path = f"{folder}/radio.sock"
        async with FakeKernel(_ADAPTER) as kernel:
            descriptor = kernel.helpers_end.fileno()
            async with (
                worker("bench.radio", "helper", str(descriptor), path, pass_fds=(descriptor,)) as helper,
                worker("bench.radio", "ears", path) as ears,
            ):

                async def send(number: int) -> None:
                    await kernel.advertise(_address(number), -40 - number % 50, _DATA)

                return await _measured(send, ears, {"the helper": helper.pid, "the daemon's end": ears.pid}, per_s, seconds)


async def _through_bleak(per_s: int, seconds: int) -> Cost:
    from tests.fakes.bluez import FakeBlueZ

    async with FakeBlueZ("hci0") as bluez:
        waiting: set[asyncio.Task[bool]] = set()

        async def send(number: int) -> None:
            # Not awaited: the fake answers each, in order.
            task = asyncio.create_task(bluez.advertise(_address(number), -40 - number % 50, manufacturer_data={0x004C: _IBEACON}))
            waiting.add(task)
            task.add_done_callback(waiting.discard)

        async with worker("bench.radio", "bleak", DBUS_SYSTEM_BUS_ADDRESS=bluez.address) as ears:
            cost = await _measured(send, ears, {"dbus-daemon": _bus_daemon(bluez.address), "bleak": ears.pid}, per_s, seconds)
            await asyncio.gather(*waiting)
        # The fake still tells of the end of the scan.
        await asyncio.sleep(_SETTLE_S)
        return cost


async def _measured(send: Callable[[int], Awaitable[None]], ears: Worker, pids: dict[str, int], per_s: int, seconds: int) -> Cost:
    async for number in Pace(per_s, _SETTLE_S):
        await send(number)
    await asyncio.sleep(_SETTLE_S)
    before, heard = {name: cpu_us(pid) for name, pid in pids.items()}, await ears.answer()
    began = time.perf_counter()
    pace = Pace(per_s, seconds)
    async for number in pace:
        await send(number)
    took_s = time.perf_counter() - began
    await asyncio.sleep(_SETTLE_S)
    spent = {name: cpu_us(pid) - before[name] for name, pid in pids.items()}
    heard = await ears.answer() - heard
    return Cost({name: us / max(1, heard) for name, us in spent.items()}, heard / pace.sent, pace.sent / took_s)


def _address(number: int) -> str:
    return f"C0:00:00:00:00:{number % _DEVICES:02X}"


def _bus_daemon(address: str) -> int:
    """The process of the fake's private bus."""
    folder = str(Path(address.removeprefix("unix:path=")).parent).encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "comm").read_text("ascii").strip() == "dbus-daemon" and folder in (process / "cmdline").read_bytes():
                return int(process.name)
    raise RuntimeError("no dbus-daemon of the fake")


# ---- the processes that are measured ------------------------------------------------------------------------------------------


async def _helper(descriptor: int, path: Path) -> None:
    """What `gateway radio` runs, with the fake's socket instead of the kernel's."""
    from gateway.io.clock import SystemClock
    from gateway.io.radio.server import RadioServer
    from gateway.io.radio.usb import UsbBus

    clock = SystemClock()
    kernel = socket.socket(fileno=descriptor)
    kernel.setblocking(False)
    server = asyncio.create_task(RadioServer(path, kernel, lambda: clock.now().mono_ms, usb=UsbBus()).run())
    while not path.exists():  # noqa: ASYNC110, ASYNC240 -- a file announces nothing
        await asyncio.sleep(0.01)
    await answer_with(lambda: None)
    server.cancel()


async def answer_with(answer: Callable[[], Any]) -> None:
    """A worker's side of ``Worker``."""
    loop = asyncio.get_running_loop()
    questions = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(questions), sys.stdin)
    print("ready", flush=True)
    while await questions.readline():
        print(json.dumps(answer()), flush=True)


class _Count:
    def __init__(self) -> None:
        self.heard = 0

    def report(self, _address: str, _rssi_dbm: int, _data: bytes) -> None:
        self.heard += 1

    def advertised(self, _device: object, _advertisement: object) -> None:
        self.heard += 1


async def _ears(path: Path) -> None:
    from gateway.io.clock import SystemClock
    from gateway.io.radio_link import RadioLink

    clock, count = SystemClock(), _Count()
    link = RadioLink(path, lambda: clock.now().mono_ms)
    link.listen(_ADAPTER, count.report)
    running = asyncio.create_task(link.run())
    while _ADAPTER not in link.adapters:  # noqa: ASYNC110 -- it is there at once
        await asyncio.sleep(0.01)
    await answer_with(lambda: count.heard)
    running.cancel()


async def _bleak() -> None:
    from bleak import BleakScanner

    count = _Count()
    async with BleakScanner(count.advertised, bluez={"adapter": "hci0", "filters": {"DuplicateData": True}}):
        await answer_with(lambda: count.heard)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["helper", descriptor, path]:
            asyncio.run(_helper(int(descriptor), Path(path)))
        case ["ears", path]:
            asyncio.run(_ears(Path(path)))
        case ["bleak"]:
            asyncio.run(_bleak())
