"""Every message of the wire contract, version 1: CloudEvents 1.0 in structured JSON.

An uplink event's key is (gateway, ``epoch``, ``seq``). A message with ``expirytime`` is worthless afterwards and the same moment
goes into MQTT 5's expiry; uplink events have none, because a number once given must always arrive: their deadlines are data.
"""

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, model_validator

from gateway.contract import strict_json
from gateway.contract.fields import (
    Epoch,
    GatewayId,
    Gtin,
    InboxId,
    Language,
    MoneyText,
    Name,
    OpaqueId,
    PromotionId,
    Pseudonym,
    SequenceNumber,
    SignedMoneyText,
    StoreId,
    Strict,
    WallTime,
    explain,
)
from gateway.contract.promotions import DigitalLink, Image, Promotion
from gateway.core.conditions import OrderState
from gateway.core.deciding import LAST_TERM, Claim
from gateway.core.model import BatteryState, BeaconState, HearingTold, PromotionKind, RecoveryStep
from gateway.errors import Untrusted

CONTENT_TYPE = "application/cloudevents+json"

CardNumber = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z-]{1,40}$")]
"""Of a customer card."""
RedeemedCode = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z-]{1,64}$")]
"""What a till has taken for a discount: the id of an offer, or a promotion's code."""


class CloudEvent(Strict):
    """The attributes that every message of ours has."""

    specversion: Literal["1.0"] = "1.0"
    id: Annotated[str, Field(min_length=1, max_length=128)]
    """Unique within ``source``; a message that is sent again keeps it."""
    source: Annotated[str, Field(min_length=1, max_length=128)]
    """Who speaks: ``stores/{store}/gateways/{gateway}``, ``central`` or ``app/{inbox}``; topics decide, not this name."""
    time: WallTime
    """When it happened (numbered events) or was said (everything else)."""
    datacontenttype: Literal["application/json"] = "application/json"

    def to_json(self) -> bytes:
        """The message as it goes onto the wire."""
        return self.model_dump_json(exclude_none=True).encode()


class Uplink(CloudEvent):
    """An event of a gateway, numbered for good."""

    epoch: Epoch
    seq: SequenceNumber
    """The event's number in its epoch, from 1 without a gap."""
    bootid: OpaqueId
    """The boot of the machine whose clock ``monotonicms`` tells."""
    monotonicms: Annotated[str, Field(pattern=r"^[0-9]{1,18}$")]
    """Milliseconds on the boot's monotonic clock; a string, because CloudEvents integers have 32 bits."""
    timequality: Literal["synchronised", "holdover", "unsynchronised"]
    """How far ``time`` can be believed; ``holdover``: was right, may have drifted by less than a token's tolerance."""
    history: Literal[True] | None = None
    """Present when the event waited for the network: it is told late, it did not happen late."""


class VisitStartedData(Strict):
    """A visit has begun."""

    visit: OpaqueId
    """From the first entry to the last exit, with gaps shorter than the visit gap (30 min)."""
    shopper: Pseudonym


class ZoneEnteredData(Strict):
    """The shopper is in the zone now."""

    visit: OpaqueId
    """The visit that it belongs to."""
    shopper: Pseudonym
    zone: Name
    """Where."""
    entry_time: WallTime
    """Since when."""
    belief: Annotated[float, Field(ge=0, le=1)]
    """How sure the gateway is of this zone, as a probability."""


class ZoneDwelledData(Strict):
    """The shopper has been in the zone for this long."""

    visit: OpaqueId
    """The visit that it belongs to."""
    shopper: Pseudonym
    zone: Name
    """Where."""
    entry_time: WallTime
    """As in the ``zone.entered.v1`` before."""
    dwell_s: Annotated[float, Field(ge=0)]
    """The threshold that was reached, seconds."""


