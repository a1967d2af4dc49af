"""Sightings → a belief over zones, for all shoppers at once per tick.

First version: per shopper and anchor an exponential average of the RSSI; a zone is as strong as its strongest anchor; strengths
become probabilities by a soft maximum, with "outside" as strong as the zone's ``enter_dbm``. Hints and reports form a belief of
their own that weighs at most one half beside the receivers', and less the older they are: a phone tells where it was up to a
minute ago.
"""

from collections.abc import Iterable, Iterator, Sequence
from math import exp
from typing import overload

from gateway.core.model import AnchorLevel, Belief, Instant, Shop, Sighting

_AVERAGE_MS = 1500.0
"""Time constant of the average: packets scatter by 3–5 dB, a walker needs a second or two between anchors."""
_LEAST_APART_MS = 50
"""Packets that come together count as if they were this far apart."""
_FORGET_HEARD_MS = 10_000
_FORGET_TOLD_MS = 75_000
"""Where no receiver stands in a zone, a hint has to last until the next minute's."""
_SWEEP_MS = 2_000
_TOLD_WEIGHT = 0.5
_TOLD_FADES_MS = 5_000.0
_SOFTNESS_DB = 4.0
"""This many decibels make a zone e times likelier."""
_LOUDEST_DBM, _FAINTEST_DBM = 0.0, -110.0
_EVIDENCE = 4


class _Track:
    """One anchor's averaged view of one shopper."""

    __slots__ = ("heard_ms", "level_dbm", "source")

    def __init__(self, sighting: Sighting) -> None:
        self.level_dbm = sighting.rssi_dbm
        self.heard_ms = sighting.at.mono_ms
        self.source = sighting.source

    def update(self, sighting: Sighting) -> None:
        elapsed_ms = sighting.at.mono_ms - self.heard_ms
        if elapsed_ms > 0:
            self.heard_ms = sighting.at.mono_ms
        self.level_dbm += (1.0 - exp(-max(elapsed_ms, _LEAST_APART_MS) / _AVERAGE_MS)) * (sighting.rssi_dbm - self.level_dbm)
        self.source = sighting.source


Tracks = dict[str, _Track]
"""By anchor."""


class _Shopper:
    """What the anchors know of one shopper."""

    __slots__ = ("heard", "heard_at", "is_pending", "newest_ms", "told")

    def __init__(self, at: Instant) -> None:
        self.heard: Tracks = {}
        """By receivers."""
        self.told: Tracks = {}
        """By the phone itself."""
        self.heard_at = at
        """The newest sighting since the last belief, or the newest that the last belief knew."""
        self.is_pending = False
        self.newest_ms = at.mono_ms

    def is_silent(self, now_ms: int) -> bool:
        """Whether everything that is known is too old to be believed."""
        silent_ms = now_ms - self.newest_ms
        return silent_ms > _FORGET_HEARD_MS and not self.is_pending and (silent_ms > _FORGET_TOLD_MS or not self.told)


class _Evidence(Sequence[AnchorLevel]):
    """A shopper's strongest anchors, put together when somebody looks: most beliefs change nothing, and nobody does."""

    __slots__ = ("_shopper",)

    def __init__(self, shopper: _Shopper) -> None:
        self._shopper = shopper

    def _levels(self) -> list[AnchorLevel]:
        found = [(-t.level_dbm, name, by_receiver, t) for by_receiver, tracks in self._kinds() for name, t in tracks.items()]
        found.sort(key=lambda level: level[:3])
        return [AnchorLevel(name, round(track.level_dbm, 1), track.source) for _, name, _, track in found[:_EVIDENCE]]

    def _kinds(self) -> tuple[tuple[bool, Tracks], ...]:
        return (True, self._shopper.heard), (False, self._shopper.told)

    @overload
    def __getitem__(self, index: int) -> AnchorLevel: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[AnchorLevel]: ...
    def __getitem__(self, index: int | slice) -> AnchorLevel | Sequence[AnchorLevel]:
        return self._levels()[index]

    def __iter__(self) -> Iterator[AnchorLevel]:
        return iter(self._levels())

    def __len__(self) -> int:
        return min(_EVIDENCE, len(self._shopper.heard) + len(self._shopper.told))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it changes with what is heard


