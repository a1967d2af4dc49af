"""The command `gateway` as people type it: a process, its output, its exit code."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway import __version__
from gateway.io.store.database import open_database
from gateway.io.store.schema import GATEWAY as SCHEMA

PROGRAM = Path(sys.executable).with_name("gateway")
PROMOTION = {"promotion_id": "bread", "long_title": {"en": "Bread"}, "zones": ["bakery"]}
GATEWAY = 'store = "demo"\nstore_number = 4711\ngateway = "pi-1"\n'

Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs `gateway …` in a folder of its own, where a state folder would be put too."""

    def run_it(*arguments: object, cwd: Path = tmp_path) -> Done:
        environment = {**os.environ, "COLUMNS": "200", "PYTHONWARNINGS": "error"}
        command = [str(PROGRAM), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=cwd, env=environment, check=False)

    return run_it


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings of a central service with the stores `demo` and `other`."""
    path = tmp_path / "central.toml"
    path.write_text(
        f'state_dir = "{tmp_path}/central"\n[stores.demo]\nstore_number = 4711\n[stores.other]\nstore_number = 4712\n'
    )
    return path


def write(path: Path, content: str | bytes | dict[str, Any]) -> Path:
    raw = json.dumps(content) if isinstance(content, dict) else content
    path.write_bytes(raw.encode() if isinstance(raw, str) else raw)
    return path


def failed(done: Done, code: int, *words: str) -> None:
    """Ended with this code and one sentence that says what, where and what to do."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("gateway: ")
    for word in words:
        assert word in lines[0]


def in_the_database(folder: Path, question: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "central" / "central.db")) as connection:
        return connection.execute(question).fetchall()


# ---- help ---------------------------------------------------------------------------------------------------------------------


def test_the_version_is_that_of_the_package(run: Run) -> None:
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"gateway {__version__}\n", "")


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_lists_the_commands(run: Run, option: str) -> None:
    done = run(option)
    assert (done.returncode, done.stderr) == (0, "")
    for command in ("run", "demo", "central", "shop"):
        assert re.search(rf"^\W*{command} ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    "command",
    ["run", "demo", "central", "central promotions", "central inbox", "shop check"],
)
@pytest.mark.slow
def test_every_command_explains_itself(run: Run, command: str) -> None:
    done = run(*command.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Usage: gateway {command}" in done.stdout
    if command != "central":
        assert f"Example: gateway {command}" in done.stdout


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from gateway.cli.app import app; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"bleak", "aiomqtt", "pydantic", "sqlite_utils", "cryptography", "amqtt", "numpy"} & set(done.stdout.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--colour"], ["fly"], ["central", "fly"], ["demo", "--duration", "0"], ["demo", "--duration", "soon"],
        ["shop", "check"],
        ["central", "enrol", "anna"],
    ],
)  # fmt: skip
@pytest.mark.slow
def test_a_wrong_option_ends_with_2_and_the_usage(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: gateway" in done.stderr
    assert "Traceback" not in done.stderr


# ---- gateway run and shop check -----------------------------------------------------------------------------------------------


def test_run_without_settings_says_which_option_names_them(run: Run, tmp_path: Path) -> None:
    failed(run("run", "--config", tmp_path / "no.toml"), 78, "no.toml: cannot be read", "--config FILE")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a = 1\nstore = ]", ["is no TOML", "line 2", "Correct the line it names."]),
        (GATEWAY + "keepalive = 3", ["keepalive: Extra inputs", "Correct the settings file."]),
        (GATEWAY + '"\\u001b[31mred" = 1', ["\\x1b[31mred"]),
    ],
)
def test_run_refuses_wrong_settings(run: Run, tmp_path: Path, content: str | bytes, words: list[str]) -> None:
    failed(run("run", "--config", write(tmp_path / "gateway.toml", content)), 78, "gateway.toml: ", *words)


