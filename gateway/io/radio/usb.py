"""Taking a USB adapter off its bus and back, as if it were unplugged: what cures adapters that no command reaches any more.

Source: Linux, Documentation/driver-api/usb/usb.rst (USBDEVFS_RESET); sysfs: an adapter's ``device`` is the interface that its
driver serves, the folder above is the USB device with its ``busnum`` and ``devnum``.
"""

import fcntl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import TryAgain

_USBDEVFS_RESET = 0x5514  # _IO('U', 20)


@dataclass(frozen=True, slots=True)
class UsbBus:
    """Where the kernel shows its devices; the folders are arguments for machines that are not this one."""

    sys: Path = Path("/sys")
    dev: Path = Path("/dev")
    ioctl: Callable[[int, int, int], int] = fcntl.ioctl

    def node(self, adapter: str) -> Path | None:
        """The device file of the adapter (such as hci0); ``None`` when it hangs on something else, as a Pi's own does (UART)."""
        interface = (self.sys / "class/bluetooth" / adapter / "device").resolve()
        for folder in (interface, interface.parent):
            try:
                bus, device = (int((folder / name).read_text("ascii")) for name in ("busnum", "devnum"))
            except (OSError, ValueError):
                continue
            return self.dev / f"bus/usb/{bus:03d}/{device:03d}"
        return None

    def is_on_usb(self, adapter: str) -> bool:
        """Whether the adapter can be reset this way, if the device file allows it."""
        return self.node(adapter) is not None

    def reset(self, adapter: str) -> None:
        """Blocks until the device is back, at most some seconds; ``TryAgain`` with the reason when it could not be done."""
        node = self.node(adapter)
        if node is None:
            raise TryAgain("it is no USB device")
        try:
            with node.open("wb", buffering=0) as file:
                self.ioctl(file.fileno(), _USBDEVFS_RESET, 0)
        except OSError as error:
            raise TryAgain(f"{node}: {error.strerror}") from error
