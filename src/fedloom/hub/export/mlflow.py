"""A commit as a model version in MLflow, and the way back: the version is tagged with the commit, the commit attested.

Rules: registering a commit twice under one name gives the version that is there. What goes to MLflow is what a bundle
holds, and the metrics of the run; no credentials of the tracking URI are kept. `mlflow` is imported here only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from fedloom.errors import EngineError, SpecError
from fedloom.hub.export.bundle import export_bundle
from fedloom.hub.export.model_file import COMMIT, told
from fedloom.telemetry.metrics import Metrics
from fedloom.values import Digest, sha256
from fedloom.versions.repository import Repository

_FOLDER = "model"
_PATIENCE = 5.0  # seconds to hear anything at all; MLflow's own client tries for minutes


@dataclass(frozen=True, slots=True)
class Version:
    """A model version in MLflow; `new` when this call made it."""

    name: str
    version: str
    run: str
    new: bool


def register_version(repository: Repository, commit: Digest, uri: str, name: str | None = None) -> Version:
    """Register a commit as a version of an MLflow model (the pipeline's name when None), and attest that it is one.

    Raises SpecError without the package or the URI, EngineError when the server does not take it.
    """
    _require_mlflow()
    _require_server(uri)
    from mlflow.exceptions import MlflowException

    facts = told(repository, commit)
    label = name or facts.get("pipeline", "fedloom")
    try:
        with redirect_stdout(StringIO()):  # MLflow's client prints the address, with the password in it
            version = _register(_client(uri), repository, commit, label, facts)
    except (MlflowException, OSError) as error:
        why = re.sub(r"//[^/@\s]*@", "//", str(error).partition("\n")[0])[:300]
        raise EngineError(f"MLflow at {_public(uri)} did not take the model: {why}") from None
    body = {"uri": _public(uri), "model": version.name, "version": version.version, "run": version.run}
    repository.attest(commit, attestation_type(label), body)
    return version


def attestation_type(name: str) -> str:
    """Name the statement that a commit is a version of an MLflow model: `mlflow/<name>`, made fit for a ref.

    A name that had to be changed for that gets digits of its own, so that two names never share a statement.
    """
    fit = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("._-") or "model"
    fit = fit.removesuffix(".ref")
    return f"mlflow/{fit}" if fit == name else f"mlflow/{fit}-{sha256(name.encode())[:8]}"


def _require_mlflow() -> None:
    try:
        import mlflow  # noqa: F401  only whether it is there
    except ImportError:
        raise SpecError("this needs the package mlflow-skinny: pip install 'fedloom[mlflow]'") from None


def _require_server(uri: str) -> None:
    """Hear from the server once, so that a wrong address is told at once."""
    if not uri:
        raise SpecError("say where MLflow is: --tracking-uri http://HOST:PORT")
    if not uri.startswith(("http://", "https://")):
        return  # a database or a registered scheme: MLflow's own client tells what is wrong with it
    try:
        httpx.get(uri, timeout=_PATIENCE, follow_redirects=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise EngineError(
            f"MLflow at {_public(uri)} does not answer ({type(error).__name__}): is it running?"
        ) from None


def _client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _register(client: Any, repository: Repository, commit: Digest, name: str, facts: Mapping[str, Any]) -> Version:
    """Find the commit's version, or make a run with everything MLflow shows and register it."""
    _registered_model(client, name)
    quoted = name.replace("'", "\\'")
    for found in client.search_model_versions(f"name='{quoted}'"):
        if found.tags.get(COMMIT) == commit:
            return Version(name, str(found.version), str(found.run_id), new=False)
    tags = {COMMIT: commit, "fedloom.ref": ", ".join(_refs(repository, commit))}
    run = client.create_run(_experiment(client, name), run_name=commit[:12], tags=tags).info.run_id
    status = "FAILED"
    try:
        client.log_batch(run, metrics=_metrics(repository, commit), params=_params(facts))
        with TemporaryDirectory() as scratch:
            export_bundle(repository, commit, Path(scratch) / _FOLDER)
            client.log_artifacts(run, str(Path(scratch) / _FOLDER), _FOLDER)
        source = f"runs:/{run}/{_FOLDER}"
        made = client.create_model_version(name, source, run, {COMMIT: commit}, await_creation_for=None)
        status = "FINISHED"
    finally:
        client.set_terminated(run, status)
    return Version(name, str(made.version), run, new=True)


def _registered_model(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _experiment(client: Any, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found else client.create_experiment(name))


def _params(facts: Mapping[str, Any]) -> list[Any]:
    """Give the settings of the run by name, such as `learner.use`."""
    from mlflow.entities import Param

    flat: dict[str, Any] = {name: facts[name] for name in ("pipeline", "seed", "codec") if name in facts}
    for part in ("learner", "strategy", "privacy"):
        flat |= {f"{part}.{name}": value for name, value in facts.get(part, {}).items()}
    return [Param(_key(name), str(value)[:500]) for name, value in flat.items()]


def _metrics(repository: Repository, commit: Digest) -> list[Any]:
    """Give the figures of every round by its number, and the last one's at every site as `site/NAME/figure`."""
    from mlflow.entities import Metric

    rounds = list(takewhile(lambda step: step[1].kind == "round", repository.log(commit)))
    found: list[Any] = []
    for _, one in reversed(rounds):
        pooled = one.facts.get("metrics", {}).get("pooled", {})
        found += [Metric(_key(name), value, 0, int(one.facts["round"])) for name, value in _numbers(pooled)]
    at_sites = repository.commit(commit).facts.get("metrics", {}).get("sites", {})
    step = int(repository.commit(commit).facts.get("round", 0))
    for site, figures in at_sites.items():
        found += [Metric(_key(f"site/{site}/{name}"), value, 0, step) for name, value in _numbers(figures)]
    return found


def _numbers(figures: Metrics) -> Iterator[tuple[str, float]]:
    return ((name, float(value)) for name, value in figures.items() if value is not None)


def _key(name: str) -> str:
    """Keep to the characters MLflow allows in a name."""
    return re.sub(r"[^\w./: -]", "_", name)


def _refs(repository: Repository, commit: Digest) -> list[str]:
    names = [*repository.refs.names("heads/"), *repository.refs.names("tags/")]
    return [name for name in names if repository.refs.get(name) == commit]


def _public(uri: str) -> str:
    """Leave user, password and options out of an address."""
    scheme, mark, rest = uri.partition("?")[0].partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}"
