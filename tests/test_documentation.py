"""What a stranger reads is true: the examples are accepted, the README names what exists."""

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from gateway.cli.app import app
from gateway.cli.doctor import FAILED_EXIT_CODE
from gateway.cli.offer import LINT_ERRORS_EXIT_CODE
from gateway.cli.status import STOPPED_EXIT_CODE
from gateway.contract.asyncapi import MESSAGES
from gateway.contract.messages import validated
from gateway.contract.promotions import PromotionsFile
from gateway.contract.settings import CentralSettings, Settings, read_settings
from gateway.contract.shop import read_shop
from gateway.errors import GatewayError
from tests.docs.pages import blocks, pages

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "docs" / "examples"


def test_the_example_settings_of_a_gateway_are_complete() -> None:
    settings = read_settings(EXAMPLES / "gateway.toml", Settings)
    assert settings.privacy.is_complete


def test_the_example_settings_of_central_name_the_store_of_the_gateway() -> None:
    gateway = read_settings(EXAMPLES / "gateway.toml", Settings)
    central = read_settings(EXAMPLES / "central.toml", CentralSettings)
    assert central.stores[gateway.store].store_number == gateway.store_number


def test_the_example_shop_knows_the_receivers_of_the_example_settings() -> None:
    shop = read_shop((EXAMPLES / "shop.json").read_bytes(), "shop.json")
    settings = read_settings(EXAMPLES / "gateway.toml", Settings)
    assert {receiver.name for receiver in settings.receivers} <= shop.anchors.keys()


def test_the_example_promotions_name_zones_of_the_example_shop() -> None:
    promotions = PromotionsFile.model_validate_json((EXAMPLES / "promotions.json").read_bytes()).promotions
    shop = read_shop((EXAMPLES / "shop.json").read_bytes(), "shop.json")
    assert {zone for promotion in promotions for zone in promotion.zones} <= shop.zones.keys()


def test_every_folder_of_the_package_has_its_sentence_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    folders = {f"gateway/{path.name}" for path in (ROOT / "gateway").iterdir() if (path / "__init__.py").exists()}
    folders |= {"docs", "firmware_configs", "scripts", "systemd", "tests"}
    named = set(re.findall(r"^\| `([a-z_/]+)` \| \S", readme, re.MULTILINE))
    assert folders == named


def test_every_module_says_what_it_is_for() -> None:
    silent = [path for path in (ROOT / "gateway").rglob("*.py") if not path.read_text("utf-8").startswith('"""')]
    assert silent == []


# ---- commands -----------------------------------------------------------------------------------------------------------------


def _commands() -> dict[str, str]:
    """Every command with its help, by what is typed."""
    found: dict[str, str] = {}

    def walk(command: Any, words: str) -> None:
        below: dict[str, Any] = getattr(command, "commands", {})
        # A group that can be typed alone is a command, too.
        if not below or getattr(command, "invoke_without_command", False):
            found[words] = command.help or ""
        for name, each in below.items():
            walk(each, f"{words} {name}")

    walk(get_command(app), "gateway")
    return found


COMMANDS = _commands()
COMMANDS_PAGE = ROOT / "docs" / "commands.md"
PAGES = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in pages(ROOT)}


def test_the_whole_tree_of_commands_was_seen() -> None:
    assert {
        "gateway run",
        "gateway central",
        "gateway central key",
        "gateway zone add",
        "gateway test-shopper watch",
    } <= COMMANDS.keys()


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_is_documented_with_its_output(command: str) -> None:
    """tests/docs/test_pages.py types the examples; here each has to be there, and to print something."""
    typed = [each for block in blocks(PAGES["docs/commands.md"]) if block.kind == "console" for each in block.commands]
    longer = [other for other in COMMANDS if other.startswith(f"{command} ")]
    examples = [
        each
        for each in typed
        if re.match(rf"(sudo )?{command}(?![\w-])", each.typed)
        and not any(re.match(rf"{other}\b", each.typed) for other in longer)
    ]
    assert examples, f"docs/commands.md has no example of {command}"
    assert any(each.printed for each in examples), f"scripts/docs --write docs/commands.md tells what {command} prints"
    assert re.search(rf"^#+ {command}( itself)?$", PAGES["docs/commands.md"], re.MULTILINE), f"{command} has no heading"


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"gateway central"}))
def test_every_command_helps_with_an_example(command: str) -> None:
    assert re.search(rf"^Example: (sudo )?{command}\b", COMMANDS[command], re.MULTILINE)


