"""Reasons in words that a technician or a shop manager can check against the clock on the wall."""

from collections.abc import Iterable, Mapping
from datetime import tzinfo

from gateway.contract.explanations import LeafExplained
from gateway.core.conditions import ConditionField, LeafFinding, ShopperContext, Value
from gateway.core.model import (
    OfferMatched,
    PastOffer,
    Promotion,
    QuietHours,
    TimeWindow,
    WithheldReason,
    Zone,
)
from gateway.core.offers import Held, Matchable
from gateway.core.positioning import USUAL_ENTER_DBM
from gateway.core.timetable import local_time

_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_SHOWN = 3
_DAY_MINUTES = 1440

REFUSALS: Mapping[str, str] = {
    "late": "it came after its deadline",
    "not_decider": "another gateway decides in the store by now",
    "already_granted": "the shopper has had this promotion as often as its daily_cap allows",
    "push_spent": "this visit has had its push",
    "unknown_shopper": "central knows nobody with this pseudonym (any more)",
    "unknown_promotion": "central has no such promotion (any more)",
    "no_consent": "central has no consent to offers",
    "out_of_date": "the promotion has changed or ended since",
    "quantity": "none is left",
    "sold_out": "none is left",
    "cap_week": "the shopper has had this promotion as often as its weekly_cap allows",
    "cap_lifetime": "the shopper has had this promotion as often as its lifetime_cap allows",
    "cap_chain": "the stores together have offered it as often as its chain_cap_day allows",
    "cap_store": "the store has offered it as often as its store_cap_day allows",
    "cap_visit": "the shopper has had this promotion as often as its visit_cap allows",
    "cool_down": "its group still cools down after what another gateway offered",
    "quiet_hours": "the quiet hours had begun",
    "holdout": "the shopper belongs to those who do not get it, so that its effect can be measured",
    "muted_category": "the shopper has dismissed two offers of its category",
    "stopped": "the shopper has complained and gets nothing more",
}
"""What central means, by its reason."""
_SAYS_ALL: Mapping[WithheldReason, str] = {
    WithheldReason.NO_CONSENT: "the shopper has not consented to offers",
    WithheldReason.LISTEN_ONLY: 'the gateway only listened (mode = "listen-only")',
    WithheldReason.CONFLICT: "the same token was loud in two zones that are far apart: somebody may be repeating it",
    WithheldReason.SOLD_OUT: "none is left",
    WithheldReason.NO_CONTEXT: "what central knows of the shopper did not come in time",
    WithheldReason.STOPPED: "the shopper has complained and gets nothing more",
    WithheldReason.AUDIENCE: "the shopper is not in its audience",
    WithheldReason.LATE: "the shopper left while the gateway did not run, or the context came after the promotion's deadline",
    WithheldReason.REFUSED_BY_CENTRAL: "central has refused it to this shopper for today",
}
"""Reasons without figures."""
EXITS: Mapping[str, str] = {
    "moved": "likelier in another zone",
    "silence": "not heard any more for the zone's exit delay",
    "weak": "heard, but too weakly for the zone, for its exit delay",
    "restart": "gone when the gateway came back",
}
"""What ended a stay, by its reason."""


def duration(duration_ms: int) -> str:
    """Of a latency or a wait.

    >>> duration(34), duration(2_345), duration(754_000)
    ('34 ms', '2.3 s', '754 s')
    """
    if duration_ms < 1000:
        return f"{duration_ms} ms"
    return f"{duration_ms / 1000:.1f} s" if duration_ms < 60_000 else f"{duration_ms // 1000} s"


