"""Identity: a token is its shopper's only in its own store, day and window, and says only what its tag vouches for."""

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.identity import MAX_BAD_TAGS, DayRoster, Identity
from gateway.core.model import Consent, Counters, Instant, Recognised
from gateway.core.token import WINDOW_S, rssi_of_bucket
from tests.core.phones import BOTH, STORE, UNIX_S, WINDOW, Phone, entries_held_by, roster_of

DAY_WINDOWS = 86_400 // WINDOW_S
PHONES = [Phone(seed) for seed in range(1, 6)]
PHONE = PHONES[0]
DAY = PHONE.day(WINDOW)


def at(unix_s: float) -> Instant:
    wall_ms = round(unix_s * 1000)
    return Instant(wall_ms - UNIX_S * 1000, wall_ms)


def identity_for(
    phones: list[Phone], unix_s: float = UNIX_S, *, skew_s: int = 120, day_start_s: int = 0, consent: Consent = BOTH
) -> Identity:
    """Rosters of yesterday, today and tomorrow in force, with the tables that ``unix_s`` needs."""
    identity = Identity(day_start_s, skew_s, Counters())
    wall_ms = round(unix_s * 1000)
    today = identity.day_at(wall_ms)
    identity.prepare(wall_ms)
    for day in (today - 1, today, today + 1):
        identity.put_in_force(roster_of(phones, day, identity.windows_around(wall_ms, day), consent))
    return identity


def prepared(identity: Identity, wall_ms: int, budget: int = 600) -> None:
    """Prepare as often as the few shoppers of these tests can need."""
    for _ in range(50):
        identity.prepare(wall_ms, budget)


def rosters(identity: Identity, wall_ms: int) -> list[DayRoster]:
    today = identity.day_at(wall_ms)
    found = (identity.roster(day) for day in range(today - 9, today + 10))
    return [roster for roster in found if roster is not None]


def name_of(recognised: Recognised | None) -> str | None:
    return None if recognised is None else recognised.shopper


# ---- windows ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("skew_s", "into_s", "behind", "known"),
    [
        pytest.param(120, 0, 0, True, id="own window, first second"),
        pytest.param(120, 899.999, 0, True, id="own window, last millisecond"),
        pytest.param(120, 0, 1, True, id="last window at the edge"),
        pytest.param(120, 119.999, 1, True, id="last window, last millisecond of the skew"),
        pytest.param(120, 120, 1, False, id="last window, skew over"),
        pytest.param(120, 899, 1, False, id="last window at the end"),
        pytest.param(120, 779.999, -1, False, id="next window, skew not begun"),
        pytest.param(120, 780, -1, True, id="next window, skew begins"),
        pytest.param(120, 899.999, -1, True, id="next window at the edge"),
        pytest.param(120, 0, 2, False, id="window before last"),
        pytest.param(120, 899, -2, False, id="window after next"),
        pytest.param(30, 29, 1, True, id="smallest skew, inside"),
        pytest.param(30, 30, 1, False, id="smallest skew, outside"),
        pytest.param(30, 869, -1, False, id="smallest skew, not begun"),
        pytest.param(30, 870, -1, True, id="smallest skew, begins"),
        pytest.param(900, 899, 1, True, id="largest skew, last window to the end"),
        pytest.param(900, 0, -1, True, id="largest skew, next window from the beginning"),
        pytest.param(900, 899, 2, False, id="largest skew, window before last"),
        pytest.param(600, 450, -1, True, id="both neighbours count in the middle: next"),
        pytest.param(600, 450, 1, True, id="both neighbours count in the middle: last"),
    ],
)
def test_neighbouring_windows_count_within_the_skew_of_the_edge(skew_s: int, into_s: float, behind: int, known: bool) -> None:
    identity = identity_for(PHONES, UNIX_S + into_s, skew_s=skew_s)
    token = PHONE.token(UNIX_S, window=WINDOW - behind, slot=0)
    assert name_of(identity.resolve(token, at(UNIX_S + into_s))) == (PHONE.name(DAY) if known else None)


