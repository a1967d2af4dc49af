"""Sightings → a belief over zones, for all shoppers at once per tick: one positioning for all shops.

::

    what is known of the shop                        who computes
    anchor → zone, nothing else                      LevelFilter: strengths of zones
    positions of three receivers or more             ZoneFilter on the floor that follows from them; what is heard corrects it
    a learned model (a technician's walk)            ZoneFilter on what was walked
    mixtures                                         both: what stands on the floor is one of the places that LevelFilter compares

A learned model that does not fit the shop any more is not used, and ``trouble`` says why. Nothing here needs numpy before there
is a floor to compute with.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, hypot
from typing import Final, Literal, overload

from gateway.core.level_filter import SOFTNESS_DB, Heard, LevelFilter, Source, mixed, told_weight
from gateway.core.model import Anchor, AnchorLevel, Belief, Instant, Shop
from gateway.core.spelling import listed
from gateway.core.zone_model import KnownAnchor, RecordedSighting, ShopPlan, ZoneModel

USUAL_ENTER_DBM: Final = -88.0
"""Where nobody has said what speaks for being outside of a zone, and nothing is known but its anchors."""
LEAST_RECEIVERS: Final = 3
"""With fewer positions than this a floor says less than the anchors' zones."""
_MOVED_M: Final = 1.0
_ON_FLOOR: Final = ""
"""Stands for all zones of the floor where they are compared with zones that are not on it."""
_LEAST_SHARE: Final = 1e-4
_LEAST_AT_ONCE: Final = 200
"""Shoppers on a floor in one tick: a thousand take about 30 ms, and nobody waits for more than a second."""
_MOST_WAITING: Final = 200
"""Sightings of one shopper for the next step on the floor; more say nothing new."""

Kind = Literal["model", "positions", "anchors"]


@dataclass(frozen=True, slots=True)
class Ground:
    """What shoppers are located by."""

    kind: Kind
    model: ZoneModel | None = None
    """``None`` for ``anchors``."""
    trouble: str | None = None
    """Why a learned model is not used, or what it does not know; one sentence for people."""


def plan_of(shop: Shop) -> ShopPlan:
    """The receivers and zones of a shop as far as somebody wrote down where they are: what a walk is learnt with.

    Fixed beacons are left out: nothing is heard by them.
    """
    receivers = {a.name: KnownAnchor(a.at_m, a.zone) for a in shop.anchors.values() if a.kind == "receiver"}
    return ShopPlan(receivers, _polygons(shop))


def ground_of(shop: Shop, learned: ZoneModel | None = None) -> Ground:
    """The best that is known: the learned model, if it fits the shop, else the positions, else the anchors' zones.

    Pure, but not quick where a floor has to be computed (some hundredths of a second).
    """
    trouble = None
    if learned is not None:
        trouble = _why_not(learned, shop)
        if trouble is None:
            return Ground("model", learned, _what_it_misses(learned, shop))
    plan = _plan_of_positions(shop)
    if sum(a.at_m is not None and a.kind == "receiver" for a in shop.anchors.values()) < LEAST_RECEIVERS or not shop.zones:
        return Ground("anchors", None, trouble)
    from gateway.core.calibration import NotLearnt, unsurveyed

    try:
        return Ground("positions", unsurveyed(plan), trouble)
    except NotLearnt:
        return Ground("anchors", None, trouble)


def _polygons(shop: Shop) -> dict[str, tuple[tuple[float, float], ...]]:
    return {zone.name: zone.polygon for zone in shop.zones.values() if zone.polygon is not None}


def _plan_of_positions(shop: Shop) -> ShopPlan:
    """Anchors whose place is known, or at least a part of the floor that they stand in."""
    polygons = _polygons(shop)
    placed = {anchor.zone for anchor in shop.anchors.values() if anchor.at_m is not None} | polygons.keys()
    # With polygons a zone without one has no place on the floor, even if an anchor in it has.
    anchors = {
        anchor.name: KnownAnchor(anchor.at_m, anchor.zone)
        for anchor in shop.anchors.values()
        if anchor.at_m is not None or (anchor.zone is not None and anchor.zone in placed)
    }
    return ShopPlan(anchors, polygons)


def _why_not(model: ZoneModel, shop: Shop) -> str | None:
    """What makes a learned model useless, as one sentence."""
    again = "so the zones were learned for another shop; walk them again: gateway zone walk ZONE."
    gone = sorted(set(model.anchors) - shop.anchors.keys())
    if gone:
        return f"the zone model has {listed(gone)}, which the shop has no more, {again}"
    used = {model.zones[number] for number in model.cell_zones if number >= 0}
    gone = sorted(used - shop.zones.keys())
    if gone:
        return f"the zone model has the zone{'' if len(gone) == 1 else 's'} {listed(gone)}, which the shop has no more, {again}"
    for name, at in zip(model.anchors, model.anchors_at_m, strict=False):
        now = shop.anchors[name].at_m
        if at is not None and now is not None and hypot(now[0] - at[0], now[1] - at[1]) > _MOVED_M:
            return f"{name} has been moved since the zones were learned, {again}"
    return None


