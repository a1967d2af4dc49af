"""Central's SQLite file: events exactly once, grants, what waits for an app, shoppers, promotions, versions.

Functions take the open database and run inside their caller's transaction. The command line writes the same file from a process
of its own; the service notices by ``PRAGMA data_version``.
"""

import json
from dataclasses import dataclass
from typing import NamedTuple

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from gateway.contract.downlinks import MAX_SHOPPERS
from gateway.contract.messages import LaterEvent, OfferMatchedData, UplinkEvent
from gateway.contract.promotions import Promotion
from gateway.core.deciding import Claim
from gateway.core.model import PUSH_KINDS, Consent
from gateway.errors import ConfigurationError

CENTRAL = Migrations("central")

MOST_RECEIPTS = 100
"""For one offer: there are seven states, and apps repeat themselves."""
NAMELESS = "shopper = NULL, data = json_remove(data, '$.shopper', '$.visit')"
"""SQL: what makes an event nobody's."""

_FIRST = (
    "CREATE TABLE version (name TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT",
    """CREATE TABLE stream (store TEXT, gateway TEXT, epoch TEXT, contiguous INTEGER NOT NULL,
        PRIMARY KEY (store, gateway, epoch)) STRICT""",
    """CREATE TABLE event (store TEXT, gateway TEXT, epoch TEXT, seq INTEGER, type TEXT NOT NULL, time_ms INTEGER NOT NULL,
        received_ms INTEGER NOT NULL, data TEXT NOT NULL, PRIMARY KEY (store, gateway, epoch, seq)) STRICT""",
    "CREATE TABLE shopper (inbox TEXT PRIMARY KEY, ku BLOB NOT NULL, consent INTEGER NOT NULL) STRICT",
    """CREATE TABLE member (inbox TEXT REFERENCES shopper (inbox) ON DELETE CASCADE, store TEXT,
        PRIMARY KEY (inbox, store)) STRICT""",
    """CREATE TABLE pseudonym (store TEXT, rid TEXT, day INTEGER NOT NULL,
        inbox TEXT NOT NULL REFERENCES shopper (inbox) ON DELETE CASCADE, PRIMARY KEY (store, rid)) STRICT""",
    "CREATE TABLE promotion (store TEXT, promotion_id TEXT, document TEXT NOT NULL, PRIMARY KEY (store, promotion_id)) STRICT",
    """CREATE TABLE visit (store TEXT, rid TEXT, number INTEGER NOT NULL, last_ms INTEGER NOT NULL,
        PRIMARY KEY (store, rid)) STRICT""",
    """CREATE TABLE offer (offer TEXT PRIMARY KEY, store TEXT NOT NULL, gateway TEXT NOT NULL, rid TEXT NOT NULL,
        inbox TEXT, promotion_id TEXT NOT NULL, kind TEXT NOT NULL, visit INTEGER NOT NULL, reason TEXT,
        decided_ms INTEGER NOT NULL, deadline_ms INTEGER NOT NULL) STRICT""",
    "CREATE INDEX offer_rid ON offer (store, rid)",
    """CREATE TABLE app_outbox (offer TEXT PRIMARY KEY REFERENCES offer (offer) ON DELETE CASCADE, inbox TEXT NOT NULL,
        payload TEXT NOT NULL, deadline_ms INTEGER NOT NULL) STRICT""",
    """CREATE TABLE receipt (id TEXT PRIMARY KEY, inbox TEXT NOT NULL, offer TEXT NOT NULL, state TEXT NOT NULL,
        time_ms INTEGER NOT NULL) STRICT""",
)


@CENTRAL(name="0001_first")
def _first(db: Database) -> None:
    for statement in _FIRST:
        db.execute(statement)


@CENTRAL(name="0002_test_shoppers")
def _test_shoppers(db: Database) -> None:
    db.execute("ALTER TABLE shopper ADD COLUMN is_test INTEGER NOT NULL DEFAULT 0")


@CENTRAL(name="0003_deciders")
def _deciders(db: Database) -> None:
    db.execute("CREATE TABLE decider (store TEXT PRIMARY KEY, term INTEGER NOT NULL, gateway TEXT NOT NULL) STRICT")


@CENTRAL(name="0004_health")
def _health(db: Database) -> None:
    db.execute(
        """CREATE TABLE health (store TEXT, subject TEXT, name TEXT, gateway TEXT NOT NULL, state TEXT NOT NULL,
            time_ms INTEGER NOT NULL, data TEXT NOT NULL, PRIMARY KEY (store, subject, name)) STRICT"""
    )
    db.execute("CREATE TABLE staff_outbox (id TEXT PRIMARY KEY, store TEXT NOT NULL, payload TEXT NOT NULL) STRICT")


