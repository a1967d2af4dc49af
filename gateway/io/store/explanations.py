"""What the database holds about past decisions, for whoever explains them: rows → facts, bounded, and nothing is changed."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from gateway.core.model import (
    STILL_SPENT,
    AnchorLevel,
    Circumstances,
    ClockQuality,
    Consent,
    PastOffer,
    PromotionKind,
    StoreCount,
    WithheldReason,
)
from gateway.io.store.ledger import in_store, past_offer
from gateway.io.store.sqlite import Database

LedgerType = Literal["visit.started", "zone.entered", "zone.dwelled", "zone.exited", "visit.ended"]

_REMEMBER_MS = 26 * 3600 * 1000
"""As the offers of the running process do: a pseudonym lives for a day."""
_COLUMNS = "id, wall_ms, type, shopper, visit, zone, catalogue_version, withheld, evidence"
_DECISIONS = (
    "(type = 'zone.entered' OR (type IN ('zone.dwelled', 'zone.exited')"
    " AND (withheld <> '{}' OR EXISTS (SELECT 1 FROM offer WHERE offer.ledger = ledger.id))))"
)
"""Where an offer could have come from; a dwell or an exit that no promotion waits for is none."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which decisions: one by its row or its offer, or the newest of a zone and a time."""

    newest: int = 1
    row: int | None = None
    offer: str | None = None
    zone: str | None = None
    since_wall_ms: int | None = None
    every_event: bool = False
    """Also exits and dwells that no promotion waits for, and beginnings and ends of visits."""
    day_start_ms: int = 0
    """When the store's day begins, after midnight UTC."""


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One presence event as it was recorded."""

    id: int
    wall_ms: int
    type: LedgerType
    shopper: str | None
    """Gone when the shopper has been erased."""
    visit: str
    zone: str | None
    catalogue_version: int | None
    withheld: dict[str, int]
    """How many promotions for each reason."""
    evidence: dict[str, Any]

    @property
    def consent(self) -> Consent | None:
        """What the shopper had consented to."""
        bits = self.evidence.get("consent")
        return None if bits is None else Consent(bits)

    @property
    def circumstances(self) -> Circumstances | None:
        """``None`` where nothing could have matched."""
        kept = self.evidence.get("circumstances")
        if kept is None:
            return None
        return Circumstances(
            ClockQuality(kept["quality"]),
            conflict=kept["conflict"],
            by_receiver=kept["by_receiver"],
            listen_only=kept["listen_only"],
            is_test=kept["is_test"],
            # Rows of earlier versions do not have it.
            zone_is_blind=kept.get("zone_is_blind", False),
        )

    @property
    def context_version(self) -> int | None:
        """Of what central knew of the shopper; ``None``: nothing had come."""
        version: int | None = self.evidence.get("context")
        return version

    @property
    def has_waited(self) -> bool:
        """Whether that came after the event."""
        return bool(self.evidence.get("waited", False))

    @property
    def anchors(self) -> tuple[AnchorLevel, ...]:
        """The strongest, at an entry."""
        return tuple(AnchorLevel(*level) for level in self.evidence.get("anchors", ()))


@dataclass(frozen=True, slots=True)
class OfferRow:
    """One offer of a decision, and how it ended."""

    offer: str
    promotion_id: str
    kind: PromotionKind
    wall_ms: int
    deadline_wall_ms: int
    state: Literal["proposed", "granted", "refused", "late"]
    reason: str
    decided_wall_ms: int | None
    waiting_seq: int | None
    """The number of its message while central has not acknowledged it."""
    push: bool

    @property
    def is_still_spent(self) -> bool:
        """Whether the shopper's push and cap are spent although it was refused."""
        return self.reason in STILL_SPENT


@dataclass(frozen=True, slots=True)
class Facts:
    """One row of the ledger and what belongs to it."""

    row: LedgerRow
    offers: tuple[OfferRow, ...]
    before: tuple[PastOffer, ...]
    """What the shopper had been offered by then, each as it stood at that moment."""
    entry: LedgerRow | None
    """Of a dwell or an exit: the entry that it belongs to."""
    exit: LedgerRow | None
    """Of an entry: how the stay ended, if it has."""
    waiting_seq: int | None
    """The number of the event's own message while central has not acknowledged it."""
    in_store: tuple[StoreCount, ...]
    """What all shoppers had been offered by then, where a promotion was withheld for that."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found, oldest first."""

    epoch: str
    facts: tuple[Facts, ...]
    left_out: bool
    """Whether there are older ones that match."""


def read(db: Database, wanted: Wanted) -> Found:
    """The decisions wanted; none where a row or an offer does not exist."""
    epoch = str(db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()[0])
    rows = [_row(found) for found in _rows(db, wanted)]
    newest = rows[: wanted.newest]
    facts = tuple(_facts(db, row, wanted.day_start_ms) for row in reversed(newest))
    return Found(epoch, facts, len(rows) > len(newest))


