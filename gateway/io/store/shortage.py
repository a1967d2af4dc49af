"""What waits in memory while the disk takes nothing, and the gap that grows meanwhile.

::

    room ── a write is refused ──▶ short ── all that waited is on disk, the gap is closed ──▶ room
                                   │  ▲
                                   └──┘ events: counted in the gap, gone;  everything else: waits here

Events cannot wait: a shop makes more of them than a small computer has memory, and an offer is worthless when it comes late. All
else can, because there is little of it: central's answers, erasures, signed downlinks, and the newest that is to be told of each
beacon and receiver.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from gateway.contract.fields import to_rfc3339
from gateway.core.model import BeaconChange, ReceiverChange
from gateway.core.sanitiser import printable
from gateway.io.store.gaps import Gap
from gateway.io.store.room import NoRoom
from gateway.io.store.sqlite import Database

log = logging.getLogger(__name__)

Work = Callable[[Database], Any]

_MOST_BYTES = 16 * 1024 * 1024
_WORK_BYTES = 500
"""What a call and the few names or verdicts in it take, roughly."""


class Shortage:
    """Of one database; not safe for threads."""

    def __init__(self) -> None:
        self.trouble: NoRoom | None = None
        """Why something was refused that is not on disk yet."""
        self.gap: Gap | None = None
        """What is gone so far."""
        self.noted: Gap | None = None
        """The gap as the database has it."""
        self.urgent: list[Work] = []
        """What makes little, no, or negative need of room, in the order in which it came."""
        self.downlinks: list[Work] = []
        """Changes of what is remembered of central's downlinks, in their order."""
        self._bytes = 0
        self._beacons: dict[tuple[str, str], BeaconChange] = {}
        self._receivers: dict[str, ReceiverChange] = {}

    @property
    def is_over(self) -> bool:
        """Nothing waits and nothing is missing."""
        return self.trouble is None and self.gap is None

    def refused(self, error: NoRoom) -> None:
        """Something was not written."""
        if self.trouble is None or self.trouble.cause != error.cause:
            log.error("%s Until there is room, events cannot be kept and are lost. %s", error.what, error.do)
        self.trouble = error

    def lost(self, events: int, wall_ms: int, error: NoRoom) -> None:
        """So many events are gone."""
        if events:
            gap = self.gap or Gap(wall_ms, wall_ms, 0, error.cause)
            self.gap = gap.with_more(events, wall_ms)

    def owe(self, work: Work, error: NoRoom) -> None:
        """To be written as soon as that can be done, first of all."""
        self._take(_WORK_BYTES, error)
        self.urgent.append(work)

    def owe_downlink(self, work: Work, size_bytes: int, error: NoRoom) -> None:
        """To be written when there is room for more than the most urgent."""
        self._take(_WORK_BYTES + size_bytes, error)
        self.downlinks.append(work)

    def _take(self, size_bytes: int, error: NoRoom) -> None:
        if self._bytes + size_bytes > _MOST_BYTES:
            raise error
        self._bytes += size_bytes

    def owe_health(self, beacons: Iterable[BeaconChange], receivers: Iterable[ReceiverChange]) -> int:
        """The newest of each takes the place of what waited; returns how many there were that nobody will be told."""
        gone = 0
        for beacon in beacons:
            key = beacon.change.subject, beacon.change.name
            waiting = self._beacons.pop(key, None)
            if waiting is not None:
                gone += 1
                beacon = replace(beacon, change=replace(beacon.change, before=waiting.change.before))  # noqa: PLW2901
            if beacon.change.before == beacon.change.state:
                gone += 1
            else:
                self._beacons[key] = beacon
        for receiver in receivers:
            earlier = self._receivers.pop(receiver.receiver, None)
            if earlier is not None:
                gone += 1
                receiver = replace(receiver, before=earlier.before)  # noqa: PLW2901
            if receiver.before == receiver.state and receiver.step is None:
                gone += 1
            else:
                self._receivers[receiver.receiver] = receiver
        return gone

    @property
    def health(self) -> tuple[list[BeaconChange], list[ReceiverChange]]:
        """What is to be told of beacons and receivers."""
        return list(self._beacons.values()), list(self._receivers.values())

    def wrote(self, urgent: int, downlinks: int, beacons: Iterable[BeaconChange], receivers: Iterable[ReceiverChange]) -> None:
        """So many of what waited are on disk, the oldest; and this of beacons and receivers, unless it is newer by now."""
        del self.urgent[:urgent]
        del self.downlinks[:downlinks]
        self._beacons = {key: waiting for key, waiting in self._beacons.items() if not any(waiting is one for one in beacons)}
        self._receivers = {
            key: waiting for key, waiting in self._receivers.items() if not any(waiting is one for one in receivers)
        }
        if not self.urgent and not self.downlinks:
            self._bytes = 0

    def closed(self, gap: Gap | None) -> None:
        """There is room again; what was lost while ``gap`` was being written begins one of its own."""
        if gap is not None and self.gap is not None:
            rest = self.gap.events - gap.events
            self.gap = Gap(gap.until_wall_ms, self.gap.until_wall_ms, rest, self.gap.cause) if rest else None
            self.noted = None
            log.warning("there is room again. %s", printable(sentence(gap)))
        elif self.trouble is not None:
            log.warning("there is room again, and no event was lost")
        if self.gap is None and not self.urgent and not self.downlinks:
            self.trouble = None


def sentence(gap: Gap) -> str:
    """What was lost, for people."""
    why = {
        "full": "the disk was full",
        "quota": "the database was as large as storage.quota_mib allows",
        "failed": "the disk could not be written",
    }[gap.cause]
    events = "1 event" if gap.events == 1 else f"{gap.events} events"
    first, last = (f"{to_rfc3339(wall_ms)[:19]}Z" for wall_ms in (gap.from_wall_ms, gap.until_wall_ms))
    when = f"at {first}" if first == last else f"from {first} to {last}"
    return f"{events} {when} could not be kept, because {why}."
