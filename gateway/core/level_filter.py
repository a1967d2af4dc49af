"""Sightings → a belief over zones where nothing is known but which anchor belongs to which zone.

A zone is as strong as the mean of its two strongest anchors, each averaged over a few seconds; strengths become probabilities by
a soft maximum. Outside is as strong as the faintest level at which one of the heard zones may be entered. What a phone says
itself (hint, report) forms a belief of its own that weighs at most one half beside the receivers', and less the older it is: a
phone tells where it was up to a minute ago.

Most shoppers stand somewhere, and what is heard of them changes nothing. Whose belief only confirmed what is announced is
**calm**: as long as all levels stay on their side of the gap between the zone and its next rival, the belief is not computed anew
but repeated, once a second. The first level that leaves its side ends the calm at once, as do a phone's own word, a pause in what
is heard, and five seconds.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from math import exp, log
from typing import Final, Literal

from gateway.core.model import AnchorLevel, Belief, Instant
from gateway.core.zone_model import RecordedSighting

AVERAGE_MS: Final = 2000.0
SOFTNESS_DB: Final = 4.0
"""This many decibels make a zone e times likelier."""
OUTSIDE_DBM: Final = -96.0
FORGET_HEARD_MS: Final = 10_000
FORGET_TOLD_MS: Final = 75_000
"""Where no receiver stands in a zone, a hint has to last until the next minute's."""
TOLD_SHARE: Final = 0.5
_TOLD_FADES_MS: Final = 5_000.0
_LEAST_APART_MS: Final = 50
"""Packets that come together count as if they were this far apart."""
_SECOND_BELOW_DB: Final = 6.0
"""A zone's second anchor takes no more from it than one that hears this much less: it may stand at the zone's other end."""
_LOUDEST_DBM: Final = 0.0
_FAINTEST_DBM: Final = -110.0
_SWEEP_MS: Final = 2_000
_EVIDENCE: Final = 4
REPEAT_MS: Final = 1_000
"""A calm belief is repeated this often."""
_CALM_MS: Final = 5_000
_CALM_PAUSE_MS: Final = 2_000
_CALM_BELIEF: Final = 0.8
"""What the likeliest zone needs: rivals are 5.5 dB fainter then."""
_SIDE: Final = 0.25
"""Share of the gap by which a level may come nearer to the middle: half of it is left then, and the zone is likelier than not."""
_BUCKET_MS: Final = 200
_TINY: Final = 1e-12

Source = Literal["receiver", "hint", "report"]


class Level:
    """One anchor's averaged view of one shopper."""

    __slots__ = ("at_ms", "dbm", "source", "zone")

    def __init__(self, dbm: float, at_ms: int, source: Source, zone: str | None) -> None:
        self.dbm = dbm
        self.at_ms = at_ms
        self.source = source
        self.zone = zone
        """Where the anchor stands."""


Levels = dict[str, Level]
"""By anchor."""


class Heard:
    """What the anchors know of one shopper."""

    __slots__ = (
        "at",
        "belief",
        "by_phone",
        "by_receivers",
        "calm_until_ms",
        "is_noted",
        "is_pending",
        "least_dbm",
        "most_dbm",
        "newest_ms",
        "repeat_ms",
        "zone",
    )

    def __init__(self, at: Instant) -> None:
        self.by_receivers: Levels = {}
        self.by_phone: Levels = {}
        """What the phone told."""
        self.at = at
        """The newest sighting since the last belief, or the newest that the last belief knew."""
        self.is_pending = False
        self.newest_ms = at.mono_ms
        self.calm_until_ms = 0
        self.zone: str | None = None
        self.least_dbm = 0.0
        self.most_dbm = 0.0
        """While calm: the likeliest zone, what its anchors may not fall to, and what others may not rise to."""
        self.belief: Belief | None = None
        """What is repeated while calm."""
        self.repeat_ms = 0
        self.is_noted = False
        """Heard while calm, and to be repeated at ``repeat_ms``."""

    def is_silent(self, now_ms: int) -> bool:
        """Whether everything that is known is too old to be believed."""
        silent_ms = now_ms - self.newest_ms
        return silent_ms > FORGET_HEARD_MS and not self.is_pending and (silent_ms > FORGET_TOLD_MS or not self.by_phone)

    def strongest(self) -> list[AnchorLevel]:
        """At most four anchors, loudest first; the loudest that the phone told of is always among them."""
        found = sorted([(-level.dbm, name, level) for name, level in self.by_receivers.items()], key=_loudest)
        told = sorted([(-level.dbm, name, level) for name, level in self.by_phone.items()], key=_loudest)
        chosen = sorted([*told[:1], *found[: _EVIDENCE - bool(told)], *told[1:]][:_EVIDENCE], key=_loudest)
        return [AnchorLevel(name, round(level.dbm, 1), level.source) for _, name, level in chosen]


