"""`gateway takeover`: this gateway decides in the store from now on."""

from pathlib import Path

from gateway.cli.change import print_json
from gateway.cli.reach import Gateway
from gateway.contract.control import Decides, TakeOverRequest
from gateway.errors import TryAgain


def take_over(config: Path, *, as_json: bool) -> None:
    """Ask the running daemon; ``TryAgain`` when none runs, or when no other gateway would hear of it."""
    gateway = Gateway(config)
    decides = gateway.ask(TakeOverRequest(), Decides)
    if decides is None:
        raise TryAgain("the gateway is not running, so it cannot decide.", do="sudo systemctl start gateway, then try again.")
    if as_json:
        print_json(decides)
        return
    name = gateway.settings.gateway
    if decides.before == name:
        print(f"{name} decides already (term {decides.term}); nothing was changed")
        return
    before = f"; {decides.before}, which did, receives as soon as it hears of it" if decides.before else ""
    print(f"{name} decides now (term {decides.term}){before}")
    if not decides.told:
        print("note: the broker has not answered yet; the others hear of it when it does")
