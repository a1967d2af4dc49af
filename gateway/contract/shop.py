"""The shop file: zones and anchors of one store as one JSON text that a person can read and review."""

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic.config import JsonDict
from pydantic.json_schema import GenerateJsonSchema

from gateway.contract import strict_json
from gateway.contract.fields import Name, Strict, explain
from gateway.contract.recording import Corner, Outline
from gateway.core import model
from gateway.errors import ConfigurationError, Untrusted

UuidText = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]

NamespaceText = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{20}$"), Field(description="10 octets in hexadecimal.")]
InstanceText = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{12}$"), Field(description="6 octets in hexadecimal.")]
BeaconIdText = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{40}$"), Field(description="20 octets in hexadecimal.")]

Place = Annotated[Corner | None, Field(description="Where it hangs, x and y in metres of the shop's plan.")]


_LEAST_AREA_M2 = 1e-6
"""Less is what rounding leaves of corners on one line."""


def _encloses(corners: Outline) -> Outline:
    """The same; ``ValueError`` where its sides cross or it has no area: who is inside could not be told."""
    sides = sorted((min(side), max(side)) for side in pairwise((*corners, corners[0])))
    for index, side in enumerate(sides):
        for other in sides[index + 1 :]:
            if other[0][0] > side[1][0]:
                break
            if _cross(*side, *other):
                raise ValueError(f"the outline crosses itself: the sides {_drawn(side)} and {_drawn(other)}")
    # From the first corner, so that a small outline far away loses no digits.
    x0, y0 = corners[0]
    twice = sum((ax - x0) * (by - y0) - (bx - x0) * (ay - y0) for (ax, ay), (bx, by) in pairwise(corners))
    if abs(twice) / 2 < _LEAST_AREA_M2:
        raise ValueError("the outline encloses nothing: its corners stand on one line")
    return corners


def _cross(a: Corner, b: Corner, c: Corner, d: Corner) -> bool:
    """Whether two sides cross; those that only touch do not, as neighbours do."""
    return _turn(a, b, c) * _turn(a, b, d) < 0 and _turn(c, d, a) * _turn(c, d, b) < 0


def _turn(a: Corner, b: Corner, c: Corner) -> int:
    """1: the way from a by b to c turns left, -1: right, 0: straight on."""
    across = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    return (across > _LEAST_AREA_M2) - (across < -_LEAST_AREA_M2)


def _drawn(side: tuple[Corner, Corner]) -> str:
    return " to ".join(f"{x:g},{y:g}" for x, y in side)


class ZoneEntry(Strict):
    """A named area."""

    title: Annotated[str, StringConstraints(max_length=60), Field(description="What people read; without it the name.")] = ""
    tags: Annotated[tuple[Name, ...], Field(description="Promotions may name a tag instead of zones.")] = ()
    neighbours: Annotated[tuple[Name, ...] | None, Field(description="The zones next to it; null or absent: not known.")] = None
    sensitive: Annotated[
        bool, Field(description="Offered only where a receiver hears the shopper; an app's own hint is not enough.")
    ] = False
    enter_dbm: Annotated[
        Annotated[float, Field(ge=-100, le=-20)] | None,
        Field(description="An anchor of the zone weaker than this speaks for being outside; absent: what is usual."),
    ] = None
    enter_after_s: Annotated[
        Annotated[float, Field(ge=0, le=300)] | None,
        Field(description="For so long a shopper must be believed here before it is an entry; absent: as in the settings."),
    ] = None
    exit_delay_s: Annotated[
        int,
        Field(
            ge=5, le=1800, description="Silence for this long ends the stay; phones fall silent for two minutes without leaving."
        ),
    ] = 120
    stale_s: Annotated[
        Annotated[int, Field(ge=5, le=1800)] | None,
        Field(description="Given: silence for this long ends the stay, and exit_delay_s is for being heard elsewhere."),
    ] = None
    dwell_s: Annotated[
        tuple[Annotated[int, Field(ge=5, le=7200)], ...], Field(description="A stay of each of these lengths is announced.")
    ] = (60,)
    corners: Annotated[
        Annotated[Outline, AfterValidator(_encloses)] | None,
        Field(description="Where it is drawn: its corners in order, x and y in metres; it closes itself."),
    ] = None


class ReceiverEntry(Strict):
    """An adapter of this Pi (named as in the settings) or another receiver; without zone and covers it hears the whole shop."""

    kind: Literal["receiver"]
    zone: Annotated[Name | None, Field(description="Where it stands.")] = None
    covers: Annotated[tuple[Name, ...], Field(description="Zones from which it hears phones, too.")] = ()
    at: Place = None


