"""The two MQTT packets that come and go by the hundred, read and written without paho's objects for their properties.

paho makes an object of MQTT 5 properties that takes two thirds of what receiving a message costs, and a third of what publishing
one does; nobody here reads them. Source: MQTT 5.0, sections 2.2.2 (properties), 3.3 (PUBLISH) and 3.4 (PUBACK); MQTT 3.1.1 is
the same without properties.
"""

from collections.abc import Callable
from typing import NamedTuple

from paho.mqtt import client as paho
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties
from paho.mqtt.reasoncodes import ReasonCode

from gateway.contract.messages import CONTENT_TYPE

_PUBLISH, _PUBACK = 0x30, 0x40
"""The upper four bits of a packet's first octet."""
_QOS_1 = 0x02
_QOS = 0x06
_RETAIN = 0x01
_MORE = 0x80
_LENGTH_OCTETS = 4
_SHORTEST = 4
"""Without a topic; MQTT 5 knows that with topic aliases, which nobody here allows the broker."""
_SUCCESS, _NO_PROPERTIES = ReasonCode(PacketTypes.PUBACK), PahoProperties(PacketTypes.PUBACK)  # type: ignore[no-untyped-call]
_CONTENT_TYPE = b"\x03" + len(CONTENT_TYPE).to_bytes(2, "big") + CONTENT_TYPE.encode()


class Properties:
    """Of a publication, as octets, in the place of paho's own object.

    ``length`` | 03 content type ×(2 + n) | 02 expiry ×4, seconds | 09 correlation ×(2 + n).
    """

    __slots__ = ("_octets",)

    def __init__(self, *, expiry_s: int | None, correlation: str | None) -> None:
        octets = _CONTENT_TYPE
        if expiry_s is not None:
            octets += b"\x02" + expiry_s.to_bytes(4, "big")
        if correlation is not None:
            encoded = correlation.encode()
            octets += b"\x09" + len(encoded).to_bytes(2, "big") + encoded
        size = len(octets)
        self._octets = (bytes((size,)) if size < _MORE else bytes((size & 0x7F | _MORE, size >> 7))) + octets

    def pack(self) -> bytes:
        """What paho puts into the packet."""
        return self._octets


class Received(NamedTuple):
    """A message of QoS 1."""

    topic: str
    payload: bytes
    retained: bool
    identifier: int


def published(first: int, rest: bytes | bytearray, *, has_properties: bool) -> Received | None:
    """A PUBLISH of QoS 1, from its first octet and what follows its length; ``None``: of another QoS. ``ValueError``: malformed.

    ``topic`` ×(2 + n) | identifier ×2 | properties, with MQTT 5: length ×1–4, the rest ×n | payload.
    """
    if first & _QOS != _QOS_1:
        return None
    topic_end = 2 + int.from_bytes(rest[:2], "big")
    start = topic_end + 2
    if len(rest) < start:
        raise ValueError("a PUBLISH ends within its topic")
    if start == _SHORTEST:
        raise ValueError("a PUBLISH has no topic")
    identifier = int.from_bytes(rest[topic_end:start], "big")
    if has_properties:
        start = _after_properties(rest, start)
    return Received(rest[2:topic_end].decode(), bytes(rest[start:]), bool(first & _RETAIN), identifier)


def _after_properties(rest: bytes | bytearray, start: int) -> int:
    size = 0
    for place, octet in enumerate(rest[start : start + _LENGTH_OCTETS]):
        size |= (octet & 0x7F) << 7 * place
        if octet < _MORE:
            end = start + place + 1 + size
            if end > len(rest):
                break
            return end
    raise ValueError("a PUBLISH ends within its properties")


def confirmed(rest: bytes | bytearray) -> int | None:
    """The identifier of a PUBACK that says nothing but yes; ``None``: it says more."""
    # Without a reason code it is 0, success; and without properties nothing follows it.
    return int.from_bytes(rest[:2], "big") if len(rest) == 2 or (len(rest) == 3 and rest[2] == 0) else None


class Client(paho.Client):
    """paho's client, which hands messages of QoS 1 to ``take(topic, payload, retained)`` and not to ``on_message``."""

    take: Callable[[str, bytes, bool], None]

    @classmethod
    def replace(cls, client: paho.Client, take: Callable[[str, bytes, bool], None]) -> None:
        """Make one of paho's own, which aiomqtt has made and knows no other way, one of these."""
        client.__class__ = cls
        assert isinstance(client, cls)
        client.take = take

    def _packet_handle(self) -> MQTTErrorCode:
        """The packet that has just come in whole; all but the two go paho's way."""
        first, rest = self._in_packet["command"], self._in_packet["packet"]
        kind = first & 0xF0
        if kind == _PUBLISH:
            try:
                received = published(first, rest, has_properties=self._protocol == MQTTProtocolVersion.MQTTv5)
            except ValueError:
                return MQTTErrorCode.MQTT_ERR_PROTOCOL
            if received is not None:
                self.take(received.topic, received.payload, received.retained)
                return self._send_puback(received.identifier)
        elif kind == _PUBACK:
            identifier = confirmed(rest)
            if identifier is not None and identifier in self._out_messages:
                with self._out_message_mutex:
                    return self._do_on_publish(identifier, _SUCCESS, _NO_PROPERTIES)
        return super()._packet_handle()
