"""`gateway simulate`: a recording with its truth, the same for the same seed, whole or not there."""

import json
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from gateway.cli.app import app
from gateway.contract.recording import read_anchors, read_recording
from gateway.errors import ConfigurationError, DiskError
from gateway.simulator.bodies import Carriage
from gateway.simulator.plan_file import BUILT_IN
from gateway.simulator.walkers import WALKS

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


def test_the_help_names_every_plan_walk_and_carriage() -> None:
    text = CliRunner().invoke(app, ["simulate", "--help"], env={"COLUMNS": "300"}, catch_exceptions=False).output
    assert f"--walk <{'|'.join(WALKS)}>" in text
    assert f"--carried <{'|'.join(['any', *get_args(Carriage)])}>" in text
    assert all(plan in text for plan in BUILT_IN)
