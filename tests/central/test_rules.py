"""Grant or refuse: every reason, and which comes first."""

from dataclasses import replace

import pytest

from gateway.central.rules import Facts, refusal
from gateway.contract.messages import OfferMatchedData
from gateway.contract.promotions import Promotion
from gateway.core.model import PUSH_KINDS, Consent, PromotionKind

NOW_MS = 1_790_000_000_000
PROMOTION = Promotion.model_validate(
    {"promotion_id": "bread", "long_title": {"en": "Bread"}, "zones": ["bakery"], "daily_cap": 2}
)
CAPPED = PROMOTION.model_copy(
    update={"visit_cap": 2, "store_cap_day": 4, "weekly_cap": 3, "lifetime_cap": 4, "chain_cap_day": 5, "category": "bakery"},
)
GOOD = Facts(
    now_ms=NOW_MS,
    inbox="anna",
    consent=Consent.OFFERS,
    promotion=PROMOTION,
    granted_today=0,
    pushes_this_visit=0,
    pushes_per_visit=1,
)


def proposal(kind: PromotionKind = "offer", deadline: int = NOW_MS + 30_000) -> OfferMatchedData:
    return OfferMatchedData(
        offer="o1",
        promotion_id="bread",
        kind=kind,
        push=kind != "info",
        visit="v1",
        shopper="8a4061daf88a329d",
        zone="bakery",
        matched_time=NOW_MS - 100,
        deadline=deadline,
        catalogue_version=1,
    )


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (GOOD, None),
        (replace(GOOD, consent=Consent.OFFERS | Consent.ANALYTICS), None),
        (replace(GOOD, granted_today=1), None),
        (replace(GOOD, granted_today=2), "already_granted"),
        (replace(GOOD, granted_today=3), "already_granted"),
        (replace(GOOD, inbox=None, consent=Consent.NONE), "unknown_shopper"),
        (replace(GOOD, consent=Consent.NONE), "no_consent"),
        (replace(GOOD, consent=Consent.ANALYTICS), "no_consent"),
        (replace(GOOD, promotion=None), "unknown_promotion"),
        (replace(GOOD, pushes_this_visit=1), "push_spent"),
        (replace(GOOD, pushes_this_visit=1, pushes_per_visit=2), None),
        (replace(GOOD, pushes_per_visit=0), "push_spent"),
        (replace(GOOD, decides=False), "not_decider"),
        (replace(GOOD, decides=False, is_test=True), "not_decider"),
        (replace(GOOD, is_stopped=True), "stopped"),
        (replace(GOOD, is_stopped=True, is_test=True), "stopped"),
        (replace(GOOD, promotion=CAPPED, granted_this_week=2), None),
        (replace(GOOD, promotion=CAPPED, granted_this_week=3), "cap_week"),
        (replace(GOOD, promotion=CAPPED, granted_this_visit=1), None),
        (replace(GOOD, promotion=CAPPED, granted_this_visit=2), "cap_visit"),
        (replace(GOOD, promotion=CAPPED, granted_in_store_today=3), None),
        (replace(GOOD, promotion=CAPPED, granted_in_store_today=4), "cap_store"),
        (replace(GOOD, cools_down=True), "cool_down"),
        (replace(GOOD, promotion=CAPPED, granted_ever=3), None),
        (replace(GOOD, promotion=CAPPED, granted_ever=4), "cap_lifetime"),
        (replace(GOOD, promotion=CAPPED, granted_to_all_today=4), None),
        (replace(GOOD, promotion=CAPPED, granted_to_all_today=5), "cap_chain"),
        (replace(GOOD, promotion=CAPPED, muted_categories=frozenset({"wine"})), None),
        (replace(GOOD, promotion=CAPPED, muted_categories=frozenset({"bakery"})), "muted_category"),
        (replace(GOOD, is_left=False), "quantity"),
        (replace(GOOD, is_left=False, pushes_this_visit=1), "push_spent"),
        (replace(GOOD, is_left=False, is_test=True), None),
    ],
)
def test_each_reason(facts: Facts, reason: str | None) -> None:
    assert refusal(proposal(), facts) == reason


@pytest.mark.parametrize("kind", ["offer", "info", "coupon", "pickup", "reminder", "service", "survey"])
def test_only_kinds_that_push_spend_the_push(kind: PromotionKind) -> None:
    spent = replace(GOOD, pushes_this_visit=1)
    assert refusal(proposal(kind), spent) == ("push_spent" if kind in PUSH_KINDS else None)


def test_what_does_not_ring_needs_no_push() -> None:
    """The silent shelf: an offer that may not be pushed is proposed as one that does not."""
    spent = replace(GOOD, pushes_this_visit=1)
    assert refusal(proposal().model_copy(update={"push": False}), spent) is None


@pytest.mark.parametrize(("left_ms", "reason"), [(1, None), (0, "late"), (-1, "late")])
def test_what_could_not_reach_the_app_in_time_is_late(left_ms: int, reason: str | None) -> None:
    """At its deadline an offer is not sent any more, so granting it then would only promise it."""
    assert refusal(proposal(deadline=NOW_MS + left_ms), GOOD) == reason


def test_the_reason_that_is_nobodys_fault_comes_first() -> None:
    everything = Facts(NOW_MS, None, Consent.NONE, None, 9, 9, 0)
    assert refusal(proposal(deadline=NOW_MS - 1), replace(everything, decides=False)) == "not_decider"
    assert refusal(proposal(deadline=NOW_MS - 1), everything) == "late"
    assert refusal(proposal(), everything) == "unknown_shopper"
    assert refusal(proposal(), replace(everything, inbox="anna")) == "no_consent"
    assert refusal(proposal(), replace(everything, inbox="anna", consent=Consent.OFFERS)) == "unknown_promotion"
