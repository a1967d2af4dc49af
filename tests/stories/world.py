"""A small chain in which stories are told: everything real but the air and the clock.

::

    people ── advertisement bytes ──▶ Daemon ──▶ Mosquitto ──▶ Central ──▶ Mosquitto ──▶ apps
                                                     ▲
                                       tills, order systems, CRM

Time is an argument: it moves when the story says so (``passes``, ``at``), in small steps while somebody is in a shop; hours in
which nobody is there pass at once. After each step the world waits, without any time passing, until all that was said has been
answered and read; so a story is the same on a slow machine.
"""

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo

import aiomqtt
from sqlite_utils import Database

from gateway.central import check_ins, records
from gateway.central.records import CENTRAL
from gateway.central.service import Central
from gateway.contract.messages import (
    AppOffer,
    AppOfferData,
    CloudEvent,
    Order,
    OrderData,
    Profile,
    ProfileData,
    Receipt,
    ReceiptData,
    TillReceipt,
    TillReceiptData,
    Wish,
    WishData,
    WithdrawnOffer,
    WithdrawnOfferData,
    read,
)
from gateway.contract.promotions import Promotion
from gateway.contract.settings import Broker, CentralSettings, CentralStore, Privacy, Settings, Trust
from gateway.contract.shop import ShopFile
from gateway.contract.topics import PROFILE, StoreTopics, app_offer, app_receipt, app_wish
from gateway.core import ad_structures, model
from gateway.core.frames import shopper as shopper_frame
from gateway.core.model import ClockQuality, Consent, Entered, Instant, OfferMatched, ShopperToken, Step
from gateway.core.timetable import local_time
from gateway.core.token import (
    HINT_NONE,
    TokenPayload,
    day_of,
    derive_day_key,
    derive_pseudonym,
    derive_subkeys,
    seal_token,
    slot_of,
    window_of,
)
from gateway.daemon import Daemon, EarCondition
from gateway.io.store.database import transact
from gateway.simulator.clock import SimulatedClock
from tests.fakes.mosquitto import Mosquitto

TIME_ZONE = ZoneInfo("Europe/Berlin")
MONDAY = "2026-09-14 10:00"
NEAR_DBM, FAR_DBM = -52, -84
BOTH = Consent.OFFERS | Consent.ANALYTICS
_FOR_REAL_S = 30.0
"""Of the machine's own time, for anything that has to be done in no time of the story's."""
_BRISK_MS = 250
"""A step of time while somebody has just moved; a phone advertises four times a second."""
_CALM_MS = 2_000
"""A step of time while people stand where they stand."""
_IDLE_MS = 10_000
"""A step while nobody has moved for a minute; phones are silent for longer than that."""
_MOVING_MS = 6_000
_STANDING_MS = 60_000
_LEAVING_MS = 600_000
"""A step while the shops are empty, but visits may go on."""
_VISIT_OVER_MS = 45 * 60_000
"""After this long without people in a shop its visits are over and time may jump."""
_JUMP_MS = 24 * 3_600_000
"""No jump is longer, because gateways know the rosters of today and tomorrow."""
_SETTLE_STEPS = 400
_NOBODY = "nobody"

SHOP: Mapping[str, Any] = {
    "zones": {
        "entrance": {"title": "Entrance", "neighbours": ["bakery"]},
        "bakery": {"title": "Bakery", "neighbours": ["entrance", "dairy"], "tags": ["food"]},
        "dairy": {"title": "Dairy", "neighbours": ["bakery", "electronics"], "tags": ["food", "perishable"]},
        "electronics": {"title": "Electronics", "neighbours": ["dairy", "checkout"]},
        "checkout": {"title": "Checkout", "neighbours": ["electronics"]},
    },
    "anchors": {
        f"pi-{zone}": {"kind": "receiver", "zone": zone} for zone in ("entrance", "bakery", "dairy", "electronics", "checkout")
    },
}


def promotion(promotion_id: str, **more: Any) -> Promotion:
    """A rule as marketing writes it; texts and a deadline that no story is about are filled in."""
    title = promotion_id.replace("-", " ").capitalize()
    placed = {} if more.keys() & {"zones", "tags", "trigger"} else {"zones": ["bakery"]}
    return Promotion.model_validate(
        {"promotion_id": promotion_id, "long_title": {"de": title, "en": title}, "deadline_s": 60, **placed, **more}
    )


