"""The kernel's Bluetooth management socket, as far as the radio helper uses it: adapters come, go, hear, and obey.

Source: BlueZ, doc/mgmt-api.txt. A pair of sockets stands in for the kernel's own: one event or command in each packet, too.
"""

import asyncio
import contextlib
import socket
import struct
from types import TracebackType
from typing import Self

SO_SNDBUFFORCE = 32
NO_INDEX = 0xFFFF
COMPLETE, STATUS, CONTROLLER_ERROR, ADDED, REMOVED, SETTINGS = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
DISCOVERING, FOUND, MONITOR_FOUND = 0x13, 0x12, 0x2F
READ_INDEX_LIST, READ_INFO, SET_POWERED = 0x03, 0x04, 0x05
INVALID_INDEX, UNKNOWN_COMMAND = 0x11, 0x01
POWERED, LOW_ENERGY = 1 << 0, 1 << 9


def event(code: int, index: int, body: bytes = b"") -> bytes:
    return struct.pack("<HHH", code, index, len(body)) + body


def octets(address: str) -> bytes:
    return bytes.fromhex(address.replace(":", ""))[::-1]


def report(
    index: int, address: str, rssi_dbm: int, data: bytes, *, monitor: int | None = None, kind: int = 2, flags: int = 0
) -> bytes:
    """One advertisement; ``monitor``: it came through a passive scan (0 = the kernel itself matches no pattern)."""
    body = octets(address) + struct.pack("<BbIH", kind, rssi_dbm, flags, len(data)) + data
    return event(FOUND, index, body) if monitor is None else event(MONITOR_FOUND, index, struct.pack("<H", monitor) + body)


class FakeKernel:
    """``helpers_end`` is what the helper is given. To be used inside a running loop."""

    def __init__(self, *adapters: str) -> None:
        self.helpers_end, self._end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.suppress(PermissionError):
            # As much as the helper asks of the real kernel, where that is allowed.
            self._end.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 4 * 1024 * 1024)
        self.helpers_end.setblocking(False)
        self._end.setblocking(False)
        self.adapters = {index: (address, POWERED | LOW_ENERGY) for index, address in enumerate(adapters)}
        self.commands: list[tuple[int, int, bytes]] = []
        self.refuse: dict[int, int] = {}
        """The status that a command is refused with."""
        self.silent: set[int] = set()
        """Commands that are never answered."""

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._end, self._asked)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
        self.helpers_end.close()

    def close(self) -> None:
        """Also a second time."""
        if self._end.fileno() == -1:
            return
        asyncio.get_running_loop().remove_reader(self._end)
        self._end.close()

    def tell(self, packet: bytes) -> None:
        self._end.send(packet)

    async def tell_in_time(self, packet: bytes) -> None:
        """Waits while there is no room; several may wait at once."""
        while True:
            try:
                self._end.send(packet)
            except BlockingIOError:
                await asyncio.sleep(0.002)
            else:
                return

    async def advertise(self, address: str, rssi_dbm: int, data: bytes, *, index: int = 0, monitor: int | None = 0) -> None:
        await self.tell_in_time(report(index, address, rssi_dbm, data, monitor=monitor))

    def add(self, index: int, address: str, settings: int = LOW_ENERGY) -> None:
        self.adapters[index] = (address, settings)
        self.tell(event(ADDED, index))

    def remove(self, index: int) -> None:
        del self.adapters[index]
        self.tell(event(REMOVED, index))

    def power(self, index: int, *, on: bool) -> None:
        """By somebody else, so that it is told as an event."""
        self.tell(event(SETTINGS, index, struct.pack("<I", self._switch(index, on=on))))

    def discovering(self, index: int, *, on: bool) -> None:
        self.tell(event(DISCOVERING, index, bytes((6, on))))

    def _switch(self, index: int, *, on: bool) -> int:
        address, settings = self.adapters[index]
        settings = settings | POWERED if on else settings & ~POWERED
        self.adapters[index] = (address, settings)
        return settings

    def _asked(self) -> None:
        try:
            packet = self._end.recv(4096)
        except (BlockingIOError, ConnectionResetError):
            return
        if not packet:
            asyncio.get_running_loop().remove_reader(self._end)
            return
        code, index, length = struct.unpack_from("<HHH", packet)
        body = packet[6:]
        assert len(body) == length
        self.commands.append((code, index, body))
        if code in self.silent:
            return
        if code in self.refuse:
            self.tell(event(STATUS, index, struct.pack("<HB", code, self.refuse[code])))
            return
        self.tell(event(*self._answer(code, index, body)))

    def _answer(self, code: int, index: int, body: bytes) -> tuple[int, int, bytes]:
        if code == READ_INDEX_LIST and index == NO_INDEX:
            indices = b"".join(struct.pack("<H", each) for each in self.adapters)
            return COMPLETE, index, struct.pack("<HBH", code, 0, len(self.adapters)) + indices
        if index not in self.adapters:
            return STATUS, index, struct.pack("<HB", code, INVALID_INDEX)
        address, settings = self.adapters[index]
        if code == READ_INFO:
            known = octets(address) + struct.pack("<BHII", 10, 0x0131, 0x3FFFF, settings) + bytes(3 + 249 + 11)
            return COMPLETE, index, struct.pack("<HB", code, 0) + known
        if code == SET_POWERED:
            return COMPLETE, index, struct.pack("<HBI", code, 0, self._switch(index, on=bool(body[0])))
        return STATUS, index, struct.pack("<HB", code, UNKNOWN_COMMAND)
