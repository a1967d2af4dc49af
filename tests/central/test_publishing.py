"""From central's file to what is in force at the gateway: both ends are real, and what is between can be lost or forged."""

import asyncio
import base64
import contextlib
import json
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlite_utils import Database

from gateway.central import records
from gateway.central.contexts import SOURCE
from gateway.central.publishing import StorePublisher
from gateway.central.records import CENTRAL
from gateway.central.service import Central
from gateway.contract.downlinks import Catalogue, RosterChunk, RosterDelta, RosterManifest, to_base64
from gateway.contract.promotions import Promotion
from gateway.contract.settings import CentralSettings, CentralStore
from gateway.contract.strict_json import canonical
from gateway.contract.topics import StoreTopics
from gateway.core.model import Consent, Instant, Shop, Zone
from gateway.core.pipeline import Pipeline, Tuning
from gateway.core.token import day_of, derive_pseudonym, window_of
from gateway.daemon.downlink import Downlinks
from gateway.io.broker import Publication
from gateway.io.clock import SystemClock
from gateway.io.signing import Signer, Verifier
from gateway.io.store import Store
from gateway.io.store.database import open_database, transact
from gateway.simulator.clock import SimulatedClock
from tests.fakes.mosquitto import Mosquitto

NOW_MS = 1_790_000_000_000
TODAY = day_of(window_of(NOW_MS / 1000), 0)
SIGNER, STRANGER = Signer(bytes(32)), Signer(b"\2" * 32)
BOTH = Consent.OFFERS | Consent.ANALYTICS
TOPICS = StoreTopics("demo", "pi-1")
SHOP = Shop({"bakery": Zone("bakery")}, {})
Document = Catalogue | RosterManifest | RosterChunk | RosterDelta


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def pseudonym(number: int, day: int = TODAY) -> str:
    return derive_pseudonym(key(number), 4711, day).hex()


def promotion(name: str) -> Promotion:
    return Promotion.model_validate({"promotion_id": name, "long_title": {"en": name}, "zones": ["bakery"]})


class Far:
    """Central's end: its file and the publisher of one store."""

    def __init__(self, folder: Path, signer: Signer = SIGNER, store: str = "demo") -> None:
        self.db: Database = open_database(folder / "central.db", CENTRAL)
        self.publisher = StorePublisher(store, CentralStore(store_number=4711), 2, signer)
        self.store = store

    def enrol(self, *numbers: int, consent: Consent = BOTH) -> None:
        with self.db.atomic():
            for number in numbers:
                records.enrol(self.db, f"app-{number}", key(number), consent, [self.store])

    def opt_out(self, number: int) -> None:
        with self.db.atomic():
            records.opt_out(self.db, f"app-{number}")

    def promote(self, *names: str) -> None:
        with self.db.atomic():
            records.replace_promotions(self.db, self.store, tuple(map(promotion, names)))

    def says(self, now_ms: int = NOW_MS) -> list[Publication]:
        """What it publishes now."""
        with self.db.atomic():
            return self.publisher.catalogue(self.db, now_ms) + self.publisher.roster(self.db, now_ms)

    def begins_again(self) -> None:
        self.publisher = StorePublisher(self.store, CentralStore(store_number=4711), 2, SIGNER)


class Near:
    """The gateway's end: what is in force, and the file that remembers it."""

    def __init__(self, store: Store, wall_ms: int = NOW_MS, *, keeps_phones: bool = True) -> None:
        self.clock = SimulatedClock(Instant(1_000_000, wall_ms))
        self.store = store
        self.pipeline = Pipeline(SHOP, Tuning(ZoneInfo("Europe/Berlin")), lambda: secrets.token_hex(8), self.clock.now())
        verifier = Verifier((SIGNER.public_key,), "demo")
        self.downlinks = Downlinks(TOPICS, verifier, self.pipeline, store, self.clock, keeps_phones=keeps_phones)

    async def hears(self, publications: Iterable[Publication]) -> None:
        for publication in publications:
            await self.downlinks.take(publication.topic, publication.payload)

    @property
    def catalogue(self) -> int | None:
        catalogue = self.pipeline.catalogue
        return None if catalogue is None else catalogue.version

    def roster(self, day: int = TODAY) -> tuple[int, set[str]] | None:
        roster = self.pipeline.identity.roster(day)
        return None if roster is None else (roster.version, set(roster.shoppers))

    @property
    def names(self) -> set[str]:
        roster = self.roster()
        return set() if roster is None else roster[1]

    @property
    def in_force(self) -> Any:
        return self.catalogue, self.roster(), self.roster(TODAY + 1)


