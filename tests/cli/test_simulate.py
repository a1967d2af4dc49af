"""`gateway simulate`: a recording with its truth, the same for the same seed, whole or not there."""

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from gateway.cli.app import app
from gateway.contract.recording import read_anchors, read_recording
from gateway.errors import ConfigurationError, DiskError, WrongCommand
from gateway.simulator.bodies import Carriage
from gateway.simulator.plan_file import BUILT_IN
from gateway.simulator.walkers import WALKS
from tests.cli.shown import PROGRAM

SMALL = ["simulate", "--walk", "in-and-out", "--shoppers", "1", "--strangers", "0", "--arrivals-s", "1"]


def simulate(*options: str) -> str:
    done = CliRunner().invoke(app, [*SMALL, *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_recording_and_anchors_can_be_read_again(tmp_path: Path) -> None:
    recording, anchors = tmp_path / "walk.jsonl", tmp_path / "anchors.json"
    said = json.loads(simulate("--out", str(recording), "--anchors", str(anchors), "--json"))
    with recording.open("rb") as lines:
        sightings = list(read_recording(lines, "walk.jsonl"))
    assert said == {
        "recording": str(recording),
        "anchors": str(anchors),
        "sightings": len(sightings),
        "shoppers": 1,
        "stays": said["stays"],
        "duration_s": said["duration_s"],
    }
    assert said["stays"] >= 9
    assert sightings[-1].t_ms < said["duration_s"] * 1000
    zones = read_anchors(anchors.read_bytes(), "anchors.json").zones
    assert {sighting.zone for sighting in sightings} <= set(zones)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["anchors.json", "walk.jsonl"]


def test_a_seed_gives_one_recording_and_a_person_is_told_where_it_is(tmp_path: Path) -> None:
    first, again, other = (tmp_path / name for name in ("first", "again", "other"))
    said = simulate("--out", str(first), "--carried", "back pocket")
    assert said.startswith(f"{first}: ")
    assert said.count("\n") == 1
    simulate("--out", str(again), "--carried", "back pocket")
    simulate("--out", str(other), "--carried", "back pocket", "--seed", "2")
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()


def test_what_cannot_be_walked_or_written_is_refused_in_one_sentence(tmp_path: Path) -> None:
    ring = [[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]]
    features = [
        {"properties": {"kind": "zone", "name": "kiosk"}, "geometry": {"type": "Polygon", "coordinates": [ring]}},
        {"properties": {"kind": "receiver", "name": "r1"}, "geometry": {"type": "Point", "coordinates": [5, 5]}},
        {"properties": {"kind": "door"}, "geometry": {"type": "Point", "coordinates": [1, 1]}},
    ]
    plan = tmp_path / "kiosk.geojson"
    document = {"type": "FeatureCollection", "features": [{"type": "Feature", **feature} for feature in features]}
    plan.write_text(json.dumps(document))
    out = tmp_path / "walk.jsonl"
    assert simulate(str(plan), "--out", str(out), "--walk", "normal")
    out.unlink()
    for options, error, words in (
        ([str(plan), "--out", str(out)], ConfigurationError, "nobody can walk like in-and-out here: there are no two zones"),
        (["nowhere.geojson", "--out", str(out)], ConfigurationError, "nowhere.geojson: cannot be read"),
        (["--out", str(tmp_path / "no" / "walk.jsonl")], DiskError, "walk.jsonl: cannot be written"),
    ):
        with pytest.raises(error, match=words):
            CliRunner().invoke(app, [*SMALL, *options], catch_exceptions=False)
    assert [path.name for path in tmp_path.iterdir()] == ["kiosk.geojson"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--out", "a.json", "--anchors", "./a.json"], "--out and --anchors are the same file"),
        (["--out", "new", "--anchors", "new"], "--out and --anchors are the same file"),
        (["a.json", "--out", "a.json"], "--out a.json is a file that is read here"),
    ],
)
def test_nothing_is_written_over_what_is_read_or_written_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.json").write_text("mine")
    with pytest.raises(WrongCommand, match=words):
        CliRunner().invoke(app, [*SMALL, *options], catch_exceptions=False)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", "mine")]


@pytest.mark.parametrize(("number", "ignored"), [(signal.SIGTERM, False), (signal.SIGHUP, False), (signal.SIGHUP, True)])
def test_whoever_stops_it_finds_no_half_a_file(tmp_path: Path, number: signal.Signals, ignored: bool) -> None:
    command = [str(PROGRAM), "simulate", "supermarket", "--walk", "survey", "--shoppers", "90", "--out", "walk.jsonl"]
    with subprocess.Popen([*(["nohup"] if ignored else []), *command], cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + 60
            while not any(tmp_path.iterdir()) and process.poll() is None and time.monotonic() < until:
                time.sleep(0.02)
            assert [path.suffix for path in tmp_path.iterdir()] == [".new"]
            process.send_signal(number)
            if ignored:
                time.sleep(0.5)
                assert process.poll() is None
                process.terminate()
            assert process.wait(30) == 128 + (signal.SIGTERM if ignored else number)
        finally:
            process.kill()
    assert not any(tmp_path.iterdir())


def test_the_help_names_every_plan_walk_and_carriage() -> None:
    text = CliRunner().invoke(app, ["simulate", "--help"], env={"COLUMNS": "300"}, catch_exceptions=False).output
    assert f"--walk <{'|'.join(WALKS)}>" in text
    assert f"--carried <{'|'.join(['any', *get_args(Carriage)])}>" in text
    assert all(plan in text for plan in BUILT_IN)
