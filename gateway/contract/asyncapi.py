"""The AsyncAPI 3.0 document of the wire contract: addresses from the topics, schemas and words from the models, examples by code.

Sources: AsyncAPI specification 3.0.0; AsyncAPI MQTT bindings 0.2.0; its schemas are those of JSON Schema draft 07.
"""

import inspect
import json
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from gateway.contract import examples, fields, messages, topics
from gateway.contract.asyncapi_text import DESCRIPTION
from gateway.contract.downlinks import (
    Catalogue,
    RosterChunk,
    RosterDelta,
    RosterManifest,
    ShopperContext,
    SignedDocument,
    SignedMessage,
)
from gateway.contract.examples import Example, Seal
from gateway.contract.field_docstrings import alias_docstrings, field_docstrings
from gateway.contract.messages import CONTENT_TYPE, EVENT_TYPES, CloudEvent
from gateway.contract.relayed import GatewaySighting

Json = dict[str, Any]
Party = Literal["gateway", "central", "app", "staff", "backOffice"]

_BINDING = "0.2.0"
_SCHEMAS = "#/components/schemas/"
_CHUNK = 0

SIGNED: dict[str, type[SignedDocument]] = {
    model.model_fields["type"].default: model for model in (Catalogue, RosterManifest, RosterChunk, RosterDelta, ShopperContext)
}
"""What a signed message holds, by its type."""
MESSAGES: dict[str, type[CloudEvent]] = {
    **EVENT_TYPES,
    **{
        model.model_fields["type"].default: model
        for model in (
            messages.GatewayStatus,
            messages.Telemetry,
            GatewaySighting,
            messages.CentralState,
            messages.Ack,
            messages.Decision,
            messages.AppOffer,
            messages.WithdrawnOffer,
            messages.StaffAlarm,
            messages.StaffPickup,
            messages.Receipt,
            messages.Wish,
            messages.TillReceipt,
            messages.Order,
            messages.Profile,
        )
    },
    **dict.fromkeys(SIGNED, SignedMessage),
}
"""Every message of the contract by its type."""


# ---- what nobody but this document has to know --------------------------------------------------------------------------------


class _Channel(NamedTuple):
    """A topic, who speaks on it to whom, and how."""

    name: str
    topic: str
    """As the store, gateway and app of the examples have it."""
    types: tuple[str, ...]
    sender: Party
    receiver: Party
    description: str
    qos: int = 1
    retain: bool = False
    also: Party | None = None
    """Another one who receives."""
    expires: str | None = None
    """The attribute that the message expiry of MQTT 5 counts to."""


