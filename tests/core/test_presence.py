"""Presence: named walks say what must happen, properties what may never happen."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.model import (
    Anchor,
    Belief,
    Consent,
    Dwelled,
    Entered,
    Exited,
    Instant,
    OpenVisit,
    PresenceEvent,
    Shop,
    VisitEnded,
    VisitStarted,
    Zone,
)
from gateway.core.positioning import Positioning
from gateway.core.presence import Presence
from tests.core.phones import BOTH, entries_held_by

START = Instant(5_000_000, 1_790_000_000_000)
MINUTE_MS = 60_000
GAP_MS = 30 * MINUTE_MS
ZONES = ("entrance", "dairy", "wine")
SHOP = Shop(
    zones={name: Zone(name, dwell_ms=(60_000, 300_000)) for name in ZONES},
    anchors={f"r-{name}": Anchor(f"r-{name}", "receiver", name) for name in ZONES},
)


def ids() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"visit {next(numbers)}"


def presence(shop: Shop = SHOP, new_id: Callable[[], str] | None = None) -> Presence:
    return Presence(shop, margin=0.7, hold_ms=600, visit_gap_ms=GAP_MS, new_id=new_id or ids())


# ---- walks: levels in, stories out --------------------------------------------------------------------------------------------


@dataclass
class Walk:
    """One shopper with a phone that sends every 250 ms, heard by the receivers of all zones; ticks every 200 ms."""

    noise_db: float = 0.0
    seed: int = 0
    shop: Shop = SHOP
    events: list[PresenceEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.positioning = Positioning(self.shop)
        self.presence = presence(self.shop)
        self.now = START
        self._rng = random.Random(self.seed)

    def stay(self, seconds: float, **levels_dbm: float) -> "Walk":
        """Stand where the zones' receivers hear these levels; no levels = the phone is silent."""
        end_ms = self.now.mono_ms + round(seconds * 1000)
        while self.now.mono_ms < end_ms:
            if self.now.mono_ms % 250 == 0:
                for zone, dbm in levels_dbm.items():
                    rssi_dbm = dbm + self._rng.uniform(-self.noise_db, self.noise_db)
                    self.positioning.observe("anna", f"r-{zone}", rssi_dbm, self.now, "receiver")
            if self.now.mono_ms % 200 == 0:
                self._tick()
            self.now = self.now.plus(50)
        return self

    def _tick(self) -> None:
        for belief in self.positioning.beliefs(self.now):
            self.events += self.presence.update(belief, BOTH)
        self.events += self.presence.tick(self.now)

    @property
    def story(self) -> list[str]:
        return [told(event) for event in self.events]


def told(event: PresenceEvent) -> str:
    match event:
        case VisitStarted():
            return "started"
        case Entered():
            return f"entered {event.zone}"
        case Dwelled():
            return f"dwelled {event.zone} {event.dwell_ms // 1000} s"
        case Exited():
            return f"exited {event.zone}: {event.reason}"
        case VisitEnded():
            return f"ended after {event.zones} zones"


def test_walking_in_is_announced_once_and_soon() -> None:
    walk = Walk(noise_db=4).stay(10, entrance=-65, dairy=-85)
    assert walk.story == ["started", "entered entrance"]
    assert walk.events[0].at.mono_ms - START.mono_ms <= 2500
    assert walk.presence.present == 1


def test_passing_by_outside_is_no_visit() -> None:
    assert Walk(noise_db=4).stay(60, entrance=-96, dairy=-100).story == []


def test_one_loud_moment_is_no_entry() -> None:
    assert Walk().stay(0.25, entrance=-50).stay(60).story == []


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    "levels",
    [
        pytest.param({"entrance": -75.0, "dairy": -62.0, "wine": -76.0}, id="in the middle"),
        pytest.param({"entrance": -75.0, "dairy": -64.0, "wine": -67.0}, id="near a border"),
        pytest.param({"entrance": -90.0, "dairy": -66.0, "wine": -66.0}, id="on the border"),
        pytest.param({"dairy": -84.0}, id="in a corner hardly heard"),
    ],
)
def test_a_still_phone_changes_zone_at_most_once_in_ten_minutes(seed: int, levels: dict[str, float]) -> None:
    walk = Walk(noise_db=4, seed=seed).stay(600, **levels)
    entries = [event for event in walk.events if isinstance(event, Entered)]
    assert 1 <= len(entries) <= 2
    assert sum(isinstance(event, Dwelled) for event in walk.events) >= 1


