"""`gateway decode`: one advertisement, octet by octet, and what the gateway would make of it."""

import json
import string
import textwrap
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import typer

from gateway.cli.configured import configured
from gateway.core.ad_structures import (
    COMPLETE_UUIDS_128,
    FLAGS,
    MANUFACTURER_DATA,
    SERVICE_DATA_16,
    AdStructure,
    Truncated,
    encode,
    iterate,
)
from gateway.core.frames import Decoder, eddystone, format_of
from gateway.core.model import (
    AltBeacon,
    EddystoneEid,
    EddystoneEncryptedTlm,
    EddystoneTlm,
    EddystoneUid,
    EddystoneUrl,
    Frame,
    IBeacon,
    Reject,
    Shop,
    ShopperToken,
    key_of,
)
from gateway.core.sanitiser import printable

MOST_OCTETS = 1650
"""Of advertising data, extended (Core Specification, Vol 4, Part E, 7.8.54)."""

_AD_TYPES = {
    FLAGS: "flags",
    0x02: "16-bit service UUIDs, incomplete",
    0x03: "16-bit service UUIDs",
    0x04: "32-bit service UUIDs, incomplete",
    0x05: "32-bit service UUIDs",
    0x06: "128-bit service UUIDs, incomplete",
    COMPLETE_UUIDS_128: "128-bit service UUIDs",
    0x08: "shortened local name",
    0x09: "local name",
    0x0A: "transmit power",
    0x0D: "class of device",
    0x10: "device id",
    0x12: "connection interval range",
    0x14: "16-bit UUIDs of services sought",
    0x15: "128-bit UUIDs of services sought",
    SERVICE_DATA_16: "service data, 16-bit UUID",
    0x19: "appearance",
    0x1A: "advertising interval",
    0x1B: "device address",
    0x1C: "role",
    0x20: "service data, 32-bit UUID",
    0x21: "service data, 128-bit UUID",
    0x24: "URI",
    0x27: "supported features",
    0x2A: "mesh message",
    0x2B: "mesh beacon",
    0x30: "broadcast name",
    MANUFACTURER_DATA: "manufacturer data",
}
"""Assigned Numbers, 2.3; what is inside: Core Specification Supplement, Part A."""

_FLAG_BITS = (
    "limited discoverable",
    "discoverable",
    "no classic Bluetooth",
    "classic too (controller)",
    "classic too (host)",
)
_COMPANIES = {
    0x0006: "Microsoft",
    0x004C: "Apple",
    0x0059: "Nordic Semiconductor",
    0x0075: "Samsung",
    0x0087: "Garmin",
    0x00E0: "Google",
    0x0118: "Radius Networks",
    0x0171: "Amazon",
    0x0499: "Ruuvi",
}
_SERVICES = {
    0x180A: "device information",
    0x180F: "battery",
    0xFCF1: "Google",
    0xFD6F: "exposure notification",
    0xFE2C: "Google Fast Pair",
    0xFE9F: "Google",
    0xFEAA: "Eddystone",
}
_LISTS = {0x02: 2, 0x03: 2, 0x04: 4, 0x05: 4, 0x06: 16, 0x07: 16, 0x14: 2, 0x15: 16}
"""Octets of each UUID in a list of them."""
_NAMES = frozenset({0x08, 0x09, 0x30})
_TX_POWER = 0x0A

_WHY = {
    "length": "the number of octets is wrong for the format, or octets are missing",
    "integrity": "its checksum is wrong",
    "sanity": "a field holds what the format forbids",
}


@dataclass(frozen=True, slots=True)
class Piece:
    """Octets that mean one thing."""

    at: int
    octets: bytes
    meaning: str


@dataclass(slots=True)
class Part:
    """One AD structure, or what is no structure: padding, the rest of a truncated one."""

    title: str
    pieces: list[Piece] = field(default_factory=list)

    def add(self, octets: bytes, meaning: str) -> None:
        """The next octets of the part; none are nothing."""
        last = self.pieces[-1]
        if octets:
            self.pieces.append(Piece(last.at + len(last.octets), octets, meaning))


