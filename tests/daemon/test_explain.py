"""Explanations: what comes out when a decision is made again is what was decided, and it is said in words that can be checked."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.cli.why_text import lines
from gateway.contract.control import ExplainRequest
from gateway.contract.explanations import MAX_DECISIONS, MAX_WITHHELD, Explanation, Explanations, Matching
from gateway.core.conditions import AllOf, AnyOf, Leaf, NotOf, ShopperContext
from gateway.core.model import (
    Anchor,
    AnchorLevel,
    Circumstances,
    ClockQuality,
    Consent,
    Dwelled,
    Entered,
    Evidence,
    Exited,
    Instant,
    Memory,
    OfferMatched,
    Outcome,
    Promotion,
    QuietHours,
    Shop,
    Sighting,
    Step,
    TimeWindow,
    Trigger,
    Verdict,
    VisitEnded,
    VisitStarted,
    WithheldReason,
    Zone,
)
from gateway.core.offers import Catalogue, Held, Offers
from gateway.core.pipeline import Pipeline, Tuning
from gateway.daemon.explain import explain
from gateway.daemon.plain_words import WithheldWords
from gateway.errors import DiskError, TryAgain
from gateway.io.store import Store
from tests.core.phones import BOTH, UNIX_S, WINDOW, Phone, roster_of

BERLIN = ZoneInfo("Europe/Berlin")
MONDAY_1703 = Instant(5_000_000, 1_789_398_180_000)
"""2026-09-14 in Berlin."""
ANNA, BEN = "8a4061daf88a329d", "1122334455667788"
VISIT = "6b1f3c0000000001"
SYNCHRONISED = Circumstances(ClockQuality.SYNCHRONISED)
ZONES = {
    "dairy": Zone("dairy"),
    "wine": Zone("wine", tags=frozenset({"alcohol"})),
    "pharmacy": Zone("pharmacy", sensitive=True, enter_dbm=-80),
}
SHOP = Shop(ZONES, {f"r-{zone}": Anchor(f"r-{zone}", "receiver", zone) for zone in ZONES})
EVIDENCE = Evidence(0.93, "wine", 2.1, (AnchorLevel("r-dairy", -61.0, "receiver"), AnchorLevel("r-wine", -80.0, "receiver")))


def promotion(promotion_id: str, **changes: Any) -> Promotion:
    return replace(Promotion(promotion_id, "offer", frozenset({"dairy"}), frozenset()), **changes)


def at(seconds: float) -> Instant:
    return MONDAY_1703.plus(round(seconds * 1000))


AN_HOUR_LATER = at(3600)


@dataclass
class Gateway:
    """Offers and a database as the daemon has them, and what is asked of them."""

    path: Path
    store: Store
    promotions: tuple[Promotion, ...] = ()
    quiet: QuietHours | None = None
    version: int = 4
    offers: Offers = field(init=False)

    def __post_init__(self) -> None:
        numbers = count(1)
        self.offers = Offers(lambda: f"offer-{next(numbers)}")

    def catalogue(self, moment: Instant = MONDAY_1703) -> Catalogue:
        return Catalogue(self.version, self.promotions, self.quiet, SHOP, BERLIN, moment.wall_ms)

    async def enters(self, *, when: Instant = MONDAY_1703, zone: str = "dairy", visit: str = VISIT, **known: Any) -> Outcome:
        consent, shopper = known.pop("consent", BOTH), known.pop("shopper", ANNA)
        event = Entered(shopper, visit, zone, when, consent, EVIDENCE)
        return await self.decide(event, replace(SYNCHRONISED, **known))

    async def dwells(self, dwell_ms: int, *, when: Instant, entered: Instant = MONDAY_1703) -> Outcome:
        return await self.decide(Dwelled(ANNA, VISIT, "dairy", when, BOTH, entered, dwell_ms, EVIDENCE), SYNCHRONISED)

    async def decide(self, event: Entered | Dwelled, circumstances: Circumstances) -> Outcome:
        outcome = self.offers.match(event, ZONES[event.zone], self.catalogue(event.at), circumstances)
        await self.commit(outcome)
        return outcome

    async def commit(self, *outcomes: Outcome, forgotten: Iterable[str] = ()) -> None:
        step = Step(tuple(outcomes), (), tuple(forgotten))
        await self.store.commit(step, quality=ClockQuality.SYNCHRONISED, wall_ms=MONDAY_1703.wall_ms)

    async def central_says(self, offer: OfferMatched, state: str, reason: str = "", *, after_ms: int = 34) -> None:
        verdict = Verdict(offer.offer, state, reason)  # type: ignore[arg-type]
        self.offers.decide(verdict)
        await self.store.decide([(verdict, offer.at.wall_ms + after_ms)])

    def why(self, *, now: Instant = AN_HOUR_LATER, **wanted: Any) -> Explanations:
        return ask(self.path, self.catalogue(), now=now, **wanted)

    def last(self, **wanted: Any) -> Explanation:
        return self.why(**wanted).decisions[-1]

    def matching(self, **wanted: Any) -> Matching:
        found = self.last(**wanted).matching
        assert found is not None
        return found


def ask(
    path: Path,
    catalogue: Catalogue | None,
    *,
    now: Instant = MONDAY_1703,
    shop: Shop = SHOP,
    time_zone: tzinfo = BERLIN,
    context_of: Callable[[str], tuple[int, ShopperContext] | None] = lambda _: None,
    **wanted: Any,
) -> Explanations:
    request = ExplainRequest.model_validate(wanted)
    known: dict[str, Any] = {"shop": shop, "catalogue": catalogue, "time_zone": time_zone, "context_of": context_of}
    return explain(path, request, **known, now_ms=now.wall_ms)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


@pytest.fixture
async def gateway(path: Path) -> AsyncIterator[Gateway]:
    store = Store(path, quota_mib=64, boot_id="boot-1")
    await store.start()
    try:
        yield Gateway(path, store)
    finally:
        await store.close()


def reasons(found: Matching) -> dict[str, str]:
    return {withheld.promotion_id: f"{withheld.reason.value}: {withheld.detail}" for withheld in found.withheld}


# ---- every reason -------------------------------------------------------------------------------------------------------------

MORNINGS = (TimeWindow(frozenset(range(5)), 7 * 60, 10 * 60), TimeWindow(frozenset({5}), 8 * 60, 24 * 60))
ALWAYS = (TimeWindow(frozenset(range(7)), 0, 1440),)
DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("rule", "known", "expected"),
    [
        pytest.param(
            promotion("a", windows=MORNINGS),
            {},
            "outside_window: Mon–Fri 07:00–10:00, Sat 08:00–24:00; this was Mon 17:03",
            id="outside its hours",
        ),
        pytest.param(
            promotion("a", windows=MORNINGS, effective_from_ms=MONDAY_1703.wall_ms + DAY_MS),
            {},
            "outside_window: begins 2026-09-15 17:03; this was Mon 17:03",
            id="not yet",
        ),
        pytest.param(
            promotion("a", effective_until_ms=MONDAY_1703.wall_ms),
            {},
            "outside_window: ended 2026-09-14 17:03; this was Mon 17:03",
            id="no longer",
        ),
        pytest.param(
            promotion("a"), {"consent": Consent.ANALYTICS}, "no_consent: the shopper has not consented to offers", id="consent"
        ),
        pytest.param(
            promotion("a"),
            {"listen_only": True},
            'listen_only: the gateway only listened (mode = "listen-only")',
            id="listen-only",
        ),
        pytest.param(
            promotion("a"),
            {"zone_is_blind": True},
            "beacon_unhealthy: nobody could be heard in dairy: its receivers were deaf or its beacons silent "
            "(gateway beacon health)",
            id="a zone that has gone deaf",
        ),
        pytest.param(
            promotion("a"),
            {"conflict": True},
            "conflict: the same token was loud in two zones that are far apart: somebody may be repeating it",
            id="conflict",
        ),
        pytest.param(
            promotion("a", zones=frozenset({"pharmacy"})),
            {"zone": "pharmacy", "by_receiver": False},
            "hint_only: sensitive, and no receiver in pharmacy heard the phone at -80 dBm or more; "
            "what the app tells is not enough",
            id="hint only",
        ),
        pytest.param(
            promotion("a", windows=ALWAYS),
            {"quality": ClockQuality.HOLDOVER},
            "clock_holdover: daily, and the gateway's clock was not synchronised at that moment",
            id="holdover",
        ),
    ],
)
async def test_why_an_entry_brought_nothing(gateway: Gateway, rule: Promotion, known: dict[str, Any], expected: str) -> None:
    gateway.promotions = (rule,)
    outcome = await gateway.enters(**known)
    found = gateway.matching()
    assert reasons(found) == {"a": expected}
    assert (found.recomputed, found.disagreement, found.counts) == (True, None, {outcome.withheld[0].reason.value: 1})


async def test_quiet_hours_name_their_hours(gateway: Gateway) -> None:
    gateway.promotions, gateway.quiet = (promotion("a"), promotion("card", kind="info")), QuietHours(17 * 60, 7 * 60)
    await gateway.enters()
    assert reasons(gateway.matching()) == {"a": "quiet_hours: nothing is pushed 17:00–07:00; this was 17:03:00"}
    assert [(offer.promotion_id, offer.push) for offer in gateway.last().offers] == [("a", False), ("card", False)]
    assert [withheld.on_shelf for withheld in gateway.matching().withheld] == [True]


async def test_a_daily_cap_names_the_offer_that_filled_it(gateway: Gateway) -> None:
    gateway.promotions = (promotion("a", kind="info", daily_cap=2),)
    await gateway.enters()
    await gateway.enters(when=at(60))
    await gateway.enters(when=at(120))
    assert reasons(gateway.matching()) == {"a": "cap_day: 2 of 2 today, the last at 17:04:00 (offer offer-2)"}


async def test_a_cool_down_names_its_end_and_its_cause(gateway: Gateway) -> None:
    group = {"kind": "info", "cool_down_ms": 2_520_000, "cool_down_group": "snacks"}
    gateway.promotions = (promotion("crisps", **group, priority=1), promotion("nuts", **group))
    await gateway.enters()
    assert reasons(gateway.matching()) == {
        "nuts": "cool_down: until 17:45:00, since crisps just now (offer offer-1) (group snacks)"
    }
    await gateway.enters(when=at(600))
    assert reasons(gateway.matching()) == {
        "crisps": "cap_day: 1 of 1 today, the last at 17:03:00 (offer offer-1)",
        "nuts": "cool_down: until 17:45:00, since crisps at 17:03:00 (offer offer-1) (group snacks)",
    }


async def test_a_cool_down_past_midnight_names_the_day(gateway: Gateway) -> None:
    gateway.promotions = (promotion("a", kind="info", daily_cap=5, cool_down_ms=8 * 3_600_000),)
    await gateway.enters()
    await gateway.enters(when=at(60))
    assert reasons(gateway.matching()) == {"a": "cool_down: until Tue 01:03:00, since a at 17:03:00 (offer offer-1)"}


async def test_the_visits_one_push_is_traced_to_who_has_it(gateway: Gateway) -> None:
    gateway.promotions = (
        promotion("a", priority=2),
        promotion("b"),
        promotion("c", priority=2),
        promotion("w", zones=frozenset({"wine"})),
    )
    await gateway.enters()
    assert reasons(gateway.matching()) == {
        "b": "lower_priority: a won the one push (priority 2 before 0)",
        "c": "lower_priority: a won the one push (both have priority 2, so the name decided)",
    }
    await gateway.enters(when=at(90), zone="wine")
    assert reasons(gateway.matching()) == {"w": "cap_visit: this visit's push went to a at 17:03:00 (offer offer-1)"}


@pytest.mark.parametrize("reason", sorted(set(WithheldReason) - {WithheldReason.HOLDOUT}))
def test_every_reason_that_an_event_can_give_has_words_of_its_own(reason: WithheldReason) -> None:
    """Also one that is new."""
    event = Entered(ANNA, VISIT, "dairy", MONDAY_1703, BOTH, EVIDENCE)
    words = WithheldWords(event, ZONES["dairy"], QuietHours(0, 60), BERLIN)
    held = Held(1, (MONDAY_1703.mono_ms + 1000, "o"), "o", 1, 1)
    said = words.of(promotion("a", windows=MORNINGS), reason, held, {}, promotion("b"))
    others = {
        words.of(promotion("a", windows=MORNINGS), other, held, {}, promotion("b"))
        for other in set(WithheldReason) - {reason, WithheldReason.HOLDOUT}
    }
    assert said
    assert said not in others


async def test_a_test_shopper_knows_no_caps(gateway: Gateway) -> None:
    gateway.promotions = (promotion("a", cool_down_ms=60_000),)
    for minute in range(3):
        await gateway.enters(when=at(minute), is_test=True)
    found = gateway.last()
    assert (found.test_shopper, [offer.offer for offer in found.offers]) == (True, ["offer-3"])
    assert found.matching is not None
    assert (found.matching.withheld, found.matching.disagreement) == ((), None)


async def test_each_decision_of_one_answer_is_seen_at_its_own_time(gateway: Gateway) -> None:
    evening = (TimeWindow(frozenset({0}), 17 * 60 + 5, 17 * 60 + 10),)
    gateway.promotions = (promotion("a", kind="info", daily_cap=9, windows=evening),)
    for minutes in (0, 4, 8):
        await gateway.enters(when=at(60 * minutes))
    before, inside, after = gateway.why(newest=3).decisions
    assert [len(each.offers) for each in (before, inside, after)] == [0, 1, 0]
    for each in (before, inside, after):
        assert each.matching is not None
        assert each.matching.disagreement is None


async def test_what_was_spent_at_that_moment_counts_and_not_what_came_of_it(gateway: Gateway) -> None:
    """Ten seconds after the second entry central gives the push back; the explanation of that entry must not know it yet."""
    gateway.promotions = (promotion("a"), promotion("w", zones=frozenset({"wine"}), daily_cap=2))
    (offer,) = (await gateway.enters()).offers
    await gateway.enters(when=at(5), zone="wine")
    await gateway.central_says(offer, "refused", "quantity", after_ms=15_000)
    assert reasons(gateway.matching()) == {"w": "cap_visit: this visit's push went to a at 17:03:00 (offer offer-1)"}
    await gateway.enters(when=at(20), zone="wine")
    assert [offer.promotion_id for offer in gateway.last().offers] == ["w"]
    assert gateway.matching().disagreement is None


# ---- when it cannot be said ---------------------------------------------------------------------------------------------------


async def test_another_catalogue_leaves_the_counts(gateway: Gateway) -> None:
    gateway.promotions = (promotion("a", windows=MORNINGS), promotion("b", windows=MORNINGS))
    await gateway.enters()
    gateway.version = 5
    found = gateway.matching()
    assert (found.recomputed, found.withheld, found.counts) == (False, (), {"outside_window": 2})
    assert found.detail == "decided with catalogue 4, and 5 is in force now: only the counts are known"
    without = ask(gateway.path, None).decisions[0].matching
    assert without is not None
    assert without.detail == "decided with catalogue 4, and none is in force now: only the counts are known"


async def test_without_a_catalogue_nothing_could_be_offered(gateway: Gateway) -> None:
    await gateway.commit(Outcome(Entered(ANNA, VISIT, "dairy", MONDAY_1703, BOTH, EVIDENCE)))
    found = gateway.matching()
    assert (found.recomputed, found.catalogue_version, found.counts) == (False, None, {})
    assert found.detail == "no catalogue was in force, so nothing could be offered"


async def test_a_zone_that_is_gone_leaves_the_counts(gateway: Gateway) -> None:
    gateway.promotions = (promotion("a", windows=MORNINGS),)
    await gateway.enters()
    found = ask(gateway.path, gateway.catalogue(), shop=Shop({}, {})).decisions[0].matching
    assert found is not None
    assert (found.recomputed, found.counts) == (False, {"outside_window": 1})
    assert found.detail.startswith("dairy is no zone of the shop any more")


async def test_who_is_erased_leaves_what_was_heard_and_the_counts(gateway: Gateway) -> None:
    gateway.promotions = (promotion("a"), promotion("b"))
    await gateway.enters()
    await gateway.commit(forgotten=[ANNA])
    found = gateway.last()
    assert found.matching is not None
    assert (found.matching.recomputed, found.matching.counts) == (False, {"lower_priority": 1})
    assert found.matching.detail.startswith("the shopper has been erased")
    assert (len(found.heard), found.delivery.state, found.offers[0].delivery.state) == (2, "erased", "erased")
    assert found.stay is not None
    assert found.stay.detail == "for how long is not known any more"


async def test_a_shop_that_was_changed_since_is_admitted(gateway: Gateway) -> None:
    gateway.promotions = (promotion("a", zones=frozenset({"pharmacy"})), promotion("b", zones=frozenset({"pharmacy"})))
    await gateway.enters(zone="pharmacy", by_receiver=False)
    open_shop = Shop({**ZONES, "pharmacy": replace(ZONES["pharmacy"], sensitive=False)}, SHOP.anchors)
    found = ask(gateway.path, gateway.catalogue(), shop=open_shop).decisions[0].matching
    assert found is not None
    assert found.recomputed
    assert found.disagreement == (
        "recomputed 0 hint_only, the ledger says 2; recomputed 1 lower_priority, the ledger says 0; "
        "recomputed a, b as offered, the ledger says nothing. "
        "The shop, the settings or a clock may have been changed since; the ledger is right."
    )


async def test_a_row_of_an_older_version_is_explained_as_far_as_it_goes(gateway: Gateway, path: Path) -> None:
    gateway.promotions = (promotion("a", windows=MORNINGS),)
    event = Entered(ANNA, VISIT, "dairy", MONDAY_1703, BOTH, EVIDENCE)
    outcome = gateway.offers.match(event, ZONES["dairy"], gateway.catalogue(), SYNCHRONISED)
    await gateway.commit(replace(outcome, circumstances=None))
    found = gateway.matching()
    assert (found.recomputed, found.counts) == (False, {"outside_window": 1})
    assert found.detail == "recorded by a version that did not keep the circumstances: only the counts are known"


async def test_there_is_no_ledger_before_the_first_start(tmp_path: Path) -> None:
    with pytest.raises(TryAgain, match="there is no ledger yet"):
        ask(tmp_path / "gateway.db", None)


async def test_a_damaged_row_is_one_sentence(gateway: Gateway) -> None:
    gateway.promotions = (promotion("a"),)
    await gateway.enters()
    await gateway.store._thread.run(lambda db: db.execute("UPDATE ledger SET evidence = '{' || evidence"))
    with pytest.raises(DiskError, match="malformed: row 1 of the ledger"):
        gateway.why()


# ---- the rest of the story ----------------------------------------------------------------------------------------------------


async def test_what_was_heard_and_believed(gateway: Gateway) -> None:
    gateway.promotions = (promotion("a", trigger="dwell", dwell_ms=60_000),)
    await gateway.enters()
    await gateway.dwells(60_000, when=at(60.2))
    entry, dwell = gateway.why(newest=5).decisions
    assert [(h.anchor, h.level_dbm, h.source) for h in entry.heard] == [
        ("r-dairy", -61.0, "receiver"),
        ("r-wine", -80.0, "receiver"),
    ]
    assert dwell.heard == entry.heard
    assert entry.belief is not None
    assert (entry.belief.probability, entry.belief.runner_up, entry.belief.times_likelier) == (0.93, "wine", 8.2)
    assert dwell.stay is not None
    assert dwell.stay.detail == "stayed 60 s by then, since 17:03:00"
    assert (dwell.event, [offer.promotion_id for offer in dwell.offers]) == ("zone.dwelled", ["a"])


async def test_an_entry_tells_how_its_own_stay_ended(gateway: Gateway) -> None:
    """And not how a later one did."""
    for begin, end, reason in ((0, 100, "silence"), (200, 230, "moved")):
        await gateway.enters(when=at(begin))
        left = Exited(ANNA, VISIT, "dairy", at(end + 10), BOTH, at(begin), at(end), reason)  # type: ignore[arg-type]
        await gateway.commit(Outcome(left))
    await gateway.enters(when=at(300))
    first, second, third = (decision.stay for decision in gateway.why(newest=9).decisions)
    assert first is not None
    assert second is not None
    assert third is not None
    assert first.detail == "stayed 100 s, then left (silence): not heard any more for the zone's exit delay"
    assert (first.stayed_s, first.exit_reason, second.stayed_s, second.exit_reason) == (100.0, "silence", 30.0, "moved")
    assert (third.exit_reason, third.detail) == (None, "has not left since")


@pytest.mark.parametrize(
    ("answers", "now_s", "expected"),
    [
        pytest.param([], 10, "no answer yet; waits until 17:03:30", id="waiting"),
        pytest.param(
            [], 60, "no answer was taken before the deadline, 17:03:30; the gateway has not run since", id="stopped meanwhile"
        ),
        pytest.param([("granted", "", 34)], 60, "granted after 34 ms", id="granted"),
        pytest.param(
            [("late", "late", 30_100), ("granted", "", 31_000)],
            60,
            "granted after 31.0 s, which the gateway learnt after the deadline, 17:03:30",
            id="granted too late to know",
        ),
        pytest.param(
            [("refused", "quantity", 1500)],
            60,
            "refused after 1.5 s: quantity, none is left; push and cap are given back",
            id="refused",
        ),
        pytest.param(
            [("refused", "push_spent", 5)],
            60,
            "refused after 5 ms: push_spent, this visit has had its push; push and cap stay spent",
            id="refused and spent",
        ),
        pytest.param(
            [("late", "late", 30_100)],
            60,
            "late: no grant came by the deadline, 17:03:30; push and cap stay spent",
            id="late",
        ),
        pytest.param(
            [("late", "late", 30_100), ("refused", "quantity", 31_000)],
            60,
            "late: no grant came by the deadline, 17:03:30; push and cap stay spent; refused afterwards: quantity, none is left",
            id="late and then refused",
        ),
    ],
)
async def test_what_central_answered(gateway: Gateway, answers: list[tuple[str, str, int]], now_s: int, expected: str) -> None:
    gateway.promotions = (promotion("a"),)
    (offer,) = (await gateway.enters()).offers
    for state, reason, after_ms in answers:
        await gateway.central_says(offer, state, reason, after_ms=after_ms)
    (told,) = gateway.last(now=at(now_s)).offers
    assert told.detail == expected
    assert told.inbox is None


async def test_what_waits_for_central_is_named_until_it_is_acknowledged(gateway: Gateway) -> None:
    gateway.promotions = (promotion("a"), promotion("card", kind="info"))
    await gateway.enters()
    epoch = gateway.store.epoch
    waiting = gateway.last(now=at(12))
    assert (waiting.delivery.state, waiting.delivery.event) == ("waiting", f"{epoch}-1")
    assert waiting.delivery.detail == f"not acknowledged by central for 12.0 s (event {epoch}-1)"
    assert [offer.delivery.event for offer in waiting.offers] == [f"{epoch}-2", f"{epoch}-3"]
    await gateway.store.acknowledged(2)
    told = gateway.last()
    assert (told.delivery.state, told.delivery.event) == ("acknowledged", None)
    assert [offer.delivery.state for offer in told.offers] == ["acknowledged", "waiting"]
    await gateway.store.acknowledged(3)
    assert gateway.last().offers[1].delivery.state == "acknowledged"


async def test_without_consent_to_statistics_only_the_offer_is_told(gateway: Gateway) -> None:
    gateway.promotions = (promotion("a"),)
    await gateway.enters(consent=Consent.OFFERS)
    found = gateway.last()
    assert (found.delivery.state, found.offers[0].delivery.state) == ("not_told", "waiting")


# ---- which decisions ----------------------------------------------------------------------------------------------------------


async def a_visit(gateway: Gateway) -> None:
    """Rows: 1 started, 2 entered dairy, 3 dwelled there for nothing, 4 exited, 5 entered wine, 6 dwelled (withheld), 7 ended."""
    gateway.promotions = (promotion("w", zones=frozenset({"wine"}), trigger="dwell", dwell_ms=60_000, windows=MORNINGS),)
    await gateway.commit(Outcome(VisitStarted(ANNA, VISIT, at(0), BOTH)))
    await gateway.enters()
    await gateway.dwells(60_000, when=at(60))
    await gateway.commit(Outcome(Exited(ANNA, VISIT, "dairy", at(90), BOTH, at(0), at(85), "moved")))
    await gateway.enters(when=at(90), zone="wine")
    dwelled = Dwelled(ANNA, VISIT, "wine", at(150), BOTH, at(90), 60_000, EVIDENCE)
    await gateway.decide(dwelled, SYNCHRONISED)
    await gateway.commit(Outcome(VisitEnded(ANNA, VISIT, at(2000), BOTH, at(0), at(200), 2)))


@pytest.mark.parametrize(
    ("wanted", "rows", "left_out"),
    [
        pytest.param({}, [6], True, id="the last"),
        pytest.param({"newest": 2}, [5, 6], True, id="the last two"),
        pytest.param({"newest": 100}, [2, 5, 6], False, id="all decisions"),
        pytest.param({"newest": 100, "every_event": True}, [1, 2, 3, 4, 5, 6, 7], False, id="everything"),
        pytest.param({"newest": 7, "every_event": True, "zone": "dairy"}, [2, 3, 4], False, id="of a zone"),
        pytest.param({"newest": 9, "since_s": 3600 - 90}, [5, 6], False, id="since then, inclusive"),
        pytest.param({"newest": 9, "since_s": 3600 - 91}, [6], False, id="since shortly after"),
        pytest.param({"zone": "cellar"}, [], False, id="a zone where nothing was"),
        pytest.param({"decision": "d3"}, [3], False, id="by id, whatever it is"),
        pytest.param({"decision": "d99"}, [], False, id="by an id that does not exist"),
        pytest.param({"decision": "0123456789abcdef-d3"}, [], False, id="by an id of another database"),
        pytest.param({"offer": "offer-1"}, [], False, id="by an offer that was never made"),
    ],
)
async def test_which_decisions_are_explained(gateway: Gateway, wanted: dict[str, Any], rows: list[int], left_out: bool) -> None:
    await a_visit(gateway)
    found = gateway.why(**wanted)
    prefix = gateway.store.epoch[:8]
    assert [decision.decision for decision in found.decisions] == [f"{prefix}-d{row}" for row in rows]
    assert (found.left_out, found.epoch) == (left_out, gateway.store.epoch)


async def test_a_decision_is_found_by_its_offer_and_by_its_whole_id(gateway: Gateway) -> None:
    gateway.promotions = (promotion("a"),)
    await gateway.enters()
    await gateway.enters(when=at(30), shopper=BEN, visit="b")
    (found,) = gateway.why(offer="offer-1").decisions
    assert found.offers[0].offer == "offer-1"
    assert gateway.why(decision=found.decision).decisions == (found,)


async def test_no_pseudonym_is_in_an_explanation(gateway: Gateway) -> None:
    await a_visit(gateway)
    gateway.promotions += (promotion("a"),)
    await gateway.enters(when=at(300), shopper=BEN, visit="b")
    text = gateway.why(newest=100, every_event=True).model_dump_json()
    assert ANNA not in text
    assert BEN not in text
    assert VISIT in text


async def test_a_zone_full_of_promotions_is_cut_and_its_counts_are_not(gateway: Gateway) -> None:
    gateway.promotions = tuple(promotion(f"p{number:03d}", windows=MORNINGS) for number in range(MAX_WITHHELD + 50))
    await gateway.enters()
    found = gateway.matching()
    assert (len(found.withheld), found.counts, found.disagreement) == (MAX_WITHHELD, {"outside_window": MAX_WITHHELD + 50}, None)


async def test_nothing_is_written_and_the_daemon_may_write_meanwhile(gateway: Gateway, path: Path) -> None:
    gateway.promotions = (promotion("a"),)
    await gateway.enters()
    before = await gateway.store._thread.run(lambda db: db.execute("PRAGMA data_version").fetchone())
    asked = asyncio.create_task(asyncio.to_thread(gateway.why))
    await gateway.enters(when=at(60))
    assert (await asked).decisions
    assert await gateway.store._thread.run(lambda db: db.execute("PRAGMA data_version").fetchone()) == before


# ---- what was known of the shopper --------------------------------------------------------------------------------------------

FAMILY = AllOf((Leaf("visits_30_days", "at_least", 5), NotOf(Leaf("segments", "contains", "staff"))))
KNOWN = ShopperContext(segments=frozenset({"family"}), visits_30_days=3)


async def asked_with(
    gateway: Gateway, context_of: Callable[[str], tuple[int, ShopperContext] | None]
) -> tuple[Explanation, list[str]]:
    gateway.promotions = (
        promotion("everybody", priority=1),
        promotion("regulars", audience=FAMILY),
        promotion("fifth", trigger="nth_visit", visit_number=5),
        promotion("card", kind="info", audience=Leaf("segments", "contains", "family")),
        promotion("evening", audience=Leaf("local_time", "less_than", 17 * 60)),
    )
    event = Entered(ANNA, VISIT, "dairy", MONDAY_1703, BOTH, EVIDENCE, is_first=True)
    outcome = gateway.offers.match(event, ZONES["dairy"], gateway.catalogue(), SYNCHRONISED, KNOWN)
    outcome.context_version = 7
    await gateway.commit(outcome)
    answer = ask(gateway.path, gateway.catalogue(), now=AN_HOUR_LATER, context_of=context_of)
    return answer.decisions[0], [line.partition("  ")[2] for line in lines(answer, BERLIN)]


async def test_every_leaf_of_an_audience_is_told_with_its_value(gateway: Gateway) -> None:
    decision, said = await asked_with(gateway, lambda shopper: (7, KNOWN) if shopper == ANNA else None)
    assert decision.matching is not None
    assert (decision.matching.disagreement, decision.matching.context_not_kept) == (None, ())
    assert [line.strip() for line in said if "audience" in line or line.strip().startswith("withheld")] == [
        "audience segments contains family: family, holds",
        "withheld   evening, audience: the shopper is not in its audience",
        "audience local_time less_than 17:00: 17:03, does not hold",
        "withheld   fifth, not_nth_visit: only with visit 5 within 30 days",
        "audience visit_number: visit_number equals 5: 4, does not hold",
        "withheld   regulars, audience: the shopper is not in its audience",
        "audience all.0: visits_30_days at_least 5: 3, does not hold",
        "audience all.1.not: segments contains staff: family, does not hold",
    ]


@pytest.mark.parametrize(
    "context_of",
    [
        pytest.param(lambda _: None, id="the gateway was restarted, or she has gone"),
        pytest.param(lambda _: (8, ShopperContext()), id="something has changed since"),
    ],
)
async def test_a_context_that_is_not_kept_is_admitted(
    gateway: Gateway, context_of: Callable[[str], tuple[int, ShopperContext] | None]
) -> None:
    decision, said = await asked_with(gateway, context_of)
    assert decision.matching is not None
    assert decision.matching.disagreement is None
    assert decision.matching.context_not_kept == ("fifth", "regulars")
    assert reasons(decision.matching) == {"evening": "audience: the shopper is not in its audience"}
    assert [offer.promotion_id for offer in decision.offers] == ["everybody", "card"]
    assert any("regulars: context not kept, so only the counts tell why" in line for line in said)
    assert any("all that was withheld: 2 audience, 1 not_nth_visit" in line for line in said)
    assert not any("family" in line for line in said)


async def test_what_was_known_of_a_shopper_is_in_no_file(gateway: Gateway) -> None:
    secret = ShopperContext(segments=frozenset({"a-segment-that-nobody-else-has"}), visits_30_days=3)
    await asked_with(gateway, lambda _: (7, secret))
    written = b"".join(path.read_bytes() for path in gateway.path.parent.iterdir())
    assert b"evening" not in written, "of what was withheld there are counts only"
    assert b"regulars" not in written
    assert b"a-segment-that-nobody-else-has" not in written


# ---- any history --------------------------------------------------------------------------------------------------------------

PHONES = (Phone(1), Phone(2))
DAY = PHONES[0].day(WINDOW)
NAMES = [phone.name(DAY) for phone in PHONES]
BEGIN = Instant(7_000_000, UNIX_S * 1000)
MINUTE = BEGIN.wall_ms // 60_000 % 1440
"""Of the day in UTC."""
STEP_MS = 700
"""Two beliefs this far apart are an entry."""
FLOOR = {zone: replace(ZONES[zone], exit_delay_ms=20_000) for zone in ZONES}
FLOOR_SHOP = Shop(
    FLOOR,
    {f"r-{zone}": Anchor(f"r-{zone}", "receiver", zone) for zone in FLOOR}
    | {
        f"b-{zone}": Anchor(f"b-{zone}", "beacon", zone, uuid=bytes(16), major=1, minor=n)
        for n, zone in enumerate(FLOOR, start=1)
    },
)


class World:
    """A pipeline, its database and time; everything it decides is noted beside them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now = BEGIN
        self.quality = ClockQuality.SYNCHRONISED
        self.version = 0
        self.roster_version = 1
        self.contexts = 0
        """The version of the last."""
        self.rules: tuple[tuple[Promotion, ...], QuietHours | None] = ((), None)
        self.outcomes: list[Outcome] = []
        self.erased: set[tuple[str, int]] = set()
        self.open: list[OfferMatched] = []
        numbers = count(1)
        self._new_id: Callable[[], str] = lambda: f"id-{next(numbers)}"
        self.present = set(NAMES)
        self.pipeline = self._pipeline()

    def _pipeline(self) -> Pipeline:
        pipeline = Pipeline(FLOOR_SHOP, Tuning(UTC, visit_gap_ms=60_000), self._new_id, self.now)
        windows = pipeline.identity.windows_around(self.now.wall_ms, DAY)
        known = [phone for phone in PHONES if phone.name(DAY) in self.present]
        pipeline.use_roster(roster_of(known, DAY, windows, version=self.roster_version))
        if self.version:
            pipeline.use_catalogue(pipeline.compile_catalogue(self.version, *self.rules, self.now.wall_ms))
        return pipeline

    async def tick(self, duration_ms: int = STEP_MS) -> None:
        self.now = self.now.plus(duration_ms)
        step = self.pipeline.tick(self.now, self.quality)
        for rest in step.rests:
            (index,) = (n for n, known in enumerate(self.outcomes) if known.event is rest.event)
            self.outcomes[index] = replace(rest, offers=(*self.outcomes[index].offers, *rest.offers))
            # The row tells of the catalogue that decided last.
        self.outcomes += step.outcomes
        self.open += [offer for outcome in (*step.rests, *step.outcomes) for offer in outcome.offers]
        self.erased |= {(name, len(self.outcomes)) for name in step.forgotten}
        await self.store.commit(step, quality=self.quality, wall_ms=self.now.wall_ms)

    async def use(self, promotions: tuple[Promotion, ...], quiet: QuietHours | None) -> None:
        self.version, self.rules = self.version + 1, (promotions, quiet)
        self.pipeline.use_catalogue(self.pipeline.compile_catalogue(self.version, promotions, quiet, self.now.wall_ms))

    async def walk(self, who: int, zone: str, source: str, steps: int) -> None:
        kind = "receiver" if source == "receiver" else "beacon"
        for _ in range(steps):
            for anchor in FLOOR_SHOP.anchors.values():
                if anchor.kind == kind:
                    dbm = -55.0 if anchor.zone == zone else -85.0
                    self.pipeline.report(Sighting(NAMES[who], anchor.name, dbm, self.now, source), BOTH)  # type: ignore[arg-type]
            await self.tick()

    async def wait(self, seconds: int) -> None:
        await self.tick(seconds * 1000)

    async def answer(self, state: str, reason: str, after_ms: int) -> None:
        """Central's, to the oldest offer that it has not answered; between two ticks."""
        if not self.open:
            return
        offer = self.open.pop(0)
        self.now = self.now.plus(after_ms)
        verdict = Verdict(offer.offer, state, reason)  # type: ignore[arg-type]
        self.pipeline.decide(verdict)
        await self.store.decide([(verdict, self.now.wall_ms)])
        self.now = self.now.plus(1)

    async def restart(self) -> None:
        self.pipeline = self._pipeline()
        memory: Memory = await self.store.recall(self.now.wall_ms)
        self.pipeline.remember(memory, self.now)
        await self.tick()

    async def tell(self, who: int, context: ShopperContext) -> None:
        """A newer context of the shopper; with the next tick it decides what waits for it."""
        self.contexts += 1
        self.pipeline.use_context(NAMES[who], self.contexts, context, self.now)
        await self.tick(1)

    async def clock_is(self, quality: ClockQuality) -> None:
        self.quality = quality

    async def opt(self, who: int) -> None:
        """Out, or in again."""
        self.roster_version += 1
        name = NAMES[who]
        if name in self.present:
            self.present.discard(name)
            self.pipeline.apply_roster_delta(DAY, self.roster_version, [], [name])
        else:
            self.present.add(name)
            self.pipeline.apply_roster_delta(DAY, self.roster_version, [PHONES[who].entry(DAY)], [])
        await self.tick()

    def is_erased(self, index: int) -> bool:
        """Whether the shopper of this outcome has been erased since."""
        return any(name == self.outcomes[index].event.shopper and index < before for name, before in self.erased)


