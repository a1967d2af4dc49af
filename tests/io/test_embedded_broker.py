"""The demo's brokers: each starts, passes a message and leaves nothing behind."""

import asyncio
import logging
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import aiomqtt
import pytest

from gateway.contract.settings import Broker
from gateway.errors import TryAgain
from gateway.io.embedded_broker import embedded_broker, find_mosquitto

both = pytest.mark.parametrize("prefer_amqtt", [False, True], ids=["mosquitto", "amqtt"])


@pytest.fixture(autouse=True)
def _what_there_is(request: pytest.FixtureRequest) -> Iterator[None]:
    if "prefer_amqtt" not in request.fixturenames:
        yield
        return
    if request.getfixturevalue("prefer_amqtt"):
        pytest.importorskip("amqtt", reason="the demo's own broker comes with the extra demo")
    elif find_mosquitto() is None:
        pytest.skip("Mosquitto is not installed")
    levels = {name: logging.getLogger(name).level for name in ("amqtt", "transitions")}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def client(settings: Broker) -> aiomqtt.Client:
    version = aiomqtt.ProtocolVersion.V5 if settings.protocol == "5" else aiomqtt.ProtocolVersion.V311
    return aiomqtt.Client(settings.host, settings.port, protocol=version, timeout=5)


def children() -> set[int]:
    return {int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


@both
async def test_it_passes_a_message_and_stops_without_leftovers(tmp_path: Path, prefer_amqtt: bool) -> None:
    before, tasks = children(), asyncio.all_tasks()
    async with embedded_broker(tmp_path, prefer_amqtt=prefer_amqtt) as (name, settings):
        assert (name, settings.protocol) == (("amqtt", "3.1.1") if prefer_amqtt else ("Mosquitto", "5"))
        assert settings.host == "127.0.0.1"
        async with client(settings) as app, client(settings) as central:
            await app.subscribe("app/anna/offer", qos=1)
            await central.publish("app/anna/offer", b"bread", qos=1, retain=True)
            async with asyncio.timeout(5):
                assert (await anext(aiter(app.messages))).payload == b"bread"
        async with client(settings) as late_comer:
            await late_comer.subscribe("app/anna/offer", qos=1)
            async with asyncio.timeout(5):
                assert (await anext(aiter(late_comer.messages))).retain
    assert children() == before
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect((settings.host, settings.port))
    await asyncio.sleep(0.1)
    assert asyncio.all_tasks() == tasks


def listeners(port: int) -> list[str]:
    """The addresses on which somebody listens on this port, as the kernel prints them."""
    tables = [Path(f"/proc/net/{table}").read_text().splitlines()[1:] for table in ("tcp", "tcp6")]
    lines = [line.split() for table in tables for line in table]
    return [fields[1] for fields in lines if fields[1].endswith(f":{port:04X}") and fields[3] == "0A"]


@both
async def test_it_listens_on_the_loopback_interface_only(tmp_path: Path, prefer_amqtt: bool) -> None:
    async with embedded_broker(tmp_path, prefer_amqtt=prefer_amqtt) as (_, settings):
        expected = [f"0100007F:{settings.port:04X}"]
        # The kernel may skip a line, or print it twice, while others open and close sockets.
        looks = 1
        while (found := listeners(settings.port)) != expected and looks < 100:
            looks += 1
            await asyncio.sleep(0.05)
        assert found == expected


@both
async def test_it_stops_when_its_user_fails(tmp_path: Path, prefer_amqtt: bool) -> None:
    before = children()
    with pytest.raises(ZeroDivisionError):
        async with embedded_broker(tmp_path, prefer_amqtt=prefer_amqtt):
            raise ZeroDivisionError
    assert children() == before


@both
async def test_it_stops_when_its_user_is_cancelled_at_any_moment(tmp_path: Path, prefer_amqtt: bool) -> None:
    before = children()

    async def use() -> None:
        async with embedded_broker(tmp_path, prefer_amqtt=prefer_amqtt):
            await asyncio.sleep(10)

    for step in range(8):
        task = asyncio.create_task(use())
        await asyncio.sleep(0.005 * step)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=5)
        assert done
        assert task.cancelled()
        assert children() == before


@both
async def test_two_at_once_do_not_meet(tmp_path: Path, prefer_amqtt: bool) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    async with (
        embedded_broker(folders[0], prefer_amqtt=prefer_amqtt) as (_, first),
        embedded_broker(folders[1], prefer_amqtt=prefer_amqtt) as (_, second),
    ):
        assert first.port != second.port


def test_mosquitto_is_found_where_debian_puts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/usr/sbin/mosquitto").exists():
        pytest.skip("Mosquitto is not installed from Debian's package")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert shutil.which("mosquitto") is None
    assert find_mosquitto() == "/usr/sbin/mosquitto"


@pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed")
async def test_a_mosquitto_that_dies_takes_what_watches_it_along(tmp_path: Path) -> None:
    before = children()
    async with embedded_broker(tmp_path) as (_, settings):
        (shell,) = children() - before
        inside = Path(f"/proc/{shell}/task/{shell}/children")
        commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in inside.read_text().split()}
        (broker,) = [int(pid) for pid, command in commands.items() if b"mosquitto.conf" in command and b"sh\0-c" not in command]
        os.kill(broker, signal.SIGKILL)
        async with asyncio.timeout(20):
            while listeners(settings.port):  # noqa: ASYNC110 -- the kernel announces nothing
                await asyncio.sleep(0.02)
    assert children() == before
    assert not any(Path(f"/proc/{pid}").exists() for pid in commands)


@pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed")
async def test_a_mosquitto_that_cannot_start_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "mosquitto"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + os.environ["PATH"])
    with pytest.raises(TryAgain, match="did not start"):
        async with embedded_broker(tmp_path):
            pass
