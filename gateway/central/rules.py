"""Grant or refuse, pure: the gateway has decided zone, window, caps and audience; central holds what only it can know."""

from dataclasses import dataclass

from gateway.contract.messages import OfferMatchedData, RefusalReason
from gateway.contract.promotions import Promotion
from gateway.core.model import PUSH_KINDS, Consent


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


def refusal(proposal: OfferMatchedData, facts: Facts) -> RefusalReason | None:  # noqa: PLR0911 -- a reason each
    """The reason to refuse, or ``None`` to grant.

    Caps are the gateway's; they are looked at again because a gateway that lost its database proposes the same again, and so does
    one that took over from another.
    """
    if not facts.decides:
        return "not_decider"
    if facts.now_ms >= proposal.deadline:
        return "late"
    if facts.inbox is None:
        return "unknown_shopper"
    if not facts.consent & Consent.OFFERS:
        return "no_consent"
    if facts.promotion is None:
        return "unknown_promotion"
    if facts.is_test:
        return None
    if facts.granted_today >= facts.promotion.daily_cap:
        return "already_granted"
    if proposal.kind in PUSH_KINDS and facts.pushes_this_visit >= facts.pushes_per_visit:
        return "push_spent"
    return None
