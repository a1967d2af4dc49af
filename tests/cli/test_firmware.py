"""`gateway firmware render`: each beacon's profile transmits our own frame, and no text of a shop file gets into its code."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from gateway.cli.app import app
from gateway.contract.firmware import (
    INTERVAL_MS,
    MEASURED_POWER_DBM,
    SUFFIX,
    TX_POWERS_DBM,
    Kind,
    Transmission,
    is_untouched,
    render,
)
from gateway.contract.shop import BeaconEntry
from gateway.core import ad_structures
from gateway.core.ad_structures import FLAGS, AdStructure
from gateway.core.frames import ibeacon
from gateway.core.model import IBeacon

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE_SHOP = ROOT / "docs" / "examples" / "shop.json"
UUID = "8B1F4A0E-5d9c-4c7b-a1e3-0d5f6a7b8c9d"
BEACON = BeaconEntry(kind="beacon", zone="dairy", uuid=UUID, major=258, minor=772)
KINDS: list[Kind] = ["esphome", "espruino"]

NASTY = [
    "\nesp32_ble_beacon: {minor: 1}",
    "\r\napi:",
    "\u2028NRF.sleep();//",
    "\u2029*/NRF.sleep()",
    "\x85- !secret x",
    "${major} $minor $$",
    "# } ]); */ //",
    "\x1b[2J\x00",
    "\ufeff\ud800",
    "'\"`\\",
    "!lambda return 1;",
]
texts = st.text(max_size=80) | st.sampled_from(NASTY)
beacons = st.builds(
    BeaconEntry,
    kind=st.just("beacon"),
    zone=st.just("dairy"),
    uuid=st.uuids().map(str),
    major=st.integers(0, 0xFFFF),
    minor=st.integers(1, 0xFFFE),
)


def transmissions(kind: Kind) -> st.SearchStrategy[Transmission]:
    return st.builds(
        Transmission, st.integers(*MEASURED_POWER_DBM), st.sampled_from(TX_POWERS_DBM[kind]), st.integers(*INTERVAL_MS)
    )


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["firmware", "render", *map(str, arguments)], terminal_width=200)
    return done.exit_code, done.output


def expected_octets(beacon: BeaconEntry, measured_power_dbm: int) -> bytes:
    uuid, major, minor = beacon.uuid, beacon.major, beacon.minor
    assert uuid is not None
    assert major is not None
    assert minor is not None
    frame = IBeacon(bytes.fromhex(uuid.replace("-", "")), major, minor, measured_power_dbm)
    return ad_structures.encode([AdStructure(FLAGS, b"\x06"), ibeacon.encode(frame)])


def code_of(text: str, comment: str) -> list[str]:
    """The lines that are no comment, with everything that JavaScript or YAML takes for the end of a line."""
    lines = re.split(r"\r\n|[\n\r\x85\u2028\u2029]", text)
    return [line for line in lines if line and not line.startswith(comment)]


# ---- what a profile says ------------------------------------------------------------------------------------------------------


@given(texts, texts, beacons, transmissions("espruino"))
def test_espruino_transmits_the_frame_that_our_own_encoder_makes(
    name: str, title: str, beacon: BeaconEntry, transmission: Transmission
) -> None:
    text = render("espruino", name, title, beacon, transmission)
    code = "\n".join(code_of(text, "//"))
    found = re.fullmatch(
        r"function onInit\(\) \{\n  NRF\.setTxPower\((-?\d+)\);\n  NRF\.setAdvertising\(\[\n((?:[0-9a-fx, ]+\n)+)"
        r"  \], \{ interval: (\d+), connectable: false, scannable: false \}\);\n\}",
        code,
    )
    assert found, text
    assert (int(found[1]), int(found[3])) == (transmission.tx_power_dbm, transmission.interval_ms)
    octets = bytes(int(word, 16) for word in found[2].split(","))
    assert octets == expected_octets(beacon, transmission.measured_power_dbm)
    assert len(octets) <= 31


@given(texts, texts, beacons, transmissions("esphome"))
def test_esphome_is_told_the_beacon_and_nothing_else(
    name: str, title: str, beacon: BeaconEntry, transmission: Transmission
) -> None:
    text = render("esphome", name, title, beacon, transmission, "esp32c3")
    assert yaml.safe_load(text) == {
        "esphome": {"name": f"beacon-{beacon.major}-{beacon.minor}"},
        "esp32": {"variant": "esp32c3", "framework": {"type": "esp-idf"}},
        "logger": {"level": "WARN"},
        "esp32_ble_beacon": {
            "type": "iBeacon",
            "uuid": str(beacon.uuid).lower(),
            "major": beacon.major,
            "minor": beacon.minor,
            "measured_power": transmission.measured_power_dbm,
            "tx_power": f"{transmission.tx_power_dbm}dBm",
            "min_interval": f"{transmission.interval_ms}ms",
            "max_interval": f"{transmission.interval_ms}ms",
        },
    }
    assert "$" not in "".join(code_of(text, "#"))


@pytest.mark.parametrize("kind", KINDS)
@given(texts, texts)
def test_names_and_titles_change_comments_only(kind: Kind, name: str, title: str) -> None:
    comment = {"esphome": "#", "espruino": "//"}[kind]
    plain = render(kind, "shelf", "", BEACON, Transmission())
    assert code_of(render(kind, name, title, BEACON, Transmission()), comment) == code_of(plain, comment)


@pytest.mark.parametrize("kind", KINDS)
def test_a_profile_is_ours_until_somebody_changes_it(kind: Kind) -> None:
    text = render(kind, "shelf-7", "Dairy", BEACON, Transmission())
    assert is_untouched(text)
    assert not is_untouched(text.replace("100", "101"))
    assert not is_untouched(text + "\n")
    assert not is_untouched(text.partition("\n")[2])
    assert not is_untouched("")


@pytest.mark.parametrize(
    ("transmission", "words"),
    [
        (Transmission(interval_ms=99), "the interval is 100 to 10000 ms"),
        (Transmission(measured_power_dbm=4), "measured power is -100 to -20 dBm"),
        (Transmission(tx_power_dbm=4), "esphome transmits with -12"),
    ],
    ids=["interval", "measured power", "transmit power"],
)
def test_what_the_firmware_cannot_do_is_refused(transmission: Transmission, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        render("esphome", "shelf-7", "Dairy", BEACON, transmission)


# ---- the command --------------------------------------------------------------------------------------------------------------


def test_the_examples_are_what_the_command_makes(tmp_path: Path) -> None:
    status, said = run("--shop", EXAMPLE_SHOP, "--out", tmp_path)
    assert status == 0, said
    made = {file.relative_to(tmp_path): file.read_text() for file in tmp_path.rglob("*") if file.is_file()}
    assert made == {path: (ROOT / "firmware_configs" / path).read_text() for path in made}
    assert {path.as_posix() for path in made} == {"esphome/shelf-7.yaml", "espruino/shelf-7.js"}


def test_the_frame_in_the_comment_is_what_gateway_decode_explains(tmp_path: Path) -> None:
    run("--shop", EXAMPLE_SHOP, "--out", tmp_path, "--kind", "espruino")
    found = re.search(r"On the air: ([0-9a-f ]+)\n", (tmp_path / "espruino" / "shelf-7.js").read_text())
    assert found
    done = CliRunner().invoke(app, ["decode", found[1], "--shop", str(EXAMPLE_SHOP)], terminal_width=200)
    assert "shelf-7" in done.output


def test_writes_once_and_tells_what_became_of_each_file(tmp_path: Path) -> None:
    arguments = ["--shop", EXAMPLE_SHOP, "--out", tmp_path, "--kind", "esphome", "--beacon", "shelf-7", "--json"]
    file = tmp_path / "esphome" / "shelf-7.yaml"
    results = []
    for more in [[], [], ["--interval-ms", 500]]:
        status, said = run(*arguments, *more)
        assert status == 0, said
        answer: dict[str, Any] = json.loads(said)
        results.append(answer["files"])
    expected = {"beacon": "shelf-7", "kind": "esphome", "file": str(file)}
    assert results == [[{**expected, "result": result}] for result in ("new", "unchanged", "replaced")]
    assert "min_interval: 500ms" in file.read_text()
    assert [path.name for path in tmp_path.rglob("*")] == ["esphome", "shelf-7.yaml"]


@pytest.mark.parametrize("change", ["by hand", "somebody else's", "no UTF-8"])
def test_what_somebody_wrote_is_not_overwritten_without_force(tmp_path: Path, change: str) -> None:
    run("--shop", EXAMPLE_SHOP, "--out", tmp_path, "--kind", "espruino")
    mine, other = tmp_path / "espruino" / "shelf-7.js", tmp_path / "esphome" / "shelf-7.yaml"
    made = mine.read_bytes()
    mine.write_bytes({"by hand": made + b"// mine\n", "somebody else's": b"wifi:\n", "no UTF-8": b"\xff" + made}[change])
    before = mine.read_bytes()
    done = CliRunner().invoke(app, ["firmware", "render", "--shop", str(EXAMPLE_SHOP), "--out", str(tmp_path)])
    assert "has been changed since; nothing has been written" in str(done.exception)
    assert mine.read_bytes() == before
    assert not other.exists()
    assert run("--shop", EXAMPLE_SHOP, "--out", tmp_path, "--force")[0] == 0
    assert mine.read_bytes() == made
    assert other.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--beacon", "shelf-8"], "shelf-8 is no beacon of this shop; its iBeacons are: shelf-7"),
        (["--beacon", "door"], "door is no beacon of this shop"),
        (["--tx-power-dbm", "4"], "esphome transmits with -12"),
        (["--kind", "espruino", "--tx-power-dbm", "9"], "espruino transmits with -40"),
        (["--interval-ms", "20"], "interval-ms"),
        (["--measured-power-dbm", "59"], "measured-power-dbm"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_wrong_call_is_explained_and_writes_nothing(tmp_path: Path, arguments: list[str], words: str) -> None:
    status, said = run("--shop", EXAMPLE_SHOP, "--out", tmp_path / "out", *arguments)
    assert status == 2
    assert words in " ".join(said.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_a_shop_without_beacons_and_a_file_in_the_way_are_one_sentence(tmp_path: Path) -> None:
    shop = tmp_path / "shop.json"
    shop.write_text('{"zones": {}, "anchors": {}}')
    done = CliRunner().invoke(app, ["firmware", "render", "--shop", str(shop), "--out", str(tmp_path)])
    assert "no anchor of this shop is an iBeacon" in str(done.exception)
    milk = {"kind": "beacon", "zone": "dairy", "namespace": "00" * 10, "instance": "00" * 6}
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"zones": {"dairy": {}}, "anchors": {"milk": milk, "shelf": BEACON.model_dump()}}))
    done = CliRunner().invoke(app, ["firmware", "render", "--shop", str(other), "--out", str(tmp_path), "--beacon", "milk"])
    assert "milk is an Eddystone-UID" in str(done.exception)
    done = CliRunner().invoke(app, ["firmware", "render", "--shop", str(other), "--out", str(tmp_path), "--json"])
    assert {file["beacon"] for file in json.loads(done.output)["files"]} == {"shelf"}
    done = CliRunner().invoke(app, ["firmware", "render", "--shop", str(EXAMPLE_SHOP), "--out", str(shop)])
    assert "Name another folder with --out" in str(done.exception)


# ---- the programs that read them ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_program_runs_and_sets_up_the_radio(tmp_path: Path) -> None:
    """In Node, whose NRF is ours: what Espruino would be told is noted and printed."""
    file = tmp_path / "beacon.js"
    file.write_text(render("espruino", "shelf-7", "Dairy", BEACON, Transmission(-62, -8, 250)))
    harness = (
        "const told = []; globalThis.NRF = new Proxy({}, {get: (_, name) => (...given) => told.push([name, ...given])});"
        "require('vm').runInThisContext(require('fs').readFileSync(process.argv[1], 'utf8') + '\\nonInit();');"
        "console.log(JSON.stringify(told));"
    )
    done = subprocess.run(["node", "-e", harness, str(file)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [
        ["setTxPower", -8],
        ["setAdvertising", list(expected_octets(BEACON, -62)), {"interval": 250, "connectable": False, "scannable": False}],
    ]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_esphome_and_node_accept_every_variant_and_step(tmp_path: Path) -> None:
    """What scripts/check-firmware says of the two ends of each range, each chip and each step of the transmit power."""
    for kind in KINDS:
        folder = tmp_path / kind
        folder.mkdir()
        for step in TX_POWERS_DBM[kind]:
            text = render(kind, NASTY[0], NASTY[5], BEACON, Transmission(MEASURED_POWER_DBM[0], step, INTERVAL_MS[0]))
            (folder / f"step{step}.{SUFFIX[kind]}").write_text(text)
    for variant in ("esp32", "esp32c3", "esp32c6", "esp32s3"):
        text = render("esphome", "shelf", "", BEACON, Transmission(MEASURED_POWER_DBM[1], 0, INTERVAL_MS[1]), variant)
        (tmp_path / "esphome" / f"{variant}.yaml").write_text(text)
    done = subprocess.run([ROOT / "scripts" / "check-firmware", tmp_path], capture_output=True, text=True, check=False)
    if done.returncode == 69:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok ") == len(TX_POWERS_DBM["esphome"]) + 4 + len(TX_POWERS_DBM["espruino"])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_check_finds_a_wrong_profile(tmp_path: Path) -> None:
    (tmp_path / "esphome").mkdir()
    text = render("esphome", "shelf-7", "Dairy", BEACON, Transmission())
    (tmp_path / "esphome" / "wrong.yaml").write_text(text.replace("minor: 772", "minor: 77200"))
    done = subprocess.run([ROOT / "scripts" / "check-firmware", tmp_path], capture_output=True, text=True, check=False)
    if done.returncode == 69:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 1
    assert "FAILED  esphome/wrong.yaml" in done.stdout
    assert "minor" in done.stdout
