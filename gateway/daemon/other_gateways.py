"""The other gateways of the store, as the deciding one sees them: what they hear for it, and whether they do.

A sighting counts as heard when it comes, less its age: other clocks are not trusted. What is doubled, held up, too old, of a
receiver that is not theirs, or of nobody in the roster is dropped and counted among the rejects, as ``gateway.reason``; so is
everything about shoppers from a gateway whose calendar is off by more than a phone's may: it would recognise them wrongly.
"""

import logging
from collections.abc import Callable, Container
from dataclasses import dataclass, field

from gateway.contract.messages import GatewayStatusData
from gateway.contract.relayed import GatewaySighting, RelayedReceiver, RelayedSighting, SightingData
from gateway.contract.settings import Settings
from gateway.core.model import Consent, EddystoneTlm, Hint, Instant, Recognised
from gateway.core.pipeline import Pipeline
from gateway.core.receivers.freshness import Delays
from gateway.core.relay import MAX_AGE_MS
from gateway.core.sanitiser import printable
from gateway.daemon.ears import EarCondition
from gateway.daemon.heard_rates import HeardRates
from gateway.io.clock import Clock

log = logging.getLogger(__name__)

SILENCE_MS = 10_000
"""A gateway that receives says something every second."""
MOST_GATEWAYS = 64
_MOST_SESSIONS = 8
_REORDERED = 64
"""A number that is this far behind the newest is taken for a copy without looking."""
_LOOK_MS = 1_000


@dataclass(slots=True)
class _Session:
    """One life of a gateway's process."""

    newest: int = 0
    seen: set[int] = field(default_factory=set)

    def is_copy(self, seq: int) -> bool:
        """Whether this number came before; else it has come now."""
        if seq in self.seen or seq <= self.newest - _REORDERED:
            return True
        self.seen.add(seq)
        self.newest = max(self.newest, seq)
        self.seen = {one for one in self.seen if one > self.newest - _REORDERED}
        return False


@dataclass(slots=True)
class _Other:
    """One of them; monotonic milliseconds."""

    known_ms: int
    is_online: bool = True
    receivers: dict[str, RelayedReceiver | None] = field(default_factory=dict)
    """By anchor, what it said of it last; ``None``: it only named it."""
    told_ms: int | None = None
    """When it last told what it hears."""
    clock_off_s: int | None = None
    """How far its calendar is off, where that is too much."""
    sessions: dict[str, _Session] = field(default_factory=dict)
    heard: dict[str, int] = field(default_factory=dict)
    """Its newest session's counts of advertisements."""
    was_deaf: set[str] = field(default_factory=set)


