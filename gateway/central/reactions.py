"""What shoppers do with offers, and what follows: muted categories, a complaint, what was saved and wished for."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise

from sqlite_utils import Database

from gateway.central.shopping import bought_since, gtin_14, products_of
from gateway.contract.promotions import Promotion
from gateway.core.conditions import Leaf, leaves

MOST_WISHES = 500
"""Of one shopper; the oldest goes first."""
MUTE_MS = 30 * 86_400_000
"""Two dismissals within this time mute their category for as long."""


# ---- no more ------------------------------------------------------------------------------------------------------------------


def muted_categories(db: Database, inbox: str, now_ms: int) -> tuple[str, ...]:
    """Categories of which two offers were dismissed within 30 days, the second less than 30 days ago."""
    rows = db.execute(
        "SELECT category, min(time_ms) FROM receipt JOIN offer USING (offer) WHERE receipt.inbox = ? AND state = 'dismissed'"
        " AND category IS NOT NULL GROUP BY category, receipt.offer ORDER BY 2",
        [inbox],
    )
    times: dict[str, list[int]] = defaultdict(list)
    for category, time_ms in rows:
        times[category].append(int(time_ms))

    def is_muted(dismissed: list[int]) -> bool:
        return any(second - first <= MUTE_MS and second <= now_ms < second + MUTE_MS for first, second in pairwise(dismissed))

    return tuple(sorted(category for category, dismissed in times.items() if is_muted(dismissed)))


def stop(db: Database, inbox: str, now_ms: int) -> None:
    """A complaint: nothing more."""
    db.execute("INSERT OR IGNORE INTO stopped SELECT inbox, ? FROM shopper WHERE inbox = ?", [now_ms, inbox])


def is_stopped(db: Database, inbox: str) -> bool:
    """Whether the shopper has complained."""
    return db.execute("SELECT 1 FROM stopped WHERE inbox = ?", [inbox]).fetchone() is not None


# ---- please remind me ---------------------------------------------------------------------------------------------------------


def keep_wish(db: Database, inbox: str, kind: str, name: str, *, wanted: bool, at_ms: int) -> bool:
    """``kind``: ``gtin`` or ``promotion``. The newest counts; False when a newer one is known."""
    row = db.execute("SELECT changed_ms FROM wish WHERE inbox = ? AND kind = ? AND name = ?", [inbox, kind, name]).fetchone()
    if row is not None and at_ms <= int(row[0]):
        return False
    db.execute("INSERT OR REPLACE INTO wish VALUES (?, ?, ?, ?, ?, NULL)", [inbox, kind, name, int(wanted), at_ms])
    newest = "SELECT rowid FROM wish WHERE inbox = ?1 ORDER BY changed_ms DESC LIMIT ?2"
    db.execute(f"DELETE FROM wish WHERE inbox = ?1 AND rowid NOT IN ({newest})", [inbox, MOST_WISHES])  # noqa: S608
    return True


def saved_offers(
    db: Database, inbox: str, promotions: Mapping[str, Promotion], *, before_ms: int, now_ms: int
) -> tuple[str, ...]:
    """Promotions saved before the present visit began, in force, neither redeemed nor bought nor reminded of since."""
    bought = bought_since(db, inbox)
    found = []
    for name, saved_ms in _wanted(db, inbox, "promotion"):
        promotion = promotions.get(name)
        if promotion is None or saved_ms >= before_ms:
            continue
        is_over = promotion.valid_until_ms is not None and promotion.valid_until_ms <= now_ms
        if not is_over and not any(bought.get(product, -1) >= saved_ms for product in products_of(promotion)):
            found.append(name)
    return tuple(found)


def wished_products(db: Database, inbox: str) -> tuple[str, ...]:
    """GTINs that the app has told, not bought since."""
    bought = bought_since(db, inbox)
    return tuple(gtin for gtin, wished_ms in _wanted(db, inbox, "gtin") if bought.get(gtin_14(gtin), -1) < wished_ms)


def _wanted(db: Database, inbox: str, kind: str) -> Iterable[tuple[str, int]]:
    question = (
        "SELECT name, changed_ms FROM wish WHERE inbox = ? AND kind = ? AND wanted = 1 AND reminded_ms IS NULL ORDER BY name"
    )
    return [(str(name), int(at_ms)) for name, at_ms in db.execute(question, [inbox, kind]).fetchall()]


def note_reminded(db: Database, inbox: str, promotion: Promotion, now_ms: int) -> None:
    """A reminder was granted: what its audience names as saved is not reminded of again, unless it is saved anew."""
    condition = promotion.compiled().audience
    if promotion.kind != "reminder" or condition is None:
        return
    for _, leaf in leaves(condition):
        for kind, name in _named(leaf):
            db.execute("UPDATE wish SET reminded_ms = ? WHERE inbox = ? AND kind = ? AND name = ?", [now_ms, inbox, kind, name])


def _named(leaf: Leaf) -> list[tuple[str, str]]:
    kinds = {"saved_offers": "promotion", "watch_list": "gtin"}
    kind = kinds.get(leaf.field)
    if kind is None:
        return []
    if isinstance(leaf.value, frozenset):
        return [(kind, name) for name in sorted(leaf.value)]
    return [(kind, leaf.value)] if isinstance(leaf.value, str) else []
