"""Accepted walks and the models learnt from them, on disk: for the daemon beside its loop, for the command line without one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from gateway.contract.fields import explain
from gateway.contract.recording import ModelFile, read_model
from gateway.contract.settings import Settings
from gateway.contract.walk_tasks import CheckTask, KeptWalk, Learnt, VerifyTask, plan_file, read_about
from gateway.contract.walks import ModelExported, ModelKept, ModelMade, ModelsMade, WalkAccepted
from gateway.core.model import Shop
from gateway.core.positioning import plan_of
from gateway.daemon import zone_models
from gateway.errors import ConfigurationError, WrongCommand
from gateway.io.walk_files import WalkFiles
from gateway.io.whole_file import alone_in


def receivers_of(shop: Shop, zone: str | None = None) -> tuple[str, ...]:
    """The receivers that are said to hear in the zone, or all; in order."""
    return tuple(
        sorted(a.name for a in shop.anchors.values() if a.kind == "receiver" and (zone is None or zone in {a.zone, *a.covers}))
    )


def walkable(shop: Shop) -> tuple[str, ...]:
    """Zones in which somebody could be located: some anchor stands in them or covers them."""
    return tuple(sorted({zone for a in shop.anchors.values() for zone in (a.zone, *a.covers) if zone is not None}))


@dataclass(frozen=True, slots=True)
class NewWalk:
    """A walk that was accepted, about to be kept."""

    about: WalkAccepted
    recording: str


class KeptWalks:
    """The walks and models of one gateway. Blocking, and not quick: the daemon calls it in a thread."""

    def __init__(self, settings: Settings) -> None:
        self.files = WalkFiles(settings.state_dir / "walks")
        self._models = zone_models.folder_of(settings)

    # ---- walks ----------------------------------------------------------------------------------------------------------------

    def walks(self, shop: Shop) -> tuple[KeptWalk, ...]:
        """Those of zones that the shop still has."""
        return tuple(self._walk(zone) for zone in self.files.zones() if zone in shop.zones)

    def _walk(self, zone: str) -> KeptWalk:
        file = str(self.files.path(zone))
        return KeptWalk(file=file, about=read_about(self.files.about(zone), file))

    def not_walked(self, shop: Shop, walked: Iterable[str]) -> tuple[str, ...]:
        """Zones that could be walked and were not."""
        return tuple(sorted(set(walkable(shop)) - set(walked)))

    def check_task(self, shop: Shop) -> CheckTask:
        """What ``zone check`` computes."""
        walks = self.walks(shop)
        return CheckTask(
            plan=plan_file(plan_of(shop)),
            walks=walks,
            receivers=receivers_of(shop),
            not_walked=self.not_walked(shop, (walk.about.zone for walk in walks)),
        )

    def verify_task(self, shop: Shop) -> VerifyTask:
        """What ``zone verify`` computes: with the model in force, or without any as the running gateway does then."""
        version = zone_models.current(self._models)
        model = None if version is None else zone_models.load(self._models, version)
        return VerifyTask(
            plan=plan_file(plan_of(shop)),
            walks=self.walks(shop),
            version=version,
            model=None if model is None else ModelFile.of(model).to_text(),
        )

    def accept(self, new: NewWalk, others: Mapping[str, KeptWalk], learnt: Learnt, *, use: bool) -> int:
        """Keep the walk, the model learnt with it, and of every walk the figures that must not get worse; the model's version."""
        with alone_in(self._models):
            version = self._put(learnt.model, use=use)
            zone = new.about.zone
            self.files.write(zone, new.recording, new.about.model_dump_json())
            for other, kept in others.items():
                figures = learnt.figures.get(other)
                if other != zone and figures is not None:
                    about = kept.about.model_copy(update={"accuracy": figures.accuracy, "changes": figures.changes})
                    self.files.write_about(other, about.model_dump_json())
        return version

    # ---- models ---------------------------------------------------------------------------------------------------------------

    def _put(self, text: str, *, use: bool) -> int:
        return zone_models.put(self._models, read_model(text.encode(), "the zone model"), use=use)

    def note(self, made: ModelMade) -> None:
        """Remember where a model comes from; of models that are kept no longer it is forgotten."""
        kept = zone_models.versions(self._models)
        models = [one for one in self._made() if one.version in kept and one.version != made.version]
        self.files.write_models(ModelsMade(models=(*models, made)).model_dump_json())

    def _made(self) -> tuple[ModelMade, ...]:
        text = self.files.read_models()
        if text is None:
            return ()
        try:
            return ModelsMade.model_validate_json(text).models
        except ValidationError as error:
            where = str(self.files.folder)
            raise ConfigurationError(explain(error), where=where, do="Delete the file models.made.json in it.") from error

    def models(self) -> tuple[ModelKept, ...]:
        """The newest first."""
        made, current = {one.version: one for one in self._made()}, zone_models.current(self._models)
        return tuple(_kept(version, made.get(version), current) for version in reversed(zone_models.versions(self._models)))

    def use(self, version: int | str) -> None:
        """Choose the model of the next ``LiveModel.reload``: a version, ``previous`` or ``none``.

        ``WrongCommand`` for one that is not there.
        """
        with alone_in(self._models):
            self._use(version)

    def _use(self, version: int | str) -> None:
        if version == "none":
            zone_models.choose(self._models, None)
            return
        kept = zone_models.versions(self._models)
        if version == "previous":
            current = zone_models.current(self._models)
            before = [one for one in kept if current is None or one < current]
            if not before:
                raise WrongCommand("there is no model before the one in force.", do="See gateway zone model list.")
            version = before[-1]
        if version not in kept:
            have = ", ".join(map(str, kept)) or "none"
            raise WrongCommand(f"there is no zone model {version}; kept are: {have}.", do="See gateway zone model list.")
        zone_models.choose(self._models, int(version))

    def export(self, version: int | None) -> ModelExported:
        """A model as a file; ``WrongCommand`` for one that is not there."""
        wanted = zone_models.current(self._models) if version is None else version
        if wanted is None:
            raise WrongCommand("no zone model is in force.", do="Name one: gateway zone model list.")
        if wanted not in zone_models.versions(self._models):
            raise WrongCommand(f"there is no zone model {wanted}.", do="See gateway zone model list.")
        model = zone_models.load(self._models, wanted)
        assert model is not None
        return ModelExported(version=wanted, model=ModelFile.of(model).to_text())

    def take(self, text: str, wall_ms: int) -> int:
        """Keep a model that was learnt elsewhere; it is not chosen."""
        with alone_in(self._models):
            version = self._put(text, use=False)
            self.note(ModelMade(version=version, made_time=wall_ms, origin="import"))
        return version


def _kept(version: int, made: ModelMade | None, current: int | None) -> ModelKept:
    if made is None:
        return ModelKept(version=version, in_force=version == current)
    return ModelKept(
        version=version,
        in_force=version == current,
        made_time=made.made_time,
        origin=made.origin,
        walks=made.walks,
        accuracy=made.accuracy,
    )
