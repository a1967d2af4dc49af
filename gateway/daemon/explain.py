"""Why a decision was made, from the sighting to central's answer; blocking, so a daemon asks in a thread.

::

    ledger row ──▶ sightings, belief, stay
        ├──▶ the shopper's offers before it ─ decide_again ─▶ every promotion of the zone, with its reason
        └──▶ its offers ─▶ central's answers; outbox ─▶ whether central has been told

What the app has said is central's to know; the command line asks there (cli/why.py).
"""

from collections.abc import Callable, Iterable
from datetime import tzinfo
from functools import partial
from math import exp
from pathlib import Path
from typing import Any

from gateway.contract.control import ExplainRequest
from gateway.contract.explanations import Belief, Delivery, Explanation, Explanations, Heard, LeafExplained, OfferExplained, Stay
from gateway.core.conditions import ShopperContext
from gateway.core.model import Consent, NotEntered, Shop
from gateway.core.offers import Catalogue
from gateway.core.timetable import local_time
from gateway.daemon.decide_again import DecideAgain
from gateway.daemon.nearly import not_entered
from gateway.daemon.plain_words import EXITS, REFUSALS, duration
from gateway.errors import TryAgain
from gateway.io.store.explanations import Facts, OfferRow, Wanted, read
from gateway.io.store.looking import look

_EPOCH_DIGITS = 8
_MOST_TIMES = 1_000_000


def explain(  # noqa: PLR0913 -- each has its name at the call
    database: Path,
    request: ExplainRequest,
    *,
    shop: Shop,
    catalogue: Catalogue | None,
    time_zone: tzinfo,
    now_ms: int,
    day_start_ms: int = 0,
    context_of: Callable[[str], tuple[int, ShopperContext] | None] = lambda _: None,
    nearly: Iterable[NotEntered] = (),
) -> Explanations:
    """What was asked for, with the shop and the catalogue now in force.

    ``context_of``: version and content of what is known of a shopper now, ``nearly``: what did not happen; only a running daemon
    has any.
    A decision of another database is not found. ``TryAgain`` where there is none yet, ``DiskError`` when it is unreadable.
    """
    prefix, _, number = (request.decision or "").rpartition("d")
    wanted = Wanted(
        newest=request.newest,
        row=int(number) if number else None,
        offer=request.offer,
        zone=request.zone,
        since_wall_ms=None if request.since_s is None else now_ms - request.since_s * 1000,
        every_event=request.every_event,
        day_start_ms=day_start_ms,
    )
    found = look(database, partial(read, wanted=wanted), None)
    if found is None:
        raise TryAgain("there is no ledger yet: the gateway has never run with these settings.", where=str(database))
    is_ours = found.epoch.startswith(prefix.removesuffix("-"))
    again = DecideAgain(shop, catalogue, time_zone, day_start_ms, context_of)
    story = _Story(found.epoch, time_zone, now_ms)
    return Explanations(
        epoch=found.epoch,
        time_zone=str(time_zone),
        decisions=tuple(story.of(facts, again) for facts in found.facts if is_ours),
        not_entered=not_entered(nearly, request, now_ms, max((facts.row.wall_ms for facts in found.facts), default=None)),
        left_out=found.left_out,
    )


