"""Whose token is this: the roster's tables of ephemeral identifiers, their windows, and the limits on replay and forgery.

::

    token ─ EID in this window's table? ─ no ─▶ stranger, dropped without a trace
              │ yes (last or next window only within the skew of the edge)
              ▼
            tag good? ─ no ─▶ counted; after 16 for one EID in a window its tags are not looked at again
              │ yes
              ▼
            newest slot of this shopper? ─ no ─▶ stale: BlueZ repeats old service UUIDs of an address
              │ yes
              ▼
            Recognised(shopper, roster bits AND token flags, hint)

Source: the shopper token, version 1, "Resolving at the gateway".
"""

from collections.abc import Iterable

from gateway.core.model import Consent, Counters, Hint, Instant, Recognised, RosterEntry
from gateway.core.token import (
    WINDOW_S,
    Subkeys,
    TokenPayload,
    day_of,
    derive_subkeys,
    ephemeral_identifier,
    open_token,
    rssi_of_bucket,
)

MAX_BAD_TAGS = 16
_KEEP_DAY_S = 3600
"""Tokens of a day that is over come in for the skew at most; its keys may be kept for two hours."""
_NOT_REFRESHED = 15
_SLOT_S = 60
_CONSENT_BITS = 0b11
_HAS_HINT = 0b1000
_NO_HINT = (0, 0xFFFF)
_MAX_OPENED = 8192

Window = int
Table = dict[bytes, "KnownShopper"]


class KnownShopper:
    """One roster record with its subkeys and the newest slot heard of it."""

    __slots__ = ("consent", "name", "newest", "subkeys")

    def __init__(self, entry: RosterEntry) -> None:
        self.name = entry.rid.hex()
        self.subkeys: Subkeys = derive_subkeys(entry.day_key)
        self.consent = entry.consent
        self.newest = (0, 0)
        """(window, slot)"""

    def go_on_from(self, before: "KnownShopper") -> None:
        """A record sent again must not bring old slots, and with them old flags, back to life; a new key has none."""
        if before.subkeys == self.subkeys:
            self.newest = before.newest


class DayRoster:
    """One day's roster, compiled: about 8 µs a shopper, so build large ones off the event loop."""

    def __init__(self, day: int, version: int, entries: Iterable[RosterEntry], windows: Iterable[Window] = ()) -> None:
        self.day = day
        self.version = version
        self.shoppers: dict[str, KnownShopper] = {}
        self.tables: dict[Window, Table] = {}
        for entry in entries:
            shopper = KnownShopper(entry)
            self.shoppers[shopper.name] = shopper
        for window in windows:
            self.tables[window] = {ephemeral_identifier(s.subkeys.ek, window): s for s in self.shoppers.values()}

    def follow(self, old: "DayRoster") -> list[str]:
        """Take the place of ``old``; returns the names that it had and this one has not."""
        gone = []
        for name, before in old.shoppers.items():
            shopper = self.shoppers.get(name)
            if shopper is None:
                gone.append(name)
            else:
                shopper.go_on_from(before)
        return gone

    def apply_delta(self, version: int, upserts: Iterable[RosterEntry], removals: Iterable[str]) -> list[str]:
        """Apply a numbered delta in place; returns the names that are no longer in the roster."""
        gone = [name for name in removals if self._drop(name) is not None]
        for entry in upserts:
            shopper = KnownShopper(entry)
            before = self._drop(shopper.name)
            if before is not None:
                shopper.go_on_from(before)
            self.shoppers[shopper.name] = shopper
            for window, table in self.tables.items():
                table[ephemeral_identifier(shopper.subkeys.ek, window)] = shopper
        self.version = version
        return [name for name in gone if name not in self.shoppers]

    def _drop(self, name: str) -> KnownShopper | None:
        shopper = self.shoppers.pop(name, None)
        if shopper is not None:
            for window, table in self.tables.items():
                table.pop(ephemeral_identifier(shopper.subkeys.ek, window), None)
        return shopper


