"""`gateway zone walk | check | verify | model` beside a running gateway and without one: words, JSON and exit codes."""

import asyncio
import json
import os
import pty
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.contract.shop import ShopFile
from gateway.contract.walks import Models, WalkDone, WalkRefused, ZonesChecked, ZonesVerified
from tests.cli.forked import Forked
from tests.cli.two_accounts import SERVICE, give_away, needs_root, owners, two_accounts
from tests.walked_gateway import PATIENCE_S, PLAN, PROGRAM, ZONES, WalkedGateway, keep_walks, write_config


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of a shop in which every zone has been walked."""
    folder = tmp_path_factory.mktemp("walked") / "state"
    folder.mkdir()
    keep_walks(folder)
    return folder


async def test_a_walk_is_told_line_by_line_where_nobody_looks(tmp_path: Path) -> None:
    async with WalkedGateway(tmp_path)() as gateway:
        await gateway.go("dairy")
        code, said, complained = await gateway.type("zone", "walk", "dairy")
        assert (code, complained) == (0, "")
        lines = said.splitlines()
        assert lines[0].startswith("Walk through dairy for 30 s, slowly")
        assert any(re.fullmatch(r"dairy: \d+ s left, [\d.]+ heard/s, receiver-dairy -\d+ .*", line) for line in lines)
        assert re.fullmatch(r"dairy is learnt: \d+ sightings in \d+ s by receiver-bakery, .*", lines[-3])
        assert lines[-2].startswith("zone model 1 is kept; it comes into force when these are walked too: ")
        assert lines[-1].startswith("next: gateway zone walk ")
        code, said, complained = await gateway.type("zone", "walk", "dairy", "--json")
        assert (code, complained) == (0, "")
        done = WalkDone.model_validate_json(said)
        assert (done.zone, done.model, done.in_force) == ("dairy", 2, False)


async def test_a_refused_walk_is_one_sentence_and_75(tmp_path: Path) -> None:
    async with WalkedGateway(tmp_path)() as gateway:
        await gateway.go("dairy")
        code, said, complained = await gateway.type("zone", "walk", "dairy", "--for", 6)
        assert code == 75
        assert "learnt" not in said
        assert re.fullmatch(
            r"gateway: dairy: not learnt: the test device was heard for \d s only\. .* Nothing was changed\.\n", complained
        )
        code, said, complained = await gateway.type("zone", "walk", "dairy", "--for", 6, "--json")
        assert code == 75
        assert WalkRefused.model_validate_json(said).reason == "too-short"


async def test_of_a_zone_that_is_not_there_nobody_is_told_to_walk(tmp_path: Path) -> None:
    async with WalkedGateway(tmp_path)() as gateway:
        await gateway.go("dairy")
        _, said, complained = await gateway.type("zone", "walk", "dary")
        assert said == ""
        assert "did you mean dairy" in complained


async def test_marks_need_somebody_who_presses_enter(tmp_path: Path) -> None:
    async with WalkedGateway(tmp_path)() as gateway:
        await gateway.go("dairy")
        code, _, complained = await gateway.type("zone", "walk", "dairy", "--path", "9,9 15,9")
        assert code == 2
        assert "add --evenly" in complained
        code, said, complained = await gateway.type("zone", "walk", "dairy", "--path", "9,9", "--path", "15,9", "--evenly")
        assert (code, complained) == (0, "")
        assert "Walk through dairy at one speed, 30 s for all of: 9,9 → 15,9." in said


async def test_on_a_terminal_there_is_a_bar(tmp_path: Path) -> None:
    """What a technician on a ladder sees: it stays in its place, and is gone in the end."""
    async with WalkedGateway(tmp_path)() as gateway:
        await gateway.go("dairy")
        seen = await _on_a_terminal("zone", "walk", "dairy", "--config", str(gateway.config), columns=50)
    bars = re.findall(r"dairy  \[#*\.*\] +\d+ s left  [\d.]+/s", seen)
    assert len(bars) > 5
    assert bars[0].count("#") < bars[-1].count("#")
    assert re.search(r"receiver-dairy -\d\d", seen)
    # Each picture takes the one before away.
    assert len(re.findall(r"\x1b\[[23]A\r\x1b\[J", seen)) >= len(bars) - 1
    assert all(len(line) < 50 for line in re.split(r"\r?\n|\x1b\[J", seen) if "s left" in line)
    assert "dairy is learnt" in seen.rsplit("\x1b[J", 1)[1]


async def test_the_picture_of_a_test_shopper_stays_in_its_place_on_a_narrow_terminal(tmp_path: Path) -> None:
    async with WalkedGateway(tmp_path)() as gateway:
        key, more = tmp_path / "ben.key", ("--config", str(gateway.config))
        await gateway.go("dairy")
        code, _, complained = await gateway.type("test-shopper", "add", "ben", "--key-file", key)
        assert (code, complained) == (0, "")
        assert len(bytes.fromhex(key.read_text())) == 32
        assert key.stat().st_mode & 0o777 == 0o600
        seen = await _on_a_terminal("test-shopper", "watch", "--seconds", "3", *more, columns=12)
    first, *others = re.split(r"\x1b\[(\d+)A\r\x1b\[J", seen)
    assert len(others) == 4, "two pictures that replace one"
    drawn = [first, *others[1::2]]
    assert all("tina: " in picture and "ben: not he\r\n" in picture for picture in drawn), drawn
    # Each goes up by as many lines as the one before has on the screen.
    assert [*map(int, others[::2])] == [picture.count("\n") for picture in drawn[:-1]]
    assert max(len(line) for picture in drawn for line in picture.splitlines()) == 11


async def _on_a_terminal(*words: str, columns: int) -> str:
    """What somebody sees there; the command has to succeed."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        PROGRAM,
        *words,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "COLUMNS": str(columns), "TERM": "xterm"},
    )
    os.close(theirs)
    seen = await asyncio.wait_for(asyncio.to_thread(_read_all, ours), PATIENCE_S)
    assert await process.wait() == 0, seen
    return seen