@contextlib.asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Store]:
    store = Store(path, quota_mib=64, boot_id="boot-1")
    await store.start()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def far(tmp_path: Path) -> AsyncIterator[Far]:
    central = Far(tmp_path)
    yield central
    central.db.conn.close()


@pytest.fixture
async def near(tmp_path: Path) -> AsyncIterator[Near]:
    async with opened(tmp_path / "gateway.db") as store:
        yield Near(store)


def of(publications: list[Publication], word: str) -> list[Publication]:
    return [publication for publication in publications if word in publication.topic]


# ---- into force ---------------------------------------------------------------------------------------------------------------


async def test_catalogue_and_roster_come_into_force(far: Far, near: Near) -> None:
    far.promote("bread", "milk")
    far.enrol(1, 2)
    await near.hears(far.says())
    assert near.catalogue == 1
    assert near.roster() == (1, {pseudonym(1), pseudonym(2)})
    assert near.roster(TODAY + 1) == (1, {pseudonym(1, TODAY + 1), pseudonym(2, TODAY + 1)})
    assert not near.names & near.in_force[2][1], "pseudonyms of two days never meet"
    roster = near.pipeline.identity.roster(TODAY)
    assert roster is not None
    assert {shopper.consent for shopper in roster.shoppers.values()} == {BOTH}


async def test_what_has_not_changed_is_not_said_again(far: Far) -> None:
    far.promote("bread")
    far.enrol(1)
    assert far.says()
    assert far.says() == far.says(NOW_MS + 10_000) == []


async def test_all_but_deltas_is_retained_and_names_no_one(far: Far) -> None:
    far.enrol(1)
    said = far.says()
    far.enrol(2)
    said += far.says()
    assert {publication.topic.rpartition("/")[2] for publication in said if not publication.retain} == {"delta"}
    full = [publication for publication in said if publication.payload]
    payloads = b"".join(base64.b64decode(json.loads(publication.payload)["data_base64"]) for publication in full)
    assert b"app-1" not in payloads
    assert to_base64(key(1)).encode() not in payloads


async def test_parts_come_into_force_in_any_order(far: Far, near: Near) -> None:
    far.enrol(*range(1, 40))
    said = far.says()
    random.Random(3).shuffle(said)
    await near.hears(said)
    assert near.names == {pseudonym(number) for number in range(1, 40)}
    # And again, as after a new connection.
    random.Random(4).shuffle(said)
    await near.hears(said)
    assert near.roster() == (1, near.names)


async def test_check_in_and_opt_out_come_as_deltas(far: Far, near: Near) -> None:
    far.enrol(1, 2)
    await near.hears(far.says())
    far.enrol(3)
    far.opt_out(1)
    said = far.says()
    assert {publication.topic for publication in said} == {TOPICS.roster_delta}
    await near.hears(said)
    assert near.roster() == (2, {pseudonym(2), pseudonym(3)})
    far.enrol(2, consent=Consent.ANALYTICS)
    await near.hears(far.says())
    roster = near.pipeline.identity.roster(TODAY)
    assert roster is not None
    assert roster.shoppers[pseudonym(2)].consent == Consent.ANALYTICS


async def test_more_than_five_hundred_changes_come_as_a_manifest(far: Far, near: Near) -> None:
    far.enrol(1)
    await near.hears(far.says())
    far.enrol(*range(2, 503))
    said = far.says()
    assert not of(said, "delta")
    await near.hears(said)
    assert len(near.names) == 502