_zones = st.sampled_from(sorted(FLOOR))
_windows = st.builds(
    lambda start, length: TimeWindow(frozenset(range(7)), (MINUTE + start) % 1440, (MINUTE + start + length) % 1440),
    st.integers(-5, 3),
    st.integers(1, 6),
)


_triggers: st.SearchStrategy[Trigger] = st.sampled_from(["enter", "enter", "dwell", "exit", "visit_start", "nth_visit"])
_audiences = st.sampled_from(
    [
        None,
        None,
        Leaf("segments", "contains", "family"),
        NotOf(Leaf("segments", "contains", "family")),
        Leaf("local_time", "at_least", MINUTE + 2),
        AnyOf((Leaf("dwell_s", "at_least", 2), Leaf("visits_30_days", "at_least", 4))),
    ]
)
_contexts = st.builds(
    ShopperContext,
    segments=st.sampled_from([frozenset[str](), frozenset({"family"})]),
    visits_30_days=st.integers(3, 5),
    muted_categories=st.sampled_from([frozenset[str](), frozenset({"sweets"})]),
    stopped=st.sampled_from([False, False, False, True]),
)


@st.composite
def _promotions(draw: st.DrawFn) -> tuple[Promotion, ...]:
    return tuple(
        Promotion(
            f"p{number}",
            draw(st.sampled_from(["offer", "info", "pickup", "coupon"])),
            draw(st.frozensets(_zones, min_size=1)),
            frozenset(),
            trigger=trigger,
            dwell_ms=2_000 if trigger == "dwell" else 0,
            visit_number=4 if trigger == "nth_visit" else None,
            audience=draw(_audiences),
            category=draw(st.sampled_from([None, "sweets"])),
            visit_cap=draw(st.sampled_from([None, 1])),
            store_cap_day=draw(st.sampled_from([None, None, 2])),
            priority=draw(st.integers(0, 2)),
            windows=tuple(draw(st.lists(_windows, max_size=1))),
            daily_cap=draw(st.integers(1, 3)),
            cool_down_ms=draw(st.sampled_from([0, 10_000, 90_000])),
            cool_down_group=draw(st.sampled_from(["", "g"])),
            deadline_ms=draw(st.sampled_from([1_000, 5_000, 60_000])),
            sensitive=draw(st.booleans()),
        )
        for number in range(draw(st.integers(1, 6)))
        for trigger in [draw(_triggers)]
    )


