"""What was bought and ordered: tills' receipts, refunds, and the web shop's orders that are fetched in a store."""

from dataclasses import dataclass
from decimal import Decimal

from sqlite_utils import Database

from gateway.contract.fields import to_money
from gateway.contract.messages import OrderData, TillReceiptData
from gateway.contract.promotions import Promotion
from gateway.core.conditions import OrderState
from gateway.core.money import Money

ATTRIBUTION_MS = 7 * 86_400_000
"""An order comes of an offer that was granted so long before, and not earlier."""
_ENDED = frozenset({"collected", "returned"})


def owner_of_card(db: Database, card: str) -> str | None:
    """The inbox whose profile names the customer card."""
    row = db.execute("SELECT inbox FROM profile WHERE card = ?", [card]).fetchone()
    return None if row is None else str(row[0])


def keep_till_receipt(db: Database, store: str, inbox: str, data: TillReceiptData) -> bool:
    """Store a receipt or refund of a known shopper; False when it was there already. The total's currency is the store's."""
    added = db.execute(
        "INSERT OR IGNORE INTO till_receipt VALUES (?, ?, ?, ?, ?, ?)",
        [store, data.receipt, inbox, data.purchase_time, str(to_money(data.total).amount), data.refunds],
    ).rowcount
    if not added:
        return False
    for item in data.items:
        if item.quantity > 0:
            db.execute(
                "INSERT INTO bought VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET last_ms = max(last_ms, excluded.last_ms)",
                [inbox, gtin_14(item.gtin), data.purchase_time],
            )
            db.execute("INSERT OR IGNORE INTO receipt_item VALUES (?, ?, ?)", [store, data.receipt, gtin_14(item.gtin)])
    return True


def basket(db: Database, inbox: str, store: str, from_ms: int, until_ms: int, currency: str) -> Money | None:
    """Sum of the receipts of that time, less what was refunded of them, whenever; ``None`` where there is no receipt.

    A refund of an unknown receipt waits for it: it may be one of another day.
    """
    bought = dict(
        db.execute(
            "SELECT receipt, amount FROM till_receipt WHERE inbox = ? AND store = ? AND refunds IS NULL"
            " AND purchase_ms >= ? AND purchase_ms < ?",
            [inbox, store, from_ms, until_ms],
        ).fetchall()
    )
    if not bought:
        return None
    refunds = db.execute(
        "SELECT refunds, amount FROM till_receipt WHERE inbox = ? AND store = ? AND refunds IS NOT NULL", [inbox, store]
    )
    total = sum((Decimal(amount) for amount in bought.values()), Decimal(0))
    total += sum((Decimal(amount) for receipt, amount in refunds.fetchall() if receipt in bought), Decimal(0))
    return Money(max(total, Decimal(0)), currency)


def bought_since(db: Database, inbox: str) -> dict[str, int]:
    """By product (GTIN-14), when it was bought last."""
    return {str(gtin): int(last) for gtin, last in db.execute("SELECT gtin, last_ms FROM bought WHERE inbox = ?", [inbox])}


def gtin_14(gtin: str) -> str:
    """A GTIN of any length as one of 14 digits (GS1 General Specifications, 7.12)."""
    return gtin.zfill(14)


def products_of(promotion: Promotion) -> frozenset[str]:
    """GTIN-14 of the products a promotion is about, as far as its item ids are GTINs."""
    return frozenset(gtin_14(item) for item in promotion.item_id if item.isdigit())


# ---- orders -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WebOrder:
    """One order of the web shop as it stands."""

    store: str
    number: str
    inbox: str
    state: OrderState
    changed_ms: int
    attribution: str | None
    """The offer it came of, where that is so."""
    told_visit: str | None
    """The visit for which the staff was told."""

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to fetch."""
        return self.state in _ENDED


_COLUMNS = "store, number, inbox, state, changed_ms, attribution, told_visit"


def keep_order(db: Database, store: str, data: OrderData) -> bool:
    """Store a change of an order; False when a newer one is known.

    Attributed to an offer of the same shopper's only, granted at most seven days before the change that names it.
    """
    key = [store, data.order]
    before = db.execute("SELECT version, attribution FROM web_order WHERE store = ? AND number = ?", key).fetchone()
    if before is not None and data.version <= int(before[0]):
        return False
    attribution = None if before is None else before[1]
    if attribution is None and data.attribution is not None:
        row = db.execute(
            "SELECT offer FROM offer WHERE offer = ? AND inbox = ? AND reason IS NULL AND decided_ms BETWEEN ? AND ?",
            [data.attribution, data.inbox, data.changed_time - ATTRIBUTION_MS, data.changed_time],
        ).fetchone()
        attribution = None if row is None else row[0]
    db.execute(
        "INSERT INTO web_order (store, number, inbox, version, state, changed_ms, attribution) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET inbox = excluded.inbox, version = excluded.version, state = excluded.state,"
        " changed_ms = excluded.changed_ms, attribution = excluded.attribution",
        [*key, data.inbox, data.version, data.state, data.changed_time, attribution],
    )
    return True


def order_of(db: Database, store: str, number: str) -> WebOrder | None:
    """An order by its number."""
    row = db.execute(f"SELECT {_COLUMNS} FROM web_order WHERE store = ? AND number = ?", [store, number]).fetchone()  # noqa: S608
    return None if row is None else WebOrder(*row)


def orders(db: Database, inbox: str, store: str) -> list[WebOrder]:
    """A shopper's orders for a store, the one that changed last at the end."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM web_order WHERE inbox = ? AND store = ? ORDER BY changed_ms, number",  # noqa: S608
        [inbox, store],
    )
    return [WebOrder(*row) for row in rows.fetchall()]


def order_state(found: list[WebOrder]) -> OrderState | None:
    """``ready`` when any is; else that of the one that changed last."""
    if any(order.state == "ready" for order in found):
        return "ready"
    return found[-1].state if found else None


def note_told(db: Database, order: WebOrder, visit: str) -> None:
    """The staff has been told that somebody comes for it on this visit."""
    db.execute("UPDATE web_order SET told_visit = ? WHERE store = ? AND number = ?", [visit, order.store, order.number])


def attributed(db: Database, store: str, from_ms: int, until_ms: int) -> dict[str, list[str]]:
    """Of offers of the store granted in that time: the orders, for whatever store, that came of them within seven days."""
    rows = db.execute(
        "SELECT offer.offer, web_order.number FROM web_order JOIN offer ON offer.offer = attribution"
        " WHERE offer.store = ? AND decided_ms >= ? AND decided_ms < ? ORDER BY offer.offer, web_order.number",
        [store, from_ms, until_ms],
    )
    found: dict[str, list[str]] = {}
    for offer, number in rows:
        found.setdefault(str(offer), []).append(str(number))
    return found
