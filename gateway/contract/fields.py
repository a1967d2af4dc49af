"""Field types that several contract models share: names, identifiers and times as they are on the wire."""

import functools
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import ErrorDetails

from gateway.core.model import QuietHours
from gateway.core.money import Money
from gateway.core.sanitiser import printable
from gateway.core.spelling import meant

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = 253_402_300_799_999
"""The end of the year 9999, beyond which RFC 3339 cannot write."""
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")


class Strict(BaseModel):
    """Immutable, and a misspelt key is an error. Built with its first use: no process needs more than a part of the contract."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


@functools.lru_cache(maxsize=1024)
def to_rfc3339(wall_ms: int) -> str:
    """UTC with milliseconds. Events share the moments of ticks, so most have been written before.

    >>> to_rfc3339(1790000437123)
    '2026-09-21T14:20:37.123Z'
    """
    return (_EPOCH + timedelta(milliseconds=wall_ms)).isoformat(timespec="milliseconds")[:-6] + "Z"


@functools.lru_cache(maxsize=1024)
def from_rfc3339(text: str) -> int:
    """Wall milliseconds; ``ValueError`` for anything but RFC 3339 with a zone, between 1970 and 9999. Answers come in bursts.

    >>> from_rfc3339("2026-09-21T16:20:37.123+02:00")
    1790000437123
    """
    if not _RFC3339.fullmatch(text):
        raise ValueError("a time as in 2026-09-21T14:20:37.123Z was expected")
    wall_ms = (datetime.fromisoformat(text) - _EPOCH) // timedelta(milliseconds=1)
    if not 0 <= wall_ms <= _LAST_MS:
        raise ValueError("a time from 1970 to 9999 was expected")
    return wall_ms


def _parse_time(value: Any) -> Any:
    return from_rfc3339(value) if isinstance(value, str) else value


WallTime = Annotated[
    int,
    Field(ge=0, le=_LAST_MS),
    BeforeValidator(_parse_time),
    PlainSerializer(to_rfc3339, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""Wall milliseconds in memory, RFC 3339 on the wire."""

StoreId = Annotated[str, StringConstraints(pattern=r"^([0-9]{13}|[a-z0-9-]{1,32})$")]
"""GLN-13, or a short name."""
GatewayId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,32}$")]
"""Names one gateway of a store."""
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,47}$")]
"""Zones, anchors, tags: what a technician types."""
InboxId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""Names the inbox of one app installation, unlike any other; app and central agree on it, and no gateway ever learns it."""
PromotionId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,50}$")]
"""At most 50 characters (Google Merchant promotions feed, promotion_id)."""
Language = Literal["de", "en"]
Pseudonym = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
"""The shopper's name in this store on this day: ``rid`` in hexadecimal."""
Epoch = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
"""Names one life of a gateway's database: 8 random bytes, new with each new or restored file, in hexadecimal."""
SequenceNumber = Annotated[int, Field(ge=1, le=2**53 - 1)]
"""What JSON carries exactly (RFC 8259, section 6) and SQLite can store."""
OpaqueId = Annotated[str, StringConstraints(pattern=r"^[0-9a-zA-Z-]{1,64}$")]
KeyHex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A key of 32 bytes, in hexadecimal."""


def check_digit(value: str) -> str:
    """The same digits; ``ValueError`` when the last one is wrong.

    GS1 General Specifications, 7.9: weights 3 and 1 from the right, the sum is a multiple of ten.
    """
    if sum(int(digit) * (3 if index % 2 else 1) for index, digit in enumerate(reversed(value))) % 10:
        raise ValueError("its check digit is wrong")
    return value


Gtin = Annotated[str, StringConstraints(pattern=r"^([0-9]{8}|[0-9]{12,14})$"), AfterValidator(check_digit)]
"""A product's number (GTIN-8, -12, -13 or -14) with its check digit."""
MoneyText = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}(\.[0-9]{1,2})? [A-Z]{3}$")]
"""A decimal amount and its currency (ISO 4217), as the Google Merchant feeds write it."""


SignedMoneyText = Annotated[str, StringConstraints(pattern=r"^-?[0-9]{1,9}(\.[0-9]{1,2})? [A-Z]{3}$")]
"""As `MoneyText`, and with a minus sign what is given back."""


def to_money(text: str) -> Money:
    """The amount of a `MoneyText` or `SignedMoneyText`; ``ValueError`` for anything without a currency.

    >>> to_money("12.50 EUR")
    Money(amount=Decimal('12.50'), currency='EUR')
    """
    amount, _, currency = text.partition(" ")
    if not currency:
        raise ValueError("an amount with its currency as in 12.50 EUR was expected")
    return Money(Decimal(amount), currency)


def minutes_of(clock: str) -> int:
    """Minutes after midnight.

    >>> minutes_of("17:30")
    1050
    """
    hours, minutes = clock.split(":")
    return 60 * int(hours) + int(minutes)


