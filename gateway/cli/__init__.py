"""The command `gateway`: thin commands, one file per noun; a failure is one sentence and an exit code, never a traceback."""

import io
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from gateway.errors import GatewayError

_MISUSED = 2
_INTERRUPTED = 130
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
    try:
        sys.exit(work())  # type: ignore[arg-type]  # what sys.exit takes: None or an exit code
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except Exception as error:
        if _is_broken_pipe(error):
            _stop_writing()
        misuse = _misuse_of(error)
        if misuse is not None:
            print(misuse, file=sys.stderr)
            sys.exit(_MISUSED)
        failure = _failure_of(error)
        if failure is None:
            raise
        from gateway.core.sanitiser import printable

        print(f"gateway: {printable(failure, limit=1000)}", file=sys.stderr)
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


def _stop_writing() -> NoReturn:
    """Whoever read our output has gone (`| head`): nobody is left to complain to, not even at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(_BROKEN_PIPE)


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