class Positioning:
    """Follows sightings; ``beliefs`` makes one belief per shopper that was heard since the last call."""

    def __init__(self, shop: Shop) -> None:
        self._shoppers: dict[str, _Shopper] = {}
        self._heard: dict[str, _Shopper] = {}
        """Those who were heard since the last call, in the order of hearing."""
        self._swept_ms: int | None = None
        self._zone_of: dict[str, str] = {}
        """By anchor; those that stand in no zone are left out."""
        self._enter_dbm: dict[str, float] = {}
        self.use(shop)

    def use(self, shop: Shop) -> None:
        """Swap the shop; anchors that are gone are forgotten."""
        self._zone_of = {name: anchor.zone for name, anchor in shop.anchors.items() if anchor.zone is not None}
        self._enter_dbm = {name: zone.enter_dbm for name, zone in shop.zones.items()}
        for shopper in self._shoppers.values():
            for tracks in (shopper.heard, shopper.told):
                for name in [name for name in tracks if name not in shop.anchors]:
                    del tracks[name]

    def observe(self, sighting: Sighting) -> None:
        """Take one sighting; impossible RSSI (0 dBm and above, −110 dBm and below) is refused."""
        if not _FAINTEST_DBM < sighting.rssi_dbm < _LOUDEST_DBM:
            return
        name, at = sighting.shopper, sighting.at
        shopper = self._shoppers.get(name)
        if shopper is None:
            shopper = self._shoppers[name] = _Shopper(at)
        tracks = shopper.heard if sighting.source == "receiver" else shopper.told
        track = tracks.get(sighting.anchor)
        if track is None:
            tracks[sighting.anchor] = _Track(sighting)
        else:
            track.update(sighting)
        if not shopper.is_pending:
            self._heard[name] = shopper
            shopper.is_pending = True
            shopper.heard_at = at
        elif at > shopper.heard_at:
            shopper.heard_at = at

    @property
    def has_pending(self) -> bool:
        """Whether there are sightings that no belief has seen yet."""
        return bool(self._heard)

    def forget(self, shopper: str) -> None:
        """Drop everything about one shopper."""
        self._shoppers.pop(shopper, None)
        self._heard.pop(shopper, None)

    def follows(self, shopper: str) -> bool:
        """Whether anything is known of the shopper that is not too old."""
        return shopper in self._shoppers

    def beliefs(self, now: Instant) -> Iterable[Belief]:
        """One belief per shopper heard since the last call, in the order in which they were first heard, one after the other."""
        heard, self._heard = self._heard, {}
        if self._swept_ms is None or now.mono_ms - self._swept_ms >= _SWEEP_MS:
            self._swept_ms = now.mono_ms
            for name in [name for name, shopper in self._shoppers.items() if shopper.is_silent(now.mono_ms)]:
                del self._shoppers[name]
        return (self._belief(name, shopper, now) for name, shopper in heard.items())

    def _belief(self, name: str, shopper: _Shopper, now: Instant) -> Belief:
        shopper.is_pending = False
        shopper.newest_ms = max(shopper.newest_ms, shopper.heard_at.mono_ms)
        zones, outside = self._share(shopper.heard, now.mono_ms - _FORGET_HEARD_MS)
        if shopper.told:
            told, told_outside = self._share(shopper.told, now.mono_ms - _FORGET_TOLD_MS)
            if zones and told:
                age_ms = now.mono_ms - max([track.heard_ms for track in shopper.told.values()])
                weight = _TOLD_WEIGHT * exp(-max(0, age_ms) / _TOLD_FADES_MS)
                both = sorted(zones.keys() | told.keys())
                zones = {zone: (1 - weight) * zones.get(zone, 0.0) + weight * told.get(zone, 0.0) for zone in both}
                outside = (1 - weight) * outside + weight * told_outside
            elif told:
                zones, outside = told, told_outside
        return Belief(name, now, zones, outside, shopper.heard_at, _Evidence(shopper))

    def _share(self, tracks: Tracks, oldest_ms: int) -> tuple[dict[str, float], float]:
        """Soft maximum over the zones of these anchors, by name, and the rest for outside; no zones: it is all outside.

        Tracks that have been silent for too long are dropped.
        """
        zone_of = self._zone_of
        level: dict[str, float] = {}
        silent = []
        for name, track in tracks.items():
            if track.heard_ms < oldest_ms:
                silent.append(name)
                continue
            zone = zone_of.get(name)
            if zone is not None and track.level_dbm > level.get(zone, _FAINTEST_DBM):
                level[zone] = track.level_dbm
        for name in silent:
            del tracks[name]
        if not level:
            return level, 1.0
        names = sorted(level)
        outside_dbm = min([self._enter_dbm[zone] for zone in names])
        top_dbm = max(outside_dbm, *level.values())
        outside = total = exp((outside_dbm - top_dbm) / _SOFTNESS_DB)
        for zone in names:
            level[zone] = weight = exp((level[zone] - top_dbm) / _SOFTNESS_DB)
            total += weight
        return {zone: level[zone] / total for zone in names}, outside / total
