"""The unit file is valid, tightly boxed in, and starts in a shop whose line is down."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).resolve().parents[1] / "systemd" / "gateway.service"

needs_systemd_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def settings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


@needs_systemd_analyze
def test_systemd_finds_nothing_to_complain_about(tmp_path: Path) -> None:
    """In a copy whose program and user exist here: a test machine has neither the installed gateway nor its user."""
    text = UNIT.read_text()
    text, programs = re.subn(r"^ExecStart=/opt/\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE)
    text, users = re.subn(r"^(User|Group)=.*$", r"\1=root", text, flags=re.MULTILINE)
    assert (programs, users) == (1, 2)
    copy = tmp_path / UNIT.name
    copy.write_text(text)
    # --man=no: the README of an installed gateway is not on a test machine either.
    done = subprocess.run(["systemd-analyze", "--man=no", "verify", copy], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd_analyze
def test_exposure_is_at_most_1_5() -> None:
    # The threshold is in tenths; 0 to 10 points become 0 to 100.
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def test_a_shop_without_network_or_radio_still_starts() -> None:
    unit = settings()
    assert unit["Wants"] == ["bluetooth.service"]
    assert not unit.keys() & {"Requires", "Requisite", "BindsTo", "PartOf"}
    assert not {"network-online.target", "time-sync.target"} & set(" ".join(unit["After"]).split())


def test_restarts_for_ever_except_after_a_mistake_in_the_settings() -> None:
    unit = settings()
    assert unit["Restart"] == ["always"]
    assert unit["RestartPreventExitStatus"] == ["78"]
    assert unit["StartLimitIntervalSec"] == ["0"]


def test_systemd_watches_the_daemon() -> None:
    unit = settings()
    assert (unit["Type"], unit["NotifyAccess"], unit["WatchdogSec"]) == (["notify"], ["main"], ["30"])
