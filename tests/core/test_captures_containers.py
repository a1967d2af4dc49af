"""Files: every octet of a frame arrives whatever wrote it and however it is cut; what is wrong is told, never raised."""

import struct
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.captures import Advertisement, CaptureReader, Counts, Skipped, Ticked, count, json_lines
from gateway.core.model import Instant
from gateway.errors import ConfigurationError
from tests.core import capture_files as files
from tests.core.capture_files import FLAGS, legacy_report

REPORT = legacy_report()
RECORDING = (
    json_lines.HEADER + json_lines.encode("pi", -59, FLAGS, Instant(1, 1000)) + json_lines.encode_tick(Instant(2, 1001))
).encode()
SECOND_NS = 1_000_000_000

FILES = {
    "btsnoop of H4": files.btsnoop(REPORT, REPORT),
    "btsnoop of H1": files.btsnoop(REPORT[1:], REPORT[1:], datalink=1001),
    "pcap": files.pcap(REPORT, REPORT),
    "pcap with direction": files.pcap(bytes(4) + REPORT, bytes(4) + REPORT, link_type=201),
    "pcap, big-endian": files.pcap(REPORT, REPORT, order=">"),
    "pcap, nanoseconds": files.pcap(REPORT, REPORT, nanoseconds=True),
    "pcap, big-endian, nanoseconds": files.pcap(REPORT, REPORT, order=">", nanoseconds=True),
    "pcap of the link layer": files.pcap(files.legacy(), files.legacy(), link_type=251),
    "pcap of the link layer with radio": files.pcap(*[files.with_radio(files.legacy())] * 2, link_type=256),
    "pcap of the nRF Sniffer": files.pcap(*[files.nordic(files.legacy())] * 2, link_type=272),
    "pcapng": files.pcapng(REPORT, REPORT),
    "pcapng, big-endian": files.pcapng(REPORT, REPORT, order=">"),
}


def read(file: bytes, piece: int = 1 << 20) -> tuple[list[Advertisement | Ticked], Counts]:
    reader = CaptureReader()
    found: list[Advertisement | Ticked] = []
    for at in range(0, len(file), piece):
        found += reader.feed(file[at : at + piece])
    reader.finish()
    return found, reader.counts


def advertisements(file: bytes) -> list[Advertisement]:
    return [item for item in read(file)[0] if isinstance(item, Advertisement)]


@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
def test_every_container_gives_the_same_two_advertisements(file: bytes) -> None:
    found, counts = read(file)
    assert [item.number for item in found if isinstance(item, Advertisement)] == [1, 2]
    for item in found:
        assert isinstance(item, Advertisement)
        assert item.data == FLAGS
        assert item.address_text == "01:02:03:04:05:06"
        assert item.rssi_dbm == (None if file is FILES["pcap of the link layer"] else -59)
        assert item.kind == "ADV_NONCONN_IND"
    assert (counts.frames, counts.advertisements, counts.skipped, counts.damage) == (2, 2, {}, None)


@pytest.mark.parametrize("file", [*FILES.values(), RECORDING], ids=[*FILES, "recording"])
def test_pieces_of_any_size_give_the_same(file: bytes) -> None:
    whole = read(file)
    assert all(read(file, piece) == whole for piece in (1, 2, 3, 7, 16, 33))


@pytest.mark.parametrize("file", [*FILES.values(), RECORDING], ids=[*FILES, "recording"])
def test_a_file_cut_anywhere_gives_what_came_before_and_says_so(file: bytes) -> None:
    whole, _ = read(file)
    seen = []
    for size in range(13, len(file)):
        found, counts = read(file[:size])
        assert found == whole[: len(found)]
        # Between two records nobody can know that more was to come.
        assert (counts.damage is None) == (file[:size] in boundaries(file))
        seen.append(len(found))
    assert all(before <= after for before, after in pairwise(seen))


def boundaries(file: bytes) -> set[bytes]:
    """What of ``file`` is a whole file itself."""
    if file == RECORDING:
        return {file[: at + 1] for at, octet in enumerate(file) if octet == ord("\n")}
    if file[:4] == b"\n\r\r\n":
        order = "<" if file[8] == 0x4D else ">"
        ends, at = set(), 0
        while at < len(file):
            at += struct.unpack_from(order + "I", file, at + 4)[0]
            ends.add(file[:at])
        return ends
    head, record = (16, 24) if file.startswith(b"btsnoop") else (24, 16)
    frame = (len(file) - head) // 2 - record
    return {file[:head], file[: head + record + frame]}


