"""One MQTT session that lives as long as the process: will, birth, subscriptions, publications that wait for their PUBACK.

::

    waiting ── connected, subscribed, birth published ──▶ online ── link lost, or a PUBACK overdue ──▶ waiting
       │ ▲                                                     └── renew: at once, with a will as of now ──┐
       │ └─────────────────────────────────────────────────────────────────────────────────────────────────┤
       └──────── back-off 1 → 60 s with full jitter ◀──────────────────────────────────────────────────────┘

A new aiomqtt client per connection, because a reused one sends again what had already failed. A PUBACK is not delivery: what must
not be lost is kept by the caller until the application acknowledges it.
"""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import aiomqtt
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gateway.contract.messages import CONTENT_TYPE, CloudEvent
from gateway.contract.settings import Broker
from gateway.core.backoff import delay_ms
from gateway.core.sanitiser import printable
from gateway.errors import ConfigurationError, TryAgain
from gateway.io.broker import packets

log = logging.getLogger(__name__)

_CALL_TIMEOUT_S = 5.0
_REFUSED = 0x80
_POLL_S = 0.01
_SESSION_EXPIRY_S = 7 * 24 * 3600
_MAX_QUEUED_INCOMING = 10_000
_HANDLED_AT_ONCE = 5
"""Messages, in or out, between two chances for the rest of the event loop; each takes some 0.2 ms."""

_ACL_ENTRY = struct.Struct("<HHI")
"""Tag, rights, and who is meant: linux/posix_acl_xattr.h."""
_ACL_VERSION_BYTES = 4
_ACL_OF_MANY = {0x04, 0x08, 0x20}
"""The file's group, another group, everybody else."""


class Sleeper(Protocol):
    """The part of a clock that waits."""

    async def sleep_ms(self, duration_ms: int) -> None:
        """Wait."""


class BrokerLost(TryAgain):
    """The publication was not confirmed: there is no connection, or it broke."""


