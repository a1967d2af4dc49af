"""What a promotion has brought: the interval of a difference of two shares, against published figures and what always holds."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract.day_report import difference_interval

# R. G. Newcombe, Statistics in Medicine 17 (1998), 873-890, table II: the examples (a) to (h), method 10.
PUBLISHED = {
    (56, 70, 48, 80): (0.0524, 0.3339),
    (9, 10, 3, 10): (0.1705, 0.8090),
    (6, 7, 2, 7): (0.0582, 0.8062),
    (5, 56, 0, 29): (-0.0381, 0.1926),
    (0, 10, 0, 20): (-0.1611, 0.2775),
    (0, 10, 0, 10): (-0.2775, 0.2775),
    (10, 10, 0, 20): (0.6791, 1.0000),
    (10, 10, 0, 10): (0.6075, 1.0000),
}


@pytest.mark.parametrize(("counts", "interval"), PUBLISHED.items())
def test_the_published_examples_come_out(counts: tuple[int, int, int, int], interval: tuple[float, float]) -> None:
    assert tuple(round(bound, 4) for bound in difference_interval(*counts)) == interval


@st.composite
def groups(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """(some, of, others, of others)"""
    of, of_others = draw(st.integers(1, 5000)), draw(st.integers(1, 5000))
    return draw(st.integers(0, of)), of, draw(st.integers(0, of_others)), of_others


@given(groups())
def test_the_difference_lies_within_and_no_bound_is_impossible(counts: tuple[int, int, int, int]) -> None:
    some, of, others, of_others = counts
    low, high = difference_interval(*counts)
    assert -1 <= low <= some / of - others / of_others <= high <= 1
    assert low < high


@given(groups())
def test_the_groups_exchanged_turn_the_sign_and_so_do_those_who_did_not_buy(counts: tuple[int, int, int, int]) -> None:
    some, of, others, of_others = counts
    low, high = difference_interval(*counts)
    assert difference_interval(others, of_others, some, of) == pytest.approx((-high, -low), abs=1e-12)
    assert difference_interval(of - some, of, of_others - others, of_others) == pytest.approx((-high, -low), abs=1e-9)


@given(groups(), st.integers(2, 20))
def test_more_people_with_the_same_shares_tell_more(counts: tuple[int, int, int, int], times: int) -> None:
    low, high = difference_interval(*counts)
    closer = difference_interval(*(times * count for count in counts))
    assert closer[1] - closer[0] < high - low


@given(groups())
def test_each_bound_is_a_step_in_square_and_add_of_bounds_found_by_search(counts: tuple[int, int, int, int]) -> None:
    """Wilson's bounds are the shares for which what was seen is just 1.96 standard errors away: found here by bisection."""
    some, of, others, of_others = counts
    (low, high), (other_low, other_high) = searched(some, of), searched(others, of_others)
    share, other = some / of, others / of_others
    expected = (
        share - other - math.hypot(share - low, other_high - other),
        share - other + math.hypot(high - share, other - other_low),
    )
    assert difference_interval(*counts) == pytest.approx((max(-1, expected[0]), min(1, expected[1])), abs=1e-6)


def searched(some: int, of: int) -> tuple[float, float]:
    share = some / of

    def is_near(guess: float) -> bool:
        return (share - guess) ** 2 * of <= 1.959964**2 * guess * (1 - guess)

    def edge(inside: float, outside: float) -> float:
        for _ in range(60):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if is_near(middle) else (inside, middle)
        return inside

    return (0.0 if some == 0 else edge(share, 0.0)), (1.0 if some == of else edge(share, 1.0))


@settings(max_examples=25, deadline=None)
@given(st.floats(0.02, 0.98), st.floats(0.02, 0.98))
def test_of_every_hundred_reports_about_ninety_five_are_right(one: float, other: float) -> None:
    """Exactly, over all outcomes of the smallest groups of which a report tells: no draw, no tolerance for luck."""
    of = 30
    chances, other_chances = binomial(of, one), binomial(of, other)
    covered = sum(
        chances[some] * other_chances[others]
        for some in range(of + 1)
        for others in range(of + 1)
        if (bounds := difference_interval(some, of, others, of))[0] <= one - other <= bounds[1]
    )
    # Newcombe's own evaluation found a mean of 0.952 and, for small groups, a least of 0.867 (table III).
    assert covered > 0.88


def test_on_average_it_is_right_as_often_as_it_says() -> None:
    of, shares = 30, [(2 * step + 1) / 24 for step in range(12)]
    bounds = {(some, others): difference_interval(some, of, others, of) for some in range(of + 1) for others in range(of + 1)}
    chances = {share: binomial(of, share) for share in shares}
    covered = [
        sum(
            chances[one][some] * chances[other][others]
            for (some, others), (low, high) in bounds.items()
            if low <= one - other <= high
        )
        for one in shares
        for other in shares
    ]
    assert sum(covered) / len(covered) == pytest.approx(0.95, abs=0.01)


def binomial(of: int, share: float) -> list[float]:
    return [math.comb(of, some) * share**some * (1 - share) ** (of - some) for some in range(of + 1)]
