"""What a recording keeps: what the pipeline has used, and nothing of anybody else.

The pipeline uses registered beacons, and tokens of shoppers in the roster who consent to something; it drops everything else on
the spot. A recording therefore asks what it has just counted and need not decide anew: strangers, phones without consent, and all
phones while the privacy settings are incomplete or the clock is wrong, are in none.
"""

from gateway.core.model import Counters


class Selection:
    """Watches one pipeline's counters; with ``everything`` it takes whatever is on the air.

    >>> counters = Counters()
    >>> selection = Selection()
    >>> counters.advertisements, counters.strangers = 1, 1
    >>> selection.takes_latest(counters)
    False
    >>> counters.advertisements, counters.beacons = 2, 1
    >>> selection.takes_latest(counters)
    True
    """

    __slots__ = ("_everything", "_used")

    def __init__(self, *, everything: bool = False) -> None:
        self._everything = everything
        self._used = 0

    def takes_latest(self, counters: Counters) -> bool:
        """Whether the advertisement that the pipeline has received last belongs into the recording; ask once for each."""
        used = counters.beacons + counters.sightings
        is_used, self._used = used != self._used, used
        return is_used or self._everything
