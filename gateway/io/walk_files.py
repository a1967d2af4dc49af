"""The folder of accepted walks: by zone a recording and what was measured when it was accepted, readable by the service alone.

::

    walks/dairy.jsonl   the test device's sightings, in the neutral recording format
    walks/dairy.json    when it was walked, and the figures that must not get worse
    walks/models.made.json   what is known of the kept zone models besides the models
"""

from pathlib import Path

from gateway.errors import ConfigurationError
from gateway.io.whole_file import write_whole

_RECORDING, _ABOUT, _MODELS = ".jsonl", ".json", "models.made"
_MAX_BYTES = 64 * 1024 * 1024


class WalkFiles:
    """Text in, text out; a file is there whole or not at all. Who learns from a recording reads it (``gateway.io.learning``)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def zones(self) -> tuple[str, ...]:
        """Those with an accepted walk, in order."""
        try:
            names = sorted(path.stem for path in self.folder.glob(f"*{_RECORDING}") if not path.name.startswith("."))
        except OSError as error:
            raise _unreadable(self.folder, error) from error
        return tuple(name for name in names if (self.folder / f"{name}{_ABOUT}").exists())

    def path(self, zone: str) -> Path:
        """Its recording."""
        return self.folder / f"{zone}{_RECORDING}"

    def about(self, zone: str) -> bytes:
        """What stands beside the recording."""
        return _read(self.folder / f"{zone}{_ABOUT}")

    def write(self, zone: str, recording: str, about: str) -> None:
        """Replace the zone's walk."""
        self._write(f"{zone}{_RECORDING}", recording)
        self._write(f"{zone}{_ABOUT}", about)

    def write_about(self, zone: str, about: str) -> None:
        """Replace what stands beside the recording."""
        self._write(f"{zone}{_ABOUT}", about)

    def read_models(self) -> bytes | None:
        """What is known of the kept models."""
        path = self.folder / f"{_MODELS}{_ABOUT}"
        return _read(path) if path.exists() else None

    def write_models(self, text: str) -> None:
        """Replace it."""
        self._write(f"{_MODELS}{_ABOUT}", text)

    def _write(self, name: str, text: str) -> None:
        write_whole(self.folder / name, text, mode=0o600, folder_mode=0o700, do="Check folder, owner and free space.")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"cannot be read ({error.strerror}).", where=str(path), do="Check its owner, or walk the zone again."
    )