class ZoneExitedData(Strict):
    """The shopper has left the zone."""

    visit: OpaqueId
    """The visit that it belongs to."""
    shopper: Pseudonym
    zone: Name
    """Which zone was left."""
    entry_time: WallTime
    """As in the ``zone.entered.v1`` before."""
    exit_time: WallTime
    """When the shopper was last believed in the zone."""
    exit_delay: Annotated[float, Field(ge=0)]
    """Seconds from then until it was certain."""
    reason: Literal["moved", "silence", "weak", "restart"]
    """Believed in another zone, not heard any more, heard too weakly, or gone while the gateway was not running."""


class VisitEndedData(Strict):
    """No zone for the length of the visit gap."""

    visit: OpaqueId
    """The visit that has ended."""
    shopper: Pseudonym
    started_time: WallTime
    """The first entry."""
    ended_time: WallTime
    """The last exit; the visit gap lies between it and the event."""
    zones: Annotated[int, Field(ge=1)]
    """How many entries into zones it had."""


class OfferMatchedData(Strict):
    """The gateway's proposal."""

    offer: OpaqueId
    """Names the proposal, its decision, the offer in the app and its receipts."""
    promotion_id: PromotionId
    """The promotion of the catalogue that matched."""
    kind: PromotionKind
    """As in the catalogue."""
    push: bool
    """Whether the phone may ring. False for ``info``, which only appears, and for anything that would ring but may not, because
    the visit's push is spent or these are quiet hours: that is for the app's shelf."""
    visit: OpaqueId
    """The visit that it belongs to; a gateway that lost its database names visits anew."""
    shopper: Pseudonym
    zone: Name
    """Where the shopper is."""
    matched_time: WallTime
    """When the shopper entered (or had dwelled), which is what latency is counted from."""
    deadline: WallTime
    """Not granted by then: late, never shown."""
    catalogue_version: Annotated[int, Field(ge=0)]
    """Version of the catalogue that was in force."""


class BeaconHealthData(Strict):
    """How a fixed beacon fares now, and what of it is judged differently than before."""

    beacon: Name
    """Of the shop."""
    zone: Name
    """Where it stands."""
    changed: Literal["state", "battery_state"]
    """Which of the two is new."""
    before: BeaconState | BatteryState
    """What it was when it was told last."""
    first_sign_time: WallTime
    """Since when there were signs of it; the event comes when it is certain."""
    state: BeaconState
    """``learning``: not heard for long enough to judge; ``ok``; ``weak``: sank slowly, or is hardly heard any more; ``covered``:
    fell at every receiver; ``moved``: the pattern over the receivers changed; ``silent``: no longer sends; ``cloned``: two
    transmitters use its key."""
    battery_state: BatteryState
    """``low``: change the battery; ``unknown``: the beacon does not tell."""
    battery_v: float | None = None
    """Volts, smoothed."""
    battery_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    """What is left, as the beacon says."""
    temperature_c: float | None = None
    """Degrees Celsius, as the beacon measures it."""
    days_left_least: Annotated[int, Field(ge=0)] | None = None
    """Until the battery is low, at the present decline; absent unless that is plain."""
    days_left_most: Annotated[int, Field(ge=0)] | None = None
    """Until it is empty."""


class ReceiverHealthData(Strict):
    """How a receiver hears now, and what happened to it."""

    receiver: Name
    """Of the shop or the settings."""
    state: HearingTold
    """``deaf``: hears nothing; ``impaired``: hears others, but the fixed beacons around it no more or more faintly."""
    before: HearingTold
    """What was told last; the same as ``state`` where only a step is told."""
    cause: Annotated[str, StringConstraints(min_length=1, max_length=300)]
    """One sentence in English, for people."""
    step: RecoveryStep | None = None
    """What the gateway tried; absent when it did nothing."""
    helped: bool | None = None
    """Whether the step made it hear again; absent while that is open."""
    told_by: Literal["supervision", "canaries"]
    """Who noticed: the one that keeps the scan going, or the fixed beacons that ought to be heard."""


