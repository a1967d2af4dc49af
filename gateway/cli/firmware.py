"""`gateway firmware`: what has to be flashed into the shop's own beacons."""

import json
from dataclasses import dataclass
from pathlib import Path

import typer

from gateway.cli.shop import read_shop_named
from gateway.contract.firmware import SUFFIX, Esp32Variant, Kind, Transmission, is_untouched, render
from gateway.contract.shop import BeaconEntry, ShopFile
from gateway.core.sanitiser import printable
from gateway.errors import ConfigurationError, DiskError
from gateway.io.whole_file import write_whole


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    shop: Path
    out: Path
    kinds: tuple[Kind, ...]
    beacon: str | None
    transmission: Transmission
    esp32_variant: Esp32Variant
    force: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class Profile:
    """One file to be, and what is there."""

    beacon: str
    kind: Kind
    file: Path
    text: str
    before: str | None

    @property
    def result(self) -> str:
        """What becomes of the file."""
        return "new" if self.before is None else "unchanged" if self.before == self.text else "replaced"


def run_render(options: Options) -> None:
    """Write one profile per beacon and kind, all or none of them; one that is there already and the same is left alone."""
    for kind in options.kinds:
        problem = options.transmission.problem(kind)
        if problem is not None:
            raise typer.BadParameter(f"{problem}.")
    profiles = _profiles(options)
    for profile in profiles:
        if profile.before is not None and not is_untouched(profile.before) and not options.force:
            raise ConfigurationError(
                "was not made by this command, or has been changed since; nothing has been written.",
                where=str(profile.file),
                do="Move it away, or overwrite it with --force.",
            )
    for profile in profiles:
        if profile.text != profile.before:
            # Half a profile must never be flashed.
            write_whole(profile.file, profile.text, folder_mode=0o777, do="Name another folder with --out.")
    rows = [{"beacon": p.beacon, "kind": p.kind, "file": str(p.file), "result": p.result} for p in profiles]
    if options.as_json:
        print(json.dumps({"files": rows}))
        return
    for row in rows:
        print(f"{row['result']:<10} {printable(row['file'], 500)}")


def _profiles(options: Options) -> list[Profile]:
    shop = read_shop_named(options.shop)
    every = {name: anchor for name, anchor in sorted(shop.anchors.items()) if isinstance(anchor, BeaconEntry)}
    beacons = {name: anchor for name, anchor in every.items() if anchor.format == "iBeacon"}
    if options.beacon in every.keys() - beacons.keys():
        raise ConfigurationError(
            f"{options.beacon} is an {every[options.beacon].format}; the profiles are those of iBeacons.",
            where=str(options.shop),
            do="Write its key into it with its maker's app.",
        )
    if not beacons:
        raise ConfigurationError(
            "no anchor of this shop is an iBeacon.", where=str(options.shop), do="Add one, then render again."
        )
    if options.beacon is not None and options.beacon not in beacons:
        some = ", ".join([*beacons][:10]) + (", …" if len(beacons) > 10 else "")
        raise typer.BadParameter(
            f"{printable(options.beacon, 60)} is no beacon of this shop; its iBeacons are: {some}.", param_hint="--beacon"
        )
    wanted = beacons if options.beacon is None else {options.beacon: beacons[options.beacon]}
    return [_profile(name, beacon, kind, shop, options) for name, beacon in wanted.items() for kind in options.kinds]


def _profile(name: str, beacon: BeaconEntry, kind: Kind, shop: ShopFile, options: Options) -> Profile:
    file = options.out / kind / f"{name}.{SUFFIX[kind]}"
    title = shop.zones[beacon.zone].title
    text = render(kind, name, title, beacon, options.transmission, options.esp32_variant)
    return Profile(name, kind, file, text, _text_of(file))


def _text_of(file: Path) -> str | None:
    """What is in ``file``; ``None`` where there is none. Octets that are no UTF-8 are not ours, and stay unlike ours."""
    try:
        return file.read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DiskError(f"cannot be read ({error.strerror}).", where=str(file), do="Name another folder with --out.") from error
