"""Worlds for the tests of this folder; when one fails, what its processes said is part of the report."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.e2e.world import Options, Template, World, make_template

MakeWorld = Callable[..., Awaitable[World]]
WORLDS = pytest.StashKey[list[World]]()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Central's key, promotions and enrolled apps, made once by the command line."""
    return asyncio.run(make_template(tmp_path_factory.mktemp("template")))


@pytest.fixture
async def make_world(tmp_path: Path, template: Template, request: pytest.FixtureRequest) -> AsyncIterator[MakeWorld]:
    """Starts a world: ``await make_world(protocol="3.1.1")``; it ends with the test."""
    worlds = request.node.stash[WORLDS] = []
    async with AsyncExitStack() as stack:

        async def make(*, ready: bool = True, **options: object) -> World:
            world = World(tmp_path / "world", template, Options(**options))  # type: ignore[arg-type]
            worlds.append(world)
            await stack.enter_async_context(world)
            if ready:
                await world.until_ready()
            return world

        yield make


@pytest.fixture
async def world(make_world: MakeWorld) -> World:
    """The usual one, ready."""
    return await make_world()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What the processes said goes with a failure."""
    report = yield
    if report.when == "call" and report.failed:
        for world in item.stash.get(WORLDS, []):
            report.sections += [(f"{name} said", text) for name, text in world.logs().items() if text]
    return report
