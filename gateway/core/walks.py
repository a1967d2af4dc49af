"""A technician's walk through one zone: how far it is, whether it may be learnt from, and what is learnt from several.

Nobody is asked for dBm. A walk says which zone it is in, and has to earn to be believed: long enough, heard often enough, by the
receivers that are said to hear there, and not like another zone's walk (``judged``).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import hypot, sqrt
from statistics import median
from typing import Literal

from gateway.core.spelling import listed
from gateway.core.zone_model import Point, RecordedSighting, ShopPlan, contains, distance_m

SHORTEST_MS = 15_000
USUAL_MS = 30_000
LONGEST_MS = 600_000
LEAST_PER_S = 1.0
LONGEST_SILENCE_MS = 10_000
"""A receiver's scan may stall for five seconds; a phone that sleeps is silent for longer."""
MOST_SIGHTINGS = 60_000
"""Of one walk: ten minutes at 12 receivers and 8 advertisements a second."""
MOST_MARKS = 100
BLOCKS = 5
_BESIDE_PATH_M = 1.0
"""So far outside of its zone a mark may lie, because plans are not exact."""
_RECENT_MS = 5_000
_WINDOW_MS = 3_000
"""Long enough for each receiver's mean level to mean something, short enough to be one place."""
_FAINTEST_DBM = -100.0
"""For a receiver that a window did not hear."""
_PACKET_DB, _COMMON_DB = 4.0, 3.0
"""How levels of one place differ from minute to minute, and all together from phone to phone."""
_NEARER = 1.5
_ALIKE_SHARE, _ALIKE_MOST = 0.2, 0.6
"""On the simulator's plans, 30 s walks: of wrong zones 93 to 98 % are found beside an earlier walk and 27 to 78 % without; of
right ones 0 to 2 %, and without up to 8 % (20 zones with 12 receivers, where neighbours sound alike) are asked about."""
_MOST_WINDOWS = 40
_GUARD_MS = 1_000
"""Packets that follow each other are alike: so much around a block that is tested is not learnt from."""

Mark = tuple[int, Point]
"""Milliseconds since the walk began, and where the walker was then."""
Reason = Literal["not-heard", "too-short", "too-few", "asleep", "wrong-zone", "silent-receiver"]


