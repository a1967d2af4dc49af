"""A walk test: what is heard of the test device is collected, judged, learnt from beside the loop, and put in force.

::

    waiting ── first sighting, or first mark ──▶ walking ── time over, or last mark ──▶ judged ──▶ refused: nothing has changed
       │                                            │                                     └──▶ learnt ──▶ kept ──▶ in force
       └── 30 s of silence ──▶ refused              └── whoever asked hangs up ──▶ dropped

Nothing of anybody else is looked at: of phones the pipeline tells only test shoppers, and of beacons the one that was named.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field

from gateway.contract.fields import Strict
from gateway.contract.settings import Settings
from gateway.contract.walk_tasks import KeptWalk, Learnt, LearnTask, plan_file, recording_of
from gateway.contract.walks import (
    AnchorLevelNow,
    CheckZonesRequest,
    ExportModelRequest,
    ImportModelRequest,
    ModelMade,
    Models,
    ModelsRequest,
    UseModelRequest,
    VerifyZonesRequest,
    WalkAccepted,
    WalkDone,
    WalkMarked,
    WalkMarkRequest,
    WalkProgress,
    WalkRefused,
    WalkRequest,
    ZonesChecked,
    ZonesVerified,
)
from gateway.core.frames import Decoder
from gateway.core.model import Instant, key_of
from gateway.core.pipeline import Pipeline
from gateway.core.positioning import plan_of
from gateway.core.spelling import listed, no_such
from gateway.core.walks import MOST_SIGHTINGS, Mark, evenly_marked, heard_now, not_heard, path_fault, placed, recent_per_s
from gateway.core.zone_model import RecordedSighting
from gateway.daemon.kept_walks import KeptWalks, NewWalk, receivers_of
from gateway.daemon.technicians import TestShoppers
from gateway.daemon.zone_models import LiveModel
from gateway.errors import ConfigurationError, GatewayError, TryAgain, WrongCommand
from gateway.io.clock import Clock
from gateway.io.learning import learn_apart

log = logging.getLogger(__name__)

PERIOD_MS = 250
WAIT_MS = 30_000
MARK_WAIT_MS = 600_000
WalkNews = WalkProgress | WalkDone | WalkRefused
WalkQuestion = (
    CheckZonesRequest
    | VerifyZonesRequest
    | ModelsRequest
    | UseModelRequest
    | ExportModelRequest
    | ImportModelRequest
    | WalkMarkRequest
)


@dataclass(slots=True)
class _Current:
    """The walk that goes on."""

    request: WalkRequest
    shoppers: frozenset[str]
    """Pseudonyms of the test shopper."""
    counts: Mapping[str, int]
    """Advertisements by receiver when it was asked for."""
    began_ms: int | None = None
    sightings: list[RecordedSighting] = field(default_factory=list)
    marked_ms: list[int] = field(default_factory=list)
    """When each mark was told."""

    @property
    def told_marks(self) -> int:
        """Marks that a person has to tell."""
        return 0 if self.request.evenly else len(self.request.path)

    def sighted(self, anchor: str, rssi_dbm: float, at_ms: int) -> None:
        if self.began_ms is None:
            if self.told_marks:
                return
            self.began_ms = at_ms
        if at_ms >= self.began_ms and len(self.sightings) < MOST_SIGHTINGS:
            zone = self.request.zone
            self.sightings.append(RecordedSighting(at_ms - self.began_ms, zone, anchor, rssi_dbm, zone))

    def is_over(self, now_ms: int) -> bool:
        if self.began_ms is None:
            return False
        if self.told_marks:
            return len(self.marked_ms) == self.told_marks
        return now_ms - self.began_ms >= self.request.duration_s * 1000 or len(self.sightings) >= MOST_SIGHTINGS

    def marks(self) -> tuple[Mark, ...]:
        path = self.request.path
        if not path:
            return ()
        if self.request.evenly:
            return evenly_marked(path, self.request.duration_s * 1000)
        assert self.began_ms is not None
        return tuple((at_ms - self.began_ms, mark) for at_ms, mark in zip(self.marked_ms, path, strict=True))


class Walks:
    """Those of one gateway, one at a time."""

    def __init__(  # noqa: PLR0917 -- what a walk needs of the daemon
        self,
        settings: Settings,
        pipeline: Pipeline,
        test_shoppers: TestShoppers,
        clock: Clock,
        counts: Mapping[str, int],
        live_model: LiveModel,
        decides: Callable[[], bool],
    ) -> None:
        """``counts``: advertisements by receiver since the start; ``decides``: whether this gateway does."""
        self._settings = settings
        self._pipeline = pipeline
        self._test_shoppers = test_shoppers
        self._clock = clock
        self._counts = counts
        self._live_model = live_model
        self._decides = decides
        self._kept = KeptWalks(settings)
        self._decode = Decoder(None, None, knows=lambda _: False).decode
        self._current: _Current | None = None
        self._changing = asyncio.Lock()
        """Held while files are changed: two commands may come at once."""
        self.beacon: str | None = None
        """The registered beacon that is followed."""

    # ---- what is heard --------------------------------------------------------------------------------------------------------

    def _sighted(self, shopper: str, anchor: str, rssi_dbm: float, at: Instant, source: str) -> None:
        current = self._current
        if current is not None and shopper in current.shoppers and source == "receiver":
            current.sighted(anchor, rssi_dbm, at.mono_ms)

    def heard(self, receiver: str, rssi_dbm: int, data: bytes, at: Instant) -> None:
        """An advertisement, while a beacon is followed."""
        key = key_of(self._decode(data))
        anchor = self._pipeline.shop.anchors.get(self.beacon or "")
        if key is not None and anchor is not None and key == anchor.key:
            self._beacon_heard(receiver, rssi_dbm, at.mono_ms)

    def beacon_heard(self, beacon: str, receiver: str, rssi_dbm: int, count: int) -> None:
        """A registered beacon that another gateway's receiver heard."""
        if beacon == self.beacon:
            for _ in range(count):
                self._beacon_heard(receiver, rssi_dbm, self._clock.now().mono_ms)

    def _beacon_heard(self, receiver: str, rssi_dbm: int, at_ms: int) -> None:
        if self._current is not None and receiver in self._pipeline.shop.anchors:
            self._current.sighted(receiver, float(rssi_dbm), at_ms)

    # ---- a walk ---------------------------------------------------------------------------------------------------------------

    async def run(self, request: WalkRequest) -> AsyncGenerator[WalkNews, None]:
        """Follow the test device; ends with ``WalkDone`` or ``WalkRefused``. Closed before, it changes nothing.

        ``WrongCommand`` for a zone or device that is not there, ``ConfigurationError`` where nobody could be followed or heard,
        ``TryAgain`` while another walk goes on.
        """
        current = self._begin(request)
        receivers = receivers_of(self._pipeline.shop, request.zone)
        try:
            async for progress in self._walk(current, receivers):
                yield progress
            marks = current.marks() if current.began_ms is not None else ()
        finally:
            self._end()
        deaf = self._deaf(current)
        if not current.sightings:
            refused = not_heard(receivers, deaf)
            yield WalkRefused(zone=request.zone, reason=refused.reason, what=refused.what, do=refused.do)
            return
        # What other gateways tell comes a little later.
        sightings = tuple(sorted(current.sightings, key=lambda sighting: sighting.t_ms))
        sightings = placed(sightings, marks) if marks else sightings
        learning = asyncio.create_task(self._learn(current, recording_of(request.zone, sightings), receivers, deaf))
        try:
            began_ms = self._clock.now().mono_ms
            while not learning.done():
                yield self._progress(current, receivers, "learning", began_ms)
                await asyncio.wait((learning,), timeout=PERIOD_MS / 1000)
            yield learning.result()
        finally:
            if not learning.done():
                learning.cancel()
                await asyncio.gather(learning, return_exceptions=True)

    def _begin(self, request: WalkRequest) -> _Current:
        shop, now = self._pipeline.shop, self._clock.now()
        if request.zone not in shop.zones:
            raise WrongCommand(no_such("zone", request.zone, shop.zones))
        if not receivers_of(shop):
            raise ConfigurationError(
                "the shop has no receiver that could hear a walk.", do="gateway receiver add NAME --zone ZONE"
            )
        if request.path and (fault := path_fault(request.path, request.zone, plan_of(shop))) is not None:
            raise WrongCommand(fault, where="--path")
        if not self._decides():
            raise ConfigurationError("another gateway decides in this store.", do="Walk there: gateway status tells which.")
        if self._current is not None:
            raise TryAgain(f"a walk of {self._current.request.zone} goes on already.", do="Wait for its end.")
        shoppers = self._device(request, now)
        self._current = current = _Current(request, shoppers, dict(self._counts))
        self.beacon = request.beacon
        self._pipeline.record_walk = self._sighted
        log.info("a walk of %s begins", request.zone)
        return current

    def _device(self, request: WalkRequest, now: Instant) -> frozenset[str]:
        if request.beacon is not None:
            beacons = sorted(name for name, anchor in self._pipeline.shop.anchors.items() if anchor.kind == "beacon")
            if request.beacon not in beacons:
                raise WrongCommand(no_such("beacon", request.beacon, beacons))
            return frozenset()
        names = self._test_shoppers.names
        if request.shopper is not None and request.shopper not in names:
            raise WrongCommand(no_such("test shopper", request.shopper, names))
        if not names:
            raise ConfigurationError(
                "there is no test shopper to follow.",
                do="gateway test-shopper add NAME --key-file FILE, and the key into the app; or walk with --beacon NAME.",
            )
        if request.shopper is None and len(names) > 1:
            raise WrongCommand(f"there are several test shoppers: {listed(names)}.", do="Say which walks: --shopper NAME.")
        return self._test_shoppers.pseudonyms(request.shopper or names[0], now)

    def _end(self) -> None:
        self._current, self.beacon = None, None
        self._pipeline.record_walk = None

    async def _walk(self, current: _Current, receivers: tuple[str, ...]) -> AsyncGenerator[WalkProgress, None]:
        asked_ms = self._clock.now().mono_ms
        while True:
            now_ms = self._clock.now().mono_ms
            if current.is_over(now_ms):
                return
            patience_ms = MARK_WAIT_MS if current.told_marks else WAIT_MS
            last_ms = max([asked_ms, *current.marked_ms])
            if (current.began_ms is None or current.told_marks) and now_ms - last_ms >= patience_ms:
                # Marks that nobody tells any more: what there is of the walk has no places, so it is none.
                current.sightings.clear()
                current.began_ms = None
                return
            yield self._progress(current, receivers, "waiting" if current.began_ms is None else "walking", now_ms)
            await self._clock.sleep_ms(PERIOD_MS)

    def _progress(self, current: _Current, receivers: tuple[str, ...], state: str, now_ms: int) -> WalkProgress:
        request, sightings = current.request, current.sightings
        elapsed_ms = 0 if current.began_ms is None else max(0, now_ms - current.began_ms)
        left_ms = None if current.told_marks or current.began_ms is None else max(0, request.duration_s * 1000 - elapsed_ms)
        heard = heard_now(sightings, elapsed_ms)
        marks = current.marks() if request.evenly and current.began_ms is not None else ()
        return WalkProgress.model_validate(
            {
                "state": state,
                "elapsed_s": round(elapsed_ms / 1000, 2),
                "left_s": None if left_ms is None else round(left_ms / 1000, 2),
                "heard": len(sightings),
                "heard_per_s": round(recent_per_s(sightings, elapsed_ms), 1) if sightings else 0.0,
                "anchors": tuple(AnchorLevelNow(anchor=one.anchor, level_dbm=one.level_dbm, heard=one.heard) for one in heard),
                "silent": tuple(name for name in receivers if name not in {one.anchor for one in heard}),
                "marks_passed": sum(at_ms <= elapsed_ms for at_ms, _ in marks) if marks else len(current.marked_ms),
                "marks": len(request.path),
            }
        )

    def _deaf(self, current: _Current) -> frozenset[str]:
        names = receivers_of(self._pipeline.shop)
        return frozenset(name for name in names if self._counts.get(name, 0) == current.counts.get(name, 0))

    async def _learn(
        self, current: _Current, recording: str, receivers: tuple[str, ...], deaf: frozenset[str]
    ) -> WalkDone | WalkRefused:
        request, shop = current.request, self._pipeline.shop
        async with self._changing:
            began_ms = self._clock.now().mono_ms
            kept = await asyncio.to_thread(self._kept.walks, shop)
            others = {walk.about.zone: walk for walk in kept}
            task = LearnTask(
                plan=plan_file(plan_of(shop)),
                zone=request.zone,
                recording=recording,
                walks=kept,
                receivers=receivers,
                deaf=tuple(sorted(deaf)),
                anyway=request.anyway,
            )
            learnt = await learn_apart(task, Learnt)
            took_ms = self._clock.now().mono_ms - began_ms
            if learnt.refused is not None:
                log.info("the walk of %s is not learnt from: %s", request.zone, learnt.refused.reason)
                return learnt.refused
            not_walked = self._kept.not_walked(shop, {*others, request.zone})
            about = WalkAccepted(
                zone=request.zone,
                walked_time=self._clock.now().wall_ms,
                device="test-shopper" if request.beacon is None else "beacon",
                path=request.path,
                **learnt.figures[request.zone].model_dump(),
            )
            use = not not_walked
            # From here on it is kept, whoever hangs up.
            made = await asyncio.shield(self._accept(NewWalk(about, recording), others, learnt, use=use))
            version = made.version
            # Before all zones are walked nothing can be said of telling them apart.
            checked = await self._check_quietly() if use else ZonesChecked()
            zones = {one.zone: one.accuracy for one in checked.zones}
            await asyncio.to_thread(self._kept.note, made.model_copy(update={"accuracy": checked.accuracy}))
        log.info("the walk of %s is learnt from: zone model %d%s", request.zone, version, " is in force" if use else "")
        return WalkDone(
            zone=request.zone,
            heard=learnt.heard,
            heard_per_s=learnt.heard_per_s,
            duration_s=learnt.duration_s,
            anchors=learnt.anchors,
            model=version,
            in_force=use,
            not_walked=not_walked,
            accuracy=checked.accuracy,
            zone_accuracy=None if checked.accuracy is None else zones.get(request.zone),
            sounds_like=learnt.sounds_like,
            learning_s=round(took_ms / 1000, 1),
        )

    async def _accept(self, new: NewWalk, others: Mapping[str, KeptWalk], learnt: Learnt, *, use: bool) -> ModelMade:
        version = await asyncio.to_thread(self._kept.accept, new, others, learnt, use=use)
        if use:
            await self._live_model.reload()
        walks = tuple(sorted({*others, new.about.zone}))
        made = ModelMade(version=version, made_time=new.about.walked_time, origin="walks", walks=walks)
        await asyncio.to_thread(self._kept.note, made)
        return made

    async def _check_quietly(self) -> ZonesChecked:
        """How well the zones are told apart now; the walk is accepted even if nobody can say."""
        with contextlib.suppress(GatewayError):
            return await self._check()
        log.warning("how well the zones are told apart is not known; see gateway zone check")
        return ZonesChecked()

    async def _check(self) -> ZonesChecked:
        return await learn_apart(await asyncio.to_thread(self._kept.check_task, self._pipeline.shop), ZonesChecked)

    # ---- what else is asked ---------------------------------------------------------------------------------------------------

    async def answer(self, request: WalkQuestion) -> Strict:
        """What is asked beside a walk."""
        match request:
            case WalkMarkRequest():
                return self._mark()
            case CheckZonesRequest():
                return await self._check()
            case VerifyZonesRequest():
                task = await asyncio.to_thread(self._kept.verify_task, self._pipeline.shop)
                return await learn_apart(task, ZonesVerified)
            case ModelsRequest():
                return await self._models()
            case ExportModelRequest():
                return await asyncio.to_thread(self._kept.export, request.version)
            case UseModelRequest():
                async with self._changing:
                    await asyncio.to_thread(self._kept.use, request.version)
                    version = await self._live_model.reload()
                log.info("zone model %s is in force", "none" if version is None else version)
                return await self._models()
            case ImportModelRequest():
                async with self._changing:
                    await asyncio.to_thread(self._kept.take, request.model, self._clock.now().wall_ms)
                return await self._models()

    async def _models(self) -> Models:
        ground = self._pipeline.ground
        return Models(models=await asyncio.to_thread(self._kept.models), located_by=ground.kind, trouble=ground.trouble)

    def _mark(self) -> WalkMarked:
        current = self._current
        if current is None or len(current.marked_ms) >= current.told_marks:
            raise ConfigurationError("no walk waits for a mark.")
        now_ms = self._clock.now().mono_ms
        if current.began_ms is None:
            current.began_ms = now_ms
        current.marked_ms.append(now_ms)
        return WalkMarked(passed=len(current.marked_ms), marks=current.told_marks)
