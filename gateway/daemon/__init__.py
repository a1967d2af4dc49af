"""The gateway's wiring: ears → pipeline → database → broker, a few tasks in one TaskGroup."""

import asyncio
import logging
import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol
from zoneinfo import ZoneInfo

from gateway import __version__
from gateway.contract.control import BrokerStatus, CatalogueStatus, OutboxStatus, ReceiverState, ReceiverStatus, Status
from gateway.contract.messages import (
    Ack,
    CentralState,
    Decision,
    GatewayStatus,
    GatewayStatusData,
    Telemetry,
    TelemetryData,
    read,
)
from gateway.contract.settings import Settings
from gateway.contract.topics import CENTRAL_STATE, StoreTopics
from gateway.core.model import ClockQuality, Instant, Shop, Step, Verdict
from gateway.core.pipeline import TICK_MS, Pipeline, Tuning
from gateway.daemon.control import Control
from gateway.daemon.delivery import Delivery
from gateway.daemon.downlink import Downlinks
from gateway.daemon.status import HeardRates, disk_status, next_step
from gateway.daemon.technicians import TestShoppers
from gateway.errors import Untrusted
from gateway.io.broker import BrokerLost, Publication, Session
from gateway.io.clock import Clock, boot_id
from gateway.io.control import ControlServer
from gateway.io.notify import Notifier
from gateway.io.recorder import Recorder
from gateway.io.signing import Verifier
from gateway.io.store import Store

log = logging.getLogger(__name__)

_SECOND_MS = 1_000
_MINUTE_MS = 60_000
_WATCHDOG_MS = 10_000
_MAX_LAG_MS = 5_000

Heard = Callable[[str, str, int, bytes], None]
"""(receiver, address, RSSI in dBm, AD structures): called once per advertisement."""


@dataclass(frozen=True, slots=True)
class EarCondition:
    """How one receiver is doing."""

    receiver: str
    adapter: str | None
    state: ReceiverState
    scanning: Literal["active", "passive"] | None = None
    trouble: str | None = None


