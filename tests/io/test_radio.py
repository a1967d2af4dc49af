"""The radio helper and the daemon's end of its socket, with a fake of the kernel's management socket behind them."""

import asyncio
import errno
import fcntl
import logging
import os
import random
import socket
import stat
import struct
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract import radio
from gateway.errors import ConfigurationError, DiskError, GatewayError, TryAgain
from gateway.io.radio.management import Management
from gateway.io.radio.server import RESET_PAUSE_MS, RadioServer
from gateway.io.radio.usb import UsbBus
from gateway.io.radio_link import RadioLink
from tests.fakes.kernel import (
    CONTROLLER_ERROR,
    DISCOVERING,
    LOW_ENERGY,
    POWERED,
    READ_INFO,
    SET_POWERED,
    FakeKernel,
    event,
    report,
)

FIRST, SECOND = "F0:F1:F2:F3:F4:F5", "A0:A1:A2:A3:A4:A5"
BEACON = "C0:00:00:00:00:01"
DATA = bytes.fromhex("0201061aff4c000215000102030405060708090a0b0c0d0e0f00010002c5")
NO_USB = UsbBus(sys=Path("/nonexistent"))
BATCH_MS = 5

Heard = list[tuple[str, int, bytes]]


def now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


async def until(is_so: Callable[[], bool], within_s: float = 20) -> None:
    async with asyncio.timeout(within_s):
        while not is_so():  # noqa: ASYNC110 (what is looked at announces nothing)
            await asyncio.sleep(0.005)


@pytest.fixture
def path() -> Iterator[Path]:
    """A socket's path has to be short."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "radio" / "radio.sock"


class Ends:
    """A fake kernel, a helper and a daemon's end, all running."""

    def __init__(self, kernel: FakeKernel, link: RadioLink, path: Path) -> None:
        self.kernel = kernel
        self.link = link
        self.path = path
        self.heard: Heard = []

    def listen(self, address: str = FIRST) -> None:
        self.link.listen(address, lambda *heard: self.heard.append(heard))

    async def until_heard(self, count: int) -> None:
        await until(lambda: len(self.heard) >= count)


@asynccontextmanager
async def serving(kernel: FakeKernel, path: Path, usb: UsbBus = NO_USB) -> AsyncIterator[asyncio.Task[object]]:
    ready = asyncio.Event()
    server = RadioServer(path, kernel.helpers_end, now_ms, usb=usb, batch_ms=BATCH_MS)
    running: asyncio.Task[object] = asyncio.create_task(server.run(ready.set))
    try:
        async with asyncio.timeout(20):
            await ready.wait()
        yield running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def linked(path: Path, clock: Callable[[], int] = now_ms) -> AsyncIterator[RadioLink]:
    link = RadioLink(path, clock)
    running = asyncio.create_task(link.run())
    try:
        yield link
        assert not running.done(), running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def ends(path: Path, *adapters: str, usb: UsbBus = NO_USB) -> AsyncIterator[Ends]:
    async with FakeKernel(*(adapters or (FIRST,))) as kernel, serving(kernel, path, usb), linked(path) as link:
        await until(lambda: len(link.adapters) == len(kernel.adapters))
        yield Ends(kernel, link, path)


# ---- what is heard


@pytest.mark.parametrize("monitor", [None, 0, 7], ids=["active scan", "passive scan", "passive scan, matched by the controller"])
async def test_every_report_arrives_in_the_order_of_the_air(path: Path, monitor: int | None) -> None:
    sent = [
        (f"C0:00:00:00:{number // 256:02X}:{number % 256:02X}", -40 - number % 60, DATA[: number % 30 + 1])
        for number in range(500)
    ]
    async with ends(path) as all_of:
        all_of.listen()
        for one in sent:
            await all_of.kernel.advertise(*one, monitor=monitor)
        await all_of.until_heard(500)
        assert all_of.heard == sent
        counts = all_of.link.counts
        assert (counts.heard, counts.no_rssi, counts.empty, counts.broken, counts.lost, counts.dropped) == (500, 0, 0, 0, 0, 0)


async def test_extended_advertisements_are_longer_than_31_octets(path: Path) -> None:
    long = bytes(range(256)) * 12
    async with ends(path) as all_of:
        all_of.listen()
        for _ in range(40):
            await all_of.kernel.advertise(BEACON, -60, long)
        await all_of.until_heard(40)
        assert all_of.heard == [(BEACON, -60, long)] * 40