@pytest.mark.parametrize("seed", range(3))
def test_a_walk_through_three_zones(seed: int) -> None:
    walk = Walk(noise_db=4, seed=seed)
    walk.stay(20, entrance=-60, dairy=-75, wine=-85).stay(20, entrance=-75, dairy=-60, wine=-75)
    walk.stay(20, entrance=-85, dairy=-75, wine=-60)
    assert walk.story == [
        "started",
        "entered entrance",
        "exited entrance: moved",
        "entered dairy",
        "exited dairy: moved",
        "entered wine",
    ]
    moved, entered = walk.events[2], walk.events[3]
    assert isinstance(moved, Exited)
    assert moved.at == entered.at
    assert 0 <= entered.at.mono_ms - (START.mono_ms + 20_000) <= 2500
    assert {event.visit for event in walk.events} == {"visit 1"}


def test_a_small_advantage_does_not_move_anybody() -> None:
    walk = Walk().stay(10, entrance=-60, dairy=-75).stay(60, entrance=-64, dairy=-62)
    assert "entered dairy" not in walk.story
    assert walk.stay(10, entrance=-65, dairy=-60).story[-1] == "entered dairy"


@pytest.mark.parametrize(("silence_s", "story"), [(119, []), (119.5, []), (121, ["exited dairy: silence"])])
def test_silence_shorter_than_the_exit_delay_is_no_exit(silence_s: float, story: list[str]) -> None:
    walk = Walk().stay(30, dairy=-60).stay(silence_s)
    assert walk.story[2:] == story
    if story:
        left = walk.events[-1]
        assert isinstance(left, Exited)
        assert left.left_at == START.plus(29_750)
        assert 120_000 <= left.at.mono_ms - left.left_at.mono_ms <= 120_200
        assert walk.presence.present == 0
    else:
        assert walk.stay(60, dairy=-60).story == ["started", "entered dairy", "dwelled dairy 60 s"], "the stay went on"


def test_being_heard_too_faintly_for_the_exit_delay_is_a_weak_exit() -> None:
    walk = Walk().stay(30, dairy=-60).stay(130, dairy=-99)
    assert walk.story[2:] == ["exited dairy: weak"]


def test_a_faint_while_is_no_exit() -> None:
    assert Walk().stay(30, dairy=-60).stay(100, dairy=-99).stay(60, dairy=-60).story[2:] == ["dwelled dairy 60 s"]


def test_dwell_thresholds_are_announced_once_each() -> None:
    walk = Walk(noise_db=4).stay(700, dairy=-60)
    assert walk.story == ["started", "entered dairy", "dwelled dairy 60 s", "dwelled dairy 300 s"]
    entered, short, long = walk.events[1:]
    assert isinstance(short, Dwelled)
    assert isinstance(long, Dwelled)
    assert 60_000 <= short.at.mono_ms - entered.at.mono_ms <= 60_500
    assert 300_000 <= long.at.mono_ms - entered.at.mono_ms <= 300_500
    assert short.entered_at == entered.at


@pytest.mark.parametrize(("stayed_ms", "dwelled"), [(59_999, 0), (60_000, 1), (60_001, 1)])
def test_a_threshold_is_passed_when_it_is_reached(stayed_ms: int, dwelled: int) -> None:
    subject = presence()
    for after_ms in (0, 600, 600 + stayed_ms):
        subject.update(belief(START.plus(after_ms), {"dairy": 0.9}), BOTH)
    assert len(subject.tick(START.plus(600 + stayed_ms))) == dwelled


def test_silence_after_leaving_is_no_dwelling() -> None:
    assert Walk().stay(40, dairy=-60).stay(200).story == ["started", "entered dairy", "exited dairy: silence"]


def test_dwelling_begins_anew_with_each_entry() -> None:
    walk = Walk().stay(50, dairy=-60, wine=-80).stay(50, dairy=-80, wine=-60).stay(50, dairy=-60, wine=-80)
    assert not any(isinstance(event, Dwelled) for event in walk.events)


