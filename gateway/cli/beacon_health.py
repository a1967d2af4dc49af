"""`gateway beacon health` and `relearn`: the fixed beacons as canaries."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from gateway.cli.change import print_json
from gateway.cli.columns import ABSENT, columns
from gateway.cli.reach import Gateway
from gateway.cli.status import duration
from gateway.contract.control import (
    BeaconBattery,
    BeaconFares,
    BeaconHealthRequest,
    BeaconLink,
    BeaconsHealth,
    RelearnBeaconRequest,
)
from gateway.contract.fields import Strict
from gateway.core.sanitiser import printable
from gateway.core.spelling import listed, no_such
from gateway.errors import TryAgain, WrongCommand

_HEADER = ("beacon", "zone", "state", "since", "receiver", "dBm", "usual", "heard/s", "usual", "lost", "battery", "promotions")

_BLANK = (" ",) * 4


def show(config: Path, name: str | None, *, as_json: bool) -> None:
    """All beacons or one, the receivers, and the zones that have gone deaf."""
    found = _ask(Gateway(config), BeaconHealthRequest())
    if name is not None:
        only = tuple(beacon for beacon in found.beacons if beacon.name == name)
        if not only:
            raise WrongCommand(no_such("beacon", name, [beacon.name for beacon in found.beacons]))
        found = found.model_copy(update={"beacons": only})
    if as_json:
        print_json(found)
    else:
        print("\n".join(screen(found)))


def relearn_beacon(config: Path, name: str, *, as_json: bool) -> None:
    """Forget what was usual of it."""
    try:
        request = RelearnBeaconRequest(name=name)
    except ValidationError as error:
        raise WrongCommand(f"there is no beacon {printable(name, 60)}.") from error
    found = _ask(Gateway(config), request)
    if as_json:
        print_json(found)
    else:
        print(f"{name} is learnt anew; whether it moves, fades or is covered is known again in half an hour.")


def screen(found: BeaconsHealth) -> list[str]:
    """A row for each beacon and receiver that hears it; then what is not as it should be."""
    if not found.beacons:
        return ["no beacons yet; add one: gateway beacon add NAME --zone ZONE"]
    lines = columns(_HEADER, [row for beacon in found.beacons for row in _rows(beacon)])
    lines += ["", *_receivers(found)]
    lines += [
        f"nobody can be heard in {zone.name}: "
        + (f"its promotions pause: {listed(zone.promotions)}" if zone.promotions else "no promotion hangs on it")
        for zone in found.blind_zones
    ]
    return lines


def _rows(beacon: BeaconFares) -> Iterator[tuple[object, ...]]:
    about = (beacon.name, beacon.zone, beacon.state, duration(beacon.since_s))
    promotions = listed(beacon.promotions)
    after = (_battery(beacon.battery), f"paused: {promotions}" if beacon.paused and promotions else promotions)
    if not beacon.links:
        yield (*about, "nobody", *(ABSENT,) * 5, *after)
    for index, link in enumerate(beacon.links):
        yield (*about, *_link(link), *after) if index == 0 else (*_BLANK, *_link(link), *_BLANK[:2])


def _link(link: BeaconLink) -> tuple[object, ...]:
    lost = None if link.loss is None else f"{link.loss:.1%}"
    return link.receiver, link.level_dbm, link.baseline_dbm, link.rate_hz, link.usual_rate_hz, lost


def _battery(battery: BeaconBattery) -> str | None:
    parts = ["LOW"] if battery.state == "low" else []
    if battery.volts is not None:
        parts.append(f"{battery.volts:.2f} V")
    if battery.percent is not None:
        parts.append(f"{battery.percent} %")
    if battery.temperature_c is not None:
        parts.append(f"{battery.temperature_c:g} °C")
    if battery.days_left_least is not None:
        parts.append(f"{battery.days_left_least} to {battery.days_left_most} days left")
    return ", ".join(parts) or None


def _receivers(found: BeaconsHealth) -> Iterator[str]:
    for receiver in found.receivers:
        silent = f", {receiver.silent} of them silent" if receiver.silent else ""
        shift = (
            f", all {abs(receiver.shift_db):g} dB {'louder' if receiver.shift_db > 0 else 'fainter'}" if receiver.shift_db else ""
        )
        tell = "no beacon to tell by" if not receiver.canaries else f"{receiver.canaries} beacons to tell by{silent}{shift}"
        yield f"receiver {receiver.name}: {receiver.hearing} for {duration(receiver.since_s)}, {tell}"


def _ask(gateway: Gateway, request: Strict) -> BeaconsHealth:
    found = gateway.ask(request, BeaconsHealth)
    if found is None:
        raise TryAgain("no gateway is running, and only a running one hears beacons.", do="sudo systemctl start gateway")
    return found