def octets_of(text: str) -> bytes:
    """The octets in hexadecimal text with spaces, colons or dashes between them, and 0x before them or not.

    Raises ``ValueError`` with a sentence for a person.

    >>> octets_of("0x02:01 06").hex()
    '020106'
    """
    digits = "".join(word.removeprefix("0x").removeprefix("0X") for word in text.replace(":", " ").replace("-", " ").split())
    wrong = next((character for character in digits if character not in string.hexdigits), None)
    if wrong is not None:
        raise ValueError(f"{printable(wrong)} is no hexadecimal digit.")
    if not digits:
        raise ValueError("There is nothing to decode.")
    if len(digits) % 2:
        raise ValueError(f"{len(digits)} hexadecimal digits are half an octet too many or too few; two make an octet.")
    if len(digits) > 2 * MOST_OCTETS:
        raise ValueError(f"{len(digits) // 2} octets are more than an advertisement can hold ({MOST_OCTETS}).")
    return bytes.fromhex(digits)


def identifier_of(text: str | None) -> int | None:
    """A 16-bit identifier as people write it; ``ValueError`` with a sentence for a person.

    >>> identifier_of("0xFFF0"), identifier_of("4660"), identifier_of(None)
    (65520, 4660, None)
    """
    if text is None:
        return None
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value <= 0xFFFF:
        raise ValueError(f"{printable(text)} is no 16-bit identifier: write 0 … 65535 or 0x0000 … 0xFFFF.")
    return value


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    octets: bytes
    service_uuid16: int | None
    company_id: int | None
    config: Path | None
    shop: Path | None
    as_json: bool


def run_decode(options: Options) -> None:
    """Explain one advertisement."""
    known = configured(options.config, options.shop)
    service_uuid16 = known.tuning.service_uuid16 if options.service_uuid16 is None else options.service_uuid16
    company_id = known.tuning.company_id if options.company_id is None else options.company_id
    try:
        decoder = Decoder(service_uuid16, company_id)
    except ValueError as error:
        raise typer.BadParameter(
            "0x004C is Apple's and 0xFEAA Eddystone's; the chain needs identifiers of its own.",
            param_hint="--service-uuid16 or --company-id",
        ) from error
    shop = known.shop if options.config is not None or options.shop is not None else None
    found = decoder.decode(options.octets)
    parts = list(explain(options.octets, decoder))
    outcome, verdict = judge(found, shop)
    if options.as_json:
        print(json.dumps(_as_json(options.octets, parts, found, outcome, verdict), ensure_ascii=False))
    else:
        print("\n".join(_as_text(parts, found, verdict)))


def explain(data: bytes, decoder: Decoder) -> list[Part]:
    """Every octet of an advertisement, in order; each is in exactly one piece."""
    parts = []
    at = 0
    for structure in iterate(data):
        if isinstance(structure, Truncated):
            parts.append(_truncated(at, structure))
            return parts
        octets = encode([structure])
        parts.append(_structure(at, structure, decoder.decode(octets)))
        at += len(octets)
    if at < len(data):
        parts.append(Part("end", [Piece(at, data[at:], "a length of 0 ends the data; what follows is padding")]))
    return parts


def _truncated(at: int, structure: Truncated) -> Part:
    octets = structure.octets
    name = _AD_TYPES.get(octets[1], "unknown type") if len(octets) > 1 else "type missing"
    part = Part(f"{name}, truncated", [Piece(at, octets[:1], f"length: {_count(octets[0])} follow, {structure.missing} missing")])
    part.add(octets[1:2], f"type 0x{octets[1]:02x}: {name}" if len(octets) > 1 else "")
    part.add(octets[2:], "what there is of the data: not used")
    return part


