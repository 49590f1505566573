"""A model as a file: safetensors, with its preprocessing and the commit it came from inside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedloom.hub.export.files import write_file
from fedloom.hub.formats import safetensors
from fedloom.values import Digest, Tensor
from fedloom.versions.content import Content

MODEL = "model."
PREPROCESSING = "preprocessing."
COMMIT = "fedloom.commit"


def export_model(content: Content, commit: Digest, path: Path) -> Path:
    """Write a commit's model and scaling to `path`, replacing an older export in one step.

    Tensors: `model.NAME` and `preprocessing.mean`, `preprocessing.scale`. Metadata: `fedloom.commit`, the names of
    the features in order, pipeline, learner and metrics.
    """
    tensors = {f"{MODEL}{name}": array for name, array in content.model(commit).items()}
    facts = told(content, commit)
    metadata = {COMMIT: commit, "metrics": json.dumps(facts.get("metrics", {}).get("pooled", {}))}
    if "pipeline" in facts:
        metadata["pipeline"] = facts["pipeline"]
    if "learner" in facts:
        metadata["learner"] = json.dumps(facts["learner"])
    names, scaling = preprocessing(content, commit)
    if scaling:
        tensors |= {f"{PREPROCESSING}{name}": array for name, array in scaling.items()}
        metadata["features"] = json.dumps(names)
    return write_file(path, safetensors.encode(tensors, metadata))


def told(content: Content, commit: Digest) -> Mapping[str, Any]:
    """Give a commit's facts, with pipeline and learner from the nearest ancestor that names them.

    A merge need not repeat what its parents say.
    """
    facts = dict(content.commit(commit).facts)
    for _, ancestor in content.log(commit):
        for name in ("pipeline", "learner"):
            if name in ancestor.facts:
                facts.setdefault(name, ancestor.facts[name])
        if "pipeline" in facts and "learner" in facts:
            break
    return facts


def preprocessing(content: Content, commit: Digest) -> tuple[list[str], dict[str, Tensor]]:
    """Read what a commit's model expects: names of the features, and their mean and scale; nothing where unknown."""
    part = content.part(commit, "preprocessing")
    parts = content.tree(part.id) if part else {}
    if "scaling" not in parts:
        return [], {}
    names: list[str] = json.loads(content.blob(parts["features"].id)) if "features" in parts else []
    return names, content.tensors(parts["scaling"].id)
