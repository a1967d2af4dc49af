"""Every message of the wire contract, version 1: CloudEvents 1.0 in structured JSON.

An uplink event's key is (gateway, ``epoch``, ``seq``). A message with ``expirytime`` is worthless afterwards and the same moment
goes into MQTT 5's expiry; uplink events have none, because a number once given must always arrive: their deadlines are data.
"""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from gateway.contract import strict_json
from gateway.contract.fields import (
    Epoch,
    InboxId,
    Language,
    Name,
    OpaqueId,
    PromotionId,
    Pseudonym,
    SequenceNumber,
    Strict,
    WallTime,
    explain,
)
from gateway.core.model import PromotionKind
from gateway.errors import Untrusted

CONTENT_TYPE = "application/cloudevents+json"


class CloudEvent(Strict):
    """The attributes that every message of ours has."""

    specversion: Literal["1.0"] = "1.0"
    id: Annotated[str, Field(min_length=1, max_length=128)]
    source: Annotated[str, Field(min_length=1, max_length=128)]
    time: WallTime
    datacontenttype: Literal["application/json"] = "application/json"

    def to_json(self) -> bytes:
        """The message as it goes onto the wire."""
        return self.model_dump_json(exclude_none=True).encode()


class Uplink(CloudEvent):
    """An event of a gateway, numbered for good."""

    epoch: Epoch
    seq: SequenceNumber
    bootid: OpaqueId
    monotonicms: Annotated[str, Field(pattern=r"^[0-9]{1,18}$")]
    """Milliseconds on the boot's monotonic clock; a string, because CloudEvents integers have 32 bits."""
    timequality: Literal["synchronised", "holdover", "unsynchronised"]
    history: Literal[True] | None = None
    """Present when the event waited for the network: it is told late, it did not happen late."""


class VisitStartedData(Strict):
    """A visit has begun."""

    visit: OpaqueId
    shopper: Pseudonym


class ZoneEnteredData(Strict):
    """The shopper is in the zone now."""

    visit: OpaqueId
    shopper: Pseudonym
    zone: Name
    entry_time: WallTime
    belief: Annotated[float, Field(ge=0, le=1)]


class ZoneDwelledData(Strict):
    """The shopper has been in the zone for this long."""

    visit: OpaqueId
    shopper: Pseudonym
    zone: Name
    entry_time: WallTime
    dwell_s: Annotated[float, Field(ge=0)]


class ZoneExitedData(Strict):
    """The shopper has left the zone."""

    visit: OpaqueId
    shopper: Pseudonym
    zone: Name
    entry_time: WallTime
    exit_time: WallTime
    """When the shopper was last believed in the zone."""
    exit_delay: Annotated[float, Field(ge=0)]
    """Seconds from then until it was certain."""
    reason: Literal["moved", "silence", "weak", "restart"]


class VisitEndedData(Strict):
    """No zone for the length of the visit gap."""

    visit: OpaqueId
    shopper: Pseudonym
    started_time: WallTime
    ended_time: WallTime
    zones: Annotated[int, Field(ge=1)]


class OfferMatchedData(Strict):
    """The gateway's proposal."""

    offer: OpaqueId
    promotion_id: PromotionId
    kind: PromotionKind
    push: bool
    visit: OpaqueId
    shopper: Pseudonym
    zone: Name
    matched_time: WallTime
    """When the shopper entered (or had dwelled), which is what latency is counted from."""
    deadline: WallTime
    """Not granted by then: late, never shown."""
    catalogue_version: Annotated[int, Field(ge=0)]


class TombstoneData(Strict):
    """Why there is nothing under this number."""

    reason: Literal["erased", "dropped"]


class VisitStarted(Uplink):
    """The first entry of a visit."""

    type: Literal["visit.started.v1"] = "visit.started.v1"
    data: VisitStartedData


class ZoneEntered(Uplink):
    """OMLOX hub names the fields."""

    type: Literal["zone.entered.v1"] = "zone.entered.v1"
    data: ZoneEnteredData


class ZoneDwelled(Uplink):
    """Sent once per threshold."""

    type: Literal["zone.dwelled.v1"] = "zone.dwelled.v1"
    data: ZoneDwelledData


class ZoneExited(Uplink):
    """Sent when it is certain."""

    type: Literal["zone.exited.v1"] = "zone.exited.v1"
    data: ZoneExitedData


class VisitEnded(Uplink):
    """Sent when the visit gap has passed."""

    type: Literal["visit.ended.v1"] = "visit.ended.v1"
    data: VisitEndedData


class OfferMatched(Uplink):
    """Central answers with a decision before the deadline."""

    type: Literal["offer.matched.v1"] = "offer.matched.v1"
    data: OfferMatchedData


class Tombstone(Uplink):
    """Stands for a number whose row was erased or dropped; counts as delivered."""

    type: Literal["tombstone.v1"] = "tombstone.v1"
    data: TombstoneData


