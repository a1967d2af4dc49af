"""R1, offer at the shelf: „aktuelle Angebote am jeweiligen POS", „ergänzende Informationen".

Done when: whoever enters a zone has its offer in the app within 3 s (p95); a card with information costs no push; no more people
are asked to a tasting than it has places.
"""

from pathlib import Path

from gateway.core.model import Consent
from tests.stories.world import chain, promotion

BREAD = promotion("bread-20", zones=["bakery"])
YOGHURT = promotion("yoghurt-3-for-2", zones=["dairy"])
CHEESE = promotion("where-our-cheese-is-from", kind="info", tags=["food"])


async def test_the_offer_of_the_zone_is_in_the_app_within_three_seconds(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[BREAD, YOGHURT]) as shop:
        came_ms = shop.now_ms
        anna = await shop["anna"].enters("bakery")
        assert anna.offers == ["bread-20"]
        assert anna.arrived_ms("bread-20") - came_ms <= 3_000


async def test_of_many_walks_from_zone_to_zone_95_of_100_bring_the_offer_within_three_seconds(tmp_path: Path) -> None:
    zones = ("entrance", "bakery", "dairy", "electronics", "checkout")
    everywhere = [promotion(f"in-{zone}", zones=[zone], kind="info") for zone in zones]
    people = [f"person-{number}" for number in range(8)]
    delays_ms: list[int] = []
    async with chain(tmp_path, people=people, promotions=everywhere) as shop:
        for turn in range(len(zones)):
            came_ms = shop.now_ms
            for number, name in enumerate(people):
                # Some go in at the front and some at the back, and everybody passes from a zone to the one beside it.
                shop[name].is_in(zones[turn if number % 2 else -1 - turn])
            await shop.passes(12)
            for person in shop.people.values():
                assert person.where is not None
                delays_ms.append(person.arrived_ms(f"in-{person.where[1]}") - came_ms)
    assert len(delays_ms) == 40
    assert sorted(delays_ms)[37] <= 3_000


async def test_a_card_with_information_is_silent_and_leaves_the_push_to_the_offer(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[BREAD, YOGHURT, CHEESE]) as shop:
        anna = await shop["anna"].enters("bakery")
        assert anna.shelf == ["where-our-cheese-is-from"]
        assert anna.pushes == ["bread-20"]


async def test_many_cards_cost_no_push_however_many_there_were_before_the_offer(tmp_path: Path) -> None:
    cards = [promotion(f"card-{zone}", kind="info", zones=[zone]) for zone in ("entrance", "bakery", "dairy")]
    async with chain(tmp_path, promotions=[*cards, YOGHURT]) as shop:
        anna = shop["anna"]
        for zone in ("entrance", "bakery", "dairy"):
            await anna.enters(zone, stays_s=12)
        assert anna.shelf == ["card-entrance", "card-bakery", "card-dairy"]
        assert anna.pushes == ["yoghurt-3-for-2"]


async def test_a_phone_that_sleeps_gets_it_when_it_wakes_in_time_and_never_afterwards(tmp_path: Path) -> None:
    patient = promotion("until-the-end-of-the-aisle", zones=["bakery"], deadline_s=300)
    hasty = promotion("right-now", kind="info", zones=["bakery"], deadline_s=20)
    async with chain(tmp_path, promotions=[patient, hasty]) as shop:
        anna = shop["anna"]
        anna.reads = False
        await anna.enters("bakery")
        await anna.stays(60)
        assert anna.offers == []
        anna.reads = True
        await anna.stays(60)
        assert anna.offers == ["until-the-end-of-the-aisle"]


async def test_whoever_wants_statistics_but_no_offers_gets_none(tmp_path: Path) -> None:
    async with chain(tmp_path, people=["ben"], consents={"ben": Consent.ANALYTICS}, promotions=[BREAD]) as shop:
        ben = await shop["ben"].enters("bakery")
        assert ben.offers == []
        assert shop.shop.withheld == [("bread-20", "no_consent")]


async def test_two_people_in_two_zones_each_get_their_zones_offer(tmp_path: Path) -> None:
    async with chain(tmp_path, people=["anna", "ben"], promotions=[BREAD, YOGHURT]) as shop:
        shop["anna"].is_in("bakery")
        await shop["ben"].enters("dairy")
        assert (shop["anna"].offers, shop["ben"].offers) == (["bread-20"], ["yoghurt-3-for-2"])


async def test_a_tasting_asks_no_more_people_than_it_has_places_and_frees_those_that_nobody_took(tmp_path: Path) -> None:
    guests = ("anna", "ben", "chiara", "dora")
    tasting = promotion("cheese-tasting", kind="service", zones=["dairy"], quantity_per_store=2, reservation_s=900)
    async with chain(tmp_path, people=guests, promotions=[tasting]) as shop:
        anna = await shop["anna"].enters("dairy")
        await shop["ben"].enters("dairy")
        await anna.reacts("cheese-tasting", "redeemed")
        assert (await shop["chiara"].enters("dairy")).offers == []
        await shop.passes(minutes=16)
        assert (await shop["dora"].enters("dairy")).offers == ["cheese-tasting"]
        assert [name for name in guests if shop[name].offers] == ["anna", "ben", "dora"]
