"""Accepted walks → how well zones are told apart, what is not covered, and what to do about it in plain words.

Each walk is cut in blocks of time; the seconds of a block are announced by a model that was learnt without that block of any walk
(``confusion``), so that nothing is judged by what it has taught. ``replayed`` asks something else: what the model in force makes
of the walks as they are, to notice when that gets worse.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import hypot, log10
from statistics import median

from gateway.core.calibration import learn
from gateway.core.spelling import listed
from gateway.core.walks import BLOCKS, Walk, material, only_block, without_block
from gateway.core.zone_filter import NEAREST_M, USUAL_EXPONENT, ZoneFilter
from gateway.core.zone_model import Point, Polygon, RecordedSighting, ShopPlan, ZoneModel
from gateway.core.zone_scores import Filter, announcements, score

WEAK = 0.8
"""A zone that is announced in less than this share of its own walk's seconds is weak."""
_CONFUSED = 0.1
"""Of the seconds of two zones: from here on something is said about the pair."""
_FAINT_DBM = -85.0
_RARE_PER_S = 1.5
_MOST_ADVICE = 12
_STEPS_M = (1.0, 2.0, 3.0)
_WAYS: tuple[tuple[str, Point], ...] = (("left", (-1.0, 0.0)), ("right", (1.0, 0.0)), ("up", (0.0, 1.0)), ("down", (0.0, -1.0)))
_WORTH = 1.3
"""A receiver is moved for nothing less than so many times the difference between two zones."""
_WORSE_ZONE, _WORSE_ALL = 0.10, 0.03
"""Shares of the seconds by which a replay may fall behind: another machine's arithmetic moves a second here and there."""


@dataclass(frozen=True, slots=True)
class ZoneWalked:
    """How one zone's walk would have been announced, and how it is heard."""

    zone: str
    seconds: int
    right: int
    announced: Mapping[str, int]
    """Seconds by zone, the most first; ``""`` is none of them."""
    loudest: str | None
    loudest_dbm: float | None
    heard_per_s: float

    @property
    def accuracy(self) -> float:
        """Share of the seconds."""
        return self.right / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Replay:
    """What a model makes of one walk."""

    seconds: int
    right: int
    changes: int

    @property
    def accuracy(self) -> float:
        """Share of the seconds."""
        return self.right / self.seconds if self.seconds else 0.0


# ---- figures ------------------------------------------------------------------------------------------------------------------


def confusion(walks: Sequence[Walk], plan: ShopPlan) -> dict[str, ZoneWalked]:
    """By zone; raises ``NotLearnt`` when nothing can be learnt from the walks."""
    counts: dict[str, Counter[str]] = {walk.zone: Counter() for walk in walks}
    for number in range(BLOCKS):
        model = learn(material(without_block(walk, number) for walk in walks), plan)
        tested = [sighting for walk in walks for sighting in _named(only_block(walk, number))]
        for zone, ticks in announcements(tested, ZoneFilter(model)).items():
            # Whoever is in a zone was there a second ago, too: the filter's very first word is not what shoppers get.
            counts[zone].update(tick.announced or "" for tick in ticks[1:] or ticks)
    return {walk.zone: _walked(walk, counts[walk.zone]) for walk in walks}


def _named(walk: Walk) -> Iterable[RecordedSighting]:
    """One shopper for each walk."""
    for sighting in walk.sightings:
        yield RecordedSighting(sighting.t_ms, walk.zone, sighting.anchor, sighting.rssi_dbm, walk.zone, None, sighting.source)


def _walked(walk: Walk, counts: Counter[str]) -> ZoneWalked:
    levels: dict[str, list[float]] = {}
    for sighting in walk.sightings:
        levels.setdefault(sighting.anchor, []).append(sighting.rssi_dbm)
    # A receiver that hears one packet in ten hears the loudest ones: of two equals the one that hears more is meant.
    ranked = sorted(levels, key=lambda name: (-round(median(levels[name])), -len(levels[name]), name))
    return ZoneWalked(
        walk.zone,
        counts.total(),
        counts[walk.zone],
        dict(counts.most_common()),
        ranked[0] if ranked else None,
        median(levels[ranked[0]]) if ranked else None,
        round(len(walk.sightings) * 1000 / max(1000, walk.duration_ms), 1),
    )


def replayed(walks: Sequence[Walk], filtering: Filter) -> dict[str, Replay]:
    """By zone, each walk by a shopper of its own, as the running gateway would have announced it."""
    tested = [sighting for walk in walks for sighting in _named(walk)]
    found = {}
    for zone, ticks in announcements(tested, filtering).items():
        own = score(ticks, ShopPlan())
        found[zone] = Replay(own.ticks, own.right, own.changes)
    return found


def is_worse(now: Replay, accepted: float, changes: int) -> bool:
    """Whether one walk fares worse than when it was accepted."""
    return now.accuracy < accepted - _WORSE_ZONE or now.changes > changes + 1


def all_worse(now: float, accepted: float) -> bool:
    """The same of all walks together."""
    return now < accepted - _WORSE_ALL


# ---- advice -------------------------------------------------------------------------------------------------------------------


