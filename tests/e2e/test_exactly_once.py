"""A shopper walks in, and what follows arrives exactly once."""

import pytest

from tests.e2e.conftest import MakeWorld
from tests.e2e.world import GATEWAY, STORE

OFFERED = {"anna": ["bread-20"]}


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_who_walks_in_gets_the_offer_once(make_world: MakeWorld, protocol: str) -> None:
    """The promotion is in the inbox once; grant, receipt and events without a gap are at central; the outbox is empty."""
    world = await make_world(protocol=protocol)
    world.walk("anna", "bakery")
    await world.settle()
    await world.still_heard("anna")

    world.assert_exactly_once(OFFERED)
    assert world.presence_events("anna") == {"visit.started.v1": 1, "zone.entered.v1": 1, "offer.matched.v1": 1}
    assert world.gateway_rows("SELECT promotion_id, state FROM offer") == [("bread-20", "granted")]
    # Without a fault nothing is sent twice.
    for topic in (f"stores/{STORE}/up/{GATEWAY}/event", "app/+/offer", "app/+/receipt"):
        identifiers = [message.event["id"] for message in world.wire.on(topic)]
        assert len(identifiers) == len(set(identifiers)) > 0, topic
