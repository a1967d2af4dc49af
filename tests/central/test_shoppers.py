"""What central knows of a shopper: visits, baskets, orders, wishes, reactions; told in any order, and forgotten whole."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.central import check_ins, reactions, records, retention, shopping, visits
from gateway.contract.messages import Receipt
from gateway.core.model import Consent
from gateway.errors import Untrusted
from tests.central.chain import BOTH, DAY_MS, GAP_MS, HOUR_MS, MILK, MINUTE_MS, NOW_MS, YOGHURT, Chain, more_than, promotion

COUPON = promotion("coupon", kind="coupon", audience=more_than("50.00 EUR"))
BREAD = promotion("bread", category="bakery", item_id=[YOGHURT], generic_redemption_code="BREAD1", offer_type="generic_code")
CAKE = promotion("cake", category="bakery", kind="info")
PICKUP = promotion("pickup", kind="pickup", audience={"field": "order_state", "operator": "equals", "value": "ready"})
PROMOTIONS = (COUPON, BREAD, CAKE, PICKUP, promotion("wine", category="wine", kind="info"))


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    made = Chain(tmp_path, *PROMOTIONS)
    made.enrol("anna", "ben")
    return made


# ---- check-ins ------------------------------------------------------------------------------------------------------------


def expected(chain: Chain, at_ms: int = NOW_MS, store: str = "north") -> list[tuple[str, bool]]:
    return [(who.rid, who.is_told) for who in chain.desks[store].expected(chain.db, at_ms)]


@pytest.mark.parametrize(
    ("consent", "is_expected"),
    [(Consent.OFFERS, True), (BOTH, True), (Consent.ANALYTICS, False), (Consent.NONE, False)],
)
def test_only_who_wants_offers_is_expected(chain: Chain, consent: Consent, *, is_expected: bool) -> None:
    chain.enrol("chiara", consent=consent)
    assert check_ins.check_in(chain.db, "chiara", "north", NOW_MS)
    assert expected(chain) == ([(chain.rid("chiara"), False)] if is_expected else [])
    assert expected(chain, store="south") == []


def test_a_check_in_lasts_for_half_an_hour_and_is_told_once(chain: Chain) -> None:
    for name in ("anna", "ben"):
        check_ins.check_in(chain.db, name, "north", NOW_MS)
    check_ins.note_told(chain.db, "north")
    check_ins.check_in(chain.db, "anna", "north", NOW_MS + 10 * MINUTE_MS)
    assert sorted(expected(chain, NOW_MS + 11 * MINUTE_MS)) == sorted([(chain.rid("anna"), False), (chain.rid("ben"), True)])
    assert [rid for rid, _ in expected(chain, NOW_MS + 30 * MINUTE_MS)] == [chain.rid("anna")]
    retention.forget_old(chain.db, NOW_MS + 30 * MINUTE_MS)
    assert chain.db.execute("SELECT inbox FROM check_in").fetchall() == [("anna",)]
    records.opt_out(chain.db, "anna")
    assert chain.db.execute("SELECT * FROM check_in").fetchall() == []


def test_nobody_who_is_not_enrolled_checks_in(chain: Chain) -> None:
    assert not check_ins.check_in(chain.db, "nobody", "north", NOW_MS)
    assert expected(chain) == []


# ---- visits -------------------------------------------------------------------------------------------------------------------


def stay_of(minutes: tuple[int, int]) -> tuple[int, int]:
    return NOW_MS - 10 * DAY_MS + minutes[0] * MINUTE_MS, NOW_MS - 10 * DAY_MS + sum(minutes) * MINUTE_MS


def union(stays: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Slow and plain: sorted intervals, joined where the gap is under half an hour."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(stays):
        if found and start - found[-1][1] < GAP_MS:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 600), st.integers(0, 90)), max_size=12), st.randoms(use_true_random=False))
def test_visits_are_the_same_in_whatever_order_stays_are_told(
    chain: Chain, minutes: list[tuple[int, int]], rng: random.Random
) -> None:
    stays = [stay_of(each) for each in minutes]
    told = [*stays, *rng.sample(stays, len(stays) // 2)]
    rng.shuffle(told)
    chain.db.execute("DELETE FROM visited")
    for start, end in told:
        visits.keep_stay(chain.db, "anna", "north", start, end, GAP_MS)
    found = chain.db.execute("SELECT started_ms, last_ms FROM visited ORDER BY 1").fetchall()
    assert found == union(stays)


def test_the_present_visit_is_not_counted_and_visits_of_other_stores_are(chain: Chain) -> None:
    for days in (1, 2, 29, 31):
        chain.visit("anna", "south" if days == 2 else "north", NOW_MS - days * DAY_MS)
    chain.visit("anna")
    context = chain.context()
    assert (context.visits_30_days, context.days_since_last_visit) == (3, 1)
    # An hour in the shop is one visit, and the present one.
    chain.visit("anna", at_ms=NOW_MS + 20 * MINUTE_MS)
    assert chain.context(at_ms=NOW_MS + 21 * MINUTE_MS).visits_30_days == 3


def test_a_second_visit_on_one_day_counts_the_first(chain: Chain) -> None:
    chain.visit("anna")
    assert chain.context().days_since_last_visit is None
    chain.visit("anna", at_ms=NOW_MS + 2 * HOUR_MS)
    context = chain.context(at_ms=NOW_MS + 2 * HOUR_MS)
    assert (context.visits_30_days, context.days_since_last_visit) == (1, 0)


def test_a_long_stay_in_one_zone_is_one_visit(chain: Chain) -> None:
    """Between entry and exit nothing is told; the gateway's name holds it together."""
    rid = chain.rid("anna")
    first = visits.go_on(chain.db, "north", rid, NOW_MS, GAP_MS, name="v1", zone="dairy")
    assert visits.go_on(chain.db, "north", rid, NOW_MS + HOUR_MS, GAP_MS, name="v1") == first
    assert visits.go_on(chain.db, "north", rid, NOW_MS + 3 * HOUR_MS, GAP_MS, name="v2") == first + 1


