"""What tests of several folders need."""

from collections.abc import AsyncIterator

import pytest

from tests.fakes.bluez import FakeBlueZ


@pytest.fixture
async def bluez(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeBlueZ]:
    """The fake, with two adapters, as the system bus of this process."""
    async with FakeBlueZ("hci0", "hci1") as fake:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", fake.address)
        yield fake
