"""Whatever is typed and whatever is in the files: a clear sentence and an exit code of the table, never a traceback."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.core.sanitiser import printable
from tests.cli.forked import Done, Forked

EXIT_CODES = {0, 2, 69, 74, 75, 78, 130}
"""The table in the README."""
PLAIN = 'store = "demo"\nstore_number = 4711\ngateway = "pi-1"\n'
UUID = "8b1f4a0e-5d9c-4c7b-a1e3-0d5f6a7b8c9d"
SHOP = {
    "zones": {"dairy": {}},
    "anchors": {"shelf-7": {"kind": "beacon", "zone": "dairy", "uuid": UUID, "major": 1, "minor": 7}},
}
TEXTS = ("", "--", "\x1b[31m\n", "\udcff", "a" * 100_000, "../../etc/passwd", "🧀", "\u202edairy", "nan", "-" + "9" * 400)


def well_behaved(done: Done, *command: object) -> None:
    """Whatever it said, it is safe to read and to branch on."""
    assert done.returncode in EXIT_CODES, (command, done)
    for text in (done.stdout, done.stderr):
        assert "Traceback" not in text, (command, text)
        assert "\x1b" not in text, (command, text)
    for line in done.stderr.split("\n"):
        assert printable(line, 100_000) == line, (command, done.stderr)
    if done.returncode not in {0, 2} and not done.stdout:
        lines = done.stderr.splitlines()
        assert lines[-1].startswith("gateway: "), (command, done.stderr)
        assert len(lines[-1]) <= 1100, command


# ---- arguments ----------------------------------------------------------------------------------------------------------------

CONFIGURED_SLOTS = [
    "zone add {}", "zone add x --title {}", "zone add x --tag {}", "zone add x --neighbour {}", "zone add x --enter-dbm {}",
    "zone add x --exit-delay-s {}", "zone add x --dwell-s {}", "zone show {}", "zone remove {}",
    "beacon add {} --zone dairy", "beacon add x --zone {}", "beacon add x --zone dairy --uuid {}",
    "beacon add x --zone dairy --minor {}", "beacon remove {}",
    "receiver add {}", "receiver add x --zone {}", "receiver add x --covers {}", "receiver remove {}",
    "offer show {}", "shop import {}",
]  # fmt: skip
OTHER_SLOTS = ["offer lint {}", "offer lint - --shop {}", "shop check {}", "zone {}", "{}"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "shop.json").write_text(json.dumps(SHOP))
    file = tmp_path / "gateway.toml"
    file.write_text(f'{PLAIN}state_dir = "{tmp_path}"\n[chain]\nbeacon_uuid = "{UUID}"\n')
    return file


@pytest.mark.parametrize(
    "typed", ["a\u202eb", "a\x1b[31mb", "a\u2028Error: all is well", "a\nError: all is well", "\udcff", "a" * 100_000]
)
@pytest.mark.parametrize("command", [("{}",), ("zone", "{}"), ("zone", "add", "x", "--{}"), ("zone", "add", "x", "{}")])
def test_what_the_usage_repeats_cannot_steer_a_terminal(gateway: Forked, command: tuple[str, ...], typed: str) -> None:
    done = gateway.run(*(word.format(typed) for word in command))
    assert (done.returncode, done.stdout) == (2, "")
    well_behaved(done, *command)
    assert "Usage: gateway" in done.stderr
    assert "\nError: all is well" not in done.stderr
    assert len(done.stderr) <= 2000


@pytest.mark.slow
@pytest.mark.parametrize("slot", [*CONFIGURED_SLOTS, *OTHER_SLOTS])
def test_no_word_on_the_command_line_is_too_much(gateway: Forked, config: Path, tmp_path: Path, slot: str) -> None:
    more = ["--config", str(config)] if slot in CONFIGURED_SLOTS else []
    for text in TEXTS:
        command = [part.format(text) for part in slot.split()]
        well_behaved(gateway.run(*command, *more, cwd=tmp_path), *command)


WORDS = st.sampled_from(
    [
        "zone", "beacon", "receiver", "shop", "add", "list", "show", "remove", "check", "export", "import", "schema", "lint",
        "--json", "--help", "--zone", "--title", "--tag", "--neighbour", "--covers", "--cascade", "--replace", "--uuid",
        "--minor", "--dry-run", "--shop", "dairy", "shelf-7", "x", "-", *TEXTS,
    ]
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noun=st.sampled_from(["zone", "beacon", "receiver", "shop"]), words=st.lists(WORDS, max_size=7))
@example(noun="zone", words=["remove", "dairy", "--cascade"])
def test_no_sequence_of_words_is_too_much(gateway: Forked, config: Path, noun: str, words: list[str]) -> None:
    config.with_name("shop.json").write_text(json.dumps(SHOP))
    command = [noun, *words[:1], "--config", str(config), *words[1:]]
    well_behaved(gateway.run(*command, cwd=config.parent), *command)


# ---- files --------------------------------------------------------------------------------------------------------------------


@contextmanager
def nasty_files(folder: Path) -> Iterator[dict[str, str]]:
    """What may stand where a file is expected, by name."""
    (folder / "binary").write_bytes(bytes(range(256)) * 64)
    (folder / "large").write_bytes(b"a = 1\n" * 2_000_000)
    (folder / "brackets").write_bytes(b"a = " + b"[" * 50_000)
    (folder / "braces").write_bytes(b'{"a":' * 50_000)
    (folder / "surrogate").write_bytes(b'{"zones": {"\\ud800": {}}, "promotions": [{"promotion_id": "\\udfff"}]}')
    (folder / "numbers").write_bytes(b'{"zones": {"a": {"enter_dbm": 1e999}}, "promotions": [' + b"9" * 5000 + b"]}")
    (folder / "empty").write_bytes(b"")
    (folder / "nul.toml").write_text(PLAIN + 'state_dir = "a\\u0000b"\n')
    made = ("binary", "large", "brackets", "braces", "surrogate", "numbers", "empty", "nul.toml")
    yield {
        "missing": str(folder / "no" / "file"),
        "folder": str(folder),
        "endless": "/dev/zero",
        "memory": "/proc/self/mem",
        "too long": "x" * 5000,
        "in a file": str(folder / "empty" / "x"),
        **{name: str(folder / name) for name in made},
    }


CONFIGURED = [
    "zone list", "zone add x", "zone show x", "zone remove x", "beacon add x --zone y", "beacon list", "beacon remove x",
    "receiver add x", "receiver list", "receiver remove x", "shop export", "shop import -", "offer list", "offer show x",
    "offer import -", "offer lint -", "status", "why", "test-shopper list", "central", "central key", "central opt-out x",
    "run", "decode 00", "scan",
]  # fmt: skip
THOROUGH = {"zone list", "central key"}
"""The others read their settings as one of these."""


@pytest.mark.slow
@pytest.mark.parametrize("command", CONFIGURED)
def test_no_file_of_settings_is_too_much(gateway: Forked, tmp_path: Path, command: str) -> None:
    with nasty_files(tmp_path) as files:
        for name in files if command in THOROUGH else ("missing", "endless", "nul.toml"):
            done = gateway.run(*command.split(), "--config", files[name], cwd=tmp_path, stdin=b'{"promotions": []}')
            well_behaved(done, command, name)
            assert done.returncode == 78, (name, done)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["shop check", "shop import", "offer lint", "offer import", "offer lint - --shop"])
def test_no_file_is_too_much(gateway: Forked, config: Path, tmp_path: Path, command: str) -> None:
    central = tmp_path / "central.toml"
    central.write_text(f'state_dir = "{tmp_path}/central"\n[stores.demo]\nstore_number = 4711\n')
    more = {"shop import": ["--config", config], "offer import": ["--config", central]}.get(command, [])
    with nasty_files(tmp_path) as files:
        for name, file in files.items():
            done = gateway.run(*command.split(), file, *more, cwd=tmp_path, stdin=b'{"promotions": []}')
            well_behaved(done, command, name)
            assert done.returncode == 78, (name, done)


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["state_dir", "shop_file", "control_socket"])
def test_no_path_in_the_settings_is_too_much(gateway: Forked, tmp_path: Path, setting: str) -> None:
    """The settings themselves are in order."""
    files = tmp_path / "files"
    files.mkdir()
    state = "" if setting == "state_dir" else f'state_dir = "{tmp_path}/state"\n'
    with nasty_files(files) as found:
        for name, file in found.items():
            config = tmp_path / "gateway.toml"
            config.write_text(f'{PLAIN}{state}{setting} = "{file}"\n')
            for command in ("zone add x", "offer list"):
                well_behaved(gateway.run(*command.split(), "--config", config, cwd=tmp_path), setting, name, command)


# ---- what answers at the socket -----------------------------------------------------------------------------------------------


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    """Something that is no gateway listens at the control socket and says ``answer`` to everybody."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.settimeout(0.1)
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                try:
                    connection, _ = listening.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            path.unlink()


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"\n", b"null\n", b"{}\n", b'{"result": {}}\n', b'{"result": {"shop": {}, "digest": "x"}}\n', b"\xff\x00\n",
        b'{"failure": {"exit_code": 3, "what": "\\u001b[31m"}}\n', b'{"failure": {"exit_code": 99999999999, "what": ""}}\n',
        b"[" * 100_000 + b"\n", b"x" * 1_000_000,
    ],
)  # fmt: skip
def test_a_gateway_that_answers_nonsense_is_no_gateway(gateway: Forked, config: Path, answer: bytes) -> None:
    with answering(config.with_name("control.sock"), answer):
        for command in ("zone add x", "shop export"):
            done = gateway.run(*command.split(), "--config", config)
            well_behaved(done, command, answer[:50])
            assert done.returncode == 75
    assert json.loads(config.with_name("shop.json").read_text()) == SHOP


