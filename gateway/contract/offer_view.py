"""What the commands about promotions print with ``--json``, beside ``CatalogueInForce`` and ``LintReport``."""

from typing import Literal

from gateway.contract.control import PromotionInForce
from gateway.contract.fields import Language, Name, PromotionId, StoreId, Strict, WallTime


class OfferView(PromotionInForce):
    """A promotion of the catalogue, and when it comes into force or goes out of it."""

    next_change_time: WallTime | None
    """``None``: never."""


class PromotionsImported(Strict):
    """What central has taken."""

    store: StoreId
    promotions: int
    """How many the store has now."""


class PreviewedOffer(Strict):
    """What one promotion would mean for a shopper at one moment of a stay."""

    when: str
    """enters, stays n s, or leaves."""
    promotion_id: PromotionId
    gets: Literal["push", "shelf", "card", "nothing"]
    reason: str | None = None
    """Why not, or why not as a push."""
    detail: str | None = None
    """The same in one sentence."""
    audience: tuple[str, ...] = ()
    """Each condition of its audience with the value that was found."""


class Preview(Strict):
    """What ``offer preview`` tells of one shopper."""

    zone: Name
    time: WallTime
    """Of the entry."""
    offers: tuple[PreviewedOffer, ...]
    """In the order of the stay, then by priority."""


class ReachedPromotion(Strict):
    """Whom one promotion would have reached."""

    promotion_id: PromotionId
    at_most: bool
    """It asks for what central knows of shoppers, which no ledger keeps: the figures are the most that is possible."""
    offers: int
    pushes: int
    """Of these; the rest is silent."""
    visits: int
    shoppers: int
    withheld: dict[str, int]
    """Events at which it was not offered, by reason."""


class Reach(Strict):
    """What ``offer preview --reach`` tells of a recorded day."""

    shoppers: int
    visits: int
    promotions: tuple[ReachedPromotion, ...]
    """In the order of the file."""


class OfferTemplate(Strict):
    """A promotion to begin with."""

    name: str
    """For ``offer new --template``."""
    story: str
    """The shop-floor story that it belongs to."""
    about: dict[Language, str]
    """What it is for, one sentence by language."""


class OfferTemplates(Strict):
    """``offer new --list``."""

    templates: tuple[OfferTemplate, ...]
