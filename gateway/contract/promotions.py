"""Promotions as marketing writes them; names follow the Google Merchant promotions feed where it has one.

From ``promotion_id`` to ``promotion_url`` they are the feed's (``feeds.py`` reads one); zones, tags, trigger, windows, caps and
deadline are what a shop floor needs besides. Money is a decimal amount with its currency, never a float.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from gateway.contract.fields import Language, MoneyText, Name, PromotionId, Strict, from_rfc3339, minutes_of
from gateway.core import model
from gateway.core.model import PromotionKind

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
ClockTime = Annotated[str, StringConstraints(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$")]
"""Hours and minutes in the store's time zone."""


class Window(Strict):
    """Part of certain weekdays, in the store's time zone; an ``end`` not after ``start`` is on the next day."""

    weekdays: tuple[Weekday, ...] = _WEEKDAYS
    """The days on which it begins; without them every day."""
    start: ClockTime = "00:00"
    end: ClockTime = "24:00"
    """Exclusive."""

    def compiled(self) -> model.TimeWindow:
        """Weekdays as 0 = Monday, times as minutes after midnight."""
        return model.TimeWindow(frozenset(map(_WEEKDAYS.index, self.weekdays)), minutes_of(self.start), minutes_of(self.end))


class Promotion(Strict):
    """One rule of the retailer.

    A rule that does not fit together is refused, and with it the whole catalogue: zones or tags must be named, a code belongs to
    ``generic_code`` and a dwell time to ``dwell``, each in both directions, and effective dates must not end before they begin.
    """

    promotion_id: PromotionId
    """Unique in the catalogue."""
    kind: PromotionKind = "offer"
    """Spends the visit's one push (offer, coupon, reminder, survey), pushes without it (pickup, service), or is silent (info)."""
    long_title: Annotated[dict[Language, Annotated[str, StringConstraints(min_length=1, max_length=60)]], Field(min_length=1)]
    """What the app shows first, by language."""
    text: dict[Language, Annotated[str, StringConstraints(max_length=240)]] = {}
    """What it says below, by language."""
    offer_type: Literal["no_code", "generic_code"] = "no_code"
    """Whether there is a code to show at the till."""
    generic_redemption_code: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,20}$")] | None = None
    """The code; the same for everybody."""
    redemption_channel: tuple[Literal["in_store", "online"], ...] = ("in_store",)
    """Where it may be redeemed; the gateway does not look at it."""
    promotion_effective_dates: str | None = None
    """When it may be redeemed: two RFC 3339 times joined by "/": from … until (exclusive)."""
    promotion_display_dates: str | None = None
    """When it may be shown, where that is less than ``promotion_effective_dates``; written alike."""
    percent_off: Annotated[int, Field(ge=1, le=100)] | None = None
    """What is taken off the price, percent."""
    money_off_amount: MoneyText | None = None
    """What is taken off the price."""
    minimum_purchase_amount: MoneyText | None = None
    """What has to be spent for it."""
    limit_quantity: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """How many pieces one purchase may hold for it."""
    item_id: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,50}$")], ...], Field(max_length=200)
    ] = ()
    """The products it is about, as the product feed calls them; none: no certain ones."""
    fine_print: dict[Language, str] = {}
    """By language; the gateway does not look at it."""
    promotion_url: Annotated[str, StringConstraints(pattern=r"^https://", max_length=2000)] | None = None
    """More about it."""

    zones: tuple[Name, ...] = ()
    """Zones where it is offered, as the shop file names them; one that the shop does not have is passed over."""
    tags: tuple[Name, ...] = ()
    """It is offered in every zone with one of these tags, too."""
    trigger: Literal["enter", "dwell"] = "enter"
    """Offered when the shopper enters the zone, or has been in it for ``dwell_s``."""
    dwell_s: Annotated[int, Field(ge=0, le=3600)] = 0
    """Seconds; with trigger ``dwell`` only."""
    windows: tuple[Window, ...] = ()
    """When it is in force, besides its effective dates; none: always."""
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    """The highest gets the push; equal ones are settled by ``promotion_id``."""
    daily_cap: Annotated[int, Field(ge=1, le=100)] = 1
    """How often one shopper may get it in one store on one day."""
    cool_down_s: Annotated[int, Field(ge=0, le=86_400)] = 0
    """For how long after it nothing of its group is offered to the shopper, seconds."""
    cool_down_group: Name | Literal[""] = ""
    """Promotions of one group share the cool-down; empty: a group of its own."""
    deadline_s: Annotated[int, Field(ge=1, le=600)] = 30
    """A proposal that is not granted within this many seconds of the event is late and never shown."""
    sensitive: bool = False
    """Offered only where a receiver of the gateway's hears the shopper; an app's own hint is not enough."""

    @field_validator("promotion_effective_dates", "promotion_display_dates")
    @classmethod
    def _two_times(cls, value: str | None) -> str | None:
        if value is not None:
            start, until = _interval(value)
            if start >= until:
                raise ValueError("ends before it begins")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.zones and not self.tags:
            raise ValueError("names neither zones nor tags: nobody could ever get it")
        if (self.offer_type == "generic_code") != (self.generic_redemption_code is not None):
            raise ValueError("generic_redemption_code belongs to offer_type generic_code")
        if self.percent_off is not None and self.money_off_amount is not None:
            raise ValueError("percent_off and money_off_amount exclude one another")
        if self._shown() == (0, 0):
            raise ValueError("promotion_display_dates and promotion_effective_dates have no moment in common")
        if (self.trigger == "dwell") != (self.dwell_s > 0):
            raise ValueError("dwell_s belongs to trigger dwell")
        return self

    @property
    def valid_until_ms(self) -> int | None:
        """The end of the effective dates, exclusive: until when the till takes it."""
        return _interval(self.promotion_effective_dates)[1] if self.promotion_effective_dates else None

    def _shown(self) -> tuple[int | None, int | None]:
        """From … until (exclusive) it may be shown: within both dates, because what is shown can be had; (0, 0): never."""
        dates = [_interval(each) for each in (self.promotion_effective_dates, self.promotion_display_dates) if each]
        if not dates:
            return None, None
        start, until = max(start for start, _ in dates), min(until for _, until in dates)
        return (start, until) if start < until else (0, 0)

    def compiled(self) -> model.Promotion:
        """The rule as the core matches it."""
        start, until = self._shown()
        return model.Promotion(
            promotion_id=self.promotion_id,
            kind=self.kind,
            zones=frozenset(self.zones),
            tags=frozenset(self.tags),
            trigger=self.trigger,
            dwell_ms=self.dwell_s * 1000,
            priority=self.priority,
            effective_from_ms=start,
            effective_until_ms=until,
            windows=tuple(window.compiled() for window in self.windows),
            daily_cap=self.daily_cap,
            cool_down_ms=self.cool_down_s * 1000,
            cool_down_group=self.cool_down_group,
            deadline_ms=self.deadline_s * 1000,
            sensitive=self.sensitive,
        )


class PromotionsFile(Strict):
    """What marketing hands to central: a JSON file."""

    promotions: tuple[Promotion, ...]

    @field_validator("promotions")
    @classmethod
    def _unique(cls, value: tuple[Promotion, ...]) -> tuple[Promotion, ...]:
        return unique_promotions(value)


def unique_promotions(promotions: tuple[Promotion, ...]) -> tuple[Promotion, ...]:
    """The same promotions; ``ValueError`` when two share an id."""
    seen: set[str] = set()
    for promotion in promotions:
        if promotion.promotion_id in seen:
            raise ValueError(f"promotion_id {promotion.promotion_id} occurs twice")
        seen.add(promotion.promotion_id)
    return promotions


def _interval(text: str) -> tuple[int, int]:
    start, slash, until = text.partition("/")
    if not slash:
        raise ValueError("two times joined by / were expected")
    return from_rfc3339(start), from_rfc3339(until)
