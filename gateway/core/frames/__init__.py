"""The formats that the gateway reads: advertisement → `Frame` | `Reject` | ``None``.

A format is one file with a ``decode`` for the data of an AD structure, and one line in `_table` that says which structures it
claims. Formats do not know each other. To add one: write the file, add its line, add its value to ``model.Frame``.

``None`` means "not mine" and is what most of the air deserves; a `Reject` claims a format and breaks it. Never raises for any
bytes.
"""

from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

from gateway.core.ad_structures import COMPLETE_UUIDS_128, FLAGS, MANUFACTURER_DATA, SERVICE_DATA_16
from gateway.core.frames import altbeacon, eddystone, ibeacon, shopper
from gateway.core.model import (
    AltBeacon,
    EddystoneEid,
    EddystoneEncryptedTlm,
    EddystoneTlm,
    EddystoneUid,
    EddystoneUrl,
    Frame,
    IBeacon,
    Reject,
    ShopperToken,
)

LARGEST_REMEMBERED: Final = 62
"""Octets of payload that the memo keeps at most: an advertisement and its scan response. Longer ones are rare, and unbounded."""

_REST_PERIODS: Final = 8
"""For how many times its size a memo rests that has filled up. A shop has some hundred beacons; thousands are a flood that never
says the same twice, and remembering it costs more (0.2 µs each) than it brings."""
MEMO_SIZE: Final = 4096

_LAST_TELLING: Final = 5
"""The octets of a structure's data that may tell its formats apart are 0 … this."""
_SMALLEST_USUAL: Final = 3 + 2 + _LAST_TELLING + 1
"""Octets of flags and one more structure that reaches so far."""
_NO_OCTET: Final = 256

CONSTANT: Final[frozenset[type]] = frozenset({IBeacon, AltBeacon, EddystoneUid, EddystoneUrl})
"""What is worth remembering: frames that stay the same while the battery lasts. A token lives for a minute, and is a phone's."""

_NAMES: Final[dict[type[Frame], str]] = {
    ShopperToken: "shopper",
    IBeacon: "ibeacon",
    AltBeacon: "altbeacon",
    EddystoneUid: "eddystone-uid",
    EddystoneUrl: "eddystone-url",
    EddystoneTlm: "eddystone-tlm",
    EddystoneEncryptedTlm: "eddystone-etlm",
    EddystoneEid: "eddystone-eid",
}

_Decode = Callable[[bytes], Frame | Reject | None]


def format_of(found: Frame | Reject) -> str:
    """The format's name as counters, tables and JSON have it.

    >>> format_of(IBeacon(bytes(16), 1, 2, -59)), format_of(Reject("eddystone-url", "sanity"))
    ('ibeacon', 'eddystone-url')
    """
    return found.format if isinstance(found, Reject) else _NAMES[type(found)]


class Format(NamedTuple):
    """Which structures a format claims, and what reads them."""

    name: str
    ad_type: int
    code: bytes | None
    """What the data must hold; empty = every structure of that type is a candidate and none can break the format;
    ``None`` = not in use, the chain has no identifier of this kind."""
    decode: _Decode
    """Structure data → the frame; ``None`` for data without ``code``."""
    offset: int = 0
    """Octets of data before ``code``."""


def _table(service_uuid16: int | None, company_id: int | None, knows: Callable[[bytes], bool] | None) -> tuple[Format, ...]:
    """One line for each key; where a structure holds two codes at different places, the first line claims it."""
    service, company = _little_endian(service_uuid16), _little_endian(company_id)
    formats = (
        Format("ibeacon", MANUFACTURER_DATA, ibeacon.CODE, ibeacon.decode),
        # Before form M: a chain may put its own company identifier into its AltBeacons.
        Format("altbeacon", MANUFACTURER_DATA, altbeacon.CODE, altbeacon.decode, altbeacon.CODE_OFFSET),
        Format("eddystone", SERVICE_DATA_16, eddystone.CODE, eddystone.decode),
        Format("shopper", COMPLETE_UUIDS_128, b"", shopper.decode_u if knows is None else shopper.decode_u_of(knows)),
        Format("shopper", SERVICE_DATA_16, service, _if_it_begins(service, shopper.decode_s)),
        Format("shopper", MANUFACTURER_DATA, company, _if_it_begins(company, shopper.decode_m)),
    )
    return tuple(one for one in formats if one.code is not None)


