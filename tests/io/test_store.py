"""The gateway's database file: what is promised about it, with the file real and the faults put into its bytes."""

import asyncio
import contextlib
import json
import random
import shutil
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from gateway.contract.fields import to_rfc3339
from gateway.contract.messages import LaterEvent, Tombstone, UplinkEvent, ZoneEntered, read_event
from gateway.contract.messages import OfferMatched as OfferMatchedMessage
from gateway.core.model import (
    AnchorLevel,
    BatteryHealth,
    BatteryPoint,
    BeaconChange,
    BeaconHealth,
    BeaconState,
    CanaryMemory,
    Circumstances,
    ClockQuality,
    Consent,
    Dwelled,
    Entered,
    Evidence,
    Exited,
    HealthChange,
    HealthTold,
    Instant,
    LinkBaseline,
    OfferMatched,
    OpenVisit,
    Outcome,
    PastOffer,
    PresenceEvent,
    ReceiverChange,
    Step,
    StoreCount,
    Verdict,
    VisitEnded,
    VisitStarted,
    Withheld,
    WithheldReason,
)
from gateway.errors import ConfigurationError, DiskError
from gateway.io.store import OutboxRow, Store, schema
from gateway.io.store.database import DatabaseThread, insert, open_database, transact
from gateway.io.store.schema import GATEWAY

ANNA, BEN = "8a4061daf88a329d", "1122334455667788"
BOTH = Consent.OFFERS | Consent.ANALYTICS
START = Instant(1_000, 1_790_000_000_000)
EVIDENCE = Evidence(0.93, "bakery", 2.1, (AnchorLevel("receiver-dairy", -61.0, "receiver"),))
SYNCHRONISED = ClockQuality.SYNCHRONISED


def at(seconds: float) -> Instant:
    return START.plus(round(seconds * 1000))


def visit_of(shopper: str) -> str:
    return f"v-{shopper[:6]}"


def offer(name: str, shopper: str = ANNA, seconds: float = 1) -> OfferMatched:
    moment = at(seconds)
    return OfferMatched(
        name, shopper, visit_of(shopper), "dairy", "yoghurt", "offer", moment, moment.plus(30_000), True, "", 600_000, 4
    )


def entered(shopper: str = ANNA, seconds: float = 1, *offers: OfferMatched, consent: Consent = BOTH) -> Outcome:
    event = Entered(shopper, visit_of(shopper), "dairy", at(seconds), consent, EVIDENCE)
    return Outcome(event, offers, (Withheld("bread", WithheldReason.OUTSIDE_WINDOW),), 4)


def started(shopper: str = ANNA, seconds: float = 1) -> Outcome:
    return Outcome(VisitStarted(shopper, visit_of(shopper), at(seconds), BOTH))


def arrival(shopper: str = ANNA, *offers: OfferMatched) -> Step:
    return Step((started(shopper), entered(shopper, 1, *offers)))


@contextlib.asynccontextmanager
async def opened(path: Path, quota_mib: int = 64) -> AsyncIterator[Store]:
    store = Store(path, quota_mib=quota_mib, boot_id="boot-1")
    await store.start()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "gateway.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    async with opened(path) as running:
        yield running


async def commit(store: Store, step: Step) -> None:
    await store.commit(step, quality=SYNCHRONISED, wall_ms=START.wall_ms)


