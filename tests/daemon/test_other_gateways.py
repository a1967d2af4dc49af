"""What other gateways tell the deciding one: whatever comes late, twice, in disorder or from the wrong one does no harm."""

import logging
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.contract.messages import GatewayStatusData, read
from gateway.contract.relayed import GatewaySighting
from gateway.contract.settings import Settings
from gateway.core.model import ClockQuality, Entered, Instant
from gateway.core.pipeline import TICK_MS
from gateway.core.relay import MAX_AGE_MS, Relay
from gateway.daemon.heard_rates import HeardRates
from gateway.daemon.other_gateways import SILENCE_MS, OtherGateways
from tests.core.test_pipeline import ANNA, ANNAS, DAY, Store

SETTINGS = Settings.model_validate(
    {
        "store": "demo",
        "store_number": 4711,
        "gateway": "pi-1",
        "receivers": [{"name": "r-entrance"}],
        "foreign_receivers": [{"name": "ceiling", "kind": "raddec", "receivers": {"0a": "r-cellar"}}],
    }
)


class Clock:
    """The store's time."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def now(self) -> Instant:
        return self._store.now

    def quality(self) -> ClockQuality:
        return ClockQuality.SYNCHRONISED

    async def sleep_ms(self, duration_ms: int) -> None:
        raise AssertionError("nothing waits here")


@dataclass
class Scene:
    """The deciding gateway, to which pi-2 sends; ``boot_ms``: pi-2's monotonic clock at the beginning."""

    store: Store = field(default_factory=lambda: Store(phones=[ANNA]))
    boot_ms: int = 5_000_000
    calendar_off_ms: int = 0

    def __post_init__(self) -> None:
        self.rates = HeardRates()
        self.others = OtherGateways(SETTINGS, self.store.pipeline, self.rates, Clock(self.store), lambda *_: None)
        self.others.listen(True)
        self._began_ms = self.store.now.mono_ms
        self._seq = 0

    def message(self, rssi_dbm: int = -50, **data: Any) -> GatewaySighting:
        """What pi-2 says now: it has heard anna in the dairy."""
        self._seq += 1
        sighting = {"shopper": ANNAS, "receiver": "r-dairy", "rssi_dbm": rssi_dbm, "age_ms": 0, "consent": 3}
        return GatewaySighting.model_validate(
            {
                "id": f"m{self._seq}",
                "source": "stores/demo/gateways/pi-2",
                "time": self.store.now.wall_ms + self.calendar_off_ms,
                "data": {
                    "session": "aa",
                    "seq": self._seq,
                    "sent_ms": self.boot_ms + self.store.now.mono_ms - self._began_ms,
                    "receivers": [{"name": "r-dairy", "state": "hearing", "heard": 10 * self._seq}],
                    "sightings": [sighting],
                    **data,
                },
            }
        )

    def hear(self, message: GatewaySighting, gateway: str = "pi-2") -> None:
        """It arrives, over the wire."""
        self.others.take_sighting(gateway, read(GatewaySighting, message.to_json(), "sighting"))

    def pass_time(self, duration_ms: int) -> None:
        for _ in range(duration_ms // TICK_MS):
            self.store.now = self.store.now.plus(TICK_MS)
            self.store.tick()

    @property
    def sightings(self) -> int:
        return self.store.pipeline.counters.sightings

    @property
    def rejects(self) -> dict[str, int]:
        return self.store.pipeline.counters.rejects

    def condition(self) -> tuple[str, str | None]:
        """Of its only receiver: state and trouble."""
        (found,) = self.others.conditions()
        return found.state, found.trouble


def test_what_another_gateway_hears_makes_the_shopper_enter() -> None:
    scene = Scene()
    for _ in range(20):
        scene.hear(scene.message())
        scene.pass_time(TICK_MS)
    assert [event.zone for event in scene.store.events if isinstance(event, Entered)] == ["dairy"]
    assert scene.condition() == ("hearing", None)
    assert scene.rates.counts == {"r-dairy": 190}
    assert scene.rejects == {}


def one_sighting(**changes: Any) -> dict[str, Any]:
    whole = {"shopper": ANNAS, "receiver": "r-dairy", "rssi_dbm": -50, "age_ms": 0, "consent": 3, **changes}
    return {"sightings": [whole]}


def one_level(**changes: Any) -> dict[str, Any]:
    whole = {"beacon": "b-wine", "receiver": "r-dairy", "rssi_dbm": -60, "age_ms": 0, "count": 1, **changes}
    return {"sightings": [], "levels": [whole]}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (one_sighting(shopper="00" * 8), "unknown-shopper"),
        (one_sighting(receiver="r-wine"), "unknown-receiver"),  # one that it does not have
        (one_sighting(receiver="nowhere"), "unknown-receiver"),
        (one_sighting(age_ms=MAX_AGE_MS + 1), "late"),
        (
            {**one_sighting(receiver="r-entrance"), "receivers": [{"name": "r-entrance", "state": "hearing", "heard": 1}]},
            "unknown-receiver",  # an adapter of ours
        ),
        (
            {**one_sighting(receiver="r-cellar"), "receivers": [{"name": "r-cellar", "state": "hearing", "heard": 1}]},
            "unknown-receiver",  # a foreign receiver of ours
        ),
        (
            {**one_sighting(receiver="b-dairy"), "receivers": [{"name": "b-dairy", "state": "hearing", "heard": 1}]},
            "unknown-receiver",  # a beacon
        ),
        (one_level(beacon="r-wine"), "unknown-receiver"),
        (one_level(receiver="r-wine"), "unknown-receiver"),
        (one_level(age_ms=MAX_AGE_MS + 1), "late"),
    ],
)
def test_what_is_not_plausible_is_dropped_and_counted(data: dict[str, Any], reason: str) -> None:
    scene = Scene()
    scene.hear(scene.message(**data))
    assert scene.sightings == 0
    assert scene.store.pipeline.counters.beacons == 0
    assert scene.rejects == {f"gateway.{reason}": 1}


