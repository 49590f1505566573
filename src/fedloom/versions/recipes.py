"""Recipes: a commit's model computed anew from other objects, and held to the ids its tree names.

Rules: an algorithm is named with its version, so `fold/1` gives the same bytes for good: float64 sums in the order
of the inputs. What a recipe reads may itself be absent and have a recipe: the chain is walked without recursion, and
of the models on the way only those that are still needed are held. That a model comes out of its recipe says nothing
while the recipe may name anything: `faults` holds what it names to what the commit names.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from fedloom.errors import CorruptObjectError, NotFoundError
from fedloom.values import Contribution, Digest, Tensor, Tensors
from fedloom.versions.merge_recipe import MERGE, UNFIT, Merge
from fedloom.versions.merging.catalog import STRATEGIES
from fedloom.versions.objects import PARTS, Commit, Entry, Input, Recipe, encode_tensor

FOLD = "fold/1"

_NAMED = 8


class Source(Protocol):
    """Where a recipe's inputs are read."""

    def commit(self, id_: Digest) -> Commit:
        """Read a commit."""
        ...

    def tree(self, id_: Digest) -> Mapping[str, Entry]:
        """Read a tree's entries."""
        ...

    def tensor(self, id_: Digest) -> Tensor:
        """Read one tensor."""
        ...

    def blob(self, id_: Digest) -> bytes:
        """Read a blob."""
        ...

    def has(self, id_: Digest) -> bool:
        """Whether an object is here."""
        ...


class Algorithm(Protocol):
    """One way to make a model of other objects."""

    def needs(self, commit: Commit, source: Source) -> Sequence[Digest]:
        """Name the commits whose models it reads."""
        ...

    def named(self, commit: Commit) -> Sequence[Digest]:
        """Name the commits that the recipe does."""
        ...

    def faults(self, commit: Commit, source: Source) -> Iterator[str]:
        """Say where the recipe names something else than the commit does; raises NotFoundError when it cannot know."""
        ...

    def make(self, id_: Digest, commit: Commit, source: Source) -> Mapping[str, Tensors]:
        """Make the commit's parts, unchecked."""
        ...


class Fold:
    """`fold/1`: a round. The strategy merges the inputs, in order, onto the first parent's model and state."""

    def needs(self, commit: Commit, source: Source) -> Sequence[Digest]:  # noqa: ARG002 - the Protocol's signature
        """The model before the round."""
        return self.named(commit)

    def named(self, commit: Commit) -> Sequence[Digest]:
        """The commit before the round."""
        return commit.parents[:1]

    def faults(self, commit: Commit, source: Source) -> Iterator[str]:
        """Hold the inputs to the receipts: each once, with its name and id, and nothing else."""
        assert commit.recipe is not None, "only a commit with a recipe is held to it"
        if commit.kind != "round":
            yield f"its recipe is that of a round, and it is a commit of kind '{commit.kind}'"
        if len(commit.parents) != 1:
            yield f"a round follows one commit, and this one names {len(commit.parents)}"
        receipts = {name: entry.id for name, entry in _receipts(source, commit).items() if entry.kind == "tree"}
        inputs = {part.name: part.id for part in commit.recipe.inputs}
        if len(inputs) != len(commit.recipe.inputs):
            yield "its recipe counts an update twice"
        if left_out := sorted(receipts.keys() - inputs):
            yield f"its recipe leaves out {_listed(left_out)}, for which it holds a receipt"
        if strange := sorted(inputs.keys() - receipts):
            yield f"its recipe reads updates of {_listed(strange)}, for which it holds no receipt"
        if other := sorted(name for name in inputs.keys() & receipts if inputs[name] != receipts[name]):
            yield f"its recipe reads other updates of {_listed(other)} than its receipts name"

    def make(self, id_: Digest, commit: Commit, source: Source) -> Mapping[str, Tensors]:
        """Merge the sites' updates again."""
        assert commit.recipe is not None, "only a commit with a recipe is made"
        if not commit.parents:
            raise CorruptObjectError(f"{_of(id_)} cannot be computed: it follows no commit")
        inputs = _updates(id_, commit, source)
        base, state = (_tensors(source, commit.parents[0], part) for part in PARTS)
        settings = _strategy(id_, commit.recipe)
        try:
            strategy = STRATEGIES[settings.pop("use")](**settings)
        except (KeyError, TypeError):
            known = ", ".join(STRATEGIES)
            raise CorruptObjectError(f"{_of(id_)} needs a strategy this fedloom lacks ({known}): upgrade it") from None
        except UNFIT as error:
            raise CorruptObjectError(f"{_of(id_)} cannot be computed: {error}") from None
        try:
            merged = strategy.merge(base, inputs, state)
        except ValueError as error:
            raise CorruptObjectError(f"{_of(id_)} cannot be computed: {error}") from None
        except UNFIT as error:
            told = f"its updates do not fit its base or its strategy ({type(error).__name__})"
            raise CorruptObjectError(f"{_of(id_)} cannot be computed: {told}") from None
        return {"model": merged.tensors, "optimizer": merged.state or state}