@contextlib.contextmanager
def looking(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of the test's own, which sees only what is committed."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def count(path: Path, table: str) -> int:
    with looking(path) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


# ---- beacons and receivers ----------------------------------------------------------------------------------------------------


def told_of_beacon(state: BeaconState, before: BeaconState, seconds: float = 5) -> BeaconChange:
    battery = BatteryHealth("low", 2310, None, 6.5, (0, 9))
    health = BeaconHealth("shelf-7", "dairy", state, 0, None, (), battery, 0, None)
    return BeaconChange(HealthChange("beacon", "shelf-7", state, before, at(seconds), at(seconds).mono_ms - 90_000), health)


async def test_what_is_told_of_beacons_and_receivers_is_numbered_and_remembered(path: Path) -> None:
    async with opened(path) as store:
        assert await store.recall_health() == (CanaryMemory(), ())
        deaf = ReceiverChange("door", "deaf", "heard\x1b nothing.", at(6), step="reset-controller", helped=False)
        await commit(store, Step(beacons=(told_of_beacon("silent", "ok"),), receivers=(deaf,)))
        beacon, receiver = await store.outbox_rows(1, 9, 9)
        _, told = await store.recall_health()
    assert json.loads(beacon.data) == {
        "beacon": "shelf-7",
        "zone": "dairy",
        "changed": "state",
        "before": "ok",
        "first_sign_time": to_rfc3339(at(5).wall_ms - 90_000),
        "state": "silent",
        "battery_state": "low",
        "battery_v": 2.31,
        "temperature_c": 6.5,
        "days_left_least": 0,
        "days_left_most": 9,
    }
    assert json.loads(receiver.data) == {
        "receiver": "door",
        "state": "deaf",
        "before": "hearing",
        "cause": "heard\\x1b nothing.",
        "step": "reset-controller",
        "helped": False,
        "told_by": "supervision",
    }
    assert told == (HealthTold("beacon", "shelf-7", "silent"), HealthTold("receiver", "door", "deaf"))


async def test_what_is_told_later_takes_the_place_of_what_was_told(store: Store) -> None:
    await commit(store, Step(beacons=(told_of_beacon("silent", "ok"),)))
    await commit(store, Step(beacons=(told_of_beacon("ok", "silent"),)))
    assert (await store.recall_health())[1] == (HealthTold("beacon", "shelf-7", "ok"),)


async def test_baselines_outlast_the_process_and_batteries_a_wrong_clock(path: Path) -> None:
    baseline = LinkBaseline("shelf-7", "door", -61.5, -60.0, 1.25, 9.75, 0.03)
    memory = CanaryMemory((baseline,), (BatteryPoint("shelf-7", START.wall_ms, 2950.5),))
    async with opened(path) as store:
        await store.keep_canaries(memory, batteries=True)
        await store.keep_canaries(memory, batteries=True)
        louder = replace(baseline, baseline_dbm=-55.0)
        await store.keep_canaries(CanaryMemory((louder,)), batteries=False)
    async with opened(path) as store:
        assert (await store.recall_health())[0] == CanaryMemory((louder,), memory.batteries)
        await store.keep_canaries(CanaryMemory(), batteries=True)
        assert (await store.recall_health())[0] == CanaryMemory()


# ---- one commit ---------------------------------------------------------------------------------------------------------------


async def test_ledger_and_outbox_are_committed_together(store: Store, path: Path) -> None:
    await commit(store, arrival(ANNA, offer("o1"), offer("o2")))
    assert (count(path, "ledger"), count(path, "offer"), count(path, "outbox"), count(path, "visit")) == (2, 2, 4, 1)
    rows = await store.outbox_rows(1, 100, 100)
    assert [row.type for row in rows] == ["visit.started.v1", "zone.entered.v1", "offer.matched.v1", "offer.matched.v1"]
    assert [row.seq for row in rows] == [1, 2, 3, 4]


async def test_when_one_half_fails_nothing_of_the_other_is_kept(store: Store, path: Path) -> None:
    await commit(store, arrival(ANNA, offer("o1")))
    before = [count(path, table) for table in ("ledger", "offer", "outbox", "visit")]
    # The last of the step cannot be: an offer has its name once. What was written before it must go too.
    with pytest.raises(sqlite3.IntegrityError):
        await commit(store, Step((*arrival(BEN).outcomes, entered(BEN, 2, offer("o2", BEN), offer("o1", BEN)))))
    assert [count(path, table) for table in ("ledger", "offer", "outbox", "visit")] == before
    assert await store.outbox_bounds() == (1, 3)
    # And the store goes on.
    await commit(store, arrival(BEN, offer("o3", BEN)))
    assert count(path, "outbox") == before[2] + 3


async def test_when_the_outbox_fails_the_ledger_keeps_nothing(store: Store, path: Path) -> None:
    with looking(path) as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON outbox WHEN NEW.type = 'offer.matched.v1' BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    with pytest.raises(sqlite3.IntegrityError):
        await commit(store, arrival(ANNA, offer("o1")))
    assert [count(path, table) for table in ("ledger", "offer", "outbox", "visit")] == [0, 0, 0, 0]


def as_read(row: OutboxRow, store: Store, *, history: bool = False) -> UplinkEvent | LaterEvent:
    """The row's message as central reads it; not a word of it may be lost when it is written again."""
    message = row.to_json(epoch=store.epoch, source="stores/demo/gateways/pi-1", history=history)
    event = read_event(message, "event")
    assert json.loads(event.to_json()) == json.loads(message)
    return event


async def test_a_row_becomes_the_message_that_it_is(store: Store) -> None:
    await commit(store, arrival(ANNA, offer("o1")))
    _, second, third = await store.outbox_rows(1, 100, 100)
    event = as_read(second, store)
    assert isinstance(event, ZoneEntered)
    assert (event.id, event.seq, event.epoch, event.bootid) == (f"{store.epoch}-2", 2, store.epoch, "boot-1")
    assert (event.time, event.monotonicms, event.timequality) == (at(1).wall_ms, "2000", "synchronised")
    assert (event.history, event.data.zone, event.data.belief) == (None, "dairy", 0.93)
    late = as_read(third, store, history=True)
    assert isinstance(late, OfferMatchedMessage)
    assert (late.history, late.data.offer, late.data.deadline) == (True, "o1", at(31).wall_ms)


async def test_without_analytics_only_the_offer_waits_to_be_sent(store: Store, path: Path) -> None:
    await commit(store, Step((entered(ANNA, 1, offer("o1"), consent=Consent.OFFERS),)))
    assert [row.type for row in await store.outbox_rows(1, 100, 100)] == ["offer.matched.v1"]
    assert count(path, "ledger") == 1


# ---- numbers ------------------------------------------------------------------------------------------------------------------


async def test_a_number_is_never_given_twice(path: Path) -> None:
    async with opened(path) as store:
        assert await store.outbox_bounds() == (1, 0)
        await commit(store, arrival())
        assert await store.acknowledged(2) == 2
        assert await store.outbox_bounds() == (3, 2)
        assert await store.backlog() == (0, None)
    async with opened(path) as store:
        assert await store.outbox_bounds() == (3, 2)
        await commit(store, arrival(BEN))
        assert [row.seq for row in await store.outbox_rows(1, 100, 100)] == [3, 4]


async def test_an_epoch_is_born_with_its_file_and_stays(path: Path) -> None:
    async with opened(path) as store:
        first = store.epoch
    async with opened(path) as store:
        assert store.epoch == first
    shutil.rmtree(path.parent)
    async with opened(path) as store:
        assert store.epoch != first
        assert len(bytes.fromhex(store.epoch)) == 8


async def test_only_what_central_has_stored_is_forgotten(store: Store) -> None:
    for _ in range(5):
        await commit(store, arrival())
    assert await store.acknowledged(0) == 0
    assert await store.acknowledged(3) == 3
    assert await store.acknowledged(3) == 0
    assert await store.acknowledged(2) == 0
    assert [row.seq for row in await store.outbox_rows(1, 100, 100)] == [4, 5, 6, 7, 8, 9, 10]
    assert await store.outbox_bounds() == (4, 10)
    assert await store.backlog() == (7, at(1).wall_ms)


async def test_rows_are_read_in_order_and_not_more_than_asked(store: Store) -> None:
    for _ in range(5):
        await commit(store, arrival())
    assert [row.seq for row in await store.outbox_rows(3, 8, 100)] == [3, 4, 5, 6, 7, 8]
    assert [row.seq for row in await store.outbox_rows(3, 2**62, 2)] == [3, 4]
    assert await store.outbox_rows(11, 2**62, 100) == []


# ---- people -------------------------------------------------------------------------------------------------------------------


async def test_what_is_erased_leaves_its_number_and_nothing_else(store: Store, path: Path) -> None:
    await commit(store, arrival(ANNA, offer("o1")))
    await commit(store, arrival(BEN))
    await commit(store, Step(forgotten=(ANNA,)))
    rows = await store.outbox_rows(1, 100, 100)
    assert [row.type for row in rows] == ["tombstone.v1"] * 3 + ["visit.started.v1", "zone.entered.v1"]
    events = [as_read(row, store) for row in rows]
    assert [event.seq for event in events] == [1, 2, 3, 4, 5]
    assert all(isinstance(event, Tombstone) and event.data.reason == "erased" for event in events[:3])
    # What happened stays countable.
    assert (count(path, "ledger"), count(path, "offer"), count(path, "visit")) == (4, 1, 1)
    files = [part for part in path.parent.iterdir() if part.is_file()]
    assert all(ANNA.encode() not in part.read_bytes() for part in files)
    assert any(BEN.encode() in part.read_bytes() for part in files)


async def test_pseudonyms_go_after_days_and_rows_after_a_month(store: Store, path: Path) -> None:
    await commit(store, arrival(ANNA, offer("o1")))
    day = 24 * 3600 * 1000
    await store.note_alive(at(1).wall_ms + 7 * day, 7)
    assert (await store.recall(at(1).wall_ms)).visits != ()
    await store.note_alive(at(1).wall_ms + 7 * day + 1, 7)
    with looking(path) as connection:
        assert connection.execute("SELECT DISTINCT shopper FROM ledger UNION SELECT shopper FROM offer").fetchall() == [(None,)]
    assert (count(path, "ledger"), count(path, "visit")) == (2, 0)
    await store.note_alive(at(1).wall_ms + 30 * day + 1, 7)
    assert (count(path, "ledger"), count(path, "offer")) == (0, 0)


# ---- what survives a restart --------------------------------------------------------------------------------------------------


async def test_an_empty_file_remembers_nothing(store: Store) -> None:
    memory = await store.recall(START.wall_ms)
    assert (memory.alive_wall_ms, memory.visits, memory.offers) == (None, (), ())


async def test_visits_and_offers_are_remembered_as_they_were(path: Path) -> None:
    async with opened(path) as store:
        await commit(store, arrival(ANNA, offer("o1"), offer("o2")))
        dwelled = Dwelled(ANNA, visit_of(ANNA), "dairy", at(61), BOTH, at(1), 60_000, EVIDENCE)
        await commit(store, Step((Outcome(dwelled),), (Verdict("o1", "late"),)))
        await store.decide([(Verdict("o2", "granted"), at(2).wall_ms)])
        await commit(store, arrival(BEN))
        left = Exited(BEN, visit_of(BEN), "dairy", at(90), BOTH, at(1), at(80), "silence")
        await commit(store, Step((Outcome(left),)))
        await store.note_alive(at(95).wall_ms, 7)
    async with opened(path) as store:
        memory = await store.recall(at(100).wall_ms)
    assert memory.alive_wall_ms == at(95).wall_ms
    first, second = START.wall_ms + 1000, START.wall_ms + 80_000
    assert set(memory.visits) == {
        OpenVisit(ANNA, visit_of(ANNA), BOTH, first, 1, "dairy", first, 60_000, at(61).wall_ms),
        OpenVisit(BEN, visit_of(BEN), BOTH, first, 1, None, None, 0, second),
    }
    past = PastOffer("o1", ANNA, visit_of(ANNA), "yoghurt", "offer", "", 600_000, first, first + 30_000, "late")
    assert memory.offers == (past, replace(past, offer="o2", state="granted"))


async def test_what_waited_for_a_context_completes_its_row_and_tells_only_what_is_new(path: Path, store: Store) -> None:
    await commit(store, arrival(ANNA, offer("o1")))
    first = entered(ANNA, 1)
    card = replace(offer("o2"), push=False, promotion_id="cheese")
    withheld = (Withheld("bread", WithheldReason.AUDIENCE), Withheld("cheese", WithheldReason.CAP_VISIT))
    rest = replace(first, offers=(card,), withheld=withheld, context_version=9, is_rest=True)
    await commit(store, Step((started(BEN),), rests=(rest,)))
    with looking(path) as connection:
        rows = connection.execute("SELECT withheld, evidence FROM ledger WHERE type = 'zone.entered'").fetchall()
        offers = connection.execute("SELECT offer, ledger, push FROM offer ORDER BY rowid").fetchall()
    ((counts, evidence),) = rows
    assert json.loads(counts) == {"audience": 1, "cap_visit": 1}
    assert (json.loads(evidence)["context"], json.loads(evidence)["waited"]) == (9, True)
    assert offers == [("o1", 2, 1), ("o2", 2, 0)]
    told = [row.type for row in await store.outbox_rows(1, 100, 100)]
    assert told == ["visit.started.v1", "zone.entered.v1", "offer.matched.v1", "offer.matched.v1", "visit.started.v1"]
    memory = await store.recall(at(2).wall_ms)
    assert [(past.offer, past.push) for past in memory.offers] == [("o1", True), ("o2", False)]


async def test_what_the_store_has_had_is_counted_by_its_day_also_of_the_erased(store: Store) -> None:
    await commit(store, arrival(ANNA, offer("o1"), offer("o2")))
    await commit(store, arrival(BEN, offer("o3", BEN), offer("o4", BEN)))
    test = replace(entered(ANNA, 5, offer("o5")), circumstances=Circumstances(SYNCHRONISED, is_test=True))
    await commit(store, Step((test,)))
    await store.decide([(Verdict("o2", "refused", "quantity"), at(2).wall_ms)])
    await store.decide([(Verdict("o4", "refused", "already_granted"), at(2).wall_ms)])
    await commit(store, Step(forgotten=(BEN,)))
    day_ms = 86_400_000
    into_day_ms = (at(1).wall_ms) % day_ms
    for day_start_ms in (0, into_day_ms, into_day_ms + 1):
        memory = await store.recall(at(100).wall_ms, day_start_ms)
        day = (at(1).wall_ms - day_start_ms) // day_ms
        assert memory.in_store == (StoreCount("yoghurt", day, 3),), "one refused, one a technician's"


def test_offers_of_an_older_version_keep_their_push(path: Path) -> None:
    older = Migrations("gateway")
    older(name="0001_first")(schema._first)
    older(name="0002_health")(schema._health)
    older(name="0003_outbox_without_index")(schema._outbox_without_index)
    with contextlib.closing(open_database(path, older).conn) as connection, connection:
        connection.execute(
            "INSERT INTO ledger (id, wall_ms, type, visit, withheld, evidence) VALUES (1, 1, 't', 'v', '{}', '{}')"
        )
        for kind in ("offer", "info", "pickup"):
            connection.execute(
                "INSERT INTO offer (offer, ledger, visit, zone, promotion_id, kind, cool_down_group, cool_down_ms, wall_ms,"
                " deadline_wall_ms, state) VALUES (?1, 1, 'v', 'z', ?1, ?1, '', 0, 1, 2, 'granted')",
                [kind],
            )
    with contextlib.closing(open_database(path, GATEWAY).conn) as connection:
        found = connection.execute("SELECT kind, push FROM offer ORDER BY rowid").fetchall()
    assert found == [("offer", 1), ("info", 0), ("pickup", 1)]


async def test_a_visit_that_ended_is_not_remembered(store: Store) -> None:
    await commit(store, arrival())
    ended = VisitEnded(ANNA, visit_of(ANNA), at(3000), BOTH, at(1), at(60), 1)
    await commit(store, Step((Outcome(ended),)))
    assert (await store.recall(at(3001).wall_ms)).visits == ()


async def test_offers_of_another_day_are_not_remembered(store: Store) -> None:
    await commit(store, arrival(ANNA, offer("o1")))
    hour = 3600 * 1000
    assert len((await store.recall(at(1).wall_ms + 26 * hour - 1)).offers) == 1
    assert (await store.recall(at(1).wall_ms + 26 * hour)).offers == ()


@pytest.mark.parametrize(
    ("verdicts", "state", "reason"),
    [
        ([Verdict("o1", "granted")], "granted", ""),
        ([Verdict("o1", "refused", "push_spent")], "refused", "push_spent"),
        ([Verdict("o1", "late"), Verdict("o1", "granted")], "granted", ""),
        ([Verdict("o1", "refused", "late"), Verdict("o1", "granted")], "refused", "late"),
        ([Verdict("o1", "granted"), Verdict("o1", "refused", "late")], "granted", ""),
        ([Verdict("unknown", "granted")], "proposed", ""),
    ],
)
async def test_the_first_answer_of_central_counts(
    store: Store, path: Path, verdicts: list[Verdict], state: str, reason: str
) -> None:
    await commit(store, arrival(ANNA, offer("o1"), offer("o2")))
    for verdict in verdicts:
        await store.decide([(verdict, at(2).wall_ms)])
    await store.decide([(replace(verdict, offer=verdict.offer.replace("o1", "o2")), at(2).wall_ms) for verdict in verdicts])
    with looking(path) as connection:
        assert connection.execute("SELECT state, reason FROM offer").fetchall() == [(state, reason)] * 2


async def test_signed_downlinks_are_kept_as_they_came(path: Path) -> None:
    async with opened(path) as store:
        await store.keep_snapshot("catalogue", 1, b"one")
        await store.keep_snapshot("catalogue", 2, b"two\x00\xff")
        for version in range(1, 5):
            await store.keep_snapshot(f"roster/delta/7/{version:012d}", version, b"%d" % version)
        await store.keep_snapshot("roster/delta/77/000000000001", 1, b"other day")
        await store.drop_snapshots_up_to("roster/delta/7/", 3)
    async with opened(path) as store:
        assert await store.snapshots() == [
            ("catalogue", b"two\x00\xff"),
            ("roster/delta/7/000000000004", b"4"),
            ("roster/delta/77/000000000001", b"other day"),
        ]
        await store.drop_snapshots(["catalogue", "unknown"])
        await store.drop_snapshots([])
        assert [name for name, _ in await store.snapshots()] == ["roster/delta/7/000000000004", "roster/delta/77/000000000001"]


# ---- the file -----------------------------------------------------------------------------------------------------------------


def test_every_connection_is_opened_as_promised(path: Path) -> None:
    for _ in range(2):  # a new file, and one that exists
        database = open_database(path, GATEWAY, quota_mib=3)
        try:

            def pragma(name: str, database: Database = database) -> Any:
                return database.execute(f"PRAGMA {name}").fetchone()[0]

            assert (pragma("journal_mode"), pragma("synchronous"), pragma("foreign_keys")) == ("wal", 2, 1)
            assert (pragma("trusted_schema"), pragma("secure_delete")) == (0, 1)
            assert pragma("wal_autocheckpoint") <= 1000
            assert (pragma("journal_size_limit"), pragma("busy_timeout")) == (8 * 1024 * 1024, 5000)
            assert pragma("max_page_count") * pragma("page_size") == 3 * 1024 * 1024
        finally:
            database.conn.close()


async def test_nobody_else_can_read_the_file(store: Store, path: Path) -> None:
    await commit(store, arrival())
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {part.stat().st_mode & 0o777 for part in path.parent.iterdir()} == {0o600}


async def test_other_processes_may_read_while_we_write(store: Store, path: Path) -> None:
    with looking(path) as connection:
        connection.execute("BEGIN")
        assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
        await commit(store, arrival())
        assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
    assert count(path, "outbox") == 2


async def test_many_callers_at_once_are_served_one_after_the_other(store: Store) -> None:
    await asyncio.gather(*(commit(store, Step((started(f"{number:016x}"),))) for number in range(100)))
    assert [row.seq for row in await store.outbox_rows(1, 1000, 1000)] == list(range(1, 101))


def nothing(db: Database) -> None:
    pass


def as_they_are() -> Migrations:
    """The versions there are, for more behind them."""
    known = Migrations("gateway")
    known(name="0001_first")(schema._first)
    known(name="0002_health")(schema._health)
    known(name="0003_outbox_without_index")(schema._outbox_without_index)
    known(name="0004_silent_shelf")(schema._silent_shelf)
    known(name="0005_gap")(schema._gap)
    return known


@contextlib.asynccontextmanager
async def busy(path: Path) -> AsyncIterator[tuple[DatabaseThread, list[str], Callable[[], None]]]:
    """A database thread that is held up, what it does from then on, and how it goes on."""
    thread = DatabaseThread(path, lambda: open_database(path, GATEWAY))
    await thread.start()
    begun, may_go, statements = threading.Event(), threading.Event(), list[str]()

    def hold_up(db: Database) -> None:
        begun.set()
        assert may_go.wait(30)
        db.conn.set_trace_callback(statements.append)

    holding = asyncio.create_task(thread.run(hold_up))
    assert await asyncio.to_thread(begun.wait, 30)
    try:
        yield thread, statements, may_go.set
    finally:
        may_go.set()
        await holding
        await thread.close()


def note(db: Database, value: str | None) -> str | None:
    db.execute("INSERT INTO meta VALUES ('noted ' || ?1, ?1)", [value])
    return value


async def test_those_who_wait_at_the_same_time_share_a_transaction(path: Path) -> None:
    async with busy(path) as (thread, statements, go_on):
        values = [str(number) for number in range(40)]
        calls = [asyncio.create_task(thread.run(partial(note, value=value))) for value in values]
        await asyncio.sleep(0)
        go_on()
        assert await asyncio.gather(*calls) == values
        assert statements.count("COMMIT") == 2, "of the one that held it up, and theirs"
        assert count(path, "meta") == 41


async def test_who_only_looks_waits_for_no_writer_and_sees_what_is_on_disk(path: Path) -> None:
    async with busy(path) as (thread, _, go_on):
        writing = asyncio.create_task(thread.run(partial(note, value="x")))
        looked = await asyncio.wait_for(thread.look(noted), 30)
        assert (looked, writing.done()) == (0, False)
        go_on()
        await writing
        assert await thread.look(noted) == 1


async def test_who_is_in_a_hurry_lends_the_thread_a_moment_and_no_more(path: Path) -> None:
    """So that a disk that hangs does not hold up the event loop."""
    async with busy(path) as (thread, _, go_on):
        began = time.monotonic()
        behind = thread.submit_urgently(partial(note, value="behind another"))
        assert time.monotonic() - began < 1
        go_on()
        assert await behind == "behind another"
        computed = 0
        for _ in range(40):
            done = threading.Event()
            answer = thread.submit_urgently(partial(tell, done))
            computed += done.is_set()
            await answer
        assert computed, "unlent, not one is computed when we go on; lent, how many depends on who else is at work"
        hangs = threading.Event()
        began = time.monotonic()
        slow = thread.submit_urgently(lambda _: hangs.wait(30))
        assert time.monotonic() - began < 1
        hangs.set()
        assert await slow
        assert await thread.submit_urgently(partial(note, value="x")) == "x"
        with pytest.raises(sqlite3.IntegrityError):
            await thread.submit_urgently(partial(note, value=None))


async def test_a_long_log_is_brought_into_the_file_while_nobody_waits(store: Store, path: Path, tmp_path: Path) -> None:
    def in_the_file() -> int:
        """Without its log."""
        copy = tmp_path / "copy.db"
        copy.write_bytes(path.read_bytes())
        with contextlib.closing(sqlite3.connect(copy)) as connection:
            return int(connection.execute("SELECT count(*) FROM outbox").fetchone()[0])

    await commit(store, arrival())
    await store.scrub()
    before = in_the_file()
    await commit(store, Step(tuple(started(f"{number:016x}") for number in range(50))))
    store.rest()
    await asyncio.sleep(0.1)
    assert in_the_file() == before > 0, "it is short"
    await commit(store, Step(tuple(started(f"{number:016x}") for number in range(50, 400))))
    store.rest()
    async with asyncio.timeout(30):
        while in_the_file() != before + 400:  # noqa: ASYNC110 -- nobody waits for it, so nobody is told
            await asyncio.sleep(0.01)


async def test_who_looks_cannot_write(path: Path) -> None:
    async with busy(path) as (thread, _, go_on):
        go_on()
        with pytest.raises(DiskError):
            await thread.look(partial(note, value="x"))


def tell(done: threading.Event, _: Database) -> None:
    done.set()


def noted(db: Database) -> int:
    return int(db.execute("SELECT count(*) FROM meta WHERE key LIKE 'noted %'").fetchone()[0])


async def test_steps_are_kept_in_the_order_in_which_they_came(store: Store, path: Path) -> None:
    many = Step(tuple(started(f"{number:016x}") for number in range(60)))
    await asyncio.gather(commit(store, many), commit(store, arrival(ANNA)), commit(store, Step((started(BEN),))))
    with looking(path) as connection:
        shoppers = [shopper for (shopper,) in connection.execute("SELECT shopper FROM ledger ORDER BY id")]
        sent = [shopper for (shopper,) in connection.execute("SELECT shopper FROM outbox ORDER BY seq")]
    assert shoppers == sent == [*(f"{number:016x}" for number in range(60)), ANNA, ANNA, BEN]


async def test_when_one_of_those_who_wait_together_fails_all_are_told_and_nothing_is_kept(path: Path) -> None:
    async with busy(path) as (thread, _, go_on):
        calls = [asyncio.create_task(thread.run(partial(note, value=value))) for value in ("1", "2", None, "4")]
        await asyncio.sleep(0)
        go_on()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results] == [sqlite3.IntegrityError] * 4
        assert count(path, "meta") == 1
        assert await thread.run(partial(note, value="5")) == "5"
        assert count(path, "meta") == 2


