"""What central signs and sends down: catalogue, roster, and the context of a shopper.

The envelope carries the document's bytes as ``data_base64``, with ``keyid`` and ``signature``: Ed25519 over the domain tag and
those bytes. The bytes themselves hold type, store, version and ``not_after``, and are verified before they are parsed
(io/signing.py).
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from gateway.contract import strict_json
from gateway.contract.fields import (
    Gtin,
    Language,
    MoneyText,
    Name,
    PromotionId,
    Pseudonym,
    QuietHoursEntry,
    SequenceNumber,
    StoreId,
    Strict,
    WallTime,
    to_money,
)
from gateway.contract.messages import CloudEvent
from gateway.contract.promotions import Promotion, unique_promotions
from gateway.core import conditions
from gateway.core.conditions import OrderState
from gateway.core.model import Consent, RosterEntry

DOMAIN_TAG = b"beacon-gateway/1\x00"
"""Goes in front of the signed bytes, so that a signature made for another purpose never fits."""
RECORD_BYTES = 25
MAX_RECORDS_PER_CHUNK = 10_000
MAX_SHOPPERS = 50_000
_CONSENT_BITS = 0b11
_ENVELOPE_BYTES = 1024
"""More than the attributes of a signed message ever take."""

KeyId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
"""Names the public key: the first 8 bytes of the SHA-256 of its 32 bytes, in hexadecimal."""
Sha256Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Base64Text = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]*={0,2}$")]
"""Base64 with the standard alphabet and padding, without line breaks (RFC 4648, section 4)."""
StoreDay = Annotated[int, Field(ge=0)]
"""The store's day: floor((t − day_start) / 86400), t in seconds since 1970; day_start as both sides are told."""


class SignedMessage(CloudEvent):
    """The envelope of every signed downlink; ``type`` repeats the document's."""

    type: Literal["catalogue.v1", "roster.manifest.v1", "roster.chunk.v1", "roster.delta.v1", "shopper.context.v1"]
    data_base64: Base64Text
    """The document: UTF-8 JSON, any spacing and order of keys."""
    keyid: KeyId
    signature: Base64Text
    """64 bytes: Ed25519 over the domain tag and the bytes that ``data_base64`` decodes to."""


class SignedDocument(Strict):
    """What every signed document holds inside the signed bytes."""

    store: StoreId
    """The only store whose gateways take it."""
    version: SequenceNumber
    """Rises with every change and never falls; a lower one than what is in force is refused as a rollback.

    Catalogues of one store share one numbering, manifests, chunks and deltas of one day another, contexts of one shopper another.
    """
    not_after: WallTime
    """Refused afterwards; a catalogue in force goes out of force then, too."""

    def to_bytes(self) -> bytes:
        """The bytes that are signed."""
        return strict_json.canonical(self.model_dump(mode="json", exclude_defaults=False, exclude_none=True))


class Catalogue(SignedDocument):
    """The promotions in force in one store, whole."""

    type: Literal["catalogue.v1"] = "catalogue.v1"
    promotions: tuple[Promotion, ...]
    """All of them; no two with one ``promotion_id``."""
    quiet_hours: QuietHoursEntry | None = None
    sold_out: tuple[PromotionId, ...] = ()
    """Of which none is left, in this store or at all: not offered, until a piece comes back and a newer catalogue names it no
    more."""

    @field_validator("promotions")
    @classmethod
    def _unique(cls, value: tuple[Promotion, ...]) -> tuple[Promotion, ...]:
        return unique_promotions(value)


class RosterManifest(SignedDocument):
    """The shoppers of one store and day: how many, and the SHA-256 of each chunk's records; in force when all chunks match."""

    type: Literal["roster.manifest.v1"] = "roster.manifest.v1"
    day: StoreDay
    count: Annotated[int, Field(ge=0, le=MAX_SHOPPERS)]
    """Shoppers in all chunks together."""
    chunks: tuple[Sha256Hex, ...]
    """By index, the SHA-256 of the chunk's decoded ``records``, in hexadecimal; none when there is no shopper."""


class RosterChunk(SignedDocument):
    """Up to 10,000 records of 25 bytes: rid 8 | DK 16 | consent 1."""

    type: Literal["roster.chunk.v1"] = "roster.chunk.v1"
    day: StoreDay
    index: Annotated[int, Field(ge=0)]
    """From 0: its place in the manifest's ``chunks`` and the last level of its topic."""
    records: Base64Text
    """Concatenated records, in base64. Consent: bit 0 offers, bit 1 analytics, the others are ignored."""


class RosterDelta(SignedDocument):
    """Check-ins and opt-outs between two manifests: leads from version ``previous`` to ``version`` of the day's roster."""

    type: Literal["roster.delta.v1"] = "roster.delta.v1"
    day: StoreDay
    previous: SequenceNumber
    """Takes effect when this version is in force; one that comes too early waits for it."""
    upserts: Base64Text = ""
    """Who has come or changed: records as in a chunk."""
    removals: tuple[Pseudonym, ...] = ()
    """Who has left; everything the gateway holds about them is erased."""


