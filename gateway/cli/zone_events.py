"""Zone events in words, one line or one JSON object each."""

import json
from datetime import tzinfo

from gateway.contract.fields import to_rfc3339
from gateway.core.model import AnchorLevel, Dwelled, Entered, Exited, Outcome, Shop
from gateway.core.sanitiser import printable
from gateway.core.timetable import local_time


def describe(outcome: Outcome, shop: Shop) -> tuple[str, str, str] | None:
    """(what, zone, why) of an outcome; ``None`` for beginnings and ends of visits, which the zones tell as well."""
    event = outcome.event
    if isinstance(event, Entered):
        loudest = _witness(event, shop)
        return "entered", event.zone, f"{event.evidence.belief:.0%} sure, {loudest.anchor} {loudest.level_dbm:.0f} dBm"
    if isinstance(event, Exited):
        stayed_s = (event.left_at.mono_ms - event.entered_at.mono_ms) / 1000
        return "left", event.zone, f"{event.reason}, stayed {stayed_s:.0f} s"
    if isinstance(event, Dwelled):
        return "dwelled", event.zone, f"{event.dwell_ms // 1000} s"
    return None


def lines(outcome: Outcome, shop: Shop, zone: tzinfo, *, as_json: bool) -> list[str]:
    """What a person (times in ``zone``) or a program (RFC 3339) reads of an outcome, the offers matched by it among it."""
    described = describe(outcome, shop)
    if described is None:
        return []
    what, name, why = described
    event = outcome.event
    told = [(what, {"zone": name, "why": why}), *(("offered", {"promotion": offer.promotion_id}) for offer in outcome.offers)]
    if as_json:
        head = {"time": to_rfc3339(event.at.wall_ms), "shopper": event.shopper}
        return [json.dumps({**head, "what": what, **details}, ensure_ascii=False) for what, details in told]
    clock = local_time(event.at.wall_ms, zone).strftime("%H:%M:%S")
    texts = [f"{what:<8} {name}   ({why})", *(f"  → offer  {offer.promotion_id}" for offer in outcome.offers)]
    return [printable(f"{clock}  {event.shopper}  {text}") for text in texts]


def _witness(event: Entered, shop: Shop) -> AnchorLevel:
    """The loudest anchor that stands in the zone, else the loudest of all."""
    anchors = event.evidence.anchors
    return next((level for level in anchors if shop.anchors[level.anchor].zone == event.zone), anchors[0])
