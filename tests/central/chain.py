"""A chain of two stores as central's functions see it: a real file, no network, and time as an argument."""

import base64
import json
import weakref
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from gateway.central import records, visits
from gateway.central.contexts import Desk
from gateway.central.deciding import decide
from gateway.central.intake import Intake
from gateway.central.records import CENTRAL
from gateway.contract.downlinks import ShopperContext
from gateway.contract.messages import (
    OfferMatchedData,
    OrderData,
    ProfileData,
    Receipt,
    ReceiptData,
    TillReceiptData,
    Wish,
    WishData,
)
from gateway.contract.promotions import Promotion
from gateway.contract.settings import CentralStore
from gateway.core.model import Consent
from gateway.core.token import day_of, derive_pseudonym, window_of
from gateway.io.signing import Signer, Verifier
from gateway.io.store.database import open_database

SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS = 1000, 60_000, 3_600_000, 86_400_000
NOW_MS = 1_790_000_000_000 // DAY_MS * DAY_MS + 10 * HOUR_MS
"""Ten o'clock in the morning of a day that begins at midnight UTC."""
GAP_MS = 30 * MINUTE_MS
STORES = {"north": CentralStore(store_number=1), "south": CentralStore(store_number=2)}
BOTH = Consent.OFFERS | Consent.ANALYTICS
YOGHURT, MILK = "4006381333931", "4000417025005"
SIGNER = Signer(bytes(32))
VERIFIERS = {store: Verifier((SIGNER.public_key,), store) for store in STORES}


def promotion(promotion_id: str, **more: Any) -> Promotion:
    return Promotion.model_validate({"promotion_id": promotion_id, "long_title": {"en": "An offer"}, "zones": ["dairy"], **more})


def more_than(amount: str) -> dict[str, str]:
    """An audience: today's basket."""
    return {"field": "basket_today", "operator": "more_than", "value": amount}


