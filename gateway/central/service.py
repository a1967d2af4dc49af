"""Central's wiring: events in, exactly once; acknowledgements, decisions and offers out; signed rosters and catalogues down."""

import asyncio
import contextlib
import logging
import random
import secrets
from dataclasses import dataclass, field
from functools import partial

from sqlite_utils import Database

from gateway.central import check_ins, records, retention, visits
from gateway.central.contexts import SOURCE, Desk, desks_of
from gateway.central.deciding import decide
from gateway.central.intake import Intake
from gateway.central.publishing import StorePublisher
from gateway.central.records import CENTRAL, Decided, ForApp
from gateway.central.staff import alarm_of, fares_of
from gateway.contract.messages import (
    Ack,
    AckData,
    BeaconHealthChanged,
    CentralState,
    CentralStateData,
    Decision,
    DecisionData,
    GatewayStatus,
    LaterEvent,
    OfferMatched,
    Order,
    Profile,
    Receipt,
    ReceiverHealthChanged,
    TillReceipt,
    UplinkEvent,
    VisitEnded,
    VisitStarted,
    Wish,
    ZoneDwelled,
    ZoneEntered,
    ZoneExited,
    read,
    read_event,
)
from gateway.contract.settings import CentralSettings
from gateway.contract.topics import (
    ANY_EVENT,
    ANY_ORDER,
    ANY_RECEIPT,
    ANY_STATUS,
    ANY_TILL_RECEIPT,
    ANY_WISH,
    CENTRAL_STATE,
    PROFILE,
    StoreTopics,
    app_offer,
    app_wish,
    entrance_of,
    gateway_of,
    inbox_of,
)
from gateway.core.model import Consent
from gateway.errors import Untrusted
from gateway.io.broker import BrokerLost, Publication, Session
from gateway.io.clock import Clock
from gateway.io.keys import shopper_key
from gateway.io.signing import Signer
from gateway.io.store.database import DatabaseThread, open_database

log = logging.getLogger(__name__)

_BATCH = 200
_POLL_MS = 250
_MAX_QUEUED = 10_000


@dataclass(slots=True)
class _Replies:
    """What a batch of messages makes central say; sent after its commit."""

    streams: set[tuple[str, str, str]] = field(default_factory=set)
    """(store, gateway, epoch) to acknowledge."""
    stored_up_to: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """By stream, the highest number up to which nothing is missing."""
    decisions: list[Decided] = field(default_factory=list)
    begun: set[tuple[str, str]] = field(default_factory=set)
    """(store, pseudonym) whose visit begins, or whose gateway may have forgotten: told of, whether anything is new or not."""
    seen: set[tuple[str, str]] = field(default_factory=set)
    """(store, pseudonym) of whom something was heard: told of if it is new."""
    touched: set[str] = field(default_factory=set)
    """Inboxes of which something has changed."""
    contexts: list[Publication] = field(default_factory=list)


