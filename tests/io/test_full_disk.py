"""The gateway's database where there is no room: a file system that is really full, a quota, a disk that takes nothing."""

import asyncio
import contextlib
import json
import random
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.contract.fields import from_rfc3339
from gateway.core.model import (
    BatteryHealth,
    BeaconChange,
    BeaconHealth,
    BeaconState,
    ClockQuality,
    Consent,
    Entered,
    Evidence,
    HealthChange,
    Instant,
    OfferMatched,
    Outcome,
    ReceiverChange,
    Step,
    Verdict,
    VisitStarted,
)
from gateway.errors import DiskError
from gateway.io.store import BALLAST_BYTES, OutboxRow, Store, sentence
from gateway.io.store.gaps import Gap
from gateway.io.store.looking import newest_gap
from tests.fakes.small_disk import SmallDisk, small_disk

ANNA, BEN = "8a4061daf88a329d", "1122334455667788"
START = Instant(1_000, 1_790_000_000_000)
SYNCHRONISED = ClockQuality.SYNCHRONISED
BOTH = Consent.OFFERS | Consent.ANALYTICS
EVERY_ROW = 2**62


def at(seconds: float) -> Instant:
    return START.plus(round(seconds * 1000))


def step(size: int, seconds: float, shopper: str = ANNA) -> Step:
    """So many events."""
    return Step(tuple(Outcome(VisitStarted(shopper, f"v-{shopper}", at(seconds), BOTH)) for _ in range(size)))


@contextlib.asynccontextmanager
async def opened(path: Path, quota_mib: int = 64, ballast_bytes: int = BALLAST_BYTES) -> AsyncIterator[Store]:
    store = Store(path, quota_mib=quota_mib, boot_id="boot-1", ballast_bytes=ballast_bytes)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 24) as mounted:
        yield mounted


async def commit(store: Store, what: Step, seconds: float = 1) -> bool:
    return await store.commit(what, quality=SYNCHRONISED, wall_ms=at(seconds).wall_ms)


async def commit_until_refused(store: Store, size: int = 50, seconds: float = 1) -> int:
    """How many events found room."""
    kept = 0
    while await commit(store, step(size, seconds), seconds):
        kept += size
        assert kept < 200_000
    return kept


async def catch_up(store: Store, seconds: float) -> bool:
    return await store.catch_up(at(seconds), SYNCHRONISED)


async def rows(store: Store) -> list[OutboxRow]:
    return await store.outbox_rows(1, EVERY_ROW, 1_000_000)


def tombstones(found: list[OutboxRow]) -> list[int]:
    """Their times."""
    assert all(json.loads(row.data) == {"reason": "dropped"} for row in found if row.type == "tombstone.v1")
    return [row.wall_ms for row in found if row.type == "tombstone.v1"]


async def test_on_a_full_disk_nothing_that_was_kept_is_lost_and_the_gap_is_told_when_there_is_room(disk: SmallDisk) -> None:
    path = disk.folder / "gateway.db"
    async with opened(path) as store:
        assert await commit(store, step(10, 1))
        disk.fill()
        kept = 10 + await commit_until_refused(store, seconds=2)
        assert not await commit(store, step(7, 9), 9)
        assert (len(await rows(store)), store.shortage.gap) == (kept, Gap(at(2).wall_ms, at(9).wall_ms, 57, "full"))
        assert store.shortage.trouble is not None
        assert "disk is full" in str(store.shortage.trouble)
        # Still full: the gap is on disk all the same, and central's acknowledgements are, too.
        assert not await catch_up(store, 10)
        assert newest_gap(path) == Gap(at(2).wall_ms, at(9).wall_ms, 57, "full", 1)
        assert await store.acknowledged(4) == 4
        await store.note_alive(at(11).wall_ms, 7)
        assert not await commit(store, step(1, 12), 12)
        disk.make_room()
        assert await catch_up(store, 13)
        assert store.shortage.is_over
        assert store.last_gap == newest_gap(path) == Gap(at(2).wall_ms, at(12).wall_ms, 58, "full", 1, is_over=True)
        assert await commit(store, step(3, 14), 14)
        assert not await catch_up(store, 15), "once"
        found = await rows(store)
    assert [row.seq for row in found] == list(range(5, kept + 58 + 3 + 1)), "each number once"
    assert tombstones(found) == [at(2).wall_ms] + [at(12).wall_ms] * 57
    assert Counter(row.type for row in found) == {"visit.started.v1": kept - 4 + 3, "tombstone.v1": 58}


