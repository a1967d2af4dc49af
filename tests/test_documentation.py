"""What a stranger reads is true: the examples are accepted, the README names what exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.contract.promotions import PromotionsFile
from gateway.contract.settings import CentralSettings, Settings, read_settings
from gateway.contract.shop import read_shop

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


_README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = sorted(set(re.findall(r"^(gateway [a-z -]+?)(?= [a-z]+\.json| anna| --| *#)", _README, re.MULTILINE)))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_readme_exist(command: str) -> None:
    words = command.split()[1:]
    done = subprocess.run(
        [sys.executable, "-c", "from gateway.cli import main; main()", *words, "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