# ---- time ---------------------------------------------------------------------------------------------------------------------


class StoryClock(SimulatedClock):
    """A simulated clock that can also be wrong, and tells how many wait for it."""

    def __init__(self, start: Instant) -> None:
        super().__init__(start)
        self.is_right: ClockQuality = ClockQuality.SYNCHRONISED

    def quality(self) -> ClockQuality:
        """As good as the story says."""
        return self.is_right

    @property
    def waiting(self) -> int:
        """How many sleep."""
        return sum(not waking.done() for _, _, waking in self._sleepers)

    def set_wall(self, wall_ms: int) -> None:
        """The calendar is put right, or wrong; durations do not notice."""
        self._now = Instant(self._now.mono_ms, wall_ms)


def wall_ms(local: str) -> int:
    """Milliseconds since 1970 of a local time in Berlin, such as ``2026-09-14 10:00``; the first of two alike."""
    return int(datetime.fromisoformat(local).replace(tzinfo=TIME_ZONE).timestamp() * 1000)


# ---- people -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arrived:
    """An offer as the app has it."""

    at_ms: int
    """Wall milliseconds in the story."""
    data: AppOfferData


class Person:
    """Somebody with the app, perhaps in a shop; ``where`` is (store, zone)."""

    def __init__(self, world: "World", inbox: str, consent: Consent) -> None:
        self.inbox = inbox
        self.consent = consent
        self.ku = inbox.encode().ljust(32, b"\0")
        self.where: tuple[str, str] | None = None
        self.inbox_holds: list[Arrived] = []
        """Each offer once, in the order of arrival."""
        self.reads = True
        """Whether the app fetches what is in the inbox; the phone advertises all the same."""
        self.withdrawn: list[tuple[str, str]] = []
        """(promotion, reason) of what was taken back; it is in the inbox no more."""
        self.receipts: list[str] = []
        """Ids of those sent."""
        self._world = world
        self._token: tuple[tuple[str, int, int], bytes] | None = None

    # ---- walking

    async def enters(self, zone: str, store: str | None = None, *, stays_s: float = 6) -> Self:
        """Goes there and stays at least so long that the gateway is sure."""
        self.is_in(zone, store)
        await self._world.passes(stays_s)
        return self

    def is_in(self, zone: str, store: str | None = None) -> None:
        """Is there from now on."""
        self.where = (store or self._world.only_store, zone)
        self._world.somebody_moved()

    async def stays(self, seconds: float) -> None:
        """Stands still."""
        await self._world.passes(seconds)

    async def leaves(self) -> None:
        """Goes out; the visit is over when nothing has been heard for half an hour."""
        self.where = None
        await self._world.passes(_VISIT_OVER_MS / 1000)

    # ---- what the app shows

    @property
    def offers(self) -> list[str]:
        """Promotions in the inbox, in the order of arrival."""
        return [each.data.promotion_id for each in self.inbox_holds]

    @property
    def pushes(self) -> list[str]:
        """Those for which the phone rang."""
        return [each.data.promotion_id for each in self.inbox_holds if each.data.push]

    @property
    def shelf(self) -> list[str]:
        """Those that lie in the inbox silently."""
        return [each.data.promotion_id for each in self.inbox_holds if not each.data.push]

    def offer(self, promotion_id: str) -> AppOfferData:
        """The newest of a promotion."""
        return [each.data for each in self.inbox_holds if each.data.promotion_id == promotion_id][-1]

    def arrived_ms(self, promotion_id: str) -> int:
        """When the newest of a promotion came (wall milliseconds)."""
        return [each.at_ms for each in self.inbox_holds if each.data.promotion_id == promotion_id][-1]

    async def reacts(self, promotion_id: str, state: str, *, times: int = 1) -> None:
        """Taps: opened, saved, dismissed, redeemed, complained; a bad network may send it several times."""
        await self._world.react(self, self.offer(promotion_id).offer, state, times)

    # ---- on the air

    def data(self, store_number: int, wall: int) -> bytes:
        """AD structures with the token of this minute (form U)."""
        unix_s = wall // 1000
        window, slot = window_of(unix_s), slot_of(unix_s)
        key = (str(store_number), window, slot)
        if self._token is None or self._token[0] != key:
            subkeys = derive_subkeys(derive_day_key(self.ku, store_number, day_of(window, 0)))
            token = seal_token(subkeys, window, TokenPayload(int(self.consent), slot, 0, HINT_NONE))
            self._token = key, ad_structures.encode([shopper_frame.encode(ShopperToken("U", token, None))])
        return self._token[1]


