"""`gateway why`: a decision from the sighting to the inbox, or to the reason why it was withheld, under one id."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from gateway.cli.reach import Gateway
from gateway.cli.why_text import lines, nearly_lines
from gateway.contract.control import ExplainRequest
from gateway.contract.explanations import (
    MAX_DECISIONS,
    AppReceipt,
    Explanations,
    Inbox,
    OfferExplained,
)
from gateway.contract.fields import explain as explain_error
from gateway.contract.settings import CentralSettings, read_settings
from gateway.core.sanitiser import printable
from gateway.core.spelling import no_such
from gateway.core.timetable import local_time
from gateway.errors import GatewayError, WrongCommand

if TYPE_CHECKING:
    from sqlite_utils import Database

    from gateway.central.records import Fate

    FateOf = Callable[[str], Fate | None]
    """What became of an offer at central."""

CENTRAL_CONFIG = Path("/etc/beacon-gateway/central.toml")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_NEWEST_SINCE = 20


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
    answer = _beside_central(options.central_config, gateway.settings.store, partial(_answer, gateway, request))
    if options.as_json:
        print(answer.model_dump_json(indent=2))
        return
    zone = ZoneInfo(answer.time_zone)
    for line in lines(answer, zone) if answer.decisions else [_nothing(options)]:
        print(printable(line, limit=1000))
    for line in nearly_lines(answer, zone):
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


def _answer(gateway: Gateway, request: ExplainRequest, fate_of: "FateOf | None") -> Explanations:
    answer = _ask(gateway, request)
    if not answer.decisions:
        _complain_of_wrong_names(gateway, request, answer, fate_of)
    return answer if fate_of is None else _with_inboxes(answer, fate_of)


def _ask(gateway: Gateway, request: ExplainRequest) -> Explanations:
    """From the running daemon, or as it would answer if it ran."""
    answer = gateway.ask(request, Explanations)
    if answer is not None:
        return answer
    # Only now: the running daemon answers long before these are imported on a small machine.
    from gateway.cli.why_stopped import explain_from_files

    return explain_from_files(gateway, request)


def _complain_of_wrong_names(gateway: Gateway, request: ExplainRequest, answer: Explanations, fate_of: "FateOf | None") -> None:
    if request.decision is not None:
        raise WrongCommand(
            f"there is no decision {request.decision}; those of this database begin with {answer.epoch[:8]}-d, "
            "and are kept for 30 days."
        )
    if request.offer is not None:
        elsewhere = ""
        if fate_of is not None and fate_of(request.offer) is not None:
            elsewhere = " Central knows it: another gateway or an older database of this one made it."
        raise WrongCommand(f"there is no offer {request.offer} in this gateway's ledger, which is kept for 30 days.{elsewhere}")
    if request.zone is not None:
        zones = gateway.shop().shop.zones
        if request.zone not in zones:
            raise WrongCommand(no_such("zone", printable(request.zone, 60), zones))


# ---- central ------------------------------------------------------------------------------------------------------------------


def _beside_central(config: Path | None, store: str, work: "Callable[[FateOf | None], Explanations]") -> Explanations:
    """``work`` with a look into central's database; without, where nobody named its settings and the usual ones are of no use.

    The look begins before this process perhaps is the gateway's user for a while, who may not read central's files.
    """
    path = _central_database(config, store)
    if path is None:
        return work(None)
    from gateway.central import records
    from gateway.io.store.looking import look

    def inside(db: "Database") -> Explanations:
        fate_of = partial(records.fate_of, db, store)
        # SQLite opens its files with the first question.
        fate_of("")
        return work(fate_of)

    answer = look(path, inside, None)
    return work(None) if answer is None else answer


def _central_database(config: Path | None, store: str) -> Path | None:
    if config is None and not os.access(CENTRAL_CONFIG, os.R_OK):
        return None
    from gateway.central import records
    from gateway.io.store.looking import look

    try:
        path = read_settings(config or CENTRAL_CONFIG, CentralSettings).state_dir / "central.db"
        look(path, lambda db: records.fate_of(db, store, ""), None)
    except GatewayError:
        if config is not None:
            raise
        return None
    return path


def _with_inboxes(answer: Explanations, fate_of: "FateOf") -> Explanations:
    zone = ZoneInfo(answer.time_zone)

    def joined(offer: OfferExplained, matched_ms: int) -> OfferExplained:
        return offer.model_copy(update={"inbox": _inbox(fate_of(offer.offer), matched_ms, zone)})

    decisions = tuple(
        decision.model_copy(update={"offers": tuple(joined(offer, decision.time) for offer in decision.offers)})
        for decision in answer.decisions
    )
    return answer.model_copy(update={"decisions": decisions})


def _inbox(fate: "Fate | None", matched_ms: int, zone: ZoneInfo) -> Inbox:
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
    if duration_ms < 0:
        return ""
    return f", {duration_ms} ms after the event" if duration_ms < 1000 else f", {duration_ms / 1000:.1f} s after the event"


def _nothing(options: Options) -> str:
    where = "" if options.zone is None else f" in {options.zone}"
    since = "" if options.since is None else f" in the last {options.since}"
    if options.every_event:
        return f"Nothing happened{where}{since}."
    return f"Nothing was decided{where}{since}: nobody entered, nor stayed for as long as a promotion waits for."


def _clock(wall_ms: int, zone: ZoneInfo) -> str:
    return local_time(wall_ms, zone).strftime("%H:%M:%S")
