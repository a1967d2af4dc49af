"""`gateway offer new`: each template is a promotion that could be published as it is."""

import json
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateway.cli.offer_new import promotions_from, templates
from gateway.cli.promotions_file import read_contexts
from gateway.contract.feeds import promotions_of
from gateway.contract.fields import from_rfc3339
from gateway.contract.promotion_lint import lint
from gateway.contract.promotions import PromotionsFile
from gateway.contract.shop import ShopFile
from gateway.core.timetable import is_in_force
from tests.cli.forked import Forked
from tests.cli.test_shop_commands import refused

BERLIN = ZoneInfo("Europe/Berlin")
NOW_MS = from_rfc3339("2026-10-24T12:00:00+02:00")
"""The day before the clocks go back."""
STORIES = {"R1", "R3", "R4", "R5", "R8", "R9", "R11", "R12", "R17", "R20", "R22", "R23"}
ZONES = ("bakery", "dairy", "electronics", "checkout", "produce", "wine")
SHOP = ShopFile.model_validate(
    {"zones": {zone: {} for zone in ZONES}, "anchors": {f"pi-{zone}": {"kind": "receiver", "zone": zone} for zone in ZONES}}
)


def made(name: str, promotion_id: str | None = None, zones: tuple[str, ...] = ()) -> dict[str, Any]:
    return promotions_from(name, promotion_id=promotion_id, zones=zones, now_ms=NOW_MS, time_zone=BERLIN)


def test_every_story_has_a_template() -> None:
    assert {template.story for template in templates().values()} == STORIES


@pytest.mark.parametrize("name", templates())
def test_lint_finds_nothing_in_a_template(name: str) -> None:
    assert lint(made(name), shop=SHOP, now_ms=NOW_MS, time_zone=BERLIN).findings == ()


@pytest.mark.parametrize("name", templates())
def test_a_template_speaks_german_and_english(name: str) -> None:
    assert templates()[name].about.keys() == {"de", "en"}
    for promotion in made(name)["promotions"]:
        assert promotion["long_title"].keys() == promotion["text"].keys() == {"de", "en"}


@pytest.mark.parametrize("name", templates())
def test_names_and_zones_are_those_that_were_asked_for(name: str) -> None:
    promotions = made(name, "mine", ("here", "there"))["promotions"]
    assert len({promotion["promotion_id"] for promotion in promotions}) == len(promotions)
    for promotion in promotions:
        assert promotion["promotion_id"].startswith("mine")
        assert promotion.get("zones") == (None if promotion["trigger"] in {"visit_start", "nth_visit"} else ["here", "there"])


def test_a_deal_of_the_day_ends_with_the_stores_day_also_when_that_has_25_hours() -> None:
    tomorrow_ms = NOW_MS + 24 * 3_600_000
    document = promotions_from("daily-deal", promotion_id=None, zones=(), now_ms=tomorrow_ms, time_zone=BERLIN)
    (deal,) = PromotionsFile.model_validate(document).promotions
    first, last = from_rfc3339("2026-10-25T00:00:00+02:00"), from_rfc3339("2026-10-26T00:00:00+01:00")
    in_force = [is_in_force(deal.compiled(), at_ms, BERLIN) for at_ms in (first - 1, first, last - 1, last)]
    assert in_force == [False, True, True, False]


def test_the_command_writes_what_lint_reads(gateway: Forked, tmp_path: Path) -> None:
    done = gateway.run("offer", "new", "--template", "fifty-euro-coupon", "--zone", "exit")
    assert done.returncode == 0, done.stderr
    file = tmp_path / "coupon.json"
    file.write_text(done.stdout)
    linted = gateway.run("offer", "lint", str(file), "--json")
    assert (linted.returncode, linted.json["findings"]) == (0, [])


def test_the_list_names_them_all(gateway: Forked) -> None:
    done = gateway.run("offer", "new", "--list", "--json")
    assert [each["name"] for each in done.json["templates"]] == [*templates()]
    text = gateway.run("offer", "new", "--list").stdout
    assert all(name in text for name in templates())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--template", "dayly-deal"], "did you mean daily-deal"),
        ([], "--list or --template NAME"),
        (["--list", "--template", "daily-deal"], "--list or --template NAME"),
        (["--template", "daily-deal", "--id", "a b"], "--id a b"),
        (["--template", "shelf-offer", "--zone", "Bad Zone"], "--zone Bad Zone: Bad Zone is no name: use up to 48 small letters"),
        (["--template", "daily-deal", "--time-zone", "Mars/Base"], "--time-zone Mars/Base"),
    ],
)
def test_what_cannot_be_made_is_refused(gateway: Forked, arguments: list[str], words: str) -> None:
    refused(gateway.run("offer", "new", *arguments), 2, words)


# ---- what else lint is given --------------------------------------------------------------------------------------------------


def test_lint_looks_at_the_pictures_of_a_folder(gateway: Forked, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "bread.png").write_bytes(b"\x89PNG\r\n\x1a\n and more")
    document = made("shelf-offer")
    image = {"url": "https://shop.example/p/bread.png", "sha256": "0" * 64, "text": {"de": "Brot", "en": "Bread"}}
    document["promotions"][0]["image"] = image
    file = tmp_path / "bread.json"
    file.write_text(json.dumps(document))
    done = gateway.run("offer", "lint", str(file), "--assets", str(pictures), "--json")
    assert (done.returncode, [each["code"] for each in json.loads(done.stdout)["findings"]]) == (78, ["broken_asset"])
    refused(gateway.run("offer", "lint", str(file), "--assets", str(tmp_path / "none")), 78, "Name the folder")


def test_lint_puts_audiences_to_sample_shoppers(gateway: Forked, tmp_path: Path) -> None:
    file, contexts = tmp_path / "family.json", tmp_path / "contexts.json"
    file.write_text(json.dumps(made("segment-offer")))
    contexts.write_text('[{"segments": ["student"]}, {"visits_30_days": 3}]')
    done = gateway.run("offer", "lint", str(file), "--contexts", str(contexts), "--json")
    assert (done.returncode, [each["code"] for each in done.json["findings"]]) == (0, ["no_sample"])
    contexts.write_text('[{"segments": ["family"]}]')
    assert gateway.run("offer", "lint", str(file), "--contexts", str(contexts), "--json").json["findings"] == []
    assert read_contexts(contexts)[0].segments == {"family"}
    for bad in ("{}", '[{"shoe_size": 43}]', '[{"store": "demo"}]', "[3]", "[]", "]"):
        contexts.write_text(bad)
        refused(gateway.run("offer", "lint", str(file), "--contexts", str(contexts)), 78, "no list of contexts")


def test_a_table_may_hold_an_audience_and_the_new_limits() -> None:
    rows = (
        "promotion_id,long_title,zones,trigger,visit_number,audience,weekly_cap,quantity,holdout_percent,availability\n"
        'a,Brot,bakery,nth_visit,5,"{""field"": ""language"", ""operator"": ""equals"", ""value"": ""de""}",2,100,10,In_Stock\n'
    )
    (promotion,) = promotions_of(rows, "csv").rows
    assert (promotion.visit_number, promotion.weekly_cap, promotion.quantity, promotion.holdout_percent) == (5, 2, 100, 10)
    assert promotion.audience.value == "de"
    (problem,) = promotions_of(rows.replace('{""field""', "{field"), "csv").problems
    assert (problem.row, problem.what.startswith("audience: ")) == (2, True)
