"""`gateway doctor`: looks at everything that the gateway stands on, one line each, and says how to mend it."""

import asyncio
import contextlib
import logging
import os
import platform
import shutil
import struct
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Literal

from gateway.cli.located_zones import located
from gateway.cli.reach import Gateway
from gateway.contract.control import Status, StatusRequest
from gateway.contract.fields import Strict
from gateway.contract.messages import CentralState, read
from gateway.contract.settings import Settings
from gateway.contract.shop import ReceiverEntry, ShopFile
from gateway.contract.topics import CENTRAL_STATE
from gateway.core.sanitiser import printable
from gateway.daemon.adapters import seen_adapters
from gateway.daemon.status import OF_LATE_MS
from gateway.errors import GatewayError, TryAgain
from gateway.io.bluetooth import blocked_radios, lacks_power
from gateway.io.broker import probe
from gateway.io.clock import SystemClock, is_synchronised
from gateway.io.radio_link import RadioLink
from gateway.io.scanner.bluez import Adapter, BlueZ
from gateway.io.store import AFTERWARDS, SENTENCES, sentence
from gateway.io.store.looking import newest_gap, waiting_events

FAILED_EXIT_CODE = 75
_HELPER_S = 3
_LITTLE_DISK_MIB = 200
_MIB = 1024 * 1024
_THIS_MACHINE = {"localhost", "127.0.0.1", "::1"}
_SIGNS = {"ok": "ok", "warning": "WARN", "failed": "FAIL"}


class Check(Strict):
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "warning", "failed"]
    found: str
    do: str = ""
    """How to mend it."""


class Examination(Strict):
    """What `gateway doctor --json` prints."""

    checks: tuple[Check, ...]
    ok: int
    warnings: int
    failed: int


def run_doctor(config: Path, *, as_json: bool) -> int:
    """Print the checks as they are made; the exit code says whether one failed."""
    found = []
    for check in _checks(config):
        found.append(check)
        if not as_json:
            print(f"{_SIGNS[check.state]:<6}{check.name:<14}{printable(check.found, limit=400)}", flush=True)
            if check.do:
                print(f"{'':<20}{printable(check.do, limit=400)}", flush=True)
    counts = {state: sum(check.state == state for check in found) for state in _SIGNS}
    if as_json:
        examination = Examination(checks=tuple(found), ok=counts["ok"], warnings=counts["warning"], failed=counts["failed"])
        print(examination.model_dump_json(indent=2))
    else:
        print(f"\n{counts['ok']} in order, {counts['warning']} to look at, {counts['failed']} to mend")
    return FAILED_EXIT_CODE if counts["failed"] else 0


def _ok(name: str, found: str) -> Check:
    return Check(name=name, state="ok", found=found)


def _warning(name: str, found: str, do: str) -> Check:
    return Check(name=name, state="warning", found=found, do=do)


def _failed(name: str, found: str, do: str) -> Check:
    return Check(name=name, state="failed", found=found, do=do)


def _of(name: str, error: GatewayError) -> Check:
    return _failed(name, f"{error.where}: {error.what}" if error.where else error.what, error.do)


def _checks(config: Path) -> Iterator[Check]:
    yield _machine()
    try:
        gateway = Gateway(config)
    except GatewayError as error:
        yield _of("settings", error)
        return
    settings = gateway.settings
    yield _ok("settings", printable(str(config), limit=400))
    yield from _privacy_and_trust(settings, config)
    yield _clock(settings)
    yield _state(settings)
    yield _power()
    yield from _radio(settings)
    yield from _daemon(gateway)
    # Whose password it is.
    with gateway.as_service_user():
        broker = asyncio.run(_broker(settings))
    yield broker


def _machine() -> Check:
    bits, version = 8 * struct.calcsize("P"), platform.python_version()
    found = f"{platform.machine()}, {bits} bit, Python {version}"
    if bits != 64:
        return _failed("machine", found, "Install a 64-bit Raspberry Pi OS: some libraries exist for that only.")
    return _ok("machine", found)


