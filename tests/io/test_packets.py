"""MQTT packets read and written without paho's properties, compared with what paho makes of them."""

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.contract.messages import CONTENT_TYPE
from gateway.io.broker import packets

LETTERS = string.ascii_letters + string.digits + "/-äß€😀"
TOPICS = st.text(LETTERS, min_size=1, max_size=60)
IDENTIFIERS = st.integers(1, 0xFFFF)


def paho_properties(
    content_type: str | None, correlation: bytes | None, expiry_s: int | None, user: list[tuple[str, str]]
) -> bytes:
    made: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if content_type is not None:
        made.ContentType = content_type
    if correlation is not None:
        made.CorrelationData = correlation
    if expiry_s is not None:
        made.MessageExpiryInterval = expiry_s
    for pair in user:
        made.UserProperty = pair
    return bytes(made.pack())


def publish(topic: bytes, identifier: int, properties: bytes, payload: bytes) -> bytes:
    """What follows the length of a PUBLISH of QoS 1."""
    return len(topic).to_bytes(2, "big") + topic + identifier.to_bytes(2, "big") + properties + payload


@given(
    TOPICS,
    IDENTIFIERS,
    st.binary(max_size=300),
    st.booleans(),
    st.booleans(),
    st.builds(
        paho_properties,
        st.none() | st.just(CONTENT_TYPE),
        st.none() | st.binary(max_size=200),
        st.none() | st.integers(0, 2**32 - 1),
        st.lists(st.tuples(st.text(LETTERS, max_size=40), st.text(LETTERS, max_size=40)), max_size=4),
    ),
)
def test_a_message_is_read_with_any_properties_and_without(
    topic: str, identifier: int, payload: bytes, retained: bool, again: bool, properties: bytes
) -> None:
    first = 0x32 | retained | again << 3
    expected = packets.Received(topic, payload, retained, identifier)
    with_them = publish(topic.encode(), identifier, properties, payload)
    assert packets.published(first, with_them, has_properties=True) == expected
    assert packets.published(first, bytearray(with_them), has_properties=True) == expected
    without = publish(topic.encode(), identifier, b"", payload)
    assert packets.published(first, without, has_properties=False) == expected


@given(TOPICS, IDENTIFIERS, st.data())
def test_a_message_that_ends_too_early_is_refused(topic: str, identifier: int, data: st.DataObject) -> None:
    whole = publish(topic.encode(), identifier, paho_properties(CONTENT_TYPE, b"1", 5, []), b"")
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(ValueError, match="a PUBLISH ends within its"):
        packets.published(0x32, cut, has_properties=True)


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b"\x00",
        publish(b"t", 1, b"\xff\xff\xff\xff\x7f", b"payload"),
        publish(b"t", 1, b"\x80", b""),
        publish(b"t", 1, b"\x08\x03", b"short"),
        publish(b"", 1, b"\x00", b"payload"),
        publish(b"\xff", 1, b"\x00", b"payload"),
        publish(b"\xed\xa0\x80", 1, b"\x00", b"payload"),
    ],
)
def test_nonsense_is_refused(rest: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        packets.published(0x32, rest, has_properties=True)


@pytest.mark.parametrize("first", [0x30, 0x31, 0x34, 0x35, 0x36])
def test_messages_of_another_quality_of_service_are_left_to_paho(first: int) -> None:
    assert packets.published(first, publish(b"t", 1, b"\x00", b"payload"), has_properties=True) is None


@pytest.mark.parametrize(
    ("rest", "identifier"),
    [
        (b"\x00\x07", 7),
        (b"\xff\xff", 65535),
        (b"\x00\x07\x00", 7),
        (b"\x00\x07\x10", None),
        (b"\x00\x07\x87", None),
        (b"\x00\x07\x00\x00", None),
        (b"\x00", None),
        (b"", None),
    ],
)
def test_only_a_plain_yes_is_a_confirmation(rest: bytes, identifier: int | None) -> None:
    assert packets.confirmed(rest) == identifier


@given(st.none() | st.integers(0, 2**32 - 1), st.none() | st.text(LETTERS, max_size=100))
def test_properties_are_written_as_paho_reads_them(expiry_s: int | None, correlation: str | None) -> None:
    octets = packets.Properties(expiry_s=expiry_s, correlation=correlation).pack()
    read: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    _, length = read.unpack(octets)
    assert length == len(octets)
    assert read.ContentType == CONTENT_TYPE
    assert getattr(read, "MessageExpiryInterval", None) == expiry_s
    assert getattr(read, "CorrelationData", None) == (None if correlation is None else correlation.encode())
