"""How the fixed beacons and the receivers fare, with what hangs on them, for whoever asks."""

from gateway.contract.control import BeaconBattery, BeaconFares, BeaconLink, BeaconsHealth, BlindZone, ReceiverFares
from gateway.core.model import BatteryHealth, BatteryState, BeaconState, Instant, LinkHealth
from gateway.core.pipeline import Pipeline

_AS_IT_SHOULD_BE: frozenset[BeaconState] = frozenset({"ok", "learning"})


def beacons_health(pipeline: Pipeline, now: Instant) -> BeaconsHealth:
    """At the last tick of the canaries."""
    report, catalogue = pipeline.canaries.health(), pipeline.catalogue

    def promotions(zone: str | None) -> tuple[str, ...]:
        if catalogue is None or zone is None:
            return ()
        return tuple(promotion.promotion_id for promotion, _ in catalogue.in_zone(zone))

    return BeaconsHealth(
        beacons=tuple(
            BeaconFares(
                name=beacon.name,
                zone=beacon.zone,
                state=beacon.state,
                since_s=_ago_s(beacon.since_ms, now) or 0.0,
                heard_s_ago=_ago_s(beacon.heard_ms, now),
                links=tuple(_link(link, now) for link in beacon.links),
                battery=_battery(beacon.battery),
                reboots=beacon.reboots,
                uptime_s=None if beacon.uptime_ms is None else beacon.uptime_ms / 1000,
                promotions=promotions(beacon.zone),
                paused=beacon.zone in report.blind_zones,
            )
            for beacon in report.beacons
        ),
        receivers=tuple(
            ReceiverFares(
                name=receiver.name,
                hearing=receiver.hearing,
                since_s=_ago_s(receiver.since_ms, now) or 0.0,
                canaries=receiver.canaries,
                silent=receiver.silent,
                shift_db=receiver.shift_db,
            )
            for receiver in report.receivers
        ),
        blind_zones=tuple(BlindZone(name=zone, promotions=promotions(zone)) for zone in sorted(report.blind_zones)),
    )


def beacon_faults(pipeline: Pipeline) -> dict[str, BeaconState | BatteryState]:
    """Beacons that are not as they should be, by name, and what is wrong."""
    faults: dict[str, BeaconState | BatteryState] = {}
    for beacon in pipeline.canaries.health().beacons:
        if beacon.state not in _AS_IT_SHOULD_BE:
            faults[beacon.name] = beacon.state
        elif beacon.battery.state == "low":
            faults[beacon.name] = "low"
    return faults


def _link(link: LinkHealth, now: Instant) -> BeaconLink:
    return BeaconLink(
        receiver=link.receiver,
        heard_s_ago=_ago_s(link.heard_ms, now),
        level_dbm=link.level_dbm,
        baseline_dbm=link.baseline_dbm,
        rate_hz=link.rate_hz,
        usual_rate_hz=link.usual_rate_hz,
        loss=link.loss,
    )


def _battery(battery: BatteryHealth) -> BeaconBattery:
    return BeaconBattery(
        state=battery.state,
        volts=None if battery.millivolts is None else battery.millivolts / 1000,
        percent=battery.percent,
        temperature_c=None if battery.temperature_c is None else round(battery.temperature_c, 1),
        days_left_least=None if battery.days_left is None else battery.days_left[0],
        days_left_most=None if battery.days_left is None else battery.days_left[1],
    )


def _ago_s(at_ms: int | None, now: Instant) -> float | None:
    return None if at_ms is None else max(0, now.mono_ms - at_ms) / 1000
