"""The gateway's wiring: ears → pipeline → database → broker, a few tasks in one TaskGroup."""

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from gateway import __version__
from gateway.contract.messages import (
    Ack,
    AckData,
    CentralState,
    Decision,
    GatewayStatus,
    GatewayStatusData,
    Telemetry,
    TelemetryData,
    read,
)
from gateway.contract.relayed import MOST_RECEIVERS, GatewaySighting
from gateway.contract.settings import Settings
from gateway.contract.topics import CENTRAL_STATE, StoreTopics, gateway_of
from gateway.core.model import CanaryMemory, ClockQuality, Instant, ReceiverChange, ReceiverSigns, Shop, Step, Verdict
from gateway.core.pipeline import TICK_MS, Pipeline, Tuning
from gateway.daemon.delivery import Delivery
from gateway.daemon.downlink import Downlinks
from gateway.daemon.ears import Ear as Ear
from gateway.daemon.ears import EarCondition as EarCondition
from gateway.daemon.ears import Heard as Heard
from gateway.daemon.heard_rates import HeardRates
from gateway.daemon.other_gateways import OtherGateways
from gateway.daemon.relaying import PERIOD_MS, Relaying
from gateway.daemon.role import Role
from gateway.daemon.technicians import TestShoppers
from gateway.daemon.zone_models import LiveModel, folder_of
from gateway.errors import TryAgain, Untrusted
from gateway.io.broker import BrokerLost, Publication, Session
from gateway.io.clock import Clock, boot_id
from gateway.io.control import ControlServer
from gateway.io.memory import collect, collect_all
from gateway.io.notify import Notifier
from gateway.io.signing import Verifier
from gateway.io.store import BALLAST_BYTES, Store

if TYPE_CHECKING:
    from gateway.contract.control import Decides, ReceiverStatus, Status
    from gateway.daemon.desk import Desk
    from gateway.io.recorder import Recorder

log = logging.getLogger(__name__)

_SECOND_MS = 1_000
_MINUTE_MS = 60_000
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_WATCHDOG_MS = 10_000
_MAX_LAG_MS = 5_000
_LOCATED_AT_ONCE = 15
"""Shoppers; each takes some 10 µs, and ten times as much if something comes of it."""
_ALONE_S, _ALONE_IN_ALL_S = 0.02, 0.1
"""For so long nothing else is decided while a decision is on its way to the disk, and in all of one tick."""
_IDS_AT_ONCE = 64
_LOOK_S = 5.0
"""For so long nothing is decided after the start, while a broker that may know who decides does not answer."""
_TOLD_S = 10.0


