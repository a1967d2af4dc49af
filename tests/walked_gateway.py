"""A gateway in simulated time whose receivers hear a simulated technician, for tests of the walk."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from gateway.contract.control import AddTechnicianRequest, Technicians, result_of
from gateway.contract.fields import Strict
from gateway.contract.settings import Settings
from gateway.contract.walk_tasks import Learnt, LearnTask, plan_file, recording_of
from gateway.contract.walks import ModelMade, WalkAccepted, WalkDone, WalkRefused, WalkRequest
from gateway.core.model import Instant
from gateway.core.positioning import plan_of
from gateway.daemon import Daemon, EarCondition
from gateway.daemon.kept_walks import KeptWalks, NewWalk, receivers_of
from gateway.io.control import ask, follow
from gateway.io.learning import perform
from gateway.simulator.clock import SimulatedClock
from gateway.simulator.plan_file import read_plan
from gateway.simulator.store import StoreInABox
from tests.zone_walker import START_MS, recorded, store

Result = TypeVar("Result", bound=Strict)
PLAN = read_plan("demo-shop")
ZONES = tuple(area.name for area in PLAN.areas)
STEP_MS = 200
PATIENCE_S = 60.0
PROGRAM = str(Path(sys.executable).with_name("gateway"))
SECONDS = 60.0


class Air:
    """The shop's receivers."""

    async def run(self) -> None:
        await asyncio.Event().wait()

    def conditions(self) -> list[EarCondition]:
        return [EarCondition(receiver.name, None, "simulated") for receiver in PLAN.receivers]


class WalkedGateway:
    """A daemon in simulated time, and a technician who is where the test sends them."""

    def __init__(self, folder: Path) -> None:
        self.settings, self.config = settings_of(folder), write_config(folder)
        self.clock = SimulatedClock(Instant(1_000_000, START_MS))
        self.daemon = Daemon(self.settings, PLAN.shop(bytes(range(16))), self.clock)
        self.silent: frozenset[str] = frozenset()
        """Receivers that do not hear the phone."""
        self._zone: str | None = None
        self._store: StoreInABox | None = None
        self._began_ms = 0
        self._seed = 0

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator["WalkedGateway"]:
        stop = asyncio.Event()
        running = asyncio.create_task(self.daemon.run([Air()], stop))
        passing = asyncio.create_task(self._time())
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not self.settings.control_path.exists():
                    assert not running.done()
                    await asyncio.sleep(0.005)
                await self.daemon.at_rest.wait()
            yield self
        finally:
            stop.set()
            # Whoever sleeps wakes only while time passes.
            await asyncio.wait((running,), timeout=PATIENCE_S)
            passing.cancel()
            with suppress(asyncio.CancelledError):
                await passing
            await running

    async def _time(self) -> None:
        while True:
            self.clock.advance(self.clock.now().mono_ms + STEP_MS)
            if self.daemon.pipeline.record_walk is None or self._zone is None:
                self._store = None
            elif self._store is None:
                # However slow this machine is, the technician has just gone in when the gateway begins to listen.
                now = self.clock.now()
                self._store = store(PLAN, self._zone, SECONDS, self._seed, start_wall_ms=now.wall_ms)
                self._began_ms = now.mono_ms
            else:
                for heard in self._store.advance(self.clock.now().mono_ms - self._began_ms):
                    if self._store.shopper_of(heard) is not None and heard.receiver not in self.silent:
                        self.daemon.heard(heard.receiver, heard.address, heard.rssi_dbm, heard.data)
            await asyncio.sleep(0.004)

    async def go(self, zone: str | None, *, name: str = "tina") -> None:
        """Whenever a walk is on, the technician goes to and fro in this zone; ``None``: the app is closed."""
        self._zone, self._store = zone, None
        if zone is not None:
            self._seed += 1
            key = store(PLAN, zone, 1.0, self._seed).shoppers[0].ku.hex()
            await self.ask(AddTechnicianRequest(name=name, key=key, duration_s=7 * 24 * 3600), Technicians)

    async def ask(self, request: Strict, model: type[Result]) -> Result:
        line = await asyncio.to_thread(
            ask, self.settings.control_path, request.model_dump_json().encode() + b"\n", timeout_s=PATIENCE_S
        )
        assert line is not None
        return result_of(line, model)

    async def lines(self, request: WalkRequest) -> AsyncIterator[dict[str, Any]]:
        """What the daemon tells of a walk."""
        lines = follow(self.settings.control_path, request.model_dump_json().encode() + b"\n", timeout_s=PATIENCE_S)
        try:
            while (line := await asyncio.to_thread(next, lines, None)) is not None:
                answer = json.loads(line)
                if "failure" in answer:
                    result_of(line, WalkDone)
                yield answer["result"]
        finally:
            lines.close()

    async def walk(self, zone: str, *, truly: str | None = None, **asked: Any) -> WalkDone | WalkRefused:
        """A whole walk."""
        await self.go(truly or zone)
        last: dict[str, Any] = {}
        async with aclosing(self.lines(WalkRequest(zone=zone, **asked))) as lines:  # type: ignore[type-var]
            async for line in lines:
                last = line
        return WalkDone.model_validate(last) if last["kind"] == "done" else WalkRefused.model_validate(last)

    async def type(self, *words: object) -> tuple[int, str, str]:
        """`gateway …` in a process of its own: its exit code and what it said on both streams."""
        process = await asyncio.create_subprocess_exec(
            PROGRAM,
            *map(str, words),
            "--config",
            str(self.config),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "COLUMNS": "130"},
        )
        said, complained = await process.communicate()
        return await process.wait(), said.decode(), complained.decode()

    def kept(self) -> list[str]:
        """Files that walks leave."""
        return sorted(str(path.relative_to(self.settings.state_dir)) for path in self.settings.state_dir.glob("*/*"))


