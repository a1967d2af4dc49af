"""What the command and the daemon cost as processes: time to --help, memory of a running gateway."""

import subprocess
import sys
import time
from pathlib import Path

from bench.figures import Effort, Figure, median


def measure(effort: Effort) -> list[Figure]:
    """Wall time of the whole process, as a person waits for it."""
    program = Path(sys.executable).with_name("gateway")
    took = []
    for _ in range(max(3, effort.rounds + 3)):
        began = time.perf_counter()
        subprocess.run([program, "--help"], check=True, stdout=subprocess.DEVNULL)  # noqa: S603 -- our own program
        took.append((time.perf_counter() - began) * 1000)
    bare = []
    for _ in range(max(3, effort.rounds // 2)):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        bare.append((time.perf_counter() - began) * 1000)
    return [
        Figure(
            "help_ms",
            "ms",
            median(took),
            250,
            means=f"wall time of the process `gateway --help`, median of {len(took)}",
            beside=f"python -c pass {median(bare):.0f}",
        )
    ]
