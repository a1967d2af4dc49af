"""The values that cross a module border, in the order in which they are made.

Times are integer milliseconds. ``mono_ms`` (monotonic) serves every duration, ``wall_ms`` (UTC, since 1970) serves messages and
calendars. RSSI and power are dBm. Absent is ``None``. What is made once per advertisement is a plain slotted class, because a
frozen one costs four times as much; what is made once per event is frozen, but for an event's outcome: a zone may have many.
An ``__init__`` that is written out is one that counts: where the gateway is compiled, a generated one stays interpreted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntFlag, StrEnum
from typing import Final, Literal, NamedTuple, Protocol

from gateway.core.conditions import Condition
from gateway.core.zone_model import Point, Polygon

# ---- time ---------------------------------------------------------------------------------------------------------------------


class Instant(NamedTuple):
    """One moment on both clocks, stamped once at the edge."""

    mono_ms: int
    wall_ms: int

    def plus(self, duration_ms: int) -> "Instant":
        """The moment ``duration_ms`` later."""
        return Instant(self.mono_ms + duration_ms, self.wall_ms + duration_ms)


class ClockQuality(Enum):
    """Whether the wall clock can be believed."""

    SYNCHRONISED = "synchronised"
    HOLDOVER = "holdover"
    """Was synchronised; may have drifted by less than the token's skew: resolve, but no time-limited promotions."""
    UNSYNCHRONISED = "unsynchronised"
    """Nothing is resolved and nothing about phones is kept."""


# ---- frames -------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True, init=False)
class ShopperToken:
    """The shopper app's rotating token as it was on the air (shopper token, version 1)."""

    form: Literal["U", "S", "M"]
    token: bytes
    """16 bytes, big-endian order (already reversed for form U)."""
    tx_power_dbm: int | None
    """Power at 1 m, forms S and M only."""

    def __init__(self, form: Literal["U", "S", "M"], token: bytes, tx_power_dbm: int | None) -> None:
        self.form = form
        self.token = token
        self.tx_power_dbm = tx_power_dbm


@dataclass(slots=True)
class IBeacon:
    """Apple's proximity beacon."""

    uuid: bytes
    major: int
    minor: int
    measured_power_dbm: int
    """RSSI at 1 m."""


@dataclass(slots=True)
class AltBeacon:
    """Radius Networks' open beacon, under any manufacturer's company identifier."""

    company_id: int
    beacon_id: bytes
    """20 bytes: the first 16 name the organisation, the rest is its own to divide."""
    measured_power_dbm: int
    """RSSI at 1 m."""
    reserved: int | None
    """The manufacturer's own octet; older emitters leave it out."""


@dataclass(slots=True)
class EddystoneUid:
    """Google's beacon with a constant identifier."""

    namespace: bytes
    """10 bytes."""
    instance: bytes
    """6 bytes."""
    measured_power_dbm: int
    """RSSI at 1 m."""


@dataclass(slots=True)
class EddystoneUrl:
    """Google's beacon with a web address, expanded."""

    url: str
    measured_power_dbm: int
    """RSSI at 1 m."""


@dataclass(slots=True)
class EddystoneTlm:
    """How a beacon fares."""

    battery_mv: int | None
    """Absent when the beacon does not measure it, as one with a mains supply."""
    temperature_c: float | None
    """In steps of 1/256 °C."""
    advertisements: int
    """Sent since power-on."""
    uptime_ms: int
    """Since power-on, in steps of 100."""


@dataclass(slots=True)
class EddystoneEncryptedTlm:
    """How a beacon fares, readable only with its identity key."""

    encrypted: bytes
    """12 bytes."""
    salt: bytes
    """2 bytes."""
    integrity_check: bytes
    """2 bytes."""


@dataclass(slots=True)
class EddystoneEid:
    """Google's beacon with a rotating identifier."""

    eid: bytes
    """8 bytes."""
    measured_power_dbm: int
    """RSSI at 1 m."""


Frame = ShopperToken | IBeacon | AltBeacon | EddystoneUid | EddystoneUrl | EddystoneTlm | EddystoneEncryptedTlm | EddystoneEid