class TombstoneData(Strict):
    """Why there is nothing under this number."""

    reason: Literal["erased", "dropped"]
    """Erased with its shopper, or given up: too old to be kept, damaged on the disk, or without room on a disk that was full."""


class VisitStarted(Uplink):
    """A visit begins with the first entry."""

    type: Literal["visit.started.v1"] = "visit.started.v1"
    data: VisitStartedData


class ZoneEntered(Uplink):
    """The shopper is in a zone. The zone events name their fields as the OMLOX hub does."""

    type: Literal["zone.entered.v1"] = "zone.entered.v1"
    data: ZoneEnteredData


class ZoneDwelled(Uplink):
    """The shopper stays in a zone; sent once per threshold."""

    type: Literal["zone.dwelled.v1"] = "zone.dwelled.v1"
    data: ZoneDwelledData


class ZoneExited(Uplink):
    """The shopper is in a zone no more; sent when it is certain, which is ``exit_delay`` after it happened."""

    type: Literal["zone.exited.v1"] = "zone.exited.v1"
    data: ZoneExitedData


class VisitEnded(Uplink):
    """The visit is over; sent when the visit gap has passed."""

    type: Literal["visit.ended.v1"] = "visit.ended.v1"
    data: VisitEndedData


class OfferMatched(Uplink):
    """A promotion fits a shopper: the gateway proposes, central answers with a decision before the deadline."""

    type: Literal["offer.matched.v1"] = "offer.matched.v1"
    data: OfferMatchedData


class BeaconHealthChanged(Uplink):
    """A fixed beacon, or its battery, is judged differently than before."""

    type: Literal["beacon.health.v1"] = "beacon.health.v1"
    data: BeaconHealthData


class ReceiverHealthChanged(Uplink):
    """A receiver ceased to hear, hears again, or something was tried to make it."""

    type: Literal["receiver.health.v1"] = "receiver.health.v1"
    data: ReceiverHealthData


class Tombstone(Uplink):
    """Stands for a number whose row was erased or dropped; counts as delivered."""

    type: Literal["tombstone.v1"] = "tombstone.v1"
    data: TombstoneData


UplinkEvent = (
    VisitStarted
    | ZoneEntered
    | ZoneDwelled
    | ZoneExited
    | VisitEnded
    | OfferMatched
    | BeaconHealthChanged
    | ReceiverHealthChanged
    | Tombstone
)
EVENT: TypeAdapter[UplinkEvent] = TypeAdapter(
    Annotated[UplinkEvent, Field(discriminator="type")], config=ConfigDict(defer_build=True)
)
EVENT_TYPES: dict[str, type[UplinkEvent]] = {
    kind.model_fields["type"].default: kind
    for kind in (
        VisitStarted,
        ZoneEntered,
        ZoneDwelled,
        ZoneExited,
        VisitEnded,
        OfferMatched,
        BeaconHealthChanged,
        ReceiverHealthChanged,
        Tombstone,
    )
}


class LaterData(BaseModel):
    """Whatever it is."""

    model_config = ConfigDict(extra="allow", frozen=True)


class LaterEvent(Uplink):
    """An event that only a newer version knows: stored and acknowledged unread, or it would hold up whatever comes behind it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    type: Annotated[str, StringConstraints(pattern=r"^[a-z0-9.]{1,64}$")]
    data: LaterData


class GatewayStatusData(Strict):
    """Whether a gateway is there, where its numbers begin, and who decides in the store as far as it knows."""

    state: Literal["online", "offline"]
    """``offline`` comes from the broker (the will), or from a gateway that says goodbye."""
    version: str | None = None
    """Of the gateway's software."""
    epoch: Epoch | None = None
    oldest_seq: SequenceNumber | None = None
    """The oldest number that the gateway still keeps, or the next it will give: what is below never comes (again).

    Absent while offline.
    """
    decider: GatewayId | None = None
    """Who decides: the gateway that the greatest claim names which this one has heard of; absent when it has heard of none.

    The higher ``term`` is the greater claim; in one term the name that comes first.
    """
    term: Annotated[int, Field(ge=0, le=LAST_TERM)] | None = None
    """Of that claim: one more with each takeover; 0 until a gateway knows that nobody else decides."""
    receivers: Annotated[tuple[Name, ...], Field(max_length=64)] | None = None
    """Its receivers' anchors; absent when there is none."""

    @property
    def claim(self) -> Claim | None:
        """Who decides."""
        return None if self.decider is None or self.term is None else Claim(self.term, self.decider)


