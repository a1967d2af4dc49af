"""The shop file on disk: replaced whole or not at all, so that a power cut leaves the old one or the new one."""

import contextlib
import os
import tempfile
from pathlib import Path

from gateway.errors import ConfigurationError, DiskError

MAX_READ_BYTES = 2 * 1024 * 1024
"""More than a shop file may have, so that whoever parses it sees that it is too large; /dev/zero has no end."""


def read_shop_file(path: Path) -> bytes | None:
    """Its octets, or ``None`` when there is none; ``ConfigurationError`` when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_READ_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"cannot be read ({error.strerror}).", where=str(path), do="Check path and owner.") from error


def write_shop_file(path: Path, text: str) -> None:
    """Put ``text`` in its place, on disk when this returns; ``DiskError`` when that is impossible, and then the old one stays."""
    temporary: str | None = None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o640
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105 -- a str from mkstemp
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108 -- likewise
        raise DiskError(
            f"cannot be written ({error.strerror}).",
            where=str(path),
            do="Check folder, owner and free space; a sandboxed service can write in its state folder only.",
        ) from error