BeaconKey = tuple[bytes, int, int] | tuple[bytes, bytes] | tuple[bytes]
"""What a fixed beacon is registered by: an iBeacon's UUID, major and minor, an Eddystone-UID's namespace and instance, or an
AltBeacon's identifier. Keys of two formats are never equal."""


@dataclass(slots=True)
class Reject:
    """Bytes that claim a format and break it: counted, never used."""

    format: str
    kind: Literal["length", "integrity", "sanity"]


def key_of(frame: Frame | Reject | None) -> BeaconKey | None:
    """What the shop's register would have to hold for this frame to be of its beacon; ``None`` for any other frame.

    >>> key_of(EddystoneUid(b"namespace!", b"serial", -66))
    (b'namespace!', b'serial')
    """
    if isinstance(frame, IBeacon):
        return frame.uuid, frame.major, frame.minor
    if isinstance(frame, EddystoneUid):
        return frame.namespace, frame.instance
    return (frame.beacon_id,) if isinstance(frame, AltBeacon) else None


# ---- the shop -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Zone:
    """A named area of the shop."""

    name: str
    title: str = ""
    tags: frozenset[str] = frozenset()
    neighbours: frozenset[str] | None = None
    """Names of the zones next to it; ``None`` = not known."""
    sensitive: bool = False
    enter_dbm: float | None = None
    """An anchor of the zone weaker than this speaks for being outside; ``None``: as positioning knows it."""
    exit_delay_ms: int = 120_000
    """Being believed elsewhere or outside for this long ends the stay, and so does silence, unless ``stale_ms`` says otherwise;
    phones fall silent for up to two minutes without leaving."""
    dwell_ms: tuple[int, ...] = (60_000,)
    """A stay that lasts this long is announced as dwelled, once per threshold."""
    enter_after_ms: int | None = None
    """For so long the shopper must be believed here before it is an entry; ``None``: as the settings say for all zones."""
    stale_ms: int | None = None
    """Silence for this long ends the stay; ``None``: as ``exit_delay_ms``."""
    polygon: Polygon | None = None
    """Where it is drawn: its corners in order."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """Any radio at a known place: a receiver of ours, or a fixed beacon that the app reports as its hint."""

    name: str
    kind: Literal["receiver", "beacon"]
    zone: str | None
    """The zone it stands in; a receiver may stand in none and only cover some."""
    covers: frozenset[str] = frozenset()
    """Zones from which a receiver hears phones: a hint is believed only there or next door. Neither ``zone`` nor ``covers``:
    the receiver hears the whole shop."""
    uuid: bytes | None = None
    major: int | None = None
    minor: int | None = None
    """iBeacon key of a fixed beacon; ``minor`` is the short id of the token's hint."""
    at_m: Point | None = None
    """Where it hangs, in the metres of the shop's plan."""
    namespace: bytes | None = None
    instance: bytes | None = None
    """Eddystone-UID of a fixed beacon that has no iBeacon key; no hint can name it."""
    beacon_id: bytes | None = None
    """Of an AltBeacon; likewise."""

    @property
    def key(self) -> BeaconKey | None:
        """What a fixed beacon is known by on the air; ``None`` for a receiver."""
        if self.uuid is not None and self.major is not None and self.minor is not None:
            return self.uuid, self.major, self.minor
        if self.namespace is not None and self.instance is not None:
            return self.namespace, self.instance
        return None if self.beacon_id is None else (self.beacon_id,)


@dataclass(frozen=True, slots=True)
class Shop:
    """Zones and anchors of one store, checked: every zone an anchor names exists."""

    zones: dict[str, Zone]
    anchors: dict[str, Anchor]


# ---- shoppers -----------------------------------------------------------------------------------------------------------------


class Consent(IntFlag):
    """The app owner's consent, as roster bits and token flags carry it (bits 0 and 1 of both)."""

    NONE = 0
    OFFERS = 1
    ANALYTICS = 2


WITH_OFFERS: Final = tuple(consent for consent in map(Consent, range(4)) if consent & Consent.OFFERS)
"""A tuple: the hash of an enumeration's member costs more than comparing both."""


