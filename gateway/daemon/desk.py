"""What a technician asks of a running daemon: made, and loaded, with the first request.

Most gateways are asked nothing for weeks, and all that answering needs takes 3 MB.
"""

from collections.abc import Awaitable, Callable, Mapping

from gateway.contract.control import Decides, Status
from gateway.contract.settings import Settings
from gateway.core.model import Instant
from gateway.core.pipeline import Pipeline
from gateway.daemon.control import Control
from gateway.daemon.downlink import Downlinks
from gateway.daemon.receiver_trial import Trials
from gateway.daemon.technicians import TestShoppers
from gateway.daemon.walks import Walks
from gateway.daemon.zone_models import LiveModel
from gateway.io.clock import Clock


class Desk:
    """Answers requests, and hears along for those that ask for what is heard."""

    def __init__(  # noqa: PLR0913 -- what there is to be asked about
        self,
        settings: Settings,
        pipeline: Pipeline,
        clock: Clock,
        *,
        counts: Mapping[str, int],
        downlinks: Downlinks,
        test_shoppers: TestShoppers,
        live_model: LiveModel,
        status: Callable[[], Awaitable[Status]],
        take_over: Callable[[], Awaitable[Decides]],
        decides: Callable[[], bool],
    ) -> None:
        """``counts``: advertisements by receiver since the start; ``decides``: whether this gateway does."""
        self._trials = Trials(pipeline, counts, clock)
        self._walks = Walks(settings, pipeline, test_shoppers, clock, counts, live_model, decides)
        control = Control(settings, pipeline, downlinks, test_shoppers, clock, status, self._trials, take_over, self._walks)
        self.answer = control.answer

    def heard(self, receiver: str, rssi_dbm: int, data: bytes, now: Instant) -> None:
        """An advertisement."""
        if receiver in self._trials.levels:
            self._trials.heard(receiver, rssi_dbm, data)
        if self._walks.beacon is not None:
            self._walks.heard(receiver, rssi_dbm, data, now)

    def beacon_heard(self, beacon: str, receiver: str, rssi_dbm: int, count: int) -> None:
        """A registered beacon, heard by another gateway's receiver."""
        self._trials.beacon(beacon, receiver, rssi_dbm, count)
        self._walks.beacon_heard(beacon, receiver, rssi_dbm, count)
