"""The MQTT session against a real Mosquitto, on MQTT 5 and 3.1.1."""

import asyncio
import contextlib
import gc
import itertools
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from gateway.contract.messages import CONTENT_TYPE, Ack, AckData, Decision, DecisionData
from gateway.contract.settings import Broker
from gateway.errors import ConfigurationError
from gateway.io.broker import BrokerLost, Publication, Session
from gateway.io.clock import SystemClock
from tests.fakes.mosquitto import Mosquitto, free_port

STATUS, DOWN, EVENT = "stores/demo/up/pi-1/status", "stores/demo/down/pi-1/ack", "stores/demo/up/pi-1/event"
NOW_MS = 1_790_000_000_000
both = pytest.mark.parametrize("protocol", ["5", "3.1.1"])


@pytest.fixture
def broker(tmp_path: Path) -> Any:
    with Mosquitto(tmp_path) as running:
        yield running


class Sleepless:
    """Notes how long it was asked to wait, and waits a moment."""

    def __init__(self) -> None:
        self.asked_ms: list[int] = []

    async def sleep_ms(self, duration_ms: int) -> None:
        self.asked_ms.append(duration_ms)
        await asyncio.sleep(0.02)


class Link:
    """A session, what it received, and whether it is online."""

    def __init__(self, settings: Broker, client_id: str = "gw-demo-pi-1", jitter: float = 0.05, **more: Any) -> None:
        self.received: list[tuple[str, bytes, bool]] = []
        self.arrived = asyncio.Event()
        self.births = 0
        self.clock: Any = more.pop("clock", SystemClock())
        self.session = Session(
            settings,
            client_id,
            will=more.pop("will", lambda: Publication(STATUS, b"offline", retain=True)),
            birth=self._birth,
            subscriptions=more.pop("subscriptions", [DOWN]),
            handle=more.pop("handle", self._handle),
            clock=self.clock,
            jitter=lambda: jitter,
            lasting=more.pop("lasting", True),
        )

    async def _birth(self) -> Sequence[Publication]:
        self.births += 1
        return [Publication(STATUS, b"online", retain=True, correlation="birth")]

    async def _handle(self, topic: str, payload: bytes, retained: bool) -> None:
        self.received.append((topic, payload, retained))
        self.arrived.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Link"]:
        task = asyncio.create_task(self.session.run())
        try:
            async with asyncio.timeout(10):
                await self.session.online.wait()
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, is_so: Callable[[], bool], within_s: float = 10) -> None:
        async with asyncio.timeout(within_s):
            while not is_so():  # noqa: ASYNC110 (what is waited for announces nothing)
                await asyncio.sleep(0.005)

    async def until_offline(self, within_s: float = 10) -> None:
        await self.until(lambda: not self.session.online.is_set(), within_s)

    async def until_online(self, within_s: float = 10) -> None:
        async with asyncio.timeout(within_s):
            await self.session.online.wait()

    def cut(self) -> None:
        """Break the connection as a pulled cable would be noticed: no word of MQTT."""
        client = self.session._client
        assert client is not None
        sock = client._client.socket()
        assert isinstance(sock, socket.socket)
        sock.shutdown(socket.SHUT_RDWR)


@contextlib.asynccontextmanager
async def listening(broker: Mosquitto, topic: str, protocol: str = "5") -> AsyncIterator[Callable[[], Any]]:
    """Gives a function that waits for the next message."""
    async with broker.client(protocol) as client:
        await client.subscribe(topic, qos=1)
        messages = aiter(client.messages)

        async def following() -> aiomqtt.Message:
            async with asyncio.timeout(10):
                return await anext(messages)

        yield following


# ---- birth, will, goodbye -----------------------------------------------------------------------------------------------------


