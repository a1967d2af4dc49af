"""What is news about beacons, batteries and receivers: who judges is heard once, however many judge and however often.

A receiver is judged by its supervision and by the canaries, one sooner than the other: the second to say the same is not told.
What was told last survives a restart, so that a fault that ended meanwhile is known to have ended, and one that lasts is no news.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Literal, cast

from gateway.core.canaries import HEARS_OTHERS_MS, Canaries
from gateway.core.model import (
    BeaconChange,
    HealthChange,
    HealthState,
    HealthTold,
    HearingTold,
    Instant,
    ReceiverChange,
    ReceiverSigns,
)

Subject = Literal["beacon", "battery", "receiver"]

MAX_WAITING = 256
"""Changes of receivers between two ticks; a supervision takes a step every few seconds at most."""

_SIGNS_LAG_MS = 5_000
"""What is known of receivers is looked at once a second and judged every five: what was heard until then was heard before."""

_USUAL: dict[Subject, HealthState] = {"beacon": "learning", "battery": "unknown", "receiver": "hearing"}
"""What is taken as told before anything was."""
_NO_NEWS = frozenset({("beacon", "learning", "ok"), ("battery", "unknown", "ok")})

_CAUSES: dict[HearingTold, str] = {
    "deaf": "none of the fixed beacons around it is heard any more, nor anything else.",
    "impaired": "the fixed beacons around it are not heard any more, or all of them more faintly, though others are heard.",
    "hearing": "it hears again.",
}


class HealthNews:
    """What was told, and what is waiting to be told with the next tick."""

    def __init__(self) -> None:
        self._told: dict[tuple[Subject, str], HealthState] = {}
        """By (subject, name), where it is not as usual."""
        self._told_ms: dict[str, int] = {}
        """By receiver, when what is told of it was last seen or done in this process (monotonic)."""
        self._waiting: list[ReceiverChange] = []

    @property
    def is_waiting(self) -> bool:
        """Whether something is to be told."""
        return bool(self._waiting)

    def remember(self, told: Iterable[HealthTold]) -> None:
        """Take back what was told before a restart."""
        self._told.update(((one.subject, one.name), one.state) for one in told)

    def forget(self, names: Collection[str]) -> None:
        """These anchors are gone from the shop."""
        self._told = {key: state for key, state in self._told.items() if key[1] not in names}
        self._told_ms = {name: at_ms for name, at_ms in self._told_ms.items() if name not in names}

    def told(self, subject: Subject, name: str) -> HealthState:
        """The state that was told last."""
        return self._told.get((subject, name), _USUAL[subject])

    def receiver_changed(self, change: ReceiverChange) -> bool:
        """Of a receiver's supervision; a step is always news. False where there is no room for it."""
        before = cast(HearingTold, self.told("receiver", change.receiver))
        if change.step is None and change.state == before:
            return True
        if len(self._waiting) >= MAX_WAITING:
            return False
        self._note("receiver", change.receiver, change.state)
        self._told_ms[change.receiver] = change.at.mono_ms
        self._waiting.append(replace(change, before=before))
        return True

    def judged(
        self,
        changes: Iterable[HealthChange],
        canaries: Canaries,
        now: Instant,
        signs: ReceiverSigns,
    ) -> tuple[tuple[BeaconChange, ...], tuple[ReceiverChange, ...]]:
        """The canaries' judgements and what is waiting, as far as they are news."""
        beacons = []
        for change in changes:
            if change.subject == "receiver":
                # Without a canary to tell by there is no sign that it does not hear.
                state = cast(HearingTold, "hearing" if change.state == "unknown" else change.state)
                cause = signs.down.get(change.name) or _CAUSES[state]
                self.receiver_changed(ReceiverChange(change.name, state, cause, now, told_by="canaries"))
                continue
            before = self.told(change.subject, change.name)
            self._note(change.subject, change.name, change.state)
            if change.state != before and (change.subject, before, change.state) not in _NO_NEWS:
                beacons.append(BeaconChange(replace(change, before=before), canaries.health_of(change.name)))
        for name in [name for subject, name in self._told if subject == "receiver"]:
            heard_ms = signs.anything_ms.get(name)
            since_ms = max(now.mono_ms - HEARS_OTHERS_MS, self._told_ms.get(name, 0) + _SIGNS_LAG_MS)
            is_heard = name not in signs.down and heard_ms is not None and heard_ms > since_ms
            # One that no beacon stands around, or that was deaf when the last process ended.
            if is_heard and canaries.hearing_of(name) in ("hearing", "unknown"):
                self.receiver_changed(ReceiverChange(name, "hearing", _CAUSES["hearing"], now, told_by="canaries"))
        receivers, self._waiting = tuple(self._waiting), []
        return tuple(beacons), receivers

    def _note(self, subject: Subject, name: str, state: HealthState) -> None:
        if state == _USUAL[subject]:
            self._told.pop((subject, name), None)
        else:
            self._told[subject, name] = state
