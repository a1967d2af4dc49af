"""`gateway receiver test`: listen to one receiver through the running gateway, and say whether it hears."""

from pathlib import Path

from pydantic import ValidationError

from gateway.cli.change import print_json
from gateway.cli.columns import columns
from gateway.cli.reach import Gateway
from gateway.cli.why import seconds_of
from gateway.contract.control import ReceiverTested, TestReceiverRequest
from gateway.core.sanitiser import printable
from gateway.errors import TryAgain, WrongCommand

_SHORTEST_S, _LONGEST_S = 1, 300
_PATIENCE_S = 30.0


def run_test(config: Path, name: str, duration: str, *, as_json: bool) -> bool:
    """Print what was heard; returns whether anything was. ``TryAgain`` when no gateway runs."""
    duration_s = seconds_of(duration)
    if not _SHORTEST_S <= duration_s <= _LONGEST_S:
        raise WrongCommand(f"--for {printable(duration, 20)} is too long; at most 5m.")
    try:
        request = TestReceiverRequest(name=name, duration_s=duration_s)
    except ValidationError as error:
        raise WrongCommand(f"{printable(name, 60)} is no name of a receiver.") from error
    gateway = Gateway(config)
    if not as_json:
        print(f"listening to {name} for {duration_s} s …", flush=True)
    tested = gateway.ask(request, ReceiverTested, timeout_s=duration_s + _PATIENCE_S)
    if tested is None:
        raise TryAgain("the gateway is not running, so nothing is heard.", do="sudo systemctl start gateway, then try again.")
    if as_json:
        print_json(tested)
    else:
        print("\n".join(_lines(tested)))
    return tested.hears


def _lines(tested: ReceiverTested) -> list[str]:
    lines = [f"{tested.heard} advertisements, {tested.heard_per_s:g} per second"]
    if tested.beacons:
        rows = [(one.beacon, str(one.count), f"{one.median_dbm} dBm") for one in tested.beacons]
        lines += ["", *columns(("beacon", "heard", "median"), rows), ""]
    elif tested.hears:
        lines.append("no beacon of the shop among them")
    lines.append(printable(tested.said, limit=400))
    if tested.do:
        lines.append(f"next: {printable(tested.do, limit=400)}")
    return lines