@given(skew_s=st.integers(30, 900), into_s=st.integers(0, 899), behind=st.integers(-2, 2))
def test_a_window_counts_exactly_when_the_skew_reaches_it(skew_s: int, into_s: int, behind: int) -> None:
    identity = identity_for([PHONE], UNIX_S + into_s, skew_s=skew_s)
    token = PHONE.token(UNIX_S, window=WINDOW - behind, slot=0)
    expected = behind == 0 or (behind == 1 and into_s < skew_s) or (behind == -1 and into_s >= WINDOW_S - skew_s)
    recognised = identity.resolve(token, at(UNIX_S + into_s))
    assert (recognised is not None) == expected


@pytest.mark.parametrize("day_start_s", [0, 10_800, -7_200, 900 * 95])
def test_at_the_days_edge_each_window_has_the_key_of_its_own_day(day_start_s: int) -> None:
    phone = Phone(7, day_start_s=day_start_s)
    today = phone.day(WINDOW)
    first = next(w for w in range(WINDOW, WINDOW + DAY_WINDOWS + 1) if phone.day(w) == today + 1)
    edge_s = first * WINDOW_S
    for heard_s, sent_window, expected in [
        (edge_s - 1, first - 1, phone.name(today)),
        (edge_s - 1, first, phone.name(today + 1)),
        (edge_s - 121, first, None),
        (edge_s, first, phone.name(today + 1)),
        (edge_s + 119, first - 1, phone.name(today)),
        (edge_s + 120, first - 1, None),
    ]:
        identity = identity_for([phone], heard_s, day_start_s=day_start_s)
        token = phone.token(heard_s, window=sent_window, slot=0)
        assert name_of(identity.resolve(token, at(heard_s))) == expected
    identity = identity_for([phone], edge_s, day_start_s=day_start_s)
    assert identity.resolve(phone.token(edge_s, window=first, key_of_day=today), at(edge_s)) is None


# ---- strangers and replay -----------------------------------------------------------------------------------------------------


@given(seed=st.integers(1, 5), into_s=st.integers(0, 899), store=st.integers(0, 2**32 - 1).filter(lambda store: store != STORE))
def test_a_token_of_another_store_is_a_stranger(seed: int, into_s: int, store: int) -> None:
    identity, counters = IDENTITY
    before = counters.strangers
    token = Phone(seed, store=store).token(UNIX_S + into_s)
    assert not identity.knows(token[:8])
    assert identity.resolve(token, at(UNIX_S + into_s)) is None
    assert counters.strangers == before + 1


@given(seed=st.integers(1, 5), into_s=st.integers(0, 899), days=st.integers(-20, 20).filter(bool))
def test_a_token_of_another_day_is_a_stranger(seed: int, into_s: int, days: int) -> None:
    identity, _ = IDENTITY
    token = Phone(seed).token(UNIX_S + into_s + 86_400 * days)
    assert not identity.knows(token[:8])
    assert identity.resolve(token, at(UNIX_S + into_s)) is None


def with_counters() -> tuple[Identity, Counters]:
    counters = Counters()
    identity = Identity(0, 120, counters)
    identity.put_in_force(roster_of(PHONES, DAY, [WINDOW - 1, WINDOW, WINDOW + 1]))
    return identity, counters


IDENTITY = with_counters()


@given(st.binary(max_size=40))
def test_any_bytes_are_at_worst_a_stranger(token: bytes) -> None:
    identity, _ = IDENTITY
    assert identity.resolve(token, at(UNIX_S)) is None


def test_an_ephemeral_identifier_is_known_while_its_window_is_near() -> None:
    identity = identity_for(PHONES)
    for window, known in [(WINDOW - 2, False), (WINDOW - 1, True), (WINDOW, True), (WINDOW + 1, True), (WINDOW + 2, False)]:
        assert identity.knows(PHONE.token(UNIX_S, window=window)[:8]) == known


# ---- tags ---------------------------------------------------------------------------------------------------------------------


def forged(token: bytes, number: int) -> bytes:
    """The same identifier with a tag that nobody made."""
    return token[:12] + (int.from_bytes(token[12:], "big") ^ (number + 1)).to_bytes(4, "big")


