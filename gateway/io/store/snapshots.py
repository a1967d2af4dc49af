"""Reads what a gateway's database remembers of signed downlinks, without changing it: a daemon may have it open."""

import sqlite3
from pathlib import Path

from gateway.errors import DiskError


def remembered_downlinks(path: Path) -> list[tuple[str, int, bytes]]:
    """(name, version, payload as it came), by name; empty when there is no database. ``DiskError`` when it cannot be read."""
    if not path.exists():
        return []
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            rows = connection.execute("SELECT name, version, payload FROM snapshot ORDER BY name").fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise DiskError(
            f"the database cannot be read ({error}).", where=str(path), do="Run this as the gateway's user, and check the folder."
        ) from error
    return [(str(name), int(version), bytes(payload)) for name, version, payload in rows]
