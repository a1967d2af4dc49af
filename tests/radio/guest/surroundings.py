"""What a job in the machine works with: virtual adapters, units of systemd, the gateway's settings and what it says of itself.

Runs as root in the machine, by the Python of the installed gateway; asks and configures it as a technician would.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Condition, Thread
from typing import Any

SETTINGS = Path("/etc/beacon-gateway/gateway.toml")
STATE = Path("/var/lib/beacon-gateway")
SHOP = STATE / "shop.json"
RECORDING = STATE / "heard.jsonl"
CONTROL = Path("/run/beacon-gateway/control.sock")
UNITS = Path("/run/systemd/system")
FIRST = "F0:00:00:00:00:01"
SECOND = "F0:00:00:00:00:02"

Json = dict[str, Any]


def say(*words: object) -> None:
    """One line in what the job said, with the machine's own time."""
    print(f"[{time.monotonic():7.1f}]", *words, flush=True)  # noqa: T201 (a job talks to whoever reads its log)


def call(*words: str, may_fail: bool = False) -> str:
    """A program's output; its failure is the job's."""
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode and not may_fail:
        raise AssertionError(f"{' '.join(words)}: exit code {done.returncode}: {(done.stdout + done.stderr).strip()[-500:]}")
    return done.stdout


def wait_until(true: Callable[[], bool], limit_s: float, every_s: float = 0.2) -> float | None:
    """Seconds until it was true; ``None``: it was not within the limit."""
    began = time.monotonic()
    while True:
        is_true = true()
        took_s = time.monotonic() - began
        if is_true:
            return round(took_s, 1)
        if took_s > limit_s:
            return None
        time.sleep(every_s)


class Adapter:
    """One virtual controller in a process of its own, plugged in when made."""

    def __init__(self, address: str, *, strict: bool = False, extended: bool = False) -> None:
        self.address = address
        self.switches: list[Json] = []
        """Each change of scanning that the host has ordered."""
        self.hci = ""
        self._answers: list[Json] = []
        self._changed = Condition()
        words = [sys.executable, "-m", "tests.radio.guest.air", address]
        words += ["--strict"] * strict + ["--extended"] * extended
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        Thread(target=self._read, daemon=True).start()
        assert wait_until(lambda: bool(self.hci), 60) is not None, "no adapter has appeared"

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            with self._changed:
                if "adapter" in said:
                    self.hci = said["adapter"]
                elif "counts" in said:
                    self._answers.append(said)
                else:
                    self.switches.append(said)
                self._changed.notify_all()

    def order(self, **wanted: Any) -> None:
        """One line of its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(wanted) + "\n")
        self.process.stdin.flush()

    def counts(self) -> Json:
        """What each advertiser has sent and what became of it."""
        with self._changed:
            known = len(self._answers)
            self.order(ask="counts")
            assert self._changed.wait_for(lambda: len(self._answers) > known, 30), f"{self.hci} does not answer"
            return self._answers[-1]

    @property
    def scans(self) -> bool:
        """Whether the host has it listening."""
        return bool(self.switches and self.switches[-1]["scanning"])

    def freeze(self) -> None:
        """Its firmware hangs."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Its firmware goes on."""
        self.process.send_signal(signal.SIGCONT)

    def unplug(self) -> None:
        """Gone, as if pulled out."""
        self.process.kill()
        self.process.wait()


def drop_in(unit: str, text: str) -> None:
    """Change a unit until the machine is switched off; an empty text takes the change back."""
    file = UNITS / f"{unit}.service.d" / "radio-lab.conf"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    call("systemctl", "daemon-reload")


def start_bluetooth(*, experimental: bool) -> None:
    """The real bluetoothd, with passive scanning (BlueZ 5.66 has it behind --experimental) or without."""
    option = " --experimental" if experimental else ""
    drop_in("bluetooth", f"[Service]\nExecStart=\nExecStart=/usr/libexec/bluetooth/bluetoothd{option}\n")
    call("systemctl", "restart", "bluetooth")


def powered(hci: str) -> bool:
    """Whether BlueZ has the adapter running."""
    words = ["busctl", "get-property", "org.bluez", f"/org/bluez/{hci}", "org.bluez.Adapter1", "Powered"]
    return call(*words, may_fail=True).strip() == "b true"


def configure(text: str, shop: Json) -> None:
    """The settings and the shop in force at the next start."""
    SETTINGS.write_text(text)
    SHOP.write_text(json.dumps(shop))
    call("chown", "-R", "gateway:gateway", str(STATE))
    call("chown", "root:gateway", str(SETTINGS))


def start_gateway(*, helper: bool, record: bool = False) -> None:
    """As systemd does at boot, with or without the radio helper; ``record`` keeps all that the pipeline gets in RECORDING."""
    RECORDING.unlink(missing_ok=True)
    extra = f" --record {RECORDING} --everything --record-minutes 60" if record else ""
    command = f"/opt/beacon-gateway/current/.venv/bin/gateway run --config {SETTINGS}{extra}"
    drop_in("gateway", f"[Service]\nExecStart=\nExecStart={command}\n")
    # The gateway's unit wants the helper's, and a unit of /etc cannot be masked.
    drop_in("gateway-radio", "" if helper else "[Unit]\nConditionPathExists=/nowhere\n")
    call("systemctl", "restart" if helper else "stop", "gateway-radio.service")
    call("systemctl", "restart", "gateway.service")
    assert (unit("gateway-radio")["ActiveState"] == "active") == helper


def stop_gateway() -> None:
    """And the helper."""
    call("systemctl", "stop", "gateway.service", "gateway-radio.service")


def status() -> Json | None:
    """What `gateway status --json` prints, straight from the control socket; ``None`` while nobody answers there."""
    try:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(20)
            asking.connect(str(CONTROL))
            asking.sendall(b'{"do": "status"}\n')
            answer = b"".join(iter(lambda: asking.recv(65536), b""))
    except OSError:
        return None
    result: Json | None = json.loads(answer).get("result") if answer else None
    return result


def unit(name: str) -> dict[str, str]:
    """How a unit is doing."""
    wanted = "ActiveState,SubState,MainPID,NRestarts,ExecMainStatus,CPUUsageNSec"
    return dict(line.split("=", 1) for line in call("systemctl", "show", name, f"--property={wanted}").splitlines())


def journal(name: str, since: str = "") -> str:
    """What a unit has logged."""
    words = ["journalctl", f"--unit={name}", "--output=cat", "--no-pager"]
    return call(*words, *([f"--since={since}"] if since else []))


def cpu_s(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def lines(file: Path) -> Iterator[str]:
    """Of a text file, none if it is not there."""
    if file.exists():
        with file.open() as text:
            yield from text


def leave(results: object) -> None:
    """The job's result, for the test that judges it."""
    Path("/mnt/results.json").write_text(json.dumps(results, indent=1))
