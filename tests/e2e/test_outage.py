"""Ten minutes without the broker: what is valid arrives, what is late is never shown, and nothing of the story is lost."""

from collections import Counter

import pytest

from gateway.contract.fields import from_rfc3339
from gateway.contract.topics import StoreTopics
from tests.e2e.conftest import MakeWorld
from tests.e2e.world import GATEWAY, STORE, World

TOPICS = StoreTopics(STORE, GATEWAY)

SPEED = 60
OUTAGE_MS = 600_000
NEAR_THE_END_MS = 480_000
HISTORY_MS = 10_000
"""What is older than this when it is told is history."""


async def until_shop_time(world: World, wall_ms: int) -> None:
    await world.until(lambda: world.pace.wall_ms() >= wall_ms, "time passes in the shop", within_s=60)


@pytest.mark.slow
async def test_ten_minutes_without_the_broker(make_world: MakeWorld) -> None:
    """Time runs sixty times as fast for everybody. Anna comes early in the outage and her offer lives for two minutes: late at
    central and in the gateway's ledger, never shown. Ben comes near its end and his lives for ten: shown. Every event is at
    central once, and those of the outage are marked as history."""
    world = await make_world(speed=SPEED, inboxes=("anna", "ben"), visit_gap_s=240)
    world.advertise_every_s = 0.05
    began_ms = world.pace.wall_ms()
    await world.broker.kill()

    world.walk("anna", "bakery")
    await world.until(lambda: bool(world.gateway_rows("SELECT 1 FROM offer")), "anna is offered bread")
    world.walk("anna", None)
    await world.until(lambda: world.gateway_rows("SELECT state FROM offer") == [("late",)], "her offer is late")
    await world.until(lambda: "visit.ended.v1" in world.outbox_types(), "her visit ends", within_s=40)
    await until_shop_time(world, began_ms + NEAR_THE_END_MS)
    world.walk("ben", "dairy")
    await world.until(lambda: "zone.dwelled.v1" in world.outbox_types(), "he stays for a minute")
    await until_shop_time(world, began_ms + OUTAGE_MS)
    waiting = Counter(world.outbox_types())
    ended_ms = world.pace.wall_ms()

    await world.broker.start()
    await world.settle(grants=2)
    await world.still_heard("ben")
    world.assert_exactly_once({"ben": ["cheese", "yoghurt-3"]})
    assert world.central_rows("SELECT promotion_id, reason FROM offer WHERE inbox = 'anna'") == [("bread-20", "late")]
    assert world.gateway_rows("SELECT reason FROM offer WHERE promotion_id = 'bread-20'") == [("late",)]
    assert not world.wire.on("app/anna/offer")

    assert waiting == {
        "visit.started.v1": 2,
        "zone.entered.v1": 2,
        "zone.exited.v1": 1,
        "visit.ended.v1": 1,
        "zone.dwelled.v1": 1,
        "offer.matched.v1": 3,
    }
    stored = world.central_rows("SELECT type FROM event WHERE time_ms <= ?", ended_ms)
    assert Counter(kind for (kind,) in stored) == waiting
    told = [message.event for message in world.wire.on(TOPICS.event)]
    of_the_outage = [event for event in told if from_rfc3339(event["time"]) < ended_ms - HISTORY_MS]
    assert {event["type"] for event in of_the_outage} == waiting.keys()
    assert all(event.get("history") is True for event in of_the_outage)
