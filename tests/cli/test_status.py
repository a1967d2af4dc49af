"""`gateway status` and `gateway doctor`: what a technician reads first, and the one thing to do next."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.status import screen
from gateway.contract.control import Status
from gateway.contract.messages import CentralState
from gateway.daemon.status import RoomTold, next_step
from gateway.io.store import Gap, NoRoom
from tests.contract.examples import OTHERS
from tests.fakes.bluez import FakeBlueZ
from tests.fakes.mosquitto import Mosquitto

WELL: dict[str, Any] = {
    "version": "0.1.0",
    "store": "demo",
    "gateway": "pi-1",
    "state": "running",
    "mode": "live",
    "uptime_s": 4000.0,
    "receivers": [
        {"name": "door", "adapter": "hci0", "state": "hearing", "scanning": "active", "heard_per_s": 42.5, "heard_s_ago": 0.4}
        | {"in_shop": True}
    ],
    "shoppers_present": 3,
    "roster_size": 120,
    "zones": 4,
    "anchors": 9,
    "catalogue": {"version": 7, "promotions": 12, "in_force": 5, "expires_s": 90_000.0},
    "outbox": {"rows": 2, "oldest_s": 1.5, "last_ack_s": 3.0},
    "broker": {"host": "broker.example.org", "port": 8883, "state": "online", "connections": 1},
    "central": "online",
    "clock": "synchronised",
    "disk": {"free_mib": 5000, "database_mib": 3.5, "quota_mib": 512},
    "next_step": "",
}  # fmt: skip
DEAF = {**WELL["receivers"][0], "state": "deaf", "trouble": "hci0: is powered off. bluetoothctl power on"}
SILENT = {**WELL["receivers"][0], "heard_s_ago": 300.0}
RADIO = {"address": "00:1A:7D:DA:71:0A", "source": "kernel", "since_s": 75.0}
WITHOUT_HELPER = {
    **WELL["receivers"][0],
    "radio": {**RADIO, "source": "bluetoothd", "helper_trouble": "gateway-radio does not run."},
}
NOWHERE = {**WELL["receivers"][0], "in_shop": False}


def status(**changes: Any) -> Status:
    return Status.model_validate({**WELL, **changes})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "all is well"),
        ({"state": "stopped"}, "systemctl start gateway"),
        ({"disk": {"free_mib": 20, "database_mib": 3.5, "quota_mib": 512}}, "make room"),
        ({"disk": {"free_mib": 5000, "database_mib": 500, "quota_mib": 512}}, "quota_mib"),
        ({"clock": "unsynchronised"}, "timedatectl"),
        ({"privacy_missing": ["privacy.contact"]}, "privacy.contact"),
        ({"trusts_central": False}, "trust.public_keys"),
        ({"receivers": []}, "[[receivers]]"),
        ({"zones": 0}, "gateway zone add"),
        ({"receivers": [NOWHERE]}, "gateway receiver add door --zone"),
        ({"receivers": [DEAF]}, "powered off"),
        ({"receivers": [SILENT]}, "has heard nothing for 300 s"),
        ({"blind_zones": ["dairy", "wine"]}, "Nobody can be heard in dairy, wine, and promotions there pause"),
        ({"broker": {**WELL["broker"], "state": "offline"}}, "broker.example.org:8883 is not reached"),
        ({"central": "offline"}, "Central is offline"),
        ({"central": "unknown"}, "central/state"),
        ({"outbox": {"rows": 9, "oldest_s": 100.0, "last_ack_s": None}}, "not acknowledged events for 100 s"),
        ({"beacon_faults": {"a": "low"}}, "Beacon a has a low battery"),
        ({"beacon_faults": {"a": "moved"}}, "gateway beacon relearn a"),
        ({"beacon_faults": {"a": "low", "b": "covered", "c": "silent"}}, "Beacon c is not heard any more"),
        ({"beacon_faults": {"a": "low", "b": "cloned"}}, "2 beacons are not as they should be"),
        ({"beacon_faults": {"a": "weak"}, "blind_zones": ["dairy"], "central": "offline"}, "Nobody can be heard in dairy"),
        ({"catalogue": None}, "gateway offer import"),
        ({"roster_size": 0}, "test-shopper add"),
        ({"mode": "listen-only"}, 'mode = "live"'),
        ({"role": "receive", "decider": "pi-2", "decider_online": True}, "receives for gateway pi-2, which decides"),
        ({"role": "receive", "decider": "pi-2", "decider_online": False}, "if it is gone, gateway takeover"),
        ({"role": "receive"}, "No gateway of the store decides"),
        ({"catalogue": {**WELL["catalogue"], "in_force": 0}}, "gateway offer list"),
        ({"receivers": [WITHOUT_HELPER]}, "misses much of what is sent. gateway-radio does not run."),
        ({"receivers": [{**WITHOUT_HELPER, "trouble": "hci0: stuck."}]}, "Receiver door hears, but: hci0: stuck."),
        # What hides the rest comes first.
        ({"clock": "unsynchronised", "zones": 0, "central": "offline"}, "timedatectl"),
        ({"central": "offline", "catalogue": None, "roster_size": 0}, "Central is offline"),
    ],
)  # fmt: skip
def test_there_is_one_thing_to_do_next(changes: dict[str, Any], told: str) -> None:
    assert told in next_step(status(**changes), "/etc/beacon-gateway/gateway.toml")


NOW_MS = 1_790_000_000_000
HOUR_MS = 3_600_000
FULL = NoRoom("full", where=Path("/var/lib/beacon-gateway/gateway.db"))
OPEN = Gap(NOW_MS - HOUR_MS, NOW_MS, 37, "full")
OVER = Gap(NOW_MS - 3 * HOUR_MS, NOW_MS - 2 * HOUR_MS, 1, "quota", 4, is_over=True)


@pytest.mark.parametrize(
    ("room", "changes", "told"),
    [
        (RoomTold(FULL, OPEN, NOW_MS), {}, "The disk is full. 37 events from 2026-09-21T13:13:20Z to 2026-09-21T14:13:20Z could"),
        # The last gap is of another day: nothing has been lost yet.
        (RoomTold(FULL, OVER, NOW_MS), {}, "The disk is full. Make room: "),
        # What was lost since matters more than how little room there is.
        (RoomTold(FULL, OPEN, NOW_MS), {"disk": {"free_mib": 0, "database_mib": 3.5, "quota_mib": 512}}, "The disk is full."),
        (RoomTold(None, OPEN, NOW_MS), {"state": "stopped"}, "systemctl start gateway"),
        (RoomTold(None, OVER, NOW_MS), {}, "Nothing in a hurry: 1 event from 2026-09-21T11:13:20Z to 2026-09-21T12:13:20Z could"),
        (RoomTold(None, OVER, NOW_MS), {}, "See why central did not acknowledge for so long."),
        (RoomTold(None, OVER, NOW_MS), {"central": "offline"}, "Central is offline"),
        (RoomTold(None, OVER, NOW_MS + 22 * HOUR_MS), {}, "Nothing: all is well."),
        # The clock has been set back.
        (RoomTold(None, OVER, NOW_MS - 9 * HOUR_MS), {}, "Nothing: all is well."),
    ],
)
def test_what_could_not_be_kept_is_told(room: RoomTold, changes: dict[str, Any], told: str) -> None:
    assert told in next_step(status(**changes), "/etc/beacon-gateway/gateway.toml", room)


def test_all_is_on_one_screen() -> None:
    lines = screen(status(next_step="Nothing: all is well.", rejects={"ibeacon.length": 4}))
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 110
    text = "\n".join(lines)
    for part in (
        "running for 1 h 6 min", "door (hci0): hearing, 42.5 heard/s, active scan", "3 present, 120 in the roster",
        "4 zones, 9 anchors", "12 in catalogue version 7, 5 in force now, expires in 1 d 1 h",
        "2 events waiting, the oldest for 1 s", "last ack 3 s ago",
        "broker.example.org:8883 online", "5000 MiB free", "ibeacon.length 4", "next: Nothing: all is well.",
    ):  # fmt: skip
        assert part in text, part


def test_beacons_and_deaf_zones_have_their_lines_when_there_is_something_to_say() -> None:
    text = "\n".join(screen(status(beacon_faults={"shelf-7": "silent", "shelf-1": "low"}, blind_zones=["dairy"])))
    assert "beacons     shelf-1 battery low, shelf-7 silent" in text
    assert "deaf zones  dairy: promotions pause" in text
    assert "beacons " not in "\n".join(screen(status()))


def test_a_deaf_receiver_says_why_since_when_and_what_was_tried() -> None:
    tried = {"step": "power-cycle", "s_ago": 12.0, "helped": False}
    receivers = [
        {**DEAF, "radio": {**RADIO, "cause": "silence", "last_recovery": tried}},
        {**WELL["receivers"][0], "radio": {**RADIO, "last_recovery": {**tried, "helped": True, "s_ago": 4000.0}}},
        WITHOUT_HELPER,
    ]
    lines = screen(status(receivers=receivers))
    assert max(map(len, lines)) <= 130
    text = "\n".join(lines)
    assert "deaf, 42.5 heard/s, silent since 1 min 15 s, power-cycle did not help 12 s ago" in text
    assert text.count("power-cycle") == 1, "what was long ago is left out"
    assert "sudo systemctl enable --now gateway-radio" in text


def test_what_came_from_outside_cannot_steer_the_terminal() -> None:
    lines = screen(status(receivers=[{**DEAF, "trouble": "\x1b[31mred"}], next_step="\x1b[2Jgone"))
    assert "\x1b" not in "".join(lines)


# ---- the commands -------------------------------------------------------------------------------------------------------------


def gateway(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from gateway.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **environment},
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "gateway.toml"
    file.write_text(
        f'store = "demo"\nstore_number = 4711\ngateway = "pi-1"\nstate_dir = "{tmp_path}"\n'
        '[broker]\nhost = "127.0.0.1"\nport = 1\n[[receivers]]\nname = "door"\nadapter = "hci0"\n',
        encoding="utf-8",
    )
    return file


def test_without_a_daemon_status_says_so_and_exits_with_69(config: Path) -> None:
    done = gateway("status", "--config", str(config))
    assert (done.returncode, done.stderr) == (69, "")
    assert "NOT RUNNING" in done.stdout
    assert "systemctl start gateway" in done.stdout
    told = Status.model_validate_json(gateway("status", "--config", str(config), "--json").stdout)
    assert (told.state, told.outbox.rows) == ("stopped", 0)


@pytest.mark.parametrize("command", ["status", "doctor", "test-shopper list"])
def test_settings_that_are_missing_or_broken_are_a_sentence(tmp_path: Path, command: str) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("store = [", encoding="utf-8")
    for file in (tmp_path / "missing.toml", broken):
        done = gateway(*command.split(), "--config", str(file))
        assert done.returncode in {75, 78}
        assert "Traceback" not in done.stderr
        assert str(file) in done.stdout + done.stderr


def test_a_test_shopper_needs_a_running_gateway(config: Path, tmp_path: Path) -> None:
    key = tmp_path / "tina.key"
    done = gateway("test-shopper", "add", "tina", "--key-file", str(key), "--config", str(config))
    assert done.returncode == 75
    assert "no gateway is running" in done.stderr
    assert not key.exists()


@pytest.mark.parametrize("name", ["Tina", "", "ti na", "\x1b[31m", "x" * 60])
def test_a_name_that_is_none_is_refused(config: Path, tmp_path: Path, name: str) -> None:
    done = gateway("test-shopper", "add", name, "--key-file", str(tmp_path / "k"), "--config", str(config))
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "k").exists()


def test_without_a_bus_doctor_finds_what_is_wrong_and_goes_on(config: Path) -> None:
    done = gateway("doctor", "--config", str(config), "--json", DBUS_SYSTEM_BUS_ADDRESS="unix:path=/nonexistent")
    assert done.returncode == 75
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["radio"]["state"] == "failed"
    assert "D-Bus" in checks["radio"]["found"]
    assert checks["broker"]["state"] == "failed"
    assert checks["broker"]["do"]
    assert checks["shop"]["found"] == "no zones: nobody can be located"
    assert checks["settings"]["state"] == "ok"
    assert checks["daemon"]["state"] == "warning"


@pytest.mark.parametrize(
    ("adapters", "powered", "found", "state"),
    [
        (["hci0"], True, "receiver door: hci0 is powered", "ok"),
        (["hci0"], False, "receiver door: hci0 is powered off", "failed"),
        (["hci1"], True, "receiver door wants hci0, there is: hci1", "failed"),
        ([], True, "bluetoothd knows no adapter", "failed"),
    ],
    ids=["well", "off", "another", "none"],
)
async def test_doctor_knows_bluetoothds_adapters(
    config: Path, adapters: list[str], powered: bool, found: str, state: str
) -> None:
    async with FakeBlueZ(*adapters) as bluez:
        if not adapters:
            await bluez.remove_adapter("hci0")
        if not powered:
            await bluez.power("hci0", on=False)
        done = await asyncio.to_thread(
            gateway, "doctor", "--config", str(config), "--json", DBUS_SYSTEM_BUS_ADDRESS=bluez.address
        )
    checks = json.loads(done.stdout)["checks"]
    radio = [check for check in checks if check["name"] == "radio"]
    assert (radio[0]["found"], radio[0]["state"]) == (found, state)
    [helper] = [check for check in checks if check["name"] == "helper"]
    assert helper["state"] == "warning"
    assert "through bluetoothd only" in helper["found"]
    assert "sudo systemctl enable --now gateway-radio" in helper["do"]


@pytest.mark.parametrize(("host", "state"), [("127.0.0.1", "ok"), ("127.1", "warning")], ids=["here", "not known to be here"])
async def test_doctor_says_that_nothing_is_encrypted_on_the_way_to_another_machine(
    config: Path, tmp_path: Path, host: str, state: str
) -> None:
    with Mosquitto(tmp_path) as broker:
        async with broker.client() as central:
            await central.publish("central/state", json.dumps(OTHERS[CentralState]), qos=1, retain=True)
        config.write_text(config.read_text().replace('host = "127.0.0.1"\nport = 1', f'host = "{host}"\nport = {broker.port}'))
        done = await asyncio.to_thread(gateway, "doctor", "--config", str(config), "--json")
    [check] = [check for check in json.loads(done.stdout)["checks"] if check["name"] == "broker"]
    assert check["state"] == state
    assert ("nothing is encrypted" in check["found"]) == ("tls_ca_file" in check["do"]) == (state == "warning")
