"""What hears, as the daemon sees it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from gateway.core.model import RecoveryStep

if TYPE_CHECKING:
    from gateway.contract.control import ReceiverState

Heard = Callable[[str, str, int, bytes], None]
"""(receiver, address, RSSI in dBm, AD structures): called once per advertisement."""


@dataclass(frozen=True, slots=True)
class LastRecovery:
    """What was tried last to make an adapter hear again."""

    step: RecoveryStep
    s_ago: float
    helped: bool | None = None
    """``None``: not known yet."""


@dataclass(frozen=True, slots=True)
class RadioCondition:
    """How an adapter of this machine is doing, in the words of ``RadioStatus``."""

    address: str | None
    source: Literal["kernel", "bluetoothd"]
    helper_trouble: str | None
    cause: Literal["bluetoothd", "hangs", "adapter", "power", "stuck", "start", "silence"] | None
    since_s: float
    last_recovery: LastRecovery | None


@dataclass(frozen=True, slots=True)
class EarCondition:
    """How one receiver is doing."""

    receiver: str
    adapter: str | None
    state: "ReceiverState"
    scanning: Literal["active", "passive"] | None = None
    trouble: str | None = None
    gateway: str | None = None
    """Another gateway of the store, on which the receiver hangs."""
    radio: RadioCondition | None = None
    """Of an adapter of this machine."""


class Ear(Protocol):
    """Something that hears advertisements until it is cancelled."""

    async def run(self) -> None:
        """Listen for ever."""

    def conditions(self) -> list[EarCondition]:
        """How its receivers are doing."""
