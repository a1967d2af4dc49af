"""Somebody who has only docs/asyncapi.json writes a central service, and a real gateway works with it.

::

    phones ── fake BlueZ ──▶ gateway run ──▶ Mosquitto ──▶ a stranger's central ──▶ Mosquitto ──▶ gateway central inbox
"""

import ast
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiomqtt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.e2e.conftest import WORLDS
from tests.e2e.world import PROMOTIONS, ROOT, STORE, STORE_NUMBER, Message, Options, Program, Row, Template, World, rows
from tests.independent.central import Document

DOCUMENT = ROOT / "docs" / "asyncapi.json"
CLIENT = Path(__file__).with_name("central.py")
KU, SIGNING_KEY = bytes(range(100, 132)), bytes(range(200, 232))


class StrangersWorld(World):
    """The usual shop, but central is the stranger's."""

    def _prepare(self) -> None:
        super()._prepare()
        settings = {
            "document": str(DOCUMENT),
            "port": self.port,
            "protocol": self.options.protocol,
            "database": str(self.database),
            "store": STORE,
            "store_number": STORE_NUMBER,
            "day_start_s": self.day_start,
            "signing_key": SIGNING_KEY.hex(),
            "apps": {"anna": KU.hex()},
            "promotions": PROMOTIONS["promotions"],
        }
        (self.folder / "stranger.json").write_text(json.dumps(settings))

    def _name_programs(self) -> None:
        super()._name_programs()
        self.central = Program("central", [sys.executable, CLIENT, self.folder / "stranger.json"], self.folder / "logs", {})
        self.programs = [self.broker, self.central, self.gateway, *self.inboxes.values()]

    @property
    def database(self) -> Path:
        return self.folder / "stranger.db"

    def strangers_rows(self, sql: str) -> list[Row]:
        """What the stranger's central has stored."""
        return rows(self.database, sql)

    def is_settled(self, receipts: int) -> bool:
        """The gateway has nothing left to send, and so many receipts are at central."""
        return not self.outbox_types() and len(self.strangers_rows("SELECT id FROM receipt")) == receipts


MakeWorld = Callable[[str], Awaitable[StrangersWorld]]