@pytest.mark.parametrize(
    ("rssi", "data", "kind", "counted"),
    [
        (127, DATA, 2, "no_rssi"),
        (-127, DATA, 2, "no_rssi"),
        (21, DATA, 2, "no_rssi"),
        (-60, b"", 2, "empty"),
        (-60, DATA, 0, None),
    ],
    ids=["none", "none, as BlueZ says it", "impossible", "no data", "a classic device"],
)
async def test_what_is_no_advertisement_with_a_strength_is_left_out(
    path: Path, rssi: int, data: bytes, kind: int, counted: str | None
) -> None:
    async with ends(path) as all_of:
        all_of.listen()
        all_of.kernel.tell(report(0, "C0:00:00:00:00:02", rssi, data, kind=kind))
        await all_of.kernel.advertise(BEACON, -60, DATA)
        await all_of.until_heard(1)
        assert all_of.heard == [(BEACON, -60, DATA)]
        counts = all_of.link.counts
        assert {name: getattr(counts, name) for name in ("no_rssi", "empty") if getattr(counts, name)} == (
            {counted: 1} if counted else {}
        )


async def test_each_adapter_has_its_own_listener_and_others_are_not_heard(path: Path) -> None:
    async with ends(path, FIRST, SECOND) as all_of:
        all_of.listen(SECOND)
        await all_of.kernel.advertise(BEACON, -50, DATA, index=0)
        await all_of.kernel.advertise(BEACON, -60, DATA, index=1)
        await all_of.until_heard(1)
        assert all_of.heard == [(BEACON, -60, DATA)]
        all_of.link.stop_listening(SECOND)
        all_of.listen(FIRST)
        await all_of.kernel.advertise(BEACON, -61, DATA, index=1)
        await all_of.kernel.advertise(BEACON, -51, DATA, index=0)
        await all_of.until_heard(2)
        assert all_of.heard[1:] == [(BEACON, -51, DATA)]


async def test_an_adapter_is_followed_by_its_address_when_its_number_changes(path: Path) -> None:
    async with ends(path, FIRST, SECOND) as all_of:
        all_of.listen(FIRST)
        # In one go: what was heard under the old number, the change, and what is heard under the new one.
        await all_of.kernel.advertise(BEACON, -50, DATA, index=0)
        all_of.kernel.remove(0)
        all_of.kernel.add(2, FIRST, POWERED)
        await until(lambda: all_of.link.adapters.get(FIRST) is not None and all_of.link.adapters[FIRST].name == "hci2")
        await all_of.kernel.advertise(BEACON, -70, DATA, index=0)
        await all_of.kernel.advertise(BEACON, -52, DATA, index=2)
        await all_of.until_heard(2)
        assert [rssi for _, rssi, _ in all_of.heard] == [-50, -52]


# ---- what is known of adapters


async def test_what_happens_to_adapters_is_told(path: Path) -> None:
    async with ends(path) as all_of:
        told: list[dict[str, tuple[str, bool, bool]]] = []

        def changed() -> None:
            told.append({address: (it.name, it.powered, it.discovering) for address, it in all_of.link.adapters.items()})

        all_of.link.watch(changed)
        all_of.kernel.power(0, on=False)
        all_of.kernel.power(0, on=True)
        all_of.kernel.discovering(0, on=True)
        all_of.kernel.add(3, SECOND)
        await until(lambda: SECOND in all_of.link.adapters)
        all_of.kernel.remove(0)
        await until(lambda: FIRST not in all_of.link.adapters)
        assert told == [
            {FIRST: ("hci0", False, False)},
            {FIRST: ("hci0", True, False)},
            {FIRST: ("hci0", True, True)},
            {FIRST: ("hci0", True, True), SECOND: ("hci3", False, False)},
            {SECOND: ("hci3", False, False)},
        ]


async def test_an_adapter_that_has_no_address_before_it_is_switched_on_appears_then(path: Path) -> None:
    async with ends(path) as all_of:
        all_of.kernel.add(1, "00:00:00:00:00:00")
        await until(lambda: (READ_INFO, 1, b"") in all_of.kernel.commands)
        all_of.kernel.adapters[1] = (SECOND, LOW_ENERGY)
        all_of.kernel.power(1, on=True)
        await until(lambda: SECOND in all_of.link.adapters)
        assert all_of.link.adapters[SECOND].powered


# ---- resets


