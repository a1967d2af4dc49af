"""Frames: what is ours is read whole or rejected, what is not is nothing, and the memo changes neither."""

import json
import os
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ad_structures import AdStructure, Truncated, encode, iterate
from gateway.core.frames import LARGEST_REMEMBERED, Decoder, ibeacon, shopper
from gateway.core.model import Frame, IBeacon, Reject, ShopperToken

SERVICE_UUID16 = 0xFFF0
COMPANY_ID = 0x1234
TOKEN = bytes.fromhex("8a4061daf88a329d6160529fbe31d8c5")
BEACON = IBeacon(bytes.fromhex("e2c56db5dffb48d2b060d0f5a71096e0"), 100, 7, -59)

FLAGS = "02011a"
FORM_U = "1107c5d831be9f5260619d328af8da61408a"
FORM_S = "1516f0ff11c58a4061daf88a329d6160529fbe31d8c5"
FORM_M = "15ff341211c58a4061daf88a329d6160529fbe31d8c5"
IBEACON = "1aff4c000215e2c56db5dffb48d2b060d0f5a71096e000640007c5"
APPLE_NEARBY = "0aff4c001005031c9ba1c8"

TOKEN_U = ShopperToken("U", TOKEN, None)
TOKEN_S = ShopperToken("S", TOKEN, -59)
TOKEN_M = ShopperToken("M", TOKEN, -59)
BROKEN_IBEACON = Reject("ibeacon", "length")
BROKEN_TOKEN = Reject("shopper", "length")

int8 = st.integers(-128, 127)
uint16 = st.integers(0, 0xFFFF)
ibeacons = st.builds(IBeacon, st.binary(min_size=16, max_size=16), uint16, uint16, int8)
tokens = st.one_of(
    st.builds(ShopperToken, st.just("U"), st.binary(min_size=16, max_size=16), st.none()),
    st.builds(ShopperToken, st.sampled_from(["S", "M"]), st.binary(min_size=16, max_size=16), int8),
)
frames = st.one_of(ibeacons, tokens)
stranger_structures = st.builds(
    AdStructure, st.integers(0, 255).filter(lambda ad_type: ad_type not in {0x07, 0x16, 0xFF}), st.binary(max_size=24)
)


def chain_decoder(memo_size: int = 64) -> Decoder:
    return Decoder(SERVICE_UUID16, COMPANY_ID, memo_size=memo_size)


def structure_of(frame: Frame) -> AdStructure:
    if isinstance(frame, IBeacon):
        return ibeacon.encode(frame)
    return shopper.encode(frame, service_uuid16=SERVICE_UUID16, company_id=COMPANY_ID)


def read_slowly(payload: bytes) -> Frame | Reject | None:
    """The rule of `Decoder.decode` once more, over `iterate` and with nothing clever."""
    frames_found: list[Frame] = []
    candidates: list[Frame] = []
    rejects: list[Reject] = []
    for structure in iterate(payload):
        whole = isinstance(structure, AdStructure)
        header = structure.octets[1:] if isinstance(structure, Truncated) else bytes((structure.ad_type,)) + structure.data
        body = header[1:]
        found: Frame | Reject | None = None
        if header.startswith(b"\xff\x4c\x00\x02\x15"):
            found = ibeacon.decode(body) if whole else BROKEN_IBEACON
        elif header.startswith(b"\x16\xf0\xff"):
            found = shopper.decode_s(body) if whole else BROKEN_TOKEN
        elif header.startswith(b"\xff\x34\x12"):
            found = shopper.decode_m(body) if whole else BROKEN_TOKEN
        elif header.startswith(b"\x07") and whole and (candidate := shopper.decode_u(body)):
            candidates.append(candidate)
        if isinstance(found, Reject):
            rejects.append(found)
        elif found is not None:
            frames_found.append(found)
    return next(iter([*frames_found, *candidates, *rejects]), None)


