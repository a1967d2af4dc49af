"""What apps, tills, the web shop and the CRM tell: kept once, in whatever order it comes, and what follows from it.

Each function runs in its caller's transaction and returns the inbox whose context may have changed, or ``None`` where nothing
has. What is of nobody who is enrolled, or has consented to nothing, leaves no trace. The command line calls the same functions.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from sqlite_utils import Database

from gateway.central import pieces, reactions, records, shopping, visits
from gateway.central.contexts import Desk, day_at, keep_profile
from gateway.central.deciding import open_grants, withdraw, withdraw_refuted
from gateway.central.pickup import pickup_alarm, pickup_over
from gateway.contract.fields import to_money
from gateway.contract.messages import OrderData, ProfileData, Receipt, TillReceiptData, Wish
from gateway.core.model import Consent
from gateway.errors import Untrusted

log = logging.getLogger(__name__)

_LATEST_MS = 5 * 60_000
"""Whoever entered longer ago may have gone again: nobody is called for that."""


@dataclass(frozen=True, slots=True)
class Intake:
    """The desks of all stores, to which everything is told."""

    desks: Mapping[str, Desk]

    # ---- apps

    def app_receipt(self, db: Database, inbox: str, receipt: Receipt, now_ms: int) -> str | None:
        """What became of an offer."""
        data, at_ms = receipt.data, min(receipt.time, now_ms)
        if not records.keep_receipt(db, receipt.id, inbox, data.offer, data.state, at_ms):
            return None
        row = db.execute("SELECT promotion_id, store FROM offer WHERE offer = ?", [data.offer]).fetchone()
        match data.state:
            case "saved":
                reactions.keep_wish(db, inbox, "promotion", row[0], wanted=True, at_ms=at_ms)
            case "redeemed":
                self._has_redeemed(db, inbox, data.offer, row[0], at_ms)
            case "complained":
                self._stop(db, inbox, now_ms)
            case "dismissed":
                pass
            case _:
                return None
        return inbox

    def _stop(self, db: Database, inbox: str, now_ms: int) -> None:
        reactions.stop(db, inbox, now_ms)
        unread = {waiting.offer for waiting in records.waiting_for_apps(db, now_ms) if waiting.inbox == inbox}
        for desk in self.desks.values():
            for grant in open_grants(db, inbox, desk.store, day_at(desk.settings, now_ms).from_ms):
                if grant.offer in unread:
                    withdraw(db, desk, inbox, grant, "stopped", now_ms)

    def wish(self, db: Database, inbox: str, wish: Wish, now_ms: int) -> str | None:
        """Something to be reminded of, or no longer."""
        if not records.is_enrolled(db, inbox):
            raise Untrusted("is of an inbox that is not enrolled.", where="wish")
        data = wish.data
        kind, name = ("gtin", data.gtin) if data.gtin is not None else ("promotion", data.promotion_id)
        kept = reactions.keep_wish(db, inbox, kind, name or "", wanted=data.wanted, at_ms=min(wish.time, now_ms))
        return inbox if kept else None

    # ---- back office

    def till_receipt(self, db: Database, store: str, data: TillReceiptData, now_ms: int) -> str | None:
        """A purchase or a refund, and what it changes about offers that were granted for the basket or redeemed with it."""
        desk = self._desk(store, "till receipt")
        currency = to_money(data.total).currency
        if currency != desk.settings.currency:
            raise Untrusted(f"is in {currency}; the store's currency is {desk.settings.currency}.", where="till receipt")
        inbox = self._buyer(db, store, data)
        if inbox is None:
            # Most receipts of a till are nobody's: worth no line in the log of every day.
            log.debug("a receipt of store %s belongs to nobody who has consented: not kept", store)
            return None
        if not shopping.keep_till_receipt(db, store, inbox, data):
            return None
        for code in data.redeemed:
            self._redeemed(db, desk, inbox, data, code)
        withdraw_refuted(db, desk, inbox, now_ms)
        return inbox

    def _buyer(self, db: Database, store: str, data: TillReceiptData) -> str | None:
        if data.card is not None:
            inbox = shopping.owner_of_card(db, data.card)
        elif data.shopper is not None:
            owner = records.inbox_of(db, store, data.shopper)
            inbox = None if owner is None else owner[0]
        else:
            inbox = data.inbox
        return inbox if inbox is not None and records.consent_of(db, inbox) != Consent.NONE else None

    def _redeemed(self, db: Database, desk: Desk, inbox: str, data: TillReceiptData, code: str) -> None:
        """The offer that was shown at the till: by its id, or the newest of the promotion that has this code."""
        named = [name for name, promotion in desk.promotions.items() if promotion.generic_redemption_code == code]
        row = db.execute(
            "SELECT offer, promotion_id FROM offer WHERE inbox = ? AND reason IS NULL"
            " AND (offer = ? OR promotion_id IN (SELECT value FROM json_each(?))) ORDER BY decided_ms DESC, offer LIMIT 1",
            [inbox, code, json.dumps(named)],
        ).fetchone()
        if row is None:
            return
        identity = f"till-{desk.store}-{data.receipt}-{row[0]}"
        if records.keep_receipt(db, identity, inbox, row[0], "redeemed", data.purchase_time):
            self._has_redeemed(db, inbox, row[0], row[1], data.purchase_time)

    def _has_redeemed(self, db: Database, inbox: str, offer: str, promotion_id: str, at_ms: int) -> None:
        pieces.redeem(db, offer)
        reactions.keep_wish(db, inbox, "promotion", promotion_id, wanted=False, at_ms=at_ms)

    def order(self, db: Database, store: str, data: OrderData, now_ms: int) -> str | None:
        """A change of an order: the staff is told when its owner is there, and when it is over."""
        desk = self._desk(store, "order")
        if not records.is_enrolled(db, data.inbox):
            raise Untrusted("is of an inbox that is not enrolled.", where="order")
        before = shopping.order_of(db, store, data.order)
        if not shopping.keep_order(db, store, data):
            return None
        order = shopping.order_of(db, store, data.order)
        if order is not None and order.is_over:
            if before is not None and not before.is_over and before.told_visit is not None:
                over = pickup_over(order, before.told_visit, desk.source)
                records.queue_for_staff(db, over.id, store, over.to_json())
            self._nothing_to_fetch(db, desk, data.inbox, now_ms)
        elif order is not None and order.state == "ready":
            for of_store, rid in records.pseudonyms_of(db, data.inbox):
                here = visits.presence(db, store, rid, now_ms) if of_store == store else None
                if here is not None and here.zone is not None:
                    self._tell_of_pickups(db, desk, data.inbox, here, now_ms)
        return data.inbox

    def _nothing_to_fetch(self, db: Database, desk: Desk, inbox: str, now_ms: int) -> None:
        if shopping.order_state(shopping.orders(db, inbox, desk.store)) == "ready":
            return
        for grant in open_grants(db, inbox, desk.store, day_at(desk.settings, now_ms).from_ms):
            if grant.kind == "pickup":
                withdraw(db, desk, inbox, grant, "collected", now_ms)

    def profile(self, db: Database, data: ProfileData) -> str | None:
        """Segments, language, watch list, card."""
        if not records.is_enrolled(db, data.inbox):
            raise Untrusted("is of an inbox that is not enrolled.", where="profile")
        return data.inbox if keep_profile(db, data) else None

    # ---- presence

    def entered(self, db: Database, store: str, rid: str, at_ms: int, now_ms: int) -> bool:
        """Somebody is in a zone of the store: whether the staff is told of an order that is ready."""
        owner = records.inbox_of(db, store, rid)
        here = visits.presence(db, store, rid, now_ms)
        if owner is None or here is None or now_ms - at_ms > _LATEST_MS:
            return False
        return self._tell_of_pickups(db, self.desks[store], owner[0], here, now_ms)

    def _tell_of_pickups(self, db: Database, desk: Desk, inbox: str, here: visits.Present, now_ms: int) -> bool:
        visit = str(here.started_ms)
        told = False
        for order in shopping.orders(db, inbox, desk.store):
            if order.state == "ready" and order.told_visit != visit and here.zone is not None:
                alarm = pickup_alarm(order, visit, here.zone, desk.source, now_ms)
                records.queue_for_staff(db, alarm.id, desk.store, alarm.to_json())
                shopping.note_told(db, order, visit)
                told = True
        return told

    def _desk(self, store: str, where: str) -> Desk:
        desk = self.desks.get(store)
        if desk is None:
            raise Untrusted("is of a store that central does not serve.", where=where)
        return desk