async def test_a_reset_switches_an_adapter_that_is_not_on_usb_off_and_on_once_in_a_while(path: Path) -> None:
    async with ends(path) as all_of:
        assert await all_of.link.reset(FIRST) == "power cycle"
        assert [(code, body) for code, _, body in all_of.kernel.commands if code == SET_POWERED] == [
            (SET_POWERED, b"\0"),
            (SET_POWERED, b"\1"),
        ]
        await until(lambda: all_of.link.adapters[FIRST].powered)
        with pytest.raises(TryAgain, match=f"already; at most once in {RESET_PAUSE_MS // 1000} s"):
            await all_of.link.reset(FIRST)


@pytest.mark.parametrize(
    ("status", "words"),
    [(0x12, "rfkill blocks it"), (0x0A, "it is busy"), (0x7E, "status 0x7e")],
)
async def test_a_reset_that_the_kernel_refuses_says_why(path: Path, status: int, words: str) -> None:
    async with ends(path) as all_of:
        all_of.kernel.refuse[SET_POWERED] = status
        with pytest.raises(TryAgain, match=f"cannot be switched on again: .*{words}"):
            await all_of.link.reset(FIRST)


async def test_an_adapter_that_is_not_there_cannot_be_reset(path: Path) -> None:
    async with ends(path) as all_of:
        with pytest.raises(TryAgain, match="it is gone"):
            await all_of.link.reset(SECOND)


async def test_without_a_helper_a_reset_says_so(path: Path) -> None:
    async with linked(path) as link:
        with pytest.raises(TryAgain, match="helper does not run"):
            await link.reset(FIRST)


async def test_a_helper_that_ends_during_a_reset_leaves_nobody_waiting(path: Path) -> None:
    async with FakeKernel(FIRST) as kernel, linked(path) as link:
        async with serving(kernel, path):
            await until(lambda: FIRST in link.adapters)
            kernel.silent.add(SET_POWERED)
            asked = asyncio.create_task(link.reset(FIRST))
            await until(lambda: any(code == SET_POWERED for code, _, _ in kernel.commands))
        with pytest.raises(TryAgain, match="ended before it was done"):
            await asked


def usb_tree(folder: Path, *, on_usb: bool = True) -> UsbBus:
    """hci0 as sysfs shows it, and its device file."""
    device = folder / "sys/devices/pci0/usb1/1-2"
    interface = device / "1-2:1.0"
    there = interface / "bluetooth/hci0" if on_usb else folder / "sys/devices/platform/serial0-0/bluetooth/hci0"
    there.mkdir(parents=True)
    device.mkdir(parents=True, exist_ok=True)
    (device / "busnum").write_text("1\n")
    (device / "devnum").write_text("12\n")
    (there / "device").symlink_to("../..")
    (folder / "sys/class/bluetooth").mkdir(parents=True)
    (folder / "sys/class/bluetooth/hci0").symlink_to(there)
    node = folder / "dev/bus/usb/001/012"
    node.parent.mkdir(parents=True)
    node.touch()
    return UsbBus(folder / "sys", folder / "dev", ioctl=lambda *_: 0)


async def test_an_adapter_on_usb_is_reset_there(path: Path, tmp_path: Path) -> None:
    calls = []

    def ioctl(descriptor: int, request: int, argument: int) -> int:
        calls.append((Path(f"/proc/self/fd/{descriptor}").readlink(), request, argument))
        return 0

    tree = usb_tree(tmp_path)
    async with ends(path, usb=UsbBus(tree.sys, tree.dev, ioctl)) as all_of:
        assert all_of.link.adapters[FIRST].is_usb
        assert await all_of.link.reset(FIRST) == "USB reset"
        # linux/usbdevice_fs.h: #define USBDEVFS_RESET _IO('U', 20)
        assert calls == [(tmp_path / "dev/bus/usb/001/012", ord("U") << 8 | 20, 0)]
        assert not [code for code, _, _ in all_of.kernel.commands if code == SET_POWERED]


async def test_where_the_usb_device_refuses_the_power_is_switched_and_both_are_said(path: Path, tmp_path: Path) -> None:
    # A plain file knows no such request, as a device file without the rights would not open.
    tree = usb_tree(tmp_path)
    async with ends(path, usb=UsbBus(tree.sys, tree.dev, fcntl.ioctl)) as all_of:
        said = await all_of.link.reset(FIRST)
        assert said.startswith("power cycle; a USB reset was not possible: ")
        assert os.strerror(errno.ENOTTY) in said


