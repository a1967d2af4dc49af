"""R5, the regular: foursquare, „langfristige Kundenbeziehungen", „wie oft er das Ladengeschäft besucht".

Done when: the 5th visit in 30 days is rewarded exactly once; a visit lasts from entry to exit, with gaps under 30 minutes.
"""

from pathlib import Path

from tests.stories.world import Person, World, chain, promotion

FIFTH = promotion("fifth-visit-coffee", kind="coupon", trigger="nth_visit", visit_number=5)


async def visits(shop: World, person: Person, times: int, *, every_days: float = 1) -> None:
    """So many visits on so many days, each of a minute."""
    for _ in range(times):
        await person.enters("bakery", stays_s=60)
        await person.leaves()
        await shop.passes(days=every_days)


async def test_the_fifth_visit_is_rewarded_and_neither_the_fourth_nor_the_sixth(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[FIFTH]) as shop:
        anna = shop["anna"]
        await visits(shop, anna, 4)
        assert anna.offers == []
        await anna.enters("bakery")
        assert anna.offers == ["fifth-visit-coffee"]
        await anna.leaves()
        await shop.passes(days=1)
        await visits(shop, anna, 2)
        assert anna.offers == ["fifth-visit-coffee"]


async def test_it_is_rewarded_at_the_first_zone_whichever_it_is(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[FIFTH]) as shop:
        anna = shop["anna"]
        await visits(shop, anna, 4)
        await anna.enters("electronics")
        await anna.enters("dairy", stays_s=15)
        assert [(each.data.promotion_id, each.data.zone) for each in anna.inbox_holds] == [("fifth-visit-coffee", "electronics")]


async def test_whoever_is_away_for_twenty_minutes_is_on_the_same_visit(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[FIFTH]) as shop:
        anna = shop["anna"]
        await visits(shop, anna, 3)
        for _ in range(3):
            await anna.enters("bakery", stays_s=60)
            anna.where = None
            await shop.passes(minutes=20)
        assert anna.offers == []
        await anna.leaves()
        await anna.enters("bakery")
        assert anna.offers == ["fifth-visit-coffee"]


async def test_visits_of_more_than_thirty_days_ago_do_not_count(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[FIFTH]) as shop:
        anna = shop["anna"]
        await visits(shop, anna, 5, every_days=9)
        assert anna.offers == []


async def test_a_gateway_that_dies_during_the_fifth_visit_does_not_reward_it_twice(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[FIFTH]) as shop:
        anna = shop["anna"]
        await visits(shop, anna, 4)
        await anna.enters("bakery")
        await shop.restart_gateway()
        await anna.enters("dairy", stays_s=20)
        assert anna.offers == ["fifth-visit-coffee"]
