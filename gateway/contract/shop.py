"""The shop file: zones and anchors of one store as one JSON text that a person can read and review."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator

from gateway.contract import strict_json
from gateway.contract.fields import Name, Strict, explain
from gateway.core import model
from gateway.errors import ConfigurationError, Untrusted

UuidText = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]


class ZoneEntry(Strict):
    """A named area."""

    title: Annotated[str, StringConstraints(max_length=60)] = ""
    tags: tuple[Name, ...] = ()
    neighbours: tuple[Name, ...] | None = None
    sensitive: bool = False
    enter_dbm: Annotated[float, Field(ge=-100, le=-20)] = -88.0
    exit_delay_s: Annotated[int, Field(ge=5, le=1800)] = 120
    dwell_s: tuple[Annotated[int, Field(ge=5, le=7200)], ...] = (60,)


class ReceiverEntry(Strict):
    """An adapter of this Pi (named as in the settings) or another receiver."""

    kind: Literal["receiver"]
    zone: Name | None = None
    covers: tuple[Name, ...] = ()


class BeaconEntry(Strict):
    """A fixed iBeacon; its minor is the short id that apps send as their hint."""

    kind: Literal["beacon"]
    zone: Name
    uuid: UuidText
    major: Annotated[int, Field(ge=0, le=0xFFFF)]
    minor: Annotated[int, Field(ge=1, le=0xFFFE)]


class ShopFile(Strict):
    """The whole shop."""

    zones: dict[Name, ZoneEntry] = {}
    anchors: dict[Name, Annotated[ReceiverEntry | BeaconEntry, Field(discriminator="kind")]] = {}

    @model_validator(mode="after")
    def _refers_to_what_exists(self) -> Self:
        for name, zone in self.zones.items():
            for neighbour in zone.neighbours or ():
                self._known(neighbour, f"zone {name} has the neighbour")
        minors: dict[int, str] = {}
        for name, anchor in self.anchors.items():
            for zone_name in (anchor.zone, *(anchor.covers if isinstance(anchor, ReceiverEntry) else ())):
                if zone_name is not None:
                    self._known(zone_name, f"anchor {name} stands in or covers")
            if isinstance(anchor, BeaconEntry) and minors.setdefault(anchor.minor, name) != name:
                raise ValueError(f"beacons {minors[anchor.minor]} and {name} share the minor {anchor.minor}")
        return self

    def _known(self, zone: str, what: str) -> None:
        if zone not in self.zones:
            raise ValueError(f"{what} {zone}, which is no zone of this shop")

    def compiled(self) -> model.Shop:
        """Zones and anchors as the core uses them."""
        return model.Shop(
            zones={
                name: model.Zone(
                    name=name,
                    title=zone.title or name,
                    tags=frozenset(zone.tags),
                    neighbours=None if zone.neighbours is None else frozenset(zone.neighbours),
                    sensitive=zone.sensitive,
                    enter_dbm=zone.enter_dbm,
                    exit_delay_ms=zone.exit_delay_s * 1000,
                    dwell_ms=tuple(sorted({seconds * 1000 for seconds in zone.dwell_s})),
                )
                for name, zone in self.zones.items()
            },
            anchors={name: _anchor(name, anchor) for name, anchor in self.anchors.items()},
        )


def _anchor(name: str, entry: ReceiverEntry | BeaconEntry) -> model.Anchor:
    if isinstance(entry, ReceiverEntry):
        return model.Anchor(name, "receiver", entry.zone, frozenset(entry.covers))
    uuid = bytes.fromhex(entry.uuid.replace("-", ""))
    return model.Anchor(name, "beacon", entry.zone, uuid=uuid, major=entry.major, minor=entry.minor)


def read_shop(text: bytes, where: str) -> ShopFile:
    """The shop in ``text``; ``ConfigurationError`` says where it is wrong."""
    try:
        return ShopFile.model_validate(strict_json.parse(text, where))
    except ValidationError as error:
        raise ConfigurationError(explain(error), where=where, do="Correct the shop file.") from error
    except Untrusted as error:
        raise ConfigurationError(error.what, where=where, do="Correct the shop file.") from error