# ---- the machine --------------------------------------------------------------------------------------------------------------

PROGRAM = Path(sys.executable).with_name("gateway")


def in_its_own_process(*words: object, **how: Any) -> "subprocess.CompletedProcess[str]":
    """With standard output, error or environment as in ``how``."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how, "env": {**os.environ, **how.get("env", {})}}
    return subprocess.run([PROGRAM, *map(str, words)], text=True, timeout=60, check=False, stdin=subprocess.DEVNULL, **streams)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["--version", "--help", "shop schema", "decode 0201061107c5d831be9f5260619d328af8da61408a"])
def test_what_cannot_be_printed_is_one_sentence(command: str, unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = in_its_own_process(*command.split(), stdout=full, env={"PYTHONUNBUFFERED": unbuffered})
    assert done.returncode == 74
    assert done.stderr == (
        "gateway: what was to be printed or kept cannot be written (No space left on device). Check disk and free space.\n"
    )


@pytest.mark.parametrize(("command", "code"), [("zone list --config nowhere.toml", 78), ("nonsense", 2)])
def test_the_exit_code_tells_even_where_nobody_can_be_told(command: str, code: int) -> None:
    with Path("/dev/full").open("w") as full:
        assert in_its_own_process(*command.split(), stderr=full).returncode == code


def test_a_terminal_without_a_sign_gets_its_number(config: Path) -> None:
    done = in_its_own_process("zone", "list", "--config", config, env={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert r"\u2013" in done.stdout


def test_completion_that_cannot_be_installed_is_one_sentence() -> None:
    done = in_its_own_process("--install-completion", "bash", env={"HOME": "/proc"})
    assert done.returncode == 74
    assert done.stderr == "gateway: /proc/.bashrc: No such file or directory. Check disk, path and owner.\n"


def test_a_path_that_no_system_opens_ends_the_gateway_with_78(gateway: Forked, config: Path) -> None:
    config.write_text(f'shop_file = "{"a" * 300}"\n{config.read_text()}')
    done = gateway.run("run", "--config", config)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.endswith("cannot be read (File name too long). Check path and owner.\n")


def test_a_plan_without_end_is_refused(gateway: Forked, tmp_path: Path) -> None:
    done = gateway.run("simulate", "/dev/zero", "--out", tmp_path / "walk.jsonl")
    well_behaved(done, "simulate")
    assert done.returncode == 78


def test_files_may_begin_as_editors_on_windows_begin_them(gateway: Forked, config: Path, tmp_path: Path) -> None:
    shop = tmp_path / "from-windows.json"
    for path, text in ((shop, json.dumps(SHOP)), (config, config.read_text())):
        path.write_text(text, encoding="utf-8-sig")
    assert gateway.run("shop", "import", shop, "--config", config).stdout == "nothing to change\n"
