"""An MQTT broker for demonstrations: the machine's Mosquitto on a private port and folder, else amqtt inside this process."""

import asyncio
import contextlib
import logging
import os
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from gateway.contract.settings import Broker
from gateway.errors import TryAgain

_START_TIMEOUT_S = 10.0
_POLL_S = 0.02
_UNTIL_WE_END = """
exec 3<&0
"$@" 3<&- & broker=$!
{ read -r _ <&3; kill "$broker"; } & watcher=$!
wait "$broker"; status=$?
kill "$watcher"; wait "$watcher"
exit "$status"
"""
"""Runs a broker until the other end of standard input is closed, as it also is when we are killed. The kernel's signal for the
death of a parent would not do: it is forgotten when Mosquitto, started by root, becomes another user."""
_WHERE_DEBIAN_PUTS_IT = "/usr/sbin:/usr/local/sbin"


def find_mosquitto() -> str | None:
    """Path of the Mosquitto program; Debian's is not on an ordinary user's PATH."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path=_WHERE_DEBIAN_PUTS_IT)


@contextlib.asynccontextmanager
async def embedded_broker(folder: Path, *, prefer_amqtt: bool = False) -> AsyncIterator[tuple[str, Broker]]:
    """(name, settings to reach it) of a broker that lives as long as the context; ``TryAgain`` when none can be started."""
    mosquitto = None if prefer_amqtt else find_mosquitto()
    port = _free_port()
    if mosquitto is not None:
        async with _mosquitto(mosquitto, folder, port):
            yield "Mosquitto", Broker(host="127.0.0.1", port=port, protocol="5")
    else:
        async with _amqtt(port):
            yield "amqtt", Broker(host="127.0.0.1", port=port, protocol="3.1.1")


@contextlib.asynccontextmanager
async def _mosquitto(program: str, folder: Path, port: int) -> AsyncIterator[None]:
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\npersistence false\n", "ascii")
    read, write = os.pipe()
    with os.fdopen(write, "wb", 0) as ours:
        with os.fdopen(read, "rb", 0) as theirs:
            # A session of its own, so that Ctrl-C reaches us first and everybody can say goodbye.
            process = await asyncio.create_subprocess_exec(
                *("/bin/sh", "-c", _UNTIL_WE_END, "sh", program, "-c", str(config)),
                stdin=theirs,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            await _wait_for_port(port, process)
            yield
        finally:
            ours.close()
            await process.wait()


async def _wait_for_port(port: int, process: asyncio.subprocess.Process) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _START_TIMEOUT_S
    while loop.time() < deadline and process.returncode is None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(_POLL_S)
        else:
            writer.close()
            await writer.wait_closed()
            return
    raise TryAgain("did not start.", where=f"Mosquitto on port {port}", do="Try again, or look at: mosquitto -v")


@contextlib.asynccontextmanager
async def _amqtt(port: int) -> AsyncIterator[None]:
    try:
        from amqtt.broker import Broker as AmqttBroker
        from amqtt.errors import AMQTTError
    except ImportError as error:
        raise TryAgain(
            "no MQTT broker was found.",
            do="Install one with: sudo apt install mosquitto (or: pip install 'beacon-gateway[demo]')",
        ) from error
    for name in ("amqtt", "transitions"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    broker = AmqttBroker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    try:
        await broker.start()
    except AMQTTError as error:
        raise TryAgain(f"did not start ({error}).", where=f"amqtt on port {port}", do="Try again.") from error
    try:
        yield
    finally:
        with contextlib.suppress(AMQTTError):
            await broker.shutdown()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
