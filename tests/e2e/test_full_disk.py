"""The gateway's disk is full while shoppers walk: it goes on, says so, loses what it cannot keep, and tells central how much."""

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from tests.e2e.conftest import MakeWorld
from tests.e2e.world import GATEWAY, PROGRAM, World

pytestmark = pytest.mark.slow


async def said(world: World, *command: str) -> Any:
    """What the command prints as JSON."""
    settings = world.folder / "gateway.toml"
    ran = await asyncio.create_subprocess_exec(
        PROGRAM, *command, "--json", "--config", settings, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    printed, _ = await asyncio.wait_for(ran.communicate(), 60)
    return json.loads(printed)


async def next_step(world: World) -> str:
    return str((await said(world, "status"))["next_step"])


async def disk_check(world: World) -> tuple[str, str]:
    examination = await said(world, "doctor")
    return next((check["state"], check["found"]) for check in examination["checks"] if check["name"] == "disk")


def gap(world: World) -> list[tuple[Any, ...]]:
    return world.gateway_rows("SELECT events, cause, is_over FROM gap")


async def test_on_a_full_disk_the_gateway_goes_on_and_central_learns_how_much_is_missing(make_world: MakeWorld) -> None:
    world = await make_world(disk_mib=24)
    world.walk("anna", "bakery")
    await world.settle(grants=1)
    before = world.central_rows("SELECT count(*) FROM event")[0][0]
    pid = world.gateway.pid
    world.disk.fill()
    zones = ("dairy", "bakery")
    # Until the first that finds no room; a few still fit into what the database has open.
    for turn in range(20):
        world.walk("anna", zones[turn % 2])
        await world.still_heard("anna", times=30)
        if gap(world):
            break
    assert [(cause, is_over) for _, cause, is_over in gap(world)] == [("full", 0)]
    step = await next_step(world)
    assert "The disk is full." in step
    assert "could not be kept, because the disk was full." in step
    assert "Make room" in step
    state, found = await disk_check(world)
    assert (state, "could not be kept, because the disk was full." in found) == ("failed", True)
    world.walk("anna", None)
    world.disk.make_room()
    await world.until(lambda: gap(world)[0][2] == 1, "the gap is over")
    await world.until(world.is_quiet, "central has everything")
    assert world.gateway.pid == pid, "the same process"
    ((lost, _, _),) = gap(world)
    numbers = [seq for (seq,) in world.central_rows("SELECT seq FROM event WHERE gateway = ? ORDER BY seq", GATEWAY)]
    assert numbers == list(range(1, len(numbers) + 1)), "each number once"
    kinds = Counter(kind for (kind,) in world.central_rows("SELECT type FROM event"))
    assert kinds["tombstone.v1"] == lost > 0
    assert len(numbers) > before + lost - 1
    assert "there is room again" in world.gateway.log.read_text()
    assert f"{lost} event" in await next_step(world) or "MiB are free" in await next_step(world)
    # What comes now is kept, and offered.
    world.walk("anna", "dairy")
    await world.until(lambda: ("anna", "cheese") in world.granted(), "she gets what she could not get before")
    await world.until(world.is_quiet, "and all is well")
