"""model.sig: a signature of a folder that the OpenSSF Model Signing tools accept.

The file is a Sigstore bundle (v0.3) around a DSSE envelope around an in-toto statement that lists every file with its
SHA-256. Specification: the `model-signing` package 1.x ("model_signing/signature/v1.0"). It signs with ECDSA on P-256;
Ed25519 keys are not part of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from fedloom.errors import SpecError
from fedloom.values import Digest, sha256
from fedloom.versions import dsse
from fedloom.versions.keys import SigningKey

FILE = "model.sig"
PREDICATE = "https://model_signing/signature/v1.0"
_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"


def require_signing_key(key: SigningKey) -> None:
    """Raise SpecError when a key cannot sign such a file."""
    if key.public.algorithm != "p256":
        raise SpecError("Model Signing takes keys on P-256: make one with `fedloom key create FILE --kind p256`")


def model_signature(name: str, files: Mapping[str, Digest], key: SigningKey) -> bytes:
    """Sign a folder called `name` with these files (relative path → SHA-256)."""
    require_signing_key(key)
    envelope = dsse.seal(manifest(name, files), "", key.sign).as_json()
    # Verifiers find the key by the digest of its PEM text, which ends in a newline.
    hint = sha256(key.public.pem.encode())
    material: dict[str, Any] = {"publicKey": {"hint": hint}, "tlogEntries": []}
    bundle = {"mediaType": _BUNDLE, "verificationMaterial": material, "dsseEnvelope": envelope}
    return json.dumps(bundle).encode()


def manifest(name: str, files: Mapping[str, Digest]) -> dict[str, Any]:
    """State which files the folder holds; the subject's digest is that of all their digests, in order of path."""
    ordered = sorted(files.items(), key=lambda item: PurePosixPath(item[0]))
    root = sha256(*(bytes.fromhex(digest) for _, digest in ordered))
    predicate = {
        "serialization": {
            "method": "files",
            "hash_type": "sha256",
            "allow_symlinks": False,
            "ignore_paths": [FILE],
        },
        "resources": [{"name": path, "algorithm": "sha256", "digest": digest} for path, digest in ordered],
    }
    return dsse.statement([(name, root)], PREDICATE, predicate)
