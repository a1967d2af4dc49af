"""Every message of the wire contract: what is on the wire is what was meant, and what is not of the contract is refused."""

import copy
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract import strict_json
from gateway.contract.fields import to_rfc3339
from gateway.contract.messages import (
    EVENT,
    EVENT_TYPES,
    Ack,
    AckData,
    CloudEvent,
    GatewayStatus,
    LaterEvent,
    OfferMatched,
    UplinkEvent,
    ZoneEntered,
    read,
    read_event,
)
from gateway.errors import Untrusted
from tests.contract.examples import ALL, EPOCH, EVENTS, OTHERS, Json

each = pytest.mark.parametrize(("model", "document"), ALL, ids=[document["type"] for _, document in ALL])
each_event = pytest.mark.parametrize(("name", "document"), EVENTS.items(), ids=list(EVENTS))


def to_bytes(document: Json) -> bytes:
    return json.dumps(document).encode()


def kinds_of_messages(of: type[CloudEvent] = CloudEvent) -> Iterator[type[CloudEvent]]:
    """Those that are written; an event of a later version is only read."""
    for kind in of.__subclasses__():
        if kind.__module__.startswith("gateway.contract") and kind is not LaterEvent:
            yield kind
            yield from kinds_of_messages(kind)


def test_there_is_an_example_of_every_message() -> None:
    concrete = {kind for kind in kinds_of_messages() if "type" in kind.model_fields}
    assert {model for model, _ in ALL} == concrete


@each
def test_what_was_read_is_written_the_same_way(model: type[CloudEvent], document: Json) -> None:
    message = read(model, to_bytes(document), "test")
    assert json.loads(message.to_json()) == document
    assert read(model, message.to_json(), "test") == message


@each
def test_a_message_is_a_cloud_event(model: type[CloudEvent], document: Json) -> None:
    """CloudEvents 1.0: the required attributes, and names of lower case letters and digits only."""
    written = json.loads(read(model, to_bytes(document), "test").to_json())
    assert written["specversion"] == "1.0"
    assert {"id", "source", "type"} <= written.keys()
    names = written.keys() - {"data", "data_base64"}
    assert all(name.isascii() and name.isalnum() and name == name.lower() and len(name) <= 20 for name in names)
    assert ("data" in written) != ("data_base64" in written)


@each
def test_a_key_too_many_is_refused_at_every_level(model: type[CloudEvent], document: Json) -> None:
    with pytest.raises(Untrusted, match="mood: Extra inputs"):
        read(model, to_bytes({**document, "mood": 1}), "test")
    if "data" in document:
        with pytest.raises(Untrusted, match=r"data\.mood: Extra inputs"):
            read(model, to_bytes({**document, "data": {**document["data"], "mood": 1}}), "test")


@each
def test_what_is_missing_is_named(model: type[CloudEvent], document: Json) -> None:
    for name in ("id", "source", "time"):
        with pytest.raises(Untrusted, match=f"{name}: is missing"):
            read(model, to_bytes({key: value for key, value in document.items() if key != name}), "test")


@each
def test_another_version_of_cloud_events_is_refused(model: type[CloudEvent], document: Json) -> None:
    with pytest.raises(Untrusted, match="specversion"):
        read(model, to_bytes({**document, "specversion": "0.3"}), "test")


@each
def test_a_message_of_another_type_is_refused(model: type[CloudEvent], document: Json) -> None:
    with pytest.raises(Untrusted, match="type: "):
        read(model, to_bytes({**document, "type": "something.else.v1"}), "test")


@each_event
def test_an_event_is_known_by_its_type(name: str, document: Json) -> None:
    event = read_event(to_bytes(document), "test")
    assert type(event) is EVENT_TYPES[name]
    assert EVENT.validate_json(event.to_json()) == event


@each_event
def test_history_is_said_only_when_it_is(name: str, document: Json) -> None:
    assert b"history" not in read_event(to_bytes(document), "test").to_json()
    assert json.loads(read_event(to_bytes({**document, "history": True}), "test").to_json())["history"] is True
    with pytest.raises(Untrusted, match="history"):
        read_event(to_bytes({**document, "history": False}), "test")


def test_an_event_that_only_a_newer_version_knows_is_taken_unread() -> None:
    event = read_event(
        to_bytes({**EVENTS["tombstone.v1"], "type": "zone.left.v9", "data": {"shopper": [1]}, "mood": "good"}), "test"
    )
    assert isinstance(event, LaterEvent)
    assert (event.type, event.seq, event.data.model_dump()) == ("zone.left.v9", EVENTS["tombstone.v1"]["seq"], {"shopper": [1]})


