"""The whole shop: repeatable, true, and silent about those who are not there."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import token
from gateway.core.frames import Decoder
from gateway.core.model import Consent, IBeacon, ShopperToken
from gateway.simulator.plan_file import demo_floor_plan
from gateway.simulator.radio import Heard
from gateway.simulator.store import SimulatedShopper, StoreInABox

PLAN = demo_floor_plan()
STORE = 4711
START_MS = 1_790_000_437_000
BEACON_UUID = bytes(range(16))
UUID16, COMPANY = 0xFFF0, 0xFFFE
MINUTES_5 = 300_000
SKEW_MS = 2_000
"""Simulated phones' clocks are wrong by no more."""


def make(
    *, seed: int = 1, shoppers: int = 6, strangers: int = 0, within_ms: int = MINUTES_5, start_wall_ms: int = START_MS
) -> StoreInABox:
    return StoreInABox(
        PLAN,
        seed=seed,
        shoppers=shoppers,
        strangers=strangers,
        start_wall_ms=start_wall_ms,
        store_number=STORE,
        day_start_s=0,
        beacon_uuid=BEACON_UUID,
        arrivals_within_ms=within_ms,
        service_uuid16=UUID16,
    )


def rows(heard: list[Heard]) -> list[tuple[str, str, int, bytes, int]]:
    return [(h.receiver, h.address, h.rssi_dbm, h.data, h.at_ms) for h in heard]


class Resolver:
    """Whose token is it: every shopper's identifiers for the windows of a run."""

    def __init__(self, shoppers: tuple[SimulatedShopper, ...], until_ms: int) -> None:
        self._decoder = Decoder(UUID16, COMPANY)
        self._known: dict[bytes, tuple[str, token.Subkeys, int]] = {}
        first, last = (token.window_of((START_MS + at_ms) / 1000) for at_ms in (-SKEW_MS, until_ms + SKEW_MS))
        for shopper in shoppers:
            for window in range(first, last + 1):
                subkeys = token.derive_subkeys(token.derive_day_key(shopper.ku, STORE, token.day_of(window, 0)))
                self._known[token.ephemeral_identifier(subkeys.ek, window)] = (shopper.name, subkeys, window)

    def resolve(self, heard: Heard) -> tuple[str, token.TokenPayload] | None:
        frame = self._decoder.decode(heard.data)
        if not isinstance(frame, ShopperToken) or frame.token[:8] not in self._known:
            return None
        name, subkeys, window = self._known[frame.token[:8]]
        payload = token.open_token(subkeys, window, frame.token)
        assert payload is not None
        return name, payload


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(), cuts=st.lists(st.integers(0, 30_000), max_size=10))
def test_a_seed_gives_one_run_however_time_is_cut(seed: int, cuts: list[int]) -> None:
    whole = make(seed=seed, strangers=10).advance(30_000)
    shop = make(seed=seed, strangers=10)
    pieces = [heard for until_ms in [*sorted(cuts), 30_000] for heard in shop.advance(until_ms)]
    assert rows(pieces) == rows(whole)
    assert [heard.at_ms for heard in whole] == sorted(heard.at_ms for heard in whole)
    assert whole[0].at_ms >= 0
    assert whole[-1].at_ms < 30_000


def test_another_seed_gives_another_run() -> None:
    assert rows(make(seed=1).advance(20_000)) != rows(make(seed=2).advance(20_000))
    assert make(seed=1).shoppers[0].ku != make(seed=2).shoppers[0].ku


def test_a_shopper_is_heard_exactly_while_in_the_shop() -> None:
    shop = make(strangers=5)
    resolver = Resolver(shop.shoppers, MINUTES_5)
    times: dict[str, list[int]] = {}
    for heard in shop.advance(MINUTES_5 + 60_000):
        found = resolver.resolve(heard)
        if found is not None:
            times.setdefault(found[0], []).append(heard.at_ms)
    for shopper in shop.shoppers:
        if shopper.enrolled:
            assert shopper.arrives_ms <= times[shopper.name][0] <= shopper.arrives_ms + 1_500
            assert shopper.leaves_ms - 1_500 <= times[shopper.name][-1] < shopper.leaves_ms
        else:
            assert shopper.name not in times


def test_tokens_carry_each_shoppers_own_consent_and_a_beacon_of_the_shop() -> None:
    shop = make()
    resolver = Resolver(shop.shoppers, MINUTES_5)
    consents = {shopper.name: shopper.consent for shopper in shop.shoppers}
    short_ids = {beacon.minor for beacon in PLAN.beacons}
    found = [found for heard in shop.advance(MINUTES_5) if (found := resolver.resolve(heard)) is not None]
    assert {name for name, _ in found} == {"Anna", "Bülent", "Chiara", "Emre", "Fatou"}
    for name, payload in found:
        assert payload.flags & 0b11 == consents[name]
        assert payload.hint in short_ids


