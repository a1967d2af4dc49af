"""Compile what runs for every advertisement with mypyc: a copy of the package in which those modules are machine code.

    python scripts/lib/compiled.py FOLDER

writes FOLDER/gateway. Whoever has FOLDER before the checkout on PYTHONPATH runs the compiled modules; the source beside them is
the same, and is what runs wherever nothing has been compiled. Needs mypy, setuptools, a C compiler and Python's headers; exit
code 3, with a sentence, where one of them is missing. What is up to date is left as it is.
"""

import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULES = (
    "model",
    "pipeline",
    "identity",
    "token",
    "level_filter",
    "presence",
    "announcer",
    "conflicts",
    "offers",
    "conditions",
    "contexts",
    "ad_structures",
    "frames/__init__",
    "frames/ibeacon",
    "frames/shopper",
    "frames/altbeacon",
    "frames/eddystone",
    "positioning",
    "zone_model",
    "timetable",
    "relay",
    "battery_fields",
    "health_news",
)
"""Of gateway/core: what an advertisement and its sighting, belief, presence and offers go through. The canaries stay as they are:
a shop has few registered beacons, and their tests copy deeply, which compiled dataclasses refuse. Constants that are asked for
often are ``Final``: any other is looked up by its name each time."""
_IMPOSSIBLE = 3
_STAMP = "compiled-from"
_SETUP = """
import sys
from mypyc.build import mypycify
from setuptools import setup

options = ["--strict", "--follow-imports=silent"]
extensions = mypycify([*options, *sys.argv[1:]], opt_level="2", debug_level="0", group_name="gateway")
setup(name="gateway-compiled", packages=[], ext_modules=extensions, script_args=["build_ext", "--inplace", "--quiet"])
"""


def what_is_missing() -> str | None:
    """Why nothing can be compiled here; ``None`` if it can."""
    compiler = os.environ.get("CC", sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler ({compiler}); on Debian and Raspberry Pi OS: sudo apt-get install gcc"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "Python's headers are missing; on Debian and Raspberry Pi OS: sudo apt-get install python3-dev"
    for library in ("mypy", "setuptools"):
        try:
            importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            return f"{library} is missing in this environment"
    return None


def basis() -> str:
    """What the compiled modules were made from."""
    found = hashlib.sha256()
    for path in sorted((ROOT / "gateway").rglob("*.py")):
        found.update(f"{path.relative_to(ROOT)}\0".encode())
        found.update(path.read_bytes())
    found.update(repr(MODULES).encode())
    found.update(f"{sys.version}{sysconfig.get_platform()}{importlib.metadata.version('mypy')}".encode())
    return found.hexdigest()


def compile_into(folder: Path) -> None:
    """Make ``folder``/gateway anew; what was there stays until the new one is whole."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        work = Path(scratch, "made")
        shutil.copytree(ROOT / "gateway", work / "gateway", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        (work / "compile.py").write_text(_SETUP)
        paths = [f"gateway/core/{module}.py" for module in MODULES]
        done = subprocess.run(  # noqa: S603 -- our own program
            [sys.executable, "compile.py", *paths],
            cwd=work,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            sys.exit("\n".join([*done.stdout.splitlines()[-15:], "mypyc could not compile the gateway; why stands above."]))
        shutil.rmtree(work / "build")
        shutil.rmtree(work / ".mypy_cache", ignore_errors=True)
        (work / "compile.py").unlink()
        (work / _STAMP).write_text(basis())
        if folder.exists():
            shutil.rmtree(folder)
        work.rename(folder)


def main() -> int:
    """Compile into the folder that is named, unless what is there is up to date."""
    folder = Path(sys.argv[1]).resolve()
    missing = what_is_missing()
    if missing is not None:
        print(f"Nothing is compiled: {missing}.", file=sys.stderr)
        return _IMPOSSIBLE
    stamp = folder / _STAMP
    if stamp.exists() and stamp.read_text() == basis():
        return 0
    print("Compiling what runs for every advertisement (a minute or two).", file=sys.stderr)
    folder.parent.mkdir(parents=True, exist_ok=True)
    compile_into(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
