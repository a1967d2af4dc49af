"""What the scripts say and do before anything is installed: the first minute of a stranger."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOCKS = [
    "requirements.lock",
    "requirements-demo.lock",
    "requirements-test.lock",
    "requirements-bench.lock",
    "requirements-compile.lock",
    "requirements-fuzz.lock",
]
# What bash and the scripts themselves call; Python, apt-get, sudo and the like are left out, so a test decides about them.
TOOLS = [
    "bash",
    "basename",
    "cut",
    "dirname",
    "env",
    "find",
    "flock",
    "grep",
    "head",
    "mkdir",
    "mktemp",
    "mv",
    "readlink",
    "rm",
    "rmdir",
]
TOOLS += ["sed", "sha256sum", "sh", "sleep", "tail"]

Stub = Callable[[str, str], Path]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    for name in ["pyproject.toml", *LOCKS]:
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        real = shutil.which(tool)
        assert real, f"{tool} is part of every Debian"
        (folder / tool).symlink_to(real)
    return folder


@pytest.fixture
def stub(bin_folder: Path) -> Stub:
    """Puts a shell script of the given name on the path."""

    def write(name: str, body: str) -> Path:
        path = bin_folder / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    return write


@pytest.fixture
def environment(bin_folder: Path, tmp_path: Path) -> dict[str, str]:
    return {"PATH": str(bin_folder), "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}


def run(checkout: Path, environment: dict[str, str], script: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([checkout / "scripts" / script, *options], env=environment, capture_output=True, text=True, check=False)


def python_stub(version: str = "3.11", *, ensurepip: bool = True, then: str = "exit 1") -> str:
    """A python that describes itself as a real one does, then does ``then`` for anything else."""
    return f"""
case "$*" in
  *"import platform, sys"*) printf '{version}\\nstub x86_64 /nowhere\\n' ;;
  *"import ensurepip"*) exit {0 if ensurepip else 1} ;;
  *) {then} ;;
esac"""


# ---- in the checkout ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [f"scripts/{name}" for name in ("demo", "test", "check", "contract", "lock", "bench", "fuzz")] + [".ci/run"],
)
def test_scripts_can_be_executed(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_name_no_index(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert not re.search(r"://|^\s*--(?!hash=sha256:)", text, re.MULTILINE)


@pytest.mark.parametrize("script", ["test", "check", "contract", "bench"])
def test_help_needs_nothing_and_installs_nothing(checkout: Path, environment: dict[str, str], stub: Stub, script: str) -> None:
    stub("cat", f'exec {shutil.which("cat")} "$@"')
    done = run(checkout, environment, script, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: scripts/{script} ")
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("script", ["test", "check", "contract"])
def test_an_unknown_option_is_named(checkout: Path, environment: dict[str, str], script: str) -> None:
    done = run(checkout, environment, script, "--slow")
    assert done.returncode == 2
    assert "--slow" in done.stderr
    assert "--help" in done.stderr


def test_the_lock_of_the_parser_names_no_index_and_hashes_every_package() -> None:
    packages = json.loads((ROOT / "scripts/lib/asyncapi/package-lock.json").read_text())["packages"]
    wanted = json.loads((ROOT / "scripts/lib/asyncapi/package.json").read_text())["dependencies"]
    assert packages.pop("")["dependencies"] == wanted
    for name, package in packages.items():
        assert "resolved" not in package, name
        assert package["integrity"].startswith("sha512-"), name


def test_without_node_the_packages_to_install_are_named(checkout: Path, environment: dict[str, str]) -> None:
    done = run(checkout, environment, "contract", "--check")
    assert (done.returncode, done.stdout) == (75, "")
    assert "nodejs npm" in done.stderr


def test_an_old_node_is_named(checkout: Path, environment: dict[str, str], stub: Stub) -> None:
    stub("node", "echo v16.20.2")
    stub("npm", "echo must not run; exit 1")
    done = run(checkout, environment, "contract", "--check")
    assert (done.returncode, done.stdout) == (75, "")
    assert "node is v16.20.2" in done.stderr


def test_a_parser_that_cannot_be_installed_is_explained_and_not_believed(
    checkout: Path, environment: dict[str, str], stub: Stub
) -> None:
    stub("node", "echo v20.0.0")
    stub("npm", f'{shutil.which("mkdir")} -p "$2/node_modules"; echo EINTEGRITY; exit 1')
    done = run(checkout, environment, "contract", "--check")
    assert (done.returncode, done.stdout) == (75, "")
    assert "EINTEGRITY" in done.stderr
    assert not (checkout / "scripts/lib/asyncapi/node_modules/.gateway-stamp").exists()


@pytest.mark.parametrize("names", [["decod"], ["outbox", "inbox"]])
def test_the_bench_names_a_subject_that_it_does_not_know(
    checkout: Path, environment: dict[str, str], names: list[str], tmp_path: Path
) -> None:
    done = run(checkout, environment, "bench", *names)
    assert done.returncode == 2
    assert names[-1] in done.stderr
    assert "--help" in done.stderr
    assert not (checkout / ".venv-bench").exists()


def test_the_bench_prints_a_table_and_writes_the_same_figures(tmp_path: Path) -> None:
    """Quickly, and what needs no other library than ours."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", "outbox", "--quick", "--json", "figures.json"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT / "scripts" / "lib")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    assert report["quick"] is True
    assert report["outbox_rows_per_s"] > 0
    assert report["limits"]["outbox_rows_per_s"] == 100_000
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("outbox_rows_per_s  ")]
    assert "≥ 100,000" in line
    assert "estimate" in done.stdout


