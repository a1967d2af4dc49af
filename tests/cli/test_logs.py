"""What reaches the journal is one harmless line each."""

import logging
from collections.abc import Iterator

import pytest

from gateway.cli.logs import log_to_stderr


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("gateway")
    handlers, level, our_level = list(root.handlers), root.level, ours.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    ours.setLevel(our_level)


def test_a_library_that_names_a_device_is_printed_without_its_address(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr("info")
    logging.getLogger("bleak.backends.bluezdbus").warning("lost /org/bluez/hci0/dev_AA_BB_CC_DD_EE_01 (aa:bb:cc:dd:ee:01)")
    line = capsys.readouterr().err
    assert "aa:bb" not in line.lower()
    assert "aa_bb" not in line.lower()
    assert line.count("(address)") == 2


def test_what_comes_from_outside_cannot_break_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr("info")
    logging.getLogger("gateway.io").info("zone %s", "a\nb\x1b[31m")
    assert capsys.readouterr().err.endswith("info zone a\\x0ab\\x1b[31m\n")


def test_the_journal_gets_a_priority_instead_of_a_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1234")
    log_to_stderr("info")
    logging.getLogger("gateway.io").warning("deaf")
    assert capsys.readouterr().err == "<4>deaf\n"


def test_details_stay_out_unless_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr("warning")
    logging.getLogger("gateway.io").info("connected")
    logging.getLogger("bleak").info("found something")
    assert capsys.readouterr().err == ""
