"""`gateway run`: settings and shop from their files, one scanner per adapter, and the daemon."""

import asyncio
import logging
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gateway.cli.app import stop_on_signals
from gateway.cli.logs import log_to_stderr
from gateway.contract.settings import Receiver, Settings, read_settings
from gateway.contract.shop import ShopFile, read_shop
from gateway.core.sanitiser import printable
from gateway.daemon import Daemon
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
    asyncio.run(_serve(settings, shop, clock, recording))


def check_shop(file: Path) -> None:
    """One line about a shop file."""
    shop = _read(file)
    receivers = sum(anchor.kind == "receiver" for anchor in shop.anchors.values())
    print(f"{len(shop.zones)} zones, {receivers} receivers, {len(shop.anchors) - receivers} beacons: in order")


async def _serve(settings: Settings, shop: ShopFile, clock: SystemClock, recording: Recording | None) -> None:
    stop = stop_on_signals()
    recorder = None if recording is None else recording.begin()
    daemon = Daemon(settings, shop.compiled(), clock, recorder=recorder)
    try:
        await daemon.run([_scanner(settings, receiver, daemon, clock) for receiver in settings.receivers], stop)
    finally:
        if recorder is not None:
            recorder.close()


def _scanner(settings: Settings, receiver: Receiver, daemon: Daemon, clock: SystemClock) -> Scanner:
    return Scanner(
        receiver.adapter,
        partial(daemon.heard, receiver.name),
        lambda: clock.now().mono_ms,
        mode=receiver.scan,
        service_uuid16=settings.chain.service_uuid16,
        company_id=settings.chain.company_id,
    )


def shop_of(settings: Settings) -> ShopFile:
    """The shop that the settings name; an empty one, with a warning, where there is none yet."""
    if not settings.shop_path.exists():
        log.warning("%s does not exist: no zones are known, so nobody can be located", settings.shop_path)
        return ShopFile()
    shop = _read(settings.shop_path)
    unknown = [receiver.name for receiver in settings.receivers if receiver.name not in shop.anchors]
    if unknown:
        log.warning(
            "these receivers stand nowhere in the shop file, so what they hear of shoppers is dropped: %s", ", ".join(unknown)
        )
    return shop


def _read(file: Path) -> ShopFile:
    try:
        text = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot be read ({error.strerror}).", where=str(file), do="Check path and owner.") from error
    return read_shop(text, str(file))
