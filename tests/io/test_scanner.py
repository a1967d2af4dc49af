"""The scanner against real bleak, a real bus and a fake BlueZ: what it hands on, and how it comes back from each fault."""

import asyncio
import itertools
import logging
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.ad_structures import AdStructure, iterate
from gateway.core.model import RecoveryStep
from gateway.core.recovery import Ladder, RecoveryMemory, Rung
from gateway.errors import RadioGivenUp
from gateway.io.radio.server import RadioServer
from gateway.io.radio.usb import UsbBus
from gateway.io.radio_link import RadioLink
from gateway.io.scanner import ELEMENTS_PER_CALLBACK, Patience, Scanner, ScannerState, Turn, ad_structures
from gateway.io.scanner.bluez import BlueZ, Vigilance
from gateway.io.scanner.scan import MAX_PATTERNS, passive_patterns
from tests.background import in_background
from tests.fakes.bluez import FakeBlueZ, blocking_fake_bluez
from tests.fakes.kernel import SET_POWERED, FakeKernel

FIRST, SECOND = "00:1A:7D:DA:71:0A", "00:1A:7D:DA:71:0B"
"""The fake's adapters."""
PHONE, BEACON = "C1:00:00:00:00:01", "C2:00:00:00:00:02"
IBEACON = bytes.fromhex("0215 f7826da64fa24e988024bc5b71e0893e 0001 0102 c5")
TOKEN = bytes.fromhex("8a4061daf88a329d6160529fbe31d8c5")
LATER_TOKEN = bytes.fromhex("00112233445566778899aabbccddeeff")
QUICK = Patience(
    silence_s=0.4,
    sparse_silence_s=0.6,
    check_s=0.05,
    fresh_s=0.5,
    start_s=20,
    stop_s=5,
    retry_first_s=0.05,
    retry_most_s=0.2,
    failing_s=0.2,
    stuck_s=0.3,
    reconsider_s=1,
    ended_s=0.2,
    off_s=0.1,
    settle_s=0.05,
    helper_s=0.2,
    helper_gone_s=0.1,
)
ONLY_TOLD = replace(QUICK, silence_s=60, sparse_silence_s=60)
"""So patient that only what BlueZ tells makes the scanner restart."""
HANDS_OFF = replace(ONLY_TOLD, off_s=60)
"""And that it leaves adapters off."""
STEADY = replace(QUICK, silence_s=3)
"""So patient that a test can do something before it takes a step."""
WATCHFUL = Vigilance(ping_every_s=0.1, ping_s=20, call_s=20, retry_s=0.05, start_after_s=0.1, start_every_s=0.2)
SUSPICIOUS = replace(WATCHFUL, ping_s=0.5, call_s=1)
STEPS: tuple[RecoveryStep, ...] = ("restart-scan", "new-scanner", "power-cycle", "reset-controller", "restart-process", "reboot")
HASTY = tuple(Rung(step, 300, 0) for step in STEPS)
UNHURRIED = tuple(Rung(step, 5000, 0) for step in STEPS)
REST_MS = 300
NO_MEMORY = RecoveryMemory()


def uuid_of(token: bytes) -> str:
    text = token.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def form_u(token: bytes) -> bytes:
    return b"\x11\x07" + token[::-1]


def now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class Ear:
    """A scanner that runs, and all it has handed on."""

    def __init__(
        self,
        adapter: str | None,
        patience: Patience,
        *,
        memory: RecoveryMemory = NO_MEMORY,
        rungs: Sequence[Rung] = UNHURRIED,
        vigilance: Vigilance = WATCHFUL,
        **settings: Any,
    ) -> None:
        self.heard: list[tuple[str, int, bytes]] = []
        self.turns: list[Turn] = []
        self.memory = memory
        self.bluez = BlueZ(vigilance)
        self.scanner = Scanner(
            self.bluez,
            lambda: self.bluez.find(adapter),
            settings.pop("heard", lambda *heard: self.heard.append(heard)),
            now_ms,
            patience=patience,
            ladder=Ladder(memory, 0, rungs=rungs, rest_first_ms=REST_MS),
            turned=self.turns.append,
            remember=self._remember,
            **settings,
        )

    def _remember(self, memory: RecoveryMemory) -> None:
        self.memory = memory

    @property
    def trouble(self) -> str:
        return str(self.scanner.trouble)

    async def run(self) -> None:
        async with in_background(self.bluez.run()):
            await self.scanner.run()

    async def until(self, is_so: Callable[[], bool], within_s: float = 30) -> None:
        async with asyncio.timeout(within_s):
            while not is_so():  # noqa: ASYNC110 (the scanner's state is read, it announces nothing)
                await asyncio.sleep(0.005)

    async def until_heard(self, data: bytes, within_s: float = 30) -> None:
        await self.until(lambda: any(heard[2] == data for heard in self.heard), within_s)

    async def until_heard_anew(self, bluez: FakeBlueZ, adapter: str = "hci0") -> None:
        """Advertise until something newly sent is handed on, and the scanner knows that it hears."""
        self.heard.clear()
        async with asyncio.timeout(60):
            # Ever louder or quieter: of the rest a passive scan tells nothing, and one report may go to a scan that is ending.
            for rssi in itertools.cycle((-60, -50)):
                if self.heard and self.scanner.state is ScannerState.HEARING:
                    return
                await beacon(bluez, adapter, rssi)
                await asyncio.sleep(0.02)


