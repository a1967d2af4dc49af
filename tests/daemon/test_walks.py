"""The walk test through a real daemon and its socket: a simulated technician walks, bytes are heard, a model comes into force."""

import asyncio
import re
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from gateway.contract.recording import read_model, read_recording
from gateway.contract.walks import (
    CheckZonesRequest,
    ExportModelRequest,
    ImportModelRequest,
    ModelExported,
    Models,
    ModelsRequest,
    UseModelRequest,
    VerifyZonesRequest,
    WalkDone,
    WalkMarked,
    WalkMarkRequest,
    WalkProgress,
    WalkRefused,
    WalkRequest,
    ZonesChecked,
    ZonesVerified,
)
from gateway.errors import ConfigurationError, GatewayError, TryAgain, WrongCommand
from tests.walked_gateway import PATIENCE_S, PLAN, ZONES, WalkedGateway, keep_walks

BEACON = bytes.fromhex("02011a1aff4c000215" + bytes(range(16)).hex() + "00010065c5")
"""The demo shop's beacon-101."""


@pytest.fixture(scope="module")
def walked_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of a shop in which every zone has been walked."""
    folder = tmp_path_factory.mktemp("walked") / "state"
    folder.mkdir()
    keep_walks(folder)
    return folder


@pytest.fixture
def walked(walked_once: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(walked_once, tmp_path / "state")
    return tmp_path / "state"


async def test_a_shop_is_learnt_by_walking_through_it(tmp_path: Path) -> None:
    """The last two zones of five; until then the model is kept and the gateway goes on as before."""
    keep_walks(tmp_path, ZONES[:3])
    async with WalkedGateway(tmp_path)() as shop:
        before = shop.daemon.pipeline.ground.kind
        assert before == "positions"
        accuracy = None
        for number, zone in enumerate(ZONES[3:], 4):
            done = await shop.walk(zone)
            assert isinstance(done, WalkDone), done
            assert (done.zone, done.model) == (zone, number)
            assert done.in_force == (number == len(ZONES))
            assert set(done.not_walked) == set(ZONES[number:])
            assert done.heard_per_s > 4
            assert 25 < done.duration_s < 32
            assert (done.accuracy is None) == bool(done.not_walked)
            accuracy = done.accuracy
        assert accuracy is not None
        assert accuracy > 0.9
        assert shop.daemon.pipeline.ground.kind == "model"
        models = await shop.ask(ModelsRequest(), Models)
        assert [(one.version, one.in_force, one.origin) for one in models.models] == [
            (version, version == len(ZONES), "walks") for version in range(len(ZONES), 0, -1)
        ]
        assert models.models[0].walks == tuple(sorted(ZONES))
        assert models.models[0].accuracy == accuracy
        assert (models.located_by, models.trouble) == ("model", None)

        checked = await shop.ask(CheckZonesRequest(), ZonesChecked)
        assert checked.accuracy == accuracy
        assert [one.zone for one in checked.zones] == sorted(ZONES)
        assert (checked.not_walked, checked.weak) == ((), ())
        for one in checked.zones:
            assert one.loudest == f"receiver-{one.zone}"
            assert 20 < sum(one.announced.values()) <= 30

        verified = await shop.ask(VerifyZonesRequest(), ZonesVerified)
        assert (verified.model, verified.worse) == (len(ZONES), False)
        # What was accepted was rounded for each walk.
        assert verified.accuracy == pytest.approx(verified.accepted, abs=1e-4)

    # What is left is the test device's alone, readable by the service alone, and in the neutral format.
    for zone in ZONES:
        path = tmp_path / "walks" / f"{zone}.jsonl"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        sightings = list(read_recording(path.read_bytes().splitlines(), "walk"))
        assert {(one.shopper, one.zone, one.source) for one in sightings} == {(zone, zone, "receiver")}
        assert sightings[0].t_ms == 0 or zone in ZONES[:3]


async def test_a_model_is_in_force_again_after_a_restart_and_can_be_rolled_back_exported_and_imported(walked: Path) -> None:
    async with WalkedGateway(walked)() as shop:
        assert shop.daemon.pipeline.ground.kind == "model"
        again = await shop.walk(ZONES[0])
        assert isinstance(again, WalkDone)
        assert (again.model, again.in_force) == (6, True)
        back = await shop.ask(UseModelRequest(version="previous"), Models)
        assert [one.version for one in back.models if one.in_force] == [5]
        exported = await shop.ask(ExportModelRequest(), ModelExported)
        assert exported.version == 5
        assert read_model(exported.model.encode(), "export") == shop.daemon.pipeline.zone_model
        taken = await shop.ask(ImportModelRequest(model=exported.model), Models)
        assert [(one.version, one.in_force, one.origin) for one in taken.models[:2]] == [
            (7, False, "import"),
            (6, False, "walks"),
        ]
        none = await shop.ask(UseModelRequest(version="none"), Models)
        assert not any(one.in_force for one in none.models)
        assert none.located_by == "positions"
        with pytest.raises(WrongCommand, match="there is no zone model 42"):
            await shop.ask(UseModelRequest(version=42), Models)
        with pytest.raises(WrongCommand, match="no zone model is in force"):
            await shop.ask(ExportModelRequest(), ModelExported)
        with pytest.raises(WrongCommand, match="there is no zone model 99"):
            await shop.ask(ExportModelRequest(version=99), ModelExported)


async def test_verify_notices_a_model_that_has_got_worse(walked: Path) -> None:
    async with WalkedGateway(walked)() as shop:
        first = await shop.ask(UseModelRequest(version=2), Models)
        assert first.models[3].in_force
        verified = await shop.ask(VerifyZonesRequest(), ZonesVerified)
        assert verified.worse
        worse = {one.zone for one in verified.zones if one.worse}
        # The second model knows two zones and tells everybody that they are in one of them.
        assert worse == set(ZONES[2:])


async def test_a_walk_in_the_wrong_zone_is_refused_and_changes_nothing(walked: Path) -> None:
    async with WalkedGateway(walked)() as shop:
        before, model = shop.kept(), shop.daemon.pipeline.zone_model
        refused = await shop.walk("bakery", truly="dairy")
        assert isinstance(refused, WalkRefused)
        assert refused.reason == "wrong-zone"
        assert refused.what == "this sounds like dairy: are you standing in bakery?"
        assert shop.kept() == before
        assert shop.daemon.pipeline.zone_model is model
        done = await shop.walk("bakery", truly="dairy", anyway=True)
        assert isinstance(done, WalkDone)
        assert done.sounds_like == "dairy"


@pytest.mark.parametrize(
    ("truly", "asked", "silent", "reason", "said"),
    [
        pytest.param("dairy", {"duration_s": 8}, (), "too-short", "for 8 s only", id="too short"),
        pytest.param("dairy", {}, ("receiver-dairy",), "silent-receiver", "receiver-dairy", id="a silent receiver"),
        pytest.param(None, {}, (), "not-heard", "not heard at all|heard nothing else either", id="no phone"),
    ],
)
async def test_a_bad_walk_is_refused(
    tmp_path: Path, truly: str | None, asked: dict[str, Any], silent: tuple[str, ...], reason: str, said: str
) -> None:
    async with WalkedGateway(tmp_path)() as shop:
        shop.silent = frozenset(silent)
        await shop.go("dairy")
        await shop.go(truly)
        last: dict[str, Any] = {}
        async for line in shop.lines(WalkRequest(zone="dairy", **asked)):
            last = line
        refused = WalkRefused.model_validate(last)
        assert refused.reason == reason
        assert re.search(said, refused.what)
        assert not (tmp_path / "walks").exists()
        assert (await shop.ask(ModelsRequest(), Models)).models == ()


async def test_whoever_hangs_up_ends_the_walk_and_another_may_begin(tmp_path: Path) -> None:
    async with WalkedGateway(tmp_path)() as shop:
        await shop.go("dairy")
        lines = shop.lines(WalkRequest(zone="dairy"))
        async for line in lines:
            progress = WalkProgress.model_validate(line)
            if progress.heard > 20:
                break
        with pytest.raises(TryAgain, match="a walk of dairy goes on already"):
            await shop.walk("wine")
        await lines.aclose()  # type: ignore[attr-defined]
        async with asyncio.timeout(PATIENCE_S):
            while shop.daemon.pipeline.record_walk is not None:  # noqa: ASYNC110 -- nothing announces it
                await asyncio.sleep(0.01)
        assert isinstance(await shop.walk("dairy"), WalkDone)


async def test_the_progress_tells_what_a_technician_needs(tmp_path: Path) -> None:
    async with WalkedGateway(tmp_path)() as shop:
        await shop.go("dairy")
        told = [
            WalkProgress.model_validate(line)
            async for line in shop.lines(WalkRequest(zone="dairy"))
            if line["kind"] == "progress"
        ]
    walking = [one for one in told if one.state == "walking"]
    assert len(walking) > 20
    assert walking[0].left_s is not None
    assert walking[0].left_s > 28
    left = [one.left_s for one in walking if one.left_s is not None]
    assert left == sorted(left, reverse=True)
    last = walking[-1]
    assert last.anchors[0].anchor == "receiver-dairy"
    assert last.anchors[0].level_dbm is not None
    assert last.anchors[0].level_dbm > -75
    assert last.heard == sum(one.heard for one in last.anchors)
    assert 4 < last.heard_per_s < 40
    assert last.silent == ()
    assert told[-1].state == "learning"


async def test_a_marked_path_gives_each_sighting_a_place(tmp_path: Path) -> None:
    path = ((9.0, 9.0), (15.0, 9.0), (15.0, 15.0))
    async with WalkedGateway(tmp_path)() as shop:
        await shop.go("dairy")
        told = 0
        async for line in shop.lines(WalkRequest(zone="dairy", path=path)):
            if line["kind"] != "progress":
                assert WalkDone.model_validate(line).zone == "dairy"
                break
            progress = WalkProgress.model_validate(line)
            assert progress.marks == 3
            if told == 0 or (progress.state == "walking" and progress.elapsed_s >= 12 * told and told < 3):
                told += 1
                assert await shop.ask(WalkMarkRequest(), WalkMarked) == WalkMarked(passed=told, marks=3)
        with pytest.raises(ConfigurationError, match="no walk waits for a mark"):
            await shop.ask(WalkMarkRequest(), WalkMarked)
        with pytest.raises(WrongCommand, match=r"mark 2 .* lies in wine"):
            await shop.walk("dairy", path=((9.0, 9.0), (20.0, 12.0)))
    sightings = list(read_recording((tmp_path / "walks" / "dairy.jsonl").read_bytes().splitlines(), "walk"))
    places = [one.at_m for one in sightings if one.at_m is not None]
    assert len(places) == len(sightings)
    assert places[-1] == pytest.approx((15.0, 15.0), abs=0.6)
    assert all(y == pytest.approx(9.0) or x == pytest.approx(15.0) for x, y in places)


async def test_a_registered_beacon_can_be_carried_instead_of_a_phone(tmp_path: Path) -> None:
    async with WalkedGateway(tmp_path)() as shop:
        stop = asyncio.Event()

        async def carried() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                for place, receiver in enumerate(PLAN.receivers):
                    shop.daemon.heard(receiver.name, "4f:11:22:33:44:55", -55 - 5 * place - number % 5, BEACON)
                await shop.clock.sleep_ms(250)

        carrying = asyncio.create_task(carried())
        last: dict[str, Any] = {}
        async for line in shop.lines(WalkRequest(zone="entrance", beacon="beacon-101")):
            last = line
        stop.set()
        await carrying
        done = WalkDone.model_validate(last)
        assert done.zone == "entrance"
        with pytest.raises(WrongCommand, match="there is no beacon beacon-42"):
            await shop.walk("entrance", beacon="beacon-42")


@pytest.mark.parametrize(
    ("asked", "kind", "said"),
    [
        ({"zone": "garden"}, WrongCommand, "there is no zone garden"),
        ({"zone": "dairy"}, ConfigurationError, "there is no test shopper to follow"),
        ({"zone": "dairy", "shopper": "tom"}, WrongCommand, "there is no test shopper tom"),
    ],
)
async def test_what_is_not_there_cannot_be_walked(
    tmp_path: Path, asked: dict[str, Any], kind: type[GatewayError], said: str
) -> None:
    async with WalkedGateway(tmp_path)() as shop:
        with pytest.raises(kind, match=said):
            _ = [line async for line in shop.lines(WalkRequest(**asked))]
        assert shop.daemon.pipeline.record_walk is None


async def test_of_other_phones_nothing_is_recorded(tmp_path: Path) -> None:
    """Two test shoppers are in the shop; the walk is of one of them."""
    async with WalkedGateway(tmp_path)() as shop:
        await shop.go("wine", name="tom")
        await shop.go("dairy")
        told = [line async for line in shop.lines(WalkRequest(zone="dairy", shopper="tom")) if line["kind"] != "progress"]
        assert WalkRefused.model_validate(told[-1]).reason == "not-heard"
        with pytest.raises(WrongCommand, match="there are several test shoppers: tina, tom"):
            _ = [line async for line in shop.lines(WalkRequest(zone="dairy"))]
