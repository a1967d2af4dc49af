"""`gateway` for many commands in a row: a process that has imported everything forks for each, so nobody waits for imports.

::

    bin/gateway zone list ── argv, folder, environment, its own 0, 1, 2 ──▶ this, which forks ── gateway.cli.main()
                          ◀── process id, exit code ──

What runs is the product's own ``main`` in a process of its own. The one thing added: where the command line names no settings,
those of the stage take the place of the ones in /etc.
"""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from typer.main import get_command

import gateway.cli
from gateway.cli import main
from gateway.cli.app import app

CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
asked = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(asked).to_bytes(4, "big")], [0, 1, 2])
server.sendall(asked)
answers = server.makefile()
process = int(answers.readline())
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: os.kill(process, number))
sys.exit(int(answers.readline()))
"""


def install(bin_folder: Path, address: Path) -> None:
    """Put the client on the path."""
    client = bin_folder / "gateway"
    client.write_text(CLIENT.format(python=sys.executable, address=str(address)))
    client.chmod(0o755)


def with_settings(words: list[str], settings: dict[str, str]) -> list[str]:
    """``words`` with ``--config`` where the command knows it, has a usual file for it, and was not told another."""
    command, path = get_command(app), 0
    while path < len(words) and words[path] in getattr(command, "commands", {}):
        command, path = command.commands[words[path]], path + 1  # type: ignore[attr-defined]
    usual = next((str(each.default) for each in command.params if each.name == "config"), "")
    if usual not in settings or "--config" in words or {"--help", "-h"} & set(words):
        return words
    return [*words[:path], "--config", settings[usual], *words[path:]]


def serve(address: Path, settings: dict[str, str]) -> None:
    """Until a signal ends it."""
    for module in pkgutil.iter_modules(gateway.cli.__path__):
        importlib.import_module(f"gateway.cli.{module.name}")
    # What is never collected is not written to either, and so is not copied for each command.
    gc.freeze()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(address))
    listening.listen(16)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listening.accept()
        if not os.fork():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listening.close()
            _guard(connection, settings)
        connection.close()


def _guard(connection: socket.socket, settings: dict[str, str]) -> None:
    size, streams, _, _ = socket.recv_fds(connection, 4, 3)
    asked = connection.makefile("rb").read(int.from_bytes(size, "big"))
    words, folder, environment = json.loads(asked)
    process = os.fork()
    if not process:
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["gateway", *with_settings(words, settings)]
        _end_with(main)
    for stream in streams:
        os.close(stream)
    connection.sendall(f"{process}\n".encode())
    threading.Thread(target=_until_nobody_waits, args=(connection.dup(), process), daemon=True).start()
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    connection.sendall(f"{code if code >= 0 else 128 - code}\n".encode())
    os._exit(0)


def _end_with(program: Callable[[], None]) -> NoReturn:
    """As the interpreter would end, but without taking apart everything that was imported: that takes half a second."""
    code: object = 1
    try:
        program()
        code = 0
    except SystemExit as ending:
        code = ending.code or 0
    finally:
        if code == 1 and sys.exc_info()[1] is not None:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def _until_nobody_waits(connection: socket.socket, process: int) -> None:
    """A client that was killed cannot pass it on."""
    connection.recv(1)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), json.loads(sys.argv[2]))
