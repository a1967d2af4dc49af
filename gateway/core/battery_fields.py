"""Battery fields that beacons of many makers send beside their own frames: advertisement → `BatteryReading` or ``None``.

::

    Battery Service   0F 18 (LE) | battery level ×1 (0 … 100 %)
    BTHome version 2  D2 FC (LE) | device information ×1 | object id ×1, value … | …
                      device information: bit 0 encrypted, bits 5–7 version (2)
                      00 packet id ×1 · 01 battery ×1 (%) · 02 temperature ×2 (int16, 0.01 °C) · 0C voltage ×2 (uint16, 1 mV)

Both are service data with a 16-bit UUID; values are little-endian. BTHome's objects come in the order of their ids, so that what
lies behind the voltage needs no understanding. Encrypted ones, and values that cannot be, are nothing. Never raises.

Sources: Bluetooth Assigned Numbers, 3.4 (Battery Service) and GATT Specification Supplement (Battery Level); bthome.io, format of
version 2.
"""

from typing import NamedTuple

from gateway.core.ad_structures import SERVICE_DATA_16, Truncated, iterate

BATTERY_SERVICE = b"\x0f\x18"
BTHOME = b"\xd2\xfc"

_MOST_PERCENT = 100
_ENCRYPTED = 0x01
_VERSION_SHIFT, _VERSION = 5, 2
_SIZES = {0x00: 1, 0x01: 1, 0x02: 2, 0x03: 2, 0x04: 3, 0x05: 3, 0x06: 2, 0x07: 2, 0x08: 2, 0x09: 1, 0x0A: 3, 0x0B: 3, 0x0C: 2}
"""Octets of each value up to the voltage."""


class BatteryReading(NamedTuple):
    """What one advertisement says; at least one of them."""

    millivolts: int | None = None
    percent: int | None = None
    temperature_c: float | None = None


def read(payload: bytes) -> BatteryReading | None:
    """The first battery field among the AD structures of ``payload``.

    >>> read(bytes.fromhex("020106 04160f1864"))
    BatteryReading(millivolts=None, percent=100, temperature_c=None)
    >>> read(bytes.fromhex("020106 0e16d2fc40 0061 0117 028a02 0c560b"))
    BatteryReading(millivolts=2902, percent=23, temperature_c=6.5)
    >>> read(bytes.fromhex("020106 0e16d2fc41 0061 0117 028a02 0c560b")) is None
    True
    """
    for structure in iterate(payload):
        if isinstance(structure, Truncated) or structure.ad_type != SERVICE_DATA_16:
            continue
        data = structure.data
        if data.startswith(BATTERY_SERVICE) and len(data) == len(BATTERY_SERVICE) + 1:
            return BatteryReading(percent=data[2]) if data[2] <= _MOST_PERCENT else None
        if data.startswith(BTHOME) and len(data) > len(BTHOME):
            return _bthome(data[2], data[3:])
    return None


def _bthome(information: int, objects: bytes) -> BatteryReading | None:
    if information & _ENCRYPTED or information >> _VERSION_SHIFT != _VERSION:
        return None
    percent: int | None = None
    millivolts: int | None = None
    temperature_c: float | None = None
    start = 0
    while start < len(objects) and (size := _SIZES.get(objects[start])) is not None:
        value = objects[start + 1 : start + 1 + size]
        if len(value) < size:
            return None
        match objects[start]:
            case 0x01 if value[0] <= _MOST_PERCENT:
                percent = value[0]
            case 0x02:
                temperature_c = int.from_bytes(value, "little", signed=True) / 100
            case 0x0C:
                millivolts = int.from_bytes(value, "little") or None
        start += 1 + size
    if millivolts is None and percent is None:
        return None
    return BatteryReading(millivolts, percent, temperature_c)
