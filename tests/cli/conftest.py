"""What several tests of the command line need."""

from collections.abc import Iterator

import pytest

from tests.cli.forked import Forked


@pytest.fixture(scope="module")
def gateway() -> Iterator[Forked]:
    """`gateway …`, quickly."""
    with Forked() as forked:
        yield forked
