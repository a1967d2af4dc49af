"""Fixed beacons as canaries: what is heard of them tells how they, the receivers and the zones fare.

::

                     10 min in one pattern, 5 min in none
    learning ─▶ ok ◀──────────────────────────────────▶ covered   fell at every receiver
     30 min     ▲ ▲                                     moved     rose here and fell there, or rose where nothing can explain it
                │ └───────────────────────────────────▶ weak      sank slowly at every receiver, or is hardly heard any more
                │                                       cloned    more and jumpier than one beacon; at once when impossible:
                ▼ heard for 30 s                                  an address or a counter that comes back
              silent   nothing for 90 s, while the receivers hear others

    receiver:  unknown ─▶ hearing ◀──▶ deaf       all canaries silent for 60 s, and nothing else heard
                             ▲
                             └───────▶ impaired   all canaries silent, but others heard; or all of them fainter for 10 min

``heard`` only counts and keeps the minute's levels; ``tick`` folds a minute into one level per link (beacon × receiver): the mean
of the ranks from 60 to 90 %. People stand in the way of some packets and make them fainter, never louder, so the upper ranks
stay while up to half of the packets are shadowed; the very highest are reflections.

The **baseline** is the median of the levels of the first 30 minutes, and then follows each minute's level by a fixed small step
towards it (Robbins and Monro's stochastic median): constant memory, and no anomaly, however large, moves it by more than the
step. It stands still while its link or beacon is out of line. What sinks slower than the step is followed, and found by the
**reference**: the level at installation, which only rises. A change that is no fault (a shelf between one receiver and the
beacon, a new battery) becomes the baseline after six hours.

Covered everywhere and carried farther away from everything are one and the same to a radio; so are, for a single receiver,
nearer and uncovered (told as moved). All figures are per link and of the last minutes; nothing grows with time. Levels, counts
and silences do not depend on the order of reports within a tick; jumps and returning addresses do. Monotonic milliseconds only,
but for what survives a restart.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from gateway.core.model import (
    Anchor,
    BatteryHealth,
    BatteryPoint,
    BatteryState,
    BeaconHealth,
    BeaconState,
    CanaryMemory,
    CanaryReport,
    EddystoneTlm,
    HealthChange,
    Hearing,
    Instant,
    LinkBaseline,
    LinkHealth,
    ReceiverHealth,
    Shop,
)

# ---- time ---------------------------------------------------------------------------------------------------------------------

JUDGE_EVERY_MS = 5_000
"""Judgements have at least this much to spare below their time."""
STALL_MS = 20_000
"""No tick for this long: the process stood still, and silence meanwhile says nothing about the air."""

# ---- silence ------------------------------------------------------------------------------------------------------------------

DEAF_MS = 60_000
"""All canaries silent for this long: with ticks of 5 s the verdict comes after 65 s, and deafness must be known in < 2 min."""
FAINT_DEAF_MS = 110_000
"""The same for a receiver with fewer than `MANY` canaries, all of them faint: one person may hide those. Still < 2 min."""
CANARY_MIN_HZ = 0.05
"""Beacons heard more seldom do not tell anything within two minutes."""
EXPECTED_PACKETS = 10
"""Silence means something once so many packets were due: chance alone (Poisson) is silent in e⁻¹⁰ = 1 of 22,000 such spans."""
HEARS_OTHERS_MS = 30_000
"""A receiver that heard anything at all in this time is not deaf (habluetooth looks every 30 s as well)."""
SILENT_MS = 90_000
FAINT_SILENT_MS = 300_000
"""A beacon that all its receivers hear faintly disappears behind a person who stands there for minutes."""
FAINT_DBM = -80.0
"""A body takes up to 20 dB, and a Pi's radio ends between −95 and −100 dBm."""
MANY = 3
"""So many beacons do not fail in the same minute."""
HEARD_AGAIN_MS = 30_000
HEARD_AGAIN_PACKETS = 3
"""A dying battery sputters: fewer packets do not end the silence."""

# ---- levels -------------------------------------------------------------------------------------------------------------------

SLICE_MS = 60_000
"""Longer than somebody passes, and at 1 packet/s still known to 0.7 dB where packets scatter by 4 dB."""
SLICE_LONGEST_MS = 600_000
"""For beacons that are heard seldom: a slice waits this long for `SLICE_SAMPLES`."""
SLICE_SAMPLES = 5
LEARN_SLICES = 30
"""Half an hour: the median of 30 levels outlasts 14 bad ones, and a technician who installs beacons is done by then."""
RATE_SLICES = 3
"""A rate is good enough to miss the beacon by after so many slices."""
LEARN_MAX_SPREAD_DB = 4.0
"""Levels that scatter by more (median absolute deviation) are those of a beacon that is being carried: learning goes on."""
FOLLOW_DB = 0.01
"""Step of the baseline per slice: at most 0.6 dB/h, 14 dB a day."""
FOLLOW_RATE = 0.0001
"""Step of the usual rate per slice, as a share: at most 0.6 %/h."""
OUT_OF_LINE_DB = 5.0
"""The least change that counts: finds what takes 6 dB (goods, a metal tray), and a full shop does less to every link alike."""
OUT_OF_LINE_MAX_DB = 12.0
SPREADS = 6.0
"""A link whose minutes scatter needs this many median absolute deviations (4 standard deviations)."""
KEEP = 0.7
"""Hysteresis: what is out of line stays so down to this share of its limit."""
RISE_DB = 8.0
"""Rising alone, without falling elsewhere, must be this plain: goods that are taken away let levels rise, too."""
SANK_DB = 8.0
"""Below the reference: the beacon reaches less than half as far."""
FADED_DBM = -85.0
FADED = 0.5
"""Near the radio's end levels cannot fall: the fainter packets are lost. There half the usual rate counts as fallen."""
SHIFT_LINKS = 4
"""From so many links on the median of their changes is the receiver's, not the beacons'."""
CONFIRM_MS = 600_000
"""A pallet truck or a queue stands in the way for minutes; nobody needs to know of a moved beacon sooner."""
LAPSE_MS = 130_000
"""So long, two slices, may a pattern be hidden by chance before it has to be confirmed from the beginning."""
CLEAR_MS = 300_000
ADOPT_MS = 21_600_000
"""Six hours: longer than a shelf is refilled, shorter than a working day."""
LEAST_DBM, MOST_DBM = -128, 20
"""What the Core specification lets a controller report as RSSI."""
SLICE_ROOM = 4096
"""Octets of levels kept of one slice: 600 at 10 packets/s; more is a flood, which is counted and kept no longer."""

