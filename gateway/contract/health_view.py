"""What `gateway central health` prints with ``--json``."""

from typing import Any, Literal

from gateway.contract.fields import GatewayId, Name, StoreId, Strict, WallTime


class FaresView(Strict):
    """How a beacon, its battery or a receiver fares."""

    store: StoreId
    subject: Literal["beacon", "battery", "receiver"]
    name: Name
    gateway: GatewayId
    """Which told."""
    state: str
    """As in its event."""
    told_time: WallTime
    zone: Name | None
    """Of a beacon."""
    data: dict[str, Any]
    """Of the event."""


class CentralHealth(Strict):
    """By store, subject and name."""

    fares: tuple[FaresView, ...]
