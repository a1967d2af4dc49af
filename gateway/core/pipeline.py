"""The story: an advertisement is received, a frame decoded, a shopper recognised, located, present, and offered something.

``receive`` is called once per advertisement and must stay cheap; ``tick`` does everything else and returns what belongs on disk
before any of it is sent. Time and randomness are arguments; nothing here reads a clock, logs or sends.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import tzinfo
from typing import Final

from gateway.core import battery_fields
from gateway.core.announcer import MARGIN
from gateway.core.canaries import Canaries
from gateway.core.conditions import ShopperContext
from gateway.core.conflicts import LOUD_DBM, Conflicts
from gateway.core.contexts import Contexts
from gateway.core.frames import CONSTANT, LARGEST_REMEMBERED, Decoder, Memo
from gateway.core.health_news import HealthNews
from gateway.core.identity import DayRoster, Identity, Opened
from gateway.core.level_filter import Source
from gateway.core.model import (
    WITH_OFFERS,
    Anchor,
    BeaconChange,
    BeaconKey,
    Belief,
    Circumstances,
    ClockQuality,
    Consent,
    Counters,
    EddystoneTlm,
    Entered,
    Evidence,
    Exited,
    Frame,
    HealthChange,
    HealthTold,
    Instant,
    Memory,
    NotEntered,
    Outcome,
    PresenceEvent,
    Promotion,
    QuietHours,
    ReceiverChange,
    ReceiverSigns,
    Recognised,
    Reject,
    RosterEntry,
    Shop,
    ShopperToken,
    Sighting,
    Step,
    Verdict,
    VisitEnded,
    VisitStarted,
    key_of,
)
from gateway.core.offers import Catalogue, Offers
from gateway.core.positioning import USUAL_ENTER_DBM, Ground, Positioning, ground_of
from gateway.core.presence import Presence
from gateway.core.relay import Relay
from gateway.core.zone_model import ZoneModel

TICK_MS: Final = 200
"""Positioning runs this often while there is anything to locate."""
_HINT_MIN_RECEIVER_DBM: Final = -95
_HINT_TWICE_MS: Final = 2_000
_MINUTE_MS: Final = 60_000
_HOUSEKEEPING_MS: Final = 60_000
CONTEXT_WAIT_MS: Final = 1_000
"""After a visit began: so long do rules wait for what central knows of the shopper."""
_NO_CONSENT: Final = Consent.NONE
_NO_SIGNS: Final = ReceiverSigns()


@dataclass(frozen=True, slots=True)
class Tuning:
    """Settings of the pipeline that a technician may change."""

    time_zone: tzinfo
    day_start_s: int = 0
    skew_s: int = 120
    margin: float = MARGIN
    hold_ms: int = 600
    """For so long a zone must be announced before who was nowhere has entered, unless it has a time of its own."""
    visit_gap_ms: int = 1_800_000
    service_uuid16: int | None = None
    company_id: int | None = None
    keeps_phones: bool = True
    """False until the privacy settings are complete: shopper tokens are dropped unread."""
    listen_only: bool = False
    """Visits are measured, and every promotion is withheld."""


Meaning = Anchor | Frame
"""Of an advertisement: the registered beacon that sends it, or what is in it."""


@dataclass(slots=True)
class _Told:
    """One hint of one minute: when it was first heard, and whether it has been counted, which happens once."""

    first_ms: int
    counted: bool = False


class Pipeline:
    """Advertisements in, outcomes out, for one store."""

    def __init__(self, shop: Shop, tuning: Tuning, new_id: Callable[[], str], now: Instant) -> None:
        self.counters = Counters()
        self.catalogue: Catalogue | None = None
        self.identity = Identity(tuning.day_start_s, tuning.skew_s, self.counters)
        self._shop = shop
        self._tuning = tuning
        self._read = Decoder(tuning.service_uuid16, tuning.company_id, knows=self.identity.knows).read
        self._constant: Memo[Meaning] = Memo()
        """Of what beacons say for ever."""
        self._positioning = Positioning(shop)
        self._presence = Presence(
            shop, margin=tuning.margin, hold_ms=tuning.hold_ms, visit_gap_ms=tuning.visit_gap_ms, new_id=new_id
        )
        self._offers = Offers(new_id, tuning.day_start_s * 1000)
        self._contexts = Contexts()
        self._context_due_ms: dict[str, int] = {}
        """By shopper, until when (monotonic) a context that has not come is waited for."""
        self._familiar = self.identity.familiar
        self._quality = ClockQuality.UNSYNCHRONISED
        self._resolves = False
        """Whether shopper tokens are looked at: the privacy settings are complete, and the clock is good enough."""
        self._consents: dict[str, Consent] = {}
        self._hints: dict[tuple[str, int, int], _Told] = {}
        """By shopper, short id and minute."""
        self._conflicts = Conflicts(shop)
        self._forgotten: list[str] = []
        self._remembered: list[PresenceEvent] = []
        self._beacons_by_key: dict[BeaconKey, Anchor] = {}
        self._beacons_by_short_id: dict[int, Anchor] = {}
        self._ticked_ms = now.mono_ms
        self._housekept_ms = now.mono_ms
        self.test_beliefs: dict[str, Belief] = {}
        """The newest belief about each test shopper."""
        self.zone_model: ZoneModel | None = None
        """What was learned on a technician's walk; ``ground`` tells whether it is used."""
        self.record_walk: Callable[[str, str, float, Instant, Source], None] | None = None
        """Told each sighting of a test shopper: (shopper, anchor, RSSI in dBm, at, source)."""
        self.canaries = Canaries(shop, now.mono_ms)
        self._beacon_addresses = self.canaries.addresses
        self._news = HealthNews()
        self._relearnt: list[HealthChange] = []
        self._relay: Relay | None = None
        """Where what is recognised goes while another gateway decides."""
        self._index_beacons()

    # ---- what comes down ------------------------------------------------------------------------------------------------------

    @property
    def shop(self) -> Shop:
        """Zones and anchors in force."""
        return self._shop

    @property
    def ground(self) -> Ground:
        """What shoppers are located by."""
        return self._positioning.ground

    def use_model(self, model: ZoneModel | None, ground: Ground | None = None) -> None:
        """Swap what was learned on a walk, or take it away; ``ground``: what ``ground_of`` has made of it already."""
        self.zone_model = model
        self._positioning.use(self._shop, ground_of(self._shop, model) if ground is None else ground)

    def use_shop(self, shop: Shop, wall_ms: int, ground: Ground | None = None) -> None:
        """Swap zones and anchors; who is in a zone that is gone leaves it with the next tick.

        ``ground``: what ``ground_of`` has made of this shop and the zone model already.
        """
        gone = self._shop.anchors.keys() - shop.anchors.keys()
        self._shop = shop
        self._positioning.use(shop, ground_of(shop, self.zone_model) if ground is None else ground)
        self._conflicts.use(shop)
        self.canaries.use(shop)
        self._news.forget(gone)
        self._index_beacons()
        old = self.catalogue
        self.use_catalogue(
            None
            if old is None
            else self.compile_catalogue(old.version, old.promotions, old.quiet_hours, wall_ms, sold_out=old.sold_out)
        )

    def compile_catalogue(
        self,
        version: int,
        promotions: Iterable[Promotion],
        quiet: QuietHours | None,
        wall_ms: int,
        *,
        sold_out: Iterable[str] = (),
    ) -> Catalogue:
        """A catalogue ready to ``use``; may run in another thread. ``sold_out``: promotions of which none is left."""
        return Catalogue(version, promotions, quiet, self._shop, self._tuning.time_zone, wall_ms, sold_out=sold_out)

    def use_catalogue(self, catalogue: Catalogue | None) -> None:
        """Swap the promotions in force; ``None``: nothing is in force any more."""
        self.catalogue = catalogue
        self._presence.use(self._shop, {} if catalogue is None else catalogue.dwells())

    def use_roster(self, roster: DayRoster) -> None:
        """Swap one day's roster; who is no longer in it, or consents to nothing any more, is forgotten at once."""
        self._follow_roster(self.identity.put_in_force(roster))

    def apply_roster_delta(self, day: int, version: int, upserts: Iterable[RosterEntry], removals: Iterable[str]) -> None:
        """Check-ins and opt-outs in a roster that is in force."""
        self._follow_roster(self.identity.apply_delta(day, version, upserts, removals))

    def use_test_shoppers(self, day: int, entries: Iterable[RosterEntry], wall_ms: int) -> None:
        """The technician's test shoppers of one day: they go the real path, outside of caps and counts."""
        self._follow_roster(self.identity.use_own(day, entries, wall_ms))

    def use_context(self, shopper: str, version: int, context: ShopperContext, now: Instant) -> bool:
        """Take what central knows of a shopper; what waited for it comes out of the next tick.

        False: it is no news, another gateway decides, or nobody may know it: the roster does not name the shopper, or the
        shopper has not consented to offers.
        """
        consents = (self.identity.consent_of(shopper), self._consents.get(shopper, Consent.OFFERS))
        if self._relay is not None or not all(consent in WITH_OFFERS for consent in consents):
            return False
        return self._contexts.use(shopper, version, context, now.mono_ms)

    def context_of(self, shopper: str) -> tuple[int, ShopperContext] | None:
        """Version and content of what is known of a shopper, to explain a decision with; nobody else may have it."""
        return self._contexts.held(shopper)

    def decide(self, verdict: Verdict) -> bool:
        """Take central's answer to a proposal; False when nothing waits for it (any more)."""
        known = self._offers.decide(verdict)
        if known:
            _count(self.counters.offers, verdict.state)
        return known

    def remember(self, memory: Memory, now: Instant) -> None:
        """Take back visits and offers after a restart; what ended meanwhile comes out of the next tick."""
        # Who left the roster since is in the database until the next step erases them: also those whom the last process had no
        # time to erase between taking the roster and dying.
        left = {name for name, first_ms in memory.named if self.identity.has_left(name, first_ms)}
        self._forgotten += sorted(left.difference(self._forgotten))
        gone = set(self._forgotten)
        visits = [visit for visit in memory.visits if visit.shopper not in gone]
        self._offers.remember((offer for offer in memory.offers if offer.shopper not in gone), now, memory.in_store)
        self._context_due_ms.update((visit.shopper, now.mono_ms + CONTEXT_WAIT_MS) for visit in visits)
        self._consents.update((visit.shopper, visit.consent) for visit in visits)
        self._remembered += self._presence.remember(visits, memory.alive_wall_ms, now)
        self._follow_roster(())

    def receive_for_another(self, relay: Relay) -> None:
        """Another gateway decides from now on: shoppers and beacons are told to ``relay``, and who is here goes on over there."""
        self._relay = relay
        for shopper in {*self._consents, *self._presence.shoppers}:
            self._positioning.forget(shopper)
            self._presence.forget(shopper)
        self._consents.clear()
        self._remembered.clear()
        self._hints.clear()
        self._conflicts.clear()
        self.test_beliefs.clear()
        self._contexts.forget(self._contexts.shoppers)
        self._context_due_ms.clear()
        self._offers.stop_waiting()

    def decide_here(self) -> None:
        """This gateway decides from now on; it knows nobody yet, and central knows what was granted before."""
        self._relay = None

    def remember_told(self, told: Iterable[HealthTold]) -> None:
        """Take back what was told of beacons and receivers before a restart."""
        self._news.remember(one for one in told if one.subject == "receiver" or one.name in self._shop.anchors)

    def relearn(self, beacon: str, now: Instant) -> None:
        """The technician says that a beacon is right as it is now; ``KeyError`` for one that is not registered."""
        before = self.canaries.health_of(beacon).state
        self.canaries.relearn(beacon)
        self._relearnt.append(HealthChange("beacon", beacon, "learning", before, now, now.mono_ms))

    # ---- what comes in --------------------------------------------------------------------------------------------------------

    def receiver_changed(self, change: ReceiverChange) -> None:
        """What a receiver's supervision saw or did; comes out of the next tick."""
        if not self._news.receiver_changed(change):
            _count(self.counters.rejects, "receiver-health.overflow")

    def receive(self, receiver: str, address: str, rssi_dbm: int, data: bytes, at: Instant) -> None:
        """One advertisement: ``data`` are its AD structures as they were on the air; the address is never an identity."""
        counters = self.counters
        counters.advertisements += 1
        # What is repeated costs a look-up, not what decoding and opening would give again.
        found: Meaning | Reject | None = self._constant.known.get(data)
        if found is None:
            opened = self._familiar.get(data)
            if opened is not None and opened.from_ms <= at[1] < opened.until_ms:
                self._receive_opened(receiver, rssi_dbm, opened, at)
                return
            frame = self._read(data)
            if frame is None:
                if address in self._beacon_addresses:
                    self._receive_battery(address, data, at)
                else:
                    counters.strangers += 1
                return
            found = self._meaning_of(frame, data)
        if type(found) is Anchor:
            self._receive_beacon(found, receiver, address, rssi_dbm, at)
        elif type(found) is ShopperToken:
            self._receive_token(receiver, rssi_dbm, found, data, at)
        elif type(found) is Reject:
            _count(counters.rejects, f"{found.format}.{found.kind}")
        elif address in self._beacon_addresses:
            self._receive_beside(receiver, address, found, at)
        else:
            counters.strangers += 1

    def _meaning_of(self, frame: Frame | Reject, data: bytes) -> Meaning | Reject:
        """The registered beacon of a frame, or the frame itself; what will mean the same next time is remembered."""
        if isinstance(frame, Reject) or type(frame) not in CONSTANT:
            return frame
        key = key_of(frame)
        found = frame if key is None else self._beacons_by_key.get(key, frame)
        self._constant.remember(data, found)
        return found

    def _receive_beacon(self, beacon: Anchor, receiver: str, address: str, rssi_dbm: int, at: Instant) -> None:
        self.counters.beacons += 1
        self.canaries.heard(beacon.name, receiver, rssi_dbm, at.mono_ms, address or None)
        if self._relay is not None:
            self._relay.beacon(beacon.name, receiver, rssi_dbm, at.mono_ms)

    def _receive_battery(self, address: str, data: bytes, at: Instant) -> None:
        """What no format claims, from the address of a registered beacon."""
        reading = battery_fields.read(data)
        if reading is None:
            self.counters.strangers += 1
            return
        self.counters.beacons += 1
        millivolts, percent, temperature_c = reading
        name = self._beacon_addresses[address]
        self.canaries.battery(name, at.mono_ms, millivolts=millivolts, percent=percent, temperature_c=temperature_c)

    def _receive_beside(self, receiver: str, address: str, frame: Meaning | Reject, at: Instant) -> None:
        """A frame that names no registered beacon, from the address of one: beacons send telemetry between other frames."""
        name = self._beacon_addresses[address]
        self.counters.beacons += 1
        if type(frame) is EddystoneTlm:
            self.canaries.telemetry(name, frame, receiver, at.mono_ms)
            if self._relay is not None:
                self._relay.telemetry(name, receiver, frame, at.mono_ms)
        else:
            self.canaries.also_heard(name, receiver, at.mono_ms)

    def _receive_token(self, receiver: str, rssi_dbm: int, frame: ShopperToken, data: bytes, at: Instant) -> None:
        if not self._resolves:
            self.counters.not_resolved += 1
            return
        opened = self.identity.open(frame.token, at, data if len(data) <= LARGEST_REMEMBERED else None)
        if opened is not None:
            self._receive_opened(receiver, rssi_dbm, opened, at)

    def _receive_opened(self, receiver: str, rssi_dbm: int, opened: Opened, at: Instant) -> None:
        if not self._resolves:
            self.counters.not_resolved += 1
            return
        recognised = self.identity.recognise(opened, at)
        if recognised is None:
            return
        if self._relay is not None:
            self.counters.sightings += 1
            self._relay.sighted(recognised, receiver, rssi_dbm, at.mono_ms)
        else:
            self._take_recognised(recognised, receiver, rssi_dbm, at)

    def hear_from_another(self, told: Recognised, receiver: str, rssi_dbm: int, at: Instant) -> bool:
        """A shopper whom a receiving gateway recognised; False: in no roster in force here, so nobody.

        The roster's consent counts beside the one that was told, and a hint is looked at by this gateway's own clock.
        """
        allowed = self.identity.consent_of(told.shopper)
        if allowed is None:
            return False
        if not self._resolves:
            self.counters.not_resolved += 1
            return True
        hint = None if told.hint is None else self.identity.fresh(told.hint, at.wall_ms // 1000)
        self._take_recognised(Recognised(told.shopper, told.consent & allowed, hint), receiver, rssi_dbm, at)
        return True

    def hear_beacon_from_another(self, beacon: str, receiver: str, rssi_dbm: int, count: int, at: Instant) -> None:
        """A registered beacon that a receiving gateway heard ``count`` times."""
        self.counters.beacons += count
        for _ in range(count):
            self.canaries.heard(beacon, receiver, rssi_dbm, at.mono_ms)

    def _take_recognised(self, recognised: Recognised, receiver: str, rssi_dbm: int, at: Instant) -> None:
        shopper = recognised.shopper
        if recognised.consent is _NO_CONSENT:
            self.counters.no_consent += 1
            if shopper in self._consents:
                self._forget(shopper)
            return
        anchor = self._shop.anchors.get(receiver)
        if anchor is None:
            return
        self.counters.sightings += 1
        self._consents[shopper] = recognised.consent
        self._positioning.observe(shopper, receiver, rssi_dbm, at, "receiver")
        if self.record_walk is not None and self.identity.is_own(shopper):
            self.record_walk(shopper, receiver, rssi_dbm, at, "receiver")
        if rssi_dbm > LOUD_DBM and self._conflicts.loud(shopper, receiver, at[0]):
            self.counters.conflicts += 1
        if recognised.hint is not None and rssi_dbm >= _HINT_MIN_RECEIVER_DBM:
            self._take_hint(recognised, anchor, at)

    def _take_hint(self, recognised: Recognised, receiver: Anchor, at: Instant) -> None:
        """A hint counts, once a minute, when its beacon is ours and within reach, and it was told twice at least 2 s apart."""
        hint = recognised.hint
        beacon = None if hint is None else self._beacons_by_short_id.get(hint.short_id)
        if hint is None or beacon is None or beacon.zone is None or not self._reaches(receiver, beacon.zone):
            return
        key = (recognised.shopper, hint.short_id, hint.minute)
        told = self._hints.get(key)
        if told is None:
            self._hints[key] = _Told(at.mono_ms)
        elif not told.counted and at.mono_ms - told.first_ms >= _HINT_TWICE_MS:
            told.counted = True
            self._positioning.observe(recognised.shopper, beacon.name, hint.rssi_dbm, at, "hint")

    def _reaches(self, receiver: Anchor, zone: str) -> bool:
        near = receiver.covers if receiver.zone is None else receiver.covers | {receiver.zone}
        if not near or zone in near:
            return True
        return any(zone in (self._shop.zones[name].neighbours or ()) for name in near)

    def report(self, sighting: Sighting, consent: Consent) -> None:
        """A sighting that the app reported over the Internet and central checked; the shopper must be in a roster in force."""
        if not self._resolves:
            return
        effective = consent & (self.identity.consent_of(sighting.shopper) or Consent.NONE)
        if effective and sighting.anchor in self._shop.anchors:
            self._consents[sighting.shopper] = effective
            self._positioning.observe(sighting.shopper, sighting.anchor, sighting.rssi_dbm, sighting.at, sighting.source)

    @property
    def not_entered(self) -> tuple[NotEntered, ...]:
        """Where shoppers nearly were within the last quarter of an hour, oldest first."""
        return tuple(self._presence.not_entered)

    # ---- what time makes of it ------------------------------------------------------------------------------------------------

    @property
    def to_locate(self) -> int:
        """How many shoppers the next ``tick`` locates."""
        return self._positioning.to_locate

    def tick(self, now: Instant, quality: ClockQuality, signs: ReceiverSigns | None = None, most: int | None = None) -> Step:
        """Locate, decide and match everything up to ``now``.

        ``most``: so many shoppers are located at once, those first who were heard first; the others wait for another call.
        """
        self._quality = quality
        self._resolves = self._tuning.keeps_phones and quality is not ClockQuality.UNSYNCHRONISED
        self._ticked_ms = now.mono_ms
        beacons, receivers = self._follow_health(now, signs or _NO_SIGNS)
        events, self._remembered = self._remembered, []
        if self.catalogue is not None:
            self.catalogue.advance(now.wall_ms)
        for belief in self._positioning.beliefs(now, most):
            if self.identity.is_own(belief.shopper):
                self.test_beliefs[belief.shopper] = belief
            consent = self._consents.get(belief.shopper)
            if consent is not None:
                if consent not in WITH_OFFERS:
                    self._forget_context(belief.shopper)
                events += self._presence.update(belief, consent)
        events += self._presence.tick(now)
        # First what happened first.
        rests = self._rests(now)
        outcomes = tuple(self._outcome(event) for event in events)
        late = tuple(self._offers.tick(now))
        for verdict in late:
            _count(self.counters.offers, verdict.state)
        if now.mono_ms - self._housekept_ms >= _HOUSEKEEPING_MS:
            self._housekeep(now)
        forgotten, self._forgotten = tuple(self._forgotten), []
        return Step(outcomes, late, forgotten, beacons, receivers, rests)

    def _follow_health(self, now: Instant, signs: ReceiverSigns) -> tuple[tuple[BeaconChange, ...], tuple[ReceiverChange, ...]]:
        if now.mono_ms < self.canaries.next_deadline_ms() and not self._news.is_waiting and not self._relearnt:
            return (), ()
        changes = [*self._relearnt, *self.canaries.tick(now, signs.anything_ms, signs.down)]
        self._relearnt = []
        beacons, receivers = self._news.judged(changes, self.canaries, now, signs)
        # Of beacons tells who decides, because that one hears them through every receiver.
        return (beacons if self._relay is None else ()), receivers

    def next_deadline_ms(self) -> int | None:
        """The monotonic moment at which ``tick`` is wanted next, if nothing is received until then."""
        deadlines = [self._presence.next_deadline_ms(), self._offers.next_deadline_ms(), self._positioning.repeats_ms]
        if self._offers.is_waiting:
            deadlines.append(self._ticked_ms + TICK_MS)
        if self.canaries.are_awaited:
            deadlines.append(self.canaries.next_deadline_ms())
        if self._positioning.has_pending or self._forgotten or self._remembered or self._news.is_waiting or self._relearnt:
            deadlines.append(self._ticked_ms + TICK_MS)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    @property
    def shoppers_present(self) -> int:
        """Shoppers in some zone now."""
        return self._presence.present

    def zone_of(self, shopper: str) -> str | None:
        """Where the shopper is now."""
        return self._presence.zone_of(shopper)

    def _outcome(self, event: PresenceEvent) -> Outcome:
        if isinstance(event, VisitStarted):
            self._context_due_ms[event.shopper] = event.at.mono_ms + CONTEXT_WAIT_MS
        elif isinstance(event, VisitEnded):
            self._forget_context(event.shopper)
        if isinstance(event, VisitStarted | VisitEnded) or self.catalogue is None or event.zone not in self._shop.zones:
            return Outcome(event)
        # Most zones offer nothing to whoever leaves.
        if isinstance(event, Exited) and not self.catalogue.rules(event.zone, event).promotions:
            return Outcome(event)
        is_test = self.identity.is_own(event.shopper)
        by_receiver = event.evidence is not None and self._is_heard_in(event.zone, event.evidence)
        circumstances = Circumstances(
            self._quality,
            conflict=self._conflicts.is_about(event.shopper, event.at.mono_ms),
            by_receiver=by_receiver,
            listen_only=self._tuning.listen_only,
            is_test=is_test,
            # Whoever comes in as the zone's receiver hears again is heard before the canaries are asked.
            zone_is_blind=event.zone in self.canaries.blind_zones and not (by_receiver and type(event) is Entered),
        )
        context = self._contexts.of(event.shopper, event.at.mono_ms)
        wait_until_ms = self._context_due_ms.get(event.shopper, 0)
        outcome = self._offers.match(event, self._shop.zones[event.zone], self.catalogue, circumstances, context, wait_until_ms)
        return self._matched(outcome)

    def _rests(self, now: Instant) -> tuple[Outcome, ...]:
        """What waited for a context that has come since."""
        rests = []
        for waiting in self._offers.take_waiting(now.mono_ms, lambda shopper: self._contexts.held(shopper) is not None):
            event = waiting.event
            context = self._contexts.of(event.shopper, now.mono_ms)
            if context is not None and self.catalogue is not None and event.zone in self._shop.zones:
                rest = self._offers.match_rest(waiting, self._shop.zones[event.zone], self.catalogue, context, now)
                rests.append(self._matched(rest))
        return tuple(rests)

    def _matched(self, outcome: Outcome) -> Outcome:
        shopper = outcome.event.shopper
        held = self._contexts.held(shopper)
        if held is not None:
            outcome.context_version = held[0]
        if not self.identity.is_own(shopper):
            _count(self.counters.offers, "matched", len(outcome.offers))
        return outcome

    def _forget_context(self, shopper: str) -> None:
        self._contexts.forget((shopper,))
        self._context_due_ms.pop(shopper, None)
        self._offers.stop_waiting_of(shopper)

    def _is_heard_in(self, zone: str, evidence: Evidence) -> bool:
        """Whether receivers decided: nothing else speaks, or one of the zone does by itself."""
        if evidence.anchors and all(level.source == "receiver" for level in evidence.anchors):
            return True
        # Fainter than this a receiver speaks against its zone, so that only the hint would be left.
        enter_dbm = self._shop.zones[zone].enter_dbm
        least_dbm = USUAL_ENTER_DBM if enter_dbm is None else enter_dbm
        return any(
            level.source == "receiver"
            and level.anchor in self._shop.anchors
            and self._shop.anchors[level.anchor].zone == zone
            and level.level_dbm >= least_dbm
            for level in evidence.anchors
        )

    def _housekeep(self, now: Instant) -> None:
        """Drop what nobody can need any more, so that every table stays as small as the people in the shop."""
        self._housekept_ms = now.mono_ms
        self.test_beliefs = {s: belief for s, belief in self.test_beliefs.items() if self.identity.is_own(s)}
        for shopper in [s for s in self._consents if not self._positioning.follows(s) and not self._presence.is_present(s)]:
            del self._consents[shopper]
        # A token's minute is fresh from one skew before it began to one after it ended; until then its hint must not count anew.
        oldest = now.mono_ms - _MINUTE_MS - 2000 * self._tuning.skew_s
        self._hints = {key: told for key, told in self._hints.items() if told.first_ms >= oldest}
        self._conflicts.sweep(now.mono_ms)
        self._contexts.expire(now.mono_ms, self._presence.is_present)
        self._context_due_ms = {shopper: due for shopper, due in self._context_due_ms.items() if due > now.mono_ms}

    def _follow_roster(self, gone: Iterable[str]) -> None:
        """Forget who left the roster; hold the others to its consent bits now, not when they are next heard."""
        for name in gone:
            if not self.identity.is_known(name):
                self._forget(name)
        for name, consent in list(self._consents.items()):
            allowed = self.identity.consent_of(name)
            # A pseudonym of a day whose roster is gone ends its visit by silence.
            if allowed is None or consent & allowed == consent:
                continue
            if consent & allowed:
                self._consents[name] = consent & allowed
                self._presence.limit(name, allowed)
            else:
                self._forget(name)
        for name in self._contexts.shoppers:
            if self.identity.consent_of(name) not in WITH_OFFERS:
                self._forget_context(name)

    def _forget(self, shopper: str) -> None:
        self._positioning.forget(shopper)
        self._presence.forget(shopper)
        self._offers.forget(shopper)
        self._consents.pop(shopper, None)
        self._conflicts.forget(shopper)
        self._forget_context(shopper)
        self._hints = {key: told for key, told in self._hints.items() if key[0] != shopper}
        self._remembered = [event for event in self._remembered if event.shopper != shopper]
        self._forgotten.append(shopper)

    def _index_beacons(self) -> None:
        beacons = [a for a in self._shop.anchors.values() if a.kind == "beacon"]
        self._beacons_by_key = {key: a for a in beacons if (key := a.key) is not None}
        self._beacons_by_short_id = {a.minor: a for a in beacons if a.minor is not None}
        self._constant.clear()


def _count(counts: dict[str, int], key: str, by: int = 1) -> None:
    if by:
        counts[key] = counts.get(key, 0) + by
