"""The app's side of the wire, for the demo and the tests: keeps every offer once, shows none late or taken back."""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from gateway.contract import strict_json
from gateway.contract.messages import AppOffer, Receipt, ReceiptData, WithdrawnOffer, validated
from gateway.contract.settings import Broker
from gateway.contract.topics import app_offer, app_receipt, inbox_of
from gateway.errors import Untrusted
from gateway.io.broker import BrokerLost, Publication, Session
from gateway.io.clock import Clock
from gateway.io.store.database import DatabaseThread, open_database

log = logging.getLogger(__name__)

APP = Migrations("app")


@APP(name="0001_first")
def _first(db: Database) -> None:
    db.execute(
        "CREATE TABLE offer (offer TEXT PRIMARY KEY, inbox TEXT NOT NULL, payload TEXT NOT NULL, received_ms INTEGER NOT NULL,"
        " times INTEGER NOT NULL, late INTEGER NOT NULL, receipt_sent INTEGER NOT NULL DEFAULT 0) STRICT"
    )


@APP(name="0002_withdrawn")
def _withdrawn(db: Database) -> None:
    db.execute(
        "CREATE TABLE withdrawn (offer TEXT PRIMARY KEY, inbox TEXT NOT NULL, reason TEXT NOT NULL, told INTEGER NOT NULL) STRICT"
    )


class Inboxes:
    """One or several apps behind one connection."""

    def __init__(
        self,
        broker: Broker,
        inboxes: Sequence[str],
        path: Path,
        clock: Clock,
        *,
        on_offer: Callable[[str, AppOffer, bool], None] | None = None,
        on_withdrawn: Callable[[str, WithdrawnOffer], None] | None = None,
        client_id: str | None = None,
    ) -> None:
        """``on_offer(inbox, offer, is_new)`` is called for every offer that may be shown, also when it comes again.

        ``on_withdrawn(inbox, withdrawn)``: for one that is taken back, once.
        """
        self._clock = clock
        self._on_offer = on_offer
        self._on_withdrawn = on_withdrawn
        self._database = DatabaseThread(path, lambda: open_database(path, APP))
        self._queue: asyncio.Queue[tuple[str, bytes] | None] = asyncio.Queue()
        """Offers as they arrive; ``None`` after a new connection, to send the receipts that are still owed."""
        self._session = Session(
            broker,
            client_id or f"app-{inboxes[0]}",
            will=None,
            birth=self._birth,
            subscriptions=[app_offer(inbox) for inbox in inboxes],
            handle=self._receive,
            clock=clock,
            jitter=random.random,
        )

    @property
    def online(self) -> asyncio.Event:
        """Set while connected and subscribed."""
        return self._session.online

    async def run(self, stop: asyncio.Event) -> None:
        """Receive until ``stop``."""
        await self._database.start()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._session.run()), group.create_task(self._work())]
                await stop.wait()
                for task in tasks:
                    task.cancel()
        finally:
            await self._database.close()

    async def _birth(self) -> list[Publication]:
        self._queue.put_nowait(None)
        return []

    async def _receive(self, topic: str, payload: bytes, _retained: bool) -> None:
        await self._queue.put((topic, payload))

    async def _work(self) -> None:
        while True:
            arrived = await self._queue.get()
            if arrived is not None:
                await self._take(*arrived)
            await self._send_receipts()

    async def _take(self, topic: str, payload: bytes) -> None:
        inbox = inbox_of(topic) or ""
        try:
            document = strict_json.parse(payload, "offer")
            if document.get("type") == WithdrawnOffer.model_fields["type"].default:
                await self._take_back(inbox, validated(WithdrawnOffer, document, "withdrawn offer"))
                return
            offer = validated(AppOffer, document, "offer")
        except Untrusted as error:
            log.warning("offer refused: %s", error)
            return
        now_ms = self._clock.now().wall_ms
        late = now_ms > offer.expirytime
        fate = await self._database.run(lambda db: _keep(db, inbox, offer, payload, now_ms, late=late))
        if self._on_offer is not None and not late and fate != "withdrawn":
            self._on_offer(inbox, offer, fate == "new")

    async def _take_back(self, inbox: str, withdrawn: WithdrawnOffer) -> None:
        data = withdrawn.data
        is_new = await self._database.run(lambda db: _take_back(db, inbox, data.offer, data.reason))
        if is_new and self._on_withdrawn is not None:
            self._on_withdrawn(inbox, withdrawn)

    async def _send_receipts(self) -> None:
        """A receipt is an application message: it is owed until the broker has it."""
        for state, owed, sent in (
            ("shown", _owed_receipts, _receipt_sent),
            ("withdrawn", _owed_withdrawals, _withdrawal_told),
        ):
            for offer, inbox in await self._database.run(owed):
                now_ms = self._clock.now().wall_ms
                data = ReceiptData.model_validate({"offer": offer, "state": state})
                receipt = Receipt(id=f"{offer}-{state}", source=f"app/{inbox}", time=now_ms, data=data)
                try:
                    await self._session.publish(Publication.of(app_receipt(inbox), receipt, now_ms=now_ms))
                except BrokerLost:
                    return
                await self._database.run(partial(sent, offer=offer))


def _owed_receipts(db: Database) -> list[tuple[str, str]]:
    return list(db.execute("SELECT offer, inbox FROM offer WHERE late = 0 AND receipt_sent = 0").fetchall())


def _receipt_sent(db: Database, offer: str) -> None:
    db.execute("UPDATE offer SET receipt_sent = 1 WHERE offer = ?", [offer])


def _owed_withdrawals(db: Database) -> list[tuple[str, str]]:
    return list(db.execute("SELECT offer, inbox FROM withdrawn WHERE told = 0").fetchall())


def _withdrawal_told(db: Database, offer: str) -> None:
    db.execute("UPDATE withdrawn SET told = 1 WHERE offer = ?", [offer])


def _take_back(db: Database, inbox: str, offer: str, reason: str) -> bool:
    """True when it is news. It came again: central has not seen the receipt."""
    is_new = db.execute("SELECT 1 FROM withdrawn WHERE offer = ?", [offer]).fetchone() is None
    db.execute("INSERT OR REPLACE INTO withdrawn VALUES (?, ?, ?, 0)", [offer, inbox, reason])
    return is_new


def _keep(
    db: Database, inbox: str, offer: AppOffer, payload: bytes, now_ms: int, *, late: bool
) -> Literal["new", "known", "withdrawn"]:
    """What the offer is to the app; one that was taken back before it came is never shown."""
    name = offer.data.offer
    if db.execute("SELECT 1 FROM withdrawn WHERE offer = ?", [name]).fetchone() is not None:
        return "withdrawn"
    if db.execute("SELECT 1 FROM offer WHERE offer = ?", [name]).fetchone() is not None:
        # It came again, so central has not seen the receipt.
        db.execute("UPDATE offer SET times = times + 1, receipt_sent = 0 WHERE offer = ?", [name])
        return "known"
    db.execute("INSERT INTO offer VALUES (?, ?, ?, ?, 1, ?, 0)", [name, inbox, payload.decode(), now_ms, int(late)])
    return "new"
