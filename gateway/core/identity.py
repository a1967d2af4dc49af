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
from typing import Final

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

MAX_BAD_TAGS: Final = 16
_KEEP_DAY_S: Final = 3600
"""Tokens of a day that is over come in for the skew at most; its keys may be kept for two hours."""
_NOT_REFRESHED: Final = 15
_SLOTS: Final = 16
"""Slots are numbered window × 16 + slot, so that they can be compared."""
_SLOT_S: Final = 60
_CONSENT_BITS: Final = 0b11
_HAS_HINT: Final = 0b1000
_NO_HINT: Final = (0, 0xFFFF)
_MAX_OPENED: Final = 8192
_MAX_FAMILIAR: Final = 4096
"""About two minutes of 2,000 phones that say something new every minute; an entry takes half a kilobyte."""

Window = int
Table = dict[bytes, "KnownShopper"]


class KnownShopper:
    """One roster record with its subkeys and the newest slot heard of it."""

    __slots__ = ("consent", "day_key", "name", "newest", "subkeys")

    def __init__(self, entry: RosterEntry) -> None:
        self.name = entry.rid.hex()
        self.day_key = entry.day_key
        self.subkeys: Subkeys = derive_subkeys(entry.day_key)
        self.consent = entry.consent
        self.newest = 0
        """The newest slot heard of this shopper, numbered through all windows."""

    def go_on_from(self, before: "KnownShopper") -> None:
        """A record sent again must not bring old slots, and with them old flags, back to life; a new key has none."""
        if before.day_key == self.day_key:
            self.newest = before.newest


