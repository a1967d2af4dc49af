"""pcapng, the capture file of Wireshark: bytes → frames.

::

    block   type ×4 | total length ×4 | body, padded to 4 octets | total length ×4
    0A0D0D0A section    byte order 1A2B3C4D ×4 | version ×2 ×2 | section length ×8 | options
    00000001 interface  link type ×2 | – ×2 | longest frame ×4 | options: 9 = time resolution, 14 = time offset in seconds
    00000002 packet     interface ×2 | drops ×2 | time ×8 | included length ×4 | original length ×4 | octets | options (obsolete)
    00000003 simple     original length ×4 | octets: of interface 0, without a time
    00000006 enhanced   interface ×4 | time ×8 | included length ×4 | original length ×4 | octets | options

Each section has its own byte order and its own interfaces; a time is its high and then its low 32 bits, in the interface's units
since 1970 (µs unless it says otherwise). Blocks of any other type are passed over, however long. Never raises for any bytes.

Source: draft-ietf-opsawg-pcapng.
"""

import struct
from typing import NamedTuple

from gateway.core.captures.records import LAST_TIME_NS, MAX_FRAME, Frame, Skipped

MAGIC = b"\x0a\x0d\x0d\x0a"

_SECTION, _INTERFACE, _PACKET, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6
_READ = (_SECTION, _INTERFACE, _PACKET, _SIMPLE, _ENHANCED)
_MAX_BLOCK = MAX_FRAME + 65_536
"""A block with the longest frame and options besides."""
_MAX_INTERFACES = 1024
_OPTION_RESOLUTION, _OPTION_OFFSET = 9, 14
_NS = 1_000_000_000
_HEAD = 8
_SMALLEST_PACKET = 32
"""An enhanced packet block around no octets."""
_NOT_KNOWN = -1
"""Link type of a frame whose interface was never described."""