def test_an_adapter_that_hangs_on_a_serial_line_is_not_taken_for_a_usb_device(tmp_path: Path) -> None:
    assert usb_tree(tmp_path, on_usb=False).node("hci0") is None
    with pytest.raises(TryAgain, match="no USB device"):
        usb_tree(tmp_path / "other", on_usb=False).reset("hci0")


# ---- connections


async def test_the_daemon_connects_when_the_helper_comes_and_again_when_it_returns(path: Path) -> None:
    async with linked(path) as link:
        changes = 0

        def changed() -> None:
            nonlocal changes
            changes += 1

        link.watch(changed)
        await until(lambda: link.trouble is not None and "does not run" in link.trouble.what)
        assert not link.connected
        for connection in (1, 2):
            async with FakeKernel(FIRST) as kernel, serving(kernel, path):
                await until(lambda: FIRST in link.adapters)
                assert (link.connected, link.trouble, link.counts.connections) == (True, None, connection)
            await until(lambda: not link.connected)
            assert (dict(link.adapters), link.trouble is None) == ({}, False)
        assert changes >= 5


async def test_a_mistake_of_the_listener_is_not_swallowed(path: Path) -> None:
    def mistake(*_: object) -> None:
        raise ZeroDivisionError

    async with FakeKernel(FIRST) as kernel, serving(kernel, path):
        link = RadioLink(path, now_ms)
        link.listen(FIRST, mistake)
        running = asyncio.create_task(link.run())
        await until(lambda: FIRST in link.adapters)
        await kernel.advertise(BEACON, -60, DATA)
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(running, 20)


async def test_a_daemon_that_does_not_read_loses_reports_is_told_how_many_and_holds_up_nobody(path: Path) -> None:
    long = bytes(1000)
    async with ends(path) as all_of, asyncio.timeout(60):
        all_of.listen()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sleeper:
            sleeper.connect(str(path))
            sent = 2000
            for number in range(1, sent + 1):
                await all_of.kernel.advertise(BEACON, -60, long)
                if not number % 100:
                    await all_of.until_heard(number)
            assert all_of.link.counts.dropped == 0
            sleeper.setblocking(False)
            slept_through = list(packets(sleeper))
            # One more makes room for the news.
            await all_of.kernel.advertise(BEACON, -60, long)
            await all_of.until_heard(sent + 1)
            states = [radio.decode_state(packet) for packet in [*slept_through, *packets(sleeper)] if packet[0] == radio.STATE]
            received = sum(
                radio.hand_out(packet, {0: lambda *_: None}).heard for packet in slept_through if packet[0] == radio.REPORTS
            )
            assert states[-1] is not None
            assert 0 < states[-1].dropped == sent - received


def packets(connection: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            yield connection.recv(radio.MAX_PACKET_BYTES)
        except BlockingIOError:
            return


async def test_what_waited_too_long_is_no_news(path: Path) -> None:
    late_ms = 0
    async with FakeKernel(FIRST) as kernel, serving(kernel, path), linked(path, lambda: now_ms() + late_ms) as link:
        await until(lambda: FIRST in link.adapters)
        heard: Heard = []
        link.listen(FIRST, lambda *one: heard.append(one))
        late_ms = 60_000
        await kernel.advertise(BEACON, -60, DATA)
        await until(lambda: link.counts.stale == 1)
        late_ms = 0
        await kernel.advertise(BEACON, -61, DATA)
        await until(lambda: bool(heard))
        assert heard == [(BEACON, -61, DATA)]


@pytest.mark.parametrize("said", [b"\x10", b"nonsense", bytes(60), b"\x01" * 16], ids=["short", "text", "zeros", "ones"])
async def test_who_says_what_the_helper_does_not_understand_is_sent_away(path: Path, said: bytes) -> None:
    async with ends(path) as all_of:
        all_of.listen()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
            stranger.connect(str(path))
            stranger.setblocking(False)
            stranger.send(said)
            async with asyncio.timeout(20):
                while await asyncio.get_running_loop().sock_recv(stranger, radio.MAX_PACKET_BYTES):
                    pass
        await all_of.kernel.advertise(BEACON, -60, DATA)
        await all_of.until_heard(1)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"\x01\x63" + bytes(16), "another version"),
        (b"\x01", "another version"),
    ],
    ids=["a later version", "too short"],
)
async def test_a_helper_of_another_version_is_named(path: Path, said: bytes, words: str) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        other.bind(str(path))
        other.listen()
        other.setblocking(False)
        async with linked(path) as link:
            connection, _ = await asyncio.get_running_loop().sock_accept(other)
            with connection:
                connection.send(said)
                await until(lambda: link.trouble is not None and words in link.trouble.what)


