"""The Bluetooth LE link layer, what a sniffer hears on the air: one packet → the advertisement in it.

::

    packet        access address ×4 (8E89BED6 when advertising) | header ×1 | length ×1 | PDU | CRC ×3     link type 251
    with radio    channel ×1 | signal ×1 (int8, dBm) | noise ×1 | offences ×1 | access address ×4 | flags ×2 | packet    256
                  flags: 0001 de-whitened, 0002 signal valid, 0400 CRC checked, 0800 CRC good, C000 PHY (2 = coded)
    nRF Sniffer   board ×1 | length ×2 | version ×1 (2, 3) | counter ×2 | type ×1 (2, 6) |
                  0A | flags ×1 | channel ×1 | signal ×1 (−dBm) | event ×2 | time ×4 | packet                            272
                  flags: 01 CRC good, 70 PHY (2 = coded)
    legacy PDU    address ×6 | AD structures       header's low 4 bits: 0 ADV_IND, 2 ADV_NONCONN_IND, 4 SCAN_RSP, 6 ADV_SCAN_IND
    directed      address ×6 | target ×6           1 ADV_DIRECT_IND
    extended      length and mode ×1 (6 + 2 bits) | flags ×1 | address ×6 | target ×6 | CTE ×1 | set ×2 | next ×3 | sync ×18 |
                  power ×1 (each only if flagged, bits 0 … 6) | … | AD structures       7, ADV_EXT_IND and its AUX_… relations

Little-endian. On the coded PHY one octet stands between access address and header. Where nobody has checked the CRC it is checked
here. The pieces of an advertisement that is chained over several packets are passed over, never joined: a sniffer may have missed
one. Never raises for any bytes.

Source: Bluetooth Core Specification, Vol 6, Part B, 2.1 … 2.3 and 3.1.1 (CRC); tcpdump.org, LINKTYPE_BLUETOOTH_LE_LL and
LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR; nRF Sniffer for Bluetooth LE, as Wireshark's packet-nordic_ble.c reads it.
"""

from collections.abc import Sequence
from functools import cache
from struct import unpack_from

from gateway.core.captures.records import Report, Skipped

_ADVERTISING = b"\xd6\xbe\x89\x8e"
_LEGACY = ("ADV_IND", None, "ADV_NONCONN_IND", None, "SCAN_RSP", None, "ADV_SCAN_IND", *(None,) * 9)
"""By PDU type."""
_DIRECTED, _EXTENDED = 1, 7
_NO_ADVERTISEMENT = (3, 5, 8)
"""SCAN_REQ, CONNECT_IND and their AUX_ relations, AUX_CONNECT_RSP."""
_MAX_LEGACY = 37
_DE_WHITENED, _HAS_SIGNAL, _IS_CHECKED, _IS_GOOD = 0x0001, 0x0002, 0x0400, 0x0800
_CODED = 2
_NORDIC_VERSIONS = (2, 3)
_NORDIC_PACKETS = (2, 6)
_FIELDS = ((0x01, 6), (0x02, 6), (0x04, 1), (0x08, 2), (0x10, 3), (0x20, 18), (0x40, 1))
"""Of an extended header: flag and size."""
_HAS_ADDRESS, _HAS_SET, _HAS_NEXT = 0x01, 0x08, 0x10
_MAX_CHAINS = 64
_MAX_CHECKED = 4096