def test_who_has_left_is_not_present(chain: Chain) -> None:
    rid = chain.rid("anna")
    visits.go_on(chain.db, "north", rid, NOW_MS, GAP_MS, name="v1", zone="dairy")
    assert visits.presence(chain.db, "north", rid, NOW_MS) == visits.Present("north", rid, "dairy", NOW_MS)
    visits.end(chain.db, "north", rid, "v0")
    assert visits.presence(chain.db, "north", rid, NOW_MS) is not None
    visits.end(chain.db, "north", rid, "v1")
    assert visits.presence(chain.db, "north", rid, NOW_MS) is None
    # An exit that is told late opens nothing; who comes again is there again.
    visits.go_on(chain.db, "north", rid, NOW_MS - 1, GAP_MS, name="v1")
    assert visits.present(chain.db, NOW_MS) == []
    visits.go_on(chain.db, "north", rid, NOW_MS + HOUR_MS, GAP_MS, name="v2")
    assert [here.started_ms for here in visits.present(chain.db, NOW_MS + HOUR_MS, "north")] == [NOW_MS + HOUR_MS]
    assert visits.present(chain.db, NOW_MS + HOUR_MS + visits.OPEN_MS) == []


# ---- baskets ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("receipts", "basket"),
    [
        ([], None),
        ([("r1", "50.00 EUR")], "50.00 EUR"),
        ([("r1", "30.01 EUR"), ("r2", "20.00 EUR")], "50.01 EUR"),
        ([("r1", "0.10 EUR"), ("r2", "0.20 EUR")], "0.30 EUR"),
        ([("r1", "60 EUR"), ("r2", "-15.50 EUR", "r1")], "44.50 EUR"),
        ([("r2", "-15.50 EUR", "r1"), ("r1", "60 EUR")], "44.50 EUR"),
        ([("r1", "60 EUR"), ("r1", "60 EUR")], "60.00 EUR"),
        ([("r1", "60 EUR"), ("r1", "99 EUR")], "60.00 EUR"),
        ([("r2", "-15.50 EUR", "r0")], None),
        ([("r1", "60 EUR"), ("r2", "-15.50 EUR", "of-yesterday")], "60.00 EUR"),
        ([("r1", "10 EUR"), ("r2", "-15 EUR", "r1")], "0.00 EUR"),
    ],
)
def test_the_basket_is_the_sum_of_today(chain: Chain, receipts: list[tuple[str, ...]], basket: str | None) -> None:
    for receipt, total, *refunds in receipts:
        chain.pay(receipt, total, refunds=refunds[0] if refunds else None)
    assert chain.context().basket_today == basket


