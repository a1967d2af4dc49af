"""The kernel's Bluetooth management socket: which adapters there are, what each of them hears, and their power switch.

Nothing here starts a scan: bluetoothd does that for whoever asks it. While one runs, the kernel tells every privileged listener
of each report, whatever bluetoothd makes of it.

    event:   code ×2 | index ×2 | length ×2 | …        command:   code ×2 | index ×2 | length ×2 | …

Little-endian. Source: BlueZ, doc/mgmt-api.txt; Linux, net/bluetooth/hci_sock.c: who may listen is decided when the socket is
bound, so the capability can be given up afterwards.
"""

import asyncio
import ctypes
import errno
import logging
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from gateway.contract.radio import (
    EVENT_HEADER,
    MAX_ADAPTERS,
    MAX_PACKET_BYTES,
    REPORT_CODES,
    REPORTS,
    REPORTS_HEADER,
    AdapterState,
    address_text,
)
from gateway.errors import ConfigurationError, NoRadio, TryAgain

logger = logging.getLogger(__name__)

# Python's socket module knows AF_BLUETOOTH only where it was built with BlueZ's headers, and cannot bind this channel.
_AF_BLUETOOTH, _BTPROTO_HCI = 31, 1
_SOCKADDR_HCI = struct.Struct("=HHH")
_NO_INDEX, _CONTROL_CHANNEL = 0xFFFF, 3
_SO_RCVBUFFORCE, _SO_MEMINFO = 33, 55
_MEMINFO = struct.Struct("=9I")
_RECEIVE_BYTES = 4 * 1024 * 1024
"""About a second of 5,000 reports/s, should the helper not run for so long."""
_CAPABILITY_VERSION_3 = 0x20080522
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4

_COMPLETE, _STATUS, _ERROR, _ADDED, _REMOVED, _SETTINGS, _DISCOVERING = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x13
_READ_INDEX_LIST, _READ_INFO, _SET_POWERED = 0x0003, 0x0004, 0x0005
_REPLY = struct.Struct("<HB")
_INFO = struct.Struct("<6sBHII")
_POWERED = 1 << 0
_NO_ADDRESS = bytes(6)

MAX_EVENT_BYTES = 4096
"""More than any event: an extended advertisement and its scan response: 1,650 octets each (Core 5.4, vol 4, part E, 7.8.54)."""
_EVENTS_PER_READ = 1024
"""Then others have their turn: 10,000 a second, four times what the air of one channel can carry."""
_FULL = MAX_PACKET_BYTES - MAX_EVENT_BYTES
_PATIENCE_S = 10.0
_ERRORS_EVERY_MS = 60_000
_REFUSALS = {
    0x0A: "it is busy",
    0x0B: "it refuses",
    0x0F: "it is powered off",
    0x10: "it does not answer the kernel",
    0x11: "it is gone",
    0x12: "rfkill blocks it (rfkill unblock bluetooth)",
}


def open_management() -> socket.socket:
    """The bound socket, all capabilities given up.

    ``ConfigurationError`` without the capability, ``NoRadio`` where this kernel or this network namespace has no Bluetooth.
    """
    try:
        kernel = socket.socket(_AF_BLUETOOTH, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, _BTPROTO_HCI)
    except PermissionError as error:
        raise _not_allowed() from error
    except OSError as error:
        raise NoRadio(
            f"there is no Bluetooth here ({error.strerror}).",
            where="the kernel",
            do="Load it (modprobe bluetooth); a container has to share the host's network.",
        ) from error
    try:
        # The same capability as for listening, and this call tells when it is missing.
        kernel.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BYTES)
        libc = ctypes.CDLL(None, use_errno=True)
        where = _SOCKADDR_HCI.pack(_AF_BLUETOOTH, _NO_INDEX, _CONTROL_CHANNEL)
        _must_be_zero(libc.bind(kernel.fileno(), where, len(where)))
        _give_up_capabilities(libc)
    except OSError as error:
        kernel.close()
        if error.errno in {errno.EPERM, errno.EACCES}:
            raise _not_allowed() from error
        raise NoRadio(f"the management socket cannot be opened ({error.strerror}).", where="the kernel") from error
    return kernel


