"""`gateway replay` and `gateway scan` as a technician meets them: what they print, what they never print, how they end."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateway.core.captures import json_lines
from gateway.core.model import Instant
from tests.cli.told import keys_told
from tests.core import capture_files as files
from tests.core.capture_files import legacy, legacy_report

GATEWAY = str(Path(sys.executable).with_name("gateway"))
BEACON = bytes.fromhex("0201061aff4c000215e2c56db5dffb48d2b060d0f5a71096e000640001c5")
BROKEN_BEACON = bytes.fromhex("0201061aff4c000215e2c5")
ADDRESS = re.compile(r"(?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}")
KEYS = ["number", "time", "rssi", "ad", "frame", "reject"]


def run(*arguments: str, stdin: bytes = b"", within_s: float = 100) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([GATEWAY, *arguments], input=stdin, capture_output=True, timeout=within_s, check=False)
    said = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
    assert "Traceback" not in said.stderr + said.stdout
    return said


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "walk.pcap"
    reports = [
        legacy_report(BEACON, -60),
        legacy_report(BEACON, -70),
        legacy_report(BROKEN_BEACON),
        legacy_report(b"\x03\x03\x6f\xfd"),
    ]
    path.write_bytes(files.pcap(*reports, legacy_report(kind=9), b"\x01\x03\x0c\x00"))
    return path


def test_the_table_counts_each_format_and_what_was_skipped(capture: Path) -> None:
    done = run("replay", str(capture))
    assert done.returncode == 0
    assert re.search(r"^ibeacon +2 .* -70 +-70 +-60$", done.stdout, re.MULTILINE)
    assert re.search(r"^broken ibeacon \(length\) +1 ", done.stdout, re.MULTILINE)
    assert re.search(r"^other +1 ", done.stdout, re.MULTILINE)
    assert "4 advertisements in 6 frames" in done.stdout
    assert "unsupported 1" in done.stdout
    assert "no advertisement 1" in done.stdout
    assert "partial" not in done.stdout
    assert not ADDRESS.search(done.stdout + done.stderr)


def test_the_summary_as_json_says_the_same(capture: Path) -> None:
    done = run("replay", str(capture), "--json")
    [summary] = lines(done.stdout)
    assert keys_told("replay", "at the end") == [*summary]
    assert summary["skipped"] == {"unsupported": 1, "no_advertisement": 1}
    assert summary["formats"]["ibeacon"]["advertisements"] == 2
    assert (summary["frames"], summary["advertisements"], summary["partial"]) == (6, 4, None)


def test_each_advertisement_is_one_line_of_json(capture: Path) -> None:
    done = run("replay", str(capture), "--advertisements", "--json")
    found = lines(done.stdout)
    assert [list(line) for line in found] == [KEYS] * 4
    assert keys_told("replay", "with --advertisements") == [*KEYS, "address"]
    assert [line["number"] for line in found] == [1, 2, 3, 4]
    assert found[0] == {
        "number": 1,
        "time": 1.0,
        "rssi": -60,
        "ad": [[1, "06"], [255, BEACON[5:].hex()]],
        "frame": "ibeacon",
        "reject": None,
    }
    assert (found[2]["ad"], found[2]["frame"], found[2]["reject"]) == ([[1, "06"]], None, "ibeacon.length")
    assert (found[3]["frame"], found[3]["reject"]) == (None, None)
    assert "unsupported 1" in done.stderr
    assert not ADDRESS.search(done.stdout + done.stderr)


@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=["text", "JSON"])
def test_addresses_are_shown_only_when_asked_for(capture: Path, as_json: list[str]) -> None:
    shown = run("replay", str(capture), "--advertisements", "--show-addresses", *as_json).stdout
    hidden = run("replay", str(capture), "--advertisements", *as_json).stdout
    assert ADDRESS.findall(shown) == ["01:02:03:04:05:06"] * 4
    assert not ADDRESS.search(hidden)
    assert len(hidden.splitlines()) == 4
    if as_json:
        assert [list(line) for line in lines(shown)] == [[*KEYS, "address"]] * 4


def test_a_capture_without_rssi_says_that_nothing_can_be_located_by_it(tmp_path: Path) -> None:
    (tmp_path / "air").write_bytes(files.pcap(legacy(), link_type=251))
    assert "1 advertisements without RSSI" in run("replay", str(tmp_path / "air")).stdout
    [line] = lines(run("replay", str(tmp_path / "air"), "--advertisements", "--json").stdout)
    assert line["rssi"] is None


@pytest.mark.parametrize(
    ("file", "advertisements", "partial"),
    [
        (files.pcap(legacy_report(), legacy_report())[:-3], 1, "it ends inside frame 2"),
        (files.pcap(legacy_report()) + b"\xff" * 40, 1, "no record at byte 58"),
        (files.pcapng(legacy_report()) + bytes(40), 1, "no block at byte 100"),
        (files.pcap(), 0, None),
    ],
    ids=["cut off", "rubbish", "zeros", "nothing recorded"],
)
def test_a_damaged_file_gives_what_can_be_read_of_it(
    tmp_path: Path, file: bytes, advertisements: int, partial: str | None
) -> None:
    (tmp_path / "file").write_bytes(file)
    done = run("replay", str(tmp_path / "file"), "--json")
    assert done.returncode == 0
    [summary] = lines(done.stdout)
    assert (summary["advertisements"], summary["partial"]) == (advertisements, partial)
    said = run("replay", str(tmp_path / "file")).stdout
    assert (f"This is a partial result: {partial}." in said) == (partial is not None)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty", b"", "is empty"),
        ("picture", b"\x89PNG\r\n\x1a\n" + bytes(50), "is no capture"),
        ("packed", b"\x1f\x8b\x08" + bytes(50), "is packed with gzip"),
        ("missing", None, "cannot be read"),
        ("evil\x1b[31m\n", b"", "is empty"),
    ],
)
def test_what_is_no_capture_is_one_clear_sentence(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = run("replay", str(tmp_path / name))
    assert (done.returncode, done.stdout) == (78, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize(("path", "words"), [("/", "is a folder"), ("/dev/zero", "is a device"), ("/dev/null", "is a device")])
def test_what_is_no_file_is_refused(path: str, words: str) -> None:
    done = run("replay", path)
    assert done.returncode == 78
    assert words in done.stderr


def test_standard_input_is_a_file_too(capture: Path) -> None:
    assert "4 advertisements" in run("replay", "-", stdin=capture.read_bytes()).stdout
    assert "standard input: is empty" in run("replay", "-").stderr
    with Path("/dev/zero").open("rb") as zeros:
        done = subprocess.run([GATEWAY, "replay", "-"], stdin=zeros, capture_output=True, timeout=60, check=False)
    assert done.returncode == 78
    assert b"is no capture" in done.stderr


def feed(arguments: Sequence[str], head: bytes, endless: bytes, seconds: float) -> tuple[subprocess.Popen[bytes], int]:
    """Pour ``endless`` into a replay for some time, or until it has had enough; its peak of memory in KiB."""
    process = subprocess.Popen(
        [GATEWAY, "replay", "-", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    until, peak = time.monotonic() + seconds, 0
    try:
        process.stdin.write(head)
        while time.monotonic() < until:
            process.stdin.write(endless)
            status = Path(f"/proc/{process.pid}/status").read_text()
            if (found := re.search(r"VmHWM:\s+(\d+) kB", status)) is not None:
                peak = int(found[1])
    except BrokenPipeError:
        pass
    return process, peak


def test_an_endless_pipe_of_rubbish_ends_by_itself() -> None:
    process, peak_kib = feed([], files.pcap(legacy_report()), bytes(1 << 20), seconds=20)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, b"")
    assert b"This is a partial result: no record at byte 58." in out
    assert peak_kib < 120_000


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_live_pipe_is_shown_as_far_as_it_came_when_stopped(number: signal.Signals, status: int) -> None:
    packets = files.pcap(*[legacy_report(BEACON)] * 2000)
    process, peak_kib = feed([], packets[:24], packets[24:], seconds=8)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == status, err
    assert b"This is a partial result: it was stopped." in out
    assert peak_kib < 120_000


def test_only_so_much_is_read(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(files.pcap(*[legacy_report()] * 40_000))
    [summary] = lines(run("replay", str(tmp_path / "long"), "--json", "--limit-mib", "1").stdout)
    assert summary["partial"] == "only its first 1 MiB were read"
    assert 30_000 < summary["advertisements"] < 32_000


SHOP = {
    "zones": {"dairy": {}},
    "anchors": {
        "ceiling": {"kind": "receiver", "zone": "dairy"},
        "door": {"kind": "receiver"},
        "b1": {"kind": "beacon", "zone": "dairy", "uuid": "e2c56db5-dffb-48d2-b060-d0f5a71096e0", "major": 100, "minor": 1},
    },
}


def test_beacons_of_the_shop_are_known(capture: Path, tmp_path: Path) -> None:
    (tmp_path / "shop.json").write_text(json.dumps(SHOP))
    shop = ("--shop", str(tmp_path / "shop.json"))
    [summary] = lines(run("replay", str(capture), *shop, "--receiver", "ceiling", "--json").stdout)
    assert summary["beacons"] == 2
    refused = run("replay", str(capture), *shop, "--receiver", "b1")
    assert refused.returncode == 78
    assert "Known are: ceiling, door." in refused.stderr
    assert run("replay", str(capture), "--receiver", "x").returncode == 78
    assert run("replay", str(capture), "--shop", str(tmp_path / "none")).returncode == 78


def test_our_own_recording_drives_the_pipeline_as_its_receivers(tmp_path: Path) -> None:
    path = tmp_path / "recording"
    path.write_text(json_lines.HEADER + json_lines.encode("ceiling", -60, BEACON, Instant(7, 1_789_398_000_000)))
    (tmp_path / "shop.json").write_text(json.dumps(SHOP))
    [summary] = lines(run("replay", str(path), "--shop", str(tmp_path / "shop.json"), "--json").stdout)
    assert (summary["beacons"], summary["advertisements"]) == (1, 1)
    [line] = lines(run("replay", str(path), "--advertisements", "--json", "--show-addresses").stdout)
    assert (line["time"], line["address"]) == (1_789_398_000, None)


ZONE_EVENTS = ("entered", "left", "dwelled")


@pytest.mark.slow
def test_a_recorded_demo_replays_into_the_same_zone_events(tmp_path: Path) -> None:
    record, keep = tmp_path / "demo.jsonl", tmp_path / "kept"
    arguments = ("--duration", "120", "--speed", "40", "--shoppers", "4", "--json", "--keep", str(keep), "--record", str(record))
    demo = run("demo", *arguments, within_s=100)
    assert demo.returncode == 0, demo.stderr
    assert demo.stderr == ""
    told = [(e["time"], e["what"], e["zone"], e["why"]) for e in lines(demo.stdout) if e.get("what") in ZONE_EVENTS]
    assert len(told) > 4
    replayed = run("replay", str(record), "--config", str(keep / "gateway.toml"), "--json")
    assert replayed.stderr == ""
    *events, summary = lines(replayed.stdout)
    berlin = ZoneInfo("Europe/Berlin")
    again = [
        (datetime.fromisoformat(e["time"]).astimezone(berlin).strftime("%H:%M:%S"), e["what"], e["zone"], e["why"])
        for e in events
        if e["what"] in ZONE_EVENTS
    ]
    assert again == told
    assert summary["partial"] is None

    # Strangers are not in it, and nobody's address is.
    assert summary["formats"].keys() == {"ibeacon", "shopper"}
    assert summary["sightings"] == summary["formats"]["shopper"]["advertisements"]
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert not ADDRESS.search(record.read_text())
    assert lines(demo.stdout)[-1]["strangers_dropped"] > 0


@pytest.mark.slow
def test_recording_everything_takes_its_own_flag_and_warns(tmp_path: Path) -> None:
    record = tmp_path / "all.jsonl"
    done = run("demo", "--duration", "10", "--speed", "100", "--shoppers", "1", "--record", str(record), "--everything")
    assert done.returncode == 0
    assert "warning" in done.stderr
    [summary] = lines(run("replay", str(record), "--json").stdout)
    assert "other" in summary["formats"]
    assert not ADDRESS.search(record.read_text())
    assert run("demo", "--everything").returncode == 2
    assert run("run", "--everything").returncode == 2


def test_strangers_are_not_recorded_before_somebody_answers_for_it(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(f'store = "x"\nstore_number = 1\ngateway = "g"\nstate_dir = "{tmp_path}"\n')
    done = run("run", "--config", str(config), "--record", str(tmp_path / "all"), "--everything")
    assert done.returncode == 78
    assert "privacy.controller" in done.stderr
    assert not (tmp_path / "all").exists()


def test_scan_without_a_bus_says_why_it_hears_nothing() -> None:
    nowhere = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"}
    done = subprocess.run(
        [GATEWAY, "scan", "--seconds", "1", "--json"], capture_output=True, timeout=60, check=False, env=nowhere
    )
    assert done.returncode == 69
    found = json.loads(done.stdout)
    assert (found["formats"], keys_told("scan")) == ({}, [*found])
    assert b"the system bus cannot be reached" in done.stderr
    assert b"Traceback" not in done.stderr
    assert run("scan", "--adapter", "eth0").returncode == 78
