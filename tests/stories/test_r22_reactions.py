"""R22, reactions: „die Reaktion auf angezeigte Sonderangebote"; a review after the purchase.

Done when: shown, opened, saved, dismissed and redeemed are all taken, each once; two dismissals mute a category for 30 days; the
review is asked for once, after 24 hours.
"""

from pathlib import Path

import pytest

from gateway.contract.promotions import Promotion
from tests.stories.world import World, chain, promotion


def wine(name: str, zone: str) -> Promotion:
    return promotion(name, zones=[zone], category="wine", kind="info")


RIESLING, MERLOT, ROSE = wine("riesling", "bakery"), wine("merlot", "dairy"), wine("rose", "entrance")
BREAD = promotion("bread-20", zones=["bakery"], category="bread", daily_cap=10)
REVIEW = promotion(
    "how-was-it",
    kind="survey",
    trigger="visit_start",
    lifetime_cap=1,
    audience={"field": "days_since_last_visit", "operator": "at_least", "value": 1},
)


def reactions(shop: World, promotion_id: str) -> list[str]:
    """What central knows of an offer, in the order in which it was told."""
    question = "SELECT state FROM receipt JOIN offer USING (offer) WHERE promotion_id = ? ORDER BY receipt.rowid"
    return [state for (state,) in shop.query(question, promotion_id)]


async def test_every_reaction_is_kept_once_however_often_a_bad_network_says_it(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[BREAD]) as shop:
        anna = await shop["anna"].enters("bakery")
        for state in ("opened", "saved", "dismissed", "redeemed"):
            await anna.reacts("bread-20", state, times=3)
        assert reactions(shop, "bread-20") == ["shown", "opened", "saved", "dismissed", "redeemed"]


async def test_two_dismissals_mute_their_category_for_thirty_days_and_no_other(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[RIESLING, MERLOT, ROSE, BREAD]) as shop:
        anna = await shop["anna"].enters("bakery")
        await anna.reacts("riesling", "dismissed")
        await anna.enters("dairy", stays_s=15)
        await anna.reacts("merlot", "dismissed")
        await anna.leaves()
        await shop.passes(days=29)
        await anna.enters("entrance")
        assert "rose" not in anna.offers
        assert ("refused", "muted_category") in shop.shop.verdicts
        await anna.enters("bakery", stays_s=15)
        assert anna.offers.count("bread-20") == 2, "bread is no wine"
        await anna.leaves()
        await shop.passes(days=2)
        await anna.enters("entrance")
        assert "rose" in anna.offers


async def test_one_dismissal_twice_told_mutes_nothing(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[RIESLING, MERLOT]) as shop:
        anna = await shop["anna"].enters("bakery")
        await anna.reacts("riesling", "dismissed", times=2)
        await anna.enters("dairy", stays_s=15)
        assert anna.offers == ["riesling", "merlot"]


async def test_muting_takes_effect_on_the_same_visit(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[RIESLING, MERLOT, ROSE]) as shop:
        anna = await shop["anna"].enters("dairy")
        await anna.reacts("merlot", "dismissed")
        await anna.enters("bakery", stays_s=15)
        await anna.reacts("riesling", "dismissed")
        await anna.enters("entrance", stays_s=15)
        assert anna.offers == ["merlot", "riesling"]


async def test_a_complaint_stops_everything_for_good(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[BREAD, MERLOT]) as shop:
        anna = await shop["anna"].enters("bakery")
        await anna.reacts("bread-20", "complained")
        await anna.enters("dairy", stays_s=15)
        assert anna.offers == ["bread-20"]
        # By the gateway, or by central if it was asked while the news was still under way.
        refused = [verdict.reason for step in shop.shop.steps for verdict in step.verdicts if verdict.state == "refused"]
        assert ("merlot", "stopped") in shop.shop.withheld or refused == ["stopped"]
        await anna.leaves()
        await shop.passes(days=60)
        await anna.enters("bakery")
        assert anna.offers == ["bread-20"]


@pytest.mark.parametrize(("away_hours", "is_asked"), [(3, False), (26, True)])
async def test_the_review_is_asked_for_on_the_next_day_at_the_earliest(tmp_path: Path, away_hours: int, is_asked: bool) -> None:
    async with chain(tmp_path, promotions=[REVIEW]) as shop:
        anna = await shop["anna"].enters("bakery")
        await anna.leaves()
        await shop.passes(hours=away_hours)
        await anna.enters("bakery")
        assert anna.offers == (["how-was-it"] if is_asked else [])


async def test_the_review_is_asked_for_once(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[REVIEW]) as shop:
        anna = shop["anna"]
        for _ in range(4):
            await anna.enters("bakery")
            await anna.leaves()
            await shop.passes(days=1)
        assert anna.offers == ["how-was-it"]
