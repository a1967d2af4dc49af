"""Sightings → a belief over the cells of a floor, for all shoppers at once.

A causal Bayes filter on a grid. Each cell is held in nine versions, one standing still and eight walking at ``_SPEED_M_S``,
because who walks goes on walking: ``moved`` shifts each version its way, blurs it a little and lets some of it turn, ``weighed``
weighs the cells by what was heard. What one emission of a phone says is taken for less than it seems (``_TEMPER``), because the
error of the map stays the same from packet to packet, and a level that all anchors share (a body, the phone's gain) is
integrated out.

A phone's own word (hint, report) moves at most half of the belief, unless no receiver hears the phone at all. Nothing here waits,
and the memory for each shopper is the floor's cells; who is silent for ``FORGET_MS`` is dropped.
"""

from collections.abc import Iterable, Sequence
from math import cos, exp, pi, sin

import numpy as np
from numpy.typing import NDArray

from gateway.core.zone_model import NOWHERE, RecordedSighting, ZoneModel

Floats = NDArray[np.float32]

FORGET_MS = 120_000
SLICE = 16
"""So many shoppers are computed at once: more would keep the event loop waiting, and leave the processor's cache."""
_SPEED_M_S = 0.5
_HEADINGS = 8
_TURNS_PER_S = 0.3
_BLUR_M = 0.4
"""After one second, standard deviation."""
_ANYWHERE_PER_S = 1e-4
_MOVES_PER_S = 0.08
"""Between the fingerprints of a shop without positions."""
_TEMPER = 0.65
_COMMON_DB = 1.0
_BEYOND_DB = 12.0
"""A level this far beyond all of the map's says no more than one at this distance."""
_TOLD_SHARE = 0.5
_UNHEARD_MS = 10_000
_STEP_MS = 100
_LONGEST_STEP_MS = 5000
_LOST_AFTER_MS = 60_000
"""After a silence of this length a shopper may be anywhere."""
_OUTSIDE_DBM = -99.0
_OUTSIDE_SIGMA_DB = 7.0
_OUTSIDE_PRIOR = 0.02

_LEARN_EVERY = 20
"""Emissions between two corrections of levels that follow from positions alone."""
_LEARN_WEIGHT = 0.005
"""Of one packet, in information: errors of packets that follow each other are alike."""
_POWER_SD_DB, _EXPONENT_SD = 4.0, 0.3


class _Followed:
    """One shopper: a row of the table of beliefs."""

    __slots__ = ("at_ms", "heard_ms", "row")

    def __init__(self, row: int, at_ms: int) -> None:
        self.row = row
        self.at_ms = at_ms
        self.heard_ms: int | None = None
        """When a receiver last heard the phone itself."""


