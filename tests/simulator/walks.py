"""A fixed set of simulated walks through the real pipeline, and how well it says where everybody is.

Advertisement bytes go in, as on the air of the simulated shop; what comes out is compared with the truth. Everything is seeded
and time is simulated, so a set gives the same figures each time. ``walks.json`` holds the figures of the last time that
somebody looked at them (``scripts/walks --write``); a test fails when they get worse.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC
from functools import cache, partial
from itertools import count
from math import inf
from pathlib import Path
from typing import Literal, NamedTuple

from gateway.contract.recording import read_recording
from gateway.core.calibration import learn
from gateway.core.identity import DayRoster
from gateway.core.model import ClockQuality, Consent, Entered, Exited, Instant, RosterEntry, Shop
from gateway.core.pipeline import TICK_MS, Pipeline, Tuning
from gateway.core.positioning import plan_of
from gateway.core.token import day_of, derive_day_key, derive_pseudonym, window_of
from gateway.core.zone_model import ShopPlan, ZoneModel
from gateway.core.zone_scores import TICK_MS as TICK_OF_SCORE_MS
from gateway.core.zone_scores import Tick, pooled, score
from gateway.simulator.floor_plan import FloorPlan, Point
from gateway.simulator.plan_file import built_in_plan
from gateway.simulator.sightings import sighting_lines
from gateway.simulator.store import StoreInABox, TrueStay
from gateway.simulator.walkers import WALKS

STORED = Path(__file__).with_name("walks.json")
STORE_NUMBER = 4711
START_MS = 1_790_000_437_000
SHOP_SEED = 1
"""All walks of a plan are in the same shop: its reflections stay where they are."""
SURVEY_SEED = 9
STRANGERS = 10
ROSTER_SKEW_S = 300


@dataclass(frozen=True, slots=True)
class WalkSet:
    """Some people who walk in one manner."""

    plan: str
    walk: str
    shoppers: int
    seed: int = 1
    known: Literal["walk", "positions", "anchors"] = "walk"
    """What the gateway knows of the shop: a technician has walked it, or its plan alone, or only which anchor is in which zone.
    """

    @property
    def name(self) -> str:
        """As in the file of figures."""
        return f"{self.plan}, {self.walk}" + ("" if self.known == "walk" else f", {self.known} only")


SETS = (
    WalkSet("demo-shop", "normal", 6),
    WalkSet("demo-shop", "browsing", 2),
    WalkSet("demo-shop", "standing", 2),
    WalkSet("demo-shop", "border", 4),
    WalkSet("demo-shop", "in-and-out", 3),
    WalkSet("supermarket", "normal", 4),
    WalkSet("supermarket", "standing", 1),
    WalkSet("supermarket", "border", 3),
    WalkSet("demo-shop", "normal", 6, known="positions"),
    WalkSet("demo-shop", "normal", 6, known="anchors"),
    WalkSet("supermarket", "normal", 4, known="positions"),
)


class Stay(NamedTuple):
    """The shopper is in the zone, as announced or in truth, from ``from_ms`` (inclusive) to ``until_ms``."""

    zone: str
    from_ms: float
    until_ms: float


@dataclass(frozen=True, slots=True)
class Told:
    """One shopper's visit: what was announced, and what was so."""

    heard_ms: int
    """When the phone was heard first."""
    announced: tuple[Stay, ...]
    true: tuple[Stay, ...]
    place_at: Callable[[int], Point | None]


@dataclass(frozen=True, slots=True)
class Figures:
    """How well it was told, in the words of ``gateway zone evaluate``, to so many digits as are worth comparing."""

    accuracy: float
    accuracy_1m: float
    wrong_stays: float
    """Share of the announced stays."""
    changes_per_true_change: float | None
    changes_per_10min: float
    enter_delay_s_p50: float | None
    """``None``: so many stays were never announced."""
    enter_delay_s_p95: float | None
    never_entered: float
    """Share of the true stays of 2 s and more."""


WORSE: Mapping[str, float] = {
    "accuracy": -0.02,
    "accuracy_1m": -0.02,
    "wrong_stays": 0.03,
    "changes_per_true_change": 0.1,
    "changes_per_10min": 0.5,
    "enter_delay_s_p50": 1.0,
    "enter_delay_s_p95": 2.0,
    "never_entered": 0.03,
}
"""How far a figure may be from the stored one: accuracy may fall, the others may rise by so much."""


def _shop(plan: str, walk: str, seed: int, shoppers: int) -> StoreInABox:
    return StoreInABox(
        built_in_plan(plan),
        seed=seed,
        shop_seed=SHOP_SEED,
        shoppers=shoppers,
        strangers=STRANGERS,
        start_wall_ms=START_MS,
        store_number=STORE_NUMBER,
        day_start_s=0,
        beacon_uuid=bytes(range(16)),
        arrivals_within_ms=60_000,
        walk=WALKS[walk],
        consent=Consent.OFFERS | Consent.ANALYTICS,
        # The app shows the technician how the walk goes.
        carriage="hand" if walk == "survey" else None,
    )


@cache
def walked(plan: str) -> ZoneModel:
    """What is learnt from a technician's walk through the shop along a marked path."""
    shop = _shop(plan, "survey", SURVEY_SEED, 1)
    lines = (line.encode() for line in sighting_lines(shop))
    return learn(read_recording(lines, "the walk"), plan_of(shop.shop))


def _known(shop: Shop, known: str) -> Shop:
    """The shop as far as the gateway knows it."""
    if known != "anchors":
        return shop
    return Shop(
        {name: replace(zone, polygon=None) for name, zone in shop.zones.items()},
        {name: replace(anchor, at_m=None) for name, anchor in shop.anchors.items()},
    )


