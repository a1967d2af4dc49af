"""Job: what a shop's Bluetooth goes through, one fault after the other during a scan, and how long until the gateway hears again.

    python -m tests.radio.guest.faults with-helper | without-helper [FAULT …]

With the radio helper the scan is passive and the kernel reports, without it the scan is active and bluetoothd reports.
The gateway is asked through its control socket, as `gateway status` does. Each fault is noted with the seconds from the moment
its cause was gone to the first advertisement that came through afterwards, by the machine's own clock.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.radio.guest.rates import advertisements
from tests.radio.guest.surroundings import (
    FIRST,
    SECOND,
    Adapter,
    Json,
    call,
    configure,
    cpu_s,
    journal,
    leave,
    powered,
    say,
    start_bluetooth,
    start_gateway,
    status,
    stop_gateway,
    unit,
    wait_until,
)

SILENCE_S = 30
STUCK = "stuck adapter"
_SETTINGS = f"""
store = "lab"
store_number = 4711
gateway = "pi-1"
[clock]
assume_synchronised = true
[radio]
silence_s = {SILENCE_S}
[[receivers]]
name = "one"
adapter = "{FIRST}"
scan = "%s"
"""
_SHOP: Json = {"zones": {"dairy": {}}, "anchors": {"one": {"kind": "receiver", "zone": "dairy"}}}
_LONGEST_S = 240.0


class Shop:
    """One adapter, five constant beacons at 5/s each, and the gateway."""

    def __init__(self) -> None:
        self.adapter = self.plug_in()
        self.others: list[Adapter] = []

    def plug_in(self) -> Adapter:
        """It, with the beacons in its air."""
        adapter = Adapter(FIRST)
        for form, advertisement in advertisements().items():
            adapter.order(name=form, interval_ms=200, rssi=-60, **advertisement)
        return adapter

    def unplug(self) -> None:
        """The adapter is pulled out."""
        self.adapter.unplug()

    def plug_in_as_another(self) -> None:
        """Something else has taken its number meanwhile."""
        old = self.adapter.hci
        self.others.append(Adapter(SECOND))
        self.adapter = self.plug_in()
        assert self.adapter.hci != old, "it has its old number again"

    def power(self, on: bool) -> None:
        """What `bluetoothctl power` does."""
        words = ["busctl", "set-property", "org.bluez", f"/org/bluez/{self.adapter.hci}", "org.bluez.Adapter1", "Powered", "b"]
        call(*words, "true" if on else "false")

    def hciconfig(self, word: str) -> None:
        """Below bluetoothd."""
        call("hciconfig", self.adapter.hci, word)

    def rfkill(self, blocked: bool) -> None:
        """As `rfkill block bluetooth` does."""
        for switch in Path("/sys/class/rfkill").iterdir():
            if (switch / "type").read_text().strip() == "bluetooth":
                (switch / "soft").write_text("1" if blocked else "0")

    def bluetoothd(self, with_signal: signal.Signals) -> None:
        """A signal to the real one."""
        os.kill(main_process("bluetooth"), with_signal)

    def end_the_bus(self) -> None:
        """dbus-daemon dies; its socket brings it back as soon as somebody calls."""
        os.kill(main_process("dbus"), signal.SIGKILL)


def main_process(name: str) -> int:
    """Of a unit that runs: signals to process 0 would be our own."""
    pid = int(unit(name)["MainPID"])
    assert pid, f"{name} does not run\n{journal(name)[-2000:]}"
    return pid


def receiver() -> Json | None:
    """What the gateway says of the adapter; ``None`` while it does not answer."""
    said = status()
    return None if said is None else said["receivers"][0]


def heard() -> int:
    """Advertisements since the gateway's start."""
    said = receiver()
    return -1 if said is None else int(said["heard"])


def stop_services() -> None:
    """bluetoothd ends as it is asked to."""
    call("systemctl", "stop", "bluetooth")


def start_services() -> None:
    """What somebody does who finds bluetoothd gone."""
    call("systemctl", "start", "bluetooth")


Part = Callable[[Shop], None]
FAULTS: dict[str, tuple[Part, float, Part]] = {
    "power off, on": (lambda shop: shop.power(on=False), 5, lambda shop: shop.power(on=True)),
    "hciconfig down, up": (lambda shop: shop.hciconfig("down"), 3, lambda shop: shop.hciconfig("up")),
    "rfkill": (lambda shop: shop.rfkill(blocked=True), 5, lambda shop: shop.rfkill(blocked=False)),
    "removed, returned under another number": (lambda shop: shop.unplug(), 5, lambda shop: shop.plug_in_as_another()),
    "bluetoothd stopped": (lambda _: stop_services(), 4, lambda _: start_services()),
    "bluetoothd killed": (lambda shop: shop.bluetoothd(signal.SIGKILL), 4, lambda _: start_services()),
    "bluetoothd frozen": (lambda shop: shop.bluetoothd(signal.SIGSTOP), 40, lambda shop: shop.bluetoothd(signal.SIGCONT)),
    "controller frozen 16 s": (lambda shop: shop.adapter.freeze(), 16, lambda shop: shop.adapter.thaw()),
    "controller frozen 50 s": (lambda shop: shop.adapter.freeze(), 50, lambda shop: shop.adapter.thaw()),
    "dbus-daemon restarted": (lambda shop: shop.end_the_bus(), 4, lambda _: start_services()),
}