_SHOPPERS = (
    """CREATE TABLE profile (inbox TEXT PRIMARY KEY REFERENCES shopper (inbox) ON DELETE CASCADE, version INTEGER NOT NULL,
        segments TEXT NOT NULL, language TEXT, watch_list TEXT NOT NULL, card TEXT UNIQUE) STRICT""",
    """CREATE TABLE visited (inbox TEXT REFERENCES shopper (inbox) ON DELETE CASCADE, store TEXT, started_ms INTEGER,
        last_ms INTEGER NOT NULL, PRIMARY KEY (inbox, store, started_ms)) STRICT""",
    """CREATE TABLE till_receipt (store TEXT, receipt TEXT, inbox TEXT NOT NULL REFERENCES shopper (inbox) ON DELETE CASCADE,
        purchase_ms INTEGER NOT NULL, amount TEXT NOT NULL, refunds TEXT, PRIMARY KEY (store, receipt)) STRICT""",
    "CREATE INDEX till_receipt_inbox ON till_receipt (inbox, purchase_ms)",
    """CREATE TABLE bought (inbox TEXT REFERENCES shopper (inbox) ON DELETE CASCADE, gtin TEXT, last_ms INTEGER NOT NULL,
        PRIMARY KEY (inbox, gtin)) STRICT""",
    """CREATE TABLE web_order (store TEXT, number TEXT, inbox TEXT NOT NULL REFERENCES shopper (inbox) ON DELETE CASCADE,
        version INTEGER NOT NULL, state TEXT NOT NULL, changed_ms INTEGER NOT NULL, attribution TEXT, told_visit TEXT,
        PRIMARY KEY (store, number)) STRICT""",
    "CREATE INDEX web_order_inbox ON web_order (inbox)",
    """CREATE TABLE wish (inbox TEXT REFERENCES shopper (inbox) ON DELETE CASCADE, kind TEXT, name TEXT, wanted INTEGER NOT NULL,
        changed_ms INTEGER NOT NULL, reminded_ms INTEGER, PRIMARY KEY (inbox, kind, name)) STRICT""",
    """CREATE TABLE stopped (inbox TEXT PRIMARY KEY REFERENCES shopper (inbox) ON DELETE CASCADE,
        since_ms INTEGER NOT NULL) STRICT""",
    """CREATE TABLE granted_ever (inbox TEXT REFERENCES shopper (inbox) ON DELETE CASCADE, promotion_id TEXT,
        times INTEGER NOT NULL, PRIMARY KEY (inbox, promotion_id)) STRICT""",
    """CREATE TABLE holdout (inbox TEXT REFERENCES shopper (inbox) ON DELETE CASCADE, promotion_id TEXT, is_held INTEGER NOT NULL,
        decided_ms INTEGER NOT NULL, PRIMARY KEY (inbox, promotion_id)) STRICT""",
    """CREATE TABLE piece (offer TEXT PRIMARY KEY, promotion_id TEXT NOT NULL, store TEXT NOT NULL, taken_ms INTEGER NOT NULL,
        until_ms INTEGER) STRICT""",
    "CREATE INDEX piece_promotion ON piece (promotion_id, store)",
    """CREATE TABLE context (store TEXT, rid TEXT, version INTEGER NOT NULL, document TEXT NOT NULL,
        PRIMARY KEY (store, rid)) STRICT""",
    "ALTER TABLE visit ADD COLUMN name TEXT",
    "ALTER TABLE visit ADD COLUMN zone TEXT",
    "ALTER TABLE visit ADD COLUMN started_ms INTEGER",
    "ALTER TABLE visit ADD COLUMN is_open INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE offer ADD COLUMN category TEXT",
    "ALTER TABLE offer ADD COLUMN is_test INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE offer ADD COLUMN withdrawn TEXT",
    "ALTER TABLE offer ADD COLUMN push INTEGER NOT NULL DEFAULT 1",
    "ALTER TABLE offer ADD COLUMN cool_down_group TEXT",
    "ALTER TABLE offer ADD COLUMN cool_until_ms INTEGER",
    "CREATE INDEX offer_inbox ON offer (inbox, promotion_id)",
    "CREATE INDEX offer_promotion ON offer (promotion_id, decided_ms)",
    "CREATE INDEX receipt_offer ON receipt (offer)",
    "CREATE INDEX receipt_inbox ON receipt (inbox, state)",
    "ALTER TABLE event ADD COLUMN shopper TEXT",
    "UPDATE event SET shopper = json_extract(data, '$.shopper')",
    "CREATE INDEX event_shopper ON event (shopper, store) WHERE shopper IS NOT NULL",
    "CREATE INDEX event_received ON event (received_ms)",
    "ALTER TABLE app_outbox ADD COLUMN is_withdrawal INTEGER NOT NULL DEFAULT 0",
    """INSERT INTO granted_ever SELECT inbox, promotion_id, count(*) FROM offer
        WHERE reason IS NULL AND inbox IN (SELECT inbox FROM shopper) GROUP BY inbox, promotion_id""",
)