@pytest.mark.parametrize(
    ("forgeries", "heard"),
    [(0, True), (1, True), (MAX_BAD_TAGS - 1, True), (MAX_BAD_TAGS, False), (MAX_BAD_TAGS + 100, False)],
)
def test_after_sixteen_bad_tags_an_identifiers_tags_are_ignored(forgeries: int, heard: bool) -> None:
    identity, counters = with_counters()
    wall_ms = UNIX_S * 1000
    identity.prepare(wall_ms)
    token = PHONE.token(UNIX_S + 60)
    for number in range(forgeries):
        assert identity.resolve(forged(token, number), at(UNIX_S + 60)) is None
    assert counters.bad_tags == forgeries
    assert (identity.resolve(token, at(UNIX_S + 60)) is not None) == heard
    assert identity.resolve(PHONES[1].token(UNIX_S + 60), at(UNIX_S + 60)) is not None, "another shopper is not concerned"


def test_bad_tags_are_forgiven_when_the_window_ends() -> None:
    identity, _ = with_counters()
    identity.prepare(UNIX_S * 1000)
    token = PHONE.token(UNIX_S)
    for number in range(2 * MAX_BAD_TAGS):
        identity.resolve(forged(token, number), at(UNIX_S))
    later_s = UNIX_S + WINDOW_S
    prepared(identity, later_s * 1000)
    assert name_of(identity.resolve(PHONE.token(later_s), at(later_s))) == PHONE.name(DAY)


@given(position=st.integers(8, 15), change=st.integers(1, 255))
def test_no_changed_byte_behind_the_identifier_gets_through(position: int, change: int) -> None:
    identity, _ = with_counters()
    token = bytearray(PHONE.token(UNIX_S, hint=258))
    token[position] ^= change
    assert identity.resolve(bytes(token), at(UNIX_S)) is None


# ---- slots --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "accepted"),
    [
        pytest.param([(0, 5), (0, 5)], [True, True], id="the same minute again"),
        pytest.param([(0, 5), (0, 6)], [True, True], id="the next minute"),
        pytest.param([(0, 5), (0, 4)], [True, False], id="an older minute"),
        pytest.param([(0, 0), (-1, 14)], [True, False], id="the last window after this one"),
        pytest.param([(-1, 14), (0, 0)], [True, True], id="this window after the last"),
        pytest.param([(0, 5), (0, 15)], [True, True], id="not refreshed says nothing about the minute"),
        pytest.param([(0, 15), (0, 0)], [True, True], id="refreshed after all"),
        pytest.param([(0, 5), (0, 15), (0, 4)], [True, True, False], id="not refreshed does not bring old minutes back"),
        pytest.param([(0, 15), (-1, 15)], [True, False], id="not refreshed, and of an older window"),
        pytest.param([(0, 15), (-1, 14)], [True, False], id="an older window after one not refreshed"),
    ],
)
def test_stale_slots_are_ignored(sent: list[tuple[int, int]], accepted: list[bool]) -> None:
    identity, counters = with_counters()
    heard = [
        identity.resolve(PHONE.token(UNIX_S, window=WINDOW + window, slot=slot), at(UNIX_S + 1)) is not None
        for window, slot in sent
    ]
    assert heard == accepted
    assert counters.stale_tokens == accepted.count(False)


@given(st.lists(st.tuples(st.integers(-1, 0), st.integers(0, 15)), max_size=20))
def test_what_is_heard_never_goes_back_in_time(sent: list[tuple[int, int]]) -> None:
    identity, _ = with_counters()
    newest = (-2, 0)
    for window, slot in sent:
        place = (window, slot) if slot < 15 else (window, newest[1] if window == newest[0] else 0)
        heard = identity.resolve(PHONE.token(UNIX_S, window=WINDOW + window, slot=slot), at(UNIX_S + 1))
        assert (heard is not None) == (place >= newest)
        newest = max(newest, place)


def test_a_record_sent_again_does_not_bring_old_slots_back() -> None:
    identity, _ = with_counters()
    old, new = PHONE.token(UNIX_S, slot=1), PHONE.token(UNIX_S, slot=2)
    assert identity.resolve(new, at(UNIX_S)) is not None
    identity.apply_delta(DAY, 2, [PHONE.entry(DAY)], [])
    assert identity.resolve(old, at(UNIX_S)) is None
    identity.put_in_force(roster_of(PHONES, DAY, [WINDOW], version=3))
    assert identity.resolve(old, at(UNIX_S)) is None
    assert identity.resolve(new, at(UNIX_S)) is not None