def test_promotions_add_dwell_thresholds() -> None:
    walk = Walk()
    walk.presence.use(SHOP, {"dairy": {20_000}})
    assert walk.stay(70, dairy=-60).story[2:] == ["dwelled dairy 20 s", "dwelled dairy 60 s"]


@pytest.mark.parametrize(
    ("away_s", "story"),
    [
        pytest.param(29 * 60, ["entered dairy"], id="back within the gap: the same visit"),
        pytest.param(31 * 60, ["ended after 1 zones", "started", "entered dairy"], id="back after the gap: a new visit"),
    ],
)
def test_a_visit_ends_after_the_gap(away_s: float, story: list[str]) -> None:
    walk = Walk().stay(30, dairy=-60).stay(away_s).stay(5, dairy=-60)
    assert walk.story == ["started", "entered dairy", "exited dairy: silence", *story]
    assert len({event.visit for event in walk.events}) == len([told for told in walk.story if told == "started"])


def test_a_visit_ended_when_the_shopper_was_last_there() -> None:
    ended = Walk().stay(30, dairy=-60).stay(32 * 60).events[-1]
    assert isinstance(ended, VisitEnded)
    assert ended.ended_at == START.plus(29_750)
    assert ended.at.mono_ms - ended.ended_at.mono_ms == pytest.approx(GAP_MS, abs=200)
    assert START.mono_ms <= ended.started_at.mono_ms <= START.mono_ms + 2500


# ---- minimum dwell, silence, and what came to nothing -------------------------------------------------------------------------


def slow_dairy(**changes: Any) -> Shop:
    return Shop(SHOP.zones | {"dairy": replace(SHOP.zones["dairy"], **changes)}, SHOP.anchors)


def test_a_zone_with_a_minimum_dwell_is_entered_after_it() -> None:
    walk = Walk(shop=slow_dairy(enter_after_ms=5000)).stay(10, entrance=-60, dairy=-80).stay(10, entrance=-80, dairy=-60)
    assert walk.story == ["started", "entered entrance", "exited entrance: moved", "entered dairy"]
    entered = walk.events[-1]
    assert 5000 <= entered.at.mono_ms - (START.mono_ms + 10_000) <= 7500


def test_who_only_passes_a_zone_with_a_minimum_dwell_goes_on_being_where_they_were_and_it_is_known_why() -> None:
    walk = Walk(shop=slow_dairy(enter_after_ms=5000)).stay(10, entrance=-60, dairy=-80).stay(4, entrance=-80, dairy=-60)
    walk.stay(10, entrance=-60, dairy=-80)
    assert walk.story == ["started", "entered entrance"]
    missed = walk.presence.not_entered[-1]
    assert (missed.zone, missed.instead, missed.needed_ms) == ("dairy", "entrance", 5000)
    assert 2000 <= missed.believed_ms < 5000
    assert missed.margin > missed.needed_margin
    assert {level.anchor for level in missed.evidence.anchors} == {"r-dairy", "r-entrance"}
    assert START.mono_ms + 10_000 < missed.since.mono_ms < missed.at.mono_ms < START.mono_ms + 18_000


def test_a_zone_that_was_likeliest_without_the_margin_is_remembered_too() -> None:
    walk = Walk().stay(10, entrance=-60, dairy=-75).stay(60, entrance=-64, dairy=-63).stay(10, entrance=-60, dairy=-75)
    assert walk.story[1:] == ["entered entrance", "dwelled entrance 60 s"]
    missed = walk.presence.not_entered[-1]
    assert (missed.zone, missed.believed_ms) == ("dairy", 0)
    assert 0 < missed.margin < missed.needed_margin
    assert missed.evidence.near_border


def test_what_came_to_nothing_is_forgotten_with_the_shopper_and_after_a_quarter_of_an_hour() -> None:
    for forget in (False, True):
        walk = Walk(shop=slow_dairy(enter_after_ms=5000)).stay(2, dairy=-60).stay(100)
        assert [missed.zone for missed in walk.presence.not_entered] == ["dairy"]
        if forget:
            walk.presence.forget("anna")
        else:
            walk.stay(900)
        assert not walk.presence.not_entered


