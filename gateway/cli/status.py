"""`gateway status`: the gateway on one screen, and the one thing to do next."""

from pathlib import Path

from gateway import __version__
from gateway.cli.reach import Gateway
from gateway.contract.control import OutboxStatus, ReceiverStatus, Status, StatusRequest
from gateway.core.sanitiser import printable
from gateway.daemon.status import RoomTold, next_step, stopped_status
from gateway.io.clock import SystemClock
from gateway.io.store.looking import newest_gap, waiting_events

STOPPED_EXIT_CODE = 69
_FAULTS = {"low": "battery low"}
_CAUSES = {
    "bluetoothd": "no bluetoothd",
    "hangs": "bluetoothd hangs",
    "adapter": "adapter gone",
    "power": "off",
    "stuck": "stuck",
    "start": "no scan",
    "silence": "silent",
}
_OF_LATE_S = 3600
_STRANGE_CLOCK = {"holdover": "not synchronised for the moment (holdover)", "unsynchronised": "NOT SYNCHRONISED"}


def show_status(config: Path, *, as_json: bool) -> int:
    """Print it; the exit code says whether a daemon runs."""
    status = status_of(Gateway(config))
    print(status.model_dump_json(indent=2) if as_json else "\n".join(screen(status)))
    return 0 if status.state == "running" else STOPPED_EXIT_CODE


def status_of(gateway: Gateway) -> Status:
    """What the daemon says of itself, or what its files say while it does not run."""
    running = gateway.ask(StatusRequest(), Status)
    if running is not None:
        return running
    shop = gateway.shop().shop
    with gateway.as_service_user():
        rows, oldest_ms = waiting_events(gateway.settings.database_path)
        age_s = None if oldest_ms is None else max(0, SystemClock().now().wall_ms - oldest_ms) / 1000
        outbox = OutboxStatus(rows=rows, oldest_s=age_s, last_ack_s=None)
        status = stopped_status(gateway.settings, __version__, outbox, shop)
        room = RoomTold(None, newest_gap(gateway.settings.database_path), SystemClock().now().wall_ms)
    return status.model_copy(update={"next_step": next_step(status, str(gateway.config), room)})


def screen(status: Status) -> list[str]:
    """At most one line for each thing, in the order in which a technician looks."""
    running = status.state == "running"
    up = f"running for {duration(status.uptime_s or 0)}" if running else "NOT RUNNING"
    mode = "" if status.mode == "live" else f", {status.mode}: nothing is offered"
    if status.role == "receive":
        mode = f", receiving for {status.decider}" if status.decider else ", receiving, and nobody decides"
    lines = [f"gateway {status.gateway} of store {status.store}, version {status.version}: {up}{mode}", ""]
    lines += [_line("receivers" if index == 0 else "", _receiver(receiver)) for index, receiver in enumerate(status.receivers)]
    if not status.receivers:
        lines.append(_line("receivers", "none configured"))
    if any(receiver.radio is not None and receiver.radio.source == "bluetoothd" for receiver in status.receivers):
        lines.append(_line("radio", "by bluetoothd only, so much is missed: sudo systemctl enable --now gateway-radio"))
    if running:
        tests = f", {status.test_shoppers} test shoppers" if status.test_shoppers else ""
        lines.append(_line("shoppers", f"{status.shoppers_present} present, {status.roster_size} in the roster{tests}"))
    lines.append(_line("shop", f"{status.zones} zones, {status.anchors} anchors{_located(status)}"))
    if status.zone_model_trouble is not None:
        lines.append(_line("zone model", status.zone_model_trouble))
    if status.beacon_faults:
        faults = ", ".join(f"{name} {_FAULTS.get(fault, fault)}" for name, fault in sorted(status.beacon_faults.items()))
        lines.append(_line("beacons", faults))
    if status.blind_zones:
        lines.append(_line("deaf zones", f"{', '.join(status.blind_zones)}: promotions pause"))
    if running:
        lines += [_line("promotions", _catalogue(status)), _line("offers", _offers(status))]
    lines.append(_line("outbox", _outbox(status)))
    if running:
        broker = f"{status.broker.host}:{status.broker.port} {status.broker.state}"
        again = f", connected {status.broker.connections} times" if status.broker.connections > 1 else ""
        lines += [
            _line("broker", broker + again),
            _line("central", status.central),
            _line("clock", _STRANGE_CLOCK.get(status.clock, status.clock)),
        ]
    disk = status.disk
    lines.append(_line("disk", f"{disk.free_mib} MiB free, database {disk.database_mib:g} of at most {disk.quota_mib} MiB"))
    if status.rejects:
        lines.append(_line("rejects", ", ".join(f"{name} {count}" for name, count in sorted(status.rejects.items()))))
    return [*map(printable, lines), "", f"next: {printable(status.next_step, limit=400)}"]


