"""Where a run comes from: its root commit, what every commit of it names, and how it is taken up again.

Rules: a run's root holds the initial model and, under `inputs`, everything the result depends on: contract, pipeline
settings, code, environment, and each site's adapter and data by digest. A run is resumed only onto equal inputs.
The number of rounds is not an input: a run of ten rounds is the beginning of a run of twenty.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

from fedloom._version import __version__
from fedloom.errors import ConflictError, NotFoundError, PlanError, SpecError
from fedloom.pipeline.context import HubContext, Run
from fedloom.pipeline.features import feature_names, outputs
from fedloom.pipeline.runs import RUNS, closed, run_commits, run_numbers
from fedloom.values import Digest, Tensors, generator, layout
from fedloom.versions.objects import Commit, Entry
from fedloom.versions.repository import Repository


def initial_model(context: HubContext) -> Tensors:
    """Make the parameters of round 0 from the run's seed."""
    width = len(feature_names(context.contract))
    return context.learner.initial_parameters(width, outputs(context.contract), generator(context.spec.seed, "initial"))


def facts(context: HubContext) -> dict[str, Any]:
    """Say what every commit of this run names about how it came to be."""
    spec = context.spec
    return {
        "pipeline": spec.name,
        "seed": spec.seed,
        "learner": {"use": spec.learner.use, **spec.learner.options},
        "strategy": {"use": spec.strategy.use, **spec.strategy.options},
        "codec": "exact",
        "privacy": {"mechanism": "none", "epsilon": None},
    }


def start(context: HubContext) -> Run:
    """Commit the root of a new run, or where it goes on from another commit, and name it `runs/N`."""
    repository, base = context.repository, context.start
    parts = {
        "inputs": repository.add_tree(_inputs(context)),
        "notes": repository.add_json(context.notes),
        **(_initial(context) if base is None else _taken_up(context, base)),
    }
    message = f"{context.spec.name}: {'initial model' if base is None else f'training goes on from {base[:12]}'}"
    partial = context.fitted is not None and context.fitted.status != "complete"
    told = {"fit": context.fitted.as_json()} if context.fitted is not None else {}
    tree = repository.add_tree(parts).id
    told_by_all = {**facts(context), "round": 0, **told}
    root = Commit(tree, (base,) if base else (), "train" if base else "import", message, told_by_all)
    commit = repository.add_commit(root)
    while True:
        name = f"{RUNS}{(run_numbers(repository) or [0])[-1] + 1}"
        try:
            repository.refs.compare_and_set(name, None, commit, "start")
        except ConflictError:
            continue  # another process took this number
        return Run(name, commit, 0, partial)


def resume(context: HubContext) -> Run:
    """Take up the newest run; refuses when it is finished or when anything it depends on has changed since."""
    repository = context.repository
    numbers = run_numbers(repository)
    if not numbers:
        raise NotFoundError("there is no run to resume: start one with `fedloom run`")
    name = f"{RUNS}{numbers[-1]}"
    tip = repository.resolve(name)
    if changed := list(_changed(context, tip)):
        raise ConflictError(
            f"{name} cannot be resumed: {', '.join(changed)} changed since it started. "
            "Put it back, or start a new run with `fedloom run`"
        )
    rounds = [commit.facts for _, commit in run_commits(repository, tip)]
    verdicts = [found[part] for found in rounds for part in ("participation", "fit") if part in found]
    partial = any(verdict["status"] != "complete" for verdict in verdicts)
    context.scaling = scaling_of(repository, tip)
    done = int(rounds[0]["round"])
    finished = closed(repository, tip, name) is not None
    if done > context.spec.rounds or (done == context.spec.rounds and finished):
        raise SpecError(f"{name} has {done} rounds, and {context.spec.rounds} are asked for: give more `--rounds`")
    return Run(name, tip, done, partial)


def scaling_of(repository: Repository, commit: Digest) -> Tensors:
    """Read how a commit's model wants its features scaled."""
    preprocessing = repository.part(commit, "preprocessing")
    if preprocessing is None:
        raise NotFoundError(f"commit {commit[:12]} has no preprocessing: it cannot be measured or trained on")
    return repository.tensors(repository.tree(preprocessing.id)["scaling"].id)


