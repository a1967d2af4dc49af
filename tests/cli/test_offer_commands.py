"""`gateway offer`: what central has sent, what marketing is about to hand to it, and what is wrong with that."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.contract.downlinks import Catalogue
from gateway.contract.promotions import Promotion
from gateway.io.clock import SystemClock
from gateway.io.signing import Signer
from gateway.io.store import Store
from tests.cli.forked import Done, Forked
from tests.cli.test_shop_commands import SHOP, Shop, refused, running
from tests.cli.two_accounts import SERVICE, give_away, needs_root, owners, two_accounts

DAY_MS = 86_400_000
YOGHURT: dict[str, Any] = {
    "promotion_id": "yoghurt",
    "long_title": {"de": "3 Joghurts für 2", "en": "3 yoghurts for 2"},
    "zones": ["dairy"],
    "tags": ["chilled", "frozen"],
    "priority": 5,
    "trigger": "dwell",
    "dwell_s": 45,
    "offer_type": "generic_code",
    "generic_redemption_code": "JOG32",
}
OVER: dict[str, Any] = {
    "promotion_id": "summer",
    "kind": "info",
    "long_title": {"de": "Sommer\x1b[31m"},
    "zones": ["beach", "wine"],
    "windows": [{"weekdays": ["mon", "tue"], "start": "08:00", "end": "12:00"}, {}],
    "promotion_effective_dates": "2020-06-01T00:00:00+02:00/2020-09-01T00:00:00+02:00",
}


class Offers(Shop):
    """A gateway that does not run, with what central has sent to it."""

    def __init__(self, gateway: Forked, folder: Path, more: str = "") -> None:
        self.signer = Signer.from_file(folder / "signing.key")
        trust = f'[trust]\npublic_keys = ["{self.signer.public_key.hex()}"]\n'
        super().__init__(gateway, folder, SHOP, trust + more)

    def remember(self, *promotions: dict[str, Any], valid_ms: int = DAY_MS) -> None:
        """As the last process left it in the database."""
        now_ms = SystemClock().now().wall_ms
        parsed = tuple(Promotion.model_validate(promotion) for promotion in promotions)
        document = Catalogue(store="demo", version=7, not_after=now_ms + valid_ms, promotions=parsed)
        sealed = self.signer.seal(document, source="central", time_ms=now_ms)

        async def keep() -> None:
            store = Store(self.state / "gateway.db", quota_mib=16, boot_id="")
            await store.start()
            await store.keep_snapshot("catalogue", 7, sealed.to_json())
            await store.close()

        asyncio.run(keep())


@pytest.fixture
def offers(gateway: Forked, tmp_path: Path) -> Offers:
    return Offers(gateway, tmp_path)


def words(line: str) -> list[str]:
    """The cells of a table's row."""
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


# ---- list and show ------------------------------------------------------------------------------------------------------------


def test_the_catalogue_is_listed_by_priority(offers: Offers) -> None:
    offers.remember(OVER, YOGHURT)
    heading, columns, *rows = offers("offer list").stdout.splitlines()
    assert heading.startswith("catalogue 7: 2 promotions, 1 in force now, valid until ")
    assert words(columns) == ["promotion", "kind", "in force", "trigger", "priority", "zones", "title"]
    assert [words(row) for row in rows] == [
        ["yoghurt", "offer", "yes", "dwell 45 s", "5", "dairy", "3 yoghurts for 2"],
        ["summer", "info", "no", "enter", "0", "wine", "Sommer\\x1b[31m"],
    ]


def test_without_a_catalogue_it_is_said_why(offers: Offers) -> None:
    assert offers("offer list").stdout == "no promotions: central has sent no catalogue yet.\n"
    assert offers("offer list --json").json == {"version": None, "not_after": None, "promotions": []}
    refused(offers("offer show yoghurt"), 75, "central has sent no catalogue yet")
    offers.remember(YOGHURT, valid_ms=-1000)
    assert offers("offer list").stdout == "no promotions: the remembered catalogue has expired.\n"
    text = offers.config.read_text()
    offers.config.write_text(text.replace(offers.signer.public_key.hex(), "00" * 32))
    assert "is signed with a key that is not pinned" in offers("offer list").stdout


