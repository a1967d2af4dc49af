"""JSON as we accept it from outside: bounded in size and depth, no NaN, no duplicate keys, no lone surrogates.

``json.loads`` alone takes all of these and raises ``RecursionError`` on deep nesting.
"""

import json
import math
import re
from typing import Any

from gateway.errors import Untrusted

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 16
_BRACKETS = re.compile(rb'(?>"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[^"\[\]{}]+)*+([\[\]{}]+|\Z)', re.DOTALL)
"""Brackets behind strings, also one that never ends, and whatever else is no bracket. Nothing is tried twice: it is one pass."""
_NEITHER = bytes(set(range(256)) - set(b'"[]{}'))
"""What is neither a quote nor a bracket, and says nothing of depth where no backslash is."""


def parse(payload: bytes | str, where: str) -> dict[str, Any]:
    """Parse one JSON object; raise ``Untrusted`` naming ``where`` it came from for anything else."""
    raw = payload.encode("utf-8", "surrogatepass") if isinstance(payload, str) else payload
    if len(raw) > MAX_BYTES:
        raise Untrusted(f"{len(raw)} bytes are more than the {MAX_BYTES} we accept.", where=where)
    if _depth(raw) > MAX_DEPTH:
        raise Untrusted(f"JSON nested deeper than {MAX_DEPTH}.", where=where)
    try:
        value = _DECODER.decode(raw.decode("utf-8"))
        if b"\\u" in raw:
            # Half of a surrogate pair can be written so, and is no text.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except ValueError as error:
        raise Untrusted(f"not strict JSON ({error}).", where=where) from error
    if not isinstance(value, dict):
        raise Untrusted("a JSON object was expected.", where=where)
    return value


def canonical(value: object) -> bytes:
    """Compact UTF-8 JSON with sorted keys: the same value gives the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _depth(raw: bytes) -> int:
    """Deepest nesting of brackets outside of strings."""
    if b"\\" not in raw:
        # A string of a megabyte takes the expression 5 ms, in which no other thread computes.
        raw = raw.translate(None, _NEITHER)
    depth = deepest = 0
    for byte in b"".join(_BRACKETS.findall(raw)):
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
            if deepest > MAX_DEPTH:
                return deepest
        else:
            depth -= 1
    return deepest


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError("a number is too large")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_unique)
"""Made once: making it costs as much as reading a small message."""
