"""The pipeline of a gateway as its settings and its database have it, for commands that listen beside the daemon."""

import asyncio
import itertools
import tempfile
from dataclasses import dataclass
from datetime import UTC, tzinfo
from pathlib import Path

from gateway.cli.run import shop_of
from gateway.cli.shop import read_shop_named
from gateway.contract.settings import Settings, read_settings
from gateway.contract.topics import StoreTopics
from gateway.core.frames import Decoder
from gateway.core.model import ClockQuality, Instant, Shop
from gateway.core.pipeline import Pipeline, Tuning
from gateway.daemon import tuning_of
from gateway.daemon.downlink import Downlinks
from gateway.io.signing import Verifier
from gateway.io.store import Store
from gateway.io.store.looking import remembered_downlinks


@dataclass(frozen=True, slots=True)
class Configured:
    """What a command knows before it listens."""

    settings: Settings | None
    shop: Shop
    tuning: Tuning

    @property
    def time_zone(self) -> tzinfo:
        """Of the store; UTC without settings."""
        return self.tuning.time_zone

    def pipeline(self, now: Instant) -> tuple[Pipeline, Decoder]:
        """The daemon's pipeline as it would start at ``now``, and a decoder that knows the same roster."""
        ids = itertools.count(1)
        pipeline = Pipeline(self.shop, self.tuning, lambda: f"{next(ids):016x}", now)
        if self.settings is not None:
            asyncio.run(_restore(self.settings, pipeline, now))
        pipeline.tick(now, ClockQuality.SYNCHRONISED)
        return pipeline, Decoder(self.tuning.service_uuid16, self.tuning.company_id, knows=pipeline.identity.knows)


def configured(config: Path | None, shop_file: Path | None) -> Configured:
    """Settings and shop from their files; without settings there is no chain, no roster and no catalogue."""
    settings = None if config is None else read_settings(config, Settings)
    if shop_file is not None:
        shop = read_shop_named(shop_file).compiled()
    else:
        shop = Shop({}, {}) if settings is None else shop_of(settings).compiled()
    return Configured(settings, shop, Tuning(time_zone=UTC) if settings is None else tuning_of(settings))


class _Standing:
    """The clock at one moment, for checking what was in force then."""

    def __init__(self, now: Instant) -> None:
        self._now = now

    def now(self) -> Instant:
        return self._now

    def quality(self) -> ClockQuality:
        return ClockQuality.SYNCHRONISED

    async def sleep_ms(self, duration_ms: int) -> None:
        raise AssertionError("nobody waits while downlinks are brought back")


async def _restore(settings: Settings, pipeline: Pipeline, now: Instant) -> None:
    """Bring the remembered catalogue and roster into force, in a copy: a running daemon's database is only read."""
    remembered = remembered_downlinks(settings.state_dir / "gateway.db")
    if not remembered:
        return
    verifier = Verifier(tuple(bytes.fromhex(key) for key in settings.trust.public_keys), settings.store)
    topics = StoreTopics(settings.store, settings.gateway)
    with tempfile.TemporaryDirectory(prefix="beacon-gateway-") as folder:
        store = Store(Path(folder) / "gateway.db", quota_mib=settings.storage.quota_mib, boot_id="")
        await store.start()
        try:
            for name, version, payload in remembered:
                await store.keep_snapshot(name, version, payload)
            keeps_phones = settings.privacy.is_complete
            await Downlinks(topics, verifier, pipeline, store, _Standing(now), keeps_phones=keeps_phones).restore()
        finally:
            await store.close()
    while pipeline.identity.prepare(now.wall_ms):
        pass
