"""Who decides in a store, where several gateways hear: whoever made the greatest claim that is known.

::

    claim = (term, gateway)      the higher term wins; in one term the name that comes first

    nobody yet ── the settings say so: Claim(0, me), for the time being ── nobody else is there: begin ──▶ Claim(1, me)
    any claim  ── the technician's command: take_over ──▶ Claim(term + 1, me), at least 2: a command beats whoever just begins
    any claim  ── a greater one is heard ──▶ that one, for good

All that is ever done with claims is to keep the greater one, so late, doubled and disordered news do no harm, and whoever knows
the same claims knows the same decider. Every gateway tells the greatest claim it knows in its status, also in its will; central
grants to the gateway that the greatest claim names, and to no other.
"""

from typing import NamedTuple

LAST_TERM = 2**31 - 1
_BEGINNING = 1


class Claim(NamedTuple):
    """A gateway's claim to decide."""

    term: int
    """0: for the time being, until it is known whether somebody else decides."""
    gateway: str

    def beats(self, other: "Claim | None") -> bool:
        """Whether this claim takes the place of ``other``.

        >>> Claim(2, "b").beats(Claim(1, "a")), Claim(1, "b").beats(Claim(1, "a")), Claim(0, "a").beats(None)
        (True, False, True)
        """
        return other is None or self.term > other.term or (self.term == other.term and self.gateway < other.gateway)


class Deciding:
    """What one gateway knows of who decides."""

    def __init__(self, gateway: str, claim: Claim | None, *, may_begin: bool) -> None:
        """``claim``: the greatest before the restart. ``may_begin``: decide where nobody else does (the setting ``role``)."""
        self._gateway = gateway
        self.claim = Claim(0, gateway) if claim is None and may_begin else claim
        """The greatest known; ``None``: nobody decides, as far as is known."""

    @property
    def is_mine(self) -> bool:
        """Whether this gateway decides."""
        return self.claim is not None and self.claim.gateway == self._gateway

    def hear(self, claim: Claim) -> bool:
        """A claim that somebody told; returns whether it is greater than what was known."""
        if not claim.beats(self.claim):
            return False
        self.claim = claim
        return True

    def begin(self) -> bool:
        """It is known by now what the others claim; returns whether this gateway has made its first claim good."""
        if not self.is_mine or self.claim is None or self.claim.term:
            return False
        self.claim = Claim(_BEGINNING, self._gateway)
        return True

    def take_over(self) -> bool:
        """Decide from now on, whoever did; False when no term is left, which only a forged claim can bring about."""
        term = max(_BEGINNING, 0 if self.claim is None else self.claim.term) + 1
        if term > LAST_TERM:
            return False
        self.claim = Claim(term, self._gateway)
        return True