@both
async def test_birth_is_retained_and_every_end_says_offline(broker: Mosquitto, protocol: str) -> None:
    link = Link(broker.settings(protocol))
    async with listening(broker, STATUS, protocol) as following:
        async with link.running():
            assert (await following()).payload == b"online"
            async with listening(broker, STATUS, protocol) as late_comer:
                born = await late_comer()
                assert (born.payload, born.retain) == (b"online", True)
            link.cut()
            assert (await following()).payload == b"offline", "the will"
            assert (await following()).payload == b"online", "back again"
        assert (await following()).payload == b"offline", "the goodbye"
    async with listening(broker, STATUS, protocol) as late_comer:
        assert ((await late_comer()).payload) == b"offline"
    assert link.births == 2


@both
async def test_a_renewed_session_has_a_will_as_of_now_and_waits_for_nothing(broker: Mosquitto, protocol: str) -> None:
    said, clock = [b"offline, old"], Sleepless()
    link = Link(broker.settings(protocol), will=lambda: Publication(STATUS, said[-1], retain=True), clock=clock)
    async with listening(broker, STATUS, protocol) as following, link.running():
        assert (await following()).payload == b"online"
        said.append(b"offline, new")
        link.session.renew()
        assert (await following()).payload == b"online", "without a will between"
        async with asyncio.timeout(10):
            while link.session.connections < 2:  # noqa: ASYNC110 -- the listener may know before the session does
                await asyncio.sleep(0.01)
        assert (link.session.connections, link.births, clock.asked_ms) == (2, 2, [])
        link.cut()
        assert (await following()).payload == b"offline, new"


async def test_whether_the_first_attempt_has_ended_is_told_either_way(broker: Mosquitto) -> None:
    async with Link(broker.settings()).running() as link:
        assert link.session.tried.is_set()
    refused = Link(Broker(host="127.0.0.1", port=free_port()))
    assert not refused.session.tried.is_set()
    running = asyncio.create_task(refused.session.run())
    async with asyncio.timeout(10):
        await refused.session.tried.wait()
    assert not refused.session.online.is_set()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@both
async def test_a_session_without_will_ends_quietly(broker: Mosquitto, protocol: str) -> None:
    async with Link(broker.settings(protocol), will=None).running() as link:
        await link.session.publish(Publication(EVENT, b"1"))


async def test_a_goodbye_does_not_wait_for_a_broker_that_is_gone(broker: Mosquitto) -> None:
    async with Link(broker.settings()).running() as link:
        broker.kill()
        await link.until_offline()
        began = time.monotonic()
    assert time.monotonic() - began < 2


@both
async def test_a_session_that_is_told_to_end_ends_at_any_moment(broker: Mosquitto, protocol: str) -> None:
    """Also when the word comes together with an answer of the broker, which wait_for of Python 3.11 would let win."""
    for step in range(40):
        link = Link(broker.settings(protocol))
        task = asyncio.create_task(link.session.run())
        await asyncio.sleep(0.0005 * step)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=8)
        assert done, f"cancelled after {step} half milliseconds, and lives on"
        assert task.cancelled()


async def test_a_publisher_that_is_told_to_end_ends_at_any_moment(broker: Mosquitto) -> None:
    async with Link(broker.settings()).running() as link:

        async def publish_for_ever() -> None:
            while True:
                await link.session.publish(Publication(EVENT, b"1"))

        for step in range(100):
            task = asyncio.create_task(publish_for_ever())
            await asyncio.sleep(0.00011 * step)
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=3)
            assert done


# ---- publishing ---------------------------------------------------------------------------------------------------------------


async def test_on_mqtt_5_the_properties_mirror_the_message(broker: Mosquitto) -> None:
    decision = Decision(
        id="d-1", source="central", time=NOW_MS, expirytime=NOW_MS + 30_000, data=DecisionData(offer="f0", granted=True)
    )
    async with listening(broker, EVENT) as following, Link(broker.settings()).running() as link:
        await link.session.publish(Publication.of(EVENT, decision, now_ms=NOW_MS))
        message = await following()
    assert message.payload == decision.to_json()
    assert message.qos == 1
    assert message.properties.ContentType == CONTENT_TYPE
    assert message.properties.CorrelationData == b"d-1"
    assert 28 <= message.properties.MessageExpiryInterval <= 30


