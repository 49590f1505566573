"""The updates a site sent, kept at the site: the hub knows their ids and asks for the bytes when it needs them.

Rules: each is stored as the difference to the one before; a site may delete them at any time, and the hub is then
told which are missing.
"""

from __future__ import annotations

from collections.abc import Mapping

from fedloom.errors import NotFoundError
from fedloom.values import Digest, Tensors
from fedloom.versions.content import Content
from fedloom.versions.objects import Entry


class KeptUpdates:
    """The updates of one site, by the id its receipt names."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._before: Mapping[str, Entry] = {}

    def keep(self, update: Tensors) -> None:
        """Keep one update."""
        tree = self._content.add_tensors(update, self._before)
        self._content.database.flush()
        self._before = self._content.tree(tree.id)

    def find(self, id_: Digest) -> Tensors | None:
        """Find an update; None when it is not here (any more)."""
        try:
            return self._content.tensors(id_)
        except NotFoundError:
            return None
