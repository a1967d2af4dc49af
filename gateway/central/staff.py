"""What the people in a shop are told of beacons and receivers, in their language."""

from gateway.central.records import Fares
from gateway.contract.messages import BeaconHealthChanged, ReceiverHealthChanged, StaffAlarm, StaffAlarmData

_WELL = frozenset({"ok", "learning", "hearing", "unknown"})

_TEXTS: dict[tuple[str, str], tuple[str, str]] = {
    ("beacon", "silent"): (
        "Beacon {name} ({zone}) is not heard any more: see whether it is there, and change its battery.",
        "Beacon {name} ({zone}) ist nicht mehr zu hören: bitte nachsehen, ob er da ist, und die Batterie wechseln.",
    ),
    ("beacon", "covered"): (
        "Beacon {name} ({zone}) is heard much more faintly everywhere: please uncover it.",
        "Beacon {name} ({zone}) ist überall viel schwächer zu hören: bitte freiräumen.",
    ),
    ("beacon", "moved"): (
        "Beacon {name} ({zone}) is not where it was: please put it back.",
        "Beacon {name} ({zone}) ist nicht mehr an seinem Platz: bitte zurückbringen.",
    ),
    ("beacon", "weak"): (
        "Beacon {name} ({zone}) sends ever more faintly: please change its battery.",
        "Beacon {name} ({zone}) sendet immer schwächer: bitte die Batterie wechseln.",
    ),
    ("beacon", "cloned"): (
        "Beacon {name} ({zone}) is heard twice: please call the technician.",
        "Beacon {name} ({zone}) ist doppelt zu hören: bitte die Technik rufen.",
    ),
    ("beacon", "well"): (
        "Beacon {name} ({zone}) is in order again.",
        "Beacon {name} ({zone}) ist wieder in Ordnung.",
    ),
    ("battery", "low"): (
        "The battery of beacon {name} ({zone}) is low: please change it.",
        "Die Batterie von Beacon {name} ({zone}) ist schwach: bitte wechseln.",
    ),
    ("battery", "well"): (
        "The battery of beacon {name} ({zone}) is in order again.",
        "Die Batterie von Beacon {name} ({zone}) ist wieder in Ordnung.",
    ),
    ("receiver", "deaf"): (
        "Receiver {name} hears nothing: please check its power and its cables.",
        "Empfänger {name} hört nichts mehr: bitte Strom und Kabel prüfen.",
    ),
    ("receiver", "impaired"): (
        "Receiver {name} hears badly: please see whether it is covered or its antenna is loose.",
        "Empfänger {name} hört schlecht: bitte nachsehen, ob er verdeckt ist oder die Antenne lose.",
    ),
    ("receiver", "well"): (
        "Receiver {name} hears again.",
        "Empfänger {name} hört wieder.",
    ),
}


def fares_of(store: str, gateway: str, event: BeaconHealthChanged | ReceiverHealthChanged) -> Fares:
    """What of the event is kept as the newest."""
    document = event.data.model_dump_json(exclude_none=True)
    if isinstance(event, ReceiverHealthChanged):
        return Fares(store, "receiver", event.data.receiver, gateway, event.data.state, event.time, document)
    data = event.data
    if data.changed == "battery_state":
        return Fares(store, "battery", data.beacon, gateway, data.battery_state, event.time, document)
    return Fares(store, "beacon", data.beacon, gateway, data.state, event.time, document)


def alarm_of(event: BeaconHealthChanged | ReceiverHealthChanged, fares: Fares, source: str) -> StaffAlarm | None:
    """What is to be told of an event; ``None`` where a person has nothing to do and nothing to know."""
    if isinstance(event, ReceiverHealthChanged) and event.data.state == event.data.before:
        return None
    zone = event.data.zone if isinstance(event, BeaconHealthChanged) else None
    is_over = fares.state in _WELL
    english, german = _TEXTS[fares.subject, "well" if is_over else fares.state]
    return StaffAlarm(
        id=f"{event.epoch}-{event.seq}-alarm",
        source=source,
        time=event.time,
        data=StaffAlarmData.model_validate(
            {
                "subject": fares.subject,
                "name": fares.name,
                "zone": zone,
                "state": fares.state,
                "is_over": is_over,
                "text": {"en": english.format(name=fares.name, zone=zone), "de": german.format(name=fares.name, zone=zone)},
            }
        ),
    )
