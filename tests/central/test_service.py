"""The reference service end to end: a real broker, a real file, and a gateway and apps that are spoken for by the test."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from gateway.central import records
from gateway.central.records import CENTRAL
from gateway.central.service import Central
from gateway.contract.messages import Ack, AppOffer, CentralState, Decision, Receipt, ReceiptData, StaffAlarm, read
from gateway.contract.promotions import Promotion
from gateway.contract.settings import CentralSettings, CentralStore
from gateway.core.model import Consent
from gateway.core.token import day_of, derive_pseudonym, window_of
from gateway.io.clock import SystemClock
from gateway.io.store.database import transact
from tests.contract.examples import EPOCH, EVENTS, OTHERS
from tests.fakes.mosquitto import Mosquitto

KEYS = {"anna": b"\1" * 32, "ben": b"\2" * 32, "chiara": b"\3" * 32}
CONSENTS = {"anna": Consent.OFFERS | Consent.ANALYTICS, "ben": Consent.ANALYTICS, "chiara": Consent.OFFERS}
STATUS = next(document for document in OTHERS.values() if document["type"] == "gateway.status.v1")
PROMOTIONS = tuple(
    Promotion.model_validate({"zones": ["bakery"], **document})
    for document in (
        {"promotion_id": "bread", "long_title": {"de": "Brot", "en": "Bread"}, "promotion_url": "https://example.org/bread"},
        {"promotion_id": "milk", "long_title": {"en": "Milk"}},
        {"promotion_id": "card", "kind": "info", "long_title": {"en": "A card"}},
    )
)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class World:
    """Central, and everything that it says."""

    def __init__(self, broker: Mosquitto, folder: Path) -> None:
        self.broker = broker
        # The day's end is twelve hours away, so that no test meets the change of pseudonyms.
        self.day_start_s = (int(time.time()) // 900 * 900 + 43_200) % 86_400
        self.settings = CentralSettings(
            state_dir=folder / "central",
            broker=broker.settings(),
            stores={"demo": CentralStore(store_number=4711, day_start_s=self.day_start_s)},
        )
        self.path = self.settings.state_dir / "central.db"
        self.heard: list[tuple[str, bytes]] = []
        self.client: aiomqtt.Client
        self._seq = 0

    def pseudonym(self, inbox: str) -> str:
        return derive_pseudonym(KEYS[inbox], 4711, day_of(window_of(time.time()), self.day_start_s)).hex()

    @contextlib.asynccontextmanager
    async def central(self) -> AsyncIterator[None]:
        """The service runs, and is online."""
        stop = asyncio.Event()
        before = len(self.states())
        task = asyncio.create_task(Central(self.settings, SystemClock()).run(stop))
        try:
            await self.until(lambda: self.states()[before:] == ["online"])
            yield
        finally:
            stop.set()
            async with asyncio.timeout(10):
                await task

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        async with self.broker.client() as self.client:
            for topic in (
                "central/state",
                "stores/+/down/+/ack",
                "stores/+/down/+/decision",
                "stores/+/staff",
                "app/+/offer",
            ):
                await self.client.subscribe(topic, qos=1)
            reading = asyncio.create_task(self._read())
            try:
                yield
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    async def _read(self) -> None:
        async for message in self.client.messages:
            assert isinstance(message.payload, bytes)
            self.heard.append((message.topic.value, message.payload))

    async def until(self, is_so: Callable[[], bool], within_s: float = 10) -> None:
        async with asyncio.timeout(within_s):
            while not is_so():  # noqa: ASYNC110 (what is waited for announces nothing)
                await asyncio.sleep(0.005)

    # ---- what central said --------------------------------------------------------------------------------------------------

    def on(self, topic: str) -> list[bytes]:
        return [payload for where, payload in self.heard if where == topic]

    def states(self) -> list[str]:
        return [read(CentralState, payload, "state").data.state for payload in self.on("central/state")]

    def acks(self, epoch: str = EPOCH) -> list[int]:
        acks = [read(Ack, payload, "ack").data for payload in self.on("stores/demo/down/pi-1/ack")]
        return [ack.seq for ack in acks if ack.epoch == epoch]

    def decisions(self, offer: str) -> list[str]:
        """`granted`, or the reason why not."""
        found = [read(Decision, payload, "decision").data for payload in self.on("stores/demo/down/pi-1/decision")]
        return ["granted" if decision.granted else decision.reason or "" for decision in found if decision.offer == offer]

    def alarms(self) -> list[str]:
        """What the staff of the store was told, in short."""
        told = [read(StaffAlarm, payload, "alarm").data for payload in self.on("stores/demo/staff")]
        return [f"{one.subject} {one.name} {one.state}{' over' if one.is_over else ''}" for one in told]

    def offers(self, inbox: str) -> list[AppOffer]:
        return [read(AppOffer, payload, "offer") for payload in self.on(f"app/{inbox}/offer")]

    # ---- what the gateway and the apps say ----------------------------------------------------------------------------------

    async def send(
        self,
        kind: str,
        /,
        *,
        seq: int | None = None,
        epoch: str = EPOCH,
        store: str = "demo",
        called: str | None = None,
        **data: Any,
    ) -> int:
        """An event of the gateway, perhaps under the name of another type; returns its number."""
        if seq is None:
            seq = self._seq + 1
        self._seq = max(seq, self._seq)
        document = {**EVENTS[kind], "time": now_ms(), "epoch": epoch, "seq": seq, "id": f"{epoch}-{seq}"}
        document["data"] = {**EVENTS[kind]["data"], **data}
        document["type"] = called or kind
        await self.client.publish(f"stores/{store}/up/pi-1/event", json.dumps(document), qos=1)
        return seq

    async def propose(self, offer: str, inbox: str, promotion: str = "bread", *, seq: int | None = None, **data: Any) -> int:
        details = {
            "offer": offer,
            "shopper": self.pseudonym(inbox) if inbox in KEYS else inbox,
            "promotion_id": promotion,
            "matched_time": now_ms(),
            "deadline": now_ms() + 60_000,
            **data,
        }
        return await self.send("offer.matched.v1", seq=seq, **details)

    async def answer(self, offer: str, inbox: str, promotion: str = "bread", **data: Any) -> str:
        """What central says to a proposal."""
        await self.propose(offer, inbox, promotion, **data)
        await self.until(lambda: bool(self.decisions(offer)))
        return self.decisions(offer)[-1]

    async def confirm(self, offer: str, inbox: str, receipt: str = "r-1") -> None:
        message = Receipt(id=receipt, source=f"app/{inbox}", time=now_ms(), data=ReceiptData(offer=offer, state="shown"))
        await self.client.publish(f"app/{inbox}/receipt", message.to_json(), qos=1)

    async def be_born(self, oldest_seq: int, epoch: str = EPOCH, gateway: str = "pi-1", **more: Any) -> None:
        data = {"state": "online", "epoch": epoch, "oldest_seq": oldest_seq, **more}
        document = {**STATUS, "time": now_ms(), "data": data}
        await self.client.publish(f"stores/demo/up/{gateway}/status", json.dumps(document), qos=1, retain=True)

    async def claim(self, term: int, decider: str, gateway: str = "pi-1", state: str = "online") -> None:
        """A status of one gateway that names who decides."""
        before = len(self.acks())
        await self.be_born(1, gateway=gateway, decider=decider, term=term, state=state)
        if state == "online" and gateway == "pi-1":
            await self.until(lambda: len(self.acks()) > before)

    def rows(self, question: str) -> list[Any]:
        return transact(self.path, CENTRAL, lambda db: db.execute(question).fetchall())


def prepare(world: World) -> None:
    def enrol(db: Any) -> None:
        records.replace_promotions(db, "demo", PROMOTIONS)
        for inbox, key in KEYS.items():
            records.enrol(db, inbox, key, CONSENTS[inbox], ["demo"])

    transact(world.path, CENTRAL, enrol)


@pytest.fixture
async def quiet(tmp_path: Path) -> AsyncIterator[World]:
    """Everything but central, which does not run yet."""
    with Mosquitto(tmp_path) as broker:
        world = World(broker, tmp_path)
        prepare(world)
        async with world.listening():
            yield world


@pytest.fixture
async def world(quiet: World) -> AsyncIterator[World]:
    async with quiet.central():
        # Its rosters are out: pseudonyms are known.
        await quiet.until(lambda: len(quiet.rows("SELECT * FROM pseudonym")) == 2 * len(KEYS))
        yield quiet


# ---- acknowledgements ---------------------------------------------------------------------------------------------------------


async def test_events_are_stored_once_and_acknowledged_without_gap(world: World) -> None:
    await world.send("visit.started.v1")
    await world.until(lambda: world.acks()[-1:] == [1])
    await world.send("zone.entered.v1", seq=3)
    await world.send("tombstone.v1", seq=4)
    await world.until(lambda: len(world.rows("SELECT * FROM event")) == 3)
    assert world.acks()[-1] == 1
    await world.send("zone.entered.v1", seq=3)
    await world.send("zone.dwelled.v1", seq=2)
    await world.until(lambda: world.acks()[-1] == 4)
    assert world.rows("SELECT seq, type FROM event ORDER BY seq") == [
        (1, "visit.started.v1"),
        (2, "zone.dwelled.v1"),
        (3, "zone.entered.v1"),
        (4, "tombstone.v1"),
    ]


async def test_an_event_that_only_a_newer_gateway_knows_holds_nothing_up(world: World) -> None:
    await world.send("visit.started.v1", called="visit.dreamt.v3", shopper=["no", "name"])
    await world.send("visit.started.v1")
    await world.until(lambda: world.acks()[-1:] == [2])
    assert world.rows("SELECT seq, type FROM event ORDER BY seq") == [(1, "visit.dreamt.v3"), (2, "visit.started.v1")]


async def test_an_epoch_is_a_stream_of_its_own(world: World) -> None:
    other = "ffffffffffffffff"
    await world.send("visit.started.v1", seq=1)
    await world.send("visit.started.v1", seq=1, epoch=other)
    await world.send("visit.started.v1", seq=2, epoch=other)
    await world.until(lambda: world.acks()[-1:] == [1] and world.acks(other)[-1:] == [2])


async def test_a_birth_is_answered_with_how_far_central_has_stored(world: World) -> None:
    await world.be_born(1)
    await world.until(lambda: world.acks() == [0])
    await world.send("visit.started.v1")
    await world.until(lambda: world.acks() == [0, 1])
    await world.be_born(2)
    await world.until(lambda: world.acks() == [0, 1, 1])


async def test_a_central_without_memory_counts_from_where_the_gateway_begins(world: World) -> None:
    await world.be_born(1000)
    await world.until(lambda: world.acks() == [999])
    await world.send("visit.started.v1", seq=1000)
    await world.until(lambda: world.acks()[-1] == 1000)


async def test_what_was_sent_while_central_was_away_is_stored_when_it_is_back(quiet: World) -> None:
    async with quiet.central():
        pass
    for _ in range(300):
        await quiet.send("visit.started.v1")
    async with quiet.central():
        await quiet.until(lambda: quiet.acks()[-1:] == [300])


async def test_central_says_when_it_comes_and_goes(quiet: World) -> None:
    for _ in range(2):
        async with quiet.central():
            pass
    await quiet.until(lambda: len(quiet.states()) == 4)
    assert quiet.states() == ["online", "offline"] * 2
    instances = [read(CentralState, payload, "state").data.instance for payload in quiet.on("central/state")]
    assert instances[0] == instances[1] != instances[2] == instances[3]


# ---- decisions ----------------------------------------------------------------------------------------------------------------


async def test_a_grant_reaches_gateway_and_app_with_what_the_app_shows(world: World) -> None:
    assert await world.answer("o1", "anna", zone="bakery") == "granted"
    await world.until(lambda: bool(world.offers("anna")))
    (offer,) = world.offers("anna")
    assert (offer.id, offer.data.offer, offer.data.store, offer.data.zone) == ("o1", "o1", "demo", "bakery")
    assert offer.data.title == {"de": "Brot", "en": "Bread"}
    assert offer.data.url == "https://example.org/bread"
    assert 0 < offer.expirytime - offer.time <= 60_000
    # The app never learns its pseudonym, nor anybody else the offer.
    assert world.pseudonym("anna").encode() not in b"".join(world.on("app/anna/offer"))
    assert {topic for topic, _ in world.heard if topic.startswith("app/")} == {"app/anna/offer"}


async def test_the_same_proposal_again_gets_the_same_answer_and_no_second_offer(world: World) -> None:
    seq = await world.propose("o1", "anna")
    await world.until(lambda: world.decisions("o1") == ["granted"] and len(world.offers("anna")) == 1)
    await world.confirm("o1", "anna")
    for count in (2, 3, 4):
        await world.propose("o1", "anna", seq=seq)
        await world.until(lambda count=count: world.decisions("o1") == ["granted"] * count)  # type: ignore[misc]
    assert world.rows("SELECT offer, reason FROM offer") == [("o1", None)]
    assert len(world.offers("anna")) == 1


async def test_a_gateway_that_lost_its_file_and_proposes_anew_is_refused(world: World) -> None:
    assert await world.answer("o1", "anna") == "granted"
    assert await world.answer("o2", "anna", epoch="ffffffffffffffff", seq=1) == "already_granted"
    await asyncio.sleep(0.1)
    assert [offer.id for offer in world.offers("anna")] == ["o1"]


async def test_every_refusal_says_why(world: World) -> None:
    assert await world.answer("o1", "ben") == "no_consent"
    assert await world.answer("o2", "0011223344556677") == "unknown_shopper"
    assert await world.answer("o3", "anna", "cheese") == "unknown_promotion"
    assert await world.answer("o4", "anna", deadline=now_ms() - 1) == "late"
    assert await world.answer("o5", "anna") == "granted"
    assert await world.answer("o6", "anna") == "already_granted"
    assert await world.answer("o7", "anna", "milk") == "push_spent"
    assert await world.answer("o8", "anna", "card", kind="info") == "granted"
    assert await world.answer("o9", "chiara") == "granted"
    await world.until(lambda: len(world.offers("anna")) == 2)
    assert not world.offers("ben")
    assert world.rows("SELECT count(*) FROM offer") == [(9,)]


async def test_only_who_decides_in_the_store_gets_grants(world: World) -> None:
    assert await world.answer("o1", "anna", "card", kind="info") == "granted", "nobody has claimed anything yet"
    await world.claim(1, "pi-1")
    assert await world.answer("o2", "anna") == "granted"
    await world.claim(2, "pi-2", gateway="pi-2")
    await world.claim(1, "pi-1")
    assert await world.answer("o3", "chiara") == "not_decider"
    await world.claim(2, "pi-1")
    assert await world.answer("o4", "chiara") == "granted", "in one term the name that comes first"
    await world.claim(2, "pi-2")
    assert await world.answer("o5", "chiara") == "already_granted"
    assert world.rows("SELECT store, term, gateway FROM decider") == [("demo", 2, "pi-1")]


async def test_a_will_tells_who_decides_and_central_keeps_it_over_a_restart(quiet: World) -> None:
    async with quiet.central():
        await quiet.claim(7, "pi-9", gateway="pi-9", state="offline")
        await quiet.until(lambda: quiet.rows("SELECT term, gateway FROM decider") == [(7, "pi-9")])
    async with quiet.central():
        await quiet.claim(6, "pi-1")
        assert await quiet.answer("o1", "anna") == "not_decider"
    assert not quiet.offers("anna")


async def test_events_of_a_gateway_that_does_not_decide_are_stored_all_the_same(world: World) -> None:
    await world.claim(2, "pi-2", gateway="pi-2")
    assert await world.answer("o1", "anna") == "not_decider"
    await world.until(lambda: 1 in world.acks())
    assert world.rows("SELECT type FROM event") == [("offer.matched.v1",)]


async def test_open_decisions_are_repeated_to_a_gateway_that_comes_back(world: World) -> None:
    await world.answer("o1", "anna")
    await world.answer("o2", "ben")
    await world.answer("o3", "anna", deadline=now_ms() - 1)
    await world.be_born(1)
    await world.until(lambda: len(world.decisions("o1")) == len(world.decisions("o2")) == 2)
    assert world.decisions("o1") == ["granted"] * 2
    assert world.decisions("o2") == ["no_consent"] * 2
    assert world.decisions("o3") == ["late"], "nobody can use it any more"


async def test_new_promotions_count_from_the_next_proposal_on(world: World) -> None:
    assert await world.answer("o1", "anna", "cheese") == "unknown_promotion"
    cheese = Promotion.model_validate({"promotion_id": "cheese", "long_title": {"en": "Cheese"}, "zones": ["bakery"]})
    transact(world.path, CENTRAL, lambda db: records.replace_promotions(db, "demo", (cheese,)))
    await asyncio.sleep(1)
    assert await world.answer("o2", "anna", "cheese") == "granted"
    assert await world.answer("o3", "anna", "bread") == "unknown_promotion"


async def test_who_opts_out_is_offered_nothing_more(world: World) -> None:
    transact(world.path, CENTRAL, lambda db: records.opt_out(db, "anna"))
    assert await world.answer("o1", "anna") == "unknown_shopper"
    assert world.offers("anna") == []


# ---- offers to the apps -------------------------------------------------------------------------------------------------------


async def test_an_offer_is_sent_again_after_a_restart_until_its_receipt(quiet: World) -> None:
    async with quiet.central():
        await quiet.until(lambda: len(quiet.rows("SELECT * FROM pseudonym")) == 2 * len(KEYS))
        await quiet.answer("o1", "anna")
        await quiet.until(lambda: len(quiet.offers("anna")) == 1)
    async with quiet.central():
        await quiet.until(lambda: len(quiet.offers("anna")) == 2)
        await quiet.confirm("o1", "anna")
        await quiet.until(lambda: quiet.rows("SELECT count(*) FROM app_outbox") == [(0,)])
    async with quiet.central():
        await asyncio.sleep(0.3)
    assert [offer.id for offer in quiet.offers("anna")] == ["o1", "o1"]


async def test_receipts_are_kept_once_and_for_own_offers_only(world: World) -> None:
    await world.answer("o1", "anna")
    await world.confirm("o1", "ben", "r-0")
    await world.confirm("o1", "anna", "r-1")
    await world.confirm("o1", "anna", "r-1")
    await world.confirm("o2", "anna", "r-2")
    await world.confirm("o1", "anna", "r-3")
    await world.until(lambda: len(world.rows("SELECT * FROM receipt")) == 2)
    assert world.rows("SELECT id, inbox, offer, state FROM receipt ORDER BY id") == [
        ("r-1", "anna", "o1", "shown"),
        ("r-3", "anna", "o1", "shown"),
    ]


# ---- beacons and receivers ----------------------------------------------------------------------------------------------------


async def test_the_staff_is_told_once_of_each_change(world: World) -> None:
    await world.send("beacon.health.v1", state="silent", before="ok")
    await world.send("beacon.health.v1", changed="battery_state", before="ok", battery_state="low")
    deaf = await world.send("receiver.health.v1", state="deaf", before="hearing", step=None, helped=None)
    # It comes again, then a step that does not help, and another gateway says the same.
    await world.send("receiver.health.v1", seq=deaf, state="deaf", before="hearing")
    await world.send("receiver.health.v1", state="deaf", before="deaf", step="restart-scan", helped=False)
    await world.send("receiver.health.v1", state="deaf", before="hearing", step=None, told_by="canaries")
    await world.send("receiver.health.v1", state="hearing", before="deaf", step="power-cycle", helped=True)
    await world.send("beacon.health.v1", state="learning", before="silent")
    await world.until(lambda: world.acks()[-1:] == [7])
    expected = ["beacon shelf-7 silent", "battery shelf-7 low", "receiver door deaf", "receiver door hearing over"]
    await world.until(lambda: world.alarms() == [*expected, "beacon shelf-7 learning over"])
    first = read(StaffAlarm, world.on("stores/demo/staff")[0], "alarm")
    assert first.data.zone == "dairy"
    assert first.data.text["de"].startswith("Beacon shelf-7 (dairy) ist nicht mehr zu hören")
    assert first.data.text["en"].startswith("Beacon shelf-7 (dairy) is not heard any more")
    await world.until(lambda: world.rows("SELECT * FROM staff_outbox") == [])
    assert world.rows("SELECT subject, name, state FROM health ORDER BY subject") == [
        ("battery", "shelf-7", "low"),
        ("beacon", "shelf-7", "learning"),
        ("receiver", "door", "hearing"),
    ]


async def test_what_is_past_when_it_is_told_alarms_nobody(world: World) -> None:
    """What happens now goes before what waited for the network."""
    document = {**EVENTS["beacon.health.v1"], "epoch": EPOCH, "time": now_ms() - 60_000}
    await world.send("beacon.health.v1", seq=2, state="ok", before="silent")
    await world.until(lambda: world.alarms() == ["beacon shelf-7 ok over"])
    late = {**document, "seq": 1, "id": f"{EPOCH}-1", "history": True}
    await world.client.publish("stores/demo/up/pi-1/event", json.dumps(late), qos=1)
    await world.until(lambda: world.acks()[-1:] == [2])
    await world.send("beacon.health.v1", seq=3, state="covered", before="ok")
    await world.until(lambda: world.alarms() == ["beacon shelf-7 ok over", "beacon shelf-7 covered"])


async def test_every_alarm_has_its_words(world: World) -> None:
    for state in ("weak", "covered", "moved", "silent", "cloned", "ok"):
        await world.send("beacon.health.v1", state=state)
    for state in ("low", "ok"):
        await world.send("beacon.health.v1", changed="battery_state", battery_state=state)
    for state, before in (("impaired", "hearing"), ("deaf", "impaired"), ("hearing", "deaf")):
        await world.send("receiver.health.v1", state=state, before=before)
    await world.until(lambda: len(world.alarms()) == 11)
    texts = [read(StaffAlarm, payload, "alarm").data.text for payload in world.on("stores/demo/staff")]
    assert all(text.keys() == {"de", "en"} and "{" not in text["de"] + text["en"] for text in texts)
    assert len({text["de"] for text in texts}) == len(texts)


# ---- what it does not believe -------------------------------------------------------------------------------------------------


async def test_nothing_that_comes_up_can_stop_it(world: World) -> None:
    rng = random.Random(1)
    good = json.dumps({**EVENTS["zone.entered.v1"], "seq": 1}).encode()
    payloads = [b"", b"{}", b"[" * 100_000, b"\xff", good[:-1], good.replace(b'"seq": 1', b'"seq": 1e999')]
    payloads += [good.replace(b'"seq": 1', b'"seq": ' + b"9" * size) for size in (16, 19, 20, 40)]
    for _ in range(100):
        damaged = bytearray(good)
        for _ in range(rng.randint(1, 5)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        payloads.append(bytes(damaged))
    topics = ["stores/demo/up/pi-1/event", "stores/demo/up/pi-1/status", "app/anna/receipt", "stores/other/up/pi-1/event"]
    for payload in payloads:
        for topic in topics:
            await world.client.publish(topic, payload, qos=1)
    for topic in (
        "stores/demo/up/Pi 1/event",
        "stores//up//event",
        "app//receipt",
        "app/a b/receipt",
        "stores/de mo/up/x/status",
    ):
        await world.client.publish(topic, good, qos=1)
    await world.send("visit.started.v1", seq=1, epoch="eeeeeeeeeeeeeeee")
    await world.until(lambda: world.acks("eeeeeeeeeeeeeeee") == [1])
    assert world.states() == ["online"]


async def test_events_of_another_store_are_not_taken(world: World) -> None:
    await world.send("visit.started.v1", seq=1, store="other")
    await world.send("visit.started.v1", seq=1)
    await world.until(lambda: world.acks() == [1])
    assert world.rows("SELECT DISTINCT store FROM event") == [("demo",)]
