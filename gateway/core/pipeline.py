"""The story: an advertisement is received, a frame decoded, a shopper recognised, located, present, and offered something.

``receive`` is called once per advertisement and must stay cheap; ``tick`` does everything else and returns what belongs on disk
before any of it is sent. Time and randomness are arguments; nothing here reads a clock, logs or sends.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import tzinfo

from gateway.core import battery_fields
from gateway.core.canaries import Canaries
from gateway.core.frames import LARGEST_REMEMBERED, Decoder
from gateway.core.health_news import HealthNews
from gateway.core.identity import DayRoster, Identity, Opened
from gateway.core.model import (
    Anchor,
    BeaconChange,
    Belief,
    Circumstances,
    ClockQuality,
    Consent,
    Counters,
    Dwelled,
    EddystoneTlm,
    Entered,
    Evidence,
    Frame,
    HealthChange,
    HealthTold,
    IBeacon,
    Instant,
    Memory,
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
)
from gateway.core.offers import Catalogue, Offers
from gateway.core.positioning import Positioning
from gateway.core.presence import Presence
from gateway.core.relay import Relay

TICK_MS = 200
"""Positioning runs this often while there is anything to locate."""
_HINT_MIN_RECEIVER_DBM = -95
_HINT_TWICE_MS = 2_000
_MINUTE_MS = 60_000
_CONFLICT_DBM = -60
_CONFLICT_WITHIN_MS = 10_000
_CONFLICT_PAUSE_MS = 60_000
_STRONG_FORGET_MS = 180_000
_HOUSEKEEPING_MS = 60_000
_NO_SIGNS = ReceiverSigns()


@dataclass(frozen=True, slots=True)
class Tuning:
    """Settings of the pipeline that a technician may change."""

    time_zone: tzinfo
    day_start_s: int = 0
    skew_s: int = 120
    margin: float = 0.7
    hold_ms: int = 600
    visit_gap_ms: int = 1_800_000
    service_uuid16: int | None = None
    company_id: int | None = None
    keeps_phones: bool = True
    """False until the privacy settings are complete: shopper tokens are dropped unread."""
    listen_only: bool = False
    """Visits are measured, and every promotion is withheld."""


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
        self._decode = Decoder(tuning.service_uuid16, tuning.company_id, knows=self.identity.knows).decode
        self._positioning = Positioning(shop)
        self._presence = Presence(
            shop, margin=tuning.margin, hold_ms=tuning.hold_ms, visit_gap_ms=tuning.visit_gap_ms, new_id=new_id
        )
        self._offers = Offers(new_id)
        self._familiar = self.identity.familiar
        self._quality = ClockQuality.UNSYNCHRONISED
        self._resolves = False
        """Whether shopper tokens are looked at: the privacy settings are complete, and the clock is good enough."""
        self._consents: dict[str, Consent] = {}
        self._hints: dict[tuple[str, int, int], _Told] = {}
        """By shopper, short id and minute."""
        self._loud: dict[str, dict[str, int]] = {}
        """By shopper and zone, when the token was last loud there (monotonic milliseconds)."""
        self._conflict_until_ms: dict[str, int] = {}
        self._forgotten: list[str] = []
        self._remembered: list[PresenceEvent] = []
        self._beacons_by_key: dict[tuple[bytes, int, int], Anchor] = {}
        self._beacons_by_short_id: dict[int, Anchor] = {}
        self._ticked_ms = now.mono_ms
        self._housekept_ms = now.mono_ms
        self.test_beliefs: dict[str, Belief] = {}
        """The newest belief about each test shopper."""
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

    def use_shop(self, shop: Shop, wall_ms: int) -> None:
        """Swap zones and anchors; who is in a zone that is gone leaves it with the next tick."""
        gone = self._shop.anchors.keys() - shop.anchors.keys()
        self._shop = shop
        self._positioning.use(shop)
        self.canaries.use(shop)
        self._news.forget(gone)
        self._index_beacons()
        old = self.catalogue
        self.use_catalogue(None if old is None else self.compile_catalogue(old.version, old.promotions, old.quiet_hours, wall_ms))

    def compile_catalogue(
        self, version: int, promotions: Iterable[Promotion], quiet: QuietHours | None, wall_ms: int
    ) -> Catalogue:
        """A catalogue ready to ``use``; may run in another thread."""
        return Catalogue(version, promotions, quiet, self._shop, self._tuning.time_zone, wall_ms)

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
        self._offers.remember((offer for offer in memory.offers if offer.shopper not in gone), now)
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
        self._loud.clear()
        self._conflict_until_ms.clear()
        self.test_beliefs.clear()

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
        opened = self._familiar.get(data)
        if opened is not None and opened.from_ms <= at.wall_ms < opened.until_ms:
            # What decoding and opening would give again, for a look-up.
            self._receive_opened(receiver, rssi_dbm, opened, at)
            return
        frame = self._decode(data)
        if type(frame) is IBeacon:
            beacon = self._beacons_by_key.get((frame.uuid, frame.major, frame.minor))
            if beacon is None:
                counters.strangers += 1
            else:
                counters.beacons += 1
                self.canaries.heard(beacon.name, receiver, rssi_dbm, at.mono_ms, address or None)
                if self._relay is not None:
                    self._relay.beacon(beacon.name, receiver, rssi_dbm, at.mono_ms)
        elif frame is None:
            if address in self._beacon_addresses:
                self._receive_battery(address, data, at)
            else:
                counters.strangers += 1
        elif type(frame) is ShopperToken:
            self._receive_token(receiver, rssi_dbm, frame, data, at)
        elif type(frame) is Reject:
            _count(counters.rejects, f"{frame.format}.{frame.kind}")
        else:
            self._receive_beside(receiver, address, frame, at)

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

    def _receive_beside(self, receiver: str, address: str, frame: Frame | Reject, at: Instant) -> None:
        """A frame that names no registered beacon; its address may: beacons send their telemetry between other frames."""
        name = self.canaries.name_at(address)
        if name is None:
            self.counters.strangers += 1
            return
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
        if not recognised.consent:
            self.counters.no_consent += 1
            if shopper in self._consents:
                self._forget(shopper)
            return
        anchor = self._shop.anchors.get(receiver)
        if anchor is None:
            return
        self.counters.sightings += 1
        self._consents[shopper] = recognised.consent
        self._positioning.observe(Sighting(shopper, receiver, rssi_dbm, at, "receiver"))
        if rssi_dbm > _CONFLICT_DBM and anchor.zone is not None:
            self._watch_for_conflict(shopper, anchor.zone, at)
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
            self._positioning.observe(Sighting(recognised.shopper, beacon.name, hint.rssi_dbm, at, "hint"))

    def _reaches(self, receiver: Anchor, zone: str) -> bool:
        near = receiver.covers if receiver.zone is None else receiver.covers | {receiver.zone}
        if not near or zone in near:
            return True
        return any(zone in (self._shop.zones[name].neighbours or ()) for name in near)

    def _watch_for_conflict(self, shopper: str, zone: str, at: Instant) -> None:
        """The same token loud in two zones that are not neighbours: somebody repeats it."""
        loud = self._loud.get(shopper)
        if loud is None:
            loud = self._loud[shopper] = {}
        loud[zone] = at.mono_ms
        # Most are loud in one zone only, and this is asked for every loud token.
        if len(loud) == 1:
            return
        oldest_ms = at.mono_ms - _CONFLICT_WITHIN_MS
        for other in [other for other, heard_ms in loud.items() if heard_ms < oldest_ms]:
            del loud[other]
        if not any(other != zone and self._are_apart(zone, other) for other in loud):
            return
        if self._conflict_until_ms.get(shopper, 0) <= at.mono_ms:
            self.counters.conflicts += 1
        self._conflict_until_ms[shopper] = at.mono_ms + _CONFLICT_PAUSE_MS

    def _are_apart(self, zone: str, other: str) -> bool:
        """Two zones that are known not to be neighbours."""
        if zone not in self._shop.zones or other not in self._shop.zones:
            return False
        near, far = self._shop.zones[zone].neighbours, self._shop.zones[other].neighbours
        return near is not None and far is not None and other not in near and zone not in far

    def report(self, sighting: Sighting, consent: Consent) -> None:
        """A sighting that the app reported over the Internet and central checked; the shopper must be in a roster in force."""
        if not self._resolves:
            return
        effective = consent & (self.identity.consent_of(sighting.shopper) or Consent.NONE)
        if effective and sighting.anchor in self._shop.anchors:
            self._consents[sighting.shopper] = effective
            self._positioning.observe(sighting)

    # ---- what time makes of it ------------------------------------------------------------------------------------------------

    def tick(self, now: Instant, quality: ClockQuality, signs: ReceiverSigns | None = None) -> Step:
        """Locate, decide and match everything up to ``now``."""
        self._quality = quality
        self._resolves = self._tuning.keeps_phones and quality is not ClockQuality.UNSYNCHRONISED
        self._ticked_ms = now.mono_ms
        beacons, receivers = self._follow_health(now, signs or _NO_SIGNS)
        events, self._remembered = self._remembered, []
        if self.catalogue is not None:
            self.catalogue.advance(now.wall_ms)
        for belief in self._positioning.beliefs(now):
            if self.identity.is_own(belief.shopper):
                self.test_beliefs[belief.shopper] = belief
            consent = self._consents.get(belief.shopper)
            if consent is not None:
                events += self._presence.update(belief, consent)
        events += self._presence.tick(now)
        outcomes = tuple(self._outcome(event) for event in events)
        late = tuple(self._offers.tick(now))
        for verdict in late:
            _count(self.counters.offers, verdict.state)
        if now.mono_ms - self._housekept_ms >= _HOUSEKEEPING_MS:
            self._housekeep(now)
        forgotten, self._forgotten = tuple(self._forgotten), []
        return Step(outcomes, late, forgotten, beacons, receivers)

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
        deadlines = [self._presence.next_deadline_ms(), self._offers.next_deadline_ms()]
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
        if not isinstance(event, Entered | Dwelled) or self.catalogue is None or event.zone not in self._shop.zones:
            return Outcome(event)
        is_test = self.identity.is_own(event.shopper)
        by_receiver = event.evidence is not None and self._is_heard_in(event.zone, event.evidence)
        circumstances = Circumstances(
            self._quality,
            conflict=event.at.mono_ms < self._conflict_until_ms.get(event.shopper, event.at.mono_ms),
            by_receiver=by_receiver,
            listen_only=self._tuning.listen_only,
            is_test=is_test,
            # Whoever comes in as the zone's receiver hears again is heard before the canaries are asked.
            zone_is_blind=event.zone in self.canaries.blind_zones and not (by_receiver and type(event) is Entered),
        )
        outcome = self._offers.match(event, self._shop.zones[event.zone], self.catalogue, circumstances)
        if not is_test:
            _count(self.counters.offers, "matched", len(outcome.offers))
        return outcome

    def _is_heard_in(self, zone: str, evidence: Evidence) -> bool:
        return any(
            level.source == "receiver"
            and level.anchor in self._shop.anchors
            and self._shop.anchors[level.anchor].zone == zone
            # Fainter than this a receiver speaks against its zone, so that only the hint would be left.
            and level.level_dbm >= self._shop.zones[zone].enter_dbm
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
        oldest = now.mono_ms - _STRONG_FORGET_MS
        self._loud = {shopper: loud for shopper, loud in self._loud.items() if max(loud.values()) >= oldest}
        self._conflict_until_ms = {s: until for s, until in self._conflict_until_ms.items() if until > now.mono_ms}

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

    def _forget(self, shopper: str) -> None:
        self._positioning.forget(shopper)
        self._presence.forget(shopper)
        self._offers.forget(shopper)
        self._consents.pop(shopper, None)
        self._loud.pop(shopper, None)
        self._conflict_until_ms.pop(shopper, None)
        self._hints = {key: told for key, told in self._hints.items() if key[0] != shopper}
        self._remembered = [event for event in self._remembered if event.shopper != shopper]
        self._forgotten.append(shopper)

    def _index_beacons(self) -> None:
        beacons = [a for a in self._shop.anchors.values() if a.kind == "beacon"]
        self._beacons_by_key = {
            (a.uuid, a.major, a.minor): a for a in beacons if a.uuid and a.major is not None and a.minor is not None
        }
        self._beacons_by_short_id = {a.minor: a for a in beacons if a.minor is not None}


def _count(counts: dict[str, int], key: str, by: int = 1) -> None:
    if by:
        counts[key] = counts.get(key, 0) + by
