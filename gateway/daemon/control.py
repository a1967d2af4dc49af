"""Answers the control socket: what the command line may ask of a running daemon, and change in it."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from zoneinfo import ZoneInfo

from gateway.contract.control import (
    AddTechnicianRequest,
    BeaconHealthRequest,
    CatalogueInForce,
    CatalogueRequest,
    Decides,
    ExplainRequest,
    PromotionInForce,
    RelearnBeaconRequest,
    RemoveTechnicianRequest,
    Request,
    ShopInForce,
    ShopRequest,
    Status,
    StatusRequest,
    TakeOverRequest,
    TechniciansRequest,
    TestReceiverRequest,
    UseShopRequest,
    answer_of,
    digest_of,
    read_request,
)
from gateway.contract.downlinks import Catalogue as CatalogueDocument
from gateway.contract.fields import Strict
from gateway.contract.settings import Settings
from gateway.contract.shop import ShopFile
from gateway.contract.walks import WalkRequest
from gateway.core.pipeline import Pipeline
from gateway.core.positioning import ground_of
from gateway.core.spelling import no_such
from gateway.daemon.beacons import beacons_health
from gateway.daemon.downlink import Downlinks
from gateway.daemon.explain import explain
from gateway.daemon.receiver_trial import Trials
from gateway.daemon.technicians import TestShoppers
from gateway.daemon.walks import WalkQuestion, Walks
from gateway.errors import ConfigurationError, GatewayError, TryAgain, WrongCommand
from gateway.io.clock import Clock
from gateway.io.whole_file import alone_in, write_whole

log = logging.getLogger(__name__)


class Shops:
    """The shop in force and the file it is kept in."""

    def __init__(self, path: Path, pipeline: Pipeline, clock: Clock) -> None:
        self._path = path
        self._pipeline = pipeline
        self._clock = clock
        self.shop = ShopFile.of(pipeline.shop)
        self._changing = asyncio.Lock()

    async def replace(self, shop: ShopFile, replaces: str) -> None:
        """On disk first, then in force; ``TryAgain`` when the shop is no longer the one that was edited."""
        async with self._changing:
            if digest_of(self.shop) != replaces:
                raise TryAgain("the shop was changed by somebody else meanwhile.", do="Nothing was changed; look and try again.")
            await asyncio.to_thread(_write, self._path, shop.to_text())
            self.shop = shop
            compiled = shop.compiled()
            model = self._pipeline.zone_model
            # A floor of positions takes too long to compute for the loop.
            ground = await asyncio.to_thread(ground_of, compiled, model)
            is_fresh = self._pipeline.zone_model is model
            self._pipeline.use_shop(compiled, self._clock.now().wall_ms, ground if is_fresh else None)
            log.info("a new shop is in force: %d zones, %d anchors", len(shop.zones), len(shop.anchors))


def _write(path: Path, text: str) -> None:
    # A command that has found no daemon may be about to write it, too.
    with alone_in(path.parent):
        write_whole(path, text, mode=0o640, folder_mode=0o700)


class Control:
    """One answer for each request."""

    def __init__(  # noqa: PLR0913, PLR0917 -- what there is to be asked about
        self,
        settings: Settings,
        pipeline: Pipeline,
        downlinks: Downlinks,
        test_shoppers: TestShoppers,
        clock: Clock,
        status: Callable[[], Awaitable[Status]],
        trials: Trials,
        take_over: Callable[[], Awaitable[Decides]],
        walks: Walks,
    ) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._downlinks = downlinks
        self._test_shoppers = test_shoppers
        self._clock = clock
        self._status = status
        self._trials = trials
        self._take_over = take_over
        self._walks = walks
        self._shops = Shops(settings.shop_path, pipeline, clock)

    async def answer(self, line: bytes) -> bytes | AsyncGenerator[bytes, None]:
        """The answer to one line, for a walk line by line; whatever the world did wrong is in it, not raised."""
        try:
            request = read_request(line)
            if isinstance(request, WalkRequest):
                return self._walk(request)
            return answer_of(await self._result(request))
        except GatewayError as error:
            return answer_of(error)

    async def _walk(self, request: WalkRequest) -> AsyncGenerator[bytes, None]:
        try:
            async with contextlib.aclosing(self._walks.run(request)) as news:
                async for one in news:
                    yield answer_of(one)
        except GatewayError as error:
            yield answer_of(error)

    async def _result(self, request: Request) -> Strict:
        if isinstance(request, TestReceiverRequest):
            return await self._trials.run(request, self._status)
        if isinstance(request, TakeOverRequest):
            return await self._take_over()
        if isinstance(request, WalkQuestion):
            return await self._walks.answer(request)
        return await self._about(request)

    async def _about(self, request: Request) -> Strict:
        match request:
            case StatusRequest():
                return await self._status()
            case ShopRequest():
                return ShopInForce.of(self._shops.shop)
            case UseShopRequest():
                await self._shops.replace(request.shop, request.replaces)
                return ShopInForce.of(self._shops.shop)
            case CatalogueRequest():
                return catalogue_in_force(await self._downlinks.catalogue(), self._pipeline, self._clock.now().wall_ms)
            case TechniciansRequest():
                pass
            case AddTechnicianRequest():
                if not self._settings.privacy.is_complete:
                    missing = ", ".join(self._settings.privacy.missing)
                    raise ConfigurationError(
                        f"no phone is recognised, not even a test shopper's, before these are set: {missing}."
                    )
                self._test_shoppers.add(request, self._clock.now())
            case ExplainRequest():
                # What takes long is done beside the loop; what it works with is swapped whole, never changed.
                pipeline, now_ms = self._pipeline, self._clock.now().wall_ms
                return await asyncio.to_thread(
                    explain,
                    self._settings.database_path,
                    request,
                    shop=pipeline.shop,
                    catalogue=pipeline.catalogue,
                    time_zone=ZoneInfo(self._settings.time_zone),
                    now_ms=now_ms,
                    day_start_ms=self._settings.day_start_s * 1000,
                    context_of=pipeline.context_of,
                    nearly=pipeline.not_entered,
                )
            case BeaconHealthRequest():
                return beacons_health(self._pipeline, self._clock.now())
            case RelearnBeaconRequest():
                return self._relearn(request.name)
            case RemoveTechnicianRequest():
                self._test_shoppers.remove(request.name, self._clock.now())
        return self._test_shoppers.report(self._clock.now())

    def _relearn(self, beacon: str) -> Strict:
        shop, now = self._pipeline.shop, self._clock.now()
        beacons = sorted(name for name, anchor in shop.anchors.items() if anchor.kind == "beacon")
        if beacon not in beacons:
            raise WrongCommand(no_such("beacon", beacon, beacons))
        self._pipeline.relearn(beacon, now)
        log.info("what is usual of beacon %s is learnt anew", beacon)
        return beacons_health(self._pipeline, now)


def catalogue_in_force(document: CatalogueDocument | None, pipeline: Pipeline, wall_ms: int) -> CatalogueInForce:
    """The promotions as they came, and which of them are in force."""
    catalogue = pipeline.catalogue
    if catalogue is None or document is None or document.version != catalogue.version:
        return CatalogueInForce()
    catalogue.advance(wall_ms)
    by_id = {promotion.promotion_id: promotion for promotion in document.promotions}
    return CatalogueInForce(
        version=catalogue.version,
        not_after=document.not_after,
        promotions=tuple(
            PromotionInForce(promotion=by_id[promotion.promotion_id], zones=zones, in_force=in_force)
            for promotion, zones, in_force in catalogue.everything()
        ),
    )
