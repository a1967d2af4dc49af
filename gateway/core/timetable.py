"""Weekly windows in the store's time zone → instants, right across daylight saving time.

A local time that does not exist (clocks go forward) means the same number of minutes after the change; one that exists twice
means the first for a beginning and the second for an end, so that no promised minute is lost. What would begin within the lost
hour and end before it has passed again is skipped that night.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from gateway.core.model import Promotion, QuietHours, TimeWindow

_DAY_MINUTES = 1440
_HORIZON_DAYS = 8
_TURN_DAYS = 16
_LAST_MS = 253_370_678_400_000
"""The end of the year 9998: calendars of Python end a year later."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_in_force(promotion: Promotion, wall_ms: int, zone: tzinfo) -> bool:
    """Whether effective dates and windows allow the promotion at ``wall_ms``."""
    if promotion.effective_from_ms is not None and wall_ms < promotion.effective_from_ms:
        return False
    if promotion.effective_until_ms is not None and wall_ms >= promotion.effective_until_ms:
        return False
    if not promotion.windows:
        return True
    today = local_time(wall_ms, zone).date()
    return any(
        start <= wall_ms < end
        for day in (today - timedelta(days=1), today)
        for start, end in _instances(promotion.windows, day, zone)
    )


def next_change(promotion: Promotion, wall_ms: int, zone: tzinfo) -> int | None:
    """The first moment after ``wall_ms`` at which ``is_in_force`` may change, or ``None``."""
    bounds = [ms for ms in (promotion.effective_from_ms, promotion.effective_until_ms) if ms is not None]
    if promotion.windows:
        today = local_time(wall_ms, zone).date()
        for offset in range(-1, _HORIZON_DAYS):
            for start, end in _instances(promotion.windows, today + timedelta(days=offset), zone):
                bounds += (start, end)
    return min((bound for bound in bounds if bound > wall_ms), default=None)


def next_turn(promotion: Promotion, wall_ms: int, zone: tzinfo) -> int | None:
    """The first moment after ``wall_ms`` at which it goes into force or out of it; ``None``: never.

    Windows repeat each week, so what has not happened two weeks after the dates began will not happen; two, because the clocks
    may skip a window once.
    """
    begin_ms = promotion.effective_from_ms or 0
    until_ms = promotion.effective_until_ms
    from_ms = max(wall_ms, begin_ms)
    if from_ms > _LAST_MS:
        return None
    if not promotion.windows:
        spans = [(begin_ms, until_ms)]
        horizon_ms = from_ms
    else:
        first = local_time(from_ms, zone).date()
        days = [first + timedelta(days=offset) for offset in range(-1, _TURN_DAYS)]
        spans = _merged([span for day in days for span in _instances(set(promotion.windows), day, zone)], begin_ms, until_ms)
        horizon_ms = _instant(days[-1], 0, zone, fold=0)
    for start, end in spans:
        if start > wall_ms and (until_ms is None or start < until_ms):
            return start
        if end is None or end > horizon_ms:
            return until_ms if until_ms is not None and until_ms > wall_ms else None
        if end > wall_ms:
            return end
    return None


def _merged(spans: list[tuple[int, int]], begin_ms: int, until_ms: int | None) -> list[tuple[int, int | None]]:
    """Within the dates, in order; what touches or overlaps is one."""
    merged: list[tuple[int, int | None]] = []
    last = -1
    for start, end in sorted((max(start, begin_ms), end if until_ms is None else min(end, until_ms)) for start, end in spans):
        if start < end:
            first = merged.pop()[0] if merged and start <= last else start
            last = max(last, end)
            merged.append((first, last))
    return merged


def is_quiet(quiet: QuietHours | None, wall_ms: int, zone: tzinfo) -> bool:
    """Whether ``wall_ms`` lies in the quiet hours."""
    if quiet is None:
        return False
    local = local_time(wall_ms, zone)
    minute = 60 * local.hour + local.minute
    if quiet.start_minute < quiet.end_minute:
        return quiet.start_minute <= minute < quiet.end_minute
    return minute >= quiet.start_minute or minute < quiet.end_minute


def _instances(windows: Iterable[TimeWindow], day: date, zone: tzinfo) -> list[tuple[int, int]]:
    """Start and end of the windows that begin on this local day."""
    found = []
    for window in windows:
        if day.weekday() in window.weekdays:
            past_midnight = window.end_minute <= window.start_minute
            end_day = day + timedelta(days=1) if past_midnight else day
            found.append((_instant(day, window.start_minute, zone, fold=0), _instant(end_day, window.end_minute, zone, fold=1)))
    return found


def _instant(day: date, minute: int, zone: tzinfo, *, fold: int) -> int:
    """Wall milliseconds of a local minute; ``fold`` chooses between two of the same name."""
    if minute == _DAY_MINUTES:
        day, minute = day + timedelta(days=1), 0
    naive = datetime.combine(day, time(minute // 60, minute % 60))
    moment = naive.replace(tzinfo=zone, fold=fold)
    if moment.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != naive:
        moment = naive.replace(tzinfo=zone, fold=0)
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def local_time(wall_ms: int, zone: tzinfo) -> datetime:
    """What a clock in the store shows."""
    return (_EPOCH + timedelta(milliseconds=wall_ms)).astimezone(zone)
