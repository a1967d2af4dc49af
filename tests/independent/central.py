"""A central service as a stranger writes it: from docs/asyncapi.json alone, with plain paho-mqtt and nothing of the gateway.

Addresses, QoS and retain flags are read from the document; types, attributes and rules are those of its schemas and sentences.
Run with the path of a JSON file of settings (see ``Settings``).
"""

import base64
import hashlib
import json
import queue
import secrets
import sqlite3
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

Json = dict[str, Any]

DAY_S = 86_400
DOMAIN_TAG = b"beacon-gateway/1\0"
SESSION_EXPIRY_S = 3600
FIRST_RESEND_S = 10
POLL_S = 0.1
CONSENT_OFFERS, CONSENT_ANALYTICS = 1, 2
TABLES = """
CREATE TABLE IF NOT EXISTS event (store, gateway, epoch, seq INTEGER, type, payload, PRIMARY KEY (store, gateway, epoch, seq));
CREATE TABLE IF NOT EXISTS stream (store, gateway, epoch, stored INTEGER, PRIMARY KEY (store, gateway, epoch));
CREATE TABLE IF NOT EXISTS offer (offer PRIMARY KEY, store, gateway, shopper, visit, promotion_id, inbox, reason, deadline REAL,
  app_payload, confirmed INTEGER DEFAULT 0);
CREATE TABLE IF NOT EXISTS receipt (id, inbox, offer, state, PRIMARY KEY (inbox, id));
CREATE TABLE IF NOT EXISTS claim (term INTEGER, decider, PRIMARY KEY (term, decider));
"""


class Settings(NamedTuple):
    """What its operator gives it."""

    document: str
    port: int
    protocol: str
    database: str
    store: str
    store_number: int
    day_start_s: int
    signing_key: str
    """Ed25519, 32 bytes in hexadecimal."""
    apps: dict[str, str]
    """The key KU of each inbox, in hexadecimal."""
    promotions: list[Json]


# ---- the document -------------------------------------------------------------------------------------------------------------


class Document:
    """What is read out of the published document."""

    def __init__(self, path: str) -> None:
        self._whole: Json = json.loads(Path(path).read_bytes())
        self.content_type: str = self._whole["defaultContentType"]

    def operations(self, action: str) -> dict[str, Json]:
        """Central's operations: the MQTT binding of each, by channel."""
        return {
            operation["channel"]["$ref"].rpartition("/")[2]: operation["bindings"]["mqtt"]
            for operation in self._whole["operations"].values()
            if operation["action"] == action and {"name": "central"} in operation["tags"]
        }

    def topic(self, channel: str, **values: object) -> str:
        """The address of a channel with its parameters filled in."""
        return str(self._whole["channels"][channel]["address"]).format(**values)

    def subscription(self, channel: str) -> str:
        """The topic filter of a channel."""
        return self.topic(channel, **dict.fromkeys(self._whole["channels"][channel].get("parameters", {}), "+"))

    def channel_of(self, topic: str) -> tuple[str, dict[str, str]] | None:
        """The channel of a topic and the values of its parameters."""
        for name, channel in self._whole["channels"].items():
            levels, found = channel["address"].split("/"), topic.split("/")
            if len(levels) == len(found) and all(a == b or a.startswith("{") for a, b in zip(levels, found, strict=True)):
                return name, {a[1:-1]: b for a, b in zip(levels, found, strict=True) if a.startswith("{")}
        return None


# ---- the service --------------------------------------------------------------------------------------------------------------


