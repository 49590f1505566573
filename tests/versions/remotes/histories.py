"""Histories to send about, and a judge of whether what arrived is whole that shares no code with what sent it."""

from collections.abc import Iterator, Mapping

import numpy as np

from fedloom.errors import NotFoundError
from fedloom.values import Digest, Tensors, generator
from fedloom.versions import objects
from fedloom.versions.content import Content
from fedloom.versions.objects import Commit, CommitKind, Entry
from fedloom.versions.store import Store

SHAPE = (160, 128)  # 80 KiB: large enough for a file of its own


def repository(path=None) -> Content:
    """Make an empty repository, on disk where a path is given."""
    return Content(Store.in_memory() if path is None else Store.on_disk(path))


def model(step: int = 0, frozen: int = 0, seed: str = "model") -> Tensors:
    """Make weights of four layers after some steps of training; the first `frozen` layers stand still."""
    tensors: dict[str, np.ndarray] = {}
    for layer in range(4):
        name = f"encoder.{layer}" if layer < 2 else f"head.{layer}"
        weight = generator(seed, layer).normal(0, 0.05, SHAPE)
        for done in range(step if layer >= frozen else 0):
            weight = weight + generator(seed, layer, done).normal(0, 2e-4, SHAPE)
        tensors[f"{name}.w"] = weight.astype(np.float32)
        tensors[f"{name}.b"] = np.full(8, 100 * layer + (step if layer >= frozen else 0), np.float32)
    return tensors


def commit(
    content: Content,
    tensors: Tensors | Entry,
    *parents: Digest,
    branch: str | None = "main",
    kind: CommitKind | None = None,
    parts: Mapping[str, Entry] | None = None,
    message: str = "m",
    recipe: objects.Recipe | None = None,
) -> Digest:
    """Commit a model, and move a branch to it."""
    before = content.part(parents[0], "model") if parents else None
    like = content.tree(before.id) if before else None
    entry = tensors if isinstance(tensors, Entry) else content.add_tensors(tensors, like)
    notes = content.add_json({"message": message, "step": len(parents)})
    tree = content.add_tree({"model": entry, "notes": notes, **(parts or {})})
    facts = {"parents": len(parents)}
    made = Commit(tree.id, parents, kind or ("round" if parents else "import"), message, facts, recipe)
    id_ = content.add_commit(made)
    if branch:
        content.refs.compare_and_set(f"heads/{branch}", content.refs.get(f"heads/{branch}"), id_, message)
    return id_


def rounds(content: Content, count: int, *, frozen: int = 0, branch: str = "main") -> list[Digest]:
    """Commit a root and some rounds; gives all ids, oldest first."""
    made: list[Digest] = []
    for step in range(count + 1):
        made.append(commit(content, model(step, frozen), *made[-1:], branch=branch, message=f"round {step}"))
    return made


def missing_from(content: Content, tips: list[Digest]) -> list[str]:
    """List what is not whole of all that some commits reach: read, held to its id, and followed by hand."""
    wrong: list[str] = []
    seen: set[Digest] = set()
    queue = [("commit", tip) for tip in tips]
    while queue:
        kind, id_ = queue.pop()
        if id_ in seen:
            continue
        seen.add(id_)
        try:
            data = content.database.get(id_)
        except NotFoundError:
            if not content.store.exists(f"erased/{id_}"):
                wrong.append(f"{kind} {id_[:12]}")
            continue
        if kind == "commit":
            found = objects.decode_commit(data)
            queue += [("tree", found.tree), *(("commit", parent) for parent in found.parents)]
        elif kind == "tree":
            entries = objects.decode_tree(data).entries.values()
            queue += [(entry.kind, entry.id) for entry in entries if entry.keep == "stored"]
    return wrong


def not_whole(content: Content) -> list[str]:
    """List what is not whole behind any ref, and behind any commit that is there at all."""
    refs = [content.refs.get(name) for name in content.refs.names() if not name.startswith("attestations/")]
    commits = [id_ for id_ in content.database.ids() if objects.kind_of(content.database.get(id_)) == "commit"]
    return missing_from(content, [*(target for target in refs if target), *commits])


def everything(content: Content) -> dict[Digest, bytes]:
    """Read all objects of a repository."""
    return {id_: bytes(content.database.get(id_)) for id_ in content.database.ids()}


def all_named(content: Content, tip: Digest) -> Iterator[Digest]:
    """List the ids of a commit's tensors."""
    entry = content.part(tip, "model")
    assert entry is not None
    return (found.id for found in content.tree(entry.id).values())
