"""How well zones are told apart on radio data that others recorded, beside three ordinary methods.

``GATEWAY_REAL_DATA`` names the folder: danis_tetam (Danis et al. 2021/2022, CC0), kolakowski_flat (Kolakowski 2021, CC BY).
Learning and test never share a session, a standing point or a block of time.
"""

import csv
import gzip
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import exp, log
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from bench.figures import Effort, Figure
from gateway.core.calibration import learn, unsurveyed
from gateway.core.level_filter import LevelFilter
from gateway.core.zone_filter import SLICE, ZoneFilter
from gateway.core.zone_model import NOWHERE, KnownAnchor, Point, Polygon, RecordedSighting, ShopPlan, ZoneModel, distance_m
from gateway.core.zone_scores import Filter, Score, announcements, pooled, score

Recording = list[RecordedSighting]
_WIDTH_M, _DEPTH_M = 20.66, 17.64
_CUTS, _CUT_ZONES, _NARROWEST_M = 32, 9, 3.5
_SEED = 1
_BLOCKS = 5
_SHOPPERS, _ANCHORS, _ZONES = 1000, 12, 20


def measure(effort: Effort) -> list[Figure]:
    """Accuracy on recorded data, where there are some, and what it costs."""
    figures = _cost(effort)
    folder = os.environ.get("GATEWAY_REAL_DATA")
    if not folder or not (Path(folder) / "danis_tetam").is_dir():
        print("zones: no recorded data; GATEWAY_REAL_DATA names their folder", file=sys.stderr)
        return figures
    return [*_danis(Path(folder) / "danis_tetam", effort), *_flat(Path(folder) / "kolakowski_flat"), *figures]


# ---- danis_tetam --------------------------------------------------------------------------------------------------------------


def _danis(folder: Path, effort: Effort) -> list[Figure]:
    anchors = _danis_anchors(folder / "cnf" / "tetam.dev")
    g9 = ShopPlan(anchors, _grid_zones("g", _thirds(_WIDTH_M), _thirds(_DEPTH_M)))
    q4 = ShopPlan(anchors, _grid_zones("q", [0.0, 10.33, _WIDTH_M], [0.0, 8.82, _DEPTH_M]))
    survey = _relabelled(_danis_survey(folder / "survey_set1_first300s.csv.gz"), g9)
    names = dict(re.findall(r'"([0-9a-f]{12})": \[\[[^\]]*\], \d+, "(\w+)"\]', (folder / "cnf" / "tetam.dev").read_text("ascii")))
    tracks = [list(_danis_track(path, names)) for path in sorted((folder / "tracks").glob("*.mbd"))]
    walks = [_relabelled(track, g9) for track in tracks]
    model = learn(survey, g9)
    figures = _figures("g9_survey", _all(walks, lambda: ZoneFilter(model), g9), 0.82, 1.15, 0.10, 0.93)
    for name, peer in _peers(survey, g9).items():
        figures += _figures(f"g9_{name}", _all(walks, peer, g9))
    cuts = []
    for plan in _random_cuts(g9, _CUTS if effort.size == 1 else 4):
        recut = _recut(model, plan)
        cuts.append(_all([_relabelled(track, plan) for track in tracks], lambda recut=recut: ZoneFilter(recut), plan))
    figures += _figures(f"cuts{len(cuts)}_survey", pooled(cuts), 0.82, 1.15, 0.10, 0.93)
    own = ZoneFilter(unsurveyed(g9))
    figures += _figures("g9_positions", _all(walks, lambda: own, g9), 0.78, 1.25)
    zone_of = _zones_of_anchors(q4)
    quarters = [_relabelled(track, q4) for track in tracks]
    figures += _figures("q4_zones_of_anchors", _all(quarters, lambda: LevelFilter(zone_of), q4), 0.89, 1.05)
    figures += _figures("q4_positions", _all(quarters, lambda: ZoneFilter(unsurveyed(q4)), q4))
    return figures + _standing(survey, g9, effort)


def _standing(survey: Recording, plan: ShopPlan, effort: Effort) -> list[Figure]:
    """Each standing point by a model that has not seen it."""
    by_point: dict[str, Recording] = {}
    for sighting in survey:
        by_point.setdefault(sighting.shopper, []).append(sighting)
    # A tenth of the packets of a standing point says as much of its mean.
    thin = {name: own[::10] for name, own in by_point.items()}
    found = []
    for name in sorted(by_point)[:: 1 if effort.size == 1 else 9]:
        model = learn((sighting for other, own in thin.items() if other != name for sighting in own), plan)
        found.append(_all([by_point[name]], lambda model=model: ZoneFilter(model), plan))
    all_ = pooled(found)
    restless = all_.changes_per_10min or 0.0
    means = f"{len(found)} points, each by a model without it; right {all_.accuracy or 0:.3f}"
    return [Figure("zones_g9_standing_changes_per_10min", "1/10 min", restless, 1.5, scales=False, means=means)]