class GatewayStatus(CloudEvent):
    """Birth and will of a gateway, retained."""

    type: Literal["gateway.status.v1"] = "gateway.status.v1"
    data: GatewayStatusData


class TelemetryData(Strict):
    """Counters since the process began; nothing in it names a device."""

    uptime_s: int
    """For how long the process has run."""
    advertisements: int
    """Everything that was heard."""
    strangers: int
    """Dropped: no format of ours, no registered beacon, or a token that is in no roster."""
    rejects: dict[str, int]
    """What claims a format and breaks it, by ``format.kind``."""
    beacons: int
    """Advertisements of registered beacons."""
    sightings: int
    """Tokens of shoppers, heard by a known receiver."""
    shoppers_present: int
    """Shoppers in any zone now."""
    roster_size: int
    """Shoppers in the largest roster in force."""
    catalogue_version: int | None = None
    """In force; absent when there is none."""
    outbox_rows: int
    """Events that central has not acknowledged."""
    outbox_oldest_s: float | None = None
    """Age of the oldest of them; absent when there is none."""
    offers: dict[str, int]
    """How many were ``matched``, ``granted``, ``refused`` and ``late``."""


class Telemetry(CloudEvent):
    """Once a minute, QoS 0: may be lost."""

    type: Literal["gateway.telemetry.v1"] = "gateway.telemetry.v1"
    data: TelemetryData


class CentralStateData(Strict):
    """Whether the service is there, and which life of it."""

    state: Literal["online", "offline"]
    """While it is not ``online``, gateways keep their events and send none."""
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
    """Every number up to and with this one is stored, none missing; 0 when there is none yet."""


class Ack(CloudEvent):
    """Rows up to the number may be forgotten by the gateway."""

    type: Literal["gateway.ack.v1"] = "gateway.ack.v1"
    data: AckData


RefusalReason = Literal[
    "not_decider",
    "late",
    "already_granted",
    "push_spent",
    "unknown_shopper",
    "unknown_promotion",
    "no_consent",
    "out_of_date",
    "quantity",
    "cap_week",
    "cap_lifetime",
    "cap_chain",
    "cap_visit",
    "cap_store",
    "cool_down",
    "holdout",
    "muted_category",
    "stopped",
]
"""Why not; absent when granted.

``not_decider``: another gateway decides in the store. ``late``: the deadline has passed. ``already_granted``: the shopper has
had this promotion as often as ``daily_cap`` allows. ``push_spent``: the visit has had its push. ``unknown_shopper``: nobody has
this pseudonym (any more). ``no_consent``: not to offers. ``unknown_promotion``: not one of the store's. ``out_of_date``: changed
or ended since, or the shopper is no longer among its audience. ``quantity``: none is left. ``cap_week``, ``cap_lifetime``: the
shopper has had it as often as ``weekly_cap`` or ``lifetime_cap`` allows. ``cap_chain``: offered as often today as
``chain_cap_day`` allows. ``cap_visit``, ``cap_store``, ``cool_down``: what the gateway keeps, looked at again for one that took
over from another. ``holdout``: the shopper belongs to those who do not get it, so that its effect can be measured.
``muted_category``: two offers of its category were dismissed within 30 days. ``stopped``: the shopper has complained.

After ``already_granted`` and ``push_spent`` push and cap stay spent at the gateway; any other reason gives them back. After
``holdout``, ``cap_week``, ``cap_lifetime``, ``cap_store``, ``cap_chain``, ``muted_category`` and ``stopped`` the promotion is not
proposed to this shopper again on this day. A proposal that nobody answered before its deadline stays spent: a decision that comes
later changes nothing.
"""


