"""The reference of all settings, docs/settings.md, from the models that read them."""

import json
import re
from typing import Any

from pydantic import BaseModel

from gateway.contract import settings
from gateway.contract.field_docstrings import field_docstrings

Json = dict[str, Any]

_BEGIN = """\
# Settings

All that can be set, and what holds where nothing is set. Both files are TOML; a key that is not listed here is an error, and so
is a value that may not be. Keys of a section stand below its line, those of none at the top of the file. This page is generated
from the code (`scripts/contract`).
"""
_GATEWAY = """
## The gateway's

`/etc/beacon-gateway/gateway.toml`, another one with `--config FILE`. After a change: `sudo systemctl restart gateway`.
[An example](examples/gateway.toml).
"""
_CENTRAL = """
## The reference central service's

`/etc/beacon-gateway/central.toml`, another one with `--config FILE`. After a change start it again.
[An example](examples/central.toml). Its `[broker]` is that of the gateway's settings.
"""
_GATEWAY_SECTIONS: dict[str, type[BaseModel]] = {
    "": settings.Settings,
    "[privacy]": settings.Privacy,
    "[broker]": settings.Broker,
    "[trust]": settings.Trust,
    "[chain]": settings.Chain,
    "[clock]": settings.Clock,
    "[presence]": settings.Presence,
    "[storage]": settings.Storage,
    "[radio]": settings.Radio,
    "[[receivers]]": settings.Receiver,
    "[[foreign_receivers]]": settings.ForeignReceivers,
}
_CENTRAL_SECTIONS: dict[str, type[BaseModel]] = {"": settings.CentralSettings, "[stores.NAME]": settings.CentralStore}
_TABLE = "\n| key | where nothing is set | may be | meaning |\n|---|---|---|---|\n"
_KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "`true`, `false`",
    "string": "a text",
    "object": "a table",
}


def settings_page() -> str:
    """In Markdown. ``ValueError`` for a setting without a docstring."""
    return _BEGIN + _GATEWAY + _sections(_GATEWAY_SECTIONS) + _CENTRAL + _sections(_CENTRAL_SECTIONS)


def _sections(sections: dict[str, type[BaseModel]]) -> str:
    elsewhere = {"broker", *re.findall(r"\w+", " ".join(sections))}
    return "".join(_section(line, model, set() if line else elsewhere) for line, model in sections.items())


def _section(line: str, model: type[BaseModel], elsewhere: set[str]) -> str:
    schema, described = model.model_json_schema(), field_docstrings(model)
    rows = ""
    for key, what in schema["properties"].items():
        if key in elsewhere:
            continue
        if key not in described:
            raise ValueError(f"{model.__name__}.{key} has no docstring")
        default = "**has to be set**" if key in schema.get("required", []) else _default(what)
        rows += f"| `{key}` | {default} | {_may_be(what)} | {_cell(described[key])} |\n"
    heading = f"\n### `{line}`\n\n{_cell(model.__doc__ or '')}\n" if line else ""
    return heading + _TABLE + rows


def _default(what: Json) -> str:
    default = what.get("default")
    return "" if default in (None, "", [], {}) else f"`{json.dumps(default, ensure_ascii=False)}`"


def _may_be(what: Json) -> str:
    what = next((choice for choice in what.get("anyOf", ()) if choice != {"type": "null"}), what)
    if "enum" in what:
        return ", ".join(f'`"{value}"`' for value in what["enum"])
    if what.get("type") == "array":
        most = f"at most {what['maxItems']}, each " if "maxItems" in what else ""
        return f"a list; {most}{_may_be(what['items'])}"
    if "$ref" in what:
        return "a table"
    said = "a path" if what.get("format") == "path" else _KINDS[what["type"]]
    if "minimum" in what:
        said = f"{what['minimum']} to {what['maximum']}"
    if "multipleOf" in what:
        said += f", a multiple of {what['multipleOf']}"
    if "pattern" in what:
        said += f" that matches `{_cell(what['pattern'])}`"
    return said


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().replace("``", "`").replace("|", "\\|")
