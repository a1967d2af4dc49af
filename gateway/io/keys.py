"""Key files: an app's key KU as 64 hexadecimal digits, readable by its owner alone."""

import os
import secrets
from pathlib import Path

from gateway.errors import ConfigurationError

KEY_BYTES = 32


def shopper_key(file: Path) -> bytes:
    """The 32 bytes in ``file``, which is made when there is none; ``ConfigurationError`` when it holds anything else."""
    try:
        if not file.exists():
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as out:
                out.write(secrets.token_bytes(KEY_BYTES).hex() + "\n")
        with file.open("r", encoding="ascii", errors="replace") as text:
            key = bytes.fromhex(text.read(4 * KEY_BYTES).strip())
    except OSError as error:
        raise ConfigurationError(f"cannot be used ({error.strerror}).", where=str(file), do="Check the path.") from error
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigurationError("holds no key of 64 hexadecimal digits.", where=str(file), do="Name another file.")
    return key
