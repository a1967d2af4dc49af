"""Packets of a host (HCI) and of a sniffer (link layer): which advertisements are in them, and why there is none."""

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.captures.ble_link_layer import LinkLayer
from gateway.core.captures.hci import Hci
from gateway.core.captures.records import Report, Skipped
from tests.core.capture_files import (
    ADDRESS,
    FLAGS,
    extended,
    extended_report,
    legacy,
    legacy_report,
    nordic,
    on_air,
    pdu,
    with_radio,
)

NAME = bytes.fromhex("0308686f")
Found = Sequence[Report] | Skipped


def event(*body: int, octets: bytes = b"") -> bytes:
    whole = bytes(body) + octets
    return bytes((4, 0x3E, len(whole))) + whole


def report_of(rssi: int | None = -59, data: bytes = FLAGS, kind: str = "ADV_NONCONN_IND") -> list[Report]:
    return [(rssi, ADDRESS, data, kind)]


HCI_PACKETS: dict[str, tuple[bytes, Found]] = {
    "legacy report": (legacy_report(), report_of()),
    "connectable": (legacy_report(kind=0), report_of(kind="ADV_IND")),
    "directed": (legacy_report(b"", kind=1), report_of(data=b"", kind="ADV_DIRECT_IND")),
    "scannable": (legacy_report(kind=2), report_of(kind="ADV_SCAN_IND")),
    "scan response": (legacy_report(kind=4), report_of(kind="SCAN_RSP")),
    "no data": (legacy_report(b""), report_of(data=b"")),
    "no RSSI": (legacy_report(rssi=127), report_of(rssi=None)),
    "two reports": (
        event(2, 2, octets=(b"\x03\x01" + ADDRESS + b"\x00\xc5") * 2),
        [*report_of(data=b""), *report_of(data=b"")],
    ),
    "no reports": (event(2, 0), Skipped.NO_ADVERTISEMENT),
    "one report of two": (event(2, 2, octets=b"\x03\x01" + ADDRESS + b"\x00\xc5"), Skipped.MALFORMED),
    "data beyond the event": (event(2, 1, octets=b"\x03\x01" + ADDRESS + b"\x09\x02\xc5"), Skipped.MALFORMED),
    "unknown event type": (legacy_report(kind=9), Skipped.UNSUPPORTED),
    "directed report": (
        event(11, 1, octets=b"\x01\x01" + ADDRESS + b"\x01" + bytes(6) + b"\xc5"),
        report_of(-59, b"", "ADV_DIRECT_IND"),
    ),
    "directed report, cut": (event(11, 1, octets=b"\x01\x01" + ADDRESS), Skipped.MALFORMED),
    "extended, legacy PDU": (extended_report(kind=0x10), report_of()),
    "extended, legacy connectable": (extended_report(kind=0x13), report_of(kind="ADV_IND")),
    "extended, legacy scan response": (extended_report(kind=0x1A), report_of(kind="SCAN_RSP")),
    "extended": (extended_report(kind=0), report_of(kind="ADV_EXT_IND")),
    "extended scan response": (extended_report(kind=8), report_of(kind="AUX_SCAN_RSP")),
    "extended without RSSI": (extended_report(kind=0, rssi=127), report_of(None, kind="ADV_EXT_IND")),
    "extended, anonymous": (extended_report(address_type=0xFF), [(-59, None, FLAGS, "ADV_EXT_IND")]),
    "extended, more to come": (extended_report(kind=0x20), Skipped.FRAGMENTED),
    "extended, cut off": (extended_report(kind=0x40), Skipped.TRUNCATED),
    "extended, too short": (event(13, 1, octets=bytes(10)), Skipped.MALFORMED),
    "extended, data beyond the event": (event(13, 1, octets=bytes(23) + b"\x09"), Skipped.MALFORMED),
    "other LE event": (event(1, 0), Skipped.NO_ADVERTISEMENT),
    "other event": (bytes.fromhex("040e0401030c00"), Skipped.NO_ADVERTISEMENT),
    "command": (bytes.fromhex("01030c00"), Skipped.NO_ADVERTISEMENT),
    "empty event": (b"\x04\x3e\x00", Skipped.MALFORMED),
    "nothing": (b"", Skipped.TRUNCATED),
}


@pytest.mark.parametrize(("packet", "expected"), HCI_PACKETS.values(), ids=HCI_PACKETS)
def test_hci_packet_gives_its_advertisements_or_the_reason_why_not(packet: bytes, expected: Found) -> None:
    assert Hci().h4(packet) == expected
    assert Hci().h4_with_direction(bytes(4) + packet) == expected


@pytest.mark.parametrize("packet", [legacy_report(), extended_report(), HCI_PACKETS["two reports"][0]])
def test_hci_packet_cut_anywhere_is_truncated(packet: bytes) -> None:
    assert all(isinstance(Hci().h4(packet[:size]), Skipped) for size in range(len(packet)))
    assert Hci().h4(packet[:-1]) is Skipped.TRUNCATED


