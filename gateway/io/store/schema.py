"""The gateway's database, version by version: numbered forward migrations, never changed once released."""

import secrets

from gateway.io.store.sqlite import Database, Migrations

GATEWAY = Migrations("gateway")

_FIRST = (
    # "epoch" is born with the file: together with a sequence number it names an event for good.
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    # AUTOINCREMENT: a number is never given twice, even when the newest rows have been deleted.
    """CREATE TABLE outbox (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, type TEXT NOT NULL, data TEXT NOT NULL, wall_ms INTEGER NOT NULL,
        mono_ms INTEGER NOT NULL, boot_id TEXT NOT NULL, quality TEXT NOT NULL, shopper TEXT) STRICT""",
    "CREATE INDEX outbox_shopper ON outbox (shopper) WHERE shopper IS NOT NULL",
    """CREATE TABLE ledger (
        id INTEGER PRIMARY KEY, wall_ms INTEGER NOT NULL, type TEXT NOT NULL, shopper TEXT, visit TEXT NOT NULL, zone TEXT,
        catalogue_version INTEGER, withheld TEXT NOT NULL, evidence TEXT NOT NULL) STRICT""",
    "CREATE INDEX ledger_shopper ON ledger (shopper) WHERE shopper IS NOT NULL",
    "CREATE INDEX ledger_wall_ms ON ledger (wall_ms)",
    """CREATE TABLE offer (
        offer TEXT PRIMARY KEY, ledger INTEGER NOT NULL REFERENCES ledger (id) ON DELETE CASCADE, shopper TEXT,
        visit TEXT NOT NULL, zone TEXT NOT NULL, promotion_id TEXT NOT NULL, kind TEXT NOT NULL, cool_down_group TEXT NOT NULL,
        cool_down_ms INTEGER NOT NULL, wall_ms INTEGER NOT NULL, deadline_wall_ms INTEGER NOT NULL, state TEXT NOT NULL,
        reason TEXT NOT NULL DEFAULT '', decided_wall_ms INTEGER) STRICT""",
    "CREATE INDEX offer_ledger ON offer (ledger)",
    "CREATE INDEX offer_wall_ms ON offer (wall_ms)",
    """CREATE TABLE visit (
        shopper TEXT PRIMARY KEY, visit TEXT NOT NULL, consent INTEGER NOT NULL, started_wall_ms INTEGER NOT NULL,
        zones INTEGER NOT NULL, zone TEXT, entered_wall_ms INTEGER, dwelled_ms INTEGER NOT NULL,
        last_event_wall_ms INTEGER NOT NULL) STRICT""",
    # Signed downlinks as they came: verified again when they are read back.
    "CREATE TABLE snapshot (name TEXT PRIMARY KEY, version INTEGER NOT NULL, payload BLOB NOT NULL) STRICT",
)


_HEALTH = (
    """CREATE TABLE canary_baseline (
        beacon TEXT, receiver TEXT, baseline_dbm REAL NOT NULL, reference_dbm REAL NOT NULL, spread_db REAL NOT NULL,
        rate_hz REAL NOT NULL, jumps REAL NOT NULL, PRIMARY KEY (beacon, receiver)) STRICT""",
    """CREATE TABLE beacon_battery (
        beacon TEXT, wall_ms INTEGER, millivolts REAL NOT NULL, PRIMARY KEY (beacon, wall_ms)) STRICT""",
    # What central was told last, so that it learns after a restart that a fault has ended.
    "CREATE TABLE health_told (subject TEXT, name TEXT, state TEXT NOT NULL, PRIMARY KEY (subject, name)) STRICT",
)


@GATEWAY(name="0001_first")
def _first(db: Database) -> None:
    for statement in _FIRST:
        db.execute(statement)
    db.execute("INSERT INTO meta VALUES ('epoch', ?)", [secrets.token_hex(8)])


@GATEWAY(name="0002_health")
def _health(db: Database) -> None:
    for statement in _HEALTH:
        db.execute(statement)


@GATEWAY(name="0003_outbox_without_index")
def _outbox_without_index(db: Database) -> None:
    # It was asked when somebody is erased, which happens rarely, and cost half of every insertion.
    db.execute("DROP INDEX outbox_shopper")


@GATEWAY(name="0004_silent_shelf")
def _silent_shelf(db: Database) -> None:
    # What may not be pushed any more becomes a card: a kind no longer says whether the phone may ring.
    db.execute("ALTER TABLE offer ADD COLUMN push INTEGER NOT NULL DEFAULT 1")
    db.execute("UPDATE offer SET push = 0 WHERE kind = 'info'")


@GATEWAY(name="0005_gap")
def _gap(db: Database) -> None:
    # Events that could not be kept because there was no room.
    db.execute(
        """CREATE TABLE gap (
            id INTEGER PRIMARY KEY, from_wall_ms INTEGER NOT NULL, until_wall_ms INTEGER NOT NULL,
            events INTEGER NOT NULL, cause TEXT NOT NULL, is_over INTEGER NOT NULL) STRICT"""
    )
