"""Eddystone, Google's beacon: service data ↔ `EddystoneUid` | `…Url` | `…Tlm` | `…EncryptedTlm` | `…Eid`.

::

    AA FE | 00 | power ×1 | namespace ×10 | instance ×6 | reserved ×2                          UID, 20 or 22 octets
    AA FE | 10 | power ×1 | scheme ×1 | rest of the URL ×0…17                                  URL, 5 … 22 octets
    AA FE | 20 | 00 | battery ×2 (mV) | temperature ×2 (int8.8, °C) | count ×4 | uptime ×4     TLM, 16 octets; uptime in 0.1 s
    AA FE | 20 | 01 | encrypted ×12 | salt ×2 | integrity check ×2                             encrypted TLM, 20 octets
    AA FE | 30 | power ×1 | identifier ×8                                                      EID, 12 octets

Big-endian, but for the UUID 0xFEAA. ``power`` is int8, dBm at 0 m, −100 … 20; what we call measured power is the RSSI at 1 m,
which is 41 dB less. Many beacons leave the UID's reserved octets out. The high nibble of the third octet is the frame type, the
low one must be 0. Frame types from 4 on are not Eddystone's (trackers of Google's Find Hub use 4 under the same UUID) and so not
ours. EID and encrypted TLM are recognised, not resolved or decrypted. Never raises for any bytes.

Source: google/eddystone, protocol-specification.md and the README of each frame type; the 41 dB: eddystone-uid, "Tx Power".
"""

import struct
from collections.abc import Callable

from gateway.core.ad_structures import SERVICE_DATA_16, AdStructure
from gateway.core.model import EddystoneEid, EddystoneEncryptedTlm, EddystoneTlm, EddystoneUid, EddystoneUrl, Reject

Eddystone = EddystoneUid | EddystoneUrl | EddystoneTlm | EddystoneEncryptedTlm | EddystoneEid

CODE = b"\xaa\xfe"
"""What 16-bit service data must begin with to claim this format."""

LOSS_TO_1_M_DB = 41
"""What the air takes from 0 m to 1 m at 2.4 GHz."""

_POWER_RANGE_DBM = range(-100, 21)
_UID = struct.Struct(">b10s6s")
_UID_SIZES = frozenset({20, 22})
_URL_SIZES = range(5, 23)
_TLM = struct.Struct(">HhII")
_TLM_SIZE = 16
_ENCRYPTED_TLM = struct.Struct(">12s2s2s")
_ENCRYPTED_TLM_SIZE = 20
_EID = struct.Struct(">b8s")
_EID_SIZE = 12

_NO_BATTERY = 0
_NO_TEMPERATURE = -0x8000
_TEMPERATURE_STEPS = 256
_UPTIME_STEP_MS = 100

_SCHEMES = ("http://www.", "https://www.", "http://", "https://")
_ENDINGS = (".com", ".org", ".edu", ".net", ".info", ".biz", ".gov")
_EXPANSIONS = (*(ending + "/" for ending in _ENDINGS), *_ENDINGS)
"""By the octet that stands for each. Those with a slash come first, so that encoding prefers them."""
_URL_OCTETS = (*_EXPANSIONS, *(chr(octet) if 0x20 < octet < 0x7F else "" for octet in range(len(_EXPANSIONS), 256)))
"""What each octet stands for; empty = reserved."""


