"""The repository: the verbs of version control over one store.

Rules: objects before trees before commits before refs, so a process killed at any point leaves whole history and
at most some unreferenced objects. Every read checks the id.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fedloom.errors import ConflictError, CorruptObjectError, NotFoundError, VersionsError
from fedloom.values import Digest, Tensor, Tensors, sha256
from fedloom.versions import objects
from fedloom.versions.history import first_parents
from fedloom.versions.objects import Attestation, Commit, Encoded, Entry, Kind, Tree
from fedloom.versions.refs import Refs, is_ref_name
from fedloom.versions.store import Store

FOLDER = ".fedloom"
_STORED = b"fls"
_STORED_PLAIN = _STORED + b"\x00"  # storage header: "fls" and the encoding; 0 is the canonical bytes as they are


class Repository:
    """Commits, trees, tensors and refs in one store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.refs = Refs(store)
        self._present: set[Digest] = set()

    @classmethod
    def at(cls, project: Path | str) -> Repository:
        """Open the repository of a project folder (its `.fedloom`), which is created if need be."""
        return cls(Store.on_disk(Path(project).resolve() / FOLDER))

    @classmethod
    def exists_at(cls, project: Path | str) -> bool:
        """Whether a project folder has a repository already."""
        return (Path(project) / FOLDER).is_dir()

    # writing

    def add_tensors(self, tensors: Tensors) -> Entry:
        """Store named tensors as a tree; unchanged ones are stored once."""
        entries = {name: self._put("tensor", objects.encode_tensor(array)) for name, array in tensors.items()}
        return self.add_tree(entries)

    def add_blob(self, data: bytes) -> Entry:
        """Store bytes."""
        return self._put("blob", objects.encode_blob(data))

    def add_json(self, value: Any) -> Entry:
        """Store a JSON value in its canonical form."""
        return self._put("blob", objects.encode_json(value))

    def add_tree(self, entries: Mapping[str, Entry]) -> Entry:
        """Store a tree."""
        return self._put("tree", objects.encode_tree(Tree(entries)))

    def add_commit(self, commit: Commit) -> Digest:
        """Store a commit whose tree and parents are stored already; moves no ref."""
        return self._put("commit", objects.encode_commit(commit)).id

    def attest(self, subject: Digest, type_: str, body: Mapping[str, Any]) -> Digest:
        """State something about a commit; a later statement of the same type replaces the earlier as current."""
        id_ = self._put("attestation", objects.encode_attestation(Attestation(subject, type_, body))).id
        name = f"attestations/{subject}/{type_}"
        while (current := self.refs.get(name)) != id_:
            try:
                self.refs.compare_and_set(name, current, id_, type_)
            except ConflictError:
                continue  # another process stated something just now; ours is the later
            break
        return id_

    # reading

    def commit(self, id_: Digest) -> Commit:
        """Read a commit."""
        return objects.decode_commit(self._get(id_))

    def tree(self, id_: Digest) -> Mapping[str, Entry]:
        """Read a tree's entries."""
        return objects.decode_tree(self._get(id_)).entries

    def tensors(self, id_: Digest) -> dict[str, Tensor]:
        """Read all tensors of a tree, as read-only arrays."""
        return {name: objects.decode_tensor(self._get(entry.id)) for name, entry in self.tree(id_).items()}

    def blob(self, id_: Digest) -> bytes:
        """Read a blob."""
        return objects.decode_blob(self._get(id_))

    def part(self, commit: Digest, name: str) -> Entry | None:
        """Find a part of a commit (`model`, `optimizer`, `preprocessing`, `inputs`, `receipts`); None if absent."""
        return self.tree(self.commit(commit).tree).get(name)

    def model(self, commit: Digest) -> dict[str, Tensor]:
        """Read a commit's model."""
        entry = self.part(commit, "model")
        if entry is None:
            raise NotFoundError(f"commit {commit[:12]} has no model")
        return self.tensors(entry.id)

    def attestation(self, subject: Digest, type_: str) -> Attestation | None:
        """Read the current statement of a type about a commit; None when there is none."""
        id_ = self.refs.get(f"attestations/{subject}/{type_}")
        return objects.decode_attestation(self._get(id_)) if id_ else None

    def log(self, tip: Digest) -> Iterator[tuple[Digest, Commit]]:
        """Walk from a commit to its root along first parents, newest first."""
        return first_parents(tip, self.commit)

    def resolve(self, name: str) -> Digest:
        """Find the commit meant by a ref (`main`, `runs/3`), a full id, or the first digits of one."""
        for ref in (name, f"heads/{name}"):
            if is_ref_name(ref) and (target := self.refs.get(ref)):
                return target
        if re.fullmatch(r"[0-9a-f]{4,64}", name):
            return self._complete(name)
        known = ", ".join(self.refs.names("heads/") + self.refs.names("runs/")) or "none yet"
        raise NotFoundError(f"no commit or ref '{name}'. Refs: {known}")

    def _complete(self, prefix: str) -> Digest:
        names = self.store.names(f"objects/{prefix[:2]}")
        found = [id_ for id_ in names if id_.startswith(prefix) and self._is_commit(Digest(id_))]
        if len(found) > 1:
            raise VersionsError(f"'{prefix}' fits {len(found)} commits: give more digits")
        if not found:
            raise NotFoundError(f"no commit starts with '{prefix}': see `fedloom log`")
        return Digest(found[0])

    def _is_commit(self, id_: Digest) -> bool:
        return bytes(self._get(id_)[:15]) == b"fedloom commit "

    # storage

    def _put(self, kind: Kind, encoded: Encoded) -> Entry:
        if encoded.id not in self._present:
            self.store.create(_path(encoded.id), [_STORED_PLAIN, encoded.header, encoded.payload])
            self._present.add(encoded.id)
        return Entry(kind, encoded.id)

    def _get(self, id_: Digest) -> memoryview:
        try:
            stored = self.store.get(_path(id_))
        except NotFoundError:
            raise NotFoundError(f"object {id_[:12]} is missing from the repository") from None
        data = memoryview(stored)[len(_STORED_PLAIN) :]
        if stored.startswith(_STORED_PLAIN) and sha256(data) == id_:
            return data
        if stored.startswith(_STORED) and len(stored) > len(_STORED) and not stored.startswith(_STORED_PLAIN):
            raise CorruptObjectError(f"object {id_[:12]} is stored in an unknown encoding: upgrade fedloom")
        problem = "its bytes do not match its id"
        raise CorruptObjectError(f"object {id_[:12]} is corrupt: {problem}. Restore {_path(id_)} from a copy")


def _path(id_: Digest) -> str:
    return f"objects/{id_[:2]}/{id_}"
