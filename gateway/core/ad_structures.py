"""Advertising data: bytes ↔ AD structures.

::

    length ×1 (octets that follow) | AD type ×1 | data ×(length − 1)

Structures follow each other to the end of the payload. A length of 0 ends the data early: what follows is padding. A last
structure that promises more octets than there are is reported as `Truncated`, never shortened: half a value is not a value.
Never raises for any bytes.

Source: Bluetooth Core Specification, Vol 3, Part C, section 11; Core Specification Supplement, Part A; Assigned Numbers, 2.3.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

FLAGS: Final = 0x01
COMPLETE_UUIDS_128: Final = 0x07
SERVICE_DATA_16: Final = 0x16
MANUFACTURER_DATA: Final = 0xFF

MAX_DATA: Final = 254
"""Octets of data in one structure: the length octet counts the type too."""


class AdStructure(NamedTuple):
    """One whole element of an advertisement."""

    ad_type: int
    """0 … 255, Assigned Numbers 2.3."""
    data: bytes
    """0 … 254 octets."""


class Truncated(NamedTuple):
    """The last structure, when it promises more than there is."""

    octets: bytes
    """What there is of it, from its length octet on (so never empty)."""

    @property
    def missing(self) -> int:
        """Octets that were promised and never came, at least 1."""
        return 1 + self.octets[0] - len(self.octets)


def iterate(payload: bytes) -> Iterator[AdStructure | Truncated]:
    r"""The structures of ``payload`` in order; a `Truncated` can only be the last. Never raises.

    >>> list(iterate(bytes.fromhex("020106 03ff4c00 00 0000")))
    [AdStructure(ad_type=1, data=b'\x06'), AdStructure(ad_type=255, data=b'L\x00')]
    >>> [last] = iterate(bytes.fromhex("05ff4c00"))
    >>> last, last.missing
    (Truncated(octets=b'\x05\xffL\x00'), 2)
    """
    start = 0
    while start < len(payload) and payload[start] != 0:
        stop = start + 1 + payload[start]
        if stop > len(payload):
            yield Truncated(payload[start:])
            return
        yield AdStructure(payload[start + 1], payload[start + 2 : stop])
        start = stop


def encode(structures: Iterable[AdStructure]) -> bytes:
    r"""The payload that holds ``structures`` in order; whether it fits the radio (31 octets, legacy) is the caller's concern.

    Raises ``ValueError`` for a type outside 0 … 255 or more than `MAX_DATA` octets of data.

    >>> encode([AdStructure(FLAGS, b"\x06"), AdStructure(MANUFACTURER_DATA, b"L\x00")]).hex(" ")
    '02 01 06 03 ff 4c 00'
    """
    payload = bytearray()
    for ad_type, data in structures:
        if len(data) > MAX_DATA:
            raise ValueError(f"an AD structure holds at most {MAX_DATA} octets of data, not {len(data)}")
        payload += bytes((1 + len(data), ad_type)) + data
    return bytes(payload)
