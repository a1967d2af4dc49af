"""Catalogue and roster documents, and how a roster is put together from its parts."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.contract import strict_json
from gateway.contract.downlinks import (
    MAX_RECORDS_PER_CHUNK,
    MAX_SHOPPERS,
    RECORD_BYTES,
    Catalogue,
    RosterChunk,
    RosterDelta,
    RosterManifest,
    pack_records,
    records_from_base64,
    sha256_hex,
    split_roster,
    to_base64,
    unpack_records,
)
from gateway.contract.fields import QuietHoursEntry, explain
from gateway.contract.roster_assembly import RosterAssembly
from gateway.core.model import Consent, QuietHours, RosterEntry
from gateway.errors import Untrusted

DAY, NOT_AFTER = 20717, 1_790_100_000_000
PROMOTION = {"promotion_id": "bread", "long_title": {"en": "Bread"}, "zones": ["bakery"]}

ENTRIES = st.lists(
    st.builds(
        RosterEntry,
        st.binary(min_size=8, max_size=8),
        st.binary(min_size=16, max_size=16),
        st.sampled_from([Consent(bits) for bits in range(4)]),
    ),
    max_size=30,
)


def entry(number: int) -> RosterEntry:
    return RosterEntry(number.to_bytes(8, "big"), number.to_bytes(16, "big"), Consent(number % 4))


def split(entries: list[RosterEntry], version: int = 1, day: int = DAY) -> tuple[RosterManifest, list[RosterChunk]]:
    return split_roster(entries, store="demo", day=day, version=version, not_after=NOT_AFTER)


# ---- documents ----------------------------------------------------------------------------------------------------------------


@given(ENTRIES)
def test_records_are_read_back_as_they_were_packed(entries: list[RosterEntry]) -> None:
    raw = pack_records(entries)
    assert len(raw) == RECORD_BYTES * len(entries)
    assert unpack_records(records_from_base64(to_base64(raw))) == entries


@given(st.binary(max_size=200))
def test_any_bytes_are_whole_records_or_refused(raw: bytes) -> None:
    if len(raw) % RECORD_BYTES:
        with pytest.raises(ValueError, match="no whole number of 25-byte records"):
            unpack_records(raw)
    else:
        assert len(unpack_records(raw)) == len(raw) // RECORD_BYTES


def test_consent_bits_of_a_later_version_are_ignored() -> None:
    assert unpack_records(bytes(24) + b"\xff")[0].consent == Consent.OFFERS | Consent.ANALYTICS


@pytest.mark.parametrize("text", ["A", "AA=A", "A===", "A A=", "=="])
def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        records_from_base64(text)


def documents() -> Iterator[Catalogue | RosterManifest | RosterChunk | RosterDelta]:
    yield Catalogue.model_validate(
        {
            "store": "demo",
            "version": 3,
            "not_after": NOT_AFTER,
            "promotions": [PROMOTION, {**PROMOTION, "promotion_id": "b", "windows": [{"start": "17:00"}]}],
            "quiet_hours": {"start": "22:00", "end": "06:00"},
        }
    )
    yield Catalogue(store="demo", version=1, not_after=NOT_AFTER, promotions=())
    manifest, chunks = split([entry(number) for number in range(3)])
    yield manifest
    yield from chunks
    yield RosterDelta(
        store="demo",
        version=2,
        previous=1,
        not_after=NOT_AFTER,
        day=DAY,
        upserts=to_base64(pack_records([entry(9)])),
        removals=("0011223344556677",),
    )


@pytest.mark.parametrize("document", list(documents()), ids=lambda document: document.type)
def test_a_document_is_read_back_as_it_was_signed(document: Catalogue | RosterManifest | RosterChunk | RosterDelta) -> None:
    raw = document.to_bytes()
    assert type(document).model_validate(strict_json.parse(raw, "test")) == document
    assert type(document).model_validate(strict_json.parse(raw, "test")).to_bytes() == raw
    # What a signature has to bind is inside of what is signed.
    assert {"type", "store", "version", "not_after"} <= strict_json.parse(raw, "test").keys()


def test_a_catalogue_cannot_hold_two_promotions_of_one_id() -> None:
    with pytest.raises(ValidationError) as caught:
        Catalogue.model_validate({"store": "demo", "version": 1, "not_after": NOT_AFTER, "promotions": [PROMOTION, PROMOTION]})
    assert "promotion_id bread occurs twice" in explain(caught.value)


@pytest.mark.parametrize("version", [0, -1, 2**53, 10**30])
def test_a_version_is_a_number_that_can_be_stored(version: int) -> None:
    with pytest.raises(ValidationError):
        Catalogue(store="demo", version=version, not_after=NOT_AFTER, promotions=())


def test_quiet_hours_are_minutes_after_midnight() -> None:
    assert QuietHoursEntry(start="22:00", end="06:30").compiled() == QuietHours(1320, 390)


def test_a_roster_is_split_into_chunks_of_ten_thousand() -> None:
    manifest, chunks = split([entry(number) for number in range(MAX_RECORDS_PER_CHUNK + 1)])
    assert manifest.count == MAX_RECORDS_PER_CHUNK + 1
    sizes = [len(records_from_base64(chunk.records)) // RECORD_BYTES for chunk in chunks]
    assert sizes == [MAX_RECORDS_PER_CHUNK, 1]
    assert [chunk.index for chunk in chunks] == [0, 1]
    assert manifest.chunks == tuple(sha256_hex(records_from_base64(chunk.records)) for chunk in chunks)


def test_an_empty_roster_has_no_chunks() -> None:
    manifest, chunks = split([])
    assert (manifest.count, manifest.chunks, chunks) == (0, (), [])


def test_fifty_thousand_shoppers_are_the_limit() -> None:
    everybody = [entry(0)] * (MAX_SHOPPERS + 1)
    manifest, chunks = split(everybody[:-1])
    assert (manifest.count, len(chunks)) == (50_000, 5)
    assert all(len(chunk.to_bytes()) * 4 / 3 < strict_json.MAX_BYTES for chunk in chunks)
    with pytest.raises(ValueError, match="50001 shoppers are more than the 50000"):
        split(everybody)
    with pytest.raises(ValidationError):
        manifest.model_validate({**manifest.model_dump(), "count": MAX_SHOPPERS + 1})


# ---- assembly -----------------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 25_000), st.randoms(use_true_random=False))
def test_a_roster_is_whole_when_its_last_part_has_come_in_any_order(count: int, rng: random.Random) -> None:
    entries = [entry(number) for number in range(count)]
    manifest, chunks = split(entries)
    parts: list[RosterManifest | RosterChunk] = [manifest, *chunks]
    rng.shuffle(parts)
    assembly = RosterAssembly()
    results = [add(assembly, part) for part in parts]
    assert results[:-1] == [None] * len(chunks)
    assert results[-1] == (manifest, entries)


def add(assembly: RosterAssembly, part: RosterManifest | RosterChunk) -> tuple[RosterManifest, list[RosterEntry]] | None:
    return assembly.add_manifest(part) if isinstance(part, RosterManifest) else assembly.add_chunk(part)


@given(ENTRIES.filter(bool), st.data())
def test_a_chunk_with_a_wrong_hash_never_comes_into_force(entries: list[RosterEntry], data: st.DataObject) -> None:
    manifest, (chunk,) = split(entries)
    raw = bytearray(records_from_base64(chunk.records))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    wrong = chunk.model_copy(update={"records": to_base64(bytes(raw))})
    assembly = RosterAssembly()
    assert assembly.add_manifest(manifest) is None
    assert assembly.add_chunk(wrong) is None
    assert assembly.add_manifest(manifest) is None
    # The right one still does.
    assert assembly.add_chunk(chunk) == (manifest, entries)


def test_two_days_and_two_versions_do_not_mix() -> None:
    assembly = RosterAssembly()
    today, today_chunks = split([entry(1)])
    newer, newer_chunks = split([entry(2)], version=2)
    tomorrow, tomorrow_chunks = split([entry(3)], day=DAY + 1)
    assert assembly.add_manifest(today) is None
    assert assembly.add_chunk(tomorrow_chunks[0]) is None
    assert assembly.add_chunk(newer_chunks[0]) is None
    assert assembly.add_manifest(newer) == (newer, [entry(2)])
    assert assembly.add_chunk(today_chunks[0]) is None
    assert assembly.add_manifest(tomorrow) == (tomorrow, [entry(3)])


def test_a_manifest_that_promises_another_number_is_refused() -> None:
    manifest, (chunk,) = split([entry(1), entry(2)])
    assembly = RosterAssembly()
    assembly.add_chunk(chunk)
    with pytest.raises(Untrusted, match="promises 3 shoppers and holds 2"):
        assembly.add_manifest(manifest.model_copy(update={"count": 3}))


def test_records_that_are_none_are_refused() -> None:
    manifest, (chunk,) = split([entry(1)])
    assembly = RosterAssembly()
    with pytest.raises(Untrusted, match="holds no records"):
        assembly.add_chunk(chunk.model_copy(update={"records": "A"}))
    crooked = chunk.model_copy(update={"records": to_base64(bytes(24))})
    assembly.add_manifest(manifest.model_copy(update={"chunks": (sha256_hex(bytes(24)),)}))
    with pytest.raises(Untrusted, match="no whole number of 25-byte records"):
        assembly.add_chunk(crooked)


def test_a_chunk_larger_than_allowed_never_comes_into_force() -> None:
    raw = bytes(RECORD_BYTES * (MAX_RECORDS_PER_CHUNK + 1))
    manifest, _ = split([])
    assembly = RosterAssembly()
    chunk = RosterChunk(store="demo", version=1, not_after=NOT_AFTER, day=DAY, index=0, records=to_base64(raw))
    assert assembly.add_chunk(chunk) is None
    large = manifest.model_copy(update={"count": MAX_RECORDS_PER_CHUNK + 1, "chunks": (sha256_hex(raw),)})
    assert assembly.add_manifest(large) is None


def test_chunks_that_nobody_asked_for_do_not_pile_up() -> None:
    assembly = RosterAssembly()
    _, (chunk,) = split([entry(1)])
    for index in range(1000):
        assert assembly.add_chunk(chunk.model_copy(update={"index": index})) is None
    assert len(assembly._chunks) <= 64
    # And a real roster still comes together.
    manifest, (first,) = split([entry(2)])
    assembly.add_manifest(manifest)
    assert assembly.add_chunk(first) == (manifest, [entry(2)])