def try_fault(name: str, shop: Shop) -> Json:
    """Cause it, end it, and see."""
    begin, lasts_s, end = FAULTS[name]
    pid, restarts = unit("gateway")["MainPID"], unit("gateway")["NRestarts"]
    lines_before = len(journal("gateway").splitlines())
    cpu_before_s, began_s = cpu_s(int(pid)), time.monotonic()
    begin(shop)
    said: list[tuple[str, str | None]] = []
    last_heard, last_s, silent_s = 0, began_s, 0.0

    def listen() -> bool:
        nonlocal last_heard, last_s, silent_s
        now = receiver()
        if now is None:
            return False
        if not said or said[-1] != (now["state"], now["trouble"]):
            said.append((now["state"], now["trouble"]))
        if now["heard"] != last_heard:
            last_heard, last_s = now["heard"], time.monotonic()
        silent_s = max(silent_s, time.monotonic() - last_s)
        return False

    wait_until(listen, lasts_s, 0.5)
    cpu_share = (cpu_s(int(pid)) - cpu_before_s) / (time.monotonic() - began_s)
    end(shop)
    before = heard()
    again_s = wait_until(lambda: heard() > before >= 0 or (before < 0 and heard() > 0), _LONGEST_S)
    silent_s = max(silent_s, time.monotonic() - last_s)
    wait_until(listen, 3, 1.0)
    now = receiver()
    found: Json = {
        "fault": name,
        "again_s": again_s,
        "silent_s": round(silent_s, 1),
        "said": said,
        "state": None if now is None else now["state"],
        "trouble": None if now is None else now["trouble"],
        "radio": None if now is None else now["radio"],
        "cpu_share": round(cpu_share, 2),
        "log_lines": len(journal("gateway").splitlines()) - lines_before,
        "same_process": unit("gateway")["MainPID"] == pid and unit("gateway")["NRestarts"] == restarts,
    }
    say(found)
    return found


def stuck() -> Json:
    """A controller whose scan hangs, neither hears nor ends, where BlueZ knows no passive one: only replugging cures that.

    The kernel waits for ever for the end of that scan and answers every other one "in progress", also after a power cycle.
    """
    start_bluetooth(experimental=False)
    shop = Shop()
    start(shop, helper=True)
    pid = unit("gateway")["MainPID"]
    lines_before = len(journal("gateway").splitlines())
    cpu_before_s, began_s = cpu_s(int(pid)), time.monotonic()
    said: list[tuple[float, str, str | None]] = []

    def listen() -> bool:
        now = receiver()
        if now is not None and (not said or said[-1][1:] != (now["state"], now["trouble"])):
            said.append((round(time.monotonic() - began_s, 1), now["state"], now["trouble"]))
        return False

    shop.adapter.order(hang="scan")
    # What it tries meanwhile must be no busy loop.
    wait_until(listen, 150, 1.0)
    cpu_share = (cpu_s(int(pid)) - cpu_before_s) / (time.monotonic() - began_s)
    deaf = receiver()
    shop.unplug()
    time.sleep(2)
    shop.adapter = shop.plug_in()
    before = heard()
    again_s = wait_until(lambda: heard() > before, _LONGEST_S)
    found: Json = {
        "fault": STUCK,
        "alarm_s": next((at_s for at_s, state, trouble in said if state == "deaf" and "nplug" in str(trouble)), None),
        "said": said,
        "state": None if deaf is None else deaf["state"],
        "radio": None if deaf is None else deaf["radio"],
        "again_s": again_s,
        "cpu_share": round(cpu_share, 2),
        "log_lines": len(journal("gateway").splitlines()) - lines_before,
        "same_process": unit("gateway")["MainPID"] == pid,
    }
    say(found)
    stop_gateway()
    shop.unplug()
    return found


def start(shop: Shop, *, helper: bool) -> None:
    """The gateway, and wait until it hears."""
    assert wait_until(lambda: powered(shop.adapter.hci), 60) is not None
    configure(_SETTINGS % "auto", _SHOP)
    start_gateway(helper=helper)
    assert wait_until(lambda: heard() > 20, 120) is not None, journal("gateway")[-2000:]
    say(receiver())


def try_faults(names: list[str], *, helper: bool) -> list[Json]:
    """One after the other, the same adapter and gateway."""
    start_bluetooth(experimental=True)
    shop = Shop()
    start(shop, helper=helper)
    found = []
    for name in names:
        found.append(try_fault(name, shop))
        leave({"faults": found})
        if found[-1]["again_s"] is None:
            say(journal("gateway")[-3000:])
            say(journal("bluetooth")[-1500:])
            break
        if "stuck" in str(found[-1]["trouble"]):
            # As its alarm has said; the next fault begins with an adapter that is well.
            shop.unplug()
            time.sleep(2)
            shop.adapter = shop.plug_in()
            known = heard()
            assert wait_until(lambda known=known: heard() > known, 30) is not None, journal("gateway")[-2000:]  # type: ignore[misc]
    stop_gateway()
    for adapter in (shop.adapter, *shop.others):
        adapter.unplug()
    return found


def main(words: list[str]) -> None:
    """All faults in turn, then the one that needs hands."""
    helper, chosen = words[0] == "with-helper", words[1:] or [*FAULTS, STUCK]
    found = []
    if {*FAULTS}.intersection(chosen):
        found += try_faults([name for name in FAULTS if name in chosen], helper=helper)
    if helper and STUCK in chosen:
        found.append(stuck())
    leave({"faults": found, "journal": journal("gateway")[-40_000:]})


if __name__ == "__main__":
    main(sys.argv[1:])