_catalogues = st.tuples(
    st.just("use"),
    _promotions(),
    st.none() | st.integers(0, 3).map(lambda m: QuietHours((MINUTE + m) % 1440, (MINUTE + 5) % 1440)),
)
_refusals = st.sampled_from(["late", "already_granted", "push_spent", "quantity", "out_of_date", "holdout"])
_actions = st.one_of(
    st.tuples(st.just("walk"), st.integers(0, 1), _zones, st.sampled_from(["receiver", "receiver", "hint"]), st.integers(2, 7)),
    st.tuples(st.just("walk"), st.integers(0, 1), _zones, st.just("receiver"), st.just(3)),
    st.tuples(st.just("wait"), st.integers(1, 40)),
    st.tuples(st.just("answer"), st.just("refused"), _refusals, st.integers(1, 7_000)),
    st.tuples(st.just("answer"), st.just("granted"), st.just(""), st.integers(1, 500)),
    st.tuples(st.just("restart")),
    st.tuples(st.just("tell"), st.integers(0, 1), _contexts),
    st.tuples(st.just("tell"), st.just(0), _contexts),
    st.tuples(st.just("clock_is"), st.sampled_from([ClockQuality.SYNCHRONISED, ClockQuality.HOLDOVER])),
    st.tuples(st.just("opt"), st.integers(0, 1)),
    _catalogues,
)


