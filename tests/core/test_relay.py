"""What a receiving gateway keeps for the one that decides: bounded, nothing old; and its pipeline, which decides nothing."""

import pytest

from gateway.core import ad_structures
from gateway.core.frames import ibeacon
from gateway.core.model import Consent, EddystoneTlm, Entered, Hint, IBeacon, Instant, Recognised
from gateway.core.relay import MAX_AGE_MS, MOST_LEVELS, MOST_SIGHTINGS, MOST_TELEMETRY, Batch, Relay
from tests.core.phones import BOTH, Phone
from tests.core.test_pipeline import ADDRESS, ANNA, ANNAS, DAY, MINOR, UUID, Store

TOLD = Recognised("8a4061daf88a329d", BOTH, None)
TLM = EddystoneTlm(2900, 21.0, 100, 10_000)


def test_what_was_collected_is_taken_once() -> None:
    relay = Relay()
    relay.sighted(TOLD, "pi", -60, 1000)
    for rssi_dbm, at_ms in ((-70, 1000), (-73, 1100), (-71, 1050)):
        relay.beacon("b", "pi", rssi_dbm, at_ms)
    relay.telemetry("b", "pi", TLM, 1100)
    batch = relay.take(1200)
    assert [(one.told, one.receiver, one.rssi_dbm, one.at_ms) for one in batch.sightings] == [(TOLD, "pi", -60, 1000)]
    assert [(one.beacon, one.receiver, one.mean_dbm, one.count, one.at_ms) for one in batch.levels] == [("b", "pi", -71, 3, 1100)]
    assert [one.frame for one in batch.telemetry] == [TLM]
    assert not relay.take(1200)
    assert relay.dropped == 0


@pytest.mark.parametrize(("age_ms", "kept"), [(0, True), (MAX_AGE_MS, True), (MAX_AGE_MS + 1, False)])
def test_what_waited_for_too_long_is_dropped_and_counted(age_ms: int, kept: bool) -> None:
    relay = Relay()
    relay.sighted(TOLD, "pi", -60, 1000)
    relay.beacon("b", "pi", -60, 1000)
    relay.telemetry("b", "pi", TLM, 1000)
    batch = relay.take(1000 + age_ms)
    assert (len(batch.sightings), len(batch.levels), len(batch.telemetry)) == ((1, 1, 1) if kept else (0, 0, 0))
    assert relay.dropped == (0 if kept else 3)


def test_it_is_bounded_while_nobody_takes() -> None:
    relay = Relay()
    for number in range(2 * max(MOST_SIGHTINGS, MOST_LEVELS)):
        relay.sighted(TOLD, "pi", -60, 0)
        relay.beacon(f"b{number}", "pi", -60, 0)
        relay.telemetry("b", "pi", TLM, 0)
    batch = relay.take(0)
    assert (len(batch.sightings), len(batch.levels), len(batch.telemetry)) == (MOST_SIGHTINGS, MOST_LEVELS, MOST_TELEMETRY)
    assert relay.dropped == 6000 - MOST_SIGHTINGS - MOST_LEVELS - MOST_TELEMETRY


@pytest.mark.parametrize("rssi_dbm", [-128, 21, 127])
def test_an_rssi_that_no_controller_may_report_is_dropped(rssi_dbm: int) -> None:
    relay = Relay()
    relay.sighted(TOLD, "pi", rssi_dbm, 0)
    relay.beacon("b", "pi", rssi_dbm, 0)
    assert relay.take(0) == Batch()
    assert relay.dropped == 2


# ---- the pipeline -------------------------------------------------------------------------------------------------------------


def receiving(store: Store) -> Relay:
    relay = Relay()
    store.pipeline.receive_for_another(relay)
    return relay


def advertise(store: Store, zone: str, rssi_dbm: int) -> None:
    frame = IBeacon(UUID, 1, MINOR[zone], -59)
    data = ad_structures.encode([ibeacon.encode(frame)])
    store.pipeline.receive("r-dairy", ADDRESS, rssi_dbm, data, store.now)


def test_who_receives_decides_nothing_and_tells_what_it_recognised() -> None:
    store = Store(phones=[ANNA])
    relay = receiving(store)
    store.stay(5, dairy=-50)
    store.hear(Phone(99), {"r-dairy": -50})
    advertise(store, "dairy", -64)
    batch = relay.take(store.now.mono_ms)
    assert {one.told.shopper for one in batch.sightings} == {ANNAS}
    assert [(one.beacon, one.receiver, one.mean_dbm) for one in batch.levels] == [("b-dairy", "r-dairy", -64)]
    assert store.events == []
    assert store.pipeline.shoppers_present == 0


