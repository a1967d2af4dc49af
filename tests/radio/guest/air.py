#!/usr/bin/python3
"""One virtual Bluetooth LE controller on /dev/vhci and the advertisers in its air: a process, so that it can be frozen or killed.

    python3 -m tests.radio.guest.air ADDRESS [--strict] [--extended]

The kernel takes it for an adapter, hciN. Ending the process is unplugging, SIGSTOP is firmware that hangs. Standard input takes
one JSON object a line: ``{"name": …, "address": …, "data": hex, "rssi": dBm}`` puts an advertiser into the air or changes it
(also ``"response"``: hex, ``"interval_ms"``, ``"spread_db"``, ``"count"``: how many advertisements are left to send, absent: for
ever), ``{"ask": "counts"}`` asks for a line on standard output, ``{"hang": "scan"}`` lets it hear nothing more and refuse to end
a scan. A line also comes whenever the host switches scanning.

The commands and events are those of the Bluetooth Core Specification 5.4, volume 4, part E, 7; the rest is answered with "unknown
command" as a controller does. Lenient about duplicates it reports everything whatever the host asks for, as most adapters do;
strict it reports a device once until the host switches scanning on anew. One file of the standard library.
"""

import heapq
import json
import os
import random
import select
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

COMMAND, EVENT, VENDOR = 1, 4, 0xFF
COMMAND_COMPLETE, LE_META = 0x0E, 0x3E
ADV_IND, ADV_NONCONN_IND, SCAN_RSP = 0, 3, 4
EXTENDED_TYPE = {ADV_IND: 0x13, ADV_NONCONN_IND: 0x10, SCAN_RSP: 0x1B}
"""Event types of the legacy PDUs in extended reports (7.7.65.13)."""
SUCCESS, UNKNOWN_COMMAND, COMMAND_DISALLOWED = b"\0", b"\1", b"\x0c"
ADVERTISING_DELAY_MS = 10
"""The specification adds 0 … 10 ms at random to each interval (volume 6, part B, 4.4.2.2)."""
_RANDOM_ADDRESS = 1
_LE_ONLY = bytes((0, 0, 0, 0, 0x60, 0, 0, 0))
"""LMP features: LE supported, BR/EDR not (volume 2, part C, 3.3)."""
_EXTENDED_ADVERTISING = bytes((0, 0x10, 0, 0, 0, 0, 0, 0))

# What Linux 6.1 needs of an LE controller: opcode → return parameters.
_ALWAYS: dict[int, bytes] = {
    0x0C01: SUCCESS,  # set event mask
    0x0C03: SUCCESS,  # reset
    0x0C13: SUCCESS,  # write local name
    0x0C63: SUCCESS,  # set event mask page 2
    0x0C6D: SUCCESS,  # write LE host supported
    0x1001: SUCCESS + struct.pack("<BHBHH", 9, 0, 9, 0xFFFF, 0),  # versions: 5.0
    0x1003: SUCCESS + _LE_ONLY,
    0x1005: SUCCESS + struct.pack("<HBHH", 27, 0, 8, 0),  # buffer size
    0x2001: SUCCESS,  # LE set event mask
    0x2002: SUCCESS + struct.pack("<HB", 251, 8),  # LE buffer size
    0x2005: SUCCESS,  # random address
    0x2007: SUCCESS + b"\0",  # advertising power
    0x200F: SUCCESS + b"\x08",  # accept list size
    0x2010: SUCCESS,
    0x2011: SUCCESS,
    0x2012: SUCCESS,
    0x201C: SUCCESS + bytes((0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x03, 0, 0)),  # states
    0x2023: SUCCESS + struct.pack("<HH", 27, 328),
    0x2024: SUCCESS,
    0x2027: SUCCESS,
    0x2028: SUCCESS,
    0x2029: SUCCESS,
    0x202A: SUCCESS + b"\x08",
    0x202D: SUCCESS,
    0x202E: SUCCESS,
    0x202F: SUCCESS + struct.pack("<HHHH", 27, 328, 27, 328),
    0x2031: SUCCESS,
}
_EXTENDED: dict[int, bytes] = {
    0x2035: SUCCESS,
    0x2036: SUCCESS + b"\0",  # advertising parameters
    0x2037: SUCCESS,
    0x2038: SUCCESS,
    0x2039: SUCCESS,
    0x203A: SUCCESS + struct.pack("<H", 31),
    0x203B: SUCCESS + b"\x04",  # advertising sets
    0x203C: SUCCESS,
    0x203D: SUCCESS,
}
_SUPPORTED_OCTETS = {25: 0x40, 26: 0xCF, 35: 0x04}
"""Of the supported commands (6.27): advertising power; scan parameters and enable, accept list; RPA time-out."""
_SUPPORTED_EXTENDED = {36: 0x3E, 37: 0x60}
_SET_SCAN_PARAMETERS, _SET_SCAN_ENABLE = 0x200B, 0x200C
_SET_EXTENDED_SCAN_PARAMETERS, _SET_EXTENDED_SCAN_ENABLE = 0x2041, 0x2042


