"""pcap, the capture file of tcpdump and libpcap: bytes → frames.

::

    file    magic ×4 | version ×2 ×2 | time zone ×4 | accuracy ×4 | longest frame ×4 | link type ×4 (lower 16 bits)
    record  seconds ×4 | fraction ×4 | included length ×4 | original length ×4 | octets

The magic ``A1B2C3D4`` (fraction in µs) or ``A1B23C4D`` (ns) is written in the byte order of the whole file. Never raises for any
bytes.

Source: draft-ietf-opsawg-pcap; tcpdump.org/linktypes.html.
"""

import struct

from gateway.core.captures.records import MAX_FRAME, Frame, Skipped

MAGICS = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
"""What a file begins with → its byte order, and nanoseconds per unit of the fraction."""

_HEAD_SIZE = 24
_RECORD_SIZE = 16


class Pcap:
    """Reads a pcap file that begins with one of `MAGICS`, in pieces of any size; keeps at most one frame."""

    __slots__ = ("_link_type", "_number", "_offset", "_record", "_rest", "_unit_ns", "damage")

    def __init__(self) -> None:
        self.damage: str | None = None
        """Why nothing more can be read."""
        self._rest = b""
        self._offset = 0
        self._number = 0
        self._record: struct.Struct | None = None
        self._unit_ns = 1000
        self._link_type = 0

    @property
    def is_inside(self) -> bool:
        """Whether the file would end inside a header or frame if it ended here."""
        return bool(self._rest) or self._record is None

    def feed(self, chunk: bytes) -> list[Frame]:
        r"""The frames that ``chunk`` completes.

        >>> head = bytes.fromhex("a1b23c4d 0002 0004 00000000 00000000 0000ffff 000000fb")
        >>> Pcap().feed(head + bytes.fromhex("00000001 00000005 00000002 00000002 d6be"))
        [(1, 1000000005, 251, b'\xd6\xbe', None)]
        """
        if self.damage is not None:
            return []
        buffer = self._rest + chunk
        at, end = 0, len(buffer)
        if self._record is None and end >= _HEAD_SIZE:
            order, self._unit_ns = MAGICS[buffer[:4]]
            self._link_type = struct.unpack_from(order + "I", buffer, 20)[0] & 0xFFFF
            self._record = struct.Struct(order + "IIII")
            at = _HEAD_SIZE
        frames: list[Frame] = []
        if self._record is not None:
            at = self._read_records(buffer, at, frames)
        self._offset += at
        self._rest = buffer[at:]
        return frames

    def _read_records(self, buffer: bytes, at: int, frames: list[Frame]) -> int:
        assert self._record is not None
        unpack, unit_ns, link_type, end = self._record.unpack_from, self._unit_ns, self._link_type, len(buffer)
        while end - at >= _RECORD_SIZE:
            seconds, fraction, size, length = unpack(buffer, at)
            if size > MAX_FRAME or not (seconds or size or length):
                self.damage = f"no record at byte {self._offset + at}"
                break
            start = at + _RECORD_SIZE
            if start + size > end:
                break
            at = start + size
            self._number += 1
            problem = Skipped.TRUNCATED if size < length else None
            frames.append((self._number, seconds * 1_000_000_000 + fraction * unit_ns, link_type, buffer[start:at], problem))
        return at
