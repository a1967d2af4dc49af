"""`gateway offer preview`: takes promotions, shop and ledger from where they are, and shows what a gateway would decide."""

import os
import re
from datetime import date, datetime, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from gateway.cli.catalogue import catalogue_of
from gateway.cli.change import print_json
from gateway.cli.columns import columns
from gateway.cli.promotions_file import context_of, read_promotions, refuse
from gateway.cli.reach import Gateway
from gateway.cli.report import bounds
from gateway.cli.shop import read_shop_named
from gateway.cli.zone_measure import recorded
from gateway.contract import strict_json
from gateway.contract.fields import QuietHoursEntry, explain
from gateway.contract.offer_view import Preview, Reach
from gateway.contract.promotions import Promotion, PromotionsFile
from gateway.contract.settings import Settings
from gateway.core.conditions import ShopperContext
from gateway.core.model import QuietHours, Shop
from gateway.core.pipeline import Tuning
from gateway.core.sanitiser import printable
from gateway.daemon import tuning_of
from gateway.daemon.preview import Situation, preview, reach
from gateway.daemon.recorded_day import stays_of
from gateway.daemon.zone_models import folder_of, load
from gateway.errors import ConfigurationError, TryAgain, Untrusted, WrongCommand
from gateway.io.clock import SystemClock
from gateway.io.input_file import read_input
from gateway.io.store import day as of_day
from gateway.io.store.looking import look

_TIME_ZONE: str = Settings.model_fields["time_zone"].default
_LEAST_WALL_MS = 946_684_800_000
"""2000-01-01: a recording that begins before it counts from a beginning of its own."""
_LAST_WALL_MS = 253_370_764_800_000
"""9999-01-01: time zones, stays and days need room before the end of all calendars."""
_LISTS = frozenset({"segments", "watch_list", "muted_categories", "saved_offers"})
_YES_OR_NO = {"true": True, "false": False, "yes": True, "no": False}
_NUMBERS = frozenset({"visits_30_days", "days_since_last_visit"})


def run_preview(
    file: Path | None,
    zone: str | None,
    shopper: list[str],
    context: Path | None,
    *,
    at: str | None,
    reached: str | None,
    quiet: str | None,
    shop: Path | None,
    config: Path,
    as_json: bool,
) -> None:
    """One shopper in ``zone``, or everybody whom a date's ledger or a recording knows."""
    if (zone is None) == (reached is None):
        raise WrongCommand("either --zone ZONE or --reach DATE|RECORDING was expected.")
    day = None if reached is None else _day(reached)
    known = _context(shopper, context)
    hours = None if quiet is None else _quiet(quiet)
    # With both files and one shopper everything is known, so that marketing needs no gateway.
    needs_gateway = file is None or shop is None or day is not None
    gateway = Gateway(config) if needs_gateway else None
    time_zone = ZoneInfo(_TIME_ZONE if gateway is None else gateway.settings.time_zone)
    promotions = _promotions(file, gateway)
    layout = (read_shop_named(shop) if shop is not None else _shop_of(gateway)).compiled()
    at_ms = None if at is None else _moment(at, time_zone)
    if zone is not None:
        at_ms = SystemClock().now().wall_ms if at_ms is None else at_ms
        found = preview(promotions, layout, time_zone, Situation(zone, at_ms, known), hours)
        if as_json:
            print_json(found)
        else:
            print("\n".join(_shown(found)))
        return
    assert reached is not None
    if day is None:
        stays = _recorded_stays(Path(reached), layout, at_ms, gateway)
    else:
        assert gateway is not None
        from_ms, until_ms = bounds(day, time_zone)
        with gateway.as_service_user():
            stays = look(gateway.settings.database_path, lambda db: of_day.stays(db, from_ms, until_ms), list[of_day.DayStay]())
    whom = reach(promotions, layout, time_zone, stays, quiet=hours, context=known)
    if as_json:
        print_json(whom)
    else:
        print("\n".join(_reached(whom)))


def _recorded_stays(file: Path, layout: Shop, at_ms: int | None, gateway: Gateway | None) -> list[of_day.DayStay]:
    """As the gateway of the settings would tell them with what it has learnt, or any gateway by the shop alone."""
    sightings = recorded(file)
    if not any(sighting.anchor in layout.anchors for sighting in sightings):
        raise ConfigurationError(
            "holds no sighting by an anchor of this shop.", where=printable(str(file)), do="Name the shop it is of: --shop FILE."
        )
    begins_ms = min(sighting.t_ms for sighting in sightings) if at_ms is None else at_ms
    if begins_ms < _LEAST_WALL_MS:
        raise WrongCommand(
            "does not say when it was recorded.", where=printable(str(file)), do="Say when it begins: --at 2026-11-21T10:00."
        )
    if begins_ms + max(sighting.t_ms for sighting in sightings) - min(sighting.t_ms for sighting in sightings) >= _LAST_WALL_MS:
        raise WrongCommand("would end after the year 9998.", where=printable(str(file)), do="Say an earlier beginning: --at.")
    if gateway is None:
        return stays_of(sightings, layout, Tuning(ZoneInfo(_TIME_ZONE)), begins_ms)
    with gateway.as_service_user():
        learned = load(folder_of(gateway.settings))
    return stays_of(sightings, layout, tuning_of(gateway.settings), begins_ms, learned)


