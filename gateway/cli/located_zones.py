"""In which zones of a gateway's shop somebody can be located, by the daemon that runs or by what it will have when it starts."""

from gateway.cli.reach import Gateway
from gateway.contract.control import Status
from gateway.contract.shop import ShopFile
from gateway.core.located import located_zones
from gateway.core.positioning import ground_of
from gateway.daemon.zone_models import folder_of, load


def located(gateway: Gateway, shop: ShopFile, status: Status | None) -> frozenset[str]:
    """Zones of ``shop``; ``status`` of the running daemon. ``ConfigurationError`` when a learned model cannot be read.

    Only the daemon knows what the model that it uses knows; it says itself which zones it misses, so here it counts as if it knew
    all.
    """
    if status is not None and status.positioning == "model":
        return frozenset(shop.zones)
    compiled = shop.compiled()
    return located_zones(compiled, ground_of(compiled, None if status is not None else load(folder_of(gateway.settings))))