class _Interface(NamedTuple):
    link_type: int
    longest: int
    """0 = no limit."""
    offset_ns: int
    ns_per_unit: int
    """0 = not a whole number."""
    units_per_s: int

    def time_ns(self, units: int) -> int | None:
        """Nanoseconds since 1970, or ``None`` for what is no time of this world."""
        time_ns = self.offset_ns + (units * self.ns_per_unit if self.ns_per_unit else units * _NS // self.units_per_s)
        return time_ns if 0 <= time_ns <= LAST_TIME_NS else None


class Pcapng:
    """Reads a pcapng file that begins with `MAGIC`, in pieces of any size; keeps at most one block."""

    __slots__ = ("_head", "_interfaces", "_number", "_offset", "_order", "_packet", "_rest", "_to_skip", "damage")

    def __init__(self) -> None:
        self.damage: str | None = None
        """Why nothing more can be read."""
        self._rest = b""
        self._offset = 0
        self._number = 0
        self._to_skip = 0
        self._interfaces: list[_Interface] = []
        self._use("<")

    @property
    def is_inside(self) -> bool:
        """Whether the file would end inside a block if it ended here."""
        return bool(self._rest) or self._to_skip > 0 or self._offset == 0

    def feed(self, chunk: bytes) -> list[Frame]:
        r"""The frames that ``chunk`` completes.

        >>> section = bytes.fromhex("0a0d0d0a 1c000000 4d3c2b1a 0100 0000 ffffffffffffffff 1c000000")
        >>> interface = bytes.fromhex("01000000 14000000 fb00 0000 00000000 14000000")
        >>> packet = bytes.fromhex("06000000 24000000 00000000 00000000 07000000 02000000 02000000 d6be0000 24000000")
        >>> Pcapng().feed(section + interface + packet)
        [(1, 7000, 251, b'\xd6\xbe', None)]
        """
        if self.damage is not None:
            return []
        if self._to_skip:
            passed = min(self._to_skip, len(chunk))
            self._to_skip -= passed
            self._offset += passed
            chunk = chunk[passed:]
        buffer = self._rest + chunk
        frames: list[Frame] = []
        at = self._read_blocks(buffer, frames)
        if at > len(buffer):
            self._to_skip = at - len(buffer)
            at = len(buffer)
        self._offset += at
        self._rest = buffer[at:]
        return frames

    def _read_blocks(self, buffer: bytes, frames: list[Frame]) -> int:
        """How many octets are done with; more than there are when the rest of a block is to be passed over."""
        at, end = 0, len(buffer)
        while True:
            at = self._read_packets(buffer, at, frames)
            if end - at < _HEAD + 4:
                return at
            if buffer[at : at + 4] == MAGIC and not self._begin_section(buffer[at + 8 : at + 12]):
                self.damage = f"no byte order at byte {self._offset + at}"
                return at
            kind, size = self._kind_and_size(buffer, at)
            is_read = kind in _READ
            stop = at + size
            if size < _HEAD + 4 or size % 4 or (is_read and size > _MAX_BLOCK):
                self.damage = f"no block at byte {self._offset + at}"
            elif stop > end:
                return at if is_read else stop
            elif buffer[stop - 4 : stop] != buffer[at + 4 : at + 8]:
                self.damage = f"a block that does not end as it begins at byte {self._offset + at}"
            elif is_read:
                self._read_block(kind, buffer[at + _HEAD : stop - 4], frames)
            if self.damage is not None:
                return at
            at = stop

    def _read_packets(self, buffer: bytes, at: int, frames: list[Frame]) -> int:
        """Whole enhanced packets in a row, which is what a file consists of; stops at anything else."""
        unpack, interfaces, end = self._packet.unpack_from, self._interfaces, len(buffer)
        while end - at >= _SMALLEST_PACKET:
            kind, size, interface, high, low, included, length = unpack(buffer, at)
            stop = at + size
            if (
                kind != _ENHANCED
                or not _SMALLEST_PACKET + included <= size <= _MAX_BLOCK
                or stop > end
                or size & 3
                or interface >= len(interfaces)
                or not buffer.startswith(buffer[at + 4 : at + 8], stop - 4)
            ):
                break
            self._number += 1
            heard_by = interfaces[interface]
            problem = Skipped.TRUNCATED if included < length else None
            octets = buffer[at + 28 : at + 28 + included]
            frames.append((self._number, heard_by.time_ns(high << 32 | low), heard_by.link_type, octets, problem))
            at = stop
        return at

    def _read_block(self, kind: int, body: bytes, frames: list[Frame]) -> None:
        if kind == _INTERFACE:
            if len(self._interfaces) >= _MAX_INTERFACES:
                self.damage = f"more than {_MAX_INTERFACES} interfaces before byte {self._offset + len(body)}"
                return
            self._interfaces.append(self._interface(body))
        elif kind != _SECTION:
            self._number += 1
            frames.append(self._simple(body) if kind == _SIMPLE else self._frame(kind, body))

    def _kind_and_size(self, buffer: bytes, at: int) -> tuple[int, int]:
        kind, size = self._head.unpack_from(buffer, at)
        return kind, size

    def _use(self, order: str) -> None:
        self._order = order
        self._head = struct.Struct(order + "II")
        self._packet = struct.Struct(order + "IIIIIII")

    def _begin_section(self, byte_order: bytes) -> bool:
        order = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}.get(byte_order)
        if order is None:
            return False
        self._use(order)
        self._interfaces = []
        return True

    def _interface(self, body: bytes) -> _Interface:
        if len(body) < 8:
            return _Interface(_NOT_KNOWN, 0, 0, 1000, 1_000_000)
        link_type, _, longest = struct.unpack_from(self._order + "HHI", body)
        units_per_s, offset_s, at = 1_000_000, 0, 8
        while at + 4 <= len(body):
            code, size = struct.unpack_from(self._order + "HH", body, at)
            value = body[at + 4 : at + 4 + size]
            if code == 0 or len(value) < size:
                break
            if code == _OPTION_RESOLUTION and size == 1:
                units_per_s = 2 ** (value[0] & 0x7F) if value[0] & 0x80 else 10 ** value[0]
            elif code == _OPTION_OFFSET and size == 8:
                (offset_s,) = struct.unpack(self._order + "q", value)
            at += 4 + size + -size % 4
        return _Interface(link_type, longest, offset_s * _NS, 0 if _NS % units_per_s else _NS // units_per_s, units_per_s)

    def _simple(self, body: bytes) -> Frame:
        """The frame of a simple packet block; how much of it is there only the interface says."""
        if len(body) < 4 or not self._interfaces:
            return self._number, None, _NOT_KNOWN, b"", Skipped.MALFORMED
        (length,) = struct.unpack_from(self._order + "I", body)
        link_type, longest, *_ = self._interfaces[0]
        included = min(length, longest) if longest else length
        if 4 + included > len(body):
            return self._number, None, _NOT_KNOWN, b"", Skipped.MALFORMED
        return self._number, None, link_type, body[4 : 4 + included], Skipped.TRUNCATED if included < length else None

    def _frame(self, kind: int, body: bytes) -> Frame:
        """The frame of an obsolete packet block, or of an enhanced one that says something odd."""
        if len(body) < 20:
            return self._number, None, _NOT_KNOWN, b"", Skipped.MALFORMED
        interface, high, low, included, length = struct.unpack_from(self._order + "IIIII", body)
        if kind == _PACKET:
            (interface,) = struct.unpack_from(self._order + "H", body)
        if interface >= len(self._interfaces) or 20 + included > len(body):
            return self._number, None, _NOT_KNOWN, b"", Skipped.MALFORMED
        heard_by = self._interfaces[interface]
        problem = Skipped.TRUNCATED if included < length else None
        return self._number, heard_by.time_ns(high << 32 | low), heard_by.link_type, body[20 : 20 + included], problem