async def beacon(bluez: FakeBlueZ, adapter: str = "hci0", rssi: int | None = -60) -> bool:
    return await bluez.advertise(BEACON, rssi, adapter=adapter, manufacturer_data={0x004C: IBEACON})


@asynccontextmanager
async def listening(adapter: str | None = "hci0", patience: Patience = QUICK, **settings: Any) -> AsyncIterator[Ear]:
    ear = Ear(adapter, patience, **settings)
    async with in_background(ear.run()):
        yield ear


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


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
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
    async with listening("hci7", ONLY_TOLD) as ear:
        await ear.until(lambda: ear.scanner.state is ScannerState.DEAF)
        assert ear.trouble.startswith("hci7: not found (there is: hci0, hci1).")
        assert ear.scanner.cause == "adapter"
        await bluez.add_adapter("hci7")
        await ear.until_heard_anew(bluez, "hci7")
        assert ear.scanner.state is ScannerState.HEARING
        assert ear.scanner.trouble is None
        assert ear.scanner.counts.starts == 1


async def test_without_bluetoothd_it_waits_for_it(bluez: FakeBlueZ) -> None:
    await bluez.stop_bluetoothd()
    async with listening(patience=ONLY_TOLD) as ear:
        await ear.until(lambda: ear.scanner.state is ScannerState.DEAF)
        assert "bluetoothd does not run" in ear.trouble
        assert ear.scanner.counts.starts == 0
        await bluez.start_bluetoothd()
        await ear.until_heard_anew(bluez)


async def test_without_a_bus_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
    async with listening(None) as ear:
        await ear.until(lambda: ear.scanner.state is ScannerState.DEAF)
        assert "system bus cannot be reached" in ear.trouble


async def test_with_no_adapter_named_the_first_that_is_powered_is_used(bluez: FakeBlueZ) -> None:
    await bluez.power("hci0", on=False)
    await bluez.power("hci1", on=False)
    async with listening(None, HANDS_OFF) as ear:
        await ear.until(lambda: ear.scanner.state is ScannerState.DEAF)
        assert "powered off" in ear.trouble
        await bluez.power("hci1", on=True)
        await ear.until_heard_anew(bluez, "hci1")


Fault = Callable[[FakeBlueZ], Awaitable[None]]


async def power_off_and_on(bluez: FakeBlueZ) -> None:
    await bluez.power("hci0", on=False)
    await bluez.power("hci0", on=True)


async def unplug_and_plug(bluez: FakeBlueZ) -> None:
    await bluez.remove_adapter("hci0")
    await bluez.add_adapter("hci0", FIRST)


async def restart_bluetoothd(bluez: FakeBlueZ) -> None:
    await bluez.stop_bluetoothd()
    await bluez.start_bluetoothd()


async def block_and_unblock(bluez: FakeBlueZ) -> None:
    await bluez.block("hci0", on=True)
    await bluez.block("hci0", on=False)


@pytest.mark.parametrize("mode", ["active", "passive"])
@pytest.mark.parametrize(
    "fault",
    [power_off_and_on, unplug_and_plug, restart_bluetoothd, FakeBlueZ.restart_bus, block_and_unblock],
    ids=lambda fault: fault.__name__,
)
async def test_what_bluetoothd_tells_needs_no_silence(bluez: FakeBlueZ, fault: Fault, mode: str) -> None:
    async with listening(patience=ONLY_TOLD, mode=mode) as ear:
        await ear.until_heard_anew(bluez)
        await fault(bluez)
        await ear.until_heard_anew(bluez)
        assert ear.scanner.recovery is None