UplinkEvent = VisitStarted | ZoneEntered | ZoneDwelled | ZoneExited | VisitEnded | OfferMatched | Tombstone
EVENT: TypeAdapter[UplinkEvent] = TypeAdapter(Annotated[UplinkEvent, Field(discriminator="type")])
EVENT_TYPES: dict[str, type[UplinkEvent]] = {
    kind.model_fields["type"].default: kind
    for kind in (VisitStarted, ZoneEntered, ZoneDwelled, ZoneExited, VisitEnded, OfferMatched, Tombstone)
}


class GatewayStatusData(Strict):
    """Whether a gateway is there, and where its numbers begin."""

    state: Literal["online", "offline"]
    version: str | None = None
    epoch: Epoch | None = None
    oldest_seq: SequenceNumber | None = None
    """The oldest number the gateway still keeps: a central that lost its database counts from here."""


class GatewayStatus(CloudEvent):
    """Birth and will of a gateway, retained."""

    type: Literal["gateway.status.v1"] = "gateway.status.v1"
    data: GatewayStatusData


class TelemetryData(Strict):
    """Counters since the process began; nothing in it names a device."""

    uptime_s: int
    advertisements: int
    strangers: int
    rejects: dict[str, int]
    beacons: int
    sightings: int
    shoppers_present: int
    roster_size: int
    catalogue_version: int | None = None
    outbox_rows: int
    outbox_oldest_s: float | None = None
    offers: dict[str, int]
    """By "matched", "granted", "refused" and "late"."""


class Telemetry(CloudEvent):
    """Once a minute, QoS 0: may be lost."""

    type: Literal["gateway.telemetry.v1"] = "gateway.telemetry.v1"
    data: TelemetryData


class CentralStateData(Strict):
    """Whether the service is there, and which life of it."""

    state: Literal["online", "offline"]
    instance: OpaqueId
    """New with every start, so that a gateway notices a restart that was quicker than the will."""


class CentralState(CloudEvent):
    """Birth and will of the central service, retained."""

    type: Literal["central.state.v1"] = "central.state.v1"
    data: CentralStateData


class AckData(Strict):
    """How far central has stored."""

    epoch: Epoch
    seq: Annotated[int, Field(ge=0, le=2**53 - 1)]
    """Every number up to and with this one is stored."""


class Ack(CloudEvent):
    """Rows up to the number may be forgotten by the gateway."""

    type: Literal["gateway.ack.v1"] = "gateway.ack.v1"
    data: AckData


RefusalReason = Literal[
    "late", "already_granted", "push_spent", "unknown_shopper", "unknown_promotion", "no_consent", "out_of_date", "quantity"
]


class DecisionData(Strict):
    """Grant or refusal of one proposal."""

    offer: OpaqueId
    granted: bool
    reason: RefusalReason | None = None
    """Why not; absent when granted."""


class Decision(CloudEvent):
    """Worthless after the deadline of the proposal."""

    type: Literal["offer.decision.v1"] = "offer.decision.v1"
    expirytime: WallTime
    data: DecisionData


class AppOfferData(Strict):
    """What the app shows."""

    offer: OpaqueId
    promotion_id: PromotionId
    kind: PromotionKind
    push: bool
    store: str
    zone: Name
    title: dict[Language, str]
    text: dict[Language, str]
    code: str | None = None
    """To show or type at the till (generic_redemption_code)."""
    url: str | None = None
    valid_until: WallTime | None = None
    matched_time: WallTime


class AppOffer(CloudEvent):
    """A granted offer in the shopper's inbox; ``id`` is the offer's, so an app shows it once however often it arrives."""

    type: Literal["app.offer.v1"] = "app.offer.v1"
    expirytime: WallTime
    data: AppOfferData


class ReceiptData(Strict):
    """What became of an offer in the app."""

    offer: OpaqueId
    state: Literal["shown", "opened", "saved", "dismissed", "redeemed"]


class Receipt(CloudEvent):
    """From the app; the same receipt may come more than once under one id."""

    type: Literal["app.receipt.v1"] = "app.receipt.v1"
    data: ReceiptData
    subject: InboxId | None = None


Message = TypeVar("Message", bound=CloudEvent)


def read_event(payload: bytes, where: str) -> UplinkEvent:
    """An uplink event; ``Untrusted`` names ``where`` and what is wrong."""
    document = strict_json.parse(payload, where)
    try:
        return EVENT.validate_python(document)
    except ValidationError as error:
        raise Untrusted(explain(error), where=where) from error


def read(model: type[Message], payload: bytes, where: str) -> Message:
    """A message of one kind; ``Untrusted`` names ``where`` and what is wrong."""
    return validated(model, strict_json.parse(payload, where), where)


Document = TypeVar("Document", bound=Strict)


def validated(model: type[Document], document: dict[str, Any], where: str) -> Document:
    """``document`` as ``model``; ``Untrusted`` names ``where`` and what is wrong."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise Untrusted(explain(error), where=where) from error
