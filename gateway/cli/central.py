"""`gateway central`: the reference service and what is managed in its file, whether it runs or not."""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter, ValidationError
from sqlite_utils import Database

from gateway.central import check_ins, records
from gateway.central.inbox import Inboxes
from gateway.central.records import CENTRAL
from gateway.central.service import Central
from gateway.cli.logs import log_to_stderr
from gateway.cli.promotions_file import TableDefaults, read_promotions, refuse
from gateway.cli.signals import stop_on_signals
from gateway.contract.fields import InboxId, explain, to_rfc3339
from gateway.contract.messages import AppOffer, WithdrawnOffer
from gateway.contract.offer_view import PromotionsImported
from gateway.contract.promotion_lint import lint
from gateway.contract.promotions import PromotionsFile
from gateway.contract.settings import CentralSettings, read_settings
from gateway.core.model import Consent
from gateway.core.sanitiser import printable
from gateway.core.spelling import listed
from gateway.errors import ConfigurationError, WrongCommand
from gateway.io.clock import SystemClock
from gateway.io.keys import shopper_key
from gateway.io.signing import Signer
from gateway.io.store.database import cut_log, drop_backups, transact

T = TypeVar("T")
_SHOWN_ERRORS = 5


def run_central(config: Path) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    settings = read_settings(config, CentralSettings)
    log_to_stderr(settings.log_level)

    async def serve() -> None:
        await Central(settings, SystemClock()).run(stop_on_signals())

    asyncio.run(serve())


def print_key(config: Path) -> None:
    """The public key, hexadecimal."""
    settings = read_settings(config, CentralSettings)
    print(Signer.from_file(settings.state_dir / "signing.key").public_key.hex())


def import_promotions(config: Path, file: Path, store: str | None, defaults: TableDefaults, *, as_json: bool) -> None:
    """All promotions of the file, or none; ``store`` may be left out where central has one."""
    settings = read_settings(config, CentralSettings)
    if store is None:
        store = only_store(settings)
    check_store(settings, store)
    given = read_promotions(file, defaults)
    refuse(given.problems, file)
    try:
        document = PromotionsFile.model_validate(given.document)
    except ValidationError as error:
        raise ConfigurationError(explain(error), where=str(file), do="Nothing was changed.") from error
    time_zone = ZoneInfo(settings.stores[store].time_zone)
    report = lint(given.document, shop=None, now_ms=SystemClock().now().wall_ms, time_zone=time_zone)
    errors = [f"{finding.promotion_id or 'file'}: {finding.what}" for finding in report.findings if finding.severity == "error"]
    if errors:
        raise ConfigurationError(
            " ".join(errors[:_SHOWN_ERRORS]), where=str(file), do="Nothing was changed. gateway offer lint shows everything."
        )
    if given.passed_over:
        print(f"gateway: these columns mean nothing here: {listed(given.passed_over)}.", file=sys.stderr)
    _change(settings, lambda db: records.replace_promotions(db, store, document.promotions))
    if as_json:
        print(PromotionsImported(store=store, promotions=len(document.promotions)).model_dump_json(indent=2))
    else:
        print(f"{len(document.promotions)} promotions for {store}")


def only_store(settings: CentralSettings) -> str:
    """The one store that central serves; ``WrongCommand`` when it has several."""
    if len(settings.stores) != 1:
        raise WrongCommand(
            f"central has {len(settings.stores)} stores; name one with --store: {listed(sorted(settings.stores))}."
        )
    return next(iter(settings.stores))


def enrol(config: Path, inbox: str, stores: list[str], key_file: Path, consent: str, *, is_test: bool) -> None:
    """Enrol an app; its key is made when there is none."""
    settings = read_settings(config, CentralSettings)
    for store in stores:
        check_store(settings, store)
    _check_inbox(inbox)
    flags = _consent(consent)
    ku = shopper_key(key_file)
    _change(settings, lambda db: records.enrol(db, inbox, ku, flags, stores, is_test=is_test))
    test = " as a test shopper" if is_test else ""
    print(f"{printable(inbox)} is enrolled in {', '.join(stores)}{test}")


def check_in(config: Path, inbox: str, store: str | None) -> None:
    """Expect an app's owner in a store."""
    settings = read_settings(config, CentralSettings)
    _check_inbox(inbox)
    if store is None:
        store = only_store(settings)
    check_store(settings, store)
    now_ms = SystemClock().now().wall_ms
    if not _change(settings, lambda db: check_ins.check_in(db, inbox, store, now_ms)):
        raise WrongCommand("is not enrolled.", where=printable(inbox), do="Nothing was changed.")
    print(f"{printable(inbox)} is expected in {store}")


def opt_out(config: Path, inbox: str) -> None:
    """Forget an app."""
    settings = read_settings(config, CentralSettings)
    _check_inbox(inbox)
    if not _change(settings, lambda db: records.opt_out(db, inbox)):
        raise WrongCommand("is not enrolled.", where=printable(inbox), do="Nothing was changed.")
    path = settings.state_dir / "central.db"
    drop_backups(path)
    cut_log(path, CENTRAL)
    print(f"{printable(inbox)} is forgotten")


def watch_inbox(config: Path, inbox: str, file: Path, *, as_json: bool) -> None:
    """Print offers as they arrive until SIGTERM or Ctrl-C."""
    settings = read_settings(config, CentralSettings)
    log_to_stderr(settings.log_level)
    _check_inbox(inbox)

    def show(_: str, offer: AppOffer, is_new: bool) -> None:
        if as_json:
            print(json.dumps({"new": is_new, **offer.model_dump(mode="json", exclude_none=True)}), flush=True)
        elif is_new:
            title = offer.data.title.get("en") or next(iter(offer.data.title.values()))
            print(f"{to_rfc3339(offer.time)}  {printable(title)}  ({printable(offer.data.zone)})", flush=True)

    def take_back(_: str, withdrawn: WithdrawnOffer) -> None:
        if as_json:
            print(json.dumps({"new": False, **withdrawn.model_dump(mode="json", exclude_none=True)}), flush=True)
        else:
            print(f"{to_rfc3339(withdrawn.time)}  {printable(withdrawn.data.promotion_id)} was taken back", flush=True)

    async def serve() -> None:
        inboxes = Inboxes(settings.broker, [inbox], file, SystemClock(), on_offer=show, on_withdrawn=take_back)
        await inboxes.run(stop_on_signals())

    asyncio.run(serve())


def _change(settings: CentralSettings, work: Callable[[Database], T]) -> T:
    """One transaction in central's file; a running service notices within a quarter of a second."""
    return transact(settings.state_dir / "central.db", CENTRAL, work)


def check_store(settings: CentralSettings, store: str) -> None:
    """``WrongCommand`` for one that central does not serve."""
    if store not in settings.stores:
        known = ", ".join(sorted(settings.stores))
        raise WrongCommand("is no store of this central service.", where=printable(store), do=f"Known are: {known}.")


def _check_inbox(inbox: str) -> None:
    try:
        TypeAdapter(InboxId).validate_python(inbox)
    except ValidationError as error:
        raise WrongCommand(
            "is no inbox name.", where=printable(inbox), do="Use up to 64 letters, digits, hyphens and underscores."
        ) from error


def _consent(text: str) -> Consent:
    names = {"offers": Consent.OFFERS, "analytics": Consent.ANALYTICS}
    consent = Consent.NONE
    for part in text.split(","):
        if part.strip() not in names:
            raise WrongCommand("is no consent.", where=printable(part), do="Use offers, analytics or offers,analytics.")
        consent |= names[part.strip()]
    return consent
