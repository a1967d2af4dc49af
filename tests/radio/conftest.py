"""Starts the jobs that the chosen tests need, two machines at a time, and prints in the end what they have found."""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.radio import machine
from tests.radio.machine import Ran

JOBS = {"faults": ["faults"], "rates": ["rates", "with-helper"], "walk": ["walk"], "cost": ["cost", "100"]}
"""Fixture → the job it stands for, the longest first."""
LIMIT_S = 1080

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
def jobs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Results]]:
    """Gives a job's results when it has ended. All that will be asked for start at once: a machine uses one processor."""
    wanted = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    image = machine.image()
    with ThreadPoolExecutor(max_workers=min(2, os.cpu_count() or 1)) as pool:
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
            return {**results, "took_s": round(ran.took_s)}

        yield results_of