@pytest.mark.parametrize("page", sorted(PAGES))
def test_what_a_page_calls_a_command_is_one(page: str) -> None:
    """`gateway …` in a sentence or a table, which nobody types: the words have to exist, and so do the options."""
    for quoted in re.findall(r"`(?:sudo )?(gateway(?: [a-z][a-z-]*)+)([^`]*)`", PAGES[page]):
        words, rest = quoted
        known = [command for command in COMMANDS if f"{words} ".startswith(f"{command} ") or command.startswith(f"{words} ")]
        assert known, f"{page}: there is no command {words}"
        if words in COMMANDS:
            options = {option for each in _parameters(words) for option in each}
            unknown = [option for option in re.findall(r"--[a-z][a-z-]*", rest) if option not in options | {"--help"}]
            assert not unknown, f"{page}: {words} has no option {unknown}"


def _parameters(command: str) -> list[list[str]]:
    node: Any = get_command(app)
    for word in command.split()[1:]:
        node = node.commands[word]
    return [[*each.opts, *each.secondary_opts] for each in node.params]


# ---- links, codes, examples ---------------------------------------------------------------------------------------------------


def _anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", sorted(PAGES))
def test_every_link_leads_somewhere(page: str) -> None:
    prose = re.sub(r"^```.*?^```$", "", PAGES[page], flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if target.startswith(("https://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        assert path.exists(), f"{page}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
            assert anchor in map(_anchor, headings), f"{page}: {target}"


def test_every_page_is_found_from_the_readme_or_the_index() -> None:
    read_on = PAGES["README.md"] + PAGES["docs/README.md"]
    assert [
        page for page in PAGES if page.startswith("docs/") and page != "docs/README.md" and Path(page).name not in read_on
    ] == []


def test_every_exit_code_is_in_the_readme() -> None:
    told = set(map(int, re.findall(r"^\| (\d+) \| \S", PAGES["README.md"], re.MULTILINE)))
    kinds: list[type[GatewayError]] = [GatewayError, *GatewayError.__subclasses__()]
    special = {STOPPED_EXIT_CODE, FAILED_EXIT_CODE, LINT_ERRORS_EXIT_CODE, 0, 2, 141}
    assert told == {kind.exit_code for kind in kinds} | special


@pytest.mark.parametrize("page", sorted(PAGES))
def test_every_message_and_setting_in_a_page_is_valid(page: str) -> None:
    for block in blocks(PAGES[page]):
        text = "\n".join(block.lines)
        if block.info.get("language") == "json":
            message = json.loads(text)
            validated(MESSAGES[message["type"]], message, page)
        elif block.info.get("language") == "toml":
            pytest.fail(f"{page}:{block.line}: say which file it is (toml file=…), so that a command reads it")


def test_nothing_of_this_workplace_is_in_a_page() -> None:
    here = [str(ROOT), f"{Path.home()}/", f"{tempfile.gettempdir()}/", "gateway-docs-"]
    for page, text in PAGES.items():
        assert not [place for place in here if place in text], page
        assert not re.search(r"issue \d", text), page


@pytest.mark.parametrize(("german", "english"), [("notice.de.md", "notice.en.md")])
def test_what_shoppers_and_staff_read_is_there_in_german_and_english(german: str, english: str) -> None:
    """The same parts and the same blanks to fill in."""
    one, other = PAGES[f"docs/{german}"], PAGES[f"docs/{english}"]
    for pattern in (r"^#+ ", r"^\|", r"\[[^\]]+\](?!\()", r"^\*\*"):
        assert len(re.findall(pattern, one, re.MULTILINE)) == len(re.findall(pattern, other, re.MULTILINE)), pattern
    assert "Vorlage" in one.splitlines()[0]
    assert "Template" in other.splitlines()[0]