ALGORITHMS: Mapping[str, Algorithm] = {FOLD: Fold(), MERGE: Merge()}


def fold_recipe(strategy: Mapping[str, Any], inputs: Sequence[Input]) -> Recipe:
    """Describe a round: the strategy as a pipeline file has it (`use` and options), and the updates in their order."""
    return Recipe(FOLD, {"strategy": dict(strategy)}, tuple(inputs))


def compute(source: Source, commit: Digest) -> dict[Digest, Tensor]:
    """Compute a commit's model and optimizer state by its recipe, whether stored or not: read-only tensors by id.

    Raises CorruptObjectError where a tensor is not what the commit names, NotFoundError where an input is not here.
    """
    order = _order(source, commit)
    last = {needed: index for index, id_ in enumerate(order) for needed in _needs(source, id_)}
    made: dict[Digest, dict[Digest, Tensor]] = {}
    for index, id_ in enumerate(order):
        known = source.commit(id_)
        overlay = Overlay(source, ChainMap(*(made[needed] for needed in _needs(source, id_) if needed in made)))
        made[id_] = _checked(id_, known, source, _algorithm(id_, known).make(id_, known, overlay))
        for done in [past for past in made if past != commit and last.get(past, index) <= index]:
            del made[done]
    return made[commit]


def faults(source: Source, commit: Digest) -> list[str]:
    """Say where a commit's recipe names something else than the commit does: its result then proves nothing.

    Raises NotFoundError where that cannot be known from what is here, CorruptObjectError for a recipe that is none.
    """
    known = source.commit(commit)
    return list(_algorithm(commit, known).faults(known, source))


def absent(source: Source, commit: Digest) -> list[Digest]:
    """List the commits that a commit's recipe names and that are not here; they need not be its parents."""
    known = source.commit(commit)
    return [id_ for id_ in dict.fromkeys(_algorithm(commit, known).named(known)) if not source.has(id_)]


class Keeper(Source, Protocol):
    """Where what was computed can be kept."""

    def add_tensors(self, tensors: Tensors, like: Mapping[str, Entry] | None = None) -> Entry:
        """Store named tensors as a tree."""
        ...

    def part_tensors(self, commit: Digest, part: str) -> dict[str, Tensor]:
        """Read a part's tensors, computing them where need be."""
        ...


def materialize(keeper: Keeper, commit: Digest) -> int:
    """Store the tensors of a commit that its recipe computes, for quick reading; gives how many were not here."""
    absent = unstored(keeper, commit)
    before = keeper.commit(commit).parents[:1]
    for part in PARTS if absent else ():
        if tensors := keeper.part_tensors(commit, part):
            keeper.add_tensors(tensors, like=_entries(keeper, before[0], part) if before else None)
    return len(absent)


class Overlay:
    """A source with some tensors that are computed and not stored."""

    def __init__(self, below: Source, tensors: Mapping[Digest, Tensor]) -> None:
        self._below = below
        self._tensors = tensors
        self.commit = below.commit
        self.tree = below.tree
        self.blob = below.blob

    def tensor(self, id_: Digest) -> Tensor:
        """Read one tensor, the computed one first."""
        return self._tensors[id_] if id_ in self._tensors else self._below.tensor(id_)

    def has(self, id_: Digest) -> bool:
        """Whether an object is at hand."""
        return id_ in self._tensors or self._below.has(id_)


def _order(source: Source, tip: Digest) -> list[Digest]:
    """List the commits to compute for `tip`, each after what it needs."""
    order: dict[Digest, None] = {}
    here: dict[Digest, bool] = {}
    stack = [tip]
    while stack:
        at = stack[-1]
        waiting = [id_ for id_ in _needs(source, at) if id_ not in order and not _is_here(source, id_, here)]
        if waiting:
            stack += waiting
        else:
            order.setdefault(stack.pop())
    return list(order)


def _needs(source: Source, id_: Digest) -> Sequence[Digest]:
    commit = source.commit(id_)
    return _algorithm(id_, commit).needs(commit, source)


