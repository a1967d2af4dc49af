"""The gateway's database is lost: a new epoch begins, and central, which remembers, lets nothing be offered twice."""

from gateway.contract.messages import Ack, AckData
from gateway.contract.topics import StoreTopics
from tests.e2e.test_kills import answered_not_forgotten
from tests.e2e.world import GATEWAY, STORE, World

TOPICS = StoreTopics(STORE, GATEWAY)
OFFERED = {"anna": ["bread-20"]}


async def lose_database(world: World) -> None:
    await world.gateway.kill()
    lost = list(world.gateway_db.parent.glob("gateway.db*"))
    assert lost
    for file in lost:
        file.unlink()
    await world.gateway.start()


def epoch(world: World) -> str:
    found = world.gateway_rows("SELECT value FROM meta WHERE key = 'epoch'")
    return str(found[0][0]) if found else ""


async def test_who_is_met_again_gets_nothing_a_second_time(world: World) -> None:
    """The gateway proposes the same again under new numbers; central refuses, whichever zone the shopper is in."""
    world.walk("anna", "bakery")
    await world.settle()
    old = epoch(world)

    await lose_database(world)
    await world.until(lambda: epoch(world) not in {"", old}, "a new epoch")
    await world.until(lambda: world.gateway_rows("SELECT reason FROM offer") == [("already_granted",)], "bread is refused")
    world.walk("anna", "dairy")
    await world.settle(grants=3)
    await world.still_heard("anna")

    # The silent cards are new to her; the visit's push is spent, though this gateway's visit is another.
    world.assert_exactly_once({"anna": ["bread-20", "cheese", "yoghurt-3"]})
    assert world.central_rows("SELECT promotion_id FROM offer WHERE reason IS NULL AND push = 1") == [("bread-20",)]
    refused = world.central_rows("SELECT promotion_id, reason FROM offer WHERE reason IS NOT NULL")
    assert refused == [("bread-20", "already_granted")]
    assert {seen for (seen,) in world.central_rows("SELECT epoch FROM event")} == {old, epoch(world)}


async def test_what_was_on_its_way_when_the_database_was_lost_still_arrives_once(world: World) -> None:
    """The lost events had reached the broker; the new ones carry the same proposal under another epoch."""
    await answered_not_forgotten(world)
    await lose_database(world)
    # The grant of before is there already, so it is the new proposal's refusal that tells when the new story has been told.
    await world.until(lambda: world.gateway_rows("SELECT reason FROM offer") == [("already_granted",)], "bread is refused")
    await world.settle()
    await world.still_heard("anna")
    world.assert_exactly_once(OFFERED)


async def test_an_acknowledgement_of_the_old_epoch_is_ignored(world: World) -> None:
    """Numbers begin anew with the file, so an old acknowledgement would delete events that central has never seen."""
    world.walk("anna", "bakery")
    await world.settle()
    old = epoch(world)
    await world.central.freeze()
    await lose_database(world)
    await world.until(lambda: "offer.matched.v1" in world.outbox_types(), "new events wait")
    waiting = world.outbox_types()

    ack = Ack(id="old", source="central", time=world.pace.wall_ms(), data=AckData(epoch=old, seq=1000))
    await world.wire.publish(TOPICS.ack, ack.to_json())
    await world.still_heard("anna")
    assert world.outbox_types() == waiting
    world.central.thaw()
    await world.until(lambda: not world.outbox_types(), "central's own acknowledgement counts")
    world.assert_exactly_once(OFFERED)
