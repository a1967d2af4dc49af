"""A real Mosquitto on a private port and folder, which a test can kill, freeze and start again.

::

    with Mosquitto(tmp_path) as broker:          running
        broker.kill()                            gone, without a word
        broker.start()                           back, on the same port, with what it had stored
        broker.freeze(); broker.thaw()           takes connections and answers nothing; answers again
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiomqtt
import pytest

from gateway.contract.settings import Broker
from gateway.io.embedded_broker import find_mosquitto

_START_S = 10.0
_POLL_S = 0.01


class Mosquitto:
    """Skips the test where Mosquitto is not installed."""

    def __init__(
        self, folder: Path, *, persistent: bool = False, password: tuple[str, str] | None = None, rules: str | None = None
    ) -> None:
        """``persistent``: what is retained and queued survives even ``kill``. ``password``: (name, password) of the only user.

        ``rules``: the access rules, one a line; without them everything is allowed.
        """
        program = find_mosquitto()
        if program is None:
            pytest.skip("Mosquitto is not installed")
        self.folder = folder / "mosquitto"
        self.folder.mkdir()
        self.port = free_port()
        self._program = program
        self._config = self.folder / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", "set_tcp_nodelay true", "user root", "max_queued_messages 100000"]
        lines.append(f"persistence {str(persistent).lower()}")
        if persistent:
            lines += [f"persistence_location {self.folder}/", "autosave_on_changes true", "autosave_interval 1"]
        lines.append(f"allow_anonymous {str(password is None).lower()}")
        if password is not None:
            lines.append(f"password_file {self._password_file(*password)}")
        if rules is not None:
            (self.folder / "rules").write_text(rules)
            lines.append(f"acl_file {self.folder / 'rules'}")
        self._config.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def _password_file(self, name: str, password: str) -> Path:
        path = self.folder / "passwords"
        tool = shutil.which("mosquitto_passwd") or pytest.skip("mosquitto_passwd is not installed")
        path.touch(mode=0o600)
        subprocess.run([tool, "-b", path, name, password], check=True, capture_output=True)
        return path

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Of the running broker."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns when the port answers."""
        assert self._process is None, "it runs already"
        with (self.folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-v", "-c", str(self._config)], stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(_POLL_S)
        raise AssertionError(f"Mosquitto did not start:\n{self.log}")

    def kill(self) -> None:
        """SIGKILL, also when frozen; does nothing when it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def stop(self) -> None:
        """SIGTERM: it stores what it has and says goodbye."""
        process, self._process = self._process, None
        assert process is not None
        process.terminate()
        process.wait(10)

    def freeze(self) -> None:
        """From now on it answers nothing, though its kernel still accepts connections and bytes."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on where it stopped."""
        os.kill(self.pid, signal.SIGCONT)

    @property
    def log(self) -> str:
        """What it said so far."""
        return (self.folder / "mosquitto.log").read_text(errors="replace")

    def settings(self, protocol: str = "5", **more: Any) -> Broker:
        """How to reach it."""
        return Broker.model_validate({"host": "127.0.0.1", "port": self.port, "protocol": protocol, **more})

    def client(self, protocol: str = "5", **more: Any) -> aiomqtt.Client:
        """A client of the test's own."""
        version = aiomqtt.ProtocolVersion.V5 if protocol == "5" else aiomqtt.ProtocolVersion.V311
        return aiomqtt.Client("127.0.0.1", self.port, protocol=version, timeout=5, **more)


def free_port() -> int:
    """A TCP port of the loopback interface on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