def advice(
    walked: Mapping[str, ZoneWalked],
    walks: Sequence[Walk],
    plan: ShopPlan,
    *,
    receivers: Sequence[str],
    not_walked: Sequence[str],
) -> list[str]:
    """What to do, in sentences, the most urgent first. ``receivers``: all of the shop; ``not_walked``: zones with anchors."""
    said: list[str] = []
    heard = frozenset(anchor for walk in walks for anchor in walk.anchors)
    if not_walked:
        said.append(f"walk {listed(not_walked)} too: gateway zone walk {not_walked[0]}")
    if silent := [name for name in receivers if name not in heard]:
        said.append(f"{listed(silent)} heard none of the walks: gateway receiver test {silent[0]}")
    for zone, found in sorted(walked.items()):
        if found.loudest is not None and found.loudest_dbm is not None and found.loudest_dbm < _FAINT_DBM:
            said.append(
                f"{zone} is hardly covered: its loudest receiver, {found.loudest}, hears {found.loudest_dbm:.0f} dBm there; "
                "put one nearer"
            )
        elif found.heard_per_s < _RARE_PER_S:
            said.append(
                f"{zone} is hardly covered: {found.heard_per_s:g} packets a second are heard there; put a receiver nearer"
            )
    said += [_apart(one, other, walks, plan) for one, other in _confused(walked)]
    said += [
        f"{zone} is told right in {found.accuracy:.0%} of its walk, taken for none in particular: walk it again, for longer"
        for zone, found in sorted(walked.items())
        if found.accuracy < WEAK and not any(zone in pair for pair in _confused(walked))
    ]
    return said[:_MOST_ADVICE]


def _confused(walked: Mapping[str, ZoneWalked]) -> list[tuple[str, str]]:
    """Pairs of zones that are taken for each other, the worst first."""
    found = []
    for zone, one in walked.items():
        for name in walked:
            if zone < name:
                other = walked[name]
                mixed = one.announced.get(name, 0) + other.announced.get(zone, 0)
                share = mixed / max(1, one.seconds + other.seconds)
                if share >= _CONFUSED:
                    found.append((share, zone, name))
    return [(one, other) for _, one, other in sorted(found, key=lambda pair: (-pair[0], pair[1:]))]


def _apart(one: str, other: str, walks: Sequence[Walk], plan: ShopPlan) -> str:
    """The sentence about two zones that are taken for each other."""
    middles = _middle(one, walks, plan), _middle(other, walks, plan)
    if middles[0] is not None and middles[1] is not None:
        move = _move(middles[0], middles[1], plan)
        if move is not None:
            name, way, metres, (x, y) = move
            far = "one metre" if metres == 1 else f"{metres:.0f} metres"
            return f"between {one} and {other}: move {name} {far} {way} on the plan (to {x:g}, {y:g}), or merge the zones"
    levels = {walk.zone: _levels(walk) for walk in walks}
    best = {zone: max(levels[zone], key=lambda name: (levels[zone][name], name)) for zone in (one, other) if levels[zone]}
    if len(set(best.values())) == 1 and len(best) == 2:
        name = best[one]
        apart_db = abs(levels[one][name] - levels[other][name])
        home = plan.anchors[name].zone if name in plan.anchors else None
        into = home if home in {one, other} else one
        return (
            f"between {one} and {other}: {name} is the loudest in both and differs by {apart_db:.0f} dB only; move it deeper "
            f"into {into}, put a receiver into {other if into == one else one}, or merge the zones"
        )
    pair = listed(sorted(set(best.values())))
    return f"between {one} and {other}: {pair} hear both alike; move them farther from the common border, or merge the zones"


def _levels(walk: Walk) -> dict[str, float]:
    levels: dict[str, list[float]] = {}
    for sighting in walk.sightings:
        levels.setdefault(sighting.anchor, []).append(sighting.rssi_dbm)
    return {name: median(found) for name, found in levels.items()}


def _middle(zone: str, walks: Sequence[Walk], plan: ShopPlan) -> Point | None:
    """Of its outline, or of its marked walk."""
    outline = plan.zones.get(zone)
    places: Sequence[Point] = outline or [
        s.at_m for walk in walks if walk.zone == zone for s in walk.sightings if s.at_m is not None
    ]
    if not places:
        return None
    return sum(x for x, _ in places) / len(places), sum(y for _, y in places) / len(places)


def _move(one: Point, other: Point, plan: ShopPlan) -> tuple[str, str, float, Point] | None:
    """The receiver, direction, metres and new place that tell two middles best apart; ``None`` when no small move helps.

    Told apart: by the sum of squared differences of the levels that path loss promises.
    """
    known = {name: anchor.at_m for name, anchor in plan.anchors.items() if anchor.at_m is not None}
    if not known:
        return None
    floor = _box(list(plan.zones.values()), list(known.values()))

    def differs(at: Point) -> float:
        to_one = max(NEAREST_M, hypot(at[0] - one[0], at[1] - one[1]))
        to_other = max(NEAREST_M, hypot(at[0] - other[0], at[1] - other[1]))
        return (10.0 * USUAL_EXPONENT * log10(to_one / to_other)) ** 2

    total = sum(differs(at) for at in known.values())
    found: list[tuple[float, str, str, float, Point]] = []
    for step in _STEPS_M:
        for name, at in known.items():
            for way, (dx, dy) in _WAYS:
                to = round(at[0] + step * dx, 1), round(at[1] + step * dy, 1)
                if floor[0] <= to[0] <= floor[2] and floor[1] <= to[1] <= floor[3]:
                    gain = (total - differs(at) + differs(to)) / max(total, 1e-6)
                    found.append((gain, name, way, step, to))
        if found and max(found)[0] >= _WORTH:
            break
    if not found or max(found)[0] < _WORTH:
        return None
    _, name, way, step, to = max(found)
    return name, way, step, to


def _box(outlines: Sequence[Polygon], places: Sequence[Point]) -> tuple[float, float, float, float]:
    corners = [corner for outline in outlines for corner in outline] or list(places)
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    return min(xs), min(ys), max(xs), max(ys)


def model_of(walks: Sequence[Walk], plan: ShopPlan) -> ZoneModel:
    """What is learnt from the walks; raises ``NotLearnt``."""
    return learn(material(walks), plan)
