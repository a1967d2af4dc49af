"""The daemon's end of the radio helper's socket: every advertisement of every adapter, what adapters there are, and resets.

    waiting ── the helper answers ──▶ connected ── it ends, or says what nobody understands ──▶ waiting (0.5 to 5 s)

The helper is a service of its own (`gateway radio`): the daemon needs no privilege and lives on without it. One wake-up brings
all reports of the last moment; each is handed on within it.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

from gateway.contract.radio import (
    MAX_PACKET_BYTES,
    REPORTS,
    RESET_DONE,
    STATE,
    AdapterState,
    Heard,
    RadioState,
    decode_reset_done,
    decode_state,
    encode_reset,
    hand_out,
    reports_read_ms,
)
from gateway.core.backoff import delay_ms
from gateway.core.sanitiser import printable
from gateway.errors import GatewayError, TryAgain

logger = logging.getLogger(__name__)

_RETRY_FIRST_MS, _RETRY_MOST_MS = 500, 5_000
_STEADY_JITTER = 0.999
"""Nobody else waits for this helper, so there is no crowd to spread."""
_GREETING_S = 10.0
_RESET_S = 45.0
"""Longer than the helper itself takes to give up."""
_STALE_MS = 2_000
"""Reports that waited longer than this, because the daemon did not run, are no news of where a shopper is now."""
_PACKETS_PER_WAKE_UP = 64
"""Then others have their turn."""

_DO = "Look at it: systemctl status gateway-radio; start it: sudo systemctl enable --now gateway-radio."


@dataclass(slots=True)
class LinkCounts:
    """Since the link was made; ``lost`` and ``dropped`` as the helper of this moment says."""

    heard: int = 0
    no_rssi: int = 0
    empty: int = 0
    stale: int = 0
    """Reports' packets that waited too long, see ``_STALE_MS``."""
    broken: int = 0
    """Reports and packets that nobody understands."""
    lost: int = 0
    """Reports that the kernel could not keep for the helper since that started."""
    dropped: int = 0
    """Reports that the helper dropped because this daemon did not read."""
    connections: int = 0


