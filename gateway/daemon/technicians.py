"""The technician's test shoppers: keys of their own that go the real path for some hours, outside of caps and counts.

Kept in a file beside the database, readable by the service alone, because the keys recognise a phone on every day.
"""

import json
import logging
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from gateway.contract.fields import KeyHex, Name, Strict, WallTime
from gateway.core.model import Consent, Instant, RosterEntry, Step
from gateway.core.pipeline import Pipeline
from gateway.core.token import derive_day_key, derive_pseudonym
from gateway.errors import ConfigurationError, DiskError, WrongCommand
from gateway.io.whole_file import write_whole

if TYPE_CHECKING:
    from gateway.contract.control import AddTechnicianRequest, Technician, Technicians

log = logging.getLogger(__name__)

MAX_TEST_SHOPPERS = 8
_LAST_OFFERS = 5


class _Kept(Strict):
    """A test shopper as the file has it."""

    name: Name
    key: KeyHex
    until_time: WallTime


_FILE: TypeAdapter[tuple[_Kept, ...]] = TypeAdapter(tuple[_Kept, ...])


@dataclass(slots=True)
class _Known:
    """One test shopper, and the promotions it was offered, newest first."""

    kept: _Kept
    offers: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_OFFERS))


class TestShoppers:
    """Those of one gateway."""

    __test__ = False
    """It is no test, whatever pytest makes of the name."""

    def __init__(self, path: Path, pipeline: Pipeline, store_number: int) -> None:
        """``path``: where they are kept."""
        self._path = path
        self._pipeline = pipeline
        self._store_number = store_number
        self._known: dict[str, _Known] = {}

    def __len__(self) -> int:
        return len(self._known)

    def restore(self) -> None:
        """Take back what was kept; a file that cannot be read is a ``ConfigurationError``: it may be deleted."""
        try:
            kept = _FILE.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, ValidationError) as error:
            raise ConfigurationError(
                "the test shoppers cannot be read.", where=str(self._path), do="Delete the file and add them again."
            ) from error
        self._known = {one.name: _Known(one) for one in kept}

    def add(self, request: "AddTechnicianRequest", now: Instant) -> None:
        """Recognise one more; ``ConfigurationError`` where that is not possible."""
        if request.name not in self._known and len(self._known) >= MAX_TEST_SHOPPERS:
            raise ConfigurationError(
                f"there are {MAX_TEST_SHOPPERS} test shoppers already.", do="Remove one: gateway test-shopper remove NAME."
            )
        twin = next((known.kept.name for known in self._known.values() if known.kept.key == request.key), request.name)
        if twin != request.name:
            raise ConfigurationError(f"has the key of {twin}.", where=request.name, do="One name for one key.")
        until_ms = now.wall_ms + request.duration_s * 1000
        self._known[request.name] = _Known(_Kept(name=request.name, key=request.key, until_time=until_ms))
        self._keep()
        self.put_in_force(now)

    def remove(self, name: str, now: Instant) -> None:
        """Recognise one no longer; ``WrongCommand`` for one that nobody knows."""
        if name not in self._known:
            known = ", ".join(self._known) or "none"
            raise WrongCommand(f"there is no test shopper {name}; known: {known}.")
        del self._known[name]
        self._keep()
        self.put_in_force(now)

    def put_in_force(self, now: Instant) -> None:
        """Recognise them today and tomorrow; to be called whenever time has passed."""
        expired = [name for name, known in self._known.items() if known.kept.until_time <= now.wall_ms]
        for name in expired:
            del self._known[name]
        if expired:
            try:
                self._keep()
            except DiskError as error:
                # In the file they say until when they hold: the next start leaves them out again.
                log.warning("test shoppers that have expired stay in the file: %s", error)
        today = self._pipeline.identity.day_at(now.wall_ms)
        for day in (today, today + 1):
            self._pipeline.use_test_shoppers(day, [self._entry(known.kept, day) for known in self._known.values()], now.wall_ms)

    def _entry(self, kept: _Kept, day: int) -> RosterEntry:
        key = bytes.fromhex(kept.key)
        # Without ANALYTICS: of a test shopper central learns the offers only.
        return RosterEntry(
            derive_pseudonym(key, self._store_number, day), derive_day_key(key, self._store_number, day), Consent.OFFERS
        )

    def _keep(self) -> None:
        text = json.dumps([known.kept.model_dump(mode="json") for known in self._known.values()])
        if self._known:
            write_whole(self._path, text, mode=0o600, folder_mode=0o700, do="Check folder and free space.")
            return
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise DiskError(f"cannot be deleted ({error.strerror}).", where=str(self._path), do="Check the folder.") from error

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, in order."""
        return tuple(sorted(self._known))

    def pseudonyms(self, name: str, now: Instant) -> frozenset[str]:
        """As whom one is recognised today and, around the edge of the day, yesterday and tomorrow."""
        return frozenset(self._pseudonyms(self._known[name].kept, now))

    def note(self, step: Step) -> None:
        """Remember what they were offered."""
        if not self._known:
            return
        for outcome in step.outcomes:
            for offer in outcome.offers:
                if self._pipeline.identity.is_own(offer.shopper):
                    for known in self._known.values():
                        if offer.shopper in self._pseudonyms(known.kept, offer.at):
                            known.offers.appendleft(offer.promotion_id)

    def _pseudonyms(self, kept: _Kept, now: Instant) -> list[str]:
        """Of today and, around the edge of the day, of its neighbours."""
        day = self._pipeline.identity.day_at(now.wall_ms)
        key = bytes.fromhex(kept.key)
        return [derive_pseudonym(key, self._store_number, near).hex() for near in (day, day - 1, day + 1)]

    def report(self, now: Instant) -> "Technicians":
        """Where each of them is."""
        from gateway.contract.control import Technicians

        return Technicians(test_shoppers=tuple(self._report(known, now) for known in self._known.values()))

    def _report(self, known: _Known, now: Instant) -> "Technician":
        from gateway.contract.control import AnchorHeard, Technician

        beliefs = [self._pipeline.test_beliefs.get(name) for name in self._pseudonyms(known.kept, now)]
        belief = max((belief for belief in beliefs if belief is not None), key=lambda belief: belief.at, default=None)
        told = Technician(name=known.kept.name, until_time=known.kept.until_time, last_offers=tuple(known.offers))
        if belief is None:
            return told
        return told.model_copy(
            update={
                "heard_s_ago": (now.mono_ms - belief.heard_at.mono_ms) / 1000,
                "zone": self._pipeline.zone_of(belief.shopper),
                "belief": {zone: round(p, 3) for zone, p in sorted(belief.zones.items(), key=lambda item: (-item[1], item[0]))},
                "anchors": tuple(
                    AnchorHeard(anchor=level.anchor, level_dbm=level.level_dbm, source=level.source) for level in belief.anchors
                ),
            }
        )
