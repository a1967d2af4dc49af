"""R23, in measure, in time: „maßvoll und über den richtigen Kanal"; „Späte Reaktionen werden ebenso wenig akzeptiert wie Fehler".

Done when: caps and quiet hours are never exceeded in any order of events; the broker is away for 60 s: no late push; a faulty
promotion cannot be published. (Every interleaving: tests/stories/test_r23_any_interleaving.py.)
"""

from pathlib import Path

import pytest

from gateway.core.model import ClockQuality
from tests.stories.world import Person, chain, promotion

ZONES = ("entrance", "bakery", "dairy", "electronics", "checkout")
ALL = [promotion(f"offer-{zone}", zones=[zone], daily_cap=3) for zone in ZONES]


async def walks(person: Person, *zones: str) -> None:
    for zone in zones:
        await person.enters(zone, stays_s=15)


async def test_one_push_a_visit_and_the_rest_lies_on_the_silent_shelf_by_zone(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=ALL) as shop:
        anna = shop["anna"]
        await walks(anna, "entrance", "bakery", "dairy")
        assert anna.pushes == ["offer-entrance"]
        assert sorted(each.data.zone for each in anna.inbox_holds if not each.data.push) == ["bakery", "dairy"]
        assert {("offer-bakery", "cap_visit"), ("offer-dairy", "cap_visit")} <= shop.shop.reasons


async def test_the_next_visit_has_a_push_of_its_own(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=ALL) as shop:
        anna = shop["anna"]
        await walks(anna, "entrance", "bakery")
        await anna.leaves()
        await walks(anna, "bakery")
        assert anna.pushes == ["offer-entrance", "offer-bakery"]


@pytest.mark.parametrize("who", ["the gateway", "central", "both"])
async def test_whoever_dies_in_the_middle_of_a_visit_nobody_gets_a_second_push(tmp_path: Path, who: str) -> None:
    async with chain(tmp_path, promotions=ALL) as shop:
        anna = shop["anna"]
        await walks(anna, "entrance")
        if who != "central":
            await shop.restart_gateway()
        if who != "the gateway":
            await shop.restart_central()
        await walks(anna, "bakery", "dairy")
        assert anna.pushes == ["offer-entrance"]


async def test_a_gateway_that_has_lost_its_database_is_held_back_by_central(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=ALL) as shop:
        anna = shop["anna"]
        await walks(anna, "entrance")
        await shop.stop_gateway("demo", kill=True)
        for file in (tmp_path / "demo").glob("gateway.db*"):
            file.unlink()
        await shop.restart_gateway()
        await walks(anna, "bakery", "entrance")
        assert anna.pushes == ["offer-entrance"]
        assert ("refused", "push_spent") in shop.shop.verdicts


async def test_while_the_broker_is_away_for_a_minute_nothing_is_pushed_and_nothing_late_afterwards(tmp_path: Path) -> None:
    hasty = promotion("bread-20", zones=["bakery"], deadline_s=30)
    async with chain(tmp_path, promotions=[hasty]) as shop:
        shop.broker_dies()
        anna = await shop["anna"].enters("bakery", stays_s=10)
        await anna.stays(50)
        assert shop.shop.verdicts == [("late", "late")]
        await shop.broker_returns()
        await anna.stays(30)
        assert anna.offers == []


async def test_what_is_patient_enough_comes_after_the_broker_and_in_time(tmp_path: Path) -> None:
    patient = promotion("bread-20", zones=["bakery"], deadline_s=600)
    async with chain(tmp_path, promotions=[patient]) as shop:
        shop.broker_dies()
        anna = await shop["anna"].enters("bakery", stays_s=10)
        await anna.stays(50)
        await shop.broker_returns()
        await shop.passes(60)
        assert anna.offers == ["bread-20"]


async def test_in_quiet_hours_nothing_is_pushed_then_or_later(tmp_path: Path) -> None:
    quiet = {"quiet_hours": {"start": "20:00", "end": "08:00"}}
    order = promotion("pickup", kind="service", zones=["bakery"])
    async with chain(tmp_path, promotions=[*ALL, order], at="2026-09-14 19:30", store_settings=quiet) as shop:
        await shop.at("2026-09-14 20:05")
        anna = await shop["anna"].enters("bakery")
        assert anna.pushes == []
        assert {("offer-bakery", "quiet_hours"), ("pickup", "quiet_hours")} <= shop.shop.reasons
        await anna.leaves()
        await shop.at("2026-09-15 09:00")
        assert anna.pushes == []
        await anna.enters("dairy")
        assert anna.pushes == ["offer-dairy"]


