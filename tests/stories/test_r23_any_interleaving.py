"""R23 in any order of events: the core's offers and central's decisions against a tiny model that only keeps what was granted.

::

    enter, dwell, leave ──▶ Offers of the deciding gateway ──▶ under way ──▶ central's decide ──▶ under way ──▶ Offers.decide
             ▲                        │  ▲                                       │
        time, clock jumps         its ledger │ kill, restart, takeover            ▼
                                       └─────┘                               the model: every grant, and what it must not break

Messages may be delayed, repeated and overtaken; a gateway may die at any moment and knows afterwards what its database kept.
"""

import hashlib
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

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

STORE = "demo"
BERLIN = ZoneInfo("Europe/Berlin")
NOON_MS = 1_789_380_000_000
"""2026-09-14 12:00 in Berlin."""
QUIET = QuietHours(13 * 60, 13 * 60 + 30)
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
    offer_rule("card", kind="info", zones=["bakery", "dairy"], daily_cap=2, visit_cap=1, lifetime_cap=2),
    offer_rule("tasting", zones=["dairy"], trigger="dwell", dwell_s=60, daily_cap=2, quantity=2),
    offer_rule("goodbye", kind="reminder", zones=["bakery", "dairy"], trigger="exit", daily_cap=1, category="farewell"),
    offer_rule("help", kind="service", zones=["dairy"], daily_cap=3),
)
BY_ID = {each.promotion_id: each for each in RULES}


USUALLY = st.sampled_from([True, True, True, False])


def rid_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]


@dataclass
class Gateway:
    """One gateway: what it decides with, and what its database would give back."""

    offers: Offers
    catalogue: Catalogue
    ledger: dict[str, PastOffer] = field(default_factory=dict)


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
    gateway: int
    at_ms: int