def test_one_promotion_is_shown_with_every_field(offers: Offers) -> None:
    offers.remember(YOGHURT, OVER)
    lines = dict(line.split("  ", 1) for line in offers("offer show yoghurt").stdout.splitlines())
    shown = {field.strip(): value.strip() for field, value in lines.items()}
    assert {field.partition(".")[0] for field in shown} == {"in force", "offered in", *Promotion.model_fields}
    assert shown["in force"] == "yes"
    assert shown["offered in"] == "dairy"
    assert shown["kind"] == "offer (spends the visit's push)"
    assert shown["long_title.de"] == "3 Joghurts für 2"
    assert (shown["tags"], shown["windows"], shown["text"]) == ("chilled, frozen", "always", "–")
    over = offers("offer show summer").stdout.splitlines()
    assert words(over[0]) == ["in force", "no, never again"]
    assert [words(line)[1] for line in over if line.startswith("windows")] == ["mon+tue 08:00–12:00", "every day 00:00–24:00"]
    dates = next(line for line in over if line.startswith("promotion_effective_dates"))
    assert words(dates)[1] == "Mon 2020-06-01 00:00 CEST – Tue 2020-09-01 00:00 CEST"
    assert "\x1b" not in "".join(over)


def test_it_is_told_when_a_promotion_comes_into_force_and_goes_out_of_it(offers: Offers) -> None:
    dates = "2099-06-01T00:00:00Z/9999-12-31T23:59:59Z"
    offers.remember(
        {**YOGHURT, "promotion_effective_dates": dates},
        {**OVER, "promotion_effective_dates": "2020-01-01T00:00:00Z/" + dates[-20:]},
    )
    assert words(offers("offer show yoghurt").stdout.splitlines()[0]) == ["in force", "no, from Mon 2099-06-01 02:00 CEST"]
    told = offers("offer show yoghurt --json").json
    assert (told["in_force"], told["next_change_time"], told["zones"]) == (False, "2099-06-01T00:00:00.000Z", ["dairy"])
    # The last hour of the year 9999 is in no calendar of the store's any more.
    assert words(offers("offer show summer").stdout.splitlines()[0])[1] == "yes until 9999-12-31T23:59:59.000Z"


def test_a_misspelt_promotion_is_met_with_the_one_that_was_meant(offers: Offers) -> None:
    offers.remember(YOGHURT, OVER)
    refused(offers("offer show yogurt"), 2, "there is no promotion yogurt; did you mean yoghurt?")


def test_a_zone_is_shown_with_its_promotions(offers: Offers) -> None:
    offers.remember(OVER, YOGHURT)
    *_, columns, row = offers("zone show dairy").stdout.splitlines()
    assert words(columns) == ["promotion", "kind", "priority", "in force", "title"]
    assert words(row) == ["yoghurt", "offer", "5", "yes", "3 yoghurts for 2"]
    assert offers("zone show wine --json").json["promotions"] == [
        {"promotion_id": "summer", "title": OVER["long_title"], "kind": "info", "priority": 0, "in_force": False}
    ]
    assert "promotions    none name it" in offers("zone show cellar").stdout


@pytest.mark.slow
def test_a_running_gateway_tells_the_same(offers: Offers) -> None:
    offers.remember(OVER, YOGHURT)
    text = offers.config.read_text()
    offers.config.write_text(text.replace("[broker]", "receivers = []\n[clock]\nassume_synchronised = true\n[broker]"))
    commands = ("offer list", "offer list --json", "offer show yoghurt", "offer show summer --json", "zone show dairy")
    before = {command: offers(command) for command in commands}
    with running(offers):
        for command, done in before.items():
            assert offers(command) == done
        removed = offers("zone remove wine --cascade").stdout
        assert removed.splitlines()[-1] == "note: promotions still name wine and are not offered there any more: summer"
        assert offers("offer show summer --json").json["zones"] == []
        completed = offers.gateway.run(
            _GATEWAY_COMPLETE="complete_bash", COMP_WORDS=f"gateway offer show --config {offers.config} yo", COMP_CWORD="5"
        )
        assert completed.stdout == "yoghurt\n"


# ---- import -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def central(tmp_path: Path) -> Path:
    """Settings of a central service with one store."""
    file = tmp_path / "central.toml"
    file.write_text(f'state_dir = "{tmp_path}/central"\n[stores.demo]\nstore_number = 4711\n')
    return file


