"""`gateway radio`: the one process with a privilege. It knows no shop, no key, no roster, and talks to nobody but the daemon."""

import asyncio
import logging
from pathlib import Path

from gateway.cli.logs import log_to_stderr
from gateway.cli.signals import stop_on_signals
from gateway.io.clock import SystemClock
from gateway.io.notify import Notifier
from gateway.io.radio.management import open_management
from gateway.io.radio.server import RadioServer
from gateway.io.radio.usb import UsbBus

log = logging.getLogger(__name__)

_BEAT_S = 10
"""A third of the unit's WatchdogSec."""


def run_radio(path: Path) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    log_to_stderr("info")
    with open_management() as kernel:
        clock = SystemClock()
        server = RadioServer(path, kernel, lambda: clock.now().mono_ms, usb=UsbBus())
        asyncio.run(serve(server, path))


async def serve(server: RadioServer, path: Path) -> None:
    """Until SIGTERM, telling systemd of it; raises what ended the server."""
    stop = stop_on_signals()
    notifier = Notifier()

    def ready() -> None:
        log.info("Listening to the kernel; the socket is %s", path)
        notifier.send("READY=1")

    async def beat() -> None:
        while True:
            notifier.send("WATCHDOG=1", f"STATUS={server.summary}")
            await asyncio.sleep(_BEAT_S)

    serving, beating, stopping = tasks = [asyncio.create_task(work) for work in (server.run(ready), beat(), stop.wait())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    notifier.send("STOPPING=1")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in (serving, beating):
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
    assert stopping.done()
