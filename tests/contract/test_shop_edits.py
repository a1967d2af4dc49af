"""Edits of a shop: whatever is done in whatever order, what comes out is a shop, and what was refused has changed nothing."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract.shop import ShopFile, read_shop
from gateway.contract.shop_edits import (
    difference,
    next_minor,
    normal,
    usual_major,
    with_anchor,
    with_zone,
    without_anchor,
    without_zone,
)
from gateway.errors import WrongCommand

UUID = "8b1f4a0e-5d9c-4c7b-a1e3-0d5f6a7b8c9d"
ZONES = ("a", "b", "c", "d")
ANCHORS = ("x", "y")


def beacon(minor: int, major: int = 1) -> dict[str, Any]:
    return {"kind": "beacon", "zone": "a", "uuid": UUID, "major": major, "minor": minor}


def shop_with(*beacons: dict[str, Any]) -> ShopFile:
    return ShopFile.model_validate({"zones": {"a": {}}, "anchors": {f"n{i}": entry for i, entry in enumerate(beacons)}})


START = ShopFile.model_validate(
    {
        "zones": {"a": {"neighbours": ["b"]}, "b": {"neighbours": ["a", "c"]}, "c": {"neighbours": ["b"]}},
        "anchors": {"x": {"kind": "receiver", "covers": ["b"]}, "y": {"kind": "receiver", "zone": "a", "covers": ["b", "c"]}},
    }
)
zone = st.sampled_from(ZONES)
zones = st.lists(zone, max_size=3, unique=True).map(tuple)
edits = st.one_of(
    st.tuples(st.just("zone"), zone, st.fixed_dictionaries({}, optional={"neighbours": zones, "sensitive": st.booleans()})),
    st.tuples(st.just("without zone"), zone, st.booleans()),
    st.tuples(st.just("receiver"), st.sampled_from(ANCHORS), st.fixed_dictionaries({}, optional={"zone": zone, "covers": zones})),
    st.tuples(st.just("beacon"), st.sampled_from(ANCHORS), zone),
    st.tuples(st.just("without"), st.sampled_from(ANCHORS), st.sampled_from(["receiver", "beacon"])),
)


def edited(shop: ShopFile, edit: Any) -> ShopFile:
    kind, name, what = edit
    if kind == "zone":
        return with_zone(shop, name, what, replace=True)
    if kind == "without zone":
        return without_zone(shop, name, cascade=what)
    if kind == "receiver":
        return with_anchor(shop, "receiver", name, what, replace=True)
    if kind == "beacon":
        given = {"zone": what, "uuid": UUID, "major": usual_major(shop), "minor": next_minor(shop)}
        return with_anchor(shop, "beacon", name, given, replace=True)
    return without_anchor(shop, what, name)


@settings(max_examples=200)
@given(st.lists(edits, max_size=20))
def test_any_sequence_of_edits_leaves_a_shop(sequence: list[Any]) -> None:
    shop = START
    for edit in sequence:
        before = shop.model_dump()
        try:
            shop = edited(shop, edit)
        except WrongCommand:
            pass
        else:
            shop.compiled()
            assert read_shop(shop.to_text().encode(), "") == ShopFile.model_validate(shop.model_dump())
            assert normal(normal(shop)) == normal(shop)
            for name, entry in shop.zones.items():
                for neighbour in entry.neighbours or ():
                    assert name in (shop.zones[neighbour].neighbours or ()), "neighbours are neighbours of each other"
            if edit[0] == "without zone":
                _assert_nobody_hears_more_than_before(before, shop)


def _assert_nobody_hears_more_than_before(before: dict[str, Any], shop: ShopFile) -> None:
    """A receiver with neither zone nor covers hears the whole shop: removing a zone must not make one of any other."""
    for name, entry in shop.model_dump()["anchors"].items():
        if entry["kind"] == "receiver" and entry["zone"] is None and not entry["covers"]:
            assert before["anchors"][name] == entry


@pytest.mark.parametrize(
    ("minors", "expected"),
    [((), 1), ((1,), 2), ((107, 3), 108), ((65534,), 1), ((1, 2, 65534), 3)],
)
def test_the_next_minor_is_above_the_highest_or_the_lowest_free(minors: tuple[int, ...], expected: int) -> None:
    assert next_minor(shop_with(*map(beacon, minors))) == expected


def test_when_every_minor_is_taken_there_is_no_next() -> None:
    full = shop_with(*(beacon(minor) for minor in range(1, 65535)))
    with pytest.raises(WrongCommand, match="every minor from 1 to 65534 is taken"):
        next_minor(full)


def test_the_usual_major_is_what_most_have() -> None:
    assert usual_major(shop_with()) == 1
    assert usual_major(shop_with(beacon(1, 7), beacon(2, 9), beacon(3, 9))) == 9


def test_spelling_makes_no_difference() -> None:
    one = read_shop(b'{"zones": {"a": {"tags": ["x", "y"], "title": "a"}, "b": {}}}', "").compiled()
    other = read_shop(b'{"zones": {"b": {}, "a": {"tags": ["y", "x", "y"]}}}', "").compiled()
    told = difference(one.zones, other.zones)
    assert (told.added, told.changed, told.removed) == ((), (), ())
    told = difference(one.zones, {"b": one.zones["a"], "c": one.zones["b"]})
    assert (told.added, told.changed, told.removed) == (("c",), ("b",), ("a",))
