"""Captures: the bytes of a file that somebody recorded → `Advertisement`, whatever wrote it.

::

    bytes ─ container (btsnoop, pcap, pcapng) ─▶ Frame ─ link layer (hci, ble_link_layer) ─▶ Report ─▶ Advertisement
          └ json_lines, our own recordings ──────────────────────────────────────────────────────────▶ Advertisement | Ticked

A container and a link layer is one file each; they do not know each other. Bytes are fed in pieces of any size, and at most one
frame is kept between two of them, whatever a length field says. What is wrong with a frame is counted, what is wrong with the
file ends the reading and is told in ``counts.damage``. For any bytes only one thing is raised: ``ConfigurationError``, for a file
that is no capture.
"""

from collections.abc import Callable, Iterable, Sequence

from gateway.core.captures import btsnoop, json_lines, pcap, pcapng
from gateway.core.captures.ble_link_layer import LinkLayer
from gateway.core.captures.btsnoop import Btsnoop
from gateway.core.captures.hci import Hci
from gateway.core.captures.json_lines import JsonLines
from gateway.core.captures.pcap import Pcap
from gateway.core.captures.pcapng import Pcapng
from gateway.core.captures.records import (
    HCI_H4,
    HCI_H4_WITH_DIRECTION,
    LINK_LAYER,
    LINK_LAYER_WITH_RADIO,
    NORDIC_SNIFFER,
    Advertisement,
    Counts,
    Report,
    Skipped,
    Ticked,
)
from gateway.errors import ConfigurationError

__all__ = ["Advertisement", "CaptureReader", "Counts", "Skipped", "Ticked", "count"]

_MAGIC_SIZE = 12
_CONTAINERS: dict[bytes, Callable[[], Btsnoop | Pcap | Pcapng | JsonLines]] = {
    btsnoop.MAGIC: Btsnoop,
    **dict.fromkeys(pcap.MAGICS, Pcap),
    pcapng.MAGIC: Pcapng,
    json_lines.MAGIC: JsonLines,
}
_MOST_LINK_TYPES = 16
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
    b"\x04\x22\x4d\x18": "lz4",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip",
}
_READ_HERE = "btsnoop, pcap and pcapng files and our own recordings can be read."


class CaptureReader:
    """Reads one file in pieces; ``counts`` tells at any time what it has held so far.

    >>> reader = CaptureReader()
    >>> head = bytes.fromhex("a1b2c3d4 0002 0004 00000000 00000000 0000ffff 000000bb")
    >>> [heard] = reader.feed(head + bytes.fromhex("00000001 00000000 00000012 00000012 043e0f02010301060504030201030201 06c5"))
    >>> heard.number, heard.time_ns, heard.rssi_dbm, heard.data.hex(), heard.kind
    (1, 1000000000, -59, '020106', 'ADV_NONCONN_IND')
    >>> reader.finish()
    >>> reader.counts.damage is None
    True
    """

    __slots__ = ("_container", "_head", "_layers", "counts")

    def __init__(self) -> None:
        self.counts = Counts()
        self._head = b""
        self._container: Btsnoop | Pcap | Pcapng | JsonLines | None = None
        hci, link_layer = Hci(), LinkLayer()
        self._layers: dict[int, Callable[[bytes], Sequence[Report] | Skipped]] = {
            HCI_H4: hci.h4,
            HCI_H4_WITH_DIRECTION: hci.h4_with_direction,
            LINK_LAYER: link_layer.bare,
            LINK_LAYER_WITH_RADIO: link_layer.with_radio,
            NORDIC_SNIFFER: link_layer.nordic,
        }

    def feed(self, chunk: bytes) -> list[Advertisement | Ticked]:
        """What ``chunk`` completes, in the file's order; ``ConfigurationError`` when the file is no capture.

        Once ``counts.damage`` is set, nothing more comes.
        """
        if self._container is None:
            self._head += chunk
            if len(self._head) < _MAGIC_SIZE:
                return []
            chunk, self._head = self._head, b""
            self._container = _container_of(chunk)
        found = self._take(self._container, chunk)
        self.counts.damage = self._container.damage
        return found

    def finish(self) -> None:
        """Say that the file has ended; ``ConfigurationError`` when there was too little to be a capture."""
        if self._container is None:
            if not self._head:
                raise ConfigurationError("is empty.", do=f"Name a capture: {_READ_HERE}")
            self._container = _container_of(self._head)
            self._container.feed(self._head)
        if self.counts.damage is None and self._container.is_inside:
            self.counts.damage = f"it ends inside frame {self.counts.frames + 1}"

    def _take(self, container: Btsnoop | Pcap | Pcapng | JsonLines, chunk: bytes) -> list[Advertisement | Ticked]:
        counts, layers = self.counts, self._layers
        if isinstance(container, JsonLines):
            return self._sort(container.feed(chunk))
        found: list[Advertisement | Ticked] = []
        frames = container.feed(chunk)
        counts.frames += len(frames)
        for number, time_ns, link_type, octets, problem in frames:
            if problem is not None:
                counts.skip(problem)
                continue
            layer = layers.get(link_type)
            if layer is None:
                counts.skip(Skipped.UNSUPPORTED)
                if len(counts.other_link_types) < _MOST_LINK_TYPES:
                    counts.other_link_types.add(link_type)
                continue
            reports = layer(octets)
            if isinstance(reports, Skipped):
                counts.skip(reports)
                continue
            for rssi, address, data, kind in reports:
                found.append(Advertisement(number, time_ns, rssi, address, data, kind, None, None))
        counts.advertisements += len(found)
        return found

    def _sort(self, items: Iterable[Advertisement | Ticked | Skipped]) -> list[Advertisement | Ticked]:
        found: list[Advertisement | Ticked] = []
        for item in items:
            if isinstance(item, Skipped):
                self.counts.skip(item)
            else:
                found.append(item)
            if not isinstance(item, Ticked):
                self.counts.frames += 1
                self.counts.advertisements += not isinstance(item, Skipped)
        return found


def count(file: bytes) -> Counts:
    """What a whole file holds; ``ConfigurationError`` when it is no capture, nothing else for any bytes.

    >>> count(bytes.fromhex("a1b2c3d4 0002 0004 00000000 00000000 0000ffff 000000bb 00")).damage
    'it ends inside frame 1'
    """
    reader = CaptureReader()
    reader.feed(file)
    reader.finish()
    return reader.counts


def _container_of(head: bytes) -> Btsnoop | Pcap | Pcapng | JsonLines:
    for magic, container in _CONTAINERS.items():
        if head.startswith(magic):
            return container()
    for magic, name in _PACKED.items():
        if head.startswith(magic):
            raise ConfigurationError(f"is packed with {name}.", do="Unpack it first.")
    raise ConfigurationError("is no capture.", do=f"Name another file: {_READ_HERE}")
