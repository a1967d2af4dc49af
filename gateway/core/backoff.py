"""How long to wait before the next attempt: exponential with full jitter, so that a thousand gateways do not return at once."""


def delay_ms(attempt: int, jitter: float, *, first_ms: int = 1000, longest_ms: int = 60_000) -> int:
    """Delay before attempt number ``attempt`` (from 0); ``jitter`` in [0, 1) spreads it over (0, upper bound].

    Source: M. Brooker, Exponential Backoff And Jitter, AWS Architecture Blog 2015 ("full jitter").

    >>> [delay_ms(attempt, 0.999) for attempt in (0, 1, 5, 50)]
    [999, 1998, 31968, 59940]
    """
    return max(1, int(min(longest_ms, first_ms * 2 ** min(attempt, 30)) * jitter))