class Central:
    """The reference service for any number of stores."""

    def __init__(self, settings: CentralSettings, clock: Clock, signer: Signer | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._instance = secrets.token_hex(8)
        self.signer = signer or Signer.from_file(settings.state_dir / "signing.key")
        path = settings.state_dir / "central.db"
        self._database = DatabaseThread(path, lambda: open_database(path, CENTRAL))
        self._session = Session(
            settings.broker,
            "central",
            will=lambda: self._state("offline"),
            birth=self._birth,
            subscriptions=[ANY_STATUS, ANY_EVENT, ANY_RECEIPT, ANY_WISH, ANY_TILL_RECEIPT, ANY_ORDER, PROFILE],
            handle=self._receive,
            clock=clock,
            jitter=random.random,
        )
        self._queue: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(_MAX_QUEUED)
        self._publishers: dict[str, StorePublisher] = {}
        self._known_desks: dict[str, Desk] | None = None
        """``None``: promotions may have changed."""
        self._holdout_secret = b""
        self._for_apps = asyncio.Event()
        self._staff_waits = True
        """Whether there may be something for the staff; so may it be from before the start."""
        self._staff_unreached = False
        self._telling_staff = asyncio.Lock()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop``."""
        await self._database.start()
        self._holdout_secret = shopper_key(self._settings.state_dir / "holdout.key")
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._session.run(), name="broker"),
                    group.create_task(self._forget_old(), name="retention"),
                    group.create_task(self._work(), name="work"),
                    group.create_task(self._publish_downlinks(), name="downlinks"),
                    group.create_task(self._publish_offers(), name="offers"),
                ]
                await stop.wait()
                for task in tasks:
                    task.cancel()
        finally:
            await self._database.close()

    # ---- events in ------------------------------------------------------------------------------------------------------------

    async def _receive(self, topic: str, payload: bytes, _retained: bool) -> None:
        await self._queue.put((topic, payload))

    async def _work(self) -> None:
        """Take what has arrived, store it in one transaction, then answer."""
        while True:
            batch = [await self._queue.get()]
            while len(batch) < _BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            replies = await self._database.run(partial(self._store, batch=batch))
            self._for_apps.set()
            await self._answer(replies)

    def _store(self, db: Database, batch: list[tuple[str, bytes]]) -> _Replies:
        replies = _Replies()
        for topic, payload in batch:
            try:
                self._store_one(db, topic, payload, replies)
            except Untrusted as error:
                log.warning("uplink refused: %s", error)
        for stream in replies.streams:
            replies.stored_up_to[stream] = records.contiguous(db, *stream)
        self._gather_contexts(db, replies)
        return replies

    def _store_one(self, db: Database, topic: str, payload: bytes, replies: _Replies) -> None:
        inbox, entrance = inbox_of(topic), entrance_of(topic)
        if inbox is not None or entrance is not None or topic == PROFILE:
            touched = self._take_in(db, topic, payload)
            if touched is not None:
                replies.touched.add(touched)
                self._staff_waits = True
            return
        origin = gateway_of(topic)
        if origin is None or origin[0] not in self._settings.stores:
            raise Untrusted("is of a store that central does not serve.", where="uplink")
        if topic.endswith("/status"):
            self._store_status(db, *origin, payload, replies)
        else:
            self._store_event(db, *origin, payload, replies)

    def _take_in(self, db: Database, topic: str, payload: bytes) -> str | None:
        """What an app, a till, the web shop or the CRM tells; returns of whom it is."""
        now_ms = self._clock.now().wall_ms
        intake = Intake(self._desks(db))
        inbox, entrance = inbox_of(topic), entrance_of(topic)
        if inbox is not None:
            if topic == app_wish(inbox):
                return intake.wish(db, inbox, read(Wish, payload, "wish"), now_ms)
            return intake.app_receipt(db, inbox, read(Receipt, payload, "receipt"), now_ms)
        if entrance is None:
            return intake.profile(db, read(Profile, payload, "profile").data)
        if entrance[1] == "receipt":
            return intake.till_receipt(db, entrance[0], read(TillReceipt, payload, "till receipt").data, now_ms)
        return intake.order(db, entrance[0], read(Order, payload, "order").data, now_ms)

    def _store_event(self, db: Database, store: str, gateway: str, payload: bytes, replies: _Replies) -> None:
        now_ms = self._clock.now().wall_ms
        event = read_event(payload, "event")
        replies.streams.add((store, gateway, event.epoch))
        is_new = records.keep_event(db, store, gateway, event, now_ms)
        if is_new and isinstance(event, BeaconHealthChanged | ReceiverHealthChanged):
            self._keep_health(db, store, gateway, event)
        visit = self._visit(db, store, event, replies) if is_new else 0
        if isinstance(event, OfferMatched):
            desk = self._desks(db)[store]
            decided = decide(db, desk, gateway, event.data, visit=visit, secret=self._holdout_secret, now_ms=now_ms)
            replies.decisions.append(decided)
            owner = records.inbox_of(db, store, event.data.shopper)
            if owner is not None and decided.reason is None:
                replies.touched.add(owner[0])

    def _store_status(self, db: Database, store: str, gateway: str, payload: bytes, replies: _Replies) -> None:
        if not payload:
            return
        status = read(GatewayStatus, payload, "status").data
        if status.claim is not None and records.keep_claim(db, store, status.claim):
            log.info("gateway %s decides in store %s (term %d)", status.claim.gateway, store, status.claim.term)
        if status.state != "online" or status.epoch is None:
            return
        records.begin_stream(db, store, gateway, status.epoch, status.oldest_seq or 1)
        replies.streams.add((store, gateway, status.epoch))
        now_ms = self._clock.now().wall_ms
        replies.decisions += records.open_decisions(db, store, gateway, now_ms)
        replies.begun.update((here.store, here.rid) for here in visits.present(db, now_ms, store))
        replies.begun.update((store, who.rid) for who in self._desks(db)[store].expected(db, now_ms))

    def _keep_health(self, db: Database, store: str, gateway: str, event: BeaconHealthChanged | ReceiverHealthChanged) -> None:
        fares = fares_of(store, gateway, event)
        alarm = alarm_of(event, fares, SOURCE)
        if records.keep_health(db, fares) and alarm is not None:
            records.queue_for_staff(db, alarm.id, store, alarm.to_json())
            self._staff_waits = True

    def _visit(self, db: Database, store: str, event: UplinkEvent | LaterEvent, replies: _Replies) -> int:
        """The number of the visit that a new event belongs to; what follows from somebody's being in the store."""
        gap_ms, now_ms = self._settings.visit_gap_s * 1000, self._clock.now().wall_ms
        stay: tuple[int, int] | None = None
        zone: str | None = None
        at_ms = event.time
        match event:
            case VisitStarted():
                stay = event.time, event.time
            case ZoneEntered() | ZoneDwelled():
                stay, zone = (event.data.entry_time, event.time), event.data.zone
            case ZoneExited():
                at_ms = event.data.exit_time
                stay = event.data.entry_time, at_ms
            case VisitEnded():
                stay = event.data.started_time, event.data.ended_time
                visits.end(db, store, event.data.shopper, event.data.visit)
            case OfferMatched():
                pass
            case _:
                return 0
        shopper, number = event.data.shopper, 0
        owner = records.inbox_of(db, store, shopper)
        if owner is None:
            return 0
        if not isinstance(event, VisitEnded):
            number = visits.go_on(db, store, shopper, at_ms, gap_ms, name=event.data.visit, zone=zone)
            (replies.begun if isinstance(event, VisitStarted) else replies.seen).add((store, shopper))
        if stay is not None and owner[1] & Consent.ANALYTICS:
            visits.keep_stay(db, owner[0], store, *stay, gap_ms)
        if zone is not None and Intake(self._desks(db)).entered(db, store, shopper, event.time, now_ms):
            self._staff_waits = True
        return number

    def _desks(self, db: Database) -> dict[str, Desk]:
        """By store, with its promotions as they are now."""
        if self._known_desks is None:
            self._known_desks = desks_of(db, self._settings, self.signer)
        return self._known_desks

    # ---- contexts -------------------------------------------------------------------------------------------------------------

    def _gather_contexts(self, db: Database, replies: _Replies) -> None:
        """What gateways have to be told of shoppers, after everything that the batch has changed."""
        now_ms = self._clock.now().wall_ms
        expected: set[tuple[str, str]] = set()
        if replies.touched:
            expected = {(store, who.rid) for store, desk in self._desks(db).items() for who in desk.expected(db, now_ms)}
        for inbox in replies.touched:
            for store, rid in records.pseudonyms_of(db, inbox):
                if (store, rid) in expected or visits.presence(db, store, rid, now_ms) is not None:
                    replies.seen.add((store, rid))
        for store, rid in sorted(replies.begun | replies.seen):
            desk = self._desks(db).get(store)
            if desk is not None:
                context = desk.context(db, rid, now_ms, only_changed=(store, rid) not in replies.begun)
                replies.contexts += [] if context is None else [context]

    def _contexts_of_present(self, db: Database, *, only_changed: bool) -> list[Publication]:
        """Of everybody who is in a store, or has checked in there and may be so soon."""
        now_ms, desks = self._clock.now().wall_ms, self._desks(db)
        found = [
            desks[here.store].context(db, here.rid, now_ms, only_changed=only_changed)
            for here in visits.present(db, now_ms)
            if here.store in desks
        ]
        for store, desk in desks.items():
            found += [
                desk.context(db, who.rid, now_ms, only_changed=only_changed and who.is_told) for who in desk.expected(db, now_ms)
            ]
            check_ins.note_told(db, store)
        return [context for context in found if context is not None]

    async def _forget_old(self) -> None:
        """What has been kept for long enough goes, a little at a time."""
        while True:
            while await self._database.run(lambda db: retention.forget_old(db, self._clock.now().wall_ms)):
                await self._clock.sleep_ms(_POLL_MS)
            await self._clock.sleep_ms(retention.EVERY_MS)

    # ---- answers out ----------------------------------------------------------------------------------------------------------

    async def _answer(self, replies: _Replies) -> None:
        """Acknowledge and decide; what is lost with the link is said again when the gateway or central comes back."""
        now_ms = self._clock.now().wall_ms
        publications = replies.contexts + [self._decision(decided, now_ms) for decided in replies.decisions]
        for (store, gateway, epoch), seq in sorted(replies.stored_up_to.items()):
            ack = Ack(id=f"{epoch}-{seq}", source=SOURCE, time=now_ms, data=AckData(epoch=epoch, seq=seq))
            publications.append(Publication.of(StoreTopics(store, gateway).ack, ack, now_ms=now_ms))
        with contextlib.suppress(BrokerLost):
            await self._session.publish_all(publications)
        if self._staff_waits:
            await self._tell_staff()

    async def _tell_staff(self) -> None:
        """Alarms for people, in order; what is lost with the link is told when a gateway has been heard again."""
        async with self._telling_staff:
            # Before it is read: what is queued meanwhile is looked for again.
            self._staff_waits = False
            for alarm, store, payload in await self._database.run(records.waiting_for_staff):
                try:
                    await self._session.publish(Publication(StoreTopics(store, "").staff, payload, correlation=alarm))
                except BrokerLost as error:
                    if not self._staff_unreached:
                        log.warning("the staff of store %s cannot be told of an alarm yet: %s", store, error)
                    self._staff_waits = self._staff_unreached = True
                    return
                await self._database.run(partial(records.told_staff, alarm_id=alarm))
            self._staff_unreached = False

    def _decision(self, decided: Decided, now_ms: int) -> Publication:
        decision = Decision.model_validate(
            {
                "id": f"{decided.offer}-decision",
                "source": SOURCE,
                "time": now_ms,
                "expirytime": decided.deadline_ms,
                "data": DecisionData.model_validate(
                    {"offer": decided.offer, "granted": decided.reason is None, "reason": decided.reason}
                ),
            }
        )
        return Publication.of(StoreTopics(decided.store, decided.gateway).decision, decision, now_ms=now_ms)

    async def _publish_offers(self) -> None:
        """Granted offers to the apps, none late: again and again until the receipt, because a broker that dies forgets."""
        sent: dict[str, tuple[int, int]] = {}
        """How often each was sent on this connection, and when it is due again (monotonic milliseconds)."""
        connection = 0
        while True:
            await self._session.online.wait()
            if connection != self._session.connections:
                connection = self._session.connections
                sent.clear()
            self._for_apps.clear()
            waiting = await self._database.run(partial(records.waiting_for_apps, now_ms=self._clock.now().wall_ms))
            sent = {each.key: sent[each.key] for each in waiting if each.key in sent}
            try:
                for first in range(0, len(waiting), _BATCH):
                    await self._publish_some_offers(waiting[first : first + _BATCH], sent)
            except BrokerLost:
                continue
            await self._until_for_apps(min((due_ms for _, due_ms in sent.values()), default=None))

    async def _publish_some_offers(self, waiting: list[ForApp], sent: dict[str, tuple[int, int]]) -> None:
        now = self._clock.now()
        due: list[str] = []
        publications: list[Publication] = []
        for each in waiting:
            if sent.get(each.key, (0, now.mono_ms))[1] <= now.mono_ms and each.deadline_ms > now.wall_ms:
                due.append(each.key)
                expiry_s = (each.deadline_ms - now.wall_ms + 999) // 1000
                publications.append(Publication(app_offer(each.inbox), each.payload, expiry_s=expiry_s, correlation=each.key))

        def confirmed(index: int) -> None:
            times, _ = sent.get(due[index], (0, 0))
            sent[due[index]] = (times + 1, now.mono_ms + self._settings.offer_resend_s * 1000 * 2**times)

        await self._session.publish_all(publications, confirmed)

    async def _until_for_apps(self, due_ms: int | None) -> None:
        """Until there is something for an app, or something is due again."""
        waiting: list[asyncio.Task[object]] = [asyncio.create_task(self._for_apps.wait())]
        if due_ms is not None:
            waiting.append(asyncio.create_task(self._clock.sleep_ms(due_ms - self._clock.now().mono_ms)))
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _publish_downlinks(self) -> None:
        """Watch the file for what the command line or another process changed, and the calendar for a new day."""
        seen = (-1, -1)
        while True:
            await self._session.online.wait()
            version = await self._database.run(lambda db: int(db.execute("PRAGMA data_version").fetchone()[0]))
            if seen[1] != self._session.connections:
                # The broker may have lost what it retained.
                self._publishers.clear()
            changed = seen != (version, self._session.connections)
            anew = seen[1] != self._session.connections
            if changed:
                self._known_desks = None
            seen = (version, self._session.connections)
            publications = await self._database.run(partial(self._downlinks, changed=changed, anew=anew))
            try:
                await self._session.publish_all(publications)
            except BrokerLost:
                seen = (-1, -1)
            if changed:
                # Orders and refunds may have been told on the command line.
                self._for_apps.set()
                await self._tell_staff()
            await self._clock.sleep_ms(_POLL_MS)

    def _downlinks(self, db: Database, *, changed: bool, anew: bool) -> list[Publication]:
        """What every store has to be told; looked for only when the file or the calendar gives a reason, or a last piece went.

        ``anew``: over a new connection, so that the broker may have lost what was said before.
        """
        now_ms = self._clock.now().wall_ms
        out: list[Publication] = []
        for store, settings in self._settings.stores.items():
            publisher = self._publishers.get(store)
            if publisher is None:
                publisher = StorePublisher(store, settings, self._settings.roster_days, self.signer)
                self._publishers[store] = publisher
            if changed or publisher.is_due(now_ms) or publisher.runs_out(db, now_ms):
                out += publisher.catalogue(db, now_ms)
                out += publisher.roster(db, now_ms)
        if changed:
            out += self._contexts_of_present(db, only_changed=not anew)
        return out

    async def _birth(self) -> list[Publication]:
        self._for_apps.set()
        return [self._state("online")]

    def _state(self, state: str) -> Publication:
        now_ms = self._clock.now().wall_ms
        data = CentralStateData.model_validate({"state": state, "instance": self._instance})
        message = CentralState(id=secrets.token_hex(8), source=SOURCE, time=now_ms, data=data)
        return Publication.of(CENTRAL_STATE, message, now_ms=now_ms, retain=True)
