"""Listening to one receiver for a while, for a technician who wants to know whether it hears."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median

from gateway.contract.control import BeaconHeard, ReceiverStatus, ReceiverTested, Status, TestReceiverRequest
from gateway.core.frames import Decoder
from gateway.core.model import Anchor, Shop, key_of
from gateway.core.pipeline import Pipeline
from gateway.core.spelling import no_such
from gateway.errors import ConfigurationError, WrongCommand
from gateway.io.clock import Clock


class Trials:
    """All that go on at present; nothing is done for receivers that nobody tries."""

    def __init__(self, pipeline: Pipeline, counts: Mapping[str, int], clock: Clock) -> None:
        """``counts``: advertisements by receiver since the start."""
        self._pipeline = pipeline
        self._counts = counts
        self._clock = clock
        self._decode = Decoder(None, None, knows=lambda _: False).decode
        self.levels: dict[str, dict[str, list[int]]] = {}
        """By receiver that is tried and beacon, the RSSI of each advertisement."""
        self._trying: dict[str, int] = {}

    def heard(self, receiver: str, rssi_dbm: int, data: bytes) -> None:
        """An advertisement of a receiver that is tried."""
        key = key_of(self._decode(data))
        if key is not None:
            anchors = self._pipeline.shop.anchors.values()
            beacon = next((a for a in anchors if a.kind == "beacon" and a.key == key), None)
            if beacon is not None:
                self.beacon(beacon.name, receiver, rssi_dbm, 1)

    def beacon(self, beacon: str, receiver: str, rssi_dbm: int, count: int) -> None:
        """A registered beacon, heard by any receiver."""
        levels = self.levels.get(receiver)
        if levels is not None:
            levels[beacon] += [rssi_dbm] * count

    async def run(self, request: TestReceiverRequest, status: Callable[[], Awaitable[Status]]) -> ReceiverTested:
        """Listen as long as asked.

        ``WrongCommand`` for a receiver that is not there, ``ConfigurationError`` for one that nobody listens to.
        """
        name = request.name
        _find(name, await status(), self._pipeline.shop)
        with self._listening(name) as levels:
            before, began_ms = self._counts.get(name, 0), self._clock.now().mono_ms
            await self._clock.sleep_ms(request.duration_s * 1000)
            heard, took_ms = self._counts.get(name, 0) - before, self._clock.now().mono_ms - began_ms
            found = {beacon: list(rssi) for beacon, rssi in levels.items()}
        receiver, shop = _find(name, await status(), self._pipeline.shop), self._pipeline.shop
        near = sorted(beacon.name for beacon in shop.anchors.values() if _is_near(beacon, shop.anchors.get(name)))
        said, do = _judge(receiver, heard, sorted(found), near)
        return ReceiverTested(
            receiver=receiver,
            duration_s=round(took_ms / 1000, 1),
            heard=heard,
            heard_per_s=round(heard * 1000 / max(1, took_ms), 1),
            beacons=tuple(
                BeaconHeard(beacon=beacon, count=len(rssi), median_dbm=round(median(rssi)))
                for beacon, rssi in sorted(found.items())
            ),
            beacons_near=tuple(near),
            hears=heard > 0,
            said=said,
            do=do,
        )

    @contextmanager
    def _listening(self, name: str) -> Iterator[dict[str, list[int]]]:
        levels = self.levels.setdefault(name, defaultdict(list))
        self._trying[name] = self._trying.get(name, 0) + 1
        try:
            yield levels
        finally:
            self._trying[name] -= 1
            if not self._trying[name]:
                del self._trying[name], self.levels[name]


def _find(name: str, status: Status, shop: Shop) -> ReceiverStatus:
    found = next((receiver for receiver in status.receivers if receiver.name == name), None)
    if found is not None:
        return found
    anchor = shop.anchors.get(name)
    if anchor is not None and anchor.kind == "receiver":
        raise ConfigurationError(
            f"nobody reports what {name} hears.",
            where=f"receiver {name}",
            do="Name it under [[receivers]] or [[foreign_receivers]] of the settings, or start the gateway that it hangs on.",
        )
    raise WrongCommand(no_such("receiver", name, sorted(receiver.name for receiver in status.receivers)))


def _is_near(beacon: Anchor, receiver: Anchor | None) -> bool:
    """Whether a beacon stands where the receiver is said to hear."""
    if beacon.kind != "beacon" or receiver is None:
        return False
    return beacon.zone == receiver.zone or beacon.zone in receiver.covers


def _judge(receiver: ReceiverStatus, heard: int, found: list[str], near: list[str]) -> tuple[str, str]:
    """In plain words: whether it hears, and the one thing to do; that one empty when there is nothing."""
    name = receiver.name
    if not heard:
        return f"{name} heard nothing.", _about_silence(receiver)
    if not receiver.in_shop:
        return f"{name} hears, but stands nowhere, so what it hears of shoppers is dropped.", (
            f"gateway receiver add {name} --zone ZONE"
        )
    missing = [beacon for beacon in near if beacon not in found]
    if near and len(missing) == len(near):
        return f"{name} hears others, but none of the beacons around it: {', '.join(near)}.", (
            "See whether they send (gateway beacon health), and whether the receiver stands in the open."
        )
    if missing:
        return f"{name} hears, but not {', '.join(missing)}.", "See gateway beacon health."
    return f"{name} hears.", ""


def _about_silence(receiver: ReceiverStatus) -> str:
    if receiver.trouble is not None:
        return receiver.trouble
    if receiver.gateway is not None:
        return f"See gateway doctor at gateway {receiver.gateway}."
    if receiver.adapter is None and receiver.scanning is None:
        return "See whether it has power, network and its name, and whether it publishes what it hears."
    return "Bring a phone or a beacon near it and try again; if that is not heard either, see gateway doctor."