def _if_it_begins(code: bytes | None, decode: _Decode) -> _Decode:
    return lambda data: decode(data) if data[:2] == code else None


_Meaning = TypeVar("_Meaning")


class Memo(Generic[_Meaning]):
    """What advertisements mean that are repeated octet for octet; bounded, and it steps aside for a flood.

    Look it up in ``known``, which is the same dictionary for ever.
    """

    __slots__ = ("_rest", "_size", "known")

    def __init__(self, size: int = MEMO_SIZE) -> None:
        self.known: dict[bytes, _Meaning] = {}
        self._size = size
        self._rest = 0

    def remember(self, data: bytes, meaning: _Meaning) -> None:
        """Take one more, unless it is too long or the memo rests."""
        if self._rest:
            self._rest -= 1
        elif len(data) > LARGEST_REMEMBERED:
            return
        elif len(self.known) < self._size:
            self.known[data] = meaning
        else:
            self.known.clear()
            self._rest = self._size * _REST_PERIODS - 1

    def clear(self) -> None:
        """Forget everything: the same octets may mean something else from now on."""
        self.known.clear()


class _Choice:
    """What the walk needs to know of an AD type."""

    __slots__ = ("decoders", "is_certain", "place")

    def __init__(self, place: int, decoders: tuple[_Decode | None, ...], is_certain: bool) -> None:
        self.place = place
        """Which octet of a structure, counted from its length octet, tells the formats apart."""
        self.decoders = decoders
        """What reads the structure, by that octet, and at 256 without it."""
        self.is_certain = is_certain
        """Whether its frames have a code of their own."""


class Decoder:
    """Reads advertisements with one chain's settings.

    ``service_uuid16`` and ``company_id`` are the chain's own identifiers (0 … 65535) for forms S and M of the shopper token, or
    ``None``. ``knows`` tells whether an ephemeral identifier (8 bytes) is in the roster; without it every 128-bit service UUID
    is a candidate. ``memo_size`` is how many payloads of beacons are remembered. Raises ``ValueError`` for a number out of range,
    and when two formats would claim the same structures: one key has one decoder.

    >>> decoder = Decoder(service_uuid16=0xFFF0)
    >>> decoder.decode(bytes.fromhex("020106 1516f0ff11c58a4061daf88a329d6160529fbe31d8c5")).form
    'S'
    >>> decoder.decode(bytes.fromhex("02011a 0aff4c001005031c9ba1c8")) is None
    True
    >>> decoder.decode(bytes.fromhex("020106 1aff4c000215e2c56db5"))
    Reject(format='ibeacon', kind='length')
    """

    __slots__ = ("_choices", "_known", "_memo", "_table")

    def __init__(
        self,
        service_uuid16: int | None = None,
        company_id: int | None = None,
        *,
        knows: Callable[[bytes], bool] | None = None,
        memo_size: int = MEMO_SIZE,
    ) -> None:
        if memo_size < 1:
            raise ValueError(f"memo_size must be at least 1, not {memo_size}")
        self._table = _table(service_uuid16, company_id, knows)
        self._choices = _choices_by_type(self._table)
        self._memo: Memo[Frame] = Memo(memo_size)
        self._known = self._memo.known

    @property
    def remembered(self) -> int:
        """Payloads in the memo now; never more than ``memo_size``, and 0 while it rests."""
        return len(self._memo.known)

    def decode(self, data: bytes) -> Frame | Reject | None:
        """What an advertisement (all its AD structures, 0 octets or more) holds of ours.

        The first frame with a code of its own wins, then the first candidate without one (form U, which a beacon's own service
        list resembles), then the first `Reject`. Equal payloads may give the very same object: do not change it.
        """
        known = self._known.get(data)
        if known is not None:
            return known
        found = self.read(data)
        if found is not None and type(found) in CONSTANT:
            self._memo.remember(data, found)  # type: ignore[arg-type]  # what is constant is a frame
        return found

    def read(self, data: bytes) -> Frame | Reject | None:
        """The same for who has a memo of another kind."""
        size = len(data)
        if size < _SMALLEST_USUAL:
            return self._walk(data, 0)
        # Nothing claims flags.
        start = 3 if data[1] == FLAGS and data[0] == 2 else 0
        if data[start] != size - 1 - start:
            return self._walk(data, start)
        # What most of the air is: one structure to the end. The walk gives the same answer, later.
        choice = self._choices[data[start + 1]]
        if choice is None:
            return None
        decode = choice.decoders[data[start + choice.place]]
        return None if decode is None else decode(data[start + 2 :])

    def _walk(self, data: bytes, start: int) -> Frame | Reject | None:
        """``ad_structures.iterate`` by hand, because strangers must not cost an object each; from the structure at ``start``."""
        choices = self._choices
        size = len(data)
        candidate: Frame | None = None
        reject: Reject | None = None
        while start + 1 < size and data[start]:
            stop = start + 1 + data[start]
            choice = choices[data[start + 1]]
            if choice is not None:
                # An octet from beyond the structure does no harm: every decoder looks for its code itself.
                telling = start + choice.place
                decode = choice.decoders[data[telling] if telling < size else _NO_OCTET]
                if decode is not None:
                    found = decode(data[start + 2 : stop]) if stop <= size else self._truncated(data[start + 1 :])
                    if isinstance(found, Reject):
                        reject = reject or found
                    elif found is not None:
                        if choice.is_certain:
                            return found
                        candidate = candidate or found
            start = stop
        return candidate or reject

    def _truncated(self, octets: bytes) -> Reject | None:
        """What a structure that promises more than there is breaks; ``octets`` begin with its type."""
        for name, ad_type, code, _, offset in self._table:
            if code and ad_type == octets[0] and octets.startswith(code, 1 + offset):
                return Reject(name, "length")
        return None


