"""`gateway scan`: what a Bluetooth adapter hears now, by format; no address, and nothing kept."""

import asyncio
import contextlib
import json
import re
import sys
from pathlib import Path

from gateway.cli.air_table import Heard, row_of, rows, table
from gateway.cli.configured import configured
from gateway.cli.logs import log_to_stderr
from gateway.cli.signals import stop_on_signals
from gateway.core.frames import Decoder
from gateway.errors import ConfigurationError, NoRadio
from gateway.io.clock import SystemClock
from gateway.io.scanner import Scanner
from gateway.io.scanner.bluez import BlueZ

_REDRAW_S = 1.0
_UP_AND_CLEAR = "\x1b[{lines}A\x1b[J"


def run_scan(seconds: int, adapter: str | None, config: Path | None, *, as_json: bool) -> None:
    """Listen for ``seconds``, or until Ctrl-C; ``NoRadio`` when nothing at all could be heard and the radio says why."""
    if adapter is not None and not re.fullmatch(r"hci[0-9]{1,2}|[0-9A-F]{2}(:[0-9A-F]{2}){5}", adapter, re.IGNORECASE):
        raise ConfigurationError(
            "is no adapter.", where=adapter, do="Name one as in hci0, or its address; see bluetoothctl list."
        )
    log_to_stderr("error")
    known = configured(config, None)
    clock = SystemClock()
    _, decoder = known.pipeline(clock.now())
    scan = _Scan(decoder, clock, seconds, live=not as_json and sys.stdout.isatty())
    tuning = known.tuning
    bluez = BlueZ()
    scanner = Scanner(
        bluez,
        lambda: bluez.find(adapter),
        scan.heard,
        lambda: clock.now().mono_ms,
        service_uuid16=tuning.service_uuid16,
        company_id=tuning.company_id,
    )
    asyncio.run(scan.run(scanner, bluez))
    scan.sum_up(as_json=as_json)
    if not scan.has_heard and scanner.trouble is not None:
        raise NoRadio(scanner.trouble.what, where=scanner.trouble.where, do=scanner.trouble.do)


class _Scan:
    """Counts what is heard and shows it while it listens."""

    def __init__(self, decoder: Decoder, clock: SystemClock, seconds: int, *, live: bool) -> None:
        self._decoder = decoder
        self._clock = clock
        self._seconds = seconds
        self._live = live
        self._heard: Heard = {}
        self._began_ms = clock.now().mono_ms
        self._ended_ms = self._began_ms
        self._drawn = 0
        """Lines on the terminal that the next table replaces."""

    @property
    def has_heard(self) -> bool:
        """Whether anything was heard at all."""
        return bool(self._heard)

    def heard(self, _address: str, rssi_dbm: int, data: bytes) -> None:
        """One AD structure, as BlueZ hands them out."""
        key = row_of(self._decoder.decode(data)), rssi_dbm
        self._heard[key] = self._heard.get(key, 0) + 1

    async def run(self, scanner: Scanner, bluez: BlueZ) -> None:
        """Listen until the time is over or somebody says stop."""
        stop = stop_on_signals()
        watching = asyncio.create_task(bluez.run())
        listening = asyncio.create_task(scanner.run())
        try:
            while not stop.is_set() and self._left_s() > 0 and not listening.done():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), min(_REDRAW_S, self._left_s()))
                if self._live:
                    self._draw()
        finally:
            self._ended_ms = self._clock.now().mono_ms
            trouble = scanner.trouble
            for task in (listening, watching):
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            scanner.trouble = trouble
        if not listening.cancelled() and (mistake := listening.exception()) is not None:
            raise mistake

    def sum_up(self, *, as_json: bool) -> None:
        """The table, or one JSON object."""
        duration_s = (self._ended_ms - self._began_ms) / 1000
        if as_json:
            formats = {row.name: row.as_json() for row in rows(self._heard, duration_s)}
            print(json.dumps({"summary": True, "duration_s": round(duration_s, 3), "formats": formats}))
        elif self._live:
            self._draw()
        else:
            print("\n".join(table(self._heard, duration_s)))

    def _draw(self) -> None:
        now_ms = self._clock.now().mono_ms if self._ended_ms == self._began_ms else self._ended_ms
        lines = table(self._heard, (now_ms - self._began_ms) / 1000)
        if self._drawn:
            sys.stdout.write(_UP_AND_CLEAR.format(lines=self._drawn))
        print("\n".join(lines), flush=True)
        self._drawn = len(lines)

    def _left_s(self) -> float:
        return self._seconds - (self._clock.now().mono_ms - self._began_ms) / 1000
