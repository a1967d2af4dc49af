"""Whether this gateway decides or receives: kept on disk, told in its status, and looked up before anything is decided.

::

    start ── broker reached, the statuses of the others are read ──▶ known ── a greater claim ──▶ receiving
      └───── no broker: as it was at the end of the last process ──────┘  └── gateway takeover ──▶ deciding

Source of the rules: ``gateway/core/deciding.py``.
"""

import asyncio
import logging
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from gateway.contract.fields import GatewayId, Strict
from gateway.contract.messages import GatewayStatus
from gateway.contract.settings import Settings
from gateway.core.deciding import LAST_TERM, Claim, Deciding
from gateway.errors import ConfigurationError, DiskError
from gateway.io.whole_file import write_whole

log = logging.getLogger(__name__)

LOOK_MS = 2_000
"""For so long the broker may take to show what was retained; one whose access rules hide it never does."""


class _Kept(Strict):
    """The greatest claim as the file has it."""

    decider: GatewayId
    term: Annotated[int, Field(ge=0, le=LAST_TERM)]


class Role:
    """What this gateway knows of who decides."""

    def __init__(self, settings: Settings) -> None:
        self._gateway = settings.gateway
        self._may_begin = settings.role == "decide"
        self._path = settings.state_dir / "decider.json"
        self._deciding = Deciding(settings.gateway, None, may_begin=self._may_begin)
        self._keeping = asyncio.Lock()
        self._birth = ""
        self._connected_ms: int | None = None
        self._has_warned = False
        self._is_unkept = False
        """Whether the file could not be written and lags behind."""
        self.looked = asyncio.Event()
        """What the other gateways' statuses say is known."""

    def restore(self) -> None:
        """Take back what was known; a file that cannot be read is a ``ConfigurationError``."""
        try:
            kept = _Kept.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, ValidationError) as error:
            raise ConfigurationError(
                "cannot be read, so it is not known who decides in the store.",
                where=str(self._path),
                do="Delete the file; then the setting role and the other gateways say it.",
            ) from error
        self._deciding = Deciding(self._gateway, Claim(kept.term, kept.decider), may_begin=self._may_begin)

    @property
    def claim(self) -> Claim | None:
        """The greatest that is known."""
        return self._deciding.claim

    @property
    def decides(self) -> bool:
        """Whether it is this gateway."""
        return self._deciding.is_mine

    def connected(self, birth: GatewayStatus, now_ms: int) -> None:
        """A new connection: what is retained comes before our own birth comes back."""
        self._birth, self._connected_ms = birth.id, now_ms
        self.looked.clear()

    async def hear(self, gateway: str, status: GatewayStatus) -> bool:
        """A gateway's status, ours too; returns whether this gateway has something new to tell."""
        claim = status.data.claim
        if claim is not None and self._deciding.hear(claim):
            await self._keep_if_possible()
        if gateway == self._gateway and status.id == self._birth:
            return await self._have_looked()
        return False

    async def watch(self, now_ms: int, *, is_online: bool) -> bool:
        """To be called about once a second: do without the others' statuses where the broker hides them."""
        if self._is_unkept:
            await self._keep_if_possible()
        if self.looked.is_set() or not is_online or self._connected_ms is None or now_ms - self._connected_ms < LOOK_MS:
            return False
        if not self._has_warned:
            self._has_warned = True
            log.warning(
                "the broker does not show the statuses of the store's gateways: a takeover would not be noticed here; let this "
                "gateway read them (access rules)"
            )
        return await self._have_looked()

    async def take_over(self) -> None:
        """Decide from now on; ``ConfigurationError`` when no term is left."""
        if not self._deciding.take_over():
            raise ConfigurationError(
                "no higher term is left to claim: somebody has claimed the last one.",
                do="Stop the gateways, clear their retained statuses at the broker, delete decider.json everywhere.",
            )
        await self._keep()

    async def _have_looked(self) -> bool:
        began = self._deciding.begin()
        if began:
            await self._keep_if_possible()
        self.looked.set()
        return began

    async def _keep_if_possible(self) -> None:
        """A full disk does not end the gateway; the broker knows the claim, too, and the next look at it says it again."""
        try:
            await self._keep()
        except DiskError as error:
            if not self._is_unkept:
                log.warning("who decides cannot be kept for the next start, and is tried again: %s", error)
            self._is_unkept = True
        else:
            self._is_unkept = False

    async def _keep(self) -> None:
        async with self._keeping:
            claim = self.claim
            assert claim is not None
            text = _Kept(decider=claim.gateway, term=claim.term).model_dump_json()
            await asyncio.to_thread(_write, self._path, text)


def _write(path: Path, text: str) -> None:
    write_whole(path, text + "\n", mode=0o640, folder_mode=0o700)