@pytest.mark.parametrize(
    ("stale_ms", "levels", "after_s", "reason"),
    [
        pytest.param(20_000, {}, 20, "silence", id="silent: its own time-out"),
        pytest.param(300_000, {}, 300, "silence", id="silent: longer than the exit delay"),
        pytest.param(300_000, {"dairy": -99.0}, 120, "weak", id="heard elsewhere: the exit delay"),
    ],
)
def test_silence_may_have_a_time_of_its_own(stale_ms: int, levels: dict[str, float], after_s: int, reason: str) -> None:
    walk = Walk(shop=slow_dairy(stale_ms=stale_ms)).stay(30, dairy=-60).stay(after_s + 30, **levels)
    left = walk.events[-1]
    assert isinstance(left, Exited)
    assert left.reason == reason
    assert after_s * 1000 <= left.at.mono_ms - left.left_at.mono_ms <= after_s * 1000 + 400


def test_falling_silent_after_being_heard_elsewhere_ends_the_stay_by_whichever_comes_first() -> None:
    walk = Walk(shop=slow_dairy(stale_ms=60_000)).stay(30, dairy=-60).stay(10, dairy=-99).stay(120)
    left = walk.events[-1]
    assert isinstance(left, Exited)
    assert 60_000 <= left.at.mono_ms - (START.mono_ms + 39_750) <= 60_400


def test_an_exit_carries_its_evidence() -> None:
    walk = Walk().stay(20, entrance=-60, dairy=-80).stay(10, entrance=-80, dairy=-60).stay(130)
    moved, silent = [event for event in walk.events if isinstance(event, Exited)]
    assert moved.evidence is not None
    assert (moved.evidence.runner_up, moved.evidence.margin < 0) == ("dairy", True)
    assert silent.evidence is not None
    assert silent.evidence.belief > 0.5
    assert [level.anchor for level in silent.evidence.anchors] == ["r-dairy", "r-entrance"]


@pytest.mark.parametrize(
    ("zones", "neighbours", "near"),
    [
        ({"dairy": 0.6, "wine": 0.3}, None, True),
        ({"dairy": 0.6, "wine": 0.3}, frozenset({"wine"}), True),
        ({"dairy": 0.6, "wine": 0.3}, frozenset({"entrance"}), False),
        ({"dairy": 0.8, "wine": 0.1}, None, False),
        ({"dairy": 0.6}, None, False),
    ],
)
def test_evidence_says_whether_a_border_is_near(zones: dict[str, float], neighbours: frozenset[str] | None, near: bool) -> None:
    subject = presence(slow_dairy(neighbours=neighbours))
    subject.update(belief(START, zones), BOTH)
    entered = subject.update(belief(START.plus(600), zones), BOTH)[-1]
    assert isinstance(entered, Entered)
    assert entered.evidence.near_border == near


# ---- beliefs: what may never happen -------------------------------------------------------------------------------------------


def belief(at: Instant, zones: dict[str, float], shopper: str = "anna", heard_at: Instant | None = None) -> Belief:
    return Belief(shopper, at, zones, max(0.0, 1 - sum(zones.values())), heard_at or at, ())


@dataclass(frozen=True)
class Happening:
    """Time passes, the wall clock jumps, and perhaps something is believed."""

    after_ms: int
    jump_ms: int = 0
    zones: dict[str, float] | None = None


shares = st.one_of(
    st.sampled_from([{name: 0.9} for name in ZONES]),
    st.sampled_from([{"dairy": 0.5, "wine": 0.45}, {"dairy": 0.2, "wine": 0.7}, {"dairy": 0.1}, {}, {"elsewhere": 0.9}]),
)
durations = st.one_of(
    st.integers(1, 1000), st.sampled_from([200, 600, 5000, 60_000, 119_999, 120_000, 121_000, GAP_MS - 1, GAP_MS, GAP_MS + 1])
)
jumps = st.sampled_from([0, 0, 0, -86_400_000, -5000, 5000, 3 * 86_400_000])
happenings = st.lists(st.builds(Happening, durations, jumps, st.none() | shares), max_size=40)


