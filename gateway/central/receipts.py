"""What apps have told of their offers, read for a report. Nothing is changed."""

from collections import defaultdict

from sqlite_utils import Database


def states_by_offer(db: Database, store: str, from_ms: int, until_ms: int) -> dict[str, set[str]]:
    """Of offers decided in that time: the states that their apps have told."""
    states: dict[str, set[str]] = defaultdict(set)
    rows = db.execute(
        "SELECT offer.offer, receipt.state FROM offer JOIN receipt USING (offer)"
        " WHERE store = ? AND decided_ms >= ? AND decided_ms < ?",
        [store, from_ms, until_ms],
    )
    for offer, state in rows:
        states[offer].add(state)
    return dict(states)
