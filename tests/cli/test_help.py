"""Each command explains itself: what it does, an example that is one, and what --json prints."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from gateway.cli.app import app
from gateway.cli.doctor import Examination
from gateway.contract import control, offer_view, promotion_lint, recording, shop_view, walks
from gateway.contract.fields import Strict
from gateway.contract.messages import AppOffer, WithdrawnOffer
from gateway.contract.promotions import PromotionsFile

Command = Any
"""Typer does not publish the type."""
SHAPES: dict[str, type[Strict]] = {
    "status": control.Status,
    "doctor": Examination,
    "test-shopper add": control.Technicians,
    "test-shopper remove": control.Technicians,
    "test-shopper list": control.Technicians,
    "zone add": shop_view.ZoneChanged,
    "zone list": shop_view.Zones,
    "zone show": shop_view.ZoneWithPromotions,
    "zone remove": shop_view.Changed,
    "zone learn": recording.ZoneLearnt,
    "zone evaluate": recording.ZoneEvaluation,
    "zone walk": walks.WalkDone,
    "zone check": walks.ZonesChecked,
    "zone verify": walks.ZonesVerified,
    "zone model list": walks.Models,
    "zone model use": walks.Models,
    "zone model rollback": walks.Models,
    "zone model export": walks.ModelExported,
    "zone model import": walks.Models,
    "beacon add": shop_view.BeaconChanged,
    "beacon list": shop_view.Beacons,
    "beacon health": control.BeaconsHealth,
    "beacon relearn": control.BeaconsHealth,
    "beacon remove": shop_view.Changed,
    "receiver add": shop_view.ReceiverChanged,
    "receiver list": shop_view.Receivers,
    "receiver remove": shop_view.Changed,
    "receiver test": control.ReceiverTested,
    "shop check": shop_view.ShopChecked,
    "shop export": control.ShopInForce,
    "shop import": shop_view.Changed,
    "offer list": control.CatalogueInForce,
    "offer show": offer_view.OfferView,
    "offer import": offer_view.PromotionsImported,
    "offer lint": promotion_lint.LintReport,
    "offer new": PromotionsFile,
    "offer new --list": offer_view.OfferTemplates,
    "offer preview": offer_view.Preview,
    "offer preview --reach": offer_view.Reach,
}


def leaves(command: Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Command]]:
    """Every command that is no group, by what is typed for it."""
    subcommands = getattr(command, "commands", None)
    if subcommands is None:
        yield " ".join(path), command
    for name, subcommand in (subcommands or {}).items():
        yield from leaves(subcommand, (*path, name))


COMMANDS = dict(leaves(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_an_example_of_itself(name: str) -> None:
    text = COMMANDS[name].help
    first, _, example = text.partition("Example: ")
    assert len(first.strip()) > 10
    words = shlex.split(example.splitlines()[0].removeprefix("sudo "))
    assert words[: len(name.split()) + 1] == ["gateway", *name.split()]
    known = {option for parameter in COMMANDS[name].params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize("name", COMMANDS)
def test_every_parameter_is_explained(name: str) -> None:
    for parameter in COMMANDS[name].params:
        assert parameter.help, parameter.name


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in COMMANDS
        if name.split()[0] in {"zone", "beacon", "receiver", "shop", "offer", "test-shopper", "status", "doctor"}
    ],
)
def test_what_is_printed_with_json_is_told_and_has_a_model(name: str) -> None:
    if not any("--json" in parameter.opts for parameter in COMMANDS[name].params):
        assert name in {"shop schema", "test-shopper watch"}
        return
    for shape in COMMANDS[name].epilog.removeprefix("JSON: ").removesuffix(".").split("; "):
        option, _, text = shape.rpartition(": ")
        model = SHAPES[f"{name} {option.removeprefix('with ')}".rstrip()]
        assert _keys(re.sub(r" \(.*?\)", "", text)) == [*model.model_fields]
        for key, keys in re.findall(r"(\w+) \((.*?)\)", text):
            assert _keys(keys) == [*_model_of(model.model_fields[key].annotation).model_fields]


@pytest.mark.parametrize("name", [name for name in COMMANDS if any("--json" in each.opts for each in COMMANDS[name].params)])
def test_wherever_there_is_json_its_keys_are_told(name: str) -> None:
    assert (COMMANDS[name].epilog or "").startswith("JSON: ")


def test_what_an_app_is_sent_is_told() -> None:
    told = _keys(COMMANDS["central inbox"].epilog.removeprefix("JSON: ").removesuffix("."))
    assert told == ["new", *AppOffer.model_fields] == ["new", *WithdrawnOffer.model_fields]


def _keys(text: str) -> list[str]:
    """The first word of each."""
    return [each.split()[0] for each in text.split(",")]


def _model_of(annotation: Any) -> type[Strict]:
    """The model in ``X``, ``X | None`` or ``tuple[X, ...]``."""
    for each in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(each, type) and issubclass(each, Strict):
            return each
    raise AssertionError(annotation)