@dataclass(frozen=True, slots=True)
class RosterEntry:
    """One shopper of one store and day: 25 bytes on the wire."""

    rid: bytes
    """8 bytes, the day's pseudonym; its hexadecimal form is the shopper's name everywhere else."""
    day_key: bytes
    """16 bytes, DK."""
    consent: Consent


@dataclass(slots=True)
class Hint:
    """The fixed beacon that the app heard strongest, from a fresh token whose tag is good."""

    short_id: int
    rssi_dbm: float
    minute: int
    """When the app refreshed it: minutes since 1970. The token repeats it for a minute, which makes it no newer."""


@dataclass(slots=True)
class Recognised:
    """A token resolved: a shopper of the roster with effective consent; ``NONE`` only ever removes state."""

    shopper: str
    consent: Consent
    hint: Hint | None


@dataclass(slots=True)
class Sighting:
    """Shopper heard at or by an anchor."""

    shopper: str
    anchor: str
    rssi_dbm: float
    at: Instant
    source: Literal["receiver", "hint", "report"]


# ---- where --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AnchorLevel:
    """How strongly one anchor spoke for a belief."""

    anchor: str
    level_dbm: float
    source: Literal["receiver", "hint", "report"]


@dataclass(slots=True)
class Belief:
    """Probability per zone for one shopper at one moment; with ``outside`` it sums to 1."""

    shopper: str
    at: Instant
    zones: dict[str, float]
    outside: float
    heard_at: Instant
    """The newest sighting that went into it."""
    anchors: Sequence[AnchorLevel]
    """The strongest, loudest first, as they are when somebody looks."""
    is_settled: bool = False
    """Presence has found that it only confirms what is announced."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why presence decided what it decided."""

    belief: float
    """Probability of the zone when it was announced."""
    runner_up: str | None
    margin: float
    """Natural logarithm of the zone's probability over the runner-up's."""
    anchors: tuple[AnchorLevel, ...]
    near_border: bool = False
    """The runner-up is a zone that is hardly less likely, and not known to lie elsewhere."""


@dataclass(frozen=True, slots=True)
class VisitStarted:
    """The first entry of a visit."""

    shopper: str
    visit: str
    at: Instant
    consent: Consent


@dataclass(frozen=True, slots=True)
class Entered:
    """The shopper is in the zone now."""

    shopper: str
    visit: str
    zone: str
    at: Instant
    consent: Consent
    evidence: Evidence
    is_first: bool = False
    """The one with which the visit began."""


@dataclass(frozen=True, slots=True)
class Dwelled:
    """The shopper has been in the zone for ``dwell_ms``."""

    shopper: str
    visit: str
    zone: str
    at: Instant
    consent: Consent
    entered_at: Instant
    dwell_ms: int
    evidence: Evidence | None
    """That of the entry; absent after a restart."""


@dataclass(frozen=True, slots=True)
class Exited:
    """The shopper left the zone; ``left_at`` is when it was last believed there, ``at`` when that became certain."""

    shopper: str
    visit: str
    zone: str
    at: Instant
    consent: Consent
    entered_at: Instant
    left_at: Instant
    reason: Literal["moved", "silence", "weak", "restart"]
    evidence: Evidence | None = None
    """That of the last belief; absent after a restart."""


@dataclass(frozen=True, slots=True)
class VisitEnded:
    """No zone for the length of the visit gap."""

    shopper: str
    visit: str
    at: Instant
    consent: Consent
    started_at: Instant
    ended_at: Instant
    zones: int


@dataclass(frozen=True, slots=True)
class NotEntered:
    """A zone was the likeliest for a while, and it came to no entry: kept for questions, never told to anybody."""

    shopper: str
    zone: str
    instead: str | None
    """The zone that the shopper went on being in."""
    since: Instant
    at: Instant
    """When another zone, or none, was likeliest again, or nothing more was heard."""
    believed_ms: int
    """For how long it was believed with the margin that an entry needs."""
    needed_ms: int
    margin: float
    """Natural logarithm of its probability over that of the zone the shopper was in, at its best; of outside without one."""
    needed_margin: float
    evidence: Evidence