_STORE = topics.StoreTopics(examples.STORE, examples.GATEWAY)
_CHANNELS = (
    _Channel(
        "gatewayStatus",
        _STORE.status,
        ("gateway.status.v1",),
        "gateway",
        "central",
        "Birth and will of a gateway: whether it is there, where its numbers begin, and who decides in the store.",
        retain=True,
        also="gateway",
    ),
    _Channel(
        "event",
        _STORE.event,
        tuple(EVENT_TYPES),
        "gateway",
        "central",
        "What happened in the shop, numbered: sent until central acknowledges it.",
    ),
    _Channel(
        "telemetry",
        _STORE.telemetry,
        ("gateway.telemetry.v1",),
        "gateway",
        "central",
        "Counters, once a minute; may be lost.",
        qos=0,
    ),
    _Channel(
        "sighting",
        _STORE.sighting,
        ("gateway.sighting.v1",),
        "gateway",
        "gateway",
        "What a receiving gateway hears, for the one that decides; stays on the store's broker.",
        qos=0,
    ),
    _Channel(
        "centralState",
        topics.CENTRAL_STATE,
        ("central.state.v1",),
        "central",
        "gateway",
        "Birth and will of the central service: gateways send events only while it says online.",
        retain=True,
    ),
    _Channel(
        "catalogue",
        _STORE.catalogue,
        ("catalogue.v1",),
        "central",
        "gateway",
        "The store's promotions, whole and signed.",
        retain=True,
    ),
    _Channel(
        "rosterManifest",
        _STORE.roster_manifest(examples.DAY),
        ("roster.manifest.v1",),
        "central",
        "gateway",
        "A day's roster: how many shoppers, and the hashes of its chunks.",
        retain=True,
        expires="not_after",
    ),
    _Channel(
        "rosterChunk",
        _STORE.roster_chunk(examples.DAY, _CHUNK),
        ("roster.chunk.v1",),
        "central",
        "gateway",
        "A part of a day's roster.",
        retain=True,
        expires="not_after",
    ),
    _Channel(
        "rosterDelta",
        _STORE.roster_delta,
        ("roster.delta.v1",),
        "central",
        "gateway",
        "Who checks in or opts out, at once.",
        expires="not_after",
    ),
    _Channel(
        "shopperContext",
        _STORE.shopper(examples.shopper()),
        ("shopper.context.v1",),
        "central",
        "gateway",
        "What is known of a shopper who is in the shop: when the visit starts, and at every change.",
        expires="not_after",
    ),
    _Channel("ack", _STORE.ack, ("gateway.ack.v1",), "central", "gateway", "How far central has stored a gateway's events."),
    _Channel(
        "decision",
        _STORE.decision,
        ("offer.decision.v1",),
        "central",
        "gateway",
        "Grant or refusal of a gateway's proposal.",
        expires="expirytime",
    ),
    _Channel(
        "staff",
        _STORE.staff,
        ("staff.alarm.v1", "staff.pickup.v1"),
        "central",
        "staff",
        "What the people in the shop should see to.",
    ),
    _Channel(
        "appOffer",
        topics.app_offer(examples.INBOX),
        ("app.offer.v1", "app.offer.withdrawn.v1"),
        "central",
        "app",
        "The inbox of one app: offers that were granted, and those that are taken back.",
        expires="expirytime",
    ),
    _Channel(
        "appReceipt",
        topics.app_receipt(examples.INBOX),
        ("app.receipt.v1",),
        "app",
        "central",
        "What became of an offer in the app.",
    ),
    _Channel(
        "appWish",
        topics.app_wish(examples.INBOX),
        ("wish.v1",),
        "app",
        "central",
        "What the shopper wants to be reminded of.",
    ),
    _Channel(
        "tillReceipt",
        _STORE.till_receipt,
        ("till.receipt.v1",),
        "backOffice",
        "central",
        "Purchases and refunds of those who can be named; the same again changes nothing.",
    ),
    _Channel(
        "order",
        _STORE.order,
        ("order.v1",),
        "backOffice",
        "central",
        "How the web shop's orders stand that are fetched in this store.",
    ),
    _Channel(
        "profile",
        topics.PROFILE,
        ("profile.v1",),
        "backOffice",
        "central",
        "What the CRM knows of a shopper.",
    ),
)
_PARTIES: dict[Party, str] = {
    "gateway": "The gateway in the shop: what this document describes.",
    "central": "The service that knows the shoppers and grants the offers, from its own point of view.",
    "app": "The shopper's app, from its own point of view.",
    "staff": "Whatever the people in the shop look at, from its own point of view.",
    "backOffice": "Tills, web shop and CRM, from their own point of view.",
}
_PARAMETERS = {
    "store": (examples.STORE, "StoreId"),
    "gateway": (examples.GATEWAY, "GatewayId"),
    "inbox": (examples.INBOX, "InboxId"),
    "day": (str(examples.DAY), "The store's day, as in the message, in decimal digits."),
    "shopper": (examples.shopper(), "Pseudonym"),
    "n": (str(_CHUNK), "The chunk's index, as in the message, in decimal digits."),
}
"""Levels of topics: the examples' value, and the name of the field type or what it is."""


# ---- the document -------------------------------------------------------------------------------------------------------------


def document(seal: Seal) -> Json:
    """The whole document; ``seal`` signs the examples with ``examples.PRIVATE_KEY``."""
    shown: dict[str, list[Example]] = {}
    for example in examples.examples(seal):
        shown.setdefault(_type_of(example.message), []).append(example)
    return {
        "asyncapi": "3.0.0",
        "id": "urn:beacon-gateway:wire-contract:1",
        "info": {
            "title": "Beacon gateway: wire contract",
            "version": "1",
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
            "tags": [{"name": name, "description": description} for name, description in _PARTIES.items()],
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": {
            "mqtt5": _server("5", "The usual broker."),
            "mqtt311": _server("3.1.1", "The same contract, without properties."),
        },
        "channels": {channel.name: _channel(channel) for channel in _CHANNELS},
        "operations": dict(operation for channel in _CHANNELS for operation in _operations(channel)),
        "components": {
            "schemas": _schemas(),
            "messages": {kind: _message(kind, shown[kind]) for channel in _CHANNELS for kind in channel.types},
            "parameters": {name: _parameter(*facts) for name, facts in _PARAMETERS.items()},
            "messageTraits": {"cloudEvent": _TRAIT},
            "correlationIds": {
                "offer": {
                    "description": "Proposal, decision, the app's offer and its receipts name the same offer.",
                    "location": "$message.payload#/data/offer",
                }
            },
        },
    }


def to_text(whole: Json) -> str:
    """The document as the file has it."""
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _server(version: str, description: str) -> Json:
    will = {"topic": address(_STORE.status), "qos": 1, "retain": True}
    return {
        "host": "broker.example.org:8883",
        "protocol": "secure-mqtt",
        "protocolVersion": version,
        "description": f"{description} The bindings are those of a gateway's connection.",
        "bindings": {"mqtt": {"cleanSession": False, "lastWill": will, "bindingVersion": _BINDING}},
    }


def _channel(channel: _Channel) -> Json:
    named = [level[1:-1] for level in address(channel.topic).split("/") if level.startswith("{")]
    return {
        "address": address(channel.topic),
        "description": channel.description,
        "messages": {kind: {"$ref": f"#/components/messages/{kind}"} for kind in channel.types},
        **({"parameters": {name: {"$ref": f"#/components/parameters/{name}"} for name in named}} if named else {}),
    }


