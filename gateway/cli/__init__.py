"""The command `gateway`: thin commands, one file per noun; a failure is one sentence and an exit code, never a traceback."""

import errno
import io
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, TextIO

if TYPE_CHECKING:
    from gateway.errors import GatewayError

_MISUSED = 2
_INTERRUPTED = 130
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF}
_BROKEN_PIPE = 141
"""128 + SIGPIPE, as a shell reports it."""


def main() -> None:
    """Entry point of the console script."""
    # Our matrices are small: more threads would only wait for each other. Counts only before numpy is first imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with_failures_in_words(_command)


def _command() -> object:
    # Only now, so that Ctrl-C during the imports is as quiet as later.
    from gateway.cli.app import app

    # Not standalone: what is wrong with the command line is printed here, for it repeats what was typed.
    return app(standalone_mode=False)


def with_failures_in_words(work: Callable[[], object]) -> NoReturn:
    """Exit with what ``work`` returns; what goes wrong is one sentence and an exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding.lower() != "utf-8":
        # A terminal that has no dash gets its number and not a traceback.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = work()
        if sys.stdout is not None:
            # At exit nobody could say any more that it failed.
            sys.stdout.flush()
        sys.exit(status)  # type: ignore[arg-type]  # what sys.exit takes: None or an exit code
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except Exception as error:
        if _is_broken_pipe(error):
            _write_no_more(sys.stdout)
            sys.exit(_BROKEN_PIPE)
        misuse = _misuse_of(error)
        if misuse is not None:
            _complain(misuse)
            sys.exit(_MISUSED)
        failure = _failure_of(error) or _failure_of_the_machine(error)
        if failure is None:
            raise
        from gateway.core.sanitiser import printable

        _complain(f"gateway: {printable(failure, limit=1000)}")
        sys.exit(failure.exit_code)


def _misuse_of(error: Exception) -> str | None:
    """What the command line's own parser says of it, with the usage; ``None`` for any other failure."""
    # Which module its exceptions are from depends on the version.
    show = getattr(error, "show", None)
    if show is None:
        return None
    from gateway.core.sanitiser import printable

    told = io.StringIO()
    show(told)
    # Its own line breaks stay, those that were typed do not.
    typed = any("\n" in word for word in sys.argv)
    lines = [told.getvalue()] if typed else told.getvalue().rstrip("\n").split("\n")
    return "\n".join(printable(line, limit=1000) for line in lines)


def _complain(sentence: str) -> None:
    try:
        print(sentence, file=sys.stderr, flush=True)
    except OSError:
        # Nobody is left to tell; the exit code still does.
        _write_no_more(sys.stderr)


def _write_no_more(stream: TextIO | None) -> None:
    """What it still holds would be written at exit, and would fail once more: whoever read it has gone, or the disk is full."""
    if stream is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _failure_of_the_machine(error: Exception) -> "GatewayError | None":
    """Of a file that nobody expected to fail, or of standard output, which has no name."""
    if not isinstance(error, OSError) or error.strerror is None:
        return None
    from gateway.errors import DiskError

    if error.filename is not None:
        return DiskError(f"{error.strerror}.", where=os.fsdecode(error.filename), do="Check disk, path and owner.")
    if error.errno not in _UNWRITABLE:
        return None
    _write_no_more(sys.stdout)
    return DiskError(f"what was to be printed or kept cannot be written ({error.strerror}).", do="Check disk and free space.")


def _is_broken_pipe(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(map(_is_broken_pipe, error.exceptions))
    return isinstance(error, BrokenPipeError)


def _failure_of(error: BaseException) -> "GatewayError | None":
    """The failure of ours in an exception; for a group the one with the highest exit code, if nothing else is in it."""
    from gateway.errors import GatewayError

    if isinstance(error, GatewayError):
        return error
    if not isinstance(error, BaseExceptionGroup):
        return None
    failures = [_failure_of(inner) for inner in error.exceptions]
    known = [failure for failure in failures if failure is not None]
    return max(known, key=lambda failure: failure.exit_code) if len(known) == len(failures) else None
