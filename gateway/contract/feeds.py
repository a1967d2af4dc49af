"""Promotions from spreadsheets: Google's Merchant promotions feed and our own tables, as TSV or CSV, and prices and stock.

A table has a header row; a row is a promotion (or a product). Columns are named like the fields of a promotion, which are those
of Google's feed where it has them. Commas separate the cells of a CSV, or semicolons, as spreadsheets save it where the decimal
sign is a comma. What a table cannot hold as it is:

- a language is a suffix: ``long_title[de]``, ``long_title[en]``; without one it is the file's ``language``;
- lists are separated by commas: ``zones``, ``tags``, ``item_id``, ``redemption_channel``;
- windows read ``mon-fri 16:00-20:00; sat 10:00-14:00``;
- ``audience`` and ``image`` are JSON in one cell.

All or nothing: one row that cannot be read refuses the file, and every refusal is told with its row. Columns that mean nothing
here are named, not swallowed. Pure: text in, documents out.

Source: Google Merchant Center Help, promotions feed specification and local inventory feed specification.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from gateway.contract import strict_json
from gateway.contract.fields import Gtin, Language, MoneyText, Strict, explain
from gateway.contract.promotions import Promotion
from gateway.core.sanitiser import printable
from gateway.errors import Untrusted

MOST_ROWS = 100_000
MOST_COLUMNS = 100
MOST_CELL = 5_000
"""Characters; longer than any field may be."""

Format = Literal["tsv", "csv"]
_DELIMITERS: Mapping[Format, str] = {"tsv": "\t", "csv": ","}
_TRANSLATED = frozenset({"long_title", "text", "fine_print"})
_LISTS = frozenset({"zones", "tags", "item_id", "redemption_channel"})
_NUMBERS = frozenset(
    {
        "percent_off",
        "limit_quantity",
        "dwell_s",
        "visit_number",
        "priority",
        "visit_cap",
        "daily_cap",
        "weekly_cap",
        "lifetime_cap",
        "store_cap_day",
        "chain_cap_day",
        "quantity",
        "quantity_per_store",
        "reservation_s",
        "holdout_percent",
        "cool_down_s",
        "deadline_s",
    }
)
_JSON = frozenset({"audience", "image"})
"""As in a JSON file, in one cell."""
_DATES = frozenset({"promotion_effective_dates", "promotion_display_dates"})
_WORDS = frozenset({"offer_type", "redemption_channel", "kind", "trigger", "availability"})
"""Google writes some of them in capitals."""
_TRUTHS = frozenset({"sensitive"})
_COLUMN = re.compile(r"(?P<field>[a-z0-9_]+)(\[(?P<language>[a-z]{2})\])?")
_WINDOW = re.compile(
    r"(?:(?P<days>[a-z]{3}(?:-[a-z]{3})?(?:,[a-z]{3}(?:-[a-z]{3})?)*) ?)?(?:(?P<start>\d\d:\d\d)-(?P<end>\d\d:\d\d))?"
)
_DATE = re.compile(r"(?P<minute>\d{4}-\d\d-\d\dT\d\d:\d\d)(?P<seconds>:\d\d)?(?P<zone>Z|[+-]\d\d:?\d\d)")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_GOOGLE_ONLY = frozenset(
    {
        "product_applicability",
        "promotion_destination",
        "promotion_price",
        "store_applicability",
        "store_code",
        "minimum_purchase_quantity",
        "get_this_quantity_discounted",
        "free_shipping",
        "free_gift_value",
        "free_gift_description",
        "free_gift_item_id",
        "coupon_value_type",
        "member_price_to",
        "brand",
        "product_type",
        "item_group_id",
        "brand_exclusion",
        "product_type_exclusion",
        "item_id_exclusion",
        "item_group_id_exclusion",
        "limit_value",
        "image_link",
        "target_country",
        "currency",
        "language",
    }
)
"""Of the feed, without a meaning at the shelf: passed over, and named once."""


@dataclass(frozen=True, slots=True)
class RowProblem:
    """Why a row was refused."""

    row: int
    """As a spreadsheet counts: the header is row 1. 0: the file as a whole."""
    what: str


@dataclass(frozen=True, slots=True)
class Table:
    """What a file holds, or why it is refused."""

    rows: tuple[Any, ...]
    problems: tuple[RowProblem, ...]
    passed_over: tuple[str, ...] = ()
    """Columns that mean nothing here."""


class StockLine(Strict):
    """Price and availability of one product in one store (local inventory feed)."""

    gtin: Gtin
    price: MoneyText | None = None
    sale_price: MoneyText | None = None
    quantity: Annotated[int, Field(ge=0, le=10_000_000)] | None = None
    """Pieces in the store; absent: not counted."""
    availability: Literal["in_stock", "limited_availability", "on_display_to_order", "out_of_stock"] | None = None

    @property
    def is_sold_out(self) -> bool:
        """Whether nobody can buy it here now."""
        return self.quantity == 0 or self.availability == "out_of_stock"


def promotions_of(
    text: str, format_: Format, *, language: Language = "de", zones: tuple[str, ...] = (), tags: tuple[str, ...] = ()
) -> Table:
    """The promotions of a table; ``zones`` and ``tags`` are given to rows that name neither, as Google's feed does."""
    read = _Reading(text, format_)
    known = set(Promotion.model_fields)
    fields: list[tuple[str, str | None] | None] = []
    passed_over = []
    for column in read.header:
        match = _COLUMN.fullmatch(column)
        field, tongue = (match["field"], match["language"]) if match else (column, None)
        if field in known and (tongue is None or field in _TRANSLATED):
            fields.append((field, tongue or (language if field in _TRANSLATED else None)))
        else:
            fields.append(None)
            if field in _GOOGLE_ONLY or match is None or tongue is None:
                passed_over.append(column)
            else:
                read.problem(1, f"column {printable(column, 60)}: {field} has no languages")
    for needed in ("promotion_id", "long_title"):
        if read.header and not any(field is not None and field[0] == needed for field in fields):
            read.problem(1, f"column {needed} is missing")
    promotions: list[Promotion] = []
    first_row: dict[str, int] = {}
    for number, cells in read.rows():
        try:
            document = _document(fields, cells)
            if "zones" not in document and "tags" not in document:
                document |= {"zones": zones, "tags": tags}
            promotion = Promotion.model_validate(document)
        except ValidationError as error:
            read.problem(number, printable(explain(error), 600))
            continue
        except ValueError as error:
            read.problem(number, printable(error, 600))
            continue
        earlier = first_row.setdefault(promotion.promotion_id, number)
        if earlier != number:
            read.problem(number, f"promotion_id {promotion.promotion_id} stands in row {earlier} already")
            continue
        promotions.append(promotion)
    return read.table(promotions, tuple(printable(column, 60) for column in passed_over))


