"""Frames: what is ours is read whole or rejected, what is not is nothing; neither memo nor short cut changes that."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ad_structures import AdStructure, Truncated, encode, iterate
from gateway.core.frames import LARGEST_REMEMBERED, Decoder, altbeacon, eddystone, format_of, ibeacon, shopper
from gateway.core.model import (
    AltBeacon,
    EddystoneEid,
    EddystoneEncryptedTlm,
    EddystoneTlm,
    EddystoneUid,
    EddystoneUrl,
    Frame,
    IBeacon,
    Reject,
    ShopperToken,
)

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
ALTBEACON = "1bff1801beac2f234454cf6d4a0fadf2f4911ba9ffa600010002c509"
SERVICE_LIST = "0303aafe"
UID = "1716aafe00e7000102030405060708090102030405060000"
URL = "0e16aafe10f803676974687562007a"
TLM = "1116aafe20000b18134000001467" + "00002ac4"
ENCRYPTED_TLM = "1516aafe2001" + "41" * 12 + "deadbeff"
EID = "0d16aafe30e34549445f74657374"
FIND_HUB = "1916aafe40" + "5a" * 21

TOKEN_U = ShopperToken("U", TOKEN, None)
TOKEN_S = ShopperToken("S", TOKEN, -59)
TOKEN_M = ShopperToken("M", TOKEN, -59)
ALT = AltBeacon(0x0118, bytes.fromhex("2f234454cf6d4a0fadf2f4911ba9ffa600010002"), -59, 9)
UID_FRAME = EddystoneUid(bytes(range(10)), bytes(range(1, 7)), -66)
URL_FRAME = EddystoneUrl("https://github.com/z", -49)
TLM_FRAME = EddystoneTlm(2840, 19.25, 5223, 1_094_800)
ENCRYPTED_TLM_FRAME = EddystoneEncryptedTlm(b"A" * 12, b"\xde\xad", b"\xbe\xff")
EID_FRAME = EddystoneEid(b"EID_test", -70)
BROKEN_IBEACON = Reject("ibeacon", "length")
BROKEN_TOKEN = Reject("shopper", "length")

int8 = st.integers(-128, 127)
uint16 = st.integers(0, 0xFFFF)
uint32 = st.integers(0, 0xFFFFFFFF)
eddystone_power = st.integers(-141, -21)
ibeacons = st.builds(IBeacon, st.binary(min_size=16, max_size=16), uint16, uint16, int8)
altbeacons = st.builds(AltBeacon, uint16, st.binary(min_size=20, max_size=20), int8, st.none() | st.integers(0, 255))
url_rests = st.lists(
    st.one_of(st.sampled_from([".com", ".org/", ".info", ".gov", "www."]), st.characters(min_codepoint=0x21, max_codepoint=0x7E)),
    max_size=4,
).map("".join)
eddystones = st.one_of(
    st.builds(EddystoneUid, st.binary(min_size=10, max_size=10), st.binary(min_size=6, max_size=6), eddystone_power),
    st.builds(
        EddystoneUrl,
        st.builds(str.__add__, st.sampled_from(["http://", "https://", "http://www.", "https://www."]), url_rests),
        eddystone_power,
    ),
    st.builds(
        EddystoneTlm,
        st.none() | st.integers(1, 0xFFFF),
        st.none() | st.integers(-0x7FFF, 0x7FFF).map(lambda steps: steps / 256),
        uint32,
        uint32.map(lambda tenths: tenths * 100),
    ),
    st.builds(
        EddystoneEncryptedTlm,
        st.binary(min_size=12, max_size=12),
        st.binary(min_size=2, max_size=2),
        st.binary(min_size=2, max_size=2),
    ),
    st.builds(EddystoneEid, st.binary(min_size=8, max_size=8), eddystone_power),
)
tokens = st.one_of(
    st.builds(ShopperToken, st.just("U"), st.binary(min_size=16, max_size=16), st.none()),
    st.builds(ShopperToken, st.sampled_from(["S", "M"]), st.binary(min_size=16, max_size=16), int8),
)
frames = st.one_of(ibeacons, altbeacons, eddystones, tokens)
stranger_structures = st.builds(
    AdStructure, st.integers(0, 255).filter(lambda ad_type: ad_type not in {0x07, 0x16, 0xFF}), st.binary(max_size=24)
)


def chain_decoder(memo_size: int = 64) -> Decoder:
    return Decoder(SERVICE_UUID16, COMPANY_ID, memo_size=memo_size)


def structure_of(frame: Frame) -> AdStructure:
    if isinstance(frame, IBeacon):
        return ibeacon.encode(frame)
    if isinstance(frame, AltBeacon):
        return altbeacon.encode(frame)
    if isinstance(frame, ShopperToken):
        return shopper.encode(frame, service_uuid16=SERVICE_UUID16, company_id=COMPANY_ID)
    return eddystone.encode(frame)


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
        elif header.startswith(b"\xff") and header[3:5] == b"\xbe\xac":
            found = altbeacon.decode(body) if whole else Reject("altbeacon", "length")
        elif header.startswith(b"\x16\xaa\xfe"):
            found = eddystone.decode(body) if whole else Reject("eddystone", "length")
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
        pytest.param(FLAGS + ALTBEACON, ALT, id="AltBeacon"),
        pytest.param("1aff" + ALTBEACON[4:-2], replace(ALT, reserved=None), id="AltBeacon without its last octet"),
        pytest.param(ALTBEACON[:-2], Reject("altbeacon", "length"), id="AltBeacon truncated by that octet"),
        pytest.param("1cff" + ALTBEACON[4:] + "00", Reject("altbeacon", "length"), id="AltBeacon too long"),
        pytest.param("05ff1801beac", Reject("altbeacon", "length"), id="AltBeacon's code and nothing else"),
        pytest.param("04ff1801be" + "ac11" * 8, None, id="AltBeacon's code across two structures"),
        pytest.param(
            "1bff3412" + ALTBEACON[8:], replace(ALT, company_id=0x1234), id="the chain's own AltBeacon is no broken form M"
        ),
        pytest.param("1bff4c00" + ALTBEACON[8:], replace(ALT, company_id=0x004C), id="Apple's AltBeacon is no iBeacon"),
        pytest.param(FLAGS + SERVICE_LIST + UID, UID_FRAME, id="Eddystone-UID"),
        pytest.param("1516" + UID[4:-4], UID_FRAME, id="Eddystone-UID without its reserved octets"),
        pytest.param("1616" + UID[4:-2], Reject("eddystone-uid", "length"), id="Eddystone-UID with half its reserved octets"),
        pytest.param(UID.replace("00e7", "0065"), Reject("eddystone-uid", "sanity"), id="Eddystone at 101 dBm"),
        pytest.param(UID.replace("00e7", "01e7"), Reject("eddystone-uid", "sanity"), id="Eddystone with reserved bits"),
        pytest.param(FLAGS + SERVICE_LIST + URL, URL_FRAME, id="Eddystone-URL"),
        pytest.param("0416aafe10", Reject("eddystone-url", "length"), id="Eddystone-URL without anything"),
        pytest.param("0616aafe10f802", EddystoneUrl("http://", -49), id="Eddystone-URL with a scheme alone"),
        pytest.param("1716aafe10f803" + "61" * 17, EddystoneUrl("https://" + "a" * 17, -49), id="the longest Eddystone-URL"),
        pytest.param("1816aafe10f803" + "61" * 18, Reject("eddystone-url", "length"), id="Eddystone-URL too long"),
        pytest.param(URL.replace("f803", "f804"), Reject("eddystone-url", "sanity"), id="Eddystone-URL of no scheme"),
        pytest.param(URL.replace("007a", "0e7a"), Reject("eddystone-url", "sanity"), id="Eddystone-URL with a reserved octet"),
        pytest.param(URL.replace("007a", "1b7a"), Reject("eddystone-url", "sanity"), id="Eddystone-URL with a control character"),
        pytest.param(FLAGS + SERVICE_LIST + TLM, TLM_FRAME, id="Eddystone-TLM"),
        pytest.param("1116aafe200000008000" + "00" * 8, EddystoneTlm(None, None, 0, 0), id="Eddystone-TLM that measures nothing"),
        pytest.param(TLM.replace("134000", "ff8000"), replace(TLM_FRAME, temperature_c=-0.5), id="below freezing"),
        pytest.param(TLM.replace("2000", "2002"), Reject("eddystone-tlm", "sanity"), id="Eddystone-TLM of another version"),
        pytest.param(
            TLM.replace("2000", "2001"), Reject("eddystone-etlm", "length"), id="an encrypted version in a plain length"
        ),
        pytest.param(FLAGS + ENCRYPTED_TLM, ENCRYPTED_TLM_FRAME, id="Eddystone-TLM, encrypted"),
        pytest.param(FLAGS + SERVICE_LIST + EID, EID_FRAME, id="Eddystone-EID"),
        pytest.param("0e16" + EID[4:] + "00", Reject("eddystone-eid", "length"), id="Eddystone-EID too long"),
        pytest.param(EID[:-2], Reject("eddystone", "length"), id="Eddystone truncated"),
        pytest.param("0316aafe", Reject("eddystone", "length"), id="Eddystone's UUID and nothing else"),
        pytest.param(FLAGS + FIND_HUB, None, id="a tracker under Eddystone's UUID"),
        pytest.param(FIND_HUB + EID, EID_FRAME, id="Eddystone behind a tracker's structure"),
        pytest.param(SERVICE_LIST, None, id="Eddystone's UUID in a list alone"),
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
        pytest.param(ALT, ALTBEACON, id="AltBeacon"),
        pytest.param(UID_FRAME, UID, id="Eddystone-UID"),
        pytest.param(URL_FRAME, URL, id="Eddystone-URL"),
        pytest.param(TLM_FRAME, TLM, id="Eddystone-TLM"),
        pytest.param(ENCRYPTED_TLM_FRAME, ENCRYPTED_TLM, id="Eddystone-TLM, encrypted"),
        pytest.param(EID_FRAME, EID, id="Eddystone-EID"),
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
        pytest.param({"service_uuid16": 0xFEAA}, id="Google's UUID would claim Eddystone"),
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
    "frame",
    [
        pytest.param(AltBeacon(1, bytes(19), -59, 0), id="a beacon id too short"),
        pytest.param(AltBeacon(0x10000, bytes(20), -59, 0), id="a company out of range"),
        pytest.param(AltBeacon(1, bytes(20), -129, 0), id="a power out of range"),
        pytest.param(AltBeacon(1, bytes(20), -59, 256), id="a reserved octet out of range"),
        pytest.param(EddystoneUid(bytes(9), bytes(6), -60), id="a namespace too short"),
        pytest.param(EddystoneUid(bytes(10), bytes(7), -60), id="an instance too long"),
        pytest.param(EddystoneUid(bytes(10), bytes(6), -20), id="a power above 20 dBm at 0 m"),
        pytest.param(EddystoneUrl("ftp://a", -60), id="another scheme"),
        pytest.param(EddystoneUrl("https://ä.de", -60), id="a URL beyond ASCII"),
        pytest.param(EddystoneUrl("https://a b", -60), id="a URL with a space"),
        pytest.param(EddystoneUrl("https://" + "a" * 18, -60), id="a URL too long"),
        pytest.param(EddystoneTlm(0, None, 0, 0), id="0 mV means not measured"),
        pytest.param(EddystoneTlm(1, -128.0, 0, 0), id="-128 degrees means not measured"),
        pytest.param(EddystoneTlm(1, 0.3, 0, 0), id="a temperature between the steps"),
        pytest.param(EddystoneTlm(1, 128.0, 0, 0), id="a temperature out of range"),
        pytest.param(EddystoneTlm(1, float("nan"), 0, 0), id="no temperature at all"),
        pytest.param(EddystoneTlm(1, float("inf"), 0, 0), id="an infinite temperature"),
        pytest.param(EddystoneTlm(1, 1.0, 0, 150), id="an uptime between the steps"),
        pytest.param(EddystoneTlm(1, 1.0, 2**32, 0), id="a count out of range"),
        pytest.param(EddystoneEncryptedTlm(bytes(11), bytes(2), bytes(2)), id="too little encrypted"),
        pytest.param(EddystoneEid(bytes(7), -60), id="an identifier too short"),
    ],
)
def test_frame_that_does_not_fit_is_refused(frame: Frame) -> None:
    with pytest.raises(ValueError, match=r"octets|power|URL|mean|steps|NaN"):
        structure_of(frame)


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


@given(frames, st.sampled_from(["", FLAGS, FLAGS + SERVICE_LIST]), st.integers(1, 30))
def test_a_truncated_frame_is_rejected_or_nothing(frame: Frame, before: str, cut: int) -> None:
    payload = encode([structure_of(frame)])
    found = chain_decoder().decode(bytes.fromhex(before) + payload[: max(0, len(payload) - cut)])
    assert found is None or isinstance(found, Reject)


@given(frames, st.integers(1, 30))
def test_a_structure_that_was_cut_short_is_rejected_or_nothing_of_another_value(frame: Frame, cut: int) -> None:
    """The length octet agrees with what is left, as after a careless copy; optional octets may be missing, never half a field."""
    ad_type, data = structure_of(frame)
    found = chain_decoder().decode(encode([AdStructure(ad_type, data[: max(0, len(data) - cut)])]))
    if isinstance(frame, AltBeacon) and isinstance(found, AltBeacon):
        assert found == replace(frame, reserved=None)
    elif isinstance(frame, EddystoneUid) and isinstance(found, EddystoneUid):
        assert found == frame
    elif isinstance(frame, EddystoneUrl) and isinstance(found, EddystoneUrl):
        assert len(found.url) < len(frame.url), "the URL has no length of its own but the structure's"
    else:
        assert found is None or isinstance(found, Reject)


@given(frames, st.integers(0, 255), st.integers(1, 7))
def test_the_short_cut_reads_as_the_walk_does(frame: Frame, octet: int, at: int) -> None:
    alone = bytearray(encode([AdStructure(0x01, b"\x06"), structure_of(frame)]))
    assert chain_decoder().decode(bytes(alone)) == read_slowly(bytes(alone)) == chain_decoder().decode(bytes(alone) + b"\x00")
    alone[at] = octet
    assert chain_decoder().decode(bytes(alone)) == read_slowly(bytes(alone))


@given(st.integers(0, 255), st.binary(min_size=2, max_size=28))
def test_one_key_has_one_decoder(ad_type: int, data: bytes) -> None:
    """Each structure is read by at most one format's decoder."""
    readers: dict[int, list[Callable[[bytes], Frame | Reject | None]]] = {
        0xFF: [ibeacon.decode, altbeacon.decode, lambda data: shopper.decode_m(data) if data[:2] == b"\x34\x12" else None],
        0x16: [eddystone.decode, lambda data: shopper.decode_s(data) if data[:2] == b"\xf0\xff" else None],
        0x07: [shopper.decode_u],
    }
    answers = [answer for read in readers.get(ad_type, []) if (answer := read(data)) is not None]
    found = chain_decoder().decode(encode([AdStructure(ad_type, data)]))
    assert found == (answers[0] if answers else None)
    if len(answers) > 1:
        assert data[:4] == b"\x34\x12\xbe\xac", "only the chain's own AltBeacon holds two codes, and there the first wins"