# ---- finding a Python --------------------------------------------------------------------------------------------------------


def test_no_python_at_all_names_the_line_to_type(checkout: Path, environment: dict[str, str]) -> None:
    done = run(checkout, environment, "demo")
    assert (done.returncode, done.stdout) == (75, "")
    assert "sudo apt-get install python3 python3-venv" in done.stderr


def test_an_old_python_is_named_with_what_to_do(checkout: Path, environment: dict[str, str], stub: Stub) -> None:
    stub("python3", python_stub("3.9"))
    done = run(checkout, environment, "demo")
    assert (done.returncode, done.stdout) == (75, "")
    assert "python3 is 3.9" in done.stderr
    assert "PYTHON=" in done.stderr


def test_a_newer_python_behind_an_old_one_is_found(checkout: Path, environment: dict[str, str], stub: Stub) -> None:
    stub("python3", python_stub("3.9"))
    stub("python3.12", python_stub("3.12", then="echo no room left; exit 1"))
    done = run(checkout, environment, "demo")
    assert "with Python 3.12" in done.stderr
    assert "no room left" in done.stderr
    assert done.returncode == 75


def test_a_signpost_that_runs_nothing_is_passed_over(checkout: Path, environment: dict[str, str], stub: Stub) -> None:
    stub("python3", "echo 'pyenv: python3: command not found' >&2; exit 127")
    stub("python3.11", python_stub("3.11"))
    assert "with Python 3.11" in run(checkout, environment, "demo").stderr


@pytest.mark.parametrize(("version", "complaint"), [("3.10", "names an older one"), ("", "does not run")])
def test_the_named_python_is_not_silently_replaced(
    checkout: Path, environment: dict[str, str], stub: Stub, version: str, complaint: str
) -> None:
    stub("python3", python_stub("3.11"))
    named = stub("mine", python_stub(version) if version else "exit 127")
    done = run(checkout, environment | {"PYTHON": str(named)}, "demo")
    assert done.returncode == 75
    assert f"PYTHON={named} {complaint}" in done.stderr


# ---- making the environment --------------------------------------------------------------------------------------------------


def test_without_ensurepip_the_interpreter_is_blamed(checkout: Path, environment: dict[str, str], stub: Stub) -> None:
    stub("python3", python_stub(ensurepip=False))
    done = run(checkout, environment, "demo")
    assert (done.returncode, done.stdout) == (75, "")
    assert "has no ensurepip" in done.stderr


