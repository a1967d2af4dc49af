"""Ed25519 (RFC 8032) for signed downlinks: central signs, gateways verify before they parse.

A gateway verifies with the OpenSSL that Python's own ``ssl`` has loaded anyway: the cryptography package brings another one with
it, 7 MB of resident memory for this one function. It signs, and serves where the system has no libcrypto 3.

Source: OpenSSL 3.0 manual, EVP_SIGNATURE-ED25519(7), EVP_DigestVerifyInit(3), EVP_PKEY_new_raw_public_key(3).
"""

import base64
import binascii
import ctypes
import functools
import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

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
Verify = Callable[[bytes, bytes, bytes], bool]
"""Whether (public key ×32, signature, message) belong together; any other length of the first two is no."""

_KEY_BYTES, _SIGNATURE_BYTES = 32, 64
_EVP_PKEY_ED25519 = 1087
_YES = 1
"""0 is a wrong signature, less an error."""


def key_id(public_key: bytes) -> str:
    """Short name of a public key: the first 8 bytes of its SHA-256, hexadecimal."""
    return hashlib.sha256(public_key).hexdigest()[:16]


class Signer:
    """Central's private key."""

    def __init__(self, private_key: bytes) -> None:
        # Only here: a gateway, which signs nothing, does without the package.
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

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
                    file.write(secrets.token_bytes(32).hex().encode())
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
        self._keys = {key_id(raw): raw for raw in public_keys}
        self._verify = _verify()
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
            is_right = self._verify(key, base64.b64decode(envelope.signature, validate=True), DOMAIN_TAG + raw)
        except binascii.Error as error:
            raise Untrusted("has a wrong signature.", where=where) from error
        if not is_right:
            raise Untrusted("has a wrong signature.", where=where)
        document = validated(model, strict_json.parse(raw, where), where)
        if document.store != self._store:
            raise Untrusted("is signed for another store.", where=where)
        if document.not_after < now_ms:
            raise Untrusted("has expired.", where=where)
        return document


@functools.cache
def _verify() -> Verify:
    """The system's libcrypto; without it the cryptography package."""
    return verify_of_libcrypto() or verify_of_cryptography()


def verify_of_libcrypto(name: str = "libcrypto.so.3") -> Verify | None:
    """The function of the system's OpenSSL, or ``None`` where there is none of version 3."""
    try:
        library = ctypes.CDLL(name)
        new_key, free_key = library.EVP_PKEY_new_raw_public_key, library.EVP_PKEY_free
        new_context, free_context = library.EVP_MD_CTX_new, library.EVP_MD_CTX_free
        begin, decide, forget_errors = library.EVP_DigestVerifyInit, library.EVP_DigestVerify, library.ERR_clear_error
    except (OSError, AttributeError):
        return None
    pointer, octets, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    new_key.argtypes, new_key.restype = (ctypes.c_int, pointer, octets, size), pointer
    free_key.argtypes, free_key.restype = (pointer,), None
    new_context.argtypes, new_context.restype = (), pointer
    free_context.argtypes, free_context.restype = (pointer,), None
    begin.argtypes, begin.restype = (pointer, pointer, pointer, pointer, pointer), ctypes.c_int
    decide.argtypes, decide.restype = (pointer, octets, size, octets, size), ctypes.c_int
    forget_errors.argtypes, forget_errors.restype = (), None

    def verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
        if len(public_key) != _KEY_BYTES or len(signature) != _SIGNATURE_BYTES:
            return False
        key, context = new_key(_EVP_PKEY_ED25519, None, public_key, len(public_key)), new_context()
        try:
            if not key or not context or begin(context, None, None, None, key) != _YES:
                return False
            return bool(decide(context, signature, len(signature), message, len(message)) == _YES)
        finally:
            free_context(context)
            free_key(key)
            # A TLS connection of this thread would take an error that is left behind for a failure of its own.
            forget_errors()

    return verify


def verify_of_cryptography() -> Verify:
    """The same of the cryptography package."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    def verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
        if len(public_key) != _KEY_BYTES:
            return False
        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
        except InvalidSignature:
            return False
        return True

    return verify
