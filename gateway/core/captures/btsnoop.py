"""btsnoop, the log of Android and other Bluetooth hosts: bytes → frames of HCI.

::

    file    62 74 73 6E 6F 6F 70 00 | version ×4 (1) | datalink ×4
    record  original length ×4 | included length ×4 | flags ×4 | drops ×4 | time ×8 (int64, µs since the year 0) | octets

Big-endian. Datalink 1001: bare HCI packets, whose kind is in the flags (bit 0: received by the host; bit 1: command or event);
1002: each packet begins with its H4 type. Both become H4. Never raises for any bytes.

Source: RFC 1761 (the snoop format it descends from); Symbian and BlueZ's ``btsnoop.c`` for datalinks, flags and epoch.
"""

import struct

from gateway.core.captures.records import HCI_H4, LAST_TIME_NS, MAX_FRAME, Frame, Skipped

MAGIC = b"btsnoop\0"

_H1, _H4 = 1001, 1002
_HEAD = struct.Struct(">8sII")
_RECORD = struct.Struct(">IIIIq")
_EPOCH_US = 0x00DC_DDB3_0F2F_8000
"""1970-01-01 in microseconds since the year 0."""
_H4_TYPE = {0b00: b"\x02", 0b01: b"\x02", 0b10: b"\x01", 0b11: b"\x04"}
"""By the flags' two lowest bits: ACL data, ACL data, command, event."""


class Btsnoop:
    """Reads a btsnoop file that begins with `MAGIC`, in pieces of any size; keeps at most one frame."""

    __slots__ = ("_datalink", "_number", "_offset", "_rest", "damage")

    def __init__(self) -> None:
        self.damage: str | None = None
        """Why nothing more can be read."""
        self._rest = b""
        self._offset = 0
        self._number = 0
        self._datalink: int | None = None

    @property
    def is_inside(self) -> bool:
        """Whether the file would end inside a header or frame if it ended here."""
        return bool(self._rest) or self._datalink is None

    def feed(self, chunk: bytes) -> list[Frame]:
        r"""The frames that ``chunk`` completes.

        >>> file = MAGIC + bytes.fromhex("00000001 000003ea") + _RECORD.pack(2, 2, 3, 0, _EPOCH_US + 1) + b"\x04\x0e"
        >>> Btsnoop().feed(file)
        [(1, 1000, 187, b'\x04\x0e', None)]
        """
        if self.damage is not None:
            return []
        buffer = self._rest + chunk
        at, end = 0, len(buffer)
        if self._datalink is None and end >= _HEAD.size:
            _, version, self._datalink = _HEAD.unpack_from(buffer)
            if version != 1:
                self.damage = f"btsnoop version {version} is not known"
            at = _HEAD.size
        frames: list[Frame] = []
        while self._datalink is not None and end - at >= _RECORD.size and self.damage is None:
            length, size, flags, _, time_us = _RECORD.unpack_from(buffer, at)
            if size > MAX_FRAME or not (length or size or time_us):
                self.damage = f"no record at byte {self._offset + at}"
                break
            start = at + _RECORD.size
            if start + size > end:
                break
            at = start + size
            self._number += 1
            frames.append(self._frame(buffer[start:at], flags, time_us, is_cut=size < length))
        self._offset += at
        self._rest = b"" if self.damage is not None else buffer[at:]
        return frames

    def _frame(self, octets: bytes, flags: int, time_us: int, *, is_cut: bool) -> Frame:
        problem = Skipped.TRUNCATED if is_cut else None
        if self._datalink == _H1:
            octets = _H4_TYPE[flags & 3] + octets
        elif self._datalink != _H4:
            problem = Skipped.UNSUPPORTED
        time_ns = (time_us - _EPOCH_US) * 1000
        return self._number, time_ns if 0 <= time_ns <= LAST_TIME_NS else None, HCI_H4, octets, problem