async def test_the_ballast_is_given_up_for_what_is_urgent_and_taken_again(disk: SmallDisk) -> None:
    path = disk.folder / "gateway.db"
    ballast = disk.folder / "gateway.db.ballast"
    async with opened(path) as store:
        assert ballast.stat().st_blocks * 512 == BALLAST_BYTES
        assert ballast.stat().st_mode & 0o777 == 0o600
        await commit(store, Step((Outcome(VisitStarted(BEN, "v-b", at(1), BOTH)),)))
        assert await commit(store, step(12_000, 1))
        disk.fill()
        kept = 12_001 + await commit_until_refused(store)
        assert not ballast.exists()
        # What comes now may not use it up: whoever leaves is erased, from the log as well.
        for seconds in range(2, 40):
            assert not await commit(store, step(100, seconds), seconds)
        assert await commit(store, Step(forgotten=(BEN,)))
        await store.scrub()
        assert not any(BEN.encode() in part.read_bytes() for part in disk.folder.glob("gateway.db*"))
        assert await store.acknowledged(kept) == kept
        # The database has room in itself now, though the disk has none.
        assert await catch_up(store, 50)
        assert await commit(store, step(5, 51), 51)
        assert not ballast.exists()
        disk.make_room()
        await catch_up(store, 52)
        assert ballast.stat().st_blocks * 512 == BALLAST_BYTES


async def test_it_starts_on_a_disk_that_is_full_and_goes_on_with_the_gap_of_the_last_process(disk: SmallDisk) -> None:
    path = disk.folder / "gateway.db"
    async with opened(path) as store:
        await commit(store, step(3, 1))
    disk.fill()
    async with opened(path) as store:
        kept = 3 + await commit_until_refused(store, seconds=2)
        await catch_up(store, 3)
    async with opened(path) as store:
        assert store.shortage.gap == Gap(at(2).wall_ms, at(2).wall_ms, 50, "full", 1)
        assert not await catch_up(store, 4)
        assert not await commit(store, step(4, 5), 5)
        disk.make_room()
        assert await catch_up(store, 6)
        found = await rows(store)
    assert [row.seq for row in found] == list(range(1, kept + 54 + 1))
    assert tombstones(found) == [at(2).wall_ms] + [at(5).wall_ms] * 53
    async with opened(path) as store:
        assert store.shortage.is_over
        assert store.last_gap == Gap(at(2).wall_ms, at(5).wall_ms, 54, "full", 1, is_over=True)


async def test_a_disk_too_small_for_the_ballast_is_used_without(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 12) as disk:
        async with opened(disk.folder / "gateway.db") as store:
            assert not (disk.folder / "gateway.db.ballast").exists()
            assert await commit(store, step(10, 1))
            disk.fill()
            await commit_until_refused(store)
            disk.make_room()
            assert await catch_up(store, 2)
            assert await commit(store, step(10, 3))


