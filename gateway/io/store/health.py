"""How beacons and receivers fare, as far as a restart must not lose it: what is usual of them, and what was told."""

from collections.abc import Iterable

from gateway.core.model import BatteryPoint, BeaconChange, CanaryMemory, HealthTold, LinkBaseline, ReceiverChange
from gateway.io.store.sqlite import Database


def keep(db: Database, memory: CanaryMemory, *, batteries: bool) -> None:
    """In place of what was kept before; without ``batteries`` what was kept of them stays."""
    db.execute("DELETE FROM canary_baseline")
    db.conn.executemany(
        "INSERT INTO canary_baseline VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (one.beacon, one.receiver, one.baseline_dbm, one.reference_dbm, one.spread_db, one.rate_hz, one.jumps)
            for one in memory.baselines
        ],
    )
    if not batteries:
        return
    db.execute("DELETE FROM beacon_battery")
    db.conn.executemany(
        "INSERT OR REPLACE INTO beacon_battery VALUES (?, ?, ?)",
        [(point.beacon, point.wall_ms, point.millivolts) for point in memory.batteries],
    )


def recall(db: Database) -> tuple[CanaryMemory, tuple[HealthTold, ...]]:
    """What was kept, and what was told."""
    baselines = db.execute("SELECT * FROM canary_baseline ORDER BY beacon, receiver").fetchall()
    batteries = db.execute("SELECT * FROM beacon_battery ORDER BY beacon, wall_ms").fetchall()
    told = db.execute("SELECT subject, name, state FROM health_told ORDER BY subject, name").fetchall()
    memory = CanaryMemory(tuple(LinkBaseline(*row) for row in baselines), tuple(BatteryPoint(*row) for row in batteries))
    return memory, tuple(HealthTold(*row) for row in told)


def tell(db: Database, beacons: Iterable[BeaconChange], receivers: Iterable[ReceiverChange]) -> None:
    """Note what is told; part of the transaction that numbers the events."""
    told = [(one.change.subject, one.change.name, one.change.state) for one in beacons]
    told += [("receiver", change.receiver, change.state) for change in receivers]
    db.conn.executemany("INSERT OR REPLACE INTO health_told VALUES (?, ?, ?)", told)
