"""Kill −9 of gateway, broker or central, at every moment from the door to the receipt: the offer is in the inbox exactly once."""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable

import pytest

from gateway.contract.topics import CENTRAL_STATE, StoreTopics
from tests.e2e.conftest import MakeWorld
from tests.e2e.world import GATEWAY, STORE, World

TOPICS = StoreTopics(STORE, GATEWAY)
OFFERED = {"anna": ["bread-20"]}
VICTIMS = ("gateway", "broker", "central")


# ---- moments ------------------------------------------------------------------------------------------------------------------
# Each brings the world to one moment of the story and holds it there, by freezing whoever would go on; the test kills, and thaws.


async def before_walking_in(world: World) -> None:
    """Nobody is in the shop."""
    assert world.phones["anna"].heard == 0


async def walking_in(world: World) -> None:
    """The shopper has been heard, and it is not yet certain that she is there."""
    world.walk("anna", "bakery")
    await world.until(lambda: world.phones["anna"].heard > 1, "she is heard")
    assert world.outbox_types() == []


async def entered_before_publishing(world: World) -> None:
    """The offer is on the gateway's disk; central is away, so that nothing has been published."""
    await world.central.kill()
    await world.until(lambda: bool(world.wire.on(CENTRAL_STATE)), "central's will is known")
    world.walk("anna", "bakery")
    await world.until(lambda: "offer.matched.v1" in world.outbox_types(), "the offer is on disk")
    assert not world.wire.on(TOPICS.event)


async def entered_without_broker(world: World) -> None:
    """The broker is dead already when the offer is written to the gateway's disk."""
    await world.broker.kill()
    world.walk("anna", "bakery")
    await world.until(lambda: "offer.matched.v1" in world.outbox_types(), "the offer is on disk")


async def publishing(world: World) -> None:
    """The broker hangs: the events are on their way to it, no PUBACK has come."""
    await world.broker.freeze()
    world.walk("anna", "bakery")
    await world.until(lambda: "offer.matched.v1" in world.outbox_types(), "the offer is on disk")


async def published_not_stored(world: World) -> None:
    """The broker has confirmed the events; central hangs and has not seen them."""
    await world.central.freeze()
    world.walk("anna", "bakery")
    await world.until(lambda: bool(world.wire.on(TOPICS.event, "offer.matched.v1")), "the offer is published")


async def granted_not_told(world: World) -> None:
    """Central has stored the events and granted the offer; the broker hangs, so that neither gateway nor app know."""
    await published_not_stored(world)
    await world.broker.freeze()
    world.central.thaw()
    await world.until(lambda: bool(world.granted()), "the offer is granted")
    assert not world.wire.on(TOPICS.decision)


async def answered_not_forgotten(world: World) -> None:
    """Central's acknowledgement and decision are on the wire; the gateway hangs and still keeps the events."""
    await published_not_stored(world)
    await world.gateway.freeze()
    world.central.thaw()
    await world.until(lambda: bool(world.wire.on(TOPICS.decision)), "central decides")
    await world.until(lambda: world.wire.on(TOPICS.ack)[-1].event["data"]["seq"] == 3, "central acknowledges")
    assert "offer.matched.v1" in world.outbox_types()


async def sent_app_has_it_not(world: World) -> None:
    """The offer is on its way to the app, which hangs."""
    await world.inboxes["anna"].freeze()
    world.walk("anna", "bakery")
    await world.until(lambda: bool(world.wire.on("app/anna/offer")), "the offer is sent")
    assert world.shown("anna") == []


async def sent_app_is_away(world: World) -> None:
    """The broker has confirmed the offer and keeps it for the app, which is not connected."""
    await world.inboxes["anna"].kill()
    world.walk("anna", "bakery")
    await world.until(lambda: bool(world.wire.on("app/anna/offer")), "the offer is sent")


async def shown_receipt_on_its_way(world: World) -> None:
    """The app has shown the offer; its receipt is with the broker, central hangs."""
    await sent_app_has_it_not(world)
    await world.central.freeze()
    world.inboxes["anna"].thaw()
    await world.until(lambda: bool(world.wire.on("app/anna/receipt")), "the receipt is sent")
    assert world.receipts() == []


async def after_the_receipt(world: World) -> None:
    """Everything has arrived."""
    world.walk("anna", "bakery")
    await world.settle()