class ShopperContext(SignedDocument):
    """What central knows of one shopper and the gateway may use today; replaces whatever an older version said.

    Sent when a visit begins, or at the app's check-in, and whenever something changes afterwards; not retained. It may come late,
    twice or out of order: the highest ``version`` counts, per shopper.
    """

    type: Literal["shopper.context.v1"] = "shopper.context.v1"
    shopper: Pseudonym
    segments: Annotated[tuple[Name, ...], Field(max_length=200)] = ()
    """The retailer's segments the shopper is in."""
    visits_30_days: Annotated[int, Field(ge=0)] = 0
    """Visits to the chain's stores in the last 30 days, without the present one."""
    days_since_last_visit: Annotated[int, Field(ge=0)] | None = None
    """Absent: was never here."""
    basket_today: MoneyText | None = None
    """Sum of today's receipts."""
    watch_list: Annotated[tuple[Gtin, ...], Field(max_length=500)] = ()
    """Products the shopper has saved."""
    order_state: OrderState | None = None
    """``ready`` when any order for this store is; else that of the order that changed last."""
    language: Language | None = None
    """Of the app."""
    muted_categories: Annotated[tuple[Name, ...], Field(max_length=200)] = ()
    """Nothing of these for now: two offers of each were dismissed within 30 days."""
    stopped: bool = False
    """A complaint: nothing at all any more."""
    saved_offers: Annotated[tuple[PromotionId, ...], Field(max_length=500)] = ()
    """Saved before this visit began, still valid, neither redeemed nor bought nor reminded of since."""
    offers_elsewhere: Annotated[dict[PromotionId, Annotated[int, Field(ge=1)]], Field(max_length=500)] = {}
    """How often each promotion was granted in other stores today; left out where it was not.

    ``daily_cap`` is each store's own, and caps over several stores are central's to decide: a gateway may spare itself a proposal
    that this already forbids, and need not look at it. This gateway does not, so that nobody decides about such a cap twice.
    """

    def compiled(self) -> conditions.ShopperContext:
        """As audiences ask for it."""
        return conditions.ShopperContext(
            segments=frozenset(self.segments),
            visits_30_days=self.visits_30_days,
            days_since_last_visit=self.days_since_last_visit,
            basket_today=None if self.basket_today is None else to_money(self.basket_today),
            watch_list=frozenset(self.watch_list),
            order_state=self.order_state,
            language=self.language,
            saved_offers=frozenset(self.saved_offers),
            muted_categories=frozenset(self.muted_categories),
            stopped=self.stopped,
        )


def fits_a_message(document: SignedDocument) -> bool:
    """Whether the signed envelope stays below what a gateway accepts; base64 makes three bytes four."""
    return len(document.to_bytes()) * 4 // 3 + _ENVELOPE_BYTES <= strict_json.MAX_BYTES


def pack_records(entries: Iterable[RosterEntry]) -> bytes:
    """25 bytes each: rid 8 | DK 16 | consent 1."""
    return b"".join(entry.rid + entry.day_key + bytes([entry.consent]) for entry in entries)


def unpack_records(raw: bytes) -> list[RosterEntry]:
    """The inverse of ``pack_records``; ``ValueError`` when the length does not fit. Unknown consent bits are ignored."""
    if len(raw) % RECORD_BYTES:
        raise ValueError(f"{len(raw)} bytes are no whole number of {RECORD_BYTES}-byte records")
    return [
        RosterEntry(raw[i : i + 8], raw[i + 8 : i + 24], Consent(raw[i + 24] & _CONSENT_BITS))
        for i in range(0, len(raw), RECORD_BYTES)
    ]


def records_from_base64(text: str) -> bytes:
    """The bytes; ``ValueError`` for anything that is no base64."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error


def to_base64(raw: bytes) -> str:
    """Standard base64 as text."""
    return base64.b64encode(raw).decode()


def split_roster(
    entries: list[RosterEntry], *, store: str, day: int, version: int, not_after: int
) -> tuple[RosterManifest, list[RosterChunk]]:
    """Manifest and chunks of one day's roster; ``ValueError`` above 50,000 shoppers."""
    if len(entries) > MAX_SHOPPERS:
        raise ValueError(f"{len(entries)} shoppers are more than the {MAX_SHOPPERS} of one store")
    pieces = [pack_records(entries[i : i + MAX_RECORDS_PER_CHUNK]) for i in range(0, len(entries), MAX_RECORDS_PER_CHUNK)]
    chunks = [
        RosterChunk(store=store, version=version, not_after=not_after, day=day, index=index, records=to_base64(raw))
        for index, raw in enumerate(pieces)
    ]
    manifest = RosterManifest(
        store=store, version=version, not_after=not_after, day=day, count=len(entries), chunks=tuple(map(sha256_hex, pieces))
    )
    return manifest, chunks


def sha256_hex(raw: bytes) -> str:
    """The digest as in a manifest."""
    return hashlib.sha256(raw).hexdigest()
