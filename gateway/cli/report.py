"""`gateway report`: what a day has brought, for whoever runs the shop."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from gateway.cli.options import CENTRAL_CONFIG, CONFIG, GatewayConfig, Json, json_shape

if TYPE_CHECKING:
    from datetime import date, tzinfo

    from gateway.central.effect import Outcomes
    from gateway.contract.day_report import DayReport, EffectDay

app = typer.Typer(help="What a day has brought.", no_args_is_help=True)

_STEPS = "matched, shelf, granted, refused, late, shown, opened, saved, dismissed, redeemed"


@app.command(
    "day",
    epilog=json_shape(
        f"store, day, time_zone, visits, offers ({_STEPS}), withheld and refused (by reason), promotions (promotion_id, and as "
        "offers), zones (zone, entries, withheld), effects (promotion_id, treated, held_out, treated_bought, held_out_bought, "
        "difference, low, high)"
    ),
)
def day(
    on: Annotated[str | None, typer.Option("--day", metavar="DATE", help="Such as 2026-11-21; absent: today.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page to this file.")] = None,
    language: Annotated[str, typer.Option(help="Of the page: en or de.")] = "en",
    config: GatewayConfig = CONFIG,
    central_config: Annotated[
        Path | None, typer.Option(help="Settings of central, where it runs on this machine: its apps' reactions are told, too.")
    ] = None,
    json: Json = False,
) -> None:
    """The day's funnel: visits, offers matched, granted, shown, opened and redeemed, and what was withheld for which reason.

    Of zones where fewer than ten shoppers were nothing is told. Test shoppers do not count. What a promotion with a holdout has
    brought is told with a 95 % interval once 30 shoppers got it and 30 were held out.

    Example: gateway report day --day 2026-11-21 --html report.html
    """
    from gateway.cli.change import print_json
    from gateway.core.sanitiser import printable
    from gateway.errors import WrongCommand

    if language not in {"de", "en"}:
        raise WrongCommand(f"--language {printable(language, 20)}: en or de was expected.")
    report = _report(config, central_config, on)
    if html is not None:
        _write(html, report, cast('Literal["de", "en"]', language))
    if json:
        print_json(report)
    elif html is None:
        print("\n".join(_lines(report)))


def _report(config: Path, central_config: Path | None, on: str | None) -> "DayReport":
    from zoneinfo import ZoneInfo

    from gateway.cli.reach import Gateway
    from gateway.contract.day_report import day_report
    from gateway.io.store import day as of_day
    from gateway.io.store.looking import look

    gateway = Gateway(config)
    settings = gateway.settings
    zone = ZoneInfo(settings.time_zone)
    which = _date(on, zone)
    from_ms, until_ms = bounds(which, zone)
    receipts, outcomes = _told_by_central(central_config, settings.store, from_ms, until_ms)
    nothing: tuple[list[of_day.DayEvent], list[of_day.DayOffer]] = ([], [])
    with gateway.as_service_user():
        events, offers = look(
            settings.database_path,
            lambda db: ([*of_day.events(db, from_ms, until_ms)], [*of_day.offers(db, from_ms, until_ms)]),
            nothing,
        )
    return day_report(settings.store, which, settings.time_zone, events, offers, receipts, outcomes)


def _date(text: str | None, zone: "tzinfo") -> "date":
    from datetime import date

    from gateway.core.sanitiser import printable
    from gateway.core.timetable import local_time
    from gateway.errors import WrongCommand
    from gateway.io.clock import SystemClock

    if text is None:
        return local_time(SystemClock().now().wall_ms, zone).date()
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise WrongCommand(f"--day {printable(text, 40)}: a date such as 2026-11-21 was expected.") from error


def bounds(day: "date", zone: "tzinfo") -> tuple[int, int]:
    """Wall milliseconds of the first moment of the day and of the next one; 23 to 25 hours."""
    from datetime import date, datetime, time, timedelta

    next_day = day + timedelta(days=1) if day < date.max else day
    first, last = (datetime.combine(each, time(), zone) for each in (day, next_day))
    return int(first.timestamp() * 1000), int(last.timestamp() * 1000)


def _told_by_central(
    config: Path | None, store: str, from_ms: int, until_ms: int
) -> "tuple[dict[str, set[str]] | None, dict[str, Outcomes] | None]":
    """What the apps told and who bought; ``None`` where nobody named central's settings and the usual ones are of no use."""
    import os

    from gateway.central.effect import outcomes_of_day
    from gateway.central.receipts import states_by_offer
    from gateway.contract.settings import CentralSettings, read_settings
    from gateway.errors import GatewayError
    from gateway.io.store.looking import look

    if config is None and not os.access(CENTRAL_CONFIG, os.R_OK):
        return None, None
    try:
        path = read_settings(config or CENTRAL_CONFIG, CentralSettings).state_dir / "central.db"
        receipts = look(path, lambda db: states_by_offer(db, store, from_ms, until_ms), None)
        return receipts, look(path, lambda db: outcomes_of_day(db, store, from_ms, until_ms), None)
    except GatewayError:
        if config is not None:
            raise
        return None, None


def _write(path: Path, report: "DayReport", language: 'Literal["de", "en"]') -> None:
    from gateway.cli.report_page import page
    from gateway.io.whole_file import write_whole

    write_whole(path, page(report, language), do="Choose another place.")


def _lines(report: "DayReport") -> list[str]:
    from gateway.cli.columns import columns
    from gateway.contract.day_report import FEWEST_SHOPPERS
    from gateway.core.sanitiser import printable

    lines = [f"store {report.store}, {report.day:%A} {report.day} ({report.time_zone}): {report.visits} visits", ""]
    known = report.offers.shown is not None
    steps = _STEPS.split(", ") if known else _STEPS.split(", ")[:5]
    rows = [("all", *(getattr(report.offers, step) for step in steps))]
    rows += [(each.promotion_id, *(getattr(each, step) for step in steps)) for each in report.promotions]
    lines += columns(("promotion", *steps), rows)
    if not known:
        lines.append("What the apps did is central's to tell: name its settings with --central-config.")
    for title, counts in (("withheld", report.withheld), ("refused by central", report.refused)):
        if counts:
            lines += ["", *columns((title, "times"), list(counts.items()))]
    if report.effects:
        head = ("got it or not", "got it", "bought", "held out", "bought", "difference, 95 % interval")
        lines += ["", *columns(head, [_effect(effect) for effect in report.effects])]
    if report.zones:
        few = f"fewer than {FEWEST_SHOPPERS} shoppers"
        zones = [(zone.zone, few if zone.entries is None else zone.entries) for zone in report.zones]
        lines += ["", *columns(("zone", "entries"), zones)]
    return [printable(line, limit=1000) for line in lines]


def _effect(effect: "EffectDay") -> tuple[object, ...]:
    from gateway.contract.day_report import FEWEST_COMPARED

    bought, held_out = effect.treated_bought, effect.held_out_bought
    if bought is None or held_out is None or effect.difference is None or effect.low is None or effect.high is None:
        missing = f"not enough data: {FEWEST_COMPARED} of each are needed"
        return effect.promotion_id, effect.treated, None, effect.held_out, None, missing
    interval = f"{100 * effect.difference:+.1f} points ({100 * effect.low:+.1f} to {100 * effect.high:+.1f})"
    return effect.promotion_id, effect.treated, f"{bought:.1%}", effect.held_out, f"{held_out:.1%}", interval
