"""Central's file: events exactly once in whatever order they come, visits, versions, people who leave."""

import random
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from gateway.central import records, visits
from gateway.central.records import CENTRAL
from gateway.contract.downlinks import MAX_SHOPPERS
from gateway.contract.messages import LaterEvent, OfferMatchedData, UplinkEvent, read_event
from gateway.contract.promotions import Promotion
from gateway.contract.strict_json import canonical
from gateway.core.model import Consent
from gateway.errors import ConfigurationError
from gateway.io.store.database import open_database
from tests.contract.examples import EPOCH, EVENTS

NOW_MS = 1_790_000_000_000
ANNA = "8a4061daf88a329d"
GAP_MS = 1_800_000


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = open_database(tmp_path / "central.db", CENTRAL)
    yield database
    database.conn.close()


def event(seq: int, epoch: str = EPOCH) -> UplinkEvent | LaterEvent:
    return read_event(canonical({**EVENTS["tombstone.v1"], "seq": seq, "epoch": epoch}), "test")


def keep(db: Database, seq: int, gateway: str = "pi-1", epoch: str = EPOCH) -> bool:
    return records.keep_event(db, "demo", gateway, event(seq, epoch), NOW_MS)


def contiguous(db: Database, gateway: str = "pi-1", epoch: str = EPOCH) -> int:
    return records.contiguous(db, "demo", gateway, epoch)


# ---- events -------------------------------------------------------------------------------------------------------------------


def test_an_event_is_kept_once(db: Database) -> None:
    assert keep(db, 1)
    assert not keep(db, 1)
    assert db["event"].count == 1


def test_the_key_is_store_gateway_epoch_and_number(db: Database) -> None:
    assert keep(db, 1)
    assert keep(db, 1, gateway="pi-2")
    assert keep(db, 1, epoch="ffffffffffffffff")
    assert records.keep_event(db, "other", "pi-1", event(1), NOW_MS)
    assert keep(db, 2)
    assert db["event"].count == 5


def test_nothing_is_contiguous_before_the_first(db: Database) -> None:
    assert contiguous(db) == 0
    keep(db, 2)
    assert contiguous(db) == 0
    keep(db, 1)
    assert contiguous(db) == 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 30), max_size=60), st.randoms(use_true_random=False))
def test_contiguous_is_the_first_gap_in_whatever_order_events_come(db: Database, numbers: list[int], rng: random.Random) -> None:
    epoch = secrets.token_hex(8)
    arrived: set[int] = set()
    for number in numbers:
        assert keep(db, number, epoch=epoch) == (number not in arrived)
        arrived.add(number)
        if rng.random() < 0.5:
            # Asked in between or not, the answer is the same: what is stored is only a short cut.
            assert contiguous(db, epoch=epoch) == next(n for n in range(32) if n + 1 not in arrived)
    assert contiguous(db, epoch=epoch) == next(n for n in range(32) if n + 1 not in arrived)


def test_a_central_that_lost_its_file_counts_from_where_the_gateway_begins(db: Database) -> None:
    records.begin_stream(db, "demo", "pi-1", EPOCH, 1000)
    assert contiguous(db) == 999
    keep(db, 1001)
    assert contiguous(db) == 999
    keep(db, 1000)
    assert contiguous(db) == 1001


@pytest.mark.parametrize("oldest", [1, 2, 3])
def test_beginning_again_takes_nothing_back(db: Database, oldest: int) -> None:
    for number in (1, 2, 3):
        keep(db, number)
    assert contiguous(db) == 3
    records.begin_stream(db, "demo", "pi-1", EPOCH, oldest)
    assert contiguous(db) == 3


def test_the_epochs_of_a_gateway_are_streams_of_their_own(db: Database) -> None:
    keep(db, 1)
    keep(db, 1, epoch="ffffffffffffffff")
    keep(db, 2, epoch="ffffffffffffffff")
    assert (contiguous(db), contiguous(db, epoch="ffffffffffffffff")) == (1, 2)


# ---- visits -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "numbers"),
    [
        ([0], [1]),
        ([0, 60, 1859], [1, 1, 1]),
        ([0, 1800], [1, 2]),
        ([0, 1799, 3598], [1, 1, 1]),
        ([0, 1800, 3600], [1, 2, 3]),
        ([0, 60, 30, 1850], [1, 1, 1, 1]),
        ([3600, 0, 3700], [1, 1, 1]),
    ],
)
def test_a_visit_ends_after_half_an_hour_without_event(db: Database, seconds: list[int], numbers: list[int]) -> None:
    assert [visits.go_on(db, "demo", ANNA, NOW_MS + 1000 * s, GAP_MS) for s in seconds] == numbers


def test_visits_of_two_shoppers_and_stores_are_counted_apart(db: Database) -> None:
    assert visits.go_on(db, "demo", ANNA, NOW_MS, GAP_MS) == 1
    assert visits.go_on(db, "demo", "1122334455667788", NOW_MS + GAP_MS, GAP_MS) == 1
    assert visits.go_on(db, "other", ANNA, NOW_MS + GAP_MS, GAP_MS) == 1
    assert visits.go_on(db, "demo", ANNA, NOW_MS + GAP_MS, GAP_MS) == 2


