"""scripts/install.sh in a clean Debian root: what it puts where, what it refuses, and that nothing of it stays behind."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.packaging import debian
from tests.packaging.debian import Done, Root

pytestmark = [pytest.mark.slow, pytest.mark.install, pytest.mark.timeout(600)]

SETTINGS = 'store = "demo"\nstore_number = 4711\ngateway = "pi-1"\n'
MODES = {
    "/etc/beacon-gateway": "750 root gateway",
    "/etc/beacon-gateway/gateway.toml": "640 root gateway",
    "/etc/beacon-gateway/credentials": "700 root root",
    "/var/lib/beacon-gateway": "700 gateway gateway",
    "/opt/beacon-gateway/current/": "755 root root",
    "/etc/systemd/system/gateway.service": "644 root root",
    "/etc/systemd/system/gateway-radio.service": "644 root root",
    "/etc/udev/rules.d/70-beacon-gateway-radio.rules": "644 root root",
}
DEBIANS_NOTES = re.compile(r"/etc/(passwd|group|shadow|gshadow)-|.*/__pycache__(/.*)?|/var/(cache|lib)/(?!.*beacon).*")
AS_SERVICE = ["setpriv", "--reuid=gateway", "--regid=gateway", "--init-groups"]


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(debian.base(), tmp_path / "debian")


def said(root: Root, *command: str) -> str:
    done = root.run(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def files(root: Root) -> set[str]:
    """Every path that could tell of an installation."""
    leave_out = "-path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /root -o -path /var/log"
    return set(said(root, "sh", "-c", f"find / \\( {leave_out} \\) -prune -o -print").splitlines())


@pytest.mark.timeout(2400)
def test_compiles_what_runs_for_every_advertisement(root: Root) -> None:
    shutil.copytree(debian.wheels("requirements-compile.lock"), root.path("root/wheels"))
    done = root.install("--compile", "--wheels", "/root/wheels", timeout_s=1800)
    assert done.returncode == 0, done.stderr
    assert said(root, "gateway", "--version").startswith("gateway ")
    python = "/opt/beacon-gateway/current/.venv/bin/python"
    modules = "import gateway.core.pipeline as p, gateway.core.zone_filter as z; print(p.__file__, z.__file__)"
    compiled, source = said(root, *AS_SERVICE, python, "-c", modules).split()
    assert compiled.endswith(".so")
    assert source.endswith("zone_filter.py")
    assert root.install("--uninstall", "--purge", "--yes").returncode == 0
    assert not any("beacon-gateway" in path for path in files(root))


def upgrade_what_was_compiled(root: Root) -> Done:
    """Of a version beside which machine code lies, which the new one has not."""
    warning = "The version here is compiled, and without --compile the new one is not: "
    packages = said(root, "sh", "-c", "echo /opt/beacon-gateway/current/.venv/lib/python3*/site-packages")
    said(root, "touch", f"{packages}/gateway/core/some.so")
    done = root.install("--wheels", "/root/wheels")
    assert (done.returncode, done.stderr.splitlines()[0][: len(warning)]) == (0, warning), done.stderr
    return done


def test_installs_upgrades_and_leaves_nothing_behind(root: Root, tmp_path: Path) -> None:
    shutil.copytree(debian.wheels(), root.path("root/wheels"))

    # The first time Debian's packages come too, and the settings are not in order yet.
    done = root.install("--wheels", "/root/wheels")
    assert done.returncode == 0, done.stderr
    assert "Installing Debian packages: python3 python3-venv bluez" in done.stderr
    installed, following, status = done.stdout.splitlines()
    assert re.fullmatch(r"Installed: beacon gateway [\d.]+ in /opt/beacon-gateway, .* \(enabled\)\.", installed)
    assert following.startswith("Next: sudoedit /etc/beacon-gateway/gateway.toml")
    assert "store_number: is missing" in following
    assert "adduser NAME gateway" in status
    for path, mode in MODES.items():
        assert said(root, "stat", "--format=%a %U %G", path) == mode, path
    assert said(root, "systemctl", "is-enabled", "gateway", "gateway-radio") == "enabled\nenabled"
    assert said(root, "systemd-analyze", "verify", "gateway.service", "gateway-radio.service") == ""
    # The helper's account is nobody's: not even of the gateway's group, whose settings and control socket it must not reach.
    assert said(root, "id", "-Gn", "gateway-radio") == "gateway-radio"
    assert said(root, "id", "-Gn", "gateway") == "gateway"
    assert said(root, "gateway", "--version").startswith("gateway ")
    assert said(root, "bash", "-c", ". /usr/local/share/bash-completion/completions/gateway; complete -p gateway")

    # As the service's account the program reads its settings, finds them wanting and says so with the code that stops systemd.
    run = root.run(*AS_SERVICE, "gateway", "run")
    assert (run.returncode, run.stdout) == (78, "")
    assert "store: is missing" in run.stderr

    # An upgrade keeps what belongs to the shop, and only the new version stays.
    before = said(root, "readlink", "-f", "/opt/beacon-gateway/current")
    kept = {
        "/etc/beacon-gateway/gateway.toml": SETTINGS,
        "/etc/beacon-gateway/credentials/broker-password": "secret",
        "/var/lib/beacon-gateway/shop.json": '{"zones": {}}',
        "/etc/systemd/system/gateway.service.d/local.conf": "[Service]\nLimitNOFILE=2048\n",
    }
    for path, text in kept.items():
        said(root, "sh", "-c", 'mkdir -p "$(dirname "$1")"; printf %s "$2" >"$1"', "sh", path, text)
    done = upgrade_what_was_compiled(root)
    assert "systemd does not run here" in done.stdout.splitlines()[1]
    after = said(root, "readlink", "-f", "/opt/beacon-gateway/current")
    assert after != before
    assert said(root, "ls", "/opt/beacon-gateway/releases") == Path(after).name
    assert {path: said(root, "cat", path) for path in kept} == {path: text.strip() for path, text in kept.items()}

    # An upgrade that fails on its way leaves the old version as it is.
    done = root.install("--wheels", "/root/checkout/docs")
    assert (done.returncode, done.stdout, "compiled" in done.stderr) == (75, "", False)
    assert "could not be installed" in done.stderr.splitlines()[-1]
    assert said(root, "readlink", "-f", "/opt/beacon-gateway/current") == after
    assert said(root, "ls", "/opt/beacon-gateway/releases") == Path(after).name
    assert said(root, "gateway", "--version").startswith("gateway ")

    # What was installed can remove itself, and leaves what belongs to the shop.
    done = root.run("/opt/beacon-gateway/current/scripts/install.sh", "--uninstall")
    assert (done.returncode, done.stderr) == (0, "")
    assert {path: said(root, "cat", path) for path in kept} == {path: text.strip() for path, text in kept.items()}
    assert not {"/opt/beacon-gateway", "/usr/local/bin/gateway"} & files(root)

    # Unless --purge is asked for, and confirmed.
    done = root.install("--uninstall", "--purge")
    assert (done.returncode, done.stdout) == (75, "")
    assert kept.keys() <= files(root)
    assert root.install("--uninstall", "--purge", "--yes").returncode == 0
    for account in ("gateway", "gateway-radio"):
        assert root.run("getent", "passwd", account).returncode == root.run("getent", "group", account).returncode == 2

    # What is there beyond Debian's packages is what Debian's programs write down when packages and accounts come and go.
    other = Root(debian.base(), tmp_path / "other")
    said(
        other, "sh", "-c", "apt-get update -qq && apt-get install -qq -y --no-install-recommends python3 python3-venv bluez 2>&1"
    )
    assert {path for path in files(root) - files(other) if not DEBIANS_NOTES.fullmatch(path)} == set()


def _not_debian(root: Root) -> None:
    root.path("etc/os-release").write_text("ID=fedora\n")


def _32_bit(root: Root) -> None:
    dpkg = root.path("usr/local/sbin/dpkg")
    dpkg.parent.mkdir(parents=True)
    dpkg.write_text("#!/bin/sh\necho armhf\n")
    dpkg.chmod(0o755)


def _no_room(root: Root) -> None:
    df = root.path("usr/local/sbin/df")
    df.parent.mkdir(parents=True)
    df.write_text("#!/bin/sh\nprintf 'Avail\\n  120\\n'\n")
    df.chmod(0o755)


def _account_taken(root: Root) -> None:
    said(root, "useradd", "--uid", "1500", "gateway")


def _helpers_account_taken(root: Root) -> None:
    said(root, "useradd", "--uid", "1500", "gateway-radio")


def _command_taken(root: Root) -> None:
    command = root.path("usr/local/bin/gateway")
    command.parent.mkdir(parents=True)
    command.write_text("#!/bin/sh\n")


@pytest.mark.parametrize(
    ("prepare", "code", "words"),
    [
        (_not_debian, 69, "Debian 12 or newer and Raspberry Pi OS"),
        (_32_bit, 69, "this one is armhf"),
        (_no_room, 75, "120 MiB left and 400 are needed"),
        (_account_taken, 75, "a person's account called gateway,"),
        (_helpers_account_taken, 75, "a person's account called gateway-radio,"),
        (_command_taken, 75, "/usr/local/bin/gateway is there and belongs to something else"),
    ],
    ids=["not Debian", "32 bit", "no room", "account taken", "helper's account taken", "command taken"],
)
def test_refuses_with_one_sentence_and_changes_nothing(
    root: Root, prepare: Callable[[Root], None], code: int, words: str
) -> None:
    prepare(root)
    before = files(root)
    done = root.install()
    assert (done.returncode, done.stdout) == (code, "")
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr
    assert files(root) == before
