"""The pipeline: advertisement bytes in, decisions out, and nothing kept of those who are no shoppers of ours."""

import random
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import ad_structures
from gateway.core.frames import ibeacon, shopper
from gateway.core.identity import DayRoster
from gateway.core.model import (
    Anchor,
    ClockQuality,
    Consent,
    Dwelled,
    Entered,
    Exited,
    IBeacon,
    Instant,
    Memory,
    OpenVisit,
    Outcome,
    PastOffer,
    PresenceEvent,
    Promotion,
    Shop,
    ShopperToken,
    Sighting,
    Step,
    TimeWindow,
    Verdict,
    VisitEnded,
    VisitStarted,
    Zone,
)
from gateway.core.pipeline import TICK_MS, Pipeline, Tuning
from gateway.core.token import FLAG_ANALYTICS, FLAG_OFFERS
from tests.core.phones import BOTH, UNIX_S, WINDOW, Phone, entries_held_by, form_u, held_by, holders_of, roster_of

START = Instant(7_000_000, UNIX_S * 1000)
SYNCHRONISED, HOLDOVER, UNSYNCHRONISED = ClockQuality.SYNCHRONISED, ClockQuality.HOLDOVER, ClockQuality.UNSYNCHRONISED
ADDRESS = "4f:11:22:33:44:55"
UUID = bytes(range(16))
SERVICE_UUID16 = 0xFFF0

ANNA, ZOE = Phone(1), Phone(2)
DAY = ANNA.day(WINDOW)
ANNAS, ZOES = ANNA.name(DAY), ZOE.name(DAY)

# Entrance – dairy – wine – cellar stand in a row; nobody has said what the office is next to.
ZONES = {
    "entrance": Zone("entrance", neighbours=frozenset({"dairy"})),
    "dairy": Zone("dairy", neighbours=frozenset({"entrance", "wine"})),
    "wine": Zone("wine", neighbours=frozenset({"dairy", "cellar"})),
    "cellar": Zone("cellar", neighbours=frozenset({"wine"})),
    "office": Zone("office"),
}
BEACONS = {
    f"b-{zone}": Anchor(f"b-{zone}", "beacon", zone, uuid=UUID, major=1, minor=minor) for minor, zone in enumerate(ZONES, start=1)
}
MINOR = {zone: BEACONS[f"b-{zone}"].minor or 0 for zone in ZONES}
EVERY_ZONE_HEARS = Shop(ZONES, {f"r-{zone}": Anchor(f"r-{zone}", "receiver", zone) for zone in ZONES} | BEACONS)


def one_pi(*covers: str, zone: str | None = None) -> Shop:
    """A shop with a single receiver and a beacon in each zone."""
    return Shop(ZONES, {"pi": Anchor("pi", "receiver", zone, frozenset(covers)), **BEACONS})


def promotion(promotion_id: str, *zones: str, **changes: Any) -> Promotion:
    return replace(Promotion(promotion_id, "offer", frozenset(zones or {"dairy"}), frozenset()), **changes)


