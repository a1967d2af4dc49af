"""The command tree. Commands import what they need when they run, so that --help is quick."""

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer

from gateway import __version__

app = typer.Typer(
    name="gateway",
    help="In-store BLE proximity gateway: hears beacons and the shopper app's token, and brings the right offer to the app.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
central_app = typer.Typer(
    help="The reference central offer service: stores events, grants offers, signs catalogue and rosters.", no_args_is_help=False
)
shop_app = typer.Typer(help="The shop file: zones and anchors.", no_args_is_help=True)
app.add_typer(central_app, name="central")
app.add_typer(shop_app, name="shop")

_CONFIG = Path("/etc/beacon-gateway/gateway.toml")
_CENTRAL_CONFIG = Path("/etc/beacon-gateway/central.toml")

CentralConfig = Annotated[Path, typer.Option("--config", help="Settings of the central service (TOML).")]
RecordFile = Annotated[Path | None, typer.Option("--record", help="Record what is ours: beacons and shoppers of the roster.")]
RecordEverything = Annotated[bool, typer.Option("--everything", help="Record strangers' devices too: only with good reason.")]
GatewayConfig = Annotated[Path, typer.Option("--config", help="Settings of the gateway (TOML).")]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"gateway {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    _version_: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


@app.command()
def run(
    config: GatewayConfig = _CONFIG,
    record: RecordFile = None,
    record_minutes: Annotated[int, typer.Option(min=1, max=1440, help="How long to record.")] = 60,
    everything: RecordEverything = False,
) -> None:
    """Run the gateway in the foreground, as systemd does.

    Example: gateway run --config /etc/beacon-gateway/gateway.toml
    """
    from gateway.cli.run import Recording, run_gateway

    if everything and record is None:
        raise typer.BadParameter("needs --record FILE", param_hint="--everything")
    run_gateway(config, None if record is None else Recording(record, record_minutes, everything))


@app.command()
def demo(
    duration: Annotated[int, typer.Option(min=1, max=86_400, help="Simulated seconds.")] = 300,
    speed: Annotated[float, typer.Option(min=0.1, max=1000, help="Simulated seconds per second.")] = 10.0,
    shoppers: Annotated[int, typer.Option(min=0, max=500, help="Shoppers who come during the time.")] = 6,
    seed: Annotated[int, typer.Option(help="The same seed gives the same shop.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per line; the last is the summary.")] = False,
    keep: Annotated[Path | None, typer.Option(help="Keep databases and settings in this folder.")] = None,
    amqtt: Annotated[
        bool, typer.Option("--amqtt", help="Use the embedded Python broker even where Mosquitto is installed.")
    ] = False,
    record: RecordFile = None,
    everything: RecordEverything = False,
) -> None:
    """Show the whole line in a simulated shop: from radio bytes to an offer in the shopper's app.

    Example: gateway demo --shoppers 10 --speed 20
    """
    from gateway.cli.demo import Options, run_demo

    if everything and record is None:
        raise typer.BadParameter("needs --record FILE", param_hint="--everything")
    run_demo(Options(duration, speed, shoppers, seed, json, keep, amqtt, record, everything))


@app.command()
def scan(
    seconds: Annotated[int, typer.Option(min=1, max=86_400, help="How long to listen.")] = 10,
    adapter: Annotated[str | None, typer.Option(help="Adapter, such as hci0; without it the first that is powered.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="Gateway whose shop, chain and roster apply.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object at the end.")] = False,
) -> None:
    """Listen with a Bluetooth adapter and show what is on the air, by format; keeps nothing.

    Example: gateway scan --seconds 30 --adapter hci0
    """
    from gateway.cli.scan import run_scan

    run_scan(seconds, adapter, config, as_json=json)


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="A capture: btsnoop, pcap, pcapng or our own recording; - = standard input.")],
    advertisements: Annotated[bool, typer.Option("--advertisements", help="One line per advertisement.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
    show_addresses: Annotated[bool, typer.Option("--show-addresses", help="With --advertisements: addresses too.")] = False,
    config: Annotated[Path | None, typer.Option("--config", help="Gateway whose shop, chain and roster apply.")] = None,
    shop: Annotated[Path | None, typer.Option("--shop", help="Shop file, instead of the one in the settings.")] = None,
    receiver: Annotated[str | None, typer.Option("--receiver", help="The receiver of the shop that hears the file.")] = None,
    limit_mib: Annotated[int, typer.Option("--limit-mib", min=1, max=1_048_576, help="Read at most so much.")] = 1024,
) -> None:
    """Let a recorded file drive the pipeline as the radio does; shows what is in it, by format.

    Example: gateway replay walk.pcapng --config /etc/beacon-gateway/gateway.toml --receiver dairy-1
    """
    from gateway.cli.replay import Options, run_replay

    run_replay(Options(file, advertisements, json, show_addresses, config, shop, receiver, limit_mib))


@app.command()
def decode(
    octets: Annotated[
        list[str], typer.Argument(metavar="HEX…", help="The advertisement's data; spaces and colons may be in it.")
    ],
    service_uuid16: Annotated[str | None, typer.Option(help="The chain's 16-bit service UUID (form S), such as 0xFFF0.")] = None,
    company_id: Annotated[str | None, typer.Option(help="The chain's company identifier (form M), such as 0x1234.")] = None,
    shop: Annotated[Path | None, typer.Option(help="Shop file whose beacons are registered.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="Gateway whose shop and chain apply.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Explain an advertisement octet by octet, and what the gateway would do with it.

    Example: gateway decode 0201061aff4c000215e2c56db5dffb48d2b060d0f5a71096e000640007c5 --shop shop.json
    """
    from gateway.cli.decode import Options, identifier_of, octets_of, run_decode

    try:
        data = octets_of(" ".join(octets))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="HEX") from error
    try:
        service, company = identifier_of(service_uuid16), identifier_of(company_id)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--service-uuid16 or --company-id") from error
    run_decode(Options(data, service, company, config, shop, json))


@central_app.callback(invoke_without_command=True)
def central(context: typer.Context, config: CentralConfig = _CENTRAL_CONFIG) -> None:
    """Run the reference central service, or manage it with the commands below."""
    if context.invoked_subcommand is None:
        from gateway.cli.central import run_central

        run_central(config)


@central_app.command("key")
def central_key(config: CentralConfig = _CENTRAL_CONFIG) -> None:
    """Print the public key that gateways pin in trust.public_keys (made on first use).

    Example: gateway central key --config central.toml
    """
    from gateway.cli.central import print_key

    print_key(config)


@central_app.command("promotions")
def central_promotions(
    file: Annotated[Path, typer.Argument(help='JSON: {"promotions": […]}')],
    store: Annotated[str, typer.Option(help="Store that the promotions are for.")],
    config: CentralConfig = _CENTRAL_CONFIG,
) -> None:
    """Replace a store's promotions, all or nothing; a running service publishes them at once.

    Example: gateway central promotions promotions.json --store demo
    """
    from gateway.cli.central import import_promotions

    import_promotions(config, file, store)


@central_app.command("enrol")
def central_enrol(
    inbox: Annotated[str, typer.Argument(help="The app's inbox.")],
    store: Annotated[list[str], typer.Option(help="Stores whose region the app has met; may be repeated.")],
    key_file: Annotated[Path, typer.Option(help="The app's key KU, 64 hexadecimal digits; made when it does not exist.")],
    consent: Annotated[str, typer.Option(help="offers, analytics, or both joined by a comma.")] = "offers,analytics",
    config: CentralConfig = _CENTRAL_CONFIG,
) -> None:
    """Enrol an app whose owner has consented.

    Example: gateway central enrol anna --store demo --key-file anna.key
    """
    from gateway.cli.central import enrol

    enrol(config, inbox, store, key_file, consent)


@central_app.command("opt-out")
def central_opt_out(
    inbox: Annotated[str, typer.Argument(help="The app's inbox.")], config: CentralConfig = _CENTRAL_CONFIG
) -> None:
    """Forget an app; gateways stop recognising it within two seconds.

    Example: gateway central opt-out anna
    """
    from gateway.cli.central import opt_out

    opt_out(config, inbox)


@central_app.command("inbox")
def central_inbox(
    inbox: Annotated[str, typer.Argument(help="The app's inbox.")],
    file: Annotated[Path, typer.Option(help="The inbox's own SQLite file.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON object per offer.")] = False,
    config: CentralConfig = _CENTRAL_CONFIG,
) -> None:
    """Be the app: show each offer once as it arrives, and return receipts.

    Example: gateway central inbox anna --file anna.db
    """
    from gateway.cli.central import watch_inbox

    watch_inbox(config, inbox, file, as_json=json)


@shop_app.command("check")
def shop_check(file: Annotated[Path, typer.Argument(help="A shop file (JSON).")]) -> None:
    """Check a shop file and say in one line what is in it.

    Example: gateway shop check shop.json
    """
    from gateway.cli.run import check_shop

    check_shop(file)


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and Ctrl-C set; call it inside the running loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
