"""`gateway beacon`: the fixed beacons of the shop."""

from typing import Annotated

import typer

from gateway.cli import completion
from gateway.cli.options import CHANGED_KEYS, CONFIG, GatewayConfig, Json, json_shape

app = typer.Typer(help="Fixed beacons at known places: iBeacons, which the app tells of, and others.", no_args_is_help=True)

_COLUMNS = ("zone", "uuid", "major", "minor", "namespace", "instance", "beacon_id", "at")
_VIEW = "name, zone, uuid, major, minor, at, namespace, instance, beacon_id"
_HEALTH = (
    "beacons (name, zone, state, since_s, heard_s_ago, links, battery, reboots, uptime_s, promotions, paused), "
    "receivers (name, hearing, since_s, canaries, silent, shift_db), blind_zones (name, promotions)"
)


@app.command("add", epilog=json_shape(f"{CHANGED_KEYS}, beacon ({_VIEW})"))
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Small letters, digits, - and _, such as shelf-7.")],
    zone: Annotated[str | None, typer.Option(help="Where it stands.", autocompletion=completion.zones)] = None,
    uuid: Annotated[str | None, typer.Option(help="Of an iBeacon; without it chain.beacon_uuid of the settings.")] = None,
    major: Annotated[int | None, typer.Option(min=0, max=65_535, help="Without it what most beacons have.")] = None,
    minor: Annotated[int | None, typer.Option(min=1, max=65_534, help="Without it the next free; unique in the shop.")] = None,
    namespace: Annotated[
        str | None, typer.Option(metavar="HEX", help="Of a beacon that sends only Eddystone-UID: 10 octets, with --instance.")
    ] = None,
    instance: Annotated[str | None, typer.Option(metavar="HEX", help="6 octets, with --namespace.")] = None,
    beacon_id: Annotated[str | None, typer.Option(metavar="HEX", help="Of one that sends only AltBeacon: 20 octets.")] = None,
    at: Annotated[str | None, typer.Option(metavar="X,Y", help="Where it hangs, metres of the shop's plan.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Change an existing beacon: what is given here, no more.")] = False,
    config: GatewayConfig = CONFIG,
    json: Json = False,
) -> None:
    """Register a beacon, or change one with --replace; says what to write into it. A running gateway uses it at once.

    A beacon is known by one key, also when it sends several formats. By an iBeacon's the app can tell of it; by Eddystone-UID or
    AltBeacon it only tells how the radio fares.

    Example: gateway beacon add shelf-7 --zone dairy
    """
    from gateway.cli.change import change, print_changed, print_json
    from gateway.cli.places import place_of
    from gateway.cli.reach import Gateway
    from gateway.contract.shop import KEYS, BeaconEntry
    from gateway.contract.shop_edits import next_minor, usual_major, with_anchor
    from gateway.contract.shop_view import BeaconChanged, beacon_view
    from gateway.errors import WrongCommand

    gateway = Gateway(config)
    before = gateway.shop()
    options = {
        "zone": zone,
        "uuid": uuid,
        "major": major,
        "minor": minor,
        "at": None if at is None else place_of(at, "--at"),
        "namespace": namespace,
        "instance": instance,
        "beacon_id": beacon_id,
    }
    given: dict[str, object] = {field: value for field, value in options.items() if value is not None}
    is_new = name not in before.shop.anchors
    if is_new and zone is None:
        raise WrongCommand("a new beacon stands somewhere.", where=name, do="Name its zone: --zone ZONE.")
    if is_new and given.keys().isdisjoint((*KEYS["Eddystone-UID"], *KEYS["AltBeacon"])):
        chain_uuid = uuid or gateway.settings.chain.beacon_uuid
        if chain_uuid is None:
            raise WrongCommand("its UUID is not known.", where=name, do="Give --uuid, or set chain.beacon_uuid in the settings.")
        given["uuid"] = chain_uuid
        given.setdefault("major", usual_major(before.shop))
        if minor is None:
            given["minor"] = next_minor(before.shop)
    after = with_anchor(before.shop, "beacon", name, given, replace=replace)
    changed = change(gateway, before, after)
    entry = after.anchors[name]
    assert isinstance(entry, BeaconEntry)
    beacon = beacon_view(name, entry)
    if json:
        print_json(BeaconChanged(**changed.model_dump(), beacon=beacon))
        return
    print_changed(changed, before.shop, after)
    key = [f"{field.replace('_', ' ')} {getattr(beacon, field)}" for field in KEYS[entry.format]]
    print(f"next: let it transmit {entry.format} {', '.join(key).removeprefix('uuid ')}")


@app.command("list", epilog=json_shape(f"beacons ({_VIEW})"))
def list_(
    config: GatewayConfig = CONFIG,
    json: Json = False,
) -> None:
    """List the fixed beacons.

    Example: gateway beacon list
    """
    from gateway.cli.change import print_json
    from gateway.cli.columns import columns
    from gateway.cli.reach import Gateway
    from gateway.contract.shop import BeaconEntry
    from gateway.contract.shop_view import Beacons, beacon_view

    anchors = Gateway(config).shop().shop.anchors
    views = [beacon_view(name, entry) for name, entry in sorted(anchors.items()) if isinstance(entry, BeaconEntry)]
    if json:
        print_json(Beacons(beacons=tuple(views)))
    elif not views:
        print("no beacons yet; add one: gateway beacon add NAME --zone ZONE")
    else:
        # A column that is empty in every row, as that of the place often is, would only be in the way.
        always = ("zone", "uuid", "major", "minor")
        fields = [f for f in _COLUMNS if f in always or any(getattr(beacon, f) is not None for beacon in views)]
        rows = [(beacon.name, *(getattr(beacon, field) for field in fields)) for beacon in views]
        print("\n".join(columns(("beacon", *(field.replace("_", " ") for field in fields)), rows)))


@app.command("health", epilog=json_shape(_HEALTH))
def health(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only this beacon.", autocompletion=completion.beacons)
    ] = None,
    config: GatewayConfig = CONFIG,
    json: Json = False,
) -> None:
    """Show how the beacons fare, who hears them how well, and the zones and promotions that hang on them.

    Example: gateway beacon health
    """
    from gateway.cli.beacon_health import show

    show(config, name, as_json=json)


@app.command("relearn", epilog=json_shape(_HEALTH))
def relearn(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A beacon of the shop.", autocompletion=completion.beacons)],
    config: GatewayConfig = CONFIG,
    json: Json = False,
) -> None:
    """Take a beacon as right where it is now: what is usual of it is learnt anew, within half an hour.

    Example: gateway beacon relearn shelf-7
    """
    from gateway.cli.beacon_health import relearn_beacon

    relearn_beacon(config, name, as_json=json)


@app.command("remove", epilog=json_shape(CHANGED_KEYS))
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A beacon of the shop.", autocompletion=completion.beacons)],
    config: GatewayConfig = CONFIG,
    json: Json = False,
) -> None:
    """Forget a beacon; what apps tell of it does not count any more.

    Example: gateway beacon remove shelf-7
    """
    from gateway.cli.change import remove_anchor

    remove_anchor(config, "beacon", name, as_json=json)