@pytest.mark.parametrize("rows", [0, 1, 3, 4, 5, 20, 63, 64, 65, 149])
def test_rows_are_inserted_once_and_in_their_order(rows: int) -> None:
    with contextlib.closing(Database(memory=True).conn) as connection:
        db = Database(connection)
        db.execute("CREATE TABLE t (a INTEGER, b TEXT)")
        given = [(number, f"'{number}") for number in range(rows)]
        insert(db, "INSERT INTO t (a, b)", given)
        assert db.execute("SELECT a, b FROM t ORDER BY rowid").fetchall() == given


async def test_how_events_are_cut_into_steps_makes_no_difference(tmp_path: Path) -> None:
    """Visits are read, followed and written once a step, however many of a shopper's events it holds."""
    remembered = []
    events = [
        Outcome(VisitStarted(BEN, "b-1", at(1), BOTH)),
        *arrival(ANNA).outcomes,
        Outcome(Entered(BEN, "b-1", "dairy", at(1), Consent.OFFERS, EVIDENCE)),
        Outcome(Dwelled(BEN, "b-1", "dairy", at(61), BOTH, at(1), 60_000, EVIDENCE)),
        Outcome(Exited(BEN, "b-1", "dairy", at(70), BOTH, at(1), at(68), "moved")),
        Outcome(Entered(BEN, "b-1", "bakery", at(70), BOTH, EVIDENCE)),
        Outcome(VisitEnded(ANNA, visit_of(ANNA), at(99), BOTH, at(1), at(60), 1)),
        Outcome(VisitStarted(ANNA, "v-again", at(100), BOTH)),
        Outcome(Entered("5566778899aabbcc", "nobody-began-it", "dairy", at(101), BOTH, EVIDENCE)),
    ]
    for size in (1, 2, 3, len(events)):
        async with opened(tmp_path / f"{size}.db") as store:
            for first in range(0, len(events), size):
                await commit(store, Step(tuple(events[first : first + size])))
            remembered.append(sorted((await store.recall(at(102).wall_ms)).visits, key=lambda visit: visit.visit))
    assert [(visit.visit, visit.zone, visit.zones, visit.dwelled_ms, visit.consent) for visit in remembered[0]] == [
        ("b-1", "bakery", 2, 0, BOTH),
        ("v-again", None, 0, 0, BOTH),
    ]
    assert remembered == [remembered[0]] * 4