KEYS = {"iBeacon": ("uuid", "major", "minor"), "Eddystone-UID": ("namespace", "instance"), "AltBeacon": ("beacon_id",)}
"""By format, the fields that a beacon is registered by."""


def _one_key(schema: JsonDict) -> None:
    schema["oneOf"] = [{"required": [*fields]} for fields in KEYS.values()]


class BeaconEntry(Strict):
    """A fixed beacon with one key: that of an iBeacon, whose minor is the short id that apps send as their hint, or another's."""

    model_config = ConfigDict(json_schema_extra=_one_key)

    kind: Literal["beacon"]
    zone: Annotated[Name, Field(description="Where it stands.")]
    uuid: UuidText | None = None
    major: Annotated[int, Field(ge=0, le=0xFFFF)] | None = None
    minor: Annotated[Annotated[int, Field(ge=1, le=0xFFFE)] | None, Field(description="Unique in the shop.")] = None
    at: Place = None
    namespace: Annotated[NamespaceText | None, Field(description="Of an Eddystone-UID.")] = None
    instance: Annotated[InstanceText | None, Field(description="Of an Eddystone-UID.")] = None
    beacon_id: Annotated[BeaconIdText | None, Field(description="Of an AltBeacon.")] = None

    @model_validator(mode="after")
    def _has_one_key(self) -> Self:
        begun = [name for name, fields in KEYS.items() if any(getattr(self, field) is not None for field in fields)]
        if not begun:
            raise ValueError("a beacon needs the key of one format: " + ", or ".join(_spoken(fields) for fields in KEYS.values()))
        if len(begun) > 1:
            raise ValueError(f"a beacon has the key of one format, not of {' and '.join(begun)}")
        missing = [field for field in KEYS[begun[0]] if getattr(self, field) is None]
        if missing:
            raise ValueError(f"the key of an {begun[0]} needs {_spoken(missing)}, too")
        return self

    @property
    def format(self) -> str:
        """Whose key it has: one of `KEYS`."""
        return next(name for name, fields in KEYS.items() if getattr(self, fields[0]) is not None)


def _spoken(fields: Sequence[str]) -> str:
    """As people list them.

    >>> _spoken(("uuid", "major", "minor"))
    'uuid, major and minor'
    """
    return " and ".join(filter(None, (", ".join(fields[:-1]), fields[-1])))


_NOTHING_ELSE: JsonDict = {"additionalProperties": False}
"""Pydantic refuses other names, but does not say so in its schema."""


class ShopFile(Strict):
    """The whole shop: zones and anchors by name, which are what a zone's neighbours and an anchor's zones must be."""

    zones: Annotated[dict[Name, ZoneEntry], Field(json_schema_extra=_NOTHING_ELSE)] = {}
    anchors: Annotated[
        dict[Name, Annotated[ReceiverEntry | BeaconEntry, Field(discriminator="kind")]], Field(json_schema_extra=_NOTHING_ELSE)
    ] = {}

    @model_validator(mode="after")
    def _refers_to_what_exists(self) -> Self:
        for name, zone in self.zones.items():
            for neighbour in zone.neighbours or ():
                self._known(neighbour, f"zone {name} has the neighbour")
        minors: dict[int, str] = {}
        keys: dict[model.BeaconKey | None, str] = {}
        for name, anchor in self.anchors.items():
            for zone_name in (anchor.zone, *(anchor.covers if isinstance(anchor, ReceiverEntry) else ())):
                if zone_name is not None:
                    self._known(zone_name, f"anchor {name} stands in or covers")
            if not isinstance(anchor, BeaconEntry):
                continue
            if anchor.minor is not None and minors.setdefault(anchor.minor, name) != name:
                raise ValueError(f"beacons {minors[anchor.minor]} and {name} share the minor {anchor.minor}")
            key = _anchor(name, anchor).key
            if keys.setdefault(key, name) != name:
                raise ValueError(f"beacons {keys[key]} and {name} share the key of an {anchor.format}")
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
                    enter_after_ms=None if zone.enter_after_s is None else round(zone.enter_after_s * 1000),
                    stale_ms=None if zone.stale_s is None else zone.stale_s * 1000,
                    polygon=zone.corners,
                )
                for name, zone in self.zones.items()
            },
            anchors={name: _anchor(name, anchor) for name, anchor in self.anchors.items()},
        )

    @classmethod
    def of(cls, shop: model.Shop) -> "ShopFile":
        """The file that compiles to ``shop``; what is as usual is left out of its text."""
        return cls(
            zones={zone.name: _zone_entry(zone) for zone in shop.zones.values()},
            anchors={anchor.name: _anchor_entry(anchor) for anchor in shop.anchors.values()},
        )

    def zones_named(self, zones: Iterable[str], tags: Iterable[str]) -> tuple[str, ...]:
        """The zones that are named directly or have one of the tags, in the shop's order."""
        names, wanted = set(zones), set(tags)
        return tuple(name for name, zone in self.zones.items() if name in names or wanted & set(zone.tags))

    def to_text(self) -> str:
        """JSON for people: one line per zone and anchor where it fits, names in order, what is as usual left out."""
        return _text(self.model_dump(mode="json", exclude_defaults=True))