def live(happened: Iterable[Happening], *, jumping: bool = True) -> list[PresenceEvent]:
    """Everything that one shopper's presence makes of it."""
    subject, now = presence(), START
    events: list[PresenceEvent] = []
    for each in happened:
        now = Instant(now.mono_ms + each.after_ms, now.wall_ms + each.after_ms + (each.jump_ms if jumping else 0))
        if each.zones is not None:
            events += subject.update(belief(now, each.zones), BOTH)
        events += subject.tick(now)
    return events


def check_story(events: Iterable[PresenceEvent]) -> None:
    """A visit starts, then entries and exits of the same zone alternate, dwells lie within a stay, and it ends outside."""
    visit: str | None = None
    ended: set[str] = set()
    zone: str | None = None
    zones = 0
    since_ms = last_ms = -(10**15)
    dwelled_ms = 0
    for event in events:
        assert event.at.mono_ms >= last_ms
        last_ms = event.at.mono_ms
        match event:
            case VisitStarted():
                assert visit is None
                assert event.visit not in ended
                visit, zones = event.visit, 0
            case Entered():
                assert zone is None
                assert event.zone in SHOP.zones
                zone, since_ms, dwelled_ms = event.zone, event.at.mono_ms, 0
                zones += 1
            case Dwelled():
                assert zone == event.zone
                assert event.entered_at.mono_ms == since_ms
                assert dwelled_ms < event.dwell_ms <= event.at.mono_ms - since_ms
                dwelled_ms = event.dwell_ms
            case Exited():
                assert zone == event.zone
                assert event.entered_at.mono_ms == since_ms
                assert since_ms <= event.left_at.mono_ms <= event.at.mono_ms
                zone = None
            case VisitEnded():
                assert zone is None
                assert event.zones == zones
                assert event.started_at.mono_ms <= event.ended_at.mono_ms <= event.at.mono_ms
        assert event.visit == visit
        if isinstance(event, VisitEnded):
            ended.add(event.visit)
            visit = None


@given(happenings)
@settings(max_examples=200)
def test_entries_and_exits_alternate_whatever_happens(happened: list[Happening]) -> None:
    check_story(live(happened))


def without_wall(value: Any) -> Any:
    """The event with every wall time zeroed."""
    changed = {
        name: Instant(at.mono_ms, 0) for name in value.__dataclass_fields__ if isinstance(at := getattr(value, name), Instant)
    }
    return replace(value, **changed)


@given(happenings)
@settings(max_examples=200)
def test_jumps_of_the_wall_clock_change_nothing_but_wall_times(happened: list[Happening]) -> None:
    assert [without_wall(event) for event in live(happened)] == [without_wall(event) for event in live(happened, jumping=False)]


def test_after_a_long_halt_the_exit_and_the_end_come_together() -> None:
    subject = presence()
    for after_ms in (0, 600):
        subject.update(belief(START.plus(after_ms), {"dairy": 0.9}), BOTH)
    assert [told(event) for event in subject.tick(START.plus(600 + GAP_MS))] == ["exited dairy: silence", "ended after 1 zones"]
    assert subject.next_deadline_ms() is None


@pytest.mark.parametrize("jump_ms", [-30 * 86_400_000, -3_600_000, 3_600_000, 365 * 86_400_000])
def test_a_jump_of_the_wall_clock_ends_no_visit_and_makes_no_negative_stay(jump_ms: int) -> None:
    walk = Walk().stay(20, dairy=-60)
    walk.now = Instant(walk.now.mono_ms, walk.now.wall_ms + jump_ms)
    walk.stay(50, dairy=-60).stay(121)
    assert walk.story == ["started", "entered dairy", "dwelled dairy 60 s", "exited dairy: silence"]
    left = walk.events[-1]
    assert isinstance(left, Exited)
    assert left.left_at.mono_ms - left.entered_at.mono_ms > 60_000