@dataclass(frozen=True, slots=True)
class Publication:
    """One message and how it is published."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    expiry_s: int | None = None
    correlation: str | None = None

    @classmethod
    def of(cls, topic: str, event: CloudEvent, *, now_ms: int, qos: int = 1, retain: bool = False) -> "Publication":
        """A message of the contract, its attributes mirrored for MQTT 5."""
        expires: int | None = getattr(event, "expirytime", None)
        expiry_s = None if expires is None else max(1, (expires - now_ms + 999) // 1000)
        return cls(topic, event.to_json(), qos, retain, expiry_s, event.id)


class _Quiet(aiomqtt.Client):
    """Whoever ends while the broker has yet to answer a subscription awaits the answer no more: that is nothing to log."""

    def _on_subscribe(self, client: Any, userdata: Any, mid: int, reason_codes: Any, properties: Any = None) -> None:
        if mid in self._pending_subscribes:
            super()._on_subscribe(client, userdata, mid, reason_codes, properties)


class _Client(_Quiet):
    """One connection, what has arrived over it, and the publications of it that wait for their PUBACK."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unconfirmed: dict[int, Callable[[int, ReasonCode], None]] = {}
        self._arrived: deque[tuple[str, bytes, bool]] = deque()
        self._has_arrived = asyncio.Event()
        self._reads_no_more = False
        packets.Client.replace(self._client, self._arrive)

    def _on_message(self, client: Any, userdata: Any, message: MQTTMessage) -> None:
        """What is not of QoS 1."""
        self._arrive(message.topic, bytes(message.payload), message.retain)

    def _arrive(self, topic: str, payload: bytes, retained: bool) -> None:
        if len(self._arrived) >= _MAX_QUEUED_INCOMING:
            self._logger.warning("Message queue is full. Discarding message.")
            return
        self._arrived.append((topic, payload, retained))
        self._has_arrived.set()

    async def read(self, handle: Callable[[str, bytes, bool], Awaitable[None]]) -> None:
        """Hand over what arrives, one message at a time, until the connection ends, which is an ``MqttError``.

        aiomqtt's own way makes a task for each message; that costs more than most messages do.
        """
        self._disconnected.add_done_callback(lambda _: self._has_arrived.set())
        while True:
            for _ in range(_HANDLED_AT_ONCE):
                if not self._arrived:
                    break
                await handle(*self._arrived.popleft())
            if self._arrived:
                await asyncio.sleep(0)
            elif self.has_ended:
                raise aiomqtt.MqttError("Disconnected during message iteration") from self._disconnected.exception()
            elif self._reads_no_more:
                return
            else:
                self._has_arrived.clear()
                await self._has_arrived.wait()

    def read_no_more(self) -> None:
        """Let ``read`` return when it has handed over what has arrived by now."""
        self._reads_no_more = True
        self._has_arrived.set()

    @property
    def has_ended(self) -> bool:
        """Whether the connection has, whoever ended it."""
        return self._disconnected.done()

    async def confirm(
        self, publications: Iterable[Publication], at_once: int, confirmed: Callable[[int], None], *, with_properties: bool
    ) -> dict[str, str]:
        """Publish with QoS 1, in their order and ``at_once`` under way; returns with the last PUBACK.

        Each is ``confirmed`` by its index when its PUBACK comes, also one that says that the broker threw it away; the result
        names the topics of those, each with the broker's reason. aiomqtt's own way makes a task and a timer for each, and looks
        at all the others when one comes; that costs more than publishing does.
        """
        loop = asyncio.get_running_loop()
        progress = asyncio.Event()
        under_way: dict[int, tuple[int, str, float]] = {}
        """By packet identifier: the index, the topic, and when it was sent; the oldest first."""

        refused: dict[str, str] = {}

        def on_puback(identifier: int, code: ReasonCode) -> None:
            del self._unconfirmed[identifier]
            index, topic, _ = under_way.pop(identifier)
            if code.value >= _REFUSED:
                refused[topic] = str(code)
            confirmed(index)
            progress.set()

        def overdue_s() -> float:
            oldest_s = next((sent_s for *_, sent_s in under_way.values()), loop.time())
            return loop.time() - oldest_s - _CALL_TIMEOUT_S

        def on_end(_: object) -> None:
            progress.set()

        self._disconnected.add_done_callback(on_end)
        timer = loop.call_later(_CALL_TIMEOUT_S, progress.set)
        following = enumerate(publications)
        each = next(following, None)
        try:
            while each is not None or under_way:
                if self.has_ended:
                    raise aiomqtt.MqttError("the connection has ended")
                progress.clear()
                for _ in range(_HANDLED_AT_ONCE):
                    if each is None or len(under_way) >= at_once:
                        await progress.wait()
                        break
                    index, publication = each
                    identifier = self._publish(publication, with_properties=with_properties)
                    self._unconfirmed[identifier] = on_puback
                    under_way[identifier] = (index, publication.topic, loop.time())
                    each = next(following, None)
                else:
                    await asyncio.sleep(0)
                if loop.time() >= timer.when():
                    if overdue_s() >= 0:
                        raise aiomqtt.MqttError("Operation timed out")
                    timer = loop.call_later(-overdue_s(), progress.set)
        finally:
            timer.cancel()
            self._disconnected.remove_done_callback(on_end)
            for identifier in under_way:
                del self._unconfirmed[identifier]
        return refused

    def heed_end(self) -> None:
        """How the connection ended is known: else a future that nobody asked would say it, with a traceback."""
        if self.has_ended and not self._disconnected.cancelled():
            self._disconnected.exception()

    def _publish(self, publication: Publication, *, with_properties: bool) -> int:
        """Hand one over to paho; returns its packet identifier."""
        properties: Any = None
        if with_properties:
            properties = packets.Properties(expiry_s=publication.expiry_s, correlation=publication.correlation)
        info = self._client.publish(publication.topic, publication.payload, 1, publication.retain, properties)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise aiomqtt.MqttCodeError(info.rc, "Could not publish message")
        return info.mid

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason_code: Any, properties: Any) -> None:
        on_puback = self._unconfirmed.get(mid)
        if on_puback is None:
            super()._on_publish(client, userdata, mid, reason_code, properties)
        else:
            on_puback(mid, reason_code)


def _nothing_to_note(_index: int) -> None:
    pass