def environment() -> dict[str, str]:
    """Name what the last bits of a result depend on beside the code."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "numpy": np.__version__,
        "blas": _blas(),
    }


def _inputs(context: HubContext) -> dict[str, Entry]:
    repository, spec = context.repository, context.spec
    settings = spec.model_dump(mode="json", by_alias=True, exclude={"rounds", "sites", "merge"})
    return {
        "contract": repository.add_blob(context.contract.text),
        "pipeline": repository.add_json(settings),
        "code": repository.add_json({"fedloom": __version__, **context.code}),
        "source": repository.add_tree({name: repository.add_blob(text) for name, text in context.sources.items()}),
        "environment": repository.add_json(environment()),
        "sites": repository.add_json({site: dict(context.site_inputs[site]) for site in context.sites}),
    }


def _blas() -> str:
    """Name NumPy's BLAS and the processor it is built for: both decide the last bits of a matrix product."""
    found = [info for info in threadpool_info() if info["user_api"] == "blas" and "numpy" in info["filepath"]]
    return ", ".join(f"{i['internal_api']} {i['version']} {i.get('architecture', '')}".strip() for i in found)


def _changed(context: HubContext, tip: Digest) -> Iterator[str]:
    """Name what a run depends on and is no longer what it was: `contract`, `pipeline learner`, `data of north`."""
    repository = context.repository
    then = repository.part(tip, "inputs")
    before, now = repository.tree(then.id) if then else {}, _inputs(context)
    for name in now:
        if before.get(name) == now[name] or name == "source":  # `code` holds its digest
            continue
        if name == "contract" or name not in before:
            yield name
            continue
        old, new = (json.loads(repository.blob(entries[name].id)) for entries in (before, now))
        parts = [part for part in sorted({*old, *new}) if old.get(part) != new.get(part)]
        if name == "sites":
            yield from (_changed_site(site, old.get(site), new.get(site)) for site in parts)
        else:
            yield from (f"{name} {part}" for part in parts)


def _changed_site(site: str, old: Mapping[str, str] | None, new: Mapping[str, str] | None) -> str:
    if old is None or new is None:
        return f"the list of sites ({site} {'came' if old is None else 'left'})"
    return f"{' and '.join(part for part in sorted(new) if old.get(part) != new[part])} of {site}"


def _preprocessing(context: HubContext) -> Entry:
    repository = context.repository
    names = repository.add_json(list(feature_names(context.contract)))
    parts = {"features": names, "scaling": repository.add_tensors(context.scaling)}
    if context.moments:
        parts["moments"] = repository.add_tensors(context.moments)
    return repository.add_tree(parts)


def _initial(context: HubContext) -> dict[str, Entry]:
    return {
        "model": context.repository.add_tensors(initial_model(context)),
        "preprocessing": _preprocessing(context),
    }


def _taken_up(context: HubContext, base: Digest) -> dict[str, Entry]:
    """Take model and preprocessing of an earlier commit as they are; they must fit the learner and the contract.

    The state of the hub's optimizer comes along where the strategy is still the same.
    """
    repository, short = context.repository, base[:12]
    context.scaling = scaling_of(repository, base)
    if layout(repository.model(base)) != layout(initial_model(context)):
        raise PlanError(f"training cannot go on from {short}: its model has other tensors than the learner makes")
    same_strategy = repository.commit(base).facts.get("strategy") == facts(context)["strategy"]
    names = ("model", "preprocessing", *(("optimizer",) if same_strategy else ()))
    parts = {name: repository.part(base, name) for name in names}
    found = {name: entry for name, entry in parts.items() if entry is not None}
    features = json.loads(repository.blob(repository.tree(found["preprocessing"].id)["features"].id))
    if features != list(feature_names(context.contract)):
        raise PlanError(f"training cannot go on from {short}: its features are not those of {context.contract.id}")
    return found