# ---- clones -------------------------------------------------------------------------------------------------------------------

MORE_OFTEN = 1.7
"""Times the usual rate, beside other beacons at the same receiver: two transmitters, less what collides."""
JUMPY_MORE_OFTEN = 1.25
JUMP_DB = 12
"""Two packets in a row differ by more in 3 % of the cases where packets scatter by 4 dB."""
JUMPS = 0.2
"""Share of jumps above the usual one: two transmitters 12 dB apart, heard in turn, reach 0.25."""
JUMP_LEAST_SAMPLES, JUMP_SAMPLES = 30, 128
"""Fewer packets tell nothing by their jumps, and more nothing new."""
RATE_LINKS = 3
"""From so many links on the median of their rates tells what the receiver itself did."""
RETURNS = 3
RETURNS_WITHIN_MS = 600_000
RETURN_APART_MS = 20_000
"""A radio that changes its address never returns to the old one, and a counter never goes back; late reports of a slow receiver
look like both for some seconds."""
ADDRESSES = 4
"""Addresses remembered per beacon: enough for one that changes its own every 15 min."""

# ---- telemetry ----------------------------------------------------------------------------------------------------------------

REBOOT_MS = 10_000
LATE_MS = 120_000
"""A report may be late by this much."""
_COUNTER = 2**32
_HALF = 2**31
MAX_SENT_PER_S = 100
"""The most an advertiser sends is 50/s (interval 20 ms) per set; more is no counter."""
LOSS_LEAST_SENT = 100
LOSS_FORGET_SENT = 20_000
"""Half of it is forgotten then: about half an hour at 10/s."""

# ---- batteries ----------------------------------------------------------------------------------------------------------------

DAY_MS = 86_400_000
BATTERY_POINTS = 64
LOW_MV, EMPTY_MV = 2_400, 2_200
"""Between these a lithium coin cell (CR2032, CR2477: nominal 3 V) ends, the sooner the more its radio draws at once."""
COIN_CELL_MV = range(1_800, 3_401)
"""Other batteries have other curves: no forecast."""
NEW_BATTERY_MV = 150
LOW_PERCENT = 15
LOW_DAYS, GOOD_DAYS = 30, 45
GOOD_MV, GOOD_PERCENT = 2_500, 25
FORECAST_POINTS, FORECAST_SPAN_MS = 7, 10 * DAY_MS
FORECAST_LEAST_MV = 30
"""What temperature and the converter do alone within a week."""
FORECAST_SCATTERS = 3
FORECAST_REACH = 2
"""Spans of observation that a line may be drawn beyond them."""
_SLOPE_LEAST_APART_MS = 3 * DAY_MS
_SMOOTHING = 0.1

MAX_RECEIVERS = 64

_FAULTS: frozenset[BeaconState] = frozenset({"weak", "covered", "moved", "cloned"})