def test_the_data_of_another_event_do_not_fit() -> None:
    crossed = {**EVENTS["visit.started.v1"], "type": "zone.exited.v1"}
    with pytest.raises(Untrusted, match=r"zone\.exited\.v1\.data\.zone: is missing"):
        read_event(to_bytes(crossed), "stores/demo/up/pi-1/event")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"type": "Zone left!"}, "type"),
        ({"seq": 0}, "seq"),
        ({"seq": 2**53}, "seq"),
        ({"seq": 10**30}, "seq"),
        ({"seq": "seven"}, "seq"),
        ({"epoch": "xyz"}, "epoch"),
        ({"monotonicms": 123456}, "monotonicms"),
        ({"monotonicms": "-1"}, "monotonicms"),
        ({"timequality": "good"}, "timequality"),
        ({"time": "soon"}, "time"),
        ({"bootid": "a b"}, "bootid"),
        ({"id": ""}, "id"),
        ({"id": "x" * 129}, "id"),
        ({"data": []}, "data"),
        ({"data": None}, "data"),
    ],
)
def test_an_event_with_a_wrong_value_is_refused_and_says_where(change: Json, what: str) -> None:
    with pytest.raises(Untrusted) as refusal:
        read_event(to_bytes({**EVENTS["visit.started.v1"], **change}), "stores/demo/up/pi-1/event")
    assert str(refusal.value).startswith("stores/demo/up/pi-1/event: ")
    assert what in refusal.value.what
    assert refusal.value.exit_code == 75


@pytest.mark.parametrize(
    ("name", "change", "what"),
    [
        ("zone.entered.v1", {"belief": 1.5}, "data.belief"),
        ("zone.entered.v1", {"zone": "Dairy!"}, "data.zone"),
        ("zone.entered.v1", {"shopper": "anna"}, "data.shopper"),
        ("zone.entered.v1", {"entry_time": 10**30}, "data.entry_time"),
        ("zone.dwelled.v1", {"dwell_s": -1}, "data.dwell_s"),
        ("zone.exited.v1", {"reason": "bored"}, "data.reason"),
        ("visit.ended.v1", {"zones": 0}, "data.zones"),
        ("offer.matched.v1", {"kind": "ad"}, "data.kind"),
        ("offer.matched.v1", {"promotion_id": "a/b"}, "data.promotion_id"),
        ("tombstone.v1", {"reason": "lost"}, "data.reason"),
    ],
)
def test_wrong_data_are_refused_and_say_where(name: str, change: Json, what: str) -> None:
    document = copy.deepcopy(EVENTS[name])
    document["data"].update(change)
    with pytest.raises(Untrusted) as refusal:
        read_event(to_bytes(document), "test")
    assert what in refusal.value.what


@pytest.mark.parametrize("payload", [b"", b"online", b"[]", b'{"a":NaN}', b"[" * 100_000, b"\xff\x00", b"{}"])
@pytest.mark.parametrize("model", [None, *OTHERS])
def test_what_is_no_message_at_all_is_refused(payload: bytes, model: type[CloudEvent] | None) -> None:
    reader = read_event if model is None else partial(read, model)
    with pytest.raises(Untrusted, match=r"^some/topic: "):
        reader(payload, "some/topic")


def values(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in a document."""
    yield path
    inner = document.items() if isinstance(document, dict) else []
    for key, value in inner:
        yield from values(value, (*path, key))


JSON = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
ANYTHING = JSON | st.lists(JSON, max_size=2) | st.dictionaries(st.text(max_size=4), JSON, max_size=2)


@given(st.data())
def test_one_value_replaced_by_anything_is_a_message_that_can_be_written_again_or_a_refusal(data: st.DataObject) -> None:
    model, document = data.draw(st.sampled_from(ALL))
    path = data.draw(st.sampled_from([path for path in values(document) if path]))
    changed = copy.deepcopy(document)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = data.draw(ANYTHING)
    try:
        payload = to_bytes(changed)
        message = read(model, payload, "test")
    except Untrusted as refusal:
        assert str(refusal).startswith("test: ")  # noqa: PT017 (a refusal is one of two good ends)
    else:
        assert read(model, message.to_json(), "test") == message


@given(st.integers(1, 2**53 - 1), st.integers(0, 253_402_300_799_999), st.floats(0, 1))
def test_numbers_and_times_survive_the_wire(seq: int, wall_ms: int, belief: float) -> None:
    document = copy.deepcopy(EVENTS["zone.entered.v1"])
    document.update(seq=seq, time=to_rfc3339(wall_ms))
    document["data"].update(entry_time=to_rfc3339(wall_ms), belief=belief)
    event = read_event(strict_json.canonical(document), "test")
    assert isinstance(event, ZoneEntered)
    assert (event.seq, event.time, event.data.entry_time, event.data.belief) == (seq, wall_ms, wall_ms, belief)
    assert read_event(event.to_json(), "test") == event


def test_an_uplink_event_never_expires_and_an_offer_says_its_deadline_as_data() -> None:
    kinds: list[type[UplinkEvent]] = list(EVENT_TYPES.values())
    assert all("expirytime" not in kind.model_fields for kind in kinds)
    matched = read_event(to_bytes(EVENTS["offer.matched.v1"]), "test")
    assert isinstance(matched, OfferMatched)
    assert matched.data.deadline - matched.data.matched_time == 30_000


def test_an_ack_may_say_that_nothing_is_stored_yet() -> None:
    assert AckData(epoch=EPOCH, seq=0).seq == 0
    document = copy.deepcopy(OTHERS[Ack])
    document["data"]["seq"] = 2**53
    with pytest.raises(Untrusted, match=r"data\.seq"):
        read(Ack, to_bytes(document), "ack")


def test_a_will_says_less_than_a_birth() -> None:
    document = {**OTHERS[GatewayStatus], "data": {"state": "offline"}}
    status = read(GatewayStatus, to_bytes(document), "test")
    assert (status.data.epoch, status.data.oldest_seq) == (None, None)
    assert json.loads(status.to_json())["data"] == {"state": "offline"}