def test_stepping_back_leaves_the_visit_to_whoever_decides() -> None:
    """No exit is told of somebody who is still there."""
    store = Store(phones=[ANNA])
    store.stay(5, dairy=-50)
    before = store.story
    assert store.pipeline.shoppers_present == 1
    receiving(store)
    store.stay(5, dairy=-50)
    store.stay(3600)
    assert store.story == before
    assert store.pipeline.shoppers_present == 0


def test_who_takes_over_sees_who_is_there() -> None:
    store = Store(phones=[ANNA])
    receiving(store)
    store.stay(5, dairy=-50)
    store.pipeline.decide_here()
    store.stay(5, dairy=-50)
    assert [event.zone for event in store.events if isinstance(event, Entered)] == ["dairy"]


def test_an_opt_out_erases_also_where_nobody_decides() -> None:
    store = Store(phones=[ANNA])
    store.stay(5, dairy=-50)
    receiving(store)
    store.pipeline.apply_roster_delta(DAY, 2, [], [ANNAS])
    store.stay(1, dairy=-50)
    assert store.forgotten == [ANNAS]


def test_what_another_gateway_recognised_goes_the_same_way_as_what_we_heard() -> None:
    ears, decider = Store(phones=[ANNA]), Store(phones=[ANNA])
    relay = receiving(ears)
    for _ in range(25):
        ears.hear(ANNA, {"r-dairy": -50})
        for one in relay.take(ears.now.mono_ms).sightings:
            assert decider.pipeline.hear_from_another(one.told, one.receiver, one.rssi_dbm, decider.now)
        for store in (ears, decider):
            store.now = store.now.plus(200)
            store.tick()
    assert [event.zone for event in decider.events if isinstance(event, Entered)] == ["dairy"]


@pytest.mark.parametrize(
    ("shopper", "told", "allowed", "enters"),
    [
        (ANNAS, BOTH, BOTH, BOTH),
        (ANNAS, BOTH, Consent.OFFERS, Consent.OFFERS),
        (ANNAS, Consent.ANALYTICS, BOTH, Consent.ANALYTICS),
        (ANNAS, Consent.ANALYTICS, Consent.OFFERS, None),
        (ANNAS, Consent.NONE, BOTH, None),
    ],
)
def test_the_roster_counts_beside_what_was_told(shopper: str, told: Consent, allowed: Consent, enters: Consent | None) -> None:
    store = Store(phones=[ANNA], consent=allowed)
    for _ in range(25):
        assert store.pipeline.hear_from_another(Recognised(shopper, told, None), "r-dairy", -50, store.now)
        store.now = store.now.plus(200)
        store.tick()
    entered = [event.consent for event in store.events if isinstance(event, Entered)]
    assert entered == ([] if enters is None else [enters])


def test_whom_no_roster_here_names_is_nobody() -> None:
    store = Store(phones=[ANNA])
    assert not store.pipeline.hear_from_another(Recognised("00" * 8, BOTH, None), "r-dairy", -50, store.now)
    store.stay(1)
    assert store.events == []


def test_consent_withdrawn_at_another_gateway_forgets_the_shopper_here() -> None:
    store = Store(phones=[ANNA])
    store.stay(5, dairy=-50)
    store.pipeline.hear_from_another(Recognised(ANNAS, Consent.NONE, None), "r-dairy", -50, store.now)
    store.stay(0.2)
    assert store.forgotten == [ANNAS]


def test_a_hint_is_as_fresh_as_our_own_clock_says() -> None:
    store = Store(phones=[ANNA])
    minute = store.now.wall_ms // 60_000
    for age_min, taken in ((0, True), (-60, False), (60, False)):
        hint = Hint(MINOR["wine"], -55.0, minute + age_min)
        assert (store.pipeline.identity.fresh(hint, store.now.wall_ms // 1000) is not None) is taken


def test_late_news_of_a_shopper_does_not_turn_time_back() -> None:
    """A batch that came behind a newer one: heard at the door two seconds ago, in the dairy since."""
    store = Store(phones=[ANNA])
    store.stay(5, dairy=-50)
    for _ in range(3):
        store.pipeline.hear_from_another(Recognised(ANNAS, BOTH, None), "r-dairy", -52, Instant(*store.now).plus(-2000))
    store.stay(2, dairy=-50)
    assert [event.zone for event in store.events if isinstance(event, Entered)] == ["dairy"]
