"""The formats that the gateway reads: advertisement → `Frame` | `Reject` | ``None``.

A format is one file with a ``decode`` for the data of an AD structure, and one line in `_table` that says which structures it
claims. Formats do not know each other. To add one: write the file, add its line, add its value to ``model.Frame``.

``None`` means "not mine" and is what most of the air deserves; a `Reject` claims a format and breaks it. Never raises for any
bytes.
"""

from collections.abc import Callable
from typing import NamedTuple

from gateway.core.ad_structures import COMPLETE_UUIDS_128, FLAGS, MANUFACTURER_DATA, SERVICE_DATA_16
from gateway.core.frames import ibeacon, shopper
from gateway.core.model import Frame, Reject

LARGEST_REMEMBERED = 62
"""Octets of payload that the memo keeps at most: an advertisement and its scan response. Longer ones are rare, and unbounded."""

_A_HIT_SAVES_MISSES = 4
"""What a hit saves (1.0 µs), in units of what looking in vain costs (0.15 µs for a stranger, 0.36 for what is remembered then):
with less than one hit in five advertisements the memo is a loss."""
_REST_PERIODS = 8
"""How many periods the memo rests before it is tried again: a trial in a flood then costs a ninth of what staying would."""

_FLAGS_FIRST = bytes((2, FLAGS))


class Format(NamedTuple):
    """Which structures a format claims, and what reads them."""

    name: str
    ad_type: int
    code: bytes | None
    """What the data must hold; empty = every structure of that type is a candidate and none can break the format;
    ``None`` = not in use, the chain has no identifier of this kind."""
    decode: Callable[[bytes], Frame | Reject | None]
    """Structure data that hold ``code`` → the frame."""
    offset: int = 0
    """Octets of data before ``code``."""


def _table(service_uuid16: int | None, company_id: int | None, knows: Callable[[bytes], bool] | None) -> tuple[Format, ...]:
    return (
        Format("ibeacon", MANUFACTURER_DATA, ibeacon.CODE, ibeacon.decode),
        Format("shopper", COMPLETE_UUIDS_128, b"", _of_known_phones(knows)),
        Format("shopper", SERVICE_DATA_16, _little_endian(service_uuid16), shopper.decode_s),
        Format("shopper", MANUFACTURER_DATA, _little_endian(company_id), shopper.decode_m),
    )


def _of_known_phones(knows: Callable[[bytes], bool] | None) -> Callable[[bytes], Frame | Reject | None]:
    """Form U for roster members only: any phone's service UUID looks alike, and a stranger's must not become an object."""
    if knows is None:
        return shopper.decode_u
    return lambda data: shopper.decode_u(data) if knows(data[:7:-1]) else None


_Claim = tuple[bytes, int, int, Callable[[bytes], Frame | Reject | None], Reject | None]
"""A `Format` in the shape that the walk reads: code, first, after, decode, broken. ``code`` is ``[first:after]`` of the
structure, counted from its length octet; ``broken`` is what a truncated structure with this code is, ``None`` without a code. A
plain tuple, because the interpreter takes twice as long to unpack a named one."""