class RadioLink:
    """One per daemon. Everything may be read and called at any time from the loop's thread.

    ``adapters`` are those of the kernel, by address, and empty while not ``connected``; ``trouble`` says why it is not.
    """

    def __init__(self, path: Path, now_ms: Callable[[], int]) -> None:
        """``path`` is the helper's socket, ``now_ms`` the machine's monotonic clock, which the helper reads too."""
        self.connected = False
        self.trouble: GatewayError | None = TryAgain("the radio helper has not answered yet.", where=str(path), do=_DO)
        self.counts = LinkCounts()
        self._path = path
        self._now_ms = now_ms
        self._adapters: dict[str, AdapterState] = {}
        self._heard: dict[str, Heard] = {}
        self._ears: dict[int, Heard] = {}
        self._watchers: list[Callable[[], None]] = []
        self._socket: socket.socket | None = None
        self._greeted: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._resets: dict[int, asyncio.Future[tuple[bool, str]]] = {}
        self._next_request = 1

    @property
    def adapters(self) -> Mapping[str, AdapterState]:
        """By the adapter's address (F0:F1:…)."""
        return MappingProxyType(self._adapters)

    def listen(self, adapter_address: str, heard: Heard) -> None:
        """Hand every report of this adapter to ``heard``, whatever number it has, now or when it comes; one listener each."""
        self._heard[adapter_address.upper()] = heard
        self._sort_ears()

    def stop_listening(self, adapter_address: str) -> None:
        """Hand on nothing more of this adapter."""
        self._heard.pop(adapter_address.upper(), None)
        self._sort_ears()

    def watch(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever ``connected``, ``trouble`` or ``adapters`` has changed."""
        self._watchers.append(changed)

    async def run(self) -> NoReturn:
        """Connect, and connect again, until cancelled; raises only what ``heard`` or a watcher raised."""
        attempt = 0
        while True:
            try:
                await self._converse()
            except TryAgain as trouble:
                attempt = 0 if self.connected else attempt + 1
                self._turn_down(trouble)
            await asyncio.sleep(delay_ms(attempt, _STEADY_JITTER, first_ms=_RETRY_FIRST_MS, longest_ms=_RETRY_MOST_MS) / 1000)

    async def reset(self, adapter_address: str) -> str:
        """Have the adapter reset and say how: "USB reset" or "power cycle"; ``TryAgain`` when it could not be done.

        A USB reset takes it off its bus: it comes back in some seconds, perhaps under another number.
        """
        if not self.connected or self._socket is None:
            raise TryAgain("cannot be reset: the radio helper does not run.", where=adapter_address, do=_DO)
        request, self._next_request = self._next_request, self._next_request % 0xFFFF_FFFF + 1
        answer: asyncio.Future[tuple[bool, str]] = asyncio.get_running_loop().create_future()
        self._resets[request] = answer
        try:
            self._socket.send(encode_reset(request, adapter_address))
            async with asyncio.timeout(_RESET_S):
                done, text = await answer
        except OSError as error:  # a time-out is one
            raise TryAgain("the radio helper does not answer.", where=adapter_address, do=_DO) from error
        finally:
            del self._resets[request]
        if not done:
            raise TryAgain(printable(text), where=adapter_address)
        return printable(text)

    async def _converse(self) -> NoReturn:
        """One connection from its beginning to its end; raises ``TryAgain`` with the reason."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as connection:
            try:
                await loop.sock_connect(connection, str(self._path))
            except PermissionError as error:
                what = "this account may not talk to the radio helper."
                raise TryAgain(what, where=str(self._path), do="Run as a member of the group gateway, or as root.") from error
            except OSError as error:
                raise TryAgain("the radio helper does not run.", where=str(self._path), do=_DO) from error
            self._greeted, self._ended = loop.create_future(), loop.create_future()
            self._socket = connection
            loop.add_reader(connection, self._readable)
            try:
                await asyncio.wait({self._ended, self._greeted}, timeout=_GREETING_S, return_when=asyncio.FIRST_COMPLETED)
                if not self._greeted.done() and not self._ended.done():
                    raise TryAgain("the radio helper says nothing.", where=str(self._path), do="systemctl restart gateway-radio")
                await self._ended
            finally:
                loop.remove_reader(connection)
                self._greeted.cancel()
                self._ended.cancel()
                self._socket = None
                for answer in self._resets.values():
                    if not answer.done():
                        answer.set_result((False, "the radio helper ended before it was done."))
        raise AssertionError("a connection ends with its reason")

    def _readable(self) -> None:
        assert self._socket is not None
        assert self._ended is not None
        try:
            for _ in range(_PACKETS_PER_WAKE_UP):
                packet = self._socket.recv(MAX_PACKET_BYTES)
                if not packet:
                    self._end(TryAgain("the radio helper has ended.", where=str(self._path), do=_DO))
                    return
                self._take(packet)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(TryAgain(f"the radio helper is gone ({error.strerror}).", where=str(self._path), do=_DO))
        except Exception as mistake:  # noqa: BLE001 (the loop would log it and go on; run() raises it and so ends the process)
            self._end(mistake)

    def _end(self, why: Exception) -> None:
        assert self._ended is not None
        assert self._socket is not None
        asyncio.get_running_loop().remove_reader(self._socket)
        if not self._ended.done():
            self._ended.set_exception(why)

    def _take(self, packet: bytes) -> None:
        match packet[0]:
            case kind if kind == REPORTS:
                self._take_reports(packet)
            case kind if kind == STATE:
                self._take_state(decode_state(packet))
            case kind if kind == RESET_DONE and (end := decode_reset_done(packet)) is not None:
                request, done, text = end
                if (answer := self._resets.get(request)) is not None and not answer.done():
                    answer.set_result((done, text))
            case _:
                self.counts.broken += 1

    def _take_reports(self, packet: bytes) -> None:
        read_ms = reports_read_ms(packet)
        counts = self.counts
        if read_ms is None:
            counts.broken += 1
            return
        if self._now_ms() - read_ms > _STALE_MS:
            counts.stale += 1
            return
        tally = hand_out(packet, self._ears)
        counts.heard += tally.heard
        counts.no_rssi += tally.no_rssi
        counts.empty += tally.empty
        counts.broken += tally.broken

    def _take_state(self, state: RadioState | None) -> None:
        if state is None:
            self.counts.broken += 1
            do = "Restart both: sudo systemctl restart gateway-radio gateway."
            self._end(TryAgain("the radio helper is of another version.", where=str(self._path), do=do))
            return
        self.counts.lost, self.counts.dropped = state.lost, state.dropped
        adapters = {adapter.address: adapter for adapter in state.adapters}
        if self.connected and adapters == self._adapters:
            return
        if not self.connected:
            self.connected = True
            self.trouble = None
            self.counts.connections += 1
            if self._greeted is not None:
                self._greeted.set_result(None)
            logger.info("The radio helper answers: every report of every adapter is heard.")
        self._adapters = adapters
        self._sort_ears()
        self._tell()

    def _turn_down(self, trouble: TryAgain) -> None:
        was_connected, known = self.connected, self.trouble
        self.connected = False
        self.trouble = trouble
        self._adapters = {}
        self._sort_ears()
        if was_connected or str(known) != str(trouble):
            logger.warning("%s", trouble)
            self._tell()

    def _sort_ears(self) -> None:
        self._ears = {
            adapter.index: self._heard[address] for address, adapter in self._adapters.items() if address in self._heard
        }

    def _tell(self) -> None:
        for changed in self._watchers:
            changed()