def _not_allowed() -> ConfigurationError:
    do = "Start it as a service (sudo systemctl start gateway-radio), or as root."
    return ConfigurationError("needs the capability CAP_NET_ADMIN.", where="radio helper", do=do)


def _give_up_capabilities(libc: ctypes.CDLL) -> None:
    """All three sets of both halves, and those that a program started from here would get."""
    header, none = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), bytes(2 * 3 * 4)
    _must_be_zero(libc.capset(header, none))
    _must_be_zero(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))


def _must_be_zero(returned: int) -> None:
    if returned != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Batch(NamedTuple):
    """One packet for the daemon; the view is of use until the next read."""

    packet: memoryview
    reports: int


class Management:
    """The protocol on the socket ``kernel``; ``hand_on`` gets the reports, ``changed`` is called when ``adapters`` changed."""

    def __init__(
        self,
        kernel: socket.socket,
        now_ms: Callable[[], int],
        *,
        hand_on: Callable[[Batch], None],
        changed: Callable[[], None],
        is_usb: Callable[[str], bool],
    ) -> None:
        self.adapters: dict[int, AdapterState] = {}
        self.broken = 0
        """Events that contradict themselves."""
        self._kernel = kernel
        self._now_ms = now_ms
        self._hand_on = hand_on
        self._changed = changed
        self._is_usb = is_usb
        self._buffer = bytearray(MAX_PACKET_BYTES)
        self._view = memoryview(self._buffer)
        self._error_told_ms: int | None = None
        self._waiting: dict[tuple[int, int], asyncio.Future[int]] = {}

    def begin(self) -> None:
        """Ask which adapters there are; the answers come through ``read``. ``TryAgain`` when the kernel takes no question."""
        if not self._send(_READ_INDEX_LIST, _NO_INDEX):
            raise TryAgain("the management socket takes no command.", where="the kernel")

    def lost(self) -> int:
        """Events that the kernel could not keep for us, since the socket was opened."""
        try:
            memory: tuple[int, ...] = _MEMINFO.unpack(self._kernel.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))
        except (OSError, struct.error):
            return 0
        return memory[8]

    def read(self) -> bool:
        """Take what has come in, without waiting; whether there was anything. ``TryAgain`` when the kernel has closed it."""
        buffer, view, receive = self._buffer, self._view, self._kernel.recv_into
        begin = at = REPORTS_HEADER.size
        reports = others = 0
        for _ in range(_EVENTS_PER_READ):
            try:
                size = receive(view[at:])
            except BlockingIOError:
                break
            except OSError as error:
                raise TryAgain(f"the management socket broke ({error.strerror}).", where="the kernel") from error
            if not size:
                raise TryAgain("the management socket was closed.", where="the kernel")
            # The kernel writes each report where it will be sent from.
            if size < 6 or buffer[at + 4] | buffer[at + 5] << 8 != size - 6:
                self.broken += 1
            elif buffer[at] | buffer[at + 1] << 8 in REPORT_CODES:
                at += size
                reports += 1
                if at > _FULL:
                    self._flush(at, reports)
                    at, reports = begin, 0
            else:
                event = bytes(view[at : at + size])
                # What was heard before goes out before: the index may mean another adapter afterwards.
                if reports:
                    self._flush(at, reports)
                    at, reports = begin, 0
                others += 1
                self._take(event)
        if reports:
            self._flush(at, reports)
        return bool(at != begin or others)

    def _flush(self, end: int, reports: int) -> None:
        REPORTS_HEADER.pack_into(self._buffer, 0, REPORTS, self._now_ms())
        self._hand_on(Batch(self._view[:end], reports))

    async def set_power(self, index: int, *, on: bool) -> None:
        """Wait for the kernel's answer; ``TryAgain`` with the reason when it refuses or does not answer."""
        key = (_SET_POWERED, index)
        if key in self._waiting:
            raise TryAgain("it is being switched already")
        answer = self._waiting[key] = asyncio.get_running_loop().create_future()
        try:
            if not self._send(_SET_POWERED, index, bytes((on,))):
                raise TryAgain("the kernel takes no command")
            async with asyncio.timeout(_PATIENCE_S):
                status = await answer
        except TimeoutError as error:
            raise TryAgain(f"no answer within {_PATIENCE_S:.0f} s") from error
        finally:
            del self._waiting[key]
        if status:
            raise TryAgain(_REFUSALS.get(status, f"the kernel refuses (status 0x{status:02x})"))

    def _send(self, command: int, index: int, parameters: bytes = b"") -> bool:
        try:
            self._kernel.send(EVENT_HEADER.pack(command, index, len(parameters)) + parameters)
        except OSError as error:
            logger.warning("The kernel did not take a command: %s", error.strerror)
            return False
        return True

    def _take(self, event: bytes) -> None:
        code, index, _ = EVENT_HEADER.unpack_from(event)
        body = event[EVENT_HEADER.size :]
        match code:
            case _ if code == _COMPLETE and len(body) >= _REPLY.size:
                command, status = _REPLY.unpack_from(body)
                self._answered(command, index, status, body[_REPLY.size :])
            case _ if code == _STATUS and len(body) >= _REPLY.size:
                command, status = _REPLY.unpack_from(body)
                self._answered(command, index, status, b"")
            case _ if code == _ERROR and body:
                self._tell_error(index, body[0])
            case _ if code == _ADDED:
                self._send(_READ_INFO, index)
            case _ if code == _REMOVED:
                if self.adapters.pop(index, None) is not None:
                    self._changed()
            case _ if code == _SETTINGS and len(body) >= 4:
                self._settings(index, int.from_bytes(body[:4], "little"))
            case _ if code == _DISCOVERING and len(body) >= 2:
                self._change(index, discovering=bool(body[1]))

    def _tell_error(self, index: int, code: int) -> None:
        # A broken adapter may say so many times a second.
        now_ms = self._now_ms()
        if self._error_told_ms is None or now_ms - self._error_told_ms >= _ERRORS_EVERY_MS:
            self._error_told_ms = now_ms
            logger.warning("hci%d reports hardware error 0x%02x", index, code)

    def _answered(self, command: int, index: int, status: int, body: bytes) -> None:
        if command == _READ_INDEX_LIST and not status:
            for at in range(2, min(len(body), 2 + 2 * MAX_ADAPTERS) - 1, 2):
                self._send(_READ_INFO, int.from_bytes(body[at : at + 2], "little"))
        elif command == _READ_INFO and not status and len(body) >= _INFO.size:
            self._know(index, body)
        elif command == _SET_POWERED:
            if (answer := self._waiting.get((command, index))) is not None and not answer.done():
                answer.set_result(status)
            # Whoever gave the command is not told by an event.
            if not status and len(body) >= 4:
                self._settings(index, int.from_bytes(body[:4], "little"))

    def _know(self, index: int, body: bytes) -> None:
        address, _, _, _, settings = _INFO.unpack_from(body)
        if address == _NO_ADDRESS or (index not in self.adapters and len(self.adapters) >= MAX_ADAPTERS):
            return
        known = self.adapters.get(index)
        discovering = known is not None and known.discovering
        adapter = AdapterState(index, address_text(address), bool(settings & _POWERED), discovering, self._is_usb(f"hci{index}"))
        if adapter != known:
            self.adapters[index] = adapter
            self._changed()

    def _settings(self, index: int, settings: int) -> None:
        if index in self.adapters:
            self._change(index, powered=bool(settings & _POWERED))
        else:
            # Some adapters have no address before they are switched on.
            self._send(_READ_INFO, index)

    def _change(self, index: int, *, powered: bool | None = None, discovering: bool | None = None) -> None:
        known = self.adapters.get(index)
        if known is None:
            return
        adapter = replace(
            known,
            powered=known.powered if powered is None else powered,
            discovering=known.discovering if discovering is None else discovering,
        )
        if adapter != known:
            self.adapters[index] = adapter
            self._changed()