def _danis_anchors(path: Path) -> dict[str, KnownAnchor]:
    found = re.finditer(r'\[\[([-\d.]+), ([-\d.]+), [-\d.]+\], \d+, "(\w+)"\]', path.read_text("ascii"))
    return {match[3]: KnownAnchor((float(match[1]), float(match[2]))) for match in found}


def _danis_survey(path: Path) -> Iterator[RecordedSighting]:
    with gzip.open(path, "rt", encoding="ascii") as file:
        for row in csv.DictReader(file):
            at_m = float(row["x"]), float(row["y"])
            t_ms = round(float(row["t_epoch"]) * 1000)
            yield RecordedSighting(t_ms, f"point{row['point']}", row["receiver"], float(row["rssi"]), None, at_m)


def _danis_track(path: Path, names: Mapping[str, str]) -> Iterator[RecordedSighting]:
    for line in path.read_text("ascii").splitlines():
        fields = line.split(",")
        if len(fields) >= 7:
            at_m = float(fields[4]), float(fields[5])
            yield RecordedSighting(round(float(fields[0]) * 1000), "walker", names[fields[1]], float(fields[3]), None, at_m)


def _thirds(length_m: float) -> list[float]:
    return [length_m * part / 3 for part in range(4)]


def _grid_zones(prefix: str, xs: Sequence[float], ys: Sequence[float]) -> dict[str, Polygon]:
    return {
        f"{prefix}{row}{column}": _rectangle(xs[column], ys[row], xs[column + 1], ys[row + 1])
        for row in range(len(ys) - 1)
        for column in range(len(xs) - 1)
    }


def _rectangle(x0: float, y0: float, x1: float, y1: float) -> Polygon:
    return (x0, y0), (x1, y0), (x1, y1), (x0, y1)


def _random_cuts(plan: ShopPlan, count: int) -> Iterator[ShopPlan]:
    """The floor cut at random into zones at least ``_NARROWEST_M`` wide: the largest is halved until there are enough."""
    chance = random.Random(_SEED)
    while count:
        parts = [(0.0, 0.0, _WIDTH_M, _DEPTH_M)]
        while len(parts) < _CUT_ZONES:
            parts.sort(key=lambda part: (part[2] - part[0]) * (part[3] - part[1]))
            x0, y0, x1, y1 = parts.pop()
            width, depth = x1 - x0, y1 - y0
            if max(width, depth) < 2 * _NARROWEST_M:
                break
            across = width >= 2 * _NARROWEST_M and (depth < 2 * _NARROWEST_M or chance.random() < width / (width + depth))
            if across:
                cut = chance.uniform(x0 + _NARROWEST_M, x1 - _NARROWEST_M)
                parts += [(x0, y0, cut, y1), (cut, y0, x1, y1)]
            else:
                cut = chance.uniform(y0 + _NARROWEST_M, y1 - _NARROWEST_M)
                parts += [(x0, y0, x1, cut), (x0, cut, x1, y1)]
        if len(parts) == _CUT_ZONES:
            count -= 1
            yield ShopPlan(plan.anchors, {f"z{number}": _rectangle(*part) for number, part in enumerate(parts)})


def _recut(model: ZoneModel, plan: ShopPlan) -> ZoneModel:
    """The same levels under other zones."""
    assert model.grid is not None
    zones = tuple(sorted(plan.zones))
    inside = [_into_floor(place) for place in model.grid.centres()]
    found = [plan.zone_at(place) for place in inside]
    cell_zones = tuple(NOWHERE if zone is None else zones.index(zone) for zone in found)
    return replace(model, zones=zones, cell_zones=cell_zones, polygons=dict(plan.zones))


def _into_floor(place: Point) -> Point:
    return min(max(place[0], 0.01), _WIDTH_M - 0.01), min(max(place[1], 0.01), _DEPTH_M - 0.01)


# ---- kolakowski_flat ----------------------------------------------------------------------------------------------------------


