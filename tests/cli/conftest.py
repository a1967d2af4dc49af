"""What several tests of the command line need."""

from collections.abc import Iterator

import pytest

from tests.cli.forked import Forked
from tests.cli.shown import Shown, demonstrated


@pytest.fixture(scope="module")
def gateway() -> Iterator[Forked]:
    """`gateway …`, quickly."""
    with Forked() as forked:
        yield forked


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """Two minutes in the simulated shop, once for everybody who only looks."""
    return demonstrated(tmp_path_factory.mktemp("shown") / "demo")
