"""What the radio helper and the daemon say to each other: one message in each packet of a unix SOCK_SEQPACKET socket.

    helper → daemon   01 | version ×1 | lost ×8 | dropped ×8 | per adapter: index ×2 | address ×6 | flags ×1      state
                      02 | read at ×8 | one kernel report after the other                                         reports
                      03 | request ×4 | done ×1 | what was done, or why it was not: UTF-8                         reset's end
    daemon → helper   10 | request ×4 | address ×6                                                                reset

Little-endian; addresses as the kernel writes them, last octet first; ``read at`` on the machine's monotonic clock, in ms.
``lost``: reports that the kernel could not keep for the helper since it started; ``dropped``: those that this daemon was too slow
for. ``flags``: 1 powered, 2 discovering, 4 on USB. A new version of this picture gets a new number in ``version``.

The helper hands on reports as the kernel wrote them, so that the side with the privilege does the least. Both kinds carry the
kernel's own header:

    12 00 | index ×2 | length ×2 | address ×6 | type ×1 | RSSI ×1 (int8, 127 = none) | flags ×4 | length ×2 | AD structures
    2f 00 | index ×2 | length ×2 | monitor ×2 | address ×6 | …                        (the rest as above)

Source: BlueZ, doc/mgmt-api.txt (Device Found, Advertisement Monitor Device Found). Decoders never raise, for any bytes.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

VERSION = 1
MAX_PACKET_BYTES = 65_536
"""Larger than any message: what a reader has to make room for."""
MAX_ADAPTERS = 64
MAX_REASON_BYTES = 400

STATE, REPORTS, RESET_DONE, RESET = 0x01, 0x02, 0x03, 0x10
_DEVICE_FOUND, _MONITOR_DEVICE_FOUND = 0x0012, 0x002F
REPORT_CODES = frozenset((_DEVICE_FOUND, _MONITOR_DEVICE_FOUND))
EVENT_HEADER = struct.Struct("<HHH")
"""Of every kernel event: code, index, length of what follows."""
REPORTS_HEADER = struct.Struct("<BQ")

Heard = Callable[[str, int, bytes], None]
"""Receives (advertiser's address, RSSI in dBm, all AD structures of one report)."""

_STATE = struct.Struct("<BBQQ")
_ADAPTER = struct.Struct("<H6sB")
_RESET = struct.Struct("<BI6s")
_RESET_DONE = struct.Struct("<BIB")
_FOUND = struct.Struct("<HHH6sBbIH")
_MONITOR_FOUND = struct.Struct("<HHHH6sBbIH")
_BREDR = 0
_WEAKEST_DBM, _STRONGEST_DBM = -127, 20
"""What a controller may report (Core 5.4, vol 4, part E, 7.7.65.2)."""
_POWERED, _DISCOVERING, _USB = 1, 2, 4


@dataclass(frozen=True, slots=True)
class AdapterState:
    """One adapter as the kernel knows it."""

    index: int
    address: str
    """Such as F0:F1:F2:F3:F4:F5."""
    powered: bool
    discovering: bool
    """Whether an active discovery runs that began under the helper's eyes; a passive scan is none."""
    is_usb: bool
    """A reset takes it off its bus and back; another one can only be switched off and on."""

    @property
    def name(self) -> str:
        """Such as hci0; the number changes when it is plugged in again."""
        return f"hci{self.index}"


@dataclass(frozen=True, slots=True)
class RadioState:
    """What the helper knows."""

    lost: int
    dropped: int
    adapters: tuple[AdapterState, ...]


class Tally(NamedTuple):
    """What became of one packet's reports."""

    heard: int
    no_rssi: int
    empty: int
    broken: int
    """Reports that contradict themselves; those around them were heard, unless not even their own length is right."""


def encode_state(state: RadioState) -> bytes:
    """A state packet; at most ``MAX_ADAPTERS`` adapters are in it."""
    adapters = b"".join(
        _ADAPTER.pack(
            adapter.index,
            address_octets(adapter.address),
            _POWERED * adapter.powered | _DISCOVERING * adapter.discovering | _USB * adapter.is_usb,
        )
        for adapter in state.adapters[:MAX_ADAPTERS]
    )
    return _STATE.pack(STATE, VERSION, state.lost, state.dropped) + adapters


def decode_state(packet: bytes) -> RadioState | None:
    """``None`` for anything but a state packet of this version.

    >>> state = RadioState(1, 2, (AdapterState(0, "F0:F1:F2:F3:F4:F5", True, False, True),))
    >>> decode_state(encode_state(state)) == state
    True
    """
    body = len(packet) - _STATE.size
    if body < 0 or body % _ADAPTER.size or body > MAX_ADAPTERS * _ADAPTER.size:
        return None
    kind, version, lost, dropped = _STATE.unpack_from(packet)
    if kind != STATE or version != VERSION:
        return None
    adapters = tuple(
        AdapterState(index, address_text(address), bool(flags & _POWERED), bool(flags & _DISCOVERING), bool(flags & _USB))
        for index, address, flags in _ADAPTER.iter_unpack(packet[_STATE.size :])
    )
    return RadioState(lost, dropped, adapters)


def encode_reset(request: int, address: str) -> bytes:
    """``request`` (32 bit) comes back in the answer."""
    return _RESET.pack(RESET, request, address_octets(address))


def decode_reset(packet: bytes) -> tuple[int, str] | None:
    """(request, adapter's address); ``None`` for anything but a reset.

    >>> decode_reset(encode_reset(7, "F0:F1:F2:F3:F4:F5"))
    (7, 'F0:F1:F2:F3:F4:F5')
    """
    if len(packet) != _RESET.size or packet[0] != RESET:
        return None
    _, request, address = _RESET.unpack(packet)
    return request, address_text(address)


def encode_reset_done(request: int, done: bool, text: str) -> bytes:
    """What was done, or why it was not."""
    return _RESET_DONE.pack(RESET_DONE, request, done) + text.encode()[:MAX_REASON_BYTES]


def decode_reset_done(packet: bytes) -> tuple[int, bool, str] | None:
    """(request, whether it was done, text as it came: not fit for printing); ``None`` for anything else.

    >>> decode_reset_done(encode_reset_done(7, True, "USB reset"))
    (7, True, 'USB reset')
    """
    if not _RESET_DONE.size <= len(packet) <= _RESET_DONE.size + MAX_REASON_BYTES or packet[0] != RESET_DONE:
        return None
    _, request, done = _RESET_DONE.unpack_from(packet)
    return request, bool(done), packet[_RESET_DONE.size :].decode("utf-8", "replace")


def reports_read_ms(packet: bytes) -> int | None:
    """When the helper read them; ``None`` for anything but reports."""
    if len(packet) < REPORTS_HEADER.size or packet[0] != REPORTS:
        return None
    read_ms: int = REPORTS_HEADER.unpack_from(packet)[1]
    return read_ms


def hand_out(packet: bytes, ears: Mapping[int, Heard]) -> Tally:
    r"""Call the ear of each report's adapter (by index), in the order of the air.

    Without effect: reports of classic devices, of adapters that nobody listens to, without RSSI (−127 and 127) or without data.

    >>> packet = bytes.fromhex("02 0000000000000000  1200 0000 1100 010000000000 02 c4 00000000 0300 020106")
    >>> hand_out(packet, {0: print})
    00:00:00:00:00:01 -60 b'\x02\x01\x06'
    Tally(heard=1, no_rssi=0, empty=0, broken=0)
    """
    heard = no_rssi = empty = broken = 0
    at, end = REPORTS_HEADER.size, len(packet)
    while at < end:
        # This runs for every advertisement.
        layout = _FOUND if packet[at] == _DEVICE_FOUND else _MONITOR_FOUND
        data_at = at + layout.size
        if data_at > end:
            return Tally(heard, no_rssi, empty, broken + 1)
        if layout is _FOUND:
            code, index, length, address, kind, rssi, _, data_length = layout.unpack_from(packet, at)
        else:
            code, index, length, _, address, kind, rssi, _, data_length = layout.unpack_from(packet, at)
        next_at = at + 6 + length
        if next_at > end:
            return Tally(heard, no_rssi, empty, broken + 1)
        if next_at - data_at != data_length or code not in REPORT_CODES:
            broken += 1
        elif kind != _BREDR and (ear := ears.get(index)) is not None:
            if not _WEAKEST_DBM < rssi <= _STRONGEST_DBM:
                no_rssi += 1
            elif not data_length:
                empty += 1
            else:
                heard += 1
                ear(address[::-1].hex(":").upper(), rssi, packet[data_at:next_at])
        at = next_at
    return Tally(heard, no_rssi, empty, broken)


def address_text(octets: bytes) -> str:
    """As BlueZ writes it, from the kernel's order."""
    return octets[::-1].hex(":").upper()


def address_octets(text: str) -> bytes:
    """The kernel's order; ``ValueError`` for what is no address."""
    octets = bytes.fromhex(text.replace(":", ""))[::-1]
    if len(octets) != 6:
        raise ValueError("an address has six octets")
    return octets
