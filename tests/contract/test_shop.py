"""The shop file: what a technician writes, and what is wrong with it in one sentence."""

import json
from typing import Any

import pytest

from gateway.contract.shop import read_shop
from gateway.errors import ConfigurationError

Json = dict[str, Any]
UUID = "8b1f4a0e-5d9c-4c7b-a1e3-0d5f6a7b8c9d"
BEACON: Json = {"kind": "beacon", "zone": "dairy", "uuid": UUID, "major": 1, "minor": 258}
SHOP: Json = {
    "zones": {
        "dairy": {"title": "Dairy", "tags": ["cooled"], "neighbours": ["bakery"], "dwell_s": [60, 30, 60]},
        "bakery": {"neighbours": ["dairy"], "sensitive": True, "enter_dbm": -80, "exit_delay_s": 30},
    },
    "anchors": {"pi": {"kind": "receiver", "zone": "bakery", "covers": ["dairy"]}, "fridge": BEACON},
}


def refusal(document: Json | bytes) -> str:
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(ConfigurationError) as caught:
        read_shop(payload, "/etc/shop.json")
    error = caught.value
    assert (error.where, error.do, error.exit_code) == ("/etc/shop.json", "Correct the shop file.", 78)
    return error.what


def test_a_shop_compiles() -> None:
    shop = read_shop(json.dumps(SHOP).encode(), "shop.json").compiled()
    dairy, bakery = shop.zones["dairy"], shop.zones["bakery"]
    assert (dairy.title, dairy.tags, dairy.neighbours) == ("Dairy", frozenset({"cooled"}), frozenset({"bakery"}))
    assert dairy.dwell_ms == (30_000, 60_000)
    assert (bakery.title, bakery.sensitive, bakery.enter_dbm, bakery.exit_delay_ms) == ("bakery", True, -80.0, 30_000)
    pi = shop.anchors["pi"]
    assert (pi.kind, pi.zone, pi.covers) == ("receiver", "bakery", frozenset({"dairy"}))
    fridge = shop.anchors["fridge"]
    assert (fridge.uuid, fridge.major, fridge.minor, fridge.zone) == (bytes.fromhex(UUID.replace("-", "")), 1, 258, "dairy")


def test_unknown_neighbours_are_something_else_than_none() -> None:
    shop = read_shop(b'{"zones": {"a": {}, "b": {"neighbours": []}}}', "shop.json").compiled()
    assert shop.zones["a"].neighbours is None
    assert shop.zones["b"].neighbours == frozenset()


def test_an_empty_shop_is_a_shop() -> None:
    assert read_shop(b"{}", "shop.json").compiled().zones == {}


def anchors(**more: Any) -> Json:
    return {**SHOP, "anchors": {**SHOP["anchors"], **more}}


@pytest.mark.parametrize(
    ("document", "what"),
    [
        (anchors(pi={"kind": "receiver", "zone": "cellar"}), "anchor pi stands in or covers cellar, which is no zone"),
        (anchors(pi={"kind": "receiver", "covers": ["roof"]}), "anchor pi stands in or covers roof, which is no zone"),
        (anchors(fridge={**BEACON, "zone": "cellar"}), "anchor fridge stands in or covers cellar, which is no zone"),
        ({"zones": {"a": {"neighbours": ["b"]}}}, "zone a has the neighbour b, which is no zone of this shop"),
        (anchors(freezer=BEACON), "beacons fridge and freezer share the minor 258"),
        (anchors(freezer={**BEACON, "minor": 0}), "anchors.freezer.beacon.minor: "),
        (anchors(freezer={**BEACON, "minor": 65535}), "anchors.freezer.beacon.minor: "),
        (anchors(freezer={**BEACON, "major": -1}), "anchors.freezer.beacon.major: "),
        (anchors(freezer={**BEACON, "uuid": UUID.replace("-", "")}), "anchors.freezer.beacon.uuid: "),
        (anchors(freezer={**BEACON, "kind": "camera"}), "anchors.freezer: "),
        (anchors(freezer={"kind": "beacon"}), "anchors.freezer.beacon.zone: Field required"),
        (anchors(freezer={**BEACON, "rssi": -60}), "anchors.freezer.beacon.rssi: Extra inputs"),
        ({"zones": {"Dairy": {}}}, "zones.Dairy"),
        ({"zones": {"dairy": {"enter_dbm": -10}}}, "zones.dairy.enter_dbm: "),
        ({"zones": {"dairy": {"exit_delay_s": 1}}}, "zones.dairy.exit_delay_s: "),
        ({"zones": {"dairy": {"dwell_s": [1]}}}, "zones.dairy.dwell_s.0: "),
        ({"zones": {"dairy": {"colour": "blue"}}}, "zones.dairy.colour: Extra inputs"),
        ({"zonse": {}}, "zonse: Extra inputs"),
        (b"", "not strict JSON"),
        (b'{"zones": {"a": {}, "a": {}}}', "a key occurs twice"),
        (b"\xff\xfe", "not strict JSON"),
        (b"[]", "a JSON object was expected"),
        (b"[" * 100_000, "nested deeper than 16"),
    ],
)
def test_what_does_not_fit_together_is_refused_in_clear_words(document: Json | bytes, what: str) -> None:
    assert what in refusal(document)
