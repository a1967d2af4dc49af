"""A machine on which the gateway has a user of its own, and root types the commands."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SERVICE = 61_001
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")


@contextmanager
def two_accounts() -> Iterator[tuple[Path, Path]]:
    """A folder that everybody may enter (not pytest's, which is root's alone), and one in it that nobody but root may."""
    folder = Path(tempfile.mkdtemp(prefix="accounts-"))
    try:
        folder.chmod(0o755)
        private = folder / "private"
        private.mkdir(mode=0o700)
        yield folder, private
    finally:
        shutil.rmtree(folder)


def give_away(state: Path) -> None:
    """The service's own from now on."""
    for path in (state, *state.rglob("*")):
        os.chown(path, SERVICE, SERVICE)
    state.chmod(0o700)


def owners(state: Path) -> set[int]:
    """Whose the files in it are."""
    return {path.stat().st_uid for path in (state, *state.rglob("*"))}