def test_run_refuses_a_wrong_shop_file(run: Run, tmp_path: Path) -> None:
    shop = write(tmp_path / "shop.json", {"zones": {"a": {"neighbours": ["b"]}}})
    config = write(tmp_path / "gateway.toml", GATEWAY + f'state_dir = "{tmp_path}/state"\nshop_file = "{shop}"\n')
    failed(run("run", "--config", config), 78, "shop.json: ", "zone a has the neighbour b", "Correct the shop file.")


def test_run_refuses_a_state_folder_that_is_none(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "state", "a file")
    config = write(tmp_path / "gateway.toml", GATEWAY + f'state_dir = "{tmp_path}/state"\n')
    done = run("run", "--config", config)
    assert done.returncode == 74
    assert "Traceback" not in done.stderr
    assert "the database cannot be used" in done.stderr.splitlines()[-1]


def test_run_refuses_a_database_of_a_newer_version(run: Run, tmp_path: Path) -> None:
    database = open_database(tmp_path / "state" / "gateway.db", SCHEMA)
    database.execute("UPDATE _sqlite_migrations SET name = '9999_future' WHERE name = '0001_first'")
    database.conn.close()
    config = write(tmp_path / "gateway.toml", GATEWAY + f'state_dir = "{tmp_path}/state"\n')
    done = run("run", "--config", config)
    assert done.returncode == 78
    assert "is of a newer version (9999_future)" in done.stderr.splitlines()[-1]


def test_run_refuses_a_password_file_that_others_can_read(run: Run, tmp_path: Path) -> None:
    secret = write(tmp_path / "password", "s3cret")
    secret.chmod(0o644)
    config = write(
        tmp_path / "gateway.toml",
        GATEWAY + f'state_dir = "{tmp_path}/state"\n[broker]\nport = 1\nusername = "pi"\npassword_file = "{secret}"\n',
    )
    done = run("run", "--config", config)
    assert done.returncode == 78
    assert "can be read by others. Type: chmod 600" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert "s3cret" not in done.stderr


def test_a_shop_file_is_checked_in_one_line(run: Run, tmp_path: Path) -> None:
    shop = {"zones": {"a": {}, "b": {}}, "anchors": {"pi": {"kind": "receiver", "zone": "a"}}}
    done = run("shop", "check", write(tmp_path / "shop.json", shop))
    assert (done.returncode, done.stdout, done.stderr) == (0, "2 zones, 1 receivers, 0 beacons: in order\n", "")


@pytest.mark.parametrize("content", ['{"zones": {"A b": {}}}', "[" * 100_000])
def test_a_wrong_shop_file_is_refused(run: Run, tmp_path: Path, content: str | bytes) -> None:
    failed(run("shop", "check", write(tmp_path / "shop.json", content)), 78, "shop.json: ", "Correct the shop file.")


def test_a_shop_file_that_is_not_there_is_refused(run: Run, tmp_path: Path) -> None:
    failed(run("shop", "check", tmp_path / "no.json"), 78, "no.json: cannot be read (No such file or directory)")
    failed(run("shop", "check", tmp_path), 78, "cannot be read (Is a directory)")


# ---- gateway central ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ["central"],
        ["central", "key"],
        ["central", "promotions", "p.json", "--store", "demo"],
        ["central", "enrol", "anna", "--store", "demo", "--key-file", "k"],
    ],
)  # fmt: skip
@pytest.mark.slow
def test_every_command_of_central_needs_its_settings(run: Run, command: list[str]) -> None:
    arguments = [command[0], "--config", "no.toml"] if len(command) == 1 else [*command, "--config", "no.toml"]
    failed(run(*arguments), 78, "no.toml: cannot be read (No such file or directory)")


def test_the_key_is_made_once_and_printed(run: Run, config: Path, tmp_path: Path) -> None:
    first, second = run("central", "key", "--config", config), run("central", "key", "--config", config)
    assert re.fullmatch("[0-9a-f]{64}\n", first.stdout)
    assert (first.returncode, first.stdout, first.stderr) == (0, second.stdout, "")
    assert (tmp_path / "central" / "signing.key").stat().st_mode & 0o777 == 0o600


