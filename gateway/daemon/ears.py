"""What hears, as the daemon sees it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from gateway.contract.control import RadioStatus, ReceiverState

Heard = Callable[[str, str, int, bytes], None]
"""(receiver, address, RSSI in dBm, AD structures): called once per advertisement."""


@dataclass(frozen=True, slots=True)
class EarCondition:
    """How one receiver is doing."""

    receiver: str
    adapter: str | None
    state: ReceiverState
    scanning: Literal["active", "passive"] | None = None
    trouble: str | None = None
    gateway: str | None = None
    """Another gateway of the store, on which the receiver hangs."""
    radio: RadioStatus | None = None
    """Of an adapter of this machine."""


class Ear(Protocol):
    """Something that hears advertisements until it is cancelled."""

    async def run(self) -> None:
        """Listen for ever."""

    def conditions(self) -> list[EarCondition]:
        """How its receivers are doing."""
