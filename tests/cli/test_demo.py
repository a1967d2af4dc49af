"""`gateway demo` as a process: every offer arrives once, Ctrl-C ends it at any moment, and nothing is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.io.embedded_broker import find_mosquitto
from tests.cli.told import keys_told

PROGRAM = Path(sys.executable).with_name("gateway")
SHORT = ("--duration", "20", "--speed", "100", "--json")
Json = dict[str, Any]

brokers = pytest.mark.parametrize(
    "broker",
    [
        pytest.param((), marks=pytest.mark.skipif(find_mosquitto() is None, reason="Mosquitto is not installed"), id="mosquitto"),
        pytest.param(("--amqtt",), id="amqtt"),
    ],
)


class Place:
    """A temporary folder of its own, which names everything that was started in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tmp"
        self.folder.mkdir()
        self.environment = {**os.environ, "TMPDIR": str(self.folder)}

    def command(self, *options: str) -> list[str]:
        return [str(PROGRAM), "demo", *options]

    def start(self, *options: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.command(*options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment
        )

    def run(self, *options: str) -> tuple[list[Json], Json]:
        """(lines, summary) of a run that ends by itself and says nothing but these."""
        done = subprocess.run(
            self.command(*options), capture_output=True, text=True, env=self.environment, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        self.assert_nothing_is_left()
        return lines[:-1], lines[-1]

    def assert_nothing_is_left(self) -> None:
        assert list(self.folder.iterdir()) == []
        assert self.processes() == []

    def processes(self) -> list[str]:
        """Command lines of everything that inherited this place's environment and lives."""
        mark = f"TMPDIR={self.folder}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    there = Place(tmp_path)
    yield there
    assert there.processes() == []


# ---- what it shows ------------------------------------------------------------------------------------------------------------


@brokers
def test_every_offer_that_was_matched_is_in_the_inbox_once(place: Place, broker: tuple[str, ...]) -> None:
    lines, summary = place.run(*SHORT, *broker)
    assert keys_told("demo", "at the end") == [*summary]
    assert set(keys_told("demo", "of an event")) >= {key for line in lines for key in line}
    assert summary["offers_matched"] == summary["offers_in_inbox"] > 0
    assert (summary["duplicates"], summary["lost"], summary["not_granted"], summary["interrupted"]) == (0, 0, {}, False)
    assert summary["latency_ms_p95"] > 0
    assert summary["broker"] == ("amqtt" if broker else "Mosquitto")
    said = [line["what"] for line in lines]
    assert said.count("offered") == said.count("received") == summary["offers_matched"]
    assert said.count("entered") == summary["zones_entered"]
    offered = [(line["shopper"], line["promotion"]) for line in lines if line["what"] == "offered"]
    received = [(line["shopper"], line["promotion"]) for line in lines if line["what"] == "received"]
    assert sorted(offered) == sorted(received)
    assert len(set(offered)) == len(offered)


def decided(lines: list[Json]) -> list[Json]:
    """What the gateway decided, when and why; offers arrive when they arrive."""
    return [line for line in lines if line["what"] != "received"]


@pytest.mark.slow
def test_the_same_seed_matches_the_same_offers_and_another_others(place: Place) -> None:
    """However quick the machine is: no simulated time passes while the gateway decides."""
    quick, _ = place.run(*SHORT, "--seed", "7")
    slower, _ = place.run("--duration", "20", "--speed", "25", "--json", "--seed", "7")
    other, _ = place.run(*SHORT, "--seed", "8")
    assert decided(quick) == decided(slower) != decided(other)


@pytest.mark.slow
def test_shoppers_without_consent_are_offered_nothing(place: Place) -> None:
    lines, _ = place.run("--duration", "60", "--speed", "200", "--shoppers", "4", "--json")
    # The second shopper wants statistics but no offers; the fourth never consented, so nobody ever knows of them.
    assert {line["shopper"] for line in lines if line["what"] == "offered"} <= {"Anna", "Chiara"}
    assert "Dora" not in {line["shopper"] for line in lines}


def test_a_shop_without_shoppers_is_quiet(place: Place) -> None:
    lines, summary = place.run(*SHORT, "--shoppers", "0")
    assert lines == []
    assert (summary["offers_matched"], summary["offers_in_inbox"], summary["latency_ms_p95"]) == (0, 0, None)
    assert summary["strangers_dropped"] > 1000


def test_a_person_can_read_the_timeline(place: Place) -> None:
    done = subprocess.run(
        place.command("--duration", "20", "--speed", "100"),
        capture_output=True,
        text=True,
        env=place.environment,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("A shop with ")
    for words in ("entered ", "→ offer", "✓ in the app after ", " offers matched, ", "0 duplicates, 0 lost"):
        assert words in done.stdout
    assert all(character.isprintable() or character == "\n" for character in done.stdout)


# ---- what stays ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_is_kept_is_kept_where_it_was_asked(place: Place, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    place.run(*SHORT, "--keep", str(kept))
    names = {str(path.relative_to(kept)) for path in kept.rglob("*")}
    assert {"gateway/gateway.db", "central/central.db", "central/signing.key", "apps.db"} <= names
    assert not [name for name in names if name.endswith("-wal") and (kept / name).stat().st_size]


def test_a_folder_that_is_in_use_is_refused(place: Place, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "something").touch()
    for folder, words in ((tmp_path / "kept", "is not empty"), (tmp_path / "kept" / "something", "cannot be used")):
        done = subprocess.run(
            place.command(*SHORT, "--keep", str(folder)),
            capture_output=True,
            text=True,
            env=place.environment,
            timeout=30,
            check=False,
        )
        assert (done.returncode, done.stdout) == (78, "")
        assert done.stderr.startswith(f"gateway: {folder}: {words}")
    place.assert_nothing_is_left()


# ---- how it ends --------------------------------------------------------------------------------------------------------------


def importing(place: Place, process: "subprocess.Popen[str]") -> bool:
    return "pydantic_core" in Path(f"/proc/{process.pid}/maps").read_text()


def exists(pattern: str) -> Callable[[Place, "subprocess.Popen[str]"], bool]:
    return lambda place, _: bool(list(place.folder.glob(pattern)))


def speaks(lines: int) -> Callable[[Place, "subprocess.Popen[str]"], bool]:
    def has_spoken(place: Place, process: "subprocess.Popen[str]") -> bool:
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        return True

    return has_spoken


MOMENTS: dict[str, Callable[[Place, "subprocess.Popen[str]"], bool]] = {
    "importing": importing,
    "folder": exists("*"),
    "broker": exists("*/mosquitto.conf"),
    "central": exists("*/central/central.db"),
    "key": exists("*/central/signing.key"),
    "gateway": exists("*/gateway/gateway.db"),
    "apps": exists("*/apps.db"),
    "first line": speaks(1),
    "fifth line": speaks(5),
}


INT, TERM = signal.SIGINT, signal.SIGTERM


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        *(pytest.param(moment, INT, id=moment) for moment in ("importing", "gateway", "first line")),
        *(pytest.param(moment, INT, id=moment, marks=pytest.mark.slow) for moment in ("folder", "broker", "central", "key")),
        *(pytest.param(moment, INT, id=moment, marks=pytest.mark.slow) for moment in ("apps", "fifth line")),
        # Before the event loop runs it ends a process as it always does.
        *(pytest.param(moment, TERM, id=f"{moment}, SIGTERM", marks=pytest.mark.slow) for moment in ("gateway", "first line")),
    ],
)
def test_it_can_be_stopped_at_any_moment(place: Place, moment: str, number: signal.Signals) -> None:
    if moment == "broker" and find_mosquitto() is None:
        pytest.skip("Mosquitto is not installed")
    with place.start("--duration", "300", "--speed", "20", "--json") as process:
        deadline = time.monotonic() + 60
        while not MOMENTS[moment](place, process):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert err == ""
    assert process.returncode == 130
    place.assert_nothing_is_left()
    if moment.endswith("line"):
        assert json.loads(out.splitlines()[-1])["interrupted"] is True


@brokers
@pytest.mark.slow
def test_ctrl_c_twice_ends_it_too(place: Place, broker: tuple[str, ...]) -> None:
    with place.start("--duration", "300", "--speed", "20", "--json", *broker) as process:
        speaks(1)(place, process)
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    # The second may hit the interpreter as it ends, which a shell reports as 130 too.
    assert process.returncode in {130, -signal.SIGINT}
    assert err == ""
    place.assert_nothing_is_left()


@brokers
def test_killed_outright_it_leaves_no_process_behind(place: Place, broker: tuple[str, ...]) -> None:
    with place.start("--duration", "300", "--speed", "1", "--json", *broker) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["what"]
        assert any("mosquitto" in command for command in place.processes()) == (not broker)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    deadline_s = time.monotonic() + 60
    while place.processes() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert place.processes() == []


def test_the_next_one_removes_the_folders_of_those_that_were_killed_and_no_others(place: Place, tmp_path: Path) -> None:
    def started() -> tuple["subprocess.Popen[str]", Path]:
        before = set(place.folder.iterdir())
        process = place.start("--duration", "300", "--speed", "1", "--json")
        speaks(1)(place, process)
        (folder,) = set(place.folder.iterdir()) - before
        return process, folder

    def stopped(process: "subprocess.Popen[str]", number: signal.Signals) -> None:
        process.send_signal(number)
        process.communicate(timeout=60)

    running, used = started()
    killed, abandoned = started()
    stopped(killed, signal.SIGKILL)
    somewhere = tmp_path / "somewhere"
    somewhere.mkdir()
    others = [place.folder / f"beacon-gateway-demo-{name}" for name in ("file", "link", "new")] + [place.folder / "other"]
    others[0].touch()
    others[1].symlink_to(somewhere)
    for folder in others[2:]:
        folder.mkdir()
    for path in (used, abandoned, others[0], somewhere, others[3]):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    following, _ = started()
    stopped(following, signal.SIGINT)
    assert set(place.folder.iterdir()) == {used, *others}
    assert somewhere.exists()
    stopped(running, signal.SIGINT)
    assert set(place.folder.iterdir()) == set(others)


def test_a_reader_that_goes_ends_it_quietly(place: Place) -> None:
    with place.start("--duration", "300", "--speed", "20", "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["what"]
        process.stdout.close()
        assert process.wait(30) in {0, 141}
        assert process.stderr.read() == ""
    place.assert_nothing_is_left()
