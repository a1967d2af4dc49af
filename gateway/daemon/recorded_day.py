"""A recording of sightings → the stays that the running gateway would have told of, by the pipeline that it runs."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count

from gateway.core.identity import DayRoster
from gateway.core.model import Circumstances, ClockQuality, Consent, Entered, Exited, Instant, RosterEntry, Shop, Sighting, Step
from gateway.core.pipeline import TICK_MS, Pipeline, Tuning
from gateway.core.zone_model import RecordedSighting, ZoneModel
from gateway.io.store.day import DayStay

_BOTH = Consent.OFFERS | Consent.ANALYTICS
_NO_KEY = bytes(16)
"""Nobody's token is read: the recording says who it was."""
_LAST_MS = 3_600_000
"""After the last sighting everybody has left by then."""


def stays_of(
    sightings: Sequence[RecordedSighting], shop: Shop, tuning: Tuning, begins_ms: int, learned: ZoneModel | None = None
) -> list[DayStay]:
    """In the order of the entries. ``begins_ms``: wall milliseconds of the first sighting.

    Everybody in the recording counts as somebody who has consented to offers and analytics, under a name of the recording's.
    """
    heard = sorted(sightings, key=lambda sighting: sighting.t_ms)
    if not heard:
        return []
    now = Instant(0, begins_ms)
    numbers = count(1)
    pipeline = Pipeline(shop, replace(tuning, keeps_phones=True, listen_only=False), lambda: str(next(numbers)), now)
    if learned is not None:
        pipeline.use_model(learned)
    # No promotion, but the circumstances of each entry are told.
    pipeline.use_catalogue(pipeline.compile_catalogue(1, (), None, begins_ms))
    names = {shopper: hashlib.sha256(shopper.encode()).digest()[:8] for shopper in {sighting.shopper for sighting in heard}}
    day = pipeline.identity.day_at(begins_ms)
    pipeline.use_roster(DayRoster(day, 1, [RosterEntry(name, _NO_KEY, _BOTH) for name in names.values()]))
    found: list[DayStay] = []
    here: dict[tuple[str, str], int] = {}
    """By visit and zone, which of ``found`` goes on."""
    for step in _steps(pipeline, heard, {shopper: name.hex() for shopper, name in names.items()}, now):
        for outcome in step.outcomes:
            event = outcome.event
            if isinstance(event, Entered):
                here[event.visit, event.zone] = len(found)
                circumstances = outcome.circumstances or Circumstances(ClockQuality.SYNCHRONISED)
                # Of the shop's fixed beacons, by which a deaf zone is noticed, a recording of shoppers says nothing.
                circumstances = replace(circumstances, zone_is_blind=False)
                who = (event.visit, event.shopper, event.zone)
                found.append(DayStay(*who, event.at.wall_ms, None, event.is_first, event.consent, circumstances))
            elif isinstance(event, Exited) and (index := here.pop((event.visit, event.zone), None)) is not None:
                found[index] = replace(found[index], stayed_ms=event.left_at.mono_ms - event.entered_at.mono_ms)
    return found


def _steps(pipeline: Pipeline, heard: Sequence[RecordedSighting], names: dict[str, str], begin: Instant) -> Iterator[Step]:
    """Everything that the pipeline makes of it, ticked when it wants to be."""
    yield pipeline.tick(begin, ClockQuality.SYNCHRONISED)
    ticked_ms = 0

    def until(now_ms: int) -> Iterator[Step]:
        nonlocal ticked_ms
        while (due_ms := pipeline.next_deadline_ms()) is not None:
            due_ms = max(due_ms, ticked_ms + TICK_MS)
            if due_ms > now_ms:
                return
            ticked_ms = due_ms
            yield pipeline.tick(begin.plus(due_ms), ClockQuality.SYNCHRONISED)

    for sighting in heard:
        at_ms = sighting.t_ms - heard[0].t_ms
        yield from until(at_ms)
        told = Sighting(names[sighting.shopper], sighting.anchor, sighting.rssi_dbm, begin.plus(at_ms), sighting.source)
        pipeline.report(told, _BOTH)
    yield from until(heard[-1].t_ms - heard[0].t_ms + _LAST_MS)
