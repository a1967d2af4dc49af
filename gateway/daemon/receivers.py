"""Receivers of another system as ears of ours: their reports come over a broker session of their own.

::

    starting ── report ──▶ hearing ── silence, will, or broker lost ──▶ deaf ── report ──▶ hearing

A report counts as heard when it comes: other people's clocks are not trusted. Nothing waits for us at the broker while we are
away, because every connection is a new session. What was retained, what is late and what comes twice is dropped and counted; so
is what an unknown receiver says. The counts stand among the rejects, as ``kind.reason``, and name nobody.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from functools import partial

from gateway.contract import strict_json
from gateway.contract.settings import ForeignReceivers, Settings
from gateway.core.model import Reject
from gateway.core.pipeline import Pipeline
from gateway.core.receivers import FORMATS, MAX_PAYLOAD, levels_below
from gateway.core.receivers.freshness import Freshness
from gateway.core.receivers.reports import Life, Report
from gateway.daemon.ears import EarCondition, Heard
from gateway.errors import Untrusted
from gateway.io.broker import Publication, Session
from gateway.io.clock import Clock

log = logging.getLogger(__name__)

_START_MS = 10_000
"""For so long a broker that is not reached yet is no trouble."""
_LOOK_MS = 1_000


@dataclass(slots=True)
class _Ear:
    """One receiver: monotonic milliseconds, and its will."""

    heard_ms: int | None = None
    is_offline: bool = False
    was_deaf: bool = False


class ForeignEar:
    """All receivers of one system.

    Which they are: those that ``source`` names, or else every receiver of the shop in force that nobody else claims. ``heard`` is
    called once per report; ``pipeline`` knows the shop and counts what is dropped.
    """

    def __init__(
        self,
        source: ForeignReceivers,
        settings: Settings,
        heard: Heard,
        pipeline: Pipeline,
        clock: Clock,
        elsewhere: Callable[[], Container[str]] = frozenset,
    ) -> None:
        """``elsewhere()``: receivers of other gateways."""
        self._source = source
        self._elsewhere = elsewhere
        self._format = FORMATS[source.kind]
        self._prefix = source.prefix or self._format.prefix
        self._broker = source.broker or settings.broker
        self._heard = heard
        self._pipeline = pipeline
        self._clock = clock
        self._claimed = {receiver.name for receiver in settings.receivers}.union(
            *(other.receivers.values() for other in settings.foreign_receivers)
        )
        self._ears: dict[str, _Ear] = {}
        self._freshness = Freshness()
        self._started_ms = self._connected_ms = clock.now().mono_ms
        self._session = Session(
            self._broker,
            f"gw-{settings.store}-{settings.gateway}-{source.name}",
            will=None,
            birth=self._connected,
            subscriptions=self._format.subscriptions(self._prefix),
            handle=self._take,
            clock=clock,
            jitter=random.random,
            # What waited at the broker for as long as the link was broken would be too old.
            lasting=False,
        )

    async def run(self) -> None:
        """Listen for ever."""
        self._started_ms = self._clock.now().mono_ms
        nowhere = [name for name in self._anchors() if name not in self._pipeline.shop.anchors]
        if nowhere:
            log.warning(
                "these receivers of %s stand nowhere in the shop, so what they hear of shoppers is dropped: %s",
                self._source.name,
                ", ".join(nowhere),
            )
        if not self._anchors():
            log.warning("no receiver of the shop is left for %s: gateway receiver add NAME --zone ZONE", self._source.name)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._session.run(), name="foreign broker")
            group.create_task(self._watch(), name="foreign watch")

    def conditions(self) -> list[EarCondition]:
        """How its receivers are doing."""
        now_ms = self._clock.now().mono_ms
        return [self._condition(name, now_ms) for name in self._anchors()]

    # ---- what comes in --------------------------------------------------------------------------------------------------------

    async def _connected(self) -> Sequence[Publication]:
        self._connected_ms = self._clock.now().mono_ms
        return ()

    async def _take(self, topic: str, payload: bytes, retained: bool) -> None:
        now_ms = self._clock.now().mono_ms
        levels = levels_below(self._prefix, topic)
        life = self._format.read_life(levels, payload)
        if life is not None:
            self._live(life)
        elif retained:
            self._count("retained")
        elif len(payload) > MAX_PAYLOAD:
            self._count("length")
        else:
            try:
                found = self._format.read(levels, strict_json.parse(payload, "a report"))
            except Untrusted:
                self._count("integrity")
                return
            if isinstance(found, Reject):
                self._count(found.kind)
            for report in found if isinstance(found, list) else ():
                self._report(report, now_ms)

    def _live(self, life: Life) -> None:
        anchor = self._anchor_of(life.receiver)
        if anchor is not None:
            self._ear(anchor).is_offline = not life.is_online

    def _report(self, report: Report, now_ms: int) -> None:
        anchor = self._anchor_of(report.receiver)
        if anchor is None:
            self._count("unknown-receiver")
            return
        verdict = self._freshness.judge(report, now_ms)
        if verdict is not None:
            self._count(verdict)
            return
        ear = self._ear(anchor)
        ear.heard_ms = now_ms
        # Whoever reports is there, also when the broker gave up too early.
        ear.is_offline = False
        self._heard(anchor, report.address or "", report.rssi_dbm, report.data)

    def _count(self, reason: str) -> None:
        rejects, name = self._pipeline.counters.rejects, f"{self._source.kind}.{reason}"
        rejects[name] = rejects.get(name, 0) + 1

    # ---- who they are and how they do -----------------------------------------------------------------------------------------

    def _anchors(self) -> list[str]:
        if self._source.receivers:
            return list(self._source.receivers.values())
        return [name for name in self._pipeline.shop.anchors if self._is_free(name)]

    def _anchor_of(self, receiver: str) -> str | None:
        """Our name of a receiver of theirs; ``None`` for one that is not ours."""
        if self._source.receivers:
            return self._source.receivers.get(receiver)
        return receiver if self._is_free(receiver) else None

    def _is_free(self, name: str) -> bool:
        anchor = self._pipeline.shop.anchors.get(name)
        is_receiver = anchor is not None and anchor.kind == "receiver"
        return is_receiver and name not in self._claimed and name not in self._elsewhere()

    def _ear(self, anchor: str) -> _Ear:
        ear = self._ears.get(anchor)
        if ear is None:
            ear = self._ears[anchor] = _Ear()
        return ear

    def _condition(self, name: str, now_ms: int) -> EarCondition:
        ear = self._ear(name)
        deaf = partial(EarCondition, name, None, "deaf", None)
        if not self._session.online.is_set():
            if not self._session.connections and now_ms - self._started_ms < _START_MS:
                return EarCondition(name, None, "starting")
            return deaf(f"the broker {self._broker.host}:{self._broker.port} of {self._source.name} is not reached.")
        if ear.is_offline:
            return deaf(f"its broker says that it is offline ({self._source.name}): check its power and its network.")
        # While the link was lost nobody could be heard.
        silent_ms = now_ms - max(self._started_ms, self._connected_ms, ear.heard_ms or 0)
        if silent_ms >= self._source.silence_s * 1000:
            return deaf(
                f"no report for {silent_ms // 1000} s ({self._source.name}): check its power, its network and its name, "
                "and whether it publishes what it hears."
            )
        return EarCondition(name, None, "starting" if ear.heard_ms is None else "hearing")

    async def _watch(self) -> None:
        """Say in the log who falls silent and who is back; nobody may be looking at the status."""
        while True:
            await self._clock.sleep_ms(_LOOK_MS)
            known = self._anchors()
            self._ears = {name: ear for name, ear in self._ears.items() if name in known}
            # A lost broker is the session's to tell, once for all.
            if not self._session.online.is_set():
                continue
            for condition in self.conditions():
                ear = self._ear(condition.receiver)
                if condition.state == "deaf" and not ear.was_deaf:
                    log.warning("receiver %s is deaf: %s", condition.receiver, condition.trouble)
                elif condition.state == "hearing" and ear.was_deaf:
                    log.info("receiver %s hears again", condition.receiver)
                if condition.state in {"deaf", "hearing"}:
                    ear.was_deaf = condition.state == "deaf"