async def test_a_roster_that_shrinks_leaves_no_chunk_behind(far: Far, near: Near) -> None:
    far.enrol(1)
    await near.hears(far.says())
    far.opt_out(1)
    await near.hears(far.says())
    said = far.says(NOW_MS + 6_000)
    assert [(publication.topic, publication.payload) for publication in said if not publication.payload] == [
        (TOPICS.roster_chunk(day, 0), b"") for day in (TODAY, TODAY + 1)
    ]
    await near.hears(said)
    assert near.names == set()


async def test_the_broker_forgets_a_roster_when_its_day_is_over(far: Far) -> None:
    far.enrol(1)
    ends_s = ((TODAY + 1) * 24 * 3600 * 1000 + 2 * 3600 * 1000 - NOW_MS) // 1000
    expiry = {publication.topic: publication.expiry_s for publication in far.says() if publication.payload}
    assert expiry[TOPICS.roster_manifest(TODAY)] == expiry[TOPICS.roster_chunk(TODAY, 0)] == ends_s
    assert expiry[TOPICS.catalogue] is None


async def test_a_new_day_is_published_and_the_past_one_cleared(far: Far, near: Near) -> None:
    far.enrol(1)
    await near.hears(far.says())
    tomorrow_ms = NOW_MS + 24 * 3600 * 1000
    said = far.says(tomorrow_ms)
    topics = {publication.topic for publication in said if not publication.payload}
    left_by_a_life_before = {TOPICS.roster_chunk(TODAY + 2, index) for index in range(1, 5)}
    assert topics == {TOPICS.roster_manifest(TODAY), TOPICS.roster_chunk(TODAY, 0)} | left_by_a_life_before
    assert {publication.topic for publication in said if publication.payload} == {
        TOPICS.catalogue,
        TOPICS.roster_manifest(TODAY + 2),
        TOPICS.roster_chunk(TODAY + 2, 0),
    }


# ---- what is lost -------------------------------------------------------------------------------------------------------------


async def test_a_lost_delta_is_healed_by_the_next_manifest(far: Far, near: Near) -> None:
    far.enrol(1)
    await near.hears(far.says())
    far.enrol(2)
    lost = far.says()
    assert of(lost, "delta")
    far.opt_out(1)
    await near.hears(far.says())
    assert near.roster() == (1, {pseudonym(1)}), "a delta does not come into force before the one it builds on"
    await near.hears(far.says(NOW_MS + 4_900))
    assert near.names == {pseudonym(1)}
    await near.hears(far.says(NOW_MS + 5_000))
    assert near.roster() == (3, {pseudonym(2)})
    assert far.says(NOW_MS + 60_000) == []


async def test_a_delta_that_comes_late_is_caught_up_with(far: Far, near: Near) -> None:
    far.enrol(1)
    await near.hears(far.says())
    far.enrol(2)
    first = far.says()
    far.enrol(3)
    second = far.says()
    await near.hears(second)
    assert near.names == {pseudonym(1)}
    await near.hears(first)
    assert near.roster() == (3, {pseudonym(number) for number in (1, 2, 3)})
    await near.hears([*first, *second])
    assert near.roster() == (3, {pseudonym(number) for number in (1, 2, 3)})


async def test_a_delta_before_its_manifest_waits_for_it(far: Far, near: Near) -> None:
    far.enrol(1)
    whole = far.says()
    far.enrol(2)
    await near.hears(far.says())
    assert near.roster() is None
    await near.hears(whole)
    assert near.roster() == (2, {pseudonym(1), pseudonym(2)})


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_is_lost_or_delayed_the_next_manifest_is_right(far: Far, near: Near, seed: int) -> None:
    rng = random.Random(seed)
    late: list[Publication] = []
    now_ms = NOW_MS
    inside: set[int] = set()
    for _ in range(30):
        number = rng.randint(1, 8)
        if number in inside:
            far.opt_out(number)
            inside.discard(number)
        else:
            far.enrol(number)
            inside.add(number)
        now_ms += rng.choice([200, 2_000, 6_000])
        for publication in far.says(now_ms):
            fate = rng.random()
            if fate < 0.5:
                await near.hears([publication])
            elif fate < 0.7:
                late.append(publication)
        if late and rng.random() < 0.5:
            await near.hears([late.pop(rng.randrange(len(late)))])
    # The broker still has what was retained, and central says the rest.
    await near.hears(late)
    far.begins_again()
    await near.hears(far.says(now_ms + 10_000))
    assert near.names == {pseudonym(number) for number in inside}


