"""`gateway radio`: what it says where it may not or cannot listen, and how it lives with systemd."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from gateway.cli.radio import serve
from gateway.errors import TryAgain
from gateway.io.radio.server import RadioServer
from gateway.io.radio.usb import UsbBus
from tests.fakes.kernel import FakeKernel

COMMAND = "gateway radio --socket /run/beacon-gateway-radio/radio.sock"


def test_without_its_capability_it_says_how_to_start_it() -> None:
    """Or, on a machine without any Bluetooth, that there is none."""
    program, *words = COMMAND.split()
    without = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*without, Path(sys.executable).with_name(program), *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    if done.returncode == 69:
        assert "there is no Bluetooth here" in done.stderr
    else:
        assert done.returncode == 78
        assert "needs the capability CAP_NET_ADMIN. Start it as a service (sudo systemctl start gateway-radio)" in done.stderr


async def test_it_tells_systemd_that_it_is_ready_alive_and_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{folder}/notify")
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", f"{folder}/notify")
        path = Path(folder) / "radio.sock"
        async with FakeKernel("F0:F1:F2:F3:F4:F5") as kernel, asyncio.timeout(60):
            running = asyncio.create_task(serve(server_of(path, kernel), path))
            said = await said_until(manager, "READY=1")
            assert any(line.startswith("STATUS=adapters: ") for line in said + await said_until(manager, "WATCHDOG=1", said))
            os.kill(os.getpid(), signal.SIGTERM)
            await running
            await said_until(manager, "STOPPING=1")
        assert not path.exists()


async def test_when_the_kernel_ends_it_the_reason_is_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "radio.sock"
        async with FakeKernel() as kernel, asyncio.timeout(60):
            running = asyncio.create_task(serve(server_of(path, kernel), path))
            while not path.exists():  # noqa: ASYNC110 (a file announces nothing)
                await asyncio.sleep(0.01)
            kernel.close()
            with pytest.raises(TryAgain) as ended:
                await running
        assert ended.value.exit_code == 75


def server_of(path: Path, kernel: FakeKernel) -> RadioServer:
    usb = UsbBus(sys=Path("/nonexistent"))
    return RadioServer(path, kernel.helpers_end, lambda: time.monotonic_ns() // 1_000_000, usb=usb)


async def said_until(manager: socket.socket, line: str, said_before: list[str] | None = None) -> list[str]:
    """Everything up to this line."""
    said = [] if said_before is None else [*said_before]
    while line not in said:
        said += (await asyncio.get_running_loop().sock_recv(manager, 4096)).decode().splitlines()
    return said
