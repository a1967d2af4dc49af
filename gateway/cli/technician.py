"""`gateway test-shopper`: the technician's own phone goes the real path, for some hours, outside of caps and counts."""

import asyncio
import contextlib
import sys
from pathlib import Path

from pydantic import ValidationError

from gateway.cli.in_place import InPlace
from gateway.cli.reach import Gateway
from gateway.cli.status import duration
from gateway.contract.control import (
    AddTechnicianRequest,
    RemoveTechnicianRequest,
    Technician,
    Technicians,
    TechniciansRequest,
)
from gateway.contract.fields import Strict, explain
from gateway.core.sanitiser import printable
from gateway.errors import TryAgain, WrongCommand
from gateway.io.clock import SystemClock
from gateway.io.keys import KEY_BYTES, shopper_key


def add(config: Path, name: str, key_file: Path, hours: float, *, as_json: bool) -> None:
    """Recognise the phone that holds the key in ``key_file``, made when it does not exist."""
    gateway = Gateway(config)
    # Before the key is made, which a command that is refused would leave behind.
    _added(name, bytes(KEY_BYTES), hours)
    _ask(gateway, TechniciansRequest())
    known = _ask(gateway, _added(name, shopper_key(key_file), hours))
    if as_json:
        _print_json(known)
        return
    print(f"{name} is recognised for {duration(hours * 3600)}: put the key in {printable(key_file)} into the app's test mode.")
    print(f"Offers reach its app only if central knows the key too: gateway central enrol {name} --key-file … --test --store …")


def _added(name: str, key: bytes, hours: float) -> AddTechnicianRequest:
    try:
        return AddTechnicianRequest(name=name, key=key.hex(), duration_s=round(hours * 3600))
    except ValidationError as error:
        raise WrongCommand(explain(error)) from error


def remove(config: Path, name: str, *, as_json: bool) -> None:
    """Recognise it no longer."""
    try:
        request = RemoveTechnicianRequest(name=name)
    except ValidationError as error:
        raise WrongCommand("there is no test shopper of this name.", where=printable(name)) from error
    known = _ask(Gateway(config), request)
    if as_json:
        _print_json(known)
    else:
        print(f"{name} is no longer recognised.")


def show(config: Path, *, as_json: bool) -> None:
    """Where each test shopper is."""
    known = _ask(Gateway(config), TechniciansRequest())
    if as_json:
        _print_json(known)
    else:
        print("\n".join(_screen(known)))


def watch(config: Path, seconds: int) -> None:
    """The same once a second, until Ctrl-C; on a terminal in place."""
    gateway, clock = Gateway(config), SystemClock()
    picture = InPlace() if sys.stdout.isatty() else None
    with contextlib.suppress(KeyboardInterrupt):
        for _ in range(seconds):
            lines = _screen(_ask(gateway, TechniciansRequest()))
            if picture is not None:
                picture.draw(lines)
            else:
                print("\n".join(lines), flush=True)
            asyncio.run(clock.sleep_ms(1000))


def _ask(gateway: Gateway, request: Strict) -> Technicians:
    known = gateway.ask(request, Technicians)
    if known is None:
        raise TryAgain("no gateway is running, and only a running one meets test shoppers.", do="sudo systemctl start gateway")
    return known


def _print_json(known: Technicians) -> None:
    print(known.model_dump_json(indent=2))


def _screen(known: Technicians) -> list[str]:
    if not known.test_shoppers:
        return ["no test shopper; add one: gateway test-shopper add NAME --key-file FILE"]
    return [line for shopper in known.test_shoppers for line in _lines(shopper)]


def _lines(shopper: Technician) -> list[str]:
    if shopper.heard_s_ago is None:
        return [f"{shopper.name}: not heard yet"]
    lines = [f"{shopper.name}: {shopper.zone or 'in no zone'}, heard {duration(shopper.heard_s_ago)} ago"]
    lines += [f"  {zone:<20} {p:>5.0%}  {'#' * round(p * 30)}" for zone, p in list(shopper.belief.items())[:5]]
    lines += [f"  {heard.anchor:<20} {heard.level_dbm:>4.0f} dBm by {heard.source}" for heard in shopper.anchors]
    if shopper.last_offers:
        lines.append(f"  offered: {', '.join(shopper.last_offers)}")
    return [printable(line) for line in lines]
