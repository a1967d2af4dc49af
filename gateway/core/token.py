"""The shopper token's arithmetic: keys, identifiers, sealing and opening.

::

    DK  = HKDF(KU, "SBG1-DK"  | store ×4 | day ×4, 16)        day key: all that a gateway ever gets
    rid = HKDF(KU, "SBG1-RID" | store ×4 | day ×4, 8)         pseudonym of that store and day
    EK ×16 | MK ×16 | PK ×16 = HKDF(DK, "SBG1-SUB", 48)

    token    EID ×8 | C ×4 | TAG ×4
    EID      HMAC(EK, "SBG1-EID" | window ×4)[0:8]
    TAG      HMAC(MK, "SBG1-TAG" | window ×4 | EID | P)[0:4]
    C        P xor HMAC(PK, "SBG1-MSK" | EID | TAG)[0:4]
    P        version (2 bits, = 1) flags (6 bits) | slot (4 bits) bucket (4 bits) | hint ×2

All big-endian; HKDF and HMAC with SHA-256, HKDF with an empty salt. Windows, stores and days are unsigned 32-bit numbers: one
outside 0 … 2³² − 1 is a mistake of the caller and raises ``OverflowError``. `open_token` never raises for any token bytes.

Source: shopper token, version 1; RFC 5869 (HKDF); RFC 2104 (HMAC).
"""

import hmac
import math
from typing import NamedTuple

WINDOW_S = 900
"""Seconds for which an ephemeral identifier is on the air."""
SKEW_S = 120
"""Default of how far the clocks of phone and gateway may differ, seconds."""
MIN_SKEW_S = 30
MAX_SKEW_S = 900

KU_SIZE = 32
DAY_KEY_SIZE = 16
EID_SIZE = 8
TOKEN_SIZE = 16
PSEUDONYM_SIZE = 8

FLAG_OFFERS = 1
FLAG_ANALYTICS = 2
FLAG_FOREGROUND = 4
FLAG_HINT = 8

SLOT_NOT_REFRESHED = 15
"""The slot of a payload that the app could not refresh since the window began."""
HINT_NONE = 0
"""No beacon; also what the reserved value 0xFFFF is read as."""

_VERSION = 1
_HINT_RESERVED = 0xFFFF
_HASH_SIZE = 32
_DAY_S = 86_400


class Subkeys(NamedTuple):
    """What a day key unfolds into, 16 bytes each."""

    ek: bytes
    """Makes the ephemeral identifiers."""
    mk: bytes
    """Makes the tags."""
    pk: bytes
    """Masks the payloads."""


class TokenPayload(NamedTuple):
    """The four bytes that the app says about itself."""

    flags: int
    """6 bits: ``FLAG_OFFERS`` … ``FLAG_HINT``; bits 4 and 5 are reserved and ignored."""
    slot: int
    """Minute of the window, 0 … 14, in which the payload was made, or `SLOT_NOT_REFRESHED`."""
    bucket: int
    """How strongly the app hears the hinted beacon, 0 … 15 (`rssi_of_bucket`)."""
    hint: int
    """Short id (iBeacon minor) of the fixed beacon heard strongest, 1 … 65534, or `HINT_NONE`."""


# ---- time ---------------------------------------------------------------------------------------------------------------------


def window_of(unix_s: float) -> int:
    """The rotation window in which the second ``unix_s`` (UTC, since 1970) lies.

    >>> window_of(1790000437)
    1988889
    """
    return math.floor(unix_s / WINDOW_S)


def slot_of(unix_s: float) -> int:
    """The minute of its window, 0 … 14, in which the second ``unix_s`` (UTC, since 1970) lies.

    >>> slot_of(1790000437)
    5
    """
    return math.floor(unix_s % WINDOW_S / 60)


