"""The scanner against real bleak, a real bus and a fake BlueZ: what it hands on, and how it comes back from each fault."""

import asyncio
import errno
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from bleak import BleakScanner
from bleak.exc import BleakError
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ad_structures import AdStructure, iterate
from gateway.errors import RadioGivenUp
from gateway.io.scanner import ELEMENTS_PER_CALLBACK, Patience, Scanner, ScannerState, ad_structures, passive_patterns
from tests.fakes.bluez import FakeBlueZ, blocking_fake_bluez

PHONE, BEACON = "C1:00:00:00:00:01", "C2:00:00:00:00:02"
IBEACON = bytes.fromhex("0215 f7826da64fa24e988024bc5b71e0893e 0001 0102 c5")
TOKEN = bytes.fromhex("8a4061daf88a329d6160529fbe31d8c5")
LATER_TOKEN = bytes.fromhex("00112233445566778899aabbccddeeff")
QUICK = Patience(silence_s=0.4, check_s=0.05, start_s=0.4, stop_s=0.4, retry_first_s=0.05, retry_most_s=0.2, stuck_s=0.3)
ONLY_TOLD = replace(QUICK, silence_s=60)
"""So patient that only what BlueZ tells makes the scanner restart."""


def uuid_of(token: bytes) -> str:
    text = token.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def form_u(token: bytes) -> bytes:
    return b"\x11\x07" + token[::-1]


def now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class Ear:
    """A scanner that runs, and all it has handed on."""

    def __init__(self, adapter: str | None, patience: Patience, **settings: Any) -> None:
        self.heard: list[tuple[str, int, bytes]] = []
        self.scanner = Scanner(adapter, lambda *heard: self.heard.append(heard), now_ms, patience=patience, **settings)

    async def until(self, is_so: Callable[[], bool], within_s: float = 10) -> None:
        async with asyncio.timeout(within_s):
            while not is_so():  # noqa: ASYNC110 (the scanner's state is read, it announces nothing)
                await asyncio.sleep(0.005)

    async def until_heard(self, data: bytes, within_s: float = 10) -> None:
        await self.until(lambda: any(heard[2] == data for heard in self.heard), within_s)

    async def until_heard_anew(self, bluez: FakeBlueZ, adapter: str = "hci0") -> None:
        """Advertise until something newly sent is handed on."""
        self.heard.clear()
        async with asyncio.timeout(10):
            while not self.heard:
                await beacon(bluez, adapter)
                await asyncio.sleep(0.02)


async def beacon(bluez: FakeBlueZ, adapter: str = "hci0", rssi: int | None = -60) -> bool:
    return await bluez.advertise(BEACON, rssi, adapter=adapter, manufacturer_data={0x004C: IBEACON})


@asynccontextmanager
async def listening(adapter: str | None = "hci0", patience: Patience = QUICK, **settings: Any) -> AsyncIterator[Ear]:
    ear = Ear(adapter, patience, **settings)
    running = asyncio.create_task(ear.scanner.run())
    try:
        yield ear
        assert not running.done(), running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def bluez(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeBlueZ]:
    async with FakeBlueZ("hci0", "hci1") as fake:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", fake.address)
        yield fake


# ---- what is handed on --------------------------------------------------------------------------------------------------------


async def test_a_token_that_rotates_is_heard_each_time_as_it_was_on_the_air(bluez: FakeBlueZ) -> None:
    async with listening(patience=ONLY_TOLD) as ear:
        await bluez.wait_scanning()
        assert await bluez.advertise(PHONE, -61, service_uuids=[uuid_of(TOKEN)])
        await ear.until_heard(form_u(TOKEN))
        assert ear.heard == [(PHONE, -61, form_u(TOKEN))]

        assert await bluez.advertise(PHONE, -70, service_uuids=[uuid_of(LATER_TOKEN)])
        await ear.until_heard(form_u(LATER_TOKEN))
        # BlueZ still lists the old one: both come, the newest last.
        assert ear.heard[1:] == [(PHONE, -70, form_u(TOKEN)), (PHONE, -70, form_u(LATER_TOKEN))]


async def test_an_ibeacon_is_heard_byte_for_byte(bluez: FakeBlueZ) -> None:
    async with listening(patience=ONLY_TOLD) as ear:
        await bluez.wait_scanning()
        await bluez.advertise(BEACON, -48, manufacturer_data={0x004C: IBEACON})
        await ear.until(lambda: bool(ear.heard))
        assert ear.heard == [(BEACON, -48, bytes.fromhex("1aff4c00") + IBEACON)]
        assert ear.scanner.state is ScannerState.HEARING


