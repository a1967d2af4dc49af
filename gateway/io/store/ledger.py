"""What was decided and why: one row per presence event, the day's offers, and the visits that are open."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from pydantic_core import to_json

from gateway.core.model import (
    STILL_SPENT,
    Consent,
    Dwelled,
    Entered,
    Evidence,
    Exited,
    Memory,
    OfferMatched,
    OpenVisit,
    Outcome,
    PastOffer,
    PresenceEvent,
    StoreCount,
    Verdict,
    VisitEnded,
    VisitStarted,
)
from gateway.io.store.database import insert
from gateway.io.store.sqlite import Database

_TYPES: dict[type[PresenceEvent], str] = {
    VisitStarted: "visit.started",
    Entered: "zone.entered",
    Dwelled: "zone.dwelled",
    Exited: "zone.exited",
    VisitEnded: "visit.ended",
}
_REMEMBER_MS = 26 * 3600 * 1000
"""Longer than a store's day with the skew of both ends."""
_DAY_MS = 24 * 3600 * 1000
_LAST_ROW = 2**63 - 1


LedgerRow = tuple[int, str, str, str, str | None, int | None, str, str]
"""The columns of a row after its number, in their order."""


def to_row(outcome: Outcome) -> LedgerRow:
    """What the ledger keeps of one outcome, beside its offers."""
    event = outcome.event
    withheld = Counter([withheld.reason.value for withheld in outcome.withheld])
    return (
        event.at.wall_ms,
        _TYPES[type(event)],
        event.shopper,
        event.visit,
        getattr(event, "zone", None),
        outcome.catalogue_version,
        _to_json(withheld),
        _to_json(_evidence(event) | _what_decided(outcome)),
    )


def record(db: Database, outcomes: Sequence[Outcome], rows: Sequence[LedgerRow]) -> None:
    """One row for each event (``to_row``), one per offer, and the visits as they are now; part of the caller's transaction."""
    columns = "wall_ms, type, shopper, visit, zone, catalogue_version, withheld, evidence"
    first = insert(db, f"INSERT INTO ledger ({columns})", rows) - len(rows) + 1
    _insert_offers(db, [_offer_row(offer, number) for number, outcome in enumerate(outcomes, first) for offer in outcome.offers])
    _follow_visits(db, [outcome.event for outcome in outcomes])


def complete(db: Database, rests: Iterable[Outcome], rows: Iterable[LedgerRow]) -> None:
    """Rows of earlier events as they are now that the shopper's context has come (``to_row``), and what else was offered."""
    for rest, row in zip(rests, rows, strict=True):
        wall_ms, kind, _, visit, zone, version, withheld, evidence = row
        found = db.execute(
            "SELECT id FROM ledger WHERE wall_ms = ? AND type = ? AND visit = ? AND zone = ? ORDER BY id DESC LIMIT 1",
            [wall_ms, kind, visit, zone],
        ).fetchone()
        # A wrong clock may have made it look old enough to be deleted; then nothing refers to it.
        if found is not None:
            changed = [version, withheld, evidence, found[0]]
            db.execute("UPDATE ledger SET catalogue_version = ?, withheld = ?, evidence = ? WHERE id = ?", changed)
            _insert_offers(db, [_offer_row(offer, found[0]) for offer in rest.offers])


def _insert_offers(db: Database, rows: list[tuple[Any, ...]]) -> None:
    insert(
        db,
        "INSERT INTO offer (offer, ledger, shopper, visit, zone, promotion_id, kind, cool_down_group, cool_down_ms, wall_ms,"
        " deadline_wall_ms, state, push)",
        rows,
    )


def _offer_row(offer: OfferMatched, ledger: int) -> tuple[Any, ...]:
    return (
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
        "proposed",
        int(offer.push),
    )


