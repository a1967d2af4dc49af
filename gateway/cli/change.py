"""What an editing command does: take the shop, change it, put it in force or keep it, and say what has become of it."""

import json
from pathlib import Path
from typing import Any

from gateway.cli.columns import ABSENT
from gateway.cli.places import place_text
from gateway.cli.reach import Gateway
from gateway.contract import strict_json
from gateway.contract.control import ShopInForce, digest_of
from gateway.contract.fields import Strict
from gateway.contract.shop import ShopFile
from gateway.contract.shop_edits import AnchorKind, difference, normal, without_anchor
from gateway.contract.shop_view import Changed
from gateway.core.sanitiser import printable
from gateway.errors import WrongCommand

_SAID = {
    "in_force": "in force now",
    "kept": "kept; the gateway is not running and will use it when it starts",
    "unchanged": "nothing to change",
    "dry_run": "nothing was changed (--dry-run)",
}


def change(gateway: Gateway, before: ShopInForce, after: ShopFile, *, dry_run: bool = False) -> Changed:
    """Put ``after`` in force or keep it, all or nothing."""
    old, new = before.shop.compiled(), after.compiled()
    zones, anchors = difference(old.zones, new.zones), difference(old.anchors, new.anchors)
    is_same = old == new
    result = "unchanged" if is_same else "dry_run" if dry_run else "in_force" if _use(gateway, before, after) else "kept"
    return Changed.model_validate(
        {
            "result": result,
            **{f"zones_{what}": getattr(zones, what) for what in ("added", "changed", "removed")},
            **{f"anchors_{what}": getattr(anchors, what) for what in ("added", "changed", "removed")},
            "digest": before.digest if is_same else digest_of(after),
        }
    )


def _use(gateway: Gateway, before: ShopInForce, after: ShopFile) -> bool:
    if len(after.to_text().encode()) > strict_json.MAX_BYTES:
        raise WrongCommand(f"the shop would be larger than {strict_json.MAX_BYTES} bytes, which no gateway accepts.")
    return gateway.use_shop(after, before.digest)


def remove_anchor(config: Path, kind: AnchorKind, name: str, *, as_json: bool) -> None:
    """What ``beacon remove`` and ``receiver remove`` do."""
    gateway = Gateway(config)
    before = gateway.shop()
    after = without_anchor(before.shop, kind, name)
    changed = change(gateway, before, after)
    if as_json:
        print_json(changed)
    else:
        print_changed(changed, before.shop, after)


def print_json(document: Strict) -> None:
    """As people and programs can read it."""
    print(document.model_dump_json(indent=2))


def print_changed(changed: Changed, before: ShopFile, after: ShopFile) -> None:
    """One line for each zone and anchor that is not as it was, and whether that is in force."""
    old, new = (_entries(shop) for shop in (before, after))
    for what in ("added", "changed", "removed"):
        for section in ("zones", "anchors"):
            for name in getattr(changed, f"{section}_{what}"):
                was, entry = old[section].get(name, {}), new[section].get(name, {})
                kind = "zone" if section == "zones" else (entry or was)["kind"]
                details = _details(was, entry) if what == "changed" else ""
                print(printable(f"{what:<8} {kind} {name}{details}", limit=1000))
    print(_SAID[changed.result])


def _entries(shop: ShopFile) -> dict[str, dict[str, dict[str, Any]]]:
    document: dict[str, dict[str, dict[str, Any]]] = normal(shop).model_dump(mode="json")
    return document


def _details(was: dict[str, Any], entry: dict[str, Any]) -> str:
    """What differs, field by field."""
    differing = [field for field in {**was, **entry} if was.get(field) != entry.get(field)]
    return ": " + ", ".join(f"{field} {_short(was.get(field))} → {_short(entry.get(field))}" for field in differing)


def _short(value: Any) -> str:
    if isinstance(value, list):
        if value and isinstance(value[0], float):
            return place_text((value[0], value[1]))
        return "+".join(_short(each) if isinstance(each, list) else str(each) for each in value) or "none"
    return ABSENT if value in {None, ""} else json.dumps(value, ensure_ascii=False)
