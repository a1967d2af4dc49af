"""What was decided and why: one row per presence event, the day's offers, and the visits that are open."""

import json
from collections import Counter
from dataclasses import replace
from typing import Any

from sqlite_utils import Database

from gateway.core.model import (
    STILL_SPENT,
    Consent,
    Dwelled,
    Entered,
    Exited,
    Memory,
    OfferMatched,
    OpenVisit,
    Outcome,
    PastOffer,
    PresenceEvent,
    Verdict,
    VisitEnded,
    VisitStarted,
)

_TYPES: dict[type[PresenceEvent], str] = {
    VisitStarted: "visit.started",
    Entered: "zone.entered",
    Dwelled: "zone.dwelled",
    Exited: "zone.exited",
    VisitEnded: "visit.ended",
}
_REMEMBER_MS = 26 * 3600 * 1000
"""Longer than a store's day with the skew of both ends."""


def record(db: Database, outcome: Outcome) -> None:
    """One row for the event, one per offer, and the visit as it is now; part of the caller's transaction."""
    event = outcome.event
    row = db.execute(
        "INSERT INTO ledger (wall_ms, type, shopper, visit, zone, catalogue_version, withheld, evidence)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            event.at.wall_ms,
            _TYPES[type(event)],
            event.shopper,
            event.visit,
            getattr(event, "zone", None),
            outcome.catalogue_version,
            json.dumps(Counter(withheld.reason.value for withheld in outcome.withheld)),
            json.dumps(_evidence(event) | _what_decided(outcome)),
        ],
    )
    ledger = row.lastrowid
    for offer in outcome.offers:
        _record_offer(db, ledger, offer)
    _record_visit(db, event)


def _record_offer(db: Database, ledger: int | None, offer: OfferMatched) -> None:
    db.execute(
        "INSERT INTO offer (offer, ledger, shopper, visit, zone, promotion_id, kind, cool_down_group, cool_down_ms, wall_ms,"
        " deadline_wall_ms, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'proposed')",
        [
            offer.offer,
            ledger,
            offer.shopper,
            offer.visit,
            offer.zone,
            offer.promotion_id,
            offer.kind,
            offer.cool_down_group,
            offer.cool_down_ms,
            offer.at.wall_ms,
            offer.deadline.wall_ms,
        ],
    )


def _record_visit(db: Database, event: PresenceEvent) -> None:
    at_ms = event.at.wall_ms
    match event:
        case VisitStarted():
            db.execute(
                "INSERT OR REPLACE INTO visit VALUES (?, ?, ?, ?, 0, NULL, NULL, 0, ?)",
                [event.shopper, event.visit, int(event.consent), at_ms, at_ms],
            )
        case Entered():
            db.execute(
                "UPDATE visit SET zone = ?, entered_wall_ms = ?, dwelled_ms = 0, zones = zones + 1, consent = ?,"
                " last_event_wall_ms = ? WHERE shopper = ?",
                [event.zone, at_ms, int(event.consent), at_ms, event.shopper],
            )
        case Dwelled():
            db.execute(
                "UPDATE visit SET dwelled_ms = ?, last_event_wall_ms = ? WHERE shopper = ?",
                [event.dwell_ms, at_ms, event.shopper],
            )
        case Exited():
            db.execute(
                "UPDATE visit SET zone = NULL, entered_wall_ms = NULL, last_event_wall_ms = ? WHERE shopper = ?",
                [event.left_at.wall_ms, event.shopper],
            )
        case VisitEnded():
            db.execute("DELETE FROM visit WHERE shopper = ?", [event.shopper])


def _evidence(event: PresenceEvent) -> dict[str, Any]:
    match event:
        case Entered():
            evidence = event.evidence
            return {
                "belief": evidence.belief,
                "margin": evidence.margin,
                "runner_up": evidence.runner_up,
                "anchors": [[level.anchor, level.level_dbm, level.source] for level in evidence.anchors],
            }
        case Dwelled():
            return {"dwell_ms": event.dwell_ms}
        case Exited():
            return {"reason": event.reason, "stayed_ms": event.left_at.mono_ms - event.entered_at.mono_ms}
        case VisitEnded():
            return {"zones": event.zones}
    return {}


