"""What takes longer than two seconds says how far it is, to a person at a terminal and to nobody else."""

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-c", "from gateway.cli import main; main()", "replay"]


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
