"""The unit files are valid, tightly boxed in, and start in a shop whose line is down and whose radio is missing."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.cli.options import RADIO_SOCKET
from gateway.contract.settings import Radio
from gateway.io.learning import MOST_MIB

FOLDER = Path(__file__).resolve().parents[1] / "systemd"
UNIT, HELPER = FOLDER / "gateway.service", FOLDER / "gateway-radio.service"

needs_systemd_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def settings(unit: Path = UNIT) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


@needs_systemd_analyze
@pytest.mark.parametrize("unit", [UNIT, HELPER], ids=lambda unit: unit.stem)
def test_systemd_finds_nothing_to_complain_about(tmp_path: Path, unit: Path) -> None:
    """In a copy whose program and user exist here: a test machine has neither the installed gateway nor its user."""
    text = unit.read_text()
    text, programs = re.subn(r"^ExecStart=/opt/\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE)
    text, users = re.subn(r"^(User|Group)=.*$", r"\1=root", text, flags=re.MULTILINE)
    assert (programs, users) == (1, 2)
    copy = tmp_path / unit.name
    copy.write_text(text)
    # --man=no: the README of an installed gateway is not on a test machine either.
    done = subprocess.run(["systemd-analyze", "--man=no", "verify", copy], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd_analyze
@pytest.mark.parametrize(("unit", "tenths"), [(UNIT, 15), (HELPER, 20)], ids=["gateway 1.5", "gateway-radio 2.0"])
def test_exposure_stays_below_its_limit(unit: Path, tenths: int) -> None:
    # 0 to 10 points become 0 to 100.
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={tenths}", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def test_a_shop_without_network_or_radio_still_starts() -> None:
    unit = settings()
    assert unit["Wants"] == ["bluetooth.service gateway-radio.service"]
    assert not unit.keys() & {"Requires", "Requisite", "BindsTo", "PartOf"}
    assert not {"network-online.target", "time-sync.target"} & set(" ".join(unit["After"]).split())


def test_the_helper_has_one_capability_no_network_and_nothing_of_the_daemon_s() -> None:
    unit = settings(HELPER)
    assert unit["CapabilityBoundingSet"] == unit["AmbientCapabilities"] == ["CAP_NET_ADMIN"]
    assert unit["RestrictAddressFamilies"] == ["AF_UNIX AF_BLUETOOTH"]
    assert unit["IPAddressDeny"] == ["any"]
    assert unit["User"] == unit["Group"] == ["gateway-radio"]
    assert not unit.keys() & {"SupplementaryGroups", "StateDirectory", "LoadCredential", "EnvironmentFile"}
    assert not unit.keys() & {"Requires", "Requisite", "BindsTo", "PartOf"}


def test_the_helper_listens_where_the_command_and_the_gateway_look_for_it() -> None:
    socket = settings(HELPER)["ExecStart"][0].rpartition("--socket ")[2]
    assert Path(socket.replace("%t", "/run")) == RADIO_SOCKET == Radio().helper_socket


def test_the_helper_may_open_the_device_files_that_the_udev_rules_give_it_and_no_others() -> None:
    unit = settings(HELPER)
    assert (unit["DevicePolicy"], unit["DeviceAllow"]) == (["closed"], ["char-usb_device rw"])
    rules = [line for line in (FOLDER / "70-beacon-gateway-radio.rules").read_text().splitlines() if not line.startswith("#")]
    assert rules
    for rule in rules:
        parts = [re.fullmatch(r'(\w+(?:\{\w+\})?)(==|!=|=)"([^"]*)"', part) for part in rule.split(", ")]
        assert all(parts), rule
        given = {part[1]: part[3] for part in parts if part and part[2] == "="}
        assert given == {"GROUP": unit["Group"][0], "MODE": "0664"}
        asked = {part[1] for part in parts if part and part[2] == "=="}
        assert {"SUBSYSTEM", "ENV{DEVTYPE}", "ENV{ID_USB_INTERFACES}"} <= asked


@pytest.mark.parametrize("which", [UNIT, HELPER], ids=lambda unit: unit.stem)
def test_restarts_for_ever_except_after_a_mistake_in_the_settings(which: Path) -> None:
    unit = settings(which)
    assert unit["Restart"] == ["always"]
    assert unit["RestartPreventExitStatus"] == ["78"]
    assert unit["StartLimitIntervalSec"] == ["0"]


def test_learning_may_take_more_memory_than_the_gateway_and_does_not_take_it_along() -> None:
    unit = settings()
    assert unit["OOMPolicy"] == ["continue"]
    assert int(unit["MemoryMax"][0].removesuffix("M")) >= MOST_MIB + 100


@pytest.mark.parametrize("which", [UNIT, HELPER], ids=lambda unit: unit.stem)
def test_systemd_watches_it(which: Path) -> None:
    unit = settings(which)
    assert (unit["Type"], unit["NotifyAccess"], unit["WatchdogSec"]) == (["notify"], ["main"], ["30"])
