"""The Bluetooth adapters of this machine as receivers of the shop: each with its scanner, all with one bluetoothd and one helper.

A receiver belongs to an adapter, and an adapter is its address: the number behind "hci" is another after every plugging in. Where
the settings name a number, the address that it had when it was first seen is kept in ``radio.json``, with what the ladder of
`gateway.core.recovery` has learnt of each receiver.
"""

import asyncio
import json
import logging
import os
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from pydantic import Field, ValidationError

from gateway.contract.fields import Name, Strict, explain
from gateway.contract.settings import AdapterName, Receiver, Settings
from gateway.core.model import Instant, ReceiverChange, RecoveryStep
from gateway.core.pipeline import Pipeline
from gateway.core.recovery import Ladder, RecoveryMemory
from gateway.core.sanitiser import printable
from gateway.daemon.ears import EarCondition, Heard, LastRecovery, RadioCondition
from gateway.errors import DiskError, TryAgain
from gateway.io.radio_link import RadioLink
from gateway.io.scanner import Patience, Scanner, ScannerState, Turn
from gateway.io.scanner.bluez import Adapter, BlueZ
from gateway.io.whole_file import write_whole

log = logging.getLogger(__name__)

_FILE = "radio.json"
_MAX_FILE = 64 * 1024
_BEACON_HZ = 0.5
_MAX_TROUBLE = 400


class _Seen(Strict):
    """The address that an adapter's number had when it was first seen."""

    number: AdapterName
    address: AdapterName


class _Learnt(Strict):
    """What the ladder remembers of one receiver."""

    helped: RecoveryStep | None = None
    ended_by: RecoveryStep | None = None


class _Kept(Strict):
    """radio.json."""

    receivers: dict[Name, _Seen] = Field(default_factory=dict)
    recoveries: dict[Name, _Learnt] = Field(default_factory=dict)


