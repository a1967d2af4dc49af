"""Counted pieces: what a promotion has to give away, in all stores together and in each.

A grant takes a piece, in the transaction that decides, so no two can take the last. A piece that was reserved comes back when its
time is over, one that was redeemed or is not limited in time does not.
"""

from collections.abc import Iterable

from sqlite_utils import Database

from gateway.contract.promotions import Promotion


def is_left(db: Database, store: str, promotion: Promotion, now_ms: int) -> bool:
    """Whether a piece can be taken in this store."""
    if promotion.quantity is None and promotion.quantity_per_store is None:
        return True
    everywhere, here = taken(db, store, promotion.promotion_id, now_ms)
    return not (
        (promotion.quantity is not None and everywhere >= promotion.quantity)
        or (promotion.quantity_per_store is not None and here >= promotion.quantity_per_store)
    )


def taken(db: Database, store: str, promotion_id: str, now_ms: int) -> tuple[int, int]:
    """Pieces that are not to be had now: in all stores, in this one."""
    row = db.execute(
        "SELECT count(*), count(*) FILTER (WHERE store = ?) FROM piece"
        " WHERE promotion_id = ? AND (until_ms IS NULL OR until_ms > ?)",
        [store, promotion_id, now_ms],
    ).fetchone()
    return int(row[0]), int(row[1])


def take(db: Database, offer: str, store: str, promotion: Promotion, now_ms: int) -> int | None:
    """Take a piece for an offer; returns until when it is reserved, ``None`` where there is no such end."""
    if promotion.quantity is None and promotion.quantity_per_store is None:
        return None
    until_ms = None if promotion.reservation_s is None else now_ms + promotion.reservation_s * 1000
    db.execute("INSERT INTO piece VALUES (?, ?, ?, ?, ?)", [offer, promotion.promotion_id, store, now_ms, until_ms])
    return until_ms


def redeem(db: Database, offer: str) -> None:
    """The piece is gone for good."""
    db.execute("UPDATE piece SET until_ms = NULL WHERE offer = ?", [offer])


def give_back(db: Database, offer: str) -> None:
    """The offer was withdrawn: its piece is to be had again."""
    db.execute("DELETE FROM piece WHERE offer = ?", [offer])


def sold_out(db: Database, store: str, promotions: Iterable[Promotion], now_ms: int) -> tuple[str, ...]:
    """Promotions of which none is left in this store, in their order."""
    return tuple(promotion.promotion_id for promotion in promotions if not is_left(db, store, promotion, now_ms))