def test_a_key_that_others_can_read_is_refused(run: Run, config: Path, tmp_path: Path) -> None:
    run("central", "key", "--config", config)
    key = tmp_path / "central" / "signing.key"
    key.chmod(0o644)
    failed(run("central", "key", "--config", config), 78, f"{key}: can be read by others. Type: chmod 600 {key}")
    done = run("central", "--config", config)
    assert done.returncode == 78
    assert "Traceback" not in done.stderr


def test_a_state_folder_that_cannot_be_made_is_a_disk_error(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "file", "")
    config = write(tmp_path / "central.toml", f'state_dir = "{tmp_path}/file/central"\n[stores.demo]\nstore_number = 1\n')
    for command in (["central", "key"], ["central", "opt-out", "anna"], ["central"]):
        failed(run(*command, "--config", config), 74, str(tmp_path / "file"))


def test_promotions_are_replaced(run: Run, config: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "promotions.json", {"promotions": [PROMOTION, {**PROMOTION, "promotion_id": "milk"}]})
    done = run("central", "promotions", file, "--store", "demo", "--config", config)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2 promotions for demo\n", "")
    write(file, {"promotions": []})
    assert run("central", "promotions", file, "--store", "demo", "--config", config).stdout == "0 promotions for demo\n"
    assert in_the_database(tmp_path, "SELECT count(*) FROM promotion") == [(0,)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"promotions": [PROMOTION, {**PROMOTION, "promotion_id": "b", "zones": []}]}, ["promotions.1: ", "neither zones"]),
        (b"\xff", ["not strict JSON"]),
        ('{"promotions": []}' + " " * 1024 * 1024, ["more than the 1048576"]),
    ],
)  # fmt: skip
def test_wrong_promotions_change_nothing(run: Run, config: Path, tmp_path: Path, content: Any, words: list[str]) -> None:
    good = write(tmp_path / "good.json", {"promotions": [{**PROMOTION, "promotion_id": "before"}]})
    assert run("central", "promotions", good, "--store", "demo", "--config", config).returncode == 0
    bad = write(tmp_path / "bad.json", content)
    done = run("central", "promotions", bad, "--store", "demo", "--config", config)
    failed(done, 78, "bad.json: ", "Nothing was changed.", *words)
    assert in_the_database(tmp_path, "SELECT promotion_id FROM promotion") == [("before",)]


def test_more_promotions_than_gateways_would_accept_are_refused(run: Run, config: Path, tmp_path: Path) -> None:
    """The signed catalogue is larger than the file, and gateways take a mebibyte."""
    many = {"promotions": [{**PROMOTION, "promotion_id": f"p-{number}"} for number in range(5000)]}
    file = write(tmp_path / "many.json", many)
    assert file.stat().st_size < 1024 * 1024
    failed(run("central", "promotions", file, "--store", "demo", "--config", config), 78, "many.json: ", "Nothing was changed.")
    assert not (tmp_path / "central" / "central.db").exists() or in_the_database(tmp_path, "SELECT * FROM promotion") == []


def test_a_store_that_central_does_not_serve_is_refused_with_those_it_does(run: Run, config: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "promotions.json", {"promotions": []})
    for command in (["promotions", file], ["enrol", "anna", "--key-file", tmp_path / "anna.key"]):
        done = run("central", *command, "--store", "nowhere", "--config", config)
        failed(done, 2, "nowhere: is no store of this central service.", "Known are: demo, other.")
    assert not (tmp_path / "anna.key").exists()


