"""The ladder that makes a deaf receiver hear again: which step is next, given what was tried and what helped last time.

    hearing ── deaf ──▶ step ── settle ──▶ next step ── … ──▶ rest ──▶ all over again, ever more rarely
       ▲                 │
       └── heard: it helped; the next time it comes first

From the mildest step to the harshest; one at a time, each with time to show whether it helped, none sooner again than it may.
The process is ended at most once in an hour of its life, and the machine rebooted only when it has been up for six hours and
ending the process did not help: so no memory has to be trusted to keep these from becoming a loop.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from gateway.core.model import RecoveryStep


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of the ladder."""

    step: RecoveryStep
    settle_ms: int
    """Heard within this time after it: it helped. Nothing else is tried meanwhile."""
    apart_ms: int
    """From one begin to the next; of the last two steps: since the process, or the machine, was started."""


RUNGS = (
    Rung("restart-scan", 15_000, 15_000),
    Rung("new-scanner", 15_000, 15_000),
    Rung("power-cycle", 15_000, 60_000),
    Rung("reset-controller", 30_000, 120_000),
    Rung("restart-process", 60_000, 3_600_000),
    Rung("reboot", 180_000, 6 * 3_600_000),
)
"""Source of the order: the project's own measurements of what clears which fault; 15 s is also habluetooth's."""

REST_FIRST_MS, REST_MOST_MS = 120_000, 1_800_000
"""After the last step, doubled each time: whoever is deaf because nobody is there must not be shaken all night."""


@dataclass(frozen=True, slots=True)
class RecoveryMemory:
    """What survives the process; belongs to one receiver."""

    helped: RecoveryStep | None = None
    """The step that made it hear again the last time that one had to."""
    ended_by: RecoveryStep | None = None
    """The step that ended the process while it was deaf; forgotten when it hears."""


class Ladder:
    """Of one receiver; all times are monotonic milliseconds since the machine was started."""

    def __init__(
        self, memory: RecoveryMemory, started_ms: int, *, rungs: Sequence[Rung] = RUNGS, rest_first_ms: int = REST_FIRST_MS
    ) -> None:
        """``started_ms``: when this process was."""
        self.memory = memory
        self._rungs = {rung.step: rung for rung in rungs}
        self._started_ms = started_ms
        self._rest_first_ms = self._rest_ms = rest_first_ms
        self._began_ms: dict[RecoveryStep, int] = {}
        self._tried: set[RecoveryStep] = set()
        self._quiet_until_ms = started_ms
        self._running: RecoveryStep | None = None
        self._open: RecoveryStep | None = memory.ended_by
        """The step that has been taken and may still turn out to have helped."""
        if memory.ended_by is not None:
            self._quiet_until_ms += self._rungs[memory.ended_by].settle_ms

    def next(self, now_ms: int, available: Collection[RecoveryStep]) -> RecoveryStep | None:
        """The step to take now, being deaf; ``None`` = wait. ``available``: what is possible and allowed at the moment."""
        if self._running is not None or now_ms < self._quiet_until_ms:
            return None
        for step in self._in_order():
            if step in available and step not in self._tried and now_ms >= self._free_ms(step):
                return step
        if self._tried:
            self._tried.clear()
            self._quiet_until_ms = now_ms + self._rest_ms
            self._rest_ms = min(2 * self._rest_ms, max(REST_MOST_MS, self._rest_first_ms))
        return None

    def begin(self, step: RecoveryStep, now_ms: int) -> None:
        """``step`` is being taken."""
        if self._running is not None:
            raise ValueError(f"{step} while {self._running} is still under way")
        self._began_ms[step] = now_ms
        self._tried.add(step)
        self._running = self._open = step
        if step in {"restart-process", "reboot"}:
            self.memory = replace(self.memory, ended_by=step)

    def end(self, now_ms: int) -> None:
        """It has been taken; now it has to show whether it helped."""
        if self._running is not None:
            self._quiet_until_ms = now_ms + self._rungs[self._running].settle_ms
            self._running = None

    def judge(self, now_ms: int) -> RecoveryStep | None:
        """The last step, once, when it is certain that it did not help."""
        if self._open is None or self._running is not None or now_ms < self._quiet_until_ms:
            return None
        failed, self._open = self._open, None
        if self.memory.helped == failed:
            self.memory = replace(self.memory, helped=None)
        return failed

    def heard(self) -> RecoveryStep | None:
        """It hears: the step that did it, if one did; the ladder stands at its foot again."""
        helped, self._open = self._open, None
        self._tried.clear()
        self._rest_ms = self._rest_first_ms
        self.memory = RecoveryMemory(helped or self.memory.helped, None)
        return helped

    @property
    def is_open(self) -> bool:
        """Whether a step is under way or may still turn out to have helped."""
        return self._open is not None

    def _in_order(self) -> list[RecoveryStep]:
        steps = list(self._rungs)
        if self.memory.helped in self._rungs:
            steps.remove(self.memory.helped)
            steps.insert(0, self.memory.helped)
        return steps

    def _free_ms(self, step: RecoveryStep) -> int:
        apart_ms = self._rungs[step].apart_ms
        if step == "reboot":
            # Time since the machine was started is what the clock shows.
            return apart_ms if self.memory.ended_by is not None else _NEVER_MS
        if step == "restart-process":
            return self._started_ms + apart_ms
        began_ms = self._began_ms.get(step)
        return 0 if began_ms is None else began_ms + apart_ms


_NEVER_MS = 2**63
