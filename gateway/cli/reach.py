"""The gateway of one settings file: the running daemon through its control socket, else its files as its user."""

import contextlib
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TypeVar

from gateway.contract.control import ShopInForce, ShopRequest, UseShopRequest, digest_of, result_of
from gateway.contract.fields import Strict
from gateway.contract.settings import Settings, read_settings
from gateway.contract.shop import ShopFile, read_shop
from gateway.contract.shop_edits import normal
from gateway.errors import ConfigurationError, TryAgain
from gateway.io.control import ask, follow
from gateway.io.shop_file import read_shop_file
from gateway.io.whole_file import alone_in, write_whole

Result = TypeVar("Result", bound=Strict)


class Gateway:
    """What commands change and ask, whether a daemon runs or not."""

    def __init__(self, config: Path) -> None:
        """``ConfigurationError`` when the settings cannot be read."""
        self.config = config
        self.settings = read_settings(config, Settings)

    def ask(self, request: Strict, model: type[Result], *, timeout_s: float = 30.0) -> Result | None:
        """What the running daemon answers, or ``None`` when none runs; its failures are raised here."""
        line = ask(self.settings.control_path, request.model_dump_json().encode() + b"\n", timeout_s=timeout_s)
        return None if line is None else result_of(line, model)

    def follow(self, request: Strict, *, timeout_s: float = 30.0) -> Generator[bytes, None, None]:
        """Each line that the running daemon tells until it is done; none when none runs. Closing it ends what was asked for."""
        return follow(self.settings.control_path, request.model_dump_json().encode() + b"\n", timeout_s=timeout_s)

    def shop(self) -> ShopInForce:
        """The shop in force, or without a daemon the one in the file; an empty one where there is none yet."""
        running = self.ask(ShopRequest(), ShopInForce)
        if running is not None:
            return running
        path = self.settings.shop_path
        with self.as_service_user():
            text = read_shop_file(path)
        return ShopInForce.of(ShopFile() if text is None else read_shop(text, str(path)))

    def use_shop(self, shop: ShopFile, replaces: str) -> bool:
        """Keep an edited shop; True: it is in force already, False: it will be when the daemon starts.

        ``replaces`` is the digest of the shop that was edited: ``TryAgain`` when somebody else was quicker.
        """
        if self.ask(UseShopRequest(shop=shop, replaces=replaces), ShopInForce) is not None:
            return True
        path = self.settings.shop_path
        with self.as_service_user(), alone_in(path.parent):
            text = read_shop_file(path)
            before = ShopFile() if text is None else read_shop(text, str(path))
            if digest_of(before) != replaces:
                raise TryAgain(
                    "was changed by somebody else meanwhile.", where=str(path), do="Nothing was changed; look and try again."
                )
            write_whole(path, shop.to_text(), mode=0o640, folder_mode=0o700)
        # A daemon that has just started may have read the file before.
        running = self.ask(ShopRequest(), ShopInForce)
        if running is None:
            return False
        if running.shop != normal(shop):
            self.ask(
                UseShopRequest(shop=shop, replaces=running.digest if running.shop == normal(before) else replaces), ShopInForce
            )
        return True

    @contextlib.contextmanager
    def as_service_user(self) -> Iterator[None]:
        """While this lasts root is the owner of the state folder, so that the daemon can read what is written there.

        For the gateway's own files alone: what the command line names is read and written as whoever typed it.
        """
        owner = self._owner_who_is_not_root()
        if owner is None:
            yield
            return
        uid, gid, groups = os.geteuid(), os.getegid(), os.getgroups()
        try:
            os.setgroups([])
            os.setegid(owner.st_gid)
            os.seteuid(owner.st_uid)
        except PermissionError as error:
            raise ConfigurationError(
                "belongs to another user, and this process may not become that user.",
                where=str(self.settings.state_dir),
                do="Run this with sudo.",
            ) from error
        try:
            yield
        finally:
            # The user first: nobody else may change the groups.
            os.seteuid(uid)
            os.setegid(gid)
            os.setgroups(groups)

    def _owner_who_is_not_root(self) -> os.stat_result | None:
        """``None`` also where this process is not root, or is the owner for a while already."""
        folder = self.settings.state_dir
        if os.geteuid() != 0 or not folder.exists():
            return None
        owner = folder.stat()
        return None if owner.st_uid == 0 else owner
