"""A file named on the command line: read whole, but hardly more of it than we could use (/dev/zero has no end)."""

import codecs
import os
from pathlib import Path

from gateway.errors import ConfigurationError

STANDARD_INPUT = Path("-")


def read_input(path: Path, max_bytes: int) -> bytes:
    """Its octets, those of standard input for ``-``; one more than ``max_bytes`` where there are more.

    Without the mark with which editors on Windows begin a file, and which no format of ours knows.

    ``ConfigurationError`` when it cannot be read.
    """
    try:
        with os.fdopen(0, "rb", closefd=False) if path == STANDARD_INPUT else path.open("rb") as file:
            return file.read(max_bytes + 1).removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise ConfigurationError(f"cannot be read ({error.strerror}).", where=str(path), do="Check path and owner.") from error
