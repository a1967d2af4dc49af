"""`gateway zone walk | check | verify | model`: zones learnt by walking through them, no dBm asked."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import completion
from gateway.cli.options import CONFIG, GatewayConfig, Json, json_shape

app = typer.Typer()
"""Part of `gateway zone`."""
model_app = typer.Typer(help="The zone models learnt from walks: each is kept, one is in force.", no_args_is_help=True)
app.add_typer(model_app, name="model")

_WORSE = 75
_MODEL = "version, in_force, made_time, origin, walks, accuracy"
_MODELS = f"models ({_MODEL}), located_by, trouble"


@app.command(
    "walk",
    epilog=json_shape(
        "kind, zone, heard, heard_per_s, duration_s, anchors, model, in_force, not_walked, accuracy, zone_accuracy, sounds_like, "
        "learning_s"
    ),
)
def walk(
    zone: Annotated[str, typer.Argument(metavar="ZONE", help="The zone to walk through.", autocompletion=completion.zones)],
    shopper: Annotated[str | None, typer.Option(metavar="NAME", help="The test shopper who walks, if there are several.")] = None,
    beacon: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Carry this registered beacon instead of a phone.", autocompletion=completion.beacons),
    ] = None,
    seconds: Annotated[int, typer.Option("--for", min=1, max=600, metavar="SECONDS", help="How long to walk.")] = 30,
    path: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y …",
            help="Marks of a path, in metres, in the order of walking: press Enter at each; may be repeated, or hold several.",
        ),
    ] = None,
    evenly: Annotated[bool, typer.Option("--evenly", help="Walk the path at one speed instead of pressing Enter.")] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Learn from the walk although it sounds like another zone.")] = False,
    config: GatewayConfig = CONFIG,
    json: Json = False,
) -> None:
    """Walk through a zone with a test shopper's phone for 30 s; the gateway learns how the zone sounds.

    Go slowly along all shelves, the phone where a shopper carries it. A bad walk is refused with the reason (exit code 75), and
    changes nothing; its JSON object is kind (refused), zone, reason, what, do. When every zone has been walked, the model is in
    force at once.

    Example: gateway zone walk dairy
    """
    from gateway.cli.walk_bar import run_walk

    if shopper is not None and beacon is not None:
        raise typer.BadParameter("walk with one of them", param_hint="--beacon")
    marks = _marks(path or [])
    if evenly and not marks:
        raise typer.BadParameter("needs --path", param_hint="--evenly")
    asked = {"zone": zone, "shopper": shopper, "beacon": beacon, "duration_s": seconds}
    run_walk(config, {**asked, "path": marks, "evenly": evenly, "anyway": anyway}, as_json=json)


@app.command(
    "check",
    epilog=json_shape(
        "zones (zone, walked_time, seconds, accuracy, announced, loudest, loudest_dbm, heard_per_s), accuracy, weak, not_walked, "
        "advice"
    ),
)
def check(
    config: GatewayConfig = CONFIG,
    json: Json = False,
) -> None:
    """Tell how well the walked zones are told apart, what is not covered, and what to do about it.

    Each part of a walk is judged by a model that was learnt without it.

    Example: gateway zone check
    """
    from gateway.cli.zone_check import run_check

    run_check(config, as_json=json)


@app.command(
    "verify",
    epilog=json_shape(
        "model, zones (zone, walked_time, seconds, accuracy, accepted, changes, changes_accepted, worse), accuracy, accepted, "
        "worse"
    ),
)
def verify(
    config: GatewayConfig = CONFIG,
    json: Json = False,
) -> None:
    """Replay the walks with the model in force; ends with 75 when it has got worse than when they were accepted.

    Example: gateway zone verify
    """
    from gateway.cli.zone_check import run_verify

    if run_verify(config, as_json=json):
        raise typer.Exit(_WORSE)


@model_app.command("list", epilog=json_shape(_MODELS))
def list_(
    config: GatewayConfig = CONFIG,
    json: Json = False,
) -> None:
    """List the kept models, how good they are, and which is in force.

    Example: gateway zone model list
    """
    from gateway.cli.zone_models import run_list

    run_list(config, as_json=json)


@model_app.command("use", epilog=json_shape(_MODELS))
def use(
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="As gateway zone model list has it; none: locate without a model.")
    ],
    config: GatewayConfig = CONFIG,
    json: Json = False,
) -> None:
    """Put a kept model in force at once, also one that does not know every zone yet.

    Example: gateway zone model use 3
    """
    from gateway.cli.zone_models import run_use

    if version != "none" and not (version.isascii() and version.isdigit() and 0 < int(version) <= 1_000_000):
        raise typer.BadParameter("is no version", param_hint="VERSION")
    run_use(config, "none" if version == "none" else int(version), as_json=json)


@model_app.command("rollback", epilog=json_shape(_MODELS))
def rollback(
    config: GatewayConfig = CONFIG,
    json: Json = False,
) -> None:
    """Put the model before the one in force in force again.

    Example: gateway zone model rollback
    """
    from gateway.cli.zone_models import run_use

    run_use(config, "previous", as_json=json)


@model_app.command("export", epilog=json_shape("version, model"))
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="It is written whole or not at all.")],
    version: Annotated[int | None, typer.Option(min=1, max=1_000_000, help="Another than the one in force.")] = None,
    config: GatewayConfig = CONFIG,
    json: Json = False,
) -> None:
    """Write the model in force to a file that gateway zone evaluate reads, too.

    Example: gateway zone model export model.json
    """
    from gateway.cli.zone_models import run_export

    run_export(config, file, version, as_json=json)


@model_app.command("import", epilog=json_shape(_MODELS))
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What gateway zone model export or zone learn wrote.")],
    config: GatewayConfig = CONFIG,
    json: Json = False,
) -> None:
    """Keep a model that was learnt elsewhere as the next version; gateway zone model use puts it in force.

    Example: gateway zone model import model.json
    """
    from gateway.cli.zone_models import run_import

    run_import(config, file, as_json=json)


def _marks(texts: list[str]) -> tuple[tuple[float, float], ...]:
    """The marks of ``1,2 4.5,2`` and the like."""
    marks = []
    for text in " ".join(texts).split():
        x, comma, y = text.partition(",")
        try:
            mark = float(x), float(y)
        except ValueError as error:
            raise typer.BadParameter(f"{text[:40]!r} is no X,Y in metres", param_hint="--path") from error
        if not comma or not all(-10_000 <= value <= 10_000 for value in mark):
            raise typer.BadParameter(f"{text[:40]!r} is no place in a shop", param_hint="--path")
        marks.append(mark)
    if len(marks) == 1:
        raise typer.BadParameter("a path has at least two marks", param_hint="--path")
    return tuple(marks)