def _read_all(descriptor: int) -> str:
    parts = b""
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:
            part = b""
        if not part:
            os.close(descriptor)
            return parts.decode()
        parts += part


@pytest.fixture
def typed(gateway: Forked, walked: Path, tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """`gateway zone …` where no gateway runs, for a copy of the walked shop: exit code and both streams."""
    state = tmp_path / "state"
    shutil.copytree(walked, state)
    # The shop in the file is what the running gateway had.
    (state / "shop.json").write_text(ShopFile.of(PLAN.shop(bytes(range(16)))).to_text())
    config = write_config(state)

    def typed(*words: object) -> tuple[int, str, str]:
        done = gateway.run("zone", *words, "--config", config)
        return done.returncode, done.stdout, done.stderr

    return typed


def test_without_a_gateway_the_walks_are_checked_all_the_same(typed: Callable[..., tuple[int, str, str]]) -> None:
    code, said, complained = typed("walk", "dairy")
    assert (code, said) == (75, ""), "nobody is told to walk"
    assert "only a running one hears a walk" in complained
    code, said, complained = typed("check")
    assert (code, complained) == (0, "")
    table = said.splitlines()
    assert table[0] == "Seconds of each walk by the zone that would have been announced:"
    assert table[2].split()[:2] == ["walked", "right"]
    assert {line.split()[0] for line in table[3 : 3 + len(ZONES)]} == set(ZONES)
    assert any(re.fullmatch(r"right in \d+% of all seconds; weak: .*", line) for line in table)
    assert ZonesChecked.model_validate_json(typed("check", "--json")[1]).accuracy is not None


def test_without_a_gateway_models_are_chosen_for_its_start(typed: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, said, _ = typed("verify")
    assert code == 0
    assert said.splitlines()[-1].endswith("as good as accepted")
    code, said, _ = typed("model", "list")
    assert said.splitlines()[1].split()[:2] == ["5", "yes"]
    code, said, _ = typed("model", "use", 2)
    assert said == "the gateway locates with zone model 2 when it starts; it is not running\n"
    code, said, _ = typed("verify")
    assert code == 75
    assert "WORSE than accepted" in said
    assert ZonesVerified.model_validate_json(typed("verify", "--json")[1]).worse
    assert typed("model", "rollback")[1] == "the gateway locates with zone model 1 when it starts; it is not running\n"
    code, _, complained = typed("model", "rollback")
    assert code == 2
    assert "no model before the one in force" in complained
    typed("model", "use", 5)

    out = tmp_path / "model.json"
    assert typed("model", "export", out)[1] == f"zone model 5: {out}\n"
    assert typed("model", "import", out)[1] == "kept as zone model 6; put it in force: gateway zone model use 6\n"
    models = Models.model_validate_json(typed("model", "list", "--json")[1])
    assert [(one.version, one.in_force, one.origin) for one in models.models[:2]] == [(6, False, "import"), (5, True, "walks")]
    out.write_text("{}")
    code, _, complained = typed("model", "import", out)
    assert code == 78
    assert complained.startswith(f"gateway: {out}: ")


@needs_root
def test_root_has_models_where_the_service_may_not_write(gateway: Forked, walked: Path) -> None:
    with two_accounts() as (folder, private):
        state, kept = folder / "state", private / "kept.json"
        shutil.copytree(walked, state)
        (state / "shop.json").write_text(ShopFile.of(PLAN.shop(bytes(range(16)))).to_text())
        config = write_config(state).rename(folder / "gateway.toml")
        give_away(state)
        for words in (("export", kept), ("import", kept), ("use", 2), ("list",)):
            done = gateway.run("zone", "model", *words, "--config", config)
            assert (done.returncode, done.stderr) == (0, "")
        assert kept.stat().st_uid == 0
        assert owners(state) == {SERVICE}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("walk", "dairy", "--path", "1,2"), 2, "at least two marks"),
        (("walk", "dairy", "--path", "1;2"), 2, "no X,Y in metres"),
        (("walk", "dairy", "--path", "1,2 nan,3"), 2, "no place in a shop"),
        (("walk", "dairy", "--evenly"), 2, "needs --path"),
        (("walk", "dairy", "--shopper", "tina", "--beacon", "b"), 2, "walk with one of them"),
        (("walk", "Dairy!"), 2, "zone"),
        (("check",), 78, "no zone has been walked yet"),
        (("verify",), 78, "no zone has been walked yet"),
        (("check", "--json"), 78, "no zone has been walked yet"),
        (("verify", "--json"), 78, "no zone has been walked yet"),
        (("model", "use", "latest"), 2, "is no version"),
        (("model", "use", "3"), 2, "there is no zone model 3"),
        (("model", "rollback"), 2, "no model before"),
        (("model", "export", "model.json"), 2, "no zone model is in force"),
        (("model", "export", "model.json", "--version", "99"), 2, "there is no zone model 99"),
        (("model", "import", "nothing.json"), 78, "cannot be read"),
    ],
)
def test_what_cannot_be_done_is_said(gateway: Forked, tmp_path: Path, words: tuple[str, ...], code: int, said: str) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(f'store = "demo"\nstore_number = 4711\ngateway = "pi-1"\nstate_dir = "{tmp_path}"\n')
    done = gateway.run("zone", *words, "--config", config)
    assert done.returncode == code, done
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_without_models_that_is_said(gateway: Forked, tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(f'store = "demo"\nstore_number = 4711\ngateway = "pi-1"\nstate_dir = "{tmp_path}"\n')
    assert (
        gateway.run("zone", "model", "list", "--config", config).stdout
        == "no zone model yet; walk the zones: gateway zone walk ZONE\n"
    )
    assert json.loads(gateway.run("zone", "model", "list", "--json", "--config", config).stdout)["models"] == []