def decode(data: bytes) -> Eddystone | Reject | None:
    """The frame in service data.

    ``None`` without `CODE`, and for a frame type that is not Eddystone's. `Reject`: ``length`` for a wrong number of octets,
    ``sanity`` for a reserved octet, bit or version, and for a power outside −100 … 20 dBm.

    >>> decode(bytes.fromhex("aafe 00 e7 00010203040506070809 010203040506")).measured_power_dbm
    -66
    >>> decode(bytes.fromhex("aafe 10 f8 04 676974687562 07"))
    Reject(format='eddystone-url', kind='sanity')
    >>> decode(bytes.fromhex("aafe 10 f8 03 676974687562 07 2f7a"))
    EddystoneUrl(url='https://github.com/z', measured_power_dbm=-49)
    >>> decode(bytes.fromhex("aafe 20 00 0b18 1340 00001467 00002ac4"))
    EddystoneTlm(battery_mv=2840, temperature_c=19.25, advertisements=5223, uptime_ms=1094800)
    >>> decode(bytes.fromhex("aafe 30 e3 4549445f74657374"))
    EddystoneEid(eid=b'EID_test', measured_power_dbm=-70)
    >>> decode(bytes.fromhex("aafe 40 00")) is None
    True
    """
    if not data.startswith(CODE):
        return None
    if len(data) < 3:
        return Reject("eddystone", "length")
    frame_type, reserved = divmod(data[2], 16)
    if frame_type >= len(_DECODERS):
        return None
    name, decode_type = _DECODERS[frame_type]
    return Reject(name, "sanity") if reserved else decode_type(data)


def encode(frame: Eddystone) -> AdStructure:
    """The AD structure that `decode` reads; ``ValueError`` for a field that does not fit its octets or steps, or means "absent".

    >>> encode(EddystoneUrl("https://github.com/z", -49)).data.hex(" ")
    'aa fe 10 f8 03 67 69 74 68 75 62 00 7a'
    >>> encode(EddystoneTlm(2840, -0.5, 1, 1000)).data.hex(" ", -2)
    'aafe 2000 0b18 ff80 0000 0001 0000 000a'
    """
    try:
        return AdStructure(SERVICE_DATA_16, CODE + _body(frame))
    except (struct.error, OverflowError) as error:
        raise ValueError(f"a number does not fit its octets: {error}") from error


def _body(frame: Eddystone) -> bytes:
    if isinstance(frame, EddystoneUid):
        _check_size("namespace", frame.namespace, 10)
        _check_size("instance", frame.instance, 6)
        return b"\x00" + _UID.pack(_power_at_0_m(frame.measured_power_dbm), frame.namespace, frame.instance) + bytes(2)
    if isinstance(frame, EddystoneUrl):
        return b"\x10" + struct.pack("b", _power_at_0_m(frame.measured_power_dbm)) + _compress(frame.url)
    if isinstance(frame, EddystoneTlm):
        return b"\x20\x00" + _tlm(frame)
    if isinstance(frame, EddystoneEncryptedTlm):
        _check_size("encrypted", frame.encrypted, 12)
        _check_size("salt", frame.salt, 2)
        _check_size("integrity_check", frame.integrity_check, 2)
        return b"\x20\x01" + _ENCRYPTED_TLM.pack(frame.encrypted, frame.salt, frame.integrity_check)
    _check_size("eid", frame.eid, 8)
    return b"\x30" + _EID.pack(_power_at_0_m(frame.measured_power_dbm), frame.eid)


def _decode_uid(data: bytes) -> EddystoneUid | Reject:
    if len(data) not in _UID_SIZES:
        return Reject("eddystone-uid", "length")
    power_dbm, namespace, instance = _UID.unpack_from(data, 3)
    if power_dbm not in _POWER_RANGE_DBM:
        return Reject("eddystone-uid", "sanity")
    return EddystoneUid(namespace, instance, power_dbm - LOSS_TO_1_M_DB)


def _decode_url(data: bytes) -> EddystoneUrl | Reject:
    if len(data) not in _URL_SIZES:
        return Reject("eddystone-url", "length")
    [power_dbm] = struct.unpack_from("b", data, 3)
    parts = [_URL_OCTETS[octet] for octet in data[5:]]
    if power_dbm not in _POWER_RANGE_DBM or data[4] >= len(_SCHEMES) or "" in parts:
        return Reject("eddystone-url", "sanity")
    return EddystoneUrl(_SCHEMES[data[4]] + "".join(parts), power_dbm - LOSS_TO_1_M_DB)