def _privacy_and_trust(settings: Settings, config: Path) -> Iterator[Check]:
    missing = settings.privacy.missing
    if missing:
        do = f"Nothing about phones is kept before these are set in {config}."
        yield _warning("privacy", f"missing: {', '.join(missing)}", do)
    else:
        yield _ok("privacy", f"controller {settings.privacy.controller}")
    if settings.trust.public_keys:
        yield _ok("trust", f"{len(settings.trust.public_keys)} public key(s) of central pinned")
    else:
        yield _warning("trust", "no key of central is pinned", "Put what `gateway central key` prints into trust.public_keys.")


def _clock(settings: Settings) -> Check:
    if settings.clock.assume_synchronised:
        return _ok("clock", "assumed to be right (clock.assume_synchronised)")
    if is_synchronised():
        return _ok("clock", "synchronised")
    return _failed("clock", "not synchronised: nobody is recognised", "timedatectl set-ntp true; is the NTP server reachable?")


def _state(settings: Settings) -> Check:
    folder = settings.state_dir
    if not folder.exists():
        return _warning("disk", f"{folder} does not exist yet", "The gateway makes it when it first runs.")
    if not os.access(folder, os.W_OK | os.X_OK):
        return _warning("disk", f"{folder} belongs to somebody else, so it was not looked at", "Run this with sudo.")
    free_mib = shutil.disk_usage(folder).free // _MIB
    try:
        rows, _ = waiting_events(settings.database_path)
        gap = newest_gap(settings.database_path)
    except GatewayError as error:
        return _of("disk", error)
    found = f"{free_mib} MiB free in {folder}, {rows} events waiting"
    if gap is not None and not gap.is_over:
        return _failed("disk", f"{found}; {sentence(gap)}", SENTENCES[gap.cause][1])
    if free_mib < _LITTLE_DISK_MIB:
        return _failed("disk", found, "Make room: events may be lost.")
    if gap is not None and 0 <= SystemClock().now().wall_ms - gap.until_wall_ms < OF_LATE_MS:
        return _warning("disk", f"{found}; {sentence(gap)}", AFTERWARDS[gap.cause])
    return _ok("disk", found)


def _power() -> Check:
    short = lacks_power()
    if short is None:
        return _ok("power", "no sensor (not a Raspberry Pi)")
    if short:
        return _failed("power", "under-voltage", "Use the Pi's own power supply and a short cable: the radio suffers first.")
    return _ok("power", "enough voltage")


def _radio(settings: Settings) -> Iterator[Check]:
    blocked = blocked_radios()
    for name, hard in blocked:
        do = "A switch on the machine turns it off." if hard else "sudo rfkill unblock bluetooth"
        yield _failed("radio", f"{name} is blocked", do)
    bluez = BlueZ()
    try:
        asyncio.run(bluez.read_adapters())
    except GatewayError as error:
        yield _of("radio", error)
        return
    known = [adapter for _, adapter in sorted(bluez.adapters.items())]
    if not known:
        yield _failed("radio", "bluetoothd knows no adapter", "Is one plugged in? bluetoothctl list, dmesg | grep -i bluetooth")
    seen = seen_adapters(settings)
    for receiver in settings.receivers:
        yield _receiver(receiver.name, seen.get(receiver.name, receiver.adapter), known)
    yield asyncio.run(_helper(settings))


async def _helper(settings: Settings) -> Check:
    """Whether the radio helper answers, and what is missed without it."""
    clock, answered = SystemClock(), asyncio.Event()
    # What the link says of itself is this check's finding, not a line of a log that nobody keeps.
    logging.getLogger("gateway").addHandler(logging.NullHandler())
    link = RadioLink(settings.radio.helper_socket, lambda: clock.now().mono_ms)
    link.watch(answered.set)
    linking = asyncio.create_task(link.run())
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(answered.wait(), _HELPER_S)
    trouble, names = link.trouble, ", ".join(sorted(adapter.name for adapter in link.adapters.values()))
    linking.cancel()
    await asyncio.gather(linking, return_exceptions=True)
    if trouble is None:
        return _ok("helper", f"the radio helper reads {names or 'no adapter: none is there'}")
    found = f"{trouble.what} Adapters report through bluetoothd only, some of them each device once in 10 s"
    return _warning("helper", found, trouble.do)