class InMeasure(RuleBasedStateMachine):
    """Steps of a day in a shop; after each, nothing that was promised may be broken."""

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name)
        self.db = open_database(path / "central.db", CENTRAL)
        self.now = Instant(0, NOON_MS)
        self.numbers = 0
        self.promotions: tuple[Promotion, ...] = RULES
        self.visitors = {name: Visitor() for name in PEOPLE}
        self.contexts: dict[str, ShopperContext] = {}
        self.gateways = [self._gateway(), self._gateway()]
        self.decider, self.claims = 0, 0
        self.to_central: list[tuple[int, OfferMatchedData]] = []
        self.to_gateway: list[tuple[int, Verdict]] = []
        self.grants: list[Grant] = []
        self.gone_ms: dict[str, int] = {}
        self.signer = Signer.from_file(path / "signing.key")
        for name in PEOPLE:
            records.enrol(self.db, name, name.encode().ljust(32, b"\0"), BOTH, [STORE])
            records.name_pseudonyms(self.db, STORE, NOON_MS // DAY_MS, [(rid_of(name), name)])
        self._publish()

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

    @rule(hours=st.sampled_from([-2, -1, 1, 2]))
    def the_calendar_jumps(self, hours: int) -> None:
        """The time server was wrong, or is: durations do not notice. Within one day, whose pseudonyms these are."""
        wall_ms = self.now.wall_ms + hours * 3_600_000
        if abs(wall_ms - NOON_MS) < 8 * 3_600_000:
            self.now = Instant(self.now.mono_ms, wall_ms)

    # ---- people

    @rule(name=st.sampled_from(PEOPLE), zone=st.sampled_from(["bakery", "dairy"]), is_quick=USUALLY)
    def somebody_enters(self, name: str, zone: str, is_quick: bool) -> None:
        visitor = self.visitors[name]
        if visitor.zone is not None:
            self._leave(name, is_quick=is_quick)
        is_first = visitor.visit is None or self.now.mono_ms - visitor.seen_ms >= GAP_MS
        if is_first:
            self.numbers += 1
            visitor.visit = f"visit-{self.numbers}"
        visitor.zone, visitor.since, visitor.seen_ms = zone, self.now, self.now.mono_ms
        assert visitor.visit is not None
        who = (rid_of(name), visitor.visit, zone)
        self._happens(name, Entered(*who, self.now, BOTH, EVIDENCE, is_first), is_quick=is_quick)

    @rule(name=st.sampled_from(PEOPLE), is_quick=USUALLY)
    def somebody_has_stayed_a_minute(self, name: str, is_quick: bool) -> None:
        visitor = self.visitors[name]
        if visitor.zone is None or visitor.since is None or visitor.visit is None:
            return
        visitor.seen_ms = self.now.mono_ms
        who = (rid_of(name), visitor.visit, visitor.zone)
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
        who = (rid_of(name), visitor.visit, visitor.zone)
        event = Exited(*who, self.now, BOTH, visitor.since, self.now, "moved")
        visitor.zone, visitor.since, visitor.seen_ms = None, None, self.now.mono_ms
        self._happens(name, event, is_quick=is_quick)

    @rule(name=st.sampled_from(PEOPLE), count=st.integers(1, 2))
    def somebody_dismisses_farewells(self, name: str, count: int) -> None:
        offers = [g.proposal.offer for g in self.grants if g.proposal.shopper == rid_of(name)]
        for offer in [each for each in offers if self._promotion_of(each) == "goodbye"][:count]:
            records.keep_receipt(self.db, f"{offer}-dismissed", name, offer, "dismissed", self.now.wall_ms)

    @rule(name=st.sampled_from(PEOPLE))
    @precondition(lambda self: len(self.grants) > 3)
    def somebody_complains(self, name: str) -> None:
        reactions.stop(self.db, name, self.now.wall_ms)
        self.gone_ms.setdefault(name, len(self.grants))

    @rule(name=st.sampled_from(PEOPLE))
    @precondition(lambda self: len(self.grants) > 5)
    def somebody_opts_out(self, name: str) -> None:
        records.opt_out(self.db, name)
        self.gone_ms.setdefault(name, len(self.grants))
        for gateway in self.gateways:
            gateway.offers.forget(rid_of(name))

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
        if known is None and decided.reason is None:
            self.grants.append(Grant(proposal, gateway, self.now.wall_ms))
        granted, reason = decided.reason is None, decided.reason or ""
        self.to_gateway.append((gateway, Verdict(proposal.offer, "granted" if granted else "refused", reason)))

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
        self.gateways[which] = self._gateway(before.ledger)

    @rule()
    def the_other_gateway_takes_over(self) -> None:
        self.decider = 1 - self.decider
        self.claims += 1
        self.db.execute("INSERT OR REPLACE INTO decider VALUES (?, ?, ?)", [STORE, self.claims, f"pi-{self.decider}"])

    @rule(without=st.sampled_from([None, "cake", "card"]))
    def marketing_changes_the_catalogue(self, without: str | None) -> None:
        self.promotions = tuple(each for each in RULES if each.promotion_id != without)
        self._publish()

    @rule(which=st.integers(0, 1))
    def a_gateway_gets_the_catalogue(self, which: int) -> None:
        self.gateways[which].catalogue = self._catalogue()

    # ---- the parts

    def _gateway(self, ledger: dict[str, PastOffer] | None = None) -> Gateway:
        gateway = Gateway(Offers(self._new_id), self._catalogue(), dict(ledger or {}))
        counted = [past for past in gateway.ledger.values() if past.state != "refused" or past.reason in STILL_SPENT]
        days = {(past.promotion_id, past.wall_ms // DAY_MS) for past in counted}
        in_store = [
            StoreCount(name, day, sum((past.promotion_id, past.wall_ms // DAY_MS) == (name, day) for past in counted))
            for name, day in sorted(days)
        ]
        gateway.offers.remember(gateway.ledger.values(), self.now, in_store)
        return gateway

    def _catalogue(self) -> Catalogue:
        return Catalogue(1, [each.compiled() for each in self.promotions], QUIET, SHOP, BERLIN, self.now.wall_ms)

    def _new_id(self) -> str:
        self.numbers += 1
        return f"offer-{self.numbers}"

    def _desk(self) -> Desk:
        promotions = {each.promotion_id: each for each in self.promotions}
        return Desk(STORE, CentralStore(store_number=4711), promotions, self.signer, "central")

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
            gateway.ledger[offer.offer] = _past(offer)
            self.to_central.append((self.decider, _proposal(offer)))
        if is_quick:
            while self.to_central:
                self._arrives(*self.to_central.pop(0))
            while self.to_gateway:
                self._is_answered(*self.to_gateway.pop(0))

    def _note(self, gateway: Gateway, verdict: Verdict) -> None:
        past = gateway.ledger[verdict.offer]
        gateway.ledger[verdict.offer] = replace(past, state=verdict.state, reason=verdict.reason)

    def _promotion_of(self, offer: str) -> str:
        return next(grant.proposal.promotion_id for grant in self.grants if grant.proposal.offer == offer)

    # ---- what must hold: a tiny model, which looks at grants only

    @invariant()
    def every_promise_is_kept(self) -> None:
        grants = getattr(self, "grants", [])
        for index, grant in enumerate(grants):
            proposal, before = grant.proposal, grants[:index]
            mine = [each for each in before if each.proposal.shopper == proposal.shopper]
            same = [each for each in mine if each.proposal.promotion_id == proposal.promotion_id]
            cap = BY_ID[proposal.promotion_id]
            assert grant.at_ms < proposal.deadline, "granted when it was late"
            assert len(same) < cap.daily_cap, "more than the day's"
            assert cap.weekly_cap is None or len(same) < cap.weekly_cap, "more than the week's"
            assert cap.lifetime_cap is None or len(same) < cap.lifetime_cap, "more than ever"
            of_all = [each for each in before if each.proposal.promotion_id == proposal.promotion_id]
            assert cap.quantity is None or len(of_all) < cap.quantity, "more than there is"
            in_visit = [each for each in mine if each.proposal.visit == proposal.visit]
            if proposal.push:
                assert not is_quiet(QUIET, proposal.matched_time, BERLIN), "pushed in quiet hours"
                pushed = [each for each in in_visit if each.proposal.push and each.proposal.kind in PUSH_KINDS]
                assert proposal.kind not in PUSH_KINDS or not pushed, "a second push of one visit"
            assert cap.visit_cap is None or sum(each in in_visit for each in same) < cap.visit_cap, "more than the visit's"
            today = [each for each in of_all if _days(each) == _days(grant)]
            assert cap.store_cap_day is None or len(today) < cap.store_cap_day, "more than the store's"
        for name, count in self.gone_ms.items() if grants else ():
            assert all(each.proposal.shopper != rid_of(name) for each in grants[count:]), "after a complaint or an opt-out"


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
TestInMeasure.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
