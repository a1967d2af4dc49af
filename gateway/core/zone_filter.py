"""Sightings → a belief over the cells of a floor, for all shoppers at once.

A causal Bayes filter on a grid. Each cell is held in five versions of each pace, one standing still and four walking, because
who walks goes on walking, and who is quick stays quick: what is heard tells soon which pace it is, and then the other one hardly
counts. About once a second ``move`` shifts each version its way, blurs it a little and lets some of it turn; ``weigh`` weighs
the cells by what was heard, each time. What one emission of a phone says is taken for less than it seems (``_TEMPER``), because
the error of the map stays the same from packet to packet, and a level that all anchors share (a body, the phone's gain) is
integrated out.

A phone's own word (hint, report) moves at most half of the belief, unless no receiver hears the phone at all. Nothing here waits,
and the memory for each shopper is the floor's cells; who is silent for ``FORGET_MS`` is dropped.
"""

from collections.abc import Iterable, Sequence
from itertools import product
from math import ceil, cos, exp, floor, log, pi, prod, sin, sqrt

import numpy as np
from numpy.typing import NDArray

from gateway.core.zone_model import FAINTEST_DBM, LOUDEST_DBM, NOWHERE, RecordedSighting, ShopPlan, Source, ZoneModel

Floats = NDArray[np.float32]

FORGET_MS = 120_000
SLICE = 20
"""So many shoppers are computed at once: more would keep the event loop waiting, and leave the processor's cache."""
_PACES_M_S = (0.45, 1.0)
"""Robots, and people who push or measure something, go at 0.3 … 0.5 m/s, people in a shop at about 1."""
_NEW_PACE_PER_S = 0.003
_HEADINGS = 4
_TURNS_PER_S = 0.2
_BLUR_M = 0.4
"""After one second, standard deviation."""
_ANYWHERE_PER_S = 1e-4
_MOVES_PER_S = 0.08
"""Between the fingerprints of a shop without positions."""
_TEMPER = 0.4
_FADING_TEMPER = 0.35
"""Where levels were measured the map's own error is a smaller part, and lasts as long."""
_FADE_DB = 4.0
"""Of one packet against the mean over a few steps; fading has a side, the errors of a map have none."""
_POWER_DB = 10.0 / log(10.0)
_COMMON_DB = 1.0
_BEYOND_DB = 12.0
"""A level this far beyond all of the map's says no more than one at this distance."""
_LEAST_LOG = -20.0
"""One emission excludes nothing altogether; and what is next to nothing would cost the processor a hundred times as much."""
_TOLD_SHARE = 0.5
_UNHEARD_MS = 10_000
_MOVE_MS = 800
"""Sooner than this after the last move nobody is moved again: moving costs more than weighing, and hardly changes anything."""
_STEP_MS = 100
_LONGEST_STEP_MS = 5000
_LOST_AFTER_MS = 60_000
"""After a silence of this length a shopper may be anywhere."""
_OUTSIDE_DBM = -99.0
_OUTSIDE_SIGMA_DB = 7.0
_OUTSIDE_PRIOR = 0.02
_IMPOSSIBLE = 1e-30
"""A belief whose weight is below this knows nothing: it begins anew."""
_PARTS = (-0.375, -0.125, 0.125, 0.375)
"""Where a cell at a border is looked at, each way, in cells from its middle."""

_LEARN_EVERY = 20
"""Emissions between two corrections of levels that follow from positions alone."""
_LEARN_WEIGHT = 0.005
"""Of one packet, in information: errors of packets that follow each other are alike."""
_POWER_SD_DB, _EXPONENT_SD = 4.0, 0.3


class _Followed:
    """One shopper: the belief, and what was heard since."""

    __slots__ = ("at_ms", "codes", "heard_ms", "inside", "levels", "outside", "reported", "seen_ms")

    def __init__(self, inside: Floats) -> None:
        self.inside = inside
        self.outside = _OUTSIDE_PRIOR
        self.at_ms: int | None = None
        """When the shopper was last moved; ``None`` before the first belief."""
        self.seen_ms = 0
        """When the last belief was computed."""
        self.heard_ms: int | None = None
        """When a receiver last heard the phone itself."""
        self.reported = False
        """Whether an app's report is among what was heard since."""
        self.codes: list[int] = []
        """By sighting: the number of the anchor, those that the phone told of behind those that receivers heard."""
        self.levels: list[float] = []

    def begin_anew(self, inside: Floats) -> None:
        """Forget where the shopper was."""
        self.inside[:] = inside
        self.outside = _OUTSIDE_PRIOR
        self.at_ms = None


