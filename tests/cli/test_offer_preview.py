"""`gateway offer preview`: who would get what, and whom it would have reached on a day that the real line has lived through."""

import json
import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.simulator.demo_promotions import demo_promotions
from gateway.simulator.plan_file import demo_floor_plan
from tests.cli.forked import Done, Forked
from tests.cli.shown import Shown
from tests.cli.test_report import day_of
from tests.cli.test_shop_commands import refused

Json = dict[str, Any]
SHOP = {
    "zones": {"dairy": {}, "wine": {}},
    "anchors": {"a": {"kind": "receiver", "zone": "dairy"}, "b": {"kind": "receiver", "zone": "wine"}},
}
TITLE = {"de": "Angebot", "en": "Offer"}
FAMILY = {"field": "segments", "operator": "contains", "value": "family"}


def offer(promotion_id: str, **more: Any) -> Json:
    return {"promotion_id": promotion_id, "long_title": TITLE, "zones": ["dairy"], **more}


class Marketing:
    """Files, and the command."""

    def __init__(self, gateway: Forked, folder: Path) -> None:
        self._gateway = gateway
        self._folder = folder
        (folder / "shop.json").write_text(json.dumps(SHOP))

    def preview(self, *promotions: Json, options: tuple[object, ...] = ()) -> Done:
        file = self._folder / "promotions.json"
        file.write_text(json.dumps({"promotions": promotions}))
        return self._gateway.run("offer", "preview", file, "--shop", self._folder / "shop.json", *options)

    def gets(self, *promotions: Json, options: tuple[object, ...] = ("--zone", "dairy")) -> list[str]:
        """``moment promotion what reason`` of each."""
        found = self.preview(*promotions, options=(*options, "--at", "2026-09-14T12:00", "--json")).json["offers"]
        return [" ".join(filter(None, (o["when"], o["promotion_id"], o["gets"], o["reason"]))) for o in found]


@pytest.fixture
def marketing(gateway: Forked, tmp_path: Path) -> Marketing:
    return Marketing(gateway, tmp_path)


def test_a_stay_is_told_from_the_entry_to_the_exit_with_one_push(marketing: Marketing) -> None:
    promotions = (
        offer("best", priority=5),
        offer("second"),
        offer("card", kind="info"),
        offer("slow", trigger="dwell", dwell_s=60),
        offer("bye", trigger="exit", kind="service"),
    )
    assert marketing.gets(*promotions) == [
        "enters best push",
        "enters card card",
        "enters second shelf lower_priority",
        "stays 60 s slow shelf cap_visit",
        "leaves bye push",
    ]


@pytest.mark.parametrize(
    ("shopper", "expected"),
    [
        ([], "enters a nothing no_context"),
        (["segments=family,vip"], "enters a push"),
        (["segments=student"], "enters a nothing audience"),
        (["segments=family", "stopped=true"], "enters a nothing stopped"),
        (["segments=family", "muted_categories=yoghurt"], "enters a nothing muted_category"),
    ],
)
def test_it_depends_on_who_the_shopper_is(marketing: Marketing, shopper: list[str], expected: str) -> None:
    options = [option for pair in shopper for option in ("--shopper", pair)]
    found = marketing.gets(offer("a", audience=FAMILY, category="yoghurt"), options=("--zone", "dairy", *options))
    assert found == [expected]


def test_a_context_may_come_as_a_file_and_each_condition_is_told(marketing: Marketing, tmp_path: Path) -> None:
    known = tmp_path / "context.json"
    known.write_text('{"segments": ["family"], "visits_30_days": 2}')
    done = marketing.preview(offer("a", audience=FAMILY), options=("--zone", "dairy", "--context", known))
    assert "a: segments contains family: family, holds" in done.stdout


def test_quiet_hours_and_windows_count(marketing: Marketing) -> None:
    evening = offer("evening", windows=[{"start": "17:00", "end": "20:00"}])
    assert marketing.gets(evening) == ["enters evening nothing outside_window"]
    assert marketing.gets(offer("a"), options=("--zone", "dairy", "--quiet", "11:00-13:00")) == ["enters a shelf quiet_hours"]


def test_a_zone_without_promotions(marketing: Marketing) -> None:
    done = marketing.preview(offer("a"), options=("--zone", "wine"))
    assert done.stdout == "no promotion waits for anybody in wine\n"


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ((), 2, "--zone ZONE or --reach DATE"),
        (("--zone", "dary"), 2, "did you mean dairy"),
        (("--zone", "dairy", "--at", "noon"), 2, "--at noon"),
        (("--zone", "dairy", "--shopper", "family"), 2, "field=value"),
        (("--zone", "dairy", "--shopper", "visits_30_days=many"), 2, "a whole number"),
        (("--zone", "dairy", "--shopper", "shoe_size=43"), 2, "of the shopper"),
        (("--zone", "dairy", "--quiet", "always"), 2, "--quiet always"),
    ],
)
def test_a_wrong_question_is_one_clear_sentence(marketing: Marketing, options: tuple[str, ...], code: int, words: str) -> None:
    refused(marketing.preview(offer("a"), options=options), code, words)


# ---- the reach of a day -------------------------------------------------------------------------------------------------------


def test_the_reach_is_what_the_gateway_did_with_the_same_promotions(gateway: Forked, shown: Shown, tmp_path: Path) -> None:
    """R3: within 5 % of the day; here exactly, because everything that decided is in the ledger."""
    file = tmp_path / "demo.json"
    promotions = [promotion.model_dump(mode="json", exclude_defaults=True) for promotion in demo_promotions()]
    file.write_text(json.dumps({"promotions": promotions}))
    arguments = ("--reach", day_of(shown), "--config", shown.folder / "gateway.toml", "--json")
    reach = gateway.run("offer", "preview", file, *arguments).json
    with closing(sqlite3.connect(shown.folder / "gateway" / "gateway.db")) as database:
        kept = database.execute(
            "SELECT promotion_id, ledger.shopper FROM offer JOIN ledger ON ledger.id = offer.ledger"
        ).fetchall()
        (shoppers,) = database.execute("SELECT count(DISTINCT shopper) FROM ledger WHERE type = 'zone.entered'").fetchone()
    offers: dict[str, list[str]] = defaultdict(list)
    for promotion_id, shopper in kept:
        offers[promotion_id].append(shopper)
    assert reach["shoppers"] == shoppers
    assert {p["promotion_id"]: (p["offers"], p["shoppers"]) for p in reach["promotions"] if p["offers"]} == {
        name: (len(some), len(set(some))) for name, some in offers.items()
    }


def test_what_central_alone_knows_is_counted_at_most_or_for_such_a_shopper(gateway: Forked, shown: Shown, tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    zones = demo_floor_plan().shop(bytes(16)).zones
    promotion = {"promotion_id": "a", "long_title": TITLE, "zones": [*zones], "kind": "info", "audience": FAMILY}
    file.write_text(json.dumps({"promotions": [promotion]}))
    arguments = ("offer", "preview", file, "--reach", day_of(shown), "--config", shown.folder / "gateway.toml")
    (most,) = gateway.run(*arguments, "--json").json["promotions"]
    (family,) = gateway.run(*arguments, "--shopper", "segments=family", "--json").json["promotions"]
    (student,) = gateway.run(*arguments, "--shopper", "segments=student", "--json").json["promotions"]
    assert most["at_most"]
    assert most["shoppers"] == family["shoppers"] > 0 == student["shoppers"]
    assert "at most" in gateway.run(*arguments).stdout