class Daemon:
    """One gateway of one store."""

    def __init__(  # noqa: PLR0913 -- each has its name at the call, and most callers give three
        self,
        settings: Settings,
        shop: Shop,
        clock: Clock,
        *,
        notifier: Notifier | None = None,
        observe: Callable[[Step], None] | None = None,
        kept: Callable[[Step], None] | None = None,
        new_id: Callable[[], str] | None = None,
        database: Path | None = None,
        recorder: "Recorder | None" = None,
        config: str = "the settings",
    ) -> None:
        """``observe`` is told of each step when it is decided, ``kept`` when it is on disk.

        ``config``: how the settings file is called where a person is told to mend it.
        """
        self._settings = settings
        self._clock = clock
        self._notifier = notifier or Notifier()
        self._observe = observe
        self._kept = kept
        self._recorder = recorder
        self._topics = StoreTopics(settings.store, settings.gateway)
        self._boot_id = boot_id()
        self._started = clock.now()
        self.pipeline = Pipeline(shop, tuning_of(settings), new_id or _random_ids().__next__, self._started)
        self._store = Store(
            database or settings.database_path,
            quota_mib=settings.storage.quota_mib,
            boot_id=self._boot_id,
            ballast_bytes=BALLAST_BYTES,
        )
        self._session = Session(
            settings.broker,
            f"gw-{settings.store}-{settings.gateway}",
            will=lambda: self._published(self._status("offline", None)),
            birth=self._connected,
            subscriptions=[
                CENTRAL_STATE,
                self._topics.ack,
                self._topics.decision,
                self._topics.catalogue,
                # These are about phones: without the privacy settings they do not even come here.
                *(
                    [self._topics.any_roster, self._topics.roster_delta, self._topics.any_shopper]
                    if settings.privacy.is_complete
                    else []
                ),
                *([self._topics.every_sighting] if settings.privacy.is_complete else []),
                self._topics.every_status,
            ],
            handle=self._take,
            clock=clock,
            jitter=random.random,
        )
        self._delivery = Delivery(self._store, self._session, self._topics, settings.broker, clock)
        verifier = Verifier(tuple(bytes.fromhex(key) for key in settings.trust.public_keys), settings.store)
        self._downlinks = Downlinks(
            self._topics, verifier, self.pipeline, self._store, clock, keeps_phones=settings.privacy.is_complete
        )
        self._heard = HeardRates()
        self._ears: Sequence[Ear] = ()
        self._decides = True
        """As the pipeline was told."""
        self._signs = ReceiverSigns()
        self._past_batteries: CanaryMemory | None = None
        """What is to be taken back as soon as the clock is right."""
        self._canaries_kept_ms = self._started.mono_ms
        self._test_shoppers = TestShoppers(settings.state_dir / "test-shoppers.json", self.pipeline, settings.store_number)
        self._config = config
        self._role = Role(settings)
        self._relaying = Relaying(self._session, self._topics, clock, conditions=self._own_conditions, heard=self._heard.counts)
        self._live_model = LiveModel(folder_of(settings), self.pipeline)
        self.others = OtherGateways(settings, self.pipeline, self._heard, clock, self._beacon_heard)
        """The other gateways of the store."""
        self._desk: Desk | None = None
        """Made with the first request."""
        self._control = ControlServer(settings.control_path, self._answer)
        self._verdicts: list[tuple[Verdict, int]] = []
        """Central's decisions that are not on disk yet, and when they came (wall milliseconds)."""
        self._ack: AckData | None = None
        """Central's newest acknowledgement, unless it is on disk already."""
        self._answered = asyncio.Event()
        self.at_rest = asyncio.Event()
        """Set between two ticks: everything up to now is decided and on disk."""

    def heard(self, receiver: str, address: str, rssi_dbm: int, data: bytes) -> None:
        """One advertisement, now."""
        now = self._clock.now()
        counts = self._heard.counts
        counts[receiver] = counts.get(receiver, 0) + 1
        self.pipeline.receive(receiver, address, rssi_dbm, data, now)
        if self._desk is not None:
            self._desk.heard(receiver, rssi_dbm, data, now)
        if self._recorder is not None:
            self._recorder.heard(receiver, rssi_dbm, data, now, self.pipeline.counters)

    def _beacon_heard(self, beacon: str, receiver: str, rssi_dbm: int, count: int) -> None:
        """A registered beacon, heard by another gateway's receiver."""
        if self._desk is not None:
            self._desk.beacon_heard(beacon, receiver, rssi_dbm, count)

    def receiver_changed(self, change: ReceiverChange) -> None:
        """A receiver ceased to hear, hears again, or something was tried to make it: an event, with the next tick."""
        self.pipeline.receiver_changed(change)

    async def run(self, ears: Sequence[Ear], stop: asyncio.Event) -> None:
        """Serve until ``stop``; ``GatewayError`` (perhaps in an ``ExceptionGroup``) when that is impossible."""
        self._warn_of_what_is_missing()
        self._ears = ears
        await self._store.start()
        try:
            self._role.restore()
            await self._downlinks.restore()
            now = self._clock.now()
            if self._settings.privacy.is_complete:
                self._test_shoppers.restore()
                self._test_shoppers.put_in_force(now)
            await self._recall_health(now)
            await self._live_model.reload()
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._session.run(), name="broker"),
                    group.create_task(self._delivery.run(), name="delivery"),
                    group.create_task(self._tick_forever(), name="tick"),
                    group.create_task(self._keep_answers(), name="answers"),
                    group.create_task(self._every(_MINUTE_MS, self._each_minute), name="minute"),
                    group.create_task(self._every(_WATCHDOG_MS, self._watch), name="watchdog"),
                    group.create_task(self._every(_SECOND_MS, self._each_second), name="second"),
                    group.create_task(self._every(_SECOND_MS, self._catch_up), name="room"),
                    group.create_task(self._every(PERIOD_MS, self._relay), name="relay"),
                    group.create_task(self.others.run(), name="other gateways"),
                    group.create_task(self._control.run(), name="control"),
                    *(group.create_task(ear.run(), name="ear") for ear in ears),
                ]
                self._notifier.send("READY=1", "STATUS=listening")
                await stop.wait()
                self._notifier.send("STOPPING=1")
                await self._keep_canaries()
                for task in tasks:
                    task.cancel()
            await self._keep_what_was_answered()
            # What was lost in the last second belongs into the gap.
            await self._catch_up()
        finally:
            await self._store.close()

    # ---- tasks ----------------------------------------------------------------------------------------------------------------

    async def _tick_forever(self) -> None:
        await self._look_before()
        await self._recall()
        while True:
            self.at_rest.clear()
            await self._tick()
            # Preparing also drops past days, which a wrong clock must not decide; and then nothing is resolved anyway.
            if self._clock.quality() is not ClockQuality.UNSYNCHRONISED:
                while self.pipeline.identity.prepare(self._clock.now().wall_ms):  # noqa: ASYNC110 -- it works, it does not wait
                    await asyncio.sleep(0)
            self.at_rest.set()
            if self._verdicts or self._ack is not None:
                self._answered.set()
            self._store.rest()
            collect()
            await self._clock.sleep_ms(TICK_MS)

    async def _tick(self) -> None:
        """Decide part by part, so that the loop goes on hearing.

        A part of which something came is on disk before the next is decided, which would hold it up: computing keeps Python's
        lock from the database thread. Behind a slow disk the next is decided all the same, and shares its flush.
        """
        quality, left = self._clock.quality(), self.pipeline.to_locate
        loop, alone_s = asyncio.get_running_loop(), _ALONE_IN_ALL_S
        async with asyncio.TaskGroup() as commits:
            while True:
                now = self._clock.now()
                step = self.pipeline.tick(now, quality, self._signs, most=min(left, _LOCATED_AT_ONCE))
                left -= _LOCATED_AT_ONCE
                if step != Step():
                    if self._observe is not None:
                        self._observe(step)
                    self._test_shoppers.note(step)
                    is_written = await self._store.submit(step, quality=quality, wall_ms=now.wall_ms)
                    keeping = commits.create_task(self._keep(step, is_written))
                    began_s = loop.time()
                    await asyncio.wait((keeping,), timeout=max(0.0, min(_ALONE_S, alone_s)))
                    alone_s -= loop.time() - began_s
                if left <= 0:
                    if self._recorder is not None:
                        self._recorder.ticked(now)
                    break
                await asyncio.sleep(0)

    async def _keep(self, step: Step, is_written: Callable[[], Awaitable[bool]]) -> None:
        if not await is_written():
            # Central will never hear of what was to be proposed: it must not cost the shopper another offer.
            for offer in (offer for outcome in (*step.rests, *step.outcomes) for offer in outcome.offers):
                self.pipeline.decide(Verdict(offer.offer, "refused", "not_kept"))
            return
        if self._kept is not None:
            self._kept(step)
        self._delivery.committed()

    async def _catch_up(self) -> None:
        """What the disk did not take."""
        if await self._store.catch_up(self._clock.now(), self._clock.quality()):
            self._delivery.committed()

    async def _every(self, period_ms: int, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await work()
            await self._clock.sleep_ms(period_ms)

    async def _look_before(self) -> None:
        """Who decides is looked up before anything is decided; without a broker it is as it was when the last process ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_S):
                await self._session.tried.wait()
                if self._session.online.is_set():
                    await self._role.looked.wait()
        self._follow_role()

    async def _recall(self) -> None:
        if not self._settings.privacy.is_complete:
            return
        now = self._clock.now()
        memory = await self._store.recall(now.wall_ms, self._settings.day_start_s * 1000)
        # Visits go on at whoever decides.
        self.pipeline.remember(memory if self._role.decides else replace(memory, visits=()), now)

    async def _relay(self) -> None:
        if not self._role.decides:
            await self._relaying.send()

    async def _each_second(self) -> None:
        now = self._clock.now()
        self._heard.sample(now)
        if await self._role.watch(now.mono_ms, is_online=self._session.online.is_set()):
            await self._announce()
        conditions = self._conditions()
        down = {c.receiver: c.trouble or "it hears nothing." for c in conditions if c.state == "deaf"}
        self._signs = ReceiverSigns(self._heard.heard_ms, down)

    async def _each_minute(self) -> None:
        now = self._clock.now()
        # A clock that is years ahead must not make everything look old enough to be deleted.
        if self._clock.quality() is not ClockQuality.UNSYNCHRONISED:
            if self._settings.privacy.is_complete:
                self._test_shoppers.put_in_force(now)
            await self._store.note_alive(now.wall_ms, self._settings.storage.keep_ledger_days)
            await self._downlinks.drop_past()
        if self._clock.quality() is ClockQuality.SYNCHRONISED:
            self._recall_batteries(now)
        if now.mono_ms - self._canaries_kept_ms >= _HOUR_MS:
            await self._keep_canaries()
            # Acknowledgements and retention delete, too.
            await self._store.scrub()
            if not self.pipeline.shoppers_present:
                collect_all()
        if self._session.online.is_set():
            publication = Publication.of(self._topics.telemetry, await self._telemetry(), now_ms=now.wall_ms, qos=0)
            try:
                await self._session.publish(publication)
            except BrokerLost:
                return

    async def _recall_health(self, now: Instant) -> None:
        """Baselines are good whatever the clock says, so that a beacon that has moved meanwhile is found; batteries are not."""
        usual, told = await self._store.recall_health()
        self.pipeline.remember_told(told)
        self.pipeline.canaries.remember(CanaryMemory(usual.baselines), now)
        self._past_batteries = CanaryMemory((), usual.batteries)

    async def _keep_canaries(self) -> None:
        now, is_right = self._clock.now(), self._clock.quality() is ClockQuality.SYNCHRONISED
        if is_right:
            self._recall_batteries(now)
        self._canaries_kept_ms = now.mono_ms
        await self._store.keep_canaries(self.pipeline.canaries.memory(now), batteries=is_right)

    def _recall_batteries(self, now: Instant) -> None:
        past, self._past_batteries = self._past_batteries, None
        # Later they would stand behind a day of this process.
        if past is not None and now.mono_ms - self._started.mono_ms < _DAY_MS:
            self.pipeline.canaries.remember(past, now)

    async def _watch(self) -> None:
        """The watchdog is fed only while the loop keeps up and the database answers; network and radio are not its business."""
        before = asyncio.get_running_loop().time()
        await asyncio.sleep(0.05)
        lag_ms = (asyncio.get_running_loop().time() - before) * 1000
        rows, _ = await self._store.backlog()
        if lag_ms < _MAX_LAG_MS:
            online = "broker online" if self._session.online.is_set() else "broker offline"
            lost = "" if self._store.shortage.trouble is None else f", EVENTS ARE LOST: {self._store.shortage.trouble.what}"
            present = self.pipeline.shoppers_present
            self._notifier.send("WATCHDOG=1", f"STATUS={present} present, {rows} events waiting, {online}{lost}")

    # ---- broker ---------------------------------------------------------------------------------------------------------------

    async def _take(self, topic: str, payload: bytes, _retained: bool) -> None:
        try:
            if (origin := gateway_of(topic)) is not None:
                await self._take_from_gateway(origin[1], topic, payload)
            elif topic == CENTRAL_STATE:
                await self._take_central_state(payload)
            elif topic == self._topics.ack:
                ack = read(Ack, payload, "ack").data
                if ack.epoch == self._store.epoch and (self._ack is None or ack.seq > self._ack.seq):
                    self._ack = ack
            elif topic == self._topics.decision:
                self._take_decision(read(Decision, payload, "decision"))
            else:
                await self._downlinks.take(topic, payload)
        except Untrusted as error:
            log.warning("downlink refused: %s", error)

    async def _take_central_state(self, payload: bytes) -> None:
        if not payload:
            return
        central = read(CentralState, payload, CENTRAL_STATE).data
        if self._delivery.central_is(central.state, central.instance) and self._session.online.is_set():
            # A new central may have lost its counters: tell it where our numbers begin.
            await self._announce()

    def _take_decision(self, decision: Decision) -> None:
        verdict = Verdict(decision.data.offer, "granted" if decision.data.granted else "refused", decision.data.reason or "")
        if self.pipeline.decide(verdict) and self._observe is not None:
            self._observe(Step((), (verdict,)))
        self._verdicts.append((verdict, self._clock.now().wall_ms))

    async def _keep_answers(self) -> None:
        """What central has answered since the last tick, onto the disk.

        Not while the session waits: each of a burst would wait for a flush of its own, and meanwhile the rest of it takes memory.
        And not at any time: the next tick's decisions would wait for a flush that nobody is in a hurry for.
        """
        while True:
            await self._answered.wait()
            self._answered.clear()
            await self._keep_what_was_answered()

    async def _keep_what_was_answered(self) -> None:
        verdicts, self._verdicts = self._verdicts, []
        ack, self._ack = self._ack, None
        calls = [self._store.decide(verdicts)] if verdicts else []
        if ack is not None:
            calls.append(self._delivery.acknowledged(ack.epoch, ack.seq))
        await asyncio.gather(*calls)

    async def _connected(self) -> list[Publication]:
        self._delivery.connected()
        birth = await self._birth()
        self._role.connected(birth, self._clock.now().mono_ms)
        return [self._published(birth)]

    async def _birth(self) -> GatewayStatus:
        oldest, _ = await self._store.outbox_bounds()
        return self._status("online", oldest)

    async def _announce(self) -> None:
        """The birth once more, because something in it is new."""
        with contextlib.suppress(BrokerLost):
            await self._session.publish(self._published(await self._birth()))

    def _published(self, status: GatewayStatus) -> Publication:
        return Publication.of(self._topics.status, status, now_ms=status.time, retain=True)

    def _status(self, state: str, oldest_seq: int | None) -> GatewayStatus:
        now_ms, claim = self._clock.now().wall_ms, self._role.claim
        receivers = tuple(condition.receiver for condition in self._own_conditions()[:MOST_RECEIVERS])
        return GatewayStatus(
            id=secrets.token_hex(8),
            source=self._topics.source,
            time=now_ms,
            data=GatewayStatusData.model_validate(
                {
                    "state": state,
                    "version": __version__,
                    "epoch": self._store.epoch or None,
                    "oldest_seq": oldest_seq,
                    "decider": None if claim is None else claim.gateway,
                    "term": None if claim is None else claim.term,
                    "receivers": receivers or None,
                }
            ),
        )

    # ---- several gateways -----------------------------------------------------------------------------------------------------

    async def _take_from_gateway(self, gateway: str, topic: str, payload: bytes) -> None:
        is_own = gateway == self._settings.gateway
        if topic == self._topics.status or (not is_own and topic.endswith("/status")):
            if not payload:
                return
            status = read(GatewayStatus, payload, "status")
            if not is_own:
                self.others.take_status(gateway, status.data)
            if await self._role.hear(gateway, status):
                await self._announce()
            self._follow_role()
        elif not is_own and self._role.decides:
            self.others.take_sighting(gateway, read(GatewaySighting, payload, "sighting"))

    def _follow_role(self) -> None:
        """Decide or receive, whichever it is by now."""
        claim = self._role.claim
        self.others.listen(self._role.decides)
        if self._role.decides == self._decides:
            return
        self._decides = self._role.decides
        if self._decides:
            log.info("this gateway decides in the store")
            self.pipeline.decide_here()
        else:
            log.info("this gateway receives: %s decides", "nobody" if claim is None else claim.gateway)
            self.pipeline.receive_for_another(self._relaying.relay)

    async def _take_over(self) -> "Decides":
        """Decide from now on; ``TryAgain`` while nobody would hear of it."""
        from gateway.contract.control import Decides

        is_known = self._session.online.is_set() and self._role.looked.is_set()
        if not self._role.decides and not is_known:
            broker = self._settings.broker
            raise TryAgain(
                "the broker is not reached, so no other gateway would hear of the takeover.",
                where=f"{broker.host}:{broker.port}",
                do="See gateway doctor, then try again.",
            )
        before, connections, told = self._role.claim, self._session.connections, is_known
        if not self._role.decides:
            await self._role.take_over()
            # The will, too, has to tell of it: it is what is left when this gateway dies.
            self._session.renew()
            self._follow_role()
            told = await self._is_told(connections)
        claim = self._role.claim
        assert claim is not None
        return Decides(decider=claim.gateway, term=claim.term, before=None if before is None else before.gateway, told=told)

    async def _is_told(self, connections: int) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TOLD_S):
                while self._session.connections == connections or not self._role.looked.is_set():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                return True
        return False

    async def _telemetry(self) -> Telemetry:
        counters, catalogue, now = self.pipeline.counters, self.pipeline.catalogue, self._clock.now()
        rows, oldest_ms = await self._store.backlog()
        return Telemetry(
            id=secrets.token_hex(8),
            source=self._topics.source,
            time=now.wall_ms,
            data=TelemetryData(
                uptime_s=(now.mono_ms - self._started.mono_ms) // 1000,
                advertisements=counters.advertisements,
                strangers=counters.strangers,
                rejects=dict(counters.rejects),
                beacons=counters.beacons,
                sightings=counters.sightings,
                shoppers_present=self.pipeline.shoppers_present,
                roster_size=self.pipeline.identity.roster_size,
                catalogue_version=None if catalogue is None else catalogue.version,
                outbox_rows=rows,
                outbox_oldest_s=None if oldest_ms is None else max(0, now.wall_ms - oldest_ms) / 1000,
                offers=dict(counters.offers),
            ),
        )

    # ---- status ---------------------------------------------------------------------------------------------------------------

    async def _answer(self, line: bytes) -> bytes | AsyncGenerator[bytes, None]:
        """What the control socket is asked."""
        await asyncio.to_thread(_load_desk)
        return await self._open_desk().answer(line)

    def _open_desk(self) -> "Desk":
        from gateway.daemon.desk import Desk

        if self._desk is None:
            self._desk = Desk(
                self._settings,
                self.pipeline,
                self._clock,
                counts=self._heard.counts,
                downlinks=self._downlinks,
                test_shoppers=self._test_shoppers,
                live_model=self._live_model,
                status=self.status,
                take_over=self._take_over,
                decides=lambda: self._role.decides,
            )
        return self._desk

    async def status(self) -> "Status":
        """The gateway on one screen."""
        await asyncio.to_thread(_load_desk)
        from gateway.contract.control import BrokerStatus, CatalogueStatus, OutboxStatus, Status
        from gateway.daemon.beacons import beacon_faults
        from gateway.daemon.status import RoomTold, disk_status, next_step

        settings, pipeline, now = self._settings, self.pipeline, self._clock.now()
        rows, oldest_ms = await self._store.backlog()
        shop, catalogue = pipeline.shop, pipeline.catalogue
        status = Status(
            version=__version__,
            store=settings.store,
            gateway=settings.gateway,
            state="running",
            mode=settings.mode,
            uptime_s=(now.mono_ms - self._started.mono_ms) / 1000,
            role="decide" if self._role.decides else "receive",
            decider=None if self._role.claim is None else self._role.claim.gateway,
            decider_online=None if self._role.claim is None else self.others.is_online(self._role.claim.gateway),
            receivers=tuple(self._receiver(condition, now) for condition in self._conditions()),
            shoppers_present=pipeline.shoppers_present,
            roster_size=pipeline.identity.roster_size,
            test_shoppers=len(self._test_shoppers),
            zones=len(shop.zones),
            anchors=len(shop.anchors),
            catalogue=None
            if catalogue is None
            else CatalogueStatus(
                version=catalogue.version,
                promotions=len(catalogue.promotions),
                in_force=sum(in_force for _, _, in_force in catalogue.everything()),
                expires_s=(self._downlinks.catalogue_not_after_ms - now.wall_ms) / 1000,
            ),
            outbox=OutboxStatus(
                rows=rows,
                oldest_s=None if oldest_ms is None else max(0, now.wall_ms - oldest_ms) / 1000,
                last_ack_s=self._delivery.since_last_ack_s,
            ),
            broker=BrokerStatus(
                host=settings.broker.host,
                port=settings.broker.port,
                state="online" if self._session.online.is_set() else "offline",
                connections=self._session.connections,
            ),
            central=self._delivery.central,
            clock=self._clock.quality().value,
            disk=disk_status(settings, settings.database_path),
            privacy_missing=tuple(settings.privacy.missing),
            trusts_central=bool(settings.trust.public_keys),
            rejects=dict(pipeline.counters.rejects),
            offers=dict(pipeline.counters.offers),
            beacon_faults=beacon_faults(pipeline),
            blind_zones=tuple(sorted(pipeline.canaries.blind_zones)),
            positioning=pipeline.ground.kind,
            zone_model=self._live_model.version,
            zone_model_trouble=self._live_model.trouble,
            next_step="",
        )
        shortage = self._store.shortage
        room = RoomTold(shortage.trouble, shortage.gap or self._store.last_gap, now.wall_ms)
        return status.model_copy(update={"next_step": next_step(status, self._config, room)})

    def _receiver(self, condition: EarCondition, now: Instant) -> "ReceiverStatus":
        from gateway.contract.control import RadioStatus, ReceiverStatus

        heard_ms = self._heard.heard_ms.get(condition.receiver)
        return ReceiverStatus(
            name=condition.receiver,
            adapter=condition.adapter,
            state=condition.state,
            scanning=condition.scanning,
            heard_per_s=round(self._heard.per_s(condition.receiver), 1),
            heard_s_ago=None if heard_ms is None else (now.mono_ms - heard_ms) / 1000,
            trouble=condition.trouble,
            in_shop=condition.receiver in self.pipeline.shop.anchors,
            gateway=condition.gateway,
            heard=self._heard.counts.get(condition.receiver, 0),
            radio=None if condition.radio is None else RadioStatus.model_validate(condition.radio, from_attributes=True),
        )

    def _own_conditions(self) -> list[EarCondition]:
        return [condition for ear in self._ears for condition in ear.conditions()]

    def _conditions(self) -> list[EarCondition]:
        return self._own_conditions() + self.others.conditions()

    def _warn_of_what_is_missing(self) -> None:
        missing = self._settings.privacy.missing
        if missing:
            log.warning("nothing about phones is kept until these settings are made: %s", ", ".join(missing))
        if not self._settings.trust.public_keys:
            log.warning("trust.public_keys is empty: no catalogue and no roster will be accepted")


def _load_desk() -> None:
    """And what ``status`` loads: for many milliseconds the first time, which the loop must not wait."""
    import gateway.daemon.desk
    import gateway.daemon.status  # noqa: F401


def _random_ids() -> Iterator[str]:
    """16 hexadecimal digits each. Asking the kernel gives Python's lock away, so it is asked for many at once."""
    while True:
        digits = secrets.token_hex(8 * _IDS_AT_ONCE)
        yield from (digits[first : first + 16] for first in range(0, len(digits), 16))


def tuning_of(settings: Settings) -> Tuning:
    """What the settings say of the pipeline."""
    return Tuning(
        time_zone=ZoneInfo(settings.time_zone),
        day_start_s=settings.day_start_s,
        skew_s=settings.clock.skew_s,
        margin=settings.presence.margin,
        hold_ms=round(settings.presence.hold_s * 1000),
        visit_gap_ms=settings.presence.visit_gap_s * 1000,
        service_uuid16=settings.chain.service_uuid16,
        company_id=settings.chain.company_id,
        keeps_phones=settings.privacy.is_complete,
        listen_only=settings.mode == "listen-only",
    )
