"""`gateway replay`: a capture drives the pipeline that the radio drives, with the time that is in the file."""

import gc
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from gateway.cli.air_table import OTHER, Heard, claim_of, row_of, rows, table
from gateway.cli.configured import Configured, configured
from gateway.cli.progress import Progress
from gateway.cli.zone_events import lines
from gateway.core.captures import Advertisement, CaptureReader, Counts, Ticked
from gateway.core.frames import Decoder
from gateway.core.model import ClockQuality, Counters, Frame, Instant, Reject, Shop
from gateway.core.pipeline import TICK_MS, Pipeline
from gateway.core.sanitiser import printable
from gateway.errors import ConfigurationError
from gateway.io.captures import STDIN, open_capture, pieces

_INTERRUPTED, _TERMINATED = 130, 143
_MIB = 1024 * 1024
_NS_PER_MS = 1_000_000
_NS = 1_000_000_000
_DAY_MS = 24 * 3600 * 1000
_MINUTE_MS = 60_000
_WEAKEST_DBM, _STRONGEST_DBM = -127, 20
"""As the radio's own: what lies beyond is no RSSI."""
_REMEMBERED = 4096
_UNKNOWN_RECEIVER = "replay"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    file: Path
    advertisements: bool
    as_json: bool
    show_addresses: bool
    config: Path | None
    shop: Path | None
    receiver: str | None
    most_mib: int


def run_replay(options: Options) -> None:
    """Read the file to its end, or as far as it goes, and say what was in it."""
    known = configured(options.config, options.shop)
    replay = _Replay(options, known, _receiver(options.receiver, known.shop))
    reader = CaptureReader()
    # Advertisements die young and refer to nothing: the collector would only look at them in vain.
    gc.set_threshold(100_000, 50, 1000)
    signal.signal(signal.SIGTERM, _stop)
    status = 0
    try:
        _read(options, reader, replay)
    except ConfigurationError as error:
        raise ConfigurationError(error.what, where=error.where or _name(options.file), do=error.do) from error
    except (KeyboardInterrupt, _Terminated) as stop:
        status = _INTERRUPTED if isinstance(stop, KeyboardInterrupt) else _TERMINATED
        reader.counts.damage = "it was stopped"
    replay.sum_up(reader.counts)
    sys.exit(status)


def _read(options: Options, reader: CaptureReader, replay: "_Replay") -> None:
    octets = 0
    of = f" of {options.file.stat().st_size / _MIB:.0f}" if options.file.is_file() else ""
    counts = reader.counts
    progress = Progress(lambda done: f"{done / _MIB:.0f}{of} MiB, {counts.advertisements} advertisements")
    with open_capture(options.file) as file, progress:
        for piece in pieces(file, options.file, options.most_mib * _MIB):
            octets += len(piece)
            replay.take(reader.feed(piece))
            progress.at(octets)
            if reader.counts.damage is not None:
                return
    if octets >= options.most_mib * _MIB:
        reader.counts.damage = f"only its first {options.most_mib} MiB were read"
    else:
        reader.finish()


class _Terminated(Exception):
    """SIGTERM."""


def _stop(_number: int, _frame: object) -> NoReturn:
    raise _Terminated


def _name(file: Path) -> str:
    return "standard input" if file == STDIN else str(file)


def _receiver(wanted: str | None, shop: Shop) -> str:
    """As which receiver the file is heard: the one that was named, else the shop's only one."""
    names = [anchor.name for anchor in shop.anchors.values() if anchor.kind == "receiver"]
    if wanted is None:
        return names[0] if len(names) == 1 else _UNKNOWN_RECEIVER
    if wanted not in names:
        raise ConfigurationError(
            "is no receiver of the shop.",
            where=printable(wanted),
            do=f"Known are: {', '.join(sorted(names))}." if names else "Name the shop with --shop or --config.",
        )
    return wanted


