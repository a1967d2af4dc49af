"""Receivers of other systems: topic and payload → `Report`s, in the terms of an advertisement that we heard ourselves.

A format is one file with a byte map of its payload, and one line in `FORMATS`. Formats do not know each other. To add one: write
the file, add its line, add its name to ``settings.ForeignReceivers.kind``.

``None`` means "not mine"; a ``Reject`` claims the format and breaks it. Whoever calls has parsed the JSON, within `MAX_PAYLOAD`
octets. Never raises for any value.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from gateway.core.model import Reject
from gateway.core.receivers import espresense, openmqttgateway, raddec
from gateway.core.receivers.reports import Life, Report

MAX_PAYLOAD = 16 * 1024
"""Octets of a message; ESP32 firmware sends at most 1 KiB, a raddec of 15 receivers and 15 packets 3 KiB."""


class Format(NamedTuple):
    """What one system publishes, and what reads it."""

    name: str
    prefix: str
    """Of its topics, out of the box."""
    topics: tuple[str, ...]
    """Below the prefix, to subscribe to."""
    read: Callable[[Sequence[str], Mapping[str, object]], list[Report] | Reject | None]
    """A topic's levels below the prefix, and the JSON object → reports."""
    read_life: Callable[[Sequence[str], bytes], Life | None]
    """A topic's levels below the prefix, and the payload → a receiver's birth or will."""

    def subscriptions(self, prefix: str) -> list[str]:
        """Topics with wildcards.

        >>> FORMATS["openmqttgateway"].subscriptions("site/home")
        ['site/home/+/BTtoMQTT/+', 'site/home/+/LWT']
        """
        return [f"{prefix}/{topic}" for topic in self.topics]


FORMATS = {
    one.name: one
    for one in (
        Format("espresense", espresense.PREFIX, espresense.TOPICS, espresense.read, espresense.read_life),
        Format(
            "openmqttgateway", openmqttgateway.PREFIX, openmqttgateway.TOPICS, openmqttgateway.read, openmqttgateway.read_life
        ),
        Format("raddec", raddec.PREFIX, raddec.TOPICS, raddec.read, raddec.read_life),
    )
}


def levels_below(prefix: str, topic: str) -> list[str]:
    """A topic's levels below ``prefix``; none at all for a topic that is not below it.

    >>> levels_below("espresense", "espresense/rooms/hall/status"), levels_below("home", "homely/LWT")
    (['rooms', 'hall', 'status'], [])
    """
    return topic[len(prefix) + 1 :].split("/") if topic.startswith(f"{prefix}/") else []