def _probability(found: tuple[str, float]) -> float:
    return found[1]


def _loudest(found: tuple[float, str, Level]) -> tuple[float, str, bool]:
    return found[0], found[1], found[2].source != "receiver"


class LevelFilter:
    """The beliefs of one shop. ``hear`` collects; ``take`` and ``share`` tell of whoever was heard since."""

    def __init__(
        self, zone_of: Mapping[str, str | None], outside_dbm: float = OUTSIDE_DBM, outside_of: Mapping[str, float] | None = None
    ) -> None:
        """``zone_of`` names the zone of each anchor, ``None`` where it stands in none.

        ``outside_of`` is the level of outside for zones that have their own.
        """
        self._heard: dict[str, Heard] = {}
        self._pending: dict[str, Heard] = {}
        """In the order of hearing."""
        self._noted: dict[int, list[Heard]] = {}
        """By a fifth of a second, whose belief is to be repeated then."""
        self._swept_ms: int | None = None
        self._zone_of: dict[str, str | None] = {}
        self.zones: tuple[str, ...] = ()
        self._outside_dbm = outside_dbm
        self._outside_of: dict[str, float] = {}
        """Of each zone; empty where none has its own."""
        self.use(zone_of, outside_of or {})

    def use(self, zone_of: Mapping[str, str | None], outside_of: Mapping[str, float]) -> None:
        """Swap the shop; anchors that are gone are forgotten."""
        self._zone_of = dict(zone_of)
        self.zones = tuple(sorted({zone for zone in zone_of.values() if zone is not None}))
        self._outside_of = {zone: outside_of.get(zone, self._outside_dbm) for zone in self.zones} if outside_of else {}
        for heard in self._heard.values():
            heard.calm_until_ms = 0
            for levels in (heard.by_receivers, heard.by_phone):
                for anchor in [anchor for anchor in levels if anchor not in zone_of]:
                    del levels[anchor]
                for anchor, level in levels.items():
                    level.zone = zone_of[anchor]

    @property
    def has_pending(self) -> bool:
        """Whether something was heard that no belief has seen."""
        return bool(self._pending)

    @property
    def repeats_ms(self) -> int | None:
        """When the next calm belief is to be repeated (monotonic), if any of those shoppers was heard since."""
        return min(self._noted) * _BUCKET_MS if self._noted else None

    @property
    def pending(self) -> int:
        """How many shoppers were heard that no belief has seen."""
        return len(self._pending)

    def hear(self, shopper: str, anchor: str, rssi_dbm: float, at: Instant, source: Source) -> bool:
        """Take one sighting; False: an impossible level (0 dBm and above, −110 dBm and below) or no anchor of the shop."""
        if not _FAINTEST_DBM < rssi_dbm < _LOUDEST_DBM or anchor not in self._zone_of:
            return False
        at_ms = at[0]
        heard = self._heard.get(shopper)
        if heard is None:
            heard = self._heard[shopper] = Heard(at)
        levels = heard.by_receivers if source == "receiver" else heard.by_phone
        level = levels.get(anchor)
        if level is None:
            level = levels[anchor] = Level(rssi_dbm, at_ms, source, self._zone_of[anchor])
        else:
            elapsed_ms = at_ms - level.at_ms
            if elapsed_ms > 0:
                level.at_ms = at_ms
            if elapsed_ms < _LEAST_APART_MS:  # noqa: PLR1730 -- max() takes as long as half of this method
                elapsed_ms = _LEAST_APART_MS
            level.dbm += (1.0 - exp(-elapsed_ms / AVERAGE_MS)) * (rssi_dbm - level.dbm)
            level.source = source
        if heard.is_pending:
            if at > heard.at:  # noqa: PLR1730
                heard.at = at
        elif at_ms < heard.calm_until_ms and self._stays_calm(heard, level, at_ms):
            heard.at = at
        else:
            self._pending[shopper] = heard
            heard.is_pending = True
            heard.at = at
        return True

    def _stays_calm(self, heard: Heard, level: Level, at_ms: int) -> bool:
        if level.source != "receiver" or at_ms - heard.at[0] > _CALM_PAUSE_MS:
            return False
        if level.dbm <= heard.least_dbm if level.zone == heard.zone else level.dbm >= heard.most_dbm:
            return False
        if not heard.is_noted:
            heard.is_noted = True
            due = heard.repeat_ms // _BUCKET_MS
            if due in self._noted:
                self._noted[due].append(heard)
            else:
                self._noted[due] = [heard]
        return True

    def keep_calm(self, heard: Heard, belief: Belief, now_ms: int) -> None:
        """The belief has only confirmed what is announced: repeat it, if it is clear enough, while nothing speaks against it."""
        zone, p = max(belief.zones.items(), key=_probability)
        if p < _CALM_BELIEF or heard.by_phone:
            return
        own = [level for level in heard.by_receivers.values() if level.zone == zone]
        dbm = sorted([level.dbm for level in own])
        top_dbm = dbm[-1] if len(dbm) == 1 else _strength(dbm[-1], dbm[-2])
        gap_db = SOFTNESS_DB * log(p / max(1.0 - p, _TINY))
        heard.zone, heard.belief = zone, belief
        heard.least_dbm, heard.most_dbm = top_dbm - _SIDE * gap_db, top_dbm - (1.0 - _SIDE) * gap_db
        heard.calm_until_ms = min(now_ms + _CALM_MS, max([level.at_ms for level in own]) + FORGET_HEARD_MS)
        heard.repeat_ms = now_ms + REPEAT_MS

    def take_calm(self, now_ms: int) -> list[tuple[Heard, Belief]]:
        """Whose belief is to be repeated now, as it was."""
        found = []
        for due in [due for due in self._noted if due <= now_ms // _BUCKET_MS]:
            for heard in self._noted.pop(due):
                # What ended the calm meanwhile is computed anew.
                if heard.is_noted and heard.belief is not None:
                    heard.is_noted = False
                    heard.newest_ms = heard.at[0]
                    heard.repeat_ms = now_ms + REPEAT_MS
                    found.append((heard, heard.belief))
        return found

    def forget(self, shopper: str) -> None:
        """Drop everything about one shopper."""
        heard = self._heard.pop(shopper, None)
        if heard is not None:
            heard.is_noted = False
        self._pending.pop(shopper, None)

    def follows(self, shopper: str) -> bool:
        """Whether anything is known of the shopper that is not too old."""
        return shopper in self._heard

    def heard_of(self, shopper: str) -> Heard | None:
        """What is known of the shopper."""
        return self._heard.get(shopper)

    def take(self, now_ms: int, most: int | None = None) -> dict[str, Heard]:
        """Who was heard since the last call, in the order of hearing; with ``most`` the others stay for the next one."""
        if self._swept_ms is None or now_ms - self._swept_ms >= _SWEEP_MS:
            self._swept_ms = now_ms
            for name in [name for name, heard in self._heard.items() if heard.is_silent(now_ms)]:
                del self._heard[name]
        taken = self._pending
        if most is not None and len(taken) > most:
            names = list(islice(taken, most))
            taken = {name: self._pending.pop(name) for name in names}
        else:
            self._pending = {}
        for heard in taken.values():
            heard.is_pending = heard.is_noted = False
            heard.calm_until_ms = 0
            heard.newest_ms = max(heard.newest_ms, heard.at[0])
        return taken

    def share(self, heard: Heard, now_ms: int) -> tuple[dict[str, float], float]:
        """The probabilities of the zones that are in question, by name, and that of being in none."""
        zones, outside = self._share(heard.by_receivers, now_ms - FORGET_HEARD_MS)
        if not heard.by_phone:
            return zones, outside
        told, told_outside = self.by_phone(heard, now_ms)
        if not told:
            return zones, outside
        if not zones:
            return told, told_outside
        return mixed((zones, outside), (told, told_outside), told_weight(heard, now_ms))

    def by_receivers(self, heard: Heard, now_ms: int) -> tuple[dict[str, float], float]:
        """The same, by what receivers heard alone."""
        return self._share(heard.by_receivers, now_ms - FORGET_HEARD_MS)

    def by_phone(self, heard: Heard, now_ms: int) -> tuple[dict[str, float], float]:
        """The same, by what the phone told alone."""
        return self._share(heard.by_phone, now_ms - FORGET_TOLD_MS)

    def _share(self, levels: Levels, oldest_ms: int) -> tuple[dict[str, float], float]:
        """Soft maximum over the zones of these anchors and outside; no zones: it is all outside.

        What has been silent for too long is dropped. Asked for everybody who is heard and not calm, a few times a second.
        """
        shares: dict[str, float] = {}
        second: dict[str, float] | None = None
        silent = False
        for level in levels.values():
            if level.at_ms < oldest_ms:
                silent = True
                continue
            zone = level.zone
            if zone is None:
                continue
            if zone not in shares:
                shares[zone] = level.dbm
                continue
            if second is None:
                second = {}
            _take_in(level.dbm, zone, shares, second)
        if silent:
            for anchor in [anchor for anchor, level in levels.items() if level.at_ms < oldest_ms]:
                del levels[anchor]
        if not shares:
            return shares, 1.0
        if second is not None:
            shares.update({zone: _strength(shares[zone], dbm) for zone, dbm in second.items()})
        outside_dbm = min([self._outside_of[zone] for zone in shares]) if self._outside_of else self._outside_dbm
        top_dbm = max(outside_dbm, *shares.values())
        outside = total = exp((outside_dbm - top_dbm) / SOFTNESS_DB)
        for zone, dbm in shares.items():
            shares[zone] = weight = exp((dbm - top_dbm) / SOFTNESS_DB)
            total += weight
        for zone in shares:
            shares[zone] /= total
        return shares, outside / total

    # ---- the same for recordings ----------------------------------------------------------------------------------------------

    def observe(self, sighting: RecordedSighting) -> None:
        """Take one sighting, as ``ZoneFilter`` does; impossible levels and unknown anchors are refused."""
        at = Instant(sighting.t_ms, sighting.t_ms)
        self.hear(sighting.shopper, sighting.anchor, sighting.rssi_dbm, at, sighting.source)

    def beliefs(self, now_ms: int) -> Iterable[tuple[str, Sequence[float]]]:
        """For each shopper observed since the last call its probabilities by zone, and that of being in none."""
        for name, heard in self.take(now_ms).items():
            zones, outside = self.share(heard, now_ms)
            yield name, [*(zones.get(zone, 0.0) for zone in self.zones), outside]


def _strength(best_dbm: float, second_dbm: float) -> float:
    return (best_dbm + max(second_dbm, best_dbm - _SECOND_BELOW_DB)) / 2.0


def _take_in(dbm: float, zone: str, best: dict[str, float], second: dict[str, float]) -> None:
    """One more anchor of a zone."""
    if dbm > best[zone]:
        best[zone], dbm = dbm, best[zone]
    second[zone] = max(second.get(zone, _FAINTEST_DBM), dbm)


def told_weight(heard: Heard, now_ms: int) -> float:
    """What the phone's own word weighs beside the receivers': at most one half."""
    age_ms = now_ms - max([level.at_ms for level in heard.by_phone.values()])
    return TOLD_SHARE * exp(-max(0, age_ms) / _TOLD_FADES_MS)


def mixed(
    heard: tuple[dict[str, float], float], told: tuple[dict[str, float], float], weight: float
) -> tuple[dict[str, float], float]:
    """Probabilities of zones and outside, ``told`` with this weight."""
    zones = {
        zone: (1.0 - weight) * heard[0].get(zone, 0.0) + weight * told[0].get(zone, 0.0)
        for zone in sorted(heard[0].keys() | told[0].keys())
    }
    return zones, (1.0 - weight) * heard[1] + weight * told[1]
