"""What central knows of a shopper and a store's gateway may use today: gathered, numbered, signed.

A context is numbered by the wall clock and never goes back, so that a gateway takes it even if central has lost its file. The
same content keeps its number: said again it changes nothing, and a gateway that forgot it learns it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sqlite_utils import Database

from gateway.central import check_ins, reactions, records, shopping, visits
from gateway.central.check_ins import Expected
from gateway.contract.downlinks import ShopperContext
from gateway.contract.messages import ProfileData
from gateway.contract.promotions import Promotion
from gateway.contract.settings import CentralSettings, CentralStore
from gateway.contract.topics import StoreTopics
from gateway.core.model import Consent
from gateway.core.money import Money
from gateway.core.timetable import is_quiet
from gateway.io.broker import Publication
from gateway.io.signing import Signer

SOURCE = "central"
LIFE_MS = 2 * 3600 * 1000
_DAY_MS = 86_400_000
_MOST_SEGMENTS, _MOST_PRODUCTS, _MOST_OFFERS = 200, 500, 500


@dataclass(frozen=True, slots=True)
class Day:
    """A day of a store: from … until (exclusive), wall milliseconds."""

    from_ms: int
    until_ms: int


def day_at(settings: CentralStore, now_ms: int) -> Day:
    """The store's day, at whose end pseudonyms change, too."""
    start_ms = settings.day_start_s * 1000
    from_ms = (now_ms - start_ms) // _DAY_MS * _DAY_MS + start_ms
    return Day(from_ms, from_ms + _DAY_MS)


@dataclass(frozen=True, slots=True)
class Desk:
    """What every context of one store is made with."""

    store: str
    settings: CentralStore
    promotions: Mapping[str, Promotion]
    """Of the store, by id."""
    signer: Signer
    source: str

    def is_quiet(self, now_ms: int) -> bool:
        """Whether nothing may be pushed in this store now."""
        quiet = self.settings.quiet_hours
        return quiet is not None and is_quiet(quiet.compiled(), now_ms, ZoneInfo(self.settings.time_zone))

    def expected(self, db: Database, now_ms: int) -> list[Expected]:
        """Whoever has checked in lately."""
        start_ms = self.settings.day_start_s * 1000
        return check_ins.expected(db, self.store, (now_ms - start_ms) // _DAY_MS, now_ms)

    def basket(self, db: Database, inbox: str, now_ms: int) -> Money | None:
        """What the shopper has spent in this store today."""
        day = day_at(self.settings, now_ms)
        return shopping.basket(db, inbox, self.store, day.from_ms, day.until_ms, self.settings.currency)

    def context(self, db: Database, rid: str, now_ms: int, *, only_changed: bool) -> Publication | None:
        """What is known of a pseudonym, signed; ``None`` where it must not be told or, if ``only_changed``, has been told."""
        owner = records.inbox_of(db, self.store, rid)
        if owner is None or not owner[1] & Consent.OFFERS:
            return None
        known = self._known(db, owner[0], rid, now_ms)
        text = json.dumps(known, sort_keys=True)
        before = db.execute("SELECT version, document FROM context WHERE store = ? AND rid = ?", [self.store, rid]).fetchone()
        if before is not None and before[1] == text:
            if only_changed:
                return None
            version = int(before[0])
        else:
            version = now_ms if before is None else max(now_ms, int(before[0]) + 1)
            db.execute("INSERT OR REPLACE INTO context VALUES (?, ?, ?, ?)", [self.store, rid, version, text])
        document = ShopperContext.model_validate(
            {"store": self.store, "version": version, "not_after": now_ms + LIFE_MS, "shopper": rid, **known}
        )
        envelope = self.signer.seal(document, source=self.source, time_ms=now_ms)
        topic = StoreTopics(self.store, self.source).shopper(rid)
        return Publication(topic, envelope.to_json(), expiry_s=LIFE_MS // 1000, correlation=envelope.id)

    def _known(self, db: Database, inbox: str, rid: str, now_ms: int) -> dict[str, object]:
        here = visits.presence(db, self.store, rid, now_ms)
        since_ms = now_ms if here is None else here.started_ms
        profile = profile_of(db, inbox)
        past = visits.past(db, inbox, self.store, since_ms, now_ms)
        basket = self.basket(db, inbox, now_ms)
        watched = dict.fromkeys((*profile.watch_list, *reactions.wished_products(db, inbox)))
        saved = reactions.saved_offers(db, inbox, self.promotions, before_ms=since_ms, now_ms=now_ms)
        day = day_at(self.settings, now_ms)
        elsewhere = records.granted_elsewhere_since(db, inbox, self.store, day.from_ms)
        return {
            "segments": list(profile.segments)[:_MOST_SEGMENTS],
            "visits_30_days": past.in_30_days,
            "days_since_last_visit": None if past.last_ms is None else self._days_between(past.last_ms, now_ms),
            "basket_today": None if basket is None else f"{basket.amount:.2f} {basket.currency}",
            "watch_list": list(watched)[:_MOST_PRODUCTS],
            "order_state": shopping.order_state(shopping.orders(db, inbox, self.store)),
            "language": profile.language,
            "muted_categories": list(reactions.muted_categories(db, inbox, now_ms)),
            "stopped": reactions.is_stopped(db, inbox),
            "saved_offers": list(saved)[:_MOST_OFFERS],
            "offers_elsewhere": dict(list(elsewhere.items())[:_MOST_OFFERS]),
        }

    def _days_between(self, earlier_ms: int, later_ms: int) -> int:
        days = (day_at(self.settings, later_ms).from_ms - day_at(self.settings, earlier_ms).from_ms) // _DAY_MS
        return max(0, days)


def desks_of(db: Database, settings: CentralSettings, signer: Signer) -> dict[str, Desk]:
    """By store, with its promotions as they are now."""
    return {
        store: Desk(store, made, {each.promotion_id: each for each in records.promotions(db, store)}, signer, SOURCE)
        for store, made in settings.stores.items()
    }


class Profile(NamedTuple):
    """What the CRM has told of a shopper."""

    segments: tuple[str, ...] = ()
    watch_list: tuple[str, ...] = ()
    language: str | None = None


def profile_of(db: Database, inbox: str) -> Profile:
    """The newest profile; empty where there is none."""
    row = db.execute("SELECT segments, watch_list, language FROM profile WHERE inbox = ?", [inbox]).fetchone()
    return Profile() if row is None else Profile(tuple(json.loads(row[0])), tuple(json.loads(row[1])), row[2])


def keep_profile(db: Database, data: ProfileData) -> bool:
    """Store a profile of a known shopper; False when a newer one is known. A card belongs to whom it was told of last."""
    row = db.execute("SELECT version FROM profile WHERE inbox = ?", [data.inbox]).fetchone()
    if row is not None and data.version <= int(row[0]):
        return False
    if data.card is not None:
        db.execute("UPDATE profile SET card = NULL WHERE card = ? AND inbox <> ?", [data.card, data.inbox])
    db.execute(
        "INSERT OR REPLACE INTO profile VALUES (?, ?, ?, ?, ?, ?)",
        [data.inbox, data.version, json.dumps(data.segments), data.language, json.dumps(data.watch_list), data.card],
    )
    return True
