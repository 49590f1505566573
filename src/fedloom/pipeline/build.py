"""Parts chosen by name in a pipeline file (`use: fedadam`, with options beside it) become objects."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from fedloom.errors import FedloomError, SpecError, nearest
from fedloom.learners.catalog import imported_digest, load_class, source_digest, source_file
from fedloom.learners.guard import GuardedLearner
from fedloom.pipeline.source import Source
from fedloom.pipeline.spec import PipelineSpec, Use
from fedloom.versions.merging.catalog import STRATEGIES
from fedloom.versions.merging.strategy import MergeStrategy

_IMPORTED = ("module", "hook")
"""Learner options that name more code by import path."""


def build_strategy(spec: PipelineSpec, source: Source) -> MergeStrategy:
    """Make the merge strategy; raises SpecError for an unknown name or option."""
    if spec.strategy.use not in STRATEGIES:
        problem = f"no strategy '{spec.strategy.use}'; {nearest(spec.strategy.use, STRATEGIES)}"
        raise source.error(("strategy",), problem)
    strategy: MergeStrategy = _make(STRATEGIES[spec.strategy.use], spec.strategy, source, "strategy")
    return strategy


def build_learner(spec: PipelineSpec, source: Source, folder: Path) -> GuardedLearner:
    """Make the learner, under guard; raises LearnerError when it cannot be loaded, SpecError for a wrong option."""
    cls = load_class(spec.learner.use, folder)
    return GuardedLearner(spec.learner.use, _make(cls, spec.learner, source, "learner"))


def code_digests(spec: PipelineSpec, folder: Path) -> Mapping[str, str]:
    """Name the code a run depends on beside fedloom itself."""
    imported = {name: str(spec.learner.options[name]) for name in _IMPORTED if spec.learner.options.get(name)}
    return {
        "learner": source_digest(spec.learner.use, folder),
        **{name: imported_digest(path) for name, path in imported.items()},
    }


def code_sources(spec: PipelineSpec, folder: Path) -> Mapping[str, bytes]:
    """Give the files a run's code consists of that no package holds: what a replay elsewhere needs."""
    found = source_file(spec.learner.use, folder)
    return dict([found] if found else [])


def _make(cls: Callable[..., Any], use: Use, source: Source, field: str) -> Any:
    if not dataclasses.is_dataclass(cls):
        return _call(cls, use, source, field)
    allowed = [item.name for item in dataclasses.fields(cls) if item.init]
    for name in use.options:
        if name not in allowed:
            known = nearest(name, allowed) if allowed else "it has no options"
            raise source.error((field, name), f"'{use.use}' has no option '{name}'; {known}")
    try:
        return TypeAdapter(cls).validate_python(use.options)
    except PydanticUserError:  # a field of a type pydantic does not know
        return _call(cls, use, source, field)
    except FedloomError:
        raise
    except ValidationError as error:
        complaints = [
            str(source.error((field, *item["loc"]), item["msg"].removeprefix("Value error, ")))
            for item in error.errors()
        ]
        raise SpecError("\n".join(complaints)) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001  a constructor can raise anything
        raise _unmade(use, source, field, error) from None


def _unmade(use: Use, source: Source, field: str, error: BaseException) -> SpecError:
    return source.error((field,), f"'{use.use}' cannot be made with these options: {type(error).__name__}: {error}")


def _call(cls: Callable[..., Any], use: Use, source: Source, field: str) -> Any:
    try:
        return cls(**use.options)
    except FedloomError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001  a constructor can raise anything
        raise _unmade(use, source, field, error) from None
