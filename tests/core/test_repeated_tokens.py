"""What a phone repeats is remembered by its octets: for whoever looks at what comes of it, nothing may tell that."""

from dataclasses import replace
from datetime import UTC
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import ad_structures
from gateway.core.ad_structures import AdStructure
from gateway.core.frames import LARGEST_REMEMBERED, shopper
from gateway.core.identity import DayRoster
from gateway.core.model import Anchor, ClockQuality, Consent, Instant, Shop, ShopperToken, Zone
from gateway.core.pipeline import Pipeline, Tuning
from tests.core.phones import BOTH, UNIX_S, WINDOW, Phone, form_u, held_by, roster_of

PHONES = [Phone(seed) for seed in range(1, 4)]
STRANGER = Phone(99)
DAY = PHONES[0].day(WINDOW)
SERVICE = 0xFFF0
SHOP = Shop(
    {name: Zone(name, neighbours=frozenset(), exit_delay_ms=3_000) for name in ("dairy", "wine")},
    {
        **{f"r-{zone}": Anchor(f"r-{zone}", "receiver", zone) for zone in ("dairy", "wine")},
        "b-dairy": Anchor("b-dairy", "beacon", "dairy", uuid=bytes(16), major=1, minor=7),
    },
)


class Gateway:
    """A pipeline, with or without its memory of advertisements."""

    def __init__(self, *, remembers: bool) -> None:
        numbers = count(1)
        self.remembers = remembers
        self.unix_ms = UNIX_S * 1000
        self.version = 1
        self.pipeline = Pipeline(SHOP, Tuning(UTC, service_uuid16=SERVICE), lambda: f"id {next(numbers)}", self.now)
        self.use(BOTH, PHONES)
        self.pipeline.tick(self.now, ClockQuality.SYNCHRONISED)

    @property
    def now(self) -> Instant:
        return Instant(self.unix_ms - UNIX_S * 1000 + 5_000, self.unix_ms)

    def use(self, consent: Consent, phones: list[Phone]) -> None:
        self.version += 1
        windows = self.pipeline.identity.windows_around(self.unix_ms, DAY)
        entries = roster_of(phones, DAY, windows, consent)
        roster = DayRoster(DAY, self.version, [p.entry(DAY, consent) for p in phones], entries.tables.keys())
        self.pipeline.use_roster(roster)

    def opt_out(self, phone: Phone) -> None:
        if self.pipeline.identity.roster(DAY) is not None:
            self.version += 1
            self.pipeline.apply_roster_delta(DAY, self.version, [], [phone.name(DAY)])

    def hear(self, receiver: str, data: bytes, rssi_dbm: int) -> None:
        if not self.remembers:
            self.pipeline.identity.familiar.clear()
        self.pipeline.receive(receiver, "", rssi_dbm, data, self.now)

    def wait(self, duration_ms: int, quality: ClockQuality) -> object:
        self.unix_ms += duration_ms
        while self.pipeline.identity.prepare(self.unix_ms):
            pass
        return self.pipeline.tick(self.now, quality)


def on_the_air(token: bytes, form: str) -> bytes:
    if form == "U":
        return form_u(token)
    if form == "U and a second list":
        other = shopper.encode(ShopperToken("U", bytes(16), None))
        return ad_structures.encode([other, shopper.encode(ShopperToken("U", token, None))])
    if form == "too long to remember":
        name = AdStructure(0x09, b"n" * LARGEST_REMEMBERED)
        return ad_structures.encode([name, shopper.encode(ShopperToken("U", token, None))])
    return ad_structures.encode([shopper.encode(ShopperToken("S", token, -59), service_uuid16=SERVICE)])


