"""Tables for people: plain text in aligned columns, safe to print whatever the cells hold."""

from collections.abc import Sequence

from gateway.cli.places import place_text
from gateway.core.sanitiser import printable

ABSENT = "–"
_GAP = "  "


def columns(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """One line for the header and one for each row.

    >>> for line in columns(("zone", "tags"), [("dairy", ["food", "chilled"]), ("bakery", [])]): print(line)
    zone    tags
    dairy   food, chilled
    bakery  –
    """
    cells = [list(header), *([text_of(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return [_GAP.join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def text_of(value: object) -> str:
    """One cell.

    >>> text_of(True), text_of(None), text_of(()), text_of(["a", "b"]), text_of(-88.0), text_of((3.5, 2.0))
    ('yes', '–', '–', 'a, b', '-88', '3.5,2')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], float):
        return place_text((value[0], value[1]))
    if isinstance(value, list | tuple):
        return printable(", ".join(text_of(each) if isinstance(each, tuple) else str(each) for each in value)) or ABSENT
    return ABSENT if value is None else printable(value) or ABSENT
