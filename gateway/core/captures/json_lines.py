"""Our own recordings: advertisements ↔ lines of JSON, which ``run --record`` and ``demo --record`` write.

::

    {"recording": "beacon-gateway", "version": 1}
    {"mono_ms": 1200, "wall_ms": 1789398001200, "receiver": "dairy-1", "rssi": -63, "data": "0201061aff4c000215…"}
    {"mono_ms": 1400, "wall_ms": 1789398001400, "tick": true}

Times are integer milliseconds on both clocks, ``rssi`` is dBm, ``data`` are the AD structures as hexadecimal digits. A tick is a
moment at which the pipeline decided. There is no address in it, of nobody. Never raises for any bytes.
"""

import json
import re
from binascii import unhexlify
from typing import Any

from gateway.core.captures.records import LAST_TIME_NS, Advertisement, Skipped, Ticked
from gateway.core.model import Instant

MAGIC = b'{"recording"'
HEADER = '{"recording": "beacon-gateway", "version": 1}\n'

_MAX_LINE = 8192
"""Octets; an extended advertisement of 1650 octets needs 3400."""
_TOO_LONG = f"a line of more than {_MAX_LINE} octets"
_MAX_BAD_IN_A_ROW = 1000
_MAX_MS = LAST_TIME_NS // 1_000_000
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")
_HEX = re.compile(r"(?:[0-9a-f]{2}){0,1650}")
_NUMBER = rb"(0|[1-9][0-9]{0,14})"
_AS_ENCODED = re.compile(
    rb'\{"mono_ms": ' + _NUMBER + rb', "wall_ms": ' + _NUMBER + rb', "receiver": "([a-z0-9][a-z0-9_-]{0,47})", '
    rb'"rssi": (-?[1-9][0-9]{0,2}), "data": "([0-9a-f]{0,3300})"\}'
)
"""A line as `encode` writes it, which reads three times as fast; all others are read as the JSON that they may be."""


def encode(receiver: str, rssi_dbm: int, data: bytes, at: Instant) -> str:
    r"""The line of one advertisement.

    >>> encode("pi", -60, b"\x02\x01\x06", Instant(5, 1789398000005))
    '{"mono_ms": 5, "wall_ms": 1789398000005, "receiver": "pi", "rssi": -60, "data": "020106"}\n'
    """
    return (
        f'{{"mono_ms": {at.mono_ms}, "wall_ms": {at.wall_ms}, "receiver": {json.dumps(receiver)}, "rssi": {rssi_dbm}, '
        f'"data": "{data.hex()}"}}\n'
    )


def encode_tick(at: Instant) -> str:
    r"""The line of one tick.

    >>> encode_tick(Instant(5, 1789398000005))
    '{"mono_ms": 5, "wall_ms": 1789398000005, "tick": true}\n'
    """
    return f'{{"mono_ms": {at.mono_ms}, "wall_ms": {at.wall_ms}, "tick": true}}\n'


class JsonLines:
    """Reads a recording that begins with `MAGIC`, in pieces of any size; keeps at most one line."""

    __slots__ = ("_bad_in_a_row", "_has_header", "_number", "_rest", "damage")

    def __init__(self) -> None:
        self.damage: str | None = None
        """Why nothing more can be read."""
        self._rest = b""
        self._number = 0
        self._has_header = False
        self._bad_in_a_row = 0

    @property
    def is_inside(self) -> bool:
        """Whether the file would end inside a line if it ended here."""
        return bool(self._rest) or not self._has_header

    def feed(self, chunk: bytes) -> list[Advertisement | Ticked | Skipped]:
        r"""What the lines say that ``chunk`` completes; every line but ticks and the first is a frame.

        >>> JsonLines().feed(HEADER.encode() + encode("pi", -60, b"\x02\x01\x06", Instant(5, 1789398000005)).encode() + b"[]\n")
        [Advertisement(number=1, ...), <Skipped.MALFORMED: 'malformed'>]
        """
        found: list[Advertisement | Ticked | Skipped] = []
        *lines, rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if self.damage is None:
                self._take(line, found)
        if len(rest) > _MAX_LINE:
            self.damage = self.damage or _TOO_LONG
        self._rest = b"" if self.damage is not None else rest
        return found

    def _take(self, line: bytes, found: list[Advertisement | Ticked | Skipped]) -> None:
        if len(line) > _MAX_LINE:
            self.damage = _TOO_LONG
        elif not self._has_header:
            self._read_header(line)
        else:
            item = self._read(line)
            found.append(item)
            if not isinstance(item, Skipped):
                self._bad_in_a_row = 0
                return
            self._number += 1
            self._bad_in_a_row += 1
            if self._bad_in_a_row >= _MAX_BAD_IN_A_ROW:
                self.damage = f"{_MAX_BAD_IN_A_ROW} lines on end are none of a recording"

    def _read_header(self, line: bytes) -> None:
        self._has_header = True
        header = _parse(line)
        if header is None or header.get("recording") != "beacon-gateway":
            self.damage = "the first line is none of a recording"
        elif header.get("version") != 1:
            self.damage = "the recording is of a newer version"

    def _read(self, line: bytes) -> Advertisement | Ticked | Skipped:
        encoded = _AS_ENCODED.fullmatch(line)
        if encoded is not None:
            mono, wall, name, level, digits = encoded.groups()
            mono_ms, wall_ms, rssi_dbm = int(mono), int(wall), int(level)
            if mono_ms > _MAX_MS or wall_ms > _MAX_MS or not -128 <= rssi_dbm <= 127 or len(digits) % 2:
                return Skipped.MALFORMED
            self._number += 1
            return Advertisement(
                self._number, wall_ms * 1_000_000, rssi_dbm, None, unhexlify(digits), "", name.decode("ascii"), mono_ms
            )
        return self._read_json(line)

    def _read_json(self, line: bytes) -> Advertisement | Ticked | Skipped:
        fields = _parse(line)
        if fields is None:
            return Skipped.MALFORMED
        mono_ms, wall_ms, rssi = fields.get("mono_ms"), fields.get("wall_ms"), fields.get("rssi")
        if type(mono_ms) is not int or type(wall_ms) is not int or not (0 <= mono_ms <= _MAX_MS and 0 <= wall_ms <= _MAX_MS):
            return Skipped.MALFORMED
        if fields.get("tick") is True:
            return Ticked(mono_ms, wall_ms)
        receiver, data = fields.get("receiver"), fields.get("data")
        if type(receiver) is not str or type(data) is not str or not _NAME.fullmatch(receiver) or not _HEX.fullmatch(data):
            return Skipped.MALFORMED
        if rssi is not None and (type(rssi) is not int or not -128 <= rssi <= 127):
            return Skipped.MALFORMED
        self._number += 1
        return Advertisement(self._number, wall_ms * 1_000_000, rssi, None, bytes.fromhex(data), "", receiver, mono_ms)


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        # Broken JSON, broken UTF-8, a number with thousands of digits; brackets nested without end.
        return None
    return value if type(value) is dict else None