class WithheldWords:
    """Speaks about one event."""

    def __init__(self, event: Matchable, zone: Zone, quiet: QuietHours | None, time_zone: tzinfo) -> None:
        self._event = event
        self._zone = zone
        self._quiet = quiet
        self._time_zone = time_zone

    def of(  # noqa: C901, PLR0911 -- one sentence for each reason
        self,
        promotion: Promotion,
        reason: WithheldReason,
        held: Held,
        given: Mapping[str, PastOffer | OfferMatched],
        winner: Promotion | None,
    ) -> str:
        """``given``: what the shopper has been offered, by offer; ``winner``: the promotion that got this event's push."""
        match reason:
            case WithheldReason.OUTSIDE_WINDOW:
                return f"{self._when(promotion)}; this was {self._moment(self._event.at.wall_ms, day=True)}"
            case WithheldReason.BEACON_UNHEALTHY:
                return (
                    f"nobody could be heard in {self._zone.name}: its receivers were deaf or its beacons silent "
                    "(gateway beacon health)"
                )
            case WithheldReason.HINT_ONLY:
                enter_dbm = USUAL_ENTER_DBM if self._zone.enter_dbm is None else self._zone.enter_dbm
                return (
                    f"sensitive, and no receiver in {self._zone.name} heard the phone at {enter_dbm:.0f} dBm or more; "
                    "what the app tells is not enough"
                )
            case WithheldReason.CLOCK_HOLDOVER:
                return f"{self._when(promotion)}, and the gateway's clock was not synchronised at that moment"
            case WithheldReason.QUIET_HOURS:
                return f"{_quiet(self._quiet)}; this was {self._moment(self._event.at.wall_ms)}"
            case WithheldReason.CAP_DAY:
                last = [offer for offer in given.values() if offer.promotion_id == promotion.promotion_id]
                return f"{held.offered} of {promotion.daily_cap} today{self._last(last)}"
            case WithheldReason.COOL_DOWN:
                return self._cool_down(promotion, held, given)
            case WithheldReason.CAP_VISIT if promotion.visit_cap is not None and held.in_visit >= promotion.visit_cap:
                return f"{held.in_visit} of {promotion.visit_cap} during this visit"
            case WithheldReason.CAP_VISIT:
                return f"this visit's push went to {self._offer(held.pushed, given)}"
            case WithheldReason.CAP_STORE:
                return f"{held.in_store} of {promotion.store_cap_day} in this store today"
            case WithheldReason.LOWER_PRIORITY:
                return "another won the push" if winner is None else _lower(promotion, winner)
            case WithheldReason.MUTED_CATEGORY:
                return f"the shopper has dismissed two offers of category {promotion.category}"
            case WithheldReason.NOT_NTH_VISIT:
                return f"only with visit {promotion.visit_number} within 30 days"
            case _:
                return _SAYS_ALL[reason]

    def _when(self, promotion: Promotion) -> str:
        at_ms = self._event.at.wall_ms
        if promotion.effective_from_ms is not None and at_ms < promotion.effective_from_ms:
            return f"begins {self._date(promotion.effective_from_ms)}"
        if promotion.effective_until_ms is not None and at_ms >= promotion.effective_until_ms:
            return f"ended {self._date(promotion.effective_until_ms)}"
        if promotion.windows:
            return windows_in_words(promotion.windows)
        return "limited in time"

    def _cool_down(self, promotion: Promotion, held: Held, given: Mapping[str, PastOffer | OfferMatched]) -> str:
        assert held.cooling is not None
        until_mono_ms, since = held.cooling
        until_ms = self._event.at.wall_ms + until_mono_ms - self._event.at.mono_ms
        group = f" (group {promotion.cool_down_group})" if promotion.cool_down_group else ""
        return f"until {self._moment(until_ms)}, since {self._offer(since, given)}{group}"

    def _offer(self, offer: str | None, given: Mapping[str, PastOffer | OfferMatched]) -> str:
        found = None if offer is None else given.get(offer)
        if found is None:
            return "an earlier offer"
        when = "just now" if isinstance(found, OfferMatched) else f"at {self._moment(found.wall_ms)}"
        return f"{found.promotion_id} {when} (offer {found.offer})"

    def _last(self, offers: list[PastOffer | OfferMatched]) -> str:
        past = [offer for offer in offers if isinstance(offer, PastOffer) and offer.state != "refused"]
        return f", the last at {self._moment(past[-1].wall_ms)} (offer {past[-1].offer})" if past else ""

    def _moment(self, wall_ms: int, *, day: bool = False) -> str:
        """The time of day; with the weekday where that matters."""
        local, event = local_time(wall_ms, self._time_zone), local_time(self._event.at.wall_ms, self._time_zone)
        seconds = f":{local.second:02d}" if not day else ""
        clock = f"{local.hour:02d}:{local.minute:02d}{seconds}"
        return f"{_WEEKDAYS[local.weekday()]} {clock}" if day or local.date() != event.date() else clock

    def _date(self, wall_ms: int) -> str:
        return local_time(wall_ms, self._time_zone).strftime("%Y-%m-%d %H:%M")