@CENTRAL(name="0005_shoppers")
def _shoppers(db: Database) -> None:
    for statement in _SHOPPERS:
        db.execute(statement)


@CENTRAL(name="0006_check_ins")
def _check_ins(db: Database) -> None:
    db.execute(
        """CREATE TABLE check_in (store TEXT, inbox TEXT REFERENCES shopper (inbox) ON DELETE CASCADE, at_ms INTEGER NOT NULL,
            is_told INTEGER NOT NULL, PRIMARY KEY (store, inbox)) STRICT"""
    )
    db.execute("CREATE INDEX IF NOT EXISTS pseudonym_inbox ON pseudonym (inbox)")


@CENTRAL(name="0007_receipt_items")
def _receipt_items(db: Database) -> None:
    # What was on each receipt, for as long as the receipt is kept: "bought" knows of each product the last time only.
    db.execute(
        """CREATE TABLE receipt_item (store TEXT, receipt TEXT, gtin TEXT, PRIMARY KEY (store, receipt, gtin),
            FOREIGN KEY (store, receipt) REFERENCES till_receipt (store, receipt) ON DELETE CASCADE) STRICT"""
    )
    # As far as it can be known of earlier receipts.
    db.execute(
        """INSERT OR IGNORE INTO receipt_item SELECT store, receipt, gtin FROM bought JOIN till_receipt
            ON till_receipt.inbox = bought.inbox AND purchase_ms = last_ms AND refunds IS NULL"""
    )


@CENTRAL(name="0008_receipts_by_app")
def _receipts_by_app(db: Database) -> None:
    # Each app numbers its own: of two that begin with "1" the second's was taken for a repetition.
    db.execute("ALTER TABLE receipt RENAME TO receipt_before")
    db.execute(
        """CREATE TABLE receipt (id TEXT, inbox TEXT, offer TEXT NOT NULL, state TEXT NOT NULL, time_ms INTEGER NOT NULL,
            PRIMARY KEY (inbox, id)) STRICT"""
    )
    db.execute(
        "INSERT INTO receipt (id, inbox, offer, state, time_ms) SELECT id, inbox, offer, state, time_ms FROM receipt_before"
    )
    db.execute("DROP TABLE receipt_before")
    db.execute("CREATE INDEX receipt_offer ON receipt (offer)")
    db.execute("CREATE INDEX receipt_inbox ON receipt (inbox, state)")


# ---- events -------------------------------------------------------------------------------------------------------------------


def keep_event(db: Database, store: str, gateway: str, event: UplinkEvent | LaterEvent, now_ms: int) -> bool:
    """Store an event; False when it was there already.

    Of a pseudonym that is nobody's (any more) only that something happened: what was on its way at an opt-out is not kept either.
    """
    shopper = _shopper_of(event)
    added = db.execute(
        "INSERT OR IGNORE INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [store, gateway, event.epoch, event.seq, event.type, event.time, now_ms, event.data.model_dump_json(), shopper],
    ).rowcount
    if added and shopper is not None and inbox_of(db, store, shopper) is None:
        key = [store, gateway, event.epoch, event.seq]
        db.execute(f"UPDATE event SET {NAMELESS} WHERE store = ? AND gateway = ? AND epoch = ? AND seq = ?", key)  # noqa: S608
    return bool(added)


def _shopper_of(event: UplinkEvent | LaterEvent) -> str | None:
    """Whose it is, also where only a newer gateway knows what it says."""
    shopper = getattr(event.data, "shopper", None)
    return shopper if isinstance(shopper, str) else None