async def live(path: Path, history: list[tuple[Any, ...]]) -> World:
    store = Store(path, quota_mib=64, boot_id="boot-1")
    await store.start()
    try:
        world = World(store)
        for name, *arguments in history:
            await getattr(world, name)(*arguments)
    finally:
        await store.close()
    return world


_BACK_AND_FORTH = [("walk", 0, zone, "receiver", 8) for zone in ("dairy", "wine", "dairy", "wine")]
_RULES = (
    promotion("cards", kind="info"),
    promotion("slow", kind="info", cool_down_ms=90_000, daily_cap=5),
    promotion("first", priority=1),
    promotion("second"),
    promotion("third", zones=frozenset({"wine"})),
)
RICH: tuple[tuple[Any, ...], list[tuple[Any, ...]]] = (
    ("use", _RULES, None),
    [*_BACK_AND_FORTH, ("answer", "refused", "quantity", 70), *_BACK_AND_FORTH, ("restart",), ("wait", 90), *_BACK_AND_FORTH],
)


def test_such_histories_are_rich_enough_to_find_mistakes(tmp_path: Path) -> None:
    world = asyncio.run(live(tmp_path / "gateway.db", [RICH[0], *RICH[1]]))
    found = {withheld.reason for outcome in world.outcomes for withheld in outcome.withheld}
    spent = {WithheldReason.CAP_DAY, WithheldReason.COOL_DOWN, WithheldReason.CAP_VISIT, WithheldReason.LOWER_PRIORITY}
    assert found == spent
    again = [told.matching.recomputed for told in explained(tmp_path / "gateway.db", world) if told.matching is not None]
    assert len(again) >= 8
    assert all(again)