async def test_on_mqtt_5_the_will_has_properties_too(broker: Mosquitto) -> None:
    async with listening(broker, STATUS) as following, Link(broker.settings()).running() as link:
        assert (await following()).properties.CorrelationData == b"birth"
        link.cut()
        assert (await following()).properties.ContentType == CONTENT_TYPE


@both
async def test_many_are_confirmed_each_and_arrive_in_their_order(broker: Mosquitto, protocol: str) -> None:
    confirmed: list[int] = []
    async with listening(broker, EVENT, protocol) as following, Link(broker.settings(protocol)).running() as link:
        await link.session.publish_all([], confirmed.append)
        assert not confirmed
        await link.session.publish_all(
            [Publication(EVENT, str(n).encode(), correlation=f"{n}") for n in range(300)], confirmed.append
        )
        assert sorted(confirmed) == list(range(300))
        assert [(await following()).payload for _ in range(300)] == [str(n).encode() for n in range(300)]
        # Nothing of them is left that a later one could be taken for.
        await link.session.publish(Publication(EVENT, b"last"))
    assert len(confirmed) == 300


async def test_without_a_connection_none_of_many_is_confirmed(broker: Mosquitto) -> None:
    confirmed: list[int] = []
    with pytest.raises(BrokerLost, match="is not connected"):
        await Link(broker.settings()).session.publish_all([Publication(EVENT, b"1")], confirmed.append)
    assert not confirmed


@both
@pytest.mark.slow
async def test_of_many_only_those_that_the_broker_confirmed_count(broker: Mosquitto, protocol: str) -> None:
    confirmed: list[int] = []

    def freeze_after_ten(index: int) -> None:
        confirmed.append(index)
        if len(confirmed) == 10:
            broker.freeze()

    async with Link(broker.settings(protocol)).running() as link:
        many = [Publication(EVENT, str(n).encode()) for n in range(100)]
        with pytest.raises(BrokerLost, match="did not confirm"):
            await link.session.publish_all(many, freeze_after_ten)
        # What was under way when it froze may still have been confirmed; what was sent into the frozen broker was not.
        assert 10 <= len(confirmed) < 100
        broker.kill()
        broker.start()
        await link.until_offline()
        await link.until_online()
        await link.session.publish_all(many, confirmed.append)


@both
async def test_what_the_access_rules_forbid_is_said_on_mqtt_5(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, protocol: str
) -> None:
    """A broker of MQTT 3.1.1 has no way to say it. No topic is told whose levels name an app or a shopper."""
    caplog.set_level("WARNING", "gateway")
    forbidden = [EVENT, EVENT, "app/anna-1/offer", "stores/demo/down/shopper/8a4061daf88a329d"]
    with Mosquitto(tmp_path, rules=f"topic readwrite {DOWN}\ntopic write {STATUS}\n") as broker:
        async with Link(broker.settings(protocol)).running() as link:
            confirmed: list[int] = []
            await link.session.publish_all([Publication(topic, b"{}") for topic in [*forbidden, DOWN]], confirmed.append)
            assert confirmed == [0, 1, 2, 3, 4]
            await link.session.publish(Publication(DOWN, b"{}"))
            with pytest.raises(BrokerLost, match="does not take it") if protocol == "5" else contextlib.nullcontext():
                await link.session.publish(Publication(EVENT, b"{}"))
            assert link.session.connections == 1, "no reason to connect anew"
    told = [
        f"the broker throws away what is published on {topic} (Not authorized): check its access rules"
        for topic in (EVENT, "app/…/offer", "stores/demo/down/shopper/…")
    ]
    assert caplog.messages == (told if protocol == "5" else [])


