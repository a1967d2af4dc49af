"""Opens captures: a file, a pipe or standard input, read in pieces; whatever cannot be opened or read is an error of ours."""

import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from gateway.errors import ConfigurationError

PIECE = 65_536
"""Octets per piece at most."""
STDIN = Path("-")


@contextmanager
def open_capture(path: Path) -> Iterator[BinaryIO]:
    """A file or pipe open for reading, or standard input for ``-``; ``ConfigurationError`` when that is impossible.

    Devices are refused unopened: opening some of them does something, and none of them is a capture.
    """
    if path == STDIN:
        yield sys.stdin.buffer
        return
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            what = "a folder" if stat.S_ISDIR(mode) else "a device or socket"
            raise ConfigurationError(f"is {what}, no file.", where=str(path), do="Name a capture file.")
        with path.open("rb", buffering=0) as file:
            yield file
    except OSError as error:
        raise _unreadable(path, error) from error


def pieces(file: BinaryIO, path: Path, most_octets: int) -> Iterator[bytes]:
    """What is in ``file``, as it comes, up to ``most_octets``; ``ConfigurationError`` when it cannot be read."""
    read = 0
    try:
        while read < most_octets and (piece := _read(file, min(PIECE, most_octets - read))):
            read += len(piece)
            yield piece
    except OSError as error:
        raise _unreadable(path, error) from error


def _read(file: BinaryIO, size: int) -> bytes:
    # A pipe gives what it has, so that a live one is shown as it comes.
    read1 = getattr(file, "read1", file.read)
    piece: bytes = read1(size)
    return piece


def _unreadable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"cannot be read ({error.strerror}).", where=str(path), do="Check path and owner.")
