"""Looks into a gateway's database without changing it: a daemon may have it open."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from gateway.errors import DiskError
from gateway.io.store import gaps, outbox
from gateway.io.store.gaps import Gap
from gateway.io.store.sqlite import Database

T = TypeVar("T")


def look(path: Path, work: Callable[[Database], T], absent: T) -> T:
    """What ``work`` finds, all of one moment; ``absent`` where there is no file. ``DiskError`` when it cannot be read."""
    try:
        if not path.exists():
            return absent
        with _open(path) as database:
            database.execute("BEGIN")
            return work(database)
    except (sqlite3.Error, OSError) as error:
        raise DiskError(
            f"the database cannot be read ({error}).", where=str(path), do="Run this as the gateway's user, and check the folder."
        ) from error


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Database]:
    with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)) as connection:
        yield Database(connection)


def remembered_downlinks(path: Path) -> list[tuple[str, int, bytes]]:
    """(name, version, payload as it came), by name; empty when there is no database."""

    def work(db: Database) -> list[tuple[str, int, bytes]]:
        rows = db.execute("SELECT name, version, payload FROM snapshot ORDER BY name").fetchall()
        return [(str(name), int(version), bytes(payload)) for name, version, payload in rows]

    return look(path, work, [])


def waiting_events(path: Path) -> tuple[int, int | None]:
    """(rows in the outbox, wall milliseconds of the oldest)."""
    nothing: tuple[int, int | None] = (0, None)
    return look(path, outbox.backlog, nothing)


def newest_gap(path: Path) -> Gap | None:
    """The last time that events could not be kept."""
    return look(path, gaps.newest, None)