class OtherGateways:
    """Those of one store, but for this one."""

    def __init__(
        self,
        settings: Settings,
        pipeline: Pipeline,
        rates: HeardRates,
        clock: Clock,
        beacon_heard: Callable[[str, str, int, int], None],
    ) -> None:
        """``beacon_heard(beacon, receiver, RSSI, times)`` is told of each registered beacon beside the pipeline."""
        self._beacon_heard = beacon_heard
        self._skew_ms = settings.clock.skew_s * 1000
        self._own = {receiver.name for receiver in settings.receivers}.union(
            *(source.receivers.values() for source in settings.foreign_receivers)
        )
        self._pipeline = pipeline
        self._rates = rates
        self._clock = clock
        self._others: dict[str, _Other] = {}
        self._delays = Delays()
        self._is_listening = False

    def listen(self, is_listening: bool) -> None:
        """Whether this gateway decides; one that receives looks at nobody else."""
        self._is_listening = is_listening

    def is_online(self, gateway: str) -> bool | None:
        """What the broker says of a gateway; ``None``: nothing."""
        other = self._others.get(gateway)
        return None if other is None else other.is_online

    def claims(self) -> Container[str]:
        """Anchors that are receivers of other gateways."""
        return {name for other in self._others.values() for name in other.receivers}

    # ---- what comes in --------------------------------------------------------------------------------------------------------

    def take_status(self, gateway: str, status: GatewayStatusData) -> None:
        """Birth or will of one of them."""
        other = self._other(gateway)
        if other is None:
            return
        other.is_online = status.state == "online"
        if other.is_online:
            other.known_ms = self._clock.now().mono_ms
        if status.receivers is not None:
            other.receivers = {name: other.receivers.get(name) for name in status.receivers}

    def take_sighting(self, gateway: str, message: GatewaySighting) -> None:
        """What one of them hears."""
        other = self._other(gateway) if self._is_listening else None
        if other is None:
            return
        now, data = self._clock.now(), message.data
        session = other.sessions.get(data.session)
        is_first = session is None
        if session is None:
            session = other.sessions[data.session] = _Session()
            while len(other.sessions) > _MOST_SESSIONS:
                del other.sessions[next(iter(other.sessions))]
        if session.is_copy(data.seq):
            self._count("duplicate")
            return
        if self._delays.is_late(f"{gateway}/{data.session}", data.sent_ms, now.mono_ms):
            self._count("late")
            return
        other.told_ms, other.is_online = now.mono_ms, True
        off_ms = message.time - now.wall_ms
        other.clock_off_s = round(off_ms / 1000) if abs(off_ms) > self._skew_ms else None
        self._take_receivers(other, data, is_first=is_first)
        self._take_beacons(other, data, now)
        for sighting in data.sightings:
            if other.clock_off_s is not None:
                self._count("clock")
            elif sighting.age_ms > MAX_AGE_MS:
                self._count("late")
            elif not self._is_theirs(other, sighting.receiver):
                self._count("unknown-receiver")
            elif not self._pipeline.hear_from_another(
                _recognised(sighting), sighting.receiver, sighting.rssi_dbm, now.plus(-sighting.age_ms)
            ):
                self._count("unknown-shopper")

    def _take_receivers(self, other: _Other, data: SightingData, *, is_first: bool) -> None:
        if is_first:
            other.heard = {}
        other.receivers = {receiver.name: receiver for receiver in data.receivers}
        for receiver in data.receivers:
            before = other.heard.get(receiver.name)
            if before is not None and receiver.heard > before and receiver.name not in self._own:
                self._rates.counts[receiver.name] = self._rates.counts.get(receiver.name, 0) + receiver.heard - before
            other.heard[receiver.name] = max(receiver.heard, before or 0)

    def _take_beacons(self, other: _Other, data: SightingData, now: Instant) -> None:
        for level in data.levels:
            if level.age_ms > MAX_AGE_MS:
                self._count("late")
            elif not self._is_theirs(other, level.receiver) or not self._is_beacon(level.beacon):
                self._count("unknown-receiver")
            else:
                at = now.plus(-level.age_ms)
                self._pipeline.hear_beacon_from_another(level.beacon, level.receiver, level.rssi_dbm, level.count, at)
                self._beacon_heard(level.beacon, level.receiver, level.rssi_dbm, level.count)
        for told in data.telemetry:
            if told.age_ms <= MAX_AGE_MS and self._is_theirs(other, told.receiver) and self._is_beacon(told.beacon):
                frame = EddystoneTlm(told.battery_mv, told.temperature_c, told.advertisements, told.uptime_ms)
                self._pipeline.canaries.telemetry(told.beacon, frame, told.receiver, now.mono_ms - told.age_ms)

    def _is_theirs(self, other: _Other, receiver: str) -> bool:
        anchor = self._pipeline.shop.anchors.get(receiver)
        return anchor is not None and anchor.kind == "receiver" and receiver in other.receivers and receiver not in self._own

    def _is_beacon(self, name: str) -> bool:
        anchor = self._pipeline.shop.anchors.get(name)
        return anchor is not None and anchor.kind == "beacon"

    def _other(self, gateway: str) -> _Other | None:
        other = self._others.get(gateway)
        if other is None and len(self._others) < MOST_GATEWAYS:
            other = self._others[gateway] = _Other(self._clock.now().mono_ms)
        return other

    def _count(self, reason: str) -> None:
        rejects, name = self._pipeline.counters.rejects, f"gateway.{reason}"
        rejects[name] = rejects.get(name, 0) + 1

    # ---- how they do ----------------------------------------------------------------------------------------------------------

    def conditions(self) -> list[EarCondition]:
        """How their receivers are doing; none while this gateway receives itself."""
        if not self._is_listening:
            return []
        now_ms, anchors = self._clock.now().mono_ms, self._pipeline.shop.anchors
        return [
            self._condition(gateway, other, name, now_ms)
            for gateway, other in sorted(self._others.items())
            for name in other.receivers
            # One that was taken out of the shop may be gone for good.
            if name not in self._own and (other.is_online or name in anchors)
        ]

    def _condition(self, gateway: str, other: _Other, name: str, now_ms: int) -> EarCondition:
        def deaf(trouble: str) -> EarCondition:
            return EarCondition(name, None, "deaf", None, trouble, gateway)

        if not other.is_online:
            return deaf(f"the broker says that gateway {gateway} is offline: check its power and its network.")
        silent_ms = now_ms - (other.known_ms if other.told_ms is None else max(other.told_ms, other.known_ms))
        if silent_ms >= SILENCE_MS:
            return deaf(
                f"gateway {gateway} has told nothing for {silent_ms // 1000} s: gateway status there says whether it receives."
            )
        if other.clock_off_s is not None:
            return deaf(f"the clock of gateway {gateway} is off by {other.clock_off_s} s: see timedatectl there.")
        said = other.receivers[name]
        if said is None or said.state == "starting":
            return EarCondition(name, None, "starting", gateway=gateway)
        if said.state == "deaf":
            return deaf(f"at gateway {gateway}: {printable(said.trouble or 'it hears nothing.', limit=300)}")
        return EarCondition(name, None, "hearing", gateway=gateway)

    async def run(self) -> None:
        """Say in the log who falls silent and who is back; nobody may be looking at the status."""
        while True:
            await self._clock.sleep_ms(_LOOK_MS)
            for condition in self.conditions():
                was_deaf = self._others[condition.gateway or ""].was_deaf
                if condition.state == "deaf" and condition.receiver not in was_deaf:
                    was_deaf.add(condition.receiver)
                    log.warning("receiver %s is deaf: %s", condition.receiver, condition.trouble)
                elif condition.state == "hearing" and condition.receiver in was_deaf:
                    was_deaf.discard(condition.receiver)
                    log.info("receiver %s hears again", condition.receiver)


def _recognised(sighting: RelayedSighting) -> Recognised:
    hint = sighting.hint
    return Recognised(
        sighting.shopper,
        Consent(sighting.consent),
        None if hint is None else Hint(hint.short_id, hint.rssi_dbm, hint.minute),
    )