def in_central(tmp_path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(tmp_path / "central" / "central.db")) as connection:
        return connection.execute("SELECT store, promotion_id FROM promotion ORDER BY promotion_id").fetchall()


def imported(gateway: Forked, central: Path, *promotions: Any, more: tuple[str, ...] = ()) -> Done:
    text = json.dumps({"promotions": promotions}).encode()
    return gateway.run("offer", "import", "-", "--config", central, *more, stdin=text)


def test_promotions_are_handed_to_central_all_or_nothing(gateway: Forked, central: Path, tmp_path: Path) -> None:
    bread = {**YOGHURT, "promotion_id": "bread"}
    done = imported(gateway, central, YOGHURT, bread)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2 promotions for demo\n", "")
    refused(imported(gateway, central, {**YOGHURT, "zones": [], "tags": []}), 78, "-: promotions.0: ", "Nothing was changed.")
    refused(imported(gateway, central, YOGHURT, OVER), 78, "-: summer: its effective dates are over", "Nothing was changed.")
    assert in_central(tmp_path) == [("demo", "bread"), ("demo", "yoghurt")]
    assert imported(gateway, central, more=("--json",)).json == {"store": "demo", "promotions": 0}
    assert in_central(tmp_path) == []


def test_where_central_has_several_stores_one_has_to_be_named(gateway: Forked, central: Path, tmp_path: Path) -> None:
    with central.open("a") as file:
        file.write("[stores.other]\nstore_number = 4712\n")
    refused(imported(gateway, central, YOGHURT), 2, "central has 2 stores; name one with --store: demo, other.")
    refused(imported(gateway, central, YOGHURT, more=("--store", "othr")), 2, "othr: is no store of this central service.")
    assert imported(gateway, central, YOGHURT, more=("--store", "other")).stdout == "1 promotions for other\n"
    assert in_central(tmp_path) == [("other", "yoghurt")]


GOOGLE = (
    "promotion_id\tproduct_applicability\toffer_type\tlong_title\tpercent_off\titem_id\n"
    "JOG10\tALL_PRODUCTS\tNO_CODE\t10 % auf Joghurt\t10\t4006381333931\n"
)


def test_googles_feed_is_handed_to_central_as_it_is(gateway: Forked, central: Path, tmp_path: Path) -> None:
    feed = tmp_path / "promotions.tsv"
    feed.write_text(GOOGLE)
    done = gateway.run("offer", "import", feed, "--config", central)
    refused(done, 78, "row 2: ", "names neither zones nor tags", "Nothing was changed.")
    for _ in range(2):
        done = gateway.run("offer", "import", feed, "--zone", "dairy", "--config", central)
        assert (done.returncode, done.stdout) == (0, "1 promotions for demo\n")
        assert done.stderr == "gateway: these columns mean nothing here: product_applicability.\n"
        assert in_central(tmp_path) == [("demo", "JOG10")]
    refused(
        gateway.run("offer", "import", feed, "--language", "fr", "--config", central), 2, "--language fr: de or en was expected."
    )


# ---- lint ---------------------------------------------------------------------------------------------------------------------


def test_what_is_wrong_is_told_in_one_line_each(offers: Offers) -> None:
    text = json.dumps({"promotions": [YOGHURT, OVER, {"promotion_id": "a\u202eb"}]}).encode()
    done = offers("offer lint -", stdin=text)
    assert (done.returncode, done.stderr) == (78, "")
    *findings, numbers = done.stdout.splitlines()
    assert [" ".join(line.split()[:2]) for line in findings] == [
        "error: file:", "warning: yoghurt:", "error: summer:", "warning: summer:", "warning: summer:", "error: summer:",
    ]  # fmt: skip
    assert numbers == "3 promotions: 3 errors, 3 warnings"
    assert "there is no zone beach; " in done.stdout
    assert "\u202e" not in done.stdout