class _Replay:
    """Feeds the pipeline and says what comes of it."""

    def __init__(self, options: Options, known: Configured, receiver: str) -> None:
        self._options = options
        self._known = known
        self._receiver = receiver
        self._parts: tuple[Pipeline, Decoder] | None = None
        """Made when the first moment of the file is known."""
        self._now = Instant(0, 0)
        self._ticked_ms = 0
        self._look_ms = 0
        """When to look next whether a tick is due."""
        self._first_ns: int | None = None
        self._last_ns: int | None = None
        self._heard: Heard = {}
        self._structures: dict[bytes, str] = {}
        """AD structures → how they are printed: most of a capture repeats."""
        self._without_rssi = 0
        self._events: dict[str, int] = {}

    def take(self, items: Sequence[Advertisement | Ticked]) -> None:
        """What a piece of the file held."""
        if not items:
            return
        if self._parts is None:
            self._begin(items[0])
        assert self._parts is not None
        pipeline, decoder = self._parts
        heard, own_receiver, prints = self._heard, self._options.receiver, self._options.advertisements
        receive, decode = pipeline.receive, decoder.decode
        out: list[str] = []
        for item in items:
            if isinstance(item, Ticked):
                self._tick(Instant(item.mono_ms, item.wall_ms))
                continue
            if item.time_ns != self._last_ns:
                self._advance(item)
            rssi, data = item.rssi_dbm, item.data
            if rssi is None or not _WEAKEST_DBM < rssi <= _STRONGEST_DBM:
                self._without_rssi += 1
            else:
                receive(own_receiver or item.receiver or self._receiver, "", rssi, data, self._now)
            frame = decode(data)
            key = OTHER if frame is None else row_of(frame), rssi
            heard[key] = heard.get(key, 0) + 1
            if prints:
                out.append(self._line(item, frame))
        if out:
            sys.stdout.write("".join(out))

    def sum_up(self, counts: Counts) -> None:
        """What there was; beside printed advertisements on standard error."""
        first, last = self._first_ns, self._last_ns
        duration_s = (last - first) / _NS if first is not None and last is not None else 0.0
        if self._options.as_json and not self._options.advertisements:
            print(json.dumps(self._summary(counts, duration_s)))
            return
        out = sys.stderr if self._options.advertisements else sys.stdout
        sys.stdout.flush()
        for line in self._said(counts, duration_s):
            print(line, file=out)

    # ---- time -----------------------------------------------------------------------------------------------------------------

    def _begin(self, first: Advertisement | Ticked) -> None:
        if isinstance(first, Ticked):
            self._now = Instant(first.mono_ms, first.wall_ms)
        else:
            wall_ms = (first.time_ns or 0) // _NS_PER_MS
            self._now = Instant(wall_ms if first.mono_ms is None else first.mono_ms, wall_ms)
        self._parts = self._known.pipeline(self._now)
        self._ticked_ms = self._now.mono_ms

    def _advance(self, item: Advertisement) -> None:
        """Bring the time to ``item``'s; a file without ticks of its own is given those that the daemon would have made."""
        if item.time_ns is None:
            return
        if self._first_ns is None:
            self._first_ns = item.time_ns
        self._last_ns = item.time_ns
        wall_ms = item.time_ns // _NS_PER_MS
        if item.mono_ms is not None:
            self._now = Instant(max(item.mono_ms, self._now.mono_ms), wall_ms)
        elif wall_ms != self._now.wall_ms:
            # Files that were merged, or damaged, jump; no stay is longer than a day.
            passed_ms = min(max(wall_ms - self._now.wall_ms, 0), _DAY_MS)
            self._now = Instant(self._now.mono_ms + passed_ms, wall_ms)
            if self._now.mono_ms >= self._look_ms:
                self._tick_until(self._now)

    def _tick_until(self, now: Instant) -> None:
        assert self._parts is not None
        pipeline, _ = self._parts
        while (due_ms := pipeline.next_deadline_ms()) is not None:
            due_ms = max(due_ms, self._ticked_ms + TICK_MS)
            if due_ms > now.mono_ms:
                break
            self._tick(now.plus(due_ms - now.mono_ms))
        if now.mono_ms - self._ticked_ms >= _MINUTE_MS:
            self._tick(now)
        pipeline.identity.prepare(now.wall_ms)
        self._now = now
        self._look_ms = now.mono_ms + TICK_MS

    def _tick(self, at: Instant) -> None:
        assert self._parts is not None
        pipeline, _ = self._parts
        self._now = at
        self._ticked_ms = at.mono_ms
        step = pipeline.tick(at, ClockQuality.SYNCHRONISED)
        for outcome in step.outcomes:
            said = lines(outcome, self._known.shop, self._known.time_zone, as_json=self._options.as_json)
            kind = type(outcome.event).__name__
            self._events[kind] = self._events.get(kind, 0) + 1
            if not self._options.advertisements:
                for line in said:
                    print(line)
        while pipeline.identity.prepare(at.wall_ms):
            pass

    # ---- what is said ---------------------------------------------------------------------------------------------------------

    def _line(self, item: Advertisement, frame: Frame | Reject | None) -> str:
        """One advertisement, put together by hand: ``json.dumps`` takes three times as long."""
        structures = self._structures.get(item.data)
        if structures is None:
            if len(self._structures) >= _REMEMBERED:
                self._structures.clear()
            structures = self._structures[item.data] = _structures(item.data)
        name, reject = (None, None) if frame is None else claim_of(frame)
        time = None if item.time_ns is None else f"{item.time_ns // _NS}.{item.time_ns % _NS:09d}"
        if self._options.as_json:
            address = f',"address":{_text(item.address_text)}' if self._options.show_addresses else ""
            return (
                f'{{"number":{item.number},"time":{time or "null"},"rssi":{"null" if item.rssi_dbm is None else item.rssi_dbm},'
                f'"ad":[{structures}],"frame":{_text(name)},"reject":{_text(reject)}{address}}}\n'
            )
        address = f"  {item.address_text or '–':<17}" if self._options.show_addresses else ""
        level = "–" if item.rssi_dbm is None else f"{item.rssi_dbm}"
        return f"{item.number:>8}  {time or '–':<20} {level:>5}{address}  {name or reject or '–':<18} {structures}\n"

    def _said(self, counts: Counts, duration_s: float) -> list[str]:
        said = [""] if self._events and not self._options.advertisements else []
        said += table(self._heard, duration_s)
        said.append("")
        said.append(
            f"{counts.advertisements} advertisements in {counts.frames} frames of {printable(_name(self._options.file))}, "
            f"{duration_s:.1f} s."
        )
        if counts.skipped:
            reasons = [f"{reason.value} {number}" for reason, number in sorted(counts.skipped.items(), key=lambda kv: -kv[1])]
            said.append(f"Frames without an advertisement: {', '.join(reasons)}.")
        if counts.other_link_types:
            said.append(f"Not read here: link type {', '.join(map(str, sorted(counts.other_link_types)))}.")
        if self._without_rssi:
            said.append(f"{self._without_rssi} advertisements without RSSI were shown to nobody: nothing can be located by them.")
        if self._parts is not None:
            known = self._parts[0].counters
            said.append(f"Known here: {known.beacons} of registered beacons, {known.sightings} of shoppers.")
        if counts.damage is not None:
            said.append(f"This is a partial result: {counts.damage}.")
        return said

    def _summary(self, counts: Counts, duration_s: float) -> dict[str, Any]:
        known = Counters() if self._parts is None else self._parts[0].counters
        return {
            "summary": True,
            "frames": counts.frames,
            "advertisements": counts.advertisements,
            "duration_s": round(duration_s, 3),
            "formats": {row.name: row.as_json() for row in rows(self._heard, duration_s)},
            "skipped": {reason.name.lower(): number for reason, number in counts.skipped.items()},
            "other_link_types": sorted(counts.other_link_types),
            "without_rssi": self._without_rssi,
            "beacons": known.beacons,
            "sightings": known.sightings,
            "zones_entered": self._events.get("Entered", 0),
            "zones_left": self._events.get("Exited", 0),
            "partial": counts.damage,
        }


def _structures(data: bytes) -> str:
    """The whole structures of ``data``: the walk of ``ad_structures.iterate`` without an object for each."""
    digits, found, start, end = data.hex(), [], 0, len(data)
    while start < end and (length := data[start]):
        stop = start + 1 + length
        if stop > end:
            break
        found.append(f'[{data[start + 1]},"{digits[2 * start + 4 : 2 * stop]}"]')
        start = stop
    return ",".join(found)


def _text(value: str | None) -> str:
    return "null" if value is None else f'"{value}"'
