"""Manifest and chunks in any order → a whole roster, in force only when every chunk matches its hash."""

from gateway.contract.downlinks import (
    MAX_RECORDS_PER_CHUNK,
    RosterChunk,
    RosterManifest,
    records_from_base64,
    sha256_hex,
    unpack_records,
)
from gateway.core.model import RosterEntry
from gateway.errors import Untrusted

_MAX_CHUNKS = 64
"""Waiting chunks of all days together: 7 days of 50,000 shoppers need 35."""


class RosterAssembly:
    """Collects the verified parts of several days."""

    def __init__(self) -> None:
        self._manifests: dict[int, RosterManifest] = {}
        self._chunks: dict[tuple[int, int], bytes] = {}

    def add_manifest(self, manifest: RosterManifest) -> tuple[RosterManifest, list[RosterEntry]] | None:
        """Take a manifest; the roster, if it is whole now."""
        self._manifests[manifest.day] = manifest
        return self._whole(manifest.day)

    def add_chunk(self, chunk: RosterChunk) -> tuple[RosterManifest, list[RosterEntry]] | None:
        """Take a chunk; the roster, if it is whole now. ``Untrusted`` for records that are none."""
        try:
            self._chunks[chunk.day, chunk.index] = records_from_base64(chunk.records)
        except ValueError as error:
            raise Untrusted(f"holds no records ({error}).", where="roster chunk") from error
        while len(self._chunks) > _MAX_CHUNKS:
            del self._chunks[next(iter(self._chunks))]
        return self._whole(chunk.day)

    def _whole(self, day: int) -> tuple[RosterManifest, list[RosterEntry]] | None:
        manifest = self._manifests.get(day)
        if manifest is None:
            return None
        parts = [self._chunks.get((day, index), b"") for index in range(len(manifest.chunks))]
        if any(len(p) > 25 * MAX_RECORDS_PER_CHUNK or sha256_hex(p) != h for p, h in zip(parts, manifest.chunks, strict=True)):
            return None
        try:
            entries = [entry for part in parts for entry in unpack_records(part)]
        except ValueError as error:
            raise Untrusted(f"holds no records ({error}).", where="roster") from error
        if len(entries) != manifest.count:
            raise Untrusted(f"promises {manifest.count} shoppers and holds {len(entries)}.", where="roster")
        del self._manifests[day]
        for index in range(len(manifest.chunks)):
            del self._chunks[day, index]
        return manifest, entries
