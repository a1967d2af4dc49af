"""Ed25519 for signed downlinks: central signs, gateways verify before they parse."""

import base64
import binascii
import hashlib
import os
from pathlib import Path
from typing import TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.contract import strict_json
from gateway.contract.downlinks import (
    DOMAIN_TAG,
    Catalogue,
    RosterChunk,
    RosterDelta,
    RosterManifest,
    ShopperContext,
    SignedMessage,
    to_base64,
)
from gateway.contract.messages import read, validated
from gateway.errors import ConfigurationError, DiskError, Untrusted

Document = TypeVar("Document", Catalogue, RosterManifest, RosterChunk, RosterDelta, ShopperContext)


def key_id(public_key: bytes) -> str:
    """Short name of a public key: the first 8 bytes of its SHA-256, hexadecimal."""
    return hashlib.sha256(public_key).hexdigest()[:16]


class Signer:
    """Central's private key."""

    def __init__(self, private_key: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(private_key)
        self.public_key = self._key.public_key().public_bytes_raw()
        self.key_id = key_id(self.public_key)

    @classmethod
    def from_file(cls, path: Path) -> "Signer":
        """The key in ``path``, made on first use together with its folder; ``ConfigurationError`` when others can read it."""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not path.exists():
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(Ed25519PrivateKey.generate().private_bytes_raw().hex().encode())
            mode = path.stat().st_mode
            text = path.read_text("ascii", errors="replace").strip()
        except OSError as error:
            raise DiskError(
                f"cannot be used ({error.strerror}).", where=str(path), do="Check the folder and its owner."
            ) from error
        if mode & 0o077:
            raise ConfigurationError("can be read by others.", where=str(path), do=f"Type: chmod 600 {path}")
        try:
            return cls(bytes.fromhex(text))
        except ValueError as error:
            raise ConfigurationError(
                "holds no Ed25519 key (64 hexadecimal digits).", where=str(path), do="Restore it."
            ) from error

    def seal(
        self,
        document: Catalogue | RosterManifest | RosterChunk | RosterDelta | ShopperContext,
        *,
        source: str,
        time_ms: int,
    ) -> SignedMessage:
        """The signed envelope of a document."""
        raw = document.to_bytes()
        return SignedMessage(
            id=f"{document.type}-{document.version}-{hashlib.sha256(raw).hexdigest()[:12]}",
            source=source,
            type=document.type,
            time=time_ms,
            data_base64=to_base64(raw),
            keyid=self.key_id,
            signature=to_base64(self._key.sign(DOMAIN_TAG + raw)),
        )


class Verifier:
    """The pinned public keys of one store's gateway."""

    def __init__(self, public_keys: tuple[bytes, ...], store: str) -> None:
        self._keys = {key_id(raw): Ed25519PublicKey.from_public_bytes(raw) for raw in public_keys}
        self._store = store

    def open(self, payload: bytes, model: type[Document], *, where: str, now_ms: int) -> Document:
        """The document inside a signed envelope; ``Untrusted`` unless signature, type, store and date are right."""
        envelope = read(SignedMessage, payload, where)
        key = self._keys.get(envelope.keyid)
        if key is None:
            raise Untrusted(
                "is signed with a key that is not pinned.", where=where, do="Compare trust.public_keys with central's."
            )
        try:
            raw = base64.b64decode(envelope.data_base64, validate=True)
            key.verify(base64.b64decode(envelope.signature, validate=True), DOMAIN_TAG + raw)
        except (binascii.Error, InvalidSignature) as error:
            raise Untrusted("has a wrong signature.", where=where) from error
        document = validated(model, strict_json.parse(raw, where), where)
        if document.store != self._store:
            raise Untrusted("is signed for another store.", where=where)
        if document.not_after < now_ms:
            raise Untrusted("has expired.", where=where)
        return document
