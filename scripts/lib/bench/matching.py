"""Which promotion for this event: what an entry costs in a small and in a very large catalogue."""

from datetime import UTC

from bench import scene
from bench.figures import Effort, Figure, cpu_us, median
from gateway.core.conditions import AllOf, Condition, Leaf, NotOf, ShopperContext
from gateway.core.model import Circumstances, ClockQuality, Consent, Entered, Evidence, Instant, Promotion, TimeWindow
from gateway.core.offers import Catalogue, Offers
from gateway.io.memory import shorten_pauses

_ZONES = 1000
_NOW = Instant(1_000_000, 1_790_000_000_000)
"""A Monday."""
_SUNDAY_NIGHT = TimeWindow(frozenset({6}), 0, 1)
_REGULARS = AllOf((Leaf("visits_30_days", "at_least", 5), NotOf(Leaf("segments", "contains", "staff"))))
_KNOWN = ShopperContext(segments=frozenset({"family", "regular"}), visits_30_days=7)
_VISIT = 20
"""Zones that one shopper enters."""
_TIMES = 5
"""How often each of them."""


def measure(effort: Effort) -> list[Figure]:
    """Two sizes of catalogue, and a zone with many in force at once."""
    shoppers = max(10, round(100 * effort.size))
    sizes = {count: _catalogue(count) for count in (1000, 100_000)}
    crowded = None if effort.only_limited else _catalogue(100_000, in_force=50)
    personal = None if effort.only_limited else _catalogue(100_000, audience=_REGULARS)
    took: dict[int, list[float]] = {count: [] for count in sizes}
    many: list[float] = []
    meant: list[float] = []
    for _ in range(effort.rounds):
        for count, catalogue in sizes.items():
            took[count].append(_match(catalogue, shoppers))
        if crowded is not None and personal is not None:
            many.append(_match(crowded, max(2, shoppers // 10)))
            meant.append(_match(personal, shoppers))
    means = (
        "CPU time of Offers.match for one entry; 1,000 zones, each with one promotion in force and {} that are not; a shopper "
        "walks through 20 zones five times, and is not the first there: of 100 entries one brings the visit's push and ten a "
        "card for the silent shelf, for the others the reason is found why not"
    )
    limited = [
        Figure("match_us_1000", "µs", median(took[1000]), 2.0, means=means.format("none")),
        Figure(
            "match_us_100000",
            "µs",
            median(took[100_000]),
            2.0,
            means=means.format(99),
            beside=f"match_us_1000 {median(took[1000]):.2f}",
        ),
    ]
    if effort.only_limited:
        return limited
    return [
        *limited,
        Figure(
            "match_us_50_in_force",
            "µs",
            median(many),
            means="as before with 50 of the 100 in force, each of which gets its reason",
        ),
        Figure(
            "match_us_audience",
            "µs",
            median(meant),
            means="as match_us_100000, whose audience was here five times within 30 days and is no staff",
        ),
    ]


def _catalogue(count: int, in_force: int = 1, audience: Condition | None = None) -> Catalogue:
    promotions = [
        Promotion(
            f"promotion-{index}",
            "offer",
            frozenset({f"zone-{index % _ZONES}"}),
            frozenset(),
            priority=index % 7,
            windows=() if index // _ZONES < in_force else (_SUNDAY_NIGHT,),
            audience=audience,
        )
        for index in range(count)
    ]
    return Catalogue(1, promotions, None, scene.shop(_ZONES), UTC, _NOW.wall_ms)


def _match(catalogue: Catalogue, shoppers: int) -> float:
    zones = scene.shop(_ZONES).zones
    ids = iter(range(1, 1 << 62))
    offers = Offers(lambda: f"{next(ids):016x}")
    circumstances = Circumstances(ClockQuality.SYNCHRONISED)
    evidence = Evidence(0.9, None, 2.0, ())
    calls = [
        (Entered(f"shopper-{number}", f"visit-{number}", zone, _NOW, Consent.OFFERS, evidence), zones[zone])
        for number in range(shoppers)
        for _ in range(_TIMES)
        for zone in (f"zone-{(number * _VISIT + step) % _ZONES}" for step in range(_VISIT))
    ]
    # A zone's rules are put in order when somebody enters it for the first time after one of its windows opened or closed.
    before = Offers(lambda: "0")
    for name, zone in zones.items():
        before.match(Entered("nobody", "visit", name, _NOW, Consent.OFFERS, evidence), zone, catalogue, circumstances)
    # As in a running gateway, whose collector leaves the catalogue alone.
    shorten_pauses()

    def work() -> None:
        for event, zone in calls:
            offers.match(event, zone, catalogue, circumstances, _KNOWN)

    return cpu_us(work, len(calls))
