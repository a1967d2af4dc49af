"""What scripts/install.sh and scripts/check-firmware say before they change anything, and that the settings they bring fit."""

import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.contract.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "systemd" / "gateway.toml"

Done = subprocess.CompletedProcess[str]


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """The scripts where an ordinary user can read them; pytest's folders belong to whoever runs it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for script in ("install.sh", "check-firmware"):
            (folder / "scripts").mkdir(exist_ok=True)
            shutil.copy(ROOT / "scripts" / script, folder / "scripts")
        (folder / "firmware_configs").mkdir()
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)
        yield folder


def call(folder: Path, script: str, *options: str) -> Done:
    """As a user without any rights."""
    nobody = 65534 if os.geteuid() == 0 else None
    return subprocess.run(
        [folder / "scripts" / script, *options],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        user=nobody,
        group=nobody,
        extra_groups=None if nobody is None else [],
    )


@pytest.mark.parametrize("script", ["install.sh", "check-firmware"])
def test_help_needs_no_rights(everybodys: Path, script: str) -> None:
    assert os.access(ROOT / "scripts" / script, os.X_OK)
    done = call(everybodys, script, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(rf"Usage: (sudo )?scripts/{re.escape(script)} ", done.stdout)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--no-strat"], "does not know --no-strat"),
        (["--purge"], "--purge goes with --uninstall"),
        (["--uninstall", "--yes"], "--yes goes with --purge"),
        (["--uninstall", "--with-broker"], "--uninstall goes with --purge and --yes alone"),
        (["--wheels"], "--wheels needs a folder that exists"),
        (["--wheels", "/nowhere/at/all"], "--wheels needs a folder that exists"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_wrong_call_of_the_installer_is_named(everybodys: Path, options: list[str], words: str) -> None:
    done = call(everybodys, "install.sh", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "--help" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("options", [[], ["--uninstall"], ["--no-start", "--with-broker"]], ids=" ".join)
def test_without_root_the_line_to_type_is_printed(everybodys: Path, options: list[str]) -> None:
    done = call(everybodys, "install.sh", *options)
    assert (done.returncode, done.stdout) == (75, "")
    line = " ".join(["sudo", str(everybodys / "scripts" / "install.sh"), *options])
    assert done.stderr == f"Installing and removing needs root: {line}\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--all"], "does not know --all"),
        (["/nowhere/at/all"], "is no folder"),
        (["firmware_configs"], "holds no profiles"),
        (["firmware_configs", "docs"], "One folder at a time"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_wrong_call_of_the_firmware_check_is_named(everybodys: Path, options: list[str], words: str) -> None:
    done = call(everybodys, "check-firmware", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_without_a_new_python_esphome_is_not_installed(everybodys: Path) -> None:
    (everybodys / "firmware_configs" / "esphome").mkdir()
    (everybodys / "firmware_configs" / "esphome" / "a.yaml").write_text("esphome:\n")
    shutil.copy(ROOT / "firmware_configs" / "requirements-esphome.lock", everybodys / "firmware_configs")
    done = subprocess.run(
        [everybodys / "scripts" / "check-firmware"],
        env={"PATH": "/usr/bin:/bin", "PYTHON": "/bin/false", "HOME": str(everybodys)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (69, "")
    assert "needs Python 3.12 or newer" in done.stderr
    assert not (everybodys / ".venv-esphome").exists()


def test_the_lock_of_esphome_names_no_index() -> None:
    text = (ROOT / "firmware_configs" / "requirements-esphome.lock").read_text()
    assert not re.search(r"://|^\s*--(?!hash=sha256:)", text, re.MULTILINE)
    assert re.search(r"^esphome==", text, re.MULTILINE)


def test_the_settings_that_are_put_in_place_ask_for_the_three_that_only_the_shop_knows() -> None:
    given = tomllib.loads(TEMPLATE.read_text("utf-8"))
    assert {key: value for key, value in given.items() if value} == {}


def test_the_settings_that_are_put_in_place_are_in_order_once_their_examples_are_taken_up() -> None:
    lines = TEMPLATE.read_text("utf-8").splitlines()
    taken_up = "\n".join(line.removeprefix("#") if re.match(r"#(\w+ = |\[)", line) else line for line in lines)
    settings = Settings.model_validate(tomllib.loads(taken_up))
    assert settings.privacy.is_complete
    assert settings.broker.password_file == Path("/run/credentials/gateway.service/broker-password")
    assert [receiver.name for receiver in settings.receivers] == ["door"]
    assert settings.trust.public_keys