# ---- offers -------------------------------------------------------------------------------------------------------------------


def proposal(offer: str, deadline: int = NOW_MS + 30_000) -> OfferMatchedData:
    data = {**EVENTS["offer.matched.v1"]["data"], "offer": offer, "deadline": deadline}
    return OfferMatchedData.model_validate(data)


def decide(
    db: Database, offer: str, reason: str | None = None, *, visit: int = 1, inbox: str = "anna", deadline: int = NOW_MS + 30_000
) -> None:
    records.keep_decision(db, "demo", "pi-1", proposal(offer, deadline), inbox=inbox, visit=visit, reason=reason, now_ms=NOW_MS)


def test_a_decision_stays_as_it_was_made(db: Database) -> None:
    assert records.decision_of(db, "o1") is None
    decide(db, "o1", "push_spent")
    decided = records.decision_of(db, "o1")
    assert decided is not None
    assert (decided.reason, decided.store, decided.gateway, decided.deadline_ms) == (
        "push_spent",
        "demo",
        "pi-1",
        NOW_MS + 30_000,
    )


def test_only_grants_count_against_caps(db: Database) -> None:
    decide(db, "o1")
    decide(db, "o2", "push_spent")
    decide(db, "o3", visit=2)
    assert records.granted_today(db, "demo", ANNA, "yoghurt-monday") == 2
    assert records.granted_today(db, "demo", ANNA, "other") == 0
    assert (records.pushes_in_visit(db, "demo", ANNA, 1), records.pushes_in_visit(db, "demo", ANNA, 2)) == (1, 1)


def test_decisions_are_open_until_their_deadline(db: Database) -> None:
    decide(db, "o1")
    decide(db, "o2", "late", deadline=NOW_MS)
    assert [decided.offer for decided in records.open_decisions(db, "demo", "pi-1", NOW_MS)] == ["o1"]
    assert records.open_decisions(db, "demo", "pi-2", NOW_MS) == []


def test_an_offer_waits_for_its_app_until_a_receipt_or_its_deadline(db: Database) -> None:
    for offer, deadline in (("o1", NOW_MS + 1), ("o2", NOW_MS + 1), ("o3", NOW_MS)):
        decide(db, offer)
        records.queue_for_app(db, offer, "anna", b"{}", deadline)
    assert [offer for offer, *_ in records.waiting_for_apps(db, NOW_MS)] == ["o1", "o2"]
    assert records.keep_receipt(db, "r1", "anna", "o1", "shown", NOW_MS)
    assert [offer for offer, *_ in records.waiting_for_apps(db, NOW_MS)] == ["o2"]
    assert records.waiting_for_apps(db, NOW_MS + 1) == []


def test_receipts_are_taken_once_and_for_own_offers_only(db: Database) -> None:
    decide(db, "o1", inbox="anna")
    records.queue_for_app(db, "o1", "anna", b"{}", NOW_MS + 1)
    assert not records.keep_receipt(db, "r1", "ben", "o1", "shown", NOW_MS)
    assert not records.keep_receipt(db, "r1", "anna", "o2", "shown", NOW_MS)
    assert len(records.waiting_for_apps(db, NOW_MS)) == 1
    assert records.keep_receipt(db, "r1", "anna", "o1", "shown", NOW_MS)
    assert not records.keep_receipt(db, "r1", "anna", "o1", "shown", NOW_MS)
    assert records.keep_receipt(db, "r2", "anna", "o1", "redeemed", NOW_MS)
    assert db["receipt"].count == 2


def test_two_apps_may_give_their_receipts_the_same_ids(db: Database) -> None:
    for offer, inbox in (("o1", "anna"), ("o2", "ben")):
        decide(db, offer, inbox=inbox)
        assert records.keep_receipt(db, "1", inbox, offer, "shown", NOW_MS)
    assert db["receipt"].count == 2


def test_receipts_of_earlier_versions_are_kept(tmp_path: Path) -> None:
    earlier = Database(tmp_path / "central.db")
    CENTRAL.apply(earlier, stop_before="0008_receipts_by_app")
    earlier.execute("INSERT INTO receipt VALUES ('r1', 'anna', 'o1', 'shown', ?)", [NOW_MS])
    earlier.conn.commit()
    earlier.conn.close()
    kept = open_database(tmp_path / "central.db", CENTRAL)
    assert kept.execute("SELECT id, inbox, offer, state, time_ms FROM receipt").fetchall() == [
        ("r1", "anna", "o1", "shown", NOW_MS)
    ]
    kept.conn.close()


# ---- people, promotions, versions ---------------------------------------------------------------------------------------------