async def test_what_can_wait_waits_for_room(disk: SmallDisk) -> None:
    path = disk.folder / "gateway.db"
    offer = OfferMatched("o1", ANNA, "v", "dairy", "yoghurt", "offer", at(1), at(31), True, "", 600_000, 4)
    entered = Entered(ANNA, "v", "dairy", at(1), BOTH, Evidence(0.9, None, 1.0, ()))
    # Without ballast nothing at all can be written.
    async with opened(path, ballast_bytes=0) as store:
        await commit(store, Step((Outcome(VisitStarted(ANNA, "v", at(1), BOTH)), Outcome(entered, (offer,)))))
        await store.keep_snapshot("catalogue", 1, b"one")
        disk.fill()
        kept = 3 + await commit_until_refused(store)
        while await commit(store, step(1, 1)):
            kept += 1
        first = store.shortage.gap
        assert first is not None
        await store.decide([(Verdict("o1", "granted"), at(2).wall_ms)])
        await store.keep_snapshot("catalogue", 2, b"two" * 5000)
        await store.keep_snapshot("roster/0", 1, b"roster" * 5000)
        await store.drop_snapshots(["roster/0"])
        changes: list[tuple[BeaconState, BeaconState]] = [("silent", "ok"), ("ok", "silent"), ("weak", "ok")]
        for state, before in changes:
            assert not await commit(store, Step(beacons=(told_of_beacon(state, before),)))
        deaf = ReceiverChange("pi", "deaf", "silent.", at(3), before="hearing")
        assert not await commit(store, Step(receivers=(deaf,)), 3)
        assert not await commit(store, Step(receivers=(replace(deaf, state="hearing", before="deaf"),)), 3)
        assert not await catch_up(store, 4)
        disk.make_room()
        assert await catch_up(store, 5)
        assert await store.snapshots() == [("catalogue", b"two" * 5000)]
        assert [(past.offer, past.state) for past in (await store.recall(at(6).wall_ms)).offers] == [("o1", "granted")]
        found = await rows(store)
        told = [(row.type, json.loads(row.data)) for row in found if row.type.endswith(".health.v1")]
        assert [(kind, data["before"], data["state"]) for kind, data in told] == [("beacon.health.v1", "ok", "weak")]
        # Silent and ok of the beacon, deaf and hearing of the receiver: nobody will be told.
        assert len(tombstones(found)) == first.events + 4
        assert [row.seq for row in found] == list(range(1, kept + first.events + 4 + 1 + 1))
        _, healths = await store.recall_health()
        assert [(one.subject, one.name, one.state) for one in healths] == [("beacon", "b-1", "weak")]


def told_of_beacon(state: BeaconState, before: BeaconState) -> BeaconChange:
    health = BeaconHealth("b-1", "dairy", state, 0, None, (), BatteryHealth("ok", 2900, None, 6.5, None), 0, None)
    return BeaconChange(HealthChange("beacon", "b-1", state, before, at(2), 500), health)


