"""`gateway central profile`, `order` and `receipt`: what a small shop types that has no CRM, web shop or till to tell it."""

import json
from pathlib import Path

import pytest

from gateway.central.records import CENTRAL
from gateway.io.store.database import transact
from tests.cli.forked import Forked


@pytest.fixture
def config(gateway: Forked, tmp_path: Path) -> Path:
    """Central of one store, in which Anna's app is enrolled."""
    file = tmp_path / "central.toml"
    file.write_text(f'state_dir = "{tmp_path}/central"\n[stores.demo]\nstore_number = 4711\n')
    done = gateway.run("central", "enrol", "anna", "--store", "demo", "--key-file", tmp_path / "anna.key", "--config", file)
    assert done.returncode == 0
    return file


def rows(config: Path, question: str) -> list[tuple[object, ...]]:
    return transact(config.parent / "central" / "central.db", CENTRAL, lambda db: db.execute(question).fetchall())


def test_an_app_checks_in_where_it_is_not_enrolled_yet(gateway: Forked, config: Path) -> None:
    config.write_text(config.read_text() + "[stores.south]\nstore_number = 4712\n")
    done = gateway.run("central", "check-in", "anna", "--store", "south", "--config", config)
    assert (done.returncode, done.stdout) == (0, "anna is expected in south\n")
    assert rows(config, "SELECT store, inbox FROM check_in") == [("south", "anna")]
    assert rows(config, "SELECT store FROM member ORDER BY store") == [("demo",), ("south",)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("zoe",), "zoe: is not enrolled. Nothing was changed."),
        (("anna", "--store", "mars"), "mars: is no store of this central"),
    ],
)
def test_who_cannot_check_in(gateway: Forked, config: Path, arguments: tuple[str, ...], said: str) -> None:
    done = gateway.run("central", "check-in", *arguments, "--config", config)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert rows(config, "SELECT store FROM check_in") == []


def test_a_profile_is_replaced_whole(gateway: Forked, config: Path) -> None:
    first = ("--segment", "family", "--segment", "vip", "--watch", "4006381333931", "--language", "de", "--card", "928-1")
    assert gateway.run("central", "profile", "anna", *first, "--config", config).stdout == "anna: profile replaced\n"
    ((segments, watched, language, card),) = rows(config, "SELECT segments, watch_list, language, card FROM profile")
    assert (json.loads(str(segments)), json.loads(str(watched)), language, card) == (
        ["family", "vip"],
        ["4006381333931"],
        "de",
        "928-1",
    )
    gateway.run("central", "profile", "anna", "--config", config)
    assert rows(config, "SELECT segments, language, card FROM profile") == [("[]", None, None)]


def test_an_order_is_followed(gateway: Forked, config: Path) -> None:
    for state in ("placed", "ready", "collected"):
        done = gateway.run("central", "order", "W-1042", "--inbox", "anna", "--state", state, "--config", config)
        assert done.stdout == f"order W-1042 for demo: {state}\n"
    assert rows(config, "SELECT store, number, inbox, state FROM web_order") == [("demo", "W-1042", "anna", "collected")]


def test_a_receipt_is_kept_once_and_refunded(gateway: Forked, config: Path) -> None:
    def pay(receipt: str, total: str, *more: str) -> str:
        return gateway.run("central", "receipt", receipt, "--total", total, *more, "--config", config).stdout

    assert pay("4711", "31.90 EUR", "--inbox", "anna", "--product", "4006381333931") == "receipt 4711 of demo: kept\n"
    not_kept = "not kept: it is known already, or of nobody who has consented\n"
    assert pay("4711", "31.90 EUR", "--inbox", "anna") == f"receipt 4711 of demo: {not_kept}"
    assert pay("4712", "9 EUR", "--card", "928-1") == f"receipt 4712 of demo: {not_kept}"
    assert pay("4713", "-1.90 EUR", "--inbox", "anna", "--refunds", "4711") == "receipt 4713 of demo: kept\n"
    assert rows(config, "SELECT receipt, amount, refunds FROM till_receipt") == [
        ("4711", "31.90", None),
        ("4713", "-1.90", "4711"),
    ]


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("profile nobody", 2, "profile: is of an inbox that is not enrolled. Nothing was changed."),
        ("profile anna --watch 4006381333932", 2, "watch_list.0: its check digit is wrong"),
        ("order W-1 --inbox nobody --state ready", 2, "order: is of an inbox that is not enrolled. Nothing was changed."),
        ("order W-1 --inbox anna --state lost", 2, "state: Input should be 'placed', 'ready', 'collected' or 'returned'"),
        ("order W-1 --inbox anna --state ready --store moon", 2, "moon: is no store of this central service."),
        ("receipt 1 --total 5 --inbox anna", 2, "gateway: total: 5 is no amount: write it with its currency as in 12.50 EUR."),
        ("receipt 1 --total 5_EUR", 2, "a receipt is somebody's: one of --inbox and --card is needed."),
        ("receipt 1 --total -5_EUR --inbox anna", 2, "gateway: a total below zero belongs to refunds"),
        ("receipt 1 --total 5_USD --inbox anna", 2, "is in USD; the store's currency is EUR. Nothing was changed."),
    ],
)
def test_what_is_wrong_is_one_sentence(gateway: Forked, config: Path, command: str, code: int, said: str) -> None:
    done = gateway.run("central", *(word.replace("_", " ") for word in command.split()), "--config", config)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
