"""Shoppers' contexts as they come down: believed only when signed for this store and shopper, held in memory, named nowhere."""

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from gateway.contract.downlinks import Catalogue, ShopperContext
from gateway.contract.promotions import Promotion
from gateway.contract.topics import StoreTopics
from gateway.core.model import ClockQuality, Consent, Instant, Shop, Zone
from gateway.core.pipeline import Pipeline, Tuning
from gateway.daemon.downlink import Downlinks
from gateway.io.clock import SystemClock
from gateway.io.signing import Signer, Verifier
from gateway.io.store import Store
from tests.core.phones import UNIX_S, WINDOW, Phone, roster_of

ANNA, ZOE = Phone(1), Phone(2)
DAY = ANNA.day(WINDOW)
ANNAS, ZOES = ANNA.name(DAY), ZOE.name(DAY)
NOW = Instant(7_000_000, UNIX_S * 1000)
CENTRAL, STRANGER = Signer(bytes(range(32))), Signer(bytes(32))
TOPICS = StoreTopics("demo", "pi-1")
SECRET = "a-segment-that-nobody-else-has"


class Standing(SystemClock):
    """A clock that shows the shoppers' moment."""

    def now(self) -> Instant:
        return NOW

    def quality(self) -> ClockQuality:
        return ClockQuality.SYNCHRONISED


@dataclass
class Gateway:
    """The gateway's side of the downlinks, with a real database."""

    store: Store
    folder: Path
    keeps_phones: bool = True
    pipeline: Pipeline = field(init=False)
    downlinks: Downlinks = field(init=False)

    def __post_init__(self) -> None:
        self.pipeline = Pipeline(Shop({"dairy": Zone("dairy")}, {}), Tuning(UTC), lambda: "id", NOW)
        windows = self.pipeline.identity.windows_around(NOW.wall_ms, DAY)
        self.pipeline.use_roster(roster_of([ANNA], DAY, windows))
        verifier = Verifier((CENTRAL.public_key,), "demo")
        clock = Standing()
        self.downlinks = Downlinks(TOPICS, verifier, self.pipeline, self.store, clock, keeps_phones=self.keeps_phones)

    async def take(self, *, signer: Signer = CENTRAL, topic: str = TOPICS.shopper(ANNAS), **changes: Any) -> None:
        """One context, signed and sent."""
        document = ShopperContext.model_validate(
            {
                "store": "demo",
                "version": 3,
                "not_after": NOW.wall_ms + 1000,
                "shopper": ANNAS,
                "segments": [SECRET],
                "muted_categories": ["sweets"],
                "saved_offers": ["wine-3"],
                "stopped": True,
                "visits_30_days": 4,
                **changes,
            }
        )
        payload = signer.seal(document, source="central", time_ms=NOW.wall_ms).to_json()
        await self.downlinks.take(topic, payload)

    def known(self) -> tuple[int, int] | None:
        """Version and visits of what is held of Anna."""
        held = self.pipeline.context_of(ANNAS)
        return None if held is None else (held[0], held[1].visits_30_days)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    store = Store(tmp_path / "gateway.db", quota_mib=16, boot_id="boot")
    await store.start()
    try:
        yield Gateway(store, tmp_path)
    finally:
        await store.close()


async def test_a_signed_context_is_known_as_it_was_written(gateway: Gateway) -> None:
    await gateway.take()
    held = gateway.pipeline.context_of(ANNAS)
    assert held is not None
    version, context = held
    assert (version, context.segments, context.muted_categories, context.saved_offers, context.stopped) == (
        3,
        frozenset({SECRET}),
        frozenset({"sweets"}),
        frozenset({"wine-3"}),
        True,
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"signer": STRANGER}, "downlink refused", id="signed by somebody else"),
        pytest.param({"store": "other"}, "downlink refused", id="for another store"),
        pytest.param({"not_after": NOW.wall_ms - 1}, "downlink refused", id="too old"),
        pytest.param({"topic": TOPICS.shopper(ZOES)}, "came on the topic of another shopper", id="on the topic of another"),
        pytest.param({"topic": TOPICS.shopper(ANNAS) + "/x"}, "downlink refused", id="on a topic that is none"),
        pytest.param({"shopper": ZOES, "topic": TOPICS.shopper(ZOES)}, "", id="of nobody in the roster"),
    ],
)
async def test_what_cannot_be_believed_changes_nothing_and_names_nobody(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], said: str
) -> None:
    caplog.set_level(logging.DEBUG)
    await gateway.take(version=2, visits_30_days=1)
    await gateway.take(**changes)
    assert gateway.known() == (2, 1)
    assert gateway.pipeline.context_of(ZOES) is None
    assert said in caplog.text
    assert ANNAS not in caplog.text
    assert ZOES not in caplog.text
    assert SECRET not in caplog.text


async def test_garbage_names_nobody_either(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    for payload in (b"{", b"[]", b'{"type": "shopper.context.v1"}', b""):
        await gateway.downlinks.take(TOPICS.shopper(ANNAS), payload)
    assert gateway.known() is None
    assert ANNAS not in caplog.text


async def test_versions_may_come_in_any_order_and_twice(gateway: Gateway) -> None:
    for version in (2, 2, 1, 4, 3, 4):
        await gateway.take(version=version, visits_30_days=version)
    assert gateway.known() == (4, 4)


async def test_it_is_in_no_file_and_gone_with_her_opt_out(gateway: Gateway) -> None:
    await gateway.take()
    assert gateway.known() is not None
    assert await gateway.store.snapshot_names() == []
    written = b"".join(path.read_bytes() for path in gateway.folder.iterdir())
    assert SECRET.encode() not in written
    assert ANNAS.encode() not in written
    gateway.pipeline.apply_roster_delta(DAY, 2, [ANNA.entry(DAY, Consent.ANALYTICS)], [])
    assert gateway.known() is None
    await gateway.take(version=9)
    assert gateway.known() is None, "nor does it come back without consent"


async def test_without_the_privacy_settings_nobody_is_known(gateway: Gateway) -> None:
    careful = Gateway(gateway.store, gateway.folder, keeps_phones=False)
    await careful.take()
    assert careful.known() is None


async def test_what_is_sold_out_comes_with_the_catalogue(gateway: Gateway) -> None:
    rules = [
        Promotion.model_validate({"promotion_id": name, "long_title": {"en": name}, "zones": ["dairy"]}) for name in ("a", "b")
    ]
    for version, sold_out in ((1, ("a",)), (2, ())):
        document = Catalogue(
            store="demo", version=version, not_after=NOW.wall_ms + 1000, promotions=tuple(rules), sold_out=sold_out
        )
        payload = CENTRAL.seal(document, source="central", time_ms=NOW.wall_ms).to_json()
        await gateway.downlinks.take(TOPICS.catalogue, payload)
        catalogue = gateway.pipeline.catalogue
        assert catalogue is not None
        assert (catalogue.version, catalogue.sold_out) == (version, frozenset(sold_out))
