#!/usr/bin/env python3
"""What the shopper's app puts on the air, in one file of plain Python: made to be read and ported to Swift or Kotlin.

It uses only the standard library and shares no code with the gateway. `docs/app-developer.md` explains every step.

    python3 token_encoder.py --key 000102…1f --store 4711 --hint 258 --hint-rssi -63
"""

import argparse
import hashlib
import hmac
import time

WINDOW_S = 900
"""A token's first eight bytes stay the same for so long, seconds."""
OFFERS, ANALYTICS, FOREGROUND, HINT = 1, 2, 4, 8
"""Flags; the first two are the owner's consent."""
NOT_REFRESHED = 15
"""The slot of an app that cannot make a new token every minute."""


def hkdf(key: bytes, info: bytes, length: int) -> bytes:
    """HKDF-SHA256 (RFC 5869) with an empty salt."""
    pseudorandom_key = hmac.digest(b"", key, hashlib.sha256)
    derived, block = b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.digest(pseudorandom_key, block + info + bytes([counter]), hashlib.sha256)
        derived += block
    return derived[:length]


def u32(number: int) -> bytes:
    """Four bytes, the highest first."""
    return number.to_bytes(4, "big")


def window_at(unix_s: int) -> int:
    """The quarter of an hour in which a moment lies."""
    return unix_s // WINDOW_S


def day_at(unix_s: int, day_start_s: int = 0) -> int:
    """The store's day; ``day_start_s``: seconds after 00:00 UTC at which it begins, a multiple of 900."""
    return (WINDOW_S * window_at(unix_s) - day_start_s) // 86_400


def slot_at(unix_s: int) -> int:
    """The minute of the window, 0 … 14."""
    return unix_s % WINDOW_S // 60


