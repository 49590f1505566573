"""The repository: the verbs of version control over what a store holds."""

from __future__ import annotations

from pathlib import Path

from fedloom.versions.content import Content
from fedloom.versions.store import Store

FOLDER = ".fedloom"


class Repository(Content):
    """The history of a federated model, and everything that can be done with it without a site."""

    @classmethod
    def at(cls, project: Path | str) -> Repository:
        """Open the repository of a project folder (its `.fedloom`), which is created if need be."""
        return cls(Store.on_disk(Path(project).resolve() / FOLDER))

    @classmethod
    def exists_at(cls, project: Path | str) -> bool:
        """Whether a project folder has a repository already."""
        return (Path(project) / FOLDER).is_dir()
