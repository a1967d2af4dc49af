"""R20, before it spoils: „bevor verderbliche Waren entsorgt werden müssen".

Done when: the price goes down by steps for whoever is in the zone; no more is issued than there is; at 0 it stops.
"""

from pathlib import Path

from gateway.contract.promotions import Promotion
from tests.stories.world import chain, promotion

PEOPLE = ("anna", "ben", "chiara", "dora")


def salad(percent: int, start: str, end: str, units: int = 40) -> Promotion:
    return promotion(
        f"salad-{percent}",
        zones=["dairy"],
        percent_off=percent,
        windows=[{"start": start, "end": end}],
        quantity_per_store=units,
        item_id=["4006381333948"],
    )


STEPS = [salad(30, "17:00", "19:00"), salad(50, "19:00", "20:00")]


async def test_the_later_it_is_the_cheaper_and_nothing_before_and_after(tmp_path: Path) -> None:
    async with chain(tmp_path, people=PEOPLE, promotions=STEPS, at="2026-09-14 16:30") as shop:
        found = []
        for name, at in zip(PEOPLE, ("16:58", "17:30", "19:30", "20:01"), strict=True):
            await shop.at(f"2026-09-14 {at}")
            person = await shop[name].enters("dairy")
            found.append(person.offers)
            person.where = None
        assert found == [[], ["salad-30"], ["salad-50"], []]


async def test_no_more_is_issued_than_there_is_and_then_it_stops_within_five_seconds(tmp_path: Path) -> None:
    async with chain(tmp_path, people=PEOPLE, promotions=[salad(30, "17:00", "19:00", 2)], at="2026-09-14 17:30") as shop:
        for name in PEOPLE[:3]:
            shop[name].is_in("dairy")
        await shop.passes(8)
        assert sum("salad-30" in shop[name].offers for name in PEOPLE) == 2
        await shop["dora"].enters("dairy")
        assert ("salad-30", "sold_out") in shop.shop.withheld
        assert shop["dora"].offers == []


async def test_each_store_has_its_own_units(tmp_path: Path) -> None:
    stores = ("mitte", "nord")
    one = salad(30, "17:00", "19:00", 1)
    async with chain(tmp_path, people=PEOPLE, stores=stores, promotions=[one], at="2026-09-14 17:30") as shop:
        for number, name in enumerate(PEOPLE):
            await shop[name].enters("dairy", stores[number % 2])
        assert [name for name in PEOPLE if shop[name].offers] == ["anna", "ben"]


async def test_who_stays_until_the_next_step_is_told_of_the_better_price_only_when_she_comes_again(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=STEPS, at="2026-09-14 18:00") as shop:
        anna = await shop["anna"].enters("dairy")
        await anna.leaves()
        await shop.at("2026-09-14 19:10")
        await anna.enters("dairy")
        assert anna.offers == ["salad-30", "salad-50"]
