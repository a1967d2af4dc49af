"""`gateway zone learn` and `gateway zone evaluate`: what recordings say about a shop's zones."""

import os
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from gateway.cli.outputs import refuse_overwriting
from gateway.cli.progress import Progress
from gateway.contract.recording import (
    MAX_LINE,
    MAX_MODEL_BYTES,
    ModelFile,
    ZoneEvaluation,
    ZoneLearnt,
    read_anchors,
    read_model,
    read_recording,
)
from gateway.contract.strict_json import MAX_BYTES
from gateway.core.sanitiser import printable
from gateway.core.zone_model import RecordedSighting, ShopPlan, ZoneModel
from gateway.core.zone_scores import Filter, Score, announcements, pooled, score
from gateway.errors import ConfigurationError
from gateway.io.input_file import STANDARD_INPUT, read_input
from gateway.io.whole_file import write_whole

_LONGEST_PATH = 5000
_RESAMPLES = 1000
_SEED = 1
"""The same recordings give the same interval."""


def run_learn(recordings: Sequence[Path], anchors: Path | None, out: Path, *, as_json: bool) -> None:
    """Write the model and say what is in it."""
    from gateway.core.calibration import NotLearnt, learn

    refuse_overwriting({"--out": out}, [*recordings, anchors])
    plan = _plan(anchors)
    try:
        with _HowFar() as how_far:
            sightings = [sighting for path in recordings for sighting in recorded(path, how_far)]
            how_far.of("learning from", len(sightings))
            model = learn(sightings, plan)
    except NotLearnt as error:
        raise ConfigurationError(
            str(error), where=printable(str(recordings[0])), do="Record a walk with zones or positions, or name --anchors."
        ) from error
    write_whole(out, ModelFile.of(model).to_text(), do="Check the folder.")
    cell_m = None if model.grid is None else round(model.grid.cell_m, 2)
    said = {
        "model": printable(str(out), _LONGEST_PATH),
        "anchors": len(model.anchors),
        "zones": len(model.zones),
        "cells": len(model.cell_zones),
        "cell_m": cell_m,
        "learns": model.learns,
    }
    if as_json:
        print(ZoneLearnt.model_validate(said).model_dump_json())
        return
    kind = "fingerprints" if model.grid is None else f"cells of {cell_m} m"
    print(f"{len(model.anchors)} anchors, {len(model.zones)} zones, {len(model.cell_zones)} {kind}: {printable(str(out))}")
    if model.learns:
        print("Nobody walked: the levels follow from the anchors' positions and are corrected by what is heard.")


def run_evaluate(recordings: Sequence[Path], model: Path | None, anchors: Path | None, *, as_json: bool) -> None:
    """Print one score for each recording and one for all."""
    if model is not None:
        known = read_model(read_input(model, MAX_MODEL_BYTES), printable(str(model)))
        plan = ShopPlan(zones=known.polygons)
        filtering = _model_filter(known)
    else:
        plan = _plan(anchors)
        filtering = _plan_filter(plan, printable(str(anchors)))
    with _HowFar() as how_far:
        scores = [_score(recorded(path, how_far), _Watched(filtering, path, how_far), plan) for path in recordings]
    if as_json:
        rows = [
            {"recording": printable(str(path), _LONGEST_PATH), **_json(found, number)}
            for path, (found, number) in zip(recordings, scores, strict=True)
        ]
        total = _json(pooled(found for found, _ in scores), sum(number for _, number in scores))
        total["interval_90"] = _intervals([found for found, _ in scores])
        print(ZoneEvaluation.model_validate({"recordings": rows, "total": total}).model_dump_json())
        return
    _print(recordings, [found for found, _ in scores])


def _plan(anchors: Path | None) -> ShopPlan:
    return ShopPlan() if anchors is None else read_anchors(read_input(anchors, MAX_BYTES), printable(str(anchors)))


class _HowFar(Progress):
    """With which part of the work."""

    def __init__(self) -> None:
        super().__init__(lambda done: f"{self._what} {done:.0f} sightings")
        self._what = ""

    def of(self, what: str, done: float) -> None:
        """So many sightings."""
        self._what = what
        self.at(done)


class _Watched:
    """A filter that tells how far it is."""

    def __init__(self, filtering: Filter, path: Path, how_far: _HowFar) -> None:
        self._filtering = filtering
        self._what = f"{printable(path.name, 60)}: judged"
        self._how_far = how_far
        self._seen = 0

    @property
    def zones(self) -> tuple[str, ...]:
        return self._filtering.zones

    def observe(self, sighting: RecordedSighting) -> None:
        self._seen += 1
        self._how_far.of(self._what, self._seen)
        self._filtering.observe(sighting)

    def beliefs(self, now_ms: int) -> Iterable[tuple[str, Sequence[float]]]:
        return self._filtering.beliefs(now_ms)


