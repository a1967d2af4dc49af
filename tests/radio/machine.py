"""A machine without hardware for the radio tests: Debian with its own kernel, systemd, BlueZ and the gateway, booted by QEMU.

The file system is what tests/packaging makes, a Debian into which scripts/install.sh has installed this checkout, plus a kernel
with the virtual Bluetooth driver. Both are kept in the user's cache until something that they are made of changes. There is no
network in the machine, and what it writes on its disk is thrown away.
"""

import hashlib
import inspect
import lzma
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.packaging import debian

QEMU = "qemu-system-x86_64"
KERNEL_PACKAGE = "linux-image-amd64"
IMAGE_SIZE = "2G"
MEMORY_MIB = 1536
SPEED = 1
"""An instruction takes 2 ** SPEED ns of the machine's own time, whatever else the host does: half a billion a second, less than a
core of a Pi 4 does. So seconds in there mean something, and a busy host only makes the run longer."""
PROCESSOR = "Nehalem"
"""An older one than QEMU can emulate: without wide vectors programs choose code that is 15 % faster here."""
KEPT_IMAGES = 2
"""Beside the newest: another checkout may use one."""

MODULES = (
    "arch/x86/crypto crypto lib net/bluetooth net/rfkill drivers/bluetooth net/9p fs/9p fs/netfs fs/fscache fs/autofs fs/fuse "
    "fs/ext4 fs/jbd2 fs/mbcache.ko drivers/virtio drivers/block/virtio_blk.ko drivers/char/hw_random drivers/hid"
)
"""What of the kernel's modules the machine may need."""
FIRST_MODULES = ["virtio_pci", "virtio_blk", "ext4", "crc32c_generic", "9pnet_virtio", "9p", "virtio_rng", "hci_vhci"]
"""What the root file system needs, and what udev would load."""

_INIT = """\
#!/bin/busybox sh
B=/bin/busybox
$B mount -t devtmpfs dev /dev; $B mount -t proc proc /proc; $B mount -t sysfs sys /sys
for module in /modules/*; do $B insmod "$module" || echo "initrd: no $module"; done
$B mount -t ext4 -o rw,noatime /dev/vda /root || { echo "initrd: no root file system"; $B poweroff -f; }
$B mount --move /dev /root/dev; $B mount --move /proc /root/proc; $B mount --move /sys /root/sys
exec $B switch_root /root /lib/systemd/systemd
"""
_JOB = """\
[Unit]
Description=What this machine was started for
After=basic.target dbus.service
Wants=dbus.service
[Service]
Type=oneshot
Environment=PYTHONDONTWRITEBYTECODE=1 HOME=/root
WorkingDirectory=/mnt
ExecStartPre=-/bin/mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 share /mnt
ExecStart=-/bin/sh -c 'cd /mnt && cut -d" " -f1 /proc/uptime >booted && ./job >said 2>&1; echo $? >status; sync'
ExecStopPost=/bin/systemctl --force poweroff
TimeoutStartSec=infinity
"""
_UNWANTED = (
    "apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer systemd-tmpfiles-clean.timer "
    "dev-hugepages.mount dev-mqueue.mount sys-fs-fuse-connections.mount sys-kernel-config.mount sys-kernel-debug.mount "
    "sys-kernel-tracing.mount proc-sys-fs-binfmt_misc.automount systemd-udevd-control.socket systemd-udevd-kernel.socket "
    "systemd-initctl.socket systemd-rfkill.socket systemd-ask-password-console.path systemd-ask-password-wall.path "
    "e2scrub_reap.service getty@tty1.service kmod-static-nodes.service modprobe@configfs.service modprobe@dm_mod.service "
    "modprobe@drm.service modprobe@efi_pstore.service modprobe@fuse.service modprobe@loop.service systemd-binfmt.service "
    "systemd-firstboot.service systemd-hwdb-update.service systemd-journal-catalog-update.service systemd-journal-flush.service "
    "systemd-ldconfig.service systemd-machine-id-commit.service systemd-modules-load.service systemd-network-generator.service "
    "systemd-pcrphase-sysinit.service systemd-pcrphase.service systemd-pstore.service systemd-random-seed.service "
    "systemd-remount-fs.service systemd-repart.service systemd-sysctl.service systemd-sysusers.service "
    "systemd-tmpfiles-setup-dev.service systemd-tmpfiles-setup.service systemd-udev-trigger.service systemd-udevd.service "
    "systemd-update-utmp.service"
)
"""What takes long on an emulated processor and no job needs. The units of Bluetooth, broker and gateway stay as they are."""


