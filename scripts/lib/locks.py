"""Check the hash locks against pyproject.toml: complete, hashed, and without the address of any index."""

import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

# Which extras each lock holds, besides the runtime; scripts/lock writes them this way.
LOCKS = {
    "requirements.lock": ("build",),
    "requirements-demo.lock": ("build", "demo"),
    "requirements-test.lock": ("build", "demo", "test", "compile"),
    "requirements-bench.lock": ("build", "bench", "compile"),
    "requirements-compile.lock": ("build", "compile"),
    "requirements-fuzz.lock": ("build", "fuzz"),
}
PINNED = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s;]+)", re.MULTILINE)


def problems(root: Path) -> list[str]:
    """One line for each thing that is wrong with the locks of the checkout in ``root``."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    found = []
    for lock, extras in LOCKS.items():
        text = (root / lock).read_text()
        if re.search(r"://|--(?:extra-)?index-url|--find-links|--trusted-host", text):
            found.append(f"{lock}: holds an address; locks must install from whatever index a person uses.")
        pins = {canonicalize_name(pin["name"]): Version(pin["version"]) for pin in PINNED.finditer(text)}
        found += [
            f"{lock}: {pin['name']} has no hash."
            for pin in PINNED.finditer(text)
            if not text[pin.end() :].partition("\n")[2].lstrip().startswith("--hash=sha256:")
        ]
        wanted = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
        for requirement in map(Requirement, wanted):
            version = pins.get(canonicalize_name(requirement.name))
            if version is None or version not in requirement.specifier:
                found.append(f"{lock}: has {version or 'nothing'} where pyproject.toml asks for {requirement}. Run scripts/lock.")
    return found


def main() -> int:
    """Print what is wrong; exit code 1 if anything is."""
    found = problems(Path(__file__).resolve().parents[2])
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