# ---- what is given ------------------------------------------------------------------------------------------------------------


def _promotions(file: Path | None, gateway: Gateway | None) -> tuple[Promotion, ...]:
    if file is None:
        assert gateway is not None
        catalogue, reason = catalogue_of(gateway)
        if reason:
            raise TryAgain(reason)
        return tuple(each.promotion for each in catalogue.promotions)
    given = read_promotions(file)
    refuse(given.problems, file)
    try:
        return PromotionsFile.model_validate(given.document).promotions
    except ValidationError as error:
        raise ConfigurationError(
            printable(explain(error, PromotionsFile), 600), where=str(file), do="See: gateway offer lint."
        ) from error


def _shop_of(gateway: Gateway | None) -> Any:
    assert gateway is not None
    return gateway.shop().shop


def _context(pairs: list[str], file: Path | None) -> ShopperContext | None:
    """``None``: nothing is known."""
    if not pairs and file is None:
        return None
    known: dict[str, Any] = {}
    if file is not None:
        try:
            known |= strict_json.parse(read_input(file, strict_json.MAX_BYTES), str(file))
            context_of(known)
        except (Untrusted, ValueError) as error:
            what = error.what if isinstance(error, Untrusted) else printable(error, 600)
            raise ConfigurationError(what, where=str(file), do='Write it like {"segments": ["family"]}.') from error
    for pair in pairs:
        field, equals, text = pair.partition("=")
        if not equals:
            raise WrongCommand(f"--shopper {printable(pair, 60)}: field=value was expected, such as segments=family.")
        known[field] = _value(field, text)
    try:
        return context_of(known)
    except ValueError as error:
        raise WrongCommand(printable(error, 600), where="--shopper") from error


def _value(field: str, text: str) -> Any:
    if field in _LISTS:
        return [each.strip() for each in text.split(",") if each.strip()]
    if field in _NUMBERS:
        if not re.fullmatch(r"[0-9]{1,9}", text):
            raise WrongCommand(f"--shopper {field}={printable(text, 40)}: a whole number was expected.")
        return int(text)
    if field != "stopped":
        return text
    if text.lower() not in _YES_OR_NO:
        raise WrongCommand(f"--shopper {field}={printable(text, 40)}: {', '.join(_YES_OR_NO)} was expected.")
    return _YES_OR_NO[text.lower()]


def _quiet(text: str) -> QuietHours:
    start, _, end = text.partition("-")
    try:
        return QuietHoursEntry.model_validate({"start": start, "end": end}).compiled()
    except ValueError as error:
        raise WrongCommand(f"--quiet {printable(text, 40)}: two times such as 22:00-07:00 were expected.") from error


def _moment(text: str, time_zone: tzinfo) -> int:
    try:
        at = datetime.fromisoformat(text)
        at_ms = int((at if at.tzinfo is not None else at.replace(tzinfo=time_zone)).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise WrongCommand(f"--at {printable(text, 40)}: a local time such as 2026-11-23T17:05 was expected.") from error
    if not 0 <= at_ms < _LAST_WALL_MS:
        raise WrongCommand(f"--at {printable(text, 40)}: a time from 1970 to 9998 was expected, such as 2026-11-23T17:05.")
    return at_ms


def _day(reached: str) -> date | None:
    """``None``: it is no date, but a file."""
    try:
        return date.fromisoformat(reached)
    except ValueError as error:
        if os.path.isfile(reached):  # noqa: PTH113 -- pathlib's raises where a name is too long
            return None
        raise WrongCommand(f"--reach {printable(reached, 60)}: neither a date such as 2026-11-21 nor a file.") from error


# ---- for people ---------------------------------------------------------------------------------------------------------------


def _shown(found: Preview) -> list[str]:
    if not found.offers:
        return [f"no promotion waits for anybody in {found.zone}"]
    rows = [(each.when, each.promotion_id, each.gets, _why(each.reason, each.detail)) for each in found.offers]
    lines = columns(("shopper", "promotion", "gets", "why"), rows)
    asked = [f"  {each.promotion_id}: {leaf}" for each in found.offers for leaf in each.audience]
    lines += ["", "audiences", *dict.fromkeys(asked)] if asked else []
    return [printable(line, limit=1000) for line in lines]


def _why(reason: str | None, detail: str | None) -> str | None:
    return None if reason is None else f"{reason.replace('_', ' ')}: {detail}"


def _reached(found: Reach) -> list[str]:
    rows = [
        (
            each.promotion_id,
            f"{'at most ' if each.at_most else ''}{each.shoppers}",
            each.visits,
            each.offers,
            each.pushes,
            ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in each.withheld.items()) or None,
        )
        for each in found.promotions
    ]
    head = ("promotion", "shoppers", "visits", "offers", "pushes", "withheld")
    return [f"{found.shoppers} shoppers, {found.visits} visits", *columns(head, rows)]
