"""Verification: is a commit, with all its history, what it claims to be?

Rules: everything reachable is read and held to its id; what need not be here (promised, opaque, computed by a recipe,
outside the sparse globs) is counted with its reason and never passes for checked. A model counts as computed anew only
by a recipe that names what the commit does; every other is listed with the reason. All problems are collected, so one
broken object does not hide the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NamedTuple

from fedloom.errors import FedloomError, NotFoundError
from fedloom.values import Digest
from fedloom.versions import objects, protection, recipes, signing, tombstones
from fedloom.versions.content import Content
from fedloom.versions.keys import PublicKey
from fedloom.versions.objects import Commit, Entry, Keep, Kind
from fedloom.versions.remotes.closure import selected
from fedloom.versions.signing import Signed

Absence = Literal["promised", "opaque", "recipe", "sparse", "erased", "hearsay"]
"""Why an object need not be here."""

_UNKEPT = "updates were not kept"
_FROM_LINE = ("repair", "retrain")
"""Ways to take a site out (see `local/removal`) that train a line of their own and take over its model."""
_BY_SUMS = ("subtract", "replay")

Progress = Callable[[int, int], None]
"""Hears how many commits are checked and how many are known of."""


@dataclass(frozen=True, slots=True)
class Round:
    """One commit of the history: whether its model was computed anew from what went in, or why it was not.

    number: of the round; 0 where it is none.
    """

    commit: Digest
    number: int
    recomputed: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What verification found.

    commits, objects, bytes: what was read and held to its id; bytes are those of the canonical form.
    shallow: parents beyond `depth`, which were not looked at. absent: reason → objects that need not be here.
    rounds: every commit, rounds or not, by number.
    """

    commit: Digest
    commits: int
    objects: int
    bytes: int
    shallow: int
    absent: Mapping[str, int]
    attestations: int
    signatures: tuple[Signed, ...]
    rounds: tuple[Round, ...]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.problems

    @property
    def signers(self) -> tuple[str, ...]:
        """Trusted names whose signature of the verified commit itself holds."""
        return tuple(sorted({one.name for one in self.signatures if one.holds and one.commit == self.commit}))

    def as_json(self) -> dict[str, Any]:
        """Turn into plain JSON."""
        return {"ok": self.ok, "signers": list(self.signers), **asdict(self)}


def verify(
    content: Content,
    commit: Digest,
    *,
    depth: int | None = None,
    require: tuple[str, ...] = (),
    signed: bool = False,
    progress: Progress | None = None,
) -> Verdict:
    """Check a commit and its history: hashes, parents, trees, attestations, signatures and recipes.

    depth: generations to look at, 1 for the commit alone; None for all. require: trusted names that must have signed
    the commit. signed: somebody trusted must have. Raises only what the settings or the store itself raise.
    """
    walk = _Walk(content, signing.trusted(content), content.settings.read().only)
    walk.history(commit, depth, progress or (lambda _done, _known: None))
    verdict = Verdict(
        commit,
        walk.commits,
        len(walk.read),
        walk.bytes,
        walk.shallow,
        dict(sorted(walk.absent.items())),
        walk.attestations,
        tuple(walk.signatures),
        tuple(sorted(walk.rounds, key=lambda one: one.number)),
        tuple(walk.problems),
    )
    return _demanded(verdict, walk.names, require, signed=signed)


def _demanded(verdict: Verdict, names: Mapping[str, PublicKey], require: tuple[str, ...], *, signed: bool) -> Verdict:
    """Add what is demanded of the commit's signatures and not there."""
    at, more = verdict.commit[:12], []
    for name in require:
        if name not in names:
            more.append(f"'{name}' is not trusted here: `fedloom trust {name} PUBLIC.pem`")
        elif name not in verdict.signers:
            more.append(f"commit {at} is not signed by '{name}'")
    if signed and not verdict.signers:
        more.append(f"commit {at} is signed by nobody who is trusted here")
    return replace(verdict, problems=(*verdict.problems, *more))


class _Excuse(NamedTuple):
    """What decides whether an object may be absent: how its entry is kept, in which part, in a commit with a recipe."""

    keep: Keep
    part: str
    recipe: bool


