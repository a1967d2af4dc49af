"""Whoever got a promotion beside whoever was held out of it: who counts, in which group, and what counts as bought."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from gateway.central import records
from gateway.central.contexts import day_at
from gateway.central.effect import Outcomes, outcomes_of_day
from gateway.central.retention import RECEIPT_DAYS, forget_old
from gateway.io.store.database import open_database
from tests.central.chain import DAY_MS, HOUR_MS, MILK, MINUTE_MS, NOW_MS, STORES, YOGHURT, Chain, promotion

TODAY = day_at(STORES["north"], NOW_MS)
PEOPLE = [f"shopper-{number}" for number in range(24)]
LATER_MS = NOW_MS + 5 * MINUTE_MS


def measured(chain: Chain, store: str = "north") -> dict[str, Outcomes]:
    return outcomes_of_day(chain.db, store, TODAY.from_ms, TODAY.until_ms)


class Measured:
    """Two dozen shoppers of whom half, about, are held out."""

    def __init__(self, folder: Path, **more: object) -> None:
        self.chain = Chain(folder, promotion("deal", kind="info", daily_cap=9, holdout_percent=50, **more))
        self.chain.enrol(*PEOPLE)
        answers = {inbox: self.chain.propose(inbox, "deal") for inbox in PEOPLE}
        assert set(answers.values()) == {"granted", "holdout"}
        self.treated = [inbox for inbox, answer in answers.items() if answer == "granted"]
        self.held_out = [inbox for inbox, answer in answers.items() if answer == "holdout"]

    def bought(self) -> tuple[int, int]:
        """(treated, held out), and that the groups are as they were."""
        (found,) = measured(self.chain).values()
        assert (found.treated, found.held_out) == (len(self.treated), len(self.held_out))
        return found.treated_bought, found.held_out_bought


def test_everybody_counts_once_in_a_group_and_buys_or_not(tmp_path: Path) -> None:
    shop = Measured(tmp_path)
    assert shop.bought() == (0, 0)
    for number, inbox in enumerate([*shop.treated[:5], *shop.held_out[:2]]):
        for times in range(1 + number % 3):
            shop.chain.pay(f"r{number}-{times}", "5 EUR", inbox=inbox, at_ms=LATER_MS)
    assert shop.bought() == (5, 2)


Happens = Callable[[Chain, str], object]
NOT_BOUGHT: dict[str, Happens] = {
    "before the decision": lambda chain, who: chain.pay("r", "5 EUR", inbox=who, at_ms=NOW_MS - 1),
    "the next day": lambda chain, who: chain.pay("r", "5 EUR", inbox=who, at_ms=TODAY.until_ms),
    "in another store": lambda chain, who: chain.pay("r", "5 EUR", inbox=who, at_ms=LATER_MS, store="south"),
    "only a refund": lambda chain, who: chain.pay("r", "-5 EUR", inbox=who, at_ms=LATER_MS, refunds="x"),
}
BOUGHT: dict[str, Happens] = {
    "at the moment of the decision": lambda chain, who: chain.pay("r", "5 EUR", inbox=who, at_ms=NOW_MS),
    "at the day's last moment": lambda chain, who: chain.pay("r", "5 EUR", inbox=who, at_ms=TODAY.until_ms - 1),
    "though the till told of it a day later": lambda chain, who: chain.pay(
        "r", "5 EUR", inbox=who, at_ms=LATER_MS, told_ms=NOW_MS + DAY_MS
    ),
}


@pytest.mark.parametrize(
    ("happens", "counts"),
    [pytest.param(each, False, id=name) for name, each in NOT_BOUGHT.items()]
    + [pytest.param(each, True, id=name) for name, each in BOUGHT.items()],
)
def test_bought_is_a_receipt_of_this_store_after_the_decision_on_its_day(
    tmp_path: Path, happens: Happens, *, counts: bool
) -> None:
    shop = Measured(tmp_path)
    happens(shop.chain, shop.treated[0])
    assert shop.bought() == (int(counts), 0)


@pytest.mark.parametrize(
    ("gtin", "counts"),
    [
        pytest.param(YOGHURT, True, id="what the promotion names"),
        pytest.param(YOGHURT.zfill(14), True, id="the same as a GTIN of 14 digits"),
        pytest.param(MILK, False, id="something else"),
    ],
)
def test_of_a_promotion_that_names_products_one_of_them_has_to_be_bought(tmp_path: Path, gtin: str, *, counts: bool) -> None:
    shop = Measured(tmp_path, item_id=[YOGHURT])
    items = [{"gtin": gtin, "quantity": 1, "amount": "2 EUR"}]
    shop.chain.pay("r", "5 EUR", inbox=shop.held_out[0], at_ms=LATER_MS, items=items)
    assert shop.bought() == (0, int(counts))


def items(*gtins: str) -> list[dict[str, object]]:
    return [{"gtin": gtin, "quantity": 1, "amount": "2 EUR"} for gtin in gtins]


def test_every_purchase_counts_on_its_day_however_often_the_product_is_bought_again(tmp_path: Path) -> None:
    shop = Measured(tmp_path, item_id=[YOGHURT])
    buyers = [*shop.treated[:4], *shop.held_out[:3]]
    for number, inbox in enumerate(buyers):
        # Twice today, and again on each of the days that follow.
        for day in range(4):
            for times in range(2):
                at_ms = LATER_MS + day * DAY_MS + times
                shop.chain.pay(f"r{number}-{day}-{times}", "5 EUR", inbox=inbox, at_ms=at_ms, items=items(MILK, YOGHURT, YOGHURT))
        assert shop.bought() == (min(number + 1, 4), max(0, number - 3))
    assert shop.chain.db["receipt_item"].count == len(buyers) * 8 * 2
    # Another of them came, and bought something else.
    shop.chain.pay("r-other", "5 EUR", inbox=shop.treated[5], at_ms=LATER_MS, items=items(MILK))
    shop.chain.pay("r-nothing", "5 EUR", inbox=shop.treated[6], at_ms=LATER_MS)
    assert shop.bought() == (4, 3)


def test_a_product_bought_in_another_store_is_no_effect_in_this_one(tmp_path: Path) -> None:
    shop = Measured(tmp_path, item_id=[YOGHURT])
    shop.chain.pay("r1", "5 EUR", inbox=shop.treated[0], at_ms=LATER_MS, items=items(MILK))
    shop.chain.pay("r2", "5 EUR", inbox=shop.treated[0], at_ms=LATER_MS, items=items(YOGHURT), store="south")
    assert shop.bought() == (0, 0)


def test_products_go_with_their_receipt(tmp_path: Path) -> None:
    shop = Measured(tmp_path, item_id=[YOGHURT])
    first, second = shop.treated[:2]
    shop.chain.pay("r1", "5 EUR", inbox=first, at_ms=LATER_MS, items=items(YOGHURT))
    shop.chain.pay("r2", "5 EUR", inbox=second, at_ms=LATER_MS, items=items(YOGHURT))
    records.opt_out(shop.chain.db, first)
    assert [row[0] for row in shop.chain.db.execute("SELECT receipt FROM receipt_item").fetchall()] == ["r2"]
    while forget_old(shop.chain.db, LATER_MS + (RECEIPT_DAYS + 1) * DAY_MS):
        pass
    assert (shop.chain.db["till_receipt"].count, shop.chain.db["receipt_item"].count) == (0, 0)


def test_what_an_older_version_knew_of_receipts_is_not_forgotten(tmp_path: Path) -> None:
    older = Migrations("central")
    empty = Database(memory=True)
    with closing(empty.conn):
        for migration in records.CENTRAL.pending(empty):
            if migration.name < "0007":
                older(name=migration.name)(migration.fn)
    path = tmp_path / "older.db"
    with closing(open_database(path, older).conn) as connection, connection:
        connection.execute("INSERT INTO shopper (inbox, ku, consent) VALUES ('anna', x'00', 3)")
        for receipt, at_ms, refunds in (("r1", 1000, None), ("r2", 2000, None), ("r3", 2000, "r2")):
            connection.execute("INSERT INTO till_receipt VALUES ('north', ?, 'anna', ?, '5', ?)", [receipt, at_ms, refunds])
        connection.execute("INSERT INTO bought VALUES ('anna', ?, 1000), ('anna', ?, 2000)", [YOGHURT, MILK])
    with closing(open_database(path, records.CENTRAL).conn) as connection:
        found = connection.execute("SELECT store, receipt, gtin FROM receipt_item ORDER BY receipt").fetchall()
    assert found == [("north", "r1", YOGHURT), ("north", "r2", MILK)]


def test_the_first_decision_about_somebody_tells_the_group(tmp_path: Path) -> None:
    shop = Measured(tmp_path)
    # The measurement ends at noon: from then on everybody gets it.
    shop.chain.offer_promotions(promotion("deal", kind="info", daily_cap=9))
    for inbox in PEOPLE:
        assert shop.chain.propose(inbox, "deal", at_ms=NOW_MS + HOUR_MS) == "granted"
    assert shop.bought() == (0, 0)


def test_who_opts_out_or_tests_or_was_refused_is_in_no_group(tmp_path: Path) -> None:
    shop = Measured(tmp_path)
    shop.chain.enrol("tester", is_test=True)
    assert shop.chain.propose("tester", "deal") == "granted"
    shop.chain.enrol("late")
    shop.chain.offer_promotions(promotion("deal", kind="info", daily_cap=9, holdout_percent=50, chain_cap_day=1))
    assert shop.chain.propose("late", "deal") == "cap_chain"
    for inbox in (shop.treated.pop(), shop.held_out.pop()):
        records.opt_out(shop.chain.db, inbox)
    assert shop.bought() == (0, 0)


def test_only_of_what_is_measured_there_is_something_to_tell(tmp_path: Path) -> None:
    chain = Chain(tmp_path, promotion("plain", kind="info"), promotion("half", kind="info", holdout_percent=50))
    chain.enrol("anna")
    chain.propose("anna", "plain")
    assert measured(chain) == {}
    answer = chain.propose("anna", "half")
    is_held = answer == "holdout"
    assert measured(chain) == {"half": Outcomes(int(not is_held), 0, int(is_held), 0)}
    assert measured(chain, "south") == {}, "of another store"
    assert outcomes_of_day(chain.db, "north", TODAY.until_ms, TODAY.until_ms + DAY_MS) == {}, "of another day"


def test_who_was_held_out_counts_also_when_the_promotion_is_gone(tmp_path: Path) -> None:
    shop = Measured(tmp_path, item_id=[YOGHURT])
    shop.chain.offer_promotions()
    shop.chain.pay("r", "5 EUR", inbox=shop.treated[0], at_ms=LATER_MS)
    assert shop.bought() == (1, 0), "what it was about is known no more, so any purchase counts"
