"""`gateway receiver`: what hears the shopper's phone."""

from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import completion
from gateway.cli.options import CHANGED_KEYS, CONFIG, GatewayConfig, Json, json_shape

if TYPE_CHECKING:
    from gateway.cli.reach import Gateway
    from gateway.contract.shop import ShopFile
    from gateway.contract.shop_view import ReceiverView

app = typer.Typer(help="Receivers: what hears the shopper's phone, such as this machine's adapters.", no_args_is_help=True)

_VIEW = "name, zone, covers, at, in_shop, in_settings, adapter, foreign, gateway"
_TRIAL = "receiver, duration_s, heard, heard_per_s, beacons (beacon, count, median_dbm), beacons_near, hears, said, do"
NOTHING_HEARD_EXIT_CODE = 69


@app.command("add", epilog=json_shape(f"{CHANGED_KEYS}, receiver ({_VIEW})"))
def add(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="As in [[receivers]] of the settings, such as pi.", autocompletion=completion.settings_receivers
        ),
    ],
    zone: Annotated[
        str | None,
        typer.Option(help="Where it stands; a phone that it hears loudest is there.", autocompletion=completion.zones),
    ] = None,
    covers: Annotated[
        list[str] | None,
        typer.Option(
            help="A zone from which it hears phones, too; may be repeated. Neither: it hears the whole shop.",
            autocompletion=completion.zones,
        ),
    ] = None,
    at: Annotated[str | None, typer.Option(metavar="X,Y", help="Where it hangs, metres of the shop's plan.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Change an existing receiver: what is given here, no more.")] = False,
    config: GatewayConfig = CONFIG,
    json: Json = False,
) -> None:
    """Give a receiver its place, or change it with --replace; a running gateway uses it at once.

    Example: gateway receiver add pi --zone dairy --covers entrance
    """
    from gateway.cli.change import change, print_changed, print_json
    from gateway.cli.places import place_of
    from gateway.cli.reach import Gateway
    from gateway.contract.shop_edits import with_anchor
    from gateway.contract.shop_view import ReceiverChanged
    from gateway.core.sanitiser import printable

    gateway = Gateway(config)
    before = gateway.shop()
    options = {
        "zone": zone,
        "covers": tuple(dict.fromkeys(covers)) if covers else None,
        "at": None if at is None else place_of(at, "--at"),
    }
    given = {field: value for field, value in options.items() if value is not None}
    after = with_anchor(before.shop, "receiver", name, given, replace=replace)
    changed = change(gateway, before, after)
    receiver = next(view for view in _views(after, gateway) if view.name == name)
    if json:
        print_json(ReceiverChanged(**changed.model_dump(), receiver=receiver))
        return
    print_changed(changed, before.shop, after)
    if not receiver.in_settings and receiver.gateway is None:
        print(f"note: {name} is no adapter of this machine: no [[receivers]] of {printable(gateway.config)} has this name")


@app.command("list", epilog=json_shape(f"receivers ({_VIEW})"))
def list_(
    config: GatewayConfig = CONFIG,
    json: Json = False,
) -> None:
    """List the receivers of the shop and of the settings.

    Example: gateway receiver list
    """
    from gateway.cli.change import print_json
    from gateway.cli.columns import columns
    from gateway.cli.reach import Gateway
    from gateway.contract.shop_view import Receivers

    gateway = Gateway(config)
    views = _views(gateway.shop().shop, gateway)
    if json:
        print_json(Receivers(receivers=tuple(views)))
    elif not views:
        print("no receivers yet; add one: gateway receiver add NAME --zone ZONE")
    else:
        # Where nobody has written down a place the column would be empty.
        shown = 6 if any(view.at is not None for view in views) else 5
        rows = [(view.name, view.zone, view.covers, _adapter(view), _remark(view), view.at)[:shown] for view in views]
        print("\n".join(columns(("receiver", "zone", "covers", "adapter", "remark", "at")[:shown], rows)))


@app.command("remove", epilog=json_shape(CHANGED_KEYS))
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A receiver of the shop.", autocompletion=completion.receivers)],
    config: GatewayConfig = CONFIG,
    json: Json = False,
) -> None:
    """Take a receiver out of the shop; what it hears of shoppers is dropped.

    Example: gateway receiver remove back
    """
    from gateway.cli.change import remove_anchor

    remove_anchor(config, "receiver", name, as_json=json)


@app.command("test", epilog=json_shape(_TRIAL))
def test(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Any receiver of the shop or the settings.", autocompletion=completion.any_receivers),
    ],
    duration: Annotated[str, typer.Option("--for", metavar="TIME", help="How long to listen: 10s to 5m.")] = "30s",
    config: GatewayConfig = CONFIG,
    json: Json = False,
) -> None:
    """Listen to one receiver and say whether it hears: an adapter, a foreign one, or another gateway's; 69 when it hears nothing.

    Example: gateway receiver test cellar --for 30s
    """
    from gateway.cli.receiver_test import run_test

    if not run_test(config, name, duration, as_json=json):
        raise typer.Exit(NOTHING_HEARD_EXIT_CODE)


def _views(shop: "ShopFile", gateway: "Gateway") -> "list[ReceiverView]":
    """Those of the shop, then those of the settings that stand nowhere."""
    from gateway.contract.control import Status, StatusRequest
    from gateway.contract.shop import ReceiverEntry
    from gateway.contract.shop_view import ReceiverView

    settings = gateway.settings
    adapters = {receiver.name: receiver.adapter for receiver in settings.receivers}
    running = gateway.ask(StatusRequest(), Status)
    elsewhere = {} if running is None else {receiver.name: receiver.gateway for receiver in running.receivers if receiver.gateway}
    here = settings.receivers_of(
        name for name, entry in shop.anchors.items() if isinstance(entry, ReceiverEntry) and name not in elsewhere
    )
    foreign = {name: source for name, source in here.items() if name not in adapters}
    known = {name: entry for name, entry in sorted(shop.anchors.items()) if isinstance(entry, ReceiverEntry)}
    views = [
        ReceiverView(
            name=name,
            zone=entry.zone,
            covers=tuple(sorted(entry.covers)),
            at=entry.at,
            in_shop=True,
            in_settings=name in here,
            adapter=adapters.get(name),
            foreign=foreign.get(name),
            gateway=elsewhere.get(name),
        )
        for name, entry in known.items()
    ]
    return views + [
        ReceiverView(
            name=name,
            zone=None,
            covers=(),
            at=None,
            in_shop=False,
            in_settings=name in here,
            adapter=adapters.get(name),
            foreign=foreign.get(name),
            gateway=elsewhere.get(name),
        )
        for name in sorted({*here, *elsewhere})
        if name not in known
    ]


def _adapter(view: "ReceiverView") -> str | None:
    if view.foreign or view.gateway:
        return view.foreign or f"gateway {view.gateway}"
    return view.adapter or ("default" if view.in_settings else None)


def _remark(view: "ReceiverView") -> str:
    if not view.in_shop:
        return f"stands nowhere: gateway receiver add {view.name} --zone ZONE"
    whole = "hears the whole shop" if view.zone is None and not view.covers else ""
    return "; ".join(filter(None, (whole, "" if view.in_settings or view.gateway else "not of this machine")))