def _receiver(name: str, wanted: str | None, known: list[Adapter]) -> Check:
    usable = [adapter for adapter in known if wanted in {None, adapter.name, adapter.address}]
    if not usable:
        names = ", ".join(adapter.name for adapter in known) or "none"
        return _failed("radio", f"receiver {name} wants {wanted or 'an adapter'}, there is: {names}", "Correct [[receivers]].")
    powered = [adapter for adapter in usable if adapter.powered]
    if not powered:
        return _failed(
            "radio", f"receiver {name}: {usable[0].name} is powered off", f"bluetoothctl select {usable[0].address}; power on"
        )
    return _ok("radio", f"receiver {name}: {powered[0].name} is powered")


def _daemon(gateway: Gateway) -> Iterator[Check]:
    try:
        status = gateway.ask(StatusRequest(), Status)
        shop = gateway.shop()
    except GatewayError as error:
        yield _of("daemon", error)
        return
    if status is None:
        yield _warning("daemon", "not running", "sudo systemctl start gateway")
    else:
        rate = sum(receiver.heard_per_s for receiver in status.receivers)
        yield _ok("daemon", f"running, {rate:g} advertisements/s")
        yield from _beyond(status, {receiver.name for receiver in gateway.settings.receivers})
    yield from _shop(gateway, shop.shop, status)


def _beyond(status: Status, own: Container[str]) -> Iterator[Check]:
    """Who decides, and the receivers that are no adapters of this machine."""
    if status.role == "receive" and not status.decider_online:
        who = f"gateway {status.decider}, which decides, is offline" if status.decider else "no gateway of the store decides"
        yield _failed("role", who, "Start it again, or if it is gone: gateway takeover")
    elif status.role == "receive":
        yield _ok("role", f"receives for gateway {status.decider}")
    if status.zone_model_trouble is not None:
        yield _warning("zone model", status.zone_model_trouble, "Walk the zones again, or see gateway zone model list.")
    for receiver in status.receivers:
        if receiver.name in own:
            continue
        where = f"receiver {receiver.name}" + (f" of gateway {receiver.gateway}" if receiver.gateway else "")
        if receiver.state == "deaf":
            yield _failed("receivers", f"{where} hears nothing", receiver.trouble or f"gateway receiver test {receiver.name}")
        elif receiver.gateway is not None or receiver.state == "hearing":
            yield _ok("receivers", f"{where}: {receiver.state}")


def _shop(gateway: Gateway, shop: ShopFile, status: Status | None) -> Iterator[Check]:
    if not shop.zones:
        yield _warning("shop", "no zones: nobody can be located", "gateway zone add NAME")
        return
    receivers = gateway.settings.receivers_of(name for name, anchor in shop.anchors.items() if isinstance(anchor, ReceiverEntry))
    nowhere = [name for name in receivers if name not in shop.anchors]
    for name in nowhere:
        yield _warning("shop", f"receiver {name} stands nowhere", f"gateway receiver add {name} --zone ZONE")
    try:
        unlocated = sorted(shop.zones.keys() - located(gateway, shop, status))
    except GatewayError as error:
        yield _of("zone model", error)
        return
    for zone in unlocated:
        yield _warning("shop", f"zone {zone} has no anchor: nobody can ever be in it", f"gateway beacon add NAME --zone {zone}")
    if not nowhere and not unlocated:
        yield _ok("shop", f"{len(shop.zones)} zones, {len(shop.anchors)} anchors")


async def _broker(settings: Settings) -> Check:
    where = f"{settings.broker.host}:{settings.broker.port}"
    try:
        payload = await probe(settings.broker, f"doctor-{settings.store}-{settings.gateway}", CENTRAL_STATE)
        if payload is None:
            return _warning("broker", f"{where} answers, and has not heard of central", "Is gateway central running there?")
        central = read(CentralState, payload, CENTRAL_STATE).data.state
    except GatewayError as error:
        return _of("broker", error)
    except TimeoutError:
        return _of("broker", TryAgain("the broker does not answer in time.", where=where))
    if central != "online":
        return _warning("broker", f"{where} answers, central is {central}", "Start gateway central where it belongs.")
    if settings.broker.tls_ca_file is None and settings.broker.host not in _THIS_MACHINE:
        do = "Set broker.tls_ca_file: passwords and pseudonyms can be read on the way."
        return _warning("broker", f"{where} answers, central is online, and nothing is encrypted", do)
    return _ok("broker", f"{where} answers, central is online")
