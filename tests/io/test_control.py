"""The control socket: one line in, one line out, and no way to hold it up or to take another daemon's place."""

import asyncio
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from gateway.errors import ConfigurationError, DiskError, GatewayError, TryAgain
from gateway.io.control import MAX_LINE_BYTES, ControlServer, ask

Answer = Callable[[bytes], Awaitable[bytes]]


async def echo(line: bytes) -> bytes:
    return b"you said " + line


@asynccontextmanager
async def serving(path: Path, answer: Answer = echo) -> AsyncIterator[asyncio.Task[object]]:
    task: asyncio.Task[object] = asyncio.create_task(ControlServer(path, answer).run())
    while not path.exists() and not task.done():  # noqa: ASYNC110 -- a file announces nothing
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.02)
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, GatewayError):
            await task


async def asked(path: Path, request: bytes = b"how are you\n", timeout_s: float = 5.0) -> bytes | None:
    return await asyncio.to_thread(ask, path, request, timeout_s=timeout_s)


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def test_a_question_gets_its_answer_and_the_socket_is_for_the_group_alone(tmp_path: Path) -> None:
    path = tmp_path / "run" / "control.sock"
    async with serving(path):
        assert await asked(path) == b"you said how are you\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert not path.exists(), "a daemon that ends takes its socket along"


async def test_a_folder_deeper_than_a_socket_address_holds_is_reached(tmp_path: Path) -> None:
    path = tmp_path / ("deep-" * 20) / ("deeper-" * 10) / "control.sock"
    async with serving(path):
        assert await asked(path) == b"you said how are you\n"


@pytest.mark.parametrize("left_behind", [False, True], ids=["never run", "killed"])
def test_where_no_daemon_listens_there_is_no_answer(tmp_path: Path, left_behind: bool) -> None:
    path = tmp_path / "control.sock"
    if left_behind:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
    assert ask(path, b"{}\n") is None


async def test_the_socket_of_a_killed_daemon_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with serving(path):
        assert await asked(path) == b"you said how are you\n"


async def test_a_second_daemon_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with serving(path):
        with pytest.raises(ConfigurationError, match="another gateway is running"):
            await asyncio.wait_for(ControlServer(path, echo).run(), 5)
        assert await asked(path) == b"you said how are you\n"


async def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("somebody's notes")
    with pytest.raises(ConfigurationError, match="no socket"):
        await ControlServer(path, echo).run()
    assert path.read_text() == "somebody's notes"


async def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="control socket cannot be made"):
        await ControlServer(tmp_path / "file" / "control.sock", echo).run()


@pytest.mark.parametrize(
    "rude",
    [b"", b"no end of line", b"x" * (MAX_LINE_BYTES + 70_000), b"\x00\xff\n"],
    ids=["nothing", "unfinished", "endless", "binary"],
)
async def test_whoever_asks_rudely_keeps_nobody_else_from_asking(tmp_path: Path, rude: bytes) -> None:
    path = tmp_path / "control.sock"
    async with serving(path):
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(rude)
        with suppress(ConnectionError):
            await asyncio.wait_for(writer.drain(), 5)
        assert await asked(path) == b"you said how are you\n"
        await closed(writer)
        assert await asked(path) == b"you said how are you\n"


async def test_idle_connections_do_not_lock_the_others_out_for_longer_than_they_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with serving(path):
        idle = [await asyncio.open_unix_connection(path) for _ in range(16)]
        await asyncio.sleep(0.05)
        with pytest.raises(TryAgain):
            await asked(path)
        await closed(idle[0][1])
        await asyncio.sleep(0.05)
        assert await asked(path) == b"you said how are you\n"
        for _, writer in idle[1:]:
            await closed(writer)


async def test_a_daemon_that_hangs_is_a_sentence(tmp_path: Path) -> None:
    async def never(_: bytes) -> bytes:
        await asyncio.Event().wait()
        return b""

    path = tmp_path / "control.sock"
    async with serving(path, never):
        with pytest.raises(TryAgain, match="does not answer"):
            await asked(path, timeout_s=0.2)


async def test_a_daemon_that_ends_while_it_starts_leaves_nothing_open(tmp_path: Path) -> None:
    for turns in range(4):
        path = tmp_path / f"control-{turns}.sock"
        task = asyncio.create_task(ControlServer(path, echo).run())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert not path.exists()
