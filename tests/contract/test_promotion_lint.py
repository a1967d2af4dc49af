"""What `offer lint` finds in promotions: a table of named cases, each with everything that is found in it."""

import json
import re
import time
from pathlib import Path
from typing import Any, get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract.feeds import RowProblem, StockLine
from gateway.contract.fields import from_rfc3339
from gateway.contract.promotion_lint import Asset, Code, LintReport, lint, refusals, with_rows
from gateway.contract.promotions import PromotionsFile
from gateway.contract.shop import ShopFile
from gateway.core.conditions import ShopperContext

Json = dict[str, Any]
BERLIN = ZoneInfo("Europe/Berlin")
NOW_MS = from_rfc3339("2026-09-22T12:00:00+02:00")
"""A Tuesday."""
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SHOP = ShopFile.model_validate(
    {
        "zones": {
            "dairy": {"tags": ["chilled"]},
            "wine": {"tags": ["alcohol"], "sensitive": True},
            "cellar": {"tags": ["dark"]},
        },
        "anchors": {"door": {"kind": "receiver", "zone": "dairy"}, "back": {"kind": "receiver", "zone": "wine"}},
    }
)


def promotion(promotion_id: str = "milk", **changes: Any) -> Json:
    """One with which nothing is wrong."""
    title = {"de": f"Angebot {promotion_id}", "en": f"Offer {promotion_id}"}
    return {"promotion_id": promotion_id, "long_title": title, "zones": ["dairy"], **changes}


def report(*promotions: Any, shop: ShopFile | None = SHOP) -> LintReport:
    return lint({"promotions": list(promotions)}, shop=shop, now_ms=NOW_MS, time_zone=BERLIN)


def found(*promotions: Any, shop: ShopFile | None = SHOP) -> list[str]:
    """Severity, code and promotion of each finding."""
    return [f"{f.severity} {f.code} {f.promotion_id}" for f in report(*promotions, shop=shop).findings]


def test_a_zone_without_an_anchor_is_reached_where_positions_locate_shoppers_there() -> None:
    corners = {"dairy": (0, 0), "wine": (10, 0), "cellar": (0, 10), "office": (10, 10)}
    zones = {zone: {"corners": [[x, y], [x + 9, y], [x + 9, y + 9], [x, y + 9]]} for zone, (x, y) in corners.items()}
    anchors = {f"r{n}": {"kind": "receiver", "zone": "dairy", "at": [n * 6, n * n]} for n in range(4)}
    drawn = ShopFile.model_validate({"zones": zones, "anchors": anchors})
    assert found(promotion(zones=["cellar"]), shop=drawn) == []
    undrawn = ShopFile.model_validate({"zones": {zone: {} for zone in zones}, "anchors": anchors})
    assert found(promotion(zones=["cellar"]), shop=undrawn) == ["error unreachable milk"]
    # A gateway may know more than its shop file: what was learnt on a walk.
    document = {"promotions": [promotion(zones=["cellar"])]}
    known = lint(document, shop=undrawn, located={"dairy", "cellar"}, now_ms=NOW_MS, time_zone=BERLIN)
    assert known.findings == ()


def test_a_beacon_that_no_app_can_name_locates_nobody() -> None:
    beacon = {"kind": "beacon", "zone": "dairy", "beacon_id": "00" * 20}
    shop = ShopFile.model_validate({"zones": {"dairy": {}}, "anchors": {"milk": beacon}})
    assert found(promotion(), shop=shop) == ["error unreachable milk"]


def coupon(promotion_id: str, code: str, **changes: Any) -> Json:
    """With a code for the till."""
    return promotion(promotion_id, kind="coupon", offer_type="generic_code", generic_redemption_code=code, **changes)


