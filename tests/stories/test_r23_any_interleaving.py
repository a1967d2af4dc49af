"""R23 in any order of events: the core's offers and central's decisions against a tiny model that only keeps what was granted.

::

    enter, dwell, leave ──▶ Offers of the deciding gateway ──▶ under way ──▶ central's decide ──▶ under way ──▶ Offers.decide
             ▲                        │  ▲                                       │
        time, clock jumps         its ledger │ kill, restart, takeover            ▼
                                       └─────┘                               the model: every grant, and what it must not break

Messages may be delayed, repeated and overtaken; a gateway may die at any moment and knows afterwards what its database kept.

Central is asked for everything again, so that its grants alone would not tell whether a gateway keeps measure. Each gateway is
therefore held to what it has proposed itself, and to what it must remember of it: no more, and no less.
"""

import hashlib
import json
import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.central import reactions, records, visits
from gateway.central.contexts import Desk
from gateway.central.deciding import decide
from gateway.central.records import CENTRAL
from gateway.contract.messages import OfferMatchedData
from gateway.contract.promotions import Promotion
from gateway.contract.settings import CentralStore
from gateway.core.conditions import ShopperContext
from gateway.core.model import (
    LASTING,
    PUSH_KINDS,
    STILL_SPENT,
    Circumstances,
    ClockQuality,
    Consent,
    Dwelled,
    Entered,
    Evidence,
    Exited,
    Instant,
    OfferMatched,
    PastOffer,
    QuietHours,
    StoreCount,
    Verdict,
    Zone,
)
from gateway.core.model import Shop as CoreShop
from gateway.core.offers import Catalogue, Matchable, Offers
from gateway.core.timetable import is_quiet
from gateway.io.signing import Signer
from gateway.io.store.database import open_database

pytestmark = pytest.mark.timeout(400)
STORE = "demo"
BERLIN = ZoneInfo("Europe/Berlin")
NOON_MS = 1_789_380_000_000
"""2026-09-14 12:00 in Berlin."""
QUIET = QuietHours(12 * 60 + 20, 12 * 60 + 50)
SETTINGS = CentralStore.model_validate({"store_number": 4711, "quiet_hours": {"start": "12:20", "end": "12:50"}})
DAY_MS, GAP_MS, RING_MS = 86_400_000, 1_800_000, 60_000
PEOPLE = ("anna", "ben")
BOTH = Consent.OFFERS | Consent.ANALYTICS
EVIDENCE = Evidence(0.9, None, 2.0, ())
SHOP = CoreShop({name: Zone(name) for name in ("bakery", "dairy")}, {})


def offer_rule(promotion_id: str, **more: Any) -> Promotion:
    return Promotion.model_validate({"promotion_id": promotion_id, "long_title": {"en": promotion_id}, "deadline_s": 60, **more})


SWEET = {"cool_down_s": 600, "cool_down_group": "sweet"}
RULES = (
    offer_rule("cake", zones=["bakery"], daily_cap=1, priority=5, **SWEET),
    offer_rule("bread", zones=["bakery"], daily_cap=2, store_cap_day=2),
    offer_rule("pudding", kind="coupon", zones=["dairy"], daily_cap=2, weekly_cap=2, **SWEET),
    offer_rule("tasting", zones=["dairy"], trigger="dwell", dwell_s=60, daily_cap=2, quantity=2),
    offer_rule("goodbye", kind="reminder", zones=["bakery", "dairy"], trigger="exit", daily_cap=3, category="farewell"),
    offer_rule("help", kind="service", zones=["dairy"], daily_cap=3),
    # Of these each has one limit that is met long before any other, and none waits for a push.
    offer_rule("card-day", kind="info", zones=["bakery", "dairy"], daily_cap=1),
    offer_rule("card-visit", kind="info", zones=["bakery"], daily_cap=9, visit_cap=1),
    offer_rule("card-week", kind="info", zones=["bakery"], daily_cap=1, weekly_cap=1),
    offer_rule("card-ever", kind="info", zones=["dairy"], daily_cap=1, lifetime_cap=1),
    offer_rule("card-store", kind="info", zones=["dairy"], daily_cap=9, store_cap_day=1),
    offer_rule("card-chain", kind="info", zones=["bakery"], daily_cap=9, chain_cap_day=1),
    offer_rule("card-piece", kind="info", zones=["dairy"], daily_cap=9, quantity=1),
    offer_rule("card-cool", kind="info", zones=["bakery", "dairy"], daily_cap=9, cool_down_s=600),
)
BY_ID = {each.promotion_id: each for each in RULES}
COMPILED = tuple(each.compiled() for each in RULES)


