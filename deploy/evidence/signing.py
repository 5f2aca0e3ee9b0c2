"""Ed25519 keys, as `openssl genpkey -algorithm ed25519` makes them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from reid.errors import ConfigError, DataError

_MAX_KEY_BYTES = 1 << 16


def signing_key(file: Path) -> Ed25519PrivateKey:
    """The private key of a PEM file. Raises ConfigError for any other file."""
    expected = (
        "expected an Ed25519 private key, PEM, unencrypted: openssl genpkey -algorithm ed25519"
    )
    try:
        key = serialization.load_pem_private_key(_content(file), None)
    except (TypeError, ValueError, UnsupportedAlgorithm):  # encrypted, malformed, unknown
        raise ConfigError(f"{file} cannot be used to sign; {expected}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{file} is another kind of key; {expected}")
    return key


def public_key(content: bytes, name: str) -> Ed25519PublicKey:
    """The public key of a PEM file's content. Raises DataError for any other."""
    expected = "expected an Ed25519 public key, PEM: openssl pkey -in KEY -pubout"
    try:
        key = serialization.load_pem_public_key(content)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        raise DataError(f"{name} cannot be read; {expected}") from None
    if not isinstance(key, Ed25519PublicKey):
        raise DataError(f"{name} is another kind of key; {expected}")
    return key


def public_key_of_file(file: Path) -> Ed25519PublicKey:
    """As ``public_key``; raises ConfigError if there is no such file."""
    return public_key(_content(file), str(file))


def pem(key: Ed25519PublicKey) -> bytes:
    """A public key as PEM."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def fingerprint(key: Ed25519PublicKey) -> str:
    """Hexadecimal SHA-256 of a public key's 32 bytes, to compare by eye."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def is_signed(key: Ed25519PublicKey, signature: bytes, content: bytes) -> bool:
    """Whether the signature of the content is this key's."""
    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True


def _content(file: Path) -> bytes:
    try:
        with open(file, "rb") as opened:
            return opened.read(_MAX_KEY_BYTES)
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror or error}") from None