@dataclass(frozen=True, slots=True)
class Image:
    """What QEMU boots: three files in a folder."""

    folder: Path

    @property
    def kernel(self) -> Path:
        """Uncompressed: QEMU starts it directly, which saves three seconds of every boot."""
        return self.folder / "vmlinux"


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of one job: its exit status (none: it did not come to its end), what it said, and the files it left."""

    status: int | None
    said: str
    console: str
    boot_s: float
    took_s: float
    folder: Path


def skip_where_it_cannot_run() -> None:
    """Skip with the reason where there is no QEMU, or where nothing could be made for it."""
    if platform.machine() != "x86_64":
        pytest.skip(f"the machine is made for x86_64 and this is {platform.machine()}")
    for program, package in ((QEMU, "qemu-system-x86"), ("mkfs.ext4", "e2fsprogs"), ("cpio", "cpio")):
        if shutil.which(program) is None:
            pytest.skip(f"{program} (Debian package {package}) is not installed")


def image() -> Image:
    """The image with this checkout installed; made where it is not there yet."""
    skip_where_it_cannot_run()
    kernel = _kernel()
    folder = debian.cached(f"radio-{_inputs(kernel)}", lambda folder: _make_image(kernel, folder))
    _forget_older(folder)
    return Image(folder)


def _inputs(kernel: Path) -> str:
    """Of everything in the image that a job could meet, so that it is made anew when something of it changes."""
    seen = hashlib.sha256(repr((kernel.name, _JOB, _UNWANTED, IMAGE_SIZE, inspect.getsource(_make_image))).encode())
    for part in ("gateway", "systemd", "scripts/install.sh", "pyproject.toml", "requirements.lock"):
        source = debian.CHECKOUT / part
        for file in sorted(source.rglob("*")) if source.is_dir() else [source]:
            if file.is_file() and "__pycache__" not in file.parts:
                seen.update(str(file.relative_to(debian.CHECKOUT)).encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return seen.hexdigest()[:12]


def _forget_older(newest: Path) -> None:
    """Each is 700 MB, and each change of the gateway makes one."""
    others = [path for path in newest.parent.glob("radio-*") if path.is_dir() and not path.suffix and path != newest]
    others.sort(key=lambda path: path.stat().st_mtime)
    for path in others[:-KEPT_IMAGES]:
        shutil.rmtree(path, ignore_errors=True)


def _kernel() -> Path:
    """A folder with ``vmlinux``, ``initrd`` and ``modules/<version>``, from Debian's packages."""
    made_of = repr((debian.SUITE, KERNEL_PACKAGE, MODULES, FIRST_MODULES, _INIT))
    return debian.cached(f"kernel-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}", _make_kernel)


