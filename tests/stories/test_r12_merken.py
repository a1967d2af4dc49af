"""R12, „Merken": „beim nächsten Einkauf daran erinnert", „nie wieder ein Angebot zu verpassen".

Done when: what was saved is reminded of on the next visit in its zone, once, if still valid and not bought.
"""

from pathlib import Path

from tests.stories.world import chain, promotion

HEADPHONES = "4006381333931"
OFFER = promotion("headphones-10", zones=["electronics"], item_id=[HEADPHONES], lifetime_cap=1)
REMINDER = promotion(
    "you-saved-headphones",
    kind="reminder",
    zones=["electronics"],
    priority=10,
    audience={
        "any": [
            {"field": "saved_offers", "operator": "contains", "value": "headphones-10"},
            {"field": "watch_list", "operator": "contains", "value": HEADPHONES},
        ]
    },
)


async def test_a_saved_offer_is_reminded_of_on_the_next_visit_in_its_zone_and_only_once(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[OFFER, REMINDER]) as shop:
        anna = await shop["anna"].enters("electronics")
        await anna.reacts("headphones-10", "saved")
        await anna.stays(30)
        assert anna.offers == ["headphones-10"], "not on the visit on which it was saved"
        await anna.leaves()
        await shop.passes(days=2)
        await anna.enters("dairy")
        assert anna.offers == ["headphones-10"], "not in another zone"
        await anna.enters("electronics", stays_s=15)
        assert anna.offers == ["headphones-10", "you-saved-headphones"]
        await anna.leaves()
        await shop.passes(days=1)
        await anna.enters("electronics")
        assert anna.offers == ["headphones-10", "you-saved-headphones"]


async def test_what_was_bought_meanwhile_is_not_reminded_of(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[OFFER, REMINDER]) as shop:
        anna = await shop["anna"].enters("electronics")
        await anna.reacts("headphones-10", "saved")
        await shop.passes(minutes=5)
        await shop.pays(anna, "79.00", items=[HEADPHONES])
        await anna.leaves()
        await shop.passes(days=1)
        await anna.enters("electronics")
        assert anna.offers == ["headphones-10"]


async def test_what_is_over_is_not_reminded_of(tmp_path: Path) -> None:
    today = OFFER.model_copy(update={"promotion_effective_dates": "2026-09-14T00:00:00+02:00/2026-09-15T00:00:00+02:00"})
    async with chain(tmp_path, promotions=[today, REMINDER]) as shop:
        anna = await shop["anna"].enters("electronics")
        await anna.reacts("headphones-10", "saved")
        await anna.leaves()
        await shop.passes(days=1)
        await anna.enters("electronics")
        assert anna.offers == ["headphones-10"]


async def test_a_wish_in_the_app_is_reminded_of_until_it_is_wished_no_more(tmp_path: Path) -> None:
    async with chain(tmp_path, people=["anna", "ben"], promotions=[REMINDER]) as shop:
        for person in shop.people.values():
            await shop.wishes(person, HEADPHONES)
        await shop.passes(minutes=1)
        await shop.wishes(shop["ben"], HEADPHONES, wanted=False)
        shop["anna"].is_in("electronics")
        await shop["ben"].enters("electronics")
        assert (shop["anna"].offers, shop["ben"].offers) == (["you-saved-headphones"], [])


async def test_what_the_budget_holds_back_lies_in_the_inbox(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[promotion("bread-20", zones=["bakery"]), REMINDER]) as shop:
        anna = shop["anna"]
        await shop.wishes(anna, HEADPHONES)
        await anna.enters("bakery")
        await anna.enters("dairy", stays_s=15)
        await anna.enters("electronics", stays_s=15)
        assert (anna.pushes, anna.shelf) == (["bread-20"], ["you-saved-headphones"])