def _what_it_misses(model: ZoneModel, shop: Shop) -> str | None:
    used = {model.zones[number] for number in model.cell_zones if number >= 0}
    new = sorted(set(shop.zones) - used)
    if new:
        return f"the zone model does not know {listed(new)}; walk there: gateway zone walk ZONE."
    new = sorted(a.name for a in shop.anchors.values() if a.kind == "receiver" and a.name not in model.anchors)
    if new:
        return f"the zone model does not know the receiver {listed(new)}, which counts little until the zones are walked again."
    return None


class _Strongest(Sequence[AnchorLevel]):
    """A shopper's strongest anchors, put together when somebody looks: most beliefs change nothing, and nobody does."""

    __slots__ = ("_heard",)

    def __init__(self, heard: Heard) -> None:
        self._heard = heard

    @overload
    def __getitem__(self, index: int) -> AnchorLevel: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[AnchorLevel]: ...
    def __getitem__(self, index: int | slice) -> AnchorLevel | Sequence[AnchorLevel]:
        return self._heard.strongest()[index]

    def __iter__(self) -> Iterator[AnchorLevel]:
        return iter(self._heard.strongest())

    def __len__(self) -> int:
        return len(self._heard.strongest())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # it changes with what is heard


class _Floor:
    """A ``ZoneFilter``, and who waits for its next step."""

    def __init__(self, model: ZoneModel, anchors: Mapping[str, Anchor]) -> None:
        from gateway.core.zone_filter import ZoneFilter

        self._filter = ZoneFilter(model)
        self.zones = frozenset(model.zones[number] for number in model.cell_zones if number >= 0)
        self.anchors = frozenset(model.anchors)
        """Whose levels say where on the floor somebody is."""
        # A phone that tells of a beacon tells of a place, and where that is unknown of a zone.
        self.told = frozenset(
            name for name in model.anchors if model.grid is not None and name in anchors and anchors[name].at_m is not None
        )
        self._waiting: dict[str, list[RecordedSighting]] = {}

    def observe(self, shopper: str, anchor: str, rssi_dbm: float, at_ms: int, source: Source) -> None:
        """Take one sighting for the shopper's next step."""
        if anchor not in (self.anchors if source == "receiver" else self.told):
            return
        sighting = RecordedSighting(at_ms, shopper, anchor, rssi_dbm, source=source)
        waiting = self._waiting.get(shopper)
        if waiting is None:
            self._waiting[shopper] = [sighting]
        elif len(waiting) < _MOST_WAITING:
            waiting.append(sighting)

    def forget(self, shopper: str) -> None:
        """Drop everything about one shopper."""
        self._waiting.pop(shopper, None)
        self._filter.forget(shopper)

    def beliefs(self, shoppers: Iterable[str], now_ms: int) -> dict[str, tuple[dict[str, float], float]]:
        """By shopper, for those of whom something was observed: probabilities by zone, and that of being in none."""
        for shopper in shoppers:
            for sighting in self._waiting.pop(shopper, ()):
                self._filter.observe(sighting)
        names = self._filter.zones
        found = {}
        for shopper, shares in self._filter.beliefs(now_ms):
            zones = {zone: p for zone, p in zip(names, shares, strict=False) if p > _LEAST_SHARE}
            found[shopper] = zones, max(0.0, 1.0 - sum(zones.values()))
        return found


