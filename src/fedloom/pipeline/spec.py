"""pipeline.yaml: what a person writes to describe a federation, and its JSON Schema for editors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import rfc8785
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, field_validator, model_validator

from fedloom.engine.scenario import Faults, Scenario
from fedloom.errors import SpecError
from fedloom.pipeline.rules import Rule
from fedloom.pipeline.source import Source, read_yaml, validate
from fedloom.versions.merging.rules import parse_rules
from fedloom.versions.refs import is_ref_name

FILE = "pipeline.yaml"
SITE_NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
GREATEST = 2**53 - 1
"""Largest whole number that canonical JSON holds exactly (RFC 8785, section 3.2.2.3)."""

SiteName = Annotated[str, Field(pattern=SITE_NAME)]
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def _seconds(value: Any) -> Any:
    """Read `90`, `90s`, `5m` or `1h` as seconds."""
    if isinstance(value, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|m|h)\s*", value)
        if not found:
            raise ValueError(f"'{value}' is no duration; write for example 30s, 5m or 1h")
        return float(found.group(1)) * _UNITS[found.group(2)]
    return value


_DURATION: dict[str, Any] = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(ms|s|min|m|h)\s*$"},
    ]
}
Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0), WithJsonSchema(_DURATION)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False, allow_inf_nan=False)


class Use(BaseModel):
    """A part chosen by name, with its options beside it; `fedavg` alone is short for `{use: fedavg}`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    use: str = Field(description="name of the part; its options stand beside it")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"use": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _can_be_kept(self) -> Use:
        # Options are facts of every commit, so they must have one canonical form.
        for name, value in self.options.items():
            try:
                rfc8785.dumps(value)
            except rfc8785.CanonicalizationError as error:
                raise ValueError(f"option '{name}' cannot be kept in a commit: {error}") from None
        return self

    @property
    def options(self) -> dict[str, Any]:
        """What stands beside `use`."""
        return dict(self.model_extra or {})


class Split(_Model):
    """Which of a site's rows are held out: a random share, or what a column of the contract says."""

    test: float | None = Field(default=None, gt=0, lt=1, description="share of each site's rows held out for testing")
    column: str | None = Field(default=None, description="contract column that says 'test' for held-out rows")

    @model_validator(mode="after")
    def _one_way(self) -> Split:
        if (self.test is None) == (self.column is None):
            raise ValueError("give either `test: 0.3` (a share) or `column: NAME` (a contract column)")
        return self


class Participation(_Model):
    """What a round needs to count. Without any field, every invited site must answer."""

    min_sites: int | None = Field(default=None, ge=1, description="fewest sites that must answer")
    require: tuple[SiteName, ...] = Field(default=(), description="sites that must answer")
    min_weight: float | None = Field(default=None, gt=0, le=1, description="least share of all rows that must answer")
    deadline: Seconds | None = Field(default=None, description="how long a round waits for a site: 30s, 5m, 1h")

    @property
    def partial_allowed(self) -> bool:
        """Whether a round may go on without somebody."""
        return self.min_sites is not None or self.min_weight is not None or bool(self.require)


class ContractStage(_Model):
    """Check every site's data against the data contract, at the site."""

    min_rows: int = Field(default=10, ge=1, description="fewest rows a site must hold")
    single_class: Literal["refuse", "allow"] = Field(default="refuse", description="a site with one class only")


class FitStage(_Model):
    """Fit the preprocessing from sums over all sites."""

    standardize: Literal["global", "site", "none"] = Field(
        default="global", description="global: one mean and sd from federated sums; site: each site its own"
    )
    missing: Literal["drop", "mean"] = Field(
        default="drop", description="drop rows with a missing value, or put the column's mean in"
    )


class TrainStage(_Model):
    """Train at the sites and merge, round by round."""

    epochs: int = Field(default=1, ge=1, description="passes over a site's rows in one round")
    batch_size: int | None = Field(default=32, ge=1, description="rows a step; null for all rows at once")
    learning_rate: float = Field(default=0.05, gt=0, description="step size of the sites' training")


class EvaluateStage(_Model):
    """Measure every round's model at every site, and the last one against baselines."""

    baselines: tuple[Literal["pooled", "local"], ...] = Field(
        default=(), description="pooled: trained on all rows (simulation only); local: each site alone"
    )


class GateStage(_Model):
    """Refuse to register a model that is not good enough."""

    require: tuple[str, ...] = Field(min_length=1, description="rules such as `auc >= 0.8`")

    @field_validator("require")
    @classmethod
    def _parses(cls, rules: tuple[str, ...]) -> tuple[str, ...]:
        for rule in rules:
            Rule.parse(rule)
        return rules


class RegisterStage(_Model):
    """Point a branch to the model that passed, and write it as a file."""

    ref: str | None = Field(default=None, description="branch that points to the model; the current one when absent")

    @field_validator("ref")
    @classmethod
    def _is_name(cls, ref: str | None) -> str | None:
        if ref is not None and not is_ref_name(f"heads/{ref}"):
            raise ValueError(f"'{ref}' is no branch name: use lower-case letters, digits, '.', '_', '-' and '/'")
        return ref


