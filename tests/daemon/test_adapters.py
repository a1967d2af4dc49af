"""Adapters of this machine as receivers: which adapter is whose, what is kept, told and said in the status."""

import asyncio
import json
import stat
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.contract.settings import Settings
from gateway.core.model import Instant, ReceiverChange
from gateway.daemon.adapters import AdapterEars, seen_adapters
from gateway.daemon.ears import EarCondition
from gateway.io.scanner import Patience
from tests.background import in_background
from tests.fakes.bluez import FakeBlueZ

FIRST, SECOND = "00:1A:7D:DA:71:0A", "00:1A:7D:DA:71:0B"
"""The fake's adapters."""
BEACON = "C2:00:00:00:00:02"
IBEACON = bytes.fromhex("0215 f7826da64fa24e988024bc5b71e0893e 0001 0102 c5")
CALM = Patience(check_s=0.1, retry_first_s=0.05, retry_most_s=0.2, settle_s=0.05, off_s=60)


def now() -> Instant:
    return Instant(time.monotonic_ns() // 1_000_000, time.time_ns() // 1_000_000)


class Shop:
    """The ears of one process, and what they heard and told."""

    def __init__(
        self, folder: Path, receivers: list[dict[str, Any]], patience: Patience, beacon_silence_s: int = 30, **more: Any
    ) -> None:
        settings = Settings.model_validate(
            {
                "store": "demo",
                "store_number": 1,
                "gateway": "pi-1",
                "state_dir": folder,
                "receivers": receivers,
                "radio": {"helper_socket": folder / "radio.sock"},
            }
        )
        # Less than a shop may set.
        radio = settings.radio.model_copy(update={"beacon_silence_s": beacon_silence_s})
        self.settings = settings.model_copy(update={"radio": radio})
        self.heard: list[str] = []
        self.changes: list[ReceiverChange] = []
        self.ears = AdapterEars(
            self.settings,
            lambda receiver, *_: self.heard.append(receiver),
            lambda: now().mono_ms,
            now,
            changed=self.changes.append,
            patience=patience,
            **more,
        )

    def condition(self, name: str) -> EarCondition:
        return next(condition for condition in self.ears.conditions() if condition.receiver == name)

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not is_so():  # noqa: ASYNC110 (conditions are read, they announce nothing)
                await asyncio.sleep(0.01)

    async def until_heard(self, bluez: FakeBlueZ, adapter: str) -> str:
        """Who hears what this adapter hears."""
        self.heard.clear()
        async with asyncio.timeout(20):
            while not self.heard:
                await bluez.advertise(BEACON, -50, adapter=adapter, manufacturer_data={0x004C: IBEACON})
                await asyncio.sleep(0.02)
        return self.heard[0]


@asynccontextmanager
async def listening(
    folder: Path, *receivers: tuple[str, str | None], patience: Patience = CALM, **more: Any
) -> AsyncIterator[Shop]:
    named = [{"name": name} | ({} if adapter is None else {"adapter": adapter}) for name, adapter in receivers]
    shop = Shop(folder, named, patience, **more)
    async with in_background(shop.ears.run()):
        yield shop


async def swap(bluez: FakeBlueZ) -> None:
    """The two adapters change their numbers, as they may after a reboot."""
    for adapter in ("hci0", "hci1"):
        await bluez.remove_adapter(adapter)
    await bluez.add_adapter("hci0", SECOND)
    await bluez.add_adapter("hci1", FIRST)


async def test_each_adapter_is_a_receiver_of_its_own(bluez: FakeBlueZ, tmp_path: Path) -> None:
    async with listening(tmp_path, ("door", "hci0"), ("back", SECOND.lower())) as shop:
        assert await shop.until_heard(bluez, "hci0") == "door"
        assert await shop.until_heard(bluez, "hci1") == "back"
        await shop.until(lambda: all(condition.state == "hearing" for condition in shop.ears.conditions()))


async def test_a_number_is_followed_by_the_address_it_had_first(bluez: FakeBlueZ, tmp_path: Path) -> None:
    async with listening(tmp_path, ("door", "hci0"), ("back", "hci1")) as shop:
        await shop.until_heard(bluez, "hci0")
        await shop.until_heard(bluez, "hci1")
        await swap(bluez)
        assert await shop.until_heard(bluez, "hci1") == "door"
        assert await shop.until_heard(bluez, "hci0") == "back"
        assert shop.condition("door").adapter == "hci1"
    # Also by the next process.
    async with listening(tmp_path, ("door", "hci0"), ("back", "hci1")) as shop:
        assert await shop.until_heard(bluez, "hci1") == "door"
        assert seen_adapters(shop.settings) == {"door": FIRST, "back": SECOND}
    assert stat.S_IMODE((tmp_path / "radio.json").stat().st_mode) == 0o600
    # Unless the settings name another number.
    async with listening(tmp_path, ("door", "hci1"), ("back", SECOND)) as shop:
        assert await shop.until_heard(bluez, "hci1") == "door"


async def test_an_adapter_that_is_gone_for_good_is_told_with_what_to_do(bluez: FakeBlueZ, tmp_path: Path) -> None:
    async with listening(tmp_path, ("door", "hci0")) as shop:
        await shop.until_heard(bluez, "hci0")
        await bluez.remove_adapter("hci0")
        await bluez.add_adapter("hci0", "00:1A:7D:DA:71:99")
        await shop.until(lambda: shop.condition("door").state == "deaf")
        condition = shop.condition("door")
        assert condition.radio is not None
        assert condition.radio.cause == "adapter"
        assert f"the adapter {FIRST}, which was hci0 when first seen, is not there" in str(condition.trouble)
        assert 'set adapter = "<its address>" for door' in str(condition.trouble)


async def test_a_number_that_is_another_receivers_adapter_is_refused(bluez: FakeBlueZ, tmp_path: Path) -> None:
    async with listening(tmp_path, ("door", FIRST), ("back", "hci0")) as shop:
        await shop.until(lambda: shop.condition("back").state == "deaf")
        assert "hci0 is the adapter of another receiver" in str(shop.condition("back").trouble)
        assert await shop.until_heard(bluez, "hci0") == "door"


async def test_without_an_adapter_in_the_settings_a_free_one_is_taken(bluez: FakeBlueZ, tmp_path: Path) -> None:
    async with listening(tmp_path, ("door", FIRST), ("pi", None)) as shop:
        assert await shop.until_heard(bluez, "hci1") == "pi"
        await bluez.remove_adapter("hci1")
        await shop.until(lambda: shop.condition("pi").state == "deaf")
        assert "there is no adapter" in str(shop.condition("pi").trouble)
        await bluez.add_adapter("hci7")
        assert await shop.until_heard(bluez, "hci7") == "pi"


@pytest.mark.parametrize("content", ["", "{", '{"receivers": 1}', '{"receivers": {"door": {"number": "hci0", "address": "x"}}}'])
async def test_a_broken_file_costs_only_the_memory(bluez: FakeBlueZ, tmp_path: Path, content: str) -> None:
    (tmp_path / "radio.json").write_text(content)
    async with listening(tmp_path, ("door", "hci0")) as shop:
        assert await shop.until_heard(bluez, "hci0") == "door"
    assert json.loads((tmp_path / "radio.json").read_text())["receivers"] == {"door": {"number": "hci0", "address": FIRST}}


async def test_a_folder_that_cannot_be_written_does_not_stop_it(bluez: FakeBlueZ, tmp_path: Path) -> None:
    (tmp_path / "radio.json").mkdir()
    async with listening(tmp_path, ("door", "hci0")) as shop:
        assert await shop.until_heard(bluez, "hci0") == "door"


async def test_the_status_says_how_it_hears_and_what_is_missing(bluez: FakeBlueZ, tmp_path: Path) -> None:
    async with listening(tmp_path, ("door", "hci0")) as shop:
        await shop.until_heard(bluez, "hci0")
        condition = shop.condition("door")
        assert (condition.adapter, condition.state, condition.scanning, condition.trouble) == ("hci0", "hearing", "active", None)
        assert condition.radio is not None
        assert (condition.radio.address, condition.radio.source, condition.radio.cause) == (FIRST, "bluetoothd", None)
        assert "sudo systemctl enable --now gateway-radio" in str(condition.radio.helper_trouble)
        assert condition.radio.last_recovery is None


async def test_changes_are_told_and_what_helped_is_kept(bluez: FakeBlueZ, tmp_path: Path) -> None:
    patience = replace(CALM, silence_s=1)
    async with listening(tmp_path, ("door", "hci0"), patience=patience) as shop:
        await shop.until_heard(bluez, "hci0")
        await bluez.deafen("hci0")
        await shop.until_heard(bluez, "hci0")
        await shop.until(lambda: shop.condition("door").state == "hearing")
        assert [(change.receiver, change.state, change.step, change.helped) for change in shop.changes] == [
            ("door", "hearing", None, None),
            ("door", "deaf", None, None),
            ("door", "hearing", "restart-scan", True),
        ]
        assert "heard nothing for" in shop.changes[1].cause
        radio = shop.condition("door").radio
        assert radio is not None
        assert radio.last_recovery is not None
        assert (radio.last_recovery.step, radio.last_recovery.helped) == ("restart-scan", True)
    kept = json.loads((tmp_path / "radio.json").read_text())
    assert kept["recoveries"] == {"door": {"helped": "restart-scan", "ended_by": None}}


async def test_known_beacons_shorten_the_silence(bluez: FakeBlueZ, tmp_path: Path) -> None:
    rates = {"door": 0.2}
    async with listening(tmp_path, ("door", "hci0"), beacon_silence_s=1, beacon_rate_hz=lambda name: rates[name]) as shop:
        await shop.until_heard(bluez, "hci0")
        await asyncio.sleep(1.5)
        assert shop.condition("door").state == "hearing"
        rates["door"] = 3.0
        await shop.until(lambda: shop.condition("door").state == "deaf")
