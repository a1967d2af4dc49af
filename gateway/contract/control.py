"""The control socket: how the command line talks to a running daemon.

One request per connection, one JSON object on one line; one answer, likewise: ``{"result": {…}}`` or
``{"failure": {"exit_code", "what", "where", "do"}}``. The results are what ``--json`` prints. Who asks for a walk is
answered with a line again and again, until the last.
"""

import hashlib
from typing import Annotated, Literal, TypeVar

from pydantic import Field, JsonValue, StringConstraints, TypeAdapter, ValidationError

from gateway.contract import strict_json
from gateway.contract.explanations import MAX_DECISIONS, MAX_SINCE_S
from gateway.contract.fields import GatewayId, KeyHex, Name, OpaqueId, PromotionId, StoreId, Strict, WallTime, explain
from gateway.contract.promotions import Promotion
from gateway.contract.shop import ShopFile
from gateway.contract.walks import (
    CheckZonesRequest,
    ExportModelRequest,
    ImportModelRequest,
    ModelsRequest,
    UseModelRequest,
    VerifyZonesRequest,
    WalkMarkRequest,
    WalkRequest,
)
from gateway.core.model import BatteryState, BeaconState, Hearing, RecoveryStep
from gateway.errors import ConfigurationError, DiskError, GatewayError, NoRadio, TryAgain, Untrusted, WrongCommand

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Result = TypeVar("Result", bound=Strict)


# ---- requests -----------------------------------------------------------------------------------------------------------------


class StatusRequest(Strict):
    """How is the gateway? → ``Status``."""

    do: Literal["status"] = "status"


class ShopRequest(Strict):
    """The shop in force → ``ShopInForce``."""

    do: Literal["shop"] = "shop"


class UseShopRequest(Strict):
    """Put a shop in force and keep it, all or nothing → ``ShopInForce``."""

    do: Literal["use-shop"] = "use-shop"
    shop: ShopFile
    replaces: Digest
    """Of the shop that was edited: refused when another one is in force by now."""


class CatalogueRequest(Strict):
    """The promotions central has sent → ``CatalogueInForce``."""

    do: Literal["catalogue"] = "catalogue"


class TechniciansRequest(Strict):
    """The technician's test shoppers and where they are → ``Technicians``."""

    do: Literal["test-shoppers"] = "test-shoppers"


class AddTechnicianRequest(Strict):
    """Recognise a test shopper from now on → ``Technicians``."""

    do: Literal["add-test-shopper"] = "add-test-shopper"
    name: Name
    key: KeyHex
    """KU."""
    duration_s: Annotated[int, Field(ge=1, le=7 * 24 * 3600)]


class RemoveTechnicianRequest(Strict):
    """Recognise a test shopper no longer → ``Technicians``."""

    do: Literal["remove-test-shopper"] = "remove-test-shopper"
    name: Name


class ExplainRequest(Strict):
    """Why did these decisions come about? → ``explanations.Explanations``; the newest that match."""

    do: Literal["explain"] = "explain"
    newest: Annotated[int, Field(ge=1, le=MAX_DECISIONS)] = 1
    decision: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{1,16}-)?d[1-9][0-9]{0,17}$")] | None = None
    """One decision by its id; the part before the hyphen may be left out."""
    offer: OpaqueId | None = None
    """The decision that this offer came from."""
    zone: Annotated[str, StringConstraints(max_length=48)] | None = None
    """As it was called then."""
    since_s: Annotated[int, Field(ge=1, le=MAX_SINCE_S)] | None = None
    """Not older than so many seconds."""
    every_event: bool = False
    """Also events that offer nothing: exits, dwells that no promotion waits for, beginnings and ends of visits."""


class BeaconHealthRequest(Strict):
    """How do the fixed beacons and the receivers fare? → ``BeaconsHealth``."""

    do: Literal["beacon-health"] = "beacon-health"


class RelearnBeaconRequest(Strict):
    """A beacon is right as it is now: learn anew what is usual of it → ``BeaconsHealth``."""

    do: Literal["relearn-beacon"] = "relearn-beacon"
    name: Name


