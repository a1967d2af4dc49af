"""How many events a second a real Mosquitto acknowledges (QoS 1, MQTT 5), beside aiomqtt one at a time."""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import aiomqtt

from bench.figures import Effort, Figure, median
from gateway.contract.settings import Broker
from gateway.contract.topics import StoreTopics
from gateway.core.model import ClockQuality
from gateway.io.broker import Publication, Session
from gateway.io.clock import SystemClock
from gateway.io.embedded_broker import embedded_broker
from gateway.io.store import OutboxRow, event_id

_BATCH = 100
_TOPICS = StoreTopics("bench", "pi-1")
_EPOCH = "00112233445566ff"


def measure(effort: Effort) -> list[Figure]:
    """Ours as the delivery does it, the library's way, and both in turns."""
    count = max(500, round(5000 * effort.size))
    ours, built, single, size = asyncio.run(_measure(effort.rounds, count))
    peer = f"aiomqtt one at a time {median(single):,.0f}"
    return [
        Figure(
            "publish_acked_per_s",
            "1/s",
            median(ours),
            8000,
            "higher",
            means=f"wall time from an event's message ({size} bytes on average, QoS 1, MQTT 5 with properties) to Mosquitto's "
            f"PUBACK through Session.publish_all, {_BATCH} at a time with at most {Broker().max_in_flight} in flight",
            beside=peer,
        ),
        Figure(
            "deliver_acked_per_s",
            "1/s",
            median(built),
            None,
            "higher",
            means="the same from the outbox's row: the message is put together and validated, too",
        ),
        Figure(
            "publish_aiomqtt_per_s", "1/s", median(single), None, "higher", means="wall time, aiomqtt.Client.publish in a loop"
        ),
    ]


def _rows(count: int) -> list[OutboxRow]:
    data = (
        '{"visit":"8c1f0b1d2e3f4a5b","shopper":"8a4061daf88a329d","zone":"zone-7","entry_time":"2026-09-21T14:20:37.123Z",'
        '"belief":0.93}'
    )
    wall_ms = time.time_ns() // 1_000_000
    return [
        OutboxRow(number, "zone.entered.v1", data, wall_ms, 123_456_789, "boot", ClockQuality.SYNCHRONISED.value)
        for number in range(1, count + 1)
    ]


def _publication(row: OutboxRow) -> Publication:
    payload = row.to_json(epoch=_EPOCH, source=_TOPICS.source, history=False)
    return Publication(_TOPICS.event, payload, correlation=event_id(_EPOCH, row.seq))


async def _measure(rounds: int, count: int) -> tuple[list[float], list[float], list[float], int]:
    ours, built, single = [], [], []
    rows = _rows(count)
    with tempfile.TemporaryDirectory(prefix="beacon-gateway-bench-") as folder:
        async with embedded_broker(Path(folder)) as (_, settings):
            session = Session(
                settings,
                "bench",
                will=None,
                birth=_nothing_to_say,
                subscriptions=[],
                handle=_ignore,
                clock=SystemClock(),
                jitter=lambda: 0.0,
            )
            running = asyncio.create_task(session.run())
            await session.online.wait()
            made = [_publication(row) for row in rows]
            for _ in range(rounds):
                ours.append(await _in_batches(session, made))
                built.append(await _delivering(session, rows))
                single.append(await _one_at_a_time(settings, made[: max(100, count // 5)]))
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    return ours, built, single, round(sum(len(one.payload) for one in made) / len(made))


async def _in_batches(session: Session, publications: Sequence[Publication]) -> float:
    began = time.perf_counter()
    for first in range(0, len(publications), _BATCH):
        await session.publish_all(publications[first : first + _BATCH])
    return len(publications) / (time.perf_counter() - began)


async def _delivering(session: Session, rows: Sequence[OutboxRow]) -> float:
    began = time.perf_counter()
    for first in range(0, len(rows), _BATCH):
        await session.publish_all([_publication(row) for row in rows[first : first + _BATCH]])
    return len(rows) / (time.perf_counter() - began)


async def _one_at_a_time(settings: Broker, publications: Sequence[Publication]) -> float:
    async with aiomqtt.Client(settings.host, settings.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        began = time.perf_counter()
        for one in publications:
            await client.publish(one.topic, one.payload, qos=1)
        return len(publications) / (time.perf_counter() - began)


async def _nothing_to_say() -> list[Publication]:
    return []


async def _ignore(_topic: str, _payload: bytes, _retained: bool) -> None:
    pass
