"""`gateway why`: a decision from the sighting to the inbox, or to the reason why it was withheld, under one id."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from gateway.central import records
from gateway.central.records import Fate
from gateway.cli.reach import Gateway
from gateway.contract.control import ExplainRequest
from gateway.contract.downlinks import Catalogue as CatalogueDocument
from gateway.contract.explanations import (
    MAX_DECISIONS,
    AppReceipt,
    Belief,
    Explanation,
    Explanations,
    Heard,
    Inbox,
    Matching,
    OfferExplained,
)
from gateway.contract.fields import explain as explain_error
from gateway.contract.settings import CentralSettings, read_settings
from gateway.core.offers import Catalogue
from gateway.core.sanitiser import printable
from gateway.core.spelling import no_such
from gateway.core.timetable import local_time
from gateway.daemon.explain import explain
from gateway.daemon.plain_words import duration
from gateway.errors import GatewayError, Untrusted, WrongCommand
from gateway.io.clock import SystemClock
from gateway.io.signing import Verifier
from gateway.io.store.looking import look, remembered_downlinks

CENTRAL_CONFIG = Path("/etc/beacon-gateway/central.toml")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_NEWEST_SINCE = 20
_SHOWN_WITHHELD = 20
_STRONGEST = 4
_MANY_TIMES = 1000


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    config: Path
    central_config: Path | None
    newest: int | None
    offer: str | None
    decision: str | None
    zone: str | None
    since: str | None
    every_event: bool
    as_json: bool


def run_why(options: Options) -> None:
    """Explain what was asked for; that there is nothing is an answer too, unless a name is wrong (``WrongCommand``)."""
    request = _request(options)
    gateway = Gateway(options.config)
    # Before this process perhaps becomes a user who may not look there.
    central = _CentralFile.of(options.central_config, gateway.settings.store)
    answer = _with_inboxes(_ask(gateway, request), central)
    if not answer.decisions:
        _complain_of_wrong_names(gateway, request, answer, central)
    if options.as_json:
        print(answer.model_dump_json(indent=2))
        return
    zone = ZoneInfo(answer.time_zone)
    for line in _lines(answer, zone) if answer.decisions else [_nothing(options)]:
        print(printable(line, limit=1000))
    if answer.left_out and options.since is not None:
        print(f"\nOlder ones are left out; --last N shows up to {MAX_DECISIONS}.")


def seconds_of(text: str) -> int:
    """A duration as people write it; ``WrongCommand`` for anything else.

    >>> [seconds_of(text) for text in ("90s", "10m", "2h", "1d")]
    [90, 600, 7200, 86400]
    """
    found = re.fullmatch(r"([1-9][0-9]{0,6})([smhd])", text)
    if found is None:
        raise WrongCommand(f"{printable(text, 60)} is no duration; write it like 90s, 10m, 2h or 1d.")
    return int(found[1]) * _UNITS_S[found[2]]


def _request(options: Options) -> ExplainRequest:
    narrowed = [options.zone, options.since, options.newest]
    by_id = [options.offer, options.decision]
    if sum(each is not None for each in by_id) + any(each is not None for each in narrowed) > 1:
        raise WrongCommand("--offer and --decision name one decision: leave out the other, and --zone, --since and --last.")
    since_s = None if options.since is None else seconds_of(options.since)
    try:
        return ExplainRequest(
            newest=options.newest or (1 if since_s is None else _NEWEST_SINCE),
            offer=options.offer,
            decision=options.decision,
            zone=options.zone,
            since_s=since_s,
            every_event=options.every_event,
        )
    except ValidationError as error:
        raise WrongCommand(explain_error(error)) from error


def _ask(gateway: Gateway, request: ExplainRequest) -> Explanations:
    """From the running daemon, or as it would answer if it ran."""
    answer = gateway.ask(request, Explanations)
    if answer is not None:
        return answer
    shop, settings = gateway.shop().shop.compiled(), gateway.settings
    gateway.become_service_user()
    time_zone, now_ms = ZoneInfo(settings.time_zone), SystemClock().now().wall_ms
    document = _remembered_catalogue(gateway)
    catalogue = None
    if document is not None:
        quiet = None if document.quiet_hours is None else document.quiet_hours.compiled()
        promotions = [promotion.compiled() for promotion in document.promotions]
        catalogue = Catalogue(document.version, promotions, quiet, shop, time_zone, now_ms)
    return explain(settings.database_path, request, shop=shop, catalogue=catalogue, time_zone=time_zone, now_ms=now_ms)


def _remembered_catalogue(gateway: Gateway) -> CatalogueDocument | None:
    settings = gateway.settings
    verifier = Verifier(tuple(bytes.fromhex(key) for key in settings.trust.public_keys), settings.store)
    for name, _, payload in remembered_downlinks(settings.database_path):
        if name == "catalogue":
            try:
                # One that has expired since was in force when it decided.
                return verifier.open(payload, CatalogueDocument, where=name, now_ms=0)
            except Untrusted:
                return None
    return None


def _complain_of_wrong_names(
    gateway: Gateway, request: ExplainRequest, answer: Explanations, central: "_CentralFile | None"
) -> None:
    if request.decision is not None:
        raise WrongCommand(
            f"there is no decision {request.decision}; those of this database begin with {answer.epoch[:8]}-d, "
            "and are kept for 30 days."
        )
    if request.offer is not None:
        elsewhere = ""
        if central is not None and central.fate_of(request.offer) is not None:
            elsewhere = " Central knows it: another gateway or an older database of this one made it."
        raise WrongCommand(f"there is no offer {request.offer} in this gateway's ledger, which is kept for 30 days.{elsewhere}")
    if request.zone is not None:
        zones = gateway.shop().shop.zones
        if request.zone not in zones:
            raise WrongCommand(no_such("zone", printable(request.zone, 60), zones))


# ---- central ------------------------------------------------------------------------------------------------------------------


class _CentralFile:
    """Central's database, where this machine has it; only read."""

    def __init__(self, path: Path, store: str) -> None:
        self._path = path
        self._store = store

    @classmethod
    def of(cls, config: Path | None, store: str) -> "_CentralFile | None":
        """``None`` where nobody named settings of central's and the usual ones cannot be used."""
        if config is not None:
            return cls(read_settings(config, CentralSettings).state_dir / "central.db", store)
        try:
            central = cls(read_settings(CENTRAL_CONFIG, CentralSettings).state_dir / "central.db", store)
            central.fate_of("")
        except GatewayError:
            return None
        return central

    def fate_of(self, offer: str) -> Fate | None:
        """``DiskError`` when it cannot be read."""
        return look(self._path, lambda db: records.fate_of(db, self._store, offer), None)


