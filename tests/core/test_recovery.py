"""The ladder: one step at a time, what helped last first, and never a loop."""

from collections.abc import Callable
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.model import RecoveryStep
from gateway.core.recovery import REST_FIRST_MS, REST_MOST_MS, RUNGS, Ladder, RecoveryMemory

STEPS: tuple[RecoveryStep, ...] = get_args(RecoveryStep)
CHEAP = STEPS[:4]
HOUR_MS = 3_600_000
NO_MEMORY = RecoveryMemory()
SETTLE_MS = {rung.step: rung.settle_ms for rung in RUNGS}
APART_MS = {rung.step: rung.apart_ms for rung in RUNGS}


class Deaf:
    """A receiver that stays deaf, looked at every second."""

    def __init__(self, memory: RecoveryMemory = NO_MEMORY, started_ms: int = 0) -> None:
        self.ladder = Ladder(memory, started_ms)
        self.now_ms = started_ms
        self.taken: list[tuple[int, RecoveryStep]] = []
        self.failed: list[RecoveryStep] = []

    def wait(self, seconds: int, available: tuple[RecoveryStep, ...] = CHEAP, until: Callable[[], bool] = lambda: False) -> None:
        for _ in range(seconds):
            if until():
                return
            self.now_ms += 1000
            failed = self.ladder.judge(self.now_ms)
            if failed is not None:
                self.failed.append(failed)
            step = self.ladder.next(self.now_ms, available)
            if step is not None:
                self.taken.append((self.now_ms, step))
                self.ladder.begin(step, self.now_ms)
                self.ladder.end(self.now_ms)

    @property
    def steps(self) -> list[RecoveryStep]:
        return [step for _, step in self.taken]


def test_from_the_mildest_to_the_harshest_each_with_its_time() -> None:
    deaf = Deaf()
    deaf.wait(90)
    assert deaf.taken == [(1000, "restart-scan"), (16_000, "new-scanner"), (31_000, "power-cycle"), (46_000, "reset-controller")]
    assert deaf.failed == list(CHEAP)


def test_then_it_rests_ever_longer() -> None:
    deaf = Deaf()
    deaf.wait(24 * 3600)
    rounds = [at_ms for at_ms, step in deaf.taken if step == "restart-scan"]
    pauses = [later - sooner for sooner, later in pairwise(rounds)]
    assert pauses == sorted(pauses)
    assert REST_FIRST_MS <= pauses[0] < REST_FIRST_MS + 90_000
    assert REST_MOST_MS <= pauses[-1] < REST_MOST_MS + 90_000
    assert len(rounds) < 60


@pytest.mark.parametrize("helped", CHEAP)
def test_what_helped_is_remembered_and_comes_first_the_next_time(helped: RecoveryStep) -> None:
    deaf = Deaf()
    deaf.wait(300, until=lambda: helped in deaf.steps)
    assert deaf.ladder.heard() == helped
    assert deaf.ladder.memory == RecoveryMemory(helped)

    again = Deaf(deaf.ladder.memory)
    again.wait(200)
    others = [step for step in CHEAP if step != helped]
    assert again.steps[:4] == [helped, *others]
    # It did not help this time, so it is not the first any more.
    assert again.ladder.memory == RecoveryMemory()


def test_what_is_heard_long_after_a_step_is_not_its_merit() -> None:
    deaf = Deaf()
    deaf.wait(1, ("restart-scan",))
    deaf.wait(20, ())
    assert deaf.failed == ["restart-scan"]
    assert deaf.ladder.heard() is None
    assert deaf.ladder.memory == RecoveryMemory()


def test_what_is_not_available_is_left_out() -> None:
    deaf = Deaf(RecoveryMemory("reset-controller"))
    deaf.wait(60, ("power-cycle",))
    assert deaf.steps == ["power-cycle"]


