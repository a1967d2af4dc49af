"""What the commands about promotions print with ``--json``, beside ``CatalogueInForce`` and ``LintReport``."""

from gateway.contract.control import PromotionInForce
from gateway.contract.fields import StoreId, Strict, WallTime


class OfferView(PromotionInForce):
    """A promotion of the catalogue, and when it comes into force or goes out of it."""

    next_change_time: WallTime | None
    """``None``: never."""


class PromotionsImported(Strict):
    """What central has taken."""

    store: StoreId
    promotions: int
    """How many the store has now."""
