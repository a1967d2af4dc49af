"""Firmware profiles: a fixed beacon of the shop file as text for ESPHome (an ESP32) or Espruino (a Puck.js) that transmits it.

Only numbers reach a profile's code. Names and titles stand in one comment, on one line, with nothing in it that could end a
comment: no text in a shop file becomes an instruction. The frame on the air is the one that `core.frames.ibeacon` encodes::

    02 01 06 | 1A FF | 4C 00 02 15 | UUID ×16 | major ×2 | minor ×2 | measured power ×1

Sources: ESPHome, component esp32_ble_beacon (documentation, and the source for the bytes); Espruino, reference of
NRF.setAdvertising and NRF.setTxPower; Apple, Proximity Beacon Specification R1.
"""

import hashlib
from dataclasses import dataclass
from string import Template
from typing import Final, Literal
from uuid import UUID

from gateway.contract.shop import BeaconEntry
from gateway.core import ad_structures
from gateway.core.ad_structures import FLAGS, AdStructure
from gateway.core.frames import ibeacon
from gateway.core.model import IBeacon
from gateway.core.sanitiser import printable

Kind = Literal["esphome", "espruino"]
Esp32Variant = Literal["esp32", "esp32c3", "esp32c6", "esp32s3"]

SUFFIX: Final[dict[Kind, str]] = {"esphome": "yaml", "espruino": "js"}

TX_POWERS_DBM: Final[dict[Kind, tuple[int, ...]]] = {
    "esphome": (-12, -9, -6, -3, 0, 3, 6, 9),
    "espruino": (-40, -20, -16, -12, -8, -4, 0, 4),
}
"""What the firmware accepts; Espruino's are those of the nRF52832, which every newer chip has too."""

INTERVAL_MS: Final = (100, 10_000)
"""More often a beacon that nobody can connect to may not transmit, and more seldom Espruino does not (reference of
NRF.setAdvertising); ESPHome goes from 20 to 10,240 ms."""

MEASURED_POWER_DBM: Final = (-100, -20)
"""Beyond these a beacon at 1 m would be unheard, or no radio at all."""

_MARK = "Made by `gateway firmware render`; SHA-256 of the lines below: "
_COMMENT: Final[dict[Kind, str]] = {"esphome": "# ", "espruino": "// "}

_ESPHOME = Template("""\
# Beacon $what
# On the air: $octets
# No Wi-Fi, no API, no update over the air: it is flashed through USB, and nobody in the shop can reach it.
esphome:
  name: beacon-$major-$minor

esp32:
  variant: $variant
  framework:
    type: esp-idf

logger:
  level: WARN

esp32_ble_beacon:
  type: iBeacon
  uuid: "$uuid"
  major: $major
  minor: $minor
  measured_power: $measured_power_dbm
  tx_power: ${tx_power_dbm}dBm
  min_interval: ${interval_ms}ms
  max_interval: ${interval_ms}ms
""")

_ESPRUINO = Template("""\
// Beacon $what
// On the air: $octets
// It transmits once the development tool has disconnected. From then on nobody can connect: see the board's hard reset.
function onInit() {
  NRF.setTxPower($tx_power_dbm);
  NRF.setAdvertising([
$rows
  ], { interval: $interval_ms, connectable: false, scannable: false });
}
""")


@dataclass(frozen=True, slots=True)
class Transmission:
    """How a beacon transmits; the shop file knows only what."""

    measured_power_dbm: int = -59
    """What a phone hears at 1 m, to be measured with the beacon in its case at its place; part of the frame."""
    tx_power_dbm: int = 0
    """One of `TX_POWERS_DBM`."""
    interval_ms: int = 100
    """ESPHome's own default; a battery lasts longer with more."""

    def problem(self, kind: Kind) -> str | None:
        """Why firmware of this ``kind`` could not transmit so; ``None`` when it can."""
        if not INTERVAL_MS[0] <= self.interval_ms <= INTERVAL_MS[1]:
            return f"the interval is {INTERVAL_MS[0]} to {INTERVAL_MS[1]} ms, not {self.interval_ms}"
        if not MEASURED_POWER_DBM[0] <= self.measured_power_dbm <= MEASURED_POWER_DBM[1]:
            return f"measured power is {MEASURED_POWER_DBM[0]} to {MEASURED_POWER_DBM[1]} dBm, not {self.measured_power_dbm}"
        if self.tx_power_dbm not in TX_POWERS_DBM[kind]:
            return f"{kind} transmits with {', '.join(map(str, TX_POWERS_DBM[kind]))} dBm, not {self.tx_power_dbm}"
        return None


def on_air(beacon: BeaconEntry, measured_power_dbm: int) -> bytes:
    """The 30 octets of advertising data that such an iBeacon transmits."""
    assert beacon.uuid is not None
    assert beacon.major is not None
    assert beacon.minor is not None
    frame = IBeacon(UUID(beacon.uuid).bytes, beacon.major, beacon.minor, measured_power_dbm)
    return ad_structures.encode([AdStructure(FLAGS, b"\x06"), ibeacon.encode(frame)])


def render(
    kind: Kind, name: str, title: str, beacon: BeaconEntry, transmission: Transmission, esp32_variant: Esp32Variant = "esp32"
) -> str:
    """The profile of the iBeacon ``name``, whose zone has this ``title``.

    ``ValueError`` where `Transmission.problem` has one, and for a beacon of another format.
    """
    problem = transmission.problem(kind) or (None if beacon.format == "iBeacon" else f"{name} is no iBeacon")
    if problem is not None:
        raise ValueError(problem)
    octets = on_air(beacon, transmission.measured_power_dbm)
    values = {
        "what": f"{printable(name, 60)} in zone {printable(beacon.zone, 60)}" + (f" ({printable(title, 80)})" if title else ""),
        "octets": octets.hex(" "),
        "rows": ",\n".join("    " + ", ".join(f"0x{octet:02x}" for octet in octets[at : at + 10]) for at in (0, 10, 20)),
        "uuid": str(UUID(beacon.uuid)),
        "major": str(beacon.major),
        "minor": str(beacon.minor),
        "measured_power_dbm": str(transmission.measured_power_dbm),
        "tx_power_dbm": str(transmission.tx_power_dbm),
        "interval_ms": str(transmission.interval_ms),
        "variant": esp32_variant,
    }
    rest = (_ESPHOME if kind == "esphome" else _ESPRUINO).substitute(values)
    return f"{_COMMENT[kind]}{_MARK}{_digest(rest)}\n{rest}"


def is_untouched(text: str) -> bool:
    r"""Whether `render` made this text and nobody has changed it since.

    >>> is_untouched("esphome:\n  name: mine\n")
    False
    """
    first, _, rest = text.partition("\n")
    return any(first == f"{comment}{_MARK}{_digest(rest)}" for comment in _COMMENT.values())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
