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