def test_a_basket_is_of_one_day_and_one_store(chain: Chain) -> None:
    chain.pay("r1", "10 EUR", at_ms=NOW_MS - DAY_MS, told_ms=NOW_MS)
    chain.pay("r2", "20 EUR", store="south")
    chain.pay("r3", "30 EUR", at_ms=NOW_MS - 10 * HOUR_MS, told_ms=NOW_MS)
    assert chain.context().basket_today == "30.00 EUR"
    assert chain.context(store="south").basket_today == "20.00 EUR"


def test_a_receipt_finds_its_shopper_by_inbox_card_or_pseudonym(chain: Chain) -> None:
    chain.profile(1, card="928-1")
    assert chain.pay("r1", "10 EUR", card="928-1") == "anna"
    assert chain.pay("r2", "10 EUR", shopper=chain.rid("anna")) == "anna"
    assert chain.pay("r3", "10 EUR", inbox="ben") == "ben"
    # The card has a new owner.
    chain.profile(1, "ben", card="928-1")
    assert chain.pay("r4", "10 EUR", card="928-1") == "ben"
    assert chain.context().basket_today == "20.00 EUR"


def test_what_is_of_nobody_who_has_consented_is_not_kept(chain: Chain) -> None:
    chain.enrol("eve", consent=Consent.NONE)
    assert chain.pay("r1", "10 EUR", inbox="eve") is None
    assert chain.pay("r1", "10 EUR", inbox="nobody") is None
    assert chain.pay("r1", "10 EUR", card="999") is None
    assert chain.pay("r1", "10 EUR", shopper="0011223344556677") is None
    assert (chain.db["till_receipt"].count, chain.db["bought"].count) == (0, 0)


@pytest.mark.parametrize(
    ("store", "total", "said"), [("north", "10 USD", "store's currency is EUR"), ("east", "10 EUR", "not serve")]
)
def test_a_wrong_receipt_is_refused_with_a_sentence(chain: Chain, store: str, total: str, said: str) -> None:
    with pytest.raises(Untrusted, match=said):
        chain.pay("r1", total, store=store)


# ---- the coupon above 50 euros ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("total", "answer"), [("50.00 EUR", "out_of_date"), ("50.01 EUR", "granted")])
def test_who_has_not_spent_enough_is_refused_whatever_the_gateway_believes(chain: Chain, total: str, answer: str) -> None:
    chain.pay("r1", total)
    assert chain.propose("anna", "coupon") == answer


def test_a_refund_takes_an_unredeemed_coupon_back(chain: Chain) -> None:
    chain.pay("r1", "60 EUR")
    assert chain.propose("anna", "coupon", offer="o1") == "granted"
    chain.pay("r2", "-5 EUR", refunds="r1")
    assert chain.told_to_app() == [("app.offer.v1", "o1")], "55 are enough"
    chain.pay("r3", "-5 EUR", refunds="r1")
    assert chain.told_to_app() == [("app.offer.withdrawn.v1", "o1")]
    # The app's receipt for the offer comes late; only that of the withdrawal ends it.
    chain.react("anna", "o1", "shown")
    assert chain.told_to_app() == [("app.offer.withdrawn.v1", "o1")]
    chain.react("anna", "o1", "withdrawn")
    assert chain.told_to_app() == []
    chain.pay("r4", "-5 EUR", refunds="r1")
    assert chain.told_to_app() == [], "once"


def test_a_redeemed_coupon_stays_redeemed(chain: Chain) -> None:
    chain.pay("r1", "60 EUR")
    chain.propose("anna", "coupon", offer="o1")
    chain.react("anna", "o1", "redeemed")
    chain.pay("r2", "-50 EUR", refunds="r1")
    assert chain.told_to_app() == []


def test_a_refund_leaves_other_offers_alone(chain: Chain) -> None:
    chain.pay("r1", "60 EUR")
    chain.propose("anna", "bread", offer="o1")
    chain.propose("ben", "bread", offer="o2")
    chain.pay("r2", "-60 EUR", refunds="r1")
    assert chain.told_to_app() == [("app.offer.v1", "o1"), ("app.offer.v1", "o2")]


# ---- reactions ----------------------------------------------------------------------------------------------------------------


