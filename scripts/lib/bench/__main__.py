"""The command line of `scripts/bench`: run the subjects one after the other, print one table, write one file."""

import argparse
import contextlib
import importlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bench.figures import FULL, PI_FACTOR, QUICK, Effort, Figure, is_compiled, machine, number, pace_ns, table

SUBJECTS = (
    "decode",
    "pipeline",
    "matching",
    "outbox",
    "publishing",
    "decision",
    "processes",
    "memory",
    "roster",
    "zones",
    "walks",
    "radio",
    "flood",
    "simulator",
)
_MADE_FASTER = ("decode", "pipeline", "matching")
"""What compiling is for: measured as it is without, too, right after it."""
_PRIORITY = -15
"""Niceness where that is allowed: what others do on the machine is not what is measured."""


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument(
        "subjects", nargs="*", metavar="NAME", help=f"what to measure: {', '.join(SUBJECTS)} (default: everything)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--quick", action="store_true", help="few rounds and short runs: whether it works, not how fast it is")
    parser.add_argument("--only-limited", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = [name for name in options.subjects if name not in SUBJECTS]
    if unknown:
        parser.error(f"{unknown[0]} is not among {', '.join(SUBJECTS)}")

    with contextlib.suppress(OSError):
        os.nice(_PRIORITY)
        # Where the kernel groups processes by session, niceness counts within the group only.
        Path("/proc/self/autogroup").write_text(str(_PRIORITY), "ascii")
    effort = (QUICK if options.quick else FULL)._replace(only_limited=options.only_limited)
    before, began = os.getloadavg(), time.time()
    pace = [pace_ns()]
    figures: list[Figure] = []
    for name in options.subjects or SUBJECTS:
        print(f"measuring {name}{' interpreted' if effort.only_limited else ''} …", file=sys.stderr, flush=True)
        # What installing, compiling and the subject before have left for the disk would be waited for by this one's flushes.
        os.sync()
        found = _in_a_process_of_its_own(name, effort)
        figures += _beside_interpreted(found, name, quick=options.quick) if name in _MADE_FASTER and is_compiled() else found
        pace.append(pace_ns())

    loads = ", ".join(f"{load:.1f}" for load in before)
    loads = f"load average before {loads}, after {os.getloadavg()[0]:.1f}"
    about = machine()
    kind = "compiled" if is_compiled() else "interpreted"
    took = f"{round(time.time() - began)} s; {loads}; a dictionary look-up in a loop {min(pace)} … {max(pace)} ns"
    print(f"{about['processor']} ({about['cores']} cores), Python {about['python']}, gateway {kind}, {took}\n")
    print(table(figures))
    print(f"\nPi 4: the value times (or through) {PI_FACTOR}, which is an estimate: nothing was measured on one.")
    missed = [f"{figure.name} ({number(figure.value)})" for figure in figures if figure.is_met is False]
    print(f"Missed: {', '.join(missed)}" if missed else "Everything that has a limit is within it.")
    if options.json:
        report = {
            **{figure.name: round(figure.value, 4) for figure in figures},
            "limits": {figure.name: figure.bound for figure in figures if figure.bound is not None},
            "pi_4_estimate": {figure.name: round(figure.on_a_pi, 4) for figure in figures if figure.on_a_pi is not None},
            "means": {figure.name: figure.means for figure in figures},
            "quick": options.quick,
            "load_average_before": before,
            "load_average_after": os.getloadavg(),
            "pace_ns": pace,
            **about,
        }
        options.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


def _beside_interpreted(figures: list[Figure], name: str, *, quick: bool) -> list[Figure]:
    """The same figures with what they are where nothing is compiled."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "figures.json")
        command = [sys.executable, "-m", "bench", name, "--only-limited", "--json", str(report), *(["--quick"] if quick else [])]
        path = os.environ["PYTHONPATH"].partition(os.pathsep)[2]
        subprocess.run(  # noqa: S603 -- our own program
            command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": path}
        )
        interpreted = json.loads(report.read_text(encoding="utf-8"))
    return [
        figure._replace(beside="; ".join(filter(None, (figure.beside, f"interpreted {number(interpreted[figure.name])}"))))
        if figure.name in interpreted and figure.bound is not None
        else figure
        for figure in figures
    ]


def _in_a_process_of_its_own(name: str, effort: Effort) -> list[Figure]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(importlib.import_module(f"bench.{name}").measure, effort).result()


if __name__ == "__main__":
    sys.exit(main())
