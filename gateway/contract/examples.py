"""One message of every kind for the published document: one visit of one shopper, the same bytes on every run.

The shopper's key and the day are those of the shopper token's first test vector, so that a reader can compute the roster record
from them; the signing key is published, so that a reader can check the signatures.
"""

from typing import Any, NamedTuple, Protocol

from gateway.contract import messages
from gateway.contract.downlinks import (
    Catalogue,
    RosterChunk,
    RosterDelta,
    RosterManifest,
    ShopperContext,
    SignedMessage,
    pack_records,
    split_roster,
    to_base64,
)
from gateway.contract.fields import from_rfc3339
from gateway.contract.messages import CloudEvent, UplinkEvent
from gateway.contract.promotions import Promotion, Window
from gateway.contract.relayed import (
    GatewaySighting,
    RelayedHint,
    RelayedLevel,
    RelayedReceiver,
    RelayedSighting,
    RelayedTelemetry,
    SightingData,
)
from gateway.contract.topics import StoreTopics
from gateway.core.model import Consent, RosterEntry
from gateway.core.token import derive_day_key, derive_pseudonym

PRIVATE_KEY = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC_KEY = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
"""A key pair that everybody knows, never to be trusted. Source: RFC 8032, section 7.1, test 1."""

STORE, GATEWAY, INBOX = "demo", "pi-1", "anna"
STORE_NUMBER, DAY = 4711, 20717
KU, OTHER_KU = bytes(range(32)), bytes(range(32, 64))
"""Keys of two apps."""

_AT = from_rfc3339("2026-09-21T14:20:37.000Z")
_DAY_OVER = from_rfc3339("2026-09-22T02:00:00.000Z")
_EPOCH, _BOOT, _INSTANCE = "00112233aabbccdd", "0d3c6a52-6c5e-4f6e-9f55-0f3f6a1f3f10", "c0ffee0123456789"
_VISIT, _OFFER, _OTHER_OFFER = "5c1a7f0022334455", "f0e1d2c3b4a59687", "0f1e2d3c4b5a6978"
_CENTRAL = "central"
_SECOND_MS = 1000
_DEADLINE = _AT + 30 * _SECOND_MS

Document = Catalogue | RosterManifest | RosterChunk | RosterDelta | ShopperContext


class Seal(Protocol):
    """Signs a document (io/signing.py)."""

    def __call__(self, document: Document, *, source: str, time_ms: int) -> SignedMessage:
        """The signed envelope."""


class Example(NamedTuple):
    """A message and what it shows."""

    summary: str
    message: CloudEvent


def shopper(ku: bytes = KU) -> str:
    """The pseudonym of an app on the day of the examples."""
    return derive_pseudonym(ku, STORE_NUMBER, DAY).hex()


def documents() -> list[Document]:
    """What the signed messages hold: a catalogue, the day's roster, somebody who checks in later, a shopper's context."""
    first, second = (
        RosterEntry(
            derive_pseudonym(ku, STORE_NUMBER, DAY), derive_day_key(ku, STORE_NUMBER, DAY), Consent.OFFERS | Consent.ANALYTICS
        )
        for ku in (KU, OTHER_KU)
    )
    manifest, chunks = split_roster([first], store=STORE, day=DAY, version=1, not_after=_DAY_OVER)
    delta = RosterDelta(
        store=STORE, version=2, not_after=_DAY_OVER, day=DAY, previous=1, upserts=to_base64(pack_records([second]))
    )
    return [_catalogue(), manifest, *chunks, delta, _context()]


def examples(seal: Seal) -> list[Example]:
    """Every message of the contract at least once; ``seal`` signs with ``PRIVATE_KEY``."""
    return [
        *(Example(summary, event) for summary, event in _events()),
        *_statuses(),
        Example("How much was heard in the last hour", _telemetry()),
        Example("A second gateway has heard a shopper and a fixed beacon", _sighting()),
        Example("Central is there", _central_state("online")),
        Example("Central's will", _central_state("offline")),
        *(Example("Signed with the example key", seal(document, source=_CENTRAL, time_ms=_AT)) for document in documents()),
        *_answers(),
        *_app_messages(),
        Example("Somebody should look after a beacon", _alarm()),
        Example("Somebody comes for an order", _pickup()),
        *_back_office(),
    ]