def _with_inboxes(answer: Explanations, central: _CentralFile | None) -> Explanations:
    if central is None:
        return answer
    zone = ZoneInfo(answer.time_zone)

    def joined(offer: OfferExplained, matched_ms: int) -> OfferExplained:
        return offer.model_copy(update={"inbox": _inbox(central.fate_of(offer.offer), matched_ms, zone)})

    decisions = tuple(
        decision.model_copy(update={"offers": tuple(joined(offer, decision.time) for offer in decision.offers)})
        for decision in answer.decisions
    )
    return answer.model_copy(update={"decisions": decisions})


def _inbox(fate: Fate | None, matched_ms: int, zone: ZoneInfo) -> Inbox:
    if fate is None:
        return Inbox(state="unknown", detail="central has not seen this offer")
    if fate.reason is not None:
        return Inbox(state="refused", detail=f"not sent, because central refused it ({fate.reason})")
    if fate.receipts:
        receipts = tuple(AppReceipt.model_validate({"state": state, "time": time_ms}) for state, time_ms in fate.receipts)
        told = [f"{r.state} at {_clock(r.time, zone)}{_after(r.time - matched_ms)}" for r in receipts]
        return Inbox(state="confirmed", receipts=receipts, detail=f"in the app: {'; '.join(told)}")
    deadline = _clock(fate.deadline_ms, zone)
    if fate.waits:
        return Inbox(state="sent", detail=f"sent to the app, which has not confirmed it; tried until {deadline}")
    return Inbox(state="unconfirmed", detail=f"the app confirmed nothing before the deadline, {deadline}, or has opted out")


def _after(duration_ms: int) -> str:
    """The app's clock may be behind ours."""
    return "" if duration_ms < 0 else f", {duration(duration_ms)} after the event"


# ---- words --------------------------------------------------------------------------------------------------------------------