async def test_each_element_is_a_call_of_its_own(bluez: FakeBlueZ) -> None:
    token = b"\x11\xc5" + TOKEN
    async with listening(patience=ONLY_TOLD) as ear:
        await bluez.wait_scanning()
        await bluez.advertise(PHONE, manufacturer_data={0xFFFF: token}, service_data={"fcf1": token}, service_uuids=["180a"])
        await ear.until(lambda: len(ear.heard) >= 2)
        assert [data.hex(" ", -4) for *_, data in ear.heard] == [
            (b"\x15\xff\xff\xff" + token).hex(" ", -4),
            (b"\x15\x16\xf1\xfc" + token).hex(" ", -4),
        ]


async def test_an_older_element_is_forgotten_when_a_newer_comes(bluez: FakeBlueZ) -> None:
    async with listening(patience=ONLY_TOLD) as ear:
        await bluez.wait_scanning()
        await bluez.advertise(BEACON, manufacturer_data={0x0059: b"old"})
        await bluez.advertise(BEACON, manufacturer_data={0x004C: IBEACON})
        await ear.until(lambda: len(ear.heard) >= 2)
        assert [data for *_, data in ear.heard] == [b"\x06\xff\x59\x00old", bytes.fromhex("1aff4c00") + IBEACON]


async def test_a_constant_beacon_is_heard_every_time(bluez: FakeBlueZ) -> None:
    async with listening(patience=ONLY_TOLD) as ear:
        await bluez.wait_scanning()
        for _ in range(20):
            assert await beacon(bluez)
        await ear.until(lambda: len(ear.heard) == 20)


async def test_a_withdrawn_rssi_is_counted_and_dropped(bluez: FakeBlueZ) -> None:
    async with listening(patience=ONLY_TOLD) as ear:
        await bluez.wait_scanning()
        await beacon(bluez)
        await ear.until(lambda: len(ear.heard) == 1)
        await bluez.advertise(BEACON, None, manufacturer_data={0x004C: IBEACON})
        await bluez.advertise(BEACON, -127, manufacturer_data={0x004C: IBEACON})
        await bluez.advertise(BEACON, 127, manufacturer_data={0x004C: IBEACON})
        await ear.until(lambda: ear.scanner.counts.no_rssi == 3)
        assert len(ear.heard) == 1


async def test_a_device_without_data_is_no_sign_of_life(bluez: FakeBlueZ) -> None:
    async with listening(patience=ONLY_TOLD) as ear:
        await bluez.wait_scanning()
        await bluez.advertise(BEACON)
        await ear.until(lambda: ear.scanner.counts.empty == 1)
        assert ear.heard == []
        assert ear.scanner.last_heard_ms is None
        assert ear.scanner.state is ScannerState.STARTING


async def test_only_its_own_adapter_is_heard(bluez: FakeBlueZ) -> None:
    async with listening("hci1", ONLY_TOLD) as ear:
        await bluez.wait_scanning("hci1")
        assert not await bluez.advertise(PHONE, adapter="hci0", manufacturer_data={1: b"x"})
        await ear.until_heard_anew(bluez, "hci1")
        assert {address for address, *_ in ear.heard} == {BEACON}


def test_an_address_that_invents_uuids_costs_no_more_than_sixteen() -> None:
    tokens = [bytes([n]) * 16 for n in range(1, 100)]
    heard = ad_structures({}, {}, [uuid_of(token) for token in tokens])
    assert heard == [form_u(token) for token in tokens[-ELEMENTS_PER_CALLBACK:]]


@given(
    st.dictionaries(st.integers(0, 0xFFFF), st.binary(max_size=300), max_size=20),
    st.dictionaries(
        st.uuids().map(str) | st.integers(0, 0xFFFF).map(lambda n: f"0000{n:04x}-0000-1000-8000-00805f9b34fb"), st.binary()
    ),
    st.lists(st.uuids().map(str)),
)
def test_whatever_bluez_says_becomes_whole_structures(
    companies: dict[int, bytes], services: dict[str, bytes], uuids: list[str]
) -> None:
    for data in ad_structures(companies, services, uuids):
        [structure] = iterate(data)
        assert isinstance(structure, AdStructure)


