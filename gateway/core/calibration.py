"""Recorded sightings and a plan → the zone model of a shop.

With positions in the recording: path loss for each anchor, and on what it leaves unexplained a Gaussian process over the floor
and over the direction from the anchor, because shelves and walls throw shadows. With zones but no positions: fingerprints of
each zone. With nothing but a plan: path loss from the anchors' positions, corrected later by what is heard.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from math import ceil, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gateway.core.zone_filter import NEAREST_M, USUAL_EXPONENT, USUAL_POWER_DBM
from gateway.core.zone_model import NOWHERE, CellGrid, Point, RecordedSighting, ShopPlan, ZoneModel, contains

Floats = NDArray[np.float64]

MOST_CELLS = 1000
FINEST_CELL_M, COARSEST_CELL_M = 0.25, 5.0
MOST_PLACES = 400
LEAST_PLACES = 4
"""With fewer known positions than this nothing can be said about a floor."""
_FINEST_PLACE_M = 0.3
_LEAST_PACKETS = 3
"""Of one anchor at one place: fewer say too little of its level there."""
_UNSURVEYED_SIGMA_DB = 6.5
_FINGERPRINT_MS = 5000
_MOST_FINGERPRINTS = 12
_FINGERPRINT_SIGMA_DB = 3.0
_SILENT_DBM = -100.0
"""For an anchor that a zone's fingerprint did not hear."""
_PATH_NOISE_DB = 4.0
_POWER_SD_DB, _EXPONENT_SD = 6.0, 0.5
_PACKET_DB = 4.0
"""Scatter of packets at one place, where the recording is too short to tell."""


class NotLearnt(ValueError):
    """The recordings do not say enough; the text says what is missing."""


# How levels vary beyond path loss, on three scales: the room, the sector behind a shelf, and what a metre changes. What changes
# within a hand's breadth is no part of the map. (Reach in metres or radians, size in decibels.)
_ROOM_M, _ROOM_DB = 5.0, 2.0
_SECTOR_RAD, _SECTOR_DB = 0.4, 2.5
_METRE_M, _METRE_DB = 1.0, 2.0
_SPOT_DB = 1.8
_SECTOR_LOG_M = 3.0
"""A shadow reaches this far outwards, in natural logarithms of the distance."""


class _Places(NamedTuple):
    """What a recording says about positions."""

    at_m: Floats
    """Places × 2."""
    level_dbm: Floats
    """Places × anchors; NaN where not heard."""
    packets: Floats
    scatter_db: float
    """Of the packets of one place and anchor."""


def learn(recorded: Iterable[RecordedSighting], plan: ShopPlan) -> ZoneModel:
    """The model of a shop. Raises ``NotLearnt`` when neither the recordings nor the plan tell where anything is."""
    sightings = [sighting for sighting in recorded if sighting.is_possible and sighting.source == "receiver"]
    anchors = tuple(sorted({sighting.anchor for sighting in sightings} | set(plan.anchors)))
    if not anchors:
        raise NotLearnt("no anchor is known and none was heard.")
    placed = [sighting for sighting in sightings if sighting.at_m is not None]
    if len({sighting.at_m for sighting in placed}) >= LEAST_PLACES:
        return _surveyed(placed, anchors, plan)
    labelled = [sighting for sighting in sightings if sighting.zone is not None]
    if labelled:
        return _fingerprints(labelled, anchors, plan)
    return unsurveyed(plan)


