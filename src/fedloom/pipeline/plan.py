"""The plan: the whole pipeline checked before anything runs, and what it will let out of every site.

Rules: a plan is made from files people wrote, never from a site's rows. Everything that cannot work is a refusal;
all refusals are collected, so that one look is enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from fedloom.errors import PlanError, SpecError, nearest
from fedloom.learners.guard import GuardedLearner
from fedloom.pipeline.build import build_learner, build_strategy
from fedloom.pipeline.contract import Contract, read_contract
from fedloom.pipeline.features import feature_names, outputs
from fedloom.pipeline.rules import Rule
from fedloom.pipeline.source import Source
from fedloom.pipeline.spec import FILE, GREATEST, PipelineSpec, read_spec
from fedloom.pipeline.stages.catalog import STAGES
from fedloom.pipeline.stages.stage import Draft, Leaving, Stage
from fedloom.values import Layout, generator, layout
from fedloom.versions.merging.strategy import MergeStrategy

_REGRESSION = {"loss", "mae", "rmse", "r2"}
_CLASSIFICATION = {"loss", "accuracy", "auc", "brier", "ece"}


@dataclass(frozen=True)
class Plan:
    """A pipeline that has been read and checked; it can run when `refusals` is empty."""

    folder: Path
    spec: PipelineSpec
    contract: Contract
    learner: GuardedLearner
    strategy: MergeStrategy
    order: tuple[Stage, ...]
    model: Layout
    leaving: tuple[Leaving, ...]
    refusals: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What is otherwise than the files say, because only some of the sites were chosen."""

    @property
    def model_bytes(self) -> int:
        """Size of one model."""
        return sum(spec.nbytes for spec in self.model)

    def require(self) -> None:
        """Raise PlanError with every refusal, if there are any."""
        if self.refusals:
            raise PlanError("\n".join(self.refusals))


def make_plan(
    folder: Path,
    *,
    rounds: int | None = None,
    seed: int | None = None,
    sites: Sequence[str] = (),
    pools_rows: bool,
    more: Sequence[str] = (),
) -> Plan:
    """Read and check a project; `rounds` and `seed` override the file, `sites` (globs) choose among its sites.

    pools_rows: whether somebody may hold all rows (a simulation). more: refusals found elsewhere, such as a
    missing site file. Raises SpecError or LearnerError when a file cannot even be read.
    """
    spec, source = read_spec(folder / FILE)
    chosen = {"rounds": rounds, "seed": seed}
    spec = _with(spec, {name: value for name, value in chosen.items() if value is not None})
    written, spec = spec, _among(spec, sites)
    contract = read_contract(folder / spec.contract)
    learner, strategy = build_learner(spec, source, folder), build_strategy(spec, source)
    refusals = [
        *_stage_refusals(spec, source),
        *_learner_refusals(spec, contract, learner, strategy, source),
        *_site_refusals(spec, strategy, source),
        *_split_refusals(spec, contract, source),
        *_fit_refusals(spec, source),
        *_gate_refusals(spec, learner, source),
        *_baseline_refusals(spec, source, pools_rows=pools_rows),
        *more,
    ]
    names, width = spec.stages.present(), len(feature_names(contract))
    order = tuple(STAGES[name] for name in _ordered(names))
    model = layout(learner.initial_parameters(width, outputs(contract), generator(spec.seed, "initial")))
    draft = Draft(spec, contract, learner.task, width, outputs(contract), model)
    leaving = tuple(line for stage in order for line in stage.leaving(draft)) if not refusals else ()
    return Plan(
        folder,
        spec,
        contract,
        learner,
        strategy,
        order,
        model,
        leaving,
        tuple(refusals),
        tuple(_narrowed(written, spec)),
    )


def _with(spec: PipelineSpec, chosen: Mapping[str, int]) -> PipelineSpec:
    for name, value in chosen.items():
        least = 1 if name == "rounds" else 0
        if not least <= value <= GREATEST:
            raise SpecError(f"{name} {value} is not allowed: give a whole number from {least} to {GREATEST}")
    return spec.model_copy(update=dict(chosen))


def _among(spec: PipelineSpec, globs: Sequence[str]) -> PipelineSpec:
    """Leave only the sites that some glob fits, and of the participation policy what can be asked of them.

    Raises SpecError for a glob that fits none.
    """
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in spec.sites):
            raise SpecError(f"no site '{glob}' in {FILE}; {nearest(glob, spec.sites)}")
    chosen = {name: path for name, path in spec.sites.items() if any(fnmatchcase(name, glob) for glob in globs)}
    if not globs:
        return spec
    policy = spec.participation
    narrowed = {
        "require": tuple(name for name in policy.require if name in chosen or name not in spec.sites),
        "min_sites": min(policy.min_sites, len(chosen)) if policy.min_sites else None,
    }
    return spec.model_copy(update={"sites": chosen, "participation": policy.model_copy(update=narrowed)})


def _narrowed(written: PipelineSpec, spec: PipelineSpec) -> Iterable[str]:
    """Say what choosing sites took out of the participation policy."""
    old, new = written.participation, spec.participation
    if spec.sites.keys() != written.sites.keys():
        yield f"{len(spec.sites)} of {len(written.sites)} sites were chosen"
    if old.min_sites != new.min_sites:
        yield f"participation.min_sites is {new.min_sites} instead of {old.min_sites}"
    if left_out := sorted({*old.require} - {*new.require}):
        yield f"{', '.join(left_out)} {'is' if len(left_out) == 1 else 'are'} not required, though the pipeline says so"


