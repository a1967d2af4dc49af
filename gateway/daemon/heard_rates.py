"""How much each receiver hears."""

from collections import deque

from gateway.core.model import Instant

_RATE_OVER_MS = 10_000


class HeardRates:
    """Advertisements per second and receiver over the last ten seconds."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        """Since the start; whoever hears counts here."""
        self.heard_ms: dict[str, int] = {}
        """When each receiver was last seen to have heard something (monotonic, as exact as ``sample`` is frequent)."""
        self._samples: deque[tuple[int, dict[str, int]]] = deque()

    def sample(self, now: Instant) -> None:
        """To be called about once a second."""
        before = self._samples[-1][1] if self._samples else {}
        for receiver, count in self.counts.items():
            if count != before.get(receiver, 0):
                self.heard_ms[receiver] = now.mono_ms
        self._samples.append((now.mono_ms, dict(self.counts)))
        while self._samples[0][0] < now.mono_ms - _RATE_OVER_MS:
            self._samples.popleft()

    def per_s(self, receiver: str) -> float:
        """How many this receiver hears."""
        if len(self._samples) < 2:
            return 0.0
        (first_ms, first), (last_ms, last) = self._samples[0], self._samples[-1]
        return (last.get(receiver, 0) - first.get(receiver, 0)) * 1000 / max(1, last_ms - first_ms)
