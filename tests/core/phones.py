"""Shoppers' phones as the core's tests need them, and a look into everything that an object holds on to."""

import gc
from collections.abc import Iterable, Iterator
from types import BuiltinFunctionType, FunctionType, ModuleType

from gateway.core import ad_structures
from gateway.core.frames import shopper
from gateway.core.identity import DayRoster
from gateway.core.model import Consent, RosterEntry, ShopperToken
from gateway.core.token import (
    FLAG_HINT,
    WINDOW_S,
    TokenPayload,
    day_of,
    derive_day_key,
    derive_pseudonym,
    derive_subkeys,
    seal_token,
    slot_of,
    window_of,
)

STORE = 4711
WINDOW = 1988889
"""A window in the middle of the day."""
UNIX_S = WINDOW * WINDOW_S
BOTH = Consent.OFFERS | Consent.ANALYTICS


class Phone:
    """One app installation; ``seed`` makes its key."""

    def __init__(self, seed: int, *, store: int = STORE, day_start_s: int = 0) -> None:
        self._ku = seed.to_bytes(32, "big")
        self._store = store
        self._day_start_s = day_start_s

    def day(self, window: int) -> int:
        return day_of(window, self._day_start_s)

    def name(self, day: int) -> str:
        return derive_pseudonym(self._ku, self._store, day).hex()

    def entry(self, day: int, consent: Consent = BOTH) -> RosterEntry:
        return RosterEntry(derive_pseudonym(self._ku, self._store, day), derive_day_key(self._ku, self._store, day), consent)

    def token(
        self,
        unix_s: int,
        *,
        flags: int = 3,
        slot: int | None = None,
        bucket: int = 9,
        hint: int = 0,
        window: int | None = None,
        key_of_day: int | None = None,
    ) -> bytes:
        """What the phone sends at ``unix_s`` of its own clock; a hint brings its flag along."""
        window = window_of(unix_s) if window is None else window
        day = self.day(window) if key_of_day is None else key_of_day
        payload = TokenPayload(flags | (FLAG_HINT if hint else 0), slot_of(unix_s) if slot is None else slot, bucket, hint)
        return seal_token(derive_subkeys(derive_day_key(self._ku, self._store, day)), window, payload)


def form_u(token: bytes) -> bytes:
    """The AD structures of an iPhone that shows ``token``."""
    return ad_structures.encode(
        [ad_structures.AdStructure(ad_structures.FLAGS, b"\x1a"), shopper.encode(ShopperToken("U", token, None))]
    )


def roster_of(phones: list[Phone], day: int, windows: list[int], consent: Consent = BOTH, version: int = 1) -> DayRoster:
    return DayRoster(day, version, [phone.entry(day, consent) for phone in phones], windows)


def held_by(root: object) -> Iterator[object]:
    """Every object that ``root`` keeps alive, itself first; modules, classes and the globals of functions left out."""
    seen = {id(root)}
    waiting = [root]
    while waiting:
        found = waiting.pop()
        yield found
        for each in _inside(found):
            if id(each) not in seen and not isinstance(each, type | ModuleType | BuiltinFunctionType):
                seen.add(id(each))
                waiting.append(each)


def _inside(found: object) -> Iterable[object]:
    if isinstance(found, FunctionType):
        return found.__closure__ or ()
    # The collector does not look at keys that are text.
    return [*found.keys(), *found.values()] if isinstance(found, dict) else gc.get_referents(found)


def holders_of(root: object, name: str) -> int:
    """How many objects below ``root`` refer to this text."""
    return sum(any(type(each) is str and each == name for each in _inside(found)) for found in held_by(root))


def entries_held_by(root: object) -> int:
    """How many entries all tables, sets and lists below ``root`` have together."""
    return sum(len(found) for found in held_by(root) if isinstance(found, dict | set | frozenset | list))
