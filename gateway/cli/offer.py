"""`gateway offer`: the promotions that central has sent, and those that marketing is about to hand to it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import completion
from gateway.cli.options import CENTRAL_CONFIG, CONFIG, CentralConfig, GatewayConfig, Json, json_shape

if TYPE_CHECKING:
    from datetime import tzinfo

    from gateway.cli.promotions_file import TableDefaults
    from gateway.contract.control import CatalogueInForce
    from gateway.contract.offer_view import OfferView
    from gateway.contract.promotion_lint import LintReport
    from gateway.contract.promotions import Window

app = typer.Typer(help="Promotions: what central has sent, and what marketing hands to it.", no_args_is_help=True)

LINT_ERRORS_EXIT_CODE = 78

PromotionsFile = Annotated[
    Path, typer.Argument(metavar="FILE", help='JSON: {"promotions": …}, or a table (.tsv, .csv); - = JSON from standard input.')
]
Language = Annotated[str, typer.Option(help="Language of a table's texts: de or en.")]
Zones = Annotated[list[str] | None, typer.Option("--zone", help="Zone for rows of a table that name none; may be repeated.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="Tag for rows of a table that name none; may be repeated.")]
_PROMOTION = "promotion as in the file, zones, in_force"


@app.command("list", epilog=json_shape(f"version, not_after, promotions ({_PROMOTION})"))
def list_(config: GatewayConfig = CONFIG, json: Json = False) -> None:
    """List the promotions in the gateway's catalogue, the highest priority first.

    Example: gateway offer list
    """
    from gateway.cli.catalogue import catalogue_of, title_of
    from gateway.cli.change import print_json
    from gateway.cli.columns import columns
    from gateway.cli.reach import Gateway

    gateway = Gateway(config)
    catalogue, reason = catalogue_of(gateway)
    if json:
        print_json(catalogue)
        return
    print(_heading(catalogue, reason, gateway.settings.time_zone))
    rows = [
        (
            each.promotion.promotion_id,
            each.promotion.kind,
            each.in_force,
            _trigger(each.promotion.trigger, each.promotion.dwell_s),
            each.promotion.priority,
            sorted(each.zones),
            title_of(each.promotion.long_title),
        )
        for each in catalogue.promotions
    ]
    if rows:
        print("\n".join(columns(("promotion", "kind", "in force", "trigger", "priority", "zones", "title"), rows)))


@app.command("show", epilog=json_shape(f"{_PROMOTION}, next_change_time"))
def show(
    promotion_id: Annotated[
        str, typer.Argument(metavar="PROMOTION", help="A promotion_id.", autocompletion=completion.promotions)
    ],
    config: GatewayConfig = CONFIG,
    json: Json = False,
) -> None:
    """Show everything about one promotion: where it applies, whether it is in force, and when that changes.

    Example: gateway offer show yoghurt-monday
    """
    from zoneinfo import ZoneInfo

    from gateway.cli.catalogue import catalogue_of
    from gateway.cli.change import print_json
    from gateway.cli.reach import Gateway
    from gateway.contract.offer_view import OfferView
    from gateway.core.spelling import no_such
    from gateway.core.timetable import next_turn
    from gateway.errors import TryAgain, WrongCommand
    from gateway.io.clock import SystemClock

    gateway = Gateway(config)
    catalogue, reason = catalogue_of(gateway)
    by_id = {each.promotion.promotion_id: each for each in catalogue.promotions}
    if reason:
        raise TryAgain(reason)
    if promotion_id not in by_id:
        raise WrongCommand(no_such("promotion", promotion_id, by_id))
    found = by_id[promotion_id]
    time_zone = ZoneInfo(gateway.settings.time_zone)
    turn = next_turn(found.promotion.compiled(), SystemClock().now().wall_ms, time_zone)
    view = OfferView(promotion=found.promotion, zones=found.zones, in_force=found.in_force, next_change_time=turn)
    if json:
        print_json(view)
    else:
        print("\n".join(_everything(view, time_zone)))


@app.command("import", epilog=json_shape("store, promotions"))
def import_(
    file: PromotionsFile,
    store: Annotated[
        str | None, typer.Option(help="Store that the promotions are for; not needed where central has one.")
    ] = None,
    language: Language = "de",
    zone: Zones = None,
    tag: Tags = None,
    config: CentralConfig = CENTRAL_CONFIG,
    json: Json = False,
) -> None:
    """Replace a store's promotions at central, all or nothing; a running service publishes them at once.

    Tables have a header row: Google's Merchant promotions feed as it is (then say --zone or --tag), or columns of your own, named
    like a promotion's fields. What lint calls an error is not published.

    Example: gateway offer import promotions.json --store demo
    """
    from gateway.cli.central import import_promotions

    import_promotions(config, file, store, _defaults(language, zone, tag), as_json=json)


@app.command(
    "lint",
    epilog=json_shape("promotions, errors, warnings, shop_known, findings (severity, code, promotion_id, what)"),
)
def lint(
    file: PromotionsFile,
    shop: Annotated[Path | None, typer.Option(help="Shop file with the zones and tags that the promotions name.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="Gateway whose shop and time zone apply.")] = None,
    stock: Annotated[
        Path | None, typer.Option(help="Prices and stock (.tsv, .csv): a local inventory feed with gtin, price, quantity, …")
    ] = None,
    assets: Annotated[
        Path | None, typer.Option(help="Folder with the pictures that image.url names: they are there, intact and not too large.")
    ] = None,
    contexts: Annotated[
        Path | None, typer.Option(help="Sample shoppers (JSON, a list of contexts) of whom each audience should mean some.")
    ] = None,
    language: Language = "de",
    zone: Zones = None,
    tag: Tags = None,
    json: Json = False,
) -> None:
    """Look for what would embarrass the shop; 78 on errors, which central would not publish.

    Errors: expired, never in force, unreachable, for nobody, sold out, dearer than before, a broken picture, one code for two
    discounts. Warnings: a language is missing, never winning beside a better one, two discounts on one product.

    Example: gateway offer lint promotions.json --config /etc/beacon-gateway/gateway.toml
    """
    from zoneinfo import ZoneInfo

    from gateway.cli.change import print_json
    from gateway.cli.located_zones import located
    from gateway.cli.promotions_file import read_assets, read_contexts, read_promotions, read_stock
    from gateway.cli.reach import Gateway
    from gateway.cli.shop import read_shop_named
    from gateway.contract.control import Status, StatusRequest
    from gateway.contract.promotion_lint import lint as findings_in
    from gateway.contract.promotion_lint import with_rows
    from gateway.contract.settings import Settings
    from gateway.io.clock import SystemClock

    given = read_promotions(file, _defaults(language, zone, tag))
    shelf = None if stock is None else read_stock(stock)
    known = None if shop is None else read_shop_named(shop)
    time_zone = Settings.model_fields["time_zone"].default
    here = None
    if config is not None:
        gateway = Gateway(config)
        time_zone = gateway.settings.time_zone
        if known is None:
            with gateway.as_service_user():
                known = gateway.shop().shop
                here = located(gateway, known, gateway.ask(StatusRequest(), Status))
    found = findings_in(
        given.document,
        shop=known,
        located=here,
        now_ms=SystemClock().now().wall_ms,
        time_zone=ZoneInfo(time_zone),
        stock=shelf,
        assets=None if assets is None else read_assets(assets),
        contexts=None if contexts is None else read_contexts(contexts),
    )
    report = with_rows(found, given.problems, given.passed_over)
    if json:
        print_json(report)
    else:
        print("\n".join(_report(report)))
    if report.errors:
        raise typer.Exit(LINT_ERRORS_EXIT_CODE)


@app.command("new", epilog=json_shape("promotions; with --list: templates (name, story, about)"))
def new(
    template: Annotated[
        str | None, typer.Option(help="Name of a template; --list tells which there are.", autocompletion=completion.templates)
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Tell which templates there are.")] = False,
    promotion_id: Annotated[str | None, typer.Option("--id", help="promotion_id; without it the template's name.")] = None,
    zone: Annotated[list[str] | None, typer.Option("--zone", help="Where it is offered; may be repeated.")] = None,
    time_zone: Annotated[str, typer.Option(help="Of the store, for templates that end with a day.")] = "Europe/Berlin",
    json: Json = False,
) -> None:
    """Write a promotion to begin with, one for each story, in German and English; edit it, lint it, import it.

    Example: gateway offer new --template daily-deal --zone electronics > deal.json
    """
    import json as json_module

    from pydantic import TypeAdapter, ValidationError

    from gateway.cli.change import print_json
    from gateway.cli.offer_new import promotions_from, templates, told_of, zone_of
    from gateway.contract.fields import PromotionId, explain
    from gateway.contract.offer_view import OfferTemplate, OfferTemplates
    from gateway.core.sanitiser import printable
    from gateway.errors import WrongCommand
    from gateway.io.clock import SystemClock

    if list_ == (template is not None):
        raise WrongCommand("either --list or --template NAME was expected.")
    if template is None:
        known = templates().values()
        if json:
            print_json(
                OfferTemplates(
                    templates=tuple(OfferTemplate(name=each.name, story=each.story, about=each.about) for each in known)
                )
            )
        else:
            print("\n".join(told_of(known)))
        return
    if promotion_id is not None:
        try:
            TypeAdapter(PromotionId).validate_python(promotion_id)
        except ValidationError as error:
            raise WrongCommand(f"--id {printable(promotion_id, 60)}: {explain(error)}") from error
    document = promotions_from(
        template,
        promotion_id=promotion_id,
        zones=tuple(zone or ()),
        now_ms=SystemClock().now().wall_ms,
        time_zone=zone_of(time_zone),
    )
    print(json_module.dumps(document, ensure_ascii=False, indent=None if json else 2))


@app.command(
    "preview",
    epilog=json_shape(
        "zone, time, offers (when, promotion_id, gets, reason, detail, audience); with --reach: shoppers, visits, promotions "
        "(promotion_id, at_most, offers, pushes, visits, shoppers, withheld)"
    ),
)
def preview(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Promotions to look at; without it those of the gateway's catalogue.")
    ] = None,
    zone: Annotated[str | None, typer.Option(help="Zone that the shopper enters.", autocompletion=completion.zones)] = None,
    shopper: Annotated[
        list[str] | None,
        typer.Option(help="What is known of the shopper: segments=family,vip or visits_30_days=4; may be repeated."),
    ] = None,
    context: Annotated[Path | None, typer.Option(help="The same as a JSON object, as central would tell it.")] = None,
    at: Annotated[
        str | None,
        typer.Option(help="Local time of the entry (absent: now) or of the recording's beginning, such as 2026-11-23T17:05."),
    ] = None,
    reach: Annotated[
        str | None,
        typer.Option(metavar="DATE|RECORDING", help="Instead: whom it would have reached on this day, or in this recording."),
    ] = None,
    quiet: Annotated[str | None, typer.Option(metavar="FROM-UNTIL", help="Quiet hours, such as 22:00-07:00.")] = None,
    shop: Annotated[Path | None, typer.Option(help="Shop file; without it the gateway's shop.")] = None,
    config: GatewayConfig = CONFIG,
    json: Json = False,
) -> None:
    """Explain who would get what, and why not; or whom promotions would have reached on a recorded day.

    Nothing is sent. What central alone decides is left out: weekly and lifetime caps, quantities, holdout. A reach is counted
    with the shop as it is now, of a day that the ledger knows or of a recording as zone evaluate reads it; rules that ask for
    what central knows count as if they held ("at most"), or for such a shopper.

    Example: gateway offer preview deal.json --zone dairy --shopper segments=family --shopper visits_30_days=4
    """
    from gateway.cli.offer_preview import run_preview

    run_preview(file, zone, shopper or [], context, at=at, reached=reach, quiet=quiet, shop=shop, config=config, as_json=json)


def _defaults(language: str, zones: list[str] | None, tags: list[str] | None) -> "TableDefaults":
    from gateway.cli.promotions_file import TableDefaults
    from gateway.core.sanitiser import printable
    from gateway.errors import WrongCommand

    if language not in {"de", "en"}:
        raise WrongCommand(f"--language {printable(language, 20)}: de or en was expected.")
    return TableDefaults("de" if language == "de" else "en", tuple(zones or ()), tuple(tags or ()))


# ---- for people ---------------------------------------------------------------------------------------------------------------


def _heading(catalogue: "CatalogueInForce", reason: str, time_zone: str) -> str:
    from zoneinfo import ZoneInfo

    from gateway.core.sanitiser import printable

    if catalogue.version is None:
        return f"no promotions: {printable(reason)}"
    in_force = sum(each.in_force for each in catalogue.promotions)
    until = "" if catalogue.not_after is None else f", valid until {_local(catalogue.not_after, ZoneInfo(time_zone))}"
    return f"catalogue {catalogue.version}: {len(catalogue.promotions)} promotions, {in_force} in force now{until}"


def _trigger(trigger: str, dwell_s: int) -> str:
    return f"dwell {dwell_s} s" if trigger == "dwell" else trigger


def _everything(view: "OfferView", time_zone: "tzinfo") -> list[str]:
    """One line for each field of the promotion, whatever fields there are."""
    from gateway.cli.columns import text_of
    from gateway.core.model import PUSH_KINDS
    from gateway.core.sanitiser import printable

    promotion = view.promotion
    change = view.next_change_time
    since = "never again" if change is None else f"from {_local(change, time_zone)}"
    until = "" if change is None else f" until {_local(change, time_zone)}"
    rows = [
        ("in force", f"yes{until}" if view.in_force else f"no, {since}"),
        ("offered in", text_of(sorted(view.zones)) if view.zones else "no zone of this shop"),
    ]
    for field in type(promotion).model_fields:
        value = getattr(promotion, field)
        if field == "windows":
            rows += [(field, _window(window)) for window in value] or [(field, "always")]
        elif isinstance(value, dict):
            rows += [(f"{field}.{language}", text) for language, text in value.items()] or [(field, text_of(None))]
        else:
            rows.append((field, text_of(value)))
        if field == "kind":
            spends = "spends the visit's push" if value in PUSH_KINDS else "silent" if value == "info" else "a push of its own"
            rows[-1] = (field, f"{value} ({spends})")
    rule = promotion.compiled()
    if rule.effective_from_ms is not None and rule.effective_until_ms is not None:
        local = f"{_local(rule.effective_from_ms, time_zone)} – {_local(rule.effective_until_ms, time_zone)}"
        rows = [(field, local if field == "promotion_effective_dates" else text) for field, text in rows]
    width = max(len(field) for field, _ in rows)
    return [f"{field:<{width}}  {printable(text, limit=2000)}" for field, text in rows]


def _window(window: "Window") -> str:
    days = "every day" if len(set(window.weekdays)) == 7 else "+".join(window.weekdays) or "no day"
    return f"{days} {window.start}–{window.end}"


def _local(wall_ms: int, time_zone: "tzinfo") -> str:
    from gateway.contract.fields import to_rfc3339
    from gateway.core.timetable import local_time

    try:
        return local_time(wall_ms, time_zone).strftime("%a %Y-%m-%d %H:%M %Z")
    except OverflowError:  # the last hours of the year 9999, in which some people say "for ever"
        return to_rfc3339(wall_ms)


def _report(report: "LintReport") -> list[str]:
    from gateway.core.sanitiser import printable

    lines = [
        printable(f"{finding.severity}: {finding.promotion_id or 'file'}: {finding.what} ({finding.code})", limit=1000)
        for finding in report.findings
    ]
    unknown = "" if report.shop_known else "; zones and tags were not checked: name the shop with --shop or --config"
    return [*lines, f"{report.promotions} promotions: {report.errors} errors, {report.warnings} warnings{unknown}"]
