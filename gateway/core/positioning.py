"""Sightings → a belief over zones, for all shoppers at once per tick.

First version: per shopper and anchor an exponential average of the RSSI; a zone is as strong as its strongest anchor; strengths
become probabilities by a soft maximum, with "outside" as strong as the zone's ``enter_dbm``. Hints and reports form a belief of
their own that weighs at most one half beside the receivers', and less the older they are: a phone tells where it was up to a
minute ago.
"""

from collections import deque
from math import exp

from gateway.core.model import Anchor, AnchorLevel, Belief, Instant, Shop, Sighting

_AVERAGE_MS = 1500.0
"""Time constant of the average: packets scatter by 3–5 dB, a walker needs a second or two between anchors."""
_FORGET_HEARD_MS = 10_000
_FORGET_TOLD_MS = 75_000
"""Where no receiver stands in a zone, a hint has to last until the next minute's."""
_TOLD_WEIGHT = 0.5
_TOLD_FADES_MS = 5_000.0
_SOFTNESS_DB = 4.0
"""This many decibels make a zone e times likelier."""
_LOUDEST_DBM, _FAINTEST_DBM = 0.0, -110.0
_EVIDENCE = 4
_MAX_PENDING = 100_000


class _Track:
    """One anchor's averaged view of one shopper."""

    __slots__ = ("heard_ms", "level_dbm", "source")

    def __init__(self, sighting: Sighting) -> None:
        self.level_dbm = sighting.rssi_dbm
        self.heard_ms = sighting.at.mono_ms
        self.source = sighting.source

    def update(self, sighting: Sighting) -> None:
        elapsed = max(0, sighting.at.mono_ms - self.heard_ms)
        weight = 1.0 - exp(-max(elapsed, 50) / _AVERAGE_MS)
        self.level_dbm += weight * (sighting.rssi_dbm - self.level_dbm)
        self.heard_ms = max(self.heard_ms, sighting.at.mono_ms)
        self.source = sighting.source


class Positioning:
    """Collects sightings; ``beliefs`` turns them into one belief per shopper that was heard since the last call."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._pending: deque[Sighting] = deque(maxlen=_MAX_PENDING)
        self._tracks: dict[str, dict[tuple[str, bool], _Track]] = {}

    def use(self, shop: Shop) -> None:
        """Swap the shop; anchors that are gone are forgotten."""
        self._shop = shop
        for tracks in self._tracks.values():
            for key in [key for key in tracks if key[0] not in shop.anchors]:
                del tracks[key]

    def observe(self, sighting: Sighting) -> None:
        """Take one sighting; impossible RSSI (0 dBm and above, −110 dBm and below) is refused."""
        if _FAINTEST_DBM < sighting.rssi_dbm < _LOUDEST_DBM:
            self._pending.append(sighting)

    @property
    def has_pending(self) -> bool:
        """Whether there are sightings that no belief has seen yet."""
        return bool(self._pending)

    def forget(self, shopper: str) -> None:
        """Drop everything about one shopper."""
        self._tracks.pop(shopper, None)
        self._pending = deque((s for s in self._pending if s.shopper != shopper), maxlen=_MAX_PENDING)

    def beliefs(self, now: Instant) -> list[Belief]:
        """One belief per shopper heard since the last call, in the order in which they were first heard."""
        newest: dict[str, Instant] = {}
        while self._pending:
            sighting = self._pending.popleft()
            tracks = self._tracks.setdefault(sighting.shopper, {})
            key = (sighting.anchor, sighting.source == "receiver")
            track = tracks.get(key)
            if track is None:
                tracks[key] = _Track(sighting)
            else:
                track.update(sighting)
            before = newest.get(sighting.shopper)
            newest[sighting.shopper] = sighting.at if before is None else max(before, sighting.at)
        self._drop_silent(now)
        return [self._belief(shopper, heard_at, now) for shopper, heard_at in newest.items()]

    def _drop_silent(self, now: Instant) -> None:
        for shopper in list(self._tracks):
            tracks = self._tracks[shopper]
            for key in [key for key, track in tracks.items() if now.mono_ms - track.heard_ms > _lasts_ms(key[1])]:
                del tracks[key]
            if not tracks:
                del self._tracks[shopper]

    def _belief(self, shopper: str, heard_at: Instant, now: Instant) -> Belief:
        tracks = self._tracks.get(shopper, {})
        heard = self._share({name: t for (name, by_receiver), t in tracks.items() if by_receiver})
        told = self._share({name: t for (name, by_receiver), t in tracks.items() if not by_receiver})
        if heard and told:
            age_ms = min(now.mono_ms - track.heard_ms for (_, by_receiver), track in tracks.items() if not by_receiver)
            weight = _TOLD_WEIGHT * exp(-max(0, age_ms) / _TOLD_FADES_MS)
            names = (heard.keys() | told.keys()) - {""}
            zones = {name: (1 - weight) * heard.get(name, 0.0) + weight * told.get(name, 0.0) for name in names}
        else:
            zones = {zone: p for zone, p in (heard or told).items() if zone}
        zones = dict(sorted(zones.items()))
        strongest = sorted(tracks.items(), key=lambda item: (-item[1].level_dbm, item[0]))[:_EVIDENCE]
        return Belief(
            shopper=shopper,
            at=now,
            zones=zones,
            outside=max(0.0, 1.0 - sum(zones.values())),
            heard_at=heard_at,
            anchors=tuple(AnchorLevel(name, round(track.level_dbm, 1), track.source) for (name, _), track in strongest),
        )

    def _share(self, tracks: dict[str, _Track]) -> dict[str, float]:
        """Soft maximum over the zones of these anchors; "" stands for outside; empty where no anchor stands in a zone."""
        level: dict[str, float] = {}
        for name, track in tracks.items():
            anchor: Anchor | None = self._shop.anchors.get(name)
            if anchor is not None and anchor.zone is not None:
                level[anchor.zone] = max(track.level_dbm, level.get(anchor.zone, _FAINTEST_DBM))
        if not level:
            return {}
        level[""] = min(self._shop.zones[zone].enter_dbm for zone in level)
        top = max(level.values())
        weight = {zone: exp((dbm - top) / _SOFTNESS_DB) for zone, dbm in level.items()}
        total = sum(weight.values())
        return {zone: w / total for zone, w in weight.items()}


def _lasts_ms(by_receiver: bool) -> int:
    return _FORGET_HEARD_MS if by_receiver else _FORGET_TOLD_MS