def test_one_shopper_wants_no_offers_and_one_never_consented() -> None:
    shoppers = make(shoppers=30).shoppers
    assert [s.name for s in shoppers if s.consent == Consent.ANALYTICS] == ["Bülent"]
    assert [s.name for s in shoppers if not s.enrolled] == ["Dora"]
    for values in ({s.name for s in shoppers}, {s.ku for s in shoppers}, {s.inbox for s in shoppers}):
        assert len(values) == 30


def test_strangers_never_collide_with_tokens() -> None:
    shop = make(shoppers=0, strangers=40)
    resolver = Resolver(make(shoppers=50).shoppers, 60_000)
    heard = shop.advance(60_000)
    assert {h.receiver for h in heard} == {receiver.name for receiver in PLAN.receivers}
    assert all(resolver.resolve(h) is None for h in heard)


def test_strangers_change_nothing_for_shoppers_but_for_collisions() -> None:
    alone, crowded = make(), make(strangers=20)
    assert alone.shoppers == crowded.shoppers
    undisturbed, disturbed = set(rows(alone.advance(60_000))), set(rows(crowded.advance(60_000)))
    assert 0.8 < len(undisturbed & disturbed) / len(undisturbed) < 1


def test_an_empty_shop_still_has_its_beacons() -> None:
    decoder = Decoder()
    frames = [decoder.decode(heard.data) for heard in make(shoppers=0).advance(10_000)]
    beacons = {frame.minor for frame in frames if isinstance(frame, IBeacon) and frame.uuid == BEACON_UUID}
    assert len(frames) > 200
    assert beacons == {beacon.minor for beacon in PLAN.beacons}


def test_mean_level_falls_with_distance_from_the_receiver() -> None:
    shop = make(shoppers=12)
    resolver = Resolver(shop.shoppers, MINUTES_5)
    receivers = {receiver.name: receiver.at for receiver in PLAN.receivers}
    levels: dict[int, list[int]] = {0: [], 1: [], 2: [], 3: []}
    for heard in shop.advance(MINUTES_5):
        found = resolver.resolve(heard)
        if found is not None:
            place = shop.true_place(found[0], heard.at_ms)
            assert place is not None
            levels[min(3, int(place.distance_to(receivers[heard.receiver]) / 4))].append(heard.rssi_dbm)
    means = [sum(of_ring) / len(of_ring) for of_ring in levels.values()]
    assert means == sorted(means, reverse=True)
    assert means[0] - means[3] > 10
    assert all(-105 <= rssi_dbm < -20 for of_ring in levels.values() for rssi_dbm in of_ring)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(), shoppers=st.integers(0, 8), data=st.data())
def test_the_truth_agrees_with_the_places(seed: int, shoppers: int, data: st.DataObject) -> None:
    shop = make(seed=seed, shoppers=shoppers)
    assert [stay.entered_ms for stay in shop.truth] == sorted(stay.entered_ms for stay in shop.truth)
    for shopper in shop.shoppers:
        for at_ms in data.draw(st.lists(st.integers(-1_000, MINUTES_5 + 100_000), max_size=20)):
            place = shop.true_place(shopper.name, at_ms)
            zone = None if place is None else PLAN.zone_at(place)
            assert shop.true_zone(shopper.name, at_ms) == zone
            covering = [s for s in shop.truth if s.shopper == shopper.name and s.entered_ms <= at_ms < s.left_ms]
            assert [stay.zone for stay in covering] == ([] if zone is None else [zone])


@pytest.mark.parametrize("seed", range(5))
def test_a_short_run_shows_several_whole_visits_from_the_first_seconds_on(seed: int) -> None:
    shoppers = make(seed=seed).shoppers
    assert shoppers[0].arrives_ms == 2_000
    assert sum(shopper.leaves_ms <= MINUTES_5 for shopper in shoppers) >= 5
    assert sum(shopper.leaves_ms <= MINUTES_5 * 3 // 4 for shopper in shoppers) >= 2


def test_in_a_long_run_people_keep_arriving_and_leave_in_time() -> None:
    hours_4 = 4 * 3_600_000
    shoppers = make(shoppers=80, within_ms=hours_4).shoppers
    arrivals = sorted(shopper.arrives_ms for shopper in shoppers)
    assert max(b - a for a, b in pairwise(arrivals)) <= 3 * hours_4 / 80
    assert all(shopper.leaves_ms <= hours_4 for shopper in shoppers)
    assert arrivals[-1] >= hours_4 * 0.9


def test_time_does_not_run_backwards() -> None:
    shop = make(shoppers=0)
    shop.advance(1_000)
    assert shop.advance(1_000) == []
    assert shop.now_ms == 1_000
    with pytest.raises(ValueError, match="does not run back"):
        shop.advance(999)


@pytest.mark.parametrize(("shoppers", "strangers", "within_ms"), [(-1, 0, 1), (0, -1, 1), (0, 0, 0)])
def test_a_shop_that_cannot_be_is_refused(shoppers: int, strangers: int, within_ms: int) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        make(shoppers=shoppers, strangers=strangers, within_ms=within_ms)
