"""What the pages say of the project's scripts: the very line, with an option more that keeps it short."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.world import ROOT

SHORT = {
    "scripts/demo": ["--duration", "2", "--speed", "100", "--shoppers", "1"],
    "scripts/test": ["--", "-n", "0", "--collect-only", "-q", "tests/test_layers.py"],
    "scripts/test -- tests/independent": ["-n", "0", "--collect-only", "-q"],
}
"""By the line in the page: what is added."""
FINDS = {
    "scripts/demo": "in the app's inbox, 0 duplicates, 0 lost",
    "scripts/test": "tests/test_layers.py::",
    "scripts/test -- tests/independent": "test_independent.py::test_the_stranger_receives_acknowledges_and_grants",
}


@pytest.mark.slow
@pytest.mark.parametrize("line", sorted(SHORT))
def test_the_scripts_do_what_the_pages_say(line: str) -> None:
    # scripts/demo, scripts/test, scripts/test -- tests/independent: in the environment that this test runs in.
    environment = {**os.environ, "GATEWAY_VENV": sys.prefix}
    if not Path(sys.prefix, ".gateway-stamp").exists():
        pytest.skip("this environment was not made by scripts/test, which would want to make one of its own")
    done = subprocess.run(
        [*shlex.split(line), *SHORT[line]], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert FINDS[line] in done.stdout


def test_scripts_docs_says_how_it_is_called() -> None:
    done = subprocess.run(["scripts/docs", "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: scripts/docs ")


@pytest.mark.parametrize(("wrong", "words"), [("--fast", "does not know --fast"), ("docs/nothing.md", "no page docs/nothing.md")])
def test_scripts_docs_refuses_what_it_does_not_know(wrong: str, words: str) -> None:
    done = subprocess.run(["scripts/docs", wrong], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
