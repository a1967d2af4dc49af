"""How many events a second reach the disk, each group in one transaction: WAL, synchronous=FULL, a real file."""

import asyncio
import tempfile
import time
from pathlib import Path

from bench.figures import Effort, Figure, median
from gateway.contract.outcomes import UplinkRow, uplink_rows
from gateway.core.model import AnchorLevel, ClockQuality, Consent, Entered, Evidence, Exited, Instant, Outcome, Step
from gateway.io.store import Store, outbox
from gateway.io.store.database import DatabaseThread, open_database
from gateway.io.store.schema import GATEWAY

_GROUP = 100
_AT_ONCE = 8
_NOW = Instant(1_000_000, 1_790_000_000_000)
_EVIDENCE = Evidence(0.93, "zone-2", 2.1, tuple(AnchorLevel(f"receiver-{n}", -61.5, "receiver") for n in range(3)))


def measure(effort: Effort) -> list[Figure]:
    """The outbox alone, and the whole commit of a tick."""
    groups = max(5, round(200 * effort.size))
    with tempfile.TemporaryDirectory(prefix="beacon-gateway-bench-") as folder:
        alone = [asyncio.run(_rows(Path(folder) / f"rows-{n}.db", groups, at_once=_AT_ONCE)) for n in range(effort.rounds)]
        in_turns = [asyncio.run(_rows(Path(folder) / f"turns-{n}.db", groups)) for n in range(effort.rounds)]
        whole = [asyncio.run(_commits(Path(folder) / f"commits-{n}.db", groups)) for n in range(effort.rounds)]
        single = [asyncio.run(_rows(Path(folder) / f"single-{n}.db", groups, group=1)) for n in range(effort.rounds)]
    return [
        Figure(
            "outbox_rows_per_s",
            "1/s",
            median(alone),
            100_000,
            "higher",
            means=f"wall time from the events' data to the disk (WAL, FULL): {_AT_ONCE} callers at once append {_GROUP} rows "
            "each, and those who wait share a transaction",
            beside=f"{_GROUP} a transaction {median(in_turns):,.0f}, one {median(single):,.0f}",
        ),
        Figure(
            "commit_events_per_s",
            "1/s",
            median(whole),
            None,
            "higher",
            means=f"wall time; Store.commit of steps with {_GROUP} events: ledger, open visit and outbox in one transaction",
        ),
    ]


def _outcomes(number: int) -> list[Outcome]:
    """A shopper leaves one zone and enters the next."""
    shopper, visit = f"{number:016x}", f"{number:016x}"
    both = Consent.OFFERS | Consent.ANALYTICS
    left = Exited(shopper, visit, "zone-1", _NOW, both, _NOW.plus(-60_000), _NOW.plus(-1000), "moved")
    return [Outcome(left), Outcome(Entered(shopper, visit, "zone-2", _NOW, both, _EVIDENCE), catalogue_version=1)]


async def _rows(path: Path, groups: int, group: int = _GROUP, at_once: int = 1) -> float:
    events: list[UplinkRow] = [row for n in range(group) for outcome in _outcomes(n) for row in uplink_rows(outcome)][:group]
    thread = DatabaseThread(path, lambda: open_database(path, GATEWAY, quota_mib=512))
    await thread.start()
    remaining = iter(range(groups))

    async def append() -> None:
        for _ in remaining:
            rows = outbox.to_rows(events, boot_id="boot", quality=ClockQuality.SYNCHRONISED)
            await thread.run(lambda db, rows=rows: outbox.append(db, rows))

    began = time.perf_counter()
    await asyncio.gather(*(append() for _ in range(at_once)))
    took = time.perf_counter() - began
    await thread.close()
    return groups * group / took


async def _commits(path: Path, groups: int) -> float:
    step = Step(tuple(outcome for n in range(_GROUP // 2) for outcome in _outcomes(n)))
    store = Store(path, quota_mib=512, boot_id="boot")
    await store.start()
    began = time.perf_counter()
    for _ in range(groups):
        await store.commit(step, quality=ClockQuality.SYNCHRONISED, wall_ms=_NOW.wall_ms)
    took = time.perf_counter() - began
    await store.close()
    return groups * _GROUP / took