class ZoneFilter:
    """The beliefs of one shop. ``observe`` collects; ``beliefs`` computes for whoever was observed since."""

    def __init__(self, model: ZoneModel) -> None:
        self._model = model
        self._anchor_of = {name: number for number, name in enumerate(model.anchors)}
        self._cells = len(model.cell_zones)
        self._motion: _Walking | _Jumping = _Jumping(model) if model.grid is None else _Walking(model)
        self._map = _Map(model)
        self._zone_sums = _zone_sums(model)
        self._rows: Floats = np.empty((0, *self._motion.shape), np.float32)
        self._free: list[int] = []
        self._shoppers: dict[str, _Followed] = {}
        self._pending: dict[str, list[RecordedSighting]] = {}
        self._learning = _Learning(model) if model.learns else None
        self._swept_ms = 0

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
        if sighting.is_possible and sighting.anchor in self._anchor_of:
            self._pending.setdefault(sighting.shopper, []).append(sighting)

    def forget(self, shopper: str) -> None:
        """Drop everything about one shopper."""
        self._pending.pop(shopper, None)
        followed = self._shoppers.pop(shopper, None)
        if followed is not None:
            self._free.append(followed.row)

    def beliefs(self, now_ms: int) -> Iterable[tuple[str, Sequence[float]]]:
        """For each shopper observed since the last call its probabilities by zone, and that of being in none.

        Computed ``SLICE`` shoppers at a time, while the result is read.
        """
        pending, self._pending = self._pending, {}
        if now_ms - self._swept_ms >= _UNHEARD_MS:
            self._swept_ms = now_ms
            silent = [name for name, known in self._shoppers.items() if now_ms - known.at_ms > FORGET_MS and name not in pending]
            for name in silent:
                self.forget(name)
        names = list(pending)
        for start in range(0, len(names), SLICE):
            some = names[start : start + SLICE]
            zones = self._step([self._follow(name, now_ms) for name in some], [pending[name] for name in some], now_ms)
            yield from zip(some, zones.tolist(), strict=True)

    def _follow(self, name: str, now_ms: int) -> _Followed:
        known = self._shoppers.get(name)
        if known is None:
            if not self._free:
                have = len(self._rows)
                more = max(16, have)
                grown = np.zeros((have + more, *self._motion.shape), np.float32)
                grown[:have] = self._rows
                self._rows = grown
                self._free = list(range(have + more - 1, have - 1, -1))
            known = self._shoppers[name] = _Followed(self._free.pop(), now_ms)
            self._rows[known.row] = self._motion.start
        return known

    def _step(self, shoppers: list[_Followed], sightings: list[list[RecordedSighting]], now_ms: int) -> Floats:
        rows = np.array([shopper.row for shopper in shoppers])
        state = self._rows[rows]
        steps = np.array([now_ms - shopper.at_ms for shopper in shoppers])
        for elapsed_ms in np.unique(steps):
            if elapsed_ms > 0:
                chosen = np.nonzero(steps == elapsed_ms)[0]
                state[chosen] = self._motion.moved(state[chosen], int(elapsed_ms))
        heard, told = self._levels(sightings)
        weights = self._map.likelihood(*heard)
        for number, (shopper, own) in enumerate(zip(shoppers, sightings, strict=True)):
            shopper.at_ms = now_ms
            if any(sighting.source == "receiver" for sighting in own):
                shopper.heard_ms = now_ms
            if told is not None and told[1][number].any():
                alone = shopper.heard_ms is None or now_ms - shopper.heard_ms > _UNHEARD_MS
                share = 1.0 if alone and any(sighting.source == "report" for sighting in own) else _TOLD_SHARE
                likely = self._map.likelihood(told[0][number : number + 1], told[1][number : number + 1])[0]
                cells = self._motion.cells(state[number : number + 1])[0]
                mean = float(cells @ likely) / max(float(cells.sum()), 1e-30)
                weights[number] *= (1.0 - share) + share * likely / max(mean, 1e-30)
        state = self._motion.weighed(state, weights)
        self._rows[rows] = state
        cells = self._motion.cells(state)
        if self._learning is not None:
            levels = self._learning.learned(cells, *heard)
            if levels is not None:
                self._map.use(levels)
        zones: Floats = cells @ self._zone_sums
        return zones

    def _levels(self, sightings: list[list[RecordedSighting]]) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats] | None]:
        """(levels, whether heard) by shopper and anchor, heard by receivers and told by phones; one step is averaged."""
        shape = (len(sightings), len(self._anchor_of))
        sums, counts = np.zeros((2, *shape), np.float32), np.zeros((2, *shape), np.float32)
        for number, own in enumerate(sightings):
            for sighting in own:
                kind = 0 if sighting.source == "receiver" else 1
                anchor = self._anchor_of[sighting.anchor]
                sums[kind, number, anchor] += sighting.rssi_dbm
                counts[kind, number, anchor] += 1.0
        levels = sums / np.maximum(counts, 1.0)
        heard = (counts > 0).astype(np.float32)
        told = (levels[1], heard[1]) if heard[1].any() else None
        return (levels[0], heard[0]), told


class _Map:
    """How likely what was heard is in each cell; the last column is outside of the shop."""

    def __init__(self, model: ZoneModel) -> None:
        sigma = np.array(model.sigmas_db, np.float32).reshape(len(model.anchors), -1)
        outside = np.full((len(model.anchors), 1), _OUTSIDE_SIGMA_DB, np.float32)
        self._weight = (np.concatenate([sigma, outside], axis=1) ** -2).astype(np.float32)
        self._log_weight = 0.5 * np.log(self._weight)
        self.use(np.array(model.levels_dbm, np.float32).reshape(len(model.anchors), -1))

    def use(self, levels_dbm: Floats) -> None:
        """Swap the levels, by anchor and cell."""
        self._low = levels_dbm.min(axis=1) - _BEYOND_DB
        self._high = levels_dbm.max(axis=1) + _BEYOND_DB
        outside = np.minimum(np.full((len(levels_dbm), 1), _OUTSIDE_DBM, np.float32), levels_dbm.min(axis=1, keepdims=True))
        # Relative to the middle, so that squares stay small enough for single precision.
        self._middle = levels_dbm.mean(axis=1)
        level = np.concatenate([levels_dbm, outside], axis=1) - self._middle[:, None]
        self._weighted = self._weight * level
        self._squared = self._weighted * level

    def likelihood(self, levels_dbm: Floats, heard: Floats) -> Floats:
        """By shopper and cell, relative to the best cell: −½[Σw e² − (Σw e)²/(1/S + Σw)] + ½Σlog w − ½log(1 + SΣw), tempered.

        Multiplied out, so that five matrix products do it for all shoppers and cells.
        """
        level = (np.clip(levels_dbm, self._low, self._high) - self._middle) * heard
        weight = heard @ self._weight
        error = level @ self._weight - heard @ self._weighted
        squared = (level * level) @ self._weight - 2.0 * (level @ self._weighted) + heard @ self._squared
        common = _COMMON_DB * _COMMON_DB
        log_likely = -0.5 * (squared - error * error / (1.0 / common + weight))
        log_likely += heard @ self._log_weight - 0.5 * np.log1p(common * weight)
        log_likely -= log_likely.max(axis=1, keepdims=True)
        likely: Floats = np.exp(np.maximum(_TEMPER * log_likely, -60.0)).astype(np.float32)
        return likely


