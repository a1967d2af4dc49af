"""Files that a command writes: none that it reads, and no two in one place."""

import os
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path

from gateway.core.sanitiser import printable
from gateway.errors import WrongCommand
from gateway.io.input_file import STANDARD_INPUT


def refuse_overwriting(written: Mapping[str, Path | None], read: Iterable[Path | None] = ()) -> None:
    """``WrongCommand`` when one of ``written``, by option, is one of ``read`` or another of them; before anything is touched."""
    outputs = [(option, path) for option, path in written.items() if path is not None]
    inputs = [path for path in read if path is not None and path != STANDARD_INPUT]
    for option, path in outputs:
        if any(_is_same(path, other) for other in inputs):
            raise WrongCommand(f"{option} {printable(path)} is a file that is read here.", do="Name another one.")
    for (option, path), (other, there) in combinations(outputs, 2):
        if _is_same(path, there):
            raise WrongCommand(f"{option} and {other} are the same file, {printable(path)}.", do="Name two.")


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        # What is not there yet has a name alone.
        return os.path.realpath(one) == os.path.realpath(other)