class ZoneFilter:
    """The beliefs of one shop. ``observe`` collects; ``beliefs`` computes for whoever was observed since."""

    def __init__(self, model: ZoneModel) -> None:
        self._model = model
        self._anchors = len(model.anchors)
        self._code_of = {name: number for number, name in enumerate(model.anchors)}
        self._motion: _Walking | _Jumping = _Jumping(model) if model.grid is None else _Walking(model)
        self._map = _Map(model) if model.learns else _FadingMap(model)
        self._zone_shares = _zone_shares(model)
        self._shoppers: dict[str, _Followed] = {}
        self._pending: dict[str, _Followed] = {}
        self._learning = _Learning(model) if model.learns else None
        self._swept_ms = 0
        # Of one slice; kept, because memory of this size would come anew from the system each time.
        self._inside: Floats = np.empty((SLICE, *self._motion.start.shape), np.float32)

    @property
    def zones(self) -> tuple[str, ...]:
        """The names of the columns of ``beliefs``; the last column stands for none of them."""
        return self._model.zones

    @property
    def has_pending(self) -> bool:
        """Whether something was observed that no belief has seen."""
        return bool(self._pending)

    def observe(self, sighting: RecordedSighting) -> None:
        """Take one sighting; impossible levels and unknown anchors are refused."""
        self.observe_level(sighting.shopper, sighting.anchor, sighting.rssi_dbm, sighting.source, sighting.t_ms)

    def observe_level(self, shopper: str, anchor: str, rssi_dbm: float, source: Source, t_ms: int) -> None:
        """The same without an object: this is called for every advertisement of every shopper."""
        code = self._code_of.get(anchor)
        if code is None or not FAINTEST_DBM < rssi_dbm < LOUDEST_DBM:
            return
        followed = self._shoppers.get(shopper)
        if followed is None:
            followed = self._shoppers[shopper] = _Followed(self._motion.start.copy())
        if source == "receiver":
            followed.heard_ms = t_ms
        else:
            code += self._anchors
            followed.reported |= source == "report"
        followed.codes.append(code)
        followed.levels.append(rssi_dbm)
        self._pending[shopper] = followed

    def forget(self, shopper: str) -> None:
        """Drop everything about one shopper."""
        self._pending.pop(shopper, None)
        self._shoppers.pop(shopper, None)

    def beliefs(self, now_ms: int) -> Iterable[tuple[str, Sequence[float]]]:
        """For each shopper observed since the last call its probabilities by zone, and that of being in none.

        Computed ``SLICE`` shoppers at a time, while the result is read.
        """
        pending, self._pending = self._pending, {}
        if now_ms - self._swept_ms >= _UNHEARD_MS:
            self._swept_ms = now_ms
            for name in [name for name, known in self._shoppers.items() if now_ms - known.seen_ms > FORGET_MS]:
                if name not in pending:
                    del self._shoppers[name]
        if self._learning is not None and self._learning.is_due:
            self._map.use(self._learning.levels())
        steps: dict[int, list[tuple[str, _Followed]]] = {}
        for name, followed in pending.items():
            if followed.at_ms is not None and now_ms < followed.at_ms:
                # Another recording of the same shopper.
                followed.begin_anew(self._motion.start)
            steps.setdefault(_step_ms(followed, now_ms), []).append((name, followed))
        # Who moves by the same step is computed together.
        order = [(step_ms, name, followed) for step_ms, some in sorted(steps.items()) for name, followed in some]
        for start in range(0, len(order), SLICE):
            # The reader may have forgotten somebody meanwhile.
            some = [item for item in order[start : start + SLICE] if self._shoppers.get(item[1]) is item[2]]
            if some:
                moves, shoppers = [step_ms for step_ms, _, _ in some], [followed for _, _, followed in some]
                # Of a crowd one slice teaches enough.
                zones = self._step(moves, shoppers, now_ms, learns=start == 0)
                yield from zip([name for _, name, _ in some], zones.tolist(), strict=True)

    def _step(self, steps: list[int], shoppers: list[_Followed], now_ms: int, *, learns: bool) -> Floats:
        inside = np.stack([shopper.inside for shopper in shoppers], out=self._inside[: len(shoppers)])
        outside = np.array([shopper.outside for shopper in shoppers], np.float32)
        levels, heard = self._levels(shoppers)
        received = slice(None, self._anchors)
        weights = self._map.likelihood(levels[:, received], heard[:, received])
        for step_ms in dict.fromkeys(steps):
            if step_ms:
                chosen = slice(steps.index(step_ms), len(steps) - steps[::-1].index(step_ms))
                self._motion.move(inside[chosen], outside[chosen], step_ms)
        told = heard[:, self._anchors :]
        if told.any():
            self._weigh_told(weights, shoppers, (inside, outside), (levels[:, self._anchors :], told), now_ms)
        cells = self._motion.weigh(inside, outside, weights)
        for step_ms, shopper, own_inside, own_outside in zip(steps, shoppers, inside, outside.tolist(), strict=True):
            shopper.inside[:] = own_inside
            shopper.outside = own_outside
            if step_ms or shopper.at_ms is None:
                shopper.at_ms = now_ms
            shopper.seen_ms = now_ms
            shopper.reported = False
            shopper.codes.clear()
            shopper.levels.clear()
        if self._learning is not None and learns:
            self._learning.take(cells, levels[:, received], heard[:, received])
        zones: Floats = cells @ self._zone_shares
        return zones

    def _levels(self, shoppers: list[_Followed]) -> tuple[Floats, Floats]:
        """(levels, whether heard) by shopper and code; what was heard of one anchor since the last step is averaged."""
        columns = 2 * self._anchors
        counts = [len(shopper.codes) for shopper in shoppers]
        codes = np.array([code for shopper in shoppers for code in shopper.codes])
        codes += np.repeat(np.arange(len(shoppers)) * columns, counts)
        levels = np.array([level for shopper in shoppers for level in shopper.levels])
        number = np.bincount(codes, minlength=len(shoppers) * columns).reshape(-1, columns)
        sums = np.bincount(codes, levels, len(shoppers) * columns).reshape(-1, columns)
        return (sums / np.maximum(number, 1)).astype(np.float32), (number > 0).astype(np.float32)

    def _weigh_told(
        self,
        weights: Floats,
        shoppers: list[_Followed],
        state: tuple[Floats, Floats],
        told: tuple[Floats, Floats],
        now_ms: int,
    ) -> None:
        """Mix into the weights what the phones themselves told; a shopper at a time, because few tell."""
        (inside, outside), (levels, heard) = state, told
        for number in np.nonzero(heard.any(axis=1))[0].tolist():
            shopper = shoppers[number]
            alone = shopper.heard_ms is None or now_ms - shopper.heard_ms > _UNHEARD_MS
            share = 1.0 if alone and shopper.reported else _TOLD_SHARE
            one = slice(number, number + 1)
            likely = self._map.likelihood(levels[one], heard[one])[0]
            cells = self._motion.cells(inside[one], outside[one])[0]
            mean = float(cells @ likely) / max(float(cells.sum()), _IMPOSSIBLE)
            weights[number] *= (1.0 - share) + share * likely / max(mean, _IMPOSSIBLE)