class AdapterEars:
    """All adapters of this machine that are receivers."""

    def __init__(  # noqa: PLR0913 -- each has its name at the call
        self,
        settings: Settings,
        heard: Heard,
        now_ms: Callable[[], int],
        now: Callable[[], Instant],
        *,
        changed: Callable[[ReceiverChange], None] = lambda _: None,
        beacon_rate_hz: Callable[[str], float] = lambda _: 0.0,
        others_hear: Callable[[], bool] = lambda: False,
        patience: Patience | None = None,
    ) -> None:
        """``now_ms`` is the machine's monotonic clock, ``now`` the daemon's, by which changes are dated.

        ``heard`` is called once per advertisement, ``changed`` whenever a receiver turns deaf or hears again or a step was taken.
        ``beacon_rate_hz``: how often a receiver usually hears its best fixed beacon. ``others_hear``: whether other receivers of
        the shop hear, which must not be disturbed by the end of the process.
        """
        self._settings = settings
        self._now_ms = now_ms
        self._now = now
        self._changed = changed
        self._beacon_rate_hz = beacon_rate_hz
        self._others_hear = others_hear
        self._file = _File(settings.state_dir / _FILE)
        self._bluez = BlueZ()
        self._link = RadioLink(settings.radio.helper_socket, self._now_ms)
        self._claimed = {r.adapter for r in settings.receivers if r.adapter is not None and ":" in r.adapter}
        started_ms = self._now_ms()
        self._scanners = {
            receiver.name: Scanner(
                self._bluez,
                partial(self._find, receiver),
                partial(heard, receiver.name),
                self._now_ms,
                mode=receiver.scan,
                service_uuid16=settings.chain.service_uuid16,
                company_id=settings.chain.company_id,
                patience=patience or Patience(silence_s=settings.radio.silence_s),
                kernel=self._link,
                ladder=Ladder(self._file.memory_of(receiver.name), started_ms),
                silence_s=partial(self._silence_s, receiver.name),
                last_resorts=partial(self._last_resorts, receiver.name),
                turned=partial(self._turned, receiver.name),
                remember=partial(self._remember, receiver.name),
            )
            for receiver in settings.receivers
        }

    async def run(self) -> None:
        """Listen for ever; ``RadioGivenUp`` where nothing else is left."""
        self._link.watch(self._helper_changed)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._bluez.run(), name="bluetoothd")
            group.create_task(self._link.run(), name="radio helper")
            for name, scanner in self._scanners.items():
                group.create_task(scanner.run(), name=f"scanner {name}")

    def conditions(self) -> list[EarCondition]:
        """How each of them is doing."""
        return [self._condition(receiver, self._scanners[receiver.name]) for receiver in self._settings.receivers]

    def _condition(self, receiver: Receiver, scanner: Scanner) -> EarCondition:
        now_ms, recovery, adapter = self._now_ms(), scanner.recovery, scanner.adapter
        helper = None if scanner.source == "kernel" or self._link.trouble is None else printable(self._link.trouble, _MAX_TROUBLE)
        radio = RadioCondition(
            address=None if adapter is None else adapter.address,
            source="kernel" if scanner.source == "kernel" else "bluetoothd",
            helper_trouble=helper,
            cause=scanner.cause,
            since_s=(now_ms - scanner.since_ms) / 1000,
            last_recovery=None
            if recovery is None
            else LastRecovery(recovery.step, (now_ms - recovery.at_ms) / 1000, recovery.helped),
        )
        return EarCondition(
            receiver.name,
            receiver.adapter if adapter is None else adapter.name,
            scanner.state.value,
            scanner.scanning_mode,
            None if scanner.trouble is None else printable(scanner.trouble, _MAX_TROUBLE),
            radio=radio,
        )

    # ---- which adapter --------------------------------------------------------------------------------------------------------

    def _find(self, receiver: Receiver) -> Adapter:
        """The adapter of a receiver; ``TryAgain`` when it is not there."""
        wanted = receiver.adapter
        if wanted is None:
            return self._any(receiver)
        if ":" in wanted:
            return self._at(
                wanted, f"{receiver.name}: the adapter {wanted} is not there.", "Plug it in, or see bluetoothctl list."
            )
        known = self._file.seen(receiver.name, wanted)
        if known is not None:
            do = f'Plug it in again; if another one takes its place, set adapter = "<its address>" for {receiver.name}.'
            return self._at(known, f"{receiver.name}: the adapter {known}, which was {wanted} when first seen, is not there.", do)
        adapter = self._bluez.adapters.get(wanted)
        names = ", ".join(sorted(self._bluez.adapters)) or "none"
        if adapter is None:
            raise TryAgain(
                f"{wanted} is not there (there is: {names}).", where=receiver.name, do="Plug it in, or see bluetoothctl list."
            )
        if adapter.address in self._others(receiver.name):
            raise TryAgain(
                f"{wanted} is the adapter of another receiver.", where=receiver.name, do="Name each adapter by its address."
            )
        if adapter.address:
            self._file.see(receiver.name, wanted, adapter.address)
            log.info("receiver %s is the adapter %s, now and under any other number", receiver.name, adapter.address)
        return adapter

    def _at(self, address: str, missing: str, do: str) -> Adapter:
        found = next((adapter for adapter in self._bluez.adapters.values() if adapter.address == address), None)
        if found is None:
            raise TryAgain(missing, do=do)
        return found

    def _any(self, receiver: Receiver) -> Adapter:
        others, current = self._others(receiver.name), self._scanners[receiver.name].adapter
        free = [adapter for _, adapter in sorted(self._bluez.adapters.items()) if adapter.address not in others]
        if not free:
            raise TryAgain("there is no adapter.", where=receiver.name, do="Plug one in, or see bluetoothctl list.")
        was = None if current is None else current.address
        return min(free, key=lambda adapter: (not adapter.powered, adapter.address != was, len(adapter.name), adapter.name))

    def _others(self, name: str) -> set[str | None]:
        """The addresses that belong to other receivers."""
        mine = next(receiver.adapter for receiver in self._settings.receivers if receiver.name == name)
        in_use = {s.adapter.address for other, s in self._scanners.items() if other != name and s.adapter is not None}
        seen = {self._file.seen(r.name, r.adapter) for r in self._settings.receivers if r.name != name and r.adapter is not None}
        return ((self._claimed - {mine}) | seen | in_use) - {None}

    # ---- supervision ----------------------------------------------------------------------------------------------------------

    def _helper_changed(self) -> None:
        for scanner in self._scanners.values():
            scanner.helper_changed()

    def _silence_s(self, name: str) -> float | None:
        return self._settings.radio.beacon_silence_s if self._beacon_rate_hz(name) >= _BEACON_HZ else None

    def _last_resorts(self, name: str) -> Collection[RecoveryStep]:
        """Ending the process disturbs everybody: only when nobody hears, and this one certainly should."""
        if self._others_hear() or any(scanner.state is ScannerState.HEARING for scanner in self._scanners.values()):
            return ()
        if self._scanners[name].cause == "silence" and self._silence_s(name) is None:
            return ()
        resorts: set[RecoveryStep] = {"restart-process"}
        return resorts | {"reboot"} if self._settings.radio.reboot_when_deaf else resorts

    def _turned(self, name: str, turn: Turn) -> None:
        self._changed(ReceiverChange(name, turn.state, turn.cause, self._now(), turn.step, turn.helped))

    def _remember(self, name: str, memory: RecoveryMemory) -> None:
        self._file.learn(name, memory)


