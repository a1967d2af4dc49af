"""Every command of the documentation does what its page says."""

from pathlib import Path

import pytest

from tests.docs.pages import blocks, normalised, pages
from tests.docs.run_pages import untrue
from tests.e2e.world import ROOT

PAGES = pages(ROOT)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
async def test_the_commands_of_a_page_print_what_it_tells(page: Path, tmp_path: Path) -> None:
    complaints = await untrue(page, tmp_path)
    assert not complaints, "\n".join([*complaints, "If it is right as it is now: scripts/docs --write"])


# ---- that the test would notice ----------------------------------------------------------------------------------------------


WRONG = [
    ("```console\n$ gateway shop check docs/examples/shop.json\n2 zones, 2 receivers, 1 beacons: perfect\n```", "+2 zones"),
    ("```console\n$ gateway shop check docs/examples/shop.json\n2 zones, 2 receivers, 7 beacons: in order\n```", "+2 zones"),
    ("```console\n$ gateway shop check docs/examples/shop.json\n```", "+2 zones"),
    ("```sh\ngateway shop check nothing.json\n```", "exit code 78"),
    ("```sh\ngateway fly\n```", "exit code 2"),
    ("```sh test=tests/nowhere.py::test_it\nrm -r /\n```", "there is no test tests/nowhere.py"),
    ("```sh test=tests/docs/test_pages.py::test_it\nrm -r /\n```", "has no test test_it"),
    ("```sh test=tests/test_layers.py::test_every_contract_has_a_sabotage\nrm -r /\n```", "does not run: rm -r /"),
]


@pytest.mark.slow
async def test_what_is_not_true_is_noticed(tmp_path: Path) -> None:
    page = ROOT / "docs" / "never-written.md"
    complaints = await untrue(page, tmp_path, text="\n".join(block for block, _ in WRONG))
    assert len(complaints) == len(WRONG)
    for block, complaint in WRONG:
        assert any(complaint in each for each in complaints), block
    assert all(each.startswith("docs/never-written.md:") for each in complaints)


async def test_a_stage_direction_that_nobody_understands_is_a_mistake(tmp_path: Path) -> None:
    text = "<!-- stage: anna flies -->\n```sh\ntrue\n```\n"
    with pytest.raises(ValueError, match="anna flies"):
        await untrue(ROOT / "docs" / "never-written.md", tmp_path, text=text)


@pytest.mark.parametrize("wrong", ["```console\n2 zones\n```", "```sh\ntrue", "```bash\ntrue\n```", "```shell\ntrue\n```"])
def test_a_block_that_would_be_passed_over_is_a_mistake(wrong: str) -> None:
    with pytest.raises(ValueError, match="line"):
        [command for block in blocks(wrong) for command in block.commands]


@pytest.mark.parametrize(
    ("told", "printed"),
    [
        ("2 zones", "3 zones"),
        ("online", "offline"),
        ("in force now", "kept"),
        ("exit code 69", "exit code 75"),
        ("shelf-7  dairy  1  107", "shelf-7  dairy  1  108"),
        ("heard by 1 receiver", "heard by 2 receivers"),
        ("0 refused", "1 refused"),
    ],
)
def test_words_and_counts_are_compared(told: str, printed: str) -> None:
    assert normalised(told) != normalised(printed)


@pytest.mark.parametrize(
    ("told", "printed"),
    [
        ("running for 4 s", "running for 1 min 2 s"),
        ("granted after 72 ms", "granted after 1.2 s"),
        ("valid until Sun 2026-11-29 02:37 CET", "valid until Mon 2027-06-28 23:37 CEST"),
        ("2026-11-22 02:37:59,001 info connected", "2027-01-02 11:00:00,123 info connected"),
        ("152c8c17-d2  Sun 2026-11-22 02:37:59  entered dairy", "99999999-d17  Mon 2026-11-23 09:00:00  entered dairy"),
        ("back -52 dBm, door -84 dBm", "back -61 dBm, door -7 dBm"),
        ("76797 MiB free", "3 MiB free"),
        ("offer a415a73e9dbb28d0", "offer 0000000000000001"),
    ],
)
def test_times_ids_and_measured_values_may_differ(told: str, printed: str) -> None:
    assert normalised(told) == normalised(printed)
    assert normalised(told, {"exact"}) != normalised(printed, {"exact"})