async def test_on_mqtt_3_1_1_the_same_bytes_go_without_properties(broker: Mosquitto) -> None:
    ack = Ack(id="a-1", source="central", time=NOW_MS, data=AckData(epoch="00112233aabbccdd", seq=7))
    async with listening(broker, EVENT) as following, Link(broker.settings("3.1.1")).running() as link:
        await link.session.publish(Publication.of(EVENT, ack, now_ms=NOW_MS))
        message = await following()
    assert message.payload == ack.to_json()
    assert not hasattr(message.properties, "ContentType")


@pytest.mark.parametrize(("left_ms", "expiry_s"), [(30_000, 30), (29_001, 30), (1, 1), (0, 1), (-5_000, 1)])
def test_an_expiry_is_never_shorter_than_what_is_left_and_never_zero(left_ms: int, expiry_s: int) -> None:
    """An MQTT expiry of 0 would mean at once, and none at all would mean never."""
    decision = Decision(
        id="d-1", source="central", time=NOW_MS, expirytime=NOW_MS + left_ms, data=DecisionData(offer="f0", granted=True)
    )
    assert Publication.of(EVENT, decision, now_ms=NOW_MS).expiry_s == expiry_s


def test_what_has_no_deadline_has_no_expiry() -> None:
    ack = Ack(id="a-1", source="central", time=NOW_MS, data=AckData(epoch="00112233aabbccdd", seq=7))
    assert Publication.of(EVENT, ack, now_ms=NOW_MS) == Publication(EVENT, ack.to_json(), correlation="a-1")


async def test_publishing_without_connection_says_so_at_once(tmp_path: Path) -> None:
    link = Link(Broker(host="127.0.0.1", port=free_port()))
    began = time.monotonic()
    with pytest.raises(BrokerLost, match="broker: is not connected"):
        await link.session.publish(Publication(EVENT, b"1"))
    assert time.monotonic() - began < 0.1


@both
async def test_many_publications_at_once_all_arrive(broker: Mosquitto, protocol: str) -> None:
    async with (
        listening(broker, EVENT, protocol) as following,
        Link(broker.settings(protocol, max_in_flight=5)).running() as link,
    ):
        await asyncio.gather(*(link.session.publish(Publication(EVENT, str(number).encode())) for number in range(300)))
        arrived = [int((await following()).payload) for _ in range(300)]
    assert sorted(arrived) == list(range(300))


# ---- receiving ----------------------------------------------------------------------------------------------------------------


@both
async def test_what_arrived_while_away_is_received_after_coming_back(broker: Mosquitto, protocol: str) -> None:
    async with Link(broker.settings(protocol)).running():
        pass
    async with broker.client(protocol) as central:
        for number in range(50):
            await central.publish(DOWN, str(number), qos=1)
    async with Link(broker.settings(protocol)).running() as link:
        await link.until(lambda: len(link.received) >= 50)
    assert [int(payload) for _, payload, _ in link.received] == list(range(50))


@both
async def test_nothing_waits_for_a_session_that_does_not_last(broker: Mosquitto, protocol: str) -> None:
    """Not even what one that did has left behind."""
    async with Link(broker.settings(protocol)).running():
        pass
    async with broker.client(protocol) as central:
        await central.publish(DOWN, b"before", qos=1)
        async with Link(broker.settings(protocol), lasting=False).running() as link:
            await central.publish(DOWN, b"1", qos=1)
            await link.until(lambda: bool(link.received))
            link.cut()
            await link.until_offline()
            await central.publish(DOWN, b"while away", qos=1)
            await link.until_online()
            await central.publish(DOWN, b"2", qos=1)
            await link.until(lambda: link.received[-1][1] == b"2")
        await central.publish(DOWN, b"after", qos=1)
        async with Link(broker.settings(protocol), lasting=False).running() as again:
            await central.publish(DOWN, b"3", qos=1)
            await again.until(lambda: bool(again.received))
    # Between the cut and its being noticed here the broker may still have had somebody to send to.
    assert [payload for _, payload, _ in link.received] == [b"1", b"2"]
    assert [payload for _, payload, _ in again.received] == [b"3"]


