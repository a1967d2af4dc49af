"""Who does not get a promotion, so that its effect can be measured: a keyed hash of shopper and promotion decides, once."""

import hashlib
import hmac

from sqlite_utils import Database

from gateway.contract.promotions import Promotion

_OF = 10_000


def falls_out(secret: bytes, inbox: str, promotion_id: str, percent: int) -> bool:
    """Whether the hash puts the shopper among the ``percent`` who do not get it; who is among 10 % is among 20 %, too."""
    digest = hmac.digest(secret, f"{inbox}\0{promotion_id}".encode(), hashlib.sha256)
    return int.from_bytes(digest[:8], "big") % _OF < percent * _OF // 100


def is_held_out(db: Database, secret: bytes, inbox: str, promotion: Promotion, now_ms: int) -> bool:
    """Whether the shopper does without, as it was decided the first time; whoever joins late is decided by today's share."""
    if promotion.holdout_percent == 0:
        return False
    key = [inbox, promotion.promotion_id]
    row = db.execute("SELECT is_held FROM holdout WHERE inbox = ? AND promotion_id = ?", key).fetchone()
    if row is not None:
        return bool(row[0])
    is_held = falls_out(secret, inbox, promotion.promotion_id, promotion.holdout_percent)
    db.execute("INSERT INTO holdout VALUES (?, ?, ?, ?)", [*key, int(is_held), now_ms])
    return is_held