def listen(walks: WalkSet) -> list[Told]:
    """Walk one set through a pipeline at default settings."""
    shop = _shop(walks.plan, walks.walk, walks.seed, walks.shoppers)
    last_ms = max(shopper.leaves_ms for shopper in shop.shoppers)
    names, rosters = _rosters(shop, last_ms)
    ids = count()
    pipeline = Pipeline(_known(shop.shop, walks.known), Tuning(time_zone=UTC), lambda: str(next(ids)), Instant(0, START_MS))
    if walks.known == "walk":
        pipeline.use_model(walked(walks.plan))
    for roster in rosters:
        pipeline.use_roster(roster)
    pipeline.tick(Instant(0, START_MS), ClockQuality.SYNCHRONISED)
    announced: dict[str, list[Stay]] = {shopper.name: [] for shopper in shop.shoppers}
    first_ms: dict[str, int] = {}
    for now_ms in range(TICK_MS, last_ms + TICK_MS, TICK_MS):
        for heard in shop.advance(now_ms):
            sender = shop.shopper_of(heard)
            if sender is not None:
                first_ms.setdefault(sender.name, heard.at_ms)
            pipeline.receive(
                heard.receiver, heard.address, heard.rssi_dbm, heard.data, Instant(heard.at_ms, START_MS + heard.at_ms)
            )
        for outcome in pipeline.tick(Instant(now_ms, START_MS + now_ms), ClockQuality.SYNCHRONISED).outcomes:
            _follow(announced, names, outcome.event)
    return [
        Told(
            first_ms[shopper.name],
            tuple(announced[shopper.name]),
            _true_stays(shop.truth, shopper.name),
            partial(shop.true_place, shopper.name),
        )
        for shopper in shop.shoppers
    ]


def _rosters(shop: StoreInABox, last_ms: int) -> tuple[dict[str, str], list[DayRoster]]:
    """Shoppers' names by pseudonym, and a roster of everybody for each day of the run."""
    first, last = (window_of(START_MS // 1000 + s) for s in (-ROSTER_SKEW_S, last_ms // 1000 + ROSTER_SKEW_S))
    windows: dict[int, list[int]] = {}
    for window in range(first, last + 1):
        windows.setdefault(day_of(window, 0), []).append(window)
    names: dict[str, str] = {}
    rosters = []
    for day, of_day in windows.items():
        entries = []
        for shopper in shop.shoppers:
            pseudonym = derive_pseudonym(shopper.ku, STORE_NUMBER, day)
            names[pseudonym.hex()] = shopper.name
            entries.append(RosterEntry(pseudonym, derive_day_key(shopper.ku, STORE_NUMBER, day), shopper.consent))
        rosters.append(DayRoster(day, 1, entries, of_day))
    return names, rosters


def _follow(announced: dict[str, list[Stay]], names: Mapping[str, str], event: object) -> None:
    if isinstance(event, Entered):
        announced[names[event.shopper]].append(Stay(event.zone, event.at.mono_ms, inf))
    elif isinstance(event, Exited):
        stays = announced[names[event.shopper]]
        stays[-1] = stays[-1]._replace(until_ms=event.at.mono_ms)


def _true_stays(truth: Iterable[TrueStay], shopper: str) -> tuple[Stay, ...]:
    return tuple(Stay(stay.zone, stay.entered_ms, stay.left_ms) for stay in truth if stay.shopper == shopper)


def _zone_at(stays: Sequence[Stay], at_ms: float) -> str | None:
    return next((stay.zone for stay in stays if stay.from_ms <= at_ms < stay.until_ms), None)


def _ticks(told: Told) -> list[Tick]:
    """The visit second by second."""
    last_ms = int(max(stay.until_ms for stay in told.true))
    ticks = []
    for at_ms in range(told.heard_ms, last_ms, TICK_OF_SCORE_MS):
        zone, place = _zone_at(told.true, at_ms), told.place_at(at_ms)
        at_m = None if place is None else (place.x, place.y)
        ticks.append(Tick(at_ms, _zone_at(told.announced, at_ms), zone, is_known=True, at_m=at_m))
    return ticks


def evaluate(visits: Iterable[Told], plan: FloorPlan) -> Figures:
    """All visits of a set together."""
    polygons = {area.name: tuple((corner.x, corner.y) for corner in area.polygon) for area in plan.areas}
    scores = pooled(score(_ticks(told), ShopPlan(zones=polygons)) for told in visits)
    return Figures(
        accuracy=_share(scores.right, scores.ticks),
        accuracy_1m=_share(scores.near, scores.near_ticks),
        wrong_stays=_share(scores.wrong_stays, scores.stays),
        changes_per_true_change=round(scores.changes / scores.true_changes, 2) if scores.true_changes else None,
        changes_per_10min=round(600 * scores.changes / scores.seconds, 1),
        enter_delay_s_p50=scores.delay_s(50),
        enter_delay_s_p95=scores.delay_s(95),
        never_entered=_share(scores.never_entered, len(scores.delays_s)),
    )


def _share(part: int, whole: int) -> float:
    return round(part / whole, 3) if whole else 0.0


def worse(figures: Figures, stored: Mapping[str, float | None]) -> list[str]:
    """One line for each figure that is worse than the stored one by more than is allowed."""
    lines = []
    for name, allowed in WORSE.items():
        now, before = asdict(figures)[name], stored[name]
        if before is not None and (now is None or (before - now > -allowed if allowed < 0 else now - before > allowed)):
            lines.append(f"{name} was {before} and is {'for ever' if now is None else now}")
    return lines


def stored() -> dict[str, dict[str, float | None]]:
    """The figures of last time by the set's name."""
    found: dict[str, dict[str, float | None]] = json.loads(STORED.read_text(encoding="utf-8"))
    return found
