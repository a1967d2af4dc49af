"""The shopper token on the air: three forms of AD structure ↔ `ShopperToken`.

::

    form U  type 07  token ×16, byte-reversed                                       complete list of 128-bit service UUIDs
    form S  type 16  uuid ×2 (LE) | 11 | tx ×1 (int8, dBm at 1 m) | token ×16       service data, the chain's 16-bit UUID
    form M  type FF  company ×2 (LE) | 11 | tx ×1 (int8, dBm at 1 m) | token ×16    manufacturer data, the chain's company

The token is big-endian; form U reverses it because a list of UUIDs is little-endian: 16 octets read as one UUID, printed
without dashes, are the token again. ``11`` is the length of what follows. Forms S and M claim the format by the chain's own
identifier, so what breaks them is a `Reject`. Form U has no fixed octet: every phone's single UUID is a candidate that only
the roster can tell from a token, so form U never rejects. Never raises for any bytes.

Source: shopper token, version 1, "On the air".
"""

import struct
from collections.abc import Callable
from typing import Final

from gateway.core.ad_structures import COMPLETE_UUIDS_128, MANUFACTURER_DATA, SERVICE_DATA_16, AdStructure
from gateway.core.model import Reject, ShopperToken

TOKEN_SIZE: Final = 16
"""Octets of a token."""

_INNER_LENGTH: Final = 0x11
_LAYOUT: Final = struct.Struct("<HBb16s")
_SIZE: Final = 20


def decode_u(data: bytes) -> ShopperToken | None:
    """The candidate in a complete list of 128-bit UUIDs; ``None`` unless the list holds exactly one.

    >>> decode_u(bytes.fromhex("c5d831be9f5260619d328af8da61408a")).token.hex()
    '8a4061daf88a329d6160529fbe31d8c5'
    """
    if len(data) != TOKEN_SIZE:
        return None
    return ShopperToken("U", data[::-1], None)


def decode_u_of(knows: Callable[[bytes], bool]) -> Callable[[bytes], ShopperToken | None]:
    """As `decode_u` for tokens whose ephemeral identifier (8 bytes) is known: a stranger's UUID must not become an object.

    >>> decode_u_of(lambda eid: False)(bytes.fromhex("c5d831be9f5260619d328af8da61408a")) is None
    True
    """

    def decode(data: bytes) -> ShopperToken | None:
        if len(data) != TOKEN_SIZE:
            return None
        token = data[::-1]
        return ShopperToken("U", token, None) if knows(token[:8]) else None

    return decode


def decode_s(data: bytes) -> ShopperToken | Reject:
    """The token in service data that begin with the chain's 16-bit UUID; `Reject` for any other length, outside or inside.

    >>> decode_s(bytes.fromhex("f0ff 11 c5 8a4061daf88a329d6160529fbe31d8c5")).tx_power_dbm
    -59
    >>> decode_s(bytes.fromhex("f0ff 10 c5 8a4061daf88a329d6160529fbe31d8c5"))
    Reject(format='shopper', kind='length')
    """
    if len(data) != _SIZE or data[2] != _INNER_LENGTH:
        return Reject("shopper", "length")
    _, _, tx_power_dbm, token = _LAYOUT.unpack(data)
    return ShopperToken("S", token, tx_power_dbm)


def decode_m(data: bytes) -> ShopperToken | Reject:
    """The token in manufacturer data that begin with the chain's company identifier; otherwise as `decode_s`."""
    if len(data) != _SIZE or data[2] != _INNER_LENGTH:
        return Reject("shopper", "length")
    _, _, tx_power_dbm, token = _LAYOUT.unpack(data)
    return ShopperToken("M", token, tx_power_dbm)


def encode(shopper: ShopperToken, *, service_uuid16: int | None = None, company_id: int | None = None) -> AdStructure:
    """The AD structure of ``shopper`` in its own form; form S needs ``service_uuid16``, form M ``company_id``.

    Raises ``ValueError`` for a token of another length than 16 octets, for a form whose setting is missing, and for a power that
    the form cannot carry (form U carries none, S and M always one of −128 … 127 dBm).

    >>> from gateway.core import ad_structures
    >>> token = bytes.fromhex("8a4061daf88a329d6160529fbe31d8c5")
    >>> ad_structures.encode([encode(ShopperToken("U", token, None))]).hex()
    '1107c5d831be9f5260619d328af8da61408a'
    >>> ad_structures.encode([encode(ShopperToken("S", token, -59), service_uuid16=0xFFF0)]).hex()
    '1516f0ff11c58a4061daf88a329d6160529fbe31d8c5'
    """
    if len(shopper.token) != TOKEN_SIZE:
        raise ValueError(f"a token has {TOKEN_SIZE} octets, not {len(shopper.token)}")
    if shopper.form == "U":
        if shopper.tx_power_dbm is not None:
            raise ValueError("form U cannot carry a power")
        return AdStructure(COMPLETE_UUIDS_128, shopper.token[::-1])
    ad_type, key = (SERVICE_DATA_16, service_uuid16) if shopper.form == "S" else (MANUFACTURER_DATA, company_id)
    if key is None:
        raise ValueError(f"form {shopper.form} needs the chain's own identifier")
    if shopper.tx_power_dbm is None:
        raise ValueError(f"form {shopper.form} carries a power")
    try:
        data = _LAYOUT.pack(key, _INNER_LENGTH, shopper.tx_power_dbm, shopper.token)
    except struct.error as error:
        raise ValueError(f"identifier or power does not fit its octets: {error}") from error
    return AdStructure(ad_type, data)
