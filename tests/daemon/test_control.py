"""What the command line asks of a running daemon, through the real socket: answered at once, in force at once, kept."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, TypeVar

import pytest

from gateway.contract.control import (
    AddTechnicianRequest,
    CatalogueInForce,
    CatalogueRequest,
    RemoveTechnicianRequest,
    ShopInForce,
    ShopRequest,
    Status,
    StatusRequest,
    Technicians,
    TechniciansRequest,
    UseShopRequest,
    result_of,
)
from gateway.contract.downlinks import Catalogue
from gateway.contract.fields import Strict
from gateway.contract.promotions import Promotion
from gateway.contract.settings import Broker, Clock, Privacy, Settings, Trust
from gateway.contract.shop import ShopFile, read_shop
from gateway.core.model import Step
from gateway.core.token import (
    TokenPayload,
    day_of,
    derive_day_key,
    derive_pseudonym,
    derive_subkeys,
    seal_token,
    slot_of,
    window_of,
)
from gateway.daemon import Daemon, EarCondition
from gateway.errors import ConfigurationError, GatewayError, TryAgain, WrongCommand
from gateway.io.clock import SystemClock
from gateway.io.control import ask
from gateway.io.signing import Signer
from gateway.io.store import Store
from tests.core.phones import form_u

Result = TypeVar("Result", bound=Strict)
STORE = 4711
KEY = "5a" * 32
SHOP = b"""{"zones": {"dairy": {"neighbours": ["wine"]}, "wine": {"neighbours": ["dairy"]}},
            "anchors": {"door": {"kind": "receiver", "zone": "dairy"}}}"""


class Listening:
    """A receiver that hears what the test lets it hear."""

    async def run(self) -> None:
        await asyncio.Event().wait()

    def conditions(self) -> list[EarCondition]:
        return [EarCondition("door", "hci7", "hearing", "active")]


class Running:
    """A daemon in a folder of its own."""

    def __init__(self, folder: Path, *promotions: Promotion, **changes: Any) -> None:
        """``promotions`` came down in the life of an earlier process."""
        self._signer = Signer.from_file(folder / "signing.key")
        self.settings = Settings.model_validate(
            {
                "store": "demo",
                "store_number": STORE,
                "gateway": "pi-1",
                "state_dir": folder,
                "broker": Broker(host="127.0.0.1", port=1),
                "privacy": Privacy(controller="c", contact="c", dpia_ack=True),
                "trust": Trust(public_keys=(self._signer.public_key.hex(),)),
                "clock": Clock(assume_synchronised=True),
                **changes,
            }
        )
        self.clock = SystemClock(assume_synchronised=True)
        self._promotions = promotions
        self.steps: list[Step] = []
        self.daemon = Daemon(self.settings, read_shop(SHOP, "shop").compiled(), self.clock, observe=self.steps.append)

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator["Running"]:
        if self._promotions:
            await self._keep_catalogue()
        stop = asyncio.Event()
        running = asyncio.create_task(self.daemon.run([Listening()], stop))
        while not self.settings.control_path.exists() and not running.done():  # noqa: ASYNC110 -- a file announces nothing
            await asyncio.sleep(0.005)
        resting = asyncio.create_task(self.daemon.at_rest.wait())
        await asyncio.wait((resting, running), return_when=asyncio.FIRST_COMPLETED)
        resting.cancel()
        try:
            yield self
        finally:
            stop.set()
            await running

    async def _keep_catalogue(self) -> None:
        not_after_ms = self.clock.now().wall_ms + 86_400_000
        document = Catalogue(store="demo", version=7, not_after=not_after_ms, promotions=self._promotions)
        store = Store(self.settings.database_path, quota_mib=16, boot_id="")
        await store.start()
        sealed = self._signer.seal(document, source="central", time_ms=self.clock.now().wall_ms)
        await store.keep_snapshot("catalogue", 7, sealed.to_json())
        await store.close()

    async def ask(self, request: Strict, model: type[Result]) -> Result:
        line = await asyncio.to_thread(ask, self.settings.control_path, request.model_dump_json().encode() + b"\n")
        assert line is not None
        return result_of(line, model)

    async def stay(self, seconds: float, rssi_dbm: int = -55) -> None:
        """A test phone with KEY sends four times a second."""
        for _ in range(round(seconds * 4)):
            self.daemon.heard("door", "4f:11:22:33:44:55", rssi_dbm, form_u(self._token()))
            await asyncio.sleep(0.25)

    def _token(self) -> bytes:
        unix_s = self.clock.now().wall_ms / 1000
        window, ku = window_of(unix_s), bytes.fromhex(KEY)
        subkeys = derive_subkeys(derive_day_key(ku, STORE, day_of(window, 0)))
        return seal_token(subkeys, window, TokenPayload(3, slot_of(unix_s), 9, 0))

    @property
    def pseudonyms(self) -> set[str]:
        today = day_of(window_of(self.clock.now().wall_ms / 1000), 0)
        return {derive_pseudonym(bytes.fromhex(KEY), STORE, day).hex() for day in (today - 1, today, today + 1)}


def promotion(promotion_id: str, *zones: str, **changes: Any) -> Promotion:
    return Promotion.model_validate(
        {"promotion_id": promotion_id, "long_title": {"en": promotion_id}, "zones": zones or ("dairy", "wine"), **changes}
    )


async def test_status_says_what_is_heard_who_is_there_and_what_to_do_next(tmp_path: Path) -> None:
    async with Running(tmp_path)() as running:
        for _ in range(60):
            running.daemon.heard("door", "4f:11:22:33:44:55", -60, b"\x02\x01\x06")
            await asyncio.sleep(0.02)
        await asyncio.sleep(1.1)
        status = await running.ask(StatusRequest(), Status)
    (receiver,) = status.receivers
    assert (receiver.name, receiver.adapter, receiver.state, receiver.scanning) == ("door", "hci7", "hearing", "active")
    assert receiver.heard_per_s > 5
    assert receiver.heard_s_ago is not None
    assert receiver.heard_s_ago < 10
    assert (status.state, status.clock, status.broker.state, status.central) == ("running", "synchronised", "offline", "unknown")
    assert (status.zones, status.anchors, status.outbox.rows, status.catalogue) == (2, 1, 0, None)
    assert "127.0.0.1:1 is not reached" in status.next_step


async def test_an_edited_shop_is_in_force_at_once_and_after_a_restart(tmp_path: Path) -> None:
    async with Running(tmp_path)() as running:
        before = await running.ask(ShopRequest(), ShopInForce)
        zones = {**before.shop.zones, "cellar": before.shop.zones["wine"]}
        edited = ShopFile(zones=zones, anchors=before.shop.anchors)
        after = await running.ask(UseShopRequest(shop=edited, replaces=before.digest), ShopInForce)
        assert after.shop == edited
        assert set(running.daemon.pipeline.shop.zones) == {"cellar", "dairy", "wine"}
        with pytest.raises(TryAgain, match="somebody else"):
            await running.ask(UseShopRequest(shop=before.shop, replaces=before.digest), ShopInForce)
        assert await running.ask(ShopRequest(), ShopInForce) == after
    assert read_shop(running.settings.shop_path.read_bytes(), "kept") == edited


async def test_a_shop_that_cannot_be_kept_does_not_come_into_force(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with Running(tmp_path, shop_file=tmp_path / "file" / "shop.json")() as running:
        before = await running.ask(ShopRequest(), ShopInForce)
        with pytest.raises(Exception, match="cannot be written"):
            await running.ask(UseShopRequest(shop=ShopFile(), replaces=before.digest), ShopInForce)
        assert await running.ask(ShopRequest(), ShopInForce) == before


async def test_promotions_follow_an_edited_shop(tmp_path: Path) -> None:
    async with Running(tmp_path, promotion("cellar-deal", "cellar"))() as running:
        before = await running.ask(ShopRequest(), ShopInForce)
        edited = ShopFile(zones={**before.shop.zones, "cellar": before.shop.zones["wine"]}, anchors=before.shop.anchors)
        await running.ask(UseShopRequest(shop=edited, replaces=before.digest), ShopInForce)
        catalogue = running.daemon.pipeline.catalogue
        assert catalogue is not None
        assert [found.promotion_id for found, _ in catalogue.in_zone("cellar")] == ["cellar-deal"]


async def test_the_catalogue_is_shown_as_it_came_with_what_is_in_force(tmp_path: Path) -> None:
    monday_at_noon = {"weekdays": ["mon"], "start": "12:00", "end": "12:00"}
    never = promotion("over", "wine", promotion_effective_dates="2020-01-01T00:00:00Z/2020-02-01T00:00:00Z")
    async with Running(
        tmp_path, promotion("yoghurt"), never, promotion("cellar-deal", "cellar", windows=[monday_at_noon])
    )() as running:
        found = await running.ask(CatalogueRequest(), CatalogueInForce)
        status = await running.ask(StatusRequest(), Status)
    assert found.version == 7
    assert {one.promotion.promotion_id: (one.zones, one.in_force) for one in found.promotions if one.zones} == {
        "yoghurt": (("dairy", "wine"), True),
        "over": (("wine",), False),
    }
    assert next(one for one in found.promotions if one.promotion.promotion_id == "over").promotion == never
    assert status.catalogue is not None
    assert (status.catalogue.version, status.catalogue.promotions) == (7, 3)


async def test_without_a_catalogue_there_is_an_empty_one(tmp_path: Path) -> None:
    async with Running(tmp_path)() as running:
        assert await running.ask(CatalogueRequest(), CatalogueInForce) == CatalogueInForce()


@pytest.mark.parametrize("line", [b"{}\n", b"nonsense\n", b'{"do": "dance"}\n', b'{"do": "status", "loudly": true}\n', b"[[[\n"])
async def test_a_request_of_another_version_is_refused_with_a_sentence(tmp_path: Path, line: bytes) -> None:
    async with Running(tmp_path)() as running:
        answer = await asyncio.to_thread(ask, running.settings.control_path, line)
        assert answer is not None
        with pytest.raises(ConfigurationError):
            result_of(answer, Status)


# ---- the technician's test shopper --------------------------------------------------------------------------------------------


async def test_a_test_shopper_goes_the_real_path_again_and_again_and_stays_out_of_counts(tmp_path: Path) -> None:
    async with Running(tmp_path, promotion("yoghurt"))() as running:
        added = await running.ask(AddTechnicianRequest(name="tina", key=KEY, duration_s=3600), Technicians)
        assert [shopper.name for shopper in added.test_shoppers] == ["tina"]
        await running.stay(2.5)
        await running.ask(RemoveTechnicianRequest(name="tina"), Technicians)
        await asyncio.sleep(0.3)
        await running.ask(AddTechnicianRequest(name="tina", key=KEY, duration_s=3600), Technicians)
        await running.stay(2.5)
        (tina,) = (await running.ask(TechniciansRequest(), Technicians)).test_shoppers
        status = await running.ask(StatusRequest(), Status)
    offers = [offer.promotion_id for step in running.steps for outcome in step.outcomes for offer in outcome.offers]
    assert offers == ["yoghurt", "yoghurt"], "no daily cap, and a push for every visit"
    assert (tina.zone, list(tina.belief), tina.last_offers) == ("dairy", ["dairy"], ("yoghurt",))
    assert [heard.anchor for heard in tina.anchors] == ["door"]
    assert status.offers == {}
    assert (status.roster_size, status.test_shoppers) == (0, 1)
    with closing(sqlite3.connect(running.settings.database_path)) as connection:
        sent = [kind for (kind,) in connection.execute("SELECT type FROM outbox ORDER BY seq")]
    assert set(sent) <= {"offer.matched.v1", "tombstone.v1"}, "of presence nothing leaves the gateway"


async def test_a_test_shopper_is_kept_over_a_restart_and_forgotten_when_its_time_is_over(tmp_path: Path) -> None:
    async with Running(tmp_path)() as running:
        await running.ask(AddTechnicianRequest(name="tina", key=KEY, duration_s=3600), Technicians)
        await running.ask(AddTechnicianRequest(name="timo", key="66" * 32, duration_s=1), Technicians)
    assert (tmp_path / "test-shoppers.json").stat().st_mode & 0o777 == 0o600
    await asyncio.sleep(1.1)
    async with Running(tmp_path)() as running:
        known = await running.ask(TechniciansRequest(), Technicians)
        assert [shopper.name for shopper in known.test_shoppers] == ["tina"]
        assert all(running.daemon.pipeline.identity.is_own(name) for name in running.pseudonyms - yesterdays(running))
        await running.ask(RemoveTechnicianRequest(name="tina"), Technicians)
        assert not any(running.daemon.pipeline.identity.is_known(name) for name in running.pseudonyms)
    assert not (tmp_path / "test-shoppers.json").exists()


def yesterdays(running: Running) -> set[str]:
    day = day_of(window_of(running.clock.now().wall_ms / 1000), 0) - 1
    return {derive_pseudonym(bytes.fromhex(KEY), STORE, day).hex()}


@pytest.mark.parametrize(
    ("before", "request_", "kind", "told"),
    [
        ([], RemoveTechnicianRequest(name="nobody"), WrongCommand, "no test shopper nobody"),
        ([("tina", KEY)], AddTechnicianRequest(name="timo", key=KEY, duration_s=60), ConfigurationError, "the key of tina"),
        (
            [(f"t{n}", f"{n:02x}" * 32) for n in range(8)],
            AddTechnicianRequest(name="ninth", key="ff" * 32, duration_s=60),
            ConfigurationError,
            "8 test shoppers already",
        ),
    ],
    ids=["unknown", "one key twice", "too many"],
)
async def test_what_cannot_be_is_refused(
    tmp_path: Path, before: list[tuple[str, str]], request_: Strict, kind: type[GatewayError], told: str
) -> None:
    async with Running(tmp_path)() as running:
        for name, key in before:
            await running.ask(AddTechnicianRequest(name=name, key=key, duration_s=60), Technicians)
        with pytest.raises(kind, match=told):
            await running.ask(request_, Technicians)
        known = await running.ask(TechniciansRequest(), Technicians)
        assert [shopper.name for shopper in known.test_shoppers] == [name for name, _ in before]


async def test_without_the_privacy_settings_not_even_a_test_shopper_is_recognised(tmp_path: Path) -> None:
    async with Running(tmp_path, privacy=Privacy())() as running:
        with pytest.raises(ConfigurationError, match=r"privacy\.controller"):
            await running.ask(AddTechnicianRequest(name="tina", key=KEY, duration_s=60), Technicians)
        await running.stay(1)
    assert running.steps == []


async def test_listen_only_measures_and_offers_nothing(tmp_path: Path) -> None:
    async with Running(tmp_path, promotion("yoghurt"), promotion("card", kind="info"), mode="listen-only")() as running:
        await running.ask(AddTechnicianRequest(name="tina", key=KEY, duration_s=60), Technicians)
        await running.stay(2.5)
    outcomes = [outcome for step in running.steps for outcome in step.outcomes]
    assert [type(outcome.event).__name__ for outcome in outcomes] == ["VisitStarted", "Entered"]
    assert [withheld.reason.value for outcome in outcomes for withheld in outcome.withheld] == ["listen_only", "listen_only"]
    assert not any(outcome.offers for outcome in outcomes)
