#!/usr/bin/python3
"""Runs as root in a booted Debian: installs the gateway, disturbs it, removes it, and writes down what it saw (facts.json).

It only looks and notes; test_service.py judges. Debian's own Python runs it, so it is one file of the standard library.
"""

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from os import kill
from pathlib import Path

INSTALL = ["/root/checkout/scripts/install.sh", "--wheels", "/root/wheels"]
SETTINGS = Path("/etc/beacon-gateway/gateway.toml")
VALID = 'store = "demo"\nstore_number = 4711\ngateway = "pi-1"\n'
DROP_IN = Path("/etc/systemd/system/gateway.service.d/hurry.conf")
CURRENT = Path("/opt/beacon-gateway/current")
ASK = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/beacon-gateway/control.sock')"

facts: dict[str, object] = {}


def call(*command: str) -> dict[str, object]:
    began = time.monotonic()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return {"code": done.returncode, "out": done.stdout, "err": done.stderr, "took_s": round(time.monotonic() - began, 1)}


def shown(*properties: str) -> dict[str, str]:
    said = call("systemctl", "show", "gateway", f"--property={','.join(properties)}")["out"]
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


def control(group: str) -> int:
    """Whether an account that is nobody but a member of ``group`` reaches the control socket: 0."""
    done = call("setpriv", "--reuid=nobody", "--regid=nogroup", f"--groups={group}", "python3", "-c", ASK)
    return int(str(done["code"]))


def main() -> None:
    facts["first"] = call(*INSTALL, "--with-broker")
    facts["unfinished settings"] = unit()

    SETTINGS.write_text(VALID)
    DROP_IN.parent.mkdir()
    DROP_IN.write_text("[Service]\nWatchdogSec=5\n")
    call("systemctl", "daemon-reload")
    facts["start"] = call("systemctl", "start", "gateway")
    facts["started"] = unit()
    facts["bluetooth"] = call("systemctl", "is-active", "bluetooth")["out"]
    pid = int(unit()["MainPID"])
    status = Path(f"/proc/{pid}/status").read_text()
    facts["process"] = dict(re.findall(r"^(Uid|CapEff|CapBnd|NoNewPrivs|Seccomp):\s+(.*)$", status, re.MULTILINE))
    facts["account"] = call("id", "-u", "gateway")["out"]
    facts["socket"] = call("stat", "--format=%a %U %G", "/run/beacon-gateway", "/run/beacon-gateway/control.sock")["out"]
    facts["control as a member"], facts["control as anybody"] = control("gateway"), control("nogroup")
    facts["listens"] = call("sh", "-c", f"ls -l /proc/{pid}/fd | grep -c socket; cat /proc/net/tcp /proc/net/tcp6")["out"]
    topic = "stores/demo/up/pi-1/status"
    facts["birth"] = call("mosquitto_sub", "-t", topic, "-C", "1", "-W", "20")["out"]

    kill(pid, signal.SIGKILL)
    facts["back after kill -9 s"] = until(came_back(pid), 30)
    facts["after kill -9"] = unit()

    pid = int(unit()["MainPID"])
    kill(pid, signal.SIGSTOP)
    facts["back after a standstill s"] = until(came_back(pid), 60)

    pid, release = int(unit()["MainPID"]), CURRENT.resolve()
    facts["upgrade"] = call(*INSTALL)
    facts["upgraded"] = unit()
    facts["upgraded pid is new"] = unit()["MainPID"] != str(pid)
    facts["upgraded release is new"] = CURRENT.resolve() != release
    facts["releases"] = sorted(path.name for path in (CURRENT.parent / "releases").iterdir())
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
    facts["broken version, releases"] = len(list((CURRENT.parent / "releases").iterdir()))

    # Settings that only a person can mend.
    SETTINGS.write_text(VALID + "nonsense = 1\n")
    facts["refused upgrade"] = call(*INSTALL)
    facts["refused upgrade, after"] = unit()
    facts["broken settings"] = call("systemctl", "restart", "gateway")
    time.sleep(4)
    facts["broken settings, after"] = unit()
    facts["journal"] = call("journalctl", "--unit=gateway", "--output=cat", "--no-pager")["out"]

    facts["uninstall"] = call(INSTALL[0], "--uninstall")
    facts["state stays"] = sorted(path.name for path in Path("/var/lib/beacon-gateway").iterdir())
    facts["purge"] = call(INSTALL[0], "--uninstall", "--purge", "--yes")
    facts["unit after purge"] = shown("LoadState")
    places = "/etc /opt /run /usr/local /var"
    facts["left"] = call("sh", "-c", f"find {places} -path '*beacon*' -o -name 'gateway*' | grep -v '^/var/log/'")["out"]
    facts["failed units"] = call("systemctl", "--failed", "--no-legend", "--plain")["out"]


try:
    main()
finally:
    Path("facts.json").write_text(json.dumps(facts))