def unsurveyed(plan: ShopPlan) -> ZoneModel:
    """A model from the anchors' positions alone. Raises ``NotLearnt`` without at least three of them, or without any zone."""
    anchors = tuple(sorted(plan.anchors))
    at_m = tuple(plan.anchors[name].at_m for name in anchors)
    known = [place for place in at_m if place is not None]
    if len(known) < 3:
        raise NotLearnt("fewer than three anchors have a position, and nothing was recorded with zones or positions.")
    zones = _zone_names(plan, [])
    if not zones:
        raise NotLearnt("no zone is known: neither polygons nor the zones of anchors.")
    grid = _grid(plan, known)
    centres = np.array(grid.centres())
    levels = [_path_loss(centres, _place_of(name, plan, known), USUAL_POWER_DBM, USUAL_EXPONENT) for name in anchors]
    nearest = [(place, plan.anchors[name].zone) for name, place in zip(anchors, at_m, strict=True) if place is not None]
    return ZoneModel(
        anchors=anchors,
        zones=zones,
        cell_zones=_cell_zones(grid, zones, plan, nearest),
        levels_dbm=_rounded(levels),
        sigmas_db=tuple((_UNSURVEYED_SIGMA_DB,) * len(centres) for _ in anchors),
        grid=grid,
        anchors_at_m=tuple(_place_of(name, plan, known) for name in anchors),
        polygons=dict(plan.zones),
        learns=True,
    )


# ---- a walk with positions ----------------------------------------------------------------------------------------------------


def _surveyed(sightings: Sequence[RecordedSighting], anchors: tuple[str, ...], plan: ShopPlan) -> ZoneModel:
    places = _places(sightings, anchors)
    labels = {sighting.at_m: sighting.zone for sighting in sightings if sighting.at_m is not None}
    zones = _zone_names(plan, labels.values())
    if not zones:
        raise NotLearnt("no zone is known: neither polygons nor zones in the recordings.")
    anchors_at = [None if name not in plan.anchors else plan.anchors[name].at_m for name in anchors]
    grid = _grid(plan, [(float(x), float(y)) for x, y in places.at_m] + [place for place in anchors_at if place is not None])
    centres = np.array(grid.centres())
    apart = _apart(places.at_m, places.at_m), _apart(centres, places.at_m)
    levels, sigmas = [], []
    for number, at_m in enumerate(anchors_at):
        level, variance = _Field(places, number, at_m).at(centres, *apart)
        levels.append(level)
        sigmas.append(np.sqrt(variance + _SPOT_DB**2 + places.scatter_db**2))
    return ZoneModel(
        anchors=anchors,
        zones=zones,
        cell_zones=_cell_zones(grid, zones, plan, list(labels.items())),
        levels_dbm=_rounded(levels),
        sigmas_db=_rounded(sigmas),
        grid=grid,
        anchors_at_m=tuple(anchors_at),
        polygons=dict(plan.zones),
    )


def _places(sightings: Sequence[RecordedSighting], anchors: tuple[str, ...]) -> _Places:
    """Levels by place: standing points as they are, a way cut into pieces that are as short as ``MOST_PLACES`` allows."""
    number_of = {name: number for number, name in enumerate(anchors)}
    at = np.array([sighting.at_m for sighting in sightings], np.float64)
    heard = np.array([number_of[sighting.anchor] for sighting in sightings])
    level = np.array([sighting.rssi_dbm for sighting in sightings])
    size_m = _FINEST_PLACE_M
    while True:
        column, row = np.round(at / size_m).astype(np.int64).T
        # One number for each square: rows of two are found far more slowly.
        found, place = np.unique((column - column.min()) * (int(np.ptp(row)) + 1) + row - row.min(), return_inverse=True)
        count = len(found)
        if count <= MOST_PLACES:
            break
        size_m *= 1.15
    flat = place * len(anchors) + heard
    shape = (count, len(anchors))
    packets = np.bincount(flat, minlength=count * len(anchors)).astype(np.float64)
    mean = np.bincount(flat, level, count * len(anchors)) / np.maximum(packets, 1.0)
    spread = float(np.sum((level - mean[flat]) ** 2))
    freedom = float(np.sum(np.maximum(packets - 1.0, 0.0)))
    in_place = np.maximum(np.bincount(place), 1)[:, None]
    centre = np.stack([np.bincount(place, at[:, axis]) for axis in (0, 1)], axis=1) / in_place
    # Where few packets are, a prior worth ten of them keeps the scatter from being nothing.
    scatter = sqrt((spread + 10 * _PACKET_DB**2) / (freedom + 10))
    packets = packets.reshape(shape)
    levels = mean.reshape(shape) + _against_fades(level - mean[flat], flat, packets)
    return _Places(centre, np.where(packets > 0, levels, np.nan), packets, scatter)