# ---- faults -------------------------------------------------------------------------------------------------------------------


async def test_a_missing_adapter_is_reported_and_heard_when_it_appears(bluez: FakeBlueZ) -> None:
    async with listening("hci7") as ear:
        await ear.until(lambda: ear.scanner.state is ScannerState.DEAF)
        assert "hci7" in str(ear.scanner.trouble)
        assert "not found" in str(ear.scanner.trouble)
        await bluez.add_adapter("hci7")
        await ear.until_heard_anew(bluez, "hci7")
        assert ear.scanner.state is ScannerState.HEARING
        assert ear.scanner.trouble is None


async def test_without_bluetoothd_it_waits_for_it(bluez: FakeBlueZ) -> None:
    await bluez.stop_bluetoothd()
    async with listening() as ear:
        await ear.until(lambda: ear.scanner.state is ScannerState.DEAF)
        assert "bluetoothd does not run" in str(ear.scanner.trouble)
        await bluez.start_bluetoothd()
        await ear.until_heard_anew(bluez)


async def test_without_a_bus_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
    async with listening(None) as ear:
        await ear.until(lambda: ear.scanner.counts.starts > 2)
        assert "system bus cannot be reached" in str(ear.scanner.trouble)


async def test_with_no_adapter_named_the_first_that_is_powered_is_used(bluez: FakeBlueZ) -> None:
    await bluez.power("hci0", on=False)
    await bluez.power("hci1", on=False)
    async with listening(None) as ear:
        await ear.until(lambda: ear.scanner.state is ScannerState.DEAF)
        assert "powered off" in str(ear.scanner.trouble)
        await bluez.power("hci1", on=True)
        await ear.until_heard_anew(bluez, "hci1")


async def test_a_scan_that_runs_silent_is_started_again(bluez: FakeBlueZ) -> None:
    async with listening() as ear:
        await ear.until_heard_anew(bluez)
        await bluez.deafen("hci0")
        await ear.until(lambda: ear.scanner.state is ScannerState.DEAF)
        assert "heard nothing" in str(ear.scanner.trouble)
        await ear.until_heard_anew(bluez)
        assert ear.scanner.counts.starts >= 2


async def test_each_scan_gets_the_whole_silence(bluez: FakeBlueZ) -> None:
    async with listening() as ear:
        started_s = time.monotonic()
        await ear.until_heard_anew(bluez)
        await asyncio.sleep(1.5)
        assert 2 <= ear.scanner.counts.starts <= 1 + (time.monotonic() - started_s) / QUICK.silence_s


async def test_starts_that_fail_follow_each_other_ever_more_slowly(bluez: FakeBlueZ) -> None:
    async with listening("hci7") as ear:
        started_s = time.monotonic()
        await asyncio.sleep(1.5)
        assert 4 <= ear.scanner.counts.starts <= 3 + (time.monotonic() - started_s) / QUICK.retry_most_s


async def test_a_scan_that_is_dead_from_the_first_second_is_started_again(bluez: FakeBlueZ) -> None:
    async with listening() as ear:
        await bluez.wait_scanning()
        await bluez.deafen("hci0")
        await ear.until_heard_anew(bluez)


@pytest.mark.parametrize("patience", [QUICK, ONLY_TOLD], ids=["silence", "withdrawn RSSI"])
async def test_after_power_off_and_on_it_hears_again(bluez: FakeBlueZ, patience: Patience) -> None:
    async with listening(patience=patience) as ear:
        await ear.until_heard_anew(bluez)
        await bluez.power("hci0", on=False)
        await ear.until(lambda: "powered off" in str(ear.scanner.trouble))
        await bluez.power("hci0", on=True)
        await ear.until_heard_anew(bluez)


async def test_power_off_and_on_again_at_once_is_noticed(bluez: FakeBlueZ) -> None:
    async with listening(patience=ONLY_TOLD) as ear:
        await ear.until_heard_anew(bluez)
        await bluez.power("hci0", on=False)
        await bluez.power("hci0", on=True)
        await ear.until_heard_anew(bluez)


async def test_after_the_adapter_went_and_returned_it_hears_again(bluez: FakeBlueZ) -> None:
    async with listening(patience=ONLY_TOLD) as ear:
        await ear.until_heard_anew(bluez)
        await bluez.remove_adapter("hci0")
        await ear.until(lambda: ear.scanner.state is ScannerState.DEAF)
        await bluez.add_adapter("hci0")
        await ear.until_heard_anew(bluez)


