"""One example of every message of the wire contract, as the JSON object that is on the wire."""

from typing import Any

from gateway.contract import messages
from gateway.contract.downlinks import SignedMessage
from gateway.contract.messages import CloudEvent
from gateway.contract.relayed import GatewaySighting

Json = dict[str, Any]

EPOCH, SHOPPER, VISIT, OFFER = "00112233aabbccdd", "8a4061daf88a329d", "5c1a7f0022334455", "f0e1d2c3b4a59687"
AT, LATER = "2026-09-21T14:20:37.123Z", "2026-09-21T14:21:07.123Z"

_ENVELOPE: Json = {"specversion": "1.0", "source": "stores/demo/gateways/pi-1", "time": AT, "datacontenttype": "application/json"}
_NUMBERED: Json = {
    **_ENVELOPE,
    "id": f"{EPOCH}-7",
    "epoch": EPOCH,
    "seq": 7,
    "bootid": "0d3c6a52-6c5e-4f6e-9f55-0f3f6a1f3f10",
    "monotonicms": "123456",
    "timequality": "synchronised",
}

EVENTS: dict[str, Json] = {
    name: {**_NUMBERED, "type": name, "data": data}
    for name, data in {
        "visit.started.v1": {"visit": VISIT, "shopper": SHOPPER},
        "zone.entered.v1": {"visit": VISIT, "shopper": SHOPPER, "zone": "dairy", "entry_time": AT, "belief": 0.93},
        "zone.dwelled.v1": {"visit": VISIT, "shopper": SHOPPER, "zone": "dairy", "entry_time": AT, "dwell_s": 60.0},
        "zone.exited.v1": {
            "visit": VISIT,
            "shopper": SHOPPER,
            "zone": "dairy",
            "entry_time": AT,
            "exit_time": LATER,
            "exit_delay": 12.5,
            "reason": "silence",
        },
        "visit.ended.v1": {"visit": VISIT, "shopper": SHOPPER, "started_time": AT, "ended_time": LATER, "zones": 3},
        "offer.matched.v1": {
            "offer": OFFER,
            "promotion_id": "yoghurt-monday",
            "kind": "offer",
            "push": True,
            "visit": VISIT,
            "shopper": SHOPPER,
            "zone": "dairy",
            "matched_time": AT,
            "deadline": LATER,
            "catalogue_version": 4,
        },
        "beacon.health.v1": {
            "beacon": "shelf-7",
            "zone": "dairy",
            "changed": "state",
            "before": "ok",
            "first_sign_time": AT,
            "state": "silent",
            "battery_state": "low",
            "battery_v": 2.31,
            "battery_percent": 9,
            "temperature_c": 6.5,
            "days_left_least": 0,
            "days_left_most": 9,
        },
        "receiver.health.v1": {
            "receiver": "door",
            "state": "hearing",
            "before": "deaf",
            "cause": "heard nothing for 90 s.",
            "step": "restart-scan",
            "helped": True,
            "told_by": "supervision",
        },
        "tombstone.v1": {"reason": "erased"},
    }.items()
}

_CENTRAL: Json = {**_ENVELOPE, "source": "central"}

