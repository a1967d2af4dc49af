"""Telling systemd: readiness, a status line, the watchdog (sd_notify(3))."""

import os
import socket

_PATIENCE_S = 0.2
"""A manager that does not read must not hold up the event loop."""


class Notifier:
    """Sends to ``NOTIFY_SOCKET``; does nothing where no service manager listens."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address if address is not None else os.environ.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]

    def send(self, *assignments: str) -> None:
        """``READY=1``, ``STATUS=…``, ``WATCHDOG=1``, ``STOPPING=1``; a manager that is gone is no error of ours."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.settimeout(_PATIENCE_S)
            try:
                sock.sendto("\n".join(assignments).encode(), self._address)
            except OSError:
                return