def test_an_app_is_enrolled_and_forgotten(run: Run, config: Path, tmp_path: Path) -> None:
    key = tmp_path / "anna.key"
    done = run("central", "enrol", "anna", "--store", "demo", "--store", "other", "--key-file", key, "--config", config)
    assert (done.returncode, done.stdout, done.stderr) == (0, "anna is enrolled in demo, other\n", "")
    assert key.stat().st_mode & 0o777 == 0o600
    assert re.fullmatch("[0-9a-f]{64}\n", key.read_text())
    made = key.read_text()
    again = run("central", "enrol", "anna", "--store", "demo", "--key-file", key, "--consent", "analytics", "--config", config)
    assert again.returncode == 0
    assert key.read_text() == made
    assert in_the_database(tmp_path, "SELECT inbox, consent, hex(ku) FROM shopper") == [("anna", 2, made.strip().upper())]
    assert in_the_database(tmp_path, "SELECT store FROM member ORDER BY store") == [("demo",), ("other",)]
    database = next(tmp_path.rglob("central.db"))
    backup = database.with_name("central.db.before-0002_test_shoppers")
    backup.write_bytes(database.read_bytes())
    done = run("central", "opt-out", "anna", "--config", config)
    assert not backup.exists(), "the copy that a migration made knows her, too"
    assert (done.returncode, done.stdout, done.stderr) == (0, "anna is forgotten\n", "")
    assert in_the_database(tmp_path, "SELECT * FROM shopper") == in_the_database(tmp_path, "SELECT * FROM member") == []
    for command in ("opt-out", "check-in"):
        store = ["--store", "demo"] if command == "check-in" else []
        done = run("central", command, "anna", *store, "--config", config)
        failed(done, 2, "anna: is not enrolled. Nothing was changed.")
        failed(run("central", command, "\udcff", *store, "--config", config), 2, "\\udcff: is no inbox name.")


def test_of_two_inboxes_with_one_key_the_second_is_refused(run: Run, config: Path, tmp_path: Path) -> None:
    """Their owner's consent would be the last one's for everybody, because both have one pseudonym."""

    def enrol(inbox: str, key: str, *more: str) -> subprocess.CompletedProcess[str]:
        return run("central", "enrol", inbox, "--store", "demo", "--key-file", tmp_path / key, *more, "--config", config)

    assert enrol("anna", "anna.key").returncode == 0
    failed(enrol("ben", "anna.key", "--consent", "analytics"), 78, "ben: has the key of anna. One inbox for one key.")
    assert in_the_database(tmp_path, "SELECT inbox, consent FROM shopper") == [("anna", 3)]
    assert in_the_database(tmp_path, "SELECT inbox FROM member") == [("anna",)]
    assert enrol("anna", "anna.key", "--consent", "offers").returncode == 0
    assert enrol("ben", "ben.key").returncode == 0
    assert enrol("anna", "new.key").returncode == 0
    assert enrol("ben", "anna.key").returncode == 0, "it is nobody's any more"
    assert in_the_database(tmp_path, "SELECT inbox, consent FROM shopper ORDER BY inbox") == [("anna", 3), ("ben", 3)]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["a/b", "--key-file", "k"], 2, ["a/b: is no inbox name."]),
        (["\x1b[31m", "--key-file", "k"], 2, ["\\x1b[31m: is no inbox name."]),
        (["anna", "--key-file", "k", "--consent", "everything"], 2, ["everything: is no consent."]),
        (["anna", "--key-file", "missing/k"], 78, ["missing/k: cannot be used (No such file or directory)"]),
        (["anna", "--key-file", "binary.key"], 78, ["binary.key: holds no key of 64 hexadecimal digits."]),
    ],
)
def test_an_enrolment_that_cannot_be_is_refused(
    run: Run, config: Path, tmp_path: Path, arguments: list[str], code: int, words: list[str]
) -> None:
    write(tmp_path / "binary.key", b"\xff" * 64)
    failed(run("central", "enrol", *arguments, "--store", "demo", "--config", config), code, *words)
    assert not (tmp_path / "k").exists()


def test_a_key_file_that_cannot_be_read_is_refused(run: Run, config: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root can read everything")
    key = write(tmp_path / "anna.key", "00" * 32)
    key.chmod(0)
    done = run("central", "enrol", "anna", "--store", "demo", "--key-file", key, "--config", config)
    failed(done, 78, "anna.key: cannot be used (Permission denied)")


def test_an_inbox_that_is_none_is_refused(run: Run, config: Path, tmp_path: Path) -> None:
    failed(run("central", "inbox", "a/b", "--file", tmp_path / "a.db", "--config", config), 2, "a/b: is no inbox name.")