def settings_of(folder: Path) -> Settings:
    """Of a gateway whose state is there."""
    return Settings.model_validate(
        {
            "store": "demo",
            "store_number": 4711,
            "gateway": "pi-1",
            "state_dir": folder,
            "broker": {"host": "127.0.0.1", "port": 1},
            "privacy": {"controller": "c", "contact": "c", "dpia_ack": True},
        }
    )


def write_config(folder: Path) -> Path:
    """The same, for the command line."""
    config = folder / "gateway.toml"
    config.write_text(
        f'store = "demo"\nstore_number = 4711\ngateway = "pi-1"\nstate_dir = "{folder}"\n'
        '[broker]\nhost = "127.0.0.1"\nport = 1\n[privacy]\ncontroller = "c"\ncontact = "c"\ndpia_ack = true\n'
    )
    return config


def keep_walks(folder: Path, zones: Sequence[str] = ZONES) -> None:
    """Make the state of a gateway that has learnt from a walk through each of the zones, without letting any time pass."""
    kept, shop = KeptWalks(settings_of(folder)), PLAN.shop(bytes(range(16)))
    for number, zone in enumerate(zones):
        others = {walk.about.zone: walk for walk in kept.walks(shop)}
        recording = recording_of(zone, recorded(PLAN, zone, seed=100 + number).sightings)
        plan, receivers = plan_file(plan_of(shop)), receivers_of(shop, zone)
        learnt = perform(LearnTask(plan=plan, zone=zone, recording=recording, walks=tuple(others.values()), receivers=receivers))
        assert isinstance(learnt, Learnt)
        assert learnt.refused is None, learnt.refused
        about = WalkAccepted(zone=zone, walked_time=START_MS, device="test-shopper", **learnt.figures[zone].model_dump())
        version = kept.accept(NewWalk(about, recording), others, learnt, use=len(others) + 1 == len(ZONES))
        kept.note(ModelMade(version=version, made_time=START_MS, origin="walks", walks=tuple(sorted({*others, zone}))))