# ---- restart ------------------------------------------------------------------------------------------------------------------


async def test_a_restart_without_broker_brings_back_what_was_in_force(far: Far, tmp_path: Path) -> None:
    far.promote("bread")
    far.enrol(1, 2)
    async with opened(tmp_path / "gateway.db") as store:
        near = Near(store)
        await near.hears(far.says())
        far.enrol(3)
        await near.hears(far.says())
        far.opt_out(1)
        await near.hears(far.says())
        before = near.in_force
    assert before[1] == (3, {pseudonym(2), pseudonym(3)})
    async with opened(tmp_path / "gateway.db") as store:
        near = Near(store)
        await near.downlinks.restore()
        assert near.in_force == before
        # What central says next still builds on it.
        far.enrol(4)
        await near.hears(far.says())
        assert near.names == {pseudonym(2), pseudonym(3), pseudonym(4)}


async def test_what_expired_meanwhile_is_not_brought_back(far: Far, tmp_path: Path) -> None:
    far.promote("bread")
    far.enrol(1)
    async with opened(tmp_path / "gateway.db") as store:
        await Near(store).hears(far.says())
    day = 24 * 3600 * 1000
    async with opened(tmp_path / "gateway.db") as store:
        near = Near(store, NOW_MS + day)
        await near.downlinks.restore()
        assert (near.catalogue, near.roster(), near.roster(TODAY + 1) is not None) == (1, None, True)
        assert all(f"/{TODAY}/" not in name for name, _ in await store.snapshots())
        near = Near(store, NOW_MS + 8 * day)
        await near.downlinks.restore()
        assert near.in_force == (None, None, None)
        assert await store.snapshots() == []


async def test_a_catalogue_that_expires_while_it_is_in_force_ends(far: Far, tmp_path: Path) -> None:
    far.promote("bread")
    week = 7 * 24 * 3600 * 1000
    async with opened(tmp_path / "gateway.db") as store:
        near = Near(store)
        await near.hears(far.says())
        in_force = []
        for wait_ms in (week, 1):
            near.clock.advance(near.clock.now().mono_ms + wait_ms)
            await near.downlinks.drop_past()
            in_force.append(near.catalogue)
        await near.hears(far.says(NOW_MS + week + 1))
        assert [*in_force, near.catalogue] == [1, None, 2]


async def test_a_rollback_is_refused_after_a_restart_too(far: Far, tmp_path: Path) -> None:
    far.promote("bread")
    far.enrol(1)
    old = far.says()
    far.promote("milk")
    far.enrol(2)
    new = far.says() + far.says(NOW_MS + 6_000)
    async with opened(tmp_path / "gateway.db") as store:
        await Near(store).hears([*old, *new])
    async with opened(tmp_path / "gateway.db") as store:
        near = Near(store)
        await near.downlinks.restore()
        before = near.in_force
        await near.hears(old)
        assert near.in_force == before == (2, near.roster(), near.roster(TODAY + 1))
        assert near.names == {pseudonym(1), pseudonym(2)}


async def test_without_complete_privacy_settings_no_roster_is_kept(far: Far, tmp_path: Path) -> None:
    far.promote("bread")
    far.enrol(1)
    async with opened(tmp_path / "gateway.db") as store:
        near = Near(store, keeps_phones=False)
        await near.hears(far.says())
        assert near.in_force == (1, None, None)
        assert [name for name, _ in await store.snapshots()] == ["catalogue"]


# ---- what is forged -----------------------------------------------------------------------------------------------------------


def seal(document: Document, signer: Signer = SIGNER) -> bytes:
    return signer.seal(document, source=SOURCE, time_ms=NOW_MS).to_json()


def newer(document: Document, **changes: Any) -> Document:
    return document.model_copy(update={"version": 100, "not_after": NOW_MS + 1000} | changes)


