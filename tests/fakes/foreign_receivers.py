"""What receivers of other systems publish for an advertisement: topic and payload, as their sources put them together.

A function per system, named as its kind in the settings. Sources: see ``gateway/core/receivers``, one file per system.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.core import ad_structures
from gateway.core.ad_structures import AdStructure

Message = tuple[str, bytes]
ADDRESS = "4F:11:22:33:44:55"


def espresense(room: str, data: bytes, rssi_dbm: float, address: str = ADDRESS) -> Message:
    """4.0.6: of the names that the advertisement gives it, the one of the highest rank."""
    mac = address.replace(":", "").lower()
    _, name, measured_power_dbm = max(((1, mac, -65), *_names(data)), key=lambda one: one[0])
    fields = {"mac": mac, "id": name, "rssi@1m": measured_power_dbm, "rssi": rssi_dbm, "rxAdj": 0, "distance": 1.5, "int": 250}
    return f"espresense/devices/{name}/{room}", _json(fields)


def _names(data: bytes) -> Iterator[tuple[int, str, int]]:
    structures = list(_structures(data))
    uuids = [text for one in structures if 2 <= one.ad_type <= 7 for text in _uuids(one)]
    tx_power = next((str(-int.from_bytes(one.data, signed=True)) for one in structures if one.ad_type == 0x0A), "")
    if uuids:
        yield 10, "ad:" + "".join(uuids) + tx_power, -65
    for one in structures:
        if one.ad_type in {8, 9}:
            yield 35, f"name:{one.data.decode().lower()}", -65
        elif one.ad_type == 0x16:
            yield 15, f"sd:0x{one.data[1::-1].hex()}{tx_power}", -65
        elif one.ad_type == 0xFF and one.data[:4] == b"\x4c\x00\x02\x15" and len(one.data) == 25:
            major, minor = int.from_bytes(one.data[20:22]), int.from_bytes(one.data[22:24])
            yield 180, f"iBeacon:{_dashed(one.data[4:20])}-{major}-{minor}", int.from_bytes(one.data[24:], signed=True)
        elif one.ad_type == 0xFF:
            yield 20, f"md:{one.data[1::-1].hex()}:{len(one.data)}{tx_power}", -65


def openmqttgateway(gateway: str, data: bytes, rssi_dbm: int, address: str = ADDRESS, **more: object) -> list[Message]:
    """With ``pubadvdata``; a message for each service data."""
    fields: dict[str, object] = {"id": address, "mac_type": 1, "adv_type": 0, "rssi": rssi_dbm, **more}
    structures = list(_structures(data))
    company = next((one.data.hex() for one in structures if one.ad_type == 0xFF), None)
    if company is not None:
        fields["manufacturerdata"] = company
    services = [one.data for one in structures if one.ad_type == 0x16]
    topic = f"home/{gateway}/BTtoMQTT/{address.replace(':', '')}"
    if not services:
        return [(topic, _json(fields))]
    return [
        (topic, _json({**fields, "servicedata": one[2:].hex(), "servicedatauuid": f"0x{one[1::-1].hex()}"})) for one in services
    ]


def raddec(receivers: Mapping[str, int], *datas: bytes, address: str = ADDRESS, **more: object) -> Message:
    """Of a random address, whose packets were ``datas``; ``receivers`` by their mean RSSI."""
    identifier = address.replace(":", "").lower()
    fields = {
        "transmitterId": identifier,
        "transmitterIdType": 3,
        "rssiSignature": [
            {"receiverId": name, "receiverIdType": 1, "rssi": rssi_dbm, "numberOfDecodings": 2}
            for name, rssi_dbm in sorted(receivers.items(), key=lambda one: -one[1])
        ],
        "packets": [f"42{6 + len(data):02x}{bytes.fromhex(identifier)[::-1].hex()}{data.hex()}" for data in datas],
        "events": [2],
        **more,
    }
    return f"paretoanywhere/devices/{identifier}/3/raddec", _json(fields)


def _structures(data: bytes) -> Iterator[AdStructure]:
    for one in ad_structures.iterate(data):
        if isinstance(one, AdStructure):
            yield one


def _uuids(one: AdStructure) -> Iterator[str]:
    size = {2: 2, 3: 2, 4: 4, 5: 4, 6: 16, 7: 16}[one.ad_type]
    for start in range(0, len(one.data) - size + 1, size):
        uuid = one.data[start : start + size][::-1]
        yield _dashed(uuid) if size == 16 else f"0x{uuid.hex()}"


def _dashed(uuid: bytes) -> str:
    text = uuid.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _json(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()