@given(happenings)
@settings(max_examples=200)
def test_the_next_deadline_is_when_time_alone_makes_something_certain(happened: list[Happening]) -> None:
    """Exits and ends need no advertisement: nothing comes before the deadline, something at it, until nobody is left."""
    subject, now = presence(), START
    for each in happened:
        now = now.plus(each.after_ms)
        if each.zones is not None:
            subject.update(belief(now, each.zones), BOTH)
        subject.tick(now)
    for _ in range(3):
        deadline_ms = subject.next_deadline_ms()
        if deadline_ms is None:
            break
        assert deadline_ms > now.mono_ms
        assert subject.tick(now.plus(deadline_ms - 1 - now.mono_ms)) == []
        now = now.plus(deadline_ms - now.mono_ms)
        assert subject.tick(now)
    assert subject.next_deadline_ms() is None
    assert not subject.is_present("anna")


def test_the_deadlines_of_two_shoppers() -> None:
    subject = presence()
    assert subject.next_deadline_ms() is None
    for shopper, at in [("anna", START), ("zoe", START.plus(7000))]:
        subject.update(belief(at, {"dairy": 0.9}, shopper), BOTH)
        subject.update(belief(at.plus(600), {"dairy": 0.9}, shopper), BOTH)
    assert subject.next_deadline_ms() == START.mono_ms + 600 + 120_000
    assert [told(event) for event in subject.tick(START.plus(120_600))] == ["exited dairy: silence"]
    assert subject.next_deadline_ms() == START.mono_ms + 7600 + 120_000


def test_a_zone_must_hold_without_interruption() -> None:
    subject = presence()
    for after_ms, zones in [(0, {"dairy": 0.9}), (400, {"wine": 0.9}), (800, {"dairy": 0.9}), (1300, {"dairy": 0.9})]:
        assert subject.update(belief(START.plus(after_ms), zones), BOTH) == []
    assert [told(event) for event in subject.update(belief(START.plus(1400), {"dairy": 0.9}), BOTH)] == [
        "started",
        "entered dairy",
    ]


@pytest.mark.parametrize(("after_ms", "entered"), [(75_000, True), (75_001, False), (3_600_000, False)])
def test_two_beliefs_long_apart_are_not_one_stay(after_ms: int, entered: bool) -> None:
    subject = presence()
    subject.update(belief(START, {"dairy": 0.9}), BOTH)
    assert bool(subject.update(belief(START.plus(after_ms), {"dairy": 0.9}), BOTH)) == entered


def test_a_report_behind_the_receivers_does_not_shorten_a_stay() -> None:
    subject = presence()
    for after_ms in (0, 600, 20_000):
        subject.update(belief(START.plus(after_ms), {"dairy": 0.9}), BOTH)
    subject.update(belief(START.plus(20_200), {"dairy": 0.9}, heard_at=START.plus(5000)), BOTH)
    assert subject.next_deadline_ms() == START.mono_ms + 140_000


def test_passers_by_leave_nothing_behind() -> None:
    subject = presence()
    empty = entries_held_by(subject)
    for number in range(500):
        now = START.plus(1000 * number)
        subject.update(belief(now, {"dairy": 0.9}, f"shopper {number}"), BOTH)
        subject.tick(now)
    subject.tick(START.plus(3_600_000))
    assert entries_held_by(subject) == empty


def test_who_is_forgotten_is_gone_without_an_event() -> None:
    walk = Walk().stay(10, dairy=-60)
    walk.presence.forget("anna")
    assert walk.stay(3600).story == ["started", "entered dairy"]
    assert not walk.presence.is_present("anna")
    assert walk.presence.next_deadline_ms() is None


def test_consent_is_that_of_the_last_belief_or_less() -> None:
    subject = presence()
    subject.update(belief(START, {"dairy": 0.9}), BOTH)
    assert {event.consent for event in subject.update(belief(START.plus(600), {"dairy": 0.9}), Consent.OFFERS)} == {
        Consent.OFFERS
    }
    subject.update(belief(START.plus(700), {"dairy": 0.9}), BOTH)
    subject.limit("anna", Consent.ANALYTICS)
    subject.limit("nobody", Consent.NONE)
    assert [event.consent for event in subject.tick(START.plus(200_000))] == [Consent.ANALYTICS]


def test_a_zone_that_the_shop_lost_is_left() -> None:
    walk = Walk().stay(10, dairy=-60)
    walk.presence.use(Shop({"wine": SHOP.zones["wine"]}, {}), {})
    assert walk.stay(0.4).story == ["started", "entered dairy", "exited dairy: silence"]


