"""What only central can limit: caps of weeks, lives and chains, counted pieces, and who is held out to measure the effect."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.central import holdout, pieces, records
from gateway.central.publishing import StorePublisher
from gateway.central.rules import is_refuted
from gateway.contract.downlinks import Catalogue
from gateway.contract.fields import to_money
from gateway.contract.settings import CentralStore
from gateway.core.money import Money
from tests.central.chain import BOTH, DAY_MS, NOW_MS, SIGNER, STORES, VERIFIERS, Chain, more_than, promotion

EVERYBODY = [f"shopper-{number}" for number in range(12)]


def chain_of(folder: Path, **more: Any) -> Chain:
    chain = Chain(folder, promotion("deal", **{"kind": "info", "daily_cap": 100, **more}))
    chain.enrol(*EVERYBODY)
    return chain


# ---- caps ---------------------------------------------------------------------------------------------------------------------


def on_day(chain: Chain, day: int, inbox: str = "shopper-0", store: str = "north") -> str:
    at_ms = NOW_MS + day * DAY_MS
    chain.enrol(inbox, around_ms=at_ms)
    return chain.propose(inbox, "deal", store=store, at_ms=at_ms)


def test_a_weekly_cap_counts_seven_days_in_all_stores(tmp_path: Path) -> None:
    chain = chain_of(tmp_path, daily_cap=2, weekly_cap=2)
    assert [on_day(chain, day, store=store) for day, store in ((0, "north"), (1, "south"), (2, "north"), (6, "south"))] == [
        "granted",
        "granted",
        "cap_week",
        "cap_week",
    ]
    assert on_day(chain, 7) == "granted"
    assert on_day(chain, 7) == "cap_week"
    assert on_day(chain, 2, "shopper-1") == "granted"


def test_a_lifetime_cap_outlives_the_offers(tmp_path: Path) -> None:
    chain = chain_of(tmp_path, daily_cap=1, lifetime_cap=1)
    assert on_day(chain, 0) == "granted"
    chain.db.execute("DELETE FROM offer")
    assert on_day(chain, 365, store="south") == "cap_lifetime"


def test_a_cap_of_the_chain_counts_everybody_of_one_day(tmp_path: Path) -> None:
    chain = chain_of(tmp_path, chain_cap_day=3)
    chain.enrol("technician", is_test=True)
    assert [chain.propose("technician", "deal") for _ in range(5)] == ["granted"] * 5, "a test shopper is in no cap"
    answers = [chain.propose(inbox, "deal", store=store) for inbox, store in zip(EVERYBODY, ["north", "south"] * 6, strict=True)]
    assert Counter(answers) == {"granted": 3, "cap_chain": 9}
    assert on_day(chain, 1) == "granted"


def test_refusals_count_for_no_cap(tmp_path: Path) -> None:
    chain = Chain(tmp_path, promotion("deal", weekly_cap=1, lifetime_cap=1, chain_cap_day=1), promotion("push"))
    chain.enrol("anna")
    chain.propose("anna", "push")
    assert chain.propose("anna", "deal") == "push_spent"
    assert chain.propose("anna", "deal", visit=2) == "granted"


def test_who_takes_over_knows_no_cool_down_so_central_does(tmp_path: Path) -> None:
    group = {"kind": "info", "cool_down_s": 600, "cool_down_group": "sweets"}
    chain = Chain(tmp_path, promotion("cake", **group), promotion("pudding", **group), promotion("milk", kind="info"))
    chain.enrol("anna", "ben")
    assert chain.propose("anna", "cake") == "granted"
    later_ms = NOW_MS + 599_999
    assert chain.propose("anna", "pudding", at_ms=later_ms) == "cool_down"
    assert chain.propose("anna", "pudding", store="south", at_ms=later_ms) == "granted"
    assert chain.propose("ben", "pudding", at_ms=later_ms) == "granted"
    assert chain.propose("anna", "milk", at_ms=later_ms) == "granted"
    assert chain.propose("anna", "pudding", at_ms=later_ms + 1) == "granted"


def test_what_goes_to_the_shelf_spends_no_push(tmp_path: Path) -> None:
    chain = Chain(tmp_path, promotion("first"), promotion("second"), promotion("third"))
    chain.enrol("anna")
    assert chain.propose("anna", "first", push=False) == "granted"
    assert chain.propose("anna", "second") == "granted"
    assert chain.propose("anna", "third") == "push_spent"
    assert chain.propose("anna", "third", push=False) == "granted"
    shelf = [json.loads(each.payload)["data"]["shelf"] for each in records.waiting_for_apps(chain.db, NOW_MS)]
    assert shelf == [True, False, True]


def test_in_quiet_hours_nothing_rings_whatever_the_gateway_believes(tmp_path: Path) -> None:
    """Ten in the morning UTC is noon in Berlin."""
    chain = Chain(tmp_path, promotion("first"), promotion("second"))
    chain.enrol("anna")
    quiet = CentralStore.model_validate({"store_number": 1, "quiet_hours": {"start": "12:00", "end": "12:30"}})
    chain.desks["north"] = replace(chain.desks["north"], settings=quiet)
    assert chain.propose("anna", "first") == "granted"
    assert chain.propose("anna", "second", at_ms=NOW_MS + 1_800_000) == "granted", "the push was not spent"
    (first, second) = (json.loads(each.payload)["data"] for each in records.waiting_for_apps(chain.db, NOW_MS))
    assert (first["push"], first["shelf"], second["push"], second["shelf"]) == (False, True, True, False)
    (catalogue,) = StorePublisher("north", quiet, 1, SIGNER).catalogue(chain.db, NOW_MS)
    told = VERIFIERS["north"].open(catalogue.payload, Catalogue, where="catalogue", now_ms=NOW_MS).quiet_hours
    assert told == quiet.quiet_hours


# ---- pieces -------------------------------------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80, deadline=None)
@given(
    quantity=st.integers(1, 6),
    per_store=st.none() | st.integers(1, 4),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["propose", "redeem", "wait", "again"]), st.integers(0, 11), st.sampled_from(["north", "south"])
        ),
        max_size=40,
    ),
)
def test_there_are_never_more_out_than_there_are(
    tmp_path: Path, quantity: int, per_store: int | None, steps: list[tuple[str, int, str]]
) -> None:
    """Against a plain model: who holds a piece until when; a piece that lapsed and is redeemed nevertheless is gone once."""
    for old in tmp_path.glob("central.db*"):
        old.unlink()
    per_store = None if per_store is None else min(per_store, quantity)
    chain = chain_of(tmp_path, quantity=quantity, quantity_per_store=per_store, reservation_s=60)
    held: dict[str, tuple[str, int | None]] = {}
    now_ms, number = NOW_MS, 0

    def out(store: str | None = None) -> int:
        return sum((until is None or until > now_ms) and store in (None, where) for where, until in held.values())

    for step, who, store in steps:
        if step == "wait":
            now_ms += 20_000
        elif step == "propose":
            number += 1
            has_room = out() < quantity and (per_store is None or out(store) < per_store)
            answer = chain.propose(EVERYBODY[who], "deal", store=store, at_ms=now_ms, offer=f"p{number}")
            assert answer == ("granted" if has_room else "quantity")
            if has_room:
                held[f"p{number}"] = (store, now_ms + 60_000)
        elif held and (offer := sorted(held)[who % len(held)]):
            where, until = held[offer]
            owner = chain.db.execute("SELECT inbox FROM offer WHERE offer = ?", [offer]).fetchone()[0]
            if step == "again":
                assert chain.propose(owner, "deal", store=where, at_ms=now_ms, offer=offer) == "granted", "the same answer"
            elif until is not None and until > now_ms:
                chain.react(owner, offer, "redeemed", now_ms)
                held[offer] = (where, None)
        here = pieces.taken(chain.db, store, "deal", now_ms)
        assert here == (out(), out(store))
        assert here[0] <= quantity
    chain.db.conn.close()


def test_the_app_is_told_until_when_a_piece_is_kept(tmp_path: Path) -> None:
    chain = chain_of(tmp_path, quantity=1, reservation_s=600)
    chain.propose("shopper-0", "deal")
    (waiting,) = records.waiting_for_apps(chain.db, NOW_MS)
    assert b'"reserved_until":"2026-09-21T10:10:00.000Z"' in waiting.payload


def test_a_piece_without_reservation_never_comes_back_but_a_withdrawn_one_does(tmp_path: Path) -> None:
    chain = Chain(tmp_path, promotion("deal", kind="coupon", audience=more_than("50 EUR"), quantity=1))
    chain.enrol("anna", "ben")
    chain.pay("r1", "60 EUR")
    chain.pay("r2", "60 EUR", inbox="ben")
    assert chain.propose("anna", "deal") == "granted"
    assert chain.propose("ben", "deal", at_ms=NOW_MS + 3_600_000) == "quantity"
    chain.pay("r3", "-30 EUR", refunds="r1", at_ms=NOW_MS + 3_600_000)
    assert chain.propose("ben", "deal", at_ms=NOW_MS + 3_600_000) == "granted"


def test_the_catalogues_say_what_is_sold_out_and_what_is_to_be_had_again(tmp_path: Path) -> None:
    chain = chain_of(tmp_path, quantity=2, quantity_per_store=1, reservation_s=60)
    publishers = {store: StorePublisher(store, made, 1, SIGNER) for store, made in STORES.items()}

    def sold_out(store: str, at_ms: int) -> tuple[str, ...] | None:
        """``None``: nothing is said."""
        told = publishers[store].catalogue(chain.db, at_ms)
        if not told:
            return None
        return VERIFIERS[store].open(told[0].payload, Catalogue, where="catalogue", now_ms=at_ms).sold_out

    assert [sold_out(store, NOW_MS) for store in STORES] == [(), ()]
    chain.propose("shopper-0", "deal")
    assert [publishers[store].runs_out(chain.db, NOW_MS) for store in STORES] == [True, False]
    assert [sold_out(store, NOW_MS) for store in STORES] == [("deal",), None]
    assert not publishers["north"].runs_out(chain.db, NOW_MS)
    chain.propose("shopper-1", "deal", store="south", at_ms=NOW_MS + 30_000)
    assert sold_out("south", NOW_MS + 30_000) == ("deal",)
    lapsed_ms = NOW_MS + 60_000
    assert publishers["north"].runs_out(chain.db, lapsed_ms)
    assert [sold_out(store, lapsed_ms) for store in STORES] == [(), None]


# ---- holdout ------------------------------------------------------------------------------------------------------------------


def test_the_hash_divides_as_told_and_grows_without_moving_anybody() -> None:
    secret, people = b"s" * 32, [f"inbox-{number}" for number in range(4000)]
    shares = {percent: {who for who in people if holdout.falls_out(secret, who, "deal", percent)} for percent in (0, 10, 20, 50)}
    assert not shares[0]
    assert shares[10] < shares[20] < shares[50]
    for percent, held in shares.items():
        # Four standard deviations of a fair draw.
        assert abs(len(held) / 40 - percent) <= 4 * (percent * (100 - percent) / 4000) ** 0.5
    other = {who for who in people if holdout.falls_out(secret, who, "other", 20)}
    assert len(shares[20] & other) < 300, "another promotion, other people"
    assert {who for who in people if holdout.falls_out(b"t" * 32, who, "deal", 20)} != shares[20]


def test_who_is_held_out_stays_so_and_costs_nothing(tmp_path: Path) -> None:
    chain = chain_of(tmp_path, holdout_percent=50, quantity=100)
    first = {inbox: chain.propose(inbox, "deal") for inbox in EVERYBODY}
    held = {inbox for inbox, answer in first.items() if answer == "holdout"}
    assert set(first.values()) == {"granted", "holdout"}
    assert pieces.taken(chain.db, "north", "deal", NOW_MS)[0] == len(EVERYBODY) - len(held)
    # The share changes, the key is lost: whoever was drawn stays where they are.
    chain.offer_promotions(promotion("deal", kind="info", daily_cap=100, holdout_percent=1))
    chain.secret = b"x" * 32
    assert {inbox for inbox in EVERYBODY if chain.propose(inbox, "deal", store="south") == "holdout"} == held
    chain.offer_promotions(promotion("deal", kind="info", daily_cap=100))
    assert {chain.propose(inbox, "deal") for inbox in EVERYBODY} == {"granted"}, "the measurement is over"


def test_nobody_is_drawn_who_would_have_been_refused_anyway(tmp_path: Path) -> None:
    chain = chain_of(tmp_path, holdout_percent=50, chain_cap_day=2)
    answers = [chain.propose(inbox, "deal") for inbox in EVERYBODY]
    drawn = dict(chain.db.execute("SELECT inbox, is_held FROM holdout").fetchall())
    assert drawn == {
        inbox: int(answer == "holdout") for inbox, answer in zip(EVERYBODY, answers, strict=True) if answer != "cap_chain"
    }


def test_a_test_shopper_is_never_held_out(tmp_path: Path) -> None:
    chain = chain_of(tmp_path, holdout_percent=50, quantity=1)
    for number in range(20):
        chain.enrol(f"t{number}", is_test=True)
        assert chain.propose(f"t{number}", "deal") == "granted"
    assert pieces.taken(chain.db, "north", "deal", NOW_MS) == (0, 0)


# ---- what the basket alone decides --------------------------------------------------------------------------------------------

FAMILY = {"field": "segments", "operator": "contains", "value": "family"}


@pytest.mark.parametrize(
    ("audience", "basket", "refuted"),
    [
        (more_than("50.00 EUR"), "50.00 EUR", True),
        (more_than("50.00 EUR"), "50.01 EUR", False),
        (more_than("50.00 EUR"), None, True),
        (more_than("50.00 EUR"), "60 USD", True),
        (FAMILY, None, False),
        ({"all": [FAMILY, more_than("50 EUR")]}, "10 EUR", True),
        ({"any": [FAMILY, more_than("50 EUR")]}, "10 EUR", False),
        ({"any": [more_than("70 EUR"), more_than("50 EUR")]}, "10 EUR", True),
        ({"not": more_than("50 EUR")}, "60 EUR", True),
        ({"not": {"all": [FAMILY, more_than("50 EUR")]}}, "60 EUR", False),
        (None, None, False),
    ],
)
def test_a_basket_keeps_out_whom_nothing_else_could_bring_in(audience: Any, basket: str | None, *, refuted: bool) -> None:
    money: Money | None = None if basket is None else to_money(basket)
    assert is_refuted(promotion("coupon", audience=audience), money) == refuted


def test_what_has_ended_is_not_granted(tmp_path: Path) -> None:
    chain = Chain(tmp_path, promotion("deal", promotion_effective_dates="2026-09-01T00:00:00Z/2026-09-21T10:00:01Z"))
    chain.enrol("anna", consent=BOTH)
    assert chain.propose("anna", "deal", at_ms=NOW_MS + 1000) == "out_of_date"
    assert chain.propose("anna", "deal", at_ms=NOW_MS + 999) == "granted"
