"""`scripts/contract`: writes docs/asyncapi.json, or compares it with what would be written."""

import argparse
import difflib
import sys
from itertools import islice
from pathlib import Path

from gateway.contract import asyncapi, examples
from gateway.io.signing import Signer

FILE = Path("docs/asyncapi.json")
_SHOWN, _WIDE = 40, 200
"""Lines of a difference, and characters of a line: the description is one line."""


def main() -> int:
    """Exit code 1 when the file is not what the code says."""
    parser = argparse.ArgumentParser(prog="scripts/contract")
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check

    wanted = asyncapi.to_text(asyncapi.document(Signer(examples.PRIVATE_KEY).seal))
    present = FILE.read_text("utf-8") if FILE.exists() else ""
    if present == wanted:
        print(f"{FILE}: is what the code says")
        return 0
    if not check:
        FILE.write_text(wanted, "utf-8")
        print(f"{FILE}: written")
        return 0
    difference = difflib.unified_diff(present.splitlines(), wanted.splitlines(), str(FILE), "the code", lineterm="", n=1)
    print(*(line[:_WIDE] for line in islice(difference, _SHOWN)), sep="\n")
    print(f"{FILE}: is not what the code says. Type: scripts/contract")
    return 1


if __name__ == "__main__":
    sys.exit(main())
