"""Whether a model that is not stored could be computed, without computing it."""

from __future__ import annotations

from collections.abc import Iterator

from fedloom.errors import FedloomError
from fedloom.values import Digest
from fedloom.versions import objects, recipes, tombstones
from fedloom.versions.content import Content
from fedloom.versions.objects import Commit, Input


class Computable:
    """Answers for the commits of one repository; each is looked at once."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._known: dict[Digest, str | None] = {}

    def why_not(self, commit: Digest) -> str | None:
        """Say why a commit's model cannot be computed by its recipe; None when it can.

        The chain of recipes is walked without recursion: it may be as long as the history.
        """
        stack = [commit]
        while stack:
            at = stack[-1]
            try:
                waiting = [id_ for id_ in self._absent_models(at) if id_ not in self._known]
                if not waiting:
                    self._known[stack.pop()] = self._answer(at)
                else:
                    stack += waiting
            except FedloomError as error:
                self._known[stack.pop()] = str(error)
        return self._known[commit]

    def _answer(self, id_: Digest) -> str | None:
        commit = self._content.commit(id_)
        if commit.recipe is None:
            return f"commit {id_[:12]} has no recipe"
        for part in commit.recipe.inputs:
            if missing := self._missing(commit, part):
                return f"what '{part.name}' gave to commit {id_[:12]} is {missing}"
        reasons = (self._known[needed] for needed in self._absent_models(id_))
        return next((reason for reason in reasons if reason), None)

    def _absent_models(self, id_: Digest) -> Iterator[Digest]:
        """List the commits whose models the recipe reads and that are not stored."""
        commit = self._content.commit(id_)
        algorithm = recipes.ALGORITHMS.get(commit.recipe.algorithm) if commit.recipe else None
        for needed in algorithm.needs(commit, self._content) if algorithm else ():
            if recipes.unstored(self._content, needed):
                yield needed

    def _missing(self, commit: Commit, part: Input) -> str | None:
        """Say what is wrong with a tree that a recipe reads; of commits only their models matter."""
        if part.id in commit.parents:
            return None
        if not self._content.has(part.id):
            return self._gone(part.id)
        if objects.kind_of(self._content.database.get(part.id)) != "tree":
            return None
        lacking = [entry.id for entry in self._content.tree(part.id).values() if not self._content.has(entry.id)]
        return self._gone(lacking[0]) if lacking else None

    def _gone(self, id_: Digest) -> str:
        tombstone = tombstones.find(self._content.store, id_)
        return str(tombstone) if tombstone else "not here"
