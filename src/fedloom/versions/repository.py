"""The repository: the verbs of version control over what a store holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from fedloom.errors import SpecError
from fedloom.values import Digest, Tensor
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
from fedloom.versions.remotes import addresses, sync
from fedloom.versions.remotes.sparse import left_out_is_told
from fedloom.versions.remotes.sync import CURRENT, Pushing, Synced, quietly
from fedloom.versions.remotes.transfer import Watch
from fedloom.versions.revisions import HEAD
from fedloom.versions.store import Store
from fedloom.versions.upkeep.erase import Choice, Erased, erase
from fedloom.versions.upkeep.fsck import Report, fsck
from fedloom.versions.upkeep.gc import GRACE, REFLOG, Collected, gc
from fedloom.versions.upkeep.repair import Repaired, repair
from fedloom.versions.verify import Progress, Verdict, verify

FOLDER = ".fedloom"


def _is_bare(folder: Path) -> bool:
    """Whether a folder is itself a repository, such as one that was pushed to: refs of ours, and objects."""
    if (folder / FOLDER).is_dir() or not any((folder / name).is_dir() for name in ("objects", "bundles")):
        return False
    return next((folder / "refs").rglob("*.ref"), None) is not None


def _require_apart(url: str, options: Mapping[str, str], home: Path) -> None:
    """Refuse to clone a folder into itself."""
    address = addresses.kept_form(url, options)
    if not addresses.is_folder(address):
        return
    source = Path(address)
    if {source, source / FOLDER} & {home, home / FOLDER}:
        raise SpecError(f"{home} is the repository that is to be cloned: name another folder after the address")


class Repository(Content):
    """The history of a federated model, and everything that can be done with it without a site."""

    @classmethod
    def at(cls, project: Path | str) -> Repository:
        """Open the repository of a project folder (its `.fedloom`), which is created if need be, or a pushed folder."""
        home = Path(project).resolve()
        return cls(Store.on_disk(home if _is_bare(home) else home / FOLDER))

    @classmethod
    def exists_at(cls, project: Path | str) -> bool:
        """Whether a project folder has a repository already, or is one itself, as what was pushed to a folder is."""
        return (Path(project) / FOLDER).is_dir() or _is_bare(Path(project))

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
        return self._replayed(cherry_pick, name, mainline, rules, measure)

    def revert(
        self,
        name: str,
        *,
        mainline: int | None = None,
        rules: Sequence[str] = (),
        measure: Measure[Any] | None = None,
    ) -> MergeOutcome:
        """Undo the change of one commit on the current branch."""
        return self._replayed(revert_commit, name, mainline, rules, measure)

    def _replayed(
        self,
        verb: Callable[..., MergeOutcome],
        name: str,
        mainline: int | None,
        rules: Sequence[str],
        measure: Measure[Any] | None,
    ) -> MergeOutcome:
        branch = self.settings.read().branch
        head = merge_landing.tip(self, branch)
        outcome = verb(self, head, self.resolve(name), mainline=mainline, rules=rules)
        merge_landing.land(self, branch, outcome, measure)
        return outcome

    # remotes

    @classmethod
    def clone(
        cls, url: str, folder: Path | str, *, only: Sequence[str] = (), options: Mapping[str, str] | None = None
    ) -> Repository:
        """Copy another repository into a folder's `.fedloom`; a clone that was cut off goes on where it stopped.

        Raises SpecError where the folder is the other repository or holds other files.
        only: globs of tensor names to bring, such as `encoder.*`; remembered for later fetches.
        """
        repository = cls.for_clone(url, folder, options)
        sync.clone(repository, url, only=only, options=options)
        return repository

    @classmethod
    def for_clone(cls, url: str, folder: Path | str, options: Mapping[str, str] | None = None) -> Repository:
        """Make the empty repository that a clone fills, or open the one that a clone left when it was cut off."""
        home = Path(folder).resolve()
        _require_apart(url, options or {}, home)
        if not (home / FOLDER).is_dir():
            if home.exists() and (not home.is_dir() or any(home.iterdir())):
                raise SpecError(f"{folder} is there already and is not empty: name a new folder after the address")
            sync.require_reachable(url, options)
        return cls(Store.on_disk(home / FOLDER))

    def remotes(self) -> Mapping[str, str]:
        """List remotes by name, with their addresses."""
        return addresses.listed(self)

    def add_remote(self, name: str, url: str, options: Mapping[str, str] | None = None) -> str:
        """Remember another repository under a name; gives its address as it is kept."""
        return addresses.add(self, name, url, options)

    def remove_remote(self, name: str) -> None:
        """Forget another repository; what was fetched from it stays."""
        addresses.remove(self, name)

    def fetch(self, remote: str = "", *, only: Sequence[str] = (), watch: Watch = quietly) -> Synced:
        """Bring a remote's branches (`origin`, or the only remote there is), and move none of this side."""
        return sync.fetch(self, remote or addresses.only_remote(self), only=only, watch=watch)

    def pull(self, remote: str = "", *, only: Sequence[str] = (), watch: Watch = quietly) -> Synced:
        """Fetch, then move the current branch forward; raises ConflictError where the two have gone apart."""
        return sync.pull(self, remote or addresses.only_remote(self), only=only, watch=watch)

    def push(self, remote: str = "", what: Pushing = CURRENT, watch: Watch = quietly) -> Synced:
        """Send the current branch, or what `what` names; raises ConflictError where the remote is ahead."""
        return sync.push(self, remote or addresses.only_remote(self), what, watch)

    def tensors(self, id_: Digest) -> dict[str, Tensor]:
        """Read all tensors of a tree, as read-only arrays; one that was not fetched is named."""
        with left_out_is_told(self, self.tree(id_)):
            return super().tensors(id_)

    def part_tensors(self, commit: Digest, part: str) -> dict[str, Tensor]:
        """Read a part of a commit that holds tensors; one that was not fetched is named."""
        entry = self.part(commit, part)
        with left_out_is_told(self, self.tree(entry.id) if entry else {}):
            return super().part_tensors(commit, part)

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

    # upkeep

    def fsck(self, *, quick: bool = False, progress: Progress | None = None) -> Report:
        """Check everything stored and everything refs lead to; `quick` does not read the bytes of tensors."""
        return fsck(self, quick=quick, progress=progress)

    def repair(self, report: Report) -> Repaired:
        """Bring back from remotes what a report says is missing or corrupt; remove corrupt bytes nobody needs."""
        return repair(self, report)

    def gc(self, *, grace: timedelta = GRACE, reflog: timedelta = REFLOG, dry_run: bool = False) -> Collected:
        """Remove what nothing has led to for `grace`; what refs left longer than `reflog` ago is held no more."""
        return gc(self, grace=grace, reflog=reflog, dry_run=dry_run)

    def erase(self, choice: Choice, *, who: str, why: str, force: bool = False) -> Erased:
        """Remove the bytes of objects for good and leave tombstones; see `upkeep.erase` for how to choose them."""
        return erase(self, choice, who=who, why=why, force=force)
