"""Whether whoever got a promotion bought more often than whoever was held out of it; read for a report, nothing is changed."""

from collections import defaultdict
from dataclasses import dataclass

from sqlite_utils import Database

from gateway.central import records
from gateway.central.shopping import products_of
from gateway.contract.promotions import Promotion


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Shoppers of one promotion on one day, each once, in the group of the first decision about them."""

    treated: int
    treated_bought: int
    held_out: int
    held_out_bought: int


def outcomes_of_day(db: Database, store: str, from_ms: int, until_ms: int) -> dict[str, Outcomes]:
    """By promotion with a holdout: how many bought after the decision and before the day's end.

    Bought has whoever a till of the store knows a receipt of that is no refund; where the promotion names products by GTIN, a
    receipt with one of these. Test shoppers and whoever has opted out since do not count. A day whose receipts have been
    forgotten (``retention``) has nobody who bought.
    """
    promotions = {promotion.promotion_id: promotion for promotion in records.promotions(db, store)}
    rows = db.execute(
        "SELECT promotion_id, inbox, reason IS NULL, min(decided_ms) FROM offer"
        " WHERE store = ? AND decided_ms >= ? AND decided_ms < ? AND inbox IS NOT NULL AND is_test = 0"
        " AND (reason IS NULL OR reason = 'holdout') GROUP BY promotion_id, inbox",
        [store, from_ms, until_ms],
    ).fetchall()
    found: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for promotion_id, inbox, is_treated, decided_ms in rows:
        promotion = promotions.get(promotion_id)
        products = frozenset[str]() if promotion is None else products_of(promotion)
        bought = _bought(db, store, inbox, products, decided_ms, until_ms)
        found[promotion_id].append((bool(is_treated), bought))
    return {
        promotion_id: Outcomes(
            treated=sum(is_treated for is_treated, _ in people),
            treated_bought=sum(is_treated and bought for is_treated, bought in people),
            held_out=sum(not is_treated for is_treated, _ in people),
            held_out_bought=sum(not is_treated and bought for is_treated, bought in people),
        )
        for promotion_id, people in found.items()
        if not all(is_treated for is_treated, _ in people) or _has_holdout(promotions.get(promotion_id))
    }


def _has_holdout(promotion: Promotion | None) -> bool:
    return promotion is not None and promotion.holdout_percent > 0


def _bought(db: Database, store: str, inbox: str, products: frozenset[str], from_ms: int, until_ms: int) -> bool:
    rows = db.execute(
        "SELECT DISTINCT gtin FROM till_receipt LEFT JOIN receipt_item USING (store, receipt)"
        " WHERE store = ? AND inbox = ? AND refunds IS NULL AND purchase_ms >= ? AND purchase_ms < ?",
        [store, inbox, from_ms, until_ms],
    ).fetchall()
    return any(not products or gtin in products for (gtin,) in rows)
