"""Keys as PEM files: made, read and named.

Rules: Ed25519 signs commits; ECDSA on P-256 is what the OpenSSF Model Signing format asks for. A private key never
enters a repository, a message or an error. `cryptography` is imported when a key is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from fedloom.errors import SpecError, StorageError, nearest
from fedloom.values import Digest, sha256

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

Algorithm = Literal["ed25519", "p256"]


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key that can be used, and the public half that names it."""

    public: PublicKey
    sign: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key: its PEM text, its algorithm, its id and a way to check a signature.

    id: SHA-256 of the raw public key (RFC 8032 for Ed25519, the uncompressed point for P-256), in hex.
    holds: whether a signature (first) over a message (second) is this key's.
    """

    pem: str
    algorithm: Algorithm
    id: Digest
    holds: Callable[[bytes, bytes], bool]


def create_key(path: Path, algorithm: str = "ed25519") -> PublicKey:
    """Write a new private key, readable by its owner only; raises SpecError when the file is there already."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    if algorithm not in get_args(Algorithm):
        raise SpecError(f"no kind of key '{algorithm}'; {nearest(algorithm, get_args(Algorithm))}")
    made: Any = (
        ed25519.Ed25519PrivateKey.generate() if algorithm == "ed25519" else ec.generate_private_key(ec.SECP256R1())
    )
    pem = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
    except FileExistsError:
        raise SpecError(f"{path} exists already, and a key is never overwritten: choose another file") from None
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from None
    return _public(made.public_key())


def read_private_key(path: Path) -> SigningKey:
    """Read a private key; raises SpecError when the file holds none that can be used."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key: Any = load_pem_private_key(_read(path), None)
    except TypeError:
        raise SpecError(f"the key in {path} has a passphrase: write one without, and guard the file") from None
    except (ValueError, UnsupportedAlgorithm):
        raise SpecError(f"{path} holds no private key: make one with `fedloom key create FILE`") from None
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return SigningKey(_public(key.public_key()), key.sign)
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return SigningKey(_public(key.public_key()), lambda message: key.sign(message, ec.ECDSA(hashes.SHA256())))
    raise SpecError(f"the key in {path} is neither Ed25519 nor P-256: make one with `fedloom key create FILE`")


def read_public_key(pem: str, where: str) -> PublicKey:
    """Read a public key's PEM text; raises SpecError when it is none, and says so when it is a private one."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if "PRIVATE KEY" in pem:
        raise SpecError(f"{where} holds a private key: keep it to yourself, and give the public half")
    try:
        return _public(load_pem_public_key(pem.encode()))
    except (TypeError, ValueError, UnsupportedAlgorithm):
        raise SpecError(f"{where} holds no public key (PEM) of kind Ed25519 or P-256") from None


def read_public_key_file(path: Path) -> PublicKey:
    """Read a public key from a file."""
    return read_public_key(_read(path).decode("utf-8", "replace"), str(path))


def _public(key: PublicKeyTypes) -> PublicKey:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    check: Callable[[bytes, bytes], None]
    if isinstance(key, ed25519.Ed25519PublicKey):
        algorithm: Algorithm = "ed25519"
        raw, check = key.public_bytes(Encoding.Raw, PublicFormat.Raw), key.verify
    elif isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        algorithm = "p256"
        raw = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        check = lambda signature, message: key.verify(signature, message, ec.ECDSA(hashes.SHA256()))  # noqa: E731
    else:
        raise TypeError("neither Ed25519 nor P-256")

    def holds(signature: bytes, message: bytes) -> bool:
        try:
            check(signature, message)
        except InvalidSignature:
            return False
        return True

    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return PublicKey(pem, algorithm, sha256(raw), holds)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror}") from None