class Decoder:
    """Reads advertisements with one chain's settings.

    ``service_uuid16`` and ``company_id`` are the chain's own identifiers (0 … 65535) for forms S and M of the shopper token, or
    ``None``. ``knows`` tells whether an ephemeral identifier (8 bytes) is in the roster; without it every 128-bit service UUID
    is a candidate. ``memo_size`` is how many repeated payloads are remembered. Raises ``ValueError`` for a number out of range,
    and when two formats would claim the same structures: one key has one decoder.

    >>> decoder = Decoder(service_uuid16=0xFFF0)
    >>> decoder.decode(bytes.fromhex("020106 1516f0ff11c58a4061daf88a329d6160529fbe31d8c5")).form
    'S'
    >>> decoder.decode(bytes.fromhex("02011a 0aff4c001005031c9ba1c8")) is None
    True
    >>> decoder.decode(bytes.fromhex("020106 1aff4c000215e2c56db5"))
    Reject(format='ibeacon', kind='length')
    """

    __slots__ = ("_claims", "_hits", "_memo", "_memo_size", "_misses", "_rest")

    def __init__(
        self,
        service_uuid16: int | None = None,
        company_id: int | None = None,
        *,
        knows: Callable[[bytes], bool] | None = None,
        memo_size: int = 4096,
    ) -> None:
        if memo_size < 1:
            raise ValueError(f"memo_size must be at least 1, not {memo_size}")
        self._claims = _claims_by_type(_table(service_uuid16, company_id, knows))
        self._memo: dict[bytes, Frame | Reject] = {}
        self._memo_size = memo_size
        self._hits = 0
        self._misses = 0
        self._rest = 0

    @property
    def remembered(self) -> int:
        """Payloads in the memo now; never more than ``memo_size``, and 0 while it rests."""
        return len(self._memo)

    def forget(self) -> None:
        """Empty the memo: the roster has changed."""
        self._memo.clear()

    def decode(self, data: bytes) -> Frame | Reject | None:
        """What an advertisement (all its AD structures, 0 octets or more) holds of ours.

        The first frame with a code of its own wins, then the first candidate without one (form U, which a beacon's own service
        list resembles), then the first `Reject`. Equal payloads may give the very same object: do not change it.
        """
        if self._rest:
            self._rest -= 1
            return self._read(data)
        known = self._memo.get(data)
        if known is not None:
            self._hits += 1
            return known
        found = self._read(data)
        # What no format claims is not remembered: nothing of it is kept.
        if found is not None and len(data) <= LARGEST_REMEMBERED:
            if len(self._memo) >= self._memo_size:
                self._memo.clear()
            self._memo[data] = found
        self._misses += 1
        if self._misses >= self._memo_size:
            self._judge()
        return found

    def _judge(self) -> None:
        if self._hits * _A_HIT_SAVES_MISSES < self._misses:
            self._memo.clear()
            self._rest = self._memo_size * _REST_PERIODS
        self._hits = self._misses = 0

    def _read(self, data: bytes) -> Frame | Reject | None:
        claims_by_type = self._claims
        last = len(data) - 1
        candidate: Frame | None = None
        reject: Reject | None = None
        # Flags come first nearly always and nothing claims them. From there this is the walk of ad_structures.iterate, by hand,
        # because strangers must not cost an object each.
        start = 3 if data[:2] == _FLAGS_FIRST else 0
        while start < last:
            length = data[start]
            if not length:
                break
            claims = claims_by_type[data[start + 1]]
            if claims:
                for code, first, after, decode, broken in claims:
                    # The code must lie within its own structure, not run into the next.
                    if code and (data[start + first : start + after] != code or after > length + 1):
                        continue
                    found = decode(data[start + 2 : start + length + 1]) if start + length <= last else broken
                    if found is None:
                        continue
                    if isinstance(found, Reject):
                        reject = reject or found
                    elif code:
                        return found
                    else:
                        candidate = candidate or found
            start += length + 1
        return candidate or reject


def _claims_by_type(table: tuple[Format, ...]) -> tuple[tuple[_Claim, ...], ...]:
    """Indexed by AD type, 256 entries; ``ValueError`` when one format's code begins with another's at the same place."""
    claims: list[list[_Claim]] = [[] for _ in range(256)]
    for name, ad_type, code, decode, offset in table:
        if code is None:
            continue
        for other, first, *_ in claims[ad_type]:
            if first == 2 + offset and (code.startswith(other) or other.startswith(code)):
                raise ValueError(f"{name}: AD type 0x{ad_type:02x} with {code.hex()} already belongs to another format")
        broken = Reject(name, "length") if code else None
        claims[ad_type].append((code, 2 + offset, 2 + offset + len(code), decode, broken))
    return tuple(tuple(of_type) for of_type in claims)


def _little_endian(identifier: int | None) -> bytes | None:
    if identifier is None:
        return None
    if not 0 <= identifier <= 0xFFFF:
        raise ValueError(f"a 16-bit identifier is 0 … 65535, not {identifier}")
    return identifier.to_bytes(2, "little")