ClockTime = Annotated[str, StringConstraints(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$")]
"""Hours and minutes in the store's time zone."""


class QuietHoursEntry(Strict):
    """Nothing is pushed from ``start`` until ``end``; an ``end`` not after ``start`` is on the next day."""

    start: ClockTime
    end: ClockTime

    def compiled(self) -> QuietHours:
        """Minutes after local midnight."""
        return QuietHours(minutes_of(self.start), minutes_of(self.end))


def _pattern(type_: Any) -> str:
    """Of a text with one."""
    return next(str(each.pattern) for each in type_.__metadata__ if isinstance(each, StringConstraints))


_AMOUNT = "amount: write it with its currency as in 12.50 EUR"
_TIME_OF_DAY = "time of day: write it as in 08:30"
_THE_SHOPS: dict[str, str] = {
    _pattern(Name): "name: use up to 48 small letters, digits, - and _, beginning with a letter or digit",
    _pattern(StoreId): "store: use up to 32 small letters, digits and -, or its GLN of 13 digits",
    _pattern(GatewayId): "name: use up to 32 small letters, digits and -",
    _pattern(PromotionId): "name: use up to 50 letters, digits, _ . and -",
    _pattern(Gtin): "product's number: a GTIN has 8, 12, 13 or 14 digits",
    _pattern(MoneyText): _AMOUNT,
    _pattern(SignedMoneyText): _AMOUNT,
    _pattern(ClockTime): _TIME_OF_DAY,
    r"^([01][0-9]|2[0-3]):[0-5][0-9]$": _TIME_OF_DAY,
    r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$": "UUID: write it as in f7826da6-4fa2-4e98-8024-bc5b71e0893e",
    r"^https://": "address: begin it with https://",
    r"^[A-Z]{3}$": "currency: write it as in EUR",
}
"""By pattern, what the text is none of. What was given is told, because it is the shop's; of other texts, which may be a phone's
or a shopper's, it is not."""
_OTHERS: dict[str, str] = {
    _pattern(InboxId): "inbox: use up to 64 letters, digits, - and _",
    _pattern(OpaqueId): "id: use up to 64 letters, digits and -",
    r"^([0-9a-f]{1,16}-)?d[1-9][0-9]{0,17}$": "decision: write it as in 3f9c1a2b-d142",
    r"^(hci[0-9]{1,2}|[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5})$": "adapter: write hci0, or its address",
}
_HEXADECIMAL = re.compile(r"\^\[0-9a-f(?P<capitals>A-F)?\]\{(?P<digits>\d+)\}\$")
_LONGEST_SHOWN = 60


def explain(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """The first three problems of a validation, each with its path, in plain words; of a ``model`` also which key was meant."""
    problems = []
    for problem in error.errors(include_url=False)[:3]:
        # A key that is wrong stands at the end of its path already.
        path = tuple(str(part) for part in problem["loc"] if part != "[key]")
        said = ": ".join(filter(None, (".".join(path), _in_words(problem))))
        close = None if model is None or problem["type"] != "extra_forbidden" else meant(path[-1], _keys_at(model, path[:-1]))
        problems.append(said if close is None else f"{said}; {close}")
    more = error.error_count() - len(problems)
    text = "; ".join(problems) + (f"; and {more} more" if more else "")
    return text if text.endswith(("?", ".")) else f"{text}."


def _in_words(problem: ErrorDetails) -> str:
    match problem["type"]:
        case "missing":
            return "is missing"
        case "value_error":
            return problem["msg"].removeprefix("Value error, ")
        case "model_type":
            return "an object was expected"
        case "string_pattern_mismatch":
            return _unlike(problem["ctx"]["pattern"], problem["input"])
    return problem["msg"]


def _unlike(pattern: str, given: Any) -> str:
    if pattern in _THE_SHOPS:
        return f"{printable(given, _LONGEST_SHOWN) or 'nothing'} is no {_THE_SHOPS[pattern]}"
    hexadecimal = _HEXADECIMAL.fullmatch(pattern)
    if hexadecimal is not None:
        small = "" if hexadecimal["capitals"] else ", in small letters"
        return f"write it with {hexadecimal['digits']} hexadecimal digits{small}"
    return f"is no {_OTHERS[pattern]}" if pattern in _OTHERS else f"is no text like {pattern}"


def _keys_at(model: type[BaseModel], path: tuple[str, ...]) -> set[str]:
    """What an object at ``path`` may hold; that of a union's members together, whose tags stand in the path, too."""
    schema = model.model_json_schema()
    here = _whole(schema, schema)
    for part in path:
        inner = [
            each
            for one in here
            for each in (
                one.get("properties", {}).get(part),
                *one.get("patternProperties", {}).values(),
                one.get("additionalProperties"),
                one.get("items"),
            )
            if isinstance(each, dict)
        ]
        here = [whole for each in inner for whole in _whole(each, schema)] or here
    return {key for one in here for key in one.get("properties", {})}


def _whole(part: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    """A part of a JSON schema with what it refers to and chooses from."""
    if "$ref" in part:
        return _whole(schema["$defs"][part["$ref"].rpartition("/")[2]], schema)
    return [part, *(whole for chosen in ("anyOf", "oneOf") for each in part.get(chosen, ()) for whole in _whole(each, schema))]