def _step_ms(followed: _Followed, now_ms: int) -> int:
    """By how much the shopper moves before what was heard is weighed; 0: it is too early to move again."""
    elapsed_ms = 0 if followed.at_ms is None else now_ms - followed.at_ms
    return 0 if elapsed_ms < _MOVE_MS else -(-elapsed_ms // _STEP_MS) * _STEP_MS


class _Map:
    """How likely what was heard is in each cell; the last column is outside of the shop."""

    def __init__(self, model: ZoneModel) -> None:
        sigma = np.array(model.sigmas_db, np.float32).reshape(len(model.anchors), -1)
        outside = np.full((len(model.anchors), 1), _OUTSIDE_SIGMA_DB, np.float32)
        self._weight = (np.concatenate([sigma, outside], axis=1) ** -2).astype(np.float32)
        self.use(np.array(model.levels_dbm, np.float32).reshape(len(model.anchors), -1))

    def _centred(self, levels_dbm: Floats) -> Floats:
        """The levels and that of the place outside, relative to the middle of each anchor's."""
        self._low = levels_dbm.min(axis=1) - _BEYOND_DB
        self._high = levels_dbm.max(axis=1) + _BEYOND_DB
        outside = np.minimum(np.full((len(levels_dbm), 1), _OUTSIDE_DBM, np.float32), levels_dbm.min(axis=1, keepdims=True))
        # Relative to the middle, so that squares stay small enough for single precision.
        self._middle = levels_dbm.mean(axis=1)
        centred: Floats = np.concatenate([levels_dbm, outside], axis=1) - self._middle[:, None]
        return centred

    def use(self, levels_dbm: Floats) -> None:
        """Swap the levels, by anchor and cell."""
        level = self._centred(levels_dbm)
        weighted = self._weight * level
        self._errors = np.concatenate([self._weight, -weighted])
        self._squares = np.concatenate([-0.5 * self._weight, weighted, 0.5 * (np.log(self._weight) - weighted * level)])

    def likelihood(self, levels_dbm: Floats, heard: Floats) -> Floats:
        """By shopper and cell, relative to the best cell: −½[Σw e² − (Σw e)²/(1/S + Σw)] + ½Σlog w − ½log(1 + SΣw), tempered.

        Multiplied out, so that three matrix products do it for all shoppers and cells.
        """
        level = (np.clip(levels_dbm, self._low, self._high) - self._middle) * heard
        common = _COMMON_DB * _COMMON_DB
        weight = common * (heard @ self._weight) + 1.0
        error = np.concatenate([level, heard], axis=1) @ self._errors
        log_likely = np.concatenate([level * level, level, heard], axis=1) @ self._squares
        return _without_offset(log_likely, error, weight, common, _TEMPER)


class _FadingMap(_Map):
    """The same for levels that were measured: what they leave open is mostly fading, and that has a side.

    Power that fades is gamma-distributed (Nakagami), so that a level falls far below its mean more often than above it. With the
    map's error, which has no side, a level is taken as S·ln of a gamma variable with the whole variance σ² and the skewness that
    is left of the fading's: S = 10/ln 10 · (σ/fade)⁴, shape k = (S/σ)² + ½. With t = (level − μ)/S, μ such that the mean is the
    map's, its logarithm is k·(t − eᵗ + 1) + ½·log k − 1/(12k), after Stirling.
    """

    def __init__(self, model: ZoneModel) -> None:
        sigma = np.array(model.sigmas_db, np.float64).reshape(len(model.anchors), -1)
        self._scale_db = _POWER_DB * max(1.0, float(np.mean(sigma**2, dtype=np.float64)) ** 2 / _FADE_DB**4)
        outside = np.full((len(model.anchors), 1), _OUTSIDE_SIGMA_DB)
        self._shape = (self._scale_db / np.concatenate([sigma, outside], axis=1)) ** 2 + 0.5
        super().__init__(model)

    def use(self, levels_dbm: Floats) -> None:
        """Swap the levels, by anchor and cell."""
        shape, scale = self._shape, self._scale_db
        level = self._centred(levels_dbm) / scale + 1.0 / (2.0 * shape) + 1.0 / (12.0 * shape**2)
        self._powers = (shape * np.exp(-level)).astype(np.float32)
        constant = shape * (1.0 - level) + 0.5 * np.log(shape) - 1.0 / (12.0 * shape)
        self._linear = np.concatenate([shape / scale, constant]).astype(np.float32)
        self._shapes = shape.astype(np.float32)

    def likelihood(self, levels_dbm: Floats, heard: Floats) -> Floats:
        """By shopper and cell, relative to the best cell, tempered; a common offset is integrated out about its mean of 0."""
        level = (np.clip(levels_dbm, self._low, self._high) - self._middle) * heard
        common = (_COMMON_DB / self._scale_db) ** 2
        power = (np.exp(level / self._scale_db) * heard) @ self._powers
        log_likely = np.concatenate([level, heard], axis=1) @ self._linear
        log_likely -= power
        slope = power - heard @ self._shapes
        weight = np.multiply(power, common, out=power)
        weight += 1.0
        return _without_offset(log_likely, slope, weight, common, _FADING_TEMPER)


def _without_offset(log_likely: Floats, error: Floats, weight: Floats, common: float, temper: float) -> Floats:
    """A common offset of variance ``common`` integrated out; relative to the best cell, tempered. Works in its arguments."""
    error *= error
    error /= weight
    error *= 0.5 * common
    log_likely += error
    log_likely -= 0.5 * np.log(weight, out=weight)
    log_likely -= log_likely.max(axis=1, keepdims=True)
    log_likely *= temper
    likely: Floats = np.exp(np.maximum(log_likely, _LEAST_LOG, out=log_likely), out=log_likely)
    return likely


class _Walking:
    """Motion over a grid: by version (still and headings, for each pace), row and column; the place outside is one number."""

    def __init__(self, model: ZoneModel) -> None:
        assert model.grid is not None
        grid = self._grid = model.grid
        ways = [2 * pi * n / _HEADINGS for n in range(_HEADINGS)]
        self._velocities = [
            velocity for pace in _PACES_M_S for velocity in [(0.0, 0.0), *((pace * cos(way), pace * sin(way)) for way in ways)]
        ]
        shape = len(self._velocities), grid.rows, grid.columns
        self._each = (1.0 - _OUTSIDE_PRIOR) / prod(shape)
        self.start: Floats = np.full(shape, self._each, np.float32)
        self._kernels: dict[int, tuple[Floats, Floats]] = {}
        self._between: Floats = np.empty((SLICE, *shape), np.float32)

    def move(self, inside: Floats, outside: Floats, elapsed_ms: int) -> None:
        """In place: where they may be ``elapsed_ms`` later."""
        step_ms = min(_LONGEST_STEP_MS, elapsed_ms)
        north, east = self._kernel(step_ms)
        between = np.matmul(north, inside, out=self._between[: len(inside)])
        np.matmul(between, east, out=inside)
        turned = 1.0 - exp(-_TURNS_PER_S * step_ms / 1000)
        hurried = 1.0 - exp(-_NEW_PACE_PER_S * step_ms / 1000)
        lost = min(1.0, _ANYWHERE_PER_S * step_ms / 1000 + max(0, elapsed_ms - _LONGEST_STEP_MS) / _LOST_AFTER_MS)
        by_pace = inside.reshape(len(inside), len(_PACES_M_S), -1, *inside.shape[2:])
        all_ways = by_pace.sum(axis=2, keepdims=True)
        all_paces = all_ways.sum(axis=1, keepdims=True)
        all_ways *= (1.0 - lost) * (1.0 - hurried) * turned * len(_PACES_M_S) / len(self._velocities)
        all_paces *= (1.0 - lost) * hurried / len(self._velocities)
        all_paces += lost * self._each
        all_ways += all_paces
        by_pace *= (1.0 - lost) * (1.0 - hurried) * (1.0 - turned)
        by_pace += all_ways
        outside *= 1.0 - lost
        outside += lost * _OUTSIDE_PRIOR

    def weigh(self, inside: Floats, outside: Floats, weights: Floats) -> Floats:
        """Weigh the state in place by what was heard; probability by cell, and outside."""
        cells = self.cells(inside, outside)
        cells *= weights
        total = cells.sum(axis=1, keepdims=True)
        cells /= np.maximum(total, _IMPOSSIBLE)
        factor = weights[:, :-1] / np.maximum(total, _IMPOSSIBLE)
        by_cell = inside.reshape(*inside.shape[:2], -1)
        by_cell *= factor[:, None, :]
        outside[:] = cells[:, -1]
        impossible = total[:, 0] <= _IMPOSSIBLE
        if impossible.any():
            inside[impossible], outside[impossible] = self.start, _OUTSIDE_PRIOR
            cells[impossible] = self.cells(self.start[None], outside[impossible][:1])
        return cells

    def cells(self, inside: Floats, outside: Floats) -> Floats:
        """Probability by cell, and outside."""
        result = np.empty((len(inside), self.start[0].size + 1), np.float32)
        np.sum(inside.reshape(*inside.shape[:2], -1), axis=1, out=result[:, :-1])
        result[:, -1] = outside
        return result

    def _kernel(self, step_ms: int) -> tuple[Floats, Floats]:
        known = self._kernels.get(step_ms)
        if known is None:
            grid, seconds = self._grid, step_ms / 1000
            blur = _BLUR_M * seconds**0.5
            north = np.stack([_kernel(grid.rows, grid.cell_m, vy * seconds, blur) for _, vy in self._velocities])
            east = np.stack([_kernel(grid.columns, grid.cell_m, vx * seconds, blur).T for vx, _ in self._velocities])
            known = self._kernels[step_ms] = north, np.ascontiguousarray(east)
        return known


class _Jumping:
    """Motion where nothing is known of places: from any fingerprint to any other, at a constant rate."""

    def __init__(self, model: ZoneModel) -> None:
        count = len(model.cell_zones)
        self.start: Floats = np.full(count, (1.0 - _OUTSIDE_PRIOR) / max(1, count), np.float32)
        zones = np.array(model.cell_zones)
        same = (zones[:, None] == zones[None, :]).astype(np.float32)
        self._within: Floats = same / same.sum(axis=1, keepdims=True)

    def move(self, inside: Floats, outside: Floats, elapsed_ms: int) -> None:
        """In place: where they may be ``elapsed_ms`` later, anywhere in the same zone, perhaps in another."""
        moved = 1.0 - exp(-_MOVES_PER_S * elapsed_ms / 1000)
        inside[:] = (1.0 - moved) * (inside @ self._within) + moved * self.start
        outside *= 1.0 - moved
        outside += moved * _OUTSIDE_PRIOR

    def weigh(self, inside: Floats, outside: Floats, weights: Floats) -> Floats:
        """Weigh the state in place by what was heard; probability by cell, and outside."""
        cells = self.cells(inside, outside)
        cells *= weights
        total = cells.sum(axis=1, keepdims=True)
        cells /= np.maximum(total, _IMPOSSIBLE)
        cells[total[:, 0] <= _IMPOSSIBLE] = np.append(self.start, np.float32(_OUTSIDE_PRIOR))
        inside[:], outside[:] = cells[:, :-1], cells[:, -1]
        return cells

    def cells(self, inside: Floats, outside: Floats) -> Floats:
        """Probability by cell, and outside."""
        return np.concatenate([inside, outside[:, None]], axis=1)


class _Learning:
    """Power and exponent of each anchor's path loss, from what is heard while the filter says where: no walk was recorded.

    Level at distance d: A − 10·n·log10 d. Sums for a Bayesian regression on the expected distances, in bounded memory.
    """

    def __init__(self, model: ZoneModel) -> None:
        assert model.grid is not None
        cells = np.array(model.grid.centres(), np.float32)
        at = np.array([place or (0.0, 0.0) for place in model.anchors_at_m], np.float32)
        apart = np.hypot(cells[None, :, 0] - at[:, None, 0], cells[None, :, 1] - at[:, None, 1])
        self._distance: Floats = (-10.0 * np.log10(np.maximum(apart, NEAREST_M))).astype(np.float32)
        self._powers = np.ascontiguousarray(np.concatenate([self._distance, self._distance**2]).T)
        self._information = np.tile(np.diag([_POWER_SD_DB**-2, _EXPONENT_SD**-2]), (len(at), 1, 1))
        self._sums = np.tile(self._information[0] @ np.array([USUAL_POWER_DBM, USUAL_EXPONENT]), (len(at), 1))
        self._since = 0

    @property
    def is_due(self) -> bool:
        """Whether enough was taken in since the last correction."""
        return self._since >= _LEARN_EVERY

    def take(self, cells: Floats, levels_dbm: Floats, heard: Floats) -> None:
        """Take some shoppers' emissions in."""
        inside = 1.0 - cells[:, -1:]
        distance, squared = np.hsplit((cells[:, :-1] @ self._powers) / np.maximum(inside, 1e-6), 2)
        weight = _LEARN_WEIGHT * heard * inside
        self._information[:, 0, 0] += weight.sum(axis=0)
        mixed = (weight * distance).sum(axis=0)
        self._information[:, 0, 1] += mixed
        self._information[:, 1, 0] += mixed
        self._information[:, 1, 1] += (weight * squared).sum(axis=0)
        self._sums[:, 0] += (weight * levels_dbm).sum(axis=0)
        self._sums[:, 1] += (weight * distance * levels_dbm).sum(axis=0)
        self._since += len(cells)

    def levels(self) -> Floats:
        """The corrected levels by anchor and cell."""
        self._since = 0
        power, exponent = np.linalg.solve(self._information, self._sums[:, :, None])[:, :, 0].T
        levels: Floats = (power[:, None] + exponent[:, None] * self._distance).astype(np.float32)
        return levels


USUAL_POWER_DBM, USUAL_EXPONENT = -61.0, 1.8
"""Of a phone at 1 m, and how its level falls indoors."""
NEAREST_M = 0.5


def _kernel(count: int, cell_m: float, shift_m: float, blur_m: float) -> Floats:
    """Into each row or column from each: a shifted Gaussian, of which nothing passes the walls.

    Cells may be larger than the blur; the width is chosen so that mean and variance are right in whole cells too.
    """
    shift = shift_m / cell_m
    part = shift - floor(shift)
    # Whole cells cannot be nearer to a place between two of them than this.
    variance = max((blur_m / cell_m) ** 2, part * (1.0 - part) + 1e-3)
    reach = ceil(abs(shift) + 5.0 * sqrt(variance)) + 1
    places = np.arange(-reach, reach + 1)
    narrow, wide = 0.05, 2.0 * sqrt(variance) + 1.0
    width = sqrt(narrow * wide)
    for _ in range(30):
        share = np.exp(-0.5 * ((places - shift) / width) ** 2)
        share /= share.sum()
        mean = float(share @ places)
        if float(share @ (places - mean) ** 2) < variance:
            narrow = width
        else:
            wide = width
        width = sqrt(narrow * wide)
    apart = np.arange(count)
    kernel = np.exp(-0.5 * ((apart[:, None] - apart[None, :] - shift) / width) ** 2) + 1e-12
    result: Floats = (kernel / kernel.sum(axis=0, keepdims=True)).astype(np.float32)
    return result


def _zone_shares(model: ZoneModel) -> Floats:
    """By cell and zone: the part of the cell that lies in it. No zone, and the place outside, count for the last column."""
    count = len(model.zones)
    zones = np.array([*model.cell_zones, NOWHERE])
    shares = np.zeros((len(zones), count + 1), np.float32)
    shares[np.arange(len(zones)), np.where(zones == NOWHERE, count, zones)] = 1.0
    grid = model.grid
    if grid is None or not model.polygons:
        return shares
    floor_zones = np.pad(zones[:-1].reshape(grid.rows, grid.columns), 1, mode="edge")
    around = [floor_zones[y : y + grid.rows, x : x + grid.columns] for y in range(3) for x in range(3)]
    at_border = np.any([other != around[4] for other in around], axis=0).ravel()
    centres = grid.centres()
    number_of = {name: number for number, name in enumerate(model.zones)}
    plan = ShopPlan(zones=model.polygons)
    for cell in np.nonzero(at_border)[0].tolist():
        x, y = centres[cell]
        shares[cell] = 0.0
        for dx, dy in product(_PARTS, _PARTS):
            name = plan.zone_at((x + dx * grid.cell_m, y + dy * grid.cell_m))
            # Beyond the walls the cell is what it is.
            zone = int(zones[cell]) if name is None else number_of[name]
            shares[cell, count if zone == NOWHERE else zone] += 1.0 / len(_PARTS) ** 2
    return shares
