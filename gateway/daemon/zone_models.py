"""Learned zone models on disk, beside the shop file: every version its own file, and which of them is in force.

``zone-models/model-0007.json`` is what ``gateway zone learn`` writes; ``zone-models/current`` holds a version, and is absent
where none is in force. The functions block: a daemon calls them in a thread.
"""

import asyncio
import contextlib
import importlib
import logging
import re
from pathlib import Path

from gateway.contract.settings import Settings
from gateway.core.pipeline import Pipeline
from gateway.core.positioning import Ground, ground_of
from gateway.core.zone_model import ZoneModel
from gateway.errors import ConfigurationError, DiskError, GatewayError
from gateway.io.whole_file import write_whole

log = logging.getLogger(__name__)

KEPT = 20
_CURRENT = "current"
_NAME = re.compile(r"model-([0-9]{4,9})\.json")
_DO = "Choose another version, or learn the zones anew: gateway zone walk ZONE."


def folder_of(settings: Settings) -> Path:
    """Beside the shop file."""
    return settings.shop_path.parent / "zone-models"


def versions(folder: Path) -> tuple[int, ...]:
    """Those that are kept, ascending."""
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfigurationError(f"cannot be read ({error.strerror}).", where=str(folder), do="Check its owner.") from error
    found = [_NAME.fullmatch(name) for name in names]
    return tuple(sorted(int(each[1]) for each in found if each is not None))


def current(folder: Path) -> int | None:
    """The version in force; ``None``: no learned model is."""
    path = folder / _CURRENT
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError("cannot be read.", where=str(path), do=_DO) from error
    if not text.isdecimal() or len(text) > 9:
        raise ConfigurationError("is no version of a zone model.", where=str(path), do=_DO)
    return int(text)


def load(folder: Path, version: int | None = None) -> ZoneModel | None:
    """One version, or the one in force, ``None`` where there is none; ``ConfigurationError`` when it is unreadable or missing."""
    wanted = current(folder) if version is None else version
    if wanted is None:
        return None
    # Most shops have none.
    from gateway.contract.recording import MAX_MODEL_BYTES, read_model

    path = _path(folder, wanted)
    try:
        with path.open("rb") as file:
            text = file.read(MAX_MODEL_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot be read ({error.strerror}).", where=str(path), do=_DO) from error
    return read_model(text, str(path))


def put(folder: Path, model: ZoneModel, *, use: bool = True) -> int:
    """Keep a model as the next version and put it in force, unless it is only kept.

    Of more than ``KEPT`` the oldest go that are not in force. ``DiskError``.
    """
    from gateway.contract.recording import ModelFile

    kept = versions(folder)
    version = max(kept, default=0) + 1
    _write(_path(folder, version), ModelFile.of(model).to_text())
    if use:
        choose(folder, version)
    in_force = current(folder)
    for old in [each for each in kept if each != in_force][: max(0, len(kept) + 1 - KEPT)]:
        with contextlib.suppress(FileNotFoundError):
            _path(folder, old).unlink()
    return version


def choose(folder: Path, version: int | None) -> None:
    """Put another version in force, or none; ``ConfigurationError`` for one that is not there."""
    if version is None:
        try:
            (folder / _CURRENT).unlink(missing_ok=True)
        except OSError as error:
            raise DiskError(f"cannot be changed ({error.strerror}).", where=str(folder), do="Check its owner.") from error
        return
    if version not in versions(folder):
        have = ", ".join(map(str, versions(folder))) or "none"
        raise ConfigurationError(f"there is no zone model {version}; kept are: {have}.", where=str(folder))
    _write(folder / _CURRENT, f"{version}\n")


def _write(path: Path, text: str) -> None:
    write_whole(path, text, mode=0o640, folder_mode=0o700)


def _path(folder: Path, version: int) -> Path:
    return folder / f"model-{version:04d}.json"


class LiveModel:
    """The learned model that the running pipeline uses."""

    def __init__(self, folder: Path, pipeline: Pipeline) -> None:
        self._folder = folder
        self._pipeline = pipeline
        self.version: int | None = None
        """In force, though it may not fit the shop: ``trouble`` says so."""
        self._unreadable: str | None = None

    @property
    def trouble(self) -> str | None:
        """Why no learned model is used though one is in force, or what it does not know: one sentence."""
        return self._unreadable or self._pipeline.ground.trouble

    async def reload(self) -> int | None:
        """Take what is in force on disk; the version. A model that cannot be read is not used, and ``trouble`` says why."""
        shop = self._pipeline.shop
        try:
            version, model, ground = await asyncio.to_thread(self._read)
        except GatewayError as error:
            self._unreadable = str(error)
            log.warning("the zone model is not used: %s", error)
            version, model, ground = None, None, None
        else:
            self._unreadable = None
        self.version = version
        # The shop may have been changed meanwhile.
        self._pipeline.use_model(model, ground if self._pipeline.shop is shop else None)
        trouble = self._pipeline.ground.trouble
        if version is not None:
            log.info("zone model %d is in force%s", version, "" if trouble is None else f", but {trouble}")
        return version

    def _read(self) -> tuple[int | None, ZoneModel | None, Ground | None]:
        version = current(self._folder)
        model = load(self._folder, version) if version is not None else None
        ground = ground_of(self._pipeline.shop, model)
        if ground.model is not None:
            # It takes numpy, and that long to load; here nobody waits for it.
            importlib.import_module("gateway.core.zone_filter")
        return version, model, ground
