"""What the core decided → the data of the messages that tell central, as far as the shopper's consent goes.

Without ANALYTICS nothing but the offers themselves, with their zone, leaves the gateway; RSSI never does.
"""

from typing import NamedTuple

from gateway.contract import messages
from gateway.contract.fields import Strict
from gateway.core import model
from gateway.core.model import Consent, Instant, Outcome


class UplinkRow(NamedTuple):
    """One event before it has a number."""

    type: str
    data: Strict
    shopper: str
    at: Instant


def uplink_rows(outcome: Outcome) -> list[UplinkRow]:
    """The events of one outcome, in the order in which they are numbered."""
    event = outcome.event
    rows = [] if not event.consent & Consent.ANALYTICS else [_presence_row(event)]
    for offer in outcome.offers:
        data = messages.OfferMatchedData(
            offer=offer.offer,
            promotion_id=offer.promotion_id,
            kind=offer.kind,
            push=offer.push,
            visit=offer.visit,
            shopper=offer.shopper,
            zone=offer.zone,
            matched_time=offer.at.wall_ms,
            deadline=offer.deadline.wall_ms,
            catalogue_version=offer.catalogue_version,
        )
        rows.append(UplinkRow("offer.matched.v1", data, offer.shopper, offer.at))
    return rows


def _presence_row(event: model.PresenceEvent) -> UplinkRow:
    kind, data = _presence_data(event)
    return UplinkRow(kind, data, event.shopper, event.at)


def _presence_data(event: model.PresenceEvent) -> tuple[str, Strict]:
    visit, shopper = event.visit, event.shopper
    match event:
        case model.VisitStarted():
            return "visit.started.v1", messages.VisitStartedData(visit=visit, shopper=shopper)
        case model.Entered():
            return "zone.entered.v1", messages.ZoneEnteredData(
                visit=visit, shopper=shopper, zone=event.zone, entry_time=event.at.wall_ms, belief=event.evidence.belief
            )
        case model.Dwelled():
            return "zone.dwelled.v1", messages.ZoneDwelledData(
                visit=visit, shopper=shopper, zone=event.zone, entry_time=event.entered_at.wall_ms, dwell_s=event.dwell_ms / 1000
            )
        case model.Exited():
            return "zone.exited.v1", messages.ZoneExitedData(
                visit=visit,
                shopper=shopper,
                zone=event.zone,
                entry_time=event.entered_at.wall_ms,
                exit_time=event.left_at.wall_ms,
                exit_delay=max(0, event.at.mono_ms - event.left_at.mono_ms) / 1000,
                reason=event.reason,
            )
        case model.VisitEnded():
            return "visit.ended.v1", messages.VisitEndedData(
                visit=visit,
                shopper=shopper,
                started_time=event.started_at.wall_ms,
                ended_time=event.ended_at.wall_ms,
                zones=event.zones,
            )
