"""Options that many commands share; nothing heavy may be imported here."""

from pathlib import Path
from typing import Annotated

import typer

CONFIG = Path("/etc/beacon-gateway/gateway.toml")
CENTRAL_CONFIG = Path("/etc/beacon-gateway/central.toml")
RADIO_SOCKET = Path("/run/beacon-gateway-radio/radio.sock")

GatewayConfig = Annotated[Path, typer.Option("--config", help="Settings of the gateway (TOML).")]
CentralConfig = Annotated[Path, typer.Option("--config", help="Settings of the central service (TOML).")]

Json = Annotated[bool, typer.Option("--json", help="One JSON object; its keys are below.")]


def json_shape(keys: str) -> str:
    """What stands below a command's help; what is in parentheses are the keys of each element."""
    return f"JSON: {keys}."


CHANGED_KEYS = "result, zones_added, zones_changed, zones_removed, anchors_added, anchors_changed, anchors_removed, digest"
"""What every command that changes the shop prints with --json (contract/shop_view.py, ``Changed``)."""