def seen_adapters(settings: Settings) -> dict[str, str]:
    """The address behind each receiver's adapter number, as far as it has been seen and this user may know it."""
    path = settings.state_dir / _FILE
    if not os.access(path, os.R_OK):
        return {}
    file = _File(path)
    found = {receiver.name: file.seen(receiver.name, receiver.adapter) for receiver in settings.receivers if receiver.adapter}
    return {name: address for name, address in found.items() if address is not None}


def beacon_rate_hz(pipeline: Pipeline, receiver: str) -> float:
    """How often ``receiver`` usually hears the fixed beacon that it hears most often; 0 where it hears none."""
    rates = [
        link.usual_rate_hz
        for beacon in pipeline.canaries.health().beacons
        if beacon.state != "silent"
        for link in beacon.links
        if link.receiver == receiver and link.usual_rate_hz is not None
    ]
    return max(rates, default=0.0)


class _File:
    """What has to survive the process: a small file, and no harm done if it is lost."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept = self._read()

    def _read(self) -> _Kept:
        try:
            with self._path.open("rb") as file:
                return _Kept.model_validate_json(file.read(_MAX_FILE))
        except FileNotFoundError:
            return _Kept()
        except OSError as error:
            log.warning("%s cannot be read (%s): the adapters are learnt anew", self._path, error.strerror)
        except ValidationError as error:
            log.warning("%s cannot be read (%s): the adapters are learnt anew", self._path, printable(explain(error)))
        return _Kept()

    def memory_of(self, name: str) -> RecoveryMemory:
        learnt = self._kept.recoveries.get(name, _Learnt())
        return RecoveryMemory(learnt.helped, learnt.ended_by)

    def seen(self, name: str, number: str) -> str | None:
        seen = self._kept.receivers.get(name)
        return seen.address if seen is not None and seen.number == number else None

    def see(self, name: str, number: str, address: str) -> None:
        receivers = {**self._kept.receivers, name: _Seen(number=number, address=address)}
        self._keep(self._kept.model_copy(update={"receivers": receivers}))

    def learn(self, name: str, memory: RecoveryMemory) -> None:
        learnt = _Learnt(helped=memory.helped, ended_by=memory.ended_by)
        self._keep(self._kept.model_copy(update={"recoveries": {**self._kept.recoveries, name: learnt}}))

    def _keep(self, kept: _Kept) -> None:
        self._kept = kept
        try:
            write_whole(self._path, json.dumps(kept.model_dump(mode="json")), mode=0o600, folder_mode=0o700)
        except DiskError as error:
            log.warning("%s", error)