@pytest.mark.parametrize(
    ("file", "times"),
    [
        (files.btsnoop(REPORT, REPORT), [1000, 2000]),
        (files.pcap(REPORT, REPORT), [SECOND_NS, SECOND_NS + 1000]),
        (files.pcap(REPORT, REPORT, nanoseconds=True, order=">"), [SECOND_NS, SECOND_NS + 1]),
        (files.section() + files.interface() + files.enhanced(REPORT, units=7), [7000]),
        (files.section() + files.interface(options=files.option(9, b"\x09")) + files.enhanced(REPORT, units=7), [7]),
        (files.section() + files.interface(options=files.option(9, b"\x8a")) + files.enhanced(REPORT, units=1024), [SECOND_NS]),
        (files.section() + files.interface(options=files.option(9, b"\x0c")) + files.enhanced(REPORT, units=7000), [7]),
        (
            files.section()
            + files.interface(options=files.option(2, b"abc") + files.option(14, struct.pack("<q", 5)) + bytes(4))
            + files.enhanced(REPORT, units=7, options=files.option(1, b"comment")),
            [5 * SECOND_NS + 7000],
        ),
        (files.section() + files.interface() + files.enhanced(REPORT, units=2**64 - 1), [None]),
        (files.section() + files.interface(options=files.option(14, struct.pack("<q", -9))) + files.enhanced(REPORT), [None]),
        (files.section() + files.interface() + files.block(3, struct.pack("<I", len(REPORT)) + REPORT), [None]),
        (
            files.section() + files.interface() + files.block(2, struct.pack("<HHIIII", 0, 9, 0, 7, 18, 18) + REPORT),
            [7000],
        ),
    ],
    ids=["btsnoop", "pcap", "pcap ns", "µs", "ns", "2^-10 s", "ps", "offset", "too late", "before 1970", "simple", "obsolete"],
)
def test_times_are_nanoseconds_since_1970_or_absent(file: bytes, times: list[int | None]) -> None:
    assert [item.time_ns for item in advertisements(file)] == times


def test_each_interface_and_each_section_of_a_pcapng_file_has_its_own_rules() -> None:
    file = (
        files.section()
        + files.interface(187)
        + files.interface(251, files.option(9, b"\x09"))
        + files.block(0x0BAD, b"something else entirely")
        + files.enhanced(files.legacy(), number=1, units=5)
        + files.enhanced(REPORT, number=0, units=5)
        + files.enhanced(REPORT, number=2)
        + files.section(">")
        + files.interface(187, order=">")
        + files.enhanced(REPORT, units=6, order=">")
    )
    found, counts = read(file)
    assert [(item.number, item.time_ns) for item in found if isinstance(item, Advertisement)] == [(1, 5), (2, 5000), (4, 6000)]
    assert counts.skipped == {Skipped.MALFORMED: 1}


@pytest.mark.parametrize(
    ("file", "skipped"),
    [
        (files.pcap(REPORT, cut=1), Skipped.TRUNCATED),
        (files.btsnoop(REPORT, cut=1), Skipped.TRUNCATED),
        (files.section() + files.interface() + files.enhanced(REPORT, cut=1), Skipped.TRUNCATED),
        (
            files.section() + files.interface(longest=4) + files.block(3, struct.pack("<I", len(REPORT)) + REPORT[:4]),
            Skipped.TRUNCATED,
        ),
        (files.section() + files.interface() + files.block(3, struct.pack("<I", 99) + REPORT), Skipped.MALFORMED),
        (files.section() + files.interface() + files.block(3, b""), Skipped.MALFORMED),
        (files.section() + files.interface() + files.block(6, b""), Skipped.MALFORMED),
        (files.section() + files.block(1, b"") + files.enhanced(REPORT), Skipped.UNSUPPORTED),
        (files.section() + files.interface() + files.block(2, struct.pack("<HHIIII", 0, 0, 0, 0, 99, 99)), Skipped.MALFORMED),
        (files.pcap(REPORT, link_type=1), Skipped.UNSUPPORTED),
        (files.btsnoop(REPORT, datalink=2001), Skipped.UNSUPPORTED),
        (files.btsnoop(REPORT[1:], datalink=1001, flags=2), Skipped.NO_ADVERTISEMENT),
        (files.btsnoop(REPORT[1:], datalink=1001, flags=0), Skipped.NO_ADVERTISEMENT),
        (files.pcap(b""), Skipped.TRUNCATED),
    ],
)
def test_a_bad_frame_is_counted_and_the_next_is_read(file: bytes, skipped: Skipped) -> None:
    counts = count(file)
    assert (counts.frames, counts.advertisements, counts.skipped, counts.damage) == (1, 0, {skipped: 1}, None)


