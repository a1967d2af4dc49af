"""Grant or refuse, pure: the gateway has decided zone, window, caps and audience; central holds what only it can know."""

from dataclasses import dataclass

from gateway.contract.messages import OfferMatchedData, RefusalReason
from gateway.contract.promotions import Promotion
from gateway.core.conditions import AllOf, AnyOf, Condition, Leaf, NotOf, ShopperContext, Situation, compiled
from gateway.core.model import PUSH_KINDS, Consent
from gateway.core.money import Money


@dataclass(frozen=True, slots=True)
class Facts:
    """What central knows about one proposal."""

    now_ms: int
    inbox: str | None
    consent: Consent
    promotion: Promotion | None
    granted_today: int
    """Offers of this promotion that this shopper has been granted in this store today."""
    pushes_this_visit: int
    pushes_per_visit: int
    decides: bool = True
    """Whether the gateway that proposes is the one that decides in the store."""
    is_test: bool = False
    """A technician's test shopper, for whom no caps exist."""
    is_stopped: bool = False
    """The shopper has complained."""
    muted_categories: frozenset[str] = frozenset()
    granted_this_week: int = 0
    """Of this promotion to this shopper within seven days, in all stores."""
    granted_ever: int = 0
    granted_to_all_today: int = 0
    """Of this promotion to anybody today, in all stores."""
    granted_in_store_today: int = 0
    granted_this_visit: int = 0
    """Of this promotion to this shopper."""
    cools_down: bool = False
    """Whether its group does, for this shopper."""
    is_left: bool = True
    """Whether there is a piece of it."""
    basket: Money | None = None
    """What the shopper has spent in the store today."""


def refusal(proposal: OfferMatchedData, facts: Facts) -> RefusalReason | None:  # noqa: PLR0911 -- a reason each
    """The reason to refuse, or ``None`` to grant.

    Caps of visit, day and store and cool-downs are the gateway's; they are looked at again because a gateway that lost its
    database proposes the same again, and so does one that took over from another. Who is held out is decided after this, of
    those who would be granted.
    """
    promotion = facts.promotion
    if not facts.decides:
        return "not_decider"
    if facts.now_ms >= proposal.deadline:
        return "late"
    if facts.inbox is None:
        return "unknown_shopper"
    if not facts.consent & Consent.OFFERS:
        return "no_consent"
    if facts.is_stopped:
        return "stopped"
    if promotion is None:
        return "unknown_promotion"
    if is_over(promotion, facts.now_ms) or is_refuted(promotion, facts.basket):
        return "out_of_date"
    if facts.is_test:
        return None
    if promotion.category in facts.muted_categories:
        return "muted_category"
    return _spent(proposal, promotion, facts)


def _spent(proposal: OfferMatchedData, promotion: Promotion, facts: Facts) -> RefusalReason | None:
    caps: tuple[tuple[RefusalReason, int, int | None], ...] = (
        ("already_granted", facts.granted_today, promotion.daily_cap),
        ("cap_lifetime", facts.granted_ever, promotion.lifetime_cap),
        ("cap_week", facts.granted_this_week, promotion.weekly_cap),
        ("cap_visit", facts.granted_this_visit, promotion.visit_cap),
        ("cap_store", facts.granted_in_store_today, promotion.store_cap_day),
        ("cap_chain", facts.granted_to_all_today, promotion.chain_cap_day),
    )
    for reason, granted, cap in caps:
        if cap is not None and granted >= cap:
            return reason
    if facts.cools_down:
        return "cool_down"
    if proposal.push and proposal.kind in PUSH_KINDS and facts.pushes_this_visit >= facts.pushes_per_visit:
        return "push_spent"
    return None if facts.is_left else "quantity"


def is_over(promotion: Promotion, now_ms: int) -> bool:
    """Whether its last moment has passed."""
    until_ms = promotion.compiled().effective_until_ms
    return until_ms is not None and now_ms >= until_ms


def is_refuted(promotion: Promotion, basket: Money | None) -> bool:
    """Whether this basket alone keeps the shopper out of the audience, whatever else is true of her."""
    condition = promotion.compiled().audience
    return condition is not None and _holds(condition, ShopperContext(basket_today=basket)) is False


def _holds(condition: Condition, context: ShopperContext) -> bool | None:
    """What the basket says of a condition; ``None``: nothing."""
    match condition:
        case Leaf():
            return compiled(condition)(context, Situation(0, 0)) if condition.field == "basket_today" else None
        case AllOf(parts) | AnyOf(parts):
            found = [_holds(part, context) for part in parts]
            decisive = isinstance(condition, AnyOf)
            if decisive in found:
                return decisive
            return None if None in found else not decisive
        case NotOf(part):
            inner = _holds(part, context)
            return None if inner is None else not inner
