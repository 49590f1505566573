"""A registered model as a file: safetensors, with its preprocessing and the commit it came from inside."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np

from fedloom.errors import StorageError
from fedloom.values import Digest
from fedloom.versions.repository import Repository


def export_model(repository: Repository, commit: Digest, path: Path) -> Path:
    """Write a commit's model and scaling to `path`, replacing an older export in one step.

    Tensors: `model.NAME` and `preprocessing.mean`, `preprocessing.scale`. Metadata: `fedloom.commit`, the names of
    the features in order, pipeline, learner and metrics.
    """
    from safetensors.numpy import save

    tensors = {f"model.{name}": np.ascontiguousarray(array) for name, array in repository.model(commit).items()}
    facts = repository.commit(commit).facts
    metadata = {
        "fedloom.commit": commit,
        "pipeline": facts["pipeline"],
        "learner": json.dumps(facts["learner"]),
    }
    metadata["metrics"] = json.dumps(facts.get("metrics", {}).get("pooled", {}))
    preprocessing = repository.part(commit, "preprocessing")
    if preprocessing is not None:
        parts = repository.tree(preprocessing.id)
        scaling = repository.tensors(parts["scaling"].id)
        tensors |= {f"preprocessing.{name}": np.ascontiguousarray(array) for name, array in scaling.items()}
        metadata["features"] = repository.blob(parts["features"].id).decode()
    scratch = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_bytes(save(tensors, metadata))
        scratch.replace(path)
    except OSError as error:
        with suppress(OSError):
            scratch.unlink()
        raise StorageError(
            f"cannot write {path}: {error.strerror}. The model itself is safe in the repository"
        ) from None
    return path