def forgeries(good: dict[str, Document], old: list[Publication], rng: random.Random) -> list[tuple[str, str, bytes]]:
    """(what, topic, payload) of what must not come into force, however often it comes."""
    out: list[tuple[str, str, bytes]] = [("rollback", publication.topic, publication.payload) for publication in old]
    for topic, document in good.items():
        out += [
            ("other store", topic, seal(newer(document, store="other"))),
            ("expired", topic, seal(newer(document, not_after=NOW_MS - 1))),
            ("unknown key", topic, seal(newer(document), STRANGER)),
            ("bare document", topic, newer(document).to_bytes()),
            ("empty object", topic, b"{}"),
            ("no JSON", topic, b"\xff" * 100),
            ("nested bomb", topic, b'{"a":' * 50_000),
            ("large bomb", topic, b" " * (1024 * 1024 + 1)),
        ]
        genuine = json.loads(seal(newer(document)))
        out.append(("stolen key id", topic, canonical({**json.loads(seal(newer(document), STRANGER)), "keyid": SIGNER.key_id})))
        for field in ("signature", "keyid", "data_base64"):
            out.append((f"without {field}", topic, canonical({k: v for k, v in genuine.items() if k != field})))
        out.append(("empty signature", topic, canonical({**genuine, "signature": ""})))
        raw = newer(document).to_bytes()
        unsigned = [b"{}", b"[]", raw[:-1], raw[:-1] + b',"version":200}', raw.replace(b'"version":100', b'"version":101')]
        out += [("signed as another", topic, canonical({**genuine, "data_base64": to_base64(text)})) for text in unsigned]
        for text in (b"{}", b"[]", raw[:-1], raw[:-1] + b',"version":200}', b'{"a":' * 1000, raw[:-1] + b',"extra":1}'):
            signature = to_base64(SIGNER._key.sign(b"beacon-gateway/1\0" + text))
            # Signed in earnest, and still no document of this kind.
            out.append(("signed nonsense", topic, canonical({**genuine, "data_base64": to_base64(text), "signature": signature})))
        for _ in range(20):
            sealed = seal(newer(document))
            out.append(("truncated", topic, sealed[: rng.randrange(len(sealed))]))
            field = rng.choice(["signature", "data_base64"])
            flipped = bytearray(base64.b64decode(genuine[field]))
            flipped[rng.randrange(len(flipped))] ^= rng.randrange(1, 256)
            out.append(("flipped", topic, canonical({**genuine, field: to_base64(bytes(flipped))})))
    rng.shuffle(out)
    return out


