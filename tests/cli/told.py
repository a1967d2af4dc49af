"""What a command's help says of its JSON, for tests of what it prints."""

import re
from typing import Any

import typer

from gateway.cli.app import app


def keys_told(command: str, part: str = "") -> list[str]:
    """The keys in order; ``part``: what stands before them where a command prints several kinds of objects."""
    found: Any = typer.main.get_command(app)
    for word in command.split():
        found = found.commands[word]
    epilog = found.epilog.removeprefix("JSON: ").removesuffix(".")
    parts = {before: keys for before, _, keys in (each.rpartition(": ") for each in epilog.split("; "))}
    return re.sub(r" \(.*?\)", "", parts[part]).split(", ")
