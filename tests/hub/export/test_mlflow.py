"""MLflow: a commit becomes a model version with its papers and figures, once, and says so beside itself.

Runs against a real MLflow: its database on disk with mlflow-skinny, and a server over HTTP where the whole package is.
"""

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from unittest.mock import patch

import httpx
import pytest

from fedloom.errors import EngineError, SpecError
from fedloom.hub.export import mlflow as module
from fedloom.hub.export.mlflow import attestation_type, register_version
from fedloom.values import sha256
from fedloom.versions.refs import is_ref_name

needs_mlflow = pytest.mark.skipif(find_spec("mlflow") is None, reason="the extra `mlflow` is not installed")
needs_server = pytest.mark.skipif(
    find_spec("mlflow") is None or find_spec("flask") is None or find_spec("huey") is None,
    reason="needs the whole package mlflow, with its server",
)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/m.db"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A real MLflow server on loopback, which keeps the artifacts itself."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path_factory.mktemp("server")
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    places = ["--backend-store-uri", f"sqlite:///{home}/m.db", "--artifacts-destination", str(home / "artifacts")]
    how = {"start_new_session": True, "stderr": subprocess.STDOUT}
    with (home / "log").open("wb") as log, subprocess.Popen([*command, *places], stdout=log, **how) as running:
        address = f"http://127.0.0.1:{port}"
        try:
            _wait_for(address, running)
            yield address
        finally:
            os.killpg(running.pid, signal.SIGKILL)  # it has workers of its own, which take half a minute to leave


def _wait_for(address, running):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and running.poll() is None:
        try:
            httpx.get(f"{address}/health", timeout=1)
        except httpx.HTTPError:
            time.sleep(0.5)
        else:
            return
    pytest.fail("the MLflow server did not start")


def client(uri):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def check_registered(uri, repository, commit, tmp_path):
    """Hold a version in MLflow to the commit: tags, figures by round, settings, files."""
    version = register_version(repository, commit, uri, "Risk model")
    assert (version.name, version.version, version.new) == ("Risk model", "1", True)
    found = client(uri).get_model_version("Risk model", "1")
    assert (found.tags["fedloom.commit"], found.run_id, found.status) == (commit, version.run, "READY")
    run = client(uri).get_run(version.run)
    pooled = repository.commit(commit).facts["metrics"]["pooled"]
    for name in ("auc", "loss", "accuracy"):
        assert run.data.metrics[name] == pooled[name]
    rounds = client(uri).get_metric_history(version.run, "loss")
    losses = [one.facts["metrics"]["pooled"]["loss"] for _, one in repository.log(commit) if one.kind == "round"]
    assert [(point.step, point.value) for point in rounds] == list(enumerate(reversed(losses), start=1))
    assert run.data.metrics["site/site1/rows"] == repository.commit(commit).facts["metrics"]["sites"]["site1"]["rows"]
    assert run.data.params["learner.use"] == "linear"
    assert (run.info.status, run.data.tags["fedloom.ref"]) == ("FINISHED", "heads/main")
    got = client(uri).download_artifacts(version.run, "model/model.safetensors", str(tmp_path))
    fresh = module.export_bundle(repository, commit, tmp_path / "fresh")
    assert {item.path for item in client(uri).list_artifacts(version.run, "model")} == {f"model/{n}" for n in fresh}
    with open(got, "rb") as file:  # noqa: PTH123  MLflow gives text
        assert file.read() == (tmp_path / "fresh" / "model.safetensors").read_bytes()
    back = repository.attestation(commit, attestation_type("Risk model"))
    assert back.body == {"uri": uri, "model": "Risk model", "version": "1", "run": version.run}


@needs_mlflow
@pytest.mark.filterwarnings("default")
def test_a_commit_is_registered_once(database, runs, tmp_path, capfd):
    """A second time gives the version that is there; another commit is the next version; nothing is printed."""
    repository, commit = runs("logistic")
    check_registered(database, repository, commit, tmp_path)
    assert capfd.readouterr().out == ""
    again = register_version(repository, commit, database, "Risk model")
    assert (again.version, again.new) == ("1", False)
    parent = repository.commit(commit).parents[0]
    assert register_version(repository, parent, database, "Risk model").version == "2"
    assert register_version(repository, commit, database).name == "made"


@needs_server
@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_commit_is_registered_at_a_server(server, runs, tmp_path, capfd):
    """Over HTTP the same holds; user and password of the address are kept out of the repository and off the screen."""
    repository, commit = runs("logistic")
    check_registered(server, repository, commit, tmp_path)
    secret = server.replace("//", "//somebody:s3cret@")
    assert not register_version(repository, commit, secret, "Risk model").new
    parent = repository.commit(commit).parents[0]
    register_version(repository, parent, secret, "Risk model")
    assert repository.attestation(parent, attestation_type("Risk model")).body["uri"] == server
    said = capfd.readouterr()
    assert "s3cret" not in said.out + said.err


@needs_mlflow
@pytest.mark.filterwarnings("default")
def test_a_failure_leaves_a_failed_run_and_no_version(database, runs):
    """Where the files cannot be stored, the run says failed, no version appears, and one sentence tells why."""
    repository, commit = runs("softmax")
    with (
        patch("mlflow.MlflowClient.log_artifacts", side_effect=OSError("no space at http://me:secret@host/x")),
        pytest.raises(EngineError, match=r"did not take the model: no space at http://host/x$"),
    ):
        register_version(repository, commit, database, "Failing")
    experiment = client(database).get_experiment_by_name("Failing")
    assert [run.info.status for run in client(database).search_runs([experiment.experiment_id])] == ["FAILED"]
    assert client(database).search_model_versions("name='Failing'") == []
    assert repository.attestation(commit, attestation_type("Failing")) is None


@needs_mlflow
def test_a_wrong_address_is_told_at_once(runs):
    """Nobody listens, no address at all: a sentence within seconds."""
    began = time.monotonic()
    with pytest.raises(EngineError, match=r"MLflow at http://127.0.0.1:9 does not answer"):
        register_version(*runs("logistic"), "http://me:secret@127.0.0.1:9")
    with pytest.raises(SpecError, match="--tracking-uri"):
        register_version(*runs("logistic"), "")
    assert time.monotonic() - began < 10


def test_without_the_package_one_is_told_what_to_install(runs, monkeypatch):
    """No traceback where the extra is missing."""
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(SpecError, match=r"pip install 'fedloom\[mlflow\]'"):
        register_version(*runs("logistic"), "http://localhost:5000")


@pytest.mark.parametrize("name", ["heart", "Heart risk", "Ä", "a/b", ".", "x.ref", "Heart Risk"])
def test_any_model_name_makes_a_statement_of_its_own(name):
    """Every name gives a ref name; names that look alike do not share one."""
    kind = attestation_type(name)
    assert is_ref_name(f"attestations/{'ab' * 32}/{kind}")
    assert (kind == f"mlflow/{name}") == (name == "heart")
    assert name == "heart" or kind.endswith(sha256(name.encode())[:8])
