"""fedloom: DevOps for federated learning.

The public API is what `__all__` lists; everything else may change.
"""

from typing import TYPE_CHECKING

from fedloom._version import __version__

if TYPE_CHECKING:
    from fedloom.errors import FedloomError
    from fedloom.versions.repository import Repository

__all__ = ["FedloomError", "Repository", "__version__"]


def __getattr__(name: str) -> object:
    """Load the heavier names when first asked for, so that `import fedloom` stays cheap."""
    if name == "Repository":
        from fedloom.versions.repository import Repository

        return Repository
    if name == "FedloomError":
        from fedloom.errors import FedloomError

        return FedloomError
    raise AttributeError(name)
