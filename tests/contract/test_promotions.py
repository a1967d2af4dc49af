"""Promotions as marketing writes them: what compiles to what, and what is refused in words that marketing understands."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.contract.fields import explain, minutes_of
from gateway.contract.promotions import Promotion, PromotionsFile, Window
from gateway.core.model import TimeWindow

Json = dict[str, Any]
LEAST: Json = {"promotion_id": "bread-20", "long_title": {"en": "20 % off bread"}, "zones": ["bakery"]}


def refusal(document: Json) -> str:
    with pytest.raises(ValidationError) as caught:
        Promotion.model_validate(document)
    return explain(caught.value)


def test_three_fields_are_enough() -> None:
    rule = Promotion.model_validate(LEAST).compiled()
    assert rule.zones == {"bakery"}
    assert (rule.kind, rule.trigger, rule.dwell_ms, rule.daily_cap, rule.deadline_ms) == ("offer", "enter", 0, 1, 30_000)
    assert not rule.is_time_limited


def test_everything_compiles_to_milliseconds_minutes_and_sets() -> None:
    rule = Promotion.model_validate(
        {
            **LEAST,
            "kind": "coupon",
            "offer_type": "generic_code",
            "generic_redemption_code": "BREAD20",
            "promotion_effective_dates": "2026-09-21T00:00:00+02:00/2026-09-28T00:00:00+02:00",
            "promotion_url": "https://example.org/bread",
            "fine_print": {"de": "Nur solange der Vorrat reicht."},
            "redemption_channel": ["in_store", "online"],
            "tags": ["fresh"],
            "trigger": "dwell",
            "dwell_s": 20,
            "windows": [{"weekdays": ["mon", "sun"], "start": "16:00", "end": "20:30"}, {"start": "22:00", "end": "02:00"}, {}],
            "priority": -5,
            "daily_cap": 3,
            "cool_down_s": 600,
            "cool_down_group": "bread",
            "deadline_s": 60,
            "sensitive": True,
        }
    ).compiled()
    assert (rule.effective_from_ms, rule.effective_until_ms) == (1_789_941_600_000, 1_790_546_400_000)
    assert rule.windows == (
        TimeWindow(frozenset({0, 6}), 960, 1230),
        TimeWindow(frozenset(range(7)), 1320, 120),
        TimeWindow(frozenset(range(7)), 0, 1440),
    )
    assert (rule.dwell_ms, rule.cool_down_ms, rule.deadline_ms, rule.sensitive) == (20_000, 600_000, 60_000, True)
    assert rule.is_time_limited


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"zones": []}, "names neither zones nor tags: nobody could ever get it"),
        ({"offer_type": "generic_code"}, "generic_redemption_code belongs to offer_type generic_code"),
        ({"generic_redemption_code": "A1"}, "generic_redemption_code belongs to offer_type generic_code"),
        ({"offer_type": "generic_code", "generic_redemption_code": "20 %"}, "generic_redemption_code: "),
        ({"offer_type": "generic_code", "generic_redemption_code": "x" * 21}, "generic_redemption_code: "),
        ({"trigger": "dwell"}, "dwell_s belongs to trigger dwell"),
        ({"dwell_s": 5}, "dwell_s belongs to trigger dwell"),
        ({"promotion_effective_dates": "2026-09-21T00:00:00Z"}, "two times joined by / were expected"),
        ({"promotion_effective_dates": "today/tomorrow"}, "a time as in 2026-09-21T14:20:37.123Z was expected"),
        ({"promotion_effective_dates": "2026-09-21T00:00:00Z/2026-09-21T00:00:00Z"}, "ends before it begins"),
        ({"promotion_effective_dates": "2026-09-22T00:00:00Z/2026-09-21T00:00:00Z"}, "ends before it begins"),
        ({"promotion_id": ""}, "promotion_id: "),
        ({"promotion_id": "x" * 51}, "promotion_id: "),
        ({"promotion_id": "a b"}, "promotion_id: "),
        ({"long_title": {}}, "long_title: "),
        ({"long_title": {"en": ""}}, "long_title.en: "),
        ({"long_title": {"en": "x" * 61}}, "long_title.en: "),
        ({"long_title": {"fr": "Pain"}}, "long_title.fr"),
        ({"long_title": "Bread"}, "long_title: "),
        ({"text": {"en": "x" * 241}}, "text.en: "),
        ({"kind": "ad"}, "kind: "),
        ({"redemption_channel": ["phone"]}, "redemption_channel.0: "),
        ({"promotion_url": "http://example.org"}, "promotion_url: "),
        ({"promotion_url": "https://" + "x" * 2000}, "promotion_url: "),
        ({"zones": ["Bakery"]}, "zones.0: "),
        ({"tags": ["a b"]}, "tags.0: "),
        ({"windows": [{"start": "25:00"}]}, "windows.0.start: "),
        ({"windows": [{"start": "7:00"}]}, "windows.0.start: "),
        ({"windows": [{"start": "17:60"}]}, "windows.0.start: "),
        ({"windows": [{"start": "x17:30"}]}, "windows.0.start: "),
        ({"windows": [{"end": "17:300"}]}, "windows.0.end: "),
        ({"windows": [{"end": "17:30\n"}]}, "windows.0.end: "),
        ({"windows": [{"end": "24:01"}]}, "windows.0.end: "),
        ({"windows": [{"end": "١٧:٣٠"}]}, "windows.0.end: "),
        ({"windows": [{"weekdays": ["monday"]}]}, "windows.0.weekdays.0: "),
        ({"windows": [{"from": "17:00"}]}, "windows.0.from: Extra inputs"),
        ({"daily_cap": 0}, "daily_cap: "),
        ({"daily_cap": 1.5}, "daily_cap: "),
        ({"deadline_s": 0}, "deadline_s: "),
        ({"deadline_s": 601}, "deadline_s: "),
        ({"cool_down_s": -1}, "cool_down_s: "),
        ({"priority": 1001}, "priority: "),
        ({"discount": 20}, "discount: Extra inputs"),
    ],
)
def test_what_cannot_work_is_refused_in_clear_words(change: Json, what: str) -> None:
    assert what in refusal({**LEAST, **change})


def test_a_missing_field_is_named() -> None:
    assert refusal({}).startswith("promotion_id: Field required")


def test_two_promotions_of_one_file_cannot_share_an_id() -> None:
    with pytest.raises(ValidationError) as caught:
        PromotionsFile.model_validate({"promotions": [LEAST, {**LEAST, "zones": ["dairy"]}]})
    assert "promotion_id bread-20 occurs twice" in explain(caught.value)


def test_the_whole_day_is_a_window_and_every_clock_time_is_a_minute() -> None:
    assert Window().compiled() == TimeWindow(frozenset(range(7)), 0, 1440)
    clocks = [f"{hour:02d}:{minute:02d}" for hour in range(24) for minute in range(60)]
    assert [minutes_of(Window(start=clock).start) for clock in clocks] == list(range(1440))