# ---- the gateway --------------------------------------------------------------------------------------------------------------


def _events() -> list[tuple[str, UplinkEvent]]:
    who = {"visit": _VISIT, "shopper": shopper()}
    where = {**who, "zone": "dairy", "entry_time": _AT}
    left, ended = _AT + 95 * _SECOND_MS, _AT + 1895 * _SECOND_MS
    offer = {
        **who,
        "offer": _OFFER,
        "promotion_id": "yoghurt-3",
        "kind": "offer",
        "push": True,
        "zone": "dairy",
        "matched_time": _AT,
        "deadline": _DEADLINE,
        "catalogue_version": 4,
    }
    told: list[tuple[str, str, int, dict[str, object]]] = [
        ("A shopper has come in", "visit.started.v1", _AT, dict(who)),
        ("She is in the dairy", "zone.entered.v1", _AT, {**where, "belief": 0.93}),
        ("A promotion of the dairy fits", "offer.matched.v1", _AT, dict(offer)),
        ("She stays for a minute", "zone.dwelled.v1", _AT + 60 * _SECOND_MS, {**where, "dwell_s": 60.0}),
        ("What was here has been erased", "tombstone.v1", _AT + 70 * _SECOND_MS, {"reason": "erased"}),
        ("A fixed beacon has fallen silent", "beacon.health.v1", _AT + 80 * _SECOND_MS, _silent_beacon()),
        (
            "A receiver hears again, after its scan was started anew",
            "receiver.health.v1",
            _AT + 85 * _SECOND_MS,
            {
                "receiver": "door",
                "state": "hearing",
                "before": "deaf",
                "cause": "heard nothing for 90 s.",
                "step": "restart-scan",
                "helped": True,
                "told_by": "supervision",
            },
        ),
        (
            "She has gone, and it is certain after two minutes of silence",
            "zone.exited.v1",
            left + 120 * _SECOND_MS,
            {**where, "exit_time": left, "exit_delay": 120.0, "reason": "silence"},
        ),
        (
            "Half an hour later the visit is over",
            "visit.ended.v1",
            ended,
            {**who, "started_time": _AT, "ended_time": left, "zones": 1},
        ),
    ]
    return [(summary, _event(seq, kind, time, data)) for seq, (summary, kind, time, data) in enumerate(told, 1)]


def _silent_beacon() -> dict[str, object]:
    return {
        "beacon": "shelf-7",
        "zone": "dairy",
        "changed": "state",
        "before": "ok",
        "first_sign_time": _AT - 10 * _SECOND_MS,
        "state": "silent",
        "battery_state": "low",
        "battery_v": 2.31,
        "temperature_c": 6.5,
        "days_left_least": 0,
        "days_left_most": 9,
    }


def _event(seq: int, kind: str, time: int, data: dict[str, object]) -> UplinkEvent:
    return messages.EVENT.validate_python(
        {
            "id": f"{_EPOCH}-{seq}",
            "source": StoreTopics(STORE, GATEWAY).source,
            "type": kind,
            "time": time,
            "epoch": _EPOCH,
            "seq": seq,
            "bootid": _BOOT,
            "monotonicms": str(time - _AT + 123_456),
            "timequality": "synchronised",
            "data": data,
        }
    )


def _statuses() -> list[Example]:
    source = StoreTopics(STORE, GATEWAY).source
    known: dict[str, Any] = {"version": "0.1.0", "epoch": _EPOCH, "decider": GATEWAY, "term": 1, "receivers": ("door", "back")}
    birth = messages.GatewayStatusData(state="online", oldest_seq=1, **known)
    will = messages.GatewayStatusData(state="offline", **known)
    return [
        Example("A gateway's birth", messages.GatewayStatus(id="7d1f0a3b5c6e8f90", source=source, time=_AT, data=birth)),
        Example("Its will", messages.GatewayStatus(id="1b2c3d4e5f607182", source=source, time=_AT, data=will)),
    ]