def dismiss(chain: Chain, promotion_id: str, at_ms: int, offer: str) -> None:
    assert chain.propose("anna", promotion_id, at_ms=at_ms, offer=offer, visit=at_ms) == "granted"
    chain.react("anna", offer, "dismissed", at_ms)
    chain.react("anna", offer, "dismissed", at_ms + 1)


@pytest.mark.parametrize(("days", "is_muted"), [(0, True), (30, True), (31, False)])
def test_two_dismissals_within_30_days_mute_a_category(chain: Chain, days: int, *, is_muted: bool) -> None:
    first_ms = NOW_MS - days * DAY_MS
    chain.enrol("anna", around_ms=first_ms)
    dismiss(chain, "bread", first_ms, "o1")
    assert chain.context(at_ms=first_ms).muted_categories == ()
    dismiss(chain, "cake", NOW_MS, "o2")
    assert chain.context().muted_categories == (("bakery",) if is_muted else ())


def test_a_mute_lasts_30_days_and_concerns_its_category_only(chain: Chain) -> None:
    dismiss(chain, "bread", NOW_MS, "o1")
    dismiss(chain, "cake", NOW_MS + 1, "o2")
    later_ms = NOW_MS + 30 * DAY_MS
    chain.enrol("anna", around_ms=later_ms)
    assert chain.propose("anna", "wine") == "granted"
    assert chain.propose("anna", "bread", at_ms=later_ms, visit=9) == "muted_category"
    assert chain.propose("anna", "bread", at_ms=later_ms + 1, visit=9) == "granted"
    assert chain.propose("ben", "bread") == "granted"


def test_a_clock_that_is_ahead_does_not_mute_for_longer(chain: Chain) -> None:
    chain.propose("anna", "bread", offer="o1")
    chain.propose("anna", "cake", offer="o2")
    for offer in ("o1", "o2"):
        data = {"offer": offer, "state": "dismissed"}
        receipt = {"id": f"r-{offer}", "source": "app/anna", "time": NOW_MS + 365 * DAY_MS, "data": data}
        chain.intake.app_receipt(chain.db, "anna", Receipt.model_validate(receipt), NOW_MS)
    assert chain.context().muted_categories == ("bakery",)
    assert chain.db.execute("SELECT DISTINCT time_ms FROM receipt").fetchall() == [(NOW_MS,)]


def test_a_complaint_stops_everything_until_consent_is_given_anew(chain: Chain) -> None:
    chain.propose("anna", "cake", offer="o1")
    chain.propose("anna", "wine", offer="o2")
    chain.react("anna", "o1", "complained")
    assert chain.context().stopped
    assert chain.told_to_app() == [("app.offer.withdrawn.v1", "o2")], "what has not arrived is taken back"
    assert chain.propose("anna", "bread") == "stopped"
    assert chain.propose("ben", "bread") == "granted"
    records.enrol(chain.db, "anna", chain.key("anna"), BOTH, ["north"])
    assert chain.context().stopped, "another store is no new consent"
    records.enrol(chain.db, "anna", bytes(32), BOTH, ["north"])
    assert chain.db["stopped"].count == 0


# ---- saved and wished for -----------------------------------------------------------------------------------------------------


def saved(chain: Chain, at_ms: int) -> tuple[str, ...]:
    return chain.context(at_ms=at_ms).saved_offers


def next_visit(chain: Chain, days: int = 1) -> int:
    at_ms = NOW_MS + days * DAY_MS
    chain.enrol("anna", around_ms=at_ms)
    chain.visit("anna", at_ms=at_ms)
    return at_ms


def test_what_was_saved_is_told_of_on_the_next_visit(chain: Chain) -> None:
    chain.visit("anna")
    chain.propose("anna", "bread", offer="o1")
    chain.react("anna", "o1", "saved")
    assert saved(chain, NOW_MS) == (), "not on the same visit"
    assert saved(chain, next_visit(chain)) == ("bread",)


def test_a_saved_offer_that_was_redeemed_bought_or_taken_back_is_not_told_of(chain: Chain) -> None:
    chain.propose("anna", "bread", offer="o1")
    chain.react("anna", "o1", "saved")
    at_ms = next_visit(chain)
    assert saved(chain, at_ms) == ("bread",)
    chain.wish("anna", at_ms, wanted=False, promotion_id="bread")
    assert saved(chain, at_ms) == ()
    chain.wish("anna", at_ms + 1, promotion_id="bread")
    at_ms = next_visit(chain, 2)
    assert saved(chain, at_ms) == ("bread",)
    # It was bought yesterday at a till that was offline.
    items = [{"gtin": YOGHURT, "amount": "2 EUR"}]
    chain.pay("r1", "2 EUR", at_ms=NOW_MS + DAY_MS + HOUR_MS, told_ms=at_ms, items=items)
    assert saved(chain, at_ms) == ()