def test_fragments_of_an_extended_advertisement_are_joined_in_order() -> None:
    hci = Hci()
    assert hci.h4(extended_report(FLAGS, kind=0x20)) is Skipped.FRAGMENTED
    assert hci.h4(extended_report(b"\x01", kind=0x20, advertising_set=1)) is Skipped.FRAGMENTED
    assert hci.h4(extended_report(NAME)) == report_of(data=FLAGS + NAME, kind="ADV_EXT_IND")
    assert hci.h4(extended_report(NAME)) == report_of(data=NAME, kind="ADV_EXT_IND")


def test_a_fragmented_advertisement_that_was_cut_off_leaves_nothing_behind() -> None:
    hci = Hci()
    hci.h4(extended_report(FLAGS, kind=0x20))
    assert hci.h4(extended_report(NAME, kind=0x40)) is Skipped.TRUNCATED
    assert hci.h4(extended_report(NAME)) == report_of(data=NAME, kind="ADV_EXT_IND")


def test_fragments_without_end_are_bounded() -> None:
    hci = Hci()
    piece = bytes(220)
    for _ in range(8):
        assert hci.h4(extended_report(piece, kind=0x20)) is Skipped.FRAGMENTED
    assert hci.h4(extended_report(piece)) is Skipped.TRUNCATED
    for advertising_set in range(200):
        hci.h4(extended_report(piece, kind=0x20, advertising_set=advertising_set))
    assert hci.h4(extended_report(FLAGS, advertising_set=0)) == report_of(kind="ADV_EXT_IND")
    assert hci.h4(extended_report(FLAGS, advertising_set=199)) == report_of(data=piece + FLAGS, kind="ADV_EXT_IND")


SET, NEXT = b"\x34\x12", b"\x01\x02\x03"
PACKETS: dict[str, tuple[bytes, Found]] = {
    "ADV_IND": (legacy(0), report_of(None, kind="ADV_IND")),
    "ADV_NONCONN_IND": (legacy(2), report_of(None)),
    "SCAN_RSP": (legacy(4), report_of(None, kind="SCAN_RSP")),
    "ADV_SCAN_IND": (legacy(6), report_of(None, kind="ADV_SCAN_IND")),
    "no data": (legacy(2, b""), report_of(None, b"")),
    "31 octets": (legacy(2, bytes(31)), report_of(None, bytes(31))),
    "32 octets": (legacy(2, bytes(32)), Skipped.MALFORMED),
    "no whole address": (on_air(pdu(2, ADDRESS[:5])), Skipped.MALFORMED),
    "ADV_DIRECT_IND": (on_air(pdu(1, ADDRESS + bytes(6))), report_of(None, b"", "ADV_DIRECT_IND")),
    "ADV_DIRECT_IND, short": (on_air(pdu(1, ADDRESS)), Skipped.MALFORMED),
    "SCAN_REQ": (on_air(pdu(3, ADDRESS + bytes(6))), Skipped.NO_ADVERTISEMENT),
    "CONNECT_IND": (on_air(pdu(5, bytes(34))), Skipped.NO_ADVERTISEMENT),
    "reserved type": (on_air(pdu(12, bytes(6))), Skipped.UNSUPPORTED),
    "bad CRC": (legacy()[:-1] + b"\x00", Skipped.BAD_CRC),
    "a bit flipped": (legacy()[:12] + bytes((legacy()[12] ^ 1,)) + legacy()[13:], Skipped.BAD_CRC),
    "data channel": (on_air(pdu(2, ADDRESS), bytes(4)), Skipped.NO_ADVERTISEMENT),
    "extended, all fields": (
        extended(0x7F, ADDRESS + bytes(6) + b"\x00" + SET + NEXT + bytes(18) + b"\x7f"),
        report_of(None, b"", "ADV_EXT_IND"),
    ),
    "extended, pointer only": (extended(0x18, SET + NEXT), [(None, None, b"", "ADV_EXT_IND")]),
    "auxiliary": (extended(0x09, ADDRESS + SET, FLAGS), report_of(None, kind="ADV_EXT_IND")),
    "auxiliary without header": (extended(0, b"", FLAGS), [(None, None, FLAGS, "ADV_EXT_IND")]),
    "auxiliary that goes on": (extended(0x19, ADDRESS + SET + NEXT, FLAGS), Skipped.FRAGMENTED),
    "extended, field beyond the header": (extended(0x01, ADDRESS[:3], FLAGS), Skipped.MALFORMED),
    "extended, header beyond the PDU": (on_air(pdu(7, b"\x3f\x01" + ADDRESS)), Skipped.MALFORMED),
    "extended, empty": (on_air(pdu(7, b"")), Skipped.MALFORMED),
    "nothing": (b"", Skipped.TRUNCATED),
}


