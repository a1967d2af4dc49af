"""AltBeacon, the open proximity beacon: manufacturer data ↔ `AltBeacon`.

::

    company ×2 (LE) | BE AC | beacon id ×20 | measured power ×1 (int8, dBm at 1 m) | reserved ×1

26 octets; big-endian, but for the company identifier, which is any manufacturer's own. Some emitters leave the last octet out and
say so in their AD length, so 25 octets are a whole frame too. Never raises for any bytes.

Source: Radius Networks, AltBeacon Protocol Specification v1.0.
"""

import struct

from gateway.core.ad_structures import MANUFACTURER_DATA, AdStructure
from gateway.core.model import AltBeacon, Reject

CODE = b"\xbe\xac"
"""What manufacturer data must hold at `CODE_OFFSET` to claim this format."""
CODE_OFFSET = 2

_LAYOUT = struct.Struct(">2x2x20sb")
_SIZE = 26
_SIZE_WITHOUT_RESERVED = 25
_BEACON_ID_SIZE = 20


def decode(data: bytes) -> AltBeacon | Reject | None:
    """The beacon in manufacturer data; ``None`` without `CODE`, `Reject` for any other length than 25 or 26 octets.

    >>> beacon = decode(bytes.fromhex("1801beac 2f234454cf6d4a0fadf2f4911ba9ffa6 00010002 c5 09"))
    >>> hex(beacon.company_id), beacon.beacon_id[16:].hex(), beacon.measured_power_dbm, beacon.reserved
    ('0x118', '00010002', -59, 9)
    >>> decode(bytes.fromhex("1801beac 2f234454"))
    Reject(format='altbeacon', kind='length')
    """
    if not data.startswith(CODE, CODE_OFFSET):
        return None
    if len(data) != _SIZE and len(data) != _SIZE_WITHOUT_RESERVED:
        return Reject("altbeacon", "length")
    beacon_id, measured_power_dbm = _LAYOUT.unpack_from(data)
    reserved = data[_SIZE - 1] if len(data) == _SIZE else None
    return AltBeacon(int.from_bytes(data[:2], "little"), beacon_id, measured_power_dbm, reserved)


def encode(beacon: AltBeacon) -> AdStructure:
    """The AD structure that `decode` reads; ``ValueError`` for a field that does not fit its octets.

    >>> encode(AltBeacon(0x0118, bytes(20), -59, 0)).data.hex(" ", -2)
    '1801 beac 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 c500'
    """
    if len(beacon.beacon_id) != _BEACON_ID_SIZE:
        raise ValueError(f"a beacon id has {_BEACON_ID_SIZE} octets, not {len(beacon.beacon_id)}")
    try:
        data = struct.pack("<H2s20sb", beacon.company_id, CODE, beacon.beacon_id, beacon.measured_power_dbm)
        data += b"" if beacon.reserved is None else struct.pack("B", beacon.reserved)
    except struct.error as error:
        raise ValueError(f"company, measured power or reserved does not fit its octets: {error}") from error
    return AdStructure(MANUFACTURER_DATA, data)