def test_a_code_at_the_till_redeems_the_newest_offer_of_its_promotion(chain: Chain) -> None:
    chain.propose("anna", "bread", offer="o1")
    chain.react("anna", "o1", "saved")
    at_ms = next_visit(chain)
    chain.pay("r1", "9 EUR", at_ms=at_ms, redeemed=["BREAD1", "ELSE"])
    assert chain.db.execute("SELECT offer, state FROM receipt ORDER BY state").fetchall() == [("o1", "redeemed"), ("o1", "saved")]
    assert saved(chain, at_ms) == ()


def test_a_reminder_is_given_once(tmp_path: Path) -> None:
    reminder = promotion(
        "reminder", kind="reminder", audience={"field": "saved_offers", "operator": "contains", "value": "bread"}
    )
    chain = Chain(tmp_path, BREAD, reminder)
    chain.enrol("anna")
    chain.propose("anna", "bread", offer="o1")
    chain.react("anna", "o1", "saved")
    at_ms = next_visit(chain)
    assert saved(chain, at_ms) == ("bread",)
    assert chain.propose("anna", "reminder", at_ms=at_ms, visit=2) == "granted"
    assert saved(chain, at_ms) == ()
    assert saved(chain, next_visit(chain, 2)) == ()


def test_an_offer_that_is_over_is_not_told_of(tmp_path: Path) -> None:
    until = "1970-01-01T00:00:00Z/2026-09-21T20:00:00Z"
    chain = Chain(tmp_path, promotion("bread", promotion_effective_dates=until))
    chain.enrol("anna")
    chain.wish("anna", promotion_id="bread")
    assert saved(chain, next_visit(chain)) == ()


def test_wishes_join_the_watch_list_until_bought(chain: Chain) -> None:
    chain.profile(1, watch_list=[MILK])
    chain.wish("anna", gtin=YOGHURT)
    assert chain.context().watch_list == (MILK, YOGHURT)
    chain.pay("r1", "2 EUR", at_ms=NOW_MS + 1, items=[{"gtin": YOGHURT, "amount": "2 EUR"}])
    assert chain.context(at_ms=NOW_MS + 2).watch_list == (MILK,)