@dataclass(frozen=True, slots=True)
class Walk:
    """What was heard of the test device in one zone; times count from the walk's beginning."""

    zone: str
    sightings: tuple[RecordedSighting, ...]

    @property
    def duration_ms(self) -> int:
        """From the first sighting to the last."""
        return self.sightings[-1].t_ms - self.sightings[0].t_ms if self.sightings else 0

    @property
    def is_marked(self) -> bool:
        """Whether the walker said where each part of it was."""
        return any(sighting.at_m is not None for sighting in self.sightings)

    @property
    def anchors(self) -> frozenset[str]:
        """Those that heard something."""
        return frozenset(sighting.anchor for sighting in self.sightings)


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a walk is not learnt from, and what to do; both are sentences."""

    reason: Reason
    what: str
    do: str


@dataclass(frozen=True, slots=True)
class HeardNow:
    """What one anchor hears of the test device."""

    anchor: str
    level_dbm: float | None
    """Median of the last seconds; absent while silent."""
    heard: int
    """Since the walk began."""


# ---- while it goes on ---------------------------------------------------------------------------------------------------------


def recent_per_s(sightings: Sequence[RecordedSighting], now_ms: int) -> float:
    """Sightings a second over the last five, or since the beginning."""
    since_ms = max(0, now_ms - _RECENT_MS)
    return sum(sighting.t_ms >= since_ms for sighting in sightings) * 1000 / max(1000, now_ms - since_ms)


def heard_now(sightings: Iterable[RecordedSighting], now_ms: int) -> tuple[HeardNow, ...]:
    """By anchor, the loudest first; the silent ones last."""
    recent: dict[str, list[float]] = {}
    counts: dict[str, int] = {}
    for sighting in sightings:
        counts[sighting.anchor] = counts.get(sighting.anchor, 0) + 1
        if sighting.t_ms >= now_ms - _RECENT_MS:
            recent.setdefault(sighting.anchor, []).append(sighting.rssi_dbm)
    found = [HeardNow(name, round(median(recent[name]), 1) if name in recent else None, count) for name, count in counts.items()]
    return tuple(sorted(found, key=lambda one: (-(one.level_dbm or _FAINTEST_DBM), one.anchor)))


# ---- a marked path ------------------------------------------------------------------------------------------------------------


def path_fault(path: Sequence[Point], zone: str, plan: ShopPlan) -> str | None:
    """Why nobody can walk this path in the zone, as a sentence; ``None`` when it is in order."""
    if len(path) < 2:
        return "a path has at least two marks."
    if len(path) > MOST_MARKS:
        return f"a path has at most {MOST_MARKS} marks."
    for number, (here, there) in enumerate(pairwise(path), 1):
        if here == there:
            return f"marks {number} and {number + 1} are the same place."
    outline = plan.zones.get(zone)
    if outline is None:
        return None
    for number, mark in enumerate(path, 1):
        if not contains(outline, mark) and distance_m(outline, mark) > _BESIDE_PATH_M:
            other = plan.zone_at(mark)
            where = f"in {other}" if other else f"{distance_m(outline, mark):.1f} m outside of {zone}"
            return f"mark {number} ({mark[0]:g},{mark[1]:g}) lies {where}."
    return None


def evenly_marked(path: Sequence[Point], duration_ms: int) -> tuple[Mark, ...]:
    """When each mark of the path is passed by somebody who walks all of it at the same speed."""
    lengths = [hypot(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(path)]
    total, gone = sum(lengths), 0.0
    marks: list[Mark] = [(0, path[0])]
    for length, mark in zip(lengths, path[1:], strict=True):
        gone += length
        marks.append((round(duration_ms * gone / total), mark))
    return tuple(marks)


def placed(sightings: Iterable[RecordedSighting], marks: Sequence[Mark]) -> tuple[RecordedSighting, ...]:
    """Each sighting with the place between the marks around it; before the first and after the last it is theirs."""
    return tuple(replace(sighting, at_m=_between(marks, sighting.t_ms)) for sighting in sightings)


def _between(marks: Sequence[Mark], t_ms: int) -> Point:
    if t_ms <= marks[0][0]:
        return marks[0][1]
    for (from_ms, (x0, y0)), (until_ms, (x1, y1)) in pairwise(marks):
        if t_ms < until_ms:
            share = (t_ms - from_ms) / (until_ms - from_ms)
            return round(x0 + share * (x1 - x0), 2), round(y0 + share * (y1 - y0), 2)
    return marks[-1][1]


# ---- whether it may be learnt from --------------------------------------------------------------------------------------------


def judged(
    walk: Walk, others: Mapping[str, Walk], receivers: Sequence[str], deaf: frozenset[str] = frozenset()
) -> Refused | None:
    """Why this walk is not learnt from, or ``None``.

    ``others``: accepted walks by zone, the zone's own earlier one among them; ``receivers``: those that are said to hear in the
    zone; ``deaf``: the ones among all receivers that heard nothing meanwhile, whosever it was.
    """
    walk = Walk(walk.zone, tuple(sighting for sighting in walk.sightings if sighting.is_possible))
    return _too_little(walk, receivers, deaf) or _wrong_zone(walk, others) or _silent_receiver(walk, receivers, deaf)


def not_heard(receivers: Sequence[str], deaf: frozenset[str] = frozenset()) -> Refused:
    """Nothing came at all."""
    silent = [name for name in receivers if name in deaf]
    if silent and len(silent) == len(receivers):
        return Refused(
            "not-heard",
            f"the test device was not heard, and {_have(silent)} heard nothing else either.",
            f"See gateway receiver test {silent[0]}.",
        )
    return Refused(
        "not-heard",
        "the test device was not heard at all.",
        "Keep the app's test mode on the screen, or switch the beacon on; gateway test-shopper list tells who is heard.",
    )


def _too_little(walk: Walk, receivers: Sequence[str], deaf: frozenset[str]) -> Refused | None:
    if not walk.sightings:
        return not_heard(receivers, deaf)
    if walk.duration_ms < SHORTEST_MS:
        return Refused(
            "too-short",
            f"the test device was heard for {walk.duration_ms / 1000:.0f} s only.",
            f"Walk for at least {SHORTEST_MS // 1000} s, and let it send all the time.",
        )
    times = [sighting.t_ms for sighting in walk.sightings]
    silence_ms = max(after - before for before, after in pairwise(times))
    if silence_ms > LONGEST_SILENCE_MS:
        return Refused(
            "asleep",
            f"the test device was silent for {silence_ms / 1000:.0f} s on the way.",
            "Keep the app on the screen and the phone awake, then walk again.",
        )
    per_s = len(times) * 1000 / walk.duration_ms
    if per_s < LEAST_PER_S:
        return Refused(
            "too-few",
            f"the test device was heard {per_s:.1f} times a second, which is too little to learn from.",
            "See gateway doctor: without the radio helper adapters miss much; or the zone is too far from every receiver.",
        )
    return None


def _silent_receiver(walk: Walk, receivers: Sequence[str], deaf: frozenset[str]) -> Refused | None:
    silent = [name for name in receivers if name not in walk.anchors]
    if not silent:
        return None
    heard_nothing = [name for name in silent if name in deaf]
    if heard_nothing:
        what = f"{_have(heard_nothing)} heard nothing at all during the walk, neither the test device nor anything else."
        return Refused("silent-receiver", what, f"See gateway receiver test {heard_nothing[0]}, then walk again.")
    what = f"{_have(silent)} never heard the test device, though the shop says that phones in {walk.zone} are heard there."
    return Refused(
        "silent-receiver",
        what,
        f"Were you in all of {walk.zone}? Else correct where the receiver stands and what it covers: gateway receiver add "
        f"{silent[0]} --replace.",
    )


def _have(names: Sequence[str]) -> str:
    return f"receiver {names[0]}" if len(names) == 1 else f"receivers {listed(names)}"


def _wrong_zone(walk: Walk, others: Mapping[str, Walk]) -> Refused | None:
    zone = sounds_like(walk, others)
    if zone is None:
        return None
    return Refused(
        "wrong-zone",
        f"this sounds like {zone}: are you standing in {walk.zone}?",
        f"If {zone} was walked in the wrong place, walk that one again first; if the two really sound alike, add --anyway.",
    )


def sounds_like(walk: Walk, others: Mapping[str, Walk]) -> str | None:
    """The other zone whose accepted walk this one resembles too much, or ``None``.

    Beside an earlier walk of its own zone another one must not be nearer; a first walk must not be as near to another as that one
    is to itself, told by how far that one's own nearest neighbour is.
    """
    own = _windows(walk)
    windows = {zone: found for zone, other in others.items() if (found := _windows(other))}
    strange = {zone: _unlike(own, found) for zone, found in windows.items() if zone != walk.zone}
    if not strange:
        return None
    nearest = min(strange, key=lambda zone: (strange[zone], zone))
    if walk.zone in windows:
        return nearest if _unlike(own, windows[walk.zone]) - strange[nearest] > _NEARER else None
    found = windows[nearest]
    neighbour = min((_unlike(found, windows[zone]) for zone in strange if zone != nearest), default=1.0)
    return nearest if strange[nearest] <= min(_ALIKE_MOST, max(0.0, _ALIKE_SHARE * neighbour)) else None


_Levels = dict[str, float]
"""Mean by anchor."""


def _windows(walk: Walk) -> list[_Levels]:
    found: dict[int, dict[str, list[float]]] = {}
    for sighting in walk.sightings:
        if sighting.is_possible and sighting.source == "receiver":
            found.setdefault(sighting.t_ms // _WINDOW_MS, {}).setdefault(sighting.anchor, []).append(sighting.rssi_dbm)
    windows = [{anchor: sum(levels) / len(levels) for anchor, levels in found[key].items()} for key in sorted(found)]
    # Of a long walk a part that is spread over all of it says as much.
    return windows[:: -(-len(windows) // _MOST_WINDOWS)] if windows else []


def _unlike(some: Sequence[_Levels], others: Sequence[_Levels]) -> float:
    """How far two sets of windows are from being of one place: the energy distance (Székely and Rizzo), about 0 if they are."""
    across = [_apart(one, other) for one in some for other in others]
    return 2.0 * sum(across, 0.0) / len(across) - _within(some) - _within(others)


def _within(windows: Sequence[_Levels]) -> float:
    """Windows that follow each other are left out: they are alike wherever somebody walks."""
    pairs = [_apart(one, other) for number, one in enumerate(windows) for other in windows[number + 2 :]]
    return sum(pairs) / len(pairs) if pairs else 0.0


def _apart(one: _Levels, other: _Levels) -> float:
    """How unlike two windows are, in standard deviations, without what all anchors have in common (a body, another phone)."""
    weight, total, squared, count = _PACKET_DB**-2, 0.0, 0.0, 0
    for anchor in {*one, *other}:
        error = max(one.get(anchor, _FAINTEST_DBM), _FAINTEST_DBM) - max(other.get(anchor, _FAINTEST_DBM), _FAINTEST_DBM)
        total, squared, count = total + error, squared + error * error, count + 1
    common = weight * total
    return sqrt(max(0.0, weight * squared - common * common / (_COMMON_DB**-2 + weight * count)))


# ---- what is learnt from ------------------------------------------------------------------------------------------------------


def material(walks: Iterable[Walk]) -> list[RecordedSighting]:
    """The sightings of all walks, to learn from; their places only where every walk has them: a map leaves the others out."""
    given = [walk for walk in walks if walk.sightings]
    use_places = all(walk.is_marked for walk in given)
    return [
        replace(sighting, shopper=walk.zone, zone=walk.zone, at_m=sighting.at_m if use_places else None)
        for walk in given
        for sighting in walk.sightings
    ]


def without_block(walk: Walk, number: int) -> Walk:
    """The walk but for one of its ``BLOCKS`` and what lies beside it in time."""
    begin_ms, end_ms = _block(walk, number)
    keep = (s for s in walk.sightings if s.t_ms < begin_ms - _GUARD_MS or s.t_ms >= end_ms + _GUARD_MS)
    return Walk(walk.zone, tuple(keep))


def only_block(walk: Walk, number: int) -> Walk:
    """One block of the walk, its times counted from its own beginning."""
    begin_ms, end_ms = _block(walk, number)
    found = (replace(s, t_ms=s.t_ms - begin_ms) for s in walk.sightings if begin_ms <= s.t_ms < end_ms)
    return Walk(walk.zone, tuple(found))


def _block(walk: Walk, number: int) -> tuple[int, int]:
    first_ms, length_ms = walk.sightings[0].t_ms, walk.duration_ms + 1
    return first_ms + length_ms * number // BLOCKS, first_ms + length_ms * (number + 1) // BLOCKS