# ---- consent and hint ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("roster", "flags"), list(itertools.product(range(4), range(4))))
def test_consent_is_what_both_roster_and_token_grant(roster: int, flags: int) -> None:
    identity = identity_for(PHONES, consent=Consent(roster))
    recognised = identity.resolve(PHONE.token(UNIX_S, flags=flags, hint=258), at(UNIX_S))
    assert recognised is not None
    assert recognised.consent == Consent(roster & flags)
    assert (recognised.hint is not None) == bool(roster & flags), "who consents to nothing tells nothing"


@given(flags=st.integers(0, 63))
def test_other_flags_are_no_consent(flags: int) -> None:
    recognised = IDENTITY[0].resolve(PHONE.token(UNIX_S, flags=flags, slot=15), at(UNIX_S))
    assert recognised is not None
    assert recognised.consent == Consent(flags & 3)


@pytest.mark.parametrize(
    ("heard_s", "skew_s", "counts"),
    [
        pytest.param(300, 120, True, id="its first second"),
        pytest.param(359, 120, True, id="its last second"),
        pytest.param(180, 120, True, id="a phone that is the skew ahead"),
        pytest.param(179, 120, False, id="a phone further ahead"),
        pytest.param(480, 120, True, id="a minute and the skew old"),
        pytest.param(481, 120, False, id="older"),
        pytest.param(390, 30, True, id="smaller skew, in time"),
        pytest.param(391, 30, False, id="smaller skew, too late"),
    ],
)
def test_a_hint_counts_while_it_is_fresh(heard_s: int, skew_s: int, counts: bool) -> None:
    identity = identity_for(PHONES, UNIX_S + heard_s, skew_s=skew_s)
    recognised = identity.resolve(PHONE.token(UNIX_S, slot=5, bucket=9, hint=258), at(UNIX_S + heard_s))
    assert recognised is not None
    assert (recognised.hint is not None) == counts
    if recognised.hint is not None:
        assert (recognised.hint.short_id, recognised.hint.rssi_dbm) == (258, rssi_of_bucket(9))
        assert recognised.hint.minute == UNIX_S // 60 + 5


@pytest.mark.parametrize(
    ("hint", "slot", "flags"),
    [
        pytest.param(0, 5, 3 + 8, id="flag without a beacon"),
        pytest.param(258, 15, 3, id="not refreshed"),
    ],
)
def test_without_beacon_or_minute_there_is_no_hint(hint: int, slot: int, flags: int) -> None:
    recognised = identity_for(PHONES).resolve(PHONE.token(UNIX_S, slot=slot, hint=hint, flags=flags), at(UNIX_S + 300))
    assert recognised is not None
    assert recognised.hint is None


# ---- rosters and deltas -------------------------------------------------------------------------------------------------------


def test_a_delta_is_in_force_at_once() -> None:
    identity, _ = with_counters()
    newcomer = Phone(99)
    assert identity.resolve(newcomer.token(UNIX_S), at(UNIX_S)) is None
    assert identity.apply_delta(DAY, 2, [newcomer.entry(DAY)], [PHONE.name(DAY)]) == [PHONE.name(DAY)]
    assert name_of(identity.resolve(newcomer.token(UNIX_S), at(UNIX_S))) == newcomer.name(DAY)
    assert identity.resolve(PHONE.token(UNIX_S), at(UNIX_S)) is None
    assert not identity.knows(PHONE.token(UNIX_S)[:8])
    assert identity.is_known(newcomer.name(DAY))
    assert not identity.is_known(PHONE.name(DAY))
    roster = identity.roster(DAY)
    assert roster is not None
    assert roster.version == 2
    assert identity.roster_size == len(PHONES)


def test_a_delta_changes_consent_at_once_even_of_a_token_heard_before() -> None:
    identity, _ = with_counters()
    token = PHONE.token(UNIX_S)
    assert identity.resolve(token, at(UNIX_S)) == Recognised(PHONE.name(DAY), BOTH, None)
    identity.apply_delta(DAY, 2, [PHONE.entry(DAY, Consent.ANALYTICS)], [])
    assert identity.resolve(token, at(UNIX_S)) == Recognised(PHONE.name(DAY), Consent.ANALYTICS, None)
    assert identity.consent_of(PHONE.name(DAY)) == Consent.ANALYTICS
    assert identity.consent_of("nobody") is None