# ---- shops --------------------------------------------------------------------------------------------------------------------


class _Receivers:
    """The receivers of one gateway; what they hear comes with the steps of time."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = list(names)

    async def run(self) -> None:
        await asyncio.Event().wait()

    def conditions(self) -> list[EarCondition]:
        return [EarCondition(name, None, "simulated") for name in self._names]


@dataclass(slots=True)
class Shop:
    """One store and its gateway."""

    name: str
    number: int
    daemon: Daemon
    clock: StoryClock
    task: asyncio.Task[None] | None = None
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    steps: list[Step] = field(default_factory=list)

    @property
    def is_running(self) -> bool:
        return self.task is not None

    @property
    def withheld(self) -> list[tuple[str, str]]:
        """(promotion, reason) of everything that was not offered, in order."""
        return [
            (each.promotion_id, each.reason.value)
            for step in self.steps
            for outcome in step.outcomes
            for each in outcome.withheld
        ]

    @property
    def entries(self) -> list[tuple[str, str]]:
        """(visit, zone) of each entry."""
        return [
            (outcome.event.visit, outcome.event.zone)
            for step in self.steps
            for outcome in step.outcomes
            if isinstance(outcome.event, Entered)
        ]

    @property
    def matched(self) -> list[OfferMatched]:
        """What was proposed, in order."""
        return [offer for step in self.steps for outcome in step.outcomes for offer in outcome.offers]

    @property
    def reasons(self) -> set[tuple[str, str]]:
        """As ``withheld``, each once."""
        return set(self.withheld)

    @property
    def verdicts(self) -> list[tuple[str, str]]:
        """(state, reason) of central's answers, and of those that never came."""
        return [(verdict.state, verdict.reason) for step in self.steps for verdict in step.verdicts]


# ---- the world ----------------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def chain(
    folder: Path,
    *,
    people: Sequence[str] = ("anna",),
    promotions: Sequence[Promotion] = (),
    stores: Sequence[str] = ("demo",),
    at: str = MONDAY,
    consents: Mapping[str, Consent] = {},
    store_settings: Mapping[str, Any] = {},
) -> AsyncIterator["World"]:
    """A chain that is open: brokers, gateways, central and apps have found one another. ``at``: local time in Berlin."""
    with Mosquitto(folder) as broker:
        world = World(folder, broker, at, stores, ShopFile.model_validate(SHOP).compiled(), store_settings)
        for name in people:
            world.people[name] = Person(world, name, consents.get(name, BOTH))
        world.enrol_everybody()
        for store in stores:
            world.publish(promotions, store)
        try:
            await world.open()
            yield world
        finally:
            await world.close()


