"""What is said of a name that does not exist: the one that was probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches

from gateway.core.sanitiser import printable

_SHOWN = 10
_MAX_NAME = 60
"""Longer than any name; the comparison takes time that grows with it."""


def no_such(kind: str, name: str, known: Iterable[str]) -> str:
    """One sentence about a name that is none of ``known``.

    >>> no_such("zone", "dary", ["bakery", "dairy"])
    'there is no zone dary; did you mean dairy?'
    >>> no_such("zone", "garden", ["bakery", "dairy"])
    'there is no zone garden; there are: bakery, dairy.'
    >>> no_such("beacon", "shelf-7", [])
    'there is no beacon shelf-7; there is none at all.'
    """
    names = sorted(known)
    sentence = f"there is no {kind} {printable(name, _MAX_NAME)}; "
    close = meant(name, names)
    if close is not None:
        return f"{sentence}{close}"
    return sentence + (f"there are: {listed(names)}." if names else "there is none at all.")


def meant(name: str, known: Iterable[str]) -> str | None:
    """The question after a name that is none of ``known``; ``None`` where it resembles none of them.

    >>> meant("segmnets", ["segments", "stopped"])
    'did you mean segments?'
    """
    close = get_close_matches(name[:_MAX_NAME], sorted(known), cutoff=0.7)
    return f"did you mean {' or '.join(close)}?" if close else None


def listed(names: Iterable[str]) -> str:
    """The first ten of some names.

    >>> listed("abcdefghijklm")
    'a, b, c, d, e, f, g, h, i, j, … (3 more)'
    """
    every = list(names)
    more = len(every) - _SHOWN
    return ", ".join(every[:_SHOWN]) + (f", … ({more} more)" if more > 0 else "")