# ---- named cases --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        pytest.param("", None, id="nothing"),
        pytest.param("00" * 31, None, id="padding"),
        pytest.param(FLAGS, None, id="flags alone"),
        pytest.param("0201", None, id="truncated flags"),
        pytest.param(FLAGS + APPLE_NEARBY, None, id="Apple, but no beacon"),
        pytest.param("1eff06000109200221" + "0a" * 22, None, id="Microsoft"),
        pytest.param("03ff4c00", None, id="Apple's company identifier alone"),
        pytest.param("1aff4c000214" + "00" * 21, None, id="Apple type 02 of another length is another thing"),
        pytest.param("03ff4c00 0215" + "00" * 23, None, id="iBeacon's code across two structures"),
        pytest.param("0216f0 ff16" + "00" * 20, None, id="form S's code across two structures"),
        pytest.param(IBEACON, BEACON, id="iBeacon"),
        pytest.param(FLAGS + IBEACON, BEACON, id="iBeacon after flags"),
        pytest.param("0409414243" + IBEACON, BEACON, id="iBeacon after a name"),
        pytest.param(FLAGS + IBEACON + "0000", BEACON, id="iBeacon before padding"),
        pytest.param(FLAGS + "00" + IBEACON, None, id="after an early end everything is padding"),
        pytest.param(FLAGS + "1b" + IBEACON[2:] + "64", BROKEN_IBEACON, id="iBeacon one octet too long"),
        pytest.param(FLAGS + "19" + IBEACON[2:-2], BROKEN_IBEACON, id="iBeacon one octet too short"),
        pytest.param(FLAGS + "05ff4c000215", BROKEN_IBEACON, id="iBeacon's code and nothing else"),
        pytest.param(FLAGS + IBEACON[:-2], BROKEN_IBEACON, id="iBeacon truncated"),
        pytest.param(FLAGS + "1b" + IBEACON[2:], BROKEN_IBEACON, id="a whole iBeacon that promises more"),
        pytest.param(FLAGS + "1aff4c0002", None, id="truncated within the code: nobody's"),
        pytest.param(FLAGS + FORM_U, TOKEN_U, id="form U"),
        pytest.param(FORM_U, TOKEN_U, id="form U without flags"),
        pytest.param(FORM_U[:-2], None, id="form U truncated is no reject: it claims nothing"),
        pytest.param("2107" + "11" * 32, None, id="a list of two UUIDs"),
        pytest.param("1007" + "11" * 15, None, id="a list of less than a UUID"),
        pytest.param("0107", None, id="an empty list of UUIDs"),
        pytest.param("1106" + FORM_U[4:], None, id="an incomplete list of UUIDs"),
        pytest.param(FORM_S, TOKEN_S, id="form S"),
        pytest.param(FLAGS + FORM_S, TOKEN_S, id="form S after flags"),
        pytest.param("1516f1ff" + FORM_S[8:], None, id="another service"),
        pytest.param(FORM_S.replace("f0ff11", "f0ff10"), BROKEN_TOKEN, id="form S, inner length too small"),
        pytest.param(FORM_S.replace("f0ff11", "f0ff12"), BROKEN_TOKEN, id="form S, inner length too large"),
        pytest.param("1616" + FORM_S[4:] + "00", BROKEN_TOKEN, id="form S one octet too long"),
        pytest.param("1416" + FORM_S[4:-2], BROKEN_TOKEN, id="form S one octet too short"),
        pytest.param("0316f0ff", BROKEN_TOKEN, id="form S, the UUID and nothing else"),
        pytest.param(FORM_S[:-2], BROKEN_TOKEN, id="form S truncated"),
        pytest.param(FORM_M, TOKEN_M, id="form M"),
        pytest.param(FORM_M.replace("341211", "34120f"), BROKEN_TOKEN, id="form M, inner length wrong"),
        pytest.param(FORM_M[:-2], BROKEN_TOKEN, id="form M truncated"),
        pytest.param("15ff1234" + FORM_M[8:], None, id="company identifier in the wrong byte order"),
        pytest.param(IBEACON + FORM_U, BEACON, id="a beacon with a service list"),
        pytest.param(FORM_U + IBEACON, BEACON, id="a service list is weaker than a beacon, wherever it stands"),
        pytest.param(FORM_S + IBEACON, TOKEN_S, id="the first of two frames"),
        pytest.param("0316f0ff" + IBEACON, BEACON, id="a frame after a reject"),
        pytest.param("0316f0ff" + FORM_U, TOKEN_U, id="a candidate after a reject"),
        pytest.param("0316f0ff" + "05ff4c000215", BROKEN_TOKEN, id="the first of two rejects"),
        pytest.param(FORM_U + "1107" + "11" * 16, TOKEN_U, id="the first of two candidates"),
    ],
)
def test_payload_becomes_frame_reject_or_nothing(payload: str, expected: Frame | Reject | None) -> None:
    data = bytes.fromhex(payload)
    decoder = chain_decoder()
    assert decoder.decode(data) == expected
    assert decoder.decode(data) == expected, "from the memo"
    assert read_slowly(data) == expected


@pytest.mark.parametrize(
    ("frame", "payload"),
    [
        pytest.param(BEACON, IBEACON, id="iBeacon"),
        pytest.param(TOKEN_U, FORM_U, id="form U"),
        pytest.param(TOKEN_S, FORM_S, id="form S"),
        pytest.param(TOKEN_M, FORM_M, id="form M"),
    ],
)
def test_frame_becomes_payload(frame: Frame, payload: str) -> None:
    assert encode([structure_of(frame)]).hex() == payload


