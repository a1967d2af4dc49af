"""JSON from outside: what is accepted, and that everything else is refused in one sentence and nothing but a refusal."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract.strict_json import MAX_BYTES, MAX_DEPTH, canonical, parse
from gateway.errors import Untrusted

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)


@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_canonical_bytes_are_read_back_as_the_same_value(value: dict[str, Any]) -> None:
    written = canonical(value)
    assert parse(written, "test") == value
    assert canonical(parse(written, "test")) == written


@given(st.dictionaries(TEXT, SCALARS, max_size=5))
def test_canonical_bytes_do_not_depend_on_the_order_of_the_keys(value: dict[str, Any]) -> None:
    assert canonical(value) == canonical(dict(reversed(value.items())))


@pytest.mark.parametrize(
    ("payload", "what"),
    [
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b'{"a": Infinity}', "Infinity is no JSON number"),
        (b'{"a": -Infinity}', "-Infinity is no JSON number"),
        (b'{"a": 1e999}', "a number is too large"),
        (b'{"a": -1.5e400}', "a number is too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not strict JSON"),
        (b'{"a": 1, "a": 2}', "a key occurs twice"),
        (b'{"o": {"a": 1, "a": 1}}', "a key occurs twice"),
        (b'{"a": 1, "\\u0061": 2}', "a key occurs twice"),
        (b'{"a": "\\ud800"}', "not strict JSON"),
        (b'{"\\udfff": 1}', "not strict JSON"),
        (b'{"a": "\xed\xa0\x80"}', "not strict JSON"),
        ('{"a": "\ud800"}', "not strict JSON"),
        (b'{"a": "\xff"}', "not strict JSON"),
        (b'\xef\xbb\xbf{"a": 1}', "not strict JSON"),
        (b'{"a": 1} {"b": 2}', "not strict JSON"),
        (b'{"a": 1,}', "not strict JSON"),
        (b"{'a': 1}", "not strict JSON"),
        (b'{"a": "line\nbreak"}', "not strict JSON"),
        (b'{"a": 1', "not strict JSON"),
        (b'{"a": "', "not strict JSON"),
        (b"", "not strict JSON"),
        (b"[1, 2]", "a JSON object was expected"),
        (b'"text"', "a JSON object was expected"),
        (b"null", "a JSON object was expected"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested deeper than 16"),
        (b"[" * 500_000, "nested deeper than 16"),
        (b'{"a":' * 150_000, "nested deeper than 16"),
    ],
)
def test_everything_else_is_refused_and_says_where(payload: bytes | str, what: str) -> None:
    with pytest.raises(Untrusted) as refusal:
        parse(payload, "some/topic")
    assert what in refusal.value.what
    assert str(refusal.value).startswith("some/topic: ")
    assert len(str(refusal.value)) < 200


def nested(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


def test_sixteen_levels_are_deep_enough_and_seventeen_too_deep() -> None:
    assert parse(nested(MAX_DEPTH), "test")
    with pytest.raises(Untrusted, match="deeper than 16"):
        parse(nested(MAX_DEPTH + 1), "test")


@pytest.mark.parametrize(
    "value", [{"a": "[" * 50, "b": "{" * 50}, {"a": "[" * 50, "b": '"' + "{" * 50, "c": '\\"[[[[[[[[[[[[[[[[[[', "d\\": "\\"}]
)
def test_brackets_in_texts_are_no_nesting(value: dict[str, str]) -> None:
    assert parse(json.dumps(value), "test") == value


@pytest.mark.parametrize("text", ["", "ä ]}", '"', "\\", '\\"]]'])
def test_texts_hide_no_nesting(text: str) -> None:
    value: object = text
    for _ in range(MAX_DEPTH):
        value = [text, value, text]
    with pytest.raises(Untrusted, match="deeper than 16"):
        parse(json.dumps({"a": value}, ensure_ascii=False), "test")


def test_a_mebibyte_is_accepted_and_one_byte_more_is_not() -> None:
    frame = len(b'{"a":""}')
    assert parse(b'{"a":"' + b"x" * (MAX_BYTES - frame) + b'"}', "test")
    with pytest.raises(Untrusted, match="1048577 bytes are more than the 1048576"):
        parse(b'{"a":"' + b"x" * (MAX_BYTES - frame + 1) + b'"}', "test")


@given(st.binary(max_size=200) | st.text('{}[]":,\\eE+-.0123456789untrfalsNI \ud800', max_size=80))
def test_whatever_comes_is_an_object_or_a_refusal(payload: bytes | str) -> None:
    with suppress(Untrusted):
        assert isinstance(parse(payload, "test"), dict)


def test_what_json_cannot_say_is_not_written() -> None:
    for value in (float("nan"), float("inf"), "\ud800"):
        with pytest.raises(ValueError, match=r"JSON compliant|surrogates"):
            canonical({"a": value})