def begin_stream(db: Database, store: str, gateway: str, epoch: str, oldest_seq: int) -> None:
    """A gateway says where the numbers it still keeps begin: what is below will never come (again)."""
    db.execute(
        "INSERT INTO stream VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET contiguous = max(contiguous, excluded.contiguous)",
        [store, gateway, epoch, oldest_seq - 1],
    )


def contiguous(db: Database, store: str, gateway: str, epoch: str) -> int:
    """The highest number up to which nothing is missing, brought up to date."""
    key = [store, gateway, epoch]
    db.execute("INSERT OR IGNORE INTO stream VALUES (?, ?, ?, 0)", key)
    seq = int(db.execute("SELECT contiguous FROM stream WHERE store = ? AND gateway = ? AND epoch = ?", key).fetchone()[0])
    before = seq
    beyond = "SELECT seq FROM event WHERE store = ? AND gateway = ? AND epoch = ? AND seq > ? ORDER BY seq"
    for (following,) in db.execute(beyond, [*key, seq]):
        if following != seq + 1:
            break
        seq = following
    if seq != before:
        db.execute("UPDATE stream SET contiguous = ? WHERE store = ? AND gateway = ? AND epoch = ?", [seq, *key])
    return seq


# ---- gateways -----------------------------------------------------------------------------------------------------------------


def claim_of(db: Database, store: str) -> Claim | None:
    """Who decides in a store; ``None``: nobody has claimed to."""
    row = db.execute("SELECT term, gateway FROM decider WHERE store = ?", [store]).fetchone()
    return None if row is None else Claim(int(row[0]), str(row[1]))


def keep_claim(db: Database, store: str, claim: Claim) -> bool:
    """Keep the greatest claim; False when this one is not greater."""
    if not claim.beats(claim_of(db, store)):
        return False
    db.execute("INSERT OR REPLACE INTO decider VALUES (?, ?, ?)", [store, claim.term, claim.gateway])
    return True


# ---- beacons and receivers ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fares:
    """How a beacon, its battery or a receiver fares, as a gateway told last."""

    store: str
    subject: str
    name: str
    gateway: str
    state: str
    time_ms: int
    data: str
    """Of the event, JSON."""


def keep_health(db: Database, fares: Fares) -> bool:
    """Keep the newest; True when the state is another than before, which two gateways that judge the same may tell twice.

    What is older, as events that waited for the network are, changes nothing.
    """
    key = [fares.store, fares.subject, fares.name]
    before = db.execute("SELECT state, time_ms FROM health WHERE store = ? AND subject = ? AND name = ?", key).fetchone()
    if before is not None and fares.time_ms < before[1]:
        return False
    db.execute(
        "INSERT OR REPLACE INTO health VALUES (?, ?, ?, ?, ?, ?, ?)",
        [*key, fares.gateway, fares.state, fares.time_ms, fares.data],
    )
    return before is None or bool(before[0] != fares.state)


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Events of a gateway that never come: for want of room, because they were too old, or damaged."""

    store: str
    gateway: str
    events: int
    first_ms: int
    last_ms: int
    """When they happened; of those that found no room the first and the last time are told."""


def given_up(db: Database, store: str | None) -> list[GivenUp]:
    """What gateways sent tombstones for, erasures left out, as long as events are kept; in one store or in all."""
    rows = db.execute(
        "SELECT store, gateway, count(*), min(time_ms), max(time_ms) FROM event WHERE type = 'tombstone.v1'"
        " AND json_extract(data, '$.reason') = 'dropped' AND (?1 IS NULL OR store = ?1) GROUP BY 1, 2 ORDER BY 1, 2",
        [store],
    ).fetchall()
    return [GivenUp(*row) for row in rows]


def health(db: Database, store: str | None) -> list[Fares]:
    """How everything fares that was ever told of, in one store or in all."""
    rows = db.execute("SELECT * FROM health WHERE ?1 IS NULL OR store = ?1 ORDER BY store, subject, name", [store])
    return [Fares(*row) for row in rows.fetchall()]


def queue_for_staff(db: Database, alarm_id: str, store: str, payload: bytes) -> None:
    """An alarm waits for the broker."""
    db.execute("INSERT OR IGNORE INTO staff_outbox VALUES (?, ?, ?)", [alarm_id, store, payload.decode()])


def waiting_for_staff(db: Database) -> list[tuple[str, str, bytes]]:
    """(id, store, payload), the oldest first."""
    rows = db.execute("SELECT id, store, payload FROM staff_outbox ORDER BY rowid").fetchall()
    return [(str(alarm), str(store), str(payload).encode()) for alarm, store, payload in rows]


def told_staff(db: Database, alarm_id: str) -> None:
    """The broker has it."""
    db.execute("DELETE FROM staff_outbox WHERE id = ?", [alarm_id])


# ---- offers -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision as it stands."""

    offer: str
    store: str
    gateway: str
    reason: str | None
    deadline_ms: int


