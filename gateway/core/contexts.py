"""What central has told of the shoppers who are here: the newest version of each, for as long as it is needed and no longer.

Contexts may come late, twice or out of order: only a higher version than the one that is held counts, and what has been forgotten
for want of consent does not come back with an older one. Nothing is kept of anybody who is not in the roster.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.core.conditions import ShopperContext

KEEP_MS = 2 * 3600 * 1000
"""After the last time that the shopper was heard of; a visit ends after half an hour of silence."""
MOST = 10_000
"""Shoppers at once; beyond it the one that was needed longest ago goes first, and central tells again at the next visit."""


@dataclass(slots=True)
class _Held:
    version: int
    context: ShopperContext | None
    """``None``: forgotten, and only a newer version brings it back."""
    touched_ms: int


class Contexts:
    """By pseudonym; monotonic milliseconds."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}

    def __len__(self) -> int:
        return sum(held.context is not None for held in self._held.values())

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

    def forget(self, shoppers: Iterable[str]) -> None:
        """Consent is gone: the knowledge goes, the version stays for as long as an older message may still arrive."""
        for shopper in shoppers:
            held = self._held.get(shopper)
            if held is not None:
                held.context = None

    def expire(self, mono_ms: int) -> None:
        """Drop whom nobody has asked about for two hours."""
        old = [shopper for shopper, held in self._held.items() if mono_ms - held.touched_ms > KEEP_MS]
        for shopper in old:
            del self._held[shopper]
