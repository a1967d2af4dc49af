"""`gateway run`: settings and shop from their files, one scanner per adapter, other systems' receivers, and the daemon."""

import asyncio
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gateway.cli.app import stop_on_signals
from gateway.cli.logs import log_to_stderr
from gateway.cli.shop import read_shop_named
from gateway.contract.settings import Receiver, Settings, read_settings
from gateway.contract.shop import ShopFile
from gateway.core.sanitiser import printable
from gateway.daemon import Daemon, Ear, EarCondition
from gateway.daemon.receivers import ForeignEar
from gateway.errors import ConfigurationError
from gateway.io.clock import SystemClock
from gateway.io.recorder import Recorder
from gateway.io.scanner import Scanner

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recording:
    """What the command line asks for with --record."""

    file: Path
    minutes: int
    everything: bool

    def begin(self) -> Recorder:
        """The recorder; whoever records everything is warned."""
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
    asyncio.run(_serve(settings, shop, clock, recording, config))


async def _serve(settings: Settings, shop: ShopFile, clock: SystemClock, recording: Recording | None, config: Path) -> None:
    stop = stop_on_signals()
    recorder = None if recording is None else recording.begin()
    daemon = Daemon(settings, shop.compiled(), clock, recorder=recorder, config=str(config))
    try:
        ears: list[Ear] = [AdapterEar(receiver, settings, daemon, lambda: clock.now().mono_ms) for receiver in settings.receivers]
        ears += [ForeignEar(source, settings, daemon.heard, daemon.pipeline, clock) for source in settings.foreign_receivers]
        await daemon.run(ears, stop)
    finally:
        if recorder is not None:
            recorder.close()


class AdapterEar:
    """One Bluetooth adapter as a receiver of the shop."""

    def __init__(self, receiver: Receiver, settings: Settings, daemon: Daemon, now_ms: Callable[[], int]) -> None:
        self._receiver = receiver
        self._scanner = Scanner(
            receiver.adapter,
            partial(daemon.heard, receiver.name),
            now_ms,
            mode=receiver.scan,
            service_uuid16=settings.chain.service_uuid16,
            company_id=settings.chain.company_id,
        )

    async def run(self) -> None:
        """Listen for ever."""
        await self._scanner.run()

    def conditions(self) -> list[EarCondition]:
        """How the scan is doing."""
        scanner = self._scanner
        return [
            EarCondition(
                self._receiver.name,
                scanner.adapter,
                scanner.state.value,
                scanner.scanning_mode,
                None if scanner.trouble is None else printable(scanner.trouble),
            )
        ]


def shop_of(settings: Settings) -> ShopFile:
    """The shop that the settings name; an empty one, with a warning, where there is none yet."""
    if not settings.shop_path.exists():
        log.warning("%s does not exist: no zones are known, so nobody can be located", settings.shop_path)
        return ShopFile()
    shop = read_shop_named(settings.shop_path)
    unknown = [receiver.name for receiver in settings.receivers if receiver.name not in shop.anchors]
    if unknown:
        log.warning(
            "these receivers stand nowhere in the shop file, so what they hear of shoppers is dropped: %s", ", ".join(unknown)
        )
    return shop