def test_the_process_is_ended_only_after_an_hour_of_its_life() -> None:
    deaf = Deaf(started_ms=10 * HOUR_MS)
    deaf.wait(3 * 3600, (*CHEAP, "restart-process"), until=lambda: "restart-process" in deaf.steps)
    assert HOUR_MS <= deaf.now_ms - 10 * HOUR_MS <= HOUR_MS + REST_MOST_MS + 120_000
    assert deaf.ladder.memory == RecoveryMemory(None, "restart-process")


def test_a_new_process_that_hears_at_once_owes_it_to_its_start() -> None:
    ladder = Ladder(RecoveryMemory(None, "restart-process"), 5 * HOUR_MS)
    assert ladder.next(5 * HOUR_MS + 1000, STEPS) is None
    assert ladder.heard() == "restart-process"
    assert ladder.memory == RecoveryMemory("restart-process")


@pytest.mark.parametrize(
    ("up_ms", "ended_by", "reboots"),
    [
        (5 * HOUR_MS, "restart-process", False),
        (7 * HOUR_MS, None, False),
        (7 * HOUR_MS, "restart-process", True),
        (7 * HOUR_MS, "reboot", True),
    ],
)
def test_a_reboot_needs_six_hours_and_an_end_of_the_process_in_vain(
    up_ms: int, ended_by: RecoveryStep | None, reboots: bool
) -> None:
    deaf = Deaf(RecoveryMemory(None, ended_by), up_ms)
    deaf.wait(900, (*CHEAP, "reboot"))
    assert ("reboot" in deaf.steps) is reboots


def test_two_steps_at_once_are_a_mistake() -> None:
    ladder = Ladder(RecoveryMemory(), 0)
    ladder.begin("restart-scan", 0)
    assert ladder.next(10**9, STEPS) is None
    with pytest.raises(ValueError, match="still under way"):
        ladder.begin("new-scanner", 1)


acts = st.lists(
    st.tuples(
        st.integers(0, 40_000),
        st.sets(st.sampled_from(STEPS)),
        st.sampled_from(["look", "look", "look", "heard"]),
        st.integers(0, 30),
    ),
    max_size=120,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(acts, st.sampled_from([None, *STEPS]), st.sampled_from([None, "restart-process", "reboot"]), st.integers(0, 10 * HOUR_MS))
def test_whatever_happens_it_is_never_a_loop(
    acts: list[tuple[int, set[RecoveryStep], str, int]],
    helped: RecoveryStep | None,
    ended_by: RecoveryStep | None,
    started_ms: int,
) -> None:
    ladder = Ladder(RecoveryMemory(helped, ended_by), started_ms)
    now_ms, quiet_until_ms = started_ms, started_ms
    began: dict[RecoveryStep, int] = {}
    for wait_ms, available, what, lasts_s in acts:
        now_ms += wait_ms
        if what == "heard":
            before = ladder.memory
            step = ladder.heard()
            assert ladder.memory == RecoveryMemory(step or before.helped)
            continue
        memory = ladder.memory
        step = ladder.next(now_ms, available)
        if step is None:
            continue
        assert step in available
        assert now_ms >= quiet_until_ms, "the last step still had time"
        if memory.helped in available and memory.helped not in began:
            allowed = memory.helped not in {"restart-process", "reboot"}
            assert step == memory.helped or not allowed
        if step == "restart-process":
            assert now_ms - started_ms >= HOUR_MS
        elif step == "reboot":
            assert now_ms >= 6 * HOUR_MS
            assert memory.ended_by is not None
        elif step in began:
            assert now_ms - began[step] >= APART_MS[step]
        began[step] = now_ms
        ladder.begin(step, now_ms)
        assert ladder.next(now_ms, STEPS) is None
        now_ms += lasts_s * 1000
        ladder.end(now_ms)
        quiet_until_ms = now_ms + SETTLE_MS[step]
        if step in {"restart-process", "reboot"}:
            # The process ends here.
            assert ladder.memory.ended_by == step
            return
