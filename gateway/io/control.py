"""The control socket, a unix stream socket: the daemon's end and the command line's.

Whoever may open the file may ask: it is made 0660, so that the service's group is let in. One line in, one line out; or, for what
takes a while, several lines out until the daemon closes, and whoever hangs up before ends it.
"""

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from pathlib import Path
from typing import NoReturn

from gateway.errors import ConfigurationError, DiskError, GatewayError, TryAgain

MAX_LINE_BYTES = 4 * 1024 * 1024
_LONGEST_NAME = 100
"""sun_path holds 108 bytes (unix(7))."""
_MAX_CONNECTIONS = 16
_PATIENCE_S = 10.0


class ControlServer:
    """Listens at ``path`` and answers each line with what ``answer`` makes of it."""

    def __init__(self, path: Path, answer: Callable[[bytes], Awaitable[bytes | AsyncGenerator[bytes, None]]]) -> None:
        self._path = path
        self._answer = answer
        self._serving: set[asyncio.Task[object]] = set()

    async def run(self) -> NoReturn:
        """Serve until cancelled, then remove the socket; ``ConfigurationError`` where another daemon listens already."""
        listening = _listen(self._path)
        made = self._path.lstat()
        # Serving begins below, so that a cancellation finds the server where it is closed.
        server = await asyncio.start_unix_server(self._serve, sock=listening, limit=MAX_LINE_BYTES, start_serving=False)
        try:
            await server.start_serving()
            # Not serve_forever: from Python 3.12 on it would wait, when cancelled, for whoever is still being answered.
            await asyncio.Event().wait()
        finally:
            server.close()
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)
            with contextlib.suppress(FileNotFoundError):
                # Not one that another daemon has put there since.
                if os.path.samestat(self._path.lstat(), made):
                    self._path.unlink()
        raise AssertionError("a server serves until it is cancelled")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._serving) < _MAX_CONNECTIONS:
                self._serving.add(task)
                async with asyncio.timeout(_PATIENCE_S):
                    line = await reader.readuntil(b"\n")
                answer = await self._answer(line)
                if isinstance(answer, bytes):
                    await _write(writer, answer)
                else:
                    await _stream(reader, writer, answer)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return  # whoever asked has gone, or never finished the question
        finally:
            self._serving.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _write(writer: asyncio.StreamWriter, line: bytes) -> None:
    writer.write(line)
    async with asyncio.timeout(_PATIENCE_S):
        await writer.drain()


async def _stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lines: AsyncGenerator[bytes, None]) -> None:
    """Line by line until there is none, or until whoever asked has gone."""

    async def write() -> None:
        async with contextlib.aclosing(lines):
            async for line in lines:
                await _write(writer, line)

    writing, gone = asyncio.create_task(write()), asyncio.create_task(reader.read(1))
    try:
        await asyncio.wait((writing, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        if not writing.done():
            writing.cancel()
        await asyncio.gather(writing, gone, return_exceptions=True)
    if not writing.cancelled():
        writing.result()


def _listen(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        with _reachable(path) as name:
            _make_room(path, name)
            # Between making the socket and chmod nobody else may connect, whatever the umask.
            before = os.umask(0o177)
            try:
                listening.bind(name)
            finally:
                os.umask(before)
            path.chmod(0o660)
        listening.listen(_MAX_CONNECTIONS)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise DiskError(f"the control socket cannot be made ({error}).", where=str(path), do="Check folder and owner.") from error
    except BaseException:
        listening.close()
        raise
    return listening


def _make_room(path: Path, name: str) -> None:
    """Remove the socket that a daemon left behind when it was killed."""
    if path.exists() and not stat.S_ISSOCK(path.lstat().st_mode):
        raise ConfigurationError("is there already and no socket.", where=str(path), do="Move it away.")
    if _is_answered(name):
        raise ConfigurationError(
            "another gateway is running with these settings.", where=str(path), do="Stop it first (systemctl stop gateway)."
        )
    path.unlink(missing_ok=True)


def _is_answered(name: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PATIENCE_S)
        try:
            probe.connect(name)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True


@contextlib.contextmanager
def _reachable(path: Path) -> Iterator[str]:
    """A name for the socket that fits into its address, however deep the folder is."""
    if len(os.fsencode(path)) <= _LONGEST_NAME:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def ask(path: Path, request: bytes, *, timeout_s: float = 30.0) -> bytes | None:
    """The daemon's answer to one line, or ``None`` when no daemon listens there.

    ``ConfigurationError`` when this user may not ask, ``TryAgain`` when the daemon does not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            with _reachable(path) as name:
                connection.connect(name)
            connection.sendall(request)
            answer = _line(connection)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return None
        except OSError as error:
            raise _no_answer(path, error) from error
    if not answer.endswith(b"\n"):
        raise TryAgain("the gateway broke off its answer.", where=str(path), do="See journalctl -u gateway.")
    return answer


def follow(path: Path, request: bytes, *, timeout_s: float = 30.0) -> Generator[bytes, None, None]:
    """The daemon's lines, one after the other, until it closes; none when no daemon listens there.

    ``timeout_s``: the longest wait for the next. Failures as for ``ask``; closing the iterator hangs up.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            with _reachable(path) as name:
                connection.connect(name)
            connection.sendall(request)
            with connection.makefile("rb") as lines:
                yield from lines
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return
        except OSError as error:
            raise _no_answer(path, error) from error


def _no_answer(path: Path, error: OSError) -> GatewayError:
    if isinstance(error, PermissionError):
        return ConfigurationError(
            "you may not talk to the gateway.",
            where=str(path),
            do="Use sudo, or join its group (sudo usermod -aG gateway $USER) and log in again.",
        )
    return TryAgain(f"the gateway does not answer ({error}).", where=str(path), do="See journalctl -u gateway.")


def _line(connection: socket.socket) -> bytes:
    parts = bytearray()
    while not parts.endswith(b"\n") and len(parts) <= 16 * MAX_LINE_BYTES:
        part = connection.recv(65536)
        if not part:
            break
        parts += part
    return bytes(parts)
