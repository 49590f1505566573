"""export and import on the command line: files for others, and models from elsewhere."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from fedloom.hub.formats import safetensors
from fedloom.versions.keys import create_key
from fedloom.versions.repository import Repository
from tests.projects import history, made_project, run

TORCH = Path(__file__).parent.parent / "hub" / "formats" / "files"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A logistic regression of two rounds, registered as main."""
    folder = made_project(tmp_path_factory.mktemp("interop"), "binary", pipeline={"rounds": 2})
    run(folder)
    return folder


def test_a_model_is_exported_where_nobody_says_otherwise(cli, home):
    """Under models/, by the pipeline's name."""
    said = cli("export", "safetensors", "-C", home)
    tip = history(home)[-1]
    assert (said.code, said.out) == (0, f"{tip[:12]} is written to {home}/models/made.safetensors\n")
    assert "model.weights" in load_file(home / "models" / "made.safetensors")
    older = cli("export", "safetensors", "HEAD~1", "-C", home, "--to", home / "old.safetensors", "--json")
    assert json.loads(older.out)["commit"] == history(home)[-2]


def test_a_model_is_exported_as_onnx(cli, home, tmp_path):
    """The file is an ONNX graph of this commit."""
    onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
    assert cli("export", "onnx", "-C", home, "--to", tmp_path / "m.onnx").code == 0
    made = onnx.load(tmp_path / "m.onnx")
    assert {prop.key: prop.value for prop in made.metadata_props}["fedloom.commit"] == history(home)[-1]


def test_a_bundle_is_exported_and_signed(cli, home, tmp_path):
    """Both keys are read before anything is written."""
    create_key(tmp_path / "ed.pem")
    create_key(tmp_path / "ec.pem", "p256")
    keys = ("--key", tmp_path / "ed.pem", "--model-signing", tmp_path / "ec.pem")
    said = cli("export", "bundle", "-C", home, "--to", tmp_path / "out", *keys)
    assert said.code == 0
    assert "(contract.yaml, model-card.md, model.safetensors, model.sig, provenance.intoto.jsonl)" in said.out
    assert "payloadType" in (tmp_path / "out" / "provenance.intoto.jsonl").read_text()
    wrong = cli("export", "bundle", "-C", home, "--to", tmp_path / "no", "--model-signing", tmp_path / "ed.pem")
    wrong.refused(2, "--kind p256")
    assert not (tmp_path / "no").exists()


def test_mlflow_needs_its_package_or_an_address(cli, home):
    """One sentence, whichever is missing."""
    cli("export", "mlflow", "-C", home).refused(2, "error: ")


def test_models_come_in_from_elsewhere(cli, tmp_path):
    """An import makes a repository where there is none, starts a branch, and its commit verifies and goes out again."""
    np.savez(tmp_path / "w.npz", w=np.arange(3.0))
    said = cli("import", "npz", tmp_path / "w.npz", "-C", tmp_path / "new", "--name", "outside", "-m", "from afar")
    assert said.code == 0
    assert said.out.startswith("heads/main is now ")
    assert said.out.endswith(": 1 tensors of w.npz\n")
    repository = Repository.at(tmp_path / "new")
    commit = repository.commit(repository.resolve("main"))
    assert (commit.message, commit.facts["pipeline"]) == ("from afar", "outside")
    assert cli("verify", "-C", tmp_path / "new").code == 0
    assert cli("export", "safetensors", "-C", tmp_path / "new").code == 0
    assert list(load_file(tmp_path / "new" / "models" / "outside.safetensors")) == ["model.w"]
    said = cli("import", "torch", TORCH / "plain.pt", "-C", tmp_path / "new", "--branch", "two", "--json")
    assert json.loads(said.out)["ref"] == "heads/two"
    cli("export", "onnx", "two", "-C", tmp_path / "new").refused(3, "names no learner")


def test_an_imported_model_is_trained_on(cli, home, tmp_path):
    """What was exported, imported elsewhere, starts a run there."""
    cli("export", "safetensors", "-C", home, "--to", tmp_path / "m.safetensors")
    other = made_project(tmp_path / "other", "binary", pipeline={"rounds": 1})
    said = cli("import", "safetensors", tmp_path / "m.safetensors", "-C", other, "--branch", "start", "--json")
    assert cli("run", "--from", "start", "-C", other).code == 0
    assert json.loads(said.out)["commit"] in history(other)
    assert cli("verify", "-C", other).code == 0


def test_hostile_files_are_refused_in_a_sentence(cli, tmp_path):
    """Code, bombs, cut files, unknown formats and taken branches; nothing is committed."""
    where = ("-C", tmp_path / "p")
    cli("import", "torch", TORCH / "module.pt", *where).refused(2, "holds more than tensors")
    (tmp_path / "cut.safetensors").write_bytes(b"".join(safetensors.encode({"w": np.zeros(4)}, {}))[:-1])
    cli("import", "safetensors", tmp_path / "cut.safetensors", *where).refused(2, "cut off")
    np.savez(tmp_path / "o.npz", w=np.array([None], dtype=object))
    cli("import", "npz", tmp_path / "o.npz", *where).refused(2, "never unpickled")
    cli("import", "keras", tmp_path / "o.npz", *where).refused(2, "no format 'keras'", "npz, safetensors, torch")
    cli("import", "npz", tmp_path / "absent.npz", *where).refused(2, "cannot read")
    assert Repository.at(tmp_path / "p").refs.names() == []
    np.savez(tmp_path / "w.npz", w=np.zeros(1))
    assert cli("import", "npz", tmp_path / "w.npz", *where).code == 0
    cli("import", "npz", tmp_path / "w.npz", *where).refused(5, "branch 'main' is there already")
