"""In which zones of a shop somebody can be located at all."""

from gateway.core.model import Shop
from gateway.core.positioning import Ground


def located_zones(shop: Shop, ground: Ground) -> frozenset[str]:
    """Those that the floor knows, which shoppers are located on, and those in which an anchor stands that speaks of shoppers.

    An anchor speaks of them when it hears them, or when their apps can name it: only an iBeacon has a short id.
    """
    model = ground.model
    on_floor = set() if model is None else {model.zones[number] for number in model.cell_zones if number >= 0}
    standing = {a.zone for a in shop.anchors.values() if a.zone is not None and (a.kind == "receiver" or a.minor is not None)}
    return frozenset(on_floor & shop.zones.keys() | standing)
