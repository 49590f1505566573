"""Reading where not every tensor was fetched: what is absent by choice is told so, and how to bring it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from fedloom.errors import NotFoundError
from fedloom.versions.content import Content
from fedloom.versions.objects import Entry


@contextmanager
def left_out_is_told(content: Content, entries: Mapping[str, Entry]) -> Iterator[None]:
    """Name the tensor that was not fetched, where reading one of `entries` fails for it."""
    try:
        yield
    except NotFoundError:
        tensors = {name: entry.id for name, entry in entries.items() if entry.kind == "tensor"}
        absent = [name for name, id_ in tensors.items() if not content.has(id_)]
        if not absent or not content.settings.read().only:
            raise
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        todo = f"`fedloom fetch --only '{absent[0]}'` brings it, `fedloom fetch --only '*'` all"
        raise NotFoundError(f"tensor '{absent[0]}'{more} was not fetched: {todo}") from None
