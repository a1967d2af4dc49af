"""Promotions as marketing writes them: what compiles to what, and what is refused in words that marketing understands."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.contract.fields import explain, minutes_of
from gateway.contract.promotions import Promotion, PromotionsFile, Window
from gateway.core.conditions import AllOf, Leaf
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


LINK = "https://id.gs1.org/01/04006381333931"
IMAGE: Json = {"url": "https://example.org/bread.png", "sha256": "0" * 64, "text": {"de": "Ein Laib", "en": "A loaf"}}
ENTRY: Json = {"promotion_id": "hello", "long_title": {"en": "Hello"}}


def test_what_a_shop_floor_needs_compiles_as_far_as_the_gateway_decides_it() -> None:
    document: Json = {
        **LEAST,
        "trigger": "nth_visit",
        "visit_number": 5,
        "audience": {"all": [{"field": "segments", "operator": "contains", "value": "family"}]},
        "visit_cap": 1,
        "daily_cap": 2,
        "weekly_cap": 3,
        "lifetime_cap": 4,
        "store_cap_day": 100,
        "chain_cap_day": 1000,
        "quantity": 500,
        "quantity_per_store": 50,
        "reservation_s": 600,
        "holdout_percent": 10,
        "category": "bread",
        "image": IMAGE,
        "digital_link": LINK,
        "price": "1.99 EUR",
        "old_price": "2.49 EUR",
        "availability": "limited",
    }
    promotion = Promotion.model_validate(document)
    rule = promotion.compiled()
    assert (rule.trigger, rule.visit_number, rule.category) == ("nth_visit", 5, "bread")
    assert rule.audience == AllOf((Leaf("segments", "contains", "family"),))
    assert (rule.visit_cap, rule.daily_cap, rule.store_cap_day) == (1, 2, 100)
    assert Promotion.model_validate_json(promotion.model_dump_json(exclude_none=True)) == promotion


@pytest.mark.parametrize(
    "document",
    [
        {**ENTRY, "trigger": "visit_start"},
        {**ENTRY, "trigger": "nth_visit", "visit_number": 1},
        {**ENTRY, "trigger": "visit_start", "zones": ["door"]},
        {**LEAST, "trigger": "exit"},
        {**LEAST, "visit_cap": 3, "daily_cap": 3, "lifetime_cap": 3},
        {**LEAST, "lifetime_cap": 1},
        {**LEAST, "quantity": 5, "quantity_per_store": 5, "reservation_s": 60},
        {**LEAST, "quantity_per_store": 5, "reservation_s": 604_800},
        {**LEAST, "holdout_percent": 50},
        {**LEAST, "price": "1.00 EUR"},
        {**LEAST, "price": "2.00 EUR", "old_price": "1.00 EUR"},
        {**LEAST, "digital_link": "https://shop.example.org:8443/de/01/04006381333931/10/A1?17=261231"},
        {**LEAST, "image": {**IMAGE, "text": {"de": "x" * 120}}},
    ],
)
def test_what_fits_together_is_taken(document: Json) -> None:
    assert Promotion.model_validate(document).compiled().promotion_id == document["promotion_id"]


LEAF: Json = {"field": "visits_30_days", "operator": "at_least", "value": 5}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"trigger": "nth_visit"}, "visit_number belongs to trigger nth_visit"),
        ({"visit_number": 5}, "visit_number belongs to trigger nth_visit"),
        ({"trigger": "visit_start", "visit_number": 5}, "visit_number belongs to trigger nth_visit"),
        ({"trigger": "nth_visit", "visit_number": 0}, "visit_number: "),
        ({"trigger": "exit", "zones": []}, "names neither zones nor tags: nobody could ever get it"),
        ({"trigger": "exit", "dwell_s": 5}, "dwell_s belongs to trigger dwell"),
        ({"trigger": "leave"}, "trigger: "),
        ({"visit_cap": 2}, "visit_cap 2 could never be reached, because daily_cap is 1"),
        ({"daily_cap": 3, "weekly_cap": 2}, "daily_cap 3 could never be reached, because weekly_cap is 2"),
        ({"weekly_cap": 3, "lifetime_cap": 2}, "weekly_cap 3 could never be reached, because lifetime_cap is 2"),
        ({"daily_cap": 2, "lifetime_cap": 1}, "daily_cap 2 could never be reached, because lifetime_cap is 1"),
        ({"store_cap_day": 9, "chain_cap_day": 8}, "store_cap_day 9 could never be reached, because chain_cap_day is 8"),
        ({"quantity": 5, "quantity_per_store": 6}, "quantity_per_store 6 could never be reached, because quantity is 5"),
        ({"visit_cap": 0}, "visit_cap: "),
        ({"lifetime_cap": 101}, "lifetime_cap: "),
        ({"quantity": 0}, "quantity: "),
        ({"reservation_s": 600}, "reservation_s belongs to quantity or quantity_per_store"),
        ({"quantity": 5, "reservation_s": 59}, "reservation_s: "),
        ({"holdout_percent": 51}, "holdout_percent: "),
        ({"kind": "pickup", "holdout_percent": 1}, "holdout_percent does not go with kind pickup"),
        ({"kind": "service", "holdout_percent": 1}, "holdout_percent does not go with kind service"),
        ({"category": "Bread & Co"}, "category: "),
        ({"image": {**IMAGE, "url": "http://example.org/a.png"}}, "image.url: "),
        ({"image": {**IMAGE, "sha256": "0" * 63}}, "image.sha256: "),
        ({"image": {**IMAGE, "text": {}}}, "image.text: "),
        ({"image": {**IMAGE, "text": {"en": "x" * 121}}}, "image.text.en: "),
        ({"digital_link": "https://id.gs1.org/01/04006381333932"}, "its check digit is wrong"),
        ({"digital_link": "https://id.gs1.org/01/4006381333931"}, "its GTIN has 13 digits; a GS1 Digital Link has 14"),
        ({"digital_link": "http://id.gs1.org/01/04006381333931"}, "an https address with /01/ and a GTIN"),
        ({"digital_link": "https://id.gs1.org/02/04006381333931"}, "an https address with /01/ and a GTIN"),
        ({"old_price": "2.00 EUR"}, "old_price belongs to price"),
        ({"price": "1.00 EUR", "old_price": "2.00 USD"}, "price and old_price have different currencies"),
        ({"price": 1.99}, "price: "),
        ({"price": "1,99 EUR"}, "price: "),
        ({"availability": "soon"}, "availability: "),
        ({"audience": {"field": "age", "operator": "at_least", "value": 18}}, "audience: all, any, not, or a leaf with one of"),
        ({"audience": {"any": [LEAF, {**LEAF, "operator": "contains"}]}}, "audience.any.any.1.count.operator: "),
        ({"audience": {"not": {**LEAF, "value": "five"}}}, "audience.not.not.count.value: "),
        ({"audience": {"all": [{"any": [LEAF] * 40}, {"any": [LEAF] * 40}]}}, "80 leaves are more than 64"),
        ({"audience": {"field": "saved_offers", "operator": "equals", "value": "a"}}, "audience.saved_offers.operator: "),
    ],
)
def test_what_a_shop_floor_cannot_do_is_refused_in_clear_words(change: Json, what: str) -> None:
    assert what in refusal({**LEAST, **change})


def test_a_missing_field_is_named() -> None:
    assert refusal({}).startswith("promotion_id: is missing")


def test_two_promotions_of_one_file_cannot_share_an_id() -> None:
    with pytest.raises(ValidationError) as caught:
        PromotionsFile.model_validate({"promotions": [LEAST, {**LEAST, "zones": ["dairy"]}]})
    assert "promotion_id bread-20 occurs twice" in explain(caught.value)


def test_the_whole_day_is_a_window_and_every_clock_time_is_a_minute() -> None:
    assert Window().compiled() == TimeWindow(frozenset(range(7)), 0, 1440)
    clocks = [f"{hour:02d}:{minute:02d}" for hour in range(24) for minute in range(60)]
    assert [minutes_of(Window(start=clock).start) for clock in clocks] == list(range(1440))
