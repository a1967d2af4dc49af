"""R3, personal: „großes Interesse an personalisierten Angeboten".

Done when: two shoppers in one zone get different offers by segment; without knowledge of a person the rules still work.
"""

from pathlib import Path

from gateway.core.model import Consent
from tests.stories.world import World, chain, promotion

FAMILIES = promotion(
    "family-pack",
    zones=["dairy"],
    priority=10,
    audience={"field": "segments", "operator": "contains", "value": "family"},
)
GOURMETS = promotion(
    "truffle-cheese",
    zones=["dairy"],
    priority=10,
    audience={"field": "segments", "operator": "contains_any", "value": ["gourmet", "wine-club"]},
)
EVERYBODY = promotion("yoghurt-3-for-2", zones=["dairy"])


async def through_the_door(shop: World) -> None:
    """Everybody, so that central has told the gateway of them when they come to the shelf."""
    for person in shop.people.values():
        person.is_in("bakery")
    await shop.passes(15)


async def test_two_people_in_one_zone_get_the_offers_of_their_segments(tmp_path: Path) -> None:
    async with chain(tmp_path, people=["anna", "ben"], promotions=[FAMILIES, GOURMETS, EVERYBODY]) as shop:
        await shop.knows(shop["anna"], segments=["family"])
        await shop.knows(shop["ben"], segments=["wine-club"])
        await through_the_door(shop)
        shop["anna"].is_in("dairy")
        await shop["ben"].enters("dairy")
        assert shop["anna"].pushes == ["family-pack"]
        assert shop["ben"].pushes == ["truffle-cheese"]


async def test_of_whom_nothing_is_known_the_rules_for_everybody_hold(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[FAMILIES, GOURMETS, EVERYBODY]) as shop:
        await through_the_door(shop)
        anna = await shop["anna"].enters("dairy")
        assert anna.pushes == ["yoghurt-3-for-2"]
        assert {("family-pack", "audience"), ("truffle-cheese", "audience")} <= shop.shop.reasons


async def test_a_segment_that_the_crm_tells_during_the_visit_counts_from_then_on(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[FAMILIES]) as shop:
        anna = await shop["anna"].enters("bakery")
        await shop.knows(anna, segments=["family"])
        await anna.enters("dairy", stays_s=15)
        assert anna.pushes == ["family-pack"]


async def test_whoever_is_at_the_shelf_at_once_gets_the_general_push_and_the_personal_offer_on_the_shelf(tmp_path: Path) -> None:
    """Nobody waits for what is known of them: rules for everybody are decided about before central has answered."""
    async with chain(tmp_path, promotions=[FAMILIES, EVERYBODY]) as shop:
        await shop.knows(shop["anna"], segments=["family"])
        anna = await shop["anna"].enters("dairy")
        assert (anna.pushes, anna.shelf) == (["yoghurt-3-for-2"], ["family-pack"])


async def test_who_tells_nothing_of_her_visits_gets_what_is_hers_when_her_app_has_checked_in(tmp_path: Path) -> None:
    """Consent to offers alone: no visit is told of, so that central would hear of her with the first proposal only."""
    async with chain(tmp_path, promotions=[FAMILIES], consents={"anna": Consent.OFFERS}) as shop:
        anna = shop["anna"]
        await shop.knows(anna, segments=["family"])
        await shop.checks_in(anna)
        assert shop.query("SELECT * FROM visit") == [], "to have checked in is no visit"
        await anna.enters("dairy", stays_s=15)
        assert anna.pushes == ["family-pack"]
        assert shop.query("SELECT * FROM visited") == []


async def test_who_tells_nothing_of_her_visits_and_has_not_checked_in_is_as_good_as_unknown(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[FAMILIES], consents={"anna": Consent.OFFERS}) as shop:
        await shop.knows(shop["anna"], segments=["family"])
        anna = await shop["anna"].enters("dairy", stays_s=15)
        assert anna.offers == []
        assert ("family-pack", "no_context") in shop.shop.reasons


async def test_what_changes_between_check_in_and_shelf_counts(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[FAMILIES], consents={"anna": Consent.OFFERS}) as shop:
        anna = shop["anna"]
        await shop.checks_in(anna)
        await shop.knows(anna, segments=["family"])
        await anna.enters("dairy", stays_s=15)
        assert anna.pushes == ["family-pack"]


async def test_a_gateway_that_restarts_is_told_again_of_who_may_come(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[FAMILIES], consents={"anna": Consent.OFFERS}) as shop:
        anna = shop["anna"]
        await shop.knows(anna, segments=["family"])
        await shop.checks_in(anna)
        await shop.restart_gateway()
        await shop.passes(minutes=20)
        await anna.enters("dairy", stays_s=15)
        assert anna.pushes == ["family-pack"]


async def test_each_check_in_counts_anew_and_is_forgotten_after_half_an_hour(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[FAMILIES], consents={"anna": Consent.OFFERS}) as shop:
        anna = shop["anna"]
        await shop.knows(anna, segments=["family"])
        await shop.checks_in(anna)
        await shop.passes(minutes=45)
        assert shop.query("SELECT * FROM check_in") == []
        assert shop.shop.daemon.pipeline.context_of(shop.pseudonym(anna)) is None
        await shop.checks_in(anna)
        await anna.enters("dairy", stays_s=15)
        assert anna.pushes == ["family-pack"]


async def test_an_older_profile_that_comes_late_changes_nothing(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[FAMILIES]) as shop:
        anna = shop["anna"]
        await shop.knows(anna, segments=["family"])
        await shop.knows(anna, segments=[], version=1)
        await anna.enters("dairy")
        assert anna.pushes == ["family-pack"]


async def test_while_central_is_away_rules_for_segments_wait_a_second_and_the_others_not_at_all(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[FAMILIES, EVERYBODY]) as shop:
        anna = shop["anna"]
        await shop.knows(anna, segments=["family"])
        await shop.stop_central()
        await anna.enters("dairy", stays_s=10)
        assert ("family-pack", "no_context") in shop.shop.withheld
        assert [offer.promotion_id for offer in shop.shop.matched] == ["yoghurt-3-for-2"]
        shop.start_central()
        await shop.settled()
        assert anna.pushes == ["yoghurt-3-for-2"]


async def test_language_and_time_of_day_are_conditions_like_segments(tmp_path: Path) -> None:
    evening = promotion(
        "abendbrot",
        zones=["bakery"],
        audience={
            "all": [
                {"field": "language", "operator": "equals", "value": "de"},
                {"not": {"field": "local_time", "operator": "less_than", "value": "17:00"}},
            ]
        },
    )
    async with chain(tmp_path, people=["anna", "ben"], promotions=[evening], at="2026-09-14 16:50") as shop:
        await shop.knows(shop["anna"])
        await shop.knows(shop["ben"])
        assert (await shop["anna"].enters("bakery")).offers == []
        await shop.at("2026-09-14 17:01")
        assert (await shop["ben"].enters("bakery")).offers == ["abendbrot"]
