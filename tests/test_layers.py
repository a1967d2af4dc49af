"""The import contracts of pyproject.toml hold, and each of them catches the sabotage it is there for."""

import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FORBIDDEN_NAMES = {"utils", "helpers", "common", "base", "manager"}


@dataclass(frozen=True)
class Sabotage:
    contract: str
    module: str
    line: str


SABOTAGES = {
    "io calls the daemon": Sabotage("layers", "io/clock", "from gateway import daemon"),
    "the contract reaches into io": Sabotage("layers", "contract/messages", "import gateway.io.clock"),
    "core knows the wire": Sabotage("layers", "core/model", "from gateway.contract import messages"),
    "the simulator uses the real radio": Sabotage("layers", "simulator/radio", "import gateway.io.scanner"),
    "the daemon uses the command line": Sabotage("layers", "daemon", "import gateway.cli"),
    "errors is no leaf": Sabotage("layers", "errors", "from gateway.core import model"),
    "a new top-level module has no layer": Sabotage("layers", "misc", "from gateway.core import model"),
    "the daemon calls central": Sabotage("daemon-central", "daemon", "import gateway.central"),
    "central calls the daemon": Sabotage("daemon-central", "central", "import gateway.daemon"),
    "one io file uses another": Sabotage("io", "io/broker", "from gateway.io import store"),
    "what replaces files uses another io file": Sabotage("io", "io/whole_file", "import gateway.io.clock"),
    "the store uses another io file": Sabotage("io", "io/store", "import gateway.io.clock"),
    "core waits": Sabotage("pure-core", "core/model", "import asyncio"),
    "core rolls dice": Sabotage("pure-core", "core/backoff", "import random"),
    "core opens files": Sabotage("pure-core", "core/ad_structures", "from pathlib import Path"),
    "core logs": Sabotage("pure-core", "core/identity", "import logging"),
    "core validates with pydantic": Sabotage("pure-core", "core/model", "from pydantic import BaseModel"),
    "core knows time zones": Sabotage("pure-core", "core/model", "from zoneinfo import ZoneInfo"),
    "numpy outside positioning": Sabotage("pure-core", "core/model", "import numpy"),
    "one receiver's format uses another": Sabotage(
        "receivers", "core/receivers/raddec", "from gateway.core.receivers import espresense"
    ),
    "one frame format uses another": Sabotage("frames", "core/frames/ibeacon", "from gateway.core.frames import shopper"),
    "one container of captures uses another": Sabotage(
        "captures", "core/captures/pcap", "from gateway.core.captures import pcapng"
    ),
    "core reads a clock": Sabotage("clock", "core/model", "from time import monotonic"),
    "the daemon reads a clock": Sabotage("clock", "daemon", "import time"),
    "an io file reads a clock": Sabotage("clock", "io/broker", "def late():\n    import time"),
}


def contracts() -> dict[str, str]:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {contract["id"]: contract["name"] for contract in config["tool"]["importlinter"]["contracts"]}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "gateway", tmp_path / "gateway", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint_imports(folder: Path) -> tuple[int, str]:
    """Exit code and words, the latter without the line breaks that depend on the terminal's width."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_the_code_as_it_is_keeps_every_contract(copy: Path) -> None:
    status, said = lint_imports(copy)
    assert status == 0, said
    assert f"Contracts: {len(contracts())} kept, 0 broken." in said


@pytest.mark.parametrize("sabotage", SABOTAGES.values(), ids=SABOTAGES)
def test_sabotage_is_caught_by_the_contract_meant_for_it(copy: Path, sabotage: Sabotage) -> None:
    place = copy / "gateway" / sabotage.module
    with (place / "__init__.py" if place.is_dir() else place.with_suffix(".py")).open("a") as file:
        file.write(f"\n{sabotage.line}\n")
    status, said = lint_imports(copy)
    assert status == 1, said
    assert f"{contracts()[sabotage.contract]} BROKEN" in said


def test_every_contract_has_a_sabotage() -> None:
    assert {sabotage.contract for sabotage in SABOTAGES.values()} == contracts().keys()


def test_no_module_has_a_name_that_says_nothing() -> None:
    nameless = [path for path in (ROOT / "gateway").rglob("*") if FORBIDDEN_NAMES & {path.stem, *path.stem.split("_")}]
    assert not nameless, "a module is named for what it does, not for being shared"