class DayRoster:
    """One day's roster, compiled: about 8 µs a shopper, so build large ones off the event loop.

    Records that are unchanged since ``before`` are taken from there.
    """

    def __init__(
        self,
        day: int,
        version: int,
        entries: Iterable[RosterEntry],
        windows: Iterable[Window] = (),
        before: "DayRoster | None" = None,
    ) -> None:
        self.day = day
        self.version = version
        self.shoppers: dict[str, KnownShopper] = {}
        self.tables: dict[Window, Table] = {}
        for entry in entries:
            known = None if before is None else before.shoppers.get(entry.rid.hex())
            is_same = known is not None and known.day_key == entry.day_key and known.consent == entry.consent
            shopper = known if known is not None and is_same else KnownShopper(entry)
            self.shoppers[shopper.name] = shopper
        for window in windows:
            self.add_window(window, self.shoppers.values())

    def add_window(self, window: Window, shoppers: Iterable[KnownShopper]) -> None:
        """Make the identifiers of these shoppers for one window."""
        self.tables[window] = {ephemeral_identifier(shopper.subkeys.ek, window): shopper for shopper in shoppers}

    def follow(self, old: "DayRoster") -> list[str]:
        """Take the place of ``old``; returns the names that it had and this one has not."""
        gone = []
        for name, before in old.shoppers.items():
            shopper = self.shoppers.get(name)
            if shopper is None:
                gone.append(name)
            elif shopper is not before:
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

    def take_place(self, entry: RosterEntry) -> KnownShopper | None:
        """Put one more record in without a new version; returns the record whose place it takes."""
        before = self.shoppers.get(entry.rid.hex())
        self.apply_delta(self.version, [entry], [])
        return before

    def give_back(self, name: str, before: KnownShopper | None) -> None:
        """Undo ``take_place``."""
        self._drop(name)
        if before is not None:
            self.shoppers[name] = before
            for window, table in self.tables.items():
                table[ephemeral_identifier(before.subkeys.ek, window)] = before

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
        self._own: dict[int, tuple[RosterEntry, ...]] = {}
        """By day, the records of the technician's test shoppers."""
        self._replaced: dict[int, dict[str, KnownShopper | None]] = {}
        """By day and pseudonym, central's record whose place a test shopper's has taken."""
        self._building: tuple[DayRoster, Window, list[KnownShopper]] | None = None
        """Whose table is in the making, and who is not in it yet. It is in force as far as it goes, so that deltas reach it."""
        self._opened: dict[bytes, Opened] = {}
        self.familiar: dict[bytes, Opened] = {}
        """What the advertisements say, octet for octet, in which a good token of the roster was heard: a phone repeats itself for
        a minute. Nothing of a stranger comes in here, nor of a forger; it is emptied whenever an answer may have changed."""
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
        self._forget_opened()
        self._replaced.pop(roster.day, None)
        self._add_own(roster)
        return [] if old is None else roster.follow(old)

    def use_own(self, day: int, entries: Iterable[RosterEntry], wall_ms: int) -> list[str]:
        """The technician's test shoppers of one day, beside central's roster or without one; returns who is no longer known."""
        entries = tuple(entries)
        if entries == self._own.get(day, ()):
            return []
        roster = self._days.get(day)
        self._forget_opened()
        gone = []
        if roster is not None:
            for name, before in self._replaced.pop(day, {}).items():
                roster.give_back(name, before)
                gone.append(name)
        self._own[day] = entries
        if roster is None:
            roster = self._days[day] = DayRoster(day, 0, (), self.windows_around(wall_ms, day))
        self._add_own(roster)
        return [name for name in gone if not self.is_own(name)]

    def _add_own(self, roster: DayRoster) -> None:
        replaced = {entry.rid.hex(): roster.take_place(entry) for entry in self._own.get(roster.day, ())}
        if replaced:
            self._replaced[roster.day] = replaced

    def is_own(self, shopper: str) -> bool:
        """Whether this is the pseudonym of a test shopper."""
        for replaced in self._replaced.values():  # noqa: SIM110 -- any() with a generator costs four times as much
            if shopper in replaced:
                return True
        return False

    def roster(self, day: int) -> DayRoster | None:
        """The day's roster, if one is in force."""
        return self._days.get(day)

    def apply_delta(self, day: int, version: int, upserts: Iterable[RosterEntry], removals: Iterable[str]) -> list[str]:
        """Apply a delta to the day's roster, which must be in force; returns the names that left it."""
        self._forget_opened()
        roster = self._days[day]
        # Whose place a test shopper has taken is changed where it waits.
        for name, before in self._replaced.pop(day, {}).items():
            roster.give_back(name, before)
        gone = roster.apply_delta(version, upserts, removals)
        self._add_own(roster)
        return [name for name in gone if name not in roster.shoppers]

    def has_left(self, shopper: str, wall_ms: int) -> bool:
        """Whether the roster of the day of ``wall_ms``, when the shopper was first met, is in force and names it no more."""
        roster = self._days.get(self.day_at(wall_ms))
        # Version 0 is no roster of central's: it holds test shoppers only.
        return roster is not None and roster.version > 0 and not self.is_known(shopper)

    def is_known(self, shopper: str) -> bool:
        """Whether any roster in force names this pseudonym."""
        return any(shopper in roster.shoppers for roster in self._days.values())

    def consent_of(self, shopper: str) -> Consent | None:
        """The roster's consent bits, or ``None`` when no roster in force names this pseudonym."""
        return next((roster.shoppers[shopper].consent for roster in self._days.values() if shopper in roster.shoppers), None)

    @property
    def roster_size(self) -> int:
        """Shoppers in the largest roster in force, without test shoppers."""
        return max((len(roster.shoppers) - self._added(roster.day) for roster in self._days.values()), default=0)

    def _added(self, day: int) -> int:
        return sum(before is None for before in self._replaced.get(day, {}).values())

    def prepare(self, wall_ms: int, budget: int = 600) -> bool:
        """Build up to ``budget`` identifiers (about 3 µs each) of the windows that are or will be needed.

        Returns whether the current window is still incomplete, in which case the caller should come back at once.
        Drops past windows and days.
        """
        window = wall_ms // 1000 // WINDOW_S
        if window != self._window:
            self._window = window
            self._bad_tags.clear()
            self._forget_opened()
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
        # An advertisement may hold more than one list of services, and another of them may become the token.
        self.familiar.clear()
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
        for table in (self._days, self._own, self._replaced):
            for day in [day for day in table if day < oldest]:
                del table[day]
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
        opened = self.open(token, at)
        return None if opened is None else self.recognise(opened, at)

    def open(self, token: bytes, at: Instant, heard_in: bytes | None = None) -> "Opened | None":
        """What a 16-byte token says if it is in a roster and genuine, else ``None`` (counted).

        ``heard_in``: the advertisement that it came in, whose repetitions are ``familiar`` from now on.
        """
        opened = self._opened.get(token)
        if opened is None or not opened.from_ms <= at.wall_ms < opened.until_ms:
            opened = self._open(token, at.wall_ms // 1000)
        if opened is not None and heard_in is not None:
            if len(self.familiar) >= _MAX_FAMILIAR:
                self.familiar.clear()
            self.familiar[heard_in] = opened
        return opened

    def recognise(self, opened: "Opened", at: Instant) -> Recognised | None:
        """The shopper who is heard again at ``at``, within the token's time; ``None`` if a newer slot was heard before."""
        shopper = opened.shopper
        if opened.order > shopper.newest:
            shopper.newest = opened.order
        elif opened.order < shopper.newest and (opened.has_slot or opened.order // _SLOTS < shopper.newest // _SLOTS):
            self._counters.stale_tokens += 1
            return None
        if opened.hint is None:
            return opened.recognised
        recognised = opened.recognised
        return Recognised(recognised.shopper, recognised.consent, self.fresh(opened.hint, at.wall_ms // 1000))

    def _forget_opened(self) -> None:
        self._opened.clear()
        self.familiar.clear()

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

    def _open(self, token: bytes, unix_s: int) -> "Opened | None":
        eid = token[:8]
        window, shopper = self._find(eid, *divmod(unix_s, WINDOW_S))
        if shopper is None:
            self._counters.strangers += 1
            return None
        bad = self._bad_tags.get(eid, 0)
        payload = None if bad >= MAX_BAD_TAGS else open_token(shopper.subkeys, window, token)
        if payload is None:
            self._bad_tags[eid] = min(bad + 1, MAX_BAD_TAGS)
            self._counters.bad_tags += 1
            return None
        if len(self._opened) >= _MAX_OPENED:
            self._opened.clear()
        opened = self._opened[token] = Opened(shopper, window, payload, self._skew_s)
        return opened

    def fresh(self, hint: Hint, unix_s: int) -> Hint | None:
        """The hint, or ``None`` when it is too old or not made yet."""
        return hint if -self._skew_s <= unix_s - hint.minute * _SLOT_S <= _SLOT_S + self._skew_s else None


class Opened:
    """What a token of the roster says, and the time in which it may be heard: it is repeated for a minute."""

    __slots__ = ("from_ms", "has_slot", "hint", "order", "recognised", "shopper", "until_ms")

    def __init__(self, shopper: KnownShopper, window: Window, payload: TokenPayload, skew_s: int) -> None:
        self.shopper = shopper
        self.from_ms, self.until_ms = 1000 * (window * WINDOW_S - skew_s), 1000 * ((window + 1) * WINDOW_S + skew_s)
        # A payload that was not refreshed has no place among the slots of its window, but its window has one among the windows.
        self.has_slot = payload.slot != _NOT_REFRESHED
        self.order = window * _SLOTS + (payload.slot if self.has_slot else 0)
        consent = shopper.consent & Consent(payload.flags & _CONSENT_BITS)
        self.recognised = Recognised(shopper.name, consent, None)
        self.hint: Hint | None = None
        if consent and self.has_slot and payload.flags & _HAS_HINT and payload.hint not in _NO_HINT:
            minute = window * (WINDOW_S // _SLOT_S) + payload.slot
            self.hint = Hint(payload.hint, rssi_of_bucket(payload.bucket), minute)
