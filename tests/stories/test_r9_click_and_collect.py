"""R9, click & collect: „Online bestellen und offline abholen", „Expressabholung".

Done when: an order is ready and its owner enters: within 5 s the staff is told and the app has a message; „collected" ends it.
"""

from pathlib import Path

from tests.stories.world import World, chain, promotion

READY = promotion(
    "your-order-is-ready",
    kind="pickup",
    trigger="visit_start",
    priority=100,
    audience={"field": "order_state", "operator": "equals", "value": "ready"},
)
BREAD = promotion("bread-20", zones=["bakery"])


def pickups(shop: World) -> list[tuple[str, bool]]:
    """(zone, whether it is over) of what the staff was told of orders."""
    told = [message["data"] for _, message in shop.staff if message["type"] == "staff.pickup.v1"]
    return [(each.get("zone", ""), each["is_over"]) for each in told]


async def test_whoever_comes_for_a_ready_order_is_announced_to_staff_and_app_within_five_seconds(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[READY, BREAD]) as shop:
        anna = shop["anna"]
        await shop.orders(anna, "placed")
        await shop.orders(anna, "ready")
        await anna.enters("entrance", stays_s=5)
        assert pickups(shop) == [("entrance", False)]
        assert anna.pushes == ["your-order-is-ready"]
        (_, told), *_ = shop.staff
        assert told["data"]["text"].keys() == {"de", "en"}


async def test_it_costs_nothing_of_the_push_of_the_visit(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[READY, BREAD]) as shop:
        anna = shop["anna"]
        await shop.orders(anna, "ready")
        await anna.enters("bakery")
        assert sorted(anna.pushes) == ["bread-20", "your-order-is-ready"]


async def test_an_order_that_is_not_ready_calls_nobody(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[READY]) as shop:
        anna = shop["anna"]
        await shop.orders(anna, "placed")
        await anna.enters("entrance")
        assert (pickups(shop), anna.offers) == ([], [])


async def test_an_order_that_becomes_ready_while_its_owner_is_there_is_told_at_once(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[READY]) as shop:
        anna = shop["anna"]
        await shop.orders(anna, "placed")
        await anna.enters("bakery")
        await shop.orders(anna, "ready")
        await shop.passes(5)
        assert pickups(shop) == [("bakery", False)]


async def test_collected_ends_it_for_staff_and_app_and_for_the_next_visit(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[READY]) as shop:
        anna = shop["anna"]
        await shop.orders(anna, "ready")
        await anna.enters("entrance")
        await shop.orders(anna, "collected")
        await shop.passes(5)
        assert pickups(shop) == [("entrance", False), ("", True)]
        assert (anna.offers, anna.withdrawn) == ([], [("your-order-is-ready", "collected")])
        await anna.leaves()
        await anna.enters("entrance")
        assert (len(pickups(shop)), anna.offers) == (2, [])


async def test_a_return_at_the_counter_closes_the_order(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[READY]) as shop:
        anna = shop["anna"]
        await shop.orders(anna, "ready")
        await anna.enters("entrance")
        await shop.orders(anna, "returned")
        assert pickups(shop)[-1] == ("", True)
        assert anna.offers == []


async def test_messages_of_the_web_shop_that_overtake_one_another_do_no_harm(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[READY]) as shop:
        anna = shop["anna"]
        await shop.orders(anna, "collected", version=900)
        await shop.orders(anna, "ready", version=800)
        await anna.enters("entrance")
        assert (pickups(shop), anna.offers) == ([], [])