PresenceEvent = VisitStarted | Entered | Dwelled | Exited | VisitEnded


# ---- offers -------------------------------------------------------------------------------------------------------------------

Trigger = Literal["enter", "dwell", "exit", "visit_start", "nth_visit"]
PromotionKind = Literal["offer", "info", "coupon", "pickup", "reminder", "service", "survey"]
PUSH_KINDS: frozenset[str] = frozenset({"offer", "coupon", "reminder", "survey"})
"""Kinds that spend the visit's one push; ``pickup`` and ``service`` push without it, ``info`` is silent."""


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """A part of certain weekdays in the store's time zone; ``end_minute`` ≤ ``start_minute`` runs past midnight."""

    weekdays: frozenset[int]
    """0 = Monday … 6 = Sunday: the day on which the window starts."""
    start_minute: int
    """Minutes after local midnight, 0 … 1439."""
    end_minute: int
    """Exclusive, 0 … 1440."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """The retailer's rule, compiled from the catalogue."""

    promotion_id: str
    kind: PromotionKind
    zones: frozenset[str]
    tags: frozenset[str]
    """Neither zones nor tags: any zone, for what a visit triggers."""
    trigger: Trigger = "enter"
    dwell_ms: int = 0
    visit_number: int | None = None
    """Of trigger ``nth_visit``."""
    audience: Condition | None = None
    """``None``: for everybody."""
    priority: int = 0
    """Higher wins; equal priorities are settled by ``promotion_id``."""
    effective_from_ms: int | None = None
    effective_until_ms: int | None = None
    """Exclusive; wall milliseconds."""
    windows: tuple[TimeWindow, ...] = ()
    """Empty = always."""
    visit_cap: int | None = None
    """Offers of it to one shopper during one visit."""
    daily_cap: int = 1
    """Offers of this promotion to one shopper on one day."""
    store_cap_day: int | None = None
    """Offers of it to all shoppers together on one day of the store."""
    category: str | None = None
    """What a shopper may have muted."""
    cool_down_ms: int = 0
    cool_down_group: str = ""
    """Promotions of one group share the cool-down; empty = the promotion alone."""
    deadline_ms: int = 30_000
    """An offer not granted this long after the event is late and never shown."""
    sensitive: bool = False

    @property
    def is_time_limited(self) -> bool:
        """Whether a wrong clock could put it in force at the wrong time."""
        return bool(self.windows) or self.effective_from_ms is not None or self.effective_until_ms is not None


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Minutes of the local day in which nothing is pushed; may run past midnight."""

    start_minute: int
    end_minute: int


STILL_SPENT: frozenset[str] = frozenset({"already_granted", "push_spent"})
"""Refusals that mean the shopper has had it already, so neither push nor cap is given back."""
LASTING: frozenset[str] = frozenset(
    {"holdout", "cap_week", "cap_lifetime", "cap_store", "cap_chain", "muted_category", "stopped"}
)
"""Refusals that will be the same all day: the push is given back, and the promotion is not proposed again."""


class WithheldReason(StrEnum):
    """Why a promotion of the zone was not offered: one code each."""

    OUTSIDE_WINDOW = "outside_window"
    NO_CONSENT = "no_consent"
    LISTEN_ONLY = "listen_only"
    """The gateway only measures."""
    BEACON_UNHEALTHY = "beacon_unhealthy"
    """Nobody can be heard in the zone any more: its receivers are deaf, its beacons silent."""
    CONFLICT = "conflict"
    HINT_ONLY = "hint_only"
    """A ``sensitive`` promotion, and no receiver spoke for the zone."""
    CLOCK_HOLDOVER = "clock_holdover"
    QUIET_HOURS = "quiet_hours"
    CAP_DAY = "cap_day"
    COOL_DOWN = "cool_down"
    CAP_VISIT = "cap_visit"
    LOWER_PRIORITY = "lower_priority"
    SOLD_OUT = "sold_out"
    NO_CONTEXT = "no_context"
    """What central knows of the shopper was needed, and did not come in time."""
    STOPPED = "stopped"
    """The shopper has complained."""
    MUTED_CATEGORY = "muted_category"
    NOT_NTH_VISIT = "not_nth_visit"
    AUDIENCE = "audience"
    CAP_STORE = "cap_store"
    LATE = "late"
    HOLDOUT = "holdout"
    """Central's: the shopper belongs to those who do not get it, so that its effect can be measured."""
    REFUSED_BY_CENTRAL = "refused_by_central"
    """For good, today; a refusal that may be another one next time is an offer's end and no reason to withhold."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What else than the catalogue decided about an event: together with it everything that is needed to decide again."""

    quality: ClockQuality
    conflict: bool = False
    """The same token was loud in two zones that are far apart."""
    by_receiver: bool = True
    """A receiver in the zone heard the shopper, not only a hint told of it."""
    listen_only: bool = False
    is_test: bool = False
    """A technician's test shopper, for whom neither caps nor cool-downs exist."""
    zone_is_blind: bool = False
    """None of the zone's receivers hears, and none of its beacons is heard."""


