"""What is computed from walks beside the event loop, in a process of its own: a task is a JSON object, its result another."""

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from gateway.contract.fields import Name, Strict, explain
from gateway.contract.recording import AnchorLine, AnchorsFile, read_recording
from gateway.contract.walks import Share, WalkAccepted, WalkRefused, ZonesChecked, ZonesVerified
from gateway.core.walks import Walk
from gateway.core.zone_model import RecordedSighting, ShopPlan
from gateway.errors import ConfigurationError


class KeptWalk(Strict):
    """An accepted walk: where its recording is, and what stands beside it.

    Not the recording itself, which is up to some megabytes: whoever learns reads one after the other.
    """

    file: str
    about: WalkAccepted


class LearnTask(Strict):
    """Judge a new walk, and learn from it and the others → ``Learnt``."""

    do: Literal["learn"] = "learn"
    plan: AnchorsFile
    zone: Name
    recording: str
    """Of the new walk."""
    walks: tuple[KeptWalk, ...]
    """Accepted before; one of the same zone is judged by, and not learnt from."""
    receivers: tuple[Name, ...]
    """Those that are said to hear in the zone."""
    deaf: tuple[Name, ...] = ()
    """Those that heard nothing of anything meanwhile."""
    anyway: bool = False


class CheckTask(Strict):
    """How well are the zones told apart? → ``ZonesChecked``."""

    do: Literal["check"] = "check"
    plan: AnchorsFile
    walks: tuple[KeptWalk, ...]
    receivers: tuple[Name, ...]
    """All of the shop."""
    not_walked: tuple[Name, ...]


class VerifyTask(Strict):
    """Is the model still as good? → ``ZonesVerified``."""

    do: Literal["verify"] = "verify"
    plan: AnchorsFile
    walks: tuple[KeptWalk, ...]
    version: int | None
    model: str | None
    """A model file; ``None``: zones follow from the plan."""


Task = Annotated[LearnTask | CheckTask | VerifyTask, Field(discriminator="do")]
TASKS: TypeAdapter[LearnTask | CheckTask | VerifyTask] = TypeAdapter(Task)


class ReplayedFigures(Strict):
    """One walk with the model that has just been learnt."""

    accuracy: Share
    changes: int


class Learnt(Strict):
    """Either a refusal or a model."""

    refused: WalkRefused | None = None
    model: str = ""
    figures: dict[Name, ReplayedFigures] = {}
    """By zone."""
    sounds_like: Name | None = None
    heard: int = 0
    heard_per_s: float = 0.0
    duration_s: float = 0.0
    anchors: tuple[Name, ...] = ()


TaskResult = Learnt | ZonesChecked | ZonesVerified


def plan_file(plan: ShopPlan) -> AnchorsFile:
    """The plan as it crosses into the other process."""
    anchors = {
        name: AnchorLine(x=known.at_m[0] if known.at_m else None, y=known.at_m[1] if known.at_m else None, zone=known.zone)
        for name, known in plan.anchors.items()
    }
    return AnchorsFile(anchors=anchors, zones={name: tuple(polygon) for name, polygon in plan.zones.items()})


def recording_of(zone: str, sightings: Iterable[RecordedSighting]) -> str:
    """A walk in the neutral recording format; its shopper is called after the zone, so that nothing tells who walked."""
    return "".join(_line(zone, sighting) for sighting in sightings)


def _line(zone: str, sighting: RecordedSighting) -> str:
    line: Mapping[str, object] = {
        "t": sighting.t_ms / 1000,
        "shopper": zone,
        "anchor": sighting.anchor,
        "rssi": sighting.rssi_dbm,
        "zone": zone,
        "source": sighting.source,
    }
    if sighting.at_m is not None:
        line = {**line, "x": sighting.at_m[0], "y": sighting.at_m[1]}
    return json.dumps(line) + "\n"


def walk_of(zone: str, recording: str) -> Walk:
    """The walk in a recording; ``ConfigurationError`` names the line that is none."""
    where = f"the walk of {zone}"
    return Walk(zone, tuple(read_recording((line.encode() for line in recording.splitlines()), where)))


def read_about(text: bytes, where: str) -> WalkAccepted:
    """What stands beside a recording."""
    try:
        return WalkAccepted.model_validate_json(text)
    except ValidationError as error:
        raise ConfigurationError(explain(error), where=where, do="Walk the zone again.") from error
