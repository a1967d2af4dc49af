"""The published document says what the code does: its file, topics, messages, examples, flags and words."""

import ast
import inspect
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiomqtt import Topic

from gateway.central import records
from gateway.central.publishing import StorePublisher
from gateway.contract import examples, topics
from gateway.contract.asyncapi import MESSAGES, SIGNED, address, document, to_text
from gateway.contract.downlinks import RosterChunk, RosterDelta, RosterManifest, records_from_base64, unpack_records
from gateway.contract.field_docstrings import field_docstrings
from gateway.contract.messages import EVENT_TYPES, read, read_event
from gateway.contract.roster_assembly import RosterAssembly
from gateway.contract.settings import CentralStore
from gateway.contract.topics import StoreTopics
from gateway.core.model import Consent, RosterEntry
from gateway.core.token import derive_day_key, derive_pseudonym
from gateway.io.broker import Publication
from gateway.io.signing import Signer, Verifier
from gateway.io.store.database import open_database
from tests.contract.test_messages import kinds_of_messages

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docs" / "asyncapi.json"
CHECK = ROOT / "scripts" / "lib" / "asyncapi" / "check.mjs"
DOCUMENT = document(Signer(examples.PRIVATE_KEY).seal)
MESSAGE_EXAMPLES = [
    (kind, example["payload"]) for kind, message in DOCUMENT["components"]["messages"].items() for example in message["examples"]
]
each_example = pytest.mark.parametrize(("kind", "payload"), MESSAGE_EXAMPLES, ids=[f"{k}-{p['id']}" for k, p in MESSAGE_EXAMPLES])
NOW_MS = min(held.not_after for held in examples.documents()) - 3_600_000
VERIFIER = Verifier((examples.PUBLIC_KEY,), examples.STORE)


def test_the_file_is_what_the_code_says() -> None:
    assert FILE.read_text("utf-8") == to_text(DOCUMENT), "Type: scripts/contract"


# ---- messages -----------------------------------------------------------------------------------------------------------------


def test_every_message_is_in_the_document_and_on_one_channel() -> None:
    models = {kind for kind in kinds_of_messages() if "type" in kind.model_fields}
    assert set(MESSAGES.values()) == models
    assert DOCUMENT["components"]["messages"].keys() == MESSAGES.keys() >= EVENT_TYPES.keys()
    on_channels = [kind for channel in DOCUMENT["channels"].values() for kind in channel["messages"]]
    assert sorted(on_channels) == sorted(MESSAGES)
    assert DOCUMENT["channels"]["event"]["messages"].keys() == EVENT_TYPES.keys()


@each_example
def test_an_example_is_the_message_that_its_model_writes(kind: str, payload: Json) -> None:
    raw = json.dumps(payload).encode()
    message = read_event(raw, "example") if kind in EVENT_TYPES else read(MESSAGES[kind], raw, "example")
    assert type(message) is MESSAGES[kind]
    assert json.loads(message.to_json()) == payload
    assert payload["type"] == kind


@pytest.mark.parametrize("kind", SIGNED)
def test_a_signed_example_is_in_force_for_who_trusts_its_key(kind: str) -> None:
    """Signature, store, type and date hold; what it decodes to is the example of the schema inside."""
    ((payload, held),) = (
        (example["payload"], DOCUMENT["components"]["schemas"][SIGNED[kind].__name__]["examples"][0])
        for example in DOCUMENT["components"]["messages"][kind]["examples"]
    )
    opened = VERIFIER.open(json.dumps(payload).encode(), SIGNED[kind], where="example", now_ms=NOW_MS)  # type: ignore[type-var]
    assert opened == SIGNED[kind].model_validate(held)


def test_the_keys_of_the_examples_are_told_and_are_a_pair() -> None:
    told = DOCUMENT["info"]["description"]
    assert examples.PRIVATE_KEY.hex() in told
    assert examples.PUBLIC_KEY.hex() in told
    assert Signer(examples.PRIVATE_KEY).public_key == examples.PUBLIC_KEY