def _choices_by_type(table: tuple[Format, ...]) -> tuple[_Choice | None, ...]:
    """Indexed by AD type, 256 entries; ``ValueError`` when one format's code begins with another's at the same place."""
    formats: dict[int, list[Format]] = {}
    for one in table:
        of_type = formats.setdefault(one.ad_type, [])
        code = one.code or b""
        for other in of_type:
            if one.offset == other.offset and (code.startswith(other.code or b"") or (other.code or b"").startswith(code)):
                raise ValueError(f"{one.name}: AD type 0x{one.ad_type:02x} with {code.hex()} already belongs to another format")
        of_type.append(one)
    return tuple(_choice(formats[ad_type]) if ad_type in formats else None for ad_type in range(256))


def _choice(formats: list[Format]) -> _Choice:
    def fixed(one: Format, at: int) -> bytes:
        """The octet that the format's code demands ``at`` an octet of the data, empty for any."""
        code = bytes(one.offset) + (one.code or b"")
        return code[at : at + 1] if at >= one.offset else b""

    telling = max(range(_LAST_TELLING + 1), key=lambda at: (sum(bool(fixed(one, at)) for one in formats), -at))
    wanted = [(fixed(one, telling), one.decode) for one in formats]
    decoders = [_first_of([decode for octet, decode in wanted if octet in {b"", bytes((value,))}]) for value in range(256)]
    decoders.append(_first_of([decode for octet, decode in wanted if not octet]))
    return _Choice(2 + telling, tuple(decoders), bool(formats[0].code))


def _first_of(decoders: list[_Decode]) -> _Decode | None:
    """One decoder that asks ``decoders`` in turn, ``None`` if there are none."""
    if len(decoders) < 2:
        return decoders[0] if decoders else None

    def decode(data: bytes) -> Frame | Reject | None:
        for one in decoders:
            found = one(data)
            if found is not None:
                return found
        return None

    return decode


def _little_endian(identifier: int | None) -> bytes | None:
    if identifier is None:
        return None
    if not 0 <= identifier <= 0xFFFF:
        raise ValueError(f"a 16-bit identifier is 0 … 65535, not {identifier}")
    return identifier.to_bytes(2, "little")