def _flat(folder: Path) -> list[Figure]:
    """The calibration in blocks of time, each by a model of the others."""
    with (folder / "anchors.csv").open(encoding="ascii") as file:
        anchors = {
            f"anchor{int(float(row['id']))}": KnownAnchor((float(row["x"]), float(row["y"]))) for row in csv.DictReader(file)
        }
    rooms = {
        "sw": _rectangle(0, 0, 1.98, 2.12),
        "hall": _rectangle(1.98, 0, 3.96, 2.12),
        "s": _rectangle(3.96, 0, 9.1, 2.12),
        "w": _rectangle(0, 2.12, 2.64, 7.1),
        "living": _rectangle(2.64, 2.12, 6.32, 7.1),
        "e": _rectangle(6.32, 2.12, 9.1, 7.1),
    }
    plan = ShopPlan(anchors, rooms)
    recorded: Recording = []
    with (folder / "calibration" / "calibration_df.csv").open(encoding="ascii") as file:
        for row in csv.DictReader(file):
            at_m = float(row["x"]), float(row["y"])
            for number in range(1, 7):
                if row[f"rssi_{number}"] not in {"", "nan"}:
                    t_ms = round(float(row["ts"]) / 1e6)
                    recorded.append(RecordedSighting(t_ms, "tag", f"anchor{number}", float(row[f"rssi_{number}"]), None, at_m))
    recorded = _relabelled(recorded, plan)
    recorded.sort(key=lambda sighting: sighting.t_ms)
    times = sorted({sighting.t_ms for sighting in recorded})
    edges = [times[len(times) * number // _BLOCKS] for number in range(_BLOCKS)] + [times[-1] + 1]
    blocks = [[s for s in recorded if edges[n] <= s.t_ms < edges[n + 1]] for n in range(_BLOCKS)]
    ours: list[Score] = []
    others: dict[str, list[Score]] = {}
    for number, block in enumerate(blocks):
        rest = [sighting for other, own in enumerate(blocks) if other != number for sighting in own]
        model = learn(rest, plan)
        ours.append(_all([block], lambda model=model: ZoneFilter(model), plan))
        for name, peer in _peers(rest, plan).items():
            others.setdefault(name, []).append(_all([block], peer, plan))
    figures = _figures("flat_blocks", pooled(ours), 0.89, 1.2)
    for name, scores in others.items():
        figures += _figures(f"flat_{name}", pooled(scores))
    return figures


# ---- ordinary methods ---------------------------------------------------------------------------------------------------------


def _peers(train: Recording, plan: ShopPlan) -> dict[str, Callable[[], Filter]]:
    zone_of = _zones_of_anchors(plan)
    fitted = _Bayes.fitted(train)
    zones = tuple(sorted(plan.zones))
    return {
        "strongest": lambda: _Strongest(zone_of, zones),
        "naive_bayes": lambda: _Bayes(fitted, zones, stay=None),
        "hmm": lambda: _Bayes(fitted, zones, stay=0.95),
    }


class _Strongest:
    """The zone of the strongest anchor over one second, when it leads by 3 dB for 2 s."""

    def __init__(self, zone_of: Mapping[str, str], zones: tuple[str, ...]) -> None:
        self.zones = zones
        self._zone_of = zone_of
        self._levels: dict[str, dict[str, list[tuple[int, float]]]] = {}
        self._now: dict[str, str] = {}
        self._candidate: dict[str, tuple[str, int]] = {}

    def observe(self, sighting: RecordedSighting) -> None:
        """Take one sighting."""
        if sighting.is_possible:
            levels = self._levels.setdefault(sighting.shopper, {}).setdefault(sighting.anchor, [])
            levels.append((sighting.t_ms, sighting.rssi_dbm))

    def beliefs(self, now_ms: int) -> Iterable[tuple[str, Sequence[float]]]:
        """Certainty of one zone."""
        for shopper, anchors in self._levels.items():
            zones: dict[str, float] = {}
            for anchor, levels in anchors.items():
                levels[:] = [level for level in levels if now_ms - level[0] <= 1000]
                zone = self._zone_of.get(anchor)
                if levels and zone is not None:
                    mean = sum(dbm for _, dbm in levels) / len(levels)
                    zones[zone] = max(mean, zones.get(zone, -200.0))
            if not zones:
                continue
            best = max(zones, key=lambda zone: zones[zone])
            here = self._now.setdefault(shopper, best)
            if zones[best] - zones.get(here, -200.0) > 3.0:
                candidate, since_ms = self._candidate.get(shopper, ("", 0))
                if candidate != best:
                    self._candidate[shopper] = best, now_ms
                elif now_ms - since_ms >= 2000:
                    self._now[shopper] = best
            else:
                self._candidate.pop(shopper, None)
            yield shopper, [float(zone == self._now[shopper]) for zone in self.zones] + [0.0]


Fitted = dict[str, dict[str, tuple[float, float]]]
"""Mean and standard deviation by zone and anchor."""


class _Bayes:
    """Gaussian naive Bayes on the last 3 s; with ``stay`` a hidden Markov model over the zones, a step each second."""

    def __init__(self, fitted: Fitted, zones: tuple[str, ...], stay: float | None) -> None:
        self.zones = zones
        self._fitted = fitted
        self._stay = stay
        self._heard: dict[str, list[RecordedSighting]] = {}
        self._prior: dict[str, tuple[int, dict[str, float]]] = {}

    @staticmethod
    def fitted(train: Recording) -> Fitted:
        """From labelled sightings."""
        sums: dict[tuple[str, str], list[float]] = {}
        for sighting in train:
            if sighting.is_possible and sighting.zone is not None:
                entry = sums.setdefault((sighting.zone, sighting.anchor), [0.0, 0.0, 0.0])
                entry[0] += 1
                entry[1] += sighting.rssi_dbm
                entry[2] += sighting.rssi_dbm**2
        result: Fitted = {}
        for (zone, anchor), (count, total, squares) in sums.items():
            mean = total / count
            result.setdefault(zone, {})[anchor] = mean, max(1.0, (squares / count - mean * mean) ** 0.5)
        return result

    def observe(self, sighting: RecordedSighting) -> None:
        """Take one sighting."""
        if sighting.is_possible:
            self._heard.setdefault(sighting.shopper, []).append(sighting)

    def beliefs(self, now_ms: int) -> Iterable[tuple[str, Sequence[float]]]:
        """Certainty of the likeliest zone."""
        for shopper, heard in self._heard.items():
            window_ms = 3000 if self._stay is None else 1000
            heard[:] = [sighting for sighting in heard if now_ms - sighting.t_ms <= window_ms]
            last_ms, prior = self._prior.get(shopper, (None, dict.fromkeys(self.zones, 0.0)))
            if not heard or (self._stay is not None and last_ms is not None and now_ms - last_ms < 1000):
                continue
            levels: dict[str, list[float]] = {}
            for sighting in heard:
                levels.setdefault(sighting.anchor, []).append(sighting.rssi_dbm)
            means = {anchor: sum(found) / len(found) for anchor, found in levels.items()}
            posterior = {zone: prior[zone] + self._log_likely(zone, means) for zone in self.zones}
            best = max(posterior, key=lambda zone: posterior[zone])
            if self._stay is not None:
                shares = {zone: exp(posterior[zone] - posterior[best]) for zone in self.zones}
                total, move = sum(shares.values()), (1 - self._stay) / max(1, len(self.zones) - 1)
                self._prior[shopper] = (
                    now_ms,
                    {zone: log(self._stay * share / total + move * (1 - share / total)) for zone, share in shares.items()},
                )
            yield shopper, [float(zone == best) for zone in self.zones] + [0.0]

    def _log_likely(self, zone: str, means: Mapping[str, float]) -> float:
        fitted = self._fitted.get(zone)
        if fitted is None:
            return -1e6
        total = 0.0
        for anchor, level in means.items():
            mean, sigma = fitted.get(anchor, (-100.0, 6.0))
            total -= 0.5 * ((level - mean) / sigma) ** 2 + log(sigma)
        return total


# ---- cost ---------------------------------------------------------------------------------------------------------------------


def _cost(effort: Effort) -> list[Figure]:
    """The filter and the announcers, without decoding: everybody walks, and is heard by all anchors twice a second."""
    from gateway.core.announcer import Announcer

    anchors = {f"a{n}": KnownAnchor((4.0 + 8.0 * (n % 4), 3.0 + 7.0 * (n // 4))) for n in range(_ANCHORS)}
    zones = _grid_zones("z", [6.4 * n for n in range(6)], [5.0 * n for n in range(5)])
    assert len(zones) == _ZONES
    model = unsurveyed(ShopPlan(anchors, zones))
    filtering, cells = ZoneFilter(model), len(model.cell_zones)
    chance = random.Random(_SEED)
    names = list(anchors)
    announcers = [Announcer() for _ in range(_SHOPPERS)]
    columns: list[str | None] = [*filtering.zones, None]
    seconds = 4 if effort.size < 1 else 20
    spent_ns = longest_ns = longest_wall_ns = 0
    for step in range(seconds * 5):
        now_ms = step * 200
        # In a crowd the gateway takes a fifth of the shoppers each fifth of a second, with both emissions of their last second.
        heard = [(f"s{n}", name, chance.uniform(-90.0, -55.0)) for n in range(step % 5, _SHOPPERS, 5) for name in names * 2]
        began_ns = time.thread_time_ns()
        for shopper, name, rssi_dbm in heard:
            filtering.observe_level(shopper, name, rssi_dbm, "receiver", now_ms)
        slice_ns, slice_wall_ns = time.thread_time_ns(), time.perf_counter_ns()
        for number, (shopper, belief) in enumerate(filtering.beliefs(now_ms)):
            announcers[int(shopper[1:])].update(now_ms, dict(zip(columns, belief, strict=True)))
            if number % SLICE == SLICE - 1:
                longest_ns = max(longest_ns, time.thread_time_ns() - slice_ns)
                longest_wall_ns = max(longest_wall_ns, time.perf_counter_ns() - slice_wall_ns)
                slice_ns, slice_wall_ns = time.thread_time_ns(), time.perf_counter_ns()
        if step >= 10:
            spent_ns += time.thread_time_ns() - began_ns
    share = 100 * spent_ns / ((seconds * 5 - 10) * 200e6)
    means = (
        f"of one core, CPU time: filter and announcer, {_ANCHORS} anchors, {_ZONES} zones, two emissions and a belief a second "
        f"of each shopper, {cells} cells"
    )
    longest = (
        f"CPU time of the longest piece that lets nobody in between, {SLICE} shoppers; wall time {longest_wall_ns / 1e6:.1f}"
    )
    return [
        Figure("positioning_1000_shoppers_percent_of_core", "%", share, 15, means=means),
        Figure("positioning_longest_piece", "ms", longest_ns / 1e6, 20, means=longest),
    ]


# ---- shared -------------------------------------------------------------------------------------------------------------------


def _relabelled(sightings: Iterable[RecordedSighting], plan: ShopPlan) -> Recording:
    zones: dict[Point, str | None] = {}
    result = []
    for sighting in sightings:
        assert sighting.at_m is not None
        if sighting.at_m not in zones:
            x, y = sighting.at_m
            zones[sighting.at_m] = plan.zone_at((x, y)) or _nearest_zone((x, y), plan)
        result.append(replace(sighting, zone=zones[sighting.at_m]))
    return result


def _zones_of_anchors(plan: ShopPlan) -> dict[str, str]:
    """Some hang on the outer wall, which is the border of a polygon."""
    places = {name: anchor.at_m for name, anchor in plan.anchors.items() if anchor.at_m is not None}
    found = {name: plan.zone_at(place) or _nearest_zone(place, plan) for name, place in places.items()}
    return {name: zone for name, zone in found.items() if zone is not None}


def _nearest_zone(place: Point, plan: ShopPlan) -> str | None:
    return min(plan.zones, key=lambda name: (distance_m(plan.zones[name], place), name), default=None)


def _all(recordings: Sequence[Recording], filtering: Callable[[], Filter], plan: ShopPlan) -> Score:
    return pooled(score(ticks, plan) for own in recordings for ticks in announcements(own, filtering()).values())


def _figures(
    name: str,
    found: Score,
    accuracy: float | None = None,
    changes: float | None = None,
    wrong: float | None = None,
    near: float | None = None,
) -> list[Figure]:
    delay = found.delay_s(50)
    means = (
        f"{found.ticks} seconds, {found.changes} changes for {found.true_changes} true, {found.wrong_stays} of {found.stays} "
        f"stays wrong, entered after {'–' if delay is None else f'{delay:.0f} s'} (median), {found.never_entered} never"
    )
    rows = [Figure(f"zones_{name}", "share", found.accuracy or 0.0, accuracy, "higher", scales=False, means=means)]
    if found.changes_per_true_change is not None:
        rows.append(Figure(f"zones_{name}_changes", "per true", found.changes_per_true_change, changes, scales=False))
    if found.stays:
        rows.append(Figure(f"zones_{name}_wrong", "share", found.wrong_stays / found.stays, wrong, scales=False))
    if found.accuracy_1m is not None:
        rows.append(Figure(f"zones_{name}_1m", "share", found.accuracy_1m, near, "higher", scales=False))
    return rows