async def test_after_bluetoothd_died_and_returned_it_hears_again(bluez: FakeBlueZ) -> None:
    async with listening() as ear:
        await ear.until_heard_anew(bluez)
        await bluez.stop_bluetoothd()
        await ear.until(lambda: ear.scanner.state is ScannerState.DEAF)
        await bluez.start_bluetoothd()
        await ear.until_heard_anew(bluez)


async def test_after_the_bus_died_and_returned_it_hears_again(bluez: FakeBlueZ) -> None:
    async with listening() as ear:
        await ear.until_heard_anew(bluez)
        await bluez.restart_bus()
        await ear.until_heard_anew(bluez)


async def test_a_bluetoothd_that_hangs_is_reported_and_waited_for(bluez: FakeBlueZ) -> None:
    async with listening(patience=replace(QUICK, silence_s=0.2)) as ear:
        await ear.until_heard_anew(bluez)
        bluez.freeze()
        await ear.until(lambda: "does not answer" in str(ear.scanner.trouble))
        bluez.thaw()
        await ear.until_heard_anew(bluez)


async def test_a_start_that_takes_long_is_reported_and_waited_for(bluez: FakeBlueZ) -> None:
    await bluez.stall("hci0", on=True)
    async with listening(mode="active") as ear:
        await ear.until(lambda: "does not answer" in str(ear.scanner.trouble))
        await asyncio.sleep(0.5)
        await bluez.stall("hci0", on=False)
        # Had it been given up halfway, every later start would be refused as "in progress".
        await ear.until_heard_anew(bluez)
        assert ear.scanner.counts.starts == 1


async def test_an_adapter_that_refuses_active_scans_is_heard_passively(bluez: FakeBlueZ) -> None:
    await bluez.stick("hci0", on=True)
    async with listening() as ear:
        await ear.until(lambda: ear.scanner.state is ScannerState.DEAF)
        assert "stuck" in str(ear.scanner.trouble)
        await bluez.wait_scanning("hci0", "passive")
        await ear.until_heard_anew(bluez)
        await bluez.stick("hci0", on=False)
        await bluez.wait_scanning("hci0", "active")


async def test_active_alone_never_becomes_passive(bluez: FakeBlueZ) -> None:
    await bluez.stick("hci0", on=True)
    async with listening(mode="active") as ear:
        await ear.until(lambda: ear.scanner.counts.starts >= 6)
        assert ear.scanner.scanning_mode == "active"


async def test_a_passive_scan_hears_what_its_patterns_let_through(bluez: FakeBlueZ) -> None:
    async with listening(patience=ONLY_TOLD, mode="passive", service_uuid16=0xFCF1, company_id=0x1234) as ear:
        await bluez.wait_scanning("hci0", "passive")
        assert await bluez.advertise(PHONE, service_uuids=[uuid_of(TOKEN)], flags=0x1A)
        assert await bluez.advertise("C1:00:00:00:00:03", service_data={"fcf1": b"S"}, flags=None)
        assert await bluez.advertise("C1:00:00:00:00:04", manufacturer_data={0x1234: b"M"}, flags=None)
        assert await bluez.advertise(BEACON, manufacturer_data={0x004C: IBEACON}, flags=None)
        assert not await bluez.advertise("C1:00:00:00:00:05", service_uuids=[uuid_of(TOKEN)], flags=None)
        await ear.until(lambda: len(ear.heard) >= 4)
        assert [data[-1:] for *_, data in ear.heard] == [TOKEN[:1], b"S", b"M", IBEACON[-1:]]


def test_bluez_takes_so_many_patterns() -> None:
    assert len(passive_patterns(0xFCF1, 0x1234)) <= 16


async def test_it_gives_up_only_when_told_to(bluez: FakeBlueZ) -> None:
    ear = Ear("hci7", replace(QUICK, give_up_after_s=0.5))
    with pytest.raises(RadioGivenUp, match="hci7: deaf for"):
        await asyncio.wait_for(ear.scanner.run(), 10)
    assert ear.scanner.state is ScannerState.STOPPED
    assert RadioGivenUp.exit_code == 69


