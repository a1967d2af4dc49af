"""OpenMQTTGateway (ESP32) and Theengs Gateway (Linux): what was heard as JSON, decoded and, where told to, as it was on the air.

::

    <prefix>/<gateway>/BTtoMQTT/<address>   {"id", "rssi", "manufacturerdata", "servicedatauuid", "servicedata", …}   QoS 0
    <prefix>/<gateway>/LWT                  online | offline    retained birth and will

    id                address; the UUID of an iBeacon where the gateway is told to name it so, its address is then ``mac``
    rssi              dBm, whole
    manufacturerdata  hexadecimal: company ×2 (LE) | data, the first such structure
    servicedatauuid   16-bit UUID: "0xfe95" (OpenMQTTGateway), "fe95" (Theengs)
    servicedata       hexadecimal: the structure's data without its UUID; a message for each structure
    uuid, major, minor, txpower   with ``"model_id": "IBEACON"``: 32 hexadecimal digits, whole numbers, dBm at 1 m
    unixtime          seconds since 1970, only in builds that are told to

There is no field with the whole advertisement. What passes:

- a registered **iBeacon**: decoded always, raw where told to.
- **forms S and M**: from OpenMQTTGateway with ``{"pubadvdata": true}``, otherwise both data are removed; Theengs removes them
  (without ``publish_advdata``) only from devices that its decoder knows. Not with ``{"onlysensors": true}`` (``publish_all`` 0).
- not **form U**: lists of service UUIDs are never published. A chain whose phones use it needs another receiver.

OpenMQTTGateway reports each device once per scan, not once per advertisement: presence, not speed. Never raises for any value.
Source: OpenMQTTGateway, main/gatewayBT.cpp (procBLETask, BLEscan, PublishDeviceData), main/User_config.h (will, unixtime) and
docs/use/ble.md (payloads), as indexed in November 2026; Theengs Gateway 1.4.0 + 2024-03-15, TheengsGateway/ble_gateway.py
(detection_callback, decode_advertisement, publish_json) and config.py (topics).
"""

import re
from collections.abc import Mapping, Sequence

from gateway.core import ad_structures
from gateway.core.ad_structures import MANUFACTURER_DATA, MAX_DATA, SERVICE_DATA_16, AdStructure
from gateway.core.frames import ibeacon
from gateway.core.model import IBeacon, Reject
from gateway.core.receivers.reports import Life, Report, address_of, life, rssi_of, stamp_of, whole

PREFIX = "home"
TOPICS = ("+/BTtoMQTT/+", "+/LWT")

_OCTETS = re.compile(rf"(?:[0-9a-fA-F]{{2}}){{0,{MAX_DATA}}}")
_UUID16 = re.compile(r"(?:0x|0000)?([0-9a-fA-F]{4})(?:-0000-1000-8000-00805[fF]9[bB]34[fF][bB])?")
_UUID128 = re.compile(r"[0-9a-fA-F]{32}")


def read(levels: Sequence[str], fields: Mapping[str, object]) -> list[Report] | Reject | None:
    """One report; ``None`` for what tells of no advertisement, `Reject` for data that cannot be. ``levels`` are below the prefix.

    >>> told = {"id": "60:87:57:4C:9B:C2", "rssi": -78, "servicedatauuid": "0xfff0", "servicedata": "11c5" + "8a" * 16}
    >>> [report] = read(["shelf", "BTtoMQTT", "6087574C9BC2"], told)
    >>> report.receiver, report.data.hex(" ", 16)[:11]
    ('shelf', '1516f0ff11c')
    """
    if len(levels) != 3 or levels[1] != "BTtoMQTT" or "rssi" not in fields:
        # Answers to commands and what was read over a connection come on the same topic.
        return None
    rssi_dbm = rssi_of(fields["rssi"])
    if rssi_dbm is None:
        return Reject("openmqttgateway", "sanity")
    data = _advertised(fields)
    if isinstance(data, Reject):
        return data
    address = address_of(fields.get("mac")) or address_of(fields.get("id"))
    return [Report(levels[0], data, rssi_dbm, address, stamp_of(fields.get("unixtime"), 1000))]


def read_life(levels: Sequence[str], payload: bytes) -> Life | None:
    """A gateway's birth or will."""
    return life(levels[0], payload) if len(levels) == 2 and levels[1] == "LWT" else None


def _advertised(fields: Mapping[str, object]) -> bytes | Reject:
    """What was on the air, as far as the fields tell; the raw ones before the decoded."""
    structures = []
    company_data = fields.get("manufacturerdata")
    if company_data is not None:
        octets = _octets(company_data)
        if octets is None or len(octets) < 2:
            return Reject("openmqttgateway", "length")
        structures.append(AdStructure(MANUFACTURER_DATA, octets))
    service_data, uuid = fields.get("servicedata"), fields.get("servicedatauuid")
    if service_data is not None and uuid is not None:
        octets = _octets(service_data)
        if octets is None or len(octets) > MAX_DATA - 2 or type(uuid) is not str:
            return Reject("openmqttgateway", "length")
        # Service data under a UUID of 32 or 128 bits are of no format of ours.
        if short := _UUID16.fullmatch(uuid):
            structures.append(AdStructure(SERVICE_DATA_16, bytes.fromhex(short[1])[::-1] + octets))
    if not structures and fields.get("model_id") == "IBEACON":
        beacon = _beacon(fields)
        if beacon is None:
            return Reject("openmqttgateway", "sanity")
        structures.append(ibeacon.encode(beacon))
    return ad_structures.encode(structures)


def _octets(value: object) -> bytes | None:
    return bytes.fromhex(value) if type(value) is str and _OCTETS.fullmatch(value) else None


def _beacon(fields: Mapping[str, object]) -> IBeacon | None:
    uuid = fields.get("uuid")
    major, minor = whole(fields.get("major"), 0, 0xFFFF), whole(fields.get("minor"), 0, 0xFFFF)
    measured_power_dbm = whole(fields.get("txpower"), -128, 127)
    if type(uuid) is not str or not _UUID128.fullmatch(uuid) or major is None or minor is None or measured_power_dbm is None:
        return None
    return IBeacon(bytes.fromhex(uuid), major, minor, measured_power_dbm)
