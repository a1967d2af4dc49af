"""Changes of a shop, pure: each gives a whole new shop that has been validated, or refuses with ``WrongCommand``."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from gateway.contract.fields import Name, explain
from gateway.contract.shop import KEYS, BeaconEntry, ReceiverEntry, ShopFile
from gateway.core.sanitiser import printable
from gateway.core.spelling import listed, no_such
from gateway.errors import WrongCommand

AnchorKind = Literal["receiver", "beacon"]

_NAME: TypeAdapter[str] = TypeAdapter(Name)
_FIRST_MINOR, _LAST_MINOR = 1, 0xFFFE


# ---- zones --------------------------------------------------------------------------------------------------------------------


def with_zone(shop: ShopFile, name: str, given: Mapping[str, Any], *, replace: bool) -> ShopFile:
    """Add a zone, or with ``replace`` change in an existing one what is ``given`` (fields of ``ZoneEntry``).

    Neighbours are neighbours of each other: given, they are added and taken away on both sides, and a zone whose neighbours were
    not known has this one from then on.
    """
    _check_name(name)
    before = shop.zones.get(name)
    if before is not None and not replace:
        raise WrongCommand(f"the zone {name} exists already; --replace changes what you name and keeps the rest.")
    zones: dict[str, Any] = {zone: entry.model_dump() for zone, entry in shop.zones.items()}
    zones[name] = {**zones.get(name, {}), **given}
    if given.get("neighbours") is not None:
        neighbours = given["neighbours"]
        for neighbour in neighbours:
            _check_known("zone", neighbour, shop.zones)
            if neighbour == name:
                raise WrongCommand(f"the zone {name} cannot be its own neighbour.")
        for other, entry in zones.items():
            if other != name:
                entry["neighbours"] = _beside(entry["neighbours"], name, is_beside=other in neighbours)
    return _shop(zones, _anchors(shop))


def _beside(neighbours: tuple[str, ...] | None, name: str, *, is_beside: bool) -> tuple[str, ...] | None:
    if is_beside == (name in (neighbours or ())):
        return neighbours
    return (*(neighbours or ()), name) if is_beside else tuple(zone for zone in neighbours or () if zone != name)


def without_zone(shop: ShopFile, name: str, *, cascade: bool) -> ShopFile:
    """Remove a zone, also from its neighbours.

    Anchors in it hold it back. With ``cascade`` the anchors that stand in it go too, and so do receivers that cover nothing
    else, because one that stands nowhere and covers nothing would count as hearing the whole shop.
    """
    _check_known("zone", name, shop.zones)
    held_by = sorted(anchor for anchor, entry in shop.anchors.items() if entry.zone == name or name in _covers(entry))
    if held_by and not cascade:
        what = "the anchor stands in it or covers it" if len(held_by) == 1 else "these anchors stand in it or cover it"
        raise WrongCommand(
            f"the zone {name} is in use, {what}: {listed(held_by)}.",
            do="Remove them first (gateway beacon remove, gateway receiver remove), or use --cascade.",
        )
    zones = {zone: entry.model_dump() for zone, entry in shop.zones.items() if zone != name}
    for entry in zones.values():
        entry["neighbours"] = _beside(entry["neighbours"], name, is_beside=False)
    anchors: dict[str, Any] = {}
    for anchor, document in _anchors(shop).items():
        covered = tuple(zone for zone in document.get("covers", ()) if zone != name)
        is_left = document["zone"] is not None or covered or not document.get("covers")
        if document["zone"] != name and is_left:
            anchors[anchor] = {**document, "covers": covered} if "covers" in document else document
    return _shop(zones, anchors)


# ---- anchors ------------------------------------------------------------------------------------------------------------------


def with_anchor(shop: ShopFile, kind: AnchorKind, name: str, given: Mapping[str, Any], *, replace: bool) -> ShopFile:
    """Add a beacon or receiver, or with ``replace`` change in an existing one what is ``given`` (fields of its entry).

    A beacon has the key of one format: one that is given replaces that of another.
    """
    _check_name(name)
    before = shop.anchors.get(name)
    if before is not None and before.kind != kind:
        raise WrongCommand(f"{name} is the name of a {before.kind} already; anchors need different names.")
    if before is not None and not replace:
        raise WrongCommand(f"the {kind} {name} exists already; --replace changes what you name and keeps the rest.")
    for zone in (given.get("zone"), *given.get("covers", ())):
        if zone is not None:
            _check_known("zone", zone, shop.zones)
    anchors = _anchors(shop)
    had = anchors.get(name, {"kind": kind})
    if any(given.keys() & set(fields) for fields in KEYS.values()):
        other = {field for fields in KEYS.values() if not given.keys() & set(fields) for field in fields}
        had = {field: value for field, value in had.items() if field not in other}
    anchors[name] = {**had, **given}
    return _shop({zone: entry.model_dump() for zone, entry in shop.zones.items()}, anchors)


def without_anchor(shop: ShopFile, kind: AnchorKind, name: str) -> ShopFile:
    """Remove a beacon or receiver."""
    _check_known(kind, name, [anchor for anchor, entry in shop.anchors.items() if entry.kind == kind])
    return ShopFile(zones=shop.zones, anchors={anchor: entry for anchor, entry in shop.anchors.items() if anchor != name})


def next_minor(shop: ShopFile) -> int:
    """A free minor: above the highest, so that a beacon that was taken away and still transmits stands for no other; then any."""
    taken = {entry.minor for entry in shop.anchors.values() if isinstance(entry, BeaconEntry) and entry.minor is not None}
    above = max(taken, default=_FIRST_MINOR - 1) + 1
    free = above if above <= _LAST_MINOR else next((m for m in range(_FIRST_MINOR, _LAST_MINOR + 1) if m not in taken), None)
    if free is None:
        raise WrongCommand("every minor from 1 to 65534 is taken; remove a beacon first.")
    return free


def usual_major(shop: ShopFile) -> int:
    """What most beacons of the shop have; 1 for the first."""
    beacons = (entry for entry in shop.anchors.values() if isinstance(entry, BeaconEntry))
    majors = Counter(beacon.major for beacon in beacons if beacon.major is not None)
    return majors.most_common(1)[0][0] if majors else 1


# ---- differences --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """The names of what is new, gone, or not as it was; sorted."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> Difference:
    """Of zones or anchors, compiled: the order of tags and the spelling of a UUID make none."""
    return Difference(
        added=tuple(sorted(after.keys() - before.keys())),
        changed=tuple(sorted(name for name in after.keys() & before.keys() if after[name] != before[name])),
        removed=tuple(sorted(before.keys() - after.keys())),
    )


def normal(shop: ShopFile) -> ShopFile:
    """The same shop, spelt as the daemon spells it: small letters, names and tags in order."""
    return ShopFile.of(shop.compiled())


# ---- what all of them need ----------------------------------------------------------------------------------------------------


def _covers(entry: ReceiverEntry | BeaconEntry) -> tuple[str, ...]:
    return entry.covers if isinstance(entry, ReceiverEntry) else ()


def _anchors(shop: ShopFile) -> dict[str, Any]:
    return {name: entry.model_dump() for name, entry in shop.anchors.items()}


def _shop(zones: dict[str, Any], anchors: dict[str, Any]) -> ShopFile:
    try:
        return ShopFile.model_validate({"zones": zones, "anchors": anchors})
    except ValidationError as error:
        raise WrongCommand(f"{explain(error)} Nothing was changed.") from error


def _check_name(name: str) -> None:
    try:
        _NAME.validate_python(name)
    except ValidationError as error:
        raise WrongCommand(
            f"{printable(name, 60)} is no name: use up to 48 small letters, digits, - and _, beginning with a letter or digit."
        ) from error


def _check_known(kind: str, name: str, known: Any) -> None:
    if name not in known:
        raise WrongCommand(no_such(kind, name, known))
