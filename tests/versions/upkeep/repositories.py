"""Small repositories with everything upkeep must know about: rounds stored and computed, large and small tensors."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fedloom.values import Contribution, Digest, Tensors
from fedloom.versions import recipes
from fedloom.versions.content import Content
from fedloom.versions.merging.catalog import STRATEGIES
from fedloom.versions.objects import Commit, Entry, Input
from fedloom.versions.repository import Repository
from fedloom.versions.store import Store

SITES = ("north", "south")
LARGE = 20_000  # float32 elements: a file of its own


def on_disk(folder: Path) -> Repository:
    return Repository(Store.on_disk(folder))


def model(seed: int, large: int = LARGE) -> Tensors:
    """Make a model with a large and a small tensor; the large one changes little from seed to seed."""
    start = np.random.default_rng(7).normal(0, 0.05, large)
    step = np.random.default_rng(seed).normal(0, 1e-5, large)
    return {"body": (start + step).astype(np.float32), "head": np.full(3, seed, np.float32)}


def commit(content: Content, seed: int, *parents: Digest, kind: str = "train", **parts: Entry) -> Digest:
    """Commit a model whose tensors are stored."""
    like = content.tree(content.part(parents[0], "model").id) if parents else None
    tree = content.add_tree({"model": content.add_tensors(model(seed), like), **parts})
    return content.add_commit(Commit(tree.id, parents, kind, f"model {seed}"))


def chain(content: Content, count: int, ref: str = "heads/main") -> list[Digest]:
    """Commit some models, one after the other, and point a ref to the last."""
    made: list[Digest] = []
    for seed in range(count):
        made.append(commit(content, seed, *made[-1:]))
    content.refs.compare_and_set(ref, content.refs.get(ref), made[-1], "made")
    return made


def folded(content: Content, parent: Digest, updates: Mapping[str, Tensors], *, stored: bool = False) -> Digest:
    """Commit a round whose updates are stored and whose model is a recipe; stored as well only if told so."""
    receipts = {site: content.add_tensors(update) for site, update in updates.items()}
    given = [Contribution(site, update, 1.0) for site, update in updates.items()]
    merged = STRATEGIES["fedavg"]().merge(content.model(parent), given, {})
    named = content.add_tensors(merged.tensors) if stored else content.name_tensors(merged.tensors)
    recipe = recipes.fold_recipe({"use": "fedavg"}, [Input(site, entry.id, 1.0) for site, entry in receipts.items()])
    tree = content.add_tree({"model": named, "receipts": content.add_tree(receipts)})
    return content.add_commit(Commit(tree.id, (parent,), "round", "a round", {}, recipe))


def rounds(content: Content, count: int, ref: str = "heads/main") -> list[Digest]:
    """Commit a root and some rounds that are recipes; a ref points to the last."""
    made = [commit(content, 0)]
    for number in range(1, count + 1):
        updates = {site: model(10 * number + index) for index, site in enumerate(SITES)}
        made.append(folded(content, made[-1], updates))
    content.refs.compare_and_set(ref, content.refs.get(ref), made[-1], "made")
    return made


def entry_at(content: Content, commit: Digest, path: str) -> Entry:
    """Find what a commit has at a path."""
    found = Entry("tree", content.commit(commit).tree)
    for name in path.split("/"):
        found = content.tree(found.id)[name]
    return found


def file_of(folder: Path, id_: Digest) -> Path:
    """Find the file of a large object."""
    return folder / "objects" / id_[:2] / id_


def spoil(path: Path, at: int = -1) -> None:
    """Flip the bits of one byte of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


def made_of(content: Content, commits: list[Digest]) -> dict[Digest, dict[str, bytes]]:
    """Read models as bytes, to compare them before and after."""
    return {id_: {name: array.tobytes() for name, array in content.model(id_).items()} for id_ in commits}
