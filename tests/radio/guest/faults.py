"""Job: what a shop's Bluetooth goes through, one fault after the other during a scan, and how long until the gateway hears again.

    python -m tests.radio.guest.faults [FAULT …]

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
        self.adapter = self._plug_in()
        self.others: list[Adapter] = []

    def _plug_in(self) -> Adapter:
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
        self.adapter = self._plug_in()
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
        os.kill(int(unit("bluetooth")["MainPID"]), with_signal)

    def end_the_bus(self) -> None:
        """dbus-daemon dies; its socket brings it back as soon as somebody calls."""
        os.kill(int(unit("dbus")["MainPID"]), signal.SIGKILL)


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
    "bluetoothd frozen": (lambda shop: shop.bluetoothd(signal.SIGSTOP), 30, lambda shop: shop.bluetoothd(signal.SIGCONT)),
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

    def listen() -> bool:
        now = receiver()
        if now is not None and (not said or said[-1] != (now["state"], now["trouble"])):
            said.append((now["state"], now["trouble"]))
        return False

    wait_until(listen, lasts_s, 1.0)
    cpu_share = (cpu_s(int(pid)) - cpu_before_s) / (time.monotonic() - began_s)
    end(shop)
    before = heard()
    again_s = wait_until(lambda: heard() > before >= 0 or (before < 0 and heard() > 0), _LONGEST_S)
    time.sleep(3)
    now = receiver()
    found: Json = {
        "fault": name,
        "again_s": again_s,
        "said": said,
        "state": None if now is None else now["state"],
        "radio": None if now is None else now["radio"],
        "cpu_share": round(cpu_share, 2),
        "log_lines": len(journal("gateway").splitlines()) - lines_before,
        "same_process": unit("gateway")["MainPID"] == pid and unit("gateway")["NRestarts"] == restarts,
    }
    say(found)
    return found


def stuck() -> Json:
    """hciconfig down and up during an active scan, where BlueZ knows no passive one: nothing but replugging cures that."""
    start_bluetooth(experimental=False)
    shop = Shop()
    assert wait_until(lambda: powered(shop.adapter.hci), 60) is not None
    configure(_SETTINGS % "auto", _SHOP)
    start_gateway(helper=True)
    assert wait_until(lambda: heard() > 20, 120) is not None, journal("gateway")[-2000:]
    pid = unit("gateway")["MainPID"]
    cpu_before_s, began_s = cpu_s(int(pid)), time.monotonic()
    shop.hciconfig("down")
    time.sleep(1)
    shop.hciconfig("up")
    said: list[tuple[float, str | None]] = []

    def alarmed() -> bool:
        now = receiver()
        if now is not None and (not said or said[-1][1] != now["trouble"]):
            said.append((round(time.monotonic() - began_s, 1), now["trouble"]))
        return now is not None and now["state"] == "deaf" and "nplug" in str(now["trouble"])

    alarm_s = wait_until(alarmed, 180, 1.0)
    wait_until(lambda: bool(alarmed() and False), 20, 1.0)
    cpu_share = (cpu_s(int(pid)) - cpu_before_s) / (time.monotonic() - began_s)
    shop.unplug()
    time.sleep(2)
    shop.adapter = shop._plug_in()
    before = heard()
    again_s = wait_until(lambda: heard() > before, _LONGEST_S)
    found: Json = {
        "fault": "stuck adapter",
        "alarm_s": alarm_s,
        "said": said,
        "again_s": again_s,
        "cpu_share": round(cpu_share, 2),
        "same_process": unit("gateway")["MainPID"] == pid,
    }
    say(found)
    stop_gateway()
    shop.unplug()
    return found


def main(words: list[str]) -> None:
    """All faults in turn, then the one that needs hands."""
    start_bluetooth(experimental=True)
    shop = Shop()
    assert wait_until(lambda: powered(shop.adapter.hci), 60) is not None
    configure(_SETTINGS % "auto", _SHOP)
    start_gateway(helper=True)
    assert wait_until(lambda: heard() > 20, 120) is not None, journal("gateway")[-2000:]
    say(receiver())
    found = []
    for name in FAULTS:
        if not words or name in words:
            found.append(try_fault(name, shop))
            leave({"faults": found})
            if found[-1]["again_s"] is None:
                say(journal("gateway")[-3000:])
                say(journal("bluetooth")[-1500:])
                break
    stop_gateway()
    for adapter in (shop.adapter, *shop.others):
        adapter.unplug()
    if not words or "stuck adapter" in words:
        found.append(stuck())
    leave({"faults": found, "journal": journal("gateway")[-40_000:]})


if __name__ == "__main__":
    main(sys.argv[1:])