def _against_fades(beside_mean_db: Floats, group: NDArray[np.int64], packets: Floats) -> Floats:
    """By place and anchor: what makes of the mean of decibels a level that fades of this very spot hardly move.

    That is the mean of power. The three advertising channels fade apart, by some 5 to 13 dB within a hand's breadth: one of them
    in a deep fade, and the mean of decibels says more of the spot than of what is around it. Packets are compared one by one, so
    what they usually lie below their mean power is taken off again, by anchor; a single packet lies below nothing: 1 − 1/n.
    """
    power = np.bincount(group, 10.0 ** (beside_mean_db / 10.0), packets.size).reshape(packets.shape)
    above = 10.0 * np.log10(np.where(packets > 0, power / np.maximum(packets, 1.0), 1.0))
    share = 1.0 - 1.0 / np.maximum(packets, 1.0)
    usual = np.sum(packets * above, axis=0) / np.maximum(np.sum(packets * share, axis=0), 1.0)
    result: Floats = above - share * usual
    return result


class _Field:
    """One anchor's level over the floor."""

    def __init__(self, places: _Places, number: int, at_m: Point | None) -> None:
        enough = min(_LEAST_PACKETS, float(np.max(places.packets[:, number], initial=0.0)))
        known = (places.packets[:, number] >= max(1.0, enough)) & ~np.isnan(places.level_dbm[:, number])
        self._known = known
        self._places = places.at_m[known]
        self._level = places.level_dbm[known, number]
        self._noise = places.scatter_db**2 / places.packets[known, number]
        self._at_m = at_m
        self._power, self._exponent = self._fit()
        self._rest = self._level - self._expected(self._places)

    def _fit(self) -> tuple[float, float]:
        """Power and exponent of path loss; without a position the mean alone."""
        if not len(self._level):
            return (_SILENT_DBM, 0.0) if self._at_m is None else (USUAL_POWER_DBM, USUAL_EXPONENT)
        if self._at_m is None:
            return float(self._level.mean()), 0.0
        design = np.stack([np.ones(len(self._level)), _path_loss(self._places, self._at_m, 0.0, 1.0)], axis=1)
        prior = np.diag([_POWER_SD_DB**-2, _EXPONENT_SD**-2])
        information = design.T @ design / _PATH_NOISE_DB**2 + prior
        sums = design.T @ self._level / _PATH_NOISE_DB**2 + prior @ np.array([USUAL_POWER_DBM, USUAL_EXPONENT])
        power, exponent = np.linalg.solve(information, sums)
        return float(power), float(exponent)

    def _expected(self, at: Floats) -> Floats:
        if self._at_m is None:
            return np.full(len(at), self._power)
        return _path_loss(at, self._at_m, self._power, self._exponent)

    def _alike(self, some: Floats, others: Floats, apart: Floats) -> Floats:
        """Covariance between places, dB²; ``apart``: metres between them."""
        metre = _METRE_DB**2 * _matern(apart, _METRE_M)
        if self._at_m is None:
            # Without path loss the floor has to explain everything.
            return metre + (_ROOM_DB + 4.0) ** 2 * _matern(apart, _ROOM_M)
        (some_far, some_way), (others_far, others_way) = _polar(some, self._at_m), _polar(others, self._at_m)
        chord = np.sqrt(np.maximum(2.0 - 2.0 * some_way @ others_way.T, 0.0))
        sector = _matern(chord, _SECTOR_RAD) * _matern(np.abs(some_far[:, None] - others_far[None, :]), _SECTOR_LOG_M)
        return metre + _ROOM_DB**2 * _matern(apart, _ROOM_M) + _SECTOR_DB**2 * sector

    def at(self, cells: Floats, between_places: Floats, to_places: Floats) -> tuple[Floats, Floats]:
        """Level, and the variance of what is not known of it, in each cell; the distances are those of all places, metres."""
        expected = self._expected(cells)
        prior = self._alike(cells[:1], cells[:1], np.zeros((1, 1)))[0, 0]
        if not len(self._level):
            return expected, np.full(len(cells), prior)
        covariance = self._alike(self._places, self._places, between_places[np.ix_(self._known, self._known)])
        covariance[np.diag_indices_from(covariance)] += _SPOT_DB**2 + self._noise
        across = self._alike(cells, self._places, to_places[:, self._known])
        gain = across @ np.linalg.inv(covariance)
        return expected + gain @ self._rest, np.maximum(prior - np.sum(across * gain, axis=1), 0.0)


