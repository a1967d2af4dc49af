"""What the machine says of its Bluetooth adapters, without scanning: BlueZ's own objects, rfkill, and a Pi's power supply."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus
from dbus_fast.errors import DBusError

from gateway.errors import TryAgain

_TIMEOUT_S = 5.0
_RFKILL = Path("/sys/class/rfkill")
_HWMON = Path("/sys/class/hwmon")


@dataclass(frozen=True, slots=True)
class Adapter:
    """One adapter as bluetoothd knows it."""

    name: str
    """Such as hci0."""
    address: str
    powered: bool


async def adapters() -> list[Adapter]:
    """Those that bluetoothd has; ``TryAgain`` when there is no bus or no bluetoothd."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    except (OSError, TimeoutError, DBusError, EOFError) as error:
        raise TryAgain("the system's D-Bus cannot be reached.", do="Is dbus running? systemctl status dbus") from error
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reply = await bus.call(
                Message(
                    destination="org.bluez", path="/", interface="org.freedesktop.DBus.ObjectManager", member="GetManagedObjects"
                )
            )
    except (OSError, TimeoutError, EOFError) as error:
        raise TryAgain("bluetoothd does not answer.", do="sudo systemctl restart bluetooth") from error
    finally:
        bus.disconnect()
    if reply.message_type is MessageType.ERROR:
        raise TryAgain("bluetoothd is not there.", do="sudo apt install bluez; sudo systemctl enable --now bluetooth")
    found = []
    for path, interfaces in reply.body[0].items():
        properties = interfaces.get("org.bluez.Adapter1")
        if properties is not None:
            address = properties["Address"].value if "Address" in properties else ""
            powered = bool(properties["Powered"].value) if "Powered" in properties else False
            found.append(Adapter(path.rpartition("/")[2], address, powered))
    return sorted(found, key=lambda adapter: adapter.name)


def blocked_radios(folder: Path = _RFKILL) -> list[tuple[str, bool]]:
    """(name, whether by a hardware switch) of every Bluetooth radio that rfkill blocks."""
    blocked = []
    for radio in sorted(folder.glob("rfkill*")):
        if _text(radio / "type") == "bluetooth":
            hard = _text(radio / "hard") == "1"
            if hard or _text(radio / "soft") == "1":
                blocked.append((_text(radio / "name"), hard))
    return blocked


def lacks_power(folder: Path = _HWMON) -> bool | None:
    """Whether a Raspberry Pi's firmware complains of too little voltage; ``None`` where there is no such sensor."""
    for sensor in sorted(folder.glob("hwmon*")):
        if _text(sensor / "name") == "rpi_volt":
            return _text(sensor / "in0_lcrit_alarm") == "1"
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", errors="replace").strip()
    except OSError:
        return ""
