"""What takes longer than two seconds says how far it is, to a person at a terminal and to nobody else."""

import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

PROGRAM = [sys.executable, "-c", "from gateway.cli import main; main()"]
COMMAND = [*PROGRAM, "replay"]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_long_replay_says_how_far_it_is(tmp_path: Path, terminal: bool) -> None:
    fifo = tmp_path / "slow"
    os.mkfifo(fifo)
    controller, screen = pty.openpty()
    try:
        with subprocess.Popen(
            [*COMMAND, str(fifo)], stdout=subprocess.PIPE, stderr=screen if terminal else subprocess.PIPE, text=True
        ) as process:
            with fifo.open("wb", buffering=0) as file:
                file.write(b"btsnoop\x00" + (1).to_bytes(4, "big") + (1002).to_bytes(4, "big"))
                time.sleep(4)
                file.write((4).to_bytes(4, "big") * 2 + bytes(16) + b"\x04\x0e\x01\x00")
            out, err = process.communicate(timeout=30)
        os.set_blocking(controller, False)
        said = os.read(controller, 4096).decode() if terminal else err
    finally:
        os.close(controller)
        os.close(screen)
    assert "0 advertisements in 1 frames" in out
    assert "\x1b" not in out
    if terminal:
        assert "0 MiB, 0 advertisements" in said
        assert said.endswith("\r\x1b[K"), "and takes its line away"
    else:
        assert said == ""


def on_a_terminal(*arguments: object, fifo: Path | None = None, pieces: Sequence[bytes] = ()) -> str:
    """What a person sees beside the answer of a command that reads slowly."""
    controller, screen = pty.openpty()
    try:
        with subprocess.Popen([*PROGRAM, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=screen) as process:
            if fifo is not None:
                with fifo.open("wb", buffering=0) as file:
                    for piece in pieces:
                        file.write(piece)
                        time.sleep(3)
            assert process.wait(60) == 0
        os.set_blocking(controller, False)
        return os.read(controller, 65536).decode()
    finally:
        os.close(controller)
        os.close(screen)


@pytest.mark.parametrize("command", [["evaluate"], ["learn", "--out", "model.json"]])
def test_a_long_recording_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("slow.jsonl")
    Path("anchors.json").write_text('{"anchors": {"a": {"zone": "dairy"}}}')
    lines = [b'{"t": %d, "shopper": "s", "anchor": "a", "rssi": -50, "zone": "dairy"}\n' % t for t in (1, 2)]
    said = on_a_terminal("zone", *command, "slow.jsonl", "--anchors", "anchors.json", fifo=tmp_path / "slow.jsonl", pieces=lines)
    assert "slow.jsonl: read 2 sightings" in said
    assert said.endswith("\r\x1b[K")


@pytest.mark.slow
def test_a_long_simulation_says_how_far_it_is(tmp_path: Path) -> None:
    walk = ("--walk", "survey", "--shoppers", 6, "--out", tmp_path / "walk.jsonl")
    said = on_a_terminal("simulate", "supermarket", *walk)
    assert re.search(r"\d+ of \d+ s, \d+ sightings", said)
    assert said.endswith("\r\x1b[K")
