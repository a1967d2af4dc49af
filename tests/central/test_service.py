"""The reference service end to end: a real broker, a real file, and a gateway and apps that are spoken for by the test."""

import asyncio
import contextlib
import json
import logging
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from gateway.central import records
from gateway.central.contexts import keep_profile
from gateway.central.records import CENTRAL
from gateway.central.service import Central
from gateway.contract.downlinks import Catalogue, ShopperContext
from gateway.contract.fields import to_rfc3339
from gateway.contract.messages import (
    Ack,
    AppOffer,
    CentralState,
    CloudEvent,
    Decision,
    Order,
    Profile,
    ProfileData,
    Receipt,
    ReceiptData,
    StaffAlarm,
    StaffPickup,
    TillReceipt,
    Wish,
    WithdrawnOffer,
    read,
)
from gateway.contract.promotions import Promotion
from gateway.contract.settings import CentralSettings, CentralStore
from gateway.core.model import Consent
from gateway.core.token import day_of, derive_pseudonym, window_of
from gateway.io.clock import SystemClock
from gateway.io.signing import Signer, Verifier
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
        {
            "promotion_id": "coupon",
            "kind": "coupon",
            "long_title": {"en": "A coupon"},
            "audience": {"field": "basket_today", "operator": "more_than", "value": "50.00 EUR"},
        },
        {"promotion_id": "deal", "kind": "info", "long_title": {"en": "A deal"}, "quantity": 10},
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
            stores={
                "demo": CentralStore(store_number=4711, day_start_s=self.day_start_s),
                "south": CentralStore(store_number=4712, day_start_s=self.day_start_s),
            },
        )
        self.path = self.settings.state_dir / "central.db"
        self.keys = dict(KEYS)
        self.heard: list[tuple[str, bytes]] = []
        self.client: aiomqtt.Client
        self._seq = 0

    def pseudonym(self, inbox: str, store: str = "demo") -> str:
        number = self.settings.stores[store].store_number
        return derive_pseudonym(self.keys[inbox], number, day_of(window_of(time.time()), self.day_start_s)).hex()

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
                "stores/+/down/catalogue",
                "stores/+/down/shopper/+",
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

    def contexts(self, inbox: str, store: str = "demo") -> list[ShopperContext]:
        """As the gateway reads them."""
        verifier = Verifier((Signer.from_file(self.settings.state_dir / "signing.key").public_key,), store)
        told = self.on(f"stores/{store}/down/shopper/{self.pseudonym(inbox, store)}")
        return [verifier.open(payload, ShopperContext, where="context", now_ms=now_ms()) for payload in told]

    def sold_out(self, store: str) -> tuple[str, ...] | None:
        """By the newest catalogue."""
        verifier = Verifier((Signer.from_file(self.settings.state_dir / "signing.key").public_key,), store)
        told = self.on(f"stores/{store}/down/catalogue")
        return verifier.open(told[-1], Catalogue, where="catalogue", now_ms=now_ms()).sold_out if told else None

    def pickups(self) -> list[str]:
        """What the staff was told of orders, in short."""
        told = [json.loads(payload) for payload in self.on("stores/demo/staff")]
        found = [StaffPickup.model_validate(one).data for one in told if one["type"] == "staff.pickup.v1"]
        return [f"{one.order} {'over' if one.is_over else one.zone}" for one in found]

    def withdrawn(self, inbox: str) -> list[str]:
        """Offers that were taken back, and why."""
        told = [json.loads(payload) for payload in self.on(f"app/{inbox}/offer")]
        found = [WithdrawnOffer.model_validate(one).data for one in told if one["type"] == "app.offer.withdrawn.v1"]
        return [f"{one.offer} {one.reason}" for one in found]

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

    async def come(self, inbox: str, store: str = "demo") -> None:
        """The visit starts."""
        await self.send("visit.started.v1", shopper=self.pseudonym(inbox, store), store=store)

    async def tell(self, topic: str, model: type[CloudEvent], **data: Any) -> None:
        """What an app, a till, the web shop or the CRM says."""
        message = model.model_validate({"id": secrets.token_hex(4), "source": "test", "time": now_ms(), "data": data})
        await self.client.publish(topic, message.to_json(), qos=1)

    async def pay(self, receipt: str, total: str, inbox: str = "anna", **data: Any) -> None:
        document = {"receipt": receipt, "till": "till-1", "purchase_time": now_ms(), "inbox": inbox, "total": total, **data}
        await self.tell("stores/demo/in/receipt", TillReceipt, **document)

    async def order(self, state: str, version: int, **data: Any) -> None:
        document = {"order": "W-1", "inbox": "anna", "version": version, "state": state, "changed_time": now_ms(), **data}
        await self.tell("stores/demo/in/order", Order, **document)

    async def propose(self, offer: str, inbox: str, promotion: str = "bread", *, seq: int | None = None, **data: Any) -> int:
        details = {
            "offer": offer,
            "shopper": self.pseudonym(inbox) if inbox in self.keys else inbox,
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

    async def confirm(self, offer: str, inbox: str, receipt: str = "r-1", state: str = "shown") -> None:
        data = ReceiptData.model_validate({"offer": offer, "state": state})
        message = Receipt(id=receipt, source=f"app/{inbox}", time=now_ms(), data=data)
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


# ---- contexts -----------------------------------------------------------------------------------------------------------------


async def test_a_context_is_told_when_a_visit_starts_and_whenever_something_changes(world: World) -> None:
    await world.tell("chain/in/profile", Profile, inbox="anna", version=1, segments=["family"], language="de")
    await world.until(lambda: world.rows("SELECT version FROM profile") == [(1,)])
    await world.come("anna")
    await world.until(lambda: len(world.contexts("anna")) == 1)
    first = world.contexts("anna")[0]
    assert (first.segments, first.language, first.basket_today, first.visits_30_days) == (("family",), "de", None, 0)
    assert abs(first.not_after - now_ms() - 7_200_000) < 60_000
    await world.pay("r1", "30.00 EUR")
    await world.until(lambda: len(world.contexts("anna")) == 2)
    await world.pay("r1", "30.00 EUR")
    await world.pay("r2", "20.01 EUR")
    await world.until(lambda: len(world.contexts("anna")) == 3)
    await world.tell("app/anna/wish", Wish, gtin="4006381333931", wanted=True)
    await world.until(lambda: len(world.contexts("anna")) == 4)
    await world.order("ready", 1)
    await world.until(lambda: len(world.contexts("anna")) == 5)
    last = world.contexts("anna")[-1]
    assert (last.basket_today, last.watch_list, last.order_state) == ("50.01 EUR", ("4006381333931",), "ready")
    versions = [context.version for context in world.contexts("anna")]
    assert versions == sorted(set(versions))
    async with world.broker.client() as late:
        await late.subscribe("stores/demo/down/#", qos=1)
        await world.client.publish("stores/demo/down/end", b"end", qos=1)
        async for message in late.messages:
            assert "/shopper/" not in message.topic.value, "nothing about anybody is retained"
            if message.payload == b"end":
                break


async def test_who_is_not_there_or_wants_no_offers_is_not_told_of(world: World) -> None:
    await world.come("ben")
    await world.pay("r1", "30.00 EUR", inbox="chiara")
    await world.come("anna")
    await world.until(lambda: len(world.contexts("anna")) == 1)
    assert world.contexts("ben") == world.contexts("chiara") == []


async def test_who_consents_to_offers_alone_is_told_of_after_the_first_proposal(world: World) -> None:
    """Nothing but her offers comes up, so nothing else can start it."""
    await world.answer("o1", "chiara")
    await world.until(lambda: len(world.contexts("chiara")) == 1)
    assert world.rows("SELECT count(*) FROM visited") == [(0,)]


async def test_contexts_are_told_again_at_a_birth_and_at_centrals_start(quiet: World) -> None:
    async with quiet.central():
        await quiet.until(lambda: len(quiet.rows("SELECT * FROM pseudonym")) == 2 * len(KEYS))
        await quiet.come("anna")
        await quiet.until(lambda: len(quiet.contexts("anna")) == 1)
        await quiet.be_born(1)
        await quiet.until(lambda: len(quiet.contexts("anna")) == 2)
    async with quiet.central():
        await quiet.until(lambda: len(quiet.contexts("anna")) >= 3)
        await quiet.send("visit.ended.v1", shopper=quiet.pseudonym("anna"))
        await quiet.until(lambda: quiet.rows("SELECT is_open FROM visit") == [(0,)])
    before = len(quiet.contexts("anna"))
    async with quiet.central():
        await quiet.come("chiara")
        await quiet.until(lambda: len(quiet.contexts("chiara")) == 1)
    assert len(quiet.contexts("anna")) == before, "her visit is over"
    assert len({context.version for context in quiet.contexts("anna")}) == 1, "it is the same"


async def test_what_the_command_line_changes_is_told_too(world: World) -> None:
    await world.come("anna")
    await world.until(lambda: len(world.contexts("anna")) == 1)
    data = ProfileData(inbox="anna", version=1, segments=("vip",))
    transact(world.path, CENTRAL, lambda db: keep_profile(db, data))
    await world.until(lambda: len(world.contexts("anna")) == 2)
    assert world.contexts("anna")[-1].segments == ("vip",)


# ---- tills, orders, complaints ------------------------------------------------------------------------------------------------


async def test_a_refund_takes_a_coupon_back_until_the_app_says_so(quiet: World) -> None:
    async with quiet.central():
        await quiet.until(lambda: len(quiet.rows("SELECT * FROM pseudonym")) == 2 * len(KEYS))
        await quiet.pay("r1", "50.00 EUR")
        await quiet.until(lambda: len(quiet.rows("SELECT * FROM till_receipt")) == 1)
        assert await quiet.answer("o1", "anna", "coupon", kind="coupon") == "out_of_date"
        await quiet.pay("r2", "0.01 EUR")
        await quiet.until(lambda: len(quiet.rows("SELECT * FROM till_receipt")) == 2)
        assert await quiet.answer("o2", "anna", "coupon", kind="coupon") == "granted"
        await quiet.confirm("o2", "anna", "r-1")
        await quiet.pay("r3", "-0.01 EUR", refunds="r2")
        await quiet.until(lambda: quiet.withdrawn("anna") == ["o2 refund"])
    async with quiet.central():
        await quiet.until(lambda: quiet.withdrawn("anna") == ["o2 refund"] * 2)
        await quiet.confirm("o2", "anna", "r-2", "withdrawn")
        await quiet.until(lambda: quiet.rows("SELECT count(*) FROM app_outbox") == [(0,)])


async def test_a_pickup_is_told_to_the_staff_and_ended(world: World) -> None:
    await world.order("ready", 2)
    await world.order("placed", 1)
    await world.until(lambda: world.rows("SELECT state FROM web_order") == [("ready",)])
    await world.come("anna")
    for _ in range(2):
        await world.send("zone.entered.v1", shopper=world.pseudonym("anna"), zone="bakery", entry_time=to_rfc3339(now_ms()))
    await world.until(lambda: world.pickups() == ["W-1 bakery"])
    await world.order("collected", 3)
    await world.until(lambda: world.pickups() == ["W-1 bakery", "W-1 over"])
    (text,) = {json.loads(payload)["data"]["text"]["de"] for payload in world.on("stores/demo/staff")[:1]}
    assert text == "Jemand holt Bestellung W-1 ab (gesehen in bakery): bitte bereitlegen."


async def test_who_complains_gets_nothing_more(world: World) -> None:
    await world.answer("o1", "anna", "card", kind="info")
    await world.confirm("o1", "anna", "r-1", "complained")
    await world.until(lambda: world.rows("SELECT inbox FROM stopped") == [("anna",)])
    assert await world.answer("o2", "anna") == "stopped"


async def test_what_is_wrong_is_refused_with_a_sentence(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await world.pay("r1", "10.00 USD")
    await world.order("ready", 1, inbox="nobody")
    await world.tell("chain/in/profile", Profile, inbox="nobody", version=1)
    await world.client.publish("stores/demo/in/receipt", b'{"type": "till.receipt.v1"}', qos=1)
    await world.client.publish("stores/other/in/order", b"{}", qos=1)
    await world.pay("r2", "10.00 EUR", inbox="nobody")
    await world.pay("r3", "10.00 EUR")
    await world.until(lambda: world.rows("SELECT receipt FROM till_receipt") == [("r3",)])
    for sentence in (
        "till receipt: is in USD; the store's currency is EUR.",
        "order: is of an inbox that is not enrolled.",
        "profile: is of an inbox that is not enrolled.",
        "belongs to nobody who has consented",
    ):
        assert any(sentence in message for message in caplog.messages), sentence


# ---- counted pieces -----------------------------------------------------------------------------------------------------------


async def test_two_gateways_at_once_never_give_out_more_than_there_is(quiet: World) -> None:
    """Ten pieces, two stores, sixty shoppers, every proposal twice; then both catalogues say so."""
    crowd = {f"shopper-{number}": bytes([number]) * 32 for number in range(100, 160)}
    quiet.keys |= crowd

    def enrol(db: Any) -> None:
        records.replace_promotions(db, "south", PROMOTIONS)
        for inbox, key in crowd.items():
            records.enrol(db, inbox, key, Consent.OFFERS, ["demo", "south"])

    transact(quiet.path, CENTRAL, enrol)
    async with quiet.central():
        await quiet.until(lambda: len(quiet.rows("SELECT * FROM pseudonym")) == 2 * 3 + 2 * 2 * 60)
        await quiet.until(lambda: quiet.sold_out("demo") == quiet.sold_out("south") == ())
        sending = [
            quiet.propose(f"{store}-{inbox}", inbox, "deal", kind="info", store=store, shopper=quiet.pseudonym(inbox, store))
            for inbox in crowd
            for store in ("demo", "south")
            for _ in range(2)
        ]
        await asyncio.gather(*sending)
        await quiet.until(lambda: quiet.rows("SELECT count(*) FROM offer") == [(120,)])
        assert quiet.rows("SELECT count(*) FROM offer WHERE reason IS NULL") == [(10,)]
        assert quiet.rows("SELECT DISTINCT reason FROM offer WHERE reason IS NOT NULL") == [("quantity",)]
        await quiet.until(lambda: quiet.sold_out("demo") == quiet.sold_out("south") == ("deal",))


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
    topics += ["app/anna/wish", "stores/demo/in/receipt", "stores/demo/in/order", "chain/in/profile"]
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
