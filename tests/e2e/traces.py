"""Looks for traces of a phone in bytes: its address, its tokens, its owner's pseudonym, in every spelling, also inside base64."""

import base64
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.e2e.world import Phone, World, rows, uuid_text

_BASE64 = re.compile(rb"[A-Za-z0-9+/]{24,}")
_SEPARATORS = (":", "-", "_", "")


def addresses(phones: Iterable[Phone]) -> set[bytes]:
    """Six raw bytes and three notations and none, in both byte orders and both cases."""
    found = set()
    for phone in phones:
        octets = bytes.fromhex(phone.address.replace(":", ""))
        for order in (octets, octets[::-1]):
            found.add(order)
            for separator in _SEPARATORS:
                text = order.hex(separator) if separator else order.hex()
                found |= {text.encode(), text.upper().encode()}
    return found


def tokens(phones: Iterable[Phone]) -> set[bytes]:
    """The identifier in every token that was on the air: raw, hexadecimal and as a UUID, in both byte orders."""
    found = set()
    for phone in phones:
        for token in phone.tokens:
            identifier = token[:8]
            found |= _spelt(identifier) | {uuid_text(token)[:18].encode(), uuid_text(token)[:18].upper().encode()}
    return found


def pseudonyms(phones: Iterable[Phone]) -> set[bytes]:
    """The day's names, raw and hexadecimal."""
    return {needle for phone in phones for needle in _spelt(bytes.fromhex(phone.pseudonym))}


def _spelt(identifier: bytes) -> set[bytes]:
    return {
        spelling
        for order in (identifier, identifier[::-1])
        for spelling in (order, order.hex().encode(), order.hex().upper().encode())
    }


def found_in(needles: set[bytes], places: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """(place, needle) of every needle in every haystack, or in what it holds as base64."""
    return sorted(
        {(place, needle) for place, haystack in places for layer in _layers(haystack) for needle in needles if needle in layer}
    )


def _layers(data: bytes, depth: int = 3) -> Iterator[bytes]:
    yield data
    if depth:
        for run in _BASE64.findall(data):
            # SQLite breaks long values where a page ends, and so perhaps in the middle of four characters.
            for shift in range(4):
                whole = (len(run) - shift) // 4 * 4
                yield from _layers(base64.b64decode(run[shift : shift + whole]), depth - 1)


def gateway_files(world: World) -> list[tuple[str, bytes]]:
    """Database, write-ahead log and whatever else is in the gateway's folder; remembered downlinks also as one piece."""
    found = _files(world.gateway_db.parent)
    payloads = rows(world.gateway_db, "SELECT name, payload FROM snapshot")
    return found + [(f"snapshot {name}", payload) for name, payload in payloads]


def central_files(world: World) -> list[tuple[str, bytes]]:
    """Central's folder and the inboxes' files."""
    return _files(world.folder / "central") + [
        (path.name, path.read_bytes()) for name in world.inboxes for path in world.folder.glob(f"{name}.db*")
    ]


def logs(world: World) -> list[tuple[str, bytes]]:
    """All that the processes said, at INFO and above."""
    return _files(world.folder / "logs")


def wire(world: World, topic: str = "#") -> list[tuple[str, bytes]]:
    """Topics and payloads of what went over the wire."""
    return [(message.topic, message.topic.encode() + b" " + message.payload) for message in world.wire.on(topic)]


def _files(folder: Path) -> list[tuple[str, bytes]]:
    return [(path.name, path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()]
