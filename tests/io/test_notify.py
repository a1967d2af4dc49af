"""Telling systemd, over the kind of socket that systemd listens on."""

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.io.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield listening


def test_assignments_go_in_one_datagram(manager: socket.socket) -> None:
    Notifier(manager.getsockname()).send("READY=1", "STATUS=listening")
    assert manager.recv(1000) == b"READY=1\nSTATUS=listening"


def test_the_address_comes_from_the_environment(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    Notifier().send("WATCHDOG=1")
    assert manager.recv(1000) == b"WATCHDOG=1"


def test_an_abstract_address_begins_with_an_at_sign(tmp_path: Path) -> None:
    name = str(tmp_path)[-80:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        listening.settimeout(5)
        Notifier(f"@{name}").send("STATUS=Käse €")
        assert listening.recv(1000).decode() == "STATUS=Käse €"


def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().send("READY=1")
    Notifier("").send("READY=1")


def test_a_manager_that_is_gone_is_no_error_of_ours(tmp_path: Path) -> None:
    Notifier(str(tmp_path / "nobody")).send("READY=1")
    Notifier("@nobody-listens-here").send("READY=1")
    Notifier("/" + "x" * 200).send("READY=1")


def test_a_manager_that_does_not_read_does_not_stop_us(manager: socket.socket) -> None:
    notifier = Notifier(manager.getsockname())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(10_000):
                other.sendto(b"WATCHDOG=1", manager.getsockname())
    began = time.monotonic()
    notifier.send("WATCHDOG=1")
    assert time.monotonic() - began < 1
