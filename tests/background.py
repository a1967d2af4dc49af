"""Something that runs for ever, beside a test."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def in_background(what: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    """Run it while the context lasts; it must not end before."""
    running = asyncio.create_task(what)
    try:
        yield
        assert not running.done(), running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
