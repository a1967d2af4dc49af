"""The shopper token's arithmetic: agrees with independent vectors, and no changed bit gets through."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import token as shopper_token
from gateway.core.ad_structures import encode
from gateway.core.frames import Decoder, shopper
from gateway.core.model import ShopperToken
from gateway.core.token import (
    HINT_NONE,
    Subkeys,
    TokenPayload,
    bucket_of_rssi,
    day_of,
    derive_day_key,
    derive_pseudonym,
    derive_subkeys,
    ephemeral_identifier,
    hkdf_sha256,
    open_token,
    pack_payload,
    rssi_of_bucket,
    seal_token,
    slot_of,
    unpack_payload,
    window_of,
)

KU = bytes(range(32))
STORE = 4711
UNIX_S = 1790000437
PAYLOAD = TokenPayload(flags=3, slot=5, bucket=9, hint=258)

uint32 = st.integers(0, 2**32 - 1)
keys = st.binary(min_size=16, max_size=16)
subkeys = st.builds(Subkeys, keys, keys, keys)
payloads = st.builds(TokenPayload, st.integers(0, 63), st.integers(0, 15), st.integers(0, 15), st.integers(0, 0xFFFE))


# ---- vectors ------------------------------------------------------------------------------------------------------------------


def test_the_first_vector_of_the_specification() -> None:
    window = window_of(UNIX_S)
    day = day_of(window, 0)
    assert (day, window, slot_of(UNIX_S)) == (20717, 1988889, 5)
    day_key = derive_day_key(KU, STORE, day)
    assert day_key.hex() == "2301bd11115813859d6919babefe376c"
    sealed = seal_token(derive_subkeys(day_key), window, PAYLOAD)
    assert sealed.hex() == "8a4061daf88a329d6160529fbe31d8c5"
    assert open_token(derive_subkeys(day_key), window, sealed) == PAYLOAD


@pytest.mark.parametrize(
    ("key", "salt", "info", "length", "expected"),
    [
        pytest.param(
            "0b" * 22,
            "000102030405060708090a0b0c",
            "f0f1f2f3f4f5f6f7f8f9",
            42,
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
            id="case 1",
        ),
        pytest.param(
            bytes(range(0x50)).hex(),
            bytes(range(0x60, 0xB0)).hex(),
            bytes(range(0xB0, 0x100)).hex(),
            82,
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
            "cc30c58179ec3e87c14c01d5c1f3434f1d87",
            id="case 2",
        ),
        pytest.param(
            "0b" * 22,
            "",
            "",
            42,
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
            id="case 3",
        ),
    ],
)
def test_hkdf_agrees_with_rfc_5869_appendix_a(key: str, salt: str, info: str, length: int, expected: str) -> None:
    assert hkdf_sha256(bytes.fromhex(key), bytes.fromhex(salt), bytes.fromhex(info), length).hex() == expected


def published_vectors() -> list[dict[str, Any]]:
    folder = os.environ.get("GATEWAY_REAL_DATA")
    if not folder:
        pytest.skip(
            "set GATEWAY_REAL_DATA to the folder of recorded data; shopper-token-vectors.json comes with the token's text"
        )
    vectors: list[dict[str, Any]] = json.loads((Path(folder) / "shopper-token-vectors.json").read_text(encoding="utf-8"))
    return vectors


def test_every_published_vector_agrees_in_every_step() -> None:
    vectors = published_vectors()
    assert vectors
    decoder = Decoder(service_uuid16=0xFFF0)
    for vector in vectors:
        ku = bytes.fromhex(vector["ku"])
        window = window_of(vector["unix"])
        assert window == vector["window"]
        day = day_of(window, vector["day_start"])
        assert day == vector["day"]
        assert vector["slot"] in {slot_of(vector["unix"]), shopper_token.SLOT_NOT_REFRESHED}
        assert derive_pseudonym(ku, vector["store"], day).hex() == vector["rid"]
        day_key = derive_day_key(ku, vector["store"], day)
        assert day_key.hex() == vector["dk"]
        made = derive_subkeys(day_key)
        assert [key.hex() for key in made] == [vector["ek"], vector["mk"], vector["pk"]]
        assert ephemeral_identifier(made.ek, window).hex() == vector["eid"]
        payload = TokenPayload(vector["flags"], vector["slot"], vector["bucket"], vector["hint"])
        assert pack_payload(payload).hex() == vector["plain"]
        sealed = seal_token(made, window, payload)
        assert sealed.hex() == vector["token"]
        assert sealed[12:].hex() == vector["tag"]
        assert open_token(made, window, sealed) == payload
        assert encode([shopper.encode(ShopperToken("U", sealed, None))]).hex() == vector["ad_u"]
        assert decoder.decode(bytes.fromhex(vector["ad_u"])) == ShopperToken("U", sealed, None)
        assert encode([shopper.encode(ShopperToken("S", sealed, -59), service_uuid16=0xFFF0)]).hex() == vector["ad_s_fff0"]
        assert decoder.decode(bytes.fromhex(vector["ad_s_fff0"])) == ShopperToken("S", sealed, -59)


# ---- time ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unix_s", "window", "slot"),
    [(0, 0, 0), (59, 0, 0), (60, 0, 1), (899, 0, 14), (899.999, 0, 14), (900, 1, 0), (-1, -1, 14)],
)
def test_windows_and_slots_begin_sharply(unix_s: float, window: int, slot: int) -> None:
    assert (window_of(unix_s), slot_of(unix_s)) == (window, slot)


@pytest.mark.parametrize("day_start_s", [0, 10800, -18000])
def test_a_day_begins_when_the_store_says(day_start_s: int) -> None:
    first = window_of(20717 * 86400 + day_start_s)
    assert [day_of(window, day_start_s) for window in (first - 1, first, first + 95, first + 96)] == [20716, 20717, 20717, 20718]


# ---- keys ---------------------------------------------------------------------------------------------------------------------


def test_keys_differ_by_store_day_and_purpose() -> None:
    made = {
        derive_day_key(KU, STORE, 20717)[:8],
        derive_day_key(KU, STORE + 1, 20717)[:8],
        derive_day_key(KU, STORE, 20718)[:8],
        derive_pseudonym(KU, STORE, 20717),
        derive_pseudonym(KU, STORE + 1, 20717),
        derive_pseudonym(KU, STORE, 20718),
    }
    assert len(made) == 6


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_ku_of_the_wrong_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="KU has 32 bytes"):
        derive_day_key(bytes(size), STORE, 20717)
    with pytest.raises(ValueError, match="KU has 32 bytes"):
        derive_pseudonym(bytes(size), STORE, 20717)


@pytest.mark.parametrize("size", [0, 15, 17])
def test_a_day_key_of_the_wrong_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        derive_subkeys(bytes(size))


@pytest.mark.parametrize("length", [0, -1, 8161])
def test_hkdf_refuses_lengths_it_cannot_give(length: int) -> None:
    with pytest.raises(ValueError, match="8160"):
        hkdf_sha256(KU, b"", b"", length)


@pytest.mark.parametrize("window", [-1, 2**32])
def test_a_window_outside_32_bits_is_a_mistake(window: int) -> None:
    with pytest.raises(OverflowError):
        ephemeral_identifier(bytes(16), window)


# ---- token --------------------------------------------------------------------------------------------------------------------


@given(subkeys, uint32, payloads)
def test_opening_undoes_sealing(made: Subkeys, window: int, payload: TokenPayload) -> None:
    sealed = seal_token(made, window, payload)
    assert len(sealed) == 16
    assert sealed.startswith(ephemeral_identifier(made.ek, window))
    assert open_token(made, window, sealed) == payload


@pytest.mark.parametrize("bit", range(128))
def test_no_changed_bit_gets_through(bit: int) -> None:
    made = derive_subkeys(derive_day_key(KU, STORE, 20717))
    sealed = seal_token(made, 1988889, PAYLOAD)
    forged = (int.from_bytes(sealed, "big") ^ 1 << bit).to_bytes(16, "big")
    assert open_token(made, 1988889, forged) is None


def test_a_token_opens_only_in_its_store_day_and_window() -> None:
    made = derive_subkeys(derive_day_key(KU, STORE, 20717))
    sealed = seal_token(made, 1988889, PAYLOAD)
    assert open_token(made, 1988888, sealed) is None
    assert open_token(made, 1988890, sealed) is None
    assert open_token(derive_subkeys(derive_day_key(KU, STORE, 20718)), 1988889, sealed) is None
    assert open_token(derive_subkeys(derive_day_key(KU, STORE + 1, 20717)), 1988889, sealed) is None


@given(st.binary(max_size=40))
def test_any_bytes_can_be_offered_as_a_token(octets: bytes) -> None:
    made = Subkeys(bytes(16), bytes(16), bytes(16))
    opened = open_token(made, 0, octets)
    assert opened is None or seal_token(made, 0, opened)[12:] == octets[12:]


def test_a_good_tag_over_another_version_tells_nothing() -> None:
    made = Subkeys(bytes(16), bytes(16), bytes(16))
    for plain, opened in ((bytes.fromhex("43590102"), PAYLOAD), (bytes.fromhex("83590102"), None)):
        eid = ephemeral_identifier(made.ek, 7)
        tag = shopper_token._tag(made.mk, 7, eid, plain)
        assert open_token(made, 7, eid + shopper_token._masked(made.pk, eid, tag, plain) + tag) == opened


# ---- payload ------------------------------------------------------------------------------------------------------------------


@given(payloads)
def test_unpacking_undoes_packing(payload: TokenPayload) -> None:
    assert unpack_payload(pack_payload(payload)) == payload


@given(st.binary(max_size=6))
def test_any_bytes_can_be_offered_as_a_payload(plain: bytes) -> None:
    payload = unpack_payload(plain)
    if payload is None:
        assert len(plain) != 4 or plain[0] >> 6 != 1
    elif payload.hint == HINT_NONE:
        assert pack_payload(payload)[:2] == plain[:2]
        assert plain[2:] in {b"\x00\x00", b"\xff\xff"}
    else:
        assert pack_payload(payload) == plain


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(PAYLOAD._replace(flags=64), id="flags"),
        pytest.param(PAYLOAD._replace(slot=16), id="slot"),
        pytest.param(PAYLOAD._replace(bucket=16), id="bucket"),
        pytest.param(PAYLOAD._replace(hint=0xFFFF), id="reserved hint"),
        pytest.param(PAYLOAD._replace(hint=-1), id="negative hint"),
    ],
)
def test_a_payload_out_of_range_is_refused(payload: TokenPayload) -> None:
    with pytest.raises(ValueError, match="out of range"):
        pack_payload(payload)


def test_the_reserved_hint_is_read_as_none() -> None:
    assert unpack_payload(bytes.fromhex("4359ffff")) == PAYLOAD._replace(hint=HINT_NONE)


@pytest.mark.parametrize(
    ("rssi_dbm", "bucket"),
    [(-128, 0), (-100.1, 0), (-100, 0), (-96.1, 0), (-96, 1), (-64, 9), (-61, 9), (-60, 10), (-40, 15), (20, 15)],
)
def test_rssi_falls_into_its_bucket(rssi_dbm: float, bucket: int) -> None:
    assert bucket_of_rssi(rssi_dbm) == bucket


@pytest.mark.parametrize("bucket", range(16))
def test_a_buckets_rssi_falls_into_it_again(bucket: int) -> None:
    assert bucket_of_rssi(rssi_of_bucket(bucket)) == bucket


@given(st.floats(-100, -36, exclude_max=True))
def test_a_buckets_rssi_is_within_2_db(rssi_dbm: float) -> None:
    assert abs(rssi_of_bucket(bucket_of_rssi(rssi_dbm)) - rssi_dbm) <= 2