class DecisionData(Strict):
    """Grant or refusal of one proposal."""

    offer: OpaqueId
    """Of the proposal."""
    granted: bool
    """Whether the app is told."""
    reason: RefusalReason | None = None


class Decision(CloudEvent):
    """Central's answer to a proposal; worthless after its deadline."""

    type: Literal["offer.decision.v1"] = "offer.decision.v1"
    expirytime: WallTime
    """The deadline of the proposal."""
    data: DecisionData


class AppOfferData(Strict):
    """What the app shows."""

    offer: OpaqueId
    """Of the proposal; the app names it in its receipts."""
    promotion_id: PromotionId
    """Of the catalogue."""
    kind: PromotionKind
    """As in the catalogue."""
    push: bool
    """Whether the phone may ring."""
    store: str
    """The store whose offer it is."""
    zone: Name
    """Where the shopper was."""
    title: dict[Language, str]
    """By language (``long_title``)."""
    text: dict[Language, str]
    """By language; empty when there is nothing more to say."""
    code: str | None = None
    """To show or type at the till (``generic_redemption_code``)."""
    url: str | None = None
    """More about it (``promotion_url``)."""
    attribution: OpaqueId | None = None
    """Beside a ``url``: what the web shop names in an order that comes of it, so that the visit is known to have led there."""
    valid_until: WallTime | None = None
    """The end of ``promotion_effective_dates``, exclusive; absent when there is none."""
    percent_off: int | None = None
    """As in the catalogue, like what follows; absent when there is none."""
    money_off_amount: MoneyText | None = None
    """Off the price."""
    minimum_purchase_amount: MoneyText | None = None
    """What has to be spent for it."""
    limit_quantity: int | None = None
    """Pieces in one purchase."""
    item_id: tuple[str, ...] = ()
    """The products it is about; empty when there are no certain ones."""
    fine_print: dict[Language, str] = {}
    """By language; empty when there is none."""
    image: Image | None = None
    digital_link: DigitalLink | None = None
    """Its product on the web."""
    price: MoneyText | None = None
    """What it costs now."""
    old_price: MoneyText | None = None
    """What it cost before."""
    shelf: bool = False
    """Whether it would have rung, but may not (the visit's push is spent, quiet hours): the app lists it silently, by zone."""
    reserved_until: WallTime | None = None
    """Until when a piece is kept for the shopper; absent when pieces are not counted or not reserved."""

    @classmethod
    def granted(cls, store: str, proposal: OfferMatchedData, promotion: Promotion, reserved_until: int | None = None) -> Self:
        """What the shopper reads of a proposal that central has granted."""
        return cls(
            offer=proposal.offer,
            promotion_id=proposal.promotion_id,
            kind=proposal.kind,
            push=proposal.push,
            store=store,
            zone=proposal.zone,
            title=promotion.long_title,
            text=promotion.text,
            code=promotion.generic_redemption_code,
            url=promotion.promotion_url,
            attribution=None if promotion.promotion_url is None else proposal.offer,
            valid_until=promotion.valid_until_ms,
            percent_off=promotion.percent_off,
            money_off_amount=promotion.money_off_amount,
            minimum_purchase_amount=promotion.minimum_purchase_amount,
            limit_quantity=promotion.limit_quantity,
            item_id=promotion.item_id,
            fine_print=promotion.fine_print,
            image=promotion.image,
            digital_link=promotion.digital_link,
            price=promotion.price,
            old_price=promotion.old_price,
            shelf=not proposal.push and proposal.kind != "info",
            reserved_until=reserved_until,
            matched_time=proposal.matched_time,
        )

    matched_time: WallTime
    """As in the proposal: what latency is counted from."""