def test_who_is_removed_and_added_by_the_same_delta_has_not_left() -> None:
    identity, _ = with_counters()
    assert identity.apply_delta(DAY, 2, [PHONE.entry(DAY)], [PHONE.name(DAY), "0000000000000000"]) == []
    assert identity.resolve(PHONE.token(UNIX_S), at(UNIX_S)) is not None


def test_a_new_key_replaces_the_old_one() -> None:
    identity, _ = with_counters()
    assert identity.resolve(PHONE.token(UNIX_S, slot=9), at(UNIX_S)) is not None
    renewed = Phone(77)
    entry = renewed.entry(DAY)
    same_name = type(entry)(bytes.fromhex(PHONE.name(DAY)), entry.day_key, BOTH)
    identity.apply_delta(DAY, 2, [same_name], [])
    assert identity.resolve(PHONE.token(UNIX_S, slot=10), at(UNIX_S)) is None
    assert name_of(identity.resolve(renewed.token(UNIX_S, slot=0), at(UNIX_S))) == PHONE.name(DAY), "its slots begin anew"


def test_a_new_roster_names_who_is_gone() -> None:
    identity, _ = with_counters()
    gone = identity.put_in_force(roster_of(PHONES[2:], DAY, [WINDOW], version=2))
    assert sorted(gone) == sorted(phone.name(DAY) for phone in PHONES[:2])
    assert identity.resolve(PHONE.token(UNIX_S), at(UNIX_S)) is None
    assert identity.resolve(PHONES[2].token(UNIX_S), at(UNIX_S)) is not None


changes = st.lists(st.tuples(st.sampled_from(["in", "out", "slice"]), st.integers(0, 9)), max_size=30)


@given(changes=changes, budget=st.integers(1, 7))
def test_any_order_of_deltas_and_slices_ends_with_the_right_people(changes: list[tuple[str, int]], budget: int) -> None:
    """Deltas that meet a half-built table must neither be lost nor bring somebody back, nor keep it from being finished."""
    phones = [Phone(seed) for seed in range(10)]
    names = {phone.name(DAY): phone for phone in phones}
    identity = Identity(0, 120, Counters())
    identity.put_in_force(roster_of(phones[:5], DAY, []))
    inside = {phone.name(DAY) for phone in phones[:5]}
    for version, (change, number) in enumerate(changes, start=2):
        name = phones[number].name(DAY)
        if change == "slice":
            identity.prepare(UNIX_S * 1000, budget)
        elif change == "in":
            identity.apply_delta(DAY, version, [phones[number].entry(DAY)], [])
            inside.add(name)
        else:
            assert identity.apply_delta(DAY, version, [], [name]) == ([name] if name in inside else [])
            inside.discard(name)
    prepared(identity, UNIX_S * 1000, budget)
    for name, phone in names.items():
        assert identity.is_known(name) == (name in inside)
        for heard_s, window in [(UNIX_S, WINDOW - 1), (UNIX_S, WINDOW), (UNIX_S + 899, WINDOW + 1)]:
            token = phone.token(UNIX_S, window=window)
            assert identity.knows(token[:8]) == (name in inside)
            assert name_of(identity.resolve(token, at(heard_s))) == (name if name in inside else None)


def test_deltas_in_every_slice_do_not_keep_a_table_from_being_finished() -> None:
    identity = Identity(0, 120, Counters())
    phones = [Phone(seed) for seed in range(1, 61)]
    identity.put_in_force(roster_of(phones, DAY, [WINDOW]))
    late = Phone(1000)
    for version in range(2, 20):
        identity.prepare(UNIX_S * 1000, budget=10)
        identity.apply_delta(DAY, version, [late.entry(DAY)], [])
    assert all(identity.resolve(phone.token(UNIX_S, window=WINDOW + 1), at(UNIX_S + 899)) for phone in [*phones, late])


# ---- prepare ------------------------------------------------------------------------------------------------------------------


def test_prepare_builds_in_slices_and_says_while_the_current_window_is_incomplete() -> None:
    identity = Identity(0, 120, Counters())
    phones = [Phone(seed) for seed in range(1, 26)]
    identity.put_in_force(roster_of(phones, DAY, []))
    wall_ms = UNIX_S * 1000
    more = [identity.prepare(wall_ms, budget=10) for _ in range(10)]
    assert more == [True, True] + [False] * 8
    roster = identity.roster(DAY)
    assert roster is not None
    assert {window: len(table) for window, table in roster.tables.items()} == dict.fromkeys([WINDOW - 1, WINDOW, WINDOW + 1], 25)
    assert entries_held_by(identity._building) == 0


