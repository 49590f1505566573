"""Replaying rounds: the same work done again, from what a commit says it was made of, and compared byte by byte.

Rules: settings, contract and learner come from the commit, the rows from the sites of the project at hand; whose rows
or adapter changed since is said before anything runs. A replay works in a folder of its own and leaves nothing behind.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from fedloom.engine.inprocess import InProcessEngine
from fedloom.engine.scenario import Faults, Scenario
from fedloom.errors import NotFoundError, PlanError
from fedloom.local.federation import LocalSites, local_context, plan_local
from fedloom.pipeline.context import HubContext, Run
from fedloom.pipeline.events import Emit
from fedloom.pipeline.lineage import environment, scaling_of
from fedloom.pipeline.runs import RUNS, run_commits
from fedloom.pipeline.spec import FILE, read_spec
from fedloom.pipeline.stages.contract import ContractCheck
from fedloom.pipeline.stages.train import Train
from fedloom.values import Digest
from fedloom.versions.objects import Commit, Entry
from fedloom.versions.repository import Repository

_RUN = f"{RUNS}1"
_COMPARED = ("model", "optimizer", "receipts")
_SHORT = 12


@dataclass(frozen=True)
class Difference:
    """The first byte at which a replayed tensor is another: its path, where, and both values."""

    path: str
    offset: int
    recorded: int
    replayed: int


@dataclass(frozen=True)
class Replayed:
    """One round, done again. `again` is the commit it gave; `parts` names what came out otherwise."""

    round: int
    commit: Digest
    again: Digest
    parts: tuple[str, ...]
    difference: Difference | None = None

    @property
    def same(self) -> bool:
        """Whether model, optimizer state and receipts came out bit for bit."""
        return not self.parts


def replay(
    folder: Path, commit: Digest, emit: Emit, *, whole_run: bool = False, run_its_code: bool = False
) -> list[Replayed]:
    """Do a round again (with `whole_run`, every round of its run up to it), oldest first.

    run_its_code: also where the commit carries a learner that is not the one in the project; a commit may come from
    anywhere, and its code runs with your rights. Raises PlanError where the round cannot be done again: no round,
    foreign code, other data, a site that is not in the project.
    """
    repository = Repository.at(folder)
    steps = [step for step in run_commits(repository, commit) if step[1].kind == "round"][::-1]
    if not steps:
        kind = repository.commit(commit).kind
        raise PlanError(
            f"{commit[:_SHORT]} is a commit of kind '{kind}': rounds are replayed; `fedloom verify` does the rest"
        )
    steps = steps if whole_run else steps[-1:]
    if not run_its_code:
        _require_own_code(folder, repository, commit)
    with _project(folder, repository, commit) as home:
        scratch = Repository.at(home)
        base = steps[0][1].parents[0]
        _copy(repository, scratch, base)
        context = _context(home, steps, scratch, emit)
        _require_same_data(context, repository, commit)
        scratch.refs.compare_and_set(_RUN, None, base, "replay")
        context.run = Run(_RUN, base, int(steps[0][1].facts["round"]) - 1)
        context.engine.run(lambda: Train().run(context))
        again = [id_ for id_, _ in islice(scratch.log(context.run.tip), len(steps))][::-1]
        return [_compared(repository, scratch, id_, other) for (id_, _), other in zip(steps, again, strict=True)]


def environment_changes(repository: Repository, commit: Digest) -> list[str]:
    """Say what of the environment is another now than when a commit was made: where bits may come out otherwise."""
    inputs = repository.part(commit, "inputs")
    recorded = json.loads(repository.blob(repository.tree(inputs.id)["environment"].id)) if inputs else {}
    now = environment()
    return [
        f"{name} {recorded[name]} then, {now.get(name)} now" for name in recorded if recorded[name] != now.get(name)
    ]


def _context(home: Path, steps: list[tuple[Digest, Commit]], scratch: Repository, emit: Emit) -> HubContext:
    """Wire the replay; sites that did not answer then are kept from answering now."""
    plan = plan_local(home, rounds=int(steps[-1][1].facts["round"]))
    plan.require()
    absent = {int(commit.facts["round"]): Faults(drop=_absent(commit)) for _, commit in steps}
    engine = InProcessEngine(LocalSites(home, plan.spec), scenario=Scenario(absent, frozenset({"train"})))
    context = local_context(plan, emit, engine)
    context.scaling = scaling_of(scratch, steps[0][1].parents[0])
    return context


def _absent(commit: Commit) -> frozenset[str]:
    outcomes = commit.facts["participation"]["sites"]
    return frozenset(outcome["site"] for outcome in outcomes if outcome["status"] != "answered")


@contextmanager
def _project(folder: Path, repository: Repository, commit: Digest) -> Iterator[Path]:
    """Lay out a project as the commit says it was, over the sites of the project in `folder`."""
    inputs = repository.part(commit, "inputs")
    if inputs is None:
        raise PlanError(f"{commit[:_SHORT]} does not say what it was made of: it cannot be replayed")
    parts = repository.tree(inputs.id)
    settings: dict[str, Any] = json.loads(repository.blob(parts["pipeline"].id))
    here = read_spec(folder / FILE)[0].sites
    sites = json.loads(repository.blob(parts["sites"].id))
    if missing := sorted(sites.keys() - here.keys()):
        raise PlanError(f"{commit[:_SHORT]} cannot be replayed: {FILE} has no site {', '.join(missing)}")
    settings["stages"] = {name: stage for name, stage in settings["stages"].items() if stage is not None}
    settings |= {"contract": "contract.yaml", "sites": {name: str((folder / here[name]).resolve()) for name in sites}}
    with TemporaryDirectory(prefix="fedloom-replay-") as name:
        home = Path(name)
        (home / FILE).write_text(json.dumps(settings), encoding="utf-8")
        (home / "contract.yaml").write_bytes(repository.blob(parts["contract"].id))
        _write_source(home, str(settings["learner"]["use"]), repository, repository.tree(parts["source"].id))
        yield home


def _require_own_code(folder: Path, repository: Repository, commit: Digest) -> None:
    """Raise PlanError unless the learner file in the commit lies in the project as well."""
    inputs = repository.part(commit, "inputs")
    parts = repository.tree(inputs.id) if inputs else {}
    for name, entry in (repository.tree(parts["source"].id) if "source" in parts else {}).items():
        code = repository.blob(entry.id)
        if not any(path.read_bytes() == code for path in folder.rglob(name) if path.is_file()):
            raise PlanError(
                f"{commit[:_SHORT]} carries a {name} that is not the one here, and a replay would run it with your "
                "rights: read it, then give --run-its-code"
            )


def _write_source(home: Path, use: str, repository: Repository, source: Mapping[str, Entry]) -> None:
    """Put the learner's file where its name in the pipeline says, but nowhere outside."""
    for name, entry in source.items():
        place = PurePosixPath(use.rpartition(":")[0])
        if place.is_absolute() or ".." in place.parts or place.name != name:
            raise PlanError(f"the learner '{use}' lies outside its project: it cannot be replayed from a commit")
        (home / place).parent.mkdir(parents=True, exist_ok=True)
        (home / place).write_bytes(repository.blob(entry.id))


