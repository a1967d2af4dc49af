"""Our own recordings: what is written is read again; whatever else a line says is counted."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.captures import Advertisement, CaptureReader, Skipped, Ticked, count
from gateway.core.captures.json_lines import HEADER, JsonLines, encode, encode_tick
from gateway.core.model import Counters, Instant
from gateway.core.recording import Selection

milliseconds = st.integers(0, 253_402_300_799_999)
instants = st.builds(Instant, milliseconds, milliseconds)
names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,47}", fullmatch=True)


@given(st.lists(st.tuples(names, st.integers(-128, 127), st.binary(max_size=1650), instants)))
def test_reading_undoes_writing(heard: list[tuple[str, int, bytes, Instant]]) -> None:
    reader = CaptureReader()
    text = HEADER + "".join(encode(receiver, rssi, data, at) + encode_tick(at) for receiver, rssi, data, at in heard)
    found = reader.feed(text.encode("ascii"))
    reader.finish()
    expected: list[Any] = []
    for number, (receiver, rssi, data, at) in enumerate(heard, 1):
        expected.append(Advertisement(number, at.wall_ms * 1_000_000, rssi, None, data, "", receiver, at.mono_ms))
        expected.append(Ticked(at.mono_ms, at.wall_ms))
    assert found == expected
    assert (reader.counts.frames, reader.counts.advertisements, reader.counts.damage) == (len(heard), len(heard), None)


@given(names, st.integers(-200, 200), st.binary(max_size=40), st.integers(0, 10**17), st.integers(0, 10**17), st.booleans())
def test_what_we_write_reads_as_the_same_json_spaced_otherwise(
    receiver: str, rssi: int, data: bytes, mono_ms: int, wall_ms: int, odd: bool
) -> None:
    line = encode(receiver, rssi, data, Instant(mono_ms, wall_ms))
    if odd:
        line = line.replace('"}', '0"}')
    assert JsonLines().feed((HEADER + line).encode()) == JsonLines().feed((HEADER + line.replace(": ", ":")).encode())


GOOD = '{"mono_ms": 1, "wall_ms": 2, "receiver": "pi", "rssi": -60, "data": "020106"}'


@pytest.mark.parametrize(
    "line",
    [
        "",
        "null",
        "[]",
        "{",
        "[" * 8000,
        "{}",
        '{"mono_ms": 1}',
        GOOD.replace("-60", "-600"),
        GOOD.replace("-60", "NaN"),
        GOOD.replace("-60", "true"),
        GOOD.replace("-60", '"-60"'),
        GOOD.replace("020106", "02010"),
        GOOD.replace("020106", "02010G"),
        GOOD.replace("pi", "PI"),
        GOOD.replace("pi", "\\u001b[31m"),
        GOOD.replace("pi", "\\ud800"),
        GOOD.replace('"pi"', "7"),
        GOOD.replace(": 1,", ": -1,"),
        GOOD.replace(": 1,", ": 1.5,"),
        GOOD.replace(": 2,", f": {10**400},"),
        GOOD.replace(": 2,", ": " + "9" * 5000 + ","),
        GOOD.replace("020106", "02" * 1651),
        '{"mono_ms": 1, "wall_ms": 2, "tick": 1}',
    ],
)
def test_a_line_that_is_none_is_counted(line: str) -> None:
    counts = count((HEADER + line + "\n" + GOOD + "\n").encode())
    assert (counts.frames, counts.advertisements, counts.skipped) == (2, 1, {Skipped.MALFORMED: 1})


def test_an_advertisement_may_have_no_rssi() -> None:
    [found] = JsonLines().feed((HEADER + GOOD.replace("-60", "null") + "\n").encode())
    assert isinstance(found, Advertisement)
    assert found.rssi_dbm is None


@given(st.binary(max_size=300))
def test_any_line_is_legal(line: bytes) -> None:
    counts = count(HEADER.encode() + line)
    assert counts.frames == counts.advertisements + sum(counts.skipped.values())


def test_a_recording_takes_what_the_pipeline_has_used_and_nothing_else() -> None:
    counters, selection, everything = Counters(), Selection(), Selection(everything=True)
    taken = []
    for field in ("strangers", "beacons", "no_consent", "sightings", "stale_tokens", "bad_tags", "not_resolved", "beacons"):
        counters.advertisements += 1
        setattr(counters, field, getattr(counters, field) + 1)
        assert everything.takes_latest(counters)
        if selection.takes_latest(counters):
            taken.append(field)
    assert taken == ["beacons", "sightings", "beacons"]
