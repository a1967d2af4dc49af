"""The command tree. Commands import what they need when they run, so that --help is quick."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from gateway import __version__
from gateway.cli import beacon, completion, offer, receiver, report, shop, zone, zone_walk
from gateway.cli.options import CENTRAL_CONFIG as _CENTRAL_CONFIG
from gateway.cli.options import CONFIG as _CONFIG
from gateway.cli.options import RADIO_SOCKET as _RADIO_SOCKET
from gateway.cli.options import CentralConfig, GatewayConfig, Json, json_shape

app = typer.Typer(
    name="gateway",
    help="In-store BLE proximity gateway: hears beacons and the shopper app's token, and brings the right offer to the app.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
central_app = typer.Typer(
    help="The reference central offer service: stores events, grants offers, signs catalogue and rosters.", no_args_is_help=False
)
technician_app = typer.Typer(
    help="The technician's own phone, on the real path but outside of caps and counts.", no_args_is_help=True
)
app.add_typer(central_app, name="central")
app.add_typer(technician_app, name="test-shopper")
firmware_app = typer.Typer(help="What is flashed into the shop's own beacons.", no_args_is_help=True)
app.add_typer(shop.app, name="shop")
zone.app.add_typer(zone_walk.app)
app.add_typer(zone.app, name="zone")
app.add_typer(beacon.app, name="beacon")
app.add_typer(receiver.app, name="receiver")
app.add_typer(offer.app, name="offer")
app.add_typer(report.app, name="report")
app.add_typer(firmware_app, name="firmware")

RecordFile = Annotated[Path | None, typer.Option("--record", help="Record what is ours: beacons and shoppers of the roster.")]
RecordEverything = Annotated[bool, typer.Option("--everything", help="Record strangers' devices too: only with good reason.")]
JsonOutput = Annotated[bool, typer.Option("--json", help="One JSON object.")]


_CENTRAL_HEALTH_KEYS = "fares (store, subject, name, gateway, state, told_time, zone, data)"
_WHY_KEYS = (
    "epoch, time_zone, decisions"
    " (decision, time, event, zone, visit, test_shopper, heard, belief, stay, delivery, matching, offers), not_entered, left_out"
)
_STATUS_KEYS = (
    "version, store, gateway, state, mode, role, decider, decider_online, uptime_s,"
    " receivers (name, adapter, state, scanning, heard_per_s, heard_s_ago, trouble, in_shop, gateway, heard, radio),"
    " shoppers_present, roster_size, test_shoppers, zones, anchors, catalogue (version, promotions, in_force, expires_s),"
    " outbox (rows, oldest_s, last_ack_s), broker (host, port, state, connections), central, clock,"
    " disk (free_mib, database_mib, quota_mib), privacy_missing, trusts_central, rejects, offers, beacon_faults, blind_zones,"
    " positioning, zone_model, zone_model_trouble, next_step"
)
_TEST_SHOPPERS_KEYS = "test_shoppers (name, until_time, heard_s_ago, zone, belief, anchors, last_offers)"
_FORMATS_KEYS = "formats (advertisements, per_s, rssi_min, rssi_median, rssi_max)"
_REPLAY_KEYS = (
    "of an event: time, shopper, what, zone, why, promotion; at the end: summary, frames, advertisements, duration_s,"
    f" {_FORMATS_KEYS}, skipped, other_link_types, without_rssi, beacons, sightings, zones_entered, zones_left, partial;"
    " with --advertisements: number, time, rssi, ad, frame, reject, address"
)
_DEMO_KEYS = (
    "of an event: time, shopper, what, zone, promotion, title, why, latency_ms; at the end: summary, offers_matched,"
    " offers_in_inbox, duplicates, lost, latency_ms_p95, latency_ms_p50, enter_delay_s_p95, zones_entered, withheld, not_granted,"
    " advertisements, strangers_dropped, broker, seed, interrupted"
)


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
    from gateway.cli.serve import turn_into_the_daemon

    if everything and record is None:
        raise typer.BadParameter("needs --record FILE", param_hint="--everything")
    turn_into_the_daemon(config, record, record_minutes, everything=everything)


@app.command()
def radio(
    socket: Annotated[Path, typer.Option(help="Where the gateway finds it.")] = _RADIO_SOCKET,
) -> None:
    """Read every advertisement from the kernel for the gateway, and reset adapters for it; the one command with a privilege.

    It needs the capability CAP_NET_ADMIN when it starts, gives it up at once, and starts no scan itself.

    Example: sudo gateway radio --socket /run/beacon-gateway-radio/radio.sock
    """
    from gateway.cli.radio import run_radio

    run_radio(socket)


@app.command(epilog=json_shape(_DEMO_KEYS))
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


@app.command(epilog=json_shape("recording, anchors, sightings, shoppers, stays, duration_s"))
def simulate(
    out: Annotated[Path, typer.Option(metavar="FILE", help="The recording: JSON lines, one sighting each, with the truth.")],
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="A floor plan (GeoJSON), demo-shop or supermarket.")] = "demo-shop",
    anchors: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where anchors and zones are, for gateway zone learn and evaluate.")
    ] = None,
    walk: Annotated[
        Literal["normal", "errand", "browsing", "standing", "border", "in-and-out", "survey"],
        typer.Option(help="How people walk."),
    ] = "normal",
    shoppers: Annotated[int, typer.Option(min=1, max=500, help="Shoppers with the app.")] = 10,
    strangers: Annotated[int, typer.Option(min=0, max=500, help="Other devices on the air.")] = 20,
    arrivals_s: Annotated[int, typer.Option(min=1, max=86_400, help="The shoppers come within this time.")] = 120,
    carried: Annotated[
        Literal["any", "hand", "pocket", "purse", "back pocket", "ear"], typer.Option(help="Where the phones are.")
    ] = "any",
    seed: Annotated[int, typer.Option(help="The same seed gives the same people.")] = 1,
    shop_seed: Annotated[int, typer.Option(help="The same seed gives the same reflections.")] = 1,
    json: Json = False,
) -> None:
    """Let people walk through a simulated shop and record what its receivers hear of them, with where they truly are.

    Example: gateway simulate supermarket --walk normal --out walk.jsonl --anchors anchors.json
    """
    from gateway.cli.simulate import Options, run_simulation

    carriage = None if carried == "any" else carried
    run_simulation(Options(plan, walk, shoppers, strangers, seed, shop_seed, arrivals_s, carriage, out, anchors, as_json=json))


@app.command(epilog=json_shape(_STATUS_KEYS))
def status(config: GatewayConfig = _CONFIG, json: JsonOutput = False) -> None:
    """Show the gateway on one screen, and the one thing to do next; exits with 69 when it is not running.

    Example: gateway status
    """
    from gateway.cli.status import show_status

    raise typer.Exit(show_status(config, as_json=json))


@app.command(epilog=json_shape("checks (name, state, found, do), ok, warnings, failed"))
def doctor(config: GatewayConfig = _CONFIG, json: JsonOutput = False) -> None:
    """Look at everything the gateway stands on, and say how to mend what is wrong; exits with 75 when something is.

    Example: sudo gateway doctor
    """
    from gateway.cli.doctor import run_doctor

    raise typer.Exit(run_doctor(config, as_json=json))


@app.command(epilog=json_shape("decider, term, before, told"))
def takeover(config: GatewayConfig = _CONFIG, json: JsonOutput = False) -> None:
    """Let this gateway decide from now on; whichever decided before, dead or alive, only receives for it.

    Example: gateway takeover
    """
    from gateway.cli.takeover import take_over

    take_over(config, as_json=json)


@app.command(epilog=json_shape(_WHY_KEYS))
def why(
    count: Annotated[int | None, typer.Argument(metavar="N", min=1, max=100, help="With --last: the last N.")] = None,
    last: Annotated[bool, typer.Option("--last", help="The newest decision, or the N newest.")] = False,
    only_offer: Annotated[str | None, typer.Option("--offer", help="The decision that this offer came from.")] = None,
    decision: Annotated[str | None, typer.Option(help="One decision by its id, such as 3f9c1a2b-d142.")] = None,
    only_zone: Annotated[
        str | None, typer.Option("--zone", help="Only decisions in this zone.", autocompletion=completion.zones)
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="All of the last 90s, 10m, 2h or 1d; at most 20 unless --last says N.")
    ] = None,
    every_event: Annotated[
        bool, typer.Option("--every-event", help="Also exits, other dwells, beginnings and ends of visits.")
    ] = False,
    config: GatewayConfig = _CONFIG,
    central_config: Annotated[
        Path | None, typer.Option(help="Central's settings, where it runs on this machine, for what the app has said.")
    ] = None,
    json: JsonOutput = False,
) -> None:
    """Explain why an offer was made or withheld, from the sighting to the inbox; that there is nothing to explain is no error.

    Example: gateway why --zone dairy --since 10m
    """
    from gateway.cli.why import Options, run_why

    if count is not None and not last:
        raise typer.BadParameter("needs --last", param_hint="N")
    newest = count if count is not None or not last else 1
    run_why(Options(config, central_config, newest, only_offer, decision, only_zone, since, every_event, json))


@technician_app.command("add", epilog=json_shape(_TEST_SHOPPERS_KEYS))
def test_shopper_add(
    name: Annotated[str, typer.Argument(help="How it is called here.")],
    key_file: Annotated[Path, typer.Option(help="The phone's key KU, 64 hexadecimal digits; made when it does not exist.")],
    hours: Annotated[float, typer.Option(min=0.01, max=168, help="How long it is recognised.")] = 8,
    config: GatewayConfig = _CONFIG,
    json: JsonOutput = False,
) -> None:
    """Let the running gateway recognise a technician's phone for some hours.

    Example: gateway test-shopper add tina --key-file tina.key --hours 4
    """
    from gateway.cli.technician import add

    add(config, name, key_file, hours, as_json=json)


@technician_app.command("remove", epilog=json_shape(_TEST_SHOPPERS_KEYS))
def test_shopper_remove(
    name: Annotated[str, typer.Argument(help="How it was called.")], config: GatewayConfig = _CONFIG, json: JsonOutput = False
) -> None:
    """Recognise a test shopper no longer.

    Example: gateway test-shopper remove tina
    """
    from gateway.cli.technician import remove

    remove(config, name, as_json=json)


@technician_app.command("list", epilog=json_shape(_TEST_SHOPPERS_KEYS))
def test_shopper_list(config: GatewayConfig = _CONFIG, json: JsonOutput = False) -> None:
    """Show where each test shopper is now, how sure that is, who hears it, and what it was offered.

    Example: gateway test-shopper list
    """
    from gateway.cli.technician import show

    show(config, as_json=json)


@technician_app.command("watch")
def test_shopper_watch(
    seconds: Annotated[int, typer.Option(min=1, max=86_400, help="How long to watch.")] = 600, config: GatewayConfig = _CONFIG
) -> None:
    """Show the same once a second while you walk, until Ctrl-C.

    Example: gateway test-shopper watch
    """
    from gateway.cli.technician import watch

    watch(config, seconds)


@app.command(epilog=json_shape(f"summary, duration_s, {_FORMATS_KEYS}"))
def scan(
    seconds: Annotated[int, typer.Option(min=1, max=86_400, help="How long to listen.")] = 10,
    adapter: Annotated[
        str | None, typer.Option(help="Adapter, such as hci0, or its address; without it the first that is powered.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="Gateway whose shop, chain and roster apply.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object at the end.")] = False,
) -> None:
    """Listen with a Bluetooth adapter and show what is on the air, by format; keeps nothing.

    Example: gateway scan --seconds 30 --adapter hci0
    """
    from gateway.cli.scan import run_scan

    run_scan(seconds, adapter, config, as_json=json)


@app.command(epilog=json_shape(_REPLAY_KEYS))
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


@app.command(epilog=json_shape("octets, structures (title, pieces), frame, fields, reject, outcome, explanation"))
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
    from gateway.cli.promotions_file import TableDefaults

    import_promotions(config, file, store, TableDefaults(), as_json=False)


@central_app.command("health", epilog=json_shape(_CENTRAL_HEALTH_KEYS))
def central_health(
    store: Annotated[str | None, typer.Option(help="Only this store.")] = None,
    config: CentralConfig = _CENTRAL_CONFIG,
    json: JsonOutput = False,
) -> None:
    """Show how the beacons and receivers of the stores fare, as their gateways told last.

    Example: gateway central health --store demo
    """
    from gateway.cli.central_health import show

    show(config, store, as_json=json)


@central_app.command("enrol")
def central_enrol(
    inbox: Annotated[str, typer.Argument(help="The app's inbox.")],
    store: Annotated[list[str], typer.Option(help="Stores whose region the app has met; may be repeated.")],
    key_file: Annotated[Path, typer.Option(help="The app's key KU, 64 hexadecimal digits; made when it does not exist.")],
    consent: Annotated[str, typer.Option(help="offers, analytics, or both joined by a comma.")] = "offers,analytics",
    test: Annotated[bool, typer.Option("--test", help="A technician's test shopper, for whom no caps exist.")] = False,
    config: CentralConfig = _CENTRAL_CONFIG,
) -> None:
    """Enrol an app whose owner has consented.

    Example: gateway central enrol anna --store demo --key-file anna.key
    """
    from gateway.cli.central import enrol

    enrol(config, inbox, store, key_file, consent, is_test=test)


@central_app.command("check-in")
def central_check_in(
    inbox: Annotated[str, typer.Argument(help="The app's inbox.")],
    store: Annotated[str | None, typer.Option(help="Whose region it met; may be left out where there is only one.")] = None,
    config: CentralConfig = _CENTRAL_CONFIG,
) -> None:
    """Say that an app has met a store's region: its gateway recognises it and knows its owner's context within two seconds.

    Example: gateway central check-in anna --store demo
    """
    from gateway.cli.central import check_in

    check_in(config, inbox, store)


@central_app.command("opt-out")
def central_opt_out(
    inbox: Annotated[str, typer.Argument(help="The app's inbox.")], config: CentralConfig = _CENTRAL_CONFIG
) -> None:
    """Forget an app; gateways stop recognising it within two seconds.

    Example: gateway central opt-out anna
    """
    from gateway.cli.central import opt_out

    opt_out(config, inbox)


@central_app.command("profile")
def central_profile(
    inbox: Annotated[str, typer.Argument(help="The app's inbox.")],
    segment: Annotated[list[str] | None, typer.Option(help="A segment the shopper is in; may be repeated.")] = None,
    watch: Annotated[list[str] | None, typer.Option(help="GTIN of a product on the watch list; may be repeated.")] = None,
    language: Annotated[str | None, typer.Option(help="Of the app: de or en.")] = None,
    card: Annotated[str | None, typer.Option(help="Number of the customer card, by which tills name the shopper.")] = None,
    config: CentralConfig = _CENTRAL_CONFIG,
) -> None:
    """Say what a shopper is like, as a CRM does; what is not named is forgotten.

    Example: gateway central profile anna --segment family --language de
    """
    from gateway.cli.central_shoppers import tell_profile

    tell_profile(config, inbox, segments=segment or [], watched=watch or [], language=language, card=card)


@central_app.command("order")
def central_order(
    order: Annotated[str, typer.Argument(help="The order's number.")],
    inbox: Annotated[str, typer.Option(help="Inbox of the app whose owner ordered.")],
    state: Annotated[str, typer.Option(help="placed, ready, collected or returned.")],
    store: Annotated[str | None, typer.Option(help="Where it is fetched; may be left out where there is only one.")] = None,
    attribution: Annotated[str | None, typer.Option(help="The offer that led to it, as in its link.")] = None,
    config: CentralConfig = _CENTRAL_CONFIG,
) -> None:
    """Say how an order stands, as a web shop does: who comes for one that is ready is announced to the staff.

    Example: gateway central order W-1042 --inbox anna --state ready
    """
    from gateway.cli.central_shoppers import Told, tell_order

    tell_order(config, order, Told(inbox=inbox, store=store), state, attribution)


@central_app.command("receipt")
def central_receipt(
    receipt: Annotated[str, typer.Argument(help="The receipt's number.")],
    total: Annotated[str, typer.Option(help='What was paid, as in "31.90 EUR"; below zero with --refunds.')],
    inbox: Annotated[str | None, typer.Option(help="Inbox of the app whose owner paid.")] = None,
    card: Annotated[str | None, typer.Option(help="Or the customer card.")] = None,
    refunds: Annotated[str | None, typer.Option(help="The receipt that is given back.")] = None,
    product: Annotated[list[str] | None, typer.Option(help="GTIN of what was bought; may be repeated.")] = None,
    redeemed: Annotated[list[str] | None, typer.Option(help="Code that was shown for a discount; may be repeated.")] = None,
    store: Annotated[str | None, typer.Option(help="Where; may be left out where there is only one.")] = None,
    config: CentralConfig = _CENTRAL_CONFIG,
) -> None:
    """Note a purchase or a refund, as a till does.

    Example: gateway central receipt 4711 --inbox anna --total "31.90 EUR"
    """
    from gateway.cli.central_shoppers import Told, tell_receipt

    whose = Told(inbox=inbox, card=card, store=store)
    tell_receipt(config, receipt, whose, total, refunds=refunds, products=product or [], redeemed=redeemed or [])


@central_app.command("inbox", epilog=json_shape("new, specversion, id, source, time, datacontenttype, type, expirytime, data"))
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


@firmware_app.command("render", epilog=json_shape("files (beacon, kind, file, result)"))
def firmware_render(
    shop: Annotated[Path, typer.Option(help="Shop file whose beacons are rendered.")],
    out: Annotated[Path, typer.Option(help="Folder for the profiles, one folder in it for each kind.")],
    kind: Annotated[Literal["esphome", "espruino"] | None, typer.Option(help="Only these; without it both.")] = None,
    beacon: Annotated[str | None, typer.Option(help="Only this beacon of the shop.")] = None,
    measured_power_dbm: Annotated[int, typer.Option(min=-100, max=-20, help="What is heard at 1 m.")] = -59,
    tx_power_dbm: Annotated[int, typer.Option(help="Transmit power; each kind of firmware has its own steps.")] = 0,
    interval_ms: Annotated[int, typer.Option(min=100, max=10_000, help="Between two advertisements.")] = 100,
    esp32_variant: Annotated[
        Literal["esp32", "esp32c3", "esp32c6", "esp32s3"], typer.Option(help="The chip, for ESPHome.")
    ] = "esp32",
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is not ours or has been changed.")] = False,
    json: Json = False,
) -> None:
    """Write what makes an ESP32 (ESPHome) or a Puck.js (Espruino) transmit as each beacon of a shop does.

    Example: gateway firmware render --shop shop.json --out firmware --kind esphome
    """
    from gateway.cli.firmware import Options, run_render
    from gateway.contract.firmware import Transmission

    transmission = Transmission(measured_power_dbm, tx_power_dbm, interval_ms)
    kinds: tuple[Literal["esphome", "espruino"], ...] = ("esphome", "espruino") if kind is None else (kind,)
    run_render(Options(shop, out, kinds, beacon, transmission, esp32_variant, force, json))