async def test_a_file_of_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    async with opened(path) as store:
        await commit(store, arrival())
    newer = as_they_are()
    newer(name="9999_future")(nothing)
    with contextlib.closing(open_database(path, newer).conn):
        pass
    before = path.read_bytes()
    with pytest.raises(ConfigurationError) as caught:
        async with opened(path):
            pass
    assert caught.value.exit_code == 78
    assert str(caught.value) == f"{path}: is of a newer version (9999_future). Install that version or a newer one."
    assert path.read_bytes() == before
    assert not list(path.parent.glob("*.corrupt-*"))


def test_a_new_version_backs_the_old_one_up_and_keeps_the_rows(path: Path) -> None:
    with contextlib.closing(open_database(path, GATEWAY).conn) as connection:
        connection.execute("INSERT INTO meta VALUES ('a', 'b')")
    newer = as_they_are()

    def last(db: Database) -> None:
        db.execute("CREATE TABLE addition (a TEXT)")

    newer(name="9999_last")(last)
    with contextlib.closing(open_database(path, newer).conn) as connection:
        assert connection.execute("SELECT value FROM meta WHERE key = 'a'").fetchone() == ("b",)
        assert connection.execute("SELECT count(*) FROM addition").fetchone() == (0,)
    backup = path.with_name("gateway.db.before-9999_last")
    with contextlib.closing(sqlite3.connect(backup)) as connection:
        assert connection.execute("SELECT value FROM meta WHERE key = 'a'").fetchone() == ("b",)
        assert not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'addition'").fetchall()


