"""The one sanitiser: whatever comes from outside passes here before it is printed or logged."""

import unicodedata

_BIDI_AND_BREAKS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029\ufeff")


def printable(text: object, limit: int = 200) -> str:
    r"""Return ``text`` on one line without anything that can steer a terminal or a log: C0, C1, DEL, bidi, surrogates.

    Such characters appear as ``\xNN`` or ``\uNNNN``; what is longer than ``limit`` characters is cut with an ellipsis.

    >>> printable("zone\x1b[31m\u202eevil\n")
    'zone\\x1b[31m\\u202eevil\\x0a'
    >>> printable("äöü € 漢字")
    'äöü € 漢字'
    """
    safe = "".join(_escaped(c) if _is_unsafe(c) else c for c in str(text)[: limit + 1])
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"


def _is_unsafe(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Cs", "Cn"} or character in _BIDI_AND_BREAKS


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
