"""`gateway zone model`: the models that were learnt from walks, as the running daemon or its files have them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

from gateway.cli.change import print_json
from gateway.cli.columns import columns
from gateway.cli.reach import Gateway
from gateway.contract.recording import MAX_MODEL_BYTES, read_model
from gateway.contract.walks import (
    ExportModelRequest,
    ImportModelRequest,
    ModelExported,
    ModelKept,
    Models,
    ModelsRequest,
    UseModelRequest,
)
from gateway.core.sanitiser import printable
from gateway.core.timetable import local_time
from gateway.errors import ConfigurationError
from gateway.io.clock import SystemClock
from gateway.io.input_file import read_input
from gateway.io.whole_file import write_whole

if TYPE_CHECKING:
    from gateway.daemon.kept_walks import KeptWalks

_LARGEST = 3_500_000
_BY = {
    "model": "by the model in force",
    "positions": "by the receivers' positions",
    "anchors": "by which anchor belongs to which zone",
}


def run_list(config: Path, *, as_json: bool) -> None:
    """Print the kept models."""
    gateway = Gateway(config)
    models = gateway.ask(ModelsRequest(), Models)
    if models is None:
        with _kept(gateway) as kept:
            models = Models(models=kept.models())
    if as_json:
        print_json(models)
    else:
        _show(models, ZoneInfo(gateway.settings.time_zone))


def run_use(config: Path, version: int | Literal["previous", "none"], *, as_json: bool) -> None:
    """Choose a model, and print them."""
    gateway = Gateway(config)
    models = gateway.ask(UseModelRequest(version=version), Models)
    if models is None:
        with _kept(gateway) as kept:
            kept.use(version)
            models = Models(models=kept.models())
    if as_json:
        print_json(models)
        return
    chosen = next((one for one in models.models if one.in_force), None)
    when = "from now on" if models.located_by is not None else "when it starts; it is not running"
    what = f"with zone model {chosen.version}" if chosen else "without a zone model"
    print(f"the gateway locates {what} {when}")
    if models.trouble is not None:
        print(f"note: {printable(models.trouble, limit=400)}")


def run_export(config: Path, file: Path, version: int | None, *, as_json: bool) -> None:
    """Write a model."""
    gateway = Gateway(config)
    exported = gateway.ask(ExportModelRequest(version=version), ModelExported)
    if exported is None:
        with _kept(gateway) as kept:
            exported = kept.export(version)
    write_whole(file, exported.model, do="Check the folder.")
    if as_json:
        print_json(exported)
    else:
        print(f"zone model {exported.version}: {printable(str(file))}")


def run_import(config: Path, file: Path, *, as_json: bool) -> None:
    """Keep a model as the next version."""
    where = printable(str(file))
    octets = read_input(file, min(_LARGEST, MAX_MODEL_BYTES))
    if len(octets) > _LARGEST:
        raise ConfigurationError("is larger than a model that can be imported.", where=where, do="Learn it with fewer receivers.")
    read_model(octets, where)
    text = octets.decode()
    gateway = Gateway(config)
    models = gateway.ask(ImportModelRequest(model=text), Models)
    if models is None:
        with _kept(gateway) as kept:
            kept.take(text, SystemClock().now().wall_ms)
            models = Models(models=kept.models())
    if as_json:
        print_json(models)
        return
    newest = models.models[0].version
    print(f"kept as zone model {newest}; put it in force: gateway zone model use {newest}")


@contextmanager
def _kept(gateway: Gateway) -> "Iterator[KeptWalks]":
    """Its files, while no daemon runs; as their owner."""
    from gateway.daemon.kept_walks import KeptWalks

    with gateway.as_service_user():
        yield KeptWalks(gateway.settings)


def _show(models: Models, time_zone: tzinfo) -> None:
    if not models.models:
        print("no zone model yet; walk the zones: gateway zone walk ZONE")
    else:
        print("\n".join(columns(("model", "in force", "made", "from", "right"), [_row(one, time_zone) for one in models.models])))
    if models.located_by is not None:
        print(f"shoppers are located {_BY[models.located_by]}")
    if models.trouble is not None:
        print(f"note: {printable(models.trouble, limit=400)}")


def _row(one: ModelKept, time_zone: tzinfo) -> tuple[object, ...]:
    made = None if one.made_time is None else f"{local_time(one.made_time, time_zone):%Y-%m-%d %H:%M}"
    origin = {"walks": f"{len(one.walks)} walks", "import": "a file", "unknown": None}[one.origin]
    return one.version, one.in_force, made, origin, None if one.accuracy is None else f"{one.accuracy:.0%}"
