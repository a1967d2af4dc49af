"""Job: what hearing costs on a real kernel with a real bluetoothd and a real bus: through the radio helper, and through bleak.

    python -m tests.radio.guest.cost [ADVERTISEMENTS_PER_S …]

In each case one process keeps the scan running with bleak, as the daemon does, and does nothing with what it hears. All processes
that take part are counted: bluetoothd, dbus-daemon, the helper and that one. The machine is emulated, so only what stands beside
each other can be compared, not with anything outside.
"""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

from bleak import BleakScanner
from bleak.args.bluez import BlueZScannerArgs, OrPattern
from bleak.assigned_numbers import AdvertisementDataType

from gateway.io.radio_link import RadioLink
from tests.radio.guest.surroundings import (
    FIRST,
    Adapter,
    Json,
    call,
    journal,
    leave,
    powered,
    say,
    start_bluetooth,
    unit,
    wait_until,
)

SOCKET = Path("/run/beacon-gateway-radio/radio.sock")
EVERY_MS = 100
SECONDS = 20
DATA = "0201061aff4c000215000102030405060708090a0b0c0d0e0f00010002c5"
FLAGS = [OrPattern(0, AdvertisementDataType.FLAGS, b"\x06")]
NOTHING = [OrPattern(0, AdvertisementDataType.MANUFACTURER_SPECIFIC_DATA, bytes.fromhex("ffff5fd1c0de77aa3311"))]
CASES = ("helper, passive", "helper, active", "bleak, active", "bleak, passive")
"""In the first the pattern matches nothing: bluetoothd makes no device of what it hears, and sends nothing."""


async def listen(case: str) -> None:
    """The process that hears: a line with the number so far for each line that it is sent."""
    heard = 0

    def through_helper(_address: str, _rssi_dbm: int, _data: bytes) -> None:
        nonlocal heard
        heard += 1

    def through_bleak(_device: object, _advertisement: object) -> None:
        nonlocal heard
        heard += 1

    def nowhere(_device: object, _advertisement: object) -> None:
        return

    with_helper = case.startswith("helper")
    link = RadioLink(SOCKET, lambda: time.monotonic_ns() // 1_000_000)
    linking: asyncio.Task[NoReturn] | None = None
    if with_helper:
        link.listen(FIRST, through_helper)
        linking = asyncio.create_task(link.run())
        while FIRST not in link.adapters:  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(0.1)
    patterns = NOTHING if with_helper else FLAGS
    arguments: BlueZScannerArgs = {"filters": {"DuplicateData": True}, "or_patterns": [*patterns]}
    callback = nowhere if with_helper else through_bleak
    async with BleakScanner(callback, scanning_mode="active" if case.endswith("active") else "passive", bluez=arguments):
        answer("ready")
        questions = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(questions), sys.stdin)
        while await questions.readline():
            answer(heard)
    if linking is not None:
        linking.cancel()


def answer(what: object) -> None:
    """One line to who started this process."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def cpu_us(pid: int) -> float:
    """All threads of a process (proc(5), schedstat)."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1000


def measure(case: str, adapter: Adapter, per_s: int) -> Json:
    """One case at one pace."""
    ears = subprocess.Popen(
        [sys.executable, "-m", "tests.radio.guest.cost", "--listen", case],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert ears.stdin is not None
    assert ears.stdout is not None

    def heard() -> int:
        assert ears.stdin is not None
        assert ears.stdout is not None
        ears.stdin.write("how many\n")
        ears.stdin.flush()
        return int(ears.stdout.readline())

    assert ears.stdout.readline() == "ready\n", journal("gateway-radio")
    pids = {name: int(unit(of)["MainPID"]) for name, of in (("bluetoothd", "bluetooth"), ("dbus-daemon", "dbus"))}
    if case.startswith("helper"):
        pids["helper"] = int(unit("gateway-radio")["MainPID"])
    pids["ears"] = ears.pid
    assert wait_until(lambda: adapter.scans, 60) is not None, f"{case}: the adapter is not made to scan"
    time.sleep(3)
    counts, before, began = sent(adapter), {name: cpu_us(pid) for name, pid in pids.items()}, heard()
    time.sleep(SECONDS)
    spent = {name: cpu_us(pid) - before[name] for name, pid in pids.items()}
    number, on_air = heard() - began, sent(adapter) - counts
    ears.stdin.close()
    assert ears.wait(60) == 0
    row: Json = {
        "case": case,
        "per_s": per_s,
        "on_air": on_air,
        "heard": number,
        "us_per_advertisement": round(sum(spent.values()) / on_air, 1),
        "us": {name: round(us / on_air, 1) for name, us in spent.items()},
    }
    say(json.dumps(row))
    return row


def lets(account: str) -> bool:
    """Whether this account may connect to the helper."""
    code = f"import socket; socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect('{SOCKET}')"
    words = ["setpriv", f"--reuid={account}", "--init-groups", f"--regid={account}" if account != "nobody" else "--regid=nogroup"]
    return subprocess.run([*words, "/usr/bin/python3", "-c", code], capture_output=True, check=False).returncode == 0


def sent(adapter: Adapter) -> int:
    """By all advertisers since the adapter is there."""
    return sum(int(counts["sent"]) for counts in adapter.counts()["counts"].values())


def main(words: list[str]) -> None:
    """Each case at each pace; what the kernel lost for the helper is in its status line."""
    start_bluetooth(experimental=True)
    call("systemctl", "start", "gateway-radio")
    say(call("systemctl", "show", "gateway-radio", "--property=ActiveState,StatusText,MainPID"))
    rows = []
    adapter = Adapter(FIRST)
    assert wait_until(lambda: powered(adapter.hci), 60) is not None
    running = 0
    for per_s in [int(word) for word in words] or [100]:
        while running < per_s * EVERY_MS // 1000:
            adapter.order(name=str(running), address=f"C0:00:00:00:02:{running:02X}", data=DATA, interval_ms=EVERY_MS)
            running += 1
        rows += [measure(case, adapter, per_s) for case in CASES]
    status = Path(f"/proc/{unit('gateway-radio')['MainPID']}/status").read_text()
    held = next(line for line in status.splitlines() if line.startswith("CapEff"))
    socket_ = call("stat", "--format=%a %U %G", str(SOCKET.parent), str(SOCKET)).splitlines()
    lets_in = {account: lets(account) for account in ("gateway", "nobody")}
    began = time.monotonic()
    call("systemctl", "stop", "gateway-radio")
    stopped = {**unit("gateway-radio"), "took_s": round(time.monotonic() - began, 1)}
    log = journal("gateway-radio")[-5000:]
    leave({"rows": rows, "helper": held, "socket": socket_, "lets in": lets_in, "stopped": stopped, "journal": log})
    say(held, socket_, lets_in, stopped, log)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--listen"]:
        asyncio.run(listen(sys.argv[2]))
    else:
        main(sys.argv[1:])
