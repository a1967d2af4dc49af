"""What the core decided → the data of the messages that tell central, as far as the shopper's consent goes.

Without ANALYTICS nothing but the offers themselves, with their zone, leaves the gateway; RSSI never does.
"""

from typing import NamedTuple

from gateway.contract import messages
from gateway.contract.fields import Strict
from gateway.core import model
from gateway.core.model import BeaconChange, Consent, Instant, Outcome, ReceiverChange
from gateway.core.sanitiser import printable

_LONGEST_CAUSE = 300


class UplinkRow(NamedTuple):
    """One event before it has a number."""

    type: str
    data: Strict
    shopper: str | None
    at: Instant


def uplink_rows(outcome: Outcome) -> list[UplinkRow]:
    """The events of one outcome, in the order in which they are numbered."""
    event = outcome.event
    return [*([_presence_row(event)] if event.consent & Consent.ANALYTICS else ()), *offer_rows(outcome)]


def offer_rows(outcome: Outcome) -> list[UplinkRow]:
    """Its offers alone."""
    rows = []
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


def beacon_row(told: BeaconChange) -> UplinkRow:
    """A beacon's or a battery's change. Wherever it is heard how strongly stays at the gateway."""
    change, health = told.change, told.health
    battery = health.battery
    assert health.zone is not None
    data = messages.BeaconHealthData.model_validate(
        {
            "beacon": change.name,
            "zone": health.zone,
            "changed": "battery_state" if change.subject == "battery" else "state",
            "before": change.before,
            "first_sign_time": change.at.wall_ms + min(0, change.first_sign_ms - change.at.mono_ms),
            "state": health.state,
            "battery_state": battery.state,
            "battery_v": None if battery.millivolts is None else battery.millivolts / 1000,
            "battery_percent": battery.percent,
            "temperature_c": battery.temperature_c,
            "days_left_least": None if battery.days_left is None else battery.days_left[0],
            "days_left_most": None if battery.days_left is None else battery.days_left[1],
        }
    )
    return UplinkRow("beacon.health.v1", data, None, change.at)


def receiver_row(change: ReceiverChange) -> UplinkRow:
    """A receiver's change, or what was tried for it."""
    data = messages.ReceiverHealthData(
        receiver=change.receiver,
        state=change.state,
        before=change.before,
        cause=printable(change.cause, _LONGEST_CAUSE),
        step=change.step,
        helped=change.helped,
        told_by=change.told_by,
    )
    return UplinkRow("receiver.health.v1", data, None, change.at)


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
