"""What the parts of a capture reader hand to each other: container → `Frame` → link layer → `Report` → `Advertisement`."""

from dataclasses import dataclass, field
from enum import Enum

MAX_FRAME = 262_144
"""Octets in one frame at most: what libpcap takes for a capture length and not for damage (MAXIMUM_SNAPLEN)."""
LAST_TIME_NS = 253_402_300_799_999_999_999
"""The end of the year 9999: a later time, or one before 1970, is damage and not a time."""


class Skipped(Enum):
    """Why a frame gave no advertisement."""

    NO_ADVERTISEMENT = "no advertisement"
    """Other Bluetooth traffic: commands, other events, connections, scan requests."""
    BAD_CRC = "bad CRC"
    TRUNCATED = "truncated"
    """Fewer octets than its lengths promise, or cut off by whoever recorded it."""
    MALFORMED = "malformed"
    """Lengths or fields that contradict each other."""
    FRAGMENTED = "fragmented"
    """A piece of a chain of extended advertisements."""
    UNSUPPORTED = "unsupported"
    """A link type, PDU type or version that is not read here."""


Frame = tuple[int, int | None, int, bytes, Skipped | None]
"""(number in the file from 1, nanoseconds since 1970, link type, octets, what is wrong with it already). A plain tuple: there is
one for every frame of the file."""

Report = tuple[int | None, bytes | None, bytes, str]
"""(RSSI in dBm, address as on the air, AD structures, PDU type)."""

HCI_H4 = 187
HCI_H4_WITH_DIRECTION = 201
LINK_LAYER = 251
LINK_LAYER_WITH_RADIO = 256
NORDIC_SNIFFER = 272
"""Link types of pcap and pcapng (tcpdump.org/linktypes.html); the other containers use the fitting one."""


@dataclass(slots=True)
class Advertisement:
    """What the radio heard once, as a file tells it."""

    number: int
    """Number of its frame in the file, from 1; one frame may hold several advertisements."""
    time_ns: int | None
    """Wall time, nanoseconds since 1970."""
    rssi_dbm: int | None
    address: bytes | None
    """6 octets, least significant first as on the air. Of phones it is never an identity and never stored."""
    data: bytes
    """AD structures, 0 octets or more."""
    kind: str
    """PDU type as the Core Specification writes it, such as ``ADV_NONCONN_IND``."""
    receiver: str | None = None
    """Who heard it, where the file says so."""
    mono_ms: int | None = None
    """Monotonic milliseconds, where the file says so."""

    @property
    def address_text(self) -> str | None:
        """Colon-separated, lower case, most significant octet first.

        >>> Advertisement(1, None, None, bytes.fromhex("060504030201"), b"", "ADV_IND").address_text
        '01:02:03:04:05:06'
        """
        return None if self.address is None else self.address[::-1].hex(":")


@dataclass(slots=True)
class Ticked:
    """The moment at which a recorded gateway let its pipeline decide; replayed, the same decisions fall at the same moments."""

    mono_ms: int
    wall_ms: int


@dataclass(slots=True)
class Counts:
    """What a file held; every frame is counted once, and nothing here names a device."""

    frames: int = 0
    advertisements: int = 0
    skipped: dict[Skipped, int] = field(default_factory=dict)
    """Frames without an advertisement, by reason."""
    other_link_types: set[int] = field(default_factory=set)
    """Some of the link types that are not read here."""
    damage: str | None = None
    """Why the result is a partial one; ``None`` = the file was read to its end, and its end was one."""

    def skip(self, reason: Skipped) -> None:
        """Count one frame without an advertisement."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1
