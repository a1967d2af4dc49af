"""`gateway zone learn` and `gateway zone evaluate`: from recordings to a model and to figures."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from gateway.core.zone_model import RecordedSighting
from tests.cli.forked import Forked
from tests.cli.test_shop_commands import refused
from tests.core.walked_shop import ANCHORS, OUTLINES, crossing, recorded, survey, zone_at


def written(path: Path, sightings: Iterable[RecordedSighting], *, with_places: bool = True) -> Path:
    lines = []
    for sighting in sightings:
        line: dict[str, object] = {"t": sighting.t_ms / 1000, "shopper": sighting.shopper, "anchor": sighting.anchor}
        line |= {"rssi": round(sighting.rssi_dbm, 1), "zone": sighting.zone}
        if with_places and sighting.at_m is not None:
            line |= {"x": sighting.at_m[0], "y": sighting.at_m[1]}
        lines.append(json.dumps(line))
    path.write_text("\n".join(lines), encoding="ascii")
    return path


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    anchors = {name: {"x": x, "y": y, "zone": zone_at((x, y))} for name, (x, y) in ANCHORS.items()}
    (tmp_path / "anchors.json").write_text(json.dumps({"anchors": anchors, "zones": OUTLINES}), encoding="ascii")
    in_zones = {name: {"zone": known["zone"]} for name, known in anchors.items()}
    (tmp_path / "zones-only.json").write_text(json.dumps({"anchors": in_zones}), encoding="ascii")
    written(tmp_path / "survey.jsonl", survey())
    written(tmp_path / "labels.jsonl", survey(), with_places=False)
    for seed in (1, 2):
        written(tmp_path / f"walk-{seed}.jsonl", recorded(crossing, 40, seed=seed))
    return tmp_path


@pytest.mark.parametrize(
    "learning",
    [
        pytest.param(["survey.jsonl", "--anchors", "anchors.json"], id="places, plan"),
        pytest.param(["survey.jsonl"], id="places"),
        pytest.param(["labels.jsonl"], id="zones alone"),
        pytest.param(["labels.jsonl", "survey.jsonl"], id="a mixture"),
    ],
)
def test_what_was_learnt_finds_the_zones_of_a_walk(gateway: Forked, shop: Path, learning: list[str]) -> None:
    said = gateway.run("zone", "learn", *learning, "--out", "model.json", "--json", cwd=shop).json
    assert (said["anchors"], said["zones"]) == (4, 2)
    found = gateway.run("zone", "evaluate", "--model", "model.json", "walk-1.jsonl", "walk-2.jsonl", "--json", cwd=shop).json
    assert [row["recording"] for row in found["recordings"]] == ["walk-1.jsonl", "walk-2.jsonl"]
    total = found["total"]
    assert total["accuracy"] > 0.85
    assert total["true_changes"] == 2
    assert total["changes_per_true_change"] <= 1.5
    assert total["wrong_stays"] <= 1
    low, high = total["interval_90"]["accuracy"]
    assert low <= total["accuracy"] <= high


@pytest.mark.parametrize("plan", ["anchors.json", "zones-only.json"])
def test_nothing_needs_to_be_learnt(gateway: Forked, shop: Path, plan: str) -> None:
    total = gateway.run("zone", "evaluate", "--anchors", plan, "walk-1.jsonl", "--json", cwd=shop).json["total"]
    assert total["accuracy"] > 0.8
    assert total["interval_90"] is None
    assert (total["accuracy_1m"] is None) == (plan == "zones-only.json")


def test_a_table_for_people(gateway: Forked, shop: Path) -> None:
    done = gateway.run("zone", "evaluate", "--anchors", "anchors.json", "walk-1.jsonl", cwd=shop)
    head, walk, total = done.stdout.splitlines()
    assert head.split() == ["recording", "right", "within", "1", "m", "changes", "wrong", "stays", "enter", "p50", "p95"]
    assert walk.split()[1:] == total.split()[1:]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param(["evaluate", "walk-1.jsonl"], 2, "either --model or --anchors", id="neither model nor plan"),
        pytest.param(["evaluate", "--anchors", "none.json", "walk-1.jsonl"], 78, "none.json", id="no plan"),
        pytest.param(["evaluate", "--anchors", "anchors.json", "none.jsonl"], 78, "none.jsonl", id="no recording"),
        pytest.param(["evaluate", "--anchors", "anchors.json", "empty.jsonl"], 78, "holds no sighting", id="empty"),
        pytest.param(["evaluate", "--anchors", "empty.json", "walk-1.jsonl"], 78, "empty.json", id="an empty plan"),
        pytest.param(["evaluate", "--anchors", "anchors.json", "/dev/zero"], 78, "/dev/zero, line 1", id="no end"),
        pytest.param(["evaluate", "--model", "survey.jsonl", "walk-1.jsonl"], 78, "survey.jsonl", id="no model"),
        pytest.param(["learn", "unlabelled.jsonl", "--out", "m.json"], 78, "fewer than three anchors", id="nothing to learn"),
        pytest.param(["learn", "survey.jsonl", "--out", "none/m.json"], 74, "cannot be written", id="no folder"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    gateway: Forked, shop: Path, arguments: list[str], code: int, said: str
) -> None:
    (shop / "empty.jsonl").touch()
    (shop / "empty.json").write_text("{}", encoding="ascii")
    unlabelled = [RecordedSighting(s.t_ms, s.shopper, s.anchor, s.rssi_dbm) for s in survey(1)]
    written(shop / "unlabelled.jsonl", unlabelled)
    done = gateway.run("zone", *arguments, cwd=shop)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (shop / "m.json").exists()


@pytest.mark.parametrize(
    "out",
    ["survey.jsonl", "./none/../survey.jsonl", "symbolic", "hard", "anchors.json"],
)
def test_no_recording_is_overwritten_by_what_was_learnt_from_it(gateway: Forked, shop: Path, out: str) -> None:
    (shop / "none").mkdir()
    (shop / "symbolic").symlink_to("survey.jsonl")
    (shop / "hard").hardlink_to(shop / "survey.jsonl")
    before = {path: path.read_bytes() for path in shop.iterdir() if path.is_file()}
    done = gateway.run("zone", "learn", "walk-1.jsonl", "survey.jsonl", "--anchors", "anchors.json", "--out", out, cwd=shop)
    refused(done, 2, f"--out {Path(out)} is a file that is read here.")
    assert {path: path.read_bytes() for path in shop.iterdir() if path.is_file()} == before


def test_times_may_lie_years_apart(gateway: Forked, shop: Path) -> None:
    heard = {"shopper": "s", "anchor": next(iter(ANCHORS)), "rssi": -50, "zone": zone_at(next(iter(ANCHORS.values())))}
    (shop / "far.jsonl").write_text("".join(json.dumps({"t": t, **heard}) + "\n" for t in (1, 2, 4e9, 4e9 + 1)))
    total = gateway.run("zone", "evaluate", "far.jsonl", "--anchors", "zones-only.json", "--json", cwd=shop).json["total"]
    assert (total["shoppers"], total["accuracy"]) == (1, 1)
    assert total["ticks"] < 20


def test_a_name_that_is_no_text_is_told_like_any_other(gateway: Forked, shop: Path) -> None:
    name = os.fsdecode(b"s\xff.jsonl")
    (shop / "walk-1.jsonl").rename(shop / name)
    found = gateway.run("zone", "evaluate", name, "--anchors", "anchors.json", "--json", cwd=shop).json
    assert [row["recording"] for row in found["recordings"]] == ["s\\udcff.jsonl"]
    learnt = gateway.run("zone", "learn", name, "--out", os.fsdecode(b"m\xff"), "--json", cwd=shop).json
    assert learnt["model"] == "m\\udcff"