def test_evidence_says_why() -> None:
    subject = presence()
    zones = {"dairy": 0.6, "wine": 0.3}
    subject.update(belief(START, zones), BOTH)
    _, entered = subject.update(belief(START.plus(600), zones), BOTH)
    assert isinstance(entered, Entered)
    assert (entered.evidence.belief, entered.evidence.runner_up, entered.evidence.margin) == (0.6, "wine", 0.69)


# ---- restart ------------------------------------------------------------------------------------------------------------------

IN_DAIRY = OpenVisit(
    shopper="anna",
    visit="visit 1",
    consent=BOTH,
    started_wall_ms=START.wall_ms - 100_000,
    zones=2,
    zone="dairy",
    entered_wall_ms=START.wall_ms - 90_000,
    dwelled_ms=60_000,
    last_event_wall_ms=START.wall_ms - 30_000,
)
BETWEEN = replace(IN_DAIRY, zone=None, entered_wall_ms=None)


def restarted(saved: OpenVisit, away_ms: int, *, alive: bool = True, shop: Shop = SHOP) -> tuple[Presence, Instant, list[str]]:
    """Back after ``away_ms`` on a freshly booted monotonic clock."""
    subject = presence(shop)
    now = Instant(40_000, START.wall_ms + away_ms)
    return subject, now, [told(event) for event in subject.remember([saved], START.wall_ms if alive else None, now)]


@pytest.mark.parametrize(
    ("saved", "away_ms", "expected"),
    [
        pytest.param(IN_DAIRY, 10_000, [], id="short absence: the stay goes on"),
        pytest.param(IN_DAIRY, 10 * MINUTE_MS, [], id="longer than the exit delay: the timer starts anew"),
        pytest.param(IN_DAIRY, GAP_MS - 1, [], id="just within the gap"),
        pytest.param(IN_DAIRY, GAP_MS, ["exited dairy: restart", "ended after 2 zones"], id="the gap"),
        pytest.param(IN_DAIRY, 20 * GAP_MS, ["exited dairy: restart", "ended after 2 zones"], id="the next morning"),
        pytest.param(IN_DAIRY, -86_400_000, [], id="the wall clock is a day behind"),
        pytest.param(BETWEEN, 10_000, [], id="between zones, short absence"),
        pytest.param(BETWEEN, GAP_MS - 30_001, [], id="between zones, the gap counts from leaving"),
        pytest.param(BETWEEN, GAP_MS - 30_000, ["ended after 2 zones"], id="between zones, the gap has passed"),
        pytest.param(replace(IN_DAIRY, zone="cellar"), 10_000, ["exited cellar: restart"], id="the zone is gone"),
    ],
)
def test_what_a_restart_makes_certain(saved: OpenVisit, away_ms: int, expected: list[str]) -> None:
    subject, _, story = restarted(saved, away_ms)
    assert story == expected
    assert subject.is_present("anna") == ("ended after 2 zones" not in expected)


def test_after_a_long_absence_the_stay_ended_when_the_process_was_last_alive() -> None:
    subject, now = presence(), Instant(40_000, START.wall_ms + 2 * GAP_MS)
    left, ended = subject.remember([IN_DAIRY], START.wall_ms, now)
    assert isinstance(left, Exited)
    assert isinstance(ended, VisitEnded)
    assert (left.left_at.wall_ms, left.entered_at.wall_ms, left.at) == (START.wall_ms, START.wall_ms - 90_000, now)
    assert ended.ended_at == left.left_at
    assert ended.started_at.wall_ms == IN_DAIRY.started_wall_ms
    assert left.left_at.mono_ms - left.entered_at.mono_ms == 90_000


def test_without_a_sign_of_life_the_last_event_counts() -> None:
    subject, now = presence(), Instant(40_000, START.wall_ms + 2 * GAP_MS)
    left, _ = subject.remember([IN_DAIRY], None, now)
    assert isinstance(left, Exited)
    assert left.left_at.wall_ms == IN_DAIRY.last_event_wall_ms