def _telemetry() -> messages.Telemetry:
    data = messages.TelemetryData(
        uptime_s=3600,
        advertisements=812_345,
        strangers=790_120,
        rejects={"ibeacon.length": 3},
        beacons=20_999,
        sightings=1223,
        shoppers_present=2,
        roster_size=1,
        catalogue_version=4,
        outbox_rows=1,
        outbox_oldest_s=0.2,
        offers={"matched": 1, "granted": 1},
    )
    return messages.Telemetry(id="9a8b7c6d5e4f3a2b", source=StoreTopics(STORE, GATEWAY).source, time=_AT, data=data)


def _sighting() -> GatewaySighting:
    heard = RelayedSighting(
        shopper=shopper(),
        receiver="cellar",
        rssi_dbm=-63,
        age_ms=120,
        consent=3,
        hint=RelayedHint(short_id=7, rssi_dbm=-60.0, minute=_AT // 60_000),
    )
    data = SightingData(
        session="4b5a69788796a5b4",
        seq=17,
        sent_ms=987_654,
        receivers=(RelayedReceiver(name="cellar", state="hearing", heard=20_317),),
        sightings=(heard,),
        levels=(RelayedLevel(beacon="shelf-7", receiver="cellar", rssi_dbm=-71, age_ms=35, count=2),),
        telemetry=(
            RelayedTelemetry(
                beacon="shelf-7",
                receiver="cellar",
                age_ms=80,
                battery_mv=2950,
                temperature_c=6.5,
                advertisements=864_000,
                uptime_ms=86_400_000,
            ),
        ),
    )
    return GatewaySighting(id="4b5a69788796a5b4-17", source=StoreTopics(STORE, "pi-2").source, time=_AT, data=data)


# ---- central ------------------------------------------------------------------------------------------------------------------


def _central_state(state: str) -> messages.CentralState:
    data = messages.CentralStateData.model_validate({"state": state, "instance": _INSTANCE})
    return messages.CentralState(id=f"{_INSTANCE}-{state}", source=_CENTRAL, time=_AT, data=data)


def _catalogue() -> Catalogue:
    yoghurt = Promotion(
        promotion_id="yoghurt-3",
        long_title={"de": "Montags: 3 Joghurts zum Preis von 2", "en": "Mondays: 3 yoghurts for the price of 2"},
        offer_type="generic_code",
        generic_redemption_code="YOG3",
        promotion_effective_dates="2026-09-01T00:00:00+02:00/2026-10-01T00:00:00+02:00",
        promotion_url="https://shop.example/yoghurt",
        limit_quantity=6,
        item_id=("4006381333931",),
        zones=("dairy",),
        windows=(Window(weekdays=("mon",), start="08:00", end="20:00"),),
        priority=10,
    )
    return Catalogue(store=STORE, version=4, not_after=_AT + 7 * 86_400 * _SECOND_MS, promotions=(yoghurt,))


def _context() -> ShopperContext:
    return ShopperContext(
        store=STORE,
        version=_AT,
        not_after=_AT + 7200 * _SECOND_MS,
        shopper=shopper(),
        segments=("family",),
        visits_30_days=4,
        days_since_last_visit=3,
        basket_today="31.90 EUR",
        watch_list=("4006381333931",),
        order_state="ready",
        language="de",
        muted_categories=("wine",),
        saved_offers=("bread-20",),
        offers_elsewhere={"cheese-10": 1},
    )


def _answers() -> list[Example]:
    at = _AT + 40
    ack = messages.Ack(id=f"{_EPOCH}-3", source=_CENTRAL, time=at, data=messages.AckData(epoch=_EPOCH, seq=3))
    grant = messages.DecisionData(offer=_OFFER, granted=True)
    refusal = messages.DecisionData(offer=_OTHER_OFFER, granted=False, reason="push_spent")
    return [
        Example("The events 1 to 3 are stored", ack),
        *(
            Example(
                "A grant" if data.granted else "A refusal of another proposal",
                messages.Decision(id=f"{data.offer}-decision", source=_CENTRAL, time=at, expirytime=_DEADLINE, data=data),
            )
            for data in (grant, refusal)
        ),
    ]


def _alarm() -> messages.StaffAlarm:
    data = messages.StaffAlarmData(
        subject="beacon",
        name="shelf-7",
        zone="dairy",
        state="silent",
        is_over=False,
        text={
            "de": "Beacon shelf-7 (dairy) ist nicht mehr zu hören: bitte nachsehen, ob er da ist, und die Batterie wechseln.",
            "en": "Beacon shelf-7 (dairy) is not heard any more: see whether it is there, and change its battery.",
        },
    )
    return messages.StaffAlarm(id=f"{_EPOCH}-6-alarm", source=_CENTRAL, time=_AT + 80 * _SECOND_MS, data=data)


def _pickup() -> messages.StaffPickup:
    data = messages.StaffPickupData(
        store=STORE,
        order="W-1042",
        zone="dairy",
        time=_AT,
        is_over=False,
        text={
            "de": "Jemand holt Bestellung W-1042 ab (gesehen in dairy): bitte bereitlegen.",
            "en": "Somebody comes for order W-1042 (seen in dairy): please have it at hand.",
        },
    )
    return messages.StaffPickup(id=f"W-1042-{_AT}-pickup", source=_CENTRAL, time=_AT, data=data)


# ---- tills, web shop, CRM -----------------------------------------------------------------------------------------------------


def _back_office() -> list[Example]:
    paid, given_back = _AT + 1200 * _SECOND_MS, _AT + 1500 * _SECOND_MS
    bought = messages.TillReceiptData(
        receipt="4711-20260921-0815",
        till="till-2",
        purchase_time=paid,
        inbox=INBOX,
        total="31.90 EUR",
        items=(messages.ReceiptItem(gtin="4006381333931", quantity=3, amount="3.98 EUR"),),
        redeemed=("YOG3",),
    )
    refund = messages.TillReceiptData(
        receipt="4711-20260921-0822",
        till="till-2",
        purchase_time=given_back,
        inbox=INBOX,
        total="-3.98 EUR",
        refunds="4711-20260921-0815",
        items=(messages.ReceiptItem(gtin="4006381333931", quantity=-3, amount="-3.98 EUR"),),
    )
    order = messages.OrderData(
        order="W-1042", inbox=INBOX, version=3, state="ready", changed_time=_AT - 3600 * _SECOND_MS, attribution=_OFFER
    )
    profile = messages.ProfileData(
        inbox=INBOX, version=12, segments=("family",), language="de", watch_list=("4006381333931",), card="9280001234567"
    )
    return [
        *(
            Example(
                "A purchase" if data.refunds is None else "A part of it is given back",
                messages.TillReceipt(id=data.receipt, source="till-2", time=data.purchase_time, data=data),
            )
            for data in (bought, refund)
        ),
        Example("An order can be fetched", messages.Order(id="W-1042-3", source="web-shop", time=order.changed_time, data=order)),
        Example("A shopper as the CRM knows her", messages.Profile(id="anna-12", source="crm", time=_AT, data=profile)),
    ]


# ---- the app ------------------------------------------------------------------------------------------------------------------


def _app_messages() -> list[Example]:
    (promotion,) = _catalogue().promotions
    (proposal,) = (event.data for _, event in _events() if isinstance(event, messages.OfferMatched))
    offer = messages.AppOfferData.granted(STORE, proposal, promotion)
    receipt = messages.ReceiptData(offer=_OFFER, state="shown")
    return [
        Example(
            "The granted offer, in the inbox of the shopper's app",
            messages.AppOffer(id=_OFFER, source=_CENTRAL, time=_AT + 40, expirytime=_DEADLINE, data=offer),
        ),
        Example(
            "The app has shown it",
            messages.Receipt(id=f"{_OFFER}-shown", source=f"app/{INBOX}", time=_AT + 400, data=receipt, subject=INBOX),
        ),
        Example(
            "An offer is taken back, because what was bought for it was given back",
            messages.WithdrawnOffer(
                id=f"{_OFFER}-withdrawn",
                source=_CENTRAL,
                time=_AT + 1500 * _SECOND_MS,
                expirytime=_DAY_OVER,
                data=messages.WithdrawnOfferData(offer=_OFFER, promotion_id="yoghurt-3", reason="refund"),
            ),
        ),
        Example(
            "A product is put on the wish list",
            messages.Wish(
                id="wish-1",
                source=f"app/{INBOX}",
                time=_AT + 500,
                data=messages.WishData(gtin="4006381333931", wanted=True),
            ),
        ),
    ]
