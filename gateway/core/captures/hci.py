"""HCI, what a Bluetooth host hears from its controller: one packet → advertisements.

::

    H4 event             04 | event ×1 | length ×1 | parameters          other types than 04 are no events
    with direction       direction ×4 (big-endian) | H4                  link type 201
    legacy report        3E | 02 | reports ×1, then of each:
                         event type ×1 | address type ×1 | address ×6 | length ×1 | data | RSSI ×1 (int8, dBm)
    extended report      3E | 0D | reports ×1, then of each:
                         event type ×2 | address type ×1 | address ×6 | primary PHY ×1 | secondary PHY ×1 | set ×1 | power ×1 |
                         RSSI ×1 (int8, dBm) | interval ×2 | direct address type ×1 | direct address ×6 | length ×1 | data
    directed report      3E | 0B | reports ×1, then of each:
                         event type ×1 | address type ×1 | address ×6 | direct address type ×1 | direct address ×6 | RSSI ×1

Little-endian. RSSI 127 = not available. An extended report's event type: bits 0 … 4 = connectable, scannable, directed, scan
response, legacy PDU; bits 5 and 6 = data complete (0), more to come (1), cut off (2). Address type FF = anonymous. Never raises
for any bytes.

Source: Bluetooth Core Specification, Vol 4, Part A, 2 (H4); Part E, 7.7.65.2, 7.7.65.11, 7.7.65.13.
"""

import struct

from gateway.core.captures.records import Report, Skipped

_EVENT = 0x04
_LE_META = 0x3E
_LEGACY, _DIRECTED, _EXTENDED = 0x02, 0x0B, 0x0D
_LEGACY_TYPES = ("ADV_IND", "ADV_DIRECT_IND", "ADV_SCAN_IND", "ADV_NONCONN_IND", "SCAN_RSP")
_LEGACY_PDUS = {0x13: "ADV_IND", 0x15: "ADV_DIRECT_IND", 0x12: "ADV_SCAN_IND", 0x10: "ADV_NONCONN_IND"}
_IS_LEGACY, _IS_SCAN_RESPONSE = 0x10, 0x08
_ANONYMOUS = 0xFF
_MAX_DATA = 1650
"""Octets of one extended advertisement (Vol 4, Part E, 7.8.54: maximum advertising data length)."""
_MAX_OPEN = 64
_EXTENDED_HEAD = struct.Struct("<HB6sBBBbbHB6sB")


class Hci:
    """Reads the packets of one capture in order; remembers the beginnings of at most 64 fragmented advertisements."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: dict[tuple[int, bytes, int], bytes | None] = {}
        """By address type, address and set; ``None`` = grew too long, what comes of it is passed over."""

    def h4_with_direction(self, packet: bytes) -> list[Report] | Skipped:
        """What a packet of link type 201 reports."""
        return self.h4(packet[4:])

    def h4(self, packet: bytes) -> list[Report] | Skipped:
        r"""What a packet of link type 187 reports.

        >>> Hci().h4(bytes.fromhex("043e0f 0201 03 01 060504030201 03 020106 c5"))
        [(-59, b'\x06\x05\x04\x03\x02\x01', b'\x02\x01\x06', 'ADV_NONCONN_IND')]
        """
        if len(packet) < 3:
            return Skipped.TRUNCATED
        if packet[0] != _EVENT or packet[1] != _LE_META:
            return Skipped.NO_ADVERTISEMENT
        stop = 3 + packet[2]
        if len(packet) < stop:
            return Skipped.TRUNCATED
        if stop < 5:
            return Skipped.MALFORMED
        if packet[3] == _LEGACY:
            return _legacy(packet, stop)
        if packet[3] == _EXTENDED:
            return self._extended(packet, stop)
        if packet[3] == _DIRECTED:
            return _directed(packet, stop)
        return Skipped.NO_ADVERTISEMENT

    def _extended(self, packet: bytes, stop: int) -> list[Report] | Skipped:
        reports: list[Report] = []
        at, is_fragment, is_cut = 5, False, False
        for _ in range(packet[4]):
            start = at + _EXTENDED_HEAD.size
            if start > stop:
                return Skipped.MALFORMED
            kind, address_type, address, _, _, advertising_set, _, rssi, *_, size = _EXTENDED_HEAD.unpack_from(packet, at)
            at = start + size
            if at > stop:
                return Skipped.MALFORMED
            key = (address_type, address, advertising_set)
            status = kind >> 5 & 3
            if status == 1:
                is_fragment = True
                self._remember(key, packet[start:at])
                continue
            begun = self._open.pop(key, b"")
            if status or begun is None or len(begun) + size > _MAX_DATA:
                is_cut = True
                continue
            known = None if address_type == _ANONYMOUS else address
            reports.append((_rssi(rssi), known, begun + packet[start:at], _extended_kind(kind)))
        if reports:
            return reports
        if is_cut:
            return Skipped.TRUNCATED
        return Skipped.FRAGMENTED if is_fragment else Skipped.NO_ADVERTISEMENT

    def _remember(self, key: tuple[int, bytes, int], piece: bytes) -> None:
        begun = self._open.pop(key, b"")
        if len(self._open) >= _MAX_OPEN:
            # The longest untouched is the likeliest to have been given up by its controller.
            del self._open[next(iter(self._open))]
        self._open[key] = None if begun is None or len(begun) + len(piece) > _MAX_DATA else begun + piece


def _legacy(packet: bytes, stop: int) -> list[Report] | Skipped:
    reports: list[Report] = []
    at = 5
    for _ in range(packet[4]):
        if at + 10 > stop:
            return Skipped.MALFORMED
        kind, data_at = packet[at], at + 9
        data_stop = data_at + packet[at + 8]
        if data_stop >= stop:
            return Skipped.MALFORMED
        if kind >= len(_LEGACY_TYPES):
            return Skipped.UNSUPPORTED
        rssi = packet[data_stop]
        rssi = rssi - 256 if rssi > 127 else rssi
        reports.append((_rssi(rssi), packet[at + 2 : at + 8], packet[data_at:data_stop], _LEGACY_TYPES[kind]))
        at = data_stop + 1
    return reports or Skipped.NO_ADVERTISEMENT


def _directed(packet: bytes, stop: int) -> list[Report] | Skipped:
    reports: list[Report] = []
    at = 5
    for _ in range(packet[4]):
        if at + 16 > stop:
            return Skipped.MALFORMED
        rssi = packet[at + 15]
        reports.append((_rssi(rssi - 256 if rssi > 127 else rssi), packet[at + 2 : at + 8], b"", "ADV_DIRECT_IND"))
        at += 16
    return reports or Skipped.NO_ADVERTISEMENT


def _extended_kind(event_type: int) -> str:
    if event_type & _IS_SCAN_RESPONSE:
        return "SCAN_RSP" if event_type & _IS_LEGACY else "AUX_SCAN_RSP"
    return _LEGACY_PDUS.get(event_type & 0x1F, "ADV_EXT_IND")


def _rssi(value: int) -> int | None:
    """127 means "not available"."""
    return None if value == 127 else value