FAULTS: dict[str, tuple[Fault, str, str, Fault]] = {
    "off": (lambda b: b.power("hci0", on=False), "power", "powered off", lambda b: b.power("hci0", on=True)),
    "unplugged": (lambda b: b.remove_adapter("hci0"), "adapter", "not found", lambda b: b.add_adapter("hci0", FIRST)),
    "bluetoothd gone": (FakeBlueZ.stop_bluetoothd, "bluetoothd", "bluetoothd does not run", FakeBlueZ.start_bluetoothd),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_that_lasts_is_named_and_its_end_noticed(bluez: FakeBlueZ, name: str) -> None:
    begin, cause, words, end = FAULTS[name]
    async with listening(patience=HANDS_OFF) as ear:
        await ear.until_heard_anew(bluez)
        await begin(bluez)
        await ear.until(lambda: ear.scanner.state is ScannerState.DEAF)
        assert ear.scanner.cause == cause
        assert words in ear.trouble
        assert ear.scanner.trouble is not None
        assert ear.scanner.trouble.do
        starts = ear.scanner.counts.starts
        await end(bluez)
        await ear.until_heard_anew(bluez)
        # A try may have come between the cause's end and the moment from which BlueZ answers again.
        assert starts < ear.scanner.counts.starts <= starts + 2
        assert [(turn.state, turn.step) for turn in ear.turns] == [("hearing", None), ("deaf", None), ("hearing", None)]


async def test_an_adapter_is_followed_by_its_address(bluez: FakeBlueZ) -> None:
    async with listening(FIRST, ONLY_TOLD) as ear:
        await ear.until_heard_anew(bluez)
        await bluez.remove_adapter("hci0")
        await bluez.add_adapter("hci0")
        await bluez.add_adapter("hci5", FIRST)
        await ear.until_heard_anew(bluez, "hci5")
        assert ear.scanner.adapter is not None
        assert ear.scanner.adapter.name == "hci5"
        await bluez.wait_scanning("hci0", None)


async def test_an_adapter_that_is_off_is_switched_on(bluez: FakeBlueZ) -> None:
    async with listening(patience=ONLY_TOLD) as ear:
        await ear.until_heard_anew(bluez)
        await bluez.power("hci0", on=False)
        await ear.until_heard_anew(bluez)


async def test_an_adapter_that_is_blocked_is_reported_and_switched_on_later(bluez: FakeBlueZ) -> None:
    async with listening(patience=ONLY_TOLD) as ear:
        await ear.until_heard_anew(bluez)
        await bluez.block("hci0", on=True)
        await ear.until(lambda: "cannot be switched on" in ear.trouble)
        assert "rfkill unblock" in ear.trouble
        assert ear.scanner.cause == "power"
        await bluez.block("hci0", on=False)
        await ear.until_heard_anew(bluez)


async def test_a_scan_that_is_dead_from_the_first_second_is_started_again(bluez: FakeBlueZ) -> None:
    async with listening() as ear:
        await bluez.wait_scanning()
        await bluez.deafen("hci0")
        await ear.until_heard_anew(bluez)


async def test_each_scan_gets_the_whole_silence(bluez: FakeBlueZ) -> None:
    async with listening() as ear:
        started_s = time.monotonic()
        await ear.until_heard_anew(bluez)
        await ear.until(lambda: ear.scanner.state is ScannerState.DEAF)
        assert time.monotonic() - started_s >= QUICK.silence_s


async def test_a_passive_scan_without_the_helper_may_be_silent_for_longer(bluez: FakeBlueZ) -> None:
    async with listening(patience=replace(QUICK, sparse_silence_s=60), mode="passive") as ear:
        await ear.until_heard_anew(bluez)
        await bluez.wait_scanning("hci0", "passive")
        await asyncio.sleep(2 * QUICK.silence_s)
        assert ear.scanner.state is ScannerState.HEARING


async def test_known_beacons_make_silence_certain_sooner(bluez: FakeBlueZ) -> None:
    async with listening(patience=ONLY_TOLD, silence_s=lambda: 0.3) as ear:
        await ear.until_heard_anew(bluez)
        await ear.until(lambda: ear.scanner.cause == "silence")


async def test_starts_that_fail_follow_each_other_ever_more_slowly(bluez: FakeBlueZ) -> None:
    await bluez.stick("hci0", on=True)
    async with listening(patience=replace(ONLY_TOLD, failing_s=60), mode="active") as ear:
        started_s = time.monotonic()
        await ear.until(lambda: ear.scanner.counts.starts >= 8)
        # 0.05 + 0.1 + 0.2 + 0.2 + …
        assert time.monotonic() - started_s >= 0.05 + 0.1 + 5 * 0.2


async def test_a_bluetoothd_that_hangs_is_reported_and_waited_for(bluez: FakeBlueZ) -> None:
    async with listening(patience=ONLY_TOLD, vigilance=SUSPICIOUS) as ear:
        await ear.until_heard_anew(bluez)
        await ear.until(lambda: ear.scanner.trouble is None)
        bluez.freeze()
        await ear.until(lambda: "does not answer" in ear.trouble)
        assert ear.scanner.cause == "hangs"
        assert "systemctl restart bluetooth" in ear.trouble
        starts = ear.scanner.counts.starts
        bluez.thaw()
        await ear.until_heard_anew(bluez)
        # The scan ran on.
        assert ear.scanner.counts.starts == starts


async def test_a_bluetoothd_that_hangs_from_the_beginning_is_reported(bluez: FakeBlueZ) -> None:
    bluez.freeze()
    async with listening(patience=ONLY_TOLD, vigilance=SUSPICIOUS) as ear:
        await ear.until(lambda: "does not answer" in ear.trouble)
        bluez.thaw()
        await ear.until_heard_anew(bluez)


async def test_a_start_without_an_answer_is_given_up_and_leaves_nothing_behind(bluez: FakeBlueZ) -> None:
    await bluez.stall("hci0", on=True)
    async with listening(patience=replace(ONLY_TOLD, failing_s=60, start_s=1), mode="active") as ear:
        await ear.until(lambda: "did not start" in ear.trouble)
        assert ear.scanner.cause == "start"
        await bluez.stall("hci0", on=False)
        await ear.until_heard_anew(bluez)


async def test_an_adapter_that_hangs_does_not_hold_up_another(bluez: FakeBlueZ) -> None:
    await bluez.stall("hci0", on=True)
    patience = replace(ONLY_TOLD, start_s=60)
    async with listening("hci0", patience), listening("hci1", patience) as ear:
        await bluez.wait_scanning("hci0", "active")
        await ear.until_heard_anew(bluez, "hci1")


async def test_two_adapters_are_heard_side_by_side(bluez: FakeBlueZ) -> None:
    async with listening("hci0", ONLY_TOLD) as first, listening("hci1", ONLY_TOLD) as second:
        await first.until_heard_anew(bluez, "hci0")
        await second.until_heard_anew(bluez, "hci1")
        first.heard.clear()
        assert await beacon(bluez, "hci1", -42)
        await second.until(lambda: second.heard[-1][1] == -42)
        assert first.heard == []


async def test_an_adapter_that_refuses_active_scans_is_heard_passively(bluez: FakeBlueZ) -> None:
    await bluez.stick("hci0", on=True)
    async with listening(patience=replace(ONLY_TOLD, failing_s=60)) as ear:
        await ear.until(lambda: ear.scanner.state is ScannerState.DEAF)
        await bluez.wait_scanning("hci0", "passive")
        assert any("stuck: it refuses every active scan" in turn.cause for turn in ear.turns)
        await ear.until_heard_anew(bluez)
        await ear.until(lambda: "is heard passively" in ear.trouble)
        await bluez.stick("hci0", on=False)
        await bluez.wait_scanning("hci0", "active")


async def test_nobody_is_told_to_unplug_an_adapter_whose_scan_of_before_still_ends(bluez: FakeBlueZ) -> None:
    """The kernel goes on with the scan of a bluetoothd that was killed, and answers the next one "in progress"."""
    async with listening(patience=replace(ONLY_TOLD, stuck_s=60, failing_s=60)) as ear:
        await ear.until_heard_anew(bluez)
        await bluez.stop_bluetoothd()
        await ear.until(lambda: ear.scanner.cause == "bluetoothd")
        await bluez.stick("hci0", on=True)
        await bluez.start_bluetoothd()
        starts = ear.scanner.counts.starts
        await ear.until(lambda: ear.scanner.counts.starts >= starts + 3)
        assert ear.scanner.cause == "start"
        assert "a scan of before, or of somebody else, still goes on" in ear.trouble
        await bluez.stick("hci0", on=False)
        await bluez.wait_scanning("hci0", "active")
        await ear.until_heard_anew(bluez)
    assert not any("nplug" in turn.cause or "stuck" in turn.cause for turn in ear.turns)


async def test_an_adapter_that_was_stuck_is_scanned_actively_once_it_was_replugged(bluez: FakeBlueZ) -> None:
    await bluez.stick("hci0", on=True)
    async with listening(patience=replace(ONLY_TOLD, failing_s=60, reconsider_s=600)) as ear:
        await bluez.wait_scanning("hci0", "passive")
        await bluez.remove_adapter("hci0")
        await ear.until(lambda: ear.scanner.cause == "adapter")
        await asyncio.sleep(2 * ONLY_TOLD.settle_s)
        await bluez.add_adapter("hci0", FIRST)
        await bluez.wait_scanning("hci0", "active")
        await ear.until_heard_anew(bluez)


async def test_an_active_scan_that_hears_has_not_ended_whatever_bluetoothd_counts_it_as(bluez: FakeBlueZ) -> None:
    ended_s = 3.0
    async with listening(patience=replace(ONLY_TOLD, ended_s=ended_s), mode="active") as ear:
        await ear.until_heard_anew(bluez)
        await bluez.deny_discovering("hci0")
        until_s = time.monotonic() + 1.5 * ended_s
        while time.monotonic() < until_s:
            await beacon(bluez)
            await asyncio.sleep(0.02)
        assert ear.scanner.counts.starts == 1
        # Nothing is heard any more.
        await ear.until(lambda: ear.scanner.counts.starts == 2)


async def test_a_bluetoothd_that_hung_goes_on_with_its_scan_undisturbed(bluez: FakeBlueZ) -> None:
    patience = replace(ONLY_TOLD, silence_s=5, fresh_s=0.5)
    async with listening(patience=patience, vigilance=SUSPICIOUS, mode="active") as ear:
        await ear.until_heard_anew(bluez)
        bluez.freeze()
        await ear.until(lambda: ear.scanner.cause == "hangs")
        await asyncio.sleep(patience.silence_s)
        bluez.thaw()
        await ear.until_heard_anew(bluez)
        assert ear.scanner.counts.starts == 1
        assert ear.scanner.recovery is None


async def test_active_alone_never_becomes_passive(bluez: FakeBlueZ) -> None:
    await bluez.stick("hci0", on=True)
    async with listening(patience=replace(ONLY_TOLD, failing_s=60), mode="active") as ear:
        await ear.until(lambda: ear.scanner.counts.starts >= 6)
        assert ear.scanner.state is ScannerState.DEAF
        assert bluez.scanning() is None


async def test_passive_alone_says_what_is_missing(bluez: FakeBlueZ) -> None:
    await bluez.hide_passive()
    await restart_bluetoothd(bluez)
    async with listening(patience=ONLY_TOLD, mode="passive") as ear:
        await ear.until(lambda: ear.scanner.state is ScannerState.DEAF)
        assert "no passive scan" in ear.trouble
        assert "--experimental" in ear.trouble


async def test_a_passive_scan_hears_what_its_patterns_let_through(bluez: FakeBlueZ) -> None:
    async with listening(patience=ONLY_TOLD, mode="passive", service_uuid16=0xFCF1, company_id=0x1234) as ear:
        await ear.until_heard_anew(bluez)
        ear.heard.clear()
        sent: list[dict[str, Any]] = [
            {"service_uuids": [uuid_of(TOKEN)], "flags": 0x1A},
            {"service_data": {"fcf1": b"S"}, "flags": None},
            {"manufacturer_data": {0x1234: b"M"}, "flags": None},
            {"manufacturer_data": {0x004C: IBEACON}, "flags": None},
            {"manufacturer_data": {0x0118: b"\xbe\xacA"}, "flags": None},
            {"service_data": {"feaa": b"\x00E"}, "flags": None},
        ]
        for number, advertisement in enumerate(sent):
            assert await bluez.advertise(f"C1:00:00:00:01:{number:02X}", **advertisement), advertisement
        assert not await bluez.advertise("C1:00:00:00:00:05", service_uuids=[uuid_of(TOKEN)], flags=None)
        assert not await bluez.advertise("C1:00:00:00:00:06", manufacturer_data={0x0118: b"other"}, flags=None)
        await ear.until(lambda: len(ear.heard) >= len(sent))
        assert [data[-1:] for *_, data in ear.heard] == [TOKEN[:1], b"S", b"M", IBEACON[-1:], b"A", b"E"]


async def test_no_monitor_has_so_many_patterns_that_bluetoothd_dies(bluez: FakeBlueZ) -> None:
    assert len(passive_patterns(0xFCF1, 0x1234)) > MAX_PATTERNS
    async with listening(patience=ONLY_TOLD, mode="passive", service_uuid16=0xFCF1, company_id=0x1234) as ear:
        await ear.until_heard_anew(bluez)
        assert ear.scanner.counts.starts == 1


def mistaken(*_: object) -> None:
    raise ZeroDivisionError


async def test_a_mistake_of_the_listener_ends_the_scan(bluez: FakeBlueZ) -> None:
    ear = Ear("hci0", ONLY_TOLD, heard=mistaken)
    running = asyncio.create_task(ear.run())
    await bluez.wait_scanning()
    await ear.until(lambda: ear.scanner.scanning_mode is not None)
    await beacon(bluez)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(running, 30)
    assert ear.scanner.state is ScannerState.STOPPED
    await bluez.wait_scanning("hci0", None)


async def test_each_change_is_logged_once_and_no_address_ever(bluez: FakeBlueZ, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "gateway")
    async with listening(patience=HANDS_OFF) as ear:
        for _ in range(3):
            await ear.until_heard_anew(bluez)
            await bluez.power("hci0", on=False)
            await ear.until(lambda: "powered off" in ear.trouble)
            await bluez.power("hci0", on=True)
        await ear.until_heard_anew(bluez)
    ours = [record for record in caplog.records if record.name == "gateway.io.scanner" and record.levelno >= logging.INFO]
    # The second and third time came within the same minute.
    assert [record.levelname for record in ours] == ["INFO", "WARNING"]
    assert BEACON not in caplog.text
    assert BEACON.replace(":", "_") not in caplog.text


async def test_cancelling_it_ends_the_scan(bluez: FakeBlueZ) -> None:
    async with listening() as ear:
        await bluez.wait_scanning()
    assert ear.scanner.state is ScannerState.STOPPED
    await bluez.wait_scanning("hci0", None)


async def test_cancelling_it_before_the_start_was_answered_ends_the_scan(bluez: FakeBlueZ) -> None:
    await bluez.stall("hci0", on=True)
    async with listening(patience=replace(ONLY_TOLD, start_s=60), mode="active"):
        # It scans, and nobody has told bleak.
        await bluez.wait_scanning("hci0", "active")
    await bluez.wait_scanning("hci0", None)


# ---- the ladder ---------------------------------------------------------------------------------------------------------------

CURES: dict[str, RecoveryStep] = {"start": "restart-scan", "client": "new-scanner", "power": "power-cycle"}


@pytest.mark.parametrize("cure", CURES)
async def test_the_ladder_is_climbed_until_something_helps(bluez: FakeBlueZ, cure: str) -> None:
    async with listening(patience=STEADY) as ear:
        await ear.until_heard_anew(bluez)
        await bluez.deafen("hci0", cure)
        await ear.until_heard_anew(bluez)
        taken = [turn for turn in ear.turns if turn.step is not None]
        assert [turn.step for turn in taken] == list(STEPS[: STEPS.index(CURES[cure]) + 1])
        assert [turn.helped for turn in taken] == [False] * (len(taken) - 1) + [True]
        assert ear.scanner.recovery is not None
        assert (ear.scanner.recovery.step, ear.scanner.recovery.helped) == (CURES[cure], True)
        assert ear.memory == RecoveryMemory(CURES[cure])


async def test_what_helped_last_time_comes_first(bluez: FakeBlueZ) -> None:
    async with listening(patience=STEADY, memory=RecoveryMemory("power-cycle")) as ear:
        await ear.until_heard_anew(bluez)
        await bluez.deafen("hci0", "power")
        await ear.until_heard_anew(bluez)
        assert [turn.step for turn in ear.turns if turn.step is not None] == ["power-cycle"]


async def test_a_power_cycle_leaves_the_adapter_on_even_when_cancelled(bluez: FakeBlueZ) -> None:
    memory = RecoveryMemory("power-cycle")
    async with listening(memory=memory, patience=replace(QUICK, settle_s=60)) as ear:
        await ear.until(lambda: ear.scanner.recovery is not None)
        await bluez.wait_scanning("hci0", None)
        await ear.until(lambda: not ear.bluez.adapters["hci0"].powered)
    async with listening(patience=HANDS_OFF) as ear:
        await ear.until_heard_anew(bluez)


async def test_without_a_last_resort_it_never_gives_up(bluez: FakeBlueZ) -> None:
    async with listening(patience=replace(QUICK, silence_s=0.1), rungs=HASTY) as ear:
        await ear.until(lambda: sum(turn.step == "power-cycle" for turn in ear.turns) >= 3)


async def test_it_gives_up_where_it_may(bluez: FakeBlueZ) -> None:
    ear = Ear("hci0", QUICK, rungs=HASTY, last_resorts=lambda: ("restart-process",))
    with pytest.raises(RadioGivenUp, match=r"deaf for .* heard nothing"):
        await asyncio.wait_for(ear.run(), 60)
    assert ear.scanner.state is ScannerState.STOPPED
    # Trust, R7: systemd starts the process again.
    assert RadioGivenUp.exit_code == 75
    assert ear.memory == RecoveryMemory(None, "restart-process")
    await bluez.wait_scanning("hci0", None)


async def test_a_reboot_comes_after_the_process_was_ended_in_vain(bluez: FakeBlueZ) -> None:
    memory = RecoveryMemory(None, "restart-process")
    async with listening(memory=memory, rungs=HASTY, last_resorts=lambda: ("reboot",)) as ear:
        # Nobody answers for logind on this bus.
        await ear.until(lambda: any(turn.step == "reboot" for turn in ear.turns))
        assert ear.memory == RecoveryMemory(None, "reboot")


# ---- the radio helper ---------------------------------------------------------------------------------------------------------


class Helped:
    """A fake kernel with the fake's first two adapters, the real helper on it, and the daemon's end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.link = RadioLink(path, now_ms)
        self.kernel: FakeKernel
        """Of the helper that runs."""
        self._serving: asyncio.Task[object] | None = None
        self._linking: asyncio.Task[object] | None = None

    async def __aenter__(self) -> Self:
        self._linking = asyncio.create_task(self.link.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        assert self._linking is not None
        self._linking.cancel()
        await asyncio.gather(self._linking, return_exceptions=True)

    async def start(self) -> None:
        """Start the helper, and wait until it answers."""
        self.kernel = FakeKernel(FIRST, SECOND)
        await self.kernel.__aenter__()
        server = RadioServer(self.path, self.kernel.helpers_end, now_ms, usb=UsbBus(sys=Path("/nonexistent")), batch_ms=5)
        self._serving = asyncio.create_task(server.run(lambda: None))
        await self._until(connected=True)

    async def stop(self) -> None:
        """End the helper, and wait until that is noticed."""
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
            await self.kernel.__aexit__(None, None, None)
            self._serving = None
            await self._until(connected=False)

    async def _until(self, *, connected: bool) -> None:
        async with asyncio.timeout(30):
            while self.link.connected != connected:  # noqa: ASYNC110 (watchers stay for ever)
                await asyncio.sleep(0.005)

    async def until_heard(self, ear: Ear, data: bytes) -> None:
        """Let the kernel report until something comes through."""
        async with asyncio.timeout(30):
            while not any(heard[2] == data for heard in ear.heard):
                await self.kernel.advertise(BEACON, -50, data)
                await asyncio.sleep(0.02)


RAW = bytes.fromhex("020106") + bytes.fromhex("1aff4c00") + IBEACON


@asynccontextmanager
async def helped(patience: Patience = ONLY_TOLD, **settings: Any) -> AsyncIterator[tuple[Helped, Ear]]:
    """A scanner with a helper behind it that does not run yet."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            Helped(Path(folder) / "radio.sock") as helper,
            listening(FIRST, patience, kernel=helper.link, **settings) as ear,
        ):
            helper.link.watch(ear.scanner.helper_changed)
            yield helper, ear