MONDAYS, TUESDAYS = [{"weekdays": ["mon"]}], [{"weekdays": ["tue"]}]
REGULARS = {"field": "visits_30_days", "operator": "at_least", "value": 5}
DWELL = {"trigger": "dwell", "dwell_s": 60}
CASES: dict[str, tuple[list[Json], list[str]]] = {
    "nothing is wrong": ([promotion()], []),
    # ---- time
    "its dates are over": (
        [promotion(promotion_effective_dates="2026-09-01T00:00:00Z/2026-09-22T10:00:00Z")], ["error expired milk"],
    ),
    "its dates end in a millisecond": (
        [promotion(promotion_effective_dates="2026-09-01T00:00:00Z/2026-09-22T10:00:00.001Z")], [],
    ),
    "its dates begin next year": ([promotion(promotion_effective_dates="2027-09-01T00:00:00Z/2027-09-02T00:00:00Z")], []),
    "a window on no day": ([promotion(windows=[{"weekdays": []}])], ["error never_in_force milk"]),
    "a window of no length": ([promotion(windows=[{"start": "24:00", "end": "00:00"}])], ["error never_in_force milk"]),
    "one of two windows opens": ([promotion(windows=[{"weekdays": []}, {"weekdays": ["mon"]}])], []),
    "only Mondays, within a week without one": (
        [promotion(promotion_effective_dates="2026-09-22T00:00:00+02:00/2026-09-28T00:00:00+02:00", windows=MONDAYS)],
        ["error never_in_force milk"],
    ),
    "only Mondays, and the first begins as the dates end": (
        [promotion(promotion_effective_dates="2026-09-22T00:00:00+02:00/2026-09-28T00:00:01+02:00", windows=MONDAYS)], [],
    ),
    "only in the window that is open now": (
        [promotion(promotion_effective_dates="2026-09-22T00:00:00Z/2026-09-22T22:00:00Z", windows=[{"weekdays": ["tue"]}])], [],
    ),
    # ---- place
    "a misspelt zone": ([promotion(zones=["dary"])], ["warning unknown_zone milk", "error unreachable milk"]),
    "one misspelt zone of two": ([promotion(zones=["dary", "dairy"])], ["warning unknown_zone milk"]),
    "an unknown tag": ([promotion(zones=[], tags=["frozen"])], ["warning unknown_tag milk", "error unreachable milk"]),
    "a known tag": ([promotion(zones=[], tags=["chilled"])], []),
    "a zone without anchor": ([promotion(zones=["cellar"])], ["error unreachable milk"]),
    "one zone of two without anchor": ([promotion(tags=["dark"])], ["warning no_anchor milk"]),
    # ---- words
    "no German title": ([promotion(long_title={"en": "Milk"})], ["warning missing_language milk"]),
    "an English title of blanks": ([promotion(long_title={"de": "Milch", "en": "  "})], ["warning missing_language milk"]),
    "no English text": ([promotion(text={"de": "Frisch"})], ["warning missing_language milk"]),
    "no text at all": ([promotion(text={})], []),
    "fine print in one language": ([promotion(fine_print={"de": "Nur solange"})], ["warning missing_language milk"]),
    "the same words twice": (
        [promotion(), promotion("b", long_title={"de": " angebot MILK", "en": "offer milk "}, zones=["wine"])],
        ["warning duplicate_text b"],
    ),
    "the same title with another text": (
        [promotion(), promotion("b", long_title=promotion()["long_title"], zones=["wine"], text={"de": "Ja", "en": "Yes"})], [],
    ),
    # ---- what it is
    "a deadline of four seconds": ([promotion(deadline_s=4)], ["warning short_deadline milk"]),
    "a deadline of five seconds": ([promotion(deadline_s=5)], []),
    "a short deadline on the silent shelf": ([promotion(kind="info", deadline_s=1)], []),
    "a coupon without a code": ([promotion(kind="coupon")], ["warning missing_code milk"]),
    "a coupon with a code": ([promotion(kind="coupon", offer_type="generic_code", generic_redemption_code="M20")], []),
    # ---- beside others
    "two at the same moment": ([promotion("a"), promotion("b", priority=1)], ["warning shadowed a"]),
    "equal priorities are settled by name": ([promotion("a"), promotion("b")], ["warning shadowed b"]),
    "another zone": ([promotion("a"), promotion("b", zones=["wine"])], []),
    "by tag and by name": ([promotion("a", priority=1, zones=[], tags=["chilled"]), promotion("b")], ["warning shadowed b"]),
    "the better one has a window": ([promotion("a"), promotion("b", priority=1, windows=[{"weekdays": ["mon"]}])], []),
    "the better one ends": (
        [promotion("a"), promotion("b", priority=1, promotion_effective_dates="2026-09-01T00:00:00Z/2027-01-01T00:00:00Z")], [],
    ),
    "the better one is silent": ([promotion("a"), promotion("b", kind="info", priority=1)], []),
    "the worse one is silent": ([promotion("a", kind="info"), promotion("b", priority=1)], []),
    "a pickup spends no push": ([promotion("a"), promotion("b", kind="pickup", priority=1)], []),
    "whoever enters gets the push before whoever dwells": (
        [promotion("a", priority=9, **DWELL), promotion("b")], ["warning shadowed a"],
    ),
    "the shorter dwell comes first": (
        [promotion("a", priority=9, **DWELL), promotion("b", trigger="dwell", dwell_s=30)], ["warning shadowed a"],
    ),
    "the same dwell": ([promotion("a", **DWELL), promotion("b", priority=1, **DWELL)], ["warning shadowed a"]),
    "a sensitive one is passed over where only a hint spoke": ([promotion("a"), promotion("b", priority=1, sensitive=True)], []),
    "of two sensitive ones the better": (
        [promotion("a", sensitive=True), promotion("b", priority=1, sensitive=True)], ["warning shadowed a"],
    ),
    "in a sensitive zone all are": (
        [promotion("a", zones=["wine"]), promotion("b", zones=["wine"], priority=1, sensitive=True)], ["warning shadowed a"],
    ),
    "one that is over shadows nobody and is shadowed by nobody": (
        [promotion("a"), promotion("b", priority=1, promotion_effective_dates="2020-01-01T00:00:00Z/2021-01-01T00:00:00Z")],
        ["error expired b"],
    ),
    "one of two is for regulars only": (
        [promotion("a"), promotion("b", priority=1, audience=REGULARS)], [],
    ),
    "the better one runs out": ([promotion("a"), promotion("b", priority=1, quantity=50)], []),
    "the better one is held back from some": ([promotion("a"), promotion("b", priority=1, holdout_percent=10)], []),
    "whoever leaves has had the offer of whoever entered": (
        [promotion("a", priority=9, trigger="exit"), promotion("b")], ["warning shadowed a"],
    ),
    "a visit begins anywhere": (
        [promotion("a", zones=[], trigger="visit_start"), promotion("b", zones=["wine"], priority=1)], ["warning shadowed a"],
    ),
    # ---- for whom
    "for somebody": ([promotion(audience={"field": "segments", "operator": "contains", "value": "family"})], []),
    "for nobody": (
        [promotion(audience={"all": [
            {"field": "visits_30_days", "operator": "at_least", "value": 5},
            {"field": "visits_30_days", "operator": "less_than", "value": 3},
        ]})],
        ["error audience_never milk"],
    ),
    # ---- prices and pictures
    "cheaper than before": ([promotion(price="1.99 EUR", old_price="2.49 EUR")], []),
    "dearer than before": ([promotion(price="2.49 EUR", old_price="1.99 EUR")], ["error price_above_old milk"]),
    "out of stock": ([promotion(availability="out_of_stock")], ["error sold_out milk"]),
    "a picture with words in one language": (
        [promotion(image={"url": "https://x.example/m.png", "sha256": "0" * 64, "text": {"en": "Milk"}})],
        ["warning missing_language milk"],
    ),
    # ---- against one another
    "one code for two discounts": (
        [coupon("a", "M20", percent_off=10), coupon("b", "m20", percent_off=20, zones=["wine"])], ["error code_collides b"],
    ),
    "one code for the same discount in two zones": (
        [coupon("a", "M20", percent_off=20), coupon("b", "M20", percent_off=20, zones=["wine"])], [],
    ),
    "one code for two discounts, one after the other": (
        [coupon("a", "M20", percent_off=10, promotion_effective_dates="2026-09-01T00:00:00Z/2026-10-01T00:00:00Z"),
         coupon("b", "M20", percent_off=20, promotion_effective_dates="2026-10-01T00:00:00Z/2026-11-01T00:00:00Z")], [],
    ),
    "one code for two discounts, on different days": (
        [coupon("a", "M20", percent_off=10, windows=MONDAYS), coupon("b", "M20", percent_off=20, windows=TUESDAYS)], [],
    ),
    "one code for two discounts, which meet on Mondays": (
        [coupon("a", "M20", percent_off=10, windows=MONDAYS), coupon("b", "M20", percent_off=20, windows=MONDAYS)],
        ["error code_collides b"],
    ),
    "two discounts on one product": (
        [promotion("a", item_id=["4006381333931"], percent_off=10),
         promotion("b", item_id=["4006381333931"], percent_off=20, zones=["wine"])],
        ["warning collides b"],
    ),
    # ---- what is no promotion
    "without zones": ([promotion(), promotion("b", zones=[])], ["error invalid b"]),
    "a code that is missing": ([promotion(offer_type="generic_code")], ["error invalid milk"]),
    "a misspelt key": ([promotion(prority=3)], ["error invalid milk"]),
    "no id that could be told": ([promotion("a b"), promotion("\x1b[31m")], ["error invalid None", "error invalid None"]),
    "the same id twice": ([promotion(), promotion(zones=["wine"])], ["error invalid milk"]),
    "in the order of the file": (
        [promotion("c", zones=["dary"]), promotion("b", zones=[]), promotion("a", deadline_s=1)],
        ["warning unknown_zone c", "error unreachable c", "error invalid b", "warning short_deadline a"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_exactly_what_is_wrong_is_found(name: str) -> None:
    promotions, expected = CASES[name]
    assert found(*promotions) == expected


MILK, BREAD = "4006381333931", "4006381333948"
ON_THE_SHELF: dict[str, tuple[list[str], list[StockLine], list[str]]] = {
    "in stock": ([MILK], [StockLine(gtin=MILK, quantity=1)], []),
    "sold out": ([MILK], [StockLine(gtin=MILK, quantity=0)], ["error sold_out milk"]),
    "sold out by word": ([MILK], [StockLine(gtin=MILK, availability="out_of_stock")], ["error sold_out milk"]),
    "one of two is left": ([MILK, BREAD], [StockLine(gtin=MILK, quantity=0), StockLine(gtin=BREAD, quantity=2)], []),
    "one of two is not counted": ([MILK, BREAD], [StockLine(gtin=MILK, quantity=0)], []),
    "about no certain product": ([], [StockLine(gtin=MILK, quantity=0)], []),
    "cheaper": ([MILK], [StockLine(gtin=MILK, price="2.49 EUR", sale_price="1.99 EUR")], []),
    "dearer": ([MILK], [StockLine(gtin=MILK, price="1.99 EUR", sale_price="2.49 EUR")], ["error price_above_old milk"]),
    "another currency": ([MILK], [StockLine(gtin=MILK, price="1.99 EUR", sale_price="2.49 CHF")], []),
}


@pytest.mark.parametrize("name", ON_THE_SHELF)
def test_promotions_are_compared_with_the_shelf(name: str) -> None:
    items, lines, expected = ON_THE_SHELF[name]
    stock = {line.gtin: line for line in lines}
    told = lint({"promotions": [promotion(item_id=items)]}, shop=SHOP, now_ms=NOW_MS, time_zone=BERLIN, stock=stock)
    assert [f"{finding.severity} {finding.code} {finding.promotion_id}" for finding in told.findings] == expected


PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 4
IMAGE = {"url": "https://x.example/pictures/milk.png?v=2", "sha256": "a" * 64, "text": {"de": "Milch", "en": "Milk"}}
PICTURES: dict[str, tuple[dict[str, Asset], list[str]]] = {
    "as it says": ({"milk.png": Asset("a" * 64, 2_000, PNG)}, []),
    "not there": ({"bread.png": Asset("a" * 64, 2_000, PNG)}, ["error broken_asset"]),
    "another one": ({"milk.png": Asset("b" * 64, 2_000, PNG)}, ["error broken_asset"]),
    "no picture": ({"milk.png": Asset("a" * 64, 2_000, b"<!doctype ht")}, ["error broken_asset"]),
    "too large for a phone in a shop": ({"milk.png": Asset("a" * 64, 512 * 1024 + 1, PNG)}, ["error broken_asset"]),
    "as large as it may be": ({"milk.png": Asset("a" * 64, 512 * 1024, PNG)}, []),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_compared_with_the_files(name: str) -> None:
    assets, expected = PICTURES[name]
    told = lint({"promotions": [promotion(image=IMAGE)]}, shop=SHOP, now_ms=NOW_MS, time_zone=BERLIN, assets=assets)
    assert [f"{finding.severity} {finding.code}" for finding in told.findings] == expected


@pytest.mark.parametrize(
    ("contexts", "expected"),
    [
        ([ShopperContext(visits_30_days=7)], []),
        ([ShopperContext(visits_30_days=2), ShopperContext()], ["warning no_sample"]),
    ],
)
def test_an_audience_is_put_to_sample_shoppers(contexts: list[ShopperContext], expected: list[str]) -> None:
    audience = {"all": [
        {"field": "visits_30_days", "operator": "at_least", "value": 5},
        {"field": "local_time", "operator": "at_least", "value": "17:00"},
    ]}  # fmt: skip
    document = {"promotions": [promotion(audience=audience)]}
    told = lint(document, shop=SHOP, now_ms=NOW_MS, time_zone=BERLIN, contexts=contexts)
    assert [f"{finding.severity} {finding.code}" for finding in told.findings] == expected


def test_what_must_not_be_published_is_what_lint_calls_an_error() -> None:
    given = [promotion("a", deadline_s=1), promotion("b", availability="out_of_stock")]
    promotions = PromotionsFile.model_validate({"promotions": given}).promotions
    assert [f.code for f in refusals(promotions, now_ms=NOW_MS, time_zone=BERLIN)] == ["sold_out"]


def test_what_was_wrong_with_the_table_is_part_of_the_report() -> None:
    told = with_rows(report(promotion()), [RowProblem(3, "no."), RowProblem(0, "empty")], ["brand"])
    assert [(f.severity, f.code, f.what) for f in told.findings] == [
        ("error", "invalid", "row 3: no."), ("error", "invalid", "empty."),
        ("warning", "column", "these columns mean nothing here: brand."),
    ]  # fmt: skip
    assert (told.promotions, told.errors, told.warnings) == (1, 2, 1)


def test_every_code_is_in_a_table() -> None:
    told = [*(expected for _, expected in CASES.values()), *(expected for *_, expected in ON_THE_SHELF.values())]
    told += [*(expected for _, expected in PICTURES.values()), ["warning no_sample"]]
    named = {finding.split()[1] for expected in told for finding in expected}
    assert named | {"too_large", "column"} == set(get_args(Code))


@pytest.mark.parametrize(
    ("promotions", "words"),
    [
        ([promotion(zones=["dary"])], "there is no zone dary; did you mean dairy?"),
        ([promotion(zones=["dairy", "dary", "roof"])], "Unknown, too: roof."),
        ([promotion(zones=["cellar"])], "no anchor stands in any of its zones, so nobody is located there: cellar."),
        ([promotion("a"), promotion("b", priority=1)], "never wins in dairy while b is in force"),
        ([promotion(long_title={"en": "Milk"})], "long_title is missing in: de."),
        ([promotion(windows=[{"weekdays": []}])], "none of its windows ever opens."),
        ([promotion(promotion_effective_dates="2020-01-01T00:00:00Z/2021-01-01T00:00:00Z")], "over since 2021-01-01T00:00:00"),
        ([promotion("a b")], "promotions.0: promotion_id: a b is no name: use up to 50 letters, digits, _ . and -."),
        ([7], "promotions.0: "),
    ],
)  # fmt: skip
def test_a_finding_says_what_to_look_at(promotions: list[Any], words: str) -> None:
    assert any(words in finding.what for finding in report(*promotions).findings)


def test_zones_of_a_shadow_are_told_together() -> None:
    (finding,) = report(promotion("a", zones=["wine", "dairy"]), promotion("b", zones=["dairy", "wine"], priority=1)).findings
    assert finding.what.startswith("never wins in dairy, wine while b is in force")


def test_without_a_shop_nothing_is_said_of_places() -> None:
    told = report(promotion(zones=["dary"]), promotion("b", zones=["dary"], deadline_s=1), shop=None)
    assert (told.shop_known, [finding.code for finding in told.findings]) == (False, ["short_deadline"])


def test_the_numbers_are_those_of_the_findings() -> None:
    told = report(promotion("a", zones=["dary"]), promotion("b", zones=[]), promotion("c", deadline_s=1), 3)
    assert (told.promotions, told.errors, told.warnings) == (4, 3, 2)


@pytest.mark.parametrize("document", [{}, {"promotions": None}, {"promotions": {}}, {"promotions": [], "x\x1b": 1}])
def test_a_file_that_is_none_is_one_error(document: Json) -> None:
    (finding,) = lint(document, shop=SHOP, now_ms=NOW_MS, time_zone=BERLIN).findings
    assert (finding.severity, finding.code, finding.promotion_id) == ("error", "invalid", None)
    assert "\x1b" not in finding.what


def test_more_than_a_catalogue_can_carry_is_an_error() -> None:
    told = report(*(promotion(f"p-{number}", zones=["dairy"]) for number in range(6000)), shop=None)
    assert [finding.code for finding in told.findings] == ["too_large"]


def test_the_examples_are_in_order() -> None:
    document = json.loads((EXAMPLES / "promotions.json").read_text("utf-8"))
    shop = ShopFile.model_validate_json((EXAMPLES / "shop.json").read_bytes())
    assert lint(document, shop=shop, now_ms=NOW_MS, time_zone=BERLIN).findings == ()


entries = st.fixed_dictionaries(
    {},
    optional={
        "promotion_id": st.sampled_from(["a", "b", "c", "", "a b", 3]),
        "long_title": st.sampled_from([{}, {"en": "x"}, {"de": "x", "en": "y"}, {"fr": "x"}, None]),
        "zones": st.lists(st.sampled_from(["dairy", "wine", "dary", "A"]), max_size=3),
        "tags": st.lists(st.sampled_from(["chilled", "cold"]), max_size=2),
        "kind": st.sampled_from(["offer", "info", "coupon", "pickup", "no"]),
        "windows": st.lists(st.fixed_dictionaries({}, optional={"start": st.just("24:00"), "weekdays": st.just([])}), max_size=2),
        "promotion_effective_dates": st.sampled_from([None, "", "9999-01-01T00:00:00Z/9999-12-31T23:59:59Z", "/", 7]),
        "deadline_s": st.integers(-1, 700),
    },
)


@settings(max_examples=150)
@given(promotions=st.lists(entries | st.none() | st.integers() | st.text(max_size=3), max_size=6))
def test_what_lint_calls_invalid_is_what_an_import_refuses(promotions: list[Any]) -> None:
    told = report(*promotions)
    try:
        PromotionsFile.model_validate({"promotions": promotions})
        accepted = True
    except ValueError:
        accepted = False
    assert accepted == ("invalid" not in {finding.code for finding in told.findings})
    assert not any(re.search(r"[\x00-\x1f]", finding.what) for finding in told.findings)


@pytest.mark.slow
def test_the_largest_file_is_read_in_time() -> None:
    windows = [{"weekdays": ["mon"], "start": "08:00", "end": "20:00"}]
    many = [promotion(f"p-{number}", windows=windows, zones=["dary", "dairy"]) for number in range(4000)]
    started = time.monotonic()
    assert report(*many).promotions == 4000
    assert time.monotonic() - started < 60
