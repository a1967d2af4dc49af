"""The wait between attempts grows, is spread, and never exceeds its bound."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.backoff import delay_ms

attempts = st.integers(0, 10_000)
jitters = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("attempt", "jitter", "expected"),
    [
        pytest.param(0, 0.0, 1, id="never at once"),
        pytest.param(0, 0.5, 500, id="first attempt"),
        pytest.param(1, 0.5, 1000, id="twice as long"),
        pytest.param(5, 0.5, 16_000, id="thirty-two times"),
        pytest.param(6, 0.5, 30_000, id="the bound"),
        pytest.param(1_000_000, 0.5, 30_000, id="for ever"),
    ],
)
def test_the_bound_doubles_up_to_a_minute(attempt: int, jitter: float, expected: int) -> None:
    assert delay_ms(attempt, jitter) == expected


def test_first_and_longest_are_settings() -> None:
    assert [delay_ms(attempt, 0.5, first_ms=10, longest_ms=50) for attempt in range(4)] == [5, 10, 20, 25]


@given(attempt=attempts, jitter=jitters, first_ms=st.integers(1, 10_000), longest_ms=st.integers(1, 3_600_000))
def test_the_delay_is_within_its_bounds(attempt: int, jitter: float, first_ms: int, longest_ms: int) -> None:
    assert 1 <= delay_ms(attempt, jitter, first_ms=first_ms, longest_ms=longest_ms) <= longest_ms


@given(attempt=attempts, jitter=jitters, more=jitters)
def test_more_attempts_or_more_jitter_never_wait_less(attempt: int, jitter: float, more: float) -> None:
    assert delay_ms(attempt, jitter) <= delay_ms(attempt + 1, jitter)
    assert delay_ms(attempt, min(jitter, more)) <= delay_ms(attempt, max(jitter, more))


def test_a_thousand_gateways_come_back_spread_over_the_whole_wait() -> None:
    delays = {delay_ms(4, number / 1000) for number in range(1000)}
    assert len(delays) == 1000
    assert min(delays) < 100
    assert max(delays) > 15_900
