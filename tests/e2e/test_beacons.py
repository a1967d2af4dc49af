"""Fixed beacons as canaries, from the air to central: one falls silent, a receiver goes deaf, its zone's promotions pause."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import WORLDS
from tests.e2e.world import SHOP, STORE, Options, Template, World, run_command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

UUID = bytes(range(16))
BEACONS = {"milk": 1, "cheese": 2, "cream": 3}
SPEED = 10
"""The canaries need three minutes to know how often a beacon sends, and one or one and a half to miss it."""
LEARN_S = 150.0
"""Much longer than that takes at this speed."""


class Dairy(World):
    """The usual shop with three beacons in the dairy and none in the bakery; both receivers hear all of them."""

    def __init__(self, folder: Path, template: Template) -> None:
        super().__init__(folder, template, Options(speed=SPEED))
        self.silent: set[str] = set()

    def _shop(self) -> dict[str, Any]:
        uuid = "00010203-0405-0607-0809-0a0b0c0d0e0f"
        beacons = {
            name: {"kind": "beacon", "zone": "dairy", "uuid": uuid, "major": 1, "minor": minor} for name, minor in BEACONS.items()
        }
        shop: dict[str, Any] = json.loads(json.dumps(SHOP))
        shop["anchors"].update(beacons)
        return shop

    async def send_beacons(self) -> None:
        """Each about once in two of the shop's seconds."""
        while True:
            for name, minor in BEACONS.items():
                data = b"\x02\x15" + UUID + bytes((0, 1, 0, minor, 0xC5))
                for receiver, adapter in self.receivers.items():
                    if name not in self.silent and receiver not in self.shielded:
                        address = f"C0:00:00:00:00:{minor:02X}"
                        await self.bluez.advertise(address, -60, adapter=adapter, manufacturer_data={0x004C: data})
            await asyncio.sleep(0.2)

    async def beacon_health(self) -> dict[str, Any]:
        """What `gateway beacon health` prints."""
        said = await run_command("beacon", "health", "--json", "--config", self.folder / "gateway.toml")
        health: dict[str, Any] = json.loads(said)
        return health

    def health(self) -> dict[tuple[str, str], str]:
        """State by subject and name, as central knows it."""
        return {(subject, name): state for subject, name, state in self.central_rows("SELECT subject, name, state FROM health")}

    def alarms(self) -> list[tuple[str, str]]:
        """(name, state) of what the staff was told."""
        told = [message.event["data"] for message in self.wire.on(f"stores/{STORE}/staff", "staff.alarm.v1")]
        return [(alarm["name"], alarm["state"]) for alarm in told]


@pytest.fixture
async def dairy(tmp_path: Path, template: Template, request: pytest.FixtureRequest) -> AsyncIterator[Dairy]:
    """Ready, and the beacons' rates are known."""
    world = Dairy(tmp_path / "world", template)
    request.node.stash[WORLDS] = [world]
    async with world:
        await world.until_ready()
        sending = asyncio.create_task(world.send_beacons())
        try:
            async with asyncio.timeout(LEARN_S):
                while not _is_known(await world.beacon_health()):  # noqa: ASYNC110 (it announces nothing)
                    await asyncio.sleep(0.5)
            yield world
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending


def _is_known(health: dict[str, Any]) -> bool:
    links = [link for beacon in health["beacons"] for link in beacon["links"]]
    return len(links) == len(BEACONS) * 2 and all(link["usual_rate_hz"] is not None for link in links)


async def test_a_beacon_that_falls_silent_is_known_to_central_and_the_staff(dairy: Dairy) -> None:
    dairy.silent = {"cheese"}
    await dairy.until(lambda: dairy.health().get(("beacon", "cheese")) == "silent", "central knows of the silent beacon", 60)
    await dairy.until(lambda: ("cheese", "silent") in dairy.alarms(), "the staff is told", 60)
    found = {beacon["name"]: beacon for beacon in (await dairy.beacon_health())["beacons"]}
    assert found["cheese"]["state"] == "silent"
    assert found["cheese"]["promotions"] == ["cheese", "yoghurt-3"]
    dairy.silent = set()
    await dairy.until(lambda: dairy.health()["beacon", "cheese"] != "silent", "central knows that it is back", 60)
    await dairy.until(lambda: dairy.outbox_types() == [], "nothing waits for central", 60)
    dairy.assert_streams_whole()


async def test_promotions_of_a_zone_that_has_gone_deaf_pause_and_return(dairy: Dairy) -> None:
    """The bakery's only anchor is its receiver; the dairy goes on."""
    dairy.shielded = {"pi-bakery"}
    await dairy.until(lambda: dairy.health().get(("receiver", "pi-bakery")) == "deaf", "central knows of the deaf receiver", 60)
    await dairy.until(lambda: ("pi-bakery", "deaf") in dairy.alarms(), "the staff is told", 60)
    health = await dairy.beacon_health()
    assert health["blind_zones"] == [{"name": "bakery", "promotions": ["bread-20"]}]
    status = json.loads(await run_command("status", "--json", "--config", dairy.folder / "gateway.toml"))
    assert status["blind_zones"] == ["bakery"]
    dairy.shielded = set()
    dairy.walk("anna", "bakery")
    await dairy.until(lambda: ("anna", "bread-20") in dairy.granted(), "the bakery's promotion is back", 60)
    await dairy.until(lambda: dairy.health()["receiver", "pi-bakery"] == "hearing", "central knows that it hears again", 60)