_NOBODY = ""
"""Whose offers the ledger still counts after an opt-out."""
USUALLY = st.sampled_from([True, True, True, False])
ZONES = st.sampled_from(["bakery", "dairy"])
FIRST_ZONES = st.tuples(ZONES, ZONES)
AFTER_NOON = st.sampled_from([0, 0, 19, 25])
"""When the first come in, in minutes: before quiet hours, shortly before, in them."""


@dataclass
class Proposed:
    """An offer in a gateway's ledger, and when it was by the gateway's own clock of durations."""

    past: PastOffer
    mono_ms: int
    deadline_ms: int
    """Likewise."""

    @property
    def is_spent(self) -> bool:
        """Whether it counts: it was not refused, or only because the shopper has had it."""
        return self.past.state != "refused" or self.past.reason in STILL_SPENT


@dataclass
class Gateway:
    """One gateway: what it decides with, and what its database would give back."""

    offers: Offers
    catalogue: Catalogue
    ledger: dict[str, Proposed] = field(default_factory=dict)

    def spent(self, rid: str, promotion_id: str | None = None) -> list[Proposed]:
        """What one shopper has had of it, in order."""
        return [
            each
            for each in self.ledger.values()
            if each.past.shopper == rid and promotion_id in (None, each.past.promotion_id) and each.is_spent
        ]


@dataclass
class Visitor:
    """Somebody in the shop, as the gateways are told."""

    visit: str | None = None
    zone: str | None = None
    since: Instant | None = None
    seen_ms: int = 0


@dataclass(frozen=True)
class Grant:
    """What central has said yes to."""

    proposal: OfferMatchedData
    name: str
    at_ms: int
    push: bool
    """As the app was told."""


