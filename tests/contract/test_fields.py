"""Names, identifiers and times on the wire."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError

from gateway.contract.audience import Audience
from gateway.contract.control import ExplainRequest
from gateway.contract.fields import (
    ClockTime,
    GatewayId,
    Gtin,
    InboxId,
    KeyHex,
    MoneyText,
    Name,
    PromotionId,
    Pseudonym,
    QuietHoursEntry,
    SignedMoneyText,
    StoreId,
    Strict,
    WallTime,
    explain,
    from_rfc3339,
    to_rfc3339,
)
from gateway.contract.messages import CardNumber
from gateway.contract.promotions import Promotion
from gateway.contract.settings import AdapterName, CentralStore
from gateway.contract.shop import BeaconEntry, NamespaceText

LEAST = {"promotion_id": "a", "long_title": {"de": "A"}, "zones": ["b"]}
LAST_MS = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z"""


class Moment(Strict):
    at: WallTime
    note: str = ""


@given(st.integers(0, LAST_MS))
def test_a_time_is_read_back_as_it_was_written(wall_ms: int) -> None:
    assert from_rfc3339(to_rfc3339(wall_ms)) == wall_ms
    assert Moment.model_validate_json(Moment(at=wall_ms).model_dump_json()).at == wall_ms


@given(st.integers(0, LAST_MS - 86_400_000), st.integers(-23 * 60, 23 * 60))
def test_the_zone_of_a_time_does_not_matter(wall_ms: int, offset_min: int) -> None:
    local = wall_ms + offset_min * 60_000
    if local >= 0:
        sign, minutes = "+" if offset_min >= 0 else "-", abs(offset_min)
        assert from_rfc3339(to_rfc3339(local)[:-1] + f"{sign}{minutes // 60:02d}:{minutes % 60:02d}") == wall_ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-09-21",
        "2026-09-21T14:20:37",
        "2026-09-21 14:20:37Z",
        "2026-09-21T14:20Z",
        "2026-09-21T14:20:37,5Z",
        "2026-09-21T14:20:37.Z",
        "2026-09-21T14:20:37z",
        "2026-13-21T14:20:37Z",
        "2026-02-30T14:20:37Z",
        "2026-09-21T25:20:37Z",
        "2026-09-21T14:20:37+25:00",
        "2026-09-21T14:20:37Z\n",
        " 2026-09-21T14:20:37Z",
        "1790000437123",
        "٢٠٢٦-٠٩-٢١T١٤:٢٠:٣٧Z",
    ],
)
def test_anything_but_rfc_3339_with_a_zone_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        from_rfc3339(text)
    with pytest.raises(ValidationError):
        Moment.model_validate({"at": text})


@pytest.mark.parametrize("text", ["2026-09-21T14:20:37Z", "2026-09-21T14:20:37.000000000Z", "2026-09-21T16:20:37+02:00"])
def test_fractions_and_zones_may_be_written_in_any_way_of_rfc_3339(text: str) -> None:
    assert from_rfc3339(text) == 1_790_000_437_000


@pytest.mark.parametrize("value", [-1, LAST_MS + 1, 10**30, "0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z"])
def test_times_that_no_clock_of_ours_shows_are_refused(value: Any) -> None:
    """SQLite could not store some of them, and others could not be written again."""
    with pytest.raises(ValidationError):
        Moment.model_validate({"at": value})


NAMES: list[tuple[Any, list[str], list[str]]] = [
    (StoreId, ["4012345000009", "demo", "a-1", "x" * 32], ["", "Demo", "x" * 33, "a/b", "a+", "#", "demo\n", "40123450ü"]),
    (GatewayId, ["pi-1", "0"], ["", "pi_1", "PI", "a/b", "+", "pi-1\n"]),
    (Name, ["dairy", "0-a_b", "a" * 48], ["", "-a", "_a", "a" * 49, "Dairy", "a b", "dairy\n"]),
    (InboxId, ["anna-1", "A_b", "x" * 64], ["", "x" * 65, "a/b", "+", "#", "anna.1", "anna\n"]),
    (PromotionId, ["bread-20", "A.b_c", "x" * 50], ["", "x" * 51, "a b", "a/b"]),
    (Pseudonym, ["0123456789abcdef"], ["", "0123456789ABCDEF", "0123456789abcde", "0123456789abcdef0"]),
]


@pytest.mark.parametrize(("kind", "good", "bad"), NAMES)
def test_names_are_what_a_topic_level_and_a_table_can_hold(kind: Any, good: list[str], bad: list[str]) -> None:
    adapter: TypeAdapter[str] = TypeAdapter(kind)
    for name in good:
        assert adapter.validate_python(name) == name
    for name in bad:
        with pytest.raises(ValidationError):
            adapter.validate_python(name)


