"""Writes the settings and the shop of a simulated gateway as files, so that other commands can look at what it left."""

import json
from pathlib import Path
from typing import Any

from gateway.contract.settings import Settings
from gateway.core.model import Anchor, Shop, Zone


def keep_settings(folder: Path, settings: Settings, shop: Shop) -> None:
    """``gateway.toml`` and ``shop.json`` in ``folder``: what `replay --config` needs; the broker is gone with the demo."""
    text = json.dumps(_shop(shop), indent=2, ensure_ascii=False)
    (folder / "shop.json").write_text(text + "\n", encoding="utf-8")
    state_dir = settings.state_dir.resolve()
    lines = [
        f"store = {_toml(settings.store)}",
        f"store_number = {settings.store_number}",
        f"gateway = {_toml(settings.gateway)}",
        f"time_zone = {_toml(settings.time_zone)}",
        f"state_dir = {_toml(str(state_dir))}",
        f"shop_file = {_toml(str((folder / 'shop.json').resolve()))}",
        "[privacy]",
        f"controller = {_toml(settings.privacy.controller)}",
        f"contact = {_toml(settings.privacy.contact)}",
        f"dpia_ack = {_toml(settings.privacy.dpia_ack)}",
        "[trust]",
        f"public_keys = {_toml(list(settings.trust.public_keys))}",
    ]
    for anchor in shop.anchors.values():
        if anchor.kind == "receiver":
            lines += ["[[receivers]]", f"name = {_toml(anchor.name)}"]
    (folder / "gateway.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _toml(value: object) -> str:
    """Strings, booleans and lists of strings look the same in JSON and in TOML, but for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _shop(shop: Shop) -> dict[str, Any]:
    return {
        "zones": {zone.name: _zone(zone) for zone in shop.zones.values()},
        "anchors": {anchor.name: _anchor(anchor) for anchor in shop.anchors.values()},
    }


def _zone(zone: Zone) -> dict[str, Any]:
    return {
        "title": zone.title,
        "tags": sorted(zone.tags),
        "neighbours": None if zone.neighbours is None else sorted(zone.neighbours),
        "sensitive": zone.sensitive,
        "enter_dbm": zone.enter_dbm,
        "exit_delay_s": zone.exit_delay_ms // 1000,
        "dwell_s": [dwell_ms // 1000 for dwell_ms in zone.dwell_ms],
    }


def _anchor(anchor: Anchor) -> dict[str, Any]:
    if anchor.kind == "receiver":
        return {"kind": "receiver", "zone": anchor.zone, "covers": sorted(anchor.covers)}
    assert anchor.uuid is not None
    digits = anchor.uuid.hex()
    uuid = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    return {"kind": "beacon", "zone": anchor.zone, "uuid": uuid, "major": anchor.major, "minor": anchor.minor}