def test_without_the_right_to_install_the_line_to_type_is_printed() -> None:
    """As an ordinary user, in a folder that such a user can read (pytest's own belong to whoever runs it)."""
    nobody = 65534 if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "scripts" / "lib").mkdir(parents=True)
        shutil.copy(ROOT / "scripts" / "lib" / "venv.sh", folder / "scripts" / "lib")
        for program, body in {"apt-get": "echo must not run", "sudo": "exit 1"}.items():
            (folder / program).write_text(f"#!/bin/sh\n{body}\n")
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)
        done = subprocess.run(
            ["bash", "-c", "source scripts/lib/venv.sh; apt_install 'A reason' mosquitto dbus-daemon"],
            cwd=folder,
            env={"PATH": f"{folder}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
            user=nobody,
            group=nobody,
            extra_groups=None if nobody is None else [],
        )
    assert (done.returncode, done.stdout) == (75, "")
    assert "  sudo apt-get install --no-install-recommends mosquitto dbus-daemon" in done.stderr.splitlines()


def test_a_folder_that_is_no_environment_is_left_alone(checkout: Path, environment: dict[str, str], stub: Stub) -> None:
    stub("python3", python_stub())
    precious = checkout / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    done = run(checkout, environment | {"GATEWAY_VENV": "precious"}, "demo")
    assert done.returncode == 75
    assert "is no virtual environment" in done.stderr
    assert (precious / "thesis.txt").read_text() == "years"


FAKE_VENV = """
case "$*" in
  *"-m venv "*) shift 2; mkdir -p "$1/bin" && : >"$1/pyvenv.cfg" && echo made >>"$HOME/log" &&
    for name in python gateway; do printf '#!/bin/sh\\nexec "%s" "$@"\\n' "$0" >"$1/bin/$name"; done &&
    exec CHMOD "$1/bin/python" "$1/bin/gateway" ;;
  *"-m pip install"*) echo "pip $*" >>"$HOME/log"; PIP ;;
  "-c import pip") ;;
  demo*) echo "ran $*" ;;
  *) exit 1 ;;
esac"""


def fake_python(pip: str = "exit 0") -> str:
    chmod = f"{shutil.which('chmod')} 755"
    return python_stub(then=FAKE_VENV.replace("CHMOD", chmod).replace("PIP", pip))


def test_a_second_run_installs_nothing_and_says_nothing(
    checkout: Path, environment: dict[str, str], stub: Stub, tmp_path: Path
) -> None:
    stub("python3", fake_python())
    first = run(checkout, environment, "demo", "--json")
    assert (first.returncode, first.stdout) == (0, "ran demo --json\n"), first.stderr
    log = (tmp_path / "log").read_text().splitlines()
    assert "--require-hashes" in log[1]
    assert "--no-deps --no-build-isolation" in log[2]
    assert "--no-index" in log[2]

    second = run(checkout, environment, "demo", "--json")
    assert (second.returncode, second.stdout, second.stderr) == (0, "ran demo --json\n", "")
    assert (tmp_path / "log").read_text().splitlines() == log
    assert not list(tmp_path.glob("tmp.*")), "no log is left behind"


def test_a_changed_lock_is_installed_on_top(checkout: Path, environment: dict[str, str], stub: Stub, tmp_path: Path) -> None:
    stub("python3", fake_python())
    run(checkout, environment, "demo")
    with (checkout / "requirements-demo.lock").open("a") as lock:
        lock.write("# changed\n")
    assert run(checkout, environment, "demo").returncode == 0
    log = (tmp_path / "log").read_text()
    assert log.count("made") == 1
    assert log.count("--require-hashes") == 2


@pytest.mark.parametrize("accident", ["interrupted", "moved", "other python", "broken"])
def test_an_environment_that_cannot_be_trusted_is_made_anew(
    checkout: Path, environment: dict[str, str], stub: Stub, tmp_path: Path, accident: str
) -> None:
    stub("python3", fake_python())
    run(checkout, environment, "demo")
    if accident == "interrupted":
        (checkout / ".venv" / ".gateway-stamp").unlink()
    elif accident == "moved":
        checkout = checkout.rename(tmp_path / "elsewhere")
    elif accident == "other python":
        environment["PYTHON"] = str(stub("other", fake_python().replace("3.11", "3.12")))
    else:
        (checkout / ".venv" / "bin" / "python").write_text("#!/bin/sh\nexit 127\n")
    assert run(checkout, environment, "demo").stdout == "ran demo\n"
    assert (tmp_path / "log").read_text().count("made") == 2


def test_a_failed_installation_says_why_and_is_not_believed_next_time(
    checkout: Path, environment: dict[str, str], stub: Stub, tmp_path: Path
) -> None:
    stub("python3", fake_python(pip="echo THESE PACKAGES DO NOT MATCH THE HASHES; exit 1"))
    done = run(checkout, environment, "demo")
    assert (done.returncode, done.stdout) == (75, "")
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in done.stderr
    assert not (checkout / ".venv" / ".gateway-stamp").exists()
    assert not list(tmp_path.glob("tmp.*")), "no log is left behind"


def test_ctrl_c_during_the_installation_ends_everything(
    checkout: Path, environment: dict[str, str], stub: Stub, tmp_path: Path
) -> None:
    stub("python3", fake_python(pip='echo $$ >"$HOME/pip"; sleep 60; echo survived >>"$HOME/log"'))
    demo = subprocess.Popen(
        [checkout / "scripts" / "demo"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    deadline = time.monotonic() + 20
    while not (tmp_path / "pip").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(demo.pid, signal.SIGINT)
    out, err = demo.communicate(timeout=10)
    assert (demo.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "Interrupted."
    assert not (checkout / ".venv" / ".gateway-stamp").exists()
    pip = int((tmp_path / "pip").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pip, 0)
    assert not list(tmp_path.glob("tmp.*")), "no log is left behind"
