"""R11, showrooming bridge: „sich im Laden zu informieren, aber im Netz zu kaufen".

Done when: 60 s at a shelf bring the link to the own web shop; the order is counted for the visit for up to 7 days.
"""

from pathlib import Path

from tests.stories.world import World, chain, promotion

HEADPHONES = promotion(
    "headphones-online",
    zones=["electronics"],
    trigger="dwell",
    dwell_s=60,
    promotion_url="https://shop.example/headphones",
    digital_link="https://id.gs1.org/01/04006381333931",
    redemption_channel=["online"],
)


def attributed(shop: World) -> list[tuple[str, str | None]]:
    """(order, offer it came of) at central."""
    return [tuple(row) for row in shop.query("SELECT number, attribution FROM web_order ORDER BY number")]


async def test_whoever_stands_at_the_shelf_for_a_minute_gets_the_link_to_the_own_shop(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[HEADPHONES]) as shop:
        anna = await shop["anna"].enters("electronics", stays_s=50)
        assert anna.offers == []
        await anna.stays(20)
        link = anna.offer("headphones-online")
        assert (link.url, link.digital_link) == ("https://shop.example/headphones", "https://id.gs1.org/01/04006381333931")
        assert link.attribution == link.offer


async def test_whoever_only_passes_by_gets_none(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[HEADPHONES]) as shop:
        anna = await shop["anna"].enters("electronics", stays_s=40)
        await anna.enters("dairy", stays_s=60)
        assert anna.offers == []


async def test_an_order_within_seven_days_is_counted_for_the_visit_and_a_later_one_is_not(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[HEADPHONES]) as shop:
        anna = await shop["anna"].enters("electronics", stays_s=70)
        offer = anna.offer("headphones-online").offer
        await anna.leaves()
        await shop.passes(days=6)
        await shop.orders(anna, "placed", order="within", attribution=offer)
        await shop.passes(days=2)
        await shop.orders(anna, "placed", order="too-late", attribution=offer)
        assert attributed(shop) == [("too-late", None), ("within", offer)]


async def test_an_order_that_names_somebody_elses_offer_is_counted_for_nobody(tmp_path: Path) -> None:
    async with chain(tmp_path, people=["anna", "ben"], promotions=[HEADPHONES]) as shop:
        anna = await shop["anna"].enters("electronics", stays_s=70)
        await shop.orders(shop["ben"], "placed", attribution=anna.offer("headphones-online").offer)
        assert attributed(shop) == [("o-1", None)]