def test_an_explanation_names_the_path_and_stops_after_three() -> None:
    class Two(Strict):
        moments: tuple[Moment, ...]
        a: int
        b: int
        c: int

    with pytest.raises(ValidationError) as caught:
        Two.model_validate({"moments": [{"at": "soon"}], "a": "x", "b": "y", "c": "z", "d": 1})
    text = explain(caught.value)
    assert text.startswith("moments.0.at: ")
    assert "a time as in 2026-09-21T14:20:37.123Z was expected" in text
    assert text.endswith("; and 2 more.")
    assert "https://" not in text


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        (Name, "Dairy", "Dairy is no name: use up to 48 small letters, digits, - and _, beginning with a letter or digit."),
        (Name, "\x1b[31m", "\\x1b[31m is no name: "),
        (Name, "A" * 1000, f"{'A' * 59}… is no name: "),
        (Name, "", "nothing is no name: "),
        (StoreId, "Demo", "Demo is no store: "),
        (GatewayId, "PI", "PI is no name: "),
        (PromotionId, "a b", "a b is no name: use up to 50 letters, digits, _ . and -."),
        (Gtin, "400", "400 is no product's number: a GTIN has 8, 12, 13 or 14 digits."),
        (Gtin, "4006381333932", "its check digit is wrong."),
        (MoneyText, "2,49 EUR", "2,49 EUR is no amount: write it with its currency as in 12.50 EUR."),
        (SignedMoneyText, "-2", "-2 is no amount: "),
        (ClockTime, "8:30", "8:30 is no time of day: write it as in 08:30."),
        (QuietHoursEntry, {"start": "08:30"}, "end: is missing."),
        (QuietHoursEntry, [], "an object was expected."),
        (dict[Name, int], {"A b": 1}, "A b: A b is no name: "),
        (Audience, {"field": "local_time", "operator": "at_least", "value": "7"}, "local_time.value: 7 is no time of day: "),
        (Promotion, {**LEAST, "promotion_url": "http://x"}, "promotion_url: http://x is no address: begin it with https://."),
        (Promotion, {**LEAST, "zones": []}, "names neither zones nor tags: nobody could ever get it."),
        (CentralStore, {"store_number": 1, "currency": "Euro"}, "currency: Euro is no currency: write it as in EUR."),
        (BeaconEntry, {"kind": "beacon", "zone": "a", "uuid": "12"}, "uuid: 12 is no UUID: write it as in f7826da6-"),
        (AdapterName, "eth0", "is no adapter: write hci0, or its address."),
        (ExplainRequest, {"decision": "1"}, "decision: is no decision: write it as in 3f9c1a2b-d142."),
    ],
)
def test_what_is_wrong_is_told_in_words(kind: Any, given: Any, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(given)
    text = explain(caught.value)
    assert said in text
    assert not re.search(r"String should|Value error|document: |Field required|\^|\.\.$", text)


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        (KeyHex, "5A" * 32, "write it with 64 hexadecimal digits, in small letters."),
        (Pseudonym, "5A" * 8, "write it with 16 hexadecimal digits, in small letters."),
        (NamespaceText, "0g" * 10, "write it with 20 hexadecimal digits."),
        (InboxId, "anna@home", "is no inbox: use up to 64 letters, digits, - and _."),
        (CardNumber, "4711 0815", "is no text like ^[0-9A-Za-z-]{1,40}$."),
    ],
)
def test_of_keys_phones_and_shoppers_it_is_not_told_what_was_given(kind: Any, given: str, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(given)
    assert explain(caught.value) == said


class Shelf(Strict):
    at: Moment | None = None
    beside: dict[str, "Shelf"] = Field(default_factory=dict)
    below: tuple["Shelf", ...] = ()


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"besides": {}}, "besides: Extra inputs are not permitted; did you mean beside?"),
        ({"beside": {"a": {"belwo": []}}}, "beside.a.belwo: Extra inputs are not permitted; did you mean below?"),
        ({"below": [{"below": [{"att": 1}]}]}, "below.0.below.0.att: Extra inputs are not permitted; did you mean at?"),
        ({"at": {"at": 0, "nota": 1}}, "at.nota: Extra inputs are not permitted; did you mean note?"),
        ({"at": {"at": 0, "below": 1}}, "at.below: Extra inputs are not permitted."),
        (
            {"colour": 1, "belo": 2},
            "colour: Extra inputs are not permitted; belo: Extra inputs are not permitted; did you mean below?",
        ),
        ({"below": 7}, "below: Input should be a valid tuple."),
    ],
)
def test_a_misspelt_key_is_met_with_the_one_that_was_meant_there(document: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Shelf.model_validate(document)
    assert explain(caught.value, Shelf) == said


def test_models_are_immutable_and_refuse_what_they_do_not_know() -> None:
    moment = Moment(at=0)
    with pytest.raises(ValidationError, match="frozen"):
        moment.at = 1
    with pytest.raises(ValidationError, match="Extra inputs"):
        Moment.model_validate({"at": 0, "nota": "misspelt"})
