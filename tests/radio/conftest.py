"""Starts the jobs that the chosen tests need, each in a machine of its own, and prints in the end what they have found."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.radio import machine
from tests.radio.machine import Ran

JOBS = {
    "rates": ["rates"],
    "faults": ["faults", "with-helper"],
    "bare": ["faults", "without-helper"],
    "cost": ["cost", "100"],
    "walk": ["walk"],
}
"""Fixture → the job it stands for, the longest first."""
LIMIT_S = 1800

Results = dict[str, Any]

_FOUND = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Takes a line for the end of the run: the figures are the point, not only that they pass."""
    return pytestconfig.stash.setdefault(_FOUND, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print them."""
    found = config.stash.get(_FOUND, [])
    if found:
        terminalreporter.section("radio lab")
        for line in found:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def jobs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, report: Callable[[str], None]
) -> Iterator[Callable[[str], Results]]:
    """Gives a job's results when it has ended. All that will be asked for start at once: none of them minds being slow."""
    wanted = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    began_s = time.monotonic()
    image = machine.image()
    report(f"the machine's image: {time.monotonic() - began_s:.0f} s")
    with ThreadPoolExecutor(max_workers=len(JOBS)) as pool:
        running: dict[str, Future[Ran]] = {
            name: pool.submit(machine.run_job, image, tmp_path_factory.mktemp(name), *words, limit_s=LIMIT_S)
            for name, words in JOBS.items()
            if name in wanted
        }

        def results_of(name: str) -> Results:
            ran = running[name].result()
            assert ran.status is not None, f"it did not come to its end in time\n{ran.said[-3000:]}\n{ran.console[-1500:]}"
            assert ran.status == 0, ran.said[-5000:]
            results: Results = json.loads((ran.folder / "results.json").read_text())
            return {**results, "took": f"{ran.took_s:.0f} s; booted in {ran.boot_s:.1f} s of the machine's own"}

        yield results_of
