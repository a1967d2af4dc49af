"""What `gateway run` turns into once its command line is read: the same process, without what reads command lines.

That takes 2 MB, and a gateway runs for months.
"""

import os
import sys
from pathlib import Path
from typing import NoReturn

_EVERYTHING = "everything"


def turn_into_the_daemon(config: Path, record: Path | None, minutes: int, *, everything: bool) -> NoReturn:
    """Begin the program anew, in this process, as ``main`` below."""
    recording = [] if record is None else [str(record), str(minutes), *([_EVERYTHING] if everything else [])]
    sys.stdout.flush()
    sys.stderr.flush()
    # -P: the current folder may hold a package of our name.
    os.execv(sys.executable, [sys.executable, "-P", "-m", __name__, str(config), *recording])  # noqa: S606 -- our own program


def main(config: str, record: str | None = None, minutes: str = "0", everything: str = "") -> None:
    """Serve until SIGTERM or Ctrl-C."""
    from gateway.cli.run import Recording, run_gateway

    recording = None if record is None else Recording(Path(record), int(minutes), everything == _EVERYTHING)
    run_gateway(Path(config), recording)


if __name__ == "__main__":
    from gateway.cli import with_failures_in_words

    with_failures_in_words(lambda: main(*sys.argv[1:]))
