"""From the outbox to central: publish, wait for central's own acknowledgement, send again what stays unconfirmed.

New events go before the backlog, so that a shopper who is in the shop now does not wait behind yesterday.
"""

import asyncio
import logging
from typing import Literal

from gateway.contract.settings import Broker
from gateway.contract.topics import StoreTopics
from gateway.io.broker import BrokerLost, Publication, Session
from gateway.io.clock import Clock
from gateway.io.store import OutboxRow, Store, event_id

log = logging.getLogger(__name__)

_BATCH = 100
_HISTORY_MS = 10_000
_IDLE_MS = 10_000
_NO_END = 2**62


class Delivery:
    """Sends the outbox of one gateway."""

    def __init__(self, store: Store, session: Session, topics: StoreTopics, settings: Broker, clock: Clock) -> None:
        self._store = store
        self._session = session
        self._topics = topics
        self._resend_after_ms = settings.resend_after_s * 1000
        self._clock = clock
        self._wake = asyncio.Event()
        self._central_online = asyncio.Event()
        self._central_told = False
        """Whether central's birth or will has come over this connection."""
        self._central_instance: str | None = None
        self._acknowledged_ms: int | None = None
        """When central last acknowledged anything (monotonic milliseconds)."""
        self._confirmed_ms: dict[int, int] = {}
        """When the broker took each event that central has not acknowledged (monotonic milliseconds), by number."""
        self._live_next = 1
        self._history: tuple[int, int] = (1, 0)
        self._seen: tuple[int, str | None] = (0, None)

    def committed(self) -> None:
        """There may be new rows."""
        self._wake.set()

    def connected(self) -> None:
        """A new connection: whether central is there has to be said again.

        A broker that lost its database has neither central's session nor its birth, and throws away what is sent too early.
        """
        self._central_online.clear()
        self._central_told = False

    def central_is(self, state: str, instance: str) -> bool:
        """Take central's birth or will; returns whether this is another central than before, which may know less."""
        self._central_told = True
        changed = state == "online" and instance != self._central_instance
        if state == "online":
            self._central_instance = instance
            self._central_online.set()
        else:
            self._central_online.clear()
        self._wake.set()
        return changed

    @property
    def central(self) -> Literal["online", "offline", "unknown"]:
        """What is known of central on this connection."""
        if self._central_online.is_set():
            return "online"
        return "offline" if self._central_told else "unknown"

    @property
    def since_last_ack_s(self) -> float | None:
        """Seconds since central's last acknowledgement, ``None`` before the first."""
        return None if self._acknowledged_ms is None else (self._clock.now().mono_ms - self._acknowledged_ms) / 1000

    async def acknowledged(self, epoch: str, seq: int) -> None:
        """Central has stored everything up to ``seq``; an ack of another epoch is about another file."""
        if epoch != self._store.epoch:
            return
        self._acknowledged_ms = self._clock.now().mono_ms
        await self._store.acknowledged(seq)
        for number in [number for number in self._confirmed_ms if number <= seq]:
            del self._confirmed_ms[number]

    async def run(self) -> None:
        """Send for ever."""
        while True:
            await self._session.online.wait()
            await self._central_online.wait()
            await self._notice_changes()
            self._wake.clear()
            rows = await self._next_rows()
            if rows:
                await self._send(rows)
            elif self._session.online.is_set():
                await self._pause()

    async def _notice_changes(self) -> None:
        """After a new connection or a new central everything still kept is sent again: a broker that died has forgotten it."""
        seen = (self._session.connections, self._central_instance)
        if seen == self._seen:
            return
        self._seen = seen
        self._confirmed_ms.clear()
        oldest, newest = await self._store.outbox_bounds()
        self._history = (oldest, newest)
        self._live_next = newest + 1

    async def _next_rows(self) -> list[OutboxRow]:
        live = await self._store.outbox_rows(self._live_next, _NO_END, _BATCH)
        if live:
            self._live_next = live[-1].seq + 1
            return live
        first, last = self._history
        if first <= last:
            rows = await self._store.outbox_rows(first, last, _BATCH)
            self._history = (rows[-1].seq + 1, last) if rows else (1, 0)
            return rows
        return await self._overdue_rows()

    async def _overdue_rows(self) -> list[OutboxRow]:
        oldest_ms = self._clock.now().mono_ms - self._resend_after_ms
        overdue = [number for number, at_ms in self._confirmed_ms.items() if at_ms <= oldest_ms]
        if not overdue:
            return []
        log.warning("central has not acknowledged %d events for %d s: sending again", len(overdue), self._resend_after_ms // 1000)
        rows = await self._store.outbox_rows(min(overdue), max(overdue), _BATCH)
        wanted = set(overdue)
        for number in wanted - {row.seq for row in rows}:
            if not rows or number <= rows[-1].seq:
                self._confirmed_ms.pop(number, None)
        return [row for row in rows if row.seq in wanted]

    async def _send(self, rows: list[OutboxRow]) -> None:
        now_ms = self._clock.now().wall_ms
        unconfirmed = {row.seq for row in rows}

        def confirmed(index: int) -> None:
            number = rows[index].seq
            unconfirmed.remove(number)
            self._confirmed_ms[number] = self._clock.now().mono_ms

        try:
            await self._session.publish_all((self._publication(row, now_ms) for row in rows), confirmed)
        except BrokerLost:
            # The next connection looks at every row that is still kept.
            for number in unconfirmed:
                self._confirmed_ms.pop(number, None)

    def _publication(self, row: OutboxRow, now_ms: int) -> Publication:
        epoch = self._store.epoch
        history = now_ms - row.wall_ms > _HISTORY_MS
        payload = row.to_json(epoch=epoch, source=self._topics.source, history=history)
        return Publication(self._topics.event, payload, correlation=event_id(epoch, row.seq))

    async def _pause(self) -> None:
        """Until something was committed or changed, or the oldest confirmed event is due again."""
        wait_ms = _IDLE_MS
        if self._confirmed_ms:
            due_ms = min(self._confirmed_ms.values()) + self._resend_after_ms
            wait_ms = min(wait_ms, max(50, due_ms - self._clock.now().mono_ms))
        waking = asyncio.create_task(self._wake.wait())
        sleeping = asyncio.create_task(self._clock.sleep_ms(wait_ms))
        try:
            await asyncio.wait((waking, sleeping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waking.cancel()
            sleeping.cancel()
            await asyncio.gather(waking, sleeping, return_exceptions=True)
