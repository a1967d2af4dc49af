"""Central's wiring: events in, exactly once; acknowledgements, decisions and offers out; signed rosters and catalogues down."""

import asyncio
import contextlib
import logging
import random
import secrets
from dataclasses import dataclass, field
from functools import partial

from sqlite_utils import Database

from gateway.central import records
from gateway.central.publishing import SOURCE, StorePublisher
from gateway.central.records import CENTRAL, Decided
from gateway.central.rules import Facts, refusal
from gateway.central.staff import alarm_of, fares_of
from gateway.contract.messages import (
    Ack,
    AckData,
    AppOffer,
    AppOfferData,
    BeaconHealthChanged,
    CentralState,
    CentralStateData,
    Decision,
    DecisionData,
    GatewayStatus,
    LaterEvent,
    OfferMatched,
    OfferMatchedData,
    Receipt,
    ReceiverHealthChanged,
    UplinkEvent,
    VisitEnded,
    ZoneExited,
    read,
    read_event,
)
from gateway.contract.promotions import Promotion
from gateway.contract.settings import CentralSettings
from gateway.contract.topics import (
    ANY_EVENT,
    ANY_RECEIPT,
    ANY_STATUS,
    CENTRAL_STATE,
    StoreTopics,
    app_offer,
    gateway_of,
    inbox_of,
)
from gateway.core.model import Consent
from gateway.errors import Untrusted
from gateway.io.broker import BrokerLost, Publication, Session
from gateway.io.clock import Clock
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
            subscriptions=[ANY_STATUS, ANY_EVENT, ANY_RECEIPT],
            handle=self._receive,
            clock=clock,
            jitter=random.random,
        )
        self._queue: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(_MAX_QUEUED)
        self._publishers: dict[str, StorePublisher] = {}
        self._promotions: dict[str, dict[str, Promotion]] = {}
        self._for_apps = asyncio.Event()
        self._staff_waits = True
        """Whether there may be something for the staff; so may it be from before the start."""
        self._staff_unreached = False

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop``."""
        await self._database.start()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._session.run(), name="broker"),
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
        return replies

    def _store_one(self, db: Database, topic: str, payload: bytes, replies: _Replies) -> None:
        now_ms = self._clock.now().wall_ms
        inbox = inbox_of(topic)
        if inbox is not None:
            receipt = read(Receipt, payload, "receipt")
            records.keep_receipt(db, receipt.id, inbox, receipt.data.offer, receipt.data.state, receipt.time)
            return
        origin = gateway_of(topic)
        if origin is None or origin[0] not in self._settings.stores:
            raise Untrusted("is of a store that central does not serve.", where="uplink")
        if topic.endswith("/status"):
            self._store_status(db, *origin, payload, replies)
            return
        store, gateway = origin
        event = read_event(payload, "event")
        replies.streams.add((store, gateway, event.epoch))
        is_new = records.keep_event(db, store, gateway, event, now_ms)
        if is_new and isinstance(event, BeaconHealthChanged | ReceiverHealthChanged):
            self._keep_health(db, store, gateway, event)
        visit = self._visit(db, store, event) if is_new else 0
        if isinstance(event, OfferMatched):
            replies.decisions.append(self._decide(db, store, gateway, event.data, visit, now_ms))

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
        replies.decisions += records.open_decisions(db, store, gateway, self._clock.now().wall_ms)

    def _keep_health(self, db: Database, store: str, gateway: str, event: BeaconHealthChanged | ReceiverHealthChanged) -> None:
        fares = fares_of(store, gateway, event)
        alarm = alarm_of(event, fares, SOURCE)
        if records.keep_health(db, fares) and alarm is not None:
            records.queue_for_staff(db, alarm.id, store, alarm.to_json())
            self._staff_waits = True

    def _visit(self, db: Database, store: str, event: UplinkEvent | LaterEvent) -> int:
        """The number of the visit that a new event belongs to."""
        if isinstance(event, VisitEnded | LaterEvent):
            return 0
        shopper: str | None = getattr(event.data, "shopper", None)
        if shopper is None:
            return 0
        at_ms = event.data.exit_time if isinstance(event, ZoneExited) else event.time
        return records.visit_number(db, store, shopper, at_ms, self._settings.visit_gap_s * 1000)

    def _decide(self, db: Database, store: str, gateway: str, proposal: OfferMatchedData, visit: int, now_ms: int) -> Decided:
        """Grant or refuse once; a proposal that comes again gets the same answer."""
        before = records.decision_of(db, proposal.offer)
        if before is not None:
            return before
        owner = records.inbox_of(db, store, proposal.shopper)
        inbox, consent, is_test = (None, Consent.NONE, False) if owner is None else owner
        promotion = self._promotions_of(db, store).get(proposal.promotion_id)
        claim = records.claim_of(db, store)
        facts = Facts(
            now_ms=now_ms,
            inbox=inbox,
            consent=consent,
            promotion=promotion,
            granted_today=records.granted_today(db, store, proposal.shopper, proposal.promotion_id),
            pushes_this_visit=records.pushes_in_visit(db, store, proposal.shopper, visit),
            pushes_per_visit=self._settings.stores[store].pushes_per_visit,
            decides=claim is None or claim.gateway == gateway,
            is_test=is_test,
        )
        reason = refusal(proposal, facts)
        decided = records.keep_decision(db, store, gateway, proposal, inbox=inbox, visit=visit, reason=reason, now_ms=now_ms)
        if reason is None and inbox is not None and promotion is not None:
            offer = _app_offer(store, proposal, promotion, now_ms)
            records.queue_for_app(db, proposal.offer, inbox, offer.to_json(), proposal.deadline)
        return decided

    def _promotions_of(self, db: Database, store: str) -> dict[str, Promotion]:
        if store not in self._promotions:
            self._promotions[store] = {p.promotion_id: p for p in records.promotions(db, store)}
        return self._promotions[store]

    # ---- answers out ----------------------------------------------------------------------------------------------------------

    async def _answer(self, replies: _Replies) -> None:
        """Acknowledge and decide; what is lost with the link is said again when the gateway or central comes back."""
        now_ms = self._clock.now().wall_ms
        publications = [self._decision(decided, now_ms) for decided in replies.decisions]
        for (store, gateway, epoch), seq in sorted(replies.stored_up_to.items()):
            ack = Ack(id=f"{epoch}-{seq}", source=SOURCE, time=now_ms, data=AckData(epoch=epoch, seq=seq))
            publications.append(Publication.of(StoreTopics(store, gateway).ack, ack, now_ms=now_ms))
        with contextlib.suppress(BrokerLost):
            await self._session.publish_all(publications)
        if self._staff_waits:
            await self._tell_staff()

    async def _tell_staff(self) -> None:
        """Alarms for people, in order; what is lost with the link is told when a gateway has been heard again."""
        for alarm, store, payload in await self._database.run(records.waiting_for_staff):
            try:
                await self._session.publish(Publication(StoreTopics(store, "").staff, payload, correlation=alarm))
            except BrokerLost as error:
                if not self._staff_unreached:
                    log.warning("the staff of store %s cannot be told of an alarm yet: %s", store, error)
                self._staff_unreached = True
                return
            await self._database.run(partial(records.told_staff, alarm_id=alarm))
        self._staff_waits = self._staff_unreached = False

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
            sent = {offer: sent[offer] for offer, *_ in waiting if offer in sent}
            try:
                for first in range(0, len(waiting), _BATCH):
                    await self._publish_some_offers(waiting[first : first + _BATCH], sent)
            except BrokerLost:
                continue
            await self._until_for_apps(min((due_ms for _, due_ms in sent.values()), default=None))

    async def _publish_some_offers(self, waiting: list[tuple[str, str, bytes, int]], sent: dict[str, tuple[int, int]]) -> None:
        now = self._clock.now()
        due: list[str] = []
        publications: list[Publication] = []
        for offer, inbox, payload, deadline_ms in waiting:
            if sent.get(offer, (0, now.mono_ms))[1] <= now.mono_ms and deadline_ms > now.wall_ms:
                due.append(offer)
                expiry_s = (deadline_ms - now.wall_ms + 999) // 1000
                publications.append(Publication(app_offer(inbox), payload, expiry_s=expiry_s, correlation=offer))

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
            if changed:
                self._promotions.clear()
            seen = (version, self._session.connections)
            publications = await self._database.run(partial(self._downlinks, changed=changed))
            try:
                await self._session.publish_all(publications)
            except BrokerLost:
                seen = (-1, -1)
            await self._clock.sleep_ms(_POLL_MS)

    def _downlinks(self, db: Database, *, changed: bool) -> list[Publication]:
        """What every store has to be told; looked for only when the file or the calendar gives a reason."""
        now_ms = self._clock.now().wall_ms
        out: list[Publication] = []
        for store, settings in self._settings.stores.items():
            publisher = self._publishers.get(store)
            if publisher is None:
                publisher = StorePublisher(store, settings, self._settings.roster_days, self.signer)
                self._publishers[store] = publisher
            if changed or publisher.is_due(now_ms):
                out += publisher.catalogue(db, now_ms)
                out += publisher.roster(db, now_ms)
        return out

    async def _birth(self) -> list[Publication]:
        self._for_apps.set()
        return [self._state("online")]

    def _state(self, state: str) -> Publication:
        now_ms = self._clock.now().wall_ms
        data = CentralStateData.model_validate({"state": state, "instance": self._instance})
        message = CentralState(id=secrets.token_hex(8), source=SOURCE, time=now_ms, data=data)
        return Publication.of(CENTRAL_STATE, message, now_ms=now_ms, retain=True)


def _app_offer(store: str, proposal: OfferMatchedData, promotion: Promotion, now_ms: int) -> AppOffer:
    return AppOffer(
        id=proposal.offer,
        source=SOURCE,
        time=now_ms,
        expirytime=proposal.deadline,
        data=AppOfferData.granted(store, proposal, promotion),
    )
