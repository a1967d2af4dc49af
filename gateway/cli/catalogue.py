"""The promotions that central has sent: the running daemon's, else those that its database remembers."""

from collections.abc import Mapping
from zoneinfo import ZoneInfo

from gateway.cli.reach import Gateway
from gateway.contract.control import CatalogueInForce, CatalogueRequest, PromotionInForce
from gateway.contract.downlinks import Catalogue
from gateway.contract.fields import Language
from gateway.contract.shop import ShopFile
from gateway.core.timetable import is_in_force
from gateway.errors import Untrusted
from gateway.io.clock import SystemClock
from gateway.io.signing import Verifier
from gateway.io.store.looking import remembered_downlinks

NO_CATALOGUE = "central has sent no catalogue yet."


def catalogue_of(gateway: Gateway) -> tuple[CatalogueInForce, str]:
    """The catalogue in force, and when there is none, why."""
    running = gateway.ask(CatalogueRequest(), CatalogueInForce)
    if running is not None:
        return running, "" if running.version is not None else NO_CATALOGUE
    shop = gateway.shop().shop
    return _remembered(gateway, shop)


def remembered_document(gateway: Gateway, still_at_ms: int) -> Catalogue | None:
    """The catalogue that the database remembers, as it came; ``Untrusted`` when it had expired by then, or its key is unknown."""
    settings = gateway.settings
    with gateway.as_service_user():
        payload = next(
            (payload for name, _, payload in remembered_downlinks(settings.database_path) if name == "catalogue"), None
        )
    if payload is None:
        return None
    verifier = Verifier(tuple(bytes.fromhex(key) for key in settings.trust.public_keys), settings.store)
    return verifier.open(payload, Catalogue, where="the remembered catalogue", now_ms=still_at_ms)


def _remembered(gateway: Gateway, shop: ShopFile) -> tuple[CatalogueInForce, str]:
    now_ms = SystemClock().now().wall_ms
    try:
        document = remembered_document(gateway, now_ms)
    except Untrusted as error:
        return CatalogueInForce(), f"the remembered catalogue {error.what}"
    if document is None:
        return CatalogueInForce(), NO_CATALOGUE
    zone = ZoneInfo(gateway.settings.time_zone)
    promotions = sorted(document.promotions, key=lambda promotion: (-promotion.priority, promotion.promotion_id))
    return (
        CatalogueInForce(
            version=document.version,
            not_after=document.not_after,
            promotions=tuple(
                PromotionInForce(
                    promotion=promotion,
                    zones=shop.zones_named(promotion.zones, promotion.tags),
                    in_force=is_in_force(promotion.compiled(), now_ms, zone),
                )
                for promotion in promotions
            ),
        ),
        "",
    )


def title_of(title: Mapping[Language, str]) -> str:
    """The English title, else the first there is."""
    return title.get("en") or next(iter(title.values()))
