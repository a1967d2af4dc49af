"""`gateway report day`: the funnel of a day that the real line has lived through, as text, JSON and page."""

import re
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.report_page import page
from gateway.contract.day_report import (
    FEWEST_COMPARED,
    FEWEST_SHOPPERS,
    DayReport,
    EffectDay,
    PromotionDay,
    Steps,
    ZoneDay,
    day_report,
)
from gateway.contract.messages import RefusalReason
from gateway.core.model import WithheldReason
from tests.cli.forked import Done, Forked
from tests.cli.shown import GATEWAY, Shown
from tests.cli.test_shop_commands import refused
from tests.cli.two_accounts import SERVICE, give_away, needs_root, owners, two_accounts


def day_of(shown: Shown) -> str:
    with closing(sqlite3.connect(shown.folder / "gateway" / "gateway.db")) as database:
        (wall_ms,) = database.execute("SELECT min(wall_ms) FROM ledger").fetchone()
    return datetime.fromtimestamp(wall_ms / 1000, UTC).astimezone(ZoneInfo("Europe/Berlin")).date().isoformat()


def report(gateway: Forked, shown: Shown, *more: object) -> Done:
    return gateway.run("report", "day", "--day", day_of(shown), *more, *shown.arguments)


def test_the_day_of_the_demonstration(gateway: Forked, shown: Shown) -> None:
    told = DayReport.model_validate(report(gateway, shown, "--json").json)
    summary = shown.summary
    assert told.offers.matched == summary["offers_matched"]
    assert told.offers.granted == told.offers.shown == summary["offers_in_inbox"]
    assert told.offers.redeemed == 0
    assert sum(promotion.matched for promotion in told.promotions) == told.offers.matched
    with closing(sqlite3.connect(shown.folder / "gateway" / "gateway.db")) as database:
        entries = Counter(dict(database.execute("SELECT zone, count(*) FROM ledger WHERE type = 'zone.entered' GROUP BY 1")))
        (visits,) = database.execute("SELECT count(DISTINCT visit) FROM ledger WHERE type = 'zone.entered'").fetchone()
    assert told.visits == visits
    assert {zone.zone for zone in told.zones} == set(entries)
    # The demonstration has four shoppers: too few to tell where they were.
    assert all(zone.entries is None and zone.withheld is None for zone in told.zones)


def test_it_reads_well(gateway: Forked, shown: Shown) -> None:
    done = report(gateway, shown)
    assert done.returncode == 0, done.stderr
    assert re.match(r"store demo, [A-Z][a-z]+day \d{4}-\d\d-\d\d \(Europe/Berlin\): \d+ visits\n", done.stdout)
    assert "promotion" in done.stdout
    assert f"fewer than {FEWEST_SHOPPERS} shoppers" in done.stdout


def test_without_central_the_reactions_are_not_known(gateway: Forked, shown: Shown) -> None:
    config = shown.folder / "gateway.toml"
    done = gateway.run("report", "day", "--day", day_of(shown), "--json", "--config", config)
    offers = DayReport.model_validate(done.json).offers
    assert offers.granted == shown.summary["offers_in_inbox"]
    assert (offers.shown, offers.opened, offers.redeemed) == (None, None, None)


def test_a_day_without_anybody(gateway: Forked, shown: Shown, tmp_path: Path) -> None:
    html = tmp_path / "report.html"
    done = gateway.run("report", "day", "--day", "1999-12-31", "--html", html, "--json", *shown.arguments)
    told = DayReport.model_validate(done.json)
    assert (told.visits, told.offers.matched, told.promotions, told.zones) == (0, 0, (), ())
    assert "Nothing that day." in html.read_text()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--day", "yesterday"), 2, "--day yesterday: a date such as"),
        (("--language", "fr"), 2, "--language fr: en or de was expected."),
        (("--html", "/nowhere/report.html"), 74, "/nowhere/report.html: cannot be written"),
    ],
)
def test_a_wrong_question_is_one_clear_sentence(
    gateway: Forked, tmp_path: Path, words: tuple[str, ...], code: int, says: str
) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(GATEWAY.format(state_dir=tmp_path))
    refused(gateway.run("report", "day", *words, "--config", config), code, says)


@needs_root
def test_root_has_the_page_where_the_service_may_not_write(gateway: Forked, shown: Shown) -> None:
    with two_accounts() as (folder, private):
        shutil.copytree(shown.folder / "gateway", folder / "gateway")
        config, page_file = folder / "gateway.toml", private / "report.html"
        config.write_text(GATEWAY.format(state_dir=folder / "gateway"))
        give_away(folder / "gateway")
        done = gateway.run("report", "day", "--day", day_of(shown), "--html", page_file, "--json", "--config", config)
        assert DayReport.model_validate(done.json).visits > 0
        assert page_file.read_text().startswith("<!DOCTYPE html>")
        assert page_file.stat().st_uid == 0
        assert owners(folder / "gateway") == {SERVICE}