def decision_of(db: Database, offer: str) -> Decided | None:
    """What was decided about an offer."""
    row = db.execute("SELECT offer, store, gateway, reason, deadline_ms FROM offer WHERE offer = ?", [offer]).fetchone()
    return None if row is None else Decided(*row)


def open_decisions(db: Database, store: str, gateway: str, now_ms: int) -> list[Decided]:
    """Decisions whose deadline has not passed: told again when a gateway comes back."""
    rows = db.execute(
        "SELECT offer, store, gateway, reason, deadline_ms FROM offer WHERE store = ? AND gateway = ? AND deadline_ms > ?",
        [store, gateway, now_ms],
    )
    return [Decided(*row) for row in rows.fetchall()]


def granted_today(db: Database, store: str, rid: str, promotion_id: str) -> int:
    """Grants of one promotion to one pseudonym, which lives for a day."""
    return int(
        db.execute(
            "SELECT count(*) FROM offer WHERE store = ? AND rid = ? AND promotion_id = ? AND reason IS NULL",
            [store, rid, promotion_id],
        ).fetchone()[0]
    )


def granted_ever(db: Database, inbox: str, promotion_id: str) -> int:
    """Grants of one promotion to one shopper, in all stores."""
    row = db.execute("SELECT times FROM granted_ever WHERE inbox = ? AND promotion_id = ?", [inbox, promotion_id]).fetchone()
    return 0 if row is None else int(row[0])


def granted_since(db: Database, inbox: str, promotion_id: str, since_ms: int) -> int:
    """Grants of one promotion to one shopper since then, in all stores."""
    question = "SELECT count(*) FROM offer WHERE inbox = ? AND promotion_id = ? AND reason IS NULL AND decided_ms > ?"
    return int(db.execute(question, [inbox, promotion_id, since_ms]).fetchone()[0])


def granted_to_all_since(db: Database, promotion_id: str, since_ms: int) -> int:
    """Grants of one promotion to everybody but test shoppers since then, in all stores."""
    question = "SELECT count(*) FROM offer WHERE promotion_id = ? AND reason IS NULL AND is_test = 0 AND decided_ms >= ?"
    return int(db.execute(question, [promotion_id, since_ms]).fetchone()[0])


def granted_elsewhere_since(db: Database, inbox: str, store: str, since_ms: int) -> dict[str, int]:
    """By promotion, grants to one shopper in the other stores since then."""
    question = (
        "SELECT promotion_id, count(*) FROM offer WHERE inbox = ? AND store <> ? AND reason IS NULL AND decided_ms >= ?"
        " GROUP BY promotion_id ORDER BY promotion_id"
    )
    return {str(name): int(count) for name, count in db.execute(question, [inbox, store, since_ms]).fetchall()}


def cool_down_group(promotion: Promotion) -> str:
    """Promotions that share a cool-down; a promotion without group is one of its own."""
    return promotion.cool_down_group or f"/{promotion.promotion_id}"


def granted_in_store_since(db: Database, store: str, promotion_id: str, since_ms: int) -> int:
    """Grants of one promotion to everybody but test shoppers since then, in one store."""
    question = (
        "SELECT count(*) FROM offer WHERE promotion_id = ? AND store = ? AND reason IS NULL AND is_test = 0 AND decided_ms >= ?"
    )
    return int(db.execute(question, [promotion_id, store, since_ms]).fetchone()[0])


def granted_in_visit(db: Database, store: str, rid: str, visit: int, promotion_id: str) -> int:
    """Grants of one promotion during a visit."""
    question = "SELECT count(*) FROM offer WHERE store = ? AND rid = ? AND visit = ? AND promotion_id = ? AND reason IS NULL"
    return int(db.execute(question, [store, rid, visit, promotion_id]).fetchone()[0])


def cools_down(db: Database, store: str, rid: str, group: str, at_ms: int) -> bool:
    """Whether something of this group was granted to the pseudonym so lately that nothing more of it may be."""
    question = "SELECT 1 FROM offer WHERE store = ? AND rid = ? AND cool_down_group = ? AND reason IS NULL AND cool_until_ms > ?"
    return db.execute(question, [store, rid, group, at_ms]).fetchone() is not None


