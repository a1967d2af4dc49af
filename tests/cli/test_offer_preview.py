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
        (["segments=family", "stopped=Yes"], "enters a nothing stopped"),
        (["segments=family", "stopped=no"], "enters a push"),
        (["segments=family", "stopped=false"], "enters a push"),
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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"segmnets": ["family"]}', "there is no field segmnets; did you mean segments?"),
        ('{"segments": "family"}', "segments: "),
        ('{"segments": ', "not strict JSON"),
        ('{"\\u202e": 1}', "there is no field \\u202e; there are: "),
    ],
)
def test_a_context_file_that_is_wrong_is_named_with_what_is_meant(
    marketing: Marketing, tmp_path: Path, text: str, words: str
) -> None:
    known = tmp_path / "context.json"
    known.write_text(text)
    done = marketing.preview(offer("a"), options=("--zone", "dairy", "--context", known))
    refused(done, 78, words)
    assert str(known) in done.stderr
    assert 'Write it like {"segments": ["family"]}.' in done.stderr


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
        ((), 2, "--zone ZONE or --reach DATE|RECORDING"),
        (("--zone", "dary"), 2, "did you mean dairy"),
        (("--zone", "dairy", "--at", "noon"), 2, "--at noon"),
        (("--zone", "dairy", "--at", "9999-12-31T23:59"), 2, "--at 9999-12-31T23:59: a time from 1970 to 9998 was expected"),
        (("--zone", "dairy", "--at", "9999-12-31T23:59:59-23:00"), 2, "--at 9999-12-31T23:59:59-23:00: a "),
        (("--zone", "dairy", "--at", "1969-12-31T23:00"), 2, "--at 1969-12-31T23:00: a time from 1970"),
        (("--zone", "dairy", "--at", "0001-01-01T00:00"), 2, "--at 0001-01-01T00:00: a "),
        (("--zone", "dairy", "--shopper", "stopped=maybe"), 2, "--shopper stopped=maybe: true, false, yes, no was expected."),
        (("--zone", "dairy", "--shopper", "family"), 2, "field=value"),
        (("--zone", "dairy", "--shopper", "visits_30_days=many"), 2, "a whole number"),
        (("--zone", "dairy", "--shopper", "shoe_size=43"), 2, "--shopper: there is no field shoe_size; there are:"),
        (("--zone", "dairy", "--shopper", "segmnets=family"), 2, "--shopper: there is no field segmnets; did you mean segments?"),
        (("--zone", "dairy", "--shopper", "version=3"), 2, "there is no field version"),
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


# ---- the reach in a recording -------------------------------------------------------------------------------------------------

HEARD = {"dairy": ("a", "b"), "wine": ("b", "a")}
TEN = 1_789_380_000
"""2026-09-14 10:00, UTC."""


