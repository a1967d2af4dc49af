"""A gateway in receiving mode: what it recognises goes to the deciding one, five times a second at most."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from gateway.contract.relayed import (
    MOST_RECEIVERS,
    GatewaySighting,
    RelayedHint,
    RelayedLevel,
    RelayedReceiver,
    RelayedSighting,
    RelayedTelemetry,
    SightingData,
)
from gateway.contract.topics import StoreTopics
from gateway.core.model import Instant
from gateway.core.relay import Batch, Relay, Said, Sighted
from gateway.core.sanitiser import printable
from gateway.daemon.ears import EarCondition
from gateway.io.broker import BrokerLost, Publication, Session
from gateway.io.clock import Clock

PERIOD_MS = 200
_ALIVE_MS = 1_000
"""So often it says that it is there, though nothing was heard."""
_RELAYED: dict[str, Literal["starting", "hearing", "deaf"]] = {"starting": "starting", "deaf": "deaf"}


class Relaying:
    """Sends what the relay holds, while there is a link; what could not be sent in time is dropped."""

    def __init__(
        self,
        session: Session,
        topics: StoreTopics,
        clock: Clock,
        *,
        conditions: Callable[[], Sequence[EarCondition]],
        heard: Mapping[str, int],
    ) -> None:
        """``conditions``: of this gateway's own receivers; ``heard``: their advertisements since the start."""
        self.relay = Relay()
        self._session = session
        self._topics = topics
        self._clock = clock
        self._conditions = conditions
        self._heard = heard
        self._name = secrets.token_hex(8)
        self._seq = 0
        self._sent_ms: int | None = None

    async def send(self) -> None:
        """Tell what is new, or that nothing is."""
        now = self._clock.now()
        batch = self.relay.take(now.mono_ms)
        if not self._session.online.is_set():
            self.relay.dropped += len(batch.sightings) + len(batch.levels) + len(batch.telemetry)
            return
        if not batch and self._sent_ms is not None and now.mono_ms - self._sent_ms < _ALIVE_MS:
            return
        self._sent_ms = now.mono_ms
        self._seq += 1
        try:
            await self._session.publish(
                Publication.of(self._topics.sighting, self._message(batch, now), now_ms=now.wall_ms, qos=0)
            )
        except BrokerLost:
            return

    def _message(self, batch: Batch, now: Instant) -> GatewaySighting:
        return GatewaySighting(
            id=f"{self._name}-{self._seq}",
            source=self._topics.source,
            time=now.wall_ms,
            data=SightingData(
                session=self._name,
                seq=self._seq,
                sent_ms=now.mono_ms,
                receivers=tuple(self._receiver(condition) for condition in self._conditions()[:MOST_RECEIVERS]),
                sightings=tuple(_sighting(one, now.mono_ms) for one in batch.sightings),
                levels=tuple(
                    RelayedLevel(
                        beacon=one.beacon,
                        receiver=one.receiver,
                        rssi_dbm=one.mean_dbm,
                        age_ms=now.mono_ms - one.at_ms,
                        count=one.count,
                    )
                    for one in batch.levels
                ),
                telemetry=tuple(_telemetry(one, now.mono_ms) for one in batch.telemetry),
            ),
        )

    def _receiver(self, condition: EarCondition) -> RelayedReceiver:
        return RelayedReceiver(
            name=condition.receiver,
            state=_RELAYED.get(condition.state, "hearing"),
            heard=self._heard.get(condition.receiver, 0),
            trouble=None if condition.trouble is None else printable(condition.trouble, limit=300),
        )


def _sighting(one: Sighted, now_ms: int) -> RelayedSighting:
    told, hint = one.told, one.told.hint
    return RelayedSighting(
        shopper=told.shopper,
        receiver=one.receiver,
        rssi_dbm=one.rssi_dbm,
        age_ms=now_ms - one.at_ms,
        consent=int(told.consent),
        hint=None if hint is None else RelayedHint(short_id=hint.short_id, rssi_dbm=hint.rssi_dbm, minute=hint.minute),
    )


def _telemetry(one: Said, now_ms: int) -> RelayedTelemetry:
    frame = one.frame
    return RelayedTelemetry(
        beacon=one.beacon,
        receiver=one.receiver,
        age_ms=now_ms - one.at_ms,
        battery_mv=frame.battery_mv,
        temperature_c=frame.temperature_c,
        advertisements=frame.advertisements,
        uptime_ms=frame.uptime_ms,
    )
