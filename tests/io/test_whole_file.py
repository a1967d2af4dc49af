"""A file is replaced whole or not at all, whatever ends the writing."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.errors import DiskError, TryAgain
from gateway.io.whole_file import alone_in, write_whole

OLD = "the old one\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "kept" / "shop.json"
    path.parent.mkdir()
    path.write_text(OLD)
    return path


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def in_a_process(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """In one of its own, which may be killed or be given a limit."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_file_is_replaced_and_nothing_is_left_beside_it(file: Path) -> None:
    write_whole(file, "ä new one\n")
    assert file.read_bytes() == "ä new one\n".encode()
    write_whole(file, (f"{number}\n" for number in range(3)))
    assert file.read_text() == "0\n1\n2\n"
    assert names_in(file.parent) == ["shop.json"]


def test_who_may_read_it_stays_as_it_was(file: Path) -> None:
    file.chmod(0o604)
    write_whole(file, "new", mode=0o600)
    assert mode_of(file) == 0o604


@pytest.mark.parametrize(("umask", "mode", "expected"), [(0o027, None, 0o640), (0o077, 0o640, 0o640), (0o000, 0o600, 0o600)])
def test_a_new_file_may_be_read_by_whom_it_is_meant_for(tmp_path: Path, umask: int, mode: int | None, expected: int) -> None:
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "a" / "b" / "new", "text", mode=mode, folder_mode=0o700)
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "a" / "b" / "new") == expected


def test_a_folder_that_is_missing_is_made_only_where_that_is_meant(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match=r"No such file or directory.*Choose another place\.") as caught:
        write_whole(tmp_path / "missing" / "file", "text", do="Choose another place.")
    assert caught.value.where == str(tmp_path / "missing" / "file")


def test_what_is_no_ordinary_file_is_left_alone(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe, Path()):
        with pytest.raises(DiskError, match="is no ordinary file"):
            write_whole(path, "text")
    assert names_in(tmp_path) == ["pipe"]


def test_what_raises_while_it_is_written_leaves_the_old_file(file: Path) -> None:
    def pieces() -> Iterator[str]:
        yield "half of it"
        raise KeyError

    with pytest.raises(KeyError):
        write_whole(file, pieces())
    assert (file.read_text(), names_in(file.parent)) == (OLD, ["shop.json"])


def test_a_disk_that_takes_no_more_leaves_the_old_file(file: Path) -> None:
    code = (
        "import pathlib, resource, signal, sys; from gateway.io.whole_file import write_whole;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "write_whole(pathlib.Path(sys.argv[1]), 'x' * 100_000)"
    )
    done = in_a_process(code, file)
    assert done.returncode == 1
    assert "DiskError" in done.stderr
    assert "File too large" in done.stderr
    assert (file.read_text(), names_in(file.parent)) == (OLD, ["shop.json"])


def test_one_at_a_time_changes_a_folder_and_it_is_free_when_that_one_dies(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    code = (
        "import pathlib, sys; from gateway.io.whole_file import alone_in;"
        "lock = alone_in(pathlib.Path(sys.argv[1])); lock.__enter__(); print('alone', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"alone\n"
        with pytest.raises(TryAgain, match="is being changed by somebody else"), alone_in(folder):
            pass
        with alone_in(tmp_path):
            pass
        other.kill()
        other.wait()
    with alone_in(folder):
        pass
    with alone_in(folder):
        pass


def test_a_process_that_is_killed_while_it_writes_leaves_the_old_file(file: Path) -> None:
    code = (
        "import os, pathlib, signal, sys; from gateway.io.whole_file import write_whole;"
        "pieces = (os.kill(os.getpid(), signal.SIGKILL) if n == 9 else 'x' * 100_000 for n in range(10));"
        "write_whole(pathlib.Path(sys.argv[1]), pieces)"
    )
    assert in_a_process(code, file).returncode == -signal.SIGKILL
    assert file.read_text() == OLD