async def test_nothing_forged_comes_into_force_and_the_old_one_stays(
    far: Far, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    far.promote("bread")
    far.enrol(1)
    old = far.says()
    far.promote("bread", "milk")
    far.enrol(2)
    current = far.says() + far.says(NOW_MS + 6_000)
    intruder = records_of(66)
    good: dict[str, Document] = {
        TOPICS.catalogue: Catalogue(store="demo", version=1, not_after=1, promotions=(promotion("forged"),)),
        TOPICS.roster_manifest(TODAY): RosterManifest(store="demo", version=1, not_after=1, day=TODAY, count=0, chunks=()),
        TOPICS.roster_delta: RosterDelta(
            store="demo", version=1, not_after=1, day=TODAY, previous=2, upserts=to_base64(intruder), removals=(pseudonym(1),)
        ),
    }
    async with opened(tmp_path / "gateway.db") as store:
        near = Near(store)
        await near.hears([*old, *current])
        before, kept = near.in_force, dict(await store.snapshots())
        assert before[:2] == (2, (2, {pseudonym(1), pseudonym(2)}))
        tried = forgeries(good, old, random.Random(1))
        assert len(tried) >= 190
        for what, topic, payload in tried:
            await near.downlinks.take(topic, payload)
            assert near.in_force == before, what
        assert dict(await store.snapshots()) == kept
        # What is refused is said, but nothing of it is quoted at length.
        refusals = [record.message for record in caplog.records if "downlink refused" in record.message]
        assert len(refusals) >= 0.9 * len(tried)
        assert max(map(len, refusals)) < 1000
        # The genuine ones would have been taken.
        for version, topic in enumerate((TOPICS.catalogue, TOPICS.roster_delta, TOPICS.roster_manifest(TODAY)), 100):
            await near.downlinks.take(topic, seal(newer(good[topic], version=version)))
            assert near.in_force != before
            before = near.in_force


def records_of(number: int) -> bytes:
    return derive_pseudonym(key(number), 4711, TODAY) + bytes(16) + b"\3"


async def test_a_delta_with_broken_records_is_refused(far: Far, near: Near) -> None:
    far.enrol(1)
    await near.hears(far.says())
    for upserts in ("A", to_base64(bytes(24))):
        delta = RosterDelta(store="demo", version=2, not_after=NOW_MS + 1, day=TODAY, previous=1, upserts=upserts)
        await near.downlinks.take(TOPICS.roster_delta, seal(delta))
        assert near.roster() == (1, {pseudonym(1)})


async def test_topics_that_carry_no_downlink_are_refused(near: Near, caplog: pytest.LogCaptureFixture) -> None:
    document = Catalogue(store="demo", version=1, not_after=NOW_MS + 1, promotions=())
    for name in ("roster/1/manifest", "roster/1/0", "roster/delta", "surprise", ""):
        await near.downlinks.take(f"stores/demo/down/{name}", seal(document))
    assert near.in_force == (None, None, None)
    assert await near.store.snapshots() == []
    assert caplog.text.count("downlink refused") == 5


# ---- through a real broker ----------------------------------------------------------------------------------------------------


async def test_check_in_and_opt_out_are_in_force_within_two_seconds(tmp_path: Path) -> None:
    """From the command line's commit in central's file to the gateway that recognises, or does not any more."""
    with Mosquitto(tmp_path) as broker:
        day_start_s = (int(time.time()) // 900 * 900 + 43_200) % 86_400
        day = day_of(window_of(time.time()), day_start_s)
        settings = CentralSettings(
            state_dir=tmp_path / "central",
            broker=broker.settings(),
            stores={"demo": CentralStore(store_number=4711, day_start_s=day_start_s)},
        )
        path = settings.state_dir / "central.db"
        stop = asyncio.Event()
        async with opened(tmp_path / "gateway.db") as store, asyncio.TaskGroup() as group:
            near = Near(store, time.time_ns() // 1_000_000)
            near.pipeline.identity._day_start_s = day_start_s
            group.create_task(Central(settings, SystemClock(), SIGNER).run(stop))
            group.create_task(listen(broker, near, stop))
            try:
                await until(lambda: near.roster(day) is not None)
                for number in range(1, 6):
                    name = derive_pseudonym(key(number), 4711, day).hex()
                    began = time.monotonic()
                    transact(path, CENTRAL, lambda db, n=number: records.enrol(db, f"app-{n}", key(n), BOTH, ["demo"]))  # type: ignore[misc]
                    await until(lambda name=name: near.pipeline.identity.is_known(name))  # type: ignore[misc]
                    assert time.monotonic() - began < 2
                    began = time.monotonic()
                    transact(path, CENTRAL, lambda db, n=number: records.opt_out(db, f"app-{n}"))  # type: ignore[misc]
                    await until(lambda name=name: not near.pipeline.identity.is_known(name))  # type: ignore[misc]
                    assert time.monotonic() - began < 2
            finally:
                stop.set()


async def listen(broker: Mosquitto, near: Near, stop: asyncio.Event) -> None:
    async with broker.client() as client:
        await client.subscribe("stores/demo/down/#", qos=1)

        async def read() -> None:
            async for message in client.messages:
                assert isinstance(message.payload, bytes)
                await near.downlinks.take(message.topic.value, message.payload)

        reading = asyncio.create_task(read())
        await stop.wait()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def until(is_so: Callable[[], bool], within_s: float = 10) -> None:
    async with asyncio.timeout(within_s):
        while not is_so():  # noqa: ASYNC110 (what is waited for announces nothing)
            await asyncio.sleep(0.005)