def stock_of(text: str, format_: Format) -> Table:
    """The lines of a local inventory table: ``gtin`` or ``id``, ``price``, ``sale_price``, ``quantity``, ``availability``."""
    read = _Reading(text, format_)
    names = ["gtin" if column in {"id", "itemid"} else column for column in read.header]
    if read.header and "gtin" not in names:
        read.problem(1, "column gtin is missing")
    if names.count("gtin") > 1:
        read.problem(1, "gtin and id are one column here, and both are there")
    passed_over = tuple(
        printable(column, 60) for column, name in zip(read.header, names, strict=True) if name not in StockLine.model_fields
    )
    lines: dict[str, StockLine] = {}
    for number, cells in read.rows():
        document: dict[str, Any] = {
            name: cell.strip()
            for name, cell in zip(names, cells, strict=False)
            if name in StockLine.model_fields and cell.strip()
        }
        if "availability" in document:
            document["availability"] = document["availability"].replace(" ", "_")
        try:
            if "quantity" in document:
                document["quantity"] = _number("quantity", document["quantity"])
            line = StockLine.model_validate(document)
        except ValidationError as error:
            read.problem(number, printable(explain(error), 600))
            continue
        except ValueError as error:
            read.problem(number, printable(error, 600))
            continue
        if line.gtin in lines:
            read.problem(number, f"{line.gtin} stands in the table already")
            continue
        lines[line.gtin] = line
    return read.table([*lines.values()], passed_over)


def windows_of(text: str) -> list[dict[str, Any]]:
    """Windows as a spreadsheet holds them; ``ValueError`` for what is none.

    >>> windows_of("mon-wed,fri 16:00-20:00; sun")
    [{'weekdays': ['mon', 'tue', 'wed', 'fri'], 'start': '16:00', 'end': '20:00'}, {'weekdays': ['sun']}]
    """
    windows = []
    for part in filter(None, (part.strip().lower() for part in text.split(";"))):
        match = _WINDOW.fullmatch(part)
        if match is None:
            raise ValueError(f"windows: {part} is none; write mon-fri 16:00-20:00")
        window: dict[str, Any] = {}
        if match["days"]:
            window["weekdays"] = [day for span in match["days"].split(",") for day in _days(span)]
        if match["start"]:
            window |= {"start": match["start"], "end": match["end"]}
        windows.append(window)
    return windows


def _days(span: str) -> list[str]:
    first, _, last = span.partition("-")
    for day in filter(None, (first, last)):
        if day not in _DAYS:
            raise ValueError(f"windows: {day} is no weekday ({', '.join(_DAYS)})")
    begin, end = _DAYS.index(first), _DAYS.index(last or first)
    return [_DAYS[day % 7] for day in range(begin, end + 1 if end >= begin else end + 8)]


