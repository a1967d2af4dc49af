"""Writes a recording of what a gateway hears: our JSON lines, readable by its owner alone, bounded in time and size.

A recording that fails or is full is closed and says so; the gateway goes on without it.
"""

import logging
import os
from pathlib import Path

from gateway.core.captures import json_lines
from gateway.core.model import Counters, Instant
from gateway.core.recording import Selection
from gateway.errors import ConfigurationError

log = logging.getLogger(__name__)

MOST_OCTETS = 256 * 1024 * 1024
_FLUSH_MS = 1000
_MOST_WAITING = 512
"""Lines."""


class Recorder:
    """One recording, begun at once; ``minutes`` of the gateway's own time, at most ``most_octets``."""

    def __init__(self, path: Path, *, minutes: int, everything: bool = False, most_octets: int = MOST_OCTETS) -> None:
        """``ConfigurationError`` when the file exists already or cannot be made."""
        self.path = path
        self.advertisements = 0
        """Written so far."""
        self._selection = Selection(everything=everything)
        self._duration_ms = minutes * 60_000
        self._most_octets = most_octets
        self._octets = 0
        self._began_ms: int | None = None
        self._flushed_ms = 0
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise ConfigurationError("exists already.", where=str(path), do="Name a new file for the recording.") from error
        except OSError as error:
            raise ConfigurationError(
                f"cannot be written ({error.strerror}).", where=str(path), do="Name another file for the recording."
            ) from error
        self._descriptor: int | None = descriptor
        self._waiting = [json_lines.HEADER]
        self._flush()

    def heard(self, receiver: str, rssi_dbm: int, data: bytes, at: Instant, counters: Counters) -> None:
        """One advertisement that the pipeline has just received, with the counters it has left."""
        if self._selection.takes_latest(counters) and self._goes_on(at):
            self.advertisements += 1
            self._write(json_lines.encode(receiver, rssi_dbm, data, at))

    def ticked(self, at: Instant) -> None:
        """The pipeline has decided."""
        if self._goes_on(at):
            self._write(json_lines.encode_tick(at))
            if at.mono_ms - self._flushed_ms >= _FLUSH_MS:
                self._flushed_ms = at.mono_ms
                self._flush()

    def close(self) -> None:
        """End the recording; a second time does nothing."""
        self._flush()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _goes_on(self, at: Instant) -> bool:
        if self._descriptor is None:
            return False
        if self._began_ms is None:
            self._began_ms = at.mono_ms
        if at.mono_ms - self._began_ms < self._duration_ms and self._octets < self._most_octets:
            return True
        log.warning("recording %s has reached its limit and is closed", self.path)
        self.close()
        return False

    def _write(self, line: str) -> None:
        self._octets += len(line)
        self._waiting.append(line)
        if len(self._waiting) >= _MOST_WAITING:
            self._flush()

    def _flush(self) -> None:
        if self._descriptor is None:
            return
        octets, self._waiting = "".join(self._waiting).encode("ascii"), []
        try:
            while octets:
                octets = octets[os.write(self._descriptor, octets) :]
        except OSError as error:
            log.error("recording %s cannot be written (%s) and is closed", self.path, error.strerror)  # noqa: TRY400 -- no mistake of ours
            os.close(self._descriptor)
            self._descriptor = None
