"""A whole store around a real daemon: Mosquitto, a database on disk, and a central service that answers everything at once.

The central service is a process of its own. It is no real one: it counts what comes in, acknowledges it and grants every offer,
so that the gateway meets no other limit than its own.
"""

import asyncio
import contextlib
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import scene
from bench.scene import Scene
from gateway.contract.downlinks import Catalogue, split_roster
from gateway.contract.messages import Ack, AckData, CentralState, CentralStateData, Decision, DecisionData
from gateway.contract.promotions import Promotion, Window
from gateway.contract.settings import Broker, Clock, Privacy, Settings, Trust
from gateway.contract.topics import ANY_EVENT, CENTRAL_STATE, StoreTopics
from gateway.core.token import day_of, window_of
from gateway.io.broker import Publication, Session
from gateway.io.clock import SystemClock
from gateway.io.embedded_broker import embedded_broker
from gateway.io.signing import Signer

_STORE, _GATEWAY = "bench", "pi-1"
_ANSWER_EVERY_S = 0.02
_KEY = bytes(range(32))
_DAY_MS = 24 * 3600 * 1000
TOPICS = StoreTopics(_STORE, _GATEWAY)
SIGNER_PUBLIC_KEY = Signer(_KEY).public_key


@dataclass(frozen=True, slots=True)
class World:
    """What a daemon needs to run, and its central service."""

    settings: Settings
    central: asyncio.subprocess.Process

    async def send(self, version: int) -> None:
        """Let central publish the catalogue and roster of this version."""
        assert self.central.stdin is not None
        self.central.stdin.write(f"{version}\n".encode())
        await self.central.stdin.drain()

    async def received(self) -> list[tuple[str, int, int]]:
        """What central received in all: (type, the event's monotonic ms, monotonic ns of its arrival). It answers no more."""
        assert self.central.stdin is not None
        assert self.central.stdout is not None
        self.central.stdin.close()
        return [tuple(row) for row in json.loads(await self.central.stdout.readline())]


@contextlib.asynccontextmanager
async def world(*downlinks: Scene) -> AsyncIterator[World]:
    """Everything but the daemon; version 1, 2, … of catalogue and roster are those of ``downlinks``, and the first is sent."""
    with tempfile.TemporaryDirectory(prefix="beacon-gateway-bench-") as name:
        folder = Path(name)
        for version, size in enumerate(downlinks, 1):
            (folder / f"{version}.json").write_text(json.dumps(signed(size, version)), encoding="utf-8")
        async with embedded_broker(folder) as (_, broker):
            central = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "bench.world",
                str(broker.port),
                str(folder),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=1 << 26,
                cwd=Path(__file__).parents[1],
            )
            made = World(_settings(folder, broker), central)
            try:
                await made.send(1)
                yield made
            finally:
                # It may wait for a cancellation that aiomqtt has swallowed.
                if central.returncode is None:
                    central.kill()
                await central.wait()


def _settings(folder: Path, broker: Broker) -> Settings:
    return Settings(
        store=_STORE,
        store_number=1,
        gateway=_GATEWAY,
        time_zone="UTC",
        state_dir=folder / "state",
        broker=broker,
        day_start_s=scene.day_start_s(),
        privacy=Privacy(controller="c", contact="c", dpia_ack=True),
        trust=Trust(public_keys=(SIGNER_PUBLIC_KEY.hex(),)),
        clock=Clock(assume_synchronised=True),
        receivers=(),
    )