@pytest.mark.parametrize("payload", [FORM_S, FORM_M])
def test_without_the_chains_identifier_its_form_is_a_stranger(payload: str) -> None:
    assert Decoder().decode(bytes.fromhex(payload)) is None


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"company_id": 0x004C}, id="Apple's identifier would claim iBeacons"),
        pytest.param({"company_id": -1}, id="company below range"),
        pytest.param({"company_id": 0x10000}, id="company above range"),
        pytest.param({"service_uuid16": 0x10000}, id="service above range"),
        pytest.param({"memo_size": 0}, id="no memo"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"0x|16-bit|memo_size"):
        Decoder(**settings)


@pytest.mark.parametrize(
    "beacon",
    [
        IBeacon(bytes(15), 1, 2, -59),
        IBeacon(bytes(17), 1, 2, -59),
        IBeacon(bytes(16), 65536, 2, -59),
        IBeacon(bytes(16), 1, -1, -59),
        IBeacon(bytes(16), 1, 2, 128),
    ],
)
def test_beacon_that_does_not_fit_is_refused(beacon: IBeacon) -> None:
    with pytest.raises(ValueError, match="octets"):
        ibeacon.encode(beacon)


@pytest.mark.parametrize(
    ("form", "size", "tx_power_dbm", "identifier"),
    [
        pytest.param("U", 15, None, None, id="token too short"),
        pytest.param("S", 17, -59, 1, id="token too long"),
        pytest.param("U", 16, -59, None, id="form U with a power"),
        pytest.param("S", 16, None, 1, id="form S without a power"),
        pytest.param("M", 16, 128, 1, id="power out of range"),
        pytest.param("S", 16, -59, None, id="form S without the chain's UUID"),
        pytest.param("M", 16, -59, None, id="form M without the chain's company"),
        pytest.param("M", 16, -59, 0x10000, id="company out of range"),
    ],
)
def test_token_that_does_not_fit_is_refused(
    form: Literal["U", "S", "M"], size: int, tx_power_dbm: int | None, identifier: int | None
) -> None:
    with pytest.raises(ValueError, match=r"token|form|octets"):
        shopper.encode(ShopperToken(form, bytes(size), tx_power_dbm), service_uuid16=identifier, company_id=identifier)


# ---- properties ---------------------------------------------------------------------------------------------------------------


@given(frames, st.lists(stranger_structures, max_size=2), st.lists(stranger_structures, max_size=2))
def test_decoding_undoes_encoding_among_strangers(frame: Frame, before: list[AdStructure], after: list[AdStructure]) -> None:
    assert chain_decoder().decode(encode([*before, structure_of(frame), *after])) == frame


@given(frames, st.integers(1, 30))
def test_a_truncated_frame_is_rejected_or_nothing(frame: Frame, cut: int) -> None:
    found = chain_decoder().decode(encode([structure_of(frame)])[:-cut])
    assert found is None or isinstance(found, Reject)


@given(st.binary(max_size=80))
def test_any_bytes_are_legal(payload: bytes) -> None:
    assert chain_decoder().decode(payload) == read_slowly(payload)


near_misses = st.lists(
    st.one_of(
        st.sampled_from([FLAGS, FORM_U, FORM_S, FORM_M, IBEACON, APPLE_NEARBY, "05ff4c000215", "0316f0ff", "03ff3412"]).map(
            bytes.fromhex
        ),
        st.binary(max_size=4),
    ),
    max_size=4,
).map(b"".join)


@given(near_misses, st.integers(0, 90), st.binary(min_size=1, max_size=1), st.integers(0, 90))
def test_mangled_advertisements_are_read_by_the_rule(payload: bytes, at: int, octet: bytes, length: int) -> None:
    mangled = (payload[:at] + octet + payload[at + 1 :])[:length]
    assert chain_decoder().decode(payload) == read_slowly(payload)
    assert chain_decoder().decode(mangled) == read_slowly(mangled)


# ---- memo ---------------------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.one_of(near_misses, st.sampled_from([bytes.fromhex(IBEACON), bytes.fromhex(FORM_S)])), max_size=120),
    st.integers(1, 4),
)
def test_memo_changes_no_answer_and_stays_bounded(payloads: list[bytes], memo_size: int) -> None:
    decoder = chain_decoder(memo_size)
    for payload in payloads:
        assert decoder.decode(payload) == read_slowly(payload)
        assert decoder.remembered <= memo_size


def unique_tokens(count: int) -> list[bytes]:
    return [bytes.fromhex(FLAGS + "1107") + number.to_bytes(16, "big") for number in range(count)]


