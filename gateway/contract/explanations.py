"""What `gateway why --json` prints: decisions explained from the sighting to the inbox, each under one id.

No pseudonym is in it: a shopper is known by the visit. Levels stay on the gateway's host; this is read there.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from gateway.contract.fields import Epoch, Name, OpaqueId, PromotionId, Strict, WallTime
from gateway.core.model import PromotionKind, WithheldReason

MAX_DECISIONS = 100
MAX_WITHHELD = 200
MAX_NOT_ENTERED = 100
MAX_SINCE_S = 366 * 86_400
"""Longer than rows are kept."""

DecisionId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}-d[1-9][0-9]{0,17}$")]
"""The first 8 digits of the database's epoch, and the row of its ledger."""


class Heard(Strict):
    """How strongly one anchor spoke for where the shopper was."""

    anchor: Name
    level_dbm: float
    """Averaged over the last seconds."""
    source: Literal["receiver", "hint", "report"]
    """Heard by a receiver, or a fixed beacon that the app told of: in its token, or over the Internet."""


class Belief(Strict):
    """How sure the gateway was of the zone."""

    probability: float
    runner_up: Name | None = None
    """The next likely zone; absent where no other was in question."""
    times_likelier: float
    """Than the runner-up, or than being outside where that was likelier still."""
    near_border: bool = False
    """The runner-up is hardly less likely, and may lie next to it."""


class Stay(Strict):
    """How long the shopper was in the zone."""

    entered_time: WallTime | None = None
    """Absent when the entry is known no more."""
    stayed_s: float | None = None
    """Until last believed there, or for a dwell the threshold that was reached."""
    exit_reason: Literal["moved", "silence", "weak", "restart"] | None = None
    """Absent while the stay lasts."""
    detail: str
    """The same in plain words."""


class LeafExplained(Strict):
    """One condition of an audience, with what it found. A shopper's values are in the daemon's memory and in this answer only."""

    path: str
    """In the audience, as in ``all.0.not``; empty for a condition without parts."""
    condition: str
    """Such as ``visits_30_days at_least 5``."""
    found: str | None = None
    """Absent: not known."""
    holds: bool
    detail: str
    """The same in one line."""


class WithheldPromotion(Strict):
    """A promotion of the zone that was not offered, or offered without a push."""

    promotion_id: PromotionId
    reason: WithheldReason
    detail: str
    """The reason in plain words, with the times and offers that made it true."""
    on_shelf: bool = False
    """Only the push was withheld: it went to the silent shelf, and is among the offers, too."""
    audience: tuple[LeafExplained, ...] = ()
    """Of a promotion that is not for everybody."""


class Matching(Strict):
    """What the promotions of the zone made of the event."""

    catalogue_version: int | None = None
    """In force at that moment; absent when there was none."""
    counts: dict[str, int]
    """How many were withheld for each reason, as the ledger has it."""
    recomputed: bool
    """Whether the decision could be made again: ``withheld`` is filled then."""
    withheld: Annotated[tuple[WithheldPromotion, ...], Field(max_length=MAX_WITHHELD)] = ()
    """By priority; never more than 200, the counts are complete."""
    context_not_kept: Annotated[tuple[PromotionId, ...], Field(max_length=MAX_WITHHELD)] = ()
    """Promotions of which only the counts tell why they were withheld: they asked for what central knew of the shopper then,
    which is never written down."""
    detail: str
    """In plain words what was matched, or why it cannot be said for each promotion."""
    disagreement: str | None = None
    """Present when the decision made again is another one than the ledger's."""


class Delivery(Strict):
    """Whether central has been told."""

    state: Literal["waiting", "acknowledged", "not_told", "erased"]
    """``not_told``: the shopper's consent does not cover it. ``erased``: with the shopper, so nobody can say."""
    event: str | None = None
    """The waiting message, "<epoch>-<number>"."""
    detail: str
    """The same in plain words."""


class AppReceipt(Strict):
    """What the app has told central."""

    state: Literal["shown", "opened", "saved", "dismissed", "redeemed"]
    time: WallTime


class Inbox(Strict):
    """What became of a granted offer at central and in the app, as central's own database has it."""

    state: Literal["unknown", "refused", "sent", "confirmed", "unconfirmed"]
    """``unknown``: central has never seen the offer. ``sent``: central waits for the app's receipt. ``unconfirmed``: no receipt
    came before the deadline."""
    receipts: tuple[AppReceipt, ...] = ()
    detail: str
    """The same in plain words."""


class OfferExplained(Strict):
    """A promotion that was offered, and what became of it."""

    offer: OpaqueId
    promotion_id: PromotionId
    kind: PromotionKind
    push: bool
    """Whether the phone may ring."""
    audience: tuple[LeafExplained, ...] = ()
    """Of a promotion that is not for everybody, where the shopper's context is still what it was."""
    deadline: WallTime
    state: Literal["proposed", "granted", "refused", "late"]
    reason: str = ""
    """Central's, for a refusal."""
    answered_ms: int | None = None
    """From the event to central's answer."""
    detail: str
    """Central's answer in plain words."""
    delivery: Delivery
    inbox: Inbox | None = None
    """Absent where central's database cannot be read."""


class Explanation(Strict):
    """One decision."""

    decision: DecisionId
    time: WallTime
    event: Literal["visit.started", "zone.entered", "zone.dwelled", "zone.exited", "visit.ended"]
    zone: Name | None = None
    visit: OpaqueId
    """Names the shopper for the length of the visit."""
    test_shopper: bool = False
    """A technician's own: no cap and no cool-down applies."""
    heard: tuple[Heard, ...] = ()
    """The strongest anchors, at most four; of a dwell those of its entry."""
    belief: Belief | None = None
    stay: Stay | None = None
    delivery: Delivery
    """Of the event itself."""
    matching: Matching | None = None
    """Absent for events that offer nothing."""
    offers: tuple[OfferExplained, ...] = ()


class NotEntered(Strict):
    """A zone in which a shopper nearly was; known for a quarter of an hour, while the gateway runs."""

    time: WallTime
    """When it was over."""
    zone: Name
    instead: Name | None = None
    """The zone that the shopper went on being in."""
    heard: tuple[Heard, ...] = ()
    belief: Belief
    """When it was likeliest."""
    believed_s: float
    """For how long it was likely enough for an entry."""
    needed_s: float
    """For how long that had to be so."""
    detail: str
    """In plain words what was missing."""


class Explanations(Strict):
    """The answer to one question."""

    epoch: Epoch
    """Names the database."""
    time_zone: str
    """The store's, in which the plain words tell the time."""
    decisions: Annotated[tuple[Explanation, ...], Field(max_length=MAX_DECISIONS)] = ()
    """Oldest first."""
    not_entered: Annotated[tuple[NotEntered, ...], Field(max_length=MAX_NOT_ENTERED)] = ()
    """What belongs to the question and did not happen, oldest first."""
    left_out: bool = False
    """Whether there are older ones that match."""