@given(steps=st.lists(st.integers(-3 * WINDOW_S, 30 * WINDOW_S), min_size=1, max_size=15), budget=st.integers(1, 4))
@settings(max_examples=60)
def test_there_are_never_more_than_three_tables_and_the_current_one_gets_whole(steps: list[int], budget: int) -> None:
    identity = Identity(3600, 120, Counters())
    phones = [Phone(seed, day_start_s=3600) for seed in range(1, 6)]
    unix_s = UNIX_S
    for step_s in steps:
        unix_s += step_s
        today = identity.day_at(unix_s * 1000)
        for day in (today, today + 1):
            if identity.roster(day) is None:
                identity.put_in_force(roster_of(phones, day, []))
        for _ in range(20):
            assert sum(len(roster.tables) for roster in rosters(identity, unix_s * 1000)) <= 3
            if not identity.prepare(unix_s * 1000, budget):
                break
        else:
            pytest.fail("the current window was never finished")
        assert all(identity.knows(phone.token(unix_s)[:8]) for phone in phones)


@pytest.mark.parametrize(
    ("after_s", "kept"),
    [(0, True), (120, True), (WINDOW_S, True), (7200 - 1, False), (7200, False), (86_400, False)],
)
@pytest.mark.parametrize("day_start_s", [0, 14_400])
def test_a_past_day_is_kept_for_the_skew_and_gone_within_two_hours(after_s: int, kept: bool, day_start_s: int) -> None:
    over_s = (DAY + 1) * 86_400 + day_start_s
    identity = Identity(day_start_s, 120, Counters())
    identity.put_in_force(roster_of(PHONES, DAY, []))
    identity.put_in_force(roster_of(PHONES, DAY + 1, []))
    identity.prepare((over_s - 1) * 1000)
    identity.prepare((over_s + after_s) * 1000)
    assert (identity.roster(DAY) is not None) == kept
    assert identity.is_known(PHONE.name(DAY)) == kept
    assert (identity.roster(DAY + 1) is not None) == (after_s < 86_400 + 7200)


def run_days(identity: Identity, days: Iterable[int]) -> int:
    """Whole days with their rosters, forgeries and strangers; returns how much is held at the end."""
    for day in days:
        identity.put_in_force(roster_of(PHONES, day, []))
        for window in range(day * DAY_WINDOWS, (day + 1) * DAY_WINDOWS, 7):
            unix_s = window * WINDOW_S
            prepared(identity, unix_s * 1000)
            for phone in PHONES:
                for slot in range(3):
                    identity.resolve(phone.token(unix_s, slot=slot), at(unix_s + 60 * slot))
                identity.resolve(forged(phone.token(unix_s), 1), at(unix_s))
                identity.resolve(Phone(500).token(unix_s), at(unix_s))
    return entries_held_by(identity)


def test_weeks_leave_no_more_behind_than_days() -> None:
    identity = Identity(0, 120, Counters())
    after_days = run_days(identity, range(DAY, DAY + 2))
    assert run_days(identity, range(DAY + 2, DAY + 12)) == after_days


def test_what_is_remembered_of_good_tokens_is_bounded() -> None:
    identity, _ = with_counters()
    identity.prepare(UNIX_S * 1000)
    before = entries_held_by(identity)
    for hint in range(1, 8500):
        assert identity.resolve(PHONE.token(UNIX_S, hint=hint), at(UNIX_S)) is not None
    assert entries_held_by(identity) <= before + 8192


def test_one_who_repeats_a_good_token_with_everything_changed_fills_no_table() -> None:
    identity, _ = with_counters()
    identity.prepare(UNIX_S * 1000)
    before = entries_held_by(identity)
    for number in range(5000):
        identity.resolve(forged(PHONE.token(UNIX_S), number), at(UNIX_S))
    assert entries_held_by(identity) <= before + 1


# ---- the technician's test shoppers -------------------------------------------------------------------------------------------


def own(identity: Identity, phones: list[Phone], day: int = DAY) -> list[str]:
    return identity.use_own(day, [phone.entry(day, Consent.OFFERS) for phone in phones], UNIX_S * 1000)