class LinkLayer:
    """Reads the packets of one capture in order; remembers at most 64 open chains and 4096 CRCs."""

    __slots__ = ("_chains", "_checked")

    def __init__(self) -> None:
        self._chains: dict[bytes, None] = {}
        """Sets whose next packet continues what a sniffer heard before."""
        self._checked: dict[bytes, bool] = {}
        """Header, PDU and CRC → whether they fit; most packets of a capture repeat."""

    def bare(self, packet: bytes) -> Sequence[Report] | Skipped:
        r"""What a packet of link type 251 advertises.

        >>> LinkLayer().bare(bytes.fromhex("d6be898e 02 09 060504030201 020106 000000"))
        <Skipped.BAD_CRC: 'bad CRC'>
        >>> LinkLayer().bare(bytes.fromhex("d6be898e 02 09 060504030201 020106") + crc(bytes.fromhex("0209060504030201020106")))
        ((None, b'\x06\x05\x04\x03\x02\x01', b'\x02\x01\x06', 'ADV_NONCONN_IND'),)
        """
        return self._read(packet, 0, 4, None, None)

    def with_radio(self, packet: bytes) -> Sequence[Report] | Skipped:
        """What a packet of link type 256 advertises."""
        if len(packet) < 10:
            return Skipped.TRUNCATED
        flags = packet[8] | packet[9] << 8
        if not flags & _DE_WHITENED:
            return Skipped.UNSUPPORTED
        rssi = None
        if flags & _HAS_SIGNAL:
            rssi = packet[1] - 256 if packet[1] > 127 else packet[1]
        is_good = bool(flags & _IS_GOOD) if flags & _IS_CHECKED else None
        return self._read(packet, 10, 15 if flags >> 14 == _CODED else 14, rssi, is_good)

    def nordic(self, packet: bytes) -> Sequence[Report] | Skipped:
        """What a packet of link type 272 advertises."""
        if len(packet) < 17:
            return Skipped.TRUNCATED
        if packet[3] not in _NORDIC_VERSIONS:
            return Skipped.UNSUPPORTED
        if packet[6] not in _NORDIC_PACKETS:
            return Skipped.NO_ADVERTISEMENT
        if packet[7] != 10:
            return Skipped.MALFORMED
        if len(packet) < 7 + packet[1] + 256 * packet[2]:
            return Skipped.TRUNCATED
        flags = packet[8]
        return self._read(packet, 17, 22 if flags >> 4 & 7 == _CODED else 21, -packet[10], flags & 1 == 1)

    def _read(self, packet: bytes, at: int, header: int, rssi: int | None, is_good: bool | None) -> Sequence[Report] | Skipped:
        """The advertisement whose access address is at ``at``; ``is_good`` = what the radio said of its CRC, if anything."""
        if is_good is False:
            return Skipped.BAD_CRC
        size = len(packet)
        if size < header + 2:
            return Skipped.TRUNCATED
        if packet[at : at + 4] != _ADVERTISING:
            return Skipped.NO_ADVERTISEMENT
        length = packet[header + 1]
        body = header + 2
        stop = body + length
        if size < stop + 3:
            return Skipped.TRUNCATED
        if is_good is None and not self._is_good(packet[header : stop + 3]):
            return Skipped.BAD_CRC
        name = _LEGACY[packet[header] & 15]
        if name is None:
            return self._other(packet[header] & 15, packet[body:stop], rssi)
        if not 6 <= length <= _MAX_LEGACY:
            return Skipped.MALFORMED
        return ((rssi, packet[body : body + 6], packet[body + 6 : stop], name),)

    def _other(self, kind: int, body: bytes, rssi: int | None) -> Sequence[Report] | Skipped:
        if kind == _EXTENDED:
            return self._extended(body, rssi)
        if kind == _DIRECTED:
            return ((rssi, body[:6], b"", "ADV_DIRECT_IND"),) if len(body) == 12 else Skipped.MALFORMED
        return Skipped.NO_ADVERTISEMENT if kind in _NO_ADVERTISEMENT else Skipped.UNSUPPORTED

    def _is_good(self, octets: bytes) -> bool:
        is_good = self._checked.get(octets)
        if is_good is None:
            if len(self._checked) >= _MAX_CHECKED:
                self._checked.clear()
            is_good = self._checked[octets] = crc(octets[:-3]) == octets[-3:]
        return is_good

    def _extended(self, body: bytes, rssi: int | None) -> Sequence[Report] | Skipped:
        if not body:
            return Skipped.MALFORMED
        stop = 1 + (body[0] & 0x3F)
        flags = body[1] if stop > 1 and len(body) > 1 else 0
        fields: dict[int, bytes] = {}
        at = 2 if stop > 1 else 1
        for flag, size in _FIELDS:
            if flags & flag:
                fields[flag] = body[at : at + size]
                at += size
        if stop > len(body) or at > stop:
            return Skipped.MALFORMED
        address, data = fields.get(_HAS_ADDRESS), body[stop:]
        advertising_set = fields.get(_HAS_SET, b"")
        continues = address is None and advertising_set in self._chains
        self._chains.pop(advertising_set, None)
        if data and _HAS_NEXT in fields:
            self._open_chain(advertising_set)
            return Skipped.FRAGMENTED
        return Skipped.FRAGMENTED if continues else ((rssi, address, data, "ADV_EXT_IND"),)

    def _open_chain(self, advertising_set: bytes) -> None:
        if len(self._chains) >= _MAX_CHAINS:
            del self._chains[next(iter(self._chains))]
        self._chains[advertising_set] = None


def crc(pdu: bytes) -> bytes:
    """The CRC that follows header and PDU on the air: x²⁴ + x¹⁰ + x⁹ + x⁶ + x⁴ + x³ + x + 1, started with 555555.

    Computed with reversed bits, because the air sends each octet's lowest bit first.

    >>> crc(bytes.fromhex("0209060504030201020106")).hex()
    '9a2aa1'
    """
    table, value = _crc_of_pairs(), 0xAAAAAA
    pairs = len(pdu) // 2
    for pair in unpack_from(f"<{pairs}H", pdu):
        value = value >> 16 ^ table[(value ^ pair) & 0xFFFF]
    if len(pdu) % 2:
        value = value >> 8 ^ _CRC_TABLE[(value ^ pdu[-1]) & 0xFF]
    return value.to_bytes(3, "little")


@cache
def _crc_of_pairs() -> tuple[int, ...]:
    """Two octets at once: half the steps. Only captures whose CRCs nobody has checked need it, so it is made by the first."""
    one = _CRC_TABLE
    return tuple(one[first] >> 8 ^ one[(second ^ one[first]) & 0xFF] for second in range(256) for first in range(256))


def _crc_of_octet(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ 0xDA6000 if value & 1 else value >> 1
    return value


_CRC_TABLE = tuple(_crc_of_octet(octet) for octet in range(256))
