"""What a store holds, by meaning: tensors, trees, commits, models, statements and refs.

Rules: objects before trees before commits before refs, so a process killed at any point leaves whole history and
at most some unreferenced objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from fedloom.errors import ConflictError, NotFoundError
from fedloom.values import Digest, Tensor, Tensors
from fedloom.versions import objects, recipes, revisions
from fedloom.versions.database import Database
from fedloom.versions.history import first_parents
from fedloom.versions.leases import Lease
from fedloom.versions.objects import Attestation, Commit, Conflict, Encoded, Entry, Kind, Tree
from fedloom.versions.parallel import spread
from fedloom.versions.refs import Refs
from fedloom.versions.settings import SettingsFile
from fedloom.versions.store import Store


class Content:
    """Commits, trees, tensors and refs in one store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.lease = Lease(store)
        self.database = Database(store, self.lease)
        self.refs = Refs(store, partial(_stays, self.lease, self.database))
        self.settings = SettingsFile(store)

    # writing

    def hold(self) -> None:
        """Keep others from clearing anything away from now on; whoever is doing so already is waited for.

        To be called before it is asked what is here by whoever relies on the answer; every write does so itself.
        """
        self.lease.hold()

    def add_tensors(self, tensors: Tensors, like: Mapping[str, Entry] | None = None) -> Entry:
        """Store named tensors as a tree; unchanged ones are stored once.

        like: the tree they come from, such as the model before; stored as differences to it they take less room.
        """
        before = like or {}

        def add(name: str) -> Entry:
            earlier = before[name].id if name in before else None
            return self._put("tensor", objects.encode_tensor(tensors[name]), earlier)

        return self.add_tree(dict(zip(tensors, spread(add, tensors), strict=True)))

    def name_tensors(self, tensors: Tensors) -> Entry:
        """Store the tree that names tensors, and not the tensors: a recipe computes them when they are asked for."""
        return self.add_tree(objects.named(tensors).entries)

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
        """Store a commit whose tree and parents are stored already, safe from a power cut; moves no ref."""
        id_ = self._put("commit", objects.encode_commit(commit)).id
        self.database.flush()
        return id_

    def add_conflict(self, conflict: Conflict) -> Entry:
        """Store what a merge could not decide."""
        return self._put("conflict", objects.encode_conflict(conflict))

    def attest(self, subject: Digest, type_: str, body: Mapping[str, Any]) -> Digest:
        """State something about a commit; a later statement of the same type replaces the earlier as current."""
        id_ = self._put("attestation", objects.encode_attestation(Attestation(subject, type_, body))).id
        self.database.flush()
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
        return objects.decode_commit(self.database.get(id_))

    def tree(self, id_: Digest) -> Mapping[str, Entry]:
        """Read a tree's entries."""
        return objects.decode_tree(self.database.get(id_)).entries

    def tensors(self, id_: Digest) -> dict[str, Tensor]:
        """Read all tensors of a tree, as read-only arrays."""
        return self._tensors(self.tree(id_))

    def tensor(self, id_: Digest) -> Tensor:
        """Read one tensor, as a read-only array."""
        return objects.decode_tensor(self.database.get(id_))

    def conflict(self, id_: Digest) -> Conflict:
        """Read a conflict."""
        return objects.decode_conflict(self.database.get(id_))

    def blob(self, id_: Digest) -> bytes:
        """Read a blob."""
        return objects.decode_blob(self.database.get(id_))

    def part(self, commit: Digest, name: str) -> Entry | None:
        """Find a part of a commit (`model`, `optimizer`, `preprocessing`, `inputs`, `receipts`); None if absent."""
        return self.tree(self.commit(commit).tree).get(name)

    def model(self, commit: Digest) -> dict[str, Tensor]:
        """Read a commit's model; where it is not stored, compute it by the commit's recipe."""
        if self.part(commit, "model") is None:
            raise NotFoundError(f"commit {commit[:12]} has no model")
        return self.part_tensors(commit, "model")

    def part_tensors(self, commit: Digest, part: str) -> dict[str, Tensor]:
        """Read a part that holds tensors, such as `optimizer`, computing it where need be; {} when there is none."""
        entry = self.part(commit, part)
        entries = self.tree(entry.id) if entry else {}
        if unsettled := [f"{part}/{name}" for name, found in entries.items() if found.kind == "conflict"]:
            raise ConflictError(f"commit {commit[:12]} has open conflicts at {', '.join(unsettled[:3])}: resolve them")
        if part in objects.PARTS and self.commit(commit).recipe and not all(self.has(e.id) for e in entries.values()):
            made = recipes.compute(self, commit)
            return {name: made[found.id] for name, found in entries.items()}
        return self._tensors(entries)

    def has(self, id_: Digest) -> bool:
        """Whether an object is here; its bytes are not read."""
        return self.database.has(id_)

    def attestation(self, subject: Digest, type_: str) -> Attestation | None:
        """Read the current statement of a type about a commit; None when there is none, or it is about another."""
        found = self.filed(subject, type_)
        return found if found is not None and (found.subject, found.type) == (subject, type_) else None

    def filed(self, subject: Digest, type_: str) -> Attestation | None:
        """Read what is filed as a statement, whatever it says: anybody may have put it there; `verify` looks."""
        id_ = self.refs.get(f"attestations/{subject}/{type_}")
        return objects.decode_attestation(self.database.get(id_)) if id_ else None

    def log(self, tip: Digest) -> Iterator[tuple[Digest, Commit]]:
        """Walk from a commit to its root along first parents, newest first."""
        return first_parents(tip, self.commit)

    def resolve(self, name: str) -> Digest:
        """Find the commit meant by a name, such as `main`, `runs/3`, `HEAD~2` or first digits; see `revisions`."""
        return revisions.resolve(self, name)

    def commits_from(self, digits: str) -> list[Digest]:
        """List the commits whose ids begin with these digits."""
        return [id_ for id_ in self.database.ids(digits) if self._is_commit(id_)]

    def _is_commit(self, id_: Digest) -> bool:
        return objects.kind_of(self.database.get(id_)) == "commit"

    def _tensors(self, entries: Mapping[str, Entry]) -> dict[str, Tensor]:
        return dict(zip(entries, spread(lambda entry: self.tensor(entry.id), entries.values()), strict=True))

    def _put(self, kind: Kind, encoded: Encoded, like: Digest | None = None) -> Entry:
        self.database.put(encoded, like)
        return Entry(kind, encoded.id)


def _stays(lease: Lease, database: Database, id_: Digest) -> bool:
    """Whether an object is here and stays for a ref that is about to point to it.

    No method: refs that hold on to the content would keep its lease after everybody has let go of it.
    """
    lease.hold()
    return database.has(id_)