def _structure(at: int, structure: AdStructure, found: Frame | Reject | None) -> Part:
    ad_type, data = structure
    name = _AD_TYPES.get(ad_type, "unknown type")
    length = 1 + len(data)
    part = Part(name, [Piece(at, bytes((length,)), f"length: {_count(length)} follow")])
    part.add(bytes((ad_type,)), f"type 0x{ad_type:02x}: {name}")
    if found is not None and not isinstance(found, Reject):
        part.title = f"{name}: {format_of(found)}"
        fields = _FIELDS[type(found)](found, data)
    else:
        fields = _generic(ad_type, data)
        if found is not None:
            part.title = f"{name}: {found.format}, broken"
            fields[-1] = (fields[-1][0], f"{fields[-1][1]}: breaks {found.format} ({found.kind}): {_WHY[found.kind]}")
    for octets, meaning in fields:
        part.add(octets, meaning)
    return part


_Fields = list[tuple[bytes, str]]


def _generic(ad_type: int, data: bytes) -> _Fields:
    """The data of a structure that is no frame of ours, as the Core Specification Supplement has them."""
    if ad_type == FLAGS and data:
        names = [name for bit, name in enumerate(_FLAG_BITS) if data[0] >> bit & 1]
        return [(data[:1], ", ".join(names) or "none set"), (data[1:], "more flags")]
    if ad_type in _NAMES:
        return [(data, f'"{printable(data.decode("utf-8", "replace"))}"')]
    if ad_type == _TX_POWER and len(data) == 1:
        return [(data, f"{int.from_bytes(data, 'big', signed=True)} dBm, as sent")]
    if ad_type in _LISTS:
        size = _LISTS[ad_type]
        whole = len(data) - len(data) % size
        return [
            *((data[at : at + size], _uuid(data[at : at + size])) for at in range(0, whole, size)),
            (data[whole:], "half a UUID"),
        ]
    key_size = {SERVICE_DATA_16: 2, 0x20: 4, 0x21: 16}.get(ad_type)
    if key_size is not None and len(data) >= key_size:
        return _without_rest(
            [(data[:key_size], f"service {_uuid(data[:key_size])}"), (data[key_size:], "the service's own data")]
        )
    if ad_type == MANUFACTURER_DATA and len(data) >= 2:
        return _without_rest([(data[:2], _company(data)), (data[2:], "the company's own data")])
    return [(data, "not looked at")]


def _without_rest(fields: _Fields) -> _Fields:
    return [(octets, meaning) for octets, meaning in fields if octets]


def _uuid(octets: bytes) -> str:
    """Of 2, 4 or 16 octets, little-endian."""
    if len(octets) == 16:
        return str(UUID(bytes=octets[::-1]))
    value = int.from_bytes(octets, "little")
    name = _SERVICES.get(value)
    return f"0x{value:0{2 * len(octets)}X}" + (f" ({name})" if name else "")


def _company(data: bytes) -> str:
    company = int.from_bytes(data[:2], "little")
    name = _COMPANIES.get(company)
    return f"company 0x{company:04X}" + (f" ({name})" if name else "")


def _of_ibeacon(frame: IBeacon, data: bytes) -> _Fields:
    return _cut(
        data,
        (2, _company(data)),
        (2, "Apple's type 02 of 21 octets: iBeacon"),
        (16, f"UUID {UUID(bytes=frame.uuid)}"),
        (2, f"major {frame.major}"),
        (2, f"minor {frame.minor}"),
        (1, _measured(frame.measured_power_dbm)),
    )


def _of_altbeacon(frame: AltBeacon, data: bytes) -> _Fields:
    return _cut(
        data,
        (2, _company(data)),
        (2, "AltBeacon's code"),
        (16, f"beacon id, the organisation: {UUID(bytes=frame.beacon_id[:16])}"),
        (4, f"beacon id, the rest: {frame.beacon_id[16:].hex()}"),
        (1, _measured(frame.measured_power_dbm)),
        (1, f"reserved for the manufacturer: {frame.reserved}"),
    )


