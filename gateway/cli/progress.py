"""A line on the terminal that says how far something is which takes longer than two seconds; nothing where nobody looks."""

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Self

from gateway.io.clock import SystemClock

_PATIENCE_MS = 2_000
_EVERY_MS = 500
_CLEAR = "\r\x1b[K"


class Progress:
    """Writes to standard error, if that is a terminal, and takes its line away in the end."""

    def __init__(self, say: Callable[[float], str]) -> None:
        """``say``: how far it is, of what has been reported last."""
        self._say = say
        self._clock = SystemClock()
        self._due_ms = self._clock.now().mono_ms + _PATIENCE_MS
        self._shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        if self._shown:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()

    def at(self, done: float) -> None:
        """So much is done; cheap enough to be called for every piece."""
        now_ms = self._clock.now().mono_ms
        if now_ms >= self._due_ms and sys.stderr.isatty():
            self._due_ms = now_ms + _EVERY_MS
            self._shown = True
            sys.stderr.write(_CLEAR + self._say(done))
            sys.stderr.flush()
