"""Who decides, by real daemons at a real Mosquitto: beginning, yielding, taking over, and what an old decider finds."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.contract.control import Decides, Status, TakeOverRequest, result_of
from gateway.contract.messages import GatewayStatus, GatewayStatusData, read
from gateway.contract.settings import Settings
from gateway.contract.shop import read_shop
from gateway.core.deciding import LAST_TERM
from gateway.daemon import Daemon
from gateway.errors import ConfigurationError, TryAgain
from gateway.io.clock import SystemClock
from gateway.io.control import ask
from tests.fakes.mosquitto import Mosquitto

SHOP = b'{"zones": {"dairy": {}}, "anchors": {"cold": {"kind": "receiver", "zone": "dairy"}}}'
both = pytest.mark.parametrize("protocol", ["5", "3.1.1"])


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as running:
        yield running


class Gateway:
    """One daemon in a folder of its own, which keeps what it knows over restarts."""

    def __init__(self, folder: Path, broker: Mosquitto | None, name: str, protocol: str = "5", **changes: Any) -> None:
        self.folder = folder / name
        self.folder.mkdir(exist_ok=True)
        self.settings = Settings.model_validate(
            {
                "store": "demo",
                "store_number": 1,
                "gateway": name,
                "state_dir": self.folder,
                "receivers": [],
                "broker": {"host": "127.0.0.1", "port": 1} if broker is None else broker.settings(protocol),
                "privacy": {"controller": "c", "contact": "c", "dpia_ack": True},
                "clock": {"assume_synchronised": True},
                **changes,
            }
        )

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator["Gateway"]:
        self.daemon = Daemon(self.settings, read_shop(SHOP, "shop").compiled(), SystemClock(assume_synchronised=True))
        stop = asyncio.Event()
        running = asyncio.create_task(self.daemon.run([], stop))
        try:
            resting = asyncio.create_task(self.daemon.at_rest.wait())
            await asyncio.wait((resting, running), timeout=20, return_when=asyncio.FIRST_COMPLETED)
            resting.cancel()
            if running.done():
                return
            yield self
        finally:
            stop.set()
            await running

    async def until(self, role: str, decider: str | None) -> Status:
        async with asyncio.timeout(20):
            while True:
                status = await self.daemon.status()
                if (status.role, status.decider) == (role, decider):
                    return status
                await asyncio.sleep(0.02)

    async def take_over(self) -> Decides:
        line = await asyncio.to_thread(ask, self.settings.control_path, TakeOverRequest().model_dump_json().encode() + b"\n")
        assert line is not None
        return result_of(line, Decides)

    @property
    def kept(self) -> dict[str, Any]:
        kept: dict[str, Any] = json.loads((self.folder / "decider.json").read_text())
        return kept


async def retained(broker: Mosquitto, name: str) -> GatewayStatusData:
    async with broker.client() as client, asyncio.timeout(10):
        await client.subscribe(f"stores/demo/up/{name}/status")
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            return read(GatewayStatus, message.payload, "status").data
    raise AssertionError


@both
async def test_the_first_decides_and_the_second_receives_for_it(tmp_path: Path, broker: Mosquitto, protocol: str) -> None:
    """Both have the usual settings; the second's name comes first, which does not matter."""
    first, second = Gateway(tmp_path, broker, "pi-2", protocol), Gateway(tmp_path, broker, "pi-1", protocol)
    async with first():
        await first.until("decide", "pi-2")
        assert first.kept == {"decider": "pi-2", "term": 1}
        async with second():
            await second.until("receive", "pi-2")
            await first.until("decide", "pi-2")
    assert second.kept == first.kept


@both
async def test_a_takeover_is_known_at_once_and_over_every_restart(tmp_path: Path, broker: Mosquitto, protocol: str) -> None:
    first = Gateway(tmp_path, broker, "pi-1", protocol)
    second = Gateway(tmp_path, broker, "pi-2", protocol, role="receive")
    async with first():
        async with second():
            await second.until("receive", "pi-1")
            assert await second.take_over() == Decides(decider="pi-2", term=2, before="pi-1", told=True)
            assert await second.take_over() == Decides(decider="pi-2", term=2, before="pi-2", told=True)
            await first.until("receive", "pi-2")
            assert (await first.take_over()).term == 3
            await second.until("receive", "pi-1")
            assert (await second.take_over()).term == 4
            await first.until("receive", "pi-2")
        assert (await retained(broker, "pi-2")).term == 4, "its will tells of it, too"
    async with second():
        await second.until("decide", "pi-2")
    async with first():
        await first.until("receive", "pi-2")


async def test_an_old_decider_that_returns_has_stepped_back_before_its_first_decision(tmp_path: Path, broker: Mosquitto) -> None:
    """Its successor is dead by then: what the broker retained says enough."""
    first, second = Gateway(tmp_path, broker, "pi-1"), Gateway(tmp_path, broker, "pi-2", role="receive")
    async with first():
        await first.until("decide", "pi-1")
    async with second():
        await second.until("receive", "pi-1")
        await second.take_over()
    async with first():
        # at_rest is first set after the first tick.
        status = await first.daemon.status()
        assert (status.role, status.decider, status.decider_online) == ("receive", "pi-2", False)