def address(topic: str) -> str:
    """A topic of the examples with its parameters in braces.

    >>> address("stores/demo/down/roster/20717/0")
    'stores/{store}/down/roster/{day}/{n}'
    """
    names = {example: f"{{{name}}}" for name, (example, _) in _PARAMETERS.items()}
    return "/".join(names.get(level, level) for level in topic.split("/"))


def _operations(channel: _Channel) -> list[tuple[str, Json]]:
    sends: Json = {"qos": channel.qos, "retain": channel.retain}
    if channel.expires is not None:
        words = f"MQTT 5: seconds until `{channel.expires}`, rounded up."
        sends["messageExpiryInterval"] = {"type": "integer", "minimum": 1, "description": words}
    receivers = [channel.receiver] if channel.also is None else [channel.receiver, channel.also]
    return [
        _operation(channel, channel.sender, "send", sends),
        *(_operation(channel, receiver, "receive", {"qos": channel.qos}) for receiver in receivers),
    ]


def _operation(channel: _Channel, party: Party, action: Literal["send", "receive"], binding: Json) -> tuple[str, Json]:
    return f"{party}{action.capitalize()}s{channel.name[0].upper()}{channel.name[1:]}", {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel.name}"},
        "summary": f"{channel.sender} → {channel.receiver}",
        "tags": [{"name": party}],
        "bindings": {"mqtt": {**binding, "bindingVersion": _BINDING}},
    }


def _parameter(example: str, meaning: str) -> Json:
    alias = getattr(fields, meaning, None)
    if alias is None:
        return {"description": meaning, "examples": [example]}
    pattern = TypeAdapter(alias).json_schema()["pattern"]
    return {"description": f"{alias_docstrings(fields.__name__)[meaning]} Pattern: `{pattern}`", "examples": [example]}


# ---- messages -----------------------------------------------------------------------------------------------------------------

_TRAIT: Json = {
    "contentType": CONTENT_TYPE,
    "bindings": {
        "mqtt": {
            "payloadFormatIndicator": 0,
            "contentType": CONTENT_TYPE,
            "correlationData": {"type": "string", "description": "MQTT 5: the bytes of the payload's `id`, in UTF-8."},
            "bindingVersion": _BINDING,
        }
    },
}


def _message(kind: str, shown: list[Example]) -> Json:
    model = SIGNED.get(kind, MESSAGES[kind])
    payload = _signed(kind) if kind in SIGNED else {"$ref": _SCHEMAS + model.__name__}
    summary = (inspect.getdoc(model) or "").partition("\n")[0]
    return {
        "name": kind,
        "title": model.__name__,
        "summary": summary,
        "payload": payload,
        **({"correlationId": {"$ref": "#/components/correlationIds/offer"}} if _names_an_offer(model) else {}),
        "traits": [{"$ref": "#/components/messageTraits/cloudEvent"}],
        "examples": [
            {"name": f"{kind}-{number}", "summary": example.summary, "payload": json.loads(example.message.to_json())}
            for number, example in enumerate(shown, 1)
        ],
    }


def _signed(kind: str) -> Json:
    held = {"contentEncoding": "base64", "contentMediaType": "application/json"}
    return {
        "allOf": [
            {"$ref": _SCHEMAS + SignedMessage.__name__},
            {
                "type": "object",
                "properties": {
                    "type": {"const": kind},
                    "data_base64": {**held, "contentSchema": {"$ref": _SCHEMAS + SIGNED[kind].__name__}},
                },
            },
        ]
    }


def _names_an_offer(model: type[BaseModel]) -> bool:
    data = model.model_fields.get("data")
    return data is not None and "offer" in getattr(data.annotation, "model_fields", {})


def _type_of(message: CloudEvent) -> str:
    return str(message.model_dump()["type"])


# ---- schemas ------------------------------------------------------------------------------------------------------------------


def _schemas() -> Json:
    models = dict.fromkeys((*MESSAGES.values(), *SIGNED.values()))
    _, found = models_json_schema(
        [(model, "validation") for model in models], ref_template=_SCHEMAS + "{model}", schema_generator=_Schemas
    )
    schemas: Json = found["$defs"]
    for held in examples.documents():
        schemas[type(held).__name__].setdefault("examples", []).append(json.loads(held.to_bytes()))
    return dict(sorted(schemas.items()))


class _Schemas(GenerateJsonSchema):
    """The models as they are on the wire: absent is left out, constants are always there, docstrings are descriptions."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """What is not there is never ``null``."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """``None`` is no default, but absence."""
        return self.generate_inner(schema["schema"]) if schema.get("default") is None else super().default_schema(schema)

    def field_title_should_be_set(self, schema: Any) -> bool:
        """A key is its own title."""
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """One object, with the words that its class has for each key."""
        model: type[BaseModel] = schema["cls"]
        found = super().model_schema(schema)
        described = field_docstrings(model)
        words = {field.alias or name: described[name] for name, field in model.model_fields.items() if name in described}
        required = set(found.get("required", ()))
        for name, property_ in found["properties"].items():
            if "const" in property_ and property_.pop("default", None) is not None:
                required.add(name)
            if name in words and "$ref" not in property_:
                property_.setdefault("description", words[name])
        found["required"] = [name for name in found["properties"] if name in required]
        return found
