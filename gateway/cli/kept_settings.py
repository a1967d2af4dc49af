"""Writes the settings and the shop of a simulated gateway as files, so that other commands can look at what it left."""

import json
from pathlib import Path

from gateway.contract.settings import Settings
from gateway.contract.shop import ShopFile
from gateway.core.model import Shop


def keep_settings(folder: Path, settings: Settings, shop: Shop) -> None:
    """``gateway.toml`` and ``shop.json`` in ``folder``: what `replay --config` and `status --config` need."""
    (folder / "shop.json").write_text(ShopFile.of(shop).to_text(), encoding="utf-8")
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
        # Simulated time is nobody's to check.
        "[clock]",
        "assume_synchronised = true",
        "[broker]",
        f"host = {_toml(settings.broker.host)}",
        f"port = {settings.broker.port}",
        f"protocol = {_toml(settings.broker.protocol)}",
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
