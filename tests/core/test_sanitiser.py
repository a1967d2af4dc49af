"""The sanitiser: whatever comes in, one line comes out that steers neither a terminal nor a log."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.sanitiser import printable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", "", id="nothing"),
        pytest.param("Käse & Wein, 50 % – „heute“ 漢字 🧀", "Käse & Wein, 50 % – „heute“ 漢字 🧀", id="what people write"),
        pytest.param("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07", id="terminal sequences"),
        pytest.param("a\nb\r\nc\td", "a\\x0ab\\x0d\\x0ac\\x09d", id="line breaks and tabs"),
        pytest.param("a\x00b\x7fc\x9bd", "a\\x00b\\x7fc\\x9bd", id="NUL, DEL and C1"),
        pytest.param("\u2028\u2029\u0085", "\\u2028\\u2029\\x85", id="other line breaks"),
        pytest.param("user\u202egnp.exe\u2066", "user\\u202egnp.exe\\u2066", id="bidi"),
        pytest.param("\ud800", "\\ud800", id="half a surrogate"),
        pytest.param("\U000e0080", "\\U000e0080", id="unassigned, beyond the basic plane"),
        pytest.param(b"\x1b", "b'\\x1b'", id="bytes"),
        pytest.param(None, "None", id="None"),
        pytest.param(ValueError("bad\nvalue"), "bad\\x0avalue", id="an error"),
    ],
)
def test_what_steers_is_shown_instead(text: object, expected: str) -> None:
    assert printable(text) == expected


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("x" * 200, 200, "x" * 200),
        ("x" * 201, 200, "x" * 199 + "…"),
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        ("\n\n", 5, "\\x0a…"),
    ],
)
def test_what_is_too_long_is_cut(text: str, limit: int, expected: str) -> None:
    assert printable(text, limit) == expected


@given(st.text(st.characters()), st.integers(1, 300))
def test_any_text_becomes_one_safe_line(text: str, limit: int) -> None:
    safe = printable(text, limit)
    assert len(safe) <= limit
    assert len(safe.splitlines()) <= 1
    assert all(unicodedata.category(character) not in {"Cc", "Cs", "Cn", "Zl", "Zp"} for character in safe)
    assert all(unicodedata.bidirectional(c) not in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"} for c in safe)
    safe.encode()


@given(st.text(st.characters()))
def test_what_is_safe_stays_as_it_is(text: str) -> None:
    safe = printable(text, 5000)
    assert printable(safe, 5000) == safe


def test_the_cut_comes_before_the_work() -> None:
    assert printable("\n" * 10_000_000, 20) == "\\x0a" * 4 + "\\x0…"
