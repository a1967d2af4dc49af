"""Types the commands of pages on a stage, and says where a page is not true any more, or corrects it.

python -m tests.docs.run_pages [--write] [PAGE…]
"""

import asyncio
import difflib
import re
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

from tests.docs.pages import Block, Command, blocks, normalised, pages, rewritten
from tests.docs.stage import Stage
from tests.e2e.world import ROOT

_DEFINED = re.compile(r"^(?:async )?def (\w+)\(", re.MULTILINE)


async def untrue(
    page: Path, folder: Path, *, text: str | None = None, write: Callable[[str], object] | None = None, anew: bool = False
) -> list[str]:
    """What is wrong with a page, or with ``text`` in its place.

    With ``write`` what its commands print now is handed over instead of being complained of; ``anew``: also where nothing differs
    but what may.
    """
    text = page.read_text("utf-8") if text is None else text
    found = list(blocks(text))
    complaints = [complaint for block in found for complaint in _elsewhere(block)]
    here = [block for block in found if block.kind != "other" and "test" not in block.info]
    if not any(block.kind in {"console", "sh"} for block in here):
        return _of_page(page, complaints)
    lines = text.split("\n")
    changed: list[tuple[Block, list[str]]] = []
    async with Stage(folder) as stage:
        for block in here:
            before = len(complaints)
            if block.kind == "stage":
                await stage.direct(block.lines[0])
            elif block.kind == "file":
                stage.write(block)
            else:
                now = [await _typed(stage, block, command, complaints) for command in block.commands]
                if block.kind == "console" and (anew or len(complaints) > before):
                    changed.append((block, rewritten(block, now)))
    if write is not None:
        for block, new in reversed(changed):
            lines[block.line - 1 : block.line - 1 + len(block.lines)] = new
        write("\n".join(lines))
        complaints = [complaint for complaint in complaints if not complaint.startswith("PRINTS")]
    return _of_page(page, complaints)


def _of_page(page: Path, complaints: list[str]) -> list[str]:
    return [f"{page.relative_to(ROOT)}:{complaint.removeprefix('PRINTS')}" for complaint in complaints]


async def _typed(stage: Stage, block: Block, command: Command, complaints: list[str]) -> Command:
    """Type one command and compare."""
    printed, code = await stage.type(command, block.info)
    while printed and not printed[-1]:
        printed.pop()
    if code and not command.interrupted:
        said = "\n    ".join(printed)
        complaints.append(f"{command.line}: exit code {code}: {command.typed}\n    {said}\n{stage.logs()}")
    if block.kind == "console":
        told, is_now = ([normalised(line, block.info) for line in lines] for lines in (_trimmed(command.printed), printed))
        if command.interrupted:
            # Several tasks say what they have to say when they get there, and a page tells it once: how many days' rosters have
            # come before Ctrl-C is nobody's matter.
            told, is_now = sorted(set(told)), sorted(set(is_now))
        if told != is_now:
            difference = "\n    ".join(difflib.unified_diff(told, is_now, "told", "printed", lineterm="", n=1))
            complaints.append(f"PRINTS{command.line}: {command.typed}\n    {difference}")
    return Command(command.line, command.typed, printed, command.interrupted)


def _trimmed(lines: list[str]) -> list[str]:
    end = len(lines)
    while end and not lines[end - 1]:
        end -= 1
    return lines[:end]


def _elsewhere(block: Block) -> list[str]:
    """What is wrong with a block that another test runs: it has to exist and to hold the commands."""
    if block.kind not in {"console", "sh"} or "test" not in block.info:
        return []
    file, _, name = block.info["test"].partition("::")
    path = ROOT / file
    if not file.startswith("tests/") or not path.is_file():
        return [f"{block.line}: there is no test {file}"]
    source = path.read_text("utf-8")
    if name not in _DEFINED.findall(source) or not name.startswith("test_"):
        return [f"{block.line}: {file} has no test {name or '(name it: FILE::NAME)'}"]
    return [
        f"{command.line}: {block.info['test']} does not run: {command.typed}"
        for command in block.commands
        if _plain(command.typed) not in _plain(source)
    ]


def _plain(text: str) -> str:
    """Words alone: without comments, sudo, and the quotes and commas of a test that gives them one by one."""
    text = re.sub(r"(^|\s)#.*$", "", text.replace("\\\n", " "), flags=re.MULTILINE)
    text = re.sub(r"\broot\.install\(", "scripts/install.sh ", text)
    return " ".join(re.sub(r"[\"',()\[\]]|\bsudo\b", " ", text).split())


async def main() -> int:
    """0 when everything is true, or has been made so."""
    parser = ArgumentParser(prog="scripts/docs")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("pages", nargs="*", type=Path)
    given = parser.parse_args()
    complaints = []
    for page in [path.resolve() for path in given.pages] or pages(ROOT):
        with tempfile.TemporaryDirectory(prefix="gateway-docs-") as folder:
            complaints += await untrue(page, Path(folder), write=page.write_text if given.write else None, anew=bool(given.pages))
    sys.stdout.write("\n".join(complaints or ["Every command was typed, and every page tells what it prints."]) + "\n")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
