"""What the shell offers for names of the shop while they are typed: nothing, rather than ever a message or a delay."""

from pathlib import Path

import typer

from gateway.cli.options import CONFIG

_PATIENCE_S = 1.0


def zones(context: typer.Context, incomplete: str) -> list[str]:
    """Zones."""
    return _names(context, incomplete, "zone")


def beacons(context: typer.Context, incomplete: str) -> list[str]:
    """Fixed beacons."""
    return _names(context, incomplete, "beacon")


def receivers(context: typer.Context, incomplete: str) -> list[str]:
    """Receivers of the shop."""
    return _names(context, incomplete, "receiver")


def any_receivers(context: typer.Context, incomplete: str) -> list[str]:
    """Receivers of shop or settings."""
    return _names(context, incomplete, "any receiver")


def settings_receivers(context: typer.Context, incomplete: str) -> list[str]:
    """Receivers of the settings that the shop does not know yet."""
    return _names(context, incomplete, "new receiver")


def promotions(context: typer.Context, incomplete: str) -> list[str]:
    """Promotions of the running gateway's catalogue."""
    from gateway.contract.control import CatalogueInForce, CatalogueRequest, result_of
    from gateway.contract.settings import Settings, read_settings
    from gateway.errors import GatewayError
    from gateway.io.control import ask

    try:
        settings = read_settings(_config(context), Settings)
        answer = ask(settings.control_path, CatalogueRequest().model_dump_json().encode() + b"\n", timeout_s=_PATIENCE_S)
        known = () if answer is None else result_of(answer, CatalogueInForce).promotions
    except GatewayError:
        return []
    return sorted(each.promotion.promotion_id for each in known if each.promotion.promotion_id.startswith(incomplete))


def templates(_context: typer.Context, incomplete: str) -> list[str]:
    """Templates of ``offer new``."""
    from gateway.cli.offer_new import templates as known

    return [name for name in known() if name.startswith(incomplete)]


def _config(context: typer.Context) -> Path:
    return Path(context.params.get("config") or CONFIG)


def _names(context: typer.Context, incomplete: str, kind: str) -> list[str]:
    from gateway.contract.control import ShopInForce, ShopRequest, result_of
    from gateway.contract.settings import Settings, read_settings
    from gateway.contract.shop import ShopFile, read_shop
    from gateway.errors import GatewayError
    from gateway.io.control import ask
    from gateway.io.shop_file import read_shop_file

    try:
        settings = read_settings(_config(context), Settings)
        answer = ask(settings.control_path, ShopRequest().model_dump_json().encode() + b"\n", timeout_s=_PATIENCE_S)
        if answer is not None:
            shop = result_of(answer, ShopInForce).shop
        else:
            text = read_shop_file(settings.shop_path)
            shop = ShopFile() if text is None else read_shop(text, "")
    except GatewayError:
        return []
    if kind == "zone":
        known = set(shop.zones)
    elif kind == "new receiver":
        known = settings.receivers_of(()).keys() - shop.anchors.keys()
    elif kind == "any receiver":
        known = settings.receivers_of(()).keys() | {name for name, anchor in shop.anchors.items() if anchor.kind == "receiver"}
    else:
        known = {name for name, anchor in shop.anchors.items() if anchor.kind == kind}
    return sorted(name for name in known if name.startswith(incomplete))
