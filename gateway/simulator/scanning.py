"""When a receiver hears nothing though something is on the air: its scan begins anew, stalls, or two advertisements collide.

- An active scan through BlueZ begins anew every 10.4 s (measured with BlueZ 5.66 on kernel 6.1), and the kernel scans for 10.24 s
  of that (DISCOV_LE_TIMEOUT), so each time it is deaf for the rest.
- Now and then a scan takes longer to come back; receivers are silent for up to five seconds. How often is assumed.
- Advertisements that begin within 0.4 ms of each other (376 µs for 31 bytes) overlap on all three channels. The loudest survives
  if it is well above the others. Here that is within one millisecond.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gateway.simulator.radio import Heard


@dataclass(frozen=True, slots=True)
class Scan:
    """The rhythm of one receiver's scan."""

    period_ms: int = 10_400
    deaf_ms: int = 160
    stall_share: float = 0.03
    """Of its new beginnings; with the period one in six minutes."""
    stall_ms: tuple[int, int] = (1_000, 5_000)
    capture_db: float = 6.0
    """By so much the louder of two colliding advertisements must be to survive."""


class Scanner:
    """One receiver in time, which never runs backwards here."""

    __slots__ = ("_deaf_until_ms", "_next_ms", "_rng", "_scan")

    def __init__(self, scan: Scan, rng: random.Random) -> None:
        self._scan = scan
        self._rng = rng
        self._next_ms = rng.randrange(scan.period_ms)
        self._deaf_until_ms = 0

    def hears(self, at_ms: int) -> bool:
        """Whether its scan is on."""
        scan = self._scan
        while at_ms >= self._next_ms:
            stalls = self._rng.random() < scan.stall_share
            self._deaf_until_ms = self._next_ms + (self._rng.randint(*scan.stall_ms) if stalls else scan.deaf_ms)
            self._next_ms += scan.period_ms
        return at_ms >= self._deaf_until_ms


def without_collisions(heard: Iterable[Heard], capture_db: float) -> Iterator[Heard]:
    """What is left of advertisements in the order of time; those of one millisecond collide where one receiver hears both."""
    moment: list[Heard] = []
    for advertisement in heard:
        if moment and advertisement.at_ms != moment[0].at_ms:
            yield from _survivors(moment, capture_db)
            moment = []
        moment.append(advertisement)
    yield from _survivors(moment, capture_db)


def _survivors(moment: list[Heard], capture_db: float) -> Iterable[Heard]:
    if not moment or moment[0].sender == moment[-1].sender:
        return moment
    by_receiver: dict[str, list[Heard]] = {}
    for advertisement in moment:
        by_receiver.setdefault(advertisement.receiver, []).append(advertisement)
    return [
        loudest
        for at_receiver in by_receiver.values()
        for loudest, *others in [sorted(at_receiver, key=lambda h: -h.rssi_dbm)]
        if not others or loudest.rssi_dbm - others[0].rssi_dbm >= capture_db
    ]