def test_a_link_type_that_is_not_read_is_named() -> None:
    assert count(files.pcap(REPORT, link_type=1)).other_link_types == {1}


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        (files.pcap(REPORT) + b"\xff" * 16, "no record at byte 58"),
        (files.pcap(REPORT) + bytes(100), "no record at byte 58"),
        (files.btsnoop(REPORT) + b"\xff" * 24, "no record at byte 58"),
        (files.btsnoop(REPORT) + bytes(24), "no record at byte 58"),
        (b"btsnoop\0" + struct.pack(">II", 2, 1002), "btsnoop version 2 is not known"),
        (files.pcapng(REPORT) + bytes(12), "no block at byte 100"),
        (files.pcapng(REPORT) + struct.pack("<III", 6, 0xFFFFFFFC, 0), "no block at byte 100"),
        (files.pcapng(REPORT) + struct.pack("<III", 7, 13, 0), "no block at byte 100"),
        (files.pcapng(REPORT) + b"\n\r\r\n" + bytes(8), "no byte order at byte 100"),
        (files.pcapng(REPORT) + struct.pack("<III", 7, 12, 13), "a block that does not end as it begins at byte 100"),
        (files.pcapng(REPORT) + struct.pack("<III", 7, 0xFFFFFFFC, 0), "it ends inside frame 2"),
        (files.pcapng(REPORT) + files.interface() * 1024, "more than 1024 interfaces before byte"),
        (RECORDING + b"\x00" * 9000, "a line of more than 8192 octets"),
        (RECORDING + b"y\n" * 2000, "1000 lines on end are none of a recording"),
        (b'{"recording": "other"}\n', "the first line is none of a recording"),
        (b'{"recording": "beacon-gateway", "version": 2}\n', "the recording is of a newer version"),
        (b'{"recording"\n' + RECORDING, "the first line is none of a recording"),
    ],
)
def test_damage_ends_the_reading_and_is_told(file: bytes, damage: str) -> None:
    found, counts = read(file)
    assert counts.damage is not None
    assert counts.damage.startswith(damage)
    more = CaptureReader()
    more.feed(file)
    assert more.feed(file) == [] or counts.damage.startswith("it ends")
    assert len(found) <= 2


@pytest.mark.parametrize(
    ("file", "what"),
    [
        (b"", "is empty"),
        (b"\n", "is no capture"),
        (bytes(100), "is no capture"),
        (b"\x1f\x8b" + bytes(20), "is packed with gzip"),
        (b"PK\x03\x04" + bytes(20), "is packed with zip"),
        (b"[1, 2, 3]\n" * 10, "is no capture"),
    ],
)
def test_what_is_no_capture_is_refused_in_words(file: bytes, what: str) -> None:
    with pytest.raises(ConfigurationError, match=what):
        count(file)


HEADS = [
    b"btsnoop\0\0\0\0\1\0\0\3\xea",
    files.pcap(),
    files.pcap(order=">", link_type=272),
    files.section() + files.interface(256),
]


@given(st.sampled_from([*HEADS, RECORDING, b""]), st.binary(max_size=400), st.integers(1, 50))
def test_any_bytes_are_legal_in_pieces_of_any_size(head: bytes, rest: bytes, piece: int) -> None:
    try:
        whole = read(head + rest)
    except ConfigurationError:
        assert not head
        return
    assert read(head + rest, piece) == whole
    _, counts = whole
    assert counts.frames >= sum(counts.skipped.values())


@given(st.sampled_from(list(FILES.values())), st.data())
def test_a_changed_octet_never_raises(file: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(12, len(file) - 1))
    octet = data.draw(st.binary(min_size=1, max_size=1))
    _, counts = read(file[:at] + octet + file[at + 1 :])
    assert counts.frames <= 3


@pytest.mark.parametrize(
    ("head", "rest"),
    [
        (files.pcap(), struct.pack("<IIII", 1, 1, 262_144, 262_144)),
        (files.btsnoop(), struct.pack(">IIIIq", 262_144, 262_144, 3, 0, files.EPOCH_US)),
        (files.section() + files.interface(), struct.pack("<II", 0x0BAD, 0xFFFFFFFC)),
        (files.section() + files.interface(), struct.pack("<II", 6, 300_000)),
        (RECORDING, b""),
    ],
)
def test_memory_stays_bounded_whatever_a_length_promises(head: bytes, rest: bytes) -> None:
    reader = CaptureReader()
    reader.feed(head + rest)
    piece = b"\x01" * 65_536
    tracemalloc.start()
    try:
        for _ in range(200):
            reader.feed(piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000
