"""`gateway demo`: a simulated shop around the real line, and a timeline that a person can read.

Everything between the advertisement bytes and the app's inbox is the product: pipeline, database, broker session, central
service. Only the air, the people and the speed of time are simulated.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from sqlite_utils import Database

from gateway.central import records
from gateway.central.inbox import Inboxes
from gateway.central.records import CENTRAL
from gateway.central.service import Central
from gateway.cli.kept_settings import keep_settings
from gateway.cli.logs import log_to_stderr
from gateway.cli.run import Recording
from gateway.cli.signals import stop_on_signals
from gateway.contract.messages import AppOffer
from gateway.contract.promotions import Promotion
from gateway.contract.settings import Broker, CentralSettings, CentralStore, Privacy, Settings, Trust
from gateway.core.model import (
    AnchorLevel,
    Consent,
    Dwelled,
    Entered,
    Exited,
    Instant,
    OfferMatched,
    Outcome,
    Shop,
    Step,
    Withheld,
)
from gateway.core.sanitiser import printable
from gateway.core.timetable import local_time
from gateway.core.token import WINDOW_S, day_of, derive_pseudonym
from gateway.daemon import Daemon, EarCondition
from gateway.errors import ConfigurationError
from gateway.io.clock import SystemClock
from gateway.io.embedded_broker import embedded_broker
from gateway.io.recorder import Recorder
from gateway.io.store.database import transact
from gateway.simulator.clock import SimulatedClock
from gateway.simulator.demo_promotions import demo_promotions
from gateway.simulator.plan_file import demo_floor_plan
from gateway.simulator.store import StoreInABox

_STORE = "demo"
_STORE_NUMBER = 4711
_TIME_ZONE = "Europe/Berlin"
_MONDAY_AT_FIVE_MS = 1_789_398_000_000
"""2026-09-14 17:00 in Berlin: late enough for the evening's bread, and a Monday."""
_BEACON_UUID = bytes.fromhex("8b1f4a0e5d9c4c7ba1e30d5f6a7b8c9d")
_STRANGERS = 40
_STEP_MS = 50
_START_TIMEOUT_S = 20.0
_WARM_UP_MS = 30_000
"""Simulated time in which the parts find one another; more than the time-out lets pass."""
_DRAIN_S = 10.0
_PREFIX = "beacon-gateway-demo-"
_JUST_MADE_S = 10
_INTERRUPTED = 130
_RECORD_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    duration_s: int
    speed: float
    shoppers: int
    seed: int
    as_json: bool
    keep: Path | None
    amqtt: bool
    record: Path | None = None
    everything: bool = False


class _Air:
    """The simulated receivers; what they hear comes with the steps of simulated time."""

    def __init__(self, shop: Shop) -> None:
        self._receivers = [anchor.name for anchor in shop.anchors.values() if anchor.kind == "receiver"]

    async def run(self) -> None:
        await asyncio.Event().wait()

    def conditions(self) -> list[EarCondition]:
        return [EarCondition(name, None, "simulated") for name in self._receivers]


def run_demo(options: Options) -> None:
    """Run the demonstration; Ctrl-C ends it with a summary of what there was."""
    log_to_stderr("error")
    with _folder(options.keep) as folder:
        recorder = None if options.record is None else Recording(options.record, _RECORD_MINUTES, options.everything).begin()
        try:
            interrupted = asyncio.run(_Demo(options, folder, recorder).run())
        finally:
            if recorder is not None:
                recorder.close()
    if interrupted:
        sys.exit(_INTERRUPTED)


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        # Ctrl-C waits until it is certain that the folder will be removed.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        temporary = tempfile.TemporaryDirectory(prefix=_PREFIX)
        # Held until this process ends, however that happens.
        held = os.open(temporary.name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            _remove_abandoned(Path(temporary.name))
            yield Path(temporary.name)
        finally:
            # Nothing is left to do but this, and a second Ctrl-C must not leave half of the folder behind.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            temporary.cleanup()
            os.close(held)
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
        used = any(keep.iterdir())
    except OSError as error:
        raise ConfigurationError(f"cannot be used ({error.strerror}).", where=str(keep), do="Name another folder.") from error
    if used:
        raise ConfigurationError("is not empty.", where=str(keep), do="Name an empty or new folder.")
    yield keep


def _remove_abandoned(own: Path) -> None:
    """Folders of demonstrations that were killed outright: ours, and locked by nobody any more."""
    began_s = own.stat().st_mtime
    for folder in own.parent.glob(f"{_PREFIX}*"):
        # Somebody else's, no folder, locked, or gone by now: none of them is ours to remove.
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                found = os.fstat(descriptor)
                # One that has just been made is not locked yet.
                if found.st_uid == os.geteuid() and began_s - found.st_mtime > _JUST_MADE_S:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder)
            finally:
                os.close(descriptor)