def heard(identity: Identity, phone: Phone) -> Recognised | None:
    return identity.resolve(phone.token(UNIX_S + 60), at(UNIX_S + 60))


def test_a_test_shopper_is_recognised_without_any_roster_of_centrals() -> None:
    identity = Identity(0, 120, Counters())
    identity.prepare(UNIX_S * 1000)
    assert own(identity, [PHONE]) == []
    assert name_of(heard(identity, PHONE)) == PHONE.name(DAY)
    assert identity.is_own(PHONE.name(DAY))
    assert identity.roster_size == 0
    assert not identity.has_left("somebody of yesterday", UNIX_S * 1000), "nobody has left a roster that central never sent"
    assert own(identity, []) == [PHONE.name(DAY)]
    assert heard(identity, PHONE) is None


def test_a_test_shopper_survives_every_new_roster_and_every_delta() -> None:
    identity = identity_for(PHONES[1:])
    own(identity, [PHONE])
    identity.put_in_force(roster_of(PHONES[2:], DAY, identity.windows_around(UNIX_S * 1000, DAY), version=2))
    assert identity.apply_delta(DAY, 3, [PHONES[1].entry(DAY)], [PHONES[2].name(DAY)]) == [PHONES[2].name(DAY)]
    assert [name_of(heard(identity, phone)) is not None for phone in PHONES] == [True, True, False, True, True]


def test_the_shopper_whose_place_a_test_took_is_back_afterwards_as_central_has_it_by_then() -> None:
    identity = identity_for(PHONES)
    own(identity, [PHONE])
    recognised = heard(identity, PHONE)
    assert recognised is not None
    assert recognised.consent == Consent.OFFERS
    assert not identity.is_own(PHONES[1].name(DAY))
    assert identity.apply_delta(DAY, 2, [], [PHONE.name(DAY)]) == [], "the test goes on"
    assert name_of(heard(identity, PHONE)) == PHONE.name(DAY)
    assert own(identity, []) == [PHONE.name(DAY)]
    assert heard(identity, PHONE) is None
    identity = identity_for(PHONES)
    own(identity, [PHONE])
    own(identity, [])
    recognised = heard(identity, PHONE)
    assert recognised is not None
    assert recognised.consent == BOTH


@given(
    st.lists(
        st.tuples(st.sampled_from(["own", "roster", "add", "remove", "prepare"]), st.sets(st.integers(0, 4))),
        max_size=12,
    )
)
def test_whatever_the_order_those_are_known_who_are_in_the_roster_or_under_test(changes: list[tuple[str, set[int]]]) -> None:
    identity = identity_for([])
    version, central, testing = 1, set[int](), set[int]()
    for change, who in changes:
        phones = [PHONES[index] for index in sorted(who)]
        match change:
            case "own":
                own(identity, phones)
                testing = who
            case "roster":
                version += 1
                identity.put_in_force(roster_of(phones, DAY, identity.windows_around(UNIX_S * 1000, DAY), version=version))
                central = who
            case "add":
                version += 1
                identity.apply_delta(DAY, version, [phone.entry(DAY) for phone in phones], [])
                central = central | who
            case "remove":
                version += 1
                identity.apply_delta(DAY, version, [], [phone.name(DAY) for phone in phones])
                central = central - who
            case "prepare":
                prepared(identity, UNIX_S * 1000, budget=2)
    prepared(identity, UNIX_S * 1000)
    for index, phone in enumerate(PHONES):
        recognised = heard(identity, phone)
        assert (recognised is not None) == (index in central | testing)
        if recognised is not None:
            assert recognised.consent == (Consent.OFFERS if index in testing else BOTH)
        assert identity.is_own(phone.name(DAY)) == (index in testing)
    assert identity.roster_size == len(central)


def test_test_shoppers_of_past_days_leave_nothing_behind() -> None:
    def after(days: int) -> int:
        identity = Identity(0, 120, Counters())
        for day in range(days):
            now_ms = (UNIX_S + day * 86_400) * 1000
            identity.prepare(now_ms)
            for which in (DAY + day, DAY + day + 1):
                identity.use_own(which, [PHONE.entry(which, Consent.OFFERS)], now_ms)
        return entries_held_by(identity)

    assert after(40) == after(3)
