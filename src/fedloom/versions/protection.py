"""Protected refs: what may not move there, and why.

Rules: a protected ref takes no commit with open conflicts. It takes what came of recombining models - a merge, a
revert, a replayed change - only when a `gate` statement about that very commit says it passed; that holds for all that
is new behind its tip. A tip of any kind that a gate refused is not taken either. A passed gate covers what its commit
was made from, for the model was measured as it is.
"""

from __future__ import annotations

from collections.abc import Iterator

from fedloom.errors import GateError
from fedloom.values import Digest
from fedloom.versions import signing
from fedloom.versions.conflicts import require_clean
from fedloom.versions.content import Content
from fedloom.versions.history import ancestors
from fedloom.versions.objects import Attestation, Commit

GATE = "gate"
_RECOMBINED = ("merge", "revert")
_REPLAYED = ("replayed", "reverted")


def move(content: Content, name: str, old: Digest | None, new: Digest, why: str) -> None:
    """Move a ref by compare-and-set, if it is not protected against this; raises as `require_allowed` does."""
    require_allowed(content, name, new, old)
    content.refs.compare_and_set(name, old, new, why)


def require_allowed(
    content: Content, name: str, new: Digest, old: Digest | None = None, *, signed: bool = False
) -> None:
    """Raise GateError when a protected ref may not go from `old` to `new`, ConflictError when conflicts are open.

    signed: a gate counts only where somebody trusted here signed its commit; for moves that strangers ask for.
    """
    if name not in content.settings.read().protected:
        return
    require_clean(content, new)
    for id_, gate in judged(content, old, new):
        if gate is None:
            todo = f"measure it with `fedloom merge {id_[:12]}` in its project, or use another branch"
            raise GateError(f"{name} is protected and {id_[:12]} was never measured: {todo}")
        if not passed(gate):
            raise GateError(f"{name} is protected and {id_[:12]} did not pass its gate: see `fedloom show {id_[:12]}`")
        if signed and is_recombined(content.commit(id_)) and not is_vouched(content, id_):
            told = f"{name} is protected, and nobody who is trusted there signed {id_[:12]}, so its gate does not count"
            raise GateError(f"{told}: sign it with `fedloom sign` and a key that is trusted there, then push again")


def judged(content: Content, old: Digest | None, new: Digest) -> Iterator[tuple[Digest, Attestation | None]]:
    """List the commits of `old..new` that a gate has to judge, newest first, each with its gate.

    What is only behind a commit whose gate passed is left out.
    """
    known = {id_ for id_, _ in ancestors([old] if old else [], content.commit)}
    seen, queue = set(known), [new]
    while queue:
        id_ = queue.pop()
        if id_ in seen:
            continue
        seen.add(id_)
        commit, gate = content.commit(id_), content.attestation(id_, GATE)
        if is_recombined(commit) or (id_ == new and gate is not None):
            yield id_, gate
            if passed(gate):
                continue
        queue += commit.parents


def is_recombined(commit: Commit) -> bool:
    """Whether a commit's model came of recombining others, by its kind, parents, facts or recipe."""
    is_told = commit.kind in _RECOMBINED or any(fact in commit.facts for fact in _REPLAYED)
    is_merged = commit.recipe is not None and commit.recipe.algorithm.startswith("merge/")
    return is_told or is_merged or len(commit.parents) > 1


def passed(gate: Attestation | None) -> bool:
    """Whether a gate says so: anything but a plain true is no."""
    return gate is not None and gate.body.get("passed") is True


def is_vouched(content: Content, commit: Digest) -> bool:
    """Whether a key that this repository trusts signed the commit."""
    return any(one.holds for one in signing.signatures(content, commit))
