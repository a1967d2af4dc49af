"""Two gateways of one store, real processes at a real broker: one decides; whoever dies or returns, nobody is offered twice."""

import json
from typing import Any

import pytest

from gateway.contract.topics import StoreTopics
from tests.e2e.conftest import MakeWorld
from tests.e2e.world import (
    GATEWAY,
    RECEIVERS,
    SECOND,
    SECOND_RECEIVERS,
    STORE,
    Program,
    World,
    rows,
    run_command,
)

pytestmark = pytest.mark.timeout(400)
"""Each starts six processes; a busy machine takes its time."""
FIRST_UP, SECOND_UP = StoreTopics(STORE, GATEWAY), StoreTopics(STORE, SECOND)
OFFERED = {"anna": ["bread-20"]}


async def command(world: World, gateway: str, *words: str) -> dict[str, Any]:
    """What a command answers at one of the gateways."""
    answer: dict[str, Any] = json.loads(await run_command(*words, "--json", "--config", world.folder / f"{gateway}.toml"))
    return answer


async def status(world: World, gateway: str) -> dict[str, Any]:
    return await command(world, gateway, "status")


def decisions(world: World) -> list[tuple[Any, ...]]:
    """(gateway, promotion, reason) of central's answers, in their order."""
    return world.central_rows("SELECT gateway, promotion_id, reason FROM offer ORDER BY decided_ms, rowid")


def presence(world: World, gateway: str) -> int:
    """How many events about people a gateway has put into its ledger."""
    return int(rows(world.folder / gateway / "gateway.db", "SELECT count(*) FROM ledger")[0][0])


def has_heard_the_new_claim(program: Program) -> bool:
    return f"{SECOND} decides" in program.log.read_text()


async def take_over(world: World) -> None:
    told = await command(world, SECOND, "takeover")
    assert told == {"decider": SECOND, "term": 2, "before": GATEWAY, "told": True}


async def test_what_a_receiving_gateway_hears_is_offered_by_the_deciding_one(make_world: MakeWorld) -> None:
    """The first gateway's own adapters hear nothing at all."""
    world = await make_world(second=True)
    world.shielded.update(RECEIVERS)
    world.walk("anna", "bakery")
    await world.settle()
    receivers = {one["name"]: one for one in (await status(world, "gateway"))["receivers"]}
    heard = receivers["pi2-bakery"]
    assert (heard["gateway"], heard["state"], heard["in_shop"]) == (SECOND, "hearing", True)
    assert heard["heard"] > 0
    tried = await command(world, "gateway", "receiver", "test", "pi2-dairy", "--for", "1s")
    assert tried["hears"]
    world.assert_exactly_once(OFFERED)
    assert presence(world, SECOND) == 0
    # Nothing is on the wire of who is in no roster.
    named = {one["shopper"] for message in world.wire.on(SECOND_UP.sighting) for one in message.event["data"]["sightings"]}
    assert named == {world.phones["anna"].pseudonym}


async def test_the_decider_dies_and_another_takes_over(make_world: MakeWorld) -> None:
    """Killed with the offer granted, the shopper stays; the new decider proposes the same again, and it is refused."""
    world = await make_world(second=True)
    world.walk("anna", "bakery")
    await world.settle()
    await world.gateway.kill()
    await world.until(lambda: world.wire.on(FIRST_UP.status)[-1].event["data"]["state"] == "offline", "its will is known")
    waiting = await status(world, SECOND)
    assert (waiting["role"], waiting["decider"], waiting["decider_online"]) == ("receive", GATEWAY, False)
    assert "gateway takeover" in waiting["next_step"]
    await take_over(world)
    await world.until(lambda: len(decisions(world)) == 2, "the second gateway proposes, too")
    await world.still_heard("anna", by=SECOND_RECEIVERS.values())
    assert decisions(world) == [(GATEWAY, "bread-20", None), (SECOND, "bread-20", "already_granted")]
    assert world.shown("anna") == ["bread-20"]
    assert world.granted() == [("anna", "bread-20")]


async def test_the_old_decider_returns_and_steps_back(make_world: MakeWorld) -> None:
    """Killed with its proposal unsent; the new decider's is granted, and when the old one comes back, its own is refused."""
    world = await make_world(second=True)
    await world.central.kill()
    world.walk("anna", "bakery")
    await world.until(lambda: "offer.matched.v1" in world.outbox_types(), "the offer is on the disk of the first")
    await world.gateway.kill()
    await world.central.start()
    await take_over(world)
    await world.until(lambda: decisions(world) == [(SECOND, "bread-20", None)], "the second gateway's proposal is granted")
    events = presence(world, "gateway")
    await world.gateway.start()
    await world.until(lambda: has_heard_the_new_claim(world.gateway), "the first hears that it does not decide any more")
    await world.until(lambda: len(decisions(world)) == 2 and not world.outbox_types(), "its old proposal is answered")
    await world.until(lambda: len(world.wire.on(FIRST_UP.sighting)) >= 10, "it receives")
    assert decisions(world) == [(SECOND, "bread-20", None), (GATEWAY, "bread-20", "not_decider")]
    assert presence(world, "gateway") == events, "it decided nothing after it came back"
    back = await status(world, "gateway")
    assert (back["role"], back["decider"], back["shoppers_present"]) == ("receive", SECOND, 0)
    await world.until(lambda: len(world.receipts()) == 1, "the app has confirmed")
    assert world.shown("anna") == ["bread-20"]


@pytest.mark.slow
async def test_two_who_both_believe_that_they_decide_get_one_grant(make_world: MakeWorld) -> None:
    """The first gateway hangs during the takeover, and goes on as the decider that it was."""
    world = await make_world(second=True)
    await world.gateway.freeze()
    await take_over(world)
    await world.second.freeze()
    world.gateway.thaw()
    world.walk("anna", "bakery")
    await world.until(lambda: has_heard_the_new_claim(world.gateway), "the first hears of it")
    world.second.thaw()
    await world.settle()
    await world.still_heard("anna")
    assert [one for one in decisions(world) if one[2] is None] == [(SECOND, "bread-20", None)]
    assert world.shown("anna") == ["bread-20"]
