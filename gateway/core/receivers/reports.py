"""What receivers of other systems say, in our terms; what every format needs to read a number or an address."""

import re
from dataclasses import dataclass

_WEAKEST_DBM, _STRONGEST_DBM = -127, 20
"""What a controller may report (Core 5.4, vol 4, part E, 7.7.65.2); −127 and 127 mean "none"."""
_ADDRESS = re.compile(r"(?:[0-9a-fA-F]{2}([:-]?)(?:[0-9a-fA-F]{2}\1){4}[0-9a-fA-F]{2})")
_LAST_STAMP_MS = 253_402_300_799_999


@dataclass(frozen=True, slots=True)
class Report:
    """One advertisement that a foreign receiver heard."""

    receiver: str
    """As the other system names it."""
    data: bytes
    """AD structures, as far as the system publishes them; empty: it heard something, and does not say what."""
    rssi_dbm: int
    address: str | None = None
    """Upper case with colons; never an identity."""
    stamp_ms: int | None = None
    """When the system says that it was, in milliseconds of a clock that compares with nothing but itself."""


@dataclass(frozen=True, slots=True)
class Life:
    """A receiver's birth or will."""

    receiver: str
    is_online: bool


def life(receiver: str, payload: bytes) -> Life | None:
    """The birth or will that says "online" or "offline"; ``None`` for anything else.

    >>> life("hall", b"offline")
    Life(receiver='hall', is_online=False)
    """
    return {b"online": Life(receiver, True), b"offline": Life(receiver, False)}.get(payload)


def rssi_of(value: object) -> int | None:
    """An RSSI in whole dBm; ``None`` for what no controller may report.

    >>> rssi_of(-70.5), rssi_of(-127), rssi_of(True), rssi_of(float("nan")), rssi_of("-70")
    (-70, None, None, None, None)
    """
    if type(value) not in {int, float}:
        return None
    assert isinstance(value, int | float)
    return round(value) if _WEAKEST_DBM < value <= _STRONGEST_DBM else None


def address_of(value: object) -> str | None:
    """A BLE address in the one spelling.

    >>> address_of("60:87:57:4c:9b:c2"), address_of("60-87-57-4C-9B-C2"), address_of("5144f33b19fa"), address_of("5144")
    ('60:87:57:4C:9B:C2', '60:87:57:4C:9B:C2', '51:44:F3:3B:19:FA', None)
    """
    if type(value) is not str or not _ADDRESS.fullmatch(value):
        return None
    digits = value.upper().replace(":", "").replace("-", "")
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2))


def whole(value: object, low: int, high: int) -> int | None:
    """A whole number from ``low`` to ``high``.

    >>> whole(65535, 0, 65535), whole(65536, 0, 65535), whole(True, 0, 1), whole(1.0, 0, 1)
    (65535, None, None, None)
    """
    return value if type(value) is int and low <= value <= high else None


def stamp_of(value: object, unit_ms: int) -> int | None:
    """A time stamp in milliseconds from one that counts units of ``unit_ms``; ``None`` for what is none.

    >>> stamp_of(1679015107, 1000), stamp_of(-1, 1), stamp_of(10**30, 1)
    (1679015107000, None, None)
    """
    number = whole(value, 0, _LAST_STAMP_MS // unit_ms)
    return None if number is None else number * unit_ms
