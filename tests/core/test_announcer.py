"""The announced zone: soon, and not back and forth."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.announcer import (
    FIRST_WAIT_MS,
    MARGIN,
    MOST_UNDONE,
    SURE_AFTER_MS,
    SURE_BELIEF,
    UNDO_MARGIN,
    UNDO_MS,
    Announcer,
)


def belief(*, lead: float, of: str = "dairy", over: str = "bakery") -> dict[str | None, float]:
    """``of`` is likelier than ``over`` by this natural logarithm."""
    share = 1 / (1 + math.exp(-lead))
    return {of: share, over: 1 - share, None: 0.0}


def test_the_first_zone_needs_more_than_all_others_together_or_some_seconds() -> None:
    announcer = Announcer()
    unsure: dict[str | None, float] = {"bakery": 0.4, "dairy": 0.35, None: 0.25}
    assert announcer.update(0, unsure) is None
    assert announcer.update(FIRST_WAIT_MS - 1, unsure) is None
    assert announcer.update(FIRST_WAIT_MS, unsure) == "bakery"
    assert Announcer().update(0, {"bakery": 0.5, "dairy": 0.3, None: 0.2}) == "bakery"


@pytest.mark.parametrize(("more", "zone"), [(-0.01, "bakery"), (0.01, "dairy")])
def test_another_zone_has_to_lead_by_the_margin(more: float, zone: str) -> None:
    announcer = Announcer()
    announcer.update(0, belief(lead=3, of="bakery", over="dairy"))
    assert announcer.update(1000, belief(lead=MARGIN + more)) == zone


@pytest.mark.parametrize(
    ("undone", "at_ms", "more", "zone"),
    [
        pytest.param(1, 2000, -0.01, "dairy", id="taking it back at once is dearer"),
        pytest.param(1, 2000, 0.01, "bakery", id="but possible"),
        pytest.param(1, 1001 + UNDO_MS, -0.01, "dairy", id="after minutes it costs the margin alone, no less"),
        pytest.param(0, 1001 + UNDO_MS, 0.01, "bakery", id="after minutes it costs the margin alone"),
    ],
)
def test_taking_a_change_back_costs_more(undone: int, at_ms: int, more: float, zone: str) -> None:
    announcer = Announcer()
    announcer.update(0, belief(lead=3, of="bakery", over="dairy"))
    announcer.update(1000, belief(lead=3))
    cost = MARGIN + UNDO_MARGIN * undone if at_ms <= 1000 + UNDO_MS or undone == 0 else MARGIN
    assert announcer.update(at_ms, belief(lead=cost + more, of="bakery", over="dairy")) == zone


_SURE = math.log(SURE_BELIEF / (1 - SURE_BELIEF))


@pytest.mark.parametrize(
    ("firmly", "until_ms", "wavers", "dearer"),
    [
        pytest.param(_SURE + 0.1, SURE_AFTER_MS, False, False, id="firmly believed for long enough it was a true change"),
        pytest.param(_SURE + 0.1, SURE_AFTER_MS - 1000, False, True, id="not for long enough"),
        pytest.param(_SURE - 0.1, SURE_AFTER_MS, False, True, id="not firmly"),
        pytest.param(_SURE + 0.1, SURE_AFTER_MS, True, True, id="not without interruption"),
    ],
)
def test_who_was_surely_there_goes_back_for_the_margin_alone(firmly: float, until_ms: int, *, wavers: bool, dearer: bool) -> None:
    announcer = Announcer()
    announcer.update(0, belief(lead=3, of="bakery", over="dairy"))
    announcer.update(1000, belief(lead=3))
    for since_ms in range(0, until_ms + 1, 1000):
        announcer.update(2000 + since_ms, belief(lead=0.1 if wavers and since_ms == 5000 else firmly))
    back = announcer.update(3000 + until_ms, belief(lead=MARGIN + 0.1, of="bakery", over="dairy"))
    assert back == ("dairy" if dearer else "bakery")


_ENOUGH = MARGIN + UNDO_MARGIN * MOST_UNDONE


@given(leads=st.lists(st.floats(-0.99 * _ENOUGH, 0.99 * _ENOUGH), min_size=1, max_size=200))
def test_a_belief_that_wavers_is_announced_ever_less(leads: list[float]) -> None:
    """Within five minutes each change between two zones needs a larger lead than the one before, until no lead suffices."""
    announcer = Announcer()
    zones = [announcer.update(1000 * number, belief(lead=lead)) for number, lead in enumerate(leads)]
    assert sum(a != b for a, b in pairwise(zones) if a is not None) <= MOST_UNDONE


@given(leads=st.lists(st.floats(1.01 * _ENOUGH, 9.0), min_size=1, max_size=50))
def test_who_really_goes_to_and_fro_is_followed_however_often(leads: list[float]) -> None:
    announcer = Announcer()
    for number, lead in enumerate(leads):
        of, over = ("dairy", "bakery") if number % 2 else ("bakery", "dairy")
        assert announcer.update(1000 * number, belief(lead=lead, of=of, over=over)) == of


def test_outside_is_announced_like_a_zone() -> None:
    announcer = Announcer()
    announcer.update(0, belief(lead=3))
    assert announcer.update(1000, {"dairy": 0.05, "bakery": 0.05, None: 0.9}) is None
