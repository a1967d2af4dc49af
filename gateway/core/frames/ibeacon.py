"""iBeacon, Apple's proximity beacon: manufacturer data ↔ `IBeacon`.

::

    4C 00 | 02 15 | UUID ×16 | major ×2 | minor ×2 | measured power ×1 (int8, dBm at 1 m)

25 octets; big-endian, but for the company identifier 0x004C, which is little-endian as everywhere. ``02 15`` is Apple's own
type and length. Never raises for any bytes.

Source: Apple, Proximity Beacon Specification R1.
"""

import struct
from typing import Final

from gateway.core.ad_structures import MANUFACTURER_DATA, AdStructure
from gateway.core.model import IBeacon, Reject

CODE: Final = b"\x4c\x00\x02\x15"
"""What manufacturer data must begin with to claim this format."""

_LAYOUT: Final = struct.Struct(">4s16sHHb")
_unpack = struct.Struct(">4x16sHHb").unpack
_SIZE: Final = 25


def decode(data: bytes) -> IBeacon | Reject | None:
    """The beacon in manufacturer data; ``None`` without `CODE`, `Reject` for any other length than 25 octets.

    >>> beacon = decode(bytes.fromhex("4c000215 e2c56db5dffb48d2b060d0f5a71096e0 0064 0000 c5"))
    >>> beacon.uuid.hex(), beacon.major, beacon.minor, beacon.measured_power_dbm
    ('e2c56db5dffb48d2b060d0f5a71096e0', 100, 0, -59)
    >>> decode(bytes.fromhex("4c000215 e2c56db5"))
    Reject(format='ibeacon', kind='length')
    """
    if data[:4] != CODE:
        return None
    if len(data) != _SIZE:
        return Reject("ibeacon", "length")
    return IBeacon(*_unpack(data))


def encode(beacon: IBeacon) -> AdStructure:
    """The AD structure that `decode` reads; ``ValueError`` for a field that does not fit its octets.

    >>> encode(IBeacon(bytes(16), 1, 2, -59)).data.hex(" ", -2)
    '4c00 0215 0000 0000 0000 0000 0000 0000 0000 0000 0001 0002 c5'
    """
    if len(beacon.uuid) != 16:
        raise ValueError(f"a UUID has 16 octets, not {len(beacon.uuid)}")
    try:
        data = _LAYOUT.pack(CODE, beacon.uuid, beacon.major, beacon.minor, beacon.measured_power_dbm)
    except struct.error as error:
        raise ValueError(f"major, minor or measured power does not fit its octets: {error}") from error
    return AdStructure(MANUFACTURER_DATA, data)
