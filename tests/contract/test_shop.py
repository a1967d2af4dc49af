"""The shop file: what a technician writes, and what is wrong with it in one sentence."""

import json
from typing import Any

import pytest

from gateway.contract.shop import ShopFile, read_shop
from gateway.errors import ConfigurationError

Json = dict[str, Any]
UUID = "8b1f4a0e-5d9c-4c7b-a1e3-0d5f6a7b8c9d"
BEACON: Json = {"kind": "beacon", "zone": "dairy", "uuid": UUID, "major": 1, "minor": 258}
AT_DAIRY: Json = {"kind": "beacon", "zone": "dairy"}
NAMESPACE = "edd1ebeac04e5defa017"
UID: Json = {"namespace": NAMESPACE, "instance": "0123456789ab"}
ALTBEACON: Json = {"beacon_id": "2f234454cf6d4a0fadf2f4911ba9ffa600010002"}
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


@pytest.mark.parametrize(
    ("key", "compiled"),
    [
        ({**UID, "namespace": NAMESPACE.upper()}, (bytes.fromhex(NAMESPACE), bytes.fromhex("0123456789ab"))),
        (ALTBEACON, (bytes.fromhex(ALTBEACON["beacon_id"]),)),
        ({name: BEACON[name] for name in ("uuid", "major", "minor")}, (bytes.fromhex(UUID.replace("-", "")), 1, 258)),
    ],
    ids=["Eddystone-UID", "AltBeacon", "iBeacon"],
)
def test_a_beacon_has_the_key_of_one_format(key: Json, compiled: tuple[object, ...]) -> None:
    shop = read_shop(json.dumps({"zones": {"dairy": {}}, "anchors": {"x": {**AT_DAIRY, **key}}}).encode(), "shop.json")
    assert shop.compiled().anchors["x"].key == compiled
    again = read_shop(ShopFile.of(shop.compiled()).to_text().encode(), "shop.json")
    assert again.compiled() == shop.compiled()


def test_unknown_neighbours_are_something_else_than_none() -> None:
    shop = read_shop(b'{"zones": {"a": {}, "b": {"neighbours": []}}}', "shop.json").compiled()
    assert shop.zones["a"].neighbours is None
    assert shop.zones["b"].neighbours == frozenset()


def test_an_empty_shop_is_a_shop() -> None:
    assert read_shop(b"{}", "shop.json").compiled().zones == {}


def anchors(**more: Any) -> Json:
    return {**SHOP, "anchors": {**SHOP["anchors"], **more}}


def drawn(*corners: tuple[float, float]) -> Json:
    return {"zones": {"a": {"corners": corners}}}


@pytest.mark.parametrize(
    "corners",
    [
        ((0, 0), (0, 4), (4, 0)),
        ((0, 0), (4, 0), (4, 4), (0, 4), (0, 0)),
        ((0, 0), (0, 0), (2, 0), (4, 0), (4, 4)),
        ((0, 0), (4, 0), (4, 4), (2, 0), (0, 4)),
        ((0, 0), (9, 0), (9, 9), (0, 9), (0, 3), (3, 3), (3, 6), (6, 6), (6, 3), (0, 3)),
        ((9990.0, 9990.0), (9990.1, 9990.0), (9990.1, 9990.1), (9990.0, 9990.1)),
    ],
    ids=["a triangle", "closed by hand", "corners on a side", "touching itself", "with a hole", "a small one far away"],
)
def test_an_outline_may_be_drawn_in_many_ways(corners: tuple[tuple[float, float], ...]) -> None:
    assert read_shop(json.dumps(drawn(*corners)).encode(), "shop.json").zones["a"].corners == corners


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
        (anchors(freezer={"kind": "beacon"}), "anchors.freezer.beacon.zone: is missing"),
        (
            anchors(freezer={"kind": "beacon", "zone": "dairy"}),
            "a beacon needs the key of one format: uuid, major and minor, or namespace and instance, or beacon_id",
        ),
        (anchors(freezer={**BEACON, **UID, "minor": 9}), "a beacon has the key of one format, not of iBeacon and Eddystone-UID"),
        (anchors(freezer={**AT_DAIRY, "namespace": NAMESPACE}), "the key of an Eddystone-UID needs instance, too"),
        (anchors(freezer={**AT_DAIRY, "major": 1}), "the key of an iBeacon needs uuid and minor, too"),
        (anchors(freezer={**AT_DAIRY, **UID, "instance": "0a"}), "anchors.freezer.beacon.instance: "),
        (anchors(freezer={**AT_DAIRY, "beacon_id": "0g" * 20}), "anchors.freezer.beacon.beacon_id: "),
        (
            anchors(a={**AT_DAIRY, **UID}, b={**AT_DAIRY, **UID, "namespace": NAMESPACE.upper()}),
            "beacons a and b share the key of an Eddystone-UID",
        ),
        (anchors(a={**AT_DAIRY, **ALTBEACON}, b={**AT_DAIRY, **ALTBEACON}), "beacons a and b share the key of an AltBeacon"),
        (anchors(freezer={**BEACON, "rssi": -60}), "anchors.freezer.beacon.rssi: Extra inputs are not permitted."),
        (
            anchors(freezer={**BEACON, "minr": 9}),
            "anchors.freezer.beacon.minr: Extra inputs are not permitted; did you mean minor?",
        ),
        ({"zones": {"Dairy": {}}}, "zones.Dairy"),
        ({"zones": {"dairy": {"enter_dbm": -10}}}, "zones.dairy.enter_dbm: "),
        ({"zones": {"dairy": {"exit_delay_s": 1}}}, "zones.dairy.exit_delay_s: "),
        ({"zones": {"dairy": {"dwell_s": [1]}}}, "zones.dairy.dwell_s.0: "),
        ({"zones": {"dairy": {"colour": "blue"}}}, "zones.dairy.colour: Extra inputs"),
        (drawn((1, 2), (1, 2), (1, 2)), "zones.a.corners: the outline encloses nothing: its corners stand on one line."),
        (drawn((0, 0), (0.1, 0.3), (0.2, 0.6), (0.4, 1.2)), "the outline encloses nothing"),
        (drawn((0, 0), (2, 2), (0, 2), (2, 0)), "the outline crosses itself: the sides 0,0 to 2,2 and 0,2 to 2,0."),
        (drawn((0, 0), (9, 0), (9, 5), (4, -1), (0, 5)), "the outline crosses itself: the sides 0,0 to 9,0 and 0,5 to 4,-1."),
        ({"zonse": {}}, "zonse: Extra inputs are not permitted; did you mean zones?"),
        ({"zones": {"a": {"tag": []}}}, "zones.a.tag: Extra inputs are not permitted; did you mean tags"),
        (b"", "not strict JSON"),
        (b'{"zones": {"a": {}, "a": {}}}', "a key occurs twice"),
        (b"\xff\xfe", "not strict JSON"),
        (b"[]", "a JSON object was expected"),
        (b"[" * 100_000, "nested deeper than 16"),
    ],
)
def test_what_does_not_fit_together_is_refused_in_clear_words(document: Json | bytes, what: str) -> None:
    assert what in refusal(document)
