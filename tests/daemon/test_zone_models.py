"""Learned models on disk: versions, which of them is in force, and what a running gateway makes of it."""

import asyncio
from collections.abc import Callable
from datetime import UTC
from pathlib import Path

import pytest

from gateway.core.calibration import learn
from gateway.core.model import Anchor, Instant, Shop, Zone
from gateway.core.pipeline import Pipeline, Tuning
from gateway.core.positioning import plan_of
from gateway.core.zone_model import ZoneModel
from gateway.daemon.zone_models import KEPT, LiveModel, choose, current, load, put, versions
from gateway.errors import ConfigurationError
from tests.core import walked_shop

SHOP = Shop(
    {name: Zone(name) for name in walked_shop.OUTLINES},
    {name: Anchor(name, "receiver", walked_shop.zone_at(at), at_m=at) for name, at in walked_shop.ANCHORS.items()},
)
MODEL = learn(walked_shop.survey(2.0), plan_of(SHOP))
OTHER = learn(walked_shop.survey(3.0), plan_of(SHOP))


def live(folder: Path, shop: Shop = SHOP) -> tuple[Pipeline, LiveModel]:
    pipeline = Pipeline(shop, Tuning(UTC), lambda: "id", Instant(0, 0))
    return pipeline, LiveModel(folder, pipeline)


def test_models_are_versions_of_which_one_is_in_force(tmp_path: Path) -> None:
    folder = tmp_path / "zone-models"
    assert (versions(folder), current(folder), load(folder)) == ((), None, None)
    assert (put(folder, MODEL), put(folder, OTHER)) == (1, 2)
    assert (versions(folder), current(folder), load(folder)) == ((1, 2), 2, OTHER)
    choose(folder, 1)
    assert (current(folder), load(folder), load(folder, 2)) == (1, MODEL, OTHER)
    choose(folder, None)
    assert (versions(folder), current(folder), load(folder)) == ((1, 2), None, None)
    choose(folder, None)
    assert put(folder, MODEL) == 3


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    small = ZoneModel(("a",), ("z",), (0,), ((-60.0,),), ((4.0,),))
    numbers = [put(tmp_path, small) for _ in range(KEPT + 3)]
    assert versions(tmp_path) == tuple(numbers[-KEPT:])


def nonsense(folder: Path) -> None:
    (folder / "current").write_text("seven")


def vanished(folder: Path) -> None:
    (folder / "model-0001.json").unlink()


def torn(folder: Path) -> None:
    (folder / "model-0001.json").write_text('{"kind": "zone-model"')


@pytest.mark.parametrize("damage", [nonsense, vanished, torn])
def test_what_cannot_be_read_is_said_and_the_gateway_goes_on_without_it(damage: Callable[[Path], None], tmp_path: Path) -> None:
    put(tmp_path, MODEL)
    damage(tmp_path)
    with pytest.raises(ConfigurationError):
        load(tmp_path)
    pipeline, model = live(tmp_path)
    assert asyncio.run(model.reload()) is None
    assert model.trouble
    assert pipeline.ground.kind == "positions"


def test_a_version_that_is_not_there_cannot_be_chosen(tmp_path: Path) -> None:
    put(tmp_path, MODEL)
    with pytest.raises(ConfigurationError, match="there is no zone model 2; kept are: 1"):
        choose(tmp_path, 2)
    assert current(tmp_path) == 1


def test_a_running_gateway_takes_what_is_in_force_and_says_when_it_does_not_fit(tmp_path: Path) -> None:
    put(tmp_path, MODEL)
    pipeline, model = live(tmp_path)
    assert asyncio.run(model.reload()) == 1
    assert (pipeline.ground.kind, pipeline.zone_model, model.trouble) == ("model", MODEL, None)
    fewer = Shop(SHOP.zones, {name: anchor for name, anchor in SHOP.anchors.items() if name != "sw"})
    pipeline.use_shop(fewer, 0)
    assert (pipeline.ground.kind, model.version) == ("positions", 1)
    assert "sw" in (model.trouble or "")
    pipeline.use_shop(SHOP, 0)
    assert (pipeline.ground.kind, model.trouble) == ("model", None)
    choose(tmp_path, None)
    assert asyncio.run(model.reload()) is None
    assert (pipeline.ground.kind, pipeline.zone_model) == ("positions", None)
