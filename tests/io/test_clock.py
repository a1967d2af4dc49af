"""The clocks: two of them, and whether one can be believed."""

import asyncio
import time
from pathlib import Path

import pytest

from gateway.core.model import ClockQuality
from gateway.io import clock
from gateway.io.clock import SystemClock, boot_id, is_synchronised


def test_an_instant_is_this_moment_on_both_clocks() -> None:
    before = (time.monotonic_ns() // 1_000_000, time.time_ns() // 1_000_000)
    now = SystemClock().now()
    after = (time.monotonic_ns() // 1_000_000, time.time_ns() // 1_000_000)
    assert before[0] <= now.mono_ms <= after[0]
    assert before[1] <= now.wall_ms <= after[1]


async def test_sleeping_takes_as_long_as_was_asked() -> None:
    began = time.monotonic()
    await SystemClock().sleep_ms(50)
    assert time.monotonic() - began >= 0.049
    async with asyncio.timeout(1):
        await SystemClock().sleep_ms(-5)


def test_the_kernel_is_asked_without_privilege() -> None:
    assert is_synchronised() in {True, False}


def test_a_clock_that_is_believed_by_settings_is_synchronised() -> None:
    assert SystemClock(assume_synchronised=True).quality() is ClockQuality.SYNCHRONISED


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What the kernel will say, one answer after the other, the last for good."""
    answers: list[bool] = []
    monkeypatch.setattr(clock, "is_synchronised", lambda: answers.pop(0) if len(answers) > 1 else answers[0])
    # Every look asks anew.
    monkeypatch.setattr(clock, "_RECHECK_MS", 0)
    return answers


def test_a_clock_that_never_was_synchronised_is_not_believed(kernel: list[bool]) -> None:
    kernel += [False]
    assert SystemClock().quality() is ClockQuality.UNSYNCHRONISED


def test_a_clock_that_was_synchronised_is_held_over_for_a_while(kernel: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    kernel += [True, False]
    ours = SystemClock(skew_s=120)
    assert ours.quality() is ClockQuality.SYNCHRONISED
    assert ours.quality() is ClockQuality.HOLDOVER
    # A crystal of 100 parts per million drifts by 120 s in 1,200,000 s.
    synchronised_ms = ours._synchronised_ms
    assert synchronised_ms is not None
    ours._synchronised_ms = synchronised_ms - 1_199_990 * 1000
    assert ours.quality() is ClockQuality.HOLDOVER
    ours._synchronised_ms = synchronised_ms - 1_200_000 * 1000
    assert ours.quality() is ClockQuality.UNSYNCHRONISED
    kernel[:] = [True]
    assert ours.quality() is ClockQuality.SYNCHRONISED


def test_the_kernel_is_asked_at_most_every_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[None] = []

    def look() -> bool:
        asked.append(None)
        return False

    monkeypatch.setattr(clock, "is_synchronised", look)
    ours = SystemClock()
    for _ in range(100):
        assert ours.quality() is ClockQuality.UNSYNCHRONISED
    assert len(asked) == 1


def test_the_boot_has_the_kernels_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEWAY_BOOT_ID", raising=False)
    assert boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_the_unit_may_name_the_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox hides /proc; systemd's %b has no hyphens."""
    monkeypatch.setenv("GATEWAY_BOOT_ID", "0d3c6a526c5e4f6e9f550f3f6a1f3f10")
    assert boot_id() == "0d3c6a526c5e4f6e9f550f3f6a1f3f10"


@pytest.mark.parametrize("given", ["", "a b", "x\n", "a/b", "x" * 65, "ÄÖ"])
def test_a_name_that_no_message_could_carry_is_not_taken(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("GATEWAY_BOOT_ID", given)
    assert boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
