"""Clean Debian roots to install into: made once by debootstrap, then used through an overlay that each test throws away.

``run`` changes into the root, where systemd does not run, as in an image that is being built; ``boot`` starts the root's own
systemd as the first process of a container (systemd-nspawn), runs one program in it and switches it off.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
BASE = ["systemd", "systemd-sysv", "dbus", "ca-certificates"]
READY = ["python3", "python3-venv", "bluez", "mosquitto", "mosquitto-clients"]
"""What install.sh would install, so that a root without network can be installed into."""

CHECKOUT = Path(__file__).resolve().parents[2]
PARTS = ["CHANGELOG.md", "LICENSE", "README.md", "docs", "firmware_configs", "gateway", "pyproject.toml", "requirements.lock"]
PARTS += ["requirements-compile.lock", "scripts", "systemd"]

_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
_MOUNT = (
    'set -e; mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"; root="$2/root"; shift 2; '
)
_CHANGE_INTO = (
    'mount -t proc proc "$root/proc"; mount --rbind /dev "$root/dev"; mount -t tmpfs tmpfs "$root/run"; exec chroot "$root" "$@"'
)
_BOOT = (
    'exec systemd-nspawn --quiet --register=no --keep-unit --private-network --console=pipe --machine="gateway-$$" '
    '--directory="$root" --bind="$1:/mnt" --boot'
)
_JOB = """\
[Unit]
Description=What this root was started for
After=multi-user.target
[Service]
Type=oneshot
WorkingDirectory=/mnt
ExecStart=-/bin/sh -c './job >said 2>&1; echo $? >status'
ExecStopPost=/bin/systemctl --no-block poweroff
TimeoutStartSec=infinity
"""

Make = Callable[[Path], None]
Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True, slots=True)
class Root:
    """One root: what debootstrap made below, what the test changes above."""

    below: Path
    above: Path

    def __post_init__(self) -> None:
        """Make the folders of the overlay, and put the checkout into it."""
        for name in ("upper", "work", "root"):
            (self.above / name).mkdir(parents=True)
        ignore = shutil.ignore_patterns("__pycache__")
        for part in PARTS:
            target = self.path("root/checkout") / part
            target.parent.mkdir(parents=True, exist_ok=True)
            source = CHECKOUT / part
            shutil.copytree(source, target, ignore=ignore) if source.is_dir() else shutil.copy(source, target)
        self.path("etc").mkdir()
        shutil.copy("/etc/resolv.conf", self.path("etc/resolv.conf"))
        self.path("etc/hosts").write_text("127.0.0.1 localhost debian\n")
        self.path("etc/hostname").write_text("debian\n")

    def path(self, inside: str) -> Path:
        """Where a file of the root that a test writes lies outside of it."""
        return self.above / "upper" / inside.lstrip("/")

    def run(self, *command: str, timeout_s: int = 300) -> Done:
        """A command in the root, without systemd."""
        words = [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--uts",
            "--propagation",
            "private",
            "bash",
            "-c",
            _MOUNT + _CHANGE_INTO,
        ]
        words += ["bash", str(self.below), str(self.above), *command]
        return subprocess.run(words, env=_ENVIRONMENT, capture_output=True, text=True, timeout=timeout_s, check=False)

    def install(self, *options: str, timeout_s: int = 300) -> Done:
        """``scripts/install.sh`` of the checkout that lies in the root."""
        return self.run("/root/checkout/scripts/install.sh", *options, timeout_s=timeout_s)

    def pack(self, image: Path, size: str) -> None:
        """All of it as an ext4 file system of that size in one file."""
        words = ["unshare", "--mount", "--propagation", "private", "bash", "-c"]
        words += [_MOUNT + 'exec mkfs.ext4 -q -F -O ^has_journal -d "$root" "$1" "$2"', "bash", str(self.below), str(self.above)]
        subprocess.run([*words, str(image), size], env=_ENVIRONMENT, check=True)

    def boot(self, program: Path, folder: Path, timeout_s: int = 600) -> None:
        """Boot, run ``program`` as root with ``folder`` as its own, and switch off.

        Leaves in ``folder`` what the console and the program said and, if systemd booted at all, the program's ``status``.
        """
        shutil.copy(program, folder / "job")
        (folder / "job").chmod(0o755)
        units = self.path("etc/systemd/system")
        (units / "multi-user.target.wants").mkdir(parents=True)
        (units / "job.service").write_text(_JOB)
        (units / "multi-user.target.wants" / "job.service").symlink_to("../job.service")
        words = ["unshare", "--mount", "--propagation", "private", "bash", "-c", _MOUNT + _BOOT]
        words += ["bash", str(self.below), str(self.above), str(folder)]
        with (folder / "console").open("w") as console, suppress(subprocess.TimeoutExpired):
            subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env=_ENVIRONMENT,
                timeout=timeout_s,
                check=False,
            )


def base() -> Path:
    """The smallest Debian with systemd; skips where there is no right, no program or no network to make one."""
    if os.geteuid() != 0:
        pytest.skip("a Debian root can only be made and entered by root")
    for program in ("debootstrap", "unshare", "chroot"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    return cached(f"{SUITE}-base", _debootstrap)


def ready() -> Path:
    """`base` with everything that the gateway needs of Debian."""
    below = base()
    if shutil.which("systemd-nspawn") is None:
        pytest.skip("systemd-nspawn (Debian package systemd-container) is not installed")
    return cached(f"{SUITE}-ready", lambda folder: _with_packages(below, folder))


def wheels(lock_name: str = "requirements.lock") -> Path:
    """The packages of a lock for Debian 12, fetched with pip's usual settings."""
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the wheels for Debian 12 are fetched by the Python that it has: 3.11")
    lock = CHECKOUT / lock_name
    return cached(f"wheels-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}", partial(_download, lock))


def cached(name: str, make: Make) -> Path:
    """A folder in the user's cache, made by one of several processes at once and never half made."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "beacon-gateway-tests"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / name
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = cache / f"{name}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(folder)
    return folder


def _debootstrap(folder: Path) -> None:
    _or_skip("debootstrap", "--variant=minbase", f"--include={','.join(BASE)}", SUITE, str(folder), MIRROR)


def _with_packages(below: Path, folder: Path) -> None:
    _or_skip("cp", "-a", f"{below}/.", str(folder))
    shutil.copy("/etc/resolv.conf", folder / "etc/resolv.conf")
    # Nothing is started in a folder that only becomes a system later.
    policy = folder / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    install = (
        f"apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends {' '.join(READY)}"
    )
    words = [
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--propagation",
        "private",
        "bash",
        "-c",
        f'root="$1"; shift; {_CHANGE_INTO}',
    ]
    _or_skip(*words, "bash", str(folder), "sh", "-c", install)
    policy.unlink()


def _download(lock: Path, folder: Path) -> None:
    _or_skip(
        *(sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "-r", str(lock), "-d", str(folder)),
        environment=None,
    )


def _or_skip(*command: str, environment: dict[str, str] | None = _ENVIRONMENT) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"{command[0]} failed here: {(done.stdout + done.stderr).strip()[-300:]}")
