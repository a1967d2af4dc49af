"""The daemon's own decisions, with a real database and no broker in reach."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.contract.settings import Broker, Privacy, Settings
from gateway.core.model import ClockQuality, Instant, Shop
from gateway.daemon import Daemon
from gateway.io.clock import SystemClock
from gateway.io.store import Store
from tests.daemon.test_beacons import Gateway

LAST_YEAR_MS = 1_758_000_000_000
YEARS_AHEAD_MS = 2_200_000_000_000


class WrongClock(SystemClock):
    """Years ahead, as a Pi without a battery clock can be; whether it knows so is the question."""

    def __init__(self, quality: ClockQuality) -> None:
        super().__init__()
        self._told = quality

    def now(self) -> Instant:
        return Instant(super().now().mono_ms, YEARS_AHEAD_MS)

    def quality(self) -> ClockQuality:
        return self._told


@pytest.mark.parametrize(
    ("quality", "kept"), [(ClockQuality.UNSYNCHRONISED, True), (ClockQuality.HOLDOVER, False), (ClockQuality.SYNCHRONISED, False)]
)
async def test_a_clock_that_is_not_synchronised_makes_nothing_old_enough_to_delete(
    tmp_path: Path, quality: ClockQuality, kept: bool
) -> None:
    path = tmp_path / "gateway.db"
    store = Store(path, quota_mib=16, boot_id="boot")
    await store.start()
    await store.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO ledger (wall_ms, type, shopper, visit, withheld, evidence)"
            " VALUES (?, 'zone.entered', '8a4061daf88a329d', 'v', '{}', '{}')",
            [LAST_YEAR_MS],
        )
    settings = Settings(
        store="demo",
        store_number=1,
        gateway="pi-1",
        state_dir=tmp_path,
        broker=Broker(host="127.0.0.1", port=1),
        privacy=Privacy(controller="c", contact="c", dpia_ack=True),
    )
    stop = asyncio.Event()
    daemon = Daemon(settings, Shop({}, {}), WrongClock(quality))
    running = asyncio.create_task(daemon.run([], stop))
    await asyncio.wait_for(daemon.at_rest.wait(), 10)
    await asyncio.sleep(0.3)
    stop.set()
    await running
    with closing(sqlite3.connect(path)) as connection:
        assert (connection.execute("SELECT count(*) FROM ledger").fetchone()[0] == 1) is kept


async def test_what_was_deleted_is_gone_from_the_log_within_the_hour(tmp_path: Path) -> None:
    """SQLite overwrites its log from the front, and what stood behind would stay for as long as the log does not grow again."""
    left = b"8a4061daf88a329d"
    gateway = Gateway(tmp_path)
    async with gateway() as running:
        with closing(sqlite3.connect(running.settings.database_path, isolation_level=None)) as connection:
            connection.execute("PRAGMA secure_delete = 1")
            connection.execute("INSERT INTO meta VALUES ('left', ?)", [left.decode()])
            connection.execute("DELETE FROM meta WHERE key = 'left'")
            files = [path for path in tmp_path.iterdir() if path.name.startswith("gateway.db")]
            assert any(left in path.read_bytes() for path in files)
        await running.time_passes(3_700)
        assert not any(left in path.read_bytes() for path in files)