class Stages(_Model):
    """The stages that run, each with its settings; a stage that is not named does not run."""

    contract: ContractStage | None = Field(default=None, description="each site checks its own table")
    fit: FitStage | None = Field(default=None, description="preprocessing, fitted from sums over all sites")
    train: TrainStage | None = Field(default=None, description="sites train, the hub merges, round by round")
    evaluate: EvaluateStage | None = Field(default=None, description="measure every round, and compare with baselines")
    gate: GateStage | None = Field(default=None, description="rules the model must keep to be registered")
    register_: RegisterStage | None = Field(default=None, alias="register", description="name the model and write it")

    @model_validator(mode="before")
    @classmethod
    def _bare_names(cls, value: Any) -> Any:
        # `fit:` with nothing behind it means "with its defaults".
        return {k: {} if v is None else v for k, v in value.items()} if isinstance(value, dict) else value

    def present(self) -> tuple[str, ...]:
        """Name the stages that run, in the order of the file format."""
        settings = {field.alias or name: getattr(self, name) for name, field in type(self).model_fields.items()}
        return tuple(name for name, setting in settings.items() if setting is not None)


class Merge(_Model):
    """What a merge of branches must keep before it moves a protected branch, and how it decides."""

    metric: str | None = Field(default=None, description="figure to compare by; accuracy or rmse when absent")
    epsilon: float = Field(default=0.01, ge=0, description="how much worse than the best parent it may be")
    floor: float | None = Field(default=None, description="worst value of the figure that any site may have")
    rules: tuple[str, ...] = Field(default=(), description="how contested entries are merged, such as `head.*=ours`")

    @field_validator("rules")
    @classmethod
    def _parse(cls, rules: tuple[str, ...]) -> tuple[str, ...]:
        try:
            parse_rules(rules)
        except SpecError as error:
            raise ValueError(str(error)) from None
        return rules


class PipelineSpec(_Model):
    """A federated pipeline."""

    name: str = Field(pattern=SITE_NAME, description="short name; commits and files carry it")
    purpose: str = Field(min_length=1, description="what the model is for; data stewards decide by it")
    contract: str = Field(description="data contract file, relative to this one")
    sites: dict[SiteName, str] = Field(min_length=1, description="site name → adapter file, relative to this one")
    learner: Use = Field(description="linear, mlp, sklearn, torch, or your own as file.py:Class")
    strategy: Use = Field(default=Use(use="fedavg"), description="how contributions are merged")
    split: Split = Field(default=Split(test=0.3), description="which rows of a site are only measured with")
    participation: Participation = Field(default=Participation(), description="what a round needs to count")
    keep_updates: Literal["none", "sites", "hub"] = Field(
        default="none",
        description="who keeps each site's updates, for reverting a site later; hub: it could attack their privacy",
    )
    merge: Merge = Field(default=Merge(), description="how branches are merged and what the result must keep")
    rounds: int = Field(default=10, ge=1, le=GREATEST, description="how often the sites train and the hub merges")
    seed: int = Field(default=0, ge=0, le=GREATEST, description="same seed, same files: same commit ids")
    stages: Stages = Field(description="what runs, and how")


class _FaultsModel(_Model):
    drop: frozenset[str] = frozenset()
    delay: dict[str, Seconds] = Field(default_factory=dict)
    corrupt: frozenset[str] = frozenset()
    duplicate: frozenset[str] = frozenset()


class _ScenarioModel(_Model):
    rounds: dict[int, _FaultsModel]
    verbs: frozenset[Literal["contract", "fit", "train", "evaluate", "local"]] = frozenset({"train"})


def read_spec(path: Path) -> tuple[PipelineSpec, Source]:
    """Read a pipeline file; raises SpecError with every complaint at once."""
    source = read_yaml(path)
    return validate(PipelineSpec, source), source


def read_scenario(path: Path, sites: frozenset[str]) -> Scenario:
    """Read a scenario file: faults to inject, by round; raises SpecError for a site that is not in the pipeline."""
    source = read_yaml(path)
    model = validate(_ScenarioModel, source)
    rounds = {number: Faults(**dict(faults)) for number, faults in model.rounds.items()}
    for number, faults in rounds.items():
        for site in sorted(faults.sites() - sites):
            raise source.error(("rounds", number), f"no site '{site}' in the pipeline: {', '.join(sorted(sites))}")
    return Scenario(rounds, frozenset(model.verbs))


def json_schema() -> dict[str, Any]:
    """Make the JSON Schema of pipeline.yaml, for editors."""
    schema = PipelineSpec.model_json_schema()
    # The short form `strategy: fedavg` is allowed too.
    schema["$defs"]["Use"] = {"anyOf": [{"type": "string"}, schema["$defs"]["Use"]]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
