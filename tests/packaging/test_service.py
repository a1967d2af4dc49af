"""The installed service under a real systemd: it starts in its sandbox, comes back, obeys its exit codes, goes without a trace.

What happened is noted once by booted.py, in a Debian that boots for it; each test judges a part of it.
"""

import fcntl
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.packaging import debian
from tests.packaging.debian import Root

pytestmark = [pytest.mark.slow, pytest.mark.install, pytest.mark.timeout(1200)]

Facts = dict[str, Any]


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """Noted once for all processes that share the tests; whoever comes second waits for the first."""
    ready, wheels = debian.ready(), debian.wheels()
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "booted-share"
    with (shared / "booted.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            folder.mkdir()
            root = Root(ready, shared / "booted-debian")
            shutil.copytree(wheels, root.path("root/wheels"))
            shutil.copytree(debian.CHECKOUT / "tests" / "fakes", root.path("root/checkout/tests/fakes"))
            root.boot(Path(__file__).with_name("booted.py"), folder, timeout_s=1100)
    if not (folder / "said").exists():
        pytest.skip(f"systemd does not boot here: {(folder / 'console').read_text().strip()[-300:]}")
    assert (folder / "status").exists(), "it did not come to its end in time"
    assert (folder / "status").read_text() == "0\n", (folder / "said").read_text()
    noted: Facts = json.loads((folder / "facts.json").read_text())
    return noted


def test_is_enabled_but_waits_for_its_settings(facts: Facts) -> None:
    assert facts["first"]["code"] == 0, facts["first"]["err"]
    assert "Next: sudoedit /etc/beacon-gateway/gateway.toml" in facts["first"]["out"]
    unit = facts["unfinished settings"]
    assert (unit["UnitFileState"], unit["ActiveState"], unit["MainPID"]) == ("enabled", "inactive", "0")


def test_starts_in_its_sandbox_without_bluetoothd(facts: Facts) -> None:
    assert facts["start"]["code"] == 0, facts["journal"]
    assert (facts["started"]["ActiveState"], facts["started"]["SubState"]) == ("active", "running")
    assert facts["bluetooth"] == "inactive\n"
    account = facts["account"].strip()
    nothing = "0" * 16
    assert facts["process"] == {
        "Uid": "\t".join([account] * 4),
        "CapEff": nothing,
        "CapBnd": nothing,
        "NoNewPrivs": "1",
        "Seccomp": "2",
    }


def test_lives_without_its_radio_helper(facts: Facts) -> None:
    """A container has no Bluetooth of its own: the helper says so, stays away from the address family, and is tried again."""
    assert facts["helper"]["UnitFileState"] == "enabled"
    assert facts["helper"]["ExecMainStatus"] == "69", facts["helper's journal"]
    assert "there is no Bluetooth here" in facts["helper's journal"]


def test_the_operators_unit_runs_central(facts: Facts) -> None:
    assert facts["central's start"]["code"] == 0, facts["central's journal"]
    assert facts["central"] == {"ActiveState": "active", "User": "gateway"}, facts["central's journal"]
    assert json.loads(facts["gateways hear of central"])["data"]["state"] == "online", facts["central's journal"]
    assert re.fullmatch(r"[0-9a-f]{64}\n", facts["central's command"]["out"]), facts["central's command"]["err"]
    folder, secret = facts["central's folder"].splitlines()
    assert folder == "700 gateway"
    assert secret in {"400 gateway", "440 root"}, "by its owner, or, in later versions of systemd, by an access list"
    assert facts["central's end"] == {"ActiveState": "inactive", "Result": "success"}


def test_scans_through_bluetoothd_and_survives_its_end(facts: Facts) -> None:
    assert facts["start with bluetoothd"]["code"] == 0, facts["journal"]
    assert facts["scans after s"] is not None, facts["journal"]
    assert facts["bluetoothd gone"]["ActiveState"] == "active"
    assert facts["bluetoothd gone"]["NRestarts"] == "0"


def test_the_group_reaches_the_control_socket_and_nobody_else(facts: Facts) -> None:
    assert facts["socket"].splitlines() == ["750 gateway gateway", "660 gateway gateway"]
    assert facts["control as a member"] == 0
    assert facts["control as anybody"] != 0


def test_delivers_to_the_broker_that_was_installed_with_it(facts: Facts) -> None:
    assert '"online"' in facts["birth"]


def test_opens_no_network_port(facts: Facts) -> None:
    assert facts["listening"] == []


def test_comes_back_after_kill_9_and_after_a_standstill(facts: Facts) -> None:
    assert facts["back after kill -9 s"] is not None, facts["journal"]
    assert facts["after kill -9"]["NRestarts"] == "1"
    assert facts["back after a standstill s"] is not None, facts["journal"]


def test_an_upgrade_restarts_it_and_keeps_drop_ins(facts: Facts) -> None:
    assert facts["upgrade"]["code"] == 0, facts["upgrade"]["err"]
    assert "(enabled and running)" in facts["upgrade"]["out"]
    assert facts["upgraded"]["ActiveState"] == "active"
    assert facts["upgraded pid is new"]
    assert facts["upgraded release is new"]
    assert facts["releases"] == 1
    assert facts["drop-in stays"] == {"WatchdogUSec": "15s"}


def test_a_version_that_does_not_start_gives_way_to_the_old_one(facts: Facts) -> None:
    assert (facts["broken version"]["code"], facts["broken version"]["out"]) == (75, "")
    assert "so the old one is back and runs" in facts["broken version"]["err"].splitlines()[-1]
    assert facts["broken version, after"]["ActiveState"] == "active"
    assert facts["broken version, release is the old one"]
    assert facts["broken version, releases"] == 1


def test_an_upgrade_that_would_not_accept_the_settings_does_not_touch_the_running_one(facts: Facts) -> None:
    assert facts["refused upgrade"]["code"] == 75, facts["journal"]
    assert "the old one stays and runs" in facts["refused upgrade"]["err"]
    assert facts["refused upgrade, after"]["ActiveState"] == "active"
    assert facts["refused upgrade, after"]["MainPID"] == facts["broken version, after"]["MainPID"]
    assert facts["refused upgrade, releases"] == 1


def test_broken_settings_are_not_restarted(facts: Facts) -> None:
    assert facts["broken settings"]["code"] != 0
    unit = facts["broken settings, after"]
    assert (unit["ActiveState"], unit["ExecMainStatus"], unit["NRestarts"], unit["MainPID"]) == ("failed", "78", "0", "0")
    assert "nonsense: Extra inputs are not permitted" in facts["journal"]


def test_its_journal_names_no_address_and_no_traceback_but_the_broken_version_s(facts: Facts) -> None:
    assert not re.search(r"\b([0-9A-Fa-f]{2}[:_-]){5}[0-9A-Fa-f]{2}\b", facts["journal"])
    assert facts["journal"].count("Traceback") == facts["journal"].count("AssertionError: this version is broken")


def test_goes_without_a_trace(facts: Facts) -> None:
    assert facts["uninstall"]["code"] == 0
    assert "gateway.db" in facts["state stays"]
    assert facts["purge"]["code"] == 0
    assert facts["unit after purge"] == {"LoadState": "not-found"}
    assert facts["left"] == ""
    assert not facts["our broker file stays"]
    assert facts["another's broker file stays"]
    assert "gateway" not in facts["failed units"]