def test_the_example_roster_is_whole_and_holds_who_the_text_names() -> None:
    def record(ku: bytes) -> RosterEntry:
        store, day = examples.STORE_NUMBER, examples.DAY
        return RosterEntry(derive_pseudonym(ku, store, day), derive_day_key(ku, store, day), Consent.OFFERS | Consent.ANALYTICS)

    _, manifest, chunk, delta, _ = examples.documents()
    assert isinstance(manifest, RosterManifest)
    assert isinstance(chunk, RosterChunk)
    assert isinstance(delta, RosterDelta)
    assembly = RosterAssembly()
    assert assembly.add_chunk(chunk) is None
    assert assembly.add_manifest(manifest) == (manifest, [record(bytes(range(32)))])
    assert unpack_records(records_from_base64(delta.upserts)) == [record(bytes(range(32, 64)))]
    assert (delta.previous, delta.version) == (manifest.version, manifest.version + 1)
    assert examples.shopper() in to_text(DOCUMENT["components"]["messages"]["offer.matched.v1"])


# ---- schemas ------------------------------------------------------------------------------------------------------------------


def test_every_property_says_what_it_means() -> None:
    """In words, by another schema, or by the only value it can have; an enumeration of types is its own explanation."""
    schemas = DOCUMENT["components"]["schemas"]
    silent = [
        f"{name}.{key}"
        for name, schema in schemas.items()
        for key, property_ in schema.get("properties", {}).items()
        if not property_.keys() & {"description", "const", "$ref"} and key != "type"
    ]
    assert silent == []
    assert [name for name, schema in schemas.items() if "description" not in schema] == []


def test_what_the_wire_never_has_is_not_in_the_schemas() -> None:
    """No ``null``, no title for each key, and the constants of an envelope are required."""
    text = to_text(DOCUMENT["components"]["schemas"])
    assert '"null"' not in text
    assert ": null" not in text
    for kind in EVENT_TYPES.values():
        schema = DOCUMENT["components"]["schemas"][kind.__name__]
        assert {"specversion", "type", "datacontenttype", "epoch", "seq", "data"} <= set(schema["required"])
        assert "history" not in schema["required"]
        assert schema["additionalProperties"] is False


def test_a_field_without_words_has_those_of_its_type() -> None:
    words = field_docstrings(EVENT_TYPES["zone.entered.v1"].model_fields["data"].annotation)  # type: ignore[arg-type]
    assert words["entry_time"] == "Since when."
    assert words["shopper"].startswith("The shopper's name in this store on this day")
    assert "in its epoch" in field_docstrings(EVENT_TYPES["zone.entered.v1"])["seq"]


# ---- channels -----------------------------------------------------------------------------------------------------------------


def spelled_topics() -> set[str]:
    """Whatever topics.py spells, topics and filters, with the values of the examples; a new parameter has to be named here."""
    values = {"day": examples.DAY, "index": 0, "inbox": examples.INBOX, "pseudonym": examples.shopper()}
    store = StoreTopics(examples.STORE, examples.GATEWAY)
    functions: list[Callable[..., str]] = [function for _, function in inspect.getmembers(topics, inspect.isfunction)]
    methods: list[Callable[..., str]] = [
        method for name, method in inspect.getmembers(store, inspect.ismethod) if not name.startswith("_")
    ]
    spelling = [make for make in (*functions, *methods) if inspect.signature(make).return_annotation is str]
    found = {make(**{name: values[name] for name in inspect.signature(make).parameters}) for make in spelling}
    found |= {value for name, value in vars(store).items() if name not in {"store", "source", "down"}}
    return found | {value for name, value in vars(topics).items() if isinstance(value, str) and name.isupper()}


def test_every_topic_is_a_channel_and_every_channel_a_topic() -> None:
    spelled = spelled_topics()
    filters = {topic for topic in spelled if "+" in topic}
    addresses = {channel["address"] for channel in DOCUMENT["channels"].values()}
    assert {address(topic) for topic in spelled - filters} == addresses
    for some in filters:
        assert any(Topic(topic).matches(some) for topic in spelled - filters), some


def test_no_other_file_spells_a_topic() -> None:
    found = [
        (path.name, node.value)
        for path in (ROOT / "gateway").rglob("*.py")
        if path.name != "topics.py"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(("stores/", "central/state"))
    ]
    assert found == []


