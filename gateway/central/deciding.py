"""Decisions as they are made and undone: a proposal is granted or refused once, and a grant may be withdrawn."""

from dataclasses import dataclass, replace
from typing import Literal

from sqlite_utils import Database

from gateway.central import holdout, pieces, reactions, records
from gateway.central.contexts import Desk, day_at
from gateway.central.records import Decided
from gateway.central.rules import Facts, is_refuted, refusal
from gateway.contract.messages import AppOffer, AppOfferData, OfferMatchedData, WithdrawnOffer, WithdrawnOfferData
from gateway.core.model import Consent

_WEEK_MS = 7 * 86_400_000
_WITHDRAWN_FOR_MS = 30 * 86_400_000
"""An app that has not been there for so long shows nothing old."""


def decide(
    db: Database, desk: Desk, gateway: str, proposal: OfferMatchedData, *, visit: int, secret: bytes, now_ms: int
) -> Decided:
    """Grant or refuse once, in the caller's transaction; a proposal that comes again gets the same answer."""
    before = records.decision_of(db, proposal.offer)
    if before is not None:
        return before
    store = desk.store
    if proposal.push and desk.is_quiet(now_ms):
        # The gateway's clock or catalogue differs: what may not ring now is shown silently.
        proposal = proposal.model_copy(update={"push": False})
    owner = records.inbox_of(db, store, proposal.shopper)
    inbox, is_test = (None, False) if owner is None else (owner[0], owner[2])
    facts = _facts(db, desk, gateway, proposal, visit=visit, owner=owner, now_ms=now_ms)
    reason = refusal(proposal, facts)
    promotion = facts.promotion
    if reason is None and promotion is not None and inbox is not None and not is_test:
        # Only now: whoever would have been refused anyway must be in neither of the groups that are compared.
        reason = "holdout" if holdout.is_held_out(db, secret, inbox, promotion, now_ms) else None
    decided = records.keep_decision(
        db,
        store,
        gateway,
        proposal,
        inbox=inbox,
        visit=visit,
        reason=reason,
        now_ms=now_ms,
        promotion=promotion,
        is_test=is_test,
    )
    if reason is None and inbox is not None and promotion is not None:
        reserved_until = None if is_test else pieces.take(db, proposal.offer, store, promotion, now_ms)
        reactions.note_reminded(db, inbox, promotion, now_ms)
        offer = AppOffer(
            id=proposal.offer,
            source=desk.source,
            time=now_ms,
            expirytime=proposal.deadline,
            data=AppOfferData.granted(store, proposal, promotion, reserved_until),
        )
        records.queue_for_app(db, proposal.offer, inbox, offer.to_json(), proposal.deadline)
    return decided


def _facts(
    db: Database,
    desk: Desk,
    gateway: str,
    proposal: OfferMatchedData,
    *,
    visit: int,
    owner: tuple[str, Consent, bool] | None,
    now_ms: int,
) -> Facts:
    store, promotion_id = desk.store, proposal.promotion_id
    claim = records.claim_of(db, store)
    promotion = desk.promotions.get(promotion_id)
    inbox, consent, is_test = (None, Consent.NONE, False) if owner is None else owner
    facts = Facts(
        now_ms=now_ms,
        inbox=inbox,
        consent=consent,
        promotion=promotion,
        granted_today=records.granted_today(db, store, proposal.shopper, promotion_id),
        pushes_this_visit=records.pushes_in_visit(db, store, proposal.shopper, visit),
        pushes_per_visit=desk.settings.pushes_per_visit,
        decides=claim is None or claim.gateway == gateway,
        is_test=is_test,
    )
    if inbox is None or promotion is None:
        return facts
    return replace(
        facts,
        is_stopped=reactions.is_stopped(db, inbox),
        muted_categories=frozenset(reactions.muted_categories(db, inbox, now_ms)),
        granted_this_week=records.granted_since(db, inbox, promotion_id, now_ms - _WEEK_MS),
        granted_ever=records.granted_ever(db, inbox, promotion_id),
        granted_to_all_today=records.granted_to_all_since(db, promotion_id, day_at(desk.settings, now_ms).from_ms),
        granted_in_store_today=records.granted_in_store_since(db, store, promotion_id, day_at(desk.settings, now_ms).from_ms),
        granted_this_visit=records.granted_in_visit(db, store, proposal.shopper, visit, promotion_id),
        cools_down=records.cools_down(db, store, proposal.shopper, records.cool_down_group(promotion), proposal.matched_time),
        is_left=pieces.is_left(db, store, promotion, now_ms),
        basket=desk.basket(db, inbox, now_ms),
    )


# ---- taking back --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Open:
    """A grant that was neither redeemed nor withdrawn."""

    offer: str
    promotion_id: str
    kind: str


def open_grants(db: Database, inbox: str, store: str, since_ms: int) -> list[Open]:
    """A shopper's, in one store, since then."""
    rows = db.execute(
        "SELECT offer, promotion_id, kind FROM offer WHERE inbox = ? AND store = ? AND reason IS NULL AND withdrawn IS NULL"
        " AND decided_ms >= ? AND NOT EXISTS (SELECT 1 FROM receipt WHERE receipt.offer = offer.offer AND state = 'redeemed')"
        " ORDER BY offer",
        [inbox, store, since_ms],
    )
    return [Open(*row) for row in rows.fetchall()]


def withdraw_refuted(db: Database, desk: Desk, inbox: str, now_ms: int) -> int:
    """What was granted today for a basket that has shrunk since; returns how many."""
    basket = desk.basket(db, inbox, now_ms)
    count = 0
    for grant in open_grants(db, inbox, desk.store, day_at(desk.settings, now_ms).from_ms):
        promotion = desk.promotions.get(grant.promotion_id)
        if promotion is not None and is_refuted(promotion, basket):
            withdraw(db, desk, inbox, grant, "refund", now_ms)
            count += 1
    return count


def withdraw(
    db: Database, desk: Desk, inbox: str, grant: Open, reason: Literal["refund", "stopped", "collected"], now_ms: int
) -> None:
    """Take a grant back: the app is told until it says so, and a counted piece is to be had again."""
    promotion = desk.promotions.get(grant.promotion_id)
    until_ms = now_ms + _WITHDRAWN_FOR_MS
    if promotion is not None and promotion.valid_until_ms is not None:
        until_ms = min(until_ms, max(promotion.valid_until_ms, now_ms + 60_000))
    message = WithdrawnOffer(
        id=records.withdrawal_id(grant.offer),
        source=desk.source,
        time=now_ms,
        expirytime=until_ms,
        data=WithdrawnOfferData(offer=grant.offer, promotion_id=grant.promotion_id, reason=reason),
    )
    db.execute("UPDATE offer SET withdrawn = ? WHERE offer = ?", [reason, grant.offer])
    pieces.give_back(db, grant.offer)
    records.queue_for_app(db, grant.offer, inbox, message.to_json(), until_ms, is_withdrawal=True)