class _Walking:
    """Motion over a grid: by version (still, eight headings), row and column; the place outside is one more number."""

    def __init__(self, model: ZoneModel) -> None:
        assert model.grid is not None
        grid = self._grid = model.grid
        self._velocities = [(0.0, 0.0)] + [
            (_SPEED_M_S * cos(2 * pi * n / _HEADINGS), _SPEED_M_S * sin(2 * pi * n / _HEADINGS)) for n in range(_HEADINGS)
        ]
        self._versions = len(self._velocities)
        self._count = grid.rows * grid.columns
        self.shape = (self._versions * self._count + 1,)
        self.start = np.full(self.shape, (1.0 - _OUTSIDE_PRIOR) / (self._versions * self._count), np.float32)
        self.start[-1] = _OUTSIDE_PRIOR
        self._kernels: dict[int, tuple[Floats, Floats]] = {}

    def moved(self, state: Floats, elapsed_ms: int) -> Floats:
        """Where they may be ``elapsed_ms`` later."""
        step_ms = min(_LONGEST_STEP_MS, -(-elapsed_ms // _STEP_MS) * _STEP_MS)
        north, east = self._kernel(step_ms)
        inside = state[:, :-1].reshape(len(state), self._versions, self._grid.rows, self._grid.columns)
        # A version's floors of all shoppers below each other are one large product each way: faster than many small ones.
        rows, columns = self._grid.rows, self._grid.columns
        eastward = np.matmul(inside.transpose(1, 0, 2, 3).reshape(self._versions, -1, columns), east)
        across = eastward.reshape(self._versions, -1, rows, columns).transpose(0, 1, 3, 2).reshape(self._versions, -1, rows)
        moved = np.ascontiguousarray(np.matmul(across, north).reshape(self._versions, -1, columns, rows).transpose(1, 0, 3, 2))
        turned = 1.0 - exp(-_TURNS_PER_S * step_ms / 1000)
        moved *= 1.0 - turned
        moved += turned / self._versions * moved.sum(axis=1, keepdims=True) / max(1.0 - turned, 1e-6)
        result = np.empty_like(state)
        result[:, :-1] = moved.reshape(len(state), -1)
        result[:, -1] = state[:, -1]
        result /= result.sum(axis=1, keepdims=True)
        lost = min(1.0, _ANYWHERE_PER_S * step_ms / 1000 + max(0, elapsed_ms - _LONGEST_STEP_MS) / _LOST_AFTER_MS)
        result *= 1.0 - lost
        result += lost * self.start
        return result

    def weighed(self, state: Floats, weights: Floats) -> Floats:
        """After what was heard."""
        result = np.empty_like(state)
        shape = len(state), self._versions, self._count
        np.multiply(state[:, :-1].reshape(shape), weights[:, None, :-1], out=result[:, :-1].reshape(shape))
        result[:, -1] = state[:, -1] * weights[:, -1]
        return _normalised(result, self.start)

    def cells(self, state: Floats) -> Floats:
        """Probability by cell, and outside."""
        inside = state[:, :-1].reshape(len(state), self._versions, self._count).sum(axis=1)
        return np.concatenate([inside, state[:, -1:]], axis=1)

    def _kernel(self, step_ms: int) -> tuple[Floats, Floats]:
        known = self._kernels.get(step_ms)
        if known is None:
            grid, seconds = self._grid, step_ms / 1000
            # A blur far below the cell's size would not arrive in the next cell at all.
            blur = max(_BLUR_M * seconds**0.5, 0.35 * grid.cell_m)
            north = np.stack([_kernel(grid.rows, grid.cell_m, vy * seconds, blur).T for _, vy in self._velocities])
            east = np.stack([_kernel(grid.columns, grid.cell_m, vx * seconds, blur).T for vx, _ in self._velocities])
            known = self._kernels[step_ms] = np.ascontiguousarray(north), np.ascontiguousarray(east)
        return known


class _Jumping:
    """Motion where nothing is known of places: from any fingerprint to any other, at a constant rate."""

    def __init__(self, model: ZoneModel) -> None:
        count = len(model.cell_zones)
        self.shape = (count + 1,)
        self.start = np.full(self.shape, (1.0 - _OUTSIDE_PRIOR) / max(1, count), np.float32)
        self.start[-1] = _OUTSIDE_PRIOR
        zones = np.array([*model.cell_zones, NOWHERE - 1])
        same = (zones[:, None] == zones[None, :]).astype(np.float32)
        self._within: Floats = same / same.sum(axis=1, keepdims=True)

    def moved(self, state: Floats, elapsed_ms: int) -> Floats:
        """Where they may be ``elapsed_ms`` later: anywhere in the same zone, perhaps in another."""
        moved = 1.0 - exp(-_MOVES_PER_S * elapsed_ms / 1000)
        result: Floats = (1.0 - moved) * (state @ self._within) + moved * self.start
        return result.astype(np.float32)

    def weighed(self, state: Floats, weights: Floats) -> Floats:
        """After what was heard."""
        return _normalised(state * weights, self.start)

    def cells(self, state: Floats) -> Floats:
        """Probability by cell, and outside."""
        return state


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
        self._information = np.tile(np.diag([_POWER_SD_DB**-2, _EXPONENT_SD**-2]), (len(at), 1, 1))
        self._sums = np.tile(self._information[0] @ np.array([USUAL_POWER_DBM, USUAL_EXPONENT]), (len(at), 1))
        self._since = 0

    def learned(self, cells: Floats, levels_dbm: Floats, heard: Floats) -> Floats | None:
        """Take some shoppers' emissions in; the corrected levels by anchor and cell, from time to time."""
        inside = cells[:, :-1] / np.maximum(cells[:, :-1].sum(axis=1, keepdims=True), 1e-6)
        distance = inside @ self._distance.T
        squared = inside @ (self._distance**2).T
        weight = _LEARN_WEIGHT * heard * (1.0 - cells[:, -1:])
        self._information[:, 0, 0] += weight.sum(axis=0)
        mixed = (weight * distance).sum(axis=0)
        self._information[:, 0, 1] += mixed
        self._information[:, 1, 0] += mixed
        self._information[:, 1, 1] += (weight * squared).sum(axis=0)
        self._sums[:, 0] += (weight * levels_dbm).sum(axis=0)
        self._sums[:, 1] += (weight * distance * levels_dbm).sum(axis=0)
        self._since += len(cells)
        if self._since < _LEARN_EVERY:
            return None
        self._since = 0
        power, exponent = np.linalg.solve(self._information, self._sums[:, :, None])[:, :, 0].T
        levels: Floats = (power[:, None] + exponent[:, None] * self._distance).astype(np.float32)
        return levels


USUAL_POWER_DBM, USUAL_EXPONENT = -61.0, 1.8
"""Of a phone at 1 m, and how its level falls indoors."""
NEAREST_M = 0.5


def _kernel(count: int, cell_m: float, shift_m: float, blur_m: float) -> Floats:
    """From column to row: a shifted Gaussian, of which nothing passes the walls."""
    places = np.arange(count) * cell_m
    kernel = np.exp(-0.5 * ((places[:, None] - places[None, :] - shift_m) / blur_m) ** 2) + 1e-12
    result: Floats = (kernel / kernel.sum(axis=0, keepdims=True)).astype(np.float32)
    return result


def _normalised(state: Floats, otherwise: Floats) -> Floats:
    """In place."""
    total = state.sum(axis=1, keepdims=True)
    impossible = total[:, 0] <= 1e-30
    state /= np.maximum(total, 1e-30)
    state[impossible] = otherwise
    return state


def _zone_sums(model: ZoneModel) -> Floats:
    """From cells to zones; cells in no zone, and the place outside, count for the last column."""
    sums = np.zeros((len(model.cell_zones) + 1, len(model.zones) + 1), np.float32)
    zones = np.array([*model.cell_zones, NOWHERE])
    sums[np.arange(len(zones)), np.where(zones == NOWHERE, len(model.zones), zones)] = 1.0
    return sums