def _of_uid(frame: EddystoneUid, data: bytes) -> _Fields:
    return _cut(
        data,
        *_eddystone("UID", frame.measured_power_dbm),
        (10, f"namespace {frame.namespace.hex()}"),
        (6, f"instance {frame.instance.hex()}"),
        (2, "reserved"),
    )


def _of_url(frame: EddystoneUrl, data: bytes) -> _Fields:
    scheme = eddystone.decode(data[:5])
    begins = scheme.url if isinstance(scheme, EddystoneUrl) else ""
    return _cut(
        data,
        *_eddystone("URL", frame.measured_power_dbm),
        (1, f"begins with {begins}"),
        (17, f"the rest, endings such as .com shortened: {printable(frame.url)}"),
    )


def _of_tlm(frame: EddystoneTlm, data: bytes) -> _Fields:
    battery = "not measured" if frame.battery_mv is None else f"{frame.battery_mv} mV"
    temperature = "not measured" if frame.temperature_c is None else f"{frame.temperature_c:.1f} °C"
    return _cut(
        data,
        *_eddystone("TLM", None),
        (1, "version 0: plain"),
        (2, f"battery {battery}"),
        (2, f"temperature {temperature}"),
        (4, f"{frame.advertisements} advertisements since power-on"),
        (4, f"running for {_duration(frame.uptime_ms)}"),
    )


def _of_encrypted_tlm(_frame: EddystoneEncryptedTlm, data: bytes) -> _Fields:
    return _cut(
        data,
        *_eddystone("TLM", None),
        (1, "version 1: encrypted"),
        (12, "battery, temperature and counters, readable only with the beacon's identity key"),
        (2, "salt"),
        (2, "integrity check"),
    )


def _of_eid(frame: EddystoneEid, data: bytes) -> _Fields:
    return _cut(data, *_eddystone("EID", frame.measured_power_dbm), (8, f"rotating identifier {frame.eid.hex()}"))


def _of_token(frame: ShopperToken, data: bytes) -> _Fields:
    if frame.form == "U":
        return [(data, f"one UUID, byte-reversed: may be a shopper token, {frame.token.hex()}")]
    key = f"the chain's service {_uuid(data[:2])}" if frame.form == "S" else f"the chain's {_company(data)}"
    return _cut(
        data,
        (2, key),
        (1, "inner length: 17 octets follow"),
        (1, f"power {frame.tx_power_dbm} dBm at 1 m"),
        (8, "shopper token: ephemeral identifier"),
        (4, "shopper token: flags, slot, bucket and hint, masked"),
        (4, "shopper token: tag"),
    )


_FIELDS: dict[type, Callable[[Any, bytes], _Fields]] = {
    IBeacon: _of_ibeacon,
    AltBeacon: _of_altbeacon,
    EddystoneUid: _of_uid,
    EddystoneUrl: _of_url,
    EddystoneTlm: _of_tlm,
    EddystoneEncryptedTlm: _of_encrypted_tlm,
    EddystoneEid: _of_eid,
    ShopperToken: _of_token,
}


def _eddystone(name: str, measured_power_dbm: int | None) -> list[tuple[int, str]]:
    first = [(2, "service 0xFEAA (Eddystone)"), (1, f"frame type: {name}")]
    if measured_power_dbm is None:
        return first
    at_0_m = measured_power_dbm + eddystone.LOSS_TO_1_M_DB
    return [*first, (1, f"power {at_0_m} dBm at 0 m, so {_measured(measured_power_dbm)}")]


def _measured(measured_power_dbm: int) -> str:
    return f"measured power {measured_power_dbm} dBm at 1 m"


