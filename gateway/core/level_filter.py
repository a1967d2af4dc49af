"""Sightings → a belief over zones where nothing is known but which anchor belongs to which zone.

A zone is as strong as the mean of its two strongest anchors, each averaged over a few seconds; strengths become probabilities by
a soft maximum. Outside is as strong as ``outside_dbm``.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import exp

from gateway.core.zone_model import RecordedSighting

AVERAGE_MS = 2500.0
SOFTNESS_DB = 4.0
OUTSIDE_DBM = -96.0
_LEAST_APART_MS = 50
_FORGET_MS = 10_000
_BEST = 2
_FAINTEST_DBM = -110.0
_TOLD_SHARE = 0.5


class _Level:
    __slots__ = ("at_ms", "dbm")

    def __init__(self, dbm: float, at_ms: int) -> None:
        self.dbm, self.at_ms = dbm, at_ms


class LevelFilter:
    """The beliefs of one shop, with the same methods as ``ZoneFilter``."""

    def __init__(self, zone_of: Mapping[str, str], outside_dbm: float = OUTSIDE_DBM) -> None:
        """``zone_of`` names the zone of each anchor."""
        self._zone_of = dict(zone_of)
        self._outside_dbm = outside_dbm
        self.zones: tuple[str, ...] = tuple(sorted(set(zone_of.values())))
        self._levels: dict[str, dict[tuple[str, bool], _Level]] = {}
        """By shopper, then by anchor and whether the phone told it."""
        self._pending: dict[str, None] = {}

    @property
    def has_pending(self) -> bool:
        """Whether something was observed that no belief has seen."""
        return bool(self._pending)

    def observe(self, sighting: RecordedSighting) -> None:
        """Take one sighting; impossible levels and anchors without a zone are refused."""
        if not sighting.is_possible or sighting.anchor not in self._zone_of:
            return
        levels = self._levels.setdefault(sighting.shopper, {})
        key = sighting.anchor, sighting.source != "receiver"
        level = levels.get(key)
        if level is None:
            levels[key] = _Level(sighting.rssi_dbm, sighting.t_ms)
        else:
            elapsed_ms = sighting.t_ms - level.at_ms
            level.dbm += (1.0 - exp(-max(elapsed_ms, _LEAST_APART_MS) / AVERAGE_MS)) * (sighting.rssi_dbm - level.dbm)
            level.at_ms = max(level.at_ms, sighting.t_ms)
        self._pending[sighting.shopper] = None

    def forget(self, shopper: str) -> None:
        """Drop everything about one shopper."""
        self._levels.pop(shopper, None)
        self._pending.pop(shopper, None)

    def beliefs(self, now_ms: int) -> Iterable[tuple[str, Sequence[float]]]:
        """For each shopper observed since the last call its probabilities by zone, and that of being in none."""
        pending, self._pending = self._pending, {}
        for shopper, levels in list(self._levels.items()):
            for key in [key for key, level in levels.items() if now_ms - level.at_ms > _FORGET_MS]:
                del levels[key]
            if not levels and shopper not in pending:
                del self._levels[shopper]
        for shopper in pending:
            levels = self._levels.get(shopper, {})
            heard = self._share({anchor: level.dbm for (anchor, by_phone), level in levels.items() if not by_phone})
            told = self._share({anchor: level.dbm for (anchor, by_phone), level in levels.items() if by_phone})
            if heard is None or told is None:
                yield shopper, heard or told or [*(0.0 for _ in self.zones), 1.0]
            else:
                yield shopper, [(1.0 - _TOLD_SHARE) * h + _TOLD_SHARE * t for h, t in zip(heard, told, strict=True)]

    def _share(self, levels: Mapping[str, float]) -> list[float] | None:
        if not levels:
            return None
        of_zone: dict[str, list[float]] = {}
        for anchor, dbm in levels.items():
            of_zone.setdefault(self._zone_of[anchor], []).append(dbm)
        strengths = [_FAINTEST_DBM] * len(self.zones)
        for number, zone in enumerate(self.zones):
            best = sorted(of_zone.get(zone, ()), reverse=True)[:_BEST]
            if best:
                strengths[number] = sum(best) / len(best)
        strengths.append(self._outside_dbm)
        top = max(strengths)
        weights = [exp((strength - top) / SOFTNESS_DB) for strength in strengths]
        total = sum(weights)
        return [weight / total for weight in weights]