def _ordered(names: Iterable[str]) -> list[str]:
    """Sort stages so that each comes after those whose artifacts it needs or uses."""
    makers = {artifact: name for name in names for artifact in STAGES[name].makes}
    graph = {name: {makers[a] for a in (*STAGES[name].needs, *STAGES[name].uses) if a in makers} for name in names}
    return list(TopologicalSorter(graph).static_order())


def _stage_refusals(spec: PipelineSpec, source: Source) -> Iterable[str]:
    names = spec.stages.present()
    made = {artifact for name in names for artifact in STAGES[name].makes}
    makers = {artifact: stage.name for stage in STAGES.values() for artifact in stage.makes}
    for name in names:
        for artifact in STAGES[name].needs:
            if artifact not in made:
                problem = (
                    f"stage needs '{artifact}', which `{makers[artifact]}` makes: add `{makers[artifact]}:` to stages"
                )
                yield str(source.error(("stages", name), problem))
    if "train" not in names:
        yield str(source.error(("stages",), "there is nothing to do without a `train:` stage"))
    try:
        _ordered(names)
    except CycleError as error:  # cannot happen with our own stages; a third party's may be circular
        yield str(source.error(("stages",), f"stages need each other in a circle: {error.args[1]}"))


def _learner_refusals(
    spec: PipelineSpec, contract: Contract, learner: GuardedLearner, strategy: MergeStrategy, source: Source
) -> Iterable[str]:
    label, classes = contract.label, len(contract.label.codes)
    fits = {"binary": classes == 2, "multiclass": classes > 2, "regression": classes == 0}
    if not fits[learner.task]:
        held = f"has {classes} classes" if classes else "is a number"
        problem = f"'{spec.learner.use}' does {learner.task} here, and label '{label.name}' of the contract {held}"
        yield str(source.error(("learner",), problem))
    if strategy.proximal_mu > 0 and not learner.supports_proximal:
        problem = f"'{spec.strategy.use}' needs a proximal term, which learner '{spec.learner.use}' cannot train with"
        yield str(source.error(("strategy",), problem))


def _site_refusals(spec: PipelineSpec, strategy: MergeStrategy, source: Source) -> Iterable[str]:
    policy, place = spec.participation, "participation"
    for name in policy.require:
        if name not in spec.sites:
            yield str(source.error((place, "require"), f"no site '{name}' among {', '.join(sorted(spec.sites))}"))
    if policy.min_sites is not None and policy.min_sites > len(spec.sites):
        problem = f"{policy.min_sites} sites are demanded and only {len(spec.sites)} are listed"
        yield str(source.error((place, "min_sites"), problem))
    least = policy.min_sites or (1 if policy.partial_allowed else len(spec.sites))
    if least < strategy.minimum:
        problem = (
            f"'{spec.strategy.use}' needs {strategy.minimum} contributions, and a round may have {least}: "
            f"set participation.min_sites to {strategy.minimum} or more"
        )
        yield str(source.error(("strategy",), problem))


def _split_refusals(spec: PipelineSpec, contract: Contract, source: Source) -> Iterable[str]:
    if spec.split.column is None:
        return
    column = contract.column(spec.split.column)
    if column is None or column.role != "split":
        problem = f"'{spec.split.column}' is no column with role split in {spec.contract}"
        yield str(source.error(("split", "column"), problem))


def _fit_refusals(spec: PipelineSpec, source: Source) -> Iterable[str]:
    fit = spec.stages.fit
    if fit is not None and (fit.standardize, fit.missing) == ("none", "mean"):
        problem = "no mean is fitted with `standardize: none`: write `global` or `site`, or `missing: drop`"
        yield str(source.error(("stages", "fit", "missing"), problem))


def _gate_refusals(spec: PipelineSpec, learner: GuardedLearner, source: Source) -> Iterable[str]:
    if spec.stages.gate is None:
        return
    known = _REGRESSION if learner.task == "regression" else _CLASSIFICATION
    local = spec.stages.evaluate is not None and "local" in spec.stages.evaluate.baselines
    for index, text in enumerate(spec.stages.gate.require):
        place = ("stages", "gate", "require", index)
        figure = Rule.parse(text).figure
        if figure == "worse_off" and not local:
            yield str(source.error(place, "`worse_off` needs `baselines: [local]` in the evaluate stage"))
        elif figure.rsplit(".", 1)[-1] not in known | {"worse_off", "participation"}:
            yield str(source.error(place, f"there is no {figure} for {learner.task}; use {', '.join(sorted(known))}"))


def _baseline_refusals(spec: PipelineSpec, source: Source, *, pools_rows: bool) -> Iterable[str]:
    names = spec.stages.evaluate.baselines if spec.stages.evaluate else ()
    if "pooled" in names and not pools_rows:
        problem = "the pooled baseline needs all rows in one place, which only a simulation has: take it out"
        yield str(source.error(("stages", "evaluate", "baselines"), problem))
