"""Learning beside the event loop: a process of its own, with low priority, that gets a task on standard input and answers a line.

A thread would not do: what numpy makes of a list keeps the interpreter for longer than the loop may wait. And long walks take
more memory than the gateway itself: the process has a limit of its own, and where the machine runs out nevertheless it is the
first to go (``OOMPolicy=continue`` in the unit lets the gateway live on).
"""

import asyncio
import contextlib
import os
import resource
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from gateway.contract.control import answer_of, result_of
from gateway.contract.fields import Strict
from gateway.contract.recording import AnchorsFile, ModelFile, read_model
from gateway.contract.walk_tasks import (
    TASKS,
    CheckTask,
    KeptWalk,
    Learnt,
    LearnTask,
    ReplayedFigures,
    TaskResult,
    VerifyTask,
    walk_of,
)
from gateway.contract.walks import WalkRefused, ZoneConfusion, ZoneReplayed, ZonesChecked, ZonesVerified
from gateway.core.walks import Walk, judged, sounds_like
from gateway.core.zone_model import ShopPlan
from gateway.core.zone_scores import Filter
from gateway.errors import ConfigurationError, GatewayError, TryAgain

Result = TypeVar("Result", bound=Strict)
MAX_ANSWER = 64 * 1024 * 1024
_MAX_RECORDING = 64 * 1024 * 1024
_NICE = 10
MOST_MIB = 384
"""20 zones with 12 anchors, each walked for 60 s at eight sightings a second and anchor, took 102 MB; for ten minutes at three a
second 236 MB, at eight 532 MB (x86-64)."""
_MIB = 1024 * 1024


