"""Promotions as marketing writes them; names follow the Google Merchant promotions feed where it has one.

From ``promotion_id`` to ``promotion_url`` they are the feed's (``feeds.py`` reads one); zones, tags, trigger, windows, audience,
caps, quantity and deadline are what a shop floor needs besides. Money is a decimal amount with its currency, never a float.
"""

import re
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from gateway.contract import audience as audiences
from gateway.contract.audience import Audience
from gateway.contract.fields import (
    ClockTime,
    Language,
    MoneyText,
    Name,
    PromotionId,
    Strict,
    check_digit,
    from_rfc3339,
    minutes_of,
    to_money,
)
from gateway.core import model
from gateway.core.model import PromotionKind, Trigger

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


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


_DIGITAL_LINK = re.compile(r"https://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[^/?#\s]+)*?/01/([0-9]+)(?:[/?#]\S*)?")


def _names_a_product(value: str) -> str:
    """GS1 Digital Link Standard, URI syntax: the primary key 01 and a GTIN of 14 digits, shorter ones with zeros in front."""
    found = _DIGITAL_LINK.fullmatch(value)
    if found is None:
        raise ValueError("an https address with /01/ and a GTIN, as in https://id.gs1.org/01/04006381333931, was expected")
    if len(found[1]) != _GTIN_14:
        raise ValueError(f"its GTIN has {len(found[1])} digits; a GS1 Digital Link has 14, with zeros in front")
    check_digit(found[1])
    return value


_GTIN_14 = 14
DigitalLink = Annotated[str, StringConstraints(max_length=2000), AfterValidator(_names_a_product)]
"""A web address that names a product (GS1 Digital Link), as in https://id.gs1.org/01/04006381333931: any domain, /01/, and a GTIN
with 14 digits."""


class Image(Strict):
    """A picture of the offer; an app that cannot load it, or finds another checksum, shows the text instead."""

    url: Annotated[str, StringConstraints(pattern=r"^https://", max_length=2000)]
    """Where it is."""
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    """Of the file, in hexadecimal."""
    text: Annotated[dict[Language, Annotated[str, StringConstraints(min_length=1, max_length=120)]], Field(min_length=1)]
    """What it shows, by language."""


_Cap = Annotated[int, Field(ge=1, le=100)]
_ManyOffers = Annotated[int, Field(ge=1, le=1_000_000)]
_NEEDS_NO_ZONE = frozenset({"visit_start", "nth_visit"})
_NEVER_HELD_OUT = frozenset({"pickup", "service"})