class AppOffer(CloudEvent):
    """A granted offer in the shopper's inbox; ``id`` is the offer's, so an app shows it once however often it arrives."""

    type: Literal["app.offer.v1"] = "app.offer.v1"
    expirytime: WallTime
    """The deadline of the proposal: an app that reads it later does not show it."""
    data: AppOfferData


class WithdrawnOfferData(Strict):
    """What is taken back, and why."""

    offer: OpaqueId
    """Of the offer in the inbox."""
    promotion_id: PromotionId
    """Of the catalogue."""
    reason: Literal["refund", "stopped", "collected"]
    """``refund``: what was bought for it was given back. ``stopped``: the shopper complained. ``collected``: nothing is left
    to fetch."""


class WithdrawnOffer(CloudEvent):
    """A granted offer that was not redeemed is taken back: the app shows it no more, and never if it comes only now.

    Sent again until the app's receipt ``withdrawn``; ``id`` is the same when it comes again.
    """

    type: Literal["app.offer.withdrawn.v1"] = "app.offer.withdrawn.v1"
    expirytime: WallTime
    """Until when it is sent."""
    data: WithdrawnOfferData


class StaffAlarmData(Strict):
    """What somebody in the shop should see to, or need not any more."""

    subject: Literal["beacon", "battery", "receiver"]
    """What it is about; ``battery``: that of the beacon."""
    name: Name
    """Of the beacon or receiver."""
    zone: Name | None = None
    """Where the beacon stands."""
    state: BeaconState | BatteryState | HearingTold
    """As in the gateway's event."""
    is_over: bool
    """Whether it is as it should be again."""
    text: dict[Language, str]
    """One sentence by language, for people."""


class StaffAlarm(CloudEvent):
    """For the people in the shop, once for each change; ``id`` is the same when it comes again."""

    type: Literal["staff.alarm.v1"] = "staff.alarm.v1"
    data: StaffAlarmData


class StaffPickupData(Strict):
    """Somebody comes for an order that is ready, or does not have to be served any more."""

    store: StoreId
    """Where it is to be fetched."""
    order: OpaqueId
    """As the shop's orders are numbered."""
    zone: Name | None = None
    """Where the shopper was seen; absent when it is over."""
    time: WallTime
    """When the shopper was seen, or the order was collected or returned."""
    is_over: bool
    """Whether it was collected or returned."""
    text: dict[Language, str]
    """One sentence by language, for people."""


class StaffPickup(CloudEvent):
    """For the people in the shop, once for each order and visit; ``id`` is the same when it comes again."""

    type: Literal["staff.pickup.v1"] = "staff.pickup.v1"
    data: StaffPickupData


class ReceiptData(Strict):
    """What became of an offer in the app."""

    offer: OpaqueId
    """Of the offer in the inbox."""
    state: Literal["shown", "opened", "saved", "dismissed", "redeemed", "complained", "withdrawn"]
    """What has happened to it; the first receipt of any state ends central's sending the offer again.

    ``saved`` reminds of it on the next visit; two ``dismissed`` of one category mute it for 30 days; ``complained`` stops
    everything; ``withdrawn``: the app has taken it away, as it was told.
    """


class Receipt(CloudEvent):
    """From the app; the same receipt may come more than once under one id."""

    type: Literal["app.receipt.v1"] = "app.receipt.v1"
    data: ReceiptData
    subject: InboxId | None = None
    """The inbox; the topic's counts."""


class WishData(Strict):
    """What the shopper wants to be reminded of: a product or a promotion, one of the two."""

    gtin: Gtin | None = None
    """The product."""
    promotion_id: PromotionId | None = None
    """The promotion."""
    wanted: bool
    """Or no longer."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.gtin is None) == (self.promotion_id is None):
            raise ValueError("one of gtin and promotion_id was expected")
        return self


class Wish(CloudEvent):
    """From the app; of one product or promotion the newest ``time`` counts, in whatever order they arrive."""

    type: Literal["wish.v1"] = "wish.v1"
    data: WishData


# ---- what the back office tells -----------------------------------------------------------------------------------------------


class ReceiptItem(Strict):
    """One line of a till's receipt."""

    gtin: Gtin
    """The product."""
    quantity: Annotated[int, Field(ge=-10_000, le=10_000)] = 1
    """Pieces; below zero what was given back."""
    amount: SignedMoneyText | None = None
    """For all of them; absent where the till does not say."""