def sightings(shopper: str, *stays: tuple[str, int, int], begin: float = TEN) -> list[Json]:
    """``stays``: (zone, from, until) in seconds; heard twice a second, loud where the shopper is and faint next door."""
    found = []
    for zone, start, end in stays:
        near, far = HEARD[zone]
        for half in range(2 * start, 2 * end):
            for anchor, rssi in ((near, -55), (far, -86)):
                found.append({"t": begin + half / 2, "shopper": shopper, "anchor": anchor, "rssi": rssi})
    return found


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Three shoppers: dairy then wine; wine only; the first one again two hours later."""
    file = tmp_path / "day.jsonl"
    lines = [
        *sightings("anna", ("dairy", 0, 90), ("wine", 90, 150)),
        *sightings("ben", ("wine", 10, 60)),
        *sightings("anna", ("dairy", 7200, 7260)),
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def reached(
    marketing: Marketing, recording: Path, *promotions: Json, options: tuple[object, ...] = ()
) -> dict[str, tuple[int, ...]]:
    """By promotion: shoppers, visits, offers, pushes."""
    found = marketing.preview(*promotions, options=("--reach", recording, *options, "--json")).json
    assert (found["shoppers"], found["visits"]) == (2, 3)
    return {p["promotion_id"]: (p["shoppers"], p["visits"], p["offers"], p["pushes"]) for p in found["promotions"]}


def test_a_recording_tells_whom_promotions_would_have_reached_without_any_gateway(marketing: Marketing, recording: Path) -> None:
    promotions = (
        offer("once"),
        offer("often", daily_cap=9, kind="service"),
        offer("wine", zones=["wine"]),
        offer("long", trigger="dwell", dwell_s=70),
        offer("noon", windows=[{"start": "12:00", "end": "13:00"}], kind="info"),
    )
    assert reached(marketing, recording, *promotions) == {
        "once": (1, 1, 1, 1),
        "often": (1, 2, 2, 2),
        "wine": (2, 2, 2, 1),
        "long": (1, 1, 1, 0),
        "noon": (1, 1, 1, 0),
    }


def test_a_recording_that_counts_from_zero_begins_when_it_is_said(marketing: Marketing, tmp_path: Path, recording: Path) -> None:
    evening = offer("evening", kind="info", windows=[{"start": "17:00", "end": "18:00"}])
    assert reached(marketing, recording, evening)["evening"] == (0, 0, 0, 0)
    lines = [json.loads(line) for line in recording.read_text().splitlines()]
    recording.write_text("".join(json.dumps({**line, "t": line["t"] - TEN}) + "\n" for line in lines))
    assert reached(marketing, recording, evening, options=("--at", "2026-09-14T17:00"))["evening"] == (1, 1, 1, 0)
    refused(marketing.preview(evening, options=("--reach", recording)), 2, "Say when it begins: --at")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no sighting"),
        ('{"t": 1}\n', "day.jsonl, line 1"),
        ('{"t": 1789380000, "shopper": "s", "anchor": "elsewhere", "rssi": -60}\n', "by an anchor of this shop"),
    ],
)
def test_what_is_no_recording_of_this_shop(marketing: Marketing, recording: Path, text: str, words: str) -> None:
    recording.write_text(text)
    refused(marketing.preview(offer("a"), options=("--reach", recording)), 78, words)


def test_times_that_lie_far_apart_are_no_trouble_while_they_are_of_some_calendar(marketing: Marketing, recording: Path) -> None:
    lines = [*sightings("s", ("dairy", 0, 60), begin=0), *sightings("s", ("dairy", 0, 60), begin=9e10)]
    recording.write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = ("--reach", recording, "--json", "--at")
    assert marketing.preview(offer("a"), options=(*options, "2026-09-14T17:00")).json["shoppers"] == 1
    refused(marketing.preview(offer("a"), options=(*options, "8000-01-01")), 2, "day.jsonl: would end after the year 9998.")


@pytest.mark.parametrize("last", ["9998-12-31T23:59", "1970-01-01T01:00"])
def test_the_first_and_the_last_time_that_can_be_asked_for(marketing: Marketing, last: str) -> None:
    done = marketing.preview(offer("a", windows=[{"start": "00:00", "end": "23:00"}]), options=("--zone", "dairy", "--at", last))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("reach", ["yesterday", "/dev/zero", "/", "x" * 5000, "", "2026-02-30"])
def test_what_is_neither_a_date_nor_a_file(marketing: Marketing, reach: str) -> None:
    refused(marketing.preview(offer("a"), options=("--reach", reach)), 2, "neither a date such as 2026-11-21 nor a file")


def test_a_simulated_walk_reaches_everybody_who_walked_by_the_shop_of_a_gateway(
    gateway: Forked, shown: Shown, tmp_path: Path
) -> None:
    walk, file = tmp_path / "walk.jsonl", tmp_path / "p.json"
    assert gateway.run("simulate", "--out", walk, "--shoppers", 3, "--strangers", 0, "--arrivals-s", 10).returncode == 0
    file.write_text(json.dumps({"promotions": [{"promotion_id": "hello", "long_title": TITLE, "trigger": "visit_start"}]}))
    arguments = ("--reach", walk, "--at", "2026-11-21T10:00", "--config", shown.folder / "gateway.toml")
    assert gateway.run("offer", "preview", file, *arguments).stdout.splitlines() == [
        "3 shoppers, 3 visits",
        "promotion  shoppers  visits  offers  pushes  withheld",
        "hello      3         3       3       3       –",
    ]