class _Story:
    """Tells what the facts of one database say."""

    def __init__(self, epoch: str, time_zone: tzinfo, now_ms: int) -> None:
        self._epoch = epoch
        self._time_zone = time_zone
        self._now_ms = now_ms

    def of(self, facts: Facts, again: DecideAgain) -> Explanation:
        row = facts.row
        # A dwell rests on what was heard when the shopper entered.
        witness = row if facts.entry is None or row.type != "zone.dwelled" else facts.entry
        is_matched = row.type in {"zone.entered", "zone.dwelled"} or (row.type == "zone.exited" and row.circumstances is not None)
        matching, audiences = again.matching(facts) if is_matched else (None, {})
        return Explanation(
            decision=f"{self._epoch[:_EPOCH_DIGITS]}-d{row.id}",
            time=row.wall_ms,
            event=row.type,
            zone=row.zone,
            visit=row.visit,
            test_shopper=row.circumstances is not None and row.circumstances.is_test,
            heard=tuple(Heard(anchor=a.anchor, level_dbm=a.level_dbm, source=a.source) for a in witness.anchors),
            belief=_belief(witness.evidence),
            stay=self._stay(facts),
            delivery=self._delivery_of_event(facts),
            matching=matching,
            offers=tuple(self._offer(facts, offer, audiences.get(offer.promotion_id, ())) for offer in facts.offers),
        )

    def _stay(self, facts: Facts) -> Stay | None:
        row, entry = facts.row, facts.row if facts.row.type == "zone.entered" else facts.entry
        entered_ms = None if entry is None else entry.wall_ms
        if row.type == "zone.dwelled":
            since = "" if entered_ms is None else f", since {self._clock(entered_ms)}"
            stayed_s = row.evidence["dwell_ms"] / 1000
            return Stay(entered_time=entered_ms, stayed_s=stayed_s, detail=f"stayed {stayed_s:g} s by then{since}")
        left = row if row.type == "zone.exited" else facts.exit
        if left is not None:
            stayed_s, reason = left.evidence["stayed_ms"] / 1000, left.evidence["reason"]
            detail = f"stayed {stayed_s:.0f} s, then left ({reason}): {EXITS[reason]}"
            return Stay(entered_time=entered_ms, stayed_s=stayed_s, exit_reason=reason, detail=detail)
        if row.zone is None:
            return None
        detail = "for how long is not known any more" if row.shopper is None else "has not left since"
        return Stay(entered_time=entered_ms, detail=detail)

    # ---- central --------------------------------------------------------------------------------------------------------------

    def _offer(self, facts: Facts, offer: OfferRow, audience: tuple[LeafExplained, ...]) -> OfferExplained:
        answered = offer.state in {"granted", "refused"} and offer.decided_wall_ms is not None
        answered_ms = max(0, (offer.decided_wall_ms or 0) - offer.wall_ms) if answered else None
        return OfferExplained(
            offer=offer.offer,
            promotion_id=offer.promotion_id,
            kind=offer.kind,
            push=offer.push,
            audience=audience,
            deadline=offer.deadline_wall_ms,
            state=offer.state,
            reason=offer.reason,
            answered_ms=answered_ms,
            detail=self._answer(offer, answered_ms),
            delivery=self._delivery(facts, offer.waiting_seq),
        )

    def _answer(self, offer: OfferRow, answered_ms: int | None) -> str:
        deadline = self._clock(offer.deadline_wall_ms)
        after = "" if answered_ms is None else f" after {duration(answered_ms)}"
        match offer.state:
            case "proposed" if self._now_ms <= offer.deadline_wall_ms:
                return f"no answer yet; waits until {deadline}"
            case "proposed":
                return f"no answer was taken before the deadline, {deadline}; the gateway has not run since"
            case "granted":
                late = (offer.decided_wall_ms or 0) > offer.deadline_wall_ms
                return f"granted{after}" + (f", which the gateway learnt after the deadline, {deadline}" if late else "")
            case "refused":
                back = "push and cap stay spent" if offer.is_still_spent else "push and cap are given back"
                return f"refused{after}: {_refusal(offer.reason)}; {back}"
            case "late":
                later = "" if offer.reason in {"", "late"} else f"; refused afterwards: {_refusal(offer.reason)}"
                return f"late: no grant came by the deadline, {deadline}; push and cap stay spent{later}"

    def _delivery_of_event(self, facts: Facts) -> Delivery:
        consent = facts.row.consent
        if consent is not None and not consent & Consent.ANALYTICS:
            return Delivery(state="not_told", detail="not told to central, because the shopper has not consented to statistics")
        return self._delivery(facts, facts.waiting_seq)

    def _delivery(self, facts: Facts, waiting_seq: int | None) -> Delivery:
        if facts.row.shopper is None:
            return Delivery(state="erased", detail="no longer known, because the shopper has been erased")
        if waiting_seq is None:
            return Delivery(state="acknowledged", detail="acknowledged by central")
        event = f"{self._epoch}-{waiting_seq}"
        since = duration(max(0, self._now_ms - facts.row.wall_ms))
        return Delivery(state="waiting", event=event, detail=f"not acknowledged by central for {since} (event {event})")

    def _clock(self, wall_ms: int) -> str:
        return local_time(wall_ms, self._time_zone).strftime("%H:%M:%S")


def _belief(evidence: dict[str, Any]) -> Belief | None:
    if "belief" not in evidence:
        return None
    times = min(exp(evidence["margin"]), _MOST_TIMES)
    return Belief(
        probability=evidence["belief"],
        runner_up=evidence["runner_up"],
        times_likelier=round(times, 1),
        near_border=evidence.get("near_border", False),
    )


def _refusal(reason: str) -> str:
    meaning = REFUSALS.get(reason)
    return reason if meaning is None else f"{reason}, {meaning}"