def _copy(source: Repository, target: Repository, commit: Digest) -> None:
    """Copy what a round reads of its base: the commit, its parts, its model and optimizer state."""
    found = source.commit(commit)
    parts = source.tree(found.tree)
    for name in ("model", "optimizer"):
        if name in parts:
            target.add_tensors(source.part_tensors(commit, name))
    _copy_tree(source, target, found.tree, without=("model", "optimizer", "receipts"))
    target.add_commit(found)


def _copy_tree(source: Repository, target: Repository, tree: Digest, without: tuple[str, ...] = ()) -> None:
    entries = source.tree(tree)
    for name, entry in entries.items():
        if name in without:
            continue
        if entry.kind == "tree":
            _copy_tree(source, target, entry.id)
        elif entry.kind == "tensor":
            target.add_tensors({name: source.tensor(entry.id)})
        else:
            target.add_blob(source.blob(entry.id))
    target.add_tree(entries)


def _require_same_data(context: HubContext, repository: Repository, commit: Digest) -> None:
    context.engine.run(lambda: ContractCheck().run(context))
    inputs = repository.part(commit, "inputs")
    assert inputs is not None
    recorded = json.loads(repository.blob(repository.tree(inputs.id)["sites"].id))
    changed = [
        f"{part} of {site}"
        for site, digests in sorted(recorded.items())
        for part, digest in sorted(digests.items())
        if context.site_inputs[site].get(part) != digest
    ]
    if changed:
        raise PlanError(f"{commit[:_SHORT]} cannot be replayed: {', '.join(changed)} changed since. Put it back")


def _compared(repository: Repository, scratch: Repository, recorded: Digest, again: Digest) -> Replayed:
    number = int(repository.commit(recorded).facts["round"])
    one, other = (repo.tree(repo.commit(id_).tree) for repo, id_ in ((repository, recorded), (scratch, again)))
    parts = tuple(name for name in _COMPARED if one.get(name) != other.get(name) and not _same_ids(name, one, other))
    where = _first_difference(repository, scratch, recorded, again) if set(parts) & {"model", "optimizer"} else None
    return Replayed(number, recorded, again, parts, where)


def _same_ids(name: str, one: Mapping[str, Entry], other: Mapping[str, Entry]) -> bool:
    return name in one and name in other and one[name].id == other[name].id


def _first_difference(
    repository: Repository, scratch: Repository, recorded: Digest, again: Digest
) -> Difference | None:
    for part in ("model", "optimizer"):
        one, other = repository.part_tensors(recorded, part), scratch.part_tensors(again, part)
        for name in sorted(one.keys() & other.keys()):
            a, b = (np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in (one[name], other[name]))
            if a.shape != b.shape:
                raise NotFoundError(f"{part}/{name} has another shape when replayed: the learner's code differs")
            if (unequal := np.flatnonzero(a != b)).size:
                offset = int(unequal[0])
                return Difference(f"{part}/{name}", offset, int(a[offset]), int(b[offset]))
    return None
