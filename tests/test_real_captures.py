"""Captures that others recorded: on every advertisement with a good CRC we read what tshark reads.

The data are no part of the project. They hold addresses of people's devices: nothing here prints any, not even when it fails.
"""

import csv
import gzip
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.ad_structures import AdStructure, iterate
from gateway.core.captures import Advertisement, CaptureReader, Counts, Skipped

REAL_DATA = os.environ.get("GATEWAY_REAL_DATA")
FOLDER = Path(REAL_DATA or "/nonexistent") / "captures"
CAPTURES = (
    "blakete_hackrf/short_ble_sniff.pcap",
    "blakete_hackrf/take_2_ble_all_adv.pcap",
    "blakete_hackrf/take_3_adv37.pcap",
    "blakete_hackrf/take_3_adv39_2.pcap",
    "csacca_android/btsnoop_hci.log",
    "mitll_static/anechoic_nrf52_000.pcapng",
    "mitll_static/conf_room_nrf52_000.pcapng",
    "mitll_static/courtyard_ubertooth_000.pcapng",
)
ADVERTISING_PDUS = {"0x00", "0x01", "0x02", "0x04", "0x06", "0x07"}

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(),
    reason="GATEWAY_REAL_DATA names no folder with captures/ (recordings of others, and their decodes by tshark)",
)


def read(capture: str) -> tuple[dict[int, Advertisement], Counts]:
    reader = CaptureReader()
    found = [item for item in reader.feed((FOLDER / capture).read_bytes()) if isinstance(item, Advertisement)]
    reader.finish()
    by_number = {item.number: item for item in found}
    assert len(by_number) == len(found), "a frame holds one advertisement in these captures"
    return by_number, reader.counts


def rows(capture: str) -> Iterator[dict[str, str]]:
    with gzip.open(FOLDER / "oracle_tshark" / f"{capture.replace('/', '__')}.csv.gz", "rt", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def is_advertisement(row: dict[str, str]) -> bool:
    return "bthci_evt.rssi" in row or row["btle.advertising_header.pdu_type"] in ADVERTISING_PDUS


def is_flagged(row: dict[str, str]) -> bool:
    """Whether tshark, or the radio, says that this frame is broken."""
    return row.get("btle.crc.incorrect") == "1" or row.get("nordic_ble.crcok") == "0" or bool(row.get("_ws.malformed"))


def by_tshark(row: dict[str, str]) -> tuple[str, str, str, int]:
    address = row.get("bthci_evt.bd_addr") or row["btle.advertising_address"]
    rssi = row.get("bthci_evt.rssi") or row.get("nordic_ble.rssi") or row.get("btle_rf.signal_dbm") or ""
    return address, rssi, row["btcommon.eir_ad.entry.type"], int(row["frame.time_epoch"].replace(".", ""))


def by_us(found: Advertisement) -> tuple[str, str, str, int]:
    types = ";".join(f"0x{s.ad_type:02x}" for s in iterate(found.data) if isinstance(s, AdStructure))
    rssi = "" if found.rssi_dbm is None else str(found.rssi_dbm)
    return found.address_text or "", rssi, types, found.time_ns or 0


@pytest.mark.parametrize("capture", CAPTURES)
def test_every_advertisement_with_a_good_crc_reads_as_tshark_reads_it(capture: str) -> None:
    found, _ = read(capture)
    expected = {
        int(row["frame.number"]): by_tshark(row) for row in rows(capture) if is_advertisement(row) and not is_flagged(row)
    }
    assert expected
    different = [number for number, fields in expected.items() if number not in found or by_us(found[number]) != fields]
    assert not different, f"{len(different)} of {len(expected)} advertisements differ, the first in frame {different[0]}"
    more = sorted(found.keys() - expected.keys())
    assert not more, f"{len(more)} frames are no advertisements to tshark, the first is {more[0]}"


@pytest.mark.parametrize("capture", CAPTURES)
def test_every_frame_is_an_advertisement_or_counted_with_its_reason(capture: str) -> None:
    found, counts = read(capture)
    assert counts.damage is None
    assert counts.frames == len(found) + sum(counts.skipped.values())
    said = Counter(
        "wrong CRC" for row in rows(capture) if row.get("btle.crc.incorrect") == "1" or row.get("nordic_ble.crcok") == "0"
    )
    # tshark checks no CRC where it stops early, so it finds fewer.
    assert counts.skipped.get(Skipped.BAD_CRC, 0) + counts.skipped.get(Skipped.TRUNCATED, 0) >= said["wrong CRC"]


def test_the_share_of_bad_crcs_is_what_the_recordings_are_known_for() -> None:
    shares = {}
    for capture in CAPTURES:
        _, counts = read(capture)
        shares[capture] = counts.skipped.get(Skipped.BAD_CRC, 0) / counts.frames
    assert shares["csacca_android/btsnoop_hci.log"] == 0
    assert all(0.03 < share < 0.09 for capture, share in shares.items() if "nrf52" in capture)
    assert all(0.08 < share < 0.26 for capture, share in shares.items() if "hackrf" in capture)
