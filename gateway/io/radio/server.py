"""The helper itself: whoever may open its socket gets every report, learns which adapters there are, and may ask for a reset.

It keeps nothing: what is heard goes out within ``batch_ms`` or is dropped and counted. A daemon that does not read fills the
kernel's buffer of its own connection (some hundred kilobytes) and loses what does not fit; nothing grows here. It logs no
address.
"""

import asyncio
import contextlib
import logging
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from gateway.contract.radio import (
    MAX_ADAPTERS,
    AdapterState,
    RadioState,
    decode_reset,
    encode_reset_done,
    encode_state,
)
from gateway.errors import ConfigurationError, DiskError, TryAgain
from gateway.io.radio.management import Batch, Management
from gateway.io.radio.usb import UsbBus

logger = logging.getLogger(__name__)

BATCH_MS = 100
"""How long reports are collected: below some hundred a second wake-ups cost more than reports do."""
RESET_PAUSE_MS = 20_000
"""Between two resets of one adapter: it needs some seconds to come back, and a loop of resets would keep it deaf."""
_MAX_CLIENTS = 8
_QUESTIONS_PER_WAKE_UP = 16
_MAX_QUESTION_BYTES = 64
_SEND_BYTES = 512 * 1024


class _Client:
    """One connection and what it is owed."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.dropped = 0
        self.owes_state = True


class RadioServer:
    """Serves at ``path`` what comes from ``kernel``, the bound management socket (or what speaks like it)."""

    def __init__(
        self, path: Path, kernel: socket.socket, now_ms: Callable[[], int], *, usb: UsbBus, batch_ms: int = BATCH_MS
    ) -> None:
        """``now_ms`` is the monotonic clock of the machine, which the daemon reads too."""
        self._path = path
        self._kernel = kernel
        self._now_ms = now_ms
        self._batch_s = batch_ms / 1000
        self._usb = usb
        self._management = Management(kernel, now_ms, hand_on=self._hand_on, changed=self._adapters_changed, is_usb=usb.is_on_usb)
        self._clients: list[_Client] = []
        self._lost = 0
        self._reset_ms: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: asyncio.Future[None] | None = None

    @property
    def summary(self) -> str:
        """One line for `systemctl status`; no address is in it."""
        adapters = sorted(self._management.adapters.values(), key=lambda adapter: adapter.index)
        names = ", ".join(adapter.name + ("" if adapter.powered else " (off)") for adapter in adapters)
        return f"adapters: {names or 'none'}; listeners: {len(self._clients)}; lost: {self._lost}"

    async def run(self, ready: Callable[[], None] = lambda: None) -> NoReturn:
        """Serve until cancelled; ``ready`` is called when the socket is there.

        ``ConfigurationError`` where another helper serves already, ``DiskError`` where the socket cannot be made, ``TryAgain``
        when the kernel closes the management socket.
        """
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        listening = _listen(self._path)
        made = self._path.lstat()
        loop.add_reader(listening, self._accept, listening)
        loop.add_reader(self._kernel, self._kernel_readable)
        try:
            self._management.begin()
            ready()
            await self._ended
        finally:
            loop.remove_reader(self._kernel)
            loop.remove_reader(listening)
            listening.close()
            for client in [*self._clients]:
                self._drop(client)
            for task in [*self._tasks]:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._ended.cancel()
            with contextlib.suppress(OSError):
                # Not one that another helper has put there since.
                if os.path.samestat(self._path.lstat(), made):
                    self._path.unlink()
        raise AssertionError("the helper serves until it is cancelled")

    # ---- from the kernel

    def _kernel_readable(self) -> None:
        """The first report after a silence: let more of them come before anybody is woken up."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._kernel)
        loop.call_later(self._batch_s, self._drain)

    def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        assert self._ended is not None
        if self._ended.done():
            return
        try:
            had_any = self._management.read()
        except Exception as error:  # noqa: BLE001 (the loop would log it and go on; run() raises it and so ends the process)
            self._ended.set_exception(error)
            return
        lost = self._management.lost()
        if lost != self._lost:
            self._lost = lost
            self._tell_state()
        if had_any:
            loop.call_later(self._batch_s, self._drain)
        else:
            loop.add_reader(self._kernel, self._kernel_readable)

    def _hand_on(self, batch: Batch) -> None:
        for client in [*self._clients]:
            if client.owes_state and not self._send_state(client):
                client.dropped += batch.reports
            elif self._send(client, batch.packet) is False:
                client.dropped += batch.reports
                client.owes_state = True

    def _adapters_changed(self) -> None:
        adapters = self._management.adapters.values()
        known = {adapter.address for adapter in adapters}
        if len(known) < len(adapters):
            logger.warning("Two adapters have the same address: one of them cannot be told from the other.")
        self._tell_state()

    def _tell_state(self) -> None:
        for client in [*self._clients]:
            client.owes_state = True
            self._send_state(client)

    # ---- to and from daemons

    def _accept(self, listening: socket.socket) -> None:
        try:
            connection, _ = listening.accept()
        except OSError:
            return  # whoever wanted to connect has gone
        if len(self._clients) >= _MAX_CLIENTS:
            connection.close()
            return
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
        client = _Client(connection)
        self._clients.append(client)
        asyncio.get_running_loop().add_reader(connection, self._asked, client)
        self._send_state(client)

    def _drop(self, client: _Client) -> None:
        if client in self._clients:
            self._clients.remove(client)
            asyncio.get_running_loop().remove_reader(client.connection)
            client.connection.close()

    def _send(self, client: _Client, packet: bytes | memoryview) -> bool | None:
        """Whether it was taken; false when the connection is full, ``None`` when it has ended."""
        try:
            client.connection.send(packet)
        except BlockingIOError:
            return False
        except OSError:
            self._drop(client)
            return None
        return True

    def _send_state(self, client: _Client) -> bool:
        state = RadioState(self._lost, client.dropped, tuple(self._management.adapters.values()))
        client.owes_state = self._send(client, encode_state(state)) is not True
        return not client.owes_state

    def _asked(self, client: _Client) -> None:
        for _ in range(_QUESTIONS_PER_WAKE_UP):
            try:
                question = client.connection.recv(_MAX_QUESTION_BYTES)
            except BlockingIOError:
                return
            except OSError:
                question = b""
            asked = decode_reset(question)
            if asked is None:
                self._drop(client)
                return
            task = asyncio.get_running_loop().create_task(self._reset(client, *asked))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    # ---- resets

    async def _reset(self, client: _Client, request: int, address: str) -> None:
        try:
            text, done = await self._reset_adapter(address), True
        except TryAgain as error:
            text, done = error.what, False
        if client in self._clients:
            self._send(client, encode_reset_done(request, done, text))

    async def _reset_adapter(self, address: str) -> str:
        adapter = next((each for each in self._management.adapters.values() if each.address == address), None)
        if adapter is None:
            raise TryAgain("cannot be reset: it is gone.")
        now_ms = self._now_ms()
        self._reset_ms = {known: at for known, at in self._reset_ms.items() if now_ms - at < RESET_PAUSE_MS}
        if (at_ms := self._reset_ms.get(address)) is not None or len(self._reset_ms) >= MAX_ADAPTERS:
            ago = "" if at_ms is None else f" {(now_ms - at_ms) / 1000:.0f} s ago"
            raise TryAgain(f"was reset{ago} already; at most once in {RESET_PAUSE_MS // 1000} s.")
        self._reset_ms[address] = now_ms
        refused = ""
        if adapter.is_usb:
            try:
                await asyncio.to_thread(self._usb.reset, adapter.name)
            except TryAgain as error:
                refused = f"; a USB reset was not possible: {error.what}"
            else:
                logger.warning("%s was reset on request: USB reset.", adapter.name)
                return "USB reset"
        await self._power_cycle(adapter, refused)
        logger.warning("%s was reset on request: power cycle%s.", adapter.name, refused)
        return f"power cycle{refused}"

    async def _power_cycle(self, adapter: AdapterState, refused: str) -> None:
        for on in (False, True):
            try:
                await self._management.set_power(adapter.index, on=on)
            except TryAgain as error:
                if on:
                    how = "on again" if adapter.powered else "on"
                    raise TryAgain(f"cannot be switched {how}: {error.what}{refused}.") from error
                # One that is off or hangs may still be switched on.
                logger.info("%s could not be switched off: %s", adapter.name, error.what)


def _listen(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        _make_room(path)
        # Between making the socket and chmod nobody else may connect, whatever the umask.
        before = os.umask(0o177)
        try:
            listening.bind(str(path))
        finally:
            os.umask(before)
        path.chmod(0o660)
        listening.listen(_MAX_CLIENTS)
    except OSError as error:
        listening.close()
        raise DiskError(
            f"the helper's socket cannot be made ({error}).", where=str(path), do="Check folder and owner."
        ) from error
    except BaseException:
        listening.close()
        raise
    return listening


def _make_room(path: Path) -> None:
    """Remove the socket that a helper left behind when it was killed."""
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise ConfigurationError("is there already and no socket.", where=str(path), do="Move it away.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise ConfigurationError("another radio helper is running.", where=str(path), do="Stop it: systemctl stop gateway-radio.")