class Store:
    """A pipeline with a roster, its clock, and what it has decided so far."""

    def __init__(
        self,
        shop: Shop = EVERY_ZONE_HEARS,
        *promotions: Promotion,
        phones: Iterable[Phone] = (ANNA, ZOE),
        consent: Consent = BOTH,
        quality: ClockQuality = SYNCHRONISED,
        keeps_phones: bool = True,
    ) -> None:
        numbers = count(1)
        self.now = START
        self.quality = quality
        tuning = Tuning(UTC, keeps_phones=keeps_phones, service_uuid16=SERVICE_UUID16)
        self.new_id: Callable[[], str] = lambda: f"id {next(numbers)}"
        self.pipeline = Pipeline(shop, tuning, self.new_id, self.now)
        windows = self.pipeline.identity.windows_around(self.now.wall_ms, DAY)
        self.pipeline.use_roster(roster_of(list(phones), DAY, windows, consent))
        if promotions:
            self.use(*promotions)
        self.outcomes: list[Outcome] = []
        self.forgotten: list[str] = []
        self.verdicts: list[Verdict] = []
        self.tick()

    def use(self, *promotions: Promotion) -> None:
        self.pipeline.use_catalogue(self.pipeline.compile_catalogue(1, promotions, None, self.now.wall_ms))

    def tick(self) -> Step:
        step = self.pipeline.tick(self.now, self.quality)
        self.outcomes += step.outcomes
        self.forgotten += step.forgotten
        self.verdicts += step.verdicts
        while self.pipeline.identity.prepare(self.now.wall_ms):
            pass
        return step

    def hear(self, phone: Phone, levels_dbm: dict[str, int], **says: Any) -> None:
        """One advertisement of the phone, now, at these receivers."""
        data = form_u(phone.token(self.now.wall_ms // 1000, **says))
        for receiver, rssi_dbm in levels_dbm.items():
            self.pipeline.receive(receiver, ADDRESS, rssi_dbm, data, self.now)

    def stay(self, seconds: float, phone: Phone = ANNA, /, *, says: dict[str, Any] | None = None, **levels_dbm: int) -> None:
        """Time passes in ticks; every tick the phone is heard by the receivers r-<zone> (or by pi) at these levels."""
        levels = {name if name == "pi" else f"r-{name}": dbm for name, dbm in levels_dbm.items()}
        for _ in range(round(seconds * 1000 / TICK_MS)):
            if levels:
                self.hear(phone, levels, **(says or {}))
            self.now = self.now.plus(TICK_MS)
            self.tick()

    @property
    def events(self) -> list[PresenceEvent]:
        return [outcome.event for outcome in self.outcomes]

    @property
    def story(self) -> list[str]:
        return [told(event) for event in self.events]

    def result_of(self, kind: type[Entered | Dwelled] = Entered) -> dict[str, str]:
        """What became of each promotion at the last event of this kind."""
        outcome = next(outcome for outcome in reversed(self.outcomes) if isinstance(outcome.event, kind))
        found = {offer.promotion_id: "offer" for offer in outcome.offers}
        return found | {withheld.promotion_id: withheld.reason.value for withheld in outcome.withheld}


def told(event: PresenceEvent) -> str:
    match event:
        case VisitStarted():
            return "started"
        case Entered():
            return f"entered {event.zone}"
        case Dwelled():
            return f"dwelled {event.zone}"
        case Exited():
            return f"exited {event.zone}: {event.reason}"
        case VisitEnded():
            return "ended"


def test_a_tick_in_parts_decides_the_same_of_everybody() -> None:
    phones = [Phone(seed) for seed in range(1, 8)]
    whole, parts = Store(phones=phones), Store(phones=phones)
    for second in range(8):
        zone = "dairy" if second < 4 else "wine"
        for store in (whole, parts):
            for phone in phones[: 3 + second]:
                store.hear(phone, {f"r-{zone}": -55})
            store.now = store.now.plus(1000)
        whole.tick()
        while parts.pipeline.to_locate:
            left = parts.pipeline.to_locate
            step = parts.pipeline.tick(parts.now, SYNCHRONISED, most=2)
            assert (parts.pipeline.to_locate, len({one.event.shopper for one in step.outcomes}) <= 2) == (max(0, left - 2), True)
            parts.outcomes += step.outcomes
    assert "entered wine" in whole.story
    assert sorted((e.shopper, e.at, told(e)) for e in parts.events) == sorted((e.shopper, e.at, told(e)) for e in whole.events)


# ---- the main road ------------------------------------------------------------------------------------------------------------


def test_from_bytes_to_an_offer() -> None:
    store = Store(EVERY_ZONE_HEARS, promotion("cheese", "dairy"), promotion("riesling", "wine"))
    store.stay(3, dairy=-60, wine=-80)
    assert store.story == ["started", "entered dairy"]
    assert store.events[1].at.mono_ms - START.mono_ms <= 2500
    assert {event.shopper for event in store.events} == {ANNAS}
    started, entered = store.outcomes
    assert (started.offers, started.catalogue_version) == ((), None)
    (offer,) = entered.offers
    assert (offer.promotion_id, offer.shopper, offer.zone, entered.catalogue_version) == ("cheese", ANNAS, "dairy", 1)
    assert store.pipeline.shoppers_present == 1
    assert store.pipeline.decide(Verdict(offer.offer, "granted"))
    assert not store.pipeline.decide(Verdict(offer.offer, "granted"))
    assert store.pipeline.counters.offers == {"matched": 1, "granted": 1}


def test_an_unanswered_offer_becomes_late_without_any_advertisement() -> None:
    store = Store(EVERY_ZONE_HEARS, promotion("cheese", deadline_ms=5000))
    store.stay(2, dairy=-60)
    offer = store.outcomes[-1].offers[0]
    deadline_ms = store.pipeline.next_deadline_ms()
    assert deadline_ms == offer.deadline.mono_ms + 1
    store.now = store.now.plus(deadline_ms - store.now.mono_ms)
    assert store.tick().verdicts == (Verdict(offer.offer, "late", "late"),)
    assert store.pipeline.counters.offers == {"matched": 1, "late": 1}


def test_a_dwell_promotion_announces_its_own_threshold() -> None:
    store = Store(EVERY_ZONE_HEARS, promotion("advice", trigger="dwell", dwell_ms=20_000))
    store.stay(25, dairy=-60)
    assert store.story == ["started", "entered dairy", "dwelled dairy"]
    assert store.result_of(Dwelled) == {"advice": "offer"}


def test_without_a_catalogue_there_is_presence() -> None:
    store = Store()
    store.stay(3, dairy=-60)
    assert [(outcome.catalogue_version, outcome.offers, outcome.withheld) for outcome in store.outcomes] == [(None, (), ())] * 2


@pytest.mark.parametrize("receiver", ["r-unknown", ""])
def test_what_an_unknown_receiver_hears_is_nothing(receiver: str) -> None:
    store = Store()
    for _ in range(20):
        store.hear(ANNA, {receiver: -50})
        store.stay(0.2)
    assert store.outcomes == []
    assert store.pipeline.counters.sightings == 0


def test_next_deadline_asks_for_a_tick_soon_only_when_something_waits() -> None:
    store = Store()
    assert store.pipeline.next_deadline_ms() is None
    store.hear(ANNA, {"r-dairy": -60})
    assert store.pipeline.next_deadline_ms() == store.now.mono_ms + TICK_MS
    store.stay(0.2)
    assert store.pipeline.next_deadline_ms() is None, "one belief makes nothing certain"
    store.stay(2, dairy=-60)
    heard_ms = store.now.mono_ms - TICK_MS
    deadline_ms = store.pipeline.next_deadline_ms()
    assert deadline_ms is not None
    assert heard_ms < deadline_ms <= heard_ms + 1_000 + TICK_MS, "a calm belief is repeated once a second"
    store.stay(1)
    assert store.pipeline.next_deadline_ms() == heard_ms + 120_000


def test_a_new_shop_is_used_at_once() -> None:
    store = Store()
    store.stay(3, dairy=-60)
    swapped = {name: replace(anchor, zone="wine" if anchor.zone == "dairy" else anchor.zone) for name, anchor in
               EVERY_ZONE_HEARS.anchors.items()}  # fmt: skip
    store.pipeline.use_shop(Shop(ZONES, swapped), store.now.wall_ms)
    store.stay(3, dairy=-60)
    assert store.story == ["started", "entered dairy", "exited dairy: moved", "entered wine"]


# ---- beacons and rejects ------------------------------------------------------------------------------------------------------


def advertised(beacon: IBeacon) -> bytes:
    return ad_structures.encode([ibeacon.encode(beacon)])


ALTBEACON = bytes.fromhex("1bff1801beac" + "11" * 20 + "c500")
EDDYSTONE_UID = bytes.fromhex("0303aafe1516aafe00e7" + "22" * 16 + "0000")


@pytest.mark.parametrize(
    ("data", "counted"),
    [
        pytest.param(advertised(IBeacon(UUID, 1, MINOR["dairy"], -59)), {"beacons": 1}, id="registered"),
        pytest.param(advertised(IBeacon(UUID, 2, MINOR["dairy"], -59)), {"strangers": 1}, id="another major"),
        pytest.param(advertised(IBeacon(bytes(16), 1, MINOR["dairy"], -59)), {"strangers": 1}, id="another UUID"),
        pytest.param(bytes.fromhex("06ff4c0002150001"), {"rejects": {"ibeacon.length": 1}}, id="broken"),
        pytest.param(bytes.fromhex("0516f0ff1101"), {"rejects": {"shopper.length": 1}}, id="broken token"),
        pytest.param(b"", {"strangers": 1}, id="nothing"),
        pytest.param(bytes.fromhex("0aff4c001005031c9ba1c8"), {"strangers": 1}, id="a phone nearby"),
        pytest.param(ALTBEACON, {"strangers": 1}, id="AltBeacon, which the register does not hold"),
        pytest.param(EDDYSTONE_UID, {"strangers": 1}, id="Eddystone, which the register does not hold"),
        pytest.param(form_u(Phone(99).token(UNIX_S)), {"strangers": 1}, id="a token that is in no roster"),
    ],
)
def test_everything_is_counted_once(data: bytes, counted: dict[str, Any]) -> None:
    store = Store()
    store.pipeline.receive("r-dairy", ADDRESS, -60, data, store.now)
    counters = store.pipeline.counters
    found = {"beacons": counters.beacons, "strangers": counters.strangers, "rejects": counters.rejects}
    assert found == {"beacons": 0, "strangers": 0, "rejects": {}} | counted
    assert counters.advertisements == 1
    heard = {beacon.name: beacon.heard_ms for beacon in store.pipeline.canaries.health().beacons if beacon.heard_ms is not None}
    assert heard == ({"b-dairy": store.now.mono_ms} if counted == {"beacons": 1} else {})


def test_a_beacon_with_minor_zero_is_a_beacon_like_others() -> None:
    anchors = {"b-zero": Anchor("b-zero", "beacon", "dairy", uuid=UUID, major=1, minor=0)}
    store = Store(Shop(ZONES, anchors))
    store.pipeline.receive("hci0", ADDRESS, -60, advertised(IBeacon(UUID, 1, 0, -59)), store.now)
    assert [(beacon.name, beacon.heard_ms) for beacon in store.pipeline.canaries.health().beacons] == [
        ("b-zero", store.now.mono_ms)
    ]


# ---- strangers ----------------------------------------------------------------------------------------------------------------


def strangers(number: int) -> Iterable[tuple[str, bytes, bytes]]:
    """Address, payload, and the part of the payload that is this stranger's alone."""
    rng = random.Random(number)
    for index in range(number):
        own = rng.randbytes(16)
        address = ":".join(f"{octet:02x}" for octet in rng.randbytes(6))
        token = Phone(10_000 + index, store=815).token(UNIX_S)
        kinds = [
            (own, bytes.fromhex("020106") + b"\x11\x07" + own),
            (own, b"\x11\x06" + own),
            (own, bytes.fromhex("02011a13ff4c001010") + own[:15] + b"\x00"),
            (own, b"\x13\xff\x06\x00" + own),
            (token, form_u(token)),
            (token, ad_structures.encode([shopper.encode(ShopperToken("S", token, -59), service_uuid16=SERVICE_UUID16)])),
        ]
        secret, data = kinds[index % len(kinds)]
        yield address, data, secret


def traces(root: object, secrets: Iterable[bytes], addresses: Iterable[str]) -> list[object]:
    """What ``root`` holds of eight bytes in a row of a secret, in either order, or of an address in any form."""
    parts = {each[at : at + 8] for secret in secrets for each in (secret, secret[::-1]) for at in range(len(secret) - 7)}
    names = {form for address in addresses for form in (address, address.replace(":", ""))}
    bare = {bytes.fromhex(address.replace(":", "")) for address in addresses}
    found: list[object] = []
    for each in held_by(root):
        if isinstance(each, bytes | bytearray):
            octets = bytes(each)
            if octets in bare or any(octets[at : at + 8] in parts for at in range(len(octets) - 7)):
                found.append(each)
        elif isinstance(each, str) and (each in names or (len(each) >= 16 and any(part.hex() in each for part in parts))):
            found.append(each)
    return found


def test_two_thousand_strangers_leave_nothing() -> None:
    store = Store(EVERY_ZONE_HEARS, promotion("cheese"))
    store.stay(3, dairy=-60)
    before = entries_held_by(store.pipeline)
    addresses, secrets = set(), set()
    for number, (address, data, secret) in enumerate(strangers(2000)):
        addresses.add(address)
        secrets.add(secret[:15])
        for rssi_dbm in (-40, -70):
            store.pipeline.receive("r-dairy", address, rssi_dbm, data, store.now)
        if number % 10 == 0:
            store.stay(0.2)
    assert store.pipeline.counters.strangers == 4000
    assert store.story == ["started", "entered dairy", "dwelled dairy"][: len(store.story)]
    assert traces(store.pipeline, secrets, addresses) == []
    assert entries_held_by(store.pipeline) <= before


def test_the_search_for_traces_finds_a_shopper() -> None:
    """The control: what is kept of one who consented is found by the same search."""
    store = Store()
    store.stay(3, dairy=-60)
    token = ANNA.token(store.now.wall_ms // 1000)
    assert traces(store.pipeline, [token], [])
    assert traces(store.pipeline, [bytes.fromhex(ANNAS)], [])
    assert traces(store.pipeline, [], [ADDRESS]) == [], "not even a shopper's address is kept"


def test_advertisements_of_shoppers_do_not_pile_up() -> None:
    phones = [Phone(seed) for seed in range(1, 300)]
    store = Store(EVERY_ZONE_HEARS, promotion("cheese"), phones=phones)
    sizes = []
    for turn in range(6):
        for number, phone in enumerate(phones[50 * (turn % 3) :][:50]):
            store.stay(1, phone, dairy=-60 - number % 3, wine=-90)
        store.stay(2000)
        sizes.append(entries_held_by(store.pipeline))
    assert store.pipeline.shoppers_present == 0
    assert store.story.count("ended") >= 200
    assert sizes[5] <= sizes[2]


# ---- privacy settings and clock -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"keeps_phones": False}, id="privacy settings incomplete"),
        pytest.param({"keeps_phones": False, "quality": UNSYNCHRONISED}, id="neither"),
        pytest.param({"quality": UNSYNCHRONISED}, id="clock not synchronised"),
    ],
)
def test_nothing_is_resolved_while_it_may_not_be(options: dict[str, Any]) -> None:
    store = Store(EVERY_ZONE_HEARS, promotion("cheese"), **options)
    before = entries_held_by(store.pipeline)
    tokens = []
    for _ in range(20):
        tokens.append(ANNA.token(store.now.wall_ms // 1000)[8:])
        store.stay(0.2, dairy=-50)
    store.pipeline.report(Sighting(ANNAS, "b-dairy", -50, store.now, "report"), BOTH)
    store.stay(3)
    assert store.outcomes == []
    assert store.pipeline.counters.not_resolved == 20
    assert store.pipeline.counters.sightings == 0
    assert entries_held_by(store.pipeline) == before
    assert traces(store.pipeline, tokens, [ADDRESS]) == []
    store.pipeline.receive("r-dairy", ADDRESS, -50, advertised(IBeacon(UUID, 1, 1, -59)), store.now)
    assert store.pipeline.counters.beacons == 1, "beacon health goes on"


def test_before_the_first_tick_the_clock_is_not_trusted() -> None:
    pipeline = Pipeline(EVERY_ZONE_HEARS, Tuning(UTC), lambda: "id", START)
    pipeline.use_roster(roster_of([ANNA], DAY, [WINDOW]))
    pipeline.receive("r-dairy", ADDRESS, -50, form_u(ANNA.token(UNIX_S)), START)
    assert pipeline.counters.not_resolved == 1


def test_a_clock_that_becomes_synchronised_is_used_from_then_on() -> None:
    store = Store(quality=UNSYNCHRONISED)
    store.stay(3, dairy=-60)
    store.quality = SYNCHRONISED
    store.stay(3, dairy=-60)
    assert store.story == ["started", "entered dairy"]


ALL_DAY = (TimeWindow(frozenset(range(7)), 0, 1440),)


def test_in_holdover_time_limited_promotions_are_withheld() -> None:
    store = Store(
        EVERY_ZONE_HEARS,
        promotion("always", priority=-1),
        promotion("window", windows=ALL_DAY),
        promotion("dates", effective_until_ms=START.wall_ms + 10**9),
        quality=HOLDOVER,
    )
    store.stay(3, dairy=-60)
    assert store.result_of() == {"always": "offer", "window": "clock_holdover", "dates": "clock_holdover"}


def test_a_window_opens_with_the_clock() -> None:
    minute = START.wall_ms // 60_000 % 1440
    store = Store(EVERY_ZONE_HEARS, promotion("later", windows=(TimeWindow(frozenset(range(7)), minute + 2, 1440),)))
    store.stay(3, dairy=-60)
    assert store.result_of() == {"later": "outside_window"}
    store.stay(130)
    store.stay(3, dairy=-60)
    assert store.result_of() == {"later": "offer"}


# ---- consent ------------------------------------------------------------------------------------------------------------------


def nothing_held_of(store: Store, name: str) -> bool:
    """Whether the pipeline holds the pseudonym nowhere but in the roster."""
    return holders_of(store.pipeline, name) == holders_of(store.pipeline.identity, name)


@pytest.mark.parametrize("flags", [0, 4, 8, 60])
def test_a_token_without_consent_forgets_a_present_shopper_silently(flags: int) -> None:
    store = Store(EVERY_ZONE_HEARS, promotion("cheese"))
    store.stay(10, dairy=-60)
    offer = store.outcomes[-1].offers[0]
    assert not nothing_held_of(store, ANNAS)
    told_before = list(store.story)
    store.stay(200, dairy=-60, says={"flags": flags})
    assert store.story == told_before, "no exit, no end: as if never seen"
    assert store.forgotten == [ANNAS], "told once"
    assert store.pipeline.shoppers_present == 0
    assert store.pipeline.next_deadline_ms() is None
    assert not store.pipeline.decide(Verdict(offer.offer, "refused"))
    assert store.verdicts == []
    assert nothing_held_of(store, ANNAS)


def test_a_token_without_consent_of_one_who_was_never_here_is_only_counted() -> None:
    store = Store()
    store.stay(3, dairy=-60, says={"flags": 0})
    assert (store.outcomes, store.forgotten) == ([], [])
    assert store.pipeline.counters.no_consent == 15
    assert nothing_held_of(store, ANNAS)


def test_a_bad_tag_says_nothing_about_consent() -> None:
    store = Store()
    store.stay(3, dairy=-60)
    token = bytearray(ANNA.token(store.now.wall_ms // 1000, flags=0))
    token[-1] ^= 1
    store.pipeline.receive("r-dairy", ADDRESS, -50, form_u(bytes(token)), store.now)
    store.stay(3)
    assert store.forgotten == []
    assert store.pipeline.shoppers_present == 1
    assert store.pipeline.counters.bad_tags == 1


@pytest.mark.parametrize(
    ("flags", "expected"),
    [(FLAG_OFFERS, "offer"), (FLAG_ANALYTICS, "no_consent"), (FLAG_OFFERS | FLAG_ANALYTICS, "offer")],
)
def test_offers_need_consent_to_offers(flags: int, expected: str) -> None:
    store = Store(EVERY_ZONE_HEARS, promotion("cheese"))
    store.stay(3, dairy=-60, says={"flags": flags})
    assert store.result_of() == {"cheese": expected}
    assert {event.consent for event in store.events} == {Consent(flags)}


def delta_without(store: Store, name: str) -> None:
    store.pipeline.apply_roster_delta(DAY, 2, [], [name])


def roster_without(store: Store, name: str) -> None:
    phones = [phone for phone in (ANNA, ZOE) if phone.name(DAY) != name]
    store.pipeline.use_roster(roster_of(phones, DAY, [WINDOW], version=2))


def delta_with_no_consent(store: Store, name: str) -> None:
    store.pipeline.apply_roster_delta(DAY, 2, [ANNA.entry(DAY, Consent.NONE)], [])


@pytest.mark.parametrize("opt_out", [delta_without, roster_without, delta_with_no_consent])
def test_an_opt_out_forgets_at_once_though_the_phone_is_silent(opt_out: Callable[[Store, str], None]) -> None:
    store = Store(EVERY_ZONE_HEARS, promotion("cheese"))
    store.stay(3, dairy=-60)
    store.stay(3, ZOE, dairy=-60)
    told_before = list(store.story)
    token = ANNA.token(UNIX_S)
    assert traces(store.pipeline, [token[8:]], [])
    opt_out(store, ANNAS)
    assert traces(store.pipeline, [token[8:]], []) == [], "not even her advertisements"
    assert store.pipeline.next_deadline_ms() is not None
    assert store.tick().forgotten == (ANNAS,)
    assert store.pipeline.shoppers_present == 1
    assert nothing_held_of(store, ANNAS)
    store.stay(60, dairy=-60)
    assert store.story == told_before
    assert not nothing_held_of(store, ZOES)


def test_less_consent_by_delta_counts_at_once_though_the_phone_is_silent() -> None:
    store = Store(EVERY_ZONE_HEARS, promotion("advice", trigger="dwell", dwell_ms=20_000))
    store.stay(21, dairy=-60)
    store.pipeline.apply_roster_delta(DAY, 2, [ANNA.entry(DAY, Consent.ANALYTICS)], [])
    store.stay(2)
    store.stay(125)
    assert store.forgotten == []
    assert {told(event): event.consent for event in store.events}["exited dairy: silence"] == Consent.ANALYTICS
    store.stay(3, dairy=-60)
    assert store.events[-1].consent == Consent.ANALYTICS


def test_a_check_in_by_delta_is_recognised_from_then_on() -> None:
    store = Store(phones=[ZOE])
    store.stay(3, dairy=-60)
    store.pipeline.apply_roster_delta(DAY, 2, [ANNA.entry(DAY)], [])
    store.stay(3, dairy=-60)
    assert store.story == ["started", "entered dairy"]
    assert store.forgotten == []


# ---- conflict -----------------------------------------------------------------------------------------------------------------


Loud = tuple[str, int, int]
"""Zone, level in dBm, after so many milliseconds."""

APART_20_M = Shop(
    ZONES,
    {
        "r-entrance": Anchor("r-entrance", "receiver", "entrance", at_m=(0.0, 0.0)),
        "r-dairy": Anchor("r-dairy", "receiver", "dairy", at_m=(10.0, 0.0)),
        "r-wine": Anchor("r-wine", "receiver", "wine", at_m=(20.0, 0.0)),
    },
)


@pytest.mark.parametrize(
    ("shop", "heard", "conflicts"),
    [
        pytest.param(EVERY_ZONE_HEARS, [("entrance", -50, 0), ("wine", -50, 1000)], 0, id="there: a walker with a strong phone"),
        pytest.param(
            EVERY_ZONE_HEARS, [("entrance", -50, 0), ("wine", -50, 1000), ("entrance", -50, 2000)], 1, id="there and back"
        ),
        pytest.param(
            EVERY_ZONE_HEARS, [("entrance", -59, 0), ("wine", -59, 1), ("entrance", -59, 3000)], 1, id="just loud, just in time"
        ),
        pytest.param(EVERY_ZONE_HEARS, [("entrance", -50, 0), ("wine", -50, 1), ("entrance", -50, 3001)], 0, id="time to walk"),
        pytest.param(EVERY_ZONE_HEARS, [("entrance", -50, 0), ("wine", -60, 9), ("entrance", -50, 20)], 0, id="not loud there"),
        pytest.param(EVERY_ZONE_HEARS, [("entrance", -60, 0), ("wine", -50, 9), ("entrance", -50, 20)], 0, id="not loud before"),
        pytest.param(EVERY_ZONE_HEARS, [("entrance", -50, 0), ("dairy", -50, 9), ("entrance", -50, 20)], 0, id="neighbours"),
        pytest.param(EVERY_ZONE_HEARS, [("entrance", -50, 0), ("office", -50, 9), ("entrance", -50, 20)], 0, id="not known"),
        pytest.param(EVERY_ZONE_HEARS, [("dairy", -50, 0), ("dairy", -50, 9), ("dairy", -50, 20)], 0, id="one place"),
        pytest.param(
            EVERY_ZONE_HEARS,
            [("entrance", -50, 0), ("dairy", -50, 500), ("wine", -50, 1000), ("entrance", -50, 2000)],
            1,
            id="a stop in between does not hide it",
        ),
        pytest.param(APART_20_M, [("entrance", -50, 0), ("wine", -50, 3999)], 1, id="20 m apart: faster than anybody runs"),
        pytest.param(APART_20_M, [("entrance", -50, 0), ("wine", -50, 4000)], 0, id="20 m apart: at a run"),
        pytest.param(APART_20_M, [("entrance", -50, 0), ("dairy", -50, 1)], 0, id="neighbours with positions"),
    ],
)
def test_the_same_token_loud_where_nobody_can_be_at_once_is_a_conflict(shop: Shop, heard: list[Loud], conflicts: int) -> None:
    store = Store(shop)
    for zone, rssi_dbm, after_ms in heard:
        store.now = START.plus(after_ms)
        store.hear(ANNA, {f"r-{zone}": rssi_dbm})
    assert store.pipeline.counters.conflicts == conflicts


@pytest.mark.parametrize("step_s", [2.0, 4.0, 8.0])
def test_a_walk_past_loud_receivers_and_back_is_no_conflict(step_s: float) -> None:
    """Brisk, with a phone that is loud everywhere: from the entrance to the cellar and back."""
    store = Store()
    for zone in ("entrance", "dairy", "wine", "cellar", "wine", "dairy", "entrance"):
        store.stay(step_s, **{zone: -50})  # type: ignore[arg-type]  # never says
    assert store.pipeline.counters.conflicts == 0


@pytest.mark.parametrize(("wait_s", "expected"), [(0, "conflict"), (50, "conflict"), (62, "offer")])
def test_a_conflict_pauses_offers_for_a_minute(wait_s: float, expected: str) -> None:
    store = Store(EVERY_ZONE_HEARS, promotion("cheese"))
    for zone in ("entrance", "cellar", "entrance"):
        store.stay(0.2, **{zone: -50})  # type: ignore[arg-type]  # never says
    assert store.pipeline.counters.conflicts == 1
    store.stay(wait_s)
    store.stay(5, ZOE, dairy=-55)
    assert store.result_of() == {"cheese": "offer"}, "another shopper is not concerned"
    store.stay(7, dairy=-55)
    assert store.events[-1].shopper == ANNAS
    assert store.result_of() == {"cheese": expected}


def test_a_relay_that_goes_on_is_one_conflict_and_a_pause_without_end() -> None:
    store = Store(EVERY_ZONE_HEARS, promotion("all", "entrance", "cellar", daily_cap=99))
    for _ in range(100):
        store.stay(1, entrance=-50, cellar=-52)
    assert store.pipeline.counters.conflicts == 1
    assert store.pipeline.counters.offers == {}


# ---- hints --------------------------------------------------------------------------------------------------------------------


def test_a_single_pi_without_a_zone_decides_by_hints() -> None:
    store = Store(one_pi(), promotion("cheese"))
    store.stay(6, pi=-70, says={"hint": MINOR["dairy"], "bucket": 12})
    assert store.story == ["started", "entered dairy"]
    assert store.result_of() == {"cheese": "offer"}
    (entered,) = [event for event in store.events if isinstance(event, Entered)]
    assert {(level.anchor, level.source) for level in entered.evidence.anchors} == {("pi", "receiver"), ("b-dairy", "hint")}
    assert 2000 <= entered.at.mono_ms - START.mono_ms <= 4000


def test_hints_lead_from_zone_to_zone_minute_by_minute() -> None:
    store = Store(one_pi())
    for zone in ("entrance", "dairy", "wine"):
        store.stay(60, pi=-70, says={"hint": MINOR[zone], "bucket": 12})
    entered = [event for event in store.events if isinstance(event, Entered)]
    assert [event.zone for event in entered] == ["entrance", "dairy", "wine"]
    assert all(event.at.mono_ms - START.mono_ms - 60_000 * minute <= 20_000 for minute, event in enumerate(entered))


@pytest.mark.parametrize(
    ("shop", "rssi_dbm", "says", "counts"),
    [
        pytest.param(one_pi(), -95, {"hint": MINOR["dairy"]}, True, id="heard just loud enough"),
        pytest.param(one_pi(), -96, {"hint": MINOR["dairy"]}, False, id="heard too faintly"),
        pytest.param(one_pi(), -70, {"hint": 4444}, False, id="no beacon of ours"),
        pytest.param(one_pi(), -70, {"hint": 0}, False, id="none"),
        pytest.param(one_pi(), -70, {"hint": MINOR["dairy"], "slot": 15}, False, id="not refreshed"),
        pytest.param(one_pi(), -70, {"hint": MINOR["dairy"], "bucket": 0}, False, id="the phone hears the beacon faintly"),
        pytest.param(one_pi("dairy"), -70, {"hint": MINOR["dairy"]}, True, id="covered"),
        pytest.param(one_pi("dairy"), -70, {"hint": MINOR["wine"]}, True, id="next to what is covered"),
        pytest.param(one_pi("dairy"), -70, {"hint": MINOR["cellar"]}, False, id="two zones away"),
        pytest.param(one_pi("wine", "office"), -70, {"hint": MINOR["cellar"]}, True, id="next to one of those covered"),
        pytest.param(one_pi("office"), -70, {"hint": MINOR["office"]}, True, id="covered, neighbours not known"),
        pytest.param(one_pi("office"), -70, {"hint": MINOR["dairy"]}, False, id="elsewhere, neighbours not known"),
    ],
)
def test_when_a_hint_counts(shop: Shop, rssi_dbm: int, says: dict[str, Any], counts: bool) -> None:
    store = Store(shop)
    store.stay(8, pi=rssi_dbm, says={"bucket": 12, **says})
    assert ("started" in store.story) == counts


@pytest.mark.parametrize(("told_s", "counts"), [(0.2, False), (2.0, False), (2.2, True)])
def test_a_hint_must_be_told_twice_two_seconds_apart(told_s: float, counts: bool) -> None:
    store = Store(one_pi())
    store.stay(told_s, pi=-70, says={"hint": MINOR["dairy"], "bucket": 12})
    store.stay(8, pi=-70)
    assert ("started" in store.story) == counts


@pytest.mark.parametrize(("age_s", "counts"), [(0, True), (170, True), (181, False)])
def test_an_old_hint_does_not_count(age_s: int, counts: bool) -> None:
    """The phone goes on sending the token of a minute that is over."""
    store = Store(one_pi())
    store.now = START.plus(age_s * 1000)
    store.stay(8, pi=-70, says={"hint": MINOR["dairy"], "bucket": 12, "slot": 0})
    assert ("started" in store.story) == counts


def test_a_repeated_minute_makes_its_hint_no_newer() -> None:
    """A phone two minutes ahead repeats one token for as long as it is fresh: five minutes, and still told once."""
    store = Store(one_pi())
    store.stay(299, pi=-70, says={"hint": MINOR["dairy"], "bucket": 12, "slot": 2})
    assert store.story == ["started", "entered dairy", "dwelled dairy", "exited dairy: weak"]


def test_a_hint_never_outweighs_a_loud_receiver() -> None:
    shop = Shop(ZONES, {"r-dairy": EVERY_ZONE_HEARS.anchors["r-dairy"], **BEACONS})
    store = Store(shop)
    store.stay(130, dairy=-55, says={"hint": MINOR["wine"], "bucket": 15})
    assert store.story == ["started", "entered dairy", "dwelled dairy"]


@pytest.mark.parametrize(
    ("shop", "levels", "expected"),
    [
        pytest.param(one_pi(), {"pi": -60}, "hint_only", id="no receiver stands in a zone"),
        pytest.param(one_pi(zone="entrance"), {"pi": -90}, "hint_only", id="a receiver next door"),
        pytest.param(one_pi(zone="dairy"), {"pi": -92}, "hint_only", id="the zone's receiver, which speaks against it"),
        pytest.param(one_pi(zone="dairy"), {"pi": -80}, "offer", id="the zone's receiver"),
    ],
)
@pytest.mark.parametrize("by_zone", [False, True])
def test_sensitive_promotions_are_not_matched_by_hints_alone(
    shop: Shop, levels: dict[str, int], expected: str, by_zone: bool
) -> None:
    sensitive = promotion("test kit", sensitive=not by_zone)
    zones = ZONES | {"dairy": replace(ZONES["dairy"], sensitive=by_zone)}
    store = Store(Shop(zones, shop.anchors), sensitive)
    store.stay(8, **levels, says={"hint": MINOR["dairy"], "bucket": 15})
    assert "entered dairy" in store.story
    assert store.result_of() == {"test kit": expected}


# ---- reports ------------------------------------------------------------------------------------------------------------------


def report(store: Store, anchor: str = "b-dairy", name: str = ANNAS) -> Sighting:
    return Sighting(name, anchor, -60, store.now, "report")


def test_the_app_may_report_over_the_internet() -> None:
    store = Store(EVERY_ZONE_HEARS, promotion("cheese"), promotion("test kit", sensitive=True))
    for _ in range(3):
        store.pipeline.report(report(store), BOTH)
        store.stay(30)
    assert store.story[:2] == ["started", "entered dairy"]
    assert store.result_of() == {"cheese": "offer", "test kit": "hint_only"}


@pytest.mark.parametrize(
    ("anchor", "name", "roster", "consent", "expected"),
    [
        pytest.param("b-dairy", ANNAS, BOTH, Consent.OFFERS, Consent.OFFERS, id="what the report grants"),
        pytest.param("b-dairy", ANNAS, Consent.ANALYTICS, BOTH, Consent.ANALYTICS, id="what the roster grants"),
        pytest.param("b-dairy", ANNAS, Consent.ANALYTICS, Consent.OFFERS, None, id="nothing that both grant"),
        pytest.param("b-dairy", ANNAS, BOTH, Consent.NONE, None, id="no consent"),
        pytest.param("b-dairy", "0011223344556677", BOTH, BOTH, None, id="not in the roster"),
        pytest.param("b-unknown", ANNAS, BOTH, BOTH, None, id="no anchor of ours"),
    ],
)
def test_what_a_report_is_worth(anchor: str, name: str, roster: Consent, consent: Consent, expected: Consent | None) -> None:
    store = Store(consent=roster)
    before = entries_held_by(store.pipeline)
    for _ in range(3):
        store.pipeline.report(report(store, anchor, name), consent)
        store.stay(5)
    assert {event.consent for event in store.events} == ({expected} if expected else set())
    if expected is None:
        assert entries_held_by(store.pipeline) == before


# ---- restart ------------------------------------------------------------------------------------------------------------------


def open_visit(name: str = ANNAS, **changes: Any) -> OpenVisit:
    wall_ms = START.wall_ms
    return replace(OpenVisit(name, "v0", BOTH, wall_ms - 50_000, 1, "dairy", wall_ms - 40_000, 0, wall_ms - 40_000), **changes)


PAST = PastOffer("o0", ANNAS, "v0", "cheese", "offer", "", 0, START.wall_ms - 40_000, START.wall_ms - 10_000, "proposed")


def test_after_a_restart_the_visit_goes_on_and_its_push_stays_spent() -> None:
    store = Store(EVERY_ZONE_HEARS, promotion("cheese"), promotion("riesling", "wine"))
    store.pipeline.remember(Memory(START.wall_ms - 1000, (open_visit(),), (PAST,)), store.now)
    store.stay(5, dairy=-60)
    assert store.outcomes == []
    assert store.verdicts == [Verdict("o0", "late", "late")]
    store.stay(15, wine=-60)
    assert store.story == ["exited dairy: moved", "entered wine"]
    assert {event.visit for event in store.events} == {"v0"}
    assert store.result_of() == {"riesling": "cap_visit"}


def test_what_ended_while_nobody_listened_comes_out_of_the_next_tick() -> None:
    store = Store(EVERY_ZONE_HEARS)
    store.now = START.plus(3_600_000)
    store.pipeline.remember(Memory(START.wall_ms, (open_visit(),)), store.now)
    assert store.pipeline.next_deadline_ms() is not None
    store.tick()
    assert store.story == ["exited dairy: restart", "ended"]
    assert store.pipeline.next_deadline_ms() is None


def test_who_left_the_roster_before_or_after_remembering_tells_nothing_more() -> None:
    memory = Memory(START.wall_ms - 7_200_000, (open_visit(last_event_wall_ms=START.wall_ms - 7_200_000),), (PAST,))
    for first in ("delta", "memory"):
        store = Store(EVERY_ZONE_HEARS)
        for step in sorted(("delta", "memory"), key=lambda step: step != first):
            if step == "delta":
                delta_without(store, ANNAS)
            else:
                store.pipeline.remember(memory, store.now)
        step_taken = store.tick()
        assert (step_taken.outcomes, step_taken.verdicts, step_taken.forgotten) == ((), (), (ANNAS,)), first
        assert nothing_held_of(store, ANNAS)


def test_who_left_the_roster_before_the_last_process_could_erase_them_is_forgotten_now() -> None:
    store = Store(phones=[ZOE])
    named = ((ANNAS, START.wall_ms), (ZOES, START.wall_ms), (ANNA.name(DAY - 1), START.wall_ms - 86_400_000))
    store.pipeline.remember(Memory(START.wall_ms, (open_visit(),), (PAST,), named), store.now)
    step = store.tick()
    assert step.forgotten == (ANNAS,), "not Zoe, and nobody of a day whose roster is gone"
    assert (step.outcomes, step.verdicts, store.pipeline.shoppers_present) == ((), (), 0)


def test_consent_withdrawn_while_nobody_listened_counts() -> None:
    store = Store(consent=Consent.NONE)
    store.pipeline.remember(Memory(START.wall_ms, (open_visit(),)), store.now)
    assert store.tick().forgotten == (ANNAS,)


def test_a_visit_of_yesterdays_pseudonym_ends_by_itself() -> None:
    yesterdays = ANNA.name(DAY - 1)
    store = Store()
    store.pipeline.remember(Memory(START.wall_ms, (open_visit(yesterdays),)), store.now)
    store.stay(121)
    assert store.story == ["exited dairy: silence"]
    assert store.forgotten == []


# ---- cost and determinism -----------------------------------------------------------------------------------------------------


def calls_of(work: Callable[[], None]) -> int:
    """How many functions, of Python or C, are called meanwhile."""
    calls = 0

    def count_call(frame: object, event: str, arg: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(count_call)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls


def many(number: int) -> list[Promotion]:
    return [promotion(f"p{index}", *ZONES, windows=ALL_DAY, priority=index) for index in range(number)]


@pytest.mark.parametrize("phone", [ANNA, Phone(99)], ids=["shopper", "stranger"])
def test_an_advertisement_costs_the_same_whatever_the_catalogue_holds(phone: Phone) -> None:
    costs = set()
    for promotions in ([], many(1), many(1500)):
        store = Store(EVERY_ZONE_HEARS, *promotions)
        store.stay(3, phone, dairy=-60)
        token = form_u(phone.token(store.now.wall_ms // 1000))

        def receive(store: Store = store, token: bytes = token) -> None:
            for _ in range(50):
                store.pipeline.receive("r-dairy", ADDRESS, -60, token, store.now)

        costs.add(calls_of(receive))
    assert len(costs) == 1
    assert costs.pop() <= 50 * 40


def test_a_tick_without_events_costs_the_same_whatever_the_catalogue_holds() -> None:
    costs = set()
    for promotions in (many(1), many(1500)):
        store = Store(EVERY_ZONE_HEARS, *promotions)
        store.stay(3, dairy=-60)

        def stay(store: Store = store) -> None:
            store.stay(1, dairy=-60)

        costs.add(calls_of(stay))
    assert len(costs) == 1


walks = st.lists(
    st.tuples(
        st.sampled_from([ANNA, ZOE, Phone(99)]),
        st.sampled_from([0.2, 1.0, 3.0, 65.0]),
        st.dictionaries(st.sampled_from(list(ZONES)), st.integers(-110, -30), max_size=3),
        st.sampled_from([{}, {"hint": 2, "bucket": 12}, {"flags": 0}, {"flags": 1}]),
    ),
    max_size=6,
)


def walked(walk: Iterable[tuple[Phone, float, dict[str, int], dict[str, Any]]]) -> Store:
    store = Store(EVERY_ZONE_HEARS, *many(3), promotion("card", kind="info"))
    for phone, seconds, levels, says in walk:
        store.stay(seconds, phone, says=says, **levels)
    return store


@given(walks)
@settings(max_examples=25, deadline=None)
def test_the_same_bytes_give_the_same_decisions_and_only_about_shoppers(walk: Any) -> None:
    first, second = walked(walk), walked(walk)
    assert first.outcomes == second.outcomes
    assert first.forgotten == second.forgotten
    assert {event.shopper for event in first.events} <= {ANNAS, ZOES}
    assert {event.zone for event in first.events if isinstance(event, Entered)} <= ZONES.keys()
    matched = sum(len(outcome.offers) for outcome in first.outcomes)
    assert first.pipeline.counters.offers.get("matched", 0) == matched
    counters = first.pipeline.counters
    heard = counters.sightings + counters.strangers + counters.no_consent + counters.stale_tokens + counters.bad_tags
    assert counters.advertisements == heard


def test_a_roster_of_another_day_changes_nothing_today() -> None:
    store = Store()
    store.stay(3, dairy=-60)
    tomorrow = DAY + 1
    store.pipeline.use_roster(DayRoster(tomorrow, 1, [ANNA.entry(tomorrow)]))
    store.stay(60, dairy=-60)
    assert store.story == ["started", "entered dairy", "dwelled dairy"]