@dataclass(slots=True)
class _Tally:
    """What happened, for the summary."""

    entered: int = 0
    matched: dict[str, float] = field(default_factory=dict)
    """Offer → real monotonic milliseconds of the decision."""
    in_inbox: set[str] = field(default_factory=set)
    repeated: int = 0
    """Offers that reached an inbox more than once."""
    twice: int = 0
    """Promotions offered to one shopper more often than their cap allows."""
    ended: dict[str, str] = field(default_factory=dict)
    """Offer → "refused" or "late": central said no, or nobody answered in time."""
    withheld: Counter[str] = field(default_factory=Counter)
    latency_ms: list[float] = field(default_factory=list)
    enter_delay_s: list[float] = field(default_factory=list)


class _Demo:
    """One run."""

    def __init__(self, options: Options, folder: Path, recorder: Recorder | None) -> None:
        self._options = options
        self._folder = folder
        self._recorder = recorder
        self._real = SystemClock(assume_synchronised=True)
        self._clock = SimulatedClock(Instant(0, _MONDAY_AT_FIVE_MS - _WARM_UP_MS))
        self._shop = StoreInABox(
            demo_floor_plan(),
            seed=options.seed,
            shoppers=options.shoppers,
            strangers=_STRANGERS,
            start_wall_ms=_MONDAY_AT_FIVE_MS,
            store_number=_STORE_NUMBER,
            day_start_s=0,
            beacon_uuid=_BEACON_UUID,
            arrivals_within_ms=options.duration_s * 1000,
        )
        self._promotions: dict[str, Promotion] = {promotion.promotion_id: promotion for promotion in demo_promotions()}
        self._names = self._names_by_pseudonym()
        self._inbox_names = {shopper.inbox: shopper.name for shopper in self._shop.shoppers}
        self._tally = _Tally()
        self._offered: Counter[tuple[str, str]] = Counter()
        self._broker_name = ""

    async def run(self) -> bool:
        """Returns whether it was interrupted."""
        stop = stop_on_signals()
        async with embedded_broker(self._folder, prefer_amqtt=self._options.amqtt) as (self._broker_name, broker):
            central = self._central(broker)
            daemon = self._daemon(broker, central.signer.public_key)
            inboxes = self._inboxes(broker)
            ending = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(central.run(ending))
                if inboxes is not None:
                    group.create_task(inboxes.run(ending))
                group.create_task(daemon.run([_Air(self._shop.shop)], ending))
                try:
                    if await self._until_ready(daemon, inboxes, stop):
                        self._introduce()
                        await self._let_time_pass(daemon, stop)
                        await self._drain(stop)
                finally:
                    # Whoever says goodbye waits on simulated time at most for a step.
                    ending.set()
            self._sum_up(daemon, interrupted=stop.is_set())
        return stop.is_set()

    # ---- the parts ------------------------------------------------------------------------------------------------------------

    def _central(self, broker: Broker) -> Central:
        settings = CentralSettings(
            state_dir=self._folder / "central",
            broker=broker,
            stores={_STORE: CentralStore(store_number=_STORE_NUMBER)},
            # This broker does not die, and at a thousand times the speed ten seconds are gone before a receipt can come.
            offer_resend_s=3600,
        )

        def enrol(db: Database) -> None:
            records.replace_promotions(db, _STORE, tuple(self._promotions.values()))
            for shopper in self._shop.shoppers:
                if shopper.enrolled:
                    records.enrol(db, shopper.inbox, shopper.ku, shopper.consent, [_STORE])

        transact(settings.state_dir / "central.db", CENTRAL, enrol)
        return Central(settings, self._clock)

    def _daemon(self, broker: Broker, public_key: bytes) -> Daemon:
        settings = Settings(
            store=_STORE,
            store_number=_STORE_NUMBER,
            gateway="pi-1",
            time_zone=_TIME_ZONE,
            state_dir=self._folder / "gateway",
            privacy=Privacy(controller="Demo shop", contact="nobody@example.org", dpia_ack=True),
            broker=broker,
            trust=Trust(public_keys=(public_key.hex(),)),
        )
        ids = random.Random(f"{self._options.seed} ids")
        if self._options.keep is not None:
            keep_settings(self._folder, settings, self._shop.shop)
        return Daemon(
            settings,
            self._shop.shop,
            self._clock,
            observe=self._observe,
            new_id=lambda: f"{ids.getrandbits(64):016x}",
            recorder=self._recorder,
        )

    def _inboxes(self, broker: Broker) -> Inboxes | None:
        inboxes = [shopper.inbox for shopper in self._shop.shoppers if shopper.enrolled]
        path = self._folder / "apps.db"
        return Inboxes(broker, inboxes, path, self._clock, on_offer=self._arrived, client_id="apps") if inboxes else None

    def _names_by_pseudonym(self) -> dict[str, str]:
        first = day_of(_MONDAY_AT_FIVE_MS // 1000 // WINDOW_S, 0)
        days = range(first, first + 2 + self._options.duration_s // 86_400)
        return {
            derive_pseudonym(shopper.ku, _STORE_NUMBER, day).hex(): shopper.name
            for shopper in self._shop.shoppers
            for day in days
        }

    # ---- time -----------------------------------------------------------------------------------------------------------------

    async def _until_ready(self, daemon: Daemon, inboxes: Inboxes | None, stop: asyncio.Event) -> bool:
        """Let the parts find one another; simulated time creeps meanwhile, so that nobody sleeps for ever."""
        deadline = self._real.now().mono_ms + round(_START_TIMEOUT_S * 1000)
        wanted = sum(shopper.enrolled for shopper in self._shop.shoppers)
        while not stop.is_set():
            ready = inboxes is None or inboxes.online.is_set()
            if ready and daemon.pipeline.catalogue is not None and daemon.pipeline.identity.roster_size == wanted:
                return True
            if self._real.now().mono_ms > deadline:
                raise ConfigurationError("the parts of the demo did not find one another.", do="Try again with --amqtt.")
            await asyncio.sleep(0.005)
            self._clock.advance(self._clock.now().mono_ms + 5)
        return False

    async def _let_time_pass(self, daemon: Daemon, stop: asyncio.Event) -> None:
        """Move the shop and the clock together; when the machine cannot follow, simulated time slows down.

        The shop opens at the same simulated moment in every run, and no time passes while the gateway decides: a seed gives
        the same offers, however quick the machine is.
        """
        self._clock.advance(_WARM_UP_MS)
        began_ms, began_real_ms = self._clock.now().mono_ms, self._real.now().mono_ms
        self._shop_offset_ms = began_ms
        shop_ms = 0
        while shop_ms < self._options.duration_s * 1000 and not stop.is_set():
            shop_ms += _STEP_MS
            for heard in self._shop.advance(shop_ms):
                self._clock.advance(began_ms + heard.at_ms)
                daemon.heard(heard.receiver, heard.address, heard.rssi_dbm, heard.data)
            self._clock.advance(began_ms + shop_ms)
            due_real_ms = began_real_ms + shop_ms / self._options.speed
            await asyncio.sleep(max(0.0, (due_real_ms - self._real.now().mono_ms) / 1000))
            await daemon.at_rest.wait()

    async def _drain(self, stop: asyncio.Event) -> None:
        """Give what is on its way the time it would have had."""
        deadline = self._real.now().mono_ms + round(_DRAIN_S * 1000)
        while self._missing() and not stop.is_set() and self._real.now().mono_ms < deadline:
            await asyncio.sleep(0.01)
            self._clock.advance(self._clock.now().mono_ms + 10)

    def _missing(self) -> int:
        return len(self._tally.matched.keys() - self._tally.in_inbox - self._tally.ended.keys())

    # ---- what is seen ---------------------------------------------------------------------------------------------------------

    def _observe(self, step: Step) -> None:
        for rest in step.rests:
            self._observe_offers(rest)
        for outcome in step.outcomes:
            self._observe_outcome(outcome)
        for verdict in step.verdicts:
            if verdict.state != "granted":
                self._tally.ended[verdict.offer] = verdict.state

    def _observe_outcome(self, outcome: Outcome) -> None:
        event = outcome.event
        name = self._names.get(event.shopper, "?")
        if isinstance(event, Entered):
            self._tally.entered += 1
            self._note_enter_delay(name, event)
            loudest = self._witness(event)
            why = f"{event.evidence.belief:.0%} sure, {loudest.anchor} {loudest.level_dbm:.0f} dBm"
            self._say(event.at, name, "entered", zone=event.zone, why=why)
        elif isinstance(event, Exited):
            stayed_s = (event.left_at.mono_ms - event.entered_at.mono_ms) / 1000
            self._say(event.at, name, "left", zone=event.zone, why=f"{event.reason}, stayed {stayed_s:.0f} s")
        elif isinstance(event, Dwelled):
            self._say(event.at, name, "dwelled", zone=event.zone, why=f"{event.dwell_ms // 1000} s")
        self._observe_offers(outcome)
        shelved = {offer.promotion_id for offer in outcome.offers}
        for withheld in outcome.withheld:
            self._tally.withheld[withheld.reason.value] += 1
            if withheld.promotion_id not in shelved:
                self._say(event.at, name, "withheld", promotion=withheld.promotion_id, why=_in_words(withheld))

    def _observe_offers(self, outcome: Outcome) -> None:
        name = self._names.get(outcome.event.shopper, "?")
        unpushed = {withheld.promotion_id: _in_words(withheld) for withheld in outcome.withheld}
        for offer in outcome.offers:
            self._observe_offer(name, offer, outcome.event.consent, unpushed.get(offer.promotion_id))

    def _observe_offer(self, name: str, offer: OfferMatched, consent: Consent, unpushed: str | None) -> None:
        assert consent & Consent.OFFERS
        self._tally.matched[offer.offer] = self._real.now().mono_ms
        promotion = self._promotions[offer.promotion_id]
        self._offered[offer.shopper, offer.promotion_id] += 1
        if self._offered[offer.shopper, offer.promotion_id] > promotion.daily_cap:
            self._tally.twice += 1
        how = "the push of this visit" if offer.push else "a silent card"
        if unpushed is not None:
            how = f"on the silent shelf: {unpushed}"
        why = f"in {offer.zone}, in force, {how}"
        self._say(offer.at, name, "offered", promotion=offer.promotion_id, title=promotion.long_title["en"], why=why)

    def _arrived(self, inbox: str, offer: AppOffer, is_new: bool) -> None:
        if not is_new:
            self._tally.repeated += 1
            return
        self._tally.in_inbox.add(offer.data.offer)
        latency_ms = self._real.now().mono_ms - self._tally.matched.get(offer.data.offer, self._real.now().mono_ms)
        self._tally.latency_ms.append(latency_ms)
        name = self._inbox_names.get(inbox, "?")
        title = offer.data.title.get("en", "")
        self._say(
            self._clock.now(), name, "received", promotion=offer.data.promotion_id, title=title, latency_ms=round(latency_ms)
        )

    def _witness(self, event: Entered) -> AnchorLevel:
        """The loudest anchor that stands in the zone, else the loudest of all."""
        anchors = event.evidence.anchors
        return next((a for a in anchors if self._shop.shop.anchors[a.anchor].zone == event.zone), anchors[0])

    def _note_enter_delay(self, name: str, event: Entered) -> None:
        at_ms = event.at.mono_ms - self._shop_offset_ms
        stays = [stay for stay in self._shop.truth if stay.shopper == name and stay.zone == event.zone]
        inside = [stay for stay in stays if stay.entered_ms <= at_ms < stay.left_ms]
        if inside:
            self._tally.enter_delay_s.append((at_ms - inside[0].entered_ms) / 1000)

    # ---- what is said ---------------------------------------------------------------------------------------------------------

    def _introduce(self) -> None:
        if self._options.as_json:
            return
        enrolled = sum(shopper.enrolled for shopper in self._shop.shoppers)
        anchors = Counter(anchor.kind for anchor in self._shop.shop.anchors.values())
        print(
            f"A shop with {len(self._shop.shop.zones)} zones, {anchors['receiver']} receivers and {anchors['beacon']} beacons. "
            f"{self._options.shoppers} shoppers will come, {enrolled} of them with the app and consent; "
            f"{_STRANGERS} other devices are on the air.\n"
            f"Broker: {self._broker_name}. {self._options.duration_s} s pass at {self._options.speed:g} × speed; "
            "latencies are real milliseconds.\n"
        )

    def _say(self, at: Instant, name: str, what: str, **details: Any) -> None:
        if self._options.as_json:
            print(json.dumps({"time": self._time(at), "shopper": name, "what": what, **details}, ensure_ascii=False), flush=True)
            return
        why = f"   ({details['why']})" if "why" in details else ""
        match what:
            case "entered" | "left" | "dwelled":
                text = f"{what:<8} {details['zone']}{why}"
            case "offered":
                text = f"  → offer  {details['title']}{why}"
            case "received":
                text = f"  ✓ in the app after {details['latency_ms']} ms: {details['title']}"
            case _:
                text = f"  · not offered: {details['promotion']}{why}"
        print(printable(f"{self._time(at)}  {name:<9} {text}"), flush=True)

    def _time(self, at: Instant) -> str:
        return local_time(at.wall_ms, ZoneInfo(_TIME_ZONE)).strftime("%H:%M:%S")

    def _sum_up(self, daemon: Daemon, *, interrupted: bool) -> None:
        tally, counters = self._tally, daemon.pipeline.counters
        summary: dict[str, Any] = {
            "offers_matched": len(tally.matched),
            "offers_in_inbox": len(tally.in_inbox),
            "duplicates": tally.repeated + tally.twice,
            "lost": self._missing(),
            "latency_ms_p95": _percentile(tally.latency_ms, 95),
            "latency_ms_p50": _percentile(tally.latency_ms, 50),
            "enter_delay_s_p95": _percentile(tally.enter_delay_s, 95),
            "zones_entered": tally.entered,
            "withheld": dict(sorted(tally.withheld.items())),
            "not_granted": dict(sorted(Counter(tally.ended.values()).items())),
            "advertisements": counters.advertisements,
            "strangers_dropped": counters.strangers,
            "broker": self._broker_name,
            "seed": self._options.seed,
            "interrupted": interrupted,
        }
        if self._options.as_json:
            print(json.dumps({"summary": True, **summary}), flush=True)
            return
        latency = (
            f"Entered → app {summary['latency_ms_p50']} ms (median), {summary['latency_ms_p95']} ms (95 %)"
            if tally.latency_ms
            else "nothing was sent"
        )
        print(
            f"\n{'Stopped. So far: ' if interrupted else ''}{tally.entered} zone entries, {len(tally.matched)} offers matched, "
            f"{len(tally.in_inbox)} in the app's inbox, {summary['duplicates']} duplicates, {summary['lost']} lost; {latency}.\n"
            f"Heard {counters.advertisements} advertisements; {counters.strangers} were of no one we know and left no trace."
        )


def _percentile(values: list[float], percent: int) -> float | None:
    """Nearest rank; ``None`` without values."""
    if not values:
        return None
    ordered = sorted(values)
    return round(ordered[max(0, -(-percent * len(ordered) // 100) - 1)], 1)


def _in_words(withheld: Withheld) -> str:
    return withheld.reason.value.replace("_", " ")
