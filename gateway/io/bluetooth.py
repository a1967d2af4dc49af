"""What the machine says of its Bluetooth radios without asking anybody: rfkill, and a Pi's power supply."""

from pathlib import Path

_RFKILL = Path("/sys/class/rfkill")
_HWMON = Path("/sys/class/hwmon")


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
