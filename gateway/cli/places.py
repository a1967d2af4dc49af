"""Places on the command line: ``X,Y`` in metres of the shop's plan."""

import re

import typer

_NUMBER = r"[+-]?(?:[0-9]{1,5})(?:\.[0-9]{1,3})?"
_PLACE = re.compile(rf"({_NUMBER}),({_NUMBER})")


def place_of(text: str, option: str) -> tuple[float, float]:
    """Metres east and north; ``typer.BadParameter`` for anything else.

    >>> place_of("3.5,-2", "--at")
    (3.5, -2.0)
    """
    found = _PLACE.fullmatch(text)
    if found is None:
        raise typer.BadParameter("is no place; write metres as X,Y, such as 3.5,2", param_hint=option)
    return float(found[1]), float(found[2])


def place_text(place: tuple[float, float]) -> str:
    """As ``place_of`` reads it.

    >>> place_text((3.5, -2.0))
    '3.5,-2'
    """
    return f"{place[0]:g},{place[1]:g}"
