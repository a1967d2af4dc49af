"""R8, Monday: „mit anderen Exklusivangeboten kontern".

Done when: rules for weekdays and times of day hold in the store's time zone, and are right across the change of the clocks.
"""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from gateway.contract.promotions import Promotion
from tests.stories.world import chain, promotion

MONDAY_ONLY = promotion("monday-yoghurt", zones=["dairy"], windows=[{"weekdays": ["mon"]}])
EVENING_BREAD = promotion("evening-bread", zones=["bakery"], windows=[{"start": "17:00", "end": "20:00"}])
NIGHT_SHIFT = promotion("night-shift-coffee", zones=["bakery"], windows=[{"weekdays": ["sat"], "start": "22:00", "end": "05:00"}])
HALF_PAST_TWO = promotion("half-past-two", zones=["bakery"], windows=[{"start": "02:15", "end": "02:45"}])


@pytest.mark.parametrize(
    ("at", "rule", "zone", "is_offered"),
    [
        pytest.param("2026-09-13 23:59", MONDAY_ONLY, "dairy", False, id="Sunday, one minute before midnight"),
        pytest.param("2026-09-14 00:00", MONDAY_ONLY, "dairy", True, id="Monday, from midnight on"),
        pytest.param("2026-09-14 23:59", MONDAY_ONLY, "dairy", True, id="Monday, until its last minute"),
        pytest.param("2026-09-15 00:00", MONDAY_ONLY, "dairy", False, id="Tuesday"),
        pytest.param("2026-09-14 16:59", EVENING_BREAD, "bakery", False, id="a minute before the evening's bread"),
        pytest.param("2026-09-14 17:00", EVENING_BREAD, "bakery", True, id="when the bread becomes cheaper"),
        pytest.param("2026-09-14 20:00", EVENING_BREAD, "bakery", False, id="when it is over"),
        # 2027-03-28: at 02:00 it is 03:00. 2026-10-25: at 03:00 it is 02:00 again.
        pytest.param("2027-03-27 17:00", EVENING_BREAD, "bakery", True, id="the last winter evening"),
        pytest.param("2027-03-28 16:59", EVENING_BREAD, "bakery", False, id="the first summer evening, a minute before"),
        pytest.param("2027-03-28 17:00", EVENING_BREAD, "bakery", True, id="the first summer evening"),
        pytest.param("2026-10-25 16:59", EVENING_BREAD, "bakery", False, id="the first winter evening, a minute before"),
        pytest.param("2026-10-25 17:00", EVENING_BREAD, "bakery", True, id="the first winter evening"),
        pytest.param("2027-03-28 04:59", NIGHT_SHIFT, "bakery", True, id="the short night is over when the clock says so"),
        pytest.param("2027-03-28 05:00", NIGHT_SHIFT, "bakery", False, id="the morning after the short night"),
        pytest.param("2026-10-25 04:59", NIGHT_SHIFT, "bakery", True, id="the long night is over when the clock says so"),
        pytest.param("2026-10-25 05:00", NIGHT_SHIFT, "bakery", False, id="the morning after the long night"),
    ],
)
async def test_a_rule_for_a_weekday_or_a_time_of_day(
    tmp_path: Path, at: str, rule: Promotion, zone: str, is_offered: bool
) -> None:
    """The shop has been running for half a day, so the window opens and closes while time passes, as it does in life."""
    async with chain(tmp_path, promotions=[rule], at=half_a_day_before(at)) as shop:
        await shop.at(at)
        anna = await shop["anna"].enters(zone)
        assert anna.offers == ([rule.promotion_id] if is_offered else [])
        assert shop.shop.withheld == ([] if is_offered else [(rule.promotion_id, "outside_window")])


async def test_no_promised_minute_is_lost_in_the_hour_that_comes_twice(tmp_path: Path) -> None:
    """On 25 October 2026 the clock shows 02:15 to 02:45 twice: from the first 02:15 to the second 02:45 it is in force."""
    people = ("anna", "ben", "chiara", "dora")
    async with chain(tmp_path, promotions=[HALF_PAST_TWO], people=people, at="2026-10-25 01:00") as shop:
        found = []
        for name, wait_min in zip(people, (74, 2, 59, 30), strict=True):
            await shop.passes(minutes=wait_min)
            person = await shop[name].enters("bakery")
            found.append((shop.local[-5:], person.offers))
            person.where = None
        assert found == [
            ("02:14", []),
            ("02:16", ["half-past-two"]),
            ("02:15", ["half-past-two"]),
            ("02:45", []),
        ]


async def test_what_would_begin_in_the_lost_hour_comes_as_much_later(tmp_path: Path) -> None:
    """On 28 March 2027 the clock goes from 02:00 to 03:00, and the half hour from 02:15 is that from 03:15."""
    async with chain(tmp_path, promotions=[HALF_PAST_TWO], people=["anna", "ben"], at="2027-03-28 01:00") as shop:
        await shop.passes(minutes=70)
        assert shop.local == "2027-03-28 03:10"
        anna = await shop["anna"].enters("bakery")
        assert anna.offers == []
        await shop.passes(minutes=20)
        assert shop.local == "2027-03-28 03:30"
        assert (await shop["ben"].enters("bakery")).offers == ["half-past-two"]


async def test_a_daily_cap_begins_anew_with_the_stores_day(tmp_path: Path) -> None:
    async with chain(tmp_path, promotions=[EVENING_BREAD], at="2026-09-14 17:00") as shop:
        anna = await shop["anna"].enters("bakery")
        await anna.leaves()
        await anna.enters("bakery")
        assert anna.offers == ["evening-bread"]
        await anna.leaves()
        await shop.at("2026-09-15 17:30")
        await anna.enters("bakery")
        assert anna.offers == ["evening-bread", "evening-bread"]


def half_a_day_before(local: str) -> str:
    """Twelve hours earlier by the clock on the wall."""
    return (datetime.fromisoformat(local) - timedelta(hours=12)).isoformat(sep=" ", timespec="minutes")