def _make_kernel(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        root = debian.Root(debian.ready(), Path(scratch) / "debian")
        newest = f"apt-cache depends {KERNEL_PACKAGE} | sed -n 's/.*Depends: \\(linux-image-[0-9].*\\)/\\1/p' | head -n 1"
        fetch = (
            f"cd /root && apt-get update -qq && apt-get download -qq $({newest}) busybox-static && mkdir kernel busybox "
            "&& dpkg-deb -x linux-image*.deb kernel && dpkg-deb -x busybox*.deb busybox"
        )
        done = root.run("sh", "-c", fetch, timeout_s=600)
        if done.returncode != 0:
            pytest.skip(f"Debian's kernel could not be fetched: {(done.stdout + done.stderr).strip()[-300:]}")
        packages = root.path("root")
        version = next((packages / "kernel/lib/modules").iterdir()).name
        compressed = (packages / f"kernel/boot/vmlinuz-{version}").read_bytes()
        at = compressed.index(b"\xfd7zXZ\0")
        (folder / "vmlinux").write_bytes(lzma.LZMADecompressor().decompress(compressed[at:]))
        _choose_modules(packages / "kernel/lib/modules" / version, folder / "modules/lib/modules" / version)
        _make_initrd(folder, version, packages / "busybox/bin/busybox", Path(scratch) / "initrd")


def _choose_modules(all_of_them: Path, chosen: Path) -> None:
    for part in MODULES.split():
        source, target = all_of_them / "kernel" / part, chosen / "kernel" / part
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    for index in all_of_them.glob("modules.*"):
        if index.name in {"modules.order", "modules.builtin", "modules.builtin.modinfo"}:
            shutil.copy(index, chosen)
    _call("depmod", "-b", str(chosen.parents[2]), chosen.name)


def _make_initrd(folder: Path, version: str, busybox: Path, scratch: Path) -> None:
    for part in ("bin", "dev", "proc", "sys", "root", "modules"):
        (scratch / part).mkdir(parents=True)
    shutil.copy(busybox, scratch / "bin/busybox")
    (scratch / "init").write_text(_INIT)
    (scratch / "init").chmod(0o755)
    words = [
        "modprobe",
        "--dirname",
        str(folder / "modules"),
        "--set-version",
        version,
        "--show-depends",
        "--all",
        *FIRST_MODULES,
    ]
    wanted = [line.split()[1] for line in _call(*words).splitlines() if line.startswith("insmod ")]
    for number, module in enumerate(dict.fromkeys(wanted), start=100):
        shutil.copy(module, scratch / "modules" / f"{number}-{Path(module).name}")
    packed = subprocess.run(
        ["cpio", "--create", "--format=newc", "--quiet"],
        input="\n".join(sorted(str(path.relative_to(scratch)) for path in scratch.rglob("*"))).encode(),
        cwd=scratch,
        capture_output=True,
        check=True,
    )
    (folder / "initrd").write_bytes(packed.stdout)


def _make_image(kernel: Path, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        root = debian.Root(debian.ready(), Path(scratch) / "debian")
        shutil.copytree(debian.wheels(), root.path("root/wheels"))
        installed = root.install("--wheels", "/root/wheels", "--with-broker")
        assert installed.returncode == 0, installed.stdout + installed.stderr
        shutil.copytree(kernel / "modules/lib/modules", root.path("usr/lib/modules"))
        shutil.rmtree(root.path("root/wheels"))
        units = root.path("etc/systemd/system")
        (units / "job.service").write_text(_JOB)
        (units / "default.target").symlink_to("job.target")
        (units / "job.target").write_text("[Unit]\nRequires=job.service basic.target\nAfter=basic.target\nAllowIsolate=yes\n")
        for unit in _UNWANTED.split():
            (units / unit).symlink_to("/dev/null")
        journal = root.path("etc/systemd/journald.conf.d/volatile.conf")
        journal.parent.mkdir(parents=True)
        journal.write_text("[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n")
        root.pack(folder / "root.ext4", IMAGE_SIZE)
    for name in ("vmlinux", "initrd"):
        shutil.copy(kernel / name, folder)


def boot(made: Image, folder: Path, limit_s: int) -> Ran:
    """Boot the image and run ``folder``/job in it as root; ``folder`` is its /mnt. What it wrote there stays."""
    words = [QEMU, "-M", "q35", "-accel", "tcg,tb-size=512", "-icount", f"shift={SPEED},sleep=on", "-rtc", "base=utc,clock=vm"]
    words += ["-cpu", PROCESSOR, "-smp", "1", "-m", str(MEMORY_MIB)]
    words += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", f"file:{folder / 'console'}"]
    words += ["-kernel", str(made.kernel), "-initrd", str(made.folder / "initrd")]
    words += [
        "-append",
        "console=ttyS0 quiet loglevel=3 mitigations=off tsc=reliable audit=0 cryptomgr.notests=1 systemd.show_status=0",
    ]
    words += ["-drive", f"file={made.folder / 'root.ext4'},format=raw,if=virtio,snapshot=on,cache=unsafe"]
    words += ["-device", "virtio-rng-pci"]
    words += ["-virtfs", f"local,path={folder},mount_tag=share,security_model=none,multidevs=remap"]
    began = time.monotonic()
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(words, stdin=subprocess.DEVNULL, timeout=limit_s, check=True)
    took_s = time.monotonic() - began
    status, booted = _text(folder / "status").strip(), _text(folder / "booted").strip()
    return Ran(
        int(status) if status else None,
        _text(folder / "said"),
        _text(folder / "console"),
        float(booted or "nan"),
        took_s,
        folder,
    )


def run_job(made: Image, folder: Path, module: str, *words: str, limit_s: int) -> Ran:
    """One of the programs in tests/radio/guest, by the Python of the gateway that is installed there; its results.json stays."""
    package = folder / "tests/radio/guest"
    shutil.copytree(Path(__file__).with_name("guest"), package, ignore=shutil.ignore_patterns("__pycache__"))
    for parent in (package.parent, package.parent.parent):
        (parent / "__init__.py").touch()
    python = "/opt/beacon-gateway/current/.venv/bin/python"
    (folder / "job").write_text(
        f"#!/bin/sh\nexec env PYTHONPATH=/mnt {python} -m tests.radio.guest.{module} {shlex.join(words)}\n"
    )
    (folder / "job").chmod(0o755)
    return boot(made, folder, limit_s)


def _text(file: Path) -> str:
    return file.read_text(errors="replace") if file.exists() else ""


def _call(*words: str) -> str:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})
    assert done.returncode == 0, done.stderr
    return done.stdout
