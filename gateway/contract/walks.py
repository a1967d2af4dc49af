"""The walk test on the control socket and on disk: what a technician asks for, how far a walk is, and what became of it."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from gateway.contract.fields import Name, Strict, WallTime
from gateway.contract.recording import Corner, Metres

MAX_WALK_S = 600
ModelVersion = Annotated[int, Field(ge=1, le=1_000_000)]
Share = Annotated[float, Field(ge=0, le=1)]
ModelText = Annotated[str, StringConstraints(min_length=2, max_length=3_500_000)]
"""A model file; a request on the control socket holds 4 MiB."""

# ---- requests -----------------------------------------------------------------------------------------------------------------


class WalkRequest(Strict):
    """Follow the test device through a zone → ``WalkProgress`` again and again, then ``WalkDone`` or ``WalkRefused``.

    Whoever hangs up ends the walk.
    """

    do: Literal["walk"] = "walk"
    zone: Name
    shopper: Name | None = None
    """A test shopper; ``None``: the only one there is."""
    beacon: Name | None = None
    """A registered beacon instead of a test shopper."""
    duration_s: Annotated[int, Field(ge=1, le=MAX_WALK_S)] = 30
    path: Annotated[tuple[tuple[Metres, Metres], ...], Field(max_length=100)] = ()
    """Marks in the order in which they are passed, metres."""
    evenly: bool = False
    """The path is walked at one speed; else each mark is told by a ``WalkMarkRequest``."""
    anyway: bool = False
    """Learn from the walk although it sounds like another zone."""


class WalkMarkRequest(Strict):
    """The walker has reached the next mark → ``WalkMarked``."""

    do: Literal["walk-mark"] = "walk-mark"


class CheckZonesRequest(Strict):
    """How well are the walked zones told apart? → ``ZonesChecked``."""

    do: Literal["check-zones"] = "check-zones"


class VerifyZonesRequest(Strict):
    """Is the model in force still as good on the walks as when they were accepted? → ``ZonesVerified``."""

    do: Literal["verify-zones"] = "verify-zones"


class ModelsRequest(Strict):
    """The zone models that are kept → ``Models``."""

    do: Literal["zone-models"] = "zone-models"


class UseModelRequest(Strict):
    """Put a kept model in force → ``Models``."""

    do: Literal["use-zone-model"] = "use-zone-model"
    version: ModelVersion | Literal["previous", "none"]
    """``previous``: the newest before the one in force; ``none``: zones follow from anchors and positions again."""


class ExportModelRequest(Strict):
    """A model as a file → ``ModelExported``."""

    do: Literal["export-zone-model"] = "export-zone-model"
    version: ModelVersion | None = None
    """``None``: the one in force."""


class ImportModelRequest(Strict):
    """Keep a model that was learnt elsewhere as the next version; it is not put in force → ``Models``."""

    do: Literal["import-zone-model"] = "import-zone-model"
    model: ModelText


# ---- a walk -------------------------------------------------------------------------------------------------------------------


class AnchorLevelNow(Strict):
    """What one anchor hears of the test device."""

    anchor: Name
    level_dbm: float | None
    """Median of the last five seconds; absent while silent."""
    heard: int
    """Since the walk began."""


class WalkProgress(Strict):
    """How far a walk is."""

    kind: Literal["progress"] = "progress"
    state: Literal["waiting", "walking", "learning"]
    """``waiting``: the test device is not heard yet, and time does not run."""
    elapsed_s: float
    left_s: float | None
    """Absent while nobody knows: waiting, or until the last mark."""
    heard: int
    """Sightings so far."""
    heard_per_s: float
    anchors: tuple[AnchorLevelNow, ...] = ()
    """The loudest first."""
    silent: tuple[Name, ...] = ()
    """Receivers that are said to hear in the zone and have not heard the test device yet."""
    marks_passed: int = 0
    marks: int = 0


class WalkMarked(Strict):
    """The mark was taken."""

    passed: int
    marks: int


class WalkDone(Strict):
    """A walk that was accepted, and the model that was learnt with it."""

    kind: Literal["done"] = "done"
    zone: Name
    heard: int
    heard_per_s: float
    duration_s: float
    anchors: tuple[Name, ...]
    model: ModelVersion
    in_force: bool
    not_walked: tuple[Name, ...]
    """Zones with anchors that nobody has walked; until then the model is kept but not put in force."""
    accuracy: Share | None
    """Share of the seconds at which the right zone would have been announced, each block of a walk judged by a model that was
    learnt without it; absent before every zone was walked."""
    zone_accuracy: Share | None
    """The same, of this walk."""
    sounds_like: Name | None = None
    """With ``anyway``: the zone for whose walk this one would have been refused."""
    learning_s: float


class WalkRefused(Strict):
    """A walk that was not learnt from; nothing has changed."""

    kind: Literal["refused"] = "refused"
    zone: Name
    reason: Literal["not-heard", "too-short", "too-few", "asleep", "wrong-zone", "silent-receiver"]
    what: str
    do: str


# ---- what the walks say -------------------------------------------------------------------------------------------------------


class ZoneConfusion(Strict):
    """How the seconds of one zone's walk would have been announced."""

    zone: Name
    walked_time: WallTime
    seconds: int
    accuracy: Share
    announced: dict[str, int]
    """Seconds by zone, the most first; ``""`` stands for none of them."""
    loudest: Name | None
    """The anchor that hears this zone best."""
    loudest_dbm: float | None
    """Its median there."""
    heard_per_s: float