def pushes_in_visit(db: Database, store: str, rid: str, visit: int) -> int:
    """Grants that spent the push of a visit."""
    kinds = db.execute(
        "SELECT kind FROM offer WHERE store = ? AND rid = ? AND visit = ? AND push = 1 AND reason IS NULL", [store, rid, visit]
    ).fetchall()
    return sum(kind in PUSH_KINDS for (kind,) in kinds)


def keep_decision(  # noqa: PLR0913 -- a decision is this many facts
    db: Database,
    store: str,
    gateway: str,
    proposal: OfferMatchedData,
    *,
    inbox: str | None,
    visit: int,
    reason: str | None,
    now_ms: int,
    promotion: Promotion | None = None,
    is_test: bool = False,
) -> Decided:
    """Note a decision for good."""
    cool_until_ms = None if promotion is None else proposal.matched_time + promotion.cool_down_s * 1000
    db.execute(
        "INSERT INTO offer (offer, store, gateway, rid, inbox, promotion_id, kind, visit, reason, decided_ms, deadline_ms,"
        " is_test, push, category, cool_down_group, cool_until_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            proposal.offer,
            store,
            gateway,
            "" if inbox is None else proposal.shopper,
            inbox,
            proposal.promotion_id,
            proposal.kind,
            visit,
            reason,
            now_ms,
            proposal.deadline,
            int(is_test),
            int(proposal.push),
            None if promotion is None else promotion.category,
            None if promotion is None else cool_down_group(promotion),
            cool_until_ms,
        ],
    )
    if reason is None and inbox is not None and not is_test:
        db.execute(
            "INSERT INTO granted_ever SELECT inbox, ?, 1 FROM shopper WHERE inbox = ?"
            " ON CONFLICT DO UPDATE SET times = times + 1",
            [proposal.promotion_id, inbox],
        )
    return Decided(proposal.offer, store, gateway, reason, proposal.deadline)


def queue_for_app(db: Database, offer: str, inbox: str, payload: bytes, deadline_ms: int, *, is_withdrawal: bool = False) -> None:
    """A granted offer waits for the app's first receipt, its withdrawal, which takes its place, for that of the withdrawal."""
    db.execute(
        "INSERT OR REPLACE INTO app_outbox (offer, inbox, payload, deadline_ms, is_withdrawal) VALUES (?, ?, ?, ?, ?)",
        [offer, inbox, payload.decode(), deadline_ms, int(is_withdrawal)],
    )


class ForApp(NamedTuple):
    """What no app has confirmed."""

    offer: str
    inbox: str
    payload: bytes
    deadline_ms: int
    is_withdrawal: bool

    @property
    def key(self) -> str:
        """The message's ``id``."""
        return withdrawal_id(self.offer) if self.is_withdrawal else self.offer


def withdrawal_id(offer: str) -> str:
    """The ``id`` of the message that takes an offer back."""
    return f"{offer}-withdrawn"


def waiting_for_apps(db: Database, now_ms: int) -> list[ForApp]:
    """The oldest first; what has become late is dropped."""
    db.execute("DELETE FROM app_outbox WHERE deadline_ms <= ?", [now_ms])
    rows = db.execute("SELECT offer, inbox, payload, deadline_ms, is_withdrawal FROM app_outbox ORDER BY rowid").fetchall()
    return [ForApp(row[0], row[1], row[2].encode(), row[3], bool(row[4])) for row in rows]