def test_a_flood_of_unique_payloads_makes_the_memo_rest_and_empties_it() -> None:
    decoder = chain_decoder(memo_size=8)
    flood = unique_tokens(24)
    for payload in flood[:7]:
        decoder.decode(payload)
    assert decoder.remembered == 7
    for payload in flood[7:]:
        decoder.decode(payload)
        assert decoder.remembered == 0


def test_a_flood_of_strangers_makes_the_memo_rest_too() -> None:
    decoder = chain_decoder(memo_size=8)
    decoder.decode(bytes.fromhex(IBEACON))
    for number in range(8):
        assert decoder.decode(bytes.fromhex("0aff4c001005") + number.to_bytes(5, "big")) is None
    assert decoder.remembered == 0


def test_the_memo_is_tried_again_after_its_rest() -> None:
    decoder = chain_decoder(memo_size=8)
    for payload in unique_tokens(8 + 64):
        decoder.decode(payload)
    payload = bytes.fromhex(IBEACON)
    assert decoder.decode(payload) is decoder.decode(payload)
    assert decoder.remembered == 1


def test_repeats_keep_the_memo_at_work_among_strangers() -> None:
    decoder = chain_decoder(memo_size=8)
    beacon = bytes.fromhex(IBEACON)
    first = decoder.decode(beacon)
    for number in range(100):
        assert decoder.decode(bytes.fromhex("0aff4c001005") + number.to_bytes(5, "big")) is None
        assert decoder.decode(beacon) is first


def test_one_hit_in_ten_is_too_few_to_keep_the_memo_at_work() -> None:
    decoder = chain_decoder(memo_size=64)
    for number, payload in enumerate(unique_tokens(64 * 3)):
        decoder.decode(payload)
        if number % 9 == 0:
            decoder.decode(payload)
    assert decoder.remembered == 0


def test_hits_of_the_past_do_not_pay_for_a_flood() -> None:
    decoder = chain_decoder(memo_size=8)
    for _ in range(1000):
        decoder.decode(bytes.fromhex(IBEACON))
    for payload in unique_tokens(16):
        decoder.decode(payload)
    assert decoder.remembered == 0


def test_a_full_memo_begins_anew() -> None:
    decoder = chain_decoder(memo_size=8)
    beacon = bytes.fromhex(IBEACON)
    for payload in unique_tokens(100):
        decoder.decode(payload)
        assert decoder.decode(beacon) == BEACON
        assert 1 <= decoder.remembered <= 8


def test_strangers_and_long_payloads_are_not_remembered() -> None:
    decoder = chain_decoder()
    decoder.decode(bytes.fromhex(FLAGS + APPLE_NEARBY))
    decoder.decode(bytes.fromhex(IBEACON) + bytes(LARGEST_REMEMBERED))
    assert decoder.remembered == 0
    decoder.decode(bytes.fromhex(IBEACON).ljust(LARGEST_REMEMBERED, b"\x00"))
    assert decoder.remembered == 1


# ---- what others recorded -----------------------------------------------------------------------------------------------------


def recorded_frames() -> list[dict[str, Any]]:
    folder = os.environ.get("GATEWAY_REAL_DATA")
    if not folder:
        pytest.skip(
            "set GATEWAY_REAL_DATA to the folder of recorded data; captures/frames.json has frames from other projects' tests"
        )
    entries: list[dict[str, Any]] = json.loads((Path(folder) / "captures" / "frames.json").read_text(encoding="utf-8"))
    return entries


def advertisement_of(recorded: bytes) -> bytes:
    """The advertising data of an entry: bare, or in an HCI LE Advertising Report (Core Specification, Vol 4, Part E, 7.7.65.2).

    Some authors made the report's length octets up, so it is read to its end: the RSSI there is half a structure to us.
    """
    return recorded[14:] if recorded[3:5] == b"\x02\x01" else recorded


def test_ibeacons_of_other_projects_are_read_as_their_authors_say() -> None:
    entries = recorded_frames()
    read = 0
    for entry in entries:
        found = Decoder().decode(advertisement_of(bytes.fromhex(entry["hex"])))
        if entry["format"] != "ibeacon":
            assert found is None, entry["origin"]
            continue
        assert isinstance(found, IBeacon), entry["origin"]
        expected = entry["expected"]
        asserted = {
            "uuid": expected.get("uuid", "").replace("-", "") or None,
            "major": expected.get("major"),
            "minor": expected.get("minor"),
            "power": expected.get("tx_power", expected.get("measured power")),
        }
        decoded = {"uuid": found.uuid.hex(), "major": found.major, "minor": found.minor, "power": found.measured_power_dbm}
        for name, value in asserted.items():
            assert value is None or decoded[name] == value, (entry["origin"], name)
        read += 1
    assert read