@dataclass
class _Walk:
    """One pass over a history; every tensor and blob is read once.

    A tree is walked once for each thing that decides what may be absent below it (`_Excuse`): the tree of a model that
    a recipe computes can be the tree of one that must be stored.
    """

    content: Content
    names: Mapping[str, PublicKey]
    only: tuple[str, ...]
    commits: int = 0
    bytes: int = 0
    shallow: int = 0
    attestations: int = 0
    read: dict[Digest, Kind] = field(default_factory=dict)
    absent: Counter[str] = field(default_factory=Counter)
    signatures: list[Signed] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _missing: dict[Digest, Absence | None] = field(default_factory=dict)
    _walked: set[tuple[Digest, _Excuse]] = field(default_factory=set)

    def history(self, tip: Digest, depth: int | None, progress: Progress) -> None:
        """Check commits generation by generation, near ones first."""
        seen, generation, level = {tip}, [tip], 1
        while generation:
            parents: dict[Digest, None] = {}
            for id_ in generation:
                commit = self._commit(id_)
                if commit is not None:
                    parents |= dict.fromkeys(parent for parent in commit.parents if parent not in seen)
                progress(self.commits, len(seen) + len(parents))
            if depth is not None and level >= depth:
                self.shallow = len(parents)
                return
            seen.update(parents)
            generation, level = list(parents), level + 1

    def _commit(self, id_: Digest) -> Commit | None:
        try:
            commit = objects.decode_commit(self._bytes(id_, "commit"))
        except FedloomError as error:
            self.problems.append(f"commit {id_[:12]}: {error}")
            return None
        self.commits += 1
        where = f"commit {id_[:12]}"
        self._below(where, Entry("tree", commit.tree), commit)
        self._statements(id_, where)
        self.rounds.append(self._recompute(id_, commit, where))
        return commit

    def _below(self, where: str, root: Entry, commit: Commit) -> None:
        """Read everything a commit's tree reaches."""
        stack = [("", root)]
        while stack:
            path, entry = stack.pop()
            excuse = _Excuse(entry.keep, path.partition("/")[0], commit.recipe is not None)
            if (entry.id, excuse) not in self._walked:
                self._walked.add((entry.id, excuse))
                stack += self._entry(where, path, entry, commit)

    def _entry(self, where: str, path: str, entry: Entry, commit: Commit) -> list[tuple[str, Entry]]:
        """Hold one object to its id and kind; gives what it names."""
        if entry.kind in ("tensor", "blob") and self.read.get(entry.id) == entry.kind:
            return []
        if not self.content.has(entry.id):
            self._note_missing(where, path, entry, commit)
            return []
        try:
            below = list(self._named(path, entry))
        except FedloomError as error:
            if entry.id not in self._missing:
                self.problems.append(f"{where}: {path or 'its tree'}: {error}")
            self._missing[entry.id] = None
            return []
        # What hangs below an object that need not be here need not be here either.
        return [(name, one if entry.keep == "stored" else replace(one, keep=entry.keep)) for name, one in below]

    def _note_missing(self, where: str, path: str, entry: Entry, commit: Commit) -> None:
        """Say once that an object is absent: as it may be, or as a problem where any tree needs it."""
        reason = self._reason(path, entry, commit)
        if entry.id in self._missing and (reason or self._missing[entry.id] is None):
            return
        if reason:
            self.absent[reason] += 1
        else:
            self.problems.append(f"{where}: {path or 'its tree'} ({entry.id[:12]}) is missing")
        self._missing[entry.id] = reason

    def _reason(self, path: str, entry: Entry, commit: Commit) -> Absence | None:
        tombstone = tombstones.find(self.content.store, entry.id) if entry.kind in tombstones.ERASABLE else None
        if tombstone is not None:
            return "hearsay" if tombstone.says else "erased"
        if entry.keep != "stored":
            return entry.keep
        if entry.kind == "tensor" and not selected(path, self.only):
            return "sparse"
        if entry.kind == "tensor" and commit.recipe is not None and path.partition("/")[0] in objects.PARTS:
            return "recipe"
        return None

    def _named(self, path: str, entry: Entry) -> Iterator[tuple[str, Entry]]:
        data = self._bytes(entry.id, entry.kind)
        if entry.kind == "tree":
            tree = objects.decode_tree(data)
            yield from ((f"{path}/{name}" if path else name, below) for name, below in tree.entries.items())
        elif entry.kind == "conflict":
            conflict = objects.decode_conflict(data)
            # Its sides are named by the commits it came from as well, which must have them.
            sides = [side for side in (conflict.base, *conflict.heads) if side is not None]
            yield from ((path, side) for side in sides if self.content.has(side.id))
        elif entry.kind == "tensor":
            objects.decode_tensor(data)
        else:
            objects.decode_blob(data)

    def _bytes(self, id_: Digest, kind: Kind) -> memoryview:
        """Read an object, checked against its id, and count it once."""
        data = self.content.database.get(id_)
        if id_ not in self.read:
            self.read[id_] = kind
            self.bytes += len(data)
        return data

    def _statements(self, id_: Digest, where: str) -> None:
        """Check that each statement under a commit is about it and of the type it is filed as."""
        folder = f"attestations/{id_}/"
        for name in self.content.refs.names(folder):
            type_ = name[len(folder) :]
            self.attestations += 1
            if type_.startswith(f"{signing.TYPE}/"):
                continue
            try:
                kept = self.content.filed(id_, type_)
            except FedloomError as error:
                self.problems.append(f"{where}: statement '{type_}': {error}")
                continue
            if kept is not None and (kept.subject, kept.type) != (id_, type_):
                self.problems.append(f"{where}: statement '{type_}' is about something else")
        found = signing.signatures(self.content, id_, self.names)
        self.signatures += found
        for one in found:
            if one.problem:
                whose = f"of '{one.name}'" if one.name else f"by key {one.key[:12]}"
                self.problems.append(f"{where}: the signature {whose} does not hold: {one.problem}")

    def _recompute(self, id_: Digest, commit: Commit, where: str) -> Round:
        """Compute a commit's model anew from what went in, where that can be had and is what the commit says."""
        number = commit.facts.get("round", 0)
        if type(number) is not int:
            self.problems.append(f"{where}: its facts give no whole number as its round")
            number = 0
        try:
            why = self._outcome(id_, commit, where)
        except FedloomError as error:
            self.problems.append(f"{where}: {error}")
            why = "what it is made from cannot be read"
        return Round(id_, number, not why, why)

    def _outcome(self, id_: Digest, commit: Commit, where: str) -> str:
        """Compute a commit's model; gives why not, or nothing."""
        if commit.recipe is None:
            self.problems += [f"{where}: {fault}" for fault in self._faults_of_line(commit)]
            return self._without_recipe(id_, commit)
        try:
            if found := recipes.faults(self.content, id_):
                self.problems += [f"{where}: {fault}" for fault in found]
                return "its recipe is not what the commit says"
            recipes.compute(self.content, id_)
        except NotFoundError as error:
            why = self._unkept(id_, commit)
            if (why == _UNKEPT or recipes.absent(self.content, id_)) and not self._has_model(commit):
                self.problems.append(str(error))  # it is lost here: nothing says who else has what it is made from
            return why
        except FedloomError as error:
            self.problems.append(str(error) if id_[:12] in str(error) else f"{where}: {error}")
            return "it came out otherwise"
        return ""

    def _without_recipe(self, id_: Digest, commit: Commit) -> str:
        """Say what speaks for a model that nothing is computed from."""
        if commit.kind not in ("merge", "revert"):
            starts = {("import", 0): "a start", ("train", 1): "a start from another commit"}
            return starts.get((commit.kind, len(commit.parents)), "it has no recipe")
        method = _told(commit).get("method")
        how = f"{commit.kind} by {method}" if method in (*_FROM_LINE, *_BY_SUMS) else commit.kind
        gated = self.content.refs.get(f"attestations/{id_}/{protection.GATE}") is not None
        return f"{how}: no recipe; {'its evidence is the measured gate' if gated else 'and no gate measured it'}"

    def _faults_of_line(self, commit: Commit) -> Iterator[str]:
        """Hold a model that is said to be trained without a site to the line that was trained so."""
        method = _told(commit).get("method")
        if commit.kind != "revert" or method not in _FROM_LINE:
            return
        if len(commit.parents) != 2:
            yield f"a revert by {method} names the line it was trained on as its second parent, and this one does not"
        elif self.content.has(commit.parents[1]):
            line = self.content.part(commit.parents[1], "model")
            mine = self.content.tree(commit.tree).get("model")
            if mine is None or line is None or mine.id != line.id:
                yield f"its model is not that of {commit.parents[1][:12]}, the line it says it was trained on"

    def _has_model(self, commit: Commit) -> bool:
        """Whether the model can be read without its recipe, but for what the sparse globs leave out."""
        tree = self.content.tree(commit.tree)
        entries = self.content.tree(tree["model"].id) if "model" in tree else {}
        wanted = [entry.id for name, entry in entries.items() if selected(f"model/{name}", self.only)]
        return all(self.content.has(id_) or self.content.store.exists(tombstones.path(id_)) for id_ in wanted)

    def _unkept(self, id_: Digest, commit: Commit) -> str:
        """Say why what went into a commit cannot be had."""
        try:
            part = self.content.tree(commit.tree).get("receipts")
            receipts = self.content.tree(part.id) if part and part.kind == "tree" else {}
        except FedloomError:
            receipts = {}
        if any(entry.keep == "opaque" for entry in receipts.values()):
            return _UNKEPT
        promised = [site for site, entry in receipts.items() if entry.keep == "promised"]
        if promised:
            return f"updates are at {', '.join(promised[:8])}"
        if lacking := recipes.absent(self.content, id_):
            return f"its recipe names {', '.join(one[:12] for one in lacking[:8])}, which is not here"
        return "what it is made from is not here"


def _told(commit: Commit) -> Mapping[str, Any]:
    """Read what a commit that takes a site out tells of it."""
    told = commit.facts.get("revert")
    return told if isinstance(told, dict) else {}