class Positioning:
    """Follows sightings; ``beliefs`` makes one belief per shopper that was heard since the last call."""

    def __init__(self, shop: Shop, learned: ZoneModel | None = None) -> None:
        self._levels = LevelFilter({}, USUAL_ENTER_DBM)
        self._floor: _Floor | None = None
        self.observe: Callable[[str, str, float, Instant, Source], bool] = self._levels.hear
        """Take one sighting (shopper, anchor, RSSI in dBm, at, source); impossible RSSI (0 dBm and above, −110 dBm and below) is
        refused. Where there is no floor, what is called for each advertisement of a shopper is this and no more."""
        self.ground = Ground("anchors")
        """What shoppers are located by."""
        self._gates: dict[str, tuple[float, frozenset[str]]] = {}
        """Zones on the floor for which somebody has set ``enter_dbm``: the level, and the anchors that stand there."""
        self.use(shop, ground_of(shop, learned))

    def use(self, shop: Shop, ground: Ground | None = None) -> None:
        """Swap the shop; anchors that are gone are forgotten. What is known of where shoppers are is kept if the floor stays."""
        ground = ground_of(shop) if ground is None else ground
        anchors = shop.anchors
        if ground.model is None:
            self._floor = None
        elif self._floor is None or ground.model != self.ground.model:
            self._floor = _Floor(ground.model, anchors)
        self.ground = ground
        enter_dbm = {name: zone.enter_dbm for name, zone in shop.zones.items() if zone.enter_dbm is not None}
        zone_of: dict[str, str | None] = {name: anchor.zone for name, anchor in anchors.items()}
        self._gates = {}
        if self._floor is not None:
            zone_of = {name: self._place_of(anchor, self._floor) for name, anchor in anchors.items()}
            for zone in self._floor.zones.intersection(enter_dbm):
                here = frozenset(name for name, anchor in anchors.items() if anchor.zone == zone and anchor.kind == "receiver")
                if here:
                    self._gates[zone] = enter_dbm[zone], here
        self._levels.use(zone_of, enter_dbm)
        self.observe = self._levels.hear if self._floor is None else self._observe_on_floor

    @staticmethod
    def _place_of(anchor: Anchor, floor: _Floor) -> str | None:
        """What ``LevelFilter`` is told of an anchor where there is a floor."""
        if anchor.kind == "beacon":
            return None if anchor.name in floor.told else anchor.zone
        if anchor.name in floor.anchors:
            return _ON_FLOOR
        # A receiver of a zone on the floor that is not on it itself came later; it must not speak against what is known.
        return None if anchor.zone in floor.zones else anchor.zone

    def _observe_on_floor(self, shopper: str, anchor: str, rssi_dbm: float, at: Instant, source: Source) -> bool:
        taken = self._levels.hear(shopper, anchor, rssi_dbm, at, source)
        if taken and self._floor is not None:
            self._floor.observe(shopper, anchor, rssi_dbm, at[0], source)
        return taken

    @property
    def has_pending(self) -> bool:
        """Whether there are sightings that no belief has seen yet."""
        return self._levels.has_pending

    @property
    def repeats_ms(self) -> int | None:
        """The monotonic moment at which a belief is to be repeated next."""
        return self._levels.repeats_ms

    def forget(self, shopper: str) -> None:
        """Drop everything about one shopper."""
        self._levels.forget(shopper)
        if self._floor is not None:
            self._floor.forget(shopper)

    def follows(self, shopper: str) -> bool:
        """Whether anything is known of the shopper that is not too old."""
        return self._levels.follows(shopper)

    @property
    def to_locate(self) -> int:
        """How many shoppers ``beliefs`` locates with its next call, beside those whose belief is only repeated.

        On a floor some may have to wait for the one after it, the next second at the latest.
        """
        pending = self._levels.pending
        return pending if self._floor is None else min(pending, max(_LEAST_AT_ONCE, pending // 4))

    def beliefs(self, now: Instant, most: int | None = None) -> Iterator[Belief]:
        """One belief per shopper heard since the last call, in the order in which they were first heard, one after the other.

        Whoever takes a belief says, before taking the next, whether it is settled; then the same comes again once a second while
        nothing speaks against it. ``most``: so many are located instead of ``to_locate``, and the others stay for the next call.
        """
        levels, floor, now_ms = self._levels, self._floor, now[0]
        if floor is None:
            for name, heard in levels.take(now_ms, most).items():
                zones, outside = levels.share(heard, now_ms)
                belief = Belief(name, now, zones, outside, heard.at, _Strongest(heard))
                yield belief
                if belief.is_settled:
                    levels.keep_calm(heard, belief, now_ms)
            for heard, belief in levels.take_calm(now_ms):
                belief.at, belief.heard_at, belief.is_settled = now, heard.at, False
                yield belief
                if not belief.is_settled:
                    heard.calm_until_ms = 0
            return
        taken = levels.take(now_ms, self.to_locate if most is None else most)
        placed = floor.beliefs(taken, now_ms)
        for name, heard in taken.items():
            zones, outside = self._together(heard, placed.get(name), now_ms)
            yield Belief(name, now, zones, outside, heard.at, _Strongest(heard))

    def _together(
        self, heard: Heard, placed: tuple[dict[str, float], float] | None, now_ms: int
    ) -> tuple[dict[str, float], float]:
        """What the floor says, what zones beside it say, and what the phone says of beacons whose place is unknown."""
        levels = self._levels
        if placed is not None and self._gates:
            placed = self._gated(placed, heard)
        found = placed
        beside, outside = levels.by_receivers(heard, now_ms)
        on_floor = beside.pop(_ON_FLOOR, 0.0)
        if beside and placed is None:
            found = beside, outside + on_floor
        elif beside and placed is not None:
            rest = 1.0 - sum(beside.values())
            found = {**{zone: rest * p for zone, p in placed[0].items()}, **beside}, rest * placed[1]
        if heard.by_phone:
            told = levels.by_phone(heard, now_ms)
            if told[0]:
                found = told if found is None else mixed(found, told, told_weight(heard, now_ms))
        return ({}, 1.0) if found is None else found

    def _gated(self, placed: tuple[dict[str, float], float], heard: Heard) -> tuple[dict[str, float], float]:
        """Where a zone's own receivers hear less than was set for it, that much of its probability is outside."""
        zones, outside = dict(placed[0]), placed[1]
        for zone, (enter_dbm, anchors) in self._gates.items():
            p = zones.get(zone)
            if p is None:
                continue
            level = max([known.dbm for name, known in heard.by_receivers.items() if name in anchors], default=-110.0)
            kept = p / (1.0 + exp(min(60.0, (enter_dbm - level) / SOFTNESS_DB)))
            zones[zone] = kept
            outside += p - kept
        return zones, outside
