"""Capture files put together by hand, octet by octet, for the tests of the readers."""

import struct

from gateway.core.captures.ble_link_layer import crc

ADDRESS = bytes.fromhex("060504030201")
"""As on the air; written 01:02:03:04:05:06."""
FLAGS = bytes.fromhex("020106")
EPOCH_US = 0x00DCDDB30F2F8000


def legacy_report(data: bytes = FLAGS, rssi: int = -59, kind: int = 3, address: bytes = ADDRESS) -> bytes:
    body = b"\x02\x01" + bytes((kind, 1)) + address + bytes((len(data),)) + data + struct.pack("b", rssi)
    return b"\x04\x3e" + bytes((len(body),)) + body


def extended_report(
    data: bytes = FLAGS, kind: int = 0, rssi: int = -59, address_type: int = 1, advertising_set: int = 0
) -> bytes:
    head = struct.pack(
        "<HB6sBBBbbHB6sB", kind, address_type, ADDRESS, 1, 0, advertising_set, 127, rssi, 0, 0, bytes(6), len(data)
    )
    body = b"\x0d\x01" + head + data
    return b"\x04\x3e" + bytes((len(body),)) + body


def pdu(kind: int, body: bytes) -> bytes:
    return bytes((kind | 0x40, len(body))) + body


def on_air(unit: bytes, access_address: bytes = bytes.fromhex("d6be898e")) -> bytes:
    return access_address + unit + crc(unit)


def legacy(kind: int = 2, data: bytes = FLAGS) -> bytes:
    return on_air(pdu(kind, ADDRESS + data))


def extended(flags: int, fields: bytes = b"", data: bytes = b"", mode: int = 0) -> bytes:
    header = bytes((flags,)) + fields if flags else b""
    return on_air(pdu(7, bytes((mode << 6 | len(header),)) + header + data))


def with_radio(packet: bytes, flags: int = 0x0003, signal: int = -59) -> bytes:
    return struct.pack("<BbbB4sH", 37, signal, -90, 0, bytes.fromhex("d6be898e"), flags) + packet


def nordic(packet: bytes, flags: int = 1, version: int = 2, kind: int = 6, signal: int = 59) -> bytes:
    body = struct.pack("<BBBBHI", 10, flags, 37, signal, 0, 0) + packet
    return b"\x0b" + struct.pack("<HBHB", len(body), version, 7, kind) + body


def btsnoop(*packets: bytes, datalink: int = 1002, flags: int = 3, cut: int = 0) -> bytes:
    file = b"btsnoop\0" + struct.pack(">II", 1, datalink)
    for index, packet in enumerate(packets):
        size = len(packet)
        file += struct.pack(">IIIIq", size + cut, size, flags, 0, EPOCH_US + index + 1) + packet
    return file


def pcap(*packets: bytes, link_type: int = 187, order: str = "<", nanoseconds: bool = False, cut: int = 0) -> bytes:
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    file = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link_type)
    for index, packet in enumerate(packets):
        file += struct.pack(order + "IIII", 1, index, len(packet), len(packet) + cut) + packet
    return file


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def interface(link_type: int = 187, options: bytes = b"", order: str = "<", longest: int = 0) -> bytes:
    return block(1, struct.pack(order + "HHI", link_type, 0, longest) + options, order)


def enhanced(packet: bytes, number: int = 0, units: int = 1, order: str = "<", cut: int = 0, options: bytes = b"") -> bytes:
    head = struct.pack(order + "IIIII", number, units >> 32, units & 0xFFFFFFFF, len(packet), len(packet) + cut)
    return block(6, head + packet + bytes(-len(packet) % 4) + options, order)


def pcapng(*packets: bytes, link_type: int = 187, order: str = "<") -> bytes:
    return section(order) + interface(link_type, order=order) + b"".join(enhanced(p, order=order) for p in packets)