def keep_receipt(db: Database, receipt_id: str, inbox: str, offer: str, state: str, time_ms: int) -> bool:
    """Store a receipt for an offer of this inbox, which has therefore arrived.

    False when the receipt is known already, the offer is not this inbox's, or its app has said too much of it.
    """
    own = db.execute("SELECT 1 FROM offer WHERE offer = ? AND inbox = ?", [offer, inbox]).fetchone()
    if own is None:
        return False
    db.execute("DELETE FROM app_outbox WHERE offer = ? AND is_withdrawal = ?", [offer, int(state == "withdrawn")])
    if db.execute("SELECT count(*) FROM receipt WHERE offer = ?", [offer]).fetchone()[0] >= MOST_RECEIPTS:
        return False
    added = db.execute("INSERT OR IGNORE INTO receipt VALUES (?, ?, ?, ?, ?)", [receipt_id, inbox, offer, state, time_ms])
    return bool(added.rowcount)


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one proposal here."""

    reason: str | None
    """Why it was refused; ``None``: granted."""
    deadline_ms: int
    waits: bool
    """Whether it is still sent to the app, because no receipt has come."""
    receipts: tuple[tuple[str, int], ...]
    """(state, wall milliseconds) in the order of time."""


def fate_of(db: Database, store: str, offer: str) -> Fate | None:
    """What became of an offer of this store; ``None`` when it is not known. Nothing is changed."""
    row = db.execute("SELECT reason, deadline_ms FROM offer WHERE offer = ? AND store = ?", [offer, store]).fetchone()
    if row is None:
        return None
    waits = db.execute("SELECT 1 FROM app_outbox WHERE offer = ?", [offer]).fetchone() is not None
    receipts = db.execute("SELECT state, time_ms FROM receipt WHERE offer = ? ORDER BY time_ms", [offer]).fetchall()
    return Fate(row[0], row[1], waits, tuple((str(state), int(time_ms)) for state, time_ms in receipts))


# ---- shoppers and promotions --------------------------------------------------------------------------------------------------


def enrol(db: Database, inbox: str, ku: bytes, consent: Consent, stores: list[str], *, is_test: bool = False) -> None:
    """An app whose owner consented: its inbox, key and the stores whose region it met; a test shopper's knows no caps.

    Another key is a consent given anew, which ends what a complaint has stopped.
    ``ConfigurationError`` when another inbox has the key, or when a store would have more shoppers than a roster can hold.
    """
    # One key is one pseudonym: whose consent and offers it would be, nobody could tell.
    twin = db.execute("SELECT inbox FROM shopper WHERE ku = ? AND inbox <> ?", [ku, inbox]).fetchone()
    if twin is not None:
        raise ConfigurationError(f"has the key of {twin[0]}.", where=inbox, do="One inbox for one key. Nobody was enrolled.")
    db.execute("DELETE FROM stopped WHERE inbox = ? AND inbox IN (SELECT inbox FROM shopper WHERE ku <> ?)", [inbox, ku])
    db.execute(
        "INSERT INTO shopper VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET ku = excluded.ku, consent = excluded.consent, is_test = excluded.is_test",
        [inbox, ku, int(consent), int(is_test)],
    )
    for store in stores:
        join(db, inbox, store)


def join(db: Database, inbox: str, store: str) -> None:
    """Into the store's roster; ``ConfigurationError`` when it would have more shoppers than a roster can hold."""
    db.execute("INSERT OR IGNORE INTO member VALUES (?, ?)", [inbox, store])
    count = int(db.execute("SELECT count(*) FROM member WHERE store = ?", [store]).fetchone()[0])
    if count > MAX_SHOPPERS:
        raise ConfigurationError(
            f"has {MAX_SHOPPERS} shoppers already, more than that no roster holds.", where=store, do="Nobody was enrolled."
        )


def opt_out(db: Database, inbox: str) -> bool:
    """Forget an app and everything that is known of its owner; False when it is not known.

    Offers that wait for it are dropped. Past offers and events stay countable, without the pseudonym; where that of an earlier
    day still stands, nothing links it to anybody.
    """
    for store, rid in db.execute("SELECT store, rid FROM pseudonym WHERE inbox = ?", [inbox]).fetchall():
        forget_pseudonym(db, store, rid)
    for store, rid in db.execute("SELECT DISTINCT store, rid FROM offer WHERE inbox = ?", [inbox]).fetchall():
        forget_pseudonym(db, store, rid)
    told = "SELECT store || '-' || number || '-' || told_visit || '-pickup' FROM web_order WHERE inbox = ?"
    db.execute(f"DELETE FROM staff_outbox WHERE id IN ({told})", [inbox])  # noqa: S608
    db.execute("DELETE FROM app_outbox WHERE inbox = ?", [inbox])
    # A receipt would still tell whose pseudonym an offer went to.
    db.execute("DELETE FROM receipt WHERE inbox = ?", [inbox])
    db.execute("UPDATE offer SET inbox = NULL WHERE inbox = ?", [inbox])
    return bool(db.execute("DELETE FROM shopper WHERE inbox = ?", [inbox]).rowcount)


def forget_pseudonym(db: Database, store: str, rid: str) -> None:
    """What happened to a pseudonym stays countable, and is nobody's any more."""
    db.execute("DELETE FROM visit WHERE store = ? AND rid = ?", [store, rid])
    db.execute("DELETE FROM context WHERE store = ? AND rid = ?", [store, rid])
    db.execute("UPDATE offer SET rid = '' WHERE store = ? AND rid = ?", [store, rid])
    db.execute(f"UPDATE event SET {NAMELESS} WHERE store = ? AND shopper = ?", [store, rid])  # noqa: S608


