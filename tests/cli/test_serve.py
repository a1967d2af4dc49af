"""`gateway run` as a process: what it turns into, and what it has loaded for as long as nobody asks it anything."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.contract.control import Status, StatusRequest, result_of
from gateway.io.control import ask

PROGRAM = Path(sys.executable).with_name("gateway")
_PATIENCE_S = 60
_LOOK = """
import sys
import gateway.cli.run
print(*(name for name in sys.argv[1:] if name in sys.modules))
"""


def write_settings(folder: Path) -> Path:
    path = folder / "gateway.toml"
    path.write_text(
        'store = "demo"\nstore_number = 4711\ngateway = "pi-1"\nstate_dir = "state"\nreceivers = []\n[broker]\nport = 1\n'
        "[clock]\nassume_synchronised = true\n"
    )
    return path


@contextmanager
def running(folder: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """`gateway run` in this folder until its control socket is there; ends it with SIGTERM, which is a success."""
    command = [str(PROGRAM), "run", "--config", write_settings(folder).name, *more]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + _PATIENCE_S
        while not (folder / "state" / "control.sock").exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        _, complained = process.communicate(timeout=_PATIENCE_S)
        assert process.returncode == 0, complained


@pytest.mark.parametrize(
    "module",
    [
        "typer",
        "cryptography",
        "numpy",
        "gateway.contract.control",
        "gateway.daemon.desk",
        "gateway.daemon.explain",
        "gateway.daemon.walks",
        "gateway.io.recorder",
    ],
)
def test_a_gateway_that_nobody_asks_anything_does_without(module: str) -> None:
    done = subprocess.run([sys.executable, "-c", _LOOK, "gateway.daemon", module], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["gateway.daemon"]


def test_the_process_that_was_started_is_the_daemon_and_answers(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        words = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
        assert words[1:6] == [b"-P", b"-m", b"gateway.cli.serve", b"gateway.toml", b""]
        answer = ask(tmp_path / "state" / "control.sock", StatusRequest().model_dump_json().encode() + b"\n")
        assert answer is not None
        status = result_of(answer, Status)
        assert (status.store, status.state, status.receivers) == ("demo", "running", ())


def test_what_is_to_be_recorded_is_known_to_the_daemon(tmp_path: Path) -> None:
    with running(tmp_path, "--record", "day one.jsonl", "--record-minutes", "7") as process:
        words = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
        assert words[3:-1] == [b"gateway.cli.serve", b"gateway.toml", b"day one.jsonl", b"7"]
        assert (tmp_path / "day one.jsonl").stat().st_mode & 0o777 == 0o600
