"""Models from elsewhere: a file of tensors becomes a root commit.

Rules: a file is read by our own readers, which run nothing; what it was is named in the commit by its digest. An
import starts a branch; it never moves one that is there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedloom.errors import ConflictError, SpecError, nearest
from fedloom.hub.export.model_file import COMMIT, MODEL, PREPROCESSING
from fedloom.hub.formats import FormatError, npz, safetensors, torch
from fedloom.values import Digest, Tensor, Tensors, sha256
from fedloom.versions.content import Content
from fedloom.versions.objects import Commit, Entry
from fedloom.versions.refs import is_ref_name

_READERS: Mapping[str, Callable[[bytes], tuple[dict[str, Tensor], dict[str, str]]]] = {
    "safetensors": safetensors.decode,
    "npz": lambda data: (npz.decode(data), {}),
    "torch": lambda data: (torch.decode(data), {}),
}


@dataclass(frozen=True, slots=True)
class Labels:
    """What a person says about an imported model: its branch (the current one when None), pipeline name, message."""

    branch: str | None = None
    name: str | None = None
    message: str | None = None


def import_file(content: Content, format_: str, path: Path, labels: Labels | None = None) -> tuple[str, Digest]:
    """Commit the tensors of a file and start a branch there; gives the ref and the commit.

    Raises SpecError when the file is not what `format_` says, ConflictError when the branch is there already.
    """
    labels = labels or Labels()
    ref = f"heads/{labels.branch or content.settings.read().branch}"
    if not is_ref_name(ref):
        raise SpecError(f"'{labels.branch}' is no branch name: use lower-case letters, digits, '.', '_', '-' and '/'")
    if content.refs.get(ref):
        raise ConflictError(f"branch '{ref.removeprefix('heads/')}' is there already: give a new one with --branch")
    data, (tensors, metadata) = _read(format_, path)
    parts = _parts(content, path, tensors, metadata)
    source = {"format": format_, "file": path.name, "sha256": sha256(data)}
    if COMMIT in metadata:
        source["commit"] = metadata[COMMIT]
    name = labels.name or metadata.get("pipeline") or path.stem
    message = labels.message or f"{name}: imported from {path.name}"
    facts: dict[str, Any] = {"pipeline": name, "round": 0, "source": source, **_learner(path, metadata)}
    commit = content.add_commit(Commit(content.add_tree(parts).id, (), "import", message, facts))
    content.refs.compare_and_set(ref, None, commit, f"import {path.name}")
    return ref, commit


def _read(format_: str, path: Path) -> tuple[bytes, tuple[dict[str, Tensor], dict[str, str]]]:
    if format_ not in _READERS:
        raise SpecError(f"no format '{format_}'; {nearest(format_, _READERS)}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror}") from None
    try:
        found = _READERS[format_](data)
    except FormatError as error:
        raise SpecError(f"{path} cannot be imported as {format_}: {error}") from None
    if not found[0]:
        raise SpecError(f"{path} cannot be imported: it holds no tensors")
    return data, found


def _parts(content: Content, path: Path, tensors: Tensors, metadata: Mapping[str, str]) -> dict[str, Entry]:
    """Store the model; a file that fedloom exported comes apart into model and preprocessing again."""
    if COMMIT not in metadata:
        return {"model": content.add_tensors(tensors)}
    model = {name.removeprefix(MODEL): array for name, array in tensors.items() if name.startswith(MODEL)}
    scaling = {n.removeprefix(PREPROCESSING): array for n, array in tensors.items() if n.startswith(PREPROCESSING)}
    if len(model) + len(scaling) != len(tensors) or not model:
        raise SpecError(f"{path} says it was exported by fedloom, but holds other tensors: it was changed since")
    parts = {"model": content.add_tensors(model)}
    if scaling:
        features = content.add_json(_json(path, metadata, "features", []))
        parts["preprocessing"] = content.add_tree({"features": features, "scaling": content.add_tensors(scaling)})
    return parts


def _learner(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    return {"learner": _json(path, metadata, "learner", {})} if COMMIT in metadata and "learner" in metadata else {}


def _json(path: Path, metadata: Mapping[str, str], name: str, default: Any) -> Any:
    try:
        found = json.loads(metadata[name]) if name in metadata else default
    except (ValueError, RecursionError):
        found = None
    if type(found) is not type(default):
        raise SpecError(f"{path} says it was exported by fedloom, but its '{name}' is broken: it was changed since")
    return found
