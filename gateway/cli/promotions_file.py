"""Promotions as a file on the command line: JSON, or a table (.tsv, .csv) as Google's feed and spreadsheets have them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.contract import strict_json
from gateway.contract.feeds import Format, RowProblem, StockLine, promotions_of, stock_of
from gateway.contract.fields import Language
from gateway.errors import ConfigurationError, Untrusted
from gateway.io.input_file import read_input

_TABLES: dict[str, Format] = {".tsv": "tsv", ".txt": "tsv", ".csv": "csv"}
_SHOWN_PROBLEMS = 10


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


def refuse(problems: tuple[RowProblem, ...], file: Path) -> None:
    """``ConfigurationError`` when there are any."""
    if problems:
        told = "; ".join(told_of(problem) for problem in problems[:_SHOWN_PROBLEMS])
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