async def test_being_heard_again_starts_its_hope_anew(bluez: FakeBlueZ) -> None:
    async with listening(patience=replace(QUICK, give_up_after_s=2)) as ear:
        for _ in range(3):
            await ear.until_heard_anew(bluez)
            await ear.until(lambda: ear.scanner.state is ScannerState.DEAF)
            await asyncio.sleep(0.8)


async def test_it_gives_up_on_a_bluetoothd_that_hangs(bluez: FakeBlueZ) -> None:
    ear = Ear("hci0", replace(QUICK, give_up_after_s=0.5))
    bluez.freeze()
    with pytest.raises(RadioGivenUp, match="does not answer"):
        await asyncio.wait_for(ear.scanner.run(), 10)


async def test_a_mistake_of_the_listener_ends_the_scan(bluez: FakeBlueZ) -> None:
    def mistaken(*_: object) -> None:
        raise ZeroDivisionError

    scanner = Scanner("hci0", mistaken, now_ms, patience=ONLY_TOLD)
    running = asyncio.create_task(scanner.run())
    await bluez.wait_scanning()
    await beacon(bluez)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(running, 10)
    assert scanner.state is ScannerState.STOPPED
    await bluez.wait_scanning("hci0", None)


@pytest.mark.parametrize(
    "error", [BleakError("x"), OSError(errno.EBADF, "x"), EOFError(), TimeoutError()], ids=lambda error: type(error).__name__
)
async def test_a_stop_may_fail_as_bluez_fails(bluez: FakeBlueZ, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    stop = BleakScanner.stop

    async def failing(scan: BleakScanner) -> None:
        await stop(scan)
        raise error

    monkeypatch.setattr(BleakScanner, "stop", failing)
    async with listening() as ear:
        await ear.until(lambda: ear.scanner.counts.starts >= 2)


async def test_a_stop_may_not_fail_otherwise(bluez: FakeBlueZ, monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(scan: BleakScanner) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(BleakScanner, "stop", failing)
    ear = Ear("hci0", QUICK)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(ear.scanner.run(), 10)


async def test_each_change_is_logged_once_and_no_address_ever(bluez: FakeBlueZ, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "gateway")
    async with listening() as ear:
        await ear.until_heard_anew(bluez)
        await bluez.power("hci0", on=False)
        await ear.until(lambda: "powered off" in str(ear.scanner.trouble))
        starts = ear.scanner.counts.starts
        await ear.until(lambda: ear.scanner.counts.starts >= starts + 3)
        await bluez.power("hci0", on=True)
        await ear.until_heard_anew(bluez)
        ours = [record for record in caplog.records if record.name == "gateway.io.scanner" and record.levelno >= logging.INFO]
        assert [record.levelname for record in ours] == ["INFO", "WARNING", "INFO"]
        assert BEACON not in caplog.text
        assert BEACON.replace(":", "_") not in caplog.text


async def test_cancelling_it_ends_the_scan(bluez: FakeBlueZ) -> None:
    async with listening() as ear:
        await bluez.wait_scanning()
    assert ear.scanner.state is ScannerState.STOPPED
    await bluez.wait_scanning("hci0", None)


# ---- the fake itself ----------------------------------------------------------------------------------------------------------

CLIENT = """
import asyncio, bleak
async def main():
    async with bleak.BleakScanner():
        await asyncio.sleep(60)
asyncio.run(main())
"""


def test_the_scan_of_a_killed_process_ends_and_a_new_one_can_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    with blocking_fake_bluez() as (bluez, do):
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bluez.address)
        for _ in range(2):
            client = do(asyncio.create_subprocess_exec(sys.executable, "-c", CLIENT))
            do(bluez.wait_scanning())
            client.kill()
            do(client.wait())
            do(bluez.wait_scanning("hci0", None))


async def test_it_survives_more_advertisements_than_a_socket_holds(bluez: FakeBlueZ) -> None:
    async with listening(patience=ONLY_TOLD) as ear:
        await bluez.wait_scanning()
        await asyncio.gather(*(beacon(bluez, rssi=-40 - n % 50) for n in range(2000)))
        await ear.until(lambda: len(ear.heard) == 2000)


async def test_a_frozen_fake_ends_with_its_test() -> None:
    async with FakeBlueZ() as bluez:
        bluez.freeze()


async def test_it_refuses_what_cannot_be(bluez: FakeBlueZ) -> None:
    with pytest.raises(ValueError, match="there is no hci9"):
        await bluez.advertise(PHONE, adapter="hci9")