def _apart(some: Floats, others: Floats) -> Floats:
    result: Floats = np.hypot(some[:, None, 0] - others[None, :, 0], some[:, None, 1] - others[None, :, 1])
    return result


def _path_loss(at: Floats, anchor: Point, power_dbm: float, exponent: float) -> Floats:
    apart = np.hypot(at[:, 0] - anchor[0], at[:, 1] - anchor[1])
    result: Floats = power_dbm - 10.0 * exponent * np.log10(np.maximum(apart, NEAREST_M))
    return result


def _polar(at: Floats, anchor: Point) -> tuple[Floats, Floats]:
    """(logarithm of the distance, direction as a vector of length 1)."""
    way = at - np.array(anchor)
    far = np.hypot(way[:, 0], way[:, 1])
    return np.log(np.maximum(far, NEAREST_M)), np.where(far[:, None] > 0.0, way / np.maximum(far, 1e-12)[:, None], (1.0, 0.0))


def _matern(apart: Floats, reach: float) -> Floats:
    """Matérn covariance with smoothness 3/2."""
    scaled = sqrt(3.0) * apart / reach
    result: Floats = (1.0 + scaled) * np.exp(-scaled)
    return result


# ---- a walk without positions -------------------------------------------------------------------------------------------------


def _fingerprints(sightings: Sequence[RecordedSighting], anchors: tuple[str, ...], plan: ShopPlan) -> ZoneModel:
    """Each zone becomes some typical sets of levels, one for each few seconds of the walk through it."""
    number_of = {name: number for number, name in enumerate(anchors)}
    zones = _zone_names(plan, [sighting.zone for sighting in sightings])
    windows: dict[str, dict[tuple[str, int], list[RecordedSighting]]] = {}
    for sighting in sightings:
        if sighting.zone is not None:
            key = sighting.shopper, sighting.t_ms // _FINGERPRINT_MS
            windows.setdefault(sighting.zone, {}).setdefault(key, []).append(sighting)
    cell_zones: list[int] = []
    levels: list[Floats] = []
    for zone in sorted(windows):
        keys = sorted(windows[zone])
        pieces = min(_MOST_FINGERPRINTS, len(keys))
        bounds = [round(len(keys) * piece / pieces) for piece in range(pieces + 1)]
        for start, end in pairwise(bounds):
            level = np.full(len(anchors), np.nan)
            heard: dict[int, list[float]] = {}
            for key in keys[start:end]:
                for sighting in windows[zone][key]:
                    heard.setdefault(number_of[sighting.anchor], []).append(sighting.rssi_dbm)
            for number, found in heard.items():
                level[number] = sum(found) / len(found)
            levels.append(level)
            cell_zones.append(zones.index(zone))
    table = np.array(levels).T
    faintest = np.where(np.isnan(table).all(axis=1), _SILENT_DBM, np.nanmin(np.where(np.isnan(table), 0.0, table), axis=1))
    table = np.where(np.isnan(table), np.minimum(faintest - 6.0, _SILENT_DBM)[:, None], table)
    sigma = sqrt(_FINGERPRINT_SIGMA_DB**2 + _PACKET_DB**2)
    return ZoneModel(
        anchors=anchors,
        zones=zones,
        cell_zones=tuple(cell_zones),
        levels_dbm=_rounded(list(table)),
        sigmas_db=tuple((round(sigma, 2),) * len(cell_zones) for _ in anchors),
        polygons=dict(plan.zones),
    )