class TestReceiverRequest(Strict):
    """Listen to one receiver for a while → ``ReceiverTested``, when that is over."""

    __test__ = False
    do: Literal["test-receiver"] = "test-receiver"
    name: Name
    duration_s: Annotated[int, Field(ge=1, le=300)]


class TakeOverRequest(Strict):
    """Decide from now on in this store → ``Decides``."""

    do: Literal["take-over"] = "take-over"


Request = Annotated[
    StatusRequest
    | ShopRequest
    | UseShopRequest
    | CatalogueRequest
    | TechniciansRequest
    | AddTechnicianRequest
    | RemoveTechnicianRequest
    | ExplainRequest
    | BeaconHealthRequest
    | RelearnBeaconRequest
    | TestReceiverRequest
    | TakeOverRequest
    | WalkRequest
    | WalkMarkRequest
    | CheckZonesRequest
    | VerifyZonesRequest
    | ModelsRequest
    | UseModelRequest
    | ExportModelRequest
    | ImportModelRequest,
    Field(discriminator="do"),
]
_REQUESTS: TypeAdapter[Request] = TypeAdapter(Request)


def read_request(line: bytes) -> Request:
    """The request on one line; ``ConfigurationError`` when this version does not know it."""
    try:
        return _REQUESTS.validate_python(strict_json.parse(line, "request"))
    except ValidationError as error:
        raise ConfigurationError(explain(error), where="request", do="Use a command line of the daemon's own version.") from error
    except Untrusted as error:
        raise ConfigurationError(error.what, where="request") from error


# ---- answers ------------------------------------------------------------------------------------------------------------------


class Failure(Strict):
    """Why a request was not fulfilled."""

    exit_code: int
    what: str
    where: str = ""
    do: str = ""


class Answer(Strict):
    """Either of the two."""

    result: dict[str, JsonValue] | None = None
    failure: Failure | None = None


_FAILURES: tuple[type[GatewayError], ...] = (ConfigurationError, WrongCommand, NoRadio, DiskError, TryAgain)


def answer_of(outcome: Strict | GatewayError) -> bytes:
    """One line."""
    if isinstance(outcome, GatewayError):
        failure = Failure(exit_code=outcome.exit_code, what=outcome.what, where=outcome.where, do=outcome.do)
        return Answer(failure=failure).model_dump_json(exclude_none=True).encode() + b"\n"
    return Answer(result=outcome.model_dump(mode="json")).model_dump_json(exclude={"failure"}).encode() + b"\n"


def result_of(line: bytes, model: type[Result]) -> Result:
    """What was answered; the failure is raised as what it was at the other end."""
    try:
        answer = Answer.model_validate_json(line)
        if answer.failure is None:
            return model.model_validate(answer.result)
    except ValidationError as error:
        raise TryAgain(
            "the running daemon answers in another way than this command line expects.",
            do="They are of different versions: restart the daemon (systemctl restart gateway).",
        ) from error
    failure = answer.failure
    kind = next((kind for kind in _FAILURES if kind.exit_code == failure.exit_code), TryAgain)
    raise kind(failure.what, where=failure.where, do=failure.do)


# ---- results ------------------------------------------------------------------------------------------------------------------


class ShopInForce(Strict):
    """Zones and anchors, and the digest by which a change names what it replaces."""

    shop: ShopFile
    digest: Digest

    @classmethod
    def of(cls, shop: ShopFile) -> "ShopInForce":
        """With its digest."""
        return cls(shop=shop, digest=digest_of(shop))


def digest_of(shop: ShopFile) -> str:
    """SHA-256 of the shop, whatever its file looks like."""
    return hashlib.sha256(strict_json.canonical(shop.model_dump(mode="json"))).hexdigest()


class PromotionInForce(Strict):
    """A promotion of the catalogue, and where it stands."""

    promotion: Promotion
    zones: tuple[Name, ...]
    """The shop's zones that it names, directly or by tag."""
    in_force: bool
    """Whether its dates and windows include this moment."""


