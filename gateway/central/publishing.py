"""Signed downlinks: the catalogue whole, the roster as manifest and chunks, check-ins and opt-outs at once as deltas."""

from dataclasses import dataclass, field, replace

from sqlite_utils import Database

from gateway.central import pieces, records
from gateway.central.contexts import SOURCE
from gateway.contract.downlinks import (
    MAX_RECORDS_PER_CHUNK,
    MAX_SHOPPERS,
    Catalogue,
    RosterDelta,
    SignedMessage,
    pack_records,
    split_roster,
    to_base64,
)
from gateway.contract.promotions import Promotion
from gateway.contract.settings import CentralStore
from gateway.contract.topics import StoreTopics
from gateway.core.model import Consent, RosterEntry
from gateway.core.token import WINDOW_S, day_of, derive_day_key, derive_pseudonym
from gateway.io.broker import Publication
from gateway.io.signing import Signer

_DAY_MS = 24 * 3600 * 1000
_CATALOGUE_LIFE_MS = 7 * _DAY_MS
_MAX_CHUNKS = -(-MAX_SHOPPERS // MAX_RECORDS_PER_CHUNK)
_ROSTER_GRACE_MS = 2 * 3600 * 1000
_MAX_DELTA = 500
"""More changes than this at once go out as a new manifest."""
_SETTLE_MS = 5_000
"""A manifest follows its deltas this much later, so that a gateway that missed one catches up."""


@dataclass(slots=True)
class _Day:
    """The roster of one day as it was last sent."""

    version: int
    entries: dict[str, RosterEntry]
    manifest_due_ms: int | None = None
    chunks: int = 0


@dataclass(slots=True)
class StorePublisher:
    """What one store has been told, and what it must be told now."""

    store: str
    settings: CentralStore
    roster_days: int
    signer: Signer
    _days: dict[int, _Day] = field(default_factory=dict)
    _catalogue: tuple[str, int] | None = None
    """(promotions as text, when signed) of the catalogue in force."""
    _counted: tuple[Promotion, ...] = ()
    """Promotions of which there are only so many."""
    _sold_out: tuple[str, ...] = ()
    _keys: dict[tuple[bytes, int], RosterEntry] = field(default_factory=dict)

    def is_due(self, now_ms: int) -> bool:
        """Whether the calendar alone is a reason to look: a new day, a catalogue to sign again, a manifest after its deltas."""
        return (
            self._catalogue is None
            or now_ms - self._catalogue[1] >= _DAY_MS
            or min(self._days, default=-1) != self._today(now_ms)
            or any(day.manifest_due_ms is not None and now_ms >= day.manifest_due_ms for day in self._days.values())
        )

    def runs_out(self, db: Database, now_ms: int) -> bool:
        """Whether the last piece of something has gone, or one has come back, since the catalogue was signed."""
        return pieces.sold_out(db, self.store, self._counted, now_ms) != self._sold_out

    def _today(self, now_ms: int) -> int:
        return day_of(now_ms // 1000 // WINDOW_S, self.settings.day_start_s)

    def catalogue(self, db: Database, now_ms: int) -> list[Publication]:
        """The catalogue, when it has changed or is a day old."""
        promotions = records.promotions(db, self.store)
        self._counted = tuple(p for p in promotions if p.quantity is not None or p.quantity_per_store is not None)
        self._sold_out = pieces.sold_out(db, self.store, self._counted, now_ms)
        text = repr((promotions, self._sold_out))
        if self._catalogue is not None and self._catalogue[0] == text and now_ms - self._catalogue[1] < _DAY_MS:
            return []
        document = Catalogue(
            store=self.store,
            version=records.next_version(db, f"catalogue/{self.store}"),
            not_after=now_ms + _CATALOGUE_LIFE_MS,
            promotions=promotions,
            quiet_hours=self.settings.quiet_hours,
            sold_out=self._sold_out,
        )
        self._catalogue = (text, now_ms)
        envelope = self.signer.seal(document, source=SOURCE, time_ms=now_ms)
        return [Publication.of(self._topics.catalogue, envelope, now_ms=now_ms, retain=True)]

    def roster(self, db: Database, now_ms: int) -> list[Publication]:
        """Everything that has to be said about the rosters of today and the days after."""
        today = self._today(now_ms)
        members = records.members(db, self.store)
        out: list[Publication] = []
        for day in range(today, today + self.roster_days):
            wanted = {entry.rid.hex(): entry for entry in (self._entry(ku, consent, day) for _, ku, consent in members)}
            known = self._days.get(day)
            if known is None or known.entries != wanted:
                pseudonyms = [(self._entry(ku, consent, day).rid.hex(), inbox) for inbox, ku, consent in members]
                records.name_pseudonyms(db, self.store, day, pseudonyms)
                out += self._changes(db, day, known, wanted, now_ms)
            elif known.manifest_due_ms is not None and now_ms >= known.manifest_due_ms:
                out += self._manifest(day, known, now_ms)
        for past in [day for day in self._days if day < today]:
            out += self._clear(past)
        records.forget_pseudonyms(db, self.store, today - 1)
        self._keys = {key: entry for key, entry in self._keys.items() if key[1] >= today}
        return out

    def _changes(
        self, db: Database, day: int, known: _Day | None, wanted: dict[str, RosterEntry], now_ms: int
    ) -> list[Publication]:
        version = records.next_version(db, f"roster/{self.store}/{day}")
        if known is None:
            # A life before this one may have left more chunks on the broker than there are now.
            self._days[day] = known = _Day(version, wanted, chunks=_MAX_CHUNKS)
            return self._manifest(day, known, now_ms)
        removals = [rid for rid in known.entries if rid not in wanted]
        upserts = [entry for rid, entry in wanted.items() if known.entries.get(rid) != entry]
        previous, known.version, known.entries = known.version, version, wanted
        if len(removals) + len(upserts) > _MAX_DELTA:
            return self._manifest(day, known, now_ms)
        known.manifest_due_ms = now_ms + _SETTLE_MS
        delta = RosterDelta(
            store=self.store,
            version=version,
            previous=previous,
            not_after=self._not_after(day),
            day=day,
            upserts=to_base64(pack_records(upserts)),
            removals=tuple(removals),
        )
        envelope = self.signer.seal(delta, source=SOURCE, time_ms=now_ms)
        return [self._of_day(self._topics.roster_delta, envelope, day, now_ms, retain=False)]

    def _manifest(self, day: int, known: _Day, now_ms: int) -> list[Publication]:
        known.manifest_due_ms = None
        manifest, chunks = split_roster(
            list(known.entries.values()), store=self.store, day=day, version=known.version, not_after=self._not_after(day)
        )
        seal = self.signer.seal
        out = [self._of_day(self._topics.roster_manifest(day), seal(manifest, source=SOURCE, time_ms=now_ms), day, now_ms)]
        for chunk in chunks:
            topic = self._topics.roster_chunk(day, chunk.index)
            out.append(self._of_day(topic, seal(chunk, source=SOURCE, time_ms=now_ms), day, now_ms))
        out += [
            Publication(self._topics.roster_chunk(day, index), b"", retain=True) for index in range(len(chunks), known.chunks)
        ]
        known.chunks = len(chunks)
        return out

    def _clear(self, day: int) -> list[Publication]:
        """Take a past day's retained messages away from the broker."""
        known = self._days.pop(day)
        topics = [self._topics.roster_manifest(day), *(self._topics.roster_chunk(day, i) for i in range(known.chunks))]
        return [Publication(topic, b"", retain=True) for topic in topics]

    def _entry(self, ku: bytes, consent: Consent, day: int) -> RosterEntry:
        entry = self._keys.get((ku, day))
        if entry is None or entry.consent != consent:
            number = self.settings.store_number
            entry = RosterEntry(derive_pseudonym(ku, number, day), derive_day_key(ku, number, day), consent)
            self._keys[ku, day] = entry
        return entry

    def _not_after(self, day: int) -> int:
        return (day + 1) * _DAY_MS + self.settings.day_start_s * 1000 + _ROSTER_GRACE_MS

    def _of_day(self, topic: str, envelope: SignedMessage, day: int, now_ms: int, *, retain: bool = True) -> Publication:
        """A part of a day's roster: the broker, too, forgets it when it is over (MQTT 5), whoever may have died meanwhile."""
        publication = Publication.of(topic, envelope, now_ms=now_ms, retain=retain)
        return replace(publication, expiry_s=max(1, (self._not_after(day) - now_ms) // 1000))

    @property
    def _topics(self) -> StoreTopics:
        return StoreTopics(self.store, SOURCE)
