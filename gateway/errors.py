"""What can go wrong outside of us, each with its exit code; a leaf that every layer may import.

A message says what failed, on what, and what to do. Mistakes of our own stay ``ValueError`` and ``AssertionError``: they stop
the process and systemd starts it again.
"""

from typing import ClassVar


class GatewayError(Exception):
    """The world failed: shown as one clear sentence, never as a traceback."""

    exit_code: ClassVar[int] = 75

    def __init__(self, what: str, *, where: str = "", do: str = "") -> None:
        """Say what failed, ``where`` (a file, a topic, an adapter) and what the reader should ``do`` now."""
        super().__init__(what)
        self.what = what
        self.where = where
        self.do = do

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        do = f" {self.do}" if self.do else ""
        return f"{where}{self.what}{do}"


class ConfigurationError(GatewayError):
    """Settings, keys or a file that a person has to mend; starting again cannot help (EX_CONFIG)."""

    exit_code = 78


class WrongCommand(GatewayError):
    """The command line asks for what is not there, or for more than it says: another one is needed."""

    exit_code = 2


class NoRadio(GatewayError):
    """There is no radio that could hear (EX_UNAVAILABLE)."""

    exit_code = 69


class RadioGivenUp(GatewayError):
    """No adapter could be made to hear; a process that starts anew may succeed (EX_TEMPFAIL)."""

    exit_code = 75


class DiskError(GatewayError):
    """The state folder or database cannot be read or written (EX_IOERR)."""

    exit_code = 74


class TryAgain(GatewayError):
    """Something that may work later (EX_TEMPFAIL)."""

    exit_code = 75


class Untrusted(GatewayError):
    """A downlink that is unsigned, expired, for another store, rolled back or malformed: the old one stays in force."""