class CatalogueInForce(Strict):
    """What central has sent."""

    version: int | None = None
    not_after: WallTime | None = None
    promotions: tuple[PromotionInForce, ...] = ()


class AnchorHeard(Strict):
    """How strongly an anchor hears a test shopper, or is heard by it."""

    anchor: Name
    level_dbm: float
    source: Literal["receiver", "hint", "report"]


class Technician(Strict):
    """One test shopper."""

    name: Name
    until_time: WallTime
    heard_s_ago: float | None = None
    zone: Name | None = None
    belief: dict[str, float] = {}
    """Probability by zone, the likeliest first."""
    anchors: tuple[AnchorHeard, ...] = ()
    last_offers: tuple[PromotionId, ...] = ()
    """Newest first, at most five."""


class Technicians(Strict):
    """All test shoppers."""

    test_shoppers: tuple[Technician, ...] = ()


class BeaconLink(Strict):
    """What one receiver hears of a beacon."""

    receiver: Name
    heard_s_ago: float | None = None
    """Absent when not heard since the gateway started."""
    level_dbm: float | None = None
    """Of the last minute."""
    baseline_dbm: float | None = None
    """The usual level; absent while it is learnt."""
    rate_hz: float | None = None
    usual_rate_hz: float | None = None
    loss: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of what was sent that the receiver missed, by the beacon's own counter; absent for a beacon that does not count."""


class BeaconBattery(Strict):
    """What a beacon says of its battery."""

    state: BatteryState
    volts: float | None = None
    percent: int | None = None
    temperature_c: float | None = None
    days_left_least: int | None = None
    """Until it is low; absent unless the decline is plain."""
    days_left_most: int | None = None
    """Until it is empty."""


class BeaconFares(Strict):
    """One registered beacon, and what hangs on it."""

    name: Name
    zone: Name | None
    state: BeaconState
    since_s: float
    heard_s_ago: float | None = None
    links: tuple[BeaconLink, ...] = ()
    """By receiver."""
    battery: BeaconBattery
    reboots: int
    """Since the gateway started."""
    uptime_s: float | None = None
    """Since the beacon was switched on, as it says."""
    promotions: tuple[PromotionId, ...] = ()
    """Of its zone, the highest priority first."""
    paused: bool
    """Whether they pause, because nobody can be heard in the zone."""


class ReceiverFares(Strict):
    """How well a receiver hears, told by the beacons around it."""

    name: Name
    hearing: Hearing
    since_s: float
    canaries: int
    """Beacons that it usually hears often enough to tell by."""
    silent: int
    """Of these, not heard for a minute."""
    shift_db: float
    """By how much all its beacons are louder or fainter than usual."""


class BlindZone(Strict):
    """A zone in which nobody can be heard."""

    name: Name
    promotions: tuple[PromotionId, ...] = ()
    """Which pause."""


class BeaconsHealth(Strict):
    """The fixed beacons, the receivers, and the zones that have gone deaf; names in order."""

    beacons: tuple[BeaconFares, ...] = ()
    receivers: tuple[ReceiverFares, ...] = ()
    blind_zones: tuple[BlindZone, ...] = ()


ReceiverState = Literal["stopped", "starting", "hearing", "deaf", "simulated"]


class RecoveryStatus(Strict):
    """A step that was taken to make a receiver hear again."""

    step: RecoveryStep
    s_ago: float
    helped: bool | None = None
    """Absent while that is open."""


class RadioStatus(Strict):
    """An adapter of this machine."""

    address: str | None = None
    """Of the adapter; absent before it was found."""
    source: Literal["kernel", "bluetoothd"]
    """``kernel``: the radio helper reports every advertisement; ``bluetoothd``: it is absent, and some are missed."""
    helper_trouble: str | None = None
    """Why it is absent, and what to do."""
    cause: Literal["bluetoothd", "hangs", "adapter", "power", "stuck", "start", "silence"] | None = None
    """Why the receiver is deaf: no bluetoothd, it hangs, no such adapter, it is off, it refuses active scans, no scan starts for
    another reason, or a scan runs and nothing is heard."""
    since_s: float
    """In this state for so long."""
    last_recovery: RecoveryStatus | None = None


