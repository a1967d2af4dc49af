"""What central sends down: verified, brought into force, and remembered so that a restart without network finds it again."""

import asyncio
import contextlib
import gc
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import ParamSpec, TypeVar

from gateway.contract.downlinks import (
    MAX_RECORDS_PER_CHUNK,
    MAX_SHOPPERS,
    Catalogue,
    RosterChunk,
    RosterDelta,
    RosterManifest,
    ShopperContext,
    records_from_base64,
    unpack_records,
)
from gateway.contract.roster_assembly import RosterAssembly
from gateway.contract.topics import StoreTopics
from gateway.core.identity import DayRoster, Window
from gateway.core.model import ClockQuality, RosterEntry
from gateway.core.offers import Catalogue as CompiledCatalogue
from gateway.core.pipeline import Pipeline
from gateway.errors import Untrusted
from gateway.io.clock import Clock, pause_thread_ms
from gateway.io.memory import give_back
from gateway.io.signing import Verifier
from gateway.io.store import Store

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

_MAX_WAITING_DELTAS = 256
_MAX_CHUNKS = -(-MAX_SHOPPERS // MAX_RECORDS_PER_CHUNK)
_ROSTERS = "roster/"
_CATALOGUE = "catalogue"
_SHOPPERS = "shopper/"
_DERIVED_AT_ONCE = 100
"""Shoppers whose keys or identifiers take up to a millisecond."""
_PAUSE_MS = 1
_GRACE_MS = 2 * 3600 * 1000


class Downlinks:
    """Catalogue, roster and shoppers' contexts of one store; of the latter nothing is ever kept on disk or named in a log."""

    def __init__(
        self, topics: StoreTopics, verifier: Verifier, pipeline: Pipeline, store: Store, clock: Clock, *, keeps_phones: bool
    ) -> None:
        """``keeps_phones``: whether rosters are taken; one that is remembered or still subscribed to is dropped otherwise."""
        self._prefix = topics.down
        self._verifier = verifier
        self._pipeline = pipeline
        self._store = store
        self._clock = clock
        self._keeps_phones = keeps_phones
        self._assembly = RosterAssembly()
        self._one_at_a_time = asyncio.Lock()
        self._catalogue_not_after_ms = 0
        self._left_out = False
        """Whether ``restore`` left something out that a right clock may find in order."""
        self._deltas: dict[tuple[int, int], RosterDelta] = {}
        """Deltas that wait for the version they build on, by day and that version."""
        self._whole: dict[int, int] = {}
        """By day, the version of the last roster that came whole, which is how it is remembered."""

    async def restore(self) -> None:
        """Bring back into force what the last process had; what has expired since is dropped.

        A clock that is not synchronised cannot tell what has expired: then it is only left out, and ``drop_past`` tries again.
        """
        unwanted, expired = [], []
        for name, payload in await self._store.snapshots():
            if name.startswith(_ROSTERS) and not self._keeps_phones:
                unwanted.append(name)
                continue
            try:
                async with self._one_at_a_time:
                    await self._take(name, payload, keep=False)
            except Untrusted as error:
                log.info("remembered downlink: %s", error)
                expired.append(name)
        believed = self._clock.quality() is not ClockQuality.UNSYNCHRONISED
        await self._store.drop_snapshots(unwanted + expired if believed else unwanted)
        self._left_out = bool(expired) and not believed

    async def catalogue(self) -> Catalogue | None:
        """The catalogue as it came, read back from the database: as a document it would be too large to keep in memory."""
        for name, payload in await self._store.snapshots(_CATALOGUE):
            with contextlib.suppress(Untrusted):
                return self._verifier.open(payload, Catalogue, where=name, now_ms=self._clock.now().wall_ms)
        return None

    @property
    def catalogue_not_after_ms(self) -> int:
        """When the catalogue in force expires."""
        return self._catalogue_not_after_ms

    async def take(self, topic: str, payload: bytes) -> None:
        """One message below the store's ``down/``; anything that cannot be trusted leaves the old one in force."""
        name = topic.removeprefix(self._prefix)
        if not payload or (name.startswith((_ROSTERS, _SHOPPERS)) and not self._keeps_phones):
            return
        try:
            async with self._one_at_a_time:
                await self._take(name, payload, keep=True)
        except Untrusted as error:
            log.warning("downlink refused: %s", error)

    async def _take(self, name: str, payload: bytes, *, keep: bool) -> None:
        now_ms = self._clock.now().wall_ms
        parts = name.split("/")
        if name == _CATALOGUE:
            catalogue = await _aside(self._verifier.open, payload, Catalogue, where=name, now_ms=now_ms)
            if await self._use_catalogue(catalogue) and keep:
                await self._store.keep_snapshot(name, catalogue.version, payload)
        elif parts[0] == "roster" and parts[-1] == "manifest":
            manifest = await _aside(self._verifier.open, payload, RosterManifest, where=name, now_ms=now_ms)
            if self._is_news(manifest.day, manifest.version, name):
                if keep:
                    await self._store.keep_snapshot(name, manifest.version, payload)
                await self._use_roster(await _aside(self._assembly.add_manifest, manifest))
        elif parts[:2] == ["roster", "delta"]:
            delta = self._verifier.open(payload, RosterDelta, where=name, now_ms=now_ms)
            await self._use_delta(delta, payload, keep=keep)
        elif parts[0] == "roster":
            chunk = await _aside(self._verifier.open, payload, RosterChunk, where=name, now_ms=now_ms)
            if self._is_news(chunk.day, chunk.version, name):
                if keep:
                    await self._store.keep_snapshot(name, chunk.version, payload)
                await self._use_roster(await _aside(self._assembly.add_chunk, chunk))
        elif parts[0] == "shopper":
            # The name holds a pseudonym.
            context = self._verifier.open(payload, ShopperContext, where="shopper context", now_ms=now_ms)
            if parts[1:] != [context.shopper]:
                raise Untrusted("came on the topic of another shopper.", where="shopper context")
            self._pipeline.use_context(context.shopper, context.version, context.compiled(), self._clock.now())
        else:
            raise Untrusted("is no downlink of this version.", where=name)

    async def _use_catalogue(self, document: Catalogue) -> bool:
        in_force = self._pipeline.catalogue
        if in_force is not None and document.version <= in_force.version:
            if document.version < in_force.version:
                raise Untrusted(f"is version {document.version}, older than {in_force.version} in force.", where="catalogue")
            return False
        compiled = await _aside(self._compile, document, self._clock.now().wall_ms)
        self._pipeline.use_catalogue(compiled)
        self._catalogue_not_after_ms = document.not_after
        log.info("catalogue version %d in force: %d promotions", document.version, len(document.promotions))
        await _settle()
        return True

    def _compile(self, document: Catalogue, wall_ms: int) -> CompiledCatalogue:
        quiet = None if document.quiet_hours is None else document.quiet_hours.compiled()
        promotions = [promotion.compiled() for promotion in document.promotions]
        return self._pipeline.compile_catalogue(document.version, promotions, quiet, wall_ms, sold_out=document.sold_out)

    def _is_news(self, day: int, version: int, where: str) -> bool:
        roster = self._pipeline.identity.roster(day)
        if roster is not None and version < roster.version:
            raise Untrusted(f"is version {version}, older than {roster.version} in force.", where=where)
        # The version in force may have come by delta: what is remembered still names those whom the delta removed.
        return roster is None or version > self._whole.get(day, 0)

    async def _use_roster(self, whole: tuple[RosterManifest, list[RosterEntry]] | None) -> None:
        if whole is None:
            return
        manifest, entries = whole
        identity = self._pipeline.identity
        windows = identity.windows_around(self._clock.now().wall_ms, manifest.day)
        before = identity.roster(manifest.day)
        roster = await _aside(_build, manifest, entries, windows, before)
        self._pipeline.use_roster(roster)
        self._whole[manifest.day] = manifest.version
        log.info("roster of day %d version %d in force: %d shoppers", manifest.day, manifest.version, len(entries))
        for day, previous in [key for key in self._deltas if key[0] == manifest.day and key[1] < manifest.version]:
            del self._deltas[day, previous]
        await _settle()
        await self._store.drop_snapshots_up_to(_delta_name(manifest.day), manifest.version)
        # A roster that has shrunk leaves chunks behind, and with them shoppers who are no longer in it.
        beyond = {_chunk_name(manifest.day, index) for index in range(len(manifest.chunks), _MAX_CHUNKS)}
        await self._store.drop_snapshots([name for name in await self._store.snapshot_names() if name in beyond])
        await self._store.scrub()
        await self._use_waiting(manifest.day)

    async def drop_past(self) -> None:
        """Put a catalogue out of force that has expired, and forget rosters whose day has been over for two hours.

        To be called only while the clock can be believed.
        """
        if self._left_out:
            await self.restore()
        if self._pipeline.catalogue is not None and self._clock.now().wall_ms > self._catalogue_not_after_ms:
            self._pipeline.use_catalogue(None)
            log.warning("the catalogue has expired: nothing is offered until central sends a new one")
        oldest = self._pipeline.identity.day_at(self._clock.now().wall_ms - _GRACE_MS)
        self._deltas = {key: delta for key, delta in self._deltas.items() if key[0] >= oldest}
        self._whole = {day: version for day, version in self._whole.items() if day >= oldest}
        past = [name for name in await self._store.snapshot_names() if (day := _day_of(name)) is not None and day < oldest]
        if past:
            await self._store.drop_snapshots(past)
            await self._store.scrub()

    async def _use_delta(self, delta: RosterDelta, payload: bytes, *, keep: bool) -> None:
        roster = self._pipeline.identity.roster(delta.day)
        if roster is not None and delta.version <= roster.version:
            return
        if keep:
            await self._store.keep_snapshot(_delta_name(delta.day, delta.version), delta.version, payload)
        follows = roster is not None and delta.previous == roster.version
        if follows or len(self._deltas) < _MAX_WAITING_DELTAS:
            self._deltas[delta.day, delta.previous] = delta
        else:
            log.warning("a roster delta is left out, because %d others wait; the next manifest has it", len(self._deltas))
        await self._use_waiting(delta.day)

    async def _use_waiting(self, day: int) -> None:
        """Apply deltas in order as far as they follow one another without a gap."""
        while (roster := self._pipeline.identity.roster(day)) is not None:
            delta = self._deltas.pop((day, roster.version), None)
            if delta is None:
                return
            try:
                entries = unpack_records(records_from_base64(delta.upserts))
            except ValueError as error:
                raise Untrusted(f"holds no records ({error}).", where="roster delta") from error
            self._pipeline.apply_roster_delta(day, delta.version, entries, delta.removals)
            log.info("roster of day %d version %d in force by delta", day, delta.version)


def _build(manifest: RosterManifest, entries: list[RosterEntry], windows: list[Window], before: DayRoster | None) -> DayRoster:
    roster = DayRoster(manifest.day, manifest.version, _giving_way(entries), (), before)
    for window in windows:
        roster.add_window(window, _giving_way(roster.shoppers.values()))
    return roster


def _giving_way(items: Iterable[T]) -> Iterator[T]:
    """The items, with a pause in which the event loop is sure to go on.

    Each key that is derived gives Python's lock away for microseconds: too short for the loop's thread to wake up and take it,
    but every time it begins anew to wait for it to be given up.
    """
    for number, item in enumerate(items):
        if number % _DERIVED_AT_ONCE == 0:
            pause_thread_ms(_PAUSE_MS)
        yield item


async def _aside(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Large documents are read in a thread, so that the event loop goes on hearing; it stops at most for one call into C.

    Without the garbage collector, which stops everything to go through the whole memory whenever much is made.
    """
    gc.disable()
    try:
        return await asyncio.to_thread(work, *args, **kwargs)
    finally:
        # What was made meanwhile would be gone through at once, all of it.
        gc.freeze()
        gc.enable()


async def _settle() -> None:
    """What has come to stay is not gone through again by the garbage collector; it goes when nothing refers to it any more."""
    gc.freeze()
    await asyncio.to_thread(give_back)


def _delta_name(day: int, version: int | None = None) -> str:
    """Sorts by version, behind the manifests and chunks of every day; without a version the prefix of the day's."""
    return f"roster/delta/{day}/" if version is None else f"roster/delta/{day}/{version:012d}"


def _chunk_name(day: int, index: int) -> str:
    return f"{_ROSTERS}{day}/{index}"


def _day_of(name: str) -> int | None:
    """The day of a roster's manifest, chunk or delta; ``None`` for any other downlink."""
    day = name.removeprefix(_ROSTERS).removeprefix("delta/").partition("/")[0]
    return int(day) if name.startswith(_ROSTERS) and day.isdigit() else None