OTHERS: dict[type[CloudEvent], Json] = {
    messages.GatewayStatus: {
        **_ENVELOPE,
        "id": "s-1",
        "type": "gateway.status.v1",
        "data": {
            "state": "online",
            "version": "0.1.0",
            "epoch": EPOCH,
            "oldest_seq": 5,
            "decider": "pi-1",
            "term": 2,
            "receivers": ["door"],
        },
    },
    GatewaySighting: {
        **_ENVELOPE,
        "id": "r-1",
        "source": "stores/demo/gateways/pi-2",
        "type": "gateway.sighting.v1",
        "data": {
            "session": "0123456789abcdef",
            "seq": 3,
            "sent_ms": 1000,
            "receivers": [{"name": "cellar", "state": "deaf", "heard": 9, "trouble": "hears nothing."}],
            "sightings": [
                {
                    "shopper": SHOPPER,
                    "receiver": "cellar",
                    "rssi_dbm": -70,
                    "age_ms": 40,
                    "consent": 1,
                    "hint": {"short_id": 9, "rssi_dbm": -60.5, "minute": 29833100},
                }
            ],
            "levels": [{"beacon": "shelf-7", "receiver": "cellar", "rssi_dbm": -70, "age_ms": 0, "count": 4}],
            "telemetry": [{"beacon": "shelf-7", "receiver": "cellar", "age_ms": 7, "advertisements": 12, "uptime_ms": 900}],
        },
    },
    messages.Telemetry: {
        **_ENVELOPE,
        "id": "t-1",
        "type": "gateway.telemetry.v1",
        "data": {
            "uptime_s": 60,
            "advertisements": 1000,
            "strangers": 900,
            "rejects": {"ibeacon.length": 1},
            "beacons": 50,
            "sightings": 49,
            "shoppers_present": 2,
            "roster_size": 12,
            "catalogue_version": 4,
            "outbox_rows": 0,
            "outbox_oldest_s": 0.5,
            "offers": {"matched": 1},
        },
    },
    messages.CentralState: {
        **_CENTRAL,
        "id": "c-1",
        "type": "central.state.v1",
        "data": {"state": "online", "instance": "0123456789abcdef"},
    },
    messages.Ack: {**_CENTRAL, "id": "a-1", "type": "gateway.ack.v1", "data": {"epoch": EPOCH, "seq": 0}},
    messages.Decision: {
        **_CENTRAL,
        "id": "d-1",
        "type": "offer.decision.v1",
        "expirytime": LATER,
        "data": {"offer": OFFER, "granted": False, "reason": "push_spent"},
    },
    messages.AppOffer: {
        **_CENTRAL,
        "id": OFFER,
        "type": "app.offer.v1",
        "expirytime": LATER,
        "data": {
            "offer": OFFER,
            "promotion_id": "yoghurt-monday",
            "kind": "offer",
            "push": True,
            "store": "demo",
            "zone": "dairy",
            "title": {"de": "Montags: 3 Joghurts zum Preis von 2", "en": "Mondays: 3 yoghurts for the price of 2"},
            "text": {},
            "code": "YOG3",
            "url": "https://example.org/yoghurt",
            "valid_until": LATER,
            "item_id": ["4006381333931"],
            "fine_print": {},
            "percent_off": 10,
            "minimum_purchase_amount": "5.00 EUR",
            "attribution": OFFER,
            "shelf": False,
            "matched_time": AT,
        },
    },
    messages.StaffAlarm: {
        **_CENTRAL,
        "id": f"{EPOCH}-7-alarm",
        "type": "staff.alarm.v1",
        "data": {
            "subject": "beacon",
            "name": "shelf-7",
            "zone": "dairy",
            "state": "silent",
            "is_over": False,
            "text": {"de": "Still.", "en": "Silent."},
        },
    },
    messages.WithdrawnOffer: {
        **_CENTRAL,
        "id": f"{OFFER}-withdrawn",
        "type": "app.offer.withdrawn.v1",
        "expirytime": LATER,
        "data": {"offer": OFFER, "promotion_id": "yoghurt-monday", "reason": "refund"},
    },
    messages.StaffPickup: {
        **_CENTRAL,
        "id": "W-1-pickup",
        "type": "staff.pickup.v1",
        "data": {
            "store": "demo",
            "order": "W-1",
            "zone": "dairy",
            "time": AT,
            "is_over": False,
            "text": {"de": "Da.", "en": "Here."},
        },
    },
    messages.Wish: {
        **_ENVELOPE,
        "source": "app/anna",
        "id": "w-1",
        "type": "wish.v1",
        "data": {"gtin": "4006381333931", "wanted": True},
    },
    messages.TillReceipt: {
        **_ENVELOPE,
        "source": "till-2",
        "id": "b-1",
        "type": "till.receipt.v1",
        "data": {
            "receipt": "b-1",
            "till": "till-2",
            "purchase_time": AT,
            "card": "9280001234567",
            "total": "-3.98 EUR",
            "refunds": "b-0",
            "items": [{"gtin": "4006381333931", "quantity": -2, "amount": "-3.98 EUR"}],
            "redeemed": ["YOG3"],
        },
    },
    messages.Order: {
        **_ENVELOPE,
        "source": "web-shop",
        "id": "W-1-3",
        "type": "order.v1",
        "data": {"order": "W-1", "inbox": "anna", "version": 3, "state": "ready", "changed_time": AT, "attribution": OFFER},
    },
    messages.Profile: {
        **_ENVELOPE,
        "source": "crm",
        "id": "anna-1",
        "type": "profile.v1",
        "data": {
            "inbox": "anna",
            "version": 1,
            "segments": ["family"],
            "language": "de",
            "watch_list": ["4006381333931"],
            "card": "9280001234567",
        },
    },
    messages.Receipt: {
        **_ENVELOPE,
        "source": "app/anna",
        "id": "r-1",
        "type": "app.receipt.v1",
        "data": {"offer": OFFER, "state": "shown"},
        "subject": "anna",
    },
    SignedMessage: {
        **_CENTRAL,
        "id": "catalogue.v1-1",
        "type": "catalogue.v1",
        "data_base64": "e30=",
        "keyid": "0123456789abcdef",
        "signature": "AAAA",
    },
}

ALL: list[tuple[type[CloudEvent], Json]] = [
    *((messages.EVENT_TYPES[name], document) for name, document in EVENTS.items()),
    *OTHERS.items(),
]
