"""What the files of a gateway that does not run say about its decisions; only read, as the service's user."""

from zoneinfo import ZoneInfo

from gateway.cli.catalogue import remembered_document
from gateway.cli.reach import Gateway
from gateway.contract.control import ExplainRequest
from gateway.contract.explanations import Explanations
from gateway.core.model import Shop
from gateway.core.offers import Catalogue
from gateway.daemon.explain import explain
from gateway.errors import Untrusted
from gateway.io.clock import SystemClock


def explain_from_files(gateway: Gateway, request: ExplainRequest) -> Explanations:
    """As the daemon would answer if it ran."""
    settings = gateway.settings
    shop = gateway.shop().shop.compiled()
    time_zone, now_ms = ZoneInfo(settings.time_zone), SystemClock().now().wall_ms
    with gateway.as_service_user():
        return explain(
            settings.database_path,
            request,
            shop=shop,
            catalogue=_catalogue(gateway, shop, time_zone, now_ms),
            time_zone=time_zone,
            now_ms=now_ms,
            day_start_ms=settings.day_start_s * 1000,
        )


def _catalogue(gateway: Gateway, shop: Shop, time_zone: ZoneInfo, now_ms: int) -> Catalogue | None:
    try:
        # One that has expired since was in force when it decided.
        document = remembered_document(gateway, 0)
    except Untrusted:
        return None
    if document is None:
        return None
    quiet = None if document.quiet_hours is None else document.quiet_hours.compiled()
    promotions = [promotion.compiled() for promotion in document.promotions]
    return Catalogue(document.version, promotions, quiet, shop, time_zone, now_ms, sold_out=document.sold_out)