def _lines(answer: Explanations, zone: ZoneInfo) -> Iterator[str]:
    for number, decision in enumerate(answer.decisions):
        if number:
            yield ""
        for line in _story(decision, zone):
            yield f"{decision.decision}  {line}"


def _story(decision: Explanation, zone: ZoneInfo) -> Iterator[str]:
    when = local_time(decision.time, zone).strftime("%a %Y-%m-%d %H:%M:%S")
    test = ", a test shopper: no caps, no cool-downs" if decision.test_shopper else ""
    yield f"{when}  {_what(decision)}  (visit {decision.visit}{test})"
    if decision.heard:
        yield _line("sightings", "; ".join(_heard(decision.heard)))
    if decision.belief is not None:
        yield _line("position", _position(decision.belief, decision.zone or ""))
    if decision.stay is not None:
        yield _line("presence", decision.stay.detail)
    yield _line("delivery", f"{decision.event} {decision.delivery.detail}")
    if decision.matching is not None:
        yield from _matching(decision.matching)
    for offer in decision.offers:
        yield from _offer(offer)
    if decision.matching is not None:
        yield from _withheld(decision.matching)


def _what(decision: Explanation) -> str:
    verb = {"zone.entered": "entered", "zone.dwelled": "dwelled in", "zone.exited": "left"}.get(decision.event)
    return decision.event.replace(".", " ") if verb is None else f"{verb} {decision.zone}"


def _position(belief: Belief, zone: str) -> str:
    times = f"more than {_MANY_TIMES}" if belief.times_likelier > _MANY_TIMES else f"at least {belief.times_likelier:g}"
    rival = "outside" if belief.runner_up is None else f"{belief.runner_up}, the runner-up, or outside"
    return f"{zone} with {belief.probability:.0%}, {times} times as likely as {rival}"


def _heard(heard: tuple[Heard, ...]) -> Iterator[str]:
    for source, one, several in (
        ("receiver", "heard by 1 receiver", "heard by {} receivers"),
        ("hint", "the app's token told of 1 beacon", "the app's token told of {} beacons"),
        ("report", "the app reported 1 beacon", "the app reported {} beacons"),
    ):
        anchors = [f"{each.anchor} {each.level_dbm:.0f} dBm" for each in heard if each.source == source]
        if anchors:
            yield f"{one if len(anchors) == 1 else several.format(len(anchors))}: {', '.join(anchors)}"
    if len(heard) == _STRONGEST:
        yield "only the 4 strongest are kept"


def _matching(matching: Matching) -> Iterator[str]:
    yield _line("matching", matching.detail)
    if not matching.recomputed and matching.counts:
        yield _line("", f"withheld: {_counted(matching.counts)}")
    if matching.disagreement is not None:
        yield _line("", f"CAUTION: {matching.disagreement}")


def _offer(offer: OfferExplained) -> Iterator[str]:
    how = "a push" if offer.push else "a silent card"
    yield _line("offered", f"{offer.promotion_id}: {how}, offer {offer.offer}")
    yield _line("  central", offer.detail)
    if offer.delivery.state != "acknowledged":
        yield _line("  delivery", offer.delivery.detail)
    yield _line("  inbox", "known to central only" if offer.inbox is None else offer.inbox.detail)


def _withheld(matching: Matching) -> Iterator[str]:
    for withheld in matching.withheld[:_SHOWN_WITHHELD]:
        yield _line("withheld", f"{withheld.promotion_id}, {withheld.reason.value}: {withheld.detail}")
    rest = Counter(matching.counts)
    rest.subtract(withheld.reason.value for withheld in matching.withheld[:_SHOWN_WITHHELD])
    if matching.recomputed and len(matching.withheld) > _SHOWN_WITHHELD:
        yield _line("", f"and {_counted(rest)}; --json shows more of them")


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()) if count > 0)


def _line(label: str, text: str) -> str:
    return f"  {label:<10} {text}"


def _nothing(options: Options) -> str:
    where = "" if options.zone is None else f" in {options.zone}"
    since = "" if options.since is None else f" in the last {options.since}"
    if options.every_event:
        return f"Nothing happened{where}{since}."
    return f"Nothing was decided{where}{since}: nobody entered, nor stayed for as long as a promotion waits for."


def _clock(wall_ms: int, zone: ZoneInfo) -> str:
    return local_time(wall_ms, zone).strftime("%H:%M:%S")
