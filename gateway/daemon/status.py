"""The gateway on one screen: what it hears, whom it serves, what waits, and the one thing to do next."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from gateway.contract.control import BrokerStatus, DiskStatus, OutboxStatus, ReceiverStatus, Status
from gateway.contract.settings import Settings
from gateway.contract.shop import ShopFile
from gateway.core.spelling import listed
from gateway.io.store import AFTERWARDS, Gap, NoRoom, sentence

_MIB = 1024 * 1024
_LITTLE_DISK_MIB = 200
OF_LATE_MS = 24 * 3600 * 1000
"""For so long it is told that events were lost."""
_DEAF_S = 120
_LONG_UNACKNOWLEDGED_S = 60
_TO_DO = {
    "silent": "is not heard any more: see whether it is there, and change its battery.",
    "cloned": "is heard twice: find the other one with its key, or give it another: gateway beacon add {name} --replace.",
    "moved": "is not where it was: put it back, or if it is right there, gateway beacon relearn {name}.",
    "covered": "is heard much more faintly by everyone: uncover it, or if it is right so, gateway beacon relearn {name}.",
    "weak": "sends ever more faintly: change its battery.",
    "low": "has a low battery: change it.",
}
_URGENT = tuple(_TO_DO)


def disk_status(settings: Settings, database: Path) -> DiskStatus:
    """Room where the database is, or will be."""
    folder = next((parent for parent in database.parents if parent.exists()), Path("/"))
    sizes = [part.stat().st_size for part in (database, database.with_name(f"{database.name}-wal")) if part.exists()]
    return DiskStatus(
        free_mib=shutil.disk_usage(folder).free // _MIB,
        database_mib=round(sum(sizes) / _MIB, 1),
        quota_mib=settings.storage.quota_mib,
    )


class RoomTold(NamedTuple):
    """What the database says about room: whether it takes nothing, and the newest gap that this has torn."""

    trouble: NoRoom | None
    gap: Gap | None
    now_ms: int
    """Wall milliseconds."""

    @property
    def urgent(self) -> str | None:
        """What has to be done, while events are lost."""
        if self.trouble is None:
            return None
        lost = f" {sentence(self.gap)}" if self.gap is not None and not self.gap.is_over else ""
        what = self.trouble.what
        return f"{what[0].upper()}{what[1:]}{lost} {self.trouble.do}"

    @property
    def of_late(self) -> str | None:
        """What was lost not long ago, and what to do about it."""
        if self.gap is None or not 0 <= self.now_ms - self.gap.until_wall_ms < OF_LATE_MS:
            return None
        return f"{sentence(self.gap)} {AFTERWARDS[self.gap.cause]}"


_NOTHING_TOLD = RoomTold(None, None, 0)


def next_step(status: Status, config: str, room: RoomTold = _NOTHING_TOLD) -> str:  # noqa: C901, PLR0911, PLR0912 -- a list of questions in order of urgency
    """The one thing a technician should do now; the first trouble that hides the others comes first."""
    if status.state == "stopped":
        return "The gateway is not running: sudo systemctl start gateway, then journalctl -u gateway if it ends again."
    if room.urgent is not None:
        return room.urgent
    if status.disk.free_mib < _LITTLE_DISK_MIB:
        return f"Only {status.disk.free_mib} MiB are free: make room on the disk before events are lost."
    if status.disk.database_mib > 0.9 * status.disk.quota_mib:
        return "The database is nearly as large as storage.quota_mib allows: see why central does not acknowledge, or raise it."
    if status.clock == "unsynchronised":
        return "The clock is not synchronised, so nobody is recognised: see timedatectl, and whether NTP is reachable."
    if status.privacy_missing:
        return f"Nothing about phones is kept before these are set in {config}: {', '.join(status.privacy_missing)}."
    if not status.trusts_central:
        return f"No catalogue or roster is believed before trust.public_keys is set in {config} (gateway central key prints it)."
    if not status.receivers:
        return f"No receiver is configured: add [[receivers]] to {config}."
    if not status.zones:
        return "The shop has no zones: gateway zone add NAME, then gateway receiver add NAME --zone ZONE."
    for receiver in status.receivers:
        if not receiver.in_shop:
            return f"Receiver {receiver.name} stands nowhere in the shop: gateway receiver add {receiver.name} --zone ZONE."
    for receiver in status.receivers:
        if receiver.state == "deaf":
            return f"Receiver {receiver.name} hears nothing: {receiver.trouble or 'see gateway doctor'}"
        if receiver.heard_s_ago is not None and receiver.heard_s_ago > _DEAF_S:
            return f"Receiver {receiver.name} has heard nothing for {receiver.heard_s_ago:.0f} s: see gateway doctor."
    if status.blind_zones:
        zones = listed(status.blind_zones)
        return f"Nobody can be heard in {zones}, and promotions there pause: see gateway beacon health."
    if status.zone_model_trouble is not None:
        return f"{status.zone_model_trouble[0].upper()}{status.zone_model_trouble[1:]}"
    if status.broker.state == "offline":
        return f"The broker {status.broker.host}:{status.broker.port} is not reached: gateway doctor says at which step it fails."
    if status.central == "offline":
        return "Central is offline: events wait here until it is back; nobody gets an offer meanwhile."
    if status.central == "unknown":
        return "The broker has not heard of central yet: is gateway central running, and may it write central/state?"
    if status.role == "receive" and status.decider is None:
        return "No gateway of the store decides, as far as is known: start the one that does, or gateway takeover here."
    if status.role == "receive" and not status.decider_online:
        return f"Gateway {status.decider}, which decides, is offline: start it again, or if it is gone, gateway takeover here."
    if status.outbox.oldest_s is not None and status.outbox.oldest_s > _LONG_UNACKNOWLEDGED_S:
        return f"Central has not acknowledged events for {status.outbox.oldest_s:.0f} s: does it serve this store? See its log."
    if status.beacon_faults:
        return _about_beacons(status.beacon_faults)
    if status.catalogue is None:
        return "Central has sent no promotions yet: gateway offer import FILE, where central runs."
    if not status.roster_size and not status.test_shoppers:
        return "Nobody is in the roster yet: enrol an app with central, or try gateway test-shopper add NAME."
    if status.role == "receive":
        return f"Nothing: it receives for gateway {status.decider}, which decides."
    if status.mode == "listen-only":
        return 'Only listening: nothing is offered until mode = "live" in the settings.'
    if not status.catalogue.in_force:
        return "No promotion is in force at the moment: gateway offer list shows when they are."
    for receiver in status.receivers:
        if receiver.trouble is not None:
            return f"Receiver {receiver.name} hears, but: {receiver.trouble}"
        if receiver.radio is not None and receiver.radio.source == "bluetoothd":
            return f"Receiver {receiver.name} misses much of what is sent. {receiver.radio.helper_trouble or ''}".rstrip()
    if room.of_late is not None:
        return f"Nothing in a hurry: {room.of_late}"
    return "Nothing: all is well."


def _about_beacons(faults: Mapping[str, str]) -> str:
    name, fault = min(faults.items(), key=lambda item: (_URGENT.index(item[1]), item[0]))
    others = f" ({len(faults)} beacons are not as they should be: gateway beacon health)" if len(faults) > 1 else ""
    return f"Beacon {name} {_TO_DO[fault].format(name=name)}{others}"


def stopped_status(settings: Settings, version: str, outbox: OutboxStatus, shop: ShopFile) -> Status:
    """What can be said without a running daemon, but for the next step."""
    adapters = {receiver.name: receiver.adapter for receiver in settings.receivers}
    receivers = settings.receivers_of(name for name, anchor in shop.anchors.items() if anchor.kind == "receiver")
    return Status(
        version=version,
        store=settings.store,
        gateway=settings.gateway,
        state="stopped",
        mode=settings.mode,
        receivers=tuple(
            ReceiverStatus(name=name, adapter=adapters.get(name), state="stopped", heard_per_s=0.0, in_shop=True)
            for name in receivers
        ),
        zones=len(shop.zones),
        anchors=len(shop.anchors),
        outbox=outbox,
        broker=BrokerStatus(host=settings.broker.host, port=settings.broker.port, state="offline", connections=0),
        central="unknown",
        clock="unsynchronised",
        disk=disk_status(settings, settings.database_path),
        privacy_missing=tuple(settings.privacy.missing),
        trusts_central=bool(settings.trust.public_keys),
        next_step="",
    )
