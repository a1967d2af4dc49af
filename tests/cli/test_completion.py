"""Shell completion: commands, options, and the names of the shop; never a message, never an error."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.forked import Forked

PROGRAM = Path(sys.executable).with_name("gateway")
UUID = "8b1f4a0e-5d9c-4c7b-a1e3-0d5f6a7b8c9d"
SHOP = {
    "zones": {"dairy": {}, "deli": {}, "wine": {}},
    "anchors": {
        "door": {"kind": "receiver", "zone": "wine"},
        "shelf-7": {"kind": "beacon", "zone": "dairy", "uuid": UUID, "major": 1, "minor": 7},
    },
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "shop.json").write_text(json.dumps(SHOP))
    file = tmp_path / "gateway.toml"
    file.write_text(
        f'store = "demo"\nstore_number = 1\ngateway = "pi-1"\nstate_dir = "{tmp_path}"\n'
        '[[receivers]]\nname = "door"\n[[receivers]]\nname = "back"\n'
        '[[foreign_receivers]]\nname = "ceiling"\nkind = "espresense"\nreceivers = { room = "attic" }\n'
    )
    return file


def completed(gateway: Forked, line: str) -> list[str]:
    """What bash is offered for the last word of ``line``, which may be empty."""
    done = gateway.run(_GATEWAY_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(line.split(" ")) - 1))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("gateway zo", ["zone"]),
        ("gateway zone ", ["add", "list", "show", "remove", "learn", "evaluate", "walk", "check", "verify", "model"]),
        ("gateway shop e", ["export"]),
        ("gateway zone add x --t", ["--title", "--tag"]),
        ("gateway offer lint --js", ["--json"]),
    ],
)
def test_commands_and_options_are_completed(gateway: Forked, line: str, offered: list[str]) -> None:
    assert completed(gateway, line) == offered


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("zone show {} d", ["dairy", "deli"]),
        ("zone remove {} ", ["dairy", "deli", "wine"]),
        ("zone add {} x --neighbour w", ["wine"]),
        ("beacon add {} x --zone de", ["deli"]),
        ("beacon remove {} ", ["shelf-7"]),
        ("receiver remove {} ", ["door"]),
        ("receiver add {} ", ["attic", "back"]),
        ("receiver test {} ", ["attic", "back", "door"]),
        ("receiver add {} back --covers dai", ["dairy"]),
        ("zone show {} x", []),
        ("offer show {} ", []),
    ],
)
def test_names_of_the_shop_are_completed(gateway: Forked, config: Path, line: str, offered: list[str]) -> None:
    assert completed(gateway, "gateway " + line.format(f"--config {config}")) == offered


@pytest.mark.parametrize("file", ["no.toml", "/dev/zero", ".", "not-toml", "no-shop.toml", "wrong-shop.toml", "dir-shop.toml"])
def test_nothing_is_completed_where_nothing_can_be_read(gateway: Forked, config: Path, tmp_path: Path, file: str) -> None:
    (tmp_path / "not-toml").write_bytes(b"\xff\x00]")
    for name, shop in (("no-shop", "no.json"), ("wrong-shop", "not-toml"), ("dir-shop", "")):
        text = f'shop_file = "{tmp_path}/{shop}"\n' + config.read_text()
        (tmp_path / f"{name}.toml").write_text(text)
    assert completed(gateway, f"gateway zone show --config {tmp_path / file} ") == []


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not there")
def test_bash_itself_completes(config: Path) -> None:
    script = (
        f"source <({PROGRAM} --show-completion)\n"
        f"COMP_WORDS=(gateway zone show --config {config} d); COMP_CWORD=5\n"
        '_gateway_completion gateway; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PATH": path},
        check=False,
    )
    assert (done.stdout.split(), done.stderr) == (["dairy", "deli"], "")
