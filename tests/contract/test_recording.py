"""Recordings, anchors files and models: what is read back is what was written, and what is wrong is named with its line."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract.recording import MAX_LINE, ModelFile, read_anchors, read_model, read_recording
from gateway.core.calibration import learn, unsurveyed
from gateway.core.zone_model import KnownAnchor, RecordedSighting, ShopPlan
from gateway.errors import ConfigurationError, GatewayError
from tests.core.walked_shop import PLAN, survey

LINE = {"t": 1.25, "shopper": "anna", "anchor": "r1", "rssi": -71.5}
ANCHORS = {
    "anchors": {"r1": {"x": 1, "y": 2.5, "zone": "dairy"}, "r2": {"zone": "wine"}, "r3": {}},
    "zones": {"dairy": [[0, 0], [4, 0], [4, 4]]},
}


def sightings_of(*lines: object) -> list[RecordedSighting]:
    return list(read_recording([json.dumps(line).encode() for line in lines], "walk.jsonl"))


def test_a_line_is_a_sighting() -> None:
    whole = {**LINE, "zone": "dairy", "x": 1, "y": 2, "source": "hint"}
    assert sightings_of(LINE, whole) == [
        RecordedSighting(1250, "anna", "r1", -71.5),
        RecordedSighting(1250, "anna", "r1", -71.5, "dairy", (1.0, 2.0), "hint"),
    ]


def test_empty_lines_and_a_zone_of_null_are_fine() -> None:
    text = [b"\n", json.dumps({**LINE, "zone": None}).encode() + b"\r\n", b"  "]
    assert [sighting.zone for sighting in read_recording(text, "walk.jsonl")] == [None]


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"t": None}, id="no time"),
        pytest.param({"t": -1}, id="before time began"),
        pytest.param({"rssi": "loud"}, id="no level"),
        pytest.param({"rssi": 1e9}, id="no level of any radio"),
        pytest.param({"shopper": ""}, id="nobody"),
        pytest.param({"source": "rumour"}, id="unknown source"),
        pytest.param({"colour": "red"}, id="unknown key"),
        pytest.param({"x": 1e9, "y": 0}, id="on another planet"),
    ],
)
def test_a_wrong_line_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        sightings_of(LINE, {**LINE, **wrong})
    assert caught.value.where == "walk.jsonl, line 2"


@pytest.mark.parametrize(
    "line", [b"x" * (MAX_LINE + 1), b"{", b"[]", b"\xff\xfe", b'{"t": NaN, "shopper": "a", "anchor": "b", "rssi": NaN}']
)
def test_what_is_no_line_at_all_is_refused(line: bytes) -> None:
    with pytest.raises(ConfigurationError, match="line 1"):
        list(read_recording([line], "walk.jsonl"))


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_any_bytes_are_sightings_or_one_of_our_errors(lines: list[bytes]) -> None:
    with contextlib.suppress(GatewayError):
        list(read_recording(lines, "walk.jsonl"))


def test_every_part_of_an_anchors_file_is_optional() -> None:
    assert read_anchors(b"{}", "a.json") == ShopPlan()
    plan = read_anchors(json.dumps(ANCHORS).encode(), "a.json")
    assert plan.anchors == {"r1": KnownAnchor((1.0, 2.5), "dairy"), "r2": KnownAnchor(None, "wine"), "r3": KnownAnchor()}
    assert plan.zone_at((3.0, 1.0)) == "dairy"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b'{"anchors": {"r": {"x": 1}}}',
        b'{"zones": {"dairy": [[0, 0], [1, 1]]}}',
        b'{"anchors": {"r": {"x": "1", "y": 2}}',
    ],
)
def test_a_wrong_anchors_file_is_refused(text: bytes) -> None:
    with pytest.raises(ConfigurationError, match=r"a\.json"):
        read_anchors(text, "a.json")


MODELS = {
    "surveyed": learn(survey(2), PLAN),
    "from positions": unsurveyed(PLAN),
    "fingerprints": learn([RecordedSighting(s.t_ms, s.shopper, s.anchor, s.rssi_dbm, s.zone) for s in survey(2)], ShopPlan()),
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_survives_its_file(kind: str) -> None:
    text = ModelFile.of(MODELS[kind]).to_text()
    assert read_model(text.encode(), "model.json") == MODELS[kind]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"version": 2}, id="a later version"),
        pytest.param({"kind": "shop"}, id="another file"),
        pytest.param({"levels_dbm": []}, id="no levels"),
        pytest.param({"cell_zones": [0]}, id="too few cells"),
        pytest.param({"zones": []}, id="cells in zones that are not there"),
        pytest.param({"positions": [], "learns": True}, id="learns without positions"),
    ],
)
def test_a_model_that_does_not_fit_together_is_refused(change: dict[str, Any]) -> None:
    whole = json.loads(ModelFile.of(MODELS["surveyed"]).to_text())
    with pytest.raises(ConfigurationError, match=r"model\.json"):
        read_model(json.dumps({**whole, **change}).encode(), "model.json")
