"""`gateway central health`: how beacons and receivers fare in all stores, as central knows it."""

import json
from pathlib import Path
from typing import Any

from gateway.central import records
from gateway.central.records import CENTRAL
from gateway.cli.central import check_store
from gateway.cli.change import print_json
from gateway.cli.columns import columns
from gateway.contract.fields import to_rfc3339
from gateway.contract.health_view import CentralHealth, FaresView
from gateway.contract.settings import CentralSettings, read_settings
from gateway.core.sanitiser import printable
from gateway.io.store.database import transact


def show(config: Path, store: str | None, *, as_json: bool) -> None:
    """One line for each beacon, battery and receiver that a gateway ever told of."""
    settings = read_settings(config, CentralSettings)
    if store is not None:
        check_store(settings, store)
    found, given_up = transact(
        settings.state_dir / "central.db", CENTRAL, lambda db: (records.health(db, store), records.given_up(db, store))
    )
    views = tuple(_view(fares) for fares in found)
    if as_json:
        print_json(CentralHealth(fares=views))
        return
    if not views:
        print("no gateway has told of a beacon or a receiver that is not as usual")
    else:
        rows = [(view.store, view.subject, view.name, view.zone, view.state, _time(view), _about(view.data)) for view in views]
        print("\n".join(columns(("store", "what", "name", "zone", "state", "told", "about"), rows)))
    for one in given_up:
        print(_never_comes(one))


def _never_comes(one: records.GivenUp) -> str:
    events = "1 event" if one.events == 1 else f"{one.events} events"
    times = f"{to_rfc3339(one.first_ms)[:19]}Z … {to_rfc3339(one.last_ms)[:19]}Z"
    return f"gateway {one.gateway} of store {one.store} gave up {events} ({times}): gateway doctor there may say why"


def _view(fares: records.Fares) -> FaresView:
    told = json.loads(fares.data)
    return FaresView.model_validate(
        {
            "store": fares.store,
            "subject": fares.subject,
            "name": fares.name,
            "gateway": fares.gateway,
            "state": fares.state,
            "told_time": fares.time_ms,
            "zone": told.get("zone"),
            "data": told,
        }
    )


def _time(view: FaresView) -> str:
    return str(view.model_dump(mode="json")["told_time"])


def _about(told: dict[str, Any]) -> str | None:
    if "cause" in told:
        tried = "" if "step" not in told else f" ({told['step']}{_HELPED[told.get('helped')]})"
        return printable(f"{told['cause']}{tried}", 120)
    parts = [f"{told[key]:g} {unit}" for key, unit in (("battery_v", "V"), ("battery_percent", "%")) if key in told]
    return ", ".join(parts) or None


_HELPED = {True: " helped", False: " did not help", None: " tried"}
