"""sqlite-utils as this program uses it: without numpy.

It loads numpy wherever that is installed, to be able to make columns of numpy's types; we make none. numpy takes 12 MB, and a
shop that is known by its anchors needs it for nothing else.
"""

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def _left_out(name: str) -> Iterator[None]:
    """Let imports meanwhile find the package not installed, unless it is loaded already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # which means just that: docs.python.org/3/reference/import.html#the-module-cache
    try:
        yield
    finally:
        del sys.modules[name]


with _left_out("numpy"):
    from sqlite_utils import Database
    from sqlite_utils.migrations import Migrations

__all__ = ["Database", "Migrations"]