@given(st.one_of(st.builds(structure_of, frames).map(lambda s: s.data), st.binary(max_size=30)))
def test_no_decoder_raises_and_each_reads_only_its_own(data: bytes) -> None:
    for decode, code, offset in [
        (ibeacon.decode, ibeacon.CODE, 0),
        (altbeacon.decode, altbeacon.CODE, altbeacon.CODE_OFFSET),
        (eddystone.decode, eddystone.CODE, 0),
    ]:
        assert decode(data) is None or data.startswith(code, offset)
    shopper.decode_u(data), shopper.decode_s(data.ljust(3, b"\x00")), shopper.decode_m(data.ljust(3, b"\x00"))


@given(st.binary(max_size=80))
def test_any_bytes_are_legal(payload: bytes) -> None:
    assert chain_decoder().decode(payload) == read_slowly(payload)


HEADS = [APPLE_NEARBY, "05ff4c000215", "0316f0ff", "03ff3412", "05ff3412beac", "0416aafe20"]
near_misses = st.lists(
    st.one_of(
        st.sampled_from(
            [FLAGS, SERVICE_LIST, FORM_U, FORM_S, FORM_M, IBEACON, ALTBEACON, UID, URL, TLM, ENCRYPTED_TLM, EID, FIND_HUB, *HEADS]
        ).map(bytes.fromhex),
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


def unique_beacons(count: int) -> list[bytes]:
    return [encode([ibeacon.encode(IBeacon(bytes(16), number, 1, -59))]) for number in range(count)]


def test_a_flood_of_unique_beacons_empties_the_memo_and_makes_it_rest() -> None:
    decoder = chain_decoder(memo_size=8)
    flood = unique_beacons(8 + 64)
    for payload in flood[:8]:
        decoder.decode(payload)
    assert decoder.remembered == 8
    for payload in flood[8:]:
        decoder.decode(payload)
        assert decoder.remembered == 0


def test_the_memo_is_tried_again_after_its_rest() -> None:
    decoder = chain_decoder(memo_size=8)
    for payload in unique_beacons(9 + 63):
        decoder.decode(payload)
    payload = bytes.fromhex(IBEACON)
    assert decoder.decode(payload) is decoder.decode(payload)
    assert decoder.remembered == 1


def test_strangers_and_tokens_do_not_drive_beacons_out_of_the_memo() -> None:
    decoder = chain_decoder(memo_size=8)
    beacon = bytes.fromhex(IBEACON)
    first = decoder.decode(beacon)
    for number in range(100):
        assert decoder.decode(bytes.fromhex("0aff4c001005") + number.to_bytes(5, "big")) is None
        assert isinstance(decoder.decode(bytes.fromhex(FLAGS + "1107") + number.to_bytes(16, "big")), ShopperToken)
        assert decoder.decode(beacon) is first


def test_strangers_and_long_payloads_are_not_remembered() -> None:
    decoder = chain_decoder()
    decoder.decode(bytes.fromhex(FLAGS + APPLE_NEARBY))
    decoder.decode(bytes.fromhex(IBEACON) + bytes(LARGEST_REMEMBERED))
    assert decoder.remembered == 0
    decoder.decode(bytes.fromhex(IBEACON).ljust(LARGEST_REMEMBERED, b"\x00"))
    assert decoder.remembered == 1


@pytest.mark.parametrize("payload", [FORM_U, FORM_S, FORM_M, TLM, EID, "0316f0ff"])
def test_what_changes_or_belongs_to_a_phone_is_not_remembered(payload: str) -> None:
    decoder = chain_decoder()
    assert decoder.decode(bytes.fromhex(payload)) is not None
    assert decoder.remembered == 0


@pytest.mark.parametrize("payload", [IBEACON, ALTBEACON, UID, URL])
def test_what_a_beacon_says_for_ever_is_remembered(payload: str) -> None:
    decoder = chain_decoder()
    assert decoder.decode(bytes.fromhex(payload)) is decoder.decode(bytes.fromhex(payload))
    assert decoder.remembered == 1


def test_only_known_phones_become_tokens() -> None:
    known: set[bytes] = set()
    decoder = Decoder(knows=known.__contains__)
    assert decoder.decode(bytes.fromhex(FLAGS + FORM_U)) is None
    known.add(TOKEN[:8])
    assert decoder.decode(bytes.fromhex(FLAGS + FORM_U)) == TOKEN_U
    assert decoder.decode(bytes.fromhex("2107" + "11" * 16 + FORM_U[4:])) is None, "a list of two UUIDs is no token"


@pytest.mark.parametrize(
    ("frame", "name"),
    [
        (TOKEN_U, "shopper"),
        (BEACON, "ibeacon"),
        (ALT, "altbeacon"),
        (UID_FRAME, "eddystone-uid"),
        (URL_FRAME, "eddystone-url"),
        (TLM_FRAME, "eddystone-tlm"),
        (ENCRYPTED_TLM_FRAME, "eddystone-etlm"),
        (EID_FRAME, "eddystone-eid"),
        (BROKEN_IBEACON, "ibeacon"),
    ],
)
def test_every_format_has_its_name(frame: Frame | Reject, name: str) -> None:
    assert format_of(frame) == name


# ---- what others recorded -----------------------------------------------------------------------------------------------------


def real_data(*path: str) -> Any:
    folder = os.environ.get("GATEWAY_REAL_DATA")
    if not folder:
        pytest.skip(f"set GATEWAY_REAL_DATA to the folder of recorded data; {'/'.join(path)} comes from other people")
    return json.loads(Path(folder, *path).read_text(encoding="utf-8"))


def advertisement_of(recorded: bytes) -> bytes:
    """The advertising data of an entry: bare, in an HCI LE Advertising Report (Core Specification, Vol 4, Part E, 7.7.65.2), or
    bare service data.

    Some authors made the report's length octets up, so it is read to its end: the RSSI there is half a structure to us.
    """
    if recorded[3:5] == b"\x02\x01":
        return recorded[14:]
    return encode([AdStructure(0x16, recorded)]) if recorded.startswith(eddystone.CODE) else recorded


def with_true_length(advertisement: bytes, length: int) -> bytes:
    """Eddystone's service data, behind flags and service list, with another length octet."""
    return advertisement[:7] + bytes((length,)) + advertisement[8 : 8 + length]


MADE_UP_LENGTHS = {"eddystone-uid": 0x15, "eddystone-etlm": 0x15}
"""Three entries carry the length octet of a plain TLM (0x11) before a longer frame; their authors' parser never looked at it. We
reject them, and read them once the octet is right."""


def test_frames_of_other_projects_are_read_as_their_authors_say() -> None:
    entries = real_data("captures", "frames.json")
    made_up = 0
    for entry in entries:
        advertisement = advertisement_of(bytes.fromhex(entry["hex"]))
        found = Decoder().decode(advertisement)
        name, expected = entry["format"], entry["expected"]
        if name in MADE_UP_LENGTHS and advertisement[7] == 0x11:
            assert found == Reject(name, "length"), entry["origin"]
            made_up += 1
            found = Decoder().decode(with_true_length(advertisement, MADE_UP_LENGTHS[name]))
        if entry["malformed"] and isinstance(found, Reject):
            assert found == Reject(name, "length"), entry["origin"]
            continue
        assert found is not None, entry["origin"]
        assert not isinstance(found, Reject), entry["origin"]
        assert format_of(found) == name, entry["origin"]
        for key, value in expected.items():
            assert asserted(found, key, value) in {None, value}, (entry["origin"], key)
    assert made_up == 3
    # One more is called malformed although its octets are those of a good entry: its test looked for another layout.
    malformed = [entry for entry in entries if entry["malformed"]]
    rejected = [entry for entry in malformed if isinstance(Decoder().decode(bytes.fromhex(entry["hex"])), Reject)]
    assert (len(malformed), len(rejected)) == (2, 1)
    assert {entry["hex"] for entry in malformed} - {entry["hex"] for entry in rejected} <= {
        entry["hex"] for entry in entries if not entry["malformed"]
    }


def asserted(found: Frame, key: str, value: object) -> object:
    """Our value for an author's, in the author's notation; ``None`` for what is not in the frame or a sensor's secret sauce."""
    if isinstance(found, IBeacon):
        of_beacon: dict[str, object] = {
            "uuid": str(UUID(bytes=found.uuid)) if "-" in str(value) else found.uuid.hex(),
            "major": found.major,
            "minor": found.minor,
            "tx_power": found.measured_power_dbm,
            "measured power": found.measured_power_dbm,
        }
        return of_beacon.get(key)
    if isinstance(found, EddystoneUrl | EddystoneEid) and key == "tx_power":
        return found.measured_power_dbm + eddystone.LOSS_TO_1_M_DB
    if isinstance(found, EddystoneUrl):
        # The recorded frame says ".com/"; its author's expectation is the whole URL.
        return found.url if key == "url" else None
    if isinstance(found, EddystoneEid):
        return found.eid.hex() if key == "eid" else None
    if isinstance(found, EddystoneEncryptedTlm):
        # beacontools reads the two numbers little-endian; the specification says big-endian, and to us they are octets.
        of_tlm: dict[str, object] = {
            "encrypted_data": found.encrypted.hex(),
            "salt": int.from_bytes(found.salt, "little"),
            "mic": int.from_bytes(found.integrity_check, "little"),
        }
        return of_tlm.get(key)
    return None


def test_recorded_tokens_are_read_and_written_in_every_form() -> None:
    vectors = real_data("shopper-token-vectors.json")
    assert vectors
    for vector in vectors:
        token = bytes.fromhex(vector["token"])
        in_u, in_s = bytes.fromhex(vector["ad_u"]), bytes.fromhex(vector["ad_s_fff0"])
        assert chain_decoder().decode(in_u) == ShopperToken("U", token, None)
        assert encode([structure_of(ShopperToken("U", token, None))]) == in_u
        found = chain_decoder().decode(in_s)
        assert isinstance(found, ShopperToken)
        assert (found.form, found.token) == ("S", token)
        assert encode([structure_of(found)]) == in_s
        in_m = b"\x15\xff\x34\x12" + in_s[4:]
        assert chain_decoder().decode(in_m) == ShopperToken("M", token, found.tx_power_dbm)