def test_levels_of_beacons_are_heard_as_often_as_they_were() -> None:
    scene = Scene()
    level = {"beacon": "b-wine", "receiver": "r-dairy", "rssi_dbm": -60, "age_ms": 40, "count": 7}
    scene.hear(scene.message(sightings=[], levels=[level]))
    assert scene.store.pipeline.counters.beacons == 7
    (beacon,) = (one for one in scene.store.pipeline.canaries.health().beacons if one.name == "b-wine")
    assert [(link.receiver, link.heard_ms) for link in beacon.links] == [("r-dairy", scene.store.now.mono_ms - 40)]


@pytest.mark.parametrize("off_ms", [-10 * 86_400_000, -121_000, 121_000, 10 * 86_400_000])
def test_a_gateway_whose_calendar_is_wrong_recognises_nobody_for_us_and_is_deaf(off_ms: int) -> None:
    scene = Scene(calendar_off_ms=off_ms)
    scene.hear(scene.message())
    assert scene.sightings == 0
    assert scene.rejects == {"gateway.clock": 1}
    state, trouble = scene.condition()
    assert state == "deaf"
    assert f"is off by {off_ms // 1000} s" in (trouble or "")


@pytest.mark.parametrize("boot_ms", [0, 5_000_000, 2**50])
def test_its_own_clock_may_show_whatever_it_likes(boot_ms: int) -> None:
    scene = Scene(boot_ms=boot_ms)
    for _ in range(3):
        scene.hear(scene.message())
        scene.pass_time(400)
    assert (scene.sightings, scene.rejects) == (3, {})


def test_what_was_held_up_on_the_way_is_late() -> None:
    """A broker that was frozen lets a minute's messages go at once."""
    scene = Scene()
    scene.hear(scene.message())
    held = []
    for _ in range(60):
        scene.pass_time(1000)
        held.append(scene.message())
    for message in held:
        scene.hear(message)
    # The last five seconds' are no older than what is taken; the sightings of the rest are counted, not used.
    assert scene.rejects["gateway.late"] == 60 - 6
    assert scene.sightings == 1 + 6


def test_a_restarted_gateway_is_believed_at_once_and_its_old_life_no_more_than_before() -> None:
    scene = Scene()
    old = [scene.message() for _ in range(3)]
    for message in old:
        scene.hear(message)
    scene.hear(scene.message(session="bb", seq=1, sent_ms=17))
    for message in old:
        scene.hear(message)
    assert scene.sightings == 4
    assert scene.rejects == {"gateway.duplicate": 3}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_in_whatever_order_batches_come_each_counts_once(order: list[int]) -> None:
    scene = Scene()
    messages = [scene.message(-50 - number) for number in range(10)]
    for which in order:
        scene.hear(messages[which])
    assert scene.sightings == len(set(order))
    assert scene.rejects.get("gateway.duplicate", 0) == len(order) - len(set(order))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39), st.integers(1, 3)), max_size=40))