class World:
    """One chain from the beginning of a story to its end."""

    def __init__(
        self,
        folder: Path,
        broker: Mosquitto,
        at: str,
        stores: Sequence[str],
        shop: model.Shop,
        store_settings: Mapping[str, Any],
    ) -> None:
        self.folder = folder
        self.broker = broker
        self.people: dict[str, Person] = {}
        self.shops: dict[str, Shop] = {}
        self.staff: list[tuple[str, dict[str, Any]]] = []
        """(store, message) of what the people in the shops are told."""
        self.clock = StoryClock(Instant(0, wall_ms(at)))
        self.settings = CentralSettings(
            state_dir=folder / "central",
            broker=broker.settings(),
            stores={
                name: CentralStore.model_validate({"store_number": 4711 + index, **store_settings})
                for index, name in enumerate(stores)
            },
        )
        self._layout = shop
        self._path = self.settings.state_dir / "central.db"
        self._central_task: asyncio.Task[None] | None = None
        self._central_ending = asyncio.Event()
        self._apps: asyncio.Task[None] | None = None
        self._apps_client: aiomqtt.Client | None = None
        """While it is connected."""
        self._apps_ready = asyncio.Event()
        self._moved_ms = -_MOVING_MS
        self._emptied_ms = -_VISIT_OVER_MS
        self._numbers = 0
        self._busy = False
        """Whether something has been decided since everything was last said and answered."""
        self._is_cut_off = False
        """Whether the broker is gone."""
        self._look: sqlite3.Connection | None = None

    @property
    def only_store(self) -> str:
        """Of a chain with one."""
        (name,) = self.shops
        return name

    @property
    def shop(self) -> Shop:
        """The only shop."""
        return self.shops[self.only_store]

    def __getitem__(self, inbox: str) -> Person:
        return self.people[inbox]

    @property
    def now_ms(self) -> int:
        """Wall milliseconds."""
        return self.clock.now().wall_ms

    # ---- opening and closing --------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Start central, the apps and every gateway."""
        for name in self.settings.stores:
            self.shops[name] = self._new_shop(name)
        self.start_central()
        self._apps = asyncio.create_task(self._run_apps())
        for shop in self.shops.values():
            self.start_gateway(shop.name)
        await self._for_real(self._apps_ready.is_set, "the apps listen")
        await self._creep(self._everybody_is_ready, "gateways, central and apps have found one another")

    async def close(self) -> None:
        """End everything."""
        for shop in self.shops.values():
            await self.stop_gateway(shop.name)
        await self.stop_central()
        if self._apps is not None:
            self._apps.cancel()
            await asyncio.gather(self._apps, return_exceptions=True)
        if self._look is not None:
            self._look.close()

    def start_central(self) -> None:
        """Central begins, with what its file holds."""
        self._central_ending = asyncio.Event()
        self.central = Central(self.settings, self.clock)
        self._central_task = asyncio.create_task(self.central.run(self._central_ending))

    async def stop_central(self, *, kill: bool = False) -> None:
        """Central ends, or dies."""
        task, self._central_task = self._central_task, None
        await _ended(task, self._central_ending, kill=kill)

    def _new_shop(self, name: str) -> Shop:
        number = self.settings.stores[name].store_number
        signer = Central(self.settings, self.clock).signer
        settings = Settings(
            store=name,
            store_number=number,
            gateway="pi-1",
            time_zone=str(TIME_ZONE),
            state_dir=self.folder / name,
            privacy=Privacy(controller="A shop", contact="privacy@shop.example", dpia_ack=True),
            broker=self.broker_settings(),
            trust=Trust(public_keys=(signer.public_key.hex(),)),
        )
        steps: list[Step] = []

        def observe(step: Step) -> None:
            steps.append(step)
            self._busy = True

        daemon = Daemon(settings, self._layout, self.clock, observe=observe)
        return Shop(name, number, daemon, self.clock, steps=steps)

    def broker_settings(self) -> Broker:
        """How everybody reaches the broker."""
        return self.broker.settings()

    def start_gateway(self, store: str) -> None:
        """The store's gateway begins, with what its database holds."""
        shop = self.shops[store]
        receivers = _Receivers(self._layout.anchors)
        shop.ending = asyncio.Event()
        shop.task = asyncio.create_task(shop.daemon.run([receivers], shop.ending))

    async def stop_gateway(self, store: str, *, kill: bool = False) -> None:
        """It ends, or dies."""
        shop = self.shops[store]
        task, shop.task = shop.task, None
        await _ended(task, shop.ending, kill=kill)

    async def restart_gateway(self, store: str | None = None, *, kill: bool = True) -> None:
        """It dies and begins anew: what it knows is what is on its disk."""
        name = store or self.only_store
        await self.stop_gateway(name, kill=kill)
        before = self.shops[name]
        self.shops[name] = self._new_shop(name)
        self.shops[name].steps[:0] = before.steps
        self.start_gateway(name)
        await self._creep(self._everybody_is_ready, "the gateway is back")

    async def restart_central(self, *, kill: bool = True) -> None:
        """It dies and begins anew."""
        await self.stop_central(kill=kill)
        self.start_central()
        await self._creep(self._everybody_is_ready, "central is back")

    def broker_dies(self) -> None:
        """Nobody hears of anybody any more."""
        self._is_cut_off = True
        self.broker.kill()

    async def broker_returns(self) -> None:
        """On the same port, having forgotten everything; who was connected finds it again."""
        self.broker.start()
        self._is_cut_off = False
        await self._for_real(self._apps_ready.is_set, "the apps listen again")
        await self._creep(self._everybody_is_ready, "gateways and central are back")

    # ---- what marketing, tills and others do ----------------------------------------------------------------------------------

    def at_central(self, work: Callable[[Database], Any]) -> None:
        """As the command line does: another process writes central's file."""
        transact(self._path, CENTRAL, work)

    def enrol_everybody(self) -> None:
        """Everybody with the app has consented to what they have consented to."""

        def enrol(db: Database) -> None:
            for person in self.people.values():
                records.enrol(db, person.inbox, person.ku, person.consent, list(self.settings.stores))
            # In no store's roster; it only shows how far central has read.
            records.enrol(db, _NOBODY, bytes(32), BOTH, [])

        self.at_central(enrol)

    def publish(self, promotions: Iterable[Promotion], store: str | None = None) -> None:
        """Marketing hands a store's promotions to central, whole."""
        rules = tuple(promotions)
        self.at_central(lambda db: records.replace_promotions(db, store or self.only_store, rules))

    async def publishes(self, *promotions: Promotion, store: str | None = None) -> None:
        """As ``publish``, and the gateway has them."""
        self.publish(promotions, store)
        await self.settled()

    async def opts_out(self, person: Person) -> None:
        """The app's owner takes the consent back."""
        self.at_central(lambda db: records.opt_out(db, person.inbox))
        await self.settled()

    async def checks_in(self, person: Person, store: str | None = None) -> None:
        """The app tells that it has met the store's region; its owner is not there yet."""
        name = store or self.only_store
        self.at_central(lambda db: check_ins.check_in(db, person.inbox, name, self.now_ms))

        async def is_expected() -> bool:
            return self.shops[name].daemon.pipeline.context_of(self.pseudonym(person, name)) is not None

        await self._creep(is_expected, f"{name}'s gateway knows who may come")

    async def react(self, person: Person, offer: str, state: str, times: int) -> None:
        """An app tells what became of an offer."""
        receipt = Receipt(
            id=f"{offer}-{state}",
            source=f"app/{person.inbox}",
            time=self.now_ms,
            data=ReceiptData.model_validate({"offer": offer, "state": state}),
        )
        for _ in range(times):
            await self.say(app_receipt(person.inbox), receipt.to_json())
        person.receipts.append(receipt.id)
        await self.settled()

    async def pays(
        self,
        person: Person,
        total: str,
        *,
        receipt: str | None = None,
        refunds: str | None = None,
        at_ms: int | None = None,
        items: Sequence[str] = (),
        redeemed: Sequence[str] = (),
        times: int = 1,
        store: str | None = None,
    ) -> str:
        """A till tells of a purchase or, with a total below zero, of a refund; returns the receipt's number."""
        self._numbers += 1
        number = receipt or f"r-{self._numbers}"
        data = TillReceiptData.model_validate(
            {
                "receipt": number,
                "till": "till-1",
                "purchase_time": at_ms or self.now_ms,
                "inbox": person.inbox,
                "total": f"{total} EUR",
                "refunds": refunds,
                "items": [{"gtin": gtin, "quantity": 1, "amount": f"{total} EUR"} for gtin in items],
                "redeemed": list(redeemed),
            }
        )
        message = TillReceipt(id=f"till-1-{number}", source="till-1", time=self.now_ms, data=data)
        for _ in range(times):
            await self.tell(StoreTopics(store or self.only_store, "till").till_receipt, message)
        return number

    async def orders(
        self, person: Person, state: str, *, order: str = "o-1", version: int | None = None, attribution: str | None = None
    ) -> None:
        """The web shop tells how an order stands that is fetched in the store."""
        self._numbers += 1
        data = OrderData.model_validate(
            {
                "order": order,
                "inbox": person.inbox,
                "version": version or self._numbers,
                "state": state,
                "changed_time": self.now_ms,
                "attribution": attribution,
            }
        )
        message = Order(id=f"{order}-{data.version}", source="web-shop", time=self.now_ms, data=data)
        await self.tell(StoreTopics(self.only_store, "web-shop").order, message)

    async def knows(self, person: Person, *, segments: Sequence[str] = (), version: int | None = None) -> None:
        """The CRM tells who somebody is."""
        self._numbers += 1
        data = ProfileData(inbox=person.inbox, version=version or self._numbers, segments=tuple(segments), language="de")
        await self.tell(PROFILE, Profile(id=f"{person.inbox}-{self._numbers}", source="crm", time=self.now_ms, data=data))

    async def wishes(self, person: Person, gtin: str, *, wanted: bool = True) -> None:
        """„Merken" of a product in the app."""
        self._numbers += 1
        data = WishData(gtin=gtin, wanted=wanted)
        wish = Wish(id=f"wish-{self._numbers}", source=f"app/{person.inbox}", time=self.now_ms, data=data)
        await self.tell(app_wish(person.inbox), wish)

    async def tell(self, topic: str, message: CloudEvent) -> None:
        """Something from outside, taken in: what is said after it on the same connection has been taken in, too."""
        await self.say(topic, message.to_json())
        self._numbers += 1
        number = self._numbers
        profile = Profile(id=f"after-{number}", source="story", time=self.now_ms, data=ProfileData(inbox=_NOBODY, version=number))
        await self.say(PROFILE, profile.to_json())

        async def has_been_read() -> bool:
            return self.query("SELECT 1 FROM profile WHERE inbox = ? AND version >= ?", _NOBODY, number) != []

        await self._creep(has_been_read, "central has taken in what it was told")
        await self.settled()

    async def say(self, topic: str, payload: bytes) -> None:
        """Something from outside: an app, a till, an order system, a CRM."""
        assert self._apps_client is not None
        await self._apps_client.publish(topic, payload, qos=1)

    # ---- time -----------------------------------------------------------------------------------------------------------------

    def somebody_moved(self) -> None:
        """The next seconds matter."""
        self._moved_ms = self.clock.now().mono_ms

    async def passes(self, seconds: float = 0, *, minutes: float = 0, hours: float = 0, days: float = 0) -> None:
        """Time passes for everybody; phones of people in a shop are heard meanwhile.

        In all of the seconds: what time others need to notice something (see ``_creep``), in which no phone is heard, comes on
        top, for on a slow machine it may be most of them. Minutes and more end when they end.
        """
        until_ms = self.clock.now().mono_ms + round(60_000 * (minutes + 60 * (hours + 24 * days)))
        while (left_ms := until_ms - self.clock.now().mono_ms) > 0:
            await self._step(min(left_ms, self._step_ms()))
        left_ms = round(1000 * seconds)
        while left_ms > 0:
            step_ms = min(left_ms, self._step_ms())
            await self._step(step_ms)
            left_ms -= step_ms

    async def at(self, local: str) -> None:
        """Time passes until then (local time in Berlin, as in ``wall_ms``)."""
        await self.passes(minutes=(wall_ms(local) - self.now_ms) / 60_000)

    def _step_ms(self) -> int:
        now_ms = self.clock.now().mono_ms
        if now_ms - self._moved_ms < _MOVING_MS:
            return _BRISK_MS
        if any(person.where is not None for person in self.people.values()):
            return _CALM_MS if now_ms - self._moved_ms < _STANDING_MS else _IDLE_MS
        return _JUMP_MS if now_ms - self._emptied_ms >= _VISIT_OVER_MS else _LEAVING_MS

    async def _step(self, duration_ms: int) -> None:
        """Time, then whoever is heard by then, then everybody who was waiting for it, then what they had to say."""
        if any(person.where is not None for person in self.people.values()):
            self._emptied_ms = self.clock.now().mono_ms
        await self._let_time_pass(duration_ms, are_heard=True)
        if (duration_ms >= _LEAVING_MS or self._busy) and not self._is_cut_off:
            await self.settled()

    def _let_phones_be_heard(self) -> None:
        for person in self.people.values():
            if person.where is None:
                continue
            store, zone = person.where
            shop = self.shops[store]
            if shop.is_running:
                data = person.data(shop.number, self.now_ms)
                for name, anchor in self._layout.anchors.items():
                    shop.daemon.heard(name, "C0:FF:EE:00:00:01", NEAR_DBM if anchor.zone == zone else FAR_DBM, data)

    async def _let_time_pass(self, duration_ms: int, *, are_heard: bool = False) -> None:
        waiting = self.clock.waiting
        self.clock.advance(self.clock.now().mono_ms + duration_ms)
        if are_heard:
            # Whoever was woken has not run yet, so the gateways decide with this, too.
            self._let_phones_be_heard()
        await asyncio.sleep(0)
        for shop in self.shops.values():
            if shop.is_running:
                async with asyncio.timeout(_FOR_REAL_S):
                    await shop.daemon.at_rest.wait()
        # Whoever wakes regularly is asleep again soon; whoever was woken for good never is.
        for _ in range(20):
            if self.clock.waiting >= waiting:
                break
            await asyncio.sleep(0.001)

    async def settled(self) -> None:
        """Until everything that was said has been answered and read; hardly any time passes."""
        await self._creep(self._is_settled, "everything is said and answered")
        self._busy = False

    async def _creep(self, is_so: Callable[[], Awaitable[bool]], what: str) -> None:
        """Some need a little time to notice: first none passes, then a little, then more."""
        for attempt in range(_SETTLE_STEPS):
            for _ in range(10):
                self._raise_what_ended()
                if await is_so():
                    return
                await asyncio.sleep(0.002)
            await self._let_time_pass(50 if attempt < 20 else 500)
        raise AssertionError(f"not within {_SETTLE_STEPS} steps: {what}")

    async def _for_real(self, is_so: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(_FOR_REAL_S):
                while not is_so():  # noqa: ASYNC110 -- what is waited for announces nothing
                    await asyncio.sleep(0.002)
        except TimeoutError as error:
            raise AssertionError(f"not within {_FOR_REAL_S:g} s: {what}") from error

    def _raise_what_ended(self) -> None:
        for task in (self._central_task, self._apps, *(shop.task for shop in self.shops.values())):
            if task is not None and task.done():
                task.result()
                raise AssertionError(f"{task} has ended")

    # ---- whether everything is said -------------------------------------------------------------------------------------------

    async def _everybody_is_ready(self) -> bool:
        for shop in self.shops.values():
            if shop.is_running and (shop.daemon.pipeline.catalogue is None or not shop.daemon.at_rest.is_set()):
                return False
        return await self._is_settled()

    async def _is_settled(self) -> bool:
        if self._central_task is None:
            return True
        if not all(self._holds_what_was_published(shop) for shop in self.shops.values() if shop.is_running):
            return False
        for shop in self.shops.values():
            if shop.is_running and (await shop.daemon.status()).outbox.rows:
                return False
        return self._apps_have_everything()

    def _holds_what_was_published(self, shop: Shop) -> bool:
        """Catalogue and roster in force are those that central has made last."""
        versions = dict(self.query("SELECT name, version FROM version"))
        pipeline = shop.daemon.pipeline
        today = day_of(window_of(self.now_ms / 1000), 0)
        roster = pipeline.identity.roster(today)
        catalogue = 0 if pipeline.catalogue is None else pipeline.catalogue.version
        wanted = self.query("SELECT count(*) FROM member WHERE store = ?", shop.name)[0][0]
        published = self.query("SELECT count(*) FROM promotion WHERE store = ?", shop.name)[0][0]
        return (
            catalogue == versions.get(f"catalogue/{shop.name}", 0)
            and (pipeline.catalogue is None or len(pipeline.catalogue.promotions) == published)
            and roster is not None
            and roster.version == versions.get(f"roster/{shop.name}/{today}")
            and len(roster.shoppers) == wanted
            and self._holds_what_is_known(shop)
        )

    def _holds_what_is_known(self, shop: Shop) -> bool:
        """Contexts of people in the shop are those that central has gathered last."""
        question = "SELECT rid, version FROM context JOIN visit USING (store, rid) WHERE store = ? AND is_open = 1"
        pipeline = shop.daemon.pipeline
        for rid, version in self.query(question, shop.name):
            held = pipeline.context_of(rid)
            if pipeline._presence.is_present(rid) and (held is None or held[0] < version):
                return False
        return True

    def _apps_have_everything(self) -> bool:
        waiting = self.query("SELECT inbox FROM app_outbox WHERE deadline_ms > ?", self.now_ms)
        if any(inbox in self.people and self.people[inbox].reads for (inbox,) in waiting):
            return False
        known = {each for (each,) in self.query("SELECT id FROM receipt")}
        gone = {inbox for inbox in self.people if not self.query("SELECT 1 FROM shopper WHERE inbox = ?", inbox)}
        return all(known.issuperset(p.receipts) for p in self.people.values() if p.inbox not in gone)

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of central's file, as anybody may look into it."""
        if self._look is None:
            self._look = _read_only(self._path)
        return self._look.execute(sql, values).fetchall()

    # ---- apps -----------------------------------------------------------------------------------------------------------------

    async def _run_apps(self) -> None:
        """One connection for all of them, and one for the shops' staff; both are there again when the broker is."""
        while True:
            with contextlib.suppress(aiomqtt.MqttError):
                async with self.broker.client(identifier="apps", clean_start=False) as client:
                    for inbox in self.people:
                        await client.subscribe(app_offer(inbox), qos=1)
                    await client.subscribe("stores/+/staff", qos=1)
                    self._apps_client = client
                    self._apps_ready.set()
                    async for message in client.messages:
                        assert isinstance(message.payload, bytes)
                        await self._read(client, message.topic.value, message.payload)
            self._apps_client = None
            self._apps_ready.clear()
            await asyncio.sleep(0.01)

    async def _read(self, client: aiomqtt.Client, topic: str, payload: bytes) -> None:
        head, name, _ = topic.split("/")
        if head == "stores":
            message = json.loads(payload)
            if message["id"] not in {each["id"] for _, each in self.staff}:
                self.staff.append((name, message))
            return
        person = self.people[name]
        if not person.reads:
            return
        if json.loads(payload)["type"] == "app.offer.withdrawn.v1":
            await self._give_back(client, person, read(WithdrawnOffer, payload, "offer").data)
            return
        offer = read(AppOffer, payload, "offer")
        if self.now_ms <= offer.expirytime and all(each.data.offer != offer.data.offer for each in person.inbox_holds):
            person.inbox_holds.append(Arrived(self.now_ms, offer.data))
        shown = Receipt(
            id=f"{offer.data.offer}-shown",
            source=f"app/{name}",
            time=self.now_ms,
            data=ReceiptData(offer=offer.data.offer, state="shown"),
        )
        await client.publish(app_receipt(name), shown.to_json(), qos=1)
        if shown.id not in person.receipts:
            person.receipts.append(shown.id)

    async def _give_back(self, client: aiomqtt.Client, person: Person, withdrawn: WithdrawnOfferData) -> None:
        told = (withdrawn.promotion_id, withdrawn.reason)
        if any(each.data.offer == withdrawn.offer for each in person.inbox_holds):
            person.withdrawn.append(told)
        person.inbox_holds = [each for each in person.inbox_holds if each.data.offer != withdrawn.offer]
        receipt = Receipt(
            id=f"{withdrawn.offer}-withdrawn",
            source=f"app/{person.inbox}",
            time=self.now_ms,
            data=ReceiptData(offer=withdrawn.offer, state="withdrawn"),
        )
        await client.publish(app_receipt(person.inbox), receipt.to_json(), qos=1)

    # ---- what people read -----------------------------------------------------------------------------------------------------

    @property
    def local(self) -> str:
        """The time on the wall."""
        return local_time(self.now_ms, TIME_ZONE).strftime("%Y-%m-%d %H:%M")

    def pseudonym(self, person: Person, store: str | None = None) -> str:
        """What the shopper is called there today."""
        number = self.shops[store or self.only_store].number
        return derive_pseudonym(person.ku, number, day_of(window_of(self.now_ms / 1000), 0)).hex()


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)


async def _ended(task: asyncio.Task[None] | None, ending: asyncio.Event, *, kill: bool) -> None:
    if task is None:
        return
    if kill:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return
    ending.set()
    async with asyncio.timeout(_FOR_REAL_S):
        await task