class Promotion(Strict):
    """One rule of the retailer.

    A rule that does not fit together is refused, and with it the whole catalogue: zones or tags must be named unless a visit
    triggers it; a code belongs to ``generic_code``, a dwell time to ``dwell`` and a number to ``nth_visit``, each in both
    directions; ``percent_off`` and ``money_off_amount`` exclude one another; caps must not be greater for less time, nor for a
    store than for the chain; ``reservation_s`` belongs to a quantity; pickup and service have no ``holdout_percent``; dates must
    not end before they begin, and display and effective dates must have a moment in common; ``old_price`` belongs to ``price``,
    in the same currency; an audience has at most 8 levels and 64 leaves; and no ``promotion_id`` occurs twice.
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
    trigger: Trigger = "enter"
    """Offered when the shopper enters the zone, has been in it for ``dwell_s`` or leaves it; or with the first entry of a visit:
    of every visit, or of the one with ``visit_number``. A visit's first entry may be into any zone, if none is named."""
    dwell_s: Annotated[int, Field(ge=0, le=3600)] = 0
    """Seconds; with trigger ``dwell`` only."""
    visit_number: Annotated[int, Field(ge=1, le=1000)] | None = None
    """The visit that is meant, counted within 30 days and with the present one; with trigger ``nth_visit`` only."""
    audience: Audience | None = None
    """For whom it is; none: for everybody who has consented to offers."""
    windows: tuple[Window, ...] = ()
    """When it is in force, besides its effective dates; none: always."""
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    """The highest gets the push; equal ones are settled by ``promotion_id``."""
    visit_cap: _Cap | None = None
    """How often one shopper may get it during one visit; none: ``daily_cap`` alone decides."""
    daily_cap: _Cap = 1
    """How often one shopper may get it in one store on one day."""
    weekly_cap: _Cap | None = None
    """How often one shopper may get it within seven days, in all stores together."""
    lifetime_cap: _Cap | None = None
    """How often one shopper may ever get it, in all stores together."""
    store_cap_day: _ManyOffers | None = None
    """How often it may be offered in one store on one day, to all shoppers together."""
    chain_cap_day: _ManyOffers | None = None
    """How often it may be offered on one day, in all stores and to all shoppers together."""
    quantity: _ManyOffers | None = None
    """How many are to be had, in all stores together; none: no end."""
    quantity_per_store: _ManyOffers | None = None
    """How many are to be had in each store."""
    reservation_s: Annotated[int, Field(ge=60, le=7 * 86_400)] | None = None
    """A granted piece that is not redeemed within so many seconds is to be had again; none: it stays reserved."""
    holdout_percent: Annotated[int, Field(ge=0, le=50)] = 0
    """Share of the shoppers who do not get it, so that its effect can be measured; not for pickup and service."""
    category: Name | None = None
    """What it is about. Whoever dismisses two offers of one category gets none of it for 30 days."""
    cool_down_s: Annotated[int, Field(ge=0, le=86_400)] = 0
    """For how long after it nothing of its group is offered to the shopper, seconds."""
    cool_down_group: Name | Literal[""] = ""
    """Promotions of one group share the cool-down; empty: a group of its own."""
    deadline_s: Annotated[int, Field(ge=1, le=600)] = 30
    """A proposal that is not granted within this many seconds of the event is late and never shown."""
    sensitive: bool = False
    """Offered only where a receiver of the gateway's hears the shopper; an app's own hint is not enough."""

    image: Image | None = None
    digital_link: DigitalLink | None = None
    """Its product on the web."""
    price: MoneyText | None = None
    """What it costs now, by the local inventory."""
    old_price: MoneyText | None = None
    """What it cost before; with ``price`` only."""
    availability: Literal["in_stock", "limited", "out_of_stock"] | None = None
    """By the local inventory."""

    @field_validator("audience")
    @classmethod
    def _can_be_read(cls, value: Audience | None) -> Audience | None:
        if value is not None:
            audiences.compiled(value)
        return value

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
        if not self.zones and not self.tags and self.trigger not in _NEEDS_NO_ZONE:
            raise ValueError("names neither zones nor tags: nobody could ever get it")
        if (self.offer_type == "generic_code") != (self.generic_redemption_code is not None):
            raise ValueError("generic_redemption_code belongs to offer_type generic_code")
        if self.percent_off is not None and self.money_off_amount is not None:
            raise ValueError("percent_off and money_off_amount exclude one another")
        if self._shown() == (0, 0):
            raise ValueError("promotion_display_dates and promotion_effective_dates have no moment in common")
        if (self.trigger == "dwell") != (self.dwell_s > 0):
            raise ValueError("dwell_s belongs to trigger dwell")
        if (self.trigger == "nth_visit") != (self.visit_number is not None):
            raise ValueError("visit_number belongs to trigger nth_visit")
        if self.reservation_s is not None and self.quantity is None and self.quantity_per_store is None:
            raise ValueError("reservation_s belongs to quantity or quantity_per_store: nothing runs out, so nothing is reserved")
        if self.holdout_percent and self.kind in _NEVER_HELD_OUT:
            raise ValueError(f"holdout_percent does not go with kind {self.kind}: nobody may miss what is ordered or called for")
        self._refuse_caps_out_of_order()
        self._refuse_prices_that_do_not_compare()
        return self

    def _refuse_caps_out_of_order(self) -> None:
        rising = (
            ("visit_cap", "daily_cap", "weekly_cap", "lifetime_cap"),
            ("store_cap_day", "chain_cap_day"),
            ("quantity_per_store", "quantity"),
        )
        for names in rising:
            known = [(name, value) for name in names if (value := getattr(self, name)) is not None]
            for (less, low), (more, high) in pairwise(known):
                if low > high:
                    raise ValueError(f"{less} {low} could never be reached, because {more} is {high}")

    def _refuse_prices_that_do_not_compare(self) -> None:
        if self.old_price is None:
            return
        if self.price is None:
            raise ValueError("old_price belongs to price: what does it cost now?")
        if to_money(self.price).currency != to_money(self.old_price).currency:
            raise ValueError("price and old_price have different currencies")

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
            visit_number=self.visit_number,
            audience=None if self.audience is None else audiences.compiled(self.audience),
            windows=tuple(window.compiled() for window in self.windows),
            visit_cap=self.visit_cap,
            daily_cap=self.daily_cap,
            store_cap_day=self.store_cap_day,
            category=self.category,
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
