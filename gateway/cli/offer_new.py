"""Promotions to begin with: a file for each story of a shop, in German and English, that lint finds nothing wrong with."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from importlib.resources import files
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter, ValidationError

from gateway.cli.columns import columns
from gateway.contract import strict_json
from gateway.contract.fields import Language, Name, PromotionId, explain, to_rfc3339
from gateway.core.sanitiser import printable
from gateway.core.spelling import no_such
from gateway.core.timetable import local_time
from gateway.errors import WrongCommand

_FOLDER = "offer_templates"
_NEED_NO_ZONE = frozenset({"visit_start", "nth_visit"})


@dataclass(frozen=True, slots=True)
class Template:
    """One file of the folder."""

    name: str
    story: str
    """Of the list of stories in docs/marketing.md."""
    about: dict[Language, str]
    """One sentence by language."""
    days: int | None
    """It ends with the so-many-th day, today being the first; ``None``: it has no end."""
    promotions: tuple[dict[str, Any], ...]


def templates() -> dict[str, Template]:
    """All there are, in the order of their stories."""
    found = []
    for file in files("gateway.cli").joinpath(_FOLDER).iterdir():
        if file.name.endswith(".json"):
            document = strict_json.parse(file.read_bytes(), file.name)
            document["promotions"] = tuple(document["promotions"])
            found.append(Template(name=file.name.removesuffix(".json"), **document))
    found.sort(key=lambda template: (int(template.story[1:]), template.name))
    return {template.name: template for template in found}


def promotions_from(
    name: str, *, promotion_id: PromotionId | None, zones: tuple[str, ...], now_ms: int, time_zone: tzinfo
) -> dict[str, Any]:
    """A promotions file made of a template; ``WrongCommand`` for one that does not exist, or for a zone that cannot.

    ``promotion_id`` names the promotion, or begins the names of several; ``zones`` take the place of the template's.
    """
    for zone in zones:
        try:
            TypeAdapter(Name).validate_python(zone)
        except ValidationError as error:
            raise WrongCommand(f"--zone {printable(zone, 60)}: {explain(error)}") from error
    known = templates()
    if name not in known:
        raise WrongCommand(no_such("template", name, known))
    template = known[name]
    promotions = [dict(promotion) for promotion in template.promotions]
    for promotion in promotions:
        if promotion_id is not None:
            rest = promotion["promotion_id"].removeprefix(template.name)
            promotion["promotion_id"] = f"{promotion_id}{rest if len(promotions) > 1 else ''}"
        if zones and promotion["trigger"] not in _NEED_NO_ZONE:
            promotion["zones"] = list(zones)
    if template.days is not None:
        dates = _dates(template.days, now_ms, time_zone)
        promotions = [_dated(promotion, dates) for promotion in promotions]
    return {"promotions": promotions}


def told_of(known: Iterable[Template]) -> list[str]:
    """For people."""
    return columns(("template", "story", "what it is for"), [(each.name, each.story, each.about["en"]) for each in known])


def zone_of(name: str) -> tzinfo:
    """The time zone; ``WrongCommand`` for none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise WrongCommand(f"--time-zone {printable(name, 60)}: one such as Europe/Berlin was expected.") from error


def _dates(days: int, now_ms: int, time_zone: tzinfo) -> str:
    """From the beginning of today until that of the day after the last, by the store's clock."""
    today = local_time(now_ms, time_zone).date()
    bounds = (datetime.combine(today + timedelta(days=offset), datetime.min.time(), time_zone) for offset in (0, days))
    return "/".join(to_rfc3339(int(bound.timestamp() * 1000)) for bound in bounds)


def _dated(promotion: dict[str, Any], dates: str) -> dict[str, Any]:
    """With its dates before what it takes off, where a reader looks for them."""
    head = {key: promotion[key] for key in ("promotion_id", "kind", "long_title", "text")}
    return {**head, "promotion_effective_dates": dates, **promotion}
