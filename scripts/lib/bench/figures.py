"""What was measured, as a row of the table and a value of the JSON file."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, NamedTuple

from gateway.core import pipeline

PI_FACTOR = 5
"""A Pi 4 core is taken to need this many times as long as one of a server: an estimate, no measurement."""
LIBRARIES = ("beacon-gateway", "aiomqtt", "bluetooth-data-tools", "habluetooth", "pydantic", "sqlite-utils")

Better = Literal["lower", "higher", "none"]


class Effort(NamedTuple):
    """How much to measure."""

    rounds: int
    """Repetitions; peers take turns in each, because a shared machine changes its pace by the minute."""
    seconds: int
    """Of real time, where time has to pass."""
    size: float
    """Share of the full trace or number of repetitions within a round."""
    only_limited: bool = False
    """No peers, and of ours only what has a limit: enough to stand beside the same figures of another build."""


FULL = Effort(rounds=7, seconds=30, size=1.0)
QUICK = Effort(rounds=2, seconds=4, size=0.1)


class Figure(NamedTuple):
    """One number."""

    name: str
    unit: str
    value: float
    bound: float | None = None
    """What must be reached; ``None`` for a peer's figure and for what only explains another."""
    better: Better = "lower"
    scales: bool = True
    """Whether a slower core makes it worse in proportion."""
    means: str = ""
    """What exactly was measured, CPU time or wall time; printed below the table."""
    beside: str = ""
    """The peer."""

    @property
    def is_met(self) -> bool | None:
        """Whether the bound is reached; ``None`` without one."""
        if self.bound is None:
            return None
        return self.value <= self.bound if self.better == "lower" else self.value >= self.bound

    @property
    def on_a_pi(self) -> float | None:
        """The value that a Pi 4 core might reach."""
        if not self.scales or self.better == "none":
            return None
        return self.value * PI_FACTOR if self.better == "lower" else self.value / PI_FACTOR


def table(figures: Sequence[Figure]) -> str:
    """One line a figure, then what each of them means."""
    head = ["figure", "unit", "value", "limit or peer", "met", f"Pi 4 (estimate, ×{PI_FACTOR})"]
    rows = [head, *(_cells(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [_line(row, widths) for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    notes = [f"{figure.name}: {figure.means}" for figure in figures if figure.means]
    return "\n".join([*lines, "", *notes])


def _cells(figure: Figure) -> list[str]:
    sign = "≤" if figure.better == "lower" else "≥"
    limit = "" if figure.bound is None else f"{sign} {number(figure.bound)}"
    met = {None: "", True: "yes", False: "NO"}[figure.is_met]
    on_a_pi = "" if figure.on_a_pi is None else number(figure.on_a_pi)
    beside = ", ".join(part for part in (limit, figure.beside) if part)
    return [figure.name, figure.unit, number(figure.value), beside, met, on_a_pi]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(
        cell.rjust(width) if column in {2, 5} else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()


def number(value: float) -> str:
    """Three digits or all before the point.

    >>> number(0.1234), number(12.34), number(123456.7)
    ('0.123', '12.3', '123,457')
    """
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that ``percent`` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def cpu_us(work: Callable[[], object], count: int) -> float:
    """CPU time of this process for one of ``count`` things that ``work`` does, µs."""
    began = time.process_time_ns()
    work()
    return (time.process_time_ns() - began) / 1000 / count


def is_compiled() -> bool:
    """Whether what is measured is the compiled gateway."""
    return not str(pipeline.__file__).endswith(".py")


def machine() -> dict[str, Any]:
    """Where it was measured."""
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "compiled": is_compiled(),
        "versions": {name: found for name in LIBRARIES if (found := _version(name)) is not None},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 -- a line of it is enough
            return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "")
    except OSError:
        return platform.processor()


def pace_ns() -> int:
    """What this machine needs at the moment for a step that is always the same: a look-up in a loop, nanoseconds of CPU time."""
    table_of = {number: str(number) for number in range(1000)}
    count = 300_000
    return round(1000 * cpu_us(lambda: sum(len(table_of[number % 1000]) for number in range(count)), count))
