"""`gateway run`: settings and shop from their files, one scanner per adapter, other systems' receivers, and the daemon."""

import asyncio
import logging
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.logs import log_to_stderr
from gateway.cli.signals import stop_on_signals
from gateway.contract.settings import Settings, read_settings
from gateway.contract.shop import ShopFile, read_shop
from gateway.core.sanitiser import printable
from gateway.daemon import Daemon, Ear
from gateway.daemon.adapters import AdapterEars, beacon_rate_hz
from gateway.daemon.receivers import ForeignEar
from gateway.errors import ConfigurationError
from gateway.io.clock import SystemClock
from gateway.io.memory import shorten_pauses
from gateway.io.shop_file import read_shop_file

if TYPE_CHECKING:
    from gateway.io.recorder import Recorder

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recording:
    """What the command line asks for with --record."""

    file: Path
    minutes: int
    everything: bool

    def begin(self) -> "Recorder":
        """The recorder; whoever records everything is warned."""
        from gateway.io.recorder import Recorder

        recorder = Recorder(self.file, minutes=self.minutes, everything=self.everything)
        if self.everything:
            print(
                f"gateway: warning: {printable(self.file)} will hold what every device around sends, also of people who know "
                "nothing of it. Keep it no longer than you need it, and give it to nobody.",
                file=sys.stderr,
            )
        return recorder


def run_gateway(config: Path, recording: Recording | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    settings = read_settings(config, Settings)
    if recording is not None and recording.everything and settings.privacy.missing:
        missing = ", ".join(settings.privacy.missing)
        raise ConfigurationError(f"nothing may be recorded of strangers before these are set: {missing}.", where=str(config))
    log_to_stderr(settings.log_level)
    shop = shop_of(settings)
    clock = SystemClock(assume_synchronised=settings.clock.assume_synchronised, skew_s=settings.clock.skew_s)
    shorten_pauses()
    asyncio.run(_serve(settings, shop, clock, recording, config))


async def _serve(settings: Settings, shop: ShopFile, clock: SystemClock, recording: Recording | None, config: Path) -> None:
    stop = stop_on_signals()
    recorder = None if recording is None else recording.begin()
    daemon = Daemon(settings, shop.compiled(), clock, recorder=recorder, config=str(config))
    try:
        foreign = [
            ForeignEar(source, settings, daemon.heard, daemon.pipeline, clock, daemon.others.claims)
            for source in settings.foreign_receivers
        ]
        adapters = AdapterEars(
            settings,
            daemon.heard,
            lambda: clock.now().mono_ms,
            clock.now,
            changed=daemon.receiver_changed,
            beacon_rate_hz=partial(beacon_rate_hz, daemon.pipeline),
            others_hear=lambda: any(condition.state == "hearing" for ear in foreign for condition in ear.conditions()),
        )
        ears: list[Ear] = [adapters, *foreign]
        await daemon.run(ears, stop)
    finally:
        if recorder is not None:
            recorder.close()


def shop_of(settings: Settings) -> ShopFile:
    """The shop that the settings name; an empty one, with a warning, where there is none yet."""
    octets = read_shop_file(settings.shop_path)
    if octets is None:
        log.warning("%s does not exist: no zones are known, so nobody can be located", settings.shop_path)
        return ShopFile()
    shop = read_shop(octets, str(settings.shop_path))
    # Foreign receivers tell of themselves.
    unknown = [receiver.name for receiver in settings.receivers if receiver.name not in shop.anchors]
    if unknown:
        log.warning(
            "these receivers stand nowhere in the shop file, so what they hear of shoppers is dropped: %s", ", ".join(unknown)
        )
    return shop
