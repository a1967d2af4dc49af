"""The app: tokens that open with the shopper's keys, fresh each minute, in the form that the chain can send."""

import random
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import token
from gateway.core.frames import Decoder
from gateway.core.model import Consent, ShopperToken
from gateway.simulator.floor_plan import Point
from gateway.simulator.phone import Chain, ShopperPhone, draw_handset
from gateway.simulator.plan_file import demo_floor_plan
from gateway.simulator.radio import Air, Propagation, RadioPaths
from gateway.simulator.walkers import Whereabouts

PLAN = demo_floor_plan()
AIR = Air(PLAN, Propagation(place_db=0.0), random.Random(1))
KU = bytes(range(32))
STORE = 4711
UUID16, COMPANY = 0xFFF0, 0xFFFE
AT_WINE = Whereabouts(Point(22.0, 12.5), 0.0)


def _phone(
    system: Literal["ios", "android"], chain: Chain, *, start_wall_ms: int, consent: Consent = Consent.OFFERS, seed: int = 1
) -> tuple[ShopperPhone, int]:
    """The phone, and by how many milliseconds its clock is ahead."""
    rng = random.Random(seed)
    handset = draw_handset(chain, system, rng)
    paths = RadioPaths(AIR, PLAN.beacons, rng)
    phone = ShopperPhone(chain, handset, ku=KU, consent=consent, start_wall_ms=start_wall_ms, beacon_paths=paths, rng=rng)
    return phone, handset.clock_error_ms


@pytest.mark.parametrize(
    ("system", "chain", "form"),
    [
        ("ios", Chain(STORE, 0, UUID16, COMPANY), "U"),
        ("android", Chain(STORE, 0), "U"),
        ("android", Chain(STORE, 0, UUID16), "S"),
        ("android", Chain(STORE, 0, None, COMPANY), "M"),
        ("android", Chain(STORE, 0, UUID16, COMPANY), "S"),
    ],
)
def test_the_form_follows_from_system_and_chain(system: Literal["ios", "android"], chain: Chain, form: str) -> None:
    phone, _ = _phone(system, chain, start_wall_ms=1_790_000_437_000)
    _, data = phone.advertisement(0, AT_WINE)
    frame = Decoder(UUID16, COMPANY).decode(data)
    assert isinstance(frame, ShopperToken)
    assert frame.form == form
    assert len(data) <= 31


@settings(max_examples=50, deadline=None)
@given(
    start_s=st.integers(1_700_000_000, 2_000_000_000),
    day_start_s=st.integers(-96, 96).map(lambda quarters: quarters * 900),
    consent=st.sampled_from([Consent.OFFERS, Consent.ANALYTICS, Consent.OFFERS | Consent.ANALYTICS]),
    seed=st.integers(0, 1000),
)
def test_every_token_opens_with_the_keys_of_its_day_and_says_what_is_so(
    start_s: int, day_start_s: int, consent: Consent, seed: int
) -> None:
    phone, ahead_ms = _phone("ios", Chain(STORE, day_start_s), start_wall_ms=1000 * start_s, consent=consent, seed=seed)
    for at_ms in range(0, 2_000_000, 50_000):
        frame = Decoder().decode(phone.advertisement(at_ms, AT_WINE)[1])
        assert isinstance(frame, ShopperToken)
        phone_s = (1000 * start_s + at_ms + ahead_ms) / 1000
        window = token.window_of(phone_s)
        subkeys = token.derive_subkeys(token.derive_day_key(KU, STORE, token.day_of(window, day_start_s)))
        payload = token.open_token(subkeys, window, frame.token)
        assert payload is not None
        assert payload.flags & 0b11 == consent
        assert payload.flags & token.FLAG_FOREGROUND
        assert payload.flags & token.FLAG_HINT
        assert payload.slot == token.slot_of(phone_s)
        assert payload.hint == 106


def test_bytes_change_with_the_minute_and_the_address_with_the_window_or_ten_minutes() -> None:
    phone, ahead_ms = _phone("ios", Chain(STORE, 0), start_wall_ms=900_000 * 2_000_000)
    sent = [(at_ms, *phone.advertisement(at_ms, AT_WINE)) for at_ms in range(0, 1_800_000, 1_000)]
    for (at_ms, address, data), (later_ms, later_address, later_data) in pairwise(sent):
        assert (data != later_data) == ((at_ms + ahead_ms) // 60_000 != (later_ms + ahead_ms) // 60_000)
        if (at_ms + ahead_ms) // 900_000 != (later_ms + ahead_ms) // 900_000:
            assert address != later_address
    assert 4 <= len({address for _, address, _ in sent}) <= 5