async def learn_apart(task: LearnTask | CheckTask | VerifyTask, result: type[Result], most_mib: int = MOST_MIB) -> Result:
    """What ``perform`` makes of the task, in another process; its failures are raised here. Cancelled, the process ends.

    ``ConfigurationError`` also where it needs more than ``most_mib`` of memory; ``TryAgain`` where it died.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "gateway.io.learning",
        str(most_mib),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=MAX_ANSWER,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    try:
        # A walk is some megabytes: writing them in one piece would copy them while the loop waits.
        answer, _ = await process.communicate(await asyncio.to_thread(task.model_dump_json().encode))
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    code = await process.wait()
    if code != 0:
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        do = "As a rule memory was short: walk the zones for less long, or see journalctl -u gateway."
        raise TryAgain(f"learning ended with {how}.", do=do)
    return await asyncio.to_thread(result_of, answer, result)


def main() -> None:
    """The other process; its argument is how many MiB of memory it may take."""
    most_mib = int(sys.argv[1])
    _step_back(most_mib)
    outcome: Strict | GatewayError
    try:
        outcome = perform(TASKS.validate_json(sys.stdin.buffer.read()))
    except GatewayError as error:
        outcome = error
    except MemoryError:
        what = f"are too much for the {most_mib} MiB of memory that learning may take."
        outcome = ConfigurationError(what, where="the walks", do="Walk the longest of them anew, for less long.")
    sys.stdout.buffer.write(answer_of(outcome))


def _step_back(most_mib: int) -> None:
    """Whatever becomes of this process, the gateway has to go on."""
    # A sandbox may forbid it; then the two share the processor.
    with contextlib.suppress(PermissionError):
        os.nice(_NICE)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    resource.setrlimit(resource.RLIMIT_DATA, (most_mib * _MIB, most_mib * _MIB))


def perform(task: LearnTask | CheckTask | VerifyTask) -> TaskResult:
    """The result of a task, in this process; takes seconds. ``ConfigurationError`` for walks that nothing can be learnt from."""
    from gateway.core.calibration import NotLearnt

    try:
        match task:
            case LearnTask():
                return _learn(task)
            case CheckTask():
                return _check(task)
            case VerifyTask():
                return _verify(task)
    except NotLearnt as error:
        raise ConfigurationError(str(error), where="the walks", do="Walk a zone: gateway zone walk ZONE.") from error


def _walks(kept: Iterable[KeptWalk], plan: AnchorsFile) -> list[Walk]:
    """Without receivers that the shop has no more: a model must not wait for them."""
    walks = (walk_of(one.about.zone, _recording(Path(one.file))) for one in kept)
    return [Walk(walk.zone, tuple(s for s in walk.sightings if s.anchor in plan.anchors)) for walk in walks]


def _recording(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_RECORDING).decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError("is no text.", where=str(path), do="Walk the zone again.") from error
    except OSError as error:
        raise ConfigurationError(
            f"cannot be read ({error.strerror}).", where=str(path), do="Check its owner, or walk the zone again."
        ) from error


def _learn(task: LearnTask) -> Learnt:
    others = {walk.zone: walk for walk in _walks(task.walks, task.plan)}
    walk = walk_of(task.zone, task.recording)
    refused = judged(walk, others, task.receivers, frozenset(task.deaf))
    alike = sounds_like(walk, others) if task.anyway else None
    if refused is not None and not (task.anyway and refused.reason == "wrong-zone"):
        return Learnt(refused=WalkRefused(zone=task.zone, reason=refused.reason, what=refused.what, do=refused.do))
    from gateway.core.walk_check import model_of, replayed
    from gateway.core.zone_filter import ZoneFilter

    walks = [*(other for zone, other in sorted(others.items()) if zone != task.zone), walk]
    model = model_of(walks, task.plan.compiled())
    figures = replayed(walks, ZoneFilter(model))
    return Learnt(
        model=ModelFile.of(model).to_text(),
        figures={zone: ReplayedFigures(accuracy=round(one.accuracy, 4), changes=one.changes) for zone, one in figures.items()},
        sounds_like=alike,
        heard=len(walk.sightings),
        heard_per_s=round(len(walk.sightings) * 1000 / walk.duration_ms, 1),
        duration_s=round(walk.duration_ms / 1000, 1),
        anchors=tuple(sorted(walk.anchors)),
    )


def _check(task: CheckTask) -> ZonesChecked:
    from gateway.core.walk_check import WEAK, advice, confusion

    walks, plan = _walks(task.walks, task.plan), task.plan.compiled()
    if not walks:
        return ZonesChecked(not_walked=task.not_walked, advice=_nothing_walked(task.not_walked))
    times = {one.about.zone: one.about.walked_time for one in task.walks}
    found = confusion(walks, plan)
    seconds, right = sum(one.seconds for one in found.values()), sum(one.right for one in found.values())
    return ZonesChecked(
        zones=tuple(
            ZoneConfusion(
                zone=zone,
                walked_time=times[zone],
                seconds=one.seconds,
                accuracy=round(one.accuracy, 4),
                announced=dict(one.announced),
                loudest=one.loudest,
                loudest_dbm=one.loudest_dbm,
                heard_per_s=one.heard_per_s,
            )
            for zone, one in sorted(found.items())
        ),
        accuracy=round(right / seconds, 4) if len(walks) > 1 and seconds else None,
        weak=tuple(zone for zone, one in sorted(found.items()) if one.accuracy < WEAK) if len(walks) > 1 else (),
        not_walked=task.not_walked,
        advice=tuple(advice(found, walks, plan, receivers=task.receivers, not_walked=task.not_walked)),
    )


def _nothing_walked(not_walked: tuple[str, ...]) -> tuple[str, ...]:
    return (f"walk a zone: gateway zone walk {not_walked[0]}",) if not_walked else ()


def _verify(task: VerifyTask) -> ZonesVerified:
    from gateway.core.walk_check import all_worse, is_worse, replayed

    walks = _walks(task.walks, task.plan)
    if not walks:
        return ZonesVerified(model=task.version)
    found = replayed(walks, _filter(task.model, task.plan.compiled()))
    accepted = {one.about.zone: one.about for one in task.walks}
    rows = tuple(
        ZoneReplayed(
            zone=zone,
            walked_time=accepted[zone].walked_time,
            seconds=now.seconds,
            accuracy=round(now.accuracy, 4),
            accepted=accepted[zone].accuracy,
            changes=now.changes,
            changes_accepted=accepted[zone].changes,
            worse=is_worse(now, accepted[zone].accuracy, accepted[zone].changes),
        )
        for zone, now in sorted(found.items())
    )
    seconds = max(1, sum(row.seconds for row in rows))
    accuracy = sum(now.right for now in found.values()) / seconds
    before = sum(row.accepted * row.seconds for row in rows) / seconds
    return ZonesVerified(
        model=task.version,
        zones=rows,
        accuracy=round(accuracy, 4),
        accepted=round(before, 4),
        worse=any(row.worse for row in rows) or all_worse(accuracy, before),
    )


def _filter(model: str | None, plan: ShopPlan) -> Filter:
    """What locates shoppers: the model, else the anchors' positions, else which anchor belongs to which zone."""
    from gateway.core.calibration import NotLearnt, unsurveyed
    from gateway.core.level_filter import LevelFilter
    from gateway.core.zone_filter import ZoneFilter

    if model is not None:
        return ZoneFilter(read_model(model.encode(), "the zone model"))
    try:
        return ZoneFilter(unsurveyed(plan))
    except NotLearnt:
        return LevelFilter({name: anchor.zone for name, anchor in plan.anchors.items() if anchor.zone is not None})


if __name__ == "__main__":
    main()
