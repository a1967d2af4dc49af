"""Runs `gateway …` as its entry point does, as often as a table of cases needs it: each run is a fork of a process that has the
imports done, so that it costs some milliseconds and not a second.
"""

import codecs
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

PATIENCE_S = 30
MEMORY_BYTES = 4 * 1024**3
"""Whoever reads /dev/zero to its end does not get there."""


@dataclass(frozen=True, slots=True)
class Done:
    """One run."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """What --json printed."""
        assert self.returncode == 0, self.stderr
        return json.loads(self.stdout)


class Forked:
    """The process that is forked, from outside."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="forked-")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-W", "error", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="ascii",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=PATIENCE_S)
        self._folder.cleanup()

    def run(self, *arguments: object, cwd: Path | None = None, stdin: bytes = b"", **environment: str) -> Done:
        """Run `gateway` with these arguments to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        folder = Path(self._folder.name)
        (folder / "stdin").write_bytes(stdin)
        order = {
            "arguments": [*map(str, arguments)],
            "cwd": str(cwd or folder),
            "folder": str(folder),
            "environment": {"COLUMNS": "200", **environment},
        }
        print(json.dumps(order), file=self._process.stdin, flush=True)
        code = int(self._process.stdout.readline())
        said, complained = ((folder / name).read_text("utf-8") for name in ("stdout", "stderr"))
        return Done(code, said, complained)


def main() -> None:
    """What is forked: one order a line, one exit code a line."""
    import gateway.cli
    import gateway.cli.app
    import gateway.cli.catalogue
    import gateway.cli.central
    import gateway.cli.change
    import gateway.cli.why
    import gateway.contract.promotion_lint
    import gateway.daemon.kept_walks  # noqa: F401 -- imported for every child

    # A child that has become somebody who may not read this Python could not import it.
    codecs.lookup("ascii")
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(order)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201 -- the answer


def _run(order: dict[str, Any]) -> None:
    """In the child: never returns."""
    from gateway.cli import main as entry_point

    code: object = 1
    try:
        signal.alarm(PATIENCE_S)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        folder = Path(order["folder"])
        for descriptor, name, flags in (
            (0, "stdin", os.O_RDONLY),
            (1, "stdout", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            (2, "stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        ):
            os.dup2(os.open(folder / name, flags, 0o600), descriptor)
        os.chdir(order["cwd"])
        os.environ.update(order["environment"])
        sys.argv = ["gateway", *order["arguments"]]
        entry_point()
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:  # noqa: BLE001 -- what an interpreter does at the end of a program
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    main()
