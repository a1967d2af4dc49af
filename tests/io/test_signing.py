"""Signed downlinks: what central seals a gateway opens, and nothing else."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract import strict_json
from gateway.contract.downlinks import DOMAIN_TAG, Catalogue, RosterManifest, SignedMessage, to_base64
from gateway.errors import ConfigurationError, DiskError, Untrusted
from gateway.io.signing import Signer, Verifier, Verify, key_id, verify_of_cryptography, verify_of_libcrypto

NOW_MS = 1_790_000_000_000
SIGNER, NEXT, STRANGER = Signer(bytes(32)), Signer(b"\1" * 32), Signer(b"\2" * 32)


def catalogue(**changes: Any) -> Catalogue:
    return Catalogue.model_validate(
        {
            "store": "demo",
            "version": 3,
            "not_after": NOW_MS + 1000,
            "promotions": [{"promotion_id": "bread", "long_title": {"en": "Bread"}, "zones": ["bakery"]}],
            **changes,
        }
    )


def sealed(document: Catalogue | None = None, signer: Signer = SIGNER) -> bytes:
    return signer.seal(document or catalogue(), source="central", time_ms=NOW_MS).to_json()


def verifier(*signers: Signer, store: str = "demo") -> Verifier:
    return Verifier(tuple(signer.public_key for signer in signers or (SIGNER,)), store)


def opened(payload: bytes, now_ms: int = NOW_MS) -> Catalogue:
    return verifier().open(payload, Catalogue, where="catalogue", now_ms=now_ms)


def test_what_was_sealed_is_opened() -> None:
    assert opened(sealed()) == catalogue()


@pytest.mark.parametrize("signer", [SIGNER, NEXT])
def test_both_pinned_keys_are_good(signer: Signer) -> None:
    assert verifier(SIGNER, NEXT).open(sealed(signer=signer), Catalogue, where="catalogue", now_ms=NOW_MS) == catalogue()


def test_a_key_is_named_by_its_digest() -> None:
    assert SIGNER.key_id == key_id(SIGNER.public_key)
    assert len({SIGNER.key_id, NEXT.key_id, STRANGER.key_id}) == 3
    assert json.loads(sealed())["keyid"] == SIGNER.key_id


def envelope(**changes: Any) -> bytes:
    return json.dumps({**json.loads(sealed()), **changes}).encode()


def signed_raw(raw: bytes, tag: bytes = DOMAIN_TAG) -> bytes:
    return envelope(data_base64=to_base64(raw), signature=to_base64(SIGNER._key.sign(tag + raw)))


@pytest.mark.parametrize(
    ("payload", "what"),
    [
        (sealed(signer=STRANGER), "is signed with a key that is not pinned. Compare trust.public_keys with central's."),
        (envelope(keyid=STRANGER.key_id), "is signed with a key that is not pinned"),
        (sealed(signer=NEXT).replace(NEXT.key_id.encode(), SIGNER.key_id.encode()), "has a wrong signature"),
        (sealed(catalogue(store="other")), "is signed for another store"),
        (sealed(catalogue(not_after=NOW_MS - 1)), "has expired"),
        (envelope(signature=""), "has a wrong signature"),
        (envelope(signature="AAAA"), "has a wrong signature"),
        (envelope(signature="A"), "has a wrong signature"),
        (envelope(data_base64="A"), "has a wrong signature"),
        (envelope(data_base64="e30="), "has a wrong signature"),
        (signed_raw(catalogue().to_bytes(), tag=b""), "has a wrong signature"),
        (signed_raw(catalogue().to_bytes(), tag=b"beacon-gateway/2\0"), "has a wrong signature"),
        (signed_raw(b"{}"), "store: is missing"),
        (signed_raw(b"not JSON"), "not strict JSON"),
        (signed_raw(catalogue().to_bytes().replace(b'"version":3', b'"version":0')), "version: "),
        (signed_raw(catalogue().to_bytes().replace(b'"version":3', b'"version":3,"version":4')), "a key occurs twice"),
        (signed_raw(b'{"a":' * 1000), "nested deeper than 16"),
        (
            SIGNER.seal(
                RosterManifest(store="demo", version=1, not_after=NOW_MS + 1, day=1, count=0, chunks=()), source="c", time_ms=0
            ).to_json(),
            "promotions: is missing",
        ),
        (catalogue().to_bytes(), "is missing"),
        (b"", "not strict JSON"),
        (sealed()[:-1], "not strict JSON"),
        (sealed()[: len(sealed()) // 2], "not strict JSON"),
        (sealed() + b"x", "not strict JSON"),
        (b"x" * (1024 * 1024 + 1), "bytes are more than"),
    ],
)
def test_anything_else_is_untrusted_and_says_why(payload: bytes, what: str) -> None:
    with pytest.raises(Untrusted) as caught:
        opened(payload)
    assert str(caught.value).startswith("catalogue: ")
    assert what in str(caught.value)


def test_a_document_is_good_until_its_last_millisecond() -> None:
    assert opened(sealed(), now_ms=NOW_MS + 1000) == catalogue()
    with pytest.raises(Untrusted, match="has expired"):
        opened(sealed(), now_ms=NOW_MS + 1001)


def test_without_a_pinned_key_nothing_is_accepted() -> None:
    with pytest.raises(Untrusted, match="not pinned"):
        Verifier((), "demo").open(sealed(), Catalogue, where="catalogue", now_ms=NOW_MS)


@given(st.data())
def test_a_byte_changed_anywhere_changes_nothing_or_is_refused(data: st.DataObject) -> None:
    """What is outside of the signature (id, time, source) may change; the document never does."""
    payload = bytearray(sealed())
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        document = opened(bytes(payload))
    except Untrusted:
        return
    assert document == catalogue()


@given(st.data())
def test_a_bit_changed_in_what_is_signed_is_always_refused(data: st.DataObject) -> None:
    message = json.loads(sealed())
    field = data.draw(st.sampled_from(["data_base64", "signature"]))
    raw = bytearray(base64.b64decode(message[field]))
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Untrusted, match="has a wrong signature"):
        opened(envelope(**{field: to_base64(bytes(raw))}))


def test_the_signature_comes_before_the_parser() -> None:
    """Bytes that would trouble a parser are not even looked at unless they are signed."""
    for bomb in (b"[" * 300_000, b'{"a":1,"a":2}', b"\xff" * 1000):
        with pytest.raises(Untrusted, match="has a wrong signature"):
            opened(envelope(data_base64=to_base64(bomb)))


def test_the_envelope_repeats_what_is_signed() -> None:
    message = SignedMessage.model_validate_json(sealed())
    inside = strict_json.parse(base64.b64decode(message.data_base64), "inside")
    assert (message.type, inside["type"]) == ("catalogue.v1", "catalogue.v1")
    assert inside["version"] == 3
    assert message.id.startswith("catalogue.v1-3-")


# ---- the private key ----------------------------------------------------------------------------------------------------------


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    first = Signer.from_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Signer.from_file(path).public_key == first.public_key
    assert Signer.from_file(tmp_path / "other.key").public_key != first.public_key


def test_a_key_is_private_whatever_the_mask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Signer.from_file(tmp_path / "signing.key")
    finally:
        os.umask(before)
    assert (tmp_path / "signing.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620])
def test_a_key_that_others_can_reach_ends_with_78(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "signing.key"
    Signer.from_file(path)
    path.chmod(mode)
    with pytest.raises(ConfigurationError) as caught:
        Signer.from_file(path)
    assert caught.value.exit_code == 78
    assert str(caught.value) == f"{path}: can be read by others. Type: chmod 600 {path}"


@pytest.mark.parametrize("content", [b"", b"xyz", b"00" * 31, b"00" * 33, b"\xff\xfe", "é".encode() * 64])
def test_what_is_no_key_ends_with_78_and_is_not_overwritten(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "signing.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError) as caught:
        Signer.from_file(path)
    assert caught.value.exit_code == 78
    assert "holds no Ed25519 key" in str(caught.value)
    assert path.read_bytes() == content


def test_the_folder_of_a_key_is_made_with_it_for_its_owner_alone(tmp_path: Path) -> None:
    Signer.from_file(tmp_path / "central" / "signing.key")
    assert (tmp_path / "central").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("path", ["/dev/null/central/signing.key", "/dev"])
def test_a_place_that_cannot_be_used_is_a_disk_error(path: str) -> None:
    with pytest.raises(DiskError) as caught:
        Signer.from_file(Path(path))
    assert caught.value.exit_code == 74
    assert "cannot be used" in str(caught.value)


# ---- the signature alone ------------------------------------------------------------------------------------------------------

LIBCRYPTO, CRYPTOGRAPHY = verify_of_libcrypto(), verify_of_cryptography()


@pytest.fixture(params=["libcrypto", "cryptography"])
def verify(request: pytest.FixtureRequest) -> Verify:
    found = LIBCRYPTO if request.param == "libcrypto" else CRYPTOGRAPHY
    if found is None:
        pytest.skip("the system has no libcrypto 3")
    return found


@pytest.mark.parametrize(
    ("public_key", "message", "signature"),
    [
        (
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            (
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a"
                "100b"
            ),
        ),
        (
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            (
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb"
                "0c00"
            ),
        ),
    ],
)
def test_published_signatures_are_right(verify: Verify, public_key: str, message: str, signature: str) -> None:
    """RFC 8032, section 7.1, tests 1 and 2."""
    assert verify(bytes.fromhex(public_key), bytes.fromhex(signature), bytes.fromhex(message))


@pytest.mark.parametrize("octets", [0, 31, 33])
def test_a_key_of_another_length_signs_nothing(verify: Verify, octets: int) -> None:
    assert not verify(bytes(octets), bytes(64), b"")


@pytest.mark.parametrize("octets", [0, 63, 65])
def test_a_signature_of_another_length_is_wrong(verify: Verify, octets: int) -> None:
    right = SIGNER._key.sign(b"")
    assert not verify(SIGNER.public_key, (right + bytes(1))[:octets], b"")


@pytest.mark.skipif(LIBCRYPTO is None, reason="the system has no libcrypto 3")
@given(st.binary(max_size=300), st.data())
def test_both_say_the_same_of_every_signature(message: bytes, data: st.DataObject) -> None:
    assert LIBCRYPTO is not None
    parts = [bytearray(SIGNER.public_key), bytearray(SIGNER._key.sign(message)), bytearray(message)]
    wrong = data.draw(st.sampled_from([part for part in parts if part] + [None]))
    if wrong is not None:
        bit = data.draw(st.integers(0, 8 * len(wrong) - 1))
        wrong[bit // 8] ^= 1 << bit % 8
    key, signature, said = map(bytes, parts)
    assert LIBCRYPTO(key, signature, said) == CRYPTOGRAPHY(key, signature, said) == (wrong is None)


@pytest.mark.parametrize("name", ["libcrypto.so.nobody", "libm.so.6"])
def test_without_libcrypto_there_is_no_function_of_it(name: str) -> None:
    assert verify_of_libcrypto(name) is None
