"""A file that is replaced whole or not at all, so that a power cut leaves the old one or the new one; and by one at a time."""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from gateway.errors import DiskError, TryAgain


def write_whole(
    path: Path,
    text: str | Iterable[str],
    *,
    mode: int | None = None,
    folder_mode: int | None = None,
    do: str = "Check folder, owner and free space; a sandboxed service can write in its state folder only.",
) -> None:
    """Put ``text``, or its pieces one after the other, in its place as UTF-8, on disk when this returns.

    ``mode``: of a new file, ``None``: as the umask has it; one that is there keeps its own. ``folder_mode``: folders that are
    missing are made with it, ``None``: they have to be there. ``DiskError``, with ``do``, when it is impossible; then, and when
    ``text`` raises, the old file stays.
    """
    unfinished = path.parent / f".{path.name}.{secrets.token_hex(4)}.new"
    try:
        if path.exists() and not path.is_file():
            raise DiskError("is no ordinary file.", where=str(path), do="Name another one.")
        if folder_mode is not None:
            path.parent.mkdir(mode=folder_mode, parents=True, exist_ok=True)
        kept = path.stat().st_mode & 0o777 if path.exists() else mode
        # Nobody may read before the mode is right.
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if kept is None else 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
                if kept is not None:
                    os.fchmod(file.fileno(), kept)
                file.writelines((text,) if isinstance(text, str) else text)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise
        _flush_folder(path.parent)
    except OSError as error:
        raise DiskError(f"cannot be written ({error.strerror}).", where=str(path), do=do) from error


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """While this lasts nobody else who asks so changes the files of ``folder``: what was read in it holds when it is written.

    ``TryAgain`` while somebody else does. It ends with the process, however that ends. The folder is made if it is missing.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise DiskError(f"cannot be written ({error.strerror}).", where=str(folder), do="Check path and owner.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise TryAgain(
            "is being changed by somebody else.", where=str(folder), do="Nothing was changed; look and try again."
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