def _duration(duration_ms: int) -> str:
    days, rest = divmod(duration_ms // 1000, 86_400)
    return f"{days} d {rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"


def _cut(data: bytes, *sizes: tuple[int, str]) -> _Fields:
    fields = []
    at = 0
    for size, meaning in sizes:
        fields.append((data[at : at + size], meaning))
        at += size
    return fields


def _count(octets: int) -> str:
    return f"{octets} octet" + ("" if octets == 1 else "s")


def judge(found: Frame | Reject | None, shop: Shop | None) -> tuple[str, str]:
    """What the pipeline does with it: one word for programs, sentences for people; without ``shop`` no beacon is registered."""
    if found is None:
        return "stranger", "A stranger: dropped without a trace. It only adds 1 to the number of strangers."
    if isinstance(found, Reject):
        return "reject", (
            f"Broken: it claims the format {found.format}, but {_WHY[found.kind]}. "
            f"Dropped, and counted as {found.format}.{found.kind}."
        )
    if isinstance(found, ShopperToken):
        return "token", (
            f"A shopper token in form {found.form}, if the roster in force knows its identifier: then a sighting of that "
            "shopper. If not, a stranger, dropped without a trace."
        )
    key = key_of(found)
    if key is None:
        return "stranger", (
            f"A beacon of the format {format_of(found)}, by which none can be registered: a stranger, dropped and only counted, "
            "unless it comes from the address of one that is."
        )
    if shop is None:
        return "beacon", f"{_CALLED[type(found)]}. Whether it is one of the shop's is known with --shop FILE or --config FILE."
    anchor = next((each for each in shop.anchors.values() if each.kind == "beacon" and each.key == key), None)
    if anchor is None:
        return "stranger", f"{_CALLED[type(found)]} that is not in the shop's register: a stranger, dropped and only counted."
    return "registered", (
        f"The shop's beacon {printable(anchor.name)} in zone {printable(anchor.zone)}: "
        "noted as heard, which tells that it is alive. Phones are located by what they send, not by this."
    )


_CALLED = {IBeacon: "An iBeacon", EddystoneUid: "An Eddystone-UID", AltBeacon: "An AltBeacon"}


_OCTETS_A_LINE = 8
_COLUMNS = 80


def _as_text(parts: list[Part], found: Frame | Reject | None, verdict: str) -> list[str]:
    lines = []
    for part in parts:
        lines.append(printable(part.title))
        for piece in part.pieces:
            rows = [piece.octets[at : at + _OCTETS_A_LINE].hex(" ") for at in range(0, len(piece.octets), _OCTETS_A_LINE)]
            lines.append(f"  {piece.at:>4}  {rows[0]:<{3 * _OCTETS_A_LINE}} {printable(piece.meaning)}")
            lines += [f"        {row}" for row in rows[1:]]
    format_name = "none of ours" if found is None else format_of(found)
    if isinstance(found, Reject):
        format_name += f", broken ({found.kind})"
    said = textwrap.wrap(f"Gateway  {verdict}", _COLUMNS, subsequent_indent=" " * 9)
    return [*lines, "", f"Format   {format_name}", *said]


def _as_json(data: bytes, parts: list[Part], found: Frame | Reject | None, outcome: str, verdict: str) -> dict[str, Any]:
    is_frame = found is not None and not isinstance(found, Reject)
    return {
        "octets": len(data),
        "structures": [
            {
                "title": printable(part.title),
                "pieces": [
                    {"at": piece.at, "octets": piece.octets.hex(), "meaning": printable(piece.meaning)} for piece in part.pieces
                ],
            }
            for part in parts
        ],
        "frame": format_of(found) if is_frame and found is not None else None,
        "fields": _plain(found) if is_frame else None,
        "reject": f"{found.format}.{found.kind}" if isinstance(found, Reject) else None,
        "outcome": outcome,
        "explanation": verdict,
    }


def _plain(frame: Any) -> dict[str, Any]:
    return {
        name: value.hex() if isinstance(value, bytes) else printable(value) if isinstance(value, str) else value
        for name, value in asdict(frame).items()
    }