def test_after_a_short_absence_who_is_heard_again_has_not_entered_again() -> None:
    subject, now, _ = restarted(IN_DAIRY, 10_000)
    for after_ms in range(0, 60_000, 600):
        assert subject.update(belief(now.plus(after_ms), {"dairy": 0.9}), BOTH) == []
        assert subject.tick(now.plus(after_ms)) == []
    assert [told(event) for event in subject.tick(now.plus(59_400 + 120_000))] == ["exited dairy: silence"]


def test_after_a_short_absence_who_is_not_heard_again_leaves_after_a_whole_exit_delay() -> None:
    subject, now, _ = restarted(IN_DAIRY, 10_000)
    assert subject.next_deadline_ms() == now.mono_ms + 120_000
    assert subject.tick(now.plus(119_999)) == []
    (left,) = subject.tick(now.plus(120_000))
    assert isinstance(left, Exited)
    assert (left.reason, left.visit) == ("silence", "visit 1")
    assert left.left_at.wall_ms == START.wall_ms, "nobody was believed to be there later"


def test_absence_alone_is_no_dwelling() -> None:
    """A shopper who may have left during the downtime gets no offer for staying; who is heard again does."""
    subject, now, story = restarted(IN_DAIRY, 10 * MINUTE_MS)
    assert story == []
    assert subject.tick(now.plus(100_000)) == []
    subject.update(belief(now.plus(101_000), {"dairy": 0.3, "wine": 0.32}), BOTH)
    assert subject.tick(now.plus(101_000)) == []
    subject.update(belief(now.plus(102_000), {"dairy": 0.9}), BOTH)
    (dwelled,) = subject.tick(now.plus(102_000))
    assert isinstance(dwelled, Dwelled)
    assert (dwelled.dwell_ms, dwelled.evidence) == (300_000, None)


def test_moving_on_after_a_restart_leaves_the_old_zone_first() -> None:
    subject, now, _ = restarted(IN_DAIRY, 10_000)
    events = subject.update(belief(now, {"wine": 0.9}), BOTH)
    assert [told(event) for event in events] == ["exited dairy: moved", "entered wine"]
    assert {event.visit for event in events} == {"visit 1"}


class Ledger:
    """Keeps the open visit as the database does."""

    def __init__(self) -> None:
        self.saved: OpenVisit | None = None

    def record(self, event: PresenceEvent) -> None:
        at_ms = event.at.wall_ms
        match event, self.saved:
            case VisitStarted(), _:
                self.saved = OpenVisit(event.shopper, event.visit, event.consent, at_ms, 0, None, None, 0, at_ms)
            case Entered(), OpenVisit() as saved:
                self.saved = replace(
                    saved, zone=event.zone, entered_wall_ms=at_ms, dwelled_ms=0, zones=saved.zones + 1, last_event_wall_ms=at_ms
                )
            case Dwelled(), OpenVisit() as saved:
                self.saved = replace(saved, dwelled_ms=event.dwell_ms, last_event_wall_ms=at_ms)
            case Exited(), OpenVisit() as saved:
                self.saved = replace(saved, zone=None, entered_wall_ms=None, last_event_wall_ms=event.left_at.wall_ms)
            case VisitEnded(), _:
                self.saved = None


@given(happened=happenings, restarts=st.sets(st.integers(0, 39), max_size=4), away_ms=durations)
@settings(max_examples=200)
def test_restarts_anywhere_leave_one_story(happened: list[Happening], restarts: set[int], away_ms: int) -> None:
    """Both clocks go on over the restart, so that what was remembered can be compared with what was."""
    new_id = ids()
    subject, now, ledger = presence(new_id=new_id), START, Ledger()
    story: list[PresenceEvent] = []
    for number, each in enumerate(happened):
        events: list[PresenceEvent] = []
        if number in restarts:
            alive_ms = now.wall_ms
            now = now.plus(away_ms)
            subject = presence(new_id=new_id)
            events += subject.remember([] if ledger.saved is None else [ledger.saved], alive_ms, now)
        now = now.plus(each.after_ms)
        if each.zones is not None:
            events += subject.update(belief(now, each.zones), BOTH)
        events += subject.tick(now)
        for event in events:
            ledger.record(event)
        story += events
    check_story(story)