class TillReceiptData(Strict):
    """A purchase, or a refund of one: a total below zero, and ``refunds``."""

    receipt: OpaqueId
    """Its number, never given again in this store; the same again is the same receipt."""
    till: Name
    """Which till."""
    purchase_time: WallTime
    """When it was paid, or given back; a till that was offline tells it later."""
    inbox: InboxId | None = None
    """Whose it is: this, ``card`` or ``shopper``; without any it is nobody's and not kept."""
    card: CardNumber | None = None
    """The customer card, which the profile of its owner names."""
    shopper: Pseudonym | None = None
    """The pseudonym of the day, as the app shows it to the till."""
    total: SignedMoneyText
    """What was paid, in the store's currency."""
    refunds: OpaqueId | None = None
    """The receipt of this store that is given back, whole or in part; it may come later than its refund."""
    items: Annotated[tuple[ReceiptItem, ...], Field(max_length=500)] = ()
    """What was bought."""
    redeemed: Annotated[tuple[RedeemedCode, ...], Field(max_length=50)] = ()
    """What was shown for it: the ids of offers, or the promotions' ``generic_redemption_code``."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if sum(name is not None for name in (self.inbox, self.card, self.shopper)) > 1:
            raise ValueError("at most one of inbox, card and shopper was expected")
        if self.total.startswith("-") != (self.refunds is not None):
            raise ValueError("a total below zero belongs to refunds")
        return self


class TillReceipt(CloudEvent):
    """From a till: at once, later, more than once and in any order."""

    type: Literal["till.receipt.v1"] = "till.receipt.v1"
    data: TillReceiptData


class OrderData(Strict):
    """How an order of the web shop stands that is fetched in this store."""

    order: OpaqueId
    """Its number; one that a person may read aloud."""
    inbox: InboxId
    """Whose it is."""
    version: SequenceNumber
    """Rises with every change: the highest counts, in whatever order they arrive."""
    state: OrderState
    """``returned`` ends it as ``collected`` does."""
    changed_time: WallTime
    """Since when."""
    attribution: OpaqueId | None = None
    """As in the link of an offer that led to it; counts for seven days after the offer was granted."""


class Order(CloudEvent):
    """From the web shop, at every change."""

    type: Literal["order.v1"] = "order.v1"
    data: OrderData


class ProfileData(Strict):
    """What the CRM knows of a shopper, whole: it replaces what an older version said."""

    inbox: InboxId
    """Whose it is."""
    version: SequenceNumber
    """Rises with every change: the highest counts, in whatever order they arrive."""
    segments: Annotated[tuple[Name, ...], Field(max_length=200)] = ()
    """The retailer's segments the shopper is in."""
    language: Language | None = None
    """Of the app."""
    watch_list: Annotated[tuple[Gtin, ...], Field(max_length=500)] = ()
    """Products the shopper has put on a list elsewhere; what the app tells as wishes comes on top."""
    card: CardNumber | None = None
    """The customer card, by which tills name the shopper."""


class Profile(CloudEvent):
    """From the CRM."""

    type: Literal["profile.v1"] = "profile.v1"
    data: ProfileData


Message = TypeVar("Message", bound=CloudEvent)


def read_event(payload: bytes, where: str) -> UplinkEvent | LaterEvent:
    """An uplink event; ``Untrusted`` names ``where`` and what is wrong."""
    document = strict_json.parse(payload, where)
    if document.get("type") not in (*EVENT_TYPES, None):
        return validated(LaterEvent, document, where)
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