# ---- zones and cells ----------------------------------------------------------------------------------------------------------


def _zone_names(plan: ShopPlan, labels: Iterable[str | None]) -> tuple[str, ...]:
    named = {anchor.zone for anchor in plan.anchors.values()} | set(labels) | set(plan.zones)
    return tuple(sorted(name for name in named if name is not None))


def _grid(plan: ShopPlan, places: Sequence[Point]) -> CellGrid:
    corners = [corner for polygon in plan.zones.values() for corner in polygon]
    # Polygons are the floor; without them it is where something is known, and a little around it.
    around = 0.0 if corners else 1.0
    known = corners or list(places)
    x0, x1 = min(x for x, _ in known) - around, max(x for x, _ in known) + around
    y0, y1 = min(y for _, y in known) - around, max(y for _, y in known) + around
    width, height = max(x1 - x0, FINEST_CELL_M), max(y1 - y0, FINEST_CELL_M)
    cell_m = min(COARSEST_CELL_M, max(FINEST_CELL_M, sqrt(width * height / MOST_CELLS)))
    while ceil(width / cell_m - 1e-9) * ceil(height / cell_m - 1e-9) > MOST_CELLS:
        cell_m *= 1.01
    columns, rows = max(1, ceil(width / cell_m - 1e-9)), max(1, ceil(height / cell_m - 1e-9))
    # The cells stand over by the same length on both sides.
    return CellGrid(x0 - (columns * cell_m - width) / 2, y0 - (rows * cell_m - height) / 2, cell_m, columns, rows)


def _cell_zones(
    grid: CellGrid, zones: tuple[str, ...], plan: ShopPlan, labelled: Sequence[tuple[Point | None, str | None]]
) -> tuple[int, ...]:
    """The polygon that holds the cell; without polygons the zone of the nearest place that has one."""
    number_of: Mapping[str, int] = {name: number for number, name in enumerate(zones)}
    centres = grid.centres()
    if plan.zones:
        found = []
        for x, y in centres:
            name = plan.zone_at((x, y)) or _touched((x, y), grid.cell_m / 2, plan)
            found.append(NOWHERE if name is None else number_of[name])
        return tuple(found)
    known = [(place, zone) for place, zone in labelled if place is not None]
    at = np.array([place for place, _ in known])
    nearest = [int(np.argmin((at[:, 0] - x) ** 2 + (at[:, 1] - y) ** 2)) for x, y in centres]
    labels = [known[number][1] for number in nearest]
    return tuple(NOWHERE if label is None else number_of[label] for label in labels)


def _touched(centre: Point, half_m: float, plan: ShopPlan) -> str | None:
    """A zone into which the cell reaches, though its middle lies outside of all."""
    x, y = centre
    for dx, dy in ((0.0, 1.0), (1.0, 0.0), (0.0, -1.0), (-1.0, 0.0), (1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)):
        for name, polygon in plan.zones.items():
            if contains(polygon, (x + dx * half_m, y + dy * half_m)):
                return name
    return None


def _place_of(name: str, plan: ShopPlan, known: Sequence[Point]) -> Point:
    """Where the anchor is; without a position the middle of its zone, or of the shop."""
    anchor = plan.anchors[name]
    if anchor.at_m is not None:
        return anchor.at_m
    polygon = None if anchor.zone is None else plan.zones.get(anchor.zone)
    among = polygon or [other.at_m for other in plan.anchors.values() if other.zone == anchor.zone and other.at_m is not None]
    points = list(among) or list(known)
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


def _rounded(rows: Sequence[Floats]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(np.round(row, 2).tolist()) for row in rows)
