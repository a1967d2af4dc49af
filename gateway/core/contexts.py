"""What central has told of the shoppers who are here: the newest version of each, for as long as it is needed and no longer.

Contexts may come late, twice or out of order: only a higher version than the one that is held counts. What has been forgotten for
want of consent is gone with its version: the pipeline lets nothing in of anybody whom the roster does not name with consent. Only
memory ever holds it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gateway.core.conditions import ShopperContext

KEEP_MS = 1_800_000
"""After the last time that it was needed; an open visit needs it."""
MOST = 10_000
"""Shoppers at once; beyond it the one that was needed longest ago goes first, and central tells again at the next visit."""


@dataclass(slots=True)
class _Held:
    version: int
    context: ShopperContext
    touched_ms: int


class Contexts:
    """By pseudonym; monotonic milliseconds."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    @property
    def shoppers(self) -> tuple[str, ...]:
        """Of whom something is known."""
        return tuple(self._held)

    def use(self, shopper: str, version: int, context: ShopperContext, mono_ms: int) -> bool:
        """Take one; False when it is no news."""
        held = self._held.pop(shopper, None)
        if held is not None and version <= held.version:
            self._held[shopper] = held
            return False
        self._held[shopper] = _Held(version, context, mono_ms)
        while len(self._held) > MOST:
            del self._held[next(iter(self._held))]
        return True

    def of(self, shopper: str, mono_ms: int) -> ShopperContext | None:
        """What is known; ``None``: nothing has come yet."""
        held = self._held.get(shopper)
        if held is None:
            return None
        held.touched_ms = mono_ms
        return held.context

    def held(self, shopper: str) -> tuple[int, ShopperContext] | None:
        """Version and context, for whoever only explains: it is kept no longer for that."""
        held = self._held.get(shopper)
        return None if held is None else (held.version, held.context)

    def forget(self, shoppers: Iterable[str]) -> None:
        """Consent is gone, or the visit has ended."""
        for shopper in shoppers:
            self._held.pop(shopper, None)

    def expire(self, mono_ms: int, needed: Callable[[str], bool]) -> None:
        """Drop what has not been needed for half an hour; ``needed``: whose visits are open."""
        for shopper, held in self._held.items():
            if needed(shopper):
                held.touched_ms = mono_ms
        old = [shopper for shopper, held in self._held.items() if mono_ms - held.touched_ms > KEEP_MS]
        for shopper in old:
            del self._held[shopper]