def _decode_tlm(data: bytes) -> EddystoneTlm | EddystoneEncryptedTlm | Reject:
    version = data[3] if len(data) > 3 else 0
    if version == 1:
        if len(data) != _ENCRYPTED_TLM_SIZE:
            return Reject("eddystone-etlm", "length")
        return EddystoneEncryptedTlm(*_ENCRYPTED_TLM.unpack_from(data, 4))
    if version:
        return Reject("eddystone-tlm", "sanity")
    if len(data) != _TLM_SIZE:
        return Reject("eddystone-tlm", "length")
    battery_mv, temperature, advertisements, uptime = _TLM.unpack_from(data, 4)
    return EddystoneTlm(
        None if battery_mv == _NO_BATTERY else battery_mv,
        None if temperature == _NO_TEMPERATURE else temperature / _TEMPERATURE_STEPS,
        advertisements,
        uptime * _UPTIME_STEP_MS,
    )


def _decode_eid(data: bytes) -> EddystoneEid | Reject:
    if len(data) != _EID_SIZE:
        return Reject("eddystone-eid", "length")
    power_dbm, eid = _EID.unpack_from(data, 3)
    if power_dbm not in _POWER_RANGE_DBM:
        return Reject("eddystone-eid", "sanity")
    return EddystoneEid(eid, power_dbm - LOSS_TO_1_M_DB)


_DECODERS: tuple[tuple[str, Callable[[bytes], Eddystone | Reject]], ...] = (
    ("eddystone-uid", _decode_uid),
    ("eddystone-url", _decode_url),
    ("eddystone-tlm", _decode_tlm),
    ("eddystone-eid", _decode_eid),
)
"""By frame type."""


def _tlm(frame: EddystoneTlm) -> bytes:
    temperature = frame.temperature_c
    steps = _NO_TEMPERATURE if temperature is None else temperature * _TEMPERATURE_STEPS
    if frame.battery_mv == _NO_BATTERY or (temperature is not None and steps == _NO_TEMPERATURE):
        raise ValueError("0 mV and −128 °C mean that the beacon does not measure; say None")
    if steps != int(steps) or frame.uptime_ms % _UPTIME_STEP_MS:
        raise ValueError("the temperature has steps of 1/256 °C, the uptime of 100 ms")
    battery_mv = _NO_BATTERY if frame.battery_mv is None else frame.battery_mv
    return _TLM.pack(battery_mv, int(steps), frame.advertisements, frame.uptime_ms // _UPTIME_STEP_MS)


def _compress(url: str) -> bytes:
    scheme = next((prefix for prefix in _SCHEMES if url.startswith(prefix)), None)
    if scheme is None:
        raise ValueError("the URL must begin with http:// or https://")
    rest = url.removeprefix(scheme)
    if not all(0x20 < ord(character) < 0x7F for character in rest):
        raise ValueError("the URL must be printable ASCII without spaces")
    for octet, expansion in enumerate(_EXPANSIONS):
        rest = rest.replace(expansion, chr(octet))
    compressed = bytes((_SCHEMES.index(scheme),)) + rest.encode("ascii")
    if 4 + len(compressed) not in _URL_SIZES:
        raise ValueError(f"the URL takes {len(compressed) - 1} octets after its scheme; there is room for 17")
    return compressed


def _power_at_0_m(measured_power_dbm: int) -> int:
    power_dbm = measured_power_dbm + LOSS_TO_1_M_DB
    if power_dbm not in _POWER_RANGE_DBM:
        raise ValueError(f"the measured power must be −141 … −21 dBm, not {measured_power_dbm}")
    return power_dbm


def _check_size(name: str, value: bytes, size: int) -> None:
    if len(value) != size:
        raise ValueError(f"{name} has {size} octets, not {len(value)}")
