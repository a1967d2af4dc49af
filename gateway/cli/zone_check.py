"""`gateway zone check` and `verify`: how well the walked zones are told apart, and whether that has got worse."""

import shutil
from pathlib import Path

from gateway.cli.change import print_json
from gateway.cli.columns import columns
from gateway.cli.reach import Gateway, Result
from gateway.contract.fields import Strict
from gateway.contract.walk_tasks import CheckTask, VerifyTask
from gateway.contract.walks import CheckZonesRequest, VerifyZonesRequest, ZonesChecked, ZonesVerified
from gateway.core.sanitiser import printable
from gateway.core.spelling import listed
from gateway.errors import ConfigurationError

_PATIENCE_S = 600.0
_NONE = "none"
_PIPED_COLUMNS = 130


def run_check(config: Path, *, as_json: bool) -> None:
    """Print the confusion table and the advice; ``ConfigurationError`` where nobody has walked."""
    checked = _asked(Gateway(config), CheckZonesRequest(), ZonesChecked)
    if not checked.zones:
        raise _nobody_walked(checked.not_walked)
    if as_json:
        print_json(checked)
    else:
        print("\n".join(printable(line, limit=1000) for line in _checked(checked)))


def run_verify(config: Path, *, as_json: bool) -> bool:
    """Print each walk's figures beside the accepted ones; whether any is worse."""
    verified = _asked(Gateway(config), VerifyZonesRequest(), ZonesVerified)
    if not verified.zones:
        raise _nobody_walked(())
    if as_json:
        print_json(verified)
    else:
        print("\n".join(_verified(verified)))
    return verified.worse


def _nobody_walked(not_walked: tuple[str, ...]) -> ConfigurationError:
    zone = not_walked[0] if not_walked else "ZONE"
    return ConfigurationError("no zone has been walked yet.", do=f"Walk one: gateway zone walk {zone}.")


def _asked(gateway: Gateway, request: CheckZonesRequest | VerifyZonesRequest, model: type[Result]) -> Result:
    """By the running daemon, else here from its files."""
    running = gateway.ask(request, model, timeout_s=_PATIENCE_S)
    if running is not None:
        return running
    from gateway.daemon.kept_walks import KeptWalks
    from gateway.io.learning import perform

    with gateway.as_service_user():
        shop, kept = gateway.shop().shop.compiled(), KeptWalks(gateway.settings)
        task: CheckTask | VerifyTask
        task = kept.check_task(shop) if isinstance(request, CheckZonesRequest) else kept.verify_task(shop)
        found: Strict = perform(task)
    assert isinstance(found, model)
    return found


def _checked(checked: ZonesChecked) -> list[str]:
    zones = [one.zone for one in checked.zones]
    elsewhere = sorted({name for one in checked.zones for name in one.announced} - {*zones, ""})
    names = [*zones, *elsewhere]
    width = shutil.get_terminal_size((_PIPED_COLUMNS, 24)).columns
    by_name = sum(len(name) + 2 for name in names) + max(map(len, names)) + 50 <= width
    heads = names if by_name else [str(number) for number in range(1, len(names) + 1)]
    rows = []
    for number, one in enumerate(checked.zones, 1):
        counts = [one.announced.get(name, 0) for name in names]
        loudest = None if one.loudest is None or one.loudest_dbm is None else f"{one.loudest} {one.loudest_dbm:.0f} dBm"
        shown = [str(count) if count else "." for count in [*counts, one.announced.get("", 0)]]
        name = one.zone if by_name else f"{number} {one.zone}"
        rows.append((name, f"{one.accuracy:.0%}", *shown, f"{one.heard_per_s:g}/s", loudest))
    lines = ["Seconds of each walk by the zone that would have been announced:", ""]
    lines += columns(("walked", "right", *heads, _NONE, "heard", "loudest"), rows)
    lines.append("")
    if not by_name and elsewhere:
        lines.append("also: " + ", ".join(f"{number} {name}" for number, name in enumerate(names, 1) if name in elsewhere))
    if checked.accuracy is None:
        lines.append("one walk alone tells nothing about telling zones apart")
    else:
        lines.append(f"right in {checked.accuracy:.0%} of all seconds; weak: {listed(checked.weak) or 'none'}")
    if checked.not_walked:
        lines.append(f"not walked: {listed(checked.not_walked)}")
    if not checked.advice:
        return [*lines, "nothing to do"]
    return [*lines, "", "to do:", *(f"- {sentence}" for sentence in checked.advice)]


def _verified(verified: ZonesVerified) -> list[str]:
    model = "without a model" if verified.model is None else f"model {verified.model}"
    rows = [
        (
            one.zone,
            f"{one.accuracy:.0%}",
            f"{one.accepted:.0%}",
            one.changes,
            one.changes_accepted,
            "WORSE" if one.worse else "ok",
        )
        for one in verified.zones
    ]
    lines = columns(("walk", "right", "accepted", "changes", "accepted", ""), rows)
    if verified.accuracy is not None and verified.accepted is not None:
        said = "WORSE than accepted" if verified.worse else "as good as accepted"
        lines += ["", f"{model}: right in {verified.accuracy:.0%} of all seconds, accepted {verified.accepted:.0%}: {said}"]
    if verified.worse:
        lines.append("next: gateway zone model rollback, or walk the zones that are worse again")
    return lines
