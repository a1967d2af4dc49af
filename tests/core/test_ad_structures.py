"""AD structures: every octet is accounted for, and half a structure is never a whole one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ad_structures import FLAGS, MANUFACTURER_DATA, MAX_DATA, AdStructure, Truncated, encode, iterate

structures = st.lists(st.builds(AdStructure, st.integers(0, 255), st.binary(max_size=MAX_DATA)), max_size=6)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        pytest.param("", [], id="nothing"),
        pytest.param("00", [], id="only padding"),
        pytest.param("020106", [AdStructure(FLAGS, b"\x06")], id="flags"),
        pytest.param("01ff", [AdStructure(MANUFACTURER_DATA, b"")], id="type without data"),
        pytest.param("020106 00 03ff4c00", [AdStructure(FLAGS, b"\x06")], id="a zero length ends the data"),
        pytest.param("02", [Truncated(b"\x02")], id="length octet alone"),
        pytest.param("0201", [Truncated(b"\x02\x01")], id="type and no data"),
        pytest.param("020106 05ff4c00", [AdStructure(FLAGS, b"\x06"), Truncated(b"\x05\xff\x4c\x00")], id="last one truncated"),
        pytest.param("ff" * 255, [Truncated(b"\xff" * 255)], id="one octet short of the longest"),
        pytest.param("ff" * 256, [AdStructure(MANUFACTURER_DATA, b"\xff" * 254)], id="the longest"),
    ],
)
def test_payload_becomes_structures(payload: str, expected: list[AdStructure | Truncated]) -> None:
    assert list(iterate(bytes.fromhex(payload))) == expected


@pytest.mark.parametrize(("octets", "missing"), [("02", 2), ("0201", 1), ("05ff4c00", 2), ("ff", 255)])
def test_truncated_says_how_much_never_came(octets: str, missing: int) -> None:
    [last] = iterate(bytes.fromhex(octets))
    assert isinstance(last, Truncated)
    assert last.missing == missing


@pytest.mark.parametrize("structure", [AdStructure(256, b""), AdStructure(-1, b""), AdStructure(0xFF, bytes(255))])
def test_what_no_structure_can_hold_is_refused(structure: AdStructure) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the range of a byte has bytes()'s own message
        encode([structure])


@given(structures)
def test_decoding_undoes_encoding(given_structures: list[AdStructure]) -> None:
    assert list(iterate(encode(given_structures))) == given_structures


@given(structures, st.data())
def test_cutting_a_payload_never_changes_a_structure(given_structures: list[AdStructure], data: st.DataObject) -> None:
    payload = encode(given_structures)
    cut = data.draw(st.integers(0, len(payload)))
    found = list(iterate(payload[:cut]))
    whole = [structure for structure in found if isinstance(structure, AdStructure)]
    assert whole == given_structures[: len(whole)]
    assert len(found) - len(whole) == (len(encode(whole)) < cut)


@given(st.binary(max_size=300))
def test_any_bytes_are_legal_and_every_octet_is_accounted_for(payload: bytes) -> None:
    found = list(iterate(payload))
    accounted = b"".join(s.octets if isinstance(s, Truncated) else encode([s]) for s in found)
    assert payload.startswith(accounted)
    assert payload[len(accounted) :][:1] in {b"", b"\x00"}
    assert not any(isinstance(structure, Truncated) for structure in found[:-1])
