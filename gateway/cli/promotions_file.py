"""Promotions as a file on the command line: JSON, or a table (.tsv, .csv) as Google's feed and spreadsheets have them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gateway.contract import strict_json
from gateway.contract.downlinks import ShopperContext
from gateway.contract.feeds import Format, RowProblem, StockLine, promotions_of, stock_of
from gateway.contract.fields import Language, explain
from gateway.contract.promotion_lint import LARGEST_IMAGE_BYTES, Asset
from gateway.core import conditions
from gateway.core.sanitiser import printable
from gateway.core.spelling import no_such
from gateway.errors import ConfigurationError, Untrusted
from gateway.io.input_file import read_input

_TABLES: dict[str, Format] = {".tsv": "tsv", ".txt": "tsv", ".csv": "csv"}
_SHOWN_PROBLEMS = 10
_LARGEST_ASSET = 64 * LARGEST_IMAGE_BYTES
"""Of larger files, which are too large anyway, no checksum is made."""


@dataclass(frozen=True, slots=True)
class TableDefaults:
    """What a table's rows get that do not say it themselves."""

    language: Language = "de"
    zones: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PromotionsInput:
    """A file as it was read."""

    document: Mapping[str, Any]
    """As in a JSON file; without promotions where a table has problems."""
    problems: tuple[RowProblem, ...] = ()
    passed_over: tuple[str, ...] = ()
    """Columns of a table that mean nothing here."""


def read_promotions(file: Path, defaults: TableDefaults = TableDefaults()) -> PromotionsInput:
    """A promotions file by its suffix, JSON where it has none of a table; ``ConfigurationError`` when it cannot be read."""
    octets = read_input(file, strict_json.MAX_BYTES)
    format_ = _TABLES.get(file.suffix.lower())
    if format_ is None:
        try:
            return PromotionsInput(strict_json.parse(octets, str(file)))
        except Untrusted as error:
            raise ConfigurationError(error.what, where=str(file), do="Correct the file. Nothing was changed.") from error
    table = promotions_of(_text(octets, file), format_, language=defaults.language, zones=defaults.zones, tags=defaults.tags)
    promotions = [promotion.model_dump(mode="json", exclude_unset=True) for promotion in table.rows]
    return PromotionsInput({"promotions": promotions}, table.problems, table.passed_over)


def read_stock(file: Path) -> dict[str, StockLine]:
    """A local inventory table by GTIN; ``ConfigurationError`` names the rows that are wrong."""
    format_ = _TABLES.get(file.suffix.lower())
    if format_ is None:
        raise ConfigurationError("a table was expected.", where=str(file), do="Name a .tsv or .csv file.")
    table = stock_of(_text(read_input(file, strict_json.MAX_BYTES), file), format_)
    refuse(table.problems, file)
    return {line.gtin: line for line in table.rows}


def read_assets(folder: Path) -> dict[str, Asset]:
    """The files of a folder by name; ``ConfigurationError`` when it cannot be read."""
    found = {}
    try:
        for path in sorted(folder.iterdir()):
            if path.is_file():
                octets = path.read_bytes() if path.stat().st_size <= _LARGEST_ASSET else b""
                found[path.name] = Asset(hashlib.sha256(octets).hexdigest(), path.stat().st_size, octets[:12])
    except OSError as error:
        raise ConfigurationError(
            f"cannot be read ({error.strerror}).", where=str(error.filename or folder), do="Name the folder with the pictures."
        ) from error
    return found


def read_contexts(file: Path) -> list[conditions.ShopperContext]:
    """Sample shoppers: a JSON list of contexts, each with the fields of shopper.context.v1 that an audience asks for."""
    octets = read_input(file, strict_json.MAX_BYTES)
    try:
        document = strict_json.parse(b'{"contexts":' + octets + b"}", str(file))
        if not isinstance(document["contexts"], list) or not document["contexts"]:
            raise ValueError("a list with at least one was expected")  # noqa: TRY301 -- told like the others
        return [context_of(each) for each in document["contexts"]]
    except (Untrusted, ValueError, TypeError) as error:
        what = error.what if isinstance(error, Untrusted) else printable(error, 600)
        raise ConfigurationError(
            f"is no list of contexts ({what}).", where=str(file), do='Write it like [{"segments": ["family"]}].'
        ) from error


def context_of(known: Mapping[str, Any]) -> conditions.ShopperContext:
    """What is known of a shopper; ``ValueError`` for a field that no context has, or a value that is none."""
    if not isinstance(known, Mapping):
        raise ValueError("an object was expected")  # noqa: TRY004 -- of the file, and told like the others
    envelope = {"store": "preview", "version": 1, "not_after": 0, "shopper": "0" * 16}
    fields = ShopperContext.model_fields.keys() - envelope.keys() - {"type"}
    for field in known.keys() - fields:
        raise ValueError(no_such("field", field, fields))
    try:
        return ShopperContext.model_validate({**envelope, **known}).compiled()
    except ValidationError as error:
        raise ValueError(explain(error)) from error


def refuse(problems: tuple[RowProblem, ...], file: Path) -> None:
    """``ConfigurationError`` when there are any."""
    if problems:
        told = "; ".join(told_of(problem).removesuffix(".") for problem in problems[:_SHOWN_PROBLEMS])
        more = f"; and {len(problems) - _SHOWN_PROBLEMS} more" if len(problems) > _SHOWN_PROBLEMS else ""
        raise ConfigurationError(f"{told}{more}.", where=str(file), do="Nothing was changed.")


def told_of(problem: RowProblem) -> str:
    """The problem with its row."""
    return f"row {problem.row}: {problem.what}" if problem.row else problem.what


def _text(octets: bytes, file: Path) -> str:
    if len(octets) > strict_json.MAX_BYTES:
        raise ConfigurationError(
            f"longer than {strict_json.MAX_BYTES // 1024} KiB.", where=str(file), do="Split it. Nothing was changed."
        )
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"no UTF-8 at octet {error.start}.", where=str(file), do="Save it as UTF-8. Nothing was changed."
        ) from error
