"""Late and repeated reports: what must not be counted as if it had been heard now, or twice."""

from typing import Literal

from gateway.core.receivers.reports import Report

LATE_MS = 5_000
"""A report this much further behind than the quickest of its receiver is late."""
REPEATED_MS = 1_000
"""The same report of the same receiver within this time was delivered twice."""
MOST_REMEMBERED = 4096
"""Reports and receivers that are remembered at most."""

_PERIOD_MS = 30_000


class Delays:
    """Which of what senders stamp is late, by our own clock.

    A sender's stamps are not compared with our clock, only with each other: how far behind ours they are, less the least of
    that in the last 30 to 60 s in which it sent. So its clock may be wrong by years; one that is set back makes what it sends
    late for a minute.
    """

    __slots__ = ("_least",)

    def __init__(self) -> None:
        self._least: dict[str, tuple[int, int, int]] = {}
        """By sender: when the period began, the least distance in it, and in the one before."""

    def __len__(self) -> int:
        return len(self._least)

    def is_late(self, sender: str, stamp_ms: int, at_ms: int) -> bool:
        """Whether what came at ``at_ms`` (monotonic), stamped by the sender's clock, took much longer than its quickest.

        >>> delays = Delays()
        >>> delays.is_late("hall", 0, 1_000_000), delays.is_late("hall", 1000, 1_001_100), delays.is_late("hall", 2000, 1_009_000)
        (False, False, True)
        """
        behind_ms = at_ms - stamp_ms
        began_ms, least_ms, before_ms = self._least.pop(sender, (at_ms, behind_ms, behind_ms))
        if at_ms - began_ms >= _PERIOD_MS:
            # Also after a long silence: what comes then may have waited all the while.
            began_ms, least_ms, before_ms = at_ms, behind_ms, least_ms
        least_ms = min(least_ms, behind_ms)
        self._least[sender] = (began_ms, least_ms, before_ms)
        if len(self._least) > MOST_REMEMBERED:
            del self._least[next(iter(self._least))]
        return behind_ms - min(least_ms, before_ms) > LATE_MS


class Freshness:
    """Judges one system's reports; without stamps nothing is late. Of what was heard only a number is kept, for a second."""

    __slots__ = ("_delays", "_seen")

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        """By the report's hash, when it came; the oldest first."""
        self._delays = Delays()

    def __len__(self) -> int:
        return max(len(self._seen), len(self._delays))

    def judge(self, report: Report, at_ms: int) -> Literal["late", "duplicate"] | None:
        """``None``: it counts. ``at_ms`` is the monotonic moment at which it came.

        >>> freshness, report = Freshness(), Report("hall", b"", -60)
        >>> freshness.judge(report, 0), freshness.judge(report, 999), freshness.judge(report, 2000)
        (None, 'duplicate', None)
        """
        if report.stamp_ms is not None and self._delays.is_late(report.receiver, report.stamp_ms, at_ms):
            return "late"
        # The stamp is no part of it: a system that writes the same again with a new stamp has still heard it once.
        key = hash((report.receiver, report.address, report.rssi_dbm, report.data))
        seen = self._seen
        before_ms = seen.get(key)
        if before_ms is not None and at_ms - before_ms < REPEATED_MS:
            return "duplicate"
        seen.pop(key, None)
        seen[key] = at_ms
        while seen and (len(seen) > MOST_REMEMBERED or at_ms - seen[next(iter(seen))] >= REPEATED_MS):
            del seen[next(iter(seen))]
        return None