def test_copies_that_come_later_change_nothing(copies: list[tuple[int, int, int]]) -> None:
    """A shopper comes and stays; beside the batches in order, copies of past ones come in between, sooner or later."""
    alone, disturbed = Scene(), Scene()
    sent = []
    for number in range(40):
        alone.hear(alone.message(-50 - number % 3))
        sent.append(disturbed.message(-50 - number % 3))
        disturbed.hear(sent[-1])
        for when, which, times in copies:
            if when == number:
                for _ in range(times):
                    disturbed.hear(sent[min(which, number)])
        for scene in (alone, disturbed):
            scene.pass_time(TICK_MS)
    assert disturbed.store.story == alone.store.story
    assert disturbed.sightings == alone.sightings == 40


# ---- who is there -------------------------------------------------------------------------------------------------------------


def status(state: str, *receivers: str) -> GatewayStatusData:
    return GatewayStatusData.model_validate({"state": state, "receivers": receivers or None})


def test_its_life_as_a_receiver() -> None:
    scene = Scene()
    scene.others.take_status("pi-2", status("online", "r-dairy"))
    assert scene.condition() == ("starting", None)
    scene.hear(scene.message())
    assert scene.condition() == ("hearing", None)
    scene.pass_time(SILENCE_MS)
    state, trouble = scene.condition()
    assert (state, trouble) == (
        "deaf",
        "gateway pi-2 has told nothing for 10 s: gateway status there says whether it receives.",
    )
    scene.hear(scene.message(receivers=[{"name": "r-dairy", "state": "deaf", "heard": 10, "trouble": "no\x1b adapter."}]))
    assert scene.condition() == ("deaf", "at gateway pi-2: no\\x1b adapter.")
    scene.hear(scene.message())
    scene.others.take_status("pi-2", status("offline", "r-dairy"))
    assert scene.condition() == (
        "deaf",
        "the broker says that gateway pi-2 is offline: check its power and its network.",
    )
    assert scene.others.is_online("pi-2") is False
    scene.hear(scene.message())
    assert scene.condition() == ("hearing", None), "who speaks is there"


def test_one_that_was_dead_before_we_came_is_known_by_its_will() -> None:
    scene = Scene()
    scene.others.take_status("pi-2", status("offline", "r-dairy", "unheard-of"))
    assert [(one.receiver, one.state, one.gateway) for one in scene.others.conditions()] == [("r-dairy", "deaf", "pi-2")], (
        "what was taken out of the shop is not missed"
    )
    assert scene.others.claims() == {"r-dairy", "unheard-of"}


def test_who_only_receives_looks_at_nobody() -> None:
    scene = Scene()
    scene.others.listen(False)
    scene.others.take_status("pi-2", status("online", "r-dairy"))
    scene.hear(scene.message())
    assert (scene.sightings, scene.others.conditions()) == (0, [])


@pytest.mark.parametrize("first_knows", [True, False])
@pytest.mark.parametrize("second_knows", [True, False])
def test_a_test_shopper_is_followed_past_the_receivers_of_a_gateway_that_knows_it_too(
    second_knows: bool, first_knows: bool
) -> None:
    """Nothing travels with it: the technician adds it, with the same key, to both."""
    first, second = Scene(Store(phones=[])), Store(phones=[])
    for store, knows in ((first.store, first_knows), (second, second_knows)):
        if knows:
            store.pipeline.use_test_shoppers(DAY, [ANNA.entry(DAY)], store.now.wall_ms)
        store.tick()
    relay = Relay()
    second.pipeline.receive_for_another(relay)
    for _ in range(20):
        second.now = first.store.now
        second.hear(ANNA, {"r-dairy": -50})
        told = relay.take(second.now.mono_ms).sightings
        sightings = [
            {"shopper": one.told.shopper, "receiver": one.receiver, "rssi_dbm": one.rssi_dbm, "age_ms": 0, "consent": 3}
            for one in told
        ]
        first.hear(first.message(sightings=sightings))
        first.pass_time(TICK_MS)
    entered = [
        (outcome.event.zone, first.store.pipeline.identity.is_own(outcome.event.shopper))
        for outcome in first.store.outcomes
        if isinstance(outcome.event, Entered)
    ]
    assert entered == ([("dairy", True)] if first_knows and second_knows else [])


def test_the_log_names_nobody(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    scene = Scene()
    scene.hear(scene.message(**one_sighting(shopper="00" * 8)))
    scene.hear(scene.message())
    assert "00" * 8 not in caplog.text
    assert ANNAS not in caplog.text