class Identity:
    """Resolves tokens against the rosters of today and tomorrow."""

    def __init__(self, day_start_s: int, skew_s: int, counters: Counters) -> None:
        self._day_start_s = day_start_s
        self._skew_s = skew_s
        self._counters = counters
        self._days: dict[int, DayRoster] = {}
        self._building: tuple[DayRoster, Window, list[KnownShopper]] | None = None
        """Whose table is in the making, and who is not in it yet. It is in force as far as it goes, so that deltas reach it."""
        self._opened: dict[bytes, TokenPayload | None] = {}
        self._bad_tags: dict[bytes, int] = {}
        self._window: Window = -1

    # ---- rosters --------------------------------------------------------------------------------------------------------------

    def windows_around(self, wall_ms: int, day: int) -> list[Window]:
        """The windows of ``day`` among last, current and next: what a new roster must be built for."""
        window = wall_ms // 1000 // WINDOW_S
        return [w for w in (window - 1, window, window + 1) if day_of(w, self._day_start_s) == day]

    def day_at(self, wall_ms: int) -> int:
        """The store's day."""
        return day_of(wall_ms // 1000 // WINDOW_S, self._day_start_s)

    def put_in_force(self, roster: DayRoster) -> list[str]:
        """Swap one day's roster whole; returns the names that were in the old one and are not in the new."""
        old = self._days.get(roster.day)
        self._days[roster.day] = roster
        self._stop_building()
        self._opened.clear()
        return [] if old is None else roster.follow(old)

    def roster(self, day: int) -> DayRoster | None:
        """The day's roster, if one is in force."""
        return self._days.get(day)

    def apply_delta(self, day: int, version: int, upserts: Iterable[RosterEntry], removals: Iterable[str]) -> list[str]:
        """Apply a delta to the day's roster, which must be in force; returns the names that left it."""
        self._opened.clear()
        return self._days[day].apply_delta(version, upserts, removals)

    def has_left(self, shopper: str, wall_ms: int) -> bool:
        """Whether the roster of the day of ``wall_ms``, when the shopper was first met, is in force and names it no more."""
        return self.day_at(wall_ms) in self._days and not self.is_known(shopper)

    def is_known(self, shopper: str) -> bool:
        """Whether any roster in force names this pseudonym."""
        return any(shopper in roster.shoppers for roster in self._days.values())

    def consent_of(self, shopper: str) -> Consent | None:
        """The roster's consent bits, or ``None`` when no roster in force names this pseudonym."""
        return next((roster.shoppers[shopper].consent for roster in self._days.values() if shopper in roster.shoppers), None)

    @property
    def roster_size(self) -> int:
        """Shoppers in the largest roster in force."""
        return max((len(roster.shoppers) for roster in self._days.values()), default=0)

    def prepare(self, wall_ms: int, budget: int = 600) -> bool:
        """Build up to ``budget`` identifiers (about 3 µs each) of the windows that are or will be needed.

        Returns whether the current window is still incomplete, in which case the caller should come back at once.
        Drops past windows and days.
        """
        window = wall_ms // 1000 // WINDOW_S
        if window != self._window:
            self._window = window
            self._bad_tags.clear()
            self._opened.clear()
            self._drop_past(window)
        for wanted in (window, window - 1, window + 1):
            roster = self._days.get(day_of(wanted, self._day_start_s))
            if roster is None or (wanted in roster.tables and not self._is_building(wanted)):
                continue
            self._build(roster, wanted, budget)
            return wanted == window and self._building is not None
        return False

    def _is_building(self, window: Window) -> bool:
        return self._building is not None and self._building[1] == window

    def _build(self, roster: DayRoster, window: Window, budget: int) -> None:
        if self._building is None or self._building[1] != window:
            self._stop_building()
            roster.tables[window] = {}
            self._building = (roster, window, list(roster.shoppers.values()))
        _, _, missing = self._building
        table = roster.tables[window]
        for shopper in missing[-budget:]:
            # Deltas that came meanwhile have put newcomers in and taken out who is gone.
            if roster.shoppers.get(shopper.name) is shopper:
                table[ephemeral_identifier(shopper.subkeys.ek, window)] = shopper
        del missing[-budget:]
        if not missing:
            self._building = None

    def _stop_building(self) -> None:
        if self._building is not None:
            roster, window, _ = self._building
            roster.tables.pop(window, None)
            self._building = None

    def _drop_past(self, window: Window) -> None:
        if self._building is not None and not window - 1 <= self._building[1] <= window + 1:
            self._stop_building()
        oldest = day_of(window - _KEEP_DAY_S // WINDOW_S, self._day_start_s)
        for day in [day for day in self._days if day < oldest]:
            del self._days[day]
        for roster in self._days.values():
            for old in [w for w in roster.tables if not window - 1 <= w <= window + 1]:
                del roster.tables[old]

    # ---- tokens ---------------------------------------------------------------------------------------------------------------

    def knows(self, eid: bytes) -> bool:
        """Whether an ephemeral identifier belongs to a roster member in a window near now."""
        # Plain loops: this is asked for every service UUID on the air, and a generator would cost more than the answer.
        for roster in self._days.values():
            for table in roster.tables.values():
                if eid in table:
                    return True
        return False

    def resolve(self, token: bytes, at: Instant) -> Recognised | None:
        """The shopper behind a 16-byte token heard at ``at``, or ``None`` (stranger, bad tag, stale: counted)."""
        unix_s = at.wall_ms // 1000
        eid = token[:8]
        window, shopper = self._find(eid, *divmod(unix_s, WINDOW_S))
        if shopper is None:
            self._counters.strangers += 1
            return None
        payload = self._opened.get(token)
        if payload is None:
            payload = self._open(token, eid, shopper, window)
            if payload is None:
                self._counters.bad_tags += 1
                return None
        # A payload that was not refreshed has no place among the slots of its window, but its window has one among the windows.
        seen = (window, payload.slot) if payload.slot != _NOT_REFRESHED else max(shopper.newest, (window, 0))
        if window < shopper.newest[0] or seen < shopper.newest:
            self._counters.stale_tokens += 1
            return None
        shopper.newest = seen
        consent = shopper.consent & Consent(payload.flags & _CONSENT_BITS)
        return Recognised(shopper.name, consent, self._hint(payload, window, unix_s) if consent else None)

    def _find(self, eid: bytes, window: Window, into_s: int) -> tuple[Window, KnownShopper | None]:
        """Which window's identifier this is, and whose; with a skew above half a window both neighbours may count at once."""
        shopper = self._look_up(eid, window)
        if shopper is None and into_s < self._skew_s:
            shopper = self._look_up(eid, window - 1)
            if shopper is not None:
                return window - 1, shopper
        if shopper is None and into_s >= WINDOW_S - self._skew_s:
            return window + 1, self._look_up(eid, window + 1)
        return window, shopper

    def _look_up(self, eid: bytes, window: Window) -> KnownShopper | None:
        roster = self._days.get(day_of(window, self._day_start_s))
        table = None if roster is None else roster.tables.get(window)
        return None if table is None else table.get(eid)

    def _open(self, token: bytes, eid: bytes, shopper: KnownShopper, window: Window) -> TokenPayload | None:
        bad = self._bad_tags.get(eid, 0)
        if bad >= MAX_BAD_TAGS:
            return None
        payload = open_token(shopper.subkeys, window, token)
        if payload is None:
            self._bad_tags[eid] = bad + 1
            return None
        if len(self._opened) >= _MAX_OPENED:
            self._opened.clear()
        self._opened[token] = payload
        return payload

    def _hint(self, payload: TokenPayload, window: Window, unix_s: int) -> Hint | None:
        if not payload.flags & _HAS_HINT or payload.slot == _NOT_REFRESHED or payload.hint in _NO_HINT:
            return None
        age_s = unix_s - (window * WINDOW_S + payload.slot * _SLOT_S)
        if not -self._skew_s <= age_s <= _SLOT_S + self._skew_s:
            return None
        return Hint(payload.hint, rssi_of_bucket(payload.bucket), window * (WINDOW_S // _SLOT_S) + payload.slot)