async def test_a_quota_refuses_the_new_keeps_the_old_and_acknowledgements_make_room(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    async with opened(path, quota_mib=1) as store:
        kept = await commit_until_refused(store, size=100)
        assert kept > 500
        assert store.shortage.gap == Gap(at(1).wall_ms, at(1).wall_ms, 100, "quota")
        # Nothing unacknowledged was overwritten, nothing half written.
        assert await store.backlog() == (kept, at(1).wall_ms)
        assert not await catch_up(store, 2)
        assert newest_gap(path) == Gap(at(1).wall_ms, at(1).wall_ms, 100, "quota", 1)
        assert (tmp_path / "gateway.db.ballast").exists(), "it would not help"
        # Whoever waits together with what does not fit is served all the same.
        has_room, acknowledged = await asyncio.gather(commit(store, step(6000, 3), 3), store.acknowledged(kept - 1))
        assert (has_room, acknowledged) == (False, kept - 1)
        assert await store.acknowledged(kept) == 1
        assert await catch_up(store, 6)
        # All of them would take what the new ones need.
        assert tombstones(await rows(store)) == [at(1).wall_ms] + [at(3).wall_ms] * 818
        assert newest_gap(path) == Gap(at(1).wall_ms, at(3).wall_ms, 6100, "quota", 1, is_over=True)
        assert await commit(store, step(100, 7), 7)
        assert [row.seq for row in await rows(store)] == list(range(kept + 1, kept + 920))


async def test_of_a_very_large_gap_central_gets_so_many_tombstones_and_the_gateway_remembers_all(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    async with opened(path) as store:
        await commit(store, step(1, 1))
        store.shortage.gap = Gap(at(1).wall_ms, at(2).wall_ms, 10_005, "full")
        assert await catch_up(store, 3)
        assert len(tombstones(await rows(store))) == 10_000
    assert newest_gap(path) == Gap(at(1).wall_ms, at(2).wall_ms, 10_005, "full", 1, is_over=True)


@pytest.mark.parametrize("seed", range(4))
async def test_in_any_order_of_full_and_free_each_event_is_kept_or_counted_once(disk: SmallDisk, seed: int) -> None:
    dice = random.Random(seed)
    path, is_full = disk.folder / "gateway.db", False
    given, kept, seconds = 0, 0, 1
    ballast_bytes = dice.choice((0, BALLAST_BYTES))
    store = Store(path, quota_mib=64, boot_id="boot-1", ballast_bytes=ballast_bytes)
    await store.start()
    for _ in range(150):
        seconds += 1
        match dice.choice(("commit", "commit", "commit", "switch", "catch up", "restart")):
            case "commit":
                size = dice.choice((1, 20, 300))
                given += size
                kept += size * await commit(store, step(size, seconds), seconds)
            case "switch":
                disk.make_room() if is_full else disk.fill()
                is_full = not is_full
            case "catch up":
                await catch_up(store, seconds)
            case "restart" if not is_full:
                # What was lost is on disk by then, as a rule: a process that dies in between cannot tell.
                await catch_up(store, seconds)
                await store.close()
                store = Store(path, quota_mib=64, boot_id="boot-1", ballast_bytes=ballast_bytes)
                await store.start()
    if is_full:
        disk.make_room()
    await catch_up(store, seconds)
    found = await rows(store)
    await store.close()
    assert [row.seq for row in found] == list(range(1, len(found) + 1))
    assert (len(found), len(found) - len(tombstones(found))) == (given, kept)
    assert kept < given


_LIMITED = """
import asyncio, resource, sys
from pathlib import Path
from tests.io.test_full_disk import at, catch_up, commit, opened, rows, step, tombstones

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

async def main(path):
    async with opened(path) as store:
        assert await commit(store, step(5, 1))
        limit(4096)
        assert not await commit(store, step(6, 2), 2)
        assert not await catch_up(store, 3)
        assert store.shortage.trouble.cause == "failed", store.shortage.trouble
        limit(resource.RLIM_INFINITY)
        assert await catch_up(store, 4)
        assert await commit(store, step(2, 5), 5)
        found = await rows(store)
        assert [row.seq for row in found] == list(range(1, 14)), found
        assert tombstones(found) == [at(2).wall_ms] * 6, found
        print(store.last_gap.events)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_disk_that_takes_nothing_for_a_while_is_tried_again(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(tmp_path / "gateway.db")], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.stdout, ran.returncode) == ("6\n", 0), ran.stderr
    assert "the disk cannot be written." in ran.stderr


async def test_what_is_no_lack_of_room_still_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    async with opened(path) as store:
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("DROP TABLE visit")
        with pytest.raises(DiskError):
            await commit(store, step(1, 1))
        assert store.shortage.is_over


@pytest.mark.parametrize(
    ("gap", "said"),
    [
        (Gap(0, 0, 1, "full"), "1 event at 1970-01-01T00:00:00Z could not be kept, because the disk was full."),
        (
            Gap(from_rfc3339("2026-09-21T14:20:37Z"), from_rfc3339("2026-09-21T14:21:00Z"), 37, "quota"),
            (
                "37 events from 2026-09-21T14:20:37Z to 2026-09-21T14:21:00Z could not be kept, "
                "because the database was as large as storage.quota_mib allows."
            ),
        ),
        (Gap(0, 400, 2, "failed"), "2 events at 1970-01-01T00:00:00Z could not be kept, because the disk could not be written."),
    ],
)
def test_a_gap_is_one_sentence(gap: Gap, said: str) -> None:
    assert sentence(gap) == said


def test_a_database_of_a_version_that_knew_no_gaps_had_none(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "gateway.db")) as older:
        older.execute("CREATE TABLE outbox (seq INTEGER PRIMARY KEY)")
    assert newest_gap(tmp_path / "gateway.db") is None
    assert newest_gap(tmp_path / "absent.db") is None
