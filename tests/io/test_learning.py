"""Learning in a process of its own: what it is bounded by, and that it works where the sandbox forbids what it would like."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.contract.walk_tasks import CheckTask, KeptWalk, plan_file
from gateway.contract.walks import ZonesChecked
from gateway.core.positioning import plan_of
from gateway.daemon.kept_walks import KeptWalks
from gateway.errors import ConfigurationError, TryAgain
from gateway.io.learning import learn_apart
from tests.walked_gateway import PLAN, keep_walks, settings_of

SHOP = PLAN.shop(bytes(range(16)))


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of a shop in which every zone has been walked."""
    folder = tmp_path_factory.mktemp("walked") / "state"
    folder.mkdir()
    keep_walks(folder)
    return folder


def check_task(state: Path) -> CheckTask:
    return KeptWalks(settings_of(state)).check_task(SHOP)


def learners() -> Iterator[Path]:
    """Processes of this one that learn."""
    for task in Path("/proc/self/task").iterdir():
        # One that is on its way out has no files any more.
        with contextlib.suppress(OSError):
            for child in (Path("/proc") / pid for pid in (task / "children").read_text().split()):
                if b"gateway.io.learning" in (child / "cmdline").read_bytes():
                    yield child


async def test_it_steps_back_behind_the_gateway(walked: Path) -> None:
    learning = asyncio.create_task(learn_apart(check_task(walked), ZonesChecked))
    seen = set()
    while not learning.done():
        for child in learners():
            with contextlib.suppress(OSError):
                limits = (child / "limits").read_text().splitlines()
                data = next(line.split()[3] for line in limits if line.startswith("Max data size"))
                nice = (child / "stat").read_text().rpartition(")")[2].split()[16]
                seen.add(((child / "oom_score_adj").read_text().strip(), nice, data))
        await asyncio.sleep(0.005)
    assert (await learning).zones
    assert ("1000", str(min(19, os.nice(0) + 10)), str(384 * 1024 * 1024)) in seen


_SANDBOXED = """
import asyncio, ctypes, errno, os, platform, struct, sys
from pathlib import Path
from gateway.contract.walks import ZonesChecked
from gateway.io.learning import learn_apart
from tests.io.test_learning import check_task

# A filter of system calls as systemd installs them: setpriority fails, everything else is allowed.
number = {"x86_64": 141, "aarch64": 140}[platform.machine()]
program = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | errno.EPERM), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in program))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
filter = Program(len(program), ctypes.addressof(code))
assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(filter), 0, 0) == 0, ctypes.get_errno()
try:
    os.nice(1)
except PermissionError:
    checked = asyncio.run(learn_apart(check_task(Path(sys.argv[1])), ZonesChecked))
    print(len(checked.zones))
"""


def test_it_works_where_priorities_cannot_be_changed(walked: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _SANDBOXED, str(walked)], capture_output=True, text=True, timeout=100, check=False
    )
    assert (ran.stdout.strip(), ran.returncode) == (str(len(check_task(walked).walks)), 0), ran.stderr


async def test_walks_that_take_too_much_memory_are_a_sentence(walked: Path, tmp_path: Path) -> None:
    task = check_task(walked)
    long = tmp_path / "long.jsonl"
    line = (
        '{"t": 1.0, "shopper": "dairy", "anchor": "a", "rssi": -60, "zone": "dairy", "source": "receiver", "x": 1.5, "y": 2.5}\n'
    )
    long.write_text(line * 400_000)
    walks = tuple(KeptWalk(file=str(long), about=walk.about) for walk in task.walks[:2])
    too_long = task.model_copy(update={"walks": walks})
    with pytest.raises(ConfigurationError) as caught:
        await learn_apart(too_long, ZonesChecked, most_mib=96)
    assert str(caught.value) == (
        "the walks: are too much for the 96 MiB of memory that learning may take. Walk the longest of them anew, for less long."
    )
    assert (await learn_apart(task, ZonesChecked, most_mib=192)).zones, "the next one is served"


async def test_one_that_dies_is_a_sentence(walked: Path) -> None:
    """As the kernel ends the first to go where memory is out."""
    learning = asyncio.create_task(learn_apart(check_task(walked), ZonesChecked))
    while not learning.done():
        for child in learners():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child.name), signal.SIGKILL)
        await asyncio.sleep(0.005)
    with pytest.raises(TryAgain, match=r"learning ended with signal 9.*As a rule memory was short: walk the zones for less long"):
        await learning


async def test_a_recording_that_cannot_be_read_is_a_sentence(walked: Path, tmp_path: Path) -> None:
    task = check_task(walked)
    binary = tmp_path / "binary.jsonl"
    binary.write_bytes(b"\xff\xfe")
    for file, said in ((tmp_path / "gone.jsonl", "cannot be read"), (binary, "is no text")):
        walks = (KeptWalk(file=str(file), about=task.walks[0].about), *task.walks[1:])
        with pytest.raises(ConfigurationError, match=said) as caught:
            await learn_apart(task.model_copy(update={"walks": walks}), ZonesChecked)
        assert str(file) in str(caught.value)
    empty = CheckTask(plan=plan_file(plan_of(SHOP)), walks=(), receivers=(), not_walked=("dairy",))
    assert (await learn_apart(empty, ZonesChecked)).advice == ("walk a zone: gateway zone walk dairy",)