class _Link:
    """What one receiver hears of one beacon."""

    __slots__ = (
        "address",
        "baseline",
        "beacon",
        "closed_ms",
        "former",
        "frames",
        "got",
        "heard_ms",
        "hz",
        "jumps",
        "learned",
        "level",
        "out_since_ms",
        "recent",
        "reference",
        "sent",
        "slice_frames",
        "slice_ms",
        "spread",
        "told",
        "usual_hz",
        "usual_jumps",
    )

    def __init__(self, beacon: str, at_ms: int) -> None:
        self.beacon = beacon
        self.frames = 0
        self.heard_ms = at_ms
        self.recent = bytearray()
        """Levels of this slice in dB above `LEAST_DBM`."""
        self.address: str | None = None
        self.former: str | None = None
        """The address before."""
        self.slice_ms = at_ms
        self.slice_frames = 0
        self.level: float | None = None
        self.hz: float | None = None
        self.jumps = 0.0
        self.closed_ms = at_ms
        self.told: _Told | None = None
        """What the beacon's counters said when this receiver last heard them."""
        self.sent = 0
        self.got = 0
        self.relearn()

    def relearn(self) -> None:
        """Forget what is usual."""
        self.learned: list[tuple[float, float, float]] = []
        self.baseline: float | None = None
        self.reference = 0.0
        self.spread = 0.0
        self.usual_hz: float | None = None
        self.usual_jumps = 0.0
        self.out_since_ms: int | None = None

    def restart_slice(self, at_ms: int) -> None:
        """Drop a slice in which silence was not the beacon's."""
        self.recent.clear()
        self.slice_ms, self.slice_frames = at_ms, self.frames

    def close_slice(self, now_ms: int) -> bool:
        """Fold what was heard since the last slice; False while it is not long enough."""
        elapsed_ms, recent = now_ms - self.slice_ms, self.recent
        count = len(recent)
        if elapsed_ms < SLICE_MS or (count < SLICE_SAMPLES and elapsed_ms < SLICE_LONGEST_MS):
            return False
        self.hz = (self.frames - self.slice_frames) * 1000 / elapsed_ms
        if count >= SLICE_SAMPLES:
            upper = sorted(recent)[count * 6 // 10 : count * 9 // 10 + 1]
            self.level = sum(upper) / len(upper) + LEAST_DBM
            self.closed_ms = now_ms
            in_turn = recent[:JUMP_SAMPLES]
            is_enough = len(in_turn) >= JUMP_LEAST_SAMPLES
            self.jumps = sum(abs(a - b) >= JUMP_DB for a, b in pairwise(in_turn)) / len(in_turn) if is_enough else 0.0
        self.restart_slice(now_ms)
        return count >= SLICE_SAMPLES

    def deviation(self, now_ms: int) -> float | None:
        """Level above baseline, if both are known and the level is not old."""
        if self.baseline is None or self.level is None or now_ms - self.closed_ms > SLICE_LONGEST_MS:
            return None
        return self.level - self.baseline

    @property
    def limit_db(self) -> float:
        """A change beyond this is out of line."""
        return min(OUT_OF_LINE_MAX_DB, max(OUT_OF_LINE_DB, SPREADS * self.spread))

    @property
    def silent_after_ms(self) -> float:
        """Silence of this length means that the receiver does not hear the beacon any more."""
        is_strong = self.level is not None and self.level >= FAINT_DBM
        due_ms = EXPECTED_PACKETS * 1000 / self.usual_hz if self.usual_hz else 0
        return max(SILENT_MS if is_strong else FAINT_SILENT_MS, due_ms)

    @property
    def loss(self) -> float | None:
        """Share of the beacon's advertisements that were missed; absent where it counts fewer than are heard."""
        if self.sent < LOSS_LEAST_SENT or self.got > self.sent:
            return None
        return 1 - self.got / self.sent

    def learn(self) -> None:
        """Take one more slice for the baseline."""
        assert self.level is not None
        assert self.hz is not None
        self.learned.append((self.level, self.hz, self.jumps))
        if len(self.learned) >= RATE_SLICES:
            self.usual_hz = _median([hz for _, hz, _ in self.learned])
        if len(self.learned) < LEARN_SLICES:
            return
        levels = [level for level, _, _ in self.learned]
        middle = _median(levels)
        spread = _median([abs(level - middle) for level in levels])
        if spread > LEARN_MAX_SPREAD_DB:
            del self.learned[: LEARN_SLICES // 2]
            return
        self.baseline = self.reference = middle
        self.spread = spread
        self.usual_jumps = _median([jumps for _, _, jumps in self.learned])
        self.learned = []

    def follow(self, *, rate: bool) -> None:
        """Let the baseline take one step towards this slice."""
        assert self.level is not None
        assert self.baseline is not None
        above = self.level - self.baseline
        self.baseline += FOLLOW_DB if above > 0 else -FOLLOW_DB
        self.spread += FOLLOW_DB if abs(above) > self.spread else -FOLLOW_DB
        self.reference = max(self.reference, self.baseline)
        if rate and self.usual_hz is not None and self.hz is not None:
            self.usual_hz *= 1 + FOLLOW_RATE if self.hz > self.usual_hz else 1 - FOLLOW_RATE
            self.usual_jumps += FOLLOW_RATE if self.jumps > self.usual_jumps else -FOLLOW_RATE


@dataclass(slots=True)
class _Told:
    """A telemetry frame as it was accepted."""

    series: int
    """Grows with each reboot."""
    advertisements: int
    uptime_ms: int
    at_ms: int
    frames: int = 0
    """Heard by the receiver until then."""


class _Battery:
    """What a beacon's battery said, day by day."""

    __slots__ = ("count", "day_ms", "days_left", "is_new", "millivolts", "percent", "points", "state", "sum", "temperature_c")

    def __init__(self) -> None:
        self.millivolts: float | None = None
        """Smoothed."""
        self.percent: int | None = None
        self.temperature_c: float | None = None
        self.points: deque[tuple[int, float]] = deque(maxlen=BATTERY_POINTS)
        """(monotonic milliseconds, millivolts) per day."""
        self.days_left: tuple[int, int] | None = None
        self.state: BatteryState = "unknown"
        self.is_new = False
        """Something came in since the last judgement."""
        self.day_ms: int | None = None
        self.sum = 0
        self.count = 0

    def take(self, millivolts: int, at_ms: int) -> None:
        self.is_new = True
        if self.millivolts is not None and millivolts - self.millivolts >= NEW_BATTERY_MV:
            self.points.clear()
            self.days_left, self.millivolts, self.day_ms = None, None, None
        if self.millivolts is None:
            self.millivolts = millivolts
        else:
            self.millivolts += _SMOOTHING * (millivolts - self.millivolts)
        if self.day_ms is None:
            self.day_ms, self.sum, self.count = at_ms, 0, 0
        elif at_ms - self.day_ms >= DAY_MS:
            self.points.append(((self.day_ms + at_ms) // 2, self.sum / self.count))
            self.days_left = forecast(self.points)
            self.day_ms, self.sum, self.count = at_ms, 0, 0
        self.sum += millivolts
        self.count += 1

    def judge(self) -> BatteryState:
        self.is_new = False
        is_low, is_good = False, True
        if self.millivolts is not None and int(self.millivolts) in COIN_CELL_MV:
            is_low |= self.millivolts <= LOW_MV
            is_good &= self.millivolts >= GOOD_MV
        if self.days_left is not None:
            is_low |= self.days_left[0] <= LOW_DAYS
            is_good &= self.days_left[0] >= GOOD_DAYS
        if self.percent is not None:
            is_low |= self.percent <= LOW_PERCENT
            is_good &= self.percent >= GOOD_PERCENT
        if is_low or (self.state == "low" and not is_good):
            return "low"
        return "unknown" if self.millivolts is None and self.percent is None else "ok"

    def health(self) -> BatteryHealth:
        millivolts = None if self.millivolts is None else round(self.millivolts)
        return BatteryHealth(self.state, millivolts, self.percent, self.temperature_c, self.days_left)


class _Beacon:
    """One registered fixed beacon."""

    __slots__ = (
        "addresses",
        "anchor",
        "battery",
        "lapsed_ms",
        "links",
        "pending",
        "pending_since_ms",
        "quiet_frames",
        "reboots",
        "returns",
        "since_ms",
        "state",
        "told",
    )

    def __init__(self, anchor: Anchor, links: dict[str, _Link], at_ms: int) -> None:
        self.anchor = anchor
        self.links = links
        """By receiver."""
        self.state: BeaconState = "learning"
        self.since_ms = at_ms
        self.pending: BeaconState | None = None
        self.pending_since_ms = at_ms
        self.lapsed_ms: int | None = None
        """When the pending pattern was no longer seen."""
        self.quiet_frames = 0
        """Frames when silence was last certain."""
        self.returns: deque[int] = deque(maxlen=RETURNS)
        """When an address or a counter came back."""
        self.addresses: deque[str] = deque(maxlen=ADDRESSES)
        self.told: _Told | None = None
        self.reboots = 0
        self.battery = _Battery()

    def came_back(self, at_ms: int) -> None:
        if not self.returns or at_ms - self.returns[-1] >= RETURN_APART_MS:
            self.returns.append(at_ms)

    def is_impossible(self, now_ms: int) -> bool:
        """Whether no single transmitter can be behind what was heard."""
        returns = self.returns
        if len(returns) < RETURNS or now_ms - returns[-1] > RETURNS_WITHIN_MS:
            return False
        return returns[-1] - returns[0] <= RETURNS_WITHIN_MS

    def heard_ever(self) -> int:
        return sum(link.frames for link in self.links.values())


class _Receiver:
    """One receiver and the beacons it hears."""

    __slots__ = (
        "awake_ms",
        "canaries",
        "faint_since_ms",
        "hearing",
        "links",
        "ratio",
        "shift_db",
        "silent",
        "since_ms",
    )

    def __init__(self, at_ms: int) -> None:
        self.links: dict[str, _Link] = {}
        """By beacon."""
        self.hearing: Hearing = "unknown"
        self.since_ms = at_ms
        """When ``hearing`` changed."""
        self.awake_ms = at_ms
        """Silence before this says nothing."""
        self.faint_since_ms: int | None = None
        self.shift_db = 0.0
        self.ratio: float | None = None
        """Rates beside the usual ones; absent where too few tell."""
        self.canaries = 0
        self.silent = 0

    def silence_ms(self, link: _Link, now_ms: int) -> int:
        return now_ms - max(link.heard_ms, self.awake_ms)

    def wake(self, now_ms: int) -> None:
        self.awake_ms = now_ms
        for link in self.links.values():
            link.restart_slice(now_ms)


class Canaries:
    """All registered fixed beacons of a shop and the receivers around them; ``now_ms`` is monotonic.

    Receivers need not be registered; more than `MAX_RECEIVERS` are not followed.
    """

    def __init__(self, shop: Shop, now_ms: int) -> None:
        self._shop = shop
        self._ticked_ms = now_ms
        self._beacons: dict[str, _Beacon] = {}
        self._links: dict[str, dict[str, _Link]] = {}
        """By beacon and receiver."""
        self._receivers: dict[str, _Receiver] = {}
        self.addresses: dict[str, str] = {}
        """Registered beacons by address, for ever this one table. Nobody else's address is ever in it."""
        self.blind_zones: frozenset[str] = frozenset()
        """Zones in which nobody can be heard now: promotions wait."""
        self.use(shop)

    # ---- the shop -------------------------------------------------------------------------------------------------------------

    def use(self, shop: Shop) -> None:
        """Swap the shop; a beacon or receiver that was changed in it is learnt anew, one that is gone is forgotten."""
        old, self._shop = self._shop, shop
        anchors = {name: anchor for name, anchor in shop.anchors.items() if anchor.kind == "beacon"}
        for name in [name for name, beacon in self._beacons.items() if anchors.get(name) != beacon.anchor]:
            self._forget(name)
        for name, anchor in anchors.items():
            if name not in self._beacons:
                self._links[name] = {}
                self._beacons[name] = _Beacon(anchor, self._links[name], self._ticked_ms)
        for name in [name for name in self._receivers if shop.anchors.get(name) != old.anchors.get(name)]:
            for beacon in self._receivers.pop(name).links:
                del self._links[beacon][name]
        self.blind_zones = self._find_blind_zones()

    def relearn(self, beacon: str) -> None:
        """The technician says that the beacon is right as it is now; ``KeyError`` for one that is not registered."""
        anchor = self._beacons[beacon].anchor
        battery = self._beacons[beacon].battery
        self._forget(beacon)
        self._links[beacon] = {}
        self._beacons[beacon] = _Beacon(anchor, self._links[beacon], self._ticked_ms)
        self._beacons[beacon].battery = battery

    def _forget(self, beacon: str) -> None:
        for address in self._beacons.pop(beacon).addresses:
            self.addresses.pop(address, None)
        for receiver in self._links.pop(beacon):
            del self._receivers[receiver].links[beacon]

    # ---- what is heard --------------------------------------------------------------------------------------------------------

    def heard(self, beacon: str, receiver: str, rssi_dbm: int, at_ms: int, address: str | None = None) -> None:
        """One advertisement of a registered beacon, and the address it came from, spelled alike by the same receiver."""
        try:
            link = self._links[beacon][receiver]
        except KeyError:
            found = self._add_link(beacon, receiver, at_ms)
            if found is None:
                return
            link = found
        link.frames += 1
        if at_ms > link.heard_ms:  # noqa: PLR1730 - max() takes as long as half of this method
            link.heard_ms = at_ms
        if address != link.address and address is not None:
            self._take_address(link, address, at_ms)
        recent = link.recent
        if LEAST_DBM < rssi_dbm < MOST_DBM and len(recent) < SLICE_ROOM:
            recent.append(rssi_dbm - LEAST_DBM)

    def also_heard(self, beacon: str, receiver: str, at_ms: int) -> None:
        """Another frame of the same beacon (a UID, a URL): its counter counts it, so the loss must."""
        link = self._links.get(beacon, {}).get(receiver)
        if link is not None:
            link.frames += 1
            link.heard_ms = max(link.heard_ms, at_ms)

    def telemetry(self, beacon: str, frame: EddystoneTlm, receiver: str, at_ms: int) -> None:
        """A telemetry frame from a registered beacon; without effect for a beacon or receiver that is not followed."""
        known = self._beacons.get(beacon)
        if known is None:
            return
        self.also_heard(beacon, receiver, at_ms)
        told = self._accept(known, frame, at_ms)
        if told is None:
            return
        link = known.links.get(receiver)
        if link is not None:
            _count_loss(known, link, told)
        self.battery(beacon, at_ms, millivolts=frame.battery_mv, temperature_c=frame.temperature_c)

    def battery(
        self,
        beacon: str,
        at_ms: int,
        *,
        millivolts: int | None = None,
        percent: int | None = None,
        temperature_c: float | None = None,
    ) -> None:
        """What a registered beacon says of its battery, in whatever format."""
        known = self._beacons.get(beacon)
        if known is None:
            return
        battery = known.battery
        if millivolts is not None:
            battery.take(millivolts, at_ms)
        if percent is not None:
            battery.percent, battery.is_new = percent, True
        if temperature_c is not None:
            battery.temperature_c = temperature_c

    def _add_link(self, beacon: str, receiver: str, at_ms: int) -> _Link | None:
        if beacon not in self._beacons:
            return None
        hears = self._receivers.get(receiver)
        if hears is None:
            if len(self._receivers) >= MAX_RECEIVERS:
                return None
            hears = self._receivers[receiver] = _Receiver(at_ms)
        link = hears.links[beacon] = self._links[beacon][receiver] = _Link(beacon, at_ms)
        return link

    def _take_address(self, link: _Link, address: str, at_ms: int) -> None:
        beacon = self._beacons[link.beacon]
        if address == link.former:
            beacon.came_back(at_ms)
        link.former, link.address = link.address, address
        if address in beacon.addresses:
            return
        if len(beacon.addresses) == ADDRESSES:
            dropped = beacon.addresses.popleft()
            if self.addresses.get(dropped) == link.beacon:
                del self.addresses[dropped]
        beacon.addresses.append(address)
        self.addresses[address] = link.beacon

    def _accept(self, beacon: _Beacon, frame: EddystoneTlm, at_ms: int) -> _Told | None:
        """The frame in its place among the earlier ones; ``None`` for one that comes late."""
        before = beacon.told
        told = _Told(0, frame.advertisements, frame.uptime_ms, at_ms)
        if before is not None:
            back_ms, elapsed_ms = before.uptime_ms - frame.uptime_ms, at_ms - before.at_ms
            told.series = before.series
            if back_ms > REBOOT_MS and frame.uptime_ms <= elapsed_ms + REBOOT_MS:
                beacon.reboots += 1
                told.series += 1
            elif back_ms > LATE_MS:
                # No reboot since the last frame could explain so long an uptime: another transmitter, or a swapped one.
                beacon.came_back(at_ms)
                told.series += 1
            elif back_ms > 0 or elapsed_ms < 0:
                return None
        beacon.told = told
        return told

    # ---- what time makes of it ------------------------------------------------------------------------------------------------

    @property
    def are_awaited(self) -> bool:
        """Whether a beacon was heard so lately that its silence may still be news."""
        oldest_ms = self._ticked_ms - SLICE_LONGEST_MS
        return any(link.heard_ms >= oldest_ms for links in self._links.values() for link in links.values())

    def next_deadline_ms(self) -> int:
        """The monotonic moment at which ``tick`` is wanted next."""
        return self._ticked_ms + JUDGE_EVERY_MS

    def tick(
        self, now: Instant, anything_ms: Mapping[str, int] | None = None, down: Collection[str] = frozenset()
    ) -> list[HealthChange]:
        """Judge everything, at most every 5 s; returns what is judged differently than before.

        ``anything_ms``: when each receiver last heard anything at all (monotonic), where that is known: a receiver that hears
        strangers is not deaf. ``down``: receivers that are known to be out of order by other signs.
        """
        now_ms = now.mono_ms
        elapsed_ms = now_ms - self._ticked_ms
        if elapsed_ms < JUDGE_EVERY_MS:
            return []
        self._ticked_ms = now_ms
        if elapsed_ms > STALL_MS:
            for receiver in self._receivers.values():
                receiver.wake(now_ms)
        changes = list(self._judge_receivers(now, anything_ms or {}, down))
        for receiver in self._receivers.values():
            if receiver.hearing != "deaf":
                self._close_slices(receiver, now_ms)
        changes += self._judge_beacons(now)
        self.blind_zones = self._find_blind_zones()
        return changes

    # ---- receivers ------------------------------------------------------------------------------------------------------------

    def _judge_receivers(self, now: Instant, anything_ms: Mapping[str, int], down: Collection[str]) -> Iterator[HealthChange]:
        for name in sorted(self._receivers.keys() | set(down)):
            receiver = self._receivers.get(name)
            if receiver is None:
                if len(self._receivers) >= MAX_RECEIVERS:
                    continue
                receiver = self._receivers[name] = _Receiver(now.mono_ms)
            others_ms = anything_ms.get(name)
            hears_others = others_ms is not None and now.mono_ms - others_ms < HEARS_OTHERS_MS
            before = receiver.hearing
            hearing = _hearing(receiver, now.mono_ms, hears_others, is_down=name in down)
            if hearing == before:
                continue
            heard_ms = max((link.heard_ms for link in receiver.links.values()), default=now.mono_ms)
            first_ms = {"deaf": heard_ms, "impaired": receiver.faint_since_ms or heard_ms}.get(hearing, now.mono_ms)
            receiver.hearing, receiver.since_ms = hearing, now.mono_ms
            if before in ("deaf", "impaired"):
                receiver.wake(now.mono_ms)
            yield HealthChange("receiver", name, hearing, before, now, first_ms)

    def _close_slices(self, receiver: _Receiver, now_ms: int) -> None:
        closed = [link for link in receiver.links.values() if link.close_slice(now_ms)]
        changes = [d for link in receiver.links.values() if (d := link.deviation(now_ms)) is not None]
        receiver.shift_db = _median(changes) if len(changes) >= SHIFT_LINKS else 0.0
        ratios = [
            link.hz / link.usual_hz for link in receiver.links.values() if link.baseline is not None and link.hz and link.usual_hz
        ]
        receiver.ratio = _median(ratios) if len(ratios) >= RATE_LINKS else None
        if receiver.shift_db > -OUT_OF_LINE_DB * (1.0 if receiver.faint_since_ms is None else KEEP):
            receiver.faint_since_ms = None
        elif receiver.faint_since_ms is None:
            receiver.faint_since_ms = now_ms
        for link in closed:
            self._learn(link, receiver, now_ms)
        for link in receiver.links.values():
            # Nobody hears it here any more, and somebody does elsewhere.
            if self._beacons[link.beacon].state == "ok" and receiver.silence_ms(link, now_ms) >= ADOPT_MS and link.usual_hz:
                link.relearn()

    def _learn(self, link: _Link, receiver: _Receiver, now_ms: int) -> None:
        beacon = self._beacons[link.beacon]
        if link.baseline is None:
            if beacon.state not in _FAULTS:
                link.learn()
            return
        change_db = link.deviation(now_ms)
        assert change_db is not None
        limit_db = link.limit_db
        if abs(change_db) < limit_db:
            link.out_since_ms = None
            if beacon.pending is None and beacon.state in ("ok", "weak") and abs(change_db - receiver.shift_db) < limit_db:
                link.follow(rate=beacon.state == "ok")
        elif beacon.state != "ok" or beacon.pending is not None or receiver.hearing != "hearing" or link.out_since_ms is None:
            link.out_since_ms = now_ms
        elif now_ms - link.out_since_ms >= ADOPT_MS:
            link.relearn()

    # ---- beacons --------------------------------------------------------------------------------------------------------------

    def _judge_beacons(self, now: Instant) -> Iterator[HealthChange]:
        for name, beacon in self._beacons.items():
            before = beacon.state
            if self._has_changed(beacon, now.mono_ms):
                yield HealthChange("beacon", name, beacon.state, before, now, beacon.since_ms)
            battery = beacon.battery
            if battery.is_new:
                was, battery.state = battery.state, battery.judge()
                if battery.state != was:
                    yield HealthChange("battery", name, battery.state, was, now, now.mono_ms)

    def _has_changed(self, beacon: _Beacon, now_ms: int) -> bool:
        state, hold_ms, since_ms = self._pattern(beacon, now_ms)
        if state == beacon.pending:
            beacon.lapsed_ms = None
        elif hold_ms and beacon.pending in _FAULTS and now_ms - (beacon.lapsed_ms or now_ms) < LAPSE_MS:
            beacon.lapsed_ms = beacon.lapsed_ms or now_ms
            return False
        elif state == beacon.state:
            beacon.pending = beacon.lapsed_ms = None
            return False
        else:
            beacon.pending, beacon.pending_since_ms, beacon.lapsed_ms = state, since_ms, None
        if now_ms - beacon.pending_since_ms < hold_ms:
            return False
        beacon.state, beacon.since_ms, beacon.pending = state, beacon.pending_since_ms, None
        return True

    def _pattern(self, beacon: _Beacon, now_ms: int) -> tuple[BeaconState, int, int]:
        """What the links look like now, for how long they must, and since when they do at least."""
        if self._is_silent(beacon, now_ms):
            return "silent", 0, max(link.heard_ms for link in beacon.links.values())
        if beacon.is_impossible(now_ms):
            return "cloned", 0, beacon.returns[0]
        known = [
            (link, receiver)
            for name, link in beacon.links.items()
            if link.baseline is not None and (receiver := self._receivers[name]).hearing != "deaf"
        ]
        if beacon.state == "silent":
            # What else is wrong with it shows later.
            return ("ok" if known else "learning"), HEARD_AGAIN_MS, now_ms
        # One that is only remembered may have died while nobody listened.
        if not known or (beacon.state == "learning" and not beacon.heard_ever()):
            return beacon.state, 0, now_ms
        ease = KEEP if beacon.state in _FAULTS or beacon.pending in _FAULTS else 1.0
        fault = self._fault(known, now_ms, ease)
        if fault is not None:
            return fault, CONFIRM_MS, now_ms
        return "ok", 0 if beacon.state == "learning" else CLEAR_MS, now_ms

    def _is_silent(self, beacon: _Beacon, now_ms: int) -> bool:
        """Whether no receiver hears it, and one of those that surely hear does not although it should."""
        able = [
            (link, receiver)
            for name, link in beacon.links.items()
            if (receiver := self._receivers[name]).hearing == "hearing" and link.usual_hz is not None
        ]
        overdue = any(receiver.silence_ms(link, now_ms) >= link.silent_after_ms for link, receiver in able)
        if overdue and all(now_ms - link.heard_ms >= SILENT_MS for link in beacon.links.values()):
            beacon.quiet_frames = beacon.heard_ever()
            return True
        return beacon.state == "silent" and (not able or beacon.heard_ever() - beacon.quiet_frames < HEARD_AGAIN_PACKETS)

    def _fault(self, known: Sequence[tuple[_Link, _Receiver]], now_ms: int, ease: float) -> BeaconState | None:
        if _is_twofold(known, ease):
            return "cloned"
        changes: list[float] = []
        """Of links with a fresh level, less what happened to the receiver."""
        lost, rises, falls, fades, all_sank = 0, 0, 0, 0, True
        for link, receiver in known:
            if receiver.silence_ms(link, now_ms) >= link.silent_after_ms:
                lost += receiver.hearing == "hearing"
                continue
            change_db = link.deviation(now_ms)
            if change_db is None or link.baseline is None:
                continue
            change_db = _own_share(change_db, receiver.shift_db)
            changes.append(change_db)
            limit_db = link.limit_db * ease
            above_reference_db = change_db + link.baseline - link.reference
            rises += above_reference_db >= limit_db
            falls += change_db <= -limit_db
            fades += change_db > -limit_db and _has_faded(link, receiver, ease)
            all_sank &= link.baseline - link.reference <= -SANK_DB * ease and above_reference_db <= -SANK_DB * KEEP
        if rises and (lost or falls or _rose_alone(changes, ease)):
            return "moved"
        if lost + falls and falls + fades == len(changes):
            return "covered"
        if changes and (all_sank or fades == len(changes)):
            return "weak"
        return None

    # ---- zones ----------------------------------------------------------------------------------------------------------------

    def _find_blind_zones(self) -> frozenset[str]:
        """Zones with anchors of which none works: receivers that are deaf, beacons that are silent or that nobody can hear of."""
        shop = self._shop
        by_zone: dict[str, list[Anchor]] = {}
        for anchor in shop.anchors.values():
            if anchor.zone is not None:
                by_zone.setdefault(anchor.zone, []).append(anchor)
        registered = [anchor for anchor in shop.anchors.values() if anchor.kind == "receiver"]
        # Nothing is out of order: the usual case.
        if all(r.hearing in ("hearing", "unknown") for r in self._receivers.values()) and all(
            b.state != "silent" for b in self._beacons.values()
        ):
            return frozenset()
        return frozenset(zone for zone, anchors in by_zone.items() if all(self._is_out(anchor, registered) for anchor in anchors))

    def _is_out(self, anchor: Anchor, receivers: Iterable[Anchor]) -> bool:
        if anchor.kind == "receiver":
            return self.hearing_of(anchor.name) == "deaf"
        beacon = self._beacons[anchor.name]
        if beacon.state == "silent":
            return True
        # Who hears the beacon hears phones beside it; so does who is said to reach its zone.
        near = set(beacon.links).union(r.name for r in receivers if self._reaches(r, anchor.zone))
        return bool(near) and all(self.hearing_of(name) in ("deaf", "impaired") for name in near)

    def hearing_of(self, receiver: str) -> Hearing:
        """As judged at the last tick."""
        known = self._receivers.get(receiver)
        return "unknown" if known is None else known.hearing

    def _reaches(self, receiver: Anchor, zone: str | None) -> bool:
        near = receiver.covers if receiver.zone is None else receiver.covers | {receiver.zone}
        return not near or zone in near or any(zone in (self._shop.zones[name].neighbours or ()) for name in near)

    # ---- what is known --------------------------------------------------------------------------------------------------------

    def health(self) -> CanaryReport:
        """Everything at the last tick."""
        return CanaryReport(
            tuple(self.health_of(name) for name in sorted(self._beacons)),
            tuple(
                ReceiverHealth(name, r.hearing, r.since_ms, r.canaries, r.silent, round(r.shift_db, 1))
                for name, r in sorted(self._receivers.items())
            ),
            self.blind_zones,
        )

    def health_of(self, name: str) -> BeaconHealth:
        """One registered beacon at the last tick; ``KeyError`` for another."""
        beacon = self._beacons[name]
        return BeaconHealth(
            name,
            beacon.anchor.zone,
            beacon.state,
            beacon.since_ms,
            # A link that was remembered has not been heard yet.
            max((link.heard_ms for link in beacon.links.values() if link.frames), default=None),
            tuple(
                LinkHealth(
                    receiver,
                    link.heard_ms if link.frames else None,
                    _rounded(link.level, 1),
                    _rounded(link.baseline, 1),
                    _rounded(link.hz, 2),
                    _rounded(link.usual_hz, 2),
                    _rounded(link.loss, 3),
                )
                for receiver, link in sorted(beacon.links.items())
            ),
            beacon.battery.health(),
            beacon.reboots,
            None if beacon.told is None else beacon.told.uptime_ms,
        )

    # ---- restart --------------------------------------------------------------------------------------------------------------

    def memory(self, now: Instant) -> CanaryMemory:
        """What a restart must not lose. Ask while the wall clock is right."""
        baselines = [
            LinkBaseline(name, receiver, link.baseline, link.reference, link.spread, link.usual_hz or 0.0, link.usual_jumps)
            for name, links in sorted(self._links.items())
            for receiver, link in sorted(links.items())
            if link.baseline is not None
        ]
        points = [
            BatteryPoint(name, now.wall_ms + point_ms - now.mono_ms, millivolts)
            for name, beacon in sorted(self._beacons.items())
            for point_ms, millivolts in beacon.battery.points
        ]
        return CanaryMemory(tuple(baselines), tuple(points))

    def remember(self, memory: CanaryMemory, now: Instant) -> None:
        """Take back what is usual, once, before anything is heard, of beacons still there. The wall clock must be right."""
        for saved in memory.baselines:
            link = self._add_link(saved.beacon, saved.receiver, now.mono_ms)
            if link is None:
                continue
            link.baseline, link.reference, link.spread = saved.baseline_dbm, saved.reference_dbm, saved.spread_db
            link.level, link.usual_hz, link.usual_jumps = saved.baseline_dbm, saved.rate_hz or None, saved.jumps
            link.closed_ms = now.mono_ms - SLICE_LONGEST_MS - 1
        oldest_wall_ms = now.wall_ms - 2 * BATTERY_POINTS * DAY_MS
        for point in sorted(memory.batteries, key=lambda point: point.wall_ms):
            beacon = self._beacons.get(point.beacon)
            if beacon is not None and oldest_wall_ms <= point.wall_ms <= now.wall_ms:
                battery = beacon.battery
                battery.points.append((now.mono_ms + point.wall_ms - now.wall_ms, point.millivolts))
                battery.days_left = forecast(battery.points)


# ---- rules --------------------------------------------------------------------------------------------------------------------


def _hearing(receiver: _Receiver, now_ms: int, hears_others: bool, *, is_down: bool) -> Hearing:
    canaries = [link for link in receiver.links.values() if (link.usual_hz or 0) >= CANARY_MIN_HZ]
    receiver.canaries = len(canaries)
    silences_ms = [receiver.silence_ms(link, now_ms) for link in canaries]
    receiver.silent = sum(silence_ms >= DEAF_MS for silence_ms in silences_ms)
    if is_down:
        return "deaf"
    if not canaries:
        return "unknown"
    is_sure = len(canaries) >= MANY or any(link.level is not None and link.level >= FAINT_DBM for link in canaries)
    due_ms = EXPECTED_PACKETS * 1000 / sum((link.usual_hz or 0.0 for link in canaries), 0.0)
    if due_ms > FAINT_DEAF_MS:
        return "unknown"
    if min(silences_ms) >= max(DEAF_MS if is_sure else FAINT_DEAF_MS, due_ms):
        if not hears_others:
            return "deaf"
        if receiver.hearing == "deaf":
            # It hears again; its beacons are given their time to be among what it hears.
            return "hearing"
        # Few beacons may well be silent at once, and then it is they who are.
        return "impaired" if len(canaries) >= MANY else "hearing"
    is_heard_since = any(link.heard_ms > receiver.since_ms for link in receiver.links.values())
    if receiver.hearing == "deaf" and not is_heard_since and not hears_others:
        return "deaf"
    faint_since_ms = receiver.faint_since_ms
    return "impaired" if faint_since_ms is not None and now_ms - faint_since_ms >= CONFIRM_MS else "hearing"


def _is_twofold(known: Iterable[tuple[_Link, _Receiver]], ease: float) -> bool:
    """Whether more is heard than one beacon sends: everywhere, or somewhere and in two levels by turns."""
    ratios = [
        (link.hz / link.usual_hz / receiver.ratio, link.jumps - link.usual_jumps)
        for link, receiver in known
        if receiver.ratio and link.hz and link.usual_hz
    ]
    if not ratios:
        return False
    more, jumpier = 1 + (MORE_OFTEN - 1) * ease, 1 + (JUMPY_MORE_OFTEN - 1) * ease
    if all(ratio >= more for ratio, _ in ratios):
        return True
    # A beacon that was carried may be heard better and jumpier by one receiver, but by most as often as before.
    return _median(ratio for ratio, _ in ratios) >= jumpier and any(
        ratio >= jumpier and jumps >= JUMPS * ease for ratio, jumps in ratios
    )


def _has_faded(link: _Link, receiver: _Receiver, ease: float) -> bool:
    if link.baseline is None or link.baseline > FADED_DBM or link.hz is None or not link.usual_hz:
        return False
    return link.hz / link.usual_hz / max(receiver.ratio or 1.0, FADED) <= FADED / ease


def _own_share(change_db: float, shift_db: float) -> float:
    """The change without the receiver's, which never makes a fall of a rise: at the edge levels do not fall with the others."""
    own_db = change_db - shift_db
    return min(change_db, own_db, key=abs) if change_db * own_db > 0 else 0.0


def _rose_alone(changes: Sequence[float], ease: float) -> bool:
    """Rising everywhere alike is more power; a single receiver cannot tell, and nearer is likelier."""
    top = max(changes)
    return top >= RISE_DB * ease and (len(changes) == 1 or top - min(changes) >= RISE_DB * ease)


def _count_loss(beacon: _Beacon, link: _Link, told: _Told) -> None:
    before, told = link.told, _Told(told.series, told.advertisements, told.uptime_ms, told.at_ms, link.frames)
    link.told = told
    if before is None or before.series != told.series:
        return
    sent = (told.advertisements - before.advertisements) % _COUNTER
    elapsed_ms = told.uptime_ms - before.uptime_ms
    if sent >= _HALF:
        beacon.came_back(told.at_ms)
    elif sent <= MAX_SENT_PER_S * (elapsed_ms / 1000 + 1):
        link.sent += sent
        link.got += told.frames - before.frames
        if link.sent >= LOSS_FORGET_SENT:
            link.sent //= 2
            link.got //= 2


def forecast(points: Sequence[tuple[int, float]]) -> tuple[int, int] | None:
    """Days until a coin cell reaches 2.4 V and 2.2 V, from (milliseconds, millivolts) in order of time.

    The line is the median of the slopes between the points (Theil and Sen), which a cold night does not bend. ``None`` for less
    than a week of points over ten days, for a decline that is not plain, and beyond twice the time observed: a cell keeps its
    voltage for most of its life, so that a longer line would be a guess.

    >>> forecast([(day * 86_400_000, 2900 - 10 * day) for day in range(31)])
    (20, 40)
    >>> forecast([(day * 86_400_000, 2900 - day % 5) for day in range(31)]) is None
    True
    """
    if len(points) < FORECAST_POINTS or points[-1][0] - points[0][0] < FORECAST_SPAN_MS:
        return None
    slopes = [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for number, later in enumerate(points)
        for earlier in list(points)[:number]
        if later[0] - earlier[0] >= _SLOPE_LEAST_APART_MS
    ]
    slope = _median(slopes)
    start_mv = _median([mv - slope * at_ms for at_ms, mv in points])
    scatter_mv = _median([abs(mv - slope * at_ms - start_mv) for at_ms, mv in points])
    end_ms, span_ms = points[-1][0], points[-1][0] - points[0][0]
    end_mv = start_mv + slope * end_ms
    if -slope * span_ms < max(FORECAST_LEAST_MV, FORECAST_SCATTERS * scatter_mv) or round(end_mv) not in COIN_CELL_MV:
        return None
    to_low_ms, to_empty_ms = ((end_mv - limit_mv) / -slope for limit_mv in (LOW_MV, EMPTY_MV))
    if to_low_ms > FORECAST_REACH * span_ms:
        return None
    return max(0, int(to_low_ms // DAY_MS)), max(0, ceil(to_empty_ms / DAY_MS))


def _median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