def _lower(promotion: Promotion, winner: Promotion) -> str:
    by = (
        f"priority {winner.priority} before {promotion.priority}"
        if winner.priority != promotion.priority
        else f"both have priority {winner.priority}, so the name decided"
    )
    return f"{winner.promotion_id} won the one push ({by})"


def _quiet(quiet: QuietHours | None) -> str:
    return "nothing is pushed now" if quiet is None else f"nothing is pushed {_span(quiet.start_minute, quiet.end_minute)}"


def windows_in_words(windows: Iterable[TimeWindow]) -> str:
    """A promotion's windows.

    >>> windows_in_words([TimeWindow(frozenset({0, 1, 2, 3, 4}), 420, 600), TimeWindow(frozenset({5}), 480, 1440)])
    'Mon–Fri 07:00–10:00, Sat 08:00–24:00'
    >>> windows_in_words([TimeWindow(frozenset({0}), 0, 1440), TimeWindow(frozenset(range(7)), 1320, 360)])
    'Mon, daily 22:00–06:00'
    """
    every = [_window(window) for window in windows]
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more


def _window(window: TimeWindow) -> str:
    days = _days(window.weekdays)
    whole = window.start_minute == 0 and window.end_minute == _DAY_MINUTES
    return days if whole else f"{days} {_span(window.start_minute, window.end_minute)}"


def _span(start_minute: int, end_minute: int) -> str:
    return f"{_clock(start_minute)}–{_clock(end_minute)}"


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _days(weekdays: frozenset[int]) -> str:
    """Runs of days joined.

    >>> _days(frozenset({0, 1, 2, 5})), _days(frozenset()), _days(frozenset(range(7)))
    ('Mon–Wed, Sat', 'never', 'daily')
    """
    if not weekdays or len(weekdays) == len(_WEEKDAYS):
        return "daily" if weekdays else "never"
    runs: list[list[int]] = []
    for day in sorted(weekdays):
        if runs and runs[-1][-1] == day - 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    return ", ".join(_WEEKDAYS[run[0]] if len(run) == 1 else f"{_WEEKDAYS[run[0]]}–{_WEEKDAYS[run[-1]]}" for run in runs)


# ---- audiences ----------------------------------------------------------------------------------------------------------------

_MOST_NAMES = 10


def leaf_in_words(finding: LeafFinding) -> LeafExplained:
    """One condition of an audience, as it is written, with what it found.

    >>> from gateway.core.conditions import Leaf
    >>> leaf_in_words(LeafFinding("", Leaf("visits_30_days", "at_least", 5), 3, False)).detail
    'visits_30_days at_least 5: 3, does not hold'
    """
    leaf = finding.leaf
    condition = f"{leaf.field} {leaf.operator} {_value(leaf.field, leaf.value)}"
    return _leaf(finding.path, condition, None if finding.found is None else _value(leaf.field, finding.found), finding.holds)


def visit_in_words(visit_number: int, context: ShopperContext | None) -> LeafExplained:
    """Which visit it had to be, and which it was.

    >>> visit_in_words(5, ShopperContext(visits_30_days=3)).detail
    'visit_number equals 5: 4, does not hold'
    """
    visit = None if context is None else context.visits_30_days + 1
    found = None if visit is None else str(visit)
    return _leaf("visit_number", f"visit_number equals {visit_number}", found, visit == visit_number)


def _leaf(path: str, condition: str, found: str | None, holds: bool) -> LeafExplained:
    said = "not known" if found is None else found
    detail = f"{condition}: {said}, {'holds' if holds else 'does not hold'}"
    return LeafExplained(path=path, condition=condition, found=found, holds=holds, detail=detail)


def _value(field: ConditionField, value: Value) -> str:
    if isinstance(value, frozenset):
        names = sorted(value)
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        return (", ".join(names[:_MOST_NAMES]) or "none") + more
    return _clock(value) if field == "local_time" and isinstance(value, int) else str(value)