def _what_decided(outcome: Outcome) -> dict[str, Any]:
    """What is needed besides the catalogue to decide about the event again."""
    decided: dict[str, Any] = {"consent": int(outcome.event.consent)}
    circumstances = outcome.circumstances
    if circumstances is not None:
        decided["circumstances"] = {
            "quality": circumstances.quality.value,
            "conflict": circumstances.conflict,
            "by_receiver": circumstances.by_receiver,
            "listen_only": circumstances.listen_only,
            "is_test": circumstances.is_test,
        }
    return decided


def decide(db: Database, verdict: Verdict, wall_ms: int) -> None:
    """Note how a proposal ended; a grant that comes after ``late`` is noted, one after a refusal is not.

    A refusal after ``late`` gives only its reason: the push stays spent, as it does in the running process.
    """
    db.execute(
        "UPDATE offer SET state = CASE WHEN state = 'late' AND ?1 = 'refused' THEN state ELSE ?1 END, reason = ?2,"
        " decided_wall_ms = ?3 WHERE offer = ?4 AND state IN ('proposed', 'late')",
        [verdict.state, verdict.reason, wall_ms, verdict.offer],
    )


def erase(db: Database, shopper: str) -> None:
    """Remove the pseudonym; what happened stays countable."""
    db.execute("UPDATE ledger SET shopper = NULL WHERE shopper = ?", [shopper])
    db.execute("UPDATE offer SET shopper = NULL WHERE shopper = ?", [shopper])
    db.execute("DELETE FROM visit WHERE shopper = ?", [shopper])


def expire(db: Database, *, pseudonyms_before_ms: int, rows_before_ms: int) -> None:
    """Retention: pseudonyms go first, whole rows later."""
    db.execute("UPDATE ledger SET shopper = NULL WHERE shopper IS NOT NULL AND wall_ms < ?", [pseudonyms_before_ms])
    db.execute("UPDATE offer SET shopper = NULL WHERE shopper IS NOT NULL AND wall_ms < ?", [pseudonyms_before_ms])
    db.execute("DELETE FROM visit WHERE last_event_wall_ms < ?", [pseudonyms_before_ms])
    db.execute("DELETE FROM ledger WHERE wall_ms < ?", [rows_before_ms])


def recall(db: Database, alive_wall_ms: int | None, now_wall_ms: int) -> Memory:
    """What the pipeline takes back after a restart."""
    visits = db.execute(
        "SELECT shopper, visit, consent, started_wall_ms, zones, zone, entered_wall_ms, dwelled_ms, last_event_wall_ms FROM visit"
    ).fetchall()
    offers = db.execute(
        "SELECT offer, shopper, visit, promotion_id, kind, cool_down_group, cool_down_ms, wall_ms, deadline_wall_ms, state,"
        " reason FROM offer WHERE shopper IS NOT NULL AND wall_ms > ? ORDER BY wall_ms",
        [now_wall_ms - _REMEMBER_MS],
    ).fetchall()
    named = db.execute(
        "SELECT shopper, min(wall_ms) FROM ledger WHERE shopper IS NOT NULL AND wall_ms > ? GROUP BY shopper",
        [now_wall_ms - _REMEMBER_MS],
    ).fetchall()
    return Memory(
        alive_wall_ms,
        tuple(OpenVisit(row[0], row[1], Consent(row[2]), *row[3:]) for row in visits),
        tuple(map(past_offer, offers)),
        tuple((name, first_ms) for name, first_ms in named),
    )


def past_offer(row: tuple[Any, ...]) -> PastOffer:
    """From the columns of ``PastOffer`` and the reason, in this order."""
    past = PastOffer(*row[:-1])
    return replace(past, state="granted") if row[-1] in STILL_SPENT else past
