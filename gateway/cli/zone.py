"""`gateway zone`: the named areas of the shop."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import completion
from gateway.cli.options import CHANGED_KEYS, CONFIG, GatewayConfig, Json, json_shape

if TYPE_CHECKING:
    from gateway.cli.reach import Gateway

app = typer.Typer(help="Zones: the named areas of the shop.", no_args_is_help=True)

_TIMES = "enter_after_s, exit_delay_s, stale_s, dwell_s"
_VIEW = f"name, title, tags, neighbours, sensitive, enter_dbm, {_TIMES}, corners, anchors, covered_by"
_ABSENT = {
    "neighbours": "not known",
    "enter_dbm": "as usual",
    "enter_after_s": "as in the settings",
    "stale_s": "as exit_delay_s",
    "corners": "not drawn",
}
Known = Annotated[str, typer.Argument(metavar="NAME", help="A zone of the shop.", autocompletion=completion.zones)]


@app.command("add", epilog=json_shape(f"{CHANGED_KEYS}, zone ({_VIEW})"))
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Small letters, digits, - and _, such as dairy.")],
    title: Annotated[str | None, typer.Option(help="What people read.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Promotions may name it instead of the zone; may be repeated.")] = None,
    neighbour: Annotated[
        list[str] | None,
        typer.Option(help="A zone next to it, which gets this one too; may be repeated.", autocompletion=completion.zones),
    ] = None,
    no_neighbours: Annotated[bool, typer.Option("--no-neighbours", help="It is known to have none.")] = False,
    sensitive: Annotated[
        bool | None, typer.Option("--sensitive/--not-sensitive", help="Offer only where a receiver hears the shopper.")
    ] = None,
    enter_dbm: Annotated[
        float | None, typer.Option(help="Heard weaker than this by the zone's own anchors counts as outside. Seldom needed.")
    ] = None,
    enter_after_s: Annotated[
        float | None, typer.Option(help="For so long somebody must be believed here to have entered. Usual: as in the settings.")
    ] = None,
    exit_delay_s: Annotated[
        int | None, typer.Option(help="Silence, or being heard elsewhere, for this long ends the stay. Usual: 120.")
    ] = None,
    stale_s: Annotated[
        int | None, typer.Option(help="Silence for this long ends the stay, where that is not --exit-delay-s.")
    ] = None,
    dwell_s: Annotated[
        list[int] | None, typer.Option(help="A stay of this length is announced; may be repeated. Usual: 60.")
    ] = None,
    corner: Annotated[
        list[str] | None,
        typer.Option(metavar="X,Y", help="A corner of its outline, metres; three or more, in order. Without: not drawn."),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Change an existing zone: what is given here, no more.")] = False,
    config: GatewayConfig = CONFIG,
    json: Json = False,
) -> None:
    """Add a zone, or change one with --replace; a running gateway uses it at once.

    Example: gateway zone add dairy --title Dairy --tag chilled --neighbour entrance
    """
    if no_neighbours and neighbour:
        raise typer.BadParameter("is the opposite of --neighbour", param_hint="--no-neighbours")
    from gateway.cli.places import place_of

    options = {
        "title": title,
        "tags": _each_once(tag),
        "neighbours": () if no_neighbours else _each_once(neighbour),
        "sensitive": sensitive,
        "enter_dbm": enter_dbm,
        "enter_after_s": enter_after_s,
        "exit_delay_s": exit_delay_s,
        "stale_s": stale_s,
        "corners": tuple(place_of(text, "--corner") for text in corner) if corner else None,
        "dwell_s": _each_once(dwell_s),
    }
    _add(config, name, {field: value for field, value in options.items() if value is not None}, replace=replace, as_json=json)


@app.command("list", epilog=json_shape(f"zones ({_VIEW})"))
def list_(
    config: GatewayConfig = CONFIG,
    json: Json = False,
) -> None:
    """List the zones.

    Example: gateway zone list
    """
    from gateway.cli.change import print_json
    from gateway.cli.columns import columns
    from gateway.cli.reach import Gateway
    from gateway.contract.shop_view import Zones, zone_view

    shop = Gateway(config).shop().shop
    zones = Zones(zones=tuple(zone_view(shop, name) for name in sorted(shop.zones)))
    if json:
        print_json(zones)
    elif not zones.zones:
        print("no zones yet; add one: gateway zone add NAME")
    else:
        rows = [(zone.name, zone.title, zone.anchors, zone.neighbours, zone.tags, zone.sensitive) for zone in zones.zones]
        print("\n".join(columns(("zone", "title", "anchors", "neighbours", "tags", "sensitive"), rows)))


@app.command("show", epilog=json_shape(f"{_VIEW}, promotions (promotion_id, title, kind, priority, in_force)"))
def show(
    name: Known,
    config: GatewayConfig = CONFIG,
    json: Json = False,
) -> None:
    """Show one zone: its settings, its anchors and the promotions that name it.

    Example: gateway zone show dairy
    """
    _show(config, name, as_json=json)


@app.command("remove", epilog=json_shape(CHANGED_KEYS))
def remove(
    name: Known,
    cascade: Annotated[
        bool, typer.Option("--cascade", help="With the anchors that stand in it, and receivers that cover nothing else.")
    ] = False,
    config: GatewayConfig = CONFIG,
    json: Json = False,
) -> None:
    """Remove a zone, also from its neighbours; refused while anchors stand in it or cover it.

    Example: gateway zone remove dairy
    """
    from gateway.cli.change import change, print_changed, print_json
    from gateway.cli.reach import Gateway
    from gateway.contract.shop_edits import without_zone

    gateway = Gateway(config)
    before = gateway.shop()
    after = without_zone(before.shop, name, cascade=cascade)
    changed = change(gateway, before, after)
    if json:
        print_json(changed)
        return
    print_changed(changed, before.shop, after)
    _warn_of_promotions(gateway, name)


_SCORE = (
    "shoppers, ticks, accuracy, accuracy_1m, changes, true_changes, changes_per_true_change, changes_per_10min, stays, "
    "wrong_stays, enter_delay_s"
)
Recordings = Annotated[
    list[Path], typer.Argument(metavar="RECORDING…", help="JSON lines, one sighting each: t, shopper, anchor, rssi, zone, x, y.")
]
Anchors = Annotated[
    Path | None, typer.Option("--anchors", metavar="FILE", help="Where anchors and zones are (JSON), as far as it is known.")
]


@app.command("learn", epilog=json_shape("model, anchors, zones, cells, cell_m, learns"))
def learn(
    recordings: Recordings,
    out: Annotated[Path, typer.Option("--out", metavar="MODEL", help="The model's file; it is written whole or not at all.")],
    anchors: Anchors = None,
    json: Json = False,
) -> None:
    """Learn from recordings how loud each anchor is where, and write the zone model.

    Example: gateway zone learn survey.jsonl --anchors anchors.json --out model.json
    """
    from gateway.cli.zone_measure import run_learn

    run_learn(recordings, anchors, out, as_json=json)


@app.command("evaluate", epilog=json_shape(f"recordings ({_SCORE}, recording), total ({_SCORE}, interval_90)"))
def evaluate(
    recordings: Recordings,
    model: Annotated[Path | None, typer.Option("--model", metavar="MODEL", help="What gateway zone learn wrote.")] = None,
    anchors: Anchors = None,
    json: Json = False,
) -> None:
    """Compare the zones that would have been announced with the true ones of recordings.

    Example: gateway zone evaluate --model model.json walk-1.jsonl walk-2.jsonl
    """
    from gateway.cli.zone_measure import run_evaluate

    if (model is None) == (anchors is None):
        raise typer.BadParameter("give either --model or --anchors", param_hint="--model")
    run_evaluate(recordings, model, anchors, as_json=json)


def _add(config: Path, name: str, given: dict[str, object], *, replace: bool, as_json: bool) -> None:
    from gateway.cli.change import change, print_changed, print_json
    from gateway.cli.located_zones import located
    from gateway.cli.reach import Gateway
    from gateway.contract.control import Status, StatusRequest
    from gateway.contract.shop_edits import with_zone
    from gateway.contract.shop_view import ZoneChanged, zone_view

    gateway = Gateway(config)
    before = gateway.shop()
    after = with_zone(before.shop, name, given, replace=replace)
    changed = change(gateway, before, after)
    zone = zone_view(after, name)
    if as_json:
        print_json(ZoneChanged(**changed.model_dump(), zone=zone))
        return
    print_changed(changed, before.shop, after)
    if name not in located(gateway, after, gateway.ask(StatusRequest(), Status)):
        print(f"next: nobody is located in {name} before an anchor stands there: gateway beacon add NAME --zone {name}")


def _warn_of_promotions(gateway: "Gateway", name: str) -> None:
    from gateway.contract.control import CatalogueInForce, CatalogueRequest
    from gateway.core.spelling import listed

    catalogue = gateway.ask(CatalogueRequest(), CatalogueInForce)
    naming = [each.promotion.promotion_id for each in catalogue.promotions if name in each.promotion.zones] if catalogue else []
    if naming:
        print(f"note: promotions still name {name} and are not offered there any more: {listed(naming)}")


def _show(config: Path, name: str, *, as_json: bool) -> None:
    from gateway.cli.catalogue import catalogue_of, title_of
    from gateway.cli.change import print_json
    from gateway.cli.columns import columns, text_of
    from gateway.cli.reach import Gateway
    from gateway.contract.shop_view import PromotionHere, ZoneView, ZoneWithPromotions, zone_view
    from gateway.core.spelling import no_such
    from gateway.errors import WrongCommand

    gateway = Gateway(config)
    shop = gateway.shop().shop
    if name not in shop.zones:
        raise WrongCommand(no_such("zone", name, shop.zones))
    catalogue, reason = catalogue_of(gateway)
    here = tuple(
        PromotionHere(
            promotion_id=each.promotion.promotion_id,
            title=each.promotion.long_title,
            kind=each.promotion.kind,
            priority=each.promotion.priority,
            in_force=each.in_force,
        )
        for each in catalogue.promotions
        if name in each.zones
    )
    zone = ZoneWithPromotions(**zone_view(shop, name).model_dump(), promotions=here)
    if as_json:
        print_json(zone)
        return
    for field in ZoneView.model_fields:
        value = getattr(zone, field)
        absent = _ABSENT.get(field, text_of(None)) if value is None else "none" if value == () else text_of(value)
        print(f"{field:<14}{absent}")
    if not here:
        print(f"promotions    {reason or 'none name it'}")
        return
    rows = [(each.promotion_id, each.kind, each.priority, each.in_force, title_of(each.title)) for each in here]
    print("", *columns(("promotion", "kind", "priority", "in force", "title"), rows), sep="\n")


def _each_once(values: Sequence[object] | None) -> tuple[object, ...] | None:
    return tuple(dict.fromkeys(values)) if values else None