def day_of(window: int, day_start_s: int) -> int:
    """The store's day to which ``window`` belongs; ``day_start_s``: signed seconds after 00:00 UTC at which its days begin.

    A multiple of `WINDOW_S`, so that no window lies in two days.

    >>> day_of(1988889, 0), day_of(1988843, 10800), day_of(1988844, 10800)
    (20717, 20716, 20717)
    """
    return (WINDOW_S * window - day_start_s) // _DAY_S


# ---- keys ---------------------------------------------------------------------------------------------------------------------


def hkdf_sha256(key: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    r"""``length`` bytes derived from ``key``; ``ValueError`` outside 1 … 8160. Source: RFC 5869, section 2.

    Test case 1 of its appendix A:

    >>> okm = hkdf_sha256(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)), 42)
    >>> okm.hex()
    '3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865'
    """
    if not 1 <= length <= 255 * _HASH_SIZE:
        raise ValueError(f"HKDF-SHA256 gives 1 … {255 * _HASH_SIZE} bytes, not {length}")
    # An empty salt and one of 32 zero bytes are the same HMAC key (RFC 5869, section 2.2).
    pseudorandom_key = hmac.digest(salt, key, "sha256")
    block = b""
    derived = bytearray()
    for counter in range(1, -(-length // _HASH_SIZE) + 1):
        block = hmac.digest(pseudorandom_key, block + info + bytes((counter,)), "sha256")
        derived += block
    return bytes(derived[:length])


def derive_day_key(ku: bytes, store: int, day: int) -> bytes:
    """DK, 16 bytes: what a gateway of ``store`` may know on ``day``. ``ValueError`` unless ``ku`` has 32 bytes.

    >>> derive_day_key(bytes(range(32)), 4711, 20717).hex()
    '2301bd11115813859d6919babefe376c'
    """
    return hkdf_sha256(_checked_ku(ku), b"", b"SBG1-DK" + store.to_bytes(4, "big") + day.to_bytes(4, "big"), DAY_KEY_SIZE)


def derive_pseudonym(ku: bytes, store: int, day: int) -> bytes:
    """The rid, 8 bytes: the shopper's name in ``store`` on ``day``. ``ValueError`` unless ``ku`` has 32 bytes."""
    return hkdf_sha256(_checked_ku(ku), b"", b"SBG1-RID" + store.to_bytes(4, "big") + day.to_bytes(4, "big"), PSEUDONYM_SIZE)


def derive_subkeys(day_key: bytes) -> Subkeys:
    """The three keys of one shopper's day. ``ValueError`` unless ``day_key`` has 16 bytes."""
    if len(day_key) != DAY_KEY_SIZE:
        raise ValueError(f"a day key has {DAY_KEY_SIZE} bytes, not {len(day_key)}")
    derived = hkdf_sha256(day_key, b"", b"SBG1-SUB", 48)
    return Subkeys(derived[:16], derived[16:32], derived[32:])


def _checked_ku(ku: bytes) -> bytes:
    if len(ku) != KU_SIZE:
        raise ValueError(f"KU has {KU_SIZE} bytes, not {len(ku)}")
    return ku


# ---- token --------------------------------------------------------------------------------------------------------------------


def ephemeral_identifier(ek: bytes, window: int) -> bytes:
    """The EID, 8 bytes, that ``ek`` puts on the air in ``window``; made three times for every shopper of the roster.

    >>> ephemeral_identifier(bytes.fromhex("e2dd81d3ff8ec385fcf49400688b6a7f"), 1988889).hex()
    '8a4061daf88a329d'
    """
    return hmac.digest(ek, b"SBG1-EID" + window.to_bytes(4, "big"), "sha256")[:8]


def seal_token(subkeys: Subkeys, window: int, payload: TokenPayload) -> bytes:
    """The token, 16 bytes, that the app sends in ``window``. ``ValueError`` for a payload that `pack_payload` refuses.

    >>> subkeys = derive_subkeys(derive_day_key(bytes(range(32)), 4711, 20717))
    >>> seal_token(subkeys, 1988889, TokenPayload(flags=3, slot=5, bucket=9, hint=258)).hex()
    '8a4061daf88a329d6160529fbe31d8c5'
    """
    plain = pack_payload(payload)
    eid = ephemeral_identifier(subkeys.ek, window)
    tag = _tag(subkeys.mk, window, eid, plain)
    return eid + _masked(subkeys.pk, eid, tag, plain) + tag


def open_token(subkeys: Subkeys, window: int, token: bytes) -> TokenPayload | None:
    """What ``token`` says; ``None`` for another length than 16 bytes, a bad tag, or a version that is not ours.

    The caller found ``subkeys`` and ``window`` by the token's EID; the tag covers both, so neither is checked again.
    """
    if len(token) != TOKEN_SIZE:
        return None
    eid, masked, tag = token[:8], token[8:12], token[12:]
    plain = _masked(subkeys.pk, eid, tag, masked)
    if not hmac.compare_digest(_tag(subkeys.mk, window, eid, plain), tag):
        return None
    return unpack_payload(plain)


def _tag(mk: bytes, window: int, eid: bytes, plain: bytes) -> bytes:
    return hmac.digest(mk, b"SBG1-TAG" + window.to_bytes(4, "big") + eid + plain, "sha256")[:4]


def _masked(pk: bytes, eid: bytes, tag: bytes, four: bytes) -> bytes:
    """Hides ``four`` bytes, or shows them again."""
    mask = hmac.digest(pk, b"SBG1-MSK" + eid + tag, "sha256")[:4]
    return (int.from_bytes(four, "big") ^ int.from_bytes(mask, "big")).to_bytes(4, "big")


# ---- payload ------------------------------------------------------------------------------------------------------------------


def pack_payload(payload: TokenPayload) -> bytes:
    """P, 4 bytes. ``ValueError`` for a field out of its range; 0xFFFF is no hint, but reserved.

    >>> pack_payload(TokenPayload(flags=3, slot=5, bucket=9, hint=258)).hex()
    '43590102'
    """
    flags, slot, bucket, hint = payload
    if not (0 <= flags <= 0x3F and 0 <= slot <= 15 and 0 <= bucket <= 15 and 0 <= hint < _HINT_RESERVED):
        raise ValueError(f"a field is out of range: {payload}")
    return bytes((_VERSION << 6 | flags, slot << 4 | bucket)) + hint.to_bytes(2, "big")


def unpack_payload(plain: bytes) -> TokenPayload | None:
    """The fields of P; ``None`` for another length than 4 bytes or another version than 1. Never raises.

    >>> unpack_payload(bytes.fromhex("43590102"))
    TokenPayload(flags=3, slot=5, bucket=9, hint=258)
    >>> unpack_payload(bytes.fromhex("83590102")) is None
    True
    """
    if len(plain) != 4 or plain[0] >> 6 != _VERSION:
        return None
    hint = int.from_bytes(plain[2:], "big")
    return TokenPayload(plain[0] & 0x3F, plain[1] >> 4, plain[1] & 0x0F, HINT_NONE if hint == _HINT_RESERVED else hint)


def bucket_of_rssi(rssi_dbm: float) -> int:
    """The bucket, 0 … 15, of a finite RSSI: 4 dB each from −100 dBm up, clamped at both ends.

    >>> [bucket_of_rssi(rssi_dbm) for rssi_dbm in (-127, -100, -97, -96, -64, -40, -12)]
    [0, 0, 0, 1, 9, 15, 15]
    """
    return min(15, max(0, math.floor((rssi_dbm + 100) / 4)))


def rssi_of_bucket(bucket: int) -> float:
    """The middle of ``bucket``, dBm; the true value is within 2 dB of it, but for the open ends 0 and 15.

    >>> rssi_of_bucket(0), rssi_of_bucket(9), rssi_of_bucket(15)
    (-98.0, -62.0, -38.0)
    """
    return -98.0 + 4 * bucket