payloads = st.builds(
    lambda phone, ago_s, flags, hint, form, forged: on_the_air(
        bytes([*(token := phone.token(UNIX_S + 400 - ago_s, flags=flags, hint=hint))[:-1], token[-1] ^ forged]), form
    ),
    st.sampled_from([*PHONES, STRANGER]),
    st.sampled_from([0, 60, 300, 1200, -600]),
    st.sampled_from([3, 1, 0]),
    st.sampled_from([0, 7]),
    st.sampled_from(["U", "S", "U and a second list", "too long to remember"]),
    st.sampled_from([0, 0, 0, 1]),
)
steps = st.one_of(
    st.tuples(st.just("hear"), payloads, st.sampled_from(["r-dairy", "r-wine", "unknown"]), st.sampled_from([-50, -80])),
    st.tuples(st.just("again"), st.integers(0, 3), st.sampled_from(["r-dairy", "r-wine"]), st.sampled_from([-50, -80])),
    st.tuples(
        st.just("wait"),
        st.sampled_from([0, 1, 200, 3_000, 60_000, 400_000, 900_000]),
        st.sampled_from([*[ClockQuality.SYNCHRONISED] * 4, *ClockQuality]),
    ),
    st.tuples(st.just("roster"), st.sampled_from([BOTH, Consent.OFFERS, Consent.NONE]), st.sampled_from([PHONES, PHONES[:1]])),
    st.tuples(st.just("out"), st.sampled_from(PHONES)),
)


@settings(max_examples=150)
@given(st.lists(steps, max_size=40))
def test_whoever_remembers_decides_and_counts_the_same(script: list[tuple[object, ...]]) -> None:
    with_memory, without = Gateway(remembers=True), Gateway(remembers=False)
    heard: list[bytes] = []
    for step in script:
        results = []
        for gateway in (with_memory, without):
            match step:
                case ("hear", bytes() as data, str() as receiver, int() as rssi):
                    heard.append(data)
                    gateway.hear(receiver, data, rssi)
                case ("again", int() as back, str() as receiver, int() as rssi):
                    if heard:
                        gateway.hear(receiver, heard[-1 - back % len(heard)], rssi)
                case ("wait", int() as duration_ms, ClockQuality() as quality):
                    results.append(gateway.wait(duration_ms, quality))
                case ("roster", Consent() as consent, list() as phones):
                    gateway.use(consent, phones)
                case ("out", Phone() as phone):
                    gateway.opt_out(phone)
        assert results[:1] == results[1:]
        assert with_memory.pipeline.counters == without.pipeline.counters
    ended = [gateway.wait(1_000, ClockQuality.SYNCHRONISED) for gateway in (with_memory, without)]
    assert ended[0] == ended[1]


def test_only_good_tokens_of_the_roster_are_remembered() -> None:
    gateway = Gateway(remembers=True)
    good = PHONES[0].token(UNIX_S + 1)
    forged = bytes([*good[:-1], good[-1] ^ 1])
    for token in (STRANGER.token(UNIX_S + 1), forged):
        for form in ("U", "S"):
            gateway.hear("r-dairy", on_the_air(token, form), -60)
    assert not gateway.pipeline.identity.familiar
    gateway.hear("r-dairy", form_u(good), -60)
    assert list(gateway.pipeline.identity.familiar) == [form_u(good)]
    assert not any(found == form_u(forged) for found in held_by(gateway.pipeline))


def test_the_memory_is_bounded_and_goes_with_the_roster() -> None:
    gateway = Gateway(remembers=True)
    token = PHONES[0].token(UNIX_S + 1)
    data = b""
    for number in range(10_000):
        name = AdStructure(0x09, number.to_bytes(2, "big"))
        data = ad_structures.encode([shopper.encode(ShopperToken("U", token, None)), name])
        gateway.hear("r-dairy", data, -60)
    assert 0 < len(gateway.pipeline.identity.familiar) <= 4096
    gateway.opt_out(PHONES[0])
    assert not gateway.pipeline.identity.familiar
    before = replace(gateway.pipeline.counters)
    gateway.hear("r-dairy", data, -60)
    assert gateway.pipeline.counters.strangers == before.strangers + 1
