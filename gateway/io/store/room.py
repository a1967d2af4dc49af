"""Room on the disk: what says that there is none, and a file that is given up so that the most urgent can still be written.

With a write-ahead log a full disk refuses even a DELETE, for that is written to the log first: without the ballast central's
acknowledgements could make no room, and nobody could be erased.
"""

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Literal, get_args

from gateway.errors import DiskError

Cause = Literal["full", "quota", "failed"]
CAUSES: frozenset[str] = frozenset(get_args(Cause))
SENTENCES: dict[Cause, tuple[str, str]] = {
    "full": ("the disk is full.", "Make room: sudo du -xh / | sort -h | tail; sudo journalctl --vacuum-size=100M"),
    "quota": ("the database is as large as storage.quota_mib allows.", "See why central does not acknowledge, or raise it."),
    "failed": ("the disk cannot be written.", "See sudo dmesg, and change the card if it fails again."),
}
"""What is wrong, and what to do."""
AFTERWARDS: dict[Cause, str] = {
    "full": "See what has filled the disk: journalctl -u gateway says when it began.",
    "quota": "See why central did not acknowledge for so long.",
    "failed": "See sudo dmesg, and change the card if it fails again.",
}
"""What to do when there is room again."""

BALLAST_BYTES = 8 * 1024 * 1024
_FULL_BYTES = 1024 * 1024
"""With more room than that it is not the file system that is full, but the database's quota."""
_UNUSED_BYTES = 128 * 1024
"""With so much unused in the database itself events need no more of the disk than the log has, which is used again and again."""


class NoRoom(DiskError):
    """Nothing of what was to be written is kept, and it may be tried again: the disk is full or does not take it."""

    def __init__(self, cause: Cause, *, where: Path) -> None:
        """``where``: the database."""
        what, do = SENTENCES[cause]
        super().__init__(what, where=str(where), do=do)
        self.cause = cause


def no_room(error: sqlite3.DatabaseError, path: Path) -> NoRoom | None:
    """What the failure of a write says about room; ``None`` where it is of another kind."""
    name = getattr(error, "sqlite_errorname", "")
    # One that was moved away, or whose file system is broken, will not come back by waiting.
    if name in {"SQLITE_READONLY_DBMOVED", "SQLITE_IOERR_CORRUPTFS"}:
        return None
    if name != "SQLITE_FULL" and not name.startswith(("SQLITE_IOERR", "SQLITE_READONLY")):
        return None
    if free_bytes(path) < _FULL_BYTES:
        return NoRoom("full", where=path)
    return NoRoom("quota" if name == "SQLITE_FULL" else "failed", where=path)


def free_bytes(path: Path) -> int:
    """Room for us where the file is; none where that cannot be told."""
    try:
        found = os.statvfs(path.parent)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize


class Ballast:
    """A file beside the database that takes room while there is some."""

    def __init__(self, database: Path, size_bytes: int = BALLAST_BYTES) -> None:
        """It is taken by ``load``; of no bytes there is never one."""
        self._database = database
        self._path = database.with_name(f"{database.name}.ballast")
        self._bytes = size_bytes
        self.is_in_place = False

    def load(self) -> None:
        """Take the room, where as much again stays free."""
        try:
            self.is_in_place = self._bytes > 0 and self._path.stat().st_blocks * 512 >= self._bytes
        except OSError:
            self.is_in_place = False
        if self.is_in_place or not self._bytes or free_bytes(self._database) < 2 * self._bytes:
            return
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._bytes)
            finally:
                os.close(descriptor)
            self.is_in_place = True
        except OSError:
            self._remove()

    def drop(self) -> bool:
        """Give the room up if it is needed; returns whether it was."""
        if not self.is_in_place or free_bytes(self._database) >= self._bytes:
            return False
        self._remove()
        return True

    def _remove(self) -> None:
        self.is_in_place = False
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def leaves_room(self, unused_bytes: int) -> bool:
        """Whether more than the most urgent may be written; ``unused_bytes``: in the database itself."""
        if not self._bytes or self.is_in_place or unused_bytes >= _UNUSED_BYTES:
            return True
        return free_bytes(self._database) >= self._bytes
