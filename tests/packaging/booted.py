#!/usr/bin/python3
"""Runs as root in a booted Debian: installs the gateway, disturbs it, removes it, and writes down what it saw (facts.json).

It only looks and notes; test_service.py judges. Debian's own Python runs it, so it is one file of the standard library.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

INSTALL = ["/root/checkout/scripts/install.sh", "--wheels", "/root/wheels"]
SETTINGS = Path("/etc/beacon-gateway/gateway.toml")
VALID = 'store = "demo"\nstore_number = 4711\ngateway = "pi-1"\n'
DROP_IN = Path("/etc/systemd/system/gateway.service.d/hurry.conf")
CURRENT = Path("/opt/beacon-gateway/current")
BROKER_FILE = Path("/etc/mosquitto/conf.d/beacon-gateway.conf")
ASK = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/beacon-gateway/control.sock')"

facts: dict[str, object] = {}


def call(*command: str) -> dict[str, object]:
    began = time.monotonic()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return {"code": done.returncode, "out": done.stdout, "err": done.stderr, "took_s": round(time.monotonic() - began, 1)}


def shown(*properties: str, of: str = "gateway") -> dict[str, str]:
    said = call("systemctl", "show", of, f"--property={','.join(properties)}")["out"]
    return dict(line.split("=", 1) for line in str(said).splitlines())


def unit() -> dict[str, str]:
    return shown("ActiveState", "SubState", "MainPID", "NRestarts", "ExecMainStatus", "StatusText", "UnitFileState")


def until(true: Callable[[], bool], limit_s: float) -> float | None:
    """Seconds until it was true; none if it never was."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > limit_s:
            return None
        time.sleep(0.1)
    return round(time.monotonic() - began, 1)


def came_back(pid: int) -> Callable[[], bool]:
    return lambda: unit()["ActiveState"] == "active" and unit()["MainPID"] not in {"0", str(pid)}


def releases() -> int:
    return len(list((CURRENT.parent / "releases").iterdir()))


def control(group: str) -> int:
    """Whether an account that is nobody but a member of ``group`` reaches the control socket: 0."""
    done = call("setpriv", "--reuid=nobody", "--regid=nogroup", f"--groups={group}", "python3", "-c", ASK)
    return int(str(done["code"]))


def listening(pid: int) -> list[str]:
    """Network ports that the process has opened: rows of /proc/net whose state is LISTEN and whose inode is one of its own."""
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]]
    own = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
    return [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in own]


def begins() -> None:
    facts["first"] = call(*INSTALL, "--with-broker")
    facts["unfinished settings"] = unit()

    SETTINGS.write_text(VALID)
    DROP_IN.parent.mkdir()
    DROP_IN.write_text("[Service]\nWatchdogSec=15\n")
    call("systemctl", "daemon-reload")
    facts["start"] = call("systemctl", "start", "gateway")
    facts["started"] = unit()


def runs() -> None:
    facts["bluetooth"] = call("systemctl", "is-active", "bluetooth")["out"]
    pid = int(unit()["MainPID"])
    status = Path(f"/proc/{pid}/status").read_text()
    facts["process"] = dict(re.findall(r"^(Uid|CapEff|CapBnd|NoNewPrivs|Seccomp):\s+(.*)$", status, re.MULTILINE))
    facts["account"] = call("id", "-u", "gateway")["out"]
    facts["socket"] = call("stat", "--format=%a %U %G", "/run/beacon-gateway", "/run/beacon-gateway/control.sock")["out"]
    facts["control as a member"], facts["control as anybody"] = control("gateway"), control("nogroup")
    topic = "stores/demo/up/pi-1/status"
    facts["birth"] = call("mosquitto_sub", "-t", topic, "-C", "1", "-W", "20")["out"]
    facts["listening"] = listening(pid)
    until(lambda: shown("ExecMainStatus", of="gateway-radio")["ExecMainStatus"] == "69", 60)
    facts["helper"] = shown("UnitFileState", "ExecMainStatus", of="gateway-radio")
    facts["helper's journal"] = call("journalctl", "--unit=gateway-radio", "--output=cat", "--no-pager")["out"]


def hears() -> None:
    """With a bluetoothd: the fake one, on a bus of its own, run by the installed Python, which has what it needs."""
    bus = Path("/run/fake-bluez")
    bus.mkdir(mode=0o755)
    command = [str(CURRENT / ".venv/bin/python"), "-P", "/root/checkout/tests/fakes/bluez.py", str(bus), "hci0"]
    fake = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert fake.stdout is not None
    said: list[dict[str, Any]] = []
    Thread(target=lambda: said.extend(json.loads(line) for line in fake.stdout or ()), daemon=True).start()
    until(lambda: {"answer": "ready"} in said, 20)
    there = DROP_IN.with_name("bluez.conf")
    there.write_text(f"[Service]\nEnvironment=DBUS_SYSTEM_BUS_ADDRESS=unix:path={bus}/bus\n")
    call("systemctl", "daemon-reload")
    facts["start with bluetoothd"] = call("systemctl", "restart", "gateway")
    facts["scans after s"] = until(lambda: any(each.get("scanning", {}).get("hci0") for each in said), 30)
    fake.kill()
    fake.wait()
    time.sleep(3)
    facts["bluetoothd gone"] = unit()
    there.unlink()
    call("systemctl", "daemon-reload")
    call("systemctl", "restart", "gateway")


