"""Recordings on disk: readable by their owner alone, bounded, and never the end of the gateway."""

import logging
import os
from pathlib import Path

import pytest

from gateway.core.captures import count
from gateway.core.model import Counters, Instant
from gateway.errors import ConfigurationError
from gateway.io.recorder import Recorder


def record(recorder: Recorder, counters: Counters, at_ms: int) -> None:
    recorder.heard("pi", -60, b"\x02\x01\x06", Instant(at_ms, at_ms), counters)


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Recorder(tmp_path / "walk", minutes=1).close()
    finally:
        os.umask(before)
    assert (tmp_path / "walk").stat().st_mode & 0o777 == 0o600


def test_what_the_pipeline_used_is_in_it_and_strangers_are_not(tmp_path: Path) -> None:
    recorder, counters = Recorder(tmp_path / "walk", minutes=1), Counters()
    for number in range(10):
        counters.advertisements += 1
        counters.beacons += number % 2
        record(recorder, counters, number)
        recorder.ticked(Instant(number, number))
    recorder.close()
    recorder.close()
    record(recorder, counters, 99)
    assert count((tmp_path / "walk").read_bytes()).advertisements == recorder.advertisements == 5


def test_everything_means_everything(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "walk", minutes=1, everything=True)
    for number in range(10):
        record(recorder, Counters(), number)
    recorder.close()
    assert count((tmp_path / "walk").read_bytes()).advertisements == 10


@pytest.mark.parametrize("limits", [{"minutes": 1}, {"minutes": 1000, "most_octets": 60_000}], ids=["time", "size"])
def test_a_full_recording_is_closed_and_whole(tmp_path: Path, limits: dict[str, int], caplog: pytest.LogCaptureFixture) -> None:
    recorder, counters = Recorder(tmp_path / "walk", everything=True, **limits), Counters()
    for number in range(1300):
        record(recorder, counters, number * 100)
    counts = count((tmp_path / "walk").read_bytes())
    assert counts.damage is None
    assert counts.advertisements == recorder.advertisements == (600 if "most_octets" not in limits else recorder.advertisements)
    assert (tmp_path / "walk").stat().st_size < 60_200 or "most_octets" not in limits
    assert [r.levelname for r in caplog.records] == ["WARNING"]


def test_a_file_that_exists_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "walk").write_text("precious")
    with pytest.raises(ConfigurationError, match="exists already"):
        Recorder(tmp_path / "walk", minutes=1)
    with pytest.raises(ConfigurationError, match="cannot be written"):
        Recorder(tmp_path / "nowhere" / "walk", minutes=1)
    assert (tmp_path / "walk").read_text() == "precious"


def test_a_full_disk_ends_the_recording_alone(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    # Opened without O_EXCL, because the device that is always full exists already.
    monkeypatch.setattr(os, "O_EXCL", 0)
    with caplog.at_level(logging.ERROR):
        recorder = Recorder(Path("/dev/full"), minutes=1, everything=True)
        record(recorder, Counters(), 1)
        recorder.close()
    assert [r.levelname for r in caplog.records] == ["ERROR"]