def _document(fields: list[tuple[str, str | None] | None], cells: list[str]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for place, cell in zip(fields, cells, strict=False):
        value = cell.strip()
        if place is None or not value:
            continue
        field, language = place
        if language is not None:
            document.setdefault(field, {})[language] = value
        elif field in _LISTS:
            listed = [each.strip() for each in value.split(",") if each.strip()]
            document[field] = [each.lower() for each in listed] if field in _WORDS else listed
        elif field in _DATES:
            document[field] = "/".join(map(_date, value.split("/")))
        elif field in _WORDS:
            document[field] = value.lower()
        elif field == "windows":
            document[field] = windows_of(value)
        elif field in _NUMBERS:
            document[field] = _number(field, value)
        elif field in _JSON:
            document[field] = _parsed(field, value)
        elif field in _TRUTHS:
            document[field] = _truth(field, value)
        else:
            document[field] = value
    return document


def _date(text: str) -> str:
    """RFC 3339 of what the feed also allows: no seconds, and a time zone without a colon (ISO 8601)."""
    match = _DATE.fullmatch(text.strip())
    if match is None:
        return text.strip()
    seconds, zone = match["seconds"] or ":00", match["zone"]
    return f"{match['minute']}{seconds}{zone if zone == 'Z' or ':' in zone else f'{zone[:3]}:{zone[3:]}'}"


def _number(field: str, value: str) -> int:
    value = value.removesuffix("%").rstrip() if field == "percent_off" else value
    if not re.fullmatch(r"-?[0-9]{1,9}", value):
        raise ValueError(f"{field}: {value} is no whole number")
    return int(value)


def _parsed(field: str, value: str) -> Any:
    try:
        return strict_json.parse(value.encode(), field)
    except Untrusted as error:
        raise ValueError(f"{field}: {error.what}") from error


def _truth(field: str, value: str) -> bool:
    if value.lower() not in {"yes", "no", "true", "false"}:
        raise ValueError(f"{field}: yes or no was expected, not {value}")
    return value.lower() in {"yes", "true"}


def _delimiter(text: str, format_: Format) -> str:
    """What separates cells; a CSV is told by its header, outside of quotes."""
    header = re.sub(r'"[^"]*"', "", re.split(r"[\r\n]", text, maxsplit=1)[0])
    return ";" if format_ == "csv" and ";" in header and "," not in header else _DELIMITERS[format_]


class _Reading:
    """One table being read, with what is wrong with it."""

    def __init__(self, text: str, format_: Format) -> None:
        self._problems: list[RowProblem] = []
        text = text.removeprefix("\ufeff")
        reader = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=_delimiter(text, format_),
            strict=True,
            # Tab-separated files come without quotes, and an inch sign is no quotation.
            quoting=csv.QUOTE_NONE if format_ == "tsv" else csv.QUOTE_MINIMAL,
        )
        self._lines = self._checked(reader)
        self.header = [cell.strip().lower().replace(" ", "_") for cell in next(self._lines, (0, []))[1]]
        if not self.header:
            self.problem(0, "it is empty: a header row was expected")
        twice = sorted({name for name in self.header if name and self.header.count(name) > 1})
        if twice:
            self.problem(1, f"column {printable(twice[0], 60)} occurs twice")

    def problem(self, row: int, what: str) -> None:
        self._problems.append(RowProblem(row, what))

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Rows with as many cells as the header, from row 2; empty ones are passed over."""
        count = 0
        for number, cells in self._lines:
            if not any(cell.strip() for cell in cells):
                continue
            count += 1
            if count > MOST_ROWS:
                self.problem(number, f"more than {MOST_ROWS} rows")
                return
            if len(cells) > len(self.header) and any(cell.strip() for cell in cells[len(self.header) :]):
                self.problem(number, f"{len(cells)} cells under {len(self.header)} columns")
                continue
            yield number, cells[: len(self.header)]

    def table(self, rows: list[Any], passed_over: tuple[str, ...]) -> Table:
        """All or nothing."""
        return Table(() if self._problems else tuple(rows), tuple(self._problems), passed_over)

    def _checked(self, reader: Any) -> Iterator[tuple[int, list[str]]]:
        number = 0
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                self.problem(number + 1, f"it cannot be read as a table: {error}")
                return
            number += 1
            if len(cells) > MOST_COLUMNS or any(len(cell) > MOST_CELL for cell in cells):
                self.problem(number, f"more than {MOST_COLUMNS} columns, or a cell of more than {MOST_CELL} characters")
                return
            yield number, cells
