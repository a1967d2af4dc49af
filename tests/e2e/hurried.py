"""`gateway run`, `gateway central` and `gateway central inbox` in a hurry: the same parts with a clock that runs faster.

``python -m tests.e2e.hurried SPEED,MONOTONIC_MS,WALL_MS run --config …``: from that moment of the machine's monotonic clock on,
which was WALL_MS, SPEED milliseconds pass in one, for durations, messages and calendars. Network, disk and radio keep their pace.
"""

import asyncio
import json
import sys
import time
from argparse import ArgumentParser
from pathlib import Path

from gateway.central.inbox import Inboxes
from gateway.central.service import Central
from gateway.cli.logs import log_to_stderr
from gateway.cli.signals import stop_on_signals
from gateway.contract.messages import AppOffer
from gateway.contract.settings import CentralSettings, Settings, read_settings
from gateway.contract.shop import read_shop
from gateway.core.model import ClockQuality, Instant
from gateway.daemon import Daemon
from gateway.daemon.adapters import AdapterEars
from tests.e2e.world import Pace


class HurriedClock:
    """A clock for the daemon and the central service that runs at the world's pace."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    def now(self) -> Instant:
        return Instant(self._pace.mono_ms(), self._pace.wall_ms())

    def quality(self) -> ClockQuality:
        return ClockQuality.SYNCHRONISED

    async def sleep_ms(self, duration_ms: int) -> None:
        await asyncio.sleep(max(0, duration_ms) / 1000 / self._pace.speed)


async def run_gateway(config: Path, clock: HurriedClock) -> None:
    settings = read_settings(config, Settings)
    daemon = Daemon(settings, read_shop(settings.shop_path.read_bytes(), "shop").compiled(), clock)
    # The radio has the machine's clock: its patience is about BlueZ, which is not in a hurry.
    ears = AdapterEars(
        settings, daemon.heard, lambda: time.monotonic_ns() // 1_000_000, clock.now, changed=daemon.receiver_changed
    )
    await daemon.run([ears], stop_on_signals())


async def run_central(config: Path, clock: HurriedClock) -> None:
    await Central(read_settings(config, CentralSettings), clock).run(stop_on_signals())


async def run_inbox(config: Path, clock: HurriedClock, inbox: str, file: Path) -> None:
    def show(_: str, offer: AppOffer, is_new: bool) -> None:
        print(json.dumps({"new": is_new, **offer.model_dump(mode="json", exclude_none=True)}), flush=True)  # noqa: T201

    broker = read_settings(config, CentralSettings).broker
    await Inboxes(broker, [inbox], file, clock, on_offer=show).run(stop_on_signals())


def main() -> None:
    parser = ArgumentParser()
    parser.add_argument("pace")
    parser.add_argument("words", nargs="+")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--file", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    log_to_stderr("info")
    clock = HurriedClock(Pace(*map(int, options.pace.split(","))))
    match options.words:
        case ["run"]:
            asyncio.run(run_gateway(options.config, clock))
        case ["central"]:
            asyncio.run(run_central(options.config, clock))
        case ["central", "inbox", name]:
            asyncio.run(run_inbox(options.config, clock, name, options.file))
        case words:
            sys.exit(f"what is {words}?")


if __name__ == "__main__":
    main()