def with_rssi(found: Found, rssi: int) -> list[Report] | Skipped:
    return found if isinstance(found, Skipped) else [(rssi, *rest) for _, *rest in found]  # type: ignore[misc]


def listed(found: Found) -> list[Report] | Skipped:
    return found if isinstance(found, Skipped) else list(found)


@pytest.mark.parametrize(("packet", "expected"), PACKETS.values(), ids=PACKETS)
def test_packet_on_the_air_gives_its_advertisement_or_the_reason_why_not(packet: bytes, expected: Found) -> None:
    assert listed(LinkLayer().bare(packet)) == expected
    assert listed(LinkLayer().with_radio(with_radio(packet))) == with_rssi(expected, -59)
    if expected is not Skipped.BAD_CRC:
        assert listed(LinkLayer().nordic(nordic(packet))) == with_rssi(expected, -59)


@pytest.mark.parametrize("packet", [legacy(), PACKETS["extended, all fields"][0]])
def test_packet_cut_anywhere_is_truncated(packet: bytes) -> None:
    for size in range(len(packet)):
        assert LinkLayer().bare(packet[:size]) in {Skipped.TRUNCATED, Skipped.NO_ADVERTISEMENT}
        assert LinkLayer().with_radio(with_radio(packet)[: 10 + size]) is Skipped.TRUNCATED or size >= 4
        assert LinkLayer().nordic(nordic(packet)[: 17 + size]) is Skipped.TRUNCATED


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (0x0001, report_of(None)),
        (0x0002, Skipped.UNSUPPORTED),
        (0x0403, Skipped.BAD_CRC),
        (0x0C03, report_of()),
        (0x0803, report_of()),
        (0x8003, Skipped.BAD_CRC),
    ],
    ids=["no signal", "whitened", "CRC checked and bad", "CRC good", "CRC said good, not checked", "coded"],
)
def test_radio_header_says_what_is_known_of_a_packet(flags: int, expected: Found) -> None:
    assert listed(LinkLayer().with_radio(with_radio(legacy(), flags))) == expected


def test_the_radios_verdict_on_the_crc_counts() -> None:
    broken = legacy()[:-3] + bytes(3)
    assert listed(LinkLayer().with_radio(with_radio(broken, 0x0C03))) == report_of()
    assert listed(LinkLayer().nordic(nordic(broken, flags=1))) == report_of()
    assert LinkLayer().nordic(nordic(legacy(), flags=0)) is Skipped.BAD_CRC


def test_on_the_coded_phy_an_octet_comes_before_the_header() -> None:
    coded = legacy()[:4] + b"\x01" + legacy()[4:]
    assert listed(LinkLayer().with_radio(with_radio(coded, 0x8003))) == report_of()
    assert listed(LinkLayer().nordic(nordic(coded, flags=0x21))) == report_of()


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (nordic(legacy(), version=1), Skipped.UNSUPPORTED),
        (nordic(legacy(), version=3, kind=2), report_of()),
        (nordic(legacy(), kind=9), Skipped.NO_ADVERTISEMENT),
        (nordic(legacy())[:7] + b"\x09" + nordic(legacy())[8:], Skipped.MALFORMED),
        (nordic(legacy(), signal=0), report_of(0)),
    ],
)
def test_sniffer_header_is_checked(packet: bytes, expected: Found) -> None:
    assert listed(LinkLayer().nordic(packet)) == expected


def test_chained_packets_are_never_taken_for_an_advertisement() -> None:
    layer = LinkLayer()
    assert layer.bare(extended(0x19, ADDRESS + SET + NEXT, FLAGS)) is Skipped.FRAGMENTED
    assert layer.bare(extended(0x18, SET + NEXT, NAME)) is Skipped.FRAGMENTED
    assert layer.bare(extended(0x08, SET, NAME)) is Skipped.FRAGMENTED
    assert listed(layer.bare(extended(0x09, ADDRESS + SET, NAME))) == report_of(None, NAME, "ADV_EXT_IND")
    for number in range(200):
        layer.bare(extended(0x18, struct.pack("<H", number) + NEXT, FLAGS))
    assert isinstance(layer.bare(extended(0x08, b"\x00\x00", NAME)), tuple)
    assert layer.bare(extended(0x08, b"\xc7\x00", NAME)) is Skipped.FRAGMENTED


@given(st.lists(st.binary(max_size=80), max_size=8))
def test_any_packets_are_legal(packets: list[bytes]) -> None:
    hci, layer = Hci(), LinkLayer()
    for packet in packets:
        for found in (
            hci.h4(packet),
            hci.h4(b"\x04\x3e" + bytes((len(packet),)) + packet),
            layer.bare(packet),
            layer.bare(on_air(packet)),
            layer.with_radio(packet),
            layer.nordic(packet),
            layer.nordic(nordic(packet)),
        ):
            assert isinstance(found, Skipped) or all(len(data) <= 1650 for _, _, data, _ in found)
