"""Log lines for a terminal or the journal: one line each, sanitised, with the priority that journald reads."""

import logging
import os
import re
import sys

from gateway.core.sanitiser import printable

_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_MAX_LINE = 2000
_OURS = "gateway"
_ADDRESS = re.compile(r"(?i)(?<![0-9a-f])[0-9a-f]{2}(?:[:_-][0-9a-f]{2}){5}(?![0-9a-f])")
"""An address in a library's message; D-Bus paths write it with underscores."""


class _Line(logging.Formatter):
    """``<priority>`` for the journal (sd-daemon(3)), the time for a terminal."""

    def __init__(self) -> None:
        super().__init__("%(message)s")
        self._for_journal = bool(os.environ.get("JOURNAL_STREAM"))

    def format(self, record: logging.LogRecord) -> str:
        message = printable(record.getMessage(), _MAX_LINE)
        if record.name.partition(".")[0] != _OURS:
            message = _ADDRESS.sub("(address)", message)
        if self._for_journal:
            line = f"<{_PRIORITY.get(record.levelno, 5)}>{message}"
        else:
            line = f"{self.formatTime(record)} {record.levelname.lower()} {message}"
        # Only mistakes of our own carry a traceback, and those must be seen whole.
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def log_to_stderr(level: str) -> None:
    """Our own messages at ``level``, those of libraries from warnings on and without the addresses they may name."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(_OURS).setLevel(level.upper())
