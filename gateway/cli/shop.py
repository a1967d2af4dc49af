"""`gateway shop`: the whole shop, zones and anchors, as one text that can be read, reviewed and put back."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.options import CHANGED_KEYS, CONFIG, GatewayConfig, Json, json_shape

if TYPE_CHECKING:
    from gateway.contract.shop import ShopFile

app = typer.Typer(help="The whole shop, zones and anchors, as one text.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(metavar="FILE", help="A shop file (JSON); - = standard input.")]


@app.command("check", epilog=json_shape("zones, receivers, beacons"))
def check(
    file: File,
    json: Json = False,
) -> None:
    """Check a shop file and say in one line what is in it.

    Example: gateway shop check shop.json
    """
    from gateway.cli.change import print_json
    from gateway.contract.shop_view import ShopChecked

    shop = read_shop_named(file)
    receivers = sum(anchor.kind == "receiver" for anchor in shop.anchors.values())
    beacons = len(shop.anchors) - receivers
    if json:
        print_json(ShopChecked(zones=len(shop.zones), receivers=receivers, beacons=beacons))
    else:
        print(f"{len(shop.zones)} zones, {receivers} receivers, {beacons} beacons: in order")


@app.command("export", epilog=json_shape("shop (zones, anchors), digest"))
def export(
    config: GatewayConfig = CONFIG,
    json: Json = False,
) -> None:
    """Print the shop in force as a shop file: one line for each zone and anchor, in order, for review and version control.

    Example: gateway shop export > shop.json
    """
    from gateway.cli.change import print_json
    from gateway.cli.reach import Gateway
    from gateway.contract.shop_edits import normal

    current = Gateway(config).shop()
    if json:
        print_json(current)
    else:
        print(normal(current.shop).to_text(), end="")


@app.command("import", epilog=json_shape(CHANGED_KEYS))
def import_(
    file: File,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be changed.")] = False,
    config: GatewayConfig = CONFIG,
    json: Json = False,
) -> None:
    """Replace the whole shop by a file, all or nothing, and list what has changed; a running gateway uses it at once.

    Example: gateway shop import shop.json --dry-run
    """
    from gateway.cli.change import change, print_changed, print_json
    from gateway.cli.reach import Gateway

    gateway = Gateway(config)
    # Read before anything else is done: root may read it, the service's user perhaps not.
    after = read_shop_named(file)
    before = gateway.shop()
    changed = change(gateway, before, after, dry_run=dry_run)
    if json:
        print_json(changed)
    else:
        print_changed(changed, before.shop, after)


@app.command("schema")
def schema() -> None:
    """Print the JSON schema of shop files, for editors and reviewers; what refers to what is checked by `gateway shop check`.

    Example: gateway shop schema > shop.schema.json
    """
    from gateway.contract.shop import shop_schema

    print(shop_schema(), end="")


def read_shop_named(file: Path) -> "ShopFile":
    """The shop in a file that somebody names; ``ConfigurationError`` says what is wrong."""
    from gateway.contract import strict_json
    from gateway.contract.shop import read_shop
    from gateway.io.input_file import read_input

    return read_shop(read_input(file, strict_json.MAX_BYTES), str(file))