async def test_who_is_erased_does_not_live_on_in_the_copy_that_a_migration_made(path: Path) -> None:
    async with opened(path) as store:
        backup = path.with_name(f"{path.name}.before-9999_last")
        backup.write_bytes(path.read_bytes())
        await store.scrub()
        assert not backup.exists()
        assert path.exists()


def test_a_migration_that_fails_changes_nothing(path: Path) -> None:
    open_database(path, GATEWAY).conn.close()
    broken = as_they_are()

    def last(db: Database) -> None:
        db.execute("CREATE TABLE addition (a TEXT)")
        db.execute("no SQL")

    broken(name="9999_last")(last)
    with pytest.raises(DiskError):
        open_database(path, broken)
    with contextlib.closing(open_database(path, GATEWAY).conn) as connection:
        assert not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'addition'").fetchall()


# ---- a broken disk (a full one: test_full_disk.py) -----------------------------------------------------------------------------


async def test_a_folder_in_place_of_the_file_is_a_disk_error(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(DiskError) as caught:
        async with opened(path):
            pass
    assert caught.value.exit_code == 74
    assert path.is_dir()


async def test_a_file_in_place_of_the_folder_is_a_disk_error(path: Path) -> None:
    path.parent.write_text("a file")
    with pytest.raises(DiskError, match=r"the database cannot be used .* Check folder, owner and free space"):
        async with opened(path):
            pass


def test_a_corrupt_file_that_another_process_may_use_is_left_where_it_is(path: Path) -> None:
    open_database(path, GATEWAY).conn.close()
    zero_the_header(path, random.Random(1))
    before = path.read_bytes()
    with pytest.raises(DiskError, match="cannot be used"):
        transact(path, GATEWAY, nothing)
    assert path.read_bytes() == before
    assert not list(path.parent.glob("*.corrupt-*"))


def test_work_that_fails_in_a_shared_file_changes_nothing(path: Path) -> None:
    def work(db: Database) -> None:
        db.execute("INSERT INTO meta VALUES ('a', 'b')")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        transact(path, GATEWAY, work)
    assert transact(path, GATEWAY, lambda db: db.execute("SELECT count(*) FROM meta WHERE key = 'a'").fetchone()[0]) == 0


def test_who_reads_before_writing_in_a_shared_file_keeps_the_others_waiting(path: Path) -> None:
    """Who had read only would be refused at the first row, because another process had written between: "database is locked"."""
    others = threading.Thread(target=lambda: transact(path, GATEWAY, partial(note, value="another's")))

    def work(db: Database) -> int:
        found = noted(db)
        others.start()
        others.join(0.3)
        note(db, "ours")
        return found

    assert transact(path, GATEWAY, work) == 0
    others.join(30)
    assert transact(path, GATEWAY, noted) == 2


# ---- corruption ---------------------------------------------------------------------------------------------------------------


async def use(path: Path) -> str:
    """Everything a gateway does with the file when it starts, and one visit; returns the epoch."""
    async with opened(path) as store:
        assert len(bytes.fromhex(store.epoch)) == 8
        await store.snapshots()
        await store.recall(at(100).wall_ms)
        oldest, newest = await store.outbox_bounds()
        for row in await store.outbox_rows(oldest, newest, 1000):
            as_read(row, store, history=True)
        await store.backlog()
        await store.note_alive(at(100).wall_ms, 7)
        await commit(store, arrival(BEN))
        await store.acknowledged(newest + 2)
        assert (await store.backlog())[0] == 0
        return store.epoch


async def fill(path: Path) -> str:
    """A file as a gateway leaves it that is killed: rows in the file and in its log."""
    async with opened(path) as store:
        for number in range(200):
            await commit(store, arrival(f"{number:016x}", offer(f"o{number}", f"{number:016x}")))
        await store.keep_snapshot("catalogue", 1, b"x" * 20_000)
        with looking(path) as connection:
            connection.execute("PRAGMA wal_checkpoint")
        await commit(store, arrival(BEN))
        kept = path.parent / "killed"
        kept.mkdir()
        for part in ("", "-wal", "-shm"):
            shutil.copy(f"{path}{part}", kept / f"gateway.db{part}")
        epoch = store.epoch
    for part in ("", "-wal", "-shm"):
        Path(f"{path}{part}").unlink(missing_ok=True)
        shutil.move(kept / f"gateway.db{part}", f"{path}{part}")
    kept.rmdir()
    return epoch


def truncate(path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(1, len(data))])


