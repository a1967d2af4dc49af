"""A page of the documentation as the reader's terminal sees it: commands, what they print, files and stage directions.

::

    ```console                      commands after "$ " and what each one prints; "^C" as the last line: Ctrl-C ends it
    ```console exact                nothing in it may differ, not even times and ids; "counts" instead: whole numbers may, too
    ```sh                           commands that have to succeed; what they print is not told
    ```sh test=FILE::NAME           not run here: that test runs them, and their text is in it
    ```json file=PATH               what the reader writes into a file
    ```toml file=PATH add           keys and sections that come into the file the page has told before
    <!-- stage: anna enters dairy -->   what happens in the shop meanwhile (stage.py)
    ```text, ```mermaid, …          nothing to do

Indented blocks and `code` in sentences are words, not commands.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

_OPENING = re.compile(r"^```(?P<language>[a-z]*)(?P<info>.*)$")
_DIRECTION = re.compile(r"^<!-- stage: (?P<text>.*) -->$")
_PROMPT, _CONTINUED, _CTRL_C = "$ ", "> ", "^C"


@dataclass(slots=True)
class Command:
    """What is typed, and what comes back."""

    line: int
    """Where it stands in the page, from 1."""
    typed: str
    printed: list[str] = field(default_factory=list)
    interrupted: bool = False
    """Whether Ctrl-C ends it."""


@dataclass(slots=True)
class Block:
    """One fence or stage direction."""

    kind: Literal["console", "sh", "file", "stage", "other"]
    line: int
    """Of its first line, from 1."""
    lines: list[str]
    info: dict[str, str] = field(default_factory=dict)

    @property
    def commands(self) -> list[Command]:
        """Of a console or sh block, in order; ``ValueError`` for output before the first prompt."""
        return list(_transcript(self) if self.kind == "console" else _script(self))


def blocks(page: str) -> Iterator[Block]:
    """All of a page, in order; ``ValueError`` for a fence without end."""
    lines = page.split("\n")
    at = 0
    while at < len(lines):
        direction = _DIRECTION.match(lines[at])
        opening = _OPENING.match(lines[at])
        if direction:
            yield Block("stage", at + 1, [direction["text"]])
        elif opening:
            end = next((n for n in range(at + 1, len(lines)) if lines[n] == "```"), None)
            if end is None:
                raise ValueError(f"line {at + 1}: this block has no end")
            yield _fence(opening["language"], opening["info"], at + 2, lines[at + 1 : end])
            at = end
        at += 1


def _fence(language: str, info: str, line: int, lines: list[str]) -> Block:
    attributes = {key: value for key, _, value in (word.partition("=") for word in info.split())}
    if "file" in attributes:
        return Block("file", line, lines, attributes)
    if language in {"console", "sh"}:
        return Block("console" if language == "console" else "sh", line, lines, attributes)
    if language in {"bash", "shell", "shellsession"}:
        raise ValueError(f"line {line - 1}: write sh or console")
    return Block("other", line, lines, attributes | {"language": language})


def _transcript(block: Block) -> Iterator[Command]:
    command: Command | None = None
    for number, text in enumerate(block.lines, block.line):
        if text.startswith(_PROMPT):
            if command is not None:
                yield command
            command = Command(number, text.removeprefix(_PROMPT))
        elif command is None:
            raise ValueError(f'line {number}: a console block begins with "{_PROMPT}"')
        elif text.startswith(_CONTINUED) and command.typed.endswith("\\") and not command.printed:
            command.typed += "\n" + text.removeprefix(_CONTINUED)
        elif text == _CTRL_C:
            command.interrupted = True
        else:
            command.printed.append(text)
    if command is not None:
        yield command


def _script(block: Block) -> Iterator[Command]:
    typed: list[str] = []
    for number, text in enumerate(block.lines, block.line):
        if not typed and (not text.strip() or text.lstrip().startswith("#")):
            continue
        typed.append(text)
        if not text.endswith("\\"):
            yield Command(number - len(typed) + 1, "\n".join(typed))
            typed = []


def rewritten(block: Block, commands: list[Command]) -> list[str]:
    """The lines of a console block with what its commands print now."""
    lines: list[str] = []
    for command in commands:
        lines += [_PROMPT + command.typed.replace("\n", "\n" + _CONTINUED), *command.printed]
        lines += [_CTRL_C] if command.interrupted else []
    return "\n".join(lines).split("\n")


def pages(root: Path) -> list[Path]:
    """Everything a reader may follow."""
    return [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").glob("*.md"))]


# ---- what may differ from run to run ------------------------------------------------------------------------------------------

_VARIES = (
    (r"\b(Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day (?=\d{4}-\d\d-\d\d)", ""),
    (r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun) (?=\d{4}-\d\d-\d\d)", ""),
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?([.,]\d+)?(Z|[+-]\d\d:\d\d)?", "<time>"),
    (r"\b\d\d:\d\d:\d\d\b", "<clock>"),
    (r'("bootid": |"monotonicms": )"[^"]*"', r"\1<n>"),
    (r'("heard": )\d+', r"\1<n>"),
    (r'("[a-z_]+_(mib|ms|s)": )\d+(\.\d+)?', r"\1<n>"),
    (r"\b[0-9a-f]{8}-d[1-9]\d*\b", "<decision>"),
    (r"\b(?=[a-f]*\d)[0-9a-f]{16,}\b", "<id>"),
    (r"\b[0-9a-f]{8}-d(?= |\b)", "<epoch>"),
    (r"\b(version|catalogue|day) \d+\b", r"\1 <n>"),
    (r"\b\d+\.\d+\.\d+\b", "<version>"),
    (r"\b(x86_64|aarch64)\b", "<machine>"),
    (r"\b\d+(\.\d+)? (ms|s|min|h|d)( \d+ (s|min|h))?(?![\w/])", "<duration>"),
    (r"\b(CET|CEST)\b", "<zone>"),
    (r"(?<![\w.])[-−]?\d+(\.\d+)?(?= ?(%|dBm\b|MiB\b))", "<n>"),
    (r"(?<![\w.])[-−]?\d+(\.\d+)?(?= (advertisements|heard)/s)", "<n>"),
    (r"(?<![\w.])[-−]?\d+\.\d+\b", "<n>"),
    (r"\b(more than )?[\d.]+ times as likely", "<n> times as likely"),
    (r"#{1,30}$", "<bar>"),
    (r"[ \t]+", " "),
)
"""Times, ids, versions, and measured quantities with their unit or a decimal point. Counts have to agree."""
_COUNTS = (r"(?<![\w.])[-−]?\d+(?![\w.])", "<n>")


def normalised(text: str, info: Collection[str] = ()) -> str:
    """One line without what may differ; ``info``: of its block.

    >>> normalised("anna: dairy, heard 2 s ago   (91% sure, -52.5 dBm)")
    'anna: dairy, heard <duration> ago (<n>% sure, <n> dBm)'
    >>> normalised("2 zones, 3 anchors"), normalised("2 zones", {"counts"})
    ('2 zones, 3 anchors', '<n> zones')
    """
    if "exact" in info:
        return text.rstrip()
    for pattern, name in (*_VARIES, _COUNTS) if "counts" in info else _VARIES:
        text = re.sub(pattern, name, text)
    return text.strip()