def _line(label: str, text: str) -> str:
    return f"{label:<12}{text}"


def _receiver(receiver: ReceiverStatus) -> str:
    adapter = f" ({receiver.adapter})" if receiver.adapter else f" (gateway {receiver.gateway})" if receiver.gateway else ""
    scanning = f", {receiver.scanning} scan" if receiver.scanning and receiver.state == "hearing" else ""
    silent_s = receiver.heard_s_ago
    silence = f", silent for {duration(silent_s)}" if silent_s is not None and silent_s >= 5 else ""
    return f"{receiver.name}{adapter}: {receiver.state}, {receiver.heard_per_s:g} heard/s{scanning}{silence}{_radio(receiver)}"


def _radio(receiver: ReceiverStatus) -> str:
    """Why it is deaf and for how long, and what was tried of late."""
    radio, told = receiver.radio, ""
    if radio is None:
        return told
    if radio.cause is not None:
        told += f", {_CAUSES[radio.cause]} since {duration(radio.since_s)}"
    last = radio.last_recovery
    if last is not None and last.s_ago < _OF_LATE_S:
        result = {True: "helped", False: "did not help", None: "tried"}[last.helped]
        told += f", {last.step} {result} {duration(last.s_ago)} ago"
    return told


def _catalogue(status: Status) -> str:
    catalogue = status.catalogue
    if catalogue is None:
        return "none from central yet"
    return (
        f"{catalogue.promotions} in catalogue version {catalogue.version}, {catalogue.in_force} in force now, "
        f"expires in {duration(catalogue.expires_s)}"
    )


def _located(status: Status) -> str:
    """By what shoppers are located, where that is more than the anchors' zones."""
    if status.positioning == "model":
        return f", located by zone model {status.zone_model}"
    return ", located by positions" if status.positioning == "positions" else ""


def _offers(status: Status) -> str:
    return ", ".join(f"{status.offers.get(name, 0)} {name}" for name in ("matched", "granted", "refused", "late"))


def _outbox(status: Status) -> str:
    outbox = status.outbox
    waiting = f"{outbox.rows} events waiting" if outbox.rows else "no event waiting"
    oldest = "" if outbox.oldest_s is None else f", the oldest for {duration(outbox.oldest_s)}"
    ack = ""
    if status.state == "running":
        ack = ", no ack from central yet" if outbox.last_ack_s is None else f", last ack {duration(outbox.last_ack_s)} ago"
    return waiting + oldest + ack


def duration(seconds: float) -> str:
    """In the two largest units.

    >>> duration(4.2), duration(75), duration(7260), duration(200_000)
    ('4 s', '1 min 15 s', '2 h 1 min', '2 d 7 h')
    """
    whole = max(0, int(seconds))
    units = ((whole // 86_400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s"))
    first = next((index for index, (count, _) in enumerate(units) if count), len(units) - 1)
    return " ".join(f"{count} {unit}" for count, unit in units[first : first + 2] if count or first == len(units) - 1)
