"""What a receiving gateway tells the deciding one: shoppers of the roster that it heard, levels of fixed beacons, its receivers.

Only on the store's broker, QoS 0: what is lost is heard again. Nothing in it is about a device outside of roster and register.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from gateway.contract.fields import Name, OpaqueId, Pseudonym, SequenceNumber, Strict
from gateway.contract.messages import CloudEvent

MOST_RECEIVERS = 64

RelayedRssi = Annotated[int, Field(ge=-127, le=20)]
"""dBm, as a controller may report it."""
Age = Annotated[int, Field(ge=0, le=3_600_000)]
"""Milliseconds from hearing to sending, by the receiving gateway's monotonic clock."""


class RelayedHint(Strict):
    """The fixed beacon that the app heard strongest, out of its token."""

    short_id: Annotated[int, Field(ge=0, le=0xFFFF)]
    """The beacon's minor."""
    rssi_dbm: Annotated[float, Field(ge=-127, le=20)]
    """As the app heard it."""
    minute: Annotated[int, Field(ge=0, le=2**40)]
    """When the app refreshed it: minutes since 1970."""


class RelayedSighting(Strict):
    """A shopper of the roster, heard once."""

    shopper: Pseudonym
    receiver: Name
    """The anchor that heard."""
    rssi_dbm: RelayedRssi
    age_ms: Age
    consent: Annotated[int, Field(ge=0, le=3)]
    """The token's consent that the roster allows: bit 0 offers, bit 1 analytics; 0 removes what is known of the shopper."""
    hint: RelayedHint | None = None
    """Absent when the token has none, or none that is fresh."""


class RelayedLevel(Strict):
    """A registered beacon, heard one or more times by one receiver."""

    beacon: Name
    receiver: Name
    """The anchor that heard."""
    rssi_dbm: RelayedRssi
    """The mean."""
    age_ms: Age
    """Of the newest."""
    count: Annotated[int, Field(ge=1, le=1000)]
    """How often it was heard since the last message."""


class RelayedTelemetry(Strict):
    """What a registered beacon said of itself (Eddystone-TLM)."""

    beacon: Name
    receiver: Name
    """The anchor that heard."""
    age_ms: Age
    battery_mv: Annotated[int, Field(ge=0, le=0xFFFF)] | None = None
    """Absent when the beacon does not measure it."""
    temperature_c: Annotated[float, Field(ge=-128, le=128)] | None = None
    """Absent when the beacon does not measure it."""
    advertisements: Annotated[int, Field(ge=0, le=0xFFFFFFFF)]
    """Sent since power-on."""
    uptime_ms: Annotated[int, Field(ge=0, le=100 * 0xFFFFFFFF)]
    """Since power-on."""


class RelayedReceiver(Strict):
    """How one of its receivers is doing."""

    name: Name
    """Its anchor in the shop."""
    state: Literal["starting", "hearing", "deaf"]
    """As its gateway sees it."""
    heard: Annotated[int, Field(ge=0, le=2**53 - 1)]
    """Advertisements since the gateway started, whosever they are."""
    trouble: Annotated[str, StringConstraints(max_length=300)] | None = None
    """Why it does not hear, in English, for people."""


class SightingData(Strict):
    """What was heard since the last message; once a second also when that is nothing."""

    session: OpaqueId
    """New with every start of the receiving gateway."""
    seq: SequenceNumber
    """From 1 in each session; a number that came before is a copy."""
    sent_ms: Annotated[int, Field(ge=0, le=2**53 - 1)]
    """The receiving gateway's monotonic clock, which compares with nothing but itself: so what was held up can be told."""
    receivers: Annotated[tuple[RelayedReceiver, ...], Field(max_length=MOST_RECEIVERS)] = ()
    """All that it has."""
    sightings: Annotated[tuple[RelayedSighting, ...], Field(max_length=1000)] = ()
    """In the order of hearing."""
    levels: Annotated[tuple[RelayedLevel, ...], Field(max_length=1000)] = ()
    """One for each beacon and receiver."""
    telemetry: Annotated[tuple[RelayedTelemetry, ...], Field(max_length=100)] = ()
    """In the order of hearing."""


class GatewaySighting(CloudEvent):
    """What a receiving gateway hears, for the one that decides: batched, five times a second at most; may be lost."""

    type: Literal["gateway.sighting.v1"] = "gateway.sighting.v1"
    data: SightingData
