"""Files that measure zones, for us and for others: a recording, where anchors and zones are, and what was learnt from both.

A recording is JSON lines, one sighting each, of any number of shoppers:
``{"t": s, "shopper": "…", "anchor": "…", "rssi": -71.5, "zone": "…" or null, "x": m, "y": m, "source": "receiver"}``; ``zone``
is the true zone where known, the last four may be absent. The anchors file is
``{"anchors": {"name": {"x": m, "y": m, "zone": "…"}}, "zones": {"name": [[x, y], …]}}``, every part optional.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator

from gateway.contract import strict_json
from gateway.contract.fields import Strict, explain
from gateway.core.zone_model import CellGrid, KnownAnchor, RecordedSighting, ShopPlan, ZoneModel
from gateway.errors import ConfigurationError, Untrusted

MAX_LINE = 4096
MAX_SIGHTINGS = 5_000_000
MAX_MODEL_BYTES = 32 * 1024 * 1024
_FAR_M = 10_000.0

Text = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Metres = Annotated[float, Field(ge=-_FAR_M, le=_FAR_M)]
Corner = tuple[Metres, Metres]
Outline = Annotated[tuple[Corner, ...], Field(min_length=3, max_length=1000)]


class SightingLine(Strict):
    """One line of a recording."""

    t: Annotated[float, Field(ge=0, le=1e11, description="Seconds, from any beginning.")]
    shopper: Text
    anchor: Text
    rssi: Annotated[float, Field(ge=-1000, le=1000, description="dBm; impossible ones are refused where they are used.")]
    zone: Text | None = None
    source: Literal["receiver", "hint", "report"] = "receiver"
    x: Metres | None = None
    y: Metres | None = None


class AnchorLine(Strict):
    """What is known of one anchor."""

    x: Metres | None = None
    y: Metres | None = None
    zone: Text | None = None

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.x is None) != (self.y is None):
            raise ValueError("x and y come together")
        return self


class AnchorsFile(Strict):
    """Where anchors and zones are."""

    anchors: Annotated[dict[Text, AnchorLine], Field(max_length=10_000)] = {}
    zones: Annotated[dict[Text, Outline], Field(max_length=1000)] = {}

    def compiled(self) -> ShopPlan:
        """As the core uses it."""
        anchors = {
            name: KnownAnchor(None if known.x is None or known.y is None else (known.x, known.y), known.zone)
            for name, known in self.anchors.items()
        }
        return ShopPlan(anchors, dict(self.zones))


class GridEntry(Strict):
    """A floor in square cells, row by row from the south-west corner."""

    x0: Metres
    y0: Metres
    cell_m: Annotated[float, Field(gt=0, le=100)]
    columns: Annotated[int, Field(ge=1, le=10_000)]
    rows: Annotated[int, Field(ge=1, le=10_000)]


Row = tuple[Annotated[float, Field(ge=-1000, le=1000)], ...]


class ModelFile(Strict):
    """What ``gateway zone learn`` writes."""

    kind: Literal["zone-model"] = "zone-model"
    version: Literal[1] = 1
    zones: Annotated[tuple[Text, ...], Field(max_length=1000)]
    anchors: Annotated[tuple[Text, ...], Field(max_length=10_000)]
    positions: tuple[Corner | None, ...] = ()
    polygons: dict[Text, Outline] = {}
    grid: GridEntry | None = None
    cell_zones: Annotated[tuple[Annotated[int, Field(ge=-1)], ...], Field(min_length=1, max_length=10_000)]
    levels_dbm: tuple[Row, ...]
    sigmas_db: tuple[Row, ...]
    learns: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        cells = len(self.cell_zones)
        if len(self.levels_dbm) != len(self.anchors) or len(self.sigmas_db) != len(self.anchors):
            raise ValueError("each anchor has one row of levels and one of sigmas")
        if any(len(row) != cells for rows in (self.levels_dbm, self.sigmas_db) for row in rows):
            raise ValueError("each row has one number for each cell")
        if any(sigma <= 0 for row in self.sigmas_db for sigma in row):
            raise ValueError("a sigma is greater than 0")
        if any(zone >= len(self.zones) for zone in self.cell_zones):
            raise ValueError("a cell's zone is the number of a zone")
        if self.grid is not None and self.grid.columns * self.grid.rows != cells:
            raise ValueError("the grid has as many cells as cell_zones")
        if self.learns and (self.grid is None or len(self.positions) != len(self.anchors) or None in self.positions):
            raise ValueError("a model that learns has a grid and each anchor's position")
        return self

    @classmethod
    def of(cls, model: ZoneModel) -> "ModelFile":
        """The file of a model."""
        grid = model.grid
        return cls(
            zones=model.zones,
            anchors=model.anchors,
            positions=model.anchors_at_m,
            polygons=dict(model.polygons),
            grid=None
            if grid is None
            else GridEntry(x0=grid.x0_m, y0=grid.y0_m, cell_m=grid.cell_m, columns=grid.columns, rows=grid.rows),
            cell_zones=model.cell_zones,
            levels_dbm=model.levels_dbm,
            sigmas_db=model.sigmas_db,
            learns=model.learns,
        )

    def compiled(self) -> ZoneModel:
        """As the core uses it."""
        grid = self.grid
        return ZoneModel(
            anchors=self.anchors,
            zones=self.zones,
            cell_zones=self.cell_zones,
            levels_dbm=self.levels_dbm,
            sigmas_db=self.sigmas_db,
            grid=None if grid is None else CellGrid(grid.x0, grid.y0, grid.cell_m, grid.columns, grid.rows),
            anchors_at_m=self.positions,
            polygons=dict(self.polygons),
            learns=self.learns,
        )

    def to_text(self) -> str:
        """JSON, the rows as they come."""
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=False, separators=(",", ":")) + "\n"


class ZoneLearnt(Strict):
    """What ``gateway zone learn`` says."""

    model: str
    anchors: int
    zones: int
    cells: int
    cell_m: float | None
    learns: bool


class EnterDelay(Strict):
    """Over true stays of at least 2 s; ``null``: that many were never announced."""

    p50: float | None
    p95: float | None
    never: int


class ZoneScore(Strict):
    """How the announced zones compare with the true ones."""

    shoppers: int
    ticks: int
    accuracy: float | None
    accuracy_1m: float | None
    changes: int
    true_changes: int
    changes_per_true_change: float | None
    changes_per_10min: float | None
    stays: int
    wrong_stays: int
    enter_delay_s: EnterDelay


class RecordingScore(ZoneScore):
    """Of one file."""

    recording: str


class TotalScore(ZoneScore):
    """Of all files; the interval is a bootstrap over them, absent for one."""

    interval_90: dict[str, tuple[float, float] | None] | None


class ZoneEvaluation(Strict):
    """What ``gateway zone evaluate`` says."""

    recordings: tuple[RecordingScore, ...]
    total: TotalScore


def read_recording(lines: Iterable[bytes], where: str) -> Iterator[RecordedSighting]:
    """Each sighting; ``ConfigurationError`` names the line that is none. Empty lines are skipped."""
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if number > MAX_SIGHTINGS:
            raise ConfigurationError(f"holds more than {MAX_SIGHTINGS} sightings.", where=where, do="Split it.")
        if text:
            yield _sighting(text, f"{where}, line {number}")


def _sighting(text: bytes, where: str) -> RecordedSighting:
    if len(text) > MAX_LINE:
        raise ConfigurationError(f"is longer than the {MAX_LINE} bytes that a sighting takes.", where=where, do=_DO)
    try:
        line = SightingLine.model_validate_json(text)
    except ValidationError as error:
        raise ConfigurationError(explain(error), where=where, do=_DO) from error
    at_m = None if line.x is None or line.y is None else (line.x, line.y)
    return RecordedSighting(round(line.t * 1000), line.shopper, line.anchor, line.rssi, line.zone, at_m, line.source)


_DO = "Each line is one sighting: t, shopper, anchor, rssi, and zone where it is known."


def read_anchors(text: bytes, where: str) -> ShopPlan:
    """The plan in an anchors file; ``ConfigurationError`` says where it is wrong."""
    try:
        return AnchorsFile.model_validate(strict_json.parse(text, where)).compiled()
    except ValidationError as error:
        raise ConfigurationError(explain(error), where=where, do="Correct the anchors file.") from error
    except Untrusted as error:
        raise ConfigurationError(error.what, where=where, do="Correct the anchors file.") from error


def read_model(text: bytes, where: str) -> ZoneModel:
    """The model in a file of ``gateway zone learn``; ``ConfigurationError`` says where it is wrong."""
    do = "Learn it anew: gateway zone learn RECORDING --out MODEL."
    if len(text) > MAX_MODEL_BYTES:
        raise ConfigurationError("is larger than any model.", where=where, do=do)
    try:
        return ModelFile.model_validate_json(text).compiled()
    except ValidationError as error:
        raise ConfigurationError(explain(error), where=where, do=do) from error