@dataclass(slots=True)
class Advertiser:
    """Something that advertises; ``rssi`` ± ``spread_db`` is how loud this adapter hears it."""

    address: bytes
    data: bytes
    rssi: int
    response: bytes | None = None
    interval_ms: float = 100.0
    spread_db: int = 4
    left: int | None = None
    sent: int = 0
    missed: int = 0
    """Sent while the host was not scanning, or the scan hung."""
    reported: int = 0
    withheld: int = 0
    """Not reported because of Filter_Duplicates."""
    generation: int = 0


@dataclass(slots=True)
class Scanning:
    """What the host asked for; ``kind`` is ``None`` while it does not scan."""

    kind: str | None = None
    active: bool = False
    interval: int = 0
    window: int = 0
    filters_duplicates: bool = False
    accepts_only_listed: bool = False
    seen: set[bytes] = field(default_factory=set)


class Controller:
    """Answers the host and reports what it hears; ``write`` takes one HCI packet."""

    def __init__(self, write: Callable[[bytes], None], address: str, *, strict: bool, extended: bool) -> None:
        self._write = write
        self._strict = strict
        self._extended = extended
        self.scanning = Scanning()
        self.hangs = False
        """Its scan does, and nothing else."""
        self.unknown: set[int] = set()
        own = bytes.fromhex(address.replace(":", ""))[::-1]
        commands = bytearray(64)
        for octet, bits in (_SUPPORTED_OCTETS | (_SUPPORTED_EXTENDED if extended else {})).items():
            commands[octet] = bits
        self._answers = _ALWAYS | (_EXTENDED if extended else {})
        self._answers[0x1002] = SUCCESS + bytes(commands)
        self._answers[0x1009] = SUCCESS + own
        self._answers[0x2003] = SUCCESS + (_EXTENDED_ADVERTISING if extended else bytes(8))

    def obey(self, packet: bytes) -> bool:
        """One packet from the host; whether it switched scanning."""
        if packet[0] != COMMAND:
            return False
        (opcode,) = struct.unpack_from("<H", packet, 1)
        parameters = packet[4:]
        switched = False
        if opcode == 0x2018:
            answer = SUCCESS + os.urandom(8)
        elif opcode == 0x0C03:
            self.scanning = Scanning()
            answer = SUCCESS
        elif opcode == _SET_SCAN_PARAMETERS or (opcode == _SET_EXTENDED_SCAN_PARAMETERS and self._extended):
            answer = self._set_parameters(opcode, parameters)
        elif opcode == _SET_SCAN_ENABLE or (opcode == _SET_EXTENDED_SCAN_ENABLE and self._extended):
            if self.hangs and not parameters[0]:
                answer = COMMAND_DISALLOWED
            else:
                self._switch("legacy" if opcode == _SET_SCAN_ENABLE else "extended", parameters)
                switched, answer = True, SUCCESS
        else:
            answer = self._answers.get(opcode, UNKNOWN_COMMAND)
            if answer == UNKNOWN_COMMAND:
                self.unknown.add(opcode)
        self._write(bytes((EVENT, COMMAND_COMPLETE, 3 + len(answer), 1)) + packet[1:3] + answer)
        return switched

    def _set_parameters(self, opcode: int, parameters: bytes) -> bytes:
        scanning = self.scanning
        if opcode == _SET_SCAN_PARAMETERS:
            kind, scanning.interval, scanning.window, _own, policy = struct.unpack_from("<BHHBB", parameters)
        else:
            _own, policy, _phys, kind, scanning.interval, scanning.window = struct.unpack_from("<BBBBHH", parameters)
        scanning.active, scanning.accepts_only_listed = kind == 1, bool(policy & 1)
        return SUCCESS

    def _switch(self, kind: str, parameters: bytes) -> None:
        self.scanning.kind = kind if parameters[0] else None
        self.scanning.filters_duplicates = bool(parameters[1])
        self.scanning.seen.clear()

    def hear(self, advertiser: Advertiser) -> None:
        """One advertisement of it."""
        advertiser.sent += 1
        if advertiser.left is not None:
            advertiser.left -= 1
        scanning = self.scanning
        if scanning.kind is None or scanning.accepts_only_listed or self.hangs:
            advertiser.missed += 1
            return
        if self._strict and scanning.filters_duplicates:
            if advertiser.address in scanning.seen:
                advertiser.withheld += 1
                return
            scanning.seen.add(advertiser.address)
        rssi = max(-110, min(10, advertiser.rssi + random.randint(-advertiser.spread_db, advertiser.spread_db)))
        self._report(ADV_NONCONN_IND if advertiser.response is None else ADV_IND, advertiser.address, advertiser.data, rssi)
        if scanning.active and advertiser.response is not None:
            self._report(SCAN_RSP, advertiser.address, advertiser.response, rssi)
        advertiser.reported += 1

    def _report(self, kind: int, address: bytes, data: bytes, rssi: int) -> None:
        if self.scanning.kind == "legacy":
            body = struct.pack("<BBBB6sB", 0x02, 1, kind, _RANDOM_ADDRESS, address, len(data)) + data + struct.pack("b", rssi)
        else:
            head = struct.pack("<BBHB6s", 0x0D, 1, EXTENDED_TYPE[kind], _RANDOM_ADDRESS, address)
            # Primary PHY 1M, no secondary one, no set, no power, no periodic advertising, no direct address.
            body = head + struct.pack("<BBBbbHB6sB", 1, 0, 0xFF, 127, rssi, 0, 0, bytes(6), len(data)) + data
        self._write(bytes((EVENT, LE_META, len(body))) + body)


