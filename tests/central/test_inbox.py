"""The app's side: an offer is shown once, and one that is taken back is shown no more, or never."""

import asyncio
import time
from pathlib import Path

from gateway.central.inbox import Inboxes
from gateway.contract.messages import AppOffer, Receipt, WithdrawnOffer, read
from gateway.io.clock import SystemClock
from tests.contract.examples import OTHERS
from tests.fakes.mosquitto import Mosquitto


def offer(name: str) -> AppOffer:
    document = OTHERS[AppOffer]
    in_an_hour = (int(time.time()) + 3600) * 1000
    return AppOffer.model_validate(
        {**document, "id": name, "expirytime": in_an_hour, "data": {**document["data"], "offer": name}}
    )


def withdrawal(name: str) -> WithdrawnOffer:
    document = OTHERS[WithdrawnOffer]
    return WithdrawnOffer.model_validate({**document, "id": f"{name}-withdrawn", "data": {**document["data"], "offer": name}})


async def test_what_is_taken_back_is_confirmed_and_shown_no_more(tmp_path: Path) -> None:
    shown: list[tuple[str, bool]] = []
    taken: list[str] = []
    with Mosquitto(tmp_path) as broker:
        inboxes = Inboxes(
            broker.settings(),
            ["anna"],
            tmp_path / "anna.db",
            SystemClock(),
            on_offer=lambda _, told, is_new: shown.append((told.data.offer, is_new)),
            on_withdrawn=lambda _, told: taken.append(told.data.offer),
        )
        stop = asyncio.Event()
        task = asyncio.create_task(inboxes.run(stop))
        async with broker.client() as client, asyncio.timeout(30):
            await client.subscribe("app/anna/receipt", qos=1)
            await inboxes.online.wait()
            for payload in (
                offer("o1").to_json(),
                withdrawal("o1").to_json(),
                b"{}",
                withdrawal("o2").to_json(),
                withdrawal("o2").to_json(),
                offer("o2").to_json(),
                offer("o1").to_json(),
                offer("o3").to_json(),
            ):
                await client.publish("app/anna/offer", payload, qos=1)
            receipts: list[tuple[str, str]] = []
            async for message in client.messages:
                assert isinstance(message.payload, bytes)
                data = read(Receipt, message.payload, "receipt").data
                receipts.append((data.offer, data.state))
                if data.offer == "o3":
                    break
        stop.set()
        async with asyncio.timeout(30):
            await task
    assert shown == [("o1", True), ("o3", True)], "neither after it was taken back, nor again"
    assert taken == ["o1", "o2"]
    assert receipts == [("o1", "shown"), ("o1", "withdrawn"), ("o2", "withdrawn"), ("o2", "withdrawn"), ("o3", "shown")]