@needs_root
def test_what_root_names_is_read_as_root_whatever_the_service_may_read(gateway: Forked) -> None:
    with two_accounts() as (folder, private):
        offers = Offers(gateway, folder)
        offers.remember(YOGHURT)
        give_away(offers.state)
        promotions, contexts, shop, day = (private / name for name in ("p.json", "contexts.json", "shop.json", "day.jsonl"))
        promotions.write_text(json.dumps({"promotions": [YOGHURT]}))
        contexts.write_text('[{"segments": ["family"]}]')
        shop.write_text(json.dumps(SHOP))
        anchor = next(iter(SHOP["anchors"]))
        day.write_text(json.dumps({"t": 1_789_380_000, "shopper": "s", "anchor": anchor, "rssi": -50}))
        done = offers("offer lint", promotions, "--assets", private, "--contexts", contexts)
        assert "yoghurt" in done.stdout, done
        for more in ((promotions,), (), ("--shop", shop)):
            done = offers("offer preview", *more, "--reach", day, "--json")
            assert [each["promotion_id"] for each in done.json["promotions"]] == ["yoghurt"]
        assert owners(offers.state) == {SERVICE}


def test_warnings_alone_are_no_failure(gateway: Forked, offers: Offers, tmp_path: Path) -> None:
    text = json.dumps({"promotions": [{**YOGHURT, "deadline_s": 1}]}).encode()
    done = gateway.run("offer", "lint", "-", stdin=text)
    assert (done.returncode, done.stdout.count("warning: yoghurt: ")) == (0, 1)
    assert done.stdout.splitlines()[-1] == (
        "1 promotions: 0 errors, 1 warnings; zones and tags were not checked: name the shop with --shop or --config"
    )
    told = gateway.run("offer", "lint", "-", "--shop", offers.file, "--json", stdin=text).json
    assert (told["shop_known"], told["errors"], [f["code"] for f in told["findings"]]) == (
        True,
        0,
        ["short_deadline", "unknown_tag"],
    )


def test_a_table_is_looked_through_and_compared_with_the_shelf(gateway: Forked, tmp_path: Path) -> None:
    feed, stock = tmp_path / "promotions.tsv", tmp_path / "stock.csv"
    feed.write_text(GOOGLE)
    stock.write_text("id,price,sale_price,quantity\n4006381333931,1.00 EUR,1.20 EUR,0\n")
    done = gateway.run("offer", "lint", feed, "--zone", "dairy", "--stock", stock, "--json")
    report = json.loads(done.stdout)
    found = {finding["code"]: finding["severity"] for finding in report["findings"]}
    assert found == {"column": "warning", "missing_language": "warning", "sold_out": "error", "price_above_old": "error"}
    assert (done.returncode, report["errors"], report["warnings"]) == (78, 2, 2)
    done = gateway.run("offer", "lint", feed)
    assert (done.returncode, done.stdout.splitlines()[0]) == (
        78,
        "error: file: row 2: names neither zones nor tags: nobody could ever get it. (invalid)",
    )
    stock.write_text("id,price\n4006381333931,1\n")
    refused(gateway.run("offer", "lint", feed, "--stock", stock), 78, "stock.csv: row 2: price", "Nothing was changed.")
    stock.write_text("id,price\n,1 EUR\n4006381333931,1\n")
    refused(
        gateway.run("offer", "lint", feed, "--stock", stock),
        78,
        "stock.csv: row 2: gtin: is missing; row 3: price: 1 is no amount: write it with its currency as in 12.50 EUR. Nothing",
    )
    refused(gateway.run("offer", "lint", feed, "--stock", tmp_path / "stock.json"), 78, "a table was expected")
    feed.write_bytes(b"promotion_id\xff")
    refused(gateway.run("offer", "lint", feed), 78, "no UTF-8 at octet 12.")


def test_a_table_as_a_german_spreadsheet_saves_it_is_read(gateway: Forked, tmp_path: Path) -> None:
    table = tmp_path / "semi.csv"
    table.write_text("promotion_id;long_title[de];long_title[en];zones\njoghurt;Joghurt;Yoghurt;dairy,wine\n")
    done = gateway.run("offer", "lint", table, "--json")
    assert (done.returncode, done.json["promotions"], done.json["findings"]) == (0, 1, [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "not strict JSON"),
        (b"[]", "a JSON object was expected"),
        (b"\xff", "not strict JSON"),
        (b" " * 2_000_000, "more than"),
    ],
)
def test_what_is_no_json_is_refused(gateway: Forked, text: bytes, said: str) -> None:
    refused(gateway.run("offer", "lint", "-", stdin=text), 78, "-: ", said, "Correct the file.")
