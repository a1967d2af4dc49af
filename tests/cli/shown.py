"""A demonstration that has ended, for commands that look at what was."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = Path(sys.executable).with_name("gateway")
GATEWAY = 'store = "demo"\nstore_number = 4711\ngateway = "pi-1"\nstate_dir = "{state_dir}"\n'
CENTRAL = 'state_dir = "{state_dir}"\n[stores.demo]\nstore_number = 4711\n'
Json = dict[str, Any]


@dataclass(frozen=True)
class Shown:
    """A demonstration that has ended: what it said and what it left."""

    folder: Path
    lines: list[Json]
    summary: Json

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("--config", str(self.folder / "gateway.toml"), "--central-config", str(self.folder / "central.toml"))

    def pseudonyms(self) -> set[str]:
        with closing(sqlite3.connect(self.folder / "gateway" / "gateway.db")) as database:
            return {name for (name,) in database.execute("SELECT DISTINCT shopper FROM ledger")}

    def inboxes(self) -> set[str]:
        with closing(sqlite3.connect(self.folder / "central" / "central.db")) as database:
            return {name for (name,) in database.execute("SELECT inbox FROM shopper")}


def demonstrated(folder: Path) -> Shown:
    """Two minutes in the simulated shop: the whole line with a real broker and real databases."""
    command = [str(PROGRAM), "demo", "--duration", "120", "--speed", "100", "--json", "--keep", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    (folder / "central.toml").write_text(CENTRAL.format(state_dir=folder / "central"))
    return Shown(folder, lines[:-1], lines[-1])