def recorded(path: Path, how_far: _HowFar | None = None) -> list[RecordedSighting]:
    """A recording's sightings; ``ConfigurationError`` when there is none."""
    where = "standard input" if path == STANDARD_INPUT else printable(str(path))
    what = f"{printable(path.name, 60)}: read"
    found: list[RecordedSighting] = []
    try:
        with os.fdopen(0, "rb", closefd=False) if path == STANDARD_INPUT else path.open("rb") as file:
            for sighting in read_recording(iter(lambda: file.readline(MAX_LINE + 2), b""), where):
                found.append(sighting)
                if how_far is not None:
                    how_far.of(what, len(found))
    except OSError as error:
        raise ConfigurationError(f"cannot be read ({error.strerror}).", where=where, do="Check path and owner.") from error
    if not found:
        raise ConfigurationError("holds no sighting.", where=where, do="Record again.")
    return found


def _model_filter(model: ZoneModel) -> Filter:
    from gateway.core.zone_filter import ZoneFilter

    return ZoneFilter(model)


def _plan_filter(plan: ShopPlan, where: str) -> Filter:
    """Positions where there are enough, else which anchor belongs to which zone."""
    from gateway.core.calibration import NotLearnt, unsurveyed
    from gateway.core.level_filter import LevelFilter

    try:
        return _model_filter(unsurveyed(plan))
    except NotLearnt as error:
        zone_of = {name: anchor.zone for name, anchor in plan.anchors.items() if anchor.zone is not None}
        if not zone_of:
            raise ConfigurationError(str(error), where=where, do="Say where the anchors are, or in which zone.") from error
        return LevelFilter(zone_of)


def _score(sightings: Iterable[RecordedSighting], filtering: Filter, plan: ShopPlan) -> tuple[Score, int]:
    """The score of one recording, and of how many shoppers."""
    ticks = announcements(sightings, filtering)
    return pooled(score(own, plan) for own in ticks.values()), len(ticks)


def _json(found: Score, shoppers: int) -> dict[str, Any]:
    return {
        "shoppers": shoppers,
        "ticks": found.ticks,
        "accuracy": _rounded(found.accuracy),
        "accuracy_1m": _rounded(found.accuracy_1m),
        "changes": found.changes,
        "true_changes": found.true_changes,
        "changes_per_true_change": _rounded(found.changes_per_true_change),
        "changes_per_10min": _rounded(found.changes_per_10min),
        "stays": found.stays,
        "wrong_stays": found.wrong_stays,
        "enter_delay_s": {"p50": found.delay_s(50), "p95": found.delay_s(95), "never": found.never_entered},
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _intervals(scores: Sequence[Score]) -> dict[str, list[float] | None] | None:
    """Bootstrap over recordings, 90 %; ``None`` for a single one."""
    if len(scores) < 2:
        return None
    choose = random.Random(_SEED)
    samples = [pooled(choose.choices(scores, k=len(scores))) for _ in range(_RESAMPLES)]
    of: dict[str, Callable[[Score], float | None]] = {
        "accuracy": lambda sample: sample.accuracy,
        "accuracy_1m": lambda sample: sample.accuracy_1m,
        "changes_per_true_change": lambda sample: sample.changes_per_true_change,
        "changes_per_10min": lambda sample: sample.changes_per_10min,
        "wrong_stays_share": lambda sample: sample.wrong_stays / sample.stays if sample.stays else None,
    }
    return {name: _interval([value for sample in samples if (value := of_(sample)) is not None]) for name, of_ in of.items()}


def _interval(values: list[float]) -> list[float] | None:
    if not values:
        return None
    values.sort()
    return [round(values[len(values) * 5 // 100], 4), round(values[min(len(values) - 1, len(values) * 95 // 100)], 4)]


def _print(recordings: Sequence[Path], scores: Sequence[Score]) -> None:
    from gateway.cli.columns import columns

    named = [*zip((printable(path.name) for path in recordings), scores, strict=True), ("total", pooled(scores))]
    rows = [
        (
            name,
            _percent(found.accuracy),
            _percent(found.accuracy_1m),
            f"{found.changes} for {found.true_changes}",
            f"{found.wrong_stays} of {found.stays}",
            _seconds(found.delay_s(50)),
            _seconds(found.delay_s(95)),
        )
        for name, found in named
    ]
    print("\n".join(columns(("recording", "right", "within 1 m", "changes", "wrong stays", "enter p50", "p95"), rows)))


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _seconds(delay_s: float | None) -> str:
    return "never" if delay_s is None else f"{delay_s:.0f} s"
