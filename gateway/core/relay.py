"""What a receiving gateway recognised and has not told the deciding one yet: bounded, and nothing old in it."""

from dataclasses import dataclass

from gateway.core.model import EddystoneTlm, Recognised

MAX_AGE_MS = 3_000
"""What is older is of no use to whoever decides, and dropped at either end."""
MOST_SIGHTINGS = 1000
MOST_LEVELS = 1000
MOST_TELEMETRY = 100
_MOST_COUNTED = 1000
_FAINTEST_DBM, _LOUDEST_DBM = -127, 20


@dataclass(frozen=True, slots=True)
class Sighted:
    """A shopper of the roster, heard by a receiver of this gateway; monotonic milliseconds."""

    told: Recognised
    receiver: str
    rssi_dbm: int
    at_ms: int


@dataclass(slots=True)
class Level:
    """A registered beacon at one receiver, since the last batch."""

    beacon: str
    receiver: str
    sum_dbm: int
    count: int
    at_ms: int
    """The newest (monotonic)."""

    @property
    def mean_dbm(self) -> int:
        """The mean RSSI."""
        return round(self.sum_dbm / self.count)


@dataclass(frozen=True, slots=True)
class Said:
    """A telemetry frame of a registered beacon."""

    beacon: str
    receiver: str
    frame: EddystoneTlm
    at_ms: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be told."""

    sightings: tuple[Sighted, ...] = ()
    levels: tuple[Level, ...] = ()
    telemetry: tuple[Said, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.sightings or self.levels or self.telemetry)


class Relay:
    """Collects until somebody takes."""

    def __init__(self) -> None:
        self._sightings: list[Sighted] = []
        self._levels: dict[tuple[str, str], Level] = {}
        self._telemetry: list[Said] = []
        self.dropped = 0
        """What found no room, has an impossible RSSI, or became too old before it was taken."""

    def sighted(self, told: Recognised, receiver: str, rssi_dbm: int, at_ms: int) -> None:
        """A shopper was heard."""
        if len(self._sightings) < MOST_SIGHTINGS and _FAINTEST_DBM <= rssi_dbm <= _LOUDEST_DBM:
            self._sightings.append(Sighted(told, receiver, rssi_dbm, at_ms))
        else:
            self.dropped += 1

    def beacon(self, beacon: str, receiver: str, rssi_dbm: int, at_ms: int) -> None:
        """A registered beacon was heard."""
        level = self._levels.get((beacon, receiver))
        if not _FAINTEST_DBM <= rssi_dbm <= _LOUDEST_DBM:
            self.dropped += 1
        elif level is not None and level.count < _MOST_COUNTED:
            level.sum_dbm += rssi_dbm
            level.count += 1
            level.at_ms = max(level.at_ms, at_ms)
        elif level is None and len(self._levels) < MOST_LEVELS:
            self._levels[beacon, receiver] = Level(beacon, receiver, rssi_dbm, 1, at_ms)
        else:
            self.dropped += 1

    def telemetry(self, beacon: str, receiver: str, frame: EddystoneTlm, at_ms: int) -> None:
        """A registered beacon said how it fares."""
        if len(self._telemetry) < MOST_TELEMETRY:
            self._telemetry.append(Said(beacon, receiver, frame, at_ms))
        else:
            self.dropped += 1

    def take(self, now_ms: int) -> Batch:
        """All that is not too old; it begins anew."""
        oldest_ms = now_ms - MAX_AGE_MS
        whole = Batch(tuple(self._sightings), tuple(self._levels.values()), tuple(self._telemetry))
        self._sightings, self._levels, self._telemetry = [], {}, []
        fresh = Batch(
            tuple(one for one in whole.sightings if one.at_ms >= oldest_ms),
            tuple(one for one in whole.levels if one.at_ms >= oldest_ms),
            tuple(one for one in whole.telemetry if one.at_ms >= oldest_ms),
        )
        self.dropped += len(whole.sightings) - len(fresh.sightings) + len(whole.levels) - len(fresh.levels)
        self.dropped += len(whole.telemetry) - len(fresh.telemetry)
        return fresh