class Ear(Protocol):
    """Something that hears advertisements until it is cancelled."""

    async def run(self) -> None:
        """Listen for ever."""

    def conditions(self) -> list[EarCondition]:
        """How its receivers are doing."""


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
        new_id: Callable[[], str] = lambda: secrets.token_hex(8),
        database: Path | None = None,
        recorder: Recorder | None = None,
        config: str = "the settings",
    ) -> None:
        """``config``: how the settings file is called where a person is told to mend it."""
        self._settings = settings
        self._clock = clock
        self._notifier = notifier or Notifier()
        self._observe = observe
        self._recorder = recorder
        self._topics = StoreTopics(settings.store, settings.gateway)
        self._boot_id = boot_id()
        self._started = clock.now()
        self.pipeline = Pipeline(shop, tuning_of(settings), new_id, self._started)
        self._store = Store(database or settings.database_path, quota_mib=settings.storage.quota_mib, boot_id=self._boot_id)
        self._session = Session(
            settings.broker,
            f"gw-{settings.store}-{settings.gateway}",
            will=lambda: self._status("offline", None),
            birth=self._connected,
            subscriptions=[
                CENTRAL_STATE,
                self._topics.ack,
                self._topics.decision,
                self._topics.catalogue,
                # A roster is about phones: without the privacy settings it does not even come here.
                *([self._topics.any_roster, self._topics.roster_delta] if settings.privacy.is_complete else []),
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
        self._test_shoppers = TestShoppers(settings.state_dir / "test-shoppers.json", self.pipeline, settings.store_number)
        self._config = config
        control = Control(settings, self.pipeline, self._downlinks, self._test_shoppers, clock, self.status)
        self._control = ControlServer(settings.control_path, control.answer)
        self.at_rest = asyncio.Event()
        """Set between two ticks: everything up to now is decided and on disk."""

    def heard(self, receiver: str, address: str, rssi_dbm: int, data: bytes) -> None:
        """One advertisement, now."""
        now = self._clock.now()
        counts = self._heard.counts
        counts[receiver] = counts.get(receiver, 0) + 1
        self.pipeline.receive(receiver, address, rssi_dbm, data, now)
        if self._recorder is not None:
            self._recorder.heard(receiver, rssi_dbm, data, now, self.pipeline.counters)

    async def run(self, ears: Sequence[Ear], stop: asyncio.Event) -> None:
        """Serve until ``stop``; ``GatewayError`` (perhaps in an ``ExceptionGroup``) when that is impossible."""
        self._warn_of_what_is_missing()
        self._ears = ears
        await self._store.start()
        try:
            await self._downlinks.restore()
            now = self._clock.now()
            if self._settings.privacy.is_complete:
                self._test_shoppers.restore()
                self._test_shoppers.put_in_force(now)
            if self._settings.privacy.is_complete:
                self.pipeline.remember(await self._store.recall(now.wall_ms), now)
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._session.run(), name="broker"),
                    group.create_task(self._delivery.run(), name="delivery"),
                    group.create_task(self._tick_forever(), name="tick"),
                    group.create_task(self._every(_MINUTE_MS, self._each_minute), name="minute"),
                    group.create_task(self._every(_WATCHDOG_MS, self._watch), name="watchdog"),
                    group.create_task(self._every(_SECOND_MS, self._each_second), name="second"),
                    group.create_task(self._control.run(), name="control"),
                    *(group.create_task(ear.run(), name="ear") for ear in ears),
                ]
                self._notifier.send("READY=1", "STATUS=listening")
                await stop.wait()
                self._notifier.send("STOPPING=1")
                for task in tasks:
                    task.cancel()
        finally:
            await self._store.close()

    # ---- tasks ----------------------------------------------------------------------------------------------------------------

    async def _tick_forever(self) -> None:
        while True:
            self.at_rest.clear()
            now = self._clock.now()
            step = self.pipeline.tick(now, self._clock.quality())
            if self._recorder is not None:
                self._recorder.ticked(now)
            if step != Step():
                if self._observe is not None:
                    self._observe(step)
                self._test_shoppers.note(step)
                await self._store.commit(step, quality=self._clock.quality(), wall_ms=now.wall_ms)
                self._delivery.committed()
            # Preparing also drops past days, which a wrong clock must not decide; and then nothing is resolved anyway.
            if self._clock.quality() is not ClockQuality.UNSYNCHRONISED:
                while self.pipeline.identity.prepare(self._clock.now().wall_ms):  # noqa: ASYNC110 -- it works, it does not wait
                    await asyncio.sleep(0)
            self.at_rest.set()
            await self._clock.sleep_ms(TICK_MS)

    async def _every(self, period_ms: int, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await work()
            await self._clock.sleep_ms(period_ms)

    async def _each_second(self) -> None:
        self._heard.sample(self._clock.now())

    async def _each_minute(self) -> None:
        now = self._clock.now()
        # A clock that is years ahead must not make everything look old enough to be deleted.
        if self._clock.quality() is not ClockQuality.UNSYNCHRONISED:
            if self._settings.privacy.is_complete:
                self._test_shoppers.put_in_force(now)
            await self._store.note_alive(now.wall_ms, self._settings.storage.keep_ledger_days)
            await self._downlinks.drop_past()
        if self._session.online.is_set():
            publication = Publication.of(self._topics.telemetry, await self._telemetry(), now_ms=now.wall_ms, qos=0)
            try:
                await self._session.publish(publication)
            except BrokerLost:
                return

    async def _watch(self) -> None:
        """The watchdog is fed only while the loop keeps up and the database answers; network and radio are not its business."""
        before = asyncio.get_running_loop().time()
        await asyncio.sleep(0.05)
        lag_ms = (asyncio.get_running_loop().time() - before) * 1000
        rows, _ = await self._store.backlog()
        if lag_ms < _MAX_LAG_MS:
            online = "broker online" if self._session.online.is_set() else "broker offline"
            self._notifier.send("WATCHDOG=1", f"STATUS={self.pipeline.shoppers_present} present, {rows} events waiting, {online}")

    # ---- broker ---------------------------------------------------------------------------------------------------------------

    async def _take(self, topic: str, payload: bytes, _retained: bool) -> None:
        try:
            if topic == CENTRAL_STATE:
                await self._take_central_state(payload)
            elif topic == self._topics.ack:
                ack = read(Ack, payload, "ack").data
                await self._delivery.acknowledged(ack.epoch, ack.seq)
            elif topic == self._topics.decision:
                await self._take_decision(read(Decision, payload, "decision"))
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
            try:
                for publication in await self._birth():
                    await self._session.publish(publication)
            except BrokerLost:
                return

    async def _take_decision(self, decision: Decision) -> None:
        verdict = Verdict(decision.data.offer, "granted" if decision.data.granted else "refused", decision.data.reason or "")
        if self.pipeline.decide(verdict) and self._observe is not None:
            self._observe(Step((), (verdict,)))
        await self._store.decide(verdict, self._clock.now().wall_ms)

    async def _connected(self) -> list[Publication]:
        self._delivery.connected()
        return await self._birth()

    async def _birth(self) -> list[Publication]:
        oldest, _ = await self._store.outbox_bounds()
        return [self._status("online", oldest)]

    def _status(self, state: str, oldest_seq: int | None) -> Publication:
        now_ms = self._clock.now().wall_ms
        status = GatewayStatus(
            id=secrets.token_hex(8),
            source=self._topics.source,
            time=now_ms,
            data=GatewayStatusData.model_validate(
                {"state": state, "version": __version__, "epoch": self._store.epoch or None, "oldest_seq": oldest_seq}
            ),
        )
        return Publication.of(self._topics.status, status, now_ms=now_ms, retain=True)

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

    async def status(self) -> Status:
        """The gateway on one screen."""
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
            receivers=tuple(self._receiver(c, now) for ear in self._ears for c in ear.conditions()),
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
            next_step="",
        )
        return status.model_copy(update={"next_step": next_step(status, self._config)})

    def _receiver(self, condition: EarCondition, now: Instant) -> ReceiverStatus:
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
        )

    def _warn_of_what_is_missing(self) -> None:
        missing = self._settings.privacy.missing
        if missing:
            log.warning("nothing about phones is kept until these settings are made: %s", ", ".join(missing))
        if not self._settings.trust.public_keys:
            log.warning("trust.public_keys is empty: no catalogue and no roster will be accepted")


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
