"""Visits as central counts them: the one a shopper is on in a store today, and all of a shopper's in the chain.

The first has a number by which the push budget goes, and is forgotten with the pseudonym. The second are intervals of a person
who consented to analytics: stays with gaps shorter than the visit gap are one visit, in whatever order they are told.
"""

from dataclasses import dataclass

from sqlite_utils import Database

OPEN_MS = 12 * 3600 * 1000
"""A visit of which nothing was heard for so long is over, even if nobody has said so."""


@dataclass(frozen=True, slots=True)
class Present:
    """Somebody who is in a store."""

    store: str
    rid: str
    zone: str | None
    """Where the shopper entered last; ``None``: not told."""
    started_ms: int


def go_on(
    db: Database, store: str, rid: str, at_ms: int, gap_ms: int, *, name: str | None = None, zone: str | None = None
) -> int:
    """Number of the shopper's visit as central sees it: a new one after ``gap_ms`` without event.

    One that the gateway calls by the same ``name`` goes on for longer. ``zone``: where the shopper is now.
    """
    columns = "number, last_ms, name, zone, started_ms, is_open"
    row = db.execute(f"SELECT {columns} FROM visit WHERE store = ? AND rid = ?", [store, rid]).fetchone()  # noqa: S608
    if row is None:
        number, last_ms, started_ms, before, is_open = 1, at_ms, at_ms, None, True
    else:
        number, last_ms, before = int(row[0]), int(row[1]), row[3]
        started_ms, is_open = int(row[4] or last_ms), bool(row[5]) or at_ms > last_ms
        if at_ms - last_ms >= gap_ms and (name is None or name != row[2]):
            number, started_ms, before, is_open = number + 1, at_ms, None, True
    db.execute(
        "INSERT OR REPLACE INTO visit (store, rid, number, last_ms, name, zone, started_ms, is_open)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            store,
            rid,
            number,
            max(at_ms, last_ms),
            name or (None if row is None else row[2]),
            zone if zone is not None and at_ms >= last_ms else before,
            min(at_ms, started_ms),
            int(is_open),
        ],
    )
    return number


def end(db: Database, store: str, rid: str, name: str) -> None:
    """The gateway has closed this visit."""
    db.execute("UPDATE visit SET is_open = 0 WHERE store = ? AND rid = ? AND name = ?", [store, rid, name])


def presence(db: Database, store: str, rid: str, now_ms: int) -> Present | None:
    """Whether a pseudonym is on a visit."""
    row = db.execute(
        "SELECT store, rid, zone, started_ms FROM visit WHERE store = ? AND rid = ? AND is_open = 1 AND last_ms > ?",
        [store, rid, now_ms - OPEN_MS],
    ).fetchone()
    return None if row is None else Present(row[0], row[1], row[2], int(row[3] or 0))


def present(db: Database, now_ms: int, store: str | None = None) -> list[Present]:
    """Everybody who is on a visit, in one store or in all."""
    rows = db.execute(
        "SELECT store, rid, zone, started_ms FROM visit WHERE is_open = 1 AND last_ms > ?1 AND (?2 IS NULL OR store = ?2)"
        " ORDER BY store, rid",
        [now_ms - OPEN_MS, store],
    )
    return [Present(row[0], row[1], row[2], int(row[3] or 0)) for row in rows.fetchall()]


# ---- all visits of a person ---------------------------------------------------------------------------------------------------


def keep_stay(db: Database, inbox: str, store: str, from_ms: int, until_ms: int, gap_ms: int) -> None:
    """Somebody was in the store from … until: a visit, or a part of one; whatever is closer than ``gap_ms`` becomes one."""
    from_ms = min(from_ms, until_ms)
    near = [inbox, store, until_ms + gap_ms, from_ms - gap_ms]
    condition = "inbox = ? AND store = ? AND started_ms < ? AND last_ms > ?"
    found = db.execute(f"SELECT started_ms, last_ms FROM visited WHERE {condition}", near).fetchall()  # noqa: S608
    db.execute(f"DELETE FROM visited WHERE {condition}", near)  # noqa: S608
    started_ms = min([from_ms, *(int(started) for started, _ in found)])
    last_ms = max([until_ms, *(int(last) for _, last in found)])
    db.execute("INSERT INTO visited VALUES (?, ?, ?, ?)", [inbox, store, started_ms, last_ms])


@dataclass(frozen=True, slots=True)
class Past:
    """A shopper's visits without the present one."""

    in_30_days: int
    last_ms: int | None
    """The end of the newest; ``None``: there was none."""


def past(db: Database, inbox: str, store: str, since_ms: int, now_ms: int) -> Past:
    """Visits to all stores before the one in ``store`` that began at ``since_ms``."""
    rows = db.execute(
        "SELECT started_ms, last_ms FROM visited WHERE inbox = ? AND NOT (store = ? AND last_ms >= ?) AND started_ms <= ?",
        [inbox, store, since_ms, now_ms],
    ).fetchall()
    month_ms = 30 * 86_400_000
    return Past(sum(started > now_ms - month_ms for started, _ in rows), max((int(last) for _, last in rows), default=None))
