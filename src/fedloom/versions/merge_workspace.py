"""Where a merge works: it reads what the sides have, and puts what it makes into a store, or only into memory.

Rules: the bases of a criss-cross history and models that a recipe computes are made in memory and leave nothing
behind; only the merge itself is stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from fedloom.values import Digest, Tensor, tensor_spec
from fedloom.versions.merge_sides import Reader
from fedloom.versions.merging.threeway import Spec
from fedloom.versions.objects import Conflict, Encoded, Entry, encode_conflict, encode_json, encode_tensor


class Keeper(Protocol):
    """What can store what a merge makes."""

    def put(self, encoded: Encoded, like: Digest | None = None) -> None:
        """Keep an object; `like` is an earlier version of it."""
        ...


class Workspace:
    """Objects at hand: read from below, or made here.

    keeper: where what is made is stored. tensors: whether tensors are, too; their ids do for a recipe.
    """

    def __init__(self, below: Reader, keeper: Keeper | None = None, *, tensors: bool = True) -> None:
        self._below = below
        self._keeper = keeper
        self._keeps_tensors = tensors
        self._tensors: dict[Digest, Tensor] = {}
        self._blobs: dict[Digest, bytes] = {}
        self._specs: dict[Digest, Spec] = {}

    def lay(self, tensors: Mapping[Digest, Tensor]) -> None:
        """Bring tensors that are not stored below."""
        self._tensors.update(tensors)

    def keeping(self, keeper: Keeper, *, tensors: bool = True) -> Workspace:
        """Go on with what is at hand, storing what is made from now on."""
        onward = Workspace(self._below, keeper, tensors=tensors)
        onward._tensors, onward._blobs, onward._specs = self._tensors, self._blobs, self._specs
        return onward

    def keep(self, entry: Entry | None) -> None:
        """Store a tensor that is only in memory."""
        if self._keeper and entry and entry.id in self._tensors:
            self._keeper.put(encode_tensor(self._tensors[entry.id]))

    def tensor(self, entry: Entry) -> Tensor:
        """Read a tensor."""
        made = self._tensors.get(entry.id)
        return self._below.tensor(entry.id) if made is None else made

    def look(self, entry: Entry) -> Spec | None:
        """Give dtype and shape; None for what is no tensor here."""
        if entry.kind != "tensor" or entry.keep != "stored":
            return None
        if entry.id not in self._specs:
            spec = tensor_spec("", self.tensor(entry))
            self._specs[entry.id] = spec.dtype, spec.shape
        return self._specs[entry.id]

    def json(self, entry: Entry | None) -> Any:
        """Read a blob as JSON; None where there is none, or it holds something else."""
        if entry is None or entry.kind != "blob" or entry.keep != "stored":
            return None
        try:
            return json.loads(self._blobs.get(entry.id) or self._below.blob(entry.id))
        except ValueError:
            return None

    def add_tensor(self, array: Tensor, like: Entry | None) -> Entry:
        """Make a tensor; `like` is where it comes from."""
        encoded = encode_tensor(array)
        if self._keeper and self._keeps_tensors:
            self._keeper.put(encoded, like.id if like else None)
        else:
            self._tensors[encoded.id] = array
        return Entry("tensor", encoded.id)

    def add_json(self, value: Any) -> Entry:
        """Make a blob of a JSON value."""
        encoded = encode_json(value)
        if self._keeper:
            self._keeper.put(encoded)
        else:
            self._blobs[encoded.id] = bytes(encoded.payload)
        return Entry("blob", encoded.id)

    def add_conflict(self, conflict: Conflict) -> Entry:
        """Make a conflict; what it lets one choose from is stored with it."""
        encoded = encode_conflict(conflict)
        for entry in (conflict.base, *conflict.heads):
            self.keep(entry)
        if self._keeper:
            self._keeper.put(encoded)
        return Entry("conflict", encoded.id)
