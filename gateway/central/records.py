"""Central's SQLite file: events exactly once, grants, what waits for an app, shoppers, promotions, versions.

Functions take the open database and run inside their caller's transaction. The command line writes the same file from a process
of its own; the service notices by ``PRAGMA data_version``.
"""

import json
from dataclasses import dataclass

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from gateway.contract.downlinks import MAX_SHOPPERS
from gateway.contract.messages import LaterEvent, OfferMatchedData, UplinkEvent
from gateway.contract.promotions import Promotion
from gateway.core.deciding import Claim
from gateway.core.model import PUSH_KINDS, Consent
from gateway.errors import ConfigurationError

CENTRAL = Migrations("central")

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


# ---- events -------------------------------------------------------------------------------------------------------------------


def keep_event(db: Database, store: str, gateway: str, event: UplinkEvent | LaterEvent, now_ms: int) -> bool:
    """Store an event; False when it was there already."""
    added = db.execute(
        "INSERT OR IGNORE INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [store, gateway, event.epoch, event.seq, event.type, event.time, now_ms, event.data.model_dump_json()],
    ).rowcount
    return bool(added)


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


def visit_number(db: Database, store: str, rid: str, at_ms: int, gap_ms: int) -> int:
    """Number of the shopper's visit as central sees it, whatever a gateway calls it: a new one after ``gap_ms`` without event."""
    row = db.execute("SELECT number, last_ms FROM visit WHERE store = ? AND rid = ?", [store, rid]).fetchone()
    number, last_ms = (1, at_ms) if row is None else (int(row[0]), int(row[1]))
    if at_ms - last_ms >= gap_ms:
        number += 1
    db.execute("INSERT OR REPLACE INTO visit VALUES (?, ?, ?, ?)", [store, rid, number, max(at_ms, last_ms)])
    return number


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


def pushes_in_visit(db: Database, store: str, rid: str, visit: int) -> int:
    """Grants that spent the push of a visit."""
    kinds = db.execute(
        "SELECT kind FROM offer WHERE store = ? AND rid = ? AND visit = ? AND reason IS NULL", [store, rid, visit]
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
) -> Decided:
    """Note a decision for good."""
    db.execute(
        "INSERT INTO offer VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            proposal.offer,
            store,
            gateway,
            proposal.shopper,
            inbox,
            proposal.promotion_id,
            proposal.kind,
            visit,
            reason,
            now_ms,
            proposal.deadline,
        ],
    )
    return Decided(proposal.offer, store, gateway, reason, proposal.deadline)


def queue_for_app(db: Database, offer: str, inbox: str, payload: bytes, deadline_ms: int) -> None:
    """A granted offer waits for the app's first receipt."""
    db.execute("INSERT INTO app_outbox VALUES (?, ?, ?, ?)", [offer, inbox, payload.decode(), deadline_ms])


def waiting_for_apps(db: Database, now_ms: int) -> list[tuple[str, str, bytes, int]]:
    """(offer, inbox, payload, deadline) of what no app has confirmed; what has become late is dropped."""
    db.execute("DELETE FROM app_outbox WHERE deadline_ms <= ?", [now_ms])
    rows = db.execute("SELECT offer, inbox, payload, deadline_ms FROM app_outbox ORDER BY rowid").fetchall()
    return [(row[0], row[1], row[2].encode(), row[3]) for row in rows]


def keep_receipt(db: Database, receipt_id: str, inbox: str, offer: str, state: str, time_ms: int) -> bool:
    """Store a receipt for an offer of this inbox, which has therefore arrived.

    False when the receipt is known already or the offer is not this inbox's.
    """
    own = db.execute("SELECT 1 FROM offer WHERE offer = ? AND inbox = ?", [offer, inbox]).fetchone()
    if own is None:
        return False
    db.execute("DELETE FROM app_outbox WHERE offer = ?", [offer])
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

    ``ConfigurationError`` when a store would have more shoppers than a roster can hold.
    """
    db.execute(
        "INSERT INTO shopper VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET ku = excluded.ku, consent = excluded.consent, is_test = excluded.is_test",
        [inbox, ku, int(consent), int(is_test)],
    )
    for store in stores:
        db.execute("INSERT OR IGNORE INTO member VALUES (?, ?)", [inbox, store])
        count = int(db.execute("SELECT count(*) FROM member WHERE store = ?", [store]).fetchone()[0])
        if count > MAX_SHOPPERS:
            raise ConfigurationError(
                f"has {MAX_SHOPPERS} shoppers already, more than that no roster holds.", where=store, do="Nobody was enrolled."
            )


def opt_out(db: Database, inbox: str) -> bool:
    """Forget an app; False when it is not known. Offers that wait for it are dropped, past ones stay countable."""
    db.execute("DELETE FROM app_outbox WHERE inbox = ?", [inbox])
    # A receipt would still tell whose pseudonym an offer went to.
    db.execute("DELETE FROM receipt WHERE inbox = ?", [inbox])
    db.execute("UPDATE offer SET inbox = NULL WHERE inbox = ?", [inbox])
    return bool(db.execute("DELETE FROM shopper WHERE inbox = ?", [inbox]).rowcount)


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
    db.execute("DELETE FROM pseudonym WHERE store = ? AND day < ?", [store, before_day])


def inbox_of(db: Database, store: str, rid: str) -> tuple[str, Consent, bool] | None:
    """The app behind a pseudonym: inbox, consent, and whether it is a technician's test shopper."""
    row = db.execute(
        "SELECT inbox, consent, is_test FROM pseudonym JOIN shopper USING (inbox) WHERE store = ? AND rid = ?", [store, rid]
    ).fetchone()
    return None if row is None else (row[0], Consent(row[1]), bool(row[2]))


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
