"""Protected refs: what may not move there, and why.

Rules: a protected ref takes no commit with open conflicts. It takes what came of recombining models - a merge, a
revert, a replayed change - only when a `gate` statement about that very commit says it passed.
"""

from __future__ import annotations

from fedloom.errors import GateError
from fedloom.values import Digest
from fedloom.versions.conflicts import require_clean
from fedloom.versions.content import Content

GATE = "gate"
_RECOMBINED = ("merge", "revert")


def move(content: Content, name: str, old: Digest | None, new: Digest, why: str) -> None:
    """Move a ref by compare-and-set, if it is not protected against this; raises as `require_allowed` does."""
    require_allowed(content, name, new)
    content.refs.compare_and_set(name, old, new, why)


def require_allowed(content: Content, name: str, new: Digest) -> None:
    """Raise GateError when a protected ref may not take this commit, ConflictError when conflicts are open in it."""
    if name not in content.settings.read().protected:
        return
    require_clean(content, new)
    if content.commit(new).kind not in _RECOMBINED:
        return
    gate = content.attestation(new, GATE)
    if gate is None:
        todo = "measure it with `fedloom merge` in its project, or use another branch"
        raise GateError(f"{name} is protected and {new[:12]} was never measured: {todo}")
    if not gate.body["passed"]:
        raise GateError(f"{name} is protected and {new[:12]} did not pass its gate: see `fedloom show {new[:12]}`")