def shoppers(db: Database) -> list[tuple[str, Consent, list[str]]]:
    """(inbox, consent, stores) of every app."""
    found: dict[str, tuple[Consent, list[str]]] = {}
    for inbox, consent, store in db.execute(
        "SELECT inbox, consent, store FROM shopper LEFT JOIN member USING (inbox) ORDER BY inbox, store"
    ).fetchall():
        found.setdefault(inbox, (Consent(consent), []))[1].extend([store] if store else [])
    return [(inbox, consent, stores) for inbox, (consent, stores) in found.items()]


def members(db: Database, store: str) -> list[tuple[str, bytes, Consent]]:
    """(inbox, KU, consent) of the apps that met the store's region."""
    rows = db.execute(
        "SELECT inbox, ku, consent FROM shopper JOIN member USING (inbox) WHERE store = ? ORDER BY inbox", [store]
    ).fetchall()
    return [(inbox, ku, Consent(consent)) for inbox, ku, consent in rows]


def name_pseudonyms(db: Database, store: str, day: int, pseudonyms: list[tuple[str, str]]) -> None:
    """Remember whose pseudonym (rid, inbox) is whose on ``day``; days before yesterday are forgotten."""
    db.conn.executemany(
        "INSERT OR REPLACE INTO pseudonym VALUES (?, ?, ?, ?)", [[store, rid, day, inbox] for rid, inbox in pseudonyms]
    )


def forget_pseudonyms(db: Database, store: str, before_day: int) -> None:
    """Past days can no longer be asked for."""
    past = "(SELECT rid FROM pseudonym WHERE store = ?1 AND day < ?2)"
    db.execute(f"DELETE FROM context WHERE store = ?1 AND rid IN {past}", [store, before_day])  # noqa: S608
    db.execute("DELETE FROM pseudonym WHERE store = ? AND day < ?", [store, before_day])


def inbox_of(db: Database, store: str, rid: str) -> tuple[str, Consent, bool] | None:
    """The app behind a pseudonym: inbox, consent, and whether it is a technician's test shopper."""
    row = db.execute(
        "SELECT inbox, consent, is_test FROM pseudonym JOIN shopper USING (inbox) WHERE store = ? AND rid = ?", [store, rid]
    ).fetchone()
    return None if row is None else (row[0], Consent(row[1]), bool(row[2]))


def pseudonyms_of(db: Database, inbox: str) -> list[tuple[str, str]]:
    """(store, rid) by which an app is known today and on the days about it."""
    rows = db.execute("SELECT store, rid FROM pseudonym WHERE inbox = ? ORDER BY store, rid", [inbox]).fetchall()
    return [(str(store), str(rid)) for store, rid in rows]


def is_enrolled(db: Database, inbox: str) -> bool:
    """Whether an app is known."""
    return db.execute("SELECT 1 FROM shopper WHERE inbox = ?", [inbox]).fetchone() is not None


def consent_of(db: Database, inbox: str) -> Consent:
    """To what an app's owner has consented; to nothing where it is not known."""
    row = db.execute("SELECT consent FROM shopper WHERE inbox = ?", [inbox]).fetchone()
    return Consent.NONE if row is None else Consent(row[0])


def replace_promotions(db: Database, store: str, promotions: tuple[Promotion, ...]) -> None:
    """The store's promotions, whole."""
    db.execute("DELETE FROM promotion WHERE store = ?", [store])
    db.conn.executemany(
        "INSERT INTO promotion VALUES (?, ?, ?)",
        [[store, promotion.promotion_id, promotion.model_dump_json(exclude_defaults=True)] for promotion in promotions],
    )


def promotions(db: Database, store: str) -> tuple[Promotion, ...]:
    """The store's promotions, by id."""
    rows = db.execute("SELECT document FROM promotion WHERE store = ? ORDER BY promotion_id", [store]).fetchall()
    return tuple(Promotion.model_validate(json.loads(document)) for (document,) in rows)


def next_version(db: Database, name: str) -> int:
    """One more than ever before."""
    db.execute("INSERT INTO version VALUES (?, 1) ON CONFLICT DO UPDATE SET version = version + 1", [name])
    return int(db.execute("SELECT version FROM version WHERE name = ?", [name]).fetchone()[0])
