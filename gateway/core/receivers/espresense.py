"""ESPresense: ESP32 firmware that names what it hears and publishes the name with a smoothed RSSI.

::

    <prefix>/devices/<id>/<room>   {"mac", "id", "rssi@1m", "rssi", "rxAdj", "rssiVar", "distance", "var", "int", …}   QoS 0
    <prefix>/rooms/<room>/status   online | offline    retained birth and will

    id       what it takes the device for; of two names the one that its table ranks higher, and never a lower one again
    rssi     dBm, median of recent ones less the room's ``rxAdj``; whole until 3.3, with two decimals since 4.0
    rssi@1m  dBm at 1 m: from its settings, else what the beacon says of itself, else a guess
    mac      address, 12 hexadecimal digits
    raw      until 3.3; a distance in metres, no RSSI
    room     the room's name in lower case with underscores

Not one octet of an advertisement is published; it passes what the id still holds:

- a registered **iBeacon**: ``iBeacon:<UUID>-<major>-<minor>`` (before 2.0 without dashes within the UUID). Its measured power
  becomes ``rssi@1m``.
- the shopper token's **form U**, which is a list of one UUID: ``ad:<UUID>``, then the negative TX power where one was sent. Not
  when the phone also sends its name (``name:…`` ranks higher), nor a second UUID. And the id of an address never goes from one
  ``ad:`` to another, so a token that is refreshed counts only once the phone takes a new address: presence passes, the minute's
  hint seldom.
- not **forms S and M**: of service and manufacturer data only the identifier and the length are told (``sd:…``, ``md:…``).
- not **AltBeacon** (it looks for the code where the company stands, so that only ``md:…`` is left), and nothing of **Eddystone**
  (only builds on NimBLE 1 name its UID), of which no register holds a beacon.

It reports a device every 5 s, sooner when it seems to have moved by 0.5 m. Never raises for any value.
Source: ESPresense 4.0.6 and the state of August 2026, src/BleFingerprint.cpp (setId, fingerprint…, fill, report), src/main.cpp
(topics, will), include/defaults.h (times); 3.3.5 for the older fields; its issues 41 and 1468 for payloads as they were received.
"""

import re
from collections.abc import Mapping, Sequence

from gateway.core import ad_structures
from gateway.core.ad_structures import COMPLETE_UUIDS_128, AdStructure
from gateway.core.frames import ibeacon
from gateway.core.model import IBeacon, Reject
from gateway.core.receivers.reports import Life, Report, address_of, life, rssi_of, whole

PREFIX = "espresense"
TOPICS = ("devices/+/+", "rooms/+/status")

_UUID = r"([0-9a-fA-F]{8})-?([0-9a-fA-F]{4})-?([0-9a-fA-F]{4})-?([0-9a-fA-F]{4})-?([0-9a-fA-F]{12})"
_IBEACON = re.compile(rf"iBeacon:{_UUID}-([0-9]{{1,5}})-([0-9]{{1,5}})")
_LIST_OF_ONE = re.compile(rf"ad:{_UUID}(?:-?[0-9]{{1,3}})?")
_LARGEST = 0xFFFF


def read(levels: Sequence[str], fields: Mapping[str, object]) -> list[Report] | Reject | None:
    """One report; ``None`` for another topic, `Reject` for an id or RSSI that cannot be. ``levels`` are below the prefix.

    >>> token = {"id": "ad:8a4061da-f88a-329d-6160-529fbe31d8c5", "rssi": -61.25}
    >>> [report] = read(["devices", token["id"], "hall"], token)
    >>> report.receiver, report.rssi_dbm, report.data.hex(" ", 8)
    ('hall', -61, '1107 c5d831be9f526061 9d328af8da61408a')
    """
    if len(levels) != 3 or levels[0] != "devices":
        return None
    name, rssi_dbm = fields.get("id"), rssi_of(fields.get("rssi"))
    if type(name) is not str or rssi_dbm is None:
        return Reject("espresense", "sanity")
    data = _advertised(name, fields.get("rssi@1m"))
    if isinstance(data, Reject):
        return data
    return [Report(levels[2], data, rssi_dbm, address_of(fields.get("mac")))]


def read_life(levels: Sequence[str], payload: bytes) -> Life | None:
    """A room's birth or will."""
    if len(levels) == 3 and levels[0] == "rooms" and levels[2] == "status":
        return life(levels[1], payload)
    return None


def _advertised(name: str, rssi_at_1m: object) -> bytes | Reject:
    """What was on the air, as far as the id tells."""
    if found := _LIST_OF_ONE.fullmatch(name):
        uuid = bytes.fromhex("".join(found.groups()))
        return ad_structures.encode([AdStructure(COMPLETE_UUIDS_128, uuid[::-1])])
    if found := _IBEACON.fullmatch(name):
        *digits, major, minor = found.groups()
        measured_power_dbm = whole(rssi_at_1m, -128, 127)
        if int(major) > _LARGEST or int(minor) > _LARGEST or measured_power_dbm is None:
            return Reject("espresense", "sanity")
        beacon = IBeacon(bytes.fromhex("".join(digits)), int(major), int(minor), measured_power_dbm)
        return ad_structures.encode([ibeacon.encode(beacon)])
    return b""
