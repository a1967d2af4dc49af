"""`gateway zone learn` and `gateway zone evaluate`: from recordings to a model and to figures."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from gateway.core.zone_model import RecordedSighting
from tests.cli.forked import Forked
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