@both
async def test_retained_messages_are_told_from_new_ones(broker: Mosquitto, protocol: str) -> None:
    async with broker.client(protocol) as central:
        await central.publish(DOWN, b"old", qos=1, retain=True)
        async with Link(broker.settings(protocol)).running() as link:
            await link.until(lambda: len(link.received) == 1)
            await central.publish(DOWN, b"new", qos=1)
            await link.until(lambda: len(link.received) == 2)
    assert link.received == [(DOWN, b"old", True), (DOWN, b"new", False)]


async def test_messages_are_handled_one_at_a_time_in_order(broker: Mosquitto) -> None:
    at_work, log = 0, []

    async def handle(topic: str, payload: bytes, retained: bool) -> None:
        nonlocal at_work
        at_work += 1
        assert at_work == 1
        await asyncio.sleep(0.001 * (int(payload) % 3))
        at_work -= 1
        log.append(int(payload))

    async with Link(broker.settings(), handle=handle).running() as link, broker.client() as central:
        for number in range(30):
            await central.publish(DOWN, str(number), qos=1)
        await link.until(lambda: len(log) == 30)
    assert log == list(range(30))


async def test_a_handler_that_fails_ends_the_session_with_its_error(broker: Mosquitto) -> None:
    """Mistakes of ours are never hidden behind a reconnection."""

    async def handle(topic: str, payload: bytes, retained: bool) -> None:
        raise AssertionError("ours")

    task = asyncio.create_task(Link(broker.settings(), handle=handle).session.run())
    async with broker.client() as central:
        while not task.done():
            await central.publish(DOWN, b"1", qos=1)
            await asyncio.sleep(0.01)
    with pytest.raises(AssertionError, match="ours"):
        await task


# ---- a broker that goes -------------------------------------------------------------------------------------------------------


@both
async def test_it_comes_back_with_back_off_and_begins_anew_after_success(broker: Mosquitto, protocol: str) -> None:
    clock = Sleepless()
    async with Link(broker.settings(protocol), jitter=0.999, clock=clock).running() as link:
        broker.kill()
        await link.until(lambda: len(clock.asked_ms) >= 9)
        broker.start()
        await link.until_online()
        first_outage = list(clock.asked_ms)
        broker.kill()
        await link.until(lambda: len(clock.asked_ms) >= len(first_outage) + 3)
    expected = [999, 1998, 3996, 7992, 15984, 31968, 59940, 59940, 59940]
    # The first wait follows a connection that was good, and so is a first one.
    assert first_outage[:9] == expected
    assert set(first_outage[9:]) <= {59940}
    assert clock.asked_ms[len(first_outage) :][:3] == expected[:3]


async def test_an_outage_is_said_once_and_its_end_too(broker: Mosquitto, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "gateway")
    clock = Sleepless()
    async with Link(broker.settings(), clock=clock).running() as link:
        broker.kill()
        await link.until(lambda: len(clock.asked_ms) >= 10)
        broker.start()
        await link.until_online()
    said = [record.message for record in caplog.records if record.name == "gateway.io.broker"]
    assert sum("Connection refused" in line for line in said) == 1
    assert [line for line in said if "connected" in line.split("; ")[0] and "trying" not in line] == [
        f"broker 127.0.0.1:{broker.port}: connected"
    ] * 2


@pytest.mark.parametrize("moments", range(6))
async def test_whoever_ends_before_a_subscription_is_answered_logs_nothing(
    caplog: pytest.LogCaptureFixture, moments: int
) -> None:
    """The answer may come at any moment of the farewell."""
    running: list[asyncio.Task[None]] = []

    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind = (await reader.readexactly(1))[0] >> 4
                body = await reader.readexactly((await reader.readexactly(1))[0])
                if kind == 1:
                    writer.write(b"\x20\x02\x00\x00")
                if kind == 8:
                    running[0].cancel()
                    for _ in range(moments):
                        await asyncio.sleep(0)
                    writer.write(b"\x90\x03" + body[:2] + b"\x01")
        writer.close()

    async with await asyncio.start_server(broker, "127.0.0.1", 0) as server:
        link = Link(Broker(host="127.0.0.1", port=server.sockets[0].getsockname()[1], protocol="3.1.1"))
        running.append(asyncio.create_task(link.session.run()))
        await asyncio.wait(running, timeout=20)
    assert running[0].cancelled()
    assert caplog.records == []


