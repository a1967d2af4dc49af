"""Beliefs → the one zone that is announced: soon at a true change, and not back and forth at a border.

A zone is announced when it is likelier than the present one by a margin; a change that takes back one of the last minutes costs
more, for each of the first two times that the two zones have changed places, until it is sure that it was a true one: then
whoever goes back goes back. A wait instead of the margin was tried by others and costs more delay than it saves changes. The
first zone needs to be likelier than all the others together, or some seconds without that.
"""

from math import log
from typing import Final

MARGIN: Final = 0.5
"""Natural logarithm of the new zone's probability over the present one's."""
UNDO_MARGIN: Final = 0.6
"""Added for each change between the same two zones in the last ``UNDO_MS``."""
UNDO_MS: Final = 300_000
MOST_UNDONE: Final = 2
"""More changes than this cost no more: who really goes in and out is to be followed."""
SURE_BELIEF: Final = 0.9
SURE_AFTER_MS: Final = 5_000
"""A zone that is believed so firmly for so long was entered in truth: no change before that is one to be taken back."""
FIRST_BELIEF: Final = 0.5
FIRST_WAIT_MS: Final = 3000
_REMEMBERED: Final = 16
_TINY: Final = 1e-9


class Announcer:
    """The announced zone of one shopper; ``None`` before the first, and outside of all."""

    __slots__ = ("_began_ms", "_changes", "_is_first", "_margin", "_sure_ms", "zone")

    def __init__(self, margin: float = MARGIN, zone: str | None = None) -> None:
        """``zone``: where the shopper is known to have been, so that the first change needs the margin, too."""
        self.zone = zone
        self._margin = margin
        self._is_first = zone is None
        self._began_ms: int | None = None
        self._sure_ms: int | None = None
        """Since when the present zone has been believed firmly."""
        self._changes: tuple[tuple[int, str | None, str | None], ...] = ()
        """When, from where, to where; the newest last. A deque would take a kilobyte for each shopper."""

    def update(self, now_ms: int, beliefs: dict[str | None, float]) -> str | None:
        """The zone after this belief: a probability for each zone, ``None`` standing for none of them."""
        if self._began_ms is None:
            self._began_ms = now_ms
        best = max(beliefs, key=beliefs.__getitem__)
        if best == self.zone:
            self.support(now_ms, beliefs[best])
            return best
        self._sure_ms = None
        if self._is_first:
            if beliefs[best] >= FIRST_BELIEF or now_ms - self._began_ms >= FIRST_WAIT_MS:
                self._change(now_ms, best)
            return self.zone
        if log(max(beliefs[best], _TINY) / max(beliefs.get(self.zone, 0.0), _TINY)) > self.needed(now_ms, best):
            self._change(now_ms, best)
        return self.zone

    def support(self, now_ms: int, p: float) -> None:
        """Take a belief that only says how probable the present zone is, which is the likeliest."""
        if p < SURE_BELIEF:
            self._sure_ms = None
        elif self._sure_ms is None:
            self._sure_ms = now_ms
        elif now_ms - self._sure_ms >= SURE_AFTER_MS:
            self._changes = ()

    def needed(self, now_ms: int, zone: str | None) -> float:
        """The margin that a change to this zone takes now."""
        return self._margin + UNDO_MARGIN * min(MOST_UNDONE, self._undone(now_ms, zone))

    def _change(self, now_ms: int, zone: str | None) -> None:
        self._changes = (*self._changes[1 - _REMEMBERED :], (now_ms, self.zone, zone))
        self.zone = zone
        self._is_first = False

    def _undone(self, now_ms: int, zone: str | None) -> int:
        """How often the two zones have changed places lately."""
        here = self.zone
        return sum(
            now_ms - at_ms <= UNDO_MS and ((left == here and entered == zone) or (left == zone and entered == here))
            for at_ms, left, entered in self._changes
        )