def bucket_of(rssi_dbm: float) -> int:
    """How strongly the hinted beacon is heard, 0 … 15."""
    return min(15, max(0, int((rssi_dbm + 100) // 4)))


def day_key(ku: bytes, store: int, day: int) -> bytes:
    """DK, 16 bytes, which the gateways of one store get for one day."""
    return hkdf(ku, b"SBG1-DK" + u32(store) + u32(day), 16)


def pseudonym(ku: bytes, store: int, day: int) -> bytes:
    """rid, 8 bytes: what the shopper is called in that store on that day."""
    return hkdf(ku, b"SBG1-RID" + u32(store) + u32(day), 8)


def payload(flags: int, slot: int, bucket: int, hint: int) -> bytes:
    """P, 4 bytes; ``ValueError`` for a field that does not fit."""
    if not (0 <= flags <= 63 and 0 <= slot <= 15 and 0 <= bucket <= 15 and 0 <= hint <= 0xFFFE):
        raise ValueError("flags 0 … 63, slot and bucket 0 … 15, hint 0 … 65534")
    return bytes([1 << 6 | flags, slot << 4 | bucket]) + hint.to_bytes(2, "big")


def token(dk: bytes, window: int, plain: bytes) -> bytes:
    """The 16 bytes on the air: EID 8 | masked payload 4 | tag 4."""
    keys = hkdf(dk, b"SBG1-SUB", 48)
    ek, mk, pk = keys[:16], keys[16:32], keys[32:]
    eid = hmac.digest(ek, b"SBG1-EID" + u32(window), hashlib.sha256)[:8]
    tag = hmac.digest(mk, b"SBG1-TAG" + u32(window) + eid + plain, hashlib.sha256)[:4]
    mask = hmac.digest(pk, b"SBG1-MSK" + eid + tag, hashlib.sha256)
    return eid + bytes(byte ^ hidden for byte, hidden in zip(plain, mask, strict=False)) + tag


def form_u(token_bytes: bytes) -> bytes:
    """A complete list of 128-bit service UUIDs with one UUID: the token, last byte first."""
    return bytes([0x11, 0x07]) + token_bytes[::-1]


def form_s(token_bytes: bytes, uuid16: int, tx_power_dbm: int) -> bytes:
    """Service data of the chain's own 16-bit UUID; ``tx_power_dbm``: what is heard at one metre."""
    return (
        bytes([0x15, 0x16]) + uuid16.to_bytes(2, "little") + b"\x11" + tx_power_dbm.to_bytes(1, "big", signed=True) + token_bytes
    )


def form_m(token_bytes: bytes, company_id: int, tx_power_dbm: int) -> bytes:
    """Manufacturer data of the chain's own company identifier."""
    return (
        bytes([0x15, 0xFF])
        + company_id.to_bytes(2, "little")
        + b"\x11"
        + tx_power_dbm.to_bytes(1, "big", signed=True)
        + token_bytes
    )


def uuid_of(token_bytes: bytes) -> str:
    """The service UUID of form U as iOS and Android take it."""
    text = token_bytes.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _number(text: str) -> int:
    return int(text, 0)


def _key(text: str) -> bytes:
    key = bytes.fromhex(text)
    if len(key) != 32:
        raise ValueError
    return key


def main() -> None:
    """Print every step for what the command line says."""
    parser = argparse.ArgumentParser(description="The shopper token, step by step.", allow_abbrev=False)
    parser.add_argument("--key", type=_key, required=True, metavar="HEX", help="KU, 64 hexadecimal digits")
    parser.add_argument("--store", type=int, required=True, metavar="N", help="the store's number")
    parser.add_argument("--unix", type=int, metavar="SECONDS", help="the moment, seconds since 1970; without it now")
    parser.add_argument("--day-start", type=int, default=0, metavar="SECONDS", help="the store's day_start_s; usually 0")
    parser.add_argument("--flags", type=_number, metavar="N", help="exactly these; without it 3, or 11 with a hint")
    parser.add_argument("--not-refreshed", action="store_true", help="slot 15 instead of the minute")
    parser.add_argument("--hint", type=int, default=0, metavar="MINOR", help="the beacon heard strongest")
    parser.add_argument("--hint-rssi", type=float, metavar="DBM", help="how strongly")
    parser.add_argument("--uuid16", type=_number, metavar="N", help="also print form S, such as 0xFFF0")
    parser.add_argument("--company-id", type=_number, metavar="N", help="also print form M, such as 0x1234")
    parser.add_argument("--tx", type=int, default=-59, metavar="DBM", help="heard at 1 m, for forms S and M")
    given = parser.parse_args()
    if (given.hint == 0) != (given.hint_rssi is None):
        parser.error("--hint and --hint-rssi go together")

    unix_s = int(time.time()) if given.unix is None else given.unix
    flags = OFFERS | ANALYTICS | (HINT if given.hint else 0) if given.flags is None else given.flags
    window, day = window_at(unix_s), day_at(unix_s, given.day_start)
    slot = NOT_REFRESHED if given.not_refreshed else slot_at(unix_s)
    bucket = 0 if given.hint_rssi is None else bucket_of(given.hint_rssi)
    try:
        plain = payload(flags, slot, bucket, given.hint)
        dk = day_key(given.key, given.store, day)
        on_the_air = token(dk, window, plain)
        lines = [
            ("day", day),
            ("window", f"{window}, slot {slot}"),
            ("rid", pseudonym(given.key, given.store, day).hex()),
            ("DK", dk.hex()),
            ("P", plain.hex()),
            ("token", on_the_air.hex()),
            ("UUID", uuid_of(on_the_air)),
            ("form U", form_u(on_the_air).hex(" ")),
        ]
        if given.uuid16 is not None:
            lines.append(("form S", form_s(on_the_air, given.uuid16, given.tx).hex(" ")))
        if given.company_id is not None:
            lines.append(("form M", form_m(on_the_air, given.company_id, given.tx).hex(" ")))
    except (ValueError, OverflowError) as error:
        parser.error(str(error))
    print("\n".join(f"{name:<8}{value}" for name, value in lines))


if __name__ == "__main__":
    main()