async def test_with_the_helper_the_scan_is_passive_and_quiet_and_the_kernel_reports(bluez: FakeBlueZ) -> None:
    async with helped() as (helper, ear):
        await helper.start()
        await bluez.wait_scanning("hci0", "passive")
        await helper.until_heard(ear, RAW)
        assert ear.scanner.source == "kernel"
        assert ear.scanner.state is ScannerState.HEARING
        # Not even bluetoothd has heard it.
        assert not await beacon(bluez)
        assert {heard[2] for heard in ear.heard} == {RAW}


async def test_nothing_is_heard_twice_where_bluetoothd_tells_it_too(bluez: FakeBlueZ) -> None:
    async with helped(mode="active") as (helper, ear):
        await helper.start()
        await bluez.wait_scanning("hci0", "active")
        await helper.until_heard(ear, RAW)
        for _ in range(5):
            assert await beacon(bluez)
        await ear.until(lambda: ear.scanner.counts.control == 5)
        assert {heard[2] for heard in ear.heard} == {RAW}


async def test_a_controller_that_filters_gets_the_real_patterns(bluez: FakeBlueZ) -> None:
    await bluez.offload()
    await restart_bluetoothd(bluez)
    async with helped() as (helper, ear):
        await helper.start()
        await bluez.wait_scanning("hci0", "passive")
        await helper.until_heard(ear, RAW)
        assert await beacon(bluez)
        await ear.until(lambda: ear.scanner.counts.control == 1)


