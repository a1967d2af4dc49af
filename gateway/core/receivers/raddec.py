"""reelyActive raddec ("radio decoding"): one transmitter, every receiver that decoded it, the packets as they were on the air.

::

    <prefix>/devices/<transmitterId>/<transmitterIdType>/raddec    QoS 0, neither birth nor will

    transmitterId      hexadecimal; transmitterIdType 2 = EUI-48, 3 = random 48-bit address: the two of Bluetooth Low Energy
    rssiSignature      strongest first: [{receiverId (hexadecimal), receiverIdType, rssi (dBm, mean), numberOfDecodings}]
    packets            hexadecimal: header ×2 | address ×6 (little-endian) | AD structures; without repetitions, oldest first
    timestamp          milliseconds since 1970, of whoever wrote the raddec
    events             0 appearance, 1 displacement, 2 packets, 3 keep-alive, 4 disappearance

The header's low four bits are the PDU type (0 ADV_IND, 2 ADV_NONCONN_IND, 4 SCAN_RSP, 6 ADV_SCAN_IND; 1 has no data), its second
octet counts what follows. Each packet becomes a report of each receiver, with that receiver's mean RSSI: the raddec does not say
who decoded which, nor when. **Forms U, S and M and every beacon pass** whole. That a receiver is dead only its silence tells. The
binary form of a raddec (over UDP) is not read. Never raises for any value.

Source: raddec 0.6.2, README.md and lib/raddec.js; barnacles-mqtt (2024), lib/barnaclesmqtt.js (topics); barnowl-hci (2025),
lib/hcidecoder.js (how a packet is put together); Bluetooth Core 5.4, vol 6, part B, 2.3 (advertising PDUs).
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from gateway.core.model import Reject
from gateway.core.receivers.reports import Life, Report, address_of, rssi_of, stamp_of

PREFIX = "paretoanywhere"
TOPICS = ("devices/+/+/raddec",)

_LOW_ENERGY = (2, 3)
_DISAPPEARANCE = 4
_MOST_RECEIVERS = 15
"""As in its binary form."""
_MOST_PACKETS = 15
_RECEIVER = re.compile(r"[0-9a-fA-F]{2,32}")
_PACKET = re.compile(r"(?:[0-9a-fA-F]{2}){8,257}")
_WITH_DATA = (0, 2, 4, 6)


def read(levels: Sequence[str], fields: Mapping[str, object]) -> list[Report] | Reject | None:
    r"""A report for each packet and receiver; ``None`` for another topic or radio, `Reject` for what cannot be.

    >>> told = {"transmitterId": "fee150bada55", "transmitterIdType": 3,
    ...         "rssiSignature": [{"receiverId": "001bc50940810000", "receiverIdType": 1, "rssi": -83, "numberOfDecodings": 1}],
    ...         "packets": ["421655daba50e1fe0201050c097265656c79416374697665"]}
    >>> read(["devices", "fee150bada55", "3", "raddec"], told)[0].data
    b'\x02\x01\x05\x0c\treelyActive'
    """
    if len(levels) != 4 or levels[0] != "devices" or levels[3] != "raddec" or fields.get("transmitterIdType") not in _LOW_ENERGY:
        return None
    events = fields.get("events", [])
    packets, signature = fields.get("packets", []), fields.get("rssiSignature")
    if type(events) is not list or type(packets) is not list or type(signature) is not list:
        return Reject("raddec", "integrity")
    if _DISAPPEARANCE in events or not signature:
        return None
    heard = list(_advertised(packets[-_MOST_PACKETS:]))
    if packets and not heard:
        return Reject("raddec", "length")
    receivers = list(_receivers(signature[:_MOST_RECEIVERS]))
    if not receivers:
        return Reject("raddec", "sanity")
    address, stamp_ms = address_of(fields.get("transmitterId")), stamp_of(fields.get("timestamp"), 1)
    return [Report(name, data, rssi_dbm, address, stamp_ms) for data in heard or [b""] for name, rssi_dbm in receivers]


def read_life(_levels: Sequence[str], _payload: bytes) -> Life | None:
    """There is neither birth nor will."""
    return None


def _receivers(signature: Sequence[object]) -> Iterator[tuple[str, int]]:
    for entry in signature:
        if isinstance(entry, dict):
            name, rssi_dbm = entry.get("receiverId"), rssi_of(entry.get("rssi"))
            if type(name) is str and _RECEIVER.fullmatch(name) and rssi_dbm is not None:
                yield name.lower(), rssi_dbm


def _advertised(packets: Sequence[object]) -> Iterator[bytes]:
    """The AD structures of each packet that is whole."""
    for packet in packets:
        if type(packet) is str and _PACKET.fullmatch(packet):
            octets = bytes.fromhex(packet)
            if octets[1] == len(octets) - 2 and octets[0] & 0x0F in _WITH_DATA:
                yield octets[8:]