async def test_a_decider_that_lost_its_file_finds_at_the_broker_what_it_was(tmp_path: Path, broker: Mosquitto) -> None:
    first = Gateway(tmp_path, broker, "pi-1")
    async with first():
        await first.until("decide", "pi-1")
    async with Gateway(tmp_path, broker, "pi-2", role="receive")() as second:
        await second.until("receive", "pi-1")
        await second.take_over()
    for path in second.folder.iterdir():
        path.unlink()
    async with second():
        await second.until("decide", "pi-2")
        assert second.kept == {"decider": "pi-2", "term": 2}


async def test_without_a_broker_it_is_as_it_was_and_nothing_is_taken_over(tmp_path: Path) -> None:
    alone = Gateway(tmp_path, None, "pi-1")
    async with alone():
        status = await alone.until("decide", "pi-1")
        assert status.decider_online is None
        assert await alone.take_over() == Decides(decider="pi-1", term=0, before="pi-1", told=False)
    (alone.folder / "decider.json").write_text('{"decider": "pi-2", "term": 7}')
    async with alone():
        await alone.until("receive", "pi-2")
        with pytest.raises(TryAgain, match="no other gateway would hear of the takeover"):
            await alone.take_over()
        assert alone.kept == {"decider": "pi-2", "term": 7}


async def test_two_that_begin_apart_from_each_other_become_one(tmp_path: Path, broker: Mosquitto) -> None:
    first, second = Gateway(tmp_path, broker, "pi-1"), Gateway(tmp_path, broker, "pi-2")
    async with first():
        await first.until("decide", "pi-1")
    (second.folder / "decider.json").write_text('{"decider": "pi-2", "term": 1}')
    async with first(), second():
        await second.until("receive", "pi-1")
        await first.until("decide", "pi-1")


async def test_a_broker_that_hides_the_others_is_told_of_and_does_not_stop_it(
    tmp_path: Path, broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    (broker.folder / "acl").write_text("pattern write stores/demo/#\npattern read stores/demo/down/#\n")
    (broker.folder / "acl").chmod(0o600)
    with (broker.folder / "mosquitto.conf").open("a") as config:
        config.write(f"acl_file {broker.folder / 'acl'}\n")
    broker.stop()
    broker.start()
    caplog.set_level(logging.WARNING, "gateway.daemon.role")
    async with Gateway(tmp_path, broker, "pi-1")() as gateway:
        await gateway.until("decide", "pi-1")
        async with asyncio.timeout(20):
            while not (gateway.folder / "decider.json").exists():  # noqa: ASYNC110 -- a file announces nothing
                await asyncio.sleep(0.02)
    told = [record.getMessage() for record in caplog.records if record.name == "gateway.daemon.role"]
    assert [line.partition(":")[0] for line in told] == ["the broker does not show the statuses of the store's gateways"]


@pytest.mark.parametrize(
    "text", ["", "{}", '{"decider": "pi-1"}', '{"decider": "PI 1", "term": 1}', '{"decider": "a", "term": -1}']
)
async def test_a_broken_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    gateway = Gateway(tmp_path, None, "pi-1")
    (gateway.folder / "decider.json").write_text(text)
    with pytest.raises(ConfigurationError, match="not known who decides"):
        async with gateway():
            pass


async def test_no_term_is_left_to_claim(tmp_path: Path, broker: Mosquitto) -> None:
    gateway = Gateway(tmp_path, broker, "pi-1")
    (gateway.folder / "decider.json").write_text(json.dumps({"decider": "pi-9", "term": LAST_TERM}))
    async with gateway():
        await gateway.until("receive", "pi-9")
        with pytest.raises(ConfigurationError, match="no higher term is left"):
            await gateway.take_over()


@pytest.mark.parametrize(
    "payload", [b"", b"x", b"{}", b'{"specversion":"1.0"}', b"\xff" * 100, b"[" * 100_000], ids=lambda payload: f"{payload[:9]!r}"
)
async def test_nonsense_from_another_gateway_changes_nothing(tmp_path: Path, broker: Mosquitto, payload: bytes) -> None:
    async with Gateway(tmp_path, broker, "pi-1")() as gateway, broker.client() as client:
        await gateway.until("decide", "pi-1")
        for what in ("status", "sighting"):
            await client.publish(f"stores/demo/up/pi-2/{what}", payload, qos=1)
        await client.publish("stores/demo/up/pi-3/status", payload, qos=1, retain=True)
        # What comes behind it is still taken.
        async with Gateway(tmp_path, broker, "pi-4", role="receive")() as other:
            await other.until("receive", "pi-1")
            await other.take_over()
            await gateway.until("receive", "pi-4")
