"""Many shoppers at once: who else uses the event loop has a turn between two parts of a tick, and nobody is left out."""

import asyncio
import itertools
import time
from pathlib import Path

from gateway.contract.settings import Broker, Privacy, Settings
from gateway.core.model import Anchor, Shop, Step, VisitStarted, Zone
from gateway.core.token import WINDOW_S
from gateway.daemon import Daemon
from gateway.io.clock import SystemClock
from tests.core.phones import STORE, Phone, form_u, roster_of

SHOP = Shop({"dairy": Zone("dairy", enter_after_ms=0)}, {"r-dairy": Anchor("r-dairy", "receiver", "dairy")})
PHONES = [Phone(seed) for seed in range(1, 351)]
WITHIN_S = 60


async def test_a_large_tick_gives_way_to_the_loop_and_is_kept_whole(tmp_path: Path) -> None:
    turns = 0
    decided: list[tuple[int, Step]] = []
    kept: list[Step] = []
    everybody = asyncio.Event()

    def keep(step: Step) -> None:
        kept.append(step)
        if len(started(kept)) == len(PHONES):
            everybody.set()

    settings = Settings(
        store="demo",
        store_number=STORE,
        gateway="pi-1",
        time_zone="UTC",
        state_dir=tmp_path,
        broker=Broker(host="127.0.0.1", port=1),
        privacy=Privacy(controller="c", contact="c", dpia_ack=True),
    )
    clock = SystemClock(assume_synchronised=True)
    daemon = Daemon(settings, SHOP, clock, observe=lambda step: decided.append((turns, step)), kept=keep)
    stop = asyncio.Event()
    running = asyncio.create_task(daemon.run([], stop))
    await asyncio.wait_for(daemon.at_rest.wait(), WITHIN_S)
    now = clock.now()
    day = PHONES[0].day(now.wall_ms // 1000 // WINDOW_S)
    daemon.pipeline.use_roster(roster_of(PHONES, day, daemon.pipeline.identity.windows_around(now.wall_ms, day)))

    async def take_turns() -> None:
        nonlocal turns
        while not everybody.is_set():
            turns += 1
            await asyncio.sleep(0)

    async def send() -> None:
        while not everybody.is_set():
            for phone in PHONES:
                daemon.heard("r-dairy", "4f:11:22:33:44:55", -50, form_u(phone.token(int(time.time()))))
            await asyncio.sleep(0.5)

    others = [asyncio.create_task(take_turns()), asyncio.create_task(send())]
    try:
        await asyncio.wait_for(everybody.wait(), WITHIN_S)
    finally:
        stop.set()
        await asyncio.gather(*others, running)
    assert sorted(started(kept)) == sorted(phone.name(day) for phone in PHONES)
    steps = [(turn, step) for turn, step in decided if started([step])]
    assert max(len(started([step])) for _, step in steps) <= 100
    assert all(after > before for (before, _), (after, _) in itertools.pairwise(steps))
    assert kept == [step for _, step in decided]


def started(steps: list[Step]) -> list[str]:
    return [outcome.event.shopper for step in steps for outcome in step.outcomes if isinstance(outcome.event, VisitStarted)]