class Central:
    """Stores events, acknowledges them, grants offers, brings them to the apps."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._document = Document(settings.document)
        self._sends = self._document.operations("send")
        self._receives = self._document.operations("receive")
        self._instance = secrets.token_hex(8)
        self._key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(settings.signing_key))
        self._database = sqlite3.connect(settings.database, isolation_level=None)
        self._database.executescript(TABLES)
        self._happened: queue.Queue[MQTTMessage | None] = queue.Queue()
        """Messages, and ``None`` when the subscriptions stand."""
        self._due: dict[str, tuple[float, float]] = {}
        """By offer: when it is sent to its app again, and how long after that."""
        self._five = settings.protocol == "5"
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id="a-strangers-central",
            clean_session=None if self._five else False,
            protocol=MQTTProtocolVersion.MQTTv5 if self._five else MQTTProtocolVersion.MQTTv311,
        )
        self._client.on_connect = lambda *_: self._subscribe()
        self._client.on_subscribe = lambda *_: self._happened.put(None)
        self._client.on_message = lambda _client, _userdata, message: self._happened.put(message)

    def run(self) -> None:
        """Serve for ever."""
        will = self._state("offline")
        self._client.will_set(self._document.topic("centralState"), json.dumps(will), **self._flags("centralState"))
        if self._five:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = SESSION_EXPIRY_S
            self._client.connect("127.0.0.1", self._settings.port, clean_start=False, properties=properties)
        else:
            self._client.connect("127.0.0.1", self._settings.port)
        self._client.loop_start()
        while True:
            try:
                message = self._happened.get(timeout=POLL_S)
            except queue.Empty:
                self._remind_apps()
                continue
            if message is None:
                self._begin()
            elif message.payload:
                self._take(message.topic, json.loads(message.payload))

    def _subscribe(self) -> None:
        filters = [self._document.subscription(channel) for channel in self._receives]
        if self._five:
            self._client.subscribe([(name, SubscribeOptions(qos=1)) for name in filters])
        else:
            self._client.subscribe([(name, 1) for name in filters])

    def _begin(self) -> None:
        self._say("centralState", self._state("online"))
        self._publish_catalogue()
        today = (int(time.time()) - self._settings.day_start_s) // DAY_S
        for day in (today, today + 1):
            self._publish_roster(day)

    def _take(self, topic: str, message: Json) -> None:
        found = self._document.channel_of(topic)
        if found is None:
            return
        channel, who = found
        if channel == "appReceipt":
            self._take_receipt(who["inbox"], message)
        elif who.get("store") != self._settings.store:
            return
        elif channel == "gatewayStatus":
            self._take_status(who["gateway"], message["data"])
        elif channel == "event":
            self._take_event(who["gateway"], message)

    # ---- delivery

    def _take_status(self, gateway: str, status: Json) -> None:
        if "decider" in status:
            self._database.execute("INSERT OR IGNORE INTO claim VALUES (?, ?)", [status["term"], status["decider"]])
        if status["state"] != "online":
            return
        before = status["oldest_seq"] - 1
        self._database.execute(
            "INSERT INTO stream VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET stored = max(stored, excluded.stored)",
            [self._settings.store, gateway, status["epoch"], before],
        )
        self._acknowledge(gateway, status["epoch"])
        decided = self._database.execute(
            "SELECT offer, reason, deadline FROM offer WHERE gateway = ? AND deadline > ?", [gateway, time.time()]
        )
        for offer, reason, deadline in decided.fetchall():
            self._decide(gateway, offer, reason, deadline)

    def _take_event(self, gateway: str, event: Json) -> None:
        key = [self._settings.store, gateway, event["epoch"], event["seq"]]
        self._database.execute("INSERT OR IGNORE INTO event VALUES (?, ?, ?, ?, ?, ?)", [*key, event["type"], json.dumps(event)])
        self._acknowledge(gateway, event["epoch"])
        if event["type"] == "offer.matched.v1":
            self._answer(gateway, event["data"])

    def _acknowledge(self, gateway: str, epoch: str) -> None:
        key = [self._settings.store, gateway, epoch]
        row = self._database.execute("SELECT stored FROM stream WHERE (store, gateway, epoch) = (?, ?, ?)", key).fetchone()
        stored = 0 if row is None else row[0]
        beyond = "SELECT seq FROM event WHERE (store, gateway, epoch) = (?, ?, ?) AND seq > ? ORDER BY seq"
        for (seq,) in self._database.execute(beyond, [*key, stored]).fetchall():
            if seq != stored + 1:
                break
            stored = seq
        self._database.execute("INSERT OR REPLACE INTO stream VALUES (?, ?, ?, ?)", [*key, stored])
        ack = _event("gateway.ack.v1", f"{epoch}-{stored}", data={"epoch": epoch, "seq": stored})
        self._say("ack", ack, store=self._settings.store, gateway=gateway)

    # ---- offers

    def _answer(self, gateway: str, proposal: Json) -> None:
        offer, deadline = proposal["offer"], _seconds(proposal["deadline"])
        before = self._database.execute("SELECT reason FROM offer WHERE offer = ?", [offer]).fetchone()
        if before is None:
            inbox = self._inbox_of(proposal["shopper"])
            reason = self._refusal(proposal, inbox, deadline) if self._decides(gateway) else "not_decider"
            app_payload = None if reason else json.dumps(self._app_offer(proposal))
            self._database.execute(
                "INSERT INTO offer VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
                [
                    *(offer, self._settings.store, gateway, proposal["shopper"], proposal["visit"], proposal["promotion_id"]),
                    *(inbox, reason, deadline, app_payload),
                ],
            )
        else:
            reason = before[0]
        self._decide(gateway, offer, reason, deadline)
        self._remind_apps()

    def _decides(self, gateway: str) -> bool:
        greatest = self._database.execute("SELECT decider FROM claim ORDER BY term DESC, decider LIMIT 1").fetchone()
        return greatest is None or greatest[0] == gateway

    def _refusal(self, proposal: Json, inbox: str | None, deadline: float) -> str | None:
        if time.time() >= deadline:
            return "late"
        if inbox is None:
            return "unknown_shopper"
        if proposal["promotion_id"] not in self._promotions():
            return "unknown_promotion"
        had = "SELECT count(*) FROM offer WHERE shopper = ? AND promotion_id = ? AND reason IS NULL"
        if self._database.execute(had, [proposal["shopper"], proposal["promotion_id"]]).fetchone()[0]:
            return "already_granted"
        return None

    def _decide(self, gateway: str, offer: str, reason: str | None, deadline: float) -> None:
        data = {"offer": offer, "granted": True} if reason is None else {"offer": offer, "granted": False, "reason": reason}
        decision = _event("offer.decision.v1", f"{offer}-decision", data=data, expirytime=_rfc3339(deadline))
        self._say("decision", decision, expires=deadline, store=self._settings.store, gateway=gateway)

    def _app_offer(self, proposal: Json) -> Json:
        promotion = self._promotions()[proposal["promotion_id"]]
        same = {name: proposal[name] for name in ("offer", "promotion_id", "kind", "push", "zone", "matched_time")}
        # What is neither a push nor mere information waits on the app's shelf.
        same["shelf"] = not proposal["push"] and proposal["kind"] != "info"
        data = {**same, "store": self._settings.store, "title": promotion["long_title"], "text": promotion.get("text", {})}
        return _event("app.offer.v1", proposal["offer"], data=data, expirytime=proposal["deadline"])

    def _remind_apps(self) -> None:
        waiting = "SELECT offer, inbox, deadline, app_payload FROM offer WHERE reason IS NULL AND NOT confirmed AND deadline > ?"
        for offer, inbox, deadline, payload in self._database.execute(waiting, [time.time()]).fetchall():
            due, pause = self._due.get(offer, (0.0, FIRST_RESEND_S))
            if time.monotonic() >= due:
                self._say("appOffer", json.loads(payload), expires=deadline, inbox=inbox)
                self._due[offer] = (time.monotonic() + pause, 2 * pause)

    def _take_receipt(self, inbox: str, receipt: Json) -> None:
        data = receipt["data"]
        confirmed = "UPDATE offer SET confirmed = 1 WHERE offer = ? AND inbox = ?"
        if self._database.execute(confirmed, [data["offer"], inbox]).rowcount:
            row = [receipt["id"], inbox, data["offer"], data["state"]]
            self._database.execute("INSERT OR IGNORE INTO receipt VALUES (?, ?, ?, ?)", row)

    # ---- what is signed

    def _promotions(self) -> dict[str, Json]:
        return {promotion["promotion_id"]: promotion for promotion in self._settings.promotions}

    def _publish_catalogue(self) -> None:
        catalogue = {"type": "catalogue.v1", "promotions": self._settings.promotions}
        self._say_signed("catalogue", catalogue, time.time() + 7 * DAY_S, store=self._settings.store)

    def _publish_roster(self, day: int) -> None:
        over = (day + 1) * DAY_S + self._settings.day_start_s + 2 * 3600
        records = b"".join(
            self._derive(ku, b"SBG1-RID", day, 8)
            + self._derive(ku, b"SBG1-DK", day, 16)
            + bytes([CONSENT_OFFERS | CONSENT_ANALYTICS])
            for ku in map(bytes.fromhex, self._settings.apps.values())
        )
        chunk = {"type": "roster.chunk.v1", "day": day, "index": 0, "records": _base64(records)}
        count, digest = len(self._settings.apps), hashlib.sha256(records).hexdigest()
        manifest = {"type": "roster.manifest.v1", "day": day, "count": count, "chunks": [digest]}
        self._say_signed("rosterManifest", manifest, over, store=self._settings.store, day=day)
        self._say_signed("rosterChunk", chunk, over, store=self._settings.store, day=day, n=0)

    def _derive(self, ku: bytes, label: bytes, day: int, length: int) -> bytes:
        info = label + self._settings.store_number.to_bytes(4, "big") + day.to_bytes(4, "big")
        return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(ku)

    def _inbox_of(self, shopper: str) -> str | None:
        today = (int(time.time()) - self._settings.day_start_s) // DAY_S
        for inbox, ku in self._settings.apps.items():
            if any(self._derive(bytes.fromhex(ku), b"SBG1-RID", day, 8).hex() == shopper for day in (today, today - 1)):
                return inbox
        return None

    def _say_signed(self, channel: str, document: Json, not_after: float, **values: object) -> None:
        # The time as a version: it rises from one start of the service to the next without being kept anywhere.
        whole = {**document, "store": self._settings.store, "version": int(time.time()), "not_after": _rfc3339(not_after)}
        raw = json.dumps(whole, indent=1).encode()
        public_key = self._key.public_key().public_bytes_raw()
        signed = {
            "data_base64": _base64(raw),
            "keyid": hashlib.sha256(public_key).hexdigest()[:16],
            "signature": _base64(self._key.sign(DOMAIN_TAG + raw)),
        }
        expires = not_after if channel.startswith("roster") else None
        self._say(channel, _event(document["type"], secrets.token_hex(8), **signed), expires=expires, **values)

    # ---- the wire

    def _state(self, state: str) -> Json:
        return _event("central.state.v1", secrets.token_hex(8), data={"state": state, "instance": self._instance})

    def _flags(self, channel: str) -> Json:
        binding = self._sends[channel]
        return {"qos": binding["qos"], "retain": binding["retain"]}

    def _say(self, channel: str, message: Json, *, expires: float | None = None, **values: object) -> None:
        properties = None
        if self._five:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.ContentType = self._document.content_type
            properties.CorrelationData = message["id"].encode()
            if expires is not None:
                properties.MessageExpiryInterval = max(1, int(expires - time.time()) + 1)
        topic = self._document.topic(channel, **values)
        self._client.publish(topic, json.dumps(message), **self._flags(channel), properties=properties)


def _event(kind: str, event_id: str, **attributes: Any) -> Json:
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": "central",
        "type": kind,
        "time": _rfc3339(time.time()),
        "datacontenttype": "application/json",
        **attributes,
    }


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


if __name__ == "__main__":
    Central(Settings(**json.loads(Path(sys.argv[1]).read_bytes()))).run()