def _rows(db: Database, wanted: Wanted) -> Iterable[tuple[Any, ...]]:
    """Newest first, one more than wanted."""
    row = wanted.row
    if wanted.offer is not None:
        found = db.execute("SELECT ledger FROM offer WHERE offer = ?", [wanted.offer]).fetchone()
        row = -1 if found is None else found[0]
    if row is not None:
        return db.execute(f"SELECT {_COLUMNS} FROM ledger WHERE id = ?", [row]).fetchall()  # noqa: S608 -- a constant
    kinds = "1" if wanted.every_event else _DECISIONS
    query = (
        f"SELECT {_COLUMNS} FROM ledger WHERE wall_ms >= ?1 AND (?2 IS NULL OR zone = ?2) AND {kinds}"  # noqa: S608 -- likewise
        " ORDER BY wall_ms DESC, id DESC LIMIT ?3"
    )
    since_ms = -1 if wanted.since_wall_ms is None else wanted.since_wall_ms
    return db.execute(query, [since_ms, wanted.zone, wanted.newest + 1]).fetchall()


def ledger_rows(db: Database, types: Sequence[str], from_ms: int, until_ms: int) -> Iterator[LedgerRow]:
    """Of these types, of a time (wall milliseconds, the end exclusive), in the order of the ledger."""
    places = ", ".join("?" * len(types))
    question = f"SELECT {_COLUMNS} FROM ledger WHERE wall_ms >= ? AND wall_ms < ? AND type IN ({places}) ORDER BY id"  # noqa: S608 -- constants
    for found in db.execute(question, [from_ms, until_ms, *types]):
        yield _row(found)


def _row(found: tuple[Any, ...]) -> LedgerRow:
    *known, withheld, evidence = found
    try:
        return LedgerRow(*known, json.loads(withheld), json.loads(evidence))  # type: ignore[call-arg]
    except ValueError as error:
        raise sqlite3.DatabaseError(f"malformed: row {found[0]} of the ledger") from error


def _facts(db: Database, row: LedgerRow, day_start_ms: int) -> Facts:
    shopper = row.shopper
    return Facts(
        row,
        offers=tuple(_offer(db, row, found) for found in _offers(db, row.id)),
        before=() if shopper is None or row.circumstances is None else tuple(_before(db, row, shopper)),
        entry=_neighbour(db, row, "zone.entered", later=False) if row.type in {"zone.dwelled", "zone.exited"} else None,
        exit=_neighbour(db, row, "zone.exited", later=True) if row.type == "zone.entered" else None,
        waiting_seq=None if shopper is None else _waiting(db, shopper, f"{row.type}.v1", row.wall_ms, row.visit),
        in_store=in_store(db, row.wall_ms - _REMEMBER_MS, day_start_ms, row.id, row.wall_ms)
        if WithheldReason.CAP_STORE in row.withheld
        else (),
    )


def _offers(db: Database, row: int) -> list[tuple[Any, ...]]:
    return db.execute(
        "SELECT offer, promotion_id, kind, wall_ms, deadline_wall_ms, state, reason, decided_wall_ms, push FROM offer"
        " WHERE ledger = ? ORDER BY rowid",
        [row],
    ).fetchall()


def _offer(db: Database, row: LedgerRow, found: tuple[Any, ...]) -> OfferRow:
    waiting = None if row.shopper is None else _waiting(db, row.shopper, "offer.matched.v1", row.wall_ms, found[0])
    return OfferRow(*found[:-1], waiting, bool(found[-1]))  # type: ignore[call-arg]


def _before(db: Database, row: LedgerRow, shopper: str) -> Iterable[PastOffer]:
    """The shopper's offers of the day before this row, in the order in which they were made."""
    found = db.execute(
        "SELECT o.offer, o.shopper, o.visit, o.promotion_id, o.kind, o.cool_down_group, o.cool_down_ms, o.wall_ms,"
        " o.deadline_wall_ms, o.state, o.push, o.reason, o.decided_wall_ms FROM ledger AS l JOIN offer AS o ON o.ledger = l.id"
        " WHERE l.shopper = ? AND l.id < ? AND l.wall_ms > ? ORDER BY l.id, o.rowid",
        [shopper, row.id, row.wall_ms - _REMEMBER_MS],
    ).fetchall()
    for *columns, decided_ms in found:
        past = past_offer(tuple(columns))
        # What was refused later counted still.
        is_later = past.state == "refused" and decided_ms is not None and decided_ms >= row.wall_ms
        yield replace(past, state="proposed") if is_later else past


def _neighbour(db: Database, row: LedgerRow, kind: LedgerType, *, later: bool) -> LedgerRow | None:
    """The nearest row of this kind about the same stay, found through the shopper, who must not be erased."""
    side, order = (">", "") if later else ("<", " DESC")
    query = (
        f"SELECT {_COLUMNS} FROM ledger WHERE shopper = ? AND type = ? AND visit = ? AND zone = ? AND id {side} ?"  # noqa: S608
        f" ORDER BY id{order} LIMIT 1"
    )
    found = db.execute(query, [row.shopper, kind, row.visit, row.zone, row.id]).fetchone()
    return None if found is None else _row(found)


def _waiting(db: Database, shopper: str, kind: str, wall_ms: int, mentions: str) -> int | None:
    found = db.execute(
        "SELECT seq FROM outbox WHERE shopper = ? AND type = ? AND wall_ms = ? AND instr(data, ?) > 0",
        [shopper, kind, wall_ms, json.dumps(mentions)],
    ).fetchone()
    return None if found is None else int(found[0])
