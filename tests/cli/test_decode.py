"""`gateway decode`: each octet is explained once, the verdict is the pipeline's, and nothing from outside steers the terminal."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from gateway.cli.app import app
from gateway.cli.decode import explain, judge
from gateway.core.frames import Decoder
from gateway.core.model import ClockQuality, Instant, Reject, Shop
from gateway.core.pipeline import Pipeline, Tuning
from tests.cli.told import keys_told

IBEACON = "0201061aff4c000215e2c56db5dffb48d2b060d0f5a71096e000640007c5"
FORM_U = "02011a1107c5d831be9f5260619d328af8da61408a"
FORM_S = "1516f0ff11c58a4061daf88a329d6160529fbe31d8c5"
FORM_M = "15ff341211c58a4061daf88a329d6160529fbe31d8c5"
ALTBEACON = "1bff1801beac2f234454cf6d4a0fadf2f4911ba9ffa600010002c509"
EDDYSTONES = {
    "eddystone-uid": "1716aafe00e7000102030405060708090102030405060000",
    "eddystone-url": "0e16aafe10f803676974687562007a",
    "eddystone-tlm": "1116aafe20000b1813400000146700002ac4",
    "eddystone-etlm": "1516aafe2001414141414141414141414141deadbeff",
    "eddystone-eid": "0d16aafe30e34549445f74657374",
}
CHAIN = ["--service-uuid16", "0xFFF0", "--company-id", "0x1234"]


def decode(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["decode", *arguments], terminal_width=200)
    return done.exit_code, done.output


def decode_json(*arguments: str) -> dict[str, Any]:
    status, said = decode(*arguments, "--json")
    assert status == 0, said
    explained: dict[str, Any] = json.loads(said)
    assert [*explained] == keys_told("decode")
    return explained


@pytest.fixture
def shop_file(tmp_path: Path) -> Path:
    file = tmp_path / "shop.json"
    beacon = {"kind": "beacon", "zone": "dairy", "uuid": "e2c56db5-dffb-48d2-b060-d0f5a71096e0", "major": 100, "minor": 7}
    file.write_text(json.dumps({"zones": {"dairy": {}}, "anchors": {"beacon-7": beacon}}))
    return file


def test_an_ibeacon_is_explained_field_by_field() -> None:
    status, said = decode(IBEACON)
    assert status == 0
    for words in ["discoverable", "company 0x004C (Apple)", "UUID e2c56db5-dffb", "major 100", "minor 7", "-59 dBm at 1 m"]:
        assert words in said
    assert "--shop" in said


@pytest.mark.parametrize("text", ["02:01:06", "02 01 06", "0x02 0x01 0x06", "02-01-06", "020106"])
def test_octets_may_be_written_as_people_write_them(text: str) -> None:
    assert decode_json(*text.split(" "))["structures"] == decode_json("020106")["structures"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("123", "half an octet"),
        ("02zz", "z is no hexadecimal digit"),
        (" ", "nothing to decode"),
        ("00" * 1651, "1650"),
        ("\x1b[2J", "x1b"),
    ],
)
def test_what_is_no_advertisement_is_refused_in_a_sentence(text: str, complaint: str) -> None:
    status, said = decode(text)
    assert status == 2
    assert complaint in " ".join(said.split())
    assert "\x1b[2J" not in said


@pytest.mark.parametrize("arguments", [["--company-id", "0x4c"], ["--service-uuid16", "0xfeaa"], ["--company-id", "70000"]])
def test_an_identifier_that_cannot_be_the_chains_is_refused(arguments: list[str]) -> None:
    status, said = decode("020106", *arguments)
    assert status == 2
    assert "Traceback" not in said


def test_forms_s_and_m_need_the_chains_identifiers() -> None:
    for payload in (FORM_S, FORM_M):
        assert decode_json(payload)["outcome"] == "stranger"
        explained = decode_json(payload, *CHAIN)
        assert (explained["frame"], explained["outcome"]) == ("shopper", "token")


def test_the_chains_identifiers_come_from_the_settings_too(tmp_path: Path) -> None:
    settings = tmp_path / "gateway.toml"
    settings.write_text(
        f'store = "demo"\nstore_number = 1\ngateway = "pi"\nstate_dir = "{tmp_path}"\n[chain]\nservice_uuid16 = 0xFFF0\n'
    )
    assert decode_json(FORM_S, "--config", str(settings))["fields"]["tx_power_dbm"] == -59


def test_a_registered_beacon_is_named(shop_file: Path) -> None:
    assert decode_json(IBEACON)["outcome"] == "beacon"
    explained = decode_json(IBEACON, "--shop", str(shop_file))
    assert explained["outcome"] == "registered"
    assert "beacon-7 in zone dairy" in explained["explanation"]
    assert decode_json(IBEACON.replace("0007", "0008"), "--shop", str(shop_file))["outcome"] == "stranger"


def test_a_beacon_that_is_registered_by_another_key_is_named(tmp_path: Path) -> None:
    uid = decode_json(EDDYSTONES["eddystone-uid"])["fields"]
    file = tmp_path / "shop.json"
    beacons = {
        "milk": {"namespace": uid["namespace"], "instance": uid["instance"]},
        "cork": {"beacon_id": decode_json(ALTBEACON)["fields"]["beacon_id"]},
    }
    anchors = {name: {"kind": "beacon", "zone": "dairy", **key} for name, key in beacons.items()}
    file.write_text(json.dumps({"zones": {"dairy": {}}, "anchors": anchors}))
    for payload, name, called in (
        (EDDYSTONES["eddystone-uid"], "milk", "An Eddystone-UID"),
        (ALTBEACON, "cork", "An AltBeacon"),
    ):
        assert decode_json(payload)["outcome"] == "beacon"
        assert decode_json(payload)["explanation"].startswith(called)
        explained = decode_json(payload, "--shop", str(file))
        assert explained["outcome"] == "registered"
        assert f"{name} in zone dairy" in explained["explanation"]
    assert decode_json(EDDYSTONES["eddystone-url"], "--shop", str(file))["outcome"] == "stranger"


@pytest.mark.parametrize(("name", "payload"), [*EDDYSTONES.items(), ("altbeacon", ALTBEACON), ("shopper", FORM_U)])
def test_every_format_is_named_and_its_fields_told(name: str, payload: str) -> None:
    explained = decode_json(payload)
    assert explained["frame"] == name
    assert explained["fields"]
    assert explained["reject"] is None


@pytest.mark.parametrize(
    ("payload", "reject"),
    [
        ("05ff4c000215", "ibeacon.length"),
        (IBEACON[:-2], "ibeacon.length"),
        ("0e16aafe10f804676974687562007a", "eddystone-url.sanity"),
    ],
)
def test_a_reject_says_what_is_wrong(payload: str, reject: str) -> None:
    explained = decode_json(payload)
    assert (explained["frame"], explained["reject"], explained["outcome"]) == (None, reject, "reject")
    assert reject in explained["explanation"]


def test_a_name_from_outside_cannot_steer_the_terminal() -> None:
    status, said = decode("0a09411b5b324ae280ae42")
    assert status == 0
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert "\\x1b" in said


def test_an_empty_structure_and_padding_are_explained() -> None:
    explained = decode_json("0109 0000")
    assert [part["title"] for part in explained["structures"]] == ["local name", "end"]


known = [IBEACON, FORM_U, FORM_S, FORM_M, ALTBEACON, *EDDYSTONES.values()]
payloads = st.one_of(
    st.binary(min_size=1, max_size=80),
    st.builds(
        lambda text, at, octet, size: (text[:at] + octet + text[at + 1 :])[:size],
        st.sampled_from(known).map(bytes.fromhex),
        st.integers(0, 30),
        st.binary(min_size=1, max_size=1),
        st.integers(1, 40),
    ),
)


@given(payloads)
def test_every_octet_is_explained_exactly_once(payload: bytes) -> None:
    pieces = [piece for part in explain(payload, Decoder(0xFFF0, 0x1234)) for piece in part.pieces]
    assert b"".join(piece.octets for piece in pieces) == payload
    assert [piece.at for piece in pieces] == [
        sum(len(other.octets) for other in pieces[:number]) for number in range(len(pieces))
    ]
    assert all(piece.octets and piece.meaning for piece in pieces)


@given(payloads)
def test_the_verdict_is_what_the_pipeline_does(payload: bytes) -> None:
    from datetime import UTC

    now = Instant(0, 1_790_000_437_000)
    pipeline = Pipeline(Shop({}, {}), Tuning(UTC, service_uuid16=0xFFF0, company_id=0x1234), lambda: "id", now)
    pipeline.tick(now, ClockQuality.SYNCHRONISED)
    pipeline.receive("pi", "", -60, payload, now)
    found = Decoder(0xFFF0, 0x1234).decode(payload)
    outcome, _ = judge(found, Shop({}, {}))
    if isinstance(found, Reject):
        assert (outcome, pipeline.counters.rejects) == ("reject", {f"{found.format}.{found.kind}": 1})
    else:
        assert outcome in {"stranger", "token"}, "nothing is registered and nobody is in the roster"
        assert pipeline.counters.strangers == 1
