"""A model with its papers as one folder: the tensors, the data contract, a model card, provenance, signatures.

Rules: the folder appears whole or not at all, and replaces only an earlier bundle. The provenance covers every file
but itself and `model.sig`; `model.sig` covers every file but itself.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import yaml

from fedloom.errors import SpecError, StorageError
from fedloom.hub.export.model_card import Papers, model_card
from fedloom.hub.export.model_file import export_model, preprocessing
from fedloom.hub.export.model_signing import FILE as MODEL_SIG
from fedloom.hub.export.model_signing import model_signature, require_signing_key
from fedloom.hub.export.provenance import provenance
from fedloom.hub.report.evidence import collect
from fedloom.telemetry.recorder import Recorder
from fedloom.values import Digest, sha256
from fedloom.versions import dsse
from fedloom.versions.keys import SigningKey
from fedloom.versions.repository import Repository

MODEL, CARD, CONTRACT, PROVENANCE = "model.safetensors", "model-card.md", "contract.yaml", "provenance.intoto.jsonl"
_FILES = frozenset((MODEL, CARD, CONTRACT, PROVENANCE, MODEL_SIG))


@dataclass(frozen=True, slots=True)
class BundleKeys:
    """What signs a bundle: the provenance, and the folder by Model Signing; either may be absent."""

    provenance: SigningKey | None = None
    model_signing: SigningKey | None = None


def export_bundle(repository: Repository, commit: Digest, folder: Path, keys: BundleKeys | None = None) -> list[str]:
    """Write a commit's bundle to `folder` and give its files' names; raises SpecError when other files are in it."""
    keys = keys or BundleKeys()
    if keys.model_signing:
        require_signing_key(keys.model_signing)
    strangers = sorted(path.name for path in folder.iterdir() if path.name not in _FILES) if folder.is_dir() else []
    if strangers or (folder.exists() and not folder.is_dir()):
        what = f"holds '{strangers[0]}'" if strangers else "is no folder"
        raise SpecError(f"{folder} {what}, which is no part of a bundle: choose another folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            _fill(repository, commit, scratch, folder.name, keys)
            scratch.chmod(0o755)  # mkdtemp's folders are private, this one is to be handed out
            if folder.exists():
                shutil.rmtree(folder)
            scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise StorageError(
            f"cannot write {folder}: {error.strerror}. The model itself is safe in the repository"
        ) from None
    return sorted(path.name for path in folder.iterdir())


def _fill(repository: Repository, commit: Digest, folder: Path, name: str, keys: BundleKeys) -> None:
    report = collect(repository, Recorder(repository.store), commit)
    export_model(repository, commit, folder / MODEL)
    contract = _contract(repository, commit)
    if contract is not None:
        (folder / CONTRACT).write_bytes(contract)
    names, _ = preprocessing(repository, commit)
    card = model_card(report, Papers(yaml.safe_load(contract) if contract else {}, names, _digests(folder)))
    (folder / CARD).write_text(card, encoding="utf-8")
    stated = provenance(report, _digests(folder))
    signer = keys.provenance
    line = dsse.seal(stated, signer.public.id, signer.sign).as_json() if signer else stated
    (folder / PROVENANCE).write_text(json.dumps(line) + "\n", encoding="utf-8")
    if keys.model_signing:
        (folder / MODEL_SIG).write_bytes(model_signature(name, _digests(folder), keys.model_signing))


def _contract(repository: Repository, commit: Digest) -> bytes | None:
    part = repository.part(commit, "inputs")
    entry = repository.tree(part.id).get("contract") if part else None
    return repository.blob(entry.id) if entry else None


def _digests(folder: Path) -> dict[str, Digest]:
    return {path.name: sha256(path.read_bytes()) for path in sorted(folder.iterdir())}