def signed(size: Scene, version: int) -> list[tuple[str, str]]:
    """(topic, payload) of catalogue and roster."""
    now_ms = time.time_ns() // 1_000_000
    closed = Window(weekdays=(_tomorrow(),), start="00:00", end="00:01")
    promotions = tuple(
        Promotion(
            promotion_id=one.promotion_id,
            kind=one.kind,
            long_title={"de": f"Angebot Nummer {number}", "en": f"Offer number {number}"},
            zones=tuple(one.zones),
            priority=one.priority,
            windows=(closed,) if one.windows else (),
        )
        for number, one in enumerate(scene.promotions(size.promotions, size.zones))
    )
    catalogue = Catalogue(store=_STORE, version=version, not_after=now_ms + _DAY_MS, promotions=promotions)
    day = day_of(window_of(now_ms / 1000), scene.day_start_s())
    entries = scene.roster_entries(size.roster, size.seed)
    manifest, chunks = split_roster(entries, store=_STORE, day=day, version=version, not_after=now_ms + _DAY_MS)
    signer = Signer(_KEY)
    documents = [
        (TOPICS.catalogue, catalogue),
        (TOPICS.roster_manifest(day), manifest),
        *((TOPICS.roster_chunk(day, chunk.index), chunk) for chunk in chunks),
    ]
    return [(topic, signer.seal(document, source="central", time_ms=now_ms).to_json().decode()) for topic, document in documents]


def _tomorrow() -> Any:
    return ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[(datetime.fromtimestamp(time.time(), UTC).weekday() + 1) % 7]


# ---- the process that answers -------------------------------------------------------------------------------------------------


class _Central:
    """As the real one does, it answers what has come in together, and goes on reading meanwhile."""

    def __init__(self, port: int, folder: Path) -> None:
        self._folder = folder
        self._received: list[tuple[str, int, int]] = []
        self._newest: tuple[str, int] = ("", 0)
        self._acknowledged: tuple[str, int] = ("", 0)
        self._to_grant: list[str] = []
        self._session = Session(
            Broker(host="127.0.0.1", port=port, protocol="5"),
            "central",
            will=None,
            birth=self._birth,
            subscriptions=[ANY_EVENT],
            handle=self._take,
            clock=SystemClock(),
            jitter=random.random,
        )

    async def run(self) -> None:
        tasks = [asyncio.create_task(work) for work in (self._obey(), self._session.run(), self._answer())]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        print(json.dumps(self._received), flush=True)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=1)

    async def _birth(self) -> list[Publication]:
        state = CentralState(id="1", source="central", time=0, data=CentralStateData(state="online", instance="bench"))
        return [Publication.of(CENTRAL_STATE, state, now_ms=0, retain=True)]

    async def _take(self, _topic: str, payload: bytes, _retained: bool) -> None:
        arrived = time.monotonic_ns()
        event = json.loads(payload)
        self._received.append((event["type"], int(event["monotonicms"]), arrived))
        self._newest = (event["epoch"], event["seq"])
        if event["type"] == "offer.matched.v1":
            self._to_grant.append(event["data"]["offer"])

    async def _answer(self) -> None:
        await self._session.online.wait()
        while True:
            offers, self._to_grant = self._to_grant, []
            now_ms = time.time_ns() // 1_000_000
            answers: list[Publication] = []
            for offer in offers:
                data = DecisionData(offer=offer, granted=True)
                decision = Decision(id="1", source="central", time=now_ms, expirytime=now_ms + 60_000, data=data)
                answers.append(Publication.of(TOPICS.decision, decision, now_ms=now_ms))
            if self._newest != self._acknowledged:
                self._acknowledged = self._newest
                epoch, seq = self._newest
                ack = Ack(id="1", source="central", time=now_ms, data=AckData(epoch=epoch, seq=seq))
                answers.append(Publication.of(TOPICS.ack, ack, now_ms=now_ms))
            await self._session.publish_all(answers)
            await asyncio.sleep(_ANSWER_EVERY_S)

    async def _obey(self) -> None:
        """Each line of standard input names a version to publish; its end is ours."""
        loop = asyncio.get_running_loop()
        await self._session.online.wait()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            documents = json.loads((self._folder / f"{line.strip()}.json").read_text("utf-8"))
            await self._session.publish_all([Publication(topic, payload.encode(), retain=True) for topic, payload in documents])


if __name__ == "__main__":
    asyncio.run(_Central(int(sys.argv[1]), Path(sys.argv[2])).run())