class ReceiverStatus(Strict):
    """One receiver."""

    name: Name
    adapter: str | None = None
    state: ReceiverState
    scanning: Literal["active", "passive"] | None = None
    heard_per_s: float
    """Over the last ten seconds."""
    heard_s_ago: float | None = None
    trouble: str | None = None
    in_shop: bool
    """Whether the shop file has an anchor of this name."""
    gateway: GatewayId | None = None
    """Another gateway of the store, on which it hangs."""
    heard: int = 0
    """Since the start."""
    radio: RadioStatus | None = None
    """Of adapters of this machine."""


class BeaconHeard(Strict):
    """A registered beacon during a trial."""

    beacon: Name
    count: int
    median_dbm: int


class ReceiverTested(Strict):
    """What a receiver heard while it was tried."""

    receiver: ReceiverStatus
    """At the end."""
    duration_s: float
    heard: int
    """Advertisements, whosever they are."""
    heard_per_s: float
    beacons: tuple[BeaconHeard, ...]
    """Those of the register that it heard."""
    beacons_near: tuple[Name, ...]
    """Those that stand in its zone, or in one that it covers."""
    hears: bool
    said: str
    """In plain words."""
    do: str
    """The one thing to do; empty when there is nothing."""


class Decides(Strict):
    """Who decides in the store."""

    decider: GatewayId
    term: int
    """One more with each takeover."""
    before: GatewayId | None
    """Who did before the command."""
    told: bool
    """Whether the broker has it; else it is told as soon as the broker is reached."""


class BrokerStatus(Strict):
    """The connection to the MQTT broker."""

    host: str
    port: int
    state: Literal["online", "offline"]
    connections: int
    """How often it was made since the start."""


class OutboxStatus(Strict):
    """What central has not confirmed."""

    rows: int
    oldest_s: float | None
    """Age of the oldest row."""
    last_ack_s: float | None
    """Since central's last acknowledgement in this process."""


class DiskStatus(Strict):
    """Room for the database."""

    free_mib: int
    database_mib: float
    quota_mib: int


class CatalogueStatus(Strict):
    """The promotions at a glance."""

    version: int
    promotions: int
    in_force: int
    expires_s: float


class Status(Strict):
    """The gateway on one screen."""

    version: str
    store: StoreId
    gateway: GatewayId
    state: Literal["running", "stopped"]
    mode: Literal["live", "listen-only"]
    role: Literal["decide", "receive"] = "decide"
    """``receive``: it hears for the gateway that decides."""
    decider: GatewayId | None = None
    """Who decides in the store, as far as is known."""
    decider_online: bool | None = None
    """What the broker says of another gateway that decides."""
    uptime_s: float | None = None
    receivers: tuple[ReceiverStatus, ...] = ()
    shoppers_present: int = 0
    roster_size: int = 0
    test_shoppers: int = 0
    zones: int = 0
    anchors: int = 0
    catalogue: CatalogueStatus | None = None
    outbox: OutboxStatus
    broker: BrokerStatus
    central: Literal["online", "offline", "unknown"]
    clock: Literal["synchronised", "holdover", "unsynchronised"]
    disk: DiskStatus
    privacy_missing: tuple[str, ...] = ()
    trusts_central: bool = True
    rejects: dict[str, int] = {}
    """Broken frames by "format.kind" since the start."""
    offers: dict[str, int] = {}
    """By "matched", "granted", "refused", "late" since the start."""
    beacon_faults: dict[Name, BeaconState | BatteryState] = {}
    """Fixed beacons that are not as they should be, and what is wrong; ``low`` is the battery."""
    blind_zones: tuple[Name, ...] = ()
    """Zones in which nobody can be heard: their promotions pause."""
    positioning: Literal["model", "positions", "anchors"] | None = None
    """What shoppers are located by: a learned model, the anchors' positions, or no more than their zones."""
    zone_model: int | None = None
    """The version of the learned model in force."""
    zone_model_trouble: str | None = None
    """Why it is not used, or what it does not know."""
    next_step: str
    """The one thing to do next."""
