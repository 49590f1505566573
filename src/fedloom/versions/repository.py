"""The repository: the verbs of version control over what a store holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedloom.values import Digest
from fedloom.versions import branches, merge_landing, signing
from fedloom.versions.branches import Branch
from fedloom.versions.conflicts import open_conflicts
from fedloom.versions.content import Content
from fedloom.versions.diff import Diff, diff
from fedloom.versions.history import merge_bases
from fedloom.versions.keys import PublicKey, SigningKey
from fedloom.versions.merge import How, MergeOutcome, merge
from fedloom.versions.merge_landing import Measure
from fedloom.versions.merge_replay import cherry_pick, revert_commit
from fedloom.versions.objects import Conflict
from fedloom.versions.revisions import HEAD
from fedloom.versions.store import Store
from fedloom.versions.verify import Progress, Verdict, verify

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

    # branches, tags, history

    def branches(self) -> list[Branch]:
        """List all branches, sorted by name."""
        return branches.branches(self)

    def branch(self, name: str, start: str = HEAD) -> Digest:
        """Make a branch at a commit, by default the tip of the current branch; gives where it points."""
        return branches.create(self, name, start)

    def delete_branch(self, name: str, *, force: bool = False) -> Digest:
        """Delete a branch and give where it pointed; work that nothing else has needs `force`."""
        return branches.delete(self, name, force=force)

    def switch(self, name: str, *, create: bool = False, start: str = HEAD) -> Digest | None:
        """Make a branch the current one, after making it if `create`; gives its tip, None before the first commit."""
        return branches.switch_to_new(self, name, start) if create else branches.switch(self, name)

    def tags(self) -> dict[str, Digest]:
        """List all tags by name."""
        return branches.tags(self)

    def tag(self, name: str, start: str = HEAD) -> Digest:
        """Name a commit for good; gives the commit."""
        return branches.tag(self, name, start)

    def delete_tag(self, name: str) -> Digest:
        """Delete a tag and give the commit it named."""
        return branches.delete_tag(self, name)

    def protect(self, ref: str) -> str:
        """Protect a branch or tag against unmeasured merges; gives its full name."""
        return branches.protect(self, ref)

    def unprotect(self, ref: str) -> str:
        """Take the protection from a branch or tag; gives its full name."""
        return branches.unprotect(self, ref)

    def merge_base(self, *heads: Digest) -> list[Digest]:
        """Find the best common ancestors of commits: several after criss-cross merges, none of unrelated histories."""
        return merge_bases(heads, self.commit)

    def diff(self, old: Digest, new: Digest, *, tensors: bool = False) -> Diff:
        """Compare two commits entry by entry; with `tensors`, the numbers of those that changed too."""
        return diff(self, old, new, tensors=tensors)

    # merging

    def merge(
        self,
        *names: str,
        how: How = How(),  # noqa: B008  a frozen value
        message: str = "",
        measure: Measure[Any] | None = None,
    ) -> MergeOutcome:
        """Merge commits into the current branch; with open conflicts the merge waits under `merging/<branch>`.

        measure: judges the merged commit before a branch moves to it, such as `fedloom.local.measure` does.
        """
        branch = self.settings.read().branch
        ours, theirs = merge_landing.tip(self, branch), [self.resolve(name) for name in names]
        outcome = merge(self, ours, theirs, how, message=message, names=(branch, *names))
        merge_landing.land(self, branch, outcome, measure)
        return outcome

    def continue_merge(self, measure: Measure[Any] | None = None) -> Digest:
        """Move the current branch to the merge under way once nothing is open; gives its commit."""
        return merge_landing.conclude(self, self.settings.read().branch, measure)[0]

    def abort_merge(self) -> Digest:
        """Give up the merge under way into the current branch; gives its commit."""
        return merge_landing.abort(self, self.settings.read().branch)

    def merge_under_way(self) -> Digest | None:
        """Find the merge that waits to reach the current branch; None when there is none."""
        return merge_landing.under_way(self, self.settings.read().branch)

    def conflicts(self, commit: Digest) -> dict[str, Conflict]:
        """List a commit's open conflicts by path."""
        return open_conflicts(self, commit)

    def settle(self, path: str, take: str) -> Digest:
        """Settle conflicts of the merge under way; take: ours, theirs, base, a head's number or a branch strategy."""
        return merge_landing.resolve(self, self.settings.read().branch, path, take)

    def cherry_pick(
        self,
        name: str,
        *,
        mainline: int | None = None,
        rules: Sequence[str] = (),
        measure: Measure[Any] | None = None,
    ) -> MergeOutcome:
        """Do the change of one commit again on the current branch."""
        branch = self.settings.read().branch
        head = merge_landing.tip(self, branch)
        outcome = cherry_pick(self, head, self.resolve(name), mainline=mainline, rules=rules)
        merge_landing.land(self, branch, outcome, measure)
        return outcome

    def revert(
        self,
        name: str,
        *,
        mainline: int | None = None,
        rules: Sequence[str] = (),
        measure: Measure[Any] | None = None,
    ) -> MergeOutcome:
        """Undo the change of one commit on the current branch."""
        branch = self.settings.read().branch
        head = merge_landing.tip(self, branch)
        outcome = revert_commit(self, head, self.resolve(name), mainline=mainline, rules=rules)
        merge_landing.land(self, branch, outcome, measure)
        return outcome

    # trust

    def sign(self, commit: Digest, key: SigningKey, who: str = "") -> Digest:
        """Sign a commit and keep the signature beside it; gives the attestation's id."""
        return signing.sign(self, commit, key, who)

    def trust(self, name: str, key: PublicKey) -> None:
        """Trust a key as a name from now on."""
        signing.trust(self, name, key)

    def distrust(self, name: str) -> None:
        """Trust a name no longer."""
        signing.distrust(self, name)

    def trusted(self) -> dict[str, PublicKey]:
        """List whom this repository trusts, by name."""
        return signing.trusted(self)

    def verify(
        self,
        commit: Digest,
        *,
        depth: int | None = None,
        require: tuple[str, ...] = (),
        signed: bool = False,
        progress: Progress | None = None,
    ) -> Verdict:
        """Check a commit and its history: hashes, parents, statements, signatures; rounds are computed anew."""
        return verify(self, commit, depth=depth, require=require, signed=signed, progress=progress)