def zero_the_header(path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(bytes(100) + data[100:])


def flip_bytes(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(100):
        data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    path.write_bytes(data)


def flip_bytes_of_the_log(path: Path, rng: random.Random) -> None:
    flip_bytes(Path(f"{path}-wal"), rng)


def delete_the_log(path: Path, rng: random.Random) -> None:
    Path(f"{path}-wal").unlink()


def flip_a_few(path: Path, rng: random.Random) -> None:
    """So few that SQLite's own check often notices nothing."""
    data = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    path.write_bytes(data)


def scramble(path: Path, rng: random.Random) -> None:
    path.write_bytes(rng.randbytes(20_000))


def empty(path: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


FAULTS: list[Callable[[Path, random.Random], None]] = [
    truncate, zero_the_header, flip_bytes, flip_bytes_of_the_log, delete_the_log, scramble, empty
]  # fmt: skip


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a filled database that nobody has open, and its epoch."""
    folder = tmp_path_factory.mktemp("killed") / "state"
    return folder, asyncio.run(fill(folder / "gateway.db"))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_to_its_bytes_a_gateway_starts_again(
    killed: tuple[Path, str], path: Path, fault: Callable[[Path, random.Random], None], seed: int
) -> None:
    folder, _ = killed
    shutil.copytree(folder, path.parent)
    fault(path, random.Random(seed))
    first = await use(path)
    # No loop: what was begun anew is good.
    assert await use(path) == first
    assert len(list(path.parent.glob("gateway.db.corrupt-*[0-9]"))) <= 1


async def use_in_the_end(path: Path) -> str:
    """As the service manager would: what was found corrupt in use ends the process once, and then it is put aside."""
    with contextlib.suppress(DiskError):
        return await use(path)
    assert path.with_name("gateway.db.suspect").exists()
    epoch = await use(path)
    assert not path.with_name("gateway.db.suspect").exists()
    return epoch


@pytest.mark.parametrize("seed", range(30))
async def test_damage_that_only_use_can_find_ends_one_process_at_most(killed: tuple[Path, str], path: Path, seed: int) -> None:
    folder, _ = killed
    shutil.copytree(folder, path.parent)
    flip_a_few(path, random.Random(seed))
    first = await use_in_the_end(path)
    assert await use(path) == first


async def test_a_damaged_row_is_sent_as_a_tombstone(store: Store, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await commit(store, arrival())
    row, _ = await store.outbox_rows(1, 2, 2)
    for damaged in (
        row._replace(type="viKit.started.v1"),
        row._replace(data="{"),
        row._replace(boot_id="\0"),
        row._replace(wall_ms=-1),
    ):
        event = as_read(damaged, store)
        assert isinstance(event, Tombstone)
        assert (event.seq, event.data.reason) == (row.seq, "dropped")
    assert caplog.text.count("row 1 of the outbox is damaged: a tombstone is sent for it") == 4


@pytest.mark.parametrize("fault", [zero_the_header, scramble], ids=lambda fault: fault.__name__)
async def test_a_corrupt_file_is_put_aside_with_a_new_epoch_and_the_two_newest_are_kept(
    killed: tuple[Path, str], path: Path, fault: Callable[[Path, random.Random], None], caplog: pytest.LogCaptureFixture
) -> None:
    folder, epoch = killed
    epochs = {epoch}
    for turn in range(4):
        shutil.copytree(folder, path.parent, dirs_exist_ok=True)
        fault(path, random.Random(turn))
        epochs.add(await use(path))
        newest = path.with_name(f"gateway.db.corrupt-{turn + 1}")
        assert newest.exists()
        for part in path.parent.glob("gateway.db*"):
            if ".corrupt-" not in part.name:
                part.unlink()
    assert len(epochs) == 5
    assert sorted(part.name for part in path.parent.glob("*.corrupt-*[0-9]")) == ["gateway.db.corrupt-3", "gateway.db.corrupt-4"]
    assert not list(path.parent.glob("*.corrupt-[12]-*"))
    assert caplog.text.count("database gateway.db is corrupt: put aside as gateway.db.corrupt-") == 4


async def test_a_good_file_with_its_log_loses_nothing(killed: tuple[Path, str], path: Path) -> None:
    folder, epoch = killed
    shutil.copytree(folder, path.parent)
    async with opened(path) as store:
        assert store.epoch == epoch
        assert await store.outbox_bounds() == (1, 602)
    assert not list(path.parent.glob("*.corrupt-*"))


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_five_hundred_faults_are_survived(killed: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = killed
    for seed in range(500):
        rng = random.Random(seed)
        path = tmp_path / str(seed) / "gateway.db"
        shutil.copytree(folder, path.parent)
        fault = rng.choice([*FAULTS, flip_a_few])
        fault(path, rng)
        try:
            first = await use_in_the_end(path)
            assert await use(path) == first
        except Exception as error:
            raise AssertionError(f"seed {seed}: {fault.__name__}") from error
        shutil.rmtree(path.parent)


def all_events() -> list[PresenceEvent]:
    return [
        VisitStarted(ANNA, visit_of(ANNA), at(1), BOTH),
        Entered(ANNA, visit_of(ANNA), "dairy", at(1), BOTH, EVIDENCE),
        Dwelled(ANNA, visit_of(ANNA), "dairy", at(61), BOTH, at(1), 60_000, None),
        Exited(ANNA, visit_of(ANNA), "dairy", at(90), BOTH, at(1), at(80), "weak"),
        VisitEnded(ANNA, visit_of(ANNA), at(2000), BOTH, at(1), at(80), 1),
    ]


async def test_every_event_has_its_ledger_row_with_why(store: Store, path: Path) -> None:
    withheld = (Withheld("a", WithheldReason.CAP_DAY), Withheld("b", WithheldReason.CAP_DAY))
    await commit(store, Step(tuple(Outcome(event, (), withheld, 4) for event in all_events())))
    with looking(path) as connection:
        rows = connection.execute("SELECT type, zone, catalogue_version, withheld FROM ledger ORDER BY id").fetchall()
    zones = [None, "dairy", "dairy", "dairy", None]
    kinds = ["visit.started", "zone.entered", "zone.dwelled", "zone.exited", "visit.ended"]
    assert rows == [(kind, zone, 4, '{"cap_day":2}') for kind, zone in zip(kinds, zones, strict=True)]


async def test_statistics_that_sqlite_keeps_do_not_make_a_file_corrupt(path: Path) -> None:
    async with opened(path) as store:
        await commit(store, arrival())
        epoch = store.epoch
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("ANALYZE")
    async with opened(path) as store:
        assert store.epoch == epoch
    assert list(path.parent.glob("*.corrupt-*")) == []


async def test_what_waits_too_long_goes_out_without_the_pseudonym(store: Store) -> None:
    await commit(store, arrival())
    before = await store.outbox_rows(1, 100, 100)
    await store.note_alive(at(1).wall_ms + 7 * 24 * 3600 * 1000, 7)
    assert await store.outbox_rows(1, 100, 100) == before
    await store.note_alive(at(1).wall_ms + 7 * 24 * 3600 * 1000 + 1, 7)
    after = await store.outbox_rows(1, 100, 100)
    assert [row.seq for row in after] == [row.seq for row in before]
    assert {(row.type, row.data) for row in after} == {("tombstone.v1", '{"reason":"dropped"}')}