class InMeasure(RuleBasedStateMachine):
    """Steps of a day in a shop; after each, nothing that was promised may be broken."""

    @initialize(minutes=AFTER_NOON, zones=FIRST_ZONES, is_handed_over=st.booleans())
    def open(self, minutes: int, zones: tuple[str, str], is_handed_over: bool) -> None:
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name)
        self.db = open_database(path / "central.db", CENTRAL)
        # One transaction, for this is not about what a disk keeps.
        self.db.execute("BEGIN")
        self.now = Instant(0, NOON_MS)
        self.numbers = 0
        self.promotions: tuple[Promotion, ...] = RULES
        self.visitors = {name: Visitor() for name in PEOPLE}
        self.contexts: dict[str, ShopperContext] = {}
        # The other one has not been told of quiet hours yet.
        self.gateways = [self._gateway(), self._gateway(quiet=None)]
        self.decider, self.claims = 0, 0
        self.to_central: list[tuple[int, OfferMatchedData]] = []
        self.to_gateway: list[tuple[int, Verdict]] = []
        self.grants: list[Grant] = []
        self.looked_at = 0
        """So many of them."""
        self.gone: dict[str, int] = {}
        """Who has complained or opted out, after how many grants."""
        self.muted: dict[str, int] = {}
        """Whose farewells are muted, after how many grants."""
        self.opted_out: set[str] = set()
        self.day = NOON_MS // DAY_MS
        self.signer = Signer.from_file(path / "signing.key")
        for name in PEOPLE:
            records.enrol(self.db, name, name.encode().ljust(32, b"\0"), BOTH, [STORE])
        self._name_pseudonyms()
        self._publish()
        self._come_in(minutes, zones, is_handed_over=is_handed_over)

    def rid_of(self, name: str) -> str:
        """Of today."""
        return hashlib.sha256(f"{name}{self.day}".encode()).hexdigest()[:16]

    def _name_pseudonyms(self) -> None:
        names = [(self.rid_of(name), name) for name in PEOPLE if name not in self.opted_out]
        records.name_pseudonyms(self.db, STORE, self.day, names)

    def teardown(self) -> None:
        if hasattr(self, "db"):
            self.db.conn.close()
            self.folder.cleanup()

    # ---- time

    @rule(seconds=st.sampled_from([1, 20, 61, 300, 601, 1200, 1801, 2400]))
    def time_passes(self, seconds: int) -> None:
        self.now = self.now.plus(seconds * 1000)
        for gateway in self.gateways:
            for verdict in gateway.offers.tick(self.now):
                self._note(gateway, verdict)
            waits = [each for each in gateway.ledger.values() if each.past.state == "proposed" and each.past.shopper != _NOBODY]
            assert all(self.now.mono_ms <= each.deadline_ms for each in waits), "late, and nobody has said so"

    @rule(minutes=AFTER_NOON, zones=FIRST_ZONES, is_handed_over=st.booleans())
    def a_new_day_begins(self, minutes: int, zones: tuple[str, str], is_handed_over: bool) -> None:
        """With another pseudonym for everybody; nobody has stayed overnight."""
        self.visitors = {name: Visitor() for name in PEOPLE}
        self.contexts.clear()
        self.day = self.now.wall_ms // DAY_MS + 1
        self._name_pseudonyms()
        self.now = self.now.plus(self.day * DAY_MS + NOON_MS % DAY_MS - self.now.wall_ms)
        self._come_in(minutes, zones, is_handed_over=is_handed_over)

    def _come_in(self, minutes: int, zones: tuple[str, str], *, is_handed_over: bool) -> None:
        """Both, so many minutes after noon, so that there is something to exceed; and again where the other gateway decides."""
        self.time_passes(60 * minutes + 1)
        for _ in range(1 + is_handed_over):
            for name, zone in zip(PEOPLE, zones, strict=True):
                self._enter(name, zone, is_quick=True)
            self.time_passes(10)
            if is_handed_over:
                self.the_other_gateway_takes_over()

    @rule(hours=st.sampled_from([-2, -1, 1, 2]))
    def the_calendar_jumps(self, hours: int) -> None:
        """The time server was wrong, or is: durations do not notice. Within one day, whose pseudonyms these are."""
        wall_ms = self.now.wall_ms + hours * 3_600_000
        if wall_ms // DAY_MS == self.day:
            self.now = Instant(self.now.mono_ms, wall_ms)

    # ---- people

    @rule(
        name=st.sampled_from(PEOPLE),
        zones=st.lists(ZONES, min_size=1, max_size=4),
        is_quick=USUALLY,
        is_handed_over=st.booleans(),
    )
    def somebody_walks(self, name: str, zones: list[str], is_quick: bool, is_handed_over: bool) -> None:
        """Through some zones, ten seconds apart; sometimes the other gateway decides from the second on."""
        for index, zone in enumerate(zones):
            self._enter(name, zone, is_quick=is_quick)
            if index == 0 and is_handed_over:
                self.the_other_gateway_takes_over()
            self.time_passes(10)

    def _enter(self, name: str, zone: str, *, is_quick: bool) -> None:
        visitor = self.visitors[name]
        if visitor.zone is not None:
            self._leave(name, is_quick=is_quick)
        is_first = visitor.visit is None or self.now.mono_ms - visitor.seen_ms >= GAP_MS
        if is_first:
            self.numbers += 1
            visitor.visit = f"visit-{self.numbers}"
        visitor.zone, visitor.since, visitor.seen_ms = zone, self.now, self.now.mono_ms
        assert visitor.visit is not None
        who = (self.rid_of(name), visitor.visit, zone)
        self._happens(name, Entered(*who, self.now, BOTH, EVIDENCE, is_first), is_quick=is_quick)

    @rule(name=st.sampled_from(PEOPLE), is_quick=USUALLY)
    def somebody_has_stayed_a_minute(self, name: str, is_quick: bool) -> None:
        visitor = self.visitors[name]
        if visitor.zone is None or visitor.since is None or visitor.visit is None:
            return
        visitor.seen_ms = self.now.mono_ms
        who = (self.rid_of(name), visitor.visit, visitor.zone)
        self._happens(name, Dwelled(*who, self.now, BOTH, visitor.since, 60_000, EVIDENCE), is_quick=is_quick)

    @rule(name=st.sampled_from(PEOPLE), is_quick=USUALLY)
    def somebody_leaves(self, name: str, is_quick: bool) -> None:
        if self.visitors[name].zone is not None:
            self._leave(name, is_quick=is_quick)

    def _leave(self, name: str, *, is_quick: bool) -> None:
        visitor = self.visitors[name]
        assert visitor.zone is not None
        assert visitor.since is not None
        assert visitor.visit is not None
        who = (self.rid_of(name), visitor.visit, visitor.zone)
        event = Exited(*who, self.now, BOTH, visitor.since, self.now, "moved")
        visitor.zone, visitor.since, visitor.seen_ms = None, None, self.now.mono_ms
        self._happens(name, event, is_quick=is_quick)

    @rule(name=st.sampled_from(PEOPLE), what=st.sampled_from(["dismisses farewells", "complains", "opts out"]))
    @precondition(lambda self: len(self.grants) > 5)
    def somebody_has_enough(self, name: str, what: str) -> None:
        """Of which central tells the gateways at once."""
        if what == "complains":
            reactions.stop(self.db, name, self.now.wall_ms)
            self.gone.setdefault(name, len(self.grants))
        elif what == "opts out":
            self._opt_out(name)
        else:
            farewells = [g.proposal.offer for g in self.grants if (g.name, g.proposal.promotion_id) == (name, "goodbye")][:2]
            for offer in farewells:
                records.keep_receipt(self.db, f"{offer}-dismissed", name, offer, "dismissed", self.now.wall_ms)
            if len(farewells) > 1 and name not in self.opted_out:
                self.muted.setdefault(name, len(self.grants))
        self.central_tells_what_it_knows(name)

    def _opt_out(self, name: str) -> None:
        records.opt_out(self.db, name)
        self.gone.setdefault(name, len(self.grants))
        self.opted_out.add(name)
        for gateway in self.gateways:
            gateway.offers.forget(self.rid_of(name))
            for each in gateway.ledger.values():
                if each.past.shopper == self.rid_of(name):
                    each.past = replace(each.past, shopper=_NOBODY)

    @rule(name=st.sampled_from(PEOPLE))
    def central_tells_what_it_knows(self, name: str) -> None:
        muted = reactions.muted_categories(self.db, name, self.now.wall_ms)
        stopped = reactions.is_stopped(self.db, name)
        self.contexts[name] = ShopperContext(muted_categories=frozenset(muted), stopped=stopped)

    # ---- what is under way

    @rule(which=st.integers(0, 5), again=st.booleans())
    @precondition(lambda self: self.to_central)
    def a_proposal_arrives(self, which: int, again: bool) -> None:
        index = which % len(self.to_central)
        self._arrives(*(self.to_central[index] if again else self.to_central.pop(index)))

    def _arrives(self, gateway: int, proposal: OfferMatchedData) -> None:
        # What a gateway says of itself comes with it; central knows who decides.
        visit = visits.go_on(self.db, STORE, proposal.shopper, proposal.matched_time, GAP_MS, name=proposal.visit)
        known = records.decision_of(self.db, proposal.offer)
        decided = decide(self.db, self._desk(), f"pi-{gateway}", proposal, visit=visit, secret=b"secret", now_ms=self.now.wall_ms)
        assert known in (None, decided), "another answer than before"
        if known is None and decided.reason is None:
            assert gateway == self.decider or not self.claims, "to a gateway that does not decide"
            self.grants.append(self._granted(proposal))
        granted, reason = decided.reason is None, decided.reason or ""
        self.to_gateway.append((gateway, Verdict(proposal.offer, "granted" if granted else "refused", reason)))

    def _granted(self, proposal: OfferMatchedData) -> Grant:
        inbox, payload = self.db.execute("SELECT inbox, payload FROM app_outbox WHERE offer = ?", [proposal.offer]).fetchone()
        return Grant(proposal, inbox, self.now.wall_ms, bool(json.loads(payload)["data"]["push"]))

    @rule(which=st.integers(0, 5))
    @precondition(lambda self: self.to_gateway)
    def an_answer_arrives(self, which: int) -> None:
        self._is_answered(*self.to_gateway.pop(which % len(self.to_gateway)))

    def _is_answered(self, index: int, verdict: Verdict) -> None:
        gateway = self.gateways[index]
        if gateway.offers.decide(verdict):
            self._note(gateway, verdict)

    @rule()
    @precondition(lambda self: self.to_gateway)
    def an_answer_is_lost(self) -> None:
        self.to_gateway.pop(0)

    # ---- gateways and catalogues

    @rule(which=st.integers(0, 1))
    def a_gateway_dies_and_comes_back(self, which: int) -> None:
        before = self.gateways[which]
        self.gateways[which] = self._gateway(before.ledger, quiet=before.catalogue.quiet_hours)

    @rule()
    def the_other_gateway_takes_over(self) -> None:
        self.decider = 1 - self.decider
        self.claims += 1
        self.db.execute("INSERT OR REPLACE INTO decider VALUES (?, ?, ?)", [STORE, self.claims, f"pi-{self.decider}"])

    @rule(
        without=st.sampled_from([None, "cake", "card-day"]),
        reach=st.sampled_from([(), (0,), (0, 1)]),
        quiet=st.sampled_from([None, QUIET, QUIET]),
    )
    def marketing_changes_the_catalogue(self, without: str | None, reach: tuple[int, ...], quiet: QuietHours | None) -> None:
        """Some gateways have it at once, the others with a later one; what it says of quiet hours may be wrong."""
        self.promotions = tuple(each for each in RULES if each.promotion_id != without)
        self._publish()
        for which in reach:
            self.gateways[which].catalogue = self._catalogue(quiet)

    # ---- the parts

    def _gateway(self, ledger: dict[str, Proposed] | None = None, *, quiet: QuietHours | None = QUIET) -> Gateway:
        """With what its database gives back: what was refused as spent counts as granted, and durations go by the calendar."""
        gateway = Gateway(Offers(self._new_id), self._catalogue(quiet))
        for offer, each in sorted((ledger or {}).items(), key=lambda item: item[1].past.wall_ms):
            state = "granted" if each.past.reason in STILL_SPENT else each.past.state
            elapsed_ms, left_ms = max(0, self.now.wall_ms - each.past.wall_ms), each.past.deadline_wall_ms - self.now.wall_ms
            past, now_ms = replace(each.past, state=state), self.now.mono_ms
            gateway.ledger[offer] = Proposed(past, now_ms - elapsed_ms, now_ms + left_ms)
        counted = [each.past for each in gateway.ledger.values() if each.is_spent]
        days = {(past.promotion_id, past.wall_ms // DAY_MS) for past in counted}
        in_store = [
            StoreCount(name, day, sum((past.promotion_id, past.wall_ms // DAY_MS) == (name, day) for past in counted))
            for name, day in sorted(days)
        ]
        mine = [each.past for each in gateway.ledger.values() if each.past.shopper != _NOBODY]
        gateway.offers.remember(mine, self.now, in_store)
        return gateway

    def _catalogue(self, quiet: QuietHours | None) -> Catalogue:
        return Catalogue(1, [each.compiled() for each in self.promotions], quiet, SHOP, BERLIN, self.now.wall_ms)

    def _new_id(self) -> str:
        self.numbers += 1
        return f"offer-{self.numbers}"

    def _desk(self) -> Desk:
        promotions = {each.promotion_id: each for each in self.promotions}
        return Desk(STORE, SETTINGS, promotions, self.signer, "central")

    def _publish(self) -> None:
        records.replace_promotions(self.db, STORE, self.promotions)

    def _happens(self, name: str, event: Matchable, *, is_quick: bool) -> None:
        """``is_quick``: central hears of it at once and its answer comes back; else both are under way."""
        gateway = self.gateways[self.decider]
        gateway.catalogue.advance(self.now.wall_ms)
        outcome = gateway.offers.match(
            event, SHOP.zones[event.zone], gateway.catalogue, Circumstances(ClockQuality.SYNCHRONISED), self.contexts.get(name)
        )
        for offer in outcome.offers:
            self._keeps_measure(gateway, name, offer)
            gateway.ledger[offer.offer] = Proposed(_past(offer), offer.at.mono_ms, offer.deadline.mono_ms)
            self.to_central.append((self.decider, _proposal(offer)))
        if is_quick:
            while self.to_central:
                self._arrives(*self.to_central.pop(0))
            while self.to_gateway:
                self._is_answered(*self.to_gateway.pop(0))

    def _keeps_measure(self, gateway: Gateway, name: str, offer: OfferMatched) -> None:
        """Whether the gateway may propose this, after all that it has proposed before and been told since."""
        promotion, context = BY_ID[offer.promotion_id], self.contexts.get(name)
        same = gateway.spent(offer.shopper, offer.promotion_id)
        visit = [each for each in gateway.spent(offer.shopper) if each.past.visit == offer.visit]
        everybody = [
            each.past for each in gateway.ledger.values() if each.past.promotion_id == offer.promotion_id and each.is_spent
        ]
        in_store = [past for past in everybody if past.wall_ms // DAY_MS == offer.at.wall_ms // DAY_MS]
        group = offer.cool_down_group
        cooling = [each for each in gateway.spent(offer.shopper) if each.past.cool_down_group == group and offer.cool_down_ms]
        told = [each.past for each in gateway.ledger.values() if each.past.shopper == offer.shopper]
        assert len(same) < promotion.daily_cap, "more than the day's"
        assert promotion.visit_cap is None or sum(each in visit for each in same) < promotion.visit_cap, "more than the visit's"
        assert promotion.store_cap_day is None or len(in_store) < promotion.store_cap_day, "more than the store's"
        assert all(self.now.mono_ms - each.mono_ms >= each.past.cool_down_ms for each in cooling), "before it has cooled down"
        assert not any(
            (past.promotion_id, past.state) == (offer.promotion_id, "refused") and past.reason in LASTING for past in told
        )
        assert context is None or not context.stopped, "after a complaint"
        assert context is None or promotion.category not in context.muted_categories, "of what is muted"
        if offer.push:
            assert not is_quiet(gateway.catalogue.quiet_hours, offer.at.wall_ms, BERLIN), "pushed in quiet hours"
            pushed = [each for each in visit if each.past.push and each.past.kind in PUSH_KINDS]
            assert offer.kind not in PUSH_KINDS or not pushed, "a second push of one visit"

    def _note(self, gateway: Gateway, verdict: Verdict) -> None:
        known = gateway.ledger.get(verdict.offer)
        if known is not None:
            known.past = replace(known.past, state=verdict.state, reason=verdict.reason)

    # ---- what must hold: a tiny model, which looks at grants and at what was proposed -----------------------------------------

    @invariant()
    def every_promise_is_kept(self) -> None:
        grants = getattr(self, "grants", [])
        for index, grant in list(enumerate(grants))[self.looked_at :] if grants else ():
            self.looked_at = index + 1
            proposal, before = grant.proposal, grants[:index]
            promotion = BY_ID[proposal.promotion_id]
            of_all = [each for each in before if each.proposal.promotion_id == proposal.promotion_id]
            mine = [each for each in of_all if each.name == grant.name]
            assert grant.at_ms < proposal.deadline, "granted when it was late"
            assert sum(each.proposal.shopper == proposal.shopper for each in mine) < promotion.daily_cap, "more than the day's"
            in_week = [each for each in mine if grant.at_ms - each.at_ms < 7 * DAY_MS]
            assert promotion.weekly_cap is None or len(in_week) < promotion.weekly_cap, "more than the week's"
            assert promotion.lifetime_cap is None or len(mine) < promotion.lifetime_cap, "more than ever"
            assert promotion.quantity is None or len(of_all) < promotion.quantity, "more than there is"
            in_visit = [each for each in before if each.name == grant.name and each.proposal.visit == proposal.visit]
            assert promotion.visit_cap is None or sum(each in in_visit for each in mine) < promotion.visit_cap, (
                "more than the visit's"
            )
            if grant.push:
                assert not is_quiet(QUIET, grant.at_ms, BERLIN), "pushed in quiet hours"
                pushed = [each for each in in_visit if each.push and each.proposal.kind in PUSH_KINDS]
                assert proposal.kind not in PUSH_KINDS or not pushed, "a second push of one visit"
            today = [each for each in of_all if _days(each) == _days(grant)]
            assert promotion.store_cap_day is None or len(today) < promotion.store_cap_day, "more than the store's"
            assert promotion.chain_cap_day is None or len(today) < promotion.chain_cap_day, "more than the chain's"
            for each in before:
                apart_ms = abs(each.proposal.matched_time - proposal.matched_time)
                is_same = each.name == grant.name and _group(each) == _group(grant)
                assert not is_same or apart_ms >= 1000 * promotion.cool_down_s, "before it has cooled down"
            assert self.gone.get(grant.name, index) >= index, "after a complaint or an opt-out"
            is_muted = promotion.category is not None and self.muted.get(grant.name, index) < index
            assert not is_muted, "of what is muted"

    @invariant()
    def a_gateway_remembers_what_was_spent_and_nothing_else(self) -> None:
        for gateway in getattr(self, "gateways", []):
            for name, visitor in self.visitors.items():
                if visitor.visit is not None:
                    self._remembers(gateway, self.rid_of(name), visitor.visit)
            counted = Counter(
                (each.past.promotion_id, each.past.wall_ms // DAY_MS) for each in gateway.ledger.values() if each.is_spent
            )
            for promotion in COMPILED:
                if promotion.store_cap_day is not None:
                    in_store = gateway.offers.held(promotion, self._leaving(_NOBODY, "")).in_store
                    assert in_store == counted[promotion.promotion_id, self.now.wall_ms // DAY_MS]

    def _leaving(self, rid: str, visit: str) -> Exited:
        return Exited(rid, visit, "bakery", self.now, BOTH, self.now, self.now, "moved")

    def _remembers(self, gateway: Gateway, rid: str, visit: str) -> None:
        spent, event = gateway.spent(rid), self._leaving(rid, visit)
        offered = Counter(each.past.promotion_id for each in spent)
        in_visit = Counter(each.past.promotion_id for each in spent if each.past.visit == visit)
        pushed = [
            each.past.offer for each in spent if each.past.visit == visit and each.past.push and each.past.kind in PUSH_KINDS
        ]
        cool = {each.past.cool_down_group for each in spent if each.mono_ms + each.past.cool_down_ms > self.now.mono_ms}
        for promotion in COMPILED:
            held = gateway.offers.held(promotion, event)
            assert held.offered == offered[promotion.promotion_id]
            assert held.in_visit == in_visit[promotion.promotion_id]
            assert held.pushed == (pushed[-1] if pushed else None)
            cools = held.cooling is not None and held.cooling[0] > self.now.mono_ms
            assert cools == ((promotion.cool_down_group or f"promotion:{promotion.promotion_id}") in cool)


def _group(grant: Grant) -> str:
    return BY_ID[grant.proposal.promotion_id].cool_down_group or f"/{grant.proposal.promotion_id}"


def _days(grant: Grant) -> tuple[int, int]:
    """The store's days of the event and of the grant."""
    return grant.proposal.matched_time // DAY_MS, grant.at_ms // DAY_MS


def _past(offer: OfferMatched) -> PastOffer:
    return PastOffer(
        offer.offer,
        offer.shopper,
        offer.visit,
        offer.promotion_id,
        offer.kind,
        offer.cool_down_group,
        offer.cool_down_ms,
        offer.at.wall_ms,
        offer.deadline.wall_ms,
        "proposed",
        offer.push,
    )


def _proposal(offer: OfferMatched) -> OfferMatchedData:
    return OfferMatchedData(
        offer=offer.offer,
        promotion_id=offer.promotion_id,
        kind=offer.kind,
        push=offer.push,
        visit=offer.visit,
        shopper=offer.shopper,
        zone=offer.zone,
        matched_time=offer.at.wall_ms,
        deadline=offer.deadline.wall_ms,
        catalogue_version=1,
    )


TestInMeasure = InMeasure.TestCase

TestInMeasure.settings = settings(max_examples=50, stateful_step_count=50, deadline=None)
