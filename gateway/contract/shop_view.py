"""What the commands about zones, beacons, receivers and the shop print with ``--json``."""

from typing import Literal

from gateway.contract.control import Digest
from gateway.contract.fields import GatewayId, Language, Name, PromotionId, Strict
from gateway.contract.recording import Corner
from gateway.contract.shop import BeaconEntry, ReceiverEntry, ShopFile
from gateway.core.model import PromotionKind


class ZoneView(Strict):
    """A zone and its anchors."""

    name: Name
    title: str
    tags: tuple[Name, ...]
    neighbours: tuple[Name, ...] | None
    """``None``: not known."""
    sensitive: bool
    enter_dbm: float | None
    """``None``: what is usual."""
    enter_after_s: float | None
    """``None``: as in the settings."""
    exit_delay_s: int
    stale_s: int | None
    """``None``: the same as ``exit_delay_s``."""
    dwell_s: tuple[int, ...]
    corners: tuple[Corner, ...] | None
    """x and y in metres; ``None``: not drawn."""
    anchors: tuple[Name, ...]
    """What stands in it; without any nobody is ever located there."""
    covered_by: tuple[Name, ...]
    """Receivers elsewhere that hear phones here."""


class PromotionHere(Strict):
    """A promotion that is offered in a zone."""

    promotion_id: PromotionId
    title: dict[Language, str]
    """By language."""
    kind: PromotionKind
    priority: int
    in_force: bool
    """Now."""


class ZoneWithPromotions(ZoneView):
    """A zone, and what is offered there."""

    promotions: tuple[PromotionHere, ...]
    """The highest priority first."""


class BeaconView(Strict):
    """A fixed beacon."""

    name: Name
    zone: Name
    uuid: str | None
    major: int | None
    minor: int | None
    """With the two above the key of an iBeacon; the key of the other formats is ``None``."""
    at: Corner | None
    """x and y in metres; ``None``: not known."""
    namespace: str | None
    instance: str | None
    """Both together the key of an Eddystone-UID."""
    beacon_id: str | None
    """The key of an AltBeacon."""


class ReceiverView(Strict):
    """A receiver of the shop, or one of this machine that the shop does not know."""

    name: Name
    zone: Name | None
    covers: tuple[Name, ...]
    """With neither zone nor covers it counts as hearing the whole shop."""
    at: Corner | None
    """x and y in metres; ``None``: not known."""
    in_shop: bool
    """False: it is in the settings only, and what it hears of shoppers is dropped."""
    in_settings: bool
    """Whether it is an adapter of this machine, or named under foreign_receivers."""
    adapter: str | None
    """Such as hci0; ``None`` also for the system's default adapter."""
    foreign: Name | None = None
    """The foreign_receivers of the settings that report what it hears."""
    gateway: GatewayId | None = None
    """Another gateway of the store that reports what it hears; known while this one runs and decides."""


class Zones(Strict):
    """All zones, by name."""

    zones: tuple[ZoneView, ...]


class Beacons(Strict):
    """All fixed beacons, by name."""

    beacons: tuple[BeaconView, ...]


class Receivers(Strict):
    """All receivers, by name."""

    receivers: tuple[ReceiverView, ...]


class Changed(Strict):
    """What a command has changed in the shop."""

    result: Literal["in_force", "kept", "unchanged", "dry_run"]
    """``kept``: in force when the gateway starts; ``unchanged``: there was nothing to do; ``dry_run``: only shown."""
    zones_added: tuple[Name, ...]
    zones_changed: tuple[Name, ...]
    zones_removed: tuple[Name, ...]
    anchors_added: tuple[Name, ...]
    anchors_changed: tuple[Name, ...]
    anchors_removed: tuple[Name, ...]
    digest: Digest
    """Of the shop as it is now, or would be."""


class ZoneChanged(Changed):
    """After ``zone add``."""

    zone: ZoneView


class BeaconChanged(Changed):
    """After ``beacon add``: also what to write into the beacon."""

    beacon: BeaconView


class ReceiverChanged(Changed):
    """After ``receiver add``."""

    receiver: ReceiverView


class ShopChecked(Strict):
    """What is in a shop file that is in order."""

    zones: int
    receivers: int
    beacons: int


def zone_view(shop: ShopFile, name: str) -> ZoneView:
    """One zone of the shop."""
    entry = shop.zones[name]
    return ZoneView(
        name=name,
        title=entry.title or name,
        tags=tuple(sorted(entry.tags)),
        neighbours=None if entry.neighbours is None else tuple(sorted(entry.neighbours)),
        sensitive=entry.sensitive,
        enter_dbm=entry.enter_dbm,
        enter_after_s=entry.enter_after_s,
        exit_delay_s=entry.exit_delay_s,
        stale_s=entry.stale_s,
        dwell_s=tuple(sorted(set(entry.dwell_s))),
        corners=entry.corners,
        anchors=tuple(sorted(anchor for anchor, it in shop.anchors.items() if it.zone == name)),
        covered_by=tuple(
            sorted(a for a, it in shop.anchors.items() if isinstance(it, ReceiverEntry) and name in it.covers and it.zone != name)
        ),
    )


def beacon_view(name: str, entry: BeaconEntry) -> BeaconView:
    """One beacon."""
    return BeaconView(
        name=name,
        zone=entry.zone,
        uuid=_small(entry.uuid),
        major=entry.major,
        minor=entry.minor,
        at=entry.at,
        namespace=_small(entry.namespace),
        instance=_small(entry.instance),
        beacon_id=_small(entry.beacon_id),
    )


def _small(digits: str | None) -> str | None:
    return None if digits is None else digits.lower()