class Session:
    """Keeps one connection to the broker and hands what arrives to ``handle(topic, payload, retained)``, one at a time."""

    def __init__(  # noqa: PLR0913 -- each has its name at the call
        self,
        settings: Broker,
        client_id: str,
        *,
        will: Callable[[], Publication] | None,
        birth: Callable[[], Awaitable[Sequence[Publication]]],
        subscriptions: Sequence[str],
        handle: Callable[[str, bytes, bool], Awaitable[None]],
        clock: Sleeper,
        jitter: Callable[[], float],
        lasting: bool = True,
    ) -> None:
        """``lasting``: the broker keeps subscriptions and QoS 1 messages while we are away; else each connection is new."""
        self._settings = settings
        self._client_id = client_id
        self._will = will
        self._birth = birth
        self._subscriptions = subscriptions
        self._handle = handle
        self._clock = clock
        self._jitter = jitter
        self._lasting = lasting
        self._client: _Client | None = None
        self._told_refusals: set[str] = set()
        self._overdue = asyncio.Event()
        self._renewal = asyncio.Event()
        self._in_flight = asyncio.Semaphore(settings.max_in_flight)
        self.online = asyncio.Event()
        self.connections = 0
        """How often the broker was reached: a caller that sees it change knows that the link was lost between."""
        self.tried = asyncio.Event()
        """Set once the first connection stands, or has failed."""

    def renew(self) -> None:
        """Connect anew at once, because what the will says has changed."""
        self._renewal.set()

    async def run(self) -> None:
        """Connect, serve, and connect again, until cancelled; then say goodbye as the will would have."""
        attempt = 0
        said = ""
        while True:
            connected = self.connections
            try:
                await self._serve()
            except (aiomqtt.MqttError, TimeoutError, OSError, ssl.SSLError) as error:
                reason = printable(error) or type(error).__name__
                if reason != said or self.connections != connected:
                    log.warning("broker %s:%d: %s; trying again", self._settings.host, self._settings.port, reason)
                    said = reason
            finally:
                self._client = None
                self.online.clear()
            self.tried.set()
            if self._renewal.is_set():
                self._renewal.clear()
                continue
            attempt = 0 if self.connections != connected else attempt + 1
            await self._clock.sleep_ms(delay_ms(attempt, self._jitter()))

    async def _serve(self) -> None:
        self._overdue.clear()
        self._told_refusals.clear()
        client = self._new_client()
        try:
            await _connect(client)
            async with contextlib.AsyncExitStack() as connection:
                connection.push_async_exit(client)
                for topic in self._subscriptions:
                    granted = await client.subscribe(topic, qos=1, timeout=_CALL_TIMEOUT_S)
                    _heed_cancellation()
                    # aiomqtt hands refusals over as if they were grants. The topic stays unsaid: an app's names its inbox.
                    if any((code if isinstance(code, int) else code.value) >= _REFUSED for code in granted):
                        raise aiomqtt.MqttError("a subscription is refused; check the broker's access rules")
                self._client = client
                await self._live(client)
        finally:
            # aiomqtt leaves the socket open when connecting or saying goodbye takes too long.
            client._client._sock_close()  # noqa: SLF001 -- neither library has another way
            client.heed_end()

    async def _live(self, client: _Client) -> None:
        """From birth to the end of the connection."""
        try:
            for publication in await self._birth():
                await self._send(client, publication)
            self.connections += 1
            self.online.set()
            self.tried.set()
            log.info("broker %s:%d: connected", self._settings.host, self._settings.port)
            await self._receive(client)
        except asyncio.CancelledError:
            if self._will is not None:
                with contextlib.suppress(aiomqtt.MqttError, TimeoutError):
                    await self._send(client, self._will())
            raise

    async def _receive(self, client: _Client) -> None:
        reading = asyncio.create_task(client.read(self._handle))
        overdue = asyncio.create_task(self._overdue.wait())
        renewal = asyncio.create_task(self._renewal.wait())
        tasks = (reading, overdue, renewal)
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            # What has arrived is confirmed, and does not come again.
            client.read_no_more()
            await asyncio.wait((reading,), timeout=_CALL_TIMEOUT_S)
            if reading.done():
                await reading
            if overdue in done:
                raise aiomqtt.MqttError("the broker does not confirm what it is sent")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def publish(self, publication: Publication) -> None:
        """Publish and wait for the PUBACK (QoS 1); ``BrokerLost`` when it does not come, and when it says no (MQTT 5).

        At most ``max_in_flight`` at once.
        """

        async def send(client: _Client) -> None:
            for reason in (await self._send(client, publication)).values():
                raise BrokerLost(f"does not take it ({printable(reason)}).", where="broker")

        async with self._in_flight:
            await self._on_the_connection(send)

    async def publish_all(self, publications: Iterable[Publication], confirmed: Callable[[int], None] = _nothing_to_note) -> None:
        """Publish in order with QoS 1, ``max_in_flight`` under way, and wait for all PUBACKs; each is asked for as it can go out.

        ``confirmed`` hears of each by its index. ``BrokerLost`` when one does not come; it may have arrived or not. One that
        the broker threw away (MQTT 5) is logged and counts as confirmed: what has to arrive waits for the receiver's own word.
        """

        async def send(client: _Client) -> None:
            await self._confirm(client, publications, confirmed)

        await self._on_the_connection(send)

    async def _on_the_connection(self, send: Callable[[_Client], Awaitable[None]]) -> None:
        client = self._client
        if client is None:
            raise BrokerLost("is not connected.", where="broker")
        try:
            await send(client)
        except aiomqtt.MqttError as error:
            # Not one of before, whose time-outs say nothing about today's; and whoever reads notices an end by itself.
            if client is self._client and not client.has_ended:
                self._overdue.set()
            raise BrokerLost(f"did not confirm ({printable(error)}).", where="broker") from error

    async def _confirm(
        self, client: _Client, publications: Iterable[Publication], confirmed: Callable[[int], None]
    ) -> dict[str, str]:
        """By topic, why the broker threw something away."""
        with_properties = self._settings.protocol == "5"
        refused = await client.confirm(publications, self._settings.max_in_flight, confirmed, with_properties=with_properties)
        for topic, reason in refused.items():
            self._tell_refusal(topic, reason)
        return refused

    def _tell_refusal(self, topic: str, reason: str) -> None:
        """Once on each connection for each kind of topic, whose levels that name an app or a shopper stay unsaid."""
        kind = "/".join("…" if before in ("app", "shopper") else level for before, level in pairwise(["", *topic.split("/")]))
        if kind not in self._told_refusals:
            self._told_refusals.add(kind)
            log.warning("the broker throws away what is published on %s (%s): check its access rules", kind, printable(reason))

    async def _send(self, client: _Client, publication: Publication) -> dict[str, str]:
        """As ``_confirm`` does; nobody hears what becomes of QoS 0."""
        if publication.qos == 1:
            return await self._confirm(client, [publication], _nothing_to_note)
        await client.publish(
            publication.topic,
            publication.payload,
            qos=publication.qos,
            retain=publication.retain,
            properties=self._properties(publication),
            timeout=_CALL_TIMEOUT_S,
        )
        _heed_cancellation()
        return {}

    def _properties(self, publication: Publication, kind: int = PacketTypes.PUBLISH) -> Properties | None:
        if self._settings.protocol != "5":
            return None
        properties = Properties(kind)  # type: ignore[no-untyped-call]
        properties.ContentType = CONTENT_TYPE
        if publication.expiry_s is not None:
            properties.MessageExpiryInterval = publication.expiry_s
        if publication.correlation is not None:
            properties.CorrelationData = publication.correlation.encode()
        return properties

    def _new_client(self) -> _Client:
        settings = self._settings
        is_five = settings.protocol == "5"
        connect = None
        if is_five and self._lasting:
            connect = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            connect.SessionExpiryInterval = _SESSION_EXPIRY_S
        return _Client(
            settings.host,
            settings.port,
            username=settings.username,
            password=_password(settings),
            identifier=self._client_id,
            protocol=aiomqtt.ProtocolVersion.V5 if is_five else aiomqtt.ProtocolVersion.V311,
            clean_session=None if is_five else not self._lasting,
            # paho refuses any other value than its default on MQTT 3.1.1, where clean_session says it.
            clean_start=not self._lasting if is_five else MQTT_CLEAN_START_FIRST_ONLY,
            properties=connect,
            will=self._aiomqtt_will(),
            # paho takes two keepalives to notice a silent broker; so it does within 1.3 of the one that was set.
            keepalive=settings.keepalive_s * 2 // 3,
            max_inflight_messages=settings.max_in_flight,
            timeout=_CALL_TIMEOUT_S,
            tls_context=_tls(settings),
            # Several small packets in flight: Nagle and delayed acknowledgements would cost 40 ms each.
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )

    def _aiomqtt_will(self) -> aiomqtt.Will | None:
        if self._will is None:
            return None
        will = self._will()
        return aiomqtt.Will(will.topic, will.payload, will.qos, will.retain, self._properties(will, PacketTypes.WILLMESSAGE))