@given(order=st.permutations([1, 2, 3, 4]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=24, deadline=None)
def test_the_newest_counts_in_whatever_order_things_are_told(chain: Chain, order: list[int]) -> None:
    states = {1: "placed", 2: "ready", 3: "placed", 4: "ready"}
    for table in ("wish", "profile", "web_order"):
        chain.db.execute(f"DELETE FROM {table}")
    for number in [*order, *order]:
        chain.wish("anna", NOW_MS + number, wanted=number % 2 == 0, gtin=YOGHURT)
        chain.profile(number, segments=[f"s{number}"])
        chain.order(states[number], number, at_ms=NOW_MS + number)
    context = chain.context(at_ms=NOW_MS + 9)
    assert (context.watch_list, context.segments, context.order_state) == ((YOGHURT,), ("s4",), "ready")


def test_neither_wishes_nor_receipts_pile_up(chain: Chain) -> None:
    for number in range(reactions.MOST_WISHES + 5):
        chain.wish("anna", NOW_MS + number, promotion_id=f"p{number}")
    chain.propose("anna", "cake", offer="o1")
    for number in range(records.MOST_RECEIPTS + 5):
        records.keep_receipt(chain.db, f"r{number}", "anna", "o1", "opened", NOW_MS)
    assert (chain.db["wish"].count, chain.db["receipt"].count) == (reactions.MOST_WISHES, records.MOST_RECEIPTS)
    assert chain.db.execute("SELECT min(changed_ms) FROM wish").fetchone() == (NOW_MS + 5,)


# ---- orders -------------------------------------------------------------------------------------------------------------------


def test_the_staff_is_told_once_when_a_shopper_with_a_ready_order_is_seen(chain: Chain) -> None:
    chain.order("ready", 1, at_ms=NOW_MS - HOUR_MS)
    assert chain.told_to_staff() == []
    chain.visit("anna")
    rid = chain.rid("anna")
    assert chain.intake.entered(chain.db, "north", rid, NOW_MS, NOW_MS)
    assert not chain.intake.entered(chain.db, "north", rid, NOW_MS, NOW_MS)
    assert chain.told_to_staff() == [("W-1", "dairy", False)]
    chain.order("collected", 2, at_ms=NOW_MS + MINUTE_MS)
    assert chain.told_to_staff() == [("W-1", "dairy", False), ("W-1", None, True)]
    assert not chain.intake.entered(chain.db, "north", rid, NOW_MS, NOW_MS)


def test_the_staff_is_told_when_an_order_becomes_ready_for_somebody_who_is_there(chain: Chain) -> None:
    chain.visit("anna")
    chain.order("placed", 1)
    assert chain.told_to_staff() == []
    chain.order("ready", 2)
    assert chain.told_to_staff() == [("W-1", "dairy", False)]
    chain.order("returned", 3)
    assert chain.told_to_staff()[1:] == [("W-1", None, True)]


def test_nobody_is_called_for_a_visit_that_is_told_of_late_or_for_another_store(chain: Chain) -> None:
    chain.order("ready", 1, at_ms=NOW_MS - HOUR_MS)
    chain.visit("anna")
    chain.visit("anna", "south")
    assert not chain.intake.entered(chain.db, "north", chain.rid("anna"), NOW_MS, NOW_MS + HOUR_MS)
    assert not chain.intake.entered(chain.db, "south", chain.rid("anna", "south"), NOW_MS, NOW_MS)
    assert chain.told_to_staff() == []


def test_what_was_collected_is_not_announced_to_the_app_any_more(chain: Chain) -> None:
    chain.order("ready", 1)
    assert chain.propose("anna", "pickup", offer="o1") == "granted"
    chain.order("ready", 1, order="W-2")
    chain.order("collected", 2)
    assert chain.told_to_app() == [("app.offer.v1", "o1")], "another one is ready"
    chain.order("returned", 2, order="W-2")
    assert chain.told_to_app() == [("app.offer.withdrawn.v1", "o1")]


@pytest.mark.parametrize(("days", "is_attributed"), [(0, True), (7, True), (8, False), (-1, False)])
def test_an_order_is_attributed_to_an_offer_for_seven_days(chain: Chain, days: int, *, is_attributed: bool) -> None:
    chain.propose("anna", "bread", offer="o1")
    chain.order("placed", 1, at_ms=NOW_MS + days * DAY_MS, attribution="o1")
    chain.order("ready", 2, at_ms=NOW_MS + 20 * DAY_MS)
    wanted = {"o1": ["W-1"]} if is_attributed else {}
    assert shopping.attributed(chain.db, "north", NOW_MS, NOW_MS + 1) == wanted


def test_an_order_is_attributed_to_an_offer_of_the_same_shopper_only(chain: Chain) -> None:
    chain.propose("ben", "bread", offer="o1")
    chain.order("placed", 1, attribution="o1")
    chain.order("placed", 1, order="W-2", attribution="o2")
    assert shopping.attributed(chain.db, "north", 0, NOW_MS + 1) == {}


@pytest.mark.parametrize("tell", ["order", "profile", "wish"])
def test_whom_nobody_knows_is_refused(chain: Chain, tell: str) -> None:
    tellings: dict[str, Callable[[], object]] = {
        "order": lambda: chain.order("ready", 1, inbox="nobody"),
        "profile": lambda: chain.profile(1, "nobody"),
        "wish": lambda: chain.wish("nobody", gtin=MILK),
    }
    with pytest.raises(Untrusted, match="not enrolled"):
        tellings[tell]()
    assert (chain.db["web_order"].count, chain.db["profile"].count, chain.db["wish"].count) == (0, 0, 0)


# ---- contexts -----------------------------------------------------------------------------------------------------------------


def test_a_context_says_what_is_known_and_its_number_rises_with_every_change(chain: Chain) -> None:
    chain.profile(1, segments=["family", "b"], language="de")
    chain.visit("anna")
    first = chain.context()
    assert (first.segments, first.language, first.version, first.not_after) == (
        ("family", "b"),
        "de",
        NOW_MS,
        NOW_MS + 2 * HOUR_MS,
    )
    assert chain.context(at_ms=NOW_MS + 5).version == NOW_MS, "nothing has changed"
    chain.profile(2, segments=["family"])
    assert chain.context(at_ms=NOW_MS).version == NOW_MS + 1
    chain.profile(3, segments=[])
    assert chain.context(at_ms=NOW_MS - HOUR_MS).version == NOW_MS + 2, "also when the clock goes back"


def test_only_what_has_changed_is_told_again(chain: Chain) -> None:
    desk, rid = chain.desks["north"], chain.rid("anna")
    assert desk.context(chain.db, rid, NOW_MS, only_changed=True) is not None
    assert desk.context(chain.db, rid, NOW_MS, only_changed=True) is None
    chain.pay("r1", "10 EUR")
    assert desk.context(chain.db, rid, NOW_MS, only_changed=True) is not None
    assert desk.context(chain.db, rid, NOW_MS, only_changed=False) is not None


def test_offers_of_other_stores_are_told(chain: Chain) -> None:
    chain.propose("anna", "cake", store="south")
    chain.propose("anna", "cake")
    assert chain.context().offers_elsewhere == {"cake": 1}


def test_without_consent_to_offers_there_is_no_context(chain: Chain) -> None:
    chain.enrol("eve", consent=Consent.ANALYTICS)
    desk = chain.desks["north"]
    assert desk.context(chain.db, chain.rid("eve"), NOW_MS, only_changed=False) is None
    assert desk.context(chain.db, "0011223344556677", NOW_MS, only_changed=False) is None


# ---- forgotten ----------------------------------------------------------------------------------------------------------------


def live_a_life(chain: Chain) -> None:
    """Something of everything."""
    chain.profile(1, segments=["family"], card="928000-anna")
    chain.visit("anna", at_ms=NOW_MS - DAY_MS)
    chain.visit("anna")
    chain.pay("r-of-anna", "60 EUR", items=[{"gtin": YOGHURT, "amount": "2 EUR"}])
    chain.order("ready", 1, order="W-anna")
    chain.wish("anna", gtin=MILK)
    chain.propose("anna", "coupon", offer="o1")
    chain.propose("anna", "cake", offer="o2")
    chain.react("anna", "o2", "complained")
    chain.pay("r2-of-anna", "-30 EUR", refunds="r-of-anna")
    chain.context()


def test_who_opts_out_is_gone_from_every_byte(chain: Chain) -> None:
    live_a_life(chain)
    needles = [b"anna", chain.key("anna"), chain.rid("anna").encode(), chain.rid("anna", at_ms=NOW_MS - DAY_MS).encode()]
    assert all(needle in chain.bytes_on_disk() for needle in needles), "the search does find what is there"
    with chain.db.atomic():
        assert records.opt_out(chain.db, "anna")
    chain.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert [needle for needle in needles if needle in chain.bytes_on_disk()] == []
    assert chain.db.execute("SELECT count(*) FROM offer").fetchone() == (2,), "what happened stays countable"


def test_everything_ends(chain: Chain) -> None:
    """After a long time nothing is left but who is enrolled, what is counted for life, and what promotions there are."""
    live_a_life(chain)
    chain.react("ben", "o1", "shown")
    while retention.forget_old(chain.db, NOW_MS + 401 * DAY_MS):
        pass
    records.forget_pseudonyms(chain.db, "north", 2**31)
    records.forget_pseudonyms(chain.db, "south", 2**31)
    kept = {"shopper", "member", "promotion", "profile", "granted_ever", "stopped", "staff_outbox", "app_outbox"}
    left = {name for name in chain.db.table_names() if not name.startswith("_") and chain.db[name].count} - kept
    assert left == set()


def test_what_is_still_needed_stays(chain: Chain) -> None:
    live_a_life(chain)
    visits.keep_stay(chain.db, "anna", "north", NOW_MS - 29 * DAY_MS, NOW_MS - 29 * DAY_MS, GAP_MS)
    tables = [name for name in chain.db.table_names() if not name.startswith("_")]
    before = {name: chain.db[name].count for name in tables}
    assert not retention.forget_old(chain.db, NOW_MS + HOUR_MS)
    assert {name: chain.db[name].count for name in tables} == before
    # The newest visit stays for who comes back after a year.
    retention.forget_old(chain.db, NOW_MS + 300 * DAY_MS)
    assert chain.db.execute("SELECT last_ms FROM visited").fetchall() == [(NOW_MS,)]
