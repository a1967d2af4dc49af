"""One target of tests/fuzz.py under a coverage-guided fuzzer; `scripts/fuzz --guided` starts it once for each target."""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["gateway"]):
    from tests import fuzz

from gateway.errors import GatewayError

_LARGEST = 4096
"""Octets of an input at most: room for files of many frames."""


def main() -> None:
    """NAME INPUTS SEED FOLDER: the process ends with 0, or with libFuzzer's 77 and the input that raised."""
    name, count, seed, folder = sys.argv[1:]
    target = fuzz.TARGETS[name]
    read = target.make()

    def one(data: bytes) -> None:
        try:
            read(data)
        except GatewayError:
            return

    for number, octets in enumerate(fuzz.seeds_of(target)):
        Path(folder, f"seed-{number}").write_bytes(octets)
    options = [f"-runs={count}", f"-seed={seed}", f"-max_len={_LARGEST}", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *options, folder], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