async def test_the_socket_is_for_its_group_alone_and_goes_with_the_helper(path: Path) -> None:
    async with ends(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert not path.exists()


async def test_a_second_helper_does_not_take_the_first_one_s_place(path: Path) -> None:
    async with ends(path) as all_of:
        async with FakeKernel() as other:
            with pytest.raises(ConfigurationError, match="another radio helper"):
                await RadioServer(path, other.helpers_end, now_ms, usb=NO_USB).run()
        all_of.listen()
        await all_of.kernel.advertise(BEACON, -60, DATA)
        await all_of.until_heard(1)


async def test_what_a_killed_helper_left_behind_is_no_hindrance(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as killed:
        killed.bind(str(path))
    async with ends(path) as all_of:
        assert all_of.link.connected


async def test_a_place_where_no_socket_can_be_made_is_named(path: Path) -> None:
    path.parent.write_text("a file, no folder")
    async with FakeKernel() as kernel:
        with pytest.raises(DiskError, match="cannot be made"):
            await RadioServer(path, kernel.helpers_end, now_ms, usb=NO_USB).run()


async def test_when_the_kernel_closes_its_end_the_helper_ends(path: Path) -> None:
    async with FakeKernel(FIRST) as kernel, serving(kernel, path) as running:
        kernel.close()
        with pytest.raises(TryAgain, match=r"management socket (was closed|broke)"):
            await asyncio.wait_for(running, 20)


async def test_where_the_kernel_takes_no_question_the_helper_ends(path: Path) -> None:
    async with FakeKernel(FIRST) as kernel:
        kernel.close()
        with pytest.raises(TryAgain, match="takes no command"):
            await RadioServer(path, kernel.helpers_end, now_ms, usb=NO_USB).run()


async def test_an_adapter_that_reports_errors_all_the_time_is_told_of_once_in_a_while(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with ends(path) as all_of:
        all_of.listen()
        for _ in range(50):
            await all_of.kernel.tell_in_time(event(CONTROLLER_ERROR, 0, b"\x42"))
        await all_of.kernel.advertise(BEACON, -60, DATA)
        await all_of.until_heard(1)
    assert [record.getMessage() for record in caplog.records].count("hci0 reports hardware error 0x42") == 1


async def test_no_address_is_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "gateway")
    async with ends(path) as all_of:
        all_of.listen()
        await all_of.kernel.advertise(BEACON, -60, DATA)
        await all_of.until_heard(1)
        await all_of.link.reset(FIRST)
    assert "hci0 was reset on request" in caplog.text
    for address in (BEACON, FIRST):
        assert address.lower() not in caplog.text.lower()


# ---- whatever bytes come


async def test_events_that_contradict_themselves_do_no_harm(path: Path) -> None:
    chance = random.Random(7)
    good = [
        report(0, BEACON, -60, DATA),
        event(DISCOVERING, 0, b"\x06\x01"),
        event(READ_INFO, 9),
        event(0x01, 0, b"\x04\x00\x00"),
    ]
    async with ends(path) as all_of:
        all_of.listen()
        for _ in range(300):
            packet = (
                bytearray(chance.choice(good)) if chance.random() < 0.7 else bytearray(chance.randbytes(chance.randrange(1, 60)))
            )
            packet[chance.randrange(len(packet))] = chance.randrange(256)
            await all_of.kernel.tell_in_time(bytes(packet))
        all_of.kernel.add(0, FIRST, POWERED)
        await until(lambda: all_of.link.adapters.get(FIRST) is not None and all_of.link.adapters[FIRST].powered)
        all_of.heard.clear()
        await all_of.kernel.advertise(BEACON, -77, DATA)
        await until(lambda: (BEACON, -77, DATA) in all_of.heard)


_EVENTS = st.one_of(
    st.binary(max_size=80),
    # Events with a head that is right, so that what is in them is looked at.
    st.builds(event, st.integers(0, 0x30), st.integers(0, 3), st.binary(max_size=300)),
    st.builds(
        report,
        st.just(0),
        st.just(BEACON),
        st.integers(-126, 20),
        st.binary(min_size=1, max_size=40),
        monitor=st.none() | st.integers(0, 3),
    ),
)


@given(st.lists(_EVENTS.filter(bool), max_size=30))
def test_whatever_the_kernel_says_what_is_right_is_handed_on_and_nothing_raises(events: list[bytes]) -> None:
    ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, kernel:
        ours.setblocking(False)
        batches: list[tuple[bytes, int]] = []
        management = Management(
            ours,
            lambda: 7,
            hand_on=lambda batch: batches.append((bytes(batch.packet), batch.reports)),
            changed=lambda: None,
            is_usb=lambda _: False,
        )
        for each in events:
            kernel.send(each)
        assert management.read() == bool(events) or management.broken == len(events)
    whole = [each for each in events if len(each) >= 6 and int.from_bytes(each[4:6], "little") == len(each) - 6]
    assert management.broken == len(events) - len(whole)
    reports = [each for each in whole if int.from_bytes(each[:2], "little") in radio.REPORT_CODES]
    head = radio.REPORTS_HEADER.size
    assert b"".join(packet[head:] for packet, _ in batches) == b"".join(reports)
    assert sum(count for _, count in batches) == len(reports)
    assert all(radio.reports_read_ms(packet) == 7 for packet, _ in batches)


def test_a_report_that_contradicts_itself_takes_no_other_with_it() -> None:
    heard: Heard = []
    good = report(0, BEACON, -60, DATA, monitor=0)
    wrong = bytearray(good)
    wrong[20:22] = (len(DATA) + 1).to_bytes(2, "little")
    packet = struct.pack("<BQ", radio.REPORTS, 0) + good + bytes(wrong) + good
    assert radio.hand_out(packet, {0: lambda *one: heard.append(one)}) == (2, 0, 0, 1)
    assert heard == [(BEACON, -60, DATA)] * 2


@given(st.binary(max_size=200))
def test_no_bytes_make_a_decoder_raise(data: bytes) -> None:
    heard: Heard = []
    for packet in (data, *(bytes((kind,)) + data for kind in (radio.STATE, radio.REPORTS, radio.RESET, radio.RESET_DONE))):
        radio.decode_state(packet)
        radio.decode_reset(packet)
        radio.decode_reset_done(packet)
        radio.reports_read_ms(packet)
        radio.hand_out(packet, {index: lambda *one: heard.append(one) for index in range(4)})
    for _, rssi, octets in heard:
        assert -127 < rssi <= 20
        assert 0 < len(octets) <= 200


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.binary(min_size=6, max_size=6),
            st.integers(-126, 20),
            st.binary(min_size=1, max_size=300),
            st.none() | st.integers(0, 65535),
        ),
        max_size=20,
    ),
    st.integers(0, 400),
)
def test_reports_are_handed_out_as_they_were_packed_up_to_where_a_packet_breaks_off(
    sent: list[tuple[int, bytes, int, bytes, int | None]], cut: int
) -> None:
    head = struct.pack("<BQ", radio.REPORTS, 5)
    reports = [
        report(index, address[::-1].hex(":").upper(), rssi, data, monitor=monitor) for index, address, rssi, data, monitor in sent
    ]
    expected = [(index, address[::-1].hex(":").upper(), rssi, data) for index, address, rssi, data, _ in sent]
    heard: list[tuple[int, str, int, bytes]] = []
    ears = {index: lambda *one, index=index: heard.append((index, *one)) for index in range(4)}
    tally = radio.hand_out(head + b"".join(reports), ears)
    assert (heard, tally) == (expected, (len(sent), 0, 0, 0))
    heard.clear()
    packet = (head + b"".join(reports))[: len(head) + cut]
    tally = radio.hand_out(packet, ears)
    assert heard == expected[: len(heard)]
    whole = [sum(map(len, reports[: count + 1])) for count in range(len(reports))]
    assert len(heard) == sum(end <= cut for end in whole)
    assert tally.broken == (len(packet) - len(head) not in {0, *whole})


@given(
    st.builds(
        radio.RadioState,
        st.integers(0, 2**63),
        st.integers(0, 2**63),
        st.lists(
            st.builds(
                radio.AdapterState,
                st.integers(0, 65535),
                st.binary(min_size=6, max_size=6).map(radio.address_text),
                st.booleans(),
                st.booleans(),
                st.booleans(),
            ),
            max_size=radio.MAX_ADAPTERS,
        ).map(tuple),
    )
)
def test_a_state_comes_out_as_it_went_in(state: radio.RadioState) -> None:
    assert radio.decode_state(radio.encode_state(state)) == state


def test_an_error_of_the_link_names_what_to_do() -> None:
    trouble = RadioLink(Path("/run/nowhere"), now_ms).trouble
    assert isinstance(trouble, GatewayError)
    assert "systemctl" in trouble.do