def _zone_entry(zone: model.Zone) -> ZoneEntry:
    return ZoneEntry(
        title="" if zone.title == zone.name else zone.title,
        tags=tuple(sorted(zone.tags)),
        neighbours=None if zone.neighbours is None else tuple(sorted(zone.neighbours)),
        sensitive=zone.sensitive,
        enter_dbm=zone.enter_dbm,
        exit_delay_s=zone.exit_delay_ms // 1000,
        dwell_s=tuple(dwell_ms // 1000 for dwell_ms in zone.dwell_ms),
        enter_after_s=None if zone.enter_after_ms is None else zone.enter_after_ms / 1000,
        stale_s=None if zone.stale_ms is None else zone.stale_ms // 1000,
        corners=zone.polygon,
    )


def _anchor_entry(anchor: model.Anchor) -> ReceiverEntry | BeaconEntry:
    if anchor.kind == "receiver":
        return ReceiverEntry(kind="receiver", zone=anchor.zone, covers=tuple(sorted(anchor.covers)), at=anchor.at_m)
    assert anchor.zone is not None
    return BeaconEntry(
        kind="beacon",
        zone=anchor.zone,
        uuid=None if anchor.uuid is None else str(UUID(bytes=anchor.uuid)),
        major=anchor.major,
        minor=anchor.minor,
        at=anchor.at_m,
        namespace=None if anchor.namespace is None else anchor.namespace.hex(),
        instance=None if anchor.instance is None else anchor.instance.hex(),
        beacon_id=None if anchor.beacon_id is None else anchor.beacon_id.hex(),
    )


def _text(shop: dict[str, dict[str, Any]]) -> str:
    sections = []
    for section in ("zones", "anchors"):
        entries = sorted(shop.get(section, {}).items())
        lines = [f"    {json.dumps(name)}: {json.dumps(entry, ensure_ascii=False)}" for name, entry in entries]
        body = "{\n" + ",\n".join(lines) + "\n  }" if lines else "{}"
        sections.append(f"  {json.dumps(section)}: {body}")
    return "{\n" + ",\n".join(sections) + "\n}\n"


def _anchor(name: str, entry: ReceiverEntry | BeaconEntry) -> model.Anchor:
    if isinstance(entry, ReceiverEntry):
        return model.Anchor(name, "receiver", entry.zone, frozenset(entry.covers), at_m=entry.at)
    return model.Anchor(
        name,
        "beacon",
        entry.zone,
        uuid=None if entry.uuid is None else bytes.fromhex(entry.uuid.replace("-", "")),
        major=entry.major,
        minor=entry.minor,
        at_m=entry.at,
        namespace=None if entry.namespace is None else bytes.fromhex(entry.namespace),
        instance=None if entry.instance is None else bytes.fromhex(entry.instance),
        beacon_id=None if entry.beacon_id is None else bytes.fromhex(entry.beacon_id),
    )


def read_shop(text: bytes, where: str) -> ShopFile:
    """The shop in ``text``; ``ConfigurationError`` says where it is wrong."""
    try:
        return ShopFile.model_validate(strict_json.parse(text, where))
    except ValidationError as error:
        raise ConfigurationError(explain(error, ShopFile), where=where, do="Correct the shop file.") from error
    except Untrusted as error:
        raise ConfigurationError(error.what, where=where, do="Correct the shop file.") from error


class _WithoutTitles(GenerateJsonSchema):
    """A title that only repeats the key in capitals helps nobody."""

    def field_title_should_be_set(self, schema: object) -> bool:
        """Never."""
        return False


def shop_schema() -> str:
    """The JSON schema of a shop file (draft 2020-12), as docs/shop.schema.json has it."""
    schema = ShopFile.model_json_schema(schema_generator=_WithoutTitles)
    document = {"$schema": GenerateJsonSchema.schema_dialect, **schema}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
