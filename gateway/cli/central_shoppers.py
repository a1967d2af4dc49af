"""`gateway central profile`, `order` and `receipt`: by hand what a CRM, a web shop and a till tell central on MQTT."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from sqlite_utils import Database

from gateway.central.contexts import desks_of
from gateway.central.intake import Intake
from gateway.central.records import CENTRAL
from gateway.cli.central import check_store, only_store
from gateway.contract.fields import Strict, explain
from gateway.contract.messages import OrderData, ProfileData, TillReceiptData
from gateway.contract.settings import CentralSettings, read_settings
from gateway.core.sanitiser import printable
from gateway.errors import Untrusted, WrongCommand
from gateway.io.clock import SystemClock
from gateway.io.signing import Signer
from gateway.io.store.database import transact

Model = TypeVar("Model", bound=Strict)


@dataclass(frozen=True, slots=True)
class Told:
    """What a command line says of a shopper; left out is absent."""

    inbox: str | None = None
    card: str | None = None
    store: str | None = None


def tell_profile(
    config: Path, inbox: str, *, segments: list[str], watched: list[str], language: str | None, card: str | None
) -> None:
    """Replace the profile of an app's owner."""
    settings = read_settings(config, CentralSettings)
    now_ms = SystemClock().now().wall_ms
    document = {
        "inbox": inbox,
        "version": now_ms,
        "segments": segments,
        "watch_list": watched,
        "language": language,
        "card": card,
    }
    data = _checked(ProfileData, document)
    changed = _tell(settings, lambda db, intake: intake.profile(db, data))
    print(f"{printable(inbox)}: profile {'replaced' if changed else 'unchanged, a newer one is known'}")


def tell_order(config: Path, order: str, whose: Told, state: str, attribution: str | None) -> None:
    """How an order of the web shop stands that is fetched in a store."""
    settings = read_settings(config, CentralSettings)
    store = _store(settings, whose.store)
    now_ms = SystemClock().now().wall_ms
    document = {"order": order, "inbox": whose.inbox, "version": now_ms, "state": state, "changed_time": now_ms}
    data = _checked(OrderData, {**document, "attribution": attribution})
    changed = _tell(settings, lambda db, intake: intake.order(db, store, data, now_ms))
    print(f"order {printable(order)} for {store}: {state if changed else 'unchanged, a newer state is known'}")


def tell_receipt(
    config: Path, receipt: str, whose: Told, total: str, *, refunds: str | None, products: list[str], redeemed: list[str]
) -> None:
    """A purchase or a refund of today."""
    settings = read_settings(config, CentralSettings)
    store = _store(settings, whose.store)
    now_ms = SystemClock().now().wall_ms
    document = {
        "receipt": receipt,
        "till": "by-hand",
        "purchase_time": now_ms,
        "inbox": whose.inbox,
        "card": whose.card,
        "total": total,
        "refunds": refunds,
        "items": [{"gtin": gtin} for gtin in products],
        "redeemed": redeemed,
    }
    data = _checked(TillReceiptData, document)
    if (whose.inbox is None) == (whose.card is None):
        raise WrongCommand("a receipt is somebody's: one of --inbox and --card is needed.")
    is_kept = _tell(settings, lambda db, intake: intake.till_receipt(db, store, data, now_ms))
    kept = "kept" if is_kept else "not kept: it is known already, or of nobody who has consented"
    print(f"receipt {printable(receipt)} of {store}: {kept}")


def _store(settings: CentralSettings, store: str | None) -> str:
    if store is None:
        return only_store(settings)
    check_store(settings, store)
    return store


def _checked(model: type[Model], document: dict[str, Any]) -> Model:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise WrongCommand(explain(error)) from error


def _tell(settings: CentralSettings, work: Callable[[Database, Intake], str | None]) -> bool:
    """One transaction in central's file; a running service notices within a quarter of a second and tells whom it concerns."""
    signer = Signer.from_file(settings.state_dir / "signing.key")
    try:
        return (
            transact(settings.state_dir / "central.db", CENTRAL, lambda db: work(db, Intake(desks_of(db, settings, signer))))
            is not None
        )
    except Untrusted as error:
        raise WrongCommand(error.what, where=error.where, do="Nothing was changed.") from error
