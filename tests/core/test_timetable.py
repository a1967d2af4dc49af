"""The timetable: what marketing wrote as local times is in force at the right instants, right across both clock changes."""

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.model import Promotion, QuietHours, TimeWindow
from gateway.core.timetable import is_in_force, is_quiet, local_time, next_change, next_turn

BERLIN = ZoneInfo("Europe/Berlin")
EVERY_DAY = frozenset(range(7))
MON, TUE, WED, THU, FRI, SAT, SUN = range(7)
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS


def utc(text: str) -> int:
    """Wall milliseconds of an ISO time in UTC."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def berlin(text: str, *, fold: int = 0) -> int:
    """Wall milliseconds of what a clock in Berlin shows; ``fold`` 1 is the second of two."""
    return round(datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp() * 1000)


def promotion(*windows: TimeWindow, since: int | None = None, until: int | None = None) -> Promotion:
    return Promotion(
        "p", "offer", frozenset({"dairy"}), frozenset(), windows=windows, effective_from_ms=since, effective_until_ms=until
    )


def window(start: str, end: str, *weekdays: int) -> TimeWindow:
    def minutes(clock: str) -> int:
        return 60 * int(clock[:2]) + int(clock[3:])

    return TimeWindow(frozenset(weekdays or EVERY_DAY), minutes(start), minutes(end))


# ---- ordinary days ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "moment", "expected"),
    [
        pytest.param(promotion(), "2026-11-21T03:00", True, id="no window is always"),
        pytest.param(promotion(window("09:00", "12:00")), "2026-11-21T08:59:59.999", False, id="a millisecond before"),
        pytest.param(promotion(window("09:00", "12:00")), "2026-11-21T09:00", True, id="the start counts"),
        pytest.param(promotion(window("09:00", "12:00")), "2026-11-21T11:59:59.999", True, id="the last millisecond"),
        pytest.param(promotion(window("09:00", "12:00")), "2026-11-21T12:00", False, id="the end does not"),
        pytest.param(promotion(window("00:00", "24:00", SAT)), "2026-11-21T23:59:59.999", True, id="24:00 is the day's end"),
        pytest.param(promotion(window("00:00", "24:00", SAT)), "2026-11-22T00:00", False, id="and not the next day"),
        pytest.param(promotion(window("22:00", "02:00", SAT)), "2026-11-21T21:59", False, id="night, before"),
        pytest.param(promotion(window("22:00", "02:00", SAT)), "2026-11-21T22:00", True, id="night, first evening"),
        pytest.param(promotion(window("22:00", "02:00", SAT)), "2026-11-22T01:59", True, id="night, on Sunday morning"),
        pytest.param(promotion(window("22:00", "02:00", SAT)), "2026-11-22T02:00", False, id="night, over"),
        pytest.param(promotion(window("22:00", "02:00", SAT)), "2026-11-21T01:00", False, id="Friday's night is not Saturday's"),
        pytest.param(promotion(window("22:00", "02:00", SAT)), "2026-11-22T22:30", False, id="nor is Sunday's"),
        pytest.param(promotion(window("18:00", "00:00", SAT)), "2026-11-21T23:59", True, id="00:00 as an end is midnight"),
        pytest.param(promotion(window("18:00", "00:00", SAT)), "2026-11-22T00:00", False, id="and midnight is over"),
        pytest.param(promotion(window("10:00", "10:00", SAT)), "2026-11-22T09:59", True, id="equal ends are a whole day"),
        pytest.param(promotion(window("10:00", "10:00", SAT)), "2026-11-22T10:00", False, id="and no more"),
        pytest.param(promotion(window("09:00", "12:00", SUN)), "2026-11-21T10:00", False, id="another weekday"),
        pytest.param(
            promotion(window("09:00", "10:00", SAT), window("16:00", "18:00", SAT)), "2026-11-21T17:00", True, id="second window"
        ),
        pytest.param(
            promotion(window("09:00", "10:00", SAT), window("16:00", "18:00", SAT)), "2026-11-21T12:00", False, id="in between"
        ),
        pytest.param(promotion(TimeWindow(frozenset(), 0, 1440)), "2026-11-21T12:00", False, id="no weekday is never"),
    ],
)
def test_windows_are_in_the_stores_time_and_belong_to_the_day_they_start(rule: Promotion, moment: str, expected: bool) -> None:
    assert is_in_force(rule, berlin(moment), BERLIN) == expected


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-11-20T22:59:59.999", False),
        ("2026-11-20T23:00", True),
        ("2026-11-21T22:59:59.999", True),
        ("2026-11-21T23:00", False),
    ],
)
def test_effective_dates_end_exclusively(moment: str, expected: bool) -> None:
    since, until = berlin("2026-11-21T00:00"), berlin("2026-11-22T00:00")
    assert is_in_force(promotion(since=since, until=until), utc(moment), BERLIN) == expected
    assert is_in_force(promotion(window("00:00", "24:00"), since=since, until=until), utc(moment), BERLIN) == expected


def test_effective_dates_and_windows_must_both_allow() -> None:
    rule = promotion(window("09:00", "12:00"), since=berlin("2026-11-21T10:00"), until=berlin("2026-11-22T10:00"))
    allowed = ["2026-11-21T10:00", "2026-11-21T11:59", "2026-11-22T09:00", "2026-11-22T09:59"]
    forbidden = ["2026-11-21T09:30", "2026-11-21T12:00", "2026-11-22T10:00", "2026-11-23T09:30"]
    assert [is_in_force(rule, berlin(moment), BERLIN) for moment in allowed + forbidden] == [True] * 4 + [False] * 4
    assert is_in_force(promotion(since=5), 5, UTC)
    assert not is_in_force(promotion(until=5), 5, UTC)


# ---- clock changes ------------------------------------------------------------------------------------------------------------

# Berlin 2026: on 29 March 02:00 CET becomes 03:00 CEST at 01:00 UTC; on 25 October 03:00 CEST becomes 02:00 CET at 01:00 UTC.


@pytest.mark.parametrize(
    ("rule", "intervals"),
    [
        pytest.param(
            window("01:00", "04:00", SUN), [("2026-03-29T00:00", "2026-03-29T02:00")], id="spring: over the gap, an hour shorter"
        ),
        pytest.param(
            window("02:30", "06:00", SUN), [("2026-03-29T01:30", "2026-03-29T04:00")], id="spring: begins in the gap, 03:30"
        ),
        pytest.param(
            window("01:00", "02:30", SUN), [("2026-03-29T00:00", "2026-03-29T01:30")], id="spring: ends in the gap, 03:30"
        ),
        pytest.param(
            window("02:15", "02:45", SUN), [("2026-03-29T01:15", "2026-03-29T01:45")], id="spring: wholly in the gap, moved"
        ),
        pytest.param(window("22:00", "03:00", SAT), [("2026-03-28T21:00", "2026-03-29T01:00")], id="spring: the night before"),
        pytest.param(window("09:00", "10:00", SUN), [("2026-03-29T07:00", "2026-03-29T08:00")], id="spring: the morning after"),
        pytest.param(
            window("01:00", "04:00", SUN), [("2026-10-24T23:00", "2026-10-25T03:00")], id="autumn: over the fold, an hour longer"
        ),
        pytest.param(
            window("02:30", "05:00", SUN), [("2026-10-25T00:30", "2026-10-25T04:00")], id="autumn: begins at the first 02:30"
        ),
        pytest.param(
            window("01:00", "02:30", SUN), [("2026-10-24T23:00", "2026-10-25T01:30")], id="autumn: ends at the second 02:30"
        ),
        pytest.param(
            window("02:15", "02:45", SUN), [("2026-10-25T00:15", "2026-10-25T01:45")], id="autumn: wholly in the fold, both"
        ),
        pytest.param(window("22:00", "03:00", SAT), [("2026-10-24T20:00", "2026-10-25T02:00")], id="autumn: the night before"),
        pytest.param(window("09:00", "10:00", SUN), [("2026-10-25T08:00", "2026-10-25T09:00")], id="autumn: the morning after"),
    ],
)
def test_windows_keep_local_time_across_clock_changes(rule: TimeWindow, intervals: list[tuple[str, str]]) -> None:
    """Each minute of the three days around the change is in force exactly in the named intervals (UTC)."""
    start_ms = utc(intervals[0][0]) // (24 * HOUR_MS) * 24 * HOUR_MS - 24 * HOUR_MS
    expected = [(utc(start), utc(end)) for start, end in intervals]
    for minute in range(3 * 1440):
        wall_ms = start_ms + minute * MINUTE_MS
        allowed = any(start <= wall_ms < end for start, end in expected)
        assert is_in_force(promotion(rule), wall_ms, BERLIN) == allowed, local_time(wall_ms, BERLIN).isoformat()


def test_what_begins_in_the_gap_and_ends_within_the_hour_after_it_is_skipped_that_night() -> None:
    rule = promotion(window("02:30", "03:15", SUN))
    for minute in range(-180, 180):
        assert not is_in_force(rule, utc("2026-03-29T01:00") + minute * MINUTE_MS, BERLIN)
    assert is_in_force(rule, berlin("2026-04-05T02:30"), BERLIN)


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        ("2026-03-29T00:59:59", "2026-03-29T01:59:59+01:00"),
        ("2026-03-29T01:00", "2026-03-29T03:00:00+02:00"),
        ("2026-10-25T00:59:59", "2026-10-25T02:59:59+02:00"),
        ("2026-10-25T01:00", "2026-10-25T02:00:00+01:00"),
    ],
)
def test_local_time_is_what_a_clock_in_the_store_shows(moment: str, shown: str) -> None:
    assert local_time(utc(moment), BERLIN).isoformat() == shown


# ---- next change --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "after", "expected"),
    [
        pytest.param(promotion(), "2026-11-21T12:00", None, id="never"),
        pytest.param(promotion(window("09:00", "12:00")), "2026-11-21T08:00", "2026-11-21T09:00", id="today's start"),
        pytest.param(promotion(window("09:00", "12:00")), "2026-11-21T09:00", "2026-11-21T12:00", id="strictly after"),
        pytest.param(promotion(window("09:00", "12:00", SAT)), "2026-11-21T12:00", "2026-11-28T09:00", id="in a week"),
        pytest.param(promotion(window("22:00", "02:00", SAT)), "2026-11-22T01:00", "2026-11-22T02:00", id="yesterday's end"),
        pytest.param(
            promotion(since=berlin("2027-01-01T00:00")), "2026-11-21T12:00", "2027-01-01T00:00", id="effective in weeks"
        ),
        pytest.param(promotion(until=berlin("2026-11-21T00:00")), "2026-11-21T12:00", None, id="over for good"),
        pytest.param(promotion(TimeWindow(frozenset(), 0, 60)), "2026-11-21T12:00", None, id="no weekday"),
    ],
)
def test_next_change(rule: Promotion, after: str, expected: str | None) -> None:
    assert next_change(rule, berlin(after), BERLIN) == (None if expected is None else berlin(expected))


minutes = st.integers(0, 1439)
windows = st.builds(TimeWindow, st.frozensets(st.integers(0, 6)), minutes, st.integers(0, 1440))
zones = st.sampled_from(
    [ZoneInfo(name) for name in ("Europe/Berlin", "UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata")]
)
YEAR_MS = 365 * 24 * HOUR_MS
moments = st.one_of(
    st.integers(utc("2026-01-01T00:00"), utc("2026-01-01T00:00") + YEAR_MS),
    st.sampled_from(["2026-03-29T01:00", "2026-10-25T01:00", "2026-03-08T07:00", "2026-11-01T06:00", "2026-04-04T15:00"]).flatmap(
        lambda change: st.integers(utc(change) - 26 * HOUR_MS, utc(change) + 26 * HOUR_MS)
    ),
)
effective = st.none() | moments


@given(
    rules=st.lists(windows, max_size=3),
    since=effective,
    until=effective,
    at=moments,
    zone=zones,
    later=st.integers(1, 9 * 24 * 60),
)
@settings(max_examples=150)
def test_being_in_force_changes_only_at_announced_moments(
    rules: list[TimeWindow], since: int | None, until: int | None, at: int, zone: tzinfo, later: int
) -> None:
    rule = promotion(*rules, since=since, until=until)
    end = at + later * MINUTE_MS
    change = next_change(rule, at, zone)
    last = end if change is None else min(end, change - 1)
    now = is_in_force(rule, at, zone)
    probes = {at + (last - at) * part // 12 for part in range(13)}
    assert {is_in_force(rule, probe, zone) for probe in probes if probe >= at} == {now}
    assert change is None or change > at


@given(rules=st.lists(windows, min_size=1, max_size=2), at=moments, zone=zones)
@settings(max_examples=60)
def test_walking_from_change_to_change_gives_the_same_as_asking_each_quarter(
    rules: list[TimeWindow], at: int, zone: tzinfo
) -> None:
    rule = promotion(*rules)
    end = at + 30 * HOUR_MS
    change = next_change(rule, at, zone)
    in_force = is_in_force(rule, at, zone)
    for probe in range(at, end, 15 * MINUTE_MS):
        while change is not None and change <= probe:
            in_force = is_in_force(rule, change, zone)
            change = next_change(rule, change, zone)
        assert is_in_force(rule, probe, zone) == in_force


@given(rule=windows, at=moments)
def test_away_from_clock_changes_a_window_is_what_the_wall_clock_says(rule: TimeWindow, at: int) -> None:
    local = local_time(at, BERLIN)
    offsets = {local_time(at + days * 24 * HOUR_MS, BERLIN).utcoffset() for days in (-2, -1, 0, 1, 2)}
    if len(offsets) > 1:
        return
    minute, today = 60 * local.hour + local.minute, local.weekday()
    yesterday = (local - timedelta(days=1)).weekday()
    if rule.end_minute > rule.start_minute:
        expected = today in rule.weekdays and rule.start_minute <= minute < rule.end_minute
    else:
        expected = (today in rule.weekdays and minute >= rule.start_minute) or (
            yesterday in rule.weekdays and minute < rule.end_minute
        )
    assert is_in_force(promotion(rule), at, BERLIN) == expected


# ---- into force and out of it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "moment", "expected"),
    [
        pytest.param(promotion(), "2026-11-21T12:00", None, id="always, for ever"),
        pytest.param(promotion(until=berlin("2026-12-01T00:00")), "2026-11-21T12:00", "2026-12-01T00:00", id="until a date"),
        pytest.param(promotion(since=berlin("2026-12-01T00:00")), "2026-11-21T12:00", "2026-12-01T00:00", id="from a date"),
        pytest.param(promotion(until=berlin("2026-11-01T00:00")), "2026-11-21T12:00", None, id="over"),
        pytest.param(promotion(window("09:00", "12:00")), "2026-11-21T10:00", "2026-11-21T12:00", id="open now"),
        pytest.param(promotion(window("09:00", "12:00")), "2026-11-21T12:00", "2026-11-22T09:00", id="open tomorrow"),
        pytest.param(promotion(window("09:00", "12:00", FRI)), "2026-11-21T10:00", "2026-11-27T09:00", id="open next week"),
        pytest.param(
            promotion(window("09:00", "12:00"), window("11:00", "13:00"), window("13:00", "14:00")),
            "2026-11-21T10:00", "2026-11-21T14:00", id="windows that touch are one",
        ),
        pytest.param(promotion(window("00:00", "24:00")), "2026-11-21T10:00", None, id="every day, all day"),
        pytest.param(
            promotion(window("00:00", "24:00"), until=berlin("2027-08-01T00:00")),
            "2026-11-21T10:00", "2027-08-01T00:00", id="every day, all day, until next summer",
        ),
        pytest.param(
            promotion(window("09:00", "12:00", MON), since=berlin("2036-01-01T00:00")),
            "2026-11-21T10:00", "2036-01-07T09:00", id="the first Monday in ten years",
        ),
        pytest.param(
            promotion(window("09:00", "12:00", MON), since=berlin("2026-11-24T00:00"), until=berlin("2026-11-29T00:00")),
            "2026-11-21T10:00", None, id="no Monday within its dates",
        ),
        pytest.param(
            promotion(window("09:00", "12:00"), until=berlin("2026-11-21T11:00")),
            "2026-11-21T10:00", "2026-11-21T11:00", id="the dates end within a window",
        ),
        pytest.param(promotion(TimeWindow(frozenset(), 0, 60)), "2026-11-21T10:00", None, id="on no day at all"),
        pytest.param(promotion(TimeWindow(EVERY_DAY, 1440, 0)), "2026-11-21T10:00", None, id="from midnight to midnight"),
        pytest.param(
            promotion(window("02:30", "03:00", SUN)), "2026-03-28T12:00", "2026-04-05T02:30", id="skipped with the lost hour"
        ),
    ],
)  # fmt: skip
def test_the_next_turn_is_when_somebody_would_notice(rule: Promotion, moment: str, expected: str | None) -> None:
    assert next_turn(rule, berlin(moment), BERLIN) == (None if expected is None else berlin(expected))


@settings(max_examples=60)
@given(rules=st.lists(windows, max_size=4), at=moments, zone=zones, since=st.none() | moments, until=st.none() | moments)
def test_the_next_turn_is_the_first_change_that_changes_anything(
    rules: list[TimeWindow], at: int, zone: tzinfo, since: int | None, until: int | None
) -> None:
    if since is not None and until is not None and since >= until:
        return
    rule = promotion(*rules, since=since, until=until)
    turn = next_turn(rule, at, zone)
    in_force, change = is_in_force(rule, at, zone), at
    for _ in range(150):
        following = next_change(rule, change, zone)
        if following is None:
            assert turn is None
            return
        change = following
        if is_in_force(rule, change, zone) != in_force:
            assert turn == change
            return
    assert turn is None or turn > change


@pytest.mark.parametrize("at", [0, berlin("2026-11-21T12:00"), 253_402_300_799_999])
def test_the_end_of_the_calendar_is_no_mistake_of_ours(at: int) -> None:
    rule = promotion(window("22:00", "02:00"), since=253_402_300_000_000, until=253_402_300_799_999)
    assert next_turn(rule, at, BERLIN) is None


# ---- quiet hours --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quiet", "clock", "expected"),
    [
        pytest.param(None, "12:00", False, id="none"),
        pytest.param(QuietHours(13 * 60, 15 * 60), "12:59:59", False, id="midday, before"),
        pytest.param(QuietHours(13 * 60, 15 * 60), "13:00", True, id="midday, start"),
        pytest.param(QuietHours(13 * 60, 15 * 60), "14:59:59", True, id="midday, last second"),
        pytest.param(QuietHours(13 * 60, 15 * 60), "15:00", False, id="midday, end"),
        pytest.param(QuietHours(21 * 60, 7 * 60), "20:59", False, id="night, before"),
        pytest.param(QuietHours(21 * 60, 7 * 60), "21:00", True, id="night, start"),
        pytest.param(QuietHours(21 * 60, 7 * 60), "00:00", True, id="night, midnight"),
        pytest.param(QuietHours(21 * 60, 7 * 60), "06:59", True, id="night, last minute"),
        pytest.param(QuietHours(21 * 60, 7 * 60), "07:00", False, id="night, end"),
        pytest.param(QuietHours(20 * 60, 1440), "23:59", True, id="until 24:00"),
        pytest.param(QuietHours(20 * 60, 1440), "00:00", False, id="and not after"),
        pytest.param(QuietHours(0, 0), "12:00", True, id="equal ends are the whole day, as with windows"),
    ],
)
def test_quiet_hours_may_run_past_midnight(quiet: QuietHours | None, clock: str, expected: bool) -> None:
    assert is_quiet(quiet, berlin(f"2026-11-21T{clock}"), BERLIN) == expected


def test_quiet_hours_follow_the_clock_on_the_wall_through_the_fold() -> None:
    quiet = QuietHours(2 * 60, 2 * 60 + 30)
    quiet_minutes = [minute for minute in range(180) if is_quiet(quiet, utc("2026-10-24T23:30") + minute * MINUTE_MS, BERLIN)]
    assert quiet_minutes == [*range(30, 60), *range(90, 120)]
