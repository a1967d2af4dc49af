"""The control socket: how the command line talks to a running daemon.

One request per connection, one JSON object on one line; one answer, likewise: ``{"result": {…}}`` or
``{"failure": {"exit_code", "what", "where", "do"}}``. The results are what ``--json`` prints.
"""

import hashlib
from typing import Annotated, Literal, TypeVar

from pydantic import Field, JsonValue, StringConstraints, TypeAdapter, ValidationError

from gateway.contract import strict_json
from gateway.contract.explanations import MAX_DECISIONS, MAX_SINCE_S
from gateway.contract.fields import GatewayId, Name, OpaqueId, PromotionId, StoreId, Strict, WallTime, explain
from gateway.contract.promotions import Promotion
from gateway.contract.shop import ShopFile
from gateway.errors import ConfigurationError, DiskError, GatewayError, RadioGivenUp, TryAgain, Untrusted

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
KeyHex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
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


Request = Annotated[
    StatusRequest
    | ShopRequest
    | UseShopRequest
    | CatalogueRequest
    | TechniciansRequest
    | AddTechnicianRequest
    | RemoveTechnicianRequest
    | ExplainRequest,
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


_FAILURES: tuple[type[GatewayError], ...] = (ConfigurationError, RadioGivenUp, DiskError, TryAgain)


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


ReceiverState = Literal["stopped", "starting", "hearing", "deaf", "simulated"]


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
    next_step: str
    """The one thing to do next."""
