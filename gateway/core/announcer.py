"""Beliefs → the one zone that is announced: soon at a true change, and not back and forth at a border.

A zone is announced when it is likelier than the present one by a margin; a change that takes back one of the last minutes costs
more, for each of the first two times that the two zones have changed places. A wait instead of the margin was tried by others
and costs more delay than it saves changes. The first zone needs to be likelier than all the others together, or some seconds
without that.
"""

from collections import deque
from math import log

MARGIN = 0.5
"""Natural logarithm of the new zone's probability over the present one's."""
UNDO_MARGIN = 1.0
"""Added for each change between the same two zones in the last ``UNDO_MS``."""
UNDO_MS = 300_000
MOST_UNDONE = 2
"""More changes than this cost no more: who really goes in and out is to be followed."""
FIRST_BELIEF = 0.5
FIRST_WAIT_MS = 3000
_REMEMBERED = 16
_TINY = 1e-9


class Announcer:
    """The announced zone of one shopper; ``None`` before the first, and outside of all."""

    __slots__ = ("_began_ms", "_changes", "_is_first", "_margin", "zone")

    def __init__(self, margin: float = MARGIN, zone: str | None = None) -> None:
        """``zone``: where the shopper is known to have been, so that the first change needs the margin, too."""
        self.zone = zone
        self._margin = margin
        self._is_first = zone is None
        self._began_ms: int | None = None
        self._changes: deque[tuple[int, frozenset[str | None]]] = deque(maxlen=_REMEMBERED)

    def update(self, now_ms: int, beliefs: dict[str | None, float]) -> str | None:
        """The zone after this belief: a probability for each zone, ``None`` standing for none of them."""
        if self._began_ms is None:
            self._began_ms = now_ms
        best = max(beliefs, key=beliefs.__getitem__)
        if best == self.zone:
            return best
        if self._is_first:
            if beliefs[best] >= FIRST_BELIEF or now_ms - self._began_ms >= FIRST_WAIT_MS:
                self._change(now_ms, best)
            return self.zone
        if log(max(beliefs[best], _TINY) / max(beliefs.get(self.zone, 0.0), _TINY)) > self.needed(now_ms, best):
            self._change(now_ms, best)
        return self.zone

    def needed(self, now_ms: int, zone: str | None) -> float:
        """The margin that a change to this zone takes now."""
        return self._margin + UNDO_MARGIN * min(MOST_UNDONE, self._undone(now_ms, zone))

    def _change(self, now_ms: int, zone: str | None) -> None:
        self._changes.append((now_ms, frozenset((self.zone, zone))))
        self.zone = zone
        self._is_first = False

    def _undone(self, now_ms: int, zone: str | None) -> int:
        """How often the two zones have changed places lately."""
        pair = frozenset((self.zone, zone))
        return sum(changed == pair and now_ms - at_ms <= UNDO_MS for at_ms, changed in self._changes)
