"""`scripts/contract`: writes docs/asyncapi.json and docs/settings.md, or compares them with what would be written."""

import argparse
import difflib
import sys
from itertools import islice
from pathlib import Path

from gateway.contract import asyncapi, examples
from gateway.contract.settings_page import settings_page
from gateway.io.signing import Signer

CONTRACT, SETTINGS = Path("docs/asyncapi.json"), Path("docs/settings.md")
_SHOWN, _WIDE = 40, 200
"""Lines of a difference, and characters of a line: the description is one line."""


def main() -> int:
    """Exit code 1 when a file is not what the code says."""
    parser = argparse.ArgumentParser(prog="scripts/contract")
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    contract = asyncapi.to_text(asyncapi.document(Signer(examples.PRIVATE_KEY).seal))
    return max(_see_to(CONTRACT, contract, check=check), _see_to(SETTINGS, settings_page(), check=check))


def _see_to(file: Path, wanted: str, *, check: bool) -> int:
    present = file.read_text("utf-8") if file.exists() else ""
    if present == wanted:
        print(f"{file}: is what the code says")
        return 0
    if not check:
        file.write_text(wanted, "utf-8")
        print(f"{file}: written")
        return 0
    difference = difflib.unified_diff(present.splitlines(), wanted.splitlines(), str(file), "the code", lineterm="", n=1)
    print(*(line[:_WIDE] for line in islice(difference, _SHOWN)), sep="\n")
    print(f"{file}: is not what the code says. Type: scripts/contract")
    return 1


if __name__ == "__main__":
    sys.exit(main())