@dataclass(slots=True, init=False)
class OfferMatched:
    """The gateway's proposal; central grants or refuses it."""

    offer: str
    shopper: str
    visit: str
    zone: str
    promotion_id: str
    kind: PromotionKind
    at: Instant
    deadline: Instant
    push: bool
    """False: a card, or for the silent shelf, because the push was withheld."""
    cool_down_group: str
    cool_down_ms: int
    catalogue_version: int

    def __init__(  # noqa: PLR0913, PLR0917 -- as a generated one
        self,
        offer: str,
        shopper: str,
        visit: str,
        zone: str,
        promotion_id: str,
        kind: PromotionKind,
        at: Instant,
        deadline: Instant,
        push: bool,
        cool_down_group: str,
        cool_down_ms: int,
        catalogue_version: int,
    ) -> None:
        self.offer = offer
        self.shopper = shopper
        self.visit = visit
        self.zone = zone
        self.promotion_id = promotion_id
        self.kind = kind
        self.at = at
        self.deadline = deadline
        self.push = push
        self.cool_down_group = cool_down_group
        self.cool_down_ms = cool_down_ms
        self.catalogue_version = catalogue_version


@dataclass(slots=True)
class Withheld:
    """A promotion in the zone that was not offered, and why."""

    promotion_id: str
    reason: WithheldReason


class WithheldRules(Protocol):
    """Rules of a zone that did not apply, by priority.

    No ``Sequence``: what inherits from one is not compiled.
    """

    def __getitem__(self, index: int, /) -> Withheld: ...
    def __iter__(self) -> Iterator[Withheld]: ...
    def __len__(self) -> int: ...