async def _connect(client: aiomqtt.Client) -> None:
    """Enter the client; a cancellation waits for the thread that connects, which would leave its socket behind."""
    connecting = asyncio.create_task(client.__aenter__())
    try:
        await asyncio.shield(connecting)
    except asyncio.CancelledError:
        while not connecting.done() and client._client.socket() is None:  # noqa: ASYNC110, SLF001 -- a thread announces nothing
            await asyncio.sleep(_POLL_S)
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        raise
    finally:
        # Its exception knows this frame: without this, a socket of a failed handshake waits for the garbage collector.
        del connecting


def _heed_cancellation() -> None:
    """Stop where a cancellation was swallowed.

    Before Python 3.12 ``wait_for``, which aiomqtt uses, forgets one that comes together
    with the broker's answer, and whoever waits for the task would wait for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _others_may_read(path: Path) -> bool:
    """Whether anybody but the file's owner, and whom its access list names, has a right to it.

    systemd lets a service's account read its credentials by such a list. Its mask stands where
    the mode has the group's rights (acl(5)), though no group has any.
    """
    if not path.stat().st_mode & 0o077:
        return False
    try:
        acl = os.getxattr(path, "system.posix_acl_access")
    except OSError:
        return True
    return any(rights for tag, rights, _ in _ACL_ENTRY.iter_unpack(acl[_ACL_VERSION_BYTES:]) if tag in _ACL_OF_MANY)


def _password(settings: Broker) -> str | None:
    path = settings.password_file
    if path is None:
        return None
    try:
        if _others_may_read(path):
            raise ConfigurationError("can be read by others.", where=str(path), do=f"Type: chmod 600 {path}")
        return path.read_text("utf-8").strip()
    except OSError as error:
        raise ConfigurationError(
            f"cannot be read ({error.strerror}).", where=str(path), do="Correct broker.password_file."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError("is no text.", where=str(path), do="Correct broker.password_file.") from error


def _tls(settings: Broker) -> ssl.SSLContext | None:
    if settings.tls_ca_file is None:
        return None
    try:
        context = ssl.create_default_context(cafile=str(settings.tls_ca_file))
        if settings.tls_cert_file is not None:
            context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"a certificate or key cannot be used ({printable(error)}).", where="broker.tls_*_file", do="Check the files."
        ) from error
    return context


async def probe(settings: Broker, client_id: str, topic: str, *, wait_s: float = 2.0) -> bytes | None:
    """Connect once as a guest who leaves nothing behind; the retained message of ``topic``, or ``None`` if there is none.

    ``TryAgain`` says at which step it failed: name, connection, certificate or login.
    """
    where = f"{settings.host}:{settings.port}"
    try:
        found = await asyncio.get_running_loop().getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise TryAgain("the broker's name is not found.", where=where, do="Check broker.host and the network's DNS.") from error
    try:
        async with asyncio.timeout(_CALL_TIMEOUT_S):
            _, writer = await asyncio.open_connection(str(found[0][4][0]), settings.port)
        writer.close()
    except (OSError, TimeoutError) as error:
        raise TryAgain(
            f"the broker does not answer ({printable(error) or 'no answer'}).",
            where=where,
            do="Check broker.port, the firewall, and whether the broker runs.",
        ) from error
    is_five = settings.protocol == "5"
    client = _Quiet(
        settings.host,
        settings.port,
        username=settings.username,
        password=_password(settings),
        identifier=client_id,
        protocol=aiomqtt.ProtocolVersion.V5 if is_five else aiomqtt.ProtocolVersion.V311,
        clean_session=None if is_five else True,
        timeout=_CALL_TIMEOUT_S,
        tls_context=_tls(settings),
    )
    try:
        async with client:
            await client.subscribe(topic, qos=1, timeout=_CALL_TIMEOUT_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    async for message in client.messages:
                        assert isinstance(message.payload, bytes)
                        return message.payload
    except (aiomqtt.MqttError, OSError) as error:
        raise TryAgain(
            f"the broker refuses the login or breaks off ({printable(error)}).",
            where=where,
            do="Check user name, password file, certificates and broker.protocol.",
        ) from error
    finally:
        client._client._sock_close()  # noqa: SLF001 -- as in Session
    return None