def serves_central() -> None:
    """With the unit of the operator's page, which nothing installs."""
    page = Path("/root/checkout/docs/operator.md").read_text()
    found = re.search(r"```ini file=(/etc/systemd/system/(beacon-central)\.service)\n(.*?)```", page, re.DOTALL)
    assert found is not None
    file, name, text = Path(found[1]), found[2], found[3]
    file.write_text(text)
    secret = Path("/etc/beacon-gateway/credentials/central-password")
    secret.write_text("s3cret\n")
    secret.chmod(0o600)
    settings = SETTINGS.with_name("central.toml")
    password = f"/run/credentials/{file.name}/{secret.name}"
    settings.write_text(f'[broker]\nusername = "central"\npassword_file = "{password}"\n[stores.demo]\nstore_number = 4711\n')
    call("systemctl", "daemon-reload")
    facts["central's start"] = call("systemctl", "start", name)
    facts["gateways hear of central"] = call("mosquitto_sub", "-t", "central/state", "-C", "1", "-W", "20")["out"]
    facts["central"] = shown("ActiveState", "User", of=name)
    facts["central's command"] = call(
        "setpriv", "--reuid=gateway", "--regid=gateway", "--init-groups", "gateway", "central", "key"
    )
    facts["central's folder"] = call("stat", "--format=%a %U", "/var/lib/beacon-central", password)["out"]
    call("systemctl", "stop", name)
    facts["central's end"] = shown("ActiveState", "Result", of=name)
    facts["central's journal"] = call("journalctl", f"--unit={name}", "--output=cat", "--no-pager")["out"]
    for path in (file, secret, settings):
        path.unlink()
    shutil.rmtree("/var/lib/beacon-central")
    call("systemctl", "daemon-reload")


def is_disturbed() -> None:
    pid = int(unit()["MainPID"])
    os.kill(pid, signal.SIGKILL)
    facts["back after kill -9 s"] = until(came_back(pid), 30)
    facts["after kill -9"] = unit()

    pid = int(unit()["MainPID"])
    os.kill(pid, signal.SIGSTOP)
    facts["back after a standstill s"] = until(came_back(pid), 60)


def is_upgraded() -> None:
    pid, release = unit()["MainPID"], CURRENT.resolve()
    facts["upgrade"] = call(*INSTALL)
    facts["upgraded"] = unit()
    facts["upgraded pid is new"] = unit()["MainPID"] != pid
    facts["upgraded release is new"] = CURRENT.resolve() != release
    facts["releases"] = releases()
    facts["drop-in stays"] = shown("WatchdogUSec")

    # A version that cannot start: the old one has to come back.
    release = CURRENT.resolve()
    daemon = Path("/root/checkout/gateway/daemon/__init__.py")
    good = daemon.read_text()
    daemon.write_text(good + "\nraise AssertionError('this version is broken')\n")
    facts["broken version"] = call(*INSTALL)
    daemon.write_text(good)
    facts["broken version, after"] = unit()
    facts["broken version, release is the old one"] = CURRENT.resolve() == release
    facts["broken version, releases"] = releases()

    # Settings that the new version would refuse: the running one has to go on.
    SETTINGS.write_text(VALID + "nonsense = 1\n")
    facts["refused upgrade"] = call(*INSTALL)
    facts["refused upgrade, after"] = unit()
    facts["refused upgrade, releases"] = releases()


def fails() -> None:
    facts["broken settings"] = call("systemctl", "restart", "gateway")
    time.sleep(4)
    facts["broken settings, after"] = unit()
    facts["journal"] = call("journalctl", "--unit=gateway", "--output=cat", "--no-pager")["out"]


def goes() -> None:
    facts["uninstall"] = call(INSTALL[0], "--uninstall")
    facts["state stays"] = sorted(path.name for path in Path("/var/lib/beacon-gateway").iterdir())
    facts["our broker file stays"] = BROKER_FILE.exists()
    BROKER_FILE.write_text("# Written by hand.\n")
    facts["purge"] = call(INSTALL[0], "--uninstall", "--purge", "--yes")
    facts["another's broker file stays"] = BROKER_FILE.exists()
    BROKER_FILE.unlink(missing_ok=True)
    facts["unit after purge"] = shown("LoadState")
    places = "/etc /opt /run /usr/local /var"
    facts["left"] = call("sh", "-c", f"find {places} -path '*beacon*' -o -name 'gateway*' | grep -v '^/var/log/'")["out"]
    facts["failed units"] = call("systemctl", "--failed", "--no-legend", "--plain")["out"]


if __name__ == "__main__":
    try:
        for part in (begins, runs, hears, serves_central, is_disturbed, is_upgraded, fails, goes):
            part()
    finally:
        Path("facts.json").write_text(json.dumps(facts))