async def test_the_helper_may_go_and_come_back(bluez: FakeBlueZ) -> None:
    async with helped() as (helper, ear):
        await ear.until_heard_anew(bluez)
        assert (ear.scanner.source, bluez.scanning()) == ("bleak", "active")
        await helper.start()
        await helper.until_heard(ear, RAW)
        await bluez.wait_scanning("hci0", "passive")
        await helper.stop()
        await bluez.wait_scanning("hci0", "active")
        await ear.until_heard_anew(bluez)
        assert ear.scanner.source == "bleak"
        assert [turn.state for turn in ear.turns] == ["hearing"]


async def test_without_passive_scans_the_kernel_reports_active_ones(bluez: FakeBlueZ) -> None:
    await bluez.hide_passive()
    await restart_bluetoothd(bluez)
    async with helped() as (helper, ear):
        await helper.start()
        await bluez.wait_scanning("hci0", "active")
        await helper.until_heard(ear, RAW)
        assert ear.scanner.source == "kernel"


async def test_a_helper_that_says_nothing_is_done_without(bluez: FakeBlueZ) -> None:
    async with helped(patience=replace(STEADY, mute_s=0.2)) as (helper, ear):
        await helper.start()
        # The quiet scan hears nothing, so it is made an active one; then bluetoothd hears what the helper does not.
        await ear.until_heard_anew(bluez)
        assert ear.scanner.counts.control
        await ear.until(lambda: "helper reports nothing" in ear.trouble)
        await helper.until_heard(ear, RAW)
        await ear.until(lambda: ear.scanner.trouble is None)