@pytest.fixture
async def make_world(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[MakeWorld]:
    """Starts the world: ``await make_world("3.1.1")``; it ends with the test."""
    (tmp_path / "template").mkdir()
    public_key = Ed25519PrivateKey.from_private_bytes(SIGNING_KEY).public_key().public_bytes_raw()
    template = Template(tmp_path / "template", public_key.hex(), {"anna": KU})
    async with AsyncExitStack() as stack:

        async def make(protocol: str) -> StrangersWorld:
            world = StrangersWorld(tmp_path / "world", template, Options(protocol=protocol))
            request.node.stash[WORLDS] = [world]
            await stack.enter_async_context(world)
            await world.until_ready()
            return world

        yield make


def test_the_stranger_has_nothing_of_ours() -> None:
    """No import of the gateway or of its tests, and no topic that is not read from the document."""
    syntax = list(ast.walk(ast.parse(CLIENT.read_text("utf-8"))))
    imported = {alias.name for node in syntax if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "." * node.level for node in syntax if isinstance(node, ast.ImportFrom)}
    foreign = {name.partition(".")[0] for name in imported} - sys.stdlib_module_names
    assert foreign == {"cryptography", "paho"}
    documented = [node.body[0].value for node in syntax if isinstance(node, ast.Module) and isinstance(node.body[0], ast.Expr)]
    texts = [node.value for node in syntax if isinstance(node, ast.Constant) and node not in documented]
    assert not [text for text in texts if isinstance(text, str) and text.startswith(("stores/", "app/", "central/"))]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_the_stranger_receives_acknowledges_and_grants(make_world: MakeWorld, protocol: str) -> None:
    world = await make_world(protocol)
    world.walk("anna", "bakery")
    await world.until(lambda: world.is_settled(receipts=1), "the app confirms the offer and the gateway's outbox is empty")
    await world.still_heard("anna")

    # The gateway has got its grant, and forgotten what was acknowledged.
    assert world.gateway_rows("SELECT promotion_id, state FROM offer") == [("bread-20", "granted")]
    assert world.outbox_types() == []
    # The app has shown the offer once, and the stranger knows.
    (offer,) = world.wire.on("app/anna/offer")
    assert offer.event["data"]["promotion_id"] == "bread-20"
    assert world.shown("anna") == ["bread-20"]
    assert world.strangers_rows("SELECT inbox, state FROM receipt") == [("anna", "shown")]
    # The stranger has every number, once.
    stored = world.strangers_rows("SELECT seq, type FROM event ORDER BY seq")
    assert stored == [(1, "visit.started.v1"), (2, "zone.entered.v1"), (3, "offer.matched.v1")]
    assert_documented(world.wire.messages)
    assert await retained_channels(world.port) == documented_retained()


@pytest.mark.slow
async def test_what_happened_while_the_stranger_was_away_comes_once_it_is_back(make_world: MakeWorld) -> None:
    world = await make_world("5")
    world.walk("anna", "bakery")
    await world.until(lambda: world.is_settled(receipts=1), "the first offer is through")
    await world.central.kill()
    world.walk("anna", "dairy")
    await world.until(lambda: "offer.matched.v1" in world.outbox_types(), "the gateway proposes and nobody answers")
    assert world.gateway_rows("SELECT state FROM offer WHERE promotion_id = 'cheese'") == [("proposed",)]
    await world.central.start()
    # Beside the card the yoghurt, silently on the shelf: the visit has had its push.
    await world.until(lambda: world.is_settled(receipts=3), "what was proposed meanwhile is through")

    granted = "SELECT 1 FROM offer WHERE promotion_id = 'cheese' AND state = 'granted'"
    await world.until(lambda: bool(world.gateway_rows(granted)), "the gateway knows of the grant")
    assert sorted(world.shown("anna")) == ["bread-20", "cheese", "yoghurt-3"]
    numbers = [seq for (seq,) in world.strangers_rows("SELECT seq FROM event ORDER BY seq")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert_documented(world.wire.messages)


def assert_documented(messages: list[Message]) -> None:
    """Every topic is a channel, carries only its messages, and is retained only where the document says so."""
    whole, document, retained = json.loads(DOCUMENT.read_bytes()), Document(str(DOCUMENT)), documented_retained()
    seen = set()
    for message in messages:
        found = document.channel_of(message.topic)
        assert found is not None, message.topic
        seen.add(found[0])
        assert not message.payload or message.event["type"] in whole["channels"][found[0]]["messages"], message.topic
        assert not message.retained or found[0] in retained, message.topic
    # Telemetry comes once a minute, so perhaps not at all; and nobody checks in, listens for another gateway or needs the staff
    # while these tests run. The stranger tells no contexts, and there is neither back office nor wish.
    untold = {"rosterDelta", "sighting", "staff", "shopperContext", "tillReceipt", "order", "profile", "appWish"}
    assert seen | {"telemetry"} == whole["channels"].keys() - untold


def documented_retained() -> set[str]:
    """Channels whose sender retains."""
    return {
        operation["channel"]["$ref"].rpartition("/")[2]
        for operation in json.loads(DOCUMENT.read_bytes())["operations"].values()
        if operation["bindings"]["mqtt"].get("retain")
    }


async def retained_channels(port: int) -> set[str]:
    """What the broker has for who comes late."""
    found: set[str] = set()
    document = Document(str(DOCUMENT))
    async with aiomqtt.Client("127.0.0.1", port, timeout=5) as client:
        await client.subscribe("#", qos=1)
        # The broker hands over what is retained before it takes the next packet.
        await client.publish("the/end", b"", qos=1)
        async for message in client.messages:
            channel = document.channel_of(message.topic.value)
            if message.topic.value == "the/end":
                break
            if message.retain and channel is not None:
                found.add(channel[0])
    return found
