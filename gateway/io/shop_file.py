"""The shop file on disk; `whole_file` writes it."""

from pathlib import Path

from gateway.errors import ConfigurationError

MAX_READ_BYTES = 2 * 1024 * 1024
"""More than a shop file may have, so that whoever parses it sees that it is too large; /dev/zero has no end."""


def read_shop_file(path: Path) -> bytes | None:
    """Its octets, or ``None`` when there is none; ``ConfigurationError`` when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_READ_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigurationError(f"cannot be read ({error.strerror}).", where=str(path), do="Check path and owner.") from error