def test_who_sends_on_a_channel_and_who_receives() -> None:
    parties: dict[str, dict[str, set[str]]] = {}
    for operation in DOCUMENT["operations"].values():
        channel = operation["channel"]["$ref"].removeprefix("#/channels/")
        ((tag),) = operation["tags"]
        parties.setdefault(channel, {}).setdefault(operation["action"], set()).add(tag["name"])
    assert parties.keys() == DOCUMENT["channels"].keys()
    for channel, who in parties.items():
        levels = DOCUMENT["channels"][channel]["address"].split("/")
        if levels[0] == "app":
            wanted = {"send": "central", "receive": "app"} if levels[-1] == "offer" else {"send": "app", "receive": "central"}
        elif "in" in levels:
            wanted = {"send": "backOffice", "receive": "central"}
        elif levels[-1] == "staff":
            wanted = {"send": "central", "receive": "staff"}
        elif "up" in levels:
            also = {"status": {"central", "gateway"}, "sighting": {"gateway"}}
            assert who == {"send": {"gateway"}, "receive": also.get(levels[-1], {"central"})}, channel
            continue
        else:
            wanted = {"send": "central", "receive": "gateway"}
        assert who == {action: {party} for action, party in wanted.items()}, channel


def test_the_reference_service_publishes_as_the_document_says(tmp_path: Path) -> None:
    """Catalogue, roster, an opt-out and the manifest after it: QoS, retain flag and message expiry."""
    db = open_database(tmp_path / "central.db", records.CENTRAL)
    publisher = StorePublisher(examples.STORE, CentralStore(store_number=4711), 2, Signer(examples.PRIVATE_KEY))
    with db.atomic():
        records.enrol(db, "anna", examples.KU, Consent.OFFERS, [examples.STORE])
        records.enrol(db, "ben", examples.OTHER_KU, Consent.OFFERS, [examples.STORE])
        published = [*publisher.catalogue(db, NOW_MS), *publisher.roster(db, NOW_MS)]
        records.opt_out(db, "ben")
        published += [*publisher.roster(db, NOW_MS + 1000), *publisher.roster(db, NOW_MS + 10_000)]
    db.close()
    told = [publication for publication in published if publication.payload]
    assert {channel_of(publication) for publication in told} == {"catalogue", "rosterManifest", "rosterChunk", "rosterDelta"}
    for publication in told:
        binding = DOCUMENT["operations"][operation_of(channel_of(publication))]["bindings"]["mqtt"]
        assert (publication.qos, publication.retain) == (binding["qos"], binding["retain"]), publication.topic
        assert (publication.expiry_s is not None) == ("messageExpiryInterval" in binding), publication.topic


def channel_of(publication: Publication) -> str:
    kind = json.loads(publication.payload)["type"]
    channel: str
    (channel,) = (name for name, channel in DOCUMENT["channels"].items() if kind in channel["messages"])
    return channel


def operation_of(channel: str) -> str:
    return f"centralSends{channel[0].upper()}{channel[1:]}"


# ---- the script's judge -------------------------------------------------------------------------------------------------------


def as_it_is(_whole: Json) -> list[str]:
    return []


def wrong_examples(whole: Json) -> list[str]:
    said = whole["components"]["messages"]
    said["gateway.ack.v1"]["examples"][0]["payload"]["data"]["seq"] = "three"
    said["catalogue.v1"]["examples"][0]["payload"]["data_base64"] = "e30="
    del said["tombstone.v1"]["examples"]
    return [
        "error: messages.gateway.ack.v1.examples.gateway.ack.v1-1: /data/seq must be integer",
        "error: messages.catalogue.v1.examples.catalogue.v1-1.data_base64: / must have required property 'store'",
        "warning: messages.tombstone.v1: has no example",
    ]


def no_asyncapi(whole: Json) -> list[str]:
    whole["channels"]["event"]["adress"] = whole["channels"]["event"].pop("address")
    whole["operations"]["gatewaySendsEvent"]["channel"]["$ref"] = "#/channels/nowhere"
    return ["error: channels.event", "error: operations.gatewaySendsEvent.channel"]


@pytest.mark.slow
@pytest.mark.parametrize("change", [as_it_is, wrong_examples, no_asyncapi])
def test_the_script_finds_what_is_wrong(tmp_path: Path, change: Callable[[Json], list[str]]) -> None:
    node = shutil.which("node")
    if node is None or not (CHECK.parent / "node_modules" / "@asyncapi").is_dir():
        pytest.skip("the AsyncAPI parser is not installed; scripts/contract --check installs it")
    whole = json.loads(to_text(DOCUMENT))
    findings = change(whole)
    (tmp_path / "asyncapi.json").write_text(json.dumps(whole))
    done = subprocess.run([node, CHECK, tmp_path / "asyncapi.json"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1 if findings else 0, ""), done.stdout
    for finding in findings:
        assert any(line.startswith(finding) for line in done.stdout.splitlines()), done.stdout