class Chain:
    """Central's file and what may be told to it."""

    def __init__(self, folder: Path, *promotions: Promotion, secret: bytes = bytes(32)) -> None:
        self.path = folder / "central.db"
        self.db: Database = open_database(self.path, CENTRAL)
        # Many a test makes a chain of its own, and an open connection that is thrown away is a warning.
        weakref.finalize(self, self.db.conn.close)
        self.secret = secret
        self._offers = 0
        self.offer_promotions(*promotions)

    def offer_promotions(self, *promotions: Promotion) -> None:
        """The same in both stores."""
        by_id = {each.promotion_id: each for each in promotions}
        self.desks = {store: Desk(store, settings, by_id, SIGNER, "central") for store, settings in STORES.items()}
        for store in STORES:
            records.replace_promotions(self.db, store, promotions)

    @property
    def intake(self) -> Intake:
        return Intake(self.desks)

    def enrol(self, *inboxes: str, consent: Consent = BOTH, is_test: bool = False, around_ms: int = NOW_MS) -> None:
        for inbox in inboxes:
            records.enrol(self.db, inbox, self.key(inbox), consent, list(STORES), is_test=is_test)
            for store, settings in STORES.items():
                for day in range(around_ms // DAY_MS - 1, around_ms // DAY_MS + 2):
                    rid = derive_pseudonym(self.key(inbox), settings.store_number, day).hex()
                    records.name_pseudonyms(self.db, store, day, [(rid, inbox)])

    @staticmethod
    def key(inbox: str) -> bytes:
        return inbox.encode().ljust(32, b".")

    def rid(self, inbox: str, store: str = "north", at_ms: int = NOW_MS) -> str:
        return derive_pseudonym(self.key(inbox), STORES[store].store_number, day_of(window_of(at_ms / 1000), 0)).hex()

    # ---- what happens

    def visit(self, inbox: str, store: str = "north", at_ms: int = NOW_MS, zone: str | None = "dairy") -> None:
        """Somebody is in the store."""
        visits.go_on(self.db, store, self.rid(inbox, store, at_ms), at_ms, GAP_MS, name=f"v{at_ms}", zone=zone)
        visits.keep_stay(self.db, inbox, store, at_ms, at_ms, GAP_MS)

    def propose(
        self,
        inbox: str,
        promotion_id: str,
        *,
        store: str = "north",
        at_ms: int = NOW_MS,
        offer: str | None = None,
        visit: int = 1,
        push: bool | None = None,
    ) -> str:
        """What central says to a proposal: ``granted`` or the reason why not."""
        self._offers += 1
        found = self.desks[store].promotions[promotion_id]
        proposal = OfferMatchedData(
            offer=offer or f"o{self._offers}",
            promotion_id=promotion_id,
            kind=found.kind,
            push=found.kind != "info" if push is None else push,
            visit="v1",
            shopper=self.rid(inbox, store, at_ms),
            zone="dairy",
            matched_time=at_ms,
            deadline=at_ms + 30_000,
            catalogue_version=1,
        )
        decided = decide(self.db, self.desks[store], "pi-1", proposal, visit=visit, secret=self.secret, now_ms=at_ms)
        return decided.reason or "granted"

    def react(self, inbox: str, offer: str, state: str, at_ms: int = NOW_MS) -> str | None:
        data = ReceiptData.model_validate({"offer": offer, "state": state})
        receipt = Receipt(id=f"{offer}-{state}", source=f"app/{inbox}", time=at_ms, data=data)
        return self.intake.app_receipt(self.db, inbox, receipt, at_ms)

    def wish(self, inbox: str, at_ms: int = NOW_MS, *, wanted: bool = True, **what: str) -> str | None:
        wish = Wish(id=f"w{at_ms}", source=f"app/{inbox}", time=at_ms, data=WishData(wanted=wanted, **what))
        return self.intake.wish(self.db, inbox, wish, at_ms)

    def pay(
        self, receipt: str, total: str, *, store: str = "north", at_ms: int = NOW_MS, told_ms: int | None = None, **more: Any
    ) -> str | None:
        """A till tells of a purchase, perhaps later."""
        whose = {} if {"card", "shopper", "inbox"} & more.keys() else {"inbox": "anna"}
        document = {"receipt": receipt, "till": "till-1", "purchase_time": at_ms, "total": total, **whose, **more}
        return self.intake.till_receipt(self.db, store, TillReceiptData.model_validate(document), told_ms or at_ms)

    def order(
        self, state: str, version: int, *, store: str = "north", at_ms: int = NOW_MS, told_ms: int | None = None, **more: Any
    ) -> str | None:
        document = {"order": "W-1", "inbox": "anna", "version": version, "state": state, "changed_time": at_ms, **more}
        return self.intake.order(self.db, store, OrderData.model_validate(document), told_ms or at_ms)

    def profile(self, version: int, inbox: str = "anna", **more: Any) -> str | None:
        return self.intake.profile(self.db, ProfileData.model_validate({"inbox": inbox, "version": version, **more}))

    # ---- what can be seen

    def context(self, inbox: str = "anna", store: str = "north", at_ms: int = NOW_MS) -> ShopperContext:
        """As the gateway reads it."""
        publication = self.desks[store].context(self.db, self.rid(inbox, store, at_ms), at_ms, only_changed=False)
        assert publication is not None
        assert publication.topic == f"stores/{store}/down/shopper/{self.rid(inbox, store, at_ms)}"
        return VERIFIERS[store].open(publication.payload, ShopperContext, where="context", now_ms=at_ms)

    def told_to_app(self, at_ms: int = NOW_MS) -> list[tuple[str, str]]:
        """(type, offer) of what waits for apps."""
        waiting = [json.loads(each.payload) for each in records.waiting_for_apps(self.db, at_ms)]
        return [(message["type"], message["data"]["offer"]) for message in waiting]

    def told_to_staff(self) -> list[tuple[str, str | None, bool]]:
        """(order, zone, is over) of what waits for the staff."""
        waiting = [json.loads(payload)["data"] for _, _, payload in records.waiting_for_staff(self.db)]
        return [(data["order"], data.get("zone"), data["is_over"]) for data in waiting]

    def bytes_on_disk(self) -> bytes:
        """Everything in the file and beside it, and what of it is written in base64."""
        raw = b"".join(path.read_bytes() for path in sorted(self.path.parent.glob("central.db*")))
        return raw + base64.b64encode(raw)
