"""R17, the 50 € rule: „Coupon für den nächsten Online-Einkauf, aber nur wenn er heute den Umsatz von 50 Euro überschreitet".

Done when: 50,00 no, 50,01 yes; two receipts add up; a refund revokes; an offline till that replays counts once; the coupon waits
at the exit.
"""

from pathlib import Path

import pytest

from gateway.contract.promotions import Promotion
from tests.stories.world import Person, World, chain, promotion


def coupon(limit: str = "50.00") -> Promotion:
    return promotion(
        "5-euros-online",
        kind="coupon",
        zones=["checkout"],
        offer_type="generic_code",
        generic_redemption_code="DANKE5",
        redemption_channel=["online"],
        money_off_amount="5.00 EUR",
        audience={"field": "basket_today", "operator": "more_than", "value": f"{limit} EUR"},
        deadline_s=300,
    )


async def shops(shop: World, *totals: str) -> Person:
    """Anna comes, pays so much at the tills, and goes to the exit."""
    anna = await shop["anna"].enters("electronics")
    for total in totals:
        await shop.pays(anna, total)
    return await anna.enters("checkout", stays_s=15)


@pytest.mark.parametrize(
    ("totals", "limit", "gets_it"),
    [
        pytest.param(["50.00"], "50.00", False, id="50,00 is not more than 50 euros"),
        pytest.param(["50.01"], "50.00", True, id="50,01 is"),
        pytest.param(["30.00", "20.01"], "50.00", True, id="two receipts add up"),
        pytest.param(["30.00", "20.00"], "50.00", False, id="two receipts add up to exactly 50 euros"),
        pytest.param(["50.01"], "75.00", False, id="the limit is the operator's: not yet 75 euros"),
        pytest.param(["75.01"], "75.00", True, id="the limit is the operator's: more than 75 euros"),
        pytest.param([], "50.00", False, id="nothing was bought"),
    ],
)
async def test_whoever_spends_more_than_the_limit_today_finds_a_coupon_at_the_exit(
    tmp_path: Path, totals: list[str], limit: str, gets_it: bool
) -> None:
    async with chain(tmp_path, promotions=[coupon(limit)]) as shop:
        anna = await shops(shop, *totals)
        assert anna.pushes == (["5-euros-online"] if gets_it else [])


async def test_a_refund_before_the_exit_leaves_nothing_to_be_had(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[coupon()]) as shop:
        anna = await shop["anna"].enters("electronics")
        receipt = await shop.pays(anna, "60.00")
        await shop.pays(anna, "-20.00", refunds=receipt)
        await anna.enters("checkout", stays_s=15)
        assert anna.offers == []


async def test_a_refund_afterwards_takes_the_coupon_back(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[coupon()]) as shop:
        anna = await shop["anna"].enters("electronics")
        receipt = await shop.pays(anna, "60.00")
        await anna.enters("checkout", stays_s=15)
        assert anna.offers == ["5-euros-online"]
        await shop.pays(anna, "-20.00", refunds=receipt)
        assert (anna.offers, anna.withdrawn) == ([], [("5-euros-online", "refund")])


async def test_a_refund_of_a_part_that_leaves_more_than_the_limit_changes_nothing(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[coupon()]) as shop:
        anna = await shop["anna"].enters("electronics")
        receipt = await shop.pays(anna, "80.00")
        await anna.enters("checkout", stays_s=15)
        await shop.pays(anna, "-20.00", refunds=receipt)
        assert anna.offers == ["5-euros-online"]


async def test_a_till_that_was_offline_and_says_everything_three_times_counts_once(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[coupon()]) as shop:
        anna = await shop["anna"].enters("electronics")
        paid_ms = shop.now_ms
        await shop.passes(minutes=10)
        await shop.pays(anna, "30.00", receipt="r-offline", at_ms=paid_ms, times=3)
        await anna.enters("checkout", stays_s=15)
        assert anna.offers == []


async def test_a_refund_that_arrives_before_its_receipt_counts_all_the_same(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[coupon()]) as shop:
        anna = await shop["anna"].enters("electronics")
        await shop.pays(anna, "-20.00", refunds="r-later")
        await shop.pays(anna, "60.00", receipt="r-later")
        await anna.enters("checkout", stays_s=15)
        assert anna.offers == []


async def test_what_was_bought_yesterday_does_not_count_today(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[coupon()]) as shop:
        anna = await shop["anna"].enters("electronics")
        await shop.pays(anna, "60.00")
        await anna.leaves()
        await shop.passes(days=1)
        await anna.enters("checkout")
        assert anna.offers == []


async def test_the_coupon_is_in_the_app_of_whoever_paid_and_of_nobody_else(tmp_path: Path) -> None:
    async with chain(tmp_path, people=["anna", "ben"], promotions=[coupon()]) as shop:
        ben = shop["ben"]
        ben.is_in("electronics")
        await shops(shop, "60.00")
        await ben.enters("checkout", stays_s=15)
        assert (shop["anna"].offer("5-euros-online").code, ben.offers) == ("DANKE5", [])