def _follow_visits(db: Database, events: Iterable[PresenceEvent]) -> None:
    """Bring the open visits up to date: read, follow the events in their order, write back."""
    events = list(events)
    names = json.dumps(sorted({event.shopper for event in events}))
    # As one row: each row of an answer is a step of its own (see ``insert``).
    found = db.execute(
        "SELECT json_group_array(json_array(shopper, visit, consent, started_wall_ms, zones, zone, entered_wall_ms, dwelled_ms,"
        " last_event_wall_ms)) FROM visit WHERE shopper IN (SELECT value FROM json_each(?))",
        [names],
    ).fetchone()[0]
    visits = {row[0]: OpenVisit(row[0], row[1], Consent(row[2]), *row[3:]) for row in json.loads(found)}
    for event in events:
        visit = _after(visits.pop(event.shopper, None), event)
        if visit is not None:
            visits[event.shopper] = visit
    insert(db, "INSERT OR REPLACE INTO visit", [_visit_row(visit) for visit in visits.values()])
    ended = [event.shopper for event in events if event.shopper not in visits]
    if ended:
        db.execute("DELETE FROM visit WHERE shopper IN (SELECT value FROM json_each(?))", [json.dumps(ended)])


def _after(visit: OpenVisit | None, event: PresenceEvent) -> OpenVisit | None:
    """The shopper's open visit after ``event``; only the beginning of a visit opens one."""
    at_ms = event.at.wall_ms
    if isinstance(event, VisitStarted):
        return OpenVisit(event.shopper, event.visit, event.consent, at_ms, 0, None, None, 0, at_ms)
    if visit is None or isinstance(event, VisitEnded):
        return None
    if isinstance(event, Exited):
        return replace(visit, zone=None, entered_wall_ms=None, last_event_wall_ms=event.left_at.wall_ms)
    if isinstance(event, Dwelled):
        return replace(visit, dwelled_ms=event.dwell_ms, last_event_wall_ms=at_ms)
    return replace(
        visit,
        zone=event.zone,
        entered_wall_ms=at_ms,
        dwelled_ms=0,
        zones=visit.zones + 1,
        consent=event.consent,
        last_event_wall_ms=at_ms,
    )


def _visit_row(visit: OpenVisit) -> tuple[Any, ...]:
    return (
        visit.shopper,
        visit.visit,
        int(visit.consent),
        visit.started_wall_ms,
        visit.zones,
        visit.zone,
        visit.entered_wall_ms,
        visit.dwelled_ms,
        visit.last_event_wall_ms,
    )


def _to_json(value: dict[str, Any]) -> str:
    return to_json(value).decode()


def _evidence(event: PresenceEvent) -> dict[str, Any]:
    match event:
        case Entered():
            return {**_what_was_heard(event.evidence), **({"first": True} if event.is_first else {})}
        case Dwelled():
            return {"dwell_ms": event.dwell_ms}
        case Exited():
            stayed = {"reason": event.reason, "stayed_ms": event.left_at.mono_ms - event.entered_at.mono_ms}
            return stayed if event.evidence is None else {**stayed, **_what_was_heard(event.evidence)}
        case VisitEnded():
            return {"zones": event.zones}
    return {}


def _what_was_heard(evidence: Evidence) -> dict[str, Any]:
    return {
        "belief": evidence.belief,
        "margin": evidence.margin,
        "runner_up": evidence.runner_up,
        "anchors": [[level.anchor, level.level_dbm, level.source] for level in evidence.anchors],
        **({"near_border": True} if evidence.near_border else {}),
    }


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
            "zone_is_blind": circumstances.zone_is_blind,
        }
    if outcome.context_version is not None:
        # Which it was, never what it said.
        decided["context"] = outcome.context_version
    if outcome.is_rest:
        decided["waited"] = True
    return decided


def decide(db: Database, verdicts: Iterable[tuple[Verdict, int]]) -> None:
    """Note how proposals ended, each with when (wall ms); a grant that comes after ``late`` is noted, one after a refusal is not.

    A refusal after ``late`` gives only its reason: the push stays spent, as it does in the running process.
    """
    rest = list(verdicts)
    while rest:
        # In one statement, because each is a step of its own (see ``insert``); what is said of an offer again comes after it.
        said: dict[str, tuple[str, str, str, int]] = {}
        again: list[tuple[Verdict, int]] = []
        for verdict, wall_ms in rest:
            if verdict.offer in said:
                again.append((verdict, wall_ms))
            else:
                said[verdict.offer] = verdict.offer, verdict.state, verdict.reason, wall_ms
        db.execute(
            "UPDATE offer SET state = CASE WHEN offer.state = 'late' AND said.state = 'refused' THEN 'late' ELSE said.state END,"
            " reason = said.reason, decided_wall_ms = said.wall_ms FROM (SELECT value ->> 0 AS offer, value ->> 1 AS state,"
            " value ->> 2 AS reason, value ->> 3 AS wall_ms FROM json_each(?)) AS said"
            " WHERE offer.offer = said.offer AND offer.state IN ('proposed', 'late')",
            [json.dumps(list(said.values()))],
        )
        rest = again