def _algorithm(id_: Digest, commit: Commit) -> Algorithm:
    if commit.recipe is None:
        raise NotFoundError(f"tensors of {_of(id_)} are missing from the repository: fetch them from where it was made")
    try:
        return ALGORITHMS[commit.recipe.algorithm]
    except KeyError:
        raise CorruptObjectError(
            f"the recipe '{commit.recipe.algorithm}' of {_of(id_)} is unknown: upgrade fedloom"
        ) from None


def _is_here(source: Source, id_: Digest, known: dict[Digest, bool]) -> bool:
    if id_ not in known:
        known[id_] = not unstored(source, id_)
    return known[id_]


def unstored(source: Source, commit: Digest) -> set[Digest]:
    """List the tensors of a commit's model and optimizer state that are not here: a recipe makes them, or a fetch."""
    entries = [entry for part in PARTS for entry in _entries(source, commit, part).values()]
    return {entry.id for entry in entries if not source.has(entry.id)}


def _entries(source: Source, commit: Digest, part: str) -> Mapping[str, Entry]:
    entry = source.tree(source.commit(commit).tree).get(part)
    return source.tree(entry.id) if entry else {}


def _tensors(source: Source, commit: Digest, part: str) -> dict[str, Tensor]:
    return {name: source.tensor(entry.id) for name, entry in _entries(source, commit, part).items()}


def _strategy(id_: Digest, recipe: Recipe) -> dict[str, Any]:
    settings = recipe.settings.get("strategy")
    if not isinstance(settings, dict) or "use" not in settings:
        raise CorruptObjectError(f"{_of(id_)} names no strategy, its recipe is broken: restore it from a copy")
    return dict(settings)


def _checked(id_: Digest, commit: Commit, source: Source, parts: Mapping[str, Tensors]) -> dict[Digest, Tensor]:
    """Hold what came out to the ids in the commit's tree."""
    tree = source.tree(commit.tree)
    made: dict[Digest, Tensor] = {}
    for part, tensors in parts.items():
        if part == "optimizer" and part not in tree:
            continue  # a commit need not keep the state
        named = source.tree(tree[part].id) if part in tree else {}
        wanted = {name: entry for name, entry in named.items() if entry.kind == "tensor"}  # the rest is open conflicts
        ids = {name: encode_tensor(array).id for name, array in tensors.items()}
        wrong = [name for name in sorted({*ids, *wanted}) if name not in wanted or ids.get(name) != wanted[name].id]
        if wrong:
            more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
            raise CorruptObjectError(
                f"'{part}/{wrong[0]}'{more} of {_of(id_)} does not come out of its recipe as its tree names it: "
                "an input, the recipe or the tree was forged, or this machine computes otherwise"
            )
        for name, array in tensors.items():
            array.flags.writeable = False
            made[ids[name]] = array
    return made


def _updates(id_: Digest, commit: Commit, source: Source) -> Iterator[Contribution]:
    """Read the sites' updates one by one; raises NotFoundError, before the first, naming who keeps what is not here."""
    assert commit.recipe is not None, "only a commit with a recipe is made"
    inputs = commit.recipe.inputs
    missing = [part.name for part in inputs if not _update_is_here(source, part.id)]
    if missing:
        raise NotFoundError(_where(id_, commit, source, missing))
    return (Contribution(part.name, _update(source, part.id), float(part.weight)) for part in inputs)


def _update_is_here(source: Source, id_: Digest) -> bool:
    return source.has(id_) and all(source.has(entry.id) for entry in source.tree(id_).values())


def _update(source: Source, id_: Digest) -> dict[str, Tensor]:
    return {name: source.tensor(entry.id) for name, entry in source.tree(id_).items()}


def _receipts(source: Source, commit: Commit) -> Mapping[str, Entry]:
    entry = source.tree(commit.tree).get("receipts")
    return source.tree(entry.id) if entry else {}


def _where(id_: Digest, commit: Commit, source: Source, missing: Sequence[str]) -> str:
    receipts = _receipts(source, commit)
    keeps = {name: receipts[name].keep if name in receipts else "stored" for name in missing}
    start = f"the model of {_of(id_)} is not stored and cannot be computed: the updates of "
    if opaque := [name for name, keep in keeps.items() if keep == "opaque"]:
        return f"{start}{_listed(opaque)} were never kept. Take the model from a repository that stores it"
    if promised := [name for name, keep in keeps.items() if keep == "promised"]:
        return f"{start}{_listed(promised)} are kept by those sites. Ask them for their updates"
    return f"{start}{_listed(list(keeps))} are missing from the repository. Fetch them from where it was made"


def _of(id_: Digest) -> str:
    return f"commit {id_[:12]}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(name[:80] for name in names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