MOMENTS: tuple[Callable[[World], Awaitable[None]], ...] = (
    before_walking_in,
    walking_in,
    entered_before_publishing,
    publishing,
    published_not_stored,
    granted_not_told,
    answered_not_forgotten,
    sent_app_has_it_not,
    shown_receipt_on_its_way,
    after_the_receipt,
)
QUICK = {("gateway", entered_before_publishing), ("broker", granted_not_told), ("central", published_not_stored)}
"""One of each victim for the fast part."""


async def kill_at(world: World, moment: Callable[[World], Awaitable[None]], victim: str) -> None:
    await moment(world)
    dying = {"gateway": world.gateway, "broker": world.broker, "central": world.central}[victim]
    await dying.kill()


async def go_on(world: World) -> None:
    """Thaw whoever hangs, start again whoever is dead, and let the story come to its end."""
    for program in world.programs:
        program.thaw()
        if not program.is_alive:
            await program.start()
    world.walk("anna", "bakery")
    await world.settle()
    await world.still_heard("anna")


@pytest.mark.parametrize(
    ("victim", "moment"),
    [
        pytest.param(
            victim, moment, marks=() if (victim, moment) in QUICK else pytest.mark.slow, id=f"{victim}-{moment.__name__}"
        )
        for moment in MOMENTS
        for victim in VICTIMS
    ],
)
async def test_killed_and_started_again(world: World, moment: Callable[[World], Awaitable[None]], victim: str) -> None:
    """The offer is in the inbox once, nothing is lost or doubled, and every number is at central once, without a gap."""
    await kill_at(world, moment, victim)
    await go_on(world)
    world.assert_exactly_once(OFFERED)
    assert world.presence_events("anna") == {"visit.started.v1": 1, "zone.entered.v1": 1, "offer.matched.v1": 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [entered_without_broker, published_not_stored, granted_not_told, sent_app_is_away, shown_receipt_on_its_way],
    ids=lambda moment: moment.__name__,
)
async def test_a_broker_that_loses_its_database_loses_no_offer(world: World, moment: Callable[[World], Awaitable[None]]) -> None:
    """A PUBACK is not delivery: what the broker had confirmed and lost is sent again within the offer's deadline. Central is the
    last to come back, and until then nobody subscribes to what the gateway could send."""
    await kill_at(world, moment, "broker")
    (world.folder / "broker" / "mosquitto.db").unlink()
    await world.central.freeze()
    world.gateway.thaw()
    await world.broker.start()
    await world.until(lambda: world.gateway.log.read_text().count(": connected") == 2, "the gateway is connected again")
    await go_on(world)
    world.assert_exactly_once(OFFERED)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_random_kills(make_world: MakeWorld) -> None:
    """Two shoppers come and go while processes die at random: GATEWAY_KILLS times, in the order of GATEWAY_SEED."""
    seed = int(os.environ.get("GATEWAY_SEED") or random.SystemRandom().randrange(2**32))
    # pytest shows it when the test fails.
    print(f"GATEWAY_SEED={seed}")  # noqa: T201
    rng = random.Random(seed)
    world = await make_world(inboxes=("anna", "ben"))
    for _ in range(int(os.environ.get("GATEWAY_KILLS") or 10)):
        for name in ("anna", "ben"):
            world.walk(name, rng.choice(["bakery", "dairy", None]))
        await asyncio.sleep(rng.uniform(0, 2))
        victim = rng.choice([world.gateway, world.broker, world.central])
        print("kill", victim.name)  # noqa: T201
        await victim.kill()
        await asyncio.sleep(rng.choice([0, rng.uniform(0, 1)]))
        await victim.start()
    for name in ("anna", "ben"):
        world.walk(name, "dairy")
    # In the dairy everybody gets the silent card; the visit's one push is for bread or yoghurt, whichever zone came first, and
    # the other goes to the silent shelf.
    await world.until(lambda: sum(promotion == "cheese" for _, promotion in world.granted()) == 2, "both are in the dairy", 60)
    await world.settle(grants=4)
    await world.still_heard("anna")
    world.assert_exactly_once({name: [had for inbox, had in world.granted() if inbox == name] for name in ("anna", "ben")})
    pushed = world.central_rows(
        "SELECT inbox, count(*) FROM offer WHERE reason IS NULL AND push = 1 GROUP BY inbox ORDER BY inbox"
    )
    assert pushed == [("anna", 1), ("ben", 1)]