def erase(db: Database, shoppers: Sequence[str]) -> None:
    """Remove the pseudonyms; what happened stays countable."""
    names = [json.dumps(shoppers)]
    db.execute("UPDATE ledger SET shopper = NULL WHERE shopper IN (SELECT value FROM json_each(?))", names)
    db.execute("UPDATE offer SET shopper = NULL WHERE shopper IN (SELECT value FROM json_each(?))", names)
    db.execute("DELETE FROM visit WHERE shopper IN (SELECT value FROM json_each(?))", names)


def expire(db: Database, *, pseudonyms_before_ms: int, rows_before_ms: int) -> None:
    """Retention: pseudonyms go first, whole rows later."""
    db.execute("UPDATE ledger SET shopper = NULL WHERE shopper IS NOT NULL AND wall_ms < ?", [pseudonyms_before_ms])
    db.execute("UPDATE offer SET shopper = NULL WHERE shopper IS NOT NULL AND wall_ms < ?", [pseudonyms_before_ms])
    db.execute("DELETE FROM visit WHERE last_event_wall_ms < ?", [pseudonyms_before_ms])
    db.execute("DELETE FROM ledger WHERE wall_ms < ?", [rows_before_ms])


def recall(db: Database, alive_wall_ms: int | None, now_wall_ms: int, day_start_ms: int) -> Memory:
    """What the pipeline takes back after a restart; ``day_start_ms``: when the store's day begins, after midnight UTC."""
    visits = db.execute(
        "SELECT shopper, visit, consent, started_wall_ms, zones, zone, entered_wall_ms, dwelled_ms, last_event_wall_ms FROM visit"
    ).fetchall()
    offers = db.execute(
        "SELECT offer, shopper, visit, promotion_id, kind, cool_down_group, cool_down_ms, wall_ms, deadline_wall_ms, state,"
        " push, reason FROM offer WHERE shopper IS NOT NULL AND wall_ms > ? ORDER BY wall_ms",
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
        in_store(db, now_wall_ms - 2 * _DAY_MS, day_start_ms),
    )


def past_offer(row: tuple[Any, ...]) -> PastOffer:
    """From the columns of ``PastOffer``, in this order."""
    past = PastOffer(*row)
    return replace(past, state="granted" if past.reason in STILL_SPENT else past.state, push=bool(past.push))


def in_store(
    db: Database, since_ms: int, day_start_ms: int, before_row: int = _LAST_ROW, at_ms: int = 0
) -> tuple[StoreCount, ...]:
    """How often each promotion was offered to all shoppers on each day of the store, a technician's test shoppers left out.

    Refusals do not count that came before ``at_ms``; ``before_row``: only by decisions before this one.
    """
    rows = db.execute(
        "SELECT o.promotion_id, (o.wall_ms - ?1) / ?2, count(*) FROM offer AS o JOIN ledger AS l ON l.id = o.ledger"
        " WHERE o.wall_ms > ?3 AND l.id < ?4 AND NOT coalesce(json_extract(l.evidence, '$.circumstances.is_test'), 0)"
        " AND (o.state <> 'refused' OR (?5 > 0 AND o.decided_wall_ms >= ?5) OR o.reason IN (SELECT value FROM json_each(?6)))"
        " GROUP BY 1, 2",
        [day_start_ms, _DAY_MS, since_ms, before_row, at_ms, json.dumps(sorted(STILL_SPENT))],
    ).fetchall()
    return tuple(StoreCount(*row) for row in rows)
