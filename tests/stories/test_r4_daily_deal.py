"""R4, daily deal: Groupon, „in der Nähe günstiger".

Done when: it stops at its end or at 0 left, in every store within 5 s; never is more issued than there is.
"""

from pathlib import Path

from gateway.contract.promotions import Promotion
from tests.stories.world import World, chain, promotion

STORES = ("mitte", "nord")
PEOPLE = ("anna", "ben", "chiara", "dora", "emre", "fatou", "georg", "hanna")


def deal(quantity: int, **more: object) -> Promotion:
    return promotion("coffee-maker-49", kind="coupon", zones=["electronics"], quantity=quantity, lifetime_cap=1, **more)


def who_has_it(shop: World) -> list[str]:
    return [name for name, person in shop.people.items() if "coffee-maker-49" in person.offers]


async def test_of_three_pieces_in_two_stores_the_fourth_shopper_gets_none(tmp_path: Path) -> None:
    async with chain(tmp_path, people=PEOPLE[:4], stores=STORES, promotions=[deal(3)]) as shop:
        for number, name in enumerate(PEOPLE[:4]):
            await shop[name].enters("electronics", STORES[number % 2])
            await shop.passes(5)
        assert who_has_it(shop) == ["anna", "ben", "chiara"]


async def test_within_five_seconds_of_the_last_piece_every_store_knows_that_it_is_gone(tmp_path: Path) -> None:
    async with chain(tmp_path, people=PEOPLE[:3], stores=STORES, promotions=[deal(1)]) as shop:
        await shop["anna"].enters("electronics", "mitte", stays_s=5)
        await shop.passes(5)
        for store, name in zip(STORES, ("ben", "chiara"), strict=True):
            await shop[name].enters("electronics", store)
            assert ("coffee-maker-49", "sold_out") in shop.shops[store].withheld
        assert who_has_it(shop) == ["anna"]


async def test_eight_who_come_at_the_same_moment_never_get_more_than_there_is(tmp_path: Path) -> None:
    async with chain(tmp_path, people=PEOPLE, stores=STORES, promotions=[deal(3)]) as shop:
        for number, name in enumerate(PEOPLE):
            shop[name].is_in("electronics", STORES[number % 2])
        await shop.passes(10)
        assert len(who_has_it(shop)) == 3
        refused = [reason for store in STORES for state, reason in shop.shops[store].verdicts if state == "refused"]
        assert refused == ["quantity"] * 5


async def test_at_its_end_it_stops_in_every_store(tmp_path: Path) -> None:
    until_six = deal(100, promotion_effective_dates="2026-09-14T08:00:00+02:00/2026-09-14T18:00:00+02:00")
    async with chain(tmp_path, people=PEOPLE[:4], stores=STORES, promotions=[until_six], at="2026-09-14 17:58") as shop:
        for store, name in zip(STORES, ("anna", "ben"), strict=True):
            await shop[name].enters("electronics", store)
        await shop.at("2026-09-14 18:00")
        for store, name in zip(STORES, ("chiara", "dora"), strict=True):
            await shop[name].enters("electronics", store)
            assert ("coffee-maker-49", "outside_window") in shop.shops[store].withheld
        assert who_has_it(shop) == ["anna", "ben"]


async def test_a_piece_that_nobody_fetches_is_to_be_had_again(tmp_path: Path) -> None:
    async with chain(tmp_path, people=PEOPLE[:3], promotions=[deal(1, reservation_s=600)]) as shop:
        anna = await shop["anna"].enters("electronics")
        assert anna.offer("coffee-maker-49").reserved_until is not None
        await shop.passes(minutes=9)
        assert (await shop["ben"].enters("electronics")).offers == []
        await shop.passes(minutes=2)
        assert (await shop["chiara"].enters("electronics")).offers == ["coffee-maker-49"]


async def test_a_piece_that_was_fetched_does_not_come_back(tmp_path: Path) -> None:
    async with chain(tmp_path, people=PEOPLE[:2], promotions=[deal(1, reservation_s=600)]) as shop:
        anna = await shop["anna"].enters("electronics")
        await anna.reacts("coffee-maker-49", "redeemed")
        await shop.passes(minutes=20)
        assert (await shop["ben"].enters("electronics")).offers == []


async def test_what_is_counted_survives_that_central_dies(tmp_path: Path) -> None:
    async with chain(tmp_path, people=PEOPLE[:2], promotions=[deal(1)]) as shop:
        await shop["anna"].enters("electronics")
        await shop.restart_central()
        await shop["ben"].enters("electronics")
        assert who_has_it(shop) == ["anna"]