TOO_LATE: tuple[tuple[Any, ...], list[tuple[Any, ...]]] = (
    (
        "use",
        (
            promotion("first", deadline_ms=1000),
            promotion(
                "second",
                zones=frozenset({"dairy", "pharmacy"}),
                audience=NotOf(Leaf("segments", "contains", "family")),
                deadline_ms=1000,
            ),
        ),
        None,
    ),
    [
        ("walk", 0, "dairy", "receiver", 2),
        ("walk", 1, "dairy", "receiver", 3),
        ("walk", 0, "pharmacy", "receiver", 3),
        ("answer", "refused", "late", 299),
        ("tell", 0, ShopperContext(visits_30_days=3)),
    ],
)
"""What central knows of the shopper comes after the deadline of a promotion that waited for it."""


@example(*RICH)
@example(*TOO_LATE)
@settings(max_examples=40, deadline=None)
@given(first=_catalogues, history=st.lists(_actions, min_size=5, max_size=25))
def test_a_decision_made_again_is_the_one_that_was_made(first: tuple[Any, ...], history: list[tuple[Any, ...]]) -> None:
    """Whatever happened: entries, dwells, answers in time and late, restarts, other catalogues, opt-outs."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "gateway.db"
        world = asyncio.run(live(path, [first, *history]))
        known = explained(path, world)
    for index, (outcome, told) in enumerate(zip(world.outcomes, known, strict=True)):
        assert (told.time, told.visit) == (outcome.event.at.wall_ms, outcome.event.visit)
        assert [offer.offer for offer in told.offers] == [offer.offer for offer in outcome.offers]
        if not isinstance(outcome.event, Entered | Dwelled) and outcome.circumstances is None:
            assert told.matching is None
            continue
        assert told.matching is not None
        if outcome.catalogue_version is not None and outcome.catalogue_version == world.version and not world.is_erased(index):
            assert told.matching.disagreement is None
            not_kept = told.matching.context_not_kept
            assert [(w.promotion_id, w.reason) for w in told.matching.withheld] == [
                (w.promotion_id, w.reason) for w in outcome.withheld if w.promotion_id not in not_kept
            ]
            assert {*not_kept} <= {w.promotion_id for w in outcome.withheld}
            held = world.pipeline.context_of(outcome.event.shopper)
            if outcome.context_version is None or (held is not None and held[0] == outcome.context_version):
                assert not_kept == ()
            assert told.matching.recomputed
            assert all(re.search(r"\w", withheld.detail) for withheld in told.matching.withheld)
        else:
            assert not told.matching.recomputed


def explained(path: Path, world: World) -> list[Explanation]:
    """One explanation for each outcome, in order; all in one answer where that is allowed."""
    rows = len(world.outcomes)
    known: dict[str, Any] = {"now": world.now, "shop": FLOOR_SHOP, "time_zone": UTC, "context_of": world.pipeline.context_of}
    if rows <= MAX_DECISIONS:
        every = ask(path, world.pipeline.catalogue, **known, newest=max(1, rows), every_event=True)
        assert not every.left_out
        return list(every.decisions)
    answers = [ask(path, world.pipeline.catalogue, **known, decision=f"d{row}") for row in range(1, rows + 1)]
    return [explanation for answer in answers for explanation in answer.decisions]
