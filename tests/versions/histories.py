"""Small histories for tests of merging: commits with a model and whatever else is told."""

import inspect
import sys
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from fedloom.values import Digest
from fedloom.versions.content import Content
from fedloom.versions.objects import Commit, Entry, Input, Recipe
from fedloom.versions.store import Store

F = np.float32


@contextmanager
def shallow_stack(frames: int):
    """Leave only so many frames of Python's stack."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + frames)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def content() -> Content:
    return Content(Store.in_memory())


def commit(
    store: Content,
    model: Mapping[str, Any],
    *parents: Digest,
    facts: Mapping[str, Any] | None = None,
    rows: float | None = None,
    kind: str = "round",
    **parts: Entry,
) -> Digest:
    """Commit a model; numbers become float32 tensors. With `rows`, as a round that was trained on so many."""
    tensors = {name: value if isinstance(value, np.ndarray) else np.array(value, F) for name, value in model.items()}
    tree = store.add_tree({"model": store.add_tensors(tensors), **parts})
    recipe = None
    if rows is not None:
        half = store.add_tree({}).id
        recipe = Recipe("fold/1", {"strategy": {"use": "fedavg"}}, tuple(Input(s, half, rows / 2) for s in "ab"))
    told = {"label": len(parents), **(facts or {})}
    return store.add_commit(Commit(tree.id, parents, kind, f"{sorted(model)}", told, recipe))


def tree(store: Content, value: Any) -> Entry:
    """Store nested dictionaries as trees, arrays as tensors, all else as JSON."""
    if isinstance(value, Entry):
        return value
    if isinstance(value, np.ndarray):
        (entry,) = store.tree(store.add_tensors({"x": value}).id).values()
        return entry
    if isinstance(value, dict) and not value.get("json"):
        return store.add_tree({name: tree(store, below) for name, below in value.items()})
    return store.add_json({k: v for k, v in value.items() if k != "json"} if isinstance(value, dict) else value)


def listed(store: Content, id_: Digest) -> dict[str, Any]:
    """Read a model as lists."""
    return {name: array.tolist() for name, array in store.model(id_).items()}


def value(store: Content, id_: Digest, path: Sequence[str]) -> Any:
    """Read the entry at a path of a commit."""
    at = store.commit(id_).tree
    for name in path[:-1]:
        at = store.tree(at)[name].id
    entry = store.tree(at)[path[-1]]
    return store.tensor(entry.id) if entry.kind == "tensor" else store.blob(entry.id)