def test_the_shopper_whom_no_roster_could_hold_is_refused(db: Database) -> None:
    db.conn.execute("PRAGMA foreign_keys = 0")
    with db.atomic():
        db.conn.executemany("INSERT INTO member VALUES (?, 'demo')", [[f"app-{number}"] for number in range(MAX_SHOPPERS - 1)])
    with db.atomic():
        records.enrol(db, "last", bytes(32), Consent.OFFERS, ["demo"])
    with pytest.raises(ConfigurationError, match="50000 shoppers already"), db.atomic():
        records.enrol(db, "one-more", b"\1" * 32, Consent.OFFERS, ["demo"])
    assert [inbox for inbox, _, _ in records.shoppers(db)] == ["last"], "nobody was enrolled by halves"
    with db.atomic():
        records.enrol(db, "last", bytes(32), Consent.ANALYTICS, ["demo"])


def test_an_app_is_enrolled_with_key_consent_and_stores(db: Database) -> None:
    records.enrol(db, "anna", bytes(32), Consent.OFFERS, ["demo", "other"])
    records.enrol(db, "anna", bytes(32), Consent.OFFERS | Consent.ANALYTICS, ["demo"])
    records.enrol(db, "ben", b"\1" * 32, Consent.ANALYTICS, [])
    assert records.shoppers(db) == [
        ("anna", Consent.OFFERS | Consent.ANALYTICS, ["demo", "other"]),
        ("ben", Consent.ANALYTICS, []),
    ]
    assert records.members(db, "demo") == [("anna", bytes(32), Consent.OFFERS | Consent.ANALYTICS)]


def test_one_key_is_one_inboxs(db: Database) -> None:
    records.enrol(db, "anna", bytes(32), Consent.OFFERS, ["demo"])
    with pytest.raises(ConfigurationError, match="ben: has the key of anna"), db.atomic():
        records.enrol(db, "ben", bytes(32), Consent.ANALYTICS, ["demo"])
    records.enrol(db, "anna", b"\1" * 32, Consent.OFFERS, ["demo"])
    records.enrol(db, "ben", bytes(32), Consent.ANALYTICS, ["demo"])
    assert records.members(db, "demo") == [("anna", b"\1" * 32, Consent.OFFERS), ("ben", bytes(32), Consent.ANALYTICS)]


def test_who_opts_out_is_gone_but_what_happened_stays_countable(db: Database) -> None:
    records.enrol(db, "anna", bytes(32), Consent.OFFERS, ["demo"])
    records.name_pseudonyms(db, "demo", 7, [(ANNA, "anna")])
    assert records.inbox_of(db, "demo", ANNA) == ("anna", Consent.OFFERS, False)
    decide(db, "o1", inbox="anna")
    records.queue_for_app(db, "o1", "anna", b"{}", NOW_MS + 1)
    assert records.opt_out(db, "anna")
    assert not records.opt_out(db, "anna")
    assert records.inbox_of(db, "demo", ANNA) is None
    assert records.waiting_for_apps(db, NOW_MS) == []
    assert (db["shopper"].count, db["member"].count, db["pseudonym"].count, db["offer"].count) == (0, 0, 0, 1)
    assert db.execute("SELECT inbox FROM offer").fetchone() == (None,)
    assert not records.keep_receipt(db, "r1", "anna", "o1", "shown", NOW_MS)


def test_pseudonyms_of_past_days_are_forgotten(db: Database) -> None:
    records.enrol(db, "anna", bytes(32), Consent.OFFERS, ["demo"])
    for day, rid in ((6, "00"), (7, "11"), (8, "22")):
        records.name_pseudonyms(db, "demo", day, [(rid, "anna")])
    records.forget_pseudonyms(db, "demo", 7)
    assert [records.inbox_of(db, "demo", rid) is not None for rid in ("00", "11", "22")] == [False, True, True]


def test_promotions_are_replaced_whole(db: Database) -> None:
    least = {
        "promotion_id": "a",
        "long_title": {"de": "Brot", "en": "Bread"},
        "zones": ["bakery"],
        "windows": [{"start": "17:00"}],
    }
    first = tuple(Promotion.model_validate({**least, "promotion_id": name}) for name in "ba")
    records.replace_promotions(db, "demo", first)
    records.replace_promotions(db, "other", first[:1])
    assert records.promotions(db, "demo") == (first[1], first[0])
    records.replace_promotions(db, "demo", ())
    assert (records.promotions(db, "demo"), records.promotions(db, "other")) == ((), first[:1])


def test_versions_only_rise(db: Database) -> None:
    assert [records.next_version(db, "catalogue/demo") for _ in range(3)] == [1, 2, 3]
    assert records.next_version(db, "catalogue/other") == 1


def test_after_an_opt_out_nothing_names_the_inbox(db: Database) -> None:
    proposal = OfferMatchedData.model_validate(EVENTS["offer.matched.v1"]["data"])
    records.enrol(db, "anna", bytes(32), Consent.OFFERS, ["demo"])
    records.name_pseudonyms(db, "demo", 1, [(proposal.shopper, "anna")])
    records.keep_decision(db, "demo", "pi-1", proposal, inbox="anna", visit=1, reason=None, now_ms=NOW_MS)
    assert records.keep_receipt(db, "r1", "anna", proposal.offer, "shown", NOW_MS)
    assert records.opt_out(db, "anna")
    left = [row for table in db.table_names() for row in db[table].rows if "anna" in map(str, row.values())]
    assert left == []