@dataclass(slots=True, init=False)
class Outcome:
    """One presence event and what the offers made of it: one ledger row."""

    event: PresenceEvent
    offers: tuple[OfferMatched, ...]
    withheld: WithheldRules
    catalogue_version: int | None
    circumstances: Circumstances | None
    """Of events that could have matched."""
    context_version: int | None
    """Of what central knew of the shopper, where there was something."""
    is_rest: bool
    """The context of an earlier outcome's event has come: ``withheld`` takes the place of that one's, ``offers`` are more."""

    def __init__(  # noqa: PLR0917 -- as a generated one
        self,
        event: PresenceEvent,
        offers: tuple[OfferMatched, ...] = (),
        withheld: WithheldRules = (),
        catalogue_version: int | None = None,
        circumstances: Circumstances | None = None,
        context_version: int | None = None,
        is_rest: bool = False,
    ) -> None:
        self.event = event
        self.offers = offers
        self.withheld = withheld
        self.catalogue_version = catalogue_version
        self.circumstances = circumstances
        self.context_version = context_version
        self.is_rest = is_rest


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of one proposal: central's answer, or ``late`` when none came in time."""

    offer: str
    state: Literal["granted", "refused", "late"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """What one tick decided; belongs into the database before anything of it is sent."""

    outcomes: tuple[Outcome, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    forgotten: tuple[str, ...] = ()
    """Shoppers whose consent is gone: their rows are erased and what waits for them becomes tombstones."""
    beacons: "tuple[BeaconChange, ...]" = ()
    receivers: "tuple[ReceiverChange, ...]" = ()
    rests: tuple[Outcome, ...] = ()
    """Of earlier steps' events, decided now that the shopper's context has come: before ``outcomes``."""


# ---- what survives a restart --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenVisit:
    """A visit as the ledger last saw it."""

    shopper: str
    visit: str
    consent: Consent
    started_wall_ms: int
    zones: int
    zone: str | None
    """The zone the shopper was in, or ``None`` between zones."""
    entered_wall_ms: int | None
    dwelled_ms: int
    """The largest dwell threshold already announced."""
    last_event_wall_ms: int


@dataclass(frozen=True, slots=True)
class PastOffer:
    """An offer of today as the ledger knows it: what caps and cool-downs must remember."""

    offer: str
    shopper: str
    visit: str
    promotion_id: str
    kind: PromotionKind
    cool_down_group: str
    cool_down_ms: int
    wall_ms: int
    deadline_wall_ms: int
    state: Literal["proposed", "granted", "refused", "late"]
    push: bool = True
    """Whether it was one, if its kind can be."""
    reason: str = ""
    """Of a refusal."""


@dataclass(frozen=True, slots=True)
class StoreCount:
    """Offers of one promotion to all shoppers on one day of the store."""

    promotion_id: str
    day: int
    """Counted as rosters count it."""
    offers: int


@dataclass(frozen=True, slots=True)
class Memory:
    """Everything the pipeline takes back after a restart."""

    alive_wall_ms: int | None
    """When the last process was last known to run."""
    visits: tuple[OpenVisit, ...] = ()
    offers: tuple[PastOffer, ...] = ()
    named: tuple[tuple[str, int], ...] = ()
    """Every shopper whom today's rows name, and the wall milliseconds of the first."""
    in_store: tuple[StoreCount, ...] = ()


@dataclass(slots=True)
class Counters:
    """What the pipeline has counted since it began; nothing here names a device."""

    advertisements: int = 0
    strangers: int = 0
    """Dropped at the byte filter, or tokens that are in no roster."""
    rejects: dict[str, int] = field(default_factory=dict)
    """By "format.kind"."""
    beacons: int = 0
    sightings: int = 0
    no_consent: int = 0
    bad_tags: int = 0
    stale_tokens: int = 0
    conflicts: int = 0
    not_resolved: int = 0
    """Shopper tokens dropped unread, because the clock is not synchronised or the privacy settings are incomplete."""
    offers: dict[str, int] = field(default_factory=dict)
    """By "matched", "granted", "refused", "late"."""


# ---- canaries: how the fixed beacons and the receivers fare -------------------------------------------------------------------

BeaconState = Literal["learning", "ok", "weak", "covered", "moved", "silent", "cloned"]
"""learning: not heard for long enough to judge; weak: sank slowly, or is hardly heard any more; covered: fell at every receiver;
moved: the pattern over the receivers changed; silent: no longer sends; cloned: two transmitters use the key."""

Hearing = Literal["unknown", "hearing", "impaired", "deaf"]
"""unknown: no canary to tell by; impaired: hears others but its canaries no more, or everything fainter; deaf: hears nothing."""

BatteryState = Literal["unknown", "ok", "low"]


@dataclass(frozen=True, slots=True)
class LinkHealth:
    """What one receiver hears of one fixed beacon."""

    receiver: str
    heard_ms: int | None
    """Monotonic; absent where the link is only remembered."""
    level_dbm: float | None
    """Of the last minute that was long enough."""
    baseline_dbm: float | None
    """The usual level; absent while it is learnt."""
    rate_hz: float | None
    usual_rate_hz: float | None
    loss: float | None
    """Share of what was sent that this receiver missed, by the beacon's own counter (0 … 1)."""


@dataclass(frozen=True, slots=True)
class BatteryHealth:
    """What a beacon says of its battery."""

    state: BatteryState
    millivolts: int | None
    percent: int | None
    temperature_c: float | None
    days_left: tuple[int, int] | None
    """Earliest and latest; absent unless the decline is plain."""


@dataclass(frozen=True, slots=True)
class BeaconHealth:
    """One registered fixed beacon as the canaries see it."""

    name: str
    zone: str | None
    state: BeaconState
    since_ms: int
    """Monotonic: the first sign of the state."""
    heard_ms: int | None
    """Monotonic; absent when never heard."""
    links: tuple[LinkHealth, ...]
    battery: BatteryHealth
    reboots: int
    uptime_ms: int | None
    """As the beacon last said."""


@dataclass(frozen=True, slots=True)
class ReceiverHealth:
    """How well one receiver hears, told by the fixed beacons around it."""

    name: str
    hearing: Hearing
    since_ms: int
    canaries: int
    """Beacons that it usually hears often enough to tell by."""
    silent: int
    """Canaries that it has not heard lately."""
    shift_db: float
    """By how much all its beacons are louder or fainter than usual."""


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """Everything the canaries know at one moment; names in order."""

    beacons: tuple[BeaconHealth, ...]
    receivers: tuple[ReceiverHealth, ...]
    blind_zones: frozenset[str]


@dataclass(frozen=True, slots=True)
class HealthChange:
    """A fixed beacon, its battery or a receiver's hearing is judged differently than before."""

    subject: Literal["beacon", "battery", "receiver"]
    name: str
    state: BeaconState | BatteryState | Hearing
    before: BeaconState | BatteryState | Hearing
    at: Instant
    first_sign_ms: int
    """Monotonic."""


@dataclass(frozen=True, slots=True)
class BeaconChange:
    """A change of a fixed beacon or its battery that is told, and how the beacon fares now."""

    change: HealthChange
    health: BeaconHealth


HealthState = BeaconState | BatteryState | Hearing
HearingTold = Literal["hearing", "impaired", "deaf"]
"""What is told of a receiver: without any sign that it does not hear, it hears."""


@dataclass(frozen=True, slots=True)
class HealthTold:
    """What was told last of one beacon, battery or receiver, as it survives a restart."""

    subject: Literal["beacon", "battery", "receiver"]
    name: str
    state: HealthState


@dataclass(frozen=True, slots=True)
class ReceiverSigns:
    """What is known of receivers beside the advertisements of beacons."""

    anything_ms: Mapping[str, int] = field(default_factory=dict)
    """When each heard anything at all (monotonic, to the second)."""
    down: Mapping[str, str] = field(default_factory=dict)
    """Those that are out of order, and why."""


RecoveryStep = Literal["restart-scan", "new-scanner", "power-cycle", "reset-controller", "restart-process", "reboot"]
"""What may make a receiver hear again, in the order of the ladder."""


@dataclass(frozen=True, slots=True)
class ReceiverChange:
    """A receiver ceased to hear, hears again, or something was tried to make it: told by its supervision or by the canaries."""

    receiver: str
    state: HearingTold
    """How it hears now."""
    cause: str
    """One sentence in English, for people: why it does not hear, or what made it hear again; without addresses of others."""
    at: Instant
    step: RecoveryStep | None = None
    """What was tried; ``None`` when only the state changed."""
    helped: bool | None = None
    """Whether the step made it hear again; ``None`` without one, and while that is open."""
    told_by: Literal["supervision", "canaries"] = "supervision"
    before: HearingTold = "hearing"
    """Filled in where the changes of both come together: the last state that was told of this receiver."""


@dataclass(frozen=True, slots=True)
class LinkBaseline:
    """What one receiver usually hears of one beacon, as it survives a restart."""

    beacon: str
    receiver: str
    baseline_dbm: float
    reference_dbm: float
    """The level when the beacon was installed, or the best since."""
    spread_db: float
    rate_hz: float
    jumps: float


@dataclass(frozen=True, slots=True)
class BatteryPoint:
    """One day of a beacon's battery."""

    beacon: str
    wall_ms: int
    millivolts: float


@dataclass(frozen=True, slots=True)
class CanaryMemory:
    """What the canaries take back after a restart: without it a beacon that moved meanwhile would be learnt where it is now."""

    baselines: tuple[LinkBaseline, ...] = ()
    batteries: tuple[BatteryPoint, ...] = ()