class ZonesChecked(Strict):
    """The confusion table of all walks and what to do about it; no block of one is judged by a model that has learnt from it."""

    zones: tuple[ZoneConfusion, ...] = ()
    accuracy: Share | None = None
    """Of all; absent with fewer than two walked zones."""
    weak: tuple[Name, ...] = ()
    not_walked: tuple[Name, ...] = ()
    """Zones with anchors and no walk."""
    advice: tuple[str, ...] = ()
    """In plain words, the most urgent first; empty when nothing is to be done."""


class ZoneReplayed(Strict):
    """One walk, replayed."""

    zone: Name
    walked_time: WallTime
    seconds: int
    accuracy: Share
    accepted: Share
    """When the newest walk was accepted."""
    changes: int
    """Announced changes after the first announcement; a walk stays in its zone, so each is one too many."""
    changes_accepted: int
    worse: bool


class ZonesVerified(Strict):
    """The walks against the model in force."""

    model: ModelVersion | None
    """``None``: zones follow from anchors and positions."""
    zones: tuple[ZoneReplayed, ...] = ()
    accuracy: Share | None = None
    accepted: Share | None = None
    worse: bool = False
    """Whether any zone, or all together, is worse than accepted."""


class ModelKept(Strict):
    """One zone model."""

    version: ModelVersion
    in_force: bool
    made_time: WallTime | None = None
    origin: Literal["walks", "import", "unknown"] = "unknown"
    walks: tuple[Name, ...] = ()
    """The zones whose walks it was learnt from."""
    accuracy: Share | None = None
    """As in ``WalkDone``."""


class Models(Strict):
    """Those that are kept, the newest first."""

    models: tuple[ModelKept, ...] = ()
    located_by: Literal["model", "positions", "anchors"] | None = None
    """What locates shoppers now; absent while the gateway does not run."""
    trouble: str | None = None
    """Why a chosen model is not used."""


class ModelExported(Strict):
    """One model, as ``gateway zone evaluate --model`` reads it."""

    version: ModelVersion
    model: str


# ---- on disk ------------------------------------------------------------------------------------------------------------------


class WalkAccepted(Strict):
    """What stands beside the recording of an accepted walk."""

    zone: Name
    walked_time: WallTime
    device: Literal["test-shopper", "beacon"]
    path: tuple[Corner, ...] = ()
    accuracy: Share
    """Of the replayed walk with the model that was learnt last, when it was learnt."""
    changes: Annotated[int, Field(ge=0)]


class ModelMade(Strict):
    """What is known of a kept model besides the model."""

    version: ModelVersion
    made_time: WallTime
    origin: Literal["walks", "import"]
    walks: tuple[Name, ...] = ()
    accuracy: Share | None = None


class ModelsMade(Strict):
    """All of them."""

    models: tuple[ModelMade, ...] = ()