# ---- the page -----------------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What it would load from elsewhere, and whether every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.loads += [str(value) for name, value in attributes if name in {"src", "href", "action"}]
        if tag in {"script", "link", "iframe", "img"}:
            self.loads.append(tag)
        if tag not in {"meta", "rect"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "rect":
            assert self.open.pop() == tag


REPORT = DayReport(
    store="4711",
    day=date(2026, 11, 21),
    time_zone="Europe/Berlin",
    visits=40,
    offers=Steps(matched=30, granted=28, refused=1, late=1, shown=25, opened=9, saved=2, dismissed=3, redeemed=4),
    withheld={"cap_visit": 12, "outside_window": 3},
    refused={"push_spent": 1},
    promotions=(PromotionDay(promotion_id="bread", matched=30, granted=28, refused=1, late=1, shown=25, redeemed=4),),
    zones=(ZoneDay(zone="bakery", entries=31, withheld={}), ZoneDay(zone="wine", entries=None, withheld=None)),
)


@pytest.mark.parametrize("language", ["de", "en"])
def test_the_page_needs_nothing_but_itself(language: Literal["de", "en"]) -> None:
    text = page(REPORT, language)
    parsed = Page()
    parsed.feed(text)
    assert (parsed.loads, parsed.open) == ([], [])
    assert f'<html lang="{language}">' in text
    for word in {"de": ("Besuche", "eingelöst", "weniger als 10 Personen"), "en": ("visits", "redeemed", "fewer than 10")}[
        language
    ]:
        assert word in text


@pytest.mark.parametrize("reason", [*(each.value for each in WithheldReason), *get_args(RefusalReason)])
def test_each_reason_has_german_words(reason: str) -> None:
    report = REPORT.model_copy(update={"withheld": {reason: 1}, "refused": {reason: 1}})
    assert f"<span>{reason.replace('_', ' ')}</span>" in page(report, "en")
    assert f"<span>{reason.replace('_', ' ')}</span>" not in page(report, "de")


def test_names_from_outside_are_escaped() -> None:
    report = REPORT.model_copy(update={"refused": {"<script>": 1}, "time_zone": "<b>"})
    assert "<script>" not in page(report, "en")
    assert "<b>" not in page(report, "en")


EFFECTS = (
    EffectDay(
        promotion_id="bread",
        treated=120,
        held_out=30,
        treated_bought=0.4,
        held_out_bought=0.2,
        difference=0.2,
        low=0.01,
        high=0.34,
    ),
    EffectDay(promotion_id="wine", treated=12, held_out=3),
)


def test_what_a_promotion_brought_stands_beside_its_interval() -> None:
    report = REPORT.model_copy(update={"effects": EFFECTS})
    english, german = page(report, "en"), page(report, "de")
    assert "+20.0 points (+1.0 to +34.0)" in english
    assert "+20,0 Punkte (+1,0 bis +34,0)" in german
    assert "not enough data: 30 of each are needed" in english
    assert "zu wenig Daten: je 30 sind nötig" in german
    assert english.count('class="interval"') == 1
    parsed = Page()
    parsed.feed(english)
    assert (parsed.loads, parsed.open) == ([], [])
    assert "What it brought" not in page(REPORT, "en")


# ---- the arithmetic -----------------------------------------------------------------------------------------------------------


class Happened(NamedTuple):
    visit: str
    shopper: str | None
    zone: str
    entered: bool
    withheld: Counter[str]


class Proposed(NamedTuple):
    offer: str
    promotion_id: str
    state: str
    reason: str
    kind: str
    push: bool


EVENTS = st.lists(
    st.builds(
        lambda number, zone, entered, withheld: Happened(f"v{number}", f"s{number}", zone, entered, Counter(withheld)),
        st.integers(0, 30),
        st.sampled_from(["a", "b"]),
        st.booleans(),
        st.dictionaries(st.sampled_from(["cap_day", "quiet_hours"]), st.integers(1, 3)),
    ),
    max_size=60,
)
STATES = st.sampled_from(["shown", "opened", "saved", "dismissed", "redeemed"])


@given(EVENTS, st.dictionaries(st.integers(0, 20).map(str), st.sets(STATES)))
def test_nobody_is_counted_twice_and_few_are_not_told(events: list[Happened], receipts: dict[str, set[str]]) -> None:
    states = ("granted", "refused", "late", "proposed")
    proposals = [
        Proposed(str(n), f"p{n % 3}", states[n % 4], "push_spent" if n % 4 == 1 else "", ("offer", "info")[n % 2], n < 3)
        for n in range(12)
    ]
    told = day_report("demo", date(2026, 11, 21), "Europe/Berlin", events, proposals, receipts)
    assert told.visits == len({event.visit for event in events})
    assert sum(told.withheld.values()) == sum(event.withheld.total() for event in events)
    for zone in told.zones:
        there = [event for event in events if event.zone == zone.zone]
        if len({event.shopper for event in there}) < FEWEST_SHOPPERS:
            assert (zone.entries, zone.withheld) == (None, None)
        else:
            assert zone.entries == sum(event.entered for event in there)
    assert (told.offers.matched, told.offers.granted, told.refused) == (12, 3, {"push_spent": 3})
    assert told.offers.shelf == 4, "what is no card and was not pushed"
    steps = told.offers
    assert steps.shown is not None
    assert steps.opened is not None
    assert steps.redeemed is not None
    assert steps.matched >= steps.shown >= steps.opened >= steps.redeemed


class Bought(NamedTuple):
    treated: int
    treated_bought: int
    held_out: int
    held_out_bought: int


def effect(people: Bought) -> EffectDay:
    told = day_report("demo", date(2026, 11, 21), "Europe/Berlin", [], [], {}, {"bread": people})
    assert told.effects is not None
    return told.effects[0]


def test_below_thirty_in_either_group_no_share_is_told() -> None:
    assert effect(Bought(500, 100, FEWEST_COMPARED - 1, 3)) == EffectDay(promotion_id="bread", treated=500, held_out=29)
    assert effect(Bought(FEWEST_COMPARED - 1, 9, 500, 3)) == EffectDay(promotion_id="bread", treated=29, held_out=500)
    told = effect(Bought(FEWEST_COMPARED, 15, FEWEST_COMPARED, 6))
    assert (told.treated_bought, told.held_out_bought, told.difference) == (0.5, 0.2, 0.3)


def test_without_central_no_effect_is_known() -> None:
    assert day_report("demo", date(2026, 11, 21), "Europe/Berlin", [], [], None).effects is None