async def test_a_bluetoothd_that_hangs_does_not_deafen_the_kernel(bluez: FakeBlueZ) -> None:
    async with helped(replace(ONLY_TOLD, fresh_s=20), vigilance=SUSPICIOUS) as (helper, ear):
        await helper.start()
        await bluez.wait_scanning("hci0", "passive")
        await ear.until(lambda: ear.scanner.scanning_mode == "passive" and ear.scanner.trouble is None)
        await helper.until_heard(ear, RAW)
        bluez.freeze()
        async with asyncio.timeout(30):
            while "does not answer" not in ear.trouble:
                await helper.kernel.advertise(BEACON, -50, RAW)
                await asyncio.sleep(0.01)
        bluez.thaw()
        await ear.until(lambda: ear.scanner.trouble is None)
        assert ear.scanner.state is ScannerState.HEARING
        assert [turn.state for turn in ear.turns] == ["hearing"]


async def test_the_helper_resets_an_adapter_that_nothing_else_cures(bluez: FakeBlueZ) -> None:
    async with helped(patience=QUICK, rungs=HASTY) as (helper, ear):
        await helper.start()
        await ear.until(lambda: any(turn.step == "reset-controller" for turn in ear.turns))
        assert [turn.step for turn in ear.turns if turn.step is not None][:4] == list(STEPS[:4])
        # Off and on again.
        assert [code for code, index, _ in helper.kernel.commands if index == 0].count(SET_POWERED) == 2


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
