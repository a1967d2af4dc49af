"""One token loud at two places at once: somebody repeats it, so that neither place may be believed.

Loud means within arm's reach of the receiver. Two receivers in zones that are known not to be neighbours are too far apart for
that when the token is loud at one, at the other, and at the first again within the time in which nobody walks there and back; or,
where their positions are known, when nobody walks from one to the other in the time between. A brisk walker, who is loud at one
and seconds later at the other, is neither.
"""

from math import hypot
from typing import Final

from gateway.core.model import Anchor, Shop

LOUD_DBM: Final = -60
PAUSE_MS: Final = 60_000
"""For so long nothing is offered after the last sign."""
_BACK_WITHIN_MS: Final = 3_000
_FASTEST_M_PER_S: Final = 3.0
"""Running, in a shop."""
_REACH_M: Final = 4.0
"""So far a loud phone may be from each of the two receivers."""
_FORGET_MS: Final = 10_000


class Conflicts:
    """Who is loud where, and about whom there is doubt."""

    def __init__(self, shop: Shop) -> None:
        self._loud: dict[str, dict[str, int]] = {}
        """By shopper and receiver, when the token was last loud there (monotonic milliseconds)."""
        self._until_ms: dict[str, int] = {}
        self._apart: dict[str, dict[str, int]] = {}
        self.use(shop)

    def use(self, shop: Shop) -> None:
        """Swap the shop."""
        receivers = [anchor for anchor in shop.anchors.values() if anchor.kind == "receiver"]
        self._apart = {a.name: {b.name: _walk_ms(a, b) for b in receivers if _are_apart(a, b, shop)} for a in receivers}

    def loud(self, shopper: str, receiver: str, at_ms: int) -> bool:
        """The token was loud at a receiver; whether this begins a conflict."""
        apart = self._apart.get(receiver)
        if not apart:
            return False
        loud = self._loud.get(shopper)
        if loud is None:
            loud = self._loud[shopper] = {}
        before_ms = loud.get(receiver)
        loud[receiver] = at_ms
        # Most are loud at one receiver only, and this is asked for every loud token.
        if len(loud) == 1:
            return False
        oldest_ms = at_ms - _FORGET_MS
        is_impossible = False
        for other, heard_ms in list(loud.items()):
            if heard_ms < oldest_ms:
                del loud[other]
            elif other in apart and _is_impossible(apart[other], before_ms, heard_ms, at_ms):
                is_impossible = True
        if not is_impossible:
            return False
        begins = self._until_ms.get(shopper, 0) <= at_ms
        self._until_ms[shopper] = at_ms + PAUSE_MS
        return begins

    def is_about(self, shopper: str, at_ms: int) -> bool:
        """Whether a conflict is less than ``PAUSE_MS`` old."""
        return at_ms < self._until_ms.get(shopper, at_ms)

    def forget(self, shopper: str) -> None:
        """Drop everything about one shopper."""
        self._loud.pop(shopper, None)
        self._until_ms.pop(shopper, None)

    def clear(self) -> None:
        """Drop everything about everybody."""
        self._loud.clear()
        self._until_ms.clear()

    def sweep(self, now_ms: int) -> None:
        """Drop what is over."""
        oldest_ms = now_ms - _FORGET_MS
        self._loud = {shopper: loud for shopper, loud in self._loud.items() if max(loud.values()) >= oldest_ms}
        self._until_ms = {shopper: until for shopper, until in self._until_ms.items() if until > now_ms}


def _is_impossible(walk_ms: int, before_ms: int | None, other_ms: int, at_ms: int) -> bool:
    """Loud at the one at ``before_ms``, at the other at ``other_ms``, and now at the one (again)."""
    if at_ms - other_ms < walk_ms:
        return True
    return before_ms is not None and before_ms < other_ms and at_ms - before_ms <= _BACK_WITHIN_MS


def _walk_ms(a: Anchor, b: Anchor) -> int:
    """What the fastest takes from arm's reach of one to that of the other; 0 where positions are not known."""
    if a.at_m is None or b.at_m is None:
        return 0
    apart_m = hypot(a.at_m[0] - b.at_m[0], a.at_m[1] - b.at_m[1])
    return max(0, round(1000 * (apart_m - 2 * _REACH_M) / _FASTEST_M_PER_S))


def _are_apart(a: Anchor, b: Anchor, shop: Shop) -> bool:
    """In two zones that are known not to be neighbours."""
    if a.zone is None or b.zone is None or a.zone == b.zone or a.zone not in shop.zones or b.zone not in shop.zones:
        return False
    near, far = shop.zones[a.zone].neighbours, shop.zones[b.zone].neighbours
    return near is not None and far is not None and b.zone not in near and a.zone not in far