async def test_a_cool_down_holds_for_its_whole_group_and_across_a_restart(tmp_path: Path) -> None:
    group = {"cool_down_s": 7200, "cool_down_group": "sweets", "daily_cap": 5}
    sweets = [promotion("cake", zones=["bakery"], **group), promotion("pudding", zones=["dairy"], **group)]
    async with chain(tmp_path, promotions=sweets) as shop:
        anna = await shop["anna"].enters("bakery")
        await anna.leaves()
        await shop.restart_gateway()
        await anna.enters("dairy")
        assert anna.offers == ["cake"]
        assert ("pudding", "cool_down") in shop.shop.withheld
        await anna.leaves()
        await shop.passes(hours=2)
        await anna.enters("dairy")
        assert anna.offers == ["cake", "pudding"]


async def test_weekly_and_lifetime_caps_hold_across_days_and_stores(tmp_path: Path) -> None:
    rare = promotion("wine-10", zones=["bakery"], weekly_cap=2, lifetime_cap=3, daily_cap=1)
    async with chain(tmp_path, promotions=[rare], stores=("mitte", "nord")) as shop:
        anna, had = shop["anna"], list[int]()
        for day in range(12):
            await anna.enters("bakery", ("mitte", "nord")[day % 2])
            had.append(len(anna.offers))
            await anna.leaves()
            await shop.passes(days=1)
        assert had == [1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3]


async def test_a_calendar_that_jumps_gives_no_second_offer(tmp_path: Path) -> None:
    """An hour forward and back again, as when a time server is wrong for a while: durations do not notice, nor do caps."""
    once = promotion("bread-20", zones=["bakery"])
    async with chain(tmp_path, promotions=[once]) as shop:
        anna = await shop["anna"].enters("bakery")
        for jump_ms in (3_600_000, -3_600_000):
            shop.clock.set_wall(shop.now_ms + jump_ms)
            await anna.enters("dairy", stays_s=15)
            await anna.enters("bakery", stays_s=15)
        assert anna.offers == ["bread-20"]


async def test_while_the_clock_is_only_held_over_time_limited_promotions_are_withheld(tmp_path: Path) -> None:
    monday = promotion("monday", zones=["bakery"], windows=[{"weekdays": ["mon"]}])
    async with chain(tmp_path, promotions=[monday, promotion("always", zones=["bakery"])]) as shop:
        shop.clock.is_right = ClockQuality.HOLDOVER
        anna = await shop["anna"].enters("bakery")
        assert anna.offers == ["always"]
        assert ("monday", "clock_holdover") in shop.shop.withheld


async def test_the_share_that_is_held_out_stays_held_out_and_is_known(tmp_path: Path) -> None:
    half = promotion("wine-10", zones=["bakery"], holdout_percent=50)
    people = [f"person-{number}" for number in range(12)]
    async with chain(tmp_path, people=people, promotions=[half]) as shop:
        for _ in range(2):
            for person in shop.people.values():
                person.is_in("bakery")
            await shop.passes(6)
            for person in shop.people.values():
                person.where = None
            await shop.passes(days=1)
        had = {name: len(person.offers) for name, person in shop.people.items()}
        assert set(had.values()) == {0, 2}, "whoever was held out on one day is on the other, too"
        held_out = [name for (name,) in shop.query("SELECT inbox FROM holdout WHERE is_held = 1")]
        assert sorted(held_out) == sorted(name for name, times in had.items() if times == 0)


async def test_whoever_opts_out_in_the_shop_gets_nothing_more(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=ALL) as shop:
        anna = shop["anna"]
        await walks(anna, "entrance")
        await shop.opts_out(anna)
        await walks(anna, "bakery", "dairy")
        assert anna.offers == ["offer-entrance"]


async def test_what_was_withdrawn_from_the_catalogue_is_offered_no_more(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=ALL) as shop:
        await shop.publishes(promotion("offer-dairy", zones=["dairy"]))
        anna = shop["anna"]
        await walks(anna, "bakery", "dairy")
        assert anna.offers == ["offer-dairy"]