class Air:
    """The advertisers and when each is due."""

    def __init__(self, controller: Controller) -> None:
        self.advertisers: dict[str, Advertiser] = {}
        self._controller = controller
        self._due: list[tuple[float, str, int]] = []

    def change(self, wanted: dict[str, Any], now_s: float) -> None:
        """Put an advertiser in, or change it."""
        name = wanted["name"]
        known = self.advertisers.get(name)
        address = bytes.fromhex(wanted["address"].replace(":", ""))[::-1] if "address" in wanted else b""
        if known is None:
            known = self.advertisers[name] = Advertiser(address, b"", -60)
        if "data" in wanted:
            known.data = bytes.fromhex(wanted["data"])
        if "response" in wanted:
            known.response = bytes.fromhex(wanted["response"])
        known.address = address or known.address
        known.rssi = wanted.get("rssi", known.rssi)
        known.spread_db = wanted.get("spread_db", known.spread_db)
        known.interval_ms = wanted.get("interval_ms", known.interval_ms)
        if "count" in wanted or not known.generation:
            known.left = wanted.get("count")
            known.generation += 1
            heapq.heappush(self._due, (now_s + random.random() * known.interval_ms / 1000, name, known.generation))

    def pass_time(self, now_s: float) -> float:
        """Send what is due; seconds until something is."""
        while self._due and self._due[0][0] <= now_s:
            due_s, name, generation = heapq.heappop(self._due)
            advertiser = self.advertisers[name]
            if generation != advertiser.generation or advertiser.left == 0:
                continue
            self._controller.hear(advertiser)
            # From when it was due, so that the rate holds on a slow machine; but a standstill is not made up for.
            interval_s = (advertiser.interval_ms + random.random() * ADVERTISING_DELAY_MS) / 1000
            heapq.heappush(self._due, (max(due_s + interval_s, now_s - interval_s), name, generation))
        return max(0.0, min(1.0, self._due[0][0] - now_s)) if self._due else 1.0


def say(**fields: object) -> None:
    """One line on standard output."""
    print(json.dumps({"at_s": round(time.monotonic(), 3), **fields}), flush=True)  # noqa: T201 (what it says is its output)


def main(words: list[str]) -> None:
    """Serve until standard input ends or the host does not want this controller any more."""
    host = os.open("/dev/vhci", os.O_RDWR)
    os.write(host, bytes((VENDOR, 0)))
    created = os.read(host, 260)
    number = struct.unpack_from("<H", created, 2)[0]

    def write(packet: bytes) -> None:
        try:
            os.write(host, packet)
        except OSError:
            refused[0] += 1  # the host has taken the interface down

    refused = [0]
    controller = Controller(write, words[0], strict="--strict" in words, extended="--extended" in words)
    air = Air(controller)
    say(adapter=f"hci{number}")
    unread = b""
    while True:
        wait_s = air.pass_time(time.monotonic())
        ready, _, _ = select.select([host, 0], [], [], wait_s)
        if host in ready and controller.obey(os.read(host, 1024)):
            scanning = controller.scanning
            say(
                scanning=scanning.kind,
                active=scanning.active,
                filters_duplicates=scanning.filters_duplicates,
                interval=scanning.interval,
                window=scanning.window,
            )
        if 0 in ready:
            chunk = os.read(0, 65536)
            if not chunk:
                return
            *lines, unread = (unread + chunk).split(b"\n")
            for line in lines:
                wanted = json.loads(line)
                if "ask" in wanted:
                    names = ("sent", "missed", "reported", "withheld", "left")
                    ones = air.advertisers.items()
                    counts = {form: {each: getattr(one, each) for each in names} for form, one in ones}
                    say(counts=counts, refused=refused[0], unknown=sorted(f"{code:04x}" for code in controller.unknown))
                elif "hang" in wanted:
                    controller.hangs = True
                else:
                    air.change(wanted, time.monotonic())


if __name__ == "__main__":
    main(sys.argv[1:])