@both
@pytest.mark.parametrize("when", ["when subscribed to", "when published to"])
async def test_a_broker_that_sends_nonsense_is_left_at_once_and_tried_again(
    caplog: pytest.LogCaptureFixture, protocol: str, when: str
) -> None:
    connected = 0
    extra = b"\x00" if protocol == "5" else b""
    whole = len(DOWN).to_bytes(2, "big") + DOWN.encode() + b"\x00\x01" + extra + b"whole"
    longer_than_its_packet = b"\x00\x64topic"

    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connected
        connected += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind = (await reader.readexactly(1))[0] >> 4
                body = await reader.readexactly((await reader.readexactly(1))[0])
                answer = {
                    1: b"\x20" + bytes((2 + len(extra),)) + b"\x00\x00" + extra,
                    3: b"\x40\x02" + body[2 + len(STATUS) :][:2],
                    8: b"\x90" + bytes((3 + len(extra),)) + body[:2] + extra + b"\x01",
                }
                if kind != 3 or when == "when subscribed to":
                    writer.write(answer.get(kind, b""))
                if kind == (8 if when == "when subscribed to" else 3):
                    for rest in (whole, longer_than_its_packet):
                        writer.write(b"\x32" + bytes((len(rest),)) + rest)
        writer.close()

    async with await asyncio.start_server(broker, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        settings = Broker.model_validate({"host": "127.0.0.1", "port": port, "protocol": protocol})
        link = Link(settings, clock=Sleepless())
        running = asyncio.create_task(link.session.run())
        began = time.monotonic()
        await link.until(lambda: connected >= 3, within_s=60)
        took_s = time.monotonic() - began
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    gc.collect()
    assert took_s < 5, "as long as one call may take"
    assert {record.name for record in caplog.records} == {"gateway.io.broker"}
    assert all(record.exc_info is None for record in caplog.records)


@both
async def test_what_was_confirmed_is_handled_although_the_connection_ends_meanwhile(
    caplog: pytest.LogCaptureFixture, protocol: str
) -> None:
    """The broker does not send it again; and a publication was under way, which fails at once."""
    many, extra = 60, b"\x00" if protocol == "5" else b""
    confirmed, handled = 0, []

    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal confirmed
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while confirmed < many:
                kind = (await reader.readexactly(1))[0] >> 4
                body = await reader.readexactly((await reader.readexactly(1))[0])
                if kind == 1:
                    writer.write(b"\x20" + bytes((2 + len(extra),)) + b"\x00\x00" + extra)
                elif kind == 3:
                    for number in range(many):
                        rest = b"\x00\x01t" + (number + 1).to_bytes(2, "big") + extra + b"%d" % number
                        writer.write(b"\x32" + bytes((len(rest),)) + rest)
                elif kind == 4:
                    confirmed += 1
                elif kind == 8:
                    writer.write(b"\x90" + bytes((3 + len(extra),)) + body[:2] + extra + b"\x01")
        writer.close()

    async def handle(_topic: str, payload: bytes, _retained: bool) -> None:
        await asyncio.sleep(0.005)
        handled.append(int(payload))

    async def nothing() -> list[Publication]:
        return []

    async with await asyncio.start_server(broker, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        link = Link(Broker.model_validate({"host": "127.0.0.1", "port": port, "protocol": protocol}), handle=handle)
        link.session._birth = nothing
        async with link.running():
            began = time.monotonic()
            with pytest.raises(BrokerLost):
                await link.session.publish_all([Publication(STATUS, b"x")])
            assert time.monotonic() - began < 4, "it does not wait for its time-out"
            await link.until(lambda: len(handled) == many, within_s=30)
    assert handled == list(range(many))
    assert not [line for line in caplog.messages if "does not confirm" in line]


@pytest.mark.slow
async def test_what_is_published_into_a_broken_link_fails_and_later_publications_do_not(broker: Mosquitto) -> None:
    async with Link(broker.settings()).running() as link:
        broker.freeze()
        lost = asyncio.create_task(link.session.publish(Publication(EVENT, b"1")))
        await asyncio.sleep(0.05)
        broker.kill()
        with pytest.raises(BrokerLost):
            await lost
        broker.start()
        await link.until_offline()
        await link.until_online()
        await link.session.publish(Publication(EVENT, b"2"))


@pytest.mark.slow
async def test_a_publication_of_an_old_connection_does_not_end_the_new_one(broker: Mosquitto) -> None:
    """It times out seconds after its link is gone, when the session may long be online again."""
    async with Link(broker.settings()).running() as link:
        broker.freeze()
        lost = asyncio.create_task(link.session.publish(Publication(EVENT, b"1")))
        await asyncio.sleep(0.05)
        broker.kill()
        broker.start()
        await link.until(lambda: link.session.connections == 2)
        with pytest.raises(BrokerLost):
            await lost
        await asyncio.sleep(0.3)
        assert link.session.connections == 2
        assert link.session.online.is_set()


@both
@pytest.mark.slow
async def test_a_frozen_broker_is_noticed_by_what_it_does_not_confirm(broker: Mosquitto, protocol: str) -> None:
    async with Link(broker.settings(protocol)).running() as link:
        broker.freeze()
        began = time.monotonic()
        with pytest.raises(BrokerLost, match="did not confirm"):
            await link.session.publish(Publication(EVENT, b"1"))
        await link.until_offline(8)
        assert 4 < time.monotonic() - began < 15
        broker.thaw()
        await link.until_online(20)
        await link.session.publish(Publication(EVENT, b"2"))


@pytest.mark.slow
async def test_a_frozen_broker_is_noticed_by_its_silence(broker: Mosquitto) -> None:
    """Nothing is published: only the keepalive can tell."""
    async with Link(broker.settings(keepalive_s=5)).running() as link:
        broker.freeze()
        began = time.monotonic()
        await link.until_offline(20)
        assert time.monotonic() - began < 1.5 * 5 + 1
        broker.thaw()
        await link.until_online(20)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (a count, not paths)


@pytest.mark.slow
async def test_attempts_at_a_frozen_broker_leave_no_connection_open(broker: Mosquitto) -> None:
    broker.freeze()
    clock = Sleepless()
    link = Link(broker.settings(), clock=clock)
    task = asyncio.create_task(link.session.run())
    try:
        await link.until(lambda: len(clock.asked_ms) >= 1, 10)
        before = open_files()
        await link.until(lambda: len(clock.asked_ms) >= 3, 20)
        assert open_files() <= before
        assert link.births == 0
        broker.thaw()
        await link.until_online(15)
        assert link.births == 1
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_being_cancelled_in_the_middle_of_connecting_leaves_no_connection_open(broker: Mosquitto) -> None:
    before = open_files()
    broker.freeze()
    for _ in range(3):
        task = asyncio.create_task(Link(broker.settings()).session.run())
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert open_files() <= before


# ---- secrets ------------------------------------------------------------------------------------------------------------------


async def test_name_and_password_come_from_a_file_that_only_we_can_read(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    secret.chmod(0o600)
    with Mosquitto(tmp_path, password=("pi-1", "s3cret")) as broker:
        settings = broker.settings(username="pi-1", password_file=secret)
        async with Link(settings).running() as link:
            await link.session.publish(Publication(EVENT, b"1"))
        secret.write_text("wrong")
        clock = Sleepless()
        task = asyncio.create_task(Link(settings, clock=clock).session.run())
        await link.until(lambda: len(clock.asked_ms) >= 2)
        secret.write_text("s3cret")
        await link.until(lambda: "No will" in broker.log or broker.log.count(" as gw-demo-pi-1 ") >= 2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("content", "mode", "what"),
    [
        (b"s3cret", 0o640, "can be read by others. Type: chmod 600"),
        (b"s3cret", 0o604, "can be read by others. Type: chmod 600"),
        (b"\xff\xfe", 0o600, "is no text"),
        (None, 0, "cannot be read (No such file or directory)"),
    ],
)
async def test_a_password_file_that_cannot_be_used_ends_with_78(
    tmp_path: Path, content: bytes | None, mode: int, what: str
) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    settings = Broker(host="127.0.0.1", port=free_port(), username="pi-1", password_file=path)
    with pytest.raises(ConfigurationError) as caught:
        await Link(settings).session.run()
    assert caught.value.exit_code == 78
    assert str(caught.value).startswith(f"{path}: ")
    assert what in str(caught.value)


_NOBODY = 0xFFFFFFFF


def access_list(*, group: int, other: int = 0, another_group: int | None = None) -> bytes:
    """What `setfacl` would leave: the owner and account 1000 may read, and so may whom the arguments name (acl(5))."""
    named = [] if another_group is None else [(0x08, another_group, 50)]
    entries = [(0x01, 4, _NOBODY), (0x02, 4, 1000), (0x04, group, _NOBODY), *named, (0x10, 4, _NOBODY), (0x20, other, _NOBODY)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


@pytest.mark.parametrize(
    ("acl", "is_ours"),
    [
        (access_list(group=0), True),
        (access_list(group=4), False),
        (access_list(group=0, other=4), False),
        (access_list(group=0, another_group=4), False),
    ],
    ids=["a credential of systemd's", "the group", "everybody", "another group"],
)
async def test_an_access_list_that_names_the_service_alone_makes_no_secret_public(
    tmp_path: Path, acl: bytes, *, is_ours: bool
) -> None:
    """Since systemd 254 a credential is mode 440: these are the list's mask and not the rights of a group."""
    path = tmp_path / "password"
    path.write_bytes(b"s3cret")
    path.chmod(0o400)
    try:
        os.setxattr(path, "system.posix_acl_access", acl)
    except OSError as error:
        pytest.skip(f"the file system of {tmp_path} has no access lists ({error.strerror})")
    assert path.stat().st_mode & 0o040
    with Mosquitto(tmp_path, password=("pi-1", "s3cret")) as broker:
        settings = broker.settings(username="pi-1", password_file=path)
        if is_ours:
            async with Link(settings).running() as link:
                await link.session.publish(Publication(EVENT, b"1"))
        else:
            with pytest.raises(ConfigurationError, match="can be read by others"):
                await Link(settings).session.run()


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_certificate_that_cannot_be_used_ends_with_78(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    settings = Broker(host="127.0.0.1", port=free_port(), tls_ca_file=path)
    with pytest.raises(ConfigurationError) as caught:
        await Link(settings).session.run()
    assert caught.value.exit_code == 78
    assert "certificate" in str(caught.value)


def own_authority() -> bytes:
    """A certificate of our own, PEM."""
    key, name = Ed25519PrivateKey.generate(), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(key, None).public_bytes(Encoding.PEM)


# paho leaves the socket of a handshake that failed to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in.*ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning")
async def test_nothing_is_said_in_clear_to_a_broker_without_tls(broker: Mosquitto, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_bytes(own_authority())
    clock = Sleepless()
    link = Link(broker.settings(tls_ca_file=authority, username="pi-1"), clock=clock)
    task = asyncio.create_task(link.session.run())
    await link.until(lambda: len(clock.asked_ms) >= 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert "gw-demo-pi-1" not in broker.log


def test_a_publication_is_a_value() -> None:
    assert replace(Publication("a", b"1"), qos=0) == Publication("a", b"1", 0)
    assert len(set(itertools.repeat(Publication("a", b"1"), 3))) == 1
